"""``python -m benchmarks [NAME ...] [--quick] [--write]``."""

from __future__ import annotations

import argparse
import importlib
import logging
import sys
import traceback
from pathlib import Path
from time import perf_counter

from benchmarks.measure import Effort, Result
from benchmarks.table import lines, markdown

NAMES = (
    "recording",
    "frames",
    "families",
    "memory",
    "imports",
    "ends",
    "hearing",
    "taps",
    "lateness",
    "delivering",
    "throughput",
    "check",
    "timeline",
    "backlog",
    "outages",
    "fleet",
    "suite",
)
PAGE = Path(__file__).resolve().parent.parent / "docs" / "performance.md"


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description="Measure what bluejay_ws costs.")
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"which ones: {', '.join(NAMES)}; default: all")
    parser.add_argument("--quick", action="store_true", help="only see that they run; the figures mean nothing")
    parser.add_argument("--write", action="store_true", help=f"keep the figures of all of them in docs/{PAGE.name}")
    arguments = parser.parse_args()
    if unknown := set(arguments.names) - set(NAMES):
        parser.error(f"no such benchmark: {', '.join(sorted(unknown))}")
    if arguments.write and (arguments.names or arguments.quick):
        parser.error("--write keeps whole runs only: leave out the names and --quick")
    return arguments


def _measured(name: str, effort: Effort) -> list[Result]:
    """Return what one benchmark measured; one that fails is tried once more, so that no whole run is lost with it."""
    run = importlib.import_module(f"benchmarks.{name}").run
    try:
        return list(run(effort))
    except Exception:
        traceback.print_exc()
        return list(run(effort))


def main() -> int:
    """Run the benchmarks and print one table; fail when a figure is not reached."""
    arguments = _arguments()
    logging.getLogger("bluejay_ws").setLevel(logging.CRITICAL)  # outages are part of it
    effort = Effort.quick() if arguments.quick else Effort()
    results: list[Result] = []
    for name in arguments.names or NAMES:
        begun = perf_counter()
        results += _measured(name, effort)
        print(f"{name}: {perf_counter() - begun:.0f} s", file=sys.stderr, flush=True)
    print("\n".join(lines(results)))
    if arguments.write:
        PAGE.write_text(markdown(results), "utf-8")
    return 0 if arguments.quick or all(one.reached is not False for one in results) else 1


if __name__ == "__main__":
    sys.exit(main())
