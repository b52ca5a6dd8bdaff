"""One step of one call's delivery: what it sends, what it asks, and the state in which it leaves the files."""

from __future__ import annotations

import json
import logging
import time
from typing import TYPE_CHECKING

import pytest

from bluejay_ws.delivery.courier import Courier, Signal, Step
from bluejay_ws.delivery.names import READY, Name
from bluejay_ws.delivery.parcel import Parcel
from bluejay_ws.delivery.part import Job
from bluejay_ws.delivery.verdict import Answer, Failure, Phase
from bluejay_ws.settings import Retry
from bluejay_ws.stats import Counters
from bluejay_ws.wire import fragments, journal
from tests.delivery.faults import as_ordinary_user, no_descriptors, read_only
from tests.delivery.kit import (
    QUICK,
    SUCCESS,
    Script,
    abandoned_call,
    bodies,
    courier,
    end,
    finished_call,
    new_id,
    only,
    open_call,
    result,
    spool_at,
    states,
)

if TYPE_CHECKING:
    from pathlib import Path

    from bluejay_ws.delivery.spool import Spool

UNKNOWN = Failure(Phase.UNKNOWN, "read_timeout")
NOT_SENT = Failure(Phase.NOT_SENT, "connect_error")


class Desk:
    """A courier, its spool and a script of what the platform does."""

    def __init__(self, directory: Path | None, retry: Retry = QUICK) -> None:
        self.counters = Counters()
        self.spool: Spool | None = None if directory is None else spool_at(directory, self.counters)
        self.script = Script()
        self.courier: Courier = courier(self.spool, self.counters, retry)

    def call(self, identity: str = "720488", *tools: str, started_at: float = 1000.0) -> Parcel:
        assert self.spool is not None
        return finished_call(self.spool, identity, *tools, started_at=started_at)

    def step(self, job: Job) -> Step:
        return self.courier.step(job, self.script)

    def run(self, job: Job, most: int = 20) -> list[str]:
        """Take steps until the call is settled; return their reasons."""
        reasons = []
        for _ in range(most):
            step = self.step(job)
            reasons.append(step.reason)
            if step.wait is None:
                return reasons
        return [*reasons, "not settled"]


def job_of(*parcels: Parcel) -> Job:
    """Return a job for parcels of one call."""
    return Job(parcels[0].simulation_result_id, parcels={parcel.report_id: parcel for parcel in parcels})


def marker(*parcels: Parcel) -> Answer:
    """Return a result that holds these reports."""
    return result(events=[{"title": "x", "metadata": {"bluejay_ws": {"report_id": one.report_id}}} for one in parcels])


def in_memory(identity: str = "720488") -> Parcel:
    """Return a report without a file."""
    report_id = new_id()
    return Parcel.from_memory(report_id, identity, bodies(report_id, identity, "freeze_card"))


# -- sending ----------------------------------------------------------------------------------------------------


