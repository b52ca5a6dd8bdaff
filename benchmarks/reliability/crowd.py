"""Callers in large numbers: connections that are opened, talk a little, and see the agent go away."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING

from websockets.asyncio.client import connect
from websockets.exceptions import WebSocketException

from benchmarks.reliability.stage import ID_HEADER

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from websockets.asyncio.client import ClientConnection

__all__ = ["Crowd"]

AT_ONCE = 50
FRAME = bytes(640)


class Crowd:
    """Connections to one agent.

    Args:
        url: the agent's.
    """

    def __init__(self, url: str) -> None:
        self._url = url
        self._tasks: list[asyncio.Task[None]] = []

    async def open(self, identities: Iterable[str]) -> list[ClientConnection]:
        """Open a call for each id, and return the connections when each agent has said that it is ready."""
        gate = asyncio.Semaphore(AT_ONCE)

        async def one(identity: str) -> ClientConnection:
            async with gate:
                connection = await self.dial(identity)
                await connection.recv()
                return connection

        return await asyncio.gather(*map(one, identities))

    async def dial(self, identity: str) -> ClientConnection:
        """Open one call."""
        return await connect(
            self._url,
            additional_headers={ID_HEADER: identity},
            compression=None,
            ping_interval=None,
            open_timeout=60,
            close_timeout=5,
        )

    def talk(self, connections: Sequence[ClientConnection], pause: float = 0.01) -> None:
        """Let these talk until they are cut off; each waits for the answer, and a little longer."""
        self._tasks += [asyncio.create_task(self._talk(one, pause)) for one in connections]

    async def _talk(self, connection: ClientConnection, pause: float) -> None:
        with contextlib.suppress(WebSocketException, OSError):
            while True:
                await connection.send(FRAME)
                await connection.recv()
                await asyncio.sleep(pause)

    async def leave(self, connections: Iterable[ClientConnection]) -> None:
        """Stop talking and let go of every connection."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for one in connections:
            one.transport.abort()
