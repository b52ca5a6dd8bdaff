"""One call of a Digital Human: what is said, what is heard, and the log of both."""

from __future__ import annotations

import asyncio
import itertools
import uuid
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from websockets.exceptions import ConnectionClosed

from bluejay_ws.testing.audio import BYTES_PER_MS, FRAME_BYTES, frames, hold_noise, silence
from bluejay_ws.testing.playhead import Playhead
from bluejay_ws.testing.protocols import Chirp, FrameError
from bluejay_ws.testing.spans import Loudness, Span

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from websockets.asyncio.client import ClientConnection

    from bluejay_ws.testing.protocols import Heard, Protocol

Background: TypeAlias = Literal["noise", "silence", "pauses"]

LULL = 0.15  # seconds without audio, beyond what was queued, after which the agent counts as quiet
LONGER_LULL = 1.0  # the same for an agent that has said that it began, and not that it is done
LATE = 0.1  # seconds that a frame may be late and is still caught up with
ECHO = 0.12  # seconds after which the platform takes the agent's echo for the caller, where it does
KEY_MS = 200.0  # between two keys
FOREVER = float("inf")


@dataclass(frozen=True, slots=True)
class CallEvent:
    """Say what happened, and when.

    Args:
        at_ms: milliseconds since the handshake, as the caller's clock has it.
        kind: ``connected``, ``closed``; ``user.audio`` (the first frame of an utterance), ``user.speech.started``,
            ``user.speech.completed``; ``agent.heard`` and ``agent.quiet`` (its speech began to be heard, and ended),
            ``agent.speech.started``, ``agent.speech.completed``; ``mark.received``, ``mark.echoed``, ``mark.dropped``
            (the call ended before it was reached); ``barge_in`` (the caller began while the agent was heard),
            ``interrupted`` (the agent began while the caller spoke); ``error.received``, ``error.sent``. With a carrier
            also ``user.key``, ``cleared`` (the agent emptied the queue), ``message.refused`` (the carrier would not
            take the agent's message).
        detail: what else is known, such as ``utterance_id``, ``name``, ``queued_ms`` (agent speech that was still to
            be heard) or ``code``.
    """

    at_ms: float
    kind: str
    detail: Mapping[str, Any] = field(default_factory=dict)


@dataclass(slots=True, kw_only=True)
class CallLog:
    """Keep what happened in one call, seen from the caller.

    Args:
        events: in order of time.
        frames_sent: audio messages to the agent, ``bytes_sent`` their PCM; ``texts_sent`` counts the other messages.
        frames_received: audio messages from the agent, bad binary ones included.
        heard_ms: agent audio that has been played, silence included.
        dropped_ms: agent audio that was still queued when the call ended, or when the agent cleared it.
        user_spans: when the caller spoke, by the loudness of what it sent. `spans.latencies` and `spans.barge_ins`
            derive the rest.
        agent_spans: when the agent was heard, by the loudness of what was played.
        close_code: 1006 when the connection broke; None while the call lasts.
        closed_by: ``caller``, ``agent``, or ``nobody`` when the connection broke without a close frame.
        duration_ms: from the handshake to the end.
    """

    events: list[CallEvent] = field(default_factory=list)
    frames_sent: int = 0
    bytes_sent: int = 0
    texts_sent: int = 0
    frames_received: int = 0
    bytes_received: int = 0
    texts_received: int = 0
    heard_ms: float = 0.0
    dropped_ms: float = 0.0
    user_spans: list[Span] = field(default_factory=list)
    agent_spans: list[Span] = field(default_factory=list)
    close_code: int | None = None
    close_reason: str = ""
    closed_by: str | None = None
    duration_ms: float = 0.0

    def of(self, kind: str) -> list[CallEvent]:
        """Return the events of that kind."""
        return [event for event in self.events if event.kind == kind]


@dataclass(frozen=True, slots=True, kw_only=True)
class Habits:
    """Say how a caller behaves; `bluejay_ws.testing.caller.DigitalHuman` explains each."""

    pace: float = 1.0
    skew_ms: float = 200.0
    patience: float = 10.0
    reaction: float = 0.6
    yields: bool = True
    background: Background = "pauses"
    noise_rms: float = 100.0
    events: bool = True
    echo: bool = False
    on_event: Callable[[CallEvent], None] | None = None
    on_audio: Callable[[str, float, bytes], None] | None = None


