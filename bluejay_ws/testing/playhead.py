"""What the caller hears of audio that arrives faster than it plays. Times are seconds of one clock, passed in."""

from __future__ import annotations

from collections import deque

from bluejay_ws.testing.audio import BYTES_PER_MS


class Playhead:
    """Play a queue of audio, and know when each mark in it has been reached. At pace 0 it plays at once."""

    __slots__ = ("_marks", "_pace", "dropped_ms", "received_ms", "until")

    def __init__(self, pace: float) -> None:
        self._pace = pace
        self._marks: deque[tuple[float, str]] = deque()
        self.until = 0.0  # the queue has been played by then
        self.received_ms = 0.0
        self.dropped_ms = 0.0

    def add(self, size: int, now: float) -> float:
        """Queue ``size`` bytes of audio that arrived at ``now``; return when they begin to play."""
        duration_ms = size / BYTES_PER_MS
        starts = max(now, self.until)
        self.received_ms += duration_ms
        self.until = starts + duration_ms / 1000 * self._pace
        return starts

    def mark(self, name: str, now: float) -> None:
        """Queue a mark behind all audio so far."""
        self._marks.append((max(now, self.until), name))

    def reached(self, now: float) -> list[str]:
        """Return, once, the names of the marks that have been played by ``now``."""
        names = []
        while self._marks and self._marks[0][0] <= now:
            names.append(self._marks.popleft()[1])
        return names

    def next_mark(self) -> float | None:
        """Return when the next mark will be reached, or None."""
        return self._marks[0][0] if self._marks else None

    def clear(self, now: float) -> list[str]:
        """Empty the queue: what has not been played is never heard; return the marks that were not reached.

        The end of a call does it, and the ``clear`` of an agent on a carrier. A caller that speaks over the agent still
        hears what was sent before.
        """
        self.dropped_ms += self.pending_ms(now)
        names = [name for _, name in self._marks]
        self._marks.clear()
        self.until = min(now, self.until)
        return names

    def pending_ms(self, now: float) -> float:
        """Return the milliseconds of audio that are still queued."""
        return (self.until - now) * 1000 / self._pace if self._pace and self.until > now else 0.0

    def heard_ms(self, now: float) -> float:
        """Return the milliseconds of audio that have been heard."""
        return self.received_ms - self.dropped_ms - self.pending_ms(now)

    def heard_at(self, heard_ms: float, now: float) -> float | None:
        """Return when ``heard_ms`` will have been heard in total, or None if so much has not arrived."""
        missing_ms = heard_ms - self.heard_ms(now)
        if missing_ms > self.pending_ms(now) + 0.001:  # a microsecond: the sums are floats
            return None
        return now + max(0.0, missing_ms) / 1000 * self._pace
