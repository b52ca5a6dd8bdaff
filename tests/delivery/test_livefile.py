"""The file of a call that continues: whatever is done to it, the call continues, and the report is whole."""

from __future__ import annotations

import errno
import os
import threading
from typing import TYPE_CHECKING

import pytest

from bluejay_ws.delivery.files import READY, Name, reason_of
from bluejay_ws.stats import Counters
from tests.delivery.faults import fill, no_descriptors, small_disk
from tests.delivery.kit import descriptors, end, files, new_id, only, open_call, spool_at, states, tool

if TYPE_CHECKING:
    from pathlib import Path

    from bluejay_ws.delivery.livefile import LiveFile
    from bluejay_ws.delivery.spool import Spool


@pytest.fixture
def counters() -> Counters:
    """Return counts."""
    return Counters()


@pytest.fixture
def spool(tmp_path: Path, counters: Counters) -> Spool:
    """Return a spool that keeps two files open."""
    return spool_at(tmp_path, counters, open_files=2)


def crowd(spool: Spool, number: int = 6) -> list[LiveFile]:
    """Return calls that go on, more than there may be open files."""
    return [open_call(spool, f"{index}") for index in range(number)]


def test_only_so_many_files_are_open_and_all_of_them_grow(spool: Spool, tmp_path: Path) -> None:
    """A call whose file was closed opens it again with its next line, and takes the place of another."""
    calls = crowd(spool)
    assert descriptors(tmp_path) == 2
    for call in calls * 2:
        call.append(tool())
    assert descriptors(tmp_path) == 2
    for call in calls:
        call.seal()
    assert descriptors(tmp_path) == 0
    assert {path.read_bytes().count(b"freeze_card") for path in files(tmp_path)} == {2}


def test_a_file_in_use_keeps_its_descriptor(spool: Spool) -> None:
    """Its own thread is at work on it: whoever needs room takes it from another."""
    call = open_call(spool, "1")
    inside, leave = threading.Event(), threading.Event()

    def hold() -> None:
        with call._lock:
            inside.set()
            leave.wait(30.0)

    thread = threading.Thread(target=hold)
    thread.start()
    inside.wait(30.0)
    assert not call.lend()
    leave.set()
    thread.join()
    assert call.lend()
    assert call.lend()
    call.discard()


def test_a_descriptor_that_somebody_closed_is_not_lent(spool: Spool) -> None:
    """Its number may be another file's by now: the call continues, or breaks, by itself, and ends without an error."""
    call = open_call(spool, "1")
    os.close(call._fd)
    call._fd = 2**20  # nobody's number
    assert not call.lend()
    call.discard()
    assert call._fd == -1


def test_without_descriptors_those_of_other_calls_are_used(spool: Spool, tmp_path: Path, counters: Counters) -> None:
    """And where all of them are taken by others, the call continues in memory, which is counted."""
    calls = crowd(spool, 3)
    with no_descriptors():
        newcomer = spool.open_call(report_id=new_id(), simulation_result_id="9", header=b'["call",{}')
        assert newcomer is not None
        calls[0].append(tool())
    assert counters["spool.write_emfile"] == 0
    with no_descriptors():
        for call in calls:
            call.lend()
        newcomer.lend()
        keep = [os.open("/dev/null", os.O_RDONLY) for _ in range(2)]
        assert spool.open_call(report_id=new_id(), simulation_result_id="8", header=b"") is None
        for fd in keep:
            os.close(fd)
    assert counters["spool.open_emfile"] == 1
    for call in [*calls, newcomer]:
        call.discard()
    assert files(tmp_path) == []


def test_a_file_that_was_replaced_while_it_was_closed_is_not_written_to(
    spool: Spool, tmp_path: Path, counters: Counters, caplog: pytest.LogCaptureFixture
) -> None:
    """The call continues in memory, which is said once."""
    call = open_call(spool, "1")
    call.lend()
    path = only(tmp_path)
    path.rename(path.with_suffix(".moved"))
    path.write_bytes(b"of somebody else\n")
    call.append(tool())
    call.append(tool())
    assert call.broken == "estale"
    assert path.read_bytes() == b"of somebody else\n"
    assert counters["spool.write_estale"] == 1
    assert caplog.text.count("it continues in memory") == 1
    assert not call.sync()
    call.discard()


def test_a_copy_in_the_place_of_a_file_is_not_sealed_instead_of_it(
    spool: Spool, tmp_path: Path, counters: Counters
) -> None:
    """What was recorded is read into memory, whether the file is open or was closed meanwhile."""
    for lent in (False, True):
        call = open_call(spool, "1", "freeze_card")
        if lent:
            call.lend()
        path = next(path for path in files(tmp_path) if call.report_id in path.name)
        copy = path.with_suffix(".copy")
        copy.write_bytes(path.read_bytes())
        if lent:
            copy.rename(path)
            report = call.seal()
            assert (report.bodies, call.broken) == (None, "estale")  # only who recorded it has it all
        else:
            copy.replace(path)
            report = call.seal()
            assert report.bodies is not None
            assert len(report.bodies) == 2
    assert counters["spool.replaced"] == 2


