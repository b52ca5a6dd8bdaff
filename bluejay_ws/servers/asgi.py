"""Observe websockets of any ASGI application, at its ``receive`` and ``send``; imports no framework.

::

    app.add_middleware(BluejayMiddleware, client=bluejay)      # Starlette, FastAPI
    app = BluejayMiddleware(app, client=bluejay)               # any ASGI application

What an application does not ask for cannot be seen here: a caller's hang-up is known when the application receives it
or ends. Servers differ in what they say about it (see `Wire.disconnected`).
"""

from __future__ import annotations

import asyncio
import threading
from time import monotonic
from typing import TYPE_CHECKING, Any, TypeAlias

from bluejay_ws.client import default_client, opening_failed
from bluejay_ws.wire.ids import checked_sources, ids_in_query
from bluejay_ws.wire.platform import ID_HEADER

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, MutableMapping

    from bluejay_ws.call import Call
    from bluejay_ws.client import Bluejay
    from bluejay_ws.wire.ids import IdSource

    Message: TypeAlias = MutableMapping[str, Any]
    Scope: TypeAlias = MutableMapping[str, Any]
    Receive: TypeAlias = Callable[[], Awaitable[Message]]
    Send: TypeAlias = Callable[[Message], Awaitable[None]]
    App: TypeAlias = Callable[[Scope, Receive, Send], Awaitable[None]]

__all__ = ["SCOPE_KEY", "BluejayMiddleware", "Wire", "open_scope"]

SCOPE_KEY = "bluejay_ws"
"""Where the connection's `Call` stands in its ASGI scope: whoever finds one there does not record it again."""

_HEADER = ID_HEADER.lower().encode()
_SERVER_CODES = frozenset({1012})  # sent by servers that shut down
_VAGUE_CODES = frozenset({1005, 1006})  # of a dropped connection, and with some servers of a proper close too
_REFUSALS = frozenset({None, "HTTPException", "WebSocketException"})  # ways of frameworks to say no, and no crash
_SHUTDOWN = frozenset({"lifespan.shutdown.complete", "lifespan.shutdown.failed"})


class BluejayMiddleware:
    """Give each websocket of an ASGI application a recorder, and send its report when it closes.

    It passes everything else through. When the server shuts the application down, it waits for the delivery of the
    reports that are left, before it tells the server that the shutdown is complete. Beside ``@record`` on an endpoint
    nothing is recorded twice.

    Args:
        app: any ASGI application; frameworks pass it themselves.
        client: a configured client; default the one made from the environment at the first simulated call.
        id_from: where the call's id may stand; see `record`.
        flush_timeout: seconds to wait at shutdown; default the client's own ``flush_timeout``.

    Raises:
        ValueError: ``id_from`` names an unknown place.
    """

    __slots__ = ("_client", "_flush_timeout", "_id_from", "app")

    def __init__(
        self,
        app: App,
        client: Bluejay | None = None,
        *,
        id_from: tuple[IdSource, ...] = ("header",),
        flush_timeout: float | None = None,
    ) -> None:
        self.app = app
        self._client = client
        self._id_from = checked_sources(id_from)
        self._flush_timeout = flush_timeout

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection, or the application's lifespan."""
        if scope["type"] != "websocket":
            return await self.app(scope, receive, self._flushing(send) if scope["type"] == "lifespan" else send)
        call = self._open_call(scope)
        if call is None:
            return await self.app(scope, receive, send)
        return await self._serve(call, scope, receive, send)

    def _open_call(self, scope: Scope) -> Call | None:
        if SCOPE_KEY in scope:  # another middleware, further out, has it
            return None
        try:
            return open_scope(scope, self._its_client, self._id_from, server="asgi")
        except Exception as error:  # noqa: BLE001 - no error of ours reaches the agent
            opening_failed(self._its_client, error)
            return None

    def _its_client(self) -> Bluejay:
        if self._client is None:
            self._client = default_client()
        return self._client

    async def _serve(self, call: Call, scope: Scope, receive: Receive, send: Send) -> None:
        wire = Wire(call)
        leave = call.handler_started()
        try:
            await self.app(scope, wire.observed_receive(receive), wire.observed_send(send))
        except BaseException as error:
            leave()
            call.handler_ended(error)
            wire.ended()
            if isinstance(error, Exception):
                await call.linger()
            raise
        leave()
        call.handler_ended()
        wire.ended()
        await call.linger()  # not every framework lets its middlewares see the lifespan

    def _flushing(self, send: Send) -> Send:
        """Return a ``send`` that delivers what is left before it lets the end of the shutdown through."""

        async def flushing_send(message: Message) -> None:
            if message["type"] in _SHUTDOWN and self._client is not None:
                await self._flush(self._client)
            await send(message)

        return flushing_send

    async def _flush(self, client: Bluejay) -> None:
        try:
            await client.aflush(self._flush_timeout)
        except Exception as error:  # noqa: BLE001 - no error of ours keeps a server from shutting down
            client.failed("flush", error, None)


