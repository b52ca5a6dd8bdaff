"""`bluejay_ws.servers.sanic` without Sanic: its own server has the protocol object of ``websockets``, a real one here.

With Sanic itself: test_frameworks.py, where the extra `frameworks` is installed.
"""

from __future__ import annotations

import asyncio
import types
from typing import TYPE_CHECKING, Any

import pytest
from multidict import CIMultiDict
from websockets.client import ClientProtocol
from websockets.server import ServerProtocol
from websockets.uri import parse_uri

from bluejay_ws import record
from tests.servers.asgi_server import HEADERS, Peer, audio, hang_up, websocket_scope
from tests.support import report_of

if TYPE_CHECKING:
    from bluejay_ws import Bluejay
    from bluejay_ws.testing.platform import FakePlatform


class Request(types.SimpleNamespace):
    """What the adapter reads of a Sanic request."""


Request.__module__ = "sanic.request"


def own_server(protocol: ServerProtocol | None) -> Request:
    """Return a request to Sanic's own server; without a protocol it is plain HTTP."""
    websocket = None if protocol is None else types.SimpleNamespace(ws_proto=protocol)
    transport = types.SimpleNamespace(get_protocol=lambda: types.SimpleNamespace(websocket=websocket))
    return Request(transport=transport, headers=CIMultiDict(HEADERS), query_string="")


def connected() -> tuple[ClientProtocol, ServerProtocol]:
    """Return both ends of a connection after the handshake, without a socket."""
    client, server = ClientProtocol(parse_uri("ws://localhost/")), ServerProtocol()
    client.send_request(client.connect())
    server.receive_data(b"".join(client.data_to_send()))
    (request,) = server.events_received()
    server.send_response(server.accept(request))  # type: ignore[arg-type]
    client.receive_data(b"".join(server.data_to_send()))
    client.events_received()
    return client, server


def facts(platform: FakePlatform) -> dict[str, Any]:
    """Return what the closing event of the one report says."""
    found: dict[str, Any] = report_of(platform).events[-1]["metadata"]["bluejay_ws"]
    return found


def test_frames_and_the_close_are_seen_on_sanic_s_own_server(client: Bluejay, platform: FakePlatform) -> None:
    """A handler that is decorated twice is one call."""
    peer, protocol = connected()

    @record(client=client)
    @record(client=client)
    async def agent(request: Request) -> None:
        peer.send_binary(bytes(640))
        protocol.receive_data(b"".join(peer.data_to_send()))
        protocol.events_received()
        protocol.send_binary(bytes(320))
        peer.send_close(4001, "bye")
        protocol.receive_data(b"".join(peer.data_to_send()))
        protocol.receive_eof()

    asyncio.run(agent(own_server(protocol)))
    seen = facts(platform)
    assert (seen["server"], seen["user_frames"], seen["agent_frames"]) == ("sanic", 1, 1)
    assert (seen["outcome"], seen["closed_by"], seen["close_code"]) == ("completed", "caller", 4001)
    assert client.stats()["recorded"] == 1


def over_asgi(scope: dict[str, Any], peer: Peer) -> Request:
    """Return a request to Sanic on another server."""
    websocket = types.SimpleNamespace(_receive=peer.receive, _send=peer.send)
    return Request(transport=types.SimpleNamespace(scope=scope, get_websocket_connection=lambda: websocket))


def test_frames_and_the_close_are_seen_under_asgi(client: Bluejay, platform: FakePlatform) -> None:
    """At the two functions of its connection; a handler that is decorated twice is one call."""

    @record(client=client)
    @record(client=client)
    async def agent(request: Request) -> None:
        websocket = request.transport.get_websocket_connection()
        for _ in range(3):
            await websocket._receive()

    asyncio.run(agent(over_asgi(websocket_scope("720488"), Peer(audio(), hang_up(4001)))))
    seen = facts(platform)
    assert (seen["server"], seen["user_frames"], seen["close_code"]) == ("sanic", 1, 4001)
    assert client.stats()["recorded"] == 1


@pytest.mark.parametrize(
    "request_of",
    [
        lambda: own_server(None),
        lambda: over_asgi({**websocket_scope("720488"), "type": "http"}, Peer()),
        lambda: over_asgi(websocket_scope(), Peer()),
    ],
    ids=["HTTP", "HTTP under ASGI", "no header"],
)
def test_what_is_no_simulated_call_is_not_recorded(client: Bluejay, request_of: Any) -> None:
    """Plain requests, and production traffic."""

    @record(client=client)
    async def agent(request: Request) -> str:
        return "served"

    assert asyncio.run(agent(request_of())) == "served"
    assert client.stats()["recorded"] == 0
