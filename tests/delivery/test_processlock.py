"""The lock that says whose calls go on."""

from __future__ import annotations

import ctypes
import fcntl
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from bluejay_ws.delivery.processlock import ProcessLock, lives, sweep
from tests import nursery
from tests.delivery.faults import as_ordinary_user, file_size_limit, no_descriptors, read_only
from tests.delivery.kit import owners

NOBODYS = "0123456789abcdef"


def test_it_lives_as_long_as_it_is_held(tmp_path: Path) -> None:
    """Every other process can tell; nothing is left of an orderly end."""
    owner = ProcessLock(str(tmp_path))
    assert (owner.token, owners(tmp_path)) == ("", [])
    token = owner.take()
    assert owner.take() == owner.token == token
    (path,) = owners(tmp_path)
    assert (path.name, path.stat().st_mode & 0o777) == (f"{token}.owner", 0o600)
    assert lives(str(tmp_path), token)
    owner.release(unless=["a call"])
    assert lives(str(tmp_path), token)
    owner.release(unless=[])
    owner.release(unless=[])
    assert not lives(str(tmp_path), token)
    assert owners(tmp_path) == []
    assert owner.take() != token


def test_two_that_ask_do_not_take_each_other_for_the_owner(tmp_path: Path) -> None:
    """Each would wait for the other to deliver, for ever."""
    import fcntl

    path = tmp_path / f"{NOBODYS}.owner"
    path.touch()
    with path.open() as other:
        fcntl.flock(other, fcntl.LOCK_SH)
        assert not lives(str(tmp_path), NOBODYS)


def test_nobody_sees_one_that_is_not_locked_yet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else it would be taken for a dead process's, and be removed between its making and its locking."""
    import fcntl

    owner = ProcessLock(str(tmp_path))
    plain, seen = fcntl.flock, []

    def watched(fd: int, how: int) -> None:
        seen.append(sweep(str(tmp_path)) + len(list(tmp_path.glob("*.owner"))))
        monkeypatch.setattr(fcntl, "flock", plain)
        plain(fd, how)

    monkeypatch.setattr(fcntl, "flock", watched)
    assert lives(str(tmp_path), owner.take())
    assert seen == [0]


def test_one_that_is_missing_is_dead(tmp_path: Path) -> None:
    """It was removed at the end of its process, or by whoever found it free."""
    assert not lives(str(tmp_path), NOBODYS)


@pytest.mark.parametrize("kind", ["link", "dangling", "pipe", "directory"])
def test_what_is_planted_in_its_place_is_nobodys_lock(tmp_path: Path, kind: str) -> None:
    """It is not followed, not waited for, and keeps no report from its delivery."""
    path = tmp_path / f"{NOBODYS}.owner"
    alive = ProcessLock(str(tmp_path)).take() if kind == "link" else NOBODYS
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "directory":
        path.mkdir()
    else:
        path.symlink_to(f"{alive}.owner" if kind == "link" else "nowhere")
    assert not lives(str(tmp_path), NOBODYS)
    sweep(str(tmp_path))


def test_what_cannot_be_found_out_is_not_taken_for_dead(tmp_path: Path) -> None:
    """A call that continues is never taken away from its process for want of a descriptor."""
    owner = ProcessLock(str(tmp_path))
    token = owner.take()
    with no_descriptors():
        with pytest.raises(OSError, match="Too many open files"):
            lives(str(tmp_path), token)
        assert sweep(str(tmp_path)) == 0
    assert lives(str(tmp_path), token)


def test_one_that_cannot_be_made_leaves_nothing() -> None:
    """Whoever opens a call is told, and continues in memory."""
    with as_ordinary_user() as directory, read_only(directory):
        owner = ProcessLock(str(directory))
        with pytest.raises(PermissionError):
            owner.take()
        assert owner.token == ""


def test_it_needs_no_room_on_the_disk(tmp_path: Path) -> None:
    """Only its name counts."""
    with file_size_limit(0):
        owner = ProcessLock(str(tmp_path))
        assert lives(str(tmp_path), owner.take())


