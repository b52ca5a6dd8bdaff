"""`bluejay_ws.testing.http11`: requests in pieces, out of shape and without end."""

from __future__ import annotations

import contextlib
import socket
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bluejay_ws.testing.http11 import HttpError, Request, Stream, answer_head, phrase

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Self


class Wire:
    """A stream that reads what the test wrote."""

    def __init__(self, data: bytes = b"", *, end: bool = True, head_limit: int = 1000, body_limit: int = 1000) -> None:
        ours, self.peer = socket.socketpair()
        self.stream = Stream(ours, head_limit=head_limit, body_limit=body_limit)
        self.peer.sendall(data)
        if end:
            self.peer.shutdown(socket.SHUT_WR)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stream.sock.close()
        self.peer.close()

    def read(self) -> Request:
        self.stream.begins(5)
        request = self.stream.head()
        self.stream.body(request)
        return request


class OneByOne(socket.socket):
    """A socket that never has more than one byte to read."""

    def __init__(self, sock: socket.socket) -> None:
        super().__init__(fileno=sock.detach())

    def recv(self, size: int, flags: int = 0, /) -> bytes:
        return super().recv(1, flags)


def read(data: bytes) -> Request:
    """Read one request."""
    with Wire(data) as wire:
        return wire.read()


def refused(data: bytes) -> int:
    """Return the status that answers an unreadable request."""
    with pytest.raises(HttpError) as caught:
        read(data)
    assert caught.value.reason
    return caught.value.status


def test_a_request_is_read_as_it_was_sent() -> None:
    """Method, target, headers in their order and spelling, and the exact bytes of the body."""
    request = read(b"POST /a/b?c=d HTTP/1.1\r\nHost: x\r\nX-Y:  1 \r\nx-y: 2\r\nContent-Length: 3\r\n\r\n\x00\xff\n")
    assert (request.method, request.target, request.path) == ("POST", "/a/b?c=d", "/a/b")
    assert request.headers == [("Host", "x"), ("X-Y", "1"), ("x-y", "2"), ("Content-Length", "3")]
    assert request.body == b"\x00\xff\n"
    assert request.all("x-Y") == ["1", "2"]
    assert (request.header("X-Y"), request.header("missing")) == ("1, 2", None)
    assert 0 < request.started_at <= request.received_at


def test_a_request_may_come_byte_by_byte() -> None:
    """Where the network cuts the bytes does not matter."""
    whole = b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n"
    with Wire(whole) as wire:
        wire.stream = Stream(OneByOne(wire.stream.sock))
        assert wire.read().body == b"abc"


def test_requests_follow_each_other_on_one_connection() -> None:
    """What was read too much belongs to the next request; the end is told by an empty beginning."""
    with Wire(b"GET /1 HTTP/1.1\r\n\r\nGET /2 HTTP/1.1\r\n\r\n") as wire:
        assert wire.stream.begins(5).startswith(b"GET /1")
        assert wire.stream.head().target == "/1"
        assert wire.stream.begins(5).startswith(b"GET /2")
        assert not wire.stream.idle
        assert wire.stream.head().target == "/2"
        assert wire.stream.begins(5) == b""


def test_the_absolute_form_is_understood() -> None:
    """Clients that believe they talk to a proxy send the whole URL."""
    assert read(b"GET http://host:80/a?b HTTP/1.1\r\n\r\n").target == "/a?b"
    assert read(b"GET https://host HTTP/1.1\r\n\r\n").target == "/"


@pytest.mark.parametrize(
    ("head", "keeps"),
    [
        (b"GET / HTTP/1.1\r\n\r\n", True),
        (b"GET / HTTP/1.1\r\nConnection: keep-alive\r\n\r\n", True),
        (b"GET / HTTP/1.1\r\nConnection: Close\r\n\r\n", False),
        (b"GET / HTTP/1.0\r\n\r\n", False),
    ],
)
def test_the_client_says_whether_the_connection_goes_on(head: bytes, keeps: bool) -> None:
    """HTTP/1.1 keeps the connection unless it says otherwise."""
    assert read(head).keep_alive is keeps


@pytest.mark.parametrize(
    "head",
    [
        b"GET /\r\n\r\n",
        b"GET / HTTP/2.0\r\n\r\n",
        b"G@T / HTTP/1.1\r\n\r\n",
        b"GET /\x00 HTTP/1.1\r\n\r\n",
        b"\x16\x03\x01\x02\x00\r\n\r\n",
        b"GET / HTTP/1.1\r\nno colon\r\n\r\n",
        b"GET / HTTP/1.1\r\nna me: x\r\n\r\n",
        b"GET / HTTP/1.1\r\n: x\r\n\r\n",
        b"GET / HTTP/1.1\r\na: b\r\n folded\r\n\r\n",
        b"GET / HTTP/1.1\r\na: b\x00\r\n\r\n",
        b"GET / HTTP/1.1\r\na: b\nc: d\r\n\r\n",
        b"POST / HTTP/1.1\r\nContent-Length: x\r\n\r\n",
        b"POST / HTTP/1.1\r\nContent-Length: -1\r\n\r\n",
        b"POST / HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nxx",
        b"POST / HTTP/1.1\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"POST / HTTP/1.1\r\nTransfer-Encoding: gzip\r\n\r\n",
        b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n\r\n",
        b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nabc\r\n",
    ],
)
def test_a_malformed_request_is_refused(head: bytes) -> None:
    """What cannot be read with certainty is answered with 400."""
    assert refused(head) == 400


