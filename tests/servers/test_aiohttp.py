"""aiohttp: the middleware and ``@record``; handler and peer never notice, and the report is right."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import sys
import time
import weakref
from typing import TYPE_CHECKING, Any

import aiohttp
import pytest
from aiohttp import WSMsgType, web
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed
from websockets.typing import Subprotocol

from bluejay_ws import Bluejay, current_recorder, record, record_tool
from bluejay_ws.current import INERT
from bluejay_ws.servers import aiohttp as adapter
from bluejay_ws.servers.aiohttp import bluejay_middleware, setup
from tests import nursery
from tests.servers.asgi_server import refusal

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable
    from pathlib import Path

    from bluejay_ws.testing.oracle import AcceptedReport
    from bluejay_ws.testing.platform import FakePlatform

Notes = list[Any]
HEADERS = {"X-Simulation-Result-Id": "720488"}
pytestmark = [pytest.mark.anyio, pytest.mark.parametrize("anyio_backend", ["asyncio"])]  # aiohttp knows no other loop


async def report_of(platform: FakePlatform) -> AcceptedReport:
    """Return the one report the platform has accepted, without blocking the server in this loop."""
    (report,) = await asyncio.to_thread(platform.wait_for, 1)
    return report


async def closing(platform: FakePlatform) -> dict[str, Any]:
    """Return what the closing event of the one report says."""
    facts: dict[str, Any] = (await report_of(platform)).report["events"][-1]["metadata"]["bluejay_ws"]
    return facts


@contextlib.asynccontextmanager
async def serving(app: web.Application) -> AsyncIterator[str]:
    """Serve an application on a free port; give its URL."""
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.2)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    try:
        yield f"ws://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


def app_of(handler: Any, client: Bluejay | None = None) -> web.Application:
    """Return an application with one handler, with the middleware if a client is given."""
    app = web.Application(middlewares=[] if client is None else [bluejay_middleware(client)])
    app.router.add_get("/", handler)
    return app


def dial(url: str, headers: dict[str, str] | None = None) -> connect:
    """Dial as Bluejay does."""
    return connect(url, additional_headers=HEADERS if headers is None else headers)


@record_tool
async def lookup(name: str) -> str:
    """Look something up."""
    return f"found {name}"


async def echo(request: web.Request) -> web.WebSocketResponse:
    """Use a tool, echo until the caller hangs up."""
    websocket = web.WebSocketResponse()
    await websocket.prepare(request)
    await lookup("it")
    async for message in websocket:
        if message.type is WSMsgType.BINARY:
            await websocket.send_bytes(message.data)
        else:
            await websocket.send_str(message.data)
    return websocket


class EchoView(web.View):
    """The same as a class."""

    @record
    async def get(self) -> web.WebSocketResponse:
        """Echo."""
        return await echo(self.request)


async def talk_and_hang_up(url: str) -> None:
    """Make a short call."""
    async with dial(url) as websocket:
        for message in (bytes(640), '{"type": "mark", "data": {"name": "m"}}', b"odd"):
            await websocket.send(message)
            assert await websocket.recv() == message
        await websocket.close(4002, "bye")


# -- what it records ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("way", ["middleware", "decorator", "both", "decorated twice"])
async def test_a_call_ends_in_one_report_with_its_facts(platform: FakePlatform, client: Bluejay, way: str) -> None:
    """Frames both ways, tool calls, the caller's code and reason; once, however often it is asked for."""
    handler: Any = echo if way == "middleware" else record(echo, client=client)
    if way == "decorated twice":
        handler = record(handler, client=client)
    async with serving(app_of(handler, client if way in {"middleware", "both"} else None)) as url:
        await talk_and_hang_up(url)
        facts = await closing(platform)
    assert [call["name"] for call in (await report_of(platform)).report["tool_calls"]] == ["lookup"]
    assert (facts["server"], facts["outcome"]) == ("aiohttp", "completed")
    assert (facts["close_code"], facts["close_reason"], facts["closed_by"]) == (4002, "bye", "caller")
    assert (facts["user_frames"], facts["agent_frames"], facts["invalid_frames"]) == (1, 1, 2)
    assert (facts["marks_sent"], facts["marks_echoed"]) == (1, 1)
    assert client.stats()["recorded"] == 1


