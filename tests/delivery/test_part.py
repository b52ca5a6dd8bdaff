"""What is remembered of a call between two tries, and by whom."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from bluejay_ws.delivery.part import FilePart, Job
from tests.delivery.kit import claimed, finished_call, spool_at

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize("key", ["attempts", "resends"])
def test_counts_are_taken_over_from_an_earlier_process(key: str) -> None:
    """Whatever is higher counts; a restart starts nothing anew."""
    job = Job("720488")
    job.restore({key: 2})
    assert getattr(job, key) == 2
    job.restore({key: 1})
    assert getattr(job, key) == 2
    assert job.notes()[key] == 2


@pytest.mark.parametrize("noted", [{}, {"attempts": "2"}, {"attempts": None, "cut": "yes"}])
def test_notes_that_make_no_sense_are_left(noted: dict[str, object]) -> None:
    """A note is data from a disk."""
    job = Job("720488")
    job.restore(noted)
    assert (job.attempts, job.resends, job.cut) == (0, 0, False)


def test_the_cut_is_remembered() -> None:
    """A report that was too large stays too large."""
    job = Job("720488")
    job.restore({"cut": True})
    assert job.notes()["cut"] is True


@pytest.mark.parametrize(
    ("outcome", "reason"),
    [("already_delivered", "already_delivered"), ("http.503", "http.503"), ("a\n\x1b[2Jforged", ""), (["x"], "")],
)
def test_a_reason_is_a_word_of_ours(tmp_path: Path, outcome: object, reason: str) -> None:
    """It goes into log lines: what somebody else wrote into a file of the spool cannot forge one."""
    spool = spool_at(tmp_path)
    finished_call(spool, "720488")
    with claimed(spool, "720488") as claim:
        claim.note(outcome=outcome)
    with claimed(spool, "720488") as claim:
        assert FilePart(claim).reason == reason
