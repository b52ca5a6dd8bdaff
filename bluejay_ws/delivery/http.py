"""The one place that speaks HTTP: a blocking httpx client that tells how far a failed exchange came.

httpx is imported when the first client is made, on a thread of delivery's own.
"""

from __future__ import annotations

import contextlib
import importlib
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
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast
from urllib.parse import quote, urlsplit
from urllib.request import getproxies, proxy_bypass

from bluejay_ws.delivery.outcomes import Answer, Failure, Phase
from bluejay_ws.log import say
from bluejay_ws.version import VERSION
from bluejay_ws.wire.platform import API_KEY_HEADER, RETRIEVE_PATH, RETRIEVE_RUN_PATH, UPDATE_PATH

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    import httpx

    from bluejay_ws.settings import Settings
    from bluejay_ws.stats import Counters

__all__ = ["HttpExchange", "UnusableVariableError", "odd_no_proxy", "retry_after", "say_odd_no_proxy", "tls_context"]

ANSWER_LIMIT = 64 * 1024
# A result holds the platform's own transcript and scores beside what we look for; the shorter limit would
# leave long calls unreadable for ever.
RESULT_LIMIT = 8 * 1024 * 1024
RUN_LIMIT = 64 * 1024 * 1024  # all calls of a run in one answer
ODD_NO_PROXY = "has networks, URLs or addresses in brackets, which do nothing here"
PLAIN_NO_PROXY = "write names and plain addresses, separated by commas"
# Shorter than any server keeps an idle connection: a request that meets a closing one has an unknown outcome.
KEEPALIVE = 2.0
_SECONDS = re.compile(r"([+-]?[0-9]+(?:\.[0-9]*)?)\s*(?:,.*)?", re.ASCII | re.DOTALL)
# The whole exchange may take so many times the limit for each of its steps.
STEPS = 3.0


def import_client() -> None:
    """Import httpx, and what is imported with the first client and the first name: it takes a quarter of a second.

    A child that is forked while a thread imports waits for ever for what that thread was at.
    """
    for name in ("httpx", "httpcore", "encodings.idna"):
        importlib.import_module(name)


def tls_context(settings: Settings) -> ssl.SSLContext:
    """Return the TLS context for all clients; honours ``SSL_CERT_FILE`` and ``SSL_CERT_DIR``. Takes up to 0.3 s.

    Plain http to this machine gets one that trusts nobody, which costs nothing.
    """
    import httpx  # noqa: PLC0415 - costs a quarter of a second, on this thread

    if settings.base_url.startswith("https:"):
        try:
            if path := os.environ.get("SSL_CERT_FILE"):
                Path(path).stat()  # old versions of httpx pass over one that is not there
            return httpx.create_ssl_context()
        except Exception as error:
            raise _explained(error, "SSL_CERT_FILE", "SSL_CERT_DIR") from error
    return ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)


def _trust_anew(context: ssl.SSLContext) -> None:
    """Trust what ``SSL_CERT_FILE`` holds by now, for all clients: somebody may have mended it under this process."""
    with contextlib.suppress(OSError):  # not mended yet; the failure that led here is counted
        context.load_verify_locations(os.environ.get("SSL_CERT_FILE") or os.devnull)


class UnusableVariableError(ValueError):
    """Say which variable of the environment keeps an HTTP client from being made.

    Args:
        variable: its name.
        reason: the kind of error; never the value, which may hold a password.
    """

    def __init__(self, variable: str, reason: str) -> None:
        super().__init__(variable, reason)
        self.variable = variable
        self.reason = reason
        self.detail = f"{variable} of the environment cannot be used ({reason}); mend or unset it, and start again"

    def __str__(self) -> str:
        return self.detail


def _explained(error: Exception, *names: str) -> Exception:
    """Return the error with the first of these variables that is set; as it is where none is."""
    found = next((name for name in names if os.environ.get(name)), None)
    return error if found is None else UnusableVariableError(found, type(error).__name__)


def _transport(settings: Settings, context: ssl.SSLContext) -> httpx.HTTPTransport:
    """Return what carries requests. httpx's client above it, with its cookies and redirects, costs as much again."""
    import httpx  # noqa: PLC0415 - see tls_context

    limits = httpx.Limits(max_connections=1, max_keepalive_connections=1, keepalive_expiry=KEEPALIVE)
    proxy = _proxy(settings.base_url)
    try:
        return httpx.HTTPTransport(verify=context, limits=limits, proxy=proxy and httpx.Proxy(proxy))
    except Exception as error:
        raise _explained(error, "https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY") from error


