"""What the fake platform answers to a request, or does instead, and which reports it takes in on the way."""

from __future__ import annotations

import json
import socket
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

from bluejay_ws.testing.faults import Answer, Close, Hang, Raw
from bluejay_ws.testing.http11 import answer_head, phrase
from bluejay_ws.testing.listener import finish, reset
from bluejay_ws.testing.schema import BodyRejectedError, read, unknown_fields

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable, Collection

    from bluejay_ws.testing.faults import Step
    from bluejay_ws.testing.http11 import Request, Stream
    from bluejay_ws.testing.oracle import AcceptedReport, Oracle
    from bluejay_ws.testing.schema import SimulationReport

UPDATE = "/v1/update-simulation-result"
RETRIEVE = "/v1/retrieve-simulation-result/"
RETRIEVE_RUN = "/v1/retrieve-simulation-results/"


@dataclass(slots=True)
class Judged:
    """Hold the platform's own answer to a request: a status and the object of its JSON body."""

    status: int
    payload: dict[str, Any]
    allow: str | None = None
    report: SimulationReport | None = None

    def spelled(self) -> tuple[int, bytes]:
        """Return the status and the bytes of the body; a 500 for what is nested too deep to be written again."""
        try:
            return self.status, json.dumps(self.payload).encode()
        except RecursionError:
            return 500, b'{"detail": "Internal Server Error"}'


class Router:
    """Judge requests, and take in the reports that are accepted.

    ``changed`` is held while the oracle is used, and notified of each acceptance.
    """

    def __init__(
        self,
        oracle: Oracle,
        changed: threading.Condition,
        *,
        api_key: str | None,
        known_ids: Collection[str] | None,
        on_report: Callable[[AcceptedReport], None] | None,
    ) -> None:
        self.api_key = api_key
        self.known_ids = known_ids
        self.errors: list[Exception] = []
        self._oracle = oracle
        self._changed = changed
        self._on_report = on_report

    def judge(self, request: Request, step: Step) -> Judged:
        """Return the platform's own answer; the report is taken in if it is sound and ``step`` lets it.

        What the schema has against the request's body is noted in its ``problems``.
        """
        judged = self._routed(request)
        accept = step.natural if isinstance(step, Answer) and step.accept is None else getattr(step, "accept", False)
        if judged.report is not None and accept:
            self._accept(judged.report, request.body)
        return judged

    def _routed(self, request: Request) -> Judged:
        path, is_read = request.path, request.path.startswith((RETRIEVE, RETRIEVE_RUN))
        if path != UPDATE and not is_read:
            return _refusal(404)
        method = "GET" if is_read else "POST"
        if request.method != method:
            return Judged(405, {"detail": phrase(405)}, allow=method)
        if not self._key_is_right(request):
            return Judged(401, {"detail": "Invalid API key"})
        if path.startswith(RETRIEVE_RUN):
            return self._read_run(unquote(path.removeprefix(RETRIEVE_RUN)))
        return self._read(unquote(path.removeprefix(RETRIEVE))) if is_read else self._update(request)

    def _key_is_right(self, request: Request) -> bool:
        keys = set(request.all("x-api-key"))
        return bool(keys - {""}) if self.api_key is None else keys == {self.api_key}

    def _read(self, simulation_result_id: str) -> Judged:
        if self._oracle.read_back.unreadable is not None:
            return _refusal(self._oracle.read_back.unreadable)
        if not self._knows(simulation_result_id):
            return _refusal(404, "Simulation result not found")
        with self._changed:
            return Judged(200, self._oracle.result(simulation_result_id))

    def _read_run(self, run_id: str) -> Judged:
        if self._oracle.read_back.unreadable is not None:
            return _refusal(self._oracle.read_back.unreadable)
        with self._changed:
            run = self._oracle.run(run_id)
        return _refusal(404, "Simulation run not found") if run is None else Judged(200, run)

    def _update(self, request: Request) -> Judged:
        try:
            report = read(request.body, request.header("content-type"))
        except BodyRejectedError as rejected:
            request.problems = rejected.problems
            return Judged(rejected.status, {"detail": rejected.detail})
        if not self._knows(report.simulation_result_id):
            return _refusal(404, "Simulation result not found")
        return Judged(200, {"status": "success", "message": None}, report=report)

    def _knows(self, simulation_result_id: str) -> bool:
        return self.known_ids is None or simulation_result_id in self.known_ids

    def _accept(self, report: SimulationReport, body: bytes) -> None:
        with self._changed:
            accepted = self._oracle.accept(report, body, unknown_fields(report))
            self._changed.notify_all()
        try:
            if self._on_report is not None:
                self._on_report(accepted)
        except Exception as error:  # noqa: BLE001 - kept for the test to see: the answer has to leave all the same
            self.errors.append(error)


