"""One call of a Digital Human: what is said, what is heard, and the log of both."""

from __future__ import annotations

import asyncio
import uuid
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import anyio
from websockets.exceptions import ConnectionClosed

from bluejay_ws.testing.audio import BYTES_PER_MS, FRAME_BYTES, frames, silence
from bluejay_ws.testing.chirp_frames import FrameError, check_audio, parse_text, text_frame
from bluejay_ws.testing.playhead import Playhead

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from websockets.asyncio.client import ClientConnection

__all__ = ["CallEvent", "CallLog", "Habits", "Line"]

LULL = 0.15  # seconds without audio, beyond what was queued, after which the agent counts as quiet
LONGER_LULL = 1.0  # the same for an agent that has said that it began, and not that it is done
FOREVER = float("inf")


@dataclass(frozen=True, slots=True)
class CallEvent:
    """Say what happened, and when.

    Args:
        at_ms: milliseconds since the handshake, as the caller's clock has it.
        kind: ``connected``, ``closed``; ``user.audio`` (the first frame of an utterance), ``user.speech.started``,
            ``user.speech.completed``; ``agent.heard`` and ``agent.quiet`` (its audio began to be heard, and ended),
            ``agent.speech.started``, ``agent.speech.completed``; ``mark.received``, ``mark.echoed``, ``mark.dropped``;
            ``barge_in`` (the caller began while the agent was heard), ``interrupted`` (the agent began while the
            caller spoke); ``error.received``, ``error.sent``.
        detail: what else is known, such as ``utterance_id``, ``name``, ``dropped_ms`` or ``code``.
    """

    at_ms: float
    kind: str
    detail: Mapping[str, Any] = field(default_factory=dict)


