"""`bluejay-ws demo`: an agent, a caller and a platform on this machine, and the report of their call."""

from __future__ import annotations

import contextlib
import os
import select
import subprocess
import sys
import time
from pathlib import Path
from typing import IO, TYPE_CHECKING, cast

from bluejay_ws.cli.arguments import new_parser, seconds
from bluejay_ws.cli.conversation import Conversation, await_report, call_faults, new_id, report_faults, show_accepted
from bluejay_ws.cli.pages import add_page_options, watching
from bluejay_ws.cli.terminal import Problem, Terminal, clean, temporary_directory
from bluejay_ws.testing.platform import FakePlatform

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator

    from bluejay_ws.cli.arguments import Commands

AGENT = ("-m", "bluejay_ws.cli.demo_agent", "0")
START_SECONDS = 30.0
GREETING_SECONDS = 5.0
BARGE_IN_MS = 2_000.0  # of the agent's first answer: the caller does not hear it out
STOP_SECONDS = 15.0  # more than the agent's budget for delivering what is left
TEXT = """\
Nothing leaves this machine, and no account is needed. The
agent is a process of its own with @record on its handler.
The caller speaks real audio and interrupts the agent
once. The platform checks the report against the
published schema.

Exit code 0 means that the platform accepted exactly one
report for the call.
"""


def add_parser(commands: Commands[argparse.ArgumentParser]) -> None:
    """Add the command to the command line."""
    parser = new_parser(commands, "demo", "show a simulated call and its report; needs no account", TEXT)
    parser.add_argument(
        "--pace", metavar="N", type=seconds, default=1.0, help="seconds that one second of audio takes (1: real time)"
    )
    add_page_options(parser)
    parser.set_defaults(run=run, agent=AGENT, greeting=GREETING_SECONDS, stop_seconds=STOP_SECONDS)


def run(args: argparse.Namespace, terminal: Terminal) -> int:
    """Hold the call and show its report; return the exit code.

    Raises:
        Problem: the agent did not start, or its report did not come in exactly once.
    """
    identity = new_id()
    real_time = args.pace == 1.0  # at any other pace nobody can tell when to stop
    with (
        watching(args, terminal) as watch,
        FakePlatform(on_report=watch.accepted if watch else None) as platform,
    ):
        with _agent((*args.agent, "1" if real_time else "0"), platform, args.stop_seconds) as url:
            for what, name, words in (
                ("platform", platform.url, "takes the report and checks it"),
                ("agent", url, "an example with @record on its handler"),
                ("caller", identity, "says two sentences, and interrupts once" if real_time else "says two sentences"),
            ):
                terminal.wrapped(f"  {what:<8}  {name:<22}  ", words)
            conversation = Conversation(
                url=url,
                simulation_result_id=identity,
                greeting=args.greeting,
                barge_in_ms=BARGE_IN_MS if real_time else None,
                pace=args.pace,
                frames=False,
                watch=watch,
            )
            log = conversation.hold(terminal)
            ended_at = time.monotonic()
            accepted = await_report(platform, identity, terminal)
            if accepted is None:
                raise Problem("the demo's agent sent no report", "this is a fault of bluejay_ws: please report it")
            show_accepted(accepted, ended_at, terminal)
        _check(platform, identity)
        return _conclude(identity, [*call_faults(log), *report_faults(accepted.report)], terminal)


def _conclude(identity: str, faults: list[str], terminal: Terminal) -> int:
    verdict = f"The platform accepted exactly one report for call {identity}."
    terminal.say()
    terminal.wrapped("  well      ", verdict, style="green")
    for fault in faults:
        terminal.wrapped("  not well  ", fault, style="red")
    terminal.document({"type": "summary", "call": identity, "well": not faults, "faults": faults})
    return 1 if faults else 0


def _check(platform: FakePlatform, identity: str) -> None:
    """See that nothing came in but the one report; the agent has ended and can send no more."""
    reports = len(platform.accepted)
    if reports != 1 or platform.rejected or platform.errors:
        counts = f"{reports} accepted, {len(platform.rejected)} rejected, {len(platform.errors)} errors"
        raise Problem(f"call {identity} should have come in as exactly one report: {counts}")


@contextlib.contextmanager
def _agent(command: tuple[str, ...], platform: FakePlatform, stop_seconds: float) -> Iterator[str]:
    """Run the agent as a child process with a spool of its own, and give its URL.

    The child ends when its standard input does, so it cannot outlive this process, however that ends.
    """
    with temporary_directory() as directory:
        log = Path(directory, "agent.log")
        with log.open("wb") as stderr, _start(command, _environment(platform, directory), stderr) as process:
            try:
                yield _url(process, log)
            finally:
                _stop(process, stop_seconds)


def _start(command: tuple[str, ...], environment: dict[str, str], stderr: IO[bytes]) -> subprocess.Popen[bytes]:
    return subprocess.Popen(  # noqa: S603 - our own agent
        [sys.executable, "-P", *command],
        env=environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=stderr,
        start_new_session=True,  # Ctrl-C is for this process; the agent is asked to stop
    )


def _environment(platform: FakePlatform, directory: str) -> dict[str, str]:
    paths = [str(Path(__file__).resolve().parents[2]), os.environ.get("PYTHONPATH", "")]
    return {
        **os.environ,
        "BLUEJAY_API_URL": platform.url,
        "BLUEJAY_API_KEY": platform.api_key,
        "BLUEJAY_SPOOL": str(Path(directory, "spool")),
        "PYTHONPATH": os.pathsep.join(path for path in paths if path),
    }


def _url(process: subprocess.Popen[bytes], log: Path) -> str:
    """Wait until the agent says where it listens."""
    stdout = cast("IO[bytes]", process.stdout)
    ready, _, _ = select.select([stdout], [], [], START_SECONDS)
    line = stdout.readline().decode().strip() if ready else ""
    if not line.startswith("ws://"):
        said = log.read_text("utf-8", "replace").strip().rpartition("\n")[2]
        raise Problem("the demo's agent did not start", clean(said) or "it said nothing about it")
    return line


def _stop(process: subprocess.Popen[bytes], stop_seconds: float) -> None:
    try:
        process.communicate(timeout=stop_seconds)  # closes its standard input
    except subprocess.TimeoutExpired:
        pass  # it is killed, as it is when Ctrl-C ends the waiting
    finally:
        process.kill()
