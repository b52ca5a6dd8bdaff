"""A bridge from Bluejay to ElevenLabs Agents. The lines that concern bluejay_ws are marked.

python examples/elevenlabs_bridge.py 8765               (with a made-up provider; PROVIDER_URL names a real one)
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
        await provider.send(json.dumps({"type": "conversation_initiation_client_data"}))
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
    """Return the caller's audio as the agent takes it."""
    return json.dumps({"user_audio_chunk": base64.b64encode(pcm).decode()})


async def take(websocket: ServerConnection, provider: ClientConnection, message: dict[str, Any]) -> None:
    """Play what the model says, and run its tools."""
    if message["type"] == "audio":
        await bridge.play(websocket, base64.b64decode(message["audio_event"]["audio_base_64"]))
    elif message["type"] == "client_tool_call":
        call = message["client_tool_call"]
        result = json.dumps(await bridge.freeze_card(**call["parameters"]))
        answer = {"type": "client_tool_result", "tool_call_id": call["tool_call_id"], "is_error": False}
        await provider.send(json.dumps({**answer, "result": result}))


if __name__ == "__main__":
    bridge.run(agent, "elevenlabs")
