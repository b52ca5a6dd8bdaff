"""An agent behind a telephony carrier, which takes the header away and brings the id in its first messages.

    pip install bluejay_ws
    python examples/telephony_agent.py 8765
    bluejay-ws call ws://localhost:8765 --platform --protocol twilio      (in another terminal)

The carrier's audio is base64 of 8 kHz mu-law, inside JSON. The library hears it there, in both directions.
"""

from __future__ import annotations

import asyncio
import base64
import json
import signal
import sys
from typing import TYPE_CHECKING

from websockets.asyncio.server import serve

from bluejay_ws import current_recorder, record, record_tool  # <--

if TYPE_CHECKING:
    from websockets.asyncio.server import ServerConnection


TONE = base64.b64encode(b"\x10" * 12 + b"\x90" * 12).decode()  # 3 ms of a hum


@record_tool  # <--
async def transfer(department: str) -> str:
    """Put the caller through."""
    return f"{department} is on the line"


async def say(websocket: ServerConnection, stream: str, text: str) -> None:
    """Say something; your text-to-speech goes here."""
    current_recorder().agent_said(text)  # <-- placed where the caller hears this audio
    media = {"payload": TONE * (17 * len(text))}  # 51 ms a character
    await websocket.send(json.dumps({"event": "media", "streamSid": stream, "media": media}))


@record(id_from=("header", "query", "message"))  # <--
async def agent(websocket: ServerConnection) -> None:
    """Serve one stream of the carrier, from ``connected`` to ``stop``."""
    async for message in websocket:
        frame = json.loads(message)
        if frame["event"] == "start":
            current_recorder().add_alias(frame["start"]["callSid"])  # <-- webhooks find the call by its SID
            current_recorder().add_event("Stream started")  # <--
            await say(websocket, frame["streamSid"], "Welcome. Press 1 for cards.")
        elif frame["event"] == "dtmf":
            now = current_recorder().offset_ms()  # <--
            current_recorder().user_said(f"pressed {frame['dtmf']['digit']}", start_offset_ms=now, end_offset_ms=now)
            await say(websocket, frame["streamSid"], await transfer("Cards"))
        elif frame["event"] == "stop":
            return


async def main(port: int) -> None:
    """Serve until SIGTERM or Ctrl-C."""
    stopped = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stopped.set)
    async with serve(agent, "localhost", port) as server:
        print(f"listening on port {next(iter(server.sockets)).getsockname()[1]}", flush=True)
        await stopped.wait()


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1])))
