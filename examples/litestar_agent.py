"""An agent in a Litestar application: one websocket handler, under `@record`.

    pip install bluejay_ws litestar uvicorn
    python examples/litestar_agent.py 8765
    bluejay-ws call ws://localhost:8765/agent --platform      (in another terminal)

The middleware is there for the shutdown: it waits for the last reports before the server goes.
"""

import json
import socket
import sys
from typing import Any

import uvicorn
from litestar import Litestar, WebSocket
from litestar.handlers import websocket

from bluejay_ws import current_recorder, record, record_tool  # <--
from bluejay_ws.servers.asgi import BluejayMiddleware  # <--

TONE = bytes(range(256)) * 25  # 200 ms of something to hear


@record_tool  # <--
async def table(guests: int) -> str:
    """Reserve a table."""
    return f"A table for {guests} is yours."


@websocket("/agent")
@record  # <--
async def agent(socket: WebSocket[Any, Any, Any]) -> None:
    """Answer each utterance of one caller."""
    await socket.accept()
    while (message := await socket.receive())["type"] == "websocket.receive":
        if message.get("text") and json.loads(message["text"])["type"] == "speech.completed":
            current_recorder().agent_said(await table(2))  # <--
            await socket.send_bytes(TONE)


app = BluejayMiddleware(Litestar([agent], logging_config=None))  # <--

if __name__ == "__main__":
    listener = socket.create_server(("127.0.0.1", int(sys.argv[1])))
    print(f"listening on port {listener.getsockname()[1]}", flush=True)
    uvicorn.Server(uvicorn.Config(app, log_level="warning")).run(sockets=[listener])
