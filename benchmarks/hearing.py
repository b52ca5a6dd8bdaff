"""How well the report hears: made-up calls whose truth is known, compared with what the observer makes of them."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field
from statistics import median
from time import thread_time_ns
from typing import TYPE_CHECKING, Any

from benchmarks.carrier_calls import CARRIERS, as_carrier, plain
from benchmarks.conversations import BACKGROUNDS, EVENTS, SENDINGS, Cell, Conversation, make
from benchmarks.measure import Effort, Result, difference, in_turns, percentile, spread
from bluejay_ws.hearing.chirp import ChirpObserver
from bluejay_ws.hearing.turns import AGENT_INTERRUPTED, CALLER_INTERRUPTED, RESPONSE
from bluejay_ws.hearing.utterances import Placed, Speaker, Stretch, Utterance, place
from bluejay_ws.testing.spans import STILL_TO_COME_MS

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from benchmarks.conversations import Kind, Truth
    from bluejay_ws.testing.spans import Span

__all__ = ["CARRIER_CELLS", "CELLS", "MORE", "Findings", "listen", "run"]

CELLS = [
    Cell(background=background, events=events, sending=sending)
    for background, events, sending in itertools.product(BACKGROUNDS, EVENTS, SENDINGS)
]
MORE = [
    Cell(frame_ms=10),
    Cell(frame_ms=60),
    Cell(frame_ms=100),
    Cell(user_rms=350.0),
    Cell(user_rms=300.0, background="silence", sending="burst"),
    Cell(user_rms=300.0, background="pauses", events="none"),
    Cell(fades=True),
    Cell(fades=True, user_rms=500.0, events="none", sending="continuous"),
    Cell(jitter_ms=30.0),
    Cell(stall_ms=200.0),
    Cell(stall_ms=200.0, frame_ms=60, sending="continuous"),
    Cell(stall_ms=400.0, background="silence", sending="burst"),
    Cell(stall_ms=3_000.0, background="silence", sending="burst"),
    Cell(stall_ms=3_000.0),
    Cell(agent_frame_ms=200),
    Cell(agent_frame_ms=400, sending="burst"),
    Cell(comfort_rms=40.0, sending="continuous"),
    Cell(comfort_rms=100.0, sending="continuous", events="none"),
    Cell(echo=True, sending="burst"),
    Cell(echo=True, events="exact"),
    Cell(echo=True, sending="continuous", background="silence"),
    *(
        Cell(real=True, background=background, sending=sending)
        for background, sending in zip(BACKGROUNDS, SENDINGS, strict=True)
    ),
    Cell(marks=True),
    Cell(marks=True, sending="burst", background="pauses"),
    Cell(marks=True, sending="continuous", background="silence"),
]
CARRIER_CELLS = [
    Cell(events="none", clears=True, background="noise", sending="pacing"),
    Cell(events="none", clears=True, background="noise", sending="burst"),
    Cell(events="none", clears=True, background="silence", sending="burst"),
]
NETWORK_MS = 3.0  # frames come that late
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
        self.user: list[Placed] = []
        self.agent: list[Placed] = []
        self.observer = ChirpObserver(self)

    def note_event(
        self, title: str, *, start_offset_ms: int | None = None, end_offset_ms: int | None = None, **_: Any
    ) -> None:
        """Take an event."""
        self.events.append((title, start_offset_ms or 0, end_offset_ms))

    def of(self, title: str) -> list[tuple[float, float]]:
        """Return start and end of the events with that title."""
        return [(start, start if end is None else end) for one, start, end in self.events if one == title]


def listen(call: Conversation, carrier: str | None = None) -> Findings:
    """Feed a call to an observer, as Bluejay or as a carrier brings it, and compare."""
    report = _heard(call, as_carrier(call, carrier) if carrier else plain(call.items))
    truth, found = call.truth, Findings()
    found.user = _errors(report.user, truth.user)
    found.agent = _errors(report.agent, truth.agent)
    for title, true in ((CALLER_INTERRUPTED, truth.caller_barge_ins), (AGENT_INTERRUPTED, truth.agent_barge_ins)):
        missed, invented = _unmatched([span.start_ms for span in true], [start for start, _ in report.of(title)])
        missed, invented = ([at for at in ones if not _on_the_line(at, truth)] for ones in (missed, invented))
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


def _heard(call: Conversation, items: Iterable[tuple[float, Kind, bytes | str]]) -> _Report:
    report = _Report()
    observer: Any = report.observer
    said: list[tuple[Utterance, Stretch]] = []
    for at, kind, what in items:
        if kind == "user_said":
            said.append(_said("USER", observer, at))
        elif kind == "agent_said":
            said.append(_said("AGENT", observer, at))
        else:
            getattr(observer, kind)(what, at)
    observer.close(call.ended_ms)
    for one, stretch in said:
        (report.user if one.by_user else report.agent).extend(p for p in place(stretch) if p.utterance is one)
    return report


def _said(speaker: Speaker, observer: ChirpObserver, at: float) -> tuple[Utterance, Stretch]:
    one = Utterance(None, 0, speaker, "So many words.", at_ms=int(at))
    return one, observer.utterance(one, at)


def _errors(heard: Sequence[Placed], true: Sequence[Span]) -> list[float]:
    """Return by how much each start and each end is off."""
    errors = []
    for ours, theirs in zip(heard, true, strict=True):
        errors += [abs(ours.start_ms - theirs.start_ms), abs(ours.end_ms - theirs.end_ms)]
    return errors


def _on_the_line(at: float, truth: Truth) -> bool:
    """Return whether what began then broke in or did not, for all that a network leaves to be known of it."""
    return any(
        abs(mine.start_ms - at) < NEAR_MS and abs(theirs.end_ms - mine.start_ms - STILL_TO_COME_MS) < NETWORK_MS
        for some, others in ((truth.user, truth.agent), (truth.agent, truth.user))
        for mine in some
        for theirs in others
    )


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
    return [*_summary(whole), *results, *_carriers(calls), *_costs(effort)]


def _carriers(calls: int) -> list[Result]:
    results = []
    for name in CARRIERS:
        found = Findings()
        for cell in CARRIER_CELLS:
            for seed in range(calls):
                found.add(listen(make(cell, seed), name))
        edges = found.user + found.agent
        p95, worst = percentile(edges, 0.95), f"worst {max(edges):.0f}"
        of = f"of {found.barge_ins}"
        results.append(Result(f"{name}: both sides' spans, p95", p95, "ms", worst, limit=60))
        results.append(
            Result(f"{name}: barge-ins missed or invented", len(found.missed + found.invented), "", of, limit=0)
        )
    return results


def _lines(name: str, found: Findings) -> list[Result]:
    sides = (("agent", found.agent, 25), ("caller", found.user, 50))
    return [
        Result(f"{name}: {who}'s spans, p95", percentile(errors, 0.95), "ms", f"worst {max(errors):.0f}", limit=limit)
        for who, errors, limit in sides
    ]


def _summary(found: Findings) -> list[Result]:
    of, answers = f"of {found.barge_ins}", f"of {len(found.silent) + len(found.latency)}"
    return [
        Result("barge-ins missed", len(found.missed), "", of, limit=0),
        Result("barge-ins invented", len(found.invented), "", of, limit=0),
        Result("agent's spans, worst", max(found.agent), "ms", f"{len(found.agent)} edges", limit=100),
        Result("caller's spans, worst", max(found.user), "ms", f"{len(found.user)} edges", limit=100),
        Result("latency, worst", max(found.latency), "ms", f"{len(found.latency)} answers", limit=50),
        Result("answers without a latency", len(found.silent), "", answers, limit=0),
    ]


def _costs(effort: Effort) -> list[Result]:
    """Return the CPU of a frame in a whole call, the long way that some frames take included."""
    call = make(Cell(sending="continuous"), 1, turns=6)
    frames = sum(kind in {"user_audio", "agent_audio"} for _, _, kind, _ in call.items)
    took = in_turns(
        {"observer": lambda: _feed(call, ChirpObserver(_Report())), "none": lambda: _feed(call, _Deaf())}, effort.few
    )
    costs = [nanoseconds / frames / 1_000 for nanoseconds in difference(took["observer"], took["none"])]
    return [Result("CPU of listening, for each audio frame", median(costs), "us", spread(costs), limit=1.5)]


class _Deaf:
    """Take what an observer takes, and do nothing."""

    def user_audio(self, frame: bytes, at_ms: float) -> None:
        """Ignore it."""

    agent_audio = user_text = agent_text = user_audio


def _feed(call: Conversation, observer: Any) -> float:
    """Return the nanoseconds of CPU that it takes to hear all that passes the connection."""
    take = {kind: getattr(observer, kind) for kind in ("user_audio", "agent_audio", "user_text", "agent_text")}
    todo = [(take[kind], what, at) for at, kind, what in plain(call.items) if kind in take]
    begun = thread_time_ns()
    for method, what, at in todo:
        method(what, at)
    return thread_time_ns() - begun
