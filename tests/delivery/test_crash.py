"""Processes that are killed: nothing that was recorded is lost, nothing is reported twice."""

from __future__ import annotations

import contextlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from typing import TYPE_CHECKING, NoReturn

import pytest

from bluejay_ws.delivery import breaker
from bluejay_ws.delivery.sender import Sender
from bluejay_ws.stats import Counters
from bluejay_ws.testing.platform import FakePlatform
from tests import nursery
from tests.delivery.kit import (
    SUCCESS,
    Script,
    adopted,
    attempts,
    delivery_of,
    end,
    files,
    open_call,
    owners,
    result,
    settings,
    spool_at,
    states,
    tool,
    until_settled,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from bluejay_ws.delivery.livefile import LiveFile
    from bluejay_ws.delivery.outcomes import Answer
    from bluejay_ws.delivery.spool import Spool

pytestmark = pytest.mark.filterwarnings("ignore:.*multi-threaded:DeprecationWarning")

KILLS = 5  # of each seed: agents with one, a few and all files open are among them
BY_DAY, AT_NIGHT = range(1, 2), (0, *range(2, 20))
OPEN_FILES = (1, 4, 100)


def forked(work: Callable[[], object]) -> int:
    """Run something in a child process; return its process id."""
    child = os.fork()
    if child:
        return child
    try:
        work()
    finally:
        os.kill(os.getpid(), signal.SIGUSR1)  # ends it here and now: nothing that hangs on `os._exit` runs
        time.sleep(60)
    raise AssertionError


# -- at random moments ------------------------------------------------------------------------------------------


def agent(url: str, directory: Path, log: Path, prefix: str, seed: int) -> NoReturn:
    """Hold 1 to 20 calls at once, for ever; write down each record once the call that made it has returned.

    Some agents may have all files open, some a few, and some one.
    """
    chance = random.Random(seed)
    sender = Sender(
        settings(url, directory),
        store=(spool := spool_at(directory, open_files=OPEN_FILES[seed % 3])),
        counters=Counters(),
    )
    sender.start()
    written = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    live: dict[str, LiveFile] = {}
    number = 0
    most = chance.randrange(1, 21)
    while True:
        if len(live) < most:
            identity = f"{prefix}-{number}"
            live[identity] = open_call(spool, identity)
            os.write(written, f"{identity} \n".encode())
            number += 1
        identity = chance.choice(list(live))
        name = f"tool-{chance.getrandbits(60)}"
        live[identity].append(tool(name))
        os.write(written, f"{identity} {name}\n".encode())
        if chance.random() < 0.08:
            file = live.pop(identity)
            for body in end(file.report_id):
                file.append(body)
            sender.submit(file.seal())
        time.sleep(chance.random() * 0.002)


@pytest.mark.parametrize("seed", [*BY_DAY, *(pytest.param(seed, marks=pytest.mark.nightly) for seed in AT_NIGHT)])
def test_a_kill_at_any_moment_loses_and_doubles_nothing(
    tmp_path: Path, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each record that had returned is in the one accepted report of its call, once."""
    monkeypatch.setattr(breaker, "FASTEST", 1000.0)
    chance = random.Random(seed)
    spool, log = tmp_path / "spool", tmp_path / "log"
    with FakePlatform() as platform:
        for kill in range(KILLS):
            child = forked(lambda kill=kill: agent(platform.url, spool, log, f"{seed}-{kill}", seed * 1000 + kill))  # type: ignore[misc]
            wait_for_lines(log, 10 + chance.randrange(60))
            time.sleep(chance.random() * 0.01)
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
        deliver_rest(platform.url, spool)
        check(platform, log)
        assert platform.duplicates == {}
    assert {state.rpartition(".")[2] for state in states(spool)} == {"sent"}


def wait_for_lines(log: Path, more: int) -> None:
    """Wait until the agent has done so much more."""
    have = log.read_bytes().count(b"\n") if log.exists() else 0
    until = time.monotonic() + 30.0
    while (log.read_bytes().count(b"\n") if log.exists() else 0) < have + more:
        assert time.monotonic() < until, "the agent does nothing"
        time.sleep(0.003)


def deliver_rest(url: str, directory: Path) -> None:
    """Do what the next start of the agent does."""
    sender = Sender(settings(url, directory), store=spool_at(directory), counters=Counters())
    sender.start()
    until = time.monotonic() + 40.0
    while any(not state.endswith(".sent") for state in states(directory)) and time.monotonic() < until:
        time.sleep(0.01)
    assert sender.close(1.0)


def check(platform: FakePlatform, log: Path) -> None:
    """Compare what was accepted with what had been recorded."""
    recorded: dict[str, list[str]] = {}
    for line in log.read_text().splitlines():
        identity, _, name = line.partition(" ")
        recorded.setdefault(identity, []).extend([name] if name else [])
    assert sum(map(len, recorded.values())) > 20
    accepted = {report.simulation_result_id: report for report in platform.accepted}
    assert recorded.keys() <= accepted.keys()
    for identity, names in recorded.items():
        found = Counter(call["name"] for call in accepted[identity].tool_calls)
        assert max(found.values(), default=1) == 1
        assert not Counter(names) - found
        assert found.total() <= len(names) + 1  # the one that was being recorded


def test_a_file_that_was_just_opened_keeps_its_descriptor_while_another_thread_is_at_work_on_the_rest(
    tmp_path: Path,
) -> None:
    """One file too many is open for a moment; the new call is recorded to the disk, and breaks nowhere."""
    spool = spool_at(tmp_path, open_files=1)
    first = open_call(spool, "first")
    held, done = threading.Event(), threading.Event()

    def work() -> None:
        with first._lock:
            held.set()
            done.wait(20.0)

    worker = threading.Thread(target=work)
    worker.start()
    assert held.wait(20.0)
    try:
        second = open_call(spool, "second")
        second.append(tool("freeze_card"))
        third = open_call(spool, "third")  # takes the descriptor of the second, which is free
        second.append(tool("freeze_card"))
    finally:
        done.set()
        worker.join()
    assert [first.broken, second.broken, third.broken] == [None, None, None]
    for file in (first, second, third):
        file.discard()


# -- at every system call ---------------------------------------------------------------------------------------


class Platform:
    """What a platform has taken in, in a file that outlives whoever is killed."""

    def __init__(self, log: Path) -> None:
        self.log = log
        self.script = Script()
        self.script.post = self.post  # type: ignore[method-assign]
        self.script.look = self.look  # type: ignore[method-assign]

    @property
    def taken(self) -> list[bytes]:
        return self.log.read_bytes().splitlines() if self.log.exists() else []

    def post(self, body: bytes) -> Answer:
        with self.log.open("ab", buffering=0) as file:
            file.write(body + b"\n")
        return SUCCESS

    def look(self, simulation_result_id: str) -> Answer:
        return result(events=[event for body in self.taken for event in json.loads(body)["events"]])


def one_call(directory: Path, platform: Platform, done: Path) -> None:
    """Record one call and deliver it, step by step."""
    spool = spool_at(directory)
    file = open_call(spool, "720488")
    done.write_text("opened")
    for number in range(2):
        file.append(tool(f"tool-{number}"))
        done.write_text(f"recorded {number + 1}")
    for body in end(file.report_id):
        file.append(body)
    deliver(spool, file, platform)
    spool._files.lock.release(unless=spool._files.live)


def calls_that_share_a_descriptor(directory: Path, platform: Platform, done: Path) -> None:
    """Do the same while others take its file's descriptor between any two lines."""
    spool = spool_at(directory, open_files=1)
    file = open_call(spool, "720488")
    done.write_text("opened")
    for number in range(2):
        open_call(spool, f"other-{number}").discard()
        other = open_call(spool, f"another-{number}")
        file.append(tool(f"tool-{number}"))
        done.write_text(f"recorded {number + 1}")
        other.discard()
        spool.sync()
    open_call(spool, "other-2").discard()
    for body in end(file.report_id):
        file.append(body)
    deliver(spool, file, platform)
    spool.tidy()
    spool._files.lock.release(unless=spool._files.live)


def deliver(spool: Spool, file: LiveFile, platform: Platform) -> None:
    """End a call and deliver its report."""
    attempts(spool).attempt(delivery_of(file.seal()), platform.script)


def recover(directory: Path, platform: Platform) -> None:
    """Deliver what is left, as the next start does."""
    spool: Spool = spool_at(directory)
    for path in files(directory):
        if not path.name.startswith("720488."):  # a call that was open for the sake of its descriptor
            path.unlink()
    delivery = adopted(spool, "720488")
    if delivery.adopted:
        until_settled(attempts(spool), delivery, platform.script)


@contextlib.contextmanager
def killed_at(system_call: str, number: int) -> Iterator[Callable[[Callable[[], object]], bool]]:
    """Yield a function that runs something in a process that dies as it makes its n-th such call; True if it died."""

    def run(work: Callable[[], object]) -> bool:
        reading, writing = os.pipe()

        def wait_and_work() -> None:
            os.read(reading, 1)
            work()

        child = forked(wait_and_work)
        inject = f"inject={system_call}:signal=SIGKILL:when={number}"
        command = ["strace", "-o", "/dev/null", "-e", f"trace={system_call}", "-e", inject, "-p", str(child)]
        with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as tracer:
            assert tracer.stderr is not None
            attached = "attached" in tracer.stderr.readline()
            os.write(writing, b"x")
            reader = threading.Thread(target=tracer.stderr.read)
            reader.start()
            _, status = os.waitpid(child, 0)
            reader.join()
        os.close(reading)
        os.close(writing)
        if not attached:
            pytest.skip("strace may not attach here")
        return os.waitstatus_to_exitcode(status) == -signal.SIGKILL

    yield run


CHANGING = ("openat", "write", "rename", "ftruncate", "unlink")
"""What changes a disk: a process that dies at any other call leaves what it leaves at the next of these."""
OTHERS = ("flock", "close", "fstat", "newfstatat", "pread64", "fsync", "fdatasync", "dup")
BY_DAY_AT = ((one_call, "write"), (one_call, "rename"), (calls_that_share_a_descriptor, "write"))
"""A line that is cut, a state that is not told, and a line of another call in between."""


@pytest.mark.skipif(shutil.which("strace") is None, reason="strace is not there")
@pytest.mark.parametrize(
    ("work", "system_call"),
    [
        pytest.param(work, name, marks=[] if (work, name) in BY_DAY_AT else [pytest.mark.nightly])
        for work in (one_call, calls_that_share_a_descriptor)
        for name in (*CHANGING, *OTHERS)
    ],
)
def test_a_kill_at_every_system_call_is_recovered_exactly(
    tmp_path: Path, work: Callable[[Path, Platform, Path], None], system_call: str
) -> None:
    """One call is recorded and delivered; the process dies at each step of it in turn, and the next start mends it."""
    number = 0
    died = True
    while died:
        number += 1
        directory = tmp_path / str(number)
        directory.mkdir()
        platform, done, spool = Platform(directory / "log"), directory / "done", directory / "spool"
        with killed_at(system_call, number) as run:
            died = run(lambda p=platform, d=done, s=spool: work(s, p, d))  # type: ignore[misc]
        if spool.exists():
            recover(spool, platform)
        progress = done.read_text() if done.exists() else ""
        assert len(platform.taken) <= 1, f"doubled at {system_call} {number}"
        if progress:
            (report,) = map(json.loads, platform.taken)
            names = [call["name"] for call in report["tool_calls"]]
            assert len(names) >= int(progress.partition(" ")[2] or 0)
            assert names == [f"tool-{index}" for index in range(len(names))]
            assert states(spool) == ["720488.sent"]
            spool_at(spool).tidy()
            assert not owners(spool)
        assert number < 150


# -- processes that share a spool -------------------------------------------------------------------------------


HOLDER = """
import pathlib, sys, time
from tests.delivery.kit import open_call, spool_at, tool
spool = spool_at(pathlib.Path(sys.argv[1]), open_files=2)
files = [open_call(spool, f"{sys.argv[2]}-{number}", "first") for number in range(20)]
print("open", flush=True)
for line in sys.stdin:
    if line == "recover\\n":
        found = [one for one in spool.recover() if one.simulation_result_id.startswith(sys.argv[2])]
        found += [file for file in files if not spool.lease(file.identity).live]
    else:
        found = [file.append(tool("second")) for file in files if file.broken]
        for file in files:
            file.append(tool("second"))
    print(len(found), flush=True)
"""


@contextlib.contextmanager
def holder(directory: Path, prefix: str) -> Iterator[Callable[[str], int]]:
    """Run a process that holds 20 calls with two descriptors; yield what it is asked by. It is killed at the end."""
    command = [sys.executable, "-c", HOLDER, str(directory), prefix]
    with nursery.start(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stdout.readline() == "open\n"

        def ask(word: str) -> int:
            assert process.stdin is not None
            assert process.stdout is not None
            print(word, file=process.stdin, flush=True)
            return int(process.stdout.readline())

        try:
            yield ask
        finally:
            process.kill()


def test_two_processes_leave_each_others_running_calls_alone(tmp_path: Path) -> None:
    """Though most of their files are open nowhere; the calls of the one that is killed are recovered, all of them."""
    spool = spool_at(tmp_path)
    with holder(tmp_path, "one") as one:
        with holder(tmp_path, "two") as two:
            for _ in range(2):
                assert spool.recover() == []
                assert [one("recover"), two("recover"), one("append"), two("append")] == [0, 0, 0, 0]
            spool.tidy()
            assert len(owners(tmp_path)) == 2
        recovered = spool.recover()
        assert sorted(one.simulation_result_id for one in recovered) == sorted(f"two-{number}" for number in range(20))
        assert [one("recover"), one("append")] == [0, 0]
        spool.tidy()
        assert len(owners(tmp_path)) == 1
    for identity, seconds in (("two-7", 2), ("one-7", 3)):
        spool.recover()
        with spool.lease(identity) as lease:
            (report,) = lease.reports
            assert sum(item.count(b'"second"') for item in report.facts.items["tool_calls"]) == seconds
    assert states(tmp_path) == sorted(f"{prefix}-{number}.ready" for prefix in ("one", "two") for number in range(20))


@pytest.mark.parametrize("method", ["fork", "multiprocessing"])
def test_a_child_that_is_forked_in_the_middle_of_calls_holds_none_of_them(tmp_path: Path, method: str) -> None:
    """The parent's calls go on beside the child's own; when the parent is killed, they are known to be lost at once."""
    with nursery.start([sys.executable, "-c", FORKER, str(tmp_path), method], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        child = int(process.stdout.readline())
        spool = spool_at(tmp_path)
        try:
            assert spool.recover() == []
            assert states(tmp_path) == ["child.live", "parent-0.live", "parent-1.live", "parent-2.live"]
            process.kill()
            process.wait()
            assert sorted(one.simulation_result_id for one in spool.recover()) == ["parent-0", "parent-1", "parent-2"]
            assert spool.lease("child").live
        finally:
            os.kill(child, signal.SIGKILL)
    until = time.monotonic() + 20.0
    while not spool.recover(untouched=60.0) and time.monotonic() < until:  # nobody waits for the child
        time.sleep(0.01)
    assert "child.ready" in states(tmp_path)


FORKER = """
import multiprocessing, os, pathlib, sys, time
from bluejay_ws.stats import Counters
from bluejay_ws.delivery.sender import Sender
from tests.delivery.kit import open_call, settings, spool_at, tool
spool = spool_at(pathlib.Path(sys.argv[1]), open_files=1)
sender = Sender(settings(), store=spool, counters=Counters())
files = [open_call(spool, f"parent-{number}", "first") for number in range(3)]

def child():
    for file in files:
        file.append(tool("of the child"))
    mine = open_call(spool, "child", "first")
    print(os.getpid(), flush=True)
    time.sleep(60)

if sys.argv[2] == "fork":
    os.fork() or child()
else:
    multiprocessing.get_context("fork").Process(target=child).start()
time.sleep(60)
"""
