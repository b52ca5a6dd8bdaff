"""A deliverer's worker, with a database that gives the calls it is told to."""

from __future__ import annotations

import math
import random
import threading
import time
import types
from typing import Any, Self

import pytest

from bluejay_ws.delivery import deliverer as module
from bluejay_ws.delivery.deliverer import Deliverer
from bluejay_ws.delivery.outcomes import Answer, Failure
from bluejay_ws.delivery.postgres import ClaimedCall, ClaimedReport, Settlement
from bluejay_ws.exceptions import SpoolError
from bluejay_ws.stats import Counters
from bluejay_ws.wire import journal
from tests.delivery.kit import SUCCESS, Script, bodies, new_id, settings
from tests.support import eventually


class Client(Script):
    """A platform that follows a script."""

    def abort_if_late(self, now: float) -> None:
        """Do nothing."""

    def close(self) -> None:
        """Do nothing."""


class Database:
    """Gives out calls and notes their states; the deliverer is stopped after the last one."""

    def __init__(self, *calls: ClaimedCall) -> None:
        self.calls = list(calls)
        self.states: list[str] = []
        self.link: Any = Client()
        self.deliverer = deliverer()

    def claim(self, _: float, *, retries_first: bool) -> ClaimedCall | None:
        """Return the next call."""
        del retries_first
        if self.calls:
            return self.calls.pop(0)
        self.deliverer._stop.set()
        return None

    def settle(self, _: ClaimedCall, found: Settlement) -> bool:
        """Note what came of a call."""
        self.states.append(found.state)
        return True

    def hear(self, **_: Any) -> None:
        """Do nothing."""


def deliverer(**options: Any) -> Deliverer:
    """Return a deliverer that is not started."""
    return Deliverer("postgresql://db/x", settings("https://api.example"), counters=Counters(), **options)


def claimed(identity: str = "720488") -> ClaimedCall:
    """Return a call as the database gives it."""
    text = b"".join(map(journal.line, bodies(new_id(), identity)))
    report = ClaimedReport(new_id(), "sealed", len(text), text)
    return ClaimedCall(identity, False, {}, probe=False, failures=0, age=1.0, reports=(report,))


