"""When one side spoke: from the level of each piece of its audio, against a noise floor that adapts.

Pure, like everything in this room: times are float milliseconds since the handshake and are passed in.
"""

from __future__ import annotations

from math import hypot
from typing import TYPE_CHECKING

from bluejay_ws.hearing.level import BYTES_PER_MS, NEVER, PIECE, PIECE_MS, loudness, measured, shape

if TYPE_CHECKING:
    from bluejay_ws.hearing.arrivals import Aside
    from bluejay_ws.hearing.level import Frame

ONSET_MS = 40.0  # sound shorter than this is no speech: a click, a pop
BRIDGE_MS = 60.0  # the sound of an onset may be quiet for less than this in between
PAUSE_MS = 300.0  # speech that is quiet for this long has ended with its last loud piece
LEAST_LEVEL = 220.0  # nothing below this is speech: hold noise has levels of 60 to 150, breathing little more
ABOVE_FLOOR = 1.6  # speech begins louder than the noise floor by this factor
SOFT_LEVEL = 180.0
"""Right before and after what is loud, speech may be soft: louder than this, as noise may become louder at any time,"""
SOFT_LEAST = 60.0  # or than this where there is none,
NO_NOISE = 30.0  # that is, where the floor is no higher than this;
SOFT_ABOVE_FLOOR = 1.3  # and louder than the noise floor by this factor
SOFT_GAP_MS = 25.0
"""What is soft goes on with speech only right behind it: after a pause, it may be noise that has become louder."""
SOFT_BEFORE_MS = 100.0  # what is soft for longer before it is loud is no speech: noise has become louder
SOFT_AFTER_MS = 160.0  # the same of what follows: nothing of it was speech then
SURELY = 0.7  # a level of a few samples that is below this share of a threshold is below it,
SURELY_LOUD = 1.4
"""and one above this share is above it; in between one looks closer, and where speech may begin."""
ASKEW = 0.6  # where the mean of the samples is this share of their level, the line has an offset from zero
ASKEW_LEAST = 100.0
HASTE = 1.3  # audio that comes this many times as fast as it lasts comes from no caller that speaks
SLACK_MS = 20.0  # audio that is sent so much later than it could be played leaves no gap that matters
GAP_MS = 40.0  # a gap is no shorter, where a text was recorded just before;
SENTENCE_GAP_MS = 80.0  # nor than this, where sentences may end anywhere: words have shorter ones in them
GAPS_MOST = 64
RESUME_MS = 400.0
"""Audio that is sent after a longer wait may be something new, though it is heard without a pause."""
FLOOR_PIECES = 10
"""The floor is learnt from so many quiet pieces in a row; for the first time, half as many will do."""
IN_A_ROW = 1.5
"""Pieces that took this many times their length are no noise, but the soft parts of a quiet voice."""

_SILENCE = bytes(PIECE)
_shape, _scale = shape(PIECE)
_unpack = _shape.unpack_from


def _level(frame: bytes) -> float:
    return 0.0 if frame == _SILENCE else hypot(*_unpack(frame)) * _scale


class Segment:
    """One stretch of speech without a pause, in the time in which it is heard.

    Attributes:
        user: whether the caller speaks, not the agent.
        start: of its first loud piece.
        end: of its last loud piece so far.
        sent_from: when its first loud piece was sent; the agent may send far ahead of what is heard.
        sent_until: when its last loud piece was sent, and as long after as that lasts.
        at_ms: where it stands in the agent's audio: how much of that, silence included, was sent before it.
        gaps: what was quiet in it where a text may begin; each from and until.
        cut: what lies after this was not heard: the queue was emptied, or the call was over.
        closed: whether its end is known.
    """

    __slots__ = ("at_ms", "closed", "cut", "end", "gaps", "sent_from", "sent_until", "start", "user")

    def __init__(self, start: float, end: float, sent_from: float, *, user: bool) -> None:
        self.user = user
        self.start = start
        self.end = end
        self.sent_from = self.sent_until = sent_from
        self.at_ms = start
        self.gaps: tuple[tuple[float, float], ...] = ()
        self.cut = NEVER
        self.closed = False

    @property
    def heard_end(self) -> float:
        """The end of what was heard of it."""
        return max(self.start, min(self.end, self.cut))

    def __repr__(self) -> str:
        return f"Segment({'user' if self.user else 'agent'}, {self.start:.0f}..{self.end:.0f})"


