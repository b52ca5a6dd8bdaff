"""`bluejay-ws doctor`: see whether this machine can record and deliver, and say what to do where it cannot."""

from __future__ import annotations

import asyncio
import shutil
import ssl
import time
import urllib.error
import urllib.request
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any

from bluejay_ws.cli.arguments import new_parser
from bluejay_ws.cli.dialling import RefusalProblem, check_url, dial
from bluejay_ws.cli.terminal import Problem, Terminal, clean
from bluejay_ws.delivery import admin as outbox
from bluejay_ws.delivery import filesystem
from bluejay_ws.delivery.http import HttpExchange, tls_context
from bluejay_ws.delivery.names import HELD, LIVE, PARKED
from bluejay_ws.delivery.outcomes import Answer, Phase
from bluejay_ws.exceptions import ConfigurationError, SpoolError
from bluejay_ws.settings import Settings, default_spool
from bluejay_ws.testing.caller import DigitalHuman

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator

    from bluejay_ws.cli.arguments import Commands
    from bluejay_ws.testing.caller import CallLog

__all__ = ["Finding", "add_parser", "run"]

LITTLE_SPACE = 100 * 2**20
CLOCK_SECONDS = 60.0
TIMEOUT = 10.0
LOOK_SECONDS = 0.5
NOBODY = "bluejay-ws-doctor"  # an id that no call has
STYLES = {"ok": "green", "note": "yellow", "wrong": "red"}
TEXT = """\
Checks the API key, the platform's URL and its TLS, the clock, the spool and its
file system; with the URL of an agent also that it refuses strangers with a 401
at the upgrade. Nothing is reported, and no call is recorded.

Exit code 1 means that something is wrong; notes are for you to judge.
"""


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at.

    Args:
        what: in a word.
        state: ``ok``, ``note`` or ``wrong``.
        words: what was found.
        remedy: what to do about it.
    """

    what: str
    state: str
    words: str
    remedy: str = ""


def add_parser(commands: Commands[argparse.ArgumentParser]) -> None:
    """Add the command to the command line."""
    parser = new_parser(commands, "doctor", "see whether this machine can record and deliver", TEXT)
    add = parser.add_argument
    add("url", nargs="?", metavar="URL", help="of an agent, such as ws://localhost:8765")
    add("--user", metavar="NAME", help="that the agent accepts")
    add("--password", metavar="WORD", default="", help="that the agent accepts")
    add("--spool", metavar="DIR", help="default: BLUEJAY_SPOOL, then the user's state directory")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace, terminal: Terminal) -> int:
    """Look at everything; return the exit code."""
    wrong = 0
    for finding in _findings(args):
        wrong += finding.state == "wrong"
        mark = terminal.paint(f"{finding.state:<5}", STYLES[finding.state])
        terminal.say(f"{mark}  {finding.what:<9} {clean(finding.words)}")
        if finding.remedy:
            terminal.wrapped(" " * 17, finding.remedy)
    return 1 if wrong else 0


def _findings(args: argparse.Namespace) -> Iterator[Finding]:
    try:
        settings = Settings.load(spool=args.spool)
    except ConfigurationError as error:
        yield Finding("settings", "wrong", f"{error.setting} {error.reason}", error.remedy)
    else:
        yield _key(settings)
        yield _platform(settings)
        yield _clock(settings)
        yield from _spool(settings)
    if args.url is not None:
        yield from _agent(args)


def _key(settings: Settings) -> Finding:
    if settings.api_key is None:
        remedy = "export the key of your Bluejay account; until then reports wait in the spool"
        return Finding("key", "wrong", "BLUEJAY_API_KEY is not set", remedy)
    return Finding("key", "ok", "BLUEJAY_API_KEY is set")


def _platform(settings: Settings) -> Finding:
    """Ask for a result that does not exist: the answer tells whether URL, TLS and key are right."""
    exchange = HttpExchange(settings, tls_context(settings))
    try:
        outcome = exchange.look(NOBODY)
    finally:
        exchange.close()
    if isinstance(outcome, Answer):
        return _answer(outcome.status, settings)
    remedies = {
        Phase.CERTIFICATE: "point SSL_CERT_FILE to the certificate of the authority that issued it",
        Phase.CONFIGURATION: "check BLUEJAY_API_URL, and the proxy of the environment",
    }
    remedy = remedies.get(outcome.phase, "check BLUEJAY_API_URL, the network, and the proxy of the environment")
    return Finding("platform", "wrong", f"no answer from {settings.base_url} ({outcome.reason})", remedy)


def _answer(status: int, settings: Settings) -> Finding:
    url = settings.base_url
    if status in {401, 403}:
        state = "note" if settings.api_key is None else "wrong"
        remedy = "" if settings.api_key is None else "is the key of this account, and copied whole?"
        return Finding("platform", state, f"{url} is reached, and refuses the key (HTTP {status})", remedy)
    if status in {200, 400, 404, 422}:
        return Finding("platform", "ok", f"{url} is reached")
    remedy = "check BLUEJAY_API_URL" if status < 500 else "try again later; reports wait in the spool until then"
    return Finding("platform", "wrong", f"{url} answers HTTP {status}", remedy)


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, req: Any, fp: Any, code: Any, msg: Any, headers: Any, newurl: Any) -> None:
        """Follow nothing."""


def _clock(settings: Settings) -> Finding:
    """Compare this machine's clock with the platform's ``Date``."""
    request = urllib.request.Request(f"{settings.base_url}/", method="HEAD")  # noqa: S310 - http or https: checked
    handlers = [_NoRedirect(), urllib.request.HTTPSHandler(context=ssl.create_default_context())]
    try:
        with urllib.request.build_opener(*handlers).open(request, timeout=TIMEOUT) as answer:
            date = answer.headers.get("Date", "")
    except urllib.error.HTTPError as error:
        date = error.headers.get("Date", "")
        error.close()
    except OSError:
        date = ""
    try:
        off = time.time() - parsedate_to_datetime(date).timestamp()
    except ValueError:
        return Finding("clock", "note", "cannot be compared: the platform tells no time")
    if abs(off) > CLOCK_SECONDS:
        remedy = "offsets do not depend on it, certificates and log times do: set it"
        return Finding("clock", "wrong", f"is {off:+.0f} s off the platform's", remedy)
    return Finding("clock", "ok", "agrees with the platform's")


def _spool(settings: Settings) -> Iterator[Finding]:
    directory = settings.spool or default_spool()
    try:
        filesystem.check(directory)
        waiting = outbox.entries(directory)
        left = sum(not entry.busy for entry in outbox.entries(directory, states=[LIVE]))
    except SpoolError as error:
        yield Finding("spool", "wrong", f"{error.path} {error.reason}", error.remedy)
        return
    kind = filesystem.type_of(directory)
    yield Finding("spool", "ok", f"{directory} can be used" + (f" ({kind})" if kind else ""))
    free = shutil.disk_usage(directory).free
    if free < LITTLE_SPACE:
        remedy = "make room: on a full disk calls are kept in memory only"
        yield Finding("space", "wrong", f"only {free / 2**20:.0f} MiB are free", remedy)
    else:
        yield Finding("space", "ok", f"{free / 2**30:.1f} GiB are free")
    stuck = sum(entry.name.state in {HELD, PARKED} for entry in waiting)
    if stuck:
        yield Finding("outbox", "note", f"{stuck} reports are held or parked", "see: bluejay-ws outbox")
    else:
        yield Finding("outbox", "ok", f"{len(waiting)} reports wait, none is held or parked")
    if left:
        remedy = "start the agent, which delivers them at its first call, or: bluejay-ws outbox deliver"
        yield Finding("calls", "note", f"{left} calls were left by a process that died", remedy)


def _agent(args: argparse.Namespace) -> Iterator[Finding]:
    """Dial without an id, so that nothing is recorded: as a stranger first, then with the credentials."""
    try:
        url = check_url(args.url)
        yield _stranger(_upgrade(url, None, ""))
        if args.user is not None:
            yield _guest(_upgrade(url, args.user, args.password))
    except Problem as problem:
        yield Finding("agent", "wrong", problem.message, problem.remedy)


def _upgrade(url: str, user: str | None, password: str) -> RefusalProblem | CallLog:
    """Return how the agent takes a caller with these credentials."""
    human = DigitalHuman(url, None, user=user, password=password, pace=0, close_timeout=2.0)

    async def look_in() -> CallLog:
        async with human.dial() as line:
            await line.listen(patience=LOOK_SECONDS)
        return line.log

    try:
        return dial(lambda: asyncio.run(look_in()), url)
    except RefusalProblem as refusal:
        return refusal


def _stranger(outcome: RefusalProblem | CallLog) -> Finding:
    remedy = "refuse at the upgrade, as basic_auth of websockets does: only a 401 makes the run REJECTED"
    if isinstance(outcome, RefusalProblem):
        if outcome.status == 401:
            return Finding("agent", "ok", "refuses strangers with a 401 at the upgrade")
        return Finding("agent", "note", f"refuses strangers with HTTP {outcome.status}, not with 401", remedy)
    if outcome.closed_by == "agent" and outcome.close_code == 1008:
        return Finding("agent", "wrong", "lets strangers in, then closes with 1008: the run is INCOMPLETED", remedy)
    return Finding("agent", "note", "lets strangers in", "ask for credentials if others can reach it")


def _guest(outcome: RefusalProblem | CallLog) -> Finding:
    if isinstance(outcome, RefusalProblem):
        return Finding("agent", "wrong", outcome.message, "check --user and --password, and what the agent expects")
    return Finding("agent", "ok", "accepts the credentials")
