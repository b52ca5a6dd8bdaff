"""The page of live calls: served on this machine, and changed as they happen.

A server on loopback, with a secret word in its path, so that neither another machine nor another user's page reads what
is said. It runs on threads of the standard library: it must serve callers of any event loop, and its readers are one or
two browsers.
"""

from __future__ import annotations

import contextlib
import json
import secrets
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any, Protocol, Self, cast
from urllib.parse import unquote

from bluejay_ws.timeline.page import shell, view

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

HERE = "127.0.0.1"
BEAT_SECONDS = 10.0
POLL_SECONDS = 0.05  # a closed page is gone after it
CALLS_KEPT = 200
SAFE = {"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff", "Referrer-Policy": "no-referrer"}


class _Event(Protocol):
    """What a caller says of its call: milliseconds since the handshake, what happened, and what else is known."""

    @property
    def at_ms(self) -> float: ...
    @property
    def kind(self) -> str: ...
    @property
    def detail(self) -> Mapping[str, Any]: ...


class LivePage:
    """Serve the page on loopback, from ``with`` to its end; port 0 takes a free one."""

    def __init__(self, *, port: int = 0) -> None:
        self._port = port
        self.path = f"/{secrets.token_urlsafe(16)}/"
        self._calls: dict[str, dict[str, Any]] = {}
        self._changed = threading.Condition()
        self._changes = 0
        self._latest = ""
        self._server: _Server | None = None

    def start(self) -> Self:
        """Listen from now on.

        Raises:
            OSError: the port is taken.
        """
        self._server = _Server((HERE, self._port), _Handler, self)
        serve = self._server.serve_forever
        threading.Thread(target=serve, args=(POLL_SECONDS,), name="live-page", daemon=True).start()
        return self

    def close(self) -> None:
        """Stop, and end every connection; idempotent."""
        server, self._server = self._server, None
        with self._changed:
            self._changed.notify_all()
        if server is not None:
            server.shutdown()
            server.server_close()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def url(self) -> str:
        """Return the page's address, its secret word included."""
        port = self._port if self._server is None else self._server.server_address[1]
        return f"http://{HERE}:{port}{self.path}"

    @property
    def is_open(self) -> bool:
        """Return whether it listens."""
        return self._server is not None

    def show(self, key: str, report: object, *, live: bool = False, **options: Any) -> None:
        """Add a call, or replace what is shown of it; ``live``: it continues. Any thread may do it.

        ``options`` are those of `bluejay_ws.timeline.page.view`.
        """
        shown = view(report, **options)
        shown |= {"key": key, "live": live}
        if live:
            shown["headline"] = (
                f"The call continues. {shown['headline']}" if shown["level"] == "bad" else "The call continues."
            )
        with self._changed:
            self._calls[key] = shown
            while len(self._calls) > CALLS_KEPT:
                self._calls.pop(next(iter(self._calls)))
            self._latest = key
            self._changes += 1
            self._changed.notify_all()

    def page(self) -> str:
        """Return the page, which asks for everything else."""
        return shell({"live": self.path}, connect="'self'")

    def call(self, key: str) -> dict[str, Any] | None:
        """Return what is shown of a call; None for one that is not known."""
        with self._changed:
            return self._calls.get(key)

    def listing(self) -> dict[str, Any]:
        """Return the calls, oldest first, and which one changed last."""
        with self._changed:
            calls = [
                {name: call[name] for name in ("key", "id", "level", "headline", "live")}
                for call in self._calls.values()
            ]
            return {"calls": calls, "changed": self._latest or None, "number": self._changes}

    def wait(self, number: int, seconds: float) -> bool:
        """Wait until there is more than change ``number``, or the end; return whether there is."""
        with self._changed:
            self._changed.wait_for(lambda: self._changes > number or not self.is_open, seconds)
            return self._changes > number


def noticed(simulation_result_id: str, events: Iterable[_Event]) -> dict[str, Any]:
    """Return as a report what a caller noticed of a whole call."""
    call = LiveCall(simulation_result_id)
    for event in events:
        call.add(event)
    return call.report()


