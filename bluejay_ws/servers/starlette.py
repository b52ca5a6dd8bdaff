"""Observe the websocket that a Starlette or FastAPI endpoint is given; imports neither.

For ``@record`` on an endpoint. The endpoint gets the very `WebSocket` its framework made: its public ``receive`` and
``send`` are observed by attributes of that one object, through which all its other methods go. What happens outside
the endpoint (a dependency that refuses, an error handler that closes) is seen as far as it uses the same object;
`BluejayMiddleware` sees all of it.
"""

from __future__ import annotations

import asyncio
import functools
from typing import TYPE_CHECKING, Any

from bluejay_ws.servers.asgi import SCOPE_KEY, Wire, open_scope

if TYPE_CHECKING:
    from collections.abc import Callable

    from bluejay_ws.call import Call
    from bluejay_ws.client import Bluejay
    from bluejay_ws.wire.ids import IdSource

__all__ = ["open_call"]


def open_call(
    websocket: Any, client: Callable[[], Bluejay], id_from: tuple[IdSource, ...] = ("header",)
) -> Call | None:
    """Return the call of a Starlette ``WebSocket``, observed from now on; None without a usable id.

    Args:
        websocket: what the framework hands to its endpoint.
        client: gives the client; not called where the connection cannot be a call.
        id_from: where the call's id may stand, in this order.
    """
    known: Call | None = websocket.scope.get(SCOPE_KEY)
    if known is not None:  # the middleware's, or an endpoint decorated twice: one connection, one call
        return known
    call = open_scope(websocket.scope, client, id_from, server="starlette")
    if call is not None:
        try:
            _attach(websocket, call)
        except Exception as error:  # noqa: BLE001 - the call goes on, and is recorded without its frames
            call.failed("attach", error)
            call.ends_with_handler()
    return call


def _attach(websocket: Any, call: Call) -> None:
    task = _current_task()  # None on trio, where nobody else will tell when the connection's task ends
    accepted = websocket.application_state.name == "CONNECTED"
    wire = Wire(call, accepted=accepted, ends_with_handler=task is None)
    ours = {"receive": wire.observed_receive(websocket.receive), "send": wire.observed_send(websocket.send)}
    vars(websocket).update(ours)
    if task is not None:
        task.add_done_callback(functools.partial(_ended, wire, websocket, ours))


def _ended(wire: Wire, websocket: Any, ours: dict[str, Any], _: object) -> None:
    """Note the end of the connection's task, and leave the websocket as it was made: in no cycle of references."""
    wire.ended()
    for name, method in ours.items():
        if vars(websocket).get(name) is method:
            del vars(websocket)[name]
    ours.clear()


def _current_task() -> asyncio.Task[Any] | None:
    try:
        return asyncio.current_task()
    except RuntimeError:
        return None
