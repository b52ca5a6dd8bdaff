"""One attempt: what it does where the store is in trouble, the id is used up, or the platform asked to wait."""

from __future__ import annotations

import json
import logging
import os
import shutil
from collections import deque
from typing import TYPE_CHECKING

import pytest

from bluejay_ws.delivery import attempt as attempt_module
from bluejay_ws.delivery.attempt import Attempts, Context, Delivery
from bluejay_ws.delivery.files import SENDING, Name, shard_of
from bluejay_ws.delivery.outcomes import Answer, Failure, Phase, State
from bluejay_ws.delivery.store import Report, Store
from bluejay_ws.settings import Settings
from bluejay_ws.stats import Counters
from bluejay_ws.wire import journal
from tests.delivery.kit import (
    Script,
    adopted,
    attempts,
    bodies,
    delivery_of,
    finished_call,
    locked,
    move,
    new_id,
    only,
    open_call,
    result,
    spool_at,
    states,
    until_settled,
)

if TYPE_CHECKING:
    from pathlib import Path


LOST = Failure(Phase.UNKNOWN, "read_timeout")
LATER = Answer(429, retry_after=30.0)


def in_memory(identity: str = "720488", *tools: str) -> Report:
    """Return a report that no store has."""
    report_id = new_id()
    return Report(report_id, identity, bodies(report_id, identity, *tools))


def block(directory: Path, identity: str) -> Path:
    """Put a file where the directory of a call's files belongs; return it."""
    place = directory / "platform" / shard_of(identity)
    shutil.rmtree(place, ignore_errors=True)
    place.parent.mkdir(exist_ok=True)
    place.write_bytes(b"")
    return place


# -- a store in trouble -----------------------------------------------------------------------------------------


def test_a_report_in_memory_is_delivered_where_the_spool_cannot_be_worked_with(tmp_path: Path) -> None:
    """The report is whole without it."""
    counters = Counters()
    spool = spool_at(tmp_path, counters)
    block(tmp_path, "720488")
    script = Script()
    decision = attempts(spool, counters).attempt(delivery_of(in_memory()), script)
    assert decision.state is State.DELIVERED
    assert len(script.posted) == 1
    assert counters["spool.lease_NotADirectoryError"] == 1


