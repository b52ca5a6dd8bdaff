"""What is kept aside, and how much of it."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from bluejay_ws.delivery import quarantine
from bluejay_ws.stats import Counters
from tests.delivery.faults import no_descriptors
from tests.delivery.kit import abandoned_call, spool_at

if TYPE_CHECKING:
    from pathlib import Path


def kept(directory: Path) -> list[str]:
    """Return the names of what is kept."""
    return sorted(path.name.split(".")[0] for path in (directory / "quarantine").iterdir())


def fill(directory: Path, *reports: str) -> None:
    """Keep ten bytes of each report, each a second older than the next."""
    for age, report in enumerate(reversed(reports)):
        quarantine.keep(str(directory), report, b"0123456789")
        (path,) = (directory / "quarantine").glob(f"{report}.*")
        os.utime(path, (1000.0 - age, 1000.0 - age))


def test_the_same_bytes_are_kept_once(tmp_path: Path) -> None:
    """A damaged line stays in its file, and is met again with each attempt."""
    assert quarantine.keep(str(tmp_path), "1", b"one")
    assert not quarantine.keep(str(tmp_path), "1", b"one")
    assert quarantine.keep(str(tmp_path), "1", b"two")
    assert len(kept(tmp_path)) == 2


def test_a_damaged_line_is_counted_once(tmp_path: Path) -> None:
    """However often its report is tried."""
    counters = Counters()
    spool = spool_at(tmp_path, counters)
    abandoned_call(spool, "720488", "one")
    (path,) = tmp_path.glob("*.live")
    path.write_bytes(path.read_bytes().replace(b'"one"', b'"0ne"'))
    spool.recover()
    for _ in range(3):
        spool.gather("720488").release()
    assert counters["spool.damaged_lines"] == 1
    assert kept(tmp_path) == ["720488"]


def test_what_cannot_be_kept_stops_nothing(tmp_path: Path) -> None:
    """It is counted all the same."""
    (tmp_path / "quarantine").mkdir()
    with no_descriptors():
        assert quarantine.keep(str(tmp_path), "1", b"one")
    assert kept(tmp_path) == []


def test_there_need_not_be_any(tmp_path: Path) -> None:
    """A sound spool has no such directory."""
    assert quarantine.bound(str(tmp_path), oldest=0.0) == 0


def test_the_oldest_go_when_there_are_too_many(tmp_path: Path) -> None:
    """By number."""
    fill(tmp_path, "1", "2", "3", "4")
    assert quarantine.bound(str(tmp_path), oldest=0.0, max_files=3) == 1
    assert kept(tmp_path) == ["2", "3", "4"]


def test_the_oldest_go_when_they_are_too_big(tmp_path: Path) -> None:
    """By their bytes together."""
    fill(tmp_path, "1", "2", "3", "4")
    assert quarantine.bound(str(tmp_path), oldest=0.0, max_bytes=25) == 2
    assert kept(tmp_path) == ["3", "4"]


def test_what_is_too_old_goes_with_the_housekeeping(tmp_path: Path) -> None:
    """After the time for which a parked report is kept."""
    spool = spool_at(tmp_path)
    fill(tmp_path, "1")
    quarantine.keep(str(tmp_path), "2", b"new")
    spool.tidy()
    assert kept(tmp_path) == ["2"]


def test_what_cannot_be_removed_is_left(tmp_path: Path) -> None:
    """A directory somebody made there is none of ours."""
    (tmp_path / "quarantine" / "1.directory").mkdir(parents=True)
    assert quarantine.bound(str(tmp_path), oldest=9e12) == 0
    assert kept(tmp_path) == ["1"]
