"""What a Hume EVI connection says about a call.

Hume does not say from where the times of ``user_message`` count: they are taken as positions in the audio sent.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from bluejay_ws.integrations.caller_audio import audio_bytes
from bluejay_ws.integrations.tap import SERVICE_ERROR, Reply, Tap, is_new, noting

if TYPE_CHECKING:
    from bluejay_ws.integrations.tap import Actions
    from bluejay_ws.recorder import Recorder

__all__ = ["HumeTap"]

_WAV_HEADER = 44


class HumeTap(Tap):
    """Turn the messages of a Hume EVI connection into facts of a recorder; see `Tap`. Its audio is WAV at 48,000 Hz."""

    provider = "hume"
    audio_field = "data"
    input_rate = 32.0
    output_rate = 96.0

    def __init__(self, recorder: Recorder, **options: Any) -> None:
        super().__init__(recorder, **options)
        self._pieces: dict[tuple[Any, Any], None] = {}

    def _settings(self, message: dict[str, Any]) -> None:
        audio = message.get("audio") or {}
        if type(audio.get("sample_rate")) is int:
            self.input.bytes_per_ms = audio["sample_rate"] * 2 * (audio.get("channels") or 1) / 1_000
        self.tools.describe(message.get("tools"))

    def _user_text(self, message: dict[str, Any]) -> None:
        if message.get("interim"):
            return
        text = (message.get("message") or {}).get("content") or ""
        if message.get("from_text"):
            self._typed_text(text)
            return
        speech, time = self._speech(next(self._numbers)), message.get("time") or {}
        begin, end = time.get("begin"), time.get("end")
        if begin is not None and end is not None:
            start, until = self._heard_at(float(begin)), self._heard_at(float(end))
            speech.start = None if start is None else self._stamp(min(start, self._now()))
            speech.end = None if until is None else min(until, self._now())
        self._heard_speech(speech)
        self._user_said(speech, text)

    def _agent_text_whole(self, message: dict[str, Any]) -> None:
        reply = self._reply(message.get("id"))
        reply.filler = True if message.get("is_quick_response") else None
        self._agent_said(reply, (message.get("message") or {}).get("content") or "")

    def _audio(self, message: dict[str, Any]) -> None:
        piece = (message.get("id"), message.get("index"))
        if not is_new(piece, self._pieces, 1_000) and piece[1] is not None:
            return
        size = max(0, audio_bytes(message.get("data")) - _WAV_HEADER)
        self._agent_audio(self._reply(message.get("id")), size / self.output_bytes_per_ms)

    def _was_interrupted(self, message: dict[str, Any]) -> None:
        self._interrupted(("at", message["time"]) if message.get("time") else next(self._numbers))
        now = self._now()
        for reply in list(self._replies.values()):
            self._cut_reply(reply, now)

    def _cut_reply(self, reply: Reply, now: float) -> None:
        if reply.start is not None and reply.heard_ms is None and reply.plays_from + reply.audio_ms > now:
            self._cut(reply, max(0.0, now - reply.plays_from))
        elif self._plays_until:  # audio comes here
            self._drop_unheard(reply)

    def _called(self, message: dict[str, Any]) -> None:
        key = message.get("tool_call_id")
        self.tools.begin(key, message.get("name"), message.get("parameters"))
        if message.get("response_required") is False and message.get("tool_type") != "builtin":
            self.tools.ended(key)

    def _answered(self, message: dict[str, Any]) -> None:
        self.tools.answered(message.get("tool_call_id"), message.get("content"))

    def _tool_error(self, message: dict[str, Any]) -> None:
        self.tools.answered(message.get("tool_call_id"), message.get("error") or message.get("content"), failed=True)

    received: ClassVar[Actions] = {
        "user_message": _user_text,
        "assistant_message": _agent_text_whole,
        "audio_output": _audio,
        "user_interruption": _was_interrupted,
        "tool_call": _called,
        "tool_response": _answered,
        "tool_error": _tool_error,
        "error": noting(SERVICE_ERROR, code="code", message="message"),
    }
    outgoing: ClassVar[Actions] = {
        "session_settings": _settings,
        "tool_response": _answered,
        "tool_error": _tool_error,
    }
    quiet: ClassVar[frozenset[str]] = frozenset({
        *("audio_input", "chat_metadata", "assistant_end", "assistant_prosody", "session_settings"),
    })  # fmt: skip