def test_a_report_is_marked_before_it_leaves_and_buried_when_accepted(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Ready, sending before the first byte, sent; one line in the log."""
    desk = Desk(tmp_path)
    parcel = desk.call("720488", "freeze_card")
    during: list[str] = []
    desk.script.during_post = lambda: during.extend(states(tmp_path))
    with caplog.at_level(logging.INFO, "bluejay_ws"):
        assert desk.step(job_of(parcel)) == Step(None, signal=Signal.PASSED)
    assert during == ["720488.sending"]
    assert states(tmp_path) == ["720488.sent"]
    report = json.loads(desk.script.posted[0])
    assert report["tool_calls"][0]["name"] == "freeze_card"
    assert desk.counters.snapshot() == {"delivered": 1, "http.200": 1}
    (line,) = caplog.messages
    assert line.startswith("call 720488: report delivered (1 tool call, 0 utterances, 1 event), ")
    assert line.endswith(" ms after the close")
    assert len(only(tmp_path).read_bytes().splitlines()) == 2


@pytest.mark.parametrize(
    ("outcome", "wait", "signal", "state"),
    [
        (NOT_SENT, 0.0, Signal.FAILED, "ready"),
        (Failure(Phase.BODY_INCOMPLETE, "write_error"), 0.0, Signal.FAILED, "ready"),
        (Failure(Phase.CERTIFICATE, "certificate_not_trusted"), 0.0, Signal.HOLD, "ready"),
        (Answer(301), 0.0, Signal.HOLD, "ready"),
        (Answer(401), 0.0, Signal.HOLD, "ready"),
        (Answer(404), 0.0, Signal.PASSED, "ready"),
        (Answer(413), 0.0, Signal.PASSED, "ready"),
        (Answer(429, retry_after="7"), 7.0, Signal.FAILED, "ready"),
        (Answer(503, retry_after="7"), 7.0, Signal.FAILED, "sending"),
        (Answer(500), QUICK.read_back[0], Signal.FAILED, "sending"),
        (UNKNOWN, QUICK.read_back[0], Signal.FAILED, "sending"),
        (Answer(422), None, Signal.PASSED, "parked"),
    ],
)
def test_each_outcome_leaves_the_file_in_its_state(
    tmp_path: Path, outcome: Answer | Failure, wait: float | None, signal: Signal, state: str
) -> None:
    """Whoever finds the file next knows whether the report may have arrived; no lock is kept while it waits."""
    desk = Desk(tmp_path)
    job = job_of(desk.call())
    desk.script.posts.append(outcome)
    step = desk.step(job)
    assert (step.wait, step.signal) == (wait, signal)
    assert states(tmp_path) == [f"720488.{state}"]
    assert desk.spool is not None
    assert not desk.spool.gather("720488").busy


def test_a_parked_report_says_why_and_keeps_the_answer_to_itself(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Status, place and kind of complaint reach the log and the file; what the platform echoes reaches neither."""
    desk = Desk(tmp_path)
    body = json.dumps({"detail": [{"loc": ["body", "events"], "type": "missing", "msg": "hush", "input": "hush"}]})
    desk.script.posts.append(Answer(422, body.encode()))
    assert desk.run(job_of(desk.call())) == ["http.422"]
    assert "report parked (http.422 body.events: missing)" in caplog.text
    assert "hush" not in caplog.text
    assert b"hush" not in only(tmp_path).read_bytes()
    assert desk.counters.snapshot() == {"http.422": 1, "parked": 1}


def test_complaints_about_different_places_are_one_kind_of_trouble(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """What the platform says of each report must not make a line of its own for each."""
    desk = Desk(tmp_path)
    for number in range(20):
        desk.script.posts.append(Answer(422, json.dumps({"detail": [{"loc": ["body", f"x{number}"]}]}).encode()))
        desk.run(job_of(desk.call(str(number))))
    assert desk.counters["parked"] == 20
    assert len(caplog.messages) == 1


def test_404_is_tried_three_times(tmp_path: Path) -> None:
    """The result may be there a moment later; after that it is not."""
    desk = Desk(tmp_path)
    desk.script.posts.extend([NOT_SENT, Answer(404), Answer(404), Answer(404), SUCCESS])
    assert desk.run(job_of(desk.call())) == ["connect_error", "http.404", "http.404", "http.404"]
    assert states(tmp_path) == ["720488.parked"]


def test_after_413_one_smaller_report_is_tried(tmp_path: Path) -> None:
    """Long outputs are cut, the rest stays; a second 413 is final."""
    desk = Desk(tmp_path)
    desk.script.posts.extend([Answer(413), Answer(413), SUCCESS])
    assert desk.run(job_of(desk.call())) == ["http.413", "http.413"]
    assert states(tmp_path) == ["720488.parked"]
    assert desk.counters["cut.after_413"] == 1


def test_after_413_what_goes_out_is_smaller(tmp_path: Path) -> None:
    """A long output is cut, and nothing else of the report changes."""
    desk = Desk(tmp_path)
    assert desk.spool is not None
    file = open_call(desk.spool, "720488")
    file.append(journal.item("tool_calls", fragments.tool_call(5, "search", {"q": "x"}, "y" * 100_000, None, [])))
    for body in end(file.report_id):
        file.append(body)
    desk.script.posts.append(Answer(413))
    desk.run(job_of(file.seal()))
    whole, cut = map(json.loads, desk.script.posted)
    assert len(desk.script.posted[1]) < 10_000
    assert whole["tool_calls"][0].pop("output") == "y" * 100_000
    assert cut["tool_calls"][0].pop("output").startswith("yyy")
    assert cut == whole


def test_what_was_tried_is_remembered_by_the_next_process(tmp_path: Path) -> None:
    """Resends and the cut are in the file: a restart does not start them anew."""
    desk = Desk(tmp_path)
    desk.script.posts.extend([Answer(413), Answer(500)])
    job = job_of(desk.call())
    for _ in range(2):
        desk.step(job)
    again = Job("720488")
    desk.step(again)
    assert (again.cut, again.attempts) == (True, 2)


@pytest.mark.parametrize(("answer", "state"), [(429, "ready"), (503, "sending")])
def test_the_wait_that_the_platform_asked_for_survives_a_restart(tmp_path: Path, answer: int, state: str) -> None:
    """The next process, and one beside it, keep to it once, though not longer than is believed; then go on."""
    desk = Desk(tmp_path)
    desk.script.posts.append(Answer(answer, retry_after="3600"))
    job = job_of(desk.call())
    assert desk.step(job).wait == Retry().retry_after_ceiling
    again = Job("720488")
    step = desk.step(again)
    assert (step.pinned, step.signal, step.reason) == (True, Signal.NONE, "retry_after")
    assert step.wait == pytest.approx(Retry().retry_after_ceiling, abs=60.0)
    assert states(tmp_path) == [f"720488.{state}"]
    assert len(desk.script.posted) + len(desk.script.looked) == 1
    assert desk.step(again).reason != "retry_after"  # its wait is over, whatever has become of the wall clock
    assert len(desk.script.posted) + len(desk.script.looked) == 2


def test_another_processs_wait_is_not_believed_beyond_the_ceiling(tmp_path: Path) -> None:
    """A clock that went back, or another setting, must not keep a report for a year."""
    desk = Desk(tmp_path)
    parcel = desk.call()
    assert desk.spool is not None
    with desk.spool.claim(Name.of("720488", parcel.report_id, READY)) as claim:
        claim.note(outcome="http.429", next_at=9e12)
    assert desk.step(job_of(parcel)).wait == Retry().retry_after_ceiling


def test_a_wait_that_is_over_delays_nothing(tmp_path: Path) -> None:
    """What was asked for in the past is no reason to wait, and ordinary backoff is not kept at all."""
    desk = Desk(tmp_path)
    desk.script.posts.extend([NOT_SENT, NOT_SENT, Answer(429, retry_after="0.001")])
    job = job_of(desk.call())
    for _ in range(2):
        desk.step(job)
    assert b"next_at" not in only(tmp_path).read_bytes()
    desk.step(job)
    assert b"next_at" in only(tmp_path).read_bytes()
    time.sleep(0.01)
    assert desk.run(Job("720488")) == [""]


# -- reading back -----------------------------------------------------------------------------------------------


def test_a_report_that_is_found_is_not_sent_again(tmp_path: Path) -> None:
    """The answer was lost, the report was not."""
    desk = Desk(tmp_path)
    parcel = desk.call()
    desk.script.posts.append(UNKNOWN)
    desk.script.looks.extend([result(), marker(parcel)])
    assert desk.run(job_of(parcel)) == ["read_timeout", "read_back", "read_back"]
    assert len(desk.script.posted) == 1
    assert states(tmp_path) == ["720488.sent"]
    assert desk.counters["delivered"] == 1


def test_the_looks_are_at_the_times_that_were_set(tmp_path: Path) -> None:
    """Seconds after the outcome, not after each other; then the report goes out again at once."""
    desk = Desk(tmp_path, Retry(read_back=(1.0, 3.0, 8.0)))
    desk.script.posts.append(Answer(502))
    job = job_of(desk.call())
    assert [desk.step(job).wait for _ in range(5)] == [1.0, 2.0, 5.0, 0.0, None]
    assert len(desk.script.posted) == 2


def test_a_report_that_is_never_found_is_sent_again_twice_at_the_most(tmp_path: Path) -> None:
    """Then a person has to look: another accepted copy would count each tool twice."""
    desk = Desk(tmp_path)
    desk.script.posts.extend([Answer(502)] * 9)
    reasons = desk.run(job_of(desk.call()))
    assert len(desk.script.posted) == 3
    assert len(desk.script.looked) == 9
    assert reasons[-1] == "unsettled"
    assert states(tmp_path) == ["720488.held"]
    assert desk.counters["held"] == 1


def test_half_a_report_is_held_and_not_sent_again(tmp_path: Path) -> None:
    """Some of its tool calls are there: sending it again would double them."""
    desk = Desk(tmp_path)
    parcel = desk.call("720488", "one", "two")
    desk.script.posts.append(UNKNOWN)
    group = {"name": "one", "actual": [{"start_offset_ms": 5}]}
    desk.script.looks.extend([result(tool_calls=[group])] * 3)
    assert desk.run(job_of(parcel))[-1] == "unsettled"
    assert len(desk.script.posted) == 1


def test_what_cannot_be_read_is_held_until_it_can(tmp_path: Path) -> None:
    """An outage of reading costs no report and doubles none; it goes on when reading works."""
    desk = Desk(tmp_path)
    parcel = desk.call()
    job = job_of(parcel)
    desk.script.posts.append(UNKNOWN)
    desk.script.looks.extend([Answer(503), NOT_SENT, Answer(200, b"<html>"), Answer(503)])
    steps = [desk.step(job) for _ in range(5)]
    assert states(tmp_path) == ["720488.held"]
    assert all(step.wait is not None and step.wait >= 1.0 for step in steps[1:])
    assert [step.signal for step in steps[1:]] == [Signal.FAILED, Signal.FAILED, Signal.READABLE, Signal.FAILED]
    desk.script.looks.append(marker(parcel))
    assert desk.step(job).wait is None
    assert states(tmp_path) == ["720488.sent"]
    assert len(desk.script.posted) == 1
    assert desk.counters["held"] == 0


def test_a_refused_look_holds_everything_back(tmp_path: Path) -> None:
    """The key is as wrong for reading as for writing."""
    desk = Desk(tmp_path)
    desk.script.posts.append(UNKNOWN)
    desk.script.looks.append(Answer(401))
    job = job_of(desk.call())
    desk.step(job)
    assert desk.step(job).signal is Signal.HOLD
    assert states(tmp_path) == ["720488.sending"]


def test_what_an_earlier_process_left_is_looked_for_before_it_is_sent(tmp_path: Path) -> None:
    """A mark can be lost with the power; one look costs less than a doubled report."""
    desk = Desk(tmp_path)
    parcel = desk.call()
    desk.script.looks.append(marker(parcel))
    assert desk.run(Job("720488", look_first=True)) == ["read_back"]
    assert desk.script.posted == []
    assert states(tmp_path) == ["720488.sent"]


@pytest.mark.parametrize("look", [result(), Answer(404), Answer(422), result(tool_calls=[{"name": "x"}])])
def test_it_is_sent_when_the_look_shows_nothing(tmp_path: Path, look: Answer) -> None:
    """Nobody has tried it, as far as is known: what cannot be seen is taken as not there."""
    desk = Desk(tmp_path)
    desk.call()
    desk.script.looks.append(look)
    assert desk.run(Job("720488", look_first=True))[-1] == ""
    assert states(tmp_path) == ["720488.sent"]


def test_it_waits_while_the_platform_is_down(tmp_path: Path) -> None:
    """An outage at the start is no answer to the look."""
    desk = Desk(tmp_path)
    desk.call()
    desk.script.looks.append(NOT_SENT)
    step = desk.step(Job("720488", look_first=True))
    assert (step.signal, step.wait is None) == (Signal.FAILED, False)
    assert states(tmp_path) == ["720488.ready"]


# -- one id, one report -----------------------------------------------------------------------------------------


def test_both_connections_of_a_redialled_call_are_one_report(tmp_path: Path) -> None:
    """Parts in order, offsets kept, marked; one accepted report, and no file left to send."""
    desk = Desk(tmp_path)
    assert desk.spool is not None
    abandoned_call(desk.spool, "720488", "before", started_at=1000.0)
    later = desk.call("720488", "after", started_at=1010.0)
    assert desk.run(job_of(later)) == [""]
    report = json.loads(desk.script.posted[0])
    assert [call["name"] for call in report["tool_calls"]] == ["before", "after"]
    assert report["metadata"]["bluejay_ws"]["parts"] == 2
    assert [event["title"] for event in report["events"]].count("Reconnected") == 1
    assert states(tmp_path) == ["720488.sent", "720488.sent"]
    assert desk.counters["delivered"] == 2


def test_a_report_waits_for_the_end_of_its_call(tmp_path: Path) -> None:
    """The platform dialled again and is still connected: both parts go out when that ends."""
    desk = Desk(tmp_path)
    first = desk.call()
    assert desk.spool is not None
    running = open_call(desk.spool, "720488", started_at=2000.0)
    job = job_of(first)
    assert desk.step(job) == Step(1.0, pinned=True)
    running.seal()
    assert desk.step(job).wait is None
    assert desk.counters["delivered"] == 2


def test_it_waits_for_another_process_too(tmp_path: Path) -> None:
    """Whoever holds the lock is delivering this call."""
    desk = Desk(tmp_path)
    parcel = desk.call()
    other = spool_at(tmp_path).gather("720488")
    assert desk.step(job_of(parcel)) == Step(0.5, pinned=True)
    other.release()
    assert desk.script.posted == []


def test_an_id_that_was_reported_is_not_reported_again(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A second accepted report would be appended to the first; it is held with a clear error."""
    desk = Desk(tmp_path)
    desk.run(job_of(desk.call()))
    assert desk.run(job_of(desk.call())) == ["already_delivered"]
    assert len(desk.script.posted) == 1
    assert states(tmp_path) == ["720488.held", "720488.sent"]
    assert desk.counters["held"] == 1
    assert "report held (already_delivered)" in caplog.text


def test_what_joins_a_held_report_is_held_with_it(tmp_path: Path) -> None:
    """While a person has to decide about one part, the other cannot go out alone."""
    desk = Desk(tmp_path)
    desk.script.posts.extend([Answer(502)] * 3)
    desk.run(job_of(desk.call()))
    assert desk.run(job_of(desk.call())) == ["unsettled"]
    assert states(tmp_path) == ["720488.held", "720488.held"]


def test_a_death_between_two_marks_of_one_delivery_is_mended(tmp_path: Path) -> None:
    """The tombstone names its companions: they were delivered with it."""
    desk = Desk(tmp_path)
    assert desk.spool is not None
    one, two = desk.call(started_at=1.0), desk.call(started_at=2.0)
    with desk.spool.claim(Name.of("720488", one.report_id, READY)) as claim:
        claim.entomb({"outcome": "delivered", "report_ids": [one.report_id, two.report_id]})
    assert desk.run(Job("720488")) == ["already_delivered"]
    assert states(tmp_path) == ["720488.sent", "720488.sent"]
    assert desk.counters["held"] == 0
    assert desk.script.posted == []


def test_a_found_part_is_buried_and_the_later_one_held(tmp_path: Path) -> None:
    """The first connection's report did arrive: the second cannot be reported any more."""
    desk = Desk(tmp_path)
    first = desk.call(started_at=1.0)
    job = job_of(first)
    desk.script.posts.append(UNKNOWN)
    desk.step(job)
    second = desk.call(started_at=2.0)
    job.parcels[second.report_id] = second
    desk.script.looks.append(marker(first))
    assert desk.run(job) == ["read_back", "already_delivered"]
    assert states(tmp_path) == ["720488.held", "720488.sent"]


def test_what_a_person_released_is_sent_whatever_was_sent_before(tmp_path: Path) -> None:
    """They have looked, and know better."""
    desk = Desk(tmp_path)
    assert desk.spool is not None
    desk.run(job_of(desk.call()))
    second = desk.call()
    with desk.spool.claim(Name.of("720488", second.report_id, READY)) as claim:
        claim.note(released=True)
    assert desk.run(job_of(second)) == [""]
    assert states(tmp_path) == ["720488.sent", "720488.sent"]


def test_what_another_process_delivered_is_settled(tmp_path: Path) -> None:
    """Nothing is left to do, and nothing is lost."""
    desk, other = Desk(tmp_path), Desk(tmp_path)
    parcel = desk.call()
    other.run(job_of(parcel))
    assert desk.run(job_of(parcel)) == ["elsewhere"]
    assert desk.counters.snapshot() == {}


def test_a_file_that_somebody_removed_is_a_loss_that_is_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """No report disappears without a word."""
    desk = Desk(tmp_path)
    parcel = desk.call()
    only(tmp_path).unlink()
    assert desk.run(job_of(parcel)) == ["elsewhere"]
    assert desk.counters.snapshot() == {"dropped.file_removed": 1}
    assert "is lost: its file was removed from the spool" in caplog.text


# -- memory -----------------------------------------------------------------------------------------------------


def test_without_a_spool_reports_are_sent_from_memory() -> None:
    """Nothing is written anywhere."""
    desk = Desk(None)
    desk.script.posts.extend([NOT_SENT, UNKNOWN])
    desk.script.looks.extend([result()] * 3)
    assert desk.run(job_of(in_memory()))[-1] == ""
    assert len(desk.script.posted) == 3
    assert desk.counters["delivered"] == 1


def test_a_disk_that_has_room_again_takes_the_report(tmp_path: Path) -> None:
    """Before it is sent, so that a crash cannot lose it any more."""
    desk = Desk(tmp_path)
    during: list[str] = []
    desk.script.during_post = lambda: during.extend(states(tmp_path))
    job = job_of(in_memory())
    assert desk.run(job) == [""]
    assert during == ["720488.sending"]
    assert states(tmp_path) == ["720488.sent"]


def test_a_report_from_memory_uses_its_id_up_as_well() -> None:
    """Nothing could be written when it was sent; the tombstone is made when that works again."""
    with as_ordinary_user() as directory:
        desk = Desk(directory)
        job = job_of(in_memory())
        desk.script.posts.append(UNKNOWN)
        with read_only(directory):
            desk.step(job)
        assert states(directory) == []
        desk.script.looks.append(marker(*job.parcels.values()))
        assert desk.run(job) == ["read_back"]
        assert states(directory) == ["720488.sent"]
        assert desk.run(job_of(in_memory())) == ["already_delivered"]


def test_the_broken_file_of_a_report_from_memory_goes_with_it() -> None:
    """It holds a part of what was sent whole, and must not be sent after it."""
    with as_ordinary_user() as directory:
        desk = Desk(directory)
        assert desk.spool is not None
        report_id = abandoned_call(desk.spool, "720488", "one")
        parcel = Parcel.from_memory(report_id, "720488", bodies(report_id, "720488", "one", "two"))
        desk.script.during_post = lambda: directory.chmod(0o700)
        with read_only(directory):
            assert desk.run(job_of(parcel)) == [""]
        assert desk.script.posted[0].count(b'"name"') == 2
        assert states(directory) == ["720488.sent"]


@pytest.mark.parametrize(("with_spool", "count"), [(True, "parked"), (False, "dropped.parked_without_spool")])
def test_a_report_in_memory_is_parked_on_the_disk_if_there_is_one(tmp_path: Path, with_spool: bool, count: str) -> None:
    """Where there is none it is lost, and said to be."""
    desk = Desk(tmp_path if with_spool else None)
    job = job_of(in_memory())
    job.uncertain.add("keeps it in memory")
    desk.script.posts.append(Answer(422))
    assert desk.run(job) == ["http.422"]
    assert desk.counters[count] == 1
    assert states(tmp_path) == (["720488.parked"] if with_spool else [])


def test_a_spool_that_cannot_be_listed_does_not_stop_what_is_in_memory() -> None:
    """Delivery goes on without the disk."""
    with as_ordinary_user() as directory:
        desk = Desk(directory)
        directory.chmod(0)
        try:
            assert desk.run(job_of(in_memory())) == [""]
        finally:
            directory.chmod(0o700)
        assert desk.counters["spool.gather_eacces"] == 1


def test_it_stops_what_is_on_the_disk_until_it_can_be_read(tmp_path: Path) -> None:
    """Without descriptors nothing is taken for delivered."""
    desk = Desk(tmp_path)
    job = job_of(desk.call())
    with no_descriptors():
        step = desk.step(job)
    assert step.wait is not None
    assert step.wait >= 0.5
    assert desk.counters.snapshot() == {"spool.gather_emfile": 1}
    assert desk.run(job) == [""]


def test_a_mark_that_cannot_be_made_does_not_stop_delivery() -> None:
    """A directory that became read-only keeps the file; the platform gets the report."""
    with as_ordinary_user() as directory:
        desk = Desk(directory)
        job = job_of(desk.call())
        with read_only(directory):
            assert desk.run(job) == [""]
        assert states(directory) == ["720488.ready"]
        assert desk.counters["delivered"] == 1
        assert desk.counters["spool.rename_eacces"] == 2


def test_what_was_left_by_a_dead_process_says_so(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """There is no close to count from."""
    desk = Desk(tmp_path)
    desk.call()
    with caplog.at_level(logging.INFO, "bluejay_ws"):
        desk.run(Job("720488"))
    assert caplog.messages[-1].endswith("left by a process that ended")
