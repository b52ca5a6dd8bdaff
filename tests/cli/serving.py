"""Agents that run beside a test which blocks: each on a thread with an event loop of its own."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from typing import TYPE_CHECKING, Any

from tests.testing.agents import serving

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator

    from websockets.asyncio.server import ServerConnection


@contextlib.contextmanager
def agent_thread(handler: Callable[[ServerConnection], Awaitable[None]], **options: Any) -> Iterator[str]:
    """Serve an agent on a free port, on a thread; give its URL."""
    loop = asyncio.new_event_loop()
    started: list[str] = []
    up, stop = threading.Event(), asyncio.Event()

    async def main() -> None:
        async with serving(handler, **options) as url:
            started.append(url)
            up.set()
            await stop.wait()

    thread = threading.Thread(target=lambda: loop.run_until_complete(main()))
    thread.start()
    try:
        assert up.wait(30)
        yield started[0]
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join()
        loop.close()
