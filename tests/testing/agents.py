"""Small agents for the caller to talk to."""

from __future__ import annotations

import contextlib
import json
from typing import TYPE_CHECKING, Any

from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed

from bluejay_ws.testing.audio import frames, tone
from bluejay_ws.testing.protocols import text_frame

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable


@contextlib.asynccontextmanager
async def serving(handler: Callable[[ServerConnection], Awaitable[None]], **options: Any) -> AsyncIterator[str]:
    """Serve an agent on a free port; give its URL."""
    async with serve(handler, "127.0.0.1", options.pop("port", 0), **options) as server:
        scheme = "wss" if options.get("ssl") else "ws"
        yield f"{scheme}://127.0.0.1:{next(iter(server.sockets)).getsockname()[1]}"


async def silent_agent(connection: ServerConnection) -> None:
    """Take everything, say nothing."""
    async for _ in connection:
        pass


class AnsweringAgent:
    """Answer each utterance with a tone and a mark; keep the headers and what was received."""

    def __init__(self, answer_ms: float = 100, *, greets: bool = False) -> None:
        self.voice = list(frames(tone(answer_ms)))
        self.greets = greets
        self.headers: list[tuple[str, str]] = []
        self.received: list[bytes | str] = []
        self.close_code: int | None = None

    async def __call__(self, connection: ServerConnection) -> None:
        assert connection.request is not None
        self.headers = list(connection.request.headers.raw_items())
        if self.greets:
            await self.answer(connection, "greeting")
        with contextlib.suppress(ConnectionClosed):
            async for message in connection:
                self.received.append(message)
                if isinstance(message, str) and json.loads(message)["type"] == "speech.completed":
                    await self.answer(connection, f"answer {len(self.received)}")
        self.close_code = connection.protocol.close_code

    async def answer(self, connection: ServerConnection, name: str) -> None:
        await connection.send(text_frame("speech.started", utterance_id=name))
        for frame in self.voice:
            await connection.send(frame)
        await connection.send(text_frame("mark", name=name))
        await connection.send(text_frame("speech.completed", utterance_id=name))

    def values(self, header: str) -> list[str]:
        return [value for name, value in self.headers if name.lower() == header.lower()]
