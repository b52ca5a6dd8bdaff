"""What the files of a spool's live calls share: the register, the lock of their process, and few descriptors."""

from __future__ import annotations

import atexit
import errno
import itertools
import os
import resource
import threading
import weakref
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar

from bluejay_ws.delivery.owner import Owner, lives

if TYPE_CHECKING:
    from bluejay_ws.delivery.names import Name
    from bluejay_ws.stats import Counters

__all__ = ["NO_ROOM", "Shelf"]

MOST = 1024
LEAST = 8
LOCKS = 64
BUSY_ONES = 8
NO_ROOM = (errno.EMFILE, errno.ENFILE)


class File(Protocol):
    """A live call's file, as far as the shelf knows it."""

    def lend(self) -> bool:
        """Give its descriptor up for now; return False if it is in use at this moment."""
        ...


FileT = TypeVar("FileT", bound=File)


class Shelf(Generic[FileT]):
    """Keep the live calls' files, of which only some have a descriptor.

    How many is bound: an eighth of what the process may open, and a sixty-fourth once half of that is in use. Those
    that were opened first lose theirs first. Making a shelf does nothing.

    Attributes:
        live: every file of a call that goes on, by report id; from before there is a file until after it is renamed.
        holders: those that have a descriptor, in the order in which they got it. A file enters and leaves under its
            own lock.
        owner: the lock that says to other processes that these calls go on.

    Args:
        directory: the spool.
        counters: where failures are counted.
        open_files: bound of descriptors; default as above.
    """

    def __init__(self, directory: str, *, counters: Counters, open_files: int | None = None) -> None:
        self.directory = directory
        self.counters = counters
        self.live: dict[str, FileT] = {}
        self.holders: dict[FileT, None] = {}
        self.owner = Owner(directory)
        self._open_files = open_files
        self._turns = itertools.cycle(_new_locks())
        _shelves.add(self)

    def lock(self) -> threading.RLock:
        """Return a lock for a new file; a lock for each would take a third of its memory."""
        return next(self._turns)

    def goes_on(self, name: Name, asked: dict[str, bool]) -> bool:
        """Return whether a live file whose name has a token is of a call that goes on.

        Args:
            name: the file's.
            asked: what was found out in the same scan, by token.

        Raises:
            OSError: it cannot be found out.
        """
        if name.token == self.owner.token:
            return name.report_id in self.live
        if name.token not in asked:
            asked[name.token] = lives(self.directory, name.token)
        return asked[name.token]

    def open(self, path: str, flags: int) -> int:
        """Open a file; where no descriptors are left, give back all that can be done without, and try once more.

        Raises:
            OSError: it cannot be opened.
        """
        try:
            return os.open(path, flags, 0o600)
        except OSError as error:
            if error.errno not in NO_ROOM:
                raise
        self._make_room(0)
        return os.open(path, flags, 0o600)

    def hold(self, file: FileT, fd: int) -> None:
        """Note that a file has a descriptor, under its lock; others give theirs up if these are too many now."""
        self.holders[file] = None
        self._make_room(self._bound(fd))

    def forget(self, file: FileT, report_id: str) -> None:
        """Take a file that has been let go of off the books."""
        self.live.pop(report_id, None)
        self.holders.pop(file, None)

    def reset_after_fork(self) -> list[FileT]:
        """Own nothing in a forked child; return the parent's files, for their copies to be closed."""
        mine, self.live, self.holders = list(self.live.values()), {}, {}
        self._turns = itertools.cycle(_new_locks())
        self.owner.abandon()
        return mine

    def _bound(self, fd: int) -> int:
        """Return how many descriptors may be held. A new one has the lowest free number: so many are in use."""
        if self._open_files is not None:
            return self._open_files
        limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        if limit == resource.RLIM_INFINITY:
            return MOST
        return max(1, limit // 64) if fd >= limit // 2 else min(MOST, max(LEAST, limit // 8))

    def _make_room(self, most: int) -> None:
        over = len(self.holders) - most
        if over <= 0:
            return
        try:
            oldest = tuple(itertools.islice(self.holders, over + BUSY_ONES))  # others come and go meanwhile
        except RuntimeError:  # pragma: no cover - just now, on another thread; the next file makes room
            return
        for file in oldest:
            if len(self.holders) <= most:
                break
            file.lend()


def _new_locks() -> list[threading.RLock]:
    # The thread that has one may come there again: a handler of signals may record in the middle of a line, or close.
    return [threading.RLock() for _ in range(LOCKS)]


_shelves: weakref.WeakSet[Shelf[Any]] = weakref.WeakSet()


def _at_exit() -> None:
    for shelf in list(_shelves):
        shelf.owner.release(unless=shelf.live)


atexit.register(_at_exit)
