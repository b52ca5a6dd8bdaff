"""As much HTTP/1.1 as a listener needs to read requests, within limits, and to spell answers."""

from __future__ import annotations

import re
import time
from dataclasses import dataclass, field
from email.utils import formatdate
from http import HTTPStatus
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import socket
    from collections.abc import Iterable

HEAD_LIMIT = 64 * 1024
BODY_LIMIT = 16 * 1024 * 1024
RECEIVE_SIZE = 64 * 1024

_TOKEN = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_REQUEST_LINE = re.compile(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]+) ([\x21-\x7e]+) HTTP/1\.([01])")


class HttpError(Exception):
    """Say which status answers a request that cannot be read, and why."""

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(status, reason)
        self.status = status
        self.reason = reason


@dataclass(slots=True)
class Request:
    """Hold one request as it came in. Neither headers nor body show in the repr.

    Attributes:
        method: such as ``POST``.
        target: the path with its query string, as sent.
        headers: names and values in the order and spelling they came in.
        body: the exact bytes, once they were read.
        started_at: monotonic seconds when its first byte was there.
        received_at: monotonic seconds when its last byte was there; 0.0 before that.
        answer: the status answered, or words for what was done instead.
        problems: what the schema had against the body, in the shape of a 422 answer's ``detail``.
    """

    method: str
    target: str
    headers: list[tuple[str, str]] = field(repr=False)
    keep_alive: bool = field(default=True, repr=False)
    body: bytes = field(default=b"", repr=False)
    started_at: float = 0.0
    received_at: float = 0.0
    answer: int | str | None = None
    problems: list[dict[str, object]] = field(default_factory=list, repr=False)

    @property
    def path(self) -> str:
        """Return the target without its query string."""
        return self.target.partition("?")[0]

    def all(self, name: str) -> list[str]:
        """Return every value of the header ``name``; case does not matter."""
        return [value for key, value in self.headers if key.lower() == name.lower()]

    def header(self, name: str) -> str | None:
        """Return the header ``name``, repeated values joined by commas, or None."""
        return ", ".join(self.all(name)) if self.all(name) else None


