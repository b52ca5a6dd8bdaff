"""The files of the spool: how they are named, one that this process and no other works on, and where damaged bytes go.

A name is ``<simulation_result_id>.<report_id>.<state>``. That of a live file also says whose call it is (see
`processlock`): ``<id>.<report_id>.<token>.live``. So does that of a ready file which its own process brings elsewhere.
"""

# ruff: noqa: PTH104, PTH108, PTH113, PTH114, PTH116, PTH208 - plain strings: a Path costs more than the system call
from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import re
import stat
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Self
from zlib import crc32

from bluejay_ws.delivery.outcomes import State
from bluejay_ws.delivery.store import Lease, Part
from bluejay_ws.version import VERSION
from bluejay_ws.wire import journal

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from bluejay_ws.stats import Counters

LIVE, READY, SENDING, SENT, HELD, PARKED = "live", "ready", "sending", "sent", "held", "parked"
STATES = (LIVE, READY, SENDING, SENT, HELD, PARKED)
SUFFIXES = {
    State.WAITING: READY,
    State.UNKNOWN: SENDING,
    State.DELIVERED: SENT,
    State.HELD: HELD,
    State.PARKED: PARKED,
}
_STATES = {suffix: state for state, suffix in SUFFIXES.items()} | {LIVE: State.WAITING}
_SAID = {state.value: state for state in State}
SHARDS = 64
"""Each place of a spool has so many directories, so that a call is found without reading a long listing."""

_NAME = re.compile(
    r"([A-Za-z0-9_-]{1,64})\.([0-9a-f]{32})\.(?:([0-9a-f]{16})\.(?=live|ready))?(live|ready|sending|sent|held|parked)",
    re.ASCII,
)


class Name(NamedTuple):
    """A spool file's name, in its parts.

    Args:
        identity: the simulation result id.
        report_id: 32 hexadecimal characters.
        state: one of `STATES`.
        token: of the process whose file it is; empty where it is nobody's, or the file's own lock tells.
    """

    identity: str
    report_id: str
    state: str
    token: str = ""

    @classmethod
    def parse(cls, text: str) -> Name | None:
        """Return the parts of a file's name, or None if it is not one of ours."""
        match = _NAME.fullmatch(text)
        return cls(match[1], match[2], match[4], match[3] or "") if match else None

    def __str__(self) -> str:
        return f"{self.identity}.{self.report_id}.{self.token and self.token + '.'}{self.state}"

    def become(self, state: str) -> Name:
        """Return the same name in another state, in which it is nobody's."""
        return Name(self.identity, self.report_id, state)


def shard_of(simulation_result_id: str) -> str:
    """Return the name of the directory that holds all files of a call."""
    return f"{crc32(simulation_result_id.encode()) % SHARDS:02x}"


def reason_of(error: Exception) -> str:
    """Return a short word for counts: ``enospc``, ``eio``."""
    number = error.errno if isinstance(error, OSError) else None
    return errno.errorcode.get(number or 0, type(error).__name__).lower()


FILE_LIMIT = 64 * 1024 * 1024
CHUNK = 64 * 1024
QUARANTINE = "quarantine"

_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_FLAGS = os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK


# Descriptors of locked files: a forked child has to close its copies, which would keep the parent's locks.
_locked: set[int] = set()


class GoneError(OSError):
    """The file is not there any more under this name, or is none of ours: a link, a pipe, somebody else's."""


