"""`record`: one recorder for each connection that a handler serves."""

from __future__ import annotations

import functools
import inspect
import logging
import sys
from importlib import import_module
from types import FunctionType, GeneratorType
from typing import TYPE_CHECKING, Any, ParamSpec, Protocol, TypeAlias, TypeVar, get_origin, overload

from bluejay_ws.delivery.sender import preload
from bluejay_ws.exceptions import ConfigurationError
from bluejay_ws.servers import unsupported
from bluejay_ws.servers.base import Opener
from bluejay_ws.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from bluejay_ws.call import Call
    from bluejay_ws.client import Bluejay
    from bluejay_ws.wire.ids import IdSource

    _Finder: TypeAlias = Callable[[tuple[Any, ...], dict[str, Any]], Call | None]

__all__ = ["record"]

logger = logging.getLogger("bluejay_ws")

P = ParamSpec("P")
R = TypeVar("R")
T = TypeVar("T")

# The connection types that are known by the module that defines them or one of their bases.
_ADAPTERS = {
    "websockets.asyncio.": "bluejay_ws.servers.websockets",
    "websockets.sync.": "bluejay_ws.servers.websockets",
    "websockets.trio.": "bluejay_ws.servers.websockets",
    "starlette.websockets": "bluejay_ws.servers.starlette",
    "litestar.connection.websocket": "bluejay_ws.servers.starlette",
    "aiohttp.web_request": "bluejay_ws.servers.aiohttp",
    "aiohttp.web_urldispatcher": "bluejay_ws.servers.aiohttp",  # a View, which has the request
    "sanic.request": "bluejay_ws.servers.sanic",
    "quart.wrappers.websocket": "bluejay_ws.servers.quart",
}


class _Record(Protocol):
    """`record` with its options given."""

    @overload
    def __call__(self, handler: type[T], /) -> type[T]: ...
    @overload
    def __call__(self, handler: Callable[P, R], /) -> Callable[P, R]: ...


@overload
def record(
    handler: type[T],
    /,
    *,
    client: Bluejay | None = None,
    id_from: tuple[IdSource, ...] = ("header",),
    id_names: tuple[str, ...] = (),
) -> type[T]: ...


@overload
def record(
    handler: Callable[P, R],
    /,
    *,
    client: Bluejay | None = None,
    id_from: tuple[IdSource, ...] = ("header",),
    id_names: tuple[str, ...] = (),
) -> Callable[P, R]: ...


@overload
def record(
    handler: None = None,
    /,
    *,
    client: Bluejay | None = None,
    id_from: tuple[IdSource, ...] = ("header",),
    id_names: tuple[str, ...] = (),
) -> _Record: ...


def record(
    handler: Any = None,
    /,
    *,
    client: Bluejay | None = None,
    id_from: tuple[IdSource, ...] = ("header",),
    id_names: tuple[str, ...] = (),
) -> Any:
    """Give each connection of a handler a recorder, and send its report when the socket closes.

    Decorate the handler, or wrap it where it is served: ``serve(record(agent), host, port)``. The handler
    sees the very connection its server made; its result, exceptions and signature stay as they are. A
    connection without the id header is not a simulation: nothing is recorded and nothing is slowed. A class that
    serves connections (Starlette's ``WebSocketEndpoint``, aiohttp's ``View``, a Channels consumer) comes back as a
    class of its kind. An ASGI application is recorded as `BluejayMiddleware` records it.

    Args:
        handler: called with the connection: a coroutine function (``websockets.asyncio``; Starlette, FastAPI,
            Litestar, Quart, Sanic and aiohttp handlers), a plain function (``websockets.sync``), or such a class.
        client: a configured client; default one made from the environment at the first simulated call.
        id_from: where the call's id may stand, in this order: ``"header"``; ``"query"`` (``?simulation_result_id=``);
            ``"message"``, a carrier's first JSON messages (``start.customParameters``). With ``"message"`` a
            connection without id is recorded in memory until the id is there or its first eight text messages had none.
        id_names: your own names for the id, such as ``("sim_id",)``, beside the platform's; in all these places.

    Raises:
        TypeError: ``handler`` cannot be recorded, or ``client`` is no client; the message says what to do.
        ValueError: ``id_from`` names an unknown place, or ``id_names`` cannot be names.
    """
    again = functools.partial(record, client=client, id_from=id_from, id_names=id_names)
    if handler is None:
        return again
    if isinstance(handler, staticmethod | classmethod):
        return type(handler)(again(handler.__func__))
    if inspect.isclass(get_origin(handler)):  # Agent[int]: calling it would make one
        return again(get_origin(handler))
    unsupported.check(handler)
    opener = Opener(client, id_from, id_names)
    if client is None:
        _check_environment()
    if inspect.isclass(handler):
        return _recorded_class(handler, opener)
    if _is_asgi(handler):
        return _recorded_app(handler, client, id_from, id_names)
    find = functools.partial(_find_call, opener)
    make: Any = _async_wrapper if _is_async(handler) else _wrapper
    return _like(handler, make(handler, find))


