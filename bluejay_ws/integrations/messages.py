"""What providers' messages look like: JSON text, bytes, or an SDK's own objects; here they become dictionaries."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import fields, is_dataclass
from enum import Enum
from math import isfinite
from typing import TYPE_CHECKING, Any

from pydantic_core import from_json

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

SIMPLE = frozenset({str, int, float, bool, type(None), bytes, dict, list})
"""What a dictionary may hold and be taken as it is."""
_BOM = "\ufeff"
_BEGINS_JSON = frozenset(f'{{["-0123456789tfn {_BOM}\t\r\n')  # prose begins otherwise, and is not tried
_DEEPEST = 32
_LARGEST = 2.0**53


def plain(message: Any) -> Any:
    """Return a message as a dictionary; audio as bytes; None for what is neither.

    Takes JSON text and bytes (with a byte order mark or without, whole or in a list of fragments), websocket messages
    of aiohttp, the chunks of AWS, and objects: of pydantic, protobuf, dataclasses, named tuples, mappings, or any that
    keep their fields as attributes.

    Raises:
        ValueError: text that is not JSON.
    """
    if isinstance(message, str):
        return _read(message)
    if isinstance(message, bytes | bytearray | memoryview):
        return _of_bytes(bytes(message))
    if isinstance(message, Enum):
        return None
    if isinstance(message, list | tuple) and not hasattr(message, "_asdict"):
        return _put_together(message)
    dump = _attribute(message, "model_dump")  # pydantic: many SDKs, and often
    if callable(dump) and type(found := _called(dump)) is dict:
        return found
    for name in ("value", "bytes_", "data"):  # AWS: chunk.value.bytes_; aiohttp: message.data
        inner = _attribute(message, name)
        if isinstance(inner, str | bytes):
            text = _text_of(message, inner)
            if text is not None:
                return text
        elif name == "value" and inner is not None and not isinstance(message, Mapping | Enum):
            return plain(inner)
    found = _structure(message, _DEEPEST)
    return found if type(found) is dict else None


def _text_of(message: Any, inner: str | bytes) -> Any:
    """Return what a wrapper carries; None if the text is one field of an event, and not the event itself."""
    whole = inner[:1] in {"{", "[", b"{", b"[", _BOM} or isinstance(inner, bytes)
    return plain(inner) if whole or not isinstance(_attribute(message, "type"), str) else None


def _put_together(pieces: Sequence[Any]) -> Any:
    """Return a message that was sent in fragments."""
    if pieces and all(isinstance(one, str) for one in pieces):
        return _read("".join(pieces))
    if pieces and all(isinstance(one, bytes | bytearray | memoryview) for one in pieces):
        return _of_bytes(b"".join(pieces))
    return None


def _read(text: str) -> Any:
    """Return what JSON text says: the quick parser takes a tenth of the time, and the other one takes more texts."""
    try:
        return from_json(text)
    except ValueError:
        return json.loads(text.removeprefix(_BOM))


def _of_bytes(message: bytes) -> Any:
    """Return JSON as what it says; other bytes are audio.

    Raises:
        ValueError: text that begins as JSON does, and is none.
    """
    if message[:64].removeprefix(_BOM.encode()).lstrip()[:1] not in {b"{", b"["}:
        return message
    try:
        text = message.decode()
    except UnicodeDecodeError:
        return message
    return _read(text)


def _attribute(thing: Any, name: str) -> Any:
    """Return an attribute; None if there is none, or if its own code fails."""
    try:
        return getattr(thing, name, None)
    except Exception:  # noqa: BLE001 - a property of the SDK's
        return None


def _structure(value: Any, deeper: int) -> Any:
    """Return dictionaries, lists and simple values in place of objects; what is none of these as it is."""
    kind = type(value)
    if kind in {str, int, float, bool, type(None), bytes} or not deeper:
        return value
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, Mapping):
        return {key: _structure(inner, deeper - 1) for key, inner in value.items()}
    if isinstance(value, Sequence | set | frozenset) and not hasattr(value, "_asdict"):
        return value if isinstance(value, str | bytes | bytearray) else [_structure(one, deeper - 1) for one in value]
    found = _dumped(value)
    if found is None:
        return value
    return {key: _structure(inner, deeper - 1) for key, inner in found.items()}


def _dumped(thing: Any) -> dict[str, Any] | None:
    """Return an object's fields; None if it has none."""
    for name in ("model_dump", "to_dict", "as_dict", "dict", "_asdict"):
        dump = _attribute(thing, name)
        found = _called(dump) if callable(dump) and not isinstance(thing, type) else None
        if isinstance(found, Mapping):
            return dict(found)
    return _fields_of(thing)


def _called(dump: Callable[..., Any]) -> Any:
    for options in ({"exclude_none": True}, {}):
        try:
            return dump(**options)
        except Exception:  # noqa: BLE001, S112 - the SDK's own code; its attributes may still be read
            continue
    return None


def _fields_of(thing: Any) -> dict[str, Any] | None:
    listed = _attribute(thing, "ListFields")
    if callable(listed):  # protobuf
        pairs: Any = listed()
        return {one.name: value for one, value in pairs}
    if is_dataclass(thing) and not isinstance(thing, type):
        return _named(thing, (one.name for one in fields(thing)))
    names = getattr(thing, "__dict__", None)
    if isinstance(thing, type) or callable(thing) or not isinstance(names, dict) or not names:
        return None
    return _named(thing, (name for name in ("type", *names) if not name.startswith("_")))


def _named(thing: Any, names: Iterable[str]) -> dict[str, Any]:
    found = {name: _attribute(thing, name) for name in names}
    return {name: value for name, value in found.items() if value is not None}


def parsed(value: Any) -> Any:
    """Return what JSON text says; other text, and cut JSON, stay as they are."""
    if type(value) is not str or value[:1] not in _BEGINS_JSON:
        return value
    try:
        return _read(value)
    except (ValueError, RecursionError):
        return value


def number(value: Any) -> float | None:
    """Return a number that can be reckoned with; None for anything else, and for what is no place in a call."""
    if type(value) is float:
        return value if isfinite(value) and abs(value) <= _LARGEST else None
    return float(value) if type(value) is int and abs(value) <= _LARGEST else None
