"""One connection, from its handshake to its report: when it ends, what it says of its end, and where it is kept."""

from __future__ import annotations

import asyncio
import gc
import json
import logging
import os
import random
import threading
import weakref
from pathlib import Path
from typing import TYPE_CHECKING, Any

import anyio
import pytest

from bluejay_ws.call import ALIAS_LIMIT, ALIASES_LIMIT, CLOSE_WAIT, GRACE, Call
from bluejay_ws.client import Bluejay, Seam
from bluejay_ws.current import INERT, current_recorder
from bluejay_ws.delivery.livefile import LiveFile
from bluejay_ws.delivery.sender import Sender
from bluejay_ws.delivery.spool import Spool
from bluejay_ws.recorder import DECORATED_TOOLS
from bluejay_ws.testing.platform import Answer, FakePlatform
from bluejay_ws.wire.ids import MESSAGES
from tests.support import Clock, eventually, report_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from bluejay_ws.delivery.store import Report, Store
    from bluejay_ws.settings import Settings
    from bluejay_ws.stats import Counters

ID = "720488"
HEADERS = {"X-Simulation-Result-Id": ID}


@pytest.fixture
def tools() -> Iterator[set[str]]:
    """Give the names of the decorated tools; none to begin with, and afterwards those that were there."""
    before = set(DECORATED_TOOLS)
    DECORATED_TOOLS.clear()
    yield DECORATED_TOOLS
    DECORATED_TOOLS.clear()
    DECORATED_TOOLS.update(before)


def connected(client: Bluejay, *ids: str, **options: Any) -> Call:
    """Return a call that has just been connected."""
    call = client.open_call(ids or (ID,), server="test", **options)
    assert call is not None
    return call


def closing(platform: FakePlatform) -> dict[str, Any]:
    """Return what the closing event of the one report says."""
    event = next(event for event in report_of(platform).events if event["title"] == "Connection closed")
    marker: dict[str, Any] = event["metadata"]["bluejay_ws"]
    return marker


def states(spool: Path) -> list[str]:
    """Return the states of the files in the spool."""
    return sorted(path.suffix for path in spool.rglob("*") if path.is_file() and path.suffix != ".owner")


class Line:
    """A connection as an adapter watches one: what is due later runs when the test says so."""

    def __init__(self, call: Call, **known: Any) -> None:
        self.call = call
        self.known = known
        self.due: list[tuple[float, Callable[[], None]]] = []
        self.free = False
        call.observed_by(self)

    def later(self, seconds: float, action: Callable[[], None]) -> None:
        self.due.append((seconds, action))

    def look(self) -> None:
        """Nothing more is known."""

    async def ask(self) -> None:
        """Nor is there anybody to ask."""

    def closing(self) -> dict[str, Any]:
        return self.known

    def over(self) -> None:
        self.call.connection_closed(self.known or {"closed_by": "agent"})

    def let_go(self) -> None:
        self.free = True

    def wait(self) -> list[float]:
        """Let the time pass for all that is due; return for how long each waited."""
        due, self.due = self.due, []
        for _, action in due:
            action()
        return [seconds for seconds, _ in due]


# -- when a call ends ------------------------------------------------------------------------------------------------


def test_a_call_without_a_handler_ends_with_its_connection(client: Bluejay, platform: FakePlatform) -> None:
    """Nothing is waited for, and the report says how the connection ended, by which version and on which server."""
    call = connected(client)
    call.connection_closed({"close_code": 1000, "close_reason": "", "closed_by": "caller"})
    assert call.ended
    marker = closing(platform)
    assert {name: marker[name] for name in ("close_code", "closed_by", "outcome", "server", "report_id")} == {
        "close_code": 1000,
        "closed_by": "caller",
        "outcome": "completed",
        "server": "test",
        "report_id": call.recorder.report_id,
    }
    assert marker["version"]
    assert marker["user_frames"] == 0


def test_a_call_waits_for_its_handler_s_last_words(client: Bluejay, platform: FakePlatform) -> None:
    """After the connection the handler may go on for a moment; it ends the call."""
    call = connected(client)
    line = Line(call)
    with call.handling():
        call.connection_closed({"close_code": 1000})
        assert not call.ended
        current_recorder().add_event("last words")
    assert (call.ended, line.free) == (True, True)
    assert line.wait() == [GRACE]
    assert [event["title"] for event in report_of(platform).events] == ["last words", "Connection closed"]


