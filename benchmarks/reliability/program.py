"""A process without a server that records calls and ends: ``python -m benchmarks.reliability.program``.

``... ENDING CALLS``: opens so many calls, ends all but one, and lets the interpreter end by ``ENDING``.
``... CHILD CALLS``: the same with a child in the middle, made with reports on their way and calls going on.
"""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import sys
import threading
import time
from typing import TYPE_CHECKING, Any

from benchmarks.reliability.ledger import Notebook
from benchmarks.reliability.stage import ID_HEADER, bluejay_from_environment, ledger_from_environment

if TYPE_CHECKING:
    from collections.abc import Callable

    from bluejay_ws import Bluejay
    from bluejay_ws.call import CallContext

__all__ = ["CHILDREN", "ENDINGS", "FLUSH_TIMEOUT"]

FLUSH_TIMEOUT = 1.0
IN_FLIGHT = 0.1  # seconds after which the first reports are on their way


class _Calls:
    """Calls that go on."""

    def __init__(self, client: Bluejay, names: str, count: int) -> None:
        self._ledger = ledger_from_environment()
        self._contexts: list[CallContext] = [client.call({ID_HEADER: f"{names}-{number}"}) for number in range(count)]
        self._books = [Notebook(self._ledger, context.__enter__()) for context in self._contexts]
        self.record(3)

    def record(self, steps: int) -> None:
        """Record so many steps in each."""
        for book in self._books:
            book.steps(steps)

    def end(self, *, but: int = 0) -> None:
        """End all but so many."""
        while len(self._contexts) > but:
            self._contexts.pop().__exit__(None, None, None)
            self._books.pop()


# -- ways to end ----------------------------------------------------------------------------------------------


def falls_off(calls: _Calls) -> None:
    """Come to the end of the program with a call still open."""
    calls.end(but=1)


def sys_exit(calls: _Calls) -> None:
    """Leave by ``sys.exit``."""
    calls.end(but=1)
    sys.exit(3)


def raises(calls: _Calls) -> None:
    """Leave by an exception that nobody catches."""
    calls.end(but=1)
    raise RuntimeError("the agent's own trouble")


def loop_ends(calls: _Calls) -> None:
    """Record in a task that is cancelled when ``asyncio.run`` ends."""

    async def main() -> None:
        async def work() -> None:
            try:
                while True:
                    calls.record(1)
                    await asyncio.sleep(0.005)
            finally:
                calls.end()

        working = asyncio.create_task(work())
        await asyncio.sleep(0.05)
        assert not working.done()

    asyncio.run(main())


def thread_records_on(calls: _Calls) -> None:
    """Leave a daemon thread behind that records until the very end."""

    def work() -> None:
        while True:
            calls.record(1)
            time.sleep(0.001)

    threading.Thread(target=work, daemon=True).start()
    time.sleep(0.05)


def hard_exit(calls: _Calls) -> None:
    """Leave by ``os._exit``, which asks nobody."""
    calls.end(but=1)
    _say_end()
    os._exit(0)


ENDINGS: dict[str, Callable[[_Calls], None]] = {
    ending.__name__.replace("_", "-"): ending
    for ending in (falls_off, sys_exit, raises, loop_ends, thread_records_on, hard_exit)
}


# -- children -------------------------------------------------------------------------------------------------

_client: Bluejay | None = None
_inherited: _Calls | None = None


def _child(client: Bluejay, name: str) -> None:
    """Do what a worker does: record calls of its own, and what was open in the parent at the fork is not its own."""
    if _inherited is not None:
        _inherited.record(2)
    calls = _Calls(client, name, 3)
    calls.record(2)
    calls.end(but=1)


def _forked() -> None:
    """A plain fork whose child ends like any program."""
    pid = os.fork()
    if pid == 0:
        _child(_its_client(), f"child{os.getpid()}")
        sys.exit(0)
    _wait_for(pid)


def _forked_hard() -> None:
    """A plain fork whose child leaves by ``os._exit``, as many servers' children do."""
    pid = os.fork()
    if pid == 0:
        _child(_its_client(), f"child{os.getpid()}")
        os._exit(0)
    _wait_for(pid)


def _context(method: str) -> Any:
    return multiprocessing.get_context(method)


def _multiprocessing(method: str) -> None:
    process = _context(method).Process(target=_in_pool, args=(f"child-{method}",))
    process.start()
    process.join()


def _pool() -> None:
    with multiprocessing.get_context("fork").Pool(2) as pool:
        pool.map(_in_pool, [f"pool{number}" for number in range(4)])
        pool.close()
        pool.join()


def _in_pool(name: str) -> None:
    client = _client if _client is not None else bluejay_from_environment()
    _child(client, name)
    client.close(5.0)


def _its_client() -> Bluejay:
    assert _client is not None
    return _client


def _wait_for(pid: int) -> None:
    os.waitpid(pid, 0)


CHILDREN: dict[str, Callable[[], None]] = {
    "fork": _forked,
    "fork, os._exit": _forked_hard,
    "multiprocessing fork": lambda: _multiprocessing("fork"),
    "multiprocessing forkserver": lambda: _multiprocessing("forkserver"),
    "multiprocessing spawn": lambda: _multiprocessing("spawn"),
    "multiprocessing pool": _pool,
}


def _main(ending: str, count: int) -> None:
    global _client, _inherited  # noqa: PLW0603 - what a child of a fork finds
    _client = bluejay_from_environment()
    if ending in ENDINGS:
        try:
            ENDINGS[ending](_Calls(_client, "call", count))
        finally:
            _say_end()
    else:
        _Calls(_client, "ended", count).end()
        _inherited = _Calls(_client, "open", count)
        time.sleep(IN_FLIGHT)
        CHILDREN[ending]()
        _inherited.record(1)
        _inherited.end()


def _say_end() -> None:
    """Tell whoever measures how long the end takes."""
    print("end", flush=True)


if __name__ == "__main__":
    _main(sys.argv[1], int(sys.argv[2]))
