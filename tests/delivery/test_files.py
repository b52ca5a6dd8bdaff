"""A sealed file that one process works on: only a plain file of this user is one, whatever its date."""

from __future__ import annotations

import os
import uuid
from typing import TYPE_CHECKING

import pytest

from bluejay_ws.delivery.files import READY, GoneError, LockedFile, Name, shard_of
from bluejay_ws.delivery.spool import Spool
from bluejay_ws.stats import Counters

if TYPE_CHECKING:
    from pathlib import Path


def test_a_pipe_under_a_report_s_name_is_no_report(tmp_path: Path) -> None:
    """It is not read, and whoever asks for it is told that nothing is there."""
    name = Name("1", uuid.uuid4().hex, READY)
    os.mkfifo(tmp_path / str(name))
    with pytest.raises(GoneError):
        LockedFile(str(tmp_path), name, counters=Counters())


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")
def test_a_file_of_somebody_else_is_no_report(tmp_path: Path) -> None:
    """Whatever it holds would be sent in this user's name."""
    name = Name("1", uuid.uuid4().hex, READY)
    path = tmp_path / str(name)
    path.touch()
    os.chown(path, 65534, 65534)
    with pytest.raises(GoneError):
        LockedFile(str(tmp_path), name, counters=Counters())


def test_a_file_of_the_future_counts_as_written_when_it_was_first_seen(tmp_path: Path) -> None:
    """A clock that was wrong for a while leaves no report behind."""
    now = 1_000.0
    spool = Spool(tmp_path, counters=Counters(), wall=lambda: now, clock=lambda: now)
    name = Name("1", uuid.uuid4().hex, READY)
    path = tmp_path / spool.destination / shard_of("1") / str(name)
    path.parent.mkdir(parents=True)
    path.touch()
    os.utime(path, (9e9, 9e9))
    assert not spool.recover(untouched=60.0)
    now += 61.0
    assert [found.report_id for found in spool.recover(untouched=60.0)] == [name.report_id]
