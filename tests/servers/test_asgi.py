"""The ASGI middleware: the application and its peer never notice, and the report is right."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import json
import time
import weakref
from typing import TYPE_CHECKING, Any

import anyio
import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, ConnectionClosedOK
from websockets.frames import Close
from websockets.typing import Subprotocol

from bluejay_ws import Bluejay, current_recorder
from bluejay_ws import client as client_module
from bluejay_ws.current import INERT
from bluejay_ws.servers.asgi import SCOPE_KEY, BluejayMiddleware, _behind
from tests.servers.asgi_server import HEADERS, WS, Peer, audio, hang_up, refusal, text, uvicorn_server, websocket_scope
from tests.support import report_of

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, MutableMapping
    from pathlib import Path

    from bluejay_ws.testing.platform import FakePlatform

Notes = list[Any]
on_asyncio = pytest.mark.parametrize("anyio_backend", ["asyncio"])  # uvicorn knows no other loop


def closing(platform: FakePlatform) -> dict[str, Any]:
    """Return what the closing event of the one report says."""
    facts: dict[str, Any] = report_of(platform).report["events"][-1]["metadata"]["bluejay_ws"]
    return facts


async def echo(scope: Any, receive: Any, send: Any) -> None:
    """Accept, echo everything, end when the peer does."""
    assert (await receive())["type"] == "websocket.connect"
    await send({"type": "websocket.accept", "subprotocol": None, "headers": []})
    while (message := await receive())["type"] != "websocket.disconnect":
        await send({"type": "websocket.send", "bytes": message.get("bytes"), "text": message.get("text")})


# -- what it records ---------------------------------------------------------------------------------------------------


@pytest.mark.anyio
async def test_a_call_ends_in_a_report_with_its_facts(platform: FakePlatform, client: Bluejay) -> None:
    """Frames both ways, tool calls of the application, the caller's close code and reason; on asyncio and trio."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        current_recorder().add_tool_call("lookup", parameters={"id": 7}, output="found")
        await echo(scope, receive, send)

    mark = '{"type": "mark", "data": {"name": "m"}}'
    peer = Peer(audio(), audio(3), text(mark), text("no json"), hang_up(4001, "bye"))
    await BluejayMiddleware(app, client)(websocket_scope("720488"), peer.receive, peer.send)
    assert [call["name"] for call in report_of(platform).report["tool_calls"]] == ["lookup"]
    facts = closing(platform)
    assert (facts["close_code"], facts["close_reason"], facts["closed_by"]) == (4001, "bye", "caller")
    assert (facts["server"], facts["outcome"]) == ("asgi", "completed")
    assert (facts["user_frames"], facts["agent_frames"], facts["invalid_frames"]) == (1, 1, 2)
    assert (facts["marks_sent"], facts["marks_echoed"], facts["unreadable_text_frames"]) == (1, 1, 2)
    assert current_recorder() is INERT


@pytest.mark.anyio
async def test_offsets_count_from_the_end_of_the_handshake(platform: FakePlatform, client: Bluejay) -> None:
    """What the application does before it accepts does not shift the call."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await anyio.sleep(0.05)
        before = time.monotonic()
        await send({"type": "websocket.accept"})
        current_recorder().add_event("accepted")
        passed.append((time.monotonic() - before) * 1000)
        await receive()

    passed: list[float] = []

    peer = Peer(hang_up())
    await BluejayMiddleware(app, client)(websocket_scope("720488"), peer.receive, peer.send)
    assert report_of(platform).report["events"][0]["start_offset_ms"] <= passed[0] + 1


@pytest.mark.parametrize(
    ("message", "seen", "by", "outcome"),
    [
        (hang_up(1000, None), 1000, "caller", "completed"),
        (hang_up(None, ""), 1005, "caller", "completed"),
        ({"type": "websocket.disconnect", "code": 1005}, 1006, "nobody", "connection_lost"),
        (hang_up(1006, ""), 1006, "nobody", "connection_lost"),
        (hang_up(1012, None), 1012, "agent", "server_shutdown"),
    ],
)
@pytest.mark.anyio
async def test_the_end_is_told_as_far_as_servers_tell_it(
    platform: FakePlatform, client: Bluejay, message: dict[str, Any], seen: int, by: str, outcome: str
) -> None:
    """A 1005 without a reason is uvicorn's word for a drop; 1012 is the server shutting down."""
    peer = Peer(message)
    await BluejayMiddleware(echo, client)(websocket_scope("720488"), peer.receive, peer.send)
    facts = closing(platform)
    assert (facts["close_code"], facts["close_reason"], facts["closed_by"]) == (seen, "", by)
    assert facts["outcome"] == outcome


