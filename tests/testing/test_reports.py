"""`bluejay_ws.testing.reports`: a call's report in the hands of a test."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from bluejay_ws.testing.oracle import AcceptedReport
from bluejay_ws.testing.reports import CallReport, ExpectationError, Interruption, ToolCall, Utterance

if TYPE_CHECKING:
    from collections.abc import Callable

REPORT = {
    "tool_calls": [
        {"start_offset_ms": 3_000, "name": "freeze_card", "parameters": {"last4": "4242", "why": ["lost"]}},
        {"start_offset_ms": 1_000, "name": "look_up", "output": {"ok": True}, "description": "first"},
        {"start_offset_ms": 5_000, "name": "look_up"},
    ],
    "recorded_transcript": [
        {"start_offset_ms": 4_000, "end_offset_ms": 5_500, "speaker": "AGENT", "utterance": "Your card is FROZEN."},
        {"start_offset_ms": 100, "end_offset_ms": 900, "speaker": "USER", "utterance": "Freeze my card"},
    ],
    "events": [
        {
            "start_offset_ms": 900,
            "end_offset_ms": 2_000,
            "title": "Response latency",
            "metadata": {"latency_ms": 1_100},
        },
        {"start_offset_ms": 2, "title": "Response latency", "metadata": {"bluejay_ws": {"latency_ms": 300}}},
        {"start_offset_ms": 4_500, "title": "Caller interrupted the agent", "tags": ["x"]},
        {"start_offset_ms": 5_600, "title": "Session error from the agent", "metadata": {"code": "X", "message": "no"}},
        {"start_offset_ms": 6_000, "title": "Connection closed", "metadata": {"bluejay_ws": {"error": "KeyError"}}},
    ],
}


def report(**fields: Any) -> CallReport:
    """Return a report with these fields."""
    body = json.dumps({"simulation_result_id": "7", **fields}).encode()
    return CallReport.of(AcceptedReport("7", body, 0.0))


TALKS_OVER = {"start_offset_ms": 4_500, "end_offset_ms": 4_900, "title": "Agent interrupted the caller"}
FULL, EMPTY = report(**REPORT), report()


def test_facts_are_objects_in_order_of_time() -> None:
    """Tool calls, utterances, latencies, interruptions, errors; an empty report has none of them."""
    assert FULL.tools[0] == ToolCall("look_up", 1_000, {}, {"ok": True}, "first")
    assert FULL.tool("freeze_card").parameters == {"last4": "4242", "why": ["lost"]}
    assert FULL.utterances[0] == Utterance("caller", "Freeze my card", 100, 900)
    assert FULL.latencies == [300, 1_100]
    assert FULL.interruptions == [Interruption("caller", 4_500)]
    assert FULL.errors == ["Session error from the agent: X no", "the handler ended with KeyError"]
    assert (EMPTY.tools, EMPTY.utterances, EMPTY.happened, EMPTY.errors) == ([], [], [], [])


def test_what_is_true_can_be_said_in_one_chain() -> None:
    """Each expectation returns the report."""
    quiet = report(tool_calls=REPORT["tool_calls"])
    assert (
        FULL.expect_called("freeze_card")
        .expect_called("freeze_card", times=1, last4="4242")
        .expect_called("look_up", times=2)
        .expect_called("nothing", times=0)
        .expect_called_with("freeze_card", {"last4": "4242", "why": ["lost"]})
        .expect_not_called("end_call", "transfer")
        .expect_called_in_order("look_up", "freeze_card", "look_up")
        .expect_said("card is frozen")
        .expect_said("my card", by="caller")
        .expect_not_said("goodbye")
        .expect_latency_below(1_200)
        .expect_interrupted(1)
        .expect_interrupted()
        .expect_not_interrupted(by="agent")
        is FULL
    )
    assert EMPTY.expect_not_called().expect_not_interrupted() is EMPTY
    assert quiet.expect_no_errors() is quiet


@pytest.mark.parametrize(
    ("expect", "words"),
    [
        (lambda: FULL.tool("look_up"), "expected one call of look_up, found 2"),
        (lambda: FULL.tool("end_call"), "expected one call of end_call, found no call of it (called:"),
        (
            lambda: FULL.expect_called("freeze_card", last4="1"),
            'expected freeze_card(last4="1") to be called, found 0 of 1: freeze_card(last4="4242", why=["lost"])',
        ),
        (lambda: FULL.expect_called("end_call"), "found no call of it (called: freeze_card, look_up)"),
        (lambda: EMPTY.expect_called("end_call"), "found no call of it (called: no tool at all)"),
        (lambda: FULL.expect_called("look_up", times=1), "expected look_up to be called 1 times, found 2 of 2"),
        (
            lambda: FULL.expect_called_with("freeze_card", {"last4": "4242"}),
            'expected freeze_card(last4="4242") to be called, found 0 of 1',
        ),
        (lambda: FULL.expect_not_called("look_up"), "expected no call of look_up, found ['look_up', 'look_up']"),
        (FULL.expect_not_called, "expected no call of a tool"),
        (
            lambda: FULL.expect_called_in_order("freeze_card", "look_up", "look_up"),
            "expected calls in the order freeze_card, look_up, look_up; found look_up, freeze_card, look_up",
        ),
        (lambda: EMPTY.expect_called_in_order("a"), "found none"),
        (lambda: FULL.expect_said("goodbye"), "expected the agent to say 'goodbye'"),
        (lambda: FULL.expect_not_said("FREEZE", by="caller"), "expected the caller not to say 'FREEZE'"),
        (lambda: FULL.expect_latency_below(1_000), "below 1000 ms, found 1100 ms"),
        (lambda: EMPTY.expect_latency_below(1_000), "no answer was observed"),
        (
            lambda: report(events=[TALKS_OVER]).expect_latency_below(1_000),
            "found no answer but 1 that began before the caller had finished: speech.completed comes early",
        ),
        (lambda: FULL.expect_interrupted(2), "expected the caller to interrupt 2 times, found 1"),
        (lambda: EMPTY.expect_interrupted(by="agent"), "expected the agent to interrupt, found 0"),
        (FULL.expect_not_interrupted, "expected no interruption, found one by the caller at 4.50 s"),
        (FULL.expect_no_errors, "expected no error, found: Session error from the agent: X no; the handler"),
    ],
)
def test_what_is_not_true_is_said_with_the_call(expect: Callable[[], object], words: str) -> None:
    """The sentence, what was found instead, and the timeline."""
    with pytest.raises(ExpectationError) as caught:
        expect()
    assert words in str(caught.value)
    assert "\n\nThe call 7:\n" in str(caught.value)


def test_a_word_that_is_no_side_and_an_empty_text_are_refused() -> None:
    """What can never be found would let every expectation against it hold."""
    expectations: list[Callable[[], object]] = [
        lambda: EMPTY.expect_not_said("a", by="AGENT"),  # type: ignore[arg-type]
        lambda: EMPTY.expect_not_interrupted(by="user"),  # type: ignore[arg-type]
        lambda: EMPTY.expect_interrupted(0, by="user"),  # type: ignore[arg-type]
        lambda: FULL.expect_said(""),
    ]
    for expect in expectations:
        with pytest.raises(ValueError, match=r"give 'agent' or 'caller'|the text is empty"):
            expect()


def test_everything_that_failed_is_an_error() -> None:
    """A tool that failed, and a call that the agent's server ended with 1011."""
    closed = {
        "start_offset_ms": 1,
        "title": "Connection closed",
        "metadata": {"outcome": "agent_error", "close_code": 1011},
    }
    failed = {"name": "f", "start_offset_ms": 1, "output": {"status": "failed", "error": "KeyError"}}
    noted = {"start_offset_ms": 0, "title": "Retry", "metadata": {"error": "none of ours", "outcome": "agent_error"}}
    assert report(events=[noted]).errors == []
    assert report(events=[closed, noted]).outcome == "agent_error"
    assert EMPTY.outcome == ""
    assert report(events=[closed], tool_calls=[failed]).errors == [
        "the agent closed the call with 1011",
        "f failed with KeyError",
    ]


