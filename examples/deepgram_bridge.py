"""A bridge from Bluejay to Deepgram's Voice Agent. The lines that concern bluejay_ws are marked.

python examples/deepgram_bridge.py 8765               (with a made-up provider; PROVIDER_URL names a real one)
bluejay-ws call ws://localhost:8765 --platform      (in another terminal)
"""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any

import bridge
from websockets.asyncio.client import ClientConnection, connect

from bluejay_ws import record  # <--
from bluejay_ws.integrations.watch import watch  # <--

if TYPE_CHECKING:
    from websockets.asyncio.server import ServerConnection


@record  # <--
async def agent(websocket: ServerConnection) -> None:
    """Serve one caller."""
    async with watch(connect(bridge.address)) as provider:  # <--
        functions = [{"name": "freeze_card", "description": "Freeze a card."}]
        linear = {"encoding": "linear16", "sample_rate": 16_000}
        settings = {"audio": {"input": linear, "output": linear}, "agent": {"think": {"functions": functions}}}
        await provider.send(json.dumps({"type": "Settings", **settings}))
        listening = asyncio.create_task(listen(websocket, provider))
        try:
            async for message in provider:
                await take(websocket, provider, message if isinstance(message, bytes) else json.loads(message))
        finally:
            listening.cancel()


async def listen(websocket: ServerConnection, provider: ClientConnection) -> None:
    """Pass the caller's audio on; when the caller hangs up, so does the bridge."""
    async for message in websocket:
        if isinstance(message, bytes):
            await provider.send(message)
    await provider.close()


async def take(websocket: ServerConnection, provider: ClientConnection, message: Any) -> None:
    """Play what the model says, and run its tools."""
    if isinstance(message, bytes):
        await bridge.play(websocket, message)
    elif message["type"] == "FunctionCallRequest":
        for call in message["functions"]:
            result = json.dumps(await bridge.freeze_card(**json.loads(call["arguments"])))
            answer = {"type": "FunctionCallResponse", "id": call["id"], "name": call["name"], "content": result}
            await provider.send(json.dumps(answer))


if __name__ == "__main__":
    bridge.run(agent, "deepgram")
