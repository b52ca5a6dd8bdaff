"""Whatever breaks in the library, its agent and its caller see the same of each other as without it.

Each trouble makes one thing that the library leans on raise, or hang where it runs beside the agent's loop: the HTTP
exchange, the making of its client, recovery and the keeper's other chores. The clock, the redaction hook, the encoder,
the observer, the making of a client, the sender's `start` and `submit`, and the spool's open, write and rename run
inline, on the agent's loop, by design: whatever holds one of them holds the agent, with or without a guard. A hang of
those cannot be kept from the agent, and none is pretended here; they are only made to raise.
Nothing is swallowed without a count: each trouble names the counts it must leave.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import logging
import os
import shutil
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect as sync_connect
from websockets.sync.server import serve as sync_serve

from bluejay_ws import Bluejay, current_recorder, record, record_tool
from bluejay_ws.client import Seam
from bluejay_ws.delivery.sender import Sender
from bluejay_ws.delivery.spool import Spool
from bluejay_ws.testing.platform import FakePlatform, Hang
from tests.delivery.kit import states
from tests.servers import behaviours
from tests.servers.behaviours import BEHAVIOURS, Notes
from tests.wire.hostile import trap

with contextlib.suppress(ImportError):  # the test that needs them is skipped then
    from fastapi import FastAPI, WebSocket

    from tests.servers.asgi_server import uvicorn_server

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from websockets.sync.server import ServerConnection as SyncServerConnection

    from bluejay_ws.call import Call
    from bluejay_ws.delivery.store import Report, Store

SOME = (
    "echo without compression",
    "handler raises",
    "handler closes with its own code",
    "caller drops while the handler waits",
)


def broken(*_: object, **__: object) -> NoReturn:
    """Raise what nobody expects."""
    raise RuntimeError("quotes the caller")


class Broken:
    """Raise from whatever is asked of it, by name; `broken` is None, for the file of a call."""

    broken = None

    def __getattr__(self, name: str) -> Any:
        return broken


# -- what a handler records --------------------------------------------------------------------------------------------


@record_tool
def looked_up(value: object) -> object:
    """Look something up."""
    return value


def use_every_verb(value: Any) -> None:
    """Record in every way there is."""
    recorder = current_recorder()
    looked_up(value)
    recorder.add_tool_call("freeze", parameters={"value": value}, output=value)
    recorder.add_tool_call(value, parameters=value, description=value, start_offset_ms=value)
    recorder.add_event("title", metadata={"value": value})
    recorder.add_event(value, description=value, tags=value, metadata=value, end_offset_ms=value)
    recorder.agent_said("Hello")
    recorder.user_said(value)
    recorder.add_utterance(value, value, start_offset_ms=value)
    with recorder.tool_call("freeze", {"value": value}) as call:
        call.output = value
    with recorder.event("hold", metadata={"value": value}), recorder.utterance("agent") as said:
        said.text = value
    recorder.add_tags("vip", value)
    recorder.add_metadata(value=value)
    recorder.add_trace_id(value)
    recorder.add_alias(value)
    recorder.bind(value)
    recorder.offset_ms()


def busy(handler: Callable[..., Any], value: object = "frozen") -> Callable[..., Any]:
    """Return a handler that records much before it does its work."""

    @functools.wraps(handler)
    async def wrapper(websocket: Any) -> Any:
        use_every_verb(value)
        return await handler(websocket)

    return wrapper


# -- what can go wrong -------------------------------------------------------------------------------------------------


@dataclass
class Bench:
    """What a trouble can use: a platform, a directory, and an event that whatever hangs waits for."""

    platform: FakePlatform
    directory: Path
    released: threading.Event = field(default_factory=threading.Event)

    def hang(self, *_: object, **__: object) -> Any:
        """Wait until the run is over, as long as that takes."""
        assert self.released.wait(50)
        raise RuntimeError("too late")

    def client(self, **more: Any) -> Bluejay:
        """Return a client of this bench that does not wait at its end."""
        options = {"base_url": self.platform.url, "spool": self.directory / "spool", "flush_timeout": 0.0, **more}
        return Meddling("test-key", **options)


class Meddling(Bluejay):
    """Do something to each call before its server adapter sees it."""

    def __init__(self, key: str, *, meddle: Callable[[Call], object] = id, **options: Any) -> None:
        self._meddle = meddle
        seam = {name: options.pop(name) for name in ("clock", "sender") if name in options}
        self._seam = Seam(**seam)
        super().__init__(key, **options)

    def open_call(self, *args: Any, **kwargs: Any) -> Call | None:
        call = super().open_call(*args, **kwargs)
        if call is not None:
            self._meddle(call)
        return call


def blind(call: Call) -> None:
    """Break the observer."""
    call.observer = Broken()  # type: ignore[assignment]
    call.recorder.hear_with(Broken())


def fill_the_disk(call: Call) -> None:
    """Let every further write find no room."""
    file = call._file
    assert file is not None
    full = os.open("/dev/full", os.O_WRONLY)
    os.dup2(full, file._fd)  # type: ignore[attr-defined]
    os.close(full)


def break_the_journal(call: Call) -> None:
    """Break what a recorder writes to, which by its contract never raises."""
    call.recorder.write_to(Broken())


def break_the_file(call: Call) -> None:
    """Break the file itself, which by its contract never raises."""
    call._file = Broken()


PAUSE = 0.012


class Slow:
    """Do what another object does, a while later."""

    def __init__(self, other: object) -> None:
        self._other = other

    def __getattr__(self, name: str) -> Any:
        return slow(getattr(self._other, name))


def slow(action: Any) -> Callable[..., Any]:
    """Return a function that does the same a while later."""

    def later(*args: Any, **kwargs: Any) -> Any:
        time.sleep(PAUSE)
        return action(*args, **kwargs)

    return later


def slow_journal(call: Call) -> None:
    """Let the disk take its time for each line."""
    call.recorder.write_to(Slow(call.recorder._lines))


def slow_observer(call: Call) -> None:
    """Let the observer take its time for each frame."""
    observer: Any = Slow(call.observer)
    call.observer = observer
    call.recorder.hear_with(observer)


class SlowFiles(Spool):
    """Take a while to open a file."""

    open_call = slow(Spool.open_call)


def slow_files(bench: Bench) -> Bluejay:
    """Let the disk take its time for each new file."""
    client = bench.client()
    client.spool = SlowFiles(
        bench.directory / "spool", counters=client.counters, destination=client.settings.destination
    )
    return client


class NoFiles(Spool):
    """Fail to open anything, in a way that is not foreseen."""

    open_call = broken


class BadChores(Spool):
    """Fail at whatever the keeper does beside deliveries."""

    recover = sync = tidy = broken


class StuckRecovery(Spool):
    """Hang where the keeper looks for what dead processes left."""

    bench: Bench

    def recover(self, *, untouched: float = 0.0) -> Any:
        return self.bench.hang()


class StuckDisk(Spool):
    """Hang where the keeper brings files to the disk."""

    bench: Bench

    def sync(self, seconds: float = 0.5) -> None:
        self.bench.hang()


class StuckDirectory(Spool):
    """Hang where the keeper keeps the bounds."""

    bench: Bench

    def tidy(self) -> None:
        self.bench.hang()


class Unstarted(Sender):
    """Start nothing as long as there is trouble."""

    bench: Bench

    def start(self) -> None:
        if not self.bench.released.is_set():
            broken()
        super().start()


class Refusing(Sender):
    """Take no report, neither from a call nor out of the spool."""

    def submit(self, report: Report) -> None:
        broken()

    def _recover(self) -> None:
        """Find nothing."""


class Idle(Sender):
    """Take every report and do nothing with it."""

    def start(self) -> None:
        """Do nothing."""

    def submit(self, report: Report) -> None:
        """Do nothing."""


def no_files(bench: Bench) -> Bluejay:
    """Break the spool under a client that found it sound."""
    client = bench.client()
    client.spool = NoFiles(bench.directory / "spool", counters=client.counters, destination=client.settings.destination)
    return client


def no_directory(bench: Bench) -> Bluejay:
    """Remove the spool under a client that found it sound."""
    client = bench.client()
    shutil.rmtree(bench.directory / "spool")
    return client


def no_spool(bench: Bench) -> Bluejay:
    """Have a file stand where the spool should be."""
    (bench.directory / "spool").write_bytes(b"")
    return bench.client()


def sender_of(bench: Bench, kind: type[Sender] = Sender, keeps: type[Spool] = Spool, **more: Any) -> Any:
    """Return what makes a client's sender: of this kind, with a spool of its own kind at the usual place."""

    def make(settings: Any, spool: Store | None, counters: Any) -> Sender:
        assert spool is not None
        its_spool = keeps(Path(spool.place), counters=counters, destination=settings.destination)
        sender = kind(settings, store=its_spool, counters=counters, **more)
        vars(its_spool)["bench"] = vars(sender)["bench"] = bench
        return sender

    return make


