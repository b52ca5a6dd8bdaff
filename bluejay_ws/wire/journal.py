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

import re
from itertools import islice, product
from typing import TYPE_CHECKING, Any, NamedTuple
from zlib import crc32

from bluejay_ws.wire.assembly import ITEM_KINDS, TEXT_KINDS, CallFacts, assemble, facts
from bluejay_ws.wire.fragments import Fragment, mapping, text
from bluejay_ws.wire.shapes import is_ours

if TYPE_CHECKING:
    from collections.abc import Mapping

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

_PREFIXES = {kind: b'["%b",' % kind.encode() for kind in (*ITEM_KINDS, *TEXT_KINDS, "metadata")}
_LINE = re.compile(rb'(\["[a-z_]+",.*),(0|[1-9][0-9]{0,9})\]', re.DOTALL)
_KINDS = (*_PREFIXES, "call", "open", "done", "drop", "bind", "close", "delivery")
_START = re.compile(rb'\["(?:%b)",' % "|".join(_KINDS).encode())
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


def item(kind: str, fragment: Fragment) -> bytes:
    """Return the body for one item of the report.

    Args:
        kind: the report's key: ``tool_calls``, ``events``, ``recorded_transcript``, ``tags``, ``trace_ids`` or
            ``metadata``.
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
