"""The ASGI middleware where it is met less often: another server, and frameworks that need not be installed."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import sys
from typing import TYPE_CHECKING, Any

import pytest
from websockets.asyncio.client import connect

from bluejay_ws import Bluejay, current_recorder
from bluejay_ws.servers.asgi import BluejayMiddleware
from tests.servers.asgi_server import HEADERS, uvicorn_server
from tests.support import report_of

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

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


def litestar_app() -> Any:
    """Return the same as a Litestar application."""
    litestar = pytest.importorskip("litestar")

    async def agent(socket: Any) -> None:
        await socket.accept()
        current_recorder().add_tool_call("lookup", output="found")
        with contextlib.suppress(litestar.exceptions.WebSocketDisconnect):
            while True:
                await socket.send_bytes(await socket.receive_bytes())

    agent.__annotations__["socket"] = litestar.WebSocket
    return litestar.Litestar([litestar.websocket("/")(agent)])


def quart_app() -> Any:
    """Return the same as a Quart application."""
    quart = pytest.importorskip("quart")
    app = quart.Quart(__name__)

    @app.websocket("/")  # type: ignore[untyped-decorator]
    async def agent() -> None:
        current_recorder().add_tool_call("lookup", output="found")
        while True:
            await quart.websocket.send(await quart.websocket.receive())

    return app


async def one_call(url: str) -> None:
    """Call, send a frame and get it back, hang up."""
    async with connect(url, additional_headers=HEADERS) as websocket:
        await websocket.send(bytes(640))
        assert await websocket.recv() == bytes(640)


def check(platform: FakePlatform) -> None:
    """See that the call is in one report, with its tool call and its frames."""
    report = report_of(platform)
    assert [call["name"] for call in report.tool_calls] == ["lookup"]
    seen = report.events[-1]["metadata"]["bluejay_ws"]
    assert (seen["user_frames"], seen["agent_frames"], seen["server"]) == (1, 1, "asgi")


@pytest.mark.skipif(sys.version_info >= (3, 12), reason="hypercorn does not end with open websockets (its issue 308)")
async def test_a_call_on_hypercorn_ends_in_a_report(client: Bluejay, platform: FakePlatform) -> None:
    """Another server than uvicorn, with its own ways to end a connection."""
    async with hypercorn_server(BluejayMiddleware(plain_app, client)) as url:
        await one_call(url)
        await asyncio.to_thread(check, platform)


@pytest.mark.parametrize("make", [litestar_app, quart_app])
async def test_a_call_to_another_framework_ends_in_a_report(
    make: Callable[[], Any], client: Bluejay, platform: FakePlatform
) -> None:
    """The middleware knows no framework, so it must do for all."""
    async with uvicorn_server(BluejayMiddleware(make(), client)) as url:
        await one_call(url)
        await asyncio.to_thread(check, platform)
