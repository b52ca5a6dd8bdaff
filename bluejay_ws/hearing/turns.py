"""What two voices make of each other: turns, barge-ins, latencies, silences, and the events that tell of them.

Pure, like the voices in ``heard``; the observer in ``chirp`` feeds it.
"""

from __future__ import annotations

import statistics
from typing import TYPE_CHECKING, Any, TypeAlias

from pydantic_core import from_json

from bluejay_ws.hearing.voices import EVENT_LATE_MS, AgentVoice, CallerVoice, HeardSpan

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = [
    "AGENT_INTERRUPTED",
    "CALLER_INTERRUPTED",
    "ERROR_FROM_AGENT",
    "ERROR_FROM_PLATFORM",
    "LONG_SILENCE",
    "RESPONSE",
    "Text",
    "Turns",
]

CALLER_INTERRUPTED = "Caller interrupted the agent"
AGENT_INTERRUPTED = "Agent interrupted the caller"
RESPONSE = "Response latency"
LONG_SILENCE = "Long silence"
ERROR_FROM_PLATFORM = "Session error from the platform"
ERROR_FROM_AGENT = "Session error from the agent"

SILENCE_MS = 5_000.0
"""Nobody heard for this long is a long silence."""
OVERLAP_MS = 300.0
"""An agent that is heard over the caller for less than this has only answered quickly."""
PACED_MS = 40.0
"""An agent that paces its frames has sent the next one at most this long after the last was played."""
EVENTS_LIMIT = 1_000
TEXT_LIMIT = 64 * 1024
NAME_LIMIT = 256
MESSAGE_LIMIT = 1_000

Text: TypeAlias = "bytes | bytearray | memoryview | str"


