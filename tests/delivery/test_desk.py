"""What delivery's threads share."""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING

from bluejay_ws.delivery import schedule
from bluejay_ws.delivery.desk import Desk
from bluejay_ws.delivery.parcel import Parcel
from bluejay_ws.delivery.sender import Sender
from bluejay_ws.delivery.verdict import Answer, Failure, Phase
from bluejay_ws.settings import Retry, Settings
from bluejay_ws.stats import Counters
from tests.delivery.kit import Script, bodies, finished_call, new_id, settings, spool_at
from tests.delivery.test_crew import no_threads

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    import pytest

    from bluejay_ws.delivery.names import Name
    from bluejay_ws.delivery.spool import Spool

DOWN = Failure(Phase.NOT_SENT, "down")


def desk(
    chosen: Settings | None = None, *, spool: Spool | None = None, wake: Callable[[], None] = lambda: None
) -> Desk:
    """Return a desk without threads."""
    return Desk(
        chosen or settings(),
        spool,
        counters=Counters(),
        clock=time.monotonic,
        wall=time.time,
        random=lambda: 0.5,
        wake=wake,
    )


def parcel(identity: str = "1") -> Parcel:
    """Return a report in memory."""
    report_id = new_id()
    return Parcel.from_memory(report_id, identity, bodies(report_id, identity))


def test_one_thread_can_do_it_all() -> None:
    """Where no other can be started: fresh reports, then those that come again."""
    table, script = desk(), Script()
    script.posts.extend([DOWN, DOWN, DOWN])
    for identity in "12":
        table.put(parcel(identity))
    table.inbox.put("nothing of ours")
    table.work_inline(script, 5.0)
    assert not table.pending
    assert len(script.posted) == 5


def test_it_does_so_no_longer_than_it_may() -> None:
    """The end of the process comes, whatever the platform does."""
    table, script = desk(), Script()
    script.post = lambda body: DOWN  # type: ignore[method-assign]
    table.put(parcel())
    began = time.monotonic()
    table.work_inline(script, 0.2)
    assert time.monotonic() - began >= 0.2
    assert len(table.pending) == 1


def test_at_the_end_of_the_interpreter_reports_are_delivered_before_submit_returns() -> None:
    """No thread can be started any more, so the caller's does the work."""
    script = Script()
    counters = Counters()
    sender = Sender(settings(), spool=None, counters=counters, make_client=lambda: script)
    with no_threads():
        sender.submit(parcel())
        assert sender.pending() == 0
    assert len(script.posted) == 1
    assert counters["errors.no_thread"] == 1


def test_so_they_are_when_only_the_guardian_cannot_be_started() -> None:
    """The workers run: they are waited for."""
    script = Script()
    sender = Sender(settings(), spool=None, counters=Counters(), make_client=lambda: script)
    sender.start()
    crew = sender._crew
    assert crew is not None
    while not [worker for worker in crew._workers if worker.client is script]:
        time.sleep(0.001)
    sender._guarded = False
    with no_threads():
        sender.submit(parcel())
        assert sender.pending() == 0
    sender.close(5.0)


