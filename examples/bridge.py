"""What the bridges to speech-to-speech providers share: a tool, sample rates, a server. Nothing concerns bluejay_ws."""

from __future__ import annotations

import array
import asyncio
import os
import signal
import sys
from typing import TYPE_CHECKING, Any

from websockets.asyncio.server import ServerConnection, serve

from bluejay_ws.testing.providers import FakeProvider, Turn

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

FRAME_BYTES = 640  # 20 ms of 16,000 Hz, 16 bit, mono
SCRIPT = (
    Turn("Hi, I lost my card.", says="I am sorry to hear that. Shall I freeze it?"),
    Turn("Yes, please.", says="Your card is frozen. Goodbye!", tool=("freeze_card", {"last4": "4242"})),
)
address = ""  # of the provider


async def freeze_card(last4: str) -> dict[str, str]:
    """Freeze a card, so that nobody can pay with it."""
    await asyncio.sleep(0.05)
    return {"last4": last4, "status": "frozen"}


def resampled(pcm: bytes, source: int, target: int) -> bytes:
    """Return audio at another rate; good enough for an example."""
    samples = array.array("h", pcm)
    count = len(samples) * target // source
    return array.array("h", (samples[index * source // target] for index in range(count))).tobytes()


async def play(websocket: ServerConnection, pcm: bytes) -> None:
    """Send audio to the caller, in frames."""
    for start in range(0, len(pcm), FRAME_BYTES):
        await websocket.send(pcm[start : start + FRAME_BYTES])


async def _serve(agent: Callable[[ServerConnection], Awaitable[Any]], provider: str, port: int) -> None:
    global address  # noqa: PLW0603 - one process, one provider
    stopped = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stopped.set)
    async with FakeProvider(provider, SCRIPT) as fake:
        address = os.environ.get("PROVIDER_URL") or fake.url
        async with serve(agent, "localhost", port) as server:
            print(f"listening on port {next(iter(server.sockets)).getsockname()[1]}", flush=True)
            await stopped.wait()


def run(agent: Callable[[ServerConnection], Awaitable[Any]], provider: str) -> None:
    """Serve until SIGTERM or Ctrl-C, on the port that the command line names."""
    asyncio.run(_serve(agent, provider, int(sys.argv[1])))
