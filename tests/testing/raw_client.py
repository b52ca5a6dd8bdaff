"""An HTTP client that hides nothing: what came over the wire, and how it ended."""

from __future__ import annotations

import contextlib
import json
import socket
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Self
from urllib.parse import urlsplit

if TYPE_CHECKING:
    import ssl

    from bluejay_ws.testing.platform import FakePlatform

UPDATE = "/v1/update-simulation-result"
RETRIEVE = "/v1/retrieve-simulation-result/"
PATIENCE = 5.0


@dataclass
class Reply:
    """What an answer held."""

    status: int
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""

    def json(self) -> Any:
        return json.loads(self.body)


class ClosedEarlyError(Exception):
    """The server closed in order before its answer was complete."""

    def __init__(self, received: bytes) -> None:
        super().__init__(received)
        self.received = received


def report(simulation_result_id: str = "720488", **fields: Any) -> bytes:
    """Spell the body of a report."""
    return json.dumps({"simulation_result_id": simulation_result_id, **fields}).encode()


def request(method: str, path: str, body: bytes = b"", **headers: str) -> bytes:
    """Spell a request; underscores in header names stand for hyphens, an empty value leaves a header out."""
    named = {"Host": "x", "X-API-Key": "test-key", "Content-Type": "application/json", "Content-Length": str(len(body))}
    named |= {name.replace("_", "-"): value for name, value in headers.items()}
    lines = [f"{method} {path} HTTP/1.1", *(f"{name}: {value}" for name, value in named.items() if value), "", ""]
    return "\r\n".join(lines).encode("latin-1") + body


class Client:
    """One connection."""

    def __init__(self, url: str, context: ssl.SSLContext | None = None) -> None:
        parts = urlsplit(url)
        self.sock = socket.create_connection((parts.hostname, parts.port), PATIENCE)
        if context is not None:
            self.sock = context.wrap_socket(self.sock, server_hostname=parts.hostname)
        self.received = bytearray()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.sock.close()

    def send(self, data: bytes) -> None:
        """Send; a server that is gone already shows when its answer is read."""
        with contextlib.suppress(ConnectionError):
            self.sock.sendall(data)

    def post(self, body: bytes | None = None, **headers: str) -> Reply:
        self.send(request("POST", UPDATE, report() if body is None else body, **headers))
        return self.reply()

    def get(self, path: str, **headers: str) -> Reply:
        self.send(request("GET", path, b"", **headers))
        return self.reply()

    def reply(self) -> Reply:
        """Read one answer."""
        head, _, rest = self._until(lambda data: b"\r\n\r\n" in data).partition(b"\r\n\r\n")
        first, *lines = head.decode("latin-1").split("\r\n")
        headers = {line.partition(": ")[0].lower(): line.partition(": ")[2] for line in lines}
        length = int(headers.get("content-length", "0"))
        self._until(lambda data: len(data) >= len(head) + 4 + length)
        rest = bytes(self.received[len(head) + 4 :][:length])
        del self.received[: len(head) + 4 + length]
        return Reply(int(first.split(" ")[1]), headers, rest)

    def _until(self, enough: Any) -> bytes:
        while not enough(self.received):
            data = self.sock.recv(65536)
            if not data:
                raise ClosedEarlyError(bytes(self.received))
            self.received += data
        return bytes(self.received)

    def gone(self) -> bool:
        """Return whether the server has closed this connection, in order."""
        return self.sock.recv(1) == b""


def post(url: str, body: bytes | None = None, context: ssl.SSLContext | None = None, **headers: str) -> Reply:
    """Send a report on a connection of its own."""
    with Client(url, context) as client:
        return client.post(body, **headers)


def get(url: str, path: str, **headers: str) -> Reply:
    """Send a GET on a connection of its own."""
    with Client(url) as client:
        return client.get(path, **headers)


def read_back(platform: FakePlatform, simulation_result_id: str = "720488") -> Any:
    """Return the result of a call as the platform shows it."""
    return get(platform.url, RETRIEVE + simulation_result_id).json()["simulation_result"]
