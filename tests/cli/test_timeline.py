"""`bluejay_ws.cli.timeline`: an accepted report as a person reads it."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any

from bluejay_ws.cli.terminal import Terminal
from bluejay_ws.cli.timeline import count_items, show_report

if TYPE_CHECKING:
    from collections.abc import Mapping

REPORT = {
    "simulation_result_id": "720488",
    "tool_calls": [
        {"start_offset_ms": 3_000, "name": "freeze_card", "parameters": {"last4": "4242"}, "output": None},
        {"start_offset_ms": 5_000, "name": "end_call"},
    ],
    "recorded_transcript": [
        {"start_offset_ms": 4_000, "end_offset_ms": 5_500, "speaker": "AGENT", "utterance": "Done. " * 12},
        {"start_offset_ms": 100, "end_offset_ms": 2_900, "speaker": "USER", "utterance": "Freeze \x1bmy card"},
        {
            "start_offset_ms": 2_900,
            "end_offset_ms": 2_900,
            "speaker": "AGENT",
            "utterance": "Hm",
            "filler_utterance": True,
        },
    ],
    "events": [
        {"start_offset_ms": 3_500, "title": "Handed over", "description": "to Ann", "tags": ["transfer", "vip"]},
        {
            "start_offset_ms": 6_000,
            "title": "Connection closed",
            "metadata": {"line": 2, "bluejay_ws": {"close_code": 1000, "close_reason": "", "marks": 0}},
        },
    ],
    "tags": ["vip", "card"],
    "metadata": {"tier": "gold"},
    "trace_ids": ["abc"],
}


def shown(report: Mapping[str, Any]) -> list[str]:
    """Return the lines that a report takes."""
    out = io.StringIO()
    show_report(report, Terminal(out, width=80))
    return out.getvalue().splitlines()


def test_a_report_is_a_timeline() -> None:
    """Facts of the call first, then everything in order of time: who, what, parameters, output."""
    assert shown(REPORT) == [
        "  tags        vip, card",
        "  trace_ids   abc",
        '  metadata    {"tier": "gold"}',
        "   0.10 -   2.90  caller  Freeze \ufffdmy card",
        "   2.90           agent   Hm (filler)",
        "   3.00           tool    freeze_card",
        '                          parameters  {"last4": "4242"}',
        "                          output      null",
        "   3.50           event   Handed over #transfer #vip",
        "                          to Ann",
        "   4.00 -   5.50  agent   Done. Done. Done. Done. Done. Done. Done. Done. Done.",
        "                          Done. Done. Done.",
        "   5.00           tool    end_call",
        "   6.00           event   Connection closed",
        "                          line=2, close_code=1000",
    ]


def test_no_line_is_wider_than_eighty_columns() -> None:
    """Long words, parameters and names wrap."""
    wide = {"start_offset_ms": 1, "name": "n" * 300, "parameters": {"k": "v" * 300}, "output": "word " * 100}
    assert max(len(line) for line in shown({"tool_calls": [wide]})) <= 80


def test_an_empty_report_is_empty() -> None:
    """Null and missing lists are as good as empty ones."""
    assert shown({"tool_calls": [], "events": None}) == []


def test_the_items_are_counted_in_words() -> None:
    """One is singular, nothing is zero."""
    assert count_items(REPORT) == "2 tool calls, 3 utterances, 2 events"
    assert count_items({"tool_calls": [{}]}) == "1 tool call, 0 utterances, 0 events"


def test_what_repeats_is_one_line_with_a_count() -> None:
    """A hundred equal events are two lines, wherever they stand; other parameters are another call."""
    errors = [{"start_offset_ms": at, "title": "Session error"} for at in range(100)]
    calls = [{"start_offset_ms": 50 + at, "name": "f", "parameters": {"n": at // 2}} for at in range(60, 63)]
    assert shown({"events": errors, "tool_calls": calls}) == [
        "   0.00           event   Session error",
        "                          ... 99 more times",
        "   0.11           tool    f",
        '                          parameters  {"n": 30}',
        "                          ... 1 more time",
        "   0.11           tool    f",
        '                          parameters  {"n": 31}',
    ]
