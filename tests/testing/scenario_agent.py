"""An agent for scenarios: it books a table when its caller has spoken. How well, its argument says."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import sys
from typing import Any

from websockets.asyncio.server import serve

from bluejay_ws import current_recorder, record, record_tool
from bluejay_ws.testing.audio import frames, tone

MANNER = sys.argv[1] if len(sys.argv) > 1 else "good"
VOICE = tone(600)


@record_tool
async def book_table(people: int) -> dict[str, Any]:
    """Book a table."""
    if MANNER == "failing":
        raise TimeoutError("the booking service did not answer")
    return {"booked": True, "people": people}


async def speak(websocket: Any, text: str) -> None:
    """Say something, in real time."""
    current_recorder().agent_said(text)
    for frame in frames(VOICE):
        await websocket.send(frame)
        await asyncio.sleep(0.02)


@record
async def agent(websocket: Any) -> None:
    """Greet, then answer each utterance."""
    if MANNER == "dying":
        print("no memory is left", flush=True)  # noqa: T201
        os._exit(3)
    await speak(websocket, "Da Mario, good evening.")
    async for message in websocket:
        if isinstance(message, str) and json.loads(message)["type"] == "speech.completed":
            await answer(websocket)


async def answer(websocket: Any) -> None:
    """Book, and say so."""
    current_recorder().user_said("A table for four, please.")
    await asyncio.sleep(2.5 if MANNER == "slow" else 0.3)  # the event comes a little early: the caller is heard out
    if MANNER != "forgetful":
        with contextlib.suppress(TimeoutError):
            await book_table(people=4)
    await speak(websocket, "It is booked.")


async def unrecorded(websocket: Any) -> None:
    """Take calls of which nothing is recorded."""
    async for _ in websocket:
        pass


async def main() -> None:
    """Serve until stopped."""
    async with serve(agent, "127.0.0.1", int(os.environ.get("PORT", "0"))):
        await asyncio.Future()


if __name__ == "__main__":
    asyncio.run(main())