def test_a_busy_handler_is_not_waited_for_longer(client: Bluejay, platform: FakePlatform) -> None:
    """When its time is up the report leaves; the handler's end changes nothing."""
    call = connected(client)
    line = Line(call)
    before = call.enter()
    call.connection_closed({"close_code": 1000})
    line.wait()
    assert call.ended
    call.leave(before, ValueError())
    client.flush()
    assert len(platform.accepted) == 1
    assert closing(platform)["outcome"] == "completed"


def test_a_connection_that_stays_is_not_waited_for_longer_than_a_moment(
    client: Bluejay, platform: FakePlatform
) -> None:
    """A caller that never answers the close frame holds no report: the server closes for a handler that returned."""
    call = connected(client)
    line = Line(call, close_code=1000, closed_by="agent")
    with call.handling():
        pass
    assert not call.ended
    assert line.wait() == [GRACE]
    assert (call.ended, line.free) == (True, True)
    call.connection_closed({"close_code": 1006})
    assert (closing(platform)["close_code"], closing(platform)["closed_by"]) == (1000, "agent")


def test_a_handler_that_goes_on_where_another_ended_keeps_the_call(client: Bluejay) -> None:
    """One connection, two decorated functions one after the other: it is one call."""
    call = connected(client)
    line = Line(call)
    with call.handling():
        pass
    with call.handling():
        line.wait()
        assert not call.ended


@pytest.mark.parametrize("answered", [False, True])
def test_the_caller_s_answer_to_a_close_frame_is_awaited_for_half_a_second(
    answered: bool, client: Bluejay, platform: FakePlatform
) -> None:
    """The handler that closed may wait much longer for it."""
    call = connected(client)
    line = Line(call, close_code=4000, closed_by="agent")
    with call.handling():
        call.agent_closing()
        if answered:
            call.connection_closed({"close_code": 4000, "closed_by": "caller"})
        assert line.wait()[0] == CLOSE_WAIT
        assert call.ended
    call.agent_closing()
    assert line.due == []
    assert closing(platform)["closed_by"] == ("caller" if answered else "agent")


def test_a_handler_that_is_cancelled_by_trio_ends_the_call_at_once(client: Bluejay, platform: FakePlatform) -> None:
    """The nursery around it is gone, and with it whoever would have told how the connection ends."""
    call = connected(client)
    line = Line(call)
    with pytest.raises(Cancelled), call.handling():
        raise Cancelled
    assert (call.ended, line.due) == (True, [])
    assert closing(platform)["outcome"] == "handler_cancelled"


class Cancelled(BaseException):
    """As trio's."""


class Unable(Line):
    """A connection of which nothing can be learnt, and on which nothing can be done later."""

    def later(self, seconds: float, action: Callable[[], None]) -> None:
        raise RuntimeError("can't start new thread")

    def closing(self) -> dict[str, Any]:
        raise RuntimeError("quotes the caller")


def test_where_nothing_can_be_done_later_the_call_ends_at_once(client: Bluejay, platform: FakePlatform) -> None:
    """What breaks is counted, and the report leaves."""
    call = connected(client)
    Unable(call)
    with call.handling():
        pass
    assert call.ended
    assert closing(platform)["closed_by"] == "agent"
    assert (client.stats()["internal_error.later"], client.stats()["internal_error.close"]) == (1, 1)


class Silent(Line):
    """A connection that cannot say how it ends."""

    def over(self) -> None:
        raise RuntimeError("quotes the caller")


def test_a_connection_that_cannot_be_asked_how_it_ends_ends_the_call(client: Bluejay, platform: FakePlatform) -> None:
    """The error is counted."""
    call = connected(client)
    line = Silent(call)
    with call.handling():
        pass
    line.wait()
    assert closing(platform)["closed_by"] == "agent"
    assert client.stats()["internal_error.close"] == 1


def test_the_first_end_of_a_connection_counts(client: Bluejay, platform: FakePlatform) -> None:
    """An adapter may tell twice."""
    call = connected(client)
    call.connection_closed({"close_code": 4001})
    call.connection_closed({"close_code": 1006})
    call.end()
    assert closing(platform)["close_code"] == 4001
    assert platform.duplicates == {}


