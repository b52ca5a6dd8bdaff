"""An event loop whose clock jumps to the next timer, so that a call of a minute is over in about a second.

The caller and the agent run in one such loop, connected by real sockets. Nobody waits, and all times are as they would
have been: latencies, silences and marks in the report mean what they mean in real time::

    with asyncio.Runner(loop_factory=VirtualTimeLoop) as runner:
        runner.run(one_call())

    async def one_call():
        bluejay = Bluejay._with(seam=Seam(clock=asyncio.get_running_loop().clock_ns))
        async with serve(record(agent, client=bluejay), "127.0.0.1", 8765):
            log = await DigitalHuman("ws://127.0.0.1:8765").call()

What the loop knows of is simulated: `asyncio.sleep`, timeouts, `loop.time`. A job given to a thread
(`loop.run_in_executor`, `asyncio.to_thread`) is real, so the clock goes on with the real one until it is done. So it
does while the loop has an open connection to another machine: a provider that needs 300 ms is not cut short.
"""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import os
import selectors
import socket
import time
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

__all__ = ["VirtualTimeLoop"]


class VirtualTimeLoop(asyncio.SelectorEventLoop):
    """Run timers without waiting for them. Its time begins at the machine's monotonic clock and never goes back."""

    def __init__(self) -> None:
        self._virtual = _JumpingSelector()
        super().__init__(self._virtual)

    def time(self) -> float:
        """Return the virtual time, in seconds."""
        return self._virtual.now

    def clock_ns(self) -> int:
        """Return the virtual time in nanoseconds; for the clock of a client."""
        return round(self._virtual.now * 1e9)

    def run_in_executor(  # type: ignore[override]
        self, executor: Any, func: Callable[..., Any], *args: Any
    ) -> asyncio.Future[Any]:
        """Run a job in a thread; until it is done, time is real."""
        future = super().run_in_executor(executor, func, *args)
        self._virtual.jobs += 1
        future.add_done_callback(self._job_done)
        return future

    def _job_done(self, _future: object) -> None:
        self._virtual.jobs -= 1


class _JumpingSelector(selectors.BaseSelector):
    """Wait for nothing but what is really on its way."""

    def __init__(self) -> None:
        self.now = time.monotonic()
        self.jobs = 0  # that threads are doing for the loop
        self._real = selectors.DefaultSelector()
        self._abroad: set[int] = set()  # connections to other machines

    def register(self, fileobj: Any, events: int, data: Any = None) -> selectors.SelectorKey:
        key = self._real.register(fileobj, events, data)
        if _leads_abroad(key.fd):
            self._abroad.add(key.fd)
        return key

    def unregister(self, fileobj: Any) -> selectors.SelectorKey:
        key = self._real.unregister(fileobj)
        self._abroad.discard(key.fd)
        return key

    def modify(self, fileobj: Any, events: int, data: Any = None) -> selectors.SelectorKey:
        return self._real.modify(fileobj, events, data)

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        """Return what is ready; if nothing is, let the time jump to the next timer."""
        ready = self._real.select(0)
        if ready or timeout == 0:
            return ready
        if timeout is None or self.jobs or self._abroad:
            return self._wait(timeout)
        os.sched_yield()  # what was just sent to this machine may arrive a moment later
        ready = self._real.select(0)
        if not ready:
            self.now += max(timeout, 1e-6)
        return ready

    def _wait(self, timeout: float | None) -> list[tuple[selectors.SelectorKey, int]]:
        began = time.monotonic()
        ready = self._real.select(timeout)
        self.now += time.monotonic() - began
        return ready

    def close(self) -> None:
        self._real.close()

    def get_map(self) -> Mapping[Any, selectors.SelectorKey]:
        return self._real.get_map()


def _leads_abroad(descriptor: int) -> bool:
    """Return whether a socket is connected to, or connecting to, another machine."""
    with contextlib.suppress(OSError, ValueError):
        connection = socket.socket(fileno=os.dup(descriptor))
        with connection:
            if connection.family not in {socket.AF_INET, socket.AF_INET6}:
                return False
            if connection.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
                return False
            return not ipaddress.ip_address(connection.getpeername()[0]).is_loopback
    return False
