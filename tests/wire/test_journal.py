"""The journal's lines: written with a sum, read in any state."""

from __future__ import annotations

import json
import zlib
from itertools import product
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bluejay_ws.wire import items, journal
from tests.wire.hostile import ANYTHING

BODIES = [
    journal.header(report_id="r1", simulation_result_id="720488", started_at=1790000000.5, version="0.1.0"),
    journal.item("tool_calls", b'{"start_offset_ms":1,"name":"a","output":[["tags","x"]]}'),
    journal.opened(7, "events", b'{"start_offset_ms":2,"title":"b"}'),
    journal.item("tags", b'"vip"'),
    journal.done(7, "events", b'{"start_offset_ms":2,"end_offset_ms":3,"title":"b"}'),
    journal.item(
        "recorded_transcript", '{"start_offset_ms":2,"end_offset_ms":2,"speaker":"USER","utterance":"é\\n"}'.encode()
    ),
    journal.closed({"close_code": 1000}),
]
LINES = [journal.line(body) for body in BODIES]
DATA = b"".join(LINES)


def test_a_line_is_its_body_with_a_sum() -> None:
    """A line is one JSON array whose last element is the CRC-32 of what stands before it."""
    line = journal.line(b'["tags","vip"')
    assert line == b'["tags","vip",%d]\n' % zlib.crc32(b'["tags","vip"')
    assert json.loads(line) == ["tags", "vip", zlib.crc32(b'["tags","vip"')]


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (journal.item("tool_calls", b"{}"), ["tool_calls", {}]),
        (journal.item("events", b"{}"), ["events", {}]),
        (journal.item("recorded_transcript", b"{}"), ["recorded_transcript", {}]),
        (journal.item("tags", b'"x"'), ["tags", "x"]),
        (journal.item("trace_ids", b'"x"'), ["trace_ids", "x"]),
        (journal.item("metadata", b"{}"), ["metadata", {}]),
        (journal.opened(7, "tool_calls", b"{}"), ["open", 7, "tool_calls", {}]),
        (journal.done(7, "tool_calls", b"{}"), ["done", 7, "tool_calls", {}]),
        (journal.dropped(7), ["drop", 7]),
        (journal.bound("720488"), ["bind", "720488"]),
        (journal.header(report_id="r", started_at=1.5), ["call", {"report_id": "r", "started_at": 1.5}]),
        (journal.closed({"close_code": 1000}), ["close", {"close_code": 1000}]),
        (journal.delivery({"attempts": 2}), ["delivery", {"attempts": 2}]),
    ],
)
def test_every_body_makes_a_line_of_json(body: bytes, expected: list[Any]) -> None:
    """A person can read the file with any tool that reads JSON Lines."""
    line = journal.line(body)
    assert line.endswith(b"]\n")
    assert line.count(b"\n") == 1
    assert json.loads(line)[:-1] == expected


@given(ANYTHING, ANYTHING)
def test_any_fact_fits_into_a_line(name: Any, output: Any) -> None:
    """Whatever is recorded, the line that keeps it is one line and is read back as it was written."""
    notes: list[str] = []
    bodies = [
        journal.item("tool_calls", items.tool_call(1, name, output, output, None, notes)),
        journal.bound(name),
        journal.closed({"reason": output}),
    ]
    data = b"".join(map(journal.line, bodies))
    assert data.count(b"\n") == 3
    assert journal.parse(data) == (bodies, [], b"")


def test_what_was_written_is_read() -> None:
    """A whole journal has its bodies, in order, and nothing else."""
    assert journal.parse(DATA) == (BODIES, [], b"")
    assert journal.parse(b"") == ([], [], b"")


def test_a_torn_journal_loses_its_last_line_only() -> None:
    """Wherever the writing ends, whole lines are sound, and the rest is torn, not damaged."""
    for size in range(len(DATA)):
        parsed = journal.parse(DATA[:size])
        assert parsed.bodies == BODIES[: len(parsed.bodies)]
        assert parsed.damaged == []
        assert b"".join(map(journal.line, parsed.bodies)) + parsed.torn == DATA[:size]
        assert b"\n" not in parsed.torn


