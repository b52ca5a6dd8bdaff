"""The report of a call over real sockets beside what its caller measured, on every server family."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import json
import threading
from typing import TYPE_CHECKING, Any

import pytest
from aiohttp import WSMsgType, web
from starlette.applications import Starlette
from starlette.routing import WebSocketRoute
from starlette.websockets import WebSocket, WebSocketDisconnect
from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed
from websockets.sync.server import serve as serve_in_threads

from bluejay_ws import Bluejay, current_recorder, record
from bluejay_ws.hearing.turns import CALLER_INTERRUPTED, RESPONSE
from bluejay_ws.servers.aiohttp import setup
from bluejay_ws.servers.asgi import BluejayMiddleware
from bluejay_ws.testing.audio import frames, voice
from bluejay_ws.testing.caller import DigitalHuman
from bluejay_ws.testing.platform import FakePlatform
from bluejay_ws.testing.rehearsal import Lateness
from bluejay_ws.testing.spans import Span, barge_ins, is_loud, latencies
from bluejay_ws.testing.virtual_time import VirtualTimeLoop
from tests.hearing_matrix.agents import TalkingAgent
from tests.hearing_matrix.telephone import TwilioCall, pcm_of, to_twilio
from tests.servers.asgi_server import uvicorn_server

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Sequence
    from contextlib import AbstractAsyncContextManager
    from pathlib import Path

    from bluejay_ws.testing.caller import CallLog
    from tests.hearing_matrix.agents import Sending, Stopping

    Serving = Callable[[Bluejay, Callable[[], TalkingAgent]], AbstractAsyncContextManager[str]]


@functools.cache
def caller() -> tuple[bytes, bytes, bytes]:
    """Return what the caller says."""
    return voice(1_200), voice(800), voice(700)


@contextlib.asynccontextmanager
async def on_websockets(client: Bluejay, make_agent: Callable[[], TalkingAgent]) -> AsyncIterator[str]:
    """Serve the agent with `websockets` on asyncio."""

    @record(client=client)
    async def handler(connection: ServerConnection) -> None:
        await make_agent().run(connection, connection.send)

    async with serve(handler, "127.0.0.1", 0) as server:
        yield f"ws://127.0.0.1:{next(iter(server.sockets)).getsockname()[1]}"


async def frames_of(websocket: WebSocket) -> AsyncIterator[Any]:
    """Yield what Starlette receives."""
    with contextlib.suppress(WebSocketDisconnect):
        while True:
            message = await websocket.receive()
            if message["type"] == "websocket.disconnect":
                return
            yield message.get("bytes") or message.get("text")


@contextlib.asynccontextmanager
async def on_starlette(client: Bluejay, make_agent: Callable[[], TalkingAgent]) -> AsyncIterator[str]:
    """Serve the agent as a recorded endpoint of Starlette, on uvicorn."""

    @record(client=client)
    async def endpoint(websocket: WebSocket) -> None:
        await websocket.accept()
        await make_agent().run(frames_of(websocket), websocket.send_bytes)

    async with uvicorn_server(Starlette(routes=[WebSocketRoute("/", endpoint)])) as url:
        yield url


@contextlib.asynccontextmanager
async def on_asgi(client: Bluejay, make_agent: Callable[[], TalkingAgent]) -> AsyncIterator[str]:
    """Serve the agent behind the ASGI middleware, on uvicorn."""

    async def endpoint(websocket: WebSocket) -> None:
        await websocket.accept()
        await make_agent().run(frames_of(websocket), websocket.send_bytes)

    app = BluejayMiddleware(Starlette(routes=[WebSocketRoute("/", endpoint)]), client)
    async with uvicorn_server(app) as url:
        yield url


@contextlib.asynccontextmanager
async def on_aiohttp(client: Bluejay, make_agent: Callable[[], TalkingAgent]) -> AsyncIterator[str]:
    """Serve the agent with aiohttp and its middleware."""

    async def handler(request: web.Request) -> web.WebSocketResponse:
        websocket = web.WebSocketResponse()
        await websocket.prepare(request)

        async def incoming() -> AsyncIterator[Any]:
            async for message in websocket:
                if message.type in {WSMsgType.BINARY, WSMsgType.TEXT}:
                    yield message.data

        await make_agent().run(incoming(), websocket.send_bytes)
        return websocket

    app = web.Application()
    app.router.add_get("/", handler)
    setup(app, client)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.2)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        yield f"ws://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


FAMILIES: list[Serving] = [on_websockets, on_starlette, on_asgi, on_aiohttp]
WAYS: list[tuple[Sending, Stopping, str]] = [
    ("pacing", "at once", "noise"),
    ("burst", "never", "silence"),
    ("continuous", "late", "noise"),
    ("pacing", "never", "pauses"),
]
BY_DAY = list(zip(FAMILIES, WAYS, strict=True))
AT_NIGHT = [(serving, way) for serving in FAMILIES for way in WAYS if (serving, way) not in BY_DAY]


def call(serving: Serving, client: Bluejay, sending: Sending, stopping: Stopping, **habits: Any) -> CallLog:
    """Make one call in virtual time: a sentence, a barge-in on the answer, one more sentence."""

    async def main() -> CallLog:
        client.clock = asyncio.get_running_loop().clock_ns  # type: ignore[attr-defined]
        async with serving(client, lambda: TalkingAgent(sending, stopping)) as url:
            human = DigitalHuman(url, **habits)
            async with human.dial() as line:
                await line.say(caller()[0])
                await line.listen(heard_ms=900)
                await line.say(caller()[1])
                await line.listen()
                await line.say(caller()[2])
                await line.listen()
            return line.log

    with asyncio.Runner(loop_factory=VirtualTimeLoop) as runner:
        return runner.run(main())


def spans_of(report: dict[str, Any], speaker: str) -> list[Span]:
    """Return where the report has that speaker's utterances."""
    return [
        Span(one["start_offset_ms"], one["end_offset_ms"])
        for one in report["recorded_transcript"]
        if one["speaker"] == speaker
    ]


