"""What a line of the journal must say, beside having the right check sum."""

from __future__ import annotations

import json
from typing import Any

import pytest

from bluejay_ws.wire import items, journal
from bluejay_ws.wire.journal import is_ours

OURS = [
    journal.header(report_id="0" * 32, simulation_result_id=None, started_at=1.5, version="1", server="test"),
    journal.item("tool_calls", items.tool_call(0, "a", None, items.OMITTED, None, [])),
    journal.item("tool_calls", items.tool_call(2**53, "a", {"b": [1]}, None, "c", [])),
    journal.item("events", items.event(1, "a", None, None, None, None, [])),
    journal.item("events", items.event(1, "a", 2, "b", ["c"], {"d": None}, [])),
    journal.item("recorded_transcript", items.utterance(1, 2, "AGENT", "a", None, [])),
    journal.item("recorded_transcript", items.utterance(1, 2, "USER", "a", filler=True, notes=[])),
    journal.item("tags", items.text("a")),
    journal.item("trace_ids", items.text("")),
    journal.item("metadata", items.mapping({})),
    journal.opened(7, "tool_calls", items.tool_call(1, "a", None, 1, None, [])),
    journal.done(7, "events", items.event(1, "a", None, None, None, None, [])),
    journal.dropped(7),
    journal.bound("720488"),
    journal.closed({"close_code": 1000, "seconds": 1.5, "clean": True, "reason": None}),
    journal.delivery({"outcome": "http.503", "attempts": 2, "next_at": 1.5e9}),
    b'["of_a_later_version",anything',
]
TOOL = {"start_offset_ms": 1, "name": "a"}
EVENT = {"start_offset_ms": 1, "title": "a"}
UTTERANCE = {"start_offset_ms": 1, "end_offset_ms": 2, "speaker": "USER", "utterance": "a"}


@pytest.mark.parametrize("body", OURS, ids=repr)
def test_what_we_write_is_ours(body: bytes) -> None:
    """Each kind of line, in its shortest and its longest form, is taken for what it is."""
    assert is_ours(body)
    assert journal.parse(journal.line(body)) == ([body], [], b"")


ANY: tuple[Any, ...] = (1, None, "a", [])
OTHERS: list[tuple[str, Any]] = [
    *(("tool_calls", TOOL | {key: value}) for key, value in [("name", 1), ("name", None), ("description", 1)]),
    *(("tool_calls", TOOL | {"parameters": value}) for value in ANY if value is not None),
    *(("tool_calls", TOOL | {"start_offset_ms": value}) for value in (*ANY, -1, 1.5, True, 10**20) if value != 1),
    ("tool_calls", TOOL | {"start_offset_ms": True}),
    *(("events", EVENT | {key: 1}) for key in ("title", "description", "metadata", "tags")),
    *(("events", EVENT | {key: "a"}) for key in ("end_offset_ms", "metadata", "tags")),
    *(("events", EVENT | {"tags": [value]}) for value in ANY if value != "a"),
    *(("recorded_transcript", UTTERANCE | {key: None}) for key in UTTERANCE),
    *(("recorded_transcript", UTTERANCE | {"speaker": value}) for value in (*ANY, "CALLER", "agent", ["USER"])),
    ("recorded_transcript", UTTERANCE | {"filler_utterance": 1}),
    *((kind, value) for kind in ("tool_calls", "events", "recorded_transcript") for value in (*ANY, {})),
    *((kind, value) for kind in ("tags", "trace_ids", "bind") for value in (*ANY, {}) if value != "a"),
    *((kind, value) for kind in ("metadata", "call", "close", "delivery") for value in ANY),
    *(("call", {"started_at": value}) for value in (10**400, 2**63, float("inf"), float("nan"))),
    ("delivery", {"next_at": 10**30}),
]


def test_another_shape_is_not_ours() -> None:
    """JSON that is not what its kind asks for would spoil the report, or the arithmetic of delivery."""
    for kind, value in OTHERS:
        data = json.dumps(value, separators=(",", ":")).encode()
        for body in (b'["%b",%b' % (kind.encode(), data), b'["open",1,"%b",%b' % (kind.encode(), data)):
            assert not is_ours(body)
            assert journal.parse(journal.line(body)).bodies == []


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"tags",
        b'["tags",',
        b'["tags","a',
        b'["tags","a","b"',
        b'["tags","\xff"',
        b'["tags","\\ud800"',
        b'["metadata",{',
        b'["metadata", {}',
        b'["metadata",{"a":1}}',
        b'["metadata",{"a":NaN}',
        b'["metadata",{"a":1e999}',
        b'["metadata",{"a":%b}' % (b"[" * 100_000),
        b'["tool_calls",{"start_offset_ms":1,"name":"a","output":}',
        b'["tool_calls",{"name":"a","start_offset_ms":1}',
        b'["tool_calls",{"start_offset_ms":1,"name":"a"},{}',
        b'["tool_calls",{"start_offset_ms":1,"name":"a","start_offset_ms":-1}',
        b'["open",x,"events",{"start_offset_ms":1,"title":"a"}',
        b'["open",1,"tags","a"',
        b'["open",1,"open",1,"tags","a"',
        b'["open",1',
        b'["drop",-1',
        b'["drop",1,2',
    ],
    ids=lambda body: repr(body[:40]),
)
def test_what_is_no_json_is_not_ours(body: bytes) -> None:
    """A line that somebody else gave the right check sum is set aside; it must not spoil a report."""
    assert not is_ours(body)
