"""The oracle of the fault runs: it finds what was lost, altered and doubled."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from benchmarks.reliability.account import Account, take_account
from benchmarks.reliability.records import record_bytes, values
from bluejay_ws.testing.platform import AcceptedReport
from bluejay_ws.wire import items

if TYPE_CHECKING:
    from pathlib import Path


def report(identity: str, *numbers: int) -> AcceptedReport:
    """Return an accepted report with these records."""
    items = b",".join(record_bytes(identity, number) for number in numbers)
    return AcceptedReport(
        identity, b'{"simulation_result_id":"%s","tool_calls":[%s]}' % (identity.encode(), items), 0.0
    )


def test_the_oracle_writes_records_as_the_wire_does() -> None:
    """The bytes that a record must have are worked out twice, by code that shares nothing."""
    for number in range(200):
        parameters, output = values("x", number)
        assert items.tool_call(number, "step", parameters, output, None, []) == record_bytes("x", number)


def test_what_arrived_as_it_was_recorded_is_sound() -> None:
    """All records, or all and the one whose process died before it could note it."""
    account = take_account({"a": 2, "b": 2}, [report("a", 0, 1), report("b", 0, 1, 2)], None)
    assert account.sound
    assert (account.calls, account.records, account.delivered) == (2, 4, 2)


def test_a_call_that_is_nowhere_is_lost(tmp_path: Path) -> None:
    """Neither accepted nor in the spool: conservation is broken, and a tombstone does not mend it."""
    (tmp_path / f"a.{'0' * 32}.sent").touch()
    assert take_account({"a": 1}, [], tmp_path).lost_calls == ["a"]


@pytest.mark.parametrize(
    ("state", "kept"),
    [("live", "waiting"), ("ready", "waiting"), ("sending", "waiting"), ("held", "held"), ("parked", "parked")],
)
def test_a_call_that_the_spool_keeps_is_not_lost(tmp_path: Path, state: str, kept: str) -> None:
    """What waits, is held or parked is accounted for by its state."""
    (tmp_path / f"a.{'0' * 32}.{state}").touch()
    account = take_account({"a": 1}, [], tmp_path)
    assert account.sound
    assert account.kept == {kept: 1}


def test_a_missing_record_is_lost() -> None:
    """Its call had returned, and it is not in the report."""
    assert take_account({"a": 3}, [report("a", 0, 1)], None).lost_records == 1


@pytest.mark.parametrize("numbers", [(0, 0), (1, 0), (0, 1, 2, 3)])
def test_what_was_not_recorded_so_is_altered(numbers: tuple[int, ...]) -> None:
    """A record twice, in another order, or more of them than there were."""
    assert take_account({"a": 2}, [report("a", *numbers)], None).altered == ["a"]


def test_another_byte_is_altered() -> None:
    """One changed byte inside a value is found, though the report is sound JSON."""
    sound = report("a", 0)
    changed = AcceptedReport("a", sound.body.replace(b'"number":0', b'"number":1'), 0.0)
    assert take_account({"a": 1}, [changed], None).altered == ["a"]


def test_two_accepted_reports_are_doubled() -> None:
    """One call, one accepted report."""
    account = take_account({"a": 1}, [report("a", 0), report("a", 0)], None)
    assert account.doubled == ["a"]
    assert not account.sound


def test_accounts_add_up() -> None:
    """The account of many runs has the sums, and the slowest of all."""
    one, other = Account(calls=1, records=2, slowest=0.5), Account(calls=3, lost_calls=["a"])
    both = one + other
    assert (both.runs, both.calls, both.records, both.slowest, both.lost_calls) == (2, 4, 2, 0.5, ["a"])
