"""Who was heard when: the agent as a queue that plays out, the caller as speech events over bursts of audio.

Pure state machines of one call: times are float milliseconds since the handshake and are passed in. The observer in
``chirp`` feeds them and turns what they find into events.
"""

from __future__ import annotations

from typing import TypeAlias

__all__ = ["AgentVoice", "CallerVoice", "HeardSpan", "Verdict"]

FRAME_GAP_MS = 200.0
"""A pause between frames longer than this is more than network jitter."""
STRETCH_GAP_MS = 400.0
"""Agent audio after a silence longer than this is another stretch; below it, a hiccup in the same one."""
EVENT_LATE_MS = 250.0
"""How late ``speech.started`` may come after its first frame: 200 ms as documented, and a little for the network."""
TAIL_MS = 300.0
"""How far audio may run on after ``speech.completed``: 200 ms as documented, and the length of its last frame."""
FLOWING_MS = 100.0
"""Caller audio is flowing at a moment when its last frame ended no longer than this before it."""
REACTION_MS = 600.0
"""An agent that still sends this long after an interruption has not stopped for it."""
MARK_WAIT_MS = 5_000.0
"""A mark is echoed within this time after its audio should have been played, or it says nothing about it."""
RECENT_MS = 1_000.0
"""The text of agent audio comes at most this long after the audio ended."""
PENDING_MS = 5_000.0
"""The audio of an agent text begins at most this long after the text."""
FINAL_MS = 2_000.0
"""More text for caller speech that has text already comes at most this long after the speech ended."""
YOUNG_MS = 500.0
"""Text that comes when the caller has spoken for less than this belongs to what was said before."""
MARKS_LIMIT = 64
QUEUE_LIMIT = 64
"""Utterances that wait in the queue to be heard; beyond, the earliest are taken as they are planned."""

Verdict: TypeAlias = "bool | None"
"""Did the caller really speak? True: audio began with the event. False: it was the agent's echo. None: unknown."""


class HeardSpan:
    """A stretch in which somebody was heard. Once `end_ms` is set, nothing changes any more.

    ``start_ms`` is None while it has not begun (its text is known before its audio), ``end_ms`` is None while it goes
    on. A span with ``end_ms == start_ms`` was never heard: no audio came with its text, and it stands for the moment
    at which the first of its texts became known.
    """

    __slots__ = ("end_ms", "start_ms", "told")

    def __init__(self, start_ms: float | None = None, end_ms: float | None = None) -> None:
        self.start_ms = start_ms
        self.end_ms = end_ms
        self.told = False  # whether a text was recorded for it

    def finish(self, end_ms: float) -> None:
        """Set the end, never before the start."""
        start_ms = end_ms if self.start_ms is None else self.start_ms
        self.start_ms, self.end_ms = start_ms, max(start_ms, end_ms)

    def __repr__(self) -> str:
        return f"HeardSpan({self.start_ms}, {self.end_ms})"


class Cut:
    """An interruption that may have dropped the rest of the agent's queue, or may have been its own echo."""

    __slots__ = ("at", "ends", "last_frame", "start", "uncut")

    def __init__(self, at: float, uncut: float, start: float, ends: list[tuple[HeardSpan, float]]) -> None:
        self.at = at
        self.uncut = uncut  # when the audio ends if nothing was dropped
        self.start = start  # of the newest span
        self.ends = ends  # of the spans before it that were still to be heard
        self.last_frame = at


