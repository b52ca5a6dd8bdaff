"""``python -m benchmarks.reliability.guards [WORD ...]``: take out one guard at a time; its tests must fail.

A guard is a function that keeps a promise. Each entry names one, what stands in its place when it is taken out, and the
tests that must notice. Nothing quotes source lines: what is named here is checked by the suite, so that the list does
not rot. Smaller changes in the pure rooms are the mutation tool's work, at night.
"""

from __future__ import annotations

import importlib
import os
import subprocess
import sys
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable

    import pytest

VARIABLE = "BLUEJAY_WS_WITHOUT_GUARD"


class Guard(NamedTuple):
    """One promise, what keeps it, and who must notice its absence.

    Attributes:
        promise: what users were promised.
        target: ``module:name`` or ``module:Class.name``.
        instead: what the function does when the guard is out, one of `STAND_INS`.
        tests: paths for pytest.
    """

    promise: str
    target: str
    instead: str
    tests: str


STAND_INS: dict[str, Callable[..., Any]] = {
    "returns None": lambda *_, **__: None,
    "returns True": lambda *_, **__: True,
    "returns False": lambda *_, **__: False,
    "returns nothing found": lambda *_, **__: [],
    "returns its argument": lambda value, *_, **__: value,
    "returns its last argument": lambda *values, **__: values[-1],
    "returns zero": lambda *_, **__: 0,
}

GUARDS: tuple[Guard, ...] = (
    Guard(
        "A line whose checksum is right and whose shape is not spoils no report",
        "bluejay_ws.wire.journal:is_ours",
        "returns True",
        "tests/wire/test_journal.py tests/wire/test_shapes.py",
    ),
    Guard(
        "Two values of the id header that differ are no id",
        "bluejay_ws.wire.ids:usable_id",
        "returns its argument",
        "tests/wire/test_wire.py",
    ),
    Guard(
        "A signal handler that ends the process is obeyed, a value that does so is not",
        "bluejay_ws.wire.encode:_from_signal_handler",
        "returns False",
        "tests/wire/test_careful.py",
    ),
    Guard(
        "A text that a database refuses never reaches the platform",
        "bluejay_ws.wire.encode:clean",
        "returns its argument",
        "tests/wire/test_careful.py",
    ),
)


def take_out(guard: Guard) -> None:
    """Put the stand-in in the guard's place, wherever the package has imported it already or will."""
    module, owner, name, kept = _found(guard.target)
    del module
    stand_in = STAND_INS[guard.instead]
    setattr(owner, name, staticmethod(stand_in) if isinstance(kept, staticmethod) else stand_in)
    original = kept.__func__ if isinstance(kept, staticmethod) else kept
    for other in [one for key, one in sys.modules.items() if key.startswith("bluejay_ws")]:
        for known, value in list(vars(other).items()):
            if value is original:
                setattr(other, known, stand_in)


def _found(target: str) -> tuple[Any, Any, str, Any]:
    """Return the module, what holds the function, its name there, and the function; raises where one is missing."""
    path, _, names = target.partition(":")
    module = importlib.import_module(path)
    *holders, name = names.split(".")
    owner: Any = module
    for holder in holders:
        owner = getattr(owner, holder)
    return module, owner, name, vars(owner)[name]


def pytest_configure(config: pytest.Config) -> None:
    """Take the guard out before any test module is imported; this module is pytest's plugin in that process."""
    del config
    number = os.environ.get(VARIABLE)
    if number is not None:
        take_out(GUARDS[int(number)])


def noticed(number: int) -> bool:
    """Return whether the tests of a guard fail without it."""
    command = [sys.executable, "-m", "pytest", "-x", "-q", "-p", "benchmarks.reliability.guards", "--no-header"]
    done = subprocess.run(
        [*command, *GUARDS[number].tests.split()],
        env=os.environ | {VARIABLE: str(number)},
        capture_output=True,
        check=False,
    )
    return done.returncode == 1


def main(words: list[str]) -> int:
    """Take out each guard whose promise or target holds all the words; return 1 where one is not missed."""
    missed = 0
    for number, guard in enumerate(GUARDS):
        if all(word in f"{guard.promise} {guard.target}" for word in words):
            seen = noticed(number)
            missed += not seen
            print(f"{'noticed    ' if seen else 'NOT NOTICED'}  {guard.promise} ({guard.target})", flush=True)
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
