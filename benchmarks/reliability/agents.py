"""Agents on every kind of server: ``python -m benchmarks.reliability.agents KIND FD``.

They do what the servers' own documentation shows, and nothing for us beyond it: no signal handler but where the
kind's name says so. Each connection records three steps at once and one with each frame, which it sends back.
"""

from __future__ import annotations

import asyncio
import signal
import socket
import sys
from typing import TYPE_CHECKING, Any

from benchmarks.agent import more_descriptors
from benchmarks.reliability.ledger import Notebook
from benchmarks.reliability.stage import bluejay_from_environment, ledger_from_environment
from bluejay_ws import current_recorder, record

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["FIRST_STEPS", "KINDS", "READY"]

FIRST_STEPS = 3
READY = b"ready"


def _handler() -> Any:
    ledger = ledger_from_environment()

    @record(client=bluejay_from_environment())
    async def agent(websocket: Any) -> None:
        notebook = Notebook(ledger, current_recorder())
        notebook.steps(FIRST_STEPS)
        await websocket.send(READY)
        async for frame in websocket:
            notebook.steps(1)
            await websocket.send(frame)

    return agent


def plain(sock: socket.socket) -> None:
    """Serve with ``asyncio.run``: SIGINT ends it by KeyboardInterrupt, SIGTERM kills it."""
    asyncio.run(_serve(sock, asyncio.Event))


def handled(sock: socket.socket) -> None:
    """Serve with ``asyncio.run``, and end in order at SIGTERM, as the documentation of websockets shows."""
    asyncio.run(_serve(sock, _stopped_by_sigterm))


def uvloop(sock: socket.socket) -> None:
    """Do what `handled` does on uvloop."""
    import uvloop as loops

    with asyncio.Runner(loop_factory=loops.new_event_loop) as runner:
        runner.run(_serve(sock, _stopped_by_sigterm))


def _stopped_by_sigterm() -> asyncio.Event:
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    return stop


async def _serve(sock: socket.socket, stop: Callable[[], asyncio.Event]) -> None:
    from websockets.asyncio.server import serve

    async with serve(_handler(), sock=sock, compression=None):
        await stop().wait()


def trio(sock: socket.socket) -> None:
    """Serve with trio."""
    from functools import partial

    import trio as loops
    from websockets.trio.server import serve

    async def main() -> None:
        listeners = [loops.SocketListener(loops.socket.from_stdlib_socket(sock))]
        await serve(_handler(), listeners=listeners, compression=None)

    loops.run(partial(main))


def threads(sock: socket.socket) -> None:
    """Serve with a thread for each connection."""
    from websockets.sync.server import serve

    ledger = ledger_from_environment()

    @record(client=bluejay_from_environment())
    def agent(websocket: Any) -> None:
        notebook = Notebook(ledger, current_recorder())
        notebook.steps(FIRST_STEPS)
        websocket.send(READY)
        for frame in websocket:
            notebook.steps(1)
            websocket.send(frame)

    with serve(agent, sock=sock, compression=None) as server:
        server.serve_forever()


def bare(sock: socket.socket) -> None:
    """Send frames back, with nothing of ours about."""
    asyncio.run(_echo(sock, _echoing))


def echo(sock: socket.socket) -> None:
    """Do what `bare` does, recorded: five tool calls at the start of each call."""
    asyncio.run(_echo(sock, record(_echoing, client=bluejay_from_environment())))


async def _echoing(websocket: Any) -> None:
    recorder = current_recorder()
    if recorder.active:
        Notebook(ledger_from_environment(), recorder).steps(5)
    async for frame in websocket:
        await websocket.send(frame)


async def _echo(sock: socket.socket, handler: Any) -> None:
    from websockets.asyncio.server import serve

    more_descriptors()
    async with serve(handler, sock=sock, compression=None, ping_interval=None):
        await asyncio.get_running_loop().create_future()


def aiohttp(sock: socket.socket) -> None:
    """Serve with ``aiohttp.web.run_app``, which ends at SIGTERM and SIGINT and cancels the sockets that are open."""
    from aiohttp import web

    from bluejay_ws.servers.aiohttp import setup

    ledger = ledger_from_environment()

    async def agent(request: web.Request) -> web.WebSocketResponse:
        websocket = web.WebSocketResponse(timeout=0.1)
        await websocket.prepare(request)
        notebook = Notebook(ledger, current_recorder())
        notebook.steps(FIRST_STEPS)
        await websocket.send_bytes(READY)
        async for message in websocket:
            notebook.steps(1)
            await websocket.send_bytes(message.data)
        return websocket

    app = web.Application()
    app.router.add_get("/", agent)
    setup(app, bluejay_from_environment())
    web.run_app(app, sock=sock, shutdown_timeout=0.1, print=None)


KINDS: dict[str, Callable[[socket.socket], None]] = {
    kind.__name__: kind for kind in (plain, handled, uvloop, trio, threads, aiohttp, bare, echo)
}

if __name__ == "__main__":
    KINDS[sys.argv[1]](socket.socket(fileno=int(sys.argv[2])))
