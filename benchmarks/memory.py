"""Memory that an idle recorded connection adds, and memory of an item (tracemalloc, real connections)."""

from __future__ import annotations

import asyncio
import gc
import tempfile
import tracemalloc
from statistics import median
from typing import TYPE_CHECKING

from benchmarks.agent import Agent, more_descriptors
from benchmarks.measure import Effort, Result, difference, spread
from benchmarks.peer import Peer, peer
from bluejay_ws import Bluejay

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["run"]

ITEMS = 2_000


def _traced(begin: int = 0) -> int:
    gc.collect()
    return tracemalloc.get_traced_memory()[0] - begin


async def _connections(agent: Agent, callers: Peer, prefix: str, count: int) -> float:
    """Return the bytes that one of ``count`` idle connections takes."""
    before = _traced()
    await asyncio.to_thread(callers.ask, "open", agent.url, count, prefix)
    await agent.connected(count)
    taken = _traced(before) / count
    await asyncio.to_thread(callers.ask, "close")
    await agent.connected(0)
    return taken


async def _idle(client: Bluejay, effort: Effort) -> tuple[list[float], list[float]]:
    """Return, round by round, the bytes of a connection to a bare server and of one that is recorded."""
    count = max(10, effort.crowd // 5)
    bare: list[float] = []
    recorded: list[float] = []
    with peer("callers") as callers:
        async with Agent(None).served() as agent, Agent(client).served() as observed:
            await _connections(agent, callers, "warm", 5)
            await _connections(observed, callers, "warm", 5)
            await asyncio.sleep(2.0)  # the sender's thread imports its HTTP client meanwhile
            for number in range(effort.few):
                bare.append(await _connections(agent, callers, f"idle{number}", count))
                recorded.append(await _connections(observed, callers, f"idle{number}", count))
                assert await client.aflush(60)
    return bare, recorded


def _items(client: Bluejay) -> Callable[[], float]:
    def measure() -> float:
        with client.call({"X-Simulation-Result-Id": "items"}) as recorder:
            before = _traced()
            for _ in range(ITEMS):
                recorder.add_tool_call("freeze_card", parameters={"last4": "4242"}, output={"status": "frozen"})
            taken = _traced(before) / ITEMS
            recorder.discard()
        return taken

    return measure


def run(effort: Effort) -> list[Result]:
    """Measure with the spool on, as it is used."""
    more_descriptors()
    tracemalloc.start()
    with peer("platform") as platform, tempfile.TemporaryDirectory() as directory:
        url, key = platform.answer().split()
        with Bluejay(key, base_url=url, spool=directory) as client:
            bare, recorded = asyncio.run(_idle(client, effort))
            items = _items(client)
            sizes = [items() for _ in range(effort.few)]
    tracemalloc.stop()
    added = difference(recorded, bare)
    base = f"bare `websockets`, same request: {median(bare) / 1e3:.1f} kB"
    return [
        Result("memory added to an idle recorded connection", median(added), "bytes", spread(added), base, 1_000),
        Result("memory of a tool call with small parameters", median(sizes), "bytes", spread(sizes), "", 250),
    ]
