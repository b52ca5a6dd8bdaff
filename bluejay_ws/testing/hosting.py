"""Serve an agent on the running event loop: a `websockets` handler, an ASGI application, or one of aiohttp."""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import socket
from typing import TYPE_CHECKING, Any

from websockets.asyncio.server import serve

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

HERE = "127.0.0.1"
STOP_SECONDS = 5
STARTUP_FAILED = 3  # the code with which uvicorn leaves when the lifespan failed
FORMS = "a handler of websockets under @record, an ASGI application (FastAPI, Starlette) or an aiohttp Application"


class HostingError(TypeError):
    """An agent cannot be served: why, as the rest of a sentence about it, and what to do."""

    def __init__(self, reason: str, remedy: str) -> None:
        super().__init__(f"the agent {reason}; {remedy}")
        self.reason = reason
        self.remedy = remedy


def is_plain(agent: Any) -> bool:
    """Return whether this is a plain function with one parameter: a handler of `websockets.sync`."""
    return inspect.isfunction(agent) and not inspect.iscoroutinefunction(agent) and _parameters(agent) == 1


@contextlib.asynccontextmanager
async def serving(agent: Any) -> AsyncIterator[str]:
    """Serve an agent on a free port of this machine; give its URL.

    Raises:
        HostingError: it is nothing that can be served, or it does not start.
    """
    with socket.create_server((HERE, 0)) as listener:
        async with _server_for(agent, listener):
            yield f"ws://{HERE}:{listener.getsockname()[1]}"


def _server_for(agent: Any, listener: socket.socket) -> contextlib.AbstractAsyncContextManager[Any]:
    if hasattr(agent, "router") and hasattr(agent, "on_startup") and hasattr(agent, "make_handler"):
        return _on_aiohttp(agent, listener)
    takes = _parameters(agent)
    if takes == 3:  # scope, receive, send
        return _on_uvicorn(agent, listener)
    if takes == 1:
        return serve(agent, sock=listener, compression=None)
    raise HostingError("cannot be served", f"give {FORMS}")


def _parameters(agent: Any) -> int:
    try:
        return len(inspect.signature(agent).parameters)
    except (TypeError, ValueError):
        return 0


@contextlib.asynccontextmanager
async def _on_uvicorn(agent: Any, listener: socket.socket) -> AsyncIterator[None]:
    try:
        import uvicorn  # noqa: PLC0415 - the user's own
    except ImportError:
        raise HostingError("is an ASGI application, which needs uvicorn", "pip install uvicorn") from None
    server = uvicorn.Server(
        uvicorn.Config(agent, log_config=None, ws_per_message_deflate=False, timeout_graceful_shutdown=STOP_SECONDS)
    )
    server.capture_signals = contextlib.nullcontext  # type: ignore[method-assign, assignment] # Ctrl-C is for who serves

    async def run() -> None:
        try:
            await server.serve(sockets=[listener])
        except SystemExit as failed:
            if failed.code != STARTUP_FAILED:
                raise

    task = asyncio.create_task(run())
    while not server.started:
        if task.done():
            raise HostingError("did not start: its lifespan failed", "its log says why")
        await asyncio.sleep(0.01)
    try:
        yield
    finally:
        server.should_exit = True
        await task


@contextlib.asynccontextmanager
async def _on_aiohttp(agent: Any, listener: socket.socket) -> AsyncIterator[None]:
    from aiohttp import web  # noqa: PLC0415 - the agent has it

    if agent.frozen:
        reason = "has been served before, and aiohttp serves an Application on one event loop only"
        raise HostingError(reason, "make a new one for each call")
    runner = web.AppRunner(agent, shutdown_timeout=STOP_SECONDS)
    await runner.setup()
    try:
        await web.SockSite(runner, listener).start()
        yield
    finally:
        await runner.cleanup()
