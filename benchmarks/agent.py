"""The judged end: a `websockets` server in this process, bare or recorded."""

from __future__ import annotations

import asyncio
import resource
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

from websockets.asyncio.server import serve

from bluejay_ws import Bluejay, current_recorder, record
from bluejay_ws.client import Seam
from bluejay_ws.delivery.sender import Sender

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from websockets.asyncio.server import ServerConnection

    from bluejay_ws.delivery.store import Report

__all__ = ["Agent", "Undelivered", "more_descriptors", "undelivered_client"]


class Undelivered(Sender):
    """Leave each sealed report where it is: delivery has measurements of its own."""

    def start(self) -> None:
        """Do nothing."""

    def submit(self, report: Report) -> None:
        """Do nothing."""


def undelivered_client(key: str, **options: Any) -> Bluejay:
    """Return a client whose reports stay where they are."""
    seam = Seam(sender=lambda settings, store, counters: Undelivered(settings, store=store, counters=counters))
    return Bluejay._with(key, seam=seam, **options)


class Agent:
    """Serve an echo, and remember the connections that its handler was given.

    Args:
        client: records its calls; None leaves the handler bare.
        tool_calls: how many are recorded at the start of each call.
    """

    def __init__(self, client: Bluejay | None, *, tool_calls: int = 0) -> None:
        self.connections: list[ServerConnection] = []
        self.url = ""
        self._tool_calls = tool_calls
        self._handler = self._handle if client is None else record(self._handle, client=client)

    async def _handle(self, websocket: ServerConnection) -> None:
        self.connections.append(websocket)
        recorder = current_recorder()
        for number in range(self._tool_calls):
            recorder.add_tool_call("freeze_card", parameters={"last4": "4242"}, output={"status": number})
        async for frame in websocket:
            await websocket.send(frame)
        self.connections.remove(websocket)

    @asynccontextmanager
    async def served(self) -> AsyncIterator[Agent]:
        """Serve at a free port for the length of the block."""
        async with serve(self._handler, "127.0.0.1", 0, compression=None, ping_interval=None) as server:
            self.url = f"ws://127.0.0.1:{server.sockets[0].getsockname()[1]}"
            yield self

    async def connected(self, count: int) -> list[ServerConnection]:
        """Return the connections once there are ``count`` of them."""
        while len(self.connections) != count:  # noqa: ASYNC110 - not worth an event in every handler
            await asyncio.sleep(0.005)
        return self.connections


def more_descriptors() -> None:
    """Allow this process as many open files as the system lets it have."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
