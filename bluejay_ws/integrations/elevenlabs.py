"""What an ElevenLabs Agents connection says about a call.

Which events come is a setting of the agent (``client_events``); what does not come is not missed, only less is known.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, ClassVar

from bluejay_ws.integrations.caller_audio import audio_bytes
from bluejay_ws.integrations.tap import KEPT, SERVICE_ERROR, Reply, Tap, forget_oldest, noting

if TYPE_CHECKING:
    from collections.abc import Mapping

    from bluejay_ws.integrations.tap import Actions
    from bluejay_ws.recorder import Recorder

__all__ = ["ElevenLabsTap"]

_TAGS = re.compile(r"\[[^\[\]]{1,40}\]\s*")  # expressive voices are told how to speak inside the text
_PAYLOADS = {
    "user_transcript": "user_transcription_event",
    "agent_chat_response_part": "text_response_part",
    "client_error": "error_event",
}
_ERROR = noting(SERVICE_ERROR, error_type="error_type", code="code", message="message", reason="reason")
_SPEECH = 0.5  # a score of the voice detection that means speech


class ElevenLabsTap(Tap):
    """Turn the messages of an ElevenLabs Agents connection into facts of a recorder; see `Tap`."""

    __slots__ = ("_by_event", "_cut_at", "_ended", "_over", "_stale", "_text_only")

    provider = "elevenlabs"
    audio_field = "user_audio_chunk"
    listens = True

    def __init__(self, recorder: Recorder, **options: Any) -> None:
        super().__init__(recorder, **options)
        self.output_bytes_per_ms = options.get("output_bytes_per_ms") or 32.0
        self._by_event: dict[int, Reply] = {}  # by event id: what its audio belongs to
        self._over: dict[Any, None] = {}  # replies whose audio has ended
        self._stale = -1
        self._cut_at: int | None = None  # when the caller broke in whose text is still to come
        self._ended: dict[str, dict[str, Any]] = {}  # server tools that are over; their output may still come
        self._text_only = False

    def _received(self, message: dict[str, Any]) -> None:
        kind = message.get("type")
        action = self.received.get(kind)  # type: ignore[arg-type]
        if action is not None:
            payload = message.get(self.payloads[kind])  # type: ignore[index]
            action(self, payload if payload is not None else message.get(kind) or message)  # type: ignore[arg-type]
        elif kind not in self.quiet and not str(kind).startswith("internal_"):
            self._unknown()

    def _configured(self, facts: dict[str, Any]) -> None:
        self.input.bytes_per_ms = _bytes_per_ms(facts.get("user_input_audio_format"), self.input.bytes_per_ms)
        self.output_bytes_per_ms = _bytes_per_ms(facts.get("agent_output_audio_format"), self.output_bytes_per_ms)

    def _initiated(self, message: dict[str, Any]) -> None:
        override = message.get("conversation_config_override") or {}
        self._text_only = bool((override.get("conversation") or {}).get("text_only"))

    # -- the caller --------------------------------------------------------------------------------------------

    def _user_text(self, facts: dict[str, Any]) -> None:
        event = facts.get("event_id")
        speech = self._speech(("unnumbered", next(self._numbers)) if event is None else event)
        if speech.start is None and not self._observed():
            self._heard_speech(speech)
            if self._cut_at is not None and (speech.start is None or speech.start > self._cut_at):
                speech.start = self._cut_at
            self._sent_before_reply = 0.0
        self._cut_at = None
        self._user_said(speech, facts.get("user_transcript") or "")
        self._end_tools()

    def _score(self, facts: dict[str, Any]) -> None:
        score = facts.get("vad_score")
        if type(score) in {int, float} and score >= _SPEECH:  # type: ignore[operator]
            self.input.speaks(self._now())

    # -- the agent ---------------------------------------------------------------------------------------------

    def _audio(self, facts: dict[str, Any]) -> None:
        event = _number_of(facts)
        if event < self._stale:  # of the same number may be the reply to what was typed
            return
        reply = self._by_event.get(event)
        if reply is None or (reply.key in self._over and reply.final):
            reply = self._by_event[event] = self._reply((event, len(self._replies) if reply else None), event)
            forget_oldest(self._by_event, KEPT)
        if facts.get("alignment"):
            _align(reply, facts["alignment"])
        self._agent_audio(reply, audio_bytes(facts.get("audio_base_64")) / self.output_bytes_per_ms)
        if facts.get("is_final"):
            self._over[reply.key] = None
            forget_oldest(self._over, KEPT)

    def _agent_text_whole(self, facts: dict[str, Any]) -> None:
        event, text = _number_of(facts), _clean(facts.get("agent_response"))
        if self._text_only:
            self._text_reply(text)
            return
        reply = self._of_response(event, facts.get("response_id"))
        if reply.heard_ms is not None and reply.corrected is None:
            reply.corrected = text  # it was still being written when it was cut: this is what was heard
        self._agent_said(reply, text)
        self._end_tools()

    def _of_response(self, event: int, response: Any) -> Reply:
        reply = self._by_event.get(event)
        if reply is None or (reply.final and reply.response not in {event, response}):
            reply = self._by_event[event] = self._reply((event, response), response)
            forget_oldest(self._by_event, KEPT)
        elif reply.response == event and response is not None:
            reply.response = response
        return reply

    def _corrected(self, facts: dict[str, Any]) -> None:
        event, response = _number_of(facts), facts.get("response_id")
        found = [one for one in self._replies.values() if response is not None and one.response == response]
        reply = found[0] if found else self._by_event.get(event)
        if reply is None:
            return
        reply.corrected = _clean(facts.get("corrected_agent_response"))
        whole = reply.corrected == reply.text.strip()  # of a turn that was cut, what had been heard is told again
        if reply.heard_ms is None and reply.corrected and not whole:  # perhaps no client event tells of interruptions
            self._interrupted(("corrected", reply.key[0]))  # of several replies in one turn, for all of them
            self._cut(reply)
        self._tell_agent(reply)

    def _was_interrupted(self, facts: dict[str, Any]) -> None:
        event = _number_of(facts)
        self._stale = event or self._stale
        span = self.input.spoke_since()
        self._cut_at = self._stamp(self._now()) if span is None else self._stamp(span)
        newest = max(self._by_event, default=-1)
        if ("corrected", newest) not in self._interruptions:
            self._interrupted(("interruption", event), at=span)
        self._interruptions["corrected", newest] = None
        for reply in self._replies.values():
            if reply is self._by_event.get(newest) or reply.plays_from + reply.audio_ms > self._now():
                self._cut(reply)

    # -- tools -------------------------------------------------------------------------------------------------

    def _client_tool(self, facts: dict[str, Any]) -> None:
        key = facts.get("tool_call_id")
        self.tools.begin(key, facts.get("tool_name"), facts.get("parameters") or {})
        if facts.get("expects_response") is False:
            self.tools.ended(key)

    def _client_result(self, message: dict[str, Any]) -> None:
        self.tools.answered(message.get("tool_call_id"), message.get("result"), failed=message.get("is_error"))

    def _server_tool(self, facts: dict[str, Any]) -> None:
        self.tools.begin(facts.get("tool_call_id"), facts.get("tool_name"), facts.get("parameters"))

    def _server_result(self, facts: dict[str, Any]) -> None:
        key = facts.get("tool_call_id")
        if facts.get("tool_type") == "client" and self.tools.of(key).begun:
            if facts.get("is_error"):
                self.tools.answered(key, facts.get("status") or "failed", failed=True)
            return  # its result is what the client sent
        self._server_tool(facts)
        if facts.get("is_blocked"):
            self.tools.cancelled(key, "blocked")
        elif facts.get("full_tool_result") is not None:
            self.tools.answered(key, facts["full_tool_result"])
        else:
            self._ended[str(key)] = facts
            if len(self._ended) > KEPT:
                self._end_tools()

    def _server_payload(self, facts: dict[str, Any]) -> None:
        key = facts.get("tool_call_id")
        self._ended.pop(str(key), None)
        self._server_tool(facts)
        self.tools.answered(key, facts.get("full_tool_result"), failed=facts.get("is_error"))

    def _end_tools(self) -> None:
        for facts in self._ended.values():
            key = facts.get("tool_call_id")
            if facts.get("is_error"):
                self.tools.answered(key, facts.get("status") or "failed", failed=True)
            else:
                self.tools.ended(key)
        self._ended.clear()

    def _mcp_tool(self, facts: dict[str, Any]) -> None:
        key, state = facts.get("tool_call_id"), facts.get("state")
        self.tools.begin(key, facts.get("tool_name"), facts.get("parameters") or {}, facts.get("tool_description"))
        if state == "success":
            self.tools.answered(key, facts.get("result"))
        elif state == "failure":
            self.tools.answered(key, facts.get("error_message"), failed=True)

    def _approved(self, message: dict[str, Any]) -> None:
        if message.get("is_approved") is False:
            self.tools.cancelled(message.get("tool_call_id"), "denied")

    # -- the rest ----------------------------------------------------------------------------------------------

    def _context(self, facts: dict[str, Any]) -> None:
        self._model_is(facts.get("model"))
        self._set_usage({key: facts[key] for key in ("context_tokens", "context_limit_tokens") if key in facts})

    def _finish(self) -> None:
        self._end_tools()
        super()._finish()

    received: ClassVar[Actions] = {
        "conversation_initiation_metadata": _configured,
        "user_transcript": _user_text,
        "vad_score": _score,
        "audio": _audio,
        "agent_response": _agent_text_whole,
        "agent_response_correction": _corrected,
        "interruption": _was_interrupted,
        "client_tool_call": _client_tool,
        "agent_tool_request": _server_tool,
        "agent_tool_response": _server_result,
        "agent_tool_response_full_payload": _server_payload,
        "mcp_tool_call": _mcp_tool,
        "context_usage": _context,
        "client_error": _ERROR,
        "error": _ERROR,
        "guardrail_triggered": noting("A guardrail was triggered", guardrail="guardrail_type name"),
    }
    payloads: ClassVar[Mapping[str, str]] = {kind: f"{kind}_event" for kind in received} | _PAYLOADS
    outgoing: ClassVar[Actions] = {
        "conversation_initiation_client_data": _initiated,
        "client_tool_result": _client_result,
        "mcp_tool_approval_result": _approved,
        "user_message": Tap._typed_message,  # noqa: SLF001 - it is this class's own
    }
    quiet: ClassVar[frozenset[str]] = frozenset({
        *("ping", "tentative_user_transcript", "agent_response_complete", "agent_chat_response_part", "dtmf_request"),
        *("asr_initiation_metadata", "mcp_connection_status", "agent_response_metadata", "turn_probability"),
        *("agent_reasoning_response_part", "client_events"),
    })  # fmt: skip


def _number_of(facts: dict[str, Any]) -> int:
    """Return an event's number, which counts up; 0 if it has none."""
    found = facts.get("event_id")
    return int(found) if type(found) is int or (type(found) is str and found.isdecimal()) else 0


def _clean(text: Any) -> str:
    return _TAGS.sub("", text).strip() if isinstance(text, str) else ""


def _align(reply: Reply, alignment: dict[str, Any]) -> None:
    """Note at the end of each word how much has been said; each alignment counts from where the one before it ends."""
    starts, lengths = alignment.get("char_start_times_ms") or (), alignment.get("char_durations_ms") or ()
    base, said = reply.marks[-1] if reply.marks else (0.0, 0)
    chars = alignment.get("chars") or ()
    for index, char in enumerate(chars):
        if (char == " " or index == len(chars) - 1) and index < len(starts):
            end = starts[index] + (lengths[index] if index < len(lengths) else 0)
            reply.marks.append((base + end, said + index + 1))


def _bytes_per_ms(name: Any, default: float) -> float:
    """Return the size of a millisecond, from a format such as ``pcm_16000`` or ``ulaw_8000``."""
    kind, _, rate = str(name).partition("_")
    if not rate.isdigit():
        return default
    return int(rate) / 1_000 * (2 if kind == "pcm" else 1)
