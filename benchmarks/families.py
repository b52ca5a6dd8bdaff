"""Each server family, wrapped against bare: CPU added to a frame, and connections a second.

Servers run in this process and are fed from memory, as their event loop would feed them: no socket, no peer and no
other thread is in the figures (the threaded server's connections excepted, which need real sockets). A frame is timed
as an echo, one frame each way, by the CPU of the thread that serves. A connection is its handshake, its close and, for
a recorded one, its file in the spool from the first line to the sealed report; delivery is `throughput`'s.
"""

from __future__ import annotations

import asyncio
import itertools
import queue
import socket
import struct
import tempfile
import threading
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager, contextmanager
from dataclasses import replace
from importlib.util import find_spec
from statistics import median, quantiles
from time import monotonic, process_time_ns, sleep, thread_time_ns
from typing import TYPE_CHECKING, Any, TypeAlias

from websockets.asyncio.server import serve
from websockets.sync.server import serve as sync_serve

from benchmarks.agent import undelivered_client
from benchmarks.measure import Effort, Result, difference, in_turns, spread
from bluejay_ws import Bluejay, record

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterator

    from websockets.asyncio.server import ServerConnection
    from websockets.sync.server import ServerConnection as SyncServerConnection

    Protocols: TypeAlias = Callable[[], Any]
    Measure: TypeAlias = Callable[[], float]
    Found: TypeAlias = dict[str, list[float]]

__all__ = ["run"]

ECHOES = 100
BATCHES = 4  # of them, of which the quickest counts: what else runs on the machine only ever adds
CONNECTIONS = 10
FRAMES_OF_AN_ECHO = 2
PAYLOAD = bytes(640)
FRAME = struct.pack("!BBH4s", 0x82, 0x80 | 126, len(PAYLOAD), bytes(4)) + PAYLOAD
CLOSE = struct.pack("!BB4sH", 0x88, 0x80 | 2, bytes(4), 1000)
LAST_STEPS = 10  # of the event loop, until the handler of a closed connection has ended
DIRECT = 1.5  # us a frame, where the family gives a direct hook

LINES = 3  # of the table, for each family

_numbers = itertools.count()


def _request(*, simulated: bool) -> bytes:
    """Return an upgrade request; one that is no simulation has the id under another name: as much to parse."""
    name = "X-Simulation-Result-Id" if simulated else "X-Some-Other-Result-No"
    fields = (
        "GET / HTTP/1.1",
        "Host: localhost",
        "Upgrade: websocket",
        "Connection: Upgrade",
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
        "Sec-WebSocket-Version: 13",
        f"{name}: {next(_numbers):012}",
    )
    return "".join(f"{field}\r\n" for field in (*fields, "")).encode()


# -- families on an event loop, fed from memory -----------------------------------------------------------------------


class _Memory(asyncio.Transport):
    """A transport that counts what is written, and forgets it."""

    def __init__(self, protocol: Any) -> None:
        super().__init__({"peername": ("127.0.0.1", 1), "sockname": ("127.0.0.1", 2)})
        self.protocol = protocol
        self.writes = 0
        self.closed = False

    def write(self, data: object) -> None:  # noqa: ARG002 - the signature of a transport
        """Count a write."""
        self.writes += 1

    def writelines(self, list_of_data: object) -> None:  # noqa: ARG002 - as above
        """Count a write."""
        self.writes += 1

    def set_protocol(self, protocol: Any) -> None:
        """Hand what comes in to another protocol, after an upgrade."""
        self.protocol = protocol

    def get_protocol(self) -> Any:
        """Return who gets what comes in."""
        return self.protocol

    def is_closing(self) -> bool:
        """Return whether it was closed."""
        return self.closed

    def close(self) -> None:
        """End the connection soon."""
        if not self.closed:
            self.closed = True
            asyncio.get_running_loop().call_soon(self.protocol.connection_lost, None)

    abort = close

    def can_write_eof(self) -> bool:
        """Return whether one side can be closed alone."""
        return False

    def get_write_buffer_size(self) -> int:
        """Return that nothing waits."""
        return 0

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        """Do nothing."""

    def pause_reading(self) -> None:
        """Do nothing: one frame at a time comes in."""

    def resume_reading(self) -> None:
        """Do nothing."""


