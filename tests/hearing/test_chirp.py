"""The observer as a whole: any frames, any times; and what a text's span is."""

from __future__ import annotations

import itertools
import json
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bluejay_ws.hearing.chirp import ChirpObserver, HeardSpan
from bluejay_ws.hearing.voices import STRETCH_GAP_MS

FRAME = 640  # 20 ms
SECOND = 32_000


class Line:
    """One observed call: what was sent on it, and the events that came of it."""

    def __init__(self) -> None:
        self.events: list[tuple[str, int, int | None, dict[str, Any]]] = []
        self.observer = ChirpObserver(self._event)

    def _event(self, title: str, *, start_offset_ms: int, end_offset_ms: int | None, metadata: dict[str, Any]) -> None:
        self.events.append((title, start_offset_ms, end_offset_ms, metadata))

    def user(self, kind: str, at: float, **data: str) -> None:
        self.observer.user_text(json.dumps({"type": kind, "data": data}), at)

    def agent(self, kind: str, at: float, **data: str) -> None:
        self.observer.agent_text(json.dumps({"type": kind, "data": data}).encode(), at)

    def user_streams(self, start: float, end: float) -> None:
        """Stream caller audio at real pace."""
        for number in range(round((end - start) / 20)):
            self.observer.user_audio(bytes(FRAME), start + number * 20)

    def user_speaks(self, start: float, end: float, *, late: float = 160, early: float = 160) -> None:
        """Speak as the Digital Human does: events inside the burst of audio."""
        self.user_streams(start, start + late)
        self.user("speech.started", start + late, utterance_id=f"at {start}")
        self.user_streams(start + late, end - early)
        self.user("speech.completed", end - early, utterance_id=f"at {start}")
        self.user_streams(end - early, end)


def _times(span: HeardSpan) -> tuple[float | None, float | None]:
    return span.start_ms, span.end_ms


# -- what a text's span is ---------------------------------------------------------------------------------------------


def test_a_text_said_before_its_audio_gets_the_audio_to_come() -> None:
    """The span is not begun when the text is recorded, and is filled in when its audio begins and ends."""
    line = Line()
    span = line.observer.agent_utterance(100)
    assert _times(span) == (None, None)
    line.observer.agent_audio(bytes(SECOND), 400)
    assert _times(span) == (400, None)
    line.observer.close(5000)
    assert _times(span) == (400, 1400)


@pytest.mark.parametrize("said_at", [401, 900, 1399, 1500, 2300])
def test_a_text_said_during_or_soon_after_its_audio_gets_that_audio(said_at: float) -> None:
    """Up to a second after the end, audio without a text is what a text belongs to."""
    line = Line()
    line.observer.agent_audio(bytes(SECOND), 400)
    span = line.observer.agent_utterance(said_at)
    line.observer.close(5000)
    assert _times(span) == (400, 1400)


def test_a_text_said_long_after_all_audio_is_an_instant_when_no_more_audio_comes() -> None:
    """What was never heard stands for the moment the text was known."""
    line = Line()
    line.observer.agent_audio(bytes(SECOND), 400)
    span = line.observer.agent_utterance(2500)
    assert _times(span) == (None, None)
    line.observer.close(4000)
    assert _times(span) == (2500, 2500)


def test_texts_said_sentence_by_sentence_share_the_span_of_one_stretch() -> None:
    """The recorder can share a span out only if it is the same object."""
    line = Line()
    first = line.observer.agent_utterance(0)
    second = line.observer.agent_utterance(50)
    line.observer.agent_audio(bytes(SECOND), 100)
    third = line.observer.agent_utterance(900)
    line.observer.agent_audio(bytes(SECOND), 1000)
    line.observer.close(9000)
    assert first is second is third
    assert _times(first) == (100, 2100)


def test_the_text_of_the_next_turn_does_not_join_the_last_one() -> None:
    """Audio that is over and has its text takes no more of it."""
    line = Line()
    first = line.observer.agent_utterance(0)
    line.observer.agent_audio(bytes(SECOND), 100)
    second = line.observer.agent_utterance(1500)
    line.observer.agent_audio(bytes(SECOND), 1600)
    line.observer.close(9000)
    assert [_times(first), _times(second)] == [(100, 1100), (1600, 2600)]


def test_a_text_whose_audio_does_not_come_in_five_seconds_lets_go_of_later_audio() -> None:
    """An agent that says things elsewhere does not shift all later texts."""
    line = Line()
    unheard = line.observer.agent_utterance(100)
    later = line.observer.agent_utterance(6000)
    line.observer.agent_audio(bytes(SECOND), 6100)
    assert _times(unheard) == (100, 100)
    assert _times(later) == (6100, None)
    silent = line.observer.agent_utterance(9000)
    line.observer.agent_audio(bytes(SECOND), 15_000)
    assert _times(silent) == (9000, 9000)


def test_a_final_transcript_gets_the_speech_before_it() -> None:
    """Speech-to-text is late: its text belongs to the last speech without one."""
    line = Line()
    line.user_speaks(1000, 3000)
    span = line.observer.user_utterance(4500)
    assert _times(span) == (1000, 3000)


