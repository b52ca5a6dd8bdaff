"""One call's reports on their way: all that this process knows of them, in one place."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from enum import Enum
from typing import TYPE_CHECKING, Any

from bluejay_ws.delivery.outcomes import History, State
from bluejay_ws.wire import journal

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from bluejay_ws.delivery.store import Report, StoredReport
    from bluejay_ws.wire.journal import CallFacts

__all__ = ["Delivery", "Move", "Part"]

_WORD = re.compile(r"[a-z0-9_.]{1,64}", re.ASCII)


class Move(Enum):
    """What may be done next for a delivery."""

    SEND = "send"
    READ_BACK = "read_back"
    WAIT = "wait"


@dataclass(slots=True)
class Part:
    """One connection's share in an attempt.

    Args:
        report_id: of the connection.
        state: where it stands.
        facts: what its lines say of the call, and its items.
        noted: what was noted last of its delivery.
        report: the report where only memory has it.
    """

    report_id: str
    state: State
    facts: CallFacts
    noted: Mapping[str, Any]
    report: Report | None = None

    @property
    def reason(self) -> str:
        """Why it is held; nothing where the store says anything but a word of ours, which goes into log lines."""
        outcome = self.noted.get("outcome")
        return outcome if isinstance(outcome, str) and _WORD.fullmatch(outcome) else ""

    @property
    def released(self) -> bool:
        """Whether a person said to send it whatever has been sent before."""
        return self.noted.get("released") is True


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
    arrivals: dict[str, Report] = field(default_factory=dict)
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

    def parts(self, stored: Sequence[StoredReport]) -> list[Part]:
        """Return every share of the call, in order; what memory holds is whole, and what it knows counts."""
        parts = [self._in_memory(report) for report in self.reports.values() if report.bodies is not None]
        here = {part.report_id for part in parts}
        for one in stored:
            if one.report_id not in here:
                state = self.states.get(one.report_id, one.state)
                parts.append(Part(one.report_id, state, one.facts, one.noted))
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
            self.history.restore(part.noted)
        self.resend_due = bool(self.adopted)

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
        """Note that a POST begins."""
        history = self.history
        history.attempts += 1
        history.looks = history.unread = 0
        self.resend_due = False
