"""An agent that is killed again and again: ``python -m benchmarks.reliability.nursery FD``.

Importing takes longer than many a life should last, so one process imports and forks an agent for each line it reads;
the agent is as fresh as if it had been started by hand: its client is made after the fork.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import random
import socket
import ssl
import sys
from typing import TYPE_CHECKING, Any

import httpx
from websockets.asyncio.server import serve

from benchmarks.reliability.ledger import Notebook
from benchmarks.reliability.stage import bluejay_from_environment, ledger_from_environment
from bluejay_ws import current_recorder, record

if TYPE_CHECKING:
    from bluejay_ws import Bluejay

__all__ = ["LONGEST"]

LONGEST = 0.15
"""Seconds that a call lasts at the most."""


async def _live(sock: socket.socket, client: Bluejay) -> None:
    """Serve calls that record at their own pace, for a random time each, and end by themselves."""
    ledger = ledger_from_environment()

    @record(client=client)
    async def agent(websocket: Any) -> None:
        notebook = Notebook(ledger, current_recorder())
        loop = asyncio.get_running_loop()
        end = loop.time() + random.uniform(0.0, LONGEST)
        while loop.time() < end:
            notebook.steps(random.randint(1, 5))
            await websocket.send(b"\0\0")
            await asyncio.sleep(random.uniform(0.0, 0.01))

    async with serve(agent, sock=sock, compression=None, ping_interval=None):
        await asyncio.get_running_loop().create_future()


def _warm_up() -> None:
    """Have imported what delivery needs, so that the first report leaves before the next kill."""
    with httpx.Client(verify=ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)) as client, contextlib.suppress(httpx.HTTPError):
        client.post("http://127.0.0.1:1/", content=b"{}")


def _agent(fd: int) -> None:
    sock = socket.socket(fileno=os.dup(fd))
    asyncio.run(_live(sock, bluejay_from_environment()))


def _main(fd: int) -> None:
    _warm_up()
    gc.collect()
    gc.freeze()  # else each agent looks through all that was imported, which copies it
    for _ in sys.stdin:
        pid = os.fork()
        if pid == 0:
            _agent(fd)
            os._exit(1)
        print(pid, flush=True)
        os.waitpid(pid, 0)
        print("gone", flush=True)


if __name__ == "__main__":
    _main(int(sys.argv[1]))
