"""What came of the guards' removal, for a terminal and for the documentation."""

from __future__ import annotations

import datetime as dt
from typing import TYPE_CHECKING

from benchmarks.reliability import page as page_of_runs

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from benchmarks.reliability.guards.trial import Trial

__all__ = ["BEGIN", "END", "line", "tables", "with_tables"]

BEGIN, END = "<!-- guards: written by the command above -->", "<!-- end of the guards -->"


def line(trial: Trial) -> str:
    """Return a trial's line for the terminal."""
    mark = "ok  " if trial.noticed else "BAD "
    return f"{mark} {trial.guard.name}: {_found(trial)} ({trial.guard.promise})"


def _found(trial: Trial) -> str:
    if trial.broken:
        return f"cannot be tried: {trial.broken}"
    if trial.hung:
        return "a test that hangs"
    count = f"{len(trial.failed)} test{'' if len(trial.failed) == 1 else 's'}"
    return count if trial.noticed else f"NOT NOTICED by {', '.join(trial.blind)}"


def tables(found: Mapping[str, Sequence[Trial]]) -> str:
    """Return everything between `BEGIN` and `END`.

    Args:
        found: what came of each guard, by the title of its part.
    """
    today = dt.datetime.now(dt.UTC).date().isoformat()
    trials = [trial for group in found.values() for trial in group]
    unnoticed = sum(not trial.noticed for trial in trials)
    said = "Every removal was noticed." if not unnoticed else f"**{unnoticed} of the removals were not noticed.**"
    head = ["| what is guarded | guards | noticed | tests that noticed |", "| --- | --- | --- | --- |"]
    rows = [_row(title, group) for title, group in found.items()]
    lost = [f"- NOT NOTICED: {trial.guard.promise} (`{trial.guard.file}`)" for trial in trials if not trial.noticed]
    return "\n".join(
        [f"Written on {today}: {len(trials)} guards, taken away one at a time. {said}", *lost, "", *head, *rows]
    )


def _row(title: str, group: Sequence[Trial]) -> str:
    tests = {test.partition("[")[0] for trial in group for test in trial.failed}
    return f"| {title} | {len(group)} | {sum(trial.noticed for trial in group)} | {len(tests)} |"


def with_tables(page: str, new: str) -> str:
    """Return the page with new tables in place of the old.

    Raises:
        ValueError: the page does not say where they stand.
    """
    return page_of_runs.with_tables(page, new, BEGIN, END)
