"""The observer of one call: from its frames and their times, who was heard when, without any code of the user's.

It is fed audio frames, text messages and times. It listens to the level of the audio and keeps none of it; it does no
I/O and raises nothing. It places texts that were recorded without times, and adds events: interruptions both ways, the
latency of each answer, long silences and ``session.error`` frames. ``speech.started`` and ``speech.completed`` decide
nothing: they come up to 200 ms late or early, and fire on the agent's own echo.
"""

from __future__ import annotations

from collections import deque
from operator import itemgetter
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias, cast

from pydantic_core import from_json

from bluejay_ws.hearing import carriers
from bluejay_ws.hearing.arrivals import Arrivals
from bluejay_ws.hearing.level import BYTES_PER_MS, NEVER, PIECE, flat, size_of
from bluejay_ws.hearing.turns import Turns
from bluejay_ws.hearing.utterances import AgentTexts, CallerTexts, Stretch
from bluejay_ws.hearing.voices import HASTE, PAUSE_MS, Voice

if TYPE_CHECKING:
    from collections.abc import Callable

    from bluejay_ws.hearing.arrivals import Aside, PlacedFrame, Sounds
    from bluejay_ws.hearing.level import Frame
    from bluejay_ws.hearing.utterances import Utterance

ERROR_FROM_PLATFORM = "Session error from the platform"
ERROR_FROM_AGENT = "Session error from the agent"

PIECES_MOST = 500
ASIDE_MOST = 10
"""Frames of 20 ms are put aside, and heard so many at a time: that takes a third of what it takes one by one."""
GONE_MS = 3_000.0
"""A caller whose audio does not come for so long, in the middle of speech, has stopped; till then it may be waiting."""
LATEST_MS = 1e10
FIRST_TEXTS = 8  # a carrier shows itself within so many text messages
TEXT_LIMIT = 64 * 1024
NAME_LIMIT = 256
MESSAGE_LIMIT = 1_000
MARKS_LIMIT = 64
EARLY_MS = 100.0  # a mark that comes back this long before its audio can have been played confirms nothing
MUTE_MS = 2_000
"""An agent that has sent so much audio without any speech has said nothing; a test may send a little silence."""
LEAST_HASTE_MS = 1_000.0
"""So much audio at least has come before it can be said that it came too fast for a caller who speaks."""
FRESH_MS = 250.0  # an agent's ``speech.started`` this soon after its first audio is about that audio

Text: TypeAlias = "bytes | bytearray | memoryview | str"


class _Events(Protocol):
    """What takes events, as `Recorder.add_event` does: the call's recorder."""

    @property
    def note_event(self) -> Callable[..., None]: ...


