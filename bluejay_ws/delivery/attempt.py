"""One call's reports on their way, and one attempt for them.

A `Delivery` is all that this process knows of them. An attempt takes the reports, looks or sends once, and writes down
what was decided.
"""

from __future__ import annotations

import logging
import math
import os
import time
from collections import OrderedDict
from dataclasses import dataclass, field, replace
from enum import Enum
from random import SystemRandom
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from bluejay_ws.delivery.outcomes import (
    Answer,
    Decision,
    Failure,
    History,
    Phase,
    Platform,
    Sight,
    State,
    backoff,
    decide,
    decide_look,
    read_result,
)
from bluejay_ws.delivery.store import Lease, Part, Report
from bluejay_ws.log import logger, say, say_seldom
from bluejay_ws.wire import journal

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from bluejay_ws.delivery.store import Store
    from bluejay_ws.settings import Settings
    from bluejay_ws.stats import Counters

OTHERS_WAIT = 0.5
CALL_WAIT = 1.0
CUT_OUTPUT = 4096
_NOTED = ("attempts", "resends", "look_refused", "look_refused_at", "cut")
_Known = TypeVar("_Known")
chance = SystemRandom().random  # the process's own generator is not disturbed
REMEMBERED = 10_000
"""So many delivered ids, and so many marks that a store refused, are remembered."""

ALREADY = "already_delivered"
LOCAL_ID = "local_id"
LEASE_LATE = "lease_late"


class Move(Enum):
    """What may be done next for a delivery."""

    SEND = "send"
    READ_BACK = "read_back"
    WAIT = "wait"


@dataclass(slots=True, eq=False)
class Delivery:
    """Everything one process knows of one call whose reports are on their way. Memory decides, the store mirrors.

    Args:
        simulation_result_id: of the call.
        reports: what was submitted, by report id.
        arrivals: what was submitted while an attempt was under way.
        adopted: report ids that an earlier process left in the store.
        missing: report ids that were submitted, and removed from the store since.
        states: where each report stands, as far as this process has brought it there.
        history: of the attempts.
        restored: whether the notes of an earlier process have been taken over.
        resend_due: whether the wait before another POST is over.
        asked_until: Unix time until which the platform asked to wait, as far as that is being kept to.
        running: whether an attempt is under way.
        fresh: whether nothing has been tried yet.
        waits_for_redial: whether ``due`` is nothing but the time in which the platform may dial a lost call again.
        due: monotonic seconds of the next move.
        pinned: whether ``due`` is kept even when the platform comes back earlier.
        ticket: tells the newest entry in the queue from older ones.
    """

    simulation_result_id: str
    reports: dict[str, Report] = field(default_factory=dict)
    arrivals: list[Report] = field(default_factory=list)
    adopted: set[str] = field(default_factory=set)
    missing: set[str] = field(default_factory=set)
    states: dict[str, State] = field(default_factory=dict)
    history: History = field(default_factory=History)
    restored: bool = False
    resend_due: bool = False
    asked_until: float = 0.0
    running: bool = False
    fresh: bool = True
    waits_for_redial: bool = False
    due: float = 0.0
    pinned: bool = False
    ticket: int = 0

    def parts(self, stored: Sequence[Part]) -> list[Part]:
        """Return every share of the call, in order; what memory holds is whole, and what it knows counts."""
        parts = [self._in_memory(report) for report in self.reports.values() if report.bodies is not None]
        here = {part.report_id for part in parts}
        for one in stored:
            if one.report_id not in here:
                one.state = self.states.get(one.report_id, one.state)
                parts.append(one)
        parts.sort(key=lambda part: (part.facts.started_at, part.report_id))
        self._restore(parts)
        return parts

    def _in_memory(self, report: Report) -> Part:
        state = self.states.get(report.report_id, State.WAITING)
        return Part(report.report_id, state, journal.facts(report.bodies or ()), {}, report)

    def _restore(self, parts: Sequence[Part]) -> None:
        """Take over what an earlier process noted; what it was sending is looked for and sent again in one move."""
        if self.restored:
            return
        self.restored = True
        for part in parts:
            if part.noted:
                self.restore(part.noted)
        self.resend_due = bool(self.adopted)

    def restore(self, noted: Mapping[str, Any]) -> None:
        """Take over what an earlier process noted of its attempts, as far as that is more."""
        for key in _NOTED:
            value, known = noted.get(key), getattr(self.history, key)
            if isinstance(value, int | float) and value > known:
                setattr(self.history, key, type(known)(value))

    def note(self, outcome: str, at: float, **more: object) -> dict[str, object]:
        """Return what is to be noted: what happened when, and what the next process has to know of the attempts."""
        known = {key: value for key in _NOTED if (value := getattr(self.history, key))}
        return {"outcome": outcome, "at": at, **more, **known}

    def next_move(self, parts: Sequence[Part], wall: float, ceiling: float) -> tuple[Move, float]:
        """Return what may be done now, and for how many seconds to wait if nothing.

        Args:
            parts: every share of the call.
            wall: Unix time, in seconds.
            ceiling: the longest wait that the platform is believed to have asked for.
        """
        wait = self._asked_wait(parts, wall, ceiling)
        if wait > 0.0:
            return Move.WAIT, wait
        unknown = any(part.state is State.UNKNOWN for part in parts)
        return (Move.READ_BACK if unknown else Move.SEND), 0.0

    def _asked_wait(self, parts: Sequence[Part], wall: float, ceiling: float) -> float:
        """Keep to the wait that the platform asked of another process, or of an earlier one; once, if clocks jump."""
        noted = (part.noted.get("next_at") for part in parts)
        until = max((float(at) for at in noted if isinstance(at, int | float)), default=0.0)
        if until <= self.asked_until:
            return 0.0
        self.asked_until = until
        return min(until - wall, ceiling)

    def posted(self) -> None:
        """Count that a POST begins."""
        history = self.history
        history.attempts += 1
        history.looks = history.unread = 0
        self.resend_due = False


