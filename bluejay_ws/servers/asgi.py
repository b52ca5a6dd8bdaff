"""Observe websockets of any ASGI application, at its ``receive`` and ``send``; imports no framework.

::

    app.add_middleware(BluejayMiddleware, client=bluejay)      # Starlette, FastAPI
    app = BluejayMiddleware(app, client=bluejay)               # any ASGI application

What an application does not ask for cannot be seen here: a caller's hang-up is known when the application receives it
or ends. Servers differ in what they say about it (see `AsgiConnection.disconnected`).
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, TypeAlias

from bluejay_ws.outcome import ABNORMAL, RESTART, close_facts, left_by
from bluejay_ws.servers.base import Opener, Watched, current_task, open_call

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

__all__ = ["SCOPE_KEY", "AsgiConnection", "BluejayMiddleware", "ObjectConnection", "open_scope", "serve"]

SCOPE_KEY = "bluejay_ws"
"""Where the connection's `Call` stands in its ASGI scope: who finds one there does not record it again."""

_REFUSALS = frozenset({None, "HTTPException", "WebSocketException"})  # ways of frameworks to say no, and no crash
_SHUTDOWN = frozenset({"lifespan.shutdown.complete", "lifespan.shutdown.failed"})
_UNKNOWN = {"close_code": 1005, "close_reason": "", "closed_by": "unknown"}
_LOST = {"close_code": ABNORMAL, "close_reason": "", "closed_by": "nobody"}
_CLOSED = frozenset({"LOCAL_CLOSING", "REMOTE_CLOSING", "CLOSED"})  # states of a wsproto connection
# How long a server that keeps quiet of lost connections is given to say so: twice, as the machine may have stood still.
_ASK = 0.03