@pytest.mark.anyio
async def test_a_close_of_the_application_is_the_agents(platform: FakePlatform, client: Bluejay) -> None:
    """The first close counts, and what the server says afterwards does not."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send({"type": "websocket.accept"})
        await send({"type": "websocket.send", "bytes": None, "text": "goodbye"})
        await send({"type": "websocket.close", "code": 4444, "reason": "done"})
        await receive()

    peer = Peer(hang_up(1006))
    await BluejayMiddleware(app, client)(websocket_scope("720488"), peer.receive, peer.send)
    facts = closing(platform)
    assert (facts["close_code"], facts["close_reason"], facts["closed_by"]) == (4444, "done", "agent")


@pytest.mark.anyio
async def test_an_application_that_just_returns_leaves_the_code_to_its_server(
    platform: FakePlatform, client: Bluejay
) -> None:
    """No code is claimed where none was seen."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send({"type": "websocket.accept"})

    peer = Peer()
    await BluejayMiddleware(app, client)(websocket_scope("720488"), peer.receive, peer.send)
    facts = closing(platform)
    assert facts["closed_by"] == "agent"
    assert "close_code" not in facts


@pytest.mark.anyio
async def test_an_error_of_the_application_passes_and_is_noted(platform: FakePlatform, client: Bluejay) -> None:
    """The very exception arrives at the server, with its cause."""
    error = ValueError("broke")

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send({"type": "websocket.accept"})
        raise error from KeyError("cause")

    peer = Peer()
    with pytest.raises(ValueError, match="broke") as caught:
        await BluejayMiddleware(app, client)(websocket_scope("720488"), peer.receive, peer.send)
    assert caught.value is error
    assert isinstance(error.__cause__, KeyError)
    facts = closing(platform)
    assert (facts["outcome"], facts["error"]) == ("agent_error", "ValueError")
    assert current_recorder() is INERT


@pytest.mark.anyio
async def test_a_send_to_nobody_ends_the_call(platform: FakePlatform, client: Bluejay) -> None:
    """An OSError of the server's send means that the caller is gone; other errors say nothing about it."""

    class Gone(Peer):
        async def send(self, message: MutableMapping[str, Any]) -> None:
            if message["type"] == "websocket.send":
                raise ConnectionResetError if message["bytes"] else RuntimeError
            await super().send(message)

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send({"type": "websocket.accept"})
        with pytest.raises(RuntimeError):
            await send({"type": "websocket.send", "bytes": b""})
        current_recorder().add_event("still there")
        with pytest.raises(ConnectionResetError):
            await send({"type": "websocket.send", "bytes": bytes(640)})

    peer = Gone()
    await BluejayMiddleware(app, client)(websocket_scope("720488"), peer.receive, peer.send)
    facts = closing(platform)
    assert (facts["close_code"], facts["closed_by"], facts["agent_frames"]) == (1006, "nobody", 0)
    assert len(report_of(platform).report["events"]) == 2


