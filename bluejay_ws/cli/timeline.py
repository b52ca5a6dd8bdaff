"""An accepted report, as a person reads it: one line of time, who, what."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from bluejay_ws.cli.terminal import clean, plural

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from bluejay_ws.cli.terminal import Terminal

SPEAKERS = {"USER": ("caller", "cyan"), "AGENT": ("agent", "green")}
INDENT = " " * 26
KEY = f"{INDENT}{{:<12}}"
COUNTS = {  # of frames and the like: for scripts, and for the platform
    *("report_id", "version", "server", "text_frames", "unreadable_text_frames", "oversized_text_frames"),
    *("user_frames", "user_audio_ms", "agent_frames", "agent_audio_ms", "marks_sent", "marks_echoed"),
}


def show_report(report: Mapping[str, Any], terminal: Terminal) -> None:
    """Write the whole report: what belongs to the call, then everything that happened, in order of time.

    What is repeated with nothing in between is one line with a count.
    """
    for key in ("tags", "trace_ids"):
        if report.get(key):
            terminal.wrapped(f"  {key:<12}", ", ".join(report[key]))
    if report.get("metadata"):
        terminal.wrapped(f"  {'metadata':<12}", _json(report["metadata"]))
    repeats, last = 0, None
    items = [(show, item) for kind, show in SHOWN.items() for item in report.get(kind) or []]
    for show, item in sorted(items, key=lambda pair: pair[1]["start_offset_ms"]):
        same = show, {key: value for key, value in item.items() if not key.endswith("_offset_ms")}
        if same == last:
            repeats += 1
            continue
        _show_repeats(repeats, terminal)
        repeats, last = 0, same
        show(item, terminal)
    _show_repeats(repeats, terminal)


def _show_repeats(times: int, terminal: Terminal) -> None:
    if times:
        terminal.say(f"{INDENT}... {plural(times, 'more time')}")


def count_items(report: Mapping[str, Any]) -> str:
    """Return how much the report holds, in words."""
    counts = {
        "tool call": len(report.get("tool_calls") or []),
        "utterance": len(report.get("recorded_transcript") or []),
        "event": len(report.get("events") or []),
    }
    return ", ".join(f"{count} {name}{'' if count == 1 else 's'}" for name, count in counts.items())


def _utterance(item: Mapping[str, Any], terminal: Terminal) -> None:
    who, style = SPEAKERS[item["speaker"]]
    filler = " (filler)" if item.get("filler_utterance") else ""
    _line(item, who, item["utterance"] + filler, terminal, style)


def _tool_call(item: Mapping[str, Any], terminal: Terminal) -> None:
    _line(item, "tool", item["name"], terminal, "yellow")
    for key in ("parameters", "output"):
        if key in item:
            terminal.wrapped(KEY.format(key), _json(item[key]), style="dim")


def _event(item: Mapping[str, Any], terminal: Terminal) -> None:
    tags = " ".join(f"#{tag}" for tag in item.get("tags") or [])
    _line(item, "event", f"{item['title']} {tags}".rstrip(), terminal, "dim")
    if item.get("description"):
        terminal.wrapped(INDENT, item["description"])
    facts = [f"{key}={value if isinstance(value, str) else _json(value)}" for key, value in _facts(item)]
    if facts:
        terminal.wrapped(INDENT, ", ".join(facts))


SHOWN = {"recorded_transcript": _utterance, "tool_calls": _tool_call, "events": _event}


def _facts(item: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """Yield an event's metadata; of the library's own notes, what a person asks for."""
    for key, value in (item.get("metadata") or {}).items():
        if key == "bluejay_ws" and isinstance(value, dict):
            yield from ((name, note) for name, note in value.items() if note and name not in COUNTS)
        else:
            yield key, value


def _line(item: Mapping[str, Any], who: str, text: str, terminal: Terminal, style: str) -> None:
    start, end = item["start_offset_ms"], item.get("end_offset_ms")
    until = "" if end is None or end == start else f"- {end / 1000:6.2f}"
    terminal.wrapped(f"{start / 1000:7.2f} {until:<8}  {who:<6}  ", clean(text), style=style)


def _json(value: object) -> str:
    return json.dumps(value, ensure_ascii=False)
