"""`bluejay-ws deliver`: a process that delivers the reports of a fleet, so that agents need no key."""

from __future__ import annotations

import contextlib
import threading
import time
from typing import TYPE_CHECKING, Any

from bluejay_ws.cli.agentprocess import signals_go_to
from bluejay_ws.cli.arguments import count, new_parser, seconds
from bluejay_ws.cli.migrate import database_of
from bluejay_ws.cli.terminal import Problem, Terminal
from bluejay_ws.delivery.deliverer import POD_LEASE, WORKERS, Deliverer
from bluejay_ws.delivery.postgres import AwayError, shown
from bluejay_ws.settings import Settings
from bluejay_ws.stats import Counters

if TYPE_CHECKING:
    import argparse

    from bluejay_ws.cli.arguments import Commands

SAY_EVERY = 60.0
LOOK = 0.2
AGAIN = 2.0
LEFT = ("waiting", "sending", "reports.live")
STUCK = ("held", "parked", "reports.held", "reports.late", "reports.no_id")
GRACE = 40.0  # an exchange that has begun is not broken off: its outcome would be unknown
TEXT = """\
Delivers what agents hand over to the database, until it is stopped by SIGTERM or Ctrl-C:
then it finishes what it is sending. Any number may run; each report is sent by one of them.

It sends reports that were recorded for BLUEJAY_API_URL, with BLUEJAY_API_KEY, and no others.
"""


def add_parser(commands: Commands[argparse.ArgumentParser]) -> None:
    """Add the command to the command line."""
    parser = new_parser(commands, "deliver", "deliver the reports of a fleet from its database", TEXT)
    add = parser.add_argument
    add("--spool", metavar="URL", help="postgresql://..., default: BLUEJAY_SPOOL")
    add("--workers", metavar="N", type=count, default=WORKERS, help=f"reports that are sent at once ({WORKERS})")
    add("--lease", metavar="S", type=seconds, default=POD_LEASE, help=f"a silent agent is dead after ({POD_LEASE:g})")
    add("--until-empty", action="store_true", help="end when nothing waits any more; exit code 1 if some are held")
    add(
        "--verify",
        metavar="S",
        nargs="?",
        type=seconds,
        const=True,
        help="look once, S seconds after a delivery (60), whether the platform shows what was sent",
    )
    parser.set_defaults(run=run)


def run(args: argparse.Namespace, terminal: Terminal) -> int:
    """Deliver until a signal stops it; return the exit code."""
    url = database_of(args.spool).reveal()
    settings = _settings(args)
    counters = Counters()
    deliverer = Deliverer(url, settings, counters=counters, workers=args.workers, pod_lease=args.lease)
    try:
        stop = threading.Event()
        with signals_go_to(lambda _: stop.set()):
            if not _started(deliverer, stop, terminal, wait=not args.until_empty):
                return 0
            terminal.say(f"delivering from {shown(url)} to {settings.base_url}")
            code = _until_stopped(args, deliverer, counters, stop, terminal)
            deliverer.stop(GRACE)
    finally:
        deliverer.stop(GRACE)  # after an error; twice is allowed
    terminal.document(counters.snapshot())
    terminal.say(_account(counters))
    return code


def _started(deliverer: Deliverer, stop: threading.Event, terminal: Terminal, *, wait: bool) -> bool:
    """Start, as soon as the database is there; return False if a signal came first. A job does not wait for it."""
    while not stop.is_set():
        try:
            deliverer.start()
        except AwayError as error:
            if not wait:
                raise
            terminal.say(f"{error}; trying again")
            stop.wait(AGAIN)
        else:
            return True
    return False


def _settings(args: argparse.Namespace) -> Settings:
    settings = Settings.load(spool=args.spool, verify=args.verify)
    if settings.api_key is None:
        raise Problem("BLUEJAY_API_KEY is not set", "export the key that the reports are to be sent with", exit_code=2)
    return settings


def _until_stopped(
    args: argparse.Namespace, deliverer: Deliverer, counters: Counters, stop: Any, terminal: Terminal
) -> int:
    last, said = time.monotonic(), ""
    while not stop.wait(LOOK):
        if args.until_empty:
            with contextlib.suppress(AwayError):  # the deliverer says it, and goes on when it is back
                counts = deliverer.waiting()
                if not deliverer.unverified and not any(map(counts.get, LEFT)):
                    return int(any(map(counts.get, STUCK)))
        if time.monotonic() - last >= SAY_EVERY:
            last = time.monotonic()
            account = _account(counters)
            if account != said:
                said = account
                terminal.say(account)
    return 0


def _account(counters: Counters) -> str:
    counts = counters.snapshot()
    names = ["delivered", "held", "parked", "retried", "process_lost"]
    names += [name for name in ("verify.complete", "verify.differs") if name in counts]
    return ", ".join(f"{name} {counts.get(name, 0)}" for name in names)
