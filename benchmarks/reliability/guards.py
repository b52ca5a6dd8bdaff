"""``python -m benchmarks.reliability.guards [WORD ...]``: take out one guard at a time; its tests must fail.

A guard is a function that keeps a promise. `benchmarks.reliability.promises` lists them: what was promised, which
function keeps it, what stands in its place when it is taken out, and the tests that must notice. Nothing quotes source
lines, and the suite checks what is named, so that the list does not rot. Smaller changes in the pure rooms are the
mutation tool's work, at night.
"""

from __future__ import annotations

import importlib
import os
import sys
from functools import partial
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Any

import pytest

from benchmarks.reliability.promises import GUARDS, STAND_INS, Guard

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

ROOT = Path(__file__).resolve().parents[2]
PYTEST = ("-x", "-q", "--timeout", "30", "-p", "no:cacheprovider", "-W", "ignore::pytest.PytestAssertRewriteWarning")
"""A test that hangs without its guard has noticed; it is not waited for any longer."""


def take_out(guard: Guard) -> Callable[[], None]:
    """Put the stand-in in the guard's place, wherever the package has imported it; return what puts it back."""
    owner, name, kept = found(guard.target)
    stand_in = STAND_INS[guard.instead]
    original = kept.__func__ if isinstance(kept, staticmethod) else kept
    places = [(owner, name, kept)]
    for module in [one for key, one in sys.modules.items() if key.startswith("bluejay_ws")]:
        places += [(module, known, value) for known, value in vars(module).items() if value is original]
    for place, known, value in places:
        setattr(place, known, staticmethod(stand_in) if isinstance(value, staticmethod) else stand_in)
    return partial(_put_back, places)


def _put_back(places: Sequence[tuple[Any, str, Any]]) -> None:
    for place, known, value in places:
        setattr(place, known, value)


def found(target: str) -> tuple[Any, str, Any]:
    """Return what holds the function, its name there, and the function; raises where one is missing."""
    path, _, names = target.partition(":")
    *holders, name = names.split(".")
    owner: Any = importlib.import_module(path)
    for holder in holders:
        owner = getattr(owner, holder)
    return owner, name, vars(owner)[name]


def preload() -> None:
    """Import once what every process below needs."""
    for name in (
        "websockets.asyncio.server",
        "websockets.sync.server",
        "bluejay_ws.testing.platform",
    ):
        importlib.import_module(name)
    for guard in GUARDS:
        found(guard.target)


def _in_a_child(tests: Sequence[str], guard: Guard | None = None) -> int:
    """Return the exit code of pytest in a process of its own; without the guard, if there is one."""
    child = os.fork()
    if not child:
        try:
            for number in (1, 2):
                os.dup2(os.open(os.devnull, os.O_WRONLY), number)
            if guard is not None:
                take_out(guard)  # before any test module is imported
            os._exit(int(pytest.main([*PYTEST, *tests])))
        finally:
            os._exit(99)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def noticed(guard: Guard) -> bool:
    """Return whether the tests of a guard fail without it."""
    return _in_a_child(guard.tests.split(), guard) == pytest.ExitCode.TESTS_FAILED


def main(words: list[str]) -> int:
    """Take out each guard whose promise or target holds one of the words; return 1 where one is not missed."""
    os.chdir(ROOT)
    preload()
    chosen = [one for one in GUARDS if any(word in f"{one.promise} {one.target}" for word in words or [""])]
    if not chosen:
        print(f"no guard's promise or function holds any of: {' '.join(words)}; without words all are taken out")
        return 2
    if _in_a_child(sorted({test for guard in chosen for test in guard.tests.split()})):
        print("the tests fail with every guard in its place", flush=True)
        return 2
    missed = 0
    for guard in chosen:
        begun = perf_counter()
        seen = noticed(guard)
        missed += not seen
        result = f"{'noticed    ' if seen else 'NOT NOTICED'} {perf_counter() - begun:4.1f} s"
        print(f"{result}  {guard.promise} ({guard.target})", flush=True)
    print(f"{len(chosen) - missed} of {len(chosen)} guards are missed when they are taken out")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
