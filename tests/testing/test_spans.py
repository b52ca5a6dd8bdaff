"""`bluejay_ws.testing.spans`: who could be heard when, by loudness alone."""

from __future__ import annotations

import pytest

from bluejay_ws.testing.audio import hold_noise, silence, voice
from bluejay_ws.testing.spans import Loudness, Span, barge_ins, latencies


def spans(*pieces: tuple[float, bytes], ended: float = 1_000.0, pace: float = 1.0) -> list[tuple[float, float]]:
    """Return the spans of pieces of audio at their times, as whole milliseconds since 10.0."""
    side = Loudness(pace)
    for at, pcm in pieces:
        side.add(pcm, at)
    return [(round(start), round(end)) for start, end in side.spans(10.0, ended)]


@pytest.mark.parametrize("quiet", [silence(500), hold_noise(500, rms=60), hold_noise(500, rms=150, seed=3)])
@pytest.mark.parametrize("rms", [400.0, 2_000.0, 8_000.0])
def test_speech_is_told_from_what_surrounds_it(quiet: bytes, rms: float) -> None:
    """Quiet and loud voices have the same edges in silence and in hold noise."""
    assert spans((10.0, quiet + voice(1_000, rms=rms) + quiet)) == [(500, 1_500)]


def test_a_pause_between_words_is_part_of_the_speech() -> None:
    """Up to 300 ms of quiet do not end it; more of it do."""
    word = voice(400)
    assert spans((10.0, word + silence(250) + word)) == [(0, 1_050)]
    assert spans((10.0, word + silence(350) + word)) == [(0, 400), (750, 1_150)]


def test_a_click_is_no_speech() -> None:
    """A loud stretch of less than 45 ms is left out."""
    assert spans((10.0, voice(40)), (12.0, voice(50))) == [(2_000, 2_050)]


def test_the_end_of_the_call_cuts_what_was_still_queued() -> None:
    """Nothing is heard after the end."""
    assert spans((10.0, voice(1_000)), (12.0, voice(1_000)), ended=10.6) == [(0, 600)]


def test_the_pace_scales_time() -> None:
    """At a tenth of the pace a second is heard in a tenth of a second."""
    assert spans((10.0, voice(1_000)), pace=0.1) == [(0, 100)]


def test_it_is_known_when_a_side_is_sounding_and_where_loud_audio_begins() -> None:
    """`add` says when the first loud piece is heard; `sounding` asks for one moment."""
    side = Loudness()
    assert side.add(silence(100), 1.0) is None
    assert side.add(silence(100) + voice(100), 2.0) == pytest.approx(2.1)
    assert [side.sounding(at) for at in (1.05, 2.05, 2.15, 2.25)] == [False, False, True, False]
    assert side.until == pytest.approx(2.2)


def test_barge_ins_are_speech_that_begins_over_speech_that_goes_on() -> None:
    """Speaking over the last 150 ms of the other interrupts nobody, nor does a start after its end or before it."""
    agent = [Span(1_000, 3_000)]
    assert barge_ins([Span(500, 1_200), Span(2_000, 2_500), Span(2_900, 4_000), Span(3_500, 4_000)], agent) == [
        Span(2_000, 2_500)
    ]
    assert barge_ins([Span(2_000, 5_000)], agent) == [Span(2_000, 3_000)]


def test_latency_is_the_wait_for_an_answer() -> None:
    """A turn that was spoken over to its end has none, nor has one that the caller followed up alone."""
    user = [Span(0, 1_000), Span(3_000, 4_000), Span(5_000, 6_000), Span(8_000, 9_000)]
    agent = [Span(1_700, 2_500), Span(6_400, 7_000), Span(8_500, 9_500)]
    assert latencies(user, agent) == [Span(1_000, 1_700), Span(6_000, 6_400)]


def test_an_answer_at_once_is_a_wait_however_its_time_was_computed() -> None:
    """A millionth of a millisecond before the end of the question is no interruption, and no silence."""
    question, answer = Span(0.0, 1199.9999998151907), Span(1199.9999998079147, 1399.9)
    assert latencies([question], [answer]) == [Span(question.end_ms, answer.start_ms)]
