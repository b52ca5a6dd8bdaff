"""What a Gemini Live connection says about a call: models 2.5 and 3.x.

Messages have no ids, and most have no times. Transcription comes in pieces that are not in step with the model's own
output: what the caller says stays open for late pieces until the model's turn is over.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Any, ClassVar

from bluejay_ws.integrations.caller_audio import audio_bytes
from bluejay_ws.integrations.tap import Reply, Speech, Tap

if TYPE_CHECKING:
    from bluejay_ws.integrations.tap import Actions
    from bluejay_ws.recorder import Recorder

__all__ = ["GeminiLiveTap"]

_CONTENT = frozenset({"args", "response", "parameters", "parametersJsonSchema"})  # the user's own keys are inside
_CODE = "code_execution"
_INSIDE_OF = {
    "functionResponses": "toolResponse",
    "turns": "clientContent",
    **dict.fromkeys(("audio", "media", "mediaChunks", "activityStart", "activityEnd"), "realtimeInput"),
}
"""The message that a part belongs to: google-genai has objects of parts too."""
APART_MS = 2_000
"""Words of the caller's that come so much later are another utterance: a caller who is silent so long is answered."""


class GeminiLiveTap(Tap):
    """Turn the messages of a Gemini Live connection into facts of a recorder; see `Tap`."""

    __slots__ = (
        "_background", "_calls", "_joins", "_kind_received", "_kind_sent", "_piece_at", "_text", "_text_late",
        "_turn", "_unworded",
    )  # fmt: skip

    provider = "gemini"
    audio_field = "realtime_input"
    listens = True

    def __init__(self, recorder: Recorder, **options: Any) -> None:
        super().__init__(recorder, **options)
        self._turn = 0
        self._text = ""
        self._joins = True  # late pieces of the caller's belong to what was said before
        self._background: set[str] = set()
        self._calls = 0
        self._kind_sent = self._kind_received = ""
        self._piece_at = 0.0
        self._unworded: Reply | None = None  # its turn is over, and its words are still to come
        self._text_late = 0.0  # how far the current reply's text is behind its audio

    def _received(self, message: dict[str, Any]) -> None:
        for key, value in message.items():
            if "_" in key:  # of google-genai's objects
                key, value = _camel_key(key), camel(value)  # noqa: PLW2901
            action = self.received.get(key)
            if action is not None:
                action(self, value)
            elif key not in self.quiet:
                self._unknown()

    def _sent(self, message: dict[str, Any]) -> None:
        whole = next(filter(None, (_INSIDE_OF.get(_camel_key(key)) for key in message)), None)
        for key, value in (message if whole is None else {whole: message}).items():
            if key in {"realtimeInput", "realtime_input"}:
                self._audio_field = key if whole is None else self._audio_field  # what follows is spelled likewise
                self._input(value)
            else:
                action = self.outgoing.get(_camel_key(key))
                if action is not None:
                    action(self, camel(value))

    def _setup(self, setup: dict[str, Any]) -> None:
        self._model_is((setup.get("model") or "").removeprefix("models/"))
        for tool in setup.get("tools") or ():
            functions = tool.get("functionDeclarations") or ()
            self.tools.describe(functions)
            self._background |= {one.get("name") for one in functions if one.get("behavior") == "NON_BLOCKING"}

    # -- the caller --------------------------------------------------------------------------------------------

    def _audio_in(self, payload: dict[str, Any]) -> Any:
        chunk = payload.get("audio") or payload.get("media")
        return self._data_of(chunk) if type(chunk) is dict else None

    def _input(self, facts: dict[str, Any]) -> None:
        for key, value in facts.items():
            if key in {"audio", "media", "mediaChunks", "media_chunks"}:
                for data in filter(None, map(self._data_of, value if type(value) is list else [value])):
                    self.input.sent(data)
            elif key in {"activityStart", "activity_start"}:
                self._user_begins(None)
            elif key in {"activityEnd", "activity_end"} and self._user is not None:
                self._user.end = self._now()
            elif key == "text" and value:
                self._typed_text(value)

    def _data_of(self, chunk: dict[str, Any]) -> Any:
        """Return a chunk's audio; None: it is a picture."""
        kind = chunk.get("mime_type") or chunk.get("mimeType") or ""
        if kind != self._kind_sent:
            if kind and not kind.startswith("audio/"):
                return None
            self._kind_sent, self.input.bytes_per_ms = kind, _rate(kind, self.input.bytes_per_ms)
        return chunk.get("data")

    def _activity_told(self, activity: dict[str, Any]) -> None:
        self.input.listens = False  # the service tells where the caller speaks
        kind = activity.get("voiceActivityType") or activity.get("type") or activity.get("vadSignalType")
        kind = str(getattr(kind, "value", kind))
        position = _seconds(activity.get("audioOffset"))
        if kind.endswith(("START", "SOS")):
            self._user_begins(position)
        elif kind.endswith(("END", "EOS")) and self._user is not None:
            self._place_end(self._user, position, self._now())

    def _user_begins(self, position: float | None) -> None:
        speech = self._user
        if speech is None or speech.text or speech.start is not None:
            speech = self._next_speech()
        self._place_start(speech, position)

    def _next_speech(self) -> Speech:
        if self._user is not None:
            self._tell_user(self._user)
        self._user = self._speech(next(self._numbers))
        self._joins = True
        return self._user

    def _user_piece(self, piece: dict[str, Any]) -> None:
        text, finished = piece.get("text") or "", bool(piece.get("finished"))
        speech = self._user
        if not text:
            if finished and speech is not None and speech.text:
                speech.final = True
            return
        if self._unworded is not None and self._unworded.text:
            self._unworded = None  # it has its words
        now = self._now()
        apart, self._piece_at = now - self._piece_at > APART_MS, now
        if speech is None or speech.final or (speech.text and (apart or not self._joins)):
            speech = self._next_speech()
        if speech.start is None and not speech.text:
            self._place_speech(speech, piece)
        speech.text += _added(speech.text, text, whole=finished)
        speech.final = finished
        if speech.said is not None or speech.final or self._agent is not None or self._hears:
            self._tell_user(speech)

    def _place_speech(self, speech: Speech, piece: dict[str, Any]) -> None:
        begin, end = _seconds(piece.get("startOffset")), _seconds(piece.get("endOffset"))
        if begin is not None:
            self._place_start(speech, begin)
            self._place_end(speech, end, self._now())
            return
        self._heard_speech(speech)
        reply = self._agent
        if speech.start is not None and reply is not None and reply.start is not None and self._joins:
            speech.start = min(speech.start, max(0, reply.start - 1))
            speech.end = min(speech.end or speech.start, float(reply.start))

    # -- the agent ---------------------------------------------------------------------------------------------

    def _content(self, content: dict[str, Any]) -> None:
        turn = content.get("modelTurn")
        if turn and len(content) == 1:  # most are so
            for part in turn.get("parts") or ():
                self._part(part)
            return
        if content.get("interrupted"):
            self._was_interrupted()
        if content.get("inputTranscription"):
            self._user_piece(content["inputTranscription"])
        if content.get("outputTranscription"):
            self._agent_piece(content["outputTranscription"])
        if turn:
            for part in turn.get("parts") or ():
                self._part(part)
        if content.get("generationComplete"):
            self._agent_done()
        if content.get("turnComplete"):
            self._turn_done()

    def _current(self) -> Reply:
        if self._agent is None:
            if self._user is not None:
                self._tell_user(self._user)
            self._text_late, self._unworded = 0.0, None
            self._agent = self._reply(next(self._numbers), self._turn)
        return self._agent

    def _agent_piece(self, piece: dict[str, Any]) -> None:
        text = piece.get("text") or ""
        if not text:
            return
        reply = self._agent or self._unworded or self._current()
        if reply.audio_ms:
            self._mark(reply)
        self._agent_text(reply, _added(reply.text, text, whole=bool(piece.get("finished"))))

    def _mark(self, reply: Reply) -> None:
        """Note how much audio had come before a piece; text that comes behind its audio is that much late."""
        if not reply.marks and not reply.text:
            self._text_late = reply.audio_ms
        mark = max(0.0, reply.audio_ms - self._text_late)
        if not reply.marks or mark > reply.marks[-1][0]:
            reply.marks.append((mark, len(reply.text)))

    def _part(self, part: dict[str, Any]) -> None:
        audio = part.get("inlineData")
        if audio is not None:
            kind = audio.get("mimeType") or ""
            if kind != self._kind_received:
                if kind and not kind.startswith("audio/"):
                    return
                self._kind_received, self.output_bytes_per_ms = kind, _rate(kind, self.output_bytes_per_ms)
            self._agent_audio(self._agent or self._current(), audio_bytes(audio.get("data")) / self.output_bytes_per_ms)
        elif part.get("executableCode") is not None:
            self._calls += 1
            self.tools.begin((_CODE, self._calls), _CODE, part["executableCode"])
        elif part.get("codeExecutionResult") is not None:
            self.tools.answered((_CODE, self._calls), part["codeExecutionResult"])
        elif part.get("text") and not part.get("thought"):
            self._text += part["text"]

    def _agent_done(self) -> None:
        if self._agent is not None:
            self._agent.final = True
            self._tell_agent(self._agent)

    def _turn_done(self) -> None:
        self._agent_done()
        self._tell_text()
        if self._user is not None:
            self._tell_user(self._user)
        reply, self._agent = self._agent, None
        self._unworded = reply if reply is not None and reply.audio_ms and not reply.text else None
        self._turn += 1
        self._joins = False
        self._tell_usage()

    def _tell_text(self) -> None:
        text, self._text = self._text, ""
        if text and (self._agent is None or not self._agent.text):
            self._text_reply(text)

    def _finish(self) -> None:
        self._tell_text()
        super()._finish()

    def _was_interrupted(self) -> None:
        reply = self._agent or self._playing()
        self._interrupted(self._turn)
        if reply is not None:
            reply.called_off = not reply.final
            self._cut(reply)
            self._drop_unheard(reply)
        self._cut_the_rest()
        self._joins = False

    # -- tools -------------------------------------------------------------------------------------------------

    def _tool_called(self, call: dict[str, Any]) -> None:
        if self._user is not None:
            self._tell_user(self._user)
        for function in call.get("functionCalls") or ():
            self.tools.begin(function.get("id"), function.get("name"), function.get("args") or {})

    def _answered(self, answer: dict[str, Any]) -> None:
        responses = answer.get("functionResponses") or ()
        for one in (responses,) if isinstance(responses, dict) else responses:
            self._answer(one)

    def _answer(self, answer: dict[str, Any]) -> None:
        name = answer.get("name")
        if answer.get("willContinue"):
            return
        said: Any = answer.get("response")
        waited, wrapped = bool(self.tools.open()), set(said) if isinstance(said, dict) else set()
        if wrapped in ({"error"}, {"output"}):
            (said,) = said.values()
        self.tools.answered(answer.get("id"), said, name, failed=wrapped == {"error"})
        if waited and name not in self._background and self._agent is not None and self._agent.text:
            self._agent_done()  # what follows the answer is another utterance
            self._agent = None

    def _withdrawn(self, cancellation: dict[str, Any]) -> None:
        for key in cancellation.get("ids") or ():
            self.tools.cancelled(key)

    # -- the rest ----------------------------------------------------------------------------------------------

    def _client_content(self, content: dict[str, Any]) -> None:
        turns = content.get("turns") or ()
        turns = (turns,) if isinstance(turns, dict) else turns
        if turns and content.get("turnComplete", True) and turns[-1].get("role", "user") == "user":
            for part in turns[-1].get("parts") or ():
                if part.get("text"):
                    self._typed_text(part["text"])

    def _going_away(self, notice: dict[str, Any]) -> None:
        self._note("The model's service is about to close the connection", time_left=str(notice.get("timeLeft")))

    received: ClassVar[Actions] = {
        "serverContent": _content,
        "toolCall": _tool_called,
        "toolCallCancellation": _withdrawn,
        "voiceActivity": _activity_told,
        "voiceActivityDetectionSignal": _activity_told,
        "usageMetadata": Tap._add_usage,  # noqa: SLF001 - it is this class's own
        "goAway": _going_away,
    }
    outgoing: ClassVar[Actions] = {
        "setup": _setup,
        "clientContent": _client_content,
        "toolResponse": _answered,
    }
    quiet: ClassVar[frozenset[str]] = frozenset({"setupComplete", "sessionResumptionUpdate"})


