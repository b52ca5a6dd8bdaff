"""The spool: a directory with one JSON Lines file for each call, shared safely between processes.

The state of a report is the end of its file's name, changed by renaming: ``.live`` while the call goes on,
``.ready`` when it is over, ``.sending`` from before the first byte of a POST until its outcome is known,
``.sent`` for a while after it was delivered, ``.held`` and ``.parked`` for what needs a person. Whoever works
on a file holds its ``flock``. A ``.live`` file names the lock of the process whose call it is; where that is free
(or, without such a name, the file's own) the process died.
"""

# ruff: noqa: PTH104, PTH108, PTH116, PTH208 - plain strings: a Path costs more than the system call
from __future__ import annotations

import logging
import os
import stat
import time
from typing import TYPE_CHECKING

from bluejay_ws.delivery import filesystem, owner, quarantine
from bluejay_ws.delivery.callfile import CallFile, reason_of
from bluejay_ws.delivery.claim import Claim, GoneError, close_inherited
from bluejay_ws.delivery.group import Group
from bluejay_ws.delivery.names import HELD, LIVE, NO_ID, PARKED, READY, SENT, Name
from bluejay_ws.delivery.parcel import Parcel
from bluejay_ws.delivery.shelf import Shelf
from bluejay_ws.wire import journal

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from bluejay_ws.stats import Counters

__all__ = ["UNREADABLE", "CallFile", "Parcel", "Spool", "names_in"]

logger = logging.getLogger("bluejay_ws")

TOMBSTONE_SECONDS = 24 * 3600.0
TOMBSTONES = 2_000
DAY = 24 * 3600.0
JUST_MADE = 2.0
UNREADABLE = "unreadable"
"""Why a report is held that goes on by itself, as soon as its result can be read."""

_TEMPORARY = ".new"


def names_in(directory: str) -> list[Name]:
    """Return the names of the spool files in a directory; none where there is no such directory.

    Raises:
        OSError: it cannot be read.
    """
    try:
        listing = os.listdir(directory)
    except FileNotFoundError:
        return []
    return [name for name in map(Name.parse, listing) if name is not None]