def events_of(report: dict[str, Any], title: str) -> list[Span]:
    """Return where the report has events with that title."""
    return [Span(one["start_offset_ms"], one["end_offset_ms"]) for one in report["events"] if one["title"] == title]


def assert_near(told: Sequence[Span], true: Sequence[Span], within: float) -> None:
    """Fail unless both have the same spans, each edge within so many milliseconds."""
    assert [tuple(span) for span in told] == [pytest.approx(tuple(span), abs=within) for span in true]


@pytest.mark.parametrize(("serving", "way"), BY_DAY)
def test_the_report_says_what_the_caller_measured(
    serving: Serving, way: tuple[Sending, Stopping, str], tmp_path: Path
) -> None:
    """Who spoke when, who broke in, and how long the caller waited."""
    check(serving, way, tmp_path)


@pytest.mark.nightly
@pytest.mark.parametrize(("serving", "way"), AT_NIGHT)
def test_the_report_says_so_for_every_agent_on_every_server(
    serving: Serving, way: tuple[Sending, Stopping, str], tmp_path: Path
) -> None:
    """The rest of the matrix."""
    check(serving, way, tmp_path)


def check(serving: Serving, way: tuple[Sending, Stopping, str], spool: Path) -> None:
    """Make a call, and fail unless its report says what its caller measured."""
    sending, stopping, background = way
    with FakePlatform() as platform:
        client = Bluejay(platform.api_key, base_url=platform.url, spool=spool)
        log = call(serving, client, sending, stopping, background=background)
        client.close()
        (accepted,) = platform.accepted
    report = accepted.report
    assert_near(spans_of(report, "USER"), log.user_spans, 50)
    if len(log.agent_spans) == 3:  # an agent that does not stop may run into its next answer
        assert_near(spans_of(report, "AGENT"), log.agent_spans, 25)
    else:
        assert spans_of(report, "AGENT")[-1].end_ms == pytest.approx(log.agent_spans[-1].end_ms, abs=25)
    assert_near(events_of(report, CALLER_INTERRUPTED), barge_ins(log.user_spans, log.agent_spans), 100)
    # A turn that ends while the agent is heard has no latency of its own here; the report may know the answer's begin.
    told = [wait for wait in events_of(report, RESPONSE) if not is_over(wait.start_ms, log.agent_spans)]
    assert_near(told, latencies(log.user_spans, log.agent_spans), 50)


