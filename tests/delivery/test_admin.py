"""The spool as a person sees it."""

from __future__ import annotations

import json
import re
from collections import deque
from typing import TYPE_CHECKING

import pytest

from bluejay_ws.delivery import admin
from bluejay_ws.delivery.files import HELD, PARKED, READY, SENT, Name
from bluejay_ws.delivery.outcomes import Answer
from bluejay_ws.exceptions import SpoolError
from tests.delivery.faults import as_ordinary_user, no_descriptors, read_only
from tests.delivery.kit import (
    Script,
    abandoned_call,
    adopted,
    attempts,
    delivery_of,
    finished_call,
    locked,
    new_id,
    open_call,
    result,
    spool_at,
    states,
    until_settled,
)

if TYPE_CHECKING:
    from pathlib import Path


REFUSED = Answer(422, b'{"detail": [{"loc": ["body"], "type": "missing"}]}')


def settled(directory: Path, identity: str, *answers: Answer) -> Name:
    """Bring a call's report to where these answers bring it; return its file's name."""
    spool = spool_at(directory)
    parcel = finished_call(spool, identity, "freeze_card")
    script = Script()
    script.posts.extend(answers)
    until_settled(attempts(spool), delivery_of(parcel), script)
    (name,) = (name for name in admin.find(directory, parcel.report_id))
    return name


def unclear(directory: Path, identity: str) -> Name:
    """Bring a call's report to where only a person can tell whether the platform has it."""
    spool = spool_at(directory)
    report = finished_call(spool, identity, "freeze_card")
    timeless = result(tool_calls=[{"name": "freeze_card", "actual": [{"output": {}}]}])
    script = Script(deque([Answer(502)]), deque([timeless]))
    until_settled(attempts(spool), delivery_of(report), script)
    (name,) = (name for name in admin.find(directory, report.report_id))
    return name


def test_what_waits_is_listed_with_its_reason(tmp_path: Path) -> None:
    """Ids, state, age, reason and counts; none of the text."""
    settled(tmp_path, "1", Answer(422, b'{"detail": [{"loc": ["body"], "type": "missing"}]}'))
    unclear(tmp_path, "2")
    settled(tmp_path, "3")
    open_call(spool_at(tmp_path), "4")
    listed = admin.entries(tmp_path)
    assert [(entry.name.identity, entry.name.state, entry.reason, entry.detail) for entry in listed] == [
        ("1", PARKED, "http.422", "body: missing"),
        ("2", HELD, "in_part_or_unclear", ""),
    ]
    assert dict(listed[0].counts) == {"tool_calls": 1, "events": 1}
    assert [entry.attempts for entry in listed] == [1, 1]
    assert not re.search(r"\b(4242|last4|frozen)\b", repr(listed))  # a random id may hold the digits
    live, sent = (admin.entries(tmp_path, states=[state], wall=0.0) for state in ("live", SENT))
    assert [(entry.busy, entry.age) for entry in (*live, *sent)] == [(True, 0.0), (False, 0.0)]


def test_a_call_that_its_process_has_left_is_told_from_one_that_goes_on(tmp_path: Path) -> None:
    """Only the first is going to wait until a process starts; what cannot be found out is not called lost."""
    going_on = open_call(spool_at(tmp_path), "1", "freeze_card")
    abandoned_call(spool_at(tmp_path), "2", "freeze_card")
    (tmp_path / str(Name("3", new_id(), "live"))).touch()
    listed = {entry.name.identity: entry for entry in admin.entries(tmp_path, states=["live"])}
    assert {key: (entry.busy, entry.reason) for key, entry in listed.items()} == {
        "1": (True, ""),
        "2": (False, "process_lost"),
        "3": (True, ""),
    }
    assert dict(listed["2"].counts) == {"tool_calls": 1}
    with no_descriptors():
        assert admin._goes_on(tmp_path, listed["2"].name)
    going_on.discard()


def test_links_are_not_listed(tmp_path: Path) -> None:
    """What is planted is not read."""
    (tmp_path / str(Name("1", new_id(), READY))).symlink_to("/etc/passwd")
    assert admin.entries(tmp_path) == []


def test_a_file_that_goes_while_it_is_listed_is_left_out(tmp_path: Path) -> None:
    """Delivery continues beside the list."""
    assert admin._entry(tmp_path, "", tmp_path / "gone", Name("1", new_id(), READY), 0.0) is None


def test_one_is_found_by_any_of_its_names(tmp_path: Path) -> None:
    """The call's id, the report's id, or what `ls` prints."""
    name = settled(tmp_path, "1")
    assert admin.find(tmp_path, "1") == admin.find(tmp_path, name.report_id) == admin.find(tmp_path, str(name))
    with pytest.raises(SpoolError, match="holds no call or report '2'"):
        admin.find(tmp_path, "2")


