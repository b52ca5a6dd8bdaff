"""`bluejay_ws.cli.conversation`: one call and its report, shown as they come."""

from __future__ import annotations

import io
import json
import urllib.request
from typing import TYPE_CHECKING
from urllib.error import HTTPError

import pytest

from bluejay_ws.cli.conversation import Conversation, new_id, receive_report, went_well
from bluejay_ws.cli.live import summarise
from bluejay_ws.cli.terminal import Problem, Terminal
from bluejay_ws.testing.audio import tone
from bluejay_ws.testing.caller import CallLog
from bluejay_ws.testing.platform import FakePlatform
from tests.cli.serving import agent_thread
from tests.testing.agents import AnsweringAgent

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def platform() -> Iterator[FakePlatform]:
    """Give a platform that listens."""
    with FakePlatform() as running:
        yield running


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
    assert lines[3].endswith("caller  is connected")
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
    conversation = Conversation(url="ws://a", simulation_result_id="7")
    accepted = receive_report(platform, conversation, Terminal(out))
    assert accepted.simulation_result_id == "7"
    lines = out.getvalue().splitlines()
    assert lines[1:4] == ["The report of call 7", "", "   0.01           tool    freeze"]
    assert lines[-1] == "  1 tool call, 0 utterances, 0 events; 87 bytes, received 0 ms after the call."


@pytest.mark.parametrize(
    ("report", "key", "words"),
    [
        (None, "", "the agent sent no report"),
        ({"simulation_result_id": "7", "tool_calls": [{}]}, "test-key", "the platform rejected the report"),
        ({"simulation_result_id": "7"}, "wrong", "the last request was answered with 401"),
    ],
)
def test_a_report_that_does_not_come_is_explained(
    platform: FakePlatform, report: dict[str, object] | None, key: str, words: str
) -> None:
    """Nothing sent, a body that the schema refuses, and a wrong key are three different things."""
    if report is not None:
        post(platform, report, key=key)
    conversation = Conversation(url="ws://a", simulation_result_id="7")
    with pytest.raises(Problem, match=words):
        receive_report(platform, conversation, Terminal(io.StringIO()), patience=0.01)


@pytest.mark.parametrize(
    ("closed_by", "code", "well"),
    [
        ("caller", 1000, True),
        ("caller", 1006, True),
        ("agent", 1000, True),
        ("agent", 1011, False),
        ("nobody", 1006, False),
    ],
)
def test_a_call_that_the_agent_broke_did_not_go_well(closed_by: str, code: int, *, well: bool) -> None:
    """The agent may hang up with 1000; anything else is what the platform calls incomplete."""
    out = io.StringIO()
    assert went_well(CallLog(closed_by=closed_by, close_code=code), Terminal(out)) is well
    assert ("INCOMPLETED" in out.getvalue()) is not well


def test_ids_are_six_digits() -> None:
    """An id that nobody chose looks like the platform's."""
    assert all(len(new_id()) == 6 and new_id().isdigit() for _ in range(100))
