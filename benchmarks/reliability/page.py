"""The tables, for a terminal and for the documentation."""

from __future__ import annotations

import datetime as dt
import os
import platform
from importlib import metadata
from typing import TYPE_CHECKING

from benchmarks.reliability.runs import RUNS

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from benchmarks.reliability.runs import Line

__all__ = ["BEGIN", "END", "lines", "tables", "with_tables"]

BEGIN, END = "<!-- fault runs: written by the command above -->", "<!-- end of the fault runs -->"
_HEAD = ("what", "runs", "calls", "records", "delivered", "held", "lost", "altered", "doubled", "fresh call", "seen")
_MEASURED = ("what", "seen")
_LIBRARIES = ("websockets", "httpx", "uvicorn", "gunicorn", "hypercorn", "aiohttp", "trio")


def _cells(line: Line) -> tuple[str, ...]:
    found = line.account
    if found is None:
        return (line.what, line.found)
    lost = f"{len(found.lost_calls)} calls, {found.lost_records} records" if not found.sound else "0"
    held = sum(found.kept.values())
    fresh = "" if found.slowest is None else f"{found.slowest:.2f} s"
    counts = (found.runs, found.calls, found.records, found.delivered, held)
    wrong = (lost, len(found.altered), len(found.doubled))
    return (line.what, *(f"{count:,}" for count in counts), *map(str, wrong), fresh, line.found)


def lines(name: str, found: Sequence[Line]) -> Iterator[str]:
    """Return a run's lines for the terminal."""
    yield f"-- {RUNS[name][0]}"
    for line in found:
        cells = _cells(line)
        head = _HEAD if len(cells) == len(_HEAD) else _MEASURED
        told = ", ".join(f"{key} {value}" for key, value in zip(head[1:-1], cells[1:-1], strict=True))
        yield f"{'ok  ' if line.sound else 'BAD '} {line.what}: {told}{'; ' if told else ''}{line.found}"


def tables(found: Mapping[str, Sequence[Line]], command: str, seed: int, seconds: float) -> str:
    """Return everything between `BEGIN` and `END`."""
    today = dt.datetime.now(dt.UTC).date().isoformat()
    bad = sum(not line.sound for group in found.values() for line in group)
    parts = [
        (
            f"Written on {today} by `{command}` (seed {seed}, {seconds / 60:.0f} minutes); {_machine()}.\n"
            f"{'Every run was sound.' if not bad else f'**{bad} of the lines below are not sound.**'}"
        )
    ]
    for name, group in found.items():
        rows = [_cells(line) for line in group]
        head = _HEAD if any(len(row) == len(_HEAD) for row in rows) else _MEASURED
        table = [head, ("---",) * len(head), *(_widened(row, len(head)) for row in rows)]
        parts.append(f"### {RUNS[name][0]}\n\n" + "\n".join(f"| {' | '.join(row)} |" for row in table))
    return "\n\n".join(parts)


def _widened(row: tuple[str, ...], width: int) -> tuple[str, ...]:
    return row if len(row) == width else (row[0], *("",) * (width - 2), row[-1])


def with_tables(page: str, new: str, begin: str = BEGIN, end: str = END) -> str:
    """Return the page with new tables in place of the old, which stand between the lines ``begin`` and ``end``.

    Raises:
        ValueError: the page does not say where they stand.
    """
    before, found_begin, rest = page.partition(begin)
    _, found_end, after = rest.partition(end)
    if not found_begin or not found_end:
        raise ValueError(f"the page needs the lines {begin!r} and {end!r}")
    return f"{before}{begin}\n\n{new}\n\n{end}{after}"


def _machine() -> str:
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return (
        f"{os.cpu_count()} cores, {memory:.0f} GiB, {platform.system()}; {platform.python_implementation()} "
        f"{platform.python_version()}, {', '.join(_version(name) for name in _LIBRARIES)}"
    )


def _version(name: str) -> str:
    try:
        return f"{name} {metadata.version(name)}"
    except metadata.PackageNotFoundError:
        return f"no {name}"