def with_sender(kind: type[Sender] = Sender, keeps: type[Spool] = Spool) -> Callable[[Bench], Bluejay]:
    """Return what makes a client with such a sender."""
    return lambda bench: bench.client(sender=sender_of(bench, kind, keeps))


def with_http(make_client: Callable[[Bench], Callable[[], Any]]) -> Callable[[Bench], Bluejay]:
    """Return what makes a client with another way to make HTTP clients."""
    return lambda bench: bench.client(sender=sender_of(bench, make_client=make_client(bench)))


def with_calls(meddle: Callable[[Call], object]) -> Callable[[Bench], Bluejay]:
    """Return what makes a client that does something to each call."""
    return lambda bench: bench.client(meddle=meddle)


def with_options(**options: Any) -> Callable[[Bench], Bluejay]:
    """Return what makes a client with such options."""
    return lambda bench: bench.client(**options)


class Silent:
    """An HTTP client whose exchanges do what they are told to, and which cannot be interrupted."""

    def __init__(self, exchange: Callable[..., Any]) -> None:
        self.post = self.look = exchange

    def abort_if_late(self, now: float) -> None:
        """Do nothing."""

    def close(self) -> None:
        """Do nothing."""


def deaf_platform(bench: Bench) -> Bluejay:
    """Let the platform take every connection and request, and never answer."""
    bench.platform.otherwise(Hang(), reads=Hang())
    return bench.client()


