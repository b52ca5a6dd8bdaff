"""What `record` cannot record, and what to do instead: said where it is decorated, or at the first simulated call."""

from __future__ import annotations

import inspect
import linecache
import logging
import re
import sys
from typing import TYPE_CHECKING, Any

from bluejay_ws.wire.ids import header_values
from bluejay_ws.wire.platform import ID_HEADER

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import FrameType

    from bluejay_ws.servers.base import Opener

__all__ = ["check", "kind_of_class", "say"]

logger = logging.getLogger("bluejay_ws")

_MIDDLEWARE = "wrap the application: app = BluejayMiddleware(app), from bluejay_ws.servers.asgi"
_QUART = "wrap the application: app.asgi_app = BluejayMiddleware(app.asgi_app), from bluejay_ws.servers.asgi"
_SERVE = (
    "serve it with websockets.asyncio.server.serve, or use: with bluejay.call(websocket.request_headers) as recorder"
)
_CALL = "use in the handler: with bluejay.call({}) as recorder"
# By the module that defines the handler's argument or class, or one of its bases.
_WAYS = {
    "websockets.legacy": _SERVE,
    "quart": _QUART,
    "litestar": _MIDDLEWARE,
    "channels": _MIDDLEWARE,
    "django": _MIDDLEWARE,
    "sanic": _MIDDLEWARE,
    "tornado": _CALL.format("self.request.headers"),
    "simple_websocket": _CALL.format("request.headers"),
    "flask": _CALL.format("request.headers"),
    "granian": _CALL.format("scope.headers"),
    "robyn": _CALL.format("the connect request's headers"),
}
_ANY = _CALL.format("headers")
_ROUTE = re.compile(r"\s*@[\w.]+\.(websocket|websocket_route|ws|route|get|view)\(")
_SAID: set[object] = set()
_FEW_LINES = 40


# -- where it is decorated -----------------------------------------------------------------------------------------


def check(handler: object) -> None:
    """Raise TypeError if it can be known where it is decorated that ``handler`` cannot be recorded."""
    if not callable(handler):
        what = type(handler).__name__
        raise TypeError(f"record() takes a handler, got {what}; give options by name: @record(client=...)")
    if inspect.isclass(handler):
        if kind_of_class(handler) is None:
            raise TypeError(f"record() cannot record the class {handler.__name__}: {_way(handler) or _OF_CLASSES}")
        return
    module = type(handler).__module__
    if module.startswith("litestar.handlers"):
        raise TypeError("@record stands above the route's decorator, and would record nothing: put it below, "
                        "directly above the function")  # fmt: skip
    route = _route_below(handler)
    if route:
        raise TypeError(
            f"@record stands above {route}, so that the route has the bare function and nothing would be recorded: "
            "put @record below it, directly above the function"
        )


_OF_CLASSES = "decorate its method that is called with the connection, or " + _ANY


def kind_of_class(handler: type[Any]) -> str | None:
    """Return how connections reach a class: an ``endpoint`` or ``consumer`` of ASGI, aiohttp's ``view``; or None."""
    for base in handler.__mro__:
        name = (base.__module__, base.__name__)
        if name == ("starlette.endpoints", "WebSocketEndpoint"):
            return "endpoint"
        if name == ("aiohttp.web_urldispatcher", "View"):
            return "view"
        if name == ("channels.consumer", "AsyncConsumer"):
            return "consumer"
    return None


def _route_below(handler: object) -> str | None:
    """Return the decorator between ``@record`` and the function if it gives the function to a route; from the source.

    Such a decorator returns the function itself: neither its code nor its name shows that a route has it.
    """
    code = getattr(handler, "__code__", None)
    frame: FrameType | None = sys._getframe(1)  # noqa: SLF001 - the way to the code that decorates
    while frame is not None and frame.f_globals.get("__name__") in {__name__, "bluejay_ws.decorator"}:
        frame = frame.f_back
    if code is None or frame is None or frame.f_code.co_filename != code.co_filename:
        return None
    if not code.co_firstlineno <= frame.f_lineno < code.co_firstlineno + _FEW_LINES:
        return None  # not used as a decorator of this function
    for number in range(frame.f_lineno + 1, frame.f_lineno + _FEW_LINES):
        line = linecache.getline(code.co_filename, number)
        if re.match(r"\s*(async\s+)?def\s", line) or not line:
            return None
        if _ROUTE.match(line):
            return line.strip().partition("(")[0]
    return None


# -- at the first simulated call -----------------------------------------------------------------------------------


def say(opener: Opener, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    """Log, once for each kind, that a call with the id header is not recorded, and count it. Never raises."""
    try:
        _say(opener, [*args, *kwargs.values(), *_of_context()])
    except Exception:
        logger.debug("the arguments of a recorded handler cannot be looked at", exc_info=True)


def _say(opener: Opener, values: list[Any]) -> None:
    for value in values:
        if _has_id(value):
            kind = type(value)
            opener.client().counters.add("dropped.unknown_server")
            if kind not in _SAID:
                _SAID.add(kind)
                way = _MIDDLEWARE if isinstance(value, dict) and "headers" in value else _way(kind) or _ANY
                text = "@record cannot record this call: it does not know %s.%s. Instead, %s"
                logger.error(text, kind.__module__, kind.__qualname__, way)
            return


def _way(kind: type[Any]) -> str | None:
    for base in kind.__mro__:
        for prefix, way in _WAYS.items():
            if base.__module__.partition(".")[0].strip("_") == prefix or base.__module__.startswith(prefix):
                return way
    return None


def _of_context() -> Iterator[Any]:
    """Yield what frameworks keep outside the arguments: Quart's and Flask's current request."""
    for name, current in (("quart", "websocket"), ("flask", "request")):
        module = sys.modules.get(name)
        proxy = getattr(module, current, None)
        if proxy:  # false outside a request
            yield proxy._get_current_object()  # noqa: SLF001 - the public way of its library to the object


def _has_id(value: Any) -> bool:
    """Return whether the connect request of a connection has the id header, wherever its framework keeps headers."""
    return any(headers is not None and header_values(headers, ID_HEADER) for headers in _headers_of(value))


def _headers_of(value: Any) -> Iterator[Any]:
    if isinstance(value, dict):  # an ASGI scope, a WSGI environ
        yield value.get("headers")
        yield value if "REQUEST_METHOD" in value else None
        return
    for name in ("headers", "request_headers", "environ"):
        yield getattr(value, name, None)
    yield getattr(getattr(value, "request", None), "headers", None)
    scope = getattr(value, "scope", None)
    yield scope.get("headers") if isinstance(scope, dict) else getattr(scope, "headers", None)
