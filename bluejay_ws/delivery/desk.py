"""What delivery's threads share: the queue in, the agenda under its lock, and the reports not yet settled."""

from __future__ import annotations

import logging
import queue
import threading
import time
from typing import TYPE_CHECKING

from bluejay_ws.delivery.agenda import Agenda
from bluejay_ws.delivery.courier import Courier, Exchange, Signal, Step
from bluejay_ws.delivery.notices import Notices
from bluejay_ws.delivery.parcel import Parcel
from bluejay_ws.delivery.part import Job
from bluejay_ws.delivery.schedule import Gate

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from bluejay_ws.delivery.names import Name
    from bluejay_ws.delivery.spool import Spool
    from bluejay_ws.settings import Settings
    from bluejay_ws.stats import Counters

__all__ = ["Desk", "Item"]

AFTER_ERROR = 5.0
INLINE_PAUSE = 0.1

Item = Parcel | Job


class Desk:
    """Take reports in, take their steps, and know what is left.

    Args:
        settings: see `Settings`.
        spool: where the files are, or None.
        counters: where everything is counted.
        clock: monotonic seconds.
        wall: Unix time, in seconds.
        random: returns a float in [0, 1).
        wake: called when something may be due earlier than was known.
    """

    def __init__(
        self,
        settings: Settings,
        spool: Spool | None,
        *,
        counters: Counters,
        clock: Callable[[], float],
        wall: Callable[[], float],
        random: Callable[[], float],
        wake: Callable[[], None],
    ) -> None:
        self.inbox: queue.SimpleQueue[object] = queue.SimpleQueue()
        self.pending: dict[str, bool] = {}  # by report id; false: it is expected, and not here yet
        self.notices = Notices(clock, counters)
        self._counters = counters
        self._clock = clock
        self._wake = wake
        self._lock = threading.Lock()
        self._settled: set[str] | None = None
        self._telling = 0
        self._agenda = Agenda(Gate(random))
        self._courier = Courier(
            settings, spool, counters=counters, notices=self.notices, clock=clock, wall=wall, random=random
        )
        if settings.api_key is None:
            self._agenda.gate.lock("no API key")

    def put(self, parcel: Parcel) -> None:
        """Take a report in, on the agent's loop: takes no lock and wakes one waiting thread."""
        self.pending[parcel.report_id] = True
        self.inbox.put(parcel)

    def expect(self, report_id: str) -> None:
        """Count a report as undelivered that is about to be put in."""
        self.pending[report_id] = False

    def withdraw(self, report_id: str) -> None:
        """Count a report no more that was expected and does not come."""
        if self.pending.get(report_id) is False:
            del self.pending[report_id]

    @property
    def held_back(self) -> str | None:
        """Why nothing at all can be delivered: the key or the configuration; None if nothing is known to be wrong.

        Also None while a step is under way, or what came of it has not been logged yet.
        """
        with self._lock:
            gate = self._agenda.gate
            under_way = self._telling or any(job.running for job in self._agenda.jobs.values())
            return gate.reason if gate.held and not under_way else None

    def handle(self, item: Item, exchange: Exchange) -> None:
        """Take the step that is due for a report or a job; never raises."""
        job = self._admit(item) if isinstance(item, Parcel) else item
        if job is None:
            self._wake()
            return
        began = self._clock()
        try:
            step = self._courier.step(job, exchange)
        except Exception as error:  # noqa: BLE001 - one report's trouble must not end the thread all depend on
            self._counters.add(f"errors.delivery.{type(error).__name__}")
            text = f"delivery failed by an error of its own ({type(error).__name__}), trying again"
            self.notices.trouble(logging.ERROR, "error", job.identity, text)
            step = Step(AFTER_ERROR, pinned=True)
        self._after(job, step, began)

    def due(self, limit: int) -> tuple[list[Job], float]:
        """Return up to ``limit`` jobs that may take a step now, and the seconds after which to ask again."""
        with self._lock:
            return self._agenda.take(self._clock(), limit)

    def next_due(self) -> float:
        """Return the seconds until anything can be delivered at the earliest; 0.0 if something is under way."""
        if not self.inbox.empty():
            return 0.0
        with self._lock:
            due = self._agenda.next_due(self._clock())
            # A worker that has just taken a report from the queue has it in neither place: that is under way too.
            between = due == float("inf") and self.pending and not self._agenda.gate.locked
        return 0.0 if between else due

    def recover(self, scan: Callable[[], Iterable[Name]], wait: float) -> None:
        """Take in files that earlier processes left; their first step is due after ``wait`` seconds.

        Args:
            scan: returns their names; what this process submits or settles meanwhile is not taken for left.
            wait: seconds.
        """
        settled: set[str] = set()
        with self._lock:
            self._settled = settled
        for name in scan():
            with self._lock:
                if name.report_id not in self.pending and name.report_id not in settled:
                    self.pending[name.report_id] = True
                    self._agenda.adopt(name.identity, name.report_id, self._clock() + wait)
        with self._lock:
            self._settled = None
        self._wake()

    def pull_in(self) -> None:
        """Make due what waits without need."""
        with self._lock:
            self._agenda.pull_in(self._clock())
        self._wake()

    def work_inline(self, exchange: Exchange, seconds: float) -> None:
        """Deliver on this thread, where no other can be started, for so long at most."""
        until = self._clock() + seconds
        while self.pending and self._clock() < until:
            while not self.inbox.empty() and self._clock() < until:
                item = self.inbox.get()
                if isinstance(item, Parcel | Job):
                    self.handle(item, exchange)
            jobs, wait = self.due(1)
            for job in jobs:
                self.handle(job, exchange)
            if not jobs:
                time.sleep(max(0.0, min(wait, INLINE_PAUSE, until - self._clock())))

    def _admit(self, parcel: Parcel) -> Job | None:
        with self._lock:
            job = self._agenda.admit(parcel, self._clock())
            evicted = self._agenda.evict()
        for identity, report_id in evicted:
            self.pending.pop(report_id, None)
            self._counters.add("dropped.memory_full")
            text = "report is lost: too many wait in memory, and the spool cannot be written"
            self.notices.trouble(logging.ERROR, "memory_full", identity, text)
        return job

    def _after(self, job: Job, step: Step, began: float) -> None:
        with self._lock:
            was_open = self._agenda.gate.reason is None
            arrived = bool(job.arrivals)
            self._agenda.stored(job)
            settled, came_back = self._agenda.after(job, step, self._clock(), began)
            if came_back:
                self._agenda.pull_in(self._clock())
            closed = was_open and self._agenda.gate.reason is not None
            for report_id in settled:
                self.pending.pop(report_id, None)
            if self._settled is not None:
                self._settled |= settled
            self._telling += 1
        self._tell(step, came_back=came_back, closed=closed)
        with self._lock:
            self._telling -= 1
        if step.wait is not None or came_back or arrived:
            self._wake()

    def _tell(self, step: Step, *, came_back: bool, closed: bool) -> None:
        waiting = len(self.pending)
        if came_back:
            self.notices.say(logging.INFO, f"the platform takes reports again; {waiting} waiting")
        elif closed and step.signal is Signal.HOLD:
            text = f"no report can be delivered ({step.reason}); {waiting} waiting, trying again now and then"
            self.notices.say(logging.ERROR, text)
        elif closed:
            text = f"the platform does not take reports ({step.reason}); {waiting} waiting, trying again until it does"
            self.notices.say(logging.WARNING, text)
