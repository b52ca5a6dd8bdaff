"""Event loops that come and go while reports are on their way: delivery belongs to none of them."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest
from websockets.asyncio.server import serve

from benchmarks.reliability.crowd import FRAME, Crowd
from benchmarks.reliability.ledger import Notebook
from benchmarks.reliability.stage import ID_HEADER, QUICK, Stage, make_bluejay
from bluejay_ws import Bluejay, current_recorder, record
from bluejay_ws.testing.platform import Answer

if TYPE_CHECKING:
    from collections.abc import Iterator

SLOW = 0.05


@pytest.fixture
def stage() -> Iterator[Stage]:
    """Give a stage whose platform takes its time: each loop is gone before its reports have arrived."""
    with Stage(QUICK) as stage:
        stage.platform.otherwise(Answer(delay=SLOW))
        yield stage


@pytest.fixture
def client(stage: Stage) -> Iterator[Bluejay]:
    """Give one client for all loops of a test."""
    with make_bluejay(QUICK, api_key=stage.platform.api_key, base_url=stage.platform.url, spool=stage.spool) as client:
        yield client


async def serve_calls(stage: Stage, client: Bluejay, *identities: str) -> None:
    """Serve these calls with websockets, and leave as soon as the last has closed."""

    @record(client=client)
    async def agent(websocket: Any) -> None:
        notebook = Notebook(stage.ledger, current_recorder())
        notebook.steps(2)
        await websocket.send(FRAME)
        await websocket.wait_closed()

    async with serve(agent, "127.0.0.1", 0, compression=None) as server:
        crowd = Crowd(f"ws://127.0.0.1:{server.sockets[0].getsockname()[1]}")
        for connection in await crowd.open(identities):
            await connection.close()


def check(stage: Stage, calls: int) -> None:
    """See that all calls arrive, once."""
    stage.wait_until_delivered(10.0)
    account = stage.account()
    assert account.sound, account
    assert account.delivered == account.calls == calls, account


def test_asyncio_run_twice(stage: Stage, client: Bluejay) -> None:
    """A second loop continues where the first has ended, with the first one's reports still on their way."""
    asyncio.run(serve_calls(stage, client, "first-1", "first-2"))
    asyncio.run(serve_calls(stage, client, "second-1", "second-2"))
    check(stage, 4)


def test_a_loop_for_each_test(stage: Stage, client: Bluejay) -> None:
    """Many short loops, as a test-suite has them, with the client flushed in some and closed in others."""

    async def one(number: int) -> None:
        await serve_calls(stage, client, f"loop-{number}")
        if number % 3 == 1:
            assert await client.aflush(5.0)
        elif number % 3 == 2:
            assert await client.aclose(5.0)

    for number in range(6):
        asyncio.run(one(number))
    check(stage, 6)


def test_a_loop_that_is_stopped_in_the_middle_of_a_call(stage: Stage, client: Bluejay) -> None:
    """A loop that stops without a word to its tasks leaves the call open; closing the client delivers it."""

    async def main() -> None:
        asyncio.get_running_loop().call_later(0.01, asyncio.get_running_loop().stop)
        with client.call({ID_HEADER: "stopped"}) as recorder:
            Notebook(stage.ledger, recorder).steps(2)
            await asyncio.sleep(60)

    loop = asyncio.new_event_loop()
    task = loop.create_task(main())
    loop.run_forever()
    assert client.close(5.0)
    check(stage, 1)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        loop.run_until_complete(task)
    loop.close()


def test_trio_and_asyncio_take_turns(stage: Stage, client: Bluejay) -> None:
    """Delivery knows no event loop: a call on trio and one on asyncio leave by the same client."""
    trio = pytest.importorskip("trio")

    async def on_trio() -> None:
        async with client.call({ID_HEADER: "trio"}) as recorder:
            Notebook(stage.ledger, recorder).steps(2)
        assert await client.aflush(5.0)

    trio.run(on_trio)
    asyncio.run(serve_calls(stage, client, "asyncio"))
    trio.run(client.aclose, 5.0)
    check(stage, 2)
