"""What the server events of an OpenAI Realtime connection say about a call. Imports no SDK.

Written for GA event names; the beta's, and those of compatible services (Azure, xAI), differ by ``output_`` and by
``conversation.item.created``. Server events alone are enough: a tool's output comes back as the echo of the item that
the client added. The same fact comes several times in one stream; the first counts.

Times: the server gives positions in the caller's audio. Their differences are exact, and an event comes about when its
position was heard, so an utterance is placed backwards from the arrival of its end. The model sends its own audio
faster than it plays: an utterance of the agent's lasts as long as its audio, after what was sent before it.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from bluejay_ws.blocks import ToolCallBlock
    from bluejay_ws.recorder import Recorder

__all__ = ["INTERRUPTED", "OpenAIRealtimeTap"]

INTERRUPTED = "The model's reply was interrupted"
_PREFIX_MS, _SILENCE_MS = 300.0, 500.0  # the server's defaults
_BASE64 = 3 / 4
_ROUND_TRIP = 0.5  # seconds in which the server may still say that what has just been played was cut

_ACTIONS = {
    "session.created": "_configured",
    "session.updated": "_configured",
    "input_audio_buffer.speech_started": "_user_began",
    "input_audio_buffer.speech_stopped": "_user_ended",
    "conversation.item.input_audio_transcription.completed": "_user_said",
    "response.audio.delta": "_agent_audio",
    "response.audio_transcript.done": "_agent_said",
    "conversation.item.truncated": "_truncated",
    "conversation.item.added": "_item",
    "conversation.item.created": "_item",
    "response.output_item.added": "_item",
    "response.function_call_arguments.done": "_tool_asked_for",
    "response.done": "_reply_done",
    "error": "_error",
}


class OpenAIRealtimeTap:
    """Turn server events into facts of a recorder.

    Args:
        recorder: the call's.
        later: called as ``later(seconds, action)``; without it an utterance of the agent's is settled by the next
            event after it, or with the call.
        bytes_per_ms: of the model's audio; default PCM at 24,000 Hz.
    """

    def __init__(
        self,
        recorder: Recorder,
        *,
        later: Callable[[float, Callable[[], None]], object] | None = None,
        bytes_per_ms: float = 48.0,
    ) -> None:
        self._recorder = recorder
        self._later = later
        self._bytes_per_ms = bytes_per_ms
        self._prefix_ms, self._silence_ms = _PREFIX_MS, _SILENCE_MS
        self._descriptions: dict[str, str | None] = {}
        self._names: dict[str, str] = {}  # of tools, by call id
        self._tools: dict[str, tuple[str | None, ToolCallBlock]] = {}
        self._heard: dict[str, _Heard] = {}  # by item id, as the others
        self._told: set[tuple[str, str]] = set()
        self._spoken: dict[str, _Spoken] = {}
        self._plays_until = 0.0

    def event(self, event: Mapping[str, Any]) -> None:
        """Take note of one server event; unknown ones are ignored."""
        kind = event.get("type")
        if isinstance(kind, str) and self._recorder.active:
            self._settle()
            action = _ACTIONS.get(kind.replace("response.output_audio", "response.audio"))
            if action is not None:
                getattr(self, action)(event)

    def close(self) -> None:
        """Record what is still being said; for the end of the connection. May be called again."""
        now = self._now()
        for spoken in list(self._spoken.values()):
            self._cut(spoken, now - spoken.start)
        self._settle(at_last=True)

    def _now(self) -> float:
        return float(self._recorder.offset_ms())

    def _is_new(self, kind: str, name: str) -> bool:
        known = (kind, name) in self._told
        self._told.add((kind, name))
        return not known

    # -- settings -----------------------------------------------------------------------------------------------

    def _configured(self, event: Mapping[str, Any]) -> None:
        settings = event.get("session") or {}
        audio_in = (settings.get("audio") or {}).get("input") or {}
        detection = audio_in.get("turn_detection") or settings.get("turn_detection") or {}
        measured = detection.get("type", "server_vad") == "server_vad"
        self._prefix_ms = detection.get("prefix_padding_ms", _PREFIX_MS) if measured else 0.0
        self._silence_ms = detection.get("silence_duration_ms", _SILENCE_MS) if measured else 0.0
        for tool in settings.get("tools") or []:
            self._descriptions[tool.get("name")] = tool.get("description")

    # -- the caller ---------------------------------------------------------------------------------------------

    def _user_began(self, event: Mapping[str, Any]) -> None:
        heard = self._heard.setdefault(event["item_id"], _Heard(self._now()))
        heard.position = event.get("audio_start_ms") if heard.position is None else heard.position
        heard.end = None  # begun again: it was only a pause

    def _user_ended(self, event: Mapping[str, Any]) -> None:
        heard, now = self._heard.get(event["item_id"]), self._now()
        if heard is None:
            return
        heard.end = max(0.0, now - self._silence_ms)
        if heard.position is not None and event.get("audio_end_ms") is not None:
            heard.start = max(0.0, now - (event["audio_end_ms"] - heard.position) + self._prefix_ms)

    def _user_said(self, event: Mapping[str, Any]) -> None:
        if event.get("status") == "in_progress" or not self._is_new("user", event["item_id"]):
            return
        text, heard = event.get("transcript", "").strip(), self._heard.pop(event["item_id"], None)
        start, end = (None, None) if heard is None else (round(heard.start), round(heard.end or self._now()))
        self._recorder.user_said(text, start_offset_ms=start, end_offset_ms=end)

    # -- the agent ----------------------------------------------------------------------------------------------

    def _agent_audio(self, event: Mapping[str, Any]) -> None:
        spoken = self._spoken.get(event["item_id"])
        if spoken is None:
            if not self._is_new("audio", event["item_id"]):
                return  # of an item that is over
            spoken = self._spoken[event["item_id"]] = self._begin(event)
        spoken.audio_ms += len(event["delta"]) * _BASE64 / self._bytes_per_ms
        self._plays_until = spoken.start + spoken.audio_ms

    def _begin(self, event: Mapping[str, Any]) -> _Spoken:
        return _Spoken(max(self._now(), self._plays_until), event.get("response_id"))

    def _agent_said(self, event: Mapping[str, Any]) -> None:
        name = event["item_id"]
        if not self._is_new("agent", f"{name} {event.get('content_index', 0)}"):
            return
        spoken, text = self._spoken.get(name), event.get("transcript", "")
        if spoken is None:  # its audio went another way
            self._recorder.agent_said(text)
            return
        spoken.text += text
        if self._later is not None:
            rest = (spoken.start + spoken.audio_ms - self._now()) / 1e3
            self._later(max(0.0, rest) + _ROUND_TRIP, self._settle)
        return

    def _truncated(self, event: Mapping[str, Any]) -> None:
        spoken = self._spoken.get(event["item_id"])
        if spoken is not None:
            self._cut(spoken, event["audio_end_ms"])
            self._interrupted(spoken.response)
            self._finish(event["item_id"])
            self._plays_until = self._now()  # what was to play after it is dropped with it
            self._spoken = {name: one for name, one in self._spoken.items() if one.start < self._plays_until}

    def _cut(self, spoken: _Spoken, heard_ms: float) -> None:
        """Keep of a text what was heard, by its share of the audio, to the end of the word."""
        text = spoken.text
        if heard_ms < spoken.audio_ms:
            length = int(len(text) * max(0.0, heard_ms) / spoken.audio_ms)
            spoken.text = text[:length] + text[length:].partition(" ")[0] if length else ""
            spoken.audio_ms = max(0.0, heard_ms)

    def _interrupted(self, response: str | None) -> None:
        if response is None or self._is_new("interrupted", response):
            self._recorder.add_event(INTERRUPTED, tags=("interruption",))

    def _settle(self, *, at_last: bool = False) -> None:
        """Finish what has been played for long enough that nobody will say it was cut."""
        for name, spoken in list(self._spoken.items()):
            over = spoken.start + spoken.audio_ms + _ROUND_TRIP * 900 <= self._now()
            if at_last or (over and spoken.text):
                self._finish(name)

    def _finish(self, name: str) -> None:
        spoken = self._spoken.pop(name)
        if spoken.text:
            start, end = round(spoken.start), round(spoken.start + spoken.audio_ms)
            self._recorder.agent_said(spoken.text, start_offset_ms=start, end_offset_ms=end)

    # -- tools and replies --------------------------------------------------------------------------------------

    def _item(self, event: Mapping[str, Any]) -> None:
        item = event.get("item") or {}
        if item.get("type") == "function_call" and item.get("name"):
            self._names[item["call_id"]] = item["name"]
        elif item.get("type") == "function_call_output" and item.get("call_id") in self._tools:
            _, block = self._tools.pop(item["call_id"])
            block.output = _parsed(item.get("output"))
            block.__exit__(None, None, None)

    def _tool_asked_for(self, event: Mapping[str, Any]) -> None:
        call = event["call_id"]
        if self._is_new("tool", call):
            name = event.get("name") or self._names.get(call) or "unknown"
            block = self._recorder.tool_call(name, _parsed(event.get("arguments")), self._descriptions.get(name))
            self._tools[call] = (event.get("response_id"), block.__enter__())

    def _reply_done(self, event: Mapping[str, Any]) -> None:
        response = event.get("response") or {}
        if response.get("status") != "cancelled":
            return
        if (response.get("status_details") or {}).get("reason") == "turn_detected":
            self._interrupted(response.get("id"))
        for call, (reply, block) in list(self._tools.items()):
            if reply is not None and reply == response.get("id"):
                del self._tools[call]
                block.output = {"status": "cancelled"}
                block.__exit__(None, None, None)

    def _error(self, event: Mapping[str, Any]) -> None:
        error = event.get("error") or {}
        facts = {key: error[key] for key in ("type", "code", "message") if error.get(key)}
        self._recorder.add_event("Error of the model's service", metadata=facts)


class _Heard:
    """Where one utterance of the caller's was heard."""

    __slots__ = ("end", "position", "start")

    def __init__(self, start: float) -> None:
        self.start = start
        self.end: float | None = None
        self.position: float | None = None  # of its start, in the audio sent to the model


class _Spoken:
    """One utterance of the agent's: when it plays, how long, and its text."""

    __slots__ = ("audio_ms", "response", "start", "text")

    def __init__(self, start: float, response: str | None) -> None:
        self.start = start
        self.response = response
        self.audio_ms = 0.0
        self.text = ""


def _parsed(value: Any) -> Any:
    """Return what a string of JSON says; cut JSON stays a string."""
    try:
        return json.loads(value)
    except (TypeError, ValueError):
        return value
