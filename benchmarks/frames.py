"""CPU added to a frame: in process, where it can be measured, and over loopback, where it drowns in noise."""

from __future__ import annotations

import asyncio
import struct
import tempfile
from contextlib import AsyncExitStack
from statistics import median, quantiles
from time import thread_time_ns
from typing import TYPE_CHECKING, Any

from benchmarks.agent import Agent
from benchmarks.measure import Effort, Result, difference, spread
from benchmarks.peer import Peer, peer
from bluejay_ws import Bluejay

if TYPE_CHECKING:
    from websockets.asyncio.server import ServerConnection

__all__ = ["run"]

NUMBER = 1_000
PAYLOAD = bytes(640)
MASKED_FRAME = struct.pack("!BBH4s", 0x82, 0x80 | 126, len(PAYLOAD), bytes(4)) + PAYLOAD


class _NoTransport:
    """Takes what is written and forgets it: the socket's own cost would hide ours."""

    def __init__(self, original: Any) -> None:
        self._original = original

    def __getattr__(self, name: str) -> Any:
        return getattr(self._original, name)

    def write(self, data: bytes) -> None:
        """Forget it."""


async def _received(connection: ServerConnection) -> float:
    """Return the nanoseconds of CPU that one frame takes from the transport to the handler."""
    begun = thread_time_ns()
    for _ in range(NUMBER):
        connection.data_received(MASKED_FRAME)
        await connection.recv()
    return (thread_time_ns() - begun) / NUMBER


async def _sent(connection: ServerConnection) -> float:
    """Return the nanoseconds of CPU that one frame takes from the handler to the transport."""
    begun = thread_time_ns()
    for _ in range(NUMBER):
        await connection.send(PAYLOAD)
    return (thread_time_ns() - begun) / NUMBER


class _Held(Agent):
    """Leave the connection to the benchmark: its handler reads nothing until it is let go."""

    let_go: asyncio.Event

    async def _handle(self, websocket: ServerConnection) -> None:
        self.let_go = asyncio.Event()
        original, without = websocket.transport, _NoTransport(websocket.transport)
        self._swap(websocket, without)
        self.connections.append(websocket)
        await self.let_go.wait()
        self._swap(websocket, original)

    def _swap(self, websocket: ServerConnection, transport: Any) -> None:
        websocket.transport = transport


async def _open(stack: AsyncExitStack, agent: Agent, prefix: str) -> Peer:
    found = stack.enter_context(peer("callers"))
    await asyncio.to_thread(found.ask, "open", agent.url, 1, prefix)
    return found


async def _in_process(client: Bluejay, effort: Effort) -> dict[str, list[float]]:
    found: dict[str, list[float]] = {}
    async with AsyncExitStack() as stack:
        connections: dict[str, ServerConnection] = {}
        agents: list[_Held] = []
        for name, recorder, prefix in (
            ("bare", None, "-"),
            ("bare again", None, "-"),
            ("no header", client, "-"),
            ("recorded", client, "frames"),
        ):
            agent = _Held(recorder)
            agents.append(agent)
            await stack.enter_async_context(agent.served())
            await _open(stack, agent, prefix)
            (connections[name],) = await agent.connected(1)
        for number in range(effort.rounds + 1):
            names = list(connections)
            for name in names[number % 4 :] + names[: number % 4]:
                received, sent = await _received(connections[name]), await _sent(connections[name])
                if number:
                    found.setdefault(f"in, {name}", []).append(received)
                    found.setdefault(f"out, {name}", []).append(sent)
        for agent in agents:
            agent.let_go.set()
    return found


async def _loopback(client: Bluejay, effort: Effort) -> dict[str, list[float]]:
    found: dict[str, list[float]] = {}
    async with AsyncExitStack() as stack:
        peers = {}
        for name, recorder, prefix in (
            ("bare", None, "-"),
            ("bare again", None, "-"),
            ("no header", client, "-"),
            ("recorded", client, "loopback"),
        ):
            agent = await stack.enter_async_context(Agent(recorder).served())
            peers[name] = await _open(stack, agent, prefix)
        for number in range(effort.rounds // 2 + 1):
            for name in list(peers) if number % 2 else reversed(peers):
                begun = thread_time_ns()
                await asyncio.to_thread(peers[name].ask, "echo", NUMBER // 2)
                if number:
                    found.setdefault(name, []).append((thread_time_ns() - begun) / (NUMBER // 2))
        for one in peers.values():
            await asyncio.to_thread(one.ask, "close")
    return found


def run(effort: Effort) -> list[Result]:
    """Measure a 640-byte frame, 20 ms of audio, through `websockets.asyncio`."""
    with peer("platform") as platform, tempfile.TemporaryDirectory() as directory:
        url, key = platform.answer().split()
        with Bluejay(key, base_url=url, spool=directory) as client:
            inside = asyncio.run(_in_process(client, effort))
            echoed = asyncio.run(_loopback(client, effort))
    return [
        *(line for way in ("in", "out") for line in _lines(inside, way)),
        _loopback_line(echoed, "recorded"),
        _loopback_line(echoed, "no header"),
    ]


def _lines(found: dict[str, list[float]], way: str) -> list[Result]:
    bare = found[f"{way}, bare"]
    noise = difference(found[f"{way}, bare again"], bare)
    recorded = difference(found[f"{way}, recorded"], bare)
    untouched = difference(found[f"{way}, no header"], bare)
    low, _, high = quantiles(noise, n=4) if len(noise) > 1 else (0.0, 0.0, 0.0)
    floor = max(abs(low), abs(high)) / 1e3
    words = "from the caller" if way == "in" else "to the caller"
    bare_us = f"bare: {median(bare) / 1e3:.1f} us"
    return [
        Result(f"CPU added to a frame {words}", median(recorded) / 1e3, "us", spread(recorded, 1e-3), bare_us, 1.0),
        Result(
            f"the same without the header, {words}",
            median(untouched) / 1e3,
            "us",
            spread(untouched, 1e-3),
            f"two bare servers differ by {spread(noise, 1e-3)} us",
            max(floor, 0.1),
        ),
    ]


def _loopback_line(found: dict[str, list[float]], name: str) -> Result:
    ratios = [value / bare for value, bare in zip(found[name], found["bare"], strict=True)]
    noise = [value / bare for value, bare in zip(found["bare again"], found["bare"], strict=True)]
    what = "recorded" if name == "recorded" else "without the header"
    compared = f"two bare servers: {median(noise):.3f} ({spread(noise)}); {median(found['bare']) / 1e3:.0f} us an echo"
    return Result(f"server CPU of an echo over loopback, {what}", median(ratios), "x bare", spread(ratios), compared)
