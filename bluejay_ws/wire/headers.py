"""Read one header out of whatever a server calls its headers."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

__all__ = ["header_values"]


def header_values(headers: Any, name: str) -> list[str]:
    """Return all values of the header ``name``, whatever its case; an empty list when there is none.

    Args:
        headers: an object with ``get_all`` (websockets, email), ``getall`` (aiohttp) or ``getlist``
            (Starlette, Werkzeug), a mapping, pairs of text or bytes (ASGI), or None.
        name: the header's name.
    """
    if headers is None:
        return []
    for method in ("get_all", "getlist"):
        if hasattr(headers, method):
            return [_text(value) for value in getattr(headers, method)(name) or ()]
    if hasattr(headers, "getall"):
        return [_text(value) for value in headers.getall(name, ())]
    pairs: Iterable[Any] = headers.items() if isinstance(headers, Mapping) else headers
    wanted = name.lower()
    return [_text(value) for key, value in pairs if _text(key).lower() == wanted]


def _text(value: object) -> str:
    return value.decode("latin-1") if isinstance(value, bytes | bytearray) else str(value)
