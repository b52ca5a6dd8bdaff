"""`bluejay-ws scenario from-report`: a call that failed becomes a test."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bluejay_ws.cli.arguments import new_parser
from bluejay_ws.cli.show import load
from bluejay_ws.cli.terminal import Problem, Terminal
from bluejay_ws.delivery import admin as outbox
from bluejay_ws.settings import Settings, default_spool
from bluejay_ws.testing.scenarios import Scenario, from_report

if TYPE_CHECKING:
    import argparse

    from bluejay_ws.cli.arguments import Commands

TEXT = """\
The caller says the same again, over the agent's words where it did so, and the tools of
the report are expected. Look it through: a call that failed shows what happened, not what
should have happened.
"""


def add_parser(commands: Commands[argparse.ArgumentParser]) -> None:
    """Add the command to the command line."""
    parser = new_parser(commands, "scenario", "make a scenario for `check` from a report", TEXT)
    actions = parser.add_subparsers(title="actions", metavar="ACTION", required=True)
    making = new_parser(actions, "from-report", "write the scenario of a call that was made", TEXT)
    making.add_argument("report", metavar="REPORT", help="a file with the report's JSON, or an id in the spool")
    making.add_argument("--spool", metavar="DIR", help="default: BLUEJAY_SPOOL, then the user's state directory")
    making.set_defaults(run=run)


def run(args: argparse.Namespace, terminal: Terminal) -> int:
    """Write the scenario as YAML; return the exit code.

    Raises:
        Problem: there is no such report, or PyYAML is not installed.
    """
    try:
        import yaml  # noqa: PLC0415 - an extra
    except ImportError:
        raise Problem("PyYAML is not installed", "pip install 'bluejay_ws[check]'", exit_code=2) from None
    made = from_report(_report(args))
    Scenario.model_validate(made)
    terminal.say(yaml.safe_dump(made, sort_keys=False, allow_unicode=True, width=100).rstrip())
    terminal.document(made)
    return 0


def _report(args: argparse.Namespace) -> dict[str, Any]:
    path = Path(args.report)
    if path.exists():
        return load(path)
    directory = Settings.load(spool=args.spool).spool or default_spool()
    found: dict[str, Any] = json.loads(outbox.export(directory, outbox.find(directory, args.report)[0]))
    return found
