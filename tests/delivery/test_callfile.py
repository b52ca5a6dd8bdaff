"""The file of a call that goes on."""

from __future__ import annotations

import faulthandler
import fcntl
import logging
import os
import shutil
import signal
from typing import TYPE_CHECKING

import pytest

from bluejay_ws.counters import Counters
from bluejay_ws.delivery.names import NO_ID
from bluejay_ws.wire import journal
from tests.delivery.faults import as_ordinary_user, file_size_limit, fill, read_only, small_disk
from tests.delivery.kit import bodies, end, header, new_id, open_call, spool_at, states, tool

if TYPE_CHECKING:
    from pathlib import Path

    from bluejay_ws.delivery.spool import CallFile, Spool


def lines(directory: Path) -> list[bytes]:
    """Return the bodies of the only file, which is sound."""
    (path,) = (path for path in directory.iterdir() if path.is_file())
    parsed = journal.parse(path.read_bytes())
    assert not parsed.damaged
    assert not parsed.torn
    return parsed.bodies


def test_each_line_is_there_as_soon_as_it_was_written(tmp_path: Path) -> None:
    """Nothing is buffered: a process that is killed now loses nothing."""
    file = open_call(spool_at(tmp_path), "720488")
    file.append(tool())
    assert lines(tmp_path) == [header(file.report_id, "720488"), tool()]
    assert states(tmp_path) == ["720488.live"]
    assert next(tmp_path.iterdir()).stat().st_mode & 0o777 == 0o600


def test_the_file_is_locked_while_the_call_goes_on(tmp_path: Path) -> None:
    """Every other process can tell a running call from one whose process died."""
    file = open_call(spool_at(tmp_path), "720488")
    with next(tmp_path.iterdir()).open("rb") as other:
        with pytest.raises(BlockingIOError):
            fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)
        file.seal()
        fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)


def test_sealing_makes_it_ready(tmp_path: Path) -> None:
    """The report is handed on by name; what comes later is not written into another file by accident."""
    file = open_call(spool_at(tmp_path), "720488")
    parcel = file.seal()
    assert (parcel.report_id, parcel.simulation_result_id, parcel.bodies) == (file.report_id, "720488", None)
    assert file.seal() == parcel
    file.append(tool())
    file.discard()
    file.abandon()
    assert not file.sync()
    assert lines(tmp_path) == [header(file.report_id, "720488")]
    assert states(tmp_path) == ["720488.ready"]


def test_an_id_that_comes_later_is_in_the_name_and_in_a_line(tmp_path: Path) -> None:
    """Whoever finds the file knows which call it is."""
    file = open_call(spool_at(tmp_path), None)
    assert states(tmp_path) == [f"{NO_ID}.live"]
    file.bind("720488")
    assert states(tmp_path) == ["720488.live"]
    assert journal.facts(lines(tmp_path)).simulation_result_id == "720488"
    assert file.seal().simulation_result_id == "720488"


def test_discarding_leaves_nothing(tmp_path: Path) -> None:
    """A call that is to be left out leaves no trace."""
    file = open_call(spool_at(tmp_path), "720488")
    file.discard()
    assert states(tmp_path) == []


