"""The fast path of `values.encode`: one look at a value that is plain already, and one call to encode it."""

from __future__ import annotations

from typing import Any

from pydantic_core import to_json

__all__ = ["DEPTH_LIMIT", "NUL", "plain_json", "room_left"]

DEPTH_LIMIT = 64
"""How many containers may lie within each other, the outermost included."""

NUL = b"\\u0000"
"""How a NUL looks in JSON (or a backslash before the text ``u0000``: the careful path tells them apart)."""

_BACKSLASH = 0x5C
_NUMBER_LIMIT = 1e18  # larger numbers take the careful path, and are none the worse for it


def plain_json(value: object, limit: int, depth: int = DEPTH_LIMIT) -> bytes | None:
    """Return the JSON of a value that is plain already and within the limits, else None.

    Args:
        value: anything.
        limit: bytes that the JSON may take.
        depth: how many containers may lie within each other.
    """
    try:
        if room_left(value, limit, depth) < 0:
            return None
        data = to_json(value, inf_nan_mode="null")
    except Exception:  # noqa: BLE001 - a lone surrogate, a dict changed meanwhile: the careful path sees what it is
        return None
    return data if len(data) <= limit and (_BACKSLASH not in data or NUL not in data) else None


def room_left(value: Any, room: int, depth: int) -> int:  # noqa: C901, PLR0911, PLR0912 - see the comment in it
    """Return what a plain value leaves of ``room`` bytes, at most; below zero if it is not plain or does not fit.

    Plain are exact dicts with exact strings for keys, lists, tuples, strings, integers and floats of usual size,
    booleans and None.

    Args:
        value: anything.
        room: bytes of JSON that it may take.
        depth: how many containers may lie within each other.

    Raises:
        RuntimeError: a dict was changed meanwhile, by another thread.
    """
    # On the agent's event loop, in the middle of speech: written for speed, hence in one piece, the usual case first.
    if type(value) is dict:
        room -= len(value)
        if room < 0 or depth <= 0:
            return -1
        for key, element in value.items():
            if type(key) is not str:
                return -1
            room -= len(key)
            if type(element) is str:
                room -= len(element)
            elif type(element) is int or type(element) is float:
                if not -_NUMBER_LIMIT < element < _NUMBER_LIMIT:
                    return -1
            elif element is not None and type(element) is not bool:
                room = room_left(element, room, depth - 1)
                if room < 0:
                    return -1
        return room
    if type(value) is str:
        return room - len(value)
    if type(value) is list or type(value) is tuple:
        room -= 2 * len(value)
        if room < 0 or depth <= 0:
            return -1
        for element in value:
            if type(element) is str:
                room -= len(element)
            elif type(element) is int or type(element) is float:
                if not -_NUMBER_LIMIT < element < _NUMBER_LIMIT:
                    return -1
            elif element is not None and type(element) is not bool:
                room = room_left(element, room, depth - 1)
                if room < 0:
                    return -1
        return room
    return room if value is None or type(value) is bool or _usual(value) else -1


def _usual(value: object) -> bool:
    return (type(value) is int or type(value) is float) and -_NUMBER_LIMIT < value < _NUMBER_LIMIT
