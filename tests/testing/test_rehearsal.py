"""Calls of scenarios: what the caller does, when, with which voice, over which line."""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from typing import TYPE_CHECKING, Any

import pytest
from websockets.asyncio.server import serve

from bluejay_ws.testing.audio import caller_pcm, frames, tone, write_wav
from bluejay_ws.testing.rehearsal import TRUSTED_MS, Lateness, prepare, rehearse
from bluejay_ws.testing.scenarios import Scenario, ScenarioError
from bluejay_ws.testing.virtual_time import VirtualTimeLoop

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from bluejay_ws.testing.line import CallLog


@contextlib.asynccontextmanager
async def agent(*, answers: bool = True, greets: bool = False) -> AsyncIterator[tuple[str, list[Any]]]:
    """Give the URL of an agent that answers each utterance with a second of sound, and what it got."""
    got: list[Any] = []

    async def handler(websocket: Any) -> None:
        for frame in frames(tone(2_000)) if greets else ():
            await websocket.send(frame)
        async for message in websocket:
            got.append(message)
            if answers and isinstance(message, str) and json.loads(message)["type"] == "speech.completed":
                for frame in frames(tone(1_000)):
                    await websocket.send(frame)

    async with serve(handler, "127.0.0.1", 0) as server:
        yield f"ws://127.0.0.1:{server.sockets[0].getsockname()[1]}", got


def call(
    steps: list[dict[str, Any]], *, answers: bool = True, greets: bool = False, seed: int = 0, **more: Any
) -> tuple[CallLog, list[Any]]:
    """Make the call of these steps in virtual time."""
    caller = {"greeting": 0.0, "patience": 0.3, "background": "pauses", **more.pop("caller", {})}
    scenario = Scenario.model_validate({"name": "x", "steps": steps, "caller": caller, **more})
    sounds = {
        number: tone(300) if step.speaks else tone(100)
        for number, step in enumerate(scenario.steps)
        if step.speaks or step.noise
    }

    async def make() -> tuple[CallLog, list[Any]]:
        async with agent(answers=answers, greets=greets) as (url, got):
            return await rehearse(scenario, sounds, url, "local-1", seed=seed), got

    with asyncio.Runner(loop_factory=VirtualTimeLoop) as runner:
        return runner.run(make())


def test_the_caller_takes_each_step_in_order() -> None:
    """It speaks, waits, presses keys, and hangs up at the end."""
    log, _ = call([{"say": "a"}, {"silence": 0.1}, {"noise": 0.1}, {"listen": 0.1}, {"dtmf": "1"}, {"hang_up": 1000}])
    assert len(log.of("user.audio")) == 2  # noise is no speech
    assert log.of("step.missed") == []
    assert (log.close_code, log.closed_by) == (1000, "caller")


def test_the_caller_can_drop_the_line_and_close_with_a_code() -> None:
    """What comes after that is not done."""
    log, _ = call([{"drop": True}, {"say": "a"}])
    assert (log.close_code, log.of("user.audio")) == (1006, [])
    (missed,) = log.of("step.missed")
    assert missed.detail == {"number": 2, "step": "say: a", "reason": "the call was over"}
    log, _ = call([{"say": "a"}, {"hang_up": 4000}])
    assert log.close_code == 4000


def test_the_caller_interrupts_in_the_middle_of_an_answer() -> None:
    """Once so much of it has been heard."""
    log, _ = call([{"say": "a"}, {"say": "b", "interrupt_after": 0.4}])
    assert len(log.of("barge_in")) == 1


def test_the_caller_interrupts_the_greeting() -> None:
    """The first step may; and so may one after listening. Without it the greeting is heard out."""
    interrupts: dict[str, Any] = {"say": "b", "interrupt_after": 0.4}
    for steps in ([interrupts], [{"listen": 3}, interrupts]):
        caller = {"greeting": 3.0 if len(steps) == 1 else 0.0}
        log, _ = call(steps, greets=True, caller=caller)
        (barge_in,) = log.of("barge_in")
        assert 399.9 <= barge_in.at_ms <= 460
    log, _ = call([{"say": "b"}], greets=True, caller={"greeting": 3.0})
    assert log.of("barge_in") == []