def test_a_call_whose_connection_nobody_observes_ends_with_its_handler(client: Bluejay, platform: FakePlatform) -> None:
    """How it ended is not known."""
    call = connected(client)
    with call.handling():
        pass
    assert closing(platform)["closed_by"] == "unknown"


def test_a_call_that_nobody_ended_ends_with_its_client(client: Bluejay, platform: FakePlatform) -> None:
    """At the end of the process the report says so."""
    connected(client)
    client.close()
    assert closing(platform)["closed_by"] == "process_exit"


@pytest.mark.parametrize(
    ("errors", "outcome", "crashed"),
    [
        ([None], {"outcome": "completed"}, None),
        ([ValueError("secret")], {"outcome": "agent_error", "error": "ValueError"}, "ValueError"),
        ([asyncio.CancelledError()], {"outcome": "completed"}, None),
        ([KeyError("inner"), ValueError("outer")], {"outcome": "agent_error", "error": "KeyError"}, "KeyError"),
        ([None, ValueError("outer")], {"outcome": "agent_error", "error": "ValueError"}, "ValueError"),
    ],
)
def test_the_report_says_how_the_handler_ended(
    errors: list[BaseException | None],
    outcome: dict[str, str],
    crashed: str | None,
    client: Bluejay,
    platform: FakePlatform,
) -> None:
    """By the type of the first error, never by its text; cancelling is no failure. See also test_outcome.py."""
    call = connected(client)
    Line(call)
    for error in errors:
        call.handler_started()
        call.handler_ended(error)
    assert call.crashed == crashed
    call.connection_closed({"close_code": 1000})
    marker = closing(platform)
    assert {name: marker[name] for name in ("outcome", "error") if name in marker} == outcome
    assert b"secret" not in report_of(platform).body


def test_a_lost_connection_while_the_caller_s_is_open_is_another_one(client: Bluejay, platform: FakePlatform) -> None:
    """The agent's own connection to its speech provider broke: that is a failure of the agent's."""
    call = connected(client)
    Line(call)
    call.handler_started()
    call.handler_ended(type("ConnectionClosedError", (Exception,), {})())
    call.connection_closed({"close_code": 1011, "closed_by": "agent"})
    assert (closing(platform)["outcome"], closing(platform)["error"]) == ("agent_error", "ConnectionClosedError")


# -- handshakes ------------------------------------------------------------------------------------------------------


def test_offsets_may_begin_with_a_later_handshake(platform: FakePlatform) -> None:
    """Where the handler accepts the connection itself, time begins there, for the recorder and for the observer."""
    clock = Clock()
    with Bluejay._with("test-key", base_url=platform.url, spool=False, seam=Seam(clock=clock)) as client:
        call = connected(client)
        clock.sleep(400)
        before = call.recorder.started_ns
        call.handshake_done()
        assert call.recorder.started_ns - before == 400_000_000
        clock.sleep(30)
        call.recorder.add_event("e")
    assert report_of(platform).events[0]["start_offset_ms"] == 30


def test_a_refused_handshake_is_no_call(client: Bluejay, platform: FakePlatform, spool: Path) -> None:
    """Nothing is sent and nothing is left in the spool; it is counted once."""
    call = connected(client)
    call.refused(crashed=False)
    call.refused(crashed=False)
    call.end()
    client.flush()
    assert client.stats()["dropped.refused"] == 1
    assert (platform.requests, states(spool)) == ([], [])
    assert client.stats()["live"] == 0


def test_a_handler_that_crashed_before_the_handshake_is_reported(client: Bluejay, platform: FakePlatform) -> None:
    """The caller saw a failed dial: the report says why."""
    call = connected(client)
    Line(call)
    call.handler_started()
    call.handler_ended(ValueError())
    call.refused(crashed=True)
    marker = closing(platform)
    assert (marker["accepted"], marker["error"]) == (False, "ValueError")


