"""What the platform shows, on the page: nothing that is missing stops it, and the verdict hears of it."""

from __future__ import annotations

import json

import pytest

from bluejay_ws.results import CallResult
from bluejay_ws.timeline.judged import expected_tools, judged, verdicts
from bluejay_ws.timeline.page import render, view
from tests.timeline.samples import good, slow_tool

ANSWER = {
    "status": "COMPLETED",
    "latency": {"p95_agent_latency": 1.5},
    "trace_ids": ["4bf9"],
    "audio_url": "https://example.com/a.wav",
    "tool_calls": [
        {
            "name": "book_table",
            "expected": [{"parameters": {"table": 7}, "output": "ok"}],
            "actual": [{"parameters": {"table": 8}, "output": "no", "start_offset_ms": 1500}],
        },
        {"name": "send_sms", "expected": [{"parameters": None}], "actual": []},
        {"name": "find_table", "expected": [], "actual": [{"parameters": {}, "start_offset_ms": 40}]},
    ],
    "evaluations": [
        {
            "goal_success": False,
            "goal_reasoning": "no table",
            "hallucination": False,
            "redundancy": True,
            "pronunciation_score": 0.9,
            "call_summary": "a table",
            "custom_metrics": [{"name": "tone", "response_value": "calm", "reasoning": "slow"}, "odd"],
        }
    ],
}
RESULT = CallResult.of("720488", ANSWER).as_dict()


def test_a_result_is_shown_in_rows_and_side_by_side() -> None:
    """Status in words, the numbers, the judge with its reasons, and each pair of tool calls."""
    shown = judged(RESULT)
    assert shown["rows"] == [
        ["Status", "COMPLETED: the call took place and was evaluated", "good"],
        ["Latency", "p95 1.5", ""],
        ["Goal success", "false: no table", "bad"],
        ["Hallucination", "false", "good"],
        ["Redundancy", "true", "bad"],
        ["Pronunciation score", "0.9", ""],
        ["Summary", "a table", ""],
        ["tone", "calm: slow", ""],
        ["Trace ids", "4bf9", ""],
        ["Recording", "https://example.com/a.wav", ""],
    ]
    differs = "table: expected 7, was 8\nanother output"
    assert shown["tools"] == [
        ["book_table", "wrong parameters", "bad", '{"table": 7}', '{"table": 8} at 1.50 s', differs],
        ["send_sms", "never called", "bad", "null", "", ""],
        ["find_table", "not expected", "warn", "", "{} at 0.04 s", ""],
    ]


def test_the_verdict_hears_of_the_platform() -> None:
    """A goal that was missed is bad, a redundancy is worth a look; expected tools come from the result."""
    shown = view(good(), result=RESULT)
    texts = [(one["level"], one["text"]) for one in shown["findings"]]
    assert ("bad", "The tool send_sms was expected and never called.") in texts
    assert ("bad", "The caller did not reach its goal.") in texts
    assert ("warn", "The judge found a redundancy.") in texts
    assert [level for level, _ in texts] == sorted([level for level, _ in texts], key=["bad", "warn", "note"].index)
    assert {each["name"] for each in shown["tools"]} >= {"book_table", "send_sms"}


def test_what_was_given_as_expected_goes_before_the_result() -> None:
    """``--expected`` is what the reader wants to see."""
    shown = view(slow_tool(), result=RESULT, expected={"other": [{}]})
    assert "send_sms" not in {each["name"] for each in shown["tools"]}


@pytest.mark.parametrize(
    ("status", "final", "texts"),
    [
        ("COMPLETED", True, []),
        ("EVALUATING", False, []),
        ("NO_ANSWER", True, ["The platform says NO_ANSWER: nobody."]),
    ],
)
def test_a_status_that_is_the_last_word_is_in_the_verdict(status: str, final: bool, texts: list[str]) -> None:
    """One that may still change is not."""
    found = list(verdicts({"status": status, "meaning": "nobody", "final": final}))
    assert [one.text for one in found] == texts


def test_a_time_that_is_no_number_is_left_out() -> None:
    """The platform may send it as text."""
    odd = {"tool_calls": [{"name": "a", "kind": "extra", "actual": {"parameters": {}, "start_offset_ms": "5"}}]}
    assert judged(odd)["tools"][0][4] == "{}"


def test_an_odd_result_gives_a_page_too() -> None:
    """Fields that are missing or of another kind are left out."""
    odd = {"tool_calls": [7, {"kind": "new"}], "latency": 3, "evaluations": {"a": 1}, "trace_ids": "x", "final": True}
    assert judged(odd) == {"rows": [["Status", "no status", "bad"]], "tools": [["None", "new", "", "", "", ""]]}
    assert expected_tools(odd) is None
    assert json.dumps(judged(odd)["rows"], separators=(",", ":")) in render({}, result=odd)
    assert "result" not in view({})
