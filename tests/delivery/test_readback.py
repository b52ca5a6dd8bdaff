"""Whether a result that was read back holds our report."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bluejay_ws.delivery.readback import Sight, look
from bluejay_ws.delivery.verdict import Answer, Failure, Phase
from bluejay_ws.wire import journal
from tests.delivery.kit import bodies, new_id, result, tool

OURS = "a" * 32
MARKER = {"bluejay_ws": {"report_id": OURS}}


def sent(*tools: str) -> bytes:
    """Return what was posted."""
    return journal.assemble([bodies(OURS, "720488", *tools)], simulation_result_id="720488")


def seen(outcome: Answer | Failure, *tools: str) -> Sight:
    """Return what this outcome says about our report."""
    return look(outcome, report_ids=[OURS], sent=sent(*tools))


def group(name: str, *offsets: int | None) -> dict[str, object]:
    """Return the calls of one tool in the published shape."""
    actual: list[dict[str, object]] = [
        {"parameters": {}, "output": None, "start_offset_ms": offset} for offset in offsets
    ]
    return {"name": name, "expected": [], "actual": actual}


def test_the_marker_event_is_proof() -> None:
    """A report is recognised by its own id, whatever else the result holds."""
    events = [{"title": "other", "metadata": None}, {"title": "Connection closed", "metadata": MARKER}]
    assert seen(result(events=events), "freeze_card") is Sight.FOUND


def test_the_marker_of_another_report_is_none_of_ours() -> None:
    """Another connection's report in the same result does not count as ours."""
    other = {"bluejay_ws": {"report_id": new_id()}}
    assert seen(result(events=[{"title": "Connection closed", "metadata": other}]), "freeze_card") is Sight.ABSENT


def test_without_echoed_metadata_the_tool_calls_are_proof() -> None:
    """Every tool call of ours by name and offset is our report."""
    assert seen(result(tool_calls=[group("freeze_card", 5), group("x")]), "freeze_card") is Sight.FOUND


def test_some_of_the_tool_calls_prove_nothing() -> None:
    """Half a report may be a report on its way, or the spans of a trace."""
    assert seen(result(tool_calls=[group("freeze_card", 5)]), "freeze_card", "close_card") is Sight.UNCLEAR


def test_true_is_no_offset() -> None:
    """A platform that writes ``true`` where a time belongs has not shown the call that began after 1 ms."""
    report = journal.assemble([[tool("x", at=1)]], simulation_result_id="720488")
    result_with_true = result(tool_calls=[{"name": "x", "actual": [{"start_offset_ms": True}]}])
    assert look(result_with_true, report_ids=[OURS], sent=report) is Sight.UNCLEAR


def test_tool_calls_without_offsets_prove_nothing() -> None:
    """The same names without times may be another attempt's."""
    assert seen(result(tool_calls=[group("freeze_card", None)]), "freeze_card") is Sight.UNCLEAR


def test_other_tool_calls_are_not_ours() -> None:
    """The same tool at another time was called by somebody else."""
    assert seen(result(tool_calls=[group("freeze_card", 6)]), "freeze_card") is Sight.ABSENT


def test_a_report_without_tool_calls_is_known_by_its_events() -> None:
    """Title and offset of each event stand in for the tool calls there are none of."""
    events = [{"title": "Connection closed", "start_offset_ms": 9, "metadata": None}]
    assert seen(result(events=events)) is Sight.FOUND
    assert seen(result(events=[])) is Sight.ABSENT


@pytest.mark.parametrize("status", [401, 403, 301, 302])
def test_a_refused_look_is_a_matter_of_key_or_configuration(status: int) -> None:
    """It says nothing about the report, and holds for every other report as well."""
    assert seen(Answer(status)) is Sight.REFUSED


@pytest.mark.parametrize("phase", [Phase.CERTIFICATE, Phase.CONFIGURATION])
def test_so_is_one_that_configuration_prevents(phase: Phase) -> None:
    """A certificate that is not trusted is no outage."""
    assert seen(Failure(phase, "word")) is Sight.REFUSED


def test_an_unknown_result_holds_nothing() -> None:
    """What does not exist cannot hold our report."""
    assert seen(Answer(404)) is Sight.ABSENT


@pytest.mark.parametrize(
    "outcome",
    [
        Failure(Phase.NOT_SENT, "refused"),
        Failure(Phase.UNKNOWN, "read_timeout"),
        Answer(500),
        Answer(422),
        Answer(200, b"<html>"),
        Answer(200, b"[]"),
        Answer(200, b'{"simulation_result": []}'),
        Answer(200, b'{"simulation_result": {}}', complete=False),
        Answer(200, b"[" * 100_000),
    ],
)
def test_anything_else_is_unreadable(outcome: Answer | Failure) -> None:
    """No conclusion is drawn from an answer that is not the published one."""
    assert seen(outcome) is Sight.UNREADABLE


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: (
        st.lists(inner)
        | st.dictionaries(st.sampled_from(["events", "tool_calls", "name", "actual", "metadata"]), inner)
    ),
    max_leaves=20,
)


@given(JSON, JSON)
def test_no_result_raises(events: object, tool_calls: object) -> None:
    """Whatever shape the platform's answer has, it is one of the five sights."""
    body = json.dumps({"simulation_result": {"events": events, "tool_calls": tool_calls}}).encode()
    assert seen(Answer(200, body), "freeze_card") in {Sight.ABSENT, Sight.UNCLEAR}
