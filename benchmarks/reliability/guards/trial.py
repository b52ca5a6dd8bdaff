"""Take a guard away in a copy of the tree, and see which of its tests notice."""

from __future__ import annotations

import compileall
import contextlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from py_compile import PycInvalidationMode
from typing import TYPE_CHECKING
from xml.etree import ElementTree as ET

from benchmarks.reliability.stage import ROOT

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator

    from benchmarks.reliability.guards.guard import Guard

__all__ = ["Copy", "Trial"]

TEST_SECONDS = 20
SECONDS = 100
_LEFT_OUT = shutil.ignore_patterns(".*", "__pycache__", "*.pyc", "dist", "build")
_FAILED, _PASSED = 1, 0


@dataclass(frozen=True, slots=True)
class Trial:
    """What came of one guard's removal.

    Args:
        guard: that was taken away.
        failed: ids of the tests that noticed, each with its parameters.
        blind: ids among the guard's that did not.
        hung: whether the tests did not end in time, which is noticing too.
        broken: why they could not be run at all.
    """

    guard: Guard
    failed: tuple[str, ...] = ()
    blind: tuple[str, ...] = ()
    hung: bool = False
    broken: str = ""

    @property
    def noticed(self) -> bool:
        """Whether each test that was named has failed."""
        return not self.broken and (self.hung or not self.blind)


class Copy:
    """A copy of the tree to break things in.

    Args:
        tree: its directory.
        seconds: how long the tests of one guard may take.
    """

    def __init__(self, tree: Path, seconds: float = SECONDS) -> None:
        self.tree = tree
        self._seconds = seconds

    @classmethod
    @contextlib.contextmanager
    def of(cls, root: Path = ROOT, seconds: float = SECONDS) -> Iterator[Copy]:
        """Give a copy that is gone afterwards."""
        with tempfile.TemporaryDirectory(prefix="guards-", ignore_cleanup_errors=True) as directory:
            tree = Path(directory, "tree")
            shutil.copytree(root, tree, ignore=_LEFT_OUT)
            # By their hash: a file that is changed and changed back within a second must not be taken for the other.
            compileall.compile_dir(tree, quiet=2, invalidation_mode=PycInvalidationMode.CHECKED_HASH)
            yield cls(tree, seconds)

    def failing(self, guards: Iterable[Guard]) -> tuple[str, ...]:
        """Return which tests of these guards fail although all guards stand.

        Raises:
            RuntimeError: they cannot be run.
        """
        tests = {test: None for guard in guards for test in guard.tests}
        code, failed = self._run(tests, self._seconds * max(3, len(tests) // 10))
        if code not in {_PASSED, _FAILED}:
            raise RuntimeError("the tests do not end" if code is None else f"pytest ends with {code}")
        return failed

    def without(self, guard: Guard) -> Trial:
        """Return what its tests make of a guard that is gone; it is back afterwards."""
        path = self.tree / guard.file
        whole = path.read_text("utf-8")
        path.write_text(guard.removed(whole), "utf-8")
        try:
            code, failed = self._run(guard.tests, self._seconds)
        finally:
            path.write_text(whole, "utf-8")
        if code is None:
            return Trial(guard, failed, hung=True)
        if code not in {_PASSED, _FAILED}:
            return Trial(guard, broken=f"pytest ends with {code}")
        blind = [test for test in guard.tests if not any(_is(test, one) for one in failed)]
        return Trial(guard, failed, tuple(blind))

    def _run(self, tests: Collection[str], seconds: float) -> tuple[int | None, tuple[str, ...]]:
        """Run tests; return pytest's exit code (None if it did not end) and which of them failed."""
        report = self.tree / "guards.xml"
        report.unlink(missing_ok=True)
        options = f"-q --tb=no -p no:cacheprovider -o junit_family=xunit1 -o timeout={TEST_SECONDS}".split()
        command = [sys.executable, "-m", "pytest", *options, f"--junitxml={report}", *tests]
        environ = {**os.environ, "PYTHONPATH": str(self.tree), "PYTHONDONTWRITEBYTECODE": "1"}
        with subprocess.Popen(
            command, cwd=self.tree, env=environ, start_new_session=True,
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        ) as process:  # fmt: skip
            try:
                code: int | None = process.wait(seconds)
            except subprocess.TimeoutExpired:
                code = None
            finally:
                with contextlib.suppress(ProcessLookupError):  # and whatever the tests had started
                    os.killpg(process.pid, signal.SIGKILL)
        return code, tuple(_failures(report))


def _is(test: str, found: str) -> bool:
    return found == test or found.startswith(f"{test}[")


def _failures(report: Path) -> Iterator[str]:
    if report.exists():
        for case in ET.parse(report).iter("testcase"):
            if case.find("failure") is not None or case.find("error") is not None:
                yield f"{case.get('file')}::{case.get('name')}"
