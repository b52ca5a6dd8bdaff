"""`bluejay-ws migrate`: make a fleet's outbox in PostgreSQL, or bring it up to date."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bluejay_ws.cli.arguments import new_parser
from bluejay_ws.cli.terminal import Problem, Terminal, clean
from bluejay_ws.delivery import postgres
from bluejay_ws.settings import Secret, Settings

if TYPE_CHECKING:
    import argparse

    from bluejay_ws.cli.arguments import Commands

TEXT = """\
Run it in each deploy, as a role that may create a schema: what is there already stays as
it is. Roles that are named get what they need, and no more. An agent's role hands
reports in and reads nothing. A deliverer's also reads reports, and writes down
what became of them. An operator's is for people who use bluejay-ws outbox.
"""


def add_parser(commands: Commands[argparse.ArgumentParser]) -> None:
    """Add the command to the command line."""
    parser = new_parser(commands, "migrate", "make or update a fleet's outbox in PostgreSQL", TEXT)
    parser.add_argument("--spool", metavar="URL", help="postgresql://..., default: BLUEJAY_SPOOL")
    for group in ("agent", "deliverer", "operator"):
        parser.add_argument(f"--{group}", metavar="ROLE", action="append", default=[], help=f"a role for {group}s")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace, terminal: Terminal) -> int:
    """Migrate, and say what was done."""
    url = database_of(args.spool)
    done = postgres.migrate(url.reveal(), agents=args.agent, deliverers=args.deliverer, operators=args.operator)
    terminal.document({"done": done})
    for line in done or ["nothing to do"]:
        terminal.say(f"{postgres.shown(url.reveal())}: {clean(line)}")
    return 0


def database_of(spool: str | None) -> Secret:
    """Return the URL that the argument or the environment names.

    Raises:
        Problem: there is none.
    """
    settings = Settings.load(spool=spool)
    if settings.database is None:
        raise Problem("which database?", "give --spool postgresql://..., or set BLUEJAY_SPOOL", exit_code=2)
    return settings.database
