"""What `record` cannot record, and what to do instead: said where it is decorated, or at the first simulated call."""

from __future__ import annotations

import functools
import inspect
import itertools
import linecache
import logging
import re
import sys
from typing import TYPE_CHECKING, Any

from bluejay_ws.wire.ids import header_values
from bluejay_ws.wire.platform import ID_HEADER

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import CodeType, FrameType

    from bluejay_ws.servers.base import Opener

__all__ = ["check", "function_of", "in_context", "kind_of_class", "say"]

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
    "robyn": (
        "let the platform put the id into the URL, and use in the handler: with bluejay.call("
        '{"X-Simulation-Result-Id": websocket.query_params.get("simulation_result_id", None)}) as recorder'
    ),
}
# Connections that keep nothing of the connect request's headers: nobody can know which of them is a simulated call.
_WITHOUT_HEADERS = ("robyn.ws", "litestar.handlers.websocket_handlers.listener")
_ANY = _CALL.format("headers")
_OF_CLASSES = "decorate its method that is called with the connection, or " + _ANY
_PER_MESSAGE = re.compile(r"\s*@(?:\w+\.)*(websocket_listener|websocket_stream|send_websocket_stream)\(")
_ROUTE = re.compile(r"\s*@[\w.]+\.(websocket|websocket_route|ws|route|get|view)\(")
_SAID: set[object] = set()
_FEW_LINES = 40
_GENERATORS = inspect.CO_GENERATOR | inspect.CO_ASYNC_GENERATOR


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
    if type(handler).__module__.startswith("litestar.handlers"):
        raise TypeError("@record stands above the route's decorator, and would record nothing: put it below, "
                        "directly above the function")  # fmt: skip
    code: CodeType | None = getattr(function_of(handler), "__code__", None)
    if code is not None:
        _check_code(code, handler)


def _check_code(code: CodeType, handler: object) -> None:
    if code.co_flags & _GENERATORS and not code.co_flags & inspect.CO_ITERABLE_COROUTINE:
        raise TypeError(
            f"record() cannot record the generator function {code.co_name}: it returns before it serves. "
            f"Instead, {_MIDDLEWARE}; or {_ANY}"
        )
    if code is not getattr(handler, "__code__", None):
        return
    above, below = _decorators(code)
    route = next(filter(_ROUTE.match, below), None)
    if route:
        raise TypeError(
            f"@record stands above {_name(route)}, so that the route has the bare function and nothing would be "
            "recorded: put @record below it, directly above the function"
        )
    per_message = next(filter(_PER_MESSAGE.match, above), None)
    if per_message:
        raise TypeError(
            f"record() cannot record a function of {_name(per_message)}: it is called for each message, without the "
            f"connection. Instead, {_MIDDLEWARE}"
        )


def function_of(handler: Any) -> Any:
    """Return the function behind partials and callable objects."""
    while isinstance(handler, functools.partial):
        handler = handler.func
    return handler if inspect.isroutine(handler) else getattr(handler, "__call__", handler)  # noqa: B004


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


def _decorators(code: CodeType) -> tuple[list[str], list[str]]:
    """Return the source lines above and below ``@record`` down to the function; none where it is no decorator.

    A route's decorator returns the function itself: neither its code nor its name shows that a route has it.
    """
    frame: FrameType | None = sys._getframe(1)  # noqa: SLF001 - the way to the code that decorates
    while frame is not None and frame.f_globals.get("__name__") in {__name__, "bluejay_ws.decorator"}:
        frame = frame.f_back
    if frame is None or frame.f_code.co_filename != code.co_filename:
        return [], []
    if not code.co_firstlineno <= frame.f_lineno < code.co_firstlineno + _FEW_LINES:
        return [], []
    line = functools.partial(linecache.getline, code.co_filename)
    here = frame.f_lineno
    above = map(line, range(code.co_firstlineno, here))
    below = itertools.takewhile(_no_def, map(line, range(here + 1, here + _FEW_LINES)))
    return list(above), list(below)


def _no_def(line: str) -> bool:
    return bool(line) and not re.match(r"\s*(async\s+)?def\s", line)


def _name(decorator: str) -> str:
    return decorator.strip().partition("(")[0]


# -- at the first simulated call -----------------------------------------------------------------------------------


def say(opener: Opener, args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
    """Log, once for each kind, that a call with the id header is not recorded, and count it. Never raises.

    Returns:
        Whether there is such a call.
    """
    try:
        return _say(opener, [*args, *kwargs.values(), in_context("flask", "request")])
    except Exception:
        logger.debug("the arguments of a recorded handler cannot be looked at", exc_info=True)
        return False


def _say(opener: Opener, values: list[Any]) -> bool:
    for value in values:
        kind = type(value)
        if any(base.__module__ in _WITHOUT_HEADERS for base in kind.__mro__):
            _say_once(kind, "any call: its {} has no headers", _way(kind))
            return True
        if not _is_stand_in(value) and _has_id(value):
            opener.client().counters.add("dropped.unknown_server")
            way = _MIDDLEWARE if isinstance(value, dict) and "headers" in value else _way(kind) or _ANY
            _say_once(kind, "this call: it does not know {}", way)
            return True
    return False


def _say_once(kind: type[Any], what: str, way: str | None) -> None:
    if kind not in _SAID:
        _SAID.add(kind)
        logger.error(
            "@record cannot record %s. Instead, %s", what.format(f"{kind.__module__}.{kind.__qualname__}"), way
        )


def _is_stand_in(value: Any) -> bool:
    """Return whether this is a mock of a user's own test: it would note every question."""
    mock = sys.modules.get("unittest.mock")
    return mock is not None and isinstance(value, mock.NonCallableMock)


def _way(kind: type[Any]) -> str | None:
    for base in kind.__mro__:
        for prefix, way in _WAYS.items():
            if base.__module__.partition(".")[0].strip("_") == prefix or base.__module__.startswith(prefix):
                return way
    return None


def in_context(framework: str, current: str) -> Any:
    """Return what a framework keeps in the handler's context, and not in its arguments; None outside a request."""
    try:
        proxy = getattr(sys.modules.get(framework), current, None)
        return proxy._get_current_object() if proxy else None  # noqa: SLF001 - the public way of its library to the object
    except Exception:  # noqa: BLE001 - a module of another's with that name
        return None


def _has_id(value: Any) -> bool:
    """Return whether the connect request of a connection has the id header, wherever its framework keeps headers."""
    return any(header_values(headers, ID_HEADER) for headers in _headers_of(value) if not _is_stand_in(headers))


def _headers_of(value: Any) -> Iterator[Any]:
    if isinstance(value, dict):  # an ASGI scope, a WSGI environ
        yield value.get("headers")
        yield value if "REQUEST_METHOD" in value else None
        return
    for name in ("headers", "request_headers", "environ"):
        yield getattr(value, name, None)
    for name in ("request", "websocket", "ws", "socket", "connection"):  # the last are of a user's own objects
        yield getattr(getattr(value, name, None), "headers", None)
    scope = getattr(value, "scope", None)
    yield scope.get("headers") if isinstance(scope, dict) else getattr(scope, "headers", None)