@pytest.mark.anyio
async def test_a_send_after_the_callers_close_names_that(platform: FakePlatform, client: Bluejay) -> None:
    """Older servers raise the same for a loss and a close; what it came from says which it was."""

    class Closed(Peer):
        async def send(self, message: MutableMapping[str, Any]) -> None:
            if message["type"] == "websocket.send":
                raise ConnectionAbortedError from ConnectionClosedOK(
                    Close(4001, "bye"), Close(4001, "bye"), rcvd_then_sent=True
                )
            await super().send(message)

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send({"type": "websocket.accept"})
        with pytest.raises(ConnectionAbortedError):
            await send({"type": "websocket.send", "bytes": bytes(640)})

    peer = Closed()
    await BluejayMiddleware(app, client)(websocket_scope("720488"), peer.receive, peer.send)
    facts = closing(platform)
    assert (facts["outcome"], facts["close_code"], facts["closed_by"]) == ("completed", 4001, "caller")


@pytest.mark.parametrize("hidden", [0, 3, 40])
def test_a_server_is_found_behind_what_frameworks_put_in_front_of_it(hidden: int) -> None:
    """Behind a few closures, that is; who puts forty in front of it hides it."""

    def in_front(receive: Any) -> Any:
        return lambda message=None: receive(message)

    peer = Peer()
    receive: Any = peer.receive
    for _ in range(hidden):
        receive = in_front(receive)
    assert _behind(receive, "receive") is (peer if hidden < 16 else None)


@pytest.mark.anyio
async def test_an_application_that_goes_on_after_the_end_is_not_waited_for(
    platform: FakePlatform, client: Bluejay
) -> None:
    """The report leaves soon after the close; what is recorded later is counted, not sent."""
    done = anyio.Event()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await echo(scope, receive, send)
        current_recorder().add_tool_call("last words")
        with anyio.fail_after(10):
            while not platform.accepted:
                await anyio.sleep(0.01)
        current_recorder().add_tool_call("too late")
        done.set()

    peer = Peer(hang_up())
    await BluejayMiddleware(app, client)(websocket_scope("720488"), peer.receive, peer.send)
    assert done.is_set()
    assert [call["name"] for call in report_of(platform).report["tool_calls"]] == ["last words"]


@pytest.mark.anyio
async def test_a_cancelled_application_is_noted_and_cancelled(platform: FakePlatform, client: Bluejay) -> None:
    """Servers cancel what is still running at their shutdown."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send({"type": "websocket.accept"})
        scope_of_the_server.cancel()
        await anyio.sleep(10)

    peer = Peer()
    with anyio.CancelScope() as scope_of_the_server:
        await BluejayMiddleware(app, client)(websocket_scope("720488"), peer.receive, peer.send)
    assert scope_of_the_server.cancelled_caught
    assert closing(platform)["outcome"] == "handler_cancelled"


# -- what never became a call ------------------------------------------------------------------------------------------


async def _refuse(scope: Any, receive: Any, send: Any) -> None:
    await receive()
    await send({"type": "websocket.close", "code": 1000})


async def _deny(scope: Any, receive: Any, send: Any) -> None:
    await receive()
    await send({"type": "websocket.http.response.start", "status": 401, "headers": []})
    await send({"type": "websocket.http.response.body", "body": b"no"})


async def _wait_in_vain(scope: Any, receive: Any, send: Any) -> None:
    await receive()
    assert (await receive())["type"] == "websocket.disconnect"
    raise RuntimeError("gone before it was accepted")


async def _ignore(scope: Any, receive: Any, send: Any) -> None:
    await receive()


async def _hang(scope: Any, receive: Any, send: Any) -> None:
    await receive()
    await anyio.sleep(10)


@pytest.mark.parametrize("app", [_refuse, _deny, _wait_in_vain, _ignore, _hang])
@pytest.mark.anyio
async def test_a_connection_that_was_never_accepted_leaves_no_report(
    platform: FakePlatform, client: Bluejay, app: Any
) -> None:
    """Refused, denied with a response, left by the caller, ignored, cancelled: there was no call."""
    peer = Peer(hang_up())
    with contextlib.suppress(RuntimeError), anyio.move_on_after(0.05):
        await BluejayMiddleware(app, client)(websocket_scope("720488"), peer.receive, peer.send)
    assert client.flush()
    assert platform.accepted == []
    assert client.stats()["dropped.refused"] == 1
    assert client.stats()["live"] == 0


@pytest.mark.anyio
async def test_an_application_that_crashes_before_it_accepts_leaves_a_report_that_says_so(
    platform: FakePlatform, client: Bluejay
) -> None:
    """The platform's run fails for a reason, and the report has it."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        raise LookupError("no model")

    peer = Peer()
    with pytest.raises(LookupError):
        await BluejayMiddleware(app, client)(websocket_scope("720488"), peer.receive, peer.send)
    facts = closing(platform)
    assert (facts["accepted"], facts["outcome"], facts["error"]) == (False, "agent_error", "LookupError")