class Clock:
    """Monotonic nanoseconds, except at one reading, counted from 1."""

    def __init__(self, fails_at: int) -> None:
        self.readings = 0
        self._fails_at = fails_at

    def __call__(self) -> int:
        self.readings += 1
        if self.readings == self._fails_at:
            broken()
        return time.monotonic_ns()


class Useless(Unstarted, Refusing):
    """Neither start nor take anything."""


def break_the_call(call: Call) -> None:
    """Break all that a call has."""
    blind(call)
    break_the_journal(call)


def everything(bench: Bench) -> Bluejay:
    """Break all that can be broken while there still is a call."""
    client = bench.client(meddle=break_the_call, redact=broken, sender=sender_of(bench, Useless, BadChores))
    client.spool = NoFiles(bench.directory / "spool", counters=client.counters, destination=client.settings.destination)
    return client


@dataclass(frozen=True)
class Trouble:
    """A client with something broken.

    Args:
        client: makes it.
        counted: what must have been counted, at least so often.
        sent: whether the reports arrive nevertheless.
        value: what the handler records.
    """

    client: Callable[[Bench], Bluejay]
    counted: dict[str, int]
    sent: bool = True
    value: object = "frozen"


EACH = len(SOME)
TROUBLES = {
    "nothing": Trouble(with_options(), {"delivered": EACH}),
    "a clock that raises": Trouble(with_options(clock=broken), {"internal_error.open": EACH}, sent=False),
    "a clock that tells no time": Trouble(with_options(clock=lambda: None), {"internal_error.open": EACH}, sent=False),
    "a redaction hook that raises": Trouble(with_options(redact=broken), {"redaction_failed": 20 * EACH}),
    "a redaction hook that answers nonsense": Trouble(
        with_options(redact=lambda kind, value: trap(object, ValueError)()),
        {"mapped.parameters": EACH, "mapped.output": EACH, "mapped.utterance": EACH},
    ),
    "a value that raises": Trouble(
        with_options(),
        {
            **dict.fromkeys(("mapped.name", "mapped.parameters", "mapped.output", "mapped.description"), EACH),
            **dict.fromkeys(("mapped.title", "mapped.metadata", "mapped.tags", "mapped.offset"), EACH),
            **dict.fromkeys(("mapped.utterance", "dropped.failed_alias", "dropped.no_usable_id"), EACH),
        },
        value=trap(object, ValueError)(),
    ),
    "a text that raises": Trouble(
        with_options(),
        dict.fromkeys(("mapped.parameters", "dropped.failed_alias", "dropped.no_usable_id"), EACH),
        value=trap(str, RuntimeError)("text"),
    ),
    "a file where the spool should be": Trouble(no_spool, {"spool.unusable": 1}),
    "a spool that is gone": Trouble(no_directory, {"delivered": EACH}),
    "a spool that opens nothing": Trouble(no_files, {"internal_error.spool": EACH}),
    "a disk that is full": Trouble(with_calls(fill_the_disk), {"spool.write_enospc": EACH}),
    "a journal that raises": Trouble(
        with_calls(break_the_journal), {"dropped.failed_tool_call": EACH, "dropped.failed_close": EACH}
    ),
    "a file that raises": Trouble(with_calls(break_the_file), {"internal_error.end": EACH}, sent=False),
    "a sender that does not start": Trouble(with_sender(Unstarted), {"internal_error.start": 1, "delivered": EACH}),
    "a sender that takes nothing": Trouble(with_sender(Refusing), {"internal_error.end": EACH}, sent=False),
    "an observer that raises": Trouble(
        with_calls(blind),
        {"internal_error.frame": 10, "internal_error.observer": EACH, "dropped.failed_utterance": EACH},
    ),
    "an HTTP client that cannot be made": Trouble(
        with_http(lambda bench: broken),
        {"errors.delivery.RuntimeError": 1, "transport.no_http_client_RuntimeError": 1, "waiting": EACH},
        sent=False,
    ),
    "an HTTP exchange that raises": Trouble(
        with_http(lambda bench: lambda: Silent(broken)),
        {"errors.delivery.RuntimeError": EACH, "waiting": EACH},
        sent=False,
    ),
    "chores that raise": Trouble(with_sender(keeps=BadChores), {"errors.delivery.RuntimeError": 3}),
    "everything": Trouble(
        everything,
        {
            **dict.fromkeys(("internal_error.end", "internal_error.observer", "internal_error.spool"), EACH),
            **dict.fromkeys(("dropped.failed_tool_call", "redaction_failed", "internal_error.frame"), EACH),
        },
        sent=False,
    ),
}
HANGS = {
    "a platform that never answers": Trouble(deaf_platform, {"waiting": EACH}, sent=False),
    "an HTTP client that is never made": Trouble(with_http(lambda bench: bench.hang), {"waiting": EACH}, sent=False),
    "an HTTP exchange that cannot be ended": Trouble(
        with_http(lambda bench: lambda: Silent(bench.hang)), {"waiting": EACH}, sent=False
    ),
    "a recovery that never ends": Trouble(with_sender(keeps=StuckRecovery), {"delivered": EACH}),
    "a disk that never says it has written": Trouble(with_sender(keeps=StuckDisk), {"delivered": EACH}),
    "a spool that cannot be listed": Trouble(with_sender(keeps=StuckDirectory), {"delivered": EACH}),
}


