"""`bluejay-ws deliver`: what it does with the process's signal handlers."""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING

from bluejay_ws.cli.deliver import _stopping

if TYPE_CHECKING:
    import pytest


def test_a_handler_that_was_not_pythons_becomes_the_default(monkeypatch: pytest.MonkeyPatch) -> None:
    """Python cannot give such a handler back: it shows it as None, and refuses None."""
    given: list[object] = []

    def set_handler(_: int, handler: object) -> None:
        if handler is None:
            raise TypeError("signal handler must be signal.SIG_IGN, signal.SIG_DFL, or a callable object")
        given.append(handler)

    monkeypatch.setattr(signal, "signal", set_handler)
    with _stopping():
        assert len(given) == 2
    assert given[2:] == [signal.SIG_DFL] * 2
