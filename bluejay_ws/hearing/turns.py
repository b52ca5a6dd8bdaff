"""What two voices make of each other: interruptions both ways, latencies, silences, and the events that say so.

It is given the segments of speech of both sides and looks at them in the order in which they were heard, each when it
is over. Nothing is concluded from anything but audio; where none was ever observed, a provider's word is taken.
"""

from __future__ import annotations

import statistics
from bisect import insort
from typing import TYPE_CHECKING, Any

from bluejay_ws.hearing.voices import PAUSE_MS

if TYPE_CHECKING:
    from collections.abc import Callable

    from bluejay_ws.hearing.voices import Segment

CALLER_INTERRUPTED = "Caller interrupted the agent"
AGENT_INTERRUPTED = "Agent interrupted the caller"
BACKCHANNEL = "Caller backchannel"
SENT_AHEAD = "Agent audio was sent ahead"
RESPONSE = "Response latency"
LONG_SILENCE = "Long silence"

SILENCE_MS = 5_000.0  # nobody heard for this long is a long silence
STILL_MS = 149.0
"""A caller who begins when the agent is heard for no longer than this has not interrupted it: 150 less delays."""
QUICK_MS = 151.0
"""An agent that begins when the caller is heard for no longer than this has only answered quickly: 150, and delays."""
BACKCHANNEL_MS = 300.0  # shorter words ("mm-hm") while the other side speaks do not interrupt it
SAME_MS = 1_000.0
"""A caller who continues after a shorter pause, over the same speech of the agent's, still interrupts the same way."""
AHEAD_MS = 500.0
"""More than this still to be heard when the agent had stopped sending: it cannot be interrupted."""
NEAR_MS = 2_000.0  # what a provider says about an interruption this near is about the same one
EVENTS_LIMIT = 1_000
WAITING_LIMIT = 64


class _Interruption:
    """The caller speaks over the agent, perhaps with short pauses on both sides."""

    __slots__ = ("agent_end", "end", "longest", "overlap_ms", "sent_until", "start", "user_end")

    def __init__(self, user: Segment, agent: Segment) -> None:
        self.start = user.start
        self.end = self.user_end = user.start
        self.longest = self.overlap_ms = 0.0
        self.agent_end = self.sent_until = user.start
        self.add(user, agent)

    def add(self, user: Segment, agent: Segment) -> None:
        until = min(user.heard_end, agent.heard_end)
        self.overlap_ms += max(0.0, until - max(user.start, agent.start))
        self.end = max(self.end, until)
        self.user_end = max(self.user_end, user.heard_end)
        self.longest = max(self.longest, user.heard_end - user.start)
        self.agent_end = max(self.agent_end, agent.heard_end)
        self.sent_until = max(self.sent_until, agent.sent_until)