def test_it_is_said_once_that_the_platform_is_down_and_once_that_it_is_back(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not once for each of the reports that wait."""
    monkeypatch.setattr(schedule, "FIRST_PROBE", 0.05)
    monkeypatch.setattr(schedule, "RAMP_START", 50.0)
    table, script = desk(), Script()
    script.posts.extend([DOWN] * 5)
    for identity in "123456":
        table.put(parcel(identity))
    with caplog.at_level(logging.INFO, "bluejay_ws"):
        table.work_inline(script, 10.0)
    said = [record.getMessage() for record in caplog.records]
    assert sum("the platform does not take reports (down); 6 waiting" in line for line in said) == 1
    assert sum("the platform takes reports again" in line for line in said) == 1


def test_a_wrong_key_is_said_with_what_to_do(caplog: pytest.LogCaptureFixture) -> None:
    """One ERROR, and what holds delivery back is known."""
    table, script = desk(), Script()
    script.posts.append(Answer(401))
    table.put(parcel())
    table.work_inline(script, 0.05)
    assert table.held_back == "http.401 the platform refuses the API key; check BLUEJAY_API_KEY"
    assert [record.levelno for record in caplog.records] == [logging.ERROR]
    assert "check BLUEJAY_API_KEY" in caplog.text


def test_nothing_is_held_back_while_a_step_is_under_way(caplog: pytest.LogCaptureFixture) -> None:
    """Whoever stops waiting for that reason finds every file in its place, and the reason in the log."""
    table, first, second = desk(), Script(), Script()
    first.posts.append(Answer(401))
    second.posts.append(Answer(401))
    seen: list[str | None] = []

    def meanwhile() -> None:
        table.handle(parcel("2"), second)
        seen.append(table.held_back)

    class Look(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            seen.append(table.held_back)

    first.during_post = meanwhile
    logging.getLogger("bluejay_ws").addHandler(look := Look())
    try:
        table.handle(parcel("1"), first)
    finally:
        logging.getLogger("bluejay_ws").removeHandler(look)
    assert seen == [None, None]
    assert str(table.held_back).startswith("http.401")


def test_nothing_is_due_without_a_key() -> None:
    """What waits for a key is not waited for at the end of a process."""
    table = desk(Settings.load(environ={}, spool=False))
    assert table.held_back == "no API key"
    table.put(parcel())
    assert table.next_due() == 0.0
    table.work_inline(Script(), 0.01)
    assert table.next_due() == float("inf")


def test_recovery_takes_neither_what_is_submitted_nor_what_is_settled_meanwhile(tmp_path: Path) -> None:
    """A call that ends within the first milliseconds is nobody's but ours, and nobody waits for it twice."""
    spool = spool_at(tmp_path)
    table, script = desk(spool=spool), Script()
    settled, submitted, left = (finished_call(spool, identity) for identity in "123")

    def scan() -> list[Name]:
        names = spool.recover()
        table.put(settled)
        table.work_inline(script, 5.0)
        table.put(submitted)
        return names

    table.recover(scan, 60.0)
    assert list(table.pending) == [submitted.report_id, left.report_id]
    table.work_inline(script, 0.05)
    assert list(table.pending) == [left.report_id]
    assert script.looked == []


def test_the_keeper_is_woken_for_a_report_that_came_during_the_last_step(tmp_path: Path) -> None:
    """The second connection of a call ends while the first one's report is sent: nobody else would look after it."""
    rung: list[None] = []
    spool = spool_at(tmp_path)
    table, script = desk(spool=spool, wake=lambda: rung.append(None)), Script()
    first, second = finished_call(spool, "1"), parcel("1")

    def come_in_between() -> None:
        table.handle(second, script)
        rung.clear()

    script.during_post = come_in_between
    table.handle(first, script)
    assert rung


def test_what_waits_without_need_is_due_when_the_platform_is_back() -> None:
    """Its next try was minutes away; the first report that is accepted after an outage is a reason to go now."""
    now = 0.0
    counters, script = Counters(), Script()
    table = Desk(
        settings(retry=Retry(first=100.0, ceiling=100.0)),
        None,
        counters=counters,
        clock=lambda: now,
        wall=time.time,
        random=lambda: 0.5,
        wake=lambda: None,
    )
    script.posts.extend([DOWN] * 7)
    for identity in "123456":
        table.put(parcel(identity))
        table.handle(table.inbox.get(), script)  # type: ignore[arg-type]
    probes: list[str] = []
    while len(probes) < 3:
        now += 20.0
        (job,), _ = table.due(1)
        probes.append(job.identity)
        table.handle(job, script)
    assert (probes, counters["delivered"]) == (["6", "1", "2"], 1)
    now += 10.0
    assert "1" in [one.identity for one in table.due(9)[0]]


def test_what_a_dead_process_left_waits_for_the_platform_to_dial_again(tmp_path: Path) -> None:
    """Nobody has dialled yet; but if somebody does within that time, both connections are one report."""
    spool, script = spool_at(tmp_path), Script()
    left = finished_call(spool, "1")
    table = desk(spool=spool)
    table.recover(spool.recover, 60.0)
    table.work_inline(script, 0.05)
    assert list(table.pending) == [left.report_id]
    assert 50.0 < table.next_due() <= 60.0
    assert (script.looked, script.posted) == ([], [])