def test_a_file_that_cannot_be_written_is_given_up_loudly_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The call goes on; the reason is counted and said in one line."""
    counters = Counters()
    file = open_call(spool_at(tmp_path, counters), "720488")
    with file_size_limit(400):
        for _ in range(10):
            file.append(tool())
    assert file.broken == "enospc"  # a short write at the limit
    file.append(tool())
    assert counters.snapshot() == {"spool.write_enospc": 1}
    assert [record.levelno for record in caplog.records] == [logging.ERROR]
    assert caplog.records[0].__dict__["simulation_result_id"] == "720488"
    file.discard()
    assert states(tmp_path) == []


def test_a_full_disk_breaks_the_file_and_not_the_call() -> None:
    """Sealing and discarding still work: a rename needs no room."""
    with small_disk(64) as disk:
        counters = Counters()
        spool = spool_at(disk / "spool", counters)
        broken, whole = open_call(spool, "1"), open_call(spool, "2")
        fill(disk)
        for _ in range(100):
            broken.append(tool())
        assert broken.broken == "enospc"
        whole.seal()
        broken.discard()
        assert states(disk / "spool") == ["2.ready"]
        assert counters.snapshot() == {"spool.write_enospc": 1}


def test_a_file_whose_directory_is_gone_is_read_into_memory(tmp_path: Path) -> None:
    """The open file outlives its name, so nothing that was recorded is lost."""
    counters = Counters()
    directory = tmp_path / "spool"
    file = open_call(spool_at(directory, counters), "720488", "freeze_card")
    shutil.rmtree(directory)
    for body in end(file.report_id):
        file.append(body)
    parcel = file.seal()
    assert list(parcel.bodies or ()) == bodies(file.report_id, "720488", "freeze_card")
    assert counters.snapshot() == {"spool.rename_enoent": 1}


def test_a_directory_that_became_read_only_cannot_stop_the_end_of_a_call() -> None:
    """What cannot be renamed goes on in memory; what cannot be removed is counted."""
    with as_ordinary_user() as directory:
        counters = Counters()
        spool = spool_at(directory, counters)
        one, two = open_call(spool, "1"), open_call(spool, "2")
        with read_only(directory):
            assert one.seal().bodies == (header(one.report_id, "1"),)
            two.discard()
        assert counters.snapshot() == {"spool.rename_eacces": 1, "spool.discard_eacces": 1}


def test_a_header_that_cannot_be_written_leaves_no_file(tmp_path: Path) -> None:
    """Half a first line would be a damaged call for whoever starts next."""
    counters = Counters()
    with file_size_limit(10):
        report_id = new_id()
        spool = spool_at(tmp_path, counters)
        call = spool.open_call(report_id=report_id, simulation_result_id="1", header=header(report_id, "1"))
        assert call is None
    assert states(tmp_path) == []
    assert counters.snapshot() == {"spool.open_enospc": 1}


def test_syncing_has_something_to_do_only_after_a_write(tmp_path: Path) -> None:
    """An idle call costs the disk nothing."""
    file = open_call(spool_at(tmp_path), "720488")
    assert file.sync()
    assert not file.sync()
    file.append(tool())
    assert file.sync()


def test_a_handler_of_signals_may_record_in_the_middle_of_a_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It runs on the thread that is writing: waiting for that one's lock would stop the agent for ever."""
    file = open_call(spool_at(tmp_path), "720488")
    plain = journal.line

    def interrupted(body: bytes) -> bytes:
        monkeypatch.setattr(journal, "line", plain)
        signal.raise_signal(signal.SIGUSR1)
        return plain(body)

    before = signal.signal(signal.SIGUSR1, lambda *_: file.append(tool("from the handler")))
    monkeypatch.setattr(journal, "line", interrupted)
    faulthandler.dump_traceback_later(20.0, exit=True)
    try:
        file.append(tool("interrupted"))
    finally:
        faulthandler.cancel_dump_traceback_later()
        signal.signal(signal.SIGUSR1, before)
    assert lines(tmp_path)[1:] == [tool("from the handler"), tool("interrupted")]


def test_a_forked_child_closes_its_copy_and_no_more(tmp_path: Path) -> None:
    """The lock stays with the parent, whose call goes on."""
    spool: Spool = spool_at(tmp_path)
    file: CallFile = open_call(spool, "720488")
    child = os.fork()
    if not child:
        spool.reset_after_fork()
        file.append(tool())
        os._exit(0)
    os.waitpid(child, 0)
    with next(tmp_path.iterdir()).open("rb") as other, pytest.raises(BlockingIOError):
        fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)
    assert len(lines(tmp_path)) == 1
