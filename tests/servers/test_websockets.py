"""`record` on ``websockets`` servers: the call never notices, and its report is right."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import gc
import inspect
import logging
import threading
import weakref
from typing import TYPE_CHECKING, Any

import pytest
from websockets.asyncio.client import connect
from websockets.asyncio.server import ServerConnection, serve
from websockets.datastructures import Headers
from websockets.exceptions import ConnectionClosed
from websockets.frames import Frame, Opcode
from websockets.http11 import Request
from websockets.protocol import State
from websockets.server import ServerProtocol
from websockets.streams import StreamReader
from websockets.sync.client import connect as sync_connect
from websockets.sync.server import ServerConnection as SyncServerConnection
from websockets.sync.server import serve as sync_serve

from bluejay_ws import Bluejay, current_recorder, record
from bluejay_ws.current import INERT
from bluejay_ws.servers import websockets as adapter
from bluejay_ws.wire.ids import MESSAGES
from tests.servers import behaviours
from tests.servers.behaviours import BEHAVIOURS, BINARY, HEADERS
from tests.support import report_of

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
    from pathlib import Path

    from websockets.asyncio.client import ClientConnection

    from bluejay_ws.call import Call
    from bluejay_ws.testing.oracle import AcceptedReport
    from bluejay_ws.testing.platform import FakePlatform


def closing(report: AcceptedReport) -> dict[str, Any]:
    """Return what the closing event says of the connection."""
    event = next(event for event in report.events if event["title"] == "Connection closed")
    metadata: dict[str, Any] = event["metadata"]["bluejay_ws"]
    return metadata


@contextlib.asynccontextmanager
async def agent(handler: Callable[..., Awaitable[Any]], **options: Any) -> AsyncIterator[str]:
    """Serve a handler and give its URL."""
    async with serve(handler, "127.0.0.1", 0, **options) as server:
        yield f"ws://127.0.0.1:{server.sockets[0].getsockname()[1]}"


def tap_in(protocol: ServerProtocol) -> adapter.ProtocolTap:
    """Return what observes a protocol object."""
    found = adapter.tap_of(protocol)
    assert found is not None
    return found


async def call(
    handler: Callable[..., Awaitable[Any]],
    caller: Callable[[ClientConnection], Awaitable[Any]] | None = None,
    *,
    headers: Any = HEADERS,
    **options: Any,
) -> None:
    """Make one call to a handler and end it."""
    async with agent(handler, **options) as url, connect(url, additional_headers=headers) as websocket:
        with contextlib.suppress(ConnectionClosed):
            await (caller or _until_the_end)(websocket)


async def _until_the_end(websocket: ClientConnection) -> None:
    async for _ in websocket:
        pass


@pytest.mark.parametrize("name", BEHAVIOURS)
def test_nobody_can_tell_a_recorded_call_from_a_bare_one(name: str, client: Bluejay, platform: FakePlatform) -> None:
    """Handler and caller see the same of each other with the decorator and without it."""
    bare = asyncio.run(behaviours.run(BEHAVIOURS[name], lambda handler: handler))
    recorded = asyncio.run(behaviours.run(BEHAVIOURS[name], record(client=client)))
    assert recorded == bare
    assert not [counted for counted in client.stats() if counted.startswith("internal_error")]
    report_of(platform)


@pytest.mark.parametrize("name", ["echo of every kind of message", "handler raises"])
def test_without_a_header_the_handler_runs_on_the_untouched_connection(name: str, client: Bluejay) -> None:
    """No id header: the same behaviour, and nothing of ours on the connection."""
    touched: list[bool] = []

    def spy(handler: Callable[..., Any]) -> Callable[..., Any]:
        async def wrapper(websocket: ServerConnection) -> Any:
            touched.append(
                adapter.tap_of(websocket.protocol) is not None or "feed_eof" in vars(websocket.protocol.reader)
            )
            assert current_recorder() is INERT
            return await handler(websocket)

        return record(wrapper, client=client)

    bare = asyncio.run(behaviours.run(BEHAVIOURS[name], lambda handler: handler, headers={}))
    assert asyncio.run(behaviours.run(BEHAVIOURS[name], spy, headers={})) == bare
    assert touched == [False]
    assert client.stats()["recorded"] == 0


def test_a_call_ends_in_one_report(client: Bluejay, platform: FakePlatform) -> None:
    """What the handler recorded arrives, under the id of the header."""

    @record(client=client)
    async def handler(websocket: ServerConnection) -> None:
        current_recorder().agent_said("Hello")
        current_recorder().add_tool_call("freeze", parameters={"last4": "4242"}, output="ok")
        async for _ in websocket:
            pass

    asyncio.run(call(handler, lambda websocket: websocket.close()))
    report = report_of(platform)
    assert report.simulation_result_id == "720488"
    assert [tool["name"] for tool in report.tool_calls] == ["freeze"]
    assert [said["utterance"] for said in report.transcript] == ["Hello"]


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("echo of every kind of message", {"close_code": 4001, "close_reason": "bye", "closed_by": "caller"}),
        ("handler closes with its own code", {"close_code": 4444, "close_reason": "own", "closed_by": "agent"}),
        ("send every way", {"close_code": 1000, "closed_by": "agent", "outcome": "completed"}),
        ("handler raises", {"close_code": 1011, "closed_by": "agent", "outcome": "agent_error"}),
        pytest.param(
            "handler is cancelled",
            {"close_code": 1011, "closed_by": "agent", "outcome": "handler_cancelled"},
            marks=pytest.mark.skipif(not behaviours.NEWER, reason="websockets 13 leaves the connection open"),
        ),
        ("caller drops while the handler waits", {"close_code": 1006, "closed_by": "nobody"}),
    ],
)
def test_the_report_says_how_the_call_ended(
    name: str, expected: dict[str, Any], client: Bluejay, platform: FakePlatform
) -> None:
    """Close code, reason, who closed and the handler's outcome stand in the closing event."""
    asyncio.run(behaviours.run(BEHAVIOURS[name], record(client=client)))
    seen = closing(report_of(platform))
    assert {key: seen.get(key) for key in expected} == expected


