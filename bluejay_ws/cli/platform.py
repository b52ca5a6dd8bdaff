"""`bluejay-ws platform`: a platform on this machine, for agents that are started and called by others."""

from __future__ import annotations

import contextlib
import queue
import shlex
from typing import TYPE_CHECKING

from bluejay_ws.cli.arguments import new_parser, port
from bluejay_ws.cli.terminal import Problem, clean, words_of
from bluejay_ws.cli.timeline import count_items
from bluejay_ws.testing.platform import FakePlatform
from bluejay_ws.timeline.live import LivePage

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable, Iterator

    from bluejay_ws.cli.arguments import Commands
    from bluejay_ws.cli.terminal import Terminal
    from bluejay_ws.testing.platform import AcceptedReport

LOOK_SECONDS = 0.5
REFUSED = range(400, 500)
TEXT = """\
Takes reports as Bluejay does, checks them against the published schema, and lists them as they come. Start your agent
with the variables that it prints, in another terminal, and call it as often as you like. Reports are kept until the
command ends. Ctrl-C ends it, with exit code 0.

With --json each line is one document: first "started", then a "report" for each report.
"""


def add_parser(commands: Commands[argparse.ArgumentParser]) -> None:
    """Add the command to the command line."""
    parser = new_parser(commands, "platform", "run a local platform that takes the reports of your agents", TEXT)
    parser.add_argument("--port", type=port, default=0, help="to listen on (default: a free one)")
    parser.add_argument("--live", action="store_true", help="serve a page on this machine that shows each call")
    parser.set_defaults(run=run)


@contextlib.contextmanager
def local_platform(
    number: int, remedy: str, on_report: Callable[[AcceptedReport], None] | None = None, *, exit_code: int = 2
) -> Iterator[FakePlatform]:
    """Run a platform on this port.

    Raises:
        Problem: the port is taken.
    """
    platform = FakePlatform(port=number, on_report=on_report)
    try:
        platform.start()
    except OSError as error:
        raise Problem(f"no platform on port {number}: {words_of(error)}", remedy, exit_code=exit_code) from None
    with contextlib.closing(platform):
        yield platform


def run(args: argparse.Namespace, terminal: Terminal) -> int:
    """Take reports until Ctrl-C; return 0.

    Raises:
        Problem: the port is taken.
    """
    arrived: queue.SimpleQueue[AcceptedReport] = queue.SimpleQueue()
    with contextlib.suppress(KeyboardInterrupt), contextlib.ExitStack() as stack:
        page = stack.enter_context(LivePage()) if args.live else None
        platform = stack.enter_context(local_platform(args.port, "choose another --port", arrived.put))
        _introduce(platform, page, terminal)
        refused = 0
        while True:
            with contextlib.suppress(queue.Empty):
                _show(arrived.get(timeout=LOOK_SECONDS), page, terminal)
            refused = _show_refused(platform, refused, terminal)
    return 0


def _introduce(platform: FakePlatform, page: LivePage | None, terminal: Terminal) -> None:
    variables = {"BLUEJAY_API_URL": platform.url, "BLUEJAY_API_KEY": platform.api_key or "any"}
    address = None if page is None else page.url
    terminal.document({"type": "started", "url": platform.url, "variables": variables, "page": address})
    terminal.say("Start your agent with:")
    terminal.say()
    for name, value in variables.items():
        terminal.say(f"  export {name}={shlex.quote(value)}")
    terminal.say()
    if address is not None:
        terminal.wrapped("page       ", address)
    terminal.say("Reports are listed here as they come. Press Ctrl-C to stop.")


def _show(accepted: AcceptedReport, page: LivePage | None, terminal: Terminal) -> None:
    name, report = accepted.simulation_result_id, accepted.report
    again = accepted.number > 1
    terminal.document({"type": "report", "call": name, "number": accepted.number, "report": report})
    if page is not None:
        page.show(name, report, delivery={"state": "accepted"})
    words = count_items(report)
    if again:
        words += f"; this is report {accepted.number} for this call, and the platform appends it"
    terminal.wrapped(f"report     {clean(name)}  ", words, style="red" if again else "green")
    if accepted.unknown_fields:
        terminal.wrapped("unknown    ", clean(", ".join(accepted.unknown_fields)), style="red")


def _show_refused(platform: FakePlatform, shown: int, terminal: Terminal) -> int:
    """Show the posts that were refused since the last look, and return how many there are by now."""
    refused = [one for one in platform.requests if one.method == "POST" and one.answer in REFUSED]
    for one in refused[shown:]:
        why = [f"{'.'.join(str(part) for part in problem['loc'])} {problem['msg']}" for problem in one.problems]  # type: ignore[attr-defined]
        terminal.document({"type": "refused", "status": one.answer, "problems": one.problems})
        words = "; ".join(why) or ("the agent has another API key" if one.answer == 401 else one.path)
        terminal.wrapped(f"refused    HTTP {one.answer}  ", words, style="red")
    return len(refused)
