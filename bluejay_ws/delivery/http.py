"""The one place that speaks HTTP: a blocking client that knows how far an exchange came.

Whether a report may be sent again depends on how much of it left this machine, so a request is written to the socket
here; the standard library reads the answer.
"""

from __future__ import annotations

import base64
import contextlib
import importlib
import io
import logging
import math
import os
import re
import socket
import ssl
import time
import zlib
from datetime import UTC
from email.utils import parsedate_to_datetime
from functools import partial
from http.client import HTTPException, HTTPResponse
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, cast
from urllib.parse import quote, unquote, urlsplit
from urllib.request import getproxies, proxy_bypass

import certifi

from bluejay_ws.delivery.outcomes import Answer, Failure, Phase
from bluejay_ws.log import say
from bluejay_ws.version import VERSION
from bluejay_ws.wire.platform import API_KEY_HEADER, RETRIEVE_PATH, RETRIEVE_RUN_PATH, UPDATE_PATH

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from http.client import HTTPMessage

    from _typeshed import WriteableBuffer

    from bluejay_ws.settings import Settings
    from bluejay_ws.stats import Counters

importlib.import_module("encodings.idna")  # else the first name is looked up with it: a child forked meanwhile hangs

ANSWER_LIMIT = 64 * 1024
# A result holds the platform's own transcript and scores beside what we look for; the shorter limit would
# leave long calls unreadable for ever.
RESULT_LIMIT = 8 * 1024 * 1024
RUN_LIMIT = 64 * 1024 * 1024  # all calls of a run in one answer
CHUNK = 64 * 1024
ODD_NO_PROXY = "has networks, URLs or addresses in brackets, which do nothing here"
PLAIN_NO_PROXY = "write names and plain addresses, separated by commas"
NO_WAY_THERE = "check BLUEJAY_API_URL, the network, and the proxy of the environment"
NOT_TRUSTED = "point SSL_CERT_FILE to the certificate of the authority that issued it"
PROXY_VARIABLES = ("https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY")
# Shorter than any server keeps an idle connection: a request that meets a closing one has an unknown outcome.
KEEPALIVE = 2.0
_SECONDS = re.compile(r"([+-]?[0-9]+(?:\.[0-9]*)?)\s*(?:,.*)?", re.ASCII | re.DOTALL)
# The whole exchange may take so many times the limit for each of its steps.
STEPS = 3.0


def tls_context(settings: Settings) -> ssl.SSLContext:
    """Return the TLS context for all clients; honours ``SSL_CERT_FILE`` and ``SSL_CERT_DIR``. Takes up to 0.3 s.

    Plain http to this machine gets one that trusts nobody, which costs nothing.
    """
    if not settings.base_url.startswith("https:"):
        return ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    try:
        context = _trusting(os.environ.get("SSL_CERT_FILE"), os.environ.get("SSL_CERT_DIR"))
    except (OSError, ValueError) as error:
        raise _unusable(type(error).__name__, "SSL_CERT_FILE", "SSL_CERT_DIR") from error
    context.set_alpn_protocols(["http/1.1"])
    return context


def _trusting(file: str | None, directory: str | None) -> ssl.SSLContext:
    """Return a context that trusts what these hold; where there are none, what the system and certifi trust."""
    if file or directory:
        if not file and not any(Path(one).is_dir() for one in (directory or "").split(os.pathsep)):
            raise FileNotFoundError  # OpenSSL passes over it
        return ssl.create_default_context(cafile=file or None, capath=directory or None)
    context = ssl.create_default_context()
    with contextlib.suppress(OSError):  # a frozen program may have lost it; small images have none of the system's
        context.load_verify_locations(certifi.where())
    return context


def _trust_anew(context: ssl.SSLContext) -> None:
    """Trust what ``SSL_CERT_FILE`` holds by now, for all clients: somebody may have mended it under this process."""
    with contextlib.suppress(OSError):  # not mended yet; the failure that led here is counted
        context.load_verify_locations(os.environ.get("SSL_CERT_FILE") or os.devnull)


