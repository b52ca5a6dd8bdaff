"""`bluejay_ws.testing.schema`: bodies are taken exactly when the published schema takes them."""

from __future__ import annotations

import copy
import json
from typing import Any

import pytest
from hypothesis import given

from bluejay_ws.testing.schema import BodyRejectedError, SimulationReport, read, unknown_fields
from tests.testing import bodies, published

JSON = "application/json"


def takes(value: object) -> bool:
    """Return whether a body is taken."""
    try:
        read(json.dumps(value).encode(), JSON)
    except BodyRejectedError:
        return False
    return True


def rejection(body: bytes, content_type: str | None = JSON) -> BodyRejectedError:
    """Return why a body is not taken."""
    with pytest.raises(BodyRejectedError) as caught:
        read(body, content_type)
    return caught.value


def test_a_full_report_is_read() -> None:
    """Every field of the published schema has its place."""
    report = read(json.dumps(bodies.FULL).encode(), JSON)
    assert published.problems(bodies.FULL) == []
    assert report.simulation_result_id == "720488"
    assert report.tool_calls is not None
    assert report.tool_calls[0].output == [1, "x"]
    assert report.recorded_transcript is not None
    assert report.recorded_transcript[1].start_offset_ms == 1


def test_trace_ids_are_a_list_of_texts() -> None:
    """They are in the documentation and in live use, though not in the published description."""
    assert read(json.dumps({**bodies.FULL, "trace_ids": ["a"]}).encode(), JSON).trace_ids == ["a"]
    assert not takes({**bodies.FULL, "trace_ids": [1]})
    assert not takes({**bodies.FULL, "trace_ids": None})


@pytest.mark.parametrize(
    "wrong",
    [
        {},
        {"simulation_result_id": 720488},
        {"events": {}},
        {"events": [{"start_offset_ms": 1}]},
        {"events": [{"title": "a"}]},
        {"events": [{"title": "a", "start_offset_ms": "1"}]},
        {"events": [{"title": "a", "start_offset_ms": 1.5}]},
        {"events": [{"title": "a", "start_offset_ms": True}]},
        {"events": [{"title": "a", "start_offset_ms": None}]},
        {"events": [{"title": "a", "start_offset_ms": 1, "metadata": []}]},
        {"events": [None]},
        {"tool_calls": [{"name": "a", "start_offset_ms": -1}]},
        {"tool_calls": [{"name": "a", "start_offset_ms": 0, "parameters": "x"}]},
        {"recorded_transcript": [{"start_offset_ms": 0, "end_offset_ms": 1, "speaker": "agent", "utterance": "a"}]},
        {"recorded_transcript": [{"start_offset_ms": 0, "speaker": "AGENT", "utterance": "a"}]},
        {"tags": [1]},
        {"metadata": []},
        [],
        "text",
        None,
    ],
)
def test_a_wrong_report_is_rejected_with_the_place(wrong: Any) -> None:
    """The detail names where it is wrong, and what the platform calls it."""
    value = {"simulation_result_id": "1", **wrong} if isinstance(wrong, dict) and wrong else wrong
    error = rejection(json.dumps(value).encode())
    assert published.problems(value)
    assert error.status == 422
    assert published.problems({"detail": error.detail}, "HTTPValidationError") == []
    assert all(problem["loc"][0] == "body" for problem in error.problems)


def test_the_place_of_a_problem_is_told_as_fastapi_does() -> None:
    """Field names and positions, below the body."""
    body = json.dumps({"simulation_result_id": "1", "tool_calls": [{"name": "a", "start_offset_ms": -1}]}).encode()
    (problem,) = rejection(body).problems
    assert problem["loc"] == ["body", "tool_calls", 0, "start_offset_ms"]
    assert (problem["type"], problem["input"]) == ("greater_than_equal", -1)


def test_an_empty_body_is_missing() -> None:
    """No bytes at all are a missing body."""
    assert rejection(b"").problems[0]["type"] == "missing"


def test_what_is_not_json_is_rejected_where_it_breaks() -> None:
    """The position stands in the place of a field name."""
    (problem,) = rejection(b'{"a": }').problems
    assert (problem["type"], problem["loc"]) == ("json_invalid", ["body", 6])


@pytest.mark.parametrize("body", [b"\xff", b'{"a": NaN}', b"9" * 5000, b"[" * 200_000], ids=["utf8", "nan", "9", "["])
def test_what_cannot_even_be_parsed_is_a_bad_request(body: bytes) -> None:
    """Invalid UTF-8, words that only Python takes for numbers, and nesting without end."""
    error = rejection(body)
    assert (error.status, error.detail) == (400, "There was an error parsing the body")
    assert error.problems[0]["type"] == "json_invalid"


@pytest.mark.parametrize("content_type", ["application/json", "Application/JSON; charset=utf-8", "application/a+json"])
def test_json_has_to_be_declared(content_type: str) -> None:
    """Any spelling of the media type will do."""
    assert read(json.dumps(bodies.FULL).encode(), content_type).tags == ["vip"]


@pytest.mark.parametrize("content_type", [None, "", "text/plain", "text/a+json", "application/octet-stream"])
def test_undeclared_json_is_rejected(content_type: str | None) -> None:
    """As the platform's framework does."""
    assert rejection(json.dumps(bodies.FULL).encode(), content_type).problems[0]["type"] == "model_attributes_type"


def test_fields_beyond_the_schema_are_found() -> None:
    """The platform takes them and forgets them: a misspelt field would be lost in silence."""
    value = copy.deepcopy(bodies.FULL)
    value["tool_call"] = []
    value["events"][1]["end"] = 5
    value["tool_calls"][0]["outputs"] = {}
    report = read(json.dumps(value).encode(), JSON)
    assert unknown_fields(report) == ["tool_call", "events.1.end", "tool_calls.0.outputs"]
    assert unknown_fields(SimulationReport(simulation_result_id="1")) == []


@given(bodies.mutated_reports() | bodies.ANY_JSON)
def test_bodies_are_taken_exactly_when_the_published_schema_takes_them(value: Any) -> None:
    """The models and the published JSON schema agree on every value."""
    if isinstance(value, dict) and "trace_ids" in value:
        return
    assert takes(value) is not bool(published.problems(value))
