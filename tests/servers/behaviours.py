"""What a handler and its peer can do to each other on a websocket, as a table to be run bare and recorded.

Each behaviour is a handler and a client; both note what they see. A wrapper is transparent when the notes
of a run with it equal those of a run without it.
"""

# ruff: noqa: D103 - the table at the end gives each its sentence

from __future__ import annotations

import asyncio
import contextlib
import importlib.util
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from websockets.asyncio.client import ClientConnection, connect
from websockets.asyncio.server import ServerConnection, broadcast, serve
from websockets.exceptions import ConnectionClosed
from websockets.version import version

Notes = list[Any]
Handler = Callable[[ServerConnection, Notes], Awaitable[Any]]
Client = Callable[[ClientConnection, Notes], Awaitable[Any]]
Wrap = Callable[[Callable[..., Any]], Callable[..., Any]]

HEADERS = {"X-Simulation-Result-Id": "720488"}
BINARY = bytes(range(256)) * 3
HAS_TRIO = importlib.util.find_spec("websockets.trio") is not None
NEWER = int(version.split(".")[0]) >= 15  # has recv(decode=) and send(text=)


@dataclass(frozen=True)
class Behaviour:
    """A handler and the client it meets."""

    handler: Handler
    client: Client
    options: tuple[tuple[str, Any], ...] = ()


async def quiet(websocket: ClientConnection, notes: Notes) -> None:
    """Wait for the server to end it."""
    await websocket.wait_closed()


async def collect(websocket: ClientConnection, notes: Notes) -> None:
    """Note every message until the end."""
    async for message in websocket:
        notes.append(("client got", message))


async def run(behaviour: Behaviour, wrap: Wrap, *, headers: dict[str, str] | None = None) -> Notes:
    """Return everything that the handler and its peer saw of each other."""
    notes: Notes = []

    async def handler(websocket: ServerConnection) -> Any:
        return await behaviour.handler(websocket, notes)

    ended = asyncio.Event()
    wrapped = wrap(handler)

    async def outermost(websocket: ServerConnection) -> None:
        notes.append(("type", type(websocket).__name__, isinstance(websocket, ServerConnection)))
        try:
            notes.append(("returned", await wrapped(websocket)))
        except BaseException as error:
            notes.append(("raised", type(error), str(error), repr(error.__cause__), repr(error.__context__)))
            raise
        finally:
            ended.set()

    async with serve(outermost, "127.0.0.1", 0, close_timeout=0.3, **dict(behaviour.options)) as server:
        uri = f"ws://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        async with connect(uri, additional_headers=HEADERS if headers is None else headers) as client:
            with contextlib.suppress(ConnectionClosed):
                await behaviour.client(client, notes)
        await ended.wait()
        notes.append(("client saw", client.protocol.close_code, client.protocol.close_reason))
    return notes


async def echo_iterating(websocket: ServerConnection, notes: Notes) -> str:
    async for message in websocket:
        notes.append(("handler got", message))
        await websocket.send(message)
    notes.append(("server saw", websocket.protocol.close_code, websocket.protocol.close_reason))
    return "done"


async def talk(websocket: ClientConnection, notes: Notes) -> None:
    for message in ("text", BINARY, b"", "", b"odd", '{"type": "speech.started"}', "{broken", b"x" * 2**20):
        await websocket.send(message)
        notes.append(("echo", await websocket.recv() == message))
    await websocket.close(4001, "bye")


async def recv_decoded(websocket: ServerConnection, notes: Notes) -> None:
    as_bytes: Any = {"decode": False} if NEWER else {}
    as_text: Any = {"decode": True} if NEWER else {}
    notes.append(await websocket.recv(**as_bytes))
    notes.append(await websocket.recv(**as_text))
    notes.append([part async for part in websocket.recv_streaming()])
    notes.append([part async for part in websocket.recv_streaming(**as_text)])


async def send_fragments(websocket: ClientConnection, notes: Notes) -> None:
    await websocket.send("as bytes")
    await websocket.send(b"as text")
    await websocket.send([b"one", b"", b"three"])
    await websocket.send(["ä", "b", "c"])


async def send_every_way(websocket: ServerConnection, notes: Notes) -> None:
    async def pieces() -> Any:
        for piece in (b"a", b"b"):
            await asyncio.sleep(0)
            yield piece

    await websocket.send(["frag", "ments"])
    await websocket.send(iter([b"1", b"2", b"3"]))
    await websocket.send(pieces())
    await websocket.send(bytearray(b"array"))
    await websocket.send(memoryview(b"view"))
    if NEWER:
        await websocket.send("as binary", text=False)
        await websocket.send(b"as text", text=True)
    broadcast([websocket], b"cast")
    with contextlib.suppress(TypeError):
        await websocket.send({"no": "message"})


