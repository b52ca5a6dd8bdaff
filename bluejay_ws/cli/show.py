"""`bluejay-ws show`: one report as a page, or as lines."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bluejay_ws.cli.arguments import new_parser, seconds
from bluejay_ws.cli.pages import write_report_page
from bluejay_ws.cli.result import add_result_option, result_for
from bluejay_ws.cli.terminal import Problem, Terminal, clean, words_of
from bluejay_ws.timeline.page import view
from bluejay_ws.timeline.verdict import THRESHOLD_MS

if TYPE_CHECKING:
    import argparse

    from bluejay_ws.cli.arguments import Commands

UNREADABLE = 2
TEXT = """\
REPORT is the JSON of one report: the body of an accepted request, what
`bluejay-ws outbox export ID` writes, or what reading back a result answers.
The page is one HTML file. It needs no network, and shows everything that was
said: share it as you would share the call.

exit codes:
  0  the report was shown
  2  it cannot be read
"""


def add_parser(commands: Commands[argparse.ArgumentParser]) -> None:
    """Add the command to the command line."""
    parser = new_parser(commands, "show", "show a report as a page that you can open, and what went wrong in it", TEXT)
    add = parser.add_argument
    add("report", metavar="REPORT", type=Path, help="the file, JSON")
    add("--html", metavar="FILE", type=Path, help="write the page to this file")
    add("--against", metavar="FILE", type=Path, help="another report to be shown beside it: one that went well")
    add("--expected", metavar="FILE", type=Path, help='tools that were expected: {"name": [{"parameters": {...}}]}')
    words = "what the platform shows: `bluejay-ws result ID --json` in a file; without FILE it is asked"
    add_result_option(parser, words)
    add("--late", metavar="S", type=seconds, default=THRESHOLD_MS / 1000, help="an answer after more is late (1.5)")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace, terminal: Terminal) -> int:
    """Say what went wrong, and write the page where one is wanted; return the exit code.

    Raises:
        Problem: a file cannot be read or written, or is no JSON.
    """
    options: dict[str, Any] = {"threshold_ms": args.late * 1000}
    if args.against:
        options["against"] = load(args.against)
    if args.expected:
        options["expected"] = load(args.expected)
    report = load(args.report)
    if args.result is not None:
        options["result"] = result_for(str(report.get("simulation_result_id") or ""), args.result)
    say_verdict(view(report, **options), terminal)
    if args.html:
        terminal.say()
        write_report_page(report, args.html, terminal, **options)
    return 0


def say_verdict(shown: dict[str, Any], terminal: Terminal) -> None:
    """Write what stands at the top of the page: the verdict, its reasons, and the figures."""
    style = {"bad": "red", "warn": "yellow"}.get(shown["level"], "green")
    terminal.say(terminal.paint(clean(shown["headline"]), style))
    for finding in [*shown["findings"], *shown.get("differences", [])]:
        at = "        " if finding["at"] is None else f"{finding['at'] / 1000:7.2f} "
        terminal.wrapped(f"  {at} ", finding["text"])
    terminal.wrapped("  ", "; ".join(f"{name}: {value}" for name, value in shown["figures"]))
    terminal.document({key: shown[key] for key in ("id", "level", "headline", "findings", "figures", "latency")})


def load(path: Path) -> dict[str, Any]:
    """Return the object in a JSON file.

    Raises:
        Problem: it cannot be read, is no JSON, or is no object.
    """
    try:
        found = json.loads(path.read_bytes())
    except OSError as error:
        raise Problem(f"cannot read {str(path)!r}: {words_of(error)}", exit_code=UNREADABLE) from None
    except (ValueError, RecursionError) as error:
        raise Problem(f"{str(path)!r} is no JSON: {error}", exit_code=UNREADABLE) from None
    if not isinstance(found, dict):
        raise Problem(f"{str(path)!r} holds no report: it is no JSON object", exit_code=UNREADABLE)
    return found