class LockedFile:
    """Hold the lock of one file: read it, note what happened to it, give it its next state.

    Args:
        directory: the one that holds it.
        name: the file's.
        counters: where failures are counted.
        root: where damaged lines are put aside; default ``directory``.

    Raises:
        GoneError: it is not there under this name any more, or not a plain file of this user.
        BlockingIOError: another process, or a running call, holds its lock.
        OSError: it cannot be opened.
    """

    __slots__ = ("_counters", "_directory", "_fd", "_head", "_path", "_root", "bodies", "facts", "modified_at", "name")

    def __init__(self, directory: str, name: Name, *, counters: Counters, root: str = "") -> None:
        self._directory = directory
        self._root = root or directory
        self._counters = counters
        self.name = name
        self._path = f"{directory}/{name}"
        self._head = 0  # bytes of the first line, where that is sound
        self._fd = _open(self._path)
        _locked.add(self._fd)
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            self.modified_at = _check(self._fd, self._path)
            self.bodies = self._read()
            self.facts = journal.facts(self.bodies)
        except BaseException:
            _locked.discard(self._fd)
            os.close(self._fd)
            raise

    @property
    def noted(self) -> dict[str, Any]:
        """What was noted last about its delivery."""
        return self.facts.delivery or {}

    def _read(self) -> list[bytes]:
        data = _read_all(self._fd)
        parsed = journal.parse(data)
        if parsed.torn or parsed.damaged:
            self._mend(data, parsed)
        if not any(body.startswith(b'["call"') for body in parsed.bodies):
            return [self._header(), *parsed.bodies]
        if not parsed.damaged:
            self._head = data.index(b"\n") + 1
        return parsed.bodies

    def _mend(self, data: bytes, parsed: journal.Parsed) -> None:
        """Drop a line that was being written when its process died; move damaged ones out of the way."""
        if parsed.damaged:
            report = f"{self.name.identity}.{self.name.report_id}"
            if _keep_damaged(self._root, report, b"\n".join(parsed.damaged) + b"\n"):
                self._counters.add("spool.damaged_lines", len(parsed.damaged))
        if parsed.torn:
            with contextlib.suppress(OSError):
                os.ftruncate(self._fd, len(data) - len(parsed.torn))

    def _header(self) -> bytes:
        """Return the first line as far as the file's name tells it; the file's own was lost."""
        return journal.header(
            report_id=self.name.report_id,
            simulation_result_id=self.name.identity,
            started_at=self.modified_at,
            version=VERSION,
            server="unknown",
        )

    def note(self, **facts: object) -> bool:
        """Append what happened to the delivery; return whether the disk took it."""
        return self._write(journal.line(journal.delivery(facts)))

    def move(self, state: str) -> bool:
        """Give the file its next state by renaming it; return whether that worked."""
        name = self.name.become(state)
        if name == self.name:
            return True
        path = f"{self._directory}/{name}"
        try:
            os.rename(self._path, path)
        except OSError as error:
            self._counters.add(f"spool.rename_{reason_of(error)}")
            return False
        self.name, self._path = name, path
        return True

    def settle(self, facts: Mapping[str, object]) -> bool:
        """Mark the report as delivered, and keep no more of it than that; return whether the mark was made.

        Works on a full disk: the mark is the name.
        """
        if not self.move(SENT):
            self.note(**facts)
            return False
        head = b"" if self._head else journal.line(self.bodies[0])
        with contextlib.suppress(OSError):
            # A file system such as ext4 writes at once what was cut to nothing: so the first line stays.
            os.ftruncate(self._fd, self._head)
            self._write(head + journal.line(journal.delivery(facts)))
        return True

    def remove(self) -> bool:
        """Remove the file; return whether that worked."""
        try:
            os.unlink(self._path)
        except OSError as error:
            self._counters.add(f"spool.unlink_{reason_of(error)}")
            return False
        return True

    def sync(self) -> None:
        """Bring the file to the disk, where it may wait for long."""
        with contextlib.suppress(OSError):
            os.fsync(self._fd)

    def release(self) -> None:
        """Let go of the lock: the next one may work on the file."""
        fd, self._fd = self._fd, -1
        if fd != -1:
            _locked.discard(fd)
            with contextlib.suppress(OSError):
                fcntl.flock(fd, fcntl.LOCK_UN)
            os.close(fd)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.release()

    def _write(self, data: bytes) -> bool:
        try:
            return os.write(self._fd, data) == len(data)
        except OSError as error:
            self._counters.add(f"spool.note_{reason_of(error)}")
            return False


