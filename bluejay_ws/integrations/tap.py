"""What all taps share. A tap reads the messages of one provider connection and feeds one recorder.

A tap is pure: it imports no SDK, does no I/O, and knows no clock but the recorder's. It never raises.

Four clocks meet here, and each becomes "milliseconds since the handshake":

* receive time: the recorder's clock, as an event comes in;
* input clock: a position in the audio that was sent to the provider, see `CallerAudio`;
* output clock: a position in the audio of one reply, counted from the start of its play-out;
* the playhead: providers send audio faster than it plays, so a reply starts where the one before it ends.
"""

from __future__ import annotations

from itertools import count
from typing import TYPE_CHECKING, Any, ClassVar
from weakref import WeakKeyDictionary, WeakSet

from bluejay_ws.hearing.utterances import CUT_MARK, MS_PER_LETTER, first_words
from bluejay_ws.integrations.caller_audio import CallerAudio, audio_bytes
from bluejay_ws.integrations.messages import SIMPLE, number, plain
from bluejay_ws.integrations.tool_calls import ToolCalls, forget_oldest, is_new

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import TypeAlias

    from bluejay_ws.hearing.utterances import Utterance
    from bluejay_ws.recorder import Recorder

    Actions: TypeAlias = Mapping[str, Callable[[Any, Any], None]]
    """What a tap does with each type of message."""
    _Mark: TypeAlias = tuple[float, int]
    """Milliseconds of a reply's audio, and characters said by then."""

__all__ = ["Reply", "Speech", "Tap", "audio_bytes", "audio_until", "forget_oldest", "is_new", "noting", "spoken_part"]

SERVICE_ERROR = "Error of the model's service"
KEPT = 64  # so many utterances of each side can still be corrected
LEFT_MS = 150.0  # speech that comes when less than this is left to play interrupts nothing
BREAK_MS = 10_000.0  # the words of a caller who breaks in come at most so much later
AHEAD_MS = 300.0  # if the agent has sent so much more than the provider takes for heard, the caller hears it
_GROWTH = 3
HASTE = 0.6
"""Speech that takes less than this share of its usual time is none: its words came before their audio."""
_TELLING = 40  # a reply of so many letters tells how fast the agent speaks
_CONNECTIONS: WeakKeyDictionary[Recorder, WeakSet[Tap]] = WeakKeyDictionary()
"""The taps of a call: a connection that was lost and opened again has another tap, and the call one sum of usage."""


