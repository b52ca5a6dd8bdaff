"""How a call ended: from what its connection and its handler did, to the report's `outcome`. Pure.

======================  ============================================================================================
``completed``           closed properly by either side; the caller was heard to the end
``connection_lost``     the connection broke: no close frame, or one that says so
``agent_error``         the handler raised, or the agent closed with 1011
``server_shutdown``     the agent's server went away (1001 or 1012 from its side), or its client or process ended
``handler_cancelled``   the handler was cancelled, and nothing says why
======================  ============================================================================================
"""

from __future__ import annotations

from typing import Any, NamedTuple

ABNORMAL, GOING_AWAY, BROKEN, RESTART = 1006, 1001, 1011, 1012

_BAD_FRAMES = frozenset({1002, 1007, 1009})  # the agent's server cannot go on with what the caller sent
_FAILED = "agent_error"
# How servers and frameworks say, in their handlers, that the caller is gone; by name, since none of them is imported.
_ENDS = {
    "CancelledError": "handler_cancelled",
    "Cancelled": "handler_cancelled",  # trio
    "GeneratorExit": "handler_cancelled",
    "KeyboardInterrupt": "server_shutdown",
    "SystemExit": "server_shutdown",
    "ConnectionClosedOK": "completed",  # websockets
    "ConnectionClosed": "completed",  # simple-websocket (Flask-Sock), trio-websocket
    "WebSocketDisconnect": "completed",  # Starlette, Litestar, Robyn
    "WebsocketClosed": "completed",  # Sanic
    "WebSocketClosedError": "completed",  # Tornado
    "WSMessageTypeError": "completed",  # aiohttp's receive_str and others, where the caller's close comes
    "StopConsumer": "completed",  # Channels
    "ConnectionClosedError": "connection_lost",  # websockets
    "ClientDisconnected": "connection_lost",  # uvicorn
    "StreamClosedError": "connection_lost",  # Tornado
    "ProtocolClosed": "connection_lost",  # Granian
    "ConnectionResetError": "connection_lost",
    "ConnectionAbortedError": "connection_lost",
    "BrokenPipeError": "connection_lost",
}
_CANCELLED = frozenset({"handler_cancelled", "server_shutdown"})


class Left(NamedTuple):
    """How a handler was left by an exception.

    Attributes:
        outcome: what the exception alone says.
        error: its type's name.
        facts: how the connection ended, as far as the exception says; empty if it does not.
    """

    outcome: str
    error: str
    facts: dict[str, Any]

    @property
    def failed(self) -> bool:
        """Whether it was a failure of the handler's own."""
        return self.outcome == _FAILED

    @property
    def cancelled(self) -> bool:
        """Whether it came from outside: a cancellation or the end of the process."""
        return self.outcome in _CANCELLED

    def while_open(self) -> Left:
        """Return what it says if the connection was open: a lost connection was then another one (a provider's)."""
        return self if self.cancelled else self._replace(outcome=_FAILED, facts={})


def left_by(error: BaseException) -> Left:
    """Return how a handler was left by ``error``; of a group, by the worst in it."""
    if isinstance(error, BaseExceptionGroup):
        parts = [left_by(part) for part in error.exceptions]
        return min(parts, key=lambda part: (not part.failed, part.cancelled))
    names = [kind.__name__ for kind in type(error).__mro__]
    known = next((_ENDS[name] for name in names if name in _ENDS), _FAILED)
    facts = {} if known == _FAILED or known in _CANCELLED else _facts_of(error)
    return Left(_of_connection(facts) or known, names[0], facts)


def outcome(facts: dict[str, Any], left: Left | None) -> dict[str, Any]:
    """Return the report's ``outcome``, and ``error`` where the handler failed.

    Args:
        facts: how the connection ended: ``close_code`` and ``closed_by``, as far as they are known.
        left: how the handler was left; None if it returned, or still runs.
    """
    if left is not None and left.failed:
        return {"outcome": _FAILED, "error": left.error}
    said = "completed" if left is None else left.outcome
    seen = _of_connection(facts)
    if seen == _FAILED and left is not None and left.cancelled:
        seen = None  # the server closes with 1011 for a handler that was cancelled
    return {"outcome": seen or said}


def close_facts(code: int | None, reason: str | bytes | None, by: str) -> dict[str, Any]:
    """Return the facts of one close; without a code the one that means "none was given"."""
    text = reason.decode("utf-8", "replace") if isinstance(reason, bytes) else reason
    return {"close_code": int(code or 1005), "close_reason": text or "", "closed_by": by}


def _of_connection(facts: dict[str, Any]) -> str | None:
    """Return what the connection's end says; None where it does not say."""
    code, by = facts.get("close_code"), facts.get("closed_by")
    if code == ABNORMAL or by == "nobody" or (by == "agent" and code in _BAD_FRAMES):
        return "connection_lost"
    if by == "process_exit" or (by == "agent" and code in {GOING_AWAY, RESTART}):
        return "server_shutdown"
    if by == "agent" and code == BROKEN:
        return _FAILED
    return None if code is None else "completed"


def _facts_of(error: Any) -> dict[str, Any]:
    """Return what a server's exception says of the close: `websockets` has both sides, others one code."""
    if hasattr(error, "rcvd_then_sent"):
        first: Any = error.rcvd if error.rcvd_then_sent else error.sent
        lost = error.rcvd is None
        by = "caller" if error.rcvd_then_sent else "agent"
        return {"close_code": ABNORMAL, "closed_by": "nobody"} if lost else close_facts(first.code, first.reason, by)
    code, reason = getattr(error, "code", None), getattr(error, "reason", None)
    if code is None:  # simple-websocket has the code there, trio-websocket an object with both
        code, reason = getattr(reason, "code", reason), getattr(reason, "reason", getattr(error, "message", None))
    if not isinstance(code, int) or isinstance(code, bool):
        return {}
    if code in {1005, ABNORMAL}:
        return {"close_code": ABNORMAL, "closed_by": "nobody"}
    return close_facts(code, reason if isinstance(reason, str) else None, "caller")