@functools.cache
def _check_environment() -> None:
    """Warn, once and where the handler is decorated, of an environment that no client can be made of.

    The environment may still change before the first call, so this is no error.
    """
    try:
        settings = Settings.load()
        if settings.api_key is not None or settings.database is not None:  # calls are expected here
            preload(settings.database)
    except ConfigurationError as error:
        logger.warning("calls will not be recorded: %s", error)


def _is_async(handler: Callable[..., Any]) -> bool:
    return inspect.iscoroutinefunction(unsupported.function_of(handler))


def _like(handler: Callable[..., Any], wrapper: FunctionType) -> Any:
    """Return the wrapper with the handler's looks: also its globals, where FastAPI before 0.124 finds annotations."""
    own = getattr(inspect.unwrap(unsupported.function_of(handler)), "__globals__", wrapper.__globals__)
    name = getattr(handler, "__name__", type(handler).__name__)  # of a partial or an object, as routers name it
    like = FunctionType(wrapper.__code__, own, name, None, wrapper.__closure__)
    functools.update_wrapper(like, handler)
    like.__name__ = name
    return like


# The two wrappers use nothing global: `_like` gives them the globals of their handler.


def _async_wrapper(handler: Callable[P, Awaitable[R]], find: _Finder) -> Callable[P, Awaitable[R]]:
    async def wrapper(*args: P.args, **kwargs: P.kwargs) -> R:
        call = find(args, kwargs)
        if call is None:
            return await handler(*args, **kwargs)
        before = call.enter()  # `async with call.handling()`, spelled out: 150 bytes less for each idle connection
        try:
            running = handler(*args, **kwargs)
            del args, kwargs  # nothing that is not needed is kept for as long as the call lasts
            result = await running
        except BaseException as error:
            await call.aleave(before, error)
            raise
        await call.aleave(before, None)
        return result

    return wrapper


def _wrapper(handler: Callable[P, R], find: _Finder) -> Callable[P, R]:
    finish = _finish

    def wrapper(*args: P.args, **kwargs: P.kwargs) -> R:
        call = find(args, kwargs)
        if call is None:
            return handler(*args, **kwargs)
        with call.handling():
            return finish(call, handler(*args, **kwargs))  # type: ignore[no-any-return]

    return wrapper


def _finish(call: Call, result: Any) -> Any:
    """Return a handler's result; if it is awaitable its work is yet to come, and is the handler's too."""
    if not hasattr(type(result), "__await__") and not (type(result) is GeneratorType and inspect.isawaitable(result)):
        return result
    call.handler_started()  # counted from now on: the call does not end between here and there
    return _awaited(call, result)


async def _awaited(call: Call, result: Awaitable[R]) -> R:
    async with call.handling():
        call.handler_ended()  # one of the two that are counted for this handler
        return await result


