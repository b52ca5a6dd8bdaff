"""Reading a report: everything of ours, and whatever can be understood of what is not."""

from __future__ import annotations

import math

import pytest

from bluejay_ws.timeline.reading import LONGEST_TEXT, TIMES_KEPT, read, seconds
from tests.timeline.samples import event, good, said, slow_tool


def test_items_stand_in_order_of_time() -> None:
    """Utterances, tools and events are one list, by their beginning."""
    call = read(good())
    assert [item.start for item in call.items] == sorted(item.start for item in call.items)
    kinds = {"agent", "caller", "tool", "latency", "close"}
    assert {item.kind for item in call.items} == kinds
    assert call.simulation_result_id == "720487"
    assert call.duration == 17_500
    assert call.closing["outcome"] == "completed"


@pytest.mark.parametrize("junk", [None, 3, "text", [], {}, {"tool_calls": 5, "events": "x", "recorded_transcript": {}}])
def test_what_is_no_report_is_an_empty_one(junk: object) -> None:
    """Nothing refuses to be shown."""
    call = read(junk)
    assert call.items == []
    assert call.duration == 0


def test_items_that_cannot_be_read_are_counted() -> None:
    """Those without a time, a name or a speaker are left out, and it is known how many."""
    call = read(
        {
            "tool_calls": [{"name": "a"}, {"start_offset_ms": 3}, 7, {"name": "b", "start_offset_ms": math.nan}],
            "events": [{"title": "a", "start_offset_ms": True}, {"start_offset_ms": 5}],
            "recorded_transcript": [{"speaker": "GHOST", "start_offset_ms": 1}, said("USER", 1, 2, "hi")],
        }
    )
    assert [item.text for item in call.items] == ["hi"]
    assert call.unreadable == 7


def test_the_names_of_the_old_tutorial_are_understood() -> None:
    """``tool_name``, ``event_type`` and ``transcript`` are what people copy."""
    call = read(
        {
            "tool_calls": [{"tool_name": "find", "start_offset_ms": 1, "duration_ms": 20}],
            "events": [{"event_type": "moved", "start_offset_ms": 2}],
            "transcript": [{"speaker": "agent", "start_offset_ms": 3, "end_offset_ms": 1, "utterance": "hi"}],
        }
    )
    assert [(item.kind, item.text, item.end) for item in call.items] == [
        ("tool", "find", 21),
        ("event", "moved", None),
        ("agent", "hi", None),
    ]


def test_a_result_that_was_read_back_has_its_expected_tools() -> None:
    """The platform groups tools by name, with what it expected."""
    group = {
        "name": "book",
        "expected": [{"parameters": {"table": 7}}],
        "actual": [{"parameters": {"table": 8}, "start_offset_ms": 900}],
    }
    result = {"simulation_result": {"id": 12, "tool_calls": [group, {"name": "free", "actual": []}]}}
    call = read(result)
    assert call.simulation_result_id == "12"
    assert call.expected == {"book": [{"parameters": {"table": 7}}]}
    assert [(item.text, item.facts["parameters"]) for item in call.items] == [("book", {"table": 8})]
    assert read(result, expected={"other": [{}, "junk"]}).expected == {"other": [{}]}


def test_equal_events_in_a_row_become_one_with_a_count() -> None:
    """Heartbeats do not bury what matters, whatever stands between them."""
    (beat,) = [item for item in read(slow_tool()).items if item.text == "Heartbeat"]
    assert beat.count == 27
    assert (beat.start, beat.end) == (0, 26_000)
    assert beat.facts["times_ms"][:3] == [0, 1_000, 2_000]
    many = read({"events": [event("tick", at) for at in range(500)]})
    assert len(many.items[0].facts["times_ms"]) == TIMES_KEPT


def test_two_equal_events_and_events_that_differ_stay_apart() -> None:
    """Two are no crowd, and an event with other tags or another description is another event."""
    tagged = {**event("a", 3), "tags": ["x"]}
    call = read(
        {"events": [event("a", 1), event("a", 2), tagged, event("b", 4), {**event("b", 5), "description": "d"}]}
    )
    assert [item.count for item in call.items] == [1] * 5
    codes = [event("Session error from the agent", at, code=f"E{at}") for at in range(4)]
    assert [item.count for item in read({"events": codes}).items] == [1] * 4


@pytest.mark.parametrize(
    ("output", "words"),
    [
        ({"status": "failed", "error": "KeyError", "message": "'x'"}, "failed: KeyError: 'x'"),
        ({"status": "failed"}, "failed"),
        ({"status": "cancelled"}, "was cancelled"),
        ({"error": {"code": 3}}, 'failed: {"code": 3}'),
        ({"error": "y" * 500}, f"failed: {'y' * 157}..."),
        ({"error": True}, "failed"),
        ({"status": "ok", "error": None}, ""),
        ('{"error": "no table"}', "failed: no table"),
        ("Error: no table", "failed: Error: no table"),
        ({"success": False, "message": "no table"}, "failed: no table"),
        ({"isError": True}, "failed"),
        ({"success": True}, ""),
        ("failed", ""),
        ("{" * 9_999, ""),
        (None, ""),
    ],
)
def test_a_failed_tool_is_known_by_its_output(output: object, words: str) -> None:
    """A tool call has no field for an error: its output says it."""
    call = read({"tool_calls": [{"name": "t", "start_offset_ms": 0, "output": output}]})
    assert call.items[0].problem == words