class AgentVoice:
    """When the caller heard the agent.

    The agent may send faster than it plays, so what is heard is a queue: a frame is heard from ``max(now, until)``
    and moves ``until`` by its length. An interruption cuts the queue at that moment, provisionally: agent audio that
    just goes on, a mark that is echoed when due, or the insight that the caller was silent undo the cut.
    """

    __slots__ = (
        "announced", "completed", "cut", "dropped_ms", "ends", "last", "marks", "pending", "pending_at", "span",
        "split", "until",
    )  # fmt: skip

    def __init__(self) -> None:
        self.until = 0.0
        self.span: HeardSpan | None = None
        self.ends: list[tuple[HeardSpan, float]] = []  # spans before it that have not been played to their end
        self.last: HeardSpan | None = None
        self.pending: HeardSpan | None = None  # the next span: its text or its speech.started came first
        self.pending_at = 0.0
        self.announced = False  # the agent's own speech.started for the span was seen
        self.split = False  # the next frame begins another span, even without a gap
        self.completed: float | None = None  # the end of the queue when the agent said speech.completed
        self.cut: Cut | None = None
        self.dropped_ms = 0.0  # what the last interruption took out of the queue
        self.marks: dict[str, tuple[HeardSpan, float, float]] | None = None

    @property
    def parked(self) -> bool:
        """Whether every single frame must be looked at: something is undecided."""
        return self.split or self.cut is not None

    @property
    def heard_until(self) -> float:
        """The end of what was heard; audio that runs on after the agent's own ``speech.completed`` is silence."""
        if self.completed is not None and self.until - self.completed > EVENT_LATE_MS:
            return self.completed
        return self.until

    # -- audio --------------------------------------------------------------------------------------------------------

    def frame(self, at: float, ms: float, *, caller_since: bool, caller: Verdict, caller_speaks: bool) -> bool:
        """Queue one frame that needs a closer look; return whether it begins a span.

        Args:
            at: when it was sent.
            ms: how long it plays.
            caller_since: whether the caller spoke since the agent was last heard.
            caller: whether the caller's present speech is real.
            caller_speaks: whether it is still going on.
        """
        if self.cut is not None:
            self._frame_after_cut(self.cut, at, ms, caller, caller_speaks=caller_speaks)
        pause = FRAME_GAP_MS if caller_since or self.pending is not None else STRETCH_GAP_MS
        begins = self.span is None or self.split or (at - self.until > pause and self.cut is None)
        if begins:
            self._begin(max(at, self.until), at)
        self.until = max(at, self.until) + ms
        return begins

    def _frame_after_cut(self, cut: Cut, at: float, ms: float, caller: Verdict, *, caller_speaks: bool) -> None:
        stopped = at - cut.last_frame > (STRETCH_GAP_MS if self.pending is None else FRAME_GAP_MS)
        if stopped and (caller is True or not caller_speaks):
            self.cut = None  # it had stopped: the rest of the queue was dropped, and this is something new
        elif at - cut.at > REACTION_MS:
            if caller is not True:
                self.restore()  # it just goes on, so it was heard
            self.cut = None
        else:
            cut.uncut = max(at, cut.uncut) + ms
            cut.last_frame = at

    def _begin(self, start: float, at: float) -> None:
        if self.span is not None:
            self._end(start, at)
        if self.last is not None and self.last.end_ms is not None:
            start = max(start, self.last.end_ms)
        if at - self.pending_at > PENDING_MS:
            self._drop_pending()
        self.span, self.pending = self.pending or HeardSpan(), None
        self.span.start_ms = self.until = start
        self.announced, self.split, self.completed, self.cut = self.split, False, None, None

    def _end(self, limit: float, now: float) -> None:
        """Let the span end where its audio ends, at ``limit`` at the latest; it is finished once that is past."""
        span, self.span = self.span, None
        if span is not None:
            runs_on = limit - self.until < FRAME_GAP_MS
            end = min(self.heard_until if runs_on else self.until, max(limit, span.start_ms or 0.0))
            self.ends.append((span, end))
            self.last, self.marks, self.cut = span, None, None
        self._finish(now)

    def _finish(self, now: float) -> None:
        over = [one for one in self.ends if one[1] <= now] + self.ends[:-QUEUE_LIMIT]
        for span, end in over:
            span.finish(end)
        self.ends = [one for one in self.ends if one[0].end_ms is None]

    def settle(self, now: float) -> None:
        """End what has been over for a while, unless a mark may still tell its end better."""
        if self.ends and self.cut is None:
            self._finish(now)
        until = self.until if self.cut is None else self.cut.uncut
        patience = MARK_WAIT_MS if self.marks else STRETCH_GAP_MS
        if self.span is not None and now - until > patience:
            self._end(now, now)

    def close(self, now: float) -> None:
        """End everything at ``now``: what is queued beyond it is not heard."""
        self._end(now, now)
        for span, end in self.ends:
            span.start_ms = min(span.start_ms or 0.0, now)
            span.finish(min(end, now))
        self.ends = []
        self._drop_pending()
        self.until = min(self.until, now)

    def sounding(self, at: float) -> HeardSpan | None:
        """Return the span that is heard at ``at``, which lies no earlier than the last frame's time."""
        for span, end in self.ends:
            if at < end:
                return span
        return self.span if self.span is not None and at < min(self.until, self.heard_until + EVENT_LATE_MS) else None

    def end_of(self, span: HeardSpan) -> float:
        """Return the end of a span as far as it is known."""
        if span is self.span:
            return self.heard_until
        return dict(self.ends).get(span, span.end_ms or 0.0)

    # -- what the agent says about it ---------------------------------------------------------------------------------

    def started(self, at: float) -> None:
        """Note the agent's own ``speech.started``: what it sends now is another utterance."""
        self.cut = None
        span = self.span
        if span is not None and not self.announced and not self.split and at - (span.start_ms or 0.0) <= EVENT_LATE_MS:
            self.announced = True  # its audio was a little faster
            return
        self.split = True
        if self.pending is None:
            self.pending, self.pending_at = HeardSpan(), at

    def ended(self) -> None:
        """Note the agent's own ``speech.completed``."""
        if self.span is not None and not self.split and self.completed is None:
            self.completed = self.until

    def mark(self, name: str, at: float) -> None:
        """Note a mark that the agent sent: its echo will say when all audio before it was played."""
        if self.span is None or at - self.until > FRAME_GAP_MS:
            return
        if self.marks is None:
            self.marks = {}
        if len(self.marks) < MARKS_LIMIT:
            self.marks[name] = (self.span, self.until, at)

    # -- what the caller's side says about it -------------------------------------------------------------------------

    def interrupt(self, at: float) -> None:
        """Cut the queue at ``at``, until it is known better."""
        if self.span is None or self.cut is not None or self.until <= at:
            return
        start = self.span.start_ms or 0.0
        self.cut = Cut(at, self.until, start, self.ends)
        self.ends = [(span, min(at, end)) for span, end in self.ends]
        self.dropped_ms = self.until - at
        self.span.start_ms, self.until = min(start, at), at

    def restore(self) -> None:
        """Undo a cut: what was queued was heard."""
        cut, self.cut = self.cut, None
        if cut is not None and self.span is not None:
            self.until, self.ends, self.dropped_ms = max(self.until, cut.uncut), cut.ends, 0.0
            self.span.start_ms = cut.start

    def echo(self, name: str, at: float) -> None:
        """Correct the end of the queue by a mark's echo."""
        span, due, sent = (self.marks or {}).pop(name, (None, 0.0, 0.0))
        if span is None or span is not self.span or at - due > MARK_WAIT_MS:
            return
        cut = self.cut
        if cut is None or sent > cut.at:
            self.until = max(at + self.until - due, span.start_ms or 0.0)
        elif at >= due - EVENT_LATE_MS:
            cut.uncut, self.until = at + cut.uncut - due, at
            self.restore()
        else:
            self.until = max(self.until, at)

    # -- text ---------------------------------------------------------------------------------------------------------

    def utterance(self, at: float) -> HeardSpan:
        """Return the span of a text that became known at ``at``; see `ChirpObserver.agent_utterance`."""
        span = self._span_of_text(at)
        span.told = True
        return span

    def _span_of_text(self, at: float) -> HeardSpan:
        span, last = self.span, self.last
        for earlier, _ in self.ends:
            if not earlier.told:
                return earlier
        if self.pending is not None and at - self.pending_at <= PENDING_MS:
            return self.pending
        if span is not None and at < self.heard_until + (FRAME_GAP_MS if span.told else RECENT_MS):
            return span
        if span is None and last is not None and not last.told and at - (last.end_ms or 0.0) <= RECENT_MS:
            return last
        self._drop_pending()
        self.pending, self.pending_at = HeardSpan(), at
        return self.pending

    def _drop_pending(self) -> None:
        if self.pending is not None:
            self.pending.finish(self.pending_at)
            self.pending = None


