"""Agents whose disk fails: ``python tests/delivery/disk_agent.py HOST PORT``.

Imports once, and forks an agent for each line of JSON on standard input; writes its exit code when it has ended. The
agent dials HOST:PORT, says who it is, and waits for a word: until then somebody may take hold of its system calls.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import json
import logging
import os
import resource
import socket
import ssl
import sys
from typing import Any

import httpx
from websockets.asyncio.client import connect
from websockets.asyncio.server import serve

import bluejay_ws.delivery.http
import bluejay_ws.servers.websockets  # noqa: F401 - both otherwise with the first call
from bluejay_ws import Bluejay, current_recorder, record
from bluejay_ws.settings import Retry

QUICK = Retry(first=0.02, ceiling=0.1, read_back=(0.02, 0.05, 0.1), resend_first=0.2)


class Lines(logging.Handler):
    """Keep what is logged: a handler that writes would have its own troubles with the disk."""

    def __init__(self) -> None:
        super().__init__()
        self.said: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.said.append(f"{record.levelname} {record.getMessage()}")


async def _talk(sock: socket.socket, client: Bluejay, calls: int) -> None:
    """Answer so many calls: every message in capitals, with a tool call and an event on the way."""
    over = asyncio.Event()
    ended = 0

    @record(client=client)
    async def agent(websocket: Any) -> None:
        recorder, number = current_recorder(), 0
        async for message in websocket:
            with recorder.event("Thinking"):
                recorder.add_tool_call(f"tool-{number}", parameters={"said": message}, output={"number": number})
            number += 1
            await websocket.send(message.upper())

    async def handle(websocket: Any) -> None:
        nonlocal ended
        try:
            await agent(websocket)
        finally:
            ended += 1
            if ended == calls:
                over.set()

    async with serve(handle, sock=sock, compression=None, ping_interval=None):
        await over.wait()


def _agent(address: tuple[str, int], order: dict[str, Any]) -> None:
    lines = Lines()
    logging.getLogger("bluejay_ws").addHandler(lines)
    logging.getLogger("bluejay_ws").setLevel(logging.INFO)
    logging.getLogger("bluejay_ws").propagate = False
    sock = socket.create_server(("127.0.0.1", 0))
    with socket.create_connection(address) as control, control.makefile("rw") as say:
        print(json.dumps({"pid": os.getpid(), "port": sock.getsockname()[1]}), file=say, flush=True)
        say.readline()
        if order.get("file_size") is not None:
            resource.setrlimit(resource.RLIMIT_FSIZE, (order["file_size"], resource.RLIM_INFINITY))
        options = {"spool": order["spool"], "retry": QUICK, "redial_wait": 0.0, "flush_timeout": order["flush_timeout"]}
        client = Bluejay("test-key", base_url=order["url"], **options)
        asyncio.run(_talk(sock, client, order["calls"]))
        client.close()
        print(json.dumps({"stats": client.stats(), "lines": lines.said}), file=say, flush=True)


async def _warm_up() -> None:
    """Have everything imported that a call needs: from then on, the files that are opened are the spool's."""

    async def echo(websocket: Any) -> None:
        async for message in websocket:
            await websocket.send(message)

    async with serve(echo, "127.0.0.1", 0, compression=None) as server:
        port = server.sockets[0].getsockname()[1]
        async with connect(f"ws://127.0.0.1:{port}", compression=None) as websocket:
            await websocket.send("x")
            await websocket.recv()
    with httpx.Client(verify=ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)) as client, contextlib.suppress(httpx.HTTPError):
        client.post("http://127.0.0.1:1/", content=b"{}")


def _main(address: tuple[str, int]) -> None:
    asyncio.run(_warm_up())
    gc.collect()
    gc.freeze()  # else each agent looks through all that was imported, which copies it
    for line in sys.stdin:
        pid = os.fork()
        if pid == 0:
            _agent(address, json.loads(line))
            sys.exit()  # in order: what the library does at the end of a process is part of the run
        sys.stdout.write(f"{os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])}\n")
        sys.stdout.flush()


if __name__ == "__main__":
    _main((sys.argv[1], int(sys.argv[2])))