def test_the_handlers_exception_is_told_by_its_type_only(client: Bluejay, platform: FakePlatform) -> None:
    """The report names the exception's type; its words stay in the agent's own log."""
    asyncio.run(behaviours.run(BEHAVIOURS["handler raises"], record(client=client)))
    assert closing(report_of(platform))["error"] == "ValueError"
    assert b"broke" not in report_of(platform).body


def test_a_server_shutdown_ends_the_call(client: Bluejay, platform: FakePlatform) -> None:
    """A server that goes away closes with 1001, and the report says so."""

    async def main() -> None:
        @record(client=client)
        async def handler(websocket: ServerConnection) -> None:
            await websocket.wait_closed()

        async with serve(handler, "127.0.0.1", 0) as server:
            url = f"ws://127.0.0.1:{server.sockets[0].getsockname()[1]}"
            async with connect(url, additional_headers=HEADERS) as websocket:
                server.close()
                await websocket.wait_closed()

    asyncio.run(main())
    assert closing(report_of(platform))["close_code"] == 1001


def test_last_words_after_the_close_are_recorded(client: Bluejay, platform: FakePlatform) -> None:
    """A handler may sum the call up after its loop has ended by the caller's hanging up."""

    @record(client=client)
    async def handler(websocket: ServerConnection) -> None:
        async for _ in websocket:
            pass
        await asyncio.sleep(0)
        current_recorder().add_metadata(resolved=True)

    asyncio.run(call(handler, lambda websocket: websocket.close()))
    assert report_of(platform).report["metadata"]["resolved"] is True


def test_a_handler_that_goes_on_after_the_close_does_not_hold_the_report(
    client: Bluejay, platform: FakePlatform
) -> None:
    """The report leaves while the handler is still busy; what it records later is dropped and counted."""

    async def main() -> None:
        delivered = asyncio.Event()

        @record(client=client)
        async def handler(websocket: ServerConnection) -> None:
            with current_recorder().tool_call("slow"):
                await delivered.wait()
            current_recorder().add_event("too late")

        async with agent(handler) as url:
            async with connect(url, additional_headers=HEADERS):
                pass
            await platform.await_for(1)
            delivered.set()

    asyncio.run(main())
    (tool,) = report_of(platform).tool_calls
    assert tool["output"] == {"status": "interrupted"}
    assert client.stats()["dropped.after_close"] == 2


