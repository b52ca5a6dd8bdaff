"""The file of a call that is going on: appended to inside the agent's own loop."""

# ruff: noqa: PTH103, PTH104, PTH108, PTH116 - plain strings: a Path costs more than the system call
from __future__ import annotations

import atexit
import contextlib
import errno
import itertools
import logging
import os
import stat
import threading
import weakref
from typing import TYPE_CHECKING

from bluejay_ws.delivery.files import LIVE, READY, Name, reason_of, shard_of
from bluejay_ws.delivery.processlock import ProcessLock, lives
from bluejay_ws.delivery.store import Report
from bluejay_ws.log import say
from bluejay_ws.wire import journal

if TYPE_CHECKING:
    from bluejay_ws.stats import Counters

OPEN_FILES = 64
"""So many files of live calls are open at once, at the most."""

LOCKS = 64
NO_ROOM = (errno.EMFILE, errno.ENFILE)

_AGAIN = os.O_RDWR | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
_FIRST = os.O_RDWR | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_CREAT | os.O_EXCL

# What stands in the place of a descriptor where there is none. From _LENT downward: the descriptor was lent to
# another call's file, and the number says which inode it had been opened for.
_CLOSED, _BROKEN, _NOT_MADE, _LENT = -1, -2, -3, -4


class OpenFiles:
    """Know the files of a spool's live calls, of which only some are open; those that were opened first close first.

    Args:
        root: the spool.
        directory: the place in it that calls are recorded to.
        counters: where everything is counted.
        most: how many are open at once, at the most.
        owned: whether a sealed file stays this process's as long as it lives.
    """

    def __init__(
        self, root: str, directory: str, *, counters: Counters, most: int = OPEN_FILES, owned: bool = False
    ) -> None:
        self.directory = directory
        self.owned = owned
        self.counters = counters
        self.live: dict[str, LiveFile] = {}
        self.lock = ProcessLock(root)
        self._open: dict[LiveFile, None] = {}
        self._most = most
        self._turns = itertools.cycle(_new_locks())
        _known.add(self)

    def ready(self, identity: str, report_id: str) -> Name:
        """Return the name of a file of this process once it is sealed."""
        return Name(identity, report_id, READY, self.lock.token if self.owned else "")

    def next_lock(self) -> threading.RLock:
        """Return a lock for a new file; a lock for each would take a third of its memory."""
        return next(self._turns)

    def goes_on(self, root: str, name: Name, asked: dict[str, bool]) -> bool:
        """Return whether a live file is of a call that continues, in this process or in another.

        Args:
            root: where the locks of processes are.
            name: the file's.
            asked: what was found out in the same scan, by token.

        Raises:
            OSError: it cannot be found out.
        """
        if name.token == self.lock.token:
            return name.report_id in self.live
        if name.token not in asked:
            asked[name.token] = lives(root, name.token)
        return asked[name.token]

    def open(self, path: str, flags: int) -> int:
        """Open a file; where no descriptors are left, or its directory is missing, mend that first and try again.

        Raises:
            OSError: it cannot be opened.
        """
        for _ in range(2):  # both may be in the way of one file
            try:
                return os.open(path, flags, 0o600)
            except OSError as error:
                if error.errno in NO_ROOM:
                    self._close_down_to(0)
                elif error.errno == errno.ENOENT and flags & os.O_CREAT:
                    os.makedirs(os.path.dirname(path), 0o700, exist_ok=True)  # noqa: PTH120 - or somebody removed it
                else:
                    raise
        return os.open(path, flags, 0o600)

    def opened(self, file: LiveFile) -> None:
        """Note that a file has a descriptor, under its lock; others close if these are too many now."""
        self._open[file] = None
        if len(self._open) > self._most:
            self._close_down_to(self._most, but=file)

    def closed(self, file: LiveFile) -> None:
        """Note that a file has no descriptor any more."""
        self._open.pop(file, None)

    def forget(self, file: LiveFile) -> None:
        """Take a file that is over off the books."""
        self.live.pop(file.report_id, None)
        self._open.pop(file, None)

    def reset_after_fork(self) -> list[LiveFile]:
        """Own nothing in a forked child; return the parent's files, for their copies to be closed."""
        mine, self.live, self._open = list(self.live.values()), {}, {}
        self._turns = itertools.cycle(_new_locks())
        self.lock.abandon()
        return mine

    def _close_down_to(self, most: int, but: LiveFile | None = None) -> None:
        """Close files until so many are open, as far as nobody is at work on them; never the one just opened."""
        try:
            oldest = tuple(self._open)
        except RuntimeError:  # pragma: no cover - just now, on another thread; the next file makes room
            return
        for file in oldest:
            if len(self._open) <= most:
                break
            if file is not but:  # its own thread may enter its lock again, and would take away what it is about to use
                file.lend()


