"""The threads of delivery: what starts them, what ends them, and that they hold up nobody."""

from __future__ import annotations

import asyncio
import functools
import logging
import os
import socket
import sys
import threading
import time
from collections import deque
from typing import TYPE_CHECKING, Self

import pytest

from bluejay_ws.delivery import breaker, outcomes
from bluejay_ws.delivery import queue as queues
from bluejay_ws.delivery import sender as senders
from bluejay_ws.delivery.files import shard_of
from bluejay_ws.delivery.outcomes import Answer, Failure, Phase
from bluejay_ws.delivery.sender import Sender
from bluejay_ws.delivery.store import Report
from bluejay_ws.delivery.verify import Verifier
from bluejay_ws.settings import Retry, Settings
from bluejay_ws.stats import Counters
from bluejay_ws.testing.platform import Answer as Says
from bluejay_ws.testing.platform import Close, FakePlatform, Hang
from bluejay_ws.wire import journal
from tests import nursery
from tests.delivery.kit import (
    SUCCESS,
    Script,
    abandoned_call,
    bodies,
    files,
    finished_call,
    new_id,
    open_call,
    settings,
    spool_at,
    states,
)
from tests.support import eventually

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from bluejay_ws.delivery.attempt import Exchange
    from bluejay_ws.delivery.spool import Spool
    from bluejay_ws.testing.platform import Step


class Station:
    """A sender with its spool and counts, closed at the end."""

    def __init__(
        self,
        url: str,
        directory: Path | None,
        *,
        client: Callable[[], Exchange] | None = None,
        timeout: float = 30.0,
        flush_timeout: float = 5.0,
        redial_wait: float = 0.0,
    ) -> None:
        self.patience = 0.2
        self.counters = Counters()
        self.spool: Spool | None = spool_at(directory, self.counters, redial_wait=redial_wait) if directory else None
        self.settings: Settings = settings(
            url, directory, timeout=timeout, flush_timeout=flush_timeout, redial_wait=redial_wait
        )
        self.sender = Sender(self.settings, store=self.spool, counters=self.counters, make_client=client)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.sender.close(self.patience)

    def call(self, identity: str = "720488", *tools: str) -> Report:
        assert self.spool is not None
        return finished_call(self.spool, identity, *tools)

    def submit(self, *identities: str) -> None:
        for identity in identities:
            self.sender.submit(self.call(identity))


def in_memory(identity: str = "720488") -> Report:
    """Return a report without a file."""
    report_id = new_id()
    return Report(report_id, identity, bodies(report_id, identity))


_start = threading.Thread.start


def no_thread_of_ours(thread: threading.Thread) -> None:
    """Start a thread as an interpreter does that ends."""
    if thread.name.startswith("bluejay_ws"):
        raise RuntimeError("can't create new thread at interpreter shutdown")
    _start(thread)


def ours() -> list[threading.Thread]:
    """Return our threads that are alive."""
    return [thread for thread in threading.enumerate() if thread.name.startswith("bluejay_ws")]


# -- delivering -------------------------------------------------------------------------------------------------


def test_making_one_starts_nothing(platform: FakePlatform, tmp_path: Path) -> None:
    """A client can be made at import time of the user's module."""
    before = set(ours())  # of other tests' clients, which may still be ending
    station = Station(platform.url, tmp_path)
    assert station.sender.close(1.0)
    assert station.sender.flush(30.0)
    assert set(ours()) <= before


def test_a_report_is_delivered(platform: FakePlatform, tmp_path: Path) -> None:
    """From the file to the platform, and the file is marked."""
    with Station(platform.url, tmp_path) as station:
        station.submit("720488")
        assert station.sender.flush(30.0)
        assert station.sender.pending() == 0
        assert [report.simulation_result_id for report in platform.accepted] == ["720488"]
        assert states(tmp_path) == ["720488.sent"]


def test_so_is_one_without_a_spool(platform: FakePlatform) -> None:
    """Memory is enough as long as the process lives."""
    with Station(platform.url, None) as station:
        station.sender.submit(in_memory())
        assert station.sender.flush(30.0)
    platform.wait_for(1)