def test_one_that_cannot_be_given_its_name_is_let_go_of(tmp_path: Path) -> None:
    """Nothing is left of it, and it can be taken when what stood in the way is gone."""
    owner = ProcessLock(str(tmp_path))
    token = owner.take()
    path = tmp_path / f"{token}.owner"
    path.unlink()
    path.mkdir()
    with pytest.raises(IsADirectoryError):
        owner.take()
    assert owners(tmp_path) == [path]
    path.rmdir()
    assert owner.take() == token
    assert lives(str(tmp_path), token)


def test_one_that_was_removed_under_running_calls_is_made_again(tmp_path: Path) -> None:
    """With the same token: the calls that go on have it in their names."""
    owner = ProcessLock(str(tmp_path))
    token = owner.take()
    (tmp_path / f"{token}.owner").unlink()
    assert not lives(str(tmp_path), token)
    assert owner.take() == token
    assert lives(str(tmp_path), token)


def test_only_locks_of_dead_processes_are_swept(tmp_path: Path) -> None:
    """One that is free has nobody who could take it again."""
    owner = ProcessLock(str(tmp_path))
    owner.take()
    (tmp_path / f"{NOBODYS}.owner").touch()
    (tmp_path / "report.ready").touch()
    assert sweep(str(tmp_path)) == 1
    assert [path.stem for path in owners(tmp_path)] == [owner.token]
    assert sweep(str(tmp_path / "gone")) == 0


def test_whoever_is_dropped_lets_go(tmp_path: Path) -> None:
    """A client that is forgotten holds up no report."""
    token = ProcessLock(str(tmp_path)).take()
    assert not lives(str(tmp_path), token)
    assert owners(tmp_path) == []


def test_a_killed_process_lets_go(tmp_path: Path) -> None:
    """The kernel does it for one that can do nothing more."""
    take = f"o = ProcessLock({str(tmp_path)!r}); print(o.take(), flush=True)"
    program = f"from bluejay_ws.delivery.processlock import ProcessLock; {take}"
    command = [sys.executable, "-c", f"{program}; import time; time.sleep(60)"]
    with nursery.start(command, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        token = process.stdout.readline().strip()
        assert lives(str(tmp_path), token)
        process.kill()
    assert not lives(str(tmp_path), token)


def test_a_forked_child_keeps_nothing_of_its_parents(tmp_path: Path) -> None:
    """It closes its copy without unlocking; a parent that dies before its child is known to be dead."""
    owner = ProcessLock(str(tmp_path))
    token = owner.take()
    child = os.fork()
    if not child:
        try:
            owner.abandon()
            mine = owner.take()
            alive = mine != token and lives(str(tmp_path), token) and lives(str(tmp_path), mine)
            (tmp_path / "told").write_text(str(alive))
            time.sleep(60)
        finally:
            os._exit(1)  # else it would run the rest of this test, and kill its process group
    while not (tmp_path / "told").exists() or not (tmp_path / "told").read_text():
        time.sleep(0.01)
    try:
        assert (tmp_path / "told").read_text() == "True"
        assert lives(str(tmp_path), token)
        owner.release(unless=[])
        owner.abandon()
        assert not lives(str(tmp_path), token)
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)


@pytest.mark.parametrize("ends", [True, False])
def test_a_child_that_was_forked_behind_our_back_neither_unlocks_nor_holds_up_an_orderly_end(
    tmp_path: Path, ends: bool
) -> None:
    """It has the same open file: closing ours is not enough, and its own end must not be taken for ours."""
    # In a process without other threads: the child of such a fork waits for ever if one of them held the interpreter.
    program = f"from tests.delivery.test_processlock import forked; forked({str(tmp_path)!r}, {ends})"
    nursery.run([sys.executable, "-c", program])


def forked(directory: str, ends: bool) -> None:
    """Fork as a C library does, of which Python knows nothing, and see what becomes of the lock."""
    owner = ProcessLock(directory)
    token = owner.take()
    (path,) = owners(Path(directory))
    ready, told = os.pipe()
    with path.open() as asking:
        child = ctypes.CDLL(None).fork()
        if not child:
            try:
                owner.release(unless=() if ends else "not ended")
                os.write(told, b"released")
                time.sleep(60)
            finally:
                os._exit(1)
        try:
            os.close(told)
            assert os.read(ready, 100) == b"released"
            assert lives(directory, token)
            assert path.exists()
            owner.release(unless=[])
            fcntl.flock(asking, fcntl.LOCK_SH | fcntl.LOCK_NB)
        finally:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
