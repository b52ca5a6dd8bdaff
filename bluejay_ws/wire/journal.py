"""The journal of one call: a line of JSON for each fact, each with its check sum, and the report made of them.

::

    ["call",{"report_id":"9f..","simulation_result_id":"720488","started_at":1790000000.123},1234567]
    ["tool_calls",{...},crc]    ["events",{...},crc]    ["recorded_transcript",{...},crc]
    ["tags","vip",crc]    ["trace_ids","..",crc]    ["metadata",{...},crc]
    ["open",7,"tool_calls",{...},crc]    an item as it stands if nothing more is heard of it
    ["done",7,"tool_calls",{...},crc]    replaces what was opened as 7
    ["drop",7,crc]    withdraws it
    ["bind","720488",crc]    ["close",{...},crc]    ["delivery",{...},crc]

A *body* is a line without ``,crc]`` and line end: what the recorder keeps and hands on. Pure: no file is touched here.
"""

from __future__ import annotations

import json
import re
import sys
from dataclasses import dataclass, field
from itertools import islice, product
from typing import TYPE_CHECKING, Any, NamedTuple
from zlib import crc32

from pydantic_core import from_json

from bluejay_ws.wire.encode import cut_json
from bluejay_ws.wire.items import Item, mapping, text

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

__all__ = [
    "ITEM_KINDS",
    "LINE_LIMIT",
    "TEXT_KINDS",
    "CallFacts",
    "Parsed",
    "assemble",
    "bound",
    "closed",
    "delivery",
    "done",
    "dropped",
    "facts",
    "header",
    "is_ours",
    "item",
    "line",
    "opened",
    "own_event",
    "parse",
]

ITEM_KINDS = ("tool_calls", "events", "recorded_transcript")
"""The report's lists of objects that happened at a time."""

TEXT_KINDS = ("tags", "trace_ids")
"""The report's lists of texts."""

_METADATA = "metadata"
_KINDS = (*ITEM_KINDS, *TEXT_KINDS, _METADATA)
_NUMBERED = ("open", "done")
_KIND = re.compile(r"[a-z_]+", re.ASCII)
_OURS = "bluejay_ws"

_OFFSETS = re.compile(rb'\{"start_offset_ms":([0-9]{1,18}),(?:"end_offset_ms":([0-9]{1,18}),)?"')
_decode = json.JSONDecoder().raw_decode

LINE_LIMIT = 8 * 1024 * 1024
"""Bytes beyond which a line is taken for damaged."""

_PREFIXES = {kind: b'["%b",' % kind.encode() for kind in _KINDS}
_LINE_KINDS = (*_PREFIXES, "call", "open", "done", "drop", "bind", "close", "delivery")
_BEGIN = re.compile(rb'\["(?:%b)",' % "|".join(_LINE_KINDS).encode())
_END = re.compile(rb',[0-9]{1,10}\](?=.?(?:\["|\Z))', re.DOTALL)
_MOST_CANDIDATES = 16


class Parsed(NamedTuple):
    """What a journal's bytes hold.

    Attributes:
        bodies: of the sound lines, in order.
        damaged: lines with a wrong sum or shape.
        torn: the last line if its end is missing; a process that dies while it writes leaves one.
    """

    bodies: list[bytes]
    damaged: list[bytes]
    torn: bytes


def line(body: bytes) -> bytes:
    """Return the line for ``body``, with its check sum and line end."""
    return body + b",%d]\n" % crc32(body)


def item(kind: str, encoded: Item) -> bytes:
    """Return the body for one item of the report.

    Args:
        kind: the report's key: ``tool_calls``, ``events``, ``recorded_transcript``, ``tags``, ``trace_ids`` or
            ``metadata``.
        encoded: its JSON, from `items`.
    """
    return _PREFIXES[kind] + encoded


def opened(number: int, kind: str, encoded: Item) -> bytes:
    """Return the body for an item that is not over, as it is to stand if the process dies now."""
    return b'["open",%d,"%b",%b' % (number, kind.encode(), encoded)


def done(number: int, kind: str, encoded: Item) -> bytes:
    """Return the body that replaces what was opened as ``number``."""
    return b'["done",%d,"%b",%b' % (number, kind.encode(), encoded)


def dropped(number: int) -> bytes:
    """Return the body that withdraws what was opened as ``number``."""
    return b'["drop",%d' % number


def bound(simulation_result_id: str) -> bytes:
    """Return the body that says which call this is, where the connect request did not."""
    return b'["bind",' + text(simulation_result_id)


