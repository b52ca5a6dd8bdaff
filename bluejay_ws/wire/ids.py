"""Where a call's id stands: in the connect request's header, its query, or a carrier's first messages.

Names are compared without case, ``-`` and ``_``, and without the prefixes that carriers add (``X-``, ``X-PH-``,
``SipHeader_``): ``SipHeader_X-Simulation-Result-Id``, ``simulation_result_id`` and ``simulationResultId`` are the same.
Source: the platform's documentation of simulated calls, and the carriers' of their media streams: Twilio
``start.customParameters`` and its ConversationRelay's ``setup.customParameters``; Exotel ``start.custom_parameters``;
Telnyx ``custom_parameters`` (a list of names and values) and ``client_state`` (base64); Plivo ``extra_headers`` (JSON,
``{X-PH-name: value}``, or ``name=value`` with ``;`` or ``,`` between); Vonage the first message's own keys; Genesys
``parameters.inputVariables`` and ``parameters.customConfig`` (an object, or JSON as text). In a user's own object or
JSON, the id may stand at any depth.
"""

from __future__ import annotations

import binascii
import re
from typing import TYPE_CHECKING, Any, Literal, TypeAlias
from urllib.parse import parse_qsl, urlsplit

from pydantic_core import from_json

if TYPE_CHECKING:
    from collections.abc import Iterable

IdSource: TypeAlias = Literal["header", "query", "message"]

MESSAGES = 8  # how many text messages of a call are searched for its id before it counts as no simulation

_SOURCES = ("header", "query", "message")
_MESSAGE_LIMIT = 1 << 16
NAMES = frozenset({"simulationresultid"})  # the id's name, without case, ``-``, ``_`` and prefixes
_INSIDE = frozenset(
    {
        "start", "setup", "customparameters", "parameters", "data", "headers", "customheaders", "extraheaders",
        "inputvariables", "customconfig", "clientstate", "metadata", "sipheaders",
    }
)  # fmt: skip
_OWN = frozenset({"customparameters", "customconfig", "inputvariables", "clientstate", "metadata"})
"""What is the user's own: it may hold objects in objects, and JSON as text, under any name."""
_PREFIXES = ("sipheader", "xph", "x")
_PREFIX = re.compile(r"(?:sipheader_)?(?:x-ph-|x-)?", re.IGNORECASE)
"""A prefix of a user's own name, which carriers may put another before."""
_DEPTH = 5
_OWN_DEPTH = 8
_NODES = 1_000  # so many objects and lists of a message are looked into
_BEGINS = re.compile(r'"(?:start|setup|open|websocket:connected)"')
_BEGINS_BYTES = re.compile(_BEGINS.pattern.encode())
_BEGINS_WITHIN = 4_096
_LIST_MOST = 100
_PAIRS = re.compile(r"([^\s=:;,&{}]+)\s*[=:]\s*([^;,&{}]*)")
_STANDARD = str.maketrans("-_", "+/")
_USABLE_ID = re.compile(r"[A-Za-z0-9_-]{1,64}", re.ASCII)


def usable_id(values: Iterable[object]) -> str | None:
    """Return the one simulation result id that all values of the connect request's header agree on, or None.

    Proxies can repeat a header: equal values count as one. Differing values, an empty one, or one
    that is not 1 to 64 letters, digits, ``_`` or ``-`` is no usable id.
    """
    distinct = set(values)
    if len(distinct) != 1:
        return None
    (value,) = distinct
    return value if isinstance(value, str) and _USABLE_ID.fullmatch(value) else None


def header_values(headers: Any, name: str) -> list[str]:
    """Return all values of the header ``name``, whatever its case; an empty list when there is none.

    Args:
        headers: an object with ``get_list`` (Tornado, httpx), ``getlist`` (Starlette, Werkzeug), ``get_all``
            (websockets, email, Robyn, Granian), ``getall`` (aiohttp, Sanic, Litestar) or only ``get``, a mapping of
            names to values or lists of values, a WSGI environ, pairs of text or bytes (ASGI), lines of text, what has
            such headers (an ASGI scope, a request, a connection), or None.
        name: the header's name.

    Raises:
        Exception: of any kind, where this is nothing of all that.
    """
    inside = _inside(headers)
    return [] if inside is None else _asked(inside, name) or _scanned(inside, name)


