"""Observe the websockets of ``aiohttp.web``.

::

    app = web.Application(middlewares=[bluejay_middleware(bluejay)])
    setup(app, bluejay)        # the same, and reports are delivered before the application is gone

A handler makes its own `WebSocketResponse`; it is caught when it is prepared, and observed by attributes of that one
object: where its ``receive`` returns, and at the writer below its ``send_...`` and ``close``. So all methods, and those
of a user's subclass, work as they are written. A frame is seen when the handler receives it.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, cast

try:
    from aiohttp import WSMsgType, web
except ImportError as missing:
    raise ImportError("bluejay_ws.servers.aiohttp needs aiohttp: pip install 'bluejay_ws[aiohttp]'") from missing

from bluejay_ws.outcome import ABNORMAL, close_facts
from bluejay_ws.servers import base

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from typing import TypeAlias

    from bluejay_ws.call import Call
    from bluejay_ws.client import Bluejay
    from bluejay_ws.wire.ids import IdSource

    Handler: TypeAlias = Callable[[web.Request], Awaitable[web.StreamResponse]]

__all__ = ["BluejayMiddleware", "bluejay_middleware", "open_call", "setup"]

_CALL = "_bluejay_ws"  # the attribute of a request that is its call; a key of its storage would warn
_LOST = {"close_code": ABNORMAL, "close_reason": "", "closed_by": "nobody"}
_BINARY, _TEXT = WSMsgType.BINARY, WSMsgType.TEXT
_HOOK = "_prepare_hook"  # what a request awaits when a response is about to be sent


def bluejay_middleware(
    client: Bluejay | None = None,
    *,
    id_from: tuple[IdSource, ...] = ("header",),
    id_names: tuple[str, ...] = (),
) -> BluejayMiddleware:
    """Return a middleware that gives each websocket a recorder, and sends its report when it closes.

    Args:
        client: a configured client; default the one made from the environment at the first simulated call.
        id_from: where the call's id may stand; see `record`.
        id_names: under which names of your own; see `record`.

    Raises:
        ValueError: ``id_from`` names an unknown place.
    """
    return BluejayMiddleware(client, id_from, id_names)


def setup(
    app: web.Application,
    client: Bluejay | None = None,
    *,
    id_from: tuple[IdSource, ...] = ("header",),
    id_names: tuple[str, ...] = (),
) -> None:
    """Add the middleware to an application, and deliver what is left when the application is cleaned up.

    Args:
        app: an application that has not started.
        client: see `bluejay_middleware`.
        id_from: see `bluejay_middleware`.
        id_names: see `bluejay_middleware`.

    Raises:
        RuntimeError: the application has started.
        ValueError: ``id_from`` names an unknown place.
    """
    middleware = bluejay_middleware(client, id_from=id_from, id_names=id_names)
    app.middlewares.append(middleware)
    app.on_cleanup.append(middleware.flush)


class BluejayMiddleware:
    """What `bluejay_middleware` returns: a middleware of aiohttp's current kind."""

    __middleware_version__ = 1

    def __init__(self, client: Bluejay | None, id_from: tuple[IdSource, ...], id_names: tuple[str, ...] = ()) -> None:
        self._opener = base.Opener(client, id_from, id_names)

    async def __call__(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Serve one request."""
        call = self._opener.guarded(open_call, request)
        if call is None:
            return await handler(request)
        with call.handling():
            return await handler(request)

    async def flush(self, app: web.Application) -> None:  # noqa: ARG002 - the signature of an on_cleanup signal
        """Deliver what is left, within the client's ``flush_timeout``; for ``app.on_cleanup``."""
        await self._opener.flush()


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
    call = base.open_call(
        client,
        id_from,
        server="aiohttp",
        headers=lambda name: list(request.headers.getall(name, ())),
        target=lambda: request.path_qs,
    )
    if call is not None:
        vars(request)[_CALL] = call
        connection = _Connection(call, request)
        connection.attach(connection.observe)
    return call


class _Connection(base.Watched):
    """One request's websocket, observed from where it is prepared. Never raises of its own, never changes a message."""

    __slots__ = ("_request", "_sent", "_tapped", "_too_late", "_websocket")

    def __init__(self, call: Call, request: web.Request) -> None:
        super().__init__(call)
        self._request = request
        self._websocket: web.WebSocketResponse | None = None
        self._sent: dict[str, Any] = {}  # the agent's close
        self._too_late = False  # the caller's was there before, unread
        self._tapped: list[tuple[Any, str, Any]] = []  # an object, its attribute, and what we put there

    # -- the life of the request ----------------------------------------------------------------------------------

    def observe(self) -> None:
        """Wait for the response that the handler prepares, and for the end of the request's task."""
        task = cast("asyncio.Task[Any]", asyncio.current_task())  # the request's own
        self._tap(self._request, _HOOK, self._prepare)
        task.add_done_callback(lambda _: self.over())

    def _tap(self, owner: Any, name: str, method: Callable[[Any], Any]) -> None:
        ours = method(getattr(owner, name))
        vars(owner)[name] = ours  # plain assignment to a request warns in debug mode
        self._tapped.append((owner, name, ours))

    def _prepare(self, prepare: Callable[..., Awaitable[None]]) -> Callable[..., Awaitable[None]]:
        async def prepare_and_observe(response: web.StreamResponse) -> None:
            await prepare(response)
            if isinstance(response, web.WebSocketResponse) and self._websocket is None:
                self.guarded(self._prepared, response)

        return prepare_and_observe

    def _prepared(self, websocket: web.WebSocketResponse) -> None:
        self._websocket = websocket
        self.handshake_done()
        self._tap(websocket, "_post_start", self._started)  # where it gets its writer
        self._tap(websocket, "receive", self._receive)

    def _started(self, post_start: Callable[..., None]) -> Callable[..., None]:
        def start(request: Any, protocol: Any, writer: Any) -> None:
            post_start(request, protocol, writer)
            self.guarded(self._tap, writer, "send_frame", self._send)

        return start

    def over(self) -> None:
        """Note that the request has been served, or its handler and the grace are over."""
        if self._websocket is not None:
            super().over()
        elif not self.call.closed:
            name = self.call.crashed
            self.call.refused(crashed=name is not None and not hasattr(web, name))  # HTTPForbidden is no crash

    def closing(self) -> dict[str, Any]:
        """Return how the connection ends: by the caller's close frame, the agent's, or a loss."""
        code = None if self._websocket is None else self._websocket.close_code
        if self._sent and not self._too_late:
            return self._sent  # whatever the caller answers
        if code is None:
            return {}
        return _LOST if code == ABNORMAL else close_facts(code, None, "caller")

    def let_go(self) -> None:
        """Leave request and websocket as they were made."""
        for owner, name, ours in self._tapped:
            if vars(owner).get(name) is ours:
                del vars(owner)[name]
        self._tapped.clear()

    # -- what passes ----------------------------------------------------------------------------------------------

    def _receive(self, receive: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
        async def receive_message(*args: Any, **kwargs: Any) -> Any:
            message = await receive(*args, **kwargs)
            try:
                if getattr(message, "type", None) is _BINARY:  # a subclass may return what it likes
                    self.observer.user_audio(message.data, (self.clock() - self.zero) / 1e6)
                else:
                    self._received(message)
            except Exception as error:  # noqa: BLE001 - an error of the library never reaches the agent
                self.call.failed("frame", error)
            return message

        return receive_message

    def _received(self, message: Any) -> None:
        kind = getattr(message, "type", None)
        if kind is _TEXT:
            self.call.user_text(message.data, self.now_ms())
        elif kind is WSMsgType.CLOSE:
            self.call.connection_closed(close_facts(message.data, message.extra, "caller"))
        elif kind is WSMsgType.ERROR or (kind is WSMsgType.CLOSED and not self._sent):  # and nobody has closed it
            self.call.connection_closed(_LOST)

    def _send(self, send_frame: Callable[..., Awaitable[None]]) -> Callable[..., Awaitable[None]]:
        async def send_one_frame(message: Any, opcode: Any, *args: Any, **kwargs: Any) -> None:
            try:
                await send_frame(message, opcode, *args, **kwargs)
            except OSError:
                self.guarded(self._not_sent)
                raise
            try:
                if opcode == _BINARY:
                    self.observer.agent_audio(message, (self.clock() - self.zero) / 1e6)
                else:
                    self._passed(message, opcode)
            except Exception as error:  # noqa: BLE001 - an error of the library never reaches the agent
                self.call.failed("frame", error)

        return send_one_frame

    def _not_sent(self) -> None:
        code = None if self._websocket is None else self._websocket.close_code
        if code is None:  # else what `receive` returns says how it ended: this was aiohttp's own close frame
            self.call.connection_closed(self._sent or _LOST)

    def _passed(self, message: Any, opcode: Any) -> None:
        if opcode == _TEXT:
            self.observer.agent_text(message, self.now_ms())
        elif opcode == WSMsgType.CLOSE and self._websocket is not None and self._websocket.close_code is None:
            self._sent = close_facts(int.from_bytes(message[:2], "big"), bytes(message[2:]), "agent")
            self.call.agent_closing()
            asyncio.get_running_loop().call_soon(self._look_behind)

    def _look_behind(self) -> None:
        """See whether a close frame of the caller's was there already: then it has been read at once."""
        self._too_late = self._websocket is not None and self._websocket.close_code is not None
