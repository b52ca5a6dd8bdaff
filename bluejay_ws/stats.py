"""Counts of what happened, so that nothing is dropped, cut or refused in silence."""

from __future__ import annotations

import os
import threading
import time
from collections import Counter

QUIET_SECONDS = 60.0
"""What repeats is said once in so many seconds."""

KINDS_MOST = 200
"""So many different things are distinguished within that time; all others count as one."""

_OTHER = "other"


class Seldom:
    """Know what has been said, so that what repeats is said once in a while, with a count. Not thread-safe.

    Attributes:
        said: by what it was, when it was said last and how often it happened since; bounded.
    """

    __slots__ = ("said",)

    def __init__(self) -> None:
        self.said: dict[object, tuple[float, int]] = {}

    def unsaid(self, what: object, now: float) -> int | None:
        """Return how often ``what`` happened since it was last said, or None if it is too early to say it again.

        Args:
            what: what counts as the same.
            now: monotonic seconds.
        """
        what = self._room_for(what, now)
        said_at, times = self.said.get(what, (float("-inf"), 0))
        quiet = now - said_at < QUIET_SECONDS
        self.said[what] = (said_at, times + 1) if quiet else (now, 0)
        return None if quiet else times

    def _room_for(self, what: object, now: float) -> object:
        """Return under what to remember this, and forget what is no reason to be quiet any more."""
        if what in self.said or len(self.said) < KINDS_MOST:
            return what
        self.said = {known: said for known, said in self.said.items() if now - said[0] < QUIET_SECONDS}
        return what if len(self.said) < KINDS_MOST else _OTHER


making = threading.RLock()
"""Held while something is made that two threads may need first at the same moment; by handlers of signals too."""
# A fork waits for it: a child born while another thread holds it would wait for ever.
os.register_at_fork(before=making.acquire, after_in_parent=making.release, after_in_child=making.release)


class Counters:
    """Count by dotted name, from any thread.

    Names read ``state`` or ``group.reason``: ``delivered``, ``dropped.no_usable_id``, ``cut.output``.
    """

    __slots__ = ("_counts", "_lock", "_told")

    def __init__(self) -> None:
        self._counts: Counter[str] = Counter()
        self._told = Seldom()
        self._lock = threading.RLock()  # a handler of signals may count where its thread was just counting

    def add(self, name: str, amount: int = 1) -> None:
        """Add ``amount`` to the count called ``name``."""
        with self._lock:
            self._counts[name] += amount

    def unsaid(self, what: object, now: float | None = None) -> int | None:
        """Do what `Seldom.unsaid` does, from any thread, in the real time or at ``now``."""
        with self._lock:
            return self._told.unsaid(what, time.monotonic() if now is None else now)

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
        self._told = Seldom()


def started(thread: threading.Thread, counters: Counters) -> bool:
    """Start a thread and return True; where the machine allows no more threads, count that and return False.

    Args:
        thread: one that was not started yet; after a refusal another one is needed.
        counters: where ``errors.no_thread`` is counted.
    """
    try:
        thread.start()
    except (RuntimeError, MemoryError):  # a limit of processes, no address space, an interpreter that ends
        counters.add("errors.no_thread")
        return False
    return True
