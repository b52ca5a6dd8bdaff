"""`record`: what it takes, what it leaves alone, and that it never stands in a handler's way."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import inspect
import os
import sys
import threading
from typing import TYPE_CHECKING, Any

import pytest
from websockets.asyncio.client import connect
from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect as sync_connect
from websockets.sync.server import ServerConnection as SyncServerConnection
from websockets.sync.server import serve as sync_serve

from bluejay_ws import client as client_module
from bluejay_ws.current import INERT, current_recorder
from bluejay_ws.decorator import record
from tests import nursery

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from pathlib import Path

    from bluejay_ws.client import Bluejay
    from bluejay_ws.testing.platform import FakePlatform

HEADERS = {"X-Simulation-Result-Id": "720488"}


async def _dial(handler: Callable[..., Awaitable[Any]], path: str, headers: dict[str, str]) -> list[str | bytes]:
    async with serve(handler, "127.0.0.1", 0) as server:
        uri = f"ws://127.0.0.1:{server.sockets[0].getsockname()[1]}{path}"
        async with connect(uri, additional_headers=headers) as websocket:
            heard: list[str | bytes] = []
            with contextlib.suppress(ConnectionClosed):
                heard += [message async for message in websocket]
            return heard


def dial(handler: Callable[..., Any], *, path: str = "/", headers: dict[str, str] = HEADERS) -> list[str | bytes]:
    """Call a handler on a real server and return what it sent."""
    return asyncio.run(_dial(handler, path, headers))


def outcome(platform: FakePlatform) -> Any:
    """Return how the handler of the one report ended, and which events its agent recorded."""
    (report,) = platform.wait_for(1)
    marker = report.events[-1]["metadata"]["bluejay_ws"]
    return marker.get("outcome"), [event["title"] for event in report.events[:-1]]


async def greet(websocket: ServerConnection, greeting: str = "hello") -> str:
    """Greet the caller."""
    current_recorder().add_event(greeting)
    await websocket.send(greeting)
    return "greeted"


# -- how it is written -----------------------------------------------------------------------------------------------


def test_a_decorated_handler_is_recorded(client: Bluejay, platform: FakePlatform) -> None:
    """``@record(client=...)`` and ``record(handler, client=...)`` are the same."""
    assert dial(record(greet, client=client)) == ["hello"]
    assert outcome(platform) == ("completed", ["hello"])
    assert dial(record(client=client)(greet), headers={"X-Simulation-Result-Id": "720489"}) == ["hello"]
    assert len(platform.wait_for(2)) == 2


def test_a_bare_decorator_uses_the_process_s_own_client(bluejay_platform: FakePlatform) -> None:
    """``@record`` alone is configured by the environment."""
    assert dial(record(greet)) == ["hello"]
    assert outcome(bluejay_platform) == ("completed", ["hello"])


@pytest.mark.parametrize("handler", [greet, lambda websocket: None])
def test_the_handler_looks_as_before(handler: Callable[..., Any]) -> None:
    """Name, documentation, signature and kind are those of the handler, and making it needs no configuration."""
    recorded = record(handler)
    assert inspect.signature(recorded) == inspect.signature(handler)
    assert (recorded.__name__, recorded.__doc__) == (handler.__name__, handler.__doc__)
    assert inspect.iscoroutinefunction(recorded) == inspect.iscoroutinefunction(handler)


def test_what_is_no_handler_is_refused_where_it_is_written() -> None:
    """The usual mistake is to give the client by position."""
    with pytest.raises(TypeError, match=r"client is a str; give a Bluejay\(\), or leave it out"):
        record(client="x")(lambda websocket: None)  # type: ignore[call-overload]
    with pytest.raises(TypeError, match=r"takes a handler, got str; .*@record\(client=\.\.\.\)"):
        record("client")  # type: ignore[call-overload]


def test_a_handler_without_a_signature_is_a_handler(client: Bluejay) -> None:
    """Some callables written in C have none that could be known."""
    assert record(client=client)(max)(1, 2) == 2


def test_an_unknown_place_for_the_id_is_refused_where_it_is_written() -> None:
    """Not at the first call."""
    with pytest.raises(ValueError, match="'header', 'query', 'message'"):
        record(greet, id_from=("cookie",))  # type: ignore[arg-type]


# -- what it does ----------------------------------------------------------------------------------------------------


def test_the_id_may_stand_in_the_query(client: Bluejay, platform: FakePlatform) -> None:
    """Where ``id_from`` says so, and only there."""
    path = "/?simulation_result_id=720488"
    dial(record(greet, client=client), path=path, headers={})
    assert client.stats()["recorded"] == 0
    dial(record(greet, client=client, id_from=("header", "query")), path=path, headers={})
    assert [report.simulation_result_id for report in platform.wait_for(1)] == ["720488"]


def test_without_an_id_the_handler_runs_as_if_it_were_bare(client: Bluejay) -> None:
    """Async, plain, and plain with a coroutine to come: the recorder is the inert one."""
    seen: list[object] = []

    async def handler(websocket: ServerConnection) -> None:
        seen.append(current_recorder())
        await websocket.send("served")

    def plain(websocket: ServerConnection) -> Awaitable[None]:
        return handler(websocket)

    for one in (handler, plain):
        assert dial(record(one, client=client), headers={}) == ["served"]
    assert seen == [INERT, INERT]
    assert client.stats()["recorded"] == 0


def test_what_a_handler_returns_and_raises_goes_on(client: Bluejay, platform: FakePlatform) -> None:
    """The very result and the very exception, and the report says which it was."""
    noted: list[Any] = []
    error = ValueError("quotes the caller")

    async def fail(websocket: ServerConnection) -> None:
        raise error

    async def spy(websocket: ServerConnection) -> None:
        noted.append(await record(greet, client=client)(websocket))
        assert current_recorder() is INERT
        with pytest.raises(ValueError, match="quotes") as caught:
            await record(fail, client=client)(websocket)
        noted.append(caught.value)
        assert caught.value.__context__ is None
        assert current_recorder() is INERT

    dial(spy)
    assert noted == ["greeted", error]
    assert outcome(platform) == ("agent_error", ["hello"])


def test_a_plain_function_that_returns_a_coroutine_is_recorded_until_that_is_over(
    client: Bluejay, platform: FakePlatform
) -> None:
    """``record(lambda websocket: agent(websocket, config))`` records what the coroutine does."""

    def plain(websocket: ServerConnection) -> Awaitable[str]:
        return greet(websocket, "later")

    assert dial(record(plain, client=client)) == ["later"]
    assert outcome(platform) == ("completed", ["later"])


def test_a_coroutine_from_a_plain_function_that_fails_fails_as_before(client: Bluejay, platform: FakePlatform) -> None:
    """Its exception goes to the server, and the report says so."""
    noted: list[BaseException] = []

    async def fail(websocket: ServerConnection) -> None:
        raise ValueError("broke")

    def plain(websocket: ServerConnection) -> Awaitable[None]:
        return fail(websocket)

    async def spy(websocket: ServerConnection) -> None:
        try:
            await record(plain, client=client)(websocket)
        except ValueError as error:
            noted.append(error)

    dial(spy)
    assert [str(error) for error in noted] == ["broke"]
    assert outcome(platform) == ("agent_error", [])


def test_partials_objects_and_methods_are_handlers_too(client: Bluejay, platform: FakePlatform) -> None:
    """Whatever can be awaited when it is called is awaited inside the recording."""

    class Agent:
        async def __call__(self, websocket: ServerConnection) -> None:
            await greet(websocket, "object")

        @record(client=client)
        async def method(self, websocket: ServerConnection) -> None:
            await greet(websocket, "method")

    handlers: dict[str, Callable[..., Any]] = {
        "partial": functools.partial(functools.partial(greet), greeting="partial"),
        "object": Agent(),
        "method": Agent().method,
    }
    for number, (name, handler) in enumerate(handlers.items()):
        recorded = record(handler, client=client) if name != "method" else handler
        assert dial(recorded, headers={"X-Simulation-Result-Id": str(number)}) == [name]
    assert sorted(report.events[0]["title"] for report in platform.wait_for(3)) == ["method", "object", "partial"]


def _serve_on_threads(handler: Callable[[SyncServerConnection], Any]) -> None:
    with sync_serve(handler, "127.0.0.1", 0) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        uri = f"ws://127.0.0.1:{server.socket.getsockname()[1]}"
        with sync_connect(uri, additional_headers=HEADERS) as websocket, contextlib.suppress(ConnectionClosed):
            websocket.recv()
        server.shutdown()
        thread.join()


def test_a_threaded_handler_is_recorded(client: Bluejay, platform: FakePlatform) -> None:
    """A plain function runs inside the recording, on its own thread, and its result continues."""
    noted: list[Any] = []

    def handler(websocket: SyncServerConnection) -> str:
        current_recorder().add_event("threaded")
        return "done"

    _serve_on_threads(lambda websocket: noted.append(record(handler, client=client)(websocket)))
    assert noted == ["done"]
    assert outcome(platform) == ("completed", ["threaded"])


def test_a_threaded_handler_that_fails_fails_as_before(client: Bluejay, platform: FakePlatform) -> None:
    """The very exception continues, and the report says so."""
    noted: list[Any] = []
    error = ValueError("broke")

    def fail(websocket: SyncServerConnection) -> None:
        raise error

    def spy(websocket: SyncServerConnection) -> None:
        with pytest.raises(ValueError, match="broke") as caught:
            record(fail, client=client)(websocket)
        noted.append(caught.value)

    _serve_on_threads(spy)
    assert noted == [error]
    assert outcome(platform) == ("agent_error", [])


# -- what must not happen --------------------------------------------------------------------------------------------


def test_called_without_a_connection_the_handler_just_runs() -> None:
    """Users' own unit tests call their handler with stand-ins; no client is made for that."""

    async def handler(websocket: object, *, more: object = None) -> object:
        return (websocket, more)

    assert asyncio.run(record(handler)("stand-in", more=1)) == ("stand-in", 1)
    assert record(lambda *_: "plain")(None) == "plain"


