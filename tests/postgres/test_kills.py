"""The fleet of the example, whole: pods and deliverers are killed at random moments, disks are deleted."""

from __future__ import annotations

import pytest
from fleet.database import NoPostgresError
from fleet.run import Account, run


def account(**options: int) -> Account:
    """Run the example, where PostgreSQL is installed."""
    pytest.importorskip("psycopg")
    try:
        return run(**options)
    except NoPostgresError as error:
        pytest.skip(str(error))


@pytest.mark.timeout(240)
def test_pods_that_are_killed_with_their_disks_leave_nothing_unaccounted() -> None:
    """Every call is delivered once, or its reason is counted."""
    found = account(calls=40, pods=2, deliverers=1, kills=3, at_once=10, seed=1)
    assert found.faults == []
    assert sum(found.outcomes.values()) == 40


@pytest.mark.nightly
@pytest.mark.timeout(3600)
def test_three_hundred_kills_lose_and_double_nothing() -> None:
    """The same for a night: eight pods, one of them killed every moment."""
    found = account(calls=12_000, pods=8, deliverers=3, kills=300, at_once=40, seed=2)
    assert found.faults == []
