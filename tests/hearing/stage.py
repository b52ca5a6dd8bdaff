"""A call in made-up time: a caller and an agent whose audio is sent as theirs is, and the truth about both."""

from __future__ import annotations

import array
import functools
import json
import random
from typing import TYPE_CHECKING, Any

from bluejay_ws.hearing.chirp import ChirpObserver
from bluejay_ws.hearing.utterances import Placed, Stretch, Utterance, place

if TYPE_CHECKING:
    from collections.abc import Callable

RATE = 16
"""Samples a millisecond."""


_gauss = random.Random(7)
_STORE = [_gauss.gauss(0, 1) for _ in range(1_000 * RATE)]


@functools.lru_cache(maxsize=64)
def _second(rms: float) -> bytes:
    return array.array("h", [max(-32_768, min(32_767, int(rms * one))) for one in _STORE]).tobytes()


def noise(rms: float, ms: float, dice: random.Random) -> bytes:
    """Return noise of a root mean square."""
    size = 2 * round(ms * RATE)
    if rms == 0:
        return bytes(size)
    begin = 2 * dice.randrange(1_000 * RATE)
    second = _second(rms)
    return (second[begin:] + second * (size // len(second) + 1))[:size]


def speech(ms: float, dice: random.Random, rms: float = 2_000.0) -> bytes:
    """Return what is as loud as speech: syllables of 120 ms, each followed by 60 ms that are much quieter."""
    found, left = [], ms
    while left > 0.01:
        loud = min(120.0, left)
        at_last = left - loud < 120.0
        quiet = left - loud if at_last else 60.0
        found.append(noise(rms * dice.choice((0.7, 0.9, 1.0, 1.2)), loud, dice))
        found.append(noise(rms if at_last else rms / 12, quiet, dice))
        left -= loud + quiet
    return b"".join(found)


class Stage:
    """Plan what is sent when; `play` it in the order of time."""

    def __init__(self, seed: int = 1) -> None:
        self.dice = random.Random(seed)
        self.events: list[dict[str, Any]] = []
        self.observer = ChirpObserver(self)
        self._plan: list[tuple[float, int, Callable[[float], object]]] = []
        self.stretches: dict[str, Stretch] = {}

    def note_event(self, title: str, **facts: Any) -> None:
        """Keep an event that the observer adds."""
        self.events.append({"title": title, **facts})

    def at(self, ms: float, action: Callable[[float], object]) -> None:
        """Do something at a time."""
        self._plan.append((ms, len(self._plan), action))

    def caller(self, start: float, audio: bytes | bytearray, frame_ms: float = 20) -> None:
        """Let the caller send audio as it is spoken."""
        size = round(frame_ms * RATE) * 2
        for offset in range(0, len(audio), size):
            self._frame(self.observer.user_audio, audio[offset : offset + size], start + offset / 32)

    def agent(
        self, start: float, audio: bytes | bytearray, frame_ms: float = 20, every_ms: float | None = None
    ) -> None:
        """Let the agent send audio, a frame each ``every_ms``: as fast as it plays, or faster."""
        size = round(frame_ms * RATE) * 2
        every = frame_ms if every_ms is None else every_ms
        for number, offset in enumerate(range(0, len(audio), size)):
            self._frame(self.observer.agent_audio, audio[offset : offset + size], start + number * every)

    def _frame(self, observe: Callable[[bytes | bytearray, float], None], frame: bytes | bytearray, at: float) -> None:
        self.at(at, lambda now: observe(frame, now))

    def message(self, side: str, kind: str, at: float, **data: Any) -> None:
        """Let one side send a text message."""
        text = json.dumps({"type": kind, "data": data})
        self.at(at, lambda now: getattr(self.observer, f"{side}_text")(text, now))

    def said(self, side: str, text: str, at: float, audio_ms: float | None = None) -> None:
        """Record a text."""

        def record(now: float) -> None:
            speaker = "USER" if side == "user" else "AGENT"
            one = Utterance(None, 0, speaker, text, at_ms=int(now), audio_ms=audio_ms)  # type: ignore[arg-type]
            self.stretches[text] = self.observer.utterance(one, now)

        self.at(at, record)

    def play(self, until: float) -> None:
        """Let it all happen, and end the call."""
        for at, _, action in sorted(self._plan, key=lambda one: one[:2]):
            if at <= until:
                action(at)
        self.observer.close(until)

    def placed(self, text: str) -> Placed:
        """Return where a text was heard."""
        (found,) = [one for one in place(self.stretches[text]) if one.utterance.text == text]
        return found

    def span(self, text: str) -> tuple[int, int]:
        """Return the start and the end of a text."""
        found = self.placed(text)
        return found.start_ms, found.end_ms

    def titled(self, title: str) -> list[dict[str, Any]]:
        """Return the events of one kind."""
        return [one for one in self.events if one["title"] == title]
