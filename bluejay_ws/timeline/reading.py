"""Read a report of any origin into plain items: what is missing or wrong in it is left out and counted.

The page has to open for what went wrong, so nothing here refuses a report: not the body of
``POST /v1/update-simulation-result``, not what reading back answers (tools in groups, with what was expected), not half
of either.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from bluejay_ws.results import dicts_in
from bluejay_ws.tools import MOCKED

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

Facts = dict[str, Any]

LONGEST_TEXT = 20_000  # characters of one text, and of one item's details, that the page holds
LARGEST = 7 * 24 * 3_600_000  # milliseconds: what lies further away than a week is no place in a call
_TURNS = dict.fromkeys((*range(0x202A, 0x202F), *range(0x2066, 0x206A)))  # they would turn the page's own words too
REPEATED = 3  # so many equal events in a row become one
TIMES_KEPT = 50
KINDS = {
    "Caller interrupted the agent": "interruption",
    "Agent interrupted the caller": "interruption",
    "Response latency": "latency",
    "Long silence": "silence",
    "Session error from the platform": "error",
    "Session error from the agent": "error",
    "Error of the model's service": "error",
    "Connection closed": "close",
}
"""What the library's own events are; others are recognised by their facts and tags."""
LEFT = {
    "cancelled": "was cancelled",
    "interrupted": "had not answered when the call ended",
    "denied": "was denied",
    "blocked": "was blocked",
}
"""What became of a tool that did not answer, by its status."""
FAILED_WORDS = ("failed", "error", "timed_out", "timeout")
DENIALS = {"success": False, "ok": False, "isError": True, "is_error": True}
"""How a tool that returned says that it did not do its work."""


@dataclass(slots=True)
class Item:
    """One thing that happened, in milliseconds since the handshake.

    Attributes:
        kind: ``caller``, ``agent``, ``tool``, ``event``, ``latency``, ``interruption``, ``silence``, ``error`` or
            ``close``.
        end: None where it takes no time or nobody wrote it down.
        text: the words, the tool's name or the event's title.
        count: how many equal events this stands for.
        problem: what is wrong with it, in words; empty when nothing is.
    """

    kind: str
    start: float
    end: float | None
    text: str
    facts: Facts = field(default_factory=dict)
    count: int = 1
    problem: str = ""

    @property
    def until(self) -> float:
        """Return the end, or the start of what takes no time."""
        return self.start if self.end is None else self.end

    @property
    def is_mocked(self) -> bool:
        """Return whether a stand-in ran in the place of a tool; see `bluejay_ws.simulated_tools`."""
        return self.kind == "tool" and str(self.facts.get("description")).startswith(MOCKED)


@dataclass(slots=True, kw_only=True)
class Call:
    """Everything that a report says, in order of time.

    Attributes:
        closing: how the connection ended and what was counted, as the library noted it.
        expected: the tools that the simulation expected, by name; None where that is not known.
        unreadable: how many items could not be read.
    """

    simulation_result_id: str
    items: list[Item]
    closing: Facts
    expected: dict[str, list[Facts]] | None
    unreadable: int
    tags: list[str]
    trace_ids: list[str]
    metadata: Facts

    @property
    def duration(self) -> float:
        """Return the end of what ends last, in milliseconds."""
        return max((item.until for item in self.items), default=0.0)

    def of(self, *kinds: str) -> list[Item]:
        """Return the items of these kinds, in order of time."""
        return [item for item in self.items if item.kind in kinds]


def read(report: object, *, expected: Mapping[str, Any] | None = None) -> Call:
    """Return what the report's parsed JSON says; anything that is no report is an empty one.

    Tools that were ``expected`` stand by name, each with a list of its calls (``{"parameters": ..., "output": ...}``);
    default: those in a report that was read back from the platform.
    """
    body = _body(report)
    reading = _Reading()
    items = [
        *reading.utterances(body),
        *reading.tools(body.get("tool_calls")),
        *_collapsed(reading.events(body.get("events"))),
    ]
    items.sort(key=lambda item: (item.start, item.until))
    wanted = reading.expected if expected is None else {str(name): dicts_in(calls) for name, calls in expected.items()}
    return Call(
        simulation_result_id=_text(body.get("simulation_result_id", body.get("id"))),
        items=items,
        closing=reading.closing,
        expected=wanted,
        unreadable=reading.unreadable,
        tags=_texts(body.get("tags")),
        trace_ids=_texts(body.get("trace_ids")),
        metadata=_rest(_object(body.get("metadata"))),
    )


