"""A TCP proxy that misbehaves: it cuts, stalls and slows the connections between a client and any server.

It moves bytes and knows nothing of HTTP or TLS, so it can break an exchange where the server itself could not tell.
"""

from __future__ import annotations

import contextlib
import select
import socket
import threading
import time
from collections import deque
from dataclasses import dataclass, field
from typing import Literal, Self, TypeAlias
from urllib.parse import urlsplit

from bluejay_ws.testing.faults import Refuse
from bluejay_ws.testing.listener import Listener, finish, reset

__all__ = ["Cut", "Link", "Pass", "Passage", "Proxy", "Refuse", "Stall"]

RECEIVE_SIZE = 64 * 1024
SLICES = 50  # a second, when a rate is kept
CONNECT_SECONDS = 10.0
END_SECONDS = 1.0  # that a peer may take to close its side
WAKE_SECONDS = 0.2
LOOK_MS = 50


@dataclass(frozen=True, kw_only=True)
class Pass:
    """Let everything through.

    Args:
        up: bytes a second from the client to the server; None is as fast as it goes.
        down: bytes a second from the server to the client.
    """

    up: float | None = None
    down: float | None = None


@dataclass(frozen=True, kw_only=True)
class Cut:
    """End the connection, on both sides, when more than so many bytes come; ``Cut()`` does so at connect.

    ``Cut(down=0)`` swallows the answer: the server has done its work, and the client learns only that it is gone.

    Args:
        up: bytes from the client that are let through first; None does not limit this direction.
        down: bytes from the server that are let through first.
        reset: with a TCP reset, else in order.
    """

    up: int | None = None
    down: int | None = None
    reset: bool = True


@dataclass(frozen=True, kw_only=True)
class Stall:
    """Let no more than so many bytes through and keep the connection; ``Stall()`` lets nothing through at all.

    ``Stall(down=0)`` swallows the answer and leaves the client waiting for it.

    Args:
        up: bytes from the client that are let through; None does not limit this direction.
        down: bytes from the server that are let through.
    """

    up: int | None = None
    down: int | None = None


Direction: TypeAlias = Literal["up", "down"]
Passage: TypeAlias = Pass | Cut | Stall | Refuse


@dataclass(slots=True)
class Link:
    """Say what one connection was meant to go through, and what it has carried so far.

    Attributes:
        passage: as planned.
        up: bytes handed on to the server.
        down: bytes handed on to the client.
    """

    passage: Passage
    up: int = 0
    down: int = 0
    _open: int = field(default=2, repr=False)  # directions that may still carry something
    _abrupt: bool = field(default=False, repr=False)
    _over: threading.Event = field(default_factory=threading.Event, repr=False)
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)

    @property
    def over(self) -> bool:
        """Return whether nothing more is let through."""
        return self._over.is_set()

    def end(self, *, abrupt: bool = True) -> None:
        """Let nothing more through; the first to say so decides whether the end is a reset."""
        with self._lock:
            if not self.over:
                self._abrupt = abrupt
                self._over.set()

    def direction_done(self) -> None:
        """Note that one direction carries nothing more; the connection ends in order with the second."""
        with self._lock:
            self._open -= 1
        if not self._open:
            self.end(abrupt=False)

    def rest(self, seconds: float) -> None:
        """Wait so long, at the most until the end of the connection."""
        self._over.wait(seconds)

    def wait_for_end(self) -> bool:
        """Wait for the end of the connection; return whether it is to be a reset."""
        self._over.wait()
        return self._abrupt

    def limit(self, direction: Direction) -> int | None:
        """Return how many more bytes are let through in a direction; None for any number."""
        if not isinstance(self.passage, Cut | Stall):
            return None
        allowed: int | None = getattr(self.passage, direction)
        return None if allowed is None else allowed - getattr(self, direction)

    def rate(self, direction: Direction) -> float | None:
        """Return how many bytes a second are let through in a direction; None for as many as come."""
        return getattr(self.passage, direction) if isinstance(self.passage, Pass) else None