async def test_a_view_is_recorded_by_the_environments_client(bluejay_platform: FakePlatform) -> None:
    """A class-based handler has its request in itself."""
    async with serving(app_of(EchoView)) as url:
        await talk_and_hang_up(url)
        assert (await closing(bluejay_platform))["user_frames"] == 1


async def test_the_environments_client_serves_the_middleware_too(bluejay_platform: FakePlatform) -> None:
    """It is made at the first simulated call."""
    app = web.Application()
    app.router.add_get("/", echo)
    setup(app)
    async with serving(app) as url:
        await talk_and_hang_up(url)
    assert (await closing(bluejay_platform))["user_frames"] == 1


async def test_offsets_count_from_the_end_of_the_handshake(platform: FakePlatform, client: Bluejay) -> None:
    """What the handler does before it prepares the websocket does not shift the call."""

    async def handler(request: web.Request) -> web.WebSocketResponse:
        await asyncio.sleep(0.05)
        before = time.monotonic()
        websocket = web.WebSocketResponse()
        await websocket.prepare(request)
        current_recorder().add_event("prepared")
        passed.append((time.monotonic() - before) * 1000)
        return websocket

    passed: list[float] = []

    async with serving(app_of(handler, client)) as url, dial(url) as websocket:
        await websocket.wait_closed()
        report = await report_of(platform)
    assert report.report["events"][0]["start_offset_ms"] <= passed[0] + 1


async def test_the_agents_close_is_the_agents(platform: FakePlatform, client: Bluejay) -> None:
    """Its own code and reason, told at once although the handler continues."""
    closed = asyncio.Event()

    async def handler(request: web.Request) -> web.WebSocketResponse:
        websocket = web.WebSocketResponse()
        await websocket.prepare(request)
        await websocket.close(code=4444, message=b"done")
        assert not await websocket.close(code=4445)
        await closed.wait()
        return websocket

    async with serving(app_of(handler, client)) as url, dial(url) as websocket:
        await websocket.wait_closed()
        facts = await closing(platform)
        closed.set()
    assert (facts["close_code"], facts["close_reason"], facts["closed_by"]) == (4444, "done", "agent")


async def test_a_handler_that_returns_closes_with_1000(platform: FakePlatform, client: Bluejay) -> None:
    """Aiohttp closes for it, with the websocket's own close."""

    async def handler(request: web.Request) -> web.WebSocketResponse:
        websocket = web.WebSocketResponse()
        await websocket.prepare(request)
        return websocket

    async with serving(app_of(handler, client)) as url, dial(url) as websocket:
        await websocket.wait_closed()
        facts = await closing(platform)
    assert (facts["close_code"], facts["closed_by"]) == (1000, "agent")


async def test_a_close_that_the_handler_never_read_is_the_callers(platform: FakePlatform, client: Bluejay) -> None:
    """It had come first."""

    async def handler(request: web.Request) -> web.WebSocketResponse:
        websocket = web.WebSocketResponse()
        await websocket.prepare(request)
        while not websocket._reader._buffer:  # type: ignore[union-attr]
            await asyncio.sleep(0.001)
        return websocket

    async with serving(app_of(handler, client)) as url:
        async with dial(url) as websocket:
            await websocket.close(4003)
        facts = await closing(platform)
    assert (facts["close_code"], facts["closed_by"]) == (4003, "caller")


async def test_a_handler_that_raises_is_noted(platform: FakePlatform, client: Bluejay) -> None:
    """The caller sees a drop, and so says the report: no code is claimed."""

    async def handler(request: web.Request) -> web.WebSocketResponse:
        await web.WebSocketResponse().prepare(request)
        raise ValueError("broke")

    async with serving(app_of(handler, client)) as url, dial(url) as websocket:
        await websocket.wait_closed()
        facts = await closing(platform)
    assert (facts["outcome"], facts["error"], facts["closed_by"]) == ("agent_error", "ValueError", "agent")
    assert "close_code" not in facts
    assert websocket.protocol.close_code == 1006


