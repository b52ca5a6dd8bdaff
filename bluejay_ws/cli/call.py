"""`bluejay-ws call`: call an agent as Bluejay does, and read the report that would be sent."""

from __future__ import annotations

import asyncio
import contextlib
import statistics
import sys
import time
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from websockets.exceptions import WebSocketException

from bluejay_ws.cli.agentprocess import environment_of, listening_ports, pid_listening_on, port_of, started
from bluejay_ws.cli.arguments import count, new_parser, port, port_number, seconds
from bluejay_ws.cli.conversation import Conversation, await_report, call_faults, new_id, report_faults, show_accepted
from bluejay_ws.cli.diagnosis import CRASHED, Evidence, explain, is_local
from bluejay_ws.cli.dialling import APART, BAD_USAGE, RefusalProblem, check_url, problem_of
from bluejay_ws.cli.pages import add_page_options, watching
from bluejay_ws.cli.platform import local_platform
from bluejay_ws.cli.terminal import Problem, Terminal, clean, plural, words_of
from bluejay_ws.cli.timeline import count_items
from bluejay_ws.testing.audio import read_wav, split_utterances
from bluejay_ws.testing.platform import FakePlatform
from bluejay_ws.testing.protocols import PROTOCOLS
from bluejay_ws.testing.reports import CallReport

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable, Iterator, Mapping

    from bluejay_ws.cli.agentprocess import AgentProcess
    from bluejay_ws.cli.arguments import Commands
    from bluejay_ws.testing.caller import CallLog
    from bluejay_ws.testing.platform import AcceptedReport

PLATFORM_PORT = 8766
BARGE_IN_MS = 1_000.0
START_SECONDS = 60.0
APPEAR_SECONDS = 300.0
REPORT_SECONDS = 10.0
TRACEBACK_SECONDS = 2.0
STOP_SECONDS = 12.0  # more than an agent's budget for delivering what is left
LOCAL_HOSTS = {"localhost", "127.0.0.1", "::1"}
HERE = "127.0.0.1"
TEXT = """\
Three ways to call an agent:

  bluejay-ws call --run "python agent.py"
      starts the agent with a local platform and a spool of
      its own, calls it, shows its report, and stops it

  bluejay-ws call ws://localhost:8765 --platform
      calls an agent that you start with the two variables
      that are printed

  bluejay-ws call ws://localhost:8765 --yes
      only calls it; an agent with a real API key may report
      this call to the real account

The caller speaks the sentences of a WAV file (16 kHz, mono,
16 bit; split at its pauses), hears each answer out, and
hangs up.

exit codes:
  0    the call went well, and so did its report
  1    it did not: the last lines say why
  2    wrong usage
  3    the agent cannot be reached or did not start
  4    the agent refused the connection
  130  stopped by Ctrl-C; 143 by SIGTERM
"""


def add_parser(commands: Commands[argparse.ArgumentParser]) -> None:
    """Add the command to the command line."""
    parser = new_parser(commands, "call", "call an agent as Bluejay does", TEXT)
    add = parser.add_argument
    add("url", nargs="?", metavar="URL", help="of the agent, such as ws://localhost:8765")
    add("--run", metavar="COMMAND", dest="command", help="start the agent with this command")
    add("--port", metavar="N", type=port_number, help="of the agent, in place of a URL")
    add("--path", metavar="PATH", default="", help="of the agent at --port or --run, such as /media")
    add("--platform", action="store_true", help="take the report of a running agent, and show it")
    starts = f"of the platform that --platform starts ({PLATFORM_PORT})"
    add("--platform-port", metavar="N", type=port, default=PLATFORM_PORT, help=starts)
    add("--yes", action="store_true", help="call an agent that may report to a real account")
    add("-n", "--calls", metavar="N", type=count, default=1, help="make so many calls at once (1)")
    add("--id", default="", help="simulation result id (default: local- and six digits)")
    add("--user", metavar="NAME", help="for Basic authentication")
    add("--password", metavar="WORD", default="", help="for Basic authentication")
    add("--wav", metavar="FILE", type=Path, help="what the caller says (default: about a lost card)")
    add("--seconds", metavar="S", type=seconds, help="hang up after so long")
    add("--greeting", metavar="S", type=seconds, default=2.0, help="wait so long for the agent to speak first (2)")
    add("--barge-in", action="store_true", help="interrupt each answer but the last after one second")
    add("--pace", metavar="N", type=seconds, default=1.0, help="seconds that one second of audio takes (1)")
    carriers = f"how the call is carried: {', '.join(PROTOCOLS)} (chirp)"
    add("--protocol", choices=PROTOCOLS, default="chirp", metavar="NAME", help=carriers)
    add_page_options(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace, terminal: Terminal) -> int:
    """Make the call or the calls; return the exit code.

    Raises:
        Problem: it could not begin, or no report came.
    """
    url, utterances = _url(args), _utterances(args.wav)
    with watching(args, terminal) as watch:
        conversation = Conversation(
            url=url,
            simulation_result_id=args.id or new_id(),
            user=args.user,
            password=args.password,
            utterances=utterances,
            greeting=args.greeting,
            barge_in_ms=BARGE_IN_MS if args.barge_in else None,
            seconds=args.seconds,
            pace=args.pace,
            protocol=args.protocol,
            watch=watch,
        )
        if args.command is not None:
            return _call_started(args, conversation, terminal)
        if args.platform:
            return _call_with_platform(args, conversation, terminal)
        return _call_only(args, conversation, terminal)


