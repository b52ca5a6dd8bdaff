"""`tests.proxy`: bytes that get lost, stuck and slowed on their way."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from typing import TYPE_CHECKING, Self

import pytest

from bluejay_ws.testing.listener import Listener, finish, reset
from bluejay_ws.testing.platform import FakePlatform
from tests.proxy import Cut, Link, Pass, Proxy, Refuse, Stall, _carry
from tests.testing.raw_client import Client, ClosedEarlyError, post, report

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.proxy import Passage


def echo(sock: socket.socket) -> None:
    """Send back what comes."""
    while data := sock.recv(65536):
        sock.sendall(data)


class Street:
    """A server, a proxy in front of it, and what the server has received."""

    def __init__(self, handle: Callable[[socket.socket], None] = echo) -> None:
        self.server = Listener(handle, name="server")
        self.server.listen()
        self.proxy = Proxy("127.0.0.1", self.server.port)

    def __enter__(self) -> Self:
        self.proxy.__enter__()
        return self

    def __exit__(self, *_: object) -> None:
        self.proxy.close()
        self.server.close()
        assert self.proxy.errors == []

    def dial(self, passage: Passage | None = None) -> socket.socket:
        if passage is not None:
            self.proxy.plan(passage)
        # Without a timeout while it connects: an early reset is then told by reading.
        sock = socket.create_connection(("127.0.0.1", self.proxy.port))
        sock.settimeout(5)
        return sock

    def link(self) -> Link:
        """Return the first link, once it is there."""
        until(lambda: self.proxy.links)
        return self.proxy.links[0]


def until(condition: Callable[[], object]) -> None:
    """Wait until something is so."""
    deadline = time.monotonic() + 5
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.001)


def heard(sock: socket.socket) -> bytes:
    """Return all that comes before the end; a reset counts as one."""
    data = bytearray()
    try:
        while piece := sock.recv(65536):
            data += piece
    except ConnectionResetError:
        data += b"<reset>"
    return bytes(data)


@pytest.fixture
def street() -> Iterator[Street]:
    """Return a street with an echo at its end."""
    with Street() as built:
        yield built


def only(street: Street) -> Link:
    """Return the one link there is, once it has ended."""
    link = street.link()
    until(lambda: link.over)
    assert street.proxy.links == [link]
    return link


# ------------------------------------------------------------------------------------------------ letting pass


def test_everything_passes_in_both_directions(street: Street) -> None:
    """And one side's end of sending reaches the other, while the answer still comes."""
    data = bytes(range(256)) * 4000
    with street.dial() as sock:

        def send() -> None:
            sock.sendall(data)
            sock.shutdown(socket.SHUT_WR)

        sender = threading.Thread(target=send)
        sender.start()
        assert heard(sock) == data
        sender.join()
    link = only(street)
    assert (link.passage, link.up, link.down) == (Pass(), len(data), len(data))


def test_it_stands_before_any_url() -> None:
    """Its own URL leads to the same place."""
    with FakePlatform() as platform, Proxy.before(platform.url) as proxy:
        assert proxy.url == f"http://127.0.0.1:{proxy.port}"
        assert post(proxy.url).status == 200
        assert len(platform.accepted) == 1
    assert Proxy.before("https://host:1").url.startswith("https://")
    assert Proxy.before("host")._target == ("", 0)


def test_a_rate_is_kept(street: Street) -> None:
    """In each direction by itself: many small pieces in place of one."""
    with street.dial(Pass(up=20_000)) as sock:
        sock.sendall(b"x" * 1000)
        assert len(sock.recv(65536)) <= 400
        sock.shutdown(socket.SHUT_WR)
        heard(sock)
    with street.dial(Pass(down=1)) as sock:
        sock.sendall(b"xy")
        assert sock.recv(65536) == b"x"