class FileLease(Lease):
    """Every file of one call, locked: they go out together or not at all; see `Lease`.

    Args:
        place: of the spool that the call was recorded to.
        simulation_result_id: of the call.
        counters: where failures are counted.
        root: the spool.
        goes_on: whether a file is of a call that continues, or its own process brings it elsewhere.

    Raises:
        OSError: a file or the directory cannot be worked with.
    """

    def __init__(
        self,
        place: str,
        simulation_result_id: str,
        *,
        counters: Counters,
        root: str,
        goes_on: Callable[[Name, dict[str, bool]], bool],
    ) -> None:
        self.reports = []
        self._directory = f"{place}/{shard_of(simulation_result_id)}"
        self._counters = counters
        self._root = root
        self._goes_on = goes_on
        self._files: dict[str, LockedFile] = {}
        try:
            self._gather(f"{simulation_result_id}.")
        except BaseException:
            self.release()
            raise
        if self.live or self.busy:
            self.release()

    def _gather(self, prefix: str) -> None:
        try:
            listing = [text for text in os.listdir(self._directory) if text.startswith(prefix)]
        except FileNotFoundError:
            return
        asked: dict[str, bool] = {}
        for name in map(Name.parse, sorted(listing)):
            if name is not None:
                self._take(name, asked)
        for file in self._files.values():
            self._read(file)

    def _take(self, name: Name, asked: dict[str, bool]) -> None:
        if name.state == PARKED:
            self.parked |= {name.report_id}
        elif (name.token or name.state == LIVE) and self._goes_on(name, asked):
            self.live |= name.state == LIVE
            self.busy |= name.state != LIVE
        else:
            self._lock(name)

    def _lock(self, name: Name) -> None:
        try:
            file = LockedFile(self._directory, name, counters=self._counters, root=self._root)
        except BlockingIOError:
            self.live |= name.state == LIVE
            self.busy |= name.state != LIVE
            return
        except GoneError:
            # Renamed under us: whoever did so is at work on this call. What is still there is a link or a pipe.
            self.busy |= not os.path.lexists(f"{self._directory}/{name}")
            return
        # One file of each report: where the disk refused a new name, it was saved under that name as well.
        other = self._files.get(name.report_id)
        if other is not None:
            worse, file = sorted((file, other), key=_rank)
            if _state_of(file.name, file.noted) is State.DELIVERED:
                worse.remove()  # it would outlive the mark
            worse.release()
        self._files[name.report_id] = file

    def _read(self, file: LockedFile) -> None:
        report_id, noted = file.name.report_id, file.noted
        state = _state_of(file.name, noted)
        if state is State.DELIVERED:
            together = noted.get("report_ids")
            self.delivered |= {report_id, *(map(str, together) if isinstance(together, list) else ())}
            if file.name.state == SENT:
                return
        if state is State.PARKED:
            self.parked |= {report_id}
        else:
            self.reports.append(Part(report_id, state, file.facts, noted))

    def mark(self, report_id: str, state: State, note: Mapping[str, object]) -> bool:
        """Write down where a report stands; see `Lease.mark`."""
        file = self._files.get(report_id)
        if file is None:
            return False
        facts = {"state": state.value, "outcome": state.value, **note}
        if state is State.DELIVERED:
            return file.settle(facts)
        moved = file.move(SUFFIXES[state])
        noted = bool(note or not moved) and file.note(**facts)  # what the name cannot tell, the note does
        if state is State.WAITING:
            file.sync()  # it is going to wait
        return moved or (noted and state is State.UNKNOWN)

    def release(self) -> None:
        """Let go of every lock."""
        files, self._files, self.reports = self._files, {}, []
        for file in files.values():
            file.release()


def _rank(file: LockedFile) -> tuple[bool, bool, int, bool]:
    """Return what makes a file the better one: delivered, sealed, whole, perhaps sent."""
    delivered = _state_of(file.name, file.noted) is State.DELIVERED
    whole = sum(file.facts.counts.values())
    return delivered, file.name.state != LIVE, whole, file.name.state != READY


def _state_of(name: Name, noted: Mapping[str, object]) -> State:
    """Return where a report stands: as the last note says, for a name may have been refused; else as its name says."""
    said = noted.get("state")
    known = _SAID.get(said) if isinstance(said, str) else None
    return _STATES[name.state] if name.state == SENT or known is None else known


def close_inherited() -> None:
    """Close a forked child's copies of locked files; the locks stay with the parent, and end with it."""
    while _locked:
        with contextlib.suppress(OSError):
            os.close(_locked.pop())


def _open(path: str) -> int:
    try:
        return os.open(path, os.O_RDWR | _FLAGS)
    except FileNotFoundError as error:
        raise GoneError(*error.args) from error
    except OSError as error:
        if os.path.islink(path) or not os.path.isfile(path):
            raise GoneError(*error.args) from error
        if reason_of(error) in {"erofs", "eacces"}:
            return os.open(path, os.O_RDONLY | _FLAGS)
        raise


def _check(fd: int, path: str) -> float:
    """Return when the file was last written, if it is a plain file of ours and still has this name."""
    facts = os.fstat(fd)
    try:
        named = os.stat(path, follow_symlinks=False)
    except FileNotFoundError as error:
        raise GoneError(*error.args) from error
    if (facts.st_ino, facts.st_dev) != (named.st_ino, named.st_dev):
        raise GoneError(path)
    if not stat.S_ISREG(facts.st_mode) or facts.st_uid != os.geteuid():
        raise GoneError(path)
    return facts.st_mtime


def _read_all(fd: int) -> bytes:
    chunks: list[bytes] = []
    size = 0
    while size < FILE_LIMIT and (chunk := os.pread(fd, CHUNK, size)):  # less than asked for need not be the end
        chunks.append(chunk)
        size += len(chunk)
    return b"".join(chunks)


# -- quarantine -----------------------------------------------------------------------------------------------------


def _keep_damaged(directory: str, report: str, data: bytes) -> bool:
    """Keep bytes where nobody stumbles over them; the same bytes of the same report are kept once.

    Args:
        directory: the place of the spool.
        report: what names the report, whatever its state.
        data: what is no sound line.

    Returns:
        Whether this is the first time they are seen, as far as can be known.
    """
    place = Path(directory, QUARANTINE)
    try:
        place.mkdir(mode=0o700, exist_ok=True)
        fd = os.open(place / f"{report}.{crc32(data):08x}", _NEW, 0o600)
    except FileExistsError:
        return not place.is_dir()
    except OSError:
        return True
    with os.fdopen(fd, "wb", buffering=0) as file, contextlib.suppress(OSError):
        file.write(data)  # a full disk keeps what it has room for
    return True