def _url(args: argparse.Namespace) -> str:
    """Return the URL that the arguments name; empty where the port has to be found first."""
    if args.url is not None and args.port is not None:
        raise Problem("both a URL and --port are given", "give one of them", exit_code=BAD_USAGE)
    if args.url is not None and args.path:
        raise Problem("both a URL and --path are given", "write the path into the URL", exit_code=BAD_USAGE)
    if args.url is not None:
        return check_url(args.url)
    if args.port is not None:
        return check_url(_local_url(args.port, args.path))
    if args.command is None:
        raise Problem("which agent?", 'give its URL, or start it: --run "python agent.py"', exit_code=BAD_USAGE)
    return ""


def _local_url(number: int, path: str) -> str:
    return f"ws://{HERE}:{number}" + (f"/{path.lstrip('/')}" if path else "")


# -- an agent that this command starts ------------------------------------------------------------------------------


def _call_started(args: argparse.Namespace, conversation: Conversation, terminal: Terminal) -> int:
    wanted = port_of(conversation.url) if conversation.url else None
    if wanted is not None and _is_here(conversation.url) and wanted in listening_ports(None):
        raise Problem(f"something listens at port {wanted} already", "stop it, or choose another port", exit_code=3)
    with FakePlatform(on_report=_hearer(conversation)) as platform:
        variables = {"BLUEJAY_API_URL": platform.url, "BLUEJAY_API_KEY": platform.api_key}
        if args.port is not None:
            variables["PORT"] = str(args.port)
        terminal.wrapped("starting   ", args.command)
        with started(args.command, variables, terminal, stop_seconds=STOP_SECONDS) as agent:
            try:
                return _talk(wanted, conversation, platform, agent, variables, args, terminal)
            except Problem:
                _show_last_words(agent, terminal)
                raise


def _talk(
    wanted: int | None,
    conversation: Conversation,
    platform: FakePlatform,
    agent: AgentProcess,
    variables: Mapping[str, str],
    args: argparse.Namespace,
    terminal: Terminal,
) -> int:
    found = agent.wait_for_port(wanted, START_SECONDS, terminal)
    conversation = conversation if conversation.url else replace(conversation, url=_local_url(found, args.path))
    terminal.wrapped("calling    ", conversation.url)
    if args.calls > 1:
        return hold_many(conversation, args.calls, platform, terminal)
    try:
        log = conversation.hold(terminal)
    except RefusalProblem as refusal:
        if not args.path and urlsplit(conversation.url).path in {"", "/"} and refusal.status in {403, 404}:
            refusal.remedy = "say at which path the agent takes calls: --path /media"
        raise
    if log.close_code == CRASHED:
        agent.wait_for_traceback(TRACEBACK_SECONDS)
    evidence = Evidence(
        call=conversation.simulation_result_id,
        log=log,
        platform=platform,
        environ=variables,
        spool=agent.spool,
        crashed=agent.crashed,
    )
    code = _judge(log, evidence, terminal)
    if code:
        _show_last_words(agent, terminal)
    else:
        for note in agent.notes():
            terminal.wrapped("  note      ", note, style="yellow")
    return code


def _show_last_words(agent: AgentProcess, terminal: Terminal) -> None:
    words = agent.last_words()
    if words:
        terminal.title("The last lines of the agent")
        for line in words:
            terminal.wrapped("  ", line)
        terminal.document({"type": "agent_log", "last_lines": words})


# -- an agent that runs already -------------------------------------------------------------------------------------


