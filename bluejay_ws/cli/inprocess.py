"""An agent that runs in this process, named as ``module:object``; so its calls can be made in virtual time."""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bluejay_ws import client
from bluejay_ws.cli.terminal import Problem, temporary_directory
from bluejay_ws.testing.hosting import FORMS, HostingError, serving
from bluejay_ws.testing.virtual_time import VirtualTimeLoop, own_time

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator, Mapping


@contextlib.contextmanager
def hosted(variables: Mapping[str, str], *, virtual: bool) -> Iterator[asyncio.Runner]:
    """Give the event loop for an agent of this process, with the environment and the clock that it is to have.

    The variables, and a spool of its own, are taken back at the end. With ``virtual`` the loop's time jumps, and every
    client that the agent makes takes its times from it.
    """
    before = dict(os.environ)
    default, seam = client._default, client.Bluejay._seam  # noqa: SLF001 - put back at the end
    with (
        temporary_directory() as spool,
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
    """Import an agent and serve it on a free port; give its URL. Modules of the working directory are found.

    Raises:
        Problem: it cannot be imported or served.
    """
    agent, loop = _found(name), asyncio.get_running_loop()
    clocks = own_time(loop, Path.cwd()) if isinstance(loop, VirtualTimeLoop) else contextlib.nullcontext()
    try:
        with clocks:
            async with serving(agent) as url:
                yield url
    except HostingError as error:
        raise Problem(f"{name!r} {error.reason}", error.remedy, exit_code=2) from None


def _found(name: str) -> Any:
    module, colon, path = name.partition(":")
    if not (module and colon and path):
        raise Problem(f"--app is {name!r}", f"give module:object, such as agent:handler: {FORMS}", exit_code=2)
    if (here := str(Path.cwd())) not in sys.path:  # as `python -m` does
        sys.path.insert(0, here)
    try:
        found: Any = importlib.import_module(module)
    except (Exception, SystemExit) as error:
        runs = isinstance(error, RuntimeError | SystemExit)
        remedy = 'if it runs something, put that below: if __name__ == "__main__":' if runs else ""
        raise Problem(f"cannot import {module!r}: {type(error).__name__}: {error}", remedy, exit_code=2) from error
    for part in path.split("."):
        if not hasattr(found, part):
            raise Problem(f"{module!r} has no {path!r}", f"give {FORMS}", exit_code=2)
        found = getattr(found, part)
    return found
