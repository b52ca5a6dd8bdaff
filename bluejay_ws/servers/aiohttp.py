"""Observe the websockets of ``aiohttp.web``.

::

    app = web.Application(middlewares=[bluejay_middleware(bluejay)])
    setup(app, bluejay)        # the same, and reports are delivered before the application is gone

A handler makes its own `WebSocketResponse`; it is caught when it is prepared, and observed by attributes of that one
object over its public methods. A frame is seen when the handler receives it.
"""

from __future__ import annotations

import asyncio
import functools
from time import monotonic
from typing import TYPE_CHECKING, Any, cast

try:
    from aiohttp import WSMsgType, web
except ImportError as missing:
    raise ImportError("bluejay_ws.servers.aiohttp needs aiohttp: pip install 'bluejay_ws[aiohttp]'") from missing

from bluejay_ws.client import default_client, opening_failed
from bluejay_ws.wire.ids import checked_sources, ids_in_query
from bluejay_ws.wire.platform import ID_HEADER

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from typing import TypeAlias

    from bluejay_ws.call import Call
    from bluejay_ws.client import Bluejay
    from bluejay_ws.wire.ids import IdSource

    Handler: TypeAlias = Callable[[web.Request], Awaitable[web.StreamResponse]]

__all__ = ["BluejayMiddleware", "bluejay_middleware", "open_call", "setup"]

_CALL = "_bluejay_ws"  # the attribute of a request that is its call; a key of its storage would warn
_HOOK = "_prepare_hook"  # what a request awaits when a response is about to be sent


def bluejay_middleware(
    client: Bluejay | None = None, *, id_from: tuple[IdSource, ...] = ("header",)
) -> BluejayMiddleware:
    """Return a middleware that gives each websocket a recorder, and sends its report when it closes.

    Args:
        client: a configured client; default the one made from the environment at the first simulated call.
        id_from: where the call's id may stand; see `record`.

    Raises:
        ValueError: ``id_from`` names an unknown place.
    """
    return BluejayMiddleware(client, id_from)


def setup(app: web.Application, client: Bluejay | None = None, *, id_from: tuple[IdSource, ...] = ("header",)) -> None:
    """Add the middleware to an application, and deliver what is left when the application is cleaned up.

    Args:
        app: an application that has not started.
        client: see `bluejay_middleware`.
        id_from: see `bluejay_middleware`.

    Raises:
        RuntimeError: the application has started.
        ValueError: ``id_from`` names an unknown place.
    """
    middleware = bluejay_middleware(client, id_from=id_from)
    app.middlewares.append(middleware)
    app.on_cleanup.append(middleware.flush)