def test_parameters_are_compared_as_json() -> None:
    """True is not 1; an object within may have more, unless all parameters are given."""
    made = report(
        tool_calls=[{"name": "f", "start_offset_ms": 1, "parameters": {"vip": True, "who": {"a": 1, "b": 2}}}]
    )
    made.expect_called("f", vip=True, who={"a": 1}).expect_called("f", times=0, vip=1)
    with pytest.raises(ExpectationError):
        made.expect_called_with("f", {"vip": True, "who": {"a": 1}})


def test_the_timeline_is_in_order_of_time() -> None:
    """One line for each fact; long ones are cut; an empty report says so."""
    long = report(tool_calls=[{"name": "f", "start_offset_ms": 1, "output": "x" * 500}])
    assert max(map(len, long.timeline().splitlines())) < 140
    assert [line.split(maxsplit=1)[1][:12].strip() for line in FULL.timeline().splitlines()] == [
        "event   Resp",
        "caller  Free",
        "event   Resp",
        "tool    look",
        "tool    free",
        "agent   Your",
        "event   Call",
        "tool    look",
        "event   Sess",
        "event   Conn",
    ]
    assert FULL.timeline().endswith("event   Connection closed: the handler ended with KeyError")
    closed = {
        "start_offset_ms": 1,
        "title": "Connection closed",
        "metadata": {"close_code": 1000, "outcome": "completed"},
    }
    assert report(events=[closed]).timeline() == "    0.00  event   Connection closed: completed 1000"
    assert EMPTY.timeline() == "  (an empty report)"


def test_parameters_may_have_any_name() -> None:
    """A tool's parameter may be called `name` or `self`, as the method's own are."""
    call = {"name": "find", "start_offset_ms": 5, "parameters": {"name": "Ada", "self": 1}}
    report = CallReport("1", json.dumps({"tool_calls": [call]}).encode(), 0.0)
    assert report.expect_called("find", name="Ada", self=1) is report