class CallerVoice:
    """When the Digital Human spoke.

    ``speech.started`` comes up to 200 ms after the first frame and ``speech.completed`` up to 200 ms before the last,
    so a burst of frames that begins or ends near an event tells the time better. Where audio never pauses, the event's
    own time is taken. A call without any speech events is read by its bursts alone.
    """

    __slots__ = (
        "answered_at", "burst", "completed", "event_at", "events", "frames", "id", "interrupted_at", "last",
        "last_id", "over", "quiet_since", "span", "until",
    )  # fmt: skip

    def __init__(self) -> None:
        self.frames = False  # whether any audio has come
        self.until = 0.0  # end of the newest frame
        self.burst = 0.0  # start of the newest burst
        self.events = False  # whether any speech event has come
        self.span: HeardSpan | None = None
        self.last: HeardSpan | None = None
        self.event_at = 0.0  # when the span's speech.started came
        self.completed: float | None = None  # when its speech.completed came
        self.id: str | None = None
        self.last_id: str | None = None
        self.quiet_since: float | None = None  # nobody had been heard since then when the span began
        self.over: HeardSpan | None = None  # the agent's span that it broke into
        self.answered_at: float | None = None  # the agent began then, before the span was settled
        self.interrupted_at: float | None = None  # the agent's own speech.started came then

    @property
    def speaks(self) -> bool:
        """Whether the caller is speaking, as far as is known."""
        return self.span is not None and self.completed is None

    def flowing(self, at: float) -> bool:
        """Whether audio is coming in at ``at``."""
        return self.frames and at - self.until <= FLOWING_MS

    def verdict(self) -> Verdict:
        """Return whether the span is real; see `Verdict`."""
        if not self.frames:
            return None
        if self.until < self.event_at - FLOWING_MS:
            return False
        return True if self.burst >= self.event_at - EVENT_LATE_MS else None

    def settled(self, now: float) -> bool:
        """Whether the end of the span is known at ``now``."""
        if self.span is None:
            return False
        if self.completed is None:
            return not self.events and now - self.until > TAIL_MS + FRAME_GAP_MS
        return now - self.completed > TAIL_MS + FRAME_GAP_MS

    def begin_burst(self, at: float) -> None:
        """Note the first frame after a pause."""
        silent = self.span is not None and self.until < self.event_at - FLOWING_MS
        if self.span is not None and (silent or not self.frames) and at - self.event_at > EVENT_LATE_MS:
            self.span.start_ms = self.event_at = at  # the event was an echo, this is the caller
        self.frames, self.burst = True, at

    def begin(self, at: float, event_at: float) -> HeardSpan:
        """Open a span that began at ``at``."""
        if self.last is not None and self.last.end_ms is not None:
            at = max(at, self.last.end_ms)
        self.span = HeardSpan(at)
        self.event_at = event_at
        self.completed = self.quiet_since = self.over = self.answered_at = self.interrupted_at = None
        return self.span

    def start_of(self, at: float) -> float:
        """Return when the speech began whose ``speech.started`` came at ``at``."""
        return self.burst if self.flowing(at) and 0 <= at - self.burst <= EVENT_LATE_MS else at

    def end(self, now: float) -> tuple[float, float]:
        """Close the span; return its start and end, the best that is known at ``now``."""
        span, self.span = self.span or HeardSpan(now), None
        span.finish(min(self._end_of(span, now), now))
        self.last, self.last_id, self.id, self.completed = span, self.id, None, None
        return span.start_ms or 0.0, span.end_ms or 0.0

    def drop(self, now: float) -> None:
        """Forget the span: nobody spoke. Where a text was recorded for it, it ends now."""
        if self.span is not None and self.span.told:
            self.end(now)
        self.span = self.completed = None

    def _end_of(self, span: HeardSpan, now: float) -> float:
        spoken = self.frames and self.until > (span.start_ms or 0.0)
        if self.completed is None:
            return self.until if spoken and now - self.until > FRAME_GAP_MS else now
        if not spoken or self.until > self.completed + TAIL_MS:
            return self.completed
        return self.until

    def utterance(self, at: float) -> HeardSpan:
        """Return the span of a text that became known at ``at``; see `ChirpObserver.user_utterance`."""
        span = self._span_of_text(at)
        span.told = True
        return span

    def _span_of_text(self, at: float) -> HeardSpan:
        span, last = self.span, self.last
        if last is not None and not last.told and (span is None or at - (span.start_ms or 0.0) < YOUNG_MS):
            return last
        if span is None and last is not None and at - (last.end_ms or 0.0) <= FINAL_MS:
            return last
        return span or HeardSpan(at, at)
