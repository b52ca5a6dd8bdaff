"""Signals: a server with open sockets is told to end, and nothing of what it recorded may be lost."""

from __future__ import annotations

import asyncio
import importlib.util
import signal
import subprocess
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from benchmarks.reliability.crowd import Crowd
from benchmarks.reliability.stage import TELL_STACKS, Stage

if TYPE_CHECKING:
    from collections.abc import Mapping

    from benchmarks.reliability.account import Account

__all__ = ["SETUPS", "Setup", "run"]

TALKERS = 4  # of so many connections one is talking
TALK_SECONDS = 0.1
EXIT_SECONDS = 60.0


@dataclass(frozen=True)
class Setup:
    """A server and the signal it is sent.

    Args:
        name: for the table.
        command: words after ``python -m``.
        signal: to the process that was started.
        kills: whether that is the end at once, because nobody handles it.
        needs: modules without which it cannot run.
        nightly: whether it is left out of the suite.
    """

    name: str
    command: tuple[str, ...]
    signal: signal.Signals
    needs: tuple[str, ...] = ()
    nightly: bool = False
    kills: bool = False

    @property
    def missing(self) -> list[str]:
        """Return what would have to be installed."""
        return [name for name in self.needs if importlib.util.find_spec(name) is None]


_APP = "benchmarks.reliability.asgi:app"
_UVICORN = ("uvicorn", _APP, "--fd", "{fd}", "--log-level", "critical")
_HYPERCORN = ("hypercorn", _APP, "--bind", "fd://{fd}", "--graceful-timeout", "1")
_GUNICORN = ("gunicorn", _APP, "--bind", "fd://{fd}", "-k", "uvicorn_worker.UvicornWorker", "--log-level", "critical")


def _own(kind: str) -> tuple[str, ...]:
    return ("benchmarks.reliability.agents", kind, "{fd}")


SETUPS = (
    Setup("websockets, asyncio.run, SIGINT", _own("plain"), signal.SIGINT),
    Setup("websockets, asyncio.run, SIGTERM (kills)", _own("plain"), signal.SIGTERM, kills=True),
    Setup("websockets, add_signal_handler, SIGTERM", _own("handled"), signal.SIGTERM, nightly=True),
    Setup("websockets, uvloop, add_signal_handler, SIGTERM", _own("uvloop"), signal.SIGTERM, ("uvloop",)),
    Setup("websockets, trio, SIGINT", _own("trio"), signal.SIGINT, ("trio", "websockets.trio")),
    Setup("websockets, threads, SIGINT", _own("threads"), signal.SIGINT),
    Setup("websockets, threads, SIGTERM (kills)", _own("threads"), signal.SIGTERM, nightly=True, kills=True),
    Setup("aiohttp run_app, SIGTERM", _own("aiohttp"), signal.SIGTERM, ("aiohttp",)),
    Setup("aiohttp run_app, SIGINT", _own("aiohttp"), signal.SIGINT, ("aiohttp",), nightly=True),
    Setup("uvicorn, SIGTERM", _UVICORN, signal.SIGTERM, ("uvicorn",)),
    Setup("uvicorn, SIGINT", _UVICORN, signal.SIGINT, ("uvicorn",), nightly=True),
    Setup("uvicorn, 4 workers, SIGTERM", (*_UVICORN, "--workers", "4"), signal.SIGTERM, ("uvicorn",), nightly=True),
    Setup("hypercorn, SIGTERM", _HYPERCORN, signal.SIGTERM, ("hypercorn",)),
    Setup("hypercorn, SIGINT", _HYPERCORN, signal.SIGINT, ("hypercorn",), nightly=True),
    Setup(
        "gunicorn, uvicorn worker, --preload, SIGTERM",
        (*_GUNICORN, "--preload"),
        signal.SIGTERM,
        ("gunicorn", "uvicorn_worker"),
    ),
    Setup(
        "gunicorn, 4 uvicorn workers, --preload, SIGTERM",
        (*_GUNICORN, "--preload", "--workers", "4"),
        signal.SIGTERM,
        ("gunicorn", "uvicorn_worker"),
        nightly=True,
    ),
)


def run(setup: Setup, calls: int, options: Mapping[str, Any] | None = None) -> Account:
    """Open so many calls, a quarter of which talk; send the signal; start anew; return the account.

    Args:
        setup: which server, and how it is told to end.
        calls: how many sockets are open.
        options: of the library.
    """
    with Stage(options) as stage:
        process = stage.start(*setup.command)
        ended = asyncio.run(_until_the_end(stage, process, setup, calls))
        at_once = len(stage.platform.accepted)
        fresh = stage.next_start()
        account = stage.account()
        account.slowest = fresh
        account.at_once = at_once
        rest = "" if at_once == calls else ", the rest by the next start"
        account.notes.append(f"{at_once} of {calls} before it ended ({ended}){rest}")
        return account


async def _until_the_end(stage: Stage, process: subprocess.Popen[str], setup: Setup, calls: int) -> str:
    """Return how the process ended, and how long that took."""
    crowd = Crowd(stage.url)
    connections = await stage.in_time(crowd.open(f"call-{number}" for number in range(calls)))
    crowd.talk(connections[::TALKERS])
    await asyncio.sleep(TALK_SECONDS)
    process.send_signal(setup.signal)
    began = time.monotonic()
    try:
        code = await asyncio.to_thread(process.wait, EXIT_SECONDS)
    except subprocess.TimeoutExpired:
        process.send_signal(TELL_STACKS)
        await asyncio.sleep(1.0)
        raise RuntimeError(f"the process does not end; it says: {stage.output}") from None
    seconds = time.monotonic() - began
    await crowd.leave(connections)
    return f"exit {code} after {seconds:.1f} s"
