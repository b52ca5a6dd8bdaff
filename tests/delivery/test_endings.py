"""The ends of calls: the few at once, the many beside the loop, none forgotten."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING

from bluejay_ws.delivery.endings import FEW, Endings

if TYPE_CHECKING:
    from collections.abc import Callable

    import pytest

NEVER = 60.0
"""Seconds of rest within which a test that waits for them would fail."""


class Watch:
    """A clock that is set by hand."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


class Ends:
    """Endings that say which of them ran, in which order and on which thread."""

    def __init__(self) -> None:
        self.ran: list[int] = []
        self.threads: list[str] = []
        self.done = threading.Event()

    def one(self, number: int, *, last: bool = False) -> Callable[[], None]:
        def ending() -> None:
            self.ran.append(number)
            self.threads.append(threading.current_thread().name)
            if last:
                self.done.set()

        return ending

    def crowd(self, endings: Endings, count: int) -> None:
        for number in range(count):
            endings.run(self.one(number, last=number == count - 1))


def ours() -> list[threading.Thread]:
    """Return the threads of all endings that are alive."""
    """Return the threads of all endings that are alive."""
    return [thread for thread in threading.enumerate() if thread.name == "bluejay_ws-endings"]


def test_a_few_endings_run_at_once_where_they_come_from() -> None:
    """A call that ends by itself is sealed before its connection's handler goes on; no thread is started."""
    ends, before = Ends(), len(ours())
    ends.crowd(Endings(), FEW)
    assert ends.ran == list(range(FEW))
    assert set(ends.threads) == {threading.current_thread().name}
    assert len(ours()) == before


def test_the_rest_of_a_crowd_runs_on_a_thread_in_order() -> None:
    """The loop runs the first few; all others are run, in the order in which they came."""
    ends, endings = Ends(), Endings(let_pass=0.0, idle=0.1)
    ends.crowd(endings, 100)
    assert ends.done.wait(20.0)
    assert ends.ran == list(range(100))
    assert set(ends.threads[FEW:]) == {"bluejay_ws-endings"}


def test_a_crowd_is_let_pass_first() -> None:
    """As long as more of them come, the thread leaves the interpreter to the loop that closes their sockets."""
    ends, endings = Ends(), Endings(few=0, let_pass=NEVER)
    ends.crowd(endings, 3)
    time.sleep(0.05)
    assert ends.ran == []
    endings.drain(5.0)


def test_few_are_as_many_as_come_in_a_while() -> None:
    """Calls that end one after the other all end at once, however many they are."""
    watch, ends = Watch(), Ends()
    endings = Endings(few=2, window=0.1, let_pass=NEVER, clock=watch)
    for number in range(20):
        endings.run(ends.one(number))
        watch.now += 0.06
    assert ends.ran == list(range(20))


def test_draining_runs_at_once_what_waits() -> None:
    """Whoever flushes or closes waits for no crowd to pass."""
    ends, endings = Ends(), Endings(few=0, let_pass=NEVER)
    ends.crowd(endings, 50)
    endings.drain(5.0)
    assert ends.ran == list(range(50))
    assert set(ends.threads) == {threading.current_thread().name}


def test_draining_waits_for_the_one_that_is_under_way_but_not_for_ever() -> None:
    """A disk that hangs costs no more than the time that was given."""
    begun, go_on = threading.Event(), threading.Event()
    endings = Endings(few=0, let_pass=0.0, idle=0.1)
    over: list[bool] = []

    def hang() -> None:
        begun.set()
        go_on.wait(20.0)
        over.append(True)

    endings.run(hang)
    assert begun.wait(20.0)
    endings.drain(0.01)
    assert over == []
    threading.Timer(0.05, go_on.set).start()
    endings.drain(20.0)
    assert over == [True]


def test_draining_does_not_wait_for_ever_for_one_that_hangs_before_others() -> None:
    """Those that wait behind a disk that hangs are not begun either; they run once it works again, and none twice."""
    begun, go_on, ends = threading.Event(), threading.Event(), Ends()
    endings = Endings(few=0, let_pass=0.0, idle=0.1)

    def hang() -> None:
        begun.set()
        go_on.wait(20.0)

    endings.run(hang)
    assert begun.wait(20.0)
    ends.crowd(endings, 3)
    endings.drain(0.01)
    assert ends.ran == []
    go_on.set()
    endings.drain(20.0)
    assert ends.ran == [0, 1, 2]


def test_an_ending_may_drain_what_it_is_part_of() -> None:
    """At the end of the interpreter an ending delivers at once, which flushes, which drains."""
    ends, endings = Ends(), Endings(few=0, let_pass=NEVER)
    endings.run(lambda: endings.drain(5.0))
    ends.crowd(endings, 2)
    endings.drain(5.0)
    assert ends.ran == [0, 1]


def test_a_thread_that_is_not_needed_ends_and_the_next_crowd_starts_another() -> None:
    """An agent that saw one crowd in its life keeps no thread for it."""
    endings = Endings(few=0, let_pass=0.0, idle=0.01)
    for _ in range(3):
        ends = Ends()
        ends.crowd(endings, 5)
        assert ends.done.wait(20.0)
        until = time.monotonic() + 20.0
        while endings._thread is not None and time.monotonic() < until:
            time.sleep(0.005)
        assert endings._thread is None


def test_none_is_forgotten_between_two_threads() -> None:
    """One that comes in the instant in which the thread ends is run all the same."""
    endings = Endings(few=0, let_pass=0.0, idle=0.0)
    for _ in range(300):
        ends = Ends()
        ends.crowd(endings, 1)
        assert ends.done.wait(20.0)


def test_where_no_thread_can_be_started_they_run_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """At the end of the interpreter there are no new threads, and nothing is left behind."""

    def refuse(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", refuse)
    ends = Ends()
    ends.crowd(Endings(few=0), 3)
    assert ends.ran == [0, 1, 2]
