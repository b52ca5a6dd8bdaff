"""Whether a result that was read back holds our report: pure.

First the marker event that every report carries; where the platform does not echo the metadata of events,
the tool calls by name and offset; where there are none, the events by title and offset.
"""

from __future__ import annotations

import json
from collections import Counter
from enum import Enum
from typing import TYPE_CHECKING, Any

from bluejay_ws.delivery.verdict import Answer, Failure, Phase

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["Sight", "look"]

_OK, _NOT_FOUND = 200, 404
_LOCKED_OUT = frozenset({401, 403})
_REDIRECTS = range(300, 400)


class Sight(Enum):
    """What one look at the result showed."""

    FOUND = "found"
    ABSENT = "absent"
    UNCLEAR = "unclear"
    UNREADABLE = "unreadable"
    REFUSED = "refused"


def look(outcome: Answer | Failure, *, report_ids: Iterable[str], sent: bytes) -> Sight:
    """Return what the answer to a GET of the result says about our report.

    Args:
        outcome: what came of the GET.
        report_ids: the report ids of the parts that were posted.
        sent: the body that was posted.
    """
    if isinstance(outcome, Failure):
        refused = outcome.phase in {Phase.CERTIFICATE, Phase.CONFIGURATION}
        return Sight.REFUSED if refused else Sight.UNREADABLE
    if outcome.status in _LOCKED_OUT or outcome.status in _REDIRECTS:
        return Sight.REFUSED
    if outcome.status == _NOT_FOUND:
        return Sight.ABSENT
    result = _result(outcome)
    return Sight.UNREADABLE if result is None else _compare(result, set(report_ids), sent)


def _result(answer: Answer) -> dict[str, Any] | None:
    if answer.status != _OK or not answer.complete:
        return None
    try:
        body = json.loads(answer.body)
    except (ValueError, RecursionError):
        return None
    result = body.get("simulation_result") if isinstance(body, dict) else None
    return result if isinstance(result, dict) else None


def _compare(result: dict[str, Any], report_ids: set[str], sent: bytes) -> Sight:
    events = [event for event in _list(result.get("events")) if isinstance(event, dict)]
    if report_ids & set(_markers(events)):
        return Sight.FOUND
    ours = json.loads(sent)
    expected, actual = _own_tools(ours), _read_tools(result)
    if not expected:
        expected, actual = _titles(ours.get("events")), _titles(events)
    return _overlap(expected, actual)


def _overlap(expected: Counter[tuple[str, object]], actual: Counter[tuple[str, object]]) -> Sight:
    common = (expected & actual).total()
    if not common:
        # A result without offsets cannot tell our items from others of the same name.
        timeless = any((name, None) in actual for name, _ in expected)
        return Sight.UNCLEAR if timeless else Sight.ABSENT
    return Sight.FOUND if common == expected.total() else Sight.UNCLEAR


def _markers(events: list[dict[str, Any]]) -> Iterable[str]:
    for event in events:
        metadata = event.get("metadata")
        ours = metadata.get("bluejay_ws") if isinstance(metadata, dict) else None
        marker = ours.get("report_id") if isinstance(ours, dict) else None
        if isinstance(marker, str):
            yield marker


def _own_tools(report: dict[str, Any]) -> Counter[tuple[str, object]]:
    return Counter((call["name"], call["start_offset_ms"]) for call in report["tool_calls"])


def _read_tools(result: dict[str, Any]) -> Counter[tuple[str, object]]:
    found: Counter[tuple[str, object]] = Counter()
    for group in _list(result.get("tool_calls")):
        name = group.get("name") if isinstance(group, dict) else None
        if isinstance(name, str):
            found.update((name, _offset(call)) for call in _list(group.get("actual")))
    return found


def _titles(events: object) -> Counter[tuple[str, object]]:
    return Counter(
        (event["title"], _offset(event))
        for event in _list(events)
        if isinstance(event, dict) and isinstance(event.get("title"), str)
    )


def _offset(item: object) -> object:
    offset = item.get("start_offset_ms") if isinstance(item, dict) else None
    return offset if type(offset) is int else None  # true is no time, although Python counts with it


def _list(value: object) -> list[Any]:
    return value if isinstance(value, list) else []
