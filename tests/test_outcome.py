"""How a call ended, from what its connection and its handler did."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest
from websockets.exceptions import ConnectionClosedError, ConnectionClosedOK
from websockets.frames import Close

from bluejay_ws.outcome import Left, close_facts, left_by, outcome

AGENT, CALLER, NOBODY = "agent", "caller", "nobody"


@pytest.mark.parametrize(
    ("code", "by", "expected"),
    [
        (1000, AGENT, "completed"),
        (1000, CALLER, "completed"),
        (1001, CALLER, "completed"),
        (4001, CALLER, "completed"),
        (4444, AGENT, "completed"),
        (1005, "unknown", "completed"),
        (1006, NOBODY, "connection_lost"),
        (1006, AGENT, "connection_lost"),
        (1007, AGENT, "connection_lost"),
        (1009, AGENT, "connection_lost"),
        (1011, AGENT, "agent_error"),
        (1011, CALLER, "completed"),
        (1001, AGENT, "server_shutdown"),
        (1012, AGENT, "server_shutdown"),
        (None, "process_exit", "server_shutdown"),
        (None, AGENT, "completed"),
        (None, "unknown", "completed"),
    ],
)
def test_the_connection_says_how_a_call_ended(code: int | None, by: str, expected: str) -> None:
    """Wherever the handler returned, or was cancelled because of it."""
    facts = {"closed_by": by} if code is None else {"close_code": code, "closed_by": by}
    assert outcome(facts, None) == {"outcome": expected}
    if expected in {"connection_lost", "server_shutdown"}:
        assert outcome(facts, left_by(asyncio.CancelledError())) == {"outcome": expected}


def test_a_failure_of_the_handler_counts_more_than_its_connection() -> None:
    """A caller that drops afterwards does not hide the agent's error."""
    facts = {"close_code": 1006, "closed_by": NOBODY}
    assert outcome(facts, left_by(KeyError("secret"))) == {"outcome": "agent_error", "error": "KeyError"}


def test_a_cancelled_handler_is_no_failure_of_the_agent_s() -> None:
    """Its server closes with 1011 for it."""
    facts = {"close_code": 1011, "closed_by": AGENT}
    assert outcome(facts, left_by(asyncio.CancelledError())) == {"outcome": "handler_cancelled"}


def error(name: str, base: type[BaseException] = Exception, **attributes: Any) -> BaseException:
    """Return an exception of a framework that need not be installed."""
    made: BaseException = type(name, (base,), attributes)("quotes the caller")
    return made


CLOSED = close_facts(4001, "bye", CALLER)
LOST = {"close_code": 1006, "closed_by": NOBODY}
RECEIVED, SENT = Close(4001, "bye"), Close(1000, "")


@pytest.mark.parametrize(
    ("left", "expected", "facts"),
    [
        (ConnectionClosedOK(Close(1000, ""), SENT, rcvd_then_sent=True), "completed", close_facts(1000, "", CALLER)),
        (ConnectionClosedError(RECEIVED, RECEIVED, rcvd_then_sent=True), "completed", CLOSED),
        (ConnectionClosedError(RECEIVED, SENT, rcvd_then_sent=False), "completed", close_facts(1000, "", AGENT)),
        (ConnectionClosedError(None, None), "connection_lost", LOST),
        (ConnectionClosedError(None, Close(1011, "")), "connection_lost", LOST),
        (error("WebSocketDisconnect", code=4001, reason="bye"), "completed", CLOSED),  # Starlette
        (error("WebSocketDisconnect", code=1006, reason=None), "connection_lost", LOST),
        (error("WebSocketDisconnect", code=1005), "connection_lost", LOST),
        (error("WebSocketDisconnect", code=True), "completed", {}),
        (error("ConnectionClosed", reason=4001, message="bye"), "completed", CLOSED),  # simple-websocket
        (error("ConnectionClosed", reason=1006, message=""), "connection_lost", LOST),
        (error("ConnectionClosed", reason=SimpleNamespace(code=4001, reason="bye")), "completed", CLOSED),  # trio
        (error("WebsocketClosed"), "completed", {}),  # Sanic
        (error("WebSocketClosedError"), "completed", {}),  # Tornado
        (error("StopConsumer"), "completed", {}),  # Channels
        (error("WSMessageTypeError", TypeError), "completed", {}),  # aiohttp
        (error("ClientConnectionResetError", ConnectionResetError), "connection_lost", {}),  # aiohttp
        (error("ClientDisconnected", OSError), "connection_lost", {}),  # uvicorn
        (error("Cancelled", BaseException), "handler_cancelled", {}),  # trio
        (asyncio.CancelledError(), "handler_cancelled", {}),
        (KeyboardInterrupt(), "server_shutdown", {}),
        (error("OSError2", OSError), "agent_error", {}),
        (ValueError(), "agent_error", {}),
    ],
    ids=repr,
)
def test_a_server_s_own_way_to_end_a_handler_is_no_failure(
    left: BaseException, expected: str, facts: dict[str, Any]
) -> None:
    """Also where nobody observes the connection: what the exception says of the close is in the report."""
    found = left_by(left)
    assert (outcome(found.facts, found)["outcome"], found.facts) == (expected, facts)


def test_of_a_group_of_errors_the_failure_counts() -> None:
    """Task groups raise groups, also where nothing but the end of the connection is in them."""
    gone = error("WebSocketDisconnect", code=4001, reason="bye")
    assert left_by(BaseExceptionGroup("", [asyncio.CancelledError(), gone])).facts == CLOSED
    assert left_by(BaseExceptionGroup("", [gone, ExceptionGroup("", [KeyError()])])).error == "KeyError"


@pytest.mark.parametrize(("before", "after"), [("connection_lost", "agent_error"), ("handler_cancelled",) * 2])
def test_while_the_connection_is_open_only_a_cancelled_handler_did_not_fail(before: str, after: str) -> None:
    """The lost connection is another one, such as that to a provider."""
    left = Left(before, "Error", {"close_code": 1006})
    assert left.while_open().outcome == after


def test_facts_of_a_close_are_json() -> None:
    """Servers have numbers of their own types, reasons in bytes, or none."""
    assert close_facts(None, None, CALLER) == {"close_code": 1005, "close_reason": "", "closed_by": CALLER}
    assert close_facts(1000, b"bye \xff", AGENT)["close_reason"] == "bye \ufffd"
