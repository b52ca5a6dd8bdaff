"""What is due, and in which order."""

from __future__ import annotations

import pytest

from bluejay_ws.delivery import schedule
from bluejay_ws.delivery.agenda import Agenda
from bluejay_ws.delivery.courier import Signal, Step
from bluejay_ws.delivery.parcel import Parcel
from bluejay_ws.delivery.schedule import Gate
from tests.delivery.kit import new_id

SETTLED = Step(None, signal=Signal.PASSED)


def parcel(identity: str, *bodies: bytes) -> Parcel:
    """Return a report, in memory if it has bodies."""
    return Parcel(new_id(), identity, bodies or None)


def agenda(*, closed: bool = False) -> Agenda:
    """Return an agenda before an open or a closed gate."""
    gate = Gate(lambda: 0.5)
    for _ in range(schedule.FAILURES_TO_CLOSE if closed else 0):
        gate.failed(0.0, "down")
    return Agenda(gate)


def test_a_fresh_report_may_start_at_once() -> None:
    """And is settled with its step."""
    book = agenda()
    one = parcel("1")
    job = book.admit(one, 0.0)
    assert job is not None
    assert book.next_due(0.0) == 0.0
    assert book.after(job, SETTLED, 0.0) == ({one.report_id}, False)
    assert book.next_due(0.0) == float("inf")
    assert book.take(0.0, 9) == ([], float("inf"))


def test_what_waits_comes_when_it_is_due() -> None:
    """In the order of the times, not of the calls."""
    book = agenda()
    for identity, wait in (("late", 5.0), ("soon", 1.0)):
        job = book.admit(parcel(identity), 0.0)
        assert job is not None
        book.after(job, Step(wait), 0.0)
    assert book.next_due(0.5) == 0.5
    assert book.take(0.5, 9) == ([], 0.5)
    assert [job.identity for job in book.take(9.0, 9)[0]] == ["soon", "late"]


def test_no_more_is_handed_out_than_was_asked_for() -> None:
    """The rest is asked for again at once."""
    book = agenda(closed=True)
    for identity in "123":
        assert book.admit(parcel(identity), 0.0) is None
    book.gate.passed(0.0)
    jobs, wait = book.take(10.0, 2)
    assert ([job.identity for job in jobs], wait) == (["3", "2"], 0.0)


def test_what_came_during_an_outage_comes_back_as_a_ramp() -> None:
    """Five thousand calls ended meanwhile and were never tried; a call that ends now does not wait behind them."""
    book = agenda(closed=True)
    for number in range(5000):
        book.admit(parcel(str(number)), 0.0)
    (probe,) = book.take(100.0, 9)[0]
    book.after(probe, SETTLED, 100.0)
    sent = 0
    for second in range(101, 161):
        jobs, _ = book.take(second, 10_000)
        sent += len(jobs)
        assert len(jobs) <= (schedule.RAMP_START if second == 101 else schedule.FASTEST)
        assert book.admit(parcel(f"now-{second}"), second) is not None
        for job in jobs:
            book.after(job, SETTLED, second)
    assert sent > 500


def test_what_never_had_a_try_goes_first() -> None:
    """A call that has just ended is worth more than one that has waited for an hour."""
    book = agenda()
    old = book.admit(parcel("old"), 0.0)
    assert old is not None
    book.after(old, Step(1.0), 0.0)
    for _ in range(schedule.FAILURES_TO_CLOSE):
        book.gate.failed(0.0, "down")
    assert book.admit(parcel("new"), 0.5) is None
    assert book.next_due(0.5) == 0.0
    assert [job.identity for job in book.take(100.0, 9)[0]] == ["new"]


def test_a_later_connection_joins_its_call() -> None:
    """One job for one id: waiting, under way, or pinned."""
    book = agenda()
    first, second, third, fourth = (parcel("1") for _ in range(4))
    job = book.admit(first, 0.0)
    assert job is not None
    assert book.admit(second, 0.0) is None
    assert book.after(job, Step(100.0), 0.0) == (set(), False)
    assert book.take(0.0, 9)[0] == [job]
    book.after(job, Step(100.0, pinned=True), 0.0)
    assert book.admit(third, 0.0) is None
    assert book.take(1.0, 9)[0] == []
    assert book.take(100.0, 9)[0] == [job]
    assert book.admit(fourth, 100.0) is None
    book.after(job, Step(50.0, pinned=True), 100.0)
    assert book.take(101.0, 9)[0] == []
    assert book.take(150.0, 9)[0] == [job]
    assert book.after(job, SETTLED, 150.0)[0] == {one.report_id for one in (first, second, third, fourth)}