class LiveCall:
    """Make a report of what a caller notices, while its call continues."""

    def __init__(self, simulation_result_id: str) -> None:
        self.simulation_result_id = simulation_result_id
        self._speech: list[dict[str, Any]] = []
        self._events: list[dict[str, Any]] = []
        self._now = 0

    def add(self, event: _Event) -> None:
        """Take one event of the caller's."""
        at = self._now = round(event.at_ms)
        if event.kind in ("user.audio", "agent.heard"):
            speaker = "USER" if event.kind == "user.audio" else "AGENT"
            self._speech.append({"speaker": speaker, "start_offset_ms": at, "end_offset_ms": None, "utterance": ""})
        elif event.kind in ("user.speech.completed", "agent.quiet"):
            self._end("USER" if event.kind == "user.speech.completed" else "AGENT", at)
        elif event.kind in ("error.received", "error.sent"):
            title = f"Session error from the {'agent' if event.kind == 'error.received' else 'platform'}"
            self._events.append({"title": title, "start_offset_ms": at, "metadata": dict(event.detail)})
        elif event.kind == "barge_in":
            facts = {"queued_ms": event.detail.get("queued_ms", 0)}
            self._events.append({"title": "Caller interrupted the agent", "start_offset_ms": at, "metadata": facts})
        elif event.kind == "interrupted":
            self._events.append({"title": "Agent interrupted the caller", "start_offset_ms": at})
        elif event.kind == "closed":
            self._close(at, event.detail)

    def _end(self, speaker: str, at: int) -> None:
        for line in reversed(self._speech):
            if line["speaker"] == speaker:
                line["end_offset_ms"] = at
                return

    def _close(self, at: int, detail: Mapping[str, Any]) -> None:
        lost = detail.get("by") == "nobody"
        facts = {"outcome": "connection_lost" if lost else "completed", "close_code": detail.get("code")}
        self._events.append({"title": "Connection closed", "start_offset_ms": at, "metadata": {"bluejay_ws": facts}})

    def report(self) -> dict[str, Any]:
        """Return what is known by now, as a report: speech without words, until the agent's own report comes."""
        speech = [
            {**line, "end_offset_ms": self._now if line["end_offset_ms"] is None else line["end_offset_ms"]}
            for line in self._speech
        ]
        return {
            "simulation_result_id": self.simulation_result_id,
            "recorded_transcript": speech,
            "events": list(self._events),
        }


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, address: tuple[str, int], handler: type[BaseHTTPRequestHandler], live: LivePage) -> None:
        self.live = live
        super().__init__(address, handler)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing of a browser that left."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        live = cast("_Server", self.server).live
        host = (self.headers.get("Host") or "").rpartition(":")[0]
        rest = self.path.removeprefix(live.path)
        if host not in (HERE, "localhost") or rest == self.path:  # a foreign name that leads here is an attack
            self._answer(404, "text/plain", "not found")
        elif not rest:
            self._answer(200, "text/html", live.page())
        elif rest == "events":
            self._stream(live)
        else:
            self._answer_call(live.call(unquote(rest.removeprefix("calls/"))))

    def _answer_call(self, call: dict[str, Any] | None) -> None:
        if call is None:
            self._answer(404, "text/plain", "not found")
        else:
            self._answer(200, "application/json", json.dumps(call, default=str))

    def _answer(self, status: int, kind: str, text: str) -> None:
        body = text.encode("utf-8", "replace")
        self.send_response(status)
        for name, value in {**SAFE, "Content-Type": f"{kind}; charset=utf-8", "Content-Length": str(len(body))}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def _stream(self, live: LivePage) -> None:
        """Tell the browser of every change, until it or the page goes."""
        self.close_connection = True
        self.send_response(200)
        for name, value in {**SAFE, "Content-Type": "text/event-stream"}.items():
            self.send_header(name, value)
        self.end_headers()
        number = -1
        with contextlib.suppress(OSError):
            while live.is_open:
                if live.wait(number, BEAT_SECONDS):
                    listing = live.listing()
                    number = listing["number"]
                    self.wfile.write(f"event: calls\ndata: {json.dumps(listing, default=str)}\n\n".encode())
                elif live.is_open:
                    self.wfile.write(b": still here\n\n")

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the standard library's name
        """Say nothing: a terminal shows the call."""
