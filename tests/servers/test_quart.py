"""`bluejay_ws.servers.quart` without Quart: its two tasks for a connection, as Quart 0.22 has them.

With Quart itself: test_frameworks.py, where the extra `frameworks` is installed.
"""

from __future__ import annotations

import asyncio
import functools
import logging
import sys
import types
from typing import TYPE_CHECKING, Any

import pytest

from bluejay_ws import current_recorder, record
from tests.servers.asgi_server import Peer, audio, hang_up, text, websocket_scope
from tests.support import report_of

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from bluejay_ws import Bluejay
    from bluejay_ws.testing.platform import FakePlatform


class Websocket(types.SimpleNamespace):
    """What stands behind ``quart.websocket``."""


Websocket.__module__ = "quart.wrappers.websocket"


class Serving:
    """Quart's side of one connection: one task reads it, one runs the handler, and the first to end ends the other."""

    def __init__(self, peer: Peer, scope: dict[str, Any]) -> None:
        self.peer = peer
        self.queue: asyncio.Queue[Any] = asyncio.Queue()
        self._accepted = False
        self.websocket = Websocket(
            scope=scope,
            _receive=self.queue.get,
            _send=functools.partial(self.send_data, peer.send),
            _accept=functools.partial(self.accept_connection, peer.send),
            _close=functools.partial(self.close_connection, peer.send),
        )

    async def handle_messages(self, receive: Callable[[], Awaitable[Any]]) -> None:
        """Read until the caller leaves."""
        while True:
            event = await receive()
            if event["type"] == "websocket.receive":
                await self.queue.put(event.get("bytes") or event["text"])
            elif event["type"] == "websocket.disconnect":
                return

    async def send_data(self, send: Any, data: Any) -> None:
        await send({"type": "websocket.send", "data": data})

    async def accept_connection(self, send: Any, headers: Any, subprotocol: Any) -> None:
        self._accepted = True

    async def close_connection(self, send: Any, code: int, reason: str) -> None:
        await send({"type": "websocket.close", "code": code, "reason": reason})

    async def run(self, agent: Callable[[], Awaitable[Any]]) -> None:
        """Serve the connection to its end."""
        tasks = [asyncio.ensure_future(self.handle_messages(self.peer.receive)), asyncio.ensure_future(agent())]
        _, pending = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in pending:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for _ in range(3):  # for what waits for the loop's next round
            await asyncio.sleep(0)


class Patient(Peer):
    """A caller that sends its last message only when it is asked to."""

    def __init__(self, *messages: dict[str, Any]) -> None:
        super().__init__(*messages)
        self.leave = asyncio.Event()

    async def receive(self) -> Any:
        """Hold the last message back."""
        if len(self.messages) <= 1:
            await self.leave.wait()
        return await super().receive()


def serve(
    monkeypatch: pytest.MonkeyPatch,
    client: Bluejay,
    handler: Callable[[Websocket, Patient], Awaitable[Any]],
    *messages: dict[str, Any],
    scope: dict[str, Any] | None = None,
    break_it: Callable[[Serving], None] = lambda _: None,
) -> Serving:
    """Serve one connection by a recorded handler, decorated twice, and return it."""

    async def main() -> Serving:
        peer = Patient(*messages)
        serving = Serving(peer, scope or websocket_scope("720488"))
        break_it(serving)
        proxy = types.SimpleNamespace(_get_current_object=lambda: serving.websocket)
        monkeypatch.setitem(sys.modules, "quart", types.SimpleNamespace(websocket=proxy))

        @record(client=client)
        @record(client=client)
        async def agent() -> None:
            await handler(serving.websocket, peer)

        await serving.run(agent)
        return serving

    return asyncio.run(main())


def facts(platform: FakePlatform) -> dict[str, Any]:
    """Return what the closing event of the one report says."""
    found: dict[str, Any] = report_of(platform).events[-1]["metadata"]["bluejay_ws"]
    return found


async def converse(websocket: Websocket, peer: Patient) -> None:
    """Take audio and a text, answer each, and wait until the caller leaves."""
    for _ in range(2):
        await websocket._accept(None, None)
        message = await websocket._receive()
        await websocket._send(message)
    current_recorder().add_tool_call("answer")
    peer.leave.set()
    await websocket._receive()


