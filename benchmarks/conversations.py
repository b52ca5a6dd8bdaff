"""Made-up calls whose truth is known: every frame and message of both sides with its time, without a socket.

The caller is one side, the agent the other, and what the caller hears is a queue of the agent's audio. The truth is
kept where the audio is made and played, so that nothing of the judged is needed for it.
"""

from __future__ import annotations

import json
import random
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Literal, TypeAlias

from bluejay_ws.testing.audio import BYTES_PER_MS, caller_pcm, hold_noise, split_utterances, voice
from bluejay_ws.testing.spans import Span, barge_ins, is_loud, latencies

__all__ = ["BACKGROUNDS", "EVENTS", "SENDINGS", "Cell", "Conversation", "Item", "Kind", "Truth", "make"]

Background: TypeAlias = Literal["pauses", "silence", "noise"]
Events: TypeAlias = Literal["exact", "skewed", "none"]
Sending: TypeAlias = Literal["pacing", "burst", "continuous"]
Kind: TypeAlias = Literal["user_audio", "agent_audio", "user_text", "agent_text", "user_said", "agent_said", "clear"]
Item: TypeAlias = "tuple[float, int, Kind, bytes | str]"

BACKGROUNDS: tuple[Background, ...] = ("pauses", "silence", "noise")
EVENTS: tuple[Events, ...] = ("exact", "skewed", "none")
SENDINGS: tuple[Sending, ...] = ("pacing", "burst", "continuous")
SKEW_MS = 200.0
LONGEST_MS = 6_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """One way in which a call can be.

    Args:
        background: what the caller's line carries between its utterances.
        events: the caller's speech events: exact, 200 ms late and early, or none.
        sending: how the agent sends: at the pace of speech, all at once, or without a pause, silence included.
        frame_ms: length of a frame, on both sides.
        user_rms: how loud the caller speaks.
        echo: the platform takes the agent's echo for the caller.
        marks: the agent announces its turns and sends a mark after each.
        jitter_ms: how late a frame of the caller's may come.
        agent_frame_ms: length of the agent's frames where it is another; providers hand over long ones.
        comfort_rms: noise in the agent's stream where it says nothing.
        clears: an agent that stops empties the caller's queue, as it can on a carrier.
        stall_ms: the agent's handler sleeps now and then, up to so long, and reads what came meanwhile all at once.
        real: both speak with a real voice, with pauses of 120 and 240 ms inside what they say.
        fades: the hold noise becomes louder and softer all the time, between a level of 60 and of 150.
    """

    background: Background = "noise"
    events: Events = "skewed"
    sending: Sending = "pacing"
    frame_ms: int = 20
    user_rms: float = 2_000.0
    echo: bool = False
    marks: bool = False
    jitter_ms: float = 4.0
    agent_frame_ms: int | None = None
    comfort_rms: float = 0.0
    clears: bool = False
    stall_ms: float = 0.0
    real: bool = False
    fades: bool = False

    def __str__(self) -> str:
        more = [f"{self.frame_ms} ms frames"] * (self.frame_ms != 20) + ["a quiet voice"] * (self.user_rms < 1_000)
        more += ["echo"] * self.echo + ["marks"] * self.marks + ["a late network"] * (self.jitter_ms > 10)
        more += ["a real voice"] * self.real + ["the noise fades in and out"] * self.fades
        more += [f"a handler that sleeps for up to {self.stall_ms:.0f} ms"] * (self.stall_ms > 0)
        more += ["comfort noise"] * (self.comfort_rms > 0)
        more += [f"the agent's frames of {self.agent_frame_ms} ms"] * (self.agent_frame_ms is not None)
        return ", ".join((self.background, f"events {self.events}", self.sending, *more))


