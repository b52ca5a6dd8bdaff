"""The table of `behaviours` for web frameworks: one set of handlers, in each framework's own words.

A handler has `Line`: what the framework gives to its handlers, under the same three names everywhere.
"""

# ruff: noqa: D103 - the table at the end gives each its sentence

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, NamedTuple

import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from tests.servers.asgi_server import uvicorn_server
from tests.servers.behaviours import BINARY, HEADERS, Notes, Wrap
from tests.servers.sanic_server import sanic_server


class Line(NamedTuple):
    """A handler's connection."""

    receive: Callable[[], Awaitable[Any]]
    send: Callable[[str | bytes], Awaitable[Any]]
    close: Callable[[int], Awaitable[Any]]


Side = Callable[[Any, Notes], Awaitable[Any]]
Served = Callable[[Line], Awaitable[Any]]


def noted(handler: Side, notes: Notes) -> Served:
    """Return the handler; it notes how it is left."""

    async def served(line: Line) -> Any:
        try:
            notes.append(("returned", await handler(line, notes)))
        except BaseException as error:
            notes.append(("raised", type(error).__name__, str(error), repr(error.__cause__), repr(error.__context__)))
            raise

    return served


# -- the frameworks ----------------------------------------------------------------------------------------------------


@contextlib.asynccontextmanager
async def litestar(served: Served, wrap: Wrap) -> AsyncIterator[str]:
    module: Any = pytest.importorskip("litestar")

    async def agent(socket: Any) -> None:
        await socket.accept()

        async def receive() -> Any:
            message = await socket.receive()
            return message.get("bytes") or message.get("text") or message

        async def send(message: str | bytes) -> None:
            await (socket.send_text if isinstance(message, str) else socket.send_bytes)(message)

        await served(Line(receive, send, lambda code: socket.close(code=code, reason="own")))

    agent.__annotations__ = {"socket": module.WebSocket, "return": None}
    app = module.Litestar([module.handlers.websocket("/")(wrap(agent))])
    async with uvicorn_server(app) as url:
        yield url


@contextlib.asynccontextmanager
async def quart(served: Served, wrap: Wrap) -> AsyncIterator[str]:
    module: Any = pytest.importorskip("quart")
    app: Any = module.Quart("agent")

    async def agent() -> None:
        await module.websocket.accept()
        one = module.websocket
        await served(Line(one.receive, one.send, lambda code: one.close(code, "own")))

    app.websocket("/")(wrap(agent))
    async with uvicorn_server(app) as url:
        yield url


@contextlib.asynccontextmanager
async def channels(served: Served, wrap: Wrap) -> AsyncIterator[str]:
    settings: Any = pytest.importorskip("django.conf").settings
    if not settings.configured:
        settings.configure()
    base: Any = pytest.importorskip("channels.generic.websocket").AsyncWebsocketConsumer
    routing = pytest.importorskip("channels.routing")

    @wrap
    class Agent(base):  # type: ignore[misc]
        async def connect(self) -> None:
            await self.accept()
            self.queue: asyncio.Queue[Any] = asyncio.Queue()
            line = Line(self.queue.get, self.answer, self.end)
            self.serving = asyncio.create_task(self.serve(line))

        async def serve(self, line: Line) -> None:
            with contextlib.suppress(Exception):  # a task's own
                await served(line)
            with contextlib.suppress(Exception):  # closed already
                await self.close()

        async def answer(self, message: str | bytes) -> None:
            text = isinstance(message, str)
            await (self.send(text_data=message) if text else self.send(bytes_data=message))

        async def end(self, code: int) -> None:
            await self.close(code, "own")

        async def receive(self, text_data: str | None = None, bytes_data: bytes | None = None) -> None:
            self.queue.put_nowait(text_data or bytes_data)

        async def disconnect(self, code: int) -> None:
            self.queue.put_nowait(("disconnected", code))
            await asyncio.gather(self.serving, return_exceptions=True)

    async with uvicorn_server(routing.ProtocolTypeRouter({"websocket": Agent.as_asgi()})) as url:
        yield url


def _sanic(served: Served, wrap: Wrap) -> Any:
    module: Any = pytest.importorskip("sanic")
    module.Sanic.test_mode = True
    module.Sanic._app_registry.clear()
    app: Any = module.Sanic("agent", configure_logging=False)
    for name in ("sanic.root", "sanic.error", "sanic.websockets"):
        logging.getLogger(name).setLevel(logging.CRITICAL + 1)

    async def agent(request: Any, websocket: Any) -> None:
        await served(Line(websocket.recv, websocket.send, lambda code: websocket.close(code, "own")))

    app.websocket("/")(wrap(agent))
    return app


