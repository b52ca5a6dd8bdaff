"""What every run needs: a platform, a spool, a ledger, processes that know of them, and the start that follows."""

from __future__ import annotations

import asyncio
import faulthandler
import functools
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self, TypeVar

from benchmarks.reliability.account import Account, take_account
from benchmarks.reliability.ledger import Ledger, Notebook
from bluejay_ws import Bluejay, Retry
from bluejay_ws.testing.platform import FakePlatform

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

__all__ = ["ID_HEADER", "ROOT", "Stage", "bluejay_from_environment", "ledger_from_environment"]

ID_HEADER = "X-Simulation-Result-Id"
ROOT = Path(__file__).resolve().parent.parent.parent
LOOK = 0.01
TELL_STACKS = signal.SIGUSR1
"""An agent of a run that is sent this writes down where each of its threads stands."""
START_SECONDS = 45.0

T = TypeVar("T")

QUICK: dict[str, Any] = {"redial_wait": 0.1, "read_back": (0.1, 0.3, 0.8), "first": 0.05, "resend_first": 0.5}
"""Waits of the library, scaled down for runs that must be short."""


def make_bluejay(options: Mapping[str, Any], **more: Any) -> Bluejay:
    """Return a client with these options, those of `Retry` among them."""
    known = Retry.__dataclass_fields__
    given: dict[str, Any] = {key: value for key, value in options.items() if key in known}
    if "read_back" in given:
        given["read_back"] = tuple(given["read_back"])  # JSON made a list of it
    return Bluejay(**more, retry=Retry(**given), **{key: value for key, value in options.items() if key not in known})


def bluejay_from_environment() -> Bluejay:
    """Return the client of a process that a `Stage` has started, and let that process be asked where it stands."""
    faulthandler.register(TELL_STACKS)
    return make_bluejay(json.loads(os.environ["RELIABILITY_OPTIONS"]))


@functools.cache
def ledger_from_environment() -> Ledger:
    """Return the ledger of a process that a `Stage` has started."""
    return Ledger(os.environ["RELIABILITY_LEDGER"])


class Stage:
    """One run: enter it, start agents, break things, take account.

    Args:
        options: arguments of `Bluejay` and `Retry` for every process; default: the library's own.
    """

    popen: Callable[..., subprocess.Popen[str]] = staticmethod(functools.partial(subprocess.Popen, text=True))

    def __init__(self, options: Mapping[str, Any] | None = None) -> None:
        self.options = dict(options or {})
        self.platform = FakePlatform()
        self.directory = Path(tempfile.mkdtemp(prefix="bluejay_ws-"))
        self.spool = self.directory / "spool"
        self.ledger = Ledger(self.directory / "ledger")
        self.listener = socket.create_server(("127.0.0.1", 0), backlog=4096)
        self._processes: list[subprocess.Popen[str]] = []
        self._starts = 0

    def __enter__(self) -> Self:
        if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
            # So a shell starts what runs in the background, and processes inherit it: ours must hear the signal.
            signal.signal(signal.SIGINT, signal.default_int_handler)
        self.platform.start()
        return self

    def __exit__(self, *_: object) -> None:
        for process in self._processes:
            process.kill()
            process.communicate()
        self.platform.close()
        self.listener.close()
        self.ledger.close()
        shutil.rmtree(self.directory, ignore_errors=True)

    @property
    def url(self) -> str:
        """Return where the agents are dialled: their listening socket is ours, so nobody need wait for them."""
        return f"ws://127.0.0.1:{self.listener.getsockname()[1]}"

    @property
    def environment(self) -> dict[str, str]:
        """Return the environment of a process of this run."""
        return os.environ | {
            "BLUEJAY_API_KEY": self.platform.api_key,
            "BLUEJAY_API_URL": self.platform.url,
            "BLUEJAY_SPOOL": str(self.spool),
            "RELIABILITY_OPTIONS": json.dumps(self.options),
            "RELIABILITY_LEDGER": str(self.ledger.path),
            "PYTHONPATH": str(ROOT),
            "no_proxy": "*",
        }

    def start(self, module: str, *words: object) -> subprocess.Popen[str]:
        """Start ``python -m module``; ``{fd}`` among the words becomes the listening socket's number.

        What it says goes to the file ``output`` of this run, so that a full pipe never stops it.
        """
        fd = self.listener.fileno()
        command = [sys.executable, "-m", module, *(str(word).replace("{fd}", str(fd)) for word in words)]
        with (self.directory / "output").open("a") as output:
            process = self.popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=output,
                pass_fds=[fd],
                cwd=ROOT,
                env=self.environment,
            )
        self._processes.append(process)
        return process

    @property
    def output(self) -> str:
        """Return what the processes said, for whoever has to find out."""
        return (self.directory / "output").read_text("utf-8", "replace")[-4000:]

    async def in_time(self, work: Awaitable[T]) -> T:
        """Return what this comes to; where that takes too long, say what the processes said.

        Raises:
            RuntimeError: with their output.
        """
        try:
            return await asyncio.wait_for(work, START_SECONDS)
        except TimeoutError:
            raise RuntimeError(f"the agent does not answer; it said: {self.output}") from None

    def missing(self) -> set[str]:
        """Return the ids of calls that were opened, and whose report the platform has not accepted."""
        return set(self.ledger.counts()) - {one.simulation_result_id for one in self.platform.accepted}

    def wait_until_delivered(self, seconds: float) -> bool:
        """Wait so long at most for every call; return whether all have been delivered."""
        until = time.monotonic() + seconds
        while self.missing():
            if time.monotonic() > until:
                return False
            time.sleep(LOOK)
        return True

    def next_start(self, seconds: float = 30.0) -> float:
        """Start anew on the same spool, as the next process would, with one fresh call; return its seconds to delivery.

        Waits until everything that was left is delivered too, at the most so long.
        """
        self._starts += 1
        identity = f"fresh-{self._starts}"
        client = make_bluejay(self.options, api_key=self.platform.api_key, base_url=self.platform.url, spool=self.spool)
        try:
            with client.call({ID_HEADER: identity}) as recorder:
                Notebook(self.ledger, recorder).steps(2)
            ended = time.monotonic()
            self.wait_until_delivered(seconds)
        finally:
            client.close()
        return self.seconds_to(identity, ended)

    def seconds_to(self, identity: str, since: float) -> float:
        """Return the seconds until a call was accepted; infinite if it was not."""
        reports = self.platform.reports_for(identity)
        return reports[0].received_at - since if reports else float("inf")

    def account(self, *, runs: int = 1) -> Account:
        """Return what came of every call that was opened."""
        return take_account(self.ledger.counts(), self.platform.accepted, self.spool, runs=runs)
