"""The spool as a person sees it: list, show, retry, release, export and delete, as functions over a directory.

Every change takes the file's lock first, so nothing here disturbs a process that is at work on it.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from bluejay_ws.delivery.claim import Claim, GoneError
from bluejay_ws.delivery.names import HELD, LIVE, PARKED, READY, SENDING, SENT, Name
from bluejay_ws.delivery.owner import lives
from bluejay_ws.delivery.spool import names_in
from bluejay_ws.exceptions import SpoolError
from bluejay_ws.stats import Counters
from bluejay_ws.wire import journal

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

__all__ = ["Entry", "delete", "entries", "export", "find", "release", "retry", "show"]

WAITING = (READY, SENDING, HELD, PARKED)


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
        busy: whether a process is at work on it, or its call goes on; then nothing more is known of it.
    """

    name: Name
    age: float
    size: int
    reason: str = ""
    detail: str = ""
    attempts: int = 0
    counts: tuple[tuple[str, int], ...] = ()
    busy: bool = False


def entries(directory: Path, *, states: Sequence[str] = WAITING, wall: float | None = None) -> list[Entry]:
    """Return what is in the spool, oldest first; what cannot be read is left out.

    Args:
        directory: the spool.
        states: which to list.
        wall: Unix time, in seconds; default now.

    Raises:
        SpoolError: the directory cannot be read.
    """
    now = time.time() if wall is None else wall
    found = [_entry(directory, name, now) for name in _names(directory) if name.state in states]
    return sorted((entry for entry in found if entry is not None), key=lambda entry: -entry.age)


def find(directory: Path, wanted: str) -> list[Name]:
    """Return the names of the files of one call, by its id, or of one report, by its report id or file name.

    Raises:
        SpoolError: the directory cannot be read, or holds no such call or report.
    """
    found = [name for name in _names(directory) if wanted in {name.identity, name.report_id, str(name)}]
    if not found:
        raise SpoolError(
            str(directory), f"holds no call or report {wanted!r}", "list what it holds, tombstones included"
        )
    return sorted(found)


def show(directory: Path, name: Name) -> list[bytes]:
    """Return every sound line of a file without its check sum; reads beside whoever is at work on it.

    Raises:
        SpoolError: it cannot be read.
    """
    path = directory / str(name)
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
    with _claim(directory, name, HELD, PARKED) as claim:
        unsettled = claim.name.state == HELD and claim.noted.get("outcome") != "already_delivered"
        claim.note(outcome="retry", at=time.time(), attempts=0, resends=0)
        _move(claim, SENDING if unsettled else READY)
        return claim.name


def release(directory: Path, name: Name) -> Name:
    """Let a held or parked report be sent without a look, whatever was sent under its id before.

    If an earlier report was accepted the platform appends this one to it: each tool call then counts twice.

    Returns:
        The file's new name.

    Raises:
        SpoolError: it is busy, gone, or neither held nor parked.
    """
    with _claim(directory, name, HELD, PARKED) as claim:
        claim.note(outcome="released", released=True, at=time.time(), attempts=0, resends=0)
        _move(claim, READY)
        return claim.name


def delete(directory: Path, name: Name) -> None:
    """Remove a file for good.

    Raises:
        SpoolError: it is busy, gone, or its call goes on.
    """
    with _claim(directory, name, READY, SENDING, SENT, HELD, PARKED) as claim:
        if not claim.remove():
            raise SpoolError(str(directory / str(name)), "cannot be removed", "see who may write to the directory")


def _names(directory: Path) -> list[Name]:
    try:
        return names_in(str(directory))
    except OSError as error:
        raise SpoolError(str(directory), "cannot be read", "see whose it is, and run this as that user") from error


def _entry(directory: Path, name: Name, now: float) -> Entry | None:
    try:
        facts = (directory / str(name)).lstat()
    except OSError:
        return None
    age = max(0.0, now - facts.st_mtime)
    left = name.state == LIVE and not _goes_on(directory, name)
    if name.state == LIVE and not left:
        return Entry(name, age, facts.st_size, busy=True)
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
    )


def _goes_on(directory: Path, name: Name) -> bool:
    try:
        return not name.token or lives(str(directory), name.token)
    except OSError:
        return True


def _claim(directory: Path, name: Name, *states: str) -> Claim:
    path = str(directory / str(name))
    if name.state not in states:
        raise SpoolError(path, f"is {name.state}", f"choose one that is {' or '.join(states)}")
    try:
        return Claim(str(directory), name, counters=Counters())
    except BlockingIOError as error:
        raise SpoolError(path, "is being worked on by a process", "try again in a moment") from error
    except GoneError as error:
        raise SpoolError(path, "is not there any more", "list what there is") from error
    except OSError as error:
        raise SpoolError(path, "cannot be opened", "see whose it is, and run this as that user") from error


def _move(claim: Claim, state: str) -> None:
    if not claim.move(state):
        raise SpoolError(str(claim.name), "cannot be renamed", "see who may write to the directory")