class Stream:
    """Read requests from one connected socket, plain or TLS, one after the other. The limits are bytes."""

    def __init__(self, sock: socket.socket, *, head_limit: int = HEAD_LIMIT, body_limit: int = BODY_LIMIT) -> None:
        self.sock = sock
        self.idle = True
        self._buffer = bytearray()
        self._head_limit = head_limit
        self._body_limit = body_limit

    def rests(self) -> bool:
        """Return whether nothing of the next request is there yet, and be `idle` until it is."""
        self.idle = not self._buffer
        return self.idle

    def begins(self, timeout: float | None) -> bytes:
        """Wait for the next request and return its first bytes; empty when the peer closed instead.

        ``timeout`` counts for each read from now on, in seconds.
        """
        self.sock.settimeout(timeout)
        if self.rests():
            self._buffer += self.sock.recv(RECEIVE_SIZE)
            self.idle = False
        return bytes(self._buffer[:16])

    def head(self) -> Request:
        """Read a request line and its headers.

        Raises:
            HttpError: 400 or 431.
            ConnectionError: the peer closed in the middle of it.
        """
        started_at = time.monotonic()
        while (end := self._buffer.find(b"\r\n\r\n", 0, self._head_limit)) < 0:
            if len(self._buffer) >= self._head_limit:
                raise HttpError(431, "request head is too large")
            self._receive()
        head = bytes(self._buffer[:end])
        del self._buffer[: end + 4]
        return _parsed(head, started_at)

    def some_body(self, request: Request) -> None:
        """Read about half of the body, and leave the rest unread."""
        length = sum(int(value) for value in request.all("content-length")[:1] if value.isdigit())
        while len(self._buffer) < min(length, self._body_limit) // 2:
            self._receive()

    def body(self, request: Request) -> None:
        """Read the whole body into ``request.body``.

        Raises:
            HttpError: 400 or 413.
            ConnectionError: the peer closed in the middle of it.
        """
        coding = request.header("transfer-encoding")
        lengths = set(request.all("content-length"))
        if (request.header("expect") or "").lower() == "100-continue":
            self.sock.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")
        if coding is not None:
            if coding.lower() != "chunked" or lengths:
                raise HttpError(400, "transfer coding is not understood")
            request.body = self._chunks()
        elif lengths:
            request.body = self._take(_length(lengths, self._body_limit))
        request.received_at = time.monotonic()

    def _chunks(self) -> bytes:
        body = bytearray()
        while size := self._chunk_size():
            if len(body) + size > self._body_limit:
                raise HttpError(413, "request body is too large")
            body += self._take(size)
            if self._take(2) != b"\r\n":
                raise HttpError(400, "chunk does not end where it says")
        while self._line():
            pass  # trailers mean nothing to us
        return bytes(body)

    def _chunk_size(self) -> int:
        digits = self._line().partition(b";")[0].strip()
        if not re.fullmatch(rb"[0-9A-Fa-f]{1,8}", digits):
            raise HttpError(400, "chunk size is not a number")
        return int(digits, 16)

    def _line(self) -> bytes:
        while (end := self._buffer.find(b"\r\n")) < 0:
            if len(self._buffer) > self._head_limit:
                raise HttpError(400, "chunk head is too large")
            self._receive()
        line = bytes(self._buffer[:end])
        del self._buffer[: end + 2]
        return line

    def _take(self, size: int) -> bytes:
        while len(self._buffer) < size:
            self._receive()
        taken = bytes(self._buffer[:size])
        del self._buffer[:size]
        return taken

    def _receive(self) -> None:
        data = self.sock.recv(RECEIVE_SIZE)
        if not data:
            raise ConnectionAbortedError("the peer closed in the middle of a request")
        self._buffer += data


def _parsed(head: bytes, started_at: float) -> Request:
    first, *lines = head.split(b"\r\n")
    line = _REQUEST_LINE.fullmatch(first)
    if line is None:
        raise HttpError(400, "request line is malformed")
    headers = [_header(entry) for entry in lines]
    target = line[2].decode("ascii")
    if target.startswith(("http://", "https://")):  # the absolute form, as sent to a proxy
        target = "/" + target.partition("://")[2].partition("/")[2]
    request = Request(line[1].decode("ascii"), target, headers, started_at=started_at)
    request.keep_alive = line[3] == b"1" and "close" not in (request.header("connection") or "").lower()
    return request


def _header(line: bytes) -> tuple[str, str]:
    name, colon, value = line.partition(b":")
    if not colon or not _TOKEN.fullmatch(name) or any(byte in value for byte in b"\r\n\0"):
        raise HttpError(400, "header line is malformed")
    return name.decode("ascii"), value.strip(b" \t").decode("latin-1")


def _length(values: set[str], limit: int) -> int:
    value = values.pop()
    if values or not re.fullmatch(r"[0-9]{1,18}", value, re.ASCII):
        raise HttpError(400, "content length is not one number")
    if int(value) > limit:
        raise HttpError(413, "request body is too large")
    return int(value)


def phrase(status: int) -> str:
    """Return the words that go with ``status``; empty for an unknown one."""
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return ""


def answer_head(status: int, headers: Iterable[tuple[str, str]], length: int) -> bytes:
    """Spell a status line with its headers.

    They win over ``Date``, ``Content-Type`` and the body's ``Content-Length``, which are added when they are missing.
    """
    given = list(headers)
    names = {name.lower() for name, _ in given}
    added = {"Date": formatdate(usegmt=True), "Content-Type": "application/json", "Content-Length": str(length)}
    given += [(name, value) for name, value in added.items() if name.lower() not in names]
    lines = [f"HTTP/1.1 {status} {phrase(status)}", *(f"{name}: {value}" for name, value in given), "", ""]
    return "\r\n".join(lines).encode("latin-1")
