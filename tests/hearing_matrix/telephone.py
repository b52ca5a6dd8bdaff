"""A caller whom Twilio's Media Streams bring, and an agent that speaks its language."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import functools
import json
import struct
from typing import TYPE_CHECKING, Any

from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed

from bluejay_ws.testing.audio import frames, hold_noise, mulaw
from bluejay_ws.testing.playhead import Playhead
from bluejay_ws.testing.spans import Loudness, Span
from tests.support import DIRECTLY

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable


@functools.cache
def wide() -> dict[int, bytes]:
    """Return what each byte of mu-law stands for: a sample that is coded as that byte, twice."""
    samples = range(-32_000, 32_001, 4)
    codes = mulaw(struct.pack(f"<{len(samples)}h", *samples))
    coded = {code: struct.pack("<2h", sample, sample) for sample, code in zip(samples, codes, strict=True)}
    return dict.fromkeys(range(256), bytes(4)) | coded


def telephone(pcm: bytes) -> str:
    """Return 16,000 Hz PCM as a carrier's payload: 8,000 Hz mu-law in base64."""
    samples = struct.unpack(f"<{len(pcm) // 2}h", pcm)[::2]
    return base64.b64encode(mulaw(struct.pack(f"<{len(samples)}h", *samples))).decode()


def wideband(payload: str) -> bytes:
    """Return a carrier's payload as 16,000 Hz PCM."""
    return b"".join(map(wide().__getitem__, base64.b64decode(payload)))


class TwilioCall:
    """Ring an agent, speak, hear what is queued until the agent clears it, and know who was heard when.

    Args:
        url: of the agent.
        parameters: custom parameters of the ``start`` message.
    """

    def __init__(self, url: str, parameters: dict[str, str]) -> None:
        self.url = url
        self.start = {"streamSid": "MZ1", "callSid": "CA1", "tracks": ["inbound"], "customParameters": parameters}
        self.start["mediaFormat"] = {"encoding": "audio/x-mulaw", "sampleRate": 8_000, "channels": 1}
        self.loop = asyncio.get_running_loop()
        self.playhead = Playhead(1.0)
        self.saying: list[bytes] = []
        self.user = Loudness()
        self.heard: list[tuple[float, float]] = []  # loud audio of the agent's as it was queued
        self.user_spans: list[Span] = []
        self.agent_spans: list[Span] = []

    @contextlib.asynccontextmanager
    async def ring(self) -> AsyncIterator[TwilioCall]:
        """Call, and hang up on the way out."""
        async with connect(self.url, **DIRECTLY) as connection:
            self.began = self.loop.time()
            await connection.send(json.dumps({"event": "connected", "protocol": "Call", "version": "1.0.0"}))
            await connection.send(json.dumps({"event": "start", "streamSid": "MZ1", "start": self.start}))
            tasks = [asyncio.create_task(part(connection)) for part in (self._speak, self._hear)]
            yield self
            for task in tasks:
                task.cancel()
            self._end()

    async def say(self, pcm: bytes) -> None:
        """Speak, and wait until it is said."""
        self.saying += frames(pcm)
        while self.saying:
            await asyncio.sleep(0.02)

    async def wait(self, *, heard: float = 1e9, quiet: float = 0.6) -> None:
        """Wait until the agent has spoken for so many seconds, or has been quiet for so many after it spoke."""
        asked = self.loop.time()
        while True:
            await asyncio.sleep(0.02)
            now = self.loop.time()
            since = [start for start, _ in self.heard if start > asked]
            if since and (now >= since[0] + heard or now > max(end for _, end in self.heard) + quiet):
                return

    async def _speak(self, connection: Any) -> None:
        noise, due = list(frames(hold_noise(1_000))), self.loop.time()
        for number in range(10**6):
            pcm = self.saying.pop(0) if self.saying else noise[number % len(noise)]
            self.user.add(pcm, self.loop.time())
            media = {"track": "inbound", "payload": telephone(pcm)}
            await connection.send(json.dumps({"event": "media", "streamSid": "MZ1", "media": media}))
            due += 0.02
            await asyncio.sleep(due - self.loop.time())

    async def _hear(self, connection: Any) -> None:
        with contextlib.suppress(ConnectionClosed):
            async for text in connection:
                message, now = json.loads(text), self.loop.time()
                if message["event"] == "media":
                    pcm = wideband(message["media"]["payload"])
                    starts = self.playhead.add(len(pcm), now)
                    one = Loudness()
                    if one.add(pcm, starts) is not None:
                        self.heard.append((starts, one.until))
                elif message["event"] == "clear":
                    self.playhead.clear(now)
                    self.heard = [(start, min(end, now)) for start, end in self.heard if start < now]

    def _end(self) -> None:
        self.user_spans = self.user.spans(self.began, self.loop.time())
        spans: list[list[float]] = []
        for start, end in self.heard:
            if spans and start - spans[-1][1] < 0.3:
                spans[-1][1] = end
            else:
                spans.append([start, end])
        self.agent_spans = [Span((start - self.began) * 1000, (end - self.began) * 1000) for start, end in spans]


async def pcm_of(connection: Any) -> AsyncIterator[bytes]:
    """Yield the caller's audio as an agent for Twilio reads it."""
    async for text in connection:
        message = json.loads(text)
        if message["event"] == "media":
            yield wideband(message["media"]["payload"])


def to_twilio(send: Callable[[str], Awaitable[Any]]) -> Callable[[bytes], Awaitable[Any]]:
    """Return what sends PCM as an agent for Twilio sends it."""
    return lambda pcm: send(json.dumps({"event": "media", "streamSid": "MZ1", "media": {"payload": telephone(pcm)}}))
