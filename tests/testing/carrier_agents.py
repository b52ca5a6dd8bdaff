"""Agents for telephone carriers: each reads and writes its carrier's messages by itself, as documented."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import struct
from typing import TYPE_CHECKING, Any

from bluejay_ws import current_recorder
from bluejay_ws.testing.audio import frames, voice
from bluejay_ws.testing.spans import is_loud
from tests.hearing_matrix.telephone import telephone, wideband

if TYPE_CHECKING:
    from collections.abc import Callable

ANSWER = voice(1_500)
LATENCY = 0.4  # seconds from the caller's last sound to the agent's first, pauses included
QUIET = 0.3


def narrow(pcm: bytes) -> bytes:
    """Return 16,000 Hz PCM at 8,000 Hz."""
    samples = struct.unpack(f"<{len(pcm) // 2}h", pcm)[::2]
    return struct.pack(f"<{len(samples)}h", *samples)


class CarrierAgent:
    """Answer when the caller has been quiet; fall silent and clear the queue when the caller breaks in.

    Args:
        send: to the carrier.
        burst: send the whole answer at once.
    """

    audio_event = "media"
    mark_back = "mark"

    def __init__(self, send: Callable[[Any], Any], *, burst: bool = False) -> None:
        self.send = send
        self.burst = burst
        self.loop = asyncio.get_running_loop()
        self.stream = ""
        self.got: list[dict[str, Any]] = []  # every message but audio
        self.answer: asyncio.Task[None] | None = None
        self.asleep: asyncio.TimerHandle | None = None
        self.marks = 0
        self.media = 0

    async def run(self, connection: Any) -> None:
        """Serve one call."""
        async for message in connection:
            await self.take(message)

    async def take(self, message: str | bytes) -> None:
        """Read one message."""
        found = json.loads(message)
        if found["event"] == "media":
            self.media += 1
            await self.hear(self.decode(found["media"]["payload"]))
            return
        self.got.append(found)
        if found["event"] == "start":
            self.stream = found.get("streamSid") or found.get("stream_id") or found["start"]["streamId"]

    def decode(self, payload: str) -> bytes:
        """Return the caller's PCM."""
        return wideband(payload)

    async def hear(self, pcm: bytes) -> None:
        """Follow the caller's voice."""
        if not is_loud(pcm):
            return
        if self.answer is not None and not self.answer.done():
            self.answer.cancel()
            await self.clear()
        if self.asleep is not None:
            self.asleep.cancel()
        self.asleep = self.loop.call_later(LATENCY, self.begin)

    def begin(self) -> None:
        """Answer."""
        self.answer = self.loop.create_task(self.speak())

    async def speak(self) -> None:
        """Say something, and mark its end."""
        current_recorder().user_said("What the caller said.")
        current_recorder().agent_said("It is booked.")
        with contextlib.suppress(Exception):  # the caller may be gone
            for pcm in frames(ANSWER):
                await self.say(pcm)
                if not self.burst:
                    await asyncio.sleep(0.02)
            self.marks += 1
            await self.mark(f"m{self.marks}")
            if self.burst:
                await asyncio.sleep(60)  # what was sent is still to be heard: a caller who breaks in clears it

    async def put(self, event: str, **more: Any) -> None:
        """Send one message."""
        await self.send(json.dumps({"event": event, **more}))

    async def say(self, pcm: bytes) -> None:
        """Send audio."""
        raise NotImplementedError

    async def mark(self, name: str) -> None:
        """Send a mark."""
        raise NotImplementedError

    async def clear(self) -> None:
        """Empty the caller's queue."""
        raise NotImplementedError


class TwilioAgent(CarrierAgent):
    """Names the stream in everything that it sends."""

    async def say(self, pcm: bytes) -> None:
        await self.put("media", streamSid=self.stream, media={"payload": telephone(pcm)})

    async def mark(self, name: str) -> None:
        await self.put("mark", streamSid=self.stream, mark={"name": name})

    async def clear(self) -> None:
        await self.put("clear", streamSid=self.stream)


class TelnyxAgent(CarrierAgent):
    """Needs no name for the stream."""

    async def say(self, pcm: bytes) -> None:
        await self.put("media", media={"payload": telephone(pcm)})

    async def mark(self, name: str) -> None:
        await self.put("mark", mark={"name": name})

    async def clear(self) -> None:
        await self.put("clear")


class PlivoAgent(CarrierAgent):
    """Says how its audio is coded: L16, while the caller's is mu-law."""

    mark_back = "playedStream"

    async def say(self, pcm: bytes) -> None:
        payload = base64.b64encode(narrow(pcm)).decode()
        await self.put("playAudio", media={"contentType": "audio/x-l16", "sampleRate": 8_000, "payload": payload})

    async def mark(self, name: str) -> None:
        await self.put("checkpoint", streamId=self.stream, name=name)

    async def clear(self) -> None:
        await self.put("clearAudio", streamId=self.stream)


class VonageAgent(CarrierAgent):
    """Takes and sends binary audio."""

    mark_back = "websocket:notify"

    async def take(self, message: str | bytes) -> None:
        if isinstance(message, bytes):
            await self.hear(message)
        else:
            self.got.append(json.loads(message))

    async def say(self, pcm: bytes) -> None:
        await self.send(pcm)

    async def mark(self, name: str) -> None:
        await self.send(json.dumps({"action": "notify", "payload": {"name": name}}))

    async def clear(self) -> None:
        await self.send(json.dumps({"action": "clear"}))


AGENTS: dict[str, type[CarrierAgent]] = {
    "twilio": TwilioAgent, "telnyx": TelnyxAgent, "plivo": PlivoAgent, "vonage": VonageAgent,
}  # fmt: skip
