"""Every file of one call."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

from bluejay_ws.delivery.group import Group
from bluejay_ws.delivery.names import LIVE, READY, Name
from tests.delivery.kit import claimed, files, finished_call, spool_at

if TYPE_CHECKING:
    from pathlib import Path


def twins(directory: Path) -> Group:
    """Return a group of one report in two files."""
    spool = spool_at(directory)
    parcel = finished_call(spool, "720488", "freeze_card")
    ready = Name("720488", parcel.report_id, READY)
    shutil.copy(directory / str(ready), directory / str(ready.become(LIVE)))
    return Group(parts=[spool.claim(ready.become(LIVE)), spool.claim(ready)])


def test_a_report_in_two_files_counts_once_and_the_sealed_one_counts(tmp_path: Path) -> None:
    """The other is let go of, so that whoever tidies up can have it."""
    group = twins(tmp_path)
    unsealed, sealed = group.parts
    group.put_in_order()
    assert group.parts == [sealed]
    assert unsealed._fd == -1
    group.release()


def test_parts_go_by_the_begin_of_their_connections(tmp_path: Path) -> None:
    """Whatever order the directory lists them in."""
    spool = spool_at(tmp_path)
    for at in (3000.0, 1000.0, 2000.0):
        finished_call(spool, f"call-{at:.0f}", started_at=at)
    group = Group(parts=[claimed(spool, f"call-{at}") for at in (3000, 1000, 2000)])
    group.put_in_order()
    assert [part.identity for part in group.parts] == ["call-1000", "call-2000", "call-3000"]
    group.release()


def test_releasing_lets_go_of_every_lock(tmp_path: Path) -> None:
    """Another may claim them at once."""
    spool = spool_at(tmp_path)
    finished_call(spool, "720488")
    group = Group(parts=[claimed(spool, "720488")])
    group.release()
    claimed(spool, "720488").release()
    assert len(files(tmp_path)) == 1
