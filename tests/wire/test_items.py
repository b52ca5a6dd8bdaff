"""The items of a report: always what the published schema asks for, whatever they are made of."""

from __future__ import annotations

from collections import UserDict
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bluejay_ws.wire import items
from bluejay_ws.wire.items import ITEM_LIMIT, NAME_LIMIT, OMITTED
from tests.testing.published import problems
from tests.wire.hostile import ANYTHING, TEXTS, Card, Odd, SubStr, Word, strict, trap

ANY_LIMIT = st.sampled_from([8 * 1024, 20 * 1024, ITEM_LIMIT])
OFFSETS = st.integers(0, 2**53)
BIG = "x" * 300_000


def tool_call(*arguments: Any, limit: int = ITEM_LIMIT) -> tuple[dict[str, Any], list[str], bytes]:
    """Return a tool call read back, its notes and its JSON."""
    notes: list[str] = []
    build: Any = items.tool_call
    data: bytes = build(*arguments, notes, limit=limit)
    return strict(data), notes, data


def event(*arguments: Any, limit: int = ITEM_LIMIT) -> tuple[dict[str, Any], list[str], bytes]:
    """Return an event read back, its notes and its JSON."""
    notes: list[str] = []
    build: Any = items.event
    data: bytes = build(*arguments, notes, limit=limit)
    return strict(data), notes, data


def utterance(*arguments: Any, limit: int = ITEM_LIMIT) -> tuple[dict[str, Any], list[str], bytes]:
    """Return an utterance read back, its notes and its JSON."""
    notes: list[str] = []
    build: Any = items.utterance
    data: bytes = build(*arguments, notes, limit=limit)
    return strict(data), notes, data


def published(kind: str, item: object) -> list[str]:
    """Return what the published schema has against a report with this item."""
    return problems({"simulation_result_id": "1", kind: [item]})


# -- tool calls ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ((5, "n", {"a": 1}, {"b": 2}, None), b'{"start_offset_ms":5,"name":"n","parameters":{"a":1},"output":{"b":2}}'),
        ((0, "n", None, OMITTED, None), b'{"start_offset_ms":0,"name":"n"}'),
        ((0, "n", None, None, None), b'{"start_offset_ms":0,"name":"n","output":null}'),
        (
            (0, "n", {}, "text", "d"),
            b'{"start_offset_ms":0,"name":"n","description":"d","parameters":{},"output":"text"}',
        ),
        ((0, "", {}, OMITTED, ""), b'{"start_offset_ms":0,"name":"","description":"","parameters":{}}'),
        (
            (2**53, "é", None, [1, 2.5], None),
            '{"start_offset_ms":9007199254740992,"name":"é","output":[1,2.5]}'.encode(),
        ),
    ],
)
def test_a_usual_tool_call_is_written_as_it_is(arguments: tuple[Any, ...], expected: bytes) -> None:
    """The offset first, then a fixed order; what is not given is left out; nothing is noted."""
    item, notes, data = tool_call(*arguments)
    assert data == expected
    assert notes == []
    assert published("tool_calls", item) == []


