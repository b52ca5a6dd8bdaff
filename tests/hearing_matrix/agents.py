"""An agent that listens by itself and answers, in each way in which agents send, on any server."""

from __future__ import annotations

import asyncio
import functools
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from bluejay_ws import current_recorder
from bluejay_ws.testing.audio import frames, silence, voice
from bluejay_ws.testing.spans import is_loud

if TYPE_CHECKING:
    from collections.abc import AsyncIterable, Awaitable, Callable

Sending: TypeAlias = Literal["pacing", "burst", "continuous"]
Stopping: TypeAlias = Literal["at once", "late", "never"]

PAUSE = 0.3  # seconds of quiet that end the caller's turn
LATENCY = 0.45  # seconds from then to the answer
REACTION = {"at once": 0.1, "late": 0.8, "never": 60.0}
SILENCE = silence(20)


@functools.cache
def answer() -> bytes:
    """Return what the agent says."""
    return voice(2_200, rms=3_000)


class TalkingAgent:
    """Answer each of the caller's turns with two seconds of speech, told to the recorder as most agents do.

    Args:
        sending: at the pace of speech, all at once, or without a pause, silence included.
        stopping: what it does when the caller breaks in.
        clear: empties the caller's queue when the agent stops; only carriers let it.
    """

    def __init__(self, sending: Sending, stopping: Stopping, clear: Callable[[], Awaitable[Any]] | None = None) -> None:
        self.sending = sending
        self.stopping = stopping
        self.clear = clear
        self.clearing: asyncio.Future[Any] | None = None
        self.loop = asyncio.get_running_loop()
        self.queue: list[bytes] = []  # what it still has to say
        self.loud_at = -60.0  # when the caller was last loud
        self.loud_from = -60.0
        self.answered = True

    async def run(self, incoming: AsyncIterable[Any], send: Callable[[bytes], Awaitable[Any]]) -> None:
        """Serve one call until the caller hangs up."""
        tasks = [asyncio.create_task(part(send)) for part in (self._speak, self._answer)]
        try:
            async for message in incoming:
                if isinstance(message, bytes) and is_loud(message):
                    self._hear(self.loop.time())
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    def _hear(self, now: float) -> None:
        if now - self.loud_at > PAUSE:
            self.loud_from = now
            self.loop.call_later(REACTION[self.stopping], self._stop)
        self.loud_at = now
        self.answered = False

    def _stop(self) -> None:
        self.queue.clear()
        if self.clear is not None:
            self.clearing = asyncio.ensure_future(self.clear())

    async def _answer(self, send: Callable[[bytes], Awaitable[Any]]) -> None:
        while True:
            await asyncio.sleep(0.02)
            if self.answered or self.loop.time() - self.loud_at < PAUSE:
                continue
            self.answered = True
            current_recorder().user_said("What the caller said.")
            await asyncio.sleep(LATENCY)
            current_recorder().agent_said("What the agent says.")
            if self.sending == "burst":
                for frame in frames(answer()):
                    await send(frame)
            else:
                self.queue += frames(answer())

    async def _speak(self, send: Callable[[bytes], Awaitable[Any]]) -> None:
        due = self.loop.time()
        while True:
            if self.queue:
                await send(self.queue.pop(0))
            elif self.sending == "continuous":
                await send(SILENCE)
            due += 0.02
            await asyncio.sleep(max(0.0, due - self.loop.time()))
