"""A platform that hangs, and is mended."""

from __future__ import annotations

from benchmarks.reliability.hanging import FRESH, run

QUICKER = {"timeout": 0.5, "read_back": (0.05, 0.1, 0.2), "first": 0.05}


def test_a_platform_that_hung_gets_every_report_once() -> None:
    """Those it took and did not answer are looked for before they are sent again."""
    account = run(30, 1.0, QUICKER)
    assert account.sound, account
    assert account.delivered == account.calls == 31 + FRESH, account
