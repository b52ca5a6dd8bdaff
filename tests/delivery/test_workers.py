"""The threads by themselves: what they do where something fails, hangs or has become superfluous."""

from __future__ import annotations

import queue
import threading
import time
from typing import TYPE_CHECKING

import pytest

from bluejay_ws.delivery import workers as module
from bluejay_ws.delivery.outcomes import Failure
from bluejay_ws.delivery.workers import Chore, Finisher, NoClient, Workers
from bluejay_ws.stats import Counters
from tests.delivery.kit import Script
from tests.support import eventually

if TYPE_CHECKING:
    from collections.abc import Iterator

    from bluejay_ws.delivery.attempt import Exchange
    from bluejay_ws.delivery.store import Report


class Work:
    """What stands in the place of the queue: nothing is due, and what is handled is noted."""

    def __init__(self) -> None:
        self.inbox: queue.SimpleQueue[object] = queue.SimpleQueue()
        self.handled: list[object] = []
        self.pending = 1
        self.bell = threading.Event()
        self.hold = threading.Event()
        self.hold.set()

    def handle(self, item: object, exchange: object) -> None:
        """Note it; wait as long as a test says so."""
        self.handled.append(item)
        self.hold.wait(20.0)

    def wake(self) -> None:
        """End a wait."""
        self.bell.set()

    def wait(self, seconds: float) -> None:
        """Wait for that."""
        self.bell.wait(max(0.001, seconds))
        self.bell.clear()

    def due(self, limit: int) -> tuple[list[object], float]:
        """Return nothing."""
        return [], 60.0


class Crew:
    """Workers over such work."""

    def __init__(self, chores: list[Chore] | None = None, *, idle: float = 60.0) -> None:
        self.work = Work()
        self.counters = Counters()
        self.script = Script()
        self.workers = Workers(
            self.work,  # type: ignore[arg-type]
            make_client=self.client,
            chores=chores or [],
            clock=time.monotonic,
            counters=self.counters,
            idle=idle,
        )

    def client(self) -> Exchange:
        """Return the client of a worker."""
        return self.script

    @property
    def hired(self) -> int:
        """Return how many workers there are."""
        return len(self.workers._workers)


@pytest.fixture
def crews() -> Iterator[list[Crew]]:
    """Return a list whose workers are stopped at the end."""
    made: list[Crew] = []
    yield made
    for crew in made:
        crew.work.hold.set()
        crew.workers.stop(10.0)


def report() -> Report:
    """Return a report."""
    from bluejay_ws.delivery.store import Report

    return Report("0" * 32, "1", ())


def test_a_chore_that_fails_ends_nothing_and_is_done_again(crews: list[Crew]) -> None:
    """It is counted."""
    done: list[str] = []

    def fails() -> None:
        done.append("fails")
        raise ZeroDivisionError

    crew = Crew([Chore(fails, 0.001)])
    crews.append(crew)
    crew.workers.start()
    eventually(lambda: len(done) >= 2)
    assert crew.counters["errors.delivery.ZeroDivisionError"] >= 2


def test_a_round_that_fails_ends_nothing(crews: list[Crew], monkeypatch: pytest.MonkeyPatch) -> None:
    """Everything depends on the scheduler: whatever is wrong is counted, and the next round may do better."""
    monkeypatch.setattr(module, "TICK", 0.01)
    crew = Crew()
    crews.append(crew)
    due = crew.work.due
    crew.work.due = lambda _: (_ for _ in ()).throw(KeyError("x"))  # type: ignore[method-assign,assignment]
    crew.workers.start()
    eventually(lambda: crew.counters["errors.delivery.KeyError"] >= 2)
    crew.work.due = due  # type: ignore[method-assign]
    item = report()
    crew.work.inbox.put(item)
    eventually(lambda: item in crew.work.handled)


def test_workers_that_wait_get_help_and_the_helpers_leave(crews: list[Crew], monkeypatch: pytest.MonkeyPatch) -> None:
    """More are started while all wait for the platform; when there is nothing to do, one stays."""
    monkeypatch.setattr(module, "WATCH_TICK", 0.01)
    crew = Crew(idle=0.05)
    crews.append(crew)
    crew.work.hold.clear()
    crew.workers.start()
    for _ in range(3):
        crew.work.inbox.put(report())
    crew.work.wake()
    eventually(lambda: len(crew.work.handled) == 3)
    assert crew.hired == 3
    crew.work.hold.set()
    eventually(lambda: crew.hired == 1)
    crew.work.inbox.put(report())
    eventually(lambda: len(crew.work.handled) == 4)