# -- what it lets through ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("scope", [{"type": "http"}, {"type": "other"}, websocket_scope(), {"type": "websocket"}])
@pytest.mark.anyio
async def test_everything_else_passes_untouched(scope: dict[str, Any]) -> None:
    """Other scopes and websockets without the header get the server's own receive and send; no client is made."""
    seen: Notes = []

    async def app(*args: Any) -> None:
        seen.extend(args)

    peer = Peer()
    receive, send = peer.receive, peer.send
    await BluejayMiddleware(app)(scope, receive, send)
    assert seen[0] is scope
    assert seen[1:] == [receive, send]
    assert SCOPE_KEY not in scope


@pytest.mark.parametrize("values", [("",), ("720488", "720489"), ("7 20488",), ("7" * 300,), ("\x1b[31m",)])
@pytest.mark.anyio
async def test_a_header_that_is_no_id_leaves_the_call_unrecorded(client: Bluejay, values: tuple[str, ...]) -> None:
    """One warning, and the application gets what the server gave."""
    seen: Notes = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        seen.extend([receive, current_recorder()])

    peer = Peer()
    receive = peer.receive
    await BluejayMiddleware(app, client)(websocket_scope(*values), receive, peer.send)
    assert seen == [receive, INERT]
    assert client.stats()["dropped.no_usable_id"] == 1