def seconds(ms: float) -> str:
    """Return a length of time as a person says it: ``0.4 s``, ``12 s``, ``2 min 5 s``."""
    if ms < 10_000:
        return f"{ms / 1000:.1f} s"
    whole = round(ms / 1000)
    return f"{whole} s" if whole < 120 else f"{whole // 60} min {whole % 60} s"


class _Reading:
    """Read the parts of one body; remember what could not be read, and what is said only once."""

    def __init__(self) -> None:
        self.unreadable = 0
        self.closing: Facts = {}
        self.expected: dict[str, list[Facts]] | None = None

    def utterances(self, body: Facts) -> Iterator[Item]:
        for facts in self._each(body.get("recorded_transcript", body.get("transcript"))):
            start = number_of(facts.get("start_offset_ms"))
            speaker = {"USER": "caller", "AGENT": "agent"}.get(_text(facts.get("speaker")).upper())
            if start is None or speaker is None:
                self.unreadable += 1
                continue
            rest = _rest(facts, "start_offset_ms", "end_offset_ms", "speaker", "utterance")
            yield Item(speaker, start, _end(facts, start), _text(facts.get("utterance")), rest)

    def tools(self, value: object) -> Iterator[Item]:
        for facts in self._each(value):
            if isinstance(facts.get("actual"), list) or isinstance(facts.get("expected"), list):
                yield from self._group(facts)
            else:
                yield from self._tool(facts, _text(facts.get("name", facts.get("tool_name"))))

    def _group(self, facts: Facts) -> Iterator[Item]:
        name = _text(facts.get("name"))
        self.expected = self.expected or {}
        if facts.get("expected"):
            self.expected[name] = dicts_in(facts["expected"])
        for actual in self._each(facts.get("actual")):
            yield from self._tool(actual, name)

    def _tool(self, facts: Facts, name: str) -> Iterator[Item]:
        start = number_of(facts.get("start_offset_ms"))
        if start is None or not name:
            self.unreadable += 1
            return
        rest = _rest(facts, "start_offset_ms", "end_offset_ms", "name", "tool_name")
        yield Item("tool", start, _end(facts, start), name, rest, problem=_failure(facts.get("output")))

    def events(self, value: object) -> Iterator[Item]:
        for facts in self._each(value):
            start = number_of(facts.get("start_offset_ms"))
            title = _text(facts.get("title", facts.get("event_type")))
            if start is None or not title:
                self.unreadable += 1
                continue
            kind = _kind(title, facts)
            notes = _object(facts.get("metadata")).get("bluejay_ws")
            if isinstance(notes, dict) and (kind == "close" or "outcome" in notes):
                self.closing = _rest(notes)
            yield Item(
                kind, start, _end(facts, start), title, _rest(facts, "start_offset_ms", "end_offset_ms", "title")
            )

    def _each(self, value: object) -> Iterator[Facts]:
        for facts in value if isinstance(value, list) else []:
            if isinstance(facts, dict):
                yield facts
            else:
                self.unreadable += 1


def _body(report: object) -> Facts:
    body = _object(report)
    inner = body.get("simulation_result")
    return inner if isinstance(inner, dict) else body


def _kind(title: str, facts: Facts) -> str:
    if title in KINDS:
        return KINDS[title]
    tags = _texts(facts.get("tags"))
    notes = _object(facts.get("metadata"))
    if "interruption" in tags or ("interrupted" in title.lower() and "overlap_ms" in notes):
        return "interruption"
    if "latency_ms" in notes:
        return "latency"
    says_so = title.lower().startswith(("error", "response failed", "transcription failed"))
    return "error" if "error" in tags or says_so else "event"


