"""An agent in a Sanic application, on Sanic's own server: `@record` below the route.

    pip install bluejay_ws sanic
    python examples/sanic_agent.py 8765
    bluejay-ws call ws://localhost:8765/agent --platform      (in another terminal)

What is not delivered when the server goes is in the spool, and leaves at the next start.
"""

import json
import socket
import sys
from typing import Any

from sanic import Sanic

from bluejay_ws import Bluejay, current_recorder, record, record_tool  # <--

app: Any = Sanic("agent")
TONE = bytes(range(256)) * 25  # 200 ms of something to hear


@record_tool  # <--
async def table(guests: int) -> str:
    """Reserve a table."""
    return f"A table for {guests} is yours."


@app.websocket("/agent")
@record  # <--
async def agent(_: Any, websocket: Any) -> None:
    """Answer each utterance of one caller."""
    async for message in websocket:
        if isinstance(message, str) and json.loads(message)["type"] == "speech.completed":
            current_recorder().agent_said(await table(2))  # <--
            await websocket.send(TONE)


@app.after_server_stop
async def deliver(_: Any) -> None:
    """Wait for the last reports."""
    await Bluejay.default().aflush()  # <--


if __name__ == "__main__":
    listener = socket.create_server(("127.0.0.1", int(sys.argv[1])))
    print(f"listening on port {listener.getsockname()[1]}", flush=True)
    app.run(sock=listener, single_process=True, motd=False, access_log=False)
