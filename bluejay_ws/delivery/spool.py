"""The spool: a directory with one JSON Lines file for each call, shared safely between processes.

Each platform that reports are recorded for has a place of its own, and in it a few directories over which calls are
spread. The state of a report is the end of its file's name, changed by renaming: ``.live`` while the call continues,
``.ready`` when it is over, ``.sending`` from before the first byte of a POST until its outcome is known, ``.sent`` for
a while after it was delivered, ``.held`` and ``.parked`` for what needs a person. Who works on a file holds its
``flock``. A ``.live`` file names the lock of the process whose call it is; where that is free, the process died.
"""

# ruff: noqa: PTH103, PTH104, PTH108, PTH116, PTH208 - plain strings: a Path costs more than the system call
from __future__ import annotations

import contextlib
import logging
import math
import os
import time
from typing import TYPE_CHECKING, TypeVar

from bluejay_ws.delivery import filesystem, processlock
from bluejay_ws.delivery.files import (
    HELD,
    LIVE,
    PARKED,
    QUARANTINE,
    READY,
    SENDING,
    SENT,
    SUFFIXES,
    FileLease,
    GoneError,
    LockedFile,
    Name,
    close_inherited,
    reason_of,
    shard_of,
)
from bluejay_ws.delivery.livefile import LiveFile, OpenFiles
from bluejay_ws.delivery.outcomes import State
from bluejay_ws.delivery.store import APART, Found, Store
from bluejay_ws.log import say
from bluejay_ws.wire import journal

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

    from bluejay_ws.delivery.store import Report
    from bluejay_ws.stats import Counters


TOMBSTONE_SECONDS = 24 * 3600.0
TOMBSTONES = 2_000
QUARANTINE_BYTES = 64 * 1024 * 1024
QUARANTINE_FILES = 1_000
DAY = 24 * 3600.0
INCREDIBLE = 10 * 365 * DAY  # a file is not so old: its date is wrong, or this machine's clock

_TEMPORARY = ".new"
_Listed = TypeVar("_Listed", str, Name)
_File = tuple[float, int, str]  # when it was written last, its size, its path
# Earlier versions held these for a person, although a machine can go on.
_CONTINUES = frozenset({"unreadable", "unsettled"})


def names_in(directory: str) -> list[Name]:
    """Return the names of the report files that lie in one directory; none where there is no such directory.

    Raises:
        OSError: it cannot be read.
    """
    try:
        listing = os.listdir(directory)
    except (FileNotFoundError, NotADirectoryError):
        return []
    return [name for name in map(Name.parse, listing) if name is not None]


def places_in(root: str) -> list[str]:
    """Return the places of a spool; the empty one holds what an earlier version left.

    Raises:
        OSError: it cannot be read.
    """
    try:
        with os.scandir(root) as entries:
            found = [entry.name for entry in entries if entry.is_dir(follow_symlinks=False)]
    except FileNotFoundError:
        return []
    return ["", *sorted(name for name in found if name not in {QUARANTINE, "lost+found"})]  # a volume's own


def shards_in(root: str, place: str) -> list[str]:
    """Return the directories of a place that may hold report files.

    Raises:
        OSError: it cannot be read.
    """
    if not place:
        return [root]
    try:
        return [f"{root}/{place}/{shard}" for shard in sorted(os.listdir(f"{root}/{place}"))]
    except FileNotFoundError:
        return []


