"""One agent of the fleet: a `websockets` server that answers each message, and records a tool call for it.

It has no API key. Its reports go to the database that ``BLUEJAY_SPOOL`` names. That and ``@record`` is all it takes.
"""

from __future__ import annotations

import asyncio
import signal
from typing import TYPE_CHECKING

from websockets.asyncio.server import serve

from bluejay_ws import current_recorder, record

if TYPE_CHECKING:
    from websockets.asyncio.server import ServerConnection


@record
async def agent(websocket: ServerConnection) -> None:
    """Answer each message when its tool call is recorded."""
    async for message in websocket:
        with current_recorder().tool_call("answer", {"message": str(message)}) as tool:
            tool.output = {"length": len(message)}
        await websocket.send(message)


async def main() -> None:
    """Serve until SIGTERM; leaving ``asyncio.run`` in order hands the last reports over."""
    stopped = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stopped.set)
    async with serve(agent, "127.0.0.1", 0, compression=None) as server:
        print(next(iter(server.sockets)).getsockname()[1], flush=True)
        await stopped.wait()


if __name__ == "__main__":
    asyncio.run(main())
