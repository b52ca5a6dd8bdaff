"""One call and its report, shown as they come: what `call` and `demo` have in common."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from bluejay_ws.cli.dialling import dial
from bluejay_ws.cli.terminal import clean, plural
from bluejay_ws.cli.timeline import count_items, show_report
from bluejay_ws.testing.audio import caller_pcm, split_utterances
from bluejay_ws.testing.caller import DigitalHuman

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from bluejay_ws.cli.pages import Watch
    from bluejay_ws.cli.terminal import Terminal
    from bluejay_ws.testing.caller import CallEvent, CallLog
    from bluejay_ws.testing.platform import AcceptedReport, FakePlatform

Faults = list[str]
"""What was not as it should be, one sentence for each; empty when all went well."""

LOCAL = "local-"
"""Ids of calls made on this machine begin so; a client that reports to a real account refuses them."""

CLOSED_WELL = 1000
UNANSWERED_MS = 8_000
CLOSE_CODES = {1000: "normal", 1001: "going away", 1002: "protocol error", 1008: "policy", 1011: "internal error"}
STYLES = {"caller": "cyan", "agent": "green"}
FRAMES = {f"{who}.speech.{what}" for who in ("user", "agent") for what in ("started", "completed")} | {
    f"mark.{what}" for what in ("received", "echoed", "dropped")
}
WORDS = {
    "connected": ("caller", "connects"),
    "user.audio": ("caller", "speaks"),
    "user.speech.started": ("caller", "sends speech.started"),
    "user.speech.completed": ("caller", "sends speech.completed"),
    "agent.heard": ("agent", "speaks"),
    "agent.quiet": ("agent", "falls silent"),
    "agent.speech.started": ("agent", "sends speech.started"),
    "agent.speech.completed": ("agent", "sends speech.completed"),
    "mark.received": ("agent", "sends mark {name}"),
    "mark.echoed": ("caller", "echoes mark {name}"),
    "mark.dropped": ("caller", "never reaches mark {name}"),
    "barge_in": ("caller", "interrupts; {queued_ms:.0f} ms of the agent are still to be heard"),
    "interrupted": ("agent", "interrupts the caller"),
    "user.key": ("caller", "presses {key}"),
    "cleared": ("agent", "clears {dropped_ms:.0f} ms that were still to be heard"),
    "message.refused": ("caller", "does not take the agent's message: {message}"),
    "error.received": ("agent", "sends session.error {code}: {message}"),
    "error.sent": ("caller", "sends session.error {code}: {message}"),
}


@dataclass(frozen=True, kw_only=True)
class Conversation:
    """Describe one call: of `DigitalHuman`, and ``greeting``, ``barge_in_ms`` and ``seconds`` of its `call`.

    Attributes:
        utterances: what the caller says; None: the shipped two sentences.
        frames: show text frames too, beside what can be heard.
        watch: follows the call for its page.
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
    protocol: str = "chirp"
    frames: bool = True
    watch: Watch | None = None

    def hold(self, terminal: Terminal, *, wait: float = 0.0) -> CallLog:
        """Make the call, with one line for each event, and return its log.

        For ``wait`` seconds a refused connection means that the agent is not up yet.

        Raises:
            Problem: it could not begin.
        """
        view = LiveView(terminal, self.simulation_result_id, frames=self.frames)
        with contextlib.ExitStack() as until_connected:
            if wait:
                until_connected.enter_context(terminal.waiting("waiting for the agent to listen"))

            def show(event: CallEvent) -> None:
                if event.kind == "connected":
                    until_connected.close()
                    if self.watch is not None:
                        self.watch.begin(self.simulation_result_id)
                    terminal.title(f"The call {self.simulation_result_id}")
                    terminal.say()
                view.show(event)
                if self.watch is not None:
                    self.watch.event(event)

            log = dial(lambda: asyncio.run(self.make(show)), self.url, wait=wait)
        view.flush()
        terminal.say()
        terminal.wrapped("  ", f"{summarise(log)}.")
        return log

    async def make(self, on_event: Callable[[CallEvent], None] | None = None, *, compression: bool = True) -> CallLog:
        """Make the call in silence and return its log; without compression it takes less of this machine."""
        options: dict[str, Any] = {"user": self.user, "password": self.password, "pace": self.pace}
        options |= {"protocol": self.protocol, "compression": compression}
        if self.watch is not None and self.pace == 1.0:  # at another pace what is heard is not what was said
            options["on_audio"] = self.watch.audio
        human = DigitalHuman(self.url, self.simulation_result_id, on_event=on_event, close_timeout=2.0, **options)
        utterances = split_utterances(caller_pcm()) if self.utterances is None else self.utterances
        return await human.call(utterances, greeting=self.greeting, barge_in_ms=self.barge_in_ms, seconds=self.seconds)


