"""An agent as a bare ASGI application, wrapped without being touched; any ASGI framework is wrapped the same way.

pip install 'bluejay_ws[asgi]' uvicorn
python examples/asgi_agent.py 8765
bluejay-ws call ws://localhost:8765 --platform      (in another terminal)
"""

from __future__ import annotations

import json
import socket
import sys
from typing import Any

import uvicorn

from bluejay_ws import current_recorder  # <--
from bluejay_ws.servers.asgi import BluejayMiddleware  # <--

TONE = bytes(range(256)) * 25  # 200 ms of something to hear


async def application(scope: Any, receive: Any, send: Any) -> None:
    """Serve the lifespan and the websockets of a server."""
    if scope["type"] == "lifespan":
        return await lifespan(receive, send)
    return await agent(receive, send)


async def lifespan(receive: Any, send: Any) -> None:
    """Start and stop with the server."""
    while True:
        message = await receive()
        await send({"type": f"{message['type']}.complete"})
        if message["type"] == "lifespan.shutdown":
            return


async def agent(receive: Any, send: Any) -> None:
    """Answer each utterance of one caller."""
    await receive()
    await send({"type": "websocket.accept"})
    while (message := await receive())["type"] == "websocket.receive":
        if message.get("text") and json.loads(message["text"])["type"] == "speech.completed":
            with current_recorder().tool_call("greet", {"politely": True}) as call:  # <--
                call.output = "Good day!"
            current_recorder().agent_said("Good day!")  # <--
            await send({"type": "websocket.send", "bytes": TONE})


app = BluejayMiddleware(application)  # <--

if __name__ == "__main__":
    listener = socket.create_server(("127.0.0.1", int(sys.argv[1])))
    print(f"listening on port {listener.getsockname()[1]}", flush=True)
    uvicorn.Server(uvicorn.Config(app, log_level="warning")).run(sockets=[listener])