def test_two_calls_at_once_keep_their_facts_apart(client: Bluejay, platform: FakePlatform) -> None:
    """Each tool call lands on the call it was made in."""

    @record(client=client)
    async def handler(websocket: ServerConnection) -> None:
        async for message in websocket:
            await asyncio.sleep(0)
            current_recorder().add_tool_call(str(message))
            await websocket.send(message)

    async def caller(url: str, name: str) -> None:
        headers = {"x-simulation-result-id": name}
        async with connect(url, additional_headers=headers) as websocket:
            for number in range(20):
                await websocket.send(f"{name}-{number}")
                await websocket.recv()

    async def main() -> None:
        async with agent(handler) as url:
            await asyncio.gather(*(caller(url, f"call{number}") for number in range(5)))

    asyncio.run(main())
    for report in platform.wait_for(5):
        names = [tool["name"] for tool in report.tool_calls]
        assert names == [f"{report.simulation_result_id}-{number}" for number in range(20)]


@pytest.mark.parametrize(
    ("headers", "recorded"),
    [
        ([("X-Simulation-Result-Id", "1"), ("X-Simulation-Result-Id", "1")], 1),
        ([("X-Simulation-Result-Id", "1"), ("X-Simulation-Result-Id", "2")], 0),
        ([("X-Simulation-Result-Id", "")], 0),
        ([("X-Simulation-Result-Id", "a b")], 0),
        ([("X-Simulation-Result-Id", "x" * 5000)], 0),
        ([("X-SIMULATION-RESULT-ID", "1")], 1),
        ([("X-Simulation-Result-Id", "1, 1")], 1),
        ([("X-Simulation-Result-Id", "1, 2")], 0),
    ],
)
def test_header_values_name_a_call_only_when_they_agree(
    headers: list[tuple[str, str]], recorded: int, client: Bluejay, caplog: pytest.LogCaptureFixture
) -> None:
    """Equal values count as one; anything else continues unrecorded, with a warning that quotes nothing of it."""

    @record(client=client)
    async def handler(websocket: ServerConnection) -> None:
        await websocket.send("served")

    async def caller(websocket: ClientConnection) -> None:
        assert await websocket.recv() == "served"

    asyncio.run(call(handler, caller, headers=headers))
    assert client.stats()["recorded"] == recorded
    ours = [record.getMessage() for record in caplog.records if record.name == "bluejay_ws" and record.levelno >= 30]
    assert len([line for line in ours if "no usable id" in line]) == 1 - recorded
    assert not any("xxx" in line or "a b" in line for line in ours)


def test_the_frames_are_observed(client: Bluejay, platform: FakePlatform) -> None:
    """Audio both ways and session errors are in the report without any code of the agent's."""

    @record(client=client)
    async def handler(websocket: ServerConnection) -> None:
        await websocket.send([bytes(320), bytes(320)])
        await websocket.send(['{"type": "session.error", "data": ', '{"code": "INTERNAL_ERROR", "message": "x"}}'])
        async for _ in websocket:
            pass

    async def caller(websocket: ClientConnection) -> None:
        await websocket.send(BINARY)
        await websocket.send([BINARY[:100], BINARY[:102], BINARY[:104]])
        await websocket.send(['{"type": "session.error", "data": {"code":', ' "INVALID_MESSAGE", "message": "x"}}'])

    asyncio.run(call(handler, caller))
    report = report_of(platform)
    assert len([event for event in report.events if event["title"].startswith("Session error")]) == 2
    summary = closing(report)
    assert client.stats().get("internal_error.frame", 0) == 0
    assert summary["user_frames"] == 2
    assert summary["agent_frames"] == 1


def test_decorating_twice_records_once(client: Bluejay, platform: FakePlatform) -> None:
    """One connection is one call, however many decorators its handler has."""

    @record(client=client)
    @record(client=client)
    async def handler(websocket: ServerConnection) -> None:
        current_recorder().add_event("once")

    asyncio.run(call(handler))
    client.flush()
    (report,) = platform.accepted
    assert [event["title"] for event in report.events].count("once") == 1