def _refusal(status: int, words: str | None = None) -> Judged:
    return Judged(status, {"detail": words or phrase(status) or "unknown"})


def planned_body(answer: Answer, request: Request) -> bytes:
    """Return the body that goes with a planned status when the plan does not give one."""
    if answer.status in {204, 304}:
        return b""
    detail: object = phrase(answer.status) or "unknown"
    if answer.status == 422:  # as FastAPI does, with all that was sent
        sent = request.body.decode("utf-8", "replace")
        detail = [{"type": "missing", "loc": ["body", "events", 0, "title"], "msg": "Field required", "input": sent}]
    return json.dumps({"detail": detail}).encode()


def carry_out(stream: Stream, request: Request, step: Step, judged: Judged | None, closed: threading.Event) -> bool:
    """Answer, or do what the step says instead; return whether another exchange may follow.

    ``judged`` is the platform's own answer, for steps that leave it to the platform; ``closed`` ends every wait.
    """
    if isinstance(step, Answer):
        return _answer(stream, request, step, judged, closed)
    request.answer = repr(step) if not isinstance(step, Raw) else "raw bytes"
    if isinstance(step, Raw):
        stream.sock.sendall(step.data)
        finish(stream.sock)
        return False
    if isinstance(step, Close | Hang):
        head, body = _spelled(request, Answer(), judged)
        stream.sock.sendall(_beginning(step, head, body))
    return end_badly(stream.sock, step)


def end_badly(sock: socket.socket, step: Step) -> bool:
    """End the connection as a `Close` or `Hang` says; return False: nothing may follow.

    At ``tls`` the first bytes of the client's hello are awaited first.
    """
    if getattr(step, "at", None) == "tls":
        sock.recv(1, socket.MSG_PEEK)
    if isinstance(step, Hang):
        sock.settimeout(None)
        while sock.recv(65536):  # until the client gives up, or the platform is closed
            pass
    elif isinstance(step, Close) and step.reset:
        reset(sock)
    else:
        finish(sock)
    return False


def _answer(stream: Stream, request: Request, answer: Answer, judged: Judged | None, closed: threading.Event) -> bool:
    closed.wait(answer.delay)
    head, body = _spelled(request, answer, judged)
    if answer.drip:
        for byte in head + body:
            stream.sock.sendall(bytes([byte]))
            if closed.wait(answer.drip):
                return False
    else:
        stream.sock.sendall(head + body)
    return request.keep_alive and not answer.close


def _spelled(request: Request, answer: Answer, judged: Judged | None) -> tuple[bytes, bytes]:
    status, headers = answer.status, answer.pairs
    if answer.natural and judged is not None:
        status, body = judged.spelled()
        headers += [("Allow", judged.allow)] if judged.allow else []
    else:
        body = planned_body(answer, request) if answer.body is None else answer.body
    if any(name.lower() == "connection" and value.lower() == "close" for name, value in headers):
        request.keep_alive = False
    elif not request.keep_alive:
        headers.append(("Connection", "close"))
    request.answer = request.answer or status
    return answer_head(status, headers, len(body)), b"" if request.method == "HEAD" else body


def _beginning(step: Close | Hang, head: bytes, body: bytes) -> bytes:
    """Return as much of the answer as leaves before the step takes effect."""
    if step.at == "status_line":
        return head[:9]  # "HTTP/1.1 ", and no status
    return head + body[: len(body) // 2] if step.at == "answer_body" else b""
