"""What else a line can carry: offsets, noise that grows louder, quiet voices, frames of odd shapes."""

from __future__ import annotations

import array
import operator
import random
import threading
from itertools import pairwise
from typing import Any

import pytest

from bluejay_ws.hearing.level import loudness, measured
from bluejay_ws.hearing.turns import RESPONSE
from bluejay_ws.testing.audio import voice
from tests.hearing.stage import Stage, noise, speech


def added(*sounds: bytes, offset: int = 0) -> bytes:
    """Return sounds heard together, on a line that has an offset from zero."""
    first, second = (array.array("h", one) for one in (*sounds, bytes(len(sounds[0])))[:2])
    return array.array("h", [one + offset for one in map(operator.add, first, second)]).tobytes()


def one_exchange(line: bytes, agent: bytes | None = None) -> Stage:
    """Let a caller speak from 1,000 to 2,500 on a line, and the agent answer from 3,200 to 5,200."""
    stage = Stage(3)
    stage.caller(0, line)
    if agent is None:
        stage.agent(3_200, speech(2_000, stage.dice))
    else:
        stage.agent(0, agent)
    stage.said("user", "question", 2_900)
    stage.said("agent", "answer", 3_190)
    stage.play(5_600)
    return stage


def test_a_quiet_voice_on_a_line_that_pauses_is_heard_to_its_last_soft_sound() -> None:
    """Where nothing is sent between words there is no noise that they could be mistaken for."""
    stage = Stage(3)
    for start in (1_000, 6_000):
        stage.caller(start, voice(1_340, rms=300))
        stage.said("user", f"at {start}", start + 1_700)
    stage.play(9_000)
    assert stage.span("at 1000") == (1_000, 2_340)
    assert stage.span("at 6000") == (6_000, 7_340)


@pytest.mark.parametrize(("begins", "lasts"), [(2_500, 1_000), (900, 4_700)])
def test_noise_that_begins_right_beside_speech_is_no_part_of_it(begins: int, lasts: int) -> None:
    """What is soft for long was no speech, though it stands beside what is loud."""
    dice = random.Random(1)
    line = spoken(begins, noise(150, lasts, dice))
    stage = one_exchange(added(spoken(1_000, voice(1_500)), line))
    start, end = stage.span("question")
    assert start == pytest.approx(1_000, abs=100)
    assert end == pytest.approx(2_500, abs=20)


def check(stage: Stage) -> None:
    """Fail unless that was heard, and nothing else."""
    assert stage.span("question") == pytest.approx((1_000, 2_500), abs=50)
    assert stage.span("answer") == pytest.approx((3_200, 5_200), abs=25)
    assert [one["title"] for one in stage.events] == [RESPONSE]


def spoken(start: int, sound: bytes, ms: int = 5_600) -> bytes:
    """Return a sound in silence."""
    return (bytes(start * 32) + sound).ljust(ms * 32, b"\0")


@pytest.mark.parametrize("offset", [-1_000, 100, 300, 1_000])
@pytest.mark.parametrize("rms", [0, 100])
def test_an_offset_from_zero_is_no_sound(offset: int, rms: int) -> None:
    """A line whose silence is not at zero, on either side."""
    dice = random.Random(1)
    heard = added(spoken(1_000, voice(1_500)), noise(rms, 5_600, dice), offset=offset)
    check(one_exchange(heard, added(spoken(3_200, speech(2_000, dice)), offset=offset)))


def test_samples_of_one_value_far_from_zero_are_a_tests_sound() -> None:
    """No line has such an offset."""
    assert measured(b"\x00\x20" * 320, 0, 640)[0] == 8_192
    assert measured(b"\x00\x02" * 320, 0, 640)[0] == 0


@pytest.mark.parametrize("seed", [0, 1, *(pytest.param(seed, marks=pytest.mark.nightly) for seed in range(2, 20))])
@pytest.mark.parametrize("louder_from", [600, 2_500, 2_900])
def test_noise_that_grows_louder_is_no_speech(seed: int, louder_from: int) -> None:
    """Not before somebody speaks, nor right after."""
    dice = random.Random(seed)
    line = noise(0, louder_from, dice) + noise(150, 5_600 - louder_from, dice)
    check(one_exchange(added(spoken(1_000, voice(1_500)), line)))


@pytest.mark.parametrize("levels", [(60, 150), (150, 60), (60, 150, 70, 140), (70, 150, 60, 150, 60, 150)])
def test_noise_that_fades_in_and_out_lengthens_no_speech(levels: tuple[int, ...]) -> None:
    """Nor shortens it, whatever the noise does while somebody speaks, before and after."""
    for seed in range(5):
        dice = random.Random(seed)
        steps = [low + (high - low) * step / 20 for low, high in pairwise(levels) for step in range(20)]
        line = b"".join(noise(round(one / 5) * 5, 5_600 / len(steps), dice) for one in steps) + noise(60, 20, dice)
        check(one_exchange(added(spoken(1_000, voice(1_500)), line)))