def test_a_worker_that_hung_at_the_end_ends_later_whoever_took_its_notice(crews: list[Crew]) -> None:
    """The workers of the next start read the same inbox."""
    crew = Crew(idle=0.05)
    crews.append(crew)
    crew.work.hold.clear()
    crew.workers.start()
    crew.work.inbox.put(report())
    eventually(lambda: crew.work.handled)
    (worker,) = crew.workers._workers
    crew.workers.stop(0.0)
    while not crew.work.inbox.empty():
        crew.work.inbox.get()
    crew.work.hold.set()
    worker.thread.join(20.0)
    assert not worker.thread.is_alive()


def test_where_no_client_can_be_made_the_reason_is_the_outcome(crews: list[Crew]) -> None:
    """Of each exchange, until one can be made."""
    crew = Crew()
    crews.append(crew)
    error = ValueError("x")
    error.detail = "mend it"  # type: ignore[attr-defined]

    def fail() -> Exchange:
        raise error

    crew.workers._make_client = fail
    client = crew.workers.make_client()
    assert isinstance(client, NoClient)
    answers = client.post(b""), client.look("1")
    assert {(answer.reason, answer.detail) for answer in answers} == {("no_http_client_ValueError", "mend it")}
    assert all(isinstance(answer, Failure) for answer in answers)
    client.abort_if_late(0.0)
    client.close()
    assert crew.counters["errors.delivery.ValueError"] == 1


def test_stopping_twice_or_before_the_start_is_allowed() -> None:
    """What was not started needs no end; and what others left in the inbox ends no worker but their own."""
    crew, other = Crew(), Crew()
    crew.workers.stop(1.0)
    other.workers.start()
    eventually(lambda: other.hired == 1)
    other.work.inbox.put(crew.workers)
    item = report()
    other.work.inbox.put(item)
    eventually(lambda: other.work.handled == [item])
    other.workers.stop(10.0)
    other.workers.stop(10.0)
    assert other.hired == 0


# -- endings ------------------------------------------------------------------------------------------------------


def test_endings_run_in_order_on_a_thread_of_their_own() -> None:
    """A crowd is let pass first; after `stop` the thread is gone, and a later ending starts another."""
    lost: list[str] = []
    endings = Finisher(Counters(), lost.append)
    ran: list[int] = []
    for number in range(8):
        assert endings.add(f"{number}", lambda n=number: ran.append(n))  # type: ignore[misc]
    eventually(lambda: len(ran) == 8)
    assert ran == list(range(8))
    thread = endings._thread
    assert thread is not None
    endings.stop()
    endings.stop()
    thread.join(30.0)
    assert not thread.is_alive()
    assert endings.add("8", lambda: ran.append(8))
    eventually(lambda: len(ran) == 9)
    assert endings.start()
    endings.stop()
    assert lost == []


def test_whoever_drains_runs_what_waits_and_waits_for_no_more_than_the_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """An ending that hangs, as on a disk that does, holds up nobody."""
    monkeypatch.setattr(module, "LEAST_WAIT", 0.01)
    endings = Finisher(Counters(), lambda _: None)
    inside, leave = threading.Event(), threading.Event()

    def hang() -> None:
        inside.set()
        leave.wait(20.0)

    ran: list[int] = []
    endings.add("1", hang)
    assert inside.wait(20.0)
    endings.add("2", lambda: ran.append(2))
    endings.drain(0.0)
    assert ran == []
    leave.set()
    endings.drain(20.0)
    assert ran == [2]
    endings.stop()


def test_where_the_thread_cannot_start_the_ending_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is run by whoever drains, or by the thread when there can be one."""
    counters = Counters()
    endings = Finisher(counters, lambda _: None)
    ran: list[int] = []
    with monkeypatch.context() as broken:
        broken.setattr(threading.Thread, "start", lambda _: (_ for _ in ()).throw(RuntimeError("can't start")))
        assert not endings.add("1", lambda: ran.append(1))
    assert counters["errors.no_thread"] == 1
    endings.drain(1.0)
    assert ran == [1]


def test_a_thread_of_endings_that_was_ended_is_started_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """A KeyboardInterrupt passes through it; the calls after it are written all the same."""
    ended = threading.Event()
    monkeypatch.setattr(threading, "excepthook", lambda _: ended.set())
    endings = Finisher(Counters(), lambda _: None)
    ran: list[int] = []

    def interrupted() -> None:
        raise KeyboardInterrupt

    endings.add("1", interrupted)
    assert ended.wait(20.0)
    eventually(lambda: endings._thread is None)
    assert endings.add("2", lambda: ran.append(2))
    eventually(lambda: ran == [2])
    endings.stop()
