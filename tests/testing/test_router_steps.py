"""`bluejay_ws.testing.router`: what leaves on the wire for each step."""

from __future__ import annotations

import socket
import ssl
import threading
from typing import TYPE_CHECKING

import pytest

from bluejay_ws.testing.faults import Answer, Close, Hang, Raw, Refuse
from bluejay_ws.testing.http11 import Request, Stream
from bluejay_ws.testing.router import Judged, carry_out, end_badly

if TYPE_CHECKING:
    from typing import Self

    from bluejay_ws.testing.faults import Step

FINE = Judged(200, {"status": "success"})


class Stage:
    """One connection, whose client has sent a request and waits."""

    def __init__(self) -> None:
        listening = socket.create_server(("127.0.0.1", 0))
        self.client = socket.create_connection(listening.getsockname(), 5)
        self.server, _ = listening.accept()
        listening.close()
        self.request = Request("POST", "/", [])
        self.closed = threading.Event()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.client.close()
        self.server.close()

    def play(self, step: Step, judged: Judged | None = FINE) -> bool:
        return carry_out(Stream(self.server), self.request, step, judged, self.closed)

    def leave(self) -> None:
        """Send nothing more, as a client that gives up."""
        self.client.shutdown(socket.SHUT_WR)

    def heard(self) -> bytes:
        """Return all that came before the end; a reset counts as one."""
        data = bytearray()
        try:
            while piece := self.client.recv(65536):
                data += piece
        except ConnectionResetError:
            data += b"<reset>"
        return bytes(data)


def spoken(step: Step, judged: Judged | None = FINE) -> bytes:
    """Return what a client hears that does not wait for ever."""
    with Stage() as stage:
        stage.leave()
        stage.play(step, judged)
        stage.server.close()
        return stage.heard()


def test_the_platforms_own_answer_is_the_default() -> None:
    """Status and body as judged; the connection may go on."""
    with Stage() as stage:
        assert stage.play(Answer())
        stage.server.close()
        heard = stage.heard()
    assert heard.startswith(b"HTTP/1.1 200 OK\r\n")
    assert heard.endswith(b'\r\n\r\n{"status": "success"}')
    assert b"Connection: close" not in heard
    assert stage.request.answer == 200


def test_a_refused_method_names_the_right_one() -> None:
    """In the Allow header."""
    assert b"Allow: GET\r\n" in spoken(Answer(), Judged(405, {}, allow="GET"))


def test_a_planned_answer_replaces_the_platforms_own() -> None:
    """Any status, header and body."""
    heard = spoken(Answer(status=307, headers=[("Location", "http://other/"), ("X", "1"), ("X", "2")], body=b"<p>"))
    assert heard.startswith(b"HTTP/1.1 307 Temporary Redirect\r\nLocation: http://other/\r\nX: 1\r\nX: 2\r\n")
    assert heard.endswith(b"\r\nContent-Length: 3\r\n\r\n<p>")
    assert spoken(Answer(status=503)).endswith(b'{"detail": "Service Unavailable"}')


def test_an_answer_without_a_judgement_is_as_planned() -> None:
    """For requests that could not be read."""
    assert spoken(Answer(status=400, body=b"no"), None).endswith(b"no")


def test_the_end_of_the_connection_is_announced() -> None:
    """By the client's wish, or by a planned header."""
    for step, keep_alive in ((Answer(), False), (Answer(headers={"connection": "Close"}), True)):
        with Stage() as stage:
            stage.request.keep_alive = keep_alive
            assert not stage.play(step)
            stage.server.close()
            assert stage.heard().lower().count(b"connection: close\r\n") == 1


def test_the_connection_can_end_without_a_word() -> None:
    """As servers do that have waited long enough for the next request."""
    with Stage() as stage:
        assert not stage.play(Answer(close=True))
        stage.server.close()
        assert b"Connection: close" not in stage.heard()


def test_a_head_request_is_answered_without_a_body() -> None:
    """Its length is told all the same."""
    with Stage() as stage:
        stage.request.method = "HEAD"
        stage.play(Answer())
        stage.server.close()
        assert stage.heard().endswith(b"Content-Length: 21\r\n\r\n")


def test_an_answer_can_drip_and_come_late() -> None:
    """It is the same answer."""
    assert spoken(Answer(drip=1e-6, delay=1e-3)).endswith(b'{"status": "success"}')


def test_closing_the_platform_ends_a_drip() -> None:
    """Nobody waits for the last byte."""
    with Stage() as stage:
        stage.closed.set()
        assert not stage.play(Answer(drip=60, delay=60))
        stage.server.close()
        assert stage.heard() == b"H"


def test_raw_bytes_leave_as_they_are() -> None:
    """In place of an answer."""
    assert spoken(Raw(b"\x00what?\r\n")) == b"\x00what?\r\n"


@pytest.mark.parametrize(
    ("step", "heard"),
    [
        (Close(), b"<reset>"),
        (Close(reset=False), b""),
        (Close(at="status_line"), b"HTTP/1.1 <reset>"),
        (Close(at="status_line", reset=False), b"HTTP/1.1 "),
        (Hang(), b""),
        (Hang(at="status_line"), b"HTTP/1.1 "),
    ],
)
def test_an_answer_can_break_off_before_its_status(step: Step, heard: bytes) -> None:
    """With nothing, or half a status line."""
    assert spoken(step) == heard


@pytest.mark.parametrize("step", [Close(at="answer_body", reset=False), Hang(at="answer_body")])
def test_an_answer_can_break_off_in_its_body(step: Step) -> None:
    """The head is whole and tells more bytes than come."""
    head, _, body = spoken(step).partition(b"\r\n\r\n")
    assert b"Content-Length: 21" in head
    assert body == b'{"status":'


def test_what_was_done_is_noted() -> None:
    """In words, where no status was answered."""
    with Stage() as stage:
        stage.play(Close())
    assert str(stage.request.answer).startswith("Close(at='answer'")
    with Stage() as stage:
        stage.leave()
        stage.play(Raw(b""))
    assert stage.request.answer == "raw bytes"


def test_a_hang_lasts_until_the_client_gives_up() -> None:
    """Whatever the client sends meanwhile goes unheard."""
    with Stage() as stage:
        stage.server.settimeout(0.001)
        hanging = threading.Thread(target=end_badly, args=(stage.server, Hang(at="connect")))
        hanging.start()
        stage.client.sendall(b"hello?")
        stage.leave()
        hanging.join(30)
        assert not hanging.is_alive()


def test_a_tls_handshake_is_broken_off_once_it_has_begun() -> None:
    """The client's hello is waited for."""
    with Stage() as stage:
        breaking = threading.Thread(target=end_badly, args=(stage.server, Close(at="tls")))
        breaking.start()
        with pytest.raises((ConnectionResetError, ssl.SSLError)):
            ssl.create_default_context().wrap_socket(stage.client, server_hostname="x")
        breaking.join(30)
        stage.client = socket.socket()


def test_other_steps_end_in_order() -> None:
    """A step that is at the wrong place does no harm."""
    with Stage() as stage:
        stage.leave()
        assert not stage.play(Refuse())
        assert stage.heard() == b""