@pytest.mark.parametrize("rms", [300, 350, 500])
@pytest.mark.parametrize("background", [0, 60, 100, 150])
def test_a_quiet_voice_is_heard_from_its_first_soft_sound_to_its_last(rms: int, background: int) -> None:
    """What is soft belongs to speech that is loud beside it."""
    dice = random.Random(rms + background)
    check(one_exchange(added(spoken(1_000, voice(1_500, rms=rms)), noise(background, 5_600, dice))))


@pytest.mark.parametrize("kind", [lambda data: memoryview(data)[::-1][::-1][::2], lambda data: memoryview(data)[::2]])
def test_a_frame_in_steps_is_heard(kind: Any) -> None:
    """A memoryview may skip bytes."""
    stage = Stage()
    for number in range(10):
        stage.observer.agent_audio(kind(speech(40, stage.dice)), number * 20.0)
        stage.observer.user_audio(kind(speech(40, stage.dice)), number * 20.0)
    assert stage.observer.summary()["agent_audio_ms"] == stage.observer.summary()["user_audio_ms"] == 200
    assert stage.observer.hears_agent()


def test_frames_of_any_odd_length_share_what_reads_them() -> None:
    """Lengths that differ by less than a millisecond: reading them is prepared once."""
    assert loudness(speech(20, random.Random(1)), 0, 638) > 300
    assert loudness(b"\x10\x10", 0, 2) == 4_112


def test_marks_that_a_clear_returns_are_not_early_and_confirm_nothing() -> None:
    """A carrier returns them at once, as it has emptied its queue."""
    stage = Stage()
    stage.said("agent", "a long text of many words", 990)
    stage.agent(1_000, speech(4_000, stage.dice), every_ms=1)
    stage.message("agent", "mark", 1_300, name="m")
    stage.at(2_000, stage.observer.clear)
    stage.message("user", "mark", 2_001, name="m")
    stage.play(6_000)
    assert stage.observer.summary().get("marks_early") is None
    assert stage.placed("a long text of many words").share == pytest.approx(0.25, abs=0.01)


@pytest.mark.parametrize("background", [0, 100, 150])
def test_the_quick_way_of_usual_frames_hears_what_the_long_way_hears(background: int) -> None:
    """Frames of 20 ms in `bytes` are most of all frames; the same audio as a `bytearray` takes the long way."""
    heard = []
    for kind in (bytes, bytearray):
        dice = random.Random(background)
        stage = Stage(3)
        caller, agent = (
            kind(noise(background, before, dice) + speech(1_500, dice) + noise(background, after, dice))
            for before, after in ((1_000, 3_100), (3_200, 900))
        )
        stage.caller(0, caller)
        stage.agent(0, agent)
        stage.said("user", "question", 2_900)
        stage.said("agent", "answer", 3_190)
        stage.play(5_600)
        heard.append((stage.span("question"), stage.span("answer"), stage.observer.summary()))
    assert heard[0] == heard[1]
    assert heard[0][:2] == ((1_000, 2_500), (3_200, 4_700))


@pytest.mark.parametrize("begins", [1_000, 1_007, 1_013, 1_020])
def test_a_short_word_is_heard_wherever_it_stands_in_its_frames(begins: int) -> None:
    """Where nobody speaks some frames are passed over: 60 ms of sound are found all the same."""
    stage = Stage(4)
    stage.agent(0, noise(40, begins, stage.dice) + noise(2_000, 60, stage.dice) + noise(40, 900, stage.dice))
    stage.said("agent", "so", begins)
    stage.play(2_500)
    assert stage.span("so") == pytest.approx((begins, begins + 60), abs=20)


@pytest.mark.parametrize("pause", [280, 320])
@pytest.mark.parametrize("speaks", [1_000, 1_060, 1_100, 1_140])
def test_a_pause_ends_speech_wherever_it_begins_in_what_is_heard_together(speaks: int, pause: int) -> None:
    """Frames are heard some at a time: whether speech has ended does not depend on where they are divided."""
    stage = Stage(5)
    words = noise(2_000, speaks, stage.dice) + bytes(32 * pause) + noise(2_000, 600, stage.dice)
    stage.agent(100, words + bytes(32 * 500))
    stage.play(100 + speaks + pause + 1_200)
    assert stage.observer.summary()["agent_frames"] == len(words + bytes(32 * 500)) // 640
    assert stage.observer._heard is not None
    assert stage.observer._heard.agent.onsets == (1 if pause < 300 else 2)


def test_two_threads_that_listen_at_once_hear_each_frame_once() -> None:
    """Texts and frames may come from different threads: each makes what was put aside be heard."""
    observer = Stage().observer
    over = threading.Event()

    def ask() -> None:
        while not over.is_set():
            observer.speaks_until()

    threads = [threading.Thread(target=ask) for _ in range(2)]
    for one in threads:
        one.start()
    try:
        for number in range(3_000):
            observer.agent_audio(bytes(640), 20.0 * number)
    finally:
        over.set()
        for one in threads:
            one.join()
    assert observer.summary()["agent_frames"] == 3_000
