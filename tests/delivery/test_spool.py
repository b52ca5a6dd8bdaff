"""The spool's files: what is kept, what is taken over, what is given up, and what damage costs."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING

import pytest

from bluejay_ws.delivery import spool as spool_module
from bluejay_ws.delivery.files import (
    HELD,
    PARKED,
    QUARANTINE,
    READY,
    SENDING,
    SENT,
    GoneError,
    Name,
    shard_of,
)
from bluejay_ws.delivery.outcomes import State
from bluejay_ws.delivery.spool import places_in
from bluejay_ws.delivery.store import APART, Report
from bluejay_ws.stats import Counters
from bluejay_ws.wire import journal
from tests.delivery.faults import file_size_limit, fill, no_descriptors, small_disk
from tests.delivery.kit import (
    Script,
    abandoned_call,
    adopted,
    attempts,
    bodies,
    delivery_of,
    files,
    finished_call,
    locked,
    move,
    new_id,
    only,
    open_call,
    spool_at,
    states,
)

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from bluejay_ws.delivery.spool import Spool

DAY = 86_400.0


def age(path: Path, seconds: float) -> None:
    """Let a file have been written so long ago."""
    os.utime(path, (time.time() - seconds,) * 2)


def found(spool: Spool, untouched: float = 0.0) -> list[str]:
    """Return the calls that a scan finds."""
    return sorted(one.simulation_result_id for one in spool.recover(untouched=untouched))


# -- taking over ------------------------------------------------------------------------------------------------


def test_what_lies_in_the_spool_itself_is_taken_in(tmp_path: Path) -> None:
    """An earlier version kept its files there, for whichever platform was set; what continues stays where it is."""
    spool = spool_at(tmp_path)
    ready, live = Name("1", new_id(), READY), open_call(spool, "2")
    for path in files(tmp_path):
        path.rename(tmp_path / path.name)
    (tmp_path / str(ready)).write_bytes(b"")
    assert found(spool) == ["1"]
    assert [path.parent.name for path in files(tmp_path) if path.name == str(ready)] == [shard_of("1")]
    assert [path.name for path in tmp_path.iterdir() if path.suffix == ".live"]
    live.abandon()


def test_an_old_file_that_cannot_be_taken_in_stands_in_nobodys_way(tmp_path: Path) -> None:
    """It is counted: another process is at work on it, or it is nobody's."""
    counters = Counters()
    spool = spool_at(tmp_path, counters)
    taken, link = Name("1", new_id(), READY), Name("2", new_id(), READY)
    (tmp_path / str(taken)).write_bytes(b"")
    (tmp_path / str(link)).symlink_to("/dev/null")
    finished_call(spool, "3")
    with spool_at(tmp_path).locked(str(tmp_path), taken):
        assert found(spool) == ["3"]
    assert counters["spool.not_ours"] == 1
    twice = Name("4", new_id(), READY)
    (tmp_path / str(twice)).write_bytes(b"old")
    place = tmp_path / "platform" / shard_of("4")
    place.mkdir()
    (place / str(twice)).write_bytes(b"new")
    spool.recover()
    assert (place / str(twice)).read_bytes() == b"new"


def test_a_directory_that_cannot_be_listed_hides_no_other(tmp_path: Path) -> None:
    """Each is listed on its own; what is wrong with one is counted."""
    counters = Counters()
    spool = spool_at(tmp_path, counters)
    report = finished_call(spool, "1")
    broken = tmp_path / "platform" / "00"  # before that of the report, which is "37"
    broken.symlink_to(broken)
    assert [found.report_id for found in spool.recover()] == [report.report_id]
    assert counters["spool.list_eloop"] == 1


def test_a_spool_that_is_gone_or_cannot_be_listed_finds_nothing(tmp_path: Path) -> None:
    """It is counted where something is wrong; a missing directory is an empty one."""
    counters = Counters()
    spool = spool_at(tmp_path / "spool", counters)
    finished_call(spool, "1")
    with no_descriptors():
        assert spool.recover() == []
        spool.tidy()
    assert counters["spool.list_emfile"] == 3
    (tmp_path / "spool").rename(tmp_path / "away")
    assert spool.recover() == []
    assert places_in(str(tmp_path / "spool")) == []


def test_a_held_report_of_an_earlier_version_that_a_machine_can_settle_goes_on(tmp_path: Path) -> None:
    """Those of a person are read once for each version of their file, and stay."""
    spool = spool_at(tmp_path)
    move(spool, finished_call(spool, "1"), HELD, outcome="unreadable")
    move(spool, finished_call(spool, "2"), HELD, outcome="already_delivered")
    assert found(spool) == ["1"]
    assert found(spool) == ["1"]
    assert states(tmp_path) == ["1.sending", "2.held"]


