"""Serve an ASGI application in the test's own event loop, and drive one by hand, without any server."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import warnings
from typing import TYPE_CHECKING, Any

import uvicorn
from uvicorn.config import WS_PROTOCOLS

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # newer versions prefer an HTTP client that nothing else here needs
    from starlette.testclient import TestClient

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, MutableMapping

__all__ = [
    "HEADERS",
    "WS",
    "Peer",
    "TestClient",
    "audio",
    "hang_up",
    "refusal",
    "text",
    "uvicorn_server",
    "websocket_scope",
]

# What uvicorn can speak websockets with; older versions do not have the first, and their own default is deprecated.
WS = [name for name in ("websockets-sansio", "wsproto") if name in WS_PROTOCOLS]
HEADERS = {"X-Simulation-Result-Id": "720488"}


class _Server(uvicorn.Server):
    """A server that ends when it is told to, and not at its next look ten times a second."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.told = asyncio.Event()

    async def main_loop(self) -> None:
        """Wait for the end."""
        await self.on_tick(0)
        await self.told.wait()


@contextlib.asynccontextmanager
async def uvicorn_server(app: Any, ws: str = WS[0]) -> AsyncIterator[str]:
    """Serve ``app`` with uvicorn on a free port, lifespan included; give its URL, and shut it down on the way out."""
    config = uvicorn.Config(app, host="127.0.0.1", port=0, ws=ws, log_config=None, timeout_graceful_shutdown=2)
    logging.getLogger("uvicorn.error").setLevel(logging.CRITICAL)
    server = _Server(config)
    task = asyncio.create_task(server.serve())
    while not server.started:
        await asyncio.sleep(0.005)
    try:
        yield f"ws://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    finally:
        server.told.set()
        await task


async def refusal(url: str, headers: dict[str, str]) -> str:
    """Ask for an upgrade by hand and return the status line of the answer; empty if the server just leaves."""
    address, _, path = url.removeprefix("ws://").partition("/")
    host, _, port = address.partition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    lines = [f"GET /{path} HTTP/1.1", f"Host: {host}", "Upgrade: websocket", "Connection: Upgrade"]
    lines += ["Sec-WebSocket-Version: 13", "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA=="]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    writer.write("\r\n".join([*lines, "", ""]).encode())
    status = await reader.readline()
    writer.close()
    with contextlib.suppress(ConnectionError):
        await writer.wait_closed()
    return status.decode().strip()


def websocket_scope(*values: str, **more: Any) -> dict[str, Any]:
    """Return the scope of a websocket whose connect request carries the id header with these values."""
    headers = [(b"host", b"localhost"), *((b"x-simulation-result-id", value.encode("latin-1")) for value in values)]
    return {"type": "websocket", "path": "/", "query_string": b"", "headers": headers, **more}


class Peer:
    """Both ends of an ASGI application without a server: what it receives is given, what it sends is kept."""

    def __init__(self, *messages: dict[str, Any]) -> None:
        self.messages = [{"type": "websocket.connect"}, *messages]
        self.sent: list[MutableMapping[str, Any]] = []

    async def receive(self) -> MutableMapping[str, Any]:
        return self.messages.pop(0)

    async def send(self, message: MutableMapping[str, Any]) -> None:
        self.sent.append(message)


def audio(size: int = 640) -> dict[str, Any]:
    """Return a binary message as a server hands it to the application."""
    return {"type": "websocket.receive", "bytes": bytes(size)}


def text(text: str) -> dict[str, Any]:
    """Return a text message as a server hands it to the application."""
    return {"type": "websocket.receive", "bytes": None, "text": text}


def hang_up(code: int | None = 1000, reason: str | None = "") -> dict[str, Any]:
    """Return the end of the connection as a server tells it to the application."""
    return {"type": "websocket.disconnect", "code": code, "reason": reason}