def test_methods_partials_and_objects_can_be_handlers(client: Bluejay, platform: FakePlatform) -> None:
    """The connection is found among the arguments, and the handler stays a coroutine function."""

    class Agent:
        @record(client=client)
        async def method(self, websocket: ServerConnection) -> None:
            current_recorder().add_event("method")

        async def __call__(self, websocket: ServerConnection) -> None:
            current_recorder().add_event("object")

    async def with_more(greeting: str, *, websocket: ServerConnection) -> None:
        current_recorder().add_event(greeting)

    by_keyword = record(with_more, client=client)
    handlers: list[Callable[..., Awaitable[Any]]] = [
        Agent().method,
        record(Agent(), client=client),
        lambda websocket: by_keyword("keyword", websocket=websocket),
        record(functools.partial(Agent.__call__, Agent()), client=client),
    ]
    assert inspect.iscoroutinefunction(handlers[0])
    assert inspect.iscoroutinefunction(handlers[1])
    for number, handler in enumerate(handlers):
        asyncio.run(call(handler, headers={"X-Simulation-Result-Id": str(number)}))
    titles = [report.events[0]["title"] for report in platform.wait_for(4)]
    assert sorted(titles) == ["keyword", "method", "object", "object"]


def test_a_handler_without_a_connection_just_runs(client: Bluejay) -> None:
    """Called with a stand-in, as users' unit tests do, the handler behaves as if it were bare."""

    class StandIn:
        request = None

    @record(client=client)
    async def handler(websocket: Any) -> Any:
        return websocket

    stand_in = StandIn()
    assert asyncio.run(handler(stand_in)) is stand_in
    assert asyncio.run(handler(websocket=None)) is None


def test_the_connection_is_freed_and_looks_as_before_after_the_call(client: Bluejay, platform: FakePlatform) -> None:
    """At the end the protocol object has its own class back, and nothing of ours keeps it alive."""
    kept: list[Any] = []

    @record(client=client)
    async def handler(websocket: ServerConnection) -> None:
        kept.append((weakref.ref(websocket), weakref.ref(websocket.protocol), type(websocket.protocol)))

    asyncio.run(call(handler))
    report_of(platform)
    gc.collect()
    websocket, protocol, kind = kept[0]
    assert websocket() is None
    assert protocol() is None
    assert kind.__name__ == "ServerProtocol"
    assert kind.__module__ == "websockets.server"


def test_a_protocol_that_cannot_be_observed_is_recorded_without_its_frames(
    client: Bluejay, platform: FakePlatform
) -> None:
    """Where the frames cannot be seen, the call continues, is recorded, and ends with its handler."""

    class Guarded(StreamReader):
        def __setattr__(self, name: str, value: Any) -> None:
            if name == "feed_eof":
                raise AttributeError(name)
            super().__setattr__(name, value)

    class Stubborn(ServerConnection):
        def __init__(self, protocol: ServerProtocol, *args: Any, **kwargs: Any) -> None:
            protocol.reader.__class__ = Guarded
            super().__init__(protocol, *args, **kwargs)

    @record(client=client)
    async def handler(websocket: ServerConnection) -> None:
        current_recorder().add_event("recorded")

    asyncio.run(call(handler, create_connection=Stubborn))
    assert report_of(platform).events[0]["title"] == "recorded"
    assert client.stats()["internal_error.attach"] == 1


def test_an_error_on_the_frame_path_is_counted_and_the_frame_passes(
    client: Bluejay, platform: FakePlatform, caplog: pytest.LogCaptureFixture
) -> None:
    """An observer that breaks costs its observations, never a frame."""

    class Broken:
        def __getattr__(self, name: str) -> Any:
            message = "quotes the caller"
            raise RuntimeError(message)

    @record(client=client)
    async def handler(websocket: ServerConnection) -> None:
        tap_in(websocket.protocol).observer = Broken()  # type: ignore[assignment]
        async for message in websocket:
            await websocket.send(message)
            await websocket.send("text")

    async def caller(websocket: ClientConnection) -> None:
        await websocket.send(BINARY)
        assert [await websocket.recv(), await websocket.recv()] == [BINARY, "text"]

    asyncio.run(call(handler, caller))
    report_of(platform)
    assert client.stats()["internal_error.frame"] == 3
    assert "quotes" not in caplog.text


# -- ids that come late ---------------------------------------------------------------------------------------------

START = '{"event": "start", "start": {"customParameters": {"X-Simulation-Result-Id": "720488"}}}'


