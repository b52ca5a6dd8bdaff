"""Run a command whose processes stand still now and then: ``python tools/stall.py [SECONDS] COMMAND ...``.

No test may depend on something being fast. So that it shows, every process below the command (not itself) is stopped
(SIGSTOP) for up to so many seconds (default: 2) again and again, at random, each by itself or together with others:

    python tools/stall.py 2 python -m pytest -n 4 -q
"""

from __future__ import annotations

import contextlib
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

RUNS = 0.8  # seconds that they run between two stops, at the most
STOPPED = 0.6  # of all processes, at one time
_chance = random.Random()  # noqa: S311 - no secrets


def below(pid: int) -> list[int]:
    """Return the processes that a process has started, and those that these have."""
    found: list[int] = []
    for path in Path(f"/proc/{pid}/task").glob("*/children"):
        try:
            children = [int(word) for word in path.read_text().split()]
        except OSError:  # that thread has ended
            continue
        for child in children:
            found += [child, *below(child)]
    return found


def born(pid: int) -> str:
    """Return when a process began, so that no other process is taken for it; "" for none."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]
    except OSError:
        return ""


def stall(pid: int, seconds: float) -> None:
    """Stop some of the processes below this one for a while."""
    stopped = {one: born(one) for one in below(pid) if _chance.random() < STOPPED}
    for one in stopped:
        _tell(one, signal.SIGSTOP)
    try:
        time.sleep(_chance.uniform(0.2, 1.0) * seconds)
    finally:
        for one, began in stopped.items():
            if began and born(one) == began:
                _tell(one, signal.SIGCONT)


def _tell(pid: int, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError):  # it has ended
        os.kill(pid, number)


def main(seconds: float, command: list[str]) -> int:
    """Run the command; return its exit code."""
    with subprocess.Popen(command) as process:  # noqa: S603 - what the person asked for
        while process.poll() is None:
            time.sleep(_chance.uniform(0.0, RUNS))
            stall(process.pid, seconds)
        return process.returncode


if __name__ == "__main__":
    given = sys.argv[1:]
    sys.exit(main(float(given[0]), given[1:]) if given[0][:1].isdigit() else main(2.0, given))
