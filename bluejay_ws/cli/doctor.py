"""`bluejay-ws doctor`: check whether this machine can record and deliver, and say what to do where it cannot."""

from __future__ import annotations

import asyncio
import os
import shutil
import time
import urllib.request
from collections import Counter
from dataclasses import asdict, dataclass
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any
from urllib.error import HTTPError

from bluejay_ws.cli.arguments import new_parser
from bluejay_ws.cli.dialling import RefusalProblem, check_url, dial
from bluejay_ws.cli.probe import NO_WAY, SILENCES, ask, culprit
from bluejay_ws.cli.terminal import Problem, Terminal, plural
from bluejay_ws.delivery import admin as outbox
from bluejay_ws.delivery import filesystem
from bluejay_ws.delivery.files import HELD, LIVE, PARKED, READY, SENDING
from bluejay_ws.delivery.http import (
    NO_WAY_THERE,
    NOT_TRUSTED,
    ODD_NO_PROXY,
    PLAIN_NO_PROXY,
    PROXY_VARIABLES,
    first_set,
    named_proxy,
    odd_no_proxy,
    tls_context,
)
from bluejay_ws.delivery.postgres_admin import PostgresAdmin
from bluejay_ws.delivery.store import DELETE_APART, SEND_APART
from bluejay_ws.exceptions import ConfigurationError, SpoolError
from bluejay_ws.settings import Secret, Settings, default_spool
from bluejay_ws.testing.caller import DigitalHuman

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from bluejay_ws.cli.arguments import Commands
    from bluejay_ws.testing.caller import CallLog