def test_a_head_without_end_is_refused() -> None:
    """Request line and headers together have a limit."""
    assert refused(b"GET / HTTP/1.1\r\nx: " + b"y" * 2000) == 431
    assert refused(b"GET / HTTP/1.1\r\nx: " + b"y" * 2000 + b"\r\n\r\n") == 431


@pytest.mark.parametrize(
    "data",
    [
        b"POST / HTTP/1.1\r\nContent-Length: 1001\r\n\r\n",
        b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nffffffff\r\n",
        b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n258\r\n" + b"x" * 600 + b"\r\n258\r\n",
    ],
)
def test_a_body_without_end_is_refused(data: bytes) -> None:
    """A body has a limit, whether or not its length is told beforehand."""
    assert refused(data) == 413


def test_a_chunk_head_without_end_is_refused() -> None:
    """Extensions and trailers of a chunked body cannot fill the memory."""
    assert refused(b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n1;" + b"x" * 2000) == 400


def test_chunk_extensions_and_trailers_are_skipped() -> None:
    """They are allowed and mean nothing here."""
    head = b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n"
    assert read(head + b"2;a=b\r\nab\r\n1\r\nc\r\n0\r\nTrailer: x\r\n\r\n").body == b"abc"


@pytest.mark.parametrize("data", [b"GET / HTT", b"POST / HTTP/1.1\r\nContent-Length: 5\r\n\r\nab"])
def test_a_client_that_closes_too_early_is_told_from_one_that_is_wrong(data: bytes) -> None:
    """There is nobody left to answer."""
    with pytest.raises(ConnectionAbortedError):
        read(data)


def test_half_of_a_body_can_be_left_unread() -> None:
    """About half of it is taken; a body whose length nobody knows is not."""
    with Wire(b"POST / HTTP/1.1\r\nContent-Length: 4\r\n\r\n", end=False) as wire:
        wire.stream.begins(5)
        request = wire.stream.head()
        wire.peer.sendall(b"ab")
        wire.stream.some_body(request)
        wire.stream.some_body(Request("POST", "/", [("Content-Length", "many")]))
        wire.stream.some_body(Request("POST", "/", []))


def test_a_client_that_asks_first_may_go_on() -> None:
    """Some clients wait for 100 before they send a large body."""
    with Wire(b"POST / HTTP/1.1\r\nExpect: 100-continue\r\nContent-Length: 1\r\n\r\nx") as wire:
        assert wire.read().body == b"x"
        assert wire.peer.recv(100) == b"HTTP/1.1 100 Continue\r\n\r\n"


def test_neither_key_nor_text_shows_in_the_repr() -> None:
    """A failing test prints its requests: they must not hold what nobody should read."""
    request = Request("POST", "/", [("X-API-Key", "secret-key")], body=b"caller text")
    assert "secret-key" not in repr(request)
    assert "caller text" not in repr(request)


def test_an_answer_has_what_clients_need() -> None:
    """Length, type and date are added, unless they are given: then they may lie."""
    head = answer_head(200, [], 3).decode()
    assert head.startswith("HTTP/1.1 200 OK\r\n")
    assert "Content-Length: 3\r\n" in head
    assert "Content-Type: application/json\r\n" in head
    assert head.endswith(" GMT\r\nContent-Type: application/json\r\nContent-Length: 3\r\n\r\n")
    assert "Content-Length: 3" not in answer_head(200, [("content-length", "9")], 3).decode()


def test_an_unknown_status_has_no_words() -> None:
    """Any number can be answered."""
    assert (phrase(404), phrase(599)) == ("Not Found", "")


def pieces() -> Iterator[bytes]:
    """Fragments out of which hostile requests are made."""
    yield from (b"POST / HTTP/1.1\r\n", b"GET ", b"\r\n", b"\r\n\r\n", b"Content-Length: 3\r\n", b"0\r\n\r\n")
    yield from (b"Transfer-Encoding: chunked\r\n\r\n", b"Expect: 100-continue\r\n", b"abc", b"3\r\nabc\r\n", b"\x00")


@given(st.lists(st.sampled_from(list(pieces())) | st.binary(max_size=20)).map(b"".join))
def test_any_bytes_are_a_request_or_a_known_error(data: bytes) -> None:
    """Nothing that a client sends makes the reader fail in another way than it says."""
    with contextlib.suppress(HttpError, ConnectionAbortedError):
        assert isinstance(read(data).body, bytes)
