"""Callers that cost little, in a process of their own: ``python -m benchmarks.reliability.callers HOST PORT``.

Plain sockets, so that ten thousand of them fit beside what is measured. Commands on standard input, a line each:
``open COUNT PREFIX`` opens calls that are silent, ``close`` ends all of them at once, ``echo COUNT SECONDS PREFIX``
opens calls that send a frame each 20 ms and answers with the milliseconds until each came back.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import sys
import time

from benchmarks.agent import more_descriptors
from benchmarks.reliability.stage import ID_HEADER

__all__ = ["FRAME_SECONDS"]

FRAME_SECONDS = 0.02
_AUDIO = bytes(640)
_FRAME = b"\x82\xfe\x02\x80" + bytes(4) + _AUDIO  # masked with zeros
_ANSWER = len(b"\x82\x7e\x02\x80") + len(_AUDIO)
_CLOSE = b"\x88\x82" + bytes(4) + b"\x03\xe8"


def _request(identity: str) -> bytes:
    lines = ("GET / HTTP/1.1", "Host: agent", "Upgrade: websocket", "Connection: Upgrade", f"{ID_HEADER}: {identity}")
    more = ("Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==", "Sec-WebSocket-Version: 13", "", "")
    return "\r\n".join((*lines, *more)).encode()


def _open(address: tuple[str, int], identity: str) -> socket.socket:
    sock = socket.create_connection(address)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    sock.sendall(_request(identity))
    answer = b""
    while b"\r\n\r\n" not in answer:
        chunk = sock.recv(4096)
        if not chunk:
            raise ConnectionError(f"the agent hung up: {answer!r}")
        answer += chunk
    return sock


def _hang_up(sockets: list[socket.socket]) -> None:
    """Close all at once, each in order: close frame, the answer, the end of the connection; unless the agent dies."""
    for sock in sockets:
        with contextlib.suppress(OSError):
            sock.sendall(_CLOSE)
    for sock in sockets:
        with contextlib.suppress(OSError):
            while sock.recv(4096):
                pass
        sock.close()


async def _talk(address: tuple[str, int], identity: str, end: float, found: list[tuple[float, float]]) -> None:
    """Note for each frame when it left and how many milliseconds later it was back."""
    reader, writer = await asyncio.open_connection(*address)
    writer.write(_request(identity))
    await reader.readuntil(b"\r\n\r\n")
    due = time.monotonic()
    while due < end:
        await asyncio.sleep(max(0.0, due - time.monotonic()))
        left = time.monotonic()
        writer.write(_FRAME)
        await reader.readexactly(_ANSWER)
        found.append((left, (time.monotonic() - left) * 1e3))
        due = max(due + FRAME_SECONDS, time.monotonic())
    writer.write(_CLOSE)
    await reader.read()
    writer.close()


async def _echo(address: tuple[str, int], count: int, seconds: float, prefix: str) -> list[tuple[float, float]]:
    found: list[tuple[float, float]] = []
    end = time.monotonic() + seconds
    await asyncio.gather(*(_talk(address, f"{prefix}-{number}", end, found) for number in range(count)))
    return found


def _main(address: tuple[str, int]) -> None:
    more_descriptors()
    sockets: list[socket.socket] = []
    for line in sys.stdin:
        command, *words = line.split()
        if command == "open":
            sockets += [_open(address, f"{words[1]}-{number}") for number in range(int(words[0]))]
            print(len(sockets), flush=True)
        elif command == "close":
            _hang_up(sockets)
            print("done", flush=True)
        else:
            found = asyncio.run(_echo(address, int(words[0]), float(words[1]), words[2]))
            print(json.dumps(found), flush=True)


if __name__ == "__main__":
    _main((sys.argv[1], int(sys.argv[2])))
