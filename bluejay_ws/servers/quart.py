"""Observe the websocket of a Quart handler, which stands in the handler's context; imports no Quart.

The handler's context has the one websocket that Quart made for it, when the handler starts: that object is observed
from then on, at the four functions below its methods. How the caller left is known to the task with which Quart reads
the connection, and to nobody else: Quart throws the message away and cancels the handler.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from bluejay_ws.servers.asgi import SCOPE_KEY, AsgiConnection, open_scope
from bluejay_ws.servers.base import current_task

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from types import FrameType

    from bluejay_ws.call import Call
    from bluejay_ws.client import Bluejay
    from bluejay_ws.wire.ids import IdSource

__all__ = ["open_call"]


def open_call(
    websocket: Any, client: Callable[[], Bluejay], id_from: tuple[IdSource, ...] = ("header",)
) -> Call | None:
    """Return the call of a Quart websocket, observed from now on; None without a usable id.

    Args:
        websocket: the object behind ``quart.websocket`` in the handler's context.
        client: gives the client; not called where the connection cannot be a call.
        id_from: where the call's id may stand, in this order.
    """
    known: Call | None = websocket.scope.get(SCOPE_KEY)
    if known is not None:  # the middleware's, or a handler decorated twice
        return known
    call = open_scope(websocket.scope, client, id_from, server="quart")
    if call is not None:
        connection = _Connection(call, websocket)
        connection.attach(connection.observe)
    return call


class _Connection(AsgiConnection):
    """The functions in a Quart websocket, replaced until the call is over."""

    __slots__ = ("_own", "_reading", "_serving", "_websocket")

    def __init__(self, call: Call, websocket: Any) -> None:
        send = websocket._send  # noqa: SLF001 - a method of Quart's, with the server's `send` bound to it
        self._serving = getattr(getattr(send, "func", None), "__self__", None)
        super().__init__(
            call,
            websocket._receive,  # noqa: SLF001
            next(iter(getattr(send, "args", ())), None),  # type: ignore[arg-type]
            accepted=bool(getattr(self._serving, "_accepted", False)),
        )
        self._websocket = websocket
        self._own: dict[str, Any] = {}
        self._reading: FrameType | None = None  # of the task that reads the connection

    def observe(self) -> None:
        """Take the place of the websocket's functions, and wait for the ends of its two tasks."""
        for name in ("_receive", "_send", "_accept", "_close"):
            self._own[name] = getattr(self._websocket, name)
            setattr(self._websocket, name, self._observing(self._own[name], getattr(self, "_note" + name)))
        task = current_task()
        if task is None:  # on trio, where nobody says when the tasks end
            return
        task.add_done_callback(lambda _: self.over())
        reader = _reader_of(self._serving)
        if reader is not None:
            self._reading = reader.get_coro().cr_frame  # type: ignore[union-attr]
            reader.add_done_callback(self._reader_ended)

    def let_go(self) -> None:
        """Put the websocket's own functions back."""
        for name, own in self._own.items():
            setattr(self._websocket, name, own)
        self._reading = None

    # -- the ends -------------------------------------------------------------------------------------------------

    def _reader_ended(self, _: object) -> None:
        """Look at the last message that Quart read: the frame of a task that has ended keeps its variables."""
        last = self._reading.f_locals.get("event") if self._reading is not None else None
        if isinstance(last, dict):
            self.guarded(self._learn, last)

    # -- what passes ----------------------------------------------------------------------------------------------

    def _observing(self, own: Callable[..., Awaitable[Any]], note: Callable[..., None]) -> Callable[..., Any]:
        async def observed(*args: Any) -> Any:
            try:
                result = await own(*args)
            except Exception as error:
                self.guarded(self._not_sent, error)
                raise
            self.guarded(note, result, *args)
            return result

        return observed

    def _note_receive(self, message: str | bytes) -> None:
        if isinstance(message, str):
            self.call.user_text(message, self.now_ms())
        else:
            self.observer.user_audio(message, self.now_ms())

    def _note_send(self, _: None, message: str | bytes) -> None:
        if isinstance(message, str):
            self.observer.agent_text(message, self.now_ms())
        else:
            self.observer.agent_audio(message, self.now_ms())

    def _note_accept(self, *_: object) -> None:
        if not self.accepted:  # Quart accepts before each message
            self.sent({"type": "websocket.accept"})

    def _note_close(self, _: None, code: int = 1000, reason: str = "") -> None:
        self.sent({"type": "websocket.close", "code": code, "reason": reason})


def _reader_of(connection: Any) -> asyncio.Task[Any] | None:
    """Return the task in which Quart reads a connection; a look at all tasks of the loop, once for a simulated call."""
    for task in asyncio.all_tasks():
        coroutine: Any = task.get_coro()
        code = getattr(coroutine, "cr_code", None)
        if code is not None and code.co_name == "handle_messages":
            frame = coroutine.cr_frame
            if frame is not None and frame.f_locals.get("self") is connection:
                return task
    return None
