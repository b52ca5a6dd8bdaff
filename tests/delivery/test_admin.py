"""The spool as a person sees it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from bluejay_ws.delivery import outbox
from bluejay_ws.delivery.names import HELD, PARKED, READY, SENT, Name
from bluejay_ws.delivery.outcomes import Answer
from bluejay_ws.delivery.part import Job
from bluejay_ws.exceptions import SpoolError
from bluejay_ws.stats import Counters
from tests.delivery.faults import as_ordinary_user, no_descriptors, read_only
from tests.delivery.kit import (
    Script,
    abandoned_call,
    courier,
    finished_call,
    new_id,
    open_call,
    result,
    spool_at,
    states,
)

if TYPE_CHECKING:
    from pathlib import Path


def settled(directory: Path, identity: str, *answers: Answer) -> Name:
    """Bring a call's report to where these answers bring it; return its file's name."""
    spool = spool_at(directory)
    parcel = finished_call(spool, identity, "freeze_card")
    script = Script()
    script.posts.extend(answers)
    job = Job(identity, parcels={parcel.report_id: parcel})
    while courier(spool, Counters()).step(job, script).wait is not None:
        pass
    (name,) = (name for name in outbox.find(directory, parcel.report_id))
    return name


def test_what_waits_is_listed_with_its_reason(tmp_path: Path) -> None:
    """Ids, state, age, reason and counts; none of the text."""
    settled(tmp_path, "1", Answer(422, b'{"detail": [{"loc": ["body"], "type": "missing"}]}'))
    settled(tmp_path, "2", *[Answer(502)] * 9)
    settled(tmp_path, "3")
    open_call(spool_at(tmp_path), "4")
    listed = outbox.entries(tmp_path)
    assert [(entry.name.identity, entry.name.state, entry.reason, entry.detail) for entry in listed] == [
        ("1", PARKED, "http.422", "body: missing"),
        ("2", HELD, "unsettled", ""),
    ]
    assert dict(listed[0].counts) == {"tool_calls": 1, "events": 1}
    assert [entry.attempts for entry in listed] == [1, 3]
    assert "4242" not in repr(listed)
    live, sent = (outbox.entries(tmp_path, states=[state], wall=0.0) for state in ("live", SENT))
    assert [(entry.busy, entry.age) for entry in (*live, *sent)] == [(True, 0.0), (False, 0.0)]


def test_a_call_that_its_process_has_left_is_told_from_one_that_goes_on(tmp_path: Path) -> None:
    """Only the first is going to wait until a process starts; what cannot be found out is not called lost."""
    going_on = open_call(spool_at(tmp_path), "1", "freeze_card")
    abandoned_call(spool_at(tmp_path), "2", "freeze_card")
    (tmp_path / str(Name.of("3", new_id(), "live"))).touch()
    listed = {entry.name.identity: entry for entry in outbox.entries(tmp_path, states=["live"])}
    assert {key: (entry.busy, entry.reason) for key, entry in listed.items()} == {
        "1": (True, ""),
        "2": (False, "process_lost"),
        "3": (True, ""),
    }
    assert dict(listed["2"].counts) == {"tool_calls": 1}
    with no_descriptors():
        assert outbox._goes_on(tmp_path, listed["2"].name)
    going_on.discard()


def test_links_are_not_listed(tmp_path: Path) -> None:
    """What is planted is not read."""
    (tmp_path / str(Name.of("1", new_id(), READY))).symlink_to("/etc/passwd")
    assert outbox.entries(tmp_path) == []


def test_a_file_that_goes_while_it_is_listed_is_left_out(tmp_path: Path) -> None:
    """Delivery goes on beside the list."""
    assert outbox._entry(tmp_path, Name.of("1", new_id(), READY), 0.0) is None


def test_one_is_found_by_any_of_its_names(tmp_path: Path) -> None:
    """The call's id, the report's id, or what `ls` prints."""
    name = settled(tmp_path, "1")
    assert outbox.find(tmp_path, "1") == outbox.find(tmp_path, name.report_id) == outbox.find(tmp_path, str(name))
    with pytest.raises(SpoolError, match="holds no call or report '2'"):
        outbox.find(tmp_path, "2")


def test_it_is_exported_as_the_platform_would_get_it(tmp_path: Path) -> None:
    """For looking at, or for posting by hand."""
    name = settled(tmp_path, "1", Answer(422))
    report = json.loads(outbox.export(tmp_path, name))
    assert report["simulation_result_id"] == "1"
    assert report["tool_calls"][0]["output"] == {"status": "frozen"}
    assert outbox.show(tmp_path, name)[0].startswith(b'["call",')
    with pytest.raises(SpoolError, match="cannot be read"):
        outbox.show(tmp_path, name.become(READY))


def deliver(directory: Path, identity: str, *looks: Answer) -> Script:
    """Let a process take up what was released; return what it exchanged."""
    script = Script()
    script.looks.extend(looks)
    job = Job(identity)
    while courier(spool_at(directory), Counters()).step(job, script).wait is not None:
        pass
    return script


def test_retrying_what_was_parked_sends_it(tmp_path: Path) -> None:
    """It certainly was not taken in."""
    name = settled(tmp_path, "1", Answer(422))
    assert outbox.retry(tmp_path, name).state == READY
    assert len(deliver(tmp_path, "1").posted) == 1
    assert states(tmp_path) == ["1.sent"]


def test_retrying_what_is_unsettled_looks_first(tmp_path: Path) -> None:
    """It may have been taken in meanwhile."""
    name = settled(tmp_path, "1", *[Answer(502)] * 9)
    outbox.retry(tmp_path, name)
    found = result(events=[{"title": "x", "metadata": {"bluejay_ws": {"report_id": name.report_id}}}])
    assert deliver(tmp_path, "1", found).posted == []
    assert states(tmp_path) == ["1.sent"]


def test_retrying_a_second_report_does_not_double_the_first(tmp_path: Path) -> None:
    """The id is used up; only releasing sends it."""
    settled(tmp_path, "1")
    second = settled(tmp_path, "1")
    outbox.retry(tmp_path, second)
    assert deliver(tmp_path, "1").posted == []
    assert states(tmp_path) == ["1.held", "1.sent"]


def test_releasing_sends_whatever_was_sent_before(tmp_path: Path) -> None:
    """A person has looked."""
    settled(tmp_path, "1")
    second = settled(tmp_path, "1")
    outbox.release(tmp_path, second)
    script = deliver(tmp_path, "1")
    assert (len(script.posted), script.looked) == (1, [])
    assert states(tmp_path) == ["1.sent", "1.sent"]


def test_deleting_removes_it(tmp_path: Path) -> None:
    """For good."""
    outbox.delete(tmp_path, settled(tmp_path, "1", Answer(422)))
    assert states(tmp_path) == []


def test_nothing_is_done_to_what_is_in_use_or_gone(tmp_path: Path) -> None:
    """The error says what is the matter and what to do."""
    spool = spool_at(tmp_path)
    parcel = finished_call(spool, "1")
    ready = Name.of("1", parcel.report_id, READY)
    with pytest.raises(SpoolError, match="is ready; choose one that is held or parked"):
        outbox.retry(tmp_path, ready)
    with spool.claim(ready), pytest.raises(SpoolError, match="is being worked on by a process; try again"):
        outbox.delete(tmp_path, ready)
    with pytest.raises(SpoolError, match="is not there any more"):
        outbox.release(tmp_path, ready.become(HELD))


def test_what_the_user_may_not_do_is_said() -> None:
    """Run as the wrong user, everything is an error with a way out, nothing a traceback."""
    with as_ordinary_user() as directory:
        parked = settled(directory, "1", Answer(422))
        with read_only(directory):
            with pytest.raises(SpoolError, match="cannot be removed"):
                outbox.delete(directory, parked)
            with pytest.raises(SpoolError, match="cannot be renamed"):
                outbox.release(directory, parked)
        (directory / str(parked)).chmod(0)
        with pytest.raises(SpoolError, match="cannot be opened"):
            outbox.delete(directory, parked)
        assert outbox.entries(directory) == []
        directory.chmod(0)
        with pytest.raises(SpoolError, match="cannot be read"):
            outbox.entries(directory)
        directory.chmod(0o700)