def test_one_that_waits_without_need_goes_with_the_later_one() -> None:
    """The new connection is a reason to try at once."""
    book = agenda()
    job = book.admit(parcel("1"), 0.0)
    assert job is not None
    book.after(job, Step(100.0), 0.0)
    book.admit(parcel("1"), 1.0)
    assert book.take(1.0, 9)[0] == [job]


def test_a_connection_that_ends_as_its_call_is_settled_is_not_forgotten() -> None:
    """It gets a job of its own."""
    book = agenda()
    job = book.admit(parcel("1"), 0.0)
    assert job is not None
    late = parcel("1")
    book.admit(late, 0.0)
    book.after(job, SETTLED, 0.0)
    (again,) = book.take(0.0, 9)[0]
    assert again is not job
    assert list(again.parcels) == [late.report_id]


def test_a_fresh_one_that_waits_takes_the_later_one_along() -> None:
    """Before the gate, both wait for the same step."""
    book = agenda(closed=True)
    book.admit(parcel("1"), 0.0)
    book.admit(parcel("1"), 0.0)
    (job,) = book.take(10.0, 9)[0]
    assert len(job.parcels) == 2


def test_what_was_left_behind_waits_for_the_redial() -> None:
    """Both files of one call are one job, and one that is known already is added to."""
    book = agenda()
    book.adopt("1", "a" * 32, 2.0)
    book.adopt("1", "b" * 32, 9.0)
    book.pull_in(0.0)
    assert book.take(1.0, 9) == ([], 1.0)
    (job,) = book.take(2.0, 9)[0]
    assert job.look_first
    assert book.after(job, SETTLED, 2.0)[0] == {"a" * 32, "b" * 32}


def test_what_waits_without_need_can_be_pulled_in() -> None:
    """Not what the platform asked to wait, nor what is under way or never had a try."""
    book = agenda()
    jobs = [book.admit(parcel(identity), 0.0) for identity in ("jitter", "asked", "running")]
    for job, step in zip(jobs, (Step(100.0), Step(100.0, pinned=True)), strict=False):
        assert job is not None
        book.after(job, step, 0.0)
    book.pull_in(1.0)
    assert [job.identity for job in book.take(1.0, 9)[0]] == ["jitter"]


@pytest.mark.parametrize(
    ("signal", "closes"), [(Signal.HOLD, True), (Signal.FAILED, False), (Signal.READABLE, False), (Signal.NONE, False)]
)
def test_the_gate_hears_what_a_step_learnt(signal: Signal, closes: bool) -> None:
    """One wrong key closes it, one failure does not."""
    book = agenda()
    job = book.admit(parcel("1"), 0.0)
    assert job is not None
    book.after(job, Step(1.0, signal=signal, reason="why"), 0.0)
    assert (book.gate.reason is not None) is closes


def test_a_step_that_asked_nothing_leaves_the_probe_to_another() -> None:
    """A report that waits for its running call must not keep the platform from being tried."""
    book = agenda(closed=True)
    for identity in "12":
        book.admit(parcel(identity), 0.0)
    (first,) = book.take(5.0, 1)[0]
    book.after(first, Step(1.0, pinned=True), 5.0)
    assert [job.identity for job in book.take(5.0, 1)[0]] == ["1"]


def test_of_those_that_came_during_an_outage_the_last_goes_first() -> None:
    """Somebody may be waiting for it: it is the probe, and it leads the ramp."""
    book = agenda(closed=True)
    for identity in "1234":
        book.admit(parcel(identity), 0.0)
    (probe,) = book.take(5.0, 1)[0]
    assert probe.identity == "4"
    book.after(probe, SETTLED, 5.0)
    assert [book.take(float(second), 1)[0][0].identity for second in (6, 7, 8)] == ["3", "2", "1"]


