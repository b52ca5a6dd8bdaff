"""A TCP listener with threads of its own, which can refuse, reset and come back on the same port."""

from __future__ import annotations

import contextlib
import select
import selectors
import socket
import struct
import threading
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

BACKLOG = 1024
JOIN_SECONDS = 5.0
PAUSE_SECONDS = 0.02


class Listener:
    """Hand each accepted TCP connection to ``handle``, on a daemon thread of its own. Port 0 is a free one.

    The handler owns the socket while it runs; the listener closes it afterwards. `OSError` ends one connection
    and is counted in `broken`; any other exception is kept in `errors`. Neither stops the listener.
    """

    def __init__(
        self, handle: Callable[[socket.socket], None], *, host: str = "127.0.0.1", port: int = 0, name: str = "listener"
    ) -> None:
        self.host = host
        self.port = port
        self.connections = 0
        self.broken = 0
        self.errors: list[Exception] = []
        self._handle = handle
        self._name = name
        self._lock = threading.RLock()
        self._return: threading.Timer | None = None
        self._timers: list[threading.Timer] = []  # that one and those called off, for as long as they live
        self._bound: socket.socket | None = None
        self._acceptor: threading.Thread | None = None
        self._wake: socket.socket | None = None
        self._live: dict[threading.Thread, socket.socket] = {}

    @property
    def listening(self) -> bool:
        """Return whether a connection would be accepted now."""
        return self._acceptor is not None

    def listen(self) -> None:
        """Accept connections from now on; a second call has no effect.

        Raises:
            OSError: the port is taken.
        """
        with self._lock:
            self._forget_return()
            if self._acceptor is not None:
                return
            bound = self._bound or self._bind()
            self._bound = bound
            bound.listen(BACKLOG)
            bound.settimeout(0)
            self._wake, awaken = socket.socketpair()
            self._acceptor = threading.Thread(
                target=self._accept_until_woken, args=(bound, awaken), name=f"{self._name}-accept", daemon=True
            )
            self._acceptor.start()

    def refuse(self, seconds: float | None = None) -> None:
        """Refuse new connections, for so many seconds or until `listen`; those that are open stay open."""
        with self._lock:
            self._forget_return()
            self._stop_accepting()
            if self._bound is None:
                # A bound socket that does not listen keeps the port ours, and the kernel refuses for us.
                self._bound = self._bind()
            if seconds is not None:
                self._return = threading.Timer(seconds, self._come_back)
                self._return.daemon = True
                self._return.start()
                self._timers = [timer for timer in self._timers if timer.is_alive()] + [self._return]

    def _come_back(self) -> None:
        with self._lock:
            if self._return is threading.current_thread():  # else it was called off in the meantime
                self.listen()

    def _forget_return(self) -> None:
        if self._return is not None:
            self._return.cancel()
            self._return = None

    def close(self) -> None:
        """Stop accepting, end every connection and wait for their threads; idempotent."""
        with self._lock:
            self._forget_return()
            self._stop_accepting()
            if self._bound is not None:
                self._bound.close()
                self._bound = None
            live = {
                thread: sock for thread, sock in self._live.copy().items() if thread is not threading.current_thread()
            }
            timers, self._timers = self._timers, []
        for sock in live.values():
            wake(sock)
        deadline = time.monotonic() + JOIN_SECONDS
        for thread in (*live, *timers):
            thread.join(max(0.0, deadline - time.monotonic()))

    def adopt(self, sock: socket.socket) -> None:
        """Own ``sock`` in place of the one this thread was handed, which TLS has taken over."""
        self._live[threading.current_thread()] = sock

    def _bind(self) -> socket.socket:
        family = socket.AF_INET6 if ":" in self.host else socket.AF_INET
        bound = socket.socket(family, socket.SOCK_STREAM)
        try:
            bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            bound.bind((self.host, self.port))
        except OSError:
            bound.close()
            raise
        self.port = bound.getsockname()[1]
        return bound

    def _stop_accepting(self) -> None:
        if self._acceptor is None or self._wake is None:
            return
        self._wake.close()
        self._acceptor.join()
        self._acceptor = self._wake = self._bound = None

    def _accept_until_woken(self, bound: socket.socket, awaken: socket.socket) -> None:
        with bound, awaken, selectors.DefaultSelector() as selector:
            selector.register(bound, selectors.EVENT_READ)
            selector.register(awaken, selectors.EVENT_READ)
            while all(key.fileobj is not awaken for key, _ in selector.select()):
                self._accept(bound, awaken)

    def _accept(self, bound: socket.socket, awaken: socket.socket) -> None:
        try:
            sock, _ = bound.accept()
        except OSError:  # gone before it was accepted, or no descriptors left: do not spin on it
            self.broken += 1
            select.select([awaken], [], [], PAUSE_SECONDS)
            return
        sock.settimeout(None)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.connections += 1
        thread = threading.Thread(target=self._run, args=(sock,), name=f"{self._name}-{self.connections}", daemon=True)
        self._live[thread] = sock
        thread.start()

    def _run(self, sock: socket.socket) -> None:
        try:
            self._handle(sock)
        except OSError:
            self.broken += 1
        except Exception as error:  # noqa: BLE001 - kept for the test to see; a listener outlives its connections
            self.errors.append(error)
        finally:
            self._live.pop(threading.current_thread()).close()


def reset(sock: socket.socket) -> None:
    """Close ``sock`` with a TCP reset: what was sent and not yet read by the peer may be lost."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    sock.close()


def finish(sock: socket.socket, *, seconds: float = 1.0) -> None:
    """Close ``sock`` in order: say that nothing follows, then read away for a while what the peer still sends.

    Without the reading, unread bytes would turn the close into a reset and could destroy the answer on its way.
    """
    deadline = time.monotonic() + seconds
    try:
        socket.socket.shutdown(sock, socket.SHUT_WR)
        while (left := deadline - time.monotonic()) > 0:
            sock.settimeout(left)
            if not sock.recv(65536):
                break
    except OSError:
        pass  # the peer was faster, or did not care
    sock.close()


def wake(sock: socket.socket) -> None:
    """End the connection of a socket that another thread is blocked on, so that the thread continues."""
    with contextlib.suppress(OSError):  # closed already
        socket.socket.shutdown(sock, socket.SHUT_RDWR)  # not SSLSocket's: that would change it under the other thread
