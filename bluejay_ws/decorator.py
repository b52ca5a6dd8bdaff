"""`record`: one recorder for each connection that a handler serves."""

from __future__ import annotations

import functools
import inspect
import logging
from importlib import import_module
from types import GeneratorType
from typing import TYPE_CHECKING, Any, ParamSpec, TypeAlias, TypeVar, overload

from bluejay_ws.client import Bluejay, default_client, opening_failed
from bluejay_ws.exceptions import ConfigurationError
from bluejay_ws.settings import Settings
from bluejay_ws.wire.ids import checked_sources

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from types import TracebackType

    from bluejay_ws.call import Call
    from bluejay_ws.wire.ids import IdSource

    _Opener: TypeAlias = Callable[[tuple[Any, ...], dict[str, Any]], Call | None]

__all__ = ["record"]

logger = logging.getLogger("bluejay_ws")

P = ParamSpec("P")
R = TypeVar("R")

# The connection types that can be told at a glance, by the module that defines them or one of their bases.
_ADAPTERS = {
    "websockets.asyncio.": "bluejay_ws.servers.websockets",
    "websockets.sync.": "bluejay_ws.servers.websockets",
    "websockets.trio.": "bluejay_ws.servers.websockets",
    "starlette.websockets": "bluejay_ws.servers.starlette",
    "aiohttp.web_request": "bluejay_ws.servers.aiohttp",
    "aiohttp.web_urldispatcher": "bluejay_ws.servers.aiohttp",  # a View, which has the request
}


@overload
def record(
    handler: Callable[P, R], /, *, client: Bluejay | None = None, id_from: tuple[IdSource, ...] = ("header",)
) -> Callable[P, R]: ...


@overload
def record(
    handler: None = None, /, *, client: Bluejay | None = None, id_from: tuple[IdSource, ...] = ("header",)
) -> Callable[[Callable[P, R]], Callable[P, R]]: ...


def record(
    handler: Callable[P, R] | None = None,
    /,
    *,
    client: Bluejay | None = None,
    id_from: tuple[IdSource, ...] = ("header",),
) -> Callable[P, R] | Callable[[Callable[P, R]], Callable[P, R]]:
    """Give each connection of a handler a recorder, and send its report when the socket closes.

    Decorate the handler, or wrap it where it is served: ``serve(record(agent), host, port)``. The handler
    sees the very connection its server made; its result, exceptions and signature stay as they are. A
    connection without the id header is not a simulation: nothing is recorded and nothing is slowed.

    Args:
        handler: called with the connection: a coroutine function (``websockets.asyncio``, Starlette and
            FastAPI endpoints, aiohttp handlers) or a plain function (``websockets.sync``).
        client: a configured client; default one made from the environment at the first simulated call.
        id_from: where the call's id may stand, in this order: ``"header"``; ``"query"`` (``?simulation_result_id=``);
            ``"message"``, a carrier's first JSON messages (``start.customParameters``). With ``"message"`` a
            connection without id is recorded in memory until the id is there or its first eight text messages had none.

    Raises:
        TypeError: ``handler`` cannot be called.
        ValueError: ``id_from`` names an unknown place.
    """
    if handler is None:
        return functools.partial(record, client=client, id_from=id_from)
    if not callable(handler):
        message = f"record() takes a handler, got {type(handler).__name__}; give options by name: @record(client=...)"
        raise TypeError(message)
    if client is None:
        _check_environment()
    clients = default_client if client is None else lambda: client
    opener = functools.partial(_open_call, clients, checked_sources(id_from))
    if _is_async(handler):
        return _async_wrapper(handler, opener)  # type: ignore[return-value, arg-type]
    return _wrapper(handler, opener)


@functools.cache
def _check_environment() -> None:
    """Warn, once and where the handler is decorated, of an environment that no client can be made of.

    The environment may still change before the first call, so this is no error.
    """
    try:
        Settings.load()
    except ConfigurationError as error:
        logger.warning("calls will not be recorded: %s", error)


def _is_async(handler: Callable[..., Any]) -> bool:
    plain = handler
    while isinstance(plain, functools.partial):
        plain = plain.func
    return inspect.iscoroutinefunction(plain) or inspect.iscoroutinefunction(getattr(plain, "__call__", None))  # noqa: B004


class _Serving:
    """While a handler is at work its call's recorder is the current one; at the end the call learns how it ended."""

    __slots__ = ("_call", "_leave")

    def __init__(self, call: Call) -> None:
        self._call = call

    def __enter__(self) -> None:
        self._leave = self._call.handler_started()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._leave()
        self._call.handler_ended(error)


def _async_wrapper(handler: Callable[P, Awaitable[R]], opener: _Opener) -> Callable[P, Awaitable[R]]:
    @functools.wraps(handler)
    async def wrapper(*args: P.args, **kwargs: P.kwargs) -> R:
        call = opener(args, kwargs)
        if call is None:
            return await handler(*args, **kwargs)
        leave = call.handler_started()
        try:
            running = handler(*args, **kwargs)
            del args, kwargs  # nothing that is not needed is kept for as long as the call lasts
            result = await running
        except BaseException as error:
            leave()
            call.handler_ended(error)
            if isinstance(error, Exception):
                await call.linger()
            raise
        leave()
        call.handler_ended()
        await call.linger()
        return result

    return wrapper


def _wrapper(handler: Callable[P, R], opener: _Opener) -> Callable[P, R]:
    @functools.wraps(handler)
    def wrapper(*args: P.args, **kwargs: P.kwargs) -> R:
        call = opener(args, kwargs)
        if call is None:
            return handler(*args, **kwargs)
        with _Serving(call):
            result = handler(*args, **kwargs)
            if _is_awaitable(result):  # `lambda websocket: agent(websocket, more)`: its work is yet to come
                call.handler_started()()
                return _awaited(call, result)  # type: ignore[return-value,arg-type]
            return result

    return wrapper


def _is_awaitable(result: object) -> bool:
    """Do what `inspect.isawaitable` does, but ask the type only: a result may raise from being asked what it is."""
    return hasattr(type(result), "__await__") or (type(result) is GeneratorType and inspect.isawaitable(result))


async def _awaited(call: Call, result: Awaitable[R]) -> R:
    with _Serving(call):
        call.handler_ended()  # one of the two that are counted for this handler
        return await result


def _open_call(
    clients: Callable[[], Bluejay], id_from: tuple[IdSource, ...], args: tuple[Any, ...], kwargs: dict[str, Any]
) -> Call | None:
    """Return the call of the first argument that is a connection; None if there is none, or no id. Never raises."""
    try:
        for value in (*args, *kwargs.values()):
            kind: Any = type(value)
            adapter = _adapter(kind)
            if adapter is not None:
                call: Call | None = adapter.open_call(value, clients, id_from)
                if call is not None:
                    return call
    except Exception as error:  # noqa: BLE001 - no error of ours reaches the agent
        opening_failed(clients, error)
    return None


@functools.lru_cache(maxsize=256)
def _adapter(kind: type[Any]) -> Any:
    for base in kind.__mro__:
        for prefix, module in _ADAPTERS.items():
            if base.__module__.startswith(prefix):
                return import_module(module)
    return None