@pytest.mark.anyio
async def test_at_the_end_of_a_server_its_call_waits_for_delivery(client: Bluejay, platform: FakePlatform) -> None:
    """Only there: in the middle of a server's life nobody waits."""
    platform.plan(Answer(delay=0.05))
    call, stopped = connected(client), connected(client, "720489")
    call.connection_closed({})
    await call.linger()
    assert platform.accepted == []
    stopped.connection_closed({"close_code": 1012, "closed_by": "agent"})
    await stopped.linger()
    assert len(platform.accepted) == 2


class BrokenFlush(Bluejay):
    """A client that raises where it should wait."""

    async def flush_at_end(self) -> bool:
        raise RuntimeError("quotes the caller")


def test_a_wait_that_breaks_is_counted(platform: FakePlatform) -> None:
    """The handler's own end continues."""
    with BrokenFlush("test-key", base_url=platform.url, spool=False) as client:
        call = connected(client)
        call.connection_closed({"close_code": 1012, "closed_by": "agent"})
        asyncio.run(call.linger())
        assert client.stats()["internal_error.flush"] == 1


# -- ids that come late ----------------------------------------------------------------------------------------------


def test_what_came_before_a_late_id_is_kept(client: Bluejay, platform: FakePlatform, spool: Path) -> None:
    """The file is made when the id is there, with everything recorded before in its order."""
    call = client.open_call((), server="test", late_id=True)
    assert call is not None
    with call.recorder.tool_call("early"):
        call.recorder.add_event("before")
        assert states(spool) == []
        call.recorder.bind(ID)
        assert states(spool) == [".live"]
        call.recorder.add_event("after")
    assert client.find(ID) is call.recorder
    call.connection_closed({})
    report = report_of(platform)
    assert [event["title"] for event in report.events] == ["before", "after", "Connection closed"]
    assert [tool["name"] for tool in report.tool_calls] == ["early"]
    assert "output" not in report.tool_calls[0]
    assert client.stats()["recorded"] == 1


class BusySpool(Spool):
    """A spool that takes its time to make a file: meanwhile the agent continues."""

    meanwhile: Callable[[], None]

    def open_call(self, *, report_id: str, simulation_result_id: str, header: bytes) -> LiveFile | None:
        self.meanwhile()
        file = super().open_call(report_id=report_id, simulation_result_id=simulation_result_id, header=header)
        self.meanwhile()
        return file


def test_what_comes_while_the_file_is_made_is_kept(client: Bluejay, platform: FakePlatform) -> None:
    """Another thread may record between the id and its file: in its order, once."""
    assert client.spool is not None
    spool = BusySpool(Path(client.spool.place), counters=client.counters, destination=client.settings.destination)
    client.spool = spool
    call = client.open_call((), server="test", late_id=True)
    assert call is not None
    call.recorder.add_event("before")
    spool.meanwhile = lambda: call.recorder.add_event("meanwhile")
    call.recorder.bind(ID)
    call.recorder.add_event("after")
    call.connection_closed({})
    titles = [event["title"] for event in report_of(platform).events]
    assert titles == ["before", "meanwhile", "meanwhile", "after", "Connection closed"]


def test_threads_may_record_while_the_id_comes(client: Bluejay, platform: FakePlatform) -> None:
    """No item is lost, doubled or overtaken by its own end, whenever the file is made."""
    call = client.open_call((), server="test", late_id=True)
    assert call is not None
    recorder = call.recorder
    begin = threading.Barrier(5)

    def work(thread: int) -> None:
        begin.wait()
        for number in range(200):
            recorder.add_event(f"{thread}-{number}")
            with recorder.tool_call(f"{thread}-{number}") as tool:
                tool.output = number

    threads = [threading.Thread(target=work, args=(thread,)) for thread in range(4)]
    for thread in threads:
        thread.start()
    begin.wait()
    recorder.bind(ID)
    for thread in threads:
        thread.join()
    call.connection_closed({})
    report = report_of(platform)
    expected = sorted(f"{thread}-{number}" for thread in range(4) for number in range(200))
    assert sorted(event["title"] for event in report.events[:-1]) == expected
    assert sorted(tool["name"] for tool in report.tool_calls) == expected
    assert all(tool["output"] == int(tool["name"].partition("-")[2]) for tool in report.tool_calls)


