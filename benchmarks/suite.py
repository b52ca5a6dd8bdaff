"""How long the tests take: a suite that is waited for is not run."""

from __future__ import annotations

import subprocess
import sys
from time import perf_counter

from benchmarks.measure import Effort, Result

__all__ = ["run"]


def run(effort: Effort) -> list[Result]:
    """Measure the whole test-suite once, on two cores."""
    if effort == Effort.quick():
        return []
    begun = perf_counter()
    done = subprocess.run([sys.executable, "-m", "pytest", "-q", "-n", "6"], check=False, stdin=subprocess.DEVNULL)
    outcome = "all tests passed" if done.returncode == 0 else "**some tests failed**"
    return [Result("the test-suite on two cores", perf_counter() - begun, "s", "", outcome, 60)]
