"""The command line: `bluejay-ws`, also `python -m bluejay_ws.cli`."""

from __future__ import annotations

import argparse
import os
import sys
from typing import TYPE_CHECKING

from bluejay_ws.cli import call, demo, doctor, outbox, result
from bluejay_ws.cli.terminal import Problem, ReaderLeftError, Terminal, clean
from bluejay_ws.version import VERSION

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["main"]

COMMANDS = (demo, call, outbox, doctor, result)
STOPPED = 130


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code.

    Args:
        argv: the arguments, without the program's name; default those of the process.

    Raises:
        SystemExit: the arguments were wrong, or asked for help.
    """
    args = _parser().parse_args(argv)
    out = Terminal.of(sys.stdout, os.environ)
    problems = Terminal.of(sys.stderr, os.environ)
    try:
        code: int = args.run(args, out)
    except Problem as problem:
        return _explain(problem, problems)
    except KeyboardInterrupt:
        problems.say()
        problems.say("stopped")
        return STOPPED
    except ReaderLeftError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # for what Python flushes at exit
        return 1
    return code


def _explain(problem: Problem, terminal: Terminal) -> int:
    terminal.say(terminal.paint("bluejay-ws: ", "red") + clean(problem.message))
    if problem.remedy:
        terminal.say("            " + clean(problem.remedy))
    return problem.exit_code


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="bluejay-ws",
        description="Simulated calls to voice agents on this machine, and the reports of real ones.",
    )
    parser.add_argument("--version", action="version", version=f"bluejay-ws {VERSION}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for command in COMMANDS:
        command.add_to(commands)
    return parser