def open_scope(
    scope: Scope, client: Callable[[], Bluejay], id_from: tuple[IdSource, ...], *, server: str
) -> Call | None:
    """Return the call of a websocket's scope, and put it there; None without a usable id.

    Args:
        scope: the ASGI scope of the connection.
        client: gives the client; not called where the connection cannot be a call.
        id_from: where the call's id may stand, in this order.
        server: the adapter's name, for the report.
    """
    values = []
    if "header" in id_from:
        values = [value.decode("latin-1") for name, value in scope.get("headers", ()) if name.lower() == _HEADER]
    if not values and "query" in id_from:
        values = ids_in_query("?" + scope.get("query_string", b"").decode("latin-1"))
    look = "message" in id_from
    if not values and not look:
        return None
    call = client().open_call(values, server=server, look=look)
    if call is not None:
        scope[SCOPE_KEY] = call  # in place: frameworks hand values to the outside by changing the scope
    return call


class Wire:
    """What passes one websocket's ``receive`` and ``send``, told to its call. Never raises, never changes a message.

    Args:
        call: the connection's.
        accepted: whether the handshake is done already.
        ends_with_handler: whether nobody will call `ended`; the call ends where its handler does.
    """

    __slots__ = ("accepted", "call", "ends_with_handler", "observer")

    def __init__(self, call: Call, *, accepted: bool = False, ends_with_handler: bool = False) -> None:
        self.call = call
        self.observer = call.observer
        self.accepted = accepted
        self.ends_with_handler = ends_with_handler
        if ends_with_handler:
            call.ends_with_handler()

    def observed_receive(self, receive: Receive) -> Receive:
        """Return a ``receive`` that is observed."""
        call, observer = self.call, self.observer

        async def receive_message() -> Message:
            message = await receive()
            try:
                if message["type"] == "websocket.receive":
                    data = message.get("bytes")
                    if data is not None:
                        observer.user_audio(data, (monotonic() - call.started) * 1e3)
                    else:
                        self.user_text(message["text"])
                elif message["type"] == "websocket.disconnect":
                    self.disconnected(message)
            except Exception as error:  # noqa: BLE001 - no error of ours reaches the agent
                call.failed("frame", error)
            return message

        return receive_message

    def observed_send(self, send: Send) -> Send:
        """Return a ``send`` that is observed."""
        call, observer = self.call, self.observer

        async def send_message(message: Message) -> None:
            try:
                await send(message)
            except Exception as error:
                self.not_sent(error)
                raise
            try:
                if message["type"] == "websocket.send":
                    data = message.get("bytes")
                    if data is not None:
                        observer.agent_audio(data, (monotonic() - call.started) * 1e3)
                    else:
                        observer.agent_text(message["text"], (monotonic() - call.started) * 1e3)
                else:
                    self.sent(message)
            except Exception as error:  # noqa: BLE001 - no error of ours reaches the agent
                call.failed("frame", error)

        return send_message

    def user_text(self, text: str) -> None:
        """Note a text message from the caller."""
        if self.call.looking:
            self.call.look_for_id(text)
        self.observer.user_text(text, (monotonic() - self.call.started) * 1e3)

    def sent(self, message: Message) -> None:
        """Note a message of the application that is no frame: it accepts, refuses or closes."""
        kind = message["type"]
        if kind == "websocket.accept":
            self.accepted = True
            self.call.handshake_done()
        elif not self.accepted:
            self.call.refused(crashed=False)
        elif kind == "websocket.close":
            self._closed(message.get("code") or 1000, message.get("reason"), "agent")

    def not_sent(self, error: Exception) -> None:
        """Note that the server could not send: an `OSError`, or what Starlette makes of it, means nobody is there."""
        if self.accepted and (isinstance(error, OSError) or getattr(error, "code", None) == 1006):
            self._closed(1006, None, "unknown")

    def disconnected(self, message: Message) -> None:
        """Note that the connection is over, as far as the server tells.

        uvicorn says 1005 both of a close without a code and of a dropped connection, hypercorn 1006 of every end: who
        closed is unknown then. 1012 is a server shutting down.
        """
        code = message.get("code") or 1005
        self.call.stopping = code in _SERVER_CODES
        if not self.accepted:
            self.call.refused(crashed=False)
        else:
            by = "unknown" if code in _VAGUE_CODES else "agent" if self.call.stopping else "caller"
            self._closed(code, message.get("reason"), by)

    def ended(self) -> None:
        """Note that the application has ended, closed or not."""
        if self.call.closed_facts is None:
            if self.accepted:
                self.call.connection_closed({"closed_by": "agent"})  # the server closes for it, with a code of its own
            else:
                self.call.refused(crashed=self.call.crashed not in _REFUSALS)

    def _closed(self, code: int, reason: str | None, by: str) -> None:
        facts = {"close_code": int(code), "close_reason": reason or "", "closed_by": by}
        if self.ends_with_handler:
            self.call.closed_facts, self.ends_with_handler = facts, False
        self.call.connection_closed(facts, _later)


def _later(seconds: float, action: Callable[[], None]) -> None:
    """Run an action after so many seconds: on asyncio's loop, where there is none (trio) in a thread."""
    try:
        asyncio.get_running_loop().call_later(seconds, action)
    except RuntimeError:
        timer = threading.Timer(seconds, action)
        timer.daemon = True
        timer.start()
