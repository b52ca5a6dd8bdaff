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
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple
from zlib import crc32

from bluejay_ws.wire.fragments import Fragment, mapping, text
from bluejay_ws.wire.values import cut_json

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

__all__ = [
    "LINE_LIMIT",
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
    "item",
    "line",
    "opened",
    "parse",
]

LINE_LIMIT = 8 * 1024 * 1024
"""Bytes beyond which a line is taken for damaged."""

LISTS = ("tool_calls", "events", "recorded_transcript")
TEXTS = ("tags", "trace_ids")

_PREFIXES = {kind: b'["%b",' % kind.encode() for kind in (*LISTS, *TEXTS, "metadata")}
_LINE = re.compile(rb'(\["[a-z_]+",.*),(0|[1-9][0-9]{0,9})\]', re.DOTALL)
_START = re.compile(rb'(?=\["(?:call|tool_calls|events|recorded_transcript|tags|trace_ids|metadata|open|done|drop|bind|close|delivery)",)')
_BODY = re.compile(rb'\["([a-z_]+)",(.*)', re.DOTALL)
_NUMBERED = re.compile(rb'(\d{1,18})(?:,"([a-z_]+)",(.*))?', re.DOTALL)
_ITEM = re.compile(rb'\{"start_offset_ms":(\d{1,18})[,}](?:"end_offset_ms":(\d{1,18})[,}])?')


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


@dataclass(frozen=True, kw_only=True)
class CallFacts:
    """What a journal says of its call, beside the items.

    Attributes:
        report_id: empty if the first line is lost.
        simulation_result_id: as connected, or as bound later; None if neither.
        started_at: Unix time of the handshake, in seconds; 0.0 if the first line is lost.
        version: of bluejay_ws that wrote it.
        server: which server family it ran on.
        closed: facts of the end; None if the journal has none.
        counts: items by kind, as the report has them.
        delivery: what delivery noted last; None if nothing.
    """

    report_id: str = ""
    simulation_result_id: str | None = None
    started_at: float = 0.0
    version: str = ""
    server: str = ""
    closed: dict[str, Any] | None = None
    counts: dict[str, int] = field(default_factory=dict)
    delivery: dict[str, Any] | None = None


# -- writing ---------------------------------------------------------------------------------------------------


def line(body: bytes) -> bytes:
    """Return the line for ``body``, with its check sum and line end."""
    return body + b",%d]\n" % crc32(body)


def item(kind: str, fragment: Fragment) -> bytes:
    """Return the body for one item of the report.

    Args:
        kind: the report's key: ``tool_calls``, ``events``, ``recorded_transcript``, ``tags``, ``trace_ids``, ``metadata``.
        fragment: its JSON, from `fragments`.
    """
    return _PREFIXES[kind] + fragment


def opened(number: int, kind: str, fragment: Fragment) -> bytes:
    """Return the body for an item that is not over, as it is to stand if the process dies now."""
    return b'["open",%d,"%b",%b' % (number, kind.encode(), fragment)


def done(number: int, kind: str, fragment: Fragment) -> bytes:
    """Return the body that replaces what was opened as ``number``."""
    return b'["done",%d,"%b",%b' % (number, kind.encode(), fragment)


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


# -- reading ---------------------------------------------------------------------------------------------------


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
    return found[1] if found is not None and crc32(found[1]) == int(found[2]) else None


def _salvage(one: bytes, bodies: list[bytes], damaged: list[bytes]) -> None:
    """Save the sound lines in a damaged one: where a line end was damaged, two lines look like one."""
    for piece in _START.split(one):
        body = _sound(piece) or _sound(piece[:-1])
        if body is not None:
            bodies.append(body)
        elif piece:
            damaged.append(piece)


def facts(bodies: Iterable[bytes]) -> CallFacts:
    """Return what a journal says of its call; what is missing or no JSON is left at its default."""
    call = _read(bodies)
    known = call.header
    return CallFacts(
        report_id=_string(known.get("report_id")) or "",
        simulation_result_id=call.bound or _string(known.get("simulation_result_id")),
        started_at=_number(known.get("started_at")),
        version=_string(known.get("version")) or "",
        server=_string(known.get("server")) or "",
        closed=call.closed,
        counts={kind: len(found) for kind, found in call.kinds().items() if found},
        delivery=call.delivery,
    )


class _Call:
    """One journal, read: its items by kind, in order, and the facts beside them."""

    __slots__ = ("_items", "bound", "closed", "delivery", "header")

    def __init__(self) -> None:
        self._items: dict[object, tuple[str, bytes]] = {}
        self.header: dict[str, Any] = {}
        self.bound: str | None = None
        self.closed: dict[str, Any] | None = None
        self.delivery: dict[str, Any] | None = None

    def kinds(self) -> dict[str, list[bytes]]:
        found: dict[str, list[bytes]] = {kind: [] for kind in _PREFIXES}
        for kind, fragment in self._items.values():
            found[kind].append(fragment)
        return found

    def take(self, kind: str, rest: bytes) -> None:
        if kind in _PREFIXES:
            self.keep(object(), kind, rest)
        elif kind in {"open", "done", "drop"}:
            self.numbered(kind, rest)
        elif kind == "call":
            self.header = self.header or _loaded(rest) or {}
        elif kind == "bind":
            self.bound = _string(_json(rest)) or self.bound
        elif kind == "close":
            self.closed = _loaded(rest) or {}
        elif kind == "delivery":
            self.delivery = _loaded(rest) or self.delivery

    def keep(self, key: object, kind: str, fragment: bytes) -> None:
        if kind in LISTS and _ITEM.match(fragment) is None:
            return
        self._items[key] = (kind, fragment)

    def numbered(self, verb: str, rest: bytes) -> None:
        found = _NUMBERED.fullmatch(rest)
        if found is None:
            return
        if verb == "drop":
            self._items.pop(int(found[1]), None)
        elif found[2] is not None and found[2].decode() in _PREFIXES:
            self.keep(int(found[1]), found[2].decode(), found[3])