def test_a_reset_passes_as_a_reset() -> None:
    """From the server to the client, and from the client to the server."""
    with Street(reset) as street, street.dial() as sock:
        assert heard(sock) == b"<reset>"
    ended: list[bytes] = []
    with Street(lambda sock: ended.append(heard(sock))) as street:
        sock = street.dial()
        sock.sendall(b"x")
        until(lambda: street.link().up)
        reset(sock)
        until(lambda: ended)
    assert ended == [b"x<reset>"]


# ----------------------------------------------------------------------------------------------------- cutting


@pytest.mark.parametrize(("orderly", "end"), [(False, b"<reset>"), (True, b"")])
def test_a_connection_can_be_cut_at_connect(street: Street, orderly: bool, end: bytes) -> None:
    """The server is never dialled."""
    with street.dial(Cut(reset=not orderly)) as sock:
        assert heard(sock) == end
    assert only(street).over
    assert street.server.connections == 0


@pytest.mark.parametrize(("orderly", "end"), [(False, b"<reset>"), (True, b"")])
def test_a_connection_can_be_cut_on_the_way_up(orderly: bool, end: bytes) -> None:
    """The server gets so many bytes and no more."""
    received: list[bytes] = []
    with Street(lambda sock: received.append(heard(sock))) as street:
        with street.dial(Cut(up=3, reset=not orderly)) as sock:
            sock.sendall(b"abcdef")
            assert heard(sock) == end
        until(lambda: received)
        assert only(street).up == 3
    assert received == [b"abc" + end]


@pytest.mark.parametrize(("orderly", "end"), [(False, b"<reset>"), (True, b"")])
def test_a_connection_can_be_cut_on_the_way_down(street: Street, orderly: bool, end: bytes) -> None:
    """The client gets so many bytes and no more."""
    with street.dial(Cut(down=2, reset=not orderly)) as sock:
        sock.sendall(b"abcdef")
        assert heard(sock) == b"ab" + end
    assert (only(street).up, only(street).down) == (6, 2)


def test_a_cut_reaches_who_is_stuck_in_writing() -> None:
    """A client that does not read cannot keep the connection from ending."""
    ours, client = socket.socketpair()
    server, far = socket.socketpair()
    ours.settimeout(0)
    with contextlib.suppress(BlockingIOError):
        while True:
            ours.send(b"x" * 1000)
    ours.settimeout(None)
    link = Link(Cut(up=0))
    with client, far:
        carrying = threading.Thread(target=_carry, args=(link, ours, server))
        carrying.start()
        far.sendall(b"y")
        until(lambda: link.down)
        client.sendall(b"cut")
        carrying.join(20)
        assert not carrying.is_alive()


def test_a_limit_that_is_not_exceeded_cuts_nothing(street: Street) -> None:
    """The cut comes with the first byte too many."""
    with street.dial(Cut(up=3)) as sock:
        sock.sendall(b"abc")
        sock.shutdown(socket.SHUT_WR)
        assert heard(sock) == b"abc"


def test_a_swallowed_answer_leaves_the_report_accepted() -> None:
    """The platform has done its work, and the client does not know."""
    with FakePlatform() as platform, Proxy.before(platform.url) as proxy:
        proxy.plan(Cut(down=0))
        with pytest.raises((ConnectionResetError, ClosedEarlyError)):
            post(proxy.url)
        assert len(platform.wait_for(1)) == 1


# ---------------------------------------------------------------------------------------------------- stalling


def test_a_connection_can_stall_at_connect(street: Street) -> None:
    """It lasts until the client gives up; the server is never dialled."""
    with street.dial(Stall()) as sock:
        sock.sendall(b"hello?")
        sock.settimeout(0.02)
        with pytest.raises(TimeoutError):
            sock.recv(1)
    assert only(street).up == 0
    assert street.server.connections == 0