def test_the_caller_speaks_at_a_time() -> None:
    """Seconds since the call began, whatever the agent does."""
    log, _ = call([{"say": "a"}, {"say": "b", "at": 0.5}])
    assert log.of("user.audio")[1].at_ms == pytest.approx(500, abs=21)


def test_an_impatient_caller_hangs_up() -> None:
    """The others go on after their patience."""
    steps = [{"say": "a"}, {"say": "b"}]
    log, _ = call(steps, answers=False, caller={"hangs_up_impatiently": True})
    assert len(log.of("user.audio")) == 1
    assert log.of("step.missed")[0].detail["reason"] == "the caller's patience was over"
    log, _ = call([*steps, {"dtmf": "1"}], answers=False)
    assert len(log.of("user.audio")) == 3
    assert [event.detail["number"] for event in log.of("step.unanswered")] == [1, 2]  # a key may be one of many
    log, _ = call([*steps, {"hang_up": 1000}], answers=False)
    assert [event.detail["number"] for event in log.of("step.unanswered")] == [1]  # the second is a goodbye
    log, _ = call([*steps, {"drop": True, "at": 0.9}], answers=True)
    assert log.of("step.unanswered") == []


def test_the_call_ends_after_its_time() -> None:
    """Whatever has been said."""
    log, _ = call([{"say": "a"}] * 50, answers=False, seconds=0.2)
    assert len(log.of("user.audio")) < 50
    assert log.of("step.missed")[0].detail["reason"] == "0.2 s were over"


def test_a_bad_line_loses_the_same_frames_with_the_same_seed() -> None:
    """Chance is repeatable, and order is kept."""
    steps = [{"say": "a"}] * 3
    counts = []
    for seed in (1, 1, 2):
        _, got = call(steps, answers=False, seed=seed, network={"loss": 0.5, "delay_ms": 1, "jitter_ms": 2})
        kinds = [json.loads(message)["type"] for message in got if isinstance(message, str)]
        assert kinds == ["speech.started", "speech.completed"] * 3
        counts.append(sum(isinstance(message, bytes) for message in got))
    assert 0 < counts[0] < 45 * 3
    assert counts[0] == counts[1]


def test_words_that_cannot_be_spoken_are_named(tmp_path: Path) -> None:
    """An unknown voice, or no espeak-ng: the scenario is unusable, not the agent."""
    with pytest.raises(ScenarioError, match="cannot say 'Hi'"):
        prepare(Scenario.model_validate({"name": "x", "steps": [{"say": "Hi"}]}), tmp_path, "klingon-xx")


def test_every_sound_is_made_before_the_call(tmp_path: Path) -> None:
    """Files beside the scenario, keys, noise; a missing file is named."""
    write_wav(tmp_path / "order.wav", caller_pcm())
    steps = [{"play": "order.wav"}, {"dtmf": "1#"}, {"noise": 0.5}, {"silence": 1}]
    sounds = prepare(Scenario.model_validate({"name": "x", "steps": steps}), tmp_path, "en")
    assert {number: len(pcm) for number, pcm in sounds.items()} == {0: len(caller_pcm()), 1: 12_800, 2: 16_000}
    missing = Scenario.model_validate({"name": "x", "steps": [{"play": "none.wav"}]})
    with pytest.raises(ScenarioError, match=r"cannot play 'none\.wav'"):
        prepare(missing, tmp_path, "en")


def test_a_loop_that_is_held_up_cannot_be_trusted() -> None:
    """The caller measures how late it is woken."""

    async def measure(*, busy: bool) -> Lateness:
        lateness = Lateness()
        task = asyncio.create_task(lateness.watch())
        for _ in range(3):
            await asyncio.sleep(0.03)
            if busy:
                time.sleep(0.2)
        task.cancel()
        return lateness

    assert Lateness().p99_ms() == 0
    held_up = asyncio.run(measure(busy=True))
    assert held_up.p99_ms() > TRUSTED_MS
    assert held_up.p99_ms(held_up.mark()) == 0