def _read(bodies: Iterable[bytes]) -> _Call:
    call = _Call()
    for body in bodies:
        found = _BODY.fullmatch(body)
        if found is not None:
            call.take(found[1].decode(), found[2])
    return call


def _json(data: bytes) -> Any:
    try:
        return json.loads(data)
    except (ValueError, RecursionError):
        return None


def _loaded(data: bytes) -> dict[str, Any] | None:
    loaded = _json(data)
    return loaded if isinstance(loaded, dict) else None


def _string(value: object) -> str | None:
    return value if isinstance(value, str) and value else None


def _number(value: object) -> float:
    return float(value) if isinstance(value, int | float) else 0.0


# -- the report ------------------------------------------------------------------------------------------------


def assemble(
    parts: Sequence[Sequence[bytes]],
    *,
    simulation_result_id: str,
    incomplete: str | None = None,
    output_limit: int | None = None,
) -> bytes:
    """Return the body to post: the journals' fragments, joined as they are.

    Items are in the order of their offsets, part after part. A part whose end is missing gets an event
    ``Connection closed`` that says so, each part after the first an event ``Reconnected``.

    Args:
        parts: the bodies of one journal for each connection of the call, in order.
        simulation_result_id: of the call.
        incomplete: why a part has no end; default ``process_lost``.
        output_limit: bytes beyond which a tool's output is cut, for a platform that refused the whole.
    """
    calls = [_read(bodies) for bodies in parts]
    found: dict[str, list[bytes]] = {kind: [] for kind in _PREFIXES}
    for number, call in enumerate(calls, 1):
        _add_part(found, call, number, incomplete or "process_lost")
    if output_limit is not None:
        found["tool_calls"] = [_with_output_cut(fragment, output_limit) for fragment in found["tool_calls"]]
    metadata = _merged(found["metadata"], calls)
    members = [b'"simulation_result_id":' + text(simulation_result_id)]
    members += [_member(kind, found[kind]) for kind in LISTS if found[kind] or kind == "tool_calls"]
    members += [_member("tags", found["tags"])] if found["tags"] else []
    members += [b'"metadata":' + metadata] if metadata != b"{}" else []
    members += [_member("trace_ids", found["trace_ids"])] if found["trace_ids"] else []
    return b"{" + b",".join(members) + b"}"


def _member(kind: str, found: list[bytes]) -> bytes:
    distinct = found if kind in LISTS else dict.fromkeys(found)
    return b'"%b":[%b]' % (kind.encode(), b",".join(distinct))


def _add_part(found: dict[str, list[bytes]], call: _Call, number: int, incomplete: str) -> None:
    kinds = call.kinds()
    report_id = _string(call.header.get("report_id"))
    if number > 1:
        again = {"bluejay_ws": {"report_id": report_id, "part": number}}
        kinds["events"].insert(0, _event(0, "Reconnected", again))
    if call.closed is None:
        lost = {"report_id": report_id, "version": call.header.get("version"), "incomplete": incomplete}
        kinds["events"].append(_event(_last_offset(kinds), "Connection closed", {"bluejay_ws": lost}))
    for kind, fragments in kinds.items():
        found[kind] += sorted(fragments, key=_offset) if kind in LISTS else fragments


def _event(offset: int, title: str, metadata: dict[str, Any]) -> bytes:
    return b'{"start_offset_ms":%d,"title":"%b","metadata":%b}' % (offset, title.encode(), mapping(metadata))


def _offset(fragment: bytes) -> int:
    found = _ITEM.match(fragment)
    return int(found[1]) if found is not None else 0


def _last_offset(kinds: dict[str, list[bytes]]) -> int:
    found = (_ITEM.match(fragment) for kind in LISTS for fragment in kinds[kind])
    return max((max(int(one[1]), int(one[2] or 0)) for one in found if one is not None), default=0)


def _members(fragment: bytes) -> dict[str, bytes]:
    """Return the members of a compact JSON object as they stand; an empty dict where it is none."""
    members: dict[str, bytes] = {}
    decoder = json.JSONDecoder()
    try:
        source = fragment.decode()
        at = 1
        while source[at] != "}":
            key, colon = decoder.raw_decode(source, at)
            _, end = decoder.raw_decode(source, colon + 1)
            members[key] = source[colon + 1 : end].encode()
            at = end + (source[end] == ",")
    except (ValueError, IndexError, RecursionError, TypeError):
        return {}
    return members


def _joined(members: dict[str, bytes]) -> bytes:
    return b"{" + b",".join(text(key) + b":" + value for key, value in members.items()) + b"}"


def _merged(fragments: list[bytes], calls: list[_Call]) -> bytes:
    if len(fragments) == 1 and len(calls) == 1:
        return fragments[0]
    members: dict[str, bytes] = {}
    for fragment in fragments:
        members |= _members(fragment)
    if len(calls) > 1:
        ours = _members(members.get("bluejay_ws", b"{}"))
        ours["parts"] = b"%d" % len(calls)
        ours["report_ids"] = b"[%b]" % b",".join(text(str(call.header.get("report_id", ""))) for call in calls)
        members["bluejay_ws"] = _joined(ours)
    return _joined(members)


def _with_output_cut(fragment: bytes, limit: int) -> bytes:
    if len(fragment) <= limit:
        return fragment
    members = _members(fragment)
    if len(members.get("output", b"")) <= limit:
        return fragment
    members["output"] = cut_json(members["output"], limit)
    return _joined(members)
