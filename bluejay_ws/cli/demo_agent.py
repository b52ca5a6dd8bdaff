"""The agent of `bluejay-ws demo`: a bank's, whose hearing and voice are made up, and whose report is real.

It does what an agent of yours does: serve a websocket, understand, call tools, answer. Speech-to-text is a list of
what the caller is known to say; the voice is a tone as long as the sentence takes to speak.

    python -m bluejay_ws.cli.demo_agent PORT
"""

from __future__ import annotations

import asyncio
import json
import math
import struct
import sys
import uuid
from typing import TYPE_CHECKING, Any

from websockets.asyncio.server import serve

from bluejay_ws.client import Bluejay
from bluejay_ws.current import current_recorder
from bluejay_ws.decorator import record
from bluejay_ws.tools import record_tool

if TYPE_CHECKING:
    from collections.abc import Sequence

    from websockets.asyncio.server import ServerConnection

__all__ = ["agent", "main"]

HEARD = ["Hi, I lost my card. It ends in 4242.", "Yes, please freeze it."]
MS_PER_CHARACTER = 45
THINKING = 0.5  # seconds


@record_tool
async def lookup_card(last4: str) -> dict[str, str]:
    """Find a card by its last four digits."""
    await asyncio.sleep(THINKING)
    return {"last4": last4, "status": "active", "holder": "R. Caller"}


@record_tool
async def freeze_card(last4: str) -> dict[str, str]:
    """Freeze a card, so that nobody can pay with it."""
    await asyncio.sleep(THINKING)
    return {"last4": last4, "status": "frozen"}


async def agent(websocket: ServerConnection) -> None:
    """Greet, then answer each utterance of the caller."""
    await say(websocket, "Good morning, this is the bank. How can I help?")
    understood = iter(HEARD)
    async for message in websocket:
        if isinstance(message, str) and json.loads(message)["type"] == "speech.completed":
            await answer(websocket, next(understood, ""))


async def answer(websocket: ServerConnection, understood: str) -> None:
    """Do what the caller asks for, and say so."""
    recorder = current_recorder()
    recorder.user_said(understood)
    if "lost" in understood:
        card = await lookup_card("4242")
        await say(websocket, f"I found your card ending in {card['last4']}. Shall I freeze it?")
    elif "freeze" in understood:
        await freeze_card("4242")
        recorder.add_event("Card frozen", description="A new card goes out by mail", tags=["card"])
        await say(websocket, "Done. Your card is frozen, and a new one is coming.")
    else:
        await say(websocket, "Sorry, I did not understand.")


async def say(websocket: ServerConnection, text: str) -> None:
    """Send a sentence as audio, faster than it plays, as most voices do."""
    current_recorder().agent_said(text)
    utterance_id = str(uuid.uuid4())
    await websocket.send(control("speech.started", utterance_id=utterance_id))
    pcm = tone(len(text) * MS_PER_CHARACTER)
    for start in range(0, len(pcm), 640):
        await websocket.send(pcm[start : start + 640])
    await websocket.send(control("mark", name=f"end of {utterance_id[:8]}"))
    await websocket.send(control("speech.completed", utterance_id=utterance_id))


def control(kind: str, **data: Any) -> str:
    """Return one of CHIRP's text frames."""
    return json.dumps({"type": kind, "data": data})


def tone(duration_ms: int) -> bytes:
    """Return a quiet tone: 16,000 samples of 16 bit a second."""
    samples = (int(3_000 * math.sin(index * math.tau * 220 / 16_000)) for index in range(16 * duration_ms))
    return struct.pack(f"<{16 * duration_ms}h", *samples)


async def main(port: int) -> None:
    """Serve until standard input ends: the process that started this one holds its other end."""
    loop, stopped = asyncio.get_running_loop(), asyncio.Event()
    bluejay = Bluejay(flush_timeout=1.0)  # when the demo is gone, so is its platform
    async with serve(record(agent, client=bluejay), "127.0.0.1", port) as server:
        address: Sequence[Any] = next(iter(server.sockets)).getsockname()
        print(f"ws://127.0.0.1:{address[1]}", flush=True)
        loop.add_reader(sys.stdin.fileno(), stopped.set)
        await stopped.wait()
        loop.remove_reader(sys.stdin.fileno())


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1])))