# What runs within the agent's own code cannot be ended from outside: the agent waits for it, and for no more than that.
SLOWS = {
    "a clock that is slow": Trouble(with_options(clock=slow(time.monotonic_ns)), {"delivered": EACH}),
    "a redaction hook that is slow": Trouble(
        with_options(redact=slow(lambda kind, value: value)), {"delivered": EACH, "redaction_slow": 20 * EACH}
    ),
    "a journal that is slow": Trouble(with_calls(slow_journal), {"delivered": EACH}),
    "an observer that is slow": Trouble(with_calls(slow_observer), {"delivered": EACH}),
    "a spool that is slow": Trouble(slow_files, {"delivered": EACH}),
}


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    """Give a platform and a directory; in the end let go of whatever hangs."""
    with FakePlatform() as platform:
        bench = Bench(platform, tmp_path)
        yield bench
        bench.released.set()


@pytest.fixture(autouse=True)
def _quiet_servers() -> Iterator[None]:
    """Keep the tracebacks of handlers that are meant to raise out of the output."""
    logging.getLogger("websockets.server").setLevel(logging.CRITICAL)
    yield
    logging.getLogger("websockets.server").setLevel(logging.NOTSET)


# -- the runs ----------------------------------------------------------------------------------------------------------


@functools.cache
def bare(name: str) -> Notes:
    """Return what a behaviour looks like without the decorator; INERT recorders take whatever is recorded."""
    return asyncio.run(behaviours.run(BEHAVIOURS[name], busy))


