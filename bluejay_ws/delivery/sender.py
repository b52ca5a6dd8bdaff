"""Delivery as the rest of the package sees it: reports go in, and nobody is held up.

* The *keeper* and the *workers* (see `crew`) are daemon threads.
* The *guardian* is not. It waits for the end of the main thread, and then for the workers, as long as something is
  undelivered but no longer than ``flush_timeout``; the interpreter waits for it. So what is on its way is delivered,
  and what cannot be interrupted (a name server that does not answer) never holds up the end of a process.

The agent's loop puts reports on a queue that never blocks. Nothing starts at import, and a forked child owns nothing.
"""

from __future__ import annotations

import atexit
import logging
import os
import random as random_module
import threading
import time
import weakref
from importlib import import_module
from typing import TYPE_CHECKING

from bluejay_ws.delivery.crew import Chore, Client, Crew
from bluejay_ws.delivery.desk import Desk
from bluejay_ws.delivery.endings import Endings

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable

    from bluejay_ws.delivery.parcel import Parcel
    from bluejay_ws.delivery.spool import Spool
    from bluejay_ws.settings import Settings
    from bluejay_ws.stats import Counters

# Old releases of httpx need it, and it cannot be imported any more once a process is about to end.
import_module("concurrent.futures.thread")

__all__ = ["Sender"]

SYNC_EVERY = 1.0
TIDY_EVERY = 30.0
RECOVER_EVERY = 30.0
UNTOUCHED = 60.0
POLL = 0.01
GUARD_POLL = 0.5