@dataclass(slots=True)
class Truth:
    """What both sides know of themselves, in milliseconds since the handshake.

    Args:
        user: when the caller spoke; the utterances in order.
        agent: when each answer was heard, from its first loud sample played to its last.
    """

    user: list[Span] = field(default_factory=list)
    agent: list[Span] = field(default_factory=list)

    @property
    def caller_barge_ins(self) -> list[Span]:
        """Where the caller broke in on the agent."""
        return barge_ins(self.user, self.agent)

    @property
    def agent_barge_ins(self) -> list[Span]:
        """Where the agent broke in on the caller."""
        return barge_ins(self.agent, self.user)

    @property
    def latencies(self) -> list[Span]:
        """How long the caller waited, from its end to the agent's beginning."""
        return latencies(self.user, self.agent)


@dataclass(slots=True)
class Conversation:
    """A whole call: what passes the connection, in order, and what is true of it."""

    cell: Cell
    items: list[Item]
    truth: Truth
    ended_ms: float


def make(cell: Cell, seed: int, turns: int = 8, *, barge_in: float = 0.6, agent_barge_in: float = 0.08) -> Conversation:
    """Return a call of so many turns.

    Args:
        cell: how it is.
        seed: the same seed makes the same call.
        turns: of the caller.
        barge_in: share of answers that the caller interrupts; the agent then stops at once, late or never.
        agent_barge_in: share of the caller's utterances that the agent interrupts.
    """
    return _Maker(cell, random.Random(f"{cell} {seed}"), turns, barge_in, agent_barge_in).make()


