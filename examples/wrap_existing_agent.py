"""Put bluejay_ws round an agent without touching a line of it.

    python examples/wrap_existing_agent.py 8765
    bluejay-ws call ws://localhost:8765 --platform      (in another terminal)

`existing_agent.py` stays as it is: its handler is wrapped where it is served, its tool where it is found, and its
voice by a subclass, whose sentences are known before they are audio.
"""

from __future__ import annotations

import asyncio
import signal
import sys
from typing import TYPE_CHECKING

import existing_agent
from websockets.asyncio.server import serve

from bluejay_ws import current_recorder, record, record_tool

if TYPE_CHECKING:
    from websockets.asyncio.server import ServerConnection

existing_agent.order_status = record_tool(existing_agent.order_status)


class RecordedAgent(existing_agent.Agent):
    """The existing agent, whose words are recorded as it says them."""

    async def say(self, websocket: ServerConnection, text: str) -> None:
        """Record a sentence, and say it."""
        current_recorder().agent_said(text)
        await super().say(websocket, text)


async def main(port: int) -> None:
    """Serve until SIGTERM or Ctrl-C."""
    stopped = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stopped.set)
    async with serve(record(RecordedAgent().handle), "localhost", port) as server:
        print(f"listening on port {next(iter(server.sockets)).getsockname()[1]}", flush=True)
        await stopped.wait()


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1])))
