"""The end of a call: the report leaves within a second, whatever the peer does, and says what happened.

No test measures: each server here waits for half a minute, and the report comes long before.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import functools
import importlib.util
import os
import signal
import socket
import struct
import subprocess
import sys
import threading
from typing import TYPE_CHECKING, Any

import pytest
from aiohttp import web
from websockets.asyncio.client import connect
from websockets.asyncio.server import serve
from websockets.sync.server import serve as sync_serve

from bluejay_ws import current_recorder, record
from tests.servers.asgi_server import HEADERS, uvicorn_server
from tests.servers.behaviours import HAS_TRIO
from tests.support import report_of

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator
    from pathlib import Path

    from bluejay_ws import Bluejay
    from bluejay_ws.testing.platform import FakePlatform

LONG = 30.0


def dial(port: int, identity: str = "720488") -> socket.socket:
    """Return a socket after the handshake; nobody reads it, so no close frame is ever answered."""
    peer = socket.create_connection(("127.0.0.1", port))
    lines = ["GET / HTTP/1.1", "Host: localhost", "Upgrade: websocket", "Connection: Upgrade"]
    lines += ["Sec-WebSocket-Version: 13", f"Sec-WebSocket-Key: {base64.b64encode(bytes(16)).decode()}"]
    lines += [f"X-Simulation-Result-Id: {identity}", "", ""]
    peer.sendall("\r\n".join(lines).encode())
    return peer


def ended(platform: FakePlatform) -> tuple[str, int | None, str]:
    """Return outcome, close code and who closed, of the one report."""
    facts = report_of(platform).events[-1]["metadata"]["bluejay_ws"]
    return facts["outcome"], facts.get("close_code"), facts["closed_by"]


# -- a peer that answers no close frame ------------------------------------------------------------------------------


async def returns(websocket: Any) -> None:
    """End at once."""


async def closes(websocket: Any) -> None:
    """Close, and wait for the answer."""
    await websocket.close(4000, "done")


async def fails(websocket: Any) -> None:
    """Break."""
    raise LookupError("broke")


SILENT = [
    (returns, ("completed", 1000, "agent")),
    (closes, ("completed", 4000, "agent")),
    (fails, ("agent_error", 1011, "agent")),
]


@pytest.mark.parametrize(("handler", "expected"), SILENT)
def test_a_peer_that_never_answers_the_close_frame_holds_no_report(
    handler: Any, expected: tuple[str, int, str], client: Bluejay, platform: FakePlatform
) -> None:
    """On `websockets.asyncio`: whether the server closes for the handler, or the handler itself waits."""

    async def main() -> None:
        async with serve(record(handler, client=client), "127.0.0.1", 0, close_timeout=LONG) as server:
            with await asyncio.to_thread(dial, server.sockets[0].getsockname()[1]):
                await asyncio.to_thread(report_of, platform)

    asyncio.run(main())
    assert ended(platform) == expected


@contextlib.contextmanager
def threaded(handler: Any) -> Iterator[int]:
    """Serve with threads; give the port."""
    with sync_serve(handler, "127.0.0.1", 0, close_timeout=LONG) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server.socket.getsockname()[1]
        server.shutdown()
        thread.join()


@pytest.mark.parametrize(
    ("handler", "expected"),
    [
        (lambda websocket: None, ("completed", 1000, "agent")),
        (lambda websocket: websocket.close(4000, "done"), ("completed", 4000, "agent")),
    ],
    ids=["returns", "closes"],
)
def test_a_peer_of_a_thread_that_never_answers_holds_no_report(
    handler: Any, expected: tuple[str, int, str], client: Bluejay, platform: FakePlatform
) -> None:
    """On `websockets.sync`."""
    with threaded(record(handler, client=client)) as port, dial(port):
        assert ended(platform) == expected


def test_a_peer_of_aiohttp_that_never_answers_holds_no_report(client: Bluejay, platform: FakePlatform) -> None:
    """The handler waits for its own close."""

    @record(client=client)
    async def handler(request: web.Request) -> web.StreamResponse:
        websocket = web.WebSocketResponse(timeout=LONG)
        await websocket.prepare(request)
        await websocket.close(code=4000)
        return websocket

    async def main() -> None:
        app = web.Application()
        app.router.add_get("/", handler)
        runner = web.AppRunner(app, shutdown_timeout=0.1)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        with await asyncio.to_thread(dial, runner.addresses[0][1]):
            await asyncio.to_thread(report_of, platform)
        await runner.cleanup()

    asyncio.run(main())
    assert ended(platform) == ("completed", 4000, "agent")


@pytest.mark.skipif(not HAS_TRIO, reason="this release of websockets has no trio server")
def test_a_cancelled_nursery_ends_its_calls_at_once(client: Bluejay, platform: FakePlatform) -> None:
    """The report says that the handler was cancelled; nothing is left for the end of the process."""
    trio = pytest.importorskip("trio")
    from websockets.trio.server import serve as trio_serve

    async def main() -> None:
        async with trio.open_nursery() as nursery:
            serving = trio.Event()

            @record(client=client)
            async def handler(websocket: Any) -> None:
                serving.set()
                await trio.sleep_forever()

            server = await nursery.start(functools.partial(trio_serve, handler, 0, host="127.0.0.1"))
            with await trio.to_thread.run_sync(dial, server.listeners[0].socket.getsockname()[1]):
                await serving.wait()
                nursery.cancel_scope.cancel()

    trio.run(main)
    assert client.stats()["live"] == 0
    assert ended(platform)[0] == "handler_cancelled"


# -- what happened ---------------------------------------------------------------------------------------------------


async def asgi_handler(scope: Any, receive: Any, send: Any) -> None:
    """Do what the path says."""
    await receive()
    await send({"type": "websocket.accept"})
    if scope["path"] == "/broken":
        await send({"type": "websocket.close", "code": 1011})
    while (await receive())["type"] != "websocket.disconnect":
        pass


@contextlib.asynccontextmanager
async def asgi(client: Bluejay) -> AsyncIterator[str]:
    """Serve on uvicorn."""
    from bluejay_ws.servers.asgi import BluejayMiddleware

    async with uvicorn_server(BluejayMiddleware(asgi_handler, client)) as url:
        yield url


@contextlib.asynccontextmanager
async def plain(client: Bluejay) -> AsyncIterator[str]:
    """Serve with `websockets`."""

    @record(client=client)
    async def handler(websocket: Any) -> None:
        if websocket.request.path == "/broken":
            await websocket.close(1011)
        async for _ in websocket:
            pass

    async with serve(handler, "127.0.0.1", 0) as server:
        yield f"ws://127.0.0.1:{server.sockets[0].getsockname()[1]}"


@contextlib.asynccontextmanager
async def aiohttp(client: Bluejay) -> AsyncIterator[str]:
    """Serve with aiohttp."""

    @record(client=client)
    async def handler(request: web.Request) -> web.StreamResponse:
        websocket = web.WebSocketResponse()
        await websocket.prepare(request)
        if request.path == "/broken":
            await websocket.close(code=1011)
        async for _ in websocket:
            pass
        return websocket

    app = web.Application()
    app.router.add_get("/{name:.*}", handler)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    yield f"ws://127.0.0.1:{runner.addresses[0][1]}"
    await runner.cleanup()


@pytest.mark.parametrize("family", [plain, asgi, aiohttp])
@pytest.mark.parametrize(
    ("path", "code", "expected"),
    [
        ("/", 1000, ("completed", 1000, "caller")),
        ("/", 4001, ("completed", 4001, "caller")),
        ("/", None, ("connection_lost", 1006, "nobody")),
        ("/broken", 1000, ("agent_error", 1011, "agent")),
    ],
    ids=["hangs up", "own code", "drops", "agent closes 1011"],
)
def test_the_outcome_is_what_happened_on_every_server(
    family: Any, path: str, code: int | None, expected: tuple[str, int, str], client: Bluejay, platform: FakePlatform
) -> None:
    """The same words for the same thing."""

    async def main() -> None:
        async with family(client) as url, connect(url + path, additional_headers=HEADERS) as websocket:
            if path == "/broken":
                await websocket.wait_closed()
            elif code is None:
                websocket.transport.abort()
            else:
                await websocket.close(code)
            await platform.await_for(1)

    asyncio.run(main())
    assert ended(platform) == expected


def test_a_server_that_goes_away_says_so(client: Bluejay, platform: FakePlatform) -> None:
    """`websockets` closes with 1001."""

    async def main() -> None:
        @record(client=client)
        async def handler(websocket: Any) -> None:
            current_recorder().add_event("waits")
            await websocket.wait_closed()

        async with serve(handler, "127.0.0.1", 0) as server:
            url = f"ws://127.0.0.1:{server.sockets[0].getsockname()[1]}"
            async with connect(url, additional_headers=HEADERS) as websocket:
                server.close()
                await websocket.wait_closed()

    asyncio.run(main())
    assert ended(platform) == ("server_shutdown", 1001, "agent")


# -- Granian, which is a server of its own ---------------------------------------------------------------------------

GRANIAN = """
import asyncio, os
from bluejay_ws.servers.asgi import BluejayMiddleware
async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        for word in ("startup", "shutdown"):
            await receive()
            await send({"type": f"lifespan.{word}.complete"})
        return
    await receive()
    await send({"type": "websocket.accept"})
    left = 60
    while left:
        left -= os.path.exists(os.environ["GONE"])
        await send({"type": "websocket.send", "bytes": bytes(64000)})
        await asyncio.sleep(0.005)