def is_over(at: float, spans: Sequence[Span]) -> bool:
    """Return whether somebody was heard at that moment."""
    return any(start < at < end for start, end in spans)


@pytest.mark.parametrize("sending", ["pacing", "burst"])
def test_a_telephone_call_is_heard_until_the_agent_clears_its_queue(sending: Sending, tmp_path: Path) -> None:
    """A call that Twilio brings: the id is in its `start`, audio is mu-law in JSON, `clear` ends what is heard."""

    async def main(client: Bluejay) -> TwilioCall:
        client.clock = asyncio.get_running_loop().clock_ns  # type: ignore[attr-defined]

        @record(client=client, id_from=("message",))
        async def handler(connection: ServerConnection) -> None:
            clear = functools.partial(connection.send, json.dumps({"event": "clear", "streamSid": "MZ1"}))
            agent = TalkingAgent(sending, "at once", clear)
            await agent.run(pcm_of(connection), to_twilio(connection.send))

        async with serve(handler, "127.0.0.1", 0) as server:
            url = f"ws://127.0.0.1:{next(iter(server.sockets)).getsockname()[1]}"
            async with TwilioCall(url, {"simulation_result_id": "720488"}).ring() as call:
                await call.say(caller()[0])
                await call.wait(heard=0.9)
                await call.say(caller()[1])
                await call.wait()
        return call

    with FakePlatform() as platform:
        client = Bluejay(platform.api_key, base_url=platform.url, spool=tmp_path)
        with asyncio.Runner(loop_factory=VirtualTimeLoop) as runner:
            log = runner.run(main(client))
        client.close()
        (accepted,) = platform.accepted
    report = accepted.report
    assert report["simulation_result_id"] == "720488"
    assert len(log.agent_spans) == 2
    assert_near(spans_of(report, "USER"), log.user_spans, 60)
    assert_near(spans_of(report, "AGENT"), log.agent_spans, 60)
    assert_near(events_of(report, CALLER_INTERRUPTED), barge_ins(log.user_spans, log.agent_spans), 100)
    assert_near(events_of(report, RESPONSE), latencies(log.user_spans, log.agent_spans), 60)


def quick_agent(connection: Any) -> None:
    """Answer at once, all in one go, when the caller has been quiet for 300 ms; for a server of threads."""
    quiet_ms = -1.0
    with contextlib.suppress(ConnectionClosed):
        for message in connection:
            if not isinstance(message, bytes):
                continue
            quiet_ms = 0.0 if is_loud(message) else quiet_ms + 20 if quiet_ms >= 0 else quiet_ms
            if quiet_ms >= 300:
                quiet_ms = -1.0
                current_recorder().user_said("What the caller said.")
                current_recorder().agent_said("What the agent says.")
                for frame in frames(voice(1_000)):
                    connection.send(frame)


def test_a_server_of_threads_hears_the_same(tmp_path: Path) -> None:
    """There time is real. The caller measures what really passed; the two clocks begin at the same handshake.

    A busy machine makes gaps in what is said: the first and the last moment count, within what the machine is late.
    """

    async def main(url: str) -> tuple[CallLog, float]:
        lateness = Lateness()
        watching = asyncio.create_task(lateness.watch())
        log = await DigitalHuman(url, reaction=0.2).call([voice(600)])
        watching.cancel()
        return log, 250 + 2 * max(lateness._late)

    with FakePlatform() as platform:
        client = Bluejay(platform.api_key, base_url=platform.url, spool=tmp_path)
        with serve_in_threads(record(quick_agent, client=client), "127.0.0.1", 0) as server:
            threading.Thread(target=server.serve_forever).start()
            url = f"ws://127.0.0.1:{server.socket.getsockname()[1]}"
            log, within = asyncio.run(main(url))
            server.shutdown()
        client.close()
        (accepted,) = platform.accepted
    for speaker, spans in (("USER", log.user_spans), ("AGENT", log.agent_spans)):
        assert_near([whole(spans_of(accepted.report, speaker))], [whole(spans)], within)
    assert events_of(accepted.report, RESPONSE)


def whole(spans: Sequence[Span]) -> Span:
    """Return the span from the first moment to the last."""
    return Span(spans[0].start_ms, spans[-1].end_ms)
