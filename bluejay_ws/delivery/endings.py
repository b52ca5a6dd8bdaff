"""The ends of calls: at once while they are few, on a thread of their own when a crowd hangs up."""

from __future__ import annotations

import queue
import threading
import time
from collections import deque
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["Endings"]

# To end a call takes some hundred microseconds: so many of them in so many seconds an agent's loop does not notice.
FEW = 5
WINDOW = 0.1
# The interpreter runs one thread at a time: the crowd's own sockets are to be closed before we begin, ...
LET_PASS = 0.05
LET_PASS_MOST = 0.5
# ... and then we rest for several times as long as we work.
REST = 3.0
# Who drains waits so long at least for the ending that is under way: it takes much less, unless the disk hangs.
LEAST_WAIT = 0.1
IDLE_SECONDS = 10.0


class Endings:
    """Run what ends a call: now, or later on a daemon thread, in the order in which they came.

    From any thread; takes no lock, so that a handler of signals may come here in the middle of it. Whoever has to
    know that all are done calls `drain`.

    Args:
        few: how many are run at once in any `window`.
        window: seconds.
        let_pass: seconds for which the thread waits as long as more come, when it finds the first.
        idle: seconds after which a thread that has nothing to do ends.
        clock: monotonic seconds.
    """

    def __init__(
        self,
        *,
        few: int = FEW,
        window: float = WINDOW,
        let_pass: float = LET_PASS,
        idle: float = IDLE_SECONDS,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._few = few
        self._window = window
        self._let_pass = let_pass
        self._idle = idle
        self._clock = clock
        self._since = float("-inf")
        self._count = 0
        self._waiting: deque[Callable[[], None]] = deque()
        self._bell: queue.SimpleQueue[None] = queue.SimpleQueue()
        self._working = threading.RLock()  # an ending at the end of the interpreter delivers at once, and drains us
        self._thread: threading.Thread | None = None

    def run(self, ending: Callable[[], None]) -> None:
        """Run ``ending``, which must not raise, now or soon."""
        if self._now():
            ending()
            return
        self._waiting.append(ending)
        self._bell.put(None)
        if self._thread is None:
            self._start()

    def drain(self, seconds: float) -> None:
        """Run what waits on this thread, and wait so long at most for what the other one is at."""
        until = time.monotonic() + max(seconds, LEAST_WAIT)
        while self._working.acquire(timeout=max(0.0, until - time.monotonic())):
            try:
                if not self._waiting:
                    return
                self._waiting.popleft()()
            finally:
                self._working.release()

    def _now(self) -> bool:
        now = self._clock()
        if now - self._since > self._window:
            self._since, self._count = now, 0
        self._count += 1
        return self._count <= self._few

    def _start(self) -> None:
        thread = threading.Thread(target=self._work, name="bluejay_ws-endings", daemon=True)
        self._thread = thread
        try:
            thread.start()
        except RuntimeError:  # the interpreter is ending
            self._thread = None
            self._run_all(rest=0.0)

    def _work(self) -> None:
        while self._woken() or self._waiting:
            self._thread = threading.current_thread()
            self._wait_for_the_crowd()
            self._run_all(rest=REST)

    def _woken(self) -> bool:
        """Wait for the bell; return whether it rang. From then on whoever comes starts another thread."""
        try:
            self._bell.get(timeout=self._idle)
        except queue.Empty:
            self._thread = None
            return False
        return True

    def _wait_for_the_crowd(self) -> None:
        until = time.monotonic() + LET_PASS_MOST
        seen = 0
        while seen < (seen := len(self._waiting)) and time.monotonic() < until:
            time.sleep(self._let_pass)

    def _run_all(self, *, rest: float) -> None:
        while self._waiting:
            began = time.monotonic()
            with self._working:
                if self._waiting:
                    self._waiting.popleft()()
            if rest:
                time.sleep((time.monotonic() - began) * rest)
