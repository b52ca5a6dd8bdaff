"""The list of guards: each names a function, a stand-in and tests that exist, and can be taken out and put back."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.reliability.guards import found, main, take_out
from benchmarks.reliability.promises import GUARDS, STAND_INS
from bluejay_ws import client
from bluejay_ws.wire import ids

if TYPE_CHECKING:
    import pytest

ROOT = Path(__file__).resolve().parents[2]


def is_a_test(name: str) -> bool:
    """Return whether pytest finds something under this name."""
    path, _, function = name.partition("::")
    return (ROOT / path).exists() and (not function or f"def {function}(" in (ROOT / path).read_text("utf-8"))


def test_each_guard_names_what_exists() -> None:
    """A rename that leaves the list behind fails here, and not at night."""
    for guard in GUARDS:
        kept = found(guard.target)[2]
        assert callable(getattr(kept, "__func__", kept)), guard.target
        assert guard.instead in STAND_INS, guard
        assert all(map(is_a_test, guard.tests.split())), guard.tests


def test_each_promise_stands_once_and_about_forty_do() -> None:
    """Two guards of one function would hide each other; a short list would leave promises out."""
    targets = [guard.target for guard in GUARDS]
    assert len(set(targets)) == len(targets)
    assert len(targets) >= 40


def test_words_that_no_guard_holds_run_no_test(capsys: pytest.CaptureFixture[str]) -> None:
    """Pytest without a test's name would run the whole suite."""
    assert main(["no such promise", "nor this"]) == 2
    assert "no guard's promise or function holds any of: no such promise nor this" in capsys.readouterr().out


def test_a_guard_is_out_wherever_it_is_used_until_it_is_put_back() -> None:
    """The stand-in is what the package calls, in the module that defines the guard and in those that import it."""
    guard = next(one for one in GUARDS if one.target.endswith("usable_id"))
    put_back = take_out(guard)
    try:
        assert vars(client)["usable_id"](("1", "2")) == ("1", "2")
    finally:
        put_back()
    assert vars(client)["usable_id"] is ids.usable_id
    assert ids.usable_id(("1", "2")) is None
