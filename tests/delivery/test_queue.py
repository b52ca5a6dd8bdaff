"""What is to be delivered and when, on a clock that is moved by hand and without a thread."""

from __future__ import annotations

import json
import math
from collections import deque
from typing import TYPE_CHECKING

import pytest

from bluejay_ws.delivery import queue as queue_module
from bluejay_ws.delivery.attempt import Context
from bluejay_ws.delivery.outcomes import Answer, Failure, Phase
from bluejay_ws.delivery.queue import Queue
from bluejay_ws.delivery.store import Found, Report, Store
from bluejay_ws.settings import Settings
from bluejay_ws.stats import Counters
from tests.delivery.kit import Script, bodies, finished_call, new_id, settings, spool_at, states

if TYPE_CHECKING:
    from pathlib import Path

    from bluejay_ws.delivery.spool import Spool

DOWN = Failure(Phase.NOT_SENT, "connect_error")
SLOW = Answer(429, retry_after=30.0)


class Bench:
    """A queue without threads: `run` does what the scheduler and a worker do."""

    def __init__(self, store: Spool | None = None, options: Settings | None = None) -> None:
        self.now = 1000.0
        self.counters = Counters()
        self.script = Script()
        self.queue = Queue(
            Context(options or settings(), self.counters, lambda: self.now, lambda: self.now, lambda: 0.5),
            store or Store(),
        )

    def put(self, identity: str, size: int = 0) -> Report:
        """Submit a report that only memory has."""
        report_id = new_id()
        more = [b'["metadata",{"x":"' + b"x" * size + b'"}'] if size else []
        report = Report(report_id, identity, [*bodies(report_id, identity), *more])
        self.queue.put(report)
        return report

    def run(self, seconds: float = 0.0) -> None:
        """Take in what was submitted, and make every attempt that is due until then."""
        self.now += seconds
        while not self.queue.inbox.empty():
            self.queue.handle(self.queue.inbox.get(), self.script)  # type: ignore[arg-type]
        for delivery in self.queue.due(10)[0]:
            self.queue.handle(delivery, self.script)

    def posted(self) -> list[str]:
        """Return the ids that were posted, in order."""
        return [json.loads(body)["simulation_result_id"] for body in self.script.posted]


def test_a_later_connection_joins_the_delivery_that_waits() -> None:
    """It is tried at once: there is something new to send."""
    bench = Bench()
    bench.script.posts.append(DOWN)
    bench.script.posts.append(DOWN)
    bench.put("1")
    bench.run()
    bench.run()
    bench.put("1")
    bench.run()
    assert bench.queue.pending == 0
    assert [body.count(b"Connection closed") for body in bench.script.posted] == [1, 1, 2]


def test_one_that_joins_a_wait_that_the_platform_asked_for_waits_too() -> None:
    """The platform is asked no earlier."""
    bench = Bench()
    bench.script.posts.append(SLOW)
    bench.put("1")
    bench.run()
    bench.put("1")
    bench.run(10.0)
    assert len(bench.posted()) == 1
    bench.run(30.0)
    assert bench.queue.pending == 0


@pytest.mark.parametrize(("answer", "posts"), [(DOWN, 2), (SLOW, 1), (Answer(200, b'{"status":"success"}'), 1)])
def test_what_arrives_during_an_attempt_goes_out_after_it(answer: Answer | Failure, posts: int) -> None:
    """With the delivery if that continues; where it is settled, the id is used up and the rest is held."""
    bench = Bench()
    bench.script.posts.append(answer)

    def arrive() -> None:
        bench.script.during_post = lambda: None
        for _ in range(2):
            bench.put("1")
            bench.queue.handle(bench.queue.inbox.get(), bench.script)  # type: ignore[arg-type]

    bench.script.during_post = arrive
    bench.put("1")
    bench.run()
    bench.run(1.0)
    assert len(bench.posted()) == posts
    bench.run(60.0)
    assert bench.queue.pending == 0
    assert bench.counters["delivered"] + bench.counters["dropped.held_without_spool"] == 3


def test_a_redialled_call_is_not_waited_for_any_longer(tmp_path: Path) -> None:
    """What a dead process left waits for the platform to dial again: it has."""
    spool = spool_at(tmp_path)
    left = finished_call(spool, "1")
    bench = Bench(spool)
    bench.queue.recover(lambda: [Found("1", left.report_id, 60.0), Found("1", "0" * 32, 60.0)])
    assert bench.queue.next_due() == 60.0
    bench.run()
    assert bench.posted() == []
    bench.queue.put(finished_call(spool, "1"))
    bench.run()
    assert bench.posted() == ["1"]
    assert states(tmp_path) == ["1.sent", "1.sent"]