class Odd:
    """What says that it is a connection and cannot be asked."""

    __module__ = "websockets.asyncio.server"

    @property
    def request(self) -> Any:
        raise RuntimeError("quotes the caller")


def test_a_connection_that_cannot_be_asked_is_served_unrecorded(
    client: Bluejay, caplog: pytest.LogCaptureFixture
) -> None:
    """Whatever goes wrong before the handler is counted, and the handler runs."""
    assert record(lambda websocket: "served", client=client)(Odd()) == "served"
    assert client.stats()["internal_error.open"] == 1
    assert "quotes" not in caplog.text


def test_without_a_usable_configuration_the_handler_runs_unrecorded(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A wrong environment is found at the first simulated call: it is told with its remedy, and costs no call."""
    monkeypatch.setattr(client_module, "_default", None)
    monkeypatch.setenv("BLUEJAY_API_URL", "https://canary:canary@api.example")
    assert dial(record(greet)) == ["hello"]
    # The decorator itself warns too, once in each process: perhaps here.
    *_, line = [entry.getMessage() for entry in caplog.records if entry.name == "bluejay_ws"]
    assert "BLUEJAY_API_URL holds a user name" in line
    assert "canary" not in caplog.text


@pytest.mark.usefixtures("measured_children")
def test_an_unusable_environment_is_told_where_the_handler_is_decorated(tmp_path: Path) -> None:
    """A URL that cannot be used gives one warning at start-up, which does not quote it; the agent still starts."""
    script = tmp_path / "agent.py"
    script.write_text(
        "from bluejay_ws import record\n@record\ndef one(ws): ...\n@record\ndef two(ws): ...\nprint('started')\n"
    )
    done = nursery.run(
        [sys.executable, str(script)], env=os.environ | {"BLUEJAY_API_URL": "https://se:cret@api.example"}
    )
    assert done.stdout == "started\n"
    assert done.stderr.count("calls will not be recorded: BLUEJAY_API_URL") == 1
    assert "se:cret" not in done.stderr


def test_the_first_argument_that_is_a_simulation_is_the_call(client: Bluejay) -> None:
    """A handler that is also given another connection, without an id, is recorded on the one that has it."""
    recorded: list[bool] = []

    @record(client=client)
    async def handler(upstream: object, websocket: ServerConnection) -> None:
        recorded.append(current_recorder().active)

    async def main() -> None:
        first: list[ServerConnection] = []
        ready = asyncio.Event()

        async def outer(websocket: ServerConnection) -> None:
            if not first:
                first.append(websocket)
                await ready.wait()
            else:
                await handler(first[0], websocket)
                ready.set()

        async with serve(outer, "127.0.0.1", 0) as server:
            url = f"ws://127.0.0.1:{server.sockets[0].getsockname()[1]}"
            async with connect(url), connect(url, additional_headers=HEADERS) as simulated:
                await simulated.wait_closed()

    asyncio.run(main())
    assert recorded == [True]
