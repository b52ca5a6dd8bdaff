"""The CHIRP observer: from a call's frames and their times, what happened in it, without any code of the user's.

It is fed the size of each binary frame, each text message, and a time; it does no I/O, keeps no audio and raises
nothing. It knows who was heard when (for utterances recorded without times), and adds a few events: barge-ins both
ways, the response latency of each turn, long silences and ``session.error`` frames.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from bluejay_ws.hearing import carriers
from bluejay_ws.hearing.level import BYTES_PER_MS, size_of
from bluejay_ws.hearing.turns import AGENT_INTERRUPTED, CALLER_INTERRUPTED, Turns
from bluejay_ws.hearing.voices import FRAME_GAP_MS, HeardSpan

if TYPE_CHECKING:
    from collections.abc import Callable

    from bluejay_ws.hearing.level import Frame
    from bluejay_ws.hearing.turns import Text

__all__ = ["ChirpObserver", "HeardSpan"]

LATEST_MS = 1e10
FIRST_TEXTS = 8
"""A carrier shows itself within so many text messages."""

_IDLE = float("-inf")
_OVER = float("inf")


class ChirpObserver:
    """Observe one call. All times are float milliseconds since the handshake.

    Both audio methods are cheap enough for every frame; one observer that has seen nothing takes some 150 bytes.

    Args:
        add_event: called with ``title`` and the keyword arguments ``start_offset_ms``, ``end_offset_ms`` and
            ``metadata``, at most 1,000 times; `Recorder.add_event` fits.
    """

    __slots__ = (
        "_add_event", "_agent_bytes", "_agent_frames", "_agent_until", "_carrier", "_turns", "_user_bytes",
        "_user_frames", "_user_until",
    )  # fmt: skip

    _carrier: carriers.Carrier  # of a `CarrierObserver`

    def __init__(self, add_event: Callable[..., None]) -> None:
        self._add_event = add_event
        self._user_frames = self._user_bytes = 0
        self._agent_frames = self._agent_bytes = 0
        self._user_until = _IDLE  # end of the newest frame
        self._agent_until = _IDLE  # end of the agent's queue; _IDLE makes every frame take the long way
        self._turns: Turns | None = None

    def user_audio(self, frame: Frame, at_ms: float) -> None:
        """Note a binary frame from Bluejay."""
        self._user_sound(size_of(frame), at_ms)

    def _user_sound(self, size: int, at_ms: float) -> None:
        if not size or size & 1:
            self._open().invalid += 1
            return
        self._user_frames += 1
        self._user_bytes += size
        if at_ms - self._user_until > FRAME_GAP_MS:
            self._user_burst(at_ms)
        self._user_until = at_ms + size / BYTES_PER_MS

    def agent_audio(self, frame: Frame, at_ms: float) -> None:
        """Note a binary frame to Bluejay."""
        self._agent_sound(size_of(frame), at_ms)

    def _agent_sound(self, size: int, at_ms: float) -> None:
        if not size or size & 1:
            self._open().invalid += 1
            return
        self._agent_frames += 1
        self._agent_bytes += size
        until = self._agent_until
        if at_ms > until:
            if at_ms - until > FRAME_GAP_MS:
                self._agent_frame(at_ms, size)
                return
            until = at_ms
        self._agent_until = until + size / BYTES_PER_MS

    def user_heard(self, level: int, ms: float, at_ms: float) -> None:  # noqa: ARG002
        """Note caller audio of which a carrier's reader knows the level and the length.

        Args:
            level: root mean square or the like, on the scale of 16 bit samples.
            ms: how long it lasts.
            at_ms: when it came.
        """
        self._user_sound(2 * int(ms * BYTES_PER_MS / 2), at_ms)

    def agent_heard(self, level: int, ms: float, at_ms: float) -> None:  # noqa: ARG002
        """Note agent audio of which a carrier's reader knows the level and the length; see `user_heard`."""
        self._agent_sound(2 * int(ms * BYTES_PER_MS / 2), at_ms)

    def clear(self, at_ms: float) -> None:
        """Note that the agent emptied the carrier's queue: what had not been played is not heard."""

    def mark(self, name: str, at_ms: float) -> None:
        """Note a mark that the agent sent: its echo says that all audio before it was played."""
        turns, at = self._enter(at_ms)
        if turns.closed is None:
            turns.agent.mark(name, at)
        self._leave(turns)

    def mark_echoed(self, name: str, at_ms: float) -> None:
        """Note that a mark came back."""
        turns, at = self._enter(at_ms)
        if turns.closed is None:
            turns.agent.echo(name, at)
        self._leave(turns)

    def interruption(self, at_ms: float, by: str, source: str) -> None:
        """Note what a provider or a framework says: one side broke in on the other.

        It is one with the barge-in that the audio shows near it; where no audio is observed, it is the event.
        """
        turns, at = self._enter(at_ms)
        if turns.closed is None and not (self._user_frames or self._agent_frames):
            title = AGENT_INTERRUPTED if by == "agent" else CALLER_INTERRUPTED
            turns.event(title, at, None, {"source": source})
        self._leave(turns)

    def user_text(self, data: Text, at_ms: float) -> None:
        """Note a whole text message from Bluejay."""
        turns, at = self._enter(at_ms)
        message = turns.parse(data)
        turns.user_message(message, at)
        self._leave(turns)
        if turns.texts <= FIRST_TEXTS:
            carrier = carriers.recognise(message, self)
            if carrier is not None:
                self._carrier = carrier
                self.__class__ = CarrierObserver  # pyright: ignore[reportAttributeAccessIssue]

    def agent_text(self, data: Text, at_ms: float) -> None:
        """Note a whole text message to Bluejay."""
        turns, at = self._enter(at_ms)
        turns.agent_message(turns.parse(data), at)
        self._leave(turns)

    def invalid_audio(self) -> None:
        """Count audio that cannot be read."""
        self._open().invalid += 1

    def close(self, at_ms: float) -> None:
        """End the call: what is open ends at ``at_ms``, and nothing later has an effect. May be called again."""
        turns, at = self._enter(at_ms)
        if turns.closed is None:
            turns.close(at)
            turns.closed = self._summary(turns)
        self._leave(turns)

    def agent_utterance(self, at_ms: float) -> HeardSpan:
        """Return the span of an agent text that became known at ``at_ms``.

        Agents record a text just before they send its audio, while they send it, or just after. So it belongs to

        1. an utterance that has been announced, by ``speech.started`` or an earlier text, and not begun;
        2. else the one that is being heard (its queue still plays, or ended within 200 ms), with or without text:
           texts that come sentence by sentence get the same span;
        3. else the one that ended within the last second and has no text;
        4. else the next one to come. If no audio comes within five seconds of the text, or before the call ends, the
           span becomes an instant: the moment the text was known.
        """
        turns, at = self._enter(at_ms)
        span = HeardSpan(at, at) if turns.closed is not None else turns.agent.utterance(at)
        self._leave(turns)
        return span

    def user_utterance(self, at_ms: float) -> HeardSpan:
        """Return the span of a caller text that became known at ``at_ms``.

        Transcripts come during the speech or some time after it. So it belongs to

        1. what was said last and has no text, unless the caller is speaking again for more than half a second;
        2. else what is being said;
        3. else what ended within the last two seconds, although it has text: transcripts come in pieces;
        4. else an instant.
        """
        turns, at = self._enter(at_ms)
        span = HeardSpan(at, at) if turns.closed is not None else turns.user.utterance(at)
        self._leave(turns)
        return span

    def summary(self) -> dict[str, object]:
        """Return counts of the call, for the event that closes it. After `close` they stand still."""
        turns = self._turns
        if turns is None:
            return self._summary(Turns(self._add_event))
        return dict(turns.closed) if turns.closed is not None else self._summary(turns)

    def _summary(self, turns: Turns) -> dict[str, object]:
        return {
            "user_frames": self._user_frames,
            "user_audio_ms": self._user_bytes // BYTES_PER_MS,
            "agent_frames": self._agent_frames,
            "agent_audio_ms": self._agent_bytes // BYTES_PER_MS,
            **turns.summary(),
        }

    def _open(self) -> Turns:
        if self._turns is None:
            self._turns = Turns(self._add_event)
        return self._turns

    def _enter(self, at_ms: float) -> tuple[Turns, float]:
        """Bring the turns up to date with what the frame path knows."""
        turns = self._open()
        at = at_ms if 0.0 < at_ms < LATEST_MS else 0.0 if not at_ms > 0.0 else LATEST_MS
        if turns.closed is None:
            if self._user_frames:
                turns.user.until = min(max(self._user_until, 0.0), LATEST_MS)
            if self._agent_until != _IDLE:
                turns.agent.until = min(max(self._agent_until, 0.0), LATEST_MS)
            turns.settle(at)
        return turns, at

    def _leave(self, turns: Turns) -> None:
        """Tell the frame path from when on it must ask again."""
        agent = turns.agent
        if turns.closed is not None:
            self._agent_until = self._user_until = _OVER  # no frame takes the long way any more
        else:
            self._agent_until = _IDLE if agent.parked or agent.span is None else agent.until

    def _user_burst(self, at_ms: float) -> None:
        turns, at = self._enter(at_ms)
        if turns.closed is None:
            turns.user_burst(at)
        self._leave(turns)

    def _agent_frame(self, at_ms: float, size: int) -> None:
        turns, at = self._enter(at_ms)
        turns.agent_frame(at, size / BYTES_PER_MS)
        self._leave(turns)


class CarrierObserver(ChirpObserver):
    """The observer of a call that a telephone carrier brings; it becomes one at the carrier's first message.

    (Its class is exchanged so that calls of Bluejay's own pay nothing for carriers.)
    """

    __slots__ = ()

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
        return self._open().parse(data, carriers.TEXT_LIMIT)

    def _summary(self, turns: Turns) -> dict[str, object]:
        return {**super()._summary(turns), "carrier": self._carrier.name}
