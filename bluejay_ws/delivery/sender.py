"""Delivery as the rest of the package sees it: reports go in, and nobody is held up.

* The *scheduler*, the *workers* and the thread that ends calls (see `workers`) are daemon threads.
* The *exit watch* is not. It waits for the end of the main thread, and then for the workers, as long as something is
  undelivered but no longer than ``flush_timeout``; the interpreter waits for it. So what is on its way is delivered,
  and what cannot be interrupted (a name server that does not answer) never holds up the end of a process.

The agent's loop puts reports on a queue that never blocks; nothing is ever delivered on its thread. Nothing starts at
import, and a forked child owns nothing.
"""

from __future__ import annotations

import asyncio
import atexit
import logging
import os
import threading
import time
import weakref
from abc import ABC, abstractmethod
from dataclasses import replace
from importlib import import_module
from typing import TYPE_CHECKING, Protocol

from bluejay_ws.delivery.attempt import Context
from bluejay_ws.delivery.http import STEPS, HttpExchange, say_odd_no_proxy, tls_context
from bluejay_ws.delivery.queue import Queue
from bluejay_ws.delivery.store import SEND_APART, Store
from bluejay_ws.delivery.verify import Verifier
from bluejay_ws.delivery.workers import Budget, Chore, Finisher, Workers
from bluejay_ws.log import say
from bluejay_ws.stats import started

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable

    from bluejay_ws.delivery.attempt import Exchange
    from bluejay_ws.delivery.store import Report
    from bluejay_ws.settings import Settings
    from bluejay_ws.stats import Counters

SYNC_EVERY = 1.0
TIDY_EVERY = 30.0
RECOVER_EVERY = 30.0
UNTOUCHED = 60.0
FIRST_POLL, POLL = 0.001, 0.01  # most reports are accepted within milliseconds
WATCH_POLL = 0.5
TRY_AGAIN = 1.0


class HttpClients:
    """Make HTTP clients that share one TLS context, on the threads that use them.

    Args:
        settings: see `Settings`.
        counters: where everything is counted.
    """

    def __init__(self, settings: Settings, counters: Counters) -> None:
        self._settings = settings
        self._counters = counters
        self._context: ssl.SSLContext | None = None

    def __call__(self, timeout: float) -> Exchange:
        """Return a new one; may take a third of a second, and raise whatever is wrong with the environment."""
        with _making:
            if self._context is None:
                self._context = tls_context(self._settings)
                say_odd_no_proxy(self._counters)
            return HttpExchange(replace(self._settings, timeout=timeout), self._context)


class _Inbox(Protocol):
    """What knows the reports of ended calls until they are settled."""

    def expect(self, report_id: str) -> None: ...
    def put(self, report: Report) -> None: ...
    def withdraw(self, report_id: str) -> None: ...
    @property
    def pending(self) -> int: ...


