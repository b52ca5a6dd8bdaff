"""Frameworks of others, real ones: the same call of three messages, decorated or behind the middleware.

They come with the extra `frameworks`; what is not installed is skipped.
"""

from __future__ import annotations

import contextlib
import logging
from typing import TYPE_CHECKING, Any

import pytest
from websockets.asyncio.client import connect

from bluejay_ws import current_recorder, record
from bluejay_ws.servers.asgi import BluejayMiddleware
from tests.servers import behaviours_web
from tests.servers.asgi_server import HEADERS, uvicorn_server
from tests.servers.sanic_server import sanic_server
from tests.support import report_of

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from bluejay_ws import Bluejay
    from bluejay_ws.testing.platform import FakePlatform

AUDIO = bytes(640)

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> str:
    """Uvicorn and Sanic run on asyncio."""
    return "asyncio"


async def converse(url: str, *, drop: bool = False, headers: dict[str, str] | None = None) -> list[str | bytes]:
    """Send audio and a text, and take an answer to each; hang up with 4001, or drop the line."""
    async with connect(url, additional_headers=HEADERS if headers is None else headers) as websocket:
        heard = []
        for message in (AUDIO, "hello"):
            await websocket.send(message)
            heard.append(await websocket.recv())
        if drop:
            websocket.transport.abort()
        else:
            await websocket.close(4001, "bye")
    return heard


# -- the frameworks: each takes a wrapper for its handler, and one for the whole application --------------------------


def _same(thing: Any) -> Any:
    return thing


@contextlib.asynccontextmanager
async def litestar(handler: Callable[[Any], Any], app: Callable[[Any], Any]) -> AsyncIterator[str]:
    """A handler that is given its websocket object."""
    module = pytest.importorskip("litestar")

    async def agent(socket: Any) -> None:
        current_recorder().add_tool_call("answer")
        await socket.accept()
        while True:
            message = await socket.receive()
            if message["type"] == "websocket.disconnect":
                return
            await socket.send({"type": "websocket.send", "bytes": message.get("bytes"), "text": message.get("text")})

    agent.__annotations__ = {"socket": module.WebSocket, "return": None}
    route = module.handlers.websocket("/")(handler(agent))
    async with uvicorn_server(app(module.Litestar([route]))) as url:
        yield url


@contextlib.asynccontextmanager
async def quart(handler: Callable[[Any], Any], app: Callable[[Any], Any]) -> AsyncIterator[str]:
    """A handler whose websocket is in its context."""
    module: Any = pytest.importorskip("quart")
    made: Any = module.Quart("agent")

    async def agent() -> None:
        current_recorder().add_tool_call("answer")
        while True:
            await module.websocket.send(await module.websocket.receive())

    made.websocket("/")(handler(agent))
    made.asgi_app = app(made.asgi_app)
    async with uvicorn_server(made) as url:
        yield url


@contextlib.asynccontextmanager
async def channels(handler: Callable[[Any], Any], app: Callable[[Any], Any]) -> AsyncIterator[str]:
    """A consumer, which is a class."""
    settings = pytest.importorskip("django.conf").settings
    if not settings.configured:
        settings.configure()
    generic = pytest.importorskip("channels.generic.websocket")
    routing = pytest.importorskip("channels.routing")
    base: Any = generic.AsyncWebsocketConsumer

    @handler
    class Agent(base):  # type: ignore[misc]
        async def connect(self) -> None:
            current_recorder().add_tool_call("answer")
            await super().connect()

        async def receive(self, text_data: str | None = None, bytes_data: bytes | None = None) -> None:
            await self.send(text_data=text_data, bytes_data=bytes_data)

    async with uvicorn_server(app(routing.ProtocolTypeRouter({"websocket": Agent.as_asgi()}))) as url:
        yield url


def _sanic(handler: Callable[[Any], Any]) -> Any:
    module: Any = pytest.importorskip("sanic")
    module.Sanic.test_mode = True
    module.Sanic._app_registry.clear()
    made: Any = module.Sanic("agent", configure_logging=False)
    logging.getLogger("sanic.root").setLevel(logging.CRITICAL)

    async def agent(request: Any, websocket: Any) -> None:
        current_recorder().add_tool_call("answer")
        while (message := await websocket.recv()) is not None:
            await websocket.send(message)

    made.websocket("/")(handler(agent))
    return made


