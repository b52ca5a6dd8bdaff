"""Counts from any thread."""

from __future__ import annotations

import sys
import threading
from concurrent.futures import ThreadPoolExecutor

from bluejay_ws.stats import KINDS_MOST, QUIET_SECONDS, Counters
from tests import nursery


def test_counts_add_up_by_name() -> None:
    """Each name has its own count; a name nobody counted under is zero."""
    counters = Counters()
    counters.add("delivered")
    counters.add("delivered", 2)
    counters.add("dropped.items")
    assert counters["delivered"] == 3
    assert counters["dropped.items"] == 1
    assert counters["never"] == 0


def test_a_snapshot_is_sorted_leaves_out_zeros_and_stands_still() -> None:
    """What is returned is a copy of the moment."""
    counters = Counters()
    counters.add("b")
    counters.add("a", 2)
    counters.add("zero", 0)
    assert counters["asked for"] == 0
    snapshot = counters.snapshot()
    counters.add("a")
    assert list(snapshot.items()) == [("a", 2), ("b", 1)]


def test_who_is_just_counting_may_count() -> None:
    """A handler of signals runs on the thread it interrupts: the lock is that thread's already."""
    counters = Counters()
    done = threading.Event()

    def count_within() -> None:
        with counters._lock:
            counters.add("x")
        done.set()

    threading.Thread(target=count_within, daemon=True).start()
    assert done.wait(30.0)


def test_no_count_is_lost_between_threads() -> None:
    """A thousand additions from eight threads are eight thousand."""
    counters = Counters()

    def count(_: int) -> None:
        for _ in range(1000):
            counters.add("x")

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(count, range(8)))
    assert counters["x"] == 8000


def test_after_a_fork_counting_starts_at_zero_even_if_the_lock_was_held() -> None:
    """The child has counted nothing, and the parent's lock, held at the moment of the fork, is not waited for."""
    counters = Counters()
    counters.add("x")
    holder = threading.Thread(target=counters._lock.acquire)  # in the child there is no such thread
    holder.start()
    holder.join()
    counters.reset_after_fork()
    assert counters.snapshot() == {}
    counters.add("x")
    assert counters["x"] == 1


def test_what_repeats_is_to_be_said_once_a_minute_with_how_often_it_happened() -> None:
    """The first time at once, then nothing for a minute, then how many were left out."""
    counters = Counters()
    assert counters.unsaid("x", 0.0) == 0
    assert [counters.unsaid("x", at) for at in (0.0, 1.0, QUIET_SECONDS - 1)] == [None, None, None]
    assert counters.unsaid("y") == 0
    assert counters.unsaid("x", QUIET_SECONDS) == 3
    assert counters.unsaid("x", 3 * QUIET_SECONDS) == 0


def test_what_is_remembered_of_what_was_said_is_bounded() -> None:
    """An agent whose errors have ever new names fills neither the log nor the memory."""
    counters = Counters()
    said = [counters.unsaid(f"error {number}", 0.0) for number in range(10 * KINDS_MOST)]
    assert said.count(0) == len(counters._told.said) == KINDS_MOST + 1


def test_a_fork_waits_for_what_another_thread_is_making() -> None:
    """A child born in that moment would wait for a thread that it does not have."""
    code = (
        "import os, threading\nfrom bluejay_ws.stats import making\nheld = threading.Event()\n"
        "def hold():\n    with making: held.set(); threading.Event().wait(0.1)\n"
        "threading.Thread(target=hold).start(); held.wait(); child = os.fork()\n"
        "if child == 0: os._exit(0 if making.acquire(timeout=5.0) else 1)\n"
        "print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))"
    )
    assert nursery.run([sys.executable, "-W", "ignore", "-c", code]).stdout == "0\n"