def _find_call(opener: Opener, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Call | None:
    """Return the call of the first argument that is a connection; None if there is none, or no id. Never raises."""
    known = False
    for value in (*args, *kwargs.values()):
        adapter = _adapter_of(value)
        if adapter is not None:
            known = True
            part = {"part": True} if args and _serves_in_parts(args[0], value) else {}
            call = opener.guarded(adapter.open_call, value, **part)
            if call is not None:
                return call
    if known or unsupported.say(opener, args, kwargs):
        return None
    websocket = unsupported.in_context("quart", "websocket")  # a Quart handler has no argument for it
    adapter = _adapter_of(websocket)
    return None if adapter is None else opener.guarded(adapter.open_call, websocket)


def _serves_in_parts(owner: Any, connection: Any) -> bool:
    """Return whether ``owner`` serves its connection by several methods: each ends before the connection does."""
    return owner is not connection and _is_endpoint(type(owner))


def _is_endpoint(kind: type[Any]) -> bool:
    try:
        return unsupported.kind_of_class(kind) == "endpoint"
    except Exception:  # noqa: BLE001 - a class that cannot be looked at is none
        return False


def _adapter_of(value: Any) -> Any:
    kind: Any = type(value)
    try:
        return _adapter(kind)
    except Exception:  # noqa: BLE001 - a class that cannot be looked at or hashed is no connection's
        return None


@functools.lru_cache(maxsize=256)
def _adapter(kind: type[Any]) -> Any:
    for base in kind.__mro__:
        for prefix, module in _ADAPTERS.items():
            if base.__module__.startswith(prefix):
                return import_module(module)
    return None


# -- ASGI applications ----------------------------------------------------------------------------------------------


def _is_asgi(handler: Callable[..., Any]) -> bool:
    try:
        return [*inspect.signature(handler).parameters] == ["scope", "receive", "send"]
    except (TypeError, ValueError):  # it has no signature that could be known
        return False


def _recorded_app(app: Any, client: Bluejay | None, id_from: tuple[IdSource, ...], id_names: tuple[str, ...]) -> Any:
    """Return what serves as the application does: routers tell a function from an object."""
    from bluejay_ws.servers.asgi import BluejayMiddleware  # noqa: PLC0415 - costs import time, as below

    middleware = BluejayMiddleware(app, client, id_from=id_from, id_names=id_names)
    if not inspect.isroutine(app):
        return middleware

    @functools.wraps(app)
    async def recorded(scope: Any, receive: Any, send: Any) -> None:
        await middleware(scope, receive, send)

    return recorded


# -- classes that serve connections --------------------------------------------------------------------------------


def _recorded_class(handler: type[Any], opener: Opener) -> type[Any]:
    """Return the class, recorded at its one method that serves a connection.

    A class that is just being decorated has no name yet: its own method is replaced, since its other methods will find
    it by that name (``super(Agent, self)``). Of a class that stands in its module already, a subclass is recorded.
    """
    name, make = _SERVING[str(unsupported.kind_of_class(handler))]
    method = make(getattr(handler, name), opener)
    method.__name__ = name
    if not _has_its_name(handler):
        setattr(handler, name, method)
        return handler
    names = {"__module__": handler.__module__, "__qualname__": handler.__qualname__, "__doc__": handler.__doc__}
    metaclass: Any = type(handler)
    recorded: type[Any] = metaclass(handler.__name__, (handler,), {**names, name: method})
    return recorded


def _has_its_name(handler: type[Any]) -> bool:
    found: Any = sys.modules.get(handler.__module__)
    for name in handler.__qualname__.split("."):
        found = getattr(found, name, None)
    return found is handler


def _endpoint_method(own: Callable[..., Any], opener: Opener) -> Callable[..., Any]:
    from bluejay_ws.servers.asgi import serve  # noqa: PLC0415 - costs import time that other handlers need not pay

    async def dispatch(self: Any) -> None:
        async def app(_: Any, receive: Any, send: Any) -> None:
            self.receive, self.send = receive, send
            await own(self)

        await serve(opener, app, self.scope, self.receive, self.send)

    return dispatch


def _consumer_method(own: Callable[..., Any], opener: Opener) -> Callable[..., Any]:
    from bluejay_ws.servers.asgi import serve  # noqa: PLC0415 - as above

    async def __call__(self: Any, scope: Any, receive: Any, send: Any) -> None:  # noqa: N807
        await serve(opener, functools.partial(own, self), scope, receive, send)

    return __call__


def _view_method(own: Callable[..., Any], opener: Opener) -> Callable[..., Any]:
    async def answer(self: Any) -> Any:
        return await _Bare(own, self)

    recorded = _async_wrapper(answer, functools.partial(_find_call, opener))

    def __await__(self: Any) -> Any:  # noqa: N807
        return recorded(self).__await__()

    return __await__


_SERVING: dict[str, tuple[str, Callable[..., Any]]] = {
    "endpoint": ("dispatch", _endpoint_method),
    "view": ("__await__", _view_method),
    "consumer": ("__call__", _consumer_method),
}


class _Bare:
    """A view, awaited as its own class would."""

    def __init__(self, own: Callable[..., Any], view: Any) -> None:
        self._own = own
        self._view = view

    def __await__(self) -> Any:
        return self._own(self._view)