@pytest.mark.parametrize(
    ("found", "kind"),
    [
        (event("Barged", 1) | {"tags": ["interruption"]}, "interruption"),
        (event("It was interrupted", 1, overlap_ms=4), "interruption"),
        (event("Answer", 1, latency_ms=4), "latency"),
        (event("Oh", 1) | {"tags": ["error"]}, "error"),
        (event("Error of something", 1), "error"),
        (event("Card frozen", 1), "event"),
        ({"title": "Odd", "start_offset_ms": 1, "metadata": 7, "tags": "x"}, "event"),
    ],
)
def test_events_of_others_are_told_by_what_they_say(found: dict[str, object], kind: str) -> None:
    """Tags and metadata say what an event is where its title is not one of the library's."""
    assert read({"events": [found]}).items[0].kind == kind


def test_very_long_texts_are_shortened_and_say_so() -> None:
    """One output of a megabyte does not make a page of a megabyte."""
    big = {"a": "x" * 1_000_000, "b": [1, 2], "c": list(range(100_000))}
    call = read(
        {
            "tool_calls": [{"name": "t", "start_offset_ms": 0, "output": "y" * 1_000_000, "parameters": big}],
            "recorded_transcript": [said("USER", 0, 1, "z" * 1_000_000)],
        }
    )
    texts = [call.items[0].facts["output"], call.items[1].text]
    assert all(len(text) < LONGEST_TEXT + 100 and "1,000,000 characters" in text for text in texts)


@pytest.mark.parametrize(("ms", "words"), [(400, "0.4 s"), (12_000, "12 s"), (125_400, "2 min 5 s")])
def test_lengths_are_said_as_people_say_them(ms: float, words: str) -> None:
    """Tenths where they matter, minutes where seconds do not."""
    assert seconds(ms) == words


def test_a_stand_in_is_known_by_its_description() -> None:
    """As `simulated_tools` marks it; a tool without one, and an event of that name, are what they are."""
    calls = [
        {"name": name, "start_offset_ms": 1, "description": text} for name, text in (("a", "mocked: a"), ("b", None))
    ]
    items = read({"tool_calls": calls, "events": [event("mocked: x", 2)]}).items
    assert [item.is_mocked for item in items] == [True, False, False]


@pytest.mark.parametrize("place", [float("nan"), float("inf"), 10**400, 2**53, -1e12, True, "5"])
def test_what_is_no_place_in_a_call_is_counted_and_not_shown(place: object) -> None:
    """One such item would press all others into one pixel."""
    lines = [{"speaker": "USER", "utterance": "Hi", "start_offset_ms": at} for at in (place, 5)]
    call = read({"recorded_transcript": lines})
    assert ([item.start for item in call.items], call.unreadable) == ([5], 1)


@pytest.mark.parametrize(
    ("status", "problem"),
    [
        ("interrupted", "had not answered when the call ended"),
        ("denied", "was denied"),
        ("blocked", "was blocked"),
        ("done", ""),
    ],
)
def test_a_tool_that_did_not_answer_is_a_problem(status: str, problem: str) -> None:
    """The report says so in its output."""
    call = read({"tool_calls": [{"name": "pay", "start_offset_ms": 1, "output": {"status": status}}]})
    assert call.items[0].problem == problem


def test_a_transcription_that_failed_is_an_error() -> None:
    """Taps note it so; a response that was only cut short is none."""
    titles = ["Transcription failed", "Response failed", "Response incomplete"]
    call = read({"events": [{"title": title, "start_offset_ms": 1} for title in titles]})
    assert [item.kind for item in call.items] == ["error", "error", "event"]


def test_a_text_cannot_turn_the_pages_own_words() -> None:
    """Marks of writing direction would run on into the sentence around a name."""
    output = {"status": "failed", "error": "no\u202e table"}
    call = read({"tool_calls": [{"name": "book\u202e\u2066", "start_offset_ms": 1, "output": output}]})
    assert (call.items[0].text, call.items[0].problem) == ("book", "failed: no table")


def test_what_is_nested_without_end_is_named_so() -> None:
    """A tool's output may be built by code."""
    nested: list[object] = []
    for _ in range(200_000):  # no interpreter follows that
        nested = [nested]
    tools = [{"name": "f", "start_offset_ms": 1, "output": {"error": nested}}]
    call = read({"tool_calls": tools, "metadata": {"a": nested}, "simulation_result_id": nested})
    assert "nested too deeply" in str(call.metadata)
    assert call.simulation_result_id.startswith("nested too deeply")
    assert call.items[0].problem == "failed: nested too deeply"
    assert "nested too deeply" in str(call.items[0].facts["output"])
