"""Log lines about delivery: one for each call that is settled, few for what repeats."""

from __future__ import annotations

import logging
import threading
from typing import TYPE_CHECKING

from bluejay_ws.counters import QUIET_SECONDS

if TYPE_CHECKING:
    from collections.abc import Callable

    from bluejay_ws.counters import Counters

__all__ = ["Notices"]

logger = logging.getLogger("bluejay_ws")

KINDS_MOST = 200
OTHER = "other"


class Notices:
    """Log to ``bluejay_ws``, with the call's id in the record; what repeats is said once a minute, with a count.

    Nothing here raises: a log handler of the agent's that does must not end the threads that deliver.

    Args:
        clock: monotonic seconds.
        counters: where a log handler that raises is counted, as ``errors.log``.
    """

    def __init__(self, clock: Callable[[], float], counters: Counters) -> None:
        self._clock = clock
        self._counters = counters
        self._said: dict[str, tuple[float, int]] = {}
        self._lock = threading.Lock()

    def settled(self, identity: str, text: str) -> None:
        """Say at INFO that a call's report is delivered."""
        self._log(logging.INFO, "call %s: %s", identity, text, simulation_result_id=identity)

    def trouble(self, level: int, kind: str, identity: str, text: str) -> None:
        """Say what keeps a call's report from being delivered; the same ``kind`` at most once a minute.

        Args:
            level: of the `logging` module.
            kind: what counts as the same; beyond `KINDS_MOST` kinds within a minute, all others do.
            identity: the call's id.
            text: nothing in it may come from outside.
        """
        with self._lock:
            now = self._clock()
            kind = self._room_for(kind, now)
            said_at, left_out = self._said.get(kind, (float("-inf"), 0))
            if now - said_at < QUIET_SECONDS:
                self._said[kind] = (said_at, left_out + 1)
                return
            self._said[kind] = (now, 0)
        more = f" (and {left_out} more like it)" if left_out else ""
        self._log(level, "call %s: %s%s", identity, text, more, simulation_result_id=identity)

    def _room_for(self, kind: str, now: float) -> str:
        """Return the kind under which to remember this one, and forget those that are no reason to be quiet."""
        if kind in self._said or len(self._said) < KINDS_MOST:
            return kind
        self._said = {known: said for known, said in self._said.items() if now - said[0] < QUIET_SECONDS}
        return kind if len(self._said) < KINDS_MOST else OTHER

    def say(self, level: int, text: str) -> None:
        """Say something that is not about one call."""
        self._log(level, "%s", text)

    def _log(self, level: int, text: str, *args: object, simulation_result_id: str | None = None) -> None:
        try:
            logger.log(level, text, *args, extra={"simulation_result_id": simulation_result_id})
        except Exception:  # noqa: BLE001 - see the class
            self._counters.add("errors.log")
