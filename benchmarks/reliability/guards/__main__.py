"""``python -m benchmarks.reliability.guards [--list] [--write] [NAME ...]``."""

from __future__ import annotations

import argparse
import sys
from time import perf_counter
from typing import TYPE_CHECKING

from benchmarks.reliability.guards.guard import Part, parts, problems
from benchmarks.reliability.guards.page import line, tables, with_tables
from benchmarks.reliability.guards.trial import Copy, Trial
from benchmarks.reliability.stage import ROOT

if TYPE_CHECKING:
    from collections.abc import Sequence

PAGE = ROOT / "docs" / "reliability.md"


def _arguments(words: Sequence[str] | None, known: Sequence[Part]) -> argparse.Namespace:
    description = "Take away one guard at a time, and see whether its tests notice."
    parser = argparse.ArgumentParser(prog="python -m benchmarks.reliability.guards", description=description)
    parser.add_argument("names", nargs="*", metavar="NAME", help="of guards, or of parts; default: all")
    parser.add_argument("--list", action="store_true", help="say what there is, and run nothing")
    parser.add_argument("--write", action="store_true", help=f"keep the tables in docs/{PAGE.name}")
    arguments = parser.parse_args(words)
    names = {part.name for part in known} | {guard.name for part in known for guard in part.guards}
    if unknown := set(arguments.names) - names:
        parser.error(f"no such guard or part: {', '.join(sorted(unknown))}")
    if arguments.write and (arguments.names or arguments.list):
        parser.error("--write keeps whole runs only: leave out the names and --list")
    return arguments


def _chosen(known: Sequence[Part], names: Sequence[str]) -> list[Part]:
    wanted = set(names)
    whole = [part for part in known if not wanted or part.name in wanted]
    some = [
        Part(part.name, part.title, tuple(guard for guard in part.guards if guard.name in wanted))
        for part in known
        if part not in whole
    ]
    return [part for part in (*whole, *some) if part.guards]


def main(words: Sequence[str] | None = None) -> int:
    """Try every guard, print what came of it, and fail where one was not missed.

    Args:
        words: the command line; default the process's own.
    """
    known = parts()
    arguments = _arguments(words, known)
    chosen = _chosen(known, arguments.names)
    wrong = [problem for part in chosen for guard in part.guards for problem in problems(guard)]
    if wrong:
        print("\n".join(wrong), file=sys.stderr)
        return 1
    if arguments.list:
        print("\n".join(f"{part.name}: {guard.name}: {guard.promise}" for part in chosen for guard in part.guards))
        return 0
    return _try(chosen, write=arguments.write)


def _try(chosen: Sequence[Part], *, write: bool) -> int:
    begun = perf_counter()
    found: dict[str, list[Trial]] = {}
    with Copy.of() as copy:
        failing = copy.failing([guard for part in chosen for guard in part.guards])
        if failing:
            print("these fail although every guard stands:", *failing, sep="\n", file=sys.stderr)
            return 1
        for part in chosen:
            print(f"-- {part.title}", flush=True)
            found[part.title] = []
            for guard in part.guards:
                trial = copy.without(guard)
                found[part.title].append(trial)
                print(line(trial), flush=True)
    trials = [trial for group in found.values() for trial in group]
    noticed = sum(trial.noticed for trial in trials)
    print(f"{noticed} of {len(trials)} removals were noticed; {perf_counter() - begun:.0f} s", flush=True)
    if write:
        PAGE.write_text(with_tables(PAGE.read_text("utf-8"), tables(found)), "utf-8")
    return 0 if noticed == len(trials) else 1


if __name__ == "__main__":
    sys.exit(main())