class Sender:
    """Deliver reports in the background. Making one starts nothing.

    Args:
        settings: see `Settings`.
        spool: where reports wait; None keeps them in memory only.
        counters: where everything is counted.
        clock: monotonic seconds.
        wall: Unix time, in seconds.
        random: returns a float in [0, 1).
        make_client: makes an HTTP client, on the thread that is going to use it; default: the real one.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        spool: Spool | None,
        counters: Counters,
        clock: Callable[[], float] = time.monotonic,
        wall: Callable[[], float] = time.time,
        random: Callable[[], float] = random_module.random,
        make_client: Callable[[], Client] | None = None,
    ) -> None:
        self._settings = settings
        self._spool = spool
        self._counters = counters
        self._clock = clock
        self._wall = wall
        self._random = random
        self._make_client = make_client or self._http_client
        self._orphaned = False
        self._set_up()
        _senders.add(self)

    def _set_up(self) -> None:
        self._lock = threading.Lock()
        self._context: ssl.SSLContext | None = None
        self._crew: Crew | None = None
        self._guarded = False
        self._recovered_once = False
        self._exiting = False
        self._told = 0
        self._exit_by: float | None = None
        self._endings = Endings()
        self._desk = Desk(
            self._settings,
            self._spool,
            counters=self._counters,
            clock=self._clock,
            wall=self._wall,
            random=self._random,
            wake=self._wake,
        )

    # -- from the agent's loop ----------------------------------------------------------------------------------

    def start(self) -> None:
        """Start the threads, if they do not run: at the first recorded connection. Never raises, takes microseconds."""
        with self._lock:
            if self._crew is not None:
                return
            crew = Crew(
                self._desk,
                make_client=self._make_client,
                chores=self._chores(),
                clock=self._clock,
                failed=self._failed,
            )
            try:
                crew.start()
            except RuntimeError:
                self._counters.add("errors.no_thread")
                return
            self._crew = crew
        self._start_guardian()

    def submit(self, parcel: Parcel) -> None:
        """Take a report over. Never raises, and takes microseconds.

        Where no thread can be started any more, at the end of the interpreter, the report is delivered before this
        returns, within ``flush_timeout``.

        Args:
            parcel: of a call that has just ended.
        """
        self._desk.put(parcel)
        if self._crew is None:
            self.start()
        if not self._guarded and not self._start_guardian():
            self._see_off()

    def end(self, report_id: str, ending: Callable[[], None]) -> None:
        """Let a call that is over write its last lines, and wait for its report.

        At once, unless many calls end together: then, for most of them, a little later and on a thread of our own,
        so that the calls that go on do not wait for it.

        Args:
            report_id: of the call.
            ending: writes the last lines and calls `submit` or `withdraw`; must not raise.
        """
        self._desk.expect(report_id)
        self._endings.run(ending)

    def withdraw(self, report_id: str) -> None:
        """Wait no longer for a report that `end` announced."""
        self._desk.withdraw(report_id)

    def pending(self) -> int:
        """Return how many reports are submitted, or left by an earlier process, and not yet settled."""
        return len(self._desk.pending)

    # -- waiting and ending -------------------------------------------------------------------------------------

    def flush(self, timeout: float) -> bool:
        """Wait until nothing is undelivered; what waits for another try gets one now.

        Returns early where waiting is of no use: the key is missing or refused, or the configuration is wrong.

        Args:
            timeout: seconds.

        Returns:
            Whether nothing is left.
        """
        if not self._desk.pending:
            return True
        until = self._until(timeout)
        if self._crew is None:
            self.start()
        self._desk.pull_in()
        while self._desk.pending and self._clock() < until:
            if self._desk.held_back is not None and self._desk.inbox.empty():
                break
            time.sleep(POLL)
        return not self._desk.pending

    def close(self, timeout: float) -> bool:
        """Flush, then end the threads. A later report starts them again; twice is allowed.

        Args:
            timeout: seconds for both.

        Returns:
            Whether nothing is left undelivered; what is left is told in one log line, and stays in the spool.
        """
        until = self._until(timeout)
        self._endings.drain(max(0.0, until - self._clock()))
        done = self.flush(max(0.0, until - self._clock()))
        with self._lock:
            crew, self._crew = self._crew, None
        if crew is not None:
            crew.stop(max(0.0, until - self._clock()))
            self._tell_rest()
        return done

    def let_go(self) -> None:
        """End the threads as soon as nothing is undelivered: nobody holds the client any more. Takes no lock."""
        self._orphaned = True

    def at_exit(self) -> None:
        """Use what is left of the time for the end of the process; a bonus, since many servers never come here."""
        self._exiting = True
        if self._desk.pending:
            self.close(self._settings.flush_timeout)

    def reset_after_fork(self) -> None:
        """Own nothing in a forked child: files, queue and threads are the parent's."""
        if self._spool is not None:
            self._spool.reset_after_fork()
        self._counters.reset_after_fork()
        self._set_up()

    # -- inside -------------------------------------------------------------------------------------------------

    def _wake(self) -> None:
        crew = self._crew
        if crew is not None:
            crew.wake()

    def _failed(self, error: Exception) -> None:
        self._counters.add(f"errors.delivery.{type(error).__name__}")

    def _http_client(self) -> Client:
        with _making:
            from bluejay_ws.delivery.http import HttpExchange, tls_context  # noqa: PLC0415 - brings httpx

            if self._context is None:
                self._context = tls_context(self._settings)
            return HttpExchange(self._settings, self._context, clock=self._clock)

    def _chores(self) -> list[Chore]:
        spool = self._spool
        if spool is None:
            return [Chore(self._end_if_let_go, SYNC_EVERY)]
        return [
            Chore(self._end_if_let_go, SYNC_EVERY),
            Chore(lambda: self._recover(spool), RECOVER_EVERY),
            Chore(spool.sync, SYNC_EVERY),
            Chore(spool.tidy, TIDY_EVERY),
        ]

    def _end_if_let_go(self) -> None:
        if self._orphaned and not self._desk.pending:
            self.close(0.0)

    def _recover(self, spool: Spool) -> float | None:
        """Take over what dead processes left; at the start everything, later what nobody has touched for a while."""
        untouched = UNTOUCHED if self._recovered_once else 0.0
        self._recovered_once = True
        self._desk.recover(lambda: spool.recover(untouched=untouched), self._settings.redial_wait)
        return spool.unripe_for

    def _until(self, timeout: float) -> float:
        """Return when to stop waiting; at the end of the process all waiting shares one budget."""
        until = self._clock() + timeout
        if threading.main_thread().is_alive() and not self._exiting:
            return until
        if self._exit_by is None:
            self._exit_by = self._clock() + self._settings.flush_timeout
        return min(until, self._exit_by)

    def _start_guardian(self) -> bool:
        with self._lock:
            if self._guarded:
                return True
            self._guarded = True
        thread = threading.Thread(target=self._guard, name="bluejay_ws-guardian", daemon=False)
        try:
            thread.start()
        except RuntimeError:
            self._guarded = False
            return False
        return True

    def _guard(self) -> None:
        main = threading.main_thread()
        while main.is_alive() and self._crew is not None:
            main.join(GUARD_POLL)
        if self._crew is not None:
            self._see_off()
        self._guarded = False

    def _see_off(self) -> None:
        """Wait for the workers at the end of the process, as long as it can be of use; or do their work."""
        until = self._until(self._settings.flush_timeout)
        self._endings.drain(max(0.0, until - self._clock()))
        if self._crew is None:
            self._desk.work_inline(self._inline_client(), max(0.0, until - self._clock()))
        else:
            self._desk.pull_in()
        while self._desk.pending and self._clock() + self._desk.next_due() < until:
            time.sleep(POLL)

    def _inline_client(self) -> Client:
        crew = Crew(self._desk, make_client=self._make_client, chores=[], clock=self._clock, failed=self._failed)
        return crew.make_client()

    def _tell_rest(self) -> None:
        rest = len(self._desk.pending)
        if rest in (0, self._told):  # closing again, as the end of the process does, is no news
            return
        self._told = rest
        if self._spool is None:
            text = f"reports undelivered: {rest}; without a spool they are lost when the process ends"
            self._desk.notices.say(logging.ERROR, text)
        else:
            text = f"reports undelivered: {rest}; they wait in {self._spool.directory} for the next start"
            self._desk.notices.say(logging.WARNING, text)


_senders: weakref.WeakSet[Sender] = weakref.WeakSet()
# Held while httpx is imported and a client is made. A fork waits for it: a child that is born in the middle of an
# import finds half a module, for ever.
_making = threading.Lock()
FORK_WAITS = 5.0


_had: list[threading.Lock] = []


def _before_fork() -> None:
    if _making.acquire(timeout=FORK_WAITS):
        _had.append(_making)


def _after_fork_in_parent() -> None:
    while _had:
        _had.pop().release()


def _at_exit() -> None:
    for sender in list(_senders):
        sender.at_exit()


def _after_fork_in_child() -> None:
    global _making  # noqa: PLW0603 - the parent's lock is held, by nobody in this process
    _making = threading.Lock()
    _had.clear()
    for sender in list(_senders):
        sender.reset_after_fork()


atexit.register(_at_exit)
if hasattr(os, "register_at_fork"):  # pragma: no branch - it is on every system this runs on but Windows
    os.register_at_fork(before=_before_fork, after_in_parent=_after_fork_in_parent, after_in_child=_after_fork_in_child)
