"""`bluejay-ws outbox`: look after the reports that wait in a spool."""

from __future__ import annotations

import argparse
import contextlib
import json
import time
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bluejay_ws.cli.arguments import new_parser, seconds
from bluejay_ws.cli.pages import write_report_page
from bluejay_ws.cli.probe import SILENCES
from bluejay_ws.cli.result import add_result_option, result_for
from bluejay_ws.cli.terminal import Problem, Terminal, clean, plural
from bluejay_ws.cli.timeline import count_items, show_report
from bluejay_ws.client import Bluejay
from bluejay_ws.delivery import admin as outbox
from bluejay_ws.delivery.files import HELD, LIVE, PARKED, READY, SENDING, SENT, STATES
from bluejay_ws.delivery.postgres_admin import MOST, PostgresAdmin
from bluejay_ws.delivery.store import APART, DELETE_APART, SEND_APART
from bluejay_ws.settings import Settings, default_spool

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import TypeAlias

    from bluejay_ws.cli.arguments import Commands
    from bluejay_ws.delivery.admin import Entry
    from bluejay_ws.delivery.files import Name

    _Place: TypeAlias = "_Directory | PostgresAdmin"

POLL = 0.1
TO_SEND = (READY, SENDING)
SOON = "by a running agent within a minute, by `outbox deliver` now"
SOON_BY_FLEET = "by a running `bluejay-ws deliver`"
TEXT = """\
An ID is a simulation result id, or a report id where a call has several. Without an action, what waits is listed.

states:
  waiting    it is sent by itself, or tried again
  held       nobody knows whether Bluejay has it: look
             at the result, then release or delete it
  parked     Bluejay will not take it as it is
  live       the call lasts
  left       its process died; the next start delivers it
  delivered  Bluejay accepted it
"""
HTTP = {
    400: "Bluejay refused its content",
    401: "Bluejay refused the API key",
    403: "Bluejay refused the API key",
    404: "Bluejay knows no call with this id",
    409: "Bluejay matched no call, and wrote nothing",
    413: "it is too large for Bluejay",
    422: "Bluejay refused its content",
    429: "too many requests; it is tried again",
}
REASONS = {
    "already_delivered": "a report of this call was delivered before",
    "delivered": "accepted",
    "no_id": "the call never got an id",
    "not_found": "Bluejay knows no call with this id",
    "process_lost": "its process ended before the call did",
    "released": "released by hand",
    "retry": "to be tried again, by hand",
    "sending": "on its way",
    "unreadable": "its file cannot be read",
    **{name: f"the platform does not answer: {words}" for name, words in SILENCES.items()},
}
KEPT_APART = "kept apart: recorded without an API key, or by a test"
GONE = "was delivered, and its text is gone from here"


def add_parser(commands: Commands[argparse.ArgumentParser]) -> None:
    """Add the command, with one subcommand for each action."""
    parser = new_parser(commands, "outbox", "look after the reports that wait in a spool", TEXT)
    _add_spool(parser, None)
    parser.set_defaults(run=run, action=_list, all=False)
    actions = parser.add_subparsers(title="actions", metavar="ACTION")
    listing = _add_action(actions, "list", "what waits, is held or is parked", _list)
    listing.add_argument("--all", action="store_true", help="live calls and delivered reports too")
    showing = _add_action(actions, "show", "reports as timelines, without what was said", _show)
    showing.add_argument("ids", nargs="+", metavar="ID")
    showing.add_argument("--html", metavar="FILE", type=Path, help="write a page with everything that was said")
    words = "with --html: what the platform shows (a file of `result ID --json`; without FILE it is asked)"
    add_result_option(showing, words)
    showing.add_argument("--text", action="store_true", help="with what was said, parameters, outputs and metadata")
    delivering = _add_action(actions, "deliver", "send what waits, now and from here", _deliver)
    delivering.add_argument("--seconds", metavar="S", type=seconds, default=30.0, help="how long to try (30)")
    delivering.add_argument(
        "--kept-apart", action="store_true", help="also what was recorded without a key or by a test"
    )
    _add_choice(_add_action(actions, "retry", "let held or parked reports be delivered in the usual way", _retry))
    _add_choice(_add_action(actions, "release", "send held or parked reports without looking for them first", _release))
    _add_action(actions, "export", "a report as JSON, as Bluejay would get it", _export).add_argument(
        "ids", nargs=1, metavar="ID"
    )
    deleting = _add_action(actions, "delete", "remove reports for good", _delete)
    _add_choice(deleting)
    deleting.add_argument("--kept-apart", action="store_true", help="all that was recorded without a key or by a test")
    deleting.add_argument("--yes", action="store_true", help="really")


