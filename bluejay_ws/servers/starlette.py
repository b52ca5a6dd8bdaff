"""Observe the websocket object that a Starlette, FastAPI or Litestar handler is given; imports none of them.

For ``@record`` on a handler. It gets the very object its framework made: what is observed is the ASGI ``receive`` and
``send`` below it, so that every method of the object, and of a user's subclass, works as it is written. What happens
outside the handler (a dependency that refuses, an error handler that closes) is seen as far as it uses the same
object; `BluejayMiddleware` sees all of it.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from bluejay_ws.servers.asgi import SCOPE_KEY, AsgiConnection, open_scope

if TYPE_CHECKING:
    from collections.abc import Callable

    from bluejay_ws.call import Call
    from bluejay_ws.client import Bluejay
    from bluejay_ws.wire.ids import IdSource

__all__ = ["ObjectConnection", "current_task", "open_call"]


def open_call(
    websocket: Any,
    client: Callable[[], Bluejay],
    id_from: tuple[IdSource, ...] = ("header",),
    *,
    part: bool = False,
) -> Call | None:
    """Return the call of a framework's websocket object, observed from now on; None without a usable id.

    Args:
        websocket: what the framework hands to its handler.
        client: gives the client; not called where the connection cannot be a call.
        id_from: where the call's id may stand, in this order.
        part: the handler is one of several methods: the call ends with its connection, and not with this one.
    """
    known: Call | None = websocket.scope.get(SCOPE_KEY)
    if known is not None:  # the middleware's, or a handler decorated twice: one connection, one call
        return known
    litestar = hasattr(websocket, "connection_state")
    call = open_scope(websocket.scope, client, id_from, server="litestar" if litestar else "starlette")
    if call is not None:
        names = ("receive", "send") if litestar else ("_receive", "_send")
        state = websocket.connection_state if litestar else websocket.application_state.name
        accepted = state in {"CONNECTED", "receive"}
        connection = ObjectConnection(call, websocket, names, accepted=accepted, outlasts=part)
        connection.attach(connection.observe)
    return call


class ObjectConnection(AsgiConnection):
    """The two functions in a websocket object, replaced until the call is over."""

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


def current_task() -> asyncio.Task[Any] | None:
    """Return asyncio's current task; None on trio."""
    try:
        return asyncio.current_task()
    except RuntimeError:
        return None