def test_it_is_exported_as_the_platform_would_get_it(tmp_path: Path) -> None:
    """For looking at, or for posting by hand."""
    name = settled(tmp_path, "1", REFUSED)
    report = json.loads(admin.export(tmp_path, name))
    assert report["simulation_result_id"] == "1"
    assert report["tool_calls"][0]["output"] == {"status": "frozen"}
    assert admin.show(tmp_path, name)[0].startswith(b'["call",')
    with pytest.raises(SpoolError, match="cannot be read"):
        admin.show(tmp_path, name.become(READY))


def deliver(directory: Path, identity: str, *looks: Answer) -> Script:
    """Let a process take up what was released; return what it exchanged."""
    script = Script()
    script.looks.extend(looks)
    spool = spool_at(directory)
    until_settled(attempts(spool), adopted(spool, identity), script)
    return script


def test_retrying_what_was_parked_sends_it(tmp_path: Path) -> None:
    """It certainly was not taken in."""
    name = settled(tmp_path, "1", REFUSED)
    assert admin.retry(tmp_path, name).state == READY
    assert len(deliver(tmp_path, "1").posted) == 1
    assert states(tmp_path) == ["1.sent"]


def test_retrying_what_is_unsettled_looks_first(tmp_path: Path) -> None:
    """It may have been taken in meanwhile."""
    name = unclear(tmp_path, "1")
    admin.retry(tmp_path, name)
    found = result(events=[{"title": "x", "metadata": {"bluejay_ws": {"report_id": name.report_id}}}])
    assert deliver(tmp_path, "1", found).posted == []
    assert states(tmp_path) == ["1.sent"]


def test_retrying_a_second_report_does_not_double_the_first(tmp_path: Path) -> None:
    """The id is used up; only releasing sends it."""
    settled(tmp_path, "1")
    second = settled(tmp_path, "1")
    admin.retry(tmp_path, second)
    assert deliver(tmp_path, "1").posted == []
    assert states(tmp_path) == ["1.held", "1.sent"]


def test_releasing_sends_whatever_was_sent_before(tmp_path: Path) -> None:
    """A person has looked."""
    settled(tmp_path, "1")
    second = settled(tmp_path, "1")
    admin.release(tmp_path, second)
    script = deliver(tmp_path, "1")
    assert (len(script.posted), script.looked) == (1, [])
    assert states(tmp_path) == ["1.sent", "1.sent"]


def test_deleting_removes_it(tmp_path: Path) -> None:
    """For good."""
    admin.delete(tmp_path, settled(tmp_path, "1", REFUSED))
    assert states(tmp_path) == []


def test_nothing_is_done_to_what_is_in_use_or_gone(tmp_path: Path) -> None:
    """The error says what is the matter and what to do."""
    spool = spool_at(tmp_path)
    parcel = finished_call(spool, "1")
    ready = Name("1", parcel.report_id, READY)
    with pytest.raises(SpoolError, match="is ready; choose one that is held or parked"):
        admin.retry(tmp_path, ready)
    with locked(spool, ready), pytest.raises(SpoolError, match="is being worked on by a process; try again"):
        admin.delete(tmp_path, ready)
    with pytest.raises(SpoolError, match="is not there any more"):
        admin.release(tmp_path, ready.become(HELD))


def test_what_the_user_may_not_do_is_said() -> None:
    """Run as the wrong user, everything is an error with a way out, nothing a traceback."""
    with as_ordinary_user() as directory:
        parked = settled(directory, "1", REFUSED)
        with read_only(admin._path(directory, parked).parent):
            with pytest.raises(SpoolError, match="cannot be removed"):
                admin.delete(directory, parked)
            with pytest.raises(SpoolError, match="cannot be renamed"):
                admin.release(directory, parked)
        admin._path(directory, parked).chmod(0)
        with pytest.raises(SpoolError, match="cannot be opened"):
            admin.delete(directory, parked)
        assert admin.entries(directory) == []
        directory.chmod(0)
        with pytest.raises(SpoolError, match="cannot be read"):
            admin.entries(directory)
        directory.chmod(0o700)


def test_a_spool_may_be_the_root_of_a_volume() -> None:
    """There the file system has a directory of its own, which only root may read."""
    with as_ordinary_user() as directory:
        finished_call(spool_at(directory), "720488")
        (directory / "lost+found").mkdir(0o000)
        assert [entry.name.identity for entry in admin.entries(directory)] == ["720488"]
