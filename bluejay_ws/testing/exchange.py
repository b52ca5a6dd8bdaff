"""Carry out one step of a plan on one connection."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING

from bluejay_ws.testing.faults import Answer, Close, Hang, Raw
from bluejay_ws.testing.http11 import answer_head
from bluejay_ws.testing.listener import finish, reset
from bluejay_ws.testing.router import Judged, planned_body

if TYPE_CHECKING:
    import threading

    from bluejay_ws.testing.faults import Step
    from bluejay_ws.testing.http11 import Request, Stream


def carry_out(stream: Stream, request: Request, step: Step, judged: Judged | None, closed: threading.Event) -> bool:
    """Answer, or do what the step says instead; return whether another exchange may follow.

    Args:
        stream: the connection.
        request: gets its ``answer`` noted.
        step: what to do.
        judged: the platform's own answer, for steps that leave it to the platform.
        closed: set when the platform is closed: ends every wait.
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