@pytest.mark.anyio
async def test_a_client_that_cannot_be_made_leaves_the_call_unrecorded(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A wrong setting in the environment is said in the log, and the call continues."""
    monkeypatch.setenv("BLUEJAY_API_URL", "http://far.example")
    monkeypatch.setattr("bluejay_ws.client._default", None)
    peer = Peer(hang_up())
    await BluejayMiddleware(echo)(websocket_scope("720488"), peer.receive, peer.send)
    assert [record.message for record in caplog.records if "BLUEJAY_API_URL" in record.message]


@pytest.mark.anyio
async def test_a_repeated_header_in_any_case_is_one_id(platform: FakePlatform, client: Bluejay) -> None:
    """Proxies repeat headers, and not every server lowers their names."""
    peer, scope = Peer(hang_up()), websocket_scope("720488", "720488")
    scope["headers"].append((b"X-Simulation-Result-ID", b"720488"))
    await BluejayMiddleware(echo, client)(scope, peer.receive, peer.send)
    assert report_of(platform).simulation_result_id == "720488"


@pytest.mark.anyio
async def test_two_middlewares_record_once(platform: FakePlatform, client: Bluejay) -> None:
    """The outer one has the call; the inner one lets it through."""
    peer = Peer(audio(), hang_up())
    app = BluejayMiddleware(BluejayMiddleware(echo, client), client)
    await app(websocket_scope("720488"), peer.receive, peer.send)
    assert closing(platform)["user_frames"] == 1
    assert client.stats()["recorded"] == 1


@pytest.mark.anyio
async def test_an_error_of_ours_on_the_frame_path_reaches_nobody(platform: FakePlatform, client: Bluejay) -> None:
    """Messages of a shape that no server sends are passed on as they are, and counted."""
    odd = {"type": "websocket.receive", "bytes": 7}
    seen: Notes = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send({"type": "websocket.accept"})
        seen.append(await receive())
        await send({"type": "websocket.nonsense"})
        await send({"type": "websocket.send", "bytes": 7})
        await receive()

    peer = Peer(odd, hang_up())
    await BluejayMiddleware(app, client)(websocket_scope("720488"), peer.receive, peer.send)
    assert seen == [odd]
    assert peer.sent[-1] == {"type": "websocket.send", "bytes": 7}
    assert client.stats()["internal_error.frame"] == 2
    assert closing(platform)["close_code"] == 1000


@pytest.mark.anyio
async def test_nothing_is_kept_of_a_connection_that_is_over(client: Bluejay) -> None:
    """Without the garbage collector's help what the server made for the connection is gone with it."""
    peer = Peer(audio(), hang_up())
    gone = weakref.ref(peer)
    gc.disable()
    try:
        await BluejayMiddleware(echo, client)(websocket_scope("720488"), peer.receive, peer.send)
        del peer
        assert gone() is None
    finally:
        gc.enable()


# -- where the id stands -----------------------------------------------------------------------------------------------


@pytest.mark.anyio
async def test_the_id_may_stand_in_the_query(platform: FakePlatform, client: Bluejay) -> None:
    """Where the application was told to look there."""
    peer = Peer(hang_up())
    app = BluejayMiddleware(echo, client, id_from=("header", "query"))
    await app(websocket_scope(query_string=b"a=b&simulation-result-id=720488"), peer.receive, peer.send)
    assert report_of(platform).simulation_result_id == "720488"


@pytest.mark.anyio
async def test_the_id_may_come_in_the_first_message(platform: FakePlatform, client: Bluejay) -> None:
    """What was recorded before it is kept."""
    start = json.dumps({"event": "start", "start": {"customParameters": {"simulation_result_id": "720488"}}})
    peer = Peer(audio(), text("{}"), text(start), hang_up())
    app = BluejayMiddleware(echo, client, id_from=("message",))
    await app(websocket_scope(), peer.receive, peer.send)
    assert report_of(platform).simulation_result_id == "720488"
    assert closing(platform)["user_frames"] == 1


def test_an_unknown_place_for_the_id_is_refused() -> None:
    """At configuration time, by name."""
    with pytest.raises(ValueError, match="id_from"):
        BluejayMiddleware(echo, id_from=("cookie",))  # type: ignore[arg-type]


# -- the lifespan ------------------------------------------------------------------------------------------------------


class Lifespan:
    """An application that only has a lifespan, and the server's side of it."""

    def __init__(self, *ends: str) -> None:
        self.ends = ends
        self.sent: list[str] = []
        self.seen: list[int] = []

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "lifespan.startup.complete"})
        for end in self.ends:
            await send({"type": end})

    async def send(self, message: MutableMapping[str, Any]) -> None:
        self.sent.append(message["type"])


@pytest.mark.parametrize("end", ["lifespan.shutdown.complete", "lifespan.shutdown.failed"])
@pytest.mark.anyio
async def test_a_shutdown_is_complete_when_the_reports_are_delivered(
    platform: FakePlatform, client: Bluejay, end: str
) -> None:
    """The server hears of the end of the shutdown after the delivery, in the application's own order."""
    peer = Peer(hang_up())
    lifespan = Lifespan(end)
    delivered: list[int] = []

    async def send(message: MutableMapping[str, Any]) -> None:
        delivered.append(len(platform.accepted))
        await lifespan.send(message)

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await (echo if scope["type"] == "websocket" else lifespan)(scope, receive, send)

    middleware = BluejayMiddleware(app, client)
    await middleware(websocket_scope("720488"), peer.receive, peer.send)
    await middleware({"type": "lifespan"}, peer.receive, send)
    assert lifespan.sent == ["lifespan.startup.complete", end]
    assert delivered[1] == 1


