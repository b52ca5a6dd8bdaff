"""A fleet on one machine: PostgreSQL, three agents without a key, two deliverers, and calls while pods are killed.

    python examples/fleet/run.py                      200 calls
    python examples/fleet/run.py --calls 2000 --pods 8 --kills 300

Each pod has a disk of its own, a directory. A pod that is killed (SIGKILL) loses it: the directory is deleted, and a
new pod takes its place. In the end comes the account: every call was delivered once, or the reason is counted.
PostgreSQL must be installed (``apt-get install postgresql``); nothing of it is left behind.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import itertools
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from websockets.asyncio.client import connect
from websockets.exceptions import WebSocketException

from bluejay_ws.delivery import postgres
from bluejay_ws.testing.platform import FakePlatform

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from fleet.database import Database

if TYPE_CHECKING:
    from collections.abc import Sequence

    from bluejay_ws.testing.platform import AcceptedReport

__all__ = ["Account", "run"]

POD = Path(__file__).with_name("pod.py")
LAST_MOMENT = 1.0  # what a pod may take with it, in seconds
SETTLE_SECONDS = 120.0
POD_LEASE = 5.0


@dataclass
class Call:
    """What one caller knows: each message that was answered, and when."""

    identity: str
    pod: Pod
    answered: list[tuple[str, float]] = field(default_factory=list)


@dataclass
class Account:
    """What became of every call.

    Args:
        outcomes: how many calls of each kind.
        pods_killed: with their disks.
        deliverers_killed: in the middle of their work.
        faults: what should never happen, in words.
        seconds: from the first call to the last delivery.
    """

    outcomes: Counter[str]
    pods_killed: int
    deliverers_killed: int
    faults: list[str]
    seconds: float

    def lines(self) -> list[str]:
        """Return the account for people."""
        total = sum(self.outcomes.values())
        killed = f"{self.pods_killed} pods killed with their disks, {self.deliverers_killed} deliverers killed"
        found = [f"{total} calls in {self.seconds:.0f} s, {killed}"]
        found += [f"  {count:5}  {what}" for what, count in sorted(self.outcomes.items())]
        found += [f"  FAULT  {fault}" for fault in self.faults]
        return [*found, "every call is accounted for" if not self.faults else "NOT every call is accounted for"]


class Pod:
    """An agent's process with a disk of its own."""

    def __init__(self, home: Path, environ: dict[str, str]) -> None:
        self.disk = Path(tempfile.mkdtemp(dir=home))
        self.killed_at: float | None = None
        self.process = subprocess.Popen(  # noqa: S603 - a script of this directory
            [sys.executable, str(POD)],
            env={**environ, "BLUEJAY_SPOOL_DIRECTORY": str(self.disk / "spool")},
            stdout=subprocess.PIPE,
            text=True,
        )
        self.url = ""

    def listens(self) -> None:
        """Wait until it listens."""
        if self.process.stdout is None:
            return
        with self.process.stdout as output:
            line = output.readline()
        self.url = f"ws://127.0.0.1:{int(line)}"

    def kill(self) -> None:
        """Kill it, and delete its disk."""
        self.killed_at = time.monotonic()
        self.process.kill()
        self.process.wait()
        shutil.rmtree(self.disk, ignore_errors=True)