class UnusableVariableError(ValueError):
    """Say which variable of the environment keeps an HTTP client from being made.

    Args:
        variable: its name.
        reason: why; never the value, which may hold a password.
    """

    def __init__(self, variable: str, reason: str) -> None:
        super().__init__(variable, reason)
        self.variable = variable
        self.reason = reason
        self.detail = f"{variable} cannot be used ({reason}); mend or unset it, and start again"

    def __str__(self) -> str:
        return self.detail


def first_set(*names: str) -> str:
    """Return the first of these variables of the environment that is set; nothing where the system's settings count."""
    return next((name for name in names if os.environ.get(name)), "")


def _unusable(reason: str, *names: str) -> UnusableVariableError:
    return UnusableVariableError(first_set(*names) or "the system's setting for this", reason)


# -- the way to the platform ----------------------------------------------------------------------------------------


class _Proxy(NamedTuple):
    """Where tunnels to the platform begin.

    Args:
        address: host and port.
        header: what lets us in; empty where nothing is asked for.
    """

    address: tuple[str, int]
    header: str


def named_proxy(base_url: str) -> str | None:
    """Return the proxy that the environment names for this address, unless NO_PROXY leaves it out."""
    proxies = getproxies()
    proxy = proxies.get("https") or proxies.get("all")
    if not proxy or not base_url.startswith("https:") or proxy_bypass(urlsplit(base_url).netloc):
        return None
    return proxy if "://" in proxy else f"http://{proxy}"


def _proxy_of(base_url: str) -> _Proxy | None:
    """Return what `named_proxy` finds, in its parts.

    Raises:
        UnusableVariableError: it is none that is understood.
    """
    text = named_proxy(base_url)
    try:
        return _parsed(text) if text else None
    except ValueError as error:
        raise _unusable("only proxies like http://proxy:3128 are known", *PROXY_VARIABLES) from error


def _parsed(text: str) -> _Proxy:
    url = urlsplit(text)
    if url.scheme != "http" or not url.hostname:
        raise ValueError
    known = f"{unquote(url.username or '')}:{unquote(url.password or '')}".encode()
    header = f"Proxy-Authorization: Basic {base64.b64encode(known).decode()}\r\n" if len(known) > 1 else ""
    return _Proxy((url.hostname, url.port or 80), header)


def odd_no_proxy() -> str:
    """Return the name of the NO_PROXY variable if it has entries that nothing here understands, and that do nothing."""
    for name in ("no_proxy", "NO_PROXY"):
        if any(sign in os.environ.get(name, "") for sign in "/[]"):  # networks, URLs, addresses in brackets
            return name
    return ""


def say_odd_no_proxy(counters: Counters) -> None:
    """Log which variable has such entries: whoever wrote them believes that they count."""
    if name := odd_no_proxy():
        say(counters, logging.WARNING, "%s of the environment %s: %s", name, ODD_NO_PROXY, PLAIN_NO_PROXY)


class _TunnelError(OSError):
    """The proxy answered, and made no tunnel."""

    def __init__(self, status: int) -> None:
        super().__init__(status)
        self.status = status


# -- one connection -------------------------------------------------------------------------------------------------


class _Socket(io.RawIOBase):
    """A socket that waits no longer than it may.

    Args:
        sock: connected.
        left: returns the seconds that the next step may take; raises `TimeoutError` where there are none.
    """

    def __init__(self, sock: socket.socket, left: Callable[[], float]) -> None:
        self.sock = sock
        self.ended = False
        self._left = left
        self._waits = True

    def readable(self) -> bool:
        """Return that this can be read from."""
        return True

    def wait(self, *, waits: bool) -> None:
        """Wait from now on for what is read, or take only what is there."""
        self._waits = waits

    def readinto(self, buffer: WriteableBuffer, /) -> int | None:
        """Read what comes, in time; None if nothing is there and nobody wants to wait."""
        self.sock.settimeout(self._left() if self._waits else 0.0)
        try:
            size = self.sock.recv_into(buffer)
        except (BlockingIOError, ssl.SSLWantReadError):
            return None
        self.ended = not size
        return size

    def write_all(self, data: bytes) -> None:
        """Send all of it."""
        rest = memoryview(data)
        while rest:
            self.sock.settimeout(self._left())
            rest = rest[self.sock.send(rest) :]


