"""`bluejay_ws.cli.conversation`: one call and its report, shown as they come."""

from __future__ import annotations

import io
import json
import re
import urllib.request
from typing import TYPE_CHECKING
from urllib.error import HTTPError

import pytest

from bluejay_ws.cli.conversation import (
    Conversation,
    await_report,
    call_faults,
    new_id,
    report_faults,
    show_accepted,
    summarise,
)
from bluejay_ws.cli.terminal import Terminal
from bluejay_ws.testing.audio import tone
from bluejay_ws.testing.caller import CallEvent, CallLog
from bluejay_ws.testing.spans import Span
from tests.cli.serving import agent_thread
from tests.testing.agents import AnsweringAgent

if TYPE_CHECKING:
    from bluejay_ws.testing.platform import FakePlatform


def post(platform: FakePlatform, report: dict[str, object], *, key: str = "test-key") -> None:
    """Send a report as an agent's process does; refusals are the platform's to remember."""
    headers = {"X-API-Key": key, "Content-Type": "application/json"}
    url = f"{platform.url}/v1/update-simulation-result"
    try:
        urllib.request.urlopen(urllib.request.Request(url, json.dumps(report).encode(), headers)).close()
    except HTTPError as refusal:
        refusal.close()


def test_a_call_is_shown_as_it_goes_on() -> None:
    """A heading with the id, one line for each event, and a sentence at the end."""
    out = io.StringIO()
    with agent_thread(AnsweringAgent(greets=True)) as url:
        conversation = Conversation(url=url, simulation_result_id="7", utterances=[tone(40)], pace=0)
        log = conversation.hold(Terminal(out))
    lines = out.getvalue().splitlines()
    assert lines[:3] == ["", "The call 7", ""]
    assert lines[3].endswith("caller  connects")
    assert lines[-3].endswith("caller  hangs up with 1000 (normal)")
    assert lines[-2:] == ["", f"  {summarise(log)}."]
    assert any("sends mark greeting" in line for line in lines)


def test_a_call_can_be_shown_without_its_frames() -> None:
    """Only what can be heard is left; by default the caller says the shipped sentences."""
    out = io.StringIO()
    agent = AnsweringAgent()
    with agent_thread(agent) as url:
        Conversation(url=url, simulation_result_id="7", greeting=0, pace=0, frames=False).hold(Terminal(out))
    assert " sends " not in out.getvalue()
    assert out.getvalue().count("caller  speaks") == 2
    assert agent.values("X-Simulation-Result-Id") == ["7"]


def test_the_report_is_waited_for_and_shown(platform: FakePlatform) -> None:
    """The report of this call, not another's, as a timeline with its size and delay."""
    out = io.StringIO()
    post(platform, {"simulation_result_id": "other", "tool_calls": []})
    post(platform, {"simulation_result_id": "7", "tool_calls": [{"name": "freeze", "start_offset_ms": 5}]})
    accepted = await_report(platform, "7", Terminal(out))
    assert accepted is not None
    show_accepted(accepted, accepted.received_at, Terminal(out))
    lines = out.getvalue().splitlines()
    assert lines[1:4] == ["The report of call 7", "", "   0.01           tool    freeze"]
    assert lines[-1] == "  1 tool call, 0 utterances, 0 events; 87 bytes, received 0 ms after the call."


def test_a_script_gets_the_report_itself(platform: FakePlatform) -> None:
    """One line of JSON with the whole report in it."""
    out = io.StringIO()
    post(platform, {"simulation_result_id": "7", "tags": ["a"]})
    accepted = await_report(platform, "7", Terminal(out))
    assert accepted is not None
    show_accepted(accepted, accepted.received_at - 0.5, Terminal(out, json_only=True))
    assert json.loads(out.getvalue()) == {
        "type": "report",
        "call": "7",
        "after_ms": 500,
        "report": {"simulation_result_id": "7", "tags": ["a"]},
    }


def test_a_report_that_does_not_come_is_none(platform: FakePlatform) -> None:
    """Why it did not come is told by `diagnosis`."""
    assert await_report(platform, "7", Terminal(io.StringIO()), patience=0.01) is None


def ended(by: str, code: int, *, heard_ms: float = 100.0, errors: int = 0) -> CallLog:
    """Return the log of a call that ended so."""
    events = [CallEvent(1.0, "error.received", {"code": "X", "message": ""})] * errors
    return CallLog(closed_by=by, close_code=code, heard_ms=heard_ms, events=events)


@pytest.mark.parametrize(
    ("log", "words"),
    [
        (ended("caller", 1000), None),
        (ended("caller", 1006), None),
        (ended("agent", 1000), None),
        (ended("agent", 1011), "CALL_DROPPED"),
        (ended("nobody", 1006), "CALL_DROPPED"),
        (ended("caller", 1000, heard_ms=0), "never spoke"),
        (ended("agent", 1000, heard_ms=0), "AGENT_HUNG_UP_BEFORE_SPEECH"),
        (ended("caller", 1000, heard_ms=0, errors=3), "sent session.error and no audio (3 of them)"),
        (ended("agent", 1011, heard_ms=0), "CALL_DROPPED"),
    ],
)
def test_a_call_is_judged_as_the_platform_would(log: CallLog, words: str | None) -> None:
    """An agent that breaks the call, never speaks, hangs up at once or sends only errors did not do well."""
    faults = call_faults(log)
    assert len(faults) == (words is not None)
    assert words is None or words in faults[0]


def test_an_agent_that_only_greets_did_not_do_well() -> None:
    """If it had time to answer; one that is heard after the caller began has answered."""
    spans = {"user_spans": [Span(2_000, 4_000)], "agent_spans": [Span(0, 1_500)], "heard_ms": 1.0}
    log = CallLog(closed_by="caller", close_code=1000, duration_ms=14_000, **spans)  # type: ignore[arg-type]
    assert call_faults(log) == ["The agent answered nothing that the caller said."]
    log.agent_spans.append(Span(5_000, 6_000))
    assert call_faults(log) == []
    short = CallLog(closed_by="caller", close_code=1000, duration_ms=5_000, **spans)  # type: ignore[arg-type]
    short.agent_spans.pop()
    assert call_faults(short) == []


@pytest.mark.parametrize(
    ("report", "words"),
    [
        ({"tool_calls": [{"name": "f", "start_offset_ms": 1}]}, []),
        ({"recorded_transcript": [{}]}, []),
        ({"events": [{"title": "own", "metadata": None}]}, []),
        ({}, ["holds nothing from the agent itself"]),
        ({"events": [{"title": "Connection closed", "metadata": {"bluejay_ws": {}}}]}, ["holds nothing"]),
        (
            {
                "tool_calls": [{}],
                "events": [{"title": "Connection closed", "metadata": {"bluejay_ws": {"error": "E"}}}],
            },
            ["handler ended with E"],
        ),
    ],
)
def test_a_report_is_judged_by_what_the_agent_put_into_it(report: dict[str, object], words: list[str]) -> None:
    """One with nothing but what we noticed ourselves, or of a handler that raised, is no good report."""
    faults = report_faults(report)
    assert len(faults) == len(words)
    assert all(word in fault for word, fault in zip(words, faults, strict=True))


def test_ids_of_local_calls_can_be_told() -> None:
    """No id of Bluejay's begins so."""
    assert all(re.fullmatch(r"local-[0-9]{6}", new_id()) for _ in range(100))
