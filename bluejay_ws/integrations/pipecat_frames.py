"""What Pipecat's frames say about a call: who spoke when and what, tools, interruptions. Imports no Pipecat.

A frame is recognised by its class name, and passes here once for each hop from processor to processor. So each is
taken once: a frame that was broadcast both ways as its downstream twin, the agent's text only where the output
transport lets it go (there it is in step with the audio, and dropped when the agent is interrupted; before, it is
only planned), everything else where it is pushed first.

Times are Pipecat's own. The pipeline's clock stamps every push; how long ago that was, is taken off the call's clock.
Of the caller's speech they are positions in the caller's audio as well: a pipeline that starts late, or that was kept
from its work, hears all at once what was said before.
"""

from __future__ import annotations

from functools import lru_cache, partial
from typing import TYPE_CHECKING, Any, Protocol

from bluejay_ws.integrations.caller_audio import InputClock
from bluejay_ws.integrations.tool_calls import ToolCalls, is_new

if TYPE_CHECKING:
    from collections.abc import Callable

    from bluejay_ws.recorder import Recorder

INTERRUPTED = "Caller interrupted the agent"
SETTLE = 0.5  # seconds after the end of an utterance in which more of its text may come
LATE_MS = 5_000.0  # text is not of a speech that ended longer ago than this
SILENCE_MS = 350.0
"""How long Pipecat listens to silent audio of a speaking avatar before it says that the agent has stopped."""
PIECE_MS = 100.0  # audio passes in pieces that are shorter than this
_SEEN = 256  # frames of interest that may be on their way at once

_AT_OUTPUT = {
    "TTSTextFrame": "_agent_text",
    "TTSAudioRawFrame": "_agent_audio",
    "SpeechOutputAudioRawFrame": "_agent_audio",
}
_ANYWHERE = {
    "InputAudioRawFrame": "_user_audio",
    "TranscriptionFrame": "_user_text",
    "TTSSpeakFrame": "_filler_asked_for",
    "VADUserStartedSpeakingFrame": "_user_began",
    "VADUserStoppedSpeakingFrame": "_user_paused",
    "UserStartedSpeakingFrame": "_user_took_over",
    "UserStoppedSpeakingFrame": "_user_gave_over",
    "BotStartedSpeakingFrame": "_agent_began",
    "BotStoppedSpeakingFrame": "_agent_stopped",
    "InterruptionFrame": "_interrupted",
    "FunctionCallInProgressFrame": "_tool_began",
    "FunctionCallResultFrame": "_tool_ended",
    "FunctionCallCancelFrame": "_tool_cancelled",
    "EndFrame": "_ends",
    "CancelFrame": "_cancelled",
}


class Push(Protocol):
    """Pipecat's ``FramePushed``, as far as it is read here."""

    source: Any
    frame: Any
    direction: Any
    timestamp: int


