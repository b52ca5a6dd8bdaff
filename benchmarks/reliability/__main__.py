"""``python -m benchmarks.reliability [NAME ...] [--seed N] [--nightly | --quick] [--write]``."""

from __future__ import annotations

import argparse
import logging
import sys
from time import perf_counter
from typing import TYPE_CHECKING

from benchmarks.agent import more_descriptors
from benchmarks.reliability.page import lines, tables, with_tables
from benchmarks.reliability.runs import RUNS, Line, Size
from benchmarks.reliability.stage import ROOT

if TYPE_CHECKING:
    from collections.abc import Sequence

PAGE = ROOT / "docs" / "reliability.md"
SEED = 20261123


def _arguments(words: Sequence[str] | None) -> argparse.Namespace:
    description = "Break things in every way we know, and account for every call."
    parser = argparse.ArgumentParser(prog="python -m benchmarks.reliability", description=description)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"which ones: {', '.join(RUNS)}; default: all")
    parser.add_argument("--seed", type=int, default=SEED, help=f"of all random choices; default {SEED}")
    size = parser.add_mutually_exclusive_group()
    size.add_argument("--nightly", action="store_true", help="more of everything, and the tests marked nightly")
    size.add_argument("--quick", action="store_true", help="only see that they run; the figures mean nothing")
    parser.add_argument("--write", action="store_true", help=f"keep the tables in docs/{PAGE.name}")
    arguments = parser.parse_args(words)
    if unknown := set(arguments.names) - set(RUNS):
        parser.error(f"no such run: {', '.join(sorted(unknown))}")
    if arguments.write and (arguments.names or arguments.quick):
        parser.error("--write keeps whole runs only: leave out the names and --quick")
    return arguments


def main(words: Sequence[str] | None = None) -> int:
    """Run everything, print it, and fail when a promise was broken.

    Args:
        words: the command line; default the process's own.
    """
    arguments = _arguments(words)
    size = Size.quick() if arguments.quick else Size.long() if arguments.nightly else Size()
    logging.getLogger("bluejay_ws").setLevel(logging.CRITICAL)
    more_descriptors()
    print(f"seed {arguments.seed}", flush=True)
    begun = perf_counter()
    found: dict[str, list[Line]] = {}
    for name in arguments.names or RUNS:
        started = perf_counter()
        found[name] = list(RUNS[name][1](size, arguments.seed))
        print("\n".join(lines(name, found[name])), flush=True)
        print(f"{name}: {perf_counter() - started:.0f} s", file=sys.stderr, flush=True)
    if arguments.write:
        command = "python -m benchmarks.reliability" + (" --nightly" if arguments.nightly else "") + " --write"
        new = tables(found, command, arguments.seed, perf_counter() - begun)
        PAGE.write_text(with_tables(PAGE.read_text("utf-8"), new), "utf-8")
    return 0 if all(line.sound for group in found.values() for line in group) else 1


if __name__ == "__main__":
    sys.exit(main())