def _inside(headers: Any) -> Any:
    """Return the headers that a scope, a request or a connection has; else what was given."""
    for one in (headers, getattr(headers, "request", None), getattr(headers, "scope", None)):
        for name in ("headers", "request_headers"):
            found = one.get(name) if isinstance(one, dict) else getattr(one, name, None)
            if found is not None and not isinstance(found, str | bytes):
                return found
    return headers


def _asked(headers: Any, name: str) -> list[str]:
    for method in ("get_list", "getlist", "get_all"):  # Tornado has a get_all too, of all headers
        if hasattr(headers, method):
            return _texts(getattr(headers, method)(name))
    return _texts(headers.getall(name, ())) if hasattr(headers, "getall") else []


def _scanned(headers: Any, name: str) -> list[str]:
    if isinstance(headers, str | bytes):
        headers = _lines(headers)
    pairs: Iterable[Any] = headers
    if hasattr(headers, "get") and not hasattr(headers, "__iter__"):
        return _texts(headers.get(name))
    for method in ("multi_items", "raw_items", "lists", "items"):  # `items` of some knows one value of each name only
        if hasattr(headers, method):
            pairs = getattr(headers, method)()
            break
    wanted = {name.lower(), "http_" + name.lower().replace("-", "_")}
    return [
        text for key, value in pairs if not wanted.isdisjoint(map(str.lower, _texts(key))) for text in _texts(value)
    ]


def _lines(text: str | bytes) -> list[tuple[str, str]]:
    """Return names and values of headers as they were on the wire."""
    parts = [line.partition(":") for line in "".join(_texts(text)).split("\n")]
    found = [(key, value.strip(" \t\r")) for key, colon, value in parts if colon]
    if not found:
        raise ValueError("these are no headers")
    return found


def _texts(value: Any) -> list[str]:
    """Return one value or several as text; None, and what is no value of a header, is none."""
    if isinstance(value, list | tuple | set | frozenset):
        return [text for one in value for text in _texts(one)]
    if isinstance(value, bytes | bytearray | memoryview):
        return [bytes(value).decode("latin-1")]
    return [str(value)] if isinstance(value, str | int) else []


def as_list(values: Iterable[object]) -> list[object]:
    """Return header values one by one, as they were sent: WSGI, Tornado and proxies join equal ones with commas."""
    return [one.strip(" \t") for value in values if isinstance(value, str) for one in value.split(",")]


class IdPlaces(tuple[IdSource, ...]):  # noqa: SLOT001 - a tuple cannot have any
    """Where a call's id may stand, in this order, and under which names.

    Args:
        sources: the places.
        own: the user's own names for the id, beside the platform's.
    """

    names: frozenset[str]
    """All names, as they are compared."""
    headers: tuple[str, ...]
    """The user's own names as headers may have them."""

    def __new__(cls, sources: Iterable[IdSource], own: Iterable[str] = ()) -> IdPlaces:  # noqa: D102, PYI034
        places = super().__new__(cls, sources)
        own = tuple(own)
        bare = [_PREFIX.sub("", name, count=1) or name for name in own]
        places.names = NAMES | {_plain(name) for name in (*own, *bare)}
        places.headers = tuple(dict.fromkeys(form for name in own for form in (name, name.replace("_", "-"))))
        return places


def checked_sources(sources: tuple[IdSource, ...] | str, names: tuple[str, ...] | str = ()) -> IdPlaces:
    """Return where to look for a call's id.

    Args:
        sources: some of ``header``, ``query``, ``message``, in the order in which they are asked.
        names: the user's own names for the id, such as ``sim_id``, beside the platform's.

    Raises:
        ValueError: a source is unknown, or there is none; a name is no text, or empty.
    """
    if isinstance(sources, str) or not sources or not set(sources) <= set(_SOURCES):
        raise ValueError(f"id_from is {sources!r}; give a tuple of some of {', '.join(map(repr, _SOURCES))}")
    given: tuple[Any, ...] | str = names
    if isinstance(given, str) or not all(isinstance(name, str) and _plain(name) for name in given):
        raise ValueError(f"id_names is {names!r}; give a tuple of your own names for the id, such as ('sim_id',)")
    return IdPlaces(sources, names)


