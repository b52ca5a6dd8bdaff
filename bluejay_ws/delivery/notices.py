"""Log lines about delivery: one for each call that is settled, few for what repeats."""

from __future__ import annotations

import logging
import threading
from typing import TYPE_CHECKING

from bluejay_ws.stats import Seldom

if TYPE_CHECKING:
    from collections.abc import Callable

    from bluejay_ws.stats import Counters

__all__ = ["Notices"]

logger = logging.getLogger("bluejay_ws")


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
        self._seldom = Seldom()
        self._lock = threading.Lock()

    def settled(self, identity: str, text: str) -> None:
        """Say at INFO that a call's report is delivered."""
        self._log(logging.INFO, "call %s: %s", identity, text, simulation_result_id=identity)

    def trouble(self, level: int, kind: str, identity: str, text: str) -> None:
        """Say what keeps a call's report from being delivered; the same ``kind`` at most once a minute.

        Args:
            level: of the `logging` module.
            kind: what counts as the same; beyond `counters.KINDS_MOST` of them within a minute, all others do.
            identity: the call's id.
            text: nothing in it may come from outside.
        """
        with self._lock:
            left_out = self._seldom.unsaid(kind, self._clock())
        if left_out is None:
            return
        more = f" (and {left_out} more like it)" if left_out else ""
        self._log(level, "call %s: %s%s", identity, text, more, simulation_result_id=identity)

    def say(self, level: int, text: str) -> None:
        """Say something that is not about one call."""
        self._log(level, "%s", text)

    def _log(self, level: int, text: str, *args: object, simulation_result_id: str | None = None) -> None:
        try:
            logger.log(level, text, *args, extra={"simulation_result_id": simulation_result_id})
        except Exception:  # noqa: BLE001 - see the class
            self._counters.add("errors.log")
