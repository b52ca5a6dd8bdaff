"""A bridge from Bluejay to OpenAI Realtime. The lines that concern bluejay_ws are marked.

python examples/openai_bridge.py 8765               (with a made-up provider; PROVIDER_URL names a real one)
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
        tools = [{"type": "function", "name": "freeze_card", "description": "Freeze a card."}]
        await provider.send(json.dumps({"type": "session.update", "session": {"tools": tools}}))
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
    audio = base64.b64encode(bridge.resampled(pcm, 16_000, 24_000)).decode()
    return json.dumps({"type": "input_audio_buffer.append", "audio": audio})


async def take(websocket: ServerConnection, provider: ClientConnection, message: dict[str, Any]) -> None:
    """Play what the model says, and run its tools."""
    if message["type"] == "response.output_audio.delta":
        await bridge.play(websocket, bridge.resampled(base64.b64decode(message["delta"]), 24_000, 16_000))
    elif message["type"] == "response.function_call_arguments.done":
        result = await bridge.freeze_card(**json.loads(message["arguments"]))
        item = {"type": "function_call_output", "call_id": message["call_id"], "output": json.dumps(result)}
        await provider.send(json.dumps({"type": "conversation.item.create", "item": item}))
        await provider.send(json.dumps({"type": "response.create"}))


if __name__ == "__main__":
    bridge.run(agent, "openai")
