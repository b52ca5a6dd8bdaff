"""The end of the interpreter with the platform in trouble, and processes that fork with reports on their way."""

from __future__ import annotations

import pytest

from benchmarks.reliability.processes import FAULTS, FINE, run_child, run_ending
from benchmarks.reliability.program import CHILDREN, ENDINGS
from benchmarks.reliability.stage import QUICK

NIGHTLY_FAULTS = {FINE, "answering 503", "hanging"}
NIGHTLY_ENDINGS = {"sys-exit", "raises", "thread-records-on", "falls-off"}  # the last has its turn with each fault
NIGHTLY_CHILDREN = {
    "multiprocessing fork",
    "multiprocessing forkserver",
    "multiprocessing spawn",
    "multiprocessing pool",
}


@pytest.mark.parametrize("fault", [fault for fault in FAULTS if fault not in NIGHTLY_FAULTS])
def test_a_process_ends_though_the_platform_does_not_answer(fault: str) -> None:
    """The interpreter comes to its end by itself, and what it could not deliver the next start delivers, once."""
    account = run_ending("falls-off", fault, 10, QUICK | {"flush_timeout": 0.3})
    assert account.sound, account
    assert account.delivered == account.calls == 11, account


@pytest.mark.parametrize("ending", [ending for ending in ENDINGS if ending not in NIGHTLY_ENDINGS])
def test_whatever_way_a_process_ends_no_call_is_lost(ending: str) -> None:
    """Calls that had ended, and those still open, arrive with every record, before the end if anybody is asked."""
    account = run_ending(ending, FINE, 10, QUICK)
    assert account.at_once == (0 if ending == "hard-exit" else 10), account
    assert account.sound, account
    assert account.delivered == account.calls == 11, account


@pytest.mark.parametrize("kind", [kind for kind in CHILDREN if kind not in NIGHTLY_CHILDREN])
def test_a_child_neither_doubles_nor_loses_a_call(kind: str) -> None:
    """Reports on their way and calls going on stay the parent's; what the child records is its own."""
    account = run_child(kind, 5, QUICK)
    assert account.notes[0].startswith("exit 0"), account
    assert account.sound, account
    assert account.delivered == account.calls, account
