"""`bluejay_ws.testing.listener`: accepting, refusing, ending."""

from __future__ import annotations

import socket
import threading
from contextlib import closing

import pytest

from bluejay_ws.testing.listener import Listener, finish, reset, wake


def echo(sock: socket.socket) -> None:
    """Send back what comes."""
    while data := sock.recv(1000):
        sock.sendall(data)


def dial(listener: Listener) -> socket.socket:
    """Return a connection to it."""
    return socket.create_connection((listener.host, listener.port), 5)


def test_connections_are_served_side_by_side() -> None:
    """Each connection has a thread of its own: one that says nothing keeps nobody waiting."""
    with closing(Listener(echo)) as listener:
        listener.listen()
        with dial(listener), dial(listener) as busy:
            busy.sendall(b"hello")
            assert busy.recv(100) == b"hello"
        assert listener.connections == 2


def test_listening_twice_is_listening_once() -> None:
    """A second call changes nothing."""
    with closing(Listener(echo)) as listener:
        listener.listen()
        port = listener.port
        listener.listen()
        assert (listener.listening, listener.port) == (True, port)


def test_a_refused_connection_is_refused_by_the_kernel_and_the_port_stays() -> None:
    """Refusing and accepting again happen on one port, as often as wanted; open connections live on."""
    with closing(Listener(echo)) as listener:
        listener.listen()
        with dial(listener) as old:
            old.sendall(b"x")
            assert old.recv(1) == b"x"
            for _ in range(2):
                listener.refuse()
                assert not listener.listening
                with pytest.raises(ConnectionRefusedError):
                    dial(listener)
                listener.refuse()
                listener.listen()
                dial(listener).close()
            old.sendall(b"still here")
            assert old.recv(100) == b"still here"


def test_a_refusal_can_end_by_itself() -> None:
    """After the given time connections are accepted again."""
    with closing(Listener(echo)) as listener:
        listener.listen()
        listener.refuse(0.05)
        returning = listener._return
        assert returning is not None
        with pytest.raises(ConnectionRefusedError):
            dial(listener)
        returning.join()
        dial(listener).close()


def test_a_refusal_that_was_replaced_does_not_end_the_new_one() -> None:
    """Only the latest word counts."""
    with closing(Listener(echo)) as listener:
        listener.listen()
        listener.refuse(0.01)
        old = listener._return
        assert old is not None
        with listener._lock:  # the timer has run out, but comes too late
            old.join(0.05)
            listener.refuse()
        old.join()
        assert not listener.listening


def test_a_taken_port_is_an_error() -> None:
    """A port that somebody else listens on cannot be had."""
    with closing(Listener(echo)) as first:
        first.listen()
        with closing(Listener(echo, port=first.port)) as second, pytest.raises(OSError, match="in use"):
            second.listen()


def test_it_listens_on_ipv6_too() -> None:
    """An IPv6 address is bound as one."""
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:  # pragma: no cover - depends on the machine
        pytest.skip("no IPv6 here")
    with closing(Listener(echo, host="::1")) as listener:
        listener.listen()
        dial(listener).close()


def test_closing_ends_connections_and_waits_for_their_threads() -> None:
    """After close nothing of the listener is left running, also when it is closed twice."""
    listener = Listener(echo)
    listener.listen()
    with dial(listener) as sock:
        sock.sendall(b"x")
        assert sock.recv(1) == b"x"
        listener.close()
        assert sock.recv(1) == b""
    listener.close()
    assert not any(thread.name.startswith("listener") for thread in threading.enumerate())


def test_closing_while_refusing_lets_the_port_go() -> None:
    """A closed listener holds no port."""
    listener = Listener(echo)
    listener.listen()
    listener.refuse(60)
    listener.close()
    socket.create_server((listener.host, listener.port)).close()


def test_a_handler_may_close_the_listener() -> None:
    """A connection's own thread is not waited for by itself."""
    closed = threading.Event()

    def close(_: socket.socket) -> None:
        listener.close()
        closed.set()

    listener = Listener(close)
    listener.listen()
    with dial(listener):
        assert closed.wait(30)


def test_what_a_handler_raises_ends_its_connection_only() -> None:
    """A broken connection is counted, a broken handler kept for the test to see; the next one is served."""
    failures: list[Exception] = [OSError("gone"), ValueError("a bug")]

    def fail(sock: socket.socket) -> None:
        if failures:
            raise failures.pop(0)
        echo(sock)

    with closing(Listener(fail)) as listener:
        listener.listen()
        for _ in range(2):
            with dial(listener) as sock:
                assert sock.recv(1) == b""
        with dial(listener) as sock:
            sock.sendall(b"x")
            assert sock.recv(1) == b"x"
        assert listener.broken == 1
        assert [str(error) for error in listener.errors] == ["a bug"]


def test_a_connection_that_cannot_be_accepted_is_counted() -> None:
    """No descriptors, or a peer gone in the meantime: the listener continues without spinning."""
    listener = Listener(echo)
    awaken, wakes = socket.socketpair()
    with socket.socket() as unusable, awaken, wakes:
        listener._accept(unusable, awaken)
    assert (listener.broken, listener.connections) == (1, 0)


def test_a_handler_can_replace_its_socket() -> None:
    """What TLS made of the socket is what is woken at the end."""
    adopted = threading.Event()

    def replace(sock: socket.socket) -> None:
        copy = sock.dup()
        sock.close()
        listener.adopt(copy)
        adopted.set()
        copy.recv(1)

    listener = Listener(replace)
    listener.listen()
    with dial(listener) as sock:
        assert adopted.wait(30)
        listener.close()
        assert sock.recv(1) == b""


def test_a_reset_is_a_reset() -> None:
    """The peer learns of it by an error, not by an end."""
    with closing(Listener(reset)) as listener:
        listener.listen()
        with pytest.raises(ConnectionResetError), dial(listener) as sock:  # it may come before the connect is over
            sock.recv(1)


def test_finishing_loses_nothing_that_was_sent() -> None:
    """What the peer still sends is read away, so that the last words reach it."""

    def answer_early(sock: socket.socket) -> None:
        sock.sendall(b"too large")
        finish(sock)

    with closing(Listener(answer_early)) as listener:
        listener.listen()
        with dial(listener) as sock:
            sock.sendall(b"x" * 1_000_000)
            assert sock.recv(100) == b"too large"
            assert sock.recv(100) == b""


def test_finishing_does_not_wait_for_ever() -> None:
    """A peer that never closes its side, or closed long ago, cannot hold the thread."""
    ours, theirs = socket.socketpair()
    for seconds in (0.01, 0):
        ours.close()
        theirs.close()
        ours, theirs = socket.socketpair()
        finish(ours, seconds=seconds)
        assert theirs.recv(1) == b""
    theirs.close()
    finish(ours)


def test_waking_a_closed_socket_is_allowed() -> None:
    """The connection may have ended by itself in the meantime."""
    sock = socket.socket()
    sock.close()
    wake(sock)
