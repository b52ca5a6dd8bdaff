"""A call that a deliverer has claimed from a fleet's database, as the one way through delivery wants it.

The database gives the call and keeps it for this process (its lease). Here it is a `Lease` like that of files, whose
marks are gathered in memory. What came of the attempt is written down in one statement.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from bluejay_ws.delivery.attempt import LEASE_LATE, Delivery
from bluejay_ws.delivery.outcomes import History, Platform, State
from bluejay_ws.delivery.store import Lease, Part
from bluejay_ws.wire import journal

if TYPE_CHECKING:
    from collections.abc import Mapping

    from bluejay_ws.delivery.outcomes import Decision
    from bluejay_ws.delivery.postgres import ClaimedCall
    from bluejay_ws.stats import Counters

__all__ = ["ClaimedLease", "Settlement"]

MISCONFIGURED_WAIT = 1.0


@dataclass(frozen=True, slots=True)
class Settlement:
    """What is to be written down of an attempt.

    Args:
        state: of the call.
        wait: seconds until it is due again.
        reason: one word.
        detail: more, for a person.
        history: for the next attempt, in any process.
        report_ids: what was delivered.
        down: what the attempt shows of the platform: it does not work, it does, or nothing.
    """

    state: str
    wait: float
    reason: str
    detail: str
    history: dict[str, Any]
    report_ids: list[str]
    down: bool | None


class ClaimedLease(Lease):
    """Every report of a claimed call; `mark` gathers what is written down at the end.

    Args:
        call: as the database gave it.
        counters: where damaged lines are counted.
        until: monotonic seconds after which nothing is sent.
    """

    def __init__(self, call: ClaimedCall, counters: Counters, *, until: float) -> None:
        self.until = until
        self.reports = []
        self.call = call
        self.marks: dict[str, State] = {}
        self._empty: list[str] = []
        state = State.UNKNOWN if call.unsure or call.history.get("unsure") else State.WAITING
        noted = {"released": True} if call.history.get("released") else {}
        for report in call.reports:
            parsed = journal.parse(report.journal)
            if parsed.damaged:
                counters.add("spool.damaged_lines", len(parsed.damaged))
            if not parsed.bodies:
                self._empty.append(report.report_id)
            else:
                facts = journal.facts(parsed.bodies)
                self.reports.append(Part(report.report_id, state, facts, noted))

    def mark(self, report_id: str, state: State, note: Mapping[str, object]) -> bool:
        """Note where a report stands; the database hears of it with the settlement."""
        del note
        self.marks[report_id] = state
        return True

    def delivery(self) -> Delivery:
        """Return the call's delivery, with the history of earlier attempts, in any process."""
        delivery = Delivery(self.call.identity, restored=True, fresh=False)
        delivery.history = _history(self.call.history)
        # Where a deliverer died, a whole lease has passed: had the report arrived, it would show.
        died = self.call.unsure and not self.call.history.get("unsure")
        delivery.resend_due = died or self.call.history.get("resend_due") is True
        return delivery

    def settlement(self, delivery: Delivery, decision: Decision) -> Settlement:
        """Return what is to be written down.

        Args:
            delivery: after the attempt.
            decision: what came of it.
        """
        delivered = [report_id for report_id, state in self.marks.items() if state is State.DELIVERED]
        if delivered:
            delivered += self._empty  # nothing of them is left to send
        state = State.DELIVERED if delivered else decision.state
        wait = decision.wait or 0.0
        down = {Platform.UP: False, Platform.READABLE: False, Platform.DOWN: True}.get(decision.platform)
        if decision.platform is Platform.MISCONFIGURED:
            wait = max(wait, MISCONFIGURED_WAIT)  # for a deliverer with another configuration
        history = {key: value for key, value in asdict(delivery.history).items() if value}
        history["unsure"] = decision.state is State.UNKNOWN
        history["resend_due"] = delivery.resend_due
        if self.call.history.get("released"):
            history["released"] = True
        down = None if decision.reason == LEASE_LATE else down
        return Settlement(state.value, wait, decision.reason, decision.detail, history, delivered, down)


def _history(noted: Mapping[str, Any]) -> History:
    """Take over what earlier deliverers noted, of any version."""
    history = History()
    for key, default in asdict(history).items():
        value = noted.get(key)
        if isinstance(value, int | float):
            setattr(history, key, type(default)(value))
    return history
