"""`bluejay-ws outbox`: look after the reports that wait in a spool."""

from __future__ import annotations

import argparse
import contextlib
import json
import time
from typing import TYPE_CHECKING, Any

from bluejay_ws.cli.arguments import new_parser, seconds
from bluejay_ws.cli.terminal import Problem, Terminal, clean
from bluejay_ws.cli.timeline import count_items, show_report
from bluejay_ws.client import Bluejay
from bluejay_ws.delivery import admin as outbox
from bluejay_ws.delivery.names import HELD, PARKED, READY, SENDING, STATES
from bluejay_ws.exceptions import ConfigurationError, SpoolError
from bluejay_ws.settings import Settings, default_spool

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from bluejay_ws.cli.arguments import Commands
    from bluejay_ws.delivery.admin import Entry
    from bluejay_ws.delivery.names import Name

__all__ = ["add_parser", "age_of", "run", "without_text"]

POLL = 0.1
SOON = "by a running agent within a minute, by `outbox deliver` now"
TEXT = """\
An ID is a simulation result id, or a report id where a call has several.
Without an action, what waits is listed.
"""


def add_parser(commands: Commands[argparse.ArgumentParser]) -> None:
    """Add the command, with one subcommand for each action."""
    parser = new_parser(commands, "outbox", "look after the reports that wait in a spool", TEXT)
    _add_spool(parser, None)
    parser.set_defaults(run=run, action=_list, all=False)
    actions = parser.add_subparsers(title="actions", metavar="ACTION")
    listing = _add_action(actions, "list", "what waits, is held or is parked", _list)
    listing.add_argument("--all", action="store_true", help="calls that go on and delivered reports too")
    showing = _add_action(actions, "show", "reports as timelines, without what was said", _show)
    showing.add_argument("ids", nargs="+", metavar="ID")
    showing.add_argument("--text", action="store_true", help="with what was said, parameters, outputs and metadata")
    delivering = _add_action(actions, "deliver", "send what waits, now and from here", _deliver)
    delivering.add_argument("--seconds", metavar="S", type=seconds, default=30.0, help="how long to try (30)")
    _add_choice(_add_action(actions, "retry", "let held or parked reports be delivered in the usual way", _retry))
    _add_choice(_add_action(actions, "release", "send held or parked reports without looking for them first", _release))
    _add_action(actions, "export", "a report as JSON, as the platform would get it", _export).add_argument(
        "ids", nargs=1, metavar="ID"
    )
    deleting = _add_action(actions, "delete", "remove reports for good", _delete)
    _add_choice(deleting)
    deleting.add_argument("--yes", action="store_true", help="really")


