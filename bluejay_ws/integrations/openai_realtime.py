"""What an OpenAI Realtime connection says about a call.

For OpenAI (GA and beta event names), Azure OpenAI, Azure Voice Live, xAI Grok Voice, Qwen, and OpenAI's live models
(`bluejay_ws.integrations.openai_live`). The same fact comes up to five times in one stream: the first counts, and a
later final text of the same item replaces the earlier one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from bluejay_ws.integrations.caller_audio import audio_bytes
from bluejay_ws.integrations.messages import number
from bluejay_ws.integrations.openai_live import LIVE_OUTGOING, LIVE_QUIET, LIVE_RECEIVED, Live
from bluejay_ws.integrations.tap import LEFT_MS, SERVICE_ERROR, Reply, Speech, Tap, is_new, noting

if TYPE_CHECKING:
    from collections.abc import Callable

    from bluejay_ws.integrations.tap import Actions
    from bluejay_ws.integrations.tool_calls import ToolCall
    from bluejay_ws.recorder import Recorder

__all__ = ["OpenAIRealtimeTap"]

PREFIX_MS, SILENCE_MS = 300.0, 500.0
"""What the server's voice detection adds before and after the caller's speech, unless the session says otherwise."""

TEXTS = 1_000  # so many items are remembered that were written, or could not be transcribed: each is told once

_G711 = frozenset({"g711_ulaw", "g711_alaw", "audio/pcmu", "audio/pcma"})


class OpenAIRealtimeTap(Tap):
    """Turn the events of an OpenAI Realtime connection into facts of a recorder; see `Tap`.

    The server's events alone are enough: a tool's output comes back as the echo of the item that the client added.
    With `sent`, the caller's speech is placed by the server's positions in the audio, whenever that was sent.

    Args:
        recorder: the call's.
        speaks_text: the model's text replies are spoken by a text-to-speech of your own: record them as said.
        bytes_per_ms: of the model's audio, where the session does not say; default PCM at 24,000 Hz.
    """

    __slots__ = (
        "_approvals", "_broke_in", "_least_delay", "_playing_out", "_plays_elsewhere", "_prefix_ms", "_silence_ms",
        "_speaking", "_speaks_text", "_stops_for_caller", "_texts", "live",
    )  # fmt: skip

    provider = "openai"
    audio_field = "audio"
    input_rate = 48.0

    def __init__(self, recorder: Recorder, *, speaks_text: bool = False, bytes_per_ms: float | None = None) -> None:
        super().__init__(recorder, output_bytes_per_ms=bytes_per_ms)
        self._speaks_text = speaks_text
        self._prefix_ms, self._silence_ms = PREFIX_MS, SILENCE_MS
        self._speaking: Speech | None = None  # what began last
        self._texts: dict[Any, None] = {}
        self._approvals: dict[Any, dict[str, Any]] = {}
        self._broke_in: tuple[Speech, Reply, float] | None = None  # on a reply that played, and when that was told
        self._stops_for_caller = True
        self._least_delay = float("inf")  # of pings, in which xAI tells the time
        self._playing_out: Any = None  # the response whose audio the server plays
        self._plays_elsewhere = False  # WebRTC and SIP: the audio is not in the events
        self.live = Live(self)

    def _configured(self, event: dict[str, Any]) -> None:
        session = event.get("session") or {}
        audio = session.get("audio") or {}
        heard, spoken = audio.get("input") or {}, audio.get("output") or {}
        self._model_is(session.get("model"))
        settings = heard if "turn_detection" in heard else session
        if "turn_detection" in settings:
            self._detection(settings["turn_detection"])
        input_format = heard.get("format") or session.get("input_audio_format")
        rate = session.get("input_audio_sampling_rate")
        self.input.bytes_per_ms = _bytes_per_ms(input_format, self.input.bytes_per_ms, rate)
        output_format = spoken.get("format") or session.get("output_audio_format")
        self.output_bytes_per_ms = _bytes_per_ms(output_format, self.output_bytes_per_ms)
        self.tools.describe(session.get("tools"))

    def _detection(self, detection: Any) -> None:
        self.input.listens = detection is None and not self._hears  # push to talk: the audio tells since when
        if not isinstance(detection, dict):
            return
        self._stops_for_caller = detection.get("interrupt_response") is not False
        measured = (detection.get("type") or "server_vad") in {"server_vad", "azure_semantic_vad"}
        prefix, silence = number(detection.get("prefix_padding_ms")), number(detection.get("silence_duration_ms"))
        self._prefix_ms = (PREFIX_MS if prefix is None else prefix) if measured else 0.0
        self._silence_ms = (SILENCE_MS if silence is None else silence) if measured else 0.0

    # -- the caller --------------------------------------------------------------------------------------------

    def _user_began(self, event: dict[str, Any]) -> None:
        speech = self._speech(event["item_id"])
        if speech.stopped:  # its end is taken back, and so is the reply to it
            speech.stopped, speech.end, speech.end_position = False, None, None
            self._taken_back(speech)
        self._speaking = speech
        if speech.start is not None:
            return
        speech.position = position = number(event.get("audio_start_ms"))
        padding = self._prefix_ms if position else 0.0  # at the very beginning of the audio there is none
        self._place_start(speech, None if position is None else position + padding)
        self._may_break_in(speech)

    def _may_break_in(self, speech: Speech) -> None:
        """Note that a reply plays: if this becomes the caller's turn, it was cut, though nothing may tell that."""
        playing = self._playing()
        now = float(self._now())
        if playing is not None and playing.plays_from + playing.audio_ms - now > LEFT_MS:
            self._broke_in = speech, playing, now

    def _breaks_in_on(self, speech: Speech) -> None:
        """The caller's turn is real. Where the call's frames are observed, they tell what was heard of the reply."""
        found, self._broke_in = self._broke_in, None
        if found is None or found[0] is not speech or found[1].heard_ms is not None:
            return
        if self._stops_for_caller and not self._plays_elsewhere and not self._observed():
            reply, at = found[1], found[2]
            self._interrupts(reply.response or reply.key)
            self._cut_there(reply, at - reply.plays_from, at)

    def _taken_back(self, speech: Speech) -> None:
        reply = next(reversed(self._replies.values()), None)
        if reply is None or reply.start is None or speech.start is None or reply.start < speech.start:
            return
        if reply.heard_ms is None:
            self._cut(reply)
            self._interrupted((speech.key, reply.response))

    def _user_ended(self, event: dict[str, Any]) -> None:
        speech = self._speeches.get(event["item_id"])
        if speech is None:
            return
        speech.stopped = True
        position, now = number(event.get("audio_end_ms")), self._now()
        silence = self._silence_ms
        self._place_end(speech, None if position is None else position - silence, now - silence)
        if speech.end_position is not None or position is None:
            return
        if speech.position is not None and speech.said is None:  # its length is exact, and its end came just now
            began = max(0, round(now - (position - speech.position) + self._prefix_ms))
            speech.start = began if speech.start is None else min(speech.start, began)

    def _committed(self, event: dict[str, Any]) -> None:
        """The caller's turn is over; what the agent said before it has been heard, or was dropped."""
        speech = self._speech(event["item_id"])
        self._breaks_in_on(speech)
        self._plays_until = min(self._plays_until, float(self._now()))
        self._heard_speech(speech)  # of push to talk there are no events of speech

    def _idle(self, event: dict[str, Any]) -> None:
        self._speech(event.get("item_id")).dropped = True
        self._note("The model waited in vain for the caller")

    def _user_piece(self, event: dict[str, Any]) -> None:
        speech = self._speech(event["item_id"])
        if not speech.final:
            speech.text += event.get("delta") or ""

    def _user_updated(self, event: dict[str, Any]) -> None:
        speech = self._speech(event["item_id"])
        if not speech.final:
            speech.text = event.get("transcript") or ""
        if speech.stopped and speech.said is None:  # it went on after the end that was told
            speech.end, speech.end_position = self._now(), None

    def _user_text(self, event: dict[str, Any]) -> None:
        if event.get("status") == "in_progress":
            self._user_updated(event)
            return
        speech = self._speech(event["item_id"])
        if speech.start is None and not self._observed():
            at = self._now() if speech.end is None else speech.end
            speech.start = self._stamp(at)
        self._user_said(speech, event.get("transcript") or "")

    def _not_transcribed(self, event: dict[str, Any]) -> None:
        error, key = event.get("error") or {}, (event.get("item_id"), "failed")
        if not is_new(key, self._texts, TEXTS):
            return
        speech = self._speeches.get(event.get("item_id"))
        start = None if speech is None else speech.start
        facts = {"item_id": event.get("item_id"), **_facts(error)}
        self.recorder.add_event(
            "Transcription failed", start_offset_ms=start, tags=(self.provider, "transcription"), metadata=facts
        )

    # -- the agent ---------------------------------------------------------------------------------------------

    def _audio(self, event: dict[str, Any]) -> None:
        reply = self._replies.get(event["item_id"])
        if reply is None:
            reply = self._reply(event["item_id"], event.get("response_id"))
        ms = audio_bytes(event["delta"]) / self.output_bytes_per_ms
        self._agent_audio(reply, ms or event.get("audio_duration_ms") or 0.0)

    def _text_piece(self, event: dict[str, Any]) -> None:
        reply = self._replies.get(event["item_id"])
        if reply is None:
            reply = self._reply(event["item_id"], event.get("response_id"))
        if reply.final:
            return
        start = number(event.get("start_time"))
        if start is not None:
            reply.marks.append((start * 1e3, len(reply.text)))
        self._agent_text(reply, event["delta"])

    def _timed_word(self, event: dict[str, Any]) -> None:
        """Note the end of a word; words come with the spaces between them or without, before their text or after it."""
        reply, word = self._reply(event["item_id"], event.get("response_id")), event["text"]
        said = reply.marks[-1][1] if reply.marks else 0
        found = reply.text.find(word.strip(), said, said + len(word) + 4)
        glue = 1 if said and not word[:1].isspace() else 0
        said = said + glue + len(word) if found < 0 else found + len(word.strip())
        reply.marks.append((event["audio_offset_ms"] + (event.get("audio_duration_ms") or 0), said))

    def _whole_text(self, event: dict[str, Any]) -> None:
        reply = self._reply(event["item_id"], event.get("response_id"))
        index = event.get("content_index") or 0
        text = event.get("transcript") or ""
        if reply.final and index:  # a second part of the same item
            self._agent_said(reply, f"{reply.text} {text}".strip() if text not in reply.text else reply.text)
        else:
            self._agent_said(reply, text)

    def _written(self, event: dict[str, Any]) -> None:
        key = (event["item_id"], event.get("content_index") or 0)
        text = event.get("text") or ""
        if not text or not is_new(key, self._texts, TEXTS):
            return
        if self._speaks_text:
            self._agent_said(self._reply(event["item_id"], event.get("response_id")), text)
        else:
            self._text_reply(text)

    def _truncated(self, event: dict[str, Any]) -> None:
        reply = self._replies.get(event["item_id"])
        if reply is None or (reply.start is None and not reply.text):
            return
        self._cut_there(reply, number(event.get("audio_end_ms")), float(self._now()))
        self._interrupts(reply.response or reply.key)

    def _cut_there(self, reply: Reply, heard_ms: float | None, at: float) -> None:
        self._cut(reply, heard_ms)
        for later in self._replies.values():  # what was to play after it was dropped with it
            behind = later.start is not None and reply.start is not None and later.plays_from > reply.plays_from
            if behind and later.heard_ms is None and later.plays_from > at:
                self._cut(later, 0.0)

    def _of_response(self, response: Any) -> list[Reply]:
        return [reply for reply in self._replies.values() if response is not None and reply.response == response]

    def _play_out_begins(self, event: dict[str, Any]) -> None:
        """WebRTC and SIP: the server plays the audio itself, and says when."""
        self._plays_elsewhere, self._playing_out = True, event.get("response_id")
        for reply in self._of_response(self._playing_out):
            if reply.start is None:
                self._reply_begins(reply)

    def _reply(self, key: Any, response: Any = None) -> Reply:
        reply = super()._reply(key, response)
        if reply.start is None and response is not None and response == self._playing_out:
            self._reply_begins(reply)  # its audio began before its first word came
        return reply

    def _play_out_ends(self, event: dict[str, Any]) -> None:
        self._plays_elsewhere, self._playing_out = True, None
        for reply in self._of_response(event.get("response_id"))[-1:]:
            if reply.start is not None and not reply.audio_ms and reply.heard_ms is None:
                reply.audio_ms = max(0.0, self._now() - reply.plays_from)
                self._tell_agent(reply)

    def _tell_agent(self, reply: Reply) -> None:
        if reply.start is not None or not self._plays_elsewhere:
            super()._tell_agent(reply)

    def _cleared(self, event: dict[str, Any]) -> None:
        """WebRTC and SIP: the server stopped its own play-out."""
        self._plays_elsewhere, self._playing_out = True, None
        self._interrupts(event.get("response_id"))
        for reply in self._of_response(event.get("response_id")):
            if reply.heard_ms is None:
                self._cut(reply)

    def _interrupts(self, response: Any) -> None:
        """One barge-in may cut several items, and cancel the reply that had not begun: it is still one."""
        speech = self._speaking
        if speech is not None and ("speech", speech.key) in self._interruptions:
            self._interruptions[response] = None
            return
        at = None if speech is None or speech.final else speech.start
        fresh = response not in self._interruptions
        self._interrupted(response, at=at)
        if fresh and speech is not None and not speech.final:
            self._interruptions["speech", speech.key] = None

    # -- replies -----------------------------------------------------------------------------------------------

    def _reply_done(self, event: dict[str, Any]) -> None:
        response = event.get("response") or {}
        self._add_usage(response.get("usage") or event.get("usage"))
        for item in response.get("output") or ():
            self._item_in(item, response.get("id"))
        status, details = response.get("status"), response.get("status_details")
        details = details if isinstance(details, dict) else {}
        if status == "cancelled":
            self._reply_cancelled(response.get("id"), details.get("reason"))
        elif status in {"failed", "incomplete"}:
            facts = {"reason": details.get("reason"), **_facts(details.get("error") or {})}
            self._note(f"Response {status}", response_id=response.get("id"), **facts)
            self._withdraw(response.get("id"), {"status": "failed", "message": f"response {status}"})
        else:
            self._begin_pending(lambda call: call.response == response.get("id"))

    def _reply_cancelled(self, name: Any, reason: Any) -> None:
        replies = self._of_response(name)
        spoken = [one for one in replies if one.start is not None]
        for reply in replies:
            reply.called_off = True
            if reply.start is None and not self._plays_elsewhere:  # its text came, and no audio
                reply.heard_ms = 0.0
                self._tell_agent(reply)
        if spoken and (reason == "turn_detected" or self._breaks_in(spoken[0])):
            self._interrupts(name)
            for reply in spoken:
                self._cut(reply)
        elif not spoken:
            self._note("Response cancelled before it was spoken", reason=reason, response_id=name)
        self._withdraw(name, {"status": "cancelled"})

    def _withdraw(self, response: Any, outcome: dict[str, Any]) -> None:
        """Note what became of a reply's tool calls, unless the client answers them all the same."""
        for call in self.tools.known():
            if response is not None and call.response == response:
                call.outcome, call.pieces = outcome, None  # what is not complete never will be

    def _breaks_in(self, reply: Reply) -> bool:
        """Return whether the caller has spoken since a reply began: then the client cancelled it for that."""
        speech = self._speaking
        return speech is not None and None not in {speech.start, reply.start} and speech.start >= reply.start  # type: ignore[operator]

    def _cancelled(self, event: dict[str, Any]) -> None:
        self._reply_cancelled(event.get("response_id") or (event.get("response") or {}).get("id"), "turn_detected")

    # -- items and tools ---------------------------------------------------------------------------------------

    def _item(self, event: dict[str, Any]) -> None:
        item = event.get("item")
        if item is not None:
            self._item_in(item, event.get("response_id"))

    def _output_item(self, event: dict[str, Any]) -> None:
        item = event.get("item")
        if item is not None:
            self._item_in(item, event.get("response_id") or "")  # "": of some response

    def _item_in(self, item: dict[str, Any], response: Any) -> None:
        kind = item.get("type")
        if kind == "function_call":
            self._function(item, response)
        elif kind == "function_call_output":
            self._function_answered(item)
        elif kind in {"mcp_approval_request", "mcp_approval_response"}:
            self._approval(item)
        elif kind == "message":
            self._message(item, response)
        elif type(kind) is str and kind.endswith("_call"):
            self._server_tool(kind, item)

    def _function(self, item: dict[str, Any], response: Any) -> None:
        call = self.tools.of(item.get("call_id"))
        if not call.begun:
            call.name = item.get("name") or call.name
        if response is None and not call.by_model:
            return  # the client put it there: a call of before this connection
        self._asked(call, response)
        if item.get("status") == "completed" and item.get("arguments"):
            self._begin_tool(call, item.get("name"), item["arguments"], response)

    def _asked(self, call: ToolCall, response: Any) -> None:
        if not call.by_model:
            call.by_model, call.response = True, response

    def _message(self, item: dict[str, Any], response: Any) -> None:
        if item.get("role") == "user":
            for part in item.get("content") or ():
                if part.get("type") in {"input_text", "text"} and part.get("text"):
                    self._typed_text(part["text"], item.get("id"))
        elif item.get("role") == "assistant" and item.get("status") in {"completed", "incomplete"} and item.get("id"):
            self._message_text(item, response)

    def _message_text(self, item: dict[str, Any], response: Any) -> None:
        """Take a reply's text from its item, where it did not come before: then only this tells it."""
        reply = self._replies.get(item["id"])
        for index, part in enumerate(item.get("content") or ()):
            if part.get("transcript") and (response is not None if reply is None else not reply.final):
                self._agent_said(self._reply(item["id"], response), part["transcript"])
            elif part.get("text") and response is not None:  # else it may be a message of before the session
                self._written({"item_id": item["id"], "response_id": response, "content_index": index, **part})

    def _arguments(self, event: dict[str, Any]) -> None:
        key, name = event.get("call_id"), event.get("name")
        call = self.tools.of(key)
        if name or key is None or call.name:
            call.start = None  # now
            self._begin_tool(call, name, event.get("arguments"), event.get("response_id"))
        elif not call.begun:  # its item is still to come, and has the name
            call.start = self._now()
            call.by_model, call.response = True, event.get("response_id")
            call.pieces = event.get("arguments") or ""

    def _arguments_piece(self, event: dict[str, Any]) -> None:
        key = event.get("call_id")
        if key is not None and not (call := self.tools.of(key)).begun:
            call.pieces = (call.pieces or "") + (event.get("delta") or "")
            call.start = self._now()  # if nothing tells that they are whole
            self._asked(call, event.get("response_id"))

    def _begin_tool(self, call: ToolCall, name: Any, arguments: Any, response: Any) -> None:
        known, call.pieces = call.response, None
        self.tools.begin(call.key, name, arguments, another=bool(response and known and response != known))
        call.by_model, call.response, call.start = True, response or known, None

    def _begin_pending(self, of: Callable[[ToolCall], bool]) -> None:
        """Take what came only in pieces, or without a name."""
        for call in self.tools.known():
            if call.pieces is not None and of(call):
                self._begin_tool(call, None, call.pieces, call.response)

    def _function_answered(self, item: dict[str, Any]) -> None:
        key = item.get("call_id")
        self._begin_pending(lambda call: call.key == key)
        self.tools.answered(key, item.get("output"))

    def _approval(self, item: dict[str, Any]) -> None:
        """A tool of a server's waits for a word of the client's; what was refused is not called."""
        if item["type"] == "mcp_approval_request":
            if item.get("name") and item.get("id") not in self._approvals:
                self._approvals[item.get("id")] = item
                facts = {"tool": item.get("name"), "server": item.get("server_label")}
                self._note("A tool waits for approval", **facts)
            return
        asked = self._approvals.get(item.get("approval_request_id"))
        if asked is not None and item.get("approve") is False:
            self.tools.begin(asked.get("id"), asked.get("name"), asked.get("arguments"))
            self.tools.end(asked.get("id"), {"status": "denied", "message": item.get("reason")})

    def _server_tool(self, kind: str, item: dict[str, Any]) -> None:
        """Take a tool that the server runs: MCP, and searches of the web or of files."""
        key, name = item.get("id"), item.get("name") or kind.removesuffix("_call")
        call = self.tools.of(key)
        call.name = name
        status, arguments = item.get("status"), item.get("arguments") or item.get("action") or item.get("queries")
        output = item.get("results") if item.get("output") is None else item["output"]
        over = status in {"completed", "failed", "incomplete"} or output is not None or item.get("error")
        if not over and not arguments:  # they are still to come
            if kind != "mcp_call" and not call.begun and call.start is None:
                call.start, call.pieces = self._now(), ""
            return
        call.pieces = None
        self.tools.begin(key, name, arguments)
        if not over:
            return
        if item.get("error") or status == "failed":
            self.tools.answered(key, item.get("error") or {}, failed=True)
        elif output is not None:
            self.tools.answered(key, output)
        else:
            self.tools.ended(key)

    def _mcp_arguments(self, event: dict[str, Any]) -> None:
        self.tools.begin(event["item_id"], None, event.get("arguments"))

    def _mcp_failed(self, event: dict[str, Any]) -> None:
        """Its item tells why; the call stays open until that comes."""
        self.tools.of(event["item_id"]).outcome = {"status": "failed"}

    def _item_sent(self, event: dict[str, Any]) -> None:
        item = event.get("item") or {}
        if item.get("type") == "function_call_output":
            self._function_answered(item)
        elif item.get("type") == "mcp_approval_response":
            self._approval(item)

    # -- the rest ----------------------------------------------------------------------------------------------

    def _error(self, event: dict[str, Any]) -> None:
        error = event.get("error") or {}
        self._note(SERVICE_ERROR, **_facts(error if isinstance(error, dict) else {"message": str(error)}))

    def _warned(self, event: dict[str, Any]) -> None:
        self._note("Warning of the model's service", **_facts(event.get("warning")))

    def _ping(self, event: dict[str, Any]) -> None:
        """xAI: what came before a ping was sent before it, however late it was read here.

        The server's clock is not ours: the ping that was read soonest tells how they differ.
        """
        sent, now = event.get("timestamp"), self._now()
        if type(sent) not in {int, float}:
            return
        self._least_delay = min(self._least_delay, now - sent)  # type: ignore[operator]
        latest = sent + self._least_delay  # type: ignore[operator]
        for speech in self._speeches.values():
            if speech.said is None:
                self._not_after(speech, latest)

    def _not_after(self, speech: Speech, latest: float) -> None:
        if speech.start is not None and speech.start_position is None:
            speech.start = min(speech.start, max(0, round(latest)))
        if speech.end is not None and speech.end_position is None:
            speech.end = min(speech.end, latest)

    def _finish(self) -> None:
        self.live.finish()
        self._plays_elsewhere = False
        self._begin_pending(lambda _: True)
        for call in self.tools.open():
            if call.outcome is not None:
                self.tools.end(call.key, call.outcome)
        super()._finish()

    received: ClassVar[Actions] = {
        "session.created": _configured,
        "session.updated": _configured,
        "input_audio_buffer.speech_started": _user_began,
        "input_audio_buffer.speech_stopped": _user_ended,
        "input_audio_buffer.committed": _committed,
        "input_audio_buffer.timeout_triggered": _idle,
        "input_audio_buffer.dtmf_event_received": noting("DTMF", key="event"),
        "conversation.item.input_audio_transcription.delta": _user_piece,
        "conversation.item.input_audio_transcription.updated": _user_updated,
        "conversation.item.input_audio_transcription.completed": _user_text,
        "conversation.item.input_audio_transcription.failed": _not_transcribed,
        "response.output_audio.delta": _audio,
        "response.audio.delta": _audio,
        "response.output_audio_transcript.delta": _text_piece,
        "response.audio_transcript.delta": _text_piece,
        "response.output_audio_transcript.done": _whole_text,
        "response.audio_transcript.done": _whole_text,
        "response.audio_timestamp.delta": _timed_word,
        "response.output_text.done": _written,
        "response.text.done": _written,
        "conversation.item.truncated": _truncated,
        "output_audio_buffer.started": _play_out_begins,
        "output_audio_buffer.stopped": _play_out_ends,
        "output_audio_buffer.cleared": _cleared,
        "response.done": _reply_done,
        "response.cancelled": _cancelled,
        "conversation.item.added": _item,
        "conversation.item.created": _item,
        "conversation.item.done": _item,
        "response.output_item.added": _output_item,
        "response.output_item.done": _output_item,
        "response.function_call_arguments.delta": _arguments_piece,
        "response.function_call_arguments.done": _arguments,
        "response.mcp_call_arguments.done": _mcp_arguments,
        "response.mcp_call.failed": _mcp_failed,
        "mcp_list_tools.failed": noting("The tools of an MCP server could not be listed", item_id="item_id"),
        "warning": _warned,
        "error": _error,
        "ping": _ping,
        **LIVE_RECEIVED,
    }
    outgoing: ClassVar[Actions] = {
        "conversation.item.create": _item_sent,
        "conversation.item.truncate": _truncated,
        **LIVE_OUTGOING,
    }
    quiet: ClassVar[frozenset[str]] = LIVE_QUIET | {
        *("response.created", "response.in_progress", "response.content_part.added", "response.content_part.done"),
        *("response.output_audio.done", "response.audio.done", "response.audio_timestamp.done"),
        *("response.output_text.delta", "response.text.delta"),
        *("response.mcp_call_arguments.delta", "response.mcp_call.in_progress", "response.mcp_call.completed"),
        *("mcp_list_tools.in_progress", "mcp_list_tools.completed"),
        *("response.web_search_call.in_progress", "response.web_search_call.searching"),
        *("response.web_search_call.completed", "response.file_search_call.in_progress"),
        *("response.file_search_call.searching", "response.file_search_call.completed"),
        *("conversation.created", "conversation.item.deleted", "conversation.item.retrieved", "rate_limits.updated"),
        *("input_audio_buffer.append", "input_audio_buffer.cleared"),
        "conversation.item.input_audio_transcription.segment",  # of diarized models; ``completed`` says the whole
        *("response.animation_viseme.delta", "response.animation_viseme.done", "session.avatar.connecting"),
        *("response.animation_blendshapes.delta", "response.animation_blendshapes.done", "session.end"),
        *("conversation.item.ambient_audio_transcription.completed",),
        *("conversation.item.ambient_audio_transcription.delta",),
    }


def _facts(error: Any) -> dict[str, Any]:
    if not isinstance(error, dict):
        return {}
    return {key: error[key] for key in ("type", "code", "message") if error.get(key)}


def _bytes_per_ms(declared: Any, default: float, rate: Any = None) -> float:
    """Return the size of a millisecond of audio, from a format's name (beta) or description (GA)."""
    kind = declared.get("type") if isinstance(declared, dict) else declared
    if kind in _G711:
        return 8.0
    if isinstance(declared, dict):
        rate = declared.get("rate") or rate
    if type(rate) is int and rate > 0:
        return rate * 2 / 1_000
    return default
