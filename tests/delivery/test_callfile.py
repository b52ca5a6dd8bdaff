"""The file of a call that goes on."""

from __future__ import annotations

import errno
import faulthandler
import logging
import os
import shutil
import signal
import threading
from typing import TYPE_CHECKING

import pytest

from bluejay_ws.delivery.callfile import CallFile
from bluejay_ws.delivery.names import NO_ID
from bluejay_ws.delivery.owner import lives
from bluejay_ws.stats import Counters
from bluejay_ws.wire import journal
from tests.delivery.faults import as_ordinary_user, file_size_limit, fill, no_descriptors, read_only, small_disk
from tests.delivery.kit import bodies, descriptors, end, header, new_id, only, open_call, owners, spool_at, states, tool

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from bluejay_ws.delivery.spool import Spool


def lines(directory: Path) -> list[bytes]:
    """Return the bodies of the only file, which is sound."""
    parsed = journal.parse(only(directory).read_bytes())
    assert not parsed.damaged
    assert not parsed.torn
    return parsed.bodies


def test_each_line_is_there_as_soon_as_it_was_written(tmp_path: Path) -> None:
    """Nothing is buffered: a process that is killed now loses nothing."""
    file = open_call(spool_at(tmp_path), "720488")
    file.append(tool())
    assert lines(tmp_path) == [header(file.report_id, "720488"), tool()]
    assert states(tmp_path) == ["720488.live"]
    assert only(tmp_path).stat().st_mode & 0o777 == 0o600


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
    (lock,) = owners(tmp_path)
    assert lives(str(tmp_path), lock.stem)
    assert len(lines(tmp_path)) == 1


# -- files that have no descriptor at the moment ------------------------------------------------------------------


def lent(directory: Path, counters: Counters | None = None) -> tuple[CallFile, Spool]:
    """Return a call with one tool call whose file gave its descriptor to another call's."""
    spool = spool_at(directory, counters, open_files=1)
    file = open_call(spool, "720488", "first")
    open_call(spool, "another")
    assert list(spool._shelf.holders) != [file]
    return file, spool


def path_of(directory: Path, identity: str = "720488") -> Path:
    """Return a call's file."""
    (path,) = directory.glob(f"{identity}.*")
    return path


def test_the_next_line_opens_the_file_again(tmp_path: Path) -> None:
    """Nobody notices; each line is there once, in order."""
    file, _ = lent(tmp_path)
    file.append(tool("second"))
    file.append(tool("third"))
    parsed = journal.parse(path_of(tmp_path).read_bytes())
    assert parsed.bodies == [header(file.report_id, "720488"), tool("first"), tool("second"), tool("third")]
    assert not parsed.damaged


