"""Any Python value as strict JSON: one look and one call where it is plain already, a careful copy where it is not."""

from __future__ import annotations

from typing import NamedTuple

from pydantic_core import from_json, to_json

from bluejay_ws.wire.careful import Writer, clean
from bluejay_ws.wire.plain import DEPTH_LIMIT, plain_json

__all__ = ["DEPTH_LIMIT", "ITEM_LIMIT", "Encoded", "cut_json", "cut_text", "encode"]

ITEM_LIMIT = 256 * 1024
"""Bytes of JSON that one item may take."""


class Encoded(NamedTuple):
    """One value as JSON, and what was done to it on the way.

    Attributes:
        json: strict JSON, UTF-8.
        mapped: something in it became another value or type than it was.
        cut: it is a string that holds only a beginning.
    """

    json: bytes
    mapped: bool = False
    cut: bool = False


_UNREADABLE = Encoded(b'"[unreadable]"', mapped=True)  # made while there is stack and memory to make it


def encode(value: object, *, limit: int = ITEM_LIMIT) -> Encoded:
    """Return any Python object as strict JSON; never raises, never consumes an iterator.

    A value over the limit becomes a string that holds its beginning (that of its JSON, if it is no text) and a
    marker such as ``...[cut: 10485760 bytes]``. The work done is in the order of ``limit``, whatever the value's size.

    Args:
        value: anything.
        limit: bytes that the JSON may take; only one too small for the marker is overstepped.
    """
    try:
        data = plain_json(value, limit)
        return _careful(value, limit) if data is None else Encoded(data)
    except Exception:  # noqa: BLE001 - nothing is left to try: the stack or the memory is at its end
        return _UNREADABLE


def _careful(value: object, limit: int) -> Encoded:
    writer = Writer(limit)
    writer.write(value)
    data = b"".join(writer.parts)
    if len(data) <= limit and not writer.cut:
        return Encoded(data, writer.mapped)
    text = from_json(data) if data.startswith(b'"') else data.decode()
    size = writer.size or (f"more than {limit} bytes" if writer.cut else f"{len(data)} bytes")
    return Encoded(cut_text(text, limit, size), writer.mapped, cut=True)


def cut_text(text: str, limit: int, size: str) -> bytes:
    """Return a JSON string of at most ``limit`` bytes: the beginning of ``text``, and how much there was.

    Args:
        text: at least its first ``limit`` characters.
        limit: bytes, quotes included; one too small for the marker is overstepped.
        size: how much there was, in words.
    """
    marker = f"...[cut: {size}]"
    room = max(0, limit - len(marker) - 2)
    head = clean(text[:room])
    data = to_json(head)
    while len(data) - 2 > room:  # escapes, and characters of several bytes
        head = head[: len(head) * room // (len(data) - 2)]
        data = to_json(head)
    return data[:-1] + marker.encode() + b'"'


def cut_json(data: bytes, limit: int) -> bytes:
    """Return JSON of at most ``limit`` bytes in place of the JSON ``data``: itself, or a string of its beginning."""
    if len(data) <= limit:
        return data
    text = from_json(data) if data.startswith(b'"') else data[: max(0, limit)].decode(errors="ignore")
    return cut_text(text, limit, f"{len(data)} bytes")
