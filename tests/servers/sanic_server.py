"""Sanic's own server for one test, on a port of its own."""

from __future__ import annotations

import contextlib
import socket
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

__all__ = ["sanic_server"]


@contextlib.asynccontextmanager
async def sanic_server(app: Any) -> AsyncIterator[str]:
    """Serve ``app`` and give its URL."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        server = await app.create_server(sock=listening, return_asyncio_server=True, access_log=False)
        await server.startup()
        await server.start_serving()
        yield f"ws://127.0.0.1:{listening.getsockname()[1]}"
        server.close()
        await server.wait_closed()