class _Incoming(io.BufferedReader):
    """What comes from a socket. The standard library closes it with each answer; the connection stays open."""

    def close(self) -> None:
        """Do nothing."""


class Connection:
    """A connection to the platform, for one exchange after the other; the arguments are those of `_Socket`."""

    __slots__ = ("_incoming", "_raw")

    def __init__(self, sock: socket.socket, left: Callable[[], float]) -> None:
        self._raw = _Socket(sock, left)
        self._incoming = _Incoming(self._raw)

    def send(self, data: bytes) -> None:
        """Send all of it."""
        self._raw.write_all(data)

    def makefile(self, mode: str) -> io.BufferedReader:
        """Return what an answer is read from; the standard library asks a socket for it."""
        del mode
        return self._incoming

    def answer(self, method: str, *, waits: bool = True) -> HTTPResponse:
        """Return the answer to a request, read as far as its body. What only announces it is passed over.

        Args:
            method: of the request.
            waits: for an answer to come; else one counts that is there.
        """
        self._raw.wait(waits=waits)
        while True:
            response = HTTPResponse(cast("socket.socket", self), method=method)
            try:
                response.begin()
            except BaseException:
                response.close()  # else the garbage collector does, and complains of the order
                raise
            if response.status >= 200 or response.status == 101:
                _correct(response)
                return response
            response.close()

    def is_quiet(self) -> bool:
        """Return whether the connection is open, and nothing came behind the last answer."""
        self._raw.wait(waits=False)
        try:
            return not self._incoming.peek(1) and not self._raw.ended
        except OSError:
            return False

    def cut_off(self) -> None:
        """End it under the thread that waits for it, which then sees it as closed by the peer."""
        with contextlib.suppress(OSError):  # not SSLSocket's own shutdown, which would change it under that thread
            socket.socket.shutdown(self._raw.sock, socket.SHUT_RDWR)

    def close(self) -> None:
        """Close the socket."""
        self._raw.sock.close()


