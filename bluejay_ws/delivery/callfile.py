"""The file of a call that is going on: appended to inside the agent's own loop."""

# ruff: noqa: PTH104, PTH108 - plain strings: a Path costs more than the system call
from __future__ import annotations

import contextlib
import errno
import fcntl
import logging
import os
import threading
from typing import TYPE_CHECKING

from bluejay_ws.delivery.names import LIVE, READY, Name
from bluejay_ws.delivery.parcel import Parcel
from bluejay_ws.wire import journal

if TYPE_CHECKING:
    from collections.abc import Callable

    from bluejay_ws.counters import Counters

__all__ = ["CallFile", "reason_of"]

logger = logging.getLogger("bluejay_ws")

_FLAGS = os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW
_CLOSED = -1


def reason_of(error: OSError) -> str:
    """Return a short word for counts: ``enospc``, ``eio``."""
    return errno.errorcode.get(error.errno or 0, type(error).__name__).lower()


class CallFile:
    """Write a call's lines as they happen. Nothing here raises, waits or starts anything.

    Made by ``Spool.open_call``. The file is locked while this object holds it, and so says to every other
    process that the call goes on.

    Args:
        directory: the spool.
        name: in state `LIVE`.
        header: the first line's body.
        counters: where failures are counted.
        forget: called with the report id when the file is let go of.

    Raises:
        OSError: the file cannot be made or its first line not be written.
    """

    __slots__ = ("_counters", "_directory", "_fd", "_forget", "_lock", "_name", "_unsynced", "broken")

    def __init__(
        self, directory: str, name: Name, header: bytes, *, counters: Counters, forget: Callable[[str], object]
    ) -> None:
        self.broken: str | None = None
        self._directory = directory
        self._name = name
        self._counters = counters
        self._forget = forget
        # The thread that has it may come here again: a handler of signals may record in the middle of a line, or close.
        self._lock = threading.RLock()
        self._unsynced = True
        self._fd = os.open(self._path(name), _FLAGS, 0o600)
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            self._write(header)
        except OSError:
            self._let_go()
            with contextlib.suppress(OSError):
                os.unlink(self._path(name))
            raise

    @property
    def closed(self) -> bool:
        """Whether the file has been let go of."""
        return self._fd == _CLOSED

    @property
    def report_id(self) -> str:
        """The id of the connection that is recorded."""
        return self._name.report_id

    def append(self, body: bytes) -> None:
        """Write one line. After the first failure, counted and told loudly once, nothing is written any more."""
        line = journal.line(body)
        with self._lock:
            if self._fd == _CLOSED or self.broken is not None:
                return
            try:
                if os.write(self._fd, line) != len(line):
                    raise _short_write()
                self._unsynced = True
            except OSError as error:
                self._break(error)

    def bind(self, simulation_result_id: str) -> None:
        """Give the file the id that came after the connection, in a line and in its name."""
        self.append(journal.bound(simulation_result_id))
        with self._lock:
            self._rename(Name.of(simulation_result_id, self._name.report_id, LIVE))

    def seal(self) -> Parcel:
        """End the file: rename it to ``.ready``, let go of its lock, and return it as a report to deliver.

        Where the name cannot be changed the report is read into memory. Sealing twice returns the same report.
        """
        with self._lock:
            identity = self._name.identity
            ready = self._name.become(READY)
            if self._fd == _CLOSED or self._rename(ready):
                self._let_go()
                return Parcel(ready.report_id, identity)
            bodies = self._read()
            self._let_go()
        return Parcel.from_memory(ready.report_id, identity, bodies)

    def discard(self) -> None:
        """Remove the file: nothing of this call is to be sent, or memory holds it all. Idempotent."""
        with self._lock:
            if self._fd == _CLOSED:
                return
            try:
                os.unlink(self._path(self._name))
            except OSError as error:
                self._counters.add(f"spool.discard_{reason_of(error)}")
            self._let_go()

    def sync(self) -> bool:
        """Bring what was written to the disk, so that it survives a power cut; return whether there was anything.

        Called beside the agent's loop. The lock is not held while the disk works.

        Raises:
            OSError: the disk fails.
        """
        with self._lock:
            if not self._unsynced or self._fd == _CLOSED:
                return False
            self._unsynced = False
            twin = os.dup(self._fd)
        try:
            os.fdatasync(twin) if hasattr(os, "fdatasync") else os.fsync(twin)
        finally:
            os.close(twin)
        return True

    def abandon(self) -> None:
        """Close a forked child's copy: the lock stays with the parent, and its name is not touched."""
        self._lock = threading.RLock()  # the parent may have held it
        fd, self._fd = self._fd, _CLOSED
        if fd != _CLOSED:
            os.close(fd)

    def _path(self, name: Name) -> str:
        return f"{self._directory}/{name}"

    def _write(self, body: bytes) -> None:
        line = journal.line(body)
        if os.write(self._fd, line) != len(line):
            raise _short_write()
        self._unsynced = True

    def _break(self, error: OSError) -> None:
        self.broken = reason_of(error)
        self._counters.add(f"spool.write_{self.broken}")
        logger.error(
            "call %s: its file in the spool %s cannot be written (%s); it goes on in memory, and a crash loses it",
            self._name.identity,
            self._directory,
            self.broken,
            extra={"simulation_result_id": self._name.identity},
        )

    def _rename(self, name: Name) -> bool:
        try:
            os.rename(self._path(self._name), self._path(name))
        except OSError as error:
            self._counters.add(f"spool.rename_{reason_of(error)}")
            return False
        self._name = name
        return True

    def _read(self) -> list[bytes]:
        chunks, offset = [], 0
        with contextlib.suppress(OSError):
            while chunk := os.pread(self._fd, 1 << 20, offset):
                chunks.append(chunk)
                offset += len(chunk)
        return journal.parse(b"".join(chunks)).bodies

    def _let_go(self) -> None:
        fd, self._fd = self._fd, _CLOSED
        if fd == _CLOSED:
            return
        self._forget(self._name.report_id)
        with contextlib.suppress(OSError):
            # Said aloud, because a child that was forked without our knowledge may hold the same open file.
            fcntl.flock(fd, fcntl.LOCK_UN)
        with contextlib.suppress(OSError):
            os.close(fd)


def _short_write() -> OSError:
    """Return why nothing may follow: what is missing would join the next line. The usual reason is a full disk."""
    return OSError(errno.ENOSPC, "short write")