def _proxy(base_url: str) -> str | None:
    """Return the proxy that the environment names for this address, unless NO_PROXY leaves it out."""
    proxies = getproxies()
    proxy = proxies.get("https") or proxies.get("all")
    if not proxy or not base_url.startswith("https:") or proxy_bypass(urlsplit(base_url).netloc):
        return None
    return proxy if "://" in proxy else f"http://{proxy}"


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


class HttpExchange:
    """Carry requests to the platform, one at a time; each delivering thread has its own.

    Proxies are taken from the environment as httpx does, but for plain http, which is for this machine only: a proxy
    elsewhere would be handed the key in clear. Redirects are never followed: the key would travel.

    Args:
        settings: where the platform is, the key and the timeout.
        context: from `tls_context`.
        clock: monotonic seconds.
    """

    def __init__(
        self, settings: Settings, context: ssl.SSLContext, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        import httpx  # noqa: PLC0415 - see tls_context

        self._settings = settings
        self._clock = clock
        self._context = context
        self._transport = _transport(settings, context)
        self._progress = Progress(clock)
        # What all requests have in common is made once; the key is not kept here.
        self._urls = {UPDATE_PATH: httpx.URL(settings.base_url + UPDATE_PATH)}
        self._headers = [
            (b"Host", self._urls[UPDATE_PATH].netloc),
            (b"User-Agent", f"bluejay_ws/{VERSION}".encode()),
            (b"Accept", b"application/json"),
            (b"Accept-Encoding", b"identity"),
        ]
        extensions = {"trace": self._progress.trace, "timeout": httpx.Timeout(settings.timeout).as_dict()}
        self._new_request = partial(httpx.Request, extensions=extensions)
        self._stream = httpx.ByteStream

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
        """End an exchange that takes longer than it may in total, wherever it hangs; for another thread."""
        if now > self._progress.deadline:
            self._progress.cut_off()

    def close(self) -> None:
        """Close the connections."""
        self._transport.close()

    def _exchange(self, method: str, path: str, body: bytes | None, limit: int) -> Answer | Failure:
        self._progress.begin(self._clock() + self._settings.timeout * STEPS)
        try:
            return self._request(method, path, body, limit)
        except Exception as error:  # noqa: BLE001 - whatever it is, it says how far the exchange came
            failure = failure_of(error, self._progress)
            if failure.phase is Phase.CERTIFICATE:
                _trust_anew(self._context)
            return failure
        finally:
            self._progress.deadline = math.inf

    def _request(self, method: str, path: str, body: bytes | None, limit: int) -> Answer:
        headers = self._headers
        if (key := self._settings.api_key) is not None:
            headers = [*headers, (API_KEY_HEADER.encode(), key.reveal().encode())]
        if body is not None:
            length = b"%d" % len(body)
            headers = [*headers, (b"Content-Type", b"application/json"), (b"Content-Length", length)]
        url = self._urls.get(path) or self._settings.base_url + path
        # With a stream of its own httpx takes the request as it is, and prepares nothing.
        response = self._transport.handle_request(
            self._new_request(method, url, headers=headers, stream=self._stream(body or b""))
        )
        try:
            if not self._progress.heard:  # what came behind the last answer says nothing of this request
                self._progress.cut_off()
                raise ConnectionError
            data, complete = _read(response, limit)
        finally:
            response.close()
        asked = retry_after(
            _first(response, "Retry-After"), _first(response, "Date"), ceiling=self._settings.retry.retry_after_ceiling
        )
        return Answer(response.status_code, data, asked, self._progress.body_sent, complete)


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


def _first(response: httpx.Response, name: str) -> str | None:
    """Return the first value of a header: proxies repeat them, and two that are joined are no date."""
    return next(iter(response.headers.get_list(name)), None)


def _read(response: httpx.Response, limit: int) -> tuple[bytes, bool]:
    """Return as much of the body as there is, unpacked, up to ``limit``, and whether that is all."""
    data = bytearray()
    complete = True
    try:
        for chunk in cast("Iterable[bytes]", response.stream):
            data += chunk
            if len(data) > limit:
                complete = False
                break
    except Exception:  # noqa: BLE001 - the status is known, and counts; the body is incomplete
        complete = False
    return _unpacked(bytes(data[:limit]), response.headers.get("Content-Encoding", ""), limit, complete=complete)


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


class Progress:
    """Follow one exchange by the events of httpx's ``trace`` extension, and let no reading go beyond its deadline.

    Args:
        clock: monotonic seconds.
    """

    __slots__ = ("_clock", "_head", "_holds", "_stream", "body_sent", "deadline", "heard", "started")

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._stream: Any = None
        self.begin(math.inf)

    def begin(self, deadline: float) -> None:
        """Note that a new exchange begins, perhaps on the connection of the last one."""
        self.deadline = deadline
        self.started = False
        self.body_sent = self.heard = False
        self._holds, self._head = False, b""

    def trace(self, event: str, info: dict[str, Any]) -> None:
        """Take an event in; called by httpx."""
        if event in {"connection.connect_tcp.complete", "connection.start_tls.complete"}:
            self._stream = info["return_value"]
            self._stream.read = partial(self._in_time, self._stream.read)
            self._stream.write = partial(self._together, self._stream.write)
        elif event == "http11.send_request_headers.started":
            # A proxy is asked for a tunnel in the same way; that carries nothing of ours.
            method = info["request"].method
            self.started, self._holds = method != b"CONNECT", method == b"POST"
        elif event == "http11.send_request_body.complete":
            self.body_sent = self.started

    def _in_time(self, read: Callable[[int, float], bytes], size: int, timeout: float) -> bytes:
        """Read as a connection does; one that drips keeps each of its time-outs, for ever."""
        left = self.deadline - self._clock()
        if left <= 0.0:
            raise TimeoutError
        self.heard = True
        return read(size, min(timeout, left))

    def _together(self, write: Callable[[bytes, float | None], None], data: bytes, timeout: float | None) -> None:
        """Write as a connection does, but a POST's headers together with its body: one packet less for both sides."""
        if self._holds:
            self._holds, self._head = False, data
            return
        head, self._head = self._head, b""
        write(head + data, timeout)

    def cut_off(self) -> None:
        """End the connection under the thread that waits for it, which then sees it as closed by the peer."""
        sock = self._stream.get_extra_info("socket") if self._stream is not None else None
        try:
            # Not SSLSocket's own shutdown, which would change the object under the other thread.
            if sock is not None:
                socket.socket.shutdown(sock, socket.SHUT_RDWR)
        except OSError:
            return


def failure_of(error: Exception, progress: Progress) -> Failure:
    """Return what an exception says about how far the exchange came."""
    import httpx  # noqa: PLC0415 - see tls_context

    if progress.body_sent:
        return Failure(Phase.UNKNOWN, _word(error))
    if isinstance(error, (httpx.InvalidURL, httpx.UnsupportedProtocol, httpx.LocalProtocolError)):
        return Failure(Phase.CONFIGURATION, "bad_request_settings", "check BLUEJAY_API_URL and BLUEJAY_API_KEY")
    if isinstance(error, httpx.ProxyError) and "407" in str(error):
        return Failure(Phase.CONFIGURATION, "proxy_refuses", "check HTTPS_PROXY")
    if progress.started:
        return Failure(Phase.BODY_INCOMPLETE, _word(error))
    if _has_cause(error, ssl.SSLCertVerificationError):
        detail = "point SSL_CERT_FILE to the certificate of the authority that issued it"
        return Failure(Phase.CERTIFICATE, "certificate_not_trusted", detail)
    if _has_cause(error, socket.gaierror):
        return Failure(Phase.NOT_SENT, "dns", "a host name cannot be resolved: BLUEJAY_API_URL's, or its proxy's")
    return Failure(Phase.NOT_SENT, _word(error))


def _word(error: Exception) -> str:
    """Return the error's type as a word for counts: ``connect_error``, ``read_timeout``."""
    name = type(error).__name__
    return "".join(f"_{letter.lower()}" if letter.isupper() else letter for letter in name).lstrip("_")


def _has_cause(error: BaseException | None, kind: type[BaseException]) -> bool:
    while error is not None:
        if isinstance(error, kind):
            return True
        error = error.__cause__ or error.__context__
    return False