def test_a_call_that_never_gets_an_id_is_dropped_at_its_end(client: Bluejay, platform: FakePlatform) -> None:
    """Nothing is sent; it is counted."""
    call = client.open_call((), server="test", late_id=True)
    assert call is not None
    call.recorder.add_event("e")
    call.connection_closed({})
    client.flush()
    assert client.stats()["dropped.never_bound"] == 1
    assert (client.stats()["recorded"], client.stats()["live"]) == (0, 0)
    assert platform.requests == []


@pytest.mark.parametrize("kept", [True, False], ids=["in a spool", "in memory"])
def test_a_late_id_works_without_a_file_too(kept: bool, platform: FakePlatform, spool: Path) -> None:
    """Without a spool, or where no file can be made in it, memory has it all."""
    with Bluejay("test-key", base_url=platform.url, spool=spool if kept else False) as client:
        if kept:
            spool.rmdir()
        call = client.open_call((), server="test", late_id=True)
        assert call is not None
        call.recorder.add_event("before")
        call.recorder.bind(ID)
        call.recorder.add_event("after")
        call.connection_closed({})
    assert [event["title"] for event in report_of(platform).events] == ["before", "after", "Connection closed"]


def looking(client: Bluejay) -> Call:
    """Return a call whose id is expected in the caller's first messages."""
    call = client.open_call((), server="test", look=True)
    assert call is not None
    return call


def test_the_id_is_found_in_the_caller_s_first_messages(client: Bluejay, platform: FakePlatform) -> None:
    """The message that has it ends the search."""
    call = looking(client)
    call.user_text('{"event": "connected"}', 0.0)
    call.user_text(json.dumps({"start": {"customParameters": {"X-Simulation-Result-Id": ID}}}).encode(), 0.0)
    assert call.recorder.simulation_result_id == ID
    call.connection_closed({})
    assert report_of(platform).simulation_result_id == ID


def test_after_so_many_messages_without_an_id_it_is_no_simulation(client: Bluejay, platform: FakePlatform) -> None:
    """Production traffic is not kept in memory for as long as it lasts."""
    call = looking(client)
    call.recorder.add_event("e")
    for _ in range(MESSAGES):
        call.user_text('{"event": "media"}', 0.0)
    assert (call.recorder.bodies, call.recorder.active) == ([], False)
    call.connection_closed({})
    client.flush()
    assert client.stats()["dropped.never_bound"] == 1
    assert platform.requests == []


def test_an_id_that_the_agent_bound_itself_is_kept(client: Bluejay, platform: FakePlatform) -> None:
    """The search comes to nothing, and takes nothing away."""
    call = looking(client)
    call.recorder.bind(ID)
    for _ in range(MESSAGES):
        call.user_text("no JSON", 0.0)
    call.connection_closed({})
    assert report_of(platform).simulation_result_id == ID


# -- where it is kept ------------------------------------------------------------------------------------------------


def test_a_call_is_in_the_spool_while_it_goes_on(client: Bluejay, spool: Path) -> None:
    """Each fact is in the file before the method that records it returns."""
    call = connected(client)
    (path,) = spool.rglob("*.live")
    call.recorder.add_tool_call("freeze", parameters={"last4": "4242"})
    assert b'"freeze"' in path.read_bytes()


def test_a_file_that_breaks_in_the_middle_costs_nothing(client: Bluejay, platform: FakePlatform, spool: Path) -> None:
    """The disk fills up: the report comes from memory, whole, and the broken file is gone."""
    call = connected(client)
    call.recorder.add_event("before")
    assert call._file is not None
    full = os.open("/dev/full", os.O_WRONLY)
    os.dup2(full, call._file._fd)  # type: ignore[attr-defined]
    os.close(full)
    call.recorder.add_event("after")
    call.connection_closed({})
    assert [event["title"] for event in report_of(platform).events] == ["before", "after", "Connection closed"]
    assert client.flush()
    assert client.stats()["spool.write_enospc"] == 1
    assert ".live" not in states(spool)


def test_a_spool_that_goes_away_costs_nothing(client: Bluejay, platform: FakePlatform, spool: Path) -> None:
    """It is made again."""
    spool.rmdir()
    connected(client).connection_closed({})
    assert report_of(platform).simulation_result_id == ID
    client.flush(30.0)
    assert states(spool) == [".sent"]


