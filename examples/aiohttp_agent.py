"""An agent in an aiohttp application; `setup` records its websockets and delivers before the application is gone.

pip install 'bluejay_ws[aiohttp]'
python examples/aiohttp_agent.py 8765
bluejay-ws call ws://localhost:8765/agent --platform      (in another terminal)
"""

from __future__ import annotations

import json
import socket
import sys

from aiohttp import WSMsgType, web

from bluejay_ws import current_recorder, record_tool  # <--
from bluejay_ws.servers.aiohttp import setup  # <--

TONE = bytes(range(256)) * 25  # 200 ms of something to hear


@record_tool  # <--
def balance(account: str) -> int:
    """Look an account's balance up."""
    return len(account)


async def agent(request: web.Request) -> web.WebSocketResponse:
    """Answer each utterance of one caller."""
    websocket = web.WebSocketResponse()
    await websocket.prepare(request)
    async for message in websocket:
        if message.type is WSMsgType.TEXT and json.loads(message.data)["type"] == "speech.completed":
            current_recorder().agent_said(f"You have {balance('DE42')} euros.")  # <--
            await websocket.send_bytes(TONE)
    return websocket


app = web.Application()
app.router.add_get("/agent", agent)
setup(app)  # <--

if __name__ == "__main__":
    listener = socket.create_server(("127.0.0.1", int(sys.argv[1])))
    print(f"listening on port {listener.getsockname()[1]}", flush=True)
    web.run_app(app, sock=listener, print=None, shutdown_timeout=1)