def test_a_transcript_during_the_speech_gets_the_speech_that_goes_on() -> None:
    """A span without end is handed out and filled in later."""
    line = Line()
    line.user_streams(1000, 1100)
    line.user("speech.started", 1100, utterance_id="a")
    span = line.observer.user_utterance(1700)
    assert _times(span) == (1000, None)
    line.user_streams(1100, 2000)
    line.user("speech.completed", 2000, utterance_id="a")
    line.observer.close(9000)
    assert _times(span) == (1000, 2000)


def test_a_late_transcript_prefers_what_was_said_before_to_speech_that_has_just_begun() -> None:
    """No transcript is final within half a second of the start of the speech."""
    line = Line()
    line.user_speaks(1000, 2000)
    line.user_streams(2600, 2700)
    line.user("speech.started", 2700, utterance_id="b")
    assert _times(line.observer.user_utterance(2900)) == (1000, 2000)
    assert _times(line.observer.user_utterance(3300)) == (2600, None)


def test_transcripts_in_pieces_share_the_speech_for_two_seconds_and_later_ones_are_instants() -> None:
    """A second piece is no second utterance; something much later is."""
    line = Line()
    line.user_speaks(1000, 2000)
    first = line.observer.user_utterance(2600)
    assert line.observer.user_utterance(3900) is first
    assert _times(line.observer.user_utterance(4100)) == (4100, 4100)


def test_without_any_speech_a_transcript_is_an_instant() -> None:
    """Nothing is known but the moment of the text."""
    assert _times(Line().observer.user_utterance(70)) == (70, 70)


def test_caller_speech_is_read_from_bursts_of_audio_where_no_speech_event_comes() -> None:
    """Audio between pauses is the best there is."""
    line = Line()
    line.user_streams(500, 1000)
    line.user_streams(1300, 1500)
    span = line.observer.user_utterance(1900)
    line.user_streams(3000, 4000)
    line.observer.agent_audio(bytes(FRAME), 4600)
    line.observer.close(5000)
    assert _times(span) == (500, 1500)
    assert _times(line.observer.user_utterance(5000)) == (5000, 5000)
    assert line.observer.summary()["responses"] == 1


def test_after_the_close_nothing_has_an_effect() -> None:
    """What is open ends at the close; later frames, texts and closes change neither spans nor counts nor events."""
    line = Line()
    line.observer.agent_audio(bytes(10 * SECOND), 100)
    agent = line.observer.agent_utterance(100)
    line.user_streams(500, 900)
    line.user("speech.started", 700, utterance_id="a")
    user = line.observer.user_utterance(1500)
    line.observer.close(2000)
    counts, events = line.observer.summary(), list(line.events)
    line.observer.agent_audio(bytes(FRAME), 2100)
    line.observer.agent_audio(bytes(FRAME), 1e9)
    line.user_speaks(3000, 9000)
    line.user_streams(12_000, 12_100)
    line.agent("speech.started", 9000, utterance_id="x")
    line.observer.close(20_000)
    assert _times(agent) == (100, 2000) or _times(agent) == (100, 700)
    assert user.end_ms is not None
    assert _times(line.observer.agent_utterance(3000)) == (3000, 3000)
    assert _times(line.observer.user_utterance(3000)) == (3000, 3000)
    assert (line.observer.summary(), line.events) == (counts, events)


# -- what is counted ---------------------------------------------------------------------------------------------------


def test_the_summary_counts_frames_and_audio_each_way() -> None:
    """Only sound frames count as audio; an observer that has seen nothing has a summary of zeros."""
    line = Line()
    assert set(line.observer.summary().values()) == {0}
    line.user_streams(0, 200)
    line.observer.agent_audio(bytes(SECOND), 300)
    for size in (0, 1, 641):
        line.observer.user_audio(bytes(size), 300)
        line.observer.agent_audio(bytes(size), 300)
    facts = line.observer.summary()
    assert (facts["user_frames"], facts["user_audio_ms"]) == (10, 200)
    assert (facts["agent_frames"], facts["agent_audio_ms"]) == (1, 1000)
    assert facts["invalid_frames"] == 6


def test_invalid_frames_do_not_move_the_time() -> None:
    """Empty and odd frames are dropped by the platform: nobody heard them."""
    line = Line()
    line.observer.agent_audio(bytes(SECOND), 0)
    for at in range(900, 3000, 50):
        line.observer.agent_audio(bytes(0), at)
        line.observer.agent_audio(bytes(7), at)
    span = line.observer.agent_utterance(1100)
    line.observer.close(3000)
    assert _times(span) == (0, 1000)


# -- any frames, any times ---------------------------------------------------------------------------------------------

gaps = st.one_of(st.floats(0, 60), st.floats(0, 1500), st.sampled_from([0.0, 20.0, 200.0, 250.0, 400.0, 600.0, 5000.0]))
sizes = st.one_of(st.sampled_from([640, 320, 0, 3, 32_000, 96_000]), st.integers(0, 200_000))
names = st.sampled_from(["a", "b"])
kinds = st.sampled_from(["speech.started", "speech.completed", "mark", "session.error"])
steps = st.one_of(
    st.tuples(st.sampled_from(["user_audio", "agent_audio"]), sizes),
    st.tuples(st.sampled_from(["user_text", "agent_text"]), st.tuples(kinds, names)),
    st.tuples(st.sampled_from(["user_utterance", "agent_utterance"]), st.none()),
)


