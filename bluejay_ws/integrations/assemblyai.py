"""What an AssemblyAI Voice Agent connection says about a call. It tells itself what was heard of a cut reply."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from bluejay_ws.integrations.caller_audio import audio_bytes
from bluejay_ws.integrations.tap import BREAK_MS, SERVICE_ERROR, Reply, Speech, Tap, noting

if TYPE_CHECKING:
    from bluejay_ws.integrations.tap import Actions
    from bluejay_ws.recorder import Recorder

__all__ = ["AssemblyAITap"]


class AssemblyAITap(Tap):
    """Turn the messages of an AssemblyAI Voice Agent connection into facts of a recorder; see `Tap`."""

    provider = "assemblyai"
    audio_field = "audio"
    input_rate = 48.0

    def __init__(self, recorder: Recorder, **options: Any) -> None:
        super().__init__(recorder, **options)
        self._open: Speech | None = None  # speaks, or has spoken; without text
        self._before: Speech | None = None  # was spoken before that, and still has no text
        self._reply_now: Any = None
        self._server_side: set[str] = set()

    def _configured(self, event: dict[str, Any]) -> None:
        config = event.get("config") or event.get("session") or {}
        self._model_is(config.get("model"))
        tools = config.get("tools") or ()
        self.tools.describe(tools)
        self._server_side |= {(one.get("function") or one).get("name") for one in tools if one.get("http") is not None}

    # -- the caller --------------------------------------------------------------------------------------------

    def _user_began(self, _: dict[str, Any]) -> None:
        if self._open is None or self._open.stopped:
            self._before = self._open if self._open is not None and self._open.key not in self._speeches else None
            self._open = Speech(("speech", next(self._numbers)))
            self._open.start = self._stamp(self._now())

    def _user_ended(self, _: dict[str, Any]) -> None:
        if self._open is not None:
            self._open.end, self._open.stopped = self._now(), True

    def _broke_in_at(self) -> float | None:
        speech = self._open
        return super()._broke_in_at() if speech is None or speech.stopped else speech.start

    def _late(self, key: Any) -> Speech | None:
        """Return the speech before the one that still goes on: a final text is of speech that has ended."""
        before = self._before
        if before is None or key in self._speeches or self._open is None or self._open.stopped:
            return None
        self._before = None
        if self._now() - (before.end or 0.0) > BREAK_MS:
            return None  # that was a noise
        self._speeches[key], before.key = before, key
        return before

    def _of(self, event: dict[str, Any]) -> Speech:
        """Return the utterance of an item: the speech that was heard last becomes it."""
        key = event.get("item_id")
        speech = self._speech(key)
        if speech.start is None and self._open is not None:
            speech.start, speech.end, speech.stopped = self._open.start, self._open.end, self._open.stopped
            if self._open.stopped:
                self._open = None
            else:
                self._speeches[key] = self._open
                self._open.key = key
                speech = self._open
        return speech

    def _user_piece(self, event: dict[str, Any]) -> None:
        speech = self._of(event)
        if not speech.final:
            speech.text = event.get("text") or ""

    def _user_text(self, event: dict[str, Any]) -> None:
        speech = self._late(event.get("item_id")) or self._of(event)
        if self._open is speech:
            self._open = None
        if speech.start is None and not self._observed():
            speech.start = self._stamp(self._now())
        self._user_said(speech, event.get("text") or "")

    # -- the agent ---------------------------------------------------------------------------------------------

    def _reply_started(self, event: dict[str, Any]) -> None:
        self._reply_now = event.get("reply_id")

    def _audio(self, event: dict[str, Any]) -> None:
        reply = self._reply(event.get("reply_id") or self._reply_now)
        self._agent_audio(reply, audio_bytes(event.get("data")) / self.output_bytes_per_ms)

    def _word(self, event: dict[str, Any]) -> None:
        reply = self._reply(event.get("reply_id"))
        if reply.final:
            return
        word = event.get("delta") or ""
        glue = " " if reply.text and word and not word[0].isspace() and word[0] not in ".,!?;:" else ""
        self._agent_text(reply, glue + word)
        if event.get("end_ms") is not None:
            reply.marks.append((event["end_ms"], len(reply.text)))

    def _whole_text(self, event: dict[str, Any]) -> None:
        reply, text = self._reply(event.get("reply_id")), event.get("text") or ""
        if event.get("interrupted"):
            reply.corrected = text.strip()
            self._cut_reply(reply)
            self._interrupted(reply.key)
        self._agent_said(reply, text)

    def _reply_done(self, event: dict[str, Any]) -> None:
        if event.get("status") != "interrupted":
            return
        key = event.get("reply_id")
        self._interrupted(key)
        self._cut_reply(self._reply(key))
        for tool in self.tools.open():
            if tool.response == key:
                self.tools.cancelled(tool.key)

    def _cut_reply(self, reply: Reply) -> None:
        """Cut a reply; if nothing of it was heard, the one before it still plays, and is cut too."""
        self._cut(reply)
        if not reply.corrected:
            self._cut_the_rest()

    # -- tools -------------------------------------------------------------------------------------------------

    def _called(self, event: dict[str, Any]) -> None:
        key = event.get("call_id")
        self.tools.of(key).response = event.get("reply_id") or self._reply_now
        self.tools.begin(key, event.get("name"), event.get("arguments") or {})
        if event.get("name") in self._server_side:
            self.tools.ended(key)  # the provider runs it, and does not tell what it answered

    def _answered(self, event: dict[str, Any]) -> None:
        self.tools.answered(event.get("call_id"), event.get("result"), failed=event.get("is_error"))

    # -- the rest ----------------------------------------------------------------------------------------------

    def _ended(self, event: dict[str, Any]) -> None:
        seconds = event.get("session_duration_seconds")
        if seconds is not None:
            self._set_usage({"session_seconds": seconds})

    received: ClassVar[Actions] = {
        "session.ready": _configured,
        "session.updated": _configured,
        "input.speech.started": _user_began,
        "input.speech.stopped": _user_ended,
        "transcript.user.delta": _user_piece,
        "transcript.user": _user_text,
        "reply.started": _reply_started,
        "reply.audio": _audio,
        "transcript.agent.delta": _word,
        "transcript.agent": _whole_text,
        "reply.done": _reply_done,
        "tool.call": _called,
        "session.error": noting(SERVICE_ERROR, code="code", message="message"),
        "error": noting(SERVICE_ERROR, code="code", message="message"),
        "session.ended": _ended,
    }
    outgoing: ClassVar[Actions] = {
        "session.update": _configured,
        "tool.result": _answered,
    }
