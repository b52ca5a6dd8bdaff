"""An agent in a Quart application: the middleware records all its websockets.

pip install bluejay_ws quart uvicorn
python examples/quart_agent.py 8765
bluejay-ws call ws://localhost:8765/agent --platform      (in another terminal)
"""

import json
import socket
import sys
from typing import Any

import uvicorn
from quart import Quart, websocket

from bluejay_ws import current_recorder, record_tool  # <--
from bluejay_ws.servers.asgi import BluejayMiddleware  # <--

app: Any = Quart(__name__)
app.asgi_app = BluejayMiddleware(app.asgi_app)  # <--

TONE = bytes(range(256)) * 25  # 200 ms of something to hear


@record_tool  # <--
async def table(guests: int) -> str:
    """Reserve a table."""
    return f"A table for {guests} is yours."


@app.websocket("/agent")
async def agent() -> None:
    """Answer each utterance of one caller."""
    while True:
        message = await websocket.receive()
        if isinstance(message, str) and json.loads(message)["type"] == "speech.completed":
            current_recorder().agent_said(await table(2))  # <--
            await websocket.send(TONE)


if __name__ == "__main__":
    listener = socket.create_server(("127.0.0.1", int(sys.argv[1])))
    print(f"listening on port {listener.getsockname()[1]}", flush=True)
    uvicorn.Server(uvicorn.Config(app, log_level="warning")).run(sockets=[listener])