class Tap:
    """Read one provider connection; `event` takes what the provider sends, `sent` what the client sends.

    Both take a dictionary, JSON text, bytes, or the SDK's own object. Nothing raises: what cannot be read is counted
    as ``dropped.failed_tap``, what is not known as ``tap.unknown.<provider>``. After the end of the call, and outside a
    simulation, both return at once. One tap is for one connection; a second connection needs a second tap.

    A tap for another provider is a subclass (`conversation_relay` is the smallest). ``received`` and ``outgoing`` name
    the function for each type of message, ``quiet`` the types that say nothing. The functions keep one `Speech` for
    each utterance of the caller's and one `Reply` for each of the agent's, and hand on what they learn:

    * the caller: `input.sent` audio, `_place_start` and `_place_end`, `_user_said` at last;
    * the agent: `_agent_audio`, `_agent_text` in pieces or `_agent_said` whole, `_cut` and `_interrupted`;
    * `self.tools` for tool calls, `_note` for events, `_typed_text`, `_text_reply`, `_add_usage`, `_model_is`.

    Args:
        recorder: the call's, for example ``current_recorder()``.
        input_bytes_per_ms: of the audio sent to the provider, where the messages do not say it.
        output_bytes_per_ms: of the provider's audio, where the messages do not say it.
    """

    # An object with more than thirty attributes and without slots is slow to read: Python shares no keys for it.
    __slots__ = (
        "__weakref__",
        "_agent",
        "_audio_field",
        "_broken_in_at",
        "_cut_now",
        "_hears",
        "_interruptions",
        "_last_at",
        "_last_stamp",
        "_model",
        "_now",
        "_numbers",
        "_plays_until",
        "_replies",
        "_sent_before_reply",
        "_speeches",
        "_typed",
        "_usage",
        "_user",
        "input",
        "output_bytes_per_ms",
        "recorder",
        "tools",
    )

    provider: ClassVar[str] = ""
    listens: ClassVar[bool] = False  # the provider does not tell when the caller spoke: the audio does
    audio_field: ClassVar[str] = ""  # of a message with the caller's audio: it, or what it is in
    input_rate: ClassVar[float] = 32.0
    output_rate: ClassVar[float] = 48.0
    received: ClassVar[Actions] = {}
    outgoing: ClassVar[Actions] = {}
    quiet: ClassVar[frozenset[str]] = frozenset()
    settings: ClassVar[frozenset[str]] = frozenset({
        *("session.created", "session.updated", "session.update", "session.start", "session.started"),
        *("setup", "conversation_initiation_metadata", "conversation_initiation_client_data", "Settings"),
        *("session.ready", "session_settings"),
    })  # fmt: skip

    def __init__(
        self,
        recorder: Recorder,
        *,
        input_bytes_per_ms: float | None = None,
        output_bytes_per_ms: float | None = None,
    ) -> None:
        self.recorder = recorder
        self._now = recorder.offset_ms
        self.output_bytes_per_ms = output_bytes_per_ms or self.output_rate
        self.input = CallerAudio(recorder, input_bytes_per_ms or self.input_rate, listens=self.listens)
        self._user: Speech | None = None  # what is being said, for providers that do not name it
        self._agent: Reply | None = None
        self._speeches: dict[Any, Speech] = {}
        self._replies: dict[Any, Reply] = {}
        self.tools = ToolCalls(recorder, lambda: (one.tools for one in self._connections() if one is not self))
        self._interruptions: dict[Any, None] = {}
        self._typed: dict[Any, None] = {}
        self._usage: dict[str, Any] = {}
        self._numbers = count(1)  # of what has no id
        self._model: str | None = None
        self._last_at = self._last_stamp = -1
        self._plays_until = 0.0
        self._hears = False
        self._audio_field = self.audio_field
        self._sent_before_reply = 0.0  # of the input clock, as the newest reply began
        self._cut_now: list[Reply] = []  # what a caller has just broken in on
        self._broken_in_at: float | None = None  # by the caller, whose words are still to come
        if recorder.active:
            _CONNECTIONS.setdefault(recorder, WeakSet()).add(self)
            recorder.at_end(self.close)

    # -- what users call ---------------------------------------------------------------------------------------

    def event(self, message: Any) -> None:
        """Take note of a message from the provider."""
        if self.recorder.closed:
            return
        try:
            if type(message) is not dict:
                message = plain(message)
            elif type(message.get("delta")) is not str and not SIMPLE.issuperset(map(type, message.values())):
                message = plain(message)  # an SDK's objects are in it
            if type(message) is dict:
                self._received(message)
            elif type(message) is bytes:
                self._audio_received(message)
            else:
                self._unknown()
        except Exception as error:  # noqa: BLE001 - a malformed message must not reach the agent
            self.recorder.failed("tap", error)

    def sent(self, message: Any) -> None:
        """Take note of a message to the provider: tool outputs, settings, the caller's audio."""
        if self.recorder.closed:
            return
        try:
            if type(message) is not dict:
                message = plain(message)
            audio = message.get(self._audio_field) if type(message) is dict else message
            if type(audio) is dict:
                audio = self._audio_in(audio)
            if type(audio) is str or type(audio) is bytes:  # most are so: nothing else in them is looked at
                self.input.sent(audio)
            elif type(message) is dict:
                self._sent(message if SIMPLE.issuperset(map(type, message.values())) else plain(message))
        except Exception as error:  # noqa: BLE001 - a malformed message must not reach the agent
            self.recorder.failed("tap", error)

    def setting(self, message: Any, *, sent: bool) -> None:
        """Take a message of before the call only if it says how the connection is set up: tools, formats, model."""

        def take() -> None:
            found = plain(message)
            if type(found) is dict and not self.settings.isdisjoint((found.get("type"), *found)):
                (self._sent if sent else self._received)(found)

        self._guarded(take)

    def close(self) -> None:
        """Record what is still being said; for the end of the connection. The end of the call does it too."""
        if not self.recorder.closed:
            self._guarded(self._finish)

    def _guarded(self, action: Callable[[], None]) -> None:
        try:
            action()
        except Exception as error:  # noqa: BLE001 - a malformed message must not reach the agent
            self.recorder.failed("tap", error)

    # -- dispatch ----------------------------------------------------------------------------------------------

    def _received(self, message: dict[str, Any]) -> None:
        kind = message.get("type")
        action = self.received.get(kind)  # type: ignore[arg-type]
        if action is not None:
            action(self, message)
        elif kind not in self.quiet:
            self._unknown()

    def _sent(self, message: dict[str, Any]) -> None:
        action = self.outgoing.get(message.get("type"))  # type: ignore[arg-type]
        if action is not None:
            action(self, message)

    def _unknown(self) -> None:
        self.recorder.count(f"tap.unknown.{self.provider}")

    def _audio_received(self, audio: bytes) -> None:  # noqa: ARG002 - providers that send it so take it
        """Take the agent's audio from a binary message; for providers that send it so."""
        self._unknown()

    def _audio_in(self, payload: dict[str, Any]) -> Any:  # noqa: ARG002 - providers that nest it look deeper
        """Return the caller's audio inside of what is in ``audio_field``; None: there is none."""
        return None

    def _finish(self) -> None:
        for speech in self._speeches.values():
            self._tell_user(speech)
        self._cut_is_over()
        for reply in self._replies.values():
            self._may_be_cut_short(reply)
            self._tell_agent(reply)
        self._tell_usage()

    def _may_be_cut_short(self, reply: Reply) -> None:
        """The call ends: what the agent had not sent yet is not heard."""
        until, end = self._speaks_until(), reply.plays_from + reply.audio_ms
        if not until or reply.start is None or reply.heard_ms is not None or self._now() >= end:
            return  # if it could be sent to its end, it was, and is silent there
        if until < end - AHEAD_MS:
            reply.heard_ms = max(0.0, until - reply.plays_from)

    def _stamp(self, at: float) -> int:
        """Return whole milliseconds in which what began later comes later, however quickly it followed."""
        if at < self._last_at:
            return max(0, int(at))
        self._last_at = at  # type: ignore[assignment]
        self._last_stamp = stamp = max(int(at), self._last_stamp + 1)
        return stamp

    # -- the caller --------------------------------------------------------------------------------------------

    def _heard_at(self, position_ms: float) -> float | None:
        """Return when the caller's audio at this position was heard, or None: no audio was seen."""
        at = self.input.offset(position_ms)
        if at is not None and position_ms >= self._sent_before_reply > 0.0:
            at = max(at, float(self._last_at))  # sent after the reply began: not before it
        return at

    def _place_start(self, speech: Speech, position_ms: float | None) -> None:
        """Place the beginning of an utterance by its position in the audio; without one it is now."""
        now = float(self._now())
        at = None if position_ms is None else self._heard_at(position_ms)
        if at is not None:
            speech.start_position = position_ms
            began = position_ms is not None and position_ms >= self._sent_before_reply > 0.0
            speech.earliest = self._last_stamp + 1 if began else 0
        speech.start = self._stamp(now if at is None else min(at, now))

    def _place_end(self, speech: Speech, position_ms: float | None, otherwise: float) -> None:
        at = None if position_ms is None else self.input.offset(position_ms)
        speech.end_position = None if at is None else position_ms
        speech.end = max(0.0, otherwise) if at is None else min(at, float(self._now()))

    def _place_again(self, speech: Speech) -> None:
        """Place an utterance once more as its text comes: audio of a burst is placed by what was sent after it."""
        if speech.start_position is not None and speech.start is not None:
            at = self.input.offset(speech.start_position)
            speech.start = min(speech.start, max(speech.earliest, speech.start if at is None else round(at)))
        if speech.end_position is not None and speech.end is not None:
            at = self.input.offset(speech.end_position)
            speech.end = speech.end if at is None else min(speech.end, at)

    def _speech(self, key: Any) -> Speech:
        speech = self._speeches.get(key)
        if speech is None:
            speech = self._speeches[key] = Speech(key)
            forget_oldest(self._speeches, KEPT)
        return speech

    def _user_said(self, speech: Speech, text: str) -> None:
        """Take the final text; a later one replaces it."""
        speech.text = text.strip()
        speech.final = True
        self._tell_user(speech)

    def _tell_user(self, speech: Speech) -> None:
        text = speech.text.strip()
        if speech.said is not None:
            if text and text != speech.told:
                speech.said.text = speech.told = text
            return
        if not text or speech.dropped:
            return
        self._place_again(speech)
        start, end = speech.start, speech.end
        if start is not None:
            end = max(start, round(self._now() if end is None else end))
        speech.told = text
        speech.said = self.recorder.user_said(
            text, start_offset_ms=start, end_offset_ms=None if end is None else round(end)
        )

    def _heard_speech(self, speech: Speech) -> None:
        """Place a text by what our own ear heard in the audio that was sent, unless the call's frames tell more.

        Who has just broken in began to speak then, at the latest.
        """
        broke_in, self._broken_in_at = self._broken_in_at, None
        if speech.start is not None or self._observed():
            return
        span = self.input.take_speech(self._now())
        start, end = span if span is not None else (self._now(), self._now())
        if broke_in is not None and start - BREAK_MS < broke_in < start:
            start = broke_in
        speech.start, speech.end = self._stamp(start), end

    def _observed(self) -> bool:
        """Return whether the call's own audio frames are observed: they tell best who was heard when."""
        if not self._hears and getattr(self.recorder.heard, "observed", False):
            self._hears = True
            self.input.stop_listening()
        return self._hears

    # -- the agent ---------------------------------------------------------------------------------------------

    def _reply(self, key: Any, response: Any = None) -> Reply:
        reply = self._replies.get(key)
        if reply is None:
            reply = self._replies[key] = Reply(key, response)
            forget_oldest(self._replies, KEPT)
        return reply

    def _agent_audio(self, reply: Reply, ms: float) -> None:
        """Note ``ms`` of a reply's audio."""
        if reply.heard_ms is not None:
            return  # it was cut: what still comes is not played
        if reply.start is None:
            self._reply_begins(reply)
        reply.audio_ms += ms
        self._plays_until = reply.plays_from + reply.audio_ms

    def _reply_begins(self, reply: Reply) -> None:
        self._cut_is_over()
        reply.plays_from = max(float(self._now()), self._plays_until)
        reply.start = self._stamp(reply.plays_from)
        self._sent_before_reply = self.input.position_ms
        if reply.text:
            self._tell_agent(reply)

    def _agent_text(self, reply: Reply, piece: str) -> None:
        """Add a piece to a reply's text."""
        reply.text += piece
        if reply.start is not None and len(reply.text) >= reply.next_told:
            self._tell_agent(reply)

    def _agent_said(self, reply: Reply, text: str) -> None:
        """Take a reply's whole text, in place of its pieces."""
        reply.text = text
        reply.final = True
        self._tell_agent(reply)

    def _spoken(self, reply: Reply) -> str:
        """Return the part of a reply's text that was heard."""
        if reply.corrected is not None:
            return reply.corrected
        whole = reply.text.strip()
        if reply.heard_ms is None:
            return whole
        audio_ms = reply.audio_ms or max(reply.heard_ms, len(whole) * MS_PER_LETTER)  # 0: it went another way
        if reply.called_off:
            audio_ms = self._whole_ms(reply, whole, audio_ms)
        heard = spoken_part(whole, reply.heard_ms, audio_ms, reply.marks)
        return heard if heard in {"", whole} else heard + CUT_MARK

    def _whole_ms(self, reply: Reply, text: str, audio_ms: float) -> float:
        """Return how long the audio of a reply that was called off would have been.

        Services send words ahead of their audio: if there are more than anybody says in so short a time, the audio of
        the last ones was still to come.
        """
        ms, letters = reply.marks[-1] if reply.marks else (0.0, 0)
        rest = (len(text) - letters) * self._ms_per_letter(reply)
        return ms + rest if audio_ms - ms < HASTE * rest else audio_ms

    def _ms_per_letter(self, but: Reply) -> float:
        """Return how fast the agent speaks, by its last whole reply."""
        for one in reversed(self._replies.values()):
            if one is not but and one.final and one.heard_ms is None and one.audio_ms and len(one.text) >= _TELLING:
                return one.audio_ms / len(one.text)
        return MS_PER_LETTER

    def _tell_agent(self, reply: Reply) -> None:
        text = self._spoken(reply)
        reply.next_told = len(reply.text) * _GROWTH + 40
        ms = reply.audio_ms if reply.heard_ms is None else min(reply.heard_ms, reply.audio_ms or reply.heard_ms)
        if reply.said is None:
            if text:
                self._record(reply, text, ms)
        elif not text:
            reply.said.never_spoken()
            reply.said = None  # a later word of the provider's may still say that a part was heard
        elif (text, ms, reply.start) != reply.told:
            self._correct(reply, reply.said, text, ms)

    def _record(self, reply: Reply, text: str, ms: float) -> None:
        again, reply.told = bool(reply.told[0]), (text, ms, reply.start)
        reply.placed = again or not self._observed()  # what was taken back, and heard after all, is over by now
        start = max(self._now(), self._last_stamp) if reply.start is None else reply.start
        span = {"start_offset_ms": start, "end_offset_ms": start + round(ms)} if reply.placed else {}
        reply.said = self.recorder.agent_said(text, filler=reply.filler, **span)

    def _correct(self, reply: Reply, said: Utterance, text: str, ms: float) -> None:
        before, reply.told = reply.told, (text, ms, reply.start)
        other = text if text != before[0] else None
        if not reply.placed or reply.start is None:
            said.text = text
        elif reply.start == before[2]:
            said.lasts(ms=ms, text=other)
        else:  # its audio came after its text
            said.stands(start_offset_ms=reply.start, end_offset_ms=reply.start + ms)
            if other is not None:
                said.text = other

    def _cut(self, reply: Reply, heard_ms: float | None = None) -> None:
        """Cut a reply to what was heard of it; None: what has played by now."""
        if heard_ms is None:
            if reply.heard_ms is not None or reply.start is None:
                return
            heard_ms = self._now() - reply.plays_from
            if heard_ms >= reply.audio_ms > 0.0 and reply.final:
                return
        reply.heard_ms = max(0.0, heard_ms)
        self._plays_until = self._now()
        self._cut_now.append(reply)
        self._heard_all_the_same(reply)
        self._tell_agent(reply)

    def _heard_all_the_same(self, reply: Reply) -> None:
        """Take it that what the agent sent of a reply that was cut is heard, if the call's frames tell so.

        Agents send ahead of what is heard, or stop late; and nothing takes back what they sent.
        """
        until, heard_ms = self._speaks_until(), reply.heard_ms
        if until is None or heard_ms is None or not reply.audio_ms:
            return
        if until - reply.plays_from - heard_ms > AHEAD_MS:
            reply.heard_ms = until - reply.plays_from
            self._plays_until = max(self._plays_until, until)

    def _speaks_until(self) -> float | None:
        """Return when what the agent has sent is heard to its end; None where no frames are observed."""
        until: Callable[[], float] | None = getattr(self.recorder.heard, "speaks_until", None)
        return until() if until is not None and self._observed() else None

    def _cut_is_over(self) -> None:
        """Say for the last time what was heard of what was cut: another reply begins, or the call ends."""
        over, self._cut_now = self._cut_now, []
        for reply in over:
            self._heard_all_the_same(reply)
            self._tell_agent(reply)

    def _drop_unheard(self, reply: Reply) -> None:
        """Take it that a reply without audio was never heard; for providers whose audio comes in their messages."""
        if reply.start is None and reply.heard_ms is None and not self._observed():
            reply.heard_ms = 0.0
            self._tell_agent(reply)

    def _cut_the_rest(self) -> None:
        """Cut all that plays now or was still to play: services send one reply while another one plays."""
        now = self._now()
        for reply in self._replies.values():
            if reply.start is not None and reply.heard_ms is None and reply.plays_from + reply.audio_ms > now:
                self._cut(reply)

    def _playing(self) -> Reply | None:
        """Return the reply whose audio plays now."""
        now = self._now()
        for reply in reversed(self._replies.values()):
            if reply.start is not None and reply.heard_ms is None and reply.plays_from <= now:
                return reply if reply.plays_from + reply.audio_ms > now else None
        return None

    def _interrupted(self, key: Any, *, at: float | None = None, by: str = "user") -> None:
        """Record an interruption, where the caller began if that is known; the same ``key`` is the same one."""
        if not is_new(key, self._interruptions, KEPT):
            return
        at = self._broke_in_at() if at is None and by == "user" else at
        at_ms = None if at is None else int(at)
        if by == "user":
            self._broken_in_at = self._now() if at_ms is None else at_ms
        self.recorder.interruption(at_ms=at_ms, by=by, source=self.provider)

    def _broke_in_at(self) -> float | None:
        """Return when the caller began who breaks in: as the service says, else as our own ear heard it."""
        speech = next(reversed(self._speeches.values()), None)
        told = None if speech is None or speech.text else speech.start
        at = self.input.spoke_since() if told is None else told
        if at is None:
            return None
        heard = (one for one in self._replies.values() if one.start is not None)
        return at if any(one.plays_from <= at < one.plays_from + one.audio_ms for one in heard) else None

    # -- the rest ----------------------------------------------------------------------------------------------

    def _note(self, title: str, **facts: Any) -> None:
        """Record an event; facts that are None are left out."""
        metadata = {key: value for key, value in facts.items() if value is not None}
        self.recorder.add_event(title, tags=(self.provider,), metadata=metadata or None)

    def _typed_text(self, text: str, key: Any = None) -> None:
        """Record text that reached the model without a voice: the caller did not say it."""
        if key is not None and not is_new(key, self._typed, KEPT):
            return
        self.recorder.add_event("Text sent to the model", description=text, tags=(self.provider, "text"))

    def _typed_message(self, message: dict[str, Any]) -> None:
        if message.get("text"):
            self._typed_text(message["text"])

    def _text_reply(self, text: str, at: int | None = None) -> None:
        """Record a reply that the model wrote and did not speak."""
        title, tags = "Text reply of the model", (self.provider, "text")
        self.recorder.add_event(title, description=text, start_offset_ms=at, tags=tags)

    def _model_is(self, model: Any) -> None:
        if type(model) is str and model and model != self._model:
            self._model = model
            self.recorder.add_metadata(**{f"{self.provider}_model": model})

    def _add_usage(self, usage: Any) -> None:
        """Add one reply's usage to the call's."""
        if isinstance(usage, dict):
            _add_up(self._usage, usage)

    def _set_usage(self, usage: Any) -> None:
        """Take usage that already counts the whole connection."""
        if isinstance(usage, dict):
            self._usage = dict(usage)

    def _connections(self) -> list[Tap]:
        """Return the call's taps of this provider's connections."""
        return [tap for tap in _CONNECTIONS.get(self.recorder, ()) if tap.provider == self.provider]

    def _tell_usage(self) -> None:
        if self._usage:
            total: dict[str, Any] = {}
            for tap in self._connections() or [self]:
                _add_up(total, tap._usage)  # noqa: SLF001 - of the same class
            self.recorder.add_metadata(**{f"{self.provider}_usage": total})


