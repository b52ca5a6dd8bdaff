"""The keeper and the workers."""

from __future__ import annotations

import contextlib
import threading
import time
from typing import TYPE_CHECKING, Self

import pytest

from bluejay_ws.delivery.crew import THREADS_MOST, WORKERS, WORKERS_MOST, Chore, Crew, NoClient, Worker
from bluejay_ws.delivery.desk import Desk
from bluejay_ws.delivery.parcel import Parcel
from bluejay_ws.delivery.verdict import Answer, Phase
from bluejay_ws.stats import Counters
from tests.delivery.kit import SUCCESS, Script, bodies, new_id, settings

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


class Yard:
    """A crew at its desk, and what went wrong."""

    def __init__(self, script: Script, *chores: Chore, idle: float = 10.0) -> None:
        self.counters = Counters()
        self.errors: list[Exception] = []
        self.desk = Desk(
            settings(),
            None,
            counters=self.counters,
            clock=time.monotonic,
            wall=time.time,
            random=lambda: 0.5,
            wake=self._wake,
        )
        self.crew = Crew(
            self.desk,
            make_client=lambda: script,
            chores=chores,
            clock=time.monotonic,
            failed=self.errors.append,
            idle=idle,
        )

    def _wake(self) -> None:
        self.crew.wake()

    def __enter__(self) -> Self:
        self.crew.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.crew.stop(5.0)

    def put(self, *identities: str) -> None:
        for identity in identities:
            report_id = new_id()
            self.desk.put(Parcel.from_memory(report_id, identity, bodies(report_id, identity)))


@contextlib.contextmanager
def no_threads() -> Iterator[None]:
    """Let no thread be started, as at the end of the interpreter."""
    before = threading.stack_size(1 << 46)
    try:
        yield
    finally:
        threading.stack_size(before)


def wait_until(true: Callable[[], object]) -> None:
    """Wait for something to become true."""
    until = time.monotonic() + 20.0
    while not true():
        assert time.monotonic() < until, "it did not happen"
        time.sleep(0.002)


def test_chores_are_done_in_their_time() -> None:
    """At the start, then after their time or sooner if they say so."""
    done: list[str] = []

    def again_soon() -> float:
        done.append("soon")
        return 0.01

    often = Chore(lambda: done.append("often"), 0.01)
    soon = Chore(again_soon, 1e9)
    once = Chore(lambda: done.append("once"), 1e9)
    with Yard(Script(), often, soon, once):
        wait_until(lambda: done.count("often") > 3 and done.count("soon") > 3)
    assert done.count("once") == 1


def test_a_chore_that_fails_stops_nothing() -> None:
    """Its error is counted, the next is done, and it has its turn again."""
    done: list[str] = []

    def fail() -> None:
        done.append("fail")
        raise ZeroDivisionError

    with Yard(Script(), Chore(fail, 0.01), Chore(lambda: done.append("next"), 0.01)) as yard:
        wait_until(lambda: done.count("fail") > 1 and done.count("next") > 1)
    assert {type(error) for error in yard.errors} == {ZeroDivisionError}


def test_a_chore_that_fails_delays_nothing() -> None:
    """What comes after it in the same round is not left for the next."""
    done: list[str] = []

    def fail() -> None:
        raise OSError

    yard = Yard(Script(), Chore(fail, 1e9), Chore(lambda: done.append("next"), 1e9))
    assert yard.crew._round() > 0.0
    assert done == ["next"]
    assert len(yard.errors) == 1


def test_a_keeper_that_fails_goes_on() -> None:
    """Everything depends on it."""
    with Yard(Script()) as yard:
        due, yard.desk.due = yard.desk.due, None  # type: ignore[method-assign, assignment]
        yard.crew.wake()
        wait_until(lambda: yard.errors)
        yard.desk.due = due  # type: ignore[method-assign]
        yard.put("1")
        wait_until(lambda: not yard.desk.pending)


def test_more_workers_are_hired_for_a_slow_platform_and_leave_when_it_is_over() -> None:
    """A platform that takes its time gets several reports at once; an idle process keeps one thread for them."""
    script = Script()
    at_once, most = 0, 0
    lock = threading.Lock()

    def post(body: bytes) -> Answer:
        nonlocal at_once, most
        with lock:
            at_once += 1
            most = max(most, at_once)
        time.sleep(0.3)
        with lock:
            at_once -= 1
        return SUCCESS

    script.post = post  # type: ignore[method-assign]
    with Yard(script, idle=0.1) as yard:
        yard.put(*map(str, range(8)))
        wait_until(lambda: not yard.desk.pending)
        assert most > 1
        wait_until(lambda: len(yard.crew._workers) == WORKERS)
        assert not yard.crew.spare


@pytest.mark.parametrize(("workers", "now"), [(WORKERS_MOST, 1.0), (THREADS_MOST, 1e6)])
def test_no_more_are_hired_than_a_bound(workers: int, now: float) -> None:
    """So many that wait are enough, and so many threads, although all of them are stuck."""
    yard = Yard(Script())
    for _ in range(workers):
        worker = Worker(yard.crew)
        worker.busy_since = 0.0
        yard.crew._workers.append(worker)
    yard.put("1")
    yard.crew._mind_workers(now)
    assert len(yard.crew._workers) == workers


def test_where_no_thread_can_be_started_the_others_go_on() -> None:
    """At the end of the interpreter, workers that run do the work."""
    with Yard(Script()) as yard:
        with no_threads():
            yard.crew._hire()
        assert len(yard.crew._workers) <= WORKERS
        yard.put("1")
        wait_until(lambda: not yard.desk.pending)
    with no_threads(), pytest.raises(RuntimeError):
        Yard(Script()).crew.start()


def test_one_crew_does_not_stop_for_another() -> None:
    """What an earlier crew left in the queue to stop its own threads means nothing to this one."""
    with Yard(Script()) as yard:
        yard.desk.inbox.put(Yard(Script()).crew)
        yard.desk.inbox.put("nothing of ours")
        yard.put("1")
        wait_until(lambda: not yard.desk.pending)


def test_the_stand_in_for_a_client_says_why_there_is_none() -> None:
    """Its failure is one of configuration."""
    none = NoClient(FileNotFoundError())
    assert none.post(b"") == none.look("1")
    assert none.post(b"").phase is Phase.CONFIGURATION
    none.abort_if_late(0.0)
    none.close()


def test_the_keeper_ends_exchanges_that_take_too_long() -> None:
    """It asks each worker's client, again and again, while an exchange is under way."""
    script = Script()
    aborted = threading.Event()
    script.abort_if_late = lambda now: aborted.set()  # type: ignore[method-assign]
    script.during_post = lambda: aborted.wait(10.0)
    with Yard(script) as yard:
        aborted.clear()
        yard.put("1")
        wait_until(lambda: not yard.desk.pending)
    assert aborted.is_set()


def test_what_never_started_can_be_stopped() -> None:
    """There is no thread to wait for."""
    crew = Yard(Script()).crew
    crew.stop(0.0)
    assert crew.stopped