@pytest.mark.parametrize(
    ("steps", "posts"),
    [
        ([Close(at="body")], 2),
        ([Close(at="answer")], 2),
        ([Close(at="answer", accept=True)], 1),
        ([Close(at="answer_body", accept=True)], 1),
        ([Close(at="status_line", accept=True)], 1),
        ([Hang(at="answer", accept=True)], 1),
        ([Hang(at="answer")], 2),
        ([Says(status=502)], 2),
        ([Says(status=503, accept=True)], 1),
        ([Says(status=500), Says(status=504)], 3),
        ([Says(status=429, headers={"Retry-After": "0"})], 2),
        ([Says(status=429, headers={"Retry-After": "nonsense"})], 2),
        ([Says(status=408), Says(status=425)], 3),
        ([Says(status=404), Says(status=404)], 3),
        ([Says(body=b"<html>", accept=True)], 1),
        ([Says(body=b"<html>", accept=False)], 2),
        ([Says(status=401)], 2),
        ([Says(status=307, headers={"Location": "/v1/update-simulation-result"})], 2),
    ],
)
@pytest.mark.parametrize("echo", [True, False])
def test_after_any_fault_one_report_is_accepted(
    platform: FakePlatform, tmp_path: Path, steps: list[object], posts: int, echo: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither none nor two, and no more tries than needed; with a platform that echoes metadata or does not."""
    monkeypatch.setattr(breaker, "FIRST_PROBE", 0.05)
    monkeypatch.setattr(outcomes, "NOT_FOUND_WAITS", (0.02, 0.1, 0.6, 6.0))
    platform.read_back.echo_metadata = echo
    platform.plan(*steps)  # type: ignore[arg-type]
    with Station(platform.url, tmp_path, timeout=0.15 if isinstance(steps[0], Hang) else 30.0) as station:
        station.sender.submit(station.call("720488", "freeze_card"))
        eventually(lambda: not station.sender.pending())
        assert len(platform.reports_for("720488")) == 1
        assert sum(request.method == "POST" for request in platform.requests) == posts
        assert states(tmp_path) == ["720488.sent"]


def test_a_platform_that_lags_gets_no_second_report(platform: FakePlatform, tmp_path: Path) -> None:
    """The report shows at the fourth look only, which is the one before it would be sent again."""
    platform.read_back.lag_reads = 3
    platform.plan(Close(at="answer", accept=True))
    with Station(platform.url, tmp_path) as station:
        station.submit("720488")
        assert station.sender.flush(30.0)
        assert len(platform.accepted) == 1
        assert station.counters["read_back.absent"] == 3
        assert station.counters["read_back.found"] == 1


def test_a_platform_that_was_down_gets_everything_once(
    platform: FakePlatform, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Refused for a while, then back: all reports, each once."""
    monkeypatch.setattr(breaker, "FIRST_PROBE", 0.05)
    monkeypatch.setattr(breaker, "RAMP_START", 50.0)
    platform.refuse()
    with Station(platform.url, tmp_path) as station:
        station.submit(*map(str, range(30)))
        eventually(lambda: station.counters["transport.connect_error"] >= 5)
        platform.listen()
        eventually(lambda: not station.sender.pending(), 20.0)
        assert len(platform.accepted) == 30
        assert platform.duplicates == {}
        assert states(tmp_path) == sorted(f"{number}.sent" for number in range(30))


def test_a_fresh_call_is_delivered_soon_after_an_outage(
    platform: FakePlatform, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However long the gate has been closed, it does not wait for its turn behind those that wait."""
    monkeypatch.setattr(breaker, "FIRST_PROBE", 3600.0)  # a long outage: theirs is not soon
    monkeypatch.setattr(breaker, "FRESH_PROBE", 0.1)
    script = Script()
    down = True
    script.post = lambda body: Failure(Phase.NOT_SENT, "down") if down else SUCCESS  # type: ignore[method-assign]
    with Station(platform.url, tmp_path, client=lambda: script) as station:
        station.submit(*map(str, range(40)))
        eventually(lambda: station.counters["transport.down"] >= 8)
        down = False
        station.submit("fresh")
        eventually(lambda: any(state == "fresh.sent" for state in states(tmp_path)))


def test_a_hanging_platform_does_not_keep_a_later_call_waiting(platform: FakePlatform, tmp_path: Path) -> None:
    """The workers that hang are not counted: another is hired."""
    platform.plan(Hang(at="answer"), Hang(at="answer"))
    with Station(platform.url, tmp_path, timeout=8.0, flush_timeout=0.2) as station:
        station.submit("1", "2", "3", "4")
        platform.wait_for(2)
        platform.close()


def test_a_flush_makes_an_attempt_each_second_however_long_the_backoff_is(tmp_path: Path) -> None:
    """After a long outage the next wait would be longer than the flush."""
    script = Script(deque([Failure(Phase.NOT_SENT, "down")] * 3))
    counters = Counters()
    spool = spool_at(tmp_path, counters)
    patient = settings(spool=tmp_path, retry=Retry(first=3600.0, ceiling=3600.0))
    sender = Sender(patient, store=spool, counters=counters, make_client=lambda: script)
    sender.submit(finished_call(spool, "720488"))
    eventually(lambda: len(script.posted) >= 2)  # at once and again: the third would come in half an hour
    assert sender.close(30.0)
    assert len(script.posted) == 4


def test_without_a_key_everything_waits(platform: FakePlatform, tmp_path: Path) -> None:
    """Nothing is sent and nothing is lost; waiting for it is of no use and does not happen."""
    counters = Counters()
    spool = spool_at(tmp_path, counters)
    sender = Sender(Settings.load(base_url=platform.url, environ={}), store=spool, counters=counters)
    sender.submit(finished_call(spool, "720488"))
    assert not sender.flush(30.0)
    assert sender.pending() == 1
    assert not sender.close(1.0)
    assert platform.requests == []
    assert states(tmp_path) == ["720488.ready"]


def test_a_wrong_key_is_one_error_and_one_request(
    platform: FakePlatform, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The others would get the same answer; flushing does not wait for a person to come."""
    platform._router.api_key = "another"
    with Station(platform.url, tmp_path) as station:
        station.submit(*map(str, range(20)))
        assert not station.sender.flush(30.0)
        assert 1 <= len(platform.requests) <= 8
        errors = [record.getMessage() for record in caplog.records if record.levelno == logging.ERROR]
        assert len(errors) == 1
        assert "the platform refuses the API key" in errors[0]
        assert "test-key" not in caplog.text
        assert set(states(tmp_path)) == {f"{number}.ready" for number in range(20)}


def test_one_report_that_is_refused_says_nothing_of_the_others(
    platform: FakePlatform, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A firewall dislikes the words of one: those before and after it are accepted, and no line says otherwise."""
    with Station(platform.url, tmp_path) as station:
        station.submit("1")
        platform.wait_for(1)
        eventually(lambda: station.counters["delivered"])
        platform.plan(Says(status=403, body=b"<html>blocked"))
        station.submit("disliked", "3")
        assert station.sender.flush(30.0)
    assert {report.simulation_result_id for report in platform.accepted} == {"1", "3", "disliked"}
    assert [record for record in caplog.records if record.levelno >= logging.ERROR] == []


@pytest.mark.parametrize("threads", [True, False])
def test_without_a_spool_a_gateway_that_knows_no_backend_is_asked_until_the_time_is_over(
    platform: FakePlatform, monkeypatch: pytest.MonkeyPatch, threads: bool
) -> None:
    """In a rolling deployment it does for some seconds, and what is only in memory has no later start."""
    platform.plan(*[Says(status=404, body=b"<html>no backend")] * 2)
    monkeypatch.setattr(breaker, "FIRST_PROBE", 0.05)
    with Station(platform.url, None) as station:
        if not threads:
            monkeypatch.setattr(threading.Thread, "start", no_thread_of_ours)
        station.sender.submit(in_memory())
        assert station.sender.close(30.0)
        platform.wait_for(1)


def test_no_client_can_be_made(platform: FakePlatform, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A certificate file that is not there is a matter of configuration, and is looked for again."""
    monkeypatch.setattr(breaker, "FIRST_PROBE", 0.05)
    broken = True
    script = Script()

    def make() -> Exchange:
        if broken:
            raise FileNotFoundError
        return script

    with Station(platform.url, tmp_path, client=make) as station:
        station.submit("1")
        eventually(lambda: station.counters["transport.no_http_client_FileNotFoundError"])
        broken = False
        eventually(lambda: not station.sender.pending())
        assert script.posted


def test_an_error_of_our_own_ends_nothing(platform: FakePlatform, tmp_path: Path) -> None:
    """One report's trouble is counted and tried again; the thread continues with the others."""
    script = Script()
    fails = [True]

    def post(body: bytes) -> Answer:
        if b'"1"' in body and fails:
            fails.clear()
            raise ZeroDivisionError
        return SUCCESS

    script.post = post  # type: ignore[method-assign]
    with Station(platform.url, tmp_path, client=lambda: script) as station:
        station.submit("1", "2")
        eventually(lambda: station.counters["delivered"] == 1 and station.sender.pending() == 1)
        assert station.counters["errors.delivery.ZeroDivisionError"] == 1


def test_too_many_reports_in_memory_cost_the_oldest(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Memory is bounded; what is given up is counted and told."""
    monkeypatch.setattr(queues, "MEMORY_LIMIT", 64_000)
    script = Script()
    script.post = lambda body: Failure(Phase.NOT_SENT, "down")  # type: ignore[method-assign]
    with Station("http://127.0.0.1:1", None, client=lambda: script) as station:
        big = b'["metadata",{"x":"' + b"x" * 9_000 + b'"}'
        for number in range(9):
            report_id = new_id()
            station.sender.submit(Report(report_id, str(number), [*bodies(report_id, str(number)), big]))
        eventually(lambda: station.counters["dropped.memory_full"] >= 2)
        eventually(lambda: station.sender.pending() == 9 - station.counters["dropped.memory_full"])
    assert "report is lost" in caplog.text


# -- what others left -------------------------------------------------------------------------------------------


def test_what_a_dead_process_left_is_delivered(platform: FakePlatform, tmp_path: Path) -> None:
    """At the start, after the time in which the platform may dial again."""
    abandoned_call(spool_at(tmp_path), "720488", "freeze_card")
    finished_call(spool_at(tmp_path), "720489")
    with Station(platform.url, tmp_path) as station:
        station.sender.start()
        reports = platform.wait_for(2)
        by_id = {report.simulation_result_id: report for report in reports}
        marker = by_id["720488"].events[-1]["metadata"]["bluejay_ws"]
        assert marker["incomplete"] == "process_lost"
        eventually(lambda: not station.sender.pending())
        assert states(tmp_path) == ["720488.sent", "720489.sent"]


def test_recovery_waits_for_the_platform_to_dial_again(platform: FakePlatform, tmp_path: Path) -> None:
    """The second connection comes within the time: both are one report, sent when it ends."""
    abandoned_call(spool_at(tmp_path), "720488", "before")
    with Station(platform.url, tmp_path, redial_wait=0.1) as station:
        assert station.spool is not None
        again = open_call(station.spool, "720488", "after", started_at=2000.0)
        station.sender.start()
        time.sleep(0.3)
        assert platform.accepted == []
        station.sender.submit(again.seal())
        (report,) = platform.wait_for(1)
        assert [call["name"] for call in report.tool_calls] == ["before", "after"]
        eventually(lambda: not station.sender.pending())


def test_two_processes_share_a_spool(platform: FakePlatform, tmp_path: Path) -> None:
    """Both take over the same files; each report is accepted once."""
    for number in range(20):
        finished_call(spool_at(tmp_path), str(number))
    with Station(platform.url, tmp_path) as one, Station(platform.url, tmp_path) as two:
        one.sender.start()
        two.sender.start()
        platform.wait_for(20, 20.0)
        eventually(lambda: not one.sender.pending() and not two.sender.pending())
        assert platform.duplicates == {}
        assert one.counters["delivered"] + two.counters["delivered"] == 20


# -- life -------------------------------------------------------------------------------------------------------


def test_closing_ends_the_threads_and_a_later_report_starts_them(platform: FakePlatform, tmp_path: Path) -> None:
    """Closed is not broken: a server that starts again in the same process delivers again."""
    before = set(ours())
    station = Station(platform.url, tmp_path)
    station.submit("1")
    assert station.sender.close(10.0)
    eventually(lambda: set(ours()) <= before)
    station.submit("2")
    assert station.sender.flush(30.0)
    assert station.sender.close(10.0)
    assert len(platform.accepted) == 2


def test_what_is_left_at_the_close_is_told_and_kept(
    platform: FakePlatform, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The next start delivers it."""
    platform.refuse()
    with Station(platform.url, tmp_path) as station:
        station.submit("1", "2")
        assert not station.sender.close(0.1)
        assert f"reports undelivered: 2; they wait in {tmp_path}" in caplog.text
    platform.listen()
    with Station(platform.url, tmp_path) as station:
        station.sender.start()
        platform.wait_for(2)


def test_what_only_memory_has_is_saved_while_the_platform_is_away(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The spool was full, or out of descriptors, when the call began; the process may end before its first attempt."""
    monkeypatch.setattr(breaker, "FIRST_PROBE", 3600.0)
    monkeypatch.setattr(breaker, "FRESH_PROBE", 3600.0)
    script = Script()
    script.post = lambda body: Failure(Phase.NOT_SENT, "down")  # type: ignore[method-assign]
    with Station("http://127.0.0.1:1", tmp_path, client=lambda: script) as station:
        station.submit(*map(str, range(5)))
        eventually(lambda: "the platform does not take reports" in caplog.text)
        station.sender.submit(in_memory("late"))
        eventually(lambda: "late.ready" in states(tmp_path))
    assert f"reports undelivered: 6; they wait in {tmp_path}" in caplog.text
    assert "only memory has them" not in caplog.text


def test_what_no_spool_has_taken_is_said_to_be_lost(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """There is a file in the place of its directory: a later start finds nothing there."""
    script = Script()
    script.post = lambda body: Failure(Phase.NOT_SENT, "down")  # type: ignore[method-assign]
    with Station("http://127.0.0.1:1", tmp_path, client=lambda: script) as station:
        station.submit("kept")
        (tmp_path / "platform" / shard_of("lost")).write_text("in the way")
        station.sender.submit(in_memory("lost"))
        eventually(lambda: station.counters["transport.down"] >= 2)
    assert f"reports undelivered: 1; they wait in {tmp_path}" in caplog.text
    assert "reports undelivered: 1; only memory has them: they are lost when the process ends" in caplog.text


def test_without_a_spool_what_is_left_is_said_to_be_lost(caplog: pytest.LogCaptureFixture) -> None:
    """There is nowhere to keep it beyond the process."""
    script = Script()
    script.post = lambda body: Failure(Phase.NOT_SENT, "down")  # type: ignore[method-assign]
    station = Station("http://127.0.0.1:1", None, client=lambda: script)
    station.sender.submit(in_memory())
    assert not station.sender.close(0.05)
    assert "reports undelivered: 1; only memory has them" in caplog.text


@pytest.mark.filterwarnings("ignore:.*multi-threaded:DeprecationWarning")
def test_a_forked_child_owns_nothing_and_works(platform: FakePlatform, tmp_path: Path) -> None:
    """What the parent had queued is the parent's; the child's own reports are delivered by the child."""
    with Station(platform.url, tmp_path) as station:
        station.submit("parent")
        assert station.spool is not None
        running = open_call(station.spool, "running")
        child = os.fork()
        if not child:
            code = 1
            try:
                assert station.sender.pending() == 0
                running.append(b'["tags","of the child"')
                station.submit("child")
                code = 0 if station.sender.flush(30.0) else 2
            finally:
                os._exit(code)
        _, status = os.waitpid(child, 0)
        assert os.waitstatus_to_exitcode(status) == 0
        assert station.sender.flush(30.0)
        assert sorted(report.simulation_result_id for report in platform.accepted) == ["child", "parent"]
        assert b"of the child" not in next(tmp_path.rglob("running.*.live")).read_bytes()
        running.discard()


def test_starting_twice_is_starting_once(tmp_path: Path) -> None:
    """Each connection starts the threads; one set of them runs."""
    with Station("http://127.0.0.1:1", tmp_path) as station:
        station.sender.start()
        workers = station.sender._workers
        station.sender.start()
        assert station.sender._workers is workers


def test_a_fork_waits_for_a_client_in_the_making_but_not_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    """An import that hangs must not hang whoever forks; what was not had is not let go of."""
    making = threading.Lock()
    monkeypatch.setattr(senders, "_making", making)
    monkeypatch.setattr(senders, "FORK_WAITS", 0.01)
    with making:
        senders._before_fork()
        senders._after_fork_in_parent()
        assert making.locked()
    senders._before_fork()
    assert making.locked()
    senders._after_fork_in_parent()
    assert not making.locked()


PROGRAM = """
import sys, logging, pathlib
logging.basicConfig(level="INFO")
from bluejay_ws.stats import Counters
from bluejay_ws.delivery.sender import Sender
from tests.delivery.kit import finished_call, settings, spool_at
url, directory, budget = sys.argv[1], pathlib.Path(sys.argv[2]), float(sys.argv[3])
spool = spool_at(directory)
sender = Sender(settings(url, directory, flush_timeout=budget, timeout=30.0), store=spool, counters=Counters())
def go():
    for identity in "123":
        sender.submit(finished_call(spool, identity))
"""


def run(program: str, url: str, directory: Path, budget: float = 5.0) -> str:
    """Run a program to its end; return what it logged."""
    return nursery.run([sys.executable, "-c", PROGRAM + program, url, str(directory), str(budget)]).stderr


ENDS = """
import atexit, multiprocessing, os, threading, time
ends = {
    "main": go,
    "atexit": lambda: atexit.register(go),
    "thread": lambda: threading.Thread(target=lambda: (time.sleep(0.2), go())).start(),
    "child": lambda: multiprocessing.get_context("fork").Process(target=go).start(),
}
for end in ends:  # each in a process of its own, which ends as any does; the imports are made once
    if not os.fork():
        directory = directory / end
        spool = spool_at(directory)
        sender = Sender(settings(url, directory, flush_timeout=budget, timeout=30.0), store=spool, counters=Counters())
        ends[end]()
        sys.exit()
for _ in ends:
    _, status = os.wait()
    assert status == 0
"""


@pytest.mark.usefixtures("measured_children")
def test_a_process_that_ends_delivers_first(platform: FakePlatform, tmp_path: Path) -> None:
    """At the end of main, from atexit, from a thread that outlives main, and in a forked child."""
    run(ENDS, platform.url, tmp_path, 25.0)  # a busy machine takes a while
    assert len(platform.accepted) == 4 * 3
    for end in ("main", "atexit", "thread", "child"):
        assert set(states(tmp_path / end)) == {"1.sent", "2.sent", "3.sent"}


def test_a_platform_that_hangs_holds_the_end_up_no_longer_than_the_budget(tmp_path: Path) -> None:
    """Not even in an exchange that nothing can interrupt; what is left is in the spool, and one line says so."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        began = time.monotonic()
        log = run("go()", f"http://127.0.0.1:{silent.getsockname()[1]}", tmp_path, 0.5)
        assert time.monotonic() - began < 15.0  # the exchange itself would have taken 90
    assert len(states(tmp_path)) == 3
    assert log.count("reports undelivered: 3; they wait in") == 1


def test_a_platform_that_is_down_costs_no_report(tmp_path: Path) -> None:
    """The next start has them all; one may have been on its way when the process ended."""
    run("go()", "http://127.0.0.1:1", tmp_path, 0.3)
    left = [name.partition(".") for name in states(tmp_path)]
    assert sorted(identity for identity, _, _ in left) == ["1", "2", "3"]
    assert {state for _, _, state in left} <= {"ready", "sending"}


# -- calls that end -----------------------------------------------------------------------------------------------


def test_a_crowd_that_ends_at_once_is_waited_for_like_any_report(platform: FakePlatform, tmp_path: Path) -> None:
    """What has ended and not yet written its last lines counts as undelivered, and a flush brings it out."""
    with Station(platform.url, tmp_path) as station:
        for parcel in [station.call(f"{number}") for number in range(40)]:
            station.sender.end(parcel.report_id, functools.partial(station.sender.submit, parcel))
        assert station.sender.pending() >= 30
        assert station.sender.flush(20.0)
        assert len(platform.accepted) == 40


def test_a_call_that_ends_without_a_report_is_not_waited_for(platform: FakePlatform, tmp_path: Path) -> None:
    """It never had an id, or could not be written: nobody waits for it."""
    with Station(platform.url, tmp_path) as station:
        station.sender.end("1" * 32, lambda: station.sender.withdraw("1" * 32))
        assert station.sender.pending() == 0


@pytest.mark.filterwarnings("ignore:.*multi-threaded:DeprecationWarning")
def test_whoever_forks_waits_for_a_client_in_the_making() -> None:
    """Python asks us before each fork: a child born in the middle of an import finds half a module, for ever."""
    done: list[None] = []
    held = threading.Event()

    def make() -> None:
        with senders._making:
            held.set()
            time.sleep(0.2)
            done.append(None)

    maker = threading.Thread(target=make)
    maker.start()
    held.wait()
    child = os.fork()
    if not child:
        os._exit(0 if done else 1)
    maker.join()
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def test_the_spool_is_looked_after(tmp_path: Path) -> None:
    """Now and then, beside the agent's loop: what was written goes to the disk, what is old goes away."""
    station = Station("http://127.0.0.1:1", tmp_path)
    assert station.spool is not None
    file = open_call(station.spool, "720488")
    old = tmp_path / f"1.{new_id()}.sent"
    old.write_bytes(b"")
    os.utime(old, (time.time() - 2 * 86_400.0,) * 2)
    for chore in station.sender._chores():
        chore.run()
    assert not file.sync()  # there is nothing left to be done
    assert not list(tmp_path.rglob(old.name))
    file.discard()


def test_a_report_after_the_close_needs_nobody_who_waits_for_it(platform: FakePlatform, tmp_path: Path) -> None:
    """It starts the threads itself."""
    with Station(platform.url, tmp_path) as station:
        station.sender.start()
        assert station.sender.close(10.0)
        station.submit("1")
        platform.wait_for(1)


def test_closing_and_the_end_of_the_process_share_one_budget(tmp_path: Path) -> None:
    """However often a process closes, all of it together takes no longer than ``flush_timeout``."""
    script = Script()
    script.post = lambda body: Failure(Phase.NOT_SENT, "down")  # type: ignore[method-assign]
    with Station("http://127.0.0.1:1", tmp_path, client=lambda: script, flush_timeout=0.5) as station:
        station.submit("1")
        began = time.monotonic()
        for _ in range(8):
            station.sender.close(0.5)
            station.sender.flush(station.sender.left(0.5))
        assert time.monotonic() - began < 8.0  # eight times three would be 12


def test_an_ending_that_raises_anything_ends_no_thread(platform: FakePlatform, tmp_path: Path) -> None:
    """Not even what a value's own code may raise, such as SystemExit: it is counted, and others are written."""

    def ending() -> None:
        raise SystemExit

    with Station(platform.url, tmp_path) as station:
        station.sender.start()
        station.sender.end("1", ending)
        report = station.call("720488")
        station.sender.end(report.report_id, functools.partial(station.sender.submit, report))
        platform.wait_for(1)
        assert station.counters["internal_error.end"] == 1
        eventually(lambda: station.sender.pending() == 0)


def test_where_no_thread_can_be_started_it_is_tried_again(
    platform: FakePlatform, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each second, on the loop that the call ended on; delivery itself never runs there."""
    monkeypatch.setattr(senders, "TRY_AGAIN", 0.02)
    start, allowed = threading.Thread.start, [False]

    def refuse(thread: threading.Thread) -> None:
        if thread.name.startswith("bluejay_ws") and not allowed[0]:
            raise RuntimeError("can't start new thread")
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", refuse)

    async def agent(station: Station) -> None:
        report = station.call("720488")
        station.sender.end(report.report_id, functools.partial(station.sender.submit, report))
        await asyncio.sleep(0.05)
        assert platform.requests == []
        assert states(tmp_path) == ["720488.ready"]
        allowed[0] = True
        while not platform.accepted:
            await asyncio.sleep(0.01)

    with Station(platform.url, tmp_path) as station:
        asyncio.run(agent(station))
        assert station.counters["errors.no_thread"] >= 2


@pytest.mark.parametrize("step", [None, Hang(), Says(accept=False, drip=0.05)])
def test_the_end_of_a_process_that_may_start_no_thread_delivers_on_its_own(
    platform: FakePlatform, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: Step | None
) -> None:
    """Python 3.12 starts none once it ends; a platform that hangs, or drips, costs no more than the budget."""
    left = 2 if step else 0
    if step is not None:
        platform.otherwise(step, reads=step)
    with Station(platform.url, tmp_path, flush_timeout=0.3 if step else 10.0) as station:
        with monkeypatch.context() as patch:
            patch.setattr(threading.Thread, "start", no_thread_of_ours)
            station.submit("1", "2")
            assert station.sender.close(station.settings.flush_timeout) == (not left)
        assert station.sender.pending() == left
        assert len(platform.accepted) == station.counters["http.200"] == 2 - left
        assert station.sender._timeout == station.settings.timeout  # what comes after it has all its time


def test_threads_of_a_client_that_nobody_holds_stay_for_the_looks_that_were_promised(tmp_path: Path) -> None:
    """Then they end."""
    with Station("http://127.0.0.1:1", tmp_path, client=Script) as station:
        sender = station.sender
        sender._verifier = verifier = Verifier(station.counters, after=3600.0)
        sender.start()
        sender.let_go()
        verifier.expect("1", bodies_of_a_report())
        sender._mind()
        assert (verifier.waiting, station.counters["verify.not_looked"]) == (1, 0)
        verifier._waiting.clear()
        sender._mind()
        assert sender._workers is None


def bodies_of_a_report() -> bytes:
    """Return a report as it is posted."""
    return journal.assemble([in_memory().bodies or ()], simulation_result_id="720488")


def test_a_worker_that_cannot_be_started_once_is_started_later(
    platform: FakePlatform, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The scheduler tries again each second."""
    start = threading.Thread.start
    refused: list[threading.Thread] = []

    def refuse_once(thread: threading.Thread) -> None:
        if thread.name == "bluejay_ws-worker" and not refused:
            refused.append(thread)
            raise RuntimeError("can't start new thread")
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", refuse_once)
    with Station(platform.url, tmp_path) as station:
        station.submit("1")
        assert station.sender.flush(20.0)
    assert refused


def test_a_backlog_is_delivered_at_once_and_without_a_look(platform: FakePlatform, tmp_path: Path) -> None:
    """What was never posted needs no look, whatever its time of writing; even one of the future."""
    spool = spool_at(tmp_path)
    for number in range(30):
        finished_call(spool, f"{number}")
    ahead = time.time() + 86_400
    for path in files(tmp_path):
        os.utime(path, (ahead, ahead))
    with Station(platform.url, tmp_path, redial_wait=60.0) as station:
        station.sender.start()
        eventually(lambda: len(platform.accepted) == 30)
        assert [request.method for request in platform.requests] == ["POST"] * 30


@pytest.mark.parametrize("on_a_loop", [True, False])
def test_the_thread_that_ends_calls_is_started_later_without_a_spool_too(
    platform: FakePlatform, monkeypatch: pytest.MonkeyPatch, *, on_a_loop: bool
) -> None:
    """Whether the call ended on an event loop or on a thread: it is tried again each second, not with the next call."""
    monkeypatch.setattr(senders, "TRY_AGAIN", 0.02)
    monkeypatch.setattr(senders, "SYNC_EVERY", 0.02)
    start, refused = threading.Thread.start, [0]

    def refuse(thread: threading.Thread) -> None:
        if thread.name == "bluejay_ws-finisher" and refused[0] < 4:
            refused[0] += 1
            raise RuntimeError("can't start new thread")
        start(thread)

    async def agent(end: Callable[[], None]) -> None:
        end()
        async with asyncio.timeout(20):
            while not platform.accepted:
                await asyncio.sleep(0.01)

    monkeypatch.setattr(threading.Thread, "start", refuse)
    with Station(platform.url, None) as station:
        report = in_memory()
        station.sender.start()
        end = functools.partial(station.sender.end, report.report_id, functools.partial(station.sender.submit, report))
        if on_a_loop:
            asyncio.run(agent(end))
        else:
            end()
            platform.wait_for(1)
        assert refused[0] == 4