class PipecatTap:
    """Turn the frames of one call into facts of its recorder.

    What ``output``, the output transport's processor, pushes downstream has been played. ``later(seconds, action)``
    lets the last words of an utterance wait for more; without it they wait for the next one, or for `close`.
    """

    __slots__ = (
        "_agent", "_ears", "_ending", "_fillers", "_input", "_later", "_output", "_recorder", "_seen", "_tools",
        "_user",
    )  # fmt: skip

    def __init__(
        self, recorder: Recorder, *, output: object, later: Callable[[float, Callable[[], None]], object] | None = None
    ) -> None:
        self._recorder = recorder
        self._output = output
        self._later = later
        self._user = _UserSpeech()
        self._agent: _AgentSpeech | None = None
        self._tools = ToolCalls(recorder)
        self._seen: dict[int, None] = {}
        self._ending = False
        self._fillers: list[str] = []  # what the application has the agent say beside the model
        self._input = InputClock()
        self._ears: object = None  # where the caller's audio comes in
        recorder.at_end(self.close)  # it may come before Pipecat's own

    def pushed(self, push: Push) -> None:
        """Take note of a frame on its way from one processor to the next."""
        action, at_output = _action(push.frame.__class__)
        if action is None or not self._recorder.active:
            return
        if action == "_user_audio":
            self._user_audio(push)
            return
        downstream = push.direction.name == "DOWNSTREAM"
        if at_output:
            wanted = downstream and push.source is self._output
        else:
            twin = getattr(push.frame, "broadcast_sibling_id", None) is not None
            wanted = (downstream or not twin) and is_new(push.frame.id, self._seen, _SEEN)
        at = self._at(push) if wanted else -1.0
        if at >= 0.0:  # else it is of the call before this one
            getattr(self, action)(push.frame, at)

    def close(self) -> None:
        """Record what is still being said; for the end of the call. May be called again."""
        now = float(self._recorder.offset_ms())
        self._flush_user(now)
        self._finish(self._agent, now)

    # -- inside ------------------------------------------------------------------------------------------------

    def _at(self, push: Push) -> float:
        """Return when a frame was pushed, in milliseconds since the handshake; before it: below zero."""
        if push.timestamp <= 0:  # the pipeline's clock does not run yet
            return float(self._recorder.offset_ms())
        time = push.source.get_clock().get_time()
        age: int = time - push.timestamp
        return self._recorder.offset_ms() - max(age, 0) / 1e6

    def _settle(self, action: Callable[[], None]) -> None:
        if self._later is not None:
            self._later(SETTLE, action)

    # -- the caller --------------------------------------------------------------------------------------------

    def _user_audio(self, push: Push) -> None:
        if self._ears is None:
            self._ears = push.source
        if push.source is self._ears:
            frame = push.frame
            self._input.appended(_length_ms(frame), self._at(push))

    def _position(self, seconds_ago: float) -> float:
        return self._input.position_ms - seconds_ago * 1e3

    def _user_began(self, frame: Any, at: float) -> None:
        if self._user.over:
            self._flush_user(at)
        self._user.began(max(0.0, at - frame.start_secs * 1e3), self._position(frame.start_secs))
        self._agent_is_done()

    def _user_paused(self, frame: Any, at: float) -> None:
        self._user.paused(max(0.0, at - frame.stop_secs * 1e3), self._position(frame.stop_secs))
        self._settle(self._settle_user)

    def _user_took_over(self, _: Any, at: float) -> None:
        self._user.took_over(at)
        self._agent_is_done()

    def _user_gave_over(self, _: Any, at: float) -> None:
        self._user.gave_over(at)
        self._flush_user(at)

    def _user_text(self, frame: Any, at: float) -> None:
        self._user.text(frame, at)
        self._settle(self._settle_user)

    def _settle_user(self) -> None:
        if not self._user.goes_on:
            self._flush_user(float(self._recorder.offset_ms()))

    def _flush_user(self, now: float) -> None:
        words = self._user.take()
        if not words:
            return
        bounds = self._user.heard(now, self._input) or (None if self._observed() else self._user.ruled(now))
        start, end = bounds or (None, None)
        self._recorder.user_said(words, start_offset_ms=_ms(start), end_offset_ms=_ms(end))

    def _observed(self) -> bool:
        """Return whether the caller's own audio frames are observed: they tell better than late rulings."""
        summary = getattr(self._recorder.heard, "summary", None)
        return summary is not None and bool(summary()["user_frames"])

    # -- the agent ---------------------------------------------------------------------------------------------

    def _agent_began(self, _: Any, at: float) -> None:
        if self._agent is None or self._agent.start is not None:
            self._finish(self._agent, at)
            self._agent = _AgentSpeech()
        self._agent.start = at

    def _agent_stopped(self, _: Any, at: float) -> None:
        speech = self._agent
        if speech is None or not speech.goes_on:
            return
        speech.stopped(at)
        if speech.cut or self._ending:
            self._finish(speech, at)
        else:
            self._settle(partial(self._finish, speech, at))

    def _agent_audio(self, frame: Any, at: float) -> None:
        if self._agent is not None:
            self._agent.audio(frame, at)

    def _filler_asked_for(self, frame: Any, _: float) -> None:
        self._fillers.append(" ".join(frame.text.split()))
        del self._fillers[:-16]

    def _is_filler(self, words: str) -> bool:
        """Return whether the application had this said; an interruption may have cut it."""
        said = " ".join(words.split())
        found = next((text for text in self._fillers if text.startswith(said)), None)
        if found is not None:
            self._fillers.remove(found)
        return found is not None

    def _agent_text(self, frame: Any, at: float) -> None:
        context = getattr(frame, "context_id", None)
        if self._agent is not None and self._agent.is_another(context):
            self._finish(self._agent, at)  # first words may come a moment before their audio
        if self._agent is None:
            self._agent = _AgentSpeech()
        self._agent.text(frame, context)

    def _agent_is_done(self) -> None:
        if self._agent is not None and self._agent.end is not None:
            self._finish(self._agent, self._agent.end)

    def _finish(self, speech: _AgentSpeech | None, now: float) -> None:
        if speech is None or speech is not self._agent:
            return
        self._agent = None
        words, start = str(speech.words), speech.start
        end = None if start is None else max(start, now if speech.end is None else speech.end)
        if words:
            filler = speech.filler or self._is_filler(words) or None
            self._recorder.agent_said(words, start_offset_ms=_ms(start), end_offset_ms=_ms(end), filler=filler)

    def _interrupted(self, _: Any, at: float) -> None:
        speech = self._agent
        if speech is not None and speech.goes_on and not speech.cut:
            speech.cut = True
            self._recorder.interruption(at_ms=_ms(at), by="user", source="pipecat")

    # -- tools -------------------------------------------------------------------------------------------------

    def _tool_began(self, frame: Any, at: float) -> None:
        call = self._tools.of(frame.tool_call_id)
        if not call.begun:
            call.start = int(at)
            self._tools.begin(frame.tool_call_id, frame.function_name, frame.arguments)

    def _tool_ended(self, frame: Any, _: float) -> None:
        properties = getattr(frame, "properties", None)
        if properties is not None and not getattr(properties, "is_final", True):
            return
        error = getattr(frame, "error", None)
        output = frame.result if error is None else {"status": "failed", "message": error}
        self._tools.end(frame.tool_call_id, output)

    def _tool_cancelled(self, frame: Any, _: float) -> None:
        timed_out = getattr(frame, "run_llm", False)  # only its own deadline asks for an answer to a cancelled call
        self._tools.cancelled(frame.tool_call_id, "timed_out" if timed_out else "cancelled")

    # -- the end -----------------------------------------------------------------------------------------------

    def _ends(self, _: Any, at: float) -> None:
        """Prepare for the end: what is queued is still played, but nothing may wait for late words any more."""
        self._ending = True
        self._flush_user(at)
        self._agent_is_done()

    def _cancelled(self, *_: Any) -> None:
        self.close()


