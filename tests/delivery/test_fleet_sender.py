"""The threads of an agent in a fleet: where one cannot be started, it is tried again."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING

import pytest

from bluejay_ws.delivery import sender as senders
from bluejay_ws.delivery.handover import FleetSender
from bluejay_ws.delivery.store import Report
from bluejay_ws.stats import Counters
from tests.support import eventually

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


@pytest.fixture
def sender(monkeypatch: pytest.MonkeyPatch) -> Iterator[FleetSender]:
    """Return a sender that brings nothing anywhere."""
    sender = FleetSender("postgresql://nobody@127.0.0.1:9/none", "x", spool=None, counters=Counters())
    monkeypatch.setattr(sender._handover, "round", lambda: None)
    monkeypatch.setattr(sender._outbox, "leave", lambda: None)
    yield sender
    sender.close(5)


def refuse(patch: pytest.MonkeyPatch, *names: str) -> None:
    """Let no thread of these names start."""
    start = threading.Thread.start

    def refusing(thread: threading.Thread) -> None:
        if thread.name.removeprefix("bluejay_ws-") in names:
            raise RuntimeError("can't start new thread")
        start(thread)

    patch.setattr(threading.Thread, "start", refusing)


def ending(sender: FleetSender, ran: list[str]) -> Callable[[], None]:
    """Return what ends a call of which nothing is to be reported."""

    def end() -> None:
        ran.append("1")
        sender.withdraw("1")

    return end


def test_exit_watch_and_finisher_start_in_a_later_round(sender: FleetSender, monkeypatch: pytest.MonkeyPatch) -> None:
    """The end of the process waits again, and the call that has ended is written."""
    ran: list[str] = []
    with monkeypatch.context() as patch:
        refuse(patch, "exit", "finisher")
        sender.start()
        sender.end("1", ending(sender, ran))
        assert (sender._watched, sender.pending(), ran) == (False, 1, [])
        assert sender._counters["errors.no_thread"] >= 2
    eventually(lambda: sender._watched and ran)
    assert sender.pending() == 0


def test_a_flush_starts_every_thread_that_is_missing(sender: FleetSender, monkeypatch: pytest.MonkeyPatch) -> None:
    """No thread could be started when the call ended."""
    ran: list[str] = []
    with monkeypatch.context() as patch:
        refuse(patch, "exit", "finisher", "handover")
        sender.start()
        sender.end("1", ending(sender, ran))
        assert not sender.flush(0.0)
    assert sender.flush(20)
    assert ran == ["1"]


@pytest.mark.parametrize("wait", [FleetSender.flush, FleetSender.close])
def test_where_no_thread_can_be_started_who_waits_hands_over_itself(
    sender: FleetSender, monkeypatch: pytest.MonkeyPatch, wait: Callable[[FleetSender, float], bool]
) -> None:
    """As at the end of a process since Python 3.12: a pod's disk may die with it."""
    monkeypatch.setattr(sender._handover, "round", lambda: sender.withdraw("1" * 32))
    with monkeypatch.context() as patch:
        refuse(patch, "exit", "finisher", "handover")
        sender.submit(Report("1" * 32, "720488", [b"[]"]))
        assert sender.pending() == 1
        assert wait(sender, 20.0)


def test_a_fork_waits_for_the_driver_that_a_thread_imports(
    sender: FleetSender, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the client was made on the agent's loop: the child would wait for half a module for ever."""
    monkeypatch.setattr(sender._handover, "round", lambda: sender.withdraw("1" * 32))
    with senders._making:  # as whoever forks
        sender.submit(Report("1" * 32, "720488", [b"[]"]))
        assert not sender.flush(0.2)
    assert sender.flush(20)


def test_all_closing_shares_one_budget(sender: FleetSender, monkeypatch: pytest.MonkeyPatch) -> None:
    """The server's shutdown, `close` and the end of the process wait once while the database is away."""
    waited: list[float] = []
    now = [0.0]

    def sleep(seconds: float) -> None:
        now[0] += 1.0
        waited.append(seconds)

    monkeypatch.setattr(time, "sleep", sleep)
    sender._clock = sender._budget._clock = lambda: now[0]
    sender._flush_timeout = sender._budget._seconds = 4.0
    sender.submit(Report("1" * 32, "720488", [b"[]"]))
    assert not sender.flush(sender.left(4.0))
    assert not sender.close(4.0)
    assert not sender.close(4.0)
    assert len(waited) == 4
    sender.start()
    assert not sender.flush(sender.left(2.0))
    assert len(waited) == 6
    sender.withdraw("1" * 32)


def test_a_start_after_a_close_that_did_not_wait_for_a_round_makes_no_two_rounds_at_once(
    sender: FleetSender, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A database that hangs holds the old thread; the new one begins when that has ended."""
    hangs, under_way, most = threading.Event(), [0], [0]

    def make_round() -> None:
        under_way[0] += 1
        most[0] = max(most[0], under_way[0])
        hangs.wait(20)
        sender.withdraw("1" * 32)
        under_way[0] -= 1

    monkeypatch.setattr(sender._handover, "round", make_round)
    sender.submit(Report("1" * 32, "720488", [b"[]"]))
    eventually(lambda: under_way == [1])
    old = sender._thread
    assert old is not None
    assert not sender.close(0.0)
    assert "not handed over to the database: 1; only memory has them" in caplog.text
    with monkeypatch.context() as patch:
        refuse(patch, "exit", "finisher", "handover")
        assert not sender.close(0.1)  # who waits makes no second round either
    sender.start()
    assert sender._thread is not old
    assert not sender.flush(0.05)
    hangs.set()
    assert sender.flush(20)
    old.join(20)
    assert (old.is_alive(), sender._runs(), most) == (False, True, [1])
