"""A bank's agent on `websockets`: it understands, calls tools, answers, and can be interrupted.

    bluejay-ws call --run "python examples/websockets_agent.py 8765"

The lines that concern bluejay_ws are marked. Speech-to-text, the model and the voice are made up; put yours there.
"""

from __future__ import annotations

import asyncio
import json
import math
import signal
import struct
import sys
import uuid
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from websockets.asyncio.server import serve

from bluejay_ws import current_recorder, record, record_tool  # <--

if TYPE_CHECKING:
    from websockets.asyncio.server import ServerConnection
    from websockets.http11 import Request, Response

FRAME_BYTES = 640  # 20 ms of 16,000 Hz, 16 bit, mono
SPEED = 4  # the voice is sent four times faster than it plays


@record_tool  # <--
async def lookup_card(last4: str) -> dict[str, str]:
    """Find a card by its last four digits."""
    await asyncio.sleep(0.05)
    return {"last4": last4, "status": "active"}


@record_tool  # <--
async def freeze_card(last4: str) -> dict[str, str]:
    """Freeze a card, so that nobody can pay with it."""
    await asyncio.sleep(0.05)
    return {"last4": last4, "status": "frozen"}


class Conversation:
    """One caller: what is heard goes in, what is answered goes out, and a caller who speaks is never spoken over."""

    def __init__(self, websocket: ServerConnection) -> None:
        self.websocket = websocket
        self.understood = iter(["Hi, I lost my card. It ends in 4242.", "Yes, please freeze it."])
        self.speaking: asyncio.Task[None] | None = None

    async def run(self) -> None:
        """Take messages until the caller hangs up."""
        try:
            async for message in self.websocket:
                if isinstance(message, str):  # binary messages would go to speech-to-text
                    await self.take(json.loads(message))
        finally:
            await self.fall_silent()

    async def take(self, frame: dict[str, Any]) -> None:
        """Follow the caller: silent while they speak, answering when they have spoken."""
        if frame["type"] == "speech.started":
            await self.fall_silent()
        elif frame["type"] == "speech.completed":
            await self.fall_silent()
            self.speaking = asyncio.create_task(self.answer(next(self.understood, "")))

    async def answer(self, text: str) -> None:
        """Do what the caller asks for, and say so."""
        current_recorder().user_said(text)  # <--
        if "lost my card" in text:
            card = await lookup_card("4242")
            await self.say(f"I found the card ending in {card['last4']}. Shall I freeze it?")
        elif "freeze" in text:
            card = await freeze_card("4242")
            await self.say(f"Your card is {card['status']}. Goodbye!")
        else:
            await self.say("Sorry, could you say that again?")

    async def say(self, text: str) -> None:
        """Send a sentence as audio, frame by frame."""
        current_recorder().agent_said(text)  # <--
        utterance = {"utterance_id": str(uuid.uuid4())}
        await self.send("speech.started", utterance)
        pcm = voice(text)
        for start in range(0, len(pcm), FRAME_BYTES):
            await self.websocket.send(pcm[start : start + FRAME_BYTES])
            await asyncio.sleep(0.02 / SPEED)
        await self.send("mark", {"name": text[:16]})
        await self.send("speech.completed", utterance)

    async def send(self, kind: str, data: dict[str, str]) -> None:
        """Send one text frame."""
        await self.websocket.send(json.dumps({"type": kind, "data": data}))

    async def fall_silent(self) -> None:
        """Stop speaking, if speaking."""
        if self.speaking is not None:
            self.speaking.cancel()
            await asyncio.wait([self.speaking])


def voice(text: str) -> bytes:
    """Return a tone as long as the text takes to say."""
    samples = len(text) * 16 * 45  # 45 ms for each character
    return struct.pack(f"<{samples}h", *(int(3_000 * math.sin(index / 16)) for index in range(samples)))


@record  # <--
async def agent(websocket: ServerConnection) -> None:
    """Serve one caller."""
    await Conversation(websocket).run()


def health(connection: ServerConnection, request: Request) -> Response | None:
    """Answer health checks with 200, and let everything else be a call."""
    return connection.respond(HTTPStatus.OK, "well\n") if request.path == "/health" else None


async def main(port: int, host: str = "localhost") -> None:
    """Serve until SIGTERM or Ctrl-C; leaving ``asyncio.run`` in order lets the last reports be delivered."""
    stopped = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stopped.set)
    async with serve(agent, host, port, process_request=health) as server:
        print(f"listening on port {next(iter(server.sockets)).getsockname()[1]}", flush=True)
        await stopped.wait()


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]), *sys.argv[2:3]))
