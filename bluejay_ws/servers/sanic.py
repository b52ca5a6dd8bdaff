"""Observe the websocket of a Sanic handler: on Sanic's own server its protocol object, under ASGI its two functions.

Sanic is not imported. Its own server speaks with the protocol object of ``websockets``, and calls the handler with the
request and the websocket; the request has both.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from bluejay_ws.servers.asgi import SCOPE_KEY, ObjectConnection, open_scope
from bluejay_ws.servers.base import open_call as open_request
from bluejay_ws.servers.websockets import ProtocolTap, tap_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from bluejay_ws.call import Call
    from bluejay_ws.client import Bluejay
    from bluejay_ws.wire.ids import IdSource

__all__ = ["open_call"]


def open_call(request: Any, client: Callable[[], Bluejay], id_from: tuple[IdSource, ...] = ("header",)) -> Call | None:
    """Return the call of a Sanic request, observed from now on; None without a usable id, or a websocket.

    Args:
        request: what Sanic hands to its handler.
        client: gives the client; not called where the connection cannot be a call.
        id_from: where the call's id may stand, in this order.
    """
    transport = request.transport
    if hasattr(transport, "get_websocket_connection"):
        return _open_asgi(transport, client, id_from)
    protocol = getattr(getattr(transport.get_protocol(), "websocket", None), "ws_proto", None)
    if protocol is None:
        return None
    known = tap_of(protocol)
    if known is not None:
        return known.call
    call = open_request(
        client,
        id_from,
        server="sanic",
        headers=lambda name: request.headers.getall(name, []),
        target=lambda: "?" + request.query_string,
    )
    if call is not None:
        tap = ProtocolTap(call, protocol)
        tap.attach(tap.observe_protocol)
    return call


def _open_asgi(transport: Any, client: Callable[[], Bluejay], id_from: tuple[IdSource, ...]) -> Call | None:
    known: Call | None = transport.scope.get(SCOPE_KEY)
    if known is not None or transport.scope["type"] != "websocket":
        return known
    call = open_scope(transport.scope, client, id_from, server="sanic")
    if call is not None:
        connection = ObjectConnection(call, transport.get_websocket_connection(), ("_receive", "_send"), accepted=True)
        connection.attach(connection.observe)
    return call
