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
(`loop.run_in_executor`, `asyncio.to_thread`) is real, so the clock continues with the real one until it is done. So it
does while the loop has an open connection to another machine: a provider that needs 300 ms is not cut short.
"""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import os
import selectors
import socket
import struct
import sys
import threading
import time
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

__all__ = ["VirtualTimeLoop", "own_time"]

COUNTED = sys.platform == "linux"  # the kernel says how many bytes a connection has sent and received
INFO_BYTES = 216
LOOKS = 1_000 if COUNTED else 1
"""So often at most is what is on its way looked for; a connection that was reset never has it."""
CLOCKS = ("time", "monotonic", "perf_counter")
BLIND_ROUNDS = 8
"""So many rounds of callbacks may run before the sockets are looked at again: each look is a system call."""


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

    async def shutdown_default_executor(self, *args: Any, **kwargs: Any) -> None:
        """Wait for the threads of jobs, in real time: newer Pythons set themselves a limit of minutes."""
        self._virtual.jobs += 1
        try:
            await super().shutdown_default_executor(*args, **kwargs)
        finally:
            self._virtual.jobs -= 1

    def _job_done(self, _future: object) -> None:
        self._virtual.jobs -= 1


class _JumpingSelector(selectors.BaseSelector):
    """Wait for nothing but what is really on its way."""

    def __init__(self) -> None:
        self.now = time.monotonic()
        self.jobs = 0  # that threads are doing for the loop
        self._real = selectors.DefaultSelector()
        self._abroad: set[int] = set()  # connections to other machines
        self._blind = 0  # rounds since the last look
        self._wire = _Wire()

    def register(self, fileobj: Any, events: int, data: Any = None) -> selectors.SelectorKey:
        key = self._real.register(fileobj, events, data)
        if _leads_abroad(key.fd):
            self._abroad.add(key.fd)
        self._wire.add(key.fd)
        return key

    def unregister(self, fileobj: Any) -> selectors.SelectorKey:
        key = self._real.unregister(fileobj)
        self._abroad.discard(key.fd)
        self._wire.remove(key.fd)
        return key

    def modify(self, fileobj: Any, events: int, data: Any = None) -> selectors.SelectorKey:
        return self._real.modify(fileobj, events, data)

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        """Return what is ready; if nothing is, let the time jump to the next timer."""
        if timeout == 0 and self._blind < BLIND_ROUNDS:
            self._blind += 1
            return []
        self._blind = 0
        ready = self._real.select(0)
        if ready or timeout == 0:
            return ready
        if timeout is None or self.jobs or self._abroad:
            return self._wait(timeout)
        for _ in range(LOOKS):
            if not self._wire.carries():
                break
            os.sched_yield()  # what was just sent arrives a moment later where the machine is busy
            if ready := self._real.select(0):
                return ready
        self.now += max(timeout, 1e-6)
        return []

    def _wait(self, timeout: float | None) -> list[tuple[selectors.SelectorKey, int]]:
        began = time.monotonic()
        ready = self._real.select(timeout)
        self.now += time.monotonic() - began
        return ready

    def close(self) -> None:
        self._real.close()
        self._wire.close()

    def get_map(self) -> Mapping[Any, selectors.SelectorKey]:
        return self._real.get_map()


class _Wire:
    """Know whether anything is on its way between connections of this process, from the kernel's own counts.

    Where the kernel does not count, and once after an end was closed, the answer is yes.
    """

    def __init__(self) -> None:
        self._ends: dict[int, socket.socket] = {}
        self._peers: dict[int, int] = {}
        self._unsure = True

    def add(self, descriptor: int) -> None:
        with contextlib.suppress(OSError, ValueError):
            end = socket.socket(fileno=os.dup(descriptor))
            if end.type == socket.SOCK_STREAM and end.family in {socket.AF_INET, socket.AF_INET6}:
                self._pair(descriptor, end)
            else:
                end.close()

    def _pair(self, descriptor: int, end: socket.socket) -> None:
        self._ends[descriptor] = end
        with contextlib.suppress(OSError):  # a listener has no peer
            both = end.getsockname(), end.getpeername()
            for other, known in self._ends.items():
                with contextlib.suppress(OSError):
                    if (known.getpeername(), known.getsockname()) == both:
                        self._peers[descriptor], self._peers[other] = other, descriptor

    def remove(self, descriptor: int) -> None:
        self._unsure = True
        end = self._ends.pop(descriptor, None)
        if end is not None:
            end.close()
            self._peers.pop(self._peers.pop(descriptor, -1), None)

    def carries(self) -> bool:
        unsure, self._unsure = self._unsure or not COUNTED, False
        if unsure:
            return True
        counts = {descriptor: _counts(self._ends[descriptor]) for descriptor in self._peers}
        return any(counts[descriptor][0] > counts[peer][1] for descriptor, peer in self._peers.items())

    def close(self) -> None:
        for end in self._ends.values():
            end.close()


def _counts(end: socket.socket) -> tuple[int, int]:
    """Return how many bytes have left and come, as Linux has them in its `struct tcp_info`."""
    info = end.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, INFO_BYTES)
    received, sent, again = (struct.unpack_from("<Q", info, offset)[0] for offset in (128, 200, 208))
    return sent - again, received


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


# -- the modules of an agent that ask `time` for it -----------------------------------------------------------------


@contextlib.contextmanager
def own_time(loop: VirtualTimeLoop, directory: Path) -> Iterator[None]:
    """Have each loaded module below a directory read the loop's time in the place of the machine's.

    ``time.time``, ``time.monotonic``, ``time.perf_counter`` and their ``_ns`` are replaced where the module imported
    `time` or these names; in other threads than this one they stay real. Installed packages are left alone.
    """
    there = ModuleType("time")
    vars(there).update(vars(time))
    replaced: dict[Any, Any] = {time: there}
    for name in CLOCKS:
        for clock, unit in ((name, 1.0), (f"{name}_ns", 1e9)):
            vars(there)[clock] = replaced[getattr(time, clock)] = _clock(getattr(time, clock), unit, loop)
    changed = [
        (module, name, value) for module, name, value in _names(directory) if any(value is one for one in replaced)
    ]
    for module, name, value in changed:
        setattr(module, name, replaced[value])
    try:
        yield
    finally:
        for module, name, value in changed:
            setattr(module, name, value)


def _clock(real: Callable[[], Any], unit: float, loop: VirtualTimeLoop) -> Callable[[], Any]:
    began, loop_began, thread, kind = real(), loop.time(), threading.get_ident(), type(real())

    def now() -> Any:
        if threading.get_ident() != thread:
            return real()
        return began + kind((loop.time() - loop_began) * unit)

    return now


def _names(directory: Path) -> Iterator[tuple[ModuleType, str, Any]]:
    below = str(directory).rstrip("/") + "/"
    for module in list(sys.modules.values()):
        path = str(getattr(module, "__file__", None))
        if path.startswith(below) and "/site-packages/" not in path:
            for name, value in list(vars(module).items()):
                yield module, name, value