def test_an_id_in_the_query_names_the_call(client: Bluejay, platform: FakePlatform) -> None:
    """Where it is declared, the request's query stands in for the header; the header comes first."""

    @record(client=client, id_from=("header", "query"))
    async def handler(websocket: ServerConnection) -> None:
        current_recorder().add_event("served")

    async def main() -> None:
        async with agent(handler) as url:
            async with connect(f"{url}/agent?simulation_result_id=1"):
                pass
            async with connect(f"{url}/agent?simulation_result_id=2", additional_headers=HEADERS):
                pass
            async with connect(f"{url}/agent"):
                pass

    asyncio.run(main())
    assert sorted(report.simulation_result_id for report in platform.wait_for(2)) == ["1", "720488"]
    assert client.stats()["recorded"] == 2


def test_an_id_in_a_carriers_first_messages_names_the_call(client: Bluejay, platform: FakePlatform) -> None:
    """Offsets count from connect, and what was recorded before the id is kept."""

    @record(client=client, id_from=("header", "message"))
    async def handler(websocket: ServerConnection) -> None:
        current_recorder().add_event("before the id")
        async for message in websocket:
            current_recorder().add_event(str(message)[:9])

    async def caller(websocket: ClientConnection) -> None:
        await websocket.send("connected")
        await asyncio.sleep(0.05)
        await websocket.send([START[:20], START[20:]])

    asyncio.run(call(handler, caller, headers={}))
    report = report_of(platform)
    assert report.simulation_result_id == "720488"
    assert [event["title"] for event in report.events[:3]] == ["before the id", "connected", '{"event":']
    assert report.events[2]["start_offset_ms"] - report.events[0]["start_offset_ms"] >= 45


def test_a_call_that_never_gets_an_id_sends_nothing(client: Bluejay, platform: FakePlatform, tmp_path: Path) -> None:
    """After its first text messages a connection without id is no simulation: nothing is kept, nothing is on disk."""
    kept: list[int] = []

    @record(client=client, id_from=("message",))
    async def handler(websocket: ServerConnection) -> None:
        async for message in websocket:
            current_recorder().add_event("e")
            kept.append(len(current_recorder().bodies))
            await websocket.send(message)

    async def caller(websocket: ClientConnection) -> None:
        for _ in range(MESSAGES + 2):
            await websocket.send('{"no": "id"}')
            await websocket.recv()

    asyncio.run(call(handler, caller, headers={}))
    assert client.flush()
    assert kept[-3:] == [0, 0, 0]
    assert client.stats()["recorded"] == 0
    assert platform.requests == []
    assert not [path for path in (tmp_path / "spool").rglob("*") if path.suffix in {".live", ".ready"}]


def test_a_connection_that_ends_before_its_id_came_sends_nothing(client: Bluejay, platform: FakePlatform) -> None:
    """A short connection without id is counted and forgotten."""

    @record(client=client, id_from=("message",))
    async def handler(websocket: ServerConnection) -> None:
        current_recorder().add_event("e")

    asyncio.run(call(handler, headers={}))
    assert client.flush()
    assert client.stats()["dropped.never_bound"] == 1
    assert platform.requests == []


# -- threads --------------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def sync_agent(handler: Callable[[SyncServerConnection], Any]) -> Iterator[str]:
    """Serve a handler on threads and give its URL."""
    with sync_serve(handler, "127.0.0.1", 0) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"ws://127.0.0.1:{server.socket.getsockname()[1]}"
        server.shutdown()
        thread.join()


def test_a_threaded_handler_is_recorded(client: Bluejay, platform: FakePlatform) -> None:
    """`websockets.sync` handlers get the same: recorder, frames, close code, report."""

    @record(client=client)
    def handler(websocket: SyncServerConnection) -> None:
        for message in websocket:
            current_recorder().add_tool_call("echo")
            websocket.send(message)
            websocket.send(["frag", "ments"])

    with sync_agent(handler) as url, sync_connect(url, additional_headers=HEADERS) as websocket:
        for message in (BINARY, "text"):
            websocket.send(message)
            assert [websocket.recv(), websocket.recv()] == [message, "fragments"]
        websocket.close(4001, "bye")
    report = report_of(platform)
    assert [tool["name"] for tool in report.tool_calls] == ["echo", "echo"]
    seen = closing(report)
    assert (seen["close_code"], seen["closed_by"], seen["agent_frames"]) == (4001, "caller", 1)


