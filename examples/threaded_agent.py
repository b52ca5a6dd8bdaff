"""An agent on the threaded server of `websockets`: one thread for each caller, no event loop.

python examples/threaded_agent.py 8765
bluejay-ws call ws://localhost:8765 --platform      (in another terminal)
"""

from __future__ import annotations

import json
import math
import signal
import struct
import sys
import threading
import time
from typing import TYPE_CHECKING

from websockets.sync.server import serve

from bluejay_ws import current_recorder, record, record_tool

if TYPE_CHECKING:
    from websockets.sync.server import ServerConnection

TONE = struct.pack("<320h", *(int(3_000 * math.sin(index * math.tau / 40)) for index in range(320)))  # 20 ms


@record_tool
def book_table(people: int, hour: int) -> dict[str, int | str]:
    """Book a table."""
    time.sleep(0.05)
    return {"table": people + hour, "state": "booked"}


@record
def agent(websocket: ServerConnection) -> None:
    """Answer each utterance of the caller."""
    recorder = current_recorder()
    with recorder.event("Greeting"):
        say(websocket, "Hello!")
    for message in websocket:
        if isinstance(message, str) and json.loads(message)["type"] == "speech.completed":
            recorder.user_said("A table for two at eight, please.")
            table = book_table(people=2, hour=8)
            say(websocket, f"Table {table['table']} is yours.")


def say(websocket: ServerConnection, text: str) -> None:
    """Send a sentence as audio."""
    current_recorder().agent_said(text)
    for _ in range(len(text) * 3):
        websocket.send(TONE)


def main(port: int) -> None:
    """Serve until SIGTERM or Ctrl-C."""
    with serve(agent, "localhost", port) as server:
        for number in (signal.SIGTERM, signal.SIGINT):
            # `shutdown` waits for the loop that this very thread runs, so another thread has to call it.
            signal.signal(number, lambda *_: threading.Thread(target=server.shutdown).start())
        print(f"listening on port {server.socket.getsockname()[1]}", flush=True)
        server.serve_forever()


if __name__ == "__main__":
    main(int(sys.argv[1]))
