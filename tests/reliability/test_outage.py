"""An hour without the platform, on a clock that is moved by hand."""

from __future__ import annotations

import pytest

from benchmarks.reliability.outage import BUSY, FRESH, HOUR, KINDS, REFUSED, run
from bluejay_ws.delivery.breaker import BURST, FASTEST, FRESH_PROBE, PROBE_CEILING, RAMP_START

CALLS = 60


def test_an_hour_without_the_platform_loses_nothing_and_floods_nobody() -> None:
    """While it is away it is asked now and then; when it is back the reports come as a ramp; memory stays as it was."""
    account, seen = run(HOUR, CALLS, seed=1, traced=True)
    assert account.sound, account
    assert account.delivered == CALLS + FRESH
    assert len(seen.attempts) <= CALLS + HOUR / (PROBE_CEILING / 2)
    assert min(b - a for a, b in zip(seen.attempts[10:], seen.attempts[11:], strict=False)) >= FRESH_PROBE / 2
    assert seen.most_in_a_second <= FASTEST + BURST
    assert account.slowest is not None
    assert account.slowest <= 5.0  # on the clock that is moved by hand
    before, after = seen.waiting_bytes
    assert after <= before * 1.1 + 100_000


def test_a_crowd_that_ended_meanwhile_is_no_wave_and_holds_nobody_up() -> None:
    """Most of these calls never had a try; they come back as a ramp, and calls that end now go ahead of them."""
    account, seen = run(60.0, 200, seed=3)
    assert account.sound, account
    assert account.delivered == 200 + FRESH
    assert max(seen.in_first_seconds[:2]) <= RAMP_START * 2 + FRESH
    assert account.slowest is not None
    assert account.slowest <= 5.0  # on the clock that is moved by hand


@pytest.mark.parametrize("troubles", [(REFUSED, None), (BUSY, None, None)])
def test_a_flapping_platform_gets_each_report_once(troubles: tuple[object, ...]) -> None:
    """However often it comes back only to fail again: none is doubled, none is left to a person."""
    account, _ = run(HOUR / 12, CALLS, seed=2, troubles=troubles)  # type: ignore[arg-type]
    assert account.sound, account
    assert account.delivered == CALLS + FRESH


@pytest.mark.parametrize("kind", KINDS)
def test_half_a_minute_of_any_outage_leaves_nothing_to_a_person(kind: str) -> None:
    """Whatever POSTs and looks meet meanwhile: afterwards each report is delivered, once."""
    posts, reads = KINDS[kind]
    account, _ = run(30.0, 8, seed=4, troubles=posts, reads=reads)
    assert account.sound, account
    assert account.delivered == 8 + FRESH, account