@contextlib.asynccontextmanager
async def sanic(handler: Callable[[Any], Any], app: Callable[[Any], Any]) -> AsyncIterator[str]:
    """A handler on Sanic's own server."""
    async with sanic_server(_sanic(handler)) as url:
        yield url


@contextlib.asynccontextmanager
async def sanic_asgi(handler: Callable[[Any], Any], app: Callable[[Any], Any]) -> AsyncIterator[str]:
    """The same on another server."""
    async with uvicorn_server(app(_sanic(handler))) as url:
        yield url


SERVERS = {"litestar": litestar, "quart": quart, "channels": channels, "sanic": sanic, "sanic on ASGI": sanic_asgi}
DECORATED = ("litestar", "quart", "channels", "sanic", "sanic on ASGI")
BEHIND_MIDDLEWARE = ("litestar", "quart", "channels", "sanic on ASGI")
WAYS = [(name, "record") for name in DECORATED] + [(name, "middleware") for name in BEHIND_MIDDLEWARE]


@contextlib.asynccontextmanager
async def serving(name: str, way: str, client: Bluejay) -> AsyncIterator[str]:
    """Serve an echo in a framework, recorded in one of the two ways, or not at all; give its URL."""
    handler = record(client=client) if way == "record" else _same
    app = (lambda app: BluejayMiddleware(app, client)) if way == "middleware" else _same
    async with SERVERS[name](handler, app) as url:
        yield url


@pytest.mark.parametrize(("name", "way"), WAYS)
async def test_a_call_to_another_framework_ends_in_a_report(
    name: str, way: str, client: Bluejay, platform: FakePlatform
) -> None:
    """The handler's recorder is the current one, frames are seen, and the caller's own close is in the report."""
    async with serving(name, way, client) as url:
        assert await converse(url) == [AUDIO, "hello"]
        await platform.await_for(1)
    report = report_of(platform)
    assert [call["name"] for call in report.tool_calls] == ["answer"]
    seen = report.events[-1]["metadata"]["bluejay_ws"]
    assert (seen["user_frames"], seen["agent_frames"], seen["text_frames"]) == (1, 1, 2)
    assert (seen["outcome"], seen["closed_by"], seen["close_code"]) == ("completed", "caller", 4001)


@pytest.mark.parametrize(("name", "way"), WAYS)
async def test_a_caller_that_drops_another_framework_is_noticed(
    name: str, way: str, client: Bluejay, platform: FakePlatform
) -> None:
    """A lost connection is no proper end."""
    async with serving(name, way, client) as url:
        await converse(url, drop=True)
        await platform.await_for(1)
    seen = report_of(platform).events[-1]["metadata"]["bluejay_ws"]
    assert (seen["outcome"], seen["closed_by"], seen["close_code"]) == ("connection_lost", "nobody", 1006)


@pytest.mark.parametrize(("name", "way"), WAYS)
async def test_a_call_without_an_id_to_another_framework_is_no_simulation(
    name: str, way: str, client: Bluejay, platform: FakePlatform
) -> None:
    """Production traffic."""
    async with serving(name, way, client) as url:
        assert await converse(url, headers={}) == [AUDIO, "hello"]
    assert client.stats()["recorded"] == 0


@pytest.mark.parametrize("behaviour", behaviours_web.BEHAVIOURS)
@pytest.mark.parametrize("framework", behaviours_web.FRAMEWORKS)
async def test_nobody_can_tell_a_recorded_call_to_a_framework_from_a_bare_one(
    framework: str, behaviour: str, client: Bluejay, platform: FakePlatform, caplog: pytest.LogCaptureFixture
) -> None:
    """Handler and caller see the same of each other with the decorator and without it."""
    caplog.set_level(logging.CRITICAL + 1)  # frameworks log what their handlers raise
    bare = await behaviours_web.run(framework, behaviour, _same)
    assert await behaviours_web.run(framework, behaviour, record(client=client)) == bare
    await platform.await_for(1)
    assert client.stats()["recorded"] == 1
    assert not [name for name in client.stats() if name.startswith("internal")]
