"""The circuit breaker: whether anything may be asked of the platform now. Pure: clock and chance are passed in.

It stops asking a platform that is down, and lets what has waited come back as a ramp and not as a wave.
"""

from __future__ import annotations

import math
from enum import Enum
from typing import TYPE_CHECKING

from bluejay_ws.delivery.outcomes import Decision, Platform

if TYPE_CHECKING:
    from collections.abc import Callable


FAILURES_TO_OPEN = 5
FIRST_PROBE = 1.0
PROBE_CEILING = 30.0
HELD_PROBE_CEILING = 300.0
FRESH_PROBE = 2.0
PROBE_LASTS = 30.0
LOCKED_WAIT = 3600.0
SLOWEST = 2.0
RAMP_START = 5.0
FASTEST = 50.0
BURST = 20.0


class Change(Enum):
    """What an attempt changed: the platform takes reports again, or does not any more."""

    CLOSED = "closed"
    OPENED = "opened"


class Breaker:
    """Decide whether anything may be asked of the platform now.

    Closed: fresh reports pass at once; those that come again share a quota (`BURST`, refilled at a rate that
    doubles each second in which the platform accepts, and halves when it does not). Open, after `FAILURES_TO_OPEN`
    failures in a row or at once by a wrong configuration: one probe at a time, at growing intervals; a fresh report
    may be a probe every `FRESH_PROBE` seconds, even while an earlier one hangs, so that a platform that is back is
    noticed by the next call. These make no interval longer: after the last of many calls, what waits is not to wait
    for minutes. When a probe passes, the breaker closes with an empty quota and a low rate: the ramp.

    Not thread-safe: the queue calls it under its lock.

    Attributes:
        reason: why it is open, so that nothing but probes is let through; None while it is closed.
        held: whether that is the key or the configuration.
        locked: whether it stays so.

    Args:
        random: returns a float in [0, 1).
    """

    def __init__(self, random: Callable[[], float]) -> None:
        self.reason: str | None = None
        self.held = False
        self.locked = False
        self._random = random
        self._failures = 0
        self._rate = FASTEST
        self._tokens = BURST
        self._refilled_at = self._grown_at = -math.inf
        self._interval = FIRST_PROBE
        self._fresh_probe = False
        self._probed_at = -math.inf
        self._next_probe = -math.inf
        self._probing_until = -math.inf
        self._passed_at = -math.inf

    def wait(self, now: float, *, fresh: bool) -> float:
        """Return 0.0 if one exchange may start now, which uses up its share; else the seconds to ask again after.

        Args:
            now: monotonic seconds.
            fresh: whether this report has never been tried.
        """
        if self.locked:
            return LOCKED_WAIT
        if self.reason is None:
            return 0.0 if fresh else self._take_token(now)
        due = self._next_probe
        if now < self._probing_until:
            due = min(self._probing_until, now + 1.0)
        if fresh:
            due = min(self._probed_at + FRESH_PROBE, due)
        if now < due:
            return due - now
        self._probed_at, self._fresh_probe = now, fresh
        self._probing_until = now + PROBE_LASTS
        return 0.0

    def record(self, decision: Decision, now: float, began: float) -> Change | None:
        """Note what an attempt showed of the platform; return what that changed.

        Args:
            decision: what was decided on the attempt.
            now: monotonic seconds.
            began: when the attempt began.
        """
        if decision.busy:
            self._rate, self._grown_at = SLOWEST, now
        if decision.platform is Platform.UP:
            return self._passed(now)
        if decision.platform is Platform.DOWN:
            return self._failed(now, decision.reason, began)
        if decision.platform is Platform.MISCONFIGURED:
            return self._open(now, decision.reason, now, held=True)
        if decision.platform is Platform.UNHEARD:  # it asked the platform nothing: another may be the probe
            self._probing_until = self._probed_at = -math.inf
        elif self.reason is not None and not self.held:  # the platform could be read: the next probe may go at once
            self._probing_until = -math.inf
            self._probed_at, self._next_probe = now - FRESH_PROBE, now
        return None

    def _passed(self, now: float) -> Change | None:
        """Note that the platform judged a report, whichever way."""
        self._failures = 0
        self._passed_at = now
        if self.reason is not None:
            self._close(now)
            return Change.CLOSED
        if now - self._grown_at >= 1.0:
            self._grown_at = now
            self._rate = min(FASTEST, self._rate * 2.0)
        return None

    def _failed(self, now: float, reason: str, began: float) -> Change | None:
        """Note that the platform failed.

        An exchange that began before the platform passed another hung in an outage that is over, and says nothing of
        the platform as it is.
        """
        if began < self._passed_at:
            return None
        self._failures += 1
        self._rate = max(SLOWEST, self._rate / 2.0)
        if self.reason is None and self._failures < FAILURES_TO_OPEN:
            return None
        return self._open(now, reason, began, held=self.held)

    def lock(self, reason: str) -> None:
        """Open the breaker for good: there is no key, and asking without one is of no use."""
        self.reason, self.held, self.locked = reason, True, True

    def _open(self, now: float, reason: str, began: float, *, held: bool) -> Change | None:
        was_closed = self.reason is None
        self.reason, self.held = reason, held
        if not was_closed and (now >= self._probing_until or began < self._probed_at):
            return None  # left over from before the breaker opened, or the last probe left: says nothing new
        ceiling = HELD_PROBE_CEILING if held else PROBE_CEILING
        self._interval = (
            FIRST_PROBE if was_closed else min(ceiling, self._interval * (1.0 if self._fresh_probe else 2.0))
        )
        self._probing_until = -math.inf
        self._probed_at = now
        self._next_probe = now + self._interval * (0.5 + self._random())
        return Change.OPENED if was_closed else None

    def _close(self, now: float) -> None:
        self.reason, self.held = None, False
        self._rate, self._tokens = RAMP_START, 0.0
        self._refilled_at = self._grown_at = now
        self._probing_until = -math.inf

    def _take_token(self, now: float) -> float:
        elapsed = max(0.0, min(now - self._refilled_at, 3600.0))
        self._refilled_at = now
        self._tokens = min(BURST, self._tokens + elapsed * self._rate)
        if self._tokens >= 1.0:
            self._tokens -= 1.0
            return 0.0
        return max((1.0 - self._tokens) / self._rate, 0.001)