class _Words:
    """The pieces of a text, put together as Pipecat does: some bring their spaces with them."""

    __slots__ = ("_spaced", "_text")

    def __init__(self) -> None:
        self._text = ""
        self._spaced = False

    def __str__(self) -> str:
        return self._text.strip()

    def add(self, frame: Any) -> None:
        text, spaced = frame.text, bool(getattr(frame, "includes_inter_frame_spaces", False))
        if text:
            joined = not self._text or (spaced and self._spaced) or self._text[-1].isspace() or text[0].isspace()
            self._text += text if joined else f" {text}"
            self._spaced = spaced


class _UserSpeech:
    """What the caller is saying: where voice activity heard it, where Pipecat ruled it, and its text so far."""

    __slots__ = (
        "_end", "_ends_at", "_held_from", "_held_until", "_speaking", "_start", "_starts_at", "_words", "over",
    )  # fmt: skip

    def __init__(self) -> None:
        self._words = _Words()
        self._start: float | None = None  # heard, by voice activity
        self._end: float | None = None
        self._starts_at = self._ends_at = 0.0  # in the caller's audio
        self._speaking = False
        self._held_from: float | None = None  # ruled, by Pipecat's turn taking
        self._held_until: float | None = None
        self.over = False  # ruled to be over; only its text may still come

    @property
    def goes_on(self) -> bool:
        """Whether the caller speaks, or is held to have more to say."""
        return self._speaking or self._holds

    @property
    def _holds(self) -> bool:
        return self._held_from is not None and self._held_until is None

    def began(self, at: float, position: float) -> None:
        if self.over or self._start is None or not (self._holds or str(self._words)):
            self._start, self._starts_at = at, position
        self._speaking, self._end, self.over = True, None, False

    def paused(self, at: float, position: float) -> None:
        self._speaking, self._end, self._ends_at = False, at, position

    def took_over(self, at: float) -> None:
        self._held_from, self._held_until = at, None

    def gave_over(self, at: float) -> None:
        self._held_until = at
        self.over = True

    def text(self, frame: Any, at: float) -> None:
        if self.over and not self._holds and at - max(self._end or 0.0, self._held_until or 0.0) > LATE_MS:
            self._start = self._end = self._held_from = self._held_until = None
        self._words.add(frame)

    def take(self) -> str:
        words, self._words = str(self._words), _Words()
        return words

    def heard(self, now: float, audio: InputClock) -> tuple[float, float] | None:
        """Return where voice activity heard the speech; None without voice activity."""
        if self._start is None:
            return None
        start = _earlier(self._start, audio.offset(self._starts_at))
        return start, now if self._end is None else max(start, _earlier(self._end, audio.offset(self._ends_at)))

    def ruled(self, now: float) -> tuple[float, float] | None:
        """Return where Pipecat ruled the speech to be; None without a ruling."""
        if self._held_from is None:
            return None
        return self._held_from, now if self._held_until is None else self._held_until


