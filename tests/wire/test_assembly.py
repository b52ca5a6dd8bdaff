"""The report that is made of journals."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bluejay_ws.wire import items, journal
from bluejay_ws.wire.items import OMITTED
from bluejay_ws.wire.journal import CallFacts
from tests.report import Report
from tests.testing.published import problems
from tests.wire.hostile import strict
from tests.wire.journals import bodies_of_items

HEADER = journal.header(
    report_id="r1", simulation_result_id="720488", started_at=1790000000.5, version="0.1.0", server="websockets"
)
CLOSE = journal.closed({"close_code": 1000})


def tool(start: int, name: str, output: object = None) -> bytes:
    """Return the body of a tool call."""
    return journal.item("tool_calls", items.tool_call(start, name, None, output, None, []))


def event(start: int, title: str) -> bytes:
    """Return an event."""
    return items.event(start, title, None, None, None, None, [])


def metadata(**values: Any) -> bytes:
    """Return the body of metadata."""
    return journal.item("metadata", items.mapping(values))


def report(*parts: list[bytes], **options: Any) -> dict[str, Any]:
    """Return the report made of parts, read back, after checking it against all that is known of reports."""
    body = journal.assemble(parts, simulation_result_id="720488", **options)
    found: dict[str, Any] = strict(body)
    assert problems(found) == []
    assert Report.from_json(body).to_json() == body
    return found


# -- facts ---------------------------------------------------------------------------------------------------------


def test_the_facts_of_a_call_are_read() -> None:
    """Who, when, where, how it ended, how much of what, and what delivery noted last."""
    bodies = [
        HEADER,
        tool(1, "a"),
        tool(2, "b"),
        journal.opened(1, "tool_calls", items.tool_call(3, "c", None, OMITTED, None, [])),
        journal.opened(2, "events", event(4, "d")),
        journal.done(1, "tool_calls", items.tool_call(3, "c", None, 1, None, [])),
        journal.dropped(2),
        journal.item("tags", b'"vip"'),
        journal.item("tags", b'"vip"'),
        metadata(a=1),
        CLOSE,
        journal.delivery({"attempts": 1}),
        journal.delivery({"attempts": 2}),
    ]
    assert journal.facts(bodies) == CallFacts(
        report_id="r1",
        simulation_result_id="720488",
        started_at=1790000000.5,
        version="0.1.0",
        server="websockets",
        closed={"close_code": 1000},
        counts={"tool_calls": 3, "tags": 1, "metadata": 1},
        delivery={"attempts": 2},
    )


def test_an_empty_journal_has_no_facts() -> None:
    """Everything is at its default."""
    assert journal.facts([]) == CallFacts()


def test_a_late_id_is_the_id() -> None:
    """An id that was bound counts, as the connect request had none."""
    header = journal.header(report_id="r1", simulation_result_id=None)
    assert journal.facts([header]).simulation_result_id is None
    assert journal.facts([header, journal.bound("7")]).simulation_result_id == "7"


@pytest.mark.parametrize(
    "bodies",
    [
        [b'["call",{"report_id":1,"simulation_result_id":[],"started_at":"x","version":null}'],
        [b'["close",{'],
        [b'["bind",8'],
        [b'["call",[1]'],
        [b'["call",{'],
        [b'["call",' + b"[" * 100_000],
        [b'["call",{"a":' + b"9" * 5000 + b"}"],
        [b'["call"'],
        [b""],
        [b"\xff"],
        [b'["bind",'],
        [b'["bind","\xff"'],
        [b'["drop",x'],
        [b'["drop",99999999999999999999'],
        [b'["done",1'],
        [b'["open",1,"call",{}'],
        [b'["open",1,"tool_calls",{}'],
        [b'["open",1,"tool_calls",'],
        [b'["tool_calls",{}'],
        [b'["tool_calls",{"start_offset_ms":1}'],
        [b'["tool_calls",{"start_offset_ms":-1,"name":"x"}'],
        [b'["tool_calls",{"start_offset_ms":1,"name":"x"'],
        [b'["tool_calls",[]'],
        [b'["tags",1'],
        [b'["tags","'],
        [b'["trace_ids",x"'],
        [b'["metadata",[]'],
        [b'["metadata",{'],
        [b'["later_kind",{}'],
    ],
    ids=lambda bodies: repr(bodies[0][:30]),
)
def test_a_sound_line_that_is_none_of_ours_is_passed_over(bodies: list[bytes]) -> None:
    """Its facts are unknown, and it does not spoil the report."""
    bodies = journal.parse(b"".join(map(journal.line, bodies))).bodies
    assert journal.facts(bodies) == CallFacts()
    assert report([HEADER, *bodies, CLOSE]) == {"simulation_result_id": "720488", "tool_calls": []}


# -- one part ------------------------------------------------------------------------------------------------------


def test_the_items_are_joined_as_they_are() -> None:
    """The report is byte for byte what was journaled, in the order of the starts, with a fixed order of keys."""
    body = journal.assemble(
        [
            [
                HEADER,
                journal.item("trace_ids", b'"t1"'),
                metadata(tier="gold"),
                journal.item("tags", b'"vip"'),
                journal.item("recorded_transcript", items.utterance(7, 9, "USER", "hi", None, [])),
                journal.item("events", event(8, "e")),
                tool(9, "late", 0.5),
                tool(5, "early", "é"),
                tool(5, "early too"),
                journal.item("tags", b'"b"'),
                journal.item("tags", b'"vip"'),
                journal.item("trace_ids", b'"t1"'),
                CLOSE,
            ]
        ],
        simulation_result_id="720488",
    )
    assert (
        body
        == (
            '{"simulation_result_id":"720488",'
            '"tool_calls":[{"start_offset_ms":5,"name":"early","output":"é"},'
            '{"start_offset_ms":5,"name":"early too","output":null},{"start_offset_ms":9,"name":"late","output":0.5}],'
            '"events":[{"start_offset_ms":8,"title":"e"}],'
            '"recorded_transcript":[{"start_offset_ms":7,"end_offset_ms":9,"speaker":"USER","utterance":"hi"}],'
            '"tags":["vip","b"],"metadata":{"tier":"gold"},"trace_ids":["t1"]}'
        ).encode()
    )


def test_a_call_in_which_nothing_happened_has_an_empty_list_of_tool_calls() -> None:
    """The platform's judge is told that no tool was called; everything else is left out."""
    assert report([HEADER, metadata(), CLOSE]) == {"simulation_result_id": "720488", "tool_calls": []}
    assert report() == {"simulation_result_id": "720488", "tool_calls": []}