def test_a_line_that_finds_no_room_breaks_the_file(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Counted, told once, and the call is in memory."""
    counters = Counters()
    file = open_call(spool_at(tmp_path, counters), "720488")
    with file_size_limit(200):
        for _ in range(9):
            file.append(tool())
    assert file.broken == "enospc"
    assert not file.closed
    assert counters.snapshot() == {"spool.write_enospc": 1}
    assert len(caplog.records) == 1


def test_a_broken_file_takes_no_descriptor_and_is_its_calls_until_the_end(tmp_path: Path) -> None:
    """What it holds is delivered by nobody: memory has more."""
    spool = spool_at(tmp_path)
    file = open_call(spool, "720488", "first")
    with file_size_limit(1):
        file.append(tool())
    assert (file.broken, descriptors(tmp_path)) == ("enospc" if file.broken == "enospc" else "efbig", 0)
    assert not file.sync()
    assert spool.gather("720488").going_on
    assert spool.recover() == spool_at(tmp_path).recover() == []
    file.discard()
    assert states(tmp_path) == []


def test_sealing_renaming_and_discarding_need_no_descriptor(tmp_path: Path) -> None:
    """The end of a call opens nothing."""
    one, spool = lent(tmp_path)
    three, four = open_call(spool, None), open_call(spool, "4")
    open_call(spool, "5").discard()
    three.bind("3")
    assert one.seal().bodies is None
    four.discard()
    assert states(tmp_path) == ["3.live", "720488.ready", "another.live"]
    one.append(tool())
    assert descriptors(tmp_path) == 1


@pytest.mark.parametrize("change", ["removed", "link", "moved", "dangling", "another", "pipe", "directory"])
def test_a_file_that_is_not_the_same_any_more_is_not_written_to(
    tmp_path: Path, change: str, caplog: pytest.LogCaptureFixture
) -> None:
    """The call goes on in memory, and whatever stands in the place is left as it is."""
    counters = Counters()
    file, _ = lent(tmp_path / "spool", counters)
    path, elsewhere = path_of(tmp_path / "spool"), tmp_path / "elsewhere"
    elsewhere.write_bytes(path.read_bytes())
    before = elsewhere.read_bytes()
    if change == "another":
        os.replace(shutil.copy(elsewhere, tmp_path / "copy"), path)  # noqa: PTH105 - at once: the inode is not free
    elif change == "moved":
        path.rename(elsewhere)
        path.symlink_to(elsewhere)
    else:
        path.unlink()
    if change in {"link", "dangling"}:
        path.symlink_to(elsewhere if change == "link" else tmp_path / "nowhere")
    elif change == "pipe":
        os.mkfifo(path)
    elif change == "directory":
        path.mkdir()
    file.append(tool("second"))
    file.append(tool("third"))
    assert file.broken is not None
    assert counters.snapshot() == {f"spool.write_{file.broken}": 1}
    assert len(caplog.records) == 1
    assert elsewhere.read_bytes() == before
    assert not (tmp_path / "nowhere").exists()
    if change == "another":
        assert path.read_bytes() == before
    assert descriptors(tmp_path / "spool") == 1


def test_a_file_that_went_before_it_could_be_sealed_is_said_to_be_broken(tmp_path: Path) -> None:
    """Then only whoever recorded the call has its lines, and has to look."""
    counters = Counters()
    file, _ = lent(tmp_path, counters)
    path_of(tmp_path).unlink()
    file.seal()
    assert file.broken == "enoent"
    assert file.closed


def test_one_that_cannot_be_renamed_is_opened_again_to_be_read() -> None:
    """A directory that became read-only loses nothing."""
    with as_ordinary_user() as directory:
        file, _ = lent(directory)
        with read_only(directory):
            assert list(file.seal().bodies or ()) == [header(file.report_id, "720488"), tool("first")]


def test_no_descriptor_to_open_it_again_breaks_the_file_and_not_the_call(tmp_path: Path) -> None:
    """Nothing more can be given back, so the call goes on in memory."""
    counters = Counters()
    file, spool = lent(tmp_path, counters)
    for other in list(spool._shelf.holders):
        other.discard()
    with no_descriptors():
        file.append(tool())
    assert file.broken == "emfile"
    assert counters.snapshot() == {"spool.write_emfile": 1}


def test_what_was_written_before_the_descriptor_went_is_synced_too(tmp_path: Path) -> None:
    """A power cut must not cost more where many calls go on."""
    file, spool = lent(tmp_path)
    assert file.sync()
    assert not file.sync()
    file.append(tool())
    open_call(spool, "third")
    with no_descriptors():
        for other in list(spool._shelf.holders):
            with other._lock:  # what is in use is not given back
                pass
        assert file.sync()
    assert not file.sync()


def test_what_could_not_be_synced_for_want_of_a_descriptor_is_tried_again(tmp_path: Path) -> None:
    """And what is gone is not: there is nothing to be synced."""
    file, spool = lent(tmp_path)
    for other in list(spool._shelf.holders):
        other.discard()
    with no_descriptors(), pytest.raises(OSError, match="Too many open files"):
        file.sync()
    path_of(tmp_path).unlink()
    with pytest.raises(FileNotFoundError):
        file.sync()
    assert not file.sync()


def test_threads_that_write_to_more_calls_than_may_be_open_lose_no_line(tmp_path: Path) -> None:
    """Descriptors change hands all the time: no line comes into another call's file, twice, or not at all."""
    spool = spool_at(tmp_path, open_files=3)
    files = [open_call(spool, str(number)) for number in range(12)]

    def record(worker: int) -> None:
        for number in range(144):
            index = (number * 5 + worker) % len(files)
            files[index].append(tool(f"call-{index}-{worker}-{number}"))
            if number % 48 == 47 and worker == 0:  # as the keeper, which is one thread
                spool.sync()

    threads = [threading.Thread(target=record, args=(worker,)) for worker in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert descriptors(tmp_path) == len(spool._shelf.holders) <= 3 + len(threads)
    for index, file in enumerate(files):
        parsed = journal.parse(path_of(tmp_path, str(index)).read_bytes())
        assert not parsed.damaged
        assert len(set(parsed.bodies)) == len(parsed.bodies) == 1 + 6 * 144 / 12
        assert all(b'"call-%d-' % index in body for body in parsed.bodies[1:])
        file.seal()
    assert descriptors(tmp_path) == 0


class Interrupted(CallFile):
    """A file whose opening is interrupted by a handler of signals, between the question and the opening."""

    __slots__ = ("handler",)

    def interrupt(self, place: str, handler: Callable[[], object]) -> None:
        """Call ``handler`` once, at the beginning of `_reopened` or of `_open_again`."""
        self.handler: tuple[str, Callable[[], object]] | None = (place, handler)

    def _arrive(self, place: str) -> None:
        known = getattr(self, "handler", None)
        if known is not None and known[0] == place:
            self.handler = None
            known[1]()

    def _reopened(self) -> bool:
        self._arrive("_reopened")
        return super()._reopened()

    def _open_again(self) -> int:
        self._arrive("_open_again")
        return super()._open_again()


def interrupted_file(tmp_path: Path) -> Interrupted:
    """Return a live file without a descriptor."""
    report_id = new_id()
    file = Interrupted(spool_at(tmp_path)._shelf, "720488", report_id)
    file.create(header(report_id, "720488"))
    assert file.lend()
    return file


@pytest.mark.parametrize("place", ["_reopened", "_open_again"])
def test_a_handler_of_signals_that_records_where_a_file_is_opened_again_costs_no_line(
    tmp_path: Path, place: str
) -> None:
    """Both its line and the one that it interrupted are there, and the file is as good as before."""
    file = interrupted_file(tmp_path)
    file.interrupt(place, lambda: file.append(tool("from the handler")))
    file.append(tool("interrupted"))
    assert lines(tmp_path)[1:] == [tool("from the handler"), tool("interrupted")]
    assert file.broken is None
    assert descriptors(tmp_path) == 1


def test_a_handler_of_signals_that_records_where_a_file_is_brought_to_the_disk_disturbs_nothing(tmp_path: Path) -> None:
    """The file that it has just opened is brought there."""
    file = interrupted_file(tmp_path)
    file.interrupt("_open_again", lambda: file.append(tool("from the handler")))
    assert file.sync()
    assert file.broken is None


@pytest.mark.parametrize("place", ["_reopened", "_open_again"])
def test_a_handler_of_signals_that_ends_the_call_where_its_file_is_opened_again_is_no_failure(
    tmp_path: Path, place: str
) -> None:
    """The report is sealed, nobody is told of a broken disk, and the line that came too late is counted."""
    file = interrupted_file(tmp_path)
    file.interrupt(place, file.seal)
    file.append(tool("too late"))
    assert file.closed
    assert file.broken is None
    assert file._shelf.counters.snapshot() == {"dropped.after_close": 1}
    assert lines(tmp_path)[1:] == []


def test_a_handler_of_signals_may_end_a_call_whose_file_is_being_opened_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The descriptor that nobody needs any more is closed, and no line follows the end."""
    file, spool = lent(tmp_path)
    plain = spool._shelf.open

    def interrupted(path: str, flags: int) -> int:
        fd = plain(path, flags)
        file.seal()
        return fd

    monkeypatch.setattr(spool._shelf, "open", interrupted)
    file.append(tool("too late"))
    assert file.closed
    assert file.broken is None
    assert b"too late" not in path_of(tmp_path).read_bytes()
    assert descriptors(tmp_path) == 1


def test_a_call_that_ends_while_it_gives_its_descriptor_up_stays_ended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A handler of signals came in between."""
    file = open_call(spool_at(tmp_path), "1")
    plain = os.fstat

    def interrupted(fd: int) -> os.stat_result:
        facts = plain(fd)
        monkeypatch.undo()
        file.seal()
        return facts

    monkeypatch.setattr(os, "fstat", interrupted)
    assert file.lend()
    assert file.closed


def test_one_that_the_kernel_tells_nothing_of_keeps_its_descriptor(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It could not be known again."""
    file = open_call(spool_at(tmp_path), "1")

    def fails(_: int) -> os.stat_result:
        raise OSError(errno.EIO, "no")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fstat", fails)
        assert not file.lend()
    file.append(tool())
    assert len(lines(tmp_path)) == 2


def test_a_copy_in_the_place_of_a_file_is_not_sealed_for_it(tmp_path: Path) -> None:
    """A directory that was moved away and copied back holds less: the report is read from the file that was written."""
    counters = Counters()
    file = open_call(spool_at(tmp_path, counters), "720488", "first")
    path = path_of(tmp_path)
    copy = tmp_path / "copy"
    shutil.copy(path, copy)
    file.append(tool("second"))
    copy.replace(path)
    parcel = file.seal()
    assert parcel.bodies is not None
    assert parcel.bodies[1:] == (tool("first"), tool("second"))
    assert counters.snapshot() == {"spool.replaced": 1}


def test_whatever_breaks_a_write_breaks_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The line is missing in it: what memory holds is the report, and the recorder counts the error."""
    file = open_call(spool_at(tmp_path), "720488", "first")

    def fail(*_: object) -> None:
        raise RuntimeError("of nobody's making")

    monkeypatch.setattr(os, "write", fail)
    with pytest.raises(RuntimeError, match="of nobody's making"):
        file.append(tool("second"))
    monkeypatch.undo()
    assert file.broken == "runtimeerror"
    file.append(tool("third"))
    assert lines(tmp_path)[1:] == [tool("first")]


def test_a_copy_that_nobody_knows_of_keeps_no_file_locked(tmp_path: Path) -> None:
    """A child that was made without Python's knowledge has the same open file; the end of the call unlocks it."""
    spool = spool_at(tmp_path)
    file = open_call(spool, "720488")
    copy = os.dup(file._fd)
    file.seal()
    (part,) = spool.gather("720488").parts
    part.release()
    os.close(copy)


def test_who_is_just_writing_may_write(tmp_path: Path) -> None:
    """A handler of signals runs on the thread that has the file's lock: it must not wait for itself."""
    file = open_call(spool_at(tmp_path), "720488")
    with file._lock:
        file.append(tool("from the handler"))
    assert lines(tmp_path)[1:] == [tool("from the handler")]