class Line:
    """One call that is going on. `DigitalHuman.dial` makes it; everything it does ends quietly when the call does."""

    def __init__(self, connection: ClientConnection, habits: Habits, protocol: Protocol | None = None) -> None:
        self.log = CallLog()
        self.connection = connection
        self.protocol: Protocol = protocol or Chirp()
        self.closed = False
        self._habits = habits
        self._clock = asyncio.get_running_loop().time
        self._began = self._clock()
        self._over = asyncio.Event()
        self._news = asyncio.Event()
        self._playhead = Playhead(habits.pace)
        self._agent = Loudness(habits.pace)
        self._user = Loudness(habits.pace)
        self._microphone = asyncio.Lock()  # one voice at a time, the background noise being one
        self._next_frame = 0.0
        self._audible = False  # the agent is being heard
        self._echo_at: float | None = None  # its echo is taken for the caller then
        self._echoing: str | None = None
        self._speaking = False  # from the first frame of an utterance to its speech.completed
        self._announced = False  # its speech.started is out
        self._interrupted = False
        self._barging = False  # the agent was heard when the caller began
        self._hung_up = False
        self._counting = False  # somebody waits until so much of the answer has been heard
        self._turn_from_ms: float | None = None  # position in the agent's audio at which its speech of this turn began
        self._turn_started = False
        self._turn_completed = False

    async def begin(self, ids: Sequence[str] = ()) -> None:
        """Note that the call has begun, and send what a carrier sends first. `DigitalHuman.dial` does it."""
        self._note("connected")
        for message in self.protocol.opening(ids):
            await self.send(message)

    async def say(self, pcm: bytes, *, utterance_id: str | None = None) -> bool:
        """Speak: audio in 20 ms frames, with the speech events late and early as Bluejay's are.

        Speaking while the agent is heard is barging in. The caller still hears all that the agent has sent by then.

        Returns:
            False when the agent interrupted, or the call ended.
        """
        name = utterance_id or str(uuid.uuid4())
        pieces = list(frames(pcm))
        skew = min(round(self._habits.skew_ms * BYTES_PER_MS / FRAME_BYTES), len(pieces) // 2)
        async with self._microphone:
            for index, piece in enumerate(pieces):
                await self._slot()
                if index == 0:
                    self._begin_speaking(name)
                if index == skew:
                    await self._start(name)
                if index == len(pieces) - skew:
                    await self._complete(name)
                if self._interrupted or self.closed:
                    break
                await self._speak(piece)
            if not pieces:
                self._begin_speaking(name)
            await self._slot()
            await self._complete(name)
        return not (self._interrupted or self.closed)

    async def press(self, keys: str, pcm: bytes) -> bool:
        """Press keys: as the carrier's messages, or as ``pcm``, their tones, where it has none.

        Returns:
            False when the agent interrupted, or the call ended.
        """
        for key in keys:
            message = self.protocol.key(key)
            if message is None:
                return await self.say(pcm)
            if await self.send(message):
                self._note("user.key", {"key": key})
            await self.silence(KEY_MS)
        self._begin_turn()
        return not self.closed

    async def silence(self, duration_ms: float, *, until_heard: bool = False) -> None:
        """Say nothing for so long; with ``until_heard`` no longer than until the agent speaks.

        A caller whose audio pauses between utterances sends frames of silence here; any other continues with its noise.
        """
        if self._habits.background != "pauses":
            until = self._clock() + duration_ms / 1000 * self._habits.pace
            while not self.closed and self._clock() < until and not (until_heard and self._in_turn()):
                await self._wait(until)
            return
        await self.sound(silence(duration_ms), until_heard=until_heard)

    async def sound(self, pcm: bytes, *, until_heard: bool = False) -> None:
        """Send audio that is no speech, such as noise: without speech events, in the place of the line's own.

        With ``until_heard`` no longer than until the agent speaks.
        """
        async with self._microphone:
            for piece in frames(pcm):
                await self._slot()
                if self.closed or (until_heard and self._in_turn()):
                    return
                await self._speak(piece)
            await self._slot()

    async def listen(self, *, heard_ms: float | None = None, patience: float | None = None) -> bool:
        """Wait until the agent has spoken and its turn is over, or until enough of it has been heard.

        Args:
            heard_ms: return as soon as that much of this turn has been heard.
            patience: seconds to wait for an agent that says nothing; default: the caller's.

        Returns:
            False when the agent said nothing, or the call ended.
        """
        limit = self._clock() + (self._habits.patience if patience is None else patience)
        self._counting = heard_ms is not None
        while not self.closed:
            now = self._clock()
            due = self._turn_over_at(heard_ms, now)
            mark = self._playhead.next_mark()
            if mark is not None and mark <= now:
                due = FOREVER  # its echo is on the way: news
            if due is not None and due <= now:
                return True
            if due is None and limit <= now:
                return False
            await self._wait(limit if due is None else due)
        return False

    async def send(self, message: bytes | str) -> bool:
        """Send one message as it is, however wrong; return False when the call is over."""
        if not await self._put(message):
            return False
        if isinstance(message, str):
            self.log.texts_sent += 1
        else:
            self.log.frames_sent += 1
            self.log.bytes_sent += len(message)
        return True

    async def _put(self, message: bytes | str) -> bool:
        try:
            await self.connection.send(message)
        except ConnectionClosed:
            return False  # `hear` notes the end
        return True

    async def hang_up(self, code: int = 1000, reason: str = "") -> None:
        """Close the connection and wait for its end; does nothing to a call that is over."""
        if not (self.closed or self._hung_up):
            self._hung_up = True
            for message in self.protocol.closing():
                await self.send(message)
        await self.connection.close(code, reason)
        await self._over.wait()

    async def drop(self) -> None:
        """Cut the TCP connection, without a close frame."""
        self.connection.transport.abort()
        await self._over.wait()

    async def hear(self) -> None:
        """Take what the agent sends until the call ends. `DigitalHuman.dial` runs it."""
        try:
            async for message in self.connection:
                if await self._take(message):
                    self._tell()
        except ConnectionClosed:
            pass  # noted below, with its code
        finally:
            self._end()

    async def hold(self) -> None:
        """Send what the line carries while the caller says nothing. `DigitalHuman.dial` runs it."""
        if self._habits.background == "pauses":
            return
        rms = self._habits.noise_rms if self._habits.background == "noise" else 0.0
        noise = itertools.cycle(list(frames(hold_noise(5_000, rms=rms))))
        while not self.closed:
            async with self._microphone:
                await self._slot()
                if not self.closed:
                    await self._speak(next(noise))

    async def play(self) -> None:
        """Echo marks as they are reached, and notice silence. `DigitalHuman.dial` runs it."""
        try:
            await self._play()
        finally:
            self.connection.transport.abort()  # nobody waits for an echo that will never leave

    async def _play(self) -> None:
        while not self.closed:
            for name in self._playhead.reached(self._clock()):
                await self._echo(name)
                self._tell()
            quiet_at = self._agent.until + LULL if self._audible else None
            if quiet_at is not None and quiet_at <= self._clock():
                await self._fall_quiet(self._agent.until)
                continue
            if self._echo_at is not None and self._echo_at <= self._clock():
                await self._hear_echo()
                continue
            times = [time for time in (self._playhead.next_mark(), quiet_at, self._echo_at) if time is not None]
            await self._wait(min(times, default=FOREVER))

    # Speaking

    def _begin_speaking(self, utterance_id: str) -> None:
        now = self._clock()
        in_mid_turn = self._audible and not self._turn_completed and now < self._agent.until + LULL
        self._barging = self._agent.sounding(now) or in_mid_turn
        if self._barging:
            pace = self._habits.pace
            # To the microsecond: below that there is nothing but what sums of seconds have rounded.
            queued_ms = round(max(0.0, self._agent.until - now) * 1000 / pace, 3) if pace else 0.0
            self._note("barge_in", {"utterance_id": utterance_id, "queued_ms": queued_ms})
        self._speaking, self._announced, self._interrupted = True, False, False
        self._note("user.audio", {"utterance_id": utterance_id})

    async def _start(self, utterance_id: str) -> None:
        self._announced = True
        if self._habits.events:
            await self._send_event("speech.started", utterance_id)

    async def _complete(self, utterance_id: str) -> None:
        if not self._speaking:
            return
        if not self._announced:
            await self._start(utterance_id)
        self._speaking = False
        if not self._interrupted:
            self._begin_turn()
        if self._habits.events:
            await self._send_event("speech.completed", utterance_id)

    async def _slot(self) -> None:
        """Wait until the next frame is due: 20 ms after the one before, however long that took to send."""
        now = self._clock()
        if self._next_frame < now - LATE or not self._habits.pace:
            self._next_frame = now
        await asyncio.sleep(max(0.0, self._next_frame - now))

    async def _speak(self, frame: bytes) -> None:
        now = self._clock()
        self._user.add(frame, now)
        self._pass_on("caller", now, frame)
        self._next_frame += len(frame) / BYTES_PER_MS / 1000 * self._habits.pace
        if await self._put(self.protocol.audio(frame)):
            self.log.frames_sent += 1
            self.log.bytes_sent += len(frame)

    async def _send_event(self, kind: str, utterance_id: str) -> None:
        await self._send_text(f"user.{kind}", self.protocol.speech(kind, utterance_id), {"utterance_id": utterance_id})

    async def _echo(self, name: str) -> None:
        await self._send_text("mark.echoed", self.protocol.mark(name), {"name": name})

    async def _send_text(self, kind: str, text: str | None, detail: Mapping[str, Any]) -> None:
        if text is not None and await self.send(text):
            self._note(kind, detail)

    # Hearing

    async def _take(self, message: bytes | str) -> bool:
        """Take a message; return whether those who wait have to look again. More of the same audio is nothing new."""
        try:
            heard = self.protocol.read(message)
        except FrameError as error:
            self._count(message, b"" if isinstance(message, str) else message)
            await self._refuse(error)
            return True
        self._count(message, heard.pcm)
        if heard.kind == "audio":
            before = self._audible, self._turn_from_ms
            self._take_audio(heard.pcm)
            return self._counting or before != (self._audible, self._turn_from_ms)
        if heard.kind == "clear":
            await self._clear()
        else:
            self._take_text(heard)
        return True

    def _count(self, message: bytes | str, pcm: bytes) -> None:
        if pcm or isinstance(message, bytes):
            self.log.frames_received += 1
            self.log.bytes_received += len(pcm)
        else:
            self.log.texts_received += 1

    async def _refuse(self, error: FrameError) -> None:
        answer, detail = self.protocol.error(error), {"code": error.code, "message": error.message}
        if answer is None:
            self._note("message.refused", detail)
        await self._send_text("error.sent", answer, detail)

    async def _clear(self) -> None:
        """Empty the queue, as the agent asks a carrier to."""
        now = self._clock()
        before_ms = self._playhead.dropped_ms
        names = self._playhead.clear(now)
        self._agent.cut(now)
        self._note("cleared", {"dropped_ms": self._playhead.dropped_ms - before_ms})
        answer = self.protocol.cleared()
        if answer is not None:
            await self.send(answer)
        for name in names:
            if self.protocol.clear_returns_marks:
                await self._echo(name)
            else:
                self._note("mark.dropped", {"name": name})

    def _take_audio(self, frame: bytes) -> None:
        before_ms = self._playhead.received_ms - self._playhead.dropped_ms
        begins = self._playhead.add(len(frame), self._clock())
        loud_from = self._agent.add(frame, begins)
        self._pass_on("agent", begins, frame)
        if loud_from is None:
            return
        if not self._audible:
            self._audible = True
            self._note("agent.heard", at=loud_from)
            self._echo_at = loud_from + ECHO if self._habits.echo else None
            if not (self.protocol.has_speech_events or self._barging):
                self._yield()
        if self._turn_from_ms is None:
            pace = self._habits.pace
            self._turn_from_ms = before_ms + ((loud_from - begins) * 1000 / pace if pace else 0.0)

    def _take_text(self, heard: Heard) -> None:
        frame_type, data = heard.kind, heard.detail
        if frame_type == "mark":
            self._playhead.mark(data["name"], self._clock())
            self._note("mark.received", {"name": data["name"]})
        elif frame_type == "session.error":
            self._note("error.received", {"code": data["code"], "message": data.get("message")})
        else:
            self._note(f"agent.{frame_type}", {"utterance_id": data["utterance_id"]})
            self._follow_turn(frame_type)

    def _follow_turn(self, frame_type: str) -> None:
        if frame_type == "speech.completed":
            self._turn_completed = True
            return
        self._begin_turn()
        self._turn_started = True
        self._yield()

    def _yield(self) -> None:
        if self._speaking and self._habits.yields:
            self._interrupted = True
            self._note("interrupted")

    def _begin_turn(self) -> None:
        self._turn_from_ms = None
        self._turn_started = self._turn_completed = False

    def _in_turn(self) -> bool:
        return self._turn_completed or self._turn_from_ms is not None

    def _turn_over_at(self, heard_ms: float | None, now: float) -> float | None:
        if not self._in_turn():
            return None
        reaction = self._habits.reaction * self._habits.pace
        lull = 0.0 if self._turn_completed else LONGER_LULL if self._turn_started else LULL
        over = self._agent.until + max(reaction, lull)
        if heard_ms is not None and self._turn_from_ms is not None:
            enough = self._playhead.heard_at(self._turn_from_ms + heard_ms, now)
            over = over if enough is None else min(over, enough)
        return over

    async def _fall_quiet(self, at: float) -> None:
        self._audible, self._echo_at = False, None
        self._note("agent.quiet", at=at)
        if self._echoing is not None:
            name, self._echoing = self._echoing, None
            await self._send_event("speech.completed", name)

    async def _hear_echo(self) -> None:
        """Take the agent's echo for the caller's voice, as the platform's detector may."""
        self._echo_at = None
        if not self._speaking:
            self._echoing = f"echo-{uuid.uuid4()}"
            await self._send_event("speech.started", self._echoing)

    # Keeping track

    def _note(self, kind: str, detail: Mapping[str, Any] | None = None, *, at: float | None = None) -> None:
        time = self._clock() if at is None else at
        event = CallEvent(at_ms=(time - self._began) * 1000, kind=kind, detail=detail or {})
        self.log.events.append(event)
        if self._habits.on_event is not None:
            self._habits.on_event(event)

    def _pass_on(self, who: str, at: float, frame: bytes) -> None:
        if self._habits.on_audio is not None:
            self._habits.on_audio(who, (at - self._began) * 1000, frame)

    def _tell(self) -> None:
        self._news.set()
        self._news = asyncio.Event()  # not anyio's: a timer is no task, and old versions want one

    async def _wait(self, until: float) -> None:
        """Sleep until something happens, at the latest until that time; the end has no news after it."""
        if self.closed:
            return
        timer = asyncio.get_running_loop().call_at(until, self._tell)  # not a timeout: nobody is cancelled
        try:
            await self._news.wait()
        finally:
            timer.cancel()

    def _end(self) -> None:
        now = self._clock()
        self.closed = True
        self._over.set()  # first: what is noted below may raise in the caller's own callback
        self._tell()
        log, protocol = self.log, self.connection.protocol
        log.user_spans = self._user.spans(self._began, now)
        log.agent_spans = self._agent.spans(self._began, now)
        if self._audible:
            self._note("agent.quiet", at=min(now, self._agent.until))
        for name in self._playhead.clear(now):
            self._note("mark.dropped", {"name": name}, at=now)
        log.heard_ms = self._playhead.heard_ms(now)
        log.dropped_ms = self._playhead.dropped_ms
        log.close_code, log.close_reason = protocol.close_code, protocol.close_reason or ""
        log.closed_by = {None: "nobody", True: "agent", False: "caller"}[protocol.close_rcvd_then_sent]
        log.duration_ms = (now - self._began) * 1000
        detail = {"code": log.close_code, "reason": log.close_reason, "by": log.closed_by}
        self._note("closed", detail, at=now)
        log.events.sort(key=lambda event: event.at_ms)