def test_an_item_stands_where_and_as_it_was_last_told() -> None:
    """A finished item replaces the opened one, a withdrawn one is gone, one that never finished stays as opened."""

    def call(output: object) -> bytes:
        return items.tool_call(1, "a", None, output, None, [])

    found = report(
        [
            HEADER,
            journal.opened(1, "tool_calls", call("open 1")),
            journal.opened(2, "tool_calls", call("open 2")),
            journal.opened(3, "tool_calls", call("open 3")),
            tool(1, "a", "at once"),
            journal.done(3, "tool_calls", call("done 3")),
            journal.done(1, "tool_calls", call("done 1")),
            journal.dropped(2),
            journal.done(4, "tool_calls", call("done 4, whose opening line is lost")),
            journal.opened(5, "tool_calls", call("open 5")),
            journal.dropped(6),
            CLOSE,
        ]
    )
    outputs = [item["output"] for item in found["tool_calls"]]
    assert outputs == ["done 1", "done 3", "at once", "done 4, whose opening line is lost", "open 5"]


def test_later_metadata_win() -> None:
    """Objects are merged key by key, in the order in which the keys came first; values stay as they were written."""
    found = journal.assemble(
        [[HEADER, b'["metadata",{"a":1,"b":{"x":1E5}}', metadata(**{"a": 2, "c\n\u2028": "é"}), metadata(), CLOSE]],
        simulation_result_id="720488",
    )
    assert found.endswith('"metadata":{"a":2,"b":{"x":1E5},"c\\n\u2028":"é"}}'.encode())
    assert report([HEADER, metadata(a=1), b'["metadata",{"b":}', metadata(c=2), CLOSE])["metadata"] == {"a": 1, "c": 2}


def test_a_lost_end_is_told() -> None:
    """Without a closing line, an event at the last known moment says that the process was lost."""
    bodies = [
        HEADER,
        tool(5, "a"),
        journal.item("recorded_transcript", items.utterance(7, 1200, "USER", "hi", None, [])),
        journal.item("events", event(8, "e")),
    ]
    marker = {"report_id": "r1", "version": "0.1.0", "incomplete": "process_lost"}
    last = {"start_offset_ms": 1200, "title": "Connection closed", "metadata": {"bluejay_ws": marker}}
    assert report(bodies)["events"][1:] == [last]
    assert report([HEADER])["events"] == [last | {"start_offset_ms": 0}]


