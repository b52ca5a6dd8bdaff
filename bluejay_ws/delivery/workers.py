"""The threads that deliver: a scheduler that minds the time, workers that make the attempts, one that ends calls.

Where a thread cannot be started (a limit of processes, no address space), it is tried again each second.
"""

from __future__ import annotations

import contextlib
import logging
import queue
import threading
import time
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING

from bluejay_ws.delivery.attempt import Delivery, Exchange
from bluejay_ws.delivery.outcomes import Failure, Phase
from bluejay_ws.delivery.store import Report
from bluejay_ws.interrupts import of_a_value
from bluejay_ws.log import say_seldom
from bluejay_ws.stats import started

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from bluejay_ws.delivery.queue import Queue
    from bluejay_ws.stats import Counters

# One is gentlest to the agent's loop, which competes for the interpreter; more are started while the platform is slow.
WORKERS = 1
WORKERS_MOST = 8
THREADS_MOST = 32
SLOW_EXCHANGE = (
    0.02  # longer than the work of an exchange: such a worker waits for the network, not for the interpreter
)
STUCK_EXCHANGE = 3.0
TICK = 1.0
BUSY_TICK = 0.05
WATCH_TICK = 0.25
IDLE_SECONDS = 10.0

# The interpreter runs one thread at a time: a crowd's own sockets are to be closed before its calls are ended, ...
CROWD = 5
LET_PASS = 0.05
LET_PASS_MOST = 0.5
# ... and then the thread rests for several times as long as it has worked. Each rest costs the machine more than an
# ending does, and the files that an ending writes to let the loop in anyway: there is one for several endings.
SLICE = 0.001
REST = 3.0
# Whoever drains waits so long at least for the ending that is under way: it takes much less, unless the disk hangs.
LEAST_WAIT = 0.1


class NoClient:
    """Stand in where no HTTP client can be made, such as for a certificate file that is not there.

    Args:
        error: why; its ``detail``, if it has one, says what to check.
    """

    def __init__(self, error: Exception) -> None:
        detail = str(getattr(error, "detail", ""))
        self._failure = Failure(Phase.CONFIGURATION, f"no_http_client_{type(error).__name__}", detail)

    def post(self, body: bytes) -> Failure:
        """Return why nothing can be sent."""
        del body
        return self._failure

    def look(self, simulation_result_id: str) -> Failure:
        """Return why nothing can be read."""
        del simulation_result_id
        return self._failure

    def abort_if_late(self, now: float) -> None:
        """Do nothing."""

    def close(self) -> None:
        """Do nothing."""


def made(make_client: Callable[[], Exchange], counters: Counters) -> Exchange:
    """Return a client for a thread; where none can be made, what says so in its place. Never raises."""
    try:
        return make_client()
    except Exception as error:  # noqa: BLE001 - becomes the outcome of every exchange: it is logged and tried again
        counters.add(f"errors.delivery.{type(error).__name__}")
        return NoClient(error)


@dataclass(slots=True)
class Chore:
    """Something to be done now and then, by the scheduler.

    Args:
        run: what; may raise.
        every: seconds.
        due: monotonic seconds of the next time.
    """

    run: Callable[[], object]
    every: float
    due: float = float("-inf")


class Budget:
    """Share one time for the end: all closing, and the end of the process, take no longer together.

    Args:
        seconds: of the whole.
        clock: monotonic seconds.
    """

    def __init__(self, seconds: float, clock: Callable[[], float]) -> None:
        self._seconds = seconds
        self._clock = clock
        self._end_by: float | None = None

    def renew(self) -> None:
        """Make it whole again: another call is recorded."""
        self._end_by = None

    def until(self, timeout: float) -> float:
        """Return when to stop waiting.

        Args:
            timeout: seconds that this one wait may take; the first may take longer than the whole.
        """
        now = self._clock()
        if self._end_by is None:
            self._end_by = now + max(timeout, self._seconds)
        return min(now + timeout, max(self._end_by, now))


