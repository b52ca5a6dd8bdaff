"""The threads that deliver: a keeper that minds the time, and workers that take the steps."""

from __future__ import annotations

import contextlib
import logging
import queue
import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from bluejay_ws.delivery.parcel import Parcel
from bluejay_ws.delivery.part import Job
from bluejay_ws.delivery.verdict import Answer, Failure, Phase

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from bluejay_ws.delivery.desk import Desk

__all__ = ["Chore", "Client", "Crew"]

logger = logging.getLogger("bluejay_ws")

# One is gentlest to the agent's loop, which competes for the interpreter; more are hired while the platform is slow.
WORKERS = 1
WORKERS_MOST = 8
THREADS_MOST = 32
SLOW_EXCHANGE = 0.1
STUCK_EXCHANGE = 3.0
TICK = 1.0
BUSY_TICK = 0.05
WATCH_TICK = 0.25
IDLE_SECONDS = 10.0


class Client(Protocol):
    """An exchange with what its thread needs of it; `bluejay_ws.delivery.http.HttpExchange` is one."""

    def post(self, body: bytes) -> Answer | Failure:
        """Send a report."""
        ...

    def look(self, simulation_result_id: str) -> Answer | Failure:
        """Read a result back."""
        ...

    def abort_if_late(self, now: float) -> None:
        """End an exchange that takes too long."""

    def close(self) -> None:
        """Close the connections."""


class NoClient:
    """Stand in where no HTTP client can be made, such as for a certificate file that is not there."""

    def __init__(self, error: Exception) -> None:
        self._failure = Failure(Phase.CONFIGURATION, f"no_http_client_{type(error).__name__}")

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


@dataclass(slots=True)
class Chore:
    """Something to be done now and then, by the keeper.

    Args:
        run: what; may raise, and return the seconds until the next time where that is not to be ``every``.
        every: seconds.
        due: monotonic seconds of the next time.
    """

    run: Callable[[], float | None]
    every: float
    due: float = float("-inf")


class Worker:
    """A daemon thread that takes steps until it is told to stop or is not needed any more.

    Args:
        crew: the crew it belongs to.
    """

    __slots__ = ("_crew", "busy_since", "client", "thread")

    def __init__(self, crew: Crew) -> None:
        self._crew = crew
        self.busy_since: float | None = None
        self.client: Client | None = None
        self.thread = threading.Thread(target=self._run, name="bluejay_ws-worker", daemon=True)

    def _run(self) -> None:
        self.client = self._crew.make_client()
        try:
            while self._work():
                pass
        finally:
            self._crew.leave(self)
            self.client.close()

    def _work(self) -> bool:
        if self.client is None or isinstance(self.client, NoClient):
            self.client = self._crew.make_client()
        client = self.client
        try:
            item = self._crew.desk.inbox.get(timeout=self._crew.idle)
        except queue.Empty:
            return not self._crew.spare
        if isinstance(item, Crew):
            return item is not self._crew
        self.busy_since = self._crew.clock()
        if not self._crew.desk.inbox.empty():
            self._crew.wake()
        if isinstance(item, Parcel | Job):
            self._crew.desk.handle(item, client)
        self.busy_since = None
        return True


