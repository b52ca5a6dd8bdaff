"""What Twilio's ConversationRelay says about a call: text both ways on the call's own websocket, no audio.

Give it what Twilio sends (``tap.event(message)``) and what the agent sends (``tap.sent(message)``).
"""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, Any, ClassVar

from bluejay_ws.integrations.tap import SERVICE_ERROR, Reply, Tap, noting

if TYPE_CHECKING:
    from bluejay_ws.integrations.tap import Actions

__all__ = ["ConversationRelayTap"]


class ConversationRelayTap(Tap):
    """Turn the messages of a Twilio ConversationRelay websocket into facts of a recorder; see `Tap`."""

    provider = "twilio"

    def _prompt(self, message: dict[str, Any]) -> None:
        if self._user is None:
            self._user = self._speech(next(self._numbers))
            self._user.start = self._stamp(self._now())
        speech = self._user
        speech.text += message.get("voicePrompt") or ""
        if message.get("last", True):
            speech.end = self._now()
            self._user_said(speech, speech.text)
            self._user = None
            self._agent_done()

    def _token(self, message: dict[str, Any]) -> None:
        if self._agent is None:
            self._agent = self._reply(next(self._numbers))
            self._agent.start = self._stamp(self._now())
            self._agent.plays_from = float(self._agent.start)
        self._agent_text(self._agent, message.get("token") or "")
        if message.get("last"):
            self._agent_done()

    def _agent_done(self) -> None:
        if self._agent is not None:
            self._agent_said(self._agent, self._agent.text)
            self._agent = None

    def _was_interrupted(self, message: dict[str, Any]) -> None:
        self._agent_done()
        heard = (message.get("utteranceUntilInterrupt") or "").strip()
        self._interrupted(next(self._numbers))
        replies = [one for one in self._replies.values() if one.text and one.corrected is None]
        if not replies:
            return
        reply, heard = _last_heard(replies, heard)
        reply.corrected = heard
        reply.audio_ms = reply.heard_ms = float(message.get("durationUntilInterruptMs") or 0.0)
        self._tell_agent(reply)
        for later in replies[replies.index(reply) + 1 :]:
            later.corrected = ""
            self._tell_agent(later)

    received: ClassVar[Actions] = {
        "prompt": _prompt,
        "interrupt": _was_interrupted,
        "dtmf": noting("DTMF", key="digit"),
        "error": noting(SERVICE_ERROR, message="description"),
    }
    outgoing: ClassVar[Actions] = {
        "text": _token,
        "sendDigits": noting("The agent sent DTMF", digits="digits"),
        "end": noting("The agent ended the call", handoff="handoffData"),
    }
    quiet: ClassVar[frozenset[str]] = frozenset({"setup", "info"})


def _last_heard(replies: list[Reply], heard: str) -> tuple[Reply, str]:
    """Return the reply in which the caller broke in, and what was heard of it; ``heard`` may begin in one before."""
    for one in reversed(replies):
        if heard and heard in one.text:
            return one, heard
    for one, after in pairwise(replies):
        rest = heard.removeprefix(one.text.strip()).strip()
        if rest != heard and rest in after.text:
            return after, rest
    return replies[-1], heard