class BluejayMiddleware:
    """What `bluejay_middleware` returns: a middleware of aiohttp's current kind."""

    __middleware_version__ = 1

    def __init__(self, client: Bluejay | None, id_from: tuple[IdSource, ...]) -> None:
        self._client = client
        self._id_from = checked_sources(id_from)

    async def __call__(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Serve one request."""
        call = self._open_call(request)
        if call is None:
            return await handler(request)
        leave = call.handler_started()
        try:
            response = await handler(request)
        except BaseException as error:
            leave()
            call.handler_ended(error)
            raise
        leave()
        call.handler_ended()
        return response

    async def flush(self, app: web.Application) -> None:  # noqa: ARG002 - the signature of an on_cleanup signal
        """Deliver what is left, within the client's ``flush_timeout``; for ``app.on_cleanup``."""
        if self._client is not None:
            try:
                await self._client.aflush()
            except Exception as error:  # noqa: BLE001 - no error of ours keeps an application from ending
                self._client.failed("flush", error, None)

    def _open_call(self, request: web.Request) -> Call | None:
        try:
            return open_call(request, self._its_client, self._id_from)
        except Exception as error:  # noqa: BLE001 - no error of ours reaches the agent
            opening_failed(self._its_client, error)
            return None

    def _its_client(self) -> Bluejay:
        if self._client is None:
            self._client = default_client()
        return self._client


def open_call(request: Any, client: Callable[[], Bluejay], id_from: tuple[IdSource, ...] = ("header",)) -> Call | None:
    """Return the call of an aiohttp request, observed from now on; None without a usable id.

    Args:
        request: what aiohttp hands to its handler, or the `View` that has it.
        client: gives the client; not called where the request cannot be a call.
        id_from: where the call's id may stand, in this order.
    """
    request = getattr(request, "request", request)
    known: Call | None = vars(request).get(_CALL)
    if known is not None or request.headers.get("Upgrade", "").lower() != "websocket":
        return known
    values = list(request.headers.getall(ID_HEADER, ())) if "header" in id_from else []
    if not values and "query" in id_from:
        values = ids_in_query(request.path_qs)
    look = "message" in id_from
    call = client().open_call(values, server="aiohttp", look=look) if values or look else None
    if call is not None:
        vars(request)[_CALL] = call
        try:
            _Wire(call, request).attach()
        except Exception as error:  # noqa: BLE001 - the call goes on, and is recorded without its frames
            call.failed("attach", error)
            call.ends_with_handler()
    return call


class _Wire:
    """What passes one request's websocket, told to its call. Never raises, never changes a message."""

    __slots__ = ("attributes", "call", "observer", "request", "websocket")

    def __init__(self, call: Call, request: web.Request) -> None:
        self.call = call
        self.observer = call.observer
        self.request = request
        self.websocket: web.WebSocketResponse | None = None
        self.attributes: dict[str, Any] = {}

    # -- the life of the request ----------------------------------------------------------------------------------

    def attach(self) -> None:
        """Wait for the response that the handler prepares, and for the end of the request's task."""
        task = cast("asyncio.Task[Any]", asyncio.current_task())  # the request's own
        prepare = getattr(self.request, _HOOK)

        async def prepare_and_observe(response: web.StreamResponse) -> None:
            await prepare(response)
            if isinstance(response, web.WebSocketResponse) and self.websocket is None:
                self._guarded(self._observe, response)

        vars(self.request)[_HOOK] = prepare_and_observe  # plain assignment warns in debug mode
        task.add_done_callback(self._ended)

    def _observe(self, websocket: web.WebSocketResponse) -> None:
        self.websocket = websocket
        observed: dict[str, Callable[[Any], Any]] = {
            "receive": self._receive,
            "send_bytes": functools.partial(self._send, note=self._sent_bytes),
            "send_str": functools.partial(self._send, note=self._sent_text),
            "send_frame": self._send_frame,  # since aiohttp 3.11
            "close": functools.partial(self._close, websocket),
        }
        names = [name for name in observed if hasattr(websocket, name)]
        self.attributes = {name: observed[name](getattr(websocket, name)) for name in names}
        vars(websocket).update(self.attributes)
        self.call.handshake_done()

    def _ended(self, _: object) -> None:
        """Note that the request has been served, and leave request and websocket as they were."""
        vars(self.request).pop(_HOOK, None)
        if self.websocket is None:
            name = self.call.crashed
            self.call.refused(crashed=name is not None and not hasattr(web, name))  # HTTPForbidden is no crash
            return
        for name, ours in self.attributes.items():
            if vars(self.websocket).get(name) is ours:
                del vars(self.websocket)[name]
        self.attributes = {}
        code = self.websocket.close_code
        self._closed({"closed_by": "agent"} if code is None else {"close_code": int(code), "closed_by": "unknown"})

    def _closed(self, facts: dict[str, Any]) -> None:
        self.call.connection_closed(facts, asyncio.get_running_loop().call_later)

    def _guarded(self, action: Callable[..., None], *args: Any) -> None:
        try:
            action(*args)
        except Exception as error:  # noqa: BLE001 - no error of ours reaches the agent
            self.call.failed("frame", error)

    # -- what passes ----------------------------------------------------------------------------------------------

    def _receive(self, receive: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
        async def receive_message(*args: Any, **kwargs: Any) -> Any:
            message = await receive(*args, **kwargs)
            self._guarded(self._received, message)
            return message

        return receive_message

    def _received(self, message: Any) -> None:
        kind, data = message.type, message.data
        if kind is WSMsgType.BINARY:
            self.observer.user_audio(data, (monotonic() - self.call.started) * 1e3)
        elif kind is WSMsgType.TEXT:
            if self.call.looking:
                self.call.look_for_id(data)
            self.observer.user_text(data, (monotonic() - self.call.started) * 1e3)
        elif kind is WSMsgType.CLOSE:
            self._closed({"close_code": int(data), "close_reason": message.extra or "", "closed_by": "caller"})
        elif kind is WSMsgType.ERROR:
            self._closed({"close_code": 1006, "closed_by": "nobody"})

    def _send(
        self, send: Callable[..., Awaitable[None]], note: Callable[[Any], None]
    ) -> Callable[..., Awaitable[None]]:
        async def send_message(data: Any, *args: Any, **kwargs: Any) -> None:
            await self._passed_on(send(data, *args, **kwargs))
            self._guarded(note, data)

        return send_message

    def _send_frame(self, send_frame: Callable[..., Awaitable[None]]) -> Callable[..., Awaitable[None]]:
        notes = {WSMsgType.BINARY: self._sent_bytes, WSMsgType.TEXT: self._sent_text}

        async def send_one_frame(message: Any, opcode: Any, *args: Any, **kwargs: Any) -> None:
            await self._passed_on(send_frame(message, opcode, *args, **kwargs))
            if opcode in notes:
                self._guarded(notes[opcode], message)

        return send_one_frame

    async def _passed_on(self, sending: Awaitable[None]) -> None:
        try:
            await sending
        except OSError:
            self._guarded(self._closed, {"close_code": 1006, "closed_by": "nobody"})
            raise

    def _sent_bytes(self, data: Any) -> None:
        self.observer.agent_audio(data, (monotonic() - self.call.started) * 1e3)

    def _sent_text(self, text: Any) -> None:
        self.observer.agent_text(text, (monotonic() - self.call.started) * 1e3)

    def _close(
        self, websocket: web.WebSocketResponse, close: Callable[..., Awaitable[bool]]
    ) -> Callable[..., Awaitable[bool]]:
        async def close_websocket(*, code: int = 1000, message: bytes = b"", **kwargs: Any) -> bool:
            first = websocket.close_code is None and not websocket.closed
            try:
                return await close(code=code, message=message, **kwargs)
            finally:
                if first:
                    self._guarded(self._agent_closed, int(code), message, websocket.close_code)

        return close_websocket

    def _agent_closed(self, code: int, message: bytes, seen: int | None) -> None:
        if seen in {None, 1006, code}:  # the caller answers with the agent's code, or not at all
            reason = message.decode(errors="replace")
            self._closed({"close_code": code, "close_reason": reason, "closed_by": "agent"})
        else:  # the caller's close had come before, and had not been read
            self._closed({"close_code": seen, "close_reason": "", "closed_by": "caller"})