# -- several parts -------------------------------------------------------------------------------------------------


def test_a_redialled_call_is_one_report() -> None:
    """Parts follow each other, each in its own time, with an event for each redial and the parts in the metadata."""
    second = journal.header(report_id="r2", version="0.1.0")
    third = journal.header(report_id="r3", version="0.1.0")
    found = report(
        [HEADER, tool(900, "a"), metadata(tier="gold", bluejay_ws={"by": "user"})],
        [second, tool(50, "b"), journal.item("events", event(0, "first")), journal.item("tags", b'"x"'), CLOSE],
        [third, journal.item("tags", b'"x"'), metadata(tier="tin"), CLOSE],
    )
    assert [item["name"] for item in found["tool_calls"]] == ["a", "b"]
    assert [(item["start_offset_ms"], item["title"]) for item in found["events"]] == [
        (900, "Connection closed"),
        (0, "Reconnected"),
        (0, "first"),
        (0, "Reconnected"),
    ]
    assert found["events"][1]["metadata"] == {"bluejay_ws": {"report_id": "r2", "part": 2}}
    assert found["tags"] == ["x"]
    assert found["metadata"] == {
        "tier": "tin",
        "bluejay_ws": {"by": "user", "parts": 3, "report_ids": ["r1", "r2", "r3"]},
    }


def test_parts_without_metadata_are_told_too() -> None:
    """The parts stand in metadata of their own."""
    found = report([HEADER, CLOSE], [b'["tags","x"', CLOSE])
    assert found["metadata"] == {"bluejay_ws": {"parts": 2, "report_ids": ["r1", ""]}}
    assert report([HEADER, metadata(bluejay_ws=7), CLOSE], [CLOSE])["metadata"]["bluejay_ws"]["parts"] == 2


# -- after a refusal -----------------------------------------------------------------------------------------------


def test_big_outputs_can_be_cut_afterwards() -> None:
    """With a limit, longer outputs become strings of their beginnings; everything else stays byte for byte."""
    bodies = [
        HEADER,
        tool(1, "text", "x" * 1000),
        tool(2, "list", list(range(1000))),
        tool(3, "small", "x" * 50),
        journal.item("tool_calls", items.tool_call(4, "parameters", {"output": "x" * 1000}, OMITTED, '"output":', [])),
        journal.item("tool_calls", items.tool_call(5, "both", {"output": "x" * 1000}, "y" * 1000, None, [])),
        b'["tool_calls",{"start_offset_ms":6,"name":"' + b"x" * 200 + b'","output":}',
        CLOSE,
    ]
    whole = journal.assemble([bodies[:-2]], simulation_result_id="1")
    cut = strict(journal.assemble([bodies[:-2]], simulation_result_id="1", output_limit=100))["tool_calls"]
    kept = strict(whole)["tool_calls"]
    assert cut[0]["output"].startswith("xxx")
    assert cut[0]["output"].endswith("...[cut: 1002 bytes]")
    assert cut[1]["output"].startswith("[0,1,2,")
    assert cut[2:4] == kept[2:4]
    assert cut[4]["parameters"] == kept[4]["parameters"]
    assert cut[4]["output"].startswith("yyy")
    assert journal.assemble([bodies[:-2]], simulation_result_id="1", output_limit=10_000) == whole
    assert b'"output":}' in journal.assemble([bodies], simulation_result_id="1", output_limit=100)


# -- anything ------------------------------------------------------------------------------------------------------


@given(st.lists(st.lists(bodies_of_items(), max_size=6), max_size=3), st.none() | st.integers(60, 200))
def test_any_report_is_what_the_schema_asks_for(parts: list[list[bytes]], output_limit: int | None) -> None:
    """Whatever was recorded: strict JSON, valid by the published schema, and what the models would write."""
    report(*([HEADER, *bodies] for bodies in parts), output_limit=output_limit)
    for bodies in parts:
        counts = journal.facts(bodies).counts
        body = strict(journal.assemble([[*bodies, CLOSE]], simulation_result_id="1"))
        assert {kind: len(body[kind]) for kind in counts if kind != "metadata"} == {
            kind: count for kind, count in counts.items() if kind != "metadata"
        }