class ChirpObserver:
    """Observe one call. All times are float milliseconds since the handshake.

    The audio methods are cheap enough for every frame; one observer that has heard nothing takes some hundred bytes.
    """

    __slots__ = ("_events", "_heard")

    def __init__(self, events: _Events) -> None:
        self._events = events  # not its bound `note_event`: that would be an object more for each idle connection
        self._heard: _Hearing | None = None

    # -- audio --------------------------------------------------------------------------------------------------------

    def user_audio(self, frame: Frame, at_ms: float) -> None:
        """Note a binary frame from Bluejay: 16 bit little-endian samples, mono, 16,000 a second."""
        heard = self._heard or self._open()
        if type(frame) is bytes and len(frame) == PIECE:
            aside = heard.user_aside
            aside.append((at_ms, frame))
            if len(aside) >= ASIDE_MOST:
                heard.listen()
        elif size := heard.size_of(frame):
            heard.listen()
            heard.user_frame(flat(frame), size, at_ms)

    def agent_audio(self, frame: Frame, at_ms: float) -> None:
        """Note a binary frame to Bluejay: what the caller hears when all that was sent before has been played."""
        heard = self._heard or self._open()
        if type(frame) is bytes and len(frame) == PIECE:
            aside = heard.agent_aside
            aside.append((at_ms, frame))
            if len(aside) >= ASIDE_MOST:
                heard.listen()
        elif size := heard.size_of(frame):
            heard.listen()
            heard.agent_frame(flat(frame), size, at_ms)

    def user_heard(self, level: float, ms: float, at_ms: float) -> None:
        """Note caller audio of which a carrier's reader knows the length and the level, as of 16 bit samples."""
        heard = self._caught_up()
        heard.user.took(int(ms * BYTES_PER_MS))
        heard.user_sounds([(level, ms)], at_ms)

    def agent_heard(self, level: float, ms: float, at_ms: float) -> None:
        """Note agent audio of which a carrier's reader knows the level and the length."""
        heard = self._caught_up()
        heard.agent_sounds([(level, ms)], at_ms)

    def clear(self, at_ms: float) -> None:
        """Note that the agent emptied a carrier's queue: what had not been played is not heard."""
        heard, at = self._enter(at_ms)
        if heard.closed is None:
            heard.cut(at)

    # -- messages -----------------------------------------------------------------------------------------------------

    def user_text(self, data: Text, at_ms: float) -> None:
        """Note a whole text message from Bluejay."""
        heard, at = self._enter(at_ms)
        message = heard.parse(data)
        kind, content = _kind_and_data(message)
        if kind == "mark":
            self.mark_echoed(_name(content), at)
        elif kind == "session.error":
            heard.error(ERROR_FROM_PLATFORM, content, at)
        elif heard.texts <= FIRST_TEXTS:
            carrier = carriers.recognise(message, self)
            if carrier is not None:
                heard.carrier = carrier
                self.__class__ = CarrierObserver  # pyright: ignore[reportAttributeAccessIssue]

    def agent_text(self, data: Text, at_ms: float) -> None:
        """Note a whole text message to Bluejay."""
        heard, at = self._enter(at_ms)
        kind, content = _kind_and_data(heard.parse(data))
        if kind == "speech.started":
            heard.agent_started(at)
        elif kind == "mark":
            self.mark(_name(content), at)
        elif kind == "session.error":
            heard.error(ERROR_FROM_AGENT, content, at)

    def mark(self, name: str, at_ms: float) -> None:
        """Note a mark that the agent sent: it comes back when all audio before it has been played."""
        heard, _ = self._enter(at_ms)
        if heard.closed is None:
            heard.marks_sent += 1
            if len(heard.marks) < MARKS_LIMIT:
                heard.marks.append((name, heard.agent.until))

    def mark_echoed(self, name: str, at_ms: float) -> None:
        """Note that a mark came back. It confirms what was heard; it shortens nothing that cannot have been played."""
        heard, at = self._enter(at_ms)
        if heard.closed is None:
            heard.marks_echoed += 1
            due = heard.pop_mark(name)
            early = due - at > EARLY_MS
            heard.marks_early += early
            heard.confirmed = max(heard.confirmed, 0.0 if early else due)

    def interruption(self, at_ms: float, by: str, source: str) -> None:
        """Note what a provider or a framework says: one side broke in on the other.

        It is one with the barge-in that the audio shows near it; where no audio is observed, it is the event.
        """
        heard, at = self._enter(at_ms)
        if heard.closed is None:
            heard.turns.claim(at, by, source, observed=self.observed)

    def invalid_audio(self) -> None:
        """Count audio that cannot be read."""
        heard = self._heard or self._open()
        heard.invalid += 1

    # -- frames that no adapter sees ----------------------------------------------------------------------------------

    def received(self, frame: Frame, at_ms: float) -> None:
        """Note a frame of the caller's that the user's own code hands over."""
        self._handed(self._caught_up().user, self.user_audio, frame, at_ms)

    def sent(self, frame: Frame, at_ms: float) -> None:
        """Note a frame of the agent's that the user's own code hands over."""
        self._handed(self._caught_up().agent, self.agent_audio, frame, at_ms)

    def _handed(self, voice: Voice, hear: Callable[[Frame, float], None], frame: Frame, at_ms: float) -> None:
        if voice.frames == voice.handed:  # else an adapter hears it already
            hear(frame, at_ms)
            self._caught_up()
            voice.handed = voice.frames

    # -- text ---------------------------------------------------------------------------------------------------------

    def utterance(self, utterance: Utterance, at_ms: float) -> Stretch:
        """Add a text that became known at ``at_ms`` to its stretch of speech; see `AgentTexts` and `CallerTexts`."""
        heard, at = self._enter(at_ms)
        if heard.closed is not None:
            stretch = Stretch(at)
            stretch.add(utterance)
            return stretch
        return heard.add_text(utterance, at)

    def hears_agent(self) -> bool:
        """Tell whether the agent's speech was observed, or so much audio without any that nobody can have heard it."""
        agent = self._caught_up().agent
        return agent.onsets > 0 or agent.bytes >= MUTE_MS * BYTES_PER_MS

    def speaks_until(self) -> float:
        """Return when the last speech that the agent has sent is heard to its end; 0 before any."""
        return self._caught_up().agent.loud_until

    # -- the end ------------------------------------------------------------------------------------------------------

    def close(self, at_ms: float) -> None:
        """End the call: what is queued beyond ``at_ms`` is not heard, and later frames have no effect. Idempotent."""
        heard, at = self._enter(at_ms)
        if heard.closed is None:
            spoken_ms = heard.user.bytes / BYTES_PER_MS
            if heard.user.hasty or spoken_ms > max(LEAST_HASTE_MS, HASTE * at):
                heard.confirmed = LATEST_MS  # a rehearsal, many times as fast as life: its queue has been played
            heard.close(at, observed=self.observed)
            heard.closed = heard.summary()

    def summary(self) -> dict[str, object]:
        """Return counts of the call, for the event that closes it. After `close` they stand still."""
        heard = self._caught_up()
        return dict(heard.closed) if heard.closed is not None else heard.summary()

    @property
    def observed(self) -> bool:
        """Whether any frame of the call's was seen, of either side."""
        if self._heard is None:  # taps ask this often: asking is no reason to begin to listen
            return False
        heard = self._caught_up()
        return bool(heard.user.frames or heard.agent.frames)

    def _caught_up(self) -> _Hearing:
        """Return what was heard, after the frames that were put aside."""
        heard = self._heard or self._open()
        heard.listen()
        return heard

    def _open(self) -> _Hearing:
        self._heard = _Hearing(self._events.note_event)
        return self._heard

    def _enter(self, at_ms: float) -> tuple[_Hearing, float]:
        """Bring what was heard up to date."""
        heard = self._caught_up()
        at = at_ms if 0.0 < at_ms < LATEST_MS else 0.0 if not at_ms > 0.0 else LATEST_MS
        if heard.closed is None:
            heard.settle(at)
        return heard, at


