"""One thread for each process that ends it when a test takes too long.

pytest-timeout starts and joins a thread for each test, which took a twentieth of the suite's processor time. It lets
others keep the time: this does, and still has it say where everything stood, and end the process.
"""

from __future__ import annotations

import threading
import time
from importlib import import_module
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable


IDLE = 60.0


class Watchdog:
    """Call what is due at its time, if it has not been called off."""

    def __init__(self) -> None:
        self._due: tuple[float, Callable[[], object]] | None = None
        self._looks_at = 0.0
        self._changed = threading.Condition()
        self._thread = threading.Thread()  # none runs yet, nor in a process that was forked

    def arm(self, seconds: float, bark: Callable[[], object]) -> None:
        """Call this in so many seconds, unless `disarm` or another `arm` comes before."""
        due = time.monotonic() + seconds
        with self._changed:
            self._due = due, bark
            if not self._thread.is_alive():
                self._thread = threading.Thread(target=self._watch, name="watchdog", daemon=True)
                self._thread.start()
            elif due < self._looks_at:
                self._changed.notify()

    def disarm(self) -> None:
        """Call off what is due."""
        self._due = None

    def _watch(self) -> None:
        while True:
            with self._changed:
                now, due = time.monotonic(), self._due
                self._looks_at = due[0] if due else now + IDLE
                if due is None or due[0] > now:
                    self._changed.wait(self._looks_at - now)
                    continue
            self.disarm()
            due[1]()

    @pytest.hookimpl(optionalhook=True)
    def pytest_timeout_set_timer(self, item: pytest.Item, settings: Any) -> bool | None:
        """Keep the time of a test, where a thread is to do that."""
        if settings.method != "thread":
            return None
        bark = import_module("pytest_timeout").timeout_timer
        self.arm(settings.timeout, lambda: bark(item, settings))
        return True

    @pytest.hookimpl(optionalhook=True)
    def pytest_timeout_cancel_timer(self, item: pytest.Item) -> None:
        """Call it off; pytest-timeout may have more to call off."""
        self.disarm()
