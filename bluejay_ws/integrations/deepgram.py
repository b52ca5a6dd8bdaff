"""What a Deepgram Voice Agent connection says about a call: JSON text by ``type``, the agent's audio in bytes.

The agent's words come sentence by sentence, often before their audio. Nothing says how much of a reply was heard:
it is cut by what had played when the caller began to speak.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from bluejay_ws.hearing.utterances import CUT_MARK
from bluejay_ws.integrations.tap import LEFT_MS, SERVICE_ERROR, Reply, Speech, Tap, audio_until, noting, spoken_part

if TYPE_CHECKING:
    from bluejay_ws.hearing.utterances import Utterance
    from bluejay_ws.integrations.tap import Actions
    from bluejay_ws.recorder import Recorder

__all__ = ["DeepgramTap"]


class DeepgramTap(Tap):
    """Turn the messages of a Deepgram Voice Agent connection into facts of a recorder; see `Tap`."""

    provider = "deepgram"
    input_rate = 48.0
    listens = True

    def __init__(self, recorder: Recorder, **options: Any) -> None:
        super().__init__(recorder, **options)
        self._said: _Sentences | None = None
        self._earlier: list[_Sentences] = []  # replies before it, which may still play
        self._cut_said: list[_Sentences] = []  # what was cut last
        self._injected: list[str] = []
        self._stale = False  # what still comes of a reply that was cut is not heard
        self._answered_since = False  # the agent has spoken since the caller began: nothing was said
        self._last_said: Speech | None = None
        self._first_audio_at: float | None = None

    def _settings(self, message: dict[str, Any]) -> None:
        audio = message.get("audio") or {}
        self.input.bytes_per_ms = _bytes_per_ms(audio.get("input"), self.input.bytes_per_ms)
        self.output_bytes_per_ms = _bytes_per_ms(audio.get("output"), self.output_bytes_per_ms)
        think = (message.get("agent") or {}).get("think") or {}
        think = (think[0] if think else {}) if isinstance(think, list) else think
        self._model_is((think.get("provider") or {}).get("model"))
        self.tools.describe(think.get("functions"))

    # -- the caller --------------------------------------------------------------------------------------------

    def _user_began(self, _: dict[str, Any]) -> None:
        if self._user is None or self._answered_since:
            self._answered_since = False
            self._user = self._speech(next(self._numbers))
            current = self.input.spoke_since()
            at = self._now() if current is None else min(current, self._now())
            self._user.start = None if self._observed() else self._stamp(at)
            self._breaks_in()

    def _breaks_in(self) -> None:
        said, cut = self._said, [one for one in self._earlier if self._plays_on(one)]
        self._earlier = []
        if said is not None:
            if not said.reply.audio_ms and not said.reply.final and self._plays_until:
                self._drop_unsaid(said)
            if said.reply.audio_ms and (not said.reply.final or self._plays_on(said)):
                cut.append(said)
                self._said, self._stale = None, not said.reply.final
        if cut:
            self._interrupted(cut[0].reply.key)
            self._cut_said = cut
            for one in cut:
                self._cut(one.reply)

    def _plays_on(self, said: _Sentences) -> bool:
        return said.reply.plays_from + said.reply.audio_ms - self._now() > LEFT_MS

    def _drop_unsaid(self, said: _Sentences) -> None:
        """The caller spoke before the first audio of a reply; what still comes of it is not heard."""
        if not self._observed():
            self._note("Reply dropped before it was spoken")
            said.reply.heard_ms, self._said, self._stale = 0.0, None, True

    def _user_text(self, message: dict[str, Any]) -> None:
        text = message.get("content") or ""
        if text in self._injected:
            self._injected.remove(text)
            return
        speech = self._user
        if speech is None:
            speech = self._speech(next(self._numbers))
            self._heard_speech(speech)
        elif speech.start is not None:
            span = self.input.take_speech(self._now())
            speech.end = self._now() if span is None else max(span[1], speech.start)
        self._user, self._last_said = None, speech
        self._stale, self._first_audio_at = False, None
        self._user_said(speech, text)
        self._reply_over()
        self._earlier = []

    # -- the agent ---------------------------------------------------------------------------------------------

    def _text(self, message: dict[str, Any]) -> None:
        if message.get("role") == "user":
            self._user_text(message)
        elif message.get("role") == "assistant" and message.get("content") and not self._stale:
            self._sentence(message["content"], filler=message.get("conversational_behavior") == "filler")

    def _begins_anew(self, _: dict[str, Any]) -> None:
        """Another reply begins: what comes now is not of the one that was cut."""
        self._stale = False

    def _sentence(self, text: str, *, filler: bool) -> None:
        self._answered_since = True
        if self._said is not None and self._said.reply.final and self._said.sentences:
            self._reply_over()  # else it is the text of what was heard already
        said = self._current()
        if said.reply.audio_ms and said.reply.text:
            sound, letters = said.reply.audio_ms, len(said.reply.text)
            said.reply.marks += (sound, letters), (sound, letters + 1)  # the space between takes no time
        said.add(text, filler=filler)
        self._tell_sentences(said)

    def _audio_received(self, audio: bytes) -> None:
        if self._stale:
            return
        if self._first_audio_at is None:
            self._first_audio_at = self._now()
        if self._said is not None and self._said.reply.final and self._said.reply.audio_ms:
            self._reply_over()
        self._agent_audio(self._current().reply, len(audio) / self.output_bytes_per_ms)

    def _current(self) -> _Sentences:
        if self._said is None:
            self._said = _Sentences(self._reply(next(self._numbers)))
        return self._said

    def _audio_done(self, _: dict[str, Any]) -> None:
        self._stale = False
        if self._said is not None:
            self._said.reply.final = True
            self._tell_sentences(self._said)

    def _reply_over(self) -> None:
        if self._said is not None:
            self._tell_sentences(self._said)
            self._earlier = [one for one in (*self._earlier, self._said) if self._plays_on(one)]
            self._said = None

    def _tell_agent(self, reply: Reply) -> None:
        """Leave it to the sentences; called as audio begins, as a reply is cut, and at the end."""
        for said in (self._said, *self._cut_said):
            if said is not None and said.reply is reply:
                self._tell_sentences(said)

    def _tell_sentences(self, said: _Sentences) -> None:
        reply = said.reply
        if self._observed() and reply.heard_ms is None:
            for one in said.sentences:
                if one.said is None:
                    one.said = self.recorder.agent_said(one.text, filler=one.filler or None)
            return
        if reply.start is None and not reply.final and self._said is said and not said.last:
            return  # not heard yet
        heard = len(reply.text)
        if reply.heard_ms is not None:
            heard = len(spoken_part(reply.text, reply.heard_ms, reply.audio_ms, reply.marks))
        for one in said.sentences:
            self._tell_sentence(reply, one, heard)

    def _tell_sentence(self, reply: Reply, one: _Sentence, heard: int) -> None:
        text = one.text[: max(0, heard - one.at)].rstrip()
        if text and text != one.text:
            text += CUT_MARK
        if not text:
            if one.said is not None:
                one.said.never_spoken()
                one.said, one.placed = None, True  # what the agent sends all the same may still be heard
            return
        start, end = self._span(reply, one, len(text))
        if one.said is None:
            one.placed = reply.start is not None and (one.placed or not self._observed())
            span = {"start_offset_ms": start, "end_offset_ms": end} if one.placed else {}  # else the audio places it
            one.said, one.told = self.recorder.agent_said(text, filler=one.filler or None, **span), text
            return
        if text != one.told:
            one.said.text = one.told = text
        if one.placed:
            one.said.stands(start_offset_ms=start, end_offset_ms=end)

    def _span(self, reply: Reply, one: _Sentence, length: int) -> tuple[int, int]:
        """Return where a sentence stands by what is known of its reply's audio."""
        whole, begun = len(reply.text), reply.plays_from
        start = begun + audio_until(one.at, whole, reply.audio_ms, reply.marks)
        end = begun + audio_until(one.at + length, whole, reply.audio_ms, reply.marks)
        if reply.heard_ms is not None:
            end = min(end, begun + reply.heard_ms)
        return round(start) if one.at or reply.start is None else reply.start, round(end)

    def _finish(self) -> None:
        if self._said is not None:
            self._said.last = True
            self._tell_sentences(self._said)
        super()._finish()

    # -- tools -------------------------------------------------------------------------------------------------

    def _requested(self, message: dict[str, Any]) -> None:
        self._stale = False
        for function in message.get("functions") or ():
            self.tools.begin(function.get("id"), function.get("name"), function.get("arguments"))

    def _answered(self, message: dict[str, Any]) -> None:
        self.tools.answered(message.get("id"), message.get("content"), message.get("name"))

    def _abandoned(self, message: dict[str, Any]) -> None:
        for function in message.get("functions") or ():
            self.tools.cancelled(function.get("id"))

    def _history(self, message: dict[str, Any]) -> None:
        """It repeats what was said before; of tools, it may be the only place where an output stands."""
        for call in message.get("function_calls") or ():
            if not self.tools.told_before(call.get("id")):
                self.tools.begin(call.get("id"), call.get("name"), call.get("arguments"))
            if call.get("response") is not None:
                self.tools.answered(call.get("id"), call["response"])

    # -- the rest ----------------------------------------------------------------------------------------------

    def _inject(self, message: dict[str, Any]) -> None:
        if message.get("content"):
            self._injected.append(message["content"])
            del self._injected[:-16]
            self._typed_text(message["content"])

    def _latency(self, message: dict[str, Any]) -> None:
        facts = {key: value for key, value in message.items() if key.endswith("_latency")}
        self._note("Latency as the provider measured it", **facts)
        if type(message.get("total_latency")) in {int, float} and self._first_audio_at is not None:
            self._caller_ended(self._first_audio_at - message["total_latency"] * 1e3)

    def _caller_ended(self, at: float) -> None:
        """Take the end of what the caller said from how long the agent's first audio took: nothing else tells it."""
        speech, self._last_said = self._last_said, None
        known = speech is not None and speech.said is not None and speech.start is not None
        if known and at >= speech.start and not self._observed():  # type: ignore[union-attr, operator]
            speech.said.lasts(ms=round(at - speech.start))  # type: ignore[union-attr, operator]

    received: ClassVar[Actions] = {
        "UserStartedSpeaking": _user_began,
        "AgentThinking": _begins_anew,
        "AgentStartedSpeaking": _begins_anew,
        "ConversationText": _text,
        "AgentAudioDone": _audio_done,
        "FunctionCallRequest": _requested,
        "FunctionCallResponse": _answered,
        "FunctionCallCancelled": _abandoned,
        "History": _history,
        "LatencyReport": _latency,
        "Error": noting(SERVICE_ERROR, code="code", message="description"),
        "Warning": noting("Warning of the model's service", code="code", message="description"),
        "InjectionRefused": noting("A message to be spoken was refused", message="message"),
        "FrustrationDetected": noting("The caller is frustrated", count="count", escalated="escalated"),
    }
    outgoing: ClassVar[Actions] = {
        "Settings": _settings,
        "FunctionCallResponse": _answered,
        "InjectUserMessage": _inject,
    }
    quiet: ClassVar[frozenset[str]] = frozenset({
        *("Welcome", "SettingsApplied", "PromptUpdated", "SpeakUpdated"),
        *("ThinkUpdated", "ListenUpdated", "EndOfThought"),
    })  # fmt: skip


class _Sentence:
    __slots__ = ("at", "filler", "placed", "said", "text", "told")

    def __init__(self, text: str, at: int, *, filler: bool) -> None:
        self.text = self.told = text
        self.at = at  # its first character in the whole reply
        self.filler = filler
        self.placed = False
        self.said: Utterance | None = None


class _Sentences:
    """One reply: its audio, and the sentences in it."""

    __slots__ = ("last", "reply", "sentences")

    def __init__(self, reply: Reply) -> None:
        self.reply = reply
        self.sentences: list[_Sentence] = []
        self.last = False

    def add(self, text: str, *, filler: bool) -> None:
        reply = self.reply
        reply.text += " " if reply.text else ""
        self.sentences.append(_Sentence(text, len(reply.text), filler=filler))
        reply.text += text


def _bytes_per_ms(form: Any, default: float) -> float:
    if not isinstance(form, dict) or type(form.get("sample_rate")) is not int:
        return default
    rate: int = form["sample_rate"]
    return rate / 1_000 * (1 if form.get("encoding") in {"mulaw", "alaw"} else 2)
