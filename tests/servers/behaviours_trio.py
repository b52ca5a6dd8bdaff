"""The table of `behaviours`, for ``websockets.trio``: the same names; what differs for trio's connections."""

# ruff: noqa: D103 - the table at the end gives each its sentence

from __future__ import annotations

import contextlib
import functools
from collections.abc import Awaitable, Callable
from typing import Any

import trio
import trio.testing
from websockets.exceptions import ConnectionClosed
from websockets.trio.client import connect
from websockets.trio.server import ServerConnection, serve

from tests.servers.behaviours import (
    BINARY,
    HEADERS,
    Notes,
    Wrap,
    collect,
    echo_iterating,
    poke,
    raise_value_error,
    read_until_closed,
    send_after_close,
    send_fragments,
    too_big,
    wait_in_recv,
)

Side = Callable[[Any, Notes], Awaitable[Any]]


async def run(handler: Side, client: Side, options: dict[str, Any], wrap: Wrap) -> Notes:
    """Return everything that the handler and its peer saw of each other: trio leaves to chance whose turn is first."""
    served: Notes = []
    called: Notes = []
    ended = trio.Event()

    async def inner(websocket: ServerConnection) -> Any:
        return await handler(websocket, served)

    wrapped = wrap(inner)

    async def outermost(websocket: ServerConnection) -> None:
        served.append(("type", type(websocket).__name__, isinstance(websocket, ServerConnection)))
        try:
            served.append(("returned", await wrapped(websocket)))
        except BaseException as error:
            served.append(("raised", type(error), str(error), repr(error.__cause__), repr(error.__context__)))
            raise
        finally:
            ended.set()

    async with trio.open_nursery() as nursery:
        serving = functools.partial(serve, outermost, 0, host="127.0.0.1", close_timeout=0.3, **options)
        server = await nursery.start(serving)
        url = f"ws://127.0.0.1:{server.listeners[0].socket.getsockname()[1]}"
        async with connect(url, additional_headers=HEADERS) as websocket:
            with contextlib.suppress(ConnectionClosed):
                await client(websocket, called)
        await ended.wait()
        called.append(("client saw", websocket.close_code, websocket.close_reason))
        nursery.cancel_scope.cancel()
    return served + called


async def talk(websocket: Any, notes: Notes) -> None:
    for message in ("text", BINARY, b"", "", b"odd", '{"type": "speech.started"}', "{broken", b"x" * 2**20):
        await websocket.send(message)
        notes.append(("echo", await websocket.recv() == message))
    await websocket.aclose(4001, "bye")


async def recv_decoded(websocket: Any, notes: Notes) -> None:
    notes.append(await websocket.recv(decode=False))
    notes.append(await websocket.recv(decode=True))
    notes.append([part async for part in websocket.recv_streaming()])
    notes.append([part async for part in websocket.recv_streaming(decode=True)])


async def send_every_way(websocket: Any, notes: Notes) -> None:
    async def pieces() -> Any:
        for piece in (b"a", b"b"):
            await trio.sleep(0)
            yield piece

    await websocket.send(["frag", "ments"])
    await websocket.send(iter([b"1", b"2", b"3"]))
    await websocket.send(pieces())
    await websocket.send(bytearray(b"array"))
    await websocket.send(memoryview(b"view"))
    await websocket.send("as binary", text=False)
    await websocket.send(b"as text", text=True)
    with contextlib.suppress(TypeError):
        await websocket.send({"no": "message"})


async def close_with_own_code(websocket: Any, notes: Notes) -> None:
    await websocket.aclose(4444, "own")
    notes.append(("server saw", websocket.close_code, websocket.close_reason))


async def drop(websocket: Any, notes: Notes) -> None:
    await trio.aclose_forcefully(websocket.stream)
    await websocket.wait_closed()


async def hang_up(websocket: Any, notes: Notes) -> None:
    await websocket.aclose(1000, "")


async def cancel_itself(websocket: Any, notes: Notes) -> None:
    with trio.CancelScope() as scope:
        scope.cancel()
        await websocket.recv()
    notes.append(("cancelled", scope.cancelled_caught))


async def ping_pong(websocket: Any, notes: Notes) -> None:
    answered = await websocket.ping(ack_on_close=False)
    await answered.wait()
    notes.append("pong")
    await websocket.pong()


async def concurrent_recv(websocket: Any, notes: Notes) -> None:
    async with trio.open_nursery() as nursery:
        nursery.start_soon(websocket.recv)
        await trio.testing.wait_all_tasks_blocked()
        try:
            await websocket.recv()
        except Exception as error:
            notes.append(("concurrent", type(error).__name__, str(error)))
        nursery.cancel_scope.cancel()
    notes.append(await websocket.recv())


async def send_late(websocket: Any, notes: Notes) -> None:
    await trio.sleep(0.02)
    await websocket.send("late")


async def unbound_calls(websocket: Any, notes: Notes) -> None:
    notes.append(await ServerConnection.recv(websocket))
    await ServerConnection.send(websocket, b"unbound")


async def invalid_text(websocket: Any, notes: Notes) -> None:
    websocket.protocol.send_text(b"\xff\xfe")
    await websocket.send_data()
    await websocket.wait_closed()


BEHAVIOURS: dict[str, tuple[Side, Side, dict[str, Any]]] = {
    "echo of every kind of message": (echo_iterating, talk, {}),
    "echo without compression": (echo_iterating, talk, {"compression": None}),
    "recv decoded and streaming": (recv_decoded, send_fragments, {}),
    "send every way": (send_every_way, collect, {}),
    "handler raises": (raise_value_error, poke, {}),
    "handler closes with its own code": (close_with_own_code, collect, {}),
    "caller drops while the handler waits": (wait_in_recv, drop, {}),
    "caller hangs up while the handler waits": (wait_in_recv, hang_up, {}),
    "ping and pong": (ping_pong, collect, {}),
    "concurrent and cancelled recv": (concurrent_recv, send_late, {}),
    "unbound calls": (unbound_calls, poke, {}),
    "send after the end": (send_after_close, hang_up, {}),
    "text that is no UTF-8": (read_until_closed, invalid_text, {}),
    "message over the limit": (read_until_closed, too_big, {"max_size": 1000}),
    "handler is cancelled": (cancel_itself, collect, {}),
}