class Fleet:
    """All processes of the fleet, and the calls that are made to it."""

    def __init__(
        self, home: Path, url: str, platform: FakePlatform, chance: random.Random, lease: float, pace: float
    ) -> None:
        self._home = home
        self._lease = lease
        self.pace = pace
        self._chance = chance
        self._platform = platform
        names = {name: value for name, value in os.environ.items() if not name.startswith("BLUEJAY_")}
        self._environ = {**names, "BLUEJAY_SPOOL": url, "BLUEJAY_API_URL": platform.url}
        self.pods: list[Pod] = []
        self.started: list[Pod] = []
        self.deliverers: list[subprocess.Popen[bytes]] = []
        self.calls: list[Call] = []
        self.killed = 0
        self.deliverers_killed = 0

    async def add_pod(self) -> None:
        """Start one more agent, and wait until it listens."""
        pod = Pod(self._home, self._environ)
        self.started.append(pod)
        await asyncio.to_thread(pod.listens)
        self.pods.append(pod)

    def add_deliverer(self) -> None:
        """Start one more deliverer; only these processes have the key."""
        command = [sys.executable, "-m", "bluejay_ws", "deliver", "--workers", "4", "--lease", str(self._lease)]
        environ = {**self._environ, "BLUEJAY_API_KEY": self._platform.api_key}
        self.deliverers.append(subprocess.Popen(command, env=environ, stdout=subprocess.DEVNULL))  # noqa: S603

    async def call(self, identity: str) -> None:
        """Make one call to one of the pods; a pod that dies ends it."""
        call = Call(identity, self._chance.choice(self.pods))
        self.calls.append(call)
        headers = {"X-Simulation-Result-Id": identity}
        with contextlib.suppress(OSError, WebSocketException):
            async with connect(call.pod.url, additional_headers=headers, compression=None) as socket:
                for number in range(self._chance.randrange(3, 20)):
                    await socket.send(f"{identity} says {number}")
                    call.answered.append((str(await socket.recv()), time.monotonic()))
                    await asyncio.sleep(self._chance.uniform(0.1, 1.0) * self.pace)

    async def kill_pods(self, count: int, pause: float) -> None:
        """Kill pods at random moments, each with its disk, and put new ones in their place."""
        for number in range(count):
            await asyncio.sleep(self._chance.uniform(0, 2 * pause))
            pod = self.pods.pop(self._chance.randrange(len(self.pods)))
            await asyncio.to_thread(pod.kill)
            self.killed += 1
            await self.add_pod()
            if number % 10 == 9 and self.deliverers:
                deliverer = self.deliverers.pop(0)
                deliverer.kill()
                deliverer.wait()
                self.deliverers_killed += 1
                self.add_deliverer()

    def stop_pods(self) -> None:
        """End the agents in good order: they hand over."""
        _end([pod.process for pod in self.started if pod.killed_at is None])

    def stop(self) -> None:
        """End what is left in good order: deliverers finish what they send."""
        self.stop_pods()
        _end(self.deliverers)


def _end(processes: Sequence[subprocess.Popen[str] | subprocess.Popen[bytes]]) -> None:
    for process in processes:
        process.terminate()
    for process in processes:
        process.wait()


def run(
    *,
    calls: int,
    pods: int,
    deliverers: int,
    kills: int,
    at_once: int,
    seed: int,
    lease: float = POD_LEASE,
    pace: float = 0.3,
    url: str = "",
) -> Account:
    """Run the whole fleet and return its account.

    Args:
        calls: to be made at least; more are made until the last pod is killed.
        pods: agents' processes at any time.
        deliverers: processes that deliver.
        kills: pods that are killed with their disks; each tenth takes a deliverer with it.
        at_once: calls at the same time.
        seed: of what is left to chance.
        lease: seconds after which a silent pod is taken for dead.
        pace: seconds between two messages of a call, at most.
        url: of a database with the schema; default: one of a server of its own.
    """
    with contextlib.ExitStack() as stack:
        directory = stack.enter_context(tempfile.TemporaryDirectory())
        platform = stack.enter_context(FakePlatform())
        if not url:
            url = stack.enter_context(Database()).url()
            postgres.migrate(url)
        fleet = Fleet(Path(directory), url, platform, random.Random(seed), lease, pace)  # noqa: S311 - no secrets
        began = time.monotonic()
        try:
            asyncio.run(_calls(fleet, calls, pods, deliverers, kills, at_once))
            fleet.stop_pods()  # what they still have is handed over then
            _settle(url, platform)
        finally:
            fleet.stop()
        seconds = time.monotonic() - began
        return _account(fleet, platform, url, seconds)