def test_a_threaded_handler_that_fails_fails_as_before(client: Bluejay, platform: FakePlatform) -> None:
    """The exception continues to the server, which closes with 1011, and the report says so."""

    @record(client=client)
    def handler(websocket: SyncServerConnection) -> None:
        raise ValueError("broke")

    logging.getLogger("websockets.server").setLevel(logging.CRITICAL)
    dial = functools.partial(sync_connect, additional_headers=HEADERS)
    with sync_agent(handler) as url, dial(url) as websocket, pytest.raises(ConnectionClosed):
        websocket.recv()
    seen = closing(report_of(platform))
    assert (seen["close_code"], seen["outcome"]) == (1011, "agent_error")


def test_a_threaded_handler_without_a_header_is_untouched(client: Bluejay) -> None:
    """No id header, no recorder, on threads as well."""

    @record(client=client)
    def handler(websocket: SyncServerConnection) -> None:
        websocket.send(str(current_recorder() is INERT))
        websocket.recv()

    with sync_agent(handler) as url, sync_connect(url) as websocket:
        assert websocket.recv() == "True"
        websocket.send("seen")
    assert client.stats()["recorded"] == 0


def test_a_busy_threaded_handler_does_not_hold_the_report(client: Bluejay, platform: FakePlatform) -> None:
    """After the caller has gone the report leaves while the handler's thread still works."""
    delivered = threading.Event()

    @record(client=client)
    def handler(websocket: SyncServerConnection) -> None:
        delivered.wait(30)

    with sync_agent(handler) as url:
        with sync_connect(url, additional_headers=HEADERS):
            pass
        report_of(platform)
        delivered.set()


@pytest.mark.skipif(not behaviours.NEWER, reason="websockets 13 has no queue: its reader waits for the handler")
def test_frames_that_came_before_a_threaded_handler_are_counted(client: Bluejay, platform: FakePlatform) -> None:
    """The reading thread runs ahead of the handler: its frames are observed and still delivered in order."""
    connected = threading.Event()
    sent = threading.Event()
    inner_entered = threading.Event()

    @record(client=client)
    def recorded(websocket: SyncServerConnection) -> None:
        inner_entered.set()
        assert [websocket.recv() for _ in range(3)] == [BINARY, "text", b"ab"]

    def handler(websocket: SyncServerConnection) -> None:
        connected.set()
        sent.wait(30)
        while websocket.recv_messages.frames.qsize() < 3:
            pass
        recorded(websocket)

    with sync_agent(handler) as url, sync_connect(url, additional_headers=HEADERS) as websocket:
        connected.wait(30)
        for message in (BINARY, "text", b"ab"):
            websocket.send(message)
        sent.set()
        inner_entered.wait(30)
    assert closing(report_of(platform))["user_frames"] == 2


def test_a_connection_that_ended_before_its_threaded_handler_is_reported(
    client: Bluejay, platform: FakePlatform
) -> None:
    """The end that is past already when the handler begins is not waited for."""
    recorded = record(lambda websocket: None, client=client)

    def handler(websocket: SyncServerConnection) -> None:
        websocket.recv_events_thread.join(30)
        recorded(websocket)

    with sync_agent(handler) as url, sync_connect(url, additional_headers=HEADERS):
        pass
    assert closing(report_of(platform))["close_code"] == 1000


@pytest.mark.skipif(not behaviours.NEWER, reason="websockets 13 has no queue: its reader waits for the handler")
def test_what_came_before_the_end_is_still_recorded_after_it(client: Bluejay, platform: FakePlatform) -> None:
    """A threaded handler that begins late reads the messages that are left, and records what it makes of them."""

    @record(client=client)
    def recorded(websocket: SyncServerConnection) -> None:
        for _ in websocket:
            current_recorder().add_tool_call("late")

    def handler(websocket: SyncServerConnection) -> None:
        websocket.recv_events_thread.join(30)
        recorded(websocket)

    with sync_agent(handler) as url, sync_connect(url, additional_headers=HEADERS) as websocket:
        websocket.send("text")
    report = report_of(platform)
    assert [tool["name"] for tool in report.tool_calls] == ["late"]
    assert (closing(report)["close_code"], closing(report)["outcome"]) == (1000, "completed")