def noting(title: str, **facts: str) -> Callable[[Any, Any], None]:
    """Return an action that records a message as an event.

    Args:
        title: of the event.
        facts: each with the field that tells it, or several: the first that is not empty counts.
    """

    def note(tap: Tap, message: dict[str, Any]) -> None:
        told = {
            fact: next((message[one] for one in fields.split() if message.get(one) not in (None, "")), None)
            for fact, fields in facts.items()
        }
        tap._note(title, **told)  # noqa: SLF001 - for tables of taps

    return note


class Speech:
    """One utterance of the caller's."""

    __slots__ = (
        "dropped", "earliest", "end", "end_position", "final", "key", "position", "said", "start", "start_position",
        "stopped", "text", "told",
    )  # fmt: skip

    def __init__(self, key: Any) -> None:
        self.key = key
        self.text = self.told = ""
        self.start: int | None = None
        self.end: float | None = None
        self.position: float | None = None  # of its start, as the provider told it
        self.start_position: float | None = None  # in the audio that was sent
        self.end_position: float | None = None
        self.earliest = 0  # a reply began before it was sent
        self.stopped = self.final = self.dropped = False
        self.said: Utterance | None = None


class Reply:
    """One utterance of the agent's: when it plays, how long, and its text.

    Attributes:
        marks: pairs of output clock (ms) and characters said by then, where the provider tells them.
        heard_ms: how much of its audio was heard; None: all.
        corrected: the provider's own word on what was heard.
        called_off: it was cut while the provider still made it: its audio is not whole.
    """

    __slots__ = (
        "audio_ms", "called_off", "corrected", "filler", "final", "heard_ms", "key", "marks", "next_told", "placed",
        "plays_from", "response", "said", "start", "text", "told",
    )  # fmt: skip

    def __init__(self, key: Any, response: Any) -> None:
        self.key, self.response = key, response
        self.text = ""
        self.corrected: str | None = None
        self.marks: list[tuple[float, int]] = []
        self.start: int | None = None
        self.plays_from = self.audio_ms = 0.0
        self.heard_ms: float | None = None
        self.filler: bool | None = None
        self.final = self.placed = self.called_off = False
        self.next_told = 0
        self.told: tuple[str, float, int | None] = ("", 0.0, None)
        self.said: Utterance | None = None