def test_a_discarded_call_leaves_nothing(client: Bluejay, platform: FakePlatform, spool: Path) -> None:
    """Its file is removed at once, nothing is sent, and it cannot be found any more."""
    call = connected(client)
    call.recorder.add_event("e")
    call.recorder.discard()
    assert states(spool) == []
    assert client.find(ID) is INERT
    call.connection_closed({})
    client.flush()
    assert platform.requests == []
    assert client.stats()["dropped.discarded"] == 1


def test_a_call_without_a_file_can_be_discarded_and_abandoned(platform: FakePlatform) -> None:
    """In memory there is nothing to remove."""
    with Bluejay("test-key", base_url=platform.url, spool=False) as client:
        connected(client).recorder.discard()
        connected(client).abandon()
    assert platform.requests == []


class Unstarted(Sender):
    """A sender without threads: nobody looks for what dead processes left."""

    def start(self) -> None:
        """Do nothing."""


def test_an_abandoned_call_is_the_parent_s(platform: FakePlatform, spool: Path) -> None:
    """What a forked child does with its copy of a live call: let go of it, without touching the file's name."""

    def make(settings: Settings, spool: Store | None, counters: Counters) -> Sender:
        return Unstarted(settings, store=spool, counters=counters)

    with Bluejay._with("test-key", base_url=platform.url, spool=spool, seam=Seam(sender=make)) as client:
        call = connected(client)
        call.recorder.add_event("e")
        call.abandon()
        call.recorder.add_event("in the child")
        call.connection_closed({})
        assert states(spool) == [".live"]
        (path,) = spool.rglob("*.live")
        assert b"in the child" not in path.read_bytes()
        assert client.sender.pending() == 0


# -- the warning about tools -----------------------------------------------------------------------------------------


def _end_after(client: Bluejay, record: Callable[[Call], object]) -> None:
    call = connected(client)
    record(call)
    call.connection_closed({})


def _speak(call: Call) -> None:
    call.recorder.agent_said("hello")
    with call.recorder.event("Lookup"), call.recorder.utterance("user") as said:
        said.text = "hi"


def test_a_call_without_tool_calls_is_told_where_tools_are_decorated(
    client: Bluejay, tools: set[str], caplog: pytest.LogCaptureFixture
) -> None:
    """Utterances and events, even open ones, are no tool calls; the line names the call and no tool."""
    tools.update({"freeze", "lookup"})
    _end_after(client, _speak)
    client.flush(30.0)
    (record,) = [record for record in caplog.records if "without a tool call" in record.getMessage()]
    assert (
        record.getMessage() == f"call {ID} ended without a tool call although 2 tools are decorated with @record_tool;"
        " if one was called: was it awaited, and does its thread have a copy of the call's context?"
    )
    assert record.__dict__["simulation_result_id"] == ID


@pytest.mark.parametrize(
    "record",
    [
        lambda call: call.recorder.add_tool_call("freeze"),
        lambda call: call.recorder.tool_call("freeze").__enter__(),
    ],
    ids=["afterwards", "still open"],
)
def test_a_call_with_a_tool_call_is_not_told(
    record: Callable[[Call], object], client: Bluejay, tools: set[str], caplog: pytest.LogCaptureFixture
) -> None:
    """One is enough, and one that is still open is one."""
    tools.add("freeze")
    _end_after(client, record)
    assert "without a tool call" not in caplog.text


def test_where_no_tool_is_decorated_nothing_is_missed(
    client: Bluejay, tools: set[str], caplog: pytest.LogCaptureFixture
) -> None:
    """Agents without tools are agents too."""
    _end_after(client, _speak)
    assert "without a tool call" not in caplog.text


# -- the context manager ---------------------------------------------------------------------------------------------


def test_a_with_block_is_a_call(client: Bluejay, platform: FakePlatform) -> None:
    """Inside, its recorder is the current one; at its end the report leaves."""
    with client.call(HEADERS) as recorder:
        assert current_recorder() is recorder
        assert recorder.active
        recorder.add_event("inside")
    assert current_recorder() is INERT
    assert not recorder.active
    assert closing(platform)["closed_by"] == "unknown"