class BluejayMiddleware:
    """Give each websocket of an ASGI application a recorder, and send its report when it closes.

    It passes everything else through. When the server shuts the application down, it waits for the delivery of the
    reports that are left, before it says to the server that the shutdown is complete. Beside ``@record`` on an endpoint
    nothing is recorded twice.

    Args:
        app: any ASGI application; frameworks pass it themselves.
        client: a configured client; default the one made from the environment at the first simulated call.
        id_from: where the call's id may stand; see `record`.
        id_names: under which names of your own; see `record`.
        flush_timeout: seconds to wait at shutdown; default the client's own ``flush_timeout``.

    Raises:
        ValueError: ``id_from`` names an unknown place.
    """

    __slots__ = ("_flush_timeout", "_opener", "app")

    def __init__(
        self,
        app: App,
        client: Bluejay | None = None,
        *,
        id_from: tuple[IdSource, ...] = ("header",),
        id_names: tuple[str, ...] = (),
        flush_timeout: float | None = None,
    ) -> None:
        self.app = app
        self._opener = Opener(client, id_from, id_names)
        self._flush_timeout = flush_timeout

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection, or the application's lifespan."""
        if scope["type"] == "websocket":
            await serve(self._opener, self.app, scope, receive, send)
        elif scope["type"] == "lifespan":
            await self._live(scope, receive, self._flushing(send))
        else:
            await self.app(scope, receive, send)

    async def _live(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve the lifespan, in the place of an application that knows none: Django's raise at once."""
        asked = False

        async def asking_receive() -> Message:
            nonlocal asked
            asked = True
            return await receive()

        try:
            await self.app(scope, asking_receive, send)
        except Exception:
            if asked:
                raise
            for word in ("startup", "shutdown"):
                await receive()
                await send({"type": f"lifespan.{word}.complete"})

    def _flushing(self, send: Send) -> Send:
        """Return a ``send`` that delivers what is left before it lets the end of the shutdown through."""

        async def flushing_send(message: Message) -> None:
            if message["type"] in _SHUTDOWN:
                await self._opener.flush(self._flush_timeout)
            await send(message)

        return flushing_send


async def serve(opener: Opener, app: App, scope: Scope, receive: Receive, send: Send) -> None:
    """Run an ASGI application on one websocket, recorded if it is a call that nobody records yet."""
    known = scope.get(SCOPE_KEY)
    call = opener.guarded(open_scope, scope, server="asgi")
    if call is None or call is known:
        return await app(scope, receive, send)
    connection = AsgiConnection(call, receive, send)
    call.observed_by(connection)
    try:
        async with call.handling():
            await app(scope, connection.receive, connection.send)
    finally:
        connection.over()
    return None


def _headers(scope: Scope, name: bytes) -> list[str]:
    return [value.decode("latin-1") for key, value in scope.get("headers", ()) if key.lower() == name]


def open_scope(
    scope: Scope, client: Callable[[], Bluejay], id_from: tuple[IdSource, ...], *, server: str
) -> Call | None:
    """Return the call of a websocket's scope, and put it there if it is new; None without a usable id.

    Args:
        scope: the ASGI scope of the connection.
        client: gives the client; not called where the connection cannot be a call.
        id_from: where the call's id may stand, in this order.
        server: the adapter's name, for the report.
    """
    known: Call | None = scope.get(SCOPE_KEY)
    call = known or open_call(
        client,
        id_from,
        server=server,
        headers=lambda name: _headers(scope, name.lower().encode()),
        target=lambda: "?" + scope.get("query_string", b"").decode("latin-1"),
    )
    if call is not known and call is not None:
        scope[SCOPE_KEY] = call  # in place: frameworks hand values to the outside by changing the scope
    return call


class AsgiConnection(Watched):
    """One websocket's ``receive`` and ``send``, observed. Never raises of its own, never changes a message.

    Args:
        call: the connection's.
        receive: the server's, or what stands in front of it.
        send: as ``receive``.
        accepted: whether the handshake is done already.
    """

    __slots__ = ("_receive", "_send", "accepted")

    def __init__(self, call: Call, receive: Receive, send: Send, *, accepted: bool = False) -> None:
        super().__init__(call)
        self._receive = receive
        self._send = send
        self.accepted = accepted

    async def receive(self) -> Message:
        """Receive a message, and note it."""
        message = await self._receive()
        try:
            if (data := message.get("bytes")) is not None:
                self.observer.user_audio(data, (self.clock() - self.zero) / 1e6)
            elif message["type"] == "websocket.receive":
                self.call.user_text(message["text"], self.now_ms())
            elif message["type"] == "websocket.disconnect":
                self.disconnected(message)
        except Exception as error:  # noqa: BLE001 - an error of the library never reaches the agent
            self.call.failed("frame", error)
        return message

    async def send(self, message: Message) -> None:
        """Send a message, and note it."""
        try:
            await self._send(message)
        except Exception as error:
            self.guarded(self._not_sent, error)
            raise
        try:
            if (data := message.get("bytes")) is not None:
                self.observer.agent_audio(data, (self.clock() - self.zero) / 1e6)
            elif message["type"] == "websocket.send":
                self.observer.agent_text(message["text"], self.now_ms())
            else:
                self.sent(message)
        except Exception as error:  # noqa: BLE001 - an error of the library never reaches the agent
            self.call.failed("frame", error)

    def sent(self, message: Message) -> None:
        """Note a message of the application that is no frame: it accepts, refuses or closes."""
        kind = message["type"]
        if kind == "websocket.accept":
            self.accepted = True
            self.handshake_done()
        elif not self.accepted:
            self.call.refused(crashed=False)
        elif kind == "websocket.close":
            self.call.connection_closed(close_facts(message.get("code") or 1000, message.get("reason"), "agent"))

    def _not_sent(self, error: Exception) -> None:
        """Note that the server could not send: an `OSError`, or what Starlette makes of it, means nobody is there."""
        if self.accepted and (isinstance(error, OSError) or getattr(error, "code", None) == ABNORMAL):
            self.look()
            said = left_by(error.__cause__) if error.__cause__ is not None else None
            self.call.connection_closed((said and said.facts) or _LOST)

    def disconnected(self, message: Message) -> None:
        """Note that the connection is over, as far as the server says.

        A dropped connection: uvicorn says 1005 and gives no reason (of a close without a code it gives an empty
        one), or 1006; Daphne and Granian say 1006 or 1005 without a reason. Hypercorn says 1006 of every end, but
        knows more. 1012 is a server shutting down. Source: their releases of November 2026.
        """
        code = message.get("code") or 1005
        if not self.accepted:
            self.call.refused(crashed=False)
        elif code == ABNORMAL and _closed_properly(self._send):
            self.call.connection_closed(_UNKNOWN)
        elif code == ABNORMAL or (code == 1005 and "reason" not in message):
            self.call.connection_closed(_LOST)
        else:
            self.call.connection_closed(
                close_facts(code, message.get("reason"), "agent" if code == RESTART else "caller")
            )

    def look(self) -> None:
        """Learn of an end that has come in, and that nobody has asked for: uvicorn, Hypercorn and Daphne queue it."""
        if self.accepted:
            server = _behind(self._receive, "receive")
            queue = server if isinstance(server, asyncio.Queue) else getattr(server, "queue", None)
            for message in list(getattr(queue, "_queue", ())):
                self.guarded(self._learn, message)

    async def ask(self) -> None:
        """Learn of a connection that was lost from Granian, which takes what is sent to nobody without a word.

        For where the application has ended, so that nothing is taken from it. Granian answers in less than a
        millisecond if the caller is gone, and not at all if it is there.
        """
        if type(_behind(self._receive, "receive")).__module__.startswith("granian"):
            asking = asyncio.ensure_future(self._receive())
            for _ in range(2):
                await asyncio.wait({asking}, timeout=_ASK)
            if asking.done():
                self.guarded(self._learn, asking.result())
            else:
                asking.cancel()

    def _learn(self, message: Message) -> None:
        if self.accepted and message["type"] == "websocket.disconnect":
            self.disconnected(message)

    def over(self) -> None:
        """Note that the application has ended, or the handler and its grace, closed or not."""
        if self.call.closed:
            return
        if self.accepted:
            super().over()  # the server closes for it, with a code of its own
        else:
            self.call.refused(crashed=self.call.crashed not in _REFUSALS)


class ObjectConnection(AsgiConnection):
    """The two functions in a framework's websocket object, replaced until the call is over."""

    __slots__ = ("_names", "_outlasts", "_websocket")

    def __init__(
        self, call: Call, websocket: Any, names: tuple[str, str], *, accepted: bool, outlasts: bool = False
    ) -> None:
        receive, send = (getattr(websocket, name, None) for name in names)
        super().__init__(call, receive, send, accepted=accepted)  # type: ignore[arg-type]
        self._websocket = websocket
        self._names = names
        self._outlasts = outlasts

    def observe(self) -> None:
        """Take the place of the object's functions; the end of the connection's task is that of the connection."""
        for name, ours in zip(self._names, (self.receive, self.send), strict=True):
            getattr(self._websocket, name)
            setattr(self._websocket, name, ours)
        task = current_task()  # None on trio, where nobody says when the connection's task ends
        if task is not None:
            task.add_done_callback(self._task_ended)
            if self._outlasts:
                self.call.handler_started()  # the connection's task counts as one more

    def let_go(self) -> None:
        """Put the object's own functions back."""
        for name, ours, own in zip(self._names, (self.receive, self.send), (self._receive, self._send), strict=True):
            if getattr(self._websocket, name, None) == ours:
                setattr(self._websocket, name, own)

    def _task_ended(self, _: object) -> None:
        self.over()
        if self._outlasts:
            self.call.handler_ended()


def _closed_properly(send: Any) -> bool:
    """Return whether this is Hypercorn, and its connection was closed with close frames."""
    state = getattr(getattr(_behind(send, "send"), "connection", None), "state", None)
    return getattr(state, "name", None) in _CLOSED


def _behind(function: Any, name: str) -> Any:
    """Return the server's object whose method this is; None if it is none, or hidden.

    Frameworks and middlewares put it inside closures of their own, under the name that ASGI gives it.
    """
    for _ in range(16):
        owner = getattr(function, "__self__", None)
        names = getattr(getattr(function, "__code__", None), "co_freevars", ())
        if owner is not None or name not in names:
            return owner
        function = function.__closure__[names.index(name)].cell_contents
    return None