def test_a_report_that_only_the_spool_has_waits_until_it_can_be_worked_with(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Nothing is sent, nothing is given up, and it is said."""
    spool = spool_at(tmp_path)
    report = finished_call(spool, "720488")
    place = tmp_path / "platform" / shard_of("720488")
    aside = place.rename(tmp_path / "aside")
    block(tmp_path, "720488").chmod(0o600)
    script, delivery, work = Script(), delivery_of(report), attempts(spool)
    decision = work.attempt(delivery, script)
    assert (decision.state, decision.reason, script.posted) == (State.WAITING, "store", [])
    assert decision.wait is not None
    assert decision.wait > 0.0
    assert f"reports in {tmp_path} cannot be read (NotADirectoryError)" in caplog.text
    place.unlink()
    aside.rename(place)
    assert work.attempt(delivery, script).state is State.DELIVERED


@pytest.mark.parametrize(("look", "why"), [(Answer(403), "http.403"), (Answer(404, b"<html>"), "http.404"), (LOST, "")])
def test_that_a_result_cannot_be_read_back_is_said(
    look: Answer | Failure, why: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A report may wait for long where its key may not read, or a gateway answers."""
    script = Script(deque([LOST]), deque([look]))
    delivery, work = delivery_of(finished_call(spool_at(tmp_path), "720488")), attempts(spool_at(tmp_path))
    assert [work.attempt(delivery, script).state for _ in range(2)] == [State.UNKNOWN] * 2
    assert f"its result cannot be read back: {why or 'transport.read_timeout'}" in caplog.text


def test_a_login_page_in_the_place_of_the_platform_says_what_to_check(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The URL of the website is a usual mistake: it answers 200 to everything."""
    script = Script(deque([Answer(200, b"<html>welcome")]))
    delivery, work = delivery_of(finished_call(spool_at(tmp_path), "720488")), attempts(spool_at(tmp_path))
    assert work.attempt(delivery, script).state is State.UNKNOWN
    assert "(http.200_unexpected_body: not an answer of Bluejay's API to this report; check BLUEJAY" in caplog.text


def test_a_mark_that_the_disk_refused_is_made_later(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A delivered report is not posted again, not counted again, and its file gets its name once that is possible."""
    counters = Counters()
    spool = spool_at(tmp_path, counters)
    report = finished_call(spool, "720488")
    work, script = attempts(spool, counters), Script()
    rename = os.rename
    with monkeypatch.context() as broken:
        broken.setattr(os, "rename", lambda *_: (_ for _ in ()).throw(OSError(5, "input/output error")))
        assert work.attempt(delivery_of(report), script).state is State.DELIVERED
        assert work.mark_again("720488", report.report_id)
    assert os.rename is rename
    assert states(tmp_path) == ["720488.ready"]
    place = tmp_path / "platform" / shard_of("720488")
    aside = place.rename(tmp_path / "aside")
    block(tmp_path, "720488")
    assert work.mark_again("720488", report.report_id)  # not now
    assert counters["spool.lease_NotADirectoryError"] == 1
    place.unlink()
    aside.rename(place)
    assert work.mark_again("720488", report.report_id)
    assert states(tmp_path) == ["720488.sent"]
    assert not work.mark_again("720488", report.report_id)
    assert (len(script.posted), counters["delivered"]) == (1, 1)


def test_what_is_remembered_has_a_bound(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The oldest are forgotten first: delivered ids, and marks that the disk refused."""
    monkeypatch.setattr(attempt_module, "REMEMBERED", 2)
    spool = spool_at(tmp_path)
    reports = [finished_call(spool, f"{number}") for number in range(3)]
    work = attempts(spool)
    with monkeypatch.context() as broken:
        broken.setattr(os, "rename", lambda *_: (_ for _ in ()).throw(OSError(30, "read-only")))
        for report in reports:
            assert work.attempt(delivery_of(report), Script()).state is State.DELIVERED
    known = [work.mark_again(report.simulation_result_id, report.report_id) for report in reports]
    assert known == [False, True, True]
    memory = attempts(Store())
    posted = Script()
    for identity in ("1", "2", "3", "3", "1"):
        memory.attempt(delivery_of(in_memory(identity)), posted)
    assert [json.loads(body)["simulation_result_id"] for body in posted.posted] == ["1", "2", "3", "1"]


def test_a_report_that_somebody_removed_is_said_to_be_lost(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """It is counted, and nothing waits for it any more."""
    counters = Counters()
    spool = spool_at(tmp_path, counters)
    report = finished_call(spool, "720488")
    shutil.rmtree(tmp_path / "platform")
    decision = attempts(spool, counters).attempt(delivery_of(report), Script())
    assert (decision.wait, decision.reason) == (None, "elsewhere")
    assert counters["dropped.file_removed"] == 1
    assert f"report {report.report_id} is lost" in caplog.text


def test_a_call_that_another_process_delivered_is_settled_silently(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """It took the file over; nothing is lost, and nothing is posted twice."""
    report = finished_call(spool_at(tmp_path), "720488")
    other, script = spool_at(tmp_path), Script()
    assert attempts(other).attempt(delivery_of(report), script).state is State.DELIVERED
    assert attempts(spool_at(tmp_path)).attempt(delivery_of(report), script).wait is None
    assert len(script.posted) == 1
    assert [record for record in caplog.records if record.levelno >= logging.ERROR] == []


# -- one id, one report -----------------------------------------------------------------------------------------


def test_a_call_that_goes_on_is_waited_for(tmp_path: Path) -> None:
    """The platform takes one report for one id: the connection that is still open belongs to it."""
    spool = spool_at(tmp_path)
    first = finished_call(spool, "720488", "freeze_card")
    second = open_call(spool, "720488", "send_sms")
    work, script, delivery = attempts(spool), Script(), delivery_of(first)
    decision = work.attempt(delivery, script)
    assert (decision.state, script.posted) == (State.WAITING, [])
    later = second.seal()
    delivery.reports[later.report_id] = later
    assert work.attempt(delivery, script).state is State.DELIVERED
    assert len(json.loads(script.posted[0])["tool_calls"]) == 2


def test_a_report_of_the_local_caller_leaves_no_machine(tmp_path: Path) -> None:
    """A client whose platform is elsewhere parks it: it came from an earlier version, or a moved file."""
    spool = spool_at(tmp_path)
    report = finished_call(spool, "local-1")
    settings = Settings.load(api_key="k", base_url="https://platform.invalid", spool=False, environ={})
    work = Attempts(
        Context(settings, Counters(), lambda: 0.0, lambda: 0.0, lambda: 0.5),
        spool,
    )
    script = Script()
    assert work.attempt(delivery_of(report), script).state is State.PARKED
    assert (script.posted, states(tmp_path)) == ([], ["local-1.parked"])


def test_what_joins_a_held_call_is_held_for_the_same_reason(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A person decides on all of it together."""
    spool = spool_at(tmp_path)
    timeless = result(tool_calls=[{"name": "freeze_card", "actual": [{"output": {}}]}])
    first = finished_call(spool, "720488", "freeze_card")
    until_settled(attempts(spool), delivery_of(first), Script(deque([LOST]), deque([timeless])))
    second = finished_call(spool, "720488", "send_sms")
    script = Script()
    assert attempts(spool).attempt(delivery_of(second), script).state is State.HELD
    assert script.posted == []
    assert states(tmp_path) == ["720488.held", "720488.held"]
    assert f"report {second.report_id} held (in_part_or_unclear)" in caplog.text


def test_a_delivery_whose_second_mark_is_missing_is_marked(tmp_path: Path) -> None:
    """The process died between two marks of one delivery: the first names them all, and nothing is posted again."""
    spool = spool_at(tmp_path)
    first, second = finished_call(spool, "720488"), finished_call(spool, "720488")
    script = Script()
    delivery = delivery_of(first, second)
    assert attempts(spool).attempt(delivery, script).state is State.DELIVERED
    sent = next(path for path in tmp_path.rglob(f"*{second.report_id}.sent"))
    sent.rename(sent.with_suffix(".sending"))
    attempts(spool_at(tmp_path)).attempt(adopted(spool_at(tmp_path), "720488"), script)
    assert (len(script.posted), script.looked) == (1, [])
    assert states(tmp_path) == ["720488.sent", "720488.sent"]


def test_of_two_reports_the_one_that_a_look_does_not_show_is_for_a_person(tmp_path: Path) -> None:
    """What proves one proves no other, and the id is used up."""
    spool = spool_at(tmp_path)
    first, second = finished_call(spool, "720488", "freeze_card"), finished_call(spool, "720488", "send_sms")
    for report in (first, second):
        move(spool, report, SENDING, outcome="sending", attempts=1)
    marker = {"title": "Connection closed", "metadata": {"bluejay_ws": {"report_id": first.report_id}}}
    script = Script(looks=deque([result(events=[marker])]))
    counters = Counters()
    work = attempts(spool, counters)
    assert work.attempt(delivery_of(first, second), script).state is State.DELIVERED
    assert script.posted == []
    assert states(tmp_path) == ["720488.held", "720488.sent"]
    assert (counters["delivered"], counters["held"]) == (1, 1)


# -- waiting as the platform asked ------------------------------------------------------------------------------


def test_a_wait_that_the_platform_asked_for_outlives_the_process(tmp_path: Path) -> None:
    """The next process keeps to it once, also where the clock jumps; and after it, the report is posted."""
    now = [1000.0]
    spool = spool_at(tmp_path)
    report = finished_call(spool, "720488")
    script = Script(deque([LATER]))
    attempts(spool, wall=lambda: now[0]).attempt(delivery_of(report), script)
    now[0] += 10.0
    work, delivery = attempts(spool, wall=lambda: now[0]), adopted(spool_at(tmp_path), "720488")
    decision = work.attempt(delivery, script)
    assert (decision.reason, decision.wait, len(script.posted)) == ("retry_after", 20.0, 1)
    assert work.attempt(delivery, script).state is State.DELIVERED


def test_a_report_without_a_store_is_held_in_vain(caplog: pytest.LogCaptureFixture) -> None:
    """It is counted as lost, and said so."""
    counters = Counters()
    work = attempts(Store(), counters)
    until_settled(work, delivery_of(in_memory()), Script(deque([Answer(422, b'{"detail": "no"}')])))
    assert counters["dropped.parked_without_spool"] == 1
    assert "there is no spool, it is lost" in caplog.text


def test_a_reason_from_a_file_that_is_no_word_of_ours_is_not_said(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """What somebody wrote into a file forges no log line."""
    spool = spool_at(tmp_path)
    held = finished_call(spool, "720488")
    move(spool, held, "held", outcome="x\nERROR forged")
    late = finished_call(spool, "720488")
    attempts(spool).attempt(Delivery("720488", reports={late.report_id: late}), Script())
    assert "forged" not in caplog.text
    assert Name.parse(f"720488.{late.report_id}.held") in {
        Name.parse(path.name) for path in tmp_path.rglob("720488.*.held")
    }


def test_a_report_whose_file_was_removed_is_missed_although_another_of_its_call_is_sent(tmp_path: Path) -> None:
    """Two connections of one call: one is in memory, the file of the other is gone. Once, and by its name."""
    counters = Counters()
    spool = spool_at(tmp_path, counters)
    gone = finished_call(spool, "1")
    only(tmp_path).unlink()
    delivery = delivery_of(gone, in_memory("1", "freeze_card"))
    script = Script(posts=deque([Failure(Phase.NOT_SENT, "connect_error")]))
    assert until_settled(attempts(spool, counters), delivery, script).state is State.DELIVERED
    assert counters["dropped.file_removed"] == 1
    assert counters["delivered"] == 1


@pytest.mark.parametrize("place", ["a file", "a link to itself"])
def test_a_report_in_memory_is_settled_whatever_stands_in_the_place_of_the_spool(tmp_path: Path, place: str) -> None:
    """Neither the tombstone nor a listing of its directory is possible there."""
    counters = Counters()
    directory = tmp_path / "spool"
    spool = spool_at(directory, counters)
    shutil.rmtree(directory)
    directory.write_text("") if place == "a file" else directory.symlink_to(directory)
    report = in_memory("2", "freeze_card")
    work, script = attempts(spool, counters), Script()
    assert until_settled(work, delivery_of(report), script).state is State.DELIVERED
    assert until_settled(work, delivery_of(in_memory("2")), script).state is State.HELD
    assert len(script.posted) == 1


@pytest.mark.parametrize("shown", [True, False])
def test_where_nothing_can_be_noted_what_was_left_is_looked_for_before_it_is_sent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, shown: bool
) -> None:
    """A read-only spool shows the next process a report as never posted, although the one before has delivered it."""

    def refuse(*_: object) -> None:
        raise OSError(30, "read-only file system")

    report = finished_call(spool_at(tmp_path), "720488", "freeze_card")
    spool = spool_at(tmp_path)
    left = adopted(spool, "720488")
    events = [{"title": "x", "metadata": {"bluejay_ws": {"report_id": report.report_id}}}] if shown else []
    script = Script(looks=deque([result(events=events)]))
    with monkeypatch.context() as read_only:
        for call in ("rename", "write", "ftruncate"):
            read_only.setattr(os, call, refuse)
        assert until_settled(attempts(spool), left, script).state is State.DELIVERED
    assert script.looked == ["720488"]
    assert len(script.posted) == (0 if shown else 1)
    assert left.history.attempts == len(script.posted)


def test_a_refused_name_alone_needs_no_look(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the name cannot tell the next process, a line in the file does."""
    finished_call(spool_at(tmp_path), "720488", "freeze_card")
    spool = spool_at(tmp_path)
    left, script = adopted(spool, "720488"), Script()

    def refuse(*_: object) -> None:
        raise OSError(13, "permission denied")

    with monkeypatch.context() as patch:
        patch.setattr(os, "rename", refuse)
        assert attempts(spool).attempt(left, script).state is State.DELIVERED
    assert script.looked == []


@pytest.mark.parametrize(
    "between", [Failure(Phase.NOT_SENT, "connect_error"), LATER, Answer(502, request_complete=False)]
)
def test_after_an_unknown_outcome_every_later_post_follows_a_look(tmp_path: Path, between: Answer | Failure) -> None:
    """The one between met nobody, and meanwhile the first one shows: it had waited in front of the platform."""
    spool = spool_at(tmp_path)
    report = finished_call(spool, "720488")
    marker = {"bluejay_ws": {"report_id": report.report_id}}
    shown = result(events=[{"title": "Connection closed", "start_offset_ms": 9, "metadata": marker}])
    script = Script(deque([LOST, between]), deque([result(), result(), result(), result(), shown]))
    work, delivery = attempts(spool), delivery_of(report)
    states_seen = []
    while len(script.posted) < 2:
        work.attempt(delivery, script)
        states_seen += states(tmp_path)
    assert set(states_seen) == {"720488.sending"}
    decision = until_settled(work, delivery, script)
    assert (decision.reason, len(script.posted)) == ("read_back", 2)


def test_a_report_that_is_saved_beside_a_live_file_leaves_one_file(tmp_path: Path) -> None:
    """Its name could not be changed when the call ended: the next process would take it for another report."""
    counters = Counters()
    spool = spool_at(tmp_path, counters)
    live = open_call(spool, "720488", "freeze_card")
    (way,) = (tmp_path / "platform").iterdir()
    ready = way / f"720488.{live.report_id}.ready"
    ready.mkdir()  # in the way of the name
    (ready / "x").touch()
    report = live.seal()
    (ready / "x").unlink()
    ready.rmdir()
    assert report.bodies
    work, delivery, script = attempts(spool, counters), delivery_of(report), Script()
    assert until_settled(work, delivery, script).state is State.DELIVERED
    assert (states(tmp_path), len(script.posted)) == (["720488.sent"], 1)


def test_of_two_files_of_a_report_the_one_that_says_delivered_counts(tmp_path: Path) -> None:
    """The disk refused the last name too, and the first file could not be removed: nothing is sent again."""
    spool = spool_at(tmp_path)
    report = finished_call(spool, "720488", "freeze_card")
    (ready,) = (path for path in tmp_path.rglob("*.ready"))
    ready.with_suffix(".sending").write_bytes(ready.read_bytes())
    with locked(spool, Name("720488", report.report_id, SENDING)) as file:
        file.note(state="delivered")
    with ready.open("ab") as longer:
        longer.write(journal.line(journal.delivery({"outcome": "process_lost"})))
        longer.write(journal.line(journal.delivery({"outcome": "process_lost"})))
    script = Script()
    decision = until_settled(attempts(spool), adopted(spool, "720488"), script)
    assert (decision.wait, script.posted) == (None, [])
    assert not ready.exists()