@pytest.mark.parametrize(
    ("arguments", "changed", "notes"),
    [
        ((1, SubStr("n"), None, OMITTED, None), {"name": "n"}, []),
        ((1, Word.YES, None, OMITTED, None), {"name": "yes"}, ["mapped.name"]),
        ((1, None, None, OMITTED, None), {"name": "null"}, ["mapped.name"]),
        ((1, ["a", 1], None, OMITTED, None), {"name": '["a",1]'}, ["mapped.name"]),
        ((1, "a\ud800", None, OMITTED, None), {"name": "a\ufffd"}, ["mapped.name"]),
        ((1, "n" * 2000, None, OMITTED, None), {"name": "n" * NAME_LIMIT}, ["cut.name"]),
        ((1, "n" * 300_000, None, OMITTED, None), {"name": "n" * NAME_LIMIT}, ["cut.name"]),
        ((1, "n", [1, 2], OMITTED, None), {"parameters": {"value": [1, 2]}}, ["mapped.parameters"]),
        ((1, "n", "x", OMITTED, None), {"parameters": {"value": "x"}}, ["mapped.parameters"]),
        ((1, "n", UserDict(a=1), OMITTED, None), {"parameters": {"a": 1}}, ["mapped.parameters"]),
        ((1, "n", Card("4"), OMITTED, None), {"parameters": {"last4": "4", "inner": None}}, ["mapped.parameters"]),
        ((1, "n", {1: 2}, OMITTED, None), {"parameters": {"1": 2}}, ["mapped.parameters"]),
        ((1, "n", {"a": b"x"}, {1}, 7), {"parameters": {"a": "x"}, "output": [1], "description": "7"},
         ["mapped.description", "mapped.parameters", "mapped.output"]),
        ((1, "n", None, float("nan"), None), {"output": None}, ["mapped.output"]),
        ((1, "n", None, "\0", None), {"output": "\ufffd"}, ["mapped.output"]),
        ((1, "n", None, "\\u0000", None), {"output": "\\u0000"}, []),
        ((1, "n", None, Odd(), None), {"output": "<tests.wire.hostile.Odd>"}, ["mapped.output"]),
        ((1, "n", {"a": Odd()}, None, None),
         {"parameters": {"a": "<tests.wire.hostile.Odd>"}, "output": None}, ["mapped.parameters"]),
        ((1, "n", {"\ud800": 1}, OMITTED, None), {"parameters": {"\ufffd": 1}}, ["mapped.parameters"]),
    ],
)  # fmt: skip
def test_an_odd_tool_call_is_put_right(arguments: tuple[Any, ...], changed: dict[str, Any], notes: list[str]) -> None:
    """What the schema does not take becomes what it takes, and every change is noted."""
    item, found, _ = tool_call(*arguments)
    plain = {"start_offset_ms": 1, "name": "n"}
    assert item == plain | changed
    assert found == notes
    assert published("tool_calls", item) == []


@pytest.mark.parametrize(
    ("arguments", "notes"),
    [
        ((1, "n", {"a": "b"}, BIG, "d"), ["cut.output"]),
        ((1, "n", {"a": "b"}, [BIG], "d"), ["cut.output"]),
        ((1, "n", {"a": "x" * 200_000}, "x" * 200_000, "d"), ["cut.output"]),
        ((1, "n", {"a": BIG}, "small", "d"), ["cut.parameters"]),
        ((1, "n", {"a": BIG}, BIG, "d"), ["cut.parameters", "cut.output"]),
        ((1, "n", {"a": BIG}, OMITTED, "d"), ["cut.parameters"]),
        ((1, "n", None, {"a": 1}, BIG), ["cut.description"]),
        ((1, "n", {"a": BIG}, BIG, BIG), ["cut.description", "cut.parameters", "cut.output"]),
        ((1, "n" * 2000, {"a": BIG}, BIG, BIG), ["cut.name", "cut.description", "cut.parameters", "cut.output"]),
    ],
)
@pytest.mark.parametrize("limit", [8 * 1024, ITEM_LIMIT])
def test_the_output_of_a_big_tool_call_is_cut_first(arguments: tuple[Any, ...], notes: list[str], limit: int) -> None:
    """Output, then parameters, then description; never the name or the offset; and the limit is used up."""
    item, found, data = tool_call(*arguments, limit=limit)
    assert limit - 3 * 128 <= len(data) <= limit
    assert item["start_offset_ms"] == 1
    assert item["name"] == arguments[1][:NAME_LIMIT]
    assert published("tool_calls", item) == []
    if limit == ITEM_LIMIT:
        assert found == notes


def test_a_tool_call_at_the_end_of_the_call_s_share_keeps_its_name() -> None:
    """With no room at all, what can be cut is cut to its marker."""
    item, _, data = tool_call(1, "freeze_card", {"a": BIG}, BIG, BIG, limit=0)
    assert item["name"] == "freeze_card"
    assert item["output"].endswith("...[cut: 300000 bytes]")
    assert len(data) < 500


@given(OFFSETS, TEXTS | ANYTHING, ANYTHING, st.just(OMITTED) | ANYTHING, TEXTS | ANYTHING, ANY_LIMIT)
def test_any_tool_call_is_what_the_schema_asks_for(
    start: Any, name: Any, parameters: Any, output: Any, description: Any, limit: int
) -> None:
    """Any Python objects in, a schema-valid item in strict JSON out, within its limit, nothing raised."""
    item, _, data = tool_call(start, name, parameters, output, description, limit=limit)
    assert data.startswith(b'{"start_offset_ms":')
    assert len(data) <= limit
    assert published("tool_calls", item) == []


