"""One sealed file, and who may work on it."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from bluejay_ws.delivery import claim as claims
from bluejay_ws.delivery.claim import GoneError
from bluejay_ws.delivery.names import READY, SENDING, Name
from bluejay_ws.stats import Counters
from tests.delivery.faults import as_ordinary_user, fill, no_descriptors, read_only, small_disk
from tests.delivery.kit import (
    claimed,
    finished_call,
    move,
    only,
    spool_at,
    states,
)

if TYPE_CHECKING:
    from pathlib import Path


def test_acknowledging_works_on_a_full_disk() -> None:
    """The mark is a name; it needs no room, and then gives some back."""
    with small_disk(128) as disk:
        counters = Counters()
        spool = spool_at(disk / "spool", counters)
        finished_call(spool, "720488", *("tool",) * 100)
        fill(disk)
        claim = claimed(spool, "720488")
        assert claim.entomb({"outcome": "delivered", "report_ids": [claim.name.report_id] * 200})
        claim.release()
        assert states(disk / "spool") == ["720488.sent"]
        assert counters["spool.note_enospc"] <= 1


def test_a_read_only_directory_is_counted_and_not_fatal() -> None:
    """Reading works, and what cannot be marked is said so."""
    with as_ordinary_user() as directory:
        counters = Counters()
        spool = spool_at(directory, counters)
        finished_call(spool, "720488")
        with read_only(directory):
            claim = claimed(spool, "720488")
            assert not claim.move(SENDING)
            assert not claim.entomb({})
            assert not claim.remove()
            claim.release()
        assert states(directory) == ["720488.ready"]
        assert counters.snapshot() == {"spool.rename_eacces": 2, "spool.unlink_eacces": 1}


def test_a_read_only_file_is_read_and_not_noted_in() -> None:
    """A copied-back spool with wrong modes still says what it holds."""
    with as_ordinary_user() as directory:
        counters = Counters()
        spool = spool_at(directory, counters)
        finished_call(spool, "720488", "one")
        only(directory).chmod(0o400)
        claim = claimed(spool, "720488")
        assert claim.facts.counts["tool_calls"] == 1
        assert not claim.note(outcome="x")
        claim.sync()
        claim.release()
        claim.release()
        assert counters.snapshot() == {"spool.note_ebadf": 1}


def test_a_file_that_was_renamed_under_us_is_gone(tmp_path: Path) -> None:
    """Whoever renamed it is at work on it."""
    spool = spool_at(tmp_path)
    parcel = finished_call(spool, "720488")
    move(spool, parcel, SENDING)
    with pytest.raises(GoneError):
        spool.claim(Name.of("720488", parcel.report_id, READY))


def test_the_same_name_is_no_rename(tmp_path: Path) -> None:
    """Giving a file the state it has changes nothing and works anywhere."""
    spool = spool_at(tmp_path)
    finished_call(spool, "720488")
    assert claimed(spool, "720488").move(READY)


def test_no_descriptors_are_not_the_same_as_gone(tmp_path: Path) -> None:
    """The file is there, and may be opened later."""
    spool = spool_at(tmp_path)
    parcel = finished_call(spool, "720488")
    with no_descriptors(), pytest.raises(OSError, match="Too many open files"):
        spool.claim(Name.of("720488", parcel.report_id, READY))


@pytest.mark.parametrize("replaced", [False, True])
def test_a_file_whose_name_went_while_it_was_opened_is_gone(tmp_path: Path, replaced: bool) -> None:
    """Between opening and locking another process may have removed or renamed it, and made another."""
    finished_call(spool_at(tmp_path), "720488")
    path = only(tmp_path)
    fd = os.open(path, os.O_RDONLY)
    try:
        path.unlink()
        if replaced:
            path.touch()
        with pytest.raises(GoneError):
            claims._check(fd, str(path))
    finally:
        os.close(fd)


@pytest.mark.filterwarnings("ignore:.*multi-threaded:DeprecationWarning")
def test_a_forked_child_keeps_no_file_of_its_parent_locked(tmp_path: Path) -> None:
    """The parent dies in the middle of a delivery and the child lives on: the next process can work on the file."""
    spool = spool_at(tmp_path)
    parcel = finished_call(spool, "1")
    claim = claimed(spool, "1")
    ready, tell = os.pipe()
    done, wait = os.pipe()
    child = os.fork()
    if not child:
        os.close(wait)
        spool.reset_after_fork()
        os.write(tell, b"x")
        os.read(done, 1)  # until the parent lets go
        os._exit(0)
    try:
        os.read(ready, 1)
        os.close(claim._fd)  # as the end of a process does: without a word to the lock
        claims._claimed.discard(claim._fd)
        claim._fd = -1
        with spool.claim(Name.of("1", parcel.report_id, READY)) as again:
            assert again.identity == "1"
    finally:
        os.close(wait)
        os.waitpid(child, 0)
        for fd in (ready, tell, done):
            os.close(fd)
