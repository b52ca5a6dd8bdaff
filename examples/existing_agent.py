"""An agent that knows nothing of bluejay_ws; `wrap_existing_agent.py` puts it round this one.

python examples/existing_agent.py 8765
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import math
import struct
import sys
from typing import TYPE_CHECKING

from websockets.asyncio.server import serve

if TYPE_CHECKING:
    from websockets.asyncio.server import ServerConnection

ORDERS = {"7": "on its way", "8": "lost"}


def order_status(number: str) -> str:
    """Say where an order is."""
    return ORDERS.get(number, "unknown")


class Agent:
    """Tell each caller where order 7 is, and say goodbye after that."""

    async def handle(self, websocket: ServerConnection) -> None:
        """Serve one caller: answer each utterance."""
        answers = iter([f"Your order is {order_status('7')}.", "Goodbye."])
        async for message in websocket:
            if isinstance(message, str) and json.loads(message)["type"] == "speech.completed":
                await self.say(websocket, next(answers, "Goodbye."))

    async def say(self, websocket: ServerConnection, text: str) -> None:
        """Send a sentence as audio."""
        for _ in range(len(text) * 3):
            await websocket.send(TONE)


TONE = struct.pack("<320h", *(int(3_000 * math.sin(index * math.tau / 40)) for index in range(320)))  # 20 ms


async def main(port: int) -> None:
    """Serve until Ctrl-C."""
    async with serve(Agent().handle, "localhost", port) as server:
        print(f"listening on port {next(iter(server.sockets)).getsockname()[1]}", flush=True)
        await server.serve_forever()


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(main(int(sys.argv[1])))