class Proxy:
    """Listen in front of ``host:port`` from ``with`` to its end, with a plan for each connection.

    Args:
        host: of the server.
        port: of the server.
        scheme: only for `url`.
    """

    def __init__(self, host: str, port: int, *, scheme: str = "http") -> None:
        self._target = (host, port)
        self._scheme = scheme
        self._listener = Listener(self._serve, name="proxy")
        self._lock = threading.Lock()
        self._plan: deque[Passage] = deque()
        self._rest: Passage = Pass()
        self._links: list[Link] = []

    @classmethod
    def before(cls, url: str) -> Proxy:
        """Return a proxy in front of the server of ``url``, which has a port in it."""
        parts = urlsplit(url)
        return cls(parts.hostname or "", parts.port or 0, scheme=parts.scheme)

    def __enter__(self) -> Self:
        self._listener.listen()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End every connection and stop; idempotent."""
        self.refuse()
        for link in self.links:
            link.end()
        self._listener.close()

    @property
    def port(self) -> int:
        """Return the port; it stays the same while connections are refused."""
        return self._listener.port

    @property
    def url(self) -> str:
        """Return the proxy's own base URL."""
        return f"{self._scheme}://{self._listener.host}:{self.port}"

    @property
    def links(self) -> list[Link]:
        """Return every connection so far, oldest first."""
        with self._lock:
            return list(self._links)

    @property
    def errors(self) -> list[Exception]:
        """Return what went wrong in the proxy itself."""
        return self._listener.errors

    def plan(self, *passages: Passage) -> None:
        """Append: one for each new connection, in order; `Refuse` takes effect when its turn has come."""
        with self._lock:
            self._plan.extend(passages)
        self._mind_refusals()

    def otherwise(self, passage: Passage | None = None) -> None:
        """Do this with every connection for which nothing is planned; without argument all pass again.

        Raises:
            ValueError: a `Refuse`; there is `refuse` for that.
        """
        if isinstance(passage, Refuse):
            raise ValueError("connections cannot be refused one by one; call refuse() and listen()")
        with self._lock:
            self._rest = passage or Pass()

    def refuse(self) -> None:
        """Refuse new connections until `listen`."""
        self._listener.refuse()

    def listen(self) -> None:
        """Accept connections again, on the same port."""
        self._listener.listen()

    def _mind_refusals(self) -> None:
        seconds = 0.0
        with self._lock:
            while self._plan and isinstance(self._plan[0], Refuse):
                seconds += self._plan.popleft().seconds  # type: ignore[union-attr]
        if seconds:
            self._listener.refuse(seconds)

    def _next(self) -> Link:
        with self._lock:
            link = Link(self._plan.popleft() if self._plan else self._rest)
            self._links.append(link)
        self._mind_refusals()
        return link

    def _serve(self, client: socket.socket) -> None:
        link = self._next()
        passage = link.passage
        if isinstance(passage, Cut | Stall) and passage.up is None and passage.down is None:
            _at_connect(client, passage)
            link.end()
            return
        try:
            server = socket.create_connection(self._target, CONNECT_SECONDS)
        except OSError:
            link.end()
            reset(client)
            raise
        server.settimeout(None)
        server.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        _carry(link, client, server)


def _at_connect(client: socket.socket, passage: Cut | Stall) -> None:
    if isinstance(passage, Stall):
        while client.recv(RECEIVE_SIZE):  # until the client gives up, or the proxy is closed
            pass
    elif passage.reset:
        reset(client)
    else:
        finish(client)


def _carry(link: Link, client: socket.socket, server: socket.socket) -> None:
    """Carry both directions until the connection is over, then end both sides."""
    pumps = [
        threading.Thread(target=_pump, args=(link, "up", client, server), name="proxy-up", daemon=True),
        threading.Thread(target=_pump, args=(link, "down", server, client), name="proxy-down", daemon=True),
    ]
    for pump in pumps:
        pump.start()
    abrupt = link.wait_for_end()
    if not abrupt:
        _shut(socket.SHUT_WR, client, server)
        _join(pumps, END_SECONDS)
    # A blocked reader is woken without a word on the wire: a FIN before the reset would look like an end in order.
    _shut(socket.SHUT_RD, client, server)
    _join(pumps, WAKE_SECONDS)
    if any(pump.is_alive() for pump in pumps):  # a writer, whose peer does not read
        _shut(socket.SHUT_RDWR, client, server)
        _join(pumps, END_SECONDS)
    for sock in (client, server):
        (reset if abrupt else finish)(sock)


def _shut(how: int, *socks: socket.socket) -> None:
    for sock in socks:
        with contextlib.suppress(OSError):  # the peer was faster
            sock.shutdown(how)


def _join(threads: list[threading.Thread], seconds: float) -> None:
    deadline = time.monotonic() + seconds
    for thread in threads:
        thread.join(max(0.0, deadline - time.monotonic()))


def _pump(link: Link, direction: Direction, source: socket.socket, sink: socket.socket) -> None:
    passage = link.passage
    try:
        ended = _forward(link, direction, source, sink)
        if isinstance(passage, Stall):
            if not ended:
                _wait_for_hang_up(link, source)
            link.end()  # half a connection is of no use to anybody who waits for the other half
        elif not ended:
            link.end(abrupt=isinstance(passage, Cut) and passage.reset)
        elif not link.over:  # else the reader was only woken
            _shut(socket.SHUT_WR, sink)
            link.direction_done()
    except OSError:  # a reset on one side becomes a reset on the other
        link.end()


def _forward(link: Link, direction: Direction, source: socket.socket, sink: socket.socket) -> bool:
    """Carry bytes; return True when the source has no more, False when no more are let through."""
    rate = link.rate(direction)
    while not link.over:
        room = link.limit(direction)
        if room == 0:
            return not source.recv(1, socket.MSG_PEEK)
        size = RECEIVE_SIZE if rate is None else max(1, int(rate / SLICES))
        data = source.recv(size if room is None else min(size, room))
        if not data:
            return True
        setattr(link, direction, getattr(link, direction) + len(data))  # before anybody can know by other means
        sink.sendall(data)
        if rate is not None:
            link.rest(len(data) / rate)
    return False


def _wait_for_hang_up(link: Link, source: socket.socket) -> None:
    """Wait until the peer closes, without reading what it sends: it shall feel that nobody does."""
    poll = select.poll()
    poll.register(source, getattr(select, "POLLRDHUP", 0))  # errors are always told
    while not link.over and not poll.poll(LOOK_MS):
        pass