def _new_locks() -> list[threading.RLock]:
    return [threading.RLock() for _ in range(LOCKS)]


_known: weakref.WeakSet[OpenFiles] = weakref.WeakSet()


def _at_exit() -> None:
    for files in list(_known):
        files.lock.release(unless=files.live)


atexit.register(_at_exit)


class LiveFile:
    """Write a call's lines as they happen. Nothing here but `create` and `sync` raises; nothing waits.

    The file need not be open all the time: how many are is the business of `OpenFiles`. One that lost its descriptor is
    opened again by the next line. Where it is not found any more as it was left, the call continues in memory.

    Args:
        files: what the files of the spool share.
        identity: the simulation result id.
        report_id: of the connection that is recorded.
    """

    __slots__ = ("_fd", "_files", "_lock", "_unsynced", "broken", "identity", "report_id")

    def __init__(self, files: OpenFiles, identity: str, report_id: str) -> None:
        self.broken: str | None = None
        """The reason of the first failed write; nothing is written after it."""
        self.report_id = report_id
        self.identity = identity
        self._files = files
        self._lock = files.next_lock()
        self._unsynced = False
        self._fd = _NOT_MADE

    def create(self, header: bytes) -> None:
        """Make the file, and write its first line.

        Args:
            header: the first line's body.

        Raises:
            OSError: the file cannot be made or the line not be written; nothing is left of it.
        """
        made = False
        with self._lock:
            try:
                self._files.live[self.report_id] = self  # first: nobody in this process may take its file for left
                self._files.lock.take()
                self._use(self._files.open(self._path, _FIRST))
                made = True
                self._write(journal.line(header))
            except OSError:
                self._let_go()
                if made:
                    with contextlib.suppress(OSError):
                        os.unlink(self._path)
                raise

    def append(self, body: bytes) -> None:
        """Write one line. After the first failure, counted and logged once, nothing more is written."""
        line = journal.line(body)
        with self._lock:
            try:
                if self._fd >= 0 or self._reopened():
                    self._write(line)
                elif self._fd == _CLOSED:  # the call ended while this was being encoded, on another thread
                    self._files.counters.add("dropped.after_close")
            except Exception as error:  # noqa: BLE001 - whatever it was: this line is missing in the file
                self._break(error)
                failed = error
            else:
                return
        if not isinstance(failed, OSError):  # no failure of the disk's: the recorder says so
            raise failed
        self._tell(failed)

    def seal(self) -> Report:
        """End the file: rename it to ``.ready``, let go of it, and return it as a report to deliver.

        Where the name cannot be changed, or stands for another file by now, the report is read into memory; where it
        cannot be read either, `broken` says so, and only who recorded the call has its lines. Sealing twice returns
        the same report.
        """
        with self._lock:
            path = self._path
            if self._fd == _CLOSED or (self._is_still_there(path) and self._rename(path)):
                self._let_go()
                return Report(self.report_id, self.identity)
            bodies = self._read()
            self._let_go()
        if bodies is None:
            return Report(self.report_id, self.identity)
        return Report(self.report_id, self.identity, bodies)

    def discard(self) -> None:
        """Remove the file: nothing of this call is to be sent, or memory holds it all. Idempotent."""
        with self._lock:
            if self._fd == _CLOSED:
                return
            try:
                os.unlink(self._path)
            except OSError as error:
                self._files.counters.add(f"spool.discard_{reason_of(error)}")
            self._let_go()

    def sync(self) -> bool:
        """Bring what was written to the disk, so that it survives a power cut; return whether there was anything.

        Called beside the agent's loop. The lock is not held while the disk works.

        Raises:
            OSError: the disk fails, or the file cannot be opened.
        """
        with self._lock:
            if not self._unsynced or _BROKEN <= self._fd <= _CLOSED:
                return False
            self._unsynced = False
            try:
                twin = self._open_again()
            except OSError as error:
                self._unsynced = error.errno in NO_ROOM  # there may be one the next time
                raise
        try:
            os.fdatasync(twin) if hasattr(os, "fdatasync") else os.fsync(twin)
        finally:
            os.close(twin)
        return True

    def lend(self) -> bool:
        """Give the descriptor up until the next line needs one; return False if it is in use at this moment.

        Called by the one that opens another call's file.
        """
        lock = self._lock
        if not lock.acquire(blocking=False):
            return False
        try:
            fd = self._fd
            if fd >= 0:
                self._fd = _LENT - os.fstat(fd).st_ino
                self._files.closed(self)
                os.close(fd)
        except OSError:
            return False
        finally:
            lock.release()
        return True

    def abandon(self) -> None:
        """Close a forked child's copy: the call continues in the parent, and its file's name is not touched."""
        self._lock = threading.RLock()  # the parent may have held it
        self._let_go()

    @property
    def _path(self) -> str:
        name = Name(self.identity, self.report_id, LIVE, self._files.lock.token)
        return f"{self._files.directory}/{shard_of(self.identity)}/{name}"

    def _write(self, data: bytes) -> None:
        if os.write(self._fd, data) != len(data):  # the usual reason is a full disk
            raise OSError(errno.ENOSPC, "short write")
        self._unsynced = True

    def _reopened(self) -> bool:
        """Open the file for another line, if it is one that can have one.

        Raises:
            OSError: it cannot be opened, or is not the same any more.
        """
        if self._fd > _LENT:
            return False
        self._use(self._open_again())
        return True

    def _open_again(self) -> int:
        """Return a descriptor of its own for the file, if it is still the same."""
        lent = self._fd
        if lent >= 0:
            return os.dup(lent)
        fd = self._files.open(self._path, _AGAIN)
        facts = os.fstat(fd)
        if not stat.S_ISREG(facts.st_mode) or lent != _LENT - facts.st_ino:
            os.close(fd)
            raise OSError(errno.ESTALE, "not the file that it was")
        return fd

    def _use(self, fd: int) -> None:
        """Keep a new descriptor."""
        self._fd = fd
        self._files.opened(self)

    def _break(self, error: Exception) -> None:
        """Write nothing any more, under the lock: what follows half a line would be damaged with it."""
        fd, self._fd = self._fd, _BROKEN
        self.broken = reason_of(error)
        self._files.closed(self)
        _close(fd)

    def _tell(self, error: OSError) -> None:
        """Say aloud that the file broke; without the lock, because a handler of logs may record too."""
        reason = reason_of(error)
        self._files.counters.add(f"spool.write_{reason}")
        say(
            self._files.counters,
            logging.ERROR,
            "call %s: its file in the spool %s cannot be written (%s); it continues in memory, and a crash loses it",
            self.identity,
            self._files.directory,
            reason,
            simulation_result_id=self.identity,
        )

    def _is_still_there(self, path: str) -> bool:
        """Return whether the file's name still stands for it, and not for a copy that was put in its place."""
        try:
            named = os.stat(path, follow_symlinks=False).st_ino
            if named == (os.fstat(self._fd).st_ino if self._fd >= 0 else _LENT - self._fd):
                return True
        except OSError as error:
            self._files.counters.add(f"spool.rename_{reason_of(error)}")
        else:
            self._files.counters.add("spool.replaced")
        return False

    def _rename(self, path: str) -> bool:
        ready = self._files.ready(self.identity, self.report_id)
        try:
            os.rename(path, f"{path.rpartition('/')[0]}/{ready}")
        except OSError as error:
            self._files.counters.add(f"spool.rename_{reason_of(error)}")
            return False
        return True

    def _read(self) -> list[bytes] | None:
        """Return every line that the file holds, whatever became of its name; None if it is gone."""
        chunks: list[bytes] = []
        try:
            if self._fd < 0:
                self._use(self._open_again())
            while chunk := os.pread(self._fd, 1 << 20, sum(map(len, chunks))):
                chunks.append(chunk)
        except OSError as error:
            self.broken = reason_of(error)
            return None
        return journal.parse(b"".join(chunks)).bodies

    def _let_go(self) -> None:
        fd, self._fd = self._fd, _CLOSED
        self._files.forget(self)
        _close(fd)


def _close(fd: int) -> None:
    try:
        if fd >= 0:
            os.close(fd)
    except OSError:  # what it held is written or given up: there is nothing left to do
        pass
