"""The agent as an ASGI application, for servers that import it: ``uvicorn benchmarks.reliability.asgi:app``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from benchmarks.reliability.agents import FIRST_STEPS, READY
from benchmarks.reliability.ledger import Notebook
from benchmarks.reliability.stage import bluejay_from_environment, ledger_from_environment
from bluejay_ws import current_recorder
from bluejay_ws.servers.asgi import BluejayMiddleware

if TYPE_CHECKING:
    from bluejay_ws.servers.asgi import Receive, Scope, Send

__all__ = ["app"]


async def _agent(scope: Scope, receive: Receive, send: Send) -> None:
    if scope["type"] == "lifespan":
        await _lifespan(receive, send)
    elif scope["type"] == "websocket":
        await receive()
        await send({"type": "websocket.accept"})
        await _talk(receive, send)


async def _talk(receive: Receive, send: Send) -> None:
    notebook = Notebook(_ledger, current_recorder())
    notebook.steps(FIRST_STEPS)
    await send({"type": "websocket.send", "bytes": READY})
    while (message := await receive())["type"] == "websocket.receive":
        notebook.steps(1)
        await send({"type": "websocket.send", "bytes": message["bytes"]})


async def _lifespan(receive: Receive, send: Send) -> None:
    for kind in ("startup", "shutdown"):
        await receive()
        await send({"type": f"lifespan.{kind}.complete"})


_ledger = ledger_from_environment()
app = BluejayMiddleware(_agent, client=bluejay_from_environment())
