"""The command line: `bluejay-ws`, also `python -m bluejay_ws`.

One command is one module with two functions: ``add_parser(commands)`` describes it (`arguments.new_parser` makes the
parser and gives it ``--json``), and ``run(args, terminal)`` does it and returns the exit code. A command stops early by
raising `terminal.Problem` or an error of the library. To add a command, write its module and add it to `COMMANDS`. Only
the module of the command that runs is imported.
"""

from __future__ import annotations

import io
import os
import signal
import sys
from difflib import get_close_matches
from importlib import import_module
from typing import TYPE_CHECKING

from bluejay_ws.cli.arguments import Parser, UsageProblem
from bluejay_ws.cli.terminal import Problem, ReaderLeftError, Terminal
from bluejay_ws.exceptions import BluejayError, ConfigurationError
from bluejay_ws.version import VERSION

if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence

__all__ = ["COMMANDS", "main", "new_argument_parser"]

COMMANDS = {
    "demo": "show a simulated call and its report; needs no account",
    "call": "call an agent as Bluejay does",
    "platform": "run a local platform that takes the reports of your agents",
    "check": "try an agent with scenarios; fail when it gets worse",
    "scenario": "make a scenario for `check` from a report",
    "outbox": "look after the reports that wait in a spool",
    "result": "what the platform shows for a call",
    "results": "what the platform shows for a whole run, with a verdict",
    "show": "show a report as a page that you can open, and what went wrong in it",
    "deliver": "deliver the reports of a fleet from its database",
    "migrate": "make or update a fleet's outbox in PostgreSQL",
    "doctor": "check whether this machine can record and deliver",
    "completion": "print a script that completes commands in your shell",
}
"""Every command and what it does, in the order of the help; each module says the same of its own."""

_SAME_MODULE = {"results": "result"}

STOPPED, TERMINATED = 130, 143


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code.

    Args:
        argv: the arguments, without the program's name; default those of the process.

    Raises:
        SystemExit: the arguments were wrong, or asked for help.
    """
    words = sys.argv[1:] if argv is None else argv
    nowhere = io.StringIO()  # in the place of streams that the process was started without
    problems = Terminal.of(sys.stderr or nowhere, os.environ)
    out = Terminal.of(sys.stdout or nowhere, os.environ, json_only="--json" in words)
    if argv is None:  # a process of its own
        signal.signal(signal.SIGTERM, _terminated)
    try:
        return _run(words, out, problems)
    except (KeyboardInterrupt, _Terminated) as end:
        word, code = ("terminated", TERMINATED) if isinstance(end, _Terminated) else ("stopped", STOPPED)
        out.document({"error": word, "remedy": "", "exit_code": code})
        problems.say()
        problems.say(word)
        return code
    except ReaderLeftError as left:
        if left.reason:
            problems.say(f"bluejay-ws: the output cannot be written: {left.reason}")
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # for what Python flushes at exit
        return 1


class _Terminated(SystemExit):
    """SIGTERM came. asyncio lets this one through, so that an agent which was started here is stopped."""


def _terminated(*_: object) -> None:
    raise _Terminated(TERMINATED)


def _run(argv: Sequence[str], out: Terminal, problems: Terminal) -> int:
    try:
        args = _parsed(argv)
        out.json_only = getattr(args, "json", False)  # may be said shorter
        code: int = args.run(args, out)
    except (Problem, BluejayError) as error:
        problem = error if isinstance(error, Problem) else _problem_of(error)
        out.document({"error": problem.message, "remedy": problem.remedy, "exit_code": problem.exit_code})
        if isinstance(problem, UsageProblem):  # argparse's own words, and its exit
            sys.stderr.write(problem.usage)
            raise SystemExit(problem.exit_code) from None
        return _explain(problem, problems)
    return code


def _problem_of(error: BluejayError) -> Problem:
    """Return an error of the library as what ends a command: what, why, and the way out."""
    what, why, remedy = error.args if len(error.args) == 3 else ("", str(error), "")
    return Problem(f"{what} {why}".strip(), remedy, exit_code=2 if isinstance(error, ConfigurationError) else 1)


def _parsed(argv: Sequence[str]) -> argparse.Namespace:
    """Return the arguments; without a command the answer is the whole help."""
    name = next((word for word in argv if not word.startswith("-")), "")
    parser = new_argument_parser("" if name == "completion" else name or "none")  # completion knows them all
    if name and name not in COMMANDS:
        alike = get_close_matches(name, COMMANDS, 1)
        parser.error(f"there is no command {name!r}" + (f"; did you mean {alike[0]!r}?" if alike else ""))
    args = parser.parse_args(argv)
    if not name:
        raise UsageProblem("which command?", parser.format_help(), "see bluejay-ws --help")
    return args


def new_argument_parser(only: str = "") -> argparse.ArgumentParser:
    """Return the parser of the command line; of other commands than ``only`` it has no more than the names."""
    parser = Parser(
        prog="bluejay-ws",
        description="Call voice agents on this machine as Bluejay does, and look after the reports of real calls.",
    )
    parser.add_argument("--version", action="version", version=f"bluejay-ws {VERSION}")
    parser.set_defaults(root=parser)
    commands = parser.add_subparsers(title="commands", metavar="COMMAND")
    for name, summary in COMMANDS.items():
        if name in commands.choices:
            continue  # a module may have two
        if only and name != only and _SAME_MODULE.get(only) != name:
            commands.add_parser(name, help=summary)
        else:
            import_module(f"{__name__}.{_SAME_MODULE.get(name, name)}").add_parser(commands)
    return parser


def _explain(problem: Problem, terminal: Terminal) -> int:
    label = "bluejay-ws: "
    for number, line in enumerate(problem.message.splitlines()):
        terminal.wrapped(" " * len(label) if number else label, line, style="red", whole_words=True)
    if problem.remedy:
        terminal.wrapped(" " * len(label), problem.remedy, whole_words=True)
    return problem.exit_code