def test_what_is_settled_during_a_scan_is_not_taken_for_left(tmp_path: Path) -> None:
    """The listing was made before; so is what this process has submitted itself."""
    spool = spool_at(tmp_path)
    bench = Bench(spool)
    report, waiting = finished_call(spool, "1"), finished_call(spool, "2")

    def scan() -> list[Found]:
        found = [Found("1", report.report_id), Found("2", waiting.report_id)]
        bench.queue.put(report)
        bench.run()
        bench.queue.put(waiting)  # and is not taken in yet
        return found

    bench.queue.recover(scan)
    assert bench.queue.pending == 1
    bench.run()
    assert bench.posted() == ["1", "2"]


def test_a_report_that_was_expected_and_does_not_come_is_not_waited_for() -> None:
    """One that has come is not taken back."""
    bench = Bench()
    bench.queue.expect("a")
    assert bench.queue.next_due() == 0.0
    bench.queue.withdraw("a")
    bench.queue.withdraw("b")
    report = bench.put("1")
    assert bench.queue.next_due() == 0.0
    bench.queue.withdraw(report.report_id)
    assert bench.queue.pending == 1
    bench.run()
    assert bench.queue.next_due() == math.inf


def test_without_a_key_nothing_is_ever_due() -> None:
    """So the end of a process does not wait for it."""
    bench = Bench(options=Settings.load(base_url="http://127.0.0.1:1", spool=False, environ={}))
    bench.put("1")
    bench.run(3600.0)
    assert bench.queue.next_due() == math.inf
    assert bench.queue.blocked is not None
    assert bench.posted() == []


def test_an_error_of_our_own_is_said_once_and_tried_again(caplog: pytest.LogCaptureFixture) -> None:
    """However many reports meet it."""
    bench = Bench()

    def fail() -> None:
        raise ZeroDivisionError

    bench.script.during_post = fail
    bench.put("1")
    bench.put("2")
    bench.run()
    assert bench.counters["errors.delivery.ZeroDivisionError"] == 2
    assert caplog.text.count("delivery failed by an error of its own") == 1
    bench.script.during_post = lambda: None
    bench.script.looks.extend([Answer(404, b'{"detail": "no"}')] * 9)
    for _ in range(9):
        bench.run(10.0)
    assert bench.queue.pending == 0


def test_the_oldest_of_too_many_reports_in_memory_are_given_up(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Also those that never had a try; what is being sent, and what a store holds too, keeps its delivery."""
    monkeypatch.setattr(queue_module, "MEMORY_LIMIT", 25_000)
    bench = Bench()
    bench.script.posts = deque([DOWN] * 100)
    for number in range(8):
        bench.put(f"{number}", 9_000)
        bench.run()
    assert bench.queue.pending == 2
    assert bench.counters["dropped.memory_full"] == 6
    assert "call 0: report is lost" in caplog.text
    bench.put("7", 9_000)
    bench.put("7", 9_000)
    bench.run()
    assert bench.queue.pending == 2
    bench.script.posts.clear()
    for _ in range(9):
        bench.run(30.0)
    assert bench.queue.pending == 0


def test_what_is_being_sent_is_not_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its attempt has it in its hands."""
    monkeypatch.setattr(queue_module, "MEMORY_LIMIT", 10_000)
    bench = Bench()

    def crowd() -> None:
        bench.script.during_post = lambda: None
        bench.put("2", 9_000)
        bench.queue.handle(bench.queue.inbox.get(), bench.script)  # type: ignore[arg-type]

    bench.script.during_post = crowd
    bench.put("1", 9_000)
    bench.run()
    assert bench.posted()[0] == "1"
    assert bench.counters["delivered"] >= 1


def test_what_waits_is_pulled_in_when_the_platform_is_back() -> None:
    """But for a wait that the platform asked for."""
    bench = Bench()
    bench.script.posts = deque([SLOW, *[DOWN] * 40])
    bench.put("slow")
    bench.run()
    for number in range(5):
        bench.put(f"{number}")
    for _ in range(12):
        bench.run(1.0)
    assert bench.queue.pending == 6
    bench.script.posts.clear()
    for _ in range(40):
        bench.run(1.0)
    assert bench.queue.pending == 0
    assert not bench.queue._bell.locked()  # the scheduler is to look


@pytest.mark.parametrize("status", [401, 403, 405, 413])
def test_one_report_that_is_refused_does_not_hold_up_the_others(status: int, caplog: pytest.LogCaptureFixture) -> None:
    """A firewall that dislikes its words, or an id of another account: the others pass, and nobody hears a false alarm.

    What the platform says of the key is never held against one report; else it is left to a person in the end.
    """
    bench = Bench()
    refused = Answer(status, b"<html>blocked</html>")
    accepts = Answer(200, b'{"status":"success"}')
    bench.script.post = lambda body: refused if b'"poison"' in body else accepts  # type: ignore[method-assign]
    bench.put("poison")
    for number in range(100):
        bench.put(str(number))
        for _ in range(10):
            bench.run(1.0)
    assert bench.counters["delivered"] == 100
    assert bench.counters["dropped.parked_without_spool"] == (status != 401)
    assert caplog.text.count("no report is accepted") == 1
