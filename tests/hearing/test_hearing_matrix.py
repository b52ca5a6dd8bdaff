"""Every kind of caller with every kind of agent: what is observed is what happened, within what can be heard."""

from __future__ import annotations

import itertools
import random

import pytest

from bluejay_ws.hearing.turns import (
    AGENT_INTERRUPTED,
    BACKCHANNEL,
    CALLER_INTERRUPTED,
    LONG_SILENCE,
    RESPONSE,
    SENT_AHEAD,
)
from tests.hearing.stage import Stage, noise, speech

BACKGROUNDS: dict[str, float | None] = {
    "pauses": None,
    "digital silence": 0.0,
    "quiet noise": 60.0,
    "hold noise": 150.0,
}
SKEWS: dict[str, float | None] = {"exact": 0.0, "late": 200.0, "early": -200.0, "none": None}
AGENTS = ("pacing", "burst", "continuous")
TURNS = 8


class Told:
    """One call of several turns, with what really happened in it."""

    def __init__(self, background: float | None, skew: float | None, agent: str, frame_ms: float, seed: int) -> None:
        self.stage = Stage(seed)
        self.dice = random.Random(seed)
        self.user: list[tuple[float, float]] = []
        self.agent: list[tuple[float, float]] = []
        self.interruptions: list[tuple[float, float]] = []
        self.latencies: list[float] = []
        self._background, self._skew, self._agent, self._frame_ms = background, skew, agent, frame_ms
        self._sound: dict[str, list[tuple[float, bytes]]] = {"user": [], "agent": []}
        now = 300.0
        for number in range(TURNS):
            now = self._turn(number, now)
        self.end = now + 1_000
        self._send()
        self.stage.play(self.end)

    def _turn(self, number: int, now: float) -> float:
        dice, stage = self.dice, self.stage
        start, length = round(now), round(dice.uniform(500, 2_500))
        end = start + length
        self._sound["user"].append((start, speech(length, dice)))
        self.user.append((start, end))
        self._hints(f"u{number}", start, end)
        stage.said("user", f"user {number}", end + 350)
        answer = end + round(dice.uniform(400, 1_500))
        spoken = round(dice.uniform(800, 3_000))
        breaks_in = number % 3 == 2
        stage.said("agent", f"agent {number}", answer - 50)
        if breaks_in:
            begin = answer + round(spoken * 0.4)
            again = round(dice.uniform(600, 1_500))
            if self._agent != "burst":  # what was sent is heard; only what paces can stop
                spoken = begin - answer + 300
            self._sound["user"].append((begin, speech(again, dice)))
            self._hints(f"b{number}", begin, begin + again)
            stage.said("user", f"break {number}", max(begin + again, answer + spoken) + 350)
            self.interruptions.append((begin, min(answer + spoken, begin + again)))
            self.user.append((begin, begin + again))
        self._sound["agent"].append((answer, speech(spoken, dice)))
        self.agent.append((answer, answer + spoken))
        self.latencies.append(answer - end)
        last = max(answer + spoken, self.user[-1][1])
        return last + dice.uniform(700, 1_500)

    def _hints(self, name: str, start: float, end: float) -> None:
        if self._skew is not None:
            for kind, at in (("speech.started", start), ("speech.completed", end)):
                self.stage.message("user", kind, max(0.0, at + self._skew), utterance_id=name)

    def _send(self) -> None:
        stage = self.stage
        if self._background is None:
            for start, audio in self._sound["user"]:
                stage.caller(start, audio, self._frame_ms)
        else:
            stage.caller(0.0, self._mixed("user", self._background), self._frame_ms)
        if self._agent == "continuous":
            stage.agent(0.0, self._mixed("agent", 0.0), self._frame_ms)
        else:
            every = 1.0 if self._agent == "burst" else None
            for start, audio in self._sound["agent"]:
                stage.agent(start, audio, self._frame_ms, every)

    def _mixed(self, side: str, background: float) -> bytes:
        whole = bytearray(noise(background, self.end, self.dice))
        for start, audio in self._sound[side]:
            whole[round(start) * 32 : round(start) * 32 + len(audio)] = audio
        return bytes(whole)


def errors(truth: list[tuple[float, float]], found: list[tuple[int, int]]) -> list[float]:
    """Return how far the starts and ends are off."""
    return [abs(a - b) for one, other in zip(truth, found, strict=True) for a, b in zip(one, other, strict=True)]


def worst(values: list[float], share: float) -> float:
    """Return the value that ``share`` of the values do not exceed."""
    return sorted(values)[min(len(values) - 1, int(share * len(values)))]


def by_day(cell: tuple[str, str, str]) -> bool:
    """Whether a cell is among those that hold each background with each event, and each of both with each agent."""
    background, skew, agent = cell
    return (list(BACKGROUNDS).index(background) + list(SKEWS).index(skew)) % len(AGENTS) == AGENTS.index(agent)


CELLS = [
    pytest.param((10, 20, 33, 100)[number % 4], cell, marks=[] if by_day(cell) else [pytest.mark.nightly])
    for number, cell in enumerate(itertools.product(BACKGROUNDS, SKEWS, AGENTS))
]


@pytest.mark.parametrize(("frame_ms", "cell"), CELLS)
def test_who_was_heard_when_is_what_happened(frame_ms: int, cell: tuple[str, str, str]) -> None:
    """Spans of both sides, interruptions and latencies, with every background, event, way of sending and frame."""
    background, skew, agent = cell
    told = Told(BACKGROUNDS[background], SKEWS[skew], agent, frame_ms, seed=frame_ms)
    stage = told.stage
    texts = list(stage.stretches)
    agents = errors(told.agent, [stage.span(text) for text in texts if text.startswith("agent")])
    users = errors(told.user, [stage.span(text) for text in texts if not text.startswith("agent")])
    assert worst(agents, 0.95) <= 25
    assert worst(users, 0.95) <= 50
    assert max(*agents, *users) <= 100
    found = stage.titled(CALLER_INTERRUPTED)
    assert len(found) == len(told.interruptions)
    assert max(errors(told.interruptions, [(one["start_offset_ms"], one["end_offset_ms"]) for one in found])) <= 100
    assert stage.titled(AGENT_INTERRUPTED) == stage.titled(BACKCHANNEL) == stage.titled(LONG_SILENCE) == []
    latencies = [one["metadata"]["latency_ms"] for one in stage.titled(RESPONSE)]
    assert len(latencies) == len(told.latencies)
    assert all(abs(one - other) <= 50 for one, other in zip(latencies, told.latencies, strict=True))
    assert bool(stage.titled(SENT_AHEAD)) == (agent == "burst")