class Turns:
    """Conclude from segments; see the module. At most 1,000 events are added, with the arguments of `add_event`."""

    __slots__ = (
        "_add_event", "_agent", "_claims", "_interruption", "_latencies", "_quiet_from", "_told", "_user", "_waiting",
        "_waiting_from", "agent_barge_ins", "backchannels", "caller_barge_ins", "events", "silences", "unconfirmed",
    )  # fmt: skip

    def __init__(self, add_event: Callable[..., None]) -> None:
        self._add_event = add_event
        self._waiting: list[Segment] = []
        self._user: Segment | None = None
        self._agent: Segment | None = None
        self._interruption: _Interruption | None = None
        self._claims: list[tuple[float, str, str]] = []
        self._told: list[tuple[str, float, float]] = []
        self._quiet_from = 0.0
        self._waiting_from: float | None = None
        self._latencies: list[float] = []
        self.events = self.caller_barge_ins = self.agent_barge_ins = self.backchannels = 0
        self.silences = self.unconfirmed = 0

    def begins(self, segment: Segment) -> None:
        """Note that somebody began to speak, in the past or in what is queued."""
        insort(self._waiting, segment, key=lambda one: one.start)

    def cut(self, at: float) -> None:
        """Note that what the agent had queued beyond ``at`` was not heard."""
        for segment in self._waiting:
            if not segment.user:
                segment.cut = min(segment.cut, at)

    def settle(self, now: float) -> None:
        """Draw the conclusions that can be drawn at ``now``."""
        waiting = self._waiting
        while waiting and (self._is_over(waiting[0], now) or len(waiting) > WAITING_LIMIT):
            self._take(waiting.pop(0))
        current = self._interruption
        if current is not None and not waiting and now - max(current.user_end, current.agent_end) > SAME_MS:
            self._conclude()
        if self._claims and now - self._claims[0][0] > 2 * NEAR_MS and not waiting and self._interruption is None:
            self._unconfirm()

    def _is_over(self, segment: Segment, now: float) -> bool:
        return segment.closed and now - segment.heard_end >= PAUSE_MS

    def close(self, now: float, *, observed: bool) -> None:
        """Conclude what is left: the call ended at ``now``."""
        for segment in self._waiting:
            self._take(segment)
        self._waiting = []
        self._conclude()
        self._unconfirm()
        if observed:
            self._silence(now)

    def claim(self, at: float, by: str, source: str, *, observed: bool) -> None:
        """Take a provider's word that ``by`` interrupted the other side: one with what the audio shows near it."""
        if any(one == by and start - NEAR_MS < at < end + NEAR_MS for one, start, end in self._told):
            return
        if not observed:
            self._interrupts(by, at, None, {"source": source})
        elif len(self._claims) < WAITING_LIMIT:
            self._claims.append((at, by, source))

    # -- one segment after the other ----------------------------------------------------------------------------------

    def _take(self, segment: Segment) -> None:
        if segment.start >= segment.cut:
            return  # it was never heard
        self._silence(segment.start)
        if segment.user:
            self._take_user(segment)
        else:
            self._take_agent(segment)
        self._quiet_from = max(self._quiet_from, segment.heard_end)

    def _take_user(self, user: Segment) -> None:
        agent, current = self._agent, self._interruption
        self._user = user
        still = 0.0 if self._claimed("user", user.start, user.heard_end) else STILL_MS  # the agent may stop at once
        if agent is not None and agent.heard_end > user.start + still:
            if current is not None and agent.start < current.user_end and user.start - current.user_end < SAME_MS:
                current.add(user, agent)
            else:
                self._conclude()
                self._interruption = _Interruption(user, agent)
            ignored = agent.heard_end > user.heard_end and agent.sent_until > user.start + STILL_MS
            self._waiting_from = None if ignored or user.heard_end - user.start < BACKCHANNEL_MS else user.heard_end
            return
        if current is not None and user.start - current.user_end >= SAME_MS:
            self._conclude()
        self._waiting_from = user.heard_end

    def _take_agent(self, agent: Segment) -> None:
        before, user, current = self._agent, self._user, self._interruption
        self._agent = agent
        if user is None or user.heard_end <= agent.start:
            return self._answer(agent.start)
        if current is not None and agent.start - current.agent_end < SAME_MS / 2:
            return current.add(user, agent)  # it only paused
        queued = before is not None and agent.sent_from < user.start and user.start - before.heard_end < SAME_MS / 2
        if queued:
            self._conclude()
            self._interruption = _Interruption(user, agent)
            return None
        return self._over_the_caller(user, agent)

    def _over_the_caller(self, user: Segment, agent: Segment) -> None:
        word = user.heard_end - user.start < BACKCHANNEL_MS
        if word or user.heard_end - agent.start <= QUICK_MS:
            if agent.heard_end > user.heard_end:
                self._answer(user.heard_end)
            return
        if agent.heard_end - agent.start < BACKCHANNEL_MS and not self._claimed("agent", agent.start, agent.heard_end):
            return
        until = min(user.heard_end, agent.heard_end)
        if agent.heard_end >= user.heard_end:
            self._waiting_from = None
        self._interrupts("agent", agent.start, until, {"overlap_ms": round(until - agent.start)})

    def _answer(self, start: float) -> None:
        waited_from, self._waiting_from = self._waiting_from, None
        if waited_from is None:
            return
        latency = max(0.0, start - waited_from)
        if len(self._latencies) < EVENTS_LIMIT:
            self._latencies.append(latency)
        self.tell(RESPONSE, waited_from, max(start, waited_from), {"latency_ms": round(latency)})

    def _silence(self, until: float) -> None:
        if until - self._quiet_from >= SILENCE_MS:
            self.silences += 1
            facts = {"duration_ms": round(until - self._quiet_from)}
            self.tell(LONG_SILENCE, self._quiet_from, until, facts)

    # -- interruptions ------------------------------------------------------------------------------------------------

    def _conclude(self) -> None:
        """Say what is now known about the caller's interruption of the agent."""
        known, self._interruption = self._interruption, None
        if known is None:
            return
        if known.longest < BACKCHANNEL_MS and not self._claimed("user", known.start, known.end):
            self.backchannels += 1
            self.tell(BACKCHANNEL, known.start, known.user_end, {"overlap_ms": round(known.overlap_ms)})
            return
        stopped = known.agent_end < known.user_end
        queued = max(0.0, known.agent_end - max(known.start, known.sent_until))
        facts: dict[str, object] = {
            "agent_stopped": stopped,
            "overlap_ms": round(known.overlap_ms),
            "reaction_ms": round(max(0.0, known.sent_until - known.start)),
            "queued_ms": round(queued),
        }
        self._interrupts("user", known.start, known.end, facts)
        if queued >= AHEAD_MS:
            words = (
                f"The caller interrupted, and heard {queued / 1e3:.1f} s more of the agent "
                "because it had been sent ahead: pace the audio to what is heard."
            )
            self.tell(SENT_AHEAD, known.start, known.agent_end, {"queued_ms": round(queued)}, words)

    def _interrupts(self, by: str, start: float, end: float | None, facts: dict[str, object]) -> None:
        """Tell of one interruption, once, with all that noticed it."""
        self.agent_barge_ins += by == "agent"
        self.caller_barge_ins += by != "agent"
        until = start if end is None else end
        near = self._claimed(by, start, until)
        self._claims = [one for one in self._claims if one not in near]
        if near:
            facts["noticed_by"] = sorted({source for _, _, source in near})
        self._told = [*self._told[-7:], (by, start, until)]
        self.tell(AGENT_INTERRUPTED if by == "agent" else CALLER_INTERRUPTED, start, end, facts)

    def _claimed(self, by: str, start: float, end: float) -> list[tuple[float, str, str]]:
        """Return what providers and frameworks say of an interruption near these times: a short word may be one."""
        return [one for one in self._claims if one[1] == by and start - NEAR_MS < one[0] < end + NEAR_MS]

    def _unconfirm(self) -> None:
        self.unconfirmed += len(self._claims)
        self._claims = []

    # -- what is said about it ----------------------------------------------------------------------------------------

    def tell(
        self, title: str, start: float, end: float | None, metadata: dict[str, Any], description: str | None = None
    ) -> None:
        """Add an event, unless there are too many."""
        self.events += 1
        if self.events > EVENTS_LIMIT:
            return
        more = {} if description is None else {"description": description}
        ends = None if end is None else int(end)  # as the recorder cuts: never later than the end of the call
        self._add_event(title, start_offset_ms=int(start), end_offset_ms=ends, metadata=metadata, **more)

    def summary(self) -> dict[str, object]:
        """Return what was counted."""
        facts: dict[str, object] = {
            "caller_barge_ins": self.caller_barge_ins,
            "agent_barge_ins": self.agent_barge_ins,
            "backchannels": self.backchannels,
            "long_silences": self.silences,
            "responses": len(self._latencies),
        }
        if self._latencies:
            facts["median_latency_ms"] = round(statistics.median(self._latencies))
            facts["max_latency_ms"] = round(max(self._latencies))
        if self.unconfirmed:
            facts["unconfirmed_interruptions"] = self.unconfirmed
        if self.events > EVENTS_LIMIT:
            facts["events_left_out"] = self.events - EVENTS_LIMIT
        return facts