class HttpExchange:
    """Carry requests to the platform, one at a time; each delivering thread has its own.

    Proxies are taken from the environment, but for plain http, which is for this machine only: a proxy elsewhere would
    be handed the key in clear. Redirects are never followed: the key would travel.

    Args:
        settings: where the platform is, the key and the timeout.
        context: from `tls_context`.
        clock: monotonic seconds.

    Raises:
        UnusableVariableError: the environment, or the system, names a proxy that cannot be used.
    """

    def __init__(
        self, settings: Settings, context: ssl.SSLContext, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._settings = settings
        self._context = context
        self._clock = clock
        self._url = urlsplit(settings.base_url)
        self._proxy = _proxy_of(settings.base_url)
        # What all requests have in common is made once; the key is not kept here.
        self._prefix = quote(self._url.path, safe="/%:@!$&'()*+,;=~")
        self._headers = (
            f"Host: {self._url.netloc.encode('idna').decode()}\r\nUser-Agent: bluejay_ws/{VERSION}\r\n"
            "Accept: application/json\r\nAccept-Encoding: identity\r\n"
        )
        self._connection: Connection | None = None
        self._used_at = -math.inf
        self._deadline = math.inf
        self._phase = Phase.NOT_SENT

    def post(self, body: bytes) -> Answer | Failure:
        """Send a report; never raises."""
        return self._exchange("POST", UPDATE_PATH, body, ANSWER_LIMIT)

    def look(self, simulation_result_id: str) -> Answer | Failure:
        """Read a result back; never raises."""
        return self._exchange("GET", RETRIEVE_PATH + quote(simulation_result_id, safe=""), None, RESULT_LIMIT)

    def read_run(self, run_id: str) -> Answer | Failure:
        """Read the results of a whole run; never raises. The route is the official SDK's."""
        return self._exchange("GET", RETRIEVE_RUN_PATH + quote(run_id, safe=""), None, RUN_LIMIT)

    def abort_if_late(self, now: float) -> None:
        """End an exchange that takes longer than it may in total; for another thread. Connecting ends by itself."""
        if now > self._deadline and (connection := self._connection) is not None:
            connection.cut_off()

    def close(self) -> None:
        """Close the connection; twice is allowed."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()

    def _exchange(self, method: str, path: str, body: bytes | None, limit: int) -> Answer | Failure:
        self._phase = Phase.NOT_SENT
        self._deadline = self._clock() + self._settings.timeout * STEPS
        try:
            return self._request(method, path, body, limit)
        except BaseException as error:
            self.close()
            if not isinstance(error, Exception):
                raise
            failure = _failure(error, self._phase)
            if failure.phase is Phase.CERTIFICATE:
                _trust_anew(self._context)
            return failure
        finally:
            self._deadline = math.inf

    def _request(self, method: str, path: str, body: bytes | None, limit: int) -> Answer:
        connection = self._connected()
        unread = self._send(connection, method, path, body)
        try:  # after an upload that stalled, an answer counts that is there by then
            response = connection.answer(method, waits=not isinstance(unread, TimeoutError))
        except (OSError, HTTPException) as error:
            raise unread or error from None
        with response:
            data, complete = _read(response, limit)
        if unread or not complete or response.will_close or response.status == 101:
            self.close()
        self._used_at = self._clock()
        data, complete = _unpacked(data, response.getheader("Content-Encoding", ""), limit, complete=complete)
        wait = None if response.status == 200 else self._asked(response.headers)
        return Answer(response.status, data, wait, not unread, complete)

    def _asked(self, headers: HTTPMessage) -> float | None:
        """Return the wait that the platform asks for; of what a proxy repeats the first counts."""
        ceiling = self._settings.retry.retry_after_ceiling
        return retry_after(headers.get("Retry-After"), headers.get("Date"), ceiling=ceiling)

    def _send(self, connection: Connection, method: str, path: str, body: bytes | None) -> OSError | None:
        """Send a request, in one packet where there is room; return what kept the platform from reading its end."""
        key = self._settings.api_key
        lines = (
            f"{method} {self._prefix}{path} HTTP/1.1\r\n{self._headers}",
            "" if key is None else f"{API_KEY_HEADER}: {key.reveal()}\r\n",
            "" if body is None else f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n",
        )
        data = ("".join(lines) + "\r\n").encode("ascii") + (body or b"")
        self._phase = Phase.BODY_INCOMPLETE
        try:
            connection.send(data)
        except OSError as error:  # it may have answered before it had read everything
            return error
        self._phase = Phase.UNKNOWN
        return None

    # -- connecting ---------------------------------------------------------------------------------------------

    def _connected(self) -> Connection:
        """Return the connection of the last exchange, if it can be used for another one, or a new one."""
        known = self._connection
        if known is not None and self._clock() - self._used_at < KEEPALIVE and known.is_quiet():
            return known
        self.close()
        secure = self._url.scheme == "https"
        address = (self._url.hostname or "", self._url.port or (443 if secure else 80))
        sock = _connect(self._proxy.address if self._proxy else address, self._left())
        try:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if self._proxy:
                self._open_tunnel(sock, address, self._proxy.header)
            if secure:
                sock.settimeout(self._left())
                sock = self._context.wrap_socket(sock, server_hostname=address[0])
        except BaseException:
            sock.close()
            raise
        self._connection = Connection(sock, self._left)
        return self._connection

    def _left(self) -> float:
        """Return the seconds of the next step; an answer that drips keeps each of its time-outs, for ever."""
        left = min(self._settings.timeout, self._deadline - self._clock())
        if left <= 0.0:
            raise TimeoutError
        return left

    def _open_tunnel(self, sock: socket.socket, address: tuple[str, int], header: str) -> None:
        tunnel = Connection(sock, self._left)
        to = ("[{}]:{}" if ":" in address[0] else "{}:{}").format(*address).encode("idna").decode()
        tunnel.send(f"CONNECT {to} HTTP/1.1\r\nHost: {to}\r\n{header}\r\n".encode("ascii"))
        with tunnel.answer("CONNECT") as answer:
            if not 200 <= answer.status < 300:
                raise _TunnelError(answer.status)


def _connect(address: tuple[str, int], seconds: float) -> socket.socket:
    found = socket.getaddrinfo(*address, type=socket.SOCK_STREAM)
    return first_to_answer([(family, place) for family, _, _, _, place in found], seconds)


def first_to_answer(places: Sequence[tuple[int, Any]], seconds: float) -> socket.socket:
    """Connect to the first of a host's addresses that answers.

    All together have ``seconds``: where a network swallows what goes to the first, such as one of IPv6, the next one
    still has its turn.

    Args:
        places: family and address of each.
        seconds: above zero.

    Raises:
        OSError: none answers; the last one's.
    """
    until, error = time.monotonic() + seconds, OSError("no address")
    for number, (family, place) in enumerate(places):
        try:
            sock = socket.socket(family, socket.SOCK_STREAM)
        except OSError as failed:  # a family that this machine does not have
            error = failed
            continue
        try:
            sock.settimeout(max(0.001, until - time.monotonic()) / (len(places) - number))
            sock.connect(place)
        except OSError as failed:
            sock.close()
            error = failed
        else:
            sock.settimeout(seconds)
            return sock
    raise error


# -- the answer -----------------------------------------------------------------------------------------------------


def _correct(response: HTTPResponse) -> None:
    """Understand what proxies write and the standard library does not: a blank behind a word, a length twice."""
    if response.chunked or response.length is not None:
        return
    coding = response.headers.get("Transfer-Encoding", "").strip().lower()
    length = response.headers.get("Content-Length", "").partition(",")[0].strip()
    if coding == "chunked":
        response.chunked, response.chunk_left, response.length = True, None, None
    elif length.isdecimal():
        response.length = int(length)


def _read(response: HTTPResponse, limit: int) -> tuple[bytes, bool]:
    """Return as much of the body as there is, up to ``limit``, and whether that is all."""
    data = bytearray()
    try:
        while chunk := response.read1(CHUNK):
            data += chunk
            if len(data) > limit:
                return bytes(data[:limit]), False
    except (OSError, HTTPException):  # the status is known, and counts
        return bytes(data), False
    return bytes(data), not response.length


def _unpacked(data: bytes, encoding: str, limit: int, *, complete: bool) -> tuple[bytes, bool]:
    """Undo what a proxy has packed, although nobody asked for it, bounded after unpacking.

    What is not packed although a header says so is taken as it is.
    """
    for word in reversed([word.strip().lower() for word in encoding.split(",")]):
        if word in {"", "identity"}:
            continue
        tried = [_unpack(unpacker, data, limit) for unpacker in _unpackers(word)]
        found, whole = max(tried, key=lambda one: len(one[0]), default=(b"", False))
        if found or not data.lstrip().startswith((b"{", b"[")):
            data, complete = found, complete and whole
    return data, complete


def _unpackers(word: str) -> list[Callable[[], Any]]:
    """Return what may undo an encoding. Those that Python has not are used where the agent has them installed."""
    if word in {"gzip", "x-gzip"}:
        return [partial(zlib.decompressobj, 16 + zlib.MAX_WBITS)]
    if word == "deflate":  # some send it without its header
        return [partial(zlib.decompressobj, zlib.MAX_WBITS), partial(zlib.decompressobj, -zlib.MAX_WBITS)]
    for module, name in _OTHERS.get(word, ()):
        with contextlib.suppress(ImportError, AttributeError):
            return [getattr(importlib.import_module(module), name)]
    return []


_OTHERS = {
    "zstd": (("compression.zstd", "ZstdDecompressor"),),  # Python 3.14
    "br": (("brotli", "Decompressor"), ("brotlicffi", "Decompressor")),
}


def _unpack(make: Callable[[], Any], data: bytes, limit: int) -> tuple[bytes, bool]:
    """Unpack up to ``limit`` bytes of all members that follow each other; return them, and whether that is all."""
    found, whole = bytearray(), False
    while data and len(found) < limit:
        unpacker = make()
        try:
            found += _some(unpacker, data, limit - len(found))
        except Exception:  # noqa: BLE001 - each library has errors of its own; padding after the last member is none
            break
        whole = _at_its_end(unpacker)
        data = getattr(unpacker, "unused_data", b"") if whole else b""
    return bytes(found), whole


def _some(unpacker: Any, data: bytes, limit: int) -> bytes:
    if not hasattr(unpacker, "process"):
        return bytes(unpacker.decompress(data, limit))
    found = bytearray()
    for start in range(0, len(data), 64):  # brotli knows no limit: little goes in, so that not too much comes out
        found += unpacker.process(data[start : start + 64])
        if len(found) > limit:
            return bytes(found[:limit])
    return bytes(found)


def _at_its_end(unpacker: Any) -> bool:
    return bool(unpacker.is_finished() if hasattr(unpacker, "is_finished") else unpacker.eof)


def retry_after(value: str | None, date: str | None, *, ceiling: float) -> float | None:
    """Return the seconds a ``Retry-After`` header asks for, between 0 and ``ceiling``; None if it says nothing.

    A date counts against the answer's own ``Date``, so that this machine's clock does not matter; without one it
    counts against this machine's clock.

    Never raises. What is in the past or negative is 0; what is neither seconds nor a date is None. Of several that a
    proxy has joined with commas the first counts.

    Args:
        value: the header's value, as it came.
        date: the answer's ``Date`` header, as it came.
        ceiling: the longest wait that is believed, in seconds.
    """
    if value is None:
        return None
    text = value.strip()
    found = _SECONDS.fullmatch(text)
    seconds = float(found[1]) if found else _between("".join(text.partition("GMT")[:2]), date)
    return None if seconds is None else min(max(seconds, 0.0), ceiling)


def _between(text: str, date: str | None) -> float | None:
    moment = _moment(text)
    asked_at = _moment(date or "")
    return None if moment is None else moment - (time.time() if asked_at is None else asked_at)


def _moment(text: str) -> float | None:
    try:
        moment = parsedate_to_datetime(text)
        seconds = (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
    except (ValueError, TypeError, OverflowError, IndexError, AttributeError):
        return None
    return None if math.isnan(seconds) else seconds


# -- failures -------------------------------------------------------------------------------------------------------


def _failure(error: Exception, phase: Phase) -> Failure:
    """Return what an exception says, of an exchange that came so far."""
    if phase is Phase.UNKNOWN:
        return Failure(phase, _word(error, "read"))
    if phase is Phase.BODY_INCOMPLETE:
        return Failure(phase, _word(error, "write"))
    if isinstance(error, _TunnelError):
        refused = Failure(Phase.CONFIGURATION, "proxy_refuses", "check HTTPS_PROXY")
        return refused if error.status == 407 else Failure(phase, "proxy_error")
    if isinstance(error, ssl.SSLCertVerificationError):
        return Failure(Phase.CERTIFICATE, "certificate_not_trusted", NOT_TRUSTED)
    if isinstance(error, socket.gaierror):
        return Failure(phase, "dns", "a host name cannot be resolved: BLUEJAY_API_URL's, or its proxy's")
    if isinstance(error, ValueError):
        return Failure(Phase.CONFIGURATION, "bad_request_settings", "check BLUEJAY_API_URL and BLUEJAY_API_KEY")
    return Failure(phase, _word(error, "connect"), "" if isinstance(error, HTTPException) else NO_WAY_THERE)


def _word(error: Exception, step: str) -> str:
    """Return a word for counts: ``connect_error``, ``read_timeout``."""
    if isinstance(error, HTTPException):
        return "remote_protocol_error"
    return f"{step}_{'timeout' if isinstance(error, TimeoutError) else 'error'}"
