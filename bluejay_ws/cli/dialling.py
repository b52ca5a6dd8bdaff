"""Dial an agent, and say kindly why it did not work."""

from __future__ import annotations

import errno
import socket
import ssl
import time
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from websockets.exceptions import InvalidMessage, InvalidStatus, InvalidURI, WebSocketException

from bluejay_ws.cli.terminal import Problem, clean

if TYPE_CHECKING:
    from collections.abc import Callable

    from bluejay_ws.testing.caller import CallLog

BAD_USAGE, UNREACHABLE, REFUSED = 2, 3, 4
EXAMPLE = "ws://localhost:8765"
BETWEEN_TRIES = 0.25
APART = 0.025
"""Seconds between the first dials of calls that are made at once: each takes work, and holds up the others' frames."""
REFUSALS = {
    401: ("the agent wants credentials, or others", "give --user and --password"),
    403: ("the agent refuses the connection", "check its path, its origin rules and its credentials"),
    404: ("there is nothing at that path", "say at which path the agent takes calls: --path /media, or in the URL"),
}


class RefusalProblem(Problem):
    """Say that the agent refused the connection at the upgrade, with an HTTP status."""

    def __init__(self, status: int) -> None:
        words, remedy = REFUSALS.get(status, ("the agent does not upgrade the connection", "look into the agent's log"))
        super().__init__(f"{words} (HTTP {status} at the upgrade)", remedy, exit_code=REFUSED)
        self.status = status


def check_url(url: str) -> str:
    """Return the URL if an agent can be dialled with it.

    Raises:
        Problem: it is none.
    """
    try:
        parts = urlsplit(url)
        usable = parts.scheme in {"ws", "wss"} and bool(parts.hostname) and parts.port != 0
    except ValueError:
        usable = False
    if not usable:
        raise _no_url(url)
    return url


def dial(call: Callable[[], CallLog], url: str, *, wait: float = 0.0) -> CallLog:
    """Make the call and return its log; for ``wait`` seconds try again while nobody listens.

    Raises:
        Problem: the call could not begin.
    """
    deadline = time.monotonic() + wait
    while True:
        try:
            return call()
        except (OSError, UnicodeError, ImportError, WebSocketException) as error:
            if not _is_refused(error) or time.monotonic() >= deadline:
                raise problem_of(error, url) from None
            time.sleep(BETWEEN_TRIES)


def problem_of(error: Exception, url: str) -> Problem:
    """Return what an exception of dialling means for the person who dialled."""
    if isinstance(error, InvalidURI):
        return _no_url(url)
    if isinstance(error, InvalidStatus):
        return RefusalProblem(error.response.status_code)
    message, remedy = _tls(error, url) if isinstance(error, ssl.SSLError) else _unreachable(error, url)
    return Problem(message, remedy, exit_code=UNREACHABLE)


def _no_url(url: str) -> Problem:
    return Problem(f"{clean(url)!r} is not a websocket URL", f"write it like {EXAMPLE}", exit_code=BAD_USAGE)


def _tls(error: ssl.SSLError, url: str) -> tuple[str, str]:
    if isinstance(error, ssl.SSLCertVerificationError):
        remedy = "point SSL_CERT_FILE to the certificate of the authority that issued it"
        return f"the agent's certificate is not trusted: {error.verify_message}", remedy
    return f"no TLS with {url}: {error.reason or error}", "if the agent does not use TLS, write ws://"


def _unreachable(error: Exception, url: str) -> tuple[str, str]:
    if _is_refused(error):
        return f"nobody listens at {url} (connection refused)", "start the agent first, or check host and port"
    if isinstance(error, TimeoutError):
        return f"no answer from {url} in time", "does the agent hang, or does a firewall drop the packets?"
    if isinstance(error, socket.gaierror | UnicodeError):
        return f"the host of {url} is unknown", "check its spelling"
    if isinstance(error, InvalidMessage | ConnectionError):
        remedy = "does another service listen there, or does the agent want wss:// ?"
        return f"what listens at {url} does not answer as a websocket server", remedy
    return f"cannot call {url}: {error}", ""


def _is_refused(error: Exception) -> bool:
    # asyncio puts the refusals of several addresses (::1 and 127.0.0.1) into the text of one OSError.
    return isinstance(error, ConnectionRefusedError) or f"[Errno {errno.ECONNREFUSED}]" in str(error)
