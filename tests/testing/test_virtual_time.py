"""`bluejay_ws.testing.virtual_time`: nobody waits, and all times are as they would have been."""

from __future__ import annotations

import asyncio
import socket
import threading
import time
from typing import TYPE_CHECKING, Any

import pytest

from bluejay_ws.testing import virtual_time
from bluejay_ws.testing.audio import frames, voice
from bluejay_ws.testing.caller import DigitalHuman
from bluejay_ws.testing.spans import latencies
from bluejay_ws.testing.virtual_time import VirtualTimeLoop, _leads_abroad
from tests.testing.agents import serving

if TYPE_CHECKING:
    from collections.abc import Coroutine

    from websockets.asyncio.server import ServerConnection

    from bluejay_ws.testing.caller import CallLog


def run(main: Coroutine[Any, Any, Any]) -> Any:
    """Run it in virtual time."""
    with asyncio.Runner(loop_factory=VirtualTimeLoop) as runner:
        return runner.run(main)


def test_sleeping_for_a_day_takes_no_time() -> None:
    """Timers fire in order, each at its own time, and the clock given to a client agrees."""

    async def main() -> tuple[float, float, list[int]]:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, VirtualTimeLoop)
        began, clock, order = loop.time(), loop.clock_ns(), list[int]()
        loop.call_later(7_200, order.append, 2)
        loop.call_later(3_600, order.append, 1)
        await asyncio.sleep(86_400)
        return loop.time() - began, (loop.clock_ns() - clock) / 1e9, order

    began = time.monotonic()
    slept, by_clock, order = run(main())
    assert slept == pytest.approx(86_400)
    assert by_clock == pytest.approx(86_400)
    assert order == [1, 2]
    assert time.monotonic() - began < 3_600


def test_time_is_real_while_a_thread_works() -> None:
    """A timeout round a job in a thread does not fire because the clock jumped."""
    release = threading.Event()

    async def main() -> str:
        async with asyncio.timeout(30):
            waiting = asyncio.create_task(asyncio.to_thread(release.wait, 20))
            await asyncio.sleep(0.01)
            release.set()
            await waiting
        return "in time"

    assert run(main()) == "in time"


def test_a_connection_to_another_machine_is_told_from_one_to_this() -> None:
    """Pipes, listeners and loopback are this machine; a datagram socket connected elsewhere stands for a provider."""
    ours, theirs = socket.socketpair()
    with (
        ours,
        theirs,
        socket.create_server(("127.0.0.1", 0)) as listener,
        socket.create_connection(listener.getsockname()) as here,
    ):
        assert not any(_leads_abroad(one.fileno()) for one in (ours, listener, here))
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as elsewhere:
        try:
            elsewhere.connect(("192.0.2.1", 9))
        except OSError:
            pytest.skip("this machine has no route at all")
        assert _leads_abroad(elsewhere.fileno())
    assert not _leads_abroad(1_000_000)


def test_time_is_real_while_a_connection_leads_abroad() -> None:
    """Waiting for a provider takes the time that it takes."""

    async def main() -> None:
        loop = asyncio.get_running_loop()
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as provider:
            provider.setblocking(False)
            try:
                provider.connect(("192.0.2.1", 9))
            except OSError:
                pytest.skip("this machine has no route at all")
            loop.add_reader(provider.fileno(), lambda: None)
            loop.add_writer(provider.fileno(), loop.remove_writer, provider.fileno())
            began = time.monotonic()
            await asyncio.sleep(0.05)
            assert time.monotonic() - began >= 0.04
            loop.remove_reader(provider.fileno())

    run(main())


async def paced_agent(connection: ServerConnection) -> None:
    """Answer 700 ms after the caller's last frame, in real time as a serious agent does."""
    loop = asyncio.get_running_loop()
    async for message in connection:
        if isinstance(message, str) and "speech.completed" in message:
            await asyncio.sleep(0.9)  # the event came 200 ms early
            due = loop.time()
            for frame in frames(voice(2_000)):
                await connection.send(frame)
                due += 0.02
                await asyncio.sleep(due - loop.time())


def test_a_long_call_has_the_latencies_of_a_long_call() -> None:
    """Four turns over real sockets: every span and every latency is exact to the frame, and nobody waited for them."""

    async def main() -> CallLog:
        async with serving(paced_agent) as url:
            return await DigitalHuman(url).call([voice(2_000)] * 4)

    log = run(main())
    assert log.duration_ms > 18_000
    assert [round(end - start, -1) for start, end in log.user_spans] == [2_000] * 4
    assert [round(end - start, -1) for start, end in log.agent_spans] == [2_000] * 4
    assert [wait.end_ms - wait.start_ms for wait in latencies(log.user_spans, log.agent_spans)] == [
        pytest.approx(700, abs=20.5)
    ] * 4


def test_time_does_not_jump_over_what_is_on_its_way(monkeypatch: pytest.MonkeyPatch) -> None:
    """The kernel counts what has left one end and come to the other; where it cannot, one more look must do."""
    wire = virtual_time._Wire()
    with (
        socket.create_server(("127.0.0.1", 0)) as listener,
        socket.create_connection(listener.getsockname()) as ours,
        listener.accept()[0] as theirs,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as datagrams,
    ):
        for one in (listener, ours, theirs, datagrams):
            wire.add(one.fileno())
        assert wire.carries()  # nobody has looked yet
        assert not wire.carries()
        ours.sendall(b"x" * 1_000)
        theirs.recv(1_000, socket.MSG_WAITALL)
        assert not wire.carries()
        counts = virtual_time._counts
        monkeypatch.setattr(virtual_time, "_counts", lambda end: (counts(end)[0] + 1, counts(end)[1]))
        assert wire.carries()
        monkeypatch.setattr(virtual_time, "COUNTED", False)
        monkeypatch.setattr(virtual_time, "_counts", counts)
        assert wire.carries()
        wire.remove(theirs.fileno())
        wire.remove(datagrams.fileno())
        wire.close()


def test_what_never_arrives_does_not_stop_the_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    """After so many looks time continues; what arrives meanwhile is taken first."""
    monkeypatch.setattr(virtual_time._Wire, "carries", lambda _wire: True)
    looks: list[int] = []
    arrives = [False] * (virtual_time.LOOKS + 2) + [True]

    class Selector:
        """Finds something at its last look."""

        def select(self, _timeout: float | None) -> list[Any]:
            looks.append(1)
            return ["it"] if arrives[len(looks) - 1] else []

    jumping = virtual_time._JumpingSelector()
    jumping._real.close()
    jumping._real = Selector()  # type: ignore[assignment]
    before = jumping.now
    assert jumping.select(5.0) == []
    assert jumping.now == before + 5.0
    assert jumping.select(5.0) == ["it"]  # type: ignore[comparison-overlap]
    assert jumping.now == before + 5.0