class Crew:
    """One keeper and its workers.

    Args:
        desk: what they share.
        make_client: makes a worker's client, on its thread.
        chores: what is to be done now and then.
        clock: monotonic seconds.
        failed: called with a chore's error.
        idle: seconds after which a worker that is not needed any more ends.
    """

    def __init__(
        self,
        desk: Desk,
        *,
        make_client: Callable[[], Client],
        chores: Sequence[Chore],
        clock: Callable[[], float],
        failed: Callable[[Exception], object],
        idle: float = IDLE_SECONDS,
    ) -> None:
        self.desk = desk
        self.clock = clock
        self.idle = idle
        self.stopped = False
        self._make_client = make_client
        self._chores = chores
        self._failed = failed
        self._bell = threading.Lock()
        self._bell.acquire()
        self._workers: list[Worker] = []
        self._keeper = threading.Thread(target=self._keep, name="bluejay_ws-keeper", daemon=True)

    def start(self) -> None:
        """Start the keeper, which starts the workers.

        Raises:
            RuntimeError: no thread can be started any more, at the end of the interpreter.
        """
        self._keeper.start()

    def wake(self) -> None:
        """Let the keeper look again. Never waits."""
        with contextlib.suppress(RuntimeError):  # rung already
            self._bell.release()

    def stop(self, seconds: float) -> None:
        """Let the threads end, and wait for them so long at most."""
        self.stopped = True
        self.wake()
        until = self.clock() + seconds
        threads = (self._keeper, *(worker.thread for worker in list(self._workers)))
        for _ in threads:  # all before the first wait: whichever worker takes one ends, not the one that is waited for
            self.desk.inbox.put(self)
        for thread in threads:
            if thread.ident is not None and thread is not threading.current_thread():
                thread.join(max(0.0, until - self.clock()))

    def make_client(self) -> Client:
        """Return a client for a worker; never raises."""
        try:
            return self._make_client()
        except Exception as error:  # noqa: BLE001 - becomes the outcome of every exchange, and so is told and tried again
            self._failed(error)
            return NoClient(error)

    def leave(self, worker: Worker) -> None:
        """Take a worker off the list as its thread ends."""
        self._workers.remove(worker)

    @property
    def spare(self) -> bool:
        """Whether there are more workers than an idle process needs."""
        return len(self._workers) > WORKERS

    def _keep(self) -> None:
        """Run until stopped. The workers come first: the first of them builds what a report needs to leave at once."""
        for _ in range(WORKERS):
            self._hire()
        while not self.stopped:
            try:
                wait = self._round()
            except Exception as error:  # noqa: BLE001 - the keeper is what everything depends on
                self._failed(error)
                wait = TICK
            self._bell.acquire(timeout=max(0.001, wait))

    def _round(self) -> float:
        """Hand out what is due; return the seconds after which to look again."""
        now = self.clock()
        self._do_chores(now)
        wait = min((chore.due - now for chore in self._chores), default=TICK)
        room = max(0, 2 * len(self._workers) - self.desk.inbox.qsize())
        jobs, due = self.desk.due(room) if room else ([], BUSY_TICK)
        for job in jobs:
            self.desk.inbox.put(job)
        if self._mind_workers(now):
            wait = min(wait, WATCH_TICK)
        if not self.desk.inbox.empty():
            wait = min(wait, BUSY_TICK)
        return min(wait, due)

    def _do_chores(self, now: float) -> None:
        for chore in self._chores:
            if chore.due <= now:
                chore.due = now + chore.every
                try:
                    soon = chore.run()
                    chore.due = now + chore.every if soon is None else now + soon
                except Exception as error:  # noqa: BLE001 - housekeeping must not end the thread all depend on
                    self._failed(error)

    def _mind_workers(self, now: float) -> bool:
        """End exchanges that take too long, and hire where all workers wait for the platform.

        Returns:
            Whether any worker is busy.
        """
        since = [worker.busy_since for worker in list(self._workers)]
        for worker in list(self._workers):
            if worker.client is not None:
                worker.client.abort_if_late(now)
        waits = [now - start for start in since if start is not None]
        all_wait = len(waits) == len(since) and any(wait > SLOW_EXCHANGE for wait in waits)
        # Those that are stuck in an exchange are not counted: a call that ends now must not wait for them.
        room = sum(wait <= STUCK_EXCHANGE for wait in waits) < WORKERS_MOST and len(since) < THREADS_MOST
        if all_wait and room and not self.desk.inbox.empty():
            self._hire()
        return bool(waits)

    def _hire(self) -> None:
        worker = Worker(self)
        self._workers.append(worker)
        try:
            worker.thread.start()
        except RuntimeError:  # the interpreter is ending: those that run go on
            self._workers.remove(worker)