# -- events --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ((5, "t", None, None, None, None), b'{"start_offset_ms":5,"title":"t"}'),
        ((5, "t", 9, "d", ["x"], {"a": 1}),
         b'{"start_offset_ms":5,"end_offset_ms":9,"title":"t","tags":["x"],"description":"d","metadata":{"a":1}}'),
    ],
)  # fmt: skip
def test_a_usual_event_is_written_as_it_is(arguments: tuple[Any, ...], expected: bytes) -> None:
    """The offsets first, then a fixed order; what is not given is left out; nothing is noted."""
    item, notes, data = event(*arguments)
    assert data == expected
    assert notes == []
    assert published("events", item) == []


@pytest.mark.parametrize(
    ("arguments", "changed", "notes"),
    [
        ((5, 7, None, None, None, None), {"title": "7"}, ["mapped.title"]),
        ((5, "t" * 2000, None, None, None, None), {"title": "t" * NAME_LIMIT}, ["cut.title"]),
        ((5, "t", None, None, "vip", None), {"tags": ["vip"]}, []),
        ((5, "t", None, None, ("a", "b"), None), {"tags": ["a", "b"]}, []),
        ((5, "t", None, None, {"a"}, None), {"tags": ["a"]}, ["mapped.tags"]),
        ((5, "t", None, None, ["a", 1, None, ["b"]], None), {"tags": ["a", "1", "null", '["b"]']}, ["mapped.tags"]),
        ((5, "t", None, None, 7, None), {"tags": ["7"]}, ["mapped.tags"]),
        ((5, "t", None, None, (x for x in "ab"), None), {"tags": ["<builtins.generator>"]}, ["mapped.tags"]),
        ((5, "t", None, None, ["a\0"], None), {"tags": ["a\ufffd"]}, ["mapped.tags"]),
        ((5, "t", None, None, None, [1]), {"metadata": {"value": [1]}}, ["mapped.metadata"]),
        ((5, "t", None, ["d"], None, None), {"description": '["d"]'}, ["mapped.description"]),
    ],
)  # fmt: skip
def test_an_odd_event_is_put_right(arguments: tuple[Any, ...], changed: dict[str, Any], notes: list[str]) -> None:
    """What the schema does not take becomes what it takes, and every change is noted."""
    item, found, _ = event(*arguments)
    plain = {"start_offset_ms": 5, "title": "t"}
    assert item == plain | changed
    assert found == notes
    assert published("events", item) == []


@pytest.mark.parametrize(
    ("arguments", "notes"),
    [
        ((1, "t", None, "d", ["a"], {"a": BIG}), ["cut.metadata"]),
        ((1, "t", None, BIG, ["a"], {"a": "small"}), ["cut.description"]),
        ((1, "t", None, "d", [BIG], {"a": "small"}), ["cut.tags"]),
        ((1, "t", None, "d", BIG, {"a": "small"}), ["cut.tags"]),
        ((1, "t", 2, BIG, [[BIG]], {"a": BIG}), ["cut.tags", "cut.description", "cut.metadata"]),
        ((1, "t", 2, "d", [["\n" * 90_000]], None), ["cut.tags", "mapped.tags"]),
    ],
)
def test_the_metadata_of_a_big_event_are_cut_first(arguments: tuple[Any, ...], notes: list[str]) -> None:
    """Metadata, then description, then tags; never the title or the offsets."""
    item, found, data = event(*arguments)
    assert len(data) <= ITEM_LIMIT
    assert item["title"] == "t"
    assert found == notes
    assert published("events", item) == []


@given(
    OFFSETS, TEXTS | ANYTHING, st.none() | OFFSETS, TEXTS | ANYTHING, st.lists(TEXTS) | ANYTHING, ANYTHING, ANY_LIMIT
)
def test_any_event_is_what_the_schema_asks_for(
    start: Any, title: Any, end: Any, description: Any, tags: Any, metadata: Any, limit: int
) -> None:
    """Any Python objects in, a schema-valid item in strict JSON out, within its limit, nothing raised."""
    item, _, data = event(start, title, end, description, tags, metadata, limit=limit)
    assert data.startswith(b'{"start_offset_ms":')
    assert len(data) <= limit
    assert published("events", item) == []