@contextlib.asynccontextmanager
async def sanic(served: Served, wrap: Wrap) -> AsyncIterator[str]:
    async with sanic_server(_sanic(served, wrap)) as url:
        yield url


@contextlib.asynccontextmanager
async def sanic_asgi(served: Served, wrap: Wrap) -> AsyncIterator[str]:
    async with uvicorn_server(_sanic(served, wrap)) as url:
        yield url


FRAMEWORKS = {"litestar": litestar, "quart": quart, "channels": channels, "sanic": sanic, "sanic on ASGI": sanic_asgi}


async def run(framework: str, behaviour: str, wrap: Wrap) -> dict[str, Notes]:
    """Return everything that the handler and its peer saw of each other, bare or wrapped."""
    handler, client = BEHAVIOURS[behaviour]
    seen: dict[str, Notes] = {"handler": [], "caller": []}
    ended = asyncio.Event()

    async def until_ended(line: Line, notes: Notes) -> Any:
        try:
            return await handler(line, notes)
        finally:
            ended.set()

    async with FRAMEWORKS[framework](noted(until_ended, seen["handler"]), wrap) as url:
        async with connect(url, additional_headers=HEADERS) as websocket:
            with contextlib.suppress(ConnectionClosed):
                await client(websocket, seen["caller"])
        await ended.wait()
        seen["caller"].append((websocket.protocol.close_code, websocket.protocol.close_reason))
    return seen


# -- the table ---------------------------------------------------------------------------------------------------------


async def echo_four(line: Line, notes: Notes) -> str:
    for _ in range(4):
        message = await line.receive()
        notes.append(message)
        await line.send(message)
    return "done"


async def talk(websocket: ClientConnection, notes: Notes) -> None:
    for message in ("text", BINARY, '{"type": "speech.started"}', "{broken"):
        await websocket.send(message)
        notes.append(await websocket.recv() == message)
    await websocket.wait_closed()


async def breaks(line: Line, notes: Notes) -> None:
    await line.receive()
    msg = "broke"
    raise ValueError(msg) from KeyError("cause")


async def poke(websocket: ClientConnection, notes: Notes) -> None:
    await websocket.send("go")
    await collect(websocket, notes)


async def closes(line: Line, notes: Notes) -> None:
    await line.close(4444)


async def closes_twice(line: Line, notes: Notes) -> None:
    await line.close(4444)
    try:
        await line.close(4445)
    except Exception as error:
        notes.append((type(error).__name__, str(error)))


async def sends_after_its_close(line: Line, notes: Notes) -> None:
    await line.close(4444)
    try:
        await line.send(b"late")
    except Exception as error:
        notes.append((type(error).__name__, str(error)))


async def sends_nonsense(line: Line, notes: Notes) -> None:
    try:
        await line.send({"no": "message"})  # type: ignore[arg-type]
    except Exception as error:
        notes.append((type(error).__name__, str(error)))


async def returns(line: Line, notes: Notes) -> str:
    return "done"


async def waits(line: Line, notes: Notes) -> None:
    notes.append(await line.receive())


async def gives_up_and_waits(line: Line, notes: Notes) -> None:
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(line.receive(), 0.01)
    await line.send("given up")
    notes.append(await line.receive())


async def collect(websocket: ClientConnection, notes: Notes) -> None:
    async for message in websocket:
        notes.append(message)


async def hang_up(websocket: ClientConnection, notes: Notes) -> None:
    await websocket.close(4001, "bye")


async def hang_up_later(websocket: ClientConnection, notes: Notes) -> None:
    notes.append(await websocket.recv())
    await websocket.close(4001, "bye")


async def drop(websocket: ClientConnection, notes: Notes) -> None:
    websocket.transport.abort()
    await websocket.wait_closed()


BEHAVIOURS: dict[str, tuple[Side, Side]] = {
    "echo of text and audio": (echo_four, talk),
    "handler raises": (breaks, poke),
    "handler closes with its own code": (closes, collect),
    "handler closes twice": (closes_twice, collect),
    "handler sends after its close": (sends_after_its_close, collect),
    "handler sends what is no message": (sends_nonsense, collect),
    "handler returns at once": (returns, collect),
    "caller hangs up while the handler waits": (waits, hang_up),
    "caller drops while the handler waits": (waits, drop),
    "handler gives up a receive and waits again": (gives_up_and_waits, hang_up_later),
}