@pytest.mark.skipif(not hasattr(aiohttp, "WSMessageTypeError"), reason="this release raises a plain TypeError")
@pytest.mark.parametrize(("text", "outcome"), [(False, "completed"), (True, "agent_error")])
async def test_a_handler_that_expects_audio_ends_with_the_callers_close(
    text: bool, outcome: str, platform: FakePlatform, client: Bluejay
) -> None:
    """`receive_bytes` raises the same for a close, which is the end of the call, and for text, which is the agent's."""

    async def handler(request: web.Request) -> web.WebSocketResponse:
        websocket = web.WebSocketResponse()
        await websocket.prepare(request)
        while True:
            await websocket.receive_bytes()

    async with serving(app_of(handler, client)) as url, dial(url) as websocket:
        await websocket.send("text" if text else bytes(640))
        await (websocket.wait_closed() if text else websocket.close(4003))
        facts = await closing(platform)
    assert facts["outcome"] == outcome


async def test_a_caller_that_drops_is_noticed(platform: FakePlatform, client: Bluejay) -> None:
    """1006, whether the handler receives or sends."""

    async def handler(request: web.Request) -> web.WebSocketResponse:
        websocket = web.WebSocketResponse()
        await websocket.prepare(request)
        for _ in range(200):
            await websocket.send_bytes(bytes(640))
            await asyncio.sleep(0.01)
        return websocket

    async with serving(app_of(handler, client)) as url:
        async with dial(url) as websocket:
            await websocket.recv()
            websocket.transport.abort()
        facts = await closing(platform)
    assert (facts["close_code"], facts["closed_by"]) == (1006, "nobody")


async def test_a_caller_that_breaks_the_protocol_ends_the_call(platform: FakePlatform, client: Bluejay) -> None:
    """Aiohttp closes with an error; who closed cannot be told."""
    async with serving(app_of(echo, client)) as url:
        async with dial(url) as websocket:
            websocket.transport.write(b"\xff" * 20)
            await websocket.wait_closed()
        facts = await closing(platform)
    assert facts["closed_by"] in {"nobody", "agent"}


async def test_a_caller_that_drops_while_the_handler_waits_is_noticed(platform: FakePlatform, client: Bluejay) -> None:
    """The request's task ends, and the report leaves."""
    async with serving(app_of(echo, client)) as url:
        async with dial(url) as websocket:
            await websocket.send(bytes(640))
            await websocket.recv()
            websocket.transport.abort()
        facts = await closing(platform)
    assert facts["close_code"] in {1000, 1006}


# -- what never became a call ------------------------------------------------------------------------------------------


async def _forbid(request: web.Request) -> web.StreamResponse:
    raise web.HTTPForbidden


async def _answer(request: web.Request) -> web.StreamResponse:
    return web.Response(status=401)


@pytest.mark.parametrize("handler", [_forbid, _answer])
async def test_a_refused_connection_leaves_no_report(platform: FakePlatform, client: Bluejay, handler: Any) -> None:
    """Raised or returned: there was no call."""
    async with serving(app_of(handler, client)) as url:
        assert await refusal(url, HEADERS) in {"HTTP/1.1 403 Forbidden", "HTTP/1.1 401 Unauthorized"}
    assert client.flush()
    assert platform.accepted == []
    assert client.stats()["dropped.refused"] == 1


async def test_a_crash_before_the_handshake_leaves_a_report_that_says_so(
    platform: FakePlatform, client: Bluejay
) -> None:
    """The platform's run fails for a reason, and the report has it."""

    async def handler(request: web.Request) -> web.StreamResponse:
        raise LookupError("no model")

    async with serving(app_of(handler, client)) as url:
        assert await refusal(url, HEADERS) == "HTTP/1.1 500 Internal Server Error"
    facts = await closing(platform)
    assert (facts["accepted"], facts["error"]) == (False, "LookupError")


