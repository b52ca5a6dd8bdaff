"""Journals that anybody may have written: what is sound is kept, nothing is invented, and the report is valid."""

from __future__ import annotations

import json
import math
from collections import Counter
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from bluejay_ws.wire import journal
from bluejay_ws.wire.journal import is_ours
from tests.testing.published import problems
from tests.wire.journals import BODIES, CRAFTED, LINES, SHREDS, mutated

ITEM_KINDS = ("tool_calls", "events", "recorded_transcript")
TEXT_KINDS = ("tags", "trace_ids")
OUR_EVENTS = ("Connection closed", "Reconnected")


def recorded(bodies: list[bytes]) -> dict[str, list[Any]]:
    """Return by kind what sound lines hold, read by nothing of the package."""
    found: dict[str, list[Any]] = {kind: [] for kind in (*ITEM_KINDS, *TEXT_KINDS)}
    for body in bodies:
        kind, rest = _parts(body[1:])
        if kind in {"open", "done"}:
            kind, rest = _parts(rest.split(b",", 1)[1]) if b"," in rest else ("", b"")
        if kind in found:
            found[kind].append(json.loads(rest))
    return found


def _parts(data: bytes) -> tuple[str, bytes]:
    """Return the first word of a body, and what is behind it."""
    word, _, rest = data.partition(b",")
    return json.loads(word), rest


def check_report(data: bytes, bodies: list[bytes]) -> None:
    """Check that a report is valid, and that each item of it stands in one of the lines."""
    report = json.loads(data, parse_constant=lambda constant: 1 / 0)
    assert problems(report) == []
    known = recorded(bodies)
    for kind in (*ITEM_KINDS, *TEXT_KINDS):
        for item in report.get(kind, []):
            assert item in known[kind] or (kind == "events" and item["title"] in OUR_EVENTS)


@given(mutated())
def test_lines_that_are_whole_survive_what_happened_to_the_others(file: tuple[list[bytes], bytes]) -> None:
    """After flipped bits, cuts and splices: every line that still stands there is read, and nothing that never did."""
    lines, data = file
    parsed = journal.parse(data)
    sound = {line[:-1] for line in lines if is_ours(line[: line.rindex(b",")])}
    standing = Counter(line for line in data.split(b"\n")[:-1] if line in sound)
    read = Counter(journal.line(body)[:-1] for body in parsed.bodies)
    assert standing <= read
    assert set(read) <= sound
    assert all(line in data for line in read)
    assert b"\n" not in parsed.torn
    assert journal.parse(b"".join(map(journal.line, parsed.bodies))) == (parsed.bodies, [], b"")


@given(st.lists(st.tuples(st.sampled_from(range(len(LINES))), st.lists(SHREDS, max_size=3)), max_size=12))
def test_sound_lines_keep_their_order_among_others(pieces: list[tuple[int, list[bytes]]]) -> None:
    """Between foreign lines of any kind, ours are read in the order in which they stand."""
    data = b""
    for number, shreds in pieces:
        foreign = b"".join(shreds)
        data += (foreign + b"\n" if foreign else b"") + LINES[number]
    bodies = iter(journal.parse(data).bodies)
    assert all(any(BODIES[number] == body for body in bodies) for number, _ in pieces)


@given(st.lists(mutated(), min_size=1, max_size=3), st.none() | st.integers(0, 100))
def test_the_report_of_any_files_is_valid(files: list[tuple[list[bytes], bytes]], output_limit: int | None) -> None:
    """Whatever is in the files of a call: what is posted is what the schema asks for, and holds nothing that is new."""
    parts = [journal.parse(data).bodies for _, data in files]
    data = journal.assemble(parts, simulation_result_id="720488", output_limit=output_limit)
    if output_limit is None:
        check_report(data, [body for bodies in parts for body in bodies])
    else:
        assert problems(json.loads(data)) == []


@given(st.lists(CRAFTED | st.sampled_from(BODIES), max_size=10))
def test_a_right_check_sum_does_not_spoil_a_report(bodies: list[bytes]) -> None:
    """Lines of any shape, each with its right sum: those that fit are in the report, the others are set aside."""
    parsed = journal.parse(b"".join(map(journal.line, bodies)))
    assert parsed.bodies == [body for body in bodies if b"\n" not in body and is_ours(body)]
    check_report(journal.assemble([parsed.bodies], simulation_result_id="1"), parsed.bodies)


@given(mutated())
def test_the_facts_of_any_file_can_be_worked_with(file: tuple[list[bytes], bytes]) -> None:
    """Whatever the file says of its call: texts are texts, and times are numbers to calculate with."""
    facts = journal.facts(journal.parse(file[1]).bodies)
    assert math.isfinite(facts.started_at)
    assert isinstance(facts.report_id, str)
    assert facts.simulation_result_id != ""
    assert all(isinstance(fact, dict | None) for fact in (facts.closed, facts.delivery))
    for value in [*(facts.delivery or {}).values(), *(facts.closed or {}).values()]:
        assert not isinstance(value, int | float) or math.isfinite(float(value))
    assert all(count > 0 for count in facts.counts.values())
