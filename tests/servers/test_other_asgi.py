"""The ASGI middleware where it is met less often: another server, and frameworks that need not be installed."""

from __future__ import annotations

import asyncio
import contextlib
import functools
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
from tests.servers.asgi_server import HEADERS, WS, uvicorn_server
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


SERVERS: dict[str, Any] = {name: functools.partial(uvicorn_server, ws=name) for name in WS}
if sys.version_info < (3, 12):  # it does not end with open websockets (its issue 308)
    SERVERS["hypercorn"] = hypercorn_server


@pytest.mark.parametrize("framework", [False, True])
@pytest.mark.parametrize("server", list(SERVERS))
async def test_an_end_that_comes_while_the_agent_speaks_is_known(
    server: str, framework: bool, client: Bluejay, platform: FakePlatform
) -> None:
    """Sending fails, or seems not to: how the caller left stands in the server's queue, and nobody asked for it."""
    gone = asyncio.Event()

    async def speaks(send: Any) -> None:
        """Send, wait until the caller is gone, and send until that fails, or for a while."""
        await send(bytes(640))
        await gone.wait()
        with contextlib.suppress(OSError, WebSocketDisconnect):
            for _ in range(20):  # the server learns of it in a few rounds of this loop
                await asyncio.sleep(0.01)
                await send(bytes(640))

    async def plain(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            return await plain_app(scope, receive, send)
        await receive()
        await send({"type": "websocket.accept"})
        return await speaks(lambda data: send({"type": "websocket.send", "bytes": data}))

    async def agent(websocket: WebSocket) -> None:
        await websocket.accept()
        await speaks(websocket.send_bytes)

    routes = [WebSocketRoute("/", record(agent, client=client))]
    app: Any = Starlette(routes=routes) if framework else BluejayMiddleware(plain, client)
    ends = {}
    async with SERVERS[server](app) as url:
        for end in ("hangs up", "drops"):
            headers = {"X-Simulation-Result-Id": end.replace(" ", "-")}
            async with connect(url, additional_headers=headers) as websocket:
                await websocket.recv()
                if end == "drops":
                    websocket.transport.abort()
                else:
                    await websocket.close(4001)
            gone.set()
            (report,) = await asyncio.to_thread(
                platform.wait_for, simulation_result_id=headers["X-Simulation-Result-Id"]
            )
            facts = report.events[-1]["metadata"]["bluejay_ws"]
            ends[end] = (facts["outcome"], facts["close_code"], facts["closed_by"])
            gone.clear()
    hung_up = ("completed", 1005, "unknown") if server == "hypercorn" else ("completed", 4001, "caller")
    assert ends == {"hangs up": hung_up, "drops": ("connection_lost", 1006, "nobody")}
