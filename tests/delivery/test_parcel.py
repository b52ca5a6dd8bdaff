"""One report on its way."""

from __future__ import annotations

import time

from bluejay_ws.delivery.parcel import Parcel


def test_a_report_in_memory_has_its_lines() -> None:
    """Fixed at the close, whatever becomes of the list they came in."""
    lines = [b"one", b"two"]
    parcel = Parcel.from_memory("a" * 32, "720488", lines)
    lines.clear()
    assert parcel.bodies == (b"one", b"two")
    assert parcel.sealed_at <= time.monotonic()


def test_what_a_caller_said_is_in_no_repr() -> None:
    """A report can stand in a traceback or a debugger's log."""
    assert "hush" not in repr(Parcel.from_memory("a" * 32, "720488", [b"hush"]))
