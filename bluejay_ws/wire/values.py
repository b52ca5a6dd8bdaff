"""Any Python value as strict JSON, at the cost of one look and one call where it is plain already."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, NamedTuple

from pydantic_core import to_json

from bluejay_ws.wire.plain import DEPTH_LIMIT, Copier, clean

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["DEPTH_LIMIT", "ITEM_LIMIT", "Encoded", "cut_json", "cut_text", "encode", "plain_json"]

ITEM_LIMIT = 256 * 1024
"""Bytes of JSON that one item may take."""


_INT_LIMIT = 1 << 63


class Encoded(NamedTuple):
    """One value as JSON, and what was done to it on the way.

    Attributes:
        json: strict JSON, UTF-8.
        mapped: something in it became another value or type than it was.
        cut: it is a string that holds only the beginning.
    """

    json: bytes
    mapped: bool = False
    cut: bool = False


def encode(value: object, *, limit: int = ITEM_LIMIT) -> Encoded:
    """Return any Python object as strict JSON; never raises, never consumes an iterator.

    A value over the limit becomes a string that holds its beginning (of a container: of its JSON) and a
    marker such as ``...[cut: 10485760 bytes]``. The work done is in the order of ``limit``, not of the value.

    Args:
        value: anything.
        limit: bytes that the JSON may take; only a limit too small for the marker is overstepped.
    """
    data = plain_json(value, limit, DEPTH_LIMIT)
    return Encoded(data) if data is not None else _careful(value, limit)


def plain_json(value: object, limit: int, depth: int) -> bytes | None:
    """Return ``value`` as JSON if it is plain data within the limits, or None: the fast path.

    Plain are exact dicts with string keys, lists, tuples, strings, 64-bit integers, finite floats, booleans and None.

    Args:
        value: anything.
        limit: bytes that the JSON may take.
        depth: how many containers may lie within each other.
    """
    try:
        if _room((value,), limit, depth) < 0:
            return None
        data = to_json(value, inf_nan_mode="null")
    except Exception:  # noqa: BLE001 - lone surrogates, keys that are no text, a dict changed meanwhile: see _careful
        return None
    if len(data) > limit or (b"\\" in data and b"\\u0000" in data):
        return None
    return data


def _room(values: Iterable[Any], room: int, depth: int) -> int:
    """Return what these plain values leave of ``room`` bytes at most; below zero where they are not plain or fit not."""
    for value in values:
        kind = type(value)
        if kind is str:
            room -= len(value)
        elif kind is dict:
            room -= 4 * len(value)
            if depth == 0 or room < 0:
                return -1
            room = _room(value.values(), room - len("".join(value)), depth - 1)
            if room < 0:
                return -1
        elif kind is int:
            if not -_INT_LIMIT <= value < _INT_LIMIT:
                return -1
        elif kind is list or kind is tuple:
            room -= 2 * len(value)
            if depth == 0 or room < 0:
                return -1
            room = _room(value, room, depth - 1)
            if room < 0:
                return -1
        elif kind is float:
            if value - value != 0.0:
                return -1
        elif value is not None and kind is not bool:
            return -1
    return room


def _careful(value: object, limit: int) -> Encoded:
    copier = Copier(limit)
    try:
        copied = copier.copy(value)
        data = dump(copied)
    except Exception:  # noqa: BLE001 - nothing is left to try (a stack at its end, no memory)
        return Encoded(b'"[unreadable]"', mapped=True)
    if not copier.cut and len(data) <= limit:
        return Encoded(data, copier.mapped)
    size = _size(value, data, limit) if copier.cut else f"{len(data)} bytes"
    text = copied if isinstance(copied, str) else data.decode()
    return Encoded(cut_text(text, limit, size), copier.mapped, cut=True)


def _size(value: object, data: bytes, limit: int) -> str:
    cls = type(value)
    if issubclass(cls, str):
        text = str.__str__(value)  # type: ignore[arg-type]
        return f"{len(text)} {'bytes' if text.isascii() else 'characters'}"
    return f"more than {max(limit, len(data))} bytes"


def dump(copied: object) -> bytes:
    """Return plain data as JSON; where the fast encoder has no room for a number, the standard library has."""
    try:
        return to_json(copied, inf_nan_mode="null")
    except Exception:  # noqa: BLE001 - what it refuses is whatever its version refuses
        return json.dumps(copied, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode()


def cut_text(text: str, limit: int, size: str) -> bytes:
    """Return a JSON string of at most ``limit`` bytes: the beginning of ``text`` and how much there was.

    Args:
        text: its first ``limit`` characters suffice.
        limit: bytes, quotes included; the marker is never cut, so it takes at least 16 bytes or so.
        size: what stands in the marker.
    """
    marker = f"...[cut: {size}]"
    room = max(0, limit - len(marker) - 2)
    head = clean(text[:room])
    data = to_json(head)
    while len(data) - 2 > room:
        head = head[: len(head) * room // (len(data) - 2)]
        data = to_json(head)
    return data[:-1] + marker.encode() + b'"'


def cut_json(data: bytes, limit: int) -> bytes:
    """Return JSON of at most ``limit`` bytes in place of the JSON ``data``: itself or a cut string."""
    if len(data) <= limit:
        return data
    text = json.loads(data) if data.startswith(b'"') else data[: limit + 4].decode(errors="ignore")
    return cut_text(text, limit, f"{len(data)} bytes")
