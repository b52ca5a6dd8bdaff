"""One guard: what it promises, where it stands, what takes it away, and which tests must then fail."""

from __future__ import annotations

import ast
import re
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.reliability.stage import ROOT

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["Guard", "Part", "parts", "problems"]

PLACE = Path(__file__).parent


@dataclass(frozen=True, slots=True, kw_only=True)
class Guard:
    """One line, or a few, without which a promise does not hold.

    Args:
        name: a word or two, for the command line.
        promise: what is promised, for a reader.
        file: where it stands, from the root of the repository.
        old: its text, which stands there exactly once.
        new: what stands there when the guard is gone.
        tests: ids of tests (``tests/test_x.py::test_y``); of each at least one must fail then.
    """

    name: str
    promise: str
    file: str
    old: str
    new: str
    tests: tuple[str, ...]

    def removed(self, source: str) -> str:
        """Return the file's text without the guard.

        Raises:
            ValueError: the guard is not there, or more than once; or what is left is no Python.
        """
        found = source.count(self.old)
        if found != 1:
            raise ValueError(f"{self.name}: its text stands {found} times in {self.file}, not once: {self.old!r}")
        changed = source.replace(self.old, self.new)
        if changed == source:
            raise ValueError(f"{self.name}: its removal changes nothing")
        try:
            ast.parse(changed)
        except SyntaxError as error:
            raise ValueError(f"{self.name}: {self.file} is no Python without it ({error})") from None
        return changed


@dataclass(frozen=True, slots=True)
class Part:
    """One part of the promise.

    Args:
        name: for the command line.
        title: for a reader.
        guards: of what it consists.
    """

    name: str
    title: str
    guards: tuple[Guard, ...]


def parts() -> list[Part]:
    """Return every guard, part by part."""
    found = [_part(path) for path in PLACE.glob("*.toml")]
    return [part for _, part in sorted(found, key=lambda one: one[0])]


def _part(path: Path) -> tuple[int, Part]:
    data = tomllib.loads(path.read_text("utf-8"))
    guards = tuple(Guard(tests=tuple(fields.pop("tests")), **fields) for fields in data["guard"])
    return data["position"], Part(path.stem, data["title"], guards)


def problems(guard: Guard, root: Path = ROOT) -> Iterator[str]:
    """Yield what keeps a guard from being tried: text that is not there once, tests that do not exist.

    Args:
        guard: to be looked at; nothing is run.
        root: of the tree that is meant.
    """
    try:
        guard.removed((root / guard.file).read_text("utf-8"))
    except (OSError, ValueError) as error:
        yield str(error)
    if not guard.tests:
        yield f"{guard.name}: no test is named"
    for test in guard.tests:
        if not _exists(test, root):
            yield f"{guard.name}: there is no test {test}"


def _exists(test: str, root: Path) -> bool:
    path, _, name = test.partition("::")
    plain = re.escape(name.partition("[")[0])
    try:
        source = (root / path).read_text("utf-8")
    except OSError:
        return False
    return bool(name) and re.search(rf"^(?:async )?def {plain}\(", source, re.MULTILINE) is not None
