"""`bluejay-ws completion`: let the shell complete commands and options."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bluejay_ws.cli.arguments import new_parser
from bluejay_ws.cli.terminal import Problem

if TYPE_CHECKING:
    import argparse

    from bluejay_ws.cli.arguments import Commands
    from bluejay_ws.cli.terminal import Terminal

SHELLS = ("bash", "zsh", "tcsh")
TEXT = """\
Add one line to the start-up file of your shell:

  bash   eval "$(bluejay-ws completion bash)"
  zsh    eval "$(bluejay-ws completion zsh)"

It needs the package shtab: pip install 'bluejay_ws[cli]'
"""


def add_parser(commands: Commands[argparse.ArgumentParser]) -> None:
    """Add the command to the command line."""
    parser = new_parser(commands, "completion", "print a script that completes commands in your shell", TEXT)
    parser.add_argument("shell", choices=SHELLS, help="the shell")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace, terminal: Terminal) -> int:
    """Print the script.

    Raises:
        Problem: shtab is not installed.
    """
    try:
        import shtab  # noqa: PLC0415 - an extra
    except ImportError:
        raise Problem("the package shtab is not installed", "pip install 'bluejay_ws[cli]'") from None
    script: str = shtab.complete(args.root, shell=args.shell)
    terminal.say(script)
    terminal.document({"shell": args.shell, "script": script})
    return 0
