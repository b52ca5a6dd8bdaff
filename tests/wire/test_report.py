"""The report as the models of these tests have it."""

from __future__ import annotations

import json

import pytest

from bluejay_ws.wire import items, journal
from tests.report import Event, Report, ToolCall, Utterance
from tests.testing.published import COMPONENTS, REPORT, problems

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


@pytest.mark.parametrize(
    ("model", "schema"),
    [(ToolCall, "ToolCall"), (Event, "Event"), (Utterance, "TranscriptEntryRequest"), (Report, REPORT)],
)
def test_the_models_have_the_published_fields(model: type[Report], schema: str) -> None:
    """Same names, same ones required; ``trace_ids`` is only in the platform's documentation."""
    published = COMPONENTS["schemas"][schema]
    assert set(model.model_fields) - {"trace_ids"} == set(published["properties"])
    assert {name for name, field in model.model_fields.items() if field.is_required()} == set(published["required"])
