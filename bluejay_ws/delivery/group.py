"""Every file of one call that a spool holds."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from bluejay_ws.delivery.names import LIVE

if TYPE_CHECKING:
    from bluejay_ws.delivery.claim import Claim
    from bluejay_ws.delivery.names import Name

__all__ = ["Group"]


@dataclass(slots=True)
class Group:
    """Every file of one call, with the locks of those that may go out.

    Args:
        parts: claimed files in the states `READY`, `SENDING`, `HELD`, or `LIVE` of a process that died; oldest first.
        delivered: names of the tombstones.
        parked: names of what was given up.
        going_on: whether a call with this id is still connected.
        busy: whether another process works on one of the files.
    """

    parts: list[Claim] = field(default_factory=list)
    delivered: list[Name] = field(default_factory=list)
    parked: list[Name] = field(default_factory=list)
    going_on: bool = False
    busy: bool = False

    def release(self) -> None:
        """Let go of every lock."""
        for part in self.parts:
            part.release()

    def put_in_order(self) -> None:
        """Sort the parts by the begin of their connections, and let go of what is the same report a second time.

        Where the disk refused a call's file its new name, the report was stored under that name as well: the sealed
        one counts, else the longer.
        """
        best: dict[str, Claim] = {}
        for part in sorted(self.parts, key=lambda part: (part.name.state != LIVE, len(part.bodies))):
            if part.name.report_id in best:
                best[part.name.report_id].release()
            best[part.name.report_id] = part
        self.parts = sorted(best.values(), key=lambda part: (part.facts.started_at, part.name.report_id))
