"""A whole agent is killed with live calls and reports on their way, again and again, on one spool."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest

from benchmarks.reliability.crash import run
from benchmarks.reliability.sockets import killed
from bluejay_ws.delivery import breaker

KILLS = 8  # a thousand in `python -m benchmarks.reliability kills`
SEEDS = (1, 2)
QUICKER = {"redial_wait": 0.05, "read_back": (0.05, 0.1, 0.2), "first": 0.05, "resend_first": 0.3}


@pytest.fixture(autouse=True)
def _no_quota(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let what the last start finds leave as fast as it can."""
    monkeypatch.setattr(breaker, "FASTEST", 1_000.0)


def test_kill_9_of_an_agent_loses_and_doubles_nothing() -> None:
    """Every record whose call had returned is in an accepted report, byte for byte, and in one only."""
    with ThreadPoolExecutor(len(SEEDS)) as side_by_side:  # most of the time is spent waiting for the moment of a kill
        accounts = list(side_by_side.map(lambda seed: run(KILLS, seed, QUICKER), SEEDS))
    for account in accounts:
        assert account.sound, account
        assert account.delivered == account.calls, account


def test_kill_9_while_a_crowd_hangs_up_loses_and_doubles_nothing() -> None:
    """Whatever part of their reports was finished when the agent died: all that was recorded arrives, once."""
    account = killed(30, 2, 1, QUICKER)
    assert account.sound, account
    assert account.delivered == account.calls >= 61, account
