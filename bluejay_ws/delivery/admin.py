"""The spool as a person sees it: list, show, retry, release, export, send and delete, as functions over a directory.

Every change takes the file's lock first, so nothing here disturbs a process that is at work on it.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from bluejay_ws.delivery.files import HELD, LIVE, PARKED, READY, SENDING, SENT, GoneError, LockedFile, Name, shard_of
from bluejay_ws.delivery.processlock import lives
from bluejay_ws.delivery.spool import names_in, places_in, shards_in
from bluejay_ws.delivery.store import APART
from bluejay_ws.exceptions import SpoolError
from bluejay_ws.stats import Counters
from bluejay_ws.wire import journal

if TYPE_CHECKING:
    from collections.abc import Sequence

WAITING = (READY, SENDING, HELD, PARKED)
LOOKS = 3  # at a directory whose files are renamed meanwhile


@dataclass(frozen=True, slots=True)
class Entry:
    """One file of the spool.

    Args:
        name: the file's.
        age: seconds since it was last written.
        size: in bytes.
        reason: what delivery noted last, such as ``http.422``, or ``process_lost`` for a call that nobody ends any
            more; empty where nothing was noted.
        detail: more about the reason.
        attempts: how often it was posted.
        counts: items by kind.
        busy: whether a process is at work on it, or its call continues; then nothing more is known of it.
        place: of the spool: the platform it was recorded for, `APART`, or nothing for what an earlier version left.
    """

    name: Name
    age: float
    size: int
    reason: str = ""
    detail: str = ""
    attempts: int = 0
    counts: tuple[tuple[str, int], ...] = ()
    busy: bool = False
    place: str = ""

    @property
    def kept_apart(self) -> bool:
        """Whether it was recorded for no platform, and leaves only when a person says so."""
        return self.place == APART


def entries(
    directory: Path, *, states: Sequence[str] = WAITING, wall: float | None = None, place: str | None = None
) -> list[Entry]:
    """Return what is in the spool, oldest first; what cannot be read is left out.

    Args:
        directory: the spool.
        states: which to list.
        wall: Unix time, in seconds; default now.
        place: only what is there; default everywhere.

    Raises:
        SpoolError: the directory cannot be read.
    """
    now = time.time() if wall is None else wall
    found: list[Entry | None] = []
    for _ in range(LOOKS):
        listed = [one for one in _all(directory) if one[2].state in states and place in {None, one[0]}]
        found = [_entry(directory, where, path, name, now) for where, path, name in listed]
        if None not in found:  # else a process renamed or removed a file in this moment
            break
    return sorted((entry for entry in found if entry is not None), key=lambda entry: -entry.age)


def find(directory: Path, wanted: str) -> list[Name]:
    """Return the names of the files of one call, by its id, or of one report, by its report id or file name.

    Raises:
        SpoolError: the directory cannot be read, or holds no such call or report.
    """
    found = [name for _, _, name in _all(directory) if wanted in {name.identity, name.report_id, str(name)}]
    if not found:
        raise SpoolError(
            str(directory), f"holds no call or report {wanted!r}", "bluejay-ws outbox list --all shows what it holds"
        )
    return sorted(found)


def show(directory: Path, name: Name) -> list[bytes]:
    """Return every sound line of a file without its check sum; reads while another process works on it.

    Raises:
        SpoolError: it cannot be read.
    """
    path = _path(directory, name)
    try:
        if path.is_symlink() or not path.is_file():
            raise FileNotFoundError
        return journal.parse(path.read_bytes()).bodies
    except OSError as error:
        raise SpoolError(str(path), "cannot be read", "see whether it was delivered meanwhile") from error


def export(directory: Path, name: Name) -> bytes:
    """Return the report of a file as the platform would get it.

    Raises:
        SpoolError: it cannot be read.
    """
    return journal.assemble([show(directory, name)], simulation_result_id=name.identity)


def retry(directory: Path, name: Name) -> Name:
    """Let a held or parked report be delivered in the usual way; one that may have arrived is looked for first.

    Returns:
        The file's new name. A running process takes it up within a minute, else the next start.

    Raises:
        SpoolError: it is busy, gone, or neither held nor parked.
    """
    with _locked(directory, name, HELD, PARKED) as file:
        unsettled = file.name.state == HELD and file.noted.get("outcome") != "already_delivered"
        file.note(outcome="retry", at=time.time(), attempts=0, resends=0)
        _move(file, SENDING if unsettled else READY)
        return file.name


def release(directory: Path, name: Name) -> Name:
    """Let a held or parked report be sent without a look, whatever was sent under its id before.

    If an earlier report was accepted the platform appends this one to it: each tool call then counts twice.

    Returns:
        The file's new name.

    Raises:
        SpoolError: it is busy, gone, or neither held nor parked.
    """
    with _locked(directory, name, HELD, PARKED) as file:
        file.note(outcome="released", released=True, at=time.time(), attempts=0, resends=0)
        _move(file, READY)
        return file.name


def delete(directory: Path, name: Name) -> None:
    """Remove a file for good.

    Raises:
        SpoolError: it is busy, gone, or its call continues.
    """
    with _locked(directory, name, READY, SENDING, SENT, HELD, PARKED) as file:
        if not file.remove():
            raise SpoolError(str(_path(directory, name)), "cannot be removed", "see who may write to the directory")


def send_to(directory: Path, name: Name, destination: str) -> None:
    """Let a report that is kept apart go to a platform: it is sent from there as any other.

    Args:
        directory: the spool.
        name: the file's.
        destination: the name of the platform's place, see `settings.destination_of`.

    Raises:
        SpoolError: it is busy, gone, or its call continues.
    """
    with _locked(directory, name, READY, SENDING, HELD, PARKED):
        target = directory / destination / shard_of(name.identity)
        try:
            target.mkdir(mode=0o700, parents=True, exist_ok=True)
            _path(directory, name).rename(target / str(name))
        except OSError as error:
            raise SpoolError(str(target), "cannot be written", "see who may write to the directory") from error


def _all(directory: Path) -> list[tuple[str, Path, Name]]:
    """Return place, path and name of every file of the spool."""
    root = str(directory)
    try:
        return [
            (place, Path(where, str(name)), name)
            for place in places_in(root)
            for where in shards_in(root, place)
            for name in names_in(where)
        ]
    except OSError as error:
        raise SpoolError(root, "cannot be read", "see whose it is, and run this as that user") from error


def _path(directory: Path, name: Name) -> Path:
    """Return where a file is, whichever place it is in."""
    try:
        places = places_in(str(directory))
    except OSError:
        places = []
    candidates = [directory / str(name), *(directory / place / shard_of(name.identity) / str(name) for place in places)]
    return next((path for path in candidates if path.exists() or path.is_symlink()), candidates[0])


def _entry(directory: Path, place: str, path: Path, name: Name, now: float) -> Entry | None:
    try:
        facts = path.lstat()
    except OSError:
        return None
    age = max(0.0, now - facts.st_mtime)
    left = name.state == LIVE and not _goes_on(directory, name)
    if name.state == LIVE and not left:
        return Entry(name, age, facts.st_size, busy=True, place=place)
    try:
        known = journal.facts(show(directory, name))
    except SpoolError:
        return None
    noted = known.delivery or {}
    attempts = noted.get("attempts")
    return Entry(
        name,
        age,
        facts.st_size,
        reason="process_lost" if left else str(noted.get("outcome", "")),
        detail=str(noted.get("detail", "")),
        attempts=attempts if isinstance(attempts, int) else 0,
        counts=tuple(known.counts.items()),
        place=place,
    )


def _goes_on(directory: Path, name: Name) -> bool:
    try:
        return not name.token or lives(str(directory), name.token)
    except OSError:
        return True


def _locked(directory: Path, name: Name, *states: str) -> LockedFile:
    path = str(_path(directory, name))
    if name.state not in states:
        raise SpoolError(path, f"is {name.state}", f"choose one that is {' or '.join(states)}")
    try:
        return LockedFile(str(Path(path).parent), name, counters=Counters(), root=str(directory))
    except BlockingIOError as error:
        raise SpoolError(path, "is being worked on by a process", "try again in a moment") from error
    except GoneError as error:
        raise SpoolError(path, "is not there any more", "list what there is") from error
    except OSError as error:
        raise SpoolError(path, "cannot be opened", "see whose it is, and run this as that user") from error


def _move(file: LockedFile, state: str) -> None:
    if not file.move(state):
        raise SpoolError(str(file.name), "cannot be renamed", "see who may write to the directory")