async def _calls(fleet: Fleet, calls: int, pods: int, deliverers: int, kills: int, at_once: int) -> None:
    for _ in range(deliverers):
        fleet.add_deliverer()
    await asyncio.gather(*(fleet.add_pod() for _ in range(pods)))
    numbers = itertools.count()

    async def caller() -> None:
        while (number := next(numbers)) < calls or not killing.done():  # a kill without calls shows nothing
            await fleet.call(f"call-{number}")

    pause = max(0.05, calls * 6.0 * fleet.pace / at_once / max(1, kills))
    killing = asyncio.create_task(fleet.kill_pods(kills, pause))
    await asyncio.gather(killing, *(caller() for _ in range(at_once)))


def _settle(url: str, platform: FakePlatform) -> None:
    """Wait until nothing waits in the database any more."""
    outbox = postgres.Outbox(url, platform.url)
    until = time.monotonic() + SETTLE_SECONDS
    with outbox.link:
        while time.monotonic() < until:
            counts = outbox.counts()
            if not any(counts.get(state) for state in ("waiting", "sending", "reports.live")):
                return
            time.sleep(0.2)


def _account(fleet: Fleet, platform: FakePlatform, url: str, seconds: float) -> Account:
    outbox = postgres.Outbox(url, platform.url)
    with outbox.link:
        counts = outbox.counts()
    outcomes: Counter[str] = Counter()
    faults = [f"{identity} was delivered {count} times" for identity, count in platform.duplicates.items()]
    faults += [f"{count} are {state}" for state, count in counts.items() if state != "delivered"]
    reports = {report.simulation_result_id: report for report in platform.accepted}
    for call in fleet.calls:
        outcome, fault = _judge(call, reports.get(call.identity))
        outcomes[outcome] += 1
        if fault:
            faults.append(fault)
    return Account(outcomes, fleet.killed, fleet.deliverers_killed, faults, seconds)


def _judge(call: Call, report: AcceptedReport | None) -> tuple[str, str]:
    """Return what became of a call, and what is wrong with that, if anything is."""
    kept = set() if report is None else {str(tool["parameters"]["message"]) for tool in report.tool_calls}
    missing = [at for message, at in call.answered if message not in kept]
    killed_at = call.pod.killed_at
    if missing and (killed_at is None or min(missing) < killed_at - LAST_MOMENT):
        early = "no pod was killed" if killed_at is None else f"{killed_at - min(missing):.2f} s before the kill"
        return "LOST", f"{call.identity}: {len(missing)} of {len(call.answered)} facts are lost, {early}"
    if report is None:
        what = (
            "nothing to report: its pod was killed before it answered"
            if not call.answered
            else (f"vanished in its first moments with its pod (nothing older than {LAST_MOMENT:g} s)")
        )
        if killed_at is None:
            return "LOST", f"{call.identity} has no report, and its pod was not killed"
        return what, ""
    if missing:
        return f"delivered, without the last moment before its pod was killed (up to {LAST_MOMENT:g} s)", ""
    return "delivered whole", ""


def main() -> int:
    """Run it, print the account, and fail if a call is not accounted for."""
    parser = argparse.ArgumentParser(description="A fleet on one machine, and the account of its calls.")
    parser.add_argument("--calls", type=int, default=200)
    parser.add_argument("--pods", type=int, default=3)
    parser.add_argument("--deliverers", type=int, default=2)
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--at-once", type=int, default=20, help="calls at the same time")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--url", default="", help="a database with the schema; default: a server of its own")
    arguments = vars(parser.parse_args())
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # so that no pod outlives this process
    account = run(**arguments)
    print("\n".join(account.lines()))
    return 1 if account.faults else 0


if __name__ == "__main__":
    sys.exit(main())