class CarrierObserver(ChirpObserver):
    """The observer of a call that a telephone carrier brings; it becomes one at the carrier's first message.

    (Its class is exchanged so that calls of Bluejay's own pay nothing for carriers.)
    """

    __slots__ = ()

    @property
    def _carrier(self) -> carriers.Carrier:
        return cast("carriers.Carrier", (self._heard or self._open()).carrier)

    def user_audio(self, frame: Frame, at_ms: float) -> None:
        """Note a binary frame from the carrier."""
        self._carrier.user_audio(frame, at_ms)

    def agent_audio(self, frame: Frame, at_ms: float) -> None:
        """Note a binary frame to the carrier."""
        self._carrier.agent_audio(frame, at_ms)

    def user_text(self, data: Text, at_ms: float) -> None:
        """Note a whole text message from the carrier."""
        self._carrier.received(self._read(data), at_ms)

    def agent_text(self, data: Text, at_ms: float) -> None:
        """Note a whole text message to the carrier."""
        self._carrier.sent(self._read(data), at_ms)

    def _read(self, data: Text) -> dict[str, Any]:
        heard = self._heard or self._open()
        return heard.parse(data, carriers.TEXT_LIMIT)


def sounds(frame: Frame, size: int, voice: Voice) -> Sounds:
    """Return level and length of each piece of a long frame."""
    pieces: Sounds = []
    step = PIECE if size <= PIECES_MOST * PIECE else 2 * (size // PIECES_MOST // 2 + 1)
    for offset in range(0, size, step):
        length = min(step, size - offset)
        pieces.append((voice.level(frame, offset, length), length / BYTES_PER_MS))
    return pieces


class _Hearing:
    """All that a call needs once anything was heard in it."""

    __slots__ = (
        "agent", "agent_aside", "agent_texts", "arrivals", "carrier", "closed", "confirmed", "errors", "invalid",
        "marks", "marks_early", "marks_echoed", "marks_sent", "oversized", "texts", "turns", "unreadable", "user",
        "user_aside", "user_texts",
    )  # fmt: skip

    def __init__(self, add_event: Callable[..., None]) -> None:
        self.user = Voice(user=True)
        self.agent = Voice(user=False)
        self.turns = Turns(add_event)
        self.user_texts = CallerTexts()
        self.agent_texts = AgentTexts(self.agent, self.user)
        self.arrivals = Arrivals()
        self.user_aside: deque[tuple[float, bytes] | None] = deque()
        self.agent_aside: deque[tuple[float, bytes] | None] = deque()
        self.confirmed = 0.0  # so much of the agent's queue has been played, as a mark says
        self.marks: list[tuple[str, float]] = []  # names may come again: each echo is the oldest one's
        self.marks_sent = self.marks_echoed = self.marks_early = 0
        self.invalid = self.texts = self.unreadable = self.oversized = self.errors = 0
        self.carrier: carriers.Carrier | None = None  # of a `CarrierObserver`
        self.closed: dict[str, object] | None = None

    # -- audio --------------------------------------------------------------------------------------------------------

    def size_of(self, frame: Frame) -> int:
        """Return the bytes of a frame; 0, which is counted, for one that is no audio."""
        size = size_of(frame)
        if size & 1 or not size:
            self.invalid += 1
            return 0
        return size

    def listen(self) -> None:
        """Hear the frames that were put aside: most change nothing, and are passed over; the others in their order."""
        user, agent = self._user_left(), self._agent_left()
        if user or agent:
            frames = [(at, self.user_frame, frame) for at, frame in user]
            frames += [(at, self.agent_frame, frame) for at, frame in agent]
            frames.sort(key=itemgetter(0))
            for at, hear, frame in frames:
                hear(frame, PIECE, at)

    def _user_left(self) -> Aside:
        """Pass over as many of the caller's frames as change nothing, and return the others."""
        frames = _taken(self.user_aside)
        passed = self.user.pass_over(frames, self.arrivals.in_time(frames)) if frames else 0
        if passed:
            self.arrivals.until = self.user.until
        return frames[passed:]

    def _agent_left(self) -> Aside:
        """Do so with the agent's."""
        frames = _taken(self.agent_aside)
        return frames[self.agent.pass_over(frames, self.agent.in_time(frames)) :] if frames else frames

    def user_frame(self, frame: Frame, size: int, at: float) -> None:
        self.user.took(size)
        self.user_sounds(sounds(frame, size, self.user), at)

    def agent_frame(self, frame: Frame, size: int, at: float) -> None:
        self.agent_sounds(sounds(frame, size, self.agent), at)

    def user_sounds(self, sounds: Sounds, at: float) -> None:
        """Take a frame of the caller's: it was spoken when it came, or has waited to be read."""
        rehearsed = self.user.hasty and self.user.bytes > at * BYTES_PER_MS  # more audio than there was time for
        self._hear_user(self.arrivals.place(at, sounds, trusted=not rehearsed))

    def _hear_user(self, frames: list[PlacedFrame]) -> None:
        for start, _, pieces in frames:
            at = start
            for level, ms in pieces:
                if self.user.hear(level, at, ms, at):
                    self.user_changed(at)
                at += ms

    def agent_sounds(self, sounds: Sounds, at: float) -> None:
        """Take a frame of the agent's: it is heard behind all that was sent before."""
        voice = self.agent
        voice.took(0)
        for level, ms in sounds:
            if voice.hear(level, voice.queue(ms, at), ms, at):
                self.agent_changed(at)

    def user_changed(self, at: float) -> None:
        """Note that the caller may have begun or stopped to speak."""
        if self.closed is not None or not 0.0 <= at <= LATEST_MS:
            return
        self.settle(at)
        begun = self.user.begin()
        if begun is not None:
            self.user_texts.begins(begun, agent_since=self.agent.began_at > self.user.ended_at)
            self.agent_texts.interrupted(begun.start)
            self.turns.begins(begun)

    def agent_changed(self, at: float) -> None:
        """Note that the agent may have begun or stopped to speak, in what is queued."""
        if self.closed is not None or not 0.0 <= at <= LATEST_MS:
            return
        agent = self.agent
        if agent.resumed and (segment := agent.segment) is not None:
            if self.user.began_at > segment.sent_from:
                agent.end()  # an answer to what the caller said, behind what was sent before that
            else:
                agent.go_on()
        self.settle(at)
        agent.lapse(agent.until)
        begun = agent.begin()
        if begun is not None:
            self.agent_texts.begins(begun, at)
            self.turns.begins(begun)

    def settle(self, now: float) -> None:
        """Draw the conclusions that time alone allows."""
        self._hear_user(self.arrivals.over(now))
        self.user.refresh()
        self.agent.refresh()
        spoken = self.arrivals.until
        gone = now - spoken > GONE_MS and not self.arrivals.waiting
        self.user.lapse(now if gone else min(now, spoken))
        self.agent.lapse(now)
        self.turns.settle(now)

    def cut(self, at: float) -> None:
        self.agent.end()
        self.agent_texts.cut(at)
        self.turns.cut(at)
        self.agent.until = min(self.agent.until, at)
        self.marks = [(name, min(due, at)) for name, due in self.marks]  # they come back at once
        self.agent.ended_at = min(self.agent.ended_at, at)

    def close(self, now: float, *, observed: bool) -> None:
        self._hear_user(self.arrivals.over(NEVER))
        self.user.loud_until = min(self.user.loud_until, now)
        self.user.end()
        self.agent.end()
        self.agent_texts.close(now, self.confirmed)
        self.turns.cut(now)
        self.turns.close(now, observed=observed)

    # -- messages -----------------------------------------------------------------------------------------------------

    def parse(self, data: Text, limit: int = TEXT_LIMIT) -> dict[str, Any]:
        """Return the object in a text message; empty for anything else, and after the end."""
        if self.closed is not None:
            return {}
        self.texts += 1
        try:
            if len(data) > limit:
                self.oversized += 1
                return {}
            message = from_json(bytes(data) if isinstance(data, memoryview) else data)
        except (ValueError, TypeError):
            message = None
        if isinstance(message, dict):
            return message
        self.unreadable += 1
        return {}

    def pop_mark(self, name: str) -> float:
        """Return when the queue has reached the oldest mark of that name; 0 if there is none."""
        for number, (one, due) in enumerate(self.marks):
            if one == name:
                del self.marks[number]
                return due
        return 0.0

    def agent_started(self, at: float) -> None:
        """Note the agent's own ``speech.started``: what it sends now is another utterance."""
        segment = self.agent.segment
        if segment is None or at - segment.sent_from > FRESH_MS:
            self.agent.end()
            self.agent_texts.split()

    def error(self, title: str, data: dict[str, Any], at: float) -> None:
        self.errors += 1
        facts = {key: data[key][:MESSAGE_LIMIT] for key in ("code", "message") if isinstance(data.get(key), str)}
        self.turns.tell(title, at, None, facts)

    # -- text ---------------------------------------------------------------------------------------------------------

    def add_text(self, utterance: Utterance, at: float) -> Stretch:
        if utterance.by_user:
            self._hear_user(self.arrivals.hurried())
            speaks = self.user.segment is not None and at - self.user.loud_until < PAUSE_MS
            return self.user_texts.add(utterance, at, speaks=speaks)
        stretch = self.agent_texts.add(utterance, at)
        if not stretch.segments:
            self.agent.end()  # what comes next is another utterance, though it may be heard without a pause
        return stretch

    def summary(self) -> dict[str, object]:
        """Return what was counted."""
        facts: dict[str, object] = {
            "user_frames": self.user.frames,
            "user_audio_ms": self.user.bytes // BYTES_PER_MS,
            "agent_frames": self.agent.frames,
            "agent_audio_ms": self.agent.bytes // BYTES_PER_MS,
            "invalid_frames": self.invalid,
            "text_frames": self.texts,
            "unreadable_text_frames": self.unreadable,
            "oversized_text_frames": self.oversized,
            "marks_sent": self.marks_sent,
            "marks_echoed": self.marks_echoed,
            "session_errors": self.errors,
            **self.turns.summary(),
        }
        if self.marks_early:
            facts["marks_early"] = self.marks_early
        if self.carrier is not None:
            facts["carrier"] = self.carrier.name
        return facts


def _taken(aside: deque[tuple[float, bytes] | None]) -> Aside:
    """Return what was put aside, and leave none of it; where two threads do so at once, each frame is one's alone."""
    if not aside:
        return []
    aside.append(None)
    return list(iter(aside.popleft, None))


def _kind_and_data(message: dict[str, Any]) -> tuple[object, dict[str, Any]]:
    data = message.get("data")
    return message.get("type"), data if isinstance(data, dict) else {}


def _name(data: dict[str, Any]) -> str:
    name = data.get("name")
    return name if isinstance(name, str) and len(name) <= NAME_LIMIT else ""