class BaseSender(ABC):
    """Take reports over from the agent's loop, and mind the end of the process; the parent of all senders.

    Making one starts nothing.

    Args:
        counters: where everything is counted.
        flush_timeout: seconds that the end of the process may wait.
    """

    _inbox: _Inbox

    def __init__(self, counters: Counters, flush_timeout: float) -> None:
        self._counters = counters
        self._flush_timeout = flush_timeout
        self._clock = time.monotonic
        self._set_up()
        _senders.add(self)

    def _set_up(self) -> None:
        """Begin anew: at the start, and in a forked child."""
        self._lock = threading.Lock()
        self._budget = Budget(self._flush_timeout, self._clock)
        self._finisher = Finisher(self._counters, self.withdraw)
        self._watched = False
        self._orphaned = False
        self._trying_again = False
        self._said_left = 0

    # -- from the agent's loop ----------------------------------------------------------------------------------

    def start(self) -> None:
        """Start the threads, if they do not run: at the first recorded connection. Never raises, takes microseconds.

        Where one cannot be started, it is tried again each second while this thread's event loop runs, and with each
        call; until then reports wait in the store.
        """
        self._budget.renew()
        self._start_or_later()

    def submit(self, report: Report) -> None:
        """Take a report over. Never raises, and takes microseconds.

        Args:
            report: of a call that has just ended.
        """
        self._inbox.put(report)
        if not self._runs():
            self._start_or_later()

    def end(self, report_id: str, ending: Callable[[], None]) -> None:
        """Let a call that is over write its last lines, on a thread of delivery's own, and wait for its report.

        Args:
            report_id: of the call.
            ending: writes the last lines and calls `submit` or `withdraw`. Whatever it raises is counted and logged.
        """
        self._inbox.expect(report_id)
        if not self._finisher.add(report_id, ending):
            self._try_again_later()

    def withdraw(self, report_id: str) -> None:
        """Wait no longer for a report that `end` announced."""
        self._inbox.withdraw(report_id)

    def pending(self) -> int:
        """Return how many reports are submitted, or left by an earlier process, and not yet settled."""
        return self._inbox.pending

    # -- starting threads ---------------------------------------------------------------------------------------

    def try_again(self) -> None:
        """Start the threads that could not be started a second ago."""
        self._trying_again = False
        self._start_or_later()

    def _start_or_later(self) -> None:
        if not self._start_threads():
            self._try_again_later()

    def _try_again_later(self) -> None:
        """Try again in a second, on this thread's event loop if there is one: starting a thread takes microseconds."""
        if self._trying_again:
            return
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            return
        self._trying_again = True
        known: weakref.ref[BaseSender] = weakref.ref(self)
        loop.call_later(TRY_AGAIN, _try_again, known)

    def _start_threads(self) -> bool:
        """Start what does not run; return whether everything does. Never raises."""
        finishing = self._finisher.start()
        with self._lock:
            if not self._runs() and not self._start_work():
                return False
        return self._start_exit_watch() and finishing

    @abstractmethod
    def _runs(self) -> bool:
        """Return whether there are threads at work."""

    @abstractmethod
    def _start_work(self) -> bool:
        """Start the threads that bring reports away; return whether they run."""

    @abstractmethod
    def _work_here(self, until: float) -> None:
        """Bring reports away on this thread, until then at the most."""

    @abstractmethod
    def _stop_work(self, until: float) -> None:
        """End the threads, and wait for them until then; say what is left."""

    # -- waiting and ending -------------------------------------------------------------------------------------

    @abstractmethod
    def flush(self, timeout: float) -> bool:
        """Wait until nothing is left to do, so many seconds at the most; return whether that is so."""

    def left(self, timeout: float) -> float:
        """Return how many of these seconds the end of the process has left."""
        return max(0.0, self._budget.until(timeout) - self._clock())

    def close(self, timeout: float) -> bool:
        """Flush, then end the threads. A later report starts them again; twice is allowed.

        Where no thread can be started, as at the end of a process since Python 3.12, this one does the work.

        However often it is called, all closing and the end of the process share one budget of ``flush_timeout``,
        until another call is recorded.

        Args:
            timeout: seconds for both.

        Returns:
            Whether nothing is left undelivered; what is left is said in one log line, and stays in the store.
        """
        until = self._budget.until(timeout)
        self._finisher.drain(max(0.0, until - self._clock()))
        if self.pending() and not self._start_threads() and not self._runs():
            self._work_here(until)
        done = self.flush(until - self._clock())
        self._stop_work(until)
        self._finisher.stop()
        return done

    def _say_what_is_left(self, how: str, lost: int, place: str, then: str = "the next start") -> None:
        left = self.pending()
        if left in (0, self._said_left):  # closing again, as the end of the process does, is no news
            return
        self._said_left = left
        if left > lost:
            text = "reports %s: %d; they wait in %s for %s"
            say(self._counters, logging.WARNING, text, how, left - lost, place, then)
        if lost:
            text = "reports %s: %d; only memory has them: they are lost when the process ends"
            say(self._counters, logging.ERROR, text, how, lost)

    def at_exit(self) -> None:
        """Use what is left of the time for the end of the process; a bonus, since many servers never come here."""
        if self.pending():
            self.close(self._flush_timeout)

    def let_go(self) -> None:
        """End the threads as soon as nothing is left to do: nobody holds the client any more. Takes no lock."""
        self._orphaned = True

    def reset_after_fork(self) -> None:
        """Own nothing in a forked child."""
        self._set_up()

    # -- the end of the process ---------------------------------------------------------------------------------

    def _start_exit_watch(self) -> bool:
        """Start the exit watch, if it does not run and the main thread does; return whether all is well."""
        with self._lock:
            if self._watched or not threading.main_thread().is_alive():
                return True
            self._watched = True  # before it runs: it may end at once
            watch = threading.Thread(target=self._watch_exit, name="bluejay_ws-exit", daemon=False)
            if not started(watch, self._counters):
                self._watched = False
            return self._watched

    def _watch_exit(self) -> None:
        main = threading.main_thread()
        while main.is_alive() and self._runs():
            main.join(WATCH_POLL)
            self.watch()
        if not main.is_alive():
            self._see_off()
        self._watched = False

    def watch(self) -> None:  # noqa: B027 - there may be nothing to do
        """Do what is to be done twice a second; called by the exit watch."""

    @abstractmethod
    def _see_off(self) -> None:
        """Wait for what is under way at the end of the process, within the budget."""