class _Connection:
    """One connection to a server, seen from its event loop."""

    def __init__(self, protocols: Protocols, *, simulated: bool) -> None:
        protocol = protocols()
        self._transport = _Memory(protocol)
        self._simulated = simulated
        protocol.connection_made(self._transport)

    async def open(self) -> _Connection:
        """Make the handshake."""
        await self._exchange(_request(simulated=self._simulated))
        return self

    async def close(self) -> None:
        """Close it, and wait for the end of its handler."""
        self._transport.protocol.data_received(CLOSE)
        while not self._transport.closed:  # noqa: ASYNC110 - it is the server's own steps that are counted
            await asyncio.sleep(0)
        for _ in range(LAST_STEPS):
            await asyncio.sleep(0)

    async def echo(self) -> float:
        """Return the nanoseconds of CPU that one frame takes."""
        return min([await self._batch() for _ in range(BATCHES)]) / ECHOES / FRAMES_OF_AN_ECHO

    async def _batch(self) -> int:
        begun = thread_time_ns()
        for _ in range(ECHOES):
            await self._exchange(FRAME)
        return thread_time_ns() - begun

    async def _exchange(self, data: bytes) -> None:
        transport = self._transport
        expected = transport.writes + 1
        transport.protocol.data_received(data)
        while transport.writes < expected:  # noqa: ASYNC110 - it is the server's own steps that are counted
            await asyncio.sleep(0)


async def _connections(protocols: Protocols, *, simulated: bool) -> float:
    """Return the nanoseconds of CPU that one connection takes."""
    begun = thread_time_ns()
    for _ in range(CONNECTIONS):
        connection = await _Connection(protocols, simulated=simulated).open()
        await connection.close()
    return (thread_time_ns() - begun) / CONNECTIONS


@asynccontextmanager
async def _websockets(client: Bluejay | None) -> AsyncIterator[Protocols]:
    async def voice(websocket: ServerConnection) -> None:
        async for message in websocket:
            await websocket.send(message)

    handler = voice if client is None else record(voice, client=client)
    async with serve(handler, "127.0.0.1", 0, compression=None, ping_interval=None) as server:
        yield server.server._protocol_factory  # type: ignore[attr-defined]


def _uvicorn(app: Any) -> Protocols:
    from uvicorn import Config
    from uvicorn.server import ServerState

    config = Config(app, log_config=None, lifespan="off", access_log=False, ws_ping_interval=None)
    config.load()
    kind: Any = config.http_protocol_class
    state = ServerState()
    return lambda: kind(config=config, server_state=state, app_state={})


@asynccontextmanager
async def _asgi(client: Bluejay | None) -> AsyncIterator[Protocols]:
    from bluejay_ws.servers.asgi import BluejayMiddleware

    async def app(_: Any, receive: Callable[[], Awaitable[Any]], send: Callable[[Any], Awaitable[None]]) -> None:
        await receive()
        await send({"type": "websocket.accept"})
        while (message := await receive())["type"] == "websocket.receive":
            await send({"type": "websocket.send", "bytes": message["bytes"]})

    yield _uvicorn(app if client is None else BluejayMiddleware(app, client))


@asynccontextmanager
async def _fastapi(client: Bluejay | None) -> AsyncIterator[Protocols]:
    from fastapi import FastAPI
    from starlette.websockets import WebSocket

    async def voice(websocket: WebSocket) -> None:
        await websocket.accept()
        async for message in websocket.iter_bytes():
            await websocket.send_bytes(message)

    voice.__annotations__["websocket"] = WebSocket  # read by FastAPI, which cannot see the names in here
    app = FastAPI()
    app.websocket("/")(voice if client is None else record(voice, client=client))
    yield _uvicorn(app)


@asynccontextmanager
async def _aiohttp(client: Bluejay | None) -> AsyncIterator[Protocols]:
    from aiohttp import web

    async def voice(request: web.Request) -> web.WebSocketResponse:
        websocket = web.WebSocketResponse(compress=False)
        await websocket.prepare(request)
        async for message in websocket:
            await websocket.send_bytes(message.data)
        return websocket

    app = web.Application()
    app.router.add_get("/", voice if client is None else record(voice, client=client))
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    assert runner.server is not None
    yield runner.server
    await runner.cleanup()


LOOPS: dict[str, tuple[str, Any, float | None]] = {
    "websockets.asyncio": ("websockets", _websockets, DIRECT),
    "ASGI middleware, uvicorn": ("uvicorn", _asgi, DIRECT),
    "FastAPI endpoint, uvicorn": ("fastapi", _fastapi, DIRECT),
    "aiohttp": ("aiohttp", _aiohttp, None),  # no hook: its public methods are replaced, on that one object
}
"""By family: the library it needs, what serves it, and the figure for a frame."""


