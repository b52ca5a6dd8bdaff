"""A call's id under names of one's own, and a second id on the same connection: on real servers."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
from typing import TYPE_CHECKING, Any

import pytest
from aiohttp import web
from starlette.applications import Starlette
from starlette.routing import WebSocketRoute
from websockets.asyncio.client import connect
from websockets.asyncio.server import serve

from bluejay_ws import Bluejay, current_recorder, record
from bluejay_ws.servers.aiohttp import setup
from bluejay_ws.servers.asgi import BluejayMiddleware
from bluejay_ws.wire.ids import begins_stream
from tests.servers.asgi_server import uvicorn_server
from tests.support import DIRECTLY

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator
    from pathlib import Path

    from starlette.websockets import WebSocket

    from bluejay_ws.wire.ids import IdSource

ANY: tuple[IdSource, ...] = ("header", "query", "message")
START = {"event": "start", "streamSid": "MZ1", "start": {"customParameters": {"sim_id": "720488"}}}


@pytest.fixture
def client(tmp_path: Path) -> Iterator[Bluejay]:
    """Give a client that delivers to nobody."""
    with contextlib.closing(Bluejay("key", base_url="http://127.0.0.1:1", spool=tmp_path, flush_timeout=0.0)) as made:
        yield made


async def echo_id(websocket: Any) -> None:
    """Answer each message with the call's id."""
    async for _ in websocket:
        await websocket.send(str(current_recorder().simulation_result_id))


@contextlib.asynccontextmanager
async def on_websockets(client: Bluejay) -> AsyncIterator[str]:
    """Serve with the decorator on `websockets`."""
    recorded = record(echo_id, client=client, id_from=ANY, id_names=("sim_id",))
    async with serve(recorded, "127.0.0.1", 0) as server:
        yield f"ws://127.0.0.1:{next(iter(server.sockets)).getsockname()[1]}"


@contextlib.asynccontextmanager
async def on_asgi(client: Bluejay) -> AsyncIterator[str]:
    """Serve behind the ASGI middleware."""

    async def endpoint(websocket: WebSocket) -> None:
        await websocket.accept()
        async for _ in websocket.iter_text():
            await websocket.send_text(str(current_recorder().simulation_result_id))

    app = Starlette(routes=[WebSocketRoute("/", endpoint)])
    async with uvicorn_server(BluejayMiddleware(app, client, id_from=ANY, id_names=("sim_id",))) as url:
        yield url


@contextlib.asynccontextmanager
async def on_aiohttp(client: Bluejay) -> AsyncIterator[str]:
    """Serve with aiohttp's middleware."""

    async def handler(request: web.Request) -> web.WebSocketResponse:
        websocket = web.WebSocketResponse()
        await websocket.prepare(request)
        async for _ in websocket:
            await websocket.send_str(str(current_recorder().simulation_result_id))
        return websocket

    app = web.Application()
    app.router.add_get("/", handler)
    setup(app, client, id_from=ANY, id_names=("sim_id",))
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.2)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        yield f"ws://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


def ids(
    serving: Any, client: Bluejay, *messages: Any, query: str = "", headers: dict[str, str] | None = None
) -> list[str]:
    """Return the id that the handler had after each message."""

    async def main() -> list[str]:
        async with (
            serving(client) as url,
            connect(f"{url}/{query}", additional_headers=headers or {}, **DIRECTLY) as websocket,
        ):
            answers = []
            for message in messages:
                await websocket.send(json.dumps(message))
                answers.append(str(await websocket.recv()))
            return answers

    return asyncio.run(main())


@pytest.mark.parametrize("serving", [on_websockets, on_asgi, on_aiohttp])
def test_a_name_of_one_s_own_is_found_in_each_place(serving: Any, client: Bluejay) -> None:
    """In a header, also as a header is spelt; in the query; in a carrier's first message. The platform's goes first."""
    assert ids(serving, client, {}, headers={"sim_id": "1"}) == ["1"]
    assert ids(serving, client, {}, headers={"Sim-Id": "2"}) == ["2"]
    assert ids(serving, client, {}, query="?sim_id=3") == ["3"]
    assert ids(serving, client, {}, START) == ["None", "720488"]
    assert ids(serving, client, {}, headers={"Sim-Id": "4", "X-Simulation-Result-Id": "5"}) == ["5"]


@pytest.mark.parametrize("serving", [on_websockets, on_asgi, on_aiohttp])
@pytest.mark.parametrize("known_by", ["header", "message"])
def test_a_second_start_with_another_id_is_refused_and_told_once(
    serving: Any, known_by: str, client: Bluejay, caplog: pytest.LogCaptureFixture
) -> None:
    """The first id stays, however it came; each further stream is counted, and one warning names both ids."""
    headers = {"X-Simulation-Result-Id": "720488"} if known_by == "header" else {}
    others = [{"event": "start", "start": {"customParameters": {"sim_id": other}}} for other in ("908001", "908002")]
    with caplog.at_level(logging.WARNING, "bluejay_ws"):
        seen = ids(serving, client, START, START, *others, {"event": "media", "sim_id": "7"}, headers=headers)
    assert seen == ["720488"] * 5
    assert client.stats()["dropped.second_id"] == 2
    (told,) = [one.getMessage() for one in caplog.records if "another stream" in one.getMessage()]
    assert "908001" in told
    assert "720488" in told


def test_a_connection_without_an_id_is_looked_at_no_more_after_eight_messages(client: Bluejay) -> None:
    """It is no simulation: a late `start` changes nothing, and is no second call either."""
    assert ids(on_websockets, client, *[{}] * 8, START)[-1] == "None"
    counts = client.stats()
    assert counts["dropped.never_bound"] == 1
    assert not counts.get("dropped.second_id")


@pytest.mark.parametrize(
    "kind", [str, str.encode, lambda text: bytearray(text.encode()), lambda text: memoryview(text.encode())]
)
def test_what_begins_a_stream_is_told_from_what_does_not(kind: Any) -> None:
    """Cheaply, in every form in which a server has its text."""
    for word in ("start", "setup", "open", "websocket:connected"):
        assert begins_stream(kind(json.dumps({"event": word})))
    assert not begins_stream(kind(json.dumps({"event": "media", "media": {"payload": "start" * 900}})))