def test_only_server_connections_are_calls() -> None:
    """A connection without request, such as a stand-in, is no call."""

    class NoRequest:
        request = None

    assert adapter.open_call(NoRequest(), lambda: pytest.fail("no client is needed")) is None


# -- trio -----------------------------------------------------------------------------------------------------------

trio = pytest.importorskip("trio")


@pytest.mark.skipif(not behaviours.HAS_TRIO, reason="this release of websockets has no trio server")
def test_a_trio_handler_is_recorded(client: Bluejay, platform: FakePlatform, monkeypatch: pytest.MonkeyPatch) -> None:
    """`websockets.trio` handlers get the same: recorder, frames, close code, report, grace for last words."""
    monkeypatch.setattr("bluejay_ws.call.GRACE", 30.0)  # nobody waits for it: the report leaves when both are over
    from websockets.trio.client import connect as trio_connect
    from websockets.trio.server import serve as trio_serve

    @record(client=client)
    async def handler(websocket: Any) -> None:
        async for message in websocket:
            current_recorder().add_tool_call("echo")
            await websocket.send(message)
        await trio.sleep(0.01)
        current_recorder().add_event("last words")

    async def main() -> None:
        async with trio.open_nursery() as nursery:
            serving = functools.partial(trio_serve, handler, 0, host="127.0.0.1")
            server = await nursery.start(serving)
            url = f"ws://127.0.0.1:{server.listeners[0].socket.getsockname()[1]}"
            async with trio_connect(url, additional_headers=HEADERS) as websocket:
                for message in (BINARY, "text"):
                    await websocket.send(message)
                    assert await websocket.recv() == message
                await websocket.aclose()
            await trio.to_thread.run_sync(report_of, platform)
            nursery.cancel_scope.cancel()

    trio.run(main)
    report = report_of(platform)
    assert [tool["name"] for tool in report.tool_calls] == ["echo", "echo"]
    assert "last words" in [event["title"] for event in report.events]
    seen = closing(report)
    assert (seen["close_code"], seen["closed_by"], seen["user_frames"], seen["agent_frames"]) == (1000, "caller", 1, 1)


# -- the protocol object by hand: what no server can be made to do at will -------------------------------------------


class Late(ServerProtocol):
    """A protocol object that knows its close code only after the second end of its data."""

    ends = 0

    def receive_eof(self) -> None:
        self.ends += 1
        if self.ends > 1:
            super().receive_eof()


class Wire:
    """A connection whose protocol object is driven by the test."""

    __module__ = "websockets.asyncio.server"
    loop = None

    def __init__(self, protocol: ServerProtocol) -> None:
        self.protocol = protocol
        self.request = Request("/", Headers(HEADERS))


def wired(client: Bluejay, protocol: ServerProtocol) -> Call:
    """Return the call of a protocol object."""
    call = adapter.open_call(Wire(protocol), lambda: client)
    assert call is not None
    return call


def test_the_end_is_where_the_close_code_is_known(client: Bluejay, platform: FakePlatform) -> None:
    """An end of data before that is not the end of the call."""
    protocol = Late(state=State.OPEN)
    call = wired(client, protocol)
    protocol.receive_eof()
    assert not call.ended
    protocol.receive_eof()
    assert call.ended
    assert closing(report_of(platform))["close_code"] == 1006


def test_an_end_that_is_told_again_is_ignored(client: Bluejay, platform: FakePlatform) -> None:
    """A method that another thread was inside of when the call ended finds nothing to tell."""
    protocol = ServerProtocol(state=State.OPEN)
    call = wired(client, protocol)
    tap = tap_in(protocol)
    protocol.receive_eof()
    tap.closed()
    tap.let_go()
    assert call.ended
    report_of(platform)
    assert "internal_error.frame" not in client.stats()


def test_a_fragment_whose_beginning_was_not_seen_is_passed_on(client: Bluejay, platform: FakePlatform) -> None:
    """A handler may be recorded in the middle of a message; its rest is no message."""
    protocol = ServerProtocol(state=State.OPEN)
    protocol.send_text(b"be", fin=False)
    wired(client, protocol)
    protocol.send_continuation(b"ginning", fin=True)
    assert b"".join(protocol.data_to_send()).endswith(b"ginning")
    protocol.receive_eof()
    assert closing(report_of(platform))["agent_frames"] == 0
    assert "internal_error.frame" not in client.stats()