KEY = "BLUEJAY_API_KEY"
KEPT = (LIVE, READY, SENDING, HELD, PARKED)
LITTLE_SPACE = 100 * 2**20
FEW_INODES = 1_000
CLOCK_SECONDS = 60.0
TIMEOUT = 10.0
LOOK_SECONDS = 0.5
NO_ANSWER = "no answer from"
STYLES = {"ok": "green", "note": "yellow", "wrong": "red"}
INDENT = 17
ANSWERS = {
    "bluejay": ("Bluejay's API answers at {url}", ""),
    "refused": ("{url} is reached, and refuses the key ({said})", "is the key of this account, and copied whole?"),
    "certificate": (f"{NO_ANSWER} {{url}} ({{said}})", NOT_TRUSTED),
    "silent": (f"{NO_ANSWER} {{url}}: {{said}}", NO_WAY_THERE),
    "failing": ("{url} answers {said}", "try again later; reports wait in the spool until then"),
    "other": (
        "{url} answers {said}, and not as Bluejay's API does",
        "check BLUEJAY_API_URL: a proxy, a login page or another service may answer in its place",
    ),
}
"""What an answer of the platform's means, and what to do about it."""
TEXT = """\
Checks the API key, the proxy and certificate variables, that Bluejay's API answers, the clock, the spool with its disk,
and the reports that wait. With the URL of an agent it also checks that the agent refuses strangers with a 401 at the
upgrade. Nothing is reported, and no call is recorded.

exit codes:
  0  nothing is wrong; notes are for you to judge
  1  something is wrong
"""


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was checked: ``ok``, ``note`` or ``wrong``, what was found, and what to do about it."""

    what: str
    state: str
    words: str
    remedy: str = ""


NO_DATE = Finding("clock", "note", "cannot be compared: the platform gives no date")


def add_parser(commands: Commands[argparse.ArgumentParser]) -> None:
    """Add the command to the command line."""
    parser = new_parser(commands, "doctor", "check whether this machine can record and deliver", TEXT)
    add = parser.add_argument
    add("url", nargs="?", metavar="URL", help="of an agent, such as ws://localhost:8765")
    add("--user", metavar="NAME", help="that the agent accepts")
    add("--password", metavar="WORD", default="", help="that the agent accepts")
    add("--spool", metavar="DIR", help="default: BLUEJAY_SPOOL, then the user's state directory")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace, terminal: Terminal) -> int:
    """Check everything; return the exit code."""
    found = []
    with terminal.waiting("checking"):
        for finding in _findings(args):
            found.append(finding)
            _show(finding, terminal)
    wrong = sum(finding.state == "wrong" for finding in found)
    terminal.document({"findings": [asdict(finding) for finding in found], "wrong": wrong})
    return 1 if wrong else 0


def _show(finding: Finding, terminal: Terminal) -> None:
    label = f"{finding.state:<5}  {finding.what:<9} "
    terminal.wrapped(label, finding.words, style=STYLES[finding.state], whole_words=True)
    if finding.remedy:
        terminal.wrapped(" " * INDENT, finding.remedy, whole_words=True)


def _findings(args: argparse.Namespace) -> Iterator[Finding]:
    settings = _settings(args)
    fleet = isinstance(settings, Settings) and settings.database is not None
    yield from _checked("key", lambda: _key(fleet=fleet))
    if isinstance(settings, Finding):
        yield settings
        return
    reached = True
    for finding in _platform(settings):
        reached = reached and not finding.words.startswith(NO_ANSWER)
        yield finding
    yield from _checked("clock", lambda: [_clock(settings)] if reached else [NO_DATE])
    yield from _checked("spool", lambda: _spool(settings))
    yield from _checked("database", lambda: _database(settings))
    if args.url is not None:
        yield from _checked("agent", lambda: _agent(args))


def _checked(what: str, check: Callable[[], Iterable[Finding]]) -> Iterator[Finding]:
    """Run one check; one that fails itself is a finding, never a traceback."""
    try:
        yield from check()
    except Exception as error:  # noqa: BLE001 - the other checks are made too
        yield Finding(what, "wrong", f"the check itself failed ({type(error).__name__})", "please report this")


def _settings(args: argparse.Namespace) -> Settings | Finding:
    """Return the settings without the key, which has a finding of its own, or why there are none."""
    environ = {name: value for name, value in os.environ.items() if name != KEY}
    try:
        try:
            return Settings.load(spool=args.spool)
        except ConfigurationError as error:
            if error.setting != KEY:
                raise
            return Settings.load(spool=args.spool, environ=environ)
    except ConfigurationError as error:
        return Finding("settings", "wrong", f"{error.setting} {error.reason}", error.remedy)


def _key(*, fleet: bool) -> Iterator[Finding]:
    given = Secret(os.environ.get(KEY, ""))
    key = given.stripped()
    if not key.reveal() and fleet:
        yield Finding("key", "note", f"{KEY} is not set: this process hands over, others deliver")
    elif not key.reveal():
        remedy = "export the key of your Bluejay account; what is recorded before is kept until you send it"
        yield Finding("key", "wrong", f"{KEY} is not set", remedy)
    elif not key.fits_a_header():
        words = f"{KEY} holds blanks, line ends or characters that no header can carry"
        yield Finding("key", "wrong", words, "copy the key again")
    elif key != given:
        yield Finding("key", "note", f"{KEY} has blanks, line ends or quotes round it; they are left out")
    else:
        yield Finding("key", "ok", f"{KEY} is set")


def _platform(settings: Settings) -> Iterator[Finding]:
    """Find out whether an HTTP client can be made, and whether Bluejay's own API answers it."""
    broken = None
    for finding in _checked("proxy", lambda: _client(settings)):
        broken = broken or finding.state == "wrong"
        yield finding
    if broken:
        yield Finding("platform", "note", f"{settings.base_url} was not asked: no client can be made")
    else:
        yield from _checked("platform", lambda: [_answer(settings)])


