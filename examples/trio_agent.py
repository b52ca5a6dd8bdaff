"""An agent on trio, with the trio server of `websockets` (from its release 17 on).

pip install bluejay_ws trio
python examples/trio_agent.py 8765
bluejay-ws call ws://localhost:8765 --platform      (in another terminal)
"""

from __future__ import annotations

import functools
import json
import signal
import sys
from typing import Any

import trio
from websockets.trio.server import serve

from bluejay_ws import current_recorder, record, record_tool  # <--

TONE = bytes(range(256)) * 25  # 200 ms of something to hear


@record_tool  # <--
async def weather(city: str) -> str:
    """Say what the weather is like."""
    await trio.sleep(0.01)
    return f"sunny in {city}"


@record  # <--
async def agent(websocket: Any) -> None:
    """Answer each utterance of one caller."""
    async for message in websocket:
        if isinstance(message, str) and json.loads(message)["type"] == "speech.completed":
            current_recorder().agent_said(await weather("Lisbon"))  # <--
            await websocket.send(TONE)


async def main(port: int) -> None:
    """Serve until SIGTERM or Ctrl-C."""
    with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
        async with trio.open_nursery() as nursery:
            server = await nursery.start(functools.partial(serve, agent, port, host="localhost"))
            print(f"listening on port {server.listeners[0].socket.getsockname()[1]}", flush=True)
            async for _ in signals:
                nursery.cancel_scope.cancel()
                return


if __name__ == "__main__":
    trio.run(main, int(sys.argv[1]))
