"""When the caller's audio was spoken, from when it was read: frames that waited were spoken one right after the other.

Where a handler sleeps, or the event loop is held up, frames wait and are read late. A caller speaks for as long as its
audio lasts. So frames that come late, and then faster than they last until nothing is late any more, were spoken
without a pause; they are placed so. After a real pause frames come at the pace of speech: those stand where they came.

Pure, like everything in this room.
"""

from __future__ import annotations

from typing import TypeAlias

from bluejay_ws.hearing.level import NEVER, PIECE_MS

LATE_MS = 20.0  # a frame that comes so much later than the end of the last one has waited, or there was a pause
LEAN = 0.25
"""Frames that come a little late are taken to be that late by this share: the network is never early."""
LONGEST_MS = 10_000.0  # nothing waits for longer
FRAMES_MOST = 1_000
STEADY_MS = 80.0  # frames that come one after the other for so long at the pace of speech do not wait any more;
PACE = 0.75  # that is, in no less than this share of their length. (A busy machine may hold up a single one.)
LEAST_PACE = 0.25  # each of them, that is, comes no sooner than after this share of the one before
PATIENCE_MS = 60.0  # if nothing more comes for so long, nothing more has waited

Sounds: TypeAlias = "list[tuple[float, float]]"
"""Levels and lengths in milliseconds of the pieces of one frame."""
Aside: TypeAlias = "list[tuple[float, bytes]]"
"""Frames of 20 ms that are heard together, each with its time."""
PlacedFrame: TypeAlias = "tuple[float, float, Sounds]"


class Arrivals:
    """Place frames in time, given in the order in which they were read.

    Attributes:
        until: the end of the last frame that was placed; to be moved on by whoever places a frame that is not late.
        waiting: frames of which it is not known yet whether they waited to be read, with their times and lengths.
    """

    __slots__ = ("_waiting_ms", "until", "waiting")

    def __init__(self) -> None:
        self.until = 0.0
        self.waiting: list[PlacedFrame] = []
        self._waiting_ms = 0.0

    def in_time(self, aside: Aside) -> float:
        """Return since when frames that were put aside were spoken, one right after the other; NEVER if that is open.

        None of them is late by now if the last one is not: they were spoken without a pause.
        """
        if self.waiting:
            return NEVER
        late = aside[-1][0] - self.until - PIECE_MS * (len(aside) - 1)
        return NEVER if late > LATE_MS else self.until + (LEAN * late if late > 0.0 else late)

    def place(self, at: float, sounds: Sounds, *, trusted: bool) -> list[PlacedFrame]:
        """Take a frame that was read at ``at``; return what can be placed now, each with its start.

        ``trusted``: the caller's audio comes as fast as it lasts, as far as is known.
        """
        ms = sum(one for _, one in sounds)
        late = at - self.until
        if not self.waiting:
            if late <= LATE_MS:
                return [self._placed(at if late <= 0.0 else self.until + LEAN * late, ms, sounds)]
            if not trusted or late > LONGEST_MS or self.until == 0.0:
                return [self._placed(at, ms, sounds)]
        elif late - self._waiting_ms <= LATE_MS:  # nothing is late any more: they had waited
            return [*self._all_from(self.until), self._placed(min(at, self.until), ms, sounds)]
        elif self._steady(at) or len(self.waiting) >= FRAMES_MOST:
            last_at, last_ms, _ = self.waiting[-1]  # it came as it was spoken, after a pause
            return [*self._all_from(last_at + last_ms - self._waiting_ms), self._placed(at, ms, sounds)]
        self.waiting.append((at, ms, sounds))
        self._waiting_ms += ms
        return []

    def _steady(self, at: float) -> bool:
        """Return whether the last frames came as fast as they were spoken, up to one that comes now."""
        span, after = 0.0, at
        for began, ms, _ in reversed(self.waiting):
            span += ms
            if after - began < LEAST_PACE * ms:
                return False  # these two had waited
            if span >= STEADY_MS:
                return at - began >= PACE * span
            after = began
        return False

    def over(self, now: float) -> list[PlacedFrame]:
        """Return, each with its start, the frames that nothing has followed; at ``now``."""
        if not self.waiting or now - self.waiting[-1][0] < max(PATIENCE_MS, 2 * self.waiting[-1][1]):
            return []
        waiting, self.waiting, self._waiting_ms = self.waiting, [], 0.0
        return [self._placed(at, ms, sounds) for at, ms, sounds in waiting]

    def hurried(self) -> list[PlacedFrame]:
        """Return, each with its start, the frames that came faster than they last: they had waited."""
        waiting = self.waiting
        if len(waiting) > 1 and waiting[-1][0] - waiting[0][0] < PACE * (self._waiting_ms - waiting[-1][1]):
            return self._all_from(self.until)
        return []

    def _all_from(self, start: float) -> list[PlacedFrame]:
        """Place all that waited, one right after the other."""
        waiting, self.waiting, self._waiting_ms, self.until = self.waiting, [], 0.0, start
        return [self._placed(self.until, ms, sounds) for _, ms, sounds in waiting]

    def _placed(self, start: float, ms: float, sounds: Sounds) -> PlacedFrame:
        self.until = start + ms
        return start, ms, sounds