def test_a_file_of_the_future_counts_as_written_when_it_was_first_seen(tmp_path: Path) -> None:
    """Whatever its date, it is taken over after the same while."""
    clock = [0.0]
    spool = spool_at(tmp_path, clock=lambda: clock[0], redial_wait=2.0)
    move(spool, finished_call(spool, "1"), SENDING)
    age(only(tmp_path), -DAY)
    assert found(spool, 60.0) == []
    clock[0] = 61.0
    assert found(spool, 60.0) == ["1"]
    (one,) = spool.recover()
    assert one.wait == 0.0


def test_a_file_that_another_process_works_on_is_left_alone(tmp_path: Path) -> None:
    """Its lock says so, and it is no trouble."""
    counters = Counters()
    spool = spool_at(tmp_path, counters)
    report_id = abandoned_call(spool_at(tmp_path), "1")
    name = Name.parse(only(tmp_path).name)
    assert name is not None
    with locked(spool_at(tmp_path), name):
        assert spool.recover() == []
        lease = spool.lease("1")
        assert lease.live
        assert not lease.mark(report_id, State.HELD, {})
    assert [key for key in counters.snapshot() if key.startswith("spool.")] == []


def test_the_fork_of_a_process_that_works_on_files_holds_none_of_their_locks(tmp_path: Path) -> None:
    """Its copies are closed: else the parent could never let go."""
    spool = spool_at(tmp_path)
    report = finished_call(spool, "1")
    file = locked(spool, Name("1", report.report_id, READY))
    spool.reset_after_fork()  # as a child does
    with locked(spool_at(tmp_path), Name("1", report.report_id, READY)):
        pass
    file._fd = -1


# -- several files of one report ----------------------------------------------------------------------------------


def test_of_two_files_of_one_report_the_better_one_counts(tmp_path: Path) -> None:
    """Where the disk refused a new name it was saved under that name as well: delivered, then sealed, then whole."""
    spool = spool_at(tmp_path)
    report = finished_call(spool, "1", "freeze_card")
    name = Name("1", report.report_id, READY)
    place = only(tmp_path).parent
    (place / str(name.become(SENDING))).write_bytes(only(tmp_path).read_bytes().splitlines(keepends=True)[0])
    with spool.lease("1") as lease:
        assert [one.facts.counts.get("tool_calls") for one in lease.reports] == [1]
    (place / str(name.become(SENT))).write_bytes(b"")
    with spool.lease("1") as lease:
        assert lease.reports == []
        assert lease.delivered == {report.report_id}


def test_a_parked_report_is_known_by_its_name_or_by_its_note(tmp_path: Path) -> None:
    """Neither is sent."""
    spool = spool_at(tmp_path)
    by_name, by_note = finished_call(spool, "1"), finished_call(spool, "1")
    move(spool, by_name, PARKED)
    with locked(spool, Name("1", by_note.report_id, READY)) as file:
        file.note(state="parked", outcome="http.422")
    with spool.lease("1") as lease:
        assert lease.reports == []
        assert lease.parked == {by_name.report_id, by_note.report_id}


def test_what_is_no_file_of_ours_is_passed_over(tmp_path: Path) -> None:
    """A link or a pipe with a report's name, and a name that is none."""
    spool = spool_at(tmp_path)
    finished_call(spool, "1")
    place = only(tmp_path).parent
    os.mkfifo(place / str(Name("1", new_id(), READY)))
    (place / str(Name("1", new_id(), SENDING))).symlink_to("/dev/null")
    (place / "1.nonsense").write_bytes(b"")
    with spool.lease("1") as lease:
        assert len(lease.reports) == 1
        assert not lease.busy


# -- saving what was in memory only -------------------------------------------------------------------------------


def test_a_report_that_the_disk_does_not_take_whole_leaves_nothing(tmp_path: Path) -> None:
    """Half a report would be taken for a whole one."""
    counters = Counters()
    spool = spool_at(tmp_path, counters)
    report_id = new_id()
    report = Report(report_id, "1", bodies(report_id, "1", *["freeze_card"] * 50))
    with file_size_limit(100):
        assert not spool.save(report)
    assert files(tmp_path) == []
    assert counters["spool.store_short"] == 1
    assert spool.save(report, State.HELD, {"outcome": "already_delivered"})
    assert states(tmp_path) == ["1.held"]


def test_a_delivery_from_memory_leaves_a_mark_and_no_broken_file(tmp_path: Path) -> None:
    """The file that broke during the call would be taken for a report by the next start."""
    spool = spool_at(tmp_path)
    report_id = abandoned_call(spool, "1")
    other = abandoned_call(spool, "1")
    assert spool.save(Report(report_id, "1"), State.DELIVERED, {"outcome": "delivered"})
    assert sorted(path.suffix for path in files(tmp_path)) == [".live", ".sent"]
    with spool_at(tmp_path).lease("1") as lease:
        assert lease.delivered == {report_id}
        assert [one.report_id for one in lease.reports] == [other]


