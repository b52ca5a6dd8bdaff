"""All fault runs, by name, in the size that is asked for; each gives lines for the table."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from xml.etree import ElementTree as ET

from benchmarks.reliability import crash, fleet, hanging, life, outage, processes, sockets
from benchmarks.reliability.program import CHILDREN, ENDINGS
from benchmarks.reliability.stage import ROOT

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from benchmarks.reliability.account import Account
    from benchmarks.reliability.sockets import Echo

__all__ = ["RUNS", "Line", "Size"]

KILLS_EACH = 20
LIVENESS = 5.0
"""Seconds within which a call that ends after the fault has to be delivered."""
QUICK_REPAIR = {"redial_wait": 0.05, "read_back": (0.05, 0.1, 0.2), "first": 0.05}


@dataclass(frozen=True)
class Size:
    """How much of everything.

    Args:
        sockets: open ones when a signal comes.
        kills: of agents.
        crowds_killed: agents that are killed while ``sockets`` calls end at once.
        pods_killed: of a fleet, each with its disk.
        calls: of a process that ends, or forks.
        hung: seconds for which the platform hangs, one run for each.
        waiting: calls that end while the platform is away.
        crowd: calls that end at once.
        idle: sockets that are idle, in each of two processes.
        rounds: of what is measured.
        nightly: whether pytest runs what is too long for the suite.
    """

    sockets: int = 200
    kills: int = 300
    crowds_killed: int = 10
    pods_killed: int = 300
    calls: int = 20
    hung: tuple[float, ...] = (2.0, 15.0)
    waiting: int = 5_000
    crowd: int = 1_000
    idle: int = 10_000
    rounds: int = 2
    nightly: bool = False

    @classmethod
    def quick(cls) -> Size:
        """Return a size that only shows that everything runs."""
        return cls(
            sockets=4,
            kills=2,
            crowds_killed=1,
            pods_killed=2,
            calls=2,
            hung=(0.1,),
            waiting=10,
            crowd=10,
            idle=10,
            rounds=1,
        )

    @classmethod
    def long(cls) -> Size:
        """Return the size for the night."""
        return cls(kills=1_000, crowds_killed=50, rounds=5, nightly=True)


@dataclass(frozen=True)
class Line:
    """One line of the table.

    Args:
        what: the fault.
        account: where the calls went; None for what only measures.
        found: what else was seen.
        failed: whether something is not as promised that the account does not show.
    """

    what: str
    account: Account | None
    found: str = ""
    failed: bool = False

    @property
    def sound(self) -> bool:
        """Whether everything is as promised."""
        if self.account is None:
            return not self.failed
        return not self.failed and self.account.sound and (self.account.slowest or 0.0) <= LIVENESS


def _signals(size: Size, seed: int) -> Iterator[Line]:
    del seed
    for setup in life.SETUPS:
        if setup.missing:
            yield Line(setup.name, None, f"not run: {', '.join(setup.missing)} not installed")
        else:
            yield _signal(setup, size)


def _signal(setup: life.Setup, size: Size) -> Line:
    try:
        account = life.run(setup, size.sockets)
    except RuntimeError as error:
        print(error, file=sys.stderr)
        return Line(setup.name, None, "it did not begin, or did not end", failed=True)
    return Line(setup.name, account, account.notes[0])


def _kills(size: Size, seed: int) -> Iterator[Line]:
    batches = [min(KILLS_EACH, size.kills - done) for done in range(0, size.kills, KILLS_EACH)]
    accounts = [crash.run(kills, seed + number, QUICK_REPAIR) for number, kills in enumerate(batches)]
    account = _sum(accounts)
    between = sum(int(note.split()[0]) for note in account.notes)
    what = f"kill -9 of an agent with 1 to 20 live calls, {size.kills} times, {KILLS_EACH} on each spool"
    yield Line(what, account, f"{between} delivered between the kills, the rest by the last start")
    account = sockets.killed(size.sockets, size.crowds_killed, seed, QUICK_REPAIR)
    what = (
        f"kill -9 within {sockets.LATEST_KILL} s after {size.sockets} calls ended at once, {size.crowds_killed} times"
    )
    yield Line(what, account, account.notes[0])


def _fleet(size: Size, seed: int) -> Iterator[Line]:
    """Only what the fleet's own account says is known here: its calls are not counted in records."""
    pods, at_once = 8, 24
    what = f"{pods} agents and 2 deliverers, {at_once} calls at once, pods killed with their disks"
    try:
        account = fleet.run(calls=0, pods=pods, deliverers=2, kills=size.pods_killed, at_once=at_once, seed=seed)
    except fleet.NoPostgresError as error:
        yield Line(what, None, f"not run: {error}")
        return
    found = [f"{count:,} calls: {outcome}" for outcome, count in sorted(account.outcomes.items())]
    killed = f"{account.pods_killed} pods and {account.deliverers_killed} deliverers killed in {account.seconds:.0f} s"
    faults = account.faults or ["0 lost, 0 doubled, 0 unaccounted"]
    yield Line(what, None, "; ".join([killed, *found, *faults]), failed=bool(account.faults))


def _endings(size: Size, seed: int) -> Iterator[Line]:
    del seed
    for fault in processes.FAULTS:
        account = processes.run_ending("falls-off", fault, size.calls)
        budget = "" if fault == processes.FINE else ", flush budget 1 s"
        yield Line(f"the program ends, platform {fault}{budget}", account, account.notes[0])
    for ending in ENDINGS:
        if ending != "falls-off":
            account = processes.run_ending(ending, processes.FINE, size.calls)
            yield Line(f"the process ends by {ending}", account, account.notes[0])