def _play(line: Line, plan: list[tuple[float, tuple[str, Any]]]) -> dict[str, list[HeardSpan]]:
    """Feed a plan of (time, step) and return the spans that were handed out, each once, by speaker."""
    spans: dict[str, list[HeardSpan]] = {"user_utterance": [], "agent_utterance": []}
    for at, (name, value) in plan:
        method = getattr(line.observer, name)
        if name in spans:
            span = method(at)
            if not any(span is one for one in spans[name]):
                spans[name].append(span)
        elif isinstance(value, tuple):
            kind, word = value
            method(json.dumps({"type": kind, "data": {"utterance_id": word, "name": word, "code": word}}), at)
        else:
            method(bytes(value), at)
    return spans


def _bounds(span: HeardSpan) -> tuple[float, float]:
    assert span.start_ms is not None
    assert span.end_ms is not None
    return span.start_ms, span.end_ms


@given(st.lists(st.tuples(gaps, steps), max_size=60))
def test_spans_of_one_speaker_are_ordered_and_never_overlap(plan: list[tuple[float, tuple[str, Any]]]) -> None:
    """Whatever comes in, in the order of time: ends come after starts, inside the call, one span after the other."""
    now, timed = 0.0, []
    for gap, step in plan:
        now += gap
        timed.append((now, step))
    line = Line()
    spans = _play(line, timed)
    line.observer.close(now)
    for speaker in spans.values():
        heard = sorted(times for times in map(_bounds, speaker) if times[0] < times[1])
        assert all(0 <= start <= end <= now for start, end in map(_bounds, speaker))
        assert all(end <= start for (_, end), (start, _) in itertools.pairwise(heard))
    for _, start, end, facts in line.events:
        assert 0 <= start <= (start if end is None else end) <= now + 1
        assert all(value >= 0 for value in facts.values() if isinstance(value, int))


@given(st.lists(st.tuples(st.floats(), steps), max_size=30), st.floats())
def test_any_times_are_survived(plan: list[tuple[float, tuple[str, Any]]], end: float) -> None:
    """A clock that jumps, runs backwards or gives no number raises nothing and makes no time negative."""
    line = Line()
    spans = _play(line, plan)
    line.observer.close(end)
    for one in (_bounds(span) for speaker in spans.values() for span in speaker):
        assert 0 <= one[0] <= one[1] < math.inf
    assert all(start >= 0 and (stop is None or stop >= start) for _, start, stop, _ in line.events)
    json.dumps(line.observer.summary(), allow_nan=False)


@given(st.lists(st.tuples(gaps, st.integers(1, 60_000).map(lambda half: half * 2)), min_size=1, max_size=40))
def test_the_agent_is_heard_exactly_as_a_queue_plays_out(frames: list[tuple[float, int]]) -> None:
    """Against a model that plays each frame: the spans are the stretches between silences, to the millisecond."""
    now, until, heard = 0.0, 0.0, list[list[float]]()
    observer, spans = ChirpObserver(Line()._event), list[HeardSpan]()
    for gap, size in frames:
        now += gap
        start, until = max(now, until), max(now, until) + size / 32
        if not heard or start - heard[-1][1] > STRETCH_GAP_MS:
            heard.append([start, until])
        heard[-1][1] = until
        observer.agent_audio(bytes(size), now)
        spans.append(observer.agent_utterance(now))
    observer.close(until + 1)
    seen = list(dict.fromkeys(_bounds(span) for span in spans))
    assert [tuple(one) for one in heard] == [pytest.approx(one) for one in seen]


turns = st.tuples(
    st.integers(20, 400).map(lambda frames: frames * 20.0), st.none() | st.floats(0.05, 0.9), st.floats(0, 200)
)


@given(st.lists(turns, min_size=1, max_size=8))
def test_the_agent_is_heard_as_the_platform_plays_and_drops_it(plan: list[tuple[float, float | None, float]]) -> None:
    """Against a platform that plays a queue, echoes its mark a little late, and drops it when the caller breaks in."""
    line, now, expected = Line(), 1000.0, list[tuple[float, float]]()
    spans = []
    for number, (length, breaks_in, lag) in enumerate(plan):
        line.observer.agent_audio(bytes(round(length) * 32), now)
        line.agent("mark", now, name=str(number))
        spans.append(line.observer.agent_utterance(now + 10))
        start = now + length * (breaks_in or 0.0)
        if breaks_in is None or start + 160 >= now + length:
            line.user("mark", now + length + lag, name=str(number))
            expected.append((now, now + length + lag))
            now += length + lag + 1500
        else:
            line.user_speaks(start, start + 1000)
            expected.append((now, start + 160))
            now = start + 1700
    line.observer.close(now)
    assert [_bounds(span) for span in spans] == [pytest.approx(one) for one in expected]