@pytest.mark.parametrize(
    ("left", "expected"),
    [
        (hang_up(4001, "bye"), ("completed", "caller", 4001)),
        ({"type": "websocket.disconnect", "code": 1006}, ("connection_lost", "nobody", 1006)),
    ],
)
def test_frames_and_how_the_caller_left_are_seen(
    left: Any, expected: Any, client: Bluejay, platform: FakePlatform, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One call, one report; the websocket has its own functions again."""
    serving = serve(monkeypatch, client, converse, audio(), text("hello"), left)
    seen = facts(platform)
    assert (seen["server"], seen["user_frames"], seen["agent_frames"], seen["text_frames"]) == ("quart", 1, 1, 2)
    assert (seen["outcome"], seen["closed_by"], seen["close_code"]) == expected
    assert client.stats()["recorded"] == 1
    assert serving.websocket._receive == serving.queue.get


async def close(websocket: Websocket, peer: Patient) -> None:
    """Close with a code of the agent's own."""
    await websocket._accept(None, None)
    await websocket._close(4444, "own")


def test_the_agents_own_close_is_seen(client: Bluejay, platform: FakePlatform, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its code is in the report."""
    serve(monkeypatch, client, close, hang_up())
    assert (facts(platform)["closed_by"], facts(platform)["close_code"]) == ("agent", 4444)


async def send(websocket: Websocket, peer: Patient) -> None:
    """Send to nobody."""
    await websocket._accept(None, None)
    await websocket._send(b"")


def test_a_send_to_nobody_is_a_lost_connection(
    client: Bluejay, platform: FakePlatform, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The handler gets the server's own error."""

    async def fail(message: Any) -> None:
        raise ConnectionResetError

    def break_it(serving: Serving) -> None:
        serving.websocket._send = functools.partial(serving.send_data, fail)

    serve(monkeypatch, client, send, hang_up(), break_it=break_it)
    assert facts(platform)["outcome"] == "connection_lost"


@pytest.mark.parametrize("how", ["a connection of another kind", "no asyncio"])
def test_where_nobody_knows_how_the_caller_left_the_cancelled_handler_is_the_end(
    how: str, client: Bluejay, platform: FakePlatform, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A connection class of the user's own, and Quart on trio: nothing is invented, and nothing fails."""
    if how == "no asyncio":
        monkeypatch.setattr("bluejay_ws.servers.quart.current_task", lambda: None)
        monkeypatch.setattr("bluejay_ws.call.GRACE", 0)  # the loop of this test ends soon

    def break_it(serving: Serving) -> None:
        if how != "no asyncio":
            serving.websocket._send = serving.peer.send

    serve(monkeypatch, client, converse, audio(), text("hello"), hang_up(), break_it=break_it)
    seen = facts(platform)
    assert (seen["outcome"], seen["user_frames"]) == ("handler_cancelled", 1)


def test_a_connection_without_an_id_is_no_simulation(client: Bluejay, monkeypatch: pytest.MonkeyPatch) -> None:
    """Production traffic: the websocket stays as it is."""
    serving = serve(monkeypatch, client, close, hang_up(), scope=websocket_scope())
    assert client.stats()["recorded"] == 0
    assert isinstance(serving.websocket._close, functools.partial)


def test_another_connection_in_the_arguments_comes_first(
    client: Bluejay, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A Quart connection that is current is never taken for one that the handler was given."""

    async def inner(websocket: Websocket, peer: Patient) -> None:
        other = types.SimpleNamespace(headers={"X-Simulation-Result-Id": "other"})
        with caplog.at_level(logging.ERROR, "bluejay_ws"):
            await record(serve_other, client=client)(other)

    async def serve_other(connection: Any) -> None:
        assert current_recorder().simulation_result_id is None

    serve(monkeypatch, client, inner, hang_up(), scope=websocket_scope())
    assert client.stats()["dropped.unknown_server"] == 1
    assert client.stats()["recorded"] == 0
