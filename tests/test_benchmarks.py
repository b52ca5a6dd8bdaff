"""The benchmarks run, and their table says whether a figure was reached."""

from __future__ import annotations

import sys
from importlib.util import find_spec
from pathlib import Path

import pytest
from websockets.version import version

from benchmarks import families
from benchmarks.measure import Effort, Result, difference, in_turns, percentile, spread
from benchmarks.table import lines, markdown
from tests import nursery

OLD_THREADS = int(version.split(".")[0]) < 15
ROOT = Path(__file__).resolve().parent.parent


def test_the_benchmarks_run() -> None:
    """``python -m benchmarks`` measures and prints its table; a quick run promises nothing."""
    command = [sys.executable, "-m", "benchmarks", "recording", "--quick"]
    done = nursery.run(command, cwd=ROOT)
    assert "`add_tool_call`, spool on" in done.stdout


@pytest.mark.skipif(OLD_THREADS, reason="websockets 13: a threaded server does not end its connections")
@pytest.mark.filterwarnings("default")  # of the oldest servers that it drives
def test_each_server_family_is_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    """Three lines for each: a frame with the header and without, and connections a second; all calls are counted."""
    monkeypatch.setattr(families, "ECHOES", 2)
    monkeypatch.setattr(families, "CONNECTIONS", 2)
    results = families.run(Effort(rounds=1))
    installed = [name for name, (library, *_) in families.LOOPS.items() if find_spec(library)]
    measured = [name for name in (*installed, "websockets.sync") for _ in range(families.LINES)]
    assert [result.what.partition(": ")[0] for result in results] == measured


def test_part_of_a_run_is_not_published() -> None:
    """The page of figures is written from one whole run only."""
    command = [sys.executable, "-m", "benchmarks", "recording", "--write"]
    done = nursery.run(command, check=False, cwd=ROOT)
    assert done.returncode == 2
    assert "leave out the names" in done.stderr


def test_a_figure_is_a_ceiling_or_a_floor() -> None:
    """A cost must not be above its figure, a gain not below; without a figure there is no verdict."""
    assert Result("cost", 5.0, "us", limit=6.0).reached is True
    assert Result("cost", 7.0, "us", limit=6.0).reached is False
    assert Result("gain", 7.0, "times", limit=8.0, at_least=True).reached is False
    assert Result("gain", 9.0, "times", limit=8.0, at_least=True).reached is True
    assert Result("other", 1.0, "us").reached is None


def test_the_table_shows_the_figure_beside_the_value() -> None:
    """Both forms of the table say what was to be reached and whether it was; the page names no host."""
    results = [Result("cost", 7.0, "us", limit=6.0), Result("gain", 9.0, "times", limit=8.0, at_least=True)]
    _, cost, gain = (" ".join(line.split()) for line in lines(results))
    assert cost == "cost 7 us at most 6 us NOT reached"
    assert gain == "gain 9 times at least 8 times reached"
    assert "| cost | 7 us |  |  | at most 6 us | NOT reached |" in markdown(results)


def test_cases_are_measured_in_turns() -> None:
    """Each case is measured once in each round, after one round that does not count."""
    calls = {"a": 0, "b": 0}

    def case(name: str) -> float:
        calls[name] += 1
        return float(calls[name])

    found = in_turns({"a": lambda: case("a"), "b": lambda: case("b")}, rounds=3)
    assert found == {"a": [2.0, 3.0, 4.0], "b": [2.0, 3.0, 4.0]}


def test_differences_and_quartiles() -> None:
    """Values are compared round by round, and their spread is told where there is enough to tell."""
    assert difference([3.0, 5.0], [1.0, 1.0]) == [2.0, 4.0]
    assert percentile([1.0, 2.0, 3.0, 4.0], 0.99) == 4.0
    assert spread([1.0, 2.0, 3.0]) == ""
    assert spread([1_000.0, 2_000.0, 3_000.0, 4_000.0]) == "1,250 to 3,750"
