"""Bytes of the spool that are no sound report lines: kept aside for a person, within bounds of their own."""

from __future__ import annotations

import contextlib
import os
import zlib
from pathlib import Path

__all__ = ["QUARANTINE", "bound", "keep"]

QUARANTINE = "quarantine"
MAX_BYTES = 64 * 1024 * 1024
MAX_FILES = 1_000

_FLAGS = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


def keep(directory: str, report: str, data: bytes) -> bool:
    """Keep bytes where nobody stumbles over them; the same bytes of the same report are kept once.

    Args:
        directory: the spool.
        report: what names the report, whatever its state.
        data: what is no sound line.

    Returns:
        Whether this is the first time they are seen, as far as can be known.
    """
    place = Path(directory, QUARANTINE)
    try:
        place.mkdir(mode=0o700, exist_ok=True)
        fd = os.open(place / f"{report}.{zlib.crc32(data):08x}", _FLAGS, 0o600)
    except FileExistsError:
        return False
    except OSError:
        return True
    with os.fdopen(fd, "wb", buffering=0) as file, contextlib.suppress(OSError):
        file.write(data)  # a full disk keeps what it has room for
    return True


def bound(directory: str, *, oldest: float, max_bytes: int = MAX_BYTES, max_files: int = MAX_FILES) -> int:
    """Remove what is too old or too much, the oldest first; return how many files went.

    Args:
        directory: the spool.
        oldest: Unix time before which nothing is kept.
        max_bytes: bound of all files together.
        max_files: bound of their number.
    """
    removed = size = 0
    for number, (modified_at, bytes_, path) in enumerate(sorted(_files(Path(directory, QUARANTINE)), reverse=True)):
        size += bytes_
        if number >= max_files or size > max_bytes or modified_at < oldest:
            removed += _remove(path)
    return removed


def _files(place: Path) -> list[tuple[float, int, str]]:
    found = []
    with contextlib.suppress(OSError), os.scandir(place) as entries:  # none, or somebody clears it at this moment
        for entry in entries:
            facts = entry.stat(follow_symlinks=False)
            found.append((facts.st_mtime, facts.st_size, entry.path))
    return found


def _remove(path: str) -> bool:
    try:
        Path(path).unlink()
    except OSError:
        return False
    return True
