"""The fleet of the example, whole: pods and deliverers are killed at random moments, disks are deleted."""

from __future__ import annotations

import pytest
from fleet.run import run


@pytest.mark.timeout(120)
def test_pods_that_are_killed_with_their_disks_leave_nothing_unaccounted(url: str) -> None:
    """Every call is delivered once, or its reason is counted."""
    found = run(calls=8, pods=2, deliverers=1, kills=1, at_once=4, seed=1, lease=1.0, pace=0.05, url=url)
    assert found.faults == []
    assert sum(found.outcomes.values()) >= 8
    assert found.pods_killed == 1


@pytest.mark.nightly
@pytest.mark.timeout(3600)
def test_three_hundred_kills_lose_and_double_nothing(url: str) -> None:
    """The same for a night: eight pods, one of them killed every moment."""
    found = run(calls=12_000, pods=8, deliverers=3, kills=300, at_once=40, seed=2, url=url)
    assert found.faults == []