def _call_with_platform(args: argparse.Namespace, conversation: Conversation, terminal: Terminal) -> int:
    """Say what the agent must have been started with, call it, and show its report."""
    with _platform(args.platform_port, conversation, terminal) as platform:
        environ = _environment(conversation.url)
        _check_before(args, conversation.url, platform, environ)
        if args.calls > 1:
            return hold_many(conversation, args.calls, platform, terminal)
        log = conversation.hold(terminal, wait=APPEAR_SECONDS)
        environ = _environment(conversation.url) or environ
        evidence = Evidence(call=conversation.simulation_result_id, log=log, platform=platform, environ=environ)
        return _judge(log, evidence, terminal)


@contextlib.contextmanager
def _platform(number: int, conversation: Conversation, terminal: Terminal) -> Iterator[FakePlatform]:
    """Give a local platform, and say how an agent reports to it."""
    remedy = "give another one: --platform-port"
    with local_platform(number, remedy, _hearer(conversation), exit_code=1) as platform:
        variables = {"BLUEJAY_API_URL": platform.url, "BLUEJAY_API_KEY": platform.api_key}
        terminal.wrapped("", "A local platform takes the report. The agent must have been started with:")
        terminal.say()
        for name, value in variables.items():
            terminal.say(f"    export {name}={value}")
        terminal.say()
        terminal.document({"type": "platform", "environment": variables})
        yield platform


def _hearer(conversation: Conversation) -> Callable[[AcceptedReport], None] | None:
    return None if conversation.watch is None else conversation.watch.accepted


def _check_before(
    args: argparse.Namespace, url: str, platform: FakePlatform, environ: Mapping[str, str] | None
) -> None:
    """Refuse to call an agent that runs without the variables: its report would go elsewhere."""
    if environ is None or args.yes or is_local(environ.get("BLUEJAY_API_URL", "")):
        return
    where = clean(environ.get("BLUEJAY_API_URL") or "the real platform")
    raise Problem(
        f"the agent at {url} was not started with BLUEJAY_API_URL={platform.url}: it would report to {where}",
        "start it again with the variables above; if it sets them itself, say --yes",
        exit_code=BAD_USAGE,
    )


def _call_only(args: argparse.Namespace, conversation: Conversation, terminal: Terminal) -> int:
    _confirm(args, conversation, terminal)
    if args.calls > 1:
        return hold_many(conversation, args.calls, None, terminal)
    log = conversation.hold(terminal)
    return _conclude(conversation.simulation_result_id, log, call_faults(log), terminal)


def _confirm(args: argparse.Namespace, conversation: Conversation, terminal: Terminal) -> None:
    """Say what a call may do to a real account, and ask, unless the agent reports to this machine."""
    environ = _environment(conversation.url) or {}
    if args.yes or is_local(environ.get("BLUEJAY_API_URL", "")):
        return
    where = clean(environ.get("BLUEJAY_API_URL") or "Bluejay's real platform")
    key = "has" if environ.get("BLUEJAY_API_KEY") else "may have"
    message = (
        f"this calls {conversation.url} with the id {conversation.simulation_result_id}, as Bluejay would. "
        f"The agent {key} a real API key: it would report this call to {where}"
    )
    remedy = "say --yes to call it all the same, or use --platform or --run: then the report stays here"
    if not sys.stdin.isatty() or terminal.json_only:
        raise Problem(message, remedy, exit_code=BAD_USAGE)
    terminal.wrapped("", f"{message[0].upper()}{message[1:]}.")
    if input("Call it all the same? [y/N] ").strip().lower() not in {"y", "yes"}:
        raise Problem("not called", remedy, exit_code=BAD_USAGE)


def _environment(url: str) -> dict[str, str] | None:
    """Return the variables of the agent at this URL, where it is a process of this machine and user."""
    pid = pid_listening_on(port_of(url)) if _is_here(url) else None
    return None if pid is None else environment_of(pid)


def _is_here(url: str) -> bool:
    return urlsplit(url).hostname in LOCAL_HOSTS


# -- what came of it ------------------------------------------------------------------------------------------------


def _judge(log: CallLog, evidence: Evidence, terminal: Terminal) -> int:
    """Show the report and return the exit code.

    Raises:
        Problem: no report came.
    """
    ended_at = time.monotonic()
    accepted = await_report(evidence.platform, evidence.call, terminal, patience=REPORT_SECONDS)
    faults = call_faults(log)
    if accepted is None:
        _conclude(evidence.call, log, faults, terminal)
        raise explain(evidence)
    show_accepted(accepted, ended_at, terminal)
    return _conclude(evidence.call, log, [*faults, *report_faults(accepted.report)], terminal)


