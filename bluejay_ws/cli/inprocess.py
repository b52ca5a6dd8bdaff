"""An agent that runs in this process, named as ``module:object``; so its calls can be made in virtual time."""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import inspect
import os
import socket
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from websockets.asyncio.server import serve

from bluejay_ws import client
from bluejay_ws.cli.terminal import Problem
from bluejay_ws.testing.own_time import own_time
from bluejay_ws.testing.virtual_time import VirtualTimeLoop

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator, Mapping

__all__ = ["hosted", "served"]

HERE = "127.0.0.1"
STOP_SECONDS = 5
STARTUP_FAILED = 3  # the code with which uvicorn leaves when the lifespan failed
FORMS = "a handler of websockets under @record, an ASGI application (FastAPI, Starlette) or an aiohttp Application"


@contextlib.contextmanager
def hosted(variables: Mapping[str, str], *, virtual: bool) -> Iterator[asyncio.Runner]:
    """Give the event loop for an agent of this process, with the environment and the clock that it is to have.

    Args:
        variables: for the agent, besides a spool of its own. They are taken back at the end.
        virtual: the loop's time jumps, and every client that the agent makes takes its times from it.
    """
    before = dict(os.environ)
    default, seam = client._default, client.Bluejay._seam  # noqa: SLF001 - put back at the end
    with (
        tempfile.TemporaryDirectory(prefix="bluejay-ws-", ignore_cleanup_errors=True) as spool,
        asyncio.Runner(loop_factory=VirtualTimeLoop if virtual else None) as runner,
    ):
        os.environ.update({**variables, "BLUEJAY_SPOOL": spool})
        loop = runner.get_loop()
        client._default = None  # noqa: SLF001 - made again, from this environment
        if isinstance(loop, VirtualTimeLoop):
            client.Bluejay._seam = client.Seam(clock=loop.clock_ns)  # noqa: SLF001
        try:
            yield runner
        finally:
            if client._default is not None:  # noqa: SLF001
                client._default.close()  # noqa: SLF001
            client._default, client.Bluejay._seam = default, seam  # noqa: SLF001
            os.environ.clear()
            os.environ.update(before)


@contextlib.asynccontextmanager
async def served(name: str) -> AsyncIterator[str]:
    """Import an agent and serve it on a free port; give its URL.

    Args:
        name: ``module:object``; modules of the working directory are found.

    Raises:
        Problem: it cannot be imported or served.
    """
    agent, loop = _found(name), asyncio.get_running_loop()
    clocks = own_time(loop, Path.cwd()) if isinstance(loop, VirtualTimeLoop) else contextlib.nullcontext()
    with clocks, socket.create_server((HERE, 0)) as listener:
        async with _server_for(agent, name, listener):
            yield f"ws://{HERE}:{listener.getsockname()[1]}"


def _found(name: str) -> Any:
    module, colon, path = name.partition(":")
    if not (module and colon and path):
        raise Problem(f"--app is {name!r}", f"give module:object, such as agent:handler: {FORMS}", exit_code=2)
    if (here := str(Path.cwd())) not in sys.path:  # as `python -m` does
        sys.path.insert(0, here)
    try:
        found: Any = importlib.import_module(module)
    except Exception as error:
        raise Problem(f"cannot import {module!r}: {type(error).__name__}: {error}", exit_code=2) from error
    for part in path.split("."):
        if not hasattr(found, part):
            raise Problem(f"{module!r} has no {path!r}", f"give {FORMS}", exit_code=2)
        found = getattr(found, part)
    return found


def _server_for(agent: Any, name: str, listener: socket.socket) -> contextlib.AbstractAsyncContextManager[Any]:
    if hasattr(agent, "router") and hasattr(agent, "on_startup") and hasattr(agent, "make_handler"):
        return _on_aiohttp(agent, listener)
    try:
        takes = len(inspect.signature(agent).parameters)
    except (TypeError, ValueError):
        takes = 0
    if takes == 3:  # scope, receive, send
        return _on_uvicorn(agent, listener)
    if takes == 1:
        return serve(agent, sock=listener, compression=None)
    raise Problem(f"{name!r} cannot be served", f"give {FORMS}", exit_code=2)


@contextlib.asynccontextmanager
async def _on_uvicorn(agent: Any, listener: socket.socket) -> AsyncIterator[None]:
    try:
        import uvicorn  # noqa: PLC0415 - the user's own
    except ImportError:
        raise Problem("an ASGI application needs uvicorn", "pip install uvicorn", exit_code=2) from None
    server = uvicorn.Server(
        uvicorn.Config(agent, log_config=None, ws_per_message_deflate=False, timeout_graceful_shutdown=STOP_SECONDS)
    )
    server.capture_signals = contextlib.nullcontext  # type: ignore[method-assign, assignment] # Ctrl-C is for this command

    async def serving() -> None:
        try:
            await server.serve(sockets=[listener])
        except SystemExit as failed:
            if failed.code != STARTUP_FAILED:
                raise

    task = asyncio.create_task(serving())
    while not server.started:
        if task.done():
            raise Problem("the agent did not start", "its lifespan failed", exit_code=2)
        await asyncio.sleep(0.01)
    try:
        yield
    finally:
        server.should_exit = True
        await task


@contextlib.asynccontextmanager
async def _on_aiohttp(agent: Any, listener: socket.socket) -> AsyncIterator[None]:
    from aiohttp import web  # noqa: PLC0415 - the agent has it

    runner = web.AppRunner(agent, shutdown_timeout=STOP_SECONDS)
    await runner.setup()
    try:
        await web.SockSite(runner, listener).start()
        yield
    finally:
        await runner.cleanup()
