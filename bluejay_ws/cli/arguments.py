"""What several commands share: their parsers, ``--json``, and how numbers are read."""

from __future__ import annotations

import argparse
import math
from typing import NoReturn

from bluejay_ws.cli.terminal import Problem

Commands = argparse._SubParsersAction  # noqa: SLF001 - the only name argparse has for it


class UsageProblem(Problem):
    """End a command whose arguments are wrong, with all that argparse would write."""

    def __init__(self, message: str, usage: str, remedy: str) -> None:
        super().__init__(message, remedy, exit_code=2)
        self.usage = usage


class Parser(argparse.ArgumentParser):
    """A parser that leaves it to `bluejay_ws.cli.main` to write that arguments are wrong: ``--json`` wants it too."""

    def error(self, message: str) -> NoReturn:
        """Raise a `UsageProblem`."""
        usage = f"{self.format_usage()}{self.prog}: error: {message}\n"
        raise UsageProblem(message, usage, f"see {self.prog} --help")


class _Help(argparse.HelpFormatter):
    """Wrap each paragraph of a text on its own, and leave lists alone."""

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        paragraphs = text.strip("\n").split("\n\n")
        return "\n\n".join(
            one if "\n  " in f"\n{one}" else super(_Help, self)._fill_text(one, width, indent) for one in paragraphs
        )


def new_parser(
    commands: Commands[argparse.ArgumentParser], name: str, summary: str, text: str = ""
) -> argparse.ArgumentParser:
    """Add one command, with ``--json``; ``text`` is shown below its options.

    Paragraphs of ``text`` wrap to the width of the terminal; those with indented lines stand as they are.
    """
    parser = commands.add_parser(
        name,
        help=summary,
        description=f"{summary[0].upper()}{summary[1:]}.",
        epilog=text,
        formatter_class=_Help,
    )
    # No default here: `--json` before an action holds for the action too.
    parser.add_argument("--json", action="store_true", default=argparse.SUPPRESS, help="write JSON for scripts")
    return parser


def seconds(text: str) -> float:
    """Read a number of seconds, zero or more."""
    value = float(text)
    if not 0 <= value < math.inf:
        raise ValueError(text)
    return value


def port(text: str) -> int:
    """Read a port; 0 stands for a free one."""
    value = int(text)
    if not 0 <= value <= 65_535:
        raise ValueError(text)
    return value


def port_number(text: str) -> int:
    """Read the port of what listens already: 1 or more."""
    value = port(text)
    if value == 0:
        raise ValueError(text)
    return value


def count(text: str) -> int:
    """Read how many: one or more."""
    value = int(text)
    if value < 1:
        raise ValueError(text)
    return value