@pytest.mark.anyio
async def test_a_shutdown_waits_no_longer_than_it_may(tmp_path: Path) -> None:
    """With the platform down the report stays in the spool."""
    peer, lifespan = Peer(hang_up()), Lifespan("lifespan.shutdown.complete")

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await (echo if scope["type"] == "websocket" else lifespan)(scope, receive, send)

    with Bluejay("test-key", base_url="http://127.0.0.1:9", spool=tmp_path, flush_timeout=0.1) as client:
        middleware = BluejayMiddleware(app, client, flush_timeout=0.05)
        await middleware(websocket_scope("720488"), peer.receive, peer.send)
        with anyio.fail_after(5):
            await middleware({"type": "lifespan"}, peer.receive, lifespan.send)
        assert client.stats()["waiting"] == 1
    assert lifespan.sent[-1] == "lifespan.shutdown.complete"


@pytest.mark.anyio
async def test_a_flush_that_fails_keeps_no_server_from_shutting_down(tmp_path: Path) -> None:
    """It is counted, and the server is told that the shutdown is complete."""

    class Broken(Bluejay):
        async def aflush(self, timeout: float | None = None, *, strict: bool = False) -> bool:
            raise RuntimeError("broken")

    lifespan = Lifespan("lifespan.shutdown.complete")
    with Broken("test-key", base_url="http://127.0.0.1:9", spool=tmp_path) as client:
        await BluejayMiddleware(lifespan, client)({"type": "lifespan"}, Peer().receive, lifespan.send)
        assert client.stats()["internal_error.flush"] == 1
    assert lifespan.sent[-1] == "lifespan.shutdown.complete"


@pytest.mark.anyio
async def test_a_shutdown_without_any_call_makes_no_client(monkeypatch: pytest.MonkeyPatch) -> None:
    """A middleware with the environment's client waits for nothing that was never there."""
    monkeypatch.setattr(client_module, "_default", None)
    lifespan = Lifespan("lifespan.shutdown.complete")
    middleware = BluejayMiddleware(lifespan)
    await middleware({"type": "lifespan"}, Peer().receive, lifespan.send)
    assert lifespan.sent[-1] == "lifespan.shutdown.complete"
    assert client_module._default is None