def _on_a_loop(family: Any, client: Bluejay, effort: Effort) -> tuple[Found, Found]:
    """Return what a frame and what a connection took, by case."""
    with asyncio.Runner() as runner:

        async def prepare() -> tuple[AsyncExitStack, dict[str, tuple[Protocols, bool]], dict[str, _Connection]]:
            stack = AsyncExitStack()
            bare = await stack.enter_async_context(family(None))
            ours = await stack.enter_async_context(family(client))
            cases = {"bare": (bare, True), "bare again": (bare, True), "no header": (ours, False), "ours": (ours, True)}
            opened = {name: await _Connection(of, simulated=named).open() for name, (of, named) in cases.items()}
            return stack, cases, opened

        def frame(connection: _Connection) -> Measure:
            return lambda: runner.run(connection.echo())

        def connections(protocols: Protocols, simulated: bool) -> Measure:
            return lambda: runner.run(_connections(protocols, simulated=simulated))

        stack, cases, opened = runner.run(prepare())
        frames = in_turns({name: frame(one) for name, one in opened.items()}, effort.rounds)
        for one in opened.values():
            runner.run(one.close())
        many = in_turns({name: connections(*case) for name, case in cases.items()}, effort.rounds)
        runner.run(stack.aclose())
    return frames, many


# -- the threaded family ----------------------------------------------------------------------------------------------


class _NoSocket:
    """Takes what is written and forgets it: the socket's own cost would hide ours."""

    def __init__(self, original: Any) -> None:
        self._original = original

    def __getattr__(self, name: str) -> Any:
        return getattr(self._original, name)

    def sendall(self, data: bytes) -> None:
        """Forget it."""


class _Threads:
    """A threaded server whose handler leaves the connection to the benchmark while it is told to."""

    def __init__(self, client: Bluejay | None) -> None:
        self.holding = True
        self.connections: queue.SimpleQueue[SyncServerConnection] = queue.SimpleQueue()
        self.ended: queue.SimpleQueue[None] = queue.SimpleQueue()
        self._let_go = threading.Event()
        handler = self._handle if client is None else record(self._handle, client=client)
        self._server = sync_serve(self._ending(handler), "127.0.0.1", 0, compression=None)

    def _handle(self, websocket: SyncServerConnection) -> None:
        if self.holding:
            self.connections.put(websocket)
            self._let_go.wait()
        for _ in websocket:
            pass

    def _ending(self, handler: Callable[[SyncServerConnection], None]) -> Callable[[SyncServerConnection], None]:
        def handle(websocket: SyncServerConnection) -> None:
            handler(websocket)
            self.ended.put(None)

        return handle

    @contextmanager
    def served(self) -> Iterator[_Threads]:
        """Serve at a free port for the length of the block."""
        thread = threading.Thread(target=self._server.serve_forever)
        thread.start()
        try:
            yield self
        finally:
            self._server.shutdown()
            thread.join()

    def let_go(self) -> None:
        """Let the handlers end with their connections, from now on."""
        self.holding = False
        self._let_go.set()

    def dial(self, *, simulated: bool) -> socket.socket:
        """Return a caller's end of a new connection."""
        caller = socket.create_connection(self._server.socket.getsockname())
        caller.sendall(_request(simulated=simulated))
        answer = b""
        while b"\r\n\r\n" not in answer:
            answer += caller.recv(4096)
        return caller

    def hang_up(self, caller: socket.socket) -> None:
        """Close a connection from the caller's end."""
        caller.sendall(CLOSE)
        while caller.recv(4096):
            pass
        caller.close()
        self.ended.get()

    def connect(self, *, simulated: bool) -> float:
        """Return the nanoseconds of CPU that one connection takes, the caller's share included."""
        begun = process_time_ns()
        for _ in range(CONNECTIONS):
            self.hang_up(self.dial(simulated=simulated))
        return (process_time_ns() - begun) / CONNECTIONS


def _echo_in_a_thread(connection: SyncServerConnection) -> float:
    """Return the nanoseconds of CPU that one frame takes, read as the connection's own thread reads it."""
    original, connection.socket = connection.socket, _NoSocket(connection.socket)  # type: ignore[assignment]
    taken = min(_batch_in_a_thread(connection) for _ in range(BATCHES))
    connection.socket = original
    return taken / ECHOES / FRAMES_OF_AN_ECHO


