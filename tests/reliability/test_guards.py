"""The list of guards: each names a function, a stand-in and tests that exist, and one that is taken out is noticed."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.reliability import guards

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize("guard", guards.GUARDS, ids=[guard.promise for guard in guards.GUARDS])
def test_a_guard_names_what_exists(guard: guards.Guard) -> None:
    """A rename that leaves the list behind fails here, and not at night."""
    assert callable(getattr(guards._found(guard.target)[3], "__func__", guards._found(guard.target)[3]))
    assert guard.instead in guards.STAND_INS
    assert all((ROOT / path).exists() for path in guard.tests.split())


def test_each_promise_stands_once() -> None:
    """Two guards of one function would hide each other."""
    targets = [guard.target for guard in guards.GUARDS]
    assert len(set(targets)) == len(targets)


def test_a_guard_that_is_missing_is_noticed() -> None:
    """The tests of a guard fail in a process from which it was taken out."""
    number = next(at for at, guard in enumerate(guards.GUARDS) if guard.target.endswith("usable_id"))
    assert guards.noticed(number)
