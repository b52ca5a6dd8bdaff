"""The runs of `benchmarks.reliability`, on processes that need not import everything anew."""

from __future__ import annotations

import functools

import pytest

from benchmarks.reliability.stage import Stage
from tests import nursery


@pytest.fixture(autouse=True)
def _started_from_the_nursery(monkeypatch: pytest.MonkeyPatch) -> None:
    popen = functools.partial(nursery.start, imported=["benchmarks.reliability.stage"])
    monkeypatch.setattr(Stage, "popen", staticmethod(popen))  # as a method it would be bound, from Python 3.14 on