def _add_action(
    actions: Commands[argparse.ArgumentParser], name: str, summary: str, action: Callable[..., int]
) -> argparse.ArgumentParser:
    parser = new_parser(actions, name, summary, "")
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
        Problem: it could not be done.
    """
    try:
        directory = Settings.load(spool=args.spool).spool or default_spool()
        code: int = args.action(args, directory, terminal)
    except ConfigurationError as error:
        raise Problem(f"{error.setting} {error.reason}", error.remedy, exit_code=2) from None
    except SpoolError as error:
        raise Problem(f"{error.path} {error.reason}", error.remedy) from None
    return code


def _list(args: argparse.Namespace, directory: Path, terminal: Terminal) -> int:
    found = outbox.entries(directory, states=STATES if args.all else outbox.WAITING)
    if not found:
        terminal.say(f"Nothing waits in {clean(str(directory))}.")
        return 0
    width = max(4, *(len(entry.name.identity) for entry in found))
    terminal.say(
        terminal.paint(f"{'state':<8} {'call':<{width}}  {'age':>6} {'items':>6} {'tries':>6}  reason", "bold")
    )
    for entry in found:
        _list_one(entry, width, terminal)
    return 0


def _list_one(entry: Entry, width: int, terminal: Terminal) -> None:
    style = {HELD: "yellow", PARKED: "red"}.get(entry.name.state, "")
    items = sum(count for _, count in entry.counts)
    reason = ": ".join(word for word in (entry.reason, entry.detail) if word)
    state = terminal.paint(f"{entry.name.state:<8}", style)
    row = f"{entry.name.identity:<{width}}  {age_of(entry.age):>6} {items:>6} {entry.attempts:>6}  {clean(reason)}"
    terminal.say(f"{state} {row}".rstrip())


def _show(args: argparse.Namespace, directory: Path, terminal: Terminal) -> int:
    for name in _found(args.ids, directory):
        report = json.loads(outbox.export(directory, name))
        terminal.say(terminal.paint(f"call {name.identity}, report {name.report_id}, {name.state}", "bold"))
        show_report(report if args.text else without_text(report), terminal)
        terminal.say(f"  {count_items(report)}")
    return 0


def _export(args: argparse.Namespace, directory: Path, terminal: Terminal) -> int:
    names = _found(args.ids, directory)
    if len(names) > 1:
        raise Problem(f"call {args.ids[0]} has {len(names)} reports", "give a report id; `outbox show` tells them")
    terminal.say(outbox.export(directory, names[0]).decode())
    return 0


def _retry(args: argparse.Namespace, directory: Path, terminal: Terminal) -> int:
    return _change(outbox.retry, f"will be looked for, then sent, {SOON}", args, directory, terminal)


def _release(args: argparse.Namespace, directory: Path, terminal: Terminal) -> int:
    return _change(outbox.release, f"will be sent, {SOON}", args, directory, terminal)


def _change(
    change: Callable[[Path, Name], Name], words: str, args: argparse.Namespace, directory: Path, terminal: Terminal
) -> int:
    for name in _chosen(args, directory, (HELD, PARKED)):
        change(directory, name)
        terminal.say(f"call {name.identity}: {words}")
    return 0


def _delete(args: argparse.Namespace, directory: Path, terminal: Terminal) -> int:
    names = _chosen(args, directory, STATES)
    if not args.yes:
        raise Problem(f"this would remove {len(names)} report(s) for good", "say --yes if that is what you want")
    for name in names:
        outbox.delete(directory, name)
        terminal.say(f"call {name.identity}: its {name.state} report is gone")
    return 0


def _deliver(args: argparse.Namespace, directory: Path, terminal: Terminal) -> int:
    """Deliver what waits, as an agent's process would at its start."""
    if Settings.load().api_key is None:
        raise Problem("BLUEJAY_API_KEY is not set", "export the key that the reports are to be sent with", exit_code=2)
    before = _waiting(directory)
    with contextlib.closing(Bluejay(spool=directory, flush_timeout=0.0)) as bluejay:
        bluejay.sender.start()
        until = time.monotonic() + args.seconds
        while _waiting(directory) and time.monotonic() < until:
            time.sleep(POLL)
    after = outbox.entries(directory)
    terminal.say(f"{before - _waiting(directory)} of {before} waiting reports are settled.")
    _list(args, directory, terminal)
    return 1 if after else 0


def _waiting(directory: Path) -> int:
    return len(outbox.entries(directory, states=(READY, SENDING)))


def _found(ids: Sequence[str], directory: Path) -> list[Name]:
    return [name for wanted in ids for name in outbox.find(directory, wanted)]


def _chosen(args: argparse.Namespace, directory: Path, states: Sequence[str]) -> list[Name]:
    """Return the files that the arguments mean, those in other states left out."""
    if args.state:
        return [entry.name for entry in outbox.entries(directory, states=[args.state])]
    if not args.ids:
        raise Problem("of which call or report?", "give ids, or --state held, or --state parked", exit_code=2)
    found = _found(args.ids, directory)
    usable = [name for name in found if name.state in states]
    if not usable:
        raise Problem(f"call {found[0].identity} is {found[0].state}", f"choose one that is {' or '.join(states)}")
    return usable


def without_text(report: dict[str, Any]) -> dict[str, Any]:
    """Return the report with names, titles and times only: what people said and tools were told is left out."""
    return {
        "recorded_transcript": [
            {**item, "utterance": f"({len(item['utterance'])} characters)"}
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