class Turns:
    """What both voices make of each other: barge-ins, latencies, silences. Exists once anything has happened."""

    __slots__ = (
        "add_event", "agent", "agent_barge_ins", "caller_barge_ins", "closed", "errors", "events", "invalid",
        "latencies", "marks_echoed", "marks_sent", "oversized", "quiet_from", "silences", "texts", "unreadable",
        "user", "waiting_from",
    )  # fmt: skip

    def __init__(self, add_event: Callable[..., None]) -> None:
        self.add_event = add_event
        self.agent = AgentVoice()
        self.user = CallerVoice()
        self.events = self.invalid = self.texts = self.unreadable = self.oversized = 0
        self.caller_barge_ins = self.agent_barge_ins = self.silences = self.errors = 0
        self.marks_sent = self.marks_echoed = 0
        self.latencies: list[float] = []
        self.waiting_from: float | None = None  # the caller finished then, and has had no answer
        self.quiet_from = 0.0  # end of the last caller speech
        self.closed: dict[str, object] | None = None

    # -- what comes in ------------------------------------------------------------------------------------------------

    def parse(self, data: Text, limit: int = TEXT_LIMIT) -> dict[str, Any]:
        """Return the object in a text message; empty for anything else. Parses each message once."""
        self.texts += 1
        try:
            if len(data) > limit:
                self.oversized += 1
                return {}
            message = from_json(bytes(data) if isinstance(data, memoryview) else data)
        except (ValueError, TypeError):
            message = None
        if isinstance(message, dict):
            return message
        self.unreadable += 1
        return {}

    def user_message(self, message: dict[str, Any], at: float) -> None:
        """Act on a text message from Bluejay."""
        if self.closed is not None:
            return
        kind, data = _kind_and_data(message)
        if kind == "speech.started":
            self._user_started(_name(data, "utterance_id"), at)
        elif kind == "speech.completed":
            self._user_completed(_name(data, "utterance_id"), at)
        elif kind == "mark":
            self.marks_echoed += 1
            self.agent.echo(_name(data, "name") or "", at)
        elif kind == "session.error":
            self._error(ERROR_FROM_PLATFORM, data, at)

    def agent_message(self, message: dict[str, Any], at: float) -> None:
        """Act on a text message to Bluejay."""
        if self.closed is not None:
            return
        kind, data = _kind_and_data(message)
        if kind == "speech.started":
            if self.user.speaks and self.user.verdict() is not False:
                self.user.interrupted_at = self.user.interrupted_at or at
            self.agent.started(at)
        elif kind == "speech.completed":
            self.agent.ended()
        elif kind == "mark":
            self.marks_sent += 1
            self.agent.mark(_name(data, "name") or "", at)
        elif kind == "session.error":
            self._error(ERROR_FROM_AGENT, data, at)

    def user_burst(self, at: float) -> None:
        """Act on caller audio after a pause."""
        user = self.user
        user.begin_burst(at)
        user.until = at
        if not user.events and user.span is None:
            self._user_begins(at, at)

    def agent_frame(self, at: float, ms: float) -> None:
        """Act on agent audio that is not simply the next frame."""
        agent, user = self.agent, self.user
        was_heard, spoke = agent.heard_until, user.span or user.last
        since = spoke is not None and (spoke.start_ms or 0.0) > was_heard
        begins = agent.frame(at, ms, caller_since=since, caller=user.verdict(), caller_speaks=user.speaks)
        if begins and was_heard <= at:
            self._agent_begins(at, was_heard)

    def settle(self, now: float) -> None:
        """Draw the conclusions that time alone allows."""
        user, agent = self.user, self.agent
        if user.span is not None and now - user.event_at > EVENT_LATE_MS and user.verdict() is False:
            agent.restore()
        if user.settled(now):
            self._user_ended(now)
        agent.settle(now)

    def close(self, now: float) -> None:
        """End what is open."""
        if self.user.span is not None:
            self._user_ended(now)
        quiet_from = max(self.agent.heard_until, self.quiet_from)
        self.agent.close(now)
        self._silence(quiet_from, now)

    # -- turn taking --------------------------------------------------------------------------------------------------

    def _agent_begins(self, start: float, was_heard: float) -> None:
        user = self.user
        if user.span is not None:
            user.answered_at = user.answered_at if user.answered_at is not None else start
            return
        self._silence(max(was_heard, self.quiet_from), start)
        if self.waiting_from is not None:
            self._response(self.waiting_from, start)

    def _user_started(self, name: str | None, at: float) -> None:
        user = self.user
        if user.events and user.speaks and user.id == name:
            return  # said twice
        start = user.start_of(at)
        if user.events and user.span is not None:
            self._user_ended(at)
        if user.span is None or user.span.start_ms != start:
            user.drop(at)
            self._user_begins(start, at)
        user.events, user.event_at, user.id = True, at, name
        self._breaks_in(at)

    def _user_begins(self, start: float, at: float) -> None:
        agent, user = self.agent, self.user
        user.begin(start, at)
        if agent.sounding(start) is None:
            user.quiet_since = max(agent.heard_until, self.quiet_from)

    def _breaks_in(self, at: float) -> None:
        agent, user = self.agent, self.user
        start = (user.span.start_ms or 0.0) if user.span else at
        span = agent.sounding(start - PACED_MS)
        if span is not None and (span.start_ms or 0.0) < start and user.verdict() is not False:
            user.over = span
            agent.dropped_ms = 0.0
            agent.interrupt(at)

    def _user_completed(self, name: str | None, at: float) -> None:
        user = self.user
        if user.events and user.speaks and (name is None or name != user.last_id or name == user.id):
            user.completed = at

    def _user_ended(self, now: float) -> None:
        user = self.user
        real, over = user.verdict(), user.over
        if real is False and user.span is not None and not user.span.told:
            self.agent.restore()
            user.drop(now)
            return
        start, end = user.end(now)
        if user.quiet_since is not None:
            self._silence(user.quiet_since, start)
        self.quiet_from = max(self.quiet_from, end)
        if over is not None:
            self._caller_interrupted(over, start, end, sure=real is True)
        self._answered(end)

    def _answered(self, end: float) -> None:
        """Tell what the agent made of the end of the caller's speech."""
        user = self.user
        answered, interrupted = user.answered_at, user.interrupted_at
        self.waiting_from = None
        if user.events and interrupted is not None and interrupted < end:
            self._agent_interrupted(interrupted, end)
        elif answered is None:
            self.waiting_from = end if self.agent.sounding(end) is None else None
        elif answered >= end or (user.events and end - answered < OVERLAP_MS):
            self._response(end, max(answered, end))
        elif user.events:
            self._agent_interrupted(answered, end)

    def _caller_interrupted(self, over: HeardSpan, start: float, end: float, *, sure: bool) -> None:
        agent = self.agent
        heard_until = agent.end_of(over)
        if not sure and heard_until >= end:
            return  # the agent went on all the while: it may have been its echo
        self.caller_barge_ins += 1
        facts: dict[str, object] = {
            "agent_stopped": heard_until < end,
            "overlap_ms": round(max(0.0, min(heard_until, end) - start)),
            "dropped_ms": round(agent.dropped_ms),
        }
        if not sure:
            facts["approximate"] = True
        self.event(CALLER_INTERRUPTED, start, max(start, min(heard_until, end)), facts)

    def _agent_interrupted(self, start: float, end: float) -> None:
        self.agent_barge_ins += 1
        self.event(AGENT_INTERRUPTED, start, end, {"overlap_ms": round(end - start)})

    def _response(self, start: float, end: float) -> None:
        self.waiting_from = None
        end = max(start, end)
        if len(self.latencies) < EVENTS_LIMIT:
            self.latencies.append(end - start)
        facts: dict[str, object] = {"latency_ms": round(end - start)}
        if self.user.verdict() is not True:
            facts["approximate"] = True
        self.event(RESPONSE, start, end, facts)

    def _silence(self, start: float, end: float) -> None:
        if end - start >= SILENCE_MS:
            self.silences += 1
            self.event(LONG_SILENCE, start, end, {"duration_ms": round(end - start)})

    def _error(self, title: str, data: dict[str, Any], at: float) -> None:
        self.errors += 1
        facts = {key: data[key][:MESSAGE_LIMIT] for key in ("code", "message") if isinstance(data.get(key), str)}
        self.event(title, at, None, facts)

    def event(self, title: str, start: float, end: float | None, metadata: dict[str, Any]) -> None:
        """Add an event, unless there are too many."""
        self.events += 1
        if self.events <= EVENTS_LIMIT:
            ends = None if end is None else int(end)  # as the recorder cuts: never later than the end of the call
            self.add_event(title, start_offset_ms=int(start), end_offset_ms=ends, metadata=metadata)

    def summary(self) -> dict[str, object]:
        """Return what was counted."""
        facts: dict[str, object] = {
            "invalid_frames": self.invalid,
            "text_frames": self.texts,
            "unreadable_text_frames": self.unreadable,
            "oversized_text_frames": self.oversized,
            "marks_sent": self.marks_sent,
            "marks_echoed": self.marks_echoed,
            "session_errors": self.errors,
            "caller_barge_ins": self.caller_barge_ins,
            "agent_barge_ins": self.agent_barge_ins,
            "long_silences": self.silences,
            "responses": len(self.latencies),
        }
        if self.latencies:
            facts["median_latency_ms"] = round(statistics.median(self.latencies))
            facts["max_latency_ms"] = round(max(self.latencies))
        if self.events > EVENTS_LIMIT:
            facts["events_left_out"] = self.events - EVENTS_LIMIT
        return facts


def _kind_and_data(message: dict[str, Any]) -> tuple[object, dict[str, Any]]:
    data = message.get("data")
    return message.get("type"), data if isinstance(data, dict) else {}


def _name(data: dict[str, Any], key: str) -> str | None:
    name = data.get(key)
    return name if isinstance(name, str) and len(name) <= NAME_LIMIT else None