class Finisher:
    """Write the last lines of calls that are over, in the order in which they ended, on a thread of its own.

    The agent's loop only notes that a call has ended. A crowd that hangs up together is let pass first.

    Args:
        counters: where an ending that fails is counted.
        failed: called with the report id of such an ending.
    """

    def __init__(self, counters: Counters, failed: Callable[[str], object]) -> None:
        self._counters = counters
        self._failed = failed
        self._waiting: deque[tuple[str, Callable[[], None]]] = deque()
        self._bell: queue.SimpleQueue[None] = queue.SimpleQueue()
        self._working = threading.RLock()
        self._starting = threading.Lock()
        self._thread: threading.Thread | None = None

    def add(self, report_id: str, ending: Callable[[], None]) -> bool:
        """Have ``ending`` run soon; return whether there is a thread for it. Takes microseconds."""
        self._waiting.append((report_id, ending))
        self._bell.put(None)
        return self._thread is not None or self.start()

    def start(self) -> bool:
        """Start the thread if it does not run; return whether it does. Never raises."""
        with self._starting:
            if self._thread is not None:  # it takes itself away when it ends
                return True
            self._thread = threading.Thread(target=self._work, name="bluejay_ws-finisher", daemon=True)
            if not started(self._thread, self._counters):
                self._thread = None
                return False
        return True

    def drain(self, seconds: float) -> None:
        """Run what waits on this thread, and wait so long at most for what the other one is at."""
        until = time.monotonic() + max(seconds, LEAST_WAIT)
        while self._working.acquire(timeout=max(0.0, until - time.monotonic())):
            try:
                if not self._waiting:
                    return
                self._run_one()
            finally:
                self._working.release()

    def stop(self) -> None:
        """Let the thread end once nothing waits."""
        thread, self._thread = self._thread, None
        if thread is not None:
            self._bell.put(None)

    def _work(self) -> None:
        mine = threading.current_thread()
        try:
            while self._thread is mine:
                self._bell.get()
                if len(self._waiting) > CROWD:
                    self._let_the_crowd_pass()
                self._run_all()
        finally:
            if self._thread is mine:
                self._thread = None

    def _let_the_crowd_pass(self) -> None:
        until = time.monotonic() + LET_PASS_MOST
        seen = 0
        while seen < (seen := len(self._waiting)) and time.monotonic() < until:
            time.sleep(LET_PASS)

    def _run_all(self) -> None:
        began = time.monotonic()
        while self._waiting:
            with self._working:
                if self._waiting:
                    self._run_one()
            took = time.monotonic() - began
            if took > SLICE and self._waiting:
                time.sleep(took * REST)
                began = time.monotonic()

    def _run_one(self) -> None:
        report_id, ending = self._waiting.popleft()
        try:
            ending()
        except BaseException as error:  # a value's own code may raise anything, such as SystemExit
            self._counters.add("internal_error.end")
            self._failed(report_id)
            text = "a call's last lines could not be written (%s); its report is kept for the next start"
            say_seldom(self._counters, logging.ERROR, text, type(error).__name__)
            if not of_a_value(error):
                raise  # Ctrl-C on the main thread, which waits for the last lines


class Worker:
    """A daemon thread that makes attempts until it is stopped or is not needed any more.

    Args:
        pool: that it belongs to.
    """

    __slots__ = ("_pool", "busy_since", "client", "thread")

    def __init__(self, pool: Workers) -> None:
        self._pool = pool
        self.busy_since: float | None = None
        self.client: Exchange | None = None
        self.thread = threading.Thread(target=self._run, name="bluejay_ws-worker", daemon=True)

    def _run(self) -> None:
        self.client = self._pool.make_client()
        try:
            while self._work():
                pass
        finally:
            self._pool.leave(self)
            self.client.close()

    def _work(self) -> bool:
        try:
            item = self._pool.queue.inbox.get(timeout=self._pool.idle)
        except queue.Empty:
            return not self._pool.leave(self, at_least=WORKERS)
        if isinstance(item, Workers):
            return item is not self._pool
        self.busy_since = self._pool.clock()
        if self.client is None or isinstance(self.client, NoClient):
            self.client = self._pool.make_client()
        if not self._pool.queue.inbox.empty():
            self._pool.look_soon()
        self._pool.do(item, self.client)
        self.busy_since = None
        return True


