"""What an Ultravox call says: data messages in JSON, audio in binary messages. No event has a time."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from bluejay_ws.integrations.tap import Tap

if TYPE_CHECKING:
    from bluejay_ws.integrations.tap import Actions

__all__ = ["UltravoxTap"]


class UltravoxTap(Tap):
    """Turn the messages of an Ultravox websocket into facts of a recorder; see `Tap`.

    Audio is PCM at 48,000 Hz unless the call was made with other rates.
    """

    provider = "ultravox"
    input_rate = output_rate = 96.0
    listens = True

    def _audio_received(self, audio: bytes) -> None:
        if self._agent is None:
            self._agent = self._reply(("audio", next(self._numbers)))
        self._agent_audio(self._agent, len(audio) / self.output_bytes_per_ms)

    def _text(self, message: dict[str, Any]) -> None:
        if message.get("medium") == "text":
            if message.get("final") and message.get("text"):
                (self._typed_text if message.get("role") == "user" else self._text_reply)(message["text"])
        elif message.get("role") == "user":
            self._user_text(message)
        else:
            self._agent_words(message)

    def _user_text(self, message: dict[str, Any]) -> None:
        if not message.get("final"):
            return
        speech = self._speech(message.get("ordinal"))
        self._heard_speech(speech)
        self._user_said(speech, message.get("text") or "")
        self._agent = None

    def _agent_words(self, message: dict[str, Any]) -> None:
        key = ("said", message.get("ordinal"))
        reply = self._replies.get(key)
        if reply is None:
            reply = self._agent if self._agent is not None and not self._agent.text else self._reply(key)
            self._replies[key] = self._agent = reply
        if message.get("final"):
            text = message.get("text") or reply.text
            if reply.heard_ms is not None and len(text.strip()) < len(reply.text.strip()):
                reply.corrected = text.strip()  # less than was written: the service has cut it to what was heard
            self._agent_said(reply, text)
        elif message.get("delta"):
            self._agent_text(reply, message["delta"])
        elif message.get("text"):
            reply.text = message["text"]

    def _cleared(self, _: dict[str, Any]) -> None:
        self._interrupted(next(self._numbers))
        reply, self._agent = self._agent, None
        if reply is not None:
            self._cut(reply)
        self._cut_the_rest()

    def _called(self, message: dict[str, Any]) -> None:
        self.tools.begin(message.get("invocationId"), message.get("toolName"), message.get("parameters") or {})

    def _answered(self, message: dict[str, Any]) -> None:
        error = message.get("errorMessage") or message.get("errorType")
        self.tools.answered(message.get("invocationId"), error or message.get("result"), failed=error)

    received: ClassVar[Actions] = {
        "transcript": _text,
        "playback_clear_buffer": _cleared,
        "client_tool_invocation": _called,
    }
    outgoing: ClassVar[Actions] = {
        "client_tool_result": _answered,
        "input_text_message": Tap._typed_message,  # noqa: SLF001 - it is this class's own
        "user_text_message": Tap._typed_message,  # noqa: SLF001
    }
    quiet: ClassVar[frozenset[str]] = frozenset({
        *("state", "debug", "pong", "call_started", "call_event", "room_info"),
    })  # fmt: skip