class Exchange(Protocol):
    """What carries a request to the platform; see `bluejay_ws.delivery.http`. Each thread has its own."""

    def post(self, body: bytes) -> Answer | Failure:
        """Send a report."""
        ...

    def look(self, simulation_result_id: str) -> Answer | Failure:
        """Read a result back."""
        ...

    def abort_if_late(self, now: float) -> None:
        """End an exchange that takes too long; for another thread."""

    def close(self) -> None:
        """Close the connections."""


@dataclass(frozen=True, slots=True)
class Context:
    """What all parts of delivery work with.

    Args:
        settings: retry bounds, and where the platform is.
        counters: where everything is counted.
        clock: monotonic seconds.
        wall: Unix time, in seconds.
        random: returns a float in [0, 1).
        delivered: called with id and body of each report that was delivered; None: nobody wants to know.
    """

    settings: Settings
    counters: Counters
    clock: Callable[[], float] = time.monotonic
    wall: Callable[[], float] = time.time
    random: Callable[[], float] = chance
    delivered: Callable[[str, bytes], None] | None = None


@dataclass(slots=True)
class Memory:
    """What the attempts of one process know together; bounded, the oldest go first.

    Args:
        delivered: the report ids that were delivered, by call.
        refused_marks: what the store refused to write down of settled reports, by report id.
        accepted_at: monotonic seconds when the platform last accepted a report.
    """

    delivered: OrderedDict[str, frozenset[str]] = field(default_factory=OrderedDict)
    refused_marks: OrderedDict[str, tuple[State, dict[str, object]]] = field(default_factory=OrderedDict)
    accepted_at: float = -math.inf


class Attempts:
    """Make attempts. Thread-safe as long as no two threads work on the same delivery.

    Args:
        context: see `Context`.
        store: where reports are kept.
    """

    def __init__(self, context: Context, store: Store) -> None:
        self._context = context
        self._counters = context.counters
        self._store = store
        self._memory = Memory()

    def attempt(self, delivery: Delivery, exchange: Exchange) -> Decision:
        """Bring one call's delivery one move further; return what was decided."""
        self._save(delivery)
        try:
            lease = self._store.lease(delivery.simulation_result_id)
        except OSError as error:
            self._counters.add(f"spool.lease_{type(error).__name__}")
            if not delivery.reports or any(report.bodies is None for report in delivery.reports.values()):
                text = "reports in %s cannot be read (%s); they wait until they can"
                say_seldom(self._counters, logging.ERROR, text, self._store.place, type(error).__name__)
                wait = backoff(5, self._context.settings.retry, self._context.random())
                return _wait(max(OTHERS_WAIT, wait), "store")
            lease = Lease()
        try:
            if lease.live or lease.busy:
                return _wait(CALL_WAIT if lease.live else OTHERS_WAIT, "busy")
            return self.move(delivery, lease, exchange)
        finally:
            lease.release()

    def move(self, delivery: Delivery, lease: Lease, exchange: Exchange) -> Decision:
        """Do what `attempt` does, with reports that are leased already."""
        return Attempt(self._context, self._store, self._memory, delivery, lease, exchange).make()

    def _save(self, delivery: Delivery) -> None:
        """Give the store what is in memory only, unless it may have been delivered from there."""
        for report_id, report in list(delivery.reports.items()):
            if delivery.states.get(report_id) is not State.UNKNOWN:
                delivery.reports[report_id] = self.saved(report)

    def saved(self, report: Report) -> Report:
        """Return a report as it is after the store was offered what only memory has of it."""
        if report.bodies is None or not self._store.save(report):
            return report
        return replace(report, bodies=None)

    def mark_again(self, simulation_result_id: str, report_id: str) -> bool:
        """Write down once more what the store refused for a settled report; return whether it is such a one."""
        known = self._memory.refused_marks.get(report_id)
        if known is None:
            return False
        try:
            with self._store.lease(simulation_result_id) as lease:
                if lease.mark(report_id, *known):
                    del self._memory.refused_marks[report_id]
        except OSError as error:
            self._counters.add(f"spool.lease_{type(error).__name__}")
        return True


