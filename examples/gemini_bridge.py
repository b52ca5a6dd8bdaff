"""A bridge from Bluejay to Gemini Live. The lines that concern bluejay_ws are marked.

python examples/gemini_bridge.py 8765               (with a made-up provider; PROVIDER_URL names a real one)
bluejay-ws call ws://localhost:8765 --platform      (in another terminal)
"""

from __future__ import annotations

import asyncio
import base64
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
        tools = [{"functionDeclarations": [{"name": "freeze_card", "description": "Freeze a card."}]}]
        await provider.send(json.dumps({"setup": {"model": "models/gemini-live", "tools": tools}}))
        listening = asyncio.create_task(listen(websocket, provider))
        try:
            async for message in provider:
                await take(websocket, provider, json.loads(message))
        finally:
            listening.cancel()


async def listen(websocket: ServerConnection, provider: ClientConnection) -> None:
    """Pass the caller's audio on; when the caller hangs up, so does the bridge."""
    async for message in websocket:
        if isinstance(message, bytes):
            await provider.send(append(message))
    await provider.close()


def append(pcm: bytes) -> str:
    """Return the caller's audio as the model takes it."""
    audio = {"data": base64.b64encode(pcm).decode(), "mimeType": "audio/pcm;rate=16000"}
    return json.dumps({"realtimeInput": {"audio": audio}})


async def take(websocket: ServerConnection, provider: ClientConnection, message: dict[str, Any]) -> None:
    """Play what the model says, and run its tools."""
    for part in message.get("serverContent", {}).get("modelTurn", {}).get("parts", ()):
        pcm = base64.b64decode(part["inlineData"]["data"])
        await bridge.play(websocket, bridge.resampled(pcm, 24_000, 16_000))
    for call in message.get("toolCall", {}).get("functionCalls", ()):
        output = {"output": await bridge.freeze_card(**call["args"])}
        response = {"id": call["id"], "name": call["name"], "response": output}
        await provider.send(json.dumps({"toolResponse": {"functionResponses": [response]}}))


if __name__ == "__main__":
    bridge.run(agent, "gemini")
