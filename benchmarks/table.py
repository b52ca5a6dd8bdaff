"""The table, for a terminal and for the documentation."""

from __future__ import annotations

import datetime as dt
import os
import platform
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.measure import short

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from benchmarks.measure import Result

__all__ = ["lines", "markdown"]

HEAD = ("what", "median", "quartiles", "compared", "to reach", "")
LIBRARIES = ("websockets", "httpx", "pydantic", "pydantic_core", "opentelemetry-sdk")

PAGE = """\
# What it costs

Measured on {date} by `python -m benchmarks --write`, which writes this page; {machine}.
What is compared is measured in the same run, in turns; the value is the median, the quartiles say how far to trust it.

{table}

How to read it:

- The first five lines are CPU of the thread that records, the agent's event loop.
- A *tool call* has small parameters and a small output: `{{"last4": "4242"}}`, `{{"status": "frozen"}}`.
  With the spool on it is encoded, check-summed and written to the call's file before `add_tool_call` returns.
- The *OpenTelemetry span* is an `execute_tool` span with the attributes that the semantic conventions give it
  (operation, tool name and type, arguments, result), in a batch processor whose exporter does nothing.
- *CPU added to a frame* is measured on real connection objects of `websockets` whose transport writes nowhere: on a
  real socket the system calls cost so much more that the difference cannot be seen, as the loopback lines show.
- *Without the header*: no simulation, your production traffic. The handler is given the untouched connection; what is
  left is noise, and the figure to reach is the noise between two bare servers of the same run (at least 0.1 us).
- *Each server family* is fed from memory, so that no socket is in its figures: a frame is half of an echo; a connection
  is its handshake, its close and its file in the spool up to the sealed report, without the delivery. The connections
  of `websockets.sync` use real sockets, and the caller's share is in them.
- *Lateness* is measured on the agent's own event loop, while real connections are closed by another process and a
  platform in a third one takes the reports; all of them share the cores named above.
- *CPU for a delivered report* is that of all threads of a process that delivers a few hundred reports with five tool
  calls each, from the first close to the last accepted report. The files that wait are reports of an earlier process,
  which leave at the same time, as a ramp of at most 50 a second.
- *Reports that wait when a process starts* are found with its first connection.
- The *outages* pass on a clock that is moved by hand, through the real queue, attempts and spool: refused connections,
  hanging, lost answers, errors with and without the API's own words, a gateway's pages, a refused key, redirects.
"""


def _cells(one: Result) -> tuple[str, ...]:
    limit = "" if one.limit is None else f"{'at least' if one.at_least else 'at most'} {short(one.limit)} {one.unit}"
    verdict = {None: "", True: "reached", False: "NOT reached"}[one.reached]
    return (one.what, f"{short(one.value)} {one.unit}", one.spread, one.compared, limit, verdict)


def lines(results: Sequence[Result]) -> Iterator[str]:
    """Return the table with columns that line up."""
    rows = [HEAD, *map(_cells, results)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(HEAD))]
    for row in rows:
        yield "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()


def markdown(results: Sequence[Result]) -> str:
    """Return the page of the documentation."""
    rows = [HEAD, ("---",) * len(HEAD), *map(_cells, results)]
    table = "\n".join(f"| {' | '.join(row)} |" for row in rows)
    today = dt.datetime.now(dt.UTC).date().isoformat()
    return PAGE.format(date=today, machine=_machine(), table=table)


def _machine() -> str:
    """Return what the machine is, as far as it matters and names nobody."""
    info = Path("/proc/cpuinfo").read_text("utf-8") if Path("/proc/cpuinfo").exists() else ""
    models = [line.partition(":")[2].strip() for line in info.splitlines() if line.startswith("model name")]
    model = models[0] if models else platform.machine()
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    versions = ", ".join(f"{name} {metadata.version(name)}" for name in LIBRARIES)
    return (
        f"{os.cpu_count()} cores ({model}), {memory:.0f} GiB, {platform.system()}; "
        f"{platform.python_implementation()} {platform.python_version()}, {versions}"
    )