@pytest.mark.parametrize(
    ("passage", "up", "down"),
    [(Stall(up=3), 3, 3), (Stall(down=3), 6, 3), (Stall(up=3, down=0), 3, 0)],
)
def test_a_connection_can_stall_on_the_way(street: Street, passage: Passage, up: int, down: int) -> None:
    """The rest does not arrive; when the client gives up, all ends."""
    with street.dial(passage) as sock:
        sock.sendall(b"abcdef")
        until(lambda: (street.link().up, street.link().down) == (up, down))
        assert not street.link().over
    assert (only(street).up, only(street).down) == (up, down)


def test_a_stall_does_not_read_what_it_does_not_let_through(street: Street) -> None:
    """A large body gets stuck in the client's hands, as it would on a dead network."""
    with street.dial(Stall(up=1)) as sock:
        sock.settimeout(0.1)
        with pytest.raises(TimeoutError):
            sock.sendall(b"x" * 50_000_000)


def test_a_stall_ends_when_the_server_gives_up() -> None:
    """The client learns of it by a reset."""
    with Street(finish) as street, street.dial(Stall(up=0)) as sock:
        assert heard(sock) == b"<reset>"


# ---------------------------------------------------------------------------------------------------- the plan


def test_each_connection_has_its_own_plan(street: Street) -> None:
    """In order, then the rest."""
    street.proxy.plan(Cut(reset=False), Pass())
    street.proxy.otherwise(Cut())
    ends: list[bytes] = []
    for _ in range(4):
        with street.dial() as sock:
            if len(ends) == 1:
                sock.shutdown(socket.SHUT_WR)
            ends.append(heard(sock))
    assert ends == [b"", b"", b"<reset>", b"<reset>"]
    street.proxy.otherwise()
    with street.dial() as sock:
        sock.shutdown(socket.SHUT_WR)
        assert heard(sock) == b""
    assert [link.passage for link in street.proxy.links] == [Cut(reset=False), Pass(), Cut(), Cut(), Pass()]


def test_connections_can_be_refused(street: Street) -> None:
    """For a while as a part of the plan, or until further notice."""
    street.proxy.plan(Pass(), Refuse(0.02), Refuse(0.02))
    street.dial().close()
    until(lambda: not street.proxy._listener.listening)
    with pytest.raises(ConnectionRefusedError):
        street.dial()
    until(lambda: street.proxy._listener.listening)
    street.proxy.refuse()
    with pytest.raises(ConnectionRefusedError):
        street.dial()
    street.proxy.listen()
    street.dial().close()
    with pytest.raises(ValueError, match=r"call refuse\(\)"):
        street.proxy.otherwise(Refuse())


def test_a_server_that_is_not_there_resets_the_client() -> None:
    """The proxy has nobody to talk to."""
    with Street() as street:
        street.server.close()
        with street.dial() as sock:
            assert heard(sock) == b"<reset>"
        until(lambda: street.proxy._listener.broken)


# --------------------------------------------------------------------------------------------------- the end


def test_closing_ends_every_connection() -> None:
    """Also those that are stuck in every way; no thread is left."""
    passages: list[Passage] = [Pass(), Stall(), Stall(up=0), Stall(down=0), Pass(up=1), Pass(down=1)]
    with Street(lambda sock: sock.sendall(b"x" * 20_000_000)) as street:
        socks = [street.dial(passage) for passage in passages]
        for sock in socks:
            sock.sendall(b"xx")
        until(lambda: len(street.proxy.links) == len(passages))
        until(lambda: street.proxy.links[0].down > 1_000_000)
        street.proxy.close()
        for sock in socks:
            sock.close()
    assert not any(thread.name.startswith("proxy") for thread in threading.enumerate())


def test_the_first_to_end_a_connection_decides_how(street: Street) -> None:
    """A cut in order stays in order, though both sides break off afterwards."""
    with Client(street.proxy.url) as client:
        client.send(report())
        until(lambda: street.link().down)
        street.link().end(abrupt=False)
        street.link().end()
        client.received.clear()
        client.sock.recv(65536)
        assert client.gone()
