"""The ASGI middleware where it is met less often: another server, and frameworks that need not be installed."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import sys
from typing import TYPE_CHECKING, Any

import pytest
from starlette.applications import Starlette
from starlette.routing import WebSocketRoute
from starlette.websockets import WebSocket, WebSocketDisconnect
from websockets.asyncio.client import connect

from bluejay_ws import Bluejay, current_recorder, record
from bluejay_ws.servers.asgi import BluejayMiddleware
from tests.servers.asgi_server import HEADERS
from tests.support import report_of

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from bluejay_ws.testing.platform import FakePlatform

pytestmark = [pytest.mark.anyio, pytest.mark.filterwarnings("default")]  # theirs are not ours to mend


@pytest.fixture
def anyio_backend() -> str:
    """Run on asyncio: these servers know no other loop."""
    return "asyncio"


@contextlib.asynccontextmanager
async def hypercorn_server(app: Any) -> AsyncIterator[str]:
    """Serve ``app`` with hypercorn on a free port; give its URL, and shut it down on the way out."""
    serving = pytest.importorskip("hypercorn.asyncio")
    config = pytest.importorskip("hypercorn.config").Config()
    over = asyncio.Event()
    with socket.create_server(("127.0.0.1", 0)) as listener:
        config.bind = [f"fd://{listener.fileno()}"]
        config.graceful_timeout = 1.0
        task = asyncio.create_task(serving.serve(app, config, shutdown_trigger=over.wait))
        try:
            yield f"ws://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            over.set()
            await task
            listener.detach()  # hypercorn has closed it


async def plain_app(scope: Any, receive: Any, send: Any) -> None:
    """Echo, with one tool call."""
    if scope["type"] == "lifespan":
        for answer in ("startup", "shutdown"):
            await receive()
            await send({"type": f"lifespan.{answer}.complete"})
        return
    await receive()
    await send({"type": "websocket.accept"})
    current_recorder().add_tool_call("lookup", output="found")
    while (message := await receive())["type"] == "websocket.receive":
        await send({"type": "websocket.send", "bytes": message["bytes"]})


def starlette_app(client: Bluejay) -> Any:
    """Return the same as a Starlette application with a decorated endpoint."""

    async def agent(websocket: WebSocket) -> None:
        await websocket.accept()
        current_recorder().add_tool_call("lookup", output="found")
        with contextlib.suppress(WebSocketDisconnect):
            while True:
                await websocket.send_bytes(await websocket.receive_bytes())

    return Starlette(routes=[WebSocketRoute("/", record(agent, client=client))])


async def one_call(url: str, *, drop: bool = False) -> None:
    """Call, send a frame and get it back, hang up, or drop the line."""
    async with connect(url, additional_headers=HEADERS) as websocket:
        await websocket.send(bytes(640))
        assert await websocket.recv() == bytes(640)
        if drop:
            websocket.transport.abort()


@pytest.mark.skipif(sys.version_info >= (3, 12), reason="hypercorn does not end with open websockets (its issue 308)")
@pytest.mark.parametrize(("drop", "ended"), [(False, "completed"), (True, "connection_lost")])
@pytest.mark.parametrize("framework", [False, True])
async def test_a_call_on_hypercorn_ends_in_a_report(
    framework: bool, drop: bool, ended: str, client: Bluejay, platform: FakePlatform
) -> None:
    """It says 1006 of a proper end and of a lost connection; the report tells them apart, also inside a framework."""
    app = starlette_app(client) if framework else BluejayMiddleware(plain_app, client)
    async with hypercorn_server(app) as url:
        await one_call(url, drop=drop)
        report = await asyncio.to_thread(report_of, platform)
    assert [call["name"] for call in report.tool_calls] == ["lookup"]
    seen = report.events[-1]["metadata"]["bluejay_ws"]
    assert (seen["user_frames"], seen["agent_frames"], seen["outcome"]) == (1, 1, ended)


@pytest.mark.skipif(sys.version_info >= (3, 12), reason="hypercorn does not end with open websockets (its issue 308)")
async def test_a_caller_of_whose_loss_the_server_says_nothing_is_noticed(
    client: Bluejay, platform: FakePlatform
) -> None:
    """Hypercorn takes what is sent to nobody without a word; its queue is looked into at the end."""
    gone = asyncio.Event()

    async def takes_nothing_in(scope: Any, receive: Any, send: Any) -> None:
        """Send, wait until the caller is gone, send again, and end without ever asking for a message."""
        await receive()
        await send({"type": "websocket.accept"})
        await send({"type": "websocket.send", "bytes": bytes(640)})
        await gone.wait()
        for _ in range(20):  # the server learns of it in a few rounds of this loop
            await asyncio.sleep(0.01)
        await send({"type": "websocket.send", "bytes": bytes(640)})

    async with hypercorn_server(BluejayMiddleware(takes_nothing_in, client)) as url:
        async with connect(url, additional_headers=HEADERS) as websocket:
            await websocket.recv()
            websocket.transport.abort()
        gone.set()
        report = await asyncio.to_thread(report_of, platform)
    assert report.events[-1]["metadata"]["bluejay_ws"]["outcome"] == "connection_lost"