def test_what_hung_in_an_outage_that_is_over_closes_no_gate() -> None:
    """Its exchange began before another one passed."""
    book = agenda()
    hanging = [book.admit(parcel(str(number)), 0.0) for number in range(schedule.FAILURES_TO_CLOSE)]
    now = book.admit(parcel("now"), 8.0)
    assert now is not None
    book.after(now, SETTLED, 9.0, 8.0)
    for job in hanging:
        assert job is not None
        book.after(job, Step(1.0, signal=Signal.FAILED, reason="read_timeout"), 10.0, 0.0)
    assert book.gate.reason is None


def test_a_probe_that_passes_opens_the_gate() -> None:
    """And says so, for what waits to be pulled in."""
    book = agenda(closed=True)
    book.admit(parcel("1"), 0.0)
    (job,) = book.take(5.0, 1)[0]
    assert book.after(job, SETTLED, 5.0)[1]


def test_behind_a_locked_gate_nothing_is_ever_due() -> None:
    """Waiting for it at the end of a process would be of no use."""
    book = agenda()
    book.gate.lock("no API key")
    book.admit(parcel("1"), 0.0)
    assert book.next_due(0.0) == float("inf")


def test_memory_is_bounded_by_giving_up_the_oldest() -> None:
    """Not what is under way, and a call that has a file stays."""
    book = agenda()
    running = book.admit(parcel("running", b"x" * 100), 0.0)
    assert running is not None
    for _ in range(schedule.FAILURES_TO_CLOSE):
        book.gate.failed(0.0, "down")
    oldest, mixed, newest = parcel("oldest", b"x" * 100), parcel("mixed", b"x" * 100), parcel("newest", b"x" * 100)
    for one in (oldest, mixed, newest):
        book.admit(one, 0.0)
    book.adopt("mixed", "a" * 32, 0.0)
    assert book.evict(1000) == []
    assert book.evict(300) == [("oldest", oldest.report_id), ("mixed", mixed.report_id)]
    assert set(book.jobs) == {"running", "mixed", "newest"}
    book.after(running, Step(1.0), 0.0)
    assert [identity for identity, _ in book.evict(0)] == ["running", "newest"]
    assert set(book.jobs) == {"mixed"}


def test_what_found_a_file_after_all_is_not_in_memory_any_more() -> None:
    """A disk that has room again takes the weight off."""
    book = agenda()
    one = parcel("1", b"x" * 100)
    job = book.admit(one, 0.0)
    assert job is not None
    job.parcels[one.report_id] = Parcel(one.report_id, "1", None)
    book.stored(job)
    book.after(job, Step(1.0), 0.0)
    assert book.evict(0) == []


@pytest.mark.parametrize("left", [False, True])
def test_a_report_of_our_own_does_not_wait_because_recovery_saw_its_file_first(left: bool) -> None:
    """It is due at once; only what a process that died left with it is a reason to look before sending."""
    book = agenda()
    one = parcel("1")
    book.adopt("1", one.report_id, 2.0)
    if left:
        book.adopt("1", new_id(), 2.0)
    assert book.admit(one, 0.0) is None
    (job,), _ = book.take(0.0, 9)
    assert job.look_first is left


def test_a_wait_that_the_platform_asked_for_is_kept_when_another_part_comes() -> None:
    """Only the wait of a recovery is ended by a report of our own."""
    book = agenda()
    book.adopt("1", new_id(), 0.0)
    (job,), _ = book.take(0.0, 9)
    book.after(job, Step(60.0, pinned=True), 0.0)
    assert book.admit(parcel("1"), 1.0) is None
    assert book.take(1.0, 9) == ([], 59.0)


def test_of_what_came_during_an_outage_the_latest_is_first() -> None:
    """Whoever has just hung up looks at the result now; each older one follows behind those that came later."""
    book = agenda(closed=True)
    for number in range(15):
        book.admit(parcel(str(number)), 0.0)
    (probe,) = book.take(100.0, 9)[0]
    book.after(probe, SETTLED, 100.0)
    order = [int(job.identity) for job in (probe, *book.take(200.0, 99)[0])]
    assert order == [*reversed(range(15))]
