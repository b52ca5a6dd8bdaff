"""The end of the interpreter, and processes that fork, while reports are on their way or the platform is gone."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from benchmarks.reliability.program import FLUSH_TIMEOUT
from benchmarks.reliability.stage import Stage
from bluejay_ws.testing.platform import Answer, Hang

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from benchmarks.reliability.account import Account
    from bluejay_ws.testing.platform import FakePlatform

__all__ = ["FAULTS", "run_child", "run_ending"]

PROGRAM = "benchmarks.reliability.program"
EXIT_SECONDS = 60.0
SLOW = 0.05
FINE = "fine"

FAULTS: dict[str, Callable[[FakePlatform], None]] = {
    FINE: lambda platform: platform.otherwise(),
    "refusing": lambda platform: platform.refuse(),
    "hanging": lambda platform: platform.otherwise(Hang()),
    "answering 503": lambda platform: platform.otherwise(Answer(status=503)),
    "accepting, then hanging": lambda platform: platform.otherwise(Hang(accept=True)),
}
"""What the platform does while the process ends."""


def run_ending(ending: str, fault: str, calls: int, options: Mapping[str, Any] | None = None) -> Account:
    """Let a process with so many calls end; mend the platform; start anew; return the account.

    Args:
        ending: one of `program.ENDINGS`.
        fault: one of `FAULTS`.
        calls: how many calls.
        options: of the library; with a platform in trouble ``flush_timeout`` is `FLUSH_TIMEOUT` if they do not say.
    """
    budget = {} if fault == FINE else {"flush_timeout": FLUSH_TIMEOUT}
    with Stage({**budget, **(options or {})}) as stage:
        FAULTS[fault](stage.platform)
        process = stage.start(PROGRAM, ending, calls)
        assert process.stdout is not None
        process.stdout.readline()
        ended = time.monotonic()
        code = process.wait(EXIT_SECONDS)
        seconds = time.monotonic() - ended
        at_once = len(stage.platform.accepted)
        stage.platform.otherwise()
        stage.platform.listen()
        fresh = stage.next_start()
        account = stage.account()
        account.slowest = fresh
        account.at_once = at_once
        account.notes.append(f"exit {code} after {seconds:.1f} s, {at_once} of {calls} accepted until then")
        return account


def run_child(kind: str, calls: int, options: Mapping[str, Any] | None = None) -> Account:
    """Let a process with so many reports on their way, and as many calls going on, have a child that records too.

    Args:
        kind: one of `program.CHILDREN`.
        calls: how many calls.
        options: of the library.
    """
    with Stage(options) as stage:
        stage.platform.otherwise(Answer(delay=SLOW))
        process = stage.start(PROGRAM, kind, calls)
        code = process.wait(EXIT_SECONDS)
        by_itself = len(stage.platform.accepted)
        stage.platform.otherwise()
        fresh = stage.next_start()
        account = stage.account()
        account.slowest = fresh
        account.notes.append(f"exit {code}, {by_itself} of {account.calls - 1} accepted by parent and child")
        if code:
            account.notes.append(stage.output)
        return account
