"""The report as models."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from pydantic import ValidationError

from bluejay_ws.wire import items, journal
from bluejay_ws.wire.report import Event, Report, ToolCall, Utterance
from tests.testing.published import COMPONENTS, REPORT, problems
from tests.wire.hostile import PLAIN

WHOLE = Report(
    simulation_result_id="720488",
    tool_calls=[
        ToolCall(start_offset_ms=5, name="freeze_card", parameters={"last4": "4242"}, output={"status": "frozen"})
    ],
    events=[Event(start_offset_ms=7, end_offset_ms=9, title="Barge-in", tags=["a"], metadata={"latency_ms": 120.5})],
    recorded_transcript=[
        Utterance(start_offset_ms=1, end_offset_ms=4, speaker="AGENT", utterance="Hé", filler_utterance=False)
    ],
    tags=["vip"],
    metadata={"tier": "gold"},
    trace_ids=["t1"],
)


def test_the_models_and_the_items_write_the_same() -> None:
    """A report built by hand and one assembled from a journal of the same facts are byte for byte equal."""
    notes: list[str] = []
    bodies = [
        journal.item("tags", items.text("vip")),
        journal.item("trace_ids", items.text("t1")),
        journal.item("metadata", items.mapping({"tier": "gold"})),
        journal.item("recorded_transcript", items.utterance(1, 4, "AGENT", "Hé", False, notes)),
        journal.item("events", items.event(7, "Barge-in", 9, None, ["a"], {"latency_ms": 120.5}, notes)),
        journal.item(
            "tool_calls",
            items.tool_call(5, "freeze_card", {"last4": "4242"}, {"status": "frozen"}, None, notes),
        ),
        journal.closed({}),
    ]
    assert journal.assemble([bodies], simulation_result_id="720488") == WHOLE.to_json()
    assert notes == []


def test_a_report_is_read_as_it_was_written() -> None:
    """To JSON and back."""
    assert Report.from_json(WHOLE.to_json()) == WHOLE
    assert problems(json.loads(WHOLE.to_json())) == []


def test_only_what_was_given_is_written() -> None:
    """An output of None that was given is ``null``; what was not given is left out."""
    assert Report(simulation_result_id="1").to_json() == b'{"simulation_result_id":"1"}'
    call = ToolCall(start_offset_ms=0, name="n", output=None)
    assert Report(simulation_result_id="1", tool_calls=[call]).to_json() == (
        b'{"simulation_result_id":"1","tool_calls":[{"start_offset_ms":0,"name":"n","output":null}]}'
    )


@pytest.mark.parametrize(
    ("model", "schema"),
    [(ToolCall, "ToolCall"), (Event, "Event"), (Utterance, "TranscriptEntryRequest"), (Report, REPORT)],
)
def test_the_models_have_the_published_fields(model: type[Report], schema: str) -> None:
    """Same names, same ones required; ``trace_ids`` is only in the platform's documentation."""
    published = COMPONENTS["schemas"][schema]
    assert set(model.model_fields) - {"trace_ids"} == set(published["properties"])
    assert {name for name, field in model.model_fields.items() if field.is_required()} == set(published["required"])


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]",
        b"{}",
        b'{"simulation_result_id":1}',
        b'{"simulation_result_id":"1","tool_cals":[]}',
        b'{"simulation_result_id":"1","tool_calls":[{"name":"n","start_offset_ms":-1}]}',
        b'{"simulation_result_id":"1","tool_calls":[{"name":"n","start_offset_ms":1,"parameters":[]}]}',
        (
            b'{"simulation_result_id":"1","recorded_transcript":'
            b'[{"start_offset_ms":1,"end_offset_ms":2,"speaker":"user","utterance":"x"}]}'
        ),
    ],
)
def test_what_is_no_report_is_refused(body: bytes) -> None:
    """Wrong types, misspelt keys and offsets below zero are errors."""
    with pytest.raises(ValidationError):
        Report.from_json(body)


def test_numbers_that_json_lacks_are_null() -> None:
    """NaN and the infinities would spoil the whole report."""
    call = ToolCall(start_offset_ms=0, name="n", parameters={"a": float("nan")}, output=float("inf"))
    written = Report(simulation_result_id="1", tool_calls=[call]).to_json()
    assert b'"parameters":{"a":null},"output":null' in written


@given(PLAIN)
def test_any_json_is_an_output(value: object) -> None:
    """What a tool returned is written and read as it is."""
    report = Report(simulation_result_id="1", tool_calls=[ToolCall(start_offset_ms=0, name="n", output=value)])
    assert Report.from_json(report.to_json()) == report