class Sender(BaseSender):
    """Deliver reports in the background, from this process.

    Args:
        settings: see `Settings`.
        store: where reports wait; None keeps them in memory only.
        counters: where everything is counted.
        make_client: makes an HTTP client, on the thread that is going to use it; default: the real one.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        store: Store | None,
        counters: Counters,
        make_client: Callable[[], Exchange] | None = None,
    ) -> None:
        self._settings = settings
        self._store: Store = Store() if store is None else store
        self._make_client = make_client or self._http_client
        self._timeout = settings.timeout
        self._verifier = Verifier(counters, after=settings.verify or 0.0)
        super().__init__(counters, settings.flush_timeout)

    def _set_up(self) -> None:
        super()._set_up()
        self._clients = HttpClients(self._settings, self._counters)
        self._workers: Workers | None = None
        self._recovered_once = False
        delivered = None if self._settings.verify is None else self._verifier.expect
        self._inbox = self._queue = Queue(Context(self._settings, self._counters, delivered=delivered), self._store)

    # -- waiting and ending -------------------------------------------------------------------------------------

    def flush(self, timeout: float) -> bool:
        """Wait until nothing is undelivered; what waits without need gets its next attempt within a second.

        Returns early where waiting is of no use: the key is missing or refused, the configuration is wrong (without a
        spool these are tried again all the same), or the platform asked for a longer wait.
        """
        if not self._queue.pending:
            return True
        until = self._clock() + timeout
        tried_at, pause = float("-inf"), FIRST_POLL
        while self._queue.pending and self._clock() < until:
            if self._clock() - tried_at >= TRY_AGAIN:
                tried_at = self._clock()
                self._start_threads()
                self._queue.pull_in()
            if self._queue.is_useless(until):
                break
            time.sleep(pause)
            pause = min(POLL, pause * 2)
        return not self._queue.pending

    def close(self, timeout: float) -> bool:
        """Do what `BaseSender.close` does; what was to be verified is not, and counted."""
        self._verifier.close()  # no worker is to hang in a look while reports wait
        done = super().close(timeout)
        self._verifier.close()
        return done

    def _stop_work(self, until: float) -> None:
        with self._lock:
            workers, self._workers = self._workers, None
        if workers is not None:
            workers.stop(max(0.0, until - self._clock()))
            then = f"you to send them: {SEND_APART}" if self._settings.apart else "the next start"
            self._say_what_is_left("undelivered", self._queue.unsaved, self._store.place, then)

    def reset_after_fork(self) -> None:
        """Own nothing in a forked child: files, queue and threads are the parent's."""
        self._store.reset_after_fork()
        self._counters.reset_after_fork()
        self._verifier.reset_after_fork()
        super().reset_after_fork()

    # -- inside -------------------------------------------------------------------------------------------------

    def _runs(self) -> bool:
        return self._workers is not None

    def _start_work(self) -> bool:
        workers = self._new_workers(self._chores())
        if workers.start():
            self._workers = workers
        return self._workers is workers

    def _new_workers(self, chores: list[Chore]) -> Workers:
        return Workers(
            self._queue, make_client=self._make_client, chores=chores, clock=self._clock, counters=self._counters
        )

    def _http_client(self) -> Exchange:
        return self._clients(self._timeout)

    def _chores(self) -> list[Chore]:
        always = [Chore(self._mind, SYNC_EVERY)]
        if not self._store.lasts:
            return always
        return [
            *always,
            Chore(self._recover, RECOVER_EVERY),
            Chore(self._store.sync, SYNC_EVERY),
            Chore(self._store.tidy, TIDY_EVERY),
        ]

    def _mind(self) -> None:
        """End everything if nobody needs it any more; start what could not be started; have looked what is due."""
        self._have_looked()
        if self._orphaned and not self._queue.pending and not self._verifier.waiting:
            self.close(0.0)
        elif self._workers is not None:
            self._finisher.start()

    def _have_looked(self) -> None:
        """Let a worker make the look that is due, unless reports wait for one."""
        if self._verifier.due and self._queue.inbox.empty():
            self._queue.inbox.put(self._look)

    def _look(self, client: Exchange) -> None:
        if self._verifier.look(client):
            self._have_looked()

    def _recover(self) -> None:
        """Take over what dead processes left; at the start everything, later what nobody has touched for a while."""
        untouched = UNTOUCHED if self._recovered_once else 0.0
        self._recovered_once = True
        self._queue.recover(lambda: self._store.recover(untouched=untouched))

    def _see_off(self) -> None:
        """Wait for the workers at the end of the process, as long as it can be of use."""
        if self._workers is None:
            return
        self._verifier.close()
        until = self._budget.until(self._flush_timeout)
        self._finisher.drain(max(0.0, until - self._clock()))
        self.flush(until - self._clock())

    def _work_here(self, until: float) -> None:
        self._timeout = min(self._timeout, max(0.1, (until - self._clock()) / STEPS))  # no other thread ends one
        try:
            self._new_workers([]).work_here(until)
        finally:
            self._timeout = self._settings.timeout


def _try_again(sender: weakref.ref[BaseSender]) -> None:
    known = sender()
    if known is not None:
        known.try_again()


def preload(database: object) -> None:
    """Import the driver of a fleet's database now: a thread that does so during a call would hold the interpreter.

    On a running event loop nothing is done: somebody might be speaking there. A fork waits until the import is over.

    Args:
        database: where reports are handed to; None: nowhere, and nothing is to be imported.

    Raises:
        ConfigurationError: the driver is not installed.
    """
    if database is None:
        return
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        with _making:
            import_module("bluejay_ws.delivery.postgres").import_driver()


_senders: weakref.WeakSet[BaseSender] = weakref.WeakSet()
# Held while a client is made, or the driver of a database is imported. A fork waits for it: a child that is born in the
# middle of an import finds half a module, for ever.
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
os.register_at_fork(before=_before_fork, after_in_parent=_after_fork_in_parent, after_in_child=_after_fork_in_child)
