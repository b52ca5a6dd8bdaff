"""An agent as a Django Channels consumer: `@record` above the class.

pip install bluejay_ws channels uvicorn
python examples/channels_agent.py 8765
bluejay-ws call ws://localhost:8765/agent --platform      (in another terminal)

The middleware is there for the shutdown: it waits for the last reports before the server goes.
"""

import json
import socket
import sys
from typing import Any

import uvicorn
from channels.generic.websocket import AsyncWebsocketConsumer
from channels.routing import ProtocolTypeRouter
from django.conf import settings

from bluejay_ws import current_recorder, record, record_tool  # <--
from bluejay_ws.servers.asgi import BluejayMiddleware  # <--

settings.configure()  # yours has a settings module
TONE = bytes(range(256)) * 25  # 200 ms of something to hear


@record_tool  # <--
async def table(guests: int) -> str:
    """Reserve a table."""
    return f"A table for {guests} is yours."


@record  # <--
class Agent(AsyncWebsocketConsumer):
    """Answers each utterance of one caller."""

    async def receive(self, text_data: str | None = None, **_: Any) -> None:
        """Answer when the caller has spoken."""
        if text_data and json.loads(text_data)["type"] == "speech.completed":
            current_recorder().agent_said(await table(2))  # <--
            await self.send(bytes_data=TONE)


app = BluejayMiddleware(ProtocolTypeRouter({"websocket": Agent.as_asgi()}))  # <--

if __name__ == "__main__":
    listener = socket.create_server(("127.0.0.1", int(sys.argv[1])))
    print(f"listening on port {listener.getsockname()[1]}", flush=True)
    uvicorn.Server(uvicorn.Config(app, log_level="warning")).run(sockets=[listener])
