"""A call while it lasts, one line for each event; what repeats is one line with a count."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from bluejay_ws.cli.terminal import clean, plural

if TYPE_CHECKING:
    from collections.abc import Mapping

    from bluejay_ws.cli.terminal import Terminal
    from bluejay_ws.testing.caller import CallEvent, CallLog

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
