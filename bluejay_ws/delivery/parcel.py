"""One report on its way: what is handed from a call to delivery."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["Parcel"]


@dataclass(frozen=True, slots=True)
class Parcel:
    """A report to deliver, in a file of the spool or in memory.

    Args:
        report_id: of the connection that was recorded.
        simulation_result_id: the platform's id of the call.
        bodies: the report's lines without check sums; None where a file of the spool holds them.
        sealed_at: monotonic seconds of the close.
    """

    report_id: str
    simulation_result_id: str
    bodies: tuple[bytes, ...] | None = field(default=None, repr=False)
    sealed_at: float = field(default_factory=time.monotonic, compare=False)

    @classmethod
    def from_memory(cls, report_id: str, simulation_result_id: str, bodies: Sequence[bytes]) -> Self:
        """Return a report for which there is no file: no spool, or one that could not be written.

        Args:
            report_id: of the connection that was recorded.
            simulation_result_id: the platform's id of the call.
            bodies: every line, the header first, without check sums.
        """
        return cls(report_id, simulation_result_id, tuple(bodies))