def header(**known: Any) -> bytes:
    """Return the first body of a journal.

    Args:
        **known: ``report_id``, ``simulation_result_id`` (None if not known yet), ``started_at`` (Unix time in
            seconds), ``version``, ``server`` and whatever else helps a reader.
    """
    return b'["call",' + mapping(known)


def closed(known: Mapping[str, Any]) -> bytes:
    """Return the last body that the recorder writes: how the call ended."""
    return b'["close",' + mapping(known)


def delivery(known: Mapping[str, Any]) -> bytes:
    """Return a body of delivery's own notes, which are never part of the report."""
    return b'["delivery",' + mapping(known)


def parse(data: bytes) -> Parsed:
    """Return the sound lines of a journal and what is not; never raises, whatever the bytes are."""
    *lines, torn = data.split(b"\n")
    bodies: list[bytes] = []
    damaged: list[bytes] = []
    for one in lines:
        body = _sound(one)
        if body is not None:
            bodies.append(body)
        else:
            _salvage(one, bodies, damaged)
    return Parsed(bodies, damaged, torn)


def _sound(one: bytes) -> bytes | None:
    body = one[: max(0, one.rfind(b","))] if len(one) <= LINE_LIMIT else b""
    return body if one[len(body) :] == b",%d]" % crc32(body) and is_ours(body) else None


def _salvage(one: bytes, bodies: list[bytes], damaged: list[bytes]) -> None:
    """Save the sound lines in a damaged one: where a line end was damaged or not written, two lines look like one."""
    starts = [found.start() for found in islice(_BEGIN.finditer(one), _MOST_CANDIDATES)]
    ends = [found.end() for found in islice(_END.finditer(one), _MOST_CANDIDATES)]
    read = 0
    for start, end in product(starts, ends):
        body = _sound(one[start:end]) if read <= start < end else None
        if body is not None:
            bodies.append(body)
            damaged += [one[read:start]] if read < start else []
            read = end
    if read < len(one) or not one:
        damaged.append(one[read:])


# -- the report, made of the journals of a call's connections ------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class CallFacts:
    """What a journal says of its call, beside the items.

    Attributes:
        report_id: empty if the first line is lost.
        simulation_result_id: as bound later, else as connected; None if neither.
        started_at: Unix time of the handshake, in seconds; 0.0 if the first line is lost.
        version: of the bluejay_ws that wrote it.
        server: the server family it ran on.
        closed: facts of the end; None if it is missing.
        counts: items by kind, as recorded; what was withdrawn is not among them.
        delivery: what delivery noted last; None if nothing.
        items: by kind, in the order of their start, as `assemble` takes them.
    """

    report_id: str = ""
    simulation_result_id: str | None = None
    started_at: float = 0.0
    version: str = ""
    server: str = ""
    closed: dict[str, Any] | None = None
    counts: dict[str, int] = field(default_factory=dict)
    delivery: dict[str, Any] | None = None
    items: dict[str, list[bytes]] = field(default_factory=dict, repr=False, compare=False)


def facts(bodies: Iterable[bytes]) -> CallFacts:
    """Return what a journal says of its call; what is missing is left at its default.

    Args:
        bodies: as they were recorded, or from `parse`, which leaves out what cannot go into a report.
    """
    said: dict[str, Any] = {}
    entries: dict[int | bytes, tuple[str, bytes]] = {}
    for number, body in enumerate(bodies):
        kind, rest = _split(body)
        if kind in _KINDS:
            entries[number] = kind, rest
        elif kind in _NUMBERED:
            opened_as, kind, encoded = _numbered(rest)
            entries[opened_as] = kind, encoded
        elif kind == "drop":
            entries.pop(rest, None)
        elif kind != "call" or kind not in said:
            said[kind] = _strict(rest)
    head = said.get("call") or {}
    items = _by_kind(entries.values())
    return CallFacts(
        report_id=_known(head, "report_id"),
        simulation_result_id=said.get("bind") or _known(head, "simulation_result_id") or None,
        started_at=float(started_at) if isinstance(started_at := head.get("started_at"), int | float) else 0.0,
        version=_known(head, "version"),
        server=_known(head, "server"),
        closed=said.get("close"),
        counts={kind: len(found) for kind, found in items.items() if found},
        delivery=said.get("delivery"),
        items=items,
    )


def _split(body: bytes) -> tuple[str, bytes]:
    """Return the kind of a body and what is behind it; an empty kind where it has none."""
    kind, comma, rest = body[2:].partition(b'",')
    return (kind.decode("latin-1"), rest) if comma and body.startswith(b'["') else ("", rest)


def _numbered(rest: bytes) -> tuple[bytes, str, bytes]:
    """Return the number, the kind and the item of what was opened or is done."""
    number, _, inner = rest.partition(b",")
    return number, *_split(b"[" + inner)