def _failure(output: object) -> str:
    """Return what a tool's output says of its failure, in words; empty when it says nothing of one."""
    if isinstance(output, str):
        if output.lower().startswith(("error:", "traceback (most recent call last)")):
            return f"failed: {_short(output)}"
        output = _decoded(output)
    if not isinstance(output, dict):
        return ""
    status = _text(output.get("status")).lower()
    if status in LEFT:
        return LEFT[status]
    error = output.get("error")
    denied = any(output.get(key) is value for key, value in DENIALS.items())
    if status not in FAILED_WORDS and not error and not denied:
        return ""
    words = [word for word in (_short(error), _short(output.get("message"))) if word]
    return f"failed: {': '.join(words)}" if words else "failed"


def _decoded(text: str) -> object:
    """Return what stands in text that is JSON, as models get a tool's output; None for other text."""
    try:
        return json.loads(text) if text.lstrip().startswith("{") else None
    except (ValueError, RecursionError):
        return None


def _short(value: object) -> str:
    if value is None or isinstance(value, bool):
        return ""
    text = (value if isinstance(value, str) else _json(value).rstrip()).translate(_TURNS)
    return text if len(text) <= 160 else f"{text[:157]}..."


def _collapsed(events: Iterator[Item]) -> list[Item]:
    """Return the events with each run of equal ones as one that counts them."""
    others: list[Item] = []
    runs: list[list[Item]] = []
    for event in sorted(events, key=lambda item: item.start):
        if event.kind not in ("event", "error"):
            others.append(event)
        elif runs and _alike(runs[-1][0], event):
            runs[-1].append(event)
        else:
            runs.append([event])
    return others + [item for run in runs for item in ([_one(run)] if len(run) >= REPEATED else run)]


def _alike(one: Item, other: Item) -> bool:
    def told(item: Item) -> list[object]:
        notes = _object(item.facts.get("metadata")) if item.kind == "error" else {}
        facts = [item.facts.get("description"), item.facts.get("tags"), notes.get("code"), notes.get("message")]
        return [item.kind, item.text, *facts]

    return told(one) == told(other)


def _one(run: list[Item]) -> Item:
    first, last = run[0], run[-1]
    times = [item.start for item in run[:TIMES_KEPT]]
    return Item(
        first.kind, first.start, max(last.until, first.start), first.text, {**first.facts, "times_ms": times}, len(run)
    )


def _end(facts: Facts, start: float) -> float | None:
    end = number_of(facts.get("end_offset_ms"))
    if end is None:
        length = number_of(facts.get("duration_ms"))
        end = None if length is None else start + length
    return None if end is None or end < start else end


def _rest(facts: Facts, *known: str) -> Facts:
    """Return what else an item says, shortened where it is longer than a page can bear."""
    rest = {str(key): value for key, value in facts.items() if key not in known and value is not None}
    if len(_json(rest)) <= LONGEST_TEXT:
        return rest
    return {key: _shortened(value) for key, value in rest.items()}


def _json(value: object) -> str:
    try:
        return json.dumps(value, ensure_ascii=False, default=str)
    except (RecursionError, ValueError, TypeError):
        return "nested too deeply".ljust(LONGEST_TEXT + 1)


def _shortened(value: object) -> object:
    text = value if isinstance(value, str) else _json(value)
    if len(text) <= LONGEST_TEXT // 4:
        return value
    return f"{text[: LONGEST_TEXT // 4]}... ({len(text):,} characters)"


def number_of(value: object) -> float | None:
    """Return a place or a length in a call, in milliseconds; None for what is none."""
    usable = isinstance(value, int | float) and not isinstance(value, bool) and -LARGEST <= value <= LARGEST
    return value if usable else None  # type: ignore[return-value]


def _text(value: object) -> str:
    if value is None:
        return ""
    text = (value if isinstance(value, str) else _json(value).rstrip()).translate(_TURNS)
    return text if len(text) <= LONGEST_TEXT else f"{text[:LONGEST_TEXT]}... ({len(text):,} characters)"


def _texts(value: object) -> list[str]:
    return [_text(entry) for entry in value] if isinstance(value, list) else []


def _object(value: object) -> Facts:
    return value if isinstance(value, dict) else {}