@dataclass(slots=True, eq=False)
class Attempt:
    """The way of one attempt: from the reports of a call, which are leased, to what is written down of them."""

    _context: Context
    _store: Store
    _memory: Memory
    _delivery: Delivery
    _lease: Lease
    _exchange: Exchange
    _parts: list[Part] = field(init=False)

    def __post_init__(self) -> None:
        self._parts = self._delivery.parts(self._lease.reports)

    @property
    def _name(self) -> str:
        return self._delivery.simulation_result_id

    def make(self) -> Decision:
        """Look or send once, write down what was decided, and return it."""
        self._miss()
        if not self._parts:  # another process has dealt with them, or somebody has removed them
            return Decision(State.DELIVERED, None, Platform.UNHEARD, "elsewhere")
        put_away = self._put_away_late_ones()
        if put_away is not None:
            return put_away
        move, wait = self._delivery.next_move(
            self._parts, self._context.wall(), self._context.settings.retry.retry_after_ceiling
        )
        if move is Move.WAIT:
            return _wait(wait, "retry_after")
        if move is Move.READ_BACK or self._leaves_no_trace():
            decision = self._look()
            if decision.state is not State.WAITING:
                return decision
        return self._post()

    def _miss(self) -> None:
        """Say once which reports were handed in and are gone: somebody has removed them."""
        delivery, here = self._delivery, {part.report_id for part in self._parts}
        for report_id in delivery.reports.keys() - here - self._lease.delivered - self._lease.parked - delivery.missing:
            delivery.missing.add(report_id)
            self._context.counters.add("dropped.file_removed")
            self._say(logging.ERROR, f"report {report_id} is lost: it was removed from {self._store.place}")

    def _leaves_no_trace(self) -> bool:
        """Return whether the store cannot note that what an earlier process left is sent: that one could not either."""
        adopted = [part for part in self._parts if part.report_id in self._delivery.adopted]
        left = [part for part in adopted if not part.report and not _released(part)]
        if self._delivery.history.attempts or all(self._lease.mark(part.report_id, State.UNKNOWN, {}) for part in left):
            return False
        for part in left:
            part.state = self._delivery.states[part.report_id] = State.UNKNOWN
        return True

    # -- one id, one report -------------------------------------------------------------------------------------

    def _put_away_late_ones(self) -> Decision | None:
        """Put away what may not be sent, because the id is used up or waits for a person; None if all may go."""
        parts = self._parts
        if self._name.startswith("local-") and not self._context.settings.is_local:
            return self._settle(parts, State.PARKED, LOCAL_ID, "a call of the local caller")
        stuck = next((part.reason for part in parts if part.state is State.HELD), None)
        if stuck is not None:
            return self._settle([part for part in parts if part.state is not State.HELD], State.HELD, stuck)
        delivered = self._lease.delivered | self._memory.delivered.get(self._name, frozenset())
        if not delivered or all(_released(part) for part in parts):
            return None
        # The process died between two marks of one delivery, or one was refused.
        marked = [part for part in parts if part.report_id in delivered]
        self._mark_all(marked, State.DELIVERED, self._note("delivered"))
        return self._settle([part for part in parts if part.report_id not in delivered], State.HELD, ALREADY)

    def _settle(self, parts: Sequence[Part], state: State, reason: str, detail: str = "") -> Decision:
        """Leave reports to a person, as held or parked; each is counted and named in a line of its own."""
        note = self._note(reason, detail=detail)
        for part in parts:
            kept = self._mark(part, state, note)
            self._context.counters.add(state.value if kept else f"dropped.{state.value}_without_spool")
            where = "it is kept, see `bluejay-ws outbox`" if kept else "there is no spool, it is lost"
            why = f"{reason}: {detail}" if detail else reason
            self._say(logging.ERROR, f"report {part.report_id} {state.value} ({why}); {where}")
        return Decision(state, None, Platform.UNHEARD, reason)

    # -- sending ------------------------------------------------------------------------------------------------

    def _post(self) -> Decision:
        history = self._delivery.history
        unsure = any(part.state is State.UNKNOWN for part in self._parts)
        history.resends += unsure
        body = self._body(self._parts, CUT_OUTPUT if history.cut else None)
        self._delivery.posted()
        note: dict[str, object] = {}  # of a first attempt the name says all
        if history.attempts > 1:
            self._context.counters.add("retried")
            note = self._note("sending", pid=os.getpid())
        self._mark_all(self._parts, State.UNKNOWN, note)
        late = time.monotonic() > self._lease.until
        outcome = Failure(Phase.NOT_SENT, LEASE_LATE) if late else self._exchange.post(body)
        self._context.counters.add(_word(outcome))
        decision = decide(
            outcome,
            history,
            self._context.settings.retry,
            now=self._context.clock(),
            jitter=self._context.random(),
            others_accepted=self._memory.accepted_at > history.refused_at,
        )
        if unsure and decision.state is State.WAITING:  # an earlier POST may still show: each later one follows a look
            decision = replace(decision, state=State.UNKNOWN)
            self._delivery.resend_due = True
        if decision.state is State.DELIVERED:
            self._memory.accepted_at = self._context.clock()
            self._deliver(self._parts, decision.reason, body)
        elif decision.wait is None:
            self._settle(self._parts, decision.state, decision.reason, decision.detail)
        else:
            self._postpone(decision)
        return decision

    def _body(self, parts: Sequence[Part], limit: int | None = None) -> bytes:
        facts = [part.facts for part in parts]
        return journal.assemble(facts, simulation_result_id=self._name, output_limit=limit)

    def _postpone(self, decision: Decision) -> None:
        if decision.cut:
            self._delivery.history.cut = True
            self._context.counters.add("cut.after_413")
        note = self._note(decision.reason)
        if decision.detail:
            note["detail"] = decision.detail
        if decision.asked and decision.wait:  # ordinary backoff need not survive this process
            self._delivery.asked_until = self._context.wall() + decision.wait
            note["next_at"] = self._delivery.asked_until
        self._mark_all(self._parts, decision.state, note)
        self._say_again(decision, f"{decision.reason}: {decision.detail}" if decision.detail else decision.reason)

    def _deliver(self, parts: Sequence[Part], how: str, body: bytes | None = None) -> None:
        report_ids = [part.report_id for part in parts]
        known = self._memory.delivered.pop(self._name, frozenset())
        _remember(self._memory.delivered, self._name, known | set(report_ids))
        self._mark_all(parts, State.DELIVERED, self._note(how, report_ids=report_ids))
        self._context.counters.add("delivered", len(parts))
        if self._context.delivered is not None:
            cut = CUT_OUTPUT if self._delivery.history.cut else None
            self._context.delivered(self._name, body or self._body(parts, cut))
        if logger.isEnabledFor(logging.INFO):
            self._say(logging.INFO, f"report delivered ({_contents(parts)}), {self._since(parts)}")

    def _note(self, outcome: str, **more: object) -> dict[str, object]:
        return self._delivery.note(outcome, self._context.wall(), **more)

    def _mark_all(self, parts: Sequence[Part], state: State, note: dict[str, object]) -> None:
        for part in parts:
            self._mark(part, state, note)

    def _mark(self, part: Part, state: State, note: dict[str, object]) -> bool:
        """Note where a part stands: in memory first; the store mirrors it. Return whether the store has it."""
        part.state = self._delivery.states[part.report_id] = state
        if _released(part) and state is not State.DELIVERED:
            note = {"released": True, **note}
        settled = state in {State.DELIVERED, State.HELD, State.PARKED}
        if part.report is not None:
            return settled and self._store.save(part.report, state, note)
        kept = self._lease.mark(part.report_id, state, note)
        if settled and not kept:
            _remember(self._memory.refused_marks, part.report_id, (state, note))
        return True

    # -- reading back -------------------------------------------------------------------------------------------

    def _look(self) -> Decision:
        """Read the result back. A decision to wait for nothing means: not there, send it in this same move."""
        unknown = [part for part in self._parts if part.state is State.UNKNOWN]
        outcome = self._exchange.look(self._name)
        if isinstance(outcome, Failure) or outcome.status not in {200, 404}:
            self._context.counters.add(_word(outcome))
        seen = read_result(outcome, [(part.report_id, self._body([part])) for part in unknown])
        for sight in seen.values():
            self._context.counters.add(f"read_back.{sight.value}")
        found = [part for part in unknown if seen[part.report_id] is Sight.FOUND]
        if found:
            return self._found(found)
        return self._not_found(unknown, outcome, _worst(seen.values()))

    def _found(self, found: list[Part]) -> Decision:
        self._deliver(found, "read_back")
        rest = [part for part in self._parts if part not in found]
        if rest:  # the id is used up: what is not proven to be there would be a second report
            self._settle(rest, State.HELD, ALREADY)
        return Decision(State.DELIVERED, None, Platform.READABLE, "read_back")

    def _not_found(self, unknown: list[Part], outcome: Answer | Failure, sight: Sight) -> Decision:
        decision = decide_look(
            sight,
            outcome,
            self._delivery.history,
            self._context.settings.retry,
            wall=self._context.wall(),
            jitter=self._context.random(),
            due=self._delivery.resend_due,
        )
        if decision.wait is None:
            self._settle(unknown, decision.state, decision.reason, decision.detail)
        elif decision.state is State.UNKNOWN:
            self._delivery.resend_due = decision.reason == "not_found"
            if decision.reason in {"look_refused", "not_found"}:
                self._mark_all(unknown, State.UNKNOWN, self._note(decision.reason))
            if sight is not Sight.ABSENT:
                self._say_again(decision, f"its result cannot be read back: {_word(outcome)}")
        return decision

    # -- what is said -------------------------------------------------------------------------------------------

    def _say_again(self, decision: Decision, why: str) -> None:
        if decision.platform is not Platform.MISCONFIGURED:  # said once for all when the breaker opens
            text, name = "call %s: report not delivered yet (%s), trying again", self._name
            say_seldom(
                self._context.counters, logging.WARNING, text, name, why, key=("again", why), simulation_result_id=name
            )

    def _since(self, parts: Sequence[Part]) -> str:
        together = f"{len(parts)} connections in one report, " if len(parts) > 1 else ""
        reports = self._delivery.reports.values()
        if not reports:
            return f"{together}{'left by a process that ended' if self._delivery.adopted else 'from another process'}"
        sealed_at = max(report.sealed_at for report in reports)
        return f"{together}{max(0.0, self._context.clock() - sealed_at) * 1e3:.0f} ms after the close"

    def _say(self, level: int, text: str) -> None:
        say(self._context.counters, level, "call %s: %s", self._name, text, simulation_result_id=self._name)