@pytest.mark.anyio
async def test_an_async_with_block_is_a_call(client: Bluejay, platform: FakePlatform) -> None:
    """On asyncio and on trio."""
    async with client.call(HEADERS) as recorder:
        assert current_recorder() is recorder
        await anyio.sleep(0)
    assert current_recorder() is INERT
    await platform.await_for(1)


def test_an_exception_goes_through_a_call_and_is_in_its_report(client: Bluejay, platform: FakePlatform) -> None:
    """The very exception, and its type in the report."""
    error = ValueError("secret")
    with pytest.raises(ValueError, match="secret") as caught, client.call(HEADERS):
        raise error
    assert caught.value is error
    assert (closing(platform)["outcome"], closing(platform)["error"]) == ("agent_error", "ValueError")


def test_without_an_id_a_with_block_has_the_inert_recorder(client: Bluejay) -> None:
    """Production traffic: nothing is recorded, and nothing changes for the code inside."""
    with client.call({}) as recorder:
        assert recorder is INERT
        assert current_recorder() is INERT
    assert client.stats()["recorded"] == 0


def test_a_context_left_twice_or_never_entered_does_nothing_more(client: Bluejay, platform: FakePlatform) -> None:
    """Cleaning up twice is harmless."""
    context = client.call(HEADERS)
    context.__exit__(None, None, None)
    with context:
        pass
    context.__exit__(None, None, None)
    client.flush()
    assert len(platform.accepted) == 1


# -- when a part of ours breaks --------------------------------------------------------------------------------------


class Broken:
    """A part of which every method raises."""

    def __getattr__(self, name: str) -> Any:
        raise RuntimeError("quotes the caller")


def test_an_observer_that_breaks_costs_its_observations_only(
    client: Bluejay, platform: FakePlatform, caplog: pytest.LogCaptureFixture
) -> None:
    """What was recorded is reported, with how the call ended."""
    call = connected(client)
    call.observer = Broken()  # type: ignore[assignment]
    call.recorder.add_event("e")
    call.connection_closed({"close_code": 1000})
    marker = closing(platform)
    assert marker["close_code"] == 1000
    assert "user_frames" not in marker
    assert client.stats()["internal_error.observer"] == 1
    assert "quotes" not in caplog.text


class BrokenSpool(Spool):
    """A spool that raises where it should answer None."""

    def open_call(self, **_: Any) -> LiveFile | None:
        raise RuntimeError("quotes the caller")


def test_a_spool_that_breaks_leaves_the_call_to_memory(
    client: Bluejay, platform: FakePlatform, caplog: pytest.LogCaptureFixture
) -> None:
    """The call is recorded and reported; the error is counted and told by its type."""
    assert client.spool is not None
    client.spool = BrokenSpool(
        Path(client.spool.place), counters=client.counters, destination=client.settings.destination
    )
    call = connected(client)
    call.recorder.add_event("e")
    call.connection_closed({})
    assert report_of(platform).events[0]["title"] == "e"
    assert client.stats()["internal_error.spool"] == 1
    (record,) = [record for record in caplog.records if record.levelno == logging.ERROR]
    assert record.getMessage() == "internal error at spool of a call (RuntimeError); the call itself continues"
    assert record.__dict__["simulation_result_id"] == ID


class BrokenSender(Sender):
    """A sender that raises where it should take a report over, and has no workers that would find it by themselves."""

    def start(self) -> None:
        self._finisher.start()

    def submit(self, parcel: Report) -> None:
        raise RuntimeError("quotes the caller")


def test_a_report_that_cannot_be_handed_over_waits_in_the_spool(platform: FakePlatform, spool: Path) -> None:
    """It is complete and sealed there: the next start delivers it."""

    def make(settings: Settings, spool: Store | None, counters: Counters) -> Sender:
        return BrokenSender(settings, store=spool, counters=counters)

    with Bluejay._with("test-key", base_url=platform.url, spool=spool, seam=Seam(sender=make)) as client:
        connected(client).connection_closed({})
        client.sender._finisher.drain(10.0)
        assert client.stats()["internal_error.end"] == 1
        assert client.stats()["live"] == 0
        assert states(spool) == [".ready"]
    with Bluejay("test-key", base_url=platform.url, spool=spool, redial_wait=0.0) as client:
        connected(client, "720489")
    assert {report.simulation_result_id for report in platform.wait_for(2)} == {ID, "720489"}


