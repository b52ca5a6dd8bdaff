"""One call and its report, shown as they come: what `call` and `demo` have in common."""

from __future__ import annotations

import asyncio
import secrets
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from bluejay_ws.cli.dialling import dial
from bluejay_ws.cli.live import show_event, summarise
from bluejay_ws.cli.terminal import Problem, Terminal, clean
from bluejay_ws.cli.timeline import count_items, show_report
from bluejay_ws.testing.audio import caller_pcm, split_utterances
from bluejay_ws.testing.caller import DigitalHuman

if TYPE_CHECKING:
    from collections.abc import Sequence

    from bluejay_ws.testing.caller import CallEvent, CallLog
    from bluejay_ws.testing.platform import AcceptedReport, FakePlatform

__all__ = ["Conversation", "new_id", "receive_report", "went_well"]


@dataclass(frozen=True, kw_only=True)
class Conversation:
    """Describe one call.

    Args:
        url: of the agent.
        simulation_result_id: of the call.
        user: for Basic authentication; None sends none.
        password: for Basic authentication.
        utterances: what the caller says; None: the shipped two sentences.
        greeting: seconds that the agent may take to speak first.
        barge_in_ms: interrupt each answer but the last after so much of it.
        seconds: hang up after so long.
        pace: seconds that one second of audio takes.
        frames: show text frames too, beside what can be heard.
    """

    url: str
    simulation_result_id: str
    user: str | None = None
    password: str = ""
    utterances: Sequence[bytes] | None = None
    greeting: float = 2.0
    barge_in_ms: float | None = None
    seconds: float | None = None
    pace: float = 1.0
    frames: bool = True

    def hold(self, terminal: Terminal, *, wait: float = 0.0) -> CallLog:
        """Make the call, with one line for each event, and return its log.

        Args:
            terminal: for the lines.
            wait: seconds in which a refused connection means that the agent is not up yet.

        Raises:
            Problem: it could not begin.
        """
        log = dial(lambda: asyncio.run(self._call(terminal)), self.url, wait=wait)
        terminal.say()
        terminal.wrapped("  ", f"{summarise(log)}.")
        return log

    async def _call(self, terminal: Terminal) -> CallLog:
        def show(event: CallEvent) -> None:
            if event.kind == "connected":
                terminal.title(f"The call {clean(self.simulation_result_id)}")
                terminal.say()
            show_event(event, terminal, frames=self.frames)

        options: dict[str, Any] = {"user": self.user, "password": self.password, "pace": self.pace}
        human = DigitalHuman(self.url, self.simulation_result_id, on_event=show, close_timeout=2.0, **options)
        utterances = split_utterances(caller_pcm()) if self.utterances is None else self.utterances
        return await human.call(utterances, greeting=self.greeting, barge_in_ms=self.barge_in_ms, seconds=self.seconds)


def receive_report(
    platform: FakePlatform, conversation: Conversation, terminal: Terminal, *, patience: float = 10.0
) -> AcceptedReport:
    """Wait for the report of a call that has just ended, write it as a timeline, and return it.

    Args:
        platform: where it comes in.
        conversation: the call.
        terminal: where it is written.
        patience: seconds to wait for it.

    Raises:
        Problem: none was accepted in time.
    """
    ended_at = time.monotonic()
    identity = conversation.simulation_result_id
    try:
        accepted = platform.wait_for(1, patience, simulation_result_id=identity)[0]
    except TimeoutError:
        raise _missing(platform) from None
    terminal.title(f"The report of call {clean(identity)}")
    terminal.say()
    show_report(accepted.report, terminal)
    terminal.say()
    delay_ms = max(0.0, accepted.received_at - ended_at) * 1000
    size = f"{len(accepted.body):,} bytes, received {delay_ms:.0f} ms after the call"
    terminal.wrapped("  ", f"{count_items(accepted.report)}; {size}.")
    return accepted


def went_well(log: CallLog, terminal: Terminal) -> bool:
    """Return whether Bluejay would count the call as completed, and say so if it would not."""
    if log.closed_by == "caller" or log.close_code == 1000:
        return True
    terminal.say(f"  The agent ended it with {log.close_code}: Bluejay would mark this run as INCOMPLETED.")
    return False


def new_id() -> str:
    """Return six random digits, which look like an id of Bluejay's."""
    return str(100_000 + secrets.randbelow(900_000))


def _missing(platform: FakePlatform) -> Problem:
    if platform.rejected:
        problem = platform.rejected[-1].problems[0]
        return Problem(f"the platform rejected the report: {clean(str(problem['loc']))} {clean(str(problem['msg']))}")
    if platform.requests:
        return Problem(f"no report was accepted; the last request was answered with {platform.requests[-1].answer}")
    remedy = "is the agent's handler under @record, and did it start with the two variables above?"
    return Problem("the agent sent no report", remedy)
