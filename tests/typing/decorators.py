"""What the decorators do to types: nothing. Never run, only checked (mypy, pyright).

A signature is proven kept by calling the function with right arguments, by `assert_type` of the result, and by
calls that must be errors: an unused ``type: ignore`` fails the check.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Generator, Iterator, Sequence
from typing import assert_type

from websockets.asyncio.server import ServerConnection, serve
from websockets.sync.server import ServerConnection as SyncServerConnection
from websockets.sync.server import serve as sync_serve

from bluejay_ws import Bluejay, Recorder, current_recorder, record, record_tool

client = Bluejay()


# -- record: handlers ---------------------------------------------------------------------------------------


@record
async def plain(websocket: ServerConnection) -> None: ...


@record()
async def with_brackets(websocket: ServerConnection) -> None: ...


@record(client=client)
async def with_client(websocket: ServerConnection, *, greeting: str = "hello") -> int:
    return len(greeting)


@record
def threaded(websocket: SyncServerConnection) -> None: ...


class Agent:
    @record
    async def handle(self, websocket: ServerConnection) -> None: ...


async def handlers(websocket: ServerConnection, other: SyncServerConnection) -> None:
    assert_type(await plain(websocket), None)
    assert_type(await with_brackets(websocket), None)
    assert_type(await with_client(websocket, greeting="hi"), int)
    assert_type(await Agent().handle(websocket), None)
    assert_type(threaded(other), None)
    wrapped = record(plain)
    assert_type(await wrapped(websocket), None)
    await plain("not a connection")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    await with_client(websocket, greeting=1)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    await with_client(websocket, "hi")  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]


async def serving() -> None:
    async with serve(plain, "localhost", 0), serve(record(Agent().handle), "localhost", 0):
        pass
    with sync_serve(threaded, "localhost", 0):
        pass


def wrapper(handler: Callable[[ServerConnection], Awaitable[None]]) -> Callable[[ServerConnection], Awaitable[None]]:
    return record(handler, client=client)


# -- record_tool: tools --------------------------------------------------------------------------------------


@record_tool
def look_up(last4: str, *, deep: bool = False) -> dict[str, int]:
    return {last4: int(deep)}


@record_tool
async def freeze(last4: str) -> str:
    return last4


@record_tool(name="read_aloud", description="Read a text aloud")
def words(text: str) -> Iterator[str]:
    yield from text.split()


@record_tool
def echo() -> Generator[int, str, bool]:
    return bool((yield 1))


@record_tool()
async def stream(texts: Sequence[str]) -> AsyncIterator[str]:
    for text in texts:
        yield text


@record_tool
async def talk() -> AsyncGenerator[int, str]:
    yield 1


class Bank:
    @record_tool
    async def balance(self, account: int) -> float:
        return float(account)

    @staticmethod
    @record_tool
    def currency() -> str:
        return "EUR"

    @classmethod
    @record_tool
    def open(cls, name: str) -> Bank:
        return cls()


async def tools() -> None:
    assert_type(look_up("4242", deep=True), dict[str, int])
    assert_type(await freeze("4242"), str)
    assert_type(words("a b"), Iterator[str])
    assert_type(echo(), Generator[int, str, bool])
    assert_type(stream(["a"]), AsyncIterator[str])
    assert_type(talk(), AsyncGenerator[int, str])
    assert_type(await Bank().balance(1), float)
    assert_type(Bank.currency(), str)
    assert_type(Bank.open("x"), Bank)
    look_up(4242)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    await freeze()  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]


# -- the recorder ------------------------------------------------------------------------------------------


async def recorders() -> None:
    recorder = current_recorder()
    assert_type(recorder, Recorder)
    assert_type(recorder.active, bool)
    assert_type(recorder.offset_ms(), int)
    with recorder.tool_call("freeze", {"last4": "4242"}) as call:
        call.output = {"any": ["JSON", 1, None]}
    async with recorder.utterance("agent") as utterance:
        utterance.text += "Hello"
    with client.call({"X-Simulation-Result-Id": "1"}) as found:
        assert_type(found, Recorder)
    async with client.call([("X-Simulation-Result-Id", "1")]) as found_too:
        assert_type(found_too, Recorder)
    assert_type(client.find("1"), Recorder)
    assert_type(await client.aflush(1.0), bool)
    assert_type(client.stats(), dict[str, int])
