"""What all adapters share: find the id, open the call, watch the connection, and say loudly what cannot be recorded."""

from __future__ import annotations

import asyncio
import logging
import os
import queue
import threading
import time
from time import monotonic
from typing import TYPE_CHECKING, Any

from bluejay_ws.client import Bluejay, default_client, opening_failed
from bluejay_ws.log import say_seldom
from bluejay_ws.wire.ids import IdPlaces, checked_sources, ids_in_query
from bluejay_ws.wire.platform import ID_HEADER

if TYPE_CHECKING:
    from collections.abc import Callable

    from bluejay_ws.call import Call
    from bluejay_ws.wire.ids import IdSource

__all__ = ["Opener", "Watched", "current_task", "later", "open_call"]

_OTHER_CLIENT = (
    "a connection was to be recorded by two clients; the first, which is further out, records it: the key, spool and"
    " redact of the other one are not used; give the middleware and the decorators the same client"
)


class Opener:
    """Which client records, and where a call's id may stand: what a decorator or middleware was configured with.

    Args:
        client: default the process's own, made from the environment at the first simulated call.
        id_from: where the call's id may stand, in this order; see `record`.
        id_names: under which names of the user's own; see `record`.

    Raises:
        TypeError: ``client`` is no client.
        ValueError: ``id_from`` names an unknown place, or ``id_names`` cannot be names.
    """

    __slots__ = ("_client", "_used", "id_from")

    def __init__(self, client: Bluejay | None, id_from: tuple[IdSource, ...], id_names: tuple[str, ...] = ()) -> None:
        if not isinstance(client, Bluejay | None):
            raise TypeError(f"client is a {type(client).__name__}; give a Bluejay(), or leave it out")
        self.id_from = checked_sources(id_from, id_names)
        self._client = self._used = client

    def client(self) -> Bluejay:
        """Return the client; it is made at the first call that needs it."""
        self._used = self._client or default_client()
        return self._used

    def guarded(self, open_call: Callable[..., Call | None], connection: Any, **more: Any) -> Call | None:
        """Return what an adapter's ``open_call`` makes of a connection; None if it fails, which is counted."""
        try:
            call = open_call(connection, self.client, self.id_from, **more)
            return None if call is None else self.recognised(call)
        except Exception as error:  # noqa: BLE001 - an error of the library never reaches the agent
            opening_failed(self.client, error)
            return None

    def recognised(self, call: Call) -> Call:
        """Return the connection's call; say so if another client records it, with other settings than ours."""
        own = self._client
        if own is not None and own.settings is not call.settings and own.settings != call.settings:
            own.counters.add("doubled.clients")
            say_seldom(own.counters, logging.ERROR, _OTHER_CLIENT)
        return call

    async def flush(self, timeout: float | None = None) -> None:  # noqa: ASYNC109
        """Deliver what is left, within ``timeout`` seconds or the client's ``flush_timeout``. Never raises."""
        if self._used is not None:
            try:
                await self._used.aflush(timeout)
            except Exception as error:  # noqa: BLE001 - a server shuts down all the same
                self._used.failed("flush", error, None)


def open_call(
    client: Callable[[], Bluejay],
    id_from: tuple[IdSource, ...],
    *,
    server: str,
    headers: Callable[[str], list[str]],
    target: Callable[[], str],
) -> Call | None:
    """Return a new call if the connect request names one, or may do so later; else None, and no client is made.

    Args:
        client: gives the client.
        id_from: where the call's id may stand, in this order.
        server: the adapter's name, for the report.
        headers: gives the values of a header.
        target: gives the request's target, with its query.
    """
    places = id_from if isinstance(id_from, IdPlaces) else IdPlaces(id_from)
    values: list[str] = []
    if "header" in places:
        values = headers(ID_HEADER) or [value for name in places.headers for value in headers(name)]
    if not values and "query" in places:
        values = ids_in_query(target(), places.names)
    look = "message" in places
    return client().open_call(values, server=server, look=look, names=places.names) if values or look else None


class Watched:
    """A connection that is observed: what passes it goes to its call. Base of the adapters' own.

    Args:
        call: the connection's.
    """

    __slots__ = ("call", "clock", "observer", "zero")

    def __init__(self, call: Call) -> None:
        self.call = call
        self.clock = call.clock
        self.observer = call.observer
        self.zero = call.recorder.started_ns  # here, as each frame needs it

    def attach(self, how: Callable[[], None]) -> None:
        """Observe the connection by ``how``; where that fails the call is recorded without its frames."""
        try:
            how()
            self.call.observed_by(self)
        except Exception as error:  # noqa: BLE001 - the call continues
            self.call.failed("attach", error)

    def guarded(self, action: Callable[..., None], *args: Any) -> None:
        """Run what observes; an error of it is counted and reaches nobody."""
        try:
            action(*args)
        except Exception as error:  # noqa: BLE001 - an error of the library never reaches the agent
            self.call.failed("frame", error)

    def handshake_done(self) -> None:
        """See `Call.handshake_done`."""
        self.call.handshake_done()
        self.zero = self.call.recorder.started_ns

    def now_ms(self) -> float:
        """Return the milliseconds since the handshake."""
        return (self.clock() - self.zero) / 1e6

    def later(self, seconds: float, action: Callable[[], None]) -> None:
        """See `later`."""
        later(seconds, action)

    def look(self) -> None:
        """Learn of an end that has come in, and that nobody has asked for."""

    async def ask(self) -> None:
        """Ask the server once more whether the caller is gone."""

    def closing(self) -> dict[str, Any]:
        """Return how the connection ends, as far as its own side knows; empty while it is open."""
        return {}

    def over(self) -> None:
        """Note that nobody serves the connection any more: what is not known now is not waited for."""
        self.call.connection_closed(self.closing() or {"closed_by": "agent"})

    def let_go(self) -> None:
        """Observe nothing more, and leave the connection as it was made."""


def current_task() -> asyncio.Task[Any] | None:
    """Return asyncio's current task; None on trio."""
    try:
        return asyncio.current_task()
    except RuntimeError:
        return None


def later(seconds: float, action: Callable[[], None]) -> None:
    """Run an action after so many seconds: on asyncio's loop, where there is none (trio, threads) on a thread of ours.

    Args:
        seconds: one of a few: each has a thread of its own.
        action: must not raise.

    Raises:
        RuntimeError: no thread can be started.
    """
    try:
        loop = asyncio.get_running_loop()
    except RuntimeError:
        _timers.setdefault(seconds, _Timer()).run(seconds, action)
    else:
        loop.call_later(seconds, action)


class _Timer:
    """A daemon thread that runs actions in the order in which they came; it starts with the first of them."""

    def __init__(self) -> None:
        self._waiting: queue.SimpleQueue[tuple[float, Callable[[], None]]] = queue.SimpleQueue()
        self._started = False

    def run(self, seconds: float, action: Callable[[], None]) -> None:
        self._waiting.put((monotonic() + seconds, action))
        if not self._started:
            threading.Thread(target=self._work, name="bluejay_ws-timer", daemon=True).start()
            self._started = True

    def _work(self) -> None:
        while True:
            at, action = self._waiting.get()
            time.sleep(max(0.0, at - monotonic()))
            action()
            del action  # an idle thread keeps no call alive


_timers: dict[float, _Timer] = {}
os.register_at_fork(after_in_child=_timers.clear)  # a child starts its own
