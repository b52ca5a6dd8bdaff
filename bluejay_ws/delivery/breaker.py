"""The circuit breaker: whether anything may be asked of the platform now. Pure: clock and chance are passed in.

It stops asking a platform that is down, and lets what has waited come back as a ramp and not as a wave.
"""

from __future__ import annotations

import math
import re
import time
from enum import Enum
from typing import TYPE_CHECKING

from bluejay_ws.delivery.outcomes import Decision, Platform

if TYPE_CHECKING:
    from collections.abc import Callable


__all__ = ["Breaker", "Change", "retry_after"]

_SECONDS = re.compile(r"([+-]?[0-9]+(?:\.[0-9]*)?)\s*(?:,.*)?", re.ASCII | re.DOTALL)

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


def retry_after(value: str | None, date: str | None, *, ceiling: float) -> float | None:
    """Return the seconds a ``Retry-After`` header asks for, between 0 and ``ceiling``; None if it says nothing.

    A date counts against the answer's own ``Date``, so that this machine's clock does not matter; without one it
    counts against this machine's clock.

    Never raises. What is in the past or negative is 0; what is neither seconds nor a date is None. Of several that a
    proxy has joined with commas the first counts.

    Args:
        value: the header's value, as it came.
        date: the answer's ``Date`` header, as it came.
        ceiling: the longest wait that is believed, in seconds.
    """
    if value is None:
        return None
    text = value.strip()
    found = _SECONDS.fullmatch(text)
    seconds = float(found[1]) if found else _between("".join(text.partition("GMT")[:2]), date)
    return None if seconds is None else min(max(seconds, 0.0), ceiling)


def _between(text: str, date: str | None) -> float | None:
    moment = _moment(text)
    asked_at = _moment(date or "")
    return None if moment is None else moment - (time.time() if asked_at is None else asked_at)


def _moment(text: str) -> float | None:
    # Here and not above: the mail parser costs more to import than all the rest of delivery.
    from datetime import UTC  # noqa: PLC0415
    from email.utils import parsedate_to_datetime  # noqa: PLC0415

    try:
        moment = parsedate_to_datetime(text)
        seconds = (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
    except (ValueError, TypeError, OverflowError, IndexError, AttributeError):
        return None
    return None if math.isnan(seconds) else seconds


class Change(Enum):
    """What an attempt changed: the platform takes reports again, or does not any more."""

    CLOSED = "closed"
    OPENED = "opened"


class Breaker:
    """Decide whether anything may be asked of the platform now.

    Closed: fresh reports pass at once; those that come again share a quota (`BURST`, refilled at a rate that
    doubles each second in which the platform accepts, and halves when it does not). Open, after
    `FAILURES_TO_OPEN` failures in a row or at once by `misconfigured`: one probe at a time, at growing intervals; a
    fresh report may be a probe every `FRESH_PROBE` seconds, even while an earlier one hangs, so that a platform
    that is back is noticed by the next call. These make no interval longer: after the last of many calls, what waits
    is not to wait for minutes. When a probe passes, the breaker closes with an empty quota and a low
    rate: the ramp.

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

    def passed(self, now: float) -> bool:
        """Note that the platform judged a report, whichever way; return whether that closed an open breaker."""
        self._failures = 0
        self._passed_at = now
        if self.reason is not None:
            self._close(now)
            return True
        if now - self._grown_at >= 1.0:
            self._grown_at = now
            self._rate = min(FASTEST, self._rate * 2.0)
        return False

    def readable(self, now: float) -> None:
        """Note that the platform could be read: if the breaker is open, the next probe may go at once."""
        if self.reason is not None and not self.held:
            self._probing_until = -math.inf
            self._probed_at = now - FRESH_PROBE
            self._next_probe = now

    def unused(self) -> None:
        """Note that what was let through did not ask the platform anything: another may be the probe."""
        self._probing_until = -math.inf
        self._probed_at = -math.inf

    def failed(self, now: float, reason: str, began: float | None = None) -> bool:
        """Note that the platform failed; return whether that opened the breaker.

        Args:
            now: monotonic seconds.
            reason: what happened, for the log.
            began: when the exchange began; default now. One that began before the platform passed another hung in
                an outage that is over, and says nothing of the platform as it is.
        """
        began = now if began is None else began
        if began < self._passed_at:
            return False
        self._failures += 1
        self._rate = max(SLOWEST, self._rate / 2.0)
        if self.reason is None and self._failures < FAILURES_TO_OPEN:
            return False
        return self._open(now, reason, began, held=self.held)

    def misconfigured(self, now: float, reason: str) -> bool:
        """Open the breaker at once: the key or the configuration is wrong; return whether it was closed."""
        return self._open(now, reason, now, held=True)

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
            return Change.CLOSED if self.passed(now) else None
        opened = False
        if decision.platform is Platform.READABLE:
            self.readable(now)
        elif decision.platform is Platform.DOWN:
            opened = self.failed(now, decision.reason, began)
        elif decision.platform is Platform.MISCONFIGURED:
            opened = self.misconfigured(now, decision.reason)
        else:
            self.unused()
        return Change.OPENED if opened else None

    def lock(self, reason: str) -> None:
        """Open the breaker for good: there is no key, and asking without one is of no use."""
        self.reason, self.held, self.locked = reason, True, True

    def _open(self, now: float, reason: str, began: float, *, held: bool) -> bool:
        was_closed = self.reason is None
        self.reason, self.held = reason, held
        if not was_closed and (now >= self._probing_until or began < self._probed_at):
            return False  # left over from before the breaker opened, or the last probe left: says nothing new
        ceiling = HELD_PROBE_CEILING if held else PROBE_CEILING
        self._interval = (
            FIRST_PROBE if was_closed else min(ceiling, self._interval * (1.0 if self._fresh_probe else 2.0))
        )
        self._probing_until = -math.inf
        self._probed_at = now
        self._next_probe = now + self._interval * (0.5 + self._random())
        return was_closed

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