class Spool:
    """Keep reports in a directory until they are delivered. Making one does nothing; see `prepare`.

    What is given up first when a bound is reached: parked reports, oldest first; then tombstones; then new calls
    are kept in memory only. What waits to be delivered is never removed.

    Attributes:
        full: whether a bound is reached, so that new calls are kept in memory only.
        unripe_for: seconds after which `recover` should look again, because a file was too young to be judged;
            None if none was.

    Args:
        directory: where the files are.
        counters: where everything is counted.
        max_bytes: bound of all files together.
        max_reports: bound of the number of reports that wait, are held or are parked.
        parked_days: how long a parked report is kept, and what is in quarantine, which has bounds of its own.
        redial_wait: seconds after a crash in which the platform may dial the same call again.
        open_files: how many files of live calls are open at once; default a share of what the process may open.
        wall: Unix time, in seconds.
    """

    def __init__(
        self,
        directory: Path,
        *,
        counters: Counters,
        max_bytes: int = 2**30,
        max_reports: int = 10_000,
        parked_days: float = 30.0,
        redial_wait: float = 2.0,
        open_files: int | None = None,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self.directory = directory
        self.redial_wait = redial_wait
        self.full = False
        self.unripe_for: float | None = None
        self._path = str(directory)
        self._counters = counters
        self._max_bytes = max_bytes
        self._max_reports = max_reports
        self._parked_seconds = parked_days * DAY
        self._wall = wall
        self._shelf: Shelf[CallFile] = Shelf(self._path, counters=counters, open_files=open_files)
        self._to_sync: list[CallFile] = []
        self._told = 0
        self._persons: dict[Name, float] = {}

    def prepare(self) -> None:
        """Make the directory and try out what is needed of it; idempotent.

        Raises:
            SpoolError: it cannot be used; says why and what to do.
        """
        filesystem.check(self.directory)

    # -- calls that go on ---------------------------------------------------------------------------------------

    def open_call(self, *, report_id: str, simulation_result_id: str | None, header: bytes) -> CallFile | None:
        """Return a file for a call that begins now, or None (counted, told once) where there can be none.

        Args:
            report_id: of this connection.
            simulation_result_id: of the call; None if it is bound later.
            header: the first line's body.
        """
        name = Name.of(simulation_result_id, report_id, LIVE)
        if self.full:
            self._tell_once("full", name)
            return None
        file = CallFile(self._shelf, name.identity, report_id)
        try:
            file.create(header)
        except OSError as error:
            self._tell_once(f"open_{reason_of(error)}", name)
            return None
        return file

    def _tell_once(self, reason: str, name: Name) -> None:
        self._counters.add(f"spool.{reason}")
        self._told += 1
        if self._told == 1:
            logger.error(
                "call %s: no file in the spool %s (%s); calls go on in memory, and a crash loses them",
                name.identity,
                self._path,
                reason,
                extra={"simulation_result_id": name.identity},
            )

    def sync(self, seconds: float = 0.5) -> None:
        """Bring the files of running calls to the disk, for as long as ``seconds``; the rest is next."""
        until = time.monotonic() + seconds
        self._to_sync = self._to_sync or list(self._shelf.live.values())[::-1]
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
        for file in self._shelf.reset_after_fork():
            file.abandon()
        close_inherited()

    # -- reports that wait --------------------------------------------------------------------------------------

    def store(self, parcel: Parcel, state: str = READY) -> bool:
        """Write a report that is in memory only as a file; return whether the disk took it whole."""
        name = Name.of(parcel.simulation_result_id, parcel.report_id, state)
        temporary = f"{self._path}/{name}{_TEMPORARY}"
        data = b"".join(map(journal.line, parcel.bodies or ()))
        try:
            fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
            try:
                whole = os.write(fd, data) == len(data)
            finally:
                os.close(fd)
            if whole:
                os.rename(temporary, f"{self._path}/{name}")
                return True
            self._counters.add("spool.store_short")
        except OSError as error:
            self._counters.add(f"spool.store_{reason_of(error)}")
        _unlink(temporary)
        return False

    def bury(self, name: Name, facts: dict[str, object]) -> None:
        """Leave a tombstone for a report that was delivered from memory: its id is used up."""
        try:
            flags = os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
            fd = os.open(f"{self._path}/{name.become(SENT)}", flags, 0o600)
            try:
                os.write(fd, journal.line(journal.delivery(facts)))
            finally:
                os.close(fd)
        except OSError as error:
            self._counters.add(f"spool.tombstone_{reason_of(error)}")

    def gather(self, identity: str) -> Group:
        """Return every file of one call, locked: they go out together or not at all.

        Raises:
            OSError: the directory is there but cannot be worked with, such as no descriptors left.
        """
        group = Group()
        asked: dict[str, bool] = {}
        try:
            for text in self._listing(identity + "."):
                name = Name.parse(text)
                if name is not None:
                    self._join(group, name, asked)
        except BaseException:
            group.release()
            raise
        if group.busy or group.going_on:
            group.release()
            group.parts = []
        group.put_in_order()
        return group

    def _listing(self, prefix: str) -> list[str]:
        try:
            return [text for text in os.listdir(self._path) if text.startswith(prefix)]
        except FileNotFoundError:
            return []

    def _join(self, group: Group, name: Name, asked: dict[str, bool]) -> None:
        if name.state == SENT:
            group.delivered.append(name)
        elif name.state == LIVE and self._goes_on(name, asked):
            group.going_on = True
        elif name.state == PARKED:
            group.parked.append(name)
        else:
            try:
                group.parts.append(self.claim(name))
            except BlockingIOError:
                group.going_on |= name.state == LIVE
                group.busy |= name.state != LIVE
            except GoneError:
                # Renamed under us: whoever did so is at work on this call. What is still there is a link or a pipe.
                group.busy |= not os.path.lexists(f"{self._path}/{name}")

    def claim(self, name: Name) -> Claim:
        """Return one file with its lock held; raises as `Claim` does."""
        return Claim(self._path, name, counters=self._counters)

    def tombstone(self, name: Name) -> dict[str, object]:
        """Return what a tombstone says; nothing where it cannot be read."""
        try:
            with self.claim(name) as claim:
                return claim.noted
        except OSError:
            return {}

    def _goes_on(self, name: Name, asked: dict[str, bool]) -> bool:
        return self._shelf.goes_on(name, asked) if name.token else self._just_made(name)

    def _just_made(self, name: Name) -> bool:
        """Return whether a ``.live`` file has been made, but perhaps not locked yet, by a call that begins now."""
        try:
            facts = os.stat(f"{self._path}/{name}", follow_symlinks=False)
        except OSError:
            return False
        return stat.S_ISREG(facts.st_mode) and facts.st_size == 0 and self._wall() - facts.st_mtime < JUST_MADE

    # -- what others left ---------------------------------------------------------------------------------------

    def recover(self, *, untouched: float = 0.0) -> list[Name]:
        """Return what may be delivered and is nobody's: at the start, and now and then.

        A ``.live`` file of a process that died becomes ``.ready``. Whatever stands in the way of one file is
        counted and stops none of the others.

        Args:
            untouched: seconds for which a file that waits must not have been written; another process that is
                at work on it writes a note with each attempt.
        """
        found = []
        self.unripe_for = None
        asked: dict[str, bool] = {}
        names = self._names()
        self._persons = {name: self._persons[name] for name in names if name in self._persons}
        for name in names:
            try:
                ready = self._recovered(name, untouched, asked)
            except OSError as error:
                if not isinstance(error, BlockingIOError):
                    self._counters.add(
                        "spool.not_ours" if isinstance(error, GoneError) else f"spool.{reason_of(error)}"
                    )
                continue
            if ready is not None:
                found.append(ready)
        return found

    def _recovered(self, name: Name, untouched: float, asked: dict[str, bool]) -> Name | None:
        if name.state in {SENT, PARKED}:
            return None
        if name.report_id in self._shelf.live:
            return None
        if name.state == LIVE and self._goes_on(name, asked):
            self.unripe_for = self.unripe_for if name.token else JUST_MADE
            return None
        if name.state != LIVE and name.identity != NO_ID:
            facts = os.stat(f"{self._path}/{name}", follow_symlinks=False)
            if self._wall() - facts.st_mtime < untouched:
                return None
            return None if name.state == HELD and self._for_a_person(name, facts.st_mtime) else name
        with self.claim(name) as claim:
            return self._adopt(claim)

    def _for_a_person(self, name: Name, modified_at: float) -> bool:
        """Return whether a held report waits for more than being readable; each version of its file is read once."""
        if self._persons.get(name) == modified_at:
            return True
        with self.claim(name) as claim:
            if claim.noted.get("outcome") == UNREADABLE:
                return False
        self._persons[name] = modified_at
        return True

    def _adopt(self, claim: Claim) -> Name | None:
        if claim.name.state == LIVE:
            self._counters.add("recovered")
            claim.note(outcome="process_lost", at=self._wall())
        state = READY if claim.name.state == LIVE else claim.name.state
        name = Name.of(claim.identity, claim.name.report_id, state)
        if name.identity == NO_ID:
            claim.note(outcome="no_id", at=self._wall())
            self._counters.add("parked")
            claim.move(PARKED)
            return None
        claim.rename(name)
        return claim.name

    def tidy(self) -> None:
        """Keep the bounds: remove what is old and delivered or parked, and see whether there is room for more."""
        self._keep_owners()
        files = list(self._files())
        now = self._wall()
        sent = sorted(((at, name) for name, _, at in files if name.state == SENT), reverse=True)
        for position, (at, name) in enumerate(sent):
            if position >= TOMBSTONES or now - at > TOMBSTONE_SECONDS:
                _unlink(f"{self._path}/{name}")
        parked = sorted((at, size, name) for name, size, at in files if name.state == PARKED)
        size = sum(size for _, size, _ in files)
        count = len(files) - len(sent)
        for at, bytes_, name in parked:
            over = size > self._max_bytes or count > self._max_reports
            if not over and now - at <= self._parked_seconds:
                break
            self._give_up(name, "bounds" if over else "age")
            size, count = size - bytes_, count - 1
        self.full = size > self._max_bytes or count > self._max_reports
        self._sweep()
        quarantine.bound(self._path, oldest=now - self._parked_seconds)

    def _sweep(self) -> None:
        """Remove what a process that died in the middle of making a file left behind."""
        for path in self._leftovers():
            try:
                old = self._wall() - path.lstat().st_mtime > DAY
            except OSError:  # pragma: no cover - removed by another process between the listing and here
                continue
            if old:
                _unlink(str(path))

    def _leftovers(self) -> list[Path]:
        try:
            return [*self.directory.glob(f"*{_TEMPORARY}"), *self.directory.glob(".try-*")]
        except OSError:  # the next round has a descriptor again
            return []

    def _keep_owners(self) -> None:
        """Make our lock anew if somebody has removed it under running calls, and remove those of dead processes."""
        if self._shelf.live:
            try:
                self._shelf.owner.take()
            except OSError as error:
                self._counters.add(f"spool.owner_{reason_of(error)}")
        owner.sweep(self._path)

    def _give_up(self, name: Name, why: str) -> None:
        self._counters.add(f"dropped.parked_{why}")
        logger.warning(
            "call %s: its parked report is removed from the spool (%s)",
            name.identity,
            "too old" if why == "age" else "no room",
            extra={"simulation_result_id": name.identity},
        )
        _unlink(f"{self._path}/{name}")

    def _names(self) -> list[Name]:
        try:
            return names_in(self._path)
        except OSError as error:
            self._counters.add(f"spool.list_{reason_of(error)}")
            return []

    def _files(self) -> Iterator[tuple[Name, int, float]]:
        for name in self._names():
            try:
                facts = os.stat(f"{self._path}/{name}", follow_symlinks=False)
            except OSError:  # pragma: no cover - renamed by another process between the listing and here
                continue
            yield name, facts.st_size, facts.st_mtime


def _unlink(path: str) -> None:
    try:
        os.unlink(path)
    except OSError:
        return
