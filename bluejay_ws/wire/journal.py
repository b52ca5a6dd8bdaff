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
from typing import TYPE_CHECKING, Any, Final, NamedTuple
from zlib import crc32

from pydantic_core import from_json

from bluejay_ws.wire.encode import cut_json
from bluejay_ws.wire.items import Item, mapping, text

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

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
_OURS = "bluejay_ws"

_BODY = re.compile(rb'\["([a-z_]+)",(.*)', re.DOTALL)
_NUMBERED = re.compile(rb'([0-9]{1,18})(?:,"([a-z_]+)",(.*))?', re.DOTALL)
_OFFSETS = re.compile(rb'\{"start_offset_ms":([0-9]{1,18}),(?:"end_offset_ms":([0-9]{1,18}),)?"')
_decode = json.JSONDecoder().raw_decode

LINE_LIMIT = 8 * 1024 * 1024
"""Bytes beyond which a line is taken for damaged."""

_PREFIXES = {kind: b'["%b",' % kind.encode() for kind in _KINDS}
_LINE = re.compile(rb'(\["[a-z_]+",.*),(0|[1-9][0-9]{0,9})\]', re.DOTALL)
_LINE_KINDS = (*_PREFIXES, "call", "open", "done", "drop", "bind", "close", "delivery")
_START = re.compile(rb'\["(?:%b)",' % "|".join(_LINE_KINDS).encode())
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
    found = _LINE.fullmatch(one) if len(one) <= LINE_LIMIT else None
    if found is None or crc32(found[1]) != int(found[2]):
        return None
    return found[1] if is_ours(found[1]) else None


def _salvage(one: bytes, bodies: list[bytes], damaged: list[bytes]) -> None:
    """Save the sound lines in a damaged one: where a line end was damaged or not written, two lines look like one."""
    starts = [found.start() for found in islice(_START.finditer(one), _MOST_CANDIDATES)]
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
    """Return what a journal says of its call; what is missing, or is not what it should be, is left at its default."""
    journal = _Journal(bodies)
    started_at = journal.header.get("started_at")
    items = journal.by_kind()
    return CallFacts(
        report_id=journal.known("report_id"),
        simulation_result_id=journal.bound or journal.known("simulation_result_id") or None,
        started_at=float(started_at) if isinstance(started_at, int | float) else 0.0,
        version=journal.known("version"),
        server=journal.known("server"),
        closed=journal.closed,
        counts={kind: len(found) for kind, found in items.items() if found},
        delivery=journal.delivery,
        items=items,
    )


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


class _Journal:
    """One journal, read: its items by kind, and the facts beside them."""

    __slots__ = ("_items", "bound", "closed", "delivery", "header")

    def __init__(self, bodies: Iterable[bytes]) -> None:
        self._items: dict[tuple[str, int], tuple[str, bytes]] = {}
        self.header: dict[str, Any] = {}
        self.bound: str | None = None
        self.closed: dict[str, Any] | None = None
        self.delivery: dict[str, Any] | None = None
        for number, body in enumerate(bodies):
            found = _BODY.fullmatch(body)
            if found is not None:
                self._take(number, found[1].decode(), found[2])

    def known(self, name: str) -> str:
        """Return a text of the first line; empty if there is none."""
        return _known(self.header, name)

    def by_kind(self) -> dict[str, list[bytes]]:
        """Return the items by kind: items in the order of their start, texts once."""
        found: dict[str, list[bytes]] = {kind: [] for kind in _KINDS}
        for kind, encoded in self._items.values():
            found[kind].append(encoded)
        for kind in ITEM_KINDS:
            found[kind].sort(key=_start)
        return found | {kind: list(dict.fromkeys(found[kind])) for kind in TEXT_KINDS}

    def _take(self, number: int, kind: str, rest: bytes) -> None:
        if kind in _KINDS:
            self._keep(("line", number), kind, rest)
        elif kind in {"open", "done", "drop"}:
            self._take_numbered(kind, rest)
        elif kind == "call":
            self.header = self.header or _loaded(rest)
        elif kind == "close":
            self.closed = _loaded(rest)
        elif kind == "delivery":
            self.delivery = _loaded(rest)
        elif kind == "bind":
            self.bound = _known(_loaded(b'{"id":%b}' % rest), "id") or self.bound

    def _take_numbered(self, verb: str, rest: bytes) -> None:
        found = _NUMBERED.fullmatch(rest)
        if found is not None and verb == "drop":
            self._items.pop(("open", int(found[1])), None)
        elif found is not None and found[2] is not None:
            self._keep(("open", int(found[1])), found[2].decode(), found[3])

    def _keep(self, key: tuple[str, int], kind: str, encoded: bytes) -> None:
        if kind in _KINDS and _fits(kind, encoded):
            self._items[key] = (kind, encoded)


def _fits(kind: str, encoded: bytes) -> bool:
    """Tell whether an item looks like one of its kind: a sound line that is none of ours must not spoil a report."""
    if kind in ITEM_KINDS:
        return _OFFSETS.match(encoded) is not None and encoded.endswith(b"}")
    opening, closing = (b"{", b"}") if kind == _METADATA else (b'"', b'"')
    return len(encoded) > 1 and encoded.startswith(opening) and encoded.endswith(closing)


def _loaded(data: bytes) -> dict[str, Any]:
    """Return a JSON object; an empty one where there is none."""
    try:
        loaded = json.loads(data)
    except (ValueError, RecursionError):
        return {}
    return loaded if isinstance(loaded, dict) else {}


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
    return int(encoded[19 : encoded.index(b",", 19)])  # behind `{"start_offset_ms":`, see _fits


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

_OPEN = re.compile(rb'[0-9]{1,18},("(?:tool_calls|events|recorded_transcript)",.*)', re.DOTALL)
_DROP = re.compile(rb"[0-9]{1,18}")
_ITEM_START = re.compile(rb'\{"start_offset_ms":([0-9]{1,18}),"')
_SPEAKERS = ("AGENT", "USER")
_LARGEST = 2**63
_LARGEST_DOUBLE = sys.float_info.max
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


def _strict(data: bytes) -> Any:
    """Return what strict JSON says; None where it is none, or holds a number that no double can."""
    try:
        value = from_json(data, allow_inf_nan=False)
    except ValueError:
        return None
    return value if _fits_doubles(value) else None


def _fits_doubles(value: Any) -> bool:
    """Return whether all numbers of a value can be doubles; to look through its text for others costs far more."""
    kind = type(value)
    if kind is int or kind is float:
        return bool(-_LARGEST_DOUBLE <= value <= _LARGEST_DOUBLE)
    inside = value.values() if kind is dict else value if kind is list else ()
    return all(map(_fits_doubles, inside))


def _is_text(data: bytes) -> bool:
    return data.startswith(b'"') and isinstance(_strict(data), str)


def _is_object(data: bytes) -> bool:
    return data.startswith(b"{") and data.endswith(b"}") and isinstance(_strict(data), dict)


def _is_facts(data: bytes) -> bool:
    """Return whether this is an object of which every number can be calculated with."""
    known = _strict(data)
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
    start = _ITEM_START.match(data)
    item = _strict(data) if start is not None else None
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
