"""Where a call's id stands: in the connect request's header, its query, or a carrier's first messages.

Names are compared without case, ``-`` and ``_``: ``SipHeader_X-Simulation-Result-Id``, ``simulation_result_id`` and
``simulationResultId`` are the same. Source: the platform's documentation of simulated calls, and the carriers' of their
media streams (Twilio ``start.customParameters``, its ConversationRelay ``setup.customParameters``, Plivo
``start.custom_parameters``).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any, Literal, TypeAlias
from urllib.parse import parse_qsl, urlsplit

from pydantic_core import from_json

__all__ = ["MESSAGES", "IdSource", "checked_sources", "header_values", "ids_in_message", "ids_in_query", "usable_id"]

IdSource: TypeAlias = Literal["header", "query", "message"]

MESSAGES = 8
"""How many text messages of a call are searched for its id before it counts as no simulation."""

_SOURCES = ("header", "query", "message")
_MESSAGE_LIMIT = 1 << 16
_NAMES = frozenset({"simulationresultid", "xsimulationresultid", "sipheaderxsimulationresultid"})
_INSIDE = frozenset({"start", "setup", "customparameters", "parameters", "data", "headers", "sipheaderxcustomheaders"})
_DEPTH = 4
_USABLE_ID = re.compile(r"[A-Za-z0-9_-]{1,64}", re.ASCII)


def usable_id(values: Iterable[object]) -> str | None:
    """Return the one simulation result id that the header's values agree on, or None.

    Proxies can repeat a header: equal values count as one. Differing values, an empty one, or one
    that is not 1 to 64 letters, digits, ``_`` or ``-`` is no usable id.

    Args:
        values: every value the connect request carries for `ID_HEADER`.

    Returns:
        The id, or None when there is no value or no usable one.
    """
    distinct = set(values)
    if len(distinct) != 1:
        return None
    (value,) = distinct
    return value if isinstance(value, str) and _USABLE_ID.fullmatch(value) else None


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


def checked_sources(sources: tuple[IdSource, ...] | str) -> tuple[IdSource, ...]:
    """Return the sources as they are.

    Raises:
        ValueError: one of them is unknown, or there is none.
    """
    if isinstance(sources, str) or not sources or not set(sources) <= set(_SOURCES):
        raise ValueError(f"id_from is {sources!r}; give a tuple of some of {', '.join(map(repr, _SOURCES))}")
    return sources


def ids_in_query(target: str) -> list[str]:
    """Return the values of the id's parameter in a request target such as ``/agent?simulation_result_id=720488``."""
    try:
        pairs = parse_qsl(urlsplit(target).query, keep_blank_values=True, max_num_fields=100)
    except ValueError:
        return []
    return [value for name, value in pairs if _plain(name) in _NAMES]


def ids_in_message(data: bytes | bytearray | memoryview | str) -> list[str]:
    """Return the values of the id's field in a JSON message, at its top or where carriers put parameters.

    Anything that is not a JSON object of at most 64 KiB has none.
    """
    if len(data) > _MESSAGE_LIMIT:
        return []
    try:
        message = from_json(data if isinstance(data, str | bytes | bytearray) else bytes(data))
    except ValueError:
        return []
    return _search(message, _DEPTH)


def _search(value: Any, depth: int) -> list[str]:
    if not isinstance(value, dict) or depth == 0:
        return []
    found = [str(one) for name, one in value.items() if _plain(name) in _NAMES and isinstance(one, str | int)]
    for name, inner in value.items():
        if _plain(name) in _INSIDE:
            found += _search(_parsed(inner), depth - 1)
    return found


def _parsed(value: Any) -> Any:
    """Return what a string of JSON says: one carrier packs its parameters so."""
    if not isinstance(value, str) or not value.startswith("{"):
        return value
    try:
        return from_json(value)
    except ValueError:
        return None


def _plain(name: str) -> str:
    return name.lower().replace("-", "").replace("_", "")