def test_an_alias_leads_to_the_call(client: Bluejay) -> None:
    """Until the call ends."""
    call = connected(client)
    call.recorder.add_alias("CA123")
    assert client.find("CA123") is call.recorder
    call.connection_closed({})
    assert client.find("CA123") is INERT


def test_a_call_has_a_bounded_number_of_names(client: Bluejay) -> None:
    """An agent that names its call with every message, or by whole documents, fills no memory; it is counted."""
    call = connected(client)
    for number in range(ALIASES_LIMIT + 3):
        call.recorder.add_alias(f"alias-{number}")
    call.recorder.add_alias("alias-0")
    call.recorder.add_alias("x" * (ALIAS_LIMIT + 1))
    assert len(call.aliases) == ALIASES_LIMIT
    assert client.stats()["dropped.alias"] == 4


def test_a_seeded_generator_of_the_agents_is_not_disturbed(spool: Path, caplog: pytest.LogCaptureFixture) -> None:
    """An agent that seeds `random` draws the same numbers, recorded or not, whatever delivery waits for."""
    with Bluejay("test-key", base_url="http://127.0.0.1:9", spool=spool, flush_timeout=0.1) as client:
        state = random.getstate()
        connected(client).connection_closed({})
        client.sender._finisher.drain(10.0)
        while "trying again" not in caplog.text:  # the wait until then has been drawn
            client.flush(0.02)
    assert random.getstate() == state


@pytest.mark.parametrize("discard", [False, True])
def test_a_call_that_is_over_needs_no_garbage_collector(client: Bluejay, discard: bool) -> None:
    """Agents that run without it keep nothing: neither the call nor its recorder is in a cycle after the end."""
    call = client.open_call([ID], server="test")
    assert call is not None
    left: list[weakref.ref[Any]] = [weakref.ref(call), weakref.ref(call.recorder)]
    gc.disable()
    try:
        call.recorder.agent_said("Hello")
        if discard:
            call.recorder.discard()
        call.end()
        assert client.flush()
        del call
        assert [one() for one in left] == [None, None]
    finally:
        gc.enable()


def test_a_file_that_is_gone_where_it_should_be_sealed_is_made_up_for_by_memory(
    platform: FakePlatform, spool: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its descriptor was lent to another call's file, and somebody emptied the spool: the recorder has every line."""
    seal = LiveFile.seal

    def after_the_loss(file: LiveFile) -> Report:
        eventually(file.lend)  # the thread that writes its lines may still do so
        for path in spool.rglob("*.live"):
            path.unlink()
        return seal(file)

    monkeypatch.setattr(LiveFile, "seal", after_the_loss)
    with Bluejay("test-key", base_url=platform.url, spool=spool) as client:
        call = connected(client)
        call.recorder.add_tool_call("freeze_card")
        call.connection_closed({})
    assert [tool["name"] for tool in report_of(platform).tool_calls] == ["freeze_card"]


def test_a_crowd_whose_ends_fail_is_counted_and_waited_for_by_nobody(client: Bluejay) -> None:
    """Most of these ends run on a thread of their own: none of them may end it, or be missed for ever."""
    calls = [connected(client, str(number)) for number in range(12)]
    for call in calls:
        call._file = Broken()
    for call in calls:
        call.connection_closed({})
    assert client.flush(20.0)
    assert client.stats()["internal_error.end"] == len(calls)
    assert client.stats()["waiting"] == 0


class Endless(Sender):
    """A sender that raises where it should take the end of a call over."""

    def end(self, report_id: str, ending: Callable[[], None]) -> None:
        raise RuntimeError("quotes the caller")


def test_an_end_that_nobody_takes_over_is_counted(platform: FakePlatform, spool: Path) -> None:
    """The server's code, in which it happens, sees nothing of it; the recorder lets go of everything."""

    def make(settings: Settings, spool: Store | None, counters: Counters) -> Sender:
        return Endless(settings, store=spool, counters=counters)

    with Bluejay._with("test-key", base_url=platform.url, spool=spool, seam=Seam(sender=make)) as client:
        call = connected(client)
        call.connection_closed({})
        assert client.stats()["internal_error.end"] == 1
        assert call.recorder.owner is None