app = BluejayMiddleware(app)
"""


@pytest.mark.skipif(not importlib.util.find_spec("granian"), reason="granian is not installed")
def test_granian_takes_what_is_sent_to_nobody_and_the_report_says_that_the_caller_was_gone(
    platform: FakePlatform, tmp_path: Path
) -> None:
    """Asked once more at the end, its receive answers at once where the caller is gone; one that stayed was left."""
    (tmp_path / "sends.py").write_text(GRANIAN)
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    environment = {**os.environ, "BLUEJAY_API_KEY": "test-key", "BLUEJAY_API_URL": platform.url}
    gone = tmp_path / "gone"
    environment |= {"BLUEJAY_SPOOL": str(tmp_path / "spool"), "PYTHONPATH": str(tmp_path), "GONE": str(gone)}
    command = [sys.executable, "-m", "granian", "--interface", "asgi", "--port", str(port), "sends:app"]
    server = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        reset, stays = _when_it_listens(port, "1"), dial(port, "2")
        assert reset.recv(1)
        reset.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        reset.close()
        gone.touch()
        with stays:
            threading.Thread(target=_drain, args=(stays,), daemon=True).start()
            reports = {report.simulation_result_id: report for report in platform.wait_for(2, timeout=20)}
    finally:
        server.send_signal(signal.SIGTERM)
        server.wait(20)
    by = {name: report.events[-1]["metadata"]["bluejay_ws"]["closed_by"] for name, report in reports.items()}
    assert by == {"1": "nobody", "2": "agent"}


def _when_it_listens(port: int, identity: str) -> socket.socket:
    for _ in range(200):
        with contextlib.suppress(ConnectionError):
            return dial(port, identity)
        threading.Event().wait(0.1)
    raise TimeoutError("granian does not listen")


def _drain(peer: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while peer.recv(1 << 20):
            pass
