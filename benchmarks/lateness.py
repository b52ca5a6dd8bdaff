"""How late a 1 ms timer of the agent's event loop is while a crowd of calls ends and all reports leave at once."""

from __future__ import annotations

import asyncio
import tempfile
from statistics import median
from time import perf_counter

from benchmarks.agent import Agent, more_descriptors
from benchmarks.measure import Effort, Result, percentile, spread
from benchmarks.peer import Peer, peer
from bluejay_ws import Bluejay

__all__ = ["run"]

TOOL_CALLS = 5
QUIET = 1.0  # seconds to watch after a crowd whose calls are not recorded


async def _watch(late: list[float]) -> None:
    """Note how late, in milliseconds, each tick of a 1 ms timer is."""
    loop = asyncio.get_running_loop()
    while True:
        due = loop.time() + 0.001
        await asyncio.sleep(0.001)
        late.append((loop.time() - due) * 1e3)


class _Crowd:
    """Calls that end at once, again and again."""

    def __init__(self, client: Bluejay, agent: Agent, callers: Peer) -> None:
        self._client = client
        self._agent = agent
        self._callers = callers
        self._rounds = 0

    async def ends(self, count: int, *, recorded: bool) -> tuple[list[float], float]:
        """Return the lateness of each tick, and the seconds from the first close to the last accepted report."""
        self._rounds += 1
        prefix = f"crowd{self._rounds}" if recorded else "-"
        await asyncio.to_thread(self._callers.ask, "open", self._agent.url, count, prefix)
        await self._agent.connected(count)
        late: list[float] = []
        watch = asyncio.create_task(_watch(late))
        begun = perf_counter()
        await asyncio.to_thread(self._callers.ask, "close")
        await self._agent.connected(0)
        if recorded:
            assert await self._client.aflush(120), "the reports did not leave"
        else:
            await asyncio.sleep(QUIET)
        seconds = perf_counter() - begun
        watch.cancel()
        return late, seconds


async def _measure(client: Bluejay, count: int, effort: Effort) -> dict[bool, list[list[float]]]:
    found: dict[bool, list[list[float]]] = {True: [], False: []}
    with peer("callers") as callers:
        async with Agent(client, tool_calls=TOOL_CALLS).served() as agent:
            crowd = _Crowd(client, agent, callers)
            await crowd.ends(10, recorded=True)  # the sender's thread and its HTTP client are there from now on
            for _ in range(effort.few):
                for recorded in (True, False):
                    late, _ = await crowd.ends(count, recorded=recorded)
                    found[recorded].append(late)
    return found


def run(effort: Effort) -> list[Result]:
    """Measure with real connections, all closed at once by a process of their own."""
    more_descriptors()
    results: list[Result] = []
    for count in (max(10, effort.crowd // 10), effort.crowd):
        with (
            peer("platform") as platform,
            tempfile.TemporaryDirectory() as directory,
        ):
            url, key = platform.answer().split()
            with Bluejay(key, base_url=url, spool=directory) as client:
                found = asyncio.run(_measure(client, count, effort))
                stats = client.stats()
                expected = count * effort.few + 10
                assert stats["delivered"] == expected, stats
                assert int(platform.ask("count")) == expected
        results += _results(count, found)
    return results


def _results(count: int, found: dict[bool, list[list[float]]]) -> list[Result]:
    p99 = [percentile(late, 0.99) for late in found[True]]
    bare = [percentile(late, 0.99) for late in found[False]]
    worst, bare_worst = (list(map(max, found[recorded])) for recorded in (True, False))
    times = [one / other for one, other in zip(worst, bare_worst, strict=True)]
    stalls = f"{median(worst):.0f} ms, not recorded {median(bare_worst):.0f} ms"
    what = f"{count:,} reports at once: lateness of a 1 ms timer, p99"
    return [
        Result(what, median(p99), "ms", spread(p99), f"not recorded: {median(bare):.1f} ms", 5.0),
        Result("longest stall against not recorded", median(times), "x", spread(times), stalls, 1.5),
    ]
