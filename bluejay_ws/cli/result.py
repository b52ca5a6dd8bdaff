"""`bluejay-ws result` and `bluejay-ws results`: what the platform shows for a call, and for a whole run."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bluejay_ws.cli.arguments import new_parser, seconds
from bluejay_ws.cli.pages import write_report_page
from bluejay_ws.cli.terminal import Problem, Terminal, check_writable, clean
from bluejay_ws.client import Bluejay
from bluejay_ws.results import CallResult, RunResult, ids_in
from bluejay_ws.settings import Settings
from bluejay_ws.timeline.judged import evaluation_rows

if TYPE_CHECKING:
    import argparse

    from bluejay_ws.cli.arguments import Commands
    from bluejay_ws.results import ToolComparison

ASK = ""  # in place of a file: the platform is asked
WAIT_SECONDS = 600.0
STYLES = {"as_expected": "green", "missing": "red", "wrong_parameters": "red", "extra": "yellow"}
KINDS = {"as_expected": "as expected", "wrong_parameters": "wrong", "missing": "missing", "extra": "extra"}
RESULT_TEXT = """\
Without --check the exit code is 0 when the result could be read. With --check it is
1 unless the call is COMPLETED, every expected tool was called with the expected
parameters, and the caller reached its goal. The platform does not give back
transcripts, tags and metadata.
"""
RESULT_FILE = "give what `bluejay-ws result ID --json` writes"
RESULTS_TEXT = """\
The exit code is a verdict for CI: 0 when every call is COMPLETED, every expected tool
was called with the expected parameters, and each caller reached its goal; else 1.

