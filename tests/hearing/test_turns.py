"""What the observer tells of a call's turns: each scenario is a sentence, a script and the events that must come."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from bluejay_ws.hearing.chirp import ChirpObserver
from bluejay_ws.hearing.turns import (
    AGENT_INTERRUPTED,
    CALLER_INTERRUPTED,
    ERROR_FROM_AGENT,
    ERROR_FROM_PLATFORM,
    EVENTS_LIMIT,
    LONG_SILENCE,
    RESPONSE,
    TEXT_LIMIT,
    Turns,
)

if TYPE_CHECKING:
    from collections.abc import Callable

FRAME = 640  # 20 ms
SECOND = 32_000
Event = tuple[str, int, "int | None", dict[str, Any]]


class Line:
    """One observed call, its events, and ways to speak on it."""

    def __init__(self) -> None:
        self.events: list[Event] = []
        self.observer = ChirpObserver(self._event)

    def _event(self, title: str, *, start_offset_ms: int, end_offset_ms: int | None, metadata: dict[str, Any]) -> None:
        self.events.append((title, start_offset_ms, end_offset_ms, metadata))

    def user(self, kind: str, at: float, **data: object) -> None:
        self.observer.user_text(json.dumps({"type": kind, "data": data}), at)

    def agent(self, kind: str, at: float, **data: object) -> None:
        self.observer.agent_text(json.dumps({"type": kind, "data": data}), at)

    def streams(self, *, until: float, agent_from: float | None = None, user_from: float | None = None) -> None:
        """Stream audio of one side, or of both in turn, at real pace."""
        start = min(one for one in (agent_from, user_from) if one is not None)
        for at in range(round(start), round(until), 20):
            if user_from is not None and at >= user_from:
                self.observer.user_audio(bytes(FRAME), at)
            if agent_from is not None and at >= agent_from:
                self.observer.agent_audio(bytes(FRAME), at)

    def user_speaks(self, start: float, end: float, *, late: float = 160, early: float = 160) -> None:
        """Speak as the Digital Human does: events inside the burst of audio."""
        self.streams(user_from=start, until=start + late)
        self.user("speech.started", start + late, utterance_id=f"at {start}")
        self.streams(user_from=start + late, until=end - early)
        self.user("speech.completed", end - early, utterance_id=f"at {start}")
        self.streams(user_from=end - early, until=end)


def _caller_asks_and_agent_answers(line: Line) -> None:
    line.user_speaks(1000, 3000)
    line.observer.agent_audio(bytes(SECOND), 3800)
    line.observer.close(6000)


def _agent_answers_while_the_tail_of_the_speech_still_comes_in(line: Line) -> None:
    line.streams(user_from=1000, until=2840)
    line.user("speech.started", 2840, utterance_id="a")
    line.user("speech.completed", 2840, utterance_id="a")
    line.observer.agent_audio(bytes(2 * SECOND), 2900)
    line.streams(user_from=2840, until=3000)
    line.observer.close(6000)


def _caller_asks_twice_before_the_answer(line: Line) -> None:
    line.user_speaks(1000, 2000)
    line.user_speaks(4000, 5000)
    line.observer.agent_audio(bytes(SECOND), 5600)
    line.observer.agent_audio(bytes(SECOND), 8000)
    line.observer.close(9500)


def _caller_speaks_where_audio_never_pauses(line: Line) -> None:
    line.streams(user_from=0, until=2000)
    line.user("speech.started", 2000, utterance_id="a")
    line.streams(user_from=2000, until=3000)
    line.user("speech.completed", 3000, utterance_id="a")
    line.streams(user_from=3000, until=4000)
    line.observer.agent_audio(bytes(SECOND), 4000)
    line.streams(user_from=4000, until=6000)
    line.observer.close(6000)


def _agent_greets_while_silence_streams_in(line: Line) -> None:
    line.streams(user_from=0, until=1000)
    line.observer.agent_audio(bytes(SECOND), 1000)
    _caller_speaks_where_audio_never_pauses_after(line, 1000)


def _caller_speaks_where_audio_never_pauses_after(line: Line, start: float) -> None:
    line.streams(user_from=start, until=start + 3000)
    line.user("speech.started", start + 3000, utterance_id="a")
    line.streams(user_from=start + 3000, until=start + 4000)
    line.observer.close(start + 4000)


def _caller_breaks_in_and_the_queue_is_dropped(line: Line) -> None:
    line.observer.agent_audio(bytes(10 * SECOND), 1000)
    line.user_speaks(3000, 4000)
    line.observer.close(5000)


def _caller_breaks_in_and_the_paced_agent_stops(line: Line) -> None:
    line.streams(agent_from=1000, until=3000)
    line.streams(agent_from=3000, user_from=3000, until=3160)
    line.user("speech.started", 3160, utterance_id="a")
    line.streams(agent_from=3160, user_from=3160, until=3400)
    line.streams(user_from=3400, until=4840)
    line.user("speech.completed", 4840, utterance_id="a")
    line.streams(user_from=4840, until=5000)
    line.observer.close(6000)


def _caller_breaks_in_and_the_agent_goes_on(line: Line) -> None:
    line.streams(agent_from=1000, until=3000)
    line.streams(agent_from=3000, user_from=3000, until=3160)
    line.user("speech.started", 3160, utterance_id="a")
    line.streams(agent_from=3160, user_from=3160, until=4000)
    line.user("speech.completed", 4000, utterance_id="a")
    line.streams(agent_from=4000, until=6000)
    line.observer.close(6000)


def _agent_hears_its_own_echo_in_a_caller_that_is_silent(line: Line) -> None:
    line.user_speaks(100, 500)
    line.observer.agent_audio(bytes(4 * SECOND), 1000)
    line.user("speech.started", 2000, utterance_id="echo")
    line.user("speech.completed", 4900, utterance_id="echo")
    line.observer.close(6000)


def _agent_hears_its_own_echo_in_audio_that_never_pauses(line: Line) -> None:
    line.streams(user_from=0, until=1000)
    line.user("speech.started", 1000, utterance_id="a")
    line.user("speech.completed", 1010, utterance_id="a")
    line.streams(user_from=1000, agent_from=2000, until=3000)
    line.user("speech.started", 3000, utterance_id="echo")
    line.streams(user_from=3000, agent_from=3000, until=5000)
    line.user("speech.completed", 5000, utterance_id="echo")
    line.streams(user_from=5000, agent_from=5000, until=5400)
    line.streams(user_from=5400, until=6000)
    line.observer.close(6000)


def _caller_breaks_in_without_any_audio_in_the_call(line: Line) -> None:
    line.observer.agent_audio(bytes(4 * SECOND), 1000)
    line.user("speech.started", 2000, utterance_id="a")
    line.user("speech.completed", 3000, utterance_id="a")
    line.observer.close(5500)


def _agent_announces_an_utterance_over_the_caller(line: Line) -> None:
    line.streams(user_from=1000, until=1160)
    line.user("speech.started", 1160, utterance_id="a")
    line.streams(user_from=1160, until=2000)
    line.agent("speech.started", 2000, utterance_id="b")
    line.observer.agent_audio(bytes(SECOND), 2010)
    line.agent("speech.started", 2020, utterance_id="b")
    line.streams(user_from=2000, until=2100)
    line.user("speech.completed", 2100, utterance_id="a")
    line.observer.close(4000)


def _agent_talks_over_the_caller_unannounced(line: Line) -> None:
    line.streams(user_from=1000, until=1160)
    line.user("speech.started", 1160, utterance_id="a")
    line.streams(user_from=1160, agent_from=2000, until=3000)
    line.user("speech.completed", 3000, utterance_id="a")
    line.observer.close(4000)


def _agent_announces_an_utterance_over_its_own_echo(line: Line) -> None:
    line.user_speaks(100, 500)
    line.observer.agent_audio(bytes(SECOND), 1000)
    line.user("speech.started", 1500, utterance_id="echo")
    line.agent("speech.started", 1900, utterance_id="b")
    line.observer.agent_audio(bytes(SECOND), 1950)
    line.user("speech.completed", 2900, utterance_id="echo")
    line.observer.close(4000)


def _echo_turns_out_to_be_the_caller_after_all(line: Line) -> None:
    line.user_speaks(100, 500)
    line.observer.agent_audio(bytes(4 * SECOND), 1000)
    line.user("speech.started", 2000, utterance_id="a")
    line.streams(user_from=3000, until=4000)
    line.user("speech.completed", 4000, utterance_id="a")
    line.observer.close(7000)


def _caller_says_yes_while_the_agent_goes_on_and_on(line: Line) -> None:
    line.streams(agent_from=1000, until=3000)
    line.streams(agent_from=3000, user_from=3000, until=3160)
    line.user("speech.started", 3160, utterance_id="a")
    line.streams(agent_from=3160, user_from=3160, until=3300)
    line.user("speech.completed", 3300, utterance_id="a")
    line.streams(agent_from=3300, until=5000)
    line.observer.agent_audio(bytes(SECOND), 8000)
    line.observer.close(9000)


def _nobody_says_anything(line: Line) -> None:
    line.observer.close(7000)


def _agent_takes_six_seconds(line: Line) -> None:
    line.user_speaks(1000, 3000)
    line.observer.agent_audio(bytes(SECOND), 9000)
    line.user_speaks(16_000, 17_000)
    line.observer.close(17_100)


def _agent_that_streams_silence_announces_its_utterances(line: Line) -> None:
    line.agent("speech.started", 0, utterance_id="1")
    line.streams(agent_from=0, until=2000)
    line.agent("speech.completed", 2000, utterance_id="1")
    line.streams(agent_from=2000, until=3000)
    line.streams(agent_from=3000, user_from=3000, until=3160)
    line.user("speech.started", 3160, utterance_id="a")
    line.streams(agent_from=3160, user_from=3160, until=3840)
    line.user("speech.completed", 3840, utterance_id="a")
    line.streams(agent_from=3840, user_from=3840, until=4000)
    line.streams(agent_from=4000, until=5000)
    line.agent("speech.started", 5000, utterance_id="2")
    line.streams(agent_from=5000, until=6000)
    line.observer.close(6000)


def _both_report_errors(line: Line) -> None:
    line.user("session.error", 100, code="INVALID_AUDIO_FRAME", message="x" * 5000)
    line.agent("session.error", 200, code=7, message="gone")
    line.observer.close(300)


def _speech_is_said_to_start_twice(line: Line) -> None:
    line.user("speech.completed", 500, utterance_id="early")
    line.streams(user_from=1000, until=1160)
    line.user("speech.started", 1160, utterance_id="a")
    line.user("speech.started", 1165, utterance_id="a")
    line.streams(user_from=1160, until=2000)
    line.user("speech.completed", 2000, utterance_id="a")
    line.user("speech.completed", 2005, utterance_id="a")
    line.observer.agent_audio(bytes(SECOND), 2700)
    line.observer.close(4000)


def _next_speech_starts_before_the_last_is_completed(line: Line) -> None:
    line.streams(user_from=1000, until=1160)
    line.user("speech.started", 1160, utterance_id="a")
    line.streams(user_from=1160, until=2000)
    line.user("speech.started", 2500, utterance_id="b")
    line.streams(user_from=2500, until=3000)
    line.user("speech.completed", 3000, utterance_id="a")
    line.streams(user_from=3000, until=4000)
    line.user("speech.completed", 4000, utterance_id="b")
    line.observer.agent_audio(bytes(SECOND), 4700)
    line.observer.close(6000)


SCENARIOS: list[tuple[Callable[[Line], None], list[Event]]] = [
    (_caller_asks_and_agent_answers, [(RESPONSE, 3000, 3800, {"latency_ms": 800})]),
    (
        _agent_answers_while_the_tail_of_the_speech_still_comes_in,
        [(RESPONSE, 3000, 3000, {"latency_ms": 0, "approximate": True})],
    ),
    (_caller_asks_twice_before_the_answer, [(RESPONSE, 5000, 5600, {"latency_ms": 600})]),
    (
        _caller_speaks_where_audio_never_pauses,
        [(RESPONSE, 3000, 4000, {"latency_ms": 1000, "approximate": True})],
    ),
    (_agent_greets_while_silence_streams_in, []),
    (
        _caller_breaks_in_and_the_queue_is_dropped,
        [(CALLER_INTERRUPTED, 3000, 3160, {"agent_stopped": True, "overlap_ms": 160, "dropped_ms": 7840})],
    ),
    (
        _caller_breaks_in_and_the_paced_agent_stops,
        [(CALLER_INTERRUPTED, 3000, 3400, {"agent_stopped": True, "overlap_ms": 400, "dropped_ms": 0})],
    ),
    (
        _caller_breaks_in_and_the_agent_goes_on,
        [(CALLER_INTERRUPTED, 3000, 4000, {"agent_stopped": False, "overlap_ms": 1000, "dropped_ms": 0})],
    ),
    (
        _agent_hears_its_own_echo_in_a_caller_that_is_silent,
        [(RESPONSE, 500, 1000, {"latency_ms": 500})],
    ),
    (
        _agent_hears_its_own_echo_in_audio_that_never_pauses,
        [(RESPONSE, 1010, 2000, {"latency_ms": 990, "approximate": True})],
    ),
    (
        _caller_breaks_in_without_any_audio_in_the_call,
        [
            (
                CALLER_INTERRUPTED,
                2000,
                2000,
                {"agent_stopped": True, "overlap_ms": 0, "dropped_ms": 3000, "approximate": True},
            )
        ],
    ),
    (_agent_announces_an_utterance_over_the_caller, [(AGENT_INTERRUPTED, 2000, 2100, {"overlap_ms": 100})]),
    (_agent_talks_over_the_caller_unannounced, [(AGENT_INTERRUPTED, 2000, 3000, {"overlap_ms": 1000})]),
    (_agent_announces_an_utterance_over_its_own_echo, [(RESPONSE, 500, 1000, {"latency_ms": 500})]),
    (
        _echo_turns_out_to_be_the_caller_after_all,
        [(RESPONSE, 500, 1000, {"latency_ms": 500})],
    ),
    (
        _caller_says_yes_while_the_agent_goes_on_and_on,
        [(CALLER_INTERRUPTED, 3000, 3300, {"agent_stopped": False, "overlap_ms": 300, "dropped_ms": 0})],
    ),
    (_nobody_says_anything, [(LONG_SILENCE, 0, 7000, {"duration_ms": 7000})]),
    (
        _agent_takes_six_seconds,
        [
            (LONG_SILENCE, 3000, 9000, {"duration_ms": 6000}),
            (RESPONSE, 3000, 9000, {"latency_ms": 6000}),
            (LONG_SILENCE, 10_000, 16_000, {"duration_ms": 6000}),
        ],
    ),
    (_agent_that_streams_silence_announces_its_utterances, [(RESPONSE, 4000, 5000, {"latency_ms": 1000})]),
    (
        _both_report_errors,
        [
            (ERROR_FROM_PLATFORM, 100, None, {"code": "INVALID_AUDIO_FRAME", "message": "x" * 1000}),
            (ERROR_FROM_AGENT, 200, None, {"message": "gone"}),
        ],
    ),
    (_speech_is_said_to_start_twice, [(RESPONSE, 2000, 2700, {"latency_ms": 700})]),
    (_next_speech_starts_before_the_last_is_completed, [(RESPONSE, 4000, 4700, {"latency_ms": 700})]),
]


@pytest.mark.parametrize(("script", "expected"), SCENARIOS, ids=[script.__name__[1:] for script, _ in SCENARIOS])
def test_each_scenario_leaves_exactly_its_events(script: Callable[[Line], None], expected: list[Event]) -> None:
    """The events say what happened, when, and what of it is a guess; and nothing else."""
    line = Line()
    script(line)
    assert line.events == expected


# -- text messages -----------------------------------------------------------------------------------------------------

HOSTILE: list[Any] = [
    b"",
    b"\xff\xfe",
    "\ud800",
    b"{",
    b"null",
    b"[]",
    b'"speech.started"',
    b"1e999",
    b"9" * 6000,
    b'{"type": "speech.started"',
    b"[" * 60_000,
    b'{"a":' * 10_000,
    b"x" * (TEXT_LIMIT + 1),
    "x" * 10_000_000,
    None,
    7,
]
HARMLESS: list[Any] = [
    {},
    {"type": None},
    {"type": ["speech.started"]},
    {"type": "speech.started.twice", "data": {}},
    {"type": "mark"},
    {"type": "mark", "data": "name"},
    {"type": "mark", "data": {"name": None}},
    {"type": "mark", "data": {"name": {"name": "name"}}},
    {"type": "mark", "data": {"name": "n" * 60_000}},
    {"type": "speech.completed", "data": {"utterance_id": 7}},
]


@pytest.mark.parametrize("data", HOSTILE, ids=[f"{repr(one)[:20]}-{number}" for number, one in enumerate(HOSTILE)])
def test_a_message_that_cannot_be_read_is_counted_and_changes_nothing(data: Any) -> None:
    """Bad UTF-8, bad JSON, no object, too large, too deep: none raises, each is counted once, one way or the other."""
    line = Line()
    line.observer.agent_audio(bytes(4 * SECOND), 0)
    span = line.observer.agent_utterance(10)
    for feed in (line.observer.user_text, line.observer.agent_text):
        feed(data, 1000)
    facts = line.observer.summary()
    assert facts["text_frames"] == 2
    assert facts["unreadable_text_frames"] == (2 if facts["oversized_text_frames"] == 0 else 0)
    line.observer.close(9000)
    assert (span.start_ms, span.end_ms) == (0, 4000)


@pytest.mark.parametrize("message", HARMLESS, ids=[repr(one)[:40] for one in HARMLESS])
def test_a_message_of_the_wrong_shape_changes_nothing(message: object) -> None:
    """Unknown types, missing data and values of other types are no news of the call."""
    line = Line()
    line.observer.agent_audio(bytes(4 * SECOND), 0)
    span = line.observer.agent_utterance(10)
    line.observer.user_text(json.dumps(message), 1000)
    line.observer.agent_text(json.dumps(message), 1000)
    assert line.observer.summary()["unreadable_text_frames"] == 0
    line.observer.close(4200)
    assert (span.start_ms, span.end_ms, line.events) == (0, 4000, [])


def test_a_message_beyond_any_limit_is_not_even_read() -> None:
    """It would hold the agent's loop for as long as its sender likes."""
    line = Line()
    line.observer.user_text('{"type": "session.error", "data": {"code": "INTERNAL_ERROR"}}' + " " * TEXT_LIMIT, 5)
    assert line.events == []
    assert line.observer.summary()["oversized_text_frames"] == 1