def test_a_client_that_cannot_be_made_is_counted_and_made_later(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The call meanwhile goes back, with an ERROR that says why."""
    monkeypatch.setattr(module, "MISCONFIGURED_PAUSE", 0.0)
    database, client = Database(claimed("1"), claimed("2")), Client()
    client.posts.append(SUCCESS)
    made: list[Any] = [OSError("no certificates"), OSError("no certificates"), client]

    def make() -> Client:
        found = made.pop(0)
        if isinstance(found, Exception):
            raise found
        return client

    worker = database.deliverer
    monkeypatch.setattr(worker, "_make_client", make)
    monkeypatch.setattr(worker, "_outbox", lambda: database)
    worker._work()
    assert database.states == ["waiting", "delivered"]
    assert worker._counters["errors.delivery.OSError"] == 2
    assert client in worker._watched
    assert "no_http_client_OSError" in caplog.text


def test_a_platform_that_asks_for_fewer_requests_gets_none_for_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    """This deliverer takes no calls; the others hear of it when they ask themselves."""
    monkeypatch.setattr(module, "BUSY_PAUSE", 1000.0)
    worker, client, database = deliverer(), Client(), Database(claimed("2"))
    client.posts.append(Answer(429, b""))
    assert worker._attempt(client, claimed(), time.monotonic()).state == "waiting"
    assert worker._claim(database, 1) is None  # type: ignore[arg-type]
    assert len(database.calls) == 1


def test_the_agents_own_random_numbers_are_not_disturbed() -> None:
    """A deliverer may run beside an agent that seeds them."""
    worker, before = deliverer(), random.getstate()
    worker._stop.set()
    with worker._reporting():
        raise SpoolError("db", "away", "wait")
    assert random.getstate() == before
    assert worker._counters["errors.outbox"] == 1


def test_the_databases_time_counts_whatever_becomes_of_this_machines_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is measured against a clock that nobody sets."""
    one = deliverer()
    one._measure(types.SimpleNamespace(now=lambda: 5_000.0))  # type: ignore[arg-type]
    monkeypatch.setattr(time, "time", lambda: 0.0)
    assert 5_000.0 <= one._now() < 5_060.0


class Quiet(Database):
    """A database in which nothing is due, and whose mind hangs or is well."""

    def check(self) -> None:
        """Find nothing wrong."""

    def renew(self, *_: object) -> int:
        """Keep nothing."""
        return 0

    def now(self) -> float:
        """Return a time."""
        return 0.0

    def reap(self, *_: float) -> int:
        """Find no dead process."""
        return 0


class Link(Client):
    """Notes that it was asked to end what is late."""

    def __init__(self) -> None:
        super().__init__()
        self.watched = threading.Event()

    def abort_if_late(self, now: float) -> None:
        """Note it."""
        self.watched.set()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """Do nothing."""


def quiet(monkeypatch: pytest.MonkeyPatch, **options: Any) -> tuple[Deliverer, Link]:
    """Return a deliverer that has nothing to do, and the link of all its threads."""
    database = Quiet()
    database.deliverer = one = deliverer(make_client=Client, **options)
    database.link = link = Link()
    monkeypatch.setattr(database, "claim", lambda *_, **__: None)
    monkeypatch.setattr(module, "Outbox", lambda *_, **__: database)
    monkeypatch.setattr(one._listener, "run", lambda: None)
    return one, link


def test_workers_end_what_is_late_where_the_thread_that_does_so_hangs_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    """A proxy that holds the statement of the watching thread must not stop the deliverer for ever."""
    monkeypatch.setattr(module, "WATCH_EVERY", 0.01)
    one, link = quiet(monkeypatch, workers=1, look_every=3600.0)
    one.start()
    assert link.watched.wait(20.0)
    one.stop()


def test_a_look_that_hangs_keeps_one_worker_only_and_the_end_cuts_it_off(monkeypatch: pytest.MonkeyPatch) -> None:
    """The others go on claiming; and a look waits for a client, if there is none yet."""
    one, _ = quiet(monkeypatch, workers=2, look_every=0.01)
    looking, cut_off, made, claims = threading.Event(), threading.Event(), [0], [0]

    class Hangs(Client):
        def look(self, simulation_result_id: str) -> Answer | Failure:
            looking.set()
            cut_off.wait(60.0)
            return super().look(simulation_result_id)

        def abort_if_late(self, now: float) -> None:
            if now == math.inf:
                cut_off.set()

    def make() -> Hangs:
        made[0] += 1
        if made[0] == 1:
            raise OSError("no certificates yet")
        return Hangs()

    def claim(*_: object) -> None:
        claims[0] += 1

    one._make_client, one._claim = make, claim  # type: ignore[assignment, method-assign]
    for number in range(9):
        one._verifier.expect(str(number), b"{}")
    one.start()
    assert looking.wait(20.0)
    before = claims[0]
    eventually(lambda: claims[0] > before + 2)
    one.stop(30.0)
    assert not any(thread.is_alive() for thread in one._threads)
    assert one._counters["verify.not_looked"] == 8


def test_threads_that_cannot_be_started_are_started_later(monkeypatch: pytest.MonkeyPatch) -> None:
    """A limit of processes that lasts a second keeps no deliverer from its work; one without any thread says so."""
    one, _ = quiet(monkeypatch, workers=3, look_every=0.01)
    start, refused = threading.Thread.start, [0]

    def refuse(thread: threading.Thread) -> None:
        refused[0] += 1
        if 1 < refused[0] < 6:
            raise RuntimeError("can't start new thread")
        start(thread)

    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", refuse)
        one.start()
        eventually(lambda: not one._missing)
    assert one._counters["errors.no_thread"] == 4
    one.stop()
    assert len(one._threads) == 5

    other, _ = quiet(monkeypatch)
    monkeypatch.setattr(threading.Thread, "start", lambda _: (_ for _ in ()).throw(MemoryError))
    with pytest.raises(SpoolError, match="no thread can be started"):
        other.start()


def test_a_thread_whose_start_takes_long_is_started_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a busy machine a round begins before the last thread is started."""
    one, _ = quiet(monkeypatch, workers=3, look_every=0.001)
    start, names = threading.Thread.start, []

    def slowly(thread: threading.Thread) -> None:
        names.append(thread.name)
        start(thread)
        time.sleep(0.02)

    monkeypatch.setattr(threading.Thread, "start", slowly)
    one.start()
    eventually(lambda: not one._missing)
    one.stop()
    assert names == ["bluejay_ws-deliverer"] * 5


def test_whatever_goes_wrong_in_a_round_is_counted_and_ends_no_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    """Such as a driver's own error: the next round is made."""
    monkeypatch.setattr(module, "SETTLE_PAUSE", 0.0)
    one, _ = quiet(monkeypatch, workers=1, look_every=0.01)
    one._claim = lambda *_: 1 / 0  # type: ignore[assignment]
    one.start()
    eventually(lambda: one._counters["errors.deliverer.ZeroDivisionError"] >= 2)
    one.stop()


def test_a_settlement_that_the_end_of_the_process_cuts_short_is_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    """The lease runs out, and the next deliverer looks before it sends."""
    database = Database()
    one = database.deliverer

    def away(*_: object, **__: object) -> bool:
        raise SpoolError("db", "is away", "wait")

    monkeypatch.setattr(database, "settle", away)
    one._stop.set()
    one._deliver(database, Client(), claimed(), time.monotonic())  # type: ignore[arg-type]
    assert one._counters["outbox.unsettled"] == 1


def test_a_call_whose_reports_hold_no_line_is_parked_unsent() -> None:
    """Nothing of it is left to send."""
    database = Database()
    empty = ClaimedCall("1", False, {}, probe=False, failures=0, age=1.0, reports=())
    client = Client()
    database.deliverer._deliver(database, client, empty, time.monotonic())  # type: ignore[arg-type]
    assert (database.states, client.posted) == (["parked"], [])