def recorded(trouble: Trouble, client: Bluejay, names: tuple[str, ...]) -> dict[str, Notes]:
    """Return what each behaviour looks like with the decorator and the trouble, one call each."""

    def wrap(handler: Callable[..., Any]) -> Callable[..., Any]:
        return record(busy(handler, trouble.value), client=client)

    async def main() -> dict[str, Notes]:
        headers = ({"X-Simulation-Result-Id": f"call{number}"} for number in range(len(names)))
        return {name: await behaviours.run(BEHAVIOURS[name], wrap, headers=next(headers)) for name in names}

    return asyncio.run(main())


def check_counts(trouble: Trouble, client: Bluejay, bench: Bench) -> None:
    """Wait for the counts of a trouble; they name all that came of it."""

    def missing() -> dict[str, int]:
        found = client.stats()
        return {name: found.get(name, 0) for name, least in trouble.counted.items() if found.get(name, 0) < least}

    until = time.monotonic() + 10
    while missing() and time.monotonic() < until:
        time.sleep(0.005)
    assert missing() == {}
    if trouble.sent:
        bench.platform.wait_for(EACH)
    else:
        assert bench.platform.accepted == []


@pytest.mark.parametrize("name", [*TROUBLES, *HANGS, *SLOWS])
def test_trouble_is_kept_from_the_agent_and_counted(name: str, bench: Bench) -> None:
    """Results, frames, close codes and exceptions are those of the bare run; what hangs still does when it is over."""
    trouble = {**TROUBLES, **HANGS, **SLOWS}[name]
    client = trouble.client(bench)
    assert recorded(trouble, client, SOME) == {behaviour: bare(behaviour) for behaviour in SOME}
    check_counts(trouble, client, bench)
    bench.released.set()
    client.close()


def test_every_behaviour_is_the_same_when_everything_is_broken(bench: Bench) -> None:
    """The whole table of behaviours, with all that can be broken at once broken."""
    client = everything(bench)
    names = tuple(BEHAVIOURS)
    assert recorded(TROUBLES["everything"], client, names) == {name: bare(name) for name in names}
    bench.released.set()
    client.close()
    assert client.stats()["internal_error.end"] == len(names)


def test_what_waited_leaves_when_the_trouble_is_over(bench: Bench) -> None:
    """Delivery that could not begin begins later, and the reports are there."""
    trouble = TROUBLES["a sender that does not start"]
    client = trouble.client(bench)
    recorded(trouble, client, SOME)
    bench.released.set()
    assert client.close(10)
    assert len(bench.platform.accepted) == EACH


def test_what_a_sender_refused_stays_in_the_spool(bench: Bench) -> None:
    """Counted, and left for the next process."""
    trouble = TROUBLES["a sender that takes nothing"]
    client = trouble.client(bench)
    recorded(trouble, client, SOME)
    check_counts(trouble, client, bench)  # waits for the last lines of each call
    assert states(bench.directory / "spool") == [f"call{number}.ready" for number in range(EACH)]
    client.close()


def test_a_call_on_any_server_goes_on_without_a_clock(bench: Bench) -> None:
    """`Bluejay.call`, which no adapter stands in front of, gives the inert recorder, and counts."""
    with bench.client(clock=broken) as client:
        with client.call(behaviours.HEADERS):
            assert not current_recorder().active
            use_every_verb("frozen")
        assert client.stats()["internal_error.open"] == 1


def test_a_clock_may_fail_at_any_reading(bench: Bench) -> None:
    """Whichever reading of the clock raises: the handler continues, and something is counted for it."""
    at, failed = 0, True
    while failed:
        at += 1
        clock = Clock(at)
        sender = sender_of(bench, Idle)
        with bench.client(clock=clock, sender=sender) as client:
            assert recorded(TROUBLES["nothing"], client, ("handler raises",)) == {
                "handler raises": bare("handler raises")
            }
            errors = [name for name in client.stats() if "error" in name or "failed" in name]
        failed = clock.readings >= at
        assert bool(errors) == failed, (at, errors)
    assert at > 15


