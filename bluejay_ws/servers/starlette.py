"""Observe the websocket object that a Starlette, FastAPI or Litestar handler is given; imports none of them.

For ``@record`` on a handler. It gets the very object its framework made: what is observed is the ASGI ``receive`` and
``send`` below it, so that every method of the object, and of a user's subclass, works as it is written. What happens
outside the handler (a dependency that refuses, an error handler that closes) is seen as far as it uses the same
object; `BluejayMiddleware` sees all of it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from bluejay_ws.servers.asgi import SCOPE_KEY, ObjectConnection, open_scope

if TYPE_CHECKING:
    from collections.abc import Callable

    from bluejay_ws.call import Call
    from bluejay_ws.client import Bluejay
    from bluejay_ws.wire.ids import IdSource

__all__ = ["open_call"]


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