RUN_ID is read by the route of the official SDK (/v1/retrieve-simulation-results/),
which the published API description of November 2026 does not list. Where your
platform does not have it, name the calls: --calls FILE, one id on each line.
"""


def add_parser(commands: Commands[argparse.ArgumentParser]) -> None:
    """Add both commands to the command line."""
    one = new_parser(commands, "result", "what the platform shows for a call", RESULT_TEXT)
    one.add_argument("id", metavar="ID", help="the simulation result id of the call")
    one.add_argument("--check", action="store_true", help="exit with 1 if the call should fail a build")
    one.add_argument("--html", metavar="FILE", type=Path, help="write the call's page, with all of this, to this file")
    one.set_defaults(run=_run_result)
    whole = new_parser(commands, "results", "what the platform shows for a whole run, with a verdict", RESULTS_TEXT)
    whole.add_argument("id", nargs="?", metavar="RUN_ID", help="the id of the simulation run")
    whole.add_argument("--calls", metavar="FILE", help="ids of calls in place of a run; - reads them from the input")
    whole.set_defaults(run=_run_results)
    for parser in (one, whole):
        parser.add_argument("--wait", action="store_true", help="until the platform has evaluated it")
        parser.add_argument(
            "--seconds", metavar="S", type=seconds, default=WAIT_SECONDS, help="how long to wait at most (600)"
        )
        parser.add_argument("--strict", action="store_true", help="extra tool calls and hallucinations fail too")


def add_result_option(parser: argparse.ArgumentParser, words: str) -> None:
    """Add ``--result`` to a command that writes a page; its value is for `result_for`."""
    parser.add_argument("--result", metavar="FILE", nargs="?", const=ASK, help=words)


def _run_result(args: argparse.Namespace, terminal: Terminal) -> int:
    if not args.id.strip():
        raise Problem("which call?", "give its simulation result id", exit_code=2)
    check_writable(args.html)
    with _client() as bluejay:
        result = bluejay.result(args.id, wait=_patience(args))
    terminal.document(result.as_dict(strict=args.strict))
    show_result(result, terminal)
    if args.html:
        report = {**result.raw, "simulation_result_id": args.id}
        write_report_page(report, args.html, terminal, result=result.as_dict())
    return 1 if (args.check or args.strict) and result.failures(strict=args.strict) else 0


def result_for(simulation_result_id: str, place: str) -> dict[str, Any]:
    """Return what the platform shows for a call, as `CallResult.as_dict` has it.

    ``place`` is a file that ``bluejay-ws result ID --json`` wrote, or that holds the platform's own answer; or `ASK`.

    Raises:
        Problem: it cannot be read, or is about another call.
    """
    if place == ASK:
        with _client() as bluejay:
            return bluejay.result(simulation_result_id).as_dict()
    try:
        found = json.loads(Path(place).read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        raise Problem(f"{place} cannot be read ({type(error).__name__})", RESULT_FILE, exit_code=2) from None
    if isinstance(found, dict) and isinstance(found.get("simulation_result"), dict):
        return CallResult.of(simulation_result_id, found["simulation_result"]).as_dict()
    if not isinstance(found, dict) or "status" not in found:
        raise Problem(f"{place} holds no result", RESULT_FILE, exit_code=2)
    if found.get("simulation_result_id", simulation_result_id) != simulation_result_id:
        raise Problem(f"{place} is about another call", RESULT_FILE, exit_code=2)
    return found


def _run_results(args: argparse.Namespace, terminal: Terminal) -> int:
    if (args.id is None) == (args.calls is None) or not (args.id or args.calls or "").strip():
        raise Problem("which run?", "give either a RUN_ID or --calls FILE", exit_code=2)
    with _client() as bluejay:
        run = _run_of(args, bluejay)
    terminal.document(run.as_dict(strict=args.strict))
    _show_run(run, terminal, strict=args.strict)
    return 1 if run.failures(strict=args.strict) else 0


def _client() -> Bluejay:
    if Settings.load().api_key is None:  # first: a client without a key warns that it cannot deliver
        raise Problem("BLUEJAY_API_KEY is not set", "export the key of the account that ran the call", exit_code=2)
    return Bluejay(spool=False)


def _patience(args: argparse.Namespace) -> float:
    return args.seconds if args.wait else 0.0


def _run_of(args: argparse.Namespace, bluejay: Bluejay) -> RunResult:
    if args.id is not None:
        return bluejay.run_result(args.id, wait=_patience(args))
    ids = _ids(args.calls)
    # One after the other, each with its own patience: most are final by the time the first one is.
    return RunResult("", "", tuple(bluejay.result(each, wait=_patience(args)) for each in ids))


def _ids(place: str) -> list[str]:
    try:
        text = sys.stdin.read() if place == "-" else Path(place).read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise Problem(
            f"{place} cannot be read ({type(error).__name__})", "give a text file of ids", exit_code=2
        ) from None
    ids = ids_in(text.splitlines())
    if not ids:
        raise Problem(f"{place} holds no ids", "one on each line", exit_code=2)
    return ids


def show_result(result: CallResult, terminal: Terminal) -> None:
    """Write everything that the platform shows for a call."""
    style = "green" if result.status == "COMPLETED" else "red" if result.final else "yellow"
    status = terminal.paint(clean(result.status or "no status"), style)
    terminal.say(f"call {clean(result.simulation_result_id)}: {status}, {result.meaning}")
    if result.remedy:
        terminal.wrapped("  ", result.remedy)
    started = f"started {clean(result.start_time)}" if result.start_time else ""
    length = "" if result.duration_ms is None else f"lasted {result.duration_ms / 1000:.1f} s"
    if started or length:
        terminal.say(f"  {', '.join(filter(None, (started, length)))}")
    _show_tools(result, terminal)
    for label, value in _facts(result):
        terminal.wrapped(f"  {label:<14}", value)
    for evaluation in result.evaluations:
        _show_evaluation(evaluation, terminal)


def _show_tools(result: CallResult, terminal: Terminal) -> None:
    if not result.comparisons:
        terminal.say("  no tool calls, expected or actual")
        return
    terminal.title("  tool calls")
    for pair in result.comparisons:
        _show_pair(pair, terminal)


def _show_pair(pair: ToolComparison, terminal: Terminal) -> None:
    offset = pair.actual.start_offset_ms if pair.actual else None
    at = "" if offset is None else f"  at {offset / 1000:.3f} s"
    word = f"{KINDS[pair.kind]:<12}"
    terminal.say(f"  {terminal.paint(word, STYLES[pair.kind])} {clean(pair.name)}{at}")
    for side, call in (("expected", pair.expected), ("actual", pair.actual)):
        if call is not None:
            terminal.wrapped(f"      {side:<9} ", _json(call.parameters))
    for found in pair.differences:
        words = f"{found.path}: expected {_json(found.expected)}, was {_json(found.actual)}"
        terminal.wrapped("      differs   ", words, style="red")
    if pair.output_differs and pair.expected and pair.actual:
        words = f"expected {_json(pair.expected.output)}, was {_json(pair.actual.output)}"
        terminal.wrapped("      output    ", words, style="yellow")


def _facts(result: CallResult) -> list[tuple[str, str]]:
    latency = ", ".join(f"{key.removesuffix('_agent_latency')} {value:g}" for key, value in result.latency.items())
    found = [
        ("events", str(len(result.events)) if result.events else ""),
        ("trace ids", ", ".join(result.trace_ids)),
        ("latency", latency),
        ("recording", result.audio_url),
        ("transcript", result.transcript_url),
    ]
    return [(label, value) for label, value in found if value]


def _show_evaluation(evaluation: dict[str, Any], terminal: Terminal) -> None:
    terminal.title("  evaluation")
    for label, words, _ in evaluation_rows(evaluation):
        terminal.wrapped(f"  {clean(label):<26}", words)


def _show_run(run: RunResult, terminal: Terminal, *, strict: bool) -> None:
    for call in run.calls:
        bad = call.failures(strict=strict)
        mark = terminal.paint("failed" if bad else "passed", "red" if bad else "green")
        terminal.say(f"{mark}  call {clean(call.simulation_result_id)}: {clean(call.status or 'no status')}")
    for reason in run.failures(strict=strict):
        terminal.wrapped("  ", reason)
    good = sum(not call.failures(strict=strict) for call in run.calls)
    waits = "" if run.final or not run.calls else "; the platform is not done yet: --wait waits for it"
    terminal.say(f"{good} of {len(run.calls)} calls passed{waits}")


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, default=repr)