def _client(settings: Settings) -> Iterator[Finding]:
    client = culprit(settings)
    if client.variable:
        what = "certs" if client.variable.startswith("SSL_") else "proxy"
        yield Finding(what, "wrong", f"{client.variable} {client.reason}", client.remedy)
        return
    if named_proxy(settings.base_url):
        yield Finding("proxy", "ok", f"{_proxy_variable()} is set: reports go through a proxy")
    if name := odd_no_proxy():
        yield Finding("proxy", "note", f"{name} {ODD_NO_PROXY}", PLAIN_NO_PROXY)


def _answer(settings: Settings) -> Finding:
    reply = ask(settings)
    state, (text, remedy) = "ok" if reply.kind == "bluejay" else "wrong", ANSWERS[reply.kind]
    if reply.kind == "refused" and settings.api_key is None:
        state, remedy = "note", ""
    if reply.kind == "silent" and reply.words in NO_WAY and named_proxy(settings.base_url):
        remedy = f"mend {_proxy_variable()}, or name the platform's host in NO_PROXY"
        return Finding("platform", "wrong", f"{NO_ANSWER} the proxy: {SILENCES[reply.words]}", remedy)
    said = SILENCES.get(reply.words, reply.words.replace("_", " ")) if reply.kind == "silent" else reply.words
    return Finding("platform", state, text.format(url=settings.base_url, said=said), remedy)


def _proxy_variable() -> str:
    return first_set(*PROXY_VARIABLES).upper() or "a proxy in the system's settings"


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, req: Any, fp: Any, code: Any, msg: Any, headers: Any, newurl: Any) -> None:
        """Follow nothing."""


def _clock(settings: Settings) -> Finding:
    """Compare this machine's clock with the platform's ``Date``."""
    try:
        off = time.time() - parsedate_to_datetime(_date(settings)).timestamp()
    except Exception:  # noqa: BLE001 - whatever it is, it says nothing of the clock
        return NO_DATE
    if abs(off) > CLOCK_SECONDS:
        remedy = "set it: offsets do not depend on it, but certificates and log times do"
        return Finding("clock", "wrong", f"is {off:+.0f} s off the platform's", remedy)
    return Finding("clock", "ok", "agrees with the platform's")


def _date(settings: Settings) -> str:
    request = urllib.request.Request(f"{settings.base_url}/", method="HEAD")  # noqa: S310 - http or https: checked
    handlers: list[urllib.request.BaseHandler] = [_NoRedirect()]
    if settings.base_url.startswith("https:"):
        handlers.append(urllib.request.HTTPSHandler(context=tls_context(settings)))
    else:
        handlers.append(urllib.request.ProxyHandler({}))  # plain http is for this machine
    try:
        with urllib.request.build_opener(*handlers).open(request, timeout=TIMEOUT) as answer:
            return str(answer.headers.get("Date", ""))
    except HTTPError as error:
        with error:
            return str(error.headers.get("Date", ""))


def _spool(settings: Settings) -> Iterator[Finding]:
    try:
        directory = settings.spool or default_spool()
        filesystem.check(directory)
        kept = [entry for entry in outbox.entries(directory, states=KEPT) if entry.name.state != LIVE or not entry.busy]
    except (SpoolError, ConfigurationError) as error:
        yield Finding("spool", "wrong", f"{error.args[0]} {error.reason}", error.remedy)
        return
    kind = filesystem.type_of(directory)
    yield Finding("spool", "ok", f"{directory} can be used" + (f" ({kind})" if kind else ""))
    yield _space(str(directory))
    mine = [entry for entry in kept if entry.place in {"", settings.destination}]
    yield from _outbox([entry for entry in mine if entry.name.state != LIVE])
    if left := sum(entry.name.state == LIVE for entry in mine):
        remedy = "start the agent, which delivers them at its first call, or: bluejay-ws outbox deliver"
        yield Finding("calls", "note", f"{plural(left, 'call')} left by a process that died", remedy)
    if apart := sum(entry.kept_apart for entry in kept):  # these leave only when a person says so
        words = f"{plural(apart, 'report')} recorded without an API key or by a test: not sent until you say so"
        yield Finding("apart", "note", words, f"send: {SEND_APART}; delete: {DELETE_APART}")
    others = Counter(entry.place for entry in kept if entry not in mine and not entry.kept_apart)
    yield from _elsewhere(others, settings.destination)


