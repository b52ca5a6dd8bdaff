"""Thousands of sockets: idle ones beside talking ones, and a crowd that hangs up at once on a platform that hangs."""

from __future__ import annotations

import json
import random
import resource
import time
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

from benchmarks.measure import percentile
from benchmarks.reliability.stage import Stage
from bluejay_ws.testing.platform import Hang

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Mapping

    from benchmarks.reliability.account import Account

__all__ = ["Echo", "Idle", "Storm", "idle", "killed", "storm"]

TALKERS = 20
OTHERS = 500
IDLE_SECONDS = 4.0
STORM_SECONDS = 4.0
BEFORE_STORM = 1.0
DELIVER_SECONDS = 180.0
SETTLE_SECONDS = 3.0
FRESH_SECONDS = 0.2
LATEST_KILL = 0.2
KINDS = {True: "echo", False: "bare"}  # by whether it is recorded


@dataclass
class Echo:
    """Milliseconds that frames took to come back, recorded and not, in the same run."""

    found: dict[bool, list[list[float]]] = field(default_factory=lambda: {True: [], False: []})

    def at(self, share: float, *, recorded: bool) -> float:
        """Return the median over the rounds of what this share of all frames did not exceed."""
        return median(percentile(round_, share) for round_ in self.found[recorded])

    def added(self, share: float) -> float:
        """Return what recording adds to that."""
        return self.at(share, recorded=True) - self.at(share, recorded=False)


@dataclass
class Idle:
    """What idle sockets cost.

    Attributes:
        count: how many in each of the two processes.
        kilobytes: resident memory of a socket, by whether it is recorded.
        descriptors: open files for each socket, by whether it is recorded.
        echo: of the others.
    """

    count: int
    kilobytes: dict[bool, float] = field(default_factory=dict)
    descriptors: dict[bool, float] = field(default_factory=dict)
    echo: Echo = field(default_factory=Echo)


@dataclass
class Storm:
    """What a crowd that hangs up at once does to the others."""

    count: int
    echo: Echo
    account: Account


class _Peer:
    """A process that calls, seen from here."""

    def __init__(self, stage: Stage) -> None:
        host, port = stage.listener.getsockname()
        self._process = stage.start("benchmarks.reliability.callers", host, port)

    def tell(self, *words: object) -> None:
        """Send a command."""
        assert self._process.stdin is not None
        print(*words, file=self._process.stdin, flush=True)

    def answer(self) -> str:
        """Return the answer to the oldest command that has none yet."""
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError("the callers are gone")
        return line

    def ask(self, *words: object) -> str:
        """Send a command and return its answer."""
        self.tell(*words)
        return self.answer()


def _resident(process: subprocess.Popen[str]) -> float:
    pages = int(Path(f"/proc/{process.pid}/statm").read_text("ascii").split()[1])
    return pages * resource.getpagesize() / 1e3


def _descriptors(process: subprocess.Popen[str]) -> int:
    return sum(1 for _ in Path(f"/proc/{process.pid}/fd").iterdir())


