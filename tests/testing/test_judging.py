"""Whether expectations hold: each fault is a sentence that says what was found in place of what was wanted."""

from __future__ import annotations

import json
from typing import Any

import pytest

from bluejay_ws.testing.judging import judge, percentile
from bluejay_ws.testing.line import CallEvent, CallLog
from bluejay_ws.testing.reports import CallReport
from bluejay_ws.testing.scenarios import Expect
from bluejay_ws.testing.spans import Span
from tests.timeline.samples import closed, event, good, never_answers, slow_tool, talks_over

FAILED = {"events": [closed(9, "agent_error", 1011, error="KeyError")]}
SOONER, LATER = ({"name": "find", "parameters": {"at": at, "seats": [{"n": 1}]}} for at in (7, 8))
TWICE = {"tool_calls": [{**SOONER, "start_offset_ms": 1}, {**LATER, "start_offset_ms": 2}]}
LOG = CallLog(close_code=1000, closed_by="caller")


def made(report: dict[str, Any], log: CallLog = LOG) -> CallReport:
    """Return a report as the platform took it."""
    return CallReport("7", json.dumps(report).encode(), 0.0, log=log)


def faults(report: dict[str, Any], **expect: Any) -> list[str]:
    """Return what does not hold."""
    return [fault.text for fault in judge(Expect.model_validate({"errors": None, **expect}), made(report))]


def test_a_good_call_holds_everything() -> None:
    """All kinds of expectations at once."""
    assert not faults(
        good(),
        tools=["find_table", {"name": "book_table", "parameters": {"table": 7}, "times": 1}],
        in_order=True,
        not_called=["send_sms"],
        agent_says=["IT IS BOOKED"],
        caller_heard_as=["table for four"],
        latency_p95=1,
        interruptions=0,
        silence=5,
        close=1000,
        outcome="completed",
        errors=0,
    )


@pytest.mark.parametrize(
    ("report", "expect", "fault"),
    [
        (good(), {"tools": ["send_sms"]}, "send_sms was not called (called: find_table, book_table)"),
        ({}, {"tools": ["a"]}, "a was not called (called: no tool)"),
        (good(), {"tools": [{"name": "book_table", "parameters": {"table": 8}}]}, 'called with {"table": 7}, not with'),
        (good(), {"tools": [{"name": "book_table", "times": 2}]}, "book_table was called 1 times, not 2"),
        (good(), {"tools": ["book_table", "find_table"], "in_order": True}, "not called in the order"),
        (good(), {"tools": ["book_table", "book_table"]}, "book_table was called 1 times, not 2"),
        (good(), {"tools": [{"name": "find_table", "parameters": {"people": True}}]}, "was called with"),
        (TWICE, {"tools": [LATER, SOONER], "in_order": True}, "not called in the order"),
        (good(), {"not_called": ["book_table"]}, "book_table was called, and must not be"),
        (good(), {"agent_says": ["goodbye"]}, "the agent did not say 'goodbye'"),
        (good(), {"caller_heard_as": ["goodbye"]}, "the caller did not say 'goodbye'"),
        (slow_tool(), {"latency_p95": 2}, "the answers took 9.30 s (p95), more than 2 s"),
        ({}, {"latency_p95": 2}, "the latency is not known"),
        (talks_over(), {"interruptions": 1}, "the agent talked over the caller 2 times, more than 1"),
        (good(), {"close": 1011}, "the call was closed with 1000 by caller, not with 1011"),
        (slow_tool(), {"outcome": "completed"}, "the outcome was connection_lost, not completed"),
        ({}, {"outcome": "completed"}, "the outcome was not reported, not completed"),
        (slow_tool(), {"errors": 0}, "book_table failed with TimeoutError"),
        (never_answers(), {"errors": 0}, "there was 1 error: Session error from the platform"),
        (FAILED, {"errors": 0}, "there was 1 error: the handler ended with KeyError"),
    ],
)
def test_what_does_not_hold_is_said(report: dict[str, Any], expect: dict[str, Any], fault: str) -> None:
    """One sentence, with what was found."""
    (found,) = faults(report, **expect)
    assert fault in found


def test_silence_is_what_the_caller_heard() -> None:
    """Between the two voices, before the first word and after the last; one voice over another ends none."""
    log = CallLog(
        user_spans=[Span(1_000, 2_000), Span(3_000, 3_500)], agent_spans=[Span(1_500, 9_000)], duration_ms=12_000
    )
    assert judge(Expect(silence=3), made({}, log)) == []
    (fault,) = judge(Expect(silence=2.5), made({}, log))
    assert (fault.text, fault.timed) == ("nobody was heard for 3.0 s, more than 2.5 s", True)


def test_steps_that_were_not_taken_are_faults() -> None:
    """Unless the scenario says that the call may end before."""
    missed = CallEvent(9.0, "step.missed", {"number": 2, "step": "say: x", "reason": "the call was over"})
    log = CallLog(events=[missed], closed_by="agent", close_code=1000)
    (fault,) = judge(Expect(), made({}, log))
    assert fault.text == "the call was over before step 2 (say: x), closed by agent with 1000"
    assert judge(Expect(all_steps=False), made({}, log)) == []
    log.closed_by = "caller"
    assert judge(Expect(), made({}, log))[0].text == "the call was over before step 2 (say: x)"


def test_what_a_user_writes_into_an_events_facts_is_borne() -> None:
    """A latency that is no number is none."""
    odd = {"events": [event("Response latency", 1, latency_ms=True), event("Response latency", 1, latency_ms="x")]}
    assert made(odd).latencies == []
    assert percentile([3.0, 1.0, 2.0], 0.5) == 2.0


def test_an_agent_that_says_nothing_to_a_caller_who_spoke_has_failed() -> None:
    """Also where nothing else is expected; a caller who said nothing was owed nothing."""
    silent = CallLog(close_code=1000, closed_by="caller", user_spans=[Span(1_000, 2_000)])
    assert [fault.text for fault in judge(Expect(), made({}, silent))] == [
        "there was 1 error: the caller spoke, and the agent was never heard"
    ]
    assert judge(Expect(errors=None), made({}, silent)) == judge(Expect(), made({}, LOG)) == []
    silent.agent_spans = [Span(0, 900)]
    silent.events = [CallEvent(9.0, "step.unanswered", {"number": 2, "step": "say: x", "seconds": 10.0})]
    assert [fault.text for fault in judge(Expect(), made({}, silent))] == [
        "there was 1 error: nothing answered step 2 (say: x) within 10 s"
    ]
    assert judge(Expect(errors=1), made({}, silent)) == []
