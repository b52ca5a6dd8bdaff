"""How well the report hears: made-up calls whose truth is known, compared with what the observer makes of them."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field
from statistics import median
from time import thread_time_ns
from typing import TYPE_CHECKING, Any

from benchmarks.conversations import BACKGROUNDS, EVENTS, SENDINGS, Cell, Conversation, make
from benchmarks.measure import Effort, Result, percentile, short
from bluejay_ws.hearing.chirp import ChirpObserver
from bluejay_ws.hearing.turns import AGENT_INTERRUPTED, CALLER_INTERRUPTED, RESPONSE

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from bluejay_ws.hearing.voices import HeardSpan
    from bluejay_ws.testing.spans import Span

__all__ = ["CELLS", "MORE", "Findings", "listen", "run"]

CELLS = [
    Cell(background=background, events=events, sending=sending)
    for background, events, sending in itertools.product(BACKGROUNDS, EVENTS, SENDINGS)
]
MORE = [
    Cell(frame_ms=10),
    Cell(frame_ms=60),
    Cell(frame_ms=100),
    Cell(user_rms=450.0),
    Cell(echo=True, sending="burst"),
    Cell(echo=True, events="exact"),
    Cell(echo=True, sending="continuous", background="silence"),
    Cell(marks=True),
    Cell(marks=True, sending="burst", background="pauses"),
    Cell(marks=True, sending="continuous", background="silence"),
]
NEAR_MS = 250.0  # an event is about the moment that it names, or it is about another


@dataclass(slots=True)
class Findings:
    """What a report said beside what was true.

    Args:
        user: how far starts and ends of the caller's utterances were off, in milliseconds.
        agent: the same of the agent's.
        latency: how far latencies were off.
        barge_ins: how many there were.
        missed: barge-ins without an event, by what they were.
        invented: events without a barge-in.
    """

    user: list[float] = field(default_factory=list)
    agent: list[float] = field(default_factory=list)
    latency: list[float] = field(default_factory=list)
    barge_ins: int = 0
    missed: list[str] = field(default_factory=list)
    invented: list[str] = field(default_factory=list)
    silent: list[str] = field(default_factory=list)

    def add(self, other: Findings) -> None:
        """Take in what another call showed."""
        self.user += other.user
        self.agent += other.agent
        self.latency += other.latency
        self.barge_ins += other.barge_ins
        self.missed += other.missed
        self.invented += other.invented
        self.silent += other.silent


class _Report:
    """Keep what an observer says of one call."""

    def __init__(self) -> None:
        self.events: list[tuple[str, float, float | None]] = []
        self.user: list[HeardSpan] = []
        self.agent: list[HeardSpan] = []
        self.observer = ChirpObserver(self._add_event)

    def _add_event(self, title: str, *, start_offset_ms: int, end_offset_ms: int | None = None, **_: Any) -> None:
        self.events.append((title, start_offset_ms, end_offset_ms))

    def of(self, title: str) -> list[tuple[float, float]]:
        """Return start and end of the events with that title."""
        return [(start, start if end is None else end) for one, start, end in self.events if one == title]


def listen(call: Conversation) -> Findings:
    """Feed a call to an observer and compare."""
    report = _heard(call)
    truth, found = call.truth, Findings()
    found.user = _errors(report.user, truth.user)
    found.agent = _errors(report.agent, truth.agent)
    for title, true in ((CALLER_INTERRUPTED, truth.caller_barge_ins), (AGENT_INTERRUPTED, truth.agent_barge_ins)):
        missed, invented = _unmatched([span.start_ms for span in true], [start for start, _ in report.of(title)])
        found.barge_ins += len(true)
        found.missed += [f"{title} at {at:.0f}" for at in missed]
        found.invented += [f"{title} at {at:.0f}" for at in invented]
    responses = report.of(RESPONSE)
    for wait in truth.latencies:
        near = [(start, end) for start, end in responses if abs(end - wait.end_ms) < NEAR_MS]
        if near:
            found.latency.append(abs(near[0][1] - near[0][0] - (wait.end_ms - wait.start_ms)))
        else:
            found.silent.append(f"latency at {wait.start_ms:.0f}")
    return found


def _heard(call: Conversation) -> _Report:
    report = _Report()
    observer = report.observer
    for at, _, kind, what in call.items:
        if kind == "user_said":
            report.user.append(observer.user_utterance(at))
        elif kind == "agent_said":
            report.agent.append(observer.agent_utterance(at))
        else:
            getattr(observer, kind)(what, at)
    observer.close(call.ended_ms)
    return report


def _errors(heard: Sequence[HeardSpan], true: Sequence[Span]) -> list[float]:
    """Return by how much each start and each end is off."""
    errors = []
    for ours, theirs in zip(heard, true, strict=True):
        start = ours.start_ms or 0.0
        errors += [abs(start - theirs.start_ms), abs((start if ours.end_ms is None else ours.end_ms) - theirs.end_ms)]
    return errors


def _unmatched(true: Sequence[float], told: Iterable[float]) -> tuple[list[float], list[float]]:
    """Return the true moments that nothing was told of, and the told ones that nothing happened at."""
    left, missed = sorted(told), []
    for moment in true:
        near = [one for one in left if abs(one - moment) < NEAR_MS]
        if near:
            left.remove(near[0])
        else:
            missed.append(moment)
    return missed, left


def run(effort: Effort) -> list[Result]:
    """Measure every cell, and what listening to a frame costs."""
    calls = 1 if effort == Effort.quick() else 4
    results, whole = [], Findings()
    for cell in [*CELLS, *MORE]:
        found = Findings()
        for seed in range(calls):
            found.add(listen(make(cell, seed)))
        results += _lines(str(cell), found)
        if cell in CELLS:
            whole.add(found)
    return [*_summary(whole), *results, *_costs(effort)]


def _lines(name: str, found: Findings) -> list[Result]:
    return [
        Result(
            f"{name}: agent's spans, p95",
            percentile(found.agent, 0.95),
            "ms",
            f"worst {max(found.agent):.0f}",
            limit=25,
        ),
        Result(
            f"{name}: caller's spans, p95", percentile(found.user, 0.95), "ms", f"worst {max(found.user):.0f}", limit=50
        ),
    ]


def _summary(found: Findings) -> list[Result]:
    of = f"of {found.barge_ins}"
    return [
        Result("barge-ins missed", len(found.missed), "", of, limit=0),
        Result("barge-ins invented", len(found.invented), "", of, limit=0),
        Result("agent's spans, worst", max(found.agent), "ms", f"{len(found.agent)} edges", limit=100),
        Result("caller's spans, worst", max(found.user), "ms", f"{len(found.user)} edges", limit=100),
        Result("latency, worst", max(found.latency), "ms", f"{len(found.latency)} answers", limit=50),
        Result(
            "answers without a latency", len(found.silent), "", f"of {len(found.silent) + len(found.latency)}", limit=0
        ),
    ]


def _costs(effort: Effort) -> list[Result]:
    """Return the CPU of one frame of each side, in a whole call: the long way now and then is in it."""
    results = []
    for kind in ("user_audio", "agent_audio"):
        calls = [make(Cell(sending="continuous"), seed, turns=6) for seed in range(2)]
        costs = [_cost(call, kind) for call in calls for _ in range(effort.few)]
        results.append(Result(f"CPU of a frame, {kind}", median(costs), "us", f"up to {short(max(costs))}", limit=1.5))
    return results


def _cost(call: Conversation, kind: str) -> float:
    """Return the microseconds that one frame of that kind takes, the cost of the call itself left out."""
    observer, frames, spent = ChirpObserver(lambda *_, **__: None), 0, 0
    batch: list[tuple[bytes | str, float]] = []
    for at, _, which, what in call.items:
        if which == kind:
            batch.append((what, at))
            continue
        spent, frames = spent + _timed(observer, kind, batch), frames + len(batch)
        batch = []
        if which in {"user_audio", "agent_audio", "user_text", "agent_text"}:
            getattr(observer, which)(what, at)
    return spent / max(frames, 1) / 1_000


def _timed(observer: ChirpObserver, kind: str, batch: Sequence[tuple[Any, float]]) -> int:
    method = getattr(observer, kind)
    begun = thread_time_ns()
    for what, at in batch:
        method(what, at)
    return thread_time_ns() - begun
