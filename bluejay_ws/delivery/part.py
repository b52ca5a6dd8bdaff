"""One connection's share of a report, wherever it is kept, and the job that carries all shares of one call."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from bluejay_ws.delivery.names import HELD, LIVE, READY, SENDING, SENT, Name
from bluejay_ws.wire import journal

if TYPE_CHECKING:
    from bluejay_ws.delivery.claim import Claim
    from bluejay_ws.delivery.parcel import Parcel
    from bluejay_ws.delivery.spool import Spool

__all__ = ["FilePart", "Job", "MemoryPart", "Part"]

_WORD = re.compile(r"[a-z0-9_.]{1,64}", re.ASCII)


@dataclass(slots=True, eq=False)
class Job:
    """Everything one process remembers of one call whose report is on its way.

    Args:
        identity: the simulation result id.
        parcels: what was submitted, by report id.
        arrivals: what was submitted while a step was under way.
        adopted: report ids of files that an earlier process left.
        running: whether a step is under way.
        fresh: whether nothing has been tried yet.
        recovering: whether ``due`` is nothing but the time in which the platform may dial a lost call again.
        attempts: how often its report was posted.
        not_found: how often that was answered with 404.
        looks: how often the result was read back since the last attempt, and did not show the report.
        unreadable: how often it could not be read.
        resends: how often the report was sent again although its outcome stayed unknown.
        cut: whether outputs are cut, after a 413.
        look_first: whether a process that died may have delivered it: look before sending.
        uncertain: report ids of parts in memory that were posted with unknown outcome.
        due: monotonic seconds of the next step.
        pinned: whether ``due`` is not to be moved forward when the platform comes back.
        ticket: tells the newest entry in the sender's queue from older ones.
        restored: whether the notes in the files have been taken over.
        asked_until: Unix time until which the platform asked to wait, as far as that is being kept to.
    """

    identity: str
    parcels: dict[str, Parcel] = field(default_factory=dict)
    arrivals: dict[str, Parcel] = field(default_factory=dict)
    adopted: set[str] = field(default_factory=set)
    running: bool = False
    fresh: bool = True
    recovering: bool = False
    attempts: int = 0
    not_found: int = 0
    looks: int = 0
    unreadable: int = 0
    resends: int = 0
    cut: bool = False
    look_first: bool = False
    uncertain: set[str] = field(default_factory=set)
    due: float = 0.0
    pinned: bool = False
    ticket: int = 0
    restored: bool = False
    asked_until: float = 0.0

    def restore(self, noted: dict[str, Any]) -> None:
        """Take over what an earlier process noted of its attempts."""
        for key in ("attempts", "resends"):
            value = noted.get(key)
            if isinstance(value, int) and value > getattr(self, key):
                setattr(self, key, value)
        self.cut = self.cut or noted.get("cut") is True

    def notes(self) -> dict[str, object]:
        """Return what the next process has to know."""
        facts: dict[str, object] = {"attempts": self.attempts, "resends": self.resends}
        return facts | ({"cut": True} if self.cut else {})


class FilePart:
    """A share that is a file of the spool, claimed."""

    __slots__ = ("claim",)

    def __init__(self, claim: Claim) -> None:
        self.claim = claim

    @property
    def report_id(self) -> str:
        """The id of the connection that was recorded."""
        return self.claim.name.report_id

    @property
    def state(self) -> str:
        """Where the share stands."""
        return READY if self.claim.name.state == LIVE else self.claim.name.state

    @property
    def bodies(self) -> list[bytes]:
        """The lines, without check sums."""
        return self.claim.bodies

    @property
    def facts(self) -> journal.CallFacts:
        """What the lines say of the call."""
        return self.claim.facts

    @property
    def reason(self) -> str:
        """Why it is held; nothing where the file says anything but a word of ours, which goes into log lines."""
        outcome = self.claim.noted.get("outcome")
        return outcome if isinstance(outcome, str) and _WORD.fullmatch(outcome) else ""

    @property
    def released(self) -> bool:
        """Whether a person said to send it whatever has been sent before."""
        return self.claim.noted.get("released") is True

    def note(self, **facts: object) -> None:
        """Append what happened to the file."""
        self.claim.note(**({"released": True} if self.released else {}), **facts)

    def move(self, state: str) -> None:
        """Give the share its next state."""
        self.claim.move(state)

    def put_away(self, state: str) -> bool:
        """Leave the share to a person, as held or parked; return whether it is kept anywhere."""
        self.claim.move(state)
        return True

    def entomb(self, facts: dict[str, object]) -> None:
        """Mark the share as delivered."""
        self.claim.entomb(facts)

    def settle_down(self) -> None:
        """Bring the file to the disk: it is going to wait."""
        self.claim.sync()


class MemoryPart:
    """A share that no file holds."""

    __slots__ = ("_job", "_parcel", "_spool", "bodies", "facts", "reason", "released", "report_id")

    def __init__(self, parcel: Parcel, job: Job, spool: Spool | None) -> None:
        self.report_id = parcel.report_id
        self.bodies = list(parcel.bodies or ())
        self.facts = journal.facts(self.bodies)
        self.reason = ""
        self.released = False
        self._parcel = parcel
        self._job = job
        self._spool = spool

    @property
    def state(self) -> str:
        """Where the share stands."""
        return SENDING if self.report_id in self._job.uncertain else READY

    def note(self, **facts: object) -> None:
        """Do nothing: the job remembers."""

    def move(self, state: str) -> None:
        """Give the share its next state."""
        if state in {SENDING, HELD}:
            self._job.uncertain.add(self.report_id)
        else:
            self._job.uncertain.discard(self.report_id)

    def put_away(self, state: str) -> bool:
        """Leave the share to a person, as held or parked; return whether it is kept anywhere."""
        return self._spool is not None and self._spool.store(self._parcel, state)

    def entomb(self, facts: dict[str, object]) -> None:
        """Leave a tombstone in the spool, if there is one."""
        if self._spool is not None:
            self._spool.bury(Name.of(self._job.identity, self.report_id, SENT), facts)

    def settle_down(self) -> None:
        """Do nothing: there is no file."""


Part = FilePart | MemoryPart