def test_a_log_handler_that_raises_is_the_agents_own_affair_but_not_in_its_calls(bench: Bench) -> None:
    """Where the library logs an error of its own, what the agent's log handler raises stays out of the agent's code."""

    class Raising(logging.Handler):
        def emit(self, entry: logging.LogRecord) -> None:
            broken()

    handler = Raising()
    logging.getLogger("bluejay_ws").addHandler(handler)
    try:
        trouble = Trouble(everything, {"errors.log": 10}, sent=False)
        client = trouble.client(bench)
        assert recorded(trouble, client, SOME) == {behaviour: bare(behaviour) for behaviour in SOME}
        check_counts(trouble, client, bench)
        client.close()
    finally:
        logging.getLogger("bluejay_ws").removeHandler(handler)


@pytest.mark.parametrize(
    ("key", "says", "times"),
    [("se cret", "BLUEJAY_API_KEY holds blanks", 1), ("sound", "calls are not recorded", EACH)],
)
def test_a_client_that_cannot_be_made_costs_no_call(
    key: str, says: str, times: int, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A bare ``@record`` makes its client from the environment, within the first call: the log says what is wrong."""
    monkeypatch.setattr("bluejay_ws.client._default", None)
    monkeypatch.setenv("BLUEJAY_API_KEY", key)
    monkeypatch.setenv("BLUEJAY_API_URL", "http://platform.invalid" if key == "sound" else "https://platform.invalid")

    def wrap(handler: Callable[..., Any]) -> Callable[..., Any]:
        return record(busy(handler))

    for name in SOME:
        assert asyncio.run(behaviours.run(BEHAVIOURS[name], wrap)) == bare(name)
    said = [entry.getMessage() for entry in caplog.records if entry.getMessage().startswith(says)]
    assert len(said) == times
    assert "se cret" not in caplog.text


# -- other servers -----------------------------------------------------------------------------------------------------


class HandlerError(Exception):
    """What the handlers below raise."""


ALL = {**TROUBLES, **HANGS}
BARE = "no decorator"
LASTS = ("raise", "over")  # the last message of a call: the handler raises, or it is closed in order


def clients_of(bench: Bench) -> dict[str, Bluejay]:
    """Return a client for each trouble, each in a place of its own; the platform answers none of them."""
    bench.platform.otherwise(Hang(), reads=Hang())
    clients = {}
    for number, (name, trouble) in enumerate(ALL.items()):
        directory = bench.directory / str(number)
        directory.mkdir()
        clients[name] = trouble.client(Bench(bench.platform, directory, bench.released))
    return clients


def check_opened(clients: dict[str, Bluejay], bench: Bench) -> None:
    """Each client has counted its calls, or why it could not open them."""
    for name, client in clients.items():
        counted = client.stats()
        assert counted["recorded"] + counted.get("internal_error.open", 0) == len(LASTS), (name, counted)
    bench.released.set()
    for client in clients.values():
        client.close()


def value_of(name: str) -> object:
    """Return what the handler records in a trouble."""
    return "frozen" if name == BARE else ALL[name].value


class ThreadedAgents:
    """One bare handler and one for each trouble, told apart by the path that is dialled."""

    def __init__(self, clients: dict[str, Bluejay]) -> None:
        self.names = (BARE, *clients)
        self.ends: Notes = []
        self._clients = clients

    def __call__(self, websocket: SyncServerConnection) -> None:
        assert websocket.request is not None
        name = self.names[int(websocket.request.path[1:])]

        value = value_of(name)

        def voice(websocket: SyncServerConnection) -> object:
            use_every_verb(value)
            echo_in_a_thread(websocket)
            return value

        serve_one = voice if name == BARE else record(voice, client=self._clients[name])
        try:
            self.ends.append(serve_one(websocket) is value)
        except Exception as error:
            self.ends.append(repr(error))
            raise

    def dial(self, url: str, number: int, last: str) -> Notes:
        """Return what a caller and the handler see of each other."""
        self.ends.clear()
        with sync_connect(
            f"{url}/{number}", additional_headers={"X-Simulation-Result-Id": f"call-{last}"}
        ) as websocket:
            seen: Notes = []
            for message in (bytes(640), "text", last):
                websocket.send(message)
                seen.append(websocket.recv())
            websocket.close(4001, "bye") if last == "over" else websocket.recv_events_thread.join(30)
        until = time.monotonic() + 10
        while not self.ends and time.monotonic() < until:
            time.sleep(0.001)
        return [*seen, websocket.protocol.close_code, websocket.protocol.close_reason, *self.ends]


def echo_in_a_thread(websocket: SyncServerConnection) -> None:
    """Echo until the caller hangs up, or asks for an exception."""
    with contextlib.suppress(ConnectionClosed):
        while True:
            message = websocket.recv()
            websocket.send(message)
            if message == "raise":
                raise HandlerError(message)


def test_trouble_is_kept_from_threaded_handlers(bench: Bench) -> None:
    """`websockets.sync`: result, frames, close code and exception are those of the bare handler, in every trouble."""
    clients = clients_of(bench)
    agents = ThreadedAgents(clients)
    with sync_serve(agents, "127.0.0.1", 0) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        url = f"ws://127.0.0.1:{server.socket.getsockname()[1]}"
        seen = {(name, last): agents.dial(url, at, last) for at, name in enumerate(agents.names) for last in LASTS}
        server.shutdown()
        thread.join()
    assert seen == {(name, last): seen[BARE, last] for name in agents.names for last in LASTS}
    assert seen[BARE, "raise"][-3:] == [1011, "", "HandlerError('raise')"]
    assert seen[BARE, "over"][-3:] == [4001, "bye", True]
    check_opened(clients, bench)


def fastapi_endpoint(name: str, client: Bluejay | None, ends: dict[tuple[str, str], str]) -> Callable[..., Any]:
    """Return an endpoint, bare or recorded, that notes how it ended."""

    async def voice(websocket: WebSocket) -> str:
        await websocket.accept()
        use_every_verb(value_of(name))
        return await echo_to_fastapi(websocket)

    endpoint = voice if client is None else record(voice, client=client)

    async def watched(websocket: WebSocket) -> None:
        try:
            ends[name, "over"] = await endpoint(websocket)
        except Exception as error:
            ends[name, "raise"] = repr(error)
            raise

    return watched


async def echo_to_fastapi(websocket: WebSocket) -> str:
    """Echo until the caller asks for an exception or for the end."""
    while True:
        message = await websocket.receive()
        await websocket.send({**message, "type": "websocket.send"})
        if message.get("text") == "raise":
            raise HandlerError("raise")
        if message.get("text") == "over":
            await websocket.close(4444, "own")
            return "done"


async def dial(url: str, last: str) -> Notes:
    """Return what a caller sees: frames, close code and reason."""
    seen: Notes = []
    async with connect(url, additional_headers={"X-Simulation-Result-Id": f"call-{last}"}) as websocket:
        for message in (bytes(640), "text", last):
            await websocket.send(message)
        with contextlib.suppress(ConnectionClosed):
            while True:
                seen.append(await websocket.recv())
    return [*seen, websocket.protocol.close_code, websocket.protocol.close_reason]


def test_trouble_is_kept_from_fastapi_endpoints(bench: Bench) -> None:
    """FastAPI under uvicorn: frames, close code and exception are those of the bare endpoint, in every trouble."""
    pytest.importorskip("fastapi")
    clients = clients_of(bench)
    names = (BARE, *clients)
    ends: dict[tuple[str, str], str] = {}
    app = FastAPI()
    for number, name in enumerate(names):
        app.websocket(f"/{number}")(fastapi_endpoint(name, clients.get(name), ends))

    async def main() -> dict[tuple[str, str], Notes]:
        async with uvicorn_server(app) as url:
            return {(name, last): await dial(f"{url}/{at}", last) for at, name in enumerate(names) for last in LASTS}

    seen = asyncio.run(main())
    assert seen == {(name, last): seen[BARE, last] for name in names for last in LASTS}
    assert seen[BARE, "over"] == [bytes(640), "text", "over", 4444, "own"]
    assert ends == {(name, last): ends[BARE, last] for name in names for last in LASTS}
    check_opened(clients, bench)