def test_a_file_that_was_removed_is_read_into_memory(spool: Spool, tmp_path: Path, counters: Counters) -> None:
    """As long as it is open, nothing of it is lost."""
    call = open_call(spool, "1", "freeze_card")
    only(tmp_path).unlink()
    report = call.seal()
    assert report.bodies is not None
    assert call.seal().report_id == report.report_id
    assert counters["spool.rename_enoent"] == 1


def test_a_name_that_the_disk_refuses_leaves_the_report_in_memory(
    spool: Spool, counters: Counters, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where a file cannot be renamed it can be read."""
    call = open_call(spool, "1", "freeze_card")
    monkeypatch.setattr(os, "rename", lambda *_: (_ for _ in ()).throw(OSError(errno.EROFS, "read-only")))
    report = call.seal()
    assert report.bodies is not None
    assert counters["spool.rename_erofs"] == 1


def test_nothing_follows_half_a_line(counters: Counters) -> None:
    """A full disk breaks the file: what came after would be damaged with it. A new call has no file at all."""
    with small_disk(64) as disk:
        spool = spool_at(disk, counters)
        call = open_call(spool, "1")
        filler = fill(disk)
        for _ in range(200):
            call.append(tool())
        assert call.broken == "enospc"
        assert spool.open_call(report_id=new_id(), simulation_result_id="2", header=b"x" * 8192) is None
        filler.unlink()
        size = only_live(disk).stat().st_size
        call.append(tool())
        assert only_live(disk).stat().st_size == size
        call.discard()
        assert [path for path in files(disk) if path.suffix == ".live"] == []


def only_live(directory: Path) -> Path:
    """Return the only file of a call that continues."""
    (path,) = (path for path in files(directory) if path.suffix == ".live")
    return path


def test_a_line_that_is_no_text_breaks_the_file_and_is_raised(spool: Spool) -> None:
    """That is a fault of ours, and memory has the line."""
    call = open_call(spool, "1")
    call._fd = "not a number"  # type: ignore[assignment]
    with pytest.raises(TypeError):
        call.append(tool())
    call._fd = -1


def test_after_the_end_lines_are_counted_and_nothing_happens(spool: Spool, tmp_path: Path, counters: Counters) -> None:
    """Another thread was just encoding one."""
    call = open_call(spool, "1")
    for body in end(call.report_id):
        call.append(body)
    call.seal()
    call.append(tool())
    call.discard()
    assert counters["dropped.after_close"] == 1
    assert states(tmp_path) == ["1.ready"]


def test_a_discarded_file_that_is_gone_is_counted(spool: Spool, tmp_path: Path, counters: Counters) -> None:
    """Somebody has removed it; the call ends all the same."""
    call = open_call(spool, "1")
    only(tmp_path).unlink()
    call.discard()
    call.discard()
    assert counters["spool.discard_enoent"] == 1


def test_what_was_written_is_brought_to_the_disk_once(spool: Spool, tmp_path: Path, counters: Counters) -> None:
    """Open or not; what fails is counted, and tried again where only descriptors were missing."""
    call = open_call(spool, "1")
    assert call.sync()
    assert not call.sync()
    call.append(tool())
    call.lend()
    with no_descriptors():
        spool.sync()
    assert counters["spool.sync_emfile"] == 1
    assert call.sync()
    call.append(tool())
    call.lend()
    only(tmp_path).unlink()
    spool.sync()
    spool.sync()
    assert counters["spool.sync_enoent"] == 1
    call.discard()


def test_syncing_takes_a_share_of_the_time_and_goes_on_with_the_rest(spool: Spool) -> None:
    """A slow disk and many calls do not hold up whoever does it."""
    calls = crowd(spool)
    for _ in calls:
        spool.sync(0.0)
    assert [call.sync() for call in calls] == [False] * 6
    for call in calls:
        call.discard()


def test_two_calls_of_one_report_id_cannot_be(spool: Spool) -> None:
    """The second has no file, and the first keeps its own."""
    first = open_call(spool, "1")
    with pytest.raises(FileExistsError):
        type(first)(spool._files, "1", first.report_id).create(b"x")
    first.append(tool())
    assert first.broken is None
    first.discard()


def test_an_error_is_counted_by_its_name() -> None:
    """By its number where it has one, else by its type."""
    assert [reason_of(OSError(errno.EIO, "x")), reason_of(ValueError()), reason_of(OSError())] == [
        "eio",
        "valueerror",
        "oserror",
    ]


def test_a_child_of_a_process_with_calls_writes_to_none_of_their_files(spool: Spool, tmp_path: Path) -> None:
    """It closes its copies; the parent's file stays as it is."""
    call = open_call(spool, "1")
    before = only(tmp_path).read_bytes()
    spool.reset_after_fork()
    call.append(tool())
    assert only(tmp_path).read_bytes() == before
    assert Name("1", call.report_id, READY) not in {Name.parse(path.name) for path in files(tmp_path)}
