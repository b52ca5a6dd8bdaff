"""The other end, in a process of its own: ``python -m benchmarks.peer KIND ...``.

It is told what to do on its standard input, a line at a time, and answers a line when that is done.
"""

from __future__ import annotations

import asyncio
import contextlib
import subprocess
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING

from websockets.asyncio.client import connect

from bluejay_ws.testing.platform import FakePlatform

if TYPE_CHECKING:
    from collections.abc import Iterator

    from websockets.asyncio.client import ClientConnection

__all__ = ["Peer", "peer"]

FRAME = bytes(640)
ID_HEADER = "X-Simulation-Result-Id"


class Peer:
    """A peer process, seen from the benchmark."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process

    def ask(self, *words: object) -> str:
        """Send a command and return the answer; blocks."""
        assert self._process.stdin is not None
        print(*words, file=self._process.stdin, flush=True)
        return self.answer()

    def answer(self) -> str:
        """Return the next line."""
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        assert line, "the peer process ended"
        return line.strip()


@contextmanager
def peer(kind: str, *words: object) -> Iterator[Peer]:
    """Run a peer process for the length of the block."""
    command = [sys.executable, "-m", "benchmarks.peer", kind, *map(str, words)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield Peer(process)
        finally:
            process.terminate()


def _platform() -> None:
    with FakePlatform() as platform:
        print(platform.url, platform.api_key, flush=True)
        for line in sys.stdin:
            accepted = platform.accepted
            times = [one.received_at for one in accepted] if line.strip() == "times" else []
            print(*(f"{at:.6f}" for at in (min(times), max(times))) if times else (len(accepted),), flush=True)


class _Callers:
    """Websocket connections to one agent."""

    def __init__(self) -> None:
        self.connections: list[ClientConnection] = []

    async def open(self, url: str, count: int, prefix: str) -> None:
        for number in range(count):
            headers = {ID_HEADER: f"{prefix}-{number}"} if prefix != "-" else {}
            self.connections.append(
                await connect(url, additional_headers=headers, ping_interval=None, compression=None)
            )

    async def close(self) -> None:
        """Close all of them at once, without waiting for one another."""
        await asyncio.gather(*(one.close() for one in self.connections))
        self.connections.clear()

    async def echo(self, number: int) -> None:
        """Send a frame and wait for it to come back, ``number`` times."""
        (connection,) = self.connections
        for _ in range(number):
            await connection.send(FRAME)
            await connection.recv()


async def _callers() -> None:
    callers = _Callers()
    while line := await asyncio.to_thread(sys.stdin.readline):
        command, *words = line.split()
        if command == "open":
            await callers.open(words[0], int(words[1]), words[2])
        elif command == "echo":
            await callers.echo(int(words[0]))
        else:
            await callers.close()
        print("done", flush=True)


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        if sys.argv[1] == "platform":
            _platform()
        else:
            asyncio.run(_callers())