def _by_kind(entries: Iterable[tuple[str, bytes]]) -> dict[str, list[bytes]]:
    """Return the items by kind: items in the order of their start, texts once."""
    found: dict[str, list[bytes]] = {kind: [] for kind in _KINDS}
    for kind, encoded in entries:
        found[kind].append(encoded)
    for kind in ITEM_KINDS:
        found[kind].sort(key=_start)
    return found | {kind: list(dict.fromkeys(found[kind])) for kind in TEXT_KINDS}


def assemble(
    parts: Sequence[CallFacts | Sequence[bytes]],
    *,
    simulation_result_id: str,
    output_limit: int | None = None,
) -> bytes:
    """Return the body to post: the journals' items, as they are.

    Items are in the order of their start, one part after the other. A part whose end is missing gets an event
    ``Connection closed`` that says so; each part after the first gets an event ``Reconnected``, and the report's
    metadata tell the parts' report ids.

    Args:
        parts: one journal for each connection of the call, in order: its bodies, or what `facts` made of them.
        simulation_result_id: of the call.
        output_limit: bytes beyond which the output of a tool call is cut, for a platform that refused the whole.
    """
    journals = [part if isinstance(part, CallFacts) else facts(part) for part in parts]
    found: dict[str, list[bytes]] = {kind: [] for kind in _KINDS}
    for number, journal in enumerate(journals, 1):
        for kind, items in _part(journal, number).items():
            found[kind] += items
    if output_limit is not None:
        found["tool_calls"] = [_with_output_cut(encoded, output_limit) for encoded in found["tool_calls"]]
    if len(journals) > 1:
        found[_METADATA].append(_parts_metadata(journals, found[_METADATA]))
    return _report(simulation_result_id, found)


def _known(loaded: dict[str, Any], name: str) -> str:
    value = loaded.get(name)
    return value if isinstance(value, str) else ""


def _part(journal: CallFacts, number: int) -> dict[str, list[bytes]]:
    """Return one connection's items by kind, with the events that tell of a lost end and of a redial."""
    found = {kind: list(journal.items.get(kind, ())) for kind in _KINDS}
    if journal.closed is None:
        lost = {"report_id": journal.report_id, "version": journal.version, "incomplete": "process_lost"}
        found["events"].append(own_event(_last(found), "Connection closed", lost))
    if number > 1:
        found["events"].insert(0, own_event(0, "Reconnected", {"report_id": journal.report_id, "part": number}))
    return found


def own_event(offset_ms: int, title: str, ours: Mapping[str, Any]) -> Item:
    """Return an event by which the library itself says something of the connection, with ``ours`` as its metadata."""
    metadata = mapping({_OURS: ours})
    return b'{"start_offset_ms":%d,"title":"%b","metadata":%b}' % (offset_ms, title.encode(), metadata)


def _start(encoded: bytes) -> int:
    return int(encoded[19 : encoded.index(b",", 19)])  # behind `{"start_offset_ms":`, see _is_item


def _last(found: dict[str, list[bytes]]) -> int:
    """Return the latest offset that any item tells of."""
    matches = (_OFFSETS.match(encoded) for kind in ITEM_KINDS for encoded in found[kind])
    return max((int(offset) for match in matches if match for offset in match.groups(b"0")), default=0)


def _report(simulation_result_id: str, found: dict[str, list[bytes]]) -> bytes:
    members = [b'"simulation_result_id":' + text(simulation_result_id)]
    members += [_list(kind, found[kind]) for kind in ITEM_KINDS if found[kind] or kind == "tool_calls"]
    members += [_list("tags", dict.fromkeys(found["tags"]))] if found["tags"] else []
    metadata = _merged(found[_METADATA])
    members += [b'"metadata":' + metadata] if metadata != b"{}" else []
    members += [_list("trace_ids", dict.fromkeys(found["trace_ids"]))] if found["trace_ids"] else []
    return b"{%b}" % b",".join(members)


def _list(kind: str, items: Iterable[bytes]) -> bytes:
    return b'"%b":[%b]' % (kind.encode(), b",".join(items))


def _merged(items: list[bytes]) -> bytes:
    """Return one JSON object of several, later keys first in force; the values stay as they are written."""
    if len(items) == 1:
        return items[0]
    members: dict[str, bytes] = {}
    for encoded in items:
        members |= _members(encoded)
    return _joined(members)


def _parts_metadata(journals: list[CallFacts], metadata: list[bytes]) -> bytes:
    """Return metadata that tell the parts of a report, beside what was recorded under the same name."""
    ours = _members(_members(_merged(metadata)).get(_OURS, b"{}"))
    ids = mapping({"parts": len(journals), "report_ids": [journal.report_id for journal in journals]})
    return _joined({_OURS: _joined(ours | _members(ids))})