class Workers:
    """One scheduler and its workers.

    Args:
        work: what they share.
        make_client: makes a worker's client, on its thread.
        chores: what is to be done now and then.
        clock: monotonic seconds.
        counters: where trouble is counted.
        idle: seconds after which a worker that is not needed any more ends.
    """

    def __init__(
        self,
        work: Queue,
        *,
        make_client: Callable[[], Exchange],
        chores: Sequence[Chore],
        clock: Callable[[], float],
        counters: Counters,
        idle: float = IDLE_SECONDS,
    ) -> None:
        self.queue = work
        self.clock = clock
        self.idle = idle
        self._stopped = False
        self._rests = True
        self._make_client = make_client
        self._chores = chores
        self._counters = counters
        self._lock = threading.Lock()
        self._workers: list[Worker] = []
        self._scheduler = threading.Thread(target=self._schedule, name="bluejay_ws-scheduler", daemon=True)

    def start(self) -> bool:
        """Start the scheduler, which starts the workers; return whether there is a thread for it."""
        return started(self._scheduler, self._counters)

    def look_soon(self) -> None:
        """Let the scheduler see whether more workers are needed, if it does not do so by itself."""
        if self._rests:
            self._rests = False
            self.queue.wake()

    def stop(self, seconds: float) -> None:
        """Let the threads end, and wait for them so long at most."""
        self._stopped = True
        self.queue.wake()
        until = self.clock() + seconds
        threads = (self._scheduler, *(worker.thread for worker in list(self._workers)))
        for _ in threads:  # all before the first wait: whichever worker takes one ends, not the one that is waited for
            self.queue.inbox.put(self)
        for thread in threads:
            if thread.ident is not None and thread is not threading.current_thread():
                thread.join(max(0.0, until - self.clock()))

    def work_here(self, until: float) -> None:
        """Do the work on this thread, until nothing can be done or it is too late; instead of `start`."""
        client = self.make_client()
        try:
            while self.queue.pending and not self.queue.is_useless(until):
                left = until - self.clock()
                deliveries, due = self.queue.due(1)
                for delivery in deliveries:
                    self.queue.inbox.put(delivery)
                self._handle_one(client, min(left, max(0.001, due), TICK))
        finally:
            client.close()

    def _handle_one(self, client: Exchange, wait: float) -> None:
        with contextlib.suppress(queue.Empty):
            self.do(self.queue.inbox.get(timeout=wait), client)

    def do(self, item: object, client: Exchange) -> None:
        """Make the attempt that is due for a report or a delivery, or the look that is; never raises."""
        if isinstance(item, Report | Delivery):
            self.queue.handle(item, client)
        elif callable(item):
            item(client)

    def make_client(self) -> Exchange:
        """Return a client for a worker; never raises."""
        return made(self._make_client, self._counters)

    def leave(self, worker: Worker, *, at_least: int = 0) -> bool:
        """Take a worker off the list if so many others remain, or all are to end; return whether its thread may."""
        with self._lock:
            spare = self._stopped or len(self._workers) > at_least
            if spare and worker in self._workers:
                self._workers.remove(worker)
            return spare

    def _failed(self, error: Exception) -> None:
        self._counters.add(f"errors.delivery.{type(error).__name__}")

    def _schedule(self) -> None:
        """Run until stopped. The workers come first: the first of them builds what a report needs to leave at once."""
        while not self._stopped:
            try:
                wait = self._round()
            except Exception as error:  # noqa: BLE001 - the scheduler is what everything depends on
                self._failed(error)
                wait = TICK
            self._rests = wait > BUSY_TICK
            self.queue.wait(wait)

    def _round(self) -> float:
        """Hand out what is due; return the seconds after which to look again."""
        now = self.clock()
        if len(self._workers) < WORKERS:
            self._hire()
        self._do_chores(now)
        wait = min((chore.due - now for chore in self._chores), default=TICK)
        room = max(0, 2 * len(self._workers) - self.queue.inbox.qsize())
        deliveries, due = self.queue.due(room) if room else ([], BUSY_TICK if self._workers else TICK)
        for delivery in deliveries:
            self.queue.inbox.put(delivery)
        if self._mind_workers(now):
            wait = min(wait, WATCH_TICK)
        if self._workers and not self.queue.inbox.empty():
            wait = min(wait, BUSY_TICK)
        return min(wait, due, TICK)

    def _do_chores(self, now: float) -> None:
        for chore in self._chores:
            if chore.due <= now:
                chore.due = now + chore.every
                try:
                    chore.run()
                except Exception as error:  # noqa: BLE001 - housekeeping must not end the thread all depend on
                    self._failed(error)

    def _mind_workers(self, now: float) -> bool:
        """End exchanges that take too long, and start workers where all wait for the platform.

        Returns:
            Whether any worker is busy.
        """
        workers = list(self._workers)
        for worker in workers:
            if worker.client is not None:
                worker.client.abort_if_late(now)
        waits = [now - since for since in (worker.busy_since for worker in workers) if since is not None]
        all_wait = len(waits) == len(workers) and any(wait > SLOW_EXCHANGE for wait in waits)
        # Those that are stuck in an exchange are not counted: a call that ends now must not wait for them.
        room = sum(wait <= STUCK_EXCHANGE for wait in waits) < WORKERS_MOST and len(workers) < THREADS_MOST
        if all_wait and room and not self.queue.inbox.empty():
            self._hire()
        return bool(waits)

    def _hire(self) -> None:
        worker = Worker(self)
        with self._lock:
            self._workers.append(worker)
        if not started(worker.thread, self._counters):  # the next round tries again
            self.leave(worker)