# -- what it lets through ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("headers", [{}, {"X-Simulation-Result-Id": "no id"}])
async def test_without_an_id_the_websocket_is_untouched(client: Bluejay, headers: dict[str, str]) -> None:
    """Nothing is attached, nothing is recorded."""
    seen: Notes = []

    async def handler(request: web.Request) -> web.WebSocketResponse:
        websocket = web.WebSocketResponse()
        await websocket.prepare(request)
        seen.extend([{"receive", "send_bytes", "close"} & set(vars(websocket)), "_prepare_hook" in vars(request)])
        seen.append(current_recorder())
        return websocket

    async with serving(app_of(handler, client)) as url, dial(url, headers) as websocket:
        await websocket.wait_closed()
    assert seen == [set(), False, INERT]


async def test_a_plain_request_with_the_header_is_no_call(client: Bluejay) -> None:
    """Only a websocket's handshake is."""

    async def handler(request: web.Request) -> web.StreamResponse:
        return web.Response(text=repr(current_recorder()))

    async with serving(app_of(handler, client)) as url:
        reader, writer = await asyncio.open_connection("127.0.0.1", int(url.rpartition(":")[2]))
        writer.write(b"GET / HTTP/1.0\r\nX-Simulation-Result-Id: 720488\r\n\r\n")
        assert b"InertRecorder" in await reader.read()
        writer.close()
        await writer.wait_closed()
    assert client.stats()["recorded"] == 0


async def test_frames_sent_by_hand_are_counted(platform: FakePlatform, client: Bluejay) -> None:
    """`send_frame`, views of wider items, text and json."""

    async def handler(request: web.Request) -> web.WebSocketResponse:
        websocket = web.WebSocketResponse()
        await websocket.prepare(request)
        by_hand = getattr(websocket, "send_frame", None)  # since aiohttp 3.11
        if by_hand is None:
            await websocket.send_bytes(bytes(640))
            await websocket.send_str("{}")
        else:
            await by_hand(bytes(640), WSMsgType.BINARY)
            await by_hand(b"{}", WSMsgType.TEXT)
            await by_hand(b"", WSMsgType.PING)
        await websocket.send_bytes(memoryview(bytes(640)).cast("h"))  # type: ignore[arg-type]
        await websocket.send_json({})
        return websocket

    async with serving(app_of(handler, client)) as url, dial(url) as websocket:
        with contextlib.suppress(ConnectionClosed):
            while True:
                await websocket.recv()
        facts = await closing(platform)
    assert (facts["agent_frames"], facts["agent_audio_ms"], facts["text_frames"]) == (2, 40, 2)


async def test_an_error_of_ours_reaches_nobody(platform: FakePlatform, client: Bluejay) -> None:
    """A response that cannot be observed is served all the same."""

    class Sealed(web.WebSocketResponse):
        @property
        def receive(self) -> Any:
            raise RuntimeError("sealed")

    async def handler(request: web.Request) -> web.WebSocketResponse:
        websocket = Sealed()
        await websocket.prepare(request)
        await websocket.send_str("here")
        return websocket

    async with serving(app_of(handler, client)) as url:
        async with dial(url) as websocket:
            assert await websocket.recv() == "here"
            await websocket.wait_closed()
        facts = await closing(platform)
    assert facts["closed_by"] == "agent"
    assert client.stats()["internal_error.frame"] == 1


async def test_a_request_outside_a_task_is_recorded_without_frames(platform: FakePlatform, client: Bluejay) -> None:
    """Nobody would tell when it ends, so the handler's end counts."""

    class Request(dict[str, Any]):
        class headers:  # noqa: N801
            @staticmethod
            def get(name: str, default: str) -> str:
                return "WebSocket"

            @staticmethod
            def getall(name: str, default: Any) -> list[str]:
                return ["720488"]

    call = await asyncio.to_thread(adapter.open_call, Request(), lambda: client)
    assert call is not None
    call.handler_started()
    call.handler_ended()
    assert (await closing(platform))["closed_by"] == "unknown"
    assert client.stats()["internal_error.attach"] == 1


@pytest.mark.parametrize("patched", [False, True])
async def test_the_websocket_is_left_as_it_was_made(client: Bluejay, patched: bool) -> None:
    """When its request is over it stands in no cycle, unless somebody else has patched it too."""
    seen: Notes = []

    async def handler(request: web.Request) -> web.WebSocketResponse:
        websocket = web.WebSocketResponse()
        await websocket.prepare(request)
        if patched:
            vars(websocket)["send_str"] = "theirs"
            seen.append(websocket)
        seen.append(weakref.ref(websocket))
        return websocket

    gc.disable()
    try:
        async with serving(app_of(handler, client)) as url, dial(url) as websocket:
            await websocket.wait_closed()
        await asyncio.sleep(0)
        if patched:
            assert {"receive", "send_str", "close"} & set(vars(seen[0])) == {"send_str"}
        else:
            assert seen[0]() is None
    finally:
        gc.enable()


