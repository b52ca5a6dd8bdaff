"""Log lines about delivery: one for each call that is settled, few for what repeats."""

from __future__ import annotations

import logging
import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["Notices"]

logger = logging.getLogger("bluejay_ws")

QUIET_SECONDS = 60.0


class Notices:
    """Log to ``bluejay_ws``, with the call's id in the record; what repeats is said once a minute, with a count.

    Args:
        clock: monotonic seconds.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._said: dict[str, tuple[float, int]] = {}
        self._lock = threading.Lock()

    def settled(self, identity: str, text: str) -> None:
        """Say at INFO that a call's report is delivered."""
        logger.info("call %s: %s", identity, text, extra={"simulation_result_id": identity})

    def trouble(self, level: int, kind: str, identity: str, text: str) -> None:
        """Say what keeps a call's report from being delivered; the same ``kind`` at most once a minute.

        Args:
            level: of the `logging` module.
            kind: what counts as the same.
            identity: the call's id.
            text: nothing in it may come from outside.
        """
        with self._lock:
            said_at, left_out = self._said.get(kind, (float("-inf"), 0))
            now = self._clock()
            if now - said_at < QUIET_SECONDS:
                self._said[kind] = (said_at, left_out + 1)
                return
            self._said[kind] = (now, 0)
        more = f" (and {left_out} more like it)" if left_out else ""
        logger.log(level, "call %s: %s%s", identity, text, more, extra={"simulation_result_id": identity})

    def say(self, level: int, text: str) -> None:
        """Say something that is not about one call."""
        logger.log(level, "%s", text)