class _Maker:
    def __init__(self, cell: Cell, chance: random.Random, turns: int, barge_in: float, agent_barge_in: float) -> None:
        self.cell = cell
        self.chance = chance
        self.turns = turns
        self.barge_in = barge_in
        self.agent_barge_in = agent_barge_in
        self.items: list[Item] = []
        self.truth = Truth()
        self.played_until = 0.0  # the queue that the caller hears
        self.speech: list[tuple[float, float, float]] = []  # the agent's: from, length, and when it stops sending
        self.lead_ms = chance.choice((0.0, 200.0))
        self.agent_step = cell.agent_frame_ms or cell.frame_ms

    def make(self) -> Conversation:
        start = 500.0
        for number in range(self.turns):
            start = self._turn(self._on_grid(start), last=number == self.turns - 1)
        end = start + 1_500
        self._hold(end)
        if self.cell.sending == "continuous":
            self._stream(end)
        self._notice()
        return Conversation(self.cell, sorted(self._read(end)), self.truth, end)

    def _read(self, end: float) -> list[Item]:
        """Return what passes the connection, the caller's side at the times at which the agent's handler reads it."""
        if not self.cell.stall_ms:
            return self.items
        asleep, awake, read, last = list[tuple[float, float]](), 0.0, list[Item](), 0.0
        while awake < end:
            begin = awake + self.chance.uniform(400, 2_000)
            awake = begin + self.chance.uniform(0.3, 1.0) * self.cell.stall_ms
            asleep.append((begin, awake))
        for at, number, kind, what in sorted(self.items):
            if kind in {"user_audio", "user_text", "user_said"}:
                at = next((wakes for sleeps, wakes in asleep if sleeps <= at < wakes), at)  # noqa: PLW2901
                at = last = max(at, last + 0.2)  # noqa: PLW2901
            read.append((at, number, kind, what))
        return read

    def _turn(self, start: float, *, last: bool) -> float:
        """Let the caller speak from ``start`` on and the agent answer; return when the caller speaks next."""
        chance = self.chance
        length = self._on_grid(chance.uniform(800, 2_600))
        end = start + length
        answer = max(end + chance.uniform(350, 1_400), self.played_until + 500)
        if chance.random() < self.agent_barge_in and length > 1_500 and self.played_until + 400 < start:
            answer = start + chance.uniform(400, length - 900)
        self._user_speech(start, end)
        duration = self._on_grid(chance.uniform(1_400, 4_000))
        heard = max(answer, self.played_until)
        breaks_in = not last and chance.random() < self.barge_in and heard > end
        following = self._on_grid(heard + chance.uniform(400, duration - 500)) if breaks_in else 0.0
        stop = following + self._reaction() if breaks_in else float("inf")
        self._answer(answer, duration, stop)
        return following if breaks_in else max(self.played_until, end) + chance.uniform(500, 1_500)

    def _reaction(self) -> float:
        """Return how long after an interruption the agent stops sending: at once, late or never."""
        return self.chance.choice((self.chance.uniform(60, 200), self.chance.uniform(600, 1_200), float("inf")))

    def _on_grid(self, at: float) -> float:
        return round(at / self.cell.frame_ms) * float(self.cell.frame_ms)

    def _add(self, at: float, kind: Kind, what: bytes | str) -> None:
        self.items.append((at, len(self.items), kind, what))

    # -- the caller ---------------------------------------------------------------------------------------------------

    def _user_speech(self, start: float, end: float) -> None:
        step = self.cell.frame_ms
        spoken = self._spoken(self.cell.user_rms, step, end - start)
        for number, frame in enumerate(spoken):
            self._add(start + number * step + self.chance.uniform(0, self.cell.jitter_ms), "user_audio", frame)
        end = start + len(spoken) * step
        self.truth.user.append(Span(start, end))
        self._add(end + self.chance.uniform(250, 340), "user_said", "")
        self._speech_events(start, end, f"u{len(self.truth.user)}")

    def _spoken(self, rms: float, step: int, duration: float) -> list[bytes]:
        """Return frames of speech, of which the first and the last two are loud."""
        count = round(duration / step)
        if not self.cell.real:
            return _voice(rms, step)[:count]
        source = _real_voice(step)
        loud = [is_loud(frame) for frame in source[:count]]
        return source[: max(number for number in range(1, count) if loud[number - 1] and loud[number]) + 1]

    def _speech_events(self, start: float, end: float, name: str) -> None:
        if self.cell.events == "none":
            return
        skew = SKEW_MS if self.cell.events == "skewed" else 0.0
        self._add(start + skew, "user_text", _text("speech.started", utterance_id=name))
        self._add(end - skew, "user_text", _text("speech.completed", utterance_id=name))

    def _hold(self, end: float) -> None:
        """Fill the caller's line where it says nothing."""
        if self.cell.background == "pauses":
            return
        step = self.cell.frame_ms
        rms = 0.0 if self.cell.background == "silence" else self.chance.uniform(60, 150)
        busy = {round(at / step) for span in self.truth.user for at in _range(span.start_ms, span.end_ms, step)}
        for number in range(round(end / step)):
            if number not in busy:
                at = number * step + self.chance.uniform(0, self.cell.jitter_ms)
                if self.cell.fades and not number % 5:
                    rms = min(150, max(60, rms + 5 * self.chance.randint(-2, 2)))
                quiet = _quiet(rms, step)
                self._add(at, "user_audio", quiet[number % len(quiet)])

    # -- the agent ----------------------------------------------------------------------------------------------------

    def _answer(self, start: float, duration: float, stop: float) -> None:
        self._add(start - 5, "agent_said", "")
        if self.cell.marks:
            self._add(start - 3, "agent_text", _text("speech.started", utterance_id=f"a{start}"))
        if self.cell.sending == "continuous":
            self._speak_in_stream(start, duration, stop)
            return
        step, first, last, at = self.agent_step, None, 0.0, start
        for number, frame in enumerate(self._spoken(3_000.0, step, duration)):
            ahead = number * 0.5 if self.cell.sending == "burst" else max(0.0, number * step - self.lead_ms)
            at = start + ahead + self.chance.uniform(0, 3 if self.cell.sending == "pacing" else 0.4)
            if at > stop:
                break
            begins = self._sent(at, frame)
            first, last = begins if first is None else first, begins + step if is_loud(frame) else last
        if self.cell.clears and last > stop:
            last = self.played_until = stop
            self._add(stop, "clear", "")
        self.truth.agent.append(Span(first or start, last))
        self._completed(at, last)

    def _sent(self, at: float, frame: bytes) -> float:
        """Note a frame of the agent's; return when it begins to be heard."""
        self._add(at, "agent_audio", frame)
        begins = max(at, self.played_until)
        self.played_until = begins + len(frame) / BYTES_PER_MS
        return begins

    def _completed(self, sent_at: float, heard_until: float) -> None:
        if self.cell.marks:
            name = f"m{sent_at}"
            self._add(sent_at + 1, "agent_text", _text("mark", name=name))
            self._add(sent_at + 2, "agent_text", _text("speech.completed", utterance_id="a"))
            self._add(max(sent_at + 3, heard_until + 2), "user_text", _text("mark", name=name))

    def _speak_in_stream(self, start: float, duration: float, stop: float) -> None:
        """Note where the stream of the agent's audio is loud; `_stream` sends it."""
        step = self.cell.frame_ms
        begins = -(-start // step) * step
        ends = begins + len(self._spoken(3_000.0, step, min(duration, -(-stop // step) * step - begins))) * step
        self.speech.append((begins, ends, stop))
        self.played_until = ends
        self.truth.agent.append(Span(begins, ends))

    def _stream(self, end: float) -> None:
        step = self.cell.frame_ms
        sounds: dict[int, bytes] = {}
        for begins, ends, _ in self.speech:
            frames = self._spoken(3_000.0, step, ends - begins)
            sounds |= {round(begins / step) + n: frame for n, frame in enumerate(frames)}
        played, spans = 0.0, dict[int, float]()
        quiet = _quiet(self.cell.comfort_rms, step)
        for number in range(round(end / step)):
            at = number * step + self.chance.uniform(0, 3)
            self._add(at, "agent_audio", sounds.get(number, quiet[number % len(quiet)]))
            spans[number] = max(at, played)
            played = spans[number] + step
        # A late frame delays all that come after it, for good: the queue never runs empty.
        self.truth.agent = [
            Span(spans[round(begins / step)], spans[round(ends / step) - 1] + step) for begins, ends, _ in self.speech
        ]
        for span in self.truth.agent:
            self._completed(span.end_ms, span.end_ms)

    def _notice(self) -> None:
        """Send speech events for the agent's echo, where the caller is quiet."""
        if not self.cell.echo:
            return
        for number, heard in enumerate(self.truth.agent):
            start, end = heard.start_ms - 300, heard.end_ms + 300
            if not any(start < user.end_ms and user.start_ms < end for user in self.truth.user):
                name = f"echo{number}"
                self._add(heard.start_ms + 120, "user_text", _text("speech.started", utterance_id=name))
                self._add(heard.end_ms - 60, "user_text", _text("speech.completed", utterance_id=name))


def _text(kind: str, **data: str) -> str:
    return json.dumps({"type": kind, "id": "0", "ts_ms": 0, "data": data})


def _range(start: float, end: float, step: int) -> list[float]:
    return [start + number * step for number in range(round((end - start) / step))]


@lru_cache(maxsize=32)
def _voice(rms: float, frame_ms: int) -> list[bytes]:
    return _cut(voice(LONGEST_MS, rms=rms), frame_ms)


@lru_cache(maxsize=8)
def _real_voice(frame_ms: int) -> list[bytes]:
    """Return the words of the shipped caller, "Hi, I lost my card." and "Yes, please freeze it.", 240 ms apart."""
    first, second = split_utterances(caller_pcm())
    spoken = first[: 1_400 * BYTES_PER_MS] + bytes(240 * BYTES_PER_MS) + second[: 1_310 * BYTES_PER_MS]
    whole = spoken + bytes(240 * BYTES_PER_MS) + spoken + bytes(240 * BYTES_PER_MS)
    return _cut(whole[: LONGEST_MS * BYTES_PER_MS], frame_ms)


@lru_cache(maxsize=256)
def _quiet(rms: float, frame_ms: int) -> list[bytes]:
    return _cut(hold_noise(1_000, rms=rms, seed=1), frame_ms)


def _cut(pcm: bytes, frame_ms: int) -> list[bytes]:
    size = frame_ms * BYTES_PER_MS
    return [pcm[start : start + size] for start in range(0, len(pcm) - size + 1, size)]
