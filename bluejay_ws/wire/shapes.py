"""Whether a body of the journal says what one of its kind says: a right check sum alone does not make a line ours.

Lines come from disk, and a report is put together from them as they stand. One that is no JSON, or not of its kind's
shape, would have the platform refuse the whole report.
"""

from __future__ import annotations

import re
import sys
from typing import TYPE_CHECKING, Any, Final

from pydantic_core import from_json

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["is_ours"]

_BODY = re.compile(rb'\["([a-z_]+)",(.*)', re.DOTALL)
_OPEN = re.compile(rb'[0-9]{1,18},("(?:tool_calls|events|recorded_transcript)",.*)', re.DOTALL)
_DROP = re.compile(rb"[0-9]{1,18}")
_START = re.compile(rb'\{"start_offset_ms":([0-9]{1,18}),"')
_PERHAPS_HUGE = re.compile(rb"[0-9][eE]\+?[0-9]{3}|[0-9]{308}")
_SPEAKERS = ("AGENT", "USER")
_LARGEST = 2**63
_ABSENT: Final = object()


def is_ours(body: bytes) -> bool:
    """Return whether a body can go into a report, or be acted on, as it is; kinds that are not known pass."""
    found = _BODY.fullmatch(body)
    if found is None:
        return False
    kind, rest = found[1].decode(), found[2]
    if kind in {"open", "done"}:
        inner = _OPEN.fullmatch(rest)
        return inner is not None and is_ours(b"[" + inner[1])
    if kind == "drop":
        return _DROP.fullmatch(rest) is not None
    check = _CHECKS.get(kind)
    return check is None or check(rest)


def _loaded(data: bytes) -> Any:
    """Return what strict JSON says; None where it is none, or holds a number that no double can."""
    try:
        value = from_json(data, allow_inf_nan=False)
    except ValueError:
        return None
    return value if _PERHAPS_HUGE.search(data) is None or _fits_doubles(value) else None


def _fits_doubles(value: Any) -> bool:
    if isinstance(value, dict):
        return all(_fits_doubles(inner) for inner in value.values())
    if isinstance(value, list):
        return all(_fits_doubles(inner) for inner in value)
    if isinstance(value, int | float):
        return -sys.float_info.max <= value <= sys.float_info.max
    return True


def _is_text(data: bytes) -> bool:
    return data.startswith(b'"') and isinstance(_loaded(data), str)


def _is_object(data: bytes) -> bool:
    return data.startswith(b"{") and data.endswith(b"}") and isinstance(_loaded(data), dict)


def _is_facts(data: bytes) -> bool:
    """Return whether this is an object of which every number can be calculated with."""
    known = _loaded(data)
    return isinstance(known, dict) and all(_usual(value) for value in known.values())


def _usual(value: object) -> bool:
    return not isinstance(value, int) or -_LARGEST <= value < _LARGEST


def _is_tool_call(data: bytes) -> bool:
    item = _item(data)
    return (
        item is not None
        and isinstance(item.get("name"), str)
        and _maybe(item, "description", str)
        and _maybe(item, "parameters", dict)
    )


def _is_event(data: bytes) -> bool:
    item = _item(data)
    return (
        item is not None
        and isinstance(item.get("title"), str)
        and _maybe(item, "end_offset_ms", int)
        and _maybe(item, "description", str)
        and _maybe(item, "metadata", dict)
        and _maybe(item, "tags", list)
        and all(isinstance(tag, str) for tag in item.get("tags") or ())
    )


def _is_utterance(data: bytes) -> bool:
    item = _item(data)
    return (
        item is not None
        and type(item.get("end_offset_ms")) is int
        and item.get("speaker") in _SPEAKERS
        and isinstance(item.get("utterance"), str)
        and _maybe(item, "filler_utterance", bool)
    )


def _item(data: bytes) -> dict[str, Any] | None:
    """Return an item that begins with its offset, as all of ours do: they are sorted by it without being parsed."""
    start = _START.match(data)
    item = _loaded(data) if start is not None else None
    return item if start is not None and isinstance(item, dict) and item["start_offset_ms"] == int(start[1]) else None


def _maybe(item: dict[str, Any], key: str, kind: type) -> bool:
    value = item.get(key, _ABSENT)
    return value is _ABSENT or value is None or type(value) is kind


_CHECKS: dict[str, Callable[[bytes], bool]] = {
    "call": _is_facts,
    "close": _is_facts,
    "delivery": _is_facts,
    "bind": _is_text,
    "tags": _is_text,
    "trace_ids": _is_text,
    "metadata": _is_object,
    "tool_calls": _is_tool_call,
    "events": _is_event,
    "recorded_transcript": _is_utterance,
}