def call_faults(log: CallLog) -> Faults:
    """Return why Bluejay would not count this call as completed, or why it was no conversation."""
    faults = []
    errors = len(log.of("error.received"))
    hung_up = log.closed_by == "agent" and log.close_code == CLOSED_WELL
    if log.closed_by == "nobody":
        faults.append("The connection broke without a close frame. Bluejay marks such a run as CALL_DROPPED.")
    elif log.closed_by == "agent" and not hung_up:
        faults.append(f"The agent hung up with code {log.close_code}. Bluejay marks such a run as CALL_DROPPED.")
    if log.heard_ms > 0:
        return faults + ["The agent answered nothing that the caller said."] * _is_mute(log)
    if errors:
        faults.append(f"The agent sent session.error and no audio ({errors} of them).")
    elif hung_up:
        faults.append(
            "The agent hung up before it spoke. Bluejay marks such a run as NO_ANSWER (AGENT_HUNG_UP_BEFORE_SPEECH)."
        )
    elif not faults:
        faults.append("The agent never spoke: it sent no audio.")
    return faults


def _is_mute(log: CallLog) -> bool:
    """Return whether the agent had time to answer, and was not heard after the caller had begun to speak."""
    first = log.user_spans[0].end_ms if log.user_spans else log.duration_ms
    return log.duration_ms - first > UNANSWERED_MS and all(span.end_ms <= first for span in log.agent_spans)


def report_faults(report: dict[str, Any]) -> Faults:
    """Return why an accepted report is not what its agent's owner wants."""
    events = report.get("events") or []
    own = [event for event in events if "bluejay_ws" not in (event.get("metadata") or {})]
    outcomes = [(event.get("metadata") or {}).get("bluejay_ws") or {} for event in events]
    errors = sorted({str(outcome["error"]) for outcome in outcomes if outcome.get("error")})
    faults = [f"The agent's handler ended with {clean(error)}. Its log has the traceback." for error in errors]
    if not (report.get("tool_calls") or report.get("recorded_transcript") or own):
        faults.append(
            "The report holds nothing from the agent itself: no tool call, no utterance, no event. "
            "Use @record_tool, and current_recorder().user_said(...) and .agent_said(...)."
        )
    return faults


def await_report(
    platform: FakePlatform, simulation_result_id: str, terminal: Terminal, *, patience: float = 10.0
) -> AcceptedReport | None:
    """Wait for the report of a call that has ended; None if none was accepted in time."""
    with terminal.waiting("waiting for the report"):
        try:
            return platform.wait_for(1, patience, simulation_result_id=simulation_result_id)[0]
        except TimeoutError:
            return None


def show_accepted(accepted: AcceptedReport, ended_at: float, terminal: Terminal) -> None:
    """Write an accepted report as a timeline; the call ended at ``ended_at``, in monotonic seconds."""
    call = accepted.simulation_result_id
    delay_ms = max(0.0, accepted.received_at - ended_at) * 1000
    terminal.document({"type": "report", "call": call, "after_ms": round(delay_ms), "report": accepted.report})
    terminal.title(f"The report of call {call}")
    terminal.say()
    show_report(accepted.report, terminal)
    terminal.say()
    size = f"{len(accepted.body):,} bytes, received {delay_ms:.0f} ms after the call"
    terminal.wrapped("  ", f"{count_items(accepted.report)}; {size}.")


def new_id() -> str:
    """Return an id for a call on this machine: no id of Bluejay's looks like it."""
    return f"{LOCAL}{100_000 + secrets.randbelow(900_000)}"


# -- while it lasts: one line for each event, and what repeats is one line with a count -----------------------------


class LiveView:
    """Write the events of one call as they come; with ``frames`` text frames too, beside what can be heard."""

    def __init__(self, terminal: Terminal, call: str, *, frames: bool = True) -> None:
        self._terminal = terminal
        self._call = call
        self._frames = frames
        self._last = ("", "")
        self._repeats = 0

    def show(self, event: CallEvent) -> None:
        """Write one event; in the mode for scripts, all of it."""
        detail = dict(event.detail)
        self._terminal.document(
            {"type": "event", "call": self._call, "at_ms": round(event.at_ms, 1), "kind": event.kind, "detail": detail}
        )
        is_frame = event.kind in FRAMES
        if is_frame and not self._frames:
            return
        who, words = describe(event)
        if (who, words) == self._last:
            self._repeats += 1
            return
        self.flush()
        self._last = (who, words)
        self._terminal.wrapped(
            f"{event.at_ms / 1000:9.2f}  {who:<6}  ", words, style="dim" if is_frame else STYLES[who]
        )

    def flush(self) -> None:
        """Say how often the last line was repeated, if it was."""
        if self._repeats:
            self._terminal.say(f"{'':19}... {plural(self._repeats, 'more time')}")
        self._repeats = 0


def describe(event: CallEvent) -> tuple[str, str]:
    """Return who did something, ``caller`` or ``agent``, and what it was."""
    if event.kind == "closed":
        return _closing(event.detail)
    who, words = WORDS.get(event.kind, ("caller", event.kind))
    return who, clean(words.format(**event.detail))


def summarise(log: CallLog) -> str:
    """Return the call in one sentence."""
    return (
        f"{log.duration_ms / 1000:.1f} s; {plural(log.frames_sent, 'frame')} sent, {log.frames_received:,} received;"
        f" the agent spoke for {log.heard_ms / 1000:.1f} s"
    )


def _closing(detail: Mapping[str, Any]) -> tuple[str, str]:
    code, reason = detail["code"], detail["reason"]
    if detail["by"] == "nobody":
        return "agent", "is gone: the connection broke without a close frame"
    words = f"hangs up with {code} ({CLOSE_CODES.get(code, 'its own code')})"
    return detail["by"], clean(f"{words}: {reason}" if reason else words)
