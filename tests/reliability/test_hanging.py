"""A platform that hangs, and is mended."""

from __future__ import annotations

from typing import TYPE_CHECKING

from benchmarks.reliability.hanging import FRESH, run
from bluejay_ws.delivery import breaker

if TYPE_CHECKING:
    import pytest

QUICKER = {"timeout": 0.5, "read_back": (0.05, 0.1, 0.2), "first": 0.05, "resend_first": 0.3}


def test_a_platform_that_hung_gets_every_report_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Those it took and did not answer are looked for before they are sent again."""
    monkeypatch.setattr(breaker, "RAMP_START", breaker.FASTEST)
    account = run(12, 1.0, QUICKER, between=0.1)
    assert account.sound, account
    assert account.delivered == account.calls == 13 + FRESH, account