async def raise_value_error(websocket: ServerConnection, notes: Notes) -> None:
    await websocket.recv()
    msg = "broke"
    raise ValueError(msg) from KeyError("cause")


async def poke(websocket: ClientConnection, notes: Notes) -> None:
    await websocket.send("go")
    await collect(websocket, notes)


async def close_with_own_code(websocket: ServerConnection, notes: Notes) -> None:
    await websocket.close(4444, "own")
    notes.append(("server saw", websocket.protocol.close_code, websocket.protocol.close_reason))


async def wait_in_recv(websocket: ServerConnection, notes: Notes) -> None:
    try:
        await websocket.recv()
    except ConnectionClosed as error:
        notes.append(("recv raised", type(error).__name__, str(error)))
        raise


async def drop(websocket: ClientConnection, notes: Notes) -> None:
    websocket.transport.abort()
    await websocket.wait_closed()


async def hang_up(websocket: ClientConnection, notes: Notes) -> None:
    await websocket.close(1000, "")


async def cancel_itself(websocket: ServerConnection, notes: Notes) -> None:
    task = asyncio.current_task()
    assert task is not None
    asyncio.get_running_loop().call_soon(task.cancel, "enough")
    await asyncio.sleep(10)


async def ping_pong(websocket: ServerConnection, notes: Notes) -> None:
    latency = await (await websocket.ping())
    notes.append(("pong", latency >= 0))
    await websocket.pong()


async def concurrent_recv(websocket: ServerConnection, notes: Notes) -> None:
    first = asyncio.create_task(websocket.recv())
    await asyncio.sleep(0)
    try:
        await websocket.recv()
    except Exception as error:  # the library gave it a type of its own only with 13.1
        notes.append(("concurrent", type(error).__name__, str(error)))
    first.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await first
    notes.append(await websocket.recv())


async def send_late(websocket: ClientConnection, notes: Notes) -> None:
    await asyncio.sleep(0.02)
    await websocket.send("late")


async def unbound_calls(websocket: ServerConnection, notes: Notes) -> None:
    notes.append(await ServerConnection.recv(websocket))
    await ServerConnection.send(websocket, b"unbound")


async def send_after_close(websocket: ServerConnection, notes: Notes) -> None:
    await websocket.wait_closed()
    try:
        await websocket.send(b"late")
    except ConnectionClosed as error:
        notes.append(("send raised", type(error).__name__, str(error)))


async def invalid_text(websocket: ClientConnection, notes: Notes) -> None:
    websocket.protocol.send_text(b"\xff\xfe")
    websocket.send_data()
    await websocket.wait_closed()


async def read_until_closed(websocket: ServerConnection, notes: Notes) -> None:
    try:
        notes.append(await websocket.recv())
    except ConnectionClosed as error:
        notes.append(("recv raised", str(error)))


async def too_big(websocket: ClientConnection, notes: Notes) -> None:
    with contextlib.suppress(ConnectionClosed):
        await websocket.send(b"x" * 5000)
    await websocket.wait_closed()


BEHAVIOURS = {
    "echo of every kind of message": Behaviour(echo_iterating, talk),
    "echo without compression": Behaviour(echo_iterating, talk, (("compression", None),)),
    "recv decoded and streaming": Behaviour(recv_decoded, send_fragments),
    "send every way": Behaviour(send_every_way, collect),
    "handler raises": Behaviour(raise_value_error, poke),
    "handler closes with its own code": Behaviour(close_with_own_code, collect),
    "caller drops while the handler waits": Behaviour(wait_in_recv, drop),
    "caller hangs up while the handler waits": Behaviour(wait_in_recv, hang_up),
    "ping and pong": Behaviour(ping_pong, collect),
    "concurrent and cancelled recv": Behaviour(concurrent_recv, send_late),
    "unbound calls": Behaviour(unbound_calls, poke),
    "send after the end": Behaviour(send_after_close, hang_up),
    "text that is no UTF-8": Behaviour(read_until_closed, invalid_text),
    "message over the limit": Behaviour(read_until_closed, too_big, (("max_size", 1000),)),
}
if NEWER:  # before, the server itself left a cancelled handler's connection open
    BEHAVIOURS["handler is cancelled"] = Behaviour(cancel_itself, collect)