class Spool(Store):
    """Keep reports in a directory until they are delivered; a `Store`. Making one does nothing; see `prepare`.

    What is given up first when a bound is reached: parked reports, oldest first; then tombstones; then new calls
    are kept in memory only. What waits to be delivered is never removed.

    Attributes:
        full: whether a bound is reached, so that new calls are kept in memory only.

    Args:
        directory: where the places are.
        counters: where everything is counted.
        destination: the name of the place that calls are recorded to.
        max_bytes: bound of all files of the place together.
        max_reports: bound of the number of reports that wait, are held or are parked.
        parked_days: how long a parked report is kept, and what is in quarantine, which has bounds of its own.
        redial_wait: seconds after a crash in which the platform may dial the same call again.
        open_files: how many files of live calls are open at once.
        owned: whether no other process delivers what this one sealed, as long as it lives.
        wall: Unix time, in seconds.
        clock: monotonic seconds.
    """

    lasts = True

    def __init__(
        self,
        directory: Path,
        *,
        counters: Counters,
        destination: str = "platform",
        max_bytes: int = 2**30,
        max_reports: int = 10_000,
        parked_days: float = 30.0,
        redial_wait: float = 2.0,
        open_files: int = 64,
        owned: bool = False,
        wall: Callable[[], float] = time.time,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.directory = directory
        self.full = False
        self.destination = destination
        super().__init__(str(directory))
        self._path = f"{directory}/{destination}"
        self._counters = counters
        self._max_bytes = max_bytes
        self._max_reports = max_reports
        self._parked_seconds = parked_days * DAY
        self._redial_wait = redial_wait
        self._wall = wall
        self._clock = clock
        self._files = OpenFiles(self.place, self._path, counters=counters, most=open_files, owned=owned)
        self._to_sync: list[LiveFile] = []
        self._said = False
        self._persons: dict[Name, float] = {}
        self._first_seen: dict[Name, tuple[float, float]] = {}

    def prepare(self) -> None:
        """Make the directory and try out what is needed of it; idempotent.

        Raises:
            SpoolError: it cannot be used; says why and what to do.
        """
        filesystem.check(self.directory)

    # -- calls that go on ---------------------------------------------------------------------------------------

    def open_call(self, *, report_id: str, simulation_result_id: str, header: bytes) -> LiveFile | None:
        """Return a file for a call that begins now, or None (counted, said once) where there can be none."""
        if self.full:
            self._say_once("full", simulation_result_id)
            return None
        file = LiveFile(self._files, simulation_result_id, report_id)
        try:
            file.create(header)
        except OSError as error:
            self._say_once(f"open_{reason_of(error)}", simulation_result_id)
            return None
        return file

    def _say_once(self, reason: str, name: str) -> None:
        self._counters.add(f"spool.{reason}")
        if self._said:
            return
        self._said = True
        text = "call %s: no file in the spool %s (%s); calls go on in memory, and a crash loses them"
        if reason == "open_enospc" and filesystem.out_of_inodes(self.directory):
            reason = "no free inodes: df -i tells"
        say(self._counters, logging.ERROR, text, name, self.place, reason, simulation_result_id=name)

    def goes_on(self, name: Name, asked: dict[str, bool]) -> bool:
        """Return whether a live file is of a call that continues.

        Raises:
            OSError: it cannot be found out.
        """
        return bool(name.token) and self._files.goes_on(self.place, name, asked)

    def live(self) -> list[tuple[str, str]]:
        """Return report id and simulation result id of the calls that this process records now."""
        return [(file.report_id, file.identity) for file in list(self._files.live.values())]

    def paths_of(self, simulation_result_id: str, report_id: str, *, left: bool = False) -> tuple[str, ...]:
        """Return where the file of a report may be: of this process, the last one once it is sealed.

        Args:
            simulation_result_id: of its call.
            report_id: its own.
            left: whether another process has left it; then what there is of it.
        """
        directory = self._directory_of(simulation_result_id)
        if left:
            return tuple(f"{directory}/{name}" for name in names_in(directory) if name.report_id == report_id)
        ready = self._files.ready(simulation_result_id, report_id)
        return f"{directory}/{ready._replace(state=LIVE)}", f"{directory}/{ready}"

    def sync(self, seconds: float = 0.5) -> None:
        """Bring the files of running calls to the disk, for as long as ``seconds``; the rest is next."""
        until = time.monotonic() + seconds
        self._to_sync = self._to_sync or list(self._files.live.values())[::-1]
        while self._to_sync:
            try:
                self._to_sync.pop().sync()
            except OSError as error:
                self._counters.add(f"spool.sync_{reason_of(error)}")
            if time.monotonic() > until:
                break

    def reset_after_fork(self) -> None:
        """Close a forked child's copies of open files; they are the parent's."""
        self._to_sync = []
        for file in self._files.reset_after_fork():
            file.abandon()
        close_inherited()

    # -- reports that wait --------------------------------------------------------------------------------------

    def save(self, report: Report, state: State = State.WAITING, note: Mapping[str, object] | None = None) -> bool:
        """Write a report that is in memory only as a file, or its tombstone; return whether the disk took it whole."""
        name = Name(report.simulation_result_id, report.report_id, SUFFIXES[state])
        bodies = [] if state is State.DELIVERED else list(report.bodies or ())
        if note:
            bodies.append(journal.delivery({"state": state.value, **note}))
        kept = self._write_whole(name, b"".join(map(journal.line, bodies)))
        if kept or state is State.DELIVERED:
            self._remove_others(name)
        return kept

    def _remove_others(self, name: Name) -> None:
        """Remove what else there is of a report that memory had whole, such as a live file that could not be sealed."""
        directory = self._directory_of(name.identity)
        with contextlib.suppress(OSError):  # where nothing can be listed there is nothing that could be taken for left
            for left in names_in(directory):
                if left.report_id == name.report_id and left != name:
                    _unlink(f"{directory}/{left}")

    def _write_whole(self, name: Name, data: bytes) -> bool:
        path = f"{self._directory_of(name.identity)}/{name}"
        temporary = f"{path}{_TEMPORARY}"
        try:
            flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW
            fd = self._files.open(temporary, flags)
            try:
                whole = os.write(fd, data) == len(data)
            finally:
                os.close(fd)
            if whole:
                os.rename(temporary, path)
                return True
            self._counters.add("spool.store_short")
        except OSError as error:
            self._counters.add(f"spool.store_{reason_of(error)}")
        _unlink(temporary)
        return False

    def lease(self, simulation_result_id: str) -> FileLease:
        """Return every file of one call, locked.

        Raises:
            OSError: the directory is there but cannot be worked with, such as no descriptors left.
        """
        return FileLease(
            self._path, simulation_result_id, counters=self._counters, root=self.place, goes_on=self.goes_on
        )

    def locked(self, directory: str, name: Name) -> LockedFile:
        """Return one file with its lock held; raises as `LockedFile` does."""
        return LockedFile(directory, name, counters=self._counters, root=self.place)

    def _directory_of(self, simulation_result_id: str) -> str:
        return f"{self._path}/{shard_of(simulation_result_id)}"

    # -- what others left ---------------------------------------------------------------------------------------

    def recover(self, *, untouched: float = 0.0) -> list[Found]:
        """Return what may be delivered and is nobody's; see `Store.recover`.

        A ``.live`` file of a process that died becomes ``.ready``. Whatever stands in the way of one file is
        counted and stops none of the others.
        """
        asked: dict[str, bool] = {}
        if self.destination != APART:
            self._move_in(asked)
        found = []
        names = set()
        for directory, name in self.everything():
            names.add(name)
            try:
                one = self._recovered(directory, name, untouched, asked)
            except OSError as error:
                self._count_trouble(error)
                continue
            if one is not None:
                found.append(one)
        self._persons = {name: at for name, at in self._persons.items() if name in names}
        self._first_seen = {name: seen for name, seen in self._first_seen.items() if name in names}
        return found

    def _count_trouble(self, error: OSError) -> None:
        if not isinstance(error, BlockingIOError):
            self._counters.add("spool.not_ours" if isinstance(error, GoneError) else f"spool.{reason_of(error)}")

    def _recovered(self, directory: str, name: Name, untouched: float, asked: dict[str, bool]) -> Found | None:
        if name.state in {SENT, PARKED} or name.report_id in self._files.live:
            return None
        if name.state == LIVE:
            return None if self.goes_on(name, asked) else self._lost(directory, name)
        if name.token and self.goes_on(name, asked):
            return None  # its own process brings it elsewhere
        if name.state == READY and not untouched:
            return Found(name.identity, name.report_id)
        age, modified_at = self._age(directory, name)
        if age < untouched:
            return None
        if name.state == HELD and self._for_a_person(directory, name, modified_at):
            return None
        wait = max(0.0, self._redial_wait - age) if name.state == SENDING else 0.0
        return Found(name.identity, name.report_id, wait)

    def _age(self, directory: str, name: Name) -> tuple[float, float]:
        """Return since when a file has not been written to, and its time; a time in the future counts as now."""
        modified_at = os.stat(f"{directory}/{name}", follow_symlinks=False).st_mtime
        age = self._wall() - modified_at
        if age >= 0.0:
            return age, modified_at
        known_at, seen_at = self._first_seen.get(name, (0.0, 0.0))
        if known_at != modified_at:
            seen_at = self._clock()
            self._first_seen[name] = (modified_at, seen_at)
        return self._clock() - seen_at, modified_at

    def _lost(self, directory: str, name: Name) -> Found:
        """Take over the file of a call whose process died; the platform may be about to dial it again."""
        age, _ = self._age(directory, name)
        with self.locked(directory, name) as file:
            self._counters.add("recovered")
            file.note(outcome="process_lost", at=self._wall())
            file.move(READY)
        return Found(name.identity, name.report_id, max(0.0, self._redial_wait - age))

    def _for_a_person(self, directory: str, name: Name, modified_at: float) -> bool:
        """Return whether a held report waits for a person; each version of its file is read once."""
        if self._persons.get(name) == modified_at:
            return True
        with self.locked(directory, name) as file:
            if file.noted.get("outcome") in _CONTINUES:
                file.move(SENDING)
                return False
        self._persons[name] = modified_at
        return True

    def _move_in(self, asked: dict[str, bool]) -> None:
        """Take in what an earlier version left: its files lay in the spool itself, for whichever platform was set."""
        for name in self._listed(names_in, self.place):
            try:
                if name.state == LIVE and self.goes_on(name, asked):
                    continue
                with self.locked(self.place, name):
                    directory = self._directory_of(name.identity)
                    os.makedirs(directory, 0o700, exist_ok=True)
                    if not os.path.lexists(f"{directory}/{name}"):
                        os.rename(f"{self.place}/{name}", f"{directory}/{name}")
            except OSError as error:
                self._count_trouble(error)

    def everything(self) -> Iterator[tuple[str, Name]]:
        """Yield directory and name of every report file of the place."""
        for directory in self._listed(shards_in, self.place, self.destination):
            for name in self._listed(names_in, directory):
                yield directory, name

    def _listed(self, listing: Callable[..., list[_Listed]], *where: str) -> list[_Listed]:
        try:
            return listing(*where)
        except OSError as error:
            self._counters.add(f"spool.list_{reason_of(error)}")
            return []

    # -- bounds -------------------------------------------------------------------------------------------------

    def tidy(self) -> None:
        """Keep the bounds: remove what is old and delivered or parked, and see whether there is room for more."""
        self._keep_locks()
        files = list(self._facts())
        now = self._wall()
        sent = [(at, size, path) for path, name, size, at in files if name.state == SENT]
        _trim(sent, now, TOMBSTONE_SECONDS, most=TOMBSTONES)
        parked = sorted((at, size, path, name) for path, name, size, at in files if name.state == PARKED)
        size = sum(size for _, _, size, _ in files)
        count = len(files) - len(sent)
        for at, bytes_, path, name in parked:
            over = size > self._max_bytes or count > self._max_reports
            if not over and not self._parked_seconds < now - at < INCREDIBLE:
                continue
            self._give_up(path, name, "bounds" if over else "age")
            size, count = size - bytes_, count - 1
        self.full = size > self._max_bytes or count > self._max_reports
        # What a process that died in the middle of making a file left behind.
        _trim(_found(self.directory, f"*{_TEMPORARY}", f"*/*/*{_TEMPORARY}", ".try-*"), now, DAY)
        damaged = _found(self.directory, f"{QUARANTINE}/*")
        _trim(damaged, now, self._parked_seconds, most=QUARANTINE_FILES, most_bytes=QUARANTINE_BYTES)

    def _keep_locks(self) -> None:
        """Make our lock anew if somebody has removed it under running calls, and remove those of dead processes."""
        if self._files.live:
            try:
                self._files.lock.take()
            except OSError as error:
                self._counters.add(f"spool.owner_{reason_of(error)}")
        processlock.sweep(self.place)

    def _give_up(self, path: str, name: Name, why: str) -> None:
        self._counters.add(f"dropped.parked_{why}")
        text = "call %s: its parked report is removed from the spool (%s)"
        reason = "too old" if why == "age" else "no room"
        say(self._counters, logging.WARNING, text, name.identity, reason, simulation_result_id=name.identity)
        _unlink(path)

    def _facts(self) -> Iterator[tuple[str, Name, int, float]]:
        for directory, name in self.everything():
            path = f"{directory}/{name}"
            try:
                facts = os.stat(path, follow_symlinks=False)
            except OSError:  # pragma: no cover - renamed by another process between the listing and here
                continue
            yield path, name, facts.st_size, facts.st_mtime


def _trim(
    files: list[_File],
    now: float,
    seconds: float,
    *,
    most: float = math.inf,
    most_bytes: float = math.inf,
) -> None:
    """Remove what is too old or too much, the oldest first; what is incredibly old has a wrong date."""
    size = 0
    for number, (modified_at, bytes_, path) in enumerate(sorted(files, reverse=True)):
        size += bytes_
        if number >= most or size > most_bytes or seconds < now - modified_at < INCREDIBLE:
            _unlink(path)


def _found(directory: Path, *patterns: str) -> list[_File]:
    found = []
    with contextlib.suppress(OSError):  # removed in this moment, or no descriptor is left: there is a next round
        for path in (path for pattern in patterns for path in directory.glob(pattern)):
            facts = path.lstat()
            found.append((facts.st_mtime, facts.st_size, str(path)))
    return found


def _unlink(path: str) -> None:
    try:
        os.unlink(path)
    except OSError:
        return