# -- where the id stands, and the end of the application ---------------------------------------------------------------


async def test_a_client_that_cannot_be_made_leaves_the_call_unrecorded(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A wrong setting in the environment is said in the log, once for each call, and the call continues."""
    monkeypatch.setenv("BLUEJAY_API_URL", "http://far.example")
    monkeypatch.setattr("bluejay_ws.client._default", None)
    app = web.Application(middlewares=[bluejay_middleware()])
    app.router.add_get("/", echo)
    async with serving(app) as url:
        await talk_and_hang_up(url)
    assert [record.message for record in caplog.records if "BLUEJAY_API_URL" in record.message]


async def test_the_id_may_stand_in_the_query_or_in_a_message(platform: FakePlatform, client: Bluejay) -> None:
    """Where the application was told to look."""
    app = web.Application()
    app.router.add_get("/", echo)
    setup(app, client, id_from=("header", "query", "message"))
    async with serving(app) as url:
        async with dial(f"{url}/?simulation_result_id=1", {}) as websocket:
            await websocket.send(bytes(640))
            await websocket.recv()
        async with dial(url, {}) as websocket:
            await websocket.send('{"start": {"customParameters": {"simulation_result_id": "2"}}}')
            await websocket.recv()
    assert sorted(report.simulation_result_id for report in platform.accepted) == ["1", "2"]


def test_an_unknown_place_for_the_id_is_refused(anyio_backend: str) -> None:
    """At configuration time, by name."""
    with pytest.raises(ValueError, match="id_from"):
        bluejay_middleware(id_from=("cookie",))  # type: ignore[arg-type]


async def test_cleanup_waits_for_delivery_and_survives_its_failure(platform: FakePlatform, tmp_path: Path) -> None:
    """An error of ours keeps no application from ending."""

    class Broken(Bluejay):
        async def aflush(self, timeout: float | None = None, *, strict: bool = False) -> bool:
            raise RuntimeError("broken")

    with Broken("test-key", base_url=platform.url, spool=tmp_path) as client:
        app = web.Application()
        setup(app, client)
        setup(app)
        async with serving(app):
            pass
        assert client.stats()["internal_error.flush"] == 1


@pytest.mark.usefixtures("measured_children")
def test_without_aiohttp_the_install_line_is_given(anyio_backend: str) -> None:
    """The missing library fails where it is used, by name."""
    code = "import sys; sys.modules['aiohttp'] = None; import bluejay_ws.servers.aiohttp"
    ended = nursery.run([sys.executable, "-c", code], check=False)
    assert "pip install 'bluejay_ws[aiohttp]'" in ended.stderr


# -- behaviours, bare and recorded -------------------------------------------------------------------------------------


async def _talk(websocket: Any, notes: Notes) -> None:
    for message in ("text", b"\x00\x01" * 320, b"", "", b"odd", "{broken", b"x" * 2**20):
        await websocket.send(message)
        notes.append(("echo", await websocket.recv() == message))
    await websocket.close(4001, "bye")


async def _send_fragments(websocket: Any, notes: Notes) -> None:
    await websocket.send([b"one", b"", b"three"])
    await websocket.send(["ä", "b"])
    await (await websocket.ping())
    await websocket.close()


async def _collect(websocket: Any, notes: Notes) -> None:
    async for message in websocket:
        notes.append(("client got", message))


async def _drop(websocket: Any, notes: Notes) -> None:
    websocket.transport.abort()
    await websocket.wait_closed()


async def _echo_noting(websocket: web.WebSocketResponse, notes: Notes) -> None:
    notes.append((type(websocket), websocket.prepared, websocket.ws_protocol))
    async for message in websocket:
        notes.append((message.type, len(message.data)))
        await (websocket.send_bytes if message.type is WSMsgType.BINARY else websocket.send_str)(message.data)
    notes.append((websocket.closed, websocket.close_code, repr(websocket.exception())))
    notes.append((await websocket.receive()).type)


async def _receive_every_way(websocket: web.WebSocketResponse, notes: Notes) -> None:
    notes.append(await websocket.receive_bytes(timeout=5))
    notes.append(await websocket.receive_str())
    notes.append((await websocket.receive()).type)


async def _close_itself(websocket: web.WebSocketResponse, notes: Notes) -> None:
    await websocket.send_json({"a": 1})
    await websocket.ping()
    notes.append(await websocket.close(code=4444, message=b"own"))
    notes.append(await websocket.close())
    try:
        await websocket.send_str("late")
    except Exception as error:
        notes.append((type(error), str(error)))


async def _raise(websocket: web.WebSocketResponse, notes: Notes) -> None:
    raise ValueError("broke") from KeyError("cause")


async def _receive_with_timeouts(websocket: web.WebSocketResponse, notes: Notes) -> None:
    for _ in range(2):
        try:
            await websocket.receive(timeout=0.02)
        except TimeoutError:
            notes.append("timeout")
    for wrong in (websocket.send_bytes("text"), websocket.send_str(b"bytes")):  # type: ignore[arg-type]
        try:
            await wrong
        except TypeError as error:
            notes.append(str(error))


BEHAVIOURS: dict[str, tuple[Callable[..., Awaitable[None]], Callable[..., Awaitable[None]]]] = {
    "echo-of-every-kind": (_echo_noting, _talk),
    "receive-every-way": (_receive_every_way, _send_fragments),
    "handler-closes": (_close_itself, _collect),
    "handler-raises": (_raise, _collect),
    "receive-with-timeouts": (_receive_with_timeouts, _collect),
    "caller-drops": (_echo_noting, _drop),
}


async def _run(client: Bluejay | None, headers: dict[str, str]) -> dict[str, Notes]:
    """Return, for each behaviour, everything that the handler and its peer saw of each other."""
    notes: dict[str, Notes] = {name: [] for name in BEHAVIOURS}
    ended = {name: asyncio.Event() for name in BEHAVIOURS}

    async def handler(request: web.Request) -> web.WebSocketResponse:
        name = request.match_info["name"]
        websocket = web.WebSocketResponse(protocols=["chirp"])
        notes[name].append(websocket.can_prepare(request))
        await websocket.prepare(request)
        try:
            await BEHAVIOURS[name][0](websocket, notes[name])
        except BaseException as error:
            notes[name].append((type(error), str(error), repr(error.__cause__), repr(error.__context__)))
            raise
        finally:
            ended[name].set()
        return websocket

    app = app_of(handler, client)
    app.router.add_get("/{name}", handler)
    async with serving(app) as url:
        for name, (_, peer) in BEHAVIOURS.items():
            async with connect(
                f"{url}/{name}", additional_headers=headers, subprotocols=[Subprotocol("chirp")]
            ) as websocket:
                with contextlib.suppress(ConnectionClosed):
                    await peer(websocket, notes[name])
            notes[name].append((websocket.subprotocol, websocket.protocol.close_code, websocket.protocol.close_reason))
            await ended[name].wait()
    return notes


@pytest.mark.parametrize("headers", [HEADERS, {}], ids=["recorded", "no header"])
async def test_neither_handler_nor_peer_can_tell(client: Bluejay, headers: dict[str, str]) -> None:
    """The same run bare and with the middleware: everything that either side sees is equal."""
    assert await _run(client, headers) == await _run(None, headers)


async def test_an_ear_that_raises_is_counted_and_the_frames_pass(
    client: Bluejay, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both ways, for each frame."""

    def broken(*_: object) -> None:
        raise ValueError

    monkeypatch.setattr("bluejay_ws.hearing.chirp.ChirpObserver.user_audio", broken)
    monkeypatch.setattr("bluejay_ws.hearing.chirp.ChirpObserver.agent_audio", broken)
    async with serving(app_of(echo, client)) as url:
        await talk_and_hang_up(url)
    assert client.stats()["internal_error.frame"] == 4
