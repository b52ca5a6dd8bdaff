"""A call as it goes on, one line for each event."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from bluejay_ws.cli.terminal import clean

if TYPE_CHECKING:
    from collections.abc import Mapping

    from bluejay_ws.cli.terminal import Terminal
    from bluejay_ws.testing.caller import CallEvent, CallLog

__all__ = ["describe", "show_event", "summarise"]

CLOSE_CODES = {1000: "normal", 1001: "going away", 1002: "protocol error", 1008: "policy", 1011: "internal error"}
STYLES = {"caller": "cyan", "agent": "green"}
FRAMES = {f"{who}.speech.{what}" for who in ("user", "agent") for what in ("started", "completed")} | {
    f"mark.{what}" for what in ("received", "echoed", "dropped")
}
WORDS = {
    "connected": ("caller", "is connected"),
    "user.audio": ("caller", "speaks"),
    "user.speech.started": ("caller", "sends speech.started"),
    "user.speech.completed": ("caller", "sends speech.completed"),
    "agent.heard": ("agent", "is heard"),
    "agent.quiet": ("agent", "falls quiet"),
    "agent.speech.started": ("agent", "sends speech.started"),
    "agent.speech.completed": ("agent", "sends speech.completed"),
    "mark.received": ("agent", "sends mark {name}"),
    "mark.echoed": ("caller", "echoes mark {name}"),
    "mark.dropped": ("caller", "never reaches mark {name}"),
    "barge_in": ("caller", "interrupts; {queued_ms:.0f} ms of the agent are still to be heard"),
    "interrupted": ("agent", "interrupts the caller"),
    "error.received": ("agent", "sends session.error {code}: {message}"),
    "error.sent": ("caller", "sends session.error {code}: {message}"),
}


def describe(event: CallEvent) -> tuple[str, str]:
    """Return who did something, ``caller`` or ``agent``, and what it was."""
    if event.kind == "closed":
        return _closing(event.detail)
    who, words = WORDS[event.kind]
    return who, clean(words.format(**event.detail))


def show_event(event: CallEvent, terminal: Terminal, *, frames: bool = True) -> None:
    """Write one event as one line; with ``frames=False`` only what can be heard."""
    is_frame = event.kind in FRAMES
    if is_frame and not frames:
        return
    who, words = describe(event)
    name = terminal.paint(f"{who:<6}", STYLES[who])
    terminal.say(f"{event.at_ms / 1000:9.2f}  {name}  {terminal.paint(words, 'dim' if is_frame else '')}")


def summarise(log: CallLog) -> str:
    """Return the call in one sentence."""
    return (
        f"{log.duration_ms / 1000:.1f} s; {log.frames_sent:,} frames sent, {log.frames_received:,} received;"
        f" the agent was heard for {log.heard_ms / 1000:.1f} s"
    )


def _closing(detail: Mapping[str, Any]) -> tuple[str, str]:
    code, reason = detail["code"], detail["reason"]
    if detail["by"] == "nobody":
        return "agent", "is gone: the connection broke without a close frame"
    words = f"hangs up with {code} ({CLOSE_CODES.get(code, 'its own code')})"
    return detail["by"], clean(f"{words}: {reason}" if reason else words)