class _AgentSpeech:
    """One utterance of the agent, as it is spoken."""

    __slots__ = ("_audio_until", "_by_silence", "context", "cut", "end", "filler", "start", "words")

    def __init__(self) -> None:
        self.words = _Words()
        self.context: object = None
        self.filler: bool | None = None
        self.start: float | None = None
        self.end: float | None = None
        self.cut = False
        self._audio_until: float | None = None
        self._by_silence = False

    @property
    def goes_on(self) -> bool:
        return self.start is not None and self.end is None

    def is_another(self, context: object) -> bool:
        return context is not None and self.context is not None and context != self.context

    def text(self, frame: Any, context: object) -> None:
        kind = getattr(frame, "text_type", None)
        backchannel = getattr(kind, "value", kind) == "backchannel"
        self.filler = backchannel if self.filler is None else self.filler and backchannel
        self.context = self.context if context is None else context
        self.words.add(frame)

    def audio(self, frame: Any, at: float) -> None:
        self._audio_until = at + _length_ms(frame)
        self._by_silence = type(frame).__name__ != "TTSAudioRawFrame"

    def stopped(self, at: float) -> None:
        """Note its end: Pipecat may say so some time after the last audio, or after a stretch of silent audio."""
        self.end = at if self._audio_until is None else min(at, self._audio_until)
        if self._by_silence and not self.cut and at - self.end < PIECE_MS:
            self.end -= SILENCE_MS


@lru_cache(maxsize=1024)
def _action(kind: type[Any]) -> tuple[str | None, bool]:
    """Return the method that takes frames of a class, and whether only at the output."""
    for base in kind.__mro__:
        if base.__name__ in _AT_OUTPUT:
            return _AT_OUTPUT[base.__name__], True
        if base.__name__ in _ANYWHERE:
            return _ANYWHERE[base.__name__], False
    return None, False


def _length_ms(frame: Any) -> float:
    size: int = 2 * frame.sample_rate * frame.num_channels
    return len(frame.audio) * 1e3 / size


def _earlier(at: float, heard: float | None) -> float:
    return at if heard is None else min(at, heard)


def _ms(at: float | None) -> int | None:
    return None if at is None else round(at)
