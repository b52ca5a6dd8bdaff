"""Frames that are read late stand where they were spoken."""

from __future__ import annotations

import random
from functools import partial

import pytest

from bluejay_ws.hearing.arrivals import FRAMES_MOST, Arrivals
from bluejay_ws.hearing.turns import CALLER_INTERRUPTED, RESPONSE
from tests.hearing.stage import Stage, noise, speech


def starts(times: list[float], ms: float = 20.0, *, until: float = 100.0, trusted: bool = True) -> list[float]:
    """Return where frames of one length that are read at these times are placed, as far as that is known."""
    arrivals = Arrivals()
    arrivals.until = until
    return [start for at in times for start, _, _ in arrivals.place(at, [(0.0, ms)], trusted=trusted)]


def test_frames_that_waited_were_spoken_one_right_after_the_other() -> None:
    """They come late, and then all at once, until nothing is late any more."""
    assert starts([180, 180, 180, 180, 180]) == [100, 120, 140, 160, 180]


def test_after_a_pause_frames_stand_where_they_came() -> None:
    """They come at the pace of speech; so does a long frame, and what nothing is known of."""
    assert starts([400, 420, 440, 460, 480, 500]) == [400, 420, 440, 460, 480, 500]
    assert starts([400, 500], ms=100.0) == [400, 500]
    assert starts([400, 400, 400], trusted=False) == [400, 400, 400]
    assert starts([400, 420], until=0.0) == [400, 420]
    assert starts([20_000, 20_020]) == [20_000, 20_020]


def test_after_a_pause_and_a_wait_the_last_that_waited_came_as_it_was_spoken() -> None:
    """Before it stands what had waited with it."""
    assert starts([400, 400, 400, 420, 440, 460, 480]) == [360, 380, 400, 420, 440, 460, 480]


def test_a_busy_machine_that_holds_up_one_frame_proves_no_pause() -> None:
    """The others had waited all the same; and so they had where the handler sleeps again before it has read them."""
    assert starts([180, 180, 260, 260, 260, 260, 260, 260, 260]) == [100, 120, 140, 160, 180, 200, 220, 240, 260]
    assert starts([180, 180, 180, 264, 264, 264, 264, 264, 264]) == [100, 120, 140, 160, 180, 200, 220, 240, 260]
    assert starts([210, 210, 250, 250, 250, 250, 250, 250]) == [100, 120, 140, 160, 180, 200, 220, 240]


def test_a_late_network_is_late_and_never_early() -> None:
    """A frame a little late is placed nearer to the end of the one before; an early one where it came."""
    assert starts([104, 116, 140]) == [101, 116, 137]


def test_frames_that_nothing_follows_stand_where_they_came() -> None:
    """No more is known of them, once enough time has passed."""
    arrivals = Arrivals()
    arrivals.until = 100.0
    assert arrivals.place(300, [(1.0, 20.0)], trusted=True) == []
    assert arrivals.over(310) == []
    assert arrivals.over(361) == [(300, 20.0, [(1.0, 20.0)])]
    assert (arrivals.until, arrivals.over(9_999)) == (320, [])


def test_no_more_than_a_thousand_frames_wait() -> None:
    """Memory has a limit, whatever comes."""
    arrivals = Arrivals()
    arrivals.until = 1.0
    placed = [arrivals.place(9_000, [(0.0, 1.0)], trusted=True) for _ in range(FRAMES_MOST + 1)]
    assert len(placed[-1]) == FRAMES_MOST + 1
    assert not any(placed[:-1])


@pytest.mark.parametrize(
    "sleeps",
    [
        [(980, 1_180)],
        [(2_400, 2_650)],
        [(950, 1_150), (2_450, 2_600), (3_900, 4_300)],
        [(1_500, 2_600), (4_200, 5_350)],  # in the middle of what is said
        [(300, 2_800), (3_300, 5_390)],  # all of it, and the text comes at once
    ],
)
def test_a_handler_that_sleeps_moves_nothing(sleeps: list[tuple[float, float]]) -> None:
    """Starts, ends, latencies and interruptions are those of the caller, not those of the handler that reads late."""
    stage = Stage(3)
    line = bytearray(noise(100, 7_000, stage.dice))
    for start, end in ((1_000, 2_500), (4_000, 5_000)):
        line[start * 32 : end * 32] = speech(end - start, stage.dice)
    for number, at in enumerate(range(0, 7_000, 20)):
        read = next((wakes for begins, wakes in sleeps if begins <= at < wakes), at)
        frame = bytes(line[at * 32 : at * 32 + 640])
        stage.at(read + number / 1e6, partial(stage.observer.user_audio, frame))
    stage.agent(3_200, speech(1_400, stage.dice))
    stage.said("user", "one", 2_900)
    stage.said("agent", "two", 3_190)
    stage.said("user", "three", 5_400)
    stage.play(7_000)
    (response,), (interruption,) = stage.titled(RESPONSE), stage.titled(CALLER_INTERRUPTED)
    assert stage.span("one") == pytest.approx((1_000, 2_500), abs=5)
    assert stage.span("three") == pytest.approx((4_000, 5_000), abs=5)
    assert response["metadata"]["latency_ms"] == pytest.approx(700, abs=5)
    assert interruption["start_offset_ms"] == pytest.approx(4_000, abs=5)


def test_a_caller_that_sends_faster_than_it_speaks_is_not_taken_for_a_late_one() -> None:
    """A rehearsal at many times the speed of life: what it sends stands where it came."""
    stage, dice = Stage(3), random.Random(4)
    for start in (500, 2_500, 4_500):
        for number in range(50):
            stage.at(start + number, lambda now: stage.observer.user_audio(speech(20, dice), now))
    stage.said("user", "last", 4_900)
    stage.play(5_000)
    assert stage.span("last")[0] == pytest.approx(4_500, abs=20)
