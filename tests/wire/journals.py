"""Journals as they are, and as disks, other versions and other people leave them."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import strategies as st

from bluejay_ws.wire import items, journal
from bluejay_ws.wire.items import OMITTED
from tests.support import Call
from tests.wire.hostile import ANYTHING, TEXTS

KINDS = ("call", "tool_calls", "events", "recorded_transcript", "tags", "trace_ids", "metadata", "open", "done", "drop")
ALL_KINDS = (*KINDS, "bind", "close", "delivery", "of_a_later_version")


def recorded() -> list[bytes]:
    """Return the bodies of a call in which a bit of everything was recorded."""
    call = Call()
    recorder = call.recorder
    recorder.agent_said("Good morning \u00e9", start_offset_ms=0, end_offset_ms=900)
    recorder.user_said('["tags","a",1]', start_offset_ms=1000, end_offset_ms=1800, filler=True)
    recorder.add_tool_call("freeze_card", parameters={"last4": "4242"}, output={"status": "frozen"})
    recorder.add_event("Transfer", tags=["a"], metadata={"to": [1, None, {"x": 0.5}]}, description="said")
    with recorder.tool_call("look_up", parameters={"q": "x"}) as block:
        block.output = ["y"] * 3
    recorder.event("Hold").__enter__()
    recorder.add_tags("vip", "new")
    recorder.add_trace_id("abc")
    recorder.add_metadata(resolved=True, nested={"bluejay_ws": 1})
    recorder.close({"close_code": 1000}, {"frames": 3})
    delivery = journal.delivery({"outcome": "http.503", "attempts": 2, "at": 1.5e9})
    header = journal.header(report_id="0" * 32, simulation_result_id=None, started_at=1.5, version="1", server="x")
    return [header, *call.recorder.bodies, journal.bound("720488"), journal.opened(99, "events", _EVENT), delivery]


_EVENT = items.event(7, "Open", None, None, None, None, [])
BODIES = recorded()
LINES = [journal.line(body) for body in BODIES]
JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text('a"\\\0\n\ud800\x1b\u00e9', max_size=6)
    | st.sampled_from([10**400, -1, 2**63, 1e308, "report_id", "720488", "0" * 32, "success"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text("ab", max_size=2), inner, max_size=3),
    max_leaves=8,
)
"""JSON, and what ``json.dumps`` takes for it: NaN, lone surrogates, numbers without end."""

KEYS = st.sampled_from(
    [
        *("start_offset_ms", "end_offset_ms", "name", "title", "parameters", "output", "metadata", "tags"),
        *("description", "speaker", "utterance", "filler_utterance", "report_id", "simulation_result_id"),
        *("started_at", "version", "outcome", "attempts", "resends", "next_at", "at", "cut", "released", "detail"),
        *("bluejay_ws", "close_code"),
    ]
)


def _compact(value: Any) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()


OBJECTS = st.dictionaries(KEYS, JSON, max_size=4)
ITEMS = st.builds(lambda start, more: _compact({"start_offset_ms": start} | more), JSON | st.integers(0, 9), OBJECTS)
CONTENTS = st.one_of(
    JSON.map(_compact),
    OBJECTS.map(_compact),
    ITEMS,
    st.builds(lambda number, kind, item: b'%d,"%b",%b' % (number, kind.encode(), item), st.integers(0, 3),
              st.sampled_from(KINDS), ITEMS),
    st.integers(-1, 3).map(_compact),
    st.binary(max_size=20).map(lambda data: data.replace(b"\n", b"")),
    st.builds(lambda body, place, more: body[:place] + more + body[place + 1 :], st.sampled_from(BODIES),
              st.integers(0, 60), st.sampled_from([b"", b'"', b"}", b"0", b",", b"\\", b"\xff"])),
)  # fmt: skip
CRAFTED = st.builds(lambda kind, rest: b'["%b",%b' % (kind.encode(), rest), st.sampled_from(ALL_KINDS), CONTENTS)
"""Bodies that nobody of ours wrote, whose lines get the right check sum."""

SHREDS = st.one_of(
    st.binary(max_size=12),
    st.sampled_from([b"\n", b"\0", b"[", b'["tags",', b",1]", b'["tool_calls",{"start_offset_ms":1,"name":"', b"\r\n"]),
    st.builds(lambda one, start, size: one[start : start + size], st.sampled_from(LINES), st.integers(0, 99),
              st.integers(0, 99)),
)  # fmt: skip
LINE = st.one_of(st.sampled_from(LINES), st.sampled_from(LINES), CRAFTED.map(journal.line))


@st.composite
def mutated(draw: st.DrawFn) -> tuple[list[bytes], bytes]:
    """Draw the lines of two journals, and one file made of both as a failing disk would: bits, cuts, splices."""
    lines = draw(st.lists(LINE, min_size=1, max_size=10))
    data = bytearray(b"".join(lines))
    for _ in range(draw(st.integers(0, 4))):
        kind = draw(st.sampled_from(["flip", "cut", "insert", "repeat", "tear"]))
        place = draw(st.integers(0, max(0, len(data) - 1)))
        size = draw(st.integers(0, 80))
        if kind == "flip" and data:
            data[place] ^= 1 << (size & 7)
        elif kind == "cut":
            del data[place : place + size]
        elif kind == "insert":
            data[place:place] = draw(SHREDS)
        elif kind == "repeat":
            data[place:place] = data[place // 2 : place // 2 + size]
        else:
            del data[max(0, len(data) - size) :]
    return lines, bytes(data)


def bodies_of_items() -> st.SearchStrategy[bytes]:
    """Return bodies of all kinds, made of anything."""
    offsets = st.integers(0, 10_000)
    notes: list[str] = []
    calls = st.builds(
        lambda start, name, parameters, output: items.tool_call(start, name, parameters, output, None, notes),
        *(offsets, TEXTS, ANYTHING, st.just(OMITTED) | ANYTHING),
    )
    events = st.builds(
        lambda start, end, title, tags, data: items.event(start, title, end, None, tags, data, notes),
        *(offsets, st.none() | offsets, TEXTS, st.none() | st.lists(TEXTS), ANYTHING),
    )
    utterances = st.builds(
        lambda start, end, speaker, text: items.utterance(start, end, speaker, text, None, notes),
        *(offsets, offsets, st.sampled_from(["AGENT", "USER"]), TEXTS),
    )
    numbers = st.integers(0, 3)
    return st.one_of(
        st.builds(lambda one: journal.item("tool_calls", one), calls),
        st.builds(lambda one: journal.item("events", one), events),
        st.builds(lambda one: journal.item("recorded_transcript", one), utterances),
        st.builds(lambda number, one: journal.opened(number, "tool_calls", one), numbers, calls),
        st.builds(lambda number, one: journal.done(number, "tool_calls", one), numbers, calls),
        st.builds(journal.dropped, numbers),
        st.builds(lambda tag: journal.item("tags", items.text(tag)), TEXTS | ANYTHING),
        st.builds(lambda data: journal.item("metadata", items.mapping(data)), ANYTHING),
        st.builds(journal.closed, ANYTHING),
    )
