"""The caller's audio on its way to a provider: when each position of it was heard, and when somebody spoke in it."""

from __future__ import annotations

from bisect import bisect_left
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable

    from bluejay_ws.recorder import Recorder

PAUSE_MS = 700.0  # silence that ends what the caller says, where the provider does not say when it ended
MOMENTS = 4_096
"""So many moments of the audio that was sent are kept; of the older half, every second goes when there are more."""
MOMENT_NS = 80_000_000  # so long a moment lasts: speech that is shorter is none
ASIDE = 8  # so many frames wait at most until they are looked at
_QUIET = "AB+/-_"
"""The letters of base64 that end a sample whose upper byte is 0, 1, 254 or 255; louder ones seldom end so."""
_QUIET_BYTES = b"\x00\x01\xfe\xff"
"""Samples whose upper byte is one of these are no louder than 512 of 32,768: a line's noise, and not speech."""


class CallerAudio:
    """The caller's audio that was sent to one provider.

    Frames come fifty times a second, and what they say is asked for some times a minute: those of one moment are put
    aside, and looked at together. If the last one is as loud as the last one of the moment before, so are all.

    Args:
        recorder: the call's: whose clock counts.
        bytes_per_ms: of the audio; it may change.
        listens: whether to hear when the caller speaks; it may change.
    """

    __slots__ = (
        "_aside", "_bytes_per_ms", "_clock", "_ear", "_loud", "_moments", "_newest", "_over_at", "_recorder", "listens",
    )  # fmt: skip

    def __init__(self, recorder: Recorder, bytes_per_ms: float, *, listens: bool) -> None:
        self.listens = listens
        self._bytes_per_ms = bytes_per_ms
        self._recorder = recorder
        self._clock = recorder.clock
        self._moments = InputClock()
        self._ear = _Ear()
        self._loud = False
        self._aside: list[str | bytes] = []
        self._newest = self._over_at = 0

    def sent(self, audio: str | bytes) -> None:
        """Note audio that was sent now, as base64 text or bytes."""
        now = self._clock()
        if now > self._over_at or len(self._aside) == ASIDE:
            self._look()
            self._over_at = now + MOMENT_NS
        self._aside.append(audio)
        self._newest = now

    def _look(self) -> None:
        aside, self._aside = self._aside, []
        if not aside:
            return
        sizes, rate = [audio_bytes(one) for one in aside], self._bytes_per_ms
        ms, now = sum(sizes) / rate, (self._newest - self._recorder.started_ns) // 1_000_000
        self._moments.appended(ms, now)
        if self.listens and rate >= 16.0:  # PCM only
            before, self._loud = self._loud, _is_loud(aside[-1])
            if before is not self._loud:
                self._listen(zip(aside, sizes, strict=False), now - ms)
            elif before:
                self._ear.speaks(ms, now)

    def _listen(self, frames: Iterable[tuple[str | bytes, int]], at: float) -> None:
        """Find out when the caller began or stopped."""
        for audio, size in frames:
            ms = size / self._bytes_per_ms
            at += ms
            if _is_loud(audio):
                self._ear.speaks(ms, at)

    @property
    def bytes_per_ms(self) -> float:
        """The size of a millisecond of audio that is sent from now on."""
        return self._bytes_per_ms

    @bytes_per_ms.setter
    def bytes_per_ms(self, value: float) -> None:
        self._look()
        self._bytes_per_ms = value

    @property
    def position_ms(self) -> float:
        """How much was sent so far."""
        self._look()
        return self._moments.position_ms

    def offset(self, position_ms: float) -> float | None:
        """Return when the audio at this position was heard; None before any audio."""
        self._look()
        return self._moments.offset(position_ms)

    def speaks(self, now: float) -> None:
        """Take it from the provider that the caller speaks now."""
        self._look()
        self._ear.speaks(0.0, now)

    def spoke_since(self) -> float | None:
        """Return since when the caller speaks, or spoke last."""
        self._look()
        return self._ear.since

    def take_speech(self, now: float) -> tuple[float, float] | None:
        """Return when what was said last was said, and forget it; see `_Ear.take`."""
        self._look()
        return self._ear.take(now)

    def stop_listening(self) -> None:
        """Somebody tells it better: forget what was heard."""
        self.listens, self._ear = False, _Ear()


class InputClock:
    """From a position in the audio that was sent to when it was heard.

    Audio cannot have been sent before it was heard. So the moment of a position is told by whichever later frame was
    sent with the least delay: audio that was held back and sent in a burst stands where it belongs, and so does what
    follows a gap. Takes some thousand entries at most, however long the call: where audio comes later and later, what
    was sent minutes ago is known less exactly.
    """

    __slots__ = ("_delays", "_ends", "position_ms")

    def __init__(self) -> None:
        self.position_ms = 0.0
        self._ends: list[float] = []
        self._delays: list[float] = []  # of send time over position; rising

    def appended(self, ms: float, now: float) -> None:
        """Note that ``ms`` of audio were sent at ``now``."""
        self.position_ms = position = self.position_ms + ms
        delay = now - position
        delays, ends = self._delays, self._ends
        if not delays or delays[-1] < delay:
            delays.append(delay)
            ends.append(position)
            if len(ends) > MOMENTS:
                del delays[: MOMENTS // 2 : 2], ends[: MOMENTS // 2 : 2]
            return
        while len(delays) > 1 and delays[-2] >= delay:
            del delays[-1], ends[-1]
        delays[-1], ends[-1] = delay, position

    def offset(self, position_ms: float) -> float | None:
        """Return when the audio at this position was heard; None before any audio."""
        if not self._ends:
            return None
        index = min(bisect_left(self._ends, position_ms), len(self._ends) - 1)
        return max(0.0, position_ms + self._delays[index])


class _Ear:
    """When the caller spoke, by what was loud in the audio that was sent."""

    __slots__ = ("_end", "_was", "since")

    def __init__(self) -> None:
        self.since: float | None = None
        self._end = 0.0
        self._was: tuple[float, float] | None = None

    def speaks(self, ms: float, now: float) -> None:
        if self.since is None or now - ms - self._end > PAUSE_MS:
            if self.since is not None:
                self._was = self.since, self._end
            self.since = max(0.0, now - ms)
        self._end = now

    def take(self, now: float) -> tuple[float, float] | None:
        """Return what was said last, and forget it; the caller who has just begun anew is left for later."""
        if self.since is None:
            return None
        if self._was is not None and now - self.since < PAUSE_MS:
            was, self._was = self._was, None
            return was
        span, self.since, self._was = (self.since, self._end), None, None
        return span


def _is_loud(audio: str | bytes) -> bool:
    """Look at the upper bytes of a few samples in the middle; two loud ones are speech, one may be a click."""
    middle = len(audio) // 16 * 8  # eight letters of base64 are three samples
    if type(audio) is str:
        return len(audio[middle + 7 : middle + 168 : 8].strip(_QUIET)) > 1
    return len(audio[middle + 1 : middle + 48 : 2].strip(_QUIET_BYTES)) > 1  # type: ignore[arg-type]


def audio_bytes(payload: Any) -> int:
    """Return how many bytes of audio base64 text or bytes hold."""
    kind = type(payload)
    if kind is str:
        size = len(payload) * 3 // 4
        return size if payload[-1:] != "=" else size - (2 if payload[-2:] == "==" else 1)
    return len(payload) if kind is bytes or kind is bytearray or kind is memoryview else 0
