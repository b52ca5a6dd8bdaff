"""Whose calls go on: one lock for all live calls of a process in a spool, which every other process may ask.

A file ``<token>.owner`` is locked as long as its process lives, and stands in the names of that process's ``.live``
files. It is made and locked under another name first: where there is one under its own name whose lock is free, its
process has died. So anybody may remove such a file at any time, and one that is missing says the same.
"""

# ruff: noqa: PTH103, PTH104, PTH108, PTH116, PTH208 - plain strings: a Path costs more than the system call
from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import threading
import weakref
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sized

SUFFIX = ".owner"

_NEW = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW
_ASK = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK


class ProcessLock:
    """Hold the lock that says "my live calls go on". Making one does nothing; see `take`.

    Attributes:
        token: 16 hexadecimal characters, as they stand in the names of live files; empty before the first `take`.

    Args:
        directory: the spool.
    """

    __slots__ = ("__weakref__", "_directory", "_end", "_lock", "token")

    def __init__(self, directory: str) -> None:
        self.token = ""
        self._directory = directory
        self._lock = threading.RLock()
        self._end: weakref.finalize[[int, str, int], Any] | None = None

    def take(self) -> str:
        """Hold the lock and return the token. To be asked before each new live file: the lock may have been removed.

        Raises:
            OSError: there can be no lock.
        """
        with self._lock:
            if not self._held():
                self._make(self.token or os.urandom(8).hex())
            return self.token

    def release(self, *, unless: Sized) -> None:
        """Remove the lock at an orderly end, or leave it if there is anything in ``unless``.

        Unlocking is said aloud, because a child that was forked without our knowledge may hold the same open file.

        Args:
            unless: the live calls; looked at while nobody can `take`.
        """
        with self._lock:
            known = None if len(unless) or self._end is None else self._end.detach()
            if known:
                self._forget()
                _let_go(*known[2])

    def abandon(self) -> None:
        """Close a forked child's copy: the lock stays with the parent. The child takes one of its own."""
        self._lock = threading.RLock()  # the parent may have held it
        known = self._end and self._end.detach()
        self._forget()
        if known:
            os.close(known[2][0])

    def _held(self) -> bool:
        """Return whether the lock is ours, and is still found where others look for it."""
        known = self._end and self._end.peek()
        if not known:
            return False
        fd, path, _ = known[2]
        try:
            return os.path.samestat(os.fstat(fd), os.stat(path, follow_symlinks=False))
        except OSError:
            return False

    def _make(self, token: str) -> None:
        path = f"{self._directory}/{token}{SUFFIX}"
        making = f"{path}.{os.urandom(4).hex()}.new"
        try:
            fd = os.open(making, _NEW, 0o600)
        except FileNotFoundError:  # somebody has removed the directory: it is made again
            os.makedirs(self._directory, 0o700, exist_ok=True)
            fd = os.open(making, _NEW, 0o600)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            os.rename(making, path)
        except BaseException:
            os.close(fd)
            with contextlib.suppress(OSError):
                os.unlink(making)
            raise
        old = self._end and self._end.detach()
        # Whoever drops the spool without an end lets go of the lock too: no call of it can be going on.
        end = weakref.finalize(self, _let_go, fd, path, os.getpid())
        end.atexit = False
        self._end, self.token = end, token
        if old:
            os.close(old[2][0])

    def _forget(self) -> None:
        self._end, self.token = None, ""


def _let_go(fd: int, path: str, pid: int) -> None:
    if os.getpid() == pid:  # else it is the parent's, and unlocking would be heard by all who hold the open file
        with contextlib.suppress(OSError):
            os.unlink(path)
        with contextlib.suppress(OSError):
            fcntl.flock(fd, fcntl.LOCK_UN)
    with contextlib.suppress(OSError):
        os.close(fd)


def lives(directory: str, token: str) -> bool:
    """Return whether the process lives whose live files have this token.

    Args:
        directory: the spool.
        token: of a `ProcessLock`.

    Raises:
        OSError: it cannot be found out, as where no descriptors are left.
    """
    try:
        fd = os.open(f"{directory}/{token}{SUFFIX}", _ASK)
    except OSError as error:
        if error.errno in {errno.ENOENT, errno.ELOOP, errno.ENXIO}:  # none, or what is planted: nobody's lock
            return False
        raise
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)  # shared: two that ask do not take each other for the owner
    except BlockingIOError:
        return True
    finally:
        os.close(fd)
    return False


def sweep(directory: str) -> int:
    """Remove what processes that died have left of their locks; return how many files went.

    Args:
        directory: the spool.
    """
    removed = 0
    with contextlib.suppress(OSError):
        for text in os.listdir(directory):
            if text.endswith(SUFFIX):
                removed += _remove_if_free(directory, text.removesuffix(SUFFIX))
    return removed


def _remove_if_free(directory: str, token: str) -> bool:
    try:
        if lives(directory, token):
            return False
        os.unlink(f"{directory}/{token}{SUFFIX}")
    except OSError:
        return False
    return True