@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview, bytes.decode])
def test_a_message_comes_in_any_kind_of_buffer(kind: Callable[[bytes], Any]) -> None:
    """Servers hand over text as str, bytes, or a view on their own buffer."""
    line = Line()
    line.observer.user_text(kind(b'{"type": "session.error", "data": {"code": "INTERNAL_ERROR"}}'), 5)
    assert line.events == [(ERROR_FROM_PLATFORM, 5, None, {"code": "INTERNAL_ERROR"})]


def test_an_id_that_is_no_text_still_starts_and_completes_speech() -> None:
    """The events count, whatever they call the utterance."""
    line = Line()
    line.user("speech.started", 100, utterance_id=7)
    line.user("speech.completed", 900, utterance_id="i" * 5000)
    line.observer.agent_audio(bytes(SECOND), 2000)
    assert line.events == [(RESPONSE, 900, 2000, {"latency_ms": 1100, "approximate": True})]


def test_a_broken_peer_cannot_fill_the_report_with_events() -> None:
    """Beyond the limit events are counted, not added."""
    line = Line()
    for at in range(EVENTS_LIMIT + 7):
        line.user("session.error", at, code="INVALID_MESSAGE")
    assert len(line.events) == EVENTS_LIMIT
    facts = line.observer.summary()
    assert (facts["session_errors"], facts["events_left_out"]) == (EVENTS_LIMIT + 7, 7)


def test_a_call_of_endless_turns_keeps_a_bounded_number_of_latencies() -> None:
    """What is kept for the median has a limit too."""
    turns = Turns(lambda *_, **__: None)
    for number in range(EVENTS_LIMIT + 5):
        turns._response(number, number + 1)
    assert turns.summary()["responses"] == EVENTS_LIMIT


def test_the_summary_tells_the_latencies_marks_and_barge_ins() -> None:
    """What the closing event says in figures."""
    line = Line()
    line.user_speaks(1000, 2000)
    line.observer.agent_audio(bytes(SECOND), 2500)
    line.agent("mark", 2500, name="one")
    line.user("mark", 3500, name="one")
    line.user_speaks(5000, 6000)
    line.observer.agent_audio(bytes(10 * SECOND), 6900)
    line.user_speaks(8000, 9000)
    line.agent("speech.started", 8900, utterance_id="b")
    line.observer.close(9900)
    facts = line.observer.summary()
    assert (facts["median_latency_ms"], facts["max_latency_ms"], facts["responses"]) == (700, 900, 2)
    assert (facts["marks_sent"], facts["marks_echoed"]) == (1, 1)
    assert (facts["caller_barge_ins"], facts["agent_barge_ins"]) == (1, 0)