def room(count: int) -> int:
    """Return as many of so many sockets as the system lets one process have, with some left for everything else."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    return count if hard == resource.RLIM_INFINITY else min(count, hard - OTHERS)


def idle(count: int, rounds: int) -> Idle:
    """Open so many idle sockets at each of two agents, one of which records; let some others talk at each in turns.

    Args:
        count: as far as the system lets one process have them.
        rounds: of talking.
    """
    found = Idle(room(count))
    with ExitStack() as stack:
        talkers = {kind: _idle_agent(stack.enter_context(Stage()), found, recorded=kind) for kind in KINDS}
        for number in range(rounds):
            for recorded, peer in talkers.items():
                frames = json.loads(peer.ask("echo", TALKERS, IDLE_SECONDS, f"talk{number}"))
                found.echo.found[recorded].append([late for _, late in frames])
    return found


def _idle_agent(stage: Stage, found: Idle, *, recorded: bool) -> _Peer:
    agent = stage.start("benchmarks.reliability.agents", KINDS[recorded], "{fd}")
    crowd, talkers = _Peer(stage), _Peer(stage)
    talkers.ask("echo", 2, 0.5, "warm")  # imports, threads and connections are there from now on
    time.sleep(SETTLE_SECONDS)
    memory, files = _resident(agent), _descriptors(agent)
    crowd.ask("open", found.count, "idle")
    time.sleep(SETTLE_SECONDS)
    found.kilobytes[recorded] = (_resident(agent) - memory) / found.count
    found.descriptors[recorded] = (_descriptors(agent) - files) / found.count
    return talkers


def killed(count: int, rounds: int, seed: int, options: Mapping[str, Any] | None = None) -> Account:
    """Let so many calls end at once, and kill the agent with ``kill -9`` while it finishes their reports.

    Args:
        count: of calls in each round.
        rounds: all on one spool, a new agent for each; the last is followed by one more start.
        seed: of the moments.
        options: of the library.
    """
    dice = random.Random(seed)
    with Stage(options) as stage:
        for number in range(rounds):
            agent = stage.start("benchmarks.reliability.agents", KINDS[True], "{fd}")
            crowd = _Peer(stage)
            crowd.ask("open", count, f"crowd{number}")
            while len(stage.ledger.counts()) < count * (number + 1) and agent.poll() is None:
                time.sleep(0.01)  # a handshake is answered before the handler begins
            crowd.tell("close")
            time.sleep(dice.uniform(0.0, LATEST_KILL))
            agent.kill()
            agent.wait()
            crowd.answer()
        before = len(stage.platform.accepted)
        fresh = stage.next_start(DELIVER_SECONDS)
        account = stage.account(runs=rounds)
        account.slowest = fresh
        account.notes.append(f"{before} delivered by the agents that were killed, the rest by the last start")
        return account


def storm(count: int, rounds: int) -> Storm:
    """Let so many calls end at once with a platform that hangs, while others talk; compare with a bare server.

    Afterwards the platform is mended, and everything has to arrive.
    """
    echo = Echo()
    account: Account | None = None
    for _ in range(rounds):
        for recorded, kind in KINDS.items():
            with Stage({"timeout": 2.0}) as stage:
                talkers, late = _one_storm(stage, room(count), kind)
                echo.found[recorded].append(late)
                if recorded:
                    one = _aftermath(stage, talkers)
                    account = one if account is None else account + one
    assert account is not None
    return Storm(room(count), echo, account)


def _one_storm(stage: Stage, count: int, kind: str) -> tuple[_Peer, list[float]]:
    """Return those who talked, and their latencies from the first hang-up on."""
    stage.start("benchmarks.reliability.agents", kind, "{fd}")
    crowd, talkers = _Peer(stage), _Peer(stage)
    talkers.ask("echo", 2, 0.5, "warm")
    stage.wait_until_delivered(10.0)
    stage.platform.otherwise(Hang())
    crowd.ask("open", count, "crowd")
    talkers.tell("echo", TALKERS, BEFORE_STORM + STORM_SECONDS, "talk")
    time.sleep(BEFORE_STORM)
    began = time.monotonic()
    crowd.ask("close")
    return talkers, [late for left, late in json.loads(talkers.answer()) if left >= began]


def _aftermath(stage: Stage, talkers: _Peer) -> Account:
    stage.platform.otherwise()
    mended = time.monotonic()
    talkers.ask("echo", 1, FRESH_SECONDS, "fresh")
    ended = time.monotonic()
    stage.wait_until_delivered(DELIVER_SECONDS)
    account = stage.account()
    account.slowest = stage.seconds_to("fresh-0", ended)
    last = max((one.received_at for one in stage.platform.accepted), default=mended)
    account.notes.append(f"all delivered {last - mended:.0f} s after the platform was mended")
    return account