def test_one_error_line_says_that_calls_go_on_in_memory(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """However many calls find the spool full; and again when it has room, they are kept."""
    counters = Counters()
    spool = spool_at(tmp_path, counters, max_reports=0)
    finished_call(spool, "1")
    spool.tidy()
    for _ in range(3):
        assert spool.open_call(report_id=new_id(), simulation_result_id="2", header=b"") is None
    assert counters["spool.full"] == 3
    assert [record.getMessage().count("(full)") for record in caplog.records] == [1]


# -- bounds -------------------------------------------------------------------------------------------------------


def test_parked_reports_are_given_up_by_age_and_by_room(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """The oldest first, and what waits never."""
    counters = Counters()
    spool = spool_at(tmp_path, counters, max_reports=2, parked_days=1.0)
    for number in range(4):
        move(spool, finished_call(spool, f"{number}"), PARKED)
        age(next(tmp_path.rglob(f"{number}.*")), 100.0 * (9 - number))
    finished_call(spool, "5")
    age(next(tmp_path.rglob("0.*")), 2 * DAY)
    spool.tidy()
    assert states(tmp_path) == ["3.parked", "5.ready"]
    assert counters["dropped.parked_bounds"] == 3
    age(next(tmp_path.rglob("3.*")), 2 * DAY)
    spool.tidy()
    assert states(tmp_path) == ["5.ready"]
    assert counters["dropped.parked_age"] == 1
    assert "(no room)" in caplog.text
    assert "(too old)" in caplog.text


@pytest.mark.parametrize("date", [0.0, 86_400.0, 7.2e9], ids=["1970", "its second day", "2198"])
@pytest.mark.parametrize("wall", [time.time(), 7.3e9], ids=["now", "2201"])
def test_a_wrong_date_or_clock_removes_nothing(tmp_path: Path, date: float, wall: float) -> None:
    """A machine without a battery starts in 1970, and a copy may lose its dates: age is for ages one can believe."""
    writer = spool_at(tmp_path)
    spool = spool_at(tmp_path, parked_days=1.0, wall=lambda: wall)
    move(writer, finished_call(writer, "1"), PARKED)
    writer.save(Report(new_id(), "2"), State.DELIVERED, {"outcome": "delivered"})
    quarantine = tmp_path / "quarantine"
    quarantine.mkdir()
    (quarantine / "damaged").write_bytes(b"x")
    for path in files(tmp_path):
        os.utime(path, (date, date))
    spool.tidy()
    credible = (date, wall) == (7.2e9, 7.3e9)
    assert len(files(tmp_path)) == (0 if credible else 3)


def test_marks_of_delivered_reports_and_leftovers_go_after_a_day(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And there are never more marks than a bound."""
    monkeypatch.setattr(spool_module, "TOMBSTONES", 2)
    spool = spool_at(tmp_path)
    for number in range(4):
        spool.save(Report(new_id(), f"{number}"), State.DELIVERED, {"outcome": "delivered"})
        age(next(tmp_path.rglob(f"{number}.*")), 10.0 * number)
    age(next(tmp_path.rglob("0.*")), 2 * DAY)
    old, new = tmp_path / ".try-1", tmp_path / "x.new"
    for path in (old, new):
        path.write_bytes(b"")
    age(old, 2 * DAY)
    spool.tidy()
    assert (old.exists(), new.exists()) == (False, True)
    assert [path for path in states(tmp_path) if path.endswith(".sent")] == ["1.sent", "2.sent"]


def test_a_lock_that_somebody_removed_is_made_again_while_calls_go_on(tmp_path: Path) -> None:
    """Or another process would take their files over."""
    spool = spool_at(tmp_path)
    call = open_call(spool, "1")
    (owner,) = tmp_path.glob("*.owner")
    owner.unlink()
    spool.tidy()
    assert owner.exists()
    assert spool_at(tmp_path).recover() == []
    call.discard()


def test_what_is_kept_apart_takes_nothing_in(tmp_path: Path) -> None:
    """Files of an earlier version were recorded for a platform."""
    spool = spool_at(tmp_path, destination=APART)
    (tmp_path / str(Name("1", new_id(), READY))).write_bytes(b"")
    assert spool.recover() == []


# -- damage -------------------------------------------------------------------------------------------------------


def test_damaged_lines_are_set_aside_once_and_the_sound_ones_go_out(tmp_path: Path) -> None:
    """However often the file is opened; half a line at the end is dropped, and a lost header is written anew."""
    counters = Counters()
    spool = spool_at(tmp_path, counters)
    report = finished_call(spool, "1", "freeze_card")
    path = only(tmp_path)
    lines = path.read_bytes().splitlines(keepends=True)
    broken = lines[0].replace(b"server", b"sorver")
    path.write_bytes(b"".join([broken, *lines[1:], b'["half']))
    for _ in range(2):
        with locked(spool, Name("1", report.report_id, READY)) as file:
            assert file.bodies[0].startswith(b'["call"')
            assert len(file.bodies) == len(lines)
    assert counters["spool.damaged_lines"] == 1
    assert not path.read_bytes().endswith(b'["half')
    (kept,) = (tmp_path / QUARANTINE).iterdir()
    assert kept.read_bytes() == broken
    script = Script()
    assert attempts(spool).attempt(delivery_of(report), script).state is State.DELIVERED
    assert b"freeze_card" in script.posted[0]


def test_damage_that_cannot_be_set_aside_is_counted_all_the_same(tmp_path: Path) -> None:
    """There is a file in the place of the quarantine."""
    counters = Counters()
    spool = spool_at(tmp_path, counters)
    report = finished_call(spool, "1")
    with only(tmp_path).open("ab") as file:
        file.write(b"garbage\n")
    (tmp_path / QUARANTINE).write_bytes(b"")
    with locked(spool, Name("1", report.report_id, READY)):
        pass
    assert counters["spool.damaged_lines"] == 1
    spool.tidy()


def test_the_quarantine_has_bounds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of age, of size and of number, the newest last; what cannot be removed is no trouble."""
    spool, place = spool_at(tmp_path), tmp_path / QUARANTINE
    place.mkdir()
    for number in range(4):
        path = place / f"{number}"
        path.write_bytes(b"x" * 10)
        age(path, 11 * DAY * number)

    def left() -> list[str]:
        spool.tidy()
        return sorted(path.name for path in place.iterdir())

    assert left() == ["0", "1", "2"]  # the last one is older than a parked report may be
    monkeypatch.setattr(spool_module, "QUARANTINE_FILES", 2)
    assert left() == ["0", "1"]
    monkeypatch.setattr(spool_module, "QUARANTINE_BYTES", 10)
    assert left() == ["0"]
    (place / "directory").mkdir()
    age(place / "directory", 40 * DAY)
    assert left() == ["0", "directory"]


def test_of_a_delivered_report_two_sound_lines_stay(tmp_path: Path) -> None:
    """The call's and what came of it: no text, whatever has become of the first line."""
    spoils: tuple[Callable[[bytes], bytes], ...] = (
        lambda text: text,
        lambda text: b"x" + text,
        lambda text: text.partition(b"\n")[2],
    )
    for number, spoil in enumerate(spoils):
        spool = spool_at(tmp_path / f"{number}")
        report = finished_call(spool, "1")
        path = only(spool.directory)
        path.write_bytes(spoil(path.read_bytes()))
        with locked(spool, Name("1", report.report_id, READY)) as file:
            assert file.settle({"outcome": "delivered"})
        (sent,) = spool.directory.rglob("*.sent")
        found = journal.parse(sent.read_bytes())
        assert [body.partition(b",")[0] for body in found.bodies] == [b'["call"', b'["delivery"']
        assert (found.damaged, found.torn) == ([], b"")


def test_a_file_that_is_renamed_replaced_or_somebody_elses_is_gone(tmp_path: Path) -> None:
    """Whoever did so is at work on it."""
    spool = spool_at(tmp_path)
    report = finished_call(spool, "1")
    path, name = only(tmp_path), Name("1", report.report_id, READY)
    os.chown(path, 65534, -1) if os.geteuid() == 0 else path.unlink()
    with pytest.raises(GoneError):
        spool.locked(str(path.parent), name)
    path.unlink(missing_ok=True)
    path.mkdir()
    with pytest.raises(GoneError):
        spool.locked(str(path.parent), name)


def test_a_note_that_the_disk_refuses_is_counted(tmp_path: Path) -> None:
    """The name says as much as it can."""
    counters = Counters()
    with small_disk(64) as disk:
        spool = spool_at(disk, counters)
        report = finished_call(spool, "1")
        filler = fill(disk)
        with locked(spool, Name("1", report.report_id, READY)) as file:
            for _ in range(2):  # the last page may have room for a part
                assert not file.note(outcome="x" * 8192)
            assert file.move(SENDING)
            assert file.settle({"outcome": "delivered"})
            filler.unlink()
            assert file.remove()
            assert not file.remove()
    assert counters["spool.note_enospc"] >= 1
    assert counters["spool.unlink_enoent"] == 1


def test_what_waits_in_a_spool_without_descriptors_is_found_when_there_are_some(tmp_path: Path) -> None:
    """A lost call's file cannot be opened now: it is left for the next scan."""
    counters = Counters()
    spool = spool_at(tmp_path, counters)
    abandoned_call(spool_at(tmp_path), "1")
    assert adopted(spool, "1").adopted