def test_a_flipped_bit_damages_its_own_line_only() -> None:
    """Whichever bit of the file turns over, every other line is read, and the damaged one is kept apart."""
    starts = [sum(map(len, LINES[:number])) for number in range(len(LINES) + 1)]
    for place, bit in product(range(len(DATA)), [1 << number for number in range(8)]):
        data = bytearray(DATA)
        data[place] ^= bit
        parsed = journal.parse(bytes(data))
        hit = next(number for number in range(len(LINES)) if starts[number + 1] > place)
        others = [body for number, body in enumerate(BODIES) if number != hit]
        if place == starts[hit + 1] - 1 and hit < len(LINES) - 1:  # the line end: both lines are whole
            assert parsed.bodies == BODIES
            assert parsed.damaged == [bytes([ord("\n") ^ bit])]
        else:
            assert parsed.bodies == others
            assert parsed.damaged or parsed.torn
        assert sum(map(len, [*parsed.damaged, parsed.torn])) <= len(LINES[hit])


def test_two_bits_in_two_lines_damage_two_lines() -> None:
    """Damage does not spread."""
    data = bytearray(DATA)
    data[len(LINES[0]) + 30] ^= 1
    data[-10] ^= 4
    parsed = journal.parse(bytes(data))
    assert parsed.bodies == [BODIES[0], *BODIES[2:-1]]
    assert len(parsed.damaged) == 2


def test_a_line_glued_to_a_torn_one_is_saved() -> None:
    """After a short write, the next line begins in the middle of nowhere and is sound all the same."""
    parsed = journal.parse(LINES[0] + LINES[1][:30] + LINES[2] + LINES[3])
    assert parsed.bodies == [BODIES[0], BODIES[2], BODIES[3]]
    assert parsed.damaged == [LINES[1][:30]]


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b" ",
        b"null",
        b"[]",
        b"{}",
        b'["tags","vip"]',
        b'["tags","vip",]',
        b'["tags","vip",1]',
        b'["tags","vip",+1]',
        b'["tags","vip",%d' % zlib.crc32(b'["tags","vip"'),
        b'["tags","vip",%d]  ' % zlib.crc32(b'["tags","vip"'),
        b'["tags","vip",0%d]' % zlib.crc32(b'["tags","vip"'),
        b'["tags","vip", %d]' % zlib.crc32(b'["tags","vip"'),
        b'["tags","vip",%d]' % (zlib.crc32(b'["tags","vip"') + 2**32),
        b'["tags","vip",99999999999999999999999999]',
        b'["Tags","vip",%d]' % zlib.crc32(b'["Tags","vip"'),
        b'["tags","vip",' + b"9" * 100_000 + b"]",
    ],
    ids=lambda line: repr(line[:30]),
)
def test_a_line_of_another_shape_is_damaged(line: bytes) -> None:
    """Foreign lines, wrong sums and other spellings of a right one are set aside, once each."""
    parsed = journal.parse(LINES[0] + line + b"\n" + LINES[1])
    assert parsed.bodies == BODIES[:2]
    assert parsed.damaged == [line]


def test_a_kind_that_is_not_known_yet_is_sound() -> None:
    """A later version may write lines that this one only passes on."""
    body = b'["later_kind",{"a":1}'
    assert journal.parse(journal.line(body)).bodies == [body]


def test_a_line_beyond_any_limit_is_damaged() -> None:
    """A line of more than 8 MiB is none of ours, even if its sum is right."""
    within = b'["tags","%b"' % (b"x" * (journal.LINE_LIMIT - 30))
    beyond = b'["tags","%b"' % (b"x" * journal.LINE_LIMIT)
    parsed = journal.parse(journal.line(within) + journal.line(beyond))
    assert parsed.bodies == [within]
    assert len(parsed.damaged) == 1


@given(st.binary(max_size=300))
def test_any_bytes_can_be_read(data: bytes) -> None:
    """Nothing is raised and no byte is lost but line ends."""
    parsed = journal.parse(data)
    assert parsed.bodies == []
    assert b"".join(parsed.damaged) + parsed.torn == data.replace(b"\n", b"")


@given(
    st.lists(
        st.sampled_from([*LINES, *(line[:-1] for line in LINES), b"\n", b'["tags",', b",1]", b'["', b"\0"])
        | st.binary(max_size=8),
        max_size=20,
    )
)
def test_any_heap_of_lines_can_be_read(pieces: list[bytes]) -> None:
    """What is read of a heap of lines and shreds is nothing but whole lines, and is read again as it is."""
    parsed = journal.parse(b"".join(pieces))
    assert set(parsed.bodies) <= set(BODIES)
    assert journal.parse(b"".join(map(journal.line, parsed.bodies))) == (parsed.bodies, [], b"")
    journal.facts(parsed.bodies)
    journal.assemble([parsed.bodies], simulation_result_id="1")