def _outbox(waiting: Sequence[outbox.Entry]) -> Iterator[Finding]:
    stuck = sum(entry.name.state in {HELD, PARKED} for entry in waiting)
    if stuck:
        yield Finding("outbox", "note", f"{plural(stuck, 'report')} held or parked", "see: bluejay-ws outbox")
    elif waiting:
        yield Finding("outbox", "ok", f"{plural(len(waiting), 'report')} waiting; none is held or parked")
    else:
        yield Finding("outbox", "ok", "no report waits")


def _elsewhere(counts: Mapping[str, int], destination: str) -> Iterator[Finding]:
    """Tell of reports that were recorded for other platforms: a delivery from here does not send them."""
    if counts:
        places = ", ".join(f"{count} for {_address(place)}" for place, count in sorted(counts.items()))
        words = f"{plural(sum(counts.values()), 'report')} recorded for another platform ({places})"
        remedy = (
            f"this machine now reports to {_address(destination)}: to send them, set BLUEJAY_API_URL as it was, "
            "and run: bluejay-ws outbox deliver"
        )
        yield Finding("elsewhere", "note", words, remedy)


def _address(place: str) -> str:
    """Return a spool's place as the address that it was named after."""
    parts = place.split("_")
    return "{}://{}:{}".format(*parts) if len(parts) == 3 else place


def _space(directory: str) -> Finding:
    free = shutil.disk_usage(directory).free
    if free < LITTLE_SPACE:
        remedy = "make room: on a full disk calls are kept in memory only"
        return Finding("space", "wrong", f"only {free / 2**20:.0f} MiB are free", remedy)
    inodes = _inodes(directory)
    if inodes < FEW_INODES:
        remedy = "remove files: each call needs one, and without inodes calls are kept in memory only"
        return Finding("space", "wrong", f"only {plural(inodes, 'inode')} free", remedy)
    return Finding("space", "ok", f"{free / 2**30:.1f} GiB are free")


def _inodes(directory: str) -> int:
    """Return how many files more can be made; plenty where the file system does not count them."""
    facts = os.statvfs(directory)
    return facts.f_favail if facts.f_files else FEW_INODES


def _database(settings: Settings) -> Iterator[Finding]:
    if settings.database is None:
        return
    try:
        for found in PostgresAdmin(settings.database.reveal()).health():
            yield Finding(found.what, found.state, found.words, found.remedy)
    except ConfigurationError as error:
        yield Finding("database", "wrong", f"{error.setting} {error.reason}", error.remedy)


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
    remedy = (
        "refuse at the upgrade, as basic_auth of websockets does: Bluejay reports only a 401 as WEBSOCKET_AUTH_FAILED"
    )
    if isinstance(outcome, RefusalProblem):
        if outcome.status == 401:
            return Finding("agent", "ok", "refuses strangers with a 401 at the upgrade")
        return Finding("agent", "note", f"refuses strangers with HTTP {outcome.status}, not with 401", remedy)
    if outcome.closed_by == "agent" and outcome.close_code == 1008:
        words = "lets strangers in, then closes with 1008: Bluejay takes that for CALL_DROPPED"
        return Finding("agent", "wrong", words, remedy)
    return Finding("agent", "note", "lets strangers in", "ask for credentials if others can reach it")


def _guest(outcome: RefusalProblem | CallLog) -> Finding:
    if isinstance(outcome, RefusalProblem):
        return Finding("agent", "wrong", outcome.message, "check --user and --password, and what the agent expects")
    return Finding("agent", "ok", "accepts the credentials")
