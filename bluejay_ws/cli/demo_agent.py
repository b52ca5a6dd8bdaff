"""The agent of `bluejay-ws demo`: a bank's, whose hearing and voice are made up, and whose report is real.

It does what an agent of yours does: serve a websocket, understand, call tools, answer, stop when it is interrupted.
Speech-to-text is a list of what the caller is known to say; the voice is a tone as long as the sentence takes to speak.

    python -m bluejay_ws.cli.demo_agent PORT PACE
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import json
import math
import struct
import sys
import uuid
from typing import TYPE_CHECKING, Any

from websockets.asyncio.server import serve
from websockets.exceptions import ConnectionClosed

from bluejay_ws.client import Bluejay
from bluejay_ws.current import current_recorder
from bluejay_ws.decorator import record
from bluejay_ws.tools import record_tool

if TYPE_CHECKING:
    from collections.abc import Sequence

    from websockets.asyncio.server import ServerConnection

HEARD = ["Hi, I lost my card. It ends in 4242.", "Yes, please freeze it."]
MS_PER_CHARACTER = 45
THINKING = 0.5  # seconds
AHEAD = 0.1  # seconds of audio that are sent before they are heard


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


async def agent(websocket: ServerConnection, pace: float = 1.0) -> None:
    """Greet, then answer each utterance of the caller, and fall silent when the caller begins to speak."""
    understood = iter(HEARD)
    speaking = asyncio.create_task(say(websocket, "Good morning, this is the bank. How can I help?", pace))
    try:
        async for message in websocket:
            kind = json.loads(message)["type"] if isinstance(message, str) else None
            if kind == "speech.started":
                await end(speaking)
            elif kind == "speech.completed":
                await end(speaking)
                speaking = asyncio.create_task(answer(websocket, next(understood, ""), pace))
    finally:
        await end(speaking)


async def end(speaking: asyncio.Task[None]) -> None:
    """Stop to speak, if it still speaks."""
    speaking.cancel()
    await asyncio.wait([speaking])


async def answer(websocket: ServerConnection, understood: str, pace: float) -> None:
    """Do what the caller asks for, and say so."""
    recorder = current_recorder()
    recorder.user_said(understood)
    if "lost" in understood:
        card = await lookup_card("4242")
        await say(
            websocket, f"I found your card ending in {card['last4']}. Shall I freeze it, or order a new one?", pace
        )
    elif "freeze" in understood:
        await freeze_card("4242")
        recorder.add_event("Card frozen", description="A new card goes out by mail", tags=["card"])
        await say(websocket, "Done. Your card is frozen, and a new one is coming.", pace)
    else:
        await say(websocket, "Sorry, I did not understand.", pace)


async def say(websocket: ServerConnection, text: str, pace: float) -> None:
    """Send a sentence as audio, a little ahead of what is heard: what is sent cannot be taken back."""
    duration_ms = len(text) * MS_PER_CHARACTER
    current_recorder().agent_said(text, audio_ms=duration_ms)
    utterance_id = str(uuid.uuid4())
    await websocket.send(control("speech.started", utterance_id=utterance_id))
    try:
        await send_paced(websocket, tone(duration_ms), pace)
        await websocket.send(control("mark", name=f"end of {utterance_id[:8]}"))
    finally:
        with contextlib.suppress(ConnectionClosed):
            await websocket.send(control("speech.completed", utterance_id=utterance_id))


async def send_paced(websocket: ServerConnection, pcm: bytes, pace: float) -> None:
    """Send frames of 20 ms as they are heard, the first few at once."""
    loop = asyncio.get_running_loop()
    due = loop.time() - AHEAD * pace
    for start in range(0, len(pcm), 640):
        await websocket.send(pcm[start : start + 640])
        due += 0.02 * pace
        await asyncio.sleep(max(0.0, due - loop.time()))


def control(kind: str, **data: Any) -> str:
    """Return one of CHIRP's text frames."""
    return json.dumps({"type": kind, "data": data})


def tone(duration_ms: int) -> bytes:
    """Return a quiet tone: 16,000 samples of 16 bit a second."""
    samples = (int(3_000 * math.sin(index * math.tau * 220 / 16_000)) for index in range(16 * duration_ms))
    return struct.pack(f"<{16 * duration_ms}h", *samples)


async def main(port: int, pace: float) -> None:
    """Serve until standard input ends: the process that started this one holds its other end."""
    loop, stopped = asyncio.get_running_loop(), asyncio.Event()
    bluejay = Bluejay(flush_timeout=1.0)  # when the demo is gone, so is its platform
    async with serve(record(functools.partial(agent, pace=pace), client=bluejay), "127.0.0.1", port) as server:
        address: Sequence[Any] = next(iter(server.sockets)).getsockname()
        print(f"ws://127.0.0.1:{address[1]}", flush=True)
        loop.add_reader(sys.stdin.fileno(), stopped.set)
        await stopped.wait()
        loop.remove_reader(sys.stdin.fileno())


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]), float(sys.argv[2])))
