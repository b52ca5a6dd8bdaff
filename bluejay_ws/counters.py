"""Counts of what happened, so that nothing is dropped, cut or refused in silence."""

from __future__ import annotations

import threading
import time
from collections import Counter

__all__ = ["QUIET_SECONDS", "Counters"]

QUIET_SECONDS = 60.0
"""What repeats is said once in so many seconds."""


class Counters:
    """Count by dotted name, from any thread.

    Names read ``state`` or ``group.reason``: ``delivered``, ``dropped.no_usable_id``, ``cut.output``.
    """

    __slots__ = ("_counts", "_lock", "_told")

    def __init__(self) -> None:
        self._counts: Counter[str] = Counter()
        self._told: dict[object, tuple[float, int]] = {}
        self._lock = threading.RLock()  # a handler of signals may count where its thread was just counting

    def add(self, name: str, amount: int = 1) -> None:
        """Add ``amount`` to the count called ``name``."""
        with self._lock:
            self._counts[name] += amount

    def unsaid(self, what: object, now: float | None = None) -> int | None:
        """Return how often ``what`` happened since it was last said, or None if it is too early to say it again.

        Args:
            what: one of few: it is remembered.
            now: monotonic seconds; default: the real ones.
        """
        now = time.monotonic() if now is None else now
        with self._lock:
            said_at, times = self._told.get(what, (float("-inf"), 0))
            quiet = now - said_at < QUIET_SECONDS
            self._told[what] = (said_at, times + 1) if quiet else (now, 0)
        return None if quiet else times

    def __getitem__(self, name: str) -> int:
        """Return the count called ``name``; 0 when nothing was counted under it."""
        with self._lock:
            return self._counts[name]

    def snapshot(self) -> dict[str, int]:
        """Return all counts that are not zero, sorted by name."""
        with self._lock:
            return {name: count for name, count in sorted(self._counts.items()) if count}

    def reset_after_fork(self) -> None:
        """Start again at zero, with a lock nobody holds: a forked child has counted nothing."""
        self._lock = threading.RLock()
        self._counts = Counter()
        self._told = {}