# -- utterances ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ((1, 2, "USER", "hi", None), b'{"start_offset_ms":1,"end_offset_ms":2,"speaker":"USER","utterance":"hi"}'),
        ((1, 1, "AGENT", "", True),
         b'{"start_offset_ms":1,"end_offset_ms":1,"speaker":"AGENT","utterance":"","filler_utterance":true}'),
    ],
)  # fmt: skip
def test_a_usual_utterance_is_written_as_it_is(arguments: tuple[Any, ...], expected: bytes) -> None:
    """The offsets first, then a fixed order; what is not given is left out; nothing is noted."""
    item, notes, data = utterance(*arguments)
    assert data == expected
    assert notes == []
    assert published("recorded_transcript", item) == []


@pytest.mark.parametrize(
    ("arguments", "changed", "notes"),
    [
        ((1, 2, "USER", "hi", False), {"filler_utterance": False}, []),
        ((1, 2, "USER", "a\ud83d", None), {"utterance": "a\ufffd"}, ["mapped.utterance"]),
        ((1, 2, "USER", "hi", "yes"), {}, ["dropped.filler_utterance"]),
        ((1, 2, "USER", BIG, True), {"filler_utterance": True}, ["cut.utterance"]),
    ],
)
def test_an_odd_utterance_is_put_right(arguments: tuple[Any, ...], changed: dict[str, Any], notes: list[str]) -> None:
    """What the schema does not take becomes what it takes, and every change is noted."""
    item, found, _ = utterance(*arguments)
    plain = {"start_offset_ms": 1, "end_offset_ms": 2, "speaker": "USER", "utterance": item["utterance"]}
    assert item == plain | changed
    assert found == notes
    assert item["utterance"].startswith("hi") == (arguments[3] == "hi")
    assert published("recorded_transcript", item) == []


@given(OFFSETS, OFFSETS, st.sampled_from(["AGENT", "USER"]), TEXTS, ANYTHING, ANY_LIMIT)
def test_any_utterance_is_what_the_schema_asks_for(
    start: Any, end: Any, speaker: Any, text: Any, filler: Any, limit: int
) -> None:
    """Any Python objects in, a schema-valid item in strict JSON out, within its limit, nothing raised."""
    item, _, data = utterance(start, end, speaker, text, filler, limit=limit)
    assert data.startswith(b'{"start_offset_ms":')
    assert len(data) <= limit
    assert published("recorded_transcript", item) == []


# -- texts and mappings --------------------------------------------------------------------------------------------


@given(TEXTS | ANYTHING, st.sampled_from([100, ITEM_LIMIT]))
def test_a_text_is_a_json_string(value: Any, limit: int) -> None:
    """Any Python object in, a JSON string out."""
    data = items.text(value, limit=limit)
    assert isinstance(strict(data), str)
    assert len(data) <= limit


@given(ANYTHING, st.sampled_from([100, ITEM_LIMIT]))
def test_a_mapping_is_a_json_object(value: Any, limit: int) -> None:
    """Any Python object in, a JSON object out."""
    data = items.mapping(value, limit=limit)
    assert isinstance(strict(data), dict)
    assert len(data) <= limit


def test_texts_and_mappings_note_what_was_done() -> None:
    """With a list of notes, what was cut or mapped stands in it."""
    notes: list[str] = []
    assert items.text("vip", notes) == b'"vip"'
    assert items.mapping({"tier": "gold"}, notes) == b'{"tier":"gold"}'
    assert notes == []
    items.text(BIG, notes)
    items.text(7, notes)
    items.text(["\n" * 90_000], notes)
    items.mapping({"a": BIG}, notes)
    items.mapping([1], notes)  # type: ignore[arg-type]
    assert notes == ["cut.text", "mapped.text", "cut.text", "mapped.text", "cut.metadata", "mapped.metadata"]


def test_a_value_that_fights_is_recorded_all_the_same() -> None:
    """A tool's name, parameters and output may all be traps."""
    snare = trap(dict, ValueError)()
    item, notes, _ = tool_call(1, snare, snare, snare, snare)
    assert item["parameters"] == {}
    assert "mapped.name" in notes
    assert published("tool_calls", item) == []


def test_what_is_recorded_does_not_change_afterwards() -> None:
    """The item is a snapshot."""
    output = {"status": "frozen"}
    data = items.tool_call(1, "n", output, output, None, [])
    output["status"] = "thawed"
    assert data == b'{"start_offset_ms":1,"name":"n","parameters":{"status":"frozen"},"output":{"status":"frozen"}}'