def _conclude(call: str, log: CallLog, faults: list[str], terminal: Terminal) -> int:
    terminal.document(
        {
            "type": "summary",
            "call": call,
            "well": not faults,
            "faults": faults,
            "closed_by": log.closed_by,
            "close_code": log.close_code,
            "duration_ms": round(log.duration_ms),
            "agent_spoke_ms": round(log.heard_ms),
            "frames_sent": log.frames_sent,
            "frames_received": log.frames_received,
        }
    )
    if faults:
        terminal.say()
    for fault in faults:
        terminal.wrapped("  not well  ", fault, style="red")
    return 1 if faults else 0


def _utterances(wav: Path | None) -> list[bytes] | None:
    if wav is None:
        return None
    try:
        utterances = split_utterances(read_wav(wav))
    except OSError as error:
        raise Problem(f"cannot read {str(wav)!r}: {words_of(error)}", exit_code=BAD_USAGE) from None
    except ValueError as error:
        raise Problem(clean(str(error)), exit_code=BAD_USAGE) from None
    if not utterances:
        raise Problem(f"{str(wav)!r} holds nothing but silence", exit_code=BAD_USAGE)
    return utterances


# -- several calls at once, and what became of them in one table ----------------------------------------------------


@dataclass(slots=True)
class Made:
    """One call of many: its id, what the caller saw, its report, and what was wrong."""

    call: str
    log: CallLog | None = None
    faults: list[str] = field(default_factory=list)
    report: CallReport | None = None


def hold_many(conversation: Conversation, calls: int, platform: FakePlatform | None, terminal: Terminal) -> int:
    """Make calls at once, each with an id of its own, and write a table of them; return the exit code.

    Without a platform nobody looks at reports.
    """
    prefix = conversation.simulation_result_id
    each = [replace(conversation, simulation_result_id=f"{prefix}-{number}") for number in range(1, calls + 1)]
    with terminal.waiting(f"making {plural(calls, 'call')} at once"):
        made = asyncio.run(_make_all(each))
    for one in made:
        if one.log is not None and platform is not None:
            _read_report(one, platform, terminal)
    _show_all(made, terminal)
    return 1 if any(one.faults for one in made) else 0


async def _make_all(conversations: list[Conversation]) -> list[Made]:
    return await asyncio.gather(*(_make_one(each, number * APART) for number, each in enumerate(conversations)))


async def _make_one(conversation: Conversation, wait: float) -> Made:
    made = Made(conversation.simulation_result_id)
    await asyncio.sleep(wait)
    try:
        made.log = await conversation.make(compression=False)
        made.faults = call_faults(made.log)
    except (OSError, UnicodeError, ImportError, WebSocketException) as error:
        problem = problem_of(error, conversation.url)
        made.faults = [f"{problem.message}."]
    return made


def _read_report(one: Made, platform: FakePlatform, terminal: Terminal) -> None:
    accepted = await_report(platform, one.call, terminal)
    if accepted is None:
        one.faults.append("No report came.")
        return
    one.report = CallReport.of(accepted)
    one.faults += report_faults(accepted.report)
    copies = platform.duplicates.get(one.call)
    if copies:
        one.faults.append(f"{copies} reports came for this call.")


def _show_all(made: list[Made], terminal: Terminal) -> None:
    for one in made:
        terminal.document(
            {
                "type": "summary",
                "call": one.call,
                "well": not one.faults,
                "faults": one.faults,
                "duration_ms": None if one.log is None else round(one.log.duration_ms),
                "agent_spoke_ms": None if one.log is None else round(one.log.heard_ms),
                "report": one.report and one.report.report,
            }
        )
    terminal.title(plural(len(made), "call"))
    terminal.say()
    terminal.table(["call", "length", "spoke", "report"], [_row(one) for one in made])
    well = sum(not one.faults for one in made)
    latencies = [value for one in made if one.report for value in one.report.latencies]
    words = f"{well} of {plural(len(made), 'call')} went well"
    if latencies:
        words += f"; response latency: median {statistics.median(latencies):.0f} ms, at most {max(latencies):.0f} ms"
    terminal.say()
    terminal.wrapped("", f"{words}.")
    for fault, times in _counted(made).items():
        terminal.wrapped(f"  {times:>4} x  ", fault, style="red")
    terminal.document({"type": "total", "calls": len(made), "well": well, "latencies_ms": latencies})


def _row(one: Made) -> list[str]:
    if one.log is None:
        return [one.call, "-", "-", "not connected"]
    report = "-" if one.report is None else count_items(one.report.report)
    mark = "" if not one.faults else " (not well)"
    return [one.call, f"{one.log.duration_ms / 1000:.1f} s", f"{one.log.heard_ms / 1000:.1f} s", report + mark]


def _counted(made: list[Made]) -> dict[str, int]:
    counts: dict[str, int] = {}
    for fault in (fault for one in made for fault in one.faults):
        counts[fault] = counts.get(fault, 0) + 1
    return counts