def test_a_text_in_endless_fragments_is_not_kept(client: Bluejay) -> None:
    """Its size is counted; of its words no more is kept than an event of the protocol can have."""
    protocol = ServerProtocol(state=State.OPEN)
    wired(client, protocol)
    protocol.send_text(b"x" * 40_000, fin=False)
    for _ in range(5):
        protocol.send_continuation(b"x" * 40_000, fin=False)
    fragments = tap_in(protocol).agent_fragments
    assert fragments is not None
    assert (fragments.size, len(fragments.data())) == (240_000, 40_000)
    protocol.receive_eof()


def test_after_the_end_the_protocol_object_is_what_it_was(client: Bluejay) -> None:
    """Nothing of ours is in it: a server may keep it for as long as it likes."""
    protocol = ServerProtocol(state=State.OPEN)
    before, reader_before = set(vars(protocol)), set(vars(protocol.reader))
    wired(client, protocol)
    assert protocol.extensions
    protocol.receive_eof()
    assert protocol.extensions == []
    assert (set(vars(protocol)), set(vars(protocol.reader))) == (before, reader_before)


def test_without_a_header_there_is_not_even_a_client() -> None:
    """An agent that is never simulated makes no spool, reads no environment and gets no warning."""
    wire = Wire(ServerProtocol(state=State.OPEN))
    wire.request = Request("/", Headers())

    def client() -> Bluejay:
        raise AssertionError("nobody needs a client here")

    assert adapter.open_call(wire, client) is None
    assert type(wire.protocol) is ServerProtocol


class Unreadable(ServerProtocol):
    """A protocol object that cannot say who closed."""

    @property
    def close_rcvd_then_sent(self) -> bool | None:
        raise RuntimeError("quotes the caller")

    @close_rcvd_then_sent.setter
    def close_rcvd_then_sent(self, value: bool | None) -> None:
        """Take it and say nothing."""


def test_an_end_that_cannot_be_read_ends_the_call(client: Bluejay, platform: FakePlatform) -> None:
    """The report says less of it, and leaves."""
    protocol = Unreadable(state=State.OPEN)
    call = wired(client, protocol)
    protocol.receive_eof()
    assert call.ended
    assert client.stats()["internal_error.close"] == 1
    assert "close_code" not in closing(report_of(platform))


def test_a_frame_after_the_end_finds_nothing_to_tell(client: Bluejay, platform: FakePlatform) -> None:
    """Another thread may be inside of a method when the call ends: what it tells has nobody to hear it."""
    protocol = ServerProtocol(state=State.OPEN)
    wired(client, protocol)
    tap = tap_in(protocol)
    tap.call.end()
    frame = Frame(Opcode.TEXT, b"text")
    assert tap.encode(frame) is frame
    assert tap.decode(frame) is frame
    report_of(platform)
    assert "internal_error.frame" not in client.stats()


@pytest.mark.skipif(not behaviours.HAS_TRIO, reason="this release of websockets has no trio server")
def test_frames_that_came_before_a_trio_handler_are_seen(client: Bluejay, platform: FakePlatform) -> None:
    """Its reader runs ahead of it too; the message that names the call may be among them."""
    from websockets.trio.client import connect as trio_connect
    from websockets.trio.server import serve as trio_serve

    @record(client=client, id_from=("message",))
    async def recorded(websocket: Any) -> None:
        begun.set()
        async for _ in websocket:
            pass

    async def handler(websocket: Any) -> None:
        while websocket.recv_messages.recv_frames.statistics().current_buffer_used < 2:
            await trio.sleep(0.001)
        await recorded(websocket)

    async def main() -> None:
        async with trio.open_nursery() as nursery:
            server = await nursery.start(functools.partial(trio_serve, handler, 0, host="127.0.0.1"))
            port = server.listeners[0].socket.getsockname()[1]
            async with trio_connect(f"ws://127.0.0.1:{port}") as websocket:
                await websocket.send('{"start":{"customParameters":{"X-Simulation-Result-Id":"720488"}}}')
                await websocket.send(BINARY)
                await begun.wait()
            await trio.to_thread.run_sync(report_of, platform)
            nursery.cancel_scope.cancel()

    begun = trio.Event()
    trio.run(main)
    assert closing(report_of(platform))["user_frames"] == 1
