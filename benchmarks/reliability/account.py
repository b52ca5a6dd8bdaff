"""The account of a run: where every call that was opened has gone, and whether it arrived as it was recorded."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from benchmarks.reliability.records import TOOL, record_bytes

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

    from bluejay_ws.testing.platform import AcceptedReport

__all__ = ["Account", "take_account"]

_WAITING = frozenset({"live", "ready", "sending"})
_IN_BETWEEN = 1  # a record that was kept, and whose process died before it could note so


@dataclass(kw_only=True)
class Account:
    """What came of the calls of one or more runs.

    Attributes:
        runs: how many.
        calls: how many calls were opened with an id.
        records: how many calls to record something returned.
        delivered: calls with at least one accepted report.
        kept: by state (``held``, ``parked``, ``waiting``), calls that the spool still has.
        lost_calls: ids of calls that are neither delivered nor kept. Conservation.
        lost_records: records that are missing in the accepted report of their call.
        altered: ids of calls whose accepted report is not, byte for byte, what was recorded. Integrity.
        doubled: ids of calls that the platform accepted twice.
        slowest: seconds from the end of the fault to the acceptance of a fresh call, at the most. Liveness.
        at_once: calls that were delivered before the process that recorded them had ended.
        notes: what else is worth telling.
    """

    runs: int = 1
    calls: int = 0
    records: int = 0
    delivered: int = 0
    kept: Counter[str] = field(default_factory=Counter)
    lost_calls: list[str] = field(default_factory=list)
    lost_records: int = 0
    altered: list[str] = field(default_factory=list)
    doubled: list[str] = field(default_factory=list)
    slowest: float | None = None
    at_once: int = 0
    notes: list[str] = field(default_factory=list)

    @property
    def sound(self) -> bool:
        """Whether nothing was lost, altered or doubled."""
        return not (self.lost_calls or self.lost_records or self.altered or self.doubled)

    def __add__(self, other: Account) -> Account:
        times = [one.slowest for one in (self, other) if one.slowest is not None]
        return Account(
            runs=self.runs + other.runs,
            calls=self.calls + other.calls,
            records=self.records + other.records,
            delivered=self.delivered + other.delivered,
            kept=self.kept + other.kept,
            lost_calls=self.lost_calls + other.lost_calls,
            lost_records=self.lost_records + other.lost_records,
            altered=self.altered + other.altered,
            doubled=self.doubled + other.doubled,
            slowest=max(times, default=None),
            at_once=self.at_once + other.at_once,
            notes=self.notes + other.notes,
        )


def take_account(
    recorded: Mapping[str, int], accepted: Iterable[AcceptedReport], spool: Path | None, *, runs: int = 1
) -> Account:
    """Return what came of these calls.

    Args:
        recorded: how many records were made, by the id of each call that was opened.
        accepted: what the platform took in.
        spool: its directory, if there is one.
        runs: how many runs this was.
    """
    reports: dict[str, list[AcceptedReport]] = {}
    for one in accepted:
        reports.setdefault(one.simulation_result_id, []).append(one)
    # A process can die between the first line of a call and the note that it is open.
    recorded = dict.fromkeys(reports, 0) | dict(recorded)
    account = Account(runs=runs, calls=len(recorded), records=sum(recorded.values()))
    account.doubled = [identity for identity, found in reports.items() if len(found) > 1]
    kept = _kept(spool)
    for identity, records in recorded.items():
        if identity in reports:
            account.delivered += 1
            _compare(account, identity, records, reports[identity][0])
        elif identity in kept:
            account.kept[kept[identity]] += 1
        else:
            account.lost_calls.append(identity)
    return account


def _compare(account: Account, identity: str, records: int, report: AcceptedReport) -> None:
    arrived = len(report.tool_calls)
    expected = b'"tool_calls":[' + b",".join(record_bytes(identity, number) for number in range(arrived)) + b"]"
    names = {call["name"] for call in report.tool_calls}
    if expected not in report.body or arrived > records + _IN_BETWEEN or names - {TOOL}:
        account.altered.append(identity)
    account.lost_records += max(0, records - arrived)


def _kept(spool: Path | None) -> dict[str, str]:
    """Return what the spool still has, by id: ``held``, ``parked`` or ``waiting``."""
    kept: dict[str, str] = {}
    for path in spool.rglob("*") if spool is not None and spool.exists() else ():
        identity, state = path.name.partition(".")[0], path.suffix.removeprefix(".")
        if state in _WAITING:
            kept[identity] = "waiting"
        elif state in {"held", "parked"}:
            kept.setdefault(identity, state)
    return kept
