"""The published table: it says what was found, and hides nothing."""

from __future__ import annotations

import logging
from collections import Counter
from functools import partial
from typing import TYPE_CHECKING

import pytest

from benchmarks.reliability import fleet
from benchmarks.reliability.__main__ import PAGE, main
from benchmarks.reliability.account import Account
from benchmarks.reliability.page import BEGIN, END, lines, tables, with_tables
from benchmarks.reliability.runs import RUNS, Line, Size

if TYPE_CHECKING:
    from collections.abc import Iterator

SOUND = Line("kill", Account(runs=2, calls=3, records=4, delivered=2, kept=Counter(held=1), slowest=0.5), "seen")
BROKEN = Line("kill", Account(calls=2, lost_calls=["a"], lost_records=3, altered=["b"], doubled=["c"]))


def test_a_sound_run_is_one_line_of_figures() -> None:
    """Each count stands in the column that names it."""
    page = tables({"kills": [SOUND]}, "command", 7, 60.0)
    assert "| kill | 2 | 3 | 4 | 2 | 1 | 0 | 0 | 0 | 0.50 s | seen |" in page
    assert "`command` (seed 7, 1 minutes)" in page
    assert "Every run was sound." in page
    assert "ok   kill: runs 2, calls 3" in "\n".join(lines("kills", [SOUND]))


def test_a_broken_promise_is_told() -> None:
    """What was lost, altered or doubled is in the table, and above it."""
    page = tables({"kills": [SOUND, BROKEN]}, "command", 7, 60.0)
    assert "| 1 calls, 3 records | 1 | 1 |" in page
    assert "**1 of the lines below are not sound.**" in page
    assert "BAD  kill" in "\n".join(lines("kills", [BROKEN]))


def test_a_failed_test_is_no_sound_run() -> None:
    """Lines that only measure, and those of tests, can fail too."""
    assert Line("tests", None, "3 passed").sound
    assert not Line("tests", None, "3 passed, 1 failure", failed=True).sound


@pytest.mark.parametrize(
    ("faults", "sound", "words"),
    [
        ([], True, "3 pods and 1 deliverers killed in 2 s; 4 calls: delivered whole; 0 lost, 0 doubled, 0 unaccounted"),
        (["call-1 was delivered 2 times"], False, "; call-1 was delivered 2 times"),
    ],
)
def test_a_fleet_s_account_is_a_line(
    monkeypatch: pytest.MonkeyPatch, faults: list[str], *, sound: bool, words: str
) -> None:
    """What became of the calls stands there in words; a fault is no sound run."""
    found = fleet.Account(Counter({"delivered whole": 4}), 3, 1, faults, 2.0)
    monkeypatch.setattr(fleet, "run", lambda **_: found)
    (line,) = RUNS["fleet"][1](Size.quick(), 5)
    assert line.sound is sound
    assert line.found.endswith(words)


def test_a_fleet_without_postgresql_is_said_not_to_run(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine without the server runs all else."""

    def run(**_: object) -> fleet.Account:
        raise fleet.NoPostgresError("PostgreSQL is not installed")

    monkeypatch.setattr(fleet, "run", run)
    (line,) = RUNS["fleet"][1](Size.quick(), 5)
    assert line.sound
    assert line.found == "not run: PostgreSQL is not installed"


def test_the_page_has_a_place_for_the_tables() -> None:
    """What a person wrote round them stays as it is."""
    page = PAGE.read_text("utf-8")
    written = with_tables(page, "new tables")
    assert f"{BEGIN}\n\nnew tables\n\n{END}" in written
    assert written.partition(BEGIN)[0] == page.partition(BEGIN)[0]
    assert with_tables(written, "new tables") == written
    with pytest.raises(ValueError, match="needs the lines"):
        with_tables("a page without them", "new tables")


def _runs(found: list[Line], size: Size, seed: int) -> Iterator[Line]:
    assert (size, seed) == (Size.quick(), 5)
    yield from found


def test_the_command_prints_its_seed_and_what_it_found(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """One run by name; the exit code says whether all was sound."""
    monkeypatch.setattr("benchmarks.reliability.__main__.more_descriptors", lambda: None)
    logger = logging.getLogger("bluejay_ws")
    level = logger.level
    try:
        for found, code in (([SOUND], 0), ([SOUND, BROKEN], 1)):
            monkeypatch.setitem(RUNS, "kills", ("Sudden death", partial(_runs, found)))
            assert main(["kills", "--quick", "--seed", "5"]) == code
            printed = capsys.readouterr().out
            assert printed.startswith("seed 5\n-- Sudden death\nok   kill")
            assert ("BAD  kill" in printed) == bool(code)
    finally:
        logger.setLevel(level)


@pytest.mark.parametrize("words", [["nothing"], ["--write", "kills"], ["--write", "--quick"]])
def test_the_command_refuses_what_it_cannot_do(words: list[str]) -> None:
    """An unknown run, and a page of less than everything."""
    with pytest.raises(SystemExit):
        main(words)