def spoken_part(text: str, heard_ms: float, audio_ms: float, marks: list[tuple[float, int]] = []) -> str:  # noqa: B006
    """Return the words of a text that the first ``heard_ms`` of its audio carried, to the end of the last one.

    Marks are pairs of milliseconds and characters said by then, rising; without them words are spread evenly.
    """
    if heard_ms <= 0.0:
        return ""
    before, after = _around(marks, (audio_ms, len(text)), lambda mark: mark[0] > heard_ms)
    if before[0] >= audio_ms and after[0] <= heard_ms:
        return text
    span = after[0] - before[0]
    if heard_ms >= after[0] or span <= 0.0:
        length = after[1] if heard_ms >= after[0] else before[1]
    else:
        length = before[1] + int((after[1] - before[1]) * (heard_ms - before[0]) / span)
    return text if length >= len(text) else first_words(text, length)


def audio_until(length: int, whole: int, audio_ms: float, marks: list[tuple[float, int]]) -> float:
    """Return how much audio the first ``length`` of ``whole`` characters take; the other way round of `spoken_part`."""
    before, after = _around(marks, (audio_ms, whole), lambda mark: mark[1] > length)
    letters = after[1] - before[1]
    return before[0] + ((after[0] - before[0]) * (length - before[1]) / letters if letters > 0 else 0.0)


def _around(marks: list[_Mark], end: _Mark, is_behind: Callable[[_Mark], bool]) -> tuple[_Mark, _Mark]:
    """Return the last mark before a place, and the first behind it; else the beginning, and the end."""
    before: _Mark = (0.0, 0)
    for mark in marks:
        if is_behind(mark):
            return before, mark
        before = mark
    return before, end


def _add_up(total: dict[str, Any], more: Mapping[str, Any]) -> None:
    for key, value in more.items():
        before = total.get(key)
        if type(value) is dict:
            if before is None:
                before = total[key] = {}
            if type(before) is dict:
                _add_up(before, value)
        elif type(before) is not dict and number(value) is not None:
            total[key] = value + (before or 0)