def _remember(known: OrderedDict[str, _Known], key: str, value: _Known) -> None:
    known[key] = value
    while len(known) > REMEMBERED:
        known.popitem(last=False)


def _word(outcome: Answer | Failure) -> str:
    return f"http.{outcome.status}" if isinstance(outcome, Answer) else f"transport.{outcome.reason}"


def _released(part: Part) -> bool:
    """Return whether a person said to send it whatever has been sent before."""
    return part.noted.get("released") is True


def _wait(seconds: float, reason: str) -> Decision:
    return Decision(State.WAITING, seconds, Platform.UNHEARD, reason, pinned=True)


def _worst(sights: Iterable[Sight]) -> Sight:
    order = (Sight.REFUSED, Sight.UNREADABLE, Sight.UNCLEAR, Sight.ABSENT)
    seen = set(sights)
    return next(sight for sight in order if sight in seen)


def _contents(parts: Sequence[Part]) -> str:
    def count(kind: str, word: str) -> str:
        number = sum(part.facts.counts.get(kind, 0) for part in parts)
        return f"{number} {word}{'' if number == 1 else 's'}"

    kinds = (("tool_calls", "tool call"), ("recorded_transcript", "utterance"), ("events", "event"))
    return ", ".join(count(kind, word) for kind, word in kinds)