def ids_in_query(target: str, names: frozenset[str] = NAMES) -> list[str]:
    """Return the values of the id's parameter in a request target such as ``/agent?simulation_result_id=720488``."""
    try:
        pairs = parse_qsl(urlsplit(target).query, keep_blank_values=True, max_num_fields=100)
    except ValueError:
        return []
    return [value for name, value in pairs if _names_it(name, names)]


def begins_stream(data: bytes | bytearray | memoryview | str) -> bool:
    """Return whether a message may be the one with which a carrier begins a stream; cheaper than reading it."""
    if isinstance(data, str):
        return _BEGINS.search(data, 0, _BEGINS_WITHIN) is not None
    return _BEGINS_BYTES.search(data, 0, _BEGINS_WITHIN) is not None


def ids_in_message(data: bytes | bytearray | memoryview | str, names: frozenset[str] = NAMES) -> list[str]:
    """Return the values of the id's field in a JSON message, at its top or where carriers put parameters.

    Anything that is not a JSON object of at most 64 KiB has none.
    """
    if len(data) > _MESSAGE_LIMIT:
        return []
    try:
        message = from_json(data if isinstance(data, str | bytes | bytearray) else bytes(data))
    except ValueError:
        return []
    if not isinstance(message, dict):
        return []
    found: list[str] = []
    _search(message, names, found, [_NODES], _DEPTH, own=False)
    return found


def _search(value: Any, names: frozenset[str], found: list[str], left: list[int], depth: int, *, own: bool) -> None:
    """Add to ``found`` what the id's names stand for in a value; ``own`` says that any name may lead there."""
    left[0] -= 1
    if depth == 0 or left[0] < 0:
        return
    value = _unpacked(value)
    for name, inner in _fields(value):
        plain = _plain(name)
        if _names_it(name, names) and isinstance(inner, str | int) and not isinstance(inner, bool):
            found.append(str(inner).strip())
        elif plain in _INSIDE or _stripped(plain) in _INSIDE:
            inside = _decoded(inner) if plain == "clientstate" else inner
            owned = own or _stripped(plain) in _OWN
            _search(inside, names, found, left, _OWN_DEPTH if owned > own else depth - 1, own=owned)
        elif own and _may_hold(inner):
            _search(inner, names, found, left, depth - 1, own=True)
    if own and isinstance(value, list):
        for one in value[:_LIST_MOST]:
            if isinstance(one, list) or (isinstance(one, dict) and "value" not in one):  # else a pair, seen above
                _search(one, names, found, left, depth - 1, own=True)


def _may_hold(value: Any) -> bool:
    return isinstance(value, dict | list) or (isinstance(value, str) and value.lstrip()[:1] in {"{", "["})


def _fields(value: Any) -> list[tuple[str, Any]]:
    """Return names and values, in whichever form a carrier packs them: an object, a list of pairs, or text."""
    if isinstance(value, str):
        pairs = _PAIRS.findall(value[:_MESSAGE_LIMIT])
        return [(name.strip("\"'"), one.strip().strip("\"'")) for name, one in pairs]
    if isinstance(value, dict):
        return list(value.items())
    if isinstance(value, list):
        pairs = [(one.get("name", one.get("key")), one) for one in value[:_LIST_MOST] if isinstance(one, dict)]
        return [(name, one.get("value")) for name, one in pairs if isinstance(name, str)]
    return []


def _unpacked(value: Any) -> Any:
    """Return what JSON says that stands as text in a field."""
    if isinstance(value, str) and value.lstrip()[:1] in {"{", "["}:
        try:
            return from_json(value)
        except ValueError:
            pass  # one carrier documents braces round what is no JSON
    return value


def _decoded(value: Any) -> Any:
    """Return what base64 says, where it is text: of either alphabet, padded or not."""
    try:
        return binascii.a2b_base64(value.translate(_STANDARD) + "==").decode()
    except (AttributeError, ValueError):
        return value


def _names_it(name: str, names: frozenset[str]) -> bool:
    plain = _plain(name)
    return plain in names or _stripped(plain) in names


def _stripped(plain: str) -> str:
    for prefix in _PREFIXES:
        plain = plain.removeprefix(prefix)
    return plain


def _plain(name: str) -> str:
    return name.lower().replace("-", "").replace("_", "")