@dataclass(slots=True, kw_only=True)
class CallLog:
    """Keep what happened in one call, seen from the caller.

    Args:
        events: in order of time.
        frames_sent: binary frames to the agent; ``texts_sent`` counts the text frames.
        frames_received: binary frames from the agent, bad ones included.
        heard_ms: agent audio that has been played, without what was dropped when the caller barged in.
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
    on_event: Callable[[CallEvent], None] | None = None


class Line:
    """One call that is going on. `DigitalHuman.dial` makes it; everything it does ends quietly when the call does.

    Args:
        connection: open.
        habits: how the caller behaves.
    """

    def __init__(self, connection: ClientConnection, habits: Habits) -> None:
        self.log = CallLog()
        self.connection = connection
        self.closed = False
        self._habits = habits
        self._began = anyio.current_time()
        self._over = anyio.Event()
        self._news = anyio.Event()
        self._playhead = Playhead(habits.pace)
        self._next_frame = 0.0
        self._last_audio = 0.0
        self._audible = False  # the agent is being heard
        self._speaking = False  # from the first frame of an utterance to its speech.completed
        self._announced = False  # its speech.started is out
        self._interrupted = False
        self._turn_from_ms = 0.0  # agent audio that belongs to earlier turns
        self._turn_started = False
        self._turn_completed = False

    def begin(self) -> None:
        """Note that the call has begun. `DigitalHuman.dial` does it."""
        self._note("connected")

    async def say(self, pcm: bytes, *, utterance_id: str | None = None) -> bool:
        """Speak: audio in 20 ms frames, with the speech events late and early as Bluejay's are.

        Speaking while the agent is heard is barging in: what is queued of the agent's audio is dropped.

        Returns:
            False when the agent interrupted, or the call ended.
        """
        name = utterance_id or str(uuid.uuid4())
        pieces = list(frames(pcm))
        skew = min(round(self._habits.skew_ms * BYTES_PER_MS / FRAME_BYTES), len(pieces) // 2)
        self._begin_speaking(name)
        for index, piece in enumerate(pieces):
            if index == skew:
                await self._start(name)
            if index == len(pieces) - skew:
                await self._complete(name)
            if self._interrupted or self.closed:
                break
            await self._speak(piece)
        await self._complete(name)
        return not (self._interrupted or self.closed)

    async def silence(self, duration_ms: float, *, until_heard: bool = False) -> None:
        """Send frames of silence; with ``until_heard`` no longer than until the agent speaks."""
        for piece in frames(silence(duration_ms)):
            if self.closed or (until_heard and self._in_turn()):
                return
            await self._speak(piece)

    async def listen(self, *, heard_ms: float | None = None, patience: float | None = None) -> bool:
        """Wait until the agent has spoken and its turn is over, or until enough of it has been heard.

        Args:
            heard_ms: return as soon as that much of this turn has been heard.
            patience: seconds to wait for an agent that says nothing; default: the caller's.

        Returns:
            False when the agent said nothing, or the call ended.
        """
        limit = anyio.current_time() + (self._habits.patience if patience is None else patience)
        while not self.closed:
            now = anyio.current_time()
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
        try:
            await self.connection.send(message)
        except ConnectionClosed:
            return False  # `hear` notes the end
        if isinstance(message, str):
            self.log.texts_sent += 1
        else:
            self.log.frames_sent += 1
            self.log.bytes_sent += len(message)
        return True

    async def hang_up(self, code: int = 1000, reason: str = "") -> None:
        """Close the connection and wait for its end; does nothing to a call that is over."""
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
                await self._take(message)
                self._tell()
        except ConnectionClosed:
            pass  # noted below, with its code
        finally:
            self._end()

    async def play(self) -> None:
        """Echo marks as they are reached, and notice silence. `DigitalHuman.dial` runs it."""
        try:
            await self._play()
        finally:
            self.connection.transport.abort()  # nobody waits for an echo that will never leave

    async def _play(self) -> None:
        while not self.closed:
            for name in self._playhead.reached(anyio.current_time()):
                await self._send_text("mark.echoed", "mark", name=name)
                self._tell()
            quiet_at = self._quiet_from() + LULL if self._audible else None
            if quiet_at is not None and quiet_at <= anyio.current_time():
                self._fall_quiet(self._quiet_from())
                continue
            times = [time for time in (self._playhead.next_mark(), quiet_at) if time is not None]
            await self._wait(min(times, default=FOREVER))

    # Speaking

    def _begin_speaking(self, utterance_id: str) -> None:
        now = anyio.current_time()
        dropped_ms, marks = self._playhead.drop(now)
        in_mid_turn = self._audible and not self._turn_completed and now < self._quiet_from() + LULL
        if dropped_ms or in_mid_turn:
            self._note("barge_in", {"utterance_id": utterance_id, "dropped_ms": dropped_ms})
            for name in marks:
                self._note("mark.dropped", {"name": name})
            self._fall_quiet(now)
        self._speaking, self._announced, self._interrupted = True, False, False
        self._note("user.audio", {"utterance_id": utterance_id})

    async def _start(self, utterance_id: str) -> None:
        self._announced = True
        await self._send_text("user.speech.started", "speech.started", utterance_id=utterance_id)

    async def _complete(self, utterance_id: str) -> None:
        if not self._speaking:
            return
        if not self._announced:
            await self._start(utterance_id)
        self._speaking = False
        if not self._interrupted:
            self._begin_turn()
        await self._send_text("user.speech.completed", "speech.completed", utterance_id=utterance_id)

    async def _speak(self, frame: bytes) -> None:
        began = max(self._next_frame, anyio.current_time())
        await self.send(frame)
        self._next_frame = began + len(frame) / BYTES_PER_MS / 1000 * self._habits.pace
        await anyio.sleep(max(0.0, self._next_frame - anyio.current_time()))

    async def _send_text(self, kind: str, frame_type: str, **data: str) -> None:
        if await self.send(text_frame(frame_type, **data)):
            self._note(kind, data)

    # Hearing

    async def _take(self, message: bytes | str) -> None:
        try:
            if isinstance(message, str):
                self._take_text(message)
            else:
                self._take_audio(message)
        except FrameError as error:
            await self._send_text("error.sent", "session.error", code=error.code, message=error.message)

    def _take_audio(self, frame: bytes) -> None:
        self.log.frames_received += 1
        self.log.bytes_received += len(frame)
        check_audio(frame)
        now = anyio.current_time()
        if not self._audible:
            self._audible = True
            self._note("agent.heard")
        self._playhead.add(len(frame), now)
        self._last_audio = now

    def _take_text(self, text: str) -> None:
        self.log.texts_received += 1
        frame_type, data = parse_text(text)
        if frame_type == "mark":
            self._playhead.mark(data["name"], anyio.current_time())
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
        if self._speaking and self._habits.yields:
            self._interrupted = True
            self._note("interrupted")

    def _begin_turn(self) -> None:
        self._turn_from_ms = self._playhead.received_ms
        self._turn_started = self._turn_completed = False

    def _in_turn(self) -> bool:
        return self._turn_completed or self._playhead.received_ms > self._turn_from_ms

    def _turn_over_at(self, heard_ms: float | None, now: float) -> float | None:
        if not self._in_turn():
            return None
        reaction = self._habits.reaction * self._habits.pace
        lull = 0.0 if self._turn_completed else LONGER_LULL if self._turn_started else LULL
        over = self._quiet_from() + max(reaction, lull)
        if heard_ms is not None:
            enough = self._playhead.heard_at(self._turn_from_ms - self._playhead.dropped_ms + heard_ms, now)
            over = over if enough is None else min(over, enough)
        return over

    def _quiet_from(self) -> float:
        return max(self._playhead.until, self._last_audio)

    def _fall_quiet(self, at: float) -> None:
        self._audible = False
        self._note("agent.quiet", at=at)

    # Keeping track

    def _note(self, kind: str, detail: Mapping[str, Any] | None = None, *, at: float | None = None) -> None:
        time = anyio.current_time() if at is None else at
        event = CallEvent(at_ms=(time - self._began) * 1000, kind=kind, detail=detail or {})
        self.log.events.append(event)
        if self._habits.on_event is not None:
            self._habits.on_event(event)

    def _tell(self) -> None:
        self._news.set()
        self._news = anyio.Event()

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
        now = anyio.current_time()
        self.closed = True
        self._over.set()  # first: what is noted below may raise in the caller's own callback
        self._tell()
        log, protocol = self.log, self.connection.protocol
        log.heard_ms = self._playhead.heard_ms(now)
        log.dropped_ms = self._playhead.dropped_ms
        log.close_code, log.close_reason = protocol.close_code, protocol.close_reason or ""
        log.closed_by = {None: "nobody", True: "agent", False: "caller"}[protocol.close_rcvd_then_sent]
        log.duration_ms = (now - self._began) * 1000
        if self._audible:
            self._fall_quiet(min(now, self._quiet_from()))
        detail = {"code": log.close_code, "reason": log.close_reason, "by": log.closed_by}
        self._note("closed", detail, at=now)
        log.events.sort(key=lambda event: event.at_ms)