def _batch_in_a_thread(connection: SyncServerConnection) -> int:
    begun = thread_time_ns()
    for _ in range(ECHOES):
        with connection.protocol_mutex:
            connection.protocol.receive_data(FRAME)
            events = connection.protocol.events_received()
        for event in events:
            connection.process_event(event)
        connection.send(connection.recv())
    return thread_time_ns() - begun


def _in_threads(client: Bluejay, effort: Effort) -> tuple[Found, Found]:
    """Return what a frame and what a connection took, by case."""

    def frame(connection: SyncServerConnection) -> Measure:
        return lambda: _echo_in_a_thread(connection)

    def connections(server: _Threads, simulated: bool) -> Measure:
        return lambda: server.connect(simulated=simulated)

    with ExitStack() as stack:
        bare = stack.enter_context(_Threads(None).served())
        ours = stack.enter_context(_Threads(client).served())
        cases = {"bare": (bare, True), "bare again": (bare, True), "no header": (ours, False), "ours": (ours, True)}
        callers = [(server, server.dial(simulated=named), server.connections.get()) for server, named in cases.values()]
        held = {name: frame(connection) for name, (_, _, connection) in zip(cases, callers, strict=True)}
        frames = in_turns(held, effort.rounds)
        bare.let_go()
        ours.let_go()
        for server, caller, _ in callers:
            server.hang_up(caller)
        many = in_turns({name: connections(*case) for name, case in cases.items()}, effort.rounds)
    return frames, many


# -- the table --------------------------------------------------------------------------------------------------------


def _measured(client: Bluejay, effort: Effort) -> Iterator[tuple[str, float | None, tuple[Found, Found]]]:
    """Return each family whose library is there: its name, the figure for a frame, and what was measured."""
    for name, (library, family, limit) in LOOPS.items():
        if find_spec(library) is not None:
            yield name, limit, _on_a_loop(family, client, effort)
    yield "websockets.sync", DIRECT, _in_threads(client, effort)


def run(effort: Effort) -> list[Result]:
    """Measure each family whose library is there; half the rounds are as good as all, and there are five of them."""
    effort = replace(effort, rounds=max(1, effort.rounds // 2))
    results: list[Result] = []
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as directory:
        client = undelivered_client("no-key", base_url="http://127.0.0.1:1", spool=directory, flush_timeout=0.0)
        for name, limit, (frames, connections) in _measured(client, effort):
            results += _lines(name, frames, connections, limit)
        until = monotonic() + 20.0  # a server's thread may be about to end its connection
        while client.stats()["live"] and monotonic() < until:
            sleep(0.01)
        counted = client.stats()
    assert counted["recorded"] == len(results) // LINES * (1 + CONNECTIONS * (effort.rounds + 1)), counted
    assert counted["live"] == 0, counted
    assert not [name for name in counted if name.startswith("internal_error")], counted
    return results


def _lines(family: str, frames: Found, connections: Found, limit: float | None) -> list[Result]:
    added = difference(frames["ours"], frames["bare"])
    untouched = difference(frames["no header"], frames["bare"])
    noise = difference(frames["bare again"], frames["bare"])
    low, _, high = quantiles(noise, n=4) if len(noise) > 1 else (0.0, 0.0, 0.0)
    bare = f"bare: {median(frames['bare']) / 1e3:.1f} us"
    quiet = f"two bare connections differ by {spread(noise, 1e-3)} us"
    floor = max(abs(low) / 1e3, abs(high) / 1e3, 0.1)
    return [
        Result(f"{family}: CPU added to a frame", median(added) / 1e3, "us", spread(added, 1e-3), bare, limit),
        Result(f"{family}: without the header", median(untouched) / 1e3, "us", spread(untouched, 1e-3), quiet, floor),
        _rate(f"{family}: connections a second", connections),
    ]


def _rate(what: str, connections: Found) -> Result:
    """Return the connections a second of CPU; ratios are those of the same turn."""

    def ratio(name: str) -> float:
        return median(bare / one for one, bare in zip(connections[name], connections["bare"], strict=True))

    rates = [1e9 / one for one in connections["ours"]]
    bare = 1e9 / median(connections["bare"])
    compared = f"{ratio('ours'):.2f} x bare ({bare:,.0f}); without the header {ratio('no header'):.2f} x bare"
    return Result(what, median(rates), "a second", spread(rates), compared)