class Voice:
    """Tell speech from noise on one side.

    Attributes:
        threshold: the level from which a piece is loud: lower while speech continues.
        quiet_below: a level below this is surely quiet.
        loud_from: a level above this is surely loud: none where speech may begin, or the line has an offset from zero.
        segment: the speech that continues, as far as is known.
        until: the end of the last piece: for the agent, of its queue.
        onsets: how often it has begun to speak.
        began_at: the start of the last segment.
        ended_at: the end of the last segment that is over.
        frames: how many passed.
        handed: of these, how many the user's own code handed over.
        resumed: the last piece was sent long after the one before, and is heard right after it.
    """

    __slots__ = (
        "_askew", "_before_soft", "_enough", "_floor", "_hasty", "_more", "_noise", "_onset_level", "_pieces",
        "_quiet_from", "_run_at", "_run_from", "_run_ms", "_run_until", "_sent_at", "_soft_from", "_soft_level",
        "_soft_ms", "_soft_until", "_watches", "began_at", "ended_at", "frames", "handed", "loud_from", "loud_until",
        "onsets", "quiet_below", "resumed", "segment", "sent_until", "threshold", "until", "user",
    )  # fmt: skip

    def __init__(self, *, user: bool) -> None:
        self.user = user
        self.frames = self.handed = 0
        self._more = 0  # bytes, beyond those of so many frames of 20 ms: most have that length
        self._onset_level, self._soft_level = LEAST_LEVEL, SOFT_LEVEL
        self.segment: Segment | None = None
        self._askew = False
        self._tune()
        self.until = 0.0
        self.loud_until = 0.0
        self.sent_until = 0.0
        self.began_at = self.ended_at = 0.0
        self.resumed = False
        self._floor: float | None = None
        self._hasty = self.onsets = 0
        self._noise = self._quiet_from = 0.0
        self._pieces, self._enough = 0, FLOOR_PIECES // 2
        self._run_from = self._run_until = self._run_at = -NEVER
        self._run_ms = self._sent_at = 0.0
        self._soft_from = self._soft_until = -NEVER
        self._soft_ms = 0.0
        self._before_soft = 0.0, 0.0
        self._watches = 0.0

    @property
    def bytes(self) -> int:
        """How much audio passed."""
        return self.frames * PIECE + self._more

    def took(self, size: int) -> None:
        """Count a frame of so many bytes."""
        self.frames += 1
        self._more += size - PIECE

    def queue(self, ms: float, at: float) -> float:
        """Put a piece of a frame that was sent at ``at`` behind what is queued; return when it is heard."""
        start = max(at, self.until)
        self.until = start + ms
        self._more += int(ms * BYTES_PER_MS)
        return start

    def _tune(self) -> None:
        self.threshold = self._onset_level if self.segment is None else self._soft_level
        self.quiet_below = min(SURELY * self.threshold, self._soft_level)
        sure = self.segment is not None and not self._askew
        self.loud_from = SURELY_LOUD * self._onset_level if sure else NEVER

    def look(self, frame: Frame, offset: int, size: int) -> float:
        """Return the level of a piece of which a few samples do not say enough."""
        level, mean = measured(frame, offset, size)
        if abs(mean) > ASKEW_LEAST and abs(mean) > ASKEW * level and not self._askew:
            self._askew = True
            self._tune()
        return level

    @property
    def hasty(self) -> bool:
        """Whether most speech began much faster than anybody speaks."""
        return 2 * self._hasty > self.onsets

    def in_time(self, aside: Aside) -> float:
        """Return when frames that were put aside begin to be heard, behind what is queued; NEVER if with pauses."""
        end = self.until
        for at, _ in aside:
            end = PIECE_MS + (at if at > end else end)  # noqa: FURB136 - a call for each frame
        begin = end - PIECE_MS * len(aside)
        return begin if begin - self.until <= SLACK_MS else NEVER

    def pass_over(self, aside: Aside, begin: float) -> int:
        """Take the first of some frames of 20 ms as far as they change nothing; return how many those are.

        The first of them is heard at ``begin``, and the others without a pause; NEVER if that is open. Where nobody
        speaks every other one is looked at: sound that is shorter than two is no speech. In speech it is those up to
        the last one that is surely loud, and what is surely quiet behind it, if that is no pause yet.
        """
        if begin == NEVER or self._watches:
            return 0
        passed = self._still_quiet(aside, begin) if self.segment is None else self._still_speaks(aside, begin)
        self.frames += passed
        self.until = begin + PIECE_MS * passed
        return passed

    def _still_quiet(self, aside: Aside, begin: float) -> int:
        levels = []
        for _, frame in aside[::-2]:
            level = _level(frame)
            if level >= self.quiet_below and (level := self.look(frame, 0, PIECE)) >= self._soft_level:
                return 0
            levels.append(level)
        self._noise += sum(levels) / len(levels) * len(aside)
        self._pieces += len(aside)
        if self._pieces >= self._enough:
            self._adapt(begin + PIECE_MS * len(aside), PIECE_MS)
        return len(aside)

    def _still_speaks(self, aside: Aside, begin: float) -> int:
        loud = passed = len(aside)
        while loud and (level := _level(aside[loud - 1][1])) < self.loud_from:
            loud -= 1
            passed = loud if level >= self.quiet_below else passed
        until = begin + PIECE_MS * loud if loud else self.loud_until
        paused = until - PIECE_MS - self.loud_until >= PAUSE_MS or begin + PIECE_MS * passed - until >= PAUSE_MS
        if paused or (loud and aside[loud - 1][0] - self.sent_until > RESUME_MS):
            return 0
        if loud:
            self.loud_until, self.sent_until, self._soft_ms = until, aside[loud - 1][0] + PIECE_MS, 0.0
        return passed

    def level(self, frame: Frame, offset: int, size: int) -> float:
        """Return how loud a piece is: where a few samples do not say enough, from more of them."""
        found = loudness(frame, offset, size)
        return self.look(frame, offset, size) if self.quiet_below <= found < self.loud_from else found

    def hear(self, level: float, start: float, ms: float, at: float) -> bool:
        """Take a piece of audio, which was sent or came at ``at``; return whether speech may have begun or ended.

        ``start`` is when it is heard, ``ms`` how long it lasts.
        """
        end = start + ms
        if level < self.threshold:
            if self.segment is not None:
                return end - self.loud_until >= PAUSE_MS
            if level >= self._soft_level:
                self._soft(start, end)
            self._noise += level
            self._pieces += 1
            if self._pieces >= self._enough:
                self._adapt(end, ms)
            return False
        if self.segment is not None and start - self.loud_until < PAUSE_MS:
            if level < self._onset_level:
                self._go_on_softly(start, end, at + ms)
                return False
            if at - self.sent_until > RESUME_MS:
                self.resumed = True
                return self._onset(start, end, at)
            if self._watches:
                self._note_gap(self.segment, start)
            self.loud_until = end
            self.sent_until = at + ms
            self._soft_ms = 0.0
            return False
        if level < self._onset_level:
            return True  # a pause, and nothing that speech begins with
        return self._onset(start, end, at)

    def watch(self, least_ms: float = GAP_MS) -> None:
        """Look for where the sound goes on that follows now: a text was recorded that may begin there.

        It is quiet for ``least_ms`` before; if that is longer than usual, look until the speech ends.
        """
        self._watches = least_ms

    def _note_gap(self, segment: Segment, until: float) -> None:
        """Note how long it was quiet before a sound that was watched for."""
        least, self._watches = self._watches, self._watches if self._watches > GAP_MS else 0.0
        if until - self.loud_until >= least and len(segment.gaps) < GAPS_MOST:
            segment.gaps = (*segment.gaps, (self.loud_until, until))

    def _soft(self, start: float, end: float) -> None:
        """Note a piece that speech may begin with, if louder ones follow."""
        if start - self._soft_until >= SOFT_GAP_MS:
            self._soft_from = start
        self._soft_until = end

    def _go_on_softly(self, start: float, end: float, sent_until: float) -> None:
        """Take a soft piece as part of speech, unless it goes on for so long that none of it was."""
        if start - self.loud_until >= SOFT_GAP_MS:
            return
        if self._soft_ms == 0.0:
            self._before_soft = self.loud_until, self.sent_until
        self._soft_ms += end - start
        self.loud_until, self.sent_until = (end, sent_until) if self._soft_ms <= SOFT_AFTER_MS else self._before_soft

    def _onset(self, start: float, end: float, at: float) -> bool:
        if start - self._run_until >= BRIDGE_MS:
            if self._floor is None and start - self.loud_until > PAUSE_MS:  # a line that pauses has no noise
                self._learn(0.0)
            soft = start - self._soft_until < SOFT_GAP_MS and start - self._soft_from <= SOFT_BEFORE_MS
            self._run_from = self._soft_from if soft else start
            self._run_ms, self._run_at = 0.0, at
        self._run_ms += end - start
        self._run_until = end
        self._sent_at = at + end - start
        return self.segment is not None or self._run_ms >= ONSET_MS

    def lapse(self, now: float) -> None:
        """End the segment if nothing loud has come for a pause, at ``now`` in the time of hearing."""
        if self.segment is not None and now - self.loud_until >= PAUSE_MS:
            self.end()

    def begin(self) -> Segment | None:
        """Return the segment that has just begun; None if none has."""
        if self.segment is not None or self._run_ms < ONSET_MS:
            return None
        self.segment = Segment(self._run_from, self._run_until, self._run_at, user=self.user)
        self.segment.at_ms = self.bytes / BYTES_PER_MS - (self.until - self._run_from)
        self.began_at = self._run_from
        self.onsets += 1
        self._hasty += self._run_ms > HASTE * (self._sent_at - self._run_at)
        self._run_on()
        self._tune()
        return self.segment

    def go_on(self) -> None:
        """Take what was sent late as part of the segment that continues."""
        self.resumed = False
        self._run_on()

    def _run_on(self) -> None:
        self.loud_until, self.sent_until = self._run_until, max(self.sent_until, self._sent_at)
        self._run_ms, self._run_until, self._soft_ms = 0.0, -NEVER, 0.0

    def end(self) -> None:
        """End the segment, if there is one, where it was last loud."""
        segment = self.refresh()
        if segment is not None:
            segment.closed = True
            self.ended_at = segment.end
        self.segment = None
        self.resumed, self._watches = False, 0.0
        self._tune()

    def refresh(self) -> Segment | None:
        """Return the segment that continues, its end as far as it is known."""
        segment = self.segment
        if segment is not None:
            segment.end, segment.sent_until = self.loud_until, max(segment.sent_until, self.sent_until)
        return segment

    def _adapt(self, now: float, piece_ms: float) -> None:
        """Learn the floor from pieces that were quiet in a row."""
        if now - self._quiet_from < IN_A_ROW * self._pieces * piece_ms:
            heard = self._noise / self._pieces
            self._learn(heard if self._floor is None else (self._floor + heard) / 2)
        self._noise, self._pieces, self._quiet_from = 0.0, 0, now

    def _learn(self, floor: float) -> None:
        if floor == self._floor:
            return  # digital silence
        self._floor = floor
        self._enough = FLOOR_PIECES
        self._onset_level = max(LEAST_LEVEL, ABOVE_FLOOR * floor + 20.0)
        self._soft_level = max(SOFT_LEVEL if floor > NO_NOISE else SOFT_LEAST, SOFT_ABOVE_FLOOR * floor)
        self._tune()