@pytest.mark.anyio
@pytest.mark.parametrize("asks", [False, True])
async def test_an_application_without_a_lifespan_has_its_reports_delivered_too(client: Bluejay, asks: bool) -> None:
    """Django raises at once where it is asked for one; what fails later is the application's own failure."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if asks:
            await receive()
        raise ValueError("no lifespan")

    lifespan = Lifespan("lifespan.shutdown.complete")
    peer = Peer({"type": "lifespan.shutdown"})
    middleware = BluejayMiddleware(app, client)
    if asks:
        with pytest.raises(ValueError, match="no lifespan"):
            await middleware({"type": "lifespan"}, peer.receive, lifespan.send)
    else:
        await middleware({"type": "lifespan"}, peer.receive, lifespan.send)
        assert lifespan.sent == ["lifespan.startup.complete", "lifespan.shutdown.complete"]


@pytest.mark.anyio
async def test_the_environments_client_serves_when_none_is_given(bluejay_platform: FakePlatform) -> None:
    """It is made at the first simulated call."""
    peer = Peer(hang_up())
    middleware = BluejayMiddleware(echo)
    await middleware(websocket_scope("720488"), peer.receive, peer.send)
    assert bluejay_platform.wait_for(1)[0].simulation_result_id == "720488"


# -- behind a real server ----------------------------------------------------------------------------------------------

Behaviour = tuple["Callable[[Any, Any, Any, Notes], Awaitable[None]]", "Callable[[Any, Notes], Awaitable[None]]"]


async def _talk(websocket: Any, notes: Notes) -> None:
    for message in ("text", b"\x00\x01" * 320, b"", "", b"odd", "{broken", b"x" * 2**20):
        await websocket.send(message)
        notes.append(("echo", await websocket.recv() == message))
    await websocket.close(4001, "bye")


async def _collect(websocket: Any, notes: Notes) -> None:
    async for message in websocket:
        notes.append(("client got", message))


async def _be_refused(websocket: Any, notes: Notes) -> None:
    raise AssertionError("nobody gets that far")


async def _drop(websocket: Any, notes: Notes) -> None:
    websocket.transport.abort()
    await websocket.wait_closed()


async def _echo_noting(scope: Any, receive: Any, send: Any, notes: Notes) -> None:
    notes.append(sorted({*scope} - {SCOPE_KEY, "state"}))
    await receive()
    await send({"type": "websocket.accept", "subprotocol": "chirp", "headers": [(b"x-agent", b"1")]})
    while (message := await receive())["type"] != "websocket.disconnect":
        notes.append(("received", {key: value for key, value in message.items() if value is not None}))
        await send({"type": "websocket.send", "bytes": message.get("bytes"), "text": message.get("text")})
    notes.append(("ended", message))


async def _close_itself(scope: Any, receive: Any, send: Any, notes: Notes) -> None:
    await receive()
    await send({"type": "websocket.accept"})
    await send({"type": "websocket.send", "text": "hello"})
    await send({"type": "websocket.close", "code": 4444, "reason": "own"})
    try:
        await send({"type": "websocket.send", "text": "late"})
    except Exception as error:
        notes.append(("late send", type(error)))


async def _raise_after_accept(scope: Any, receive: Any, send: Any, notes: Notes) -> None:
    await receive()
    await send({"type": "websocket.accept"})
    raise ValueError("broke") from KeyError("cause")


async def _raise_before_accept(scope: Any, receive: Any, send: Any, notes: Notes) -> None:
    raise ValueError("broke")


async def _send_nonsense(scope: Any, receive: Any, send: Any, notes: Notes) -> None:
    await receive()
    await send({"type": "websocket.accept"})
    try:
        await send({"type": "websocket.nonsense"})
    except Exception as error:
        notes.append(("nonsense", type(error), str(error)))
    await send({"type": "websocket.close"})  # older servers leave a connection open that nobody closes


async def _receive_with_timeouts(scope: Any, receive: Any, send: Any, notes: Notes) -> None:
    await receive()
    await send({"type": "websocket.accept"})
    for _ in range(2):
        try:
            notes.append(await asyncio.wait_for(receive(), 0.05))
        except TimeoutError:
            notes.append("timeout")
    await send({"type": "websocket.send", "text": "now"})
    notes.append(await receive())
    await send({"type": "websocket.close"})


async def _answer_late(websocket: Any, notes: Notes) -> None:
    notes.append(await websocket.recv())
    await websocket.send("answer")
    await websocket.wait_closed()


async def _deny_noting(scope: Any, receive: Any, send: Any, notes: Notes) -> None:
    await _deny(scope, receive, send)


BEHAVIOURS: dict[str, Behaviour] = {
    "echo of every kind of message": (_echo_noting, _talk),
    "application closes": (_close_itself, _collect),
    "application raises after accept": (_raise_after_accept, _collect),
    "application raises before accept": (_raise_before_accept, _be_refused),
    "application sends nonsense": (_send_nonsense, _collect),
    "receive with timeouts": (_receive_with_timeouts, _answer_late),
    "caller drops": (_echo_noting, _drop),
    "application denies": (_deny_noting, _be_refused),
}


async def _run(wrap: Callable[[Any], Any], headers: dict[str, str], ws: str) -> dict[str, Notes]:
    """Return, for each behaviour, everything that the application, its server and its peer saw of each other."""
    notes: dict[str, Notes] = {name: [] for name in BEHAVIOURS}
    ended = {name: asyncio.Event() for name in BEHAVIOURS}

    async def outermost(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "websocket":
            await wrapped(scope, receive, send)
            return
        name = scope["path"][1:].replace("-", " ")
        try:
            notes[name].append(("returned", await wrapped(scope, receive, send)))
        except BaseException as error:
            notes[name].append(("raised", type(error), str(error), repr(error.__cause__), repr(error.__context__)))
            raise
        finally:
            ended[name].set()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        assert scope["type"] == "websocket"
        name = scope["path"][1:].replace("-", " ")
        await BEHAVIOURS[name][0](scope, receive, send, notes[name])

    wrapped = wrap(app)
    async with uvicorn_server(outermost, ws) as url:
        for name, (_, client) in BEHAVIOURS.items():
            await _meet(f"{url}/{name.replace(' ', '-')}", headers, client, notes[name])
            await asyncio.wait_for(ended[name].wait(), 10)
    return notes


async def _meet(
    url: str, headers: dict[str, str], client: Callable[[Any, Notes], Awaitable[None]], notes: Notes
) -> None:
    if client is _be_refused:
        notes.append(await refusal(url, headers))
        return
    async with connect(url, additional_headers=headers, subprotocols=[Subprotocol("chirp")]) as websocket:
        notes.append((websocket.subprotocol, websocket.response and websocket.response.headers.get("x-agent")))
        with contextlib.suppress(ConnectionClosed):
            await client(websocket, notes)
    notes.append(("client saw", websocket.protocol.close_code, websocket.protocol.close_reason))


@on_asyncio
@pytest.mark.anyio
@pytest.mark.parametrize("headers", [HEADERS, {}], ids=["recorded", "no header"])
@pytest.mark.parametrize("ws", WS)
async def test_neither_application_nor_peer_can_tell(client: Bluejay, ws: str, headers: dict[str, str]) -> None:
    """The same run bare and with the middleware: everything that either side sees is equal."""
    bare = await _run(lambda app: app, headers, ws)
    recorded = await _run(lambda app: BluejayMiddleware(app, client), headers, ws)
    assert recorded == bare
    assert all(bare.values())


@pytest.mark.parametrize("raises", [False, True])
@pytest.mark.anyio
async def test_a_shutdown_that_only_the_connection_sees_waits_for_delivery(
    platform: FakePlatform, client: Bluejay, raises: bool
) -> None:
    """Some frameworks keep the lifespan from their middlewares; then the connection's own end is the last chance."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await echo(scope, receive, send)
        if raises:
            raise ValueError("broke")

    peer = Peer(hang_up(1012))
    with contextlib.suppress(ValueError):
        await BluejayMiddleware(app, client)(websocket_scope("720488"), peer.receive, peer.send)
    assert len(platform.accepted) == 1