def _add_action(
    actions: Commands[argparse.ArgumentParser], name: str, summary: str, action: Callable[..., int]
) -> argparse.ArgumentParser:
    parser = new_parser(actions, name, summary)
    _add_spool(parser, argparse.SUPPRESS)  # what was said before the action counts too
    parser.set_defaults(action=action)
    return parser


def _add_spool(parser: argparse.ArgumentParser, default: str | None) -> None:
    words = "default: BLUEJAY_SPOOL, then the user's state directory"
    parser.add_argument("--spool", metavar="DIR", default=default, help=words)


def _add_choice(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("ids", nargs="*", metavar="ID")
    parser.add_argument("--state", choices=[HELD, PARKED], help="all reports in this state")


def run(args: argparse.Namespace, terminal: Terminal) -> int:
    """Do one action; return the exit code.

    Raises:
        Problem: it could not be done, or there is no spool.
    """
    code: int = args.action(args, _place(args.spool), terminal)
    return code


class _Directory:
    """The reports in a directory; `PostgresAdmin` is the same for a fleet's database."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.find = partial(outbox.find, directory)
        self.export = partial(outbox.export, directory)
        self.retry = partial(outbox.retry, directory)
        self.release = partial(outbox.release, directory)
        self.delete = partial(outbox.delete, directory)

    def __str__(self) -> str:
        return str(self.directory)

    def entries(self, *, states: Sequence[str] = outbox.WAITING) -> list[Entry]:
        return outbox.entries(self.directory, states=states)

    def apart(self) -> list[Entry]:
        """Return what was recorded without a key, or by a test: it leaves only when a person says so."""
        return outbox.entries(self.directory, place=APART)


def _place(spool: str | None) -> _Place:
    settings = Settings.load(spool=spool)
    if settings.database is not None:
        return PostgresAdmin(settings.database.reveal())
    directory = settings.spool or default_spool()
    if not directory.is_dir():
        raise Problem(f"there is no spool at {directory}", "give its directory with --spool, or BLUEJAY_SPOOL")
    return _Directory(directory)


def _list(args: argparse.Namespace, place: _Place, terminal: Terminal) -> int:
    found = place.entries(states=STATES if args.all else outbox.WAITING)
    terminal.document({"spool": str(place), "reports": [_as_dict(entry) for entry in found]})
    if not found:
        terminal.say(f"Nothing waits in {clean(str(place))}.")
        return 0
    rows = [
        [
            state_of(entry),
            entry.name.identity,
            age_of(entry.age),
            "-" if entry.busy and not entry.counts else str(sum(count for _, count in entry.counts)),
            str(entry.attempts),
            reason_of(entry.reason, entry.detail) or (KEPT_APART if entry.kept_apart else ""),
        ]
        for entry in found
    ]
    terminal.table(["state", "call", "age", "items", "tries", "reason"], rows)
    if any(entry.kept_apart for entry in found):
        terminal.wrapped("", f"To send what is kept apart: {SEND_APART}; to delete it: {DELETE_APART}")
    if len(found) == MOST:
        terminal.say(f"There may be more: only {MOST:,} are listed.")
    return 0


def _as_dict(entry: Entry) -> dict[str, Any]:
    return {
        "call": entry.name.identity,
        "report": entry.name.report_id,
        "state": state_of(entry),
        "reason": entry.reason,
        "detail": entry.detail,
        "words": reason_of(entry.reason, entry.detail),
        "attempts": entry.attempts,
        "items": dict(entry.counts),
        "age_s": round(entry.age, 1),
        "bytes": entry.size,
    }


def state_of(entry: Entry) -> str:
    """Return the state of a report in a person's words."""
    if entry.name.state == LIVE:
        return "live" if entry.busy else "left"
    return {READY: "waiting", SENDING: "waiting", SENT: "delivered"}.get(entry.name.state, entry.name.state)


def reason_of(reason: str, detail: str = "") -> str:
    """Return why a report is where it is, in words; the caller's own are never among them."""
    kind, _, status = reason.removesuffix("_unexpected_body").partition(".")
    if kind == "http" and status.isdigit():
        otherwise = "not accepted" if 300 <= int(status) < 500 else "the outcome is unknown"
        words = f"{HTTP.get(int(status), otherwise)} ({status})"
    else:
        words = REASONS.get(reason, reason.replace("_", " ").replace(".", ": "))
    return f"{words}: {detail}" if detail else words


def _show(args: argparse.Namespace, place: _Place, terminal: Terminal) -> int:
    names = _found(args.ids, place)
    for name in names:
        if name.state == SENT:
            terminal.document({"call": name.identity, "report_id": name.report_id, "state": SENT, "report": None})
            terminal.say(f"call {name.identity}, report {name.report_id}: {GONE}")
            continue
        report = json.loads(place.export(name))
        shown = report if args.text else without_text(report)
        terminal.document({"call": name.identity, "report_id": name.report_id, "state": name.state, "report": shown})
        terminal.say(terminal.paint(f"call {name.identity}, report {name.report_id}, {name.state}", "bold"))
        show_report(shown, terminal)
        terminal.say(f"  {count_items(report)}")
        if args.html is not None:
            page = args.html if len(names) == 1 else args.html.with_stem(f"{args.html.stem}-{name.report_id}")
            reason = next((one.reason for one in place.entries(states=STATES) if one.name == name), "")
            result = None if args.result is None else result_for(name.identity, args.result)
            delivery = {"state": name.state, "reason": reason}
            write_report_page(report, page, terminal, delivery=delivery, result=result)
    return 0


def _export(args: argparse.Namespace, place: _Place, terminal: Terminal) -> int:
    names = _found(args.ids, place)
    if len(names) > 1:
        raise Problem(f"call {args.ids[0]} has {len(names)} reports", "give a report id; `outbox show` lists them")
    if names[0].state == SENT:
        raise Problem(f"report {names[0].report_id} {GONE}", f"see: bluejay-ws result {names[0].identity}")
    body = place.export(names[0])
    terminal.say(body.decode())
    terminal.document(json.loads(body))
    return 0


def _retry(args: argparse.Namespace, place: _Place, terminal: Terminal) -> int:
    return _change(place.retry, f"will be looked for, then sent, {_soon(place)}", args, place, terminal)


def _release(args: argparse.Namespace, place: _Place, terminal: Terminal) -> int:
    return _change(place.release, f"will be sent, {_soon(place)}", args, place, terminal)


def _soon(place: _Place) -> str:
    return SOON_BY_FLEET if isinstance(place, PostgresAdmin) else SOON


def _change(
    change: Callable[[Name], Name], words: str, args: argparse.Namespace, place: _Place, terminal: Terminal
) -> int:
    names = _chosen(args, place, (HELD, PARKED))
    for name in names:
        change(name)
        terminal.wrapped("", f"call {name.identity}: {words}")
    terminal.document({"changed": [name.identity for name in names]})
    _say_rest(names, args, terminal)
    return 0


def _say_rest(names: Sequence[Name], args: argparse.Namespace, terminal: Terminal) -> None:
    if not names:
        terminal.say(f"No report is {args.state or 'kept apart'}.")
    elif len(names) == MOST:
        terminal.say("There may be more: say it once more.")


def _delete(args: argparse.Namespace, place: _Place, terminal: Terminal) -> int:
    names = _chosen(args, place, STATES)
    if names and not args.yes:
        raise Problem(f"this would remove {plural(len(names), 'report')} for good", "say --yes if you want that")
    for name in names:
        place.delete(name)
        terminal.say(f"call {name.identity}: its {name.state} report is gone")
    terminal.document({"deleted": [name.identity for name in names]})
    _say_rest(names, args, terminal)
    return 0


def _deliver(args: argparse.Namespace, place: _Place, terminal: Terminal) -> int:
    """Deliver what waits, as an agent's process would at its start."""
    if Settings.load().api_key is None:
        raise Problem("BLUEJAY_API_KEY is not set", "export the key that the reports are to be sent with", exit_code=2)
    if isinstance(place, PostgresAdmin):
        raise Problem("a fleet has processes for that", "run: bluejay-ws deliver --until-empty", exit_code=2)
    if args.kept_apart:
        for entry in place.apart():
            outbox.send_to(place.directory, entry.name, Settings.load().destination)
    before = _waiting(place.entries(states=TO_SEND))
    if before:
        with terminal.waiting(f"sending {plural(before, 'report')}"):
            _send(place, args.seconds)
    entries = place.entries()
    left = _waiting(entries)
    stuck = len(entries) - left
    terminal.document({"settled": before - left, "waiting": left, "held_or_parked": stuck})
    if before:
        rest = f"; {plural(left, 'report')} still waiting" if left else ""
        terminal.say(f"{plural(before - left, 'report')} settled{rest}.")
    if not terminal.json_only:
        _list(args, place, terminal)
    return 1 if left or stuck else 0


def _send(place: _Directory, patience: float) -> None:
    with contextlib.closing(Bluejay(spool=place.directory, flush_timeout=0.0)) as bluejay:
        bluejay.sender.start()
        until = time.monotonic() + patience
        # A file that is renamed at this moment is in no listing; the sender still counts it.
        while _waiting(place.entries(states=TO_SEND)) or bluejay.sender.pending():
            if time.monotonic() >= until:
                return
            time.sleep(POLL)


def _waiting(entries: Sequence[Entry]) -> int:
    """Return how many reports wait that a delivery from here sends: those for this platform."""
    mine = {"", Settings.load().destination}
    return sum(entry.place in mine and entry.name.state in TO_SEND for entry in entries)


def _found(ids: Sequence[str], place: _Place) -> list[Name]:
    return [name for wanted in ids for name in place.find(wanted)]


def _chosen(args: argparse.Namespace, place: _Place, states: Sequence[str]) -> list[Name]:
    """Return the files that the arguments mean, those in other states left out."""
    if args.state:
        return [entry.name for entry in place.entries(states=[args.state])]
    if getattr(args, "kept_apart", False) and isinstance(place, _Directory):
        return [entry.name for entry in place.apart()]
    if not args.ids:
        raise Problem("of which call or report?", "give ids, or --state held, or --state parked", exit_code=2)
    found = _found(args.ids, place)
    usable = [name for name in found if name.state in states]
    if not usable:
        raise Problem(f"call {found[0].identity} is {found[0].state}", f"choose one that is {' or '.join(states)}")
    return usable


def without_text(report: dict[str, Any]) -> dict[str, Any]:
    """Return the report with names, titles and times only: without words and parameters."""
    return {
        "recorded_transcript": [
            {**item, "utterance": f"({plural(len(item['utterance']), 'character')})"}
            for item in report.get("recorded_transcript") or []
        ],
        "tool_calls": [_bare(item, "name") for item in report.get("tool_calls") or []],
        "events": [_bare(item, "title", "end_offset_ms") for item in report.get("events") or []],
    }


def _bare(item: dict[str, Any], *keys: str) -> dict[str, Any]:
    return {key: item[key] for key in ("start_offset_ms", *keys) if key in item}


def age_of(age: float) -> str:
    """Return seconds as a person says them: ``40 s``, ``12 min``, ``3 h``, ``9 d``."""
    for size, unit in ((86_400, "d"), (3_600, "h"), (60, "min")):
        if age >= size:
            return f"{age / size:.0f} {unit}"
    return f"{age:.0f} s"
