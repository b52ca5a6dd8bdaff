"""Every guard of the promise is where the list says, and the trial of guards can be believed."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import pytest

from benchmarks.reliability.guards.__main__ import PAGE, main
from benchmarks.reliability.guards.guard import Guard, Part, parts, problems
from benchmarks.reliability.guards.page import BEGIN, END, line, tables, with_tables
from benchmarks.reliability.guards.trial import Copy, Trial

if TYPE_CHECKING:
    from pathlib import Path

PARTS = parts()
GUARDS = [guard for part in PARTS for guard in part.guards]

MODULE = """
def least(value: int) -> int:
    while value < 0:
        value += 1
    return value
"""
TESTS = """
import time
from module import least

def test_a_negative_number_is_raised():
    assert least(-1) == 0

def test_a_positive_number_stays():
    assert least(1) == 1
"""
LOOP = Guard(
    name="loop",
    promise="no number is negative",
    file="module.py",
    old="    while value < 0:\n        value += 1\n",
    new="",
    tests=("test_module.py::test_a_negative_number_is_raised",),
)


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """Give a tree with one module and its tests."""
    root = tmp_path / "root"
    root.mkdir()
    (root / "module.py").write_text(MODULE)
    (root / "test_module.py").write_text(TESTS)
    return root


@pytest.mark.parametrize("part", PARTS, ids=lambda part: part.name)
def test_every_guard_stands_where_the_list_says(part: Part) -> None:
    """Its text is there once, its removal leaves Python, and its tests exist. Whoever moved it corrects the list."""
    assert [problem for guard in part.guards for problem in problems(guard)] == []


def test_each_guard_has_a_name_and_a_promise_of_its_own() -> None:
    """Names are for the command line, promises for readers; each part has a place of its own."""
    names = [*(guard.name for guard in GUARDS), *(part.name for part in PARTS)]
    assert len(set(names)) == len(names)
    assert len({guard.promise for guard in GUARDS}) == len(GUARDS)
    assert all(part.title and part.guards for part in PARTS)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"old": "while value > 0"}, "stands 0 times"),
        ({"old": "value"}, "stands 4 times"),
        ({"new": "    while\n"}, "no Python"),
        ({"new": LOOP.old}, "changes nothing"),
        ({"file": "gone.py"}, "No such file"),
        ({"tests": ()}, "no test is named"),
        ({"tests": ("test_module.py::test_gone",)}, "there is no test"),
        ({"tests": ("test_module.py",)}, "there is no test"),
        ({"tests": ("test_gone.py::test_gone",)}, "there is no test"),
    ],
)
def test_a_list_that_has_rotted_is_told(tree: Path, change: dict[str, str], words: str) -> None:
    """A guard that cannot be tried must not look like one that was."""
    assert list(problems(LOOP, tree)) == []
    (problem,) = problems(dataclasses.replace(LOOP, **change), tree)  # type: ignore[arg-type]
    assert words in problem


def test_a_removal_is_noticed_by_the_tests_that_fail(tree: Path) -> None:
    """Of each test that is named, one at least; afterwards the guard is back."""
    both = dataclasses.replace(LOOP, tests=(*LOOP.tests, "test_module.py::test_a_positive_number_stays"))
    with Copy.of(tree) as copy:
        assert copy.failing([both]) == ()
        trial = copy.without(both)
        assert (trial.failed, trial.blind, trial.noticed) == (LOOP.tests, both.tests[1:], False)
        assert (copy.tree / "module.py").read_text() == MODULE
    assert (tree / "module.py").read_text() == MODULE


def test_a_test_that_hangs_has_noticed(tree: Path) -> None:
    """It does not pass, and that is what counts."""
    hangs = dataclasses.replace(LOOP, old="value += 1", new="value -= 1")
    with Copy.of(tree, seconds=1.0) as copy:
        trial = copy.without(hangs)
    assert trial.hung
    assert trial.noticed


def test_what_cannot_be_run_has_noticed_nothing(tree: Path) -> None:
    """A module that cannot be imported fails every test, which proves nothing about any."""
    broken = dataclasses.replace(LOOP, old="def least", new="import nothing_of_that_name\ndef least")
    with Copy.of(tree) as copy:
        trial = copy.without(broken)
        assert (trial.broken, trial.noticed) == ("pytest ends with 4", False)
        (copy.tree / "test_module.py").write_text("import nothing_of_that_name")
        with pytest.raises(RuntimeError, match="pytest ends with"):
            copy.failing([LOOP])


def test_the_table_says_what_was_found() -> None:
    """Who noticed, and what nobody noticed."""
    seen, unseen = Trial(LOOP, ("one", "two")), Trial(LOOP, blind=LOOP.tests)
    assert (seen.noticed, unseen.noticed) == (True, False)
    assert line(seen) == "ok   loop: 2 tests (no number is negative)"
    assert line(unseen).startswith("BAD  loop: NOT NOTICED by test_module.py::")
    assert line(Trial(LOOP, broken="no pytest")) == "BAD  loop: cannot be tried: no pytest (no number is negative)"
    page = tables({"Numbers": [seen, Trial(LOOP, ("one",)), Trial(LOOP, hung=True)]})
    assert "3 guards, taken away one at a time. Every removal was noticed." in page
    assert "| Numbers | 3 | 3 | 2 |" in page
    page = tables({"Numbers": [seen, unseen]})
    assert "**1 of the removals were not noticed.**\n- NOT NOTICED: no number is negative (`module.py`)\n" in page
    assert "| Numbers | 2 | 1 | 2 |" in page


def test_the_page_has_a_place_for_the_guards() -> None:
    """What a person wrote round them stays as it is."""
    page = PAGE.read_text("utf-8")
    written = with_tables(page, "new tables")
    assert f"{BEGIN}\n\nnew tables\n\n{END}" in written
    assert written.partition(BEGIN)[0] == page.partition(BEGIN)[0]
    with pytest.raises(ValueError, match="needs the lines"):
        with_tables("a page without them", "new tables")


def test_the_command_lists_what_there_is(capsys: pytest.CaptureFixture[str]) -> None:
    """All of it, or what was asked for."""
    assert main(["--list"]) == 0
    assert len(capsys.readouterr().out.splitlines()) == len(GUARDS)
    first = PARTS[0]
    assert main(["--list", first.name, PARTS[1].guards[0].name]) == 0
    assert len(capsys.readouterr().out.splitlines()) == len(first.guards) + 1


@pytest.mark.parametrize("words", [["nothing"], ["--write", PARTS[0].name], ["--write", "--list"]])
def test_the_command_refuses_what_it_cannot_do(words: list[str]) -> None:
    """An unknown name, and a page of less than everything."""
    with pytest.raises(SystemExit):
        main(words)
