"""Who could be heard when, by the loudness of the samples alone: the truth that a report is compared with."""

from __future__ import annotations

import functools
import operator
import struct
from typing import TYPE_CHECKING, NamedTuple

from bluejay_ws.testing.audio import BYTES_PER_MS

if TYPE_CHECKING:
    from collections.abc import Sequence

WINDOW_MS = 10
LOUD = 200.0  # root mean square; hold noise stays below 150, and a quiet voice lies above 300
PAUSE_MS = 300.0  # a shorter pause belongs to the same stretch of speech
CLICK_MS = 45.0  # a shorter stretch is no speech
STILL_TO_COME_MS = 150.0  # speaking over less than this of the other's speech interrupts nobody
ROUNDING_MS = 0.01  # of times that two sides computed, each in its way


class Span(NamedTuple):
    """A stretch of speech, in milliseconds since the handshake."""

    start_ms: float
    end_ms: float


class Loudness:
    """Collect when one side is loud, from its audio and the time at which that audio is heard."""

    __slots__ = ("_pace", "_pieces", "until")

    def __init__(self, pace: float = 1.0) -> None:
        self._pace = pace
        self._pieces: list[list[float]] = []
        self.until = 0.0  # end of the last loud piece, in seconds

    def add(self, pcm: bytes, at: float) -> float | None:
        """Note audio that is heard from ``at`` on, in seconds of the clock in use.

        Returns:
            When its first loud piece is heard; None for audio without any.
        """
        first, step = None, WINDOW_MS * BYTES_PER_MS
        for offset in range(0, len(pcm), step):
            window = pcm[offset : offset + step]
            if not is_loud(window):
                continue
            start = at + self._seconds(offset)
            self._extend(start, start + self._seconds(len(window)))
            first = start if first is None else first
        return first

    def cut(self, at: float) -> None:
        """Forget what would have been heard after ``at``."""
        self._pieces = [[start, min(end, at)] for start, end in self._pieces if start < at]
        self.until = min(self.until, at)

    def sounding(self, at: float) -> bool:
        """Return whether the side can be heard at ``at``, pauses between words included."""
        return any(start <= at < end for start, end in reversed(self._pieces))

    def spans(self, began: float, ended: float) -> list[Span]:
        """Return the stretches of speech, as milliseconds since ``began``; ``ended`` cuts what was still queued."""
        shortest = CLICK_MS * self._pace
        found = [
            Span((start - began) * 1000, (min(end, ended) - began) * 1000)
            for start, end in self._pieces
            if start < ended
        ]
        return [span for span in found if span.end_ms - span.start_ms >= shortest]

    def _extend(self, start: float, end: float) -> None:
        if self._pieces and start - self._pieces[-1][1] < PAUSE_MS / 1000 * self._pace:
            self._pieces[-1][1] = max(end, self._pieces[-1][1])
        else:
            self._pieces.append([start, end])
        self.until = max(self.until, end)

    def _seconds(self, size: int) -> float:
        return size / BYTES_PER_MS / 1000 * self._pace


@functools.lru_cache(maxsize=4_096)  # noise and silence come again and again
def is_loud(window: bytes) -> bool:
    """Return whether the samples are louder than hold noise."""
    count = len(window) // 2
    samples = struct.unpack_from(f"<{count}h", window)
    power: int = sum(map(operator.mul, samples, samples))
    return power > LOUD * LOUD * count


def barge_ins(speaker: Sequence[Span], other: Sequence[Span]) -> list[Span]:
    """Return where ``speaker`` began to speak while ``other`` was heard and had more than 150 ms still to come.

    Each span reaches from that start to the end of the overlap.
    """
    return [
        Span(mine.start_ms, min(mine.end_ms, theirs.end_ms))
        for mine in speaker
        for theirs in other
        if theirs.start_ms < mine.start_ms < theirs.end_ms - STILL_TO_COME_MS
    ]


def latencies(user: Sequence[Span], agent: Sequence[Span]) -> list[Span]:
    """Return how long the caller waited for each answer: from its last loud moment to the agent's first.

    A turn that the agent spoke over to its end, or that the caller followed up by itself, has none.
    """
    waits = []
    for index, turn in enumerate(user):
        if any(answer.start_ms + ROUNDING_MS < turn.end_ms < answer.end_ms for answer in agent):
            continue
        limit = user[index + 1].start_ms if index + 1 < len(user) else float("inf")
        starts = [answer.start_ms for answer in agent if turn.end_ms - ROUNDING_MS <= answer.start_ms < limit]
        if starts:
            waits.append(Span(turn.end_ms, starts[0]))
    return waits
