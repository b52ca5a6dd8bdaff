"""`bluejay-ws call`: dial a running agent as Bluejay does."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import TYPE_CHECKING

from bluejay_ws.cli.arguments import new_parser, pace, port, seconds
from bluejay_ws.cli.conversation import Conversation, new_id, receive_report, went_well
from bluejay_ws.cli.dialling import BAD_USAGE, check_url
from bluejay_ws.cli.terminal import Problem, Terminal, clean
from bluejay_ws.testing.audio import read_wav, split_utterances
from bluejay_ws.testing.platform import FakePlatform

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator

    from bluejay_ws.cli.arguments import Commands

__all__ = ["add_parser", "run"]

PLATFORM_PORT = 8766
BARGE_IN_MS = 1_000.0
START_SECONDS = 300.0
TEXT = """\
The caller speaks the sentences of a WAV file (16 kHz, mono, 16 bit; it is split
at its pauses), hears each answer out, and hangs up.

With --platform, start the agent with the two environment variables that are
printed; the call begins as soon as the agent is up.

exit codes:
  0    the call went well (with --platform: and its report was accepted)
  1    it did not
  2    wrong usage
  3    the agent cannot be reached
  4    the agent refused the connection
  130  stopped by Ctrl-C
"""


def add_parser(commands: Commands[argparse.ArgumentParser]) -> None:
    """Add the command to the command line."""
    parser = new_parser(commands, "call", "dial a running agent as Bluejay does", TEXT)
    add = parser.add_argument
    add("url", metavar="URL", help="of the agent, such as ws://localhost:8765")
    add("--id", default="", help="simulation result id (default: six random digits)")
    add("--user", metavar="NAME", help="for Basic authentication")
    add("--password", metavar="WORD", default="", help="for Basic authentication")
    add("--wav", metavar="FILE", type=Path, help="what the caller says (default: about a lost card)")
    add("--seconds", metavar="S", type=seconds, help="hang up after so long")
    add("--greeting", metavar="S", type=seconds, default=2.0, help="wait so long for the agent to speak first (2)")
    add("--barge-in", action="store_true", help="interrupt each answer but the last after one second")
    add("--pace", metavar="N", type=pace, default=1.0, help="seconds that one second of audio takes (1)")
    add("--platform", action="store_true", help="start a local platform and show the report that it accepts")
    add("--port", metavar="N", type=port, default=PLATFORM_PORT, help=f"of the local platform ({PLATFORM_PORT})")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace, terminal: Terminal) -> int:
    """Make the call; return the exit code.

    Raises:
        Problem: it could not begin, or no report came.
    """
    conversation = Conversation(
        url=check_url(args.url),
        simulation_result_id=args.id or new_id(),
        user=args.user,
        password=args.password,
        utterances=_utterances(args.wav),
        greeting=args.greeting,
        barge_in_ms=BARGE_IN_MS if args.barge_in else None,
        seconds=args.seconds,
        pace=args.pace,
    )
    if not args.platform:
        return 0 if went_well(conversation.hold(terminal), terminal) else 1
    with _platform(args.port, terminal) as platform:
        terminal.say(f"The call begins when the agent listens at {clean(args.url)}.")
        well = went_well(conversation.hold(terminal, wait=START_SECONDS), terminal)
        receive_report(platform, conversation, terminal)
    return 0 if well else 1


def _utterances(wav: Path | None) -> list[bytes] | None:
    if wav is None:
        return None
    try:
        utterances = split_utterances(read_wav(wav))
    except OSError as error:
        raise Problem(f"cannot read {str(wav)!r}: {error.strerror}", exit_code=BAD_USAGE) from None
    except ValueError as error:
        raise Problem(clean(str(error)), exit_code=BAD_USAGE) from None
    if not utterances:
        raise Problem(f"{str(wav)!r} holds nothing but silence", exit_code=BAD_USAGE)
    return utterances


@contextlib.contextmanager
def _platform(number: int, terminal: Terminal) -> Iterator[FakePlatform]:
    """Give a local platform, and say how an agent reports to it."""
    platform = FakePlatform(port=number)
    try:
        platform.start()
    except OSError as error:
        raise Problem(f"no platform on port {number}: {error.strerror}", "give another one with --port") from None
    with contextlib.closing(platform):
        terminal.say("A local platform takes the report. Start the agent with:")
        terminal.say()
        terminal.say(f"    export BLUEJAY_API_URL={platform.url}")
        terminal.say(f"    export BLUEJAY_API_KEY={platform.api_key}")
        terminal.say()
        yield platform