def _members(encoded: bytes) -> dict[str, bytes]:
    """Return the members of a compact JSON object as they are written; none where it is no such object."""
    members: dict[str, bytes] = {}
    try:
        source = encoded.decode()
        end = 0
        while source[end : end + 2] not in {"{}", "}"}:
            key, colon = _decode(source, end + 1)
            _, end = _decode(source, colon + 1)
            members[key] = source[colon + 1 : end].encode()
    except (ValueError, TypeError, RecursionError):  # a line that is sound and still no JSON was not written by us
        return {}
    return members


def _joined(members: dict[str, bytes]) -> bytes:
    return b"{%b}" % b",".join(text(key) + b":" + value for key, value in members.items())


def _with_output_cut(encoded: bytes, limit: int) -> bytes:
    members = _members(encoded) if len(encoded) > limit else {}
    if len(members.get("output", b"")) <= limit:
        return encoded
    return _joined(members | {"output": cut_json(members["output"], limit)})


# -- whether a line is ours: a right checksum alone does not make it so --------------------------------------------

_NUMBER = re.compile(rb"[0-9]{1,18}")
_START = re.compile(rb'\{"start_offset_ms":([0-9]{1,18}),"')
_HUGE = re.compile(rb"[0-9](?:[eE]\+?[0-9]{3}|[0-9]{308})")
_SPEAKERS = ("AGENT", "USER")
_LARGEST = 2**63
_LARGEST_DOUBLE = sys.float_info.max
_MAYBE = type(None)  # a field may also be missing
_FIELDS: dict[str, dict[str, tuple[type, ...]]] = {
    "tool_calls": {"name": (str,), "description": (str, _MAYBE), "parameters": (dict, _MAYBE)},
    "events": {
        "title": (str,),
        "end_offset_ms": (int, _MAYBE),
        "description": (str, _MAYBE),
        "metadata": (dict, _MAYBE),
        "tags": (list, _MAYBE),
    },
    "recorded_transcript": {
        "end_offset_ms": (int,),
        "speaker": (str,),
        "utterance": (str,),
        "filler_utterance": (bool, _MAYBE),
    },
}


def is_ours(body: bytes) -> bool:
    """Return whether a body can go into a report, or be acted on, as it is; kinds that are not known pass."""
    kind, rest = _split(body)
    if kind in _NUMBERED:
        number, kind, rest = _numbered(rest)
        return _NUMBER.fullmatch(number) is not None and kind in _FIELDS and _is_item(kind, rest)
    if kind in _FIELDS:
        return _is_item(kind, rest)
    if kind == "drop":
        return _NUMBER.fullmatch(rest) is not None
    if kind in {*TEXT_KINDS, "bind"}:
        return rest.startswith(b'"') and isinstance(_strict(rest), str)
    if kind in {_METADATA, "call", "close", "delivery"}:
        known = _strict(rest) if rest.startswith(b"{") and rest.endswith(b"}") else None
        return isinstance(known, dict) and (kind == _METADATA or all(map(_usual, known.values())))
    return _KIND.fullmatch(kind) is not None


def _strict(data: bytes) -> Any:
    """Return what strict JSON says; None where it is none, or holds a number that no double can."""
    try:
        value = from_json(data, allow_inf_nan=False)
    except ValueError:
        return None
    return value if _HUGE.search(data) is None or _fits_doubles(value) else None


def _fits_doubles(value: Any) -> bool:
    """Return whether all numbers of a value can be doubles."""
    if type(value) in {int, float}:
        return bool(-_LARGEST_DOUBLE <= value <= _LARGEST_DOUBLE)
    inside = value.values() if type(value) is dict else value if type(value) is list else ()
    return all(map(_fits_doubles, inside))


def _usual(value: object) -> bool:
    """Return whether this is no number, or one that can be calculated with."""
    return not isinstance(value, int) or -_LARGEST <= value < _LARGEST


def _is_item(kind: str, data: bytes) -> bool:
    """Return whether this begins with its offset, as all items do, which are sorted unparsed, and has its fields."""
    start = _START.match(data)
    item = _strict(data) if start is not None else None
    if start is None or not isinstance(item, dict) or item["start_offset_ms"] != int(start[1]):
        return False
    for key, types in _FIELDS[kind].items():
        if type(item.get(key)) not in types:
            return False
    if kind == "events":
        return all(type(tag) is str for tag in item.get("tags") or ())
    return kind != "recorded_transcript" or item["speaker"] in _SPEAKERS
