"""An agent in a FastAPI application: one websocket endpoint among others, under `@record`.

    pip install 'bluejay_ws[fastapi]' uvicorn
    python examples/fastapi_agent.py 8765
    bluejay-ws call ws://localhost:8765/agent/bank --platform      (in another terminal)

The middleware is there for the shutdown: it waits for the last reports before the server goes.
"""

from __future__ import annotations

import json
import socket
import sys
from typing import TYPE_CHECKING

import uvicorn
from fastapi import FastAPI, WebSocket

from bluejay_ws import current_recorder, record, record_tool  # <--
from bluejay_ws.servers.asgi import BluejayMiddleware  # <--

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

app = FastAPI()
app.add_middleware(BluejayMiddleware)  # <--

TONE = bytes(range(256)) * 25  # 200 ms of something to hear


@record_tool  # <--
async def opening_hours(branch: str) -> str:
    """Say when a branch is open."""
    return f"{branch}: nine to five"


@app.websocket("/agent/{branch}")
@record  # <--
async def agent(websocket: WebSocket, branch: str) -> None:
    """Answer each utterance of one caller."""
    await websocket.accept()
    async for text in messages(websocket):
        if json.loads(text)["type"] == "speech.completed":
            current_recorder().user_said("When are you open?")  # <--
            current_recorder().agent_said(await opening_hours(branch))  # <--
            await websocket.send_bytes(TONE)


async def messages(websocket: WebSocket) -> AsyncIterator[str]:
    """Yield the caller's text messages; audio would go to speech-to-text."""
    while (message := await websocket.receive())["type"] == "websocket.receive":
        if message.get("text"):
            yield message["text"]


@app.get("/health")
async def health() -> str:
    """Answer health checks; nothing of ours is near."""
    return "well"


if __name__ == "__main__":
    listener = socket.create_server(("127.0.0.1", int(sys.argv[1])))
    print(f"listening on port {listener.getsockname()[1]}", flush=True)
    uvicorn.Server(uvicorn.Config(app, log_level="warning")).run(sockets=[listener])