def _children(size: Size, seed: int) -> Iterator[Line]:
    del seed
    for kind in CHILDREN:
        account = processes.run_child(kind, size.calls)
        yield Line(f"{kind} with {size.calls} reports on their way", account, account.notes[0])


def _outages(size: Size, seed: int) -> Iterator[Line]:
    for name, seconds in (("an hour", outage.HOUR), ("a day", 24 * outage.HOUR)):
        account, seen = outage.run(seconds, size.waiting, seed, measured=True)
        yield Line(f"platform away for {name} (clock moved by hand)", account, _seen(seen))
    for name, (posts, reads) in outage.KINDS.items():
        account, seen = outage.run(30.0, min(200, size.waiting), seed, posts, reads=reads)
        what = f"platform {name} for half a minute (clock moved by hand)"
        yield Line(what, account, f"all after {seen.drained_after:.0f} s", failed=bool(account.kept))
    for hung in size.hung:
        account = hanging.run(size.sockets, hung)
        yield Line(f"platform hangs for {hung:.0f} s (real time) with {size.sockets} calls", account, account.notes[0])
    for name, troubles in _FLAPPING.items():
        account, seen = outage.run(outage.HOUR / 6, max(10, size.waiting // 10), seed, troubles)
        yield Line(f"platform flapping for ten minutes: {name}", account, f"{len(seen.attempts)} requests failed")


_FLAPPING = {
    "refuses every other connection": (outage.REFUSED, None),
    "answers every third request with 503": (outage.BUSY, None, None),
}


def _seen(seen: outage.Seen) -> str:
    before, after = (round(size / 1e6, 1) for size in seen.waiting_bytes)
    return (
        f"{len(seen.attempts)} requests meanwhile; after its return {', '.join(map(str, seen.in_first_seconds))} "
        f"reports in the first seconds, at most {seen.most_in_a_second} in one, all after {seen.drained_after:.0f} s; "
        f"memory with all waiting {before} MB, at the end of the outage {after} MB"
    )


def _storm(size: Size, seed: int) -> Iterator[Line]:
    del seed
    found = sockets.storm(size.crowd, size.rounds)
    what = f"{found.count:,} calls end at once, platform hangs, {sockets.TALKERS} others talk"
    yield Line(what, found.account, f"{'; '.join(found.account.notes)}; {_echo(found.echo)}")


def _idle(size: Size, seed: int) -> Iterator[Line]:
    del seed
    found = sockets.idle(size.idle, size.rounds)
    what = f"{found.count:,} idle sockets recorded, {found.count:,} not, {sockets.TALKERS} others talk at each"
    memory = f"{found.kilobytes[True]:.1f} kB of a process's memory each, not recorded {found.kilobytes[False]:.1f} kB"
    files = f"{found.descriptors[True]:.2f} descriptors each, not recorded {found.descriptors[False]:.2f}"
    yield Line(what, None, f"{memory}; {files}; {_echo(found.echo)}")


def _echo(echo: Echo) -> str:
    parts = (
        f"{name} {echo.at(share, recorded=True):.1f} ms (not recorded {echo.at(share, recorded=False):.1f})"
        for name, share in (("median", 0.5), ("p99", 0.99), ("longest", 1.0))
    )
    return f"a frame's way there and back: {', '.join(parts)}"


def _suite(size: Size, seed: int) -> Iterator[Line]:
    """Run the tests of delivery, which break each exchange, disk and system call on its own."""
    del seed
    marks = "nightly or not nightly" if size.nightly else "not nightly"
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory, "results.xml")
        command = [sys.executable, "-m", "pytest", "-q", "-n", "2", "-m", marks, f"--junitxml={path}", "tests/delivery"]
        subprocess.run(command, cwd=ROOT, check=False, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
        yield from _results(path)


def _results(path: Path) -> Iterator[Line]:
    files: dict[str, Counter[str]] = {}
    for case in ET.parse(path).getroot().iter("testcase"):
        outcome = next((child.tag for child in case if child.tag in {"failure", "error", "skipped"}), "passed")
        files.setdefault(case.get("classname", ""), Counter())[outcome] += 1
    for name, outcomes in sorted(files.items()):
        told = ", ".join(f"{number} {outcome}" for outcome, number in sorted(outcomes.items()))
        yield Line(f"`{name.replace('.', '/')}.py`", None, told, failed=bool(outcomes.keys() & {"failure", "error"}))


def _sum(accounts: list[Account]) -> Account:
    first, *others = accounts
    for one in others:
        first = first + one
    return first


RUNS: dict[str, tuple[str, Callable[[Size, int], Iterator[Line]]]] = {
    "signals": ("A signal to a server with open sockets", _signals),
    "kills": ("Sudden death", _kills),
    "fleet": ("Pods that are killed with their disks", _fleet),
    "endings": ("The end of a process", _endings),
    "children": ("Forks", _children),
    "outages": ("A platform that is away", _outages),
    "storm": ("A crowd", _storm),
    "idle": ("Ten thousand sockets", _idle),
    "suite": ("Each fault on its own: tests", _suite),
}
"""By name, a heading and what runs it."""