class Patient(Bluejay):
    """A client that notes who waits for it."""

    waits = 0

    async def aflush(self, timeout: float | None = None, *, strict: bool = False) -> bool:
        self.waits += 1
        return True


@on_asyncio
@pytest.mark.anyio
async def test_a_cancelled_application_waits_for_no_delivery(platform: FakePlatform, tmp_path: Path) -> None:
    """Whoever cancels wants an end now; what is left is the lifespan's, or the next start's."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await echo(scope, receive, send)
        raise asyncio.CancelledError

    peer = Peer(hang_up(1012))
    with Patient("test-key", base_url=platform.url, spool=tmp_path) as client:
        with pytest.raises(asyncio.CancelledError):
            await BluejayMiddleware(app, client)(websocket_scope("720488"), peer.receive, peer.send)
        assert client.waits == 0


@on_asyncio
@pytest.mark.anyio
async def test_a_server_that_shuts_down_delivers_first(platform: FakePlatform, client: Bluejay) -> None:
    """An open call at shutdown ends with 1012, and its report is there when the server is gone."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            for stage in ("startup", "shutdown"):
                await receive()
                await send({"type": f"lifespan.{stage}.complete"})
        else:
            await echo(scope, receive, send)

    async with contextlib.AsyncExitStack() as stack:
        async with uvicorn_server(BluejayMiddleware(app, client)) as url:
            websocket = await stack.enter_async_context(connect(url, additional_headers=HEADERS))
            await websocket.send(bytes(640))
            await websocket.recv()
        assert len(platform.accepted) == 1
    assert (closing(platform)["close_code"], closing(platform)["closed_by"]) == (1012, "agent")