def _added(text: str, piece: str, *, whole: bool) -> str:
    """Return what a piece adds to a text; most bring their spaces with them, whole sentences do not.

    A last piece that begins with all that was said says it again.
    """
    if whole and text and piece.strip().startswith(text.strip()):
        rest = piece.strip()[len(text.strip()) :]
        return rest.lstrip() if text[-1].isspace() else rest
    if text and text[-1] in ".?!" and piece[:1].isupper():
        return f" {piece}"
    return piece


def _seconds(text: Any) -> float | None:
    """Return the milliseconds of a duration such as ``"1.880s"``."""
    if isinstance(text, str) and text.endswith("s"):
        return float(text[:-1]) * 1e3
    if type(text) in {int, float}:
        return float(text) * 1e3
    seconds = getattr(text, "total_seconds", None)
    return None if seconds is None else float(seconds()) * 1e3


@lru_cache(maxsize=32)
def _rate(kind: str, default: float) -> float:
    rate = kind.partition("rate=")[2].partition(";")[0]
    return int(rate) * 2 / 1_000 if rate.isdigit() and int(rate) else default


@lru_cache(maxsize=512)
def _camel_key(key: str) -> str:
    head, *rest = key.split("_")
    return head + "".join(part[:1].upper() + part[1:] for part in rest)


def camel(value: Any) -> Any:
    """Return a message with the wire's names; google-genai's objects and the frames it sends have Python's."""
    if type(value) is dict:
        return {
            (name := _camel_key(key) if type(key) is str and "_" in key else key): inner
            if name in _CONTENT or type(inner) is str
            else camel(inner)
            for key, inner in value.items()
        }
    return [camel(one) for one in value] if type(value) is list else value
