"""The command line: `bluejay-ws`, also `python -m bluejay_ws`.

One command is one module with two functions: ``add_parser(commands)`` describes it (`arguments.new_parser` makes the
parser and gives it ``--json``), and ``run(args, terminal)`` does it and returns the exit code. A command stops early by
raising `terminal.Problem`. To add a command, write its module and add it to `COMMANDS`.
"""

from __future__ import annotations

import argparse
import os
import sys
from typing import TYPE_CHECKING

from bluejay_ws.cli import (
    call,
    check,
    completion,
    deliver,
    demo,
    doctor,
    migrate,
    outbox,
    platform,
    result,
    scenario,
    show,
)
from bluejay_ws.cli.terminal import Problem, ReaderLeftError, Terminal
from bluejay_ws.version import VERSION

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["COMMANDS", "main", "new_argument_parser"]

COMMANDS = (
    demo,
    call,
    platform,
    check,
    scenario,
    outbox,
    result,
    show,
    deliver,
    migrate,
    doctor,
    completion,
)
"""Every command, in the order of the help."""

STOPPED = 130


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code.

    Args:
        argv: the arguments, without the program's name; default those of the process.

    Raises:
        SystemExit: the arguments were wrong, or asked for help.
    """
    args = new_argument_parser().parse_args(argv)
    out = Terminal.of(sys.stdout, os.environ, json_only=getattr(args, "json", False))
    problems = Terminal.of(sys.stderr, os.environ)
    try:
        code: int = args.run(args, out)
    except Problem as problem:
        out.document({"error": problem.message, "remedy": problem.remedy, "exit_code": problem.exit_code})
        return _explain(problem, problems)
    except KeyboardInterrupt:
        problems.say()
        problems.say("stopped")
        return STOPPED
    except ReaderLeftError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # for what Python flushes at exit
        return 1
    return code


def new_argument_parser() -> argparse.ArgumentParser:
    """Return the parser of the whole command line."""
    parser = argparse.ArgumentParser(
        prog="bluejay-ws",
        description="Call voice agents on this machine as Bluejay does, and look after the reports of real calls.",
    )
    parser.add_argument("--version", action="version", version=f"bluejay-ws {VERSION}")
    parser.set_defaults(root=parser)
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for command in COMMANDS:
        command.add_parser(commands)
    return parser


def _explain(problem: Problem, terminal: Terminal) -> int:
    label = "bluejay-ws: "
    for number, line in enumerate(problem.message.splitlines()):
        terminal.wrapped(" " * len(label) if number else label, line, style="red", whole_words=True)
    if problem.remedy:
        terminal.wrapped(" " * len(label), problem.remedy, whole_words=True)
    return problem.exit_code
