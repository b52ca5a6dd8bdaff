"""What keeps reports until they are delivered: the seam behind which a directory, memory or a database can stand.

A store mirrors and never decides. What becomes of a report is decided by `outcomes`, and `Delivery` has it in memory;
a store that cannot write something down says so, and nothing changes by that.
"""

from __future__ import annotations

import math
import re
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol, Self

from bluejay_ws.delivery.outcomes import State

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from types import TracebackType

    from bluejay_ws.wire.journal import CallFacts


APART = "kept-apart"
"""The place of what was recorded for no platform: without a key, or by a test. Nothing leaves it by itself."""
SEND_APART = "bluejay-ws outbox deliver --kept-apart"
DELETE_APART = "bluejay-ws outbox delete --kept-apart --yes"
_WORD = re.compile(r"[a-z0-9_.]{1,64}", re.ASCII)


@dataclass(frozen=True, slots=True)
class Report:
    """What one connection recorded, sealed.

    Args:
        report_id: of the connection that was recorded.
        simulation_result_id: the platform's id of the call.
        bodies: every line, the header first, without check sums; None where a store holds them.
        sealed_at: monotonic seconds of the close.
    """

    report_id: str
    simulation_result_id: str
    bodies: Sequence[bytes] | None = field(default=None, repr=False)
    sealed_at: float = field(default_factory=time.monotonic, compare=False)


@dataclass(frozen=True, slots=True)
class Found:
    """A report that may be delivered and that no process is at work on.

    Args:
        simulation_result_id: of its call.
        report_id: of the connection that was recorded.
        wait: seconds before its first move: none, unless its process has just died and the platform may dial again.
    """

    simulation_result_id: str
    report_id: str
    wait: float = 0.0


@dataclass(slots=True)
class Part:
    """One connection's share of a call.

    Args:
        report_id: of the connection.
        state: where it stands: as it was written down last, then as the attempt brings it.
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


class LiveReport(Protocol):
    """The report of a call that continues. Nothing here raises or waits: it is used on the agent's event loop."""

    @property
    def broken(self) -> str | None:
        """Why a line could not be kept; from then on only who records the call has all of them."""
        ...

    def append(self, body: bytes) -> None:
        """Keep one line."""

    def seal(self) -> Report:
        """End it, and return it as a report to deliver. Sealing twice returns the same."""
        ...

    def discard(self) -> None:
        """Forget it: nothing of this call is to be sent, or memory holds it all. Idempotent."""

    def abandon(self) -> None:
        """Let go of a forked child's copy; the call continues in the parent."""


class Lease:
    """Every report of one call, for as long as nobody else may work on them. A context manager.

    This one has nothing of a call; those of a store that keeps reports inherit from it.

    Attributes:
        reports: what may go out, in the order of the connections.
        delivered: report ids that are known to be delivered under this id, here or by another process.
        parked: report ids that a person gave up, or has to decide on.
        live: whether a connection with this id still continues somewhere.
        busy: whether another process is at work on this call.
        until: monotonic seconds after which nothing is sent under it: this process was suspended, or a database took
            its time, and somebody else may have the call.
    """

    reports: list[Part] = []  # noqa: RUF012 - those of a store have a list of their own
    delivered: frozenset[str] = frozenset()
    parked: frozenset[str] = frozenset()
    live = False
    busy = False
    until = math.inf

    def mark(self, report_id: str, state: State, note: Mapping[str, object]) -> bool:
        """Write down where a report stands; return whether that worked. A report that is not here is left out.

        With `State.DELIVERED` its text is removed: what stays is the mark that the id is used up.
        """
        del report_id, state, note
        return False

    def release(self) -> None:
        """Let others work on the call."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.release()


class Store:
    """Keep reports. `open_call` is called on the agent's loop, all else on threads of delivery's own.

    This one keeps nothing beyond the process: a report stays with its `Delivery`, within the bounds of the queue.

    Args:
        place: where reports wait, for a person.
    """

    lasts = False
    """Whether what is kept outlives this process."""

    def __init__(self, place: str = "memory") -> None:
        self.place = place

    def open_call(self, *, report_id: str, simulation_result_id: str, header: bytes) -> LiveReport | None:
        """Return the report of a call that begins now, or None (counted) where it has to stay in memory.

        Args:
            report_id: of this connection.
            simulation_result_id: of the call.
            header: the first line's body.
        """
        del report_id, simulation_result_id, header
        return None

    def save(self, report: Report, state: State = State.WAITING, note: Mapping[str, object] | None = None) -> bool:
        """Take in a report that is in memory only; return whether it is kept, whole.

        Of one that was delivered from memory only the mark is kept: its id is used up.
        """
        del report, state, note
        return False

    def lease(self, simulation_result_id: str) -> Lease:
        """Return the call's reports, for nobody else to work on.

        Raises:
            OSError: the store cannot be worked with now.
        """
        del simulation_result_id
        return Lease()

    def recover(self, *, untouched: float = 0.0) -> list[Found]:
        """Return what may be delivered and is nobody's: at the start, and now and then. Never raises.

        Args:
            untouched: seconds for which a report must not have been written to; a process that works on it writes.
        """
        del untouched
        return []

    def sync(self) -> None:
        """Bring what calls have written to stable storage; called each second."""

    def tidy(self) -> None:
        """Keep the bounds: remove what is delivered or parked and old."""

    def reset_after_fork(self) -> None:
        """Own nothing in a forked child."""
