"""What is to be delivered, and when its next step is due: the sender's own book, without threads."""

from __future__ import annotations

import heapq
import itertools
from collections import deque
from typing import TYPE_CHECKING

from bluejay_ws.delivery.courier import Signal, Step
from bluejay_ws.delivery.part import Job

if TYPE_CHECKING:
    from collections.abc import Iterable

    from bluejay_ws.delivery.parcel import Parcel
    from bluejay_ws.delivery.schedule import Gate

__all__ = ["MEMORY_LIMIT", "Agenda"]

MEMORY_LIMIT = 64 * 1024 * 1024
"""Bytes of reports that are kept in memory only; beyond, the oldest are given up."""

_LINE_OVERHEAD = 40


class Agenda:
    """Keep one job for each call, and hand them out when they are due and the gate lets them pass.

    Not thread-safe: the sender calls it under its lock. Jobs that found the gate closed when they came are a stack
    of their own, and go before those that were tried; the last of them first, for somebody may be waiting for it.

    Args:
        gate: what is known of the platform as a whole.
    """

    def __init__(self, gate: Gate) -> None:
        self.gate = gate
        self.jobs: dict[str, Job] = {}
        self._waiting: list[tuple[float, int, Job]] = []
        self._fresh: deque[Job] = deque()
        self._tickets = itertools.count(1)
        self._sizes: dict[str, tuple[str, int]] = {}
        self._size = 0

    def admit(self, parcel: Parcel, now: float) -> Job | None:
        """Take a report in; return its job if that may take its first step now.

        Args:
            parcel: the report.
            now: monotonic seconds.
        """
        self._weigh(parcel)
        job = self.jobs.get(parcel.simulation_result_id)
        if job is not None:
            self._join(job, parcel, now)
            return None
        job = self.jobs[parcel.simulation_result_id] = Job(parcel.simulation_result_id)
        job.parcels[parcel.report_id] = parcel
        if self.gate.wait(now, fresh=True) > 0.0:
            self._fresh.append(job)
            return None
        return self._start(job)

    def adopt(self, identity: str, report_id: str, due: float) -> None:
        """Take in a file that an earlier process left; its next step is due then."""
        job = self.jobs.get(identity)
        if job is None:
            job = self.jobs[identity] = Job(identity, fresh=False, recovering=True, look_first=True)
            self._schedule(job, due, pinned=True)
        job.adopted.add(report_id)

    def take(self, now: float, limit: int) -> tuple[list[Job], float]:
        """Return up to ``limit`` jobs whose step may start now, and the seconds after which to ask again."""
        taken: list[Job] = []
        while len(taken) < limit:
            job, wait = self._next(now)
            if job is None:
                return taken, wait
            taken.append(self._start(job))
        return taken, 0.0

    def _next(self, now: float) -> tuple[Job | None, float]:
        if self._fresh:
            # Before a closed gate they are the probes; when it opens they join the ramp, or they would be a wave.
            wait = self.gate.wait(now, fresh=self.gate.reason is not None)
            return (self._fresh.pop(), 0.0) if wait <= 0.0 else (None, wait)
        while self._waiting and self._waiting[0][1] != self._waiting[0][2].ticket:
            heapq.heappop(self._waiting)
        if not self._waiting:
            return None, float("inf")
        due, _, job = self._waiting[0]
        wait = due - now
        if wait <= 0.0:
            wait = self.gate.wait(now, fresh=False)
        if wait > 0.0:
            return None, wait
        heapq.heappop(self._waiting)
        return job, 0.0

    def next_due(self, now: float) -> float:
        """Return the seconds until any job may take a step, at the earliest; infinity if none waits."""
        if self.gate.locked:
            return float("inf")
        if self._fresh or any(job.running for job in self.jobs.values()):
            return 0.0
        return max(0.0, min((job.due for job in self.jobs.values()), default=float("inf")) - now)

    def after(self, job: Job, step: Step, now: float, began: float | None = None) -> tuple[set[str], bool]:
        """Note what came of a job's step.

        Args:
            job: whose.
            step: what came of it.
            now: monotonic seconds.
            began: when it began; default now.

        Returns:
            The report ids that are settled now, and whether the platform came back with this step.
        """
        job.running = False
        came_back = self._heed(step, now, now if began is None else began)
        settled: set[str] = set()
        if step.wait is None:
            settled = self._settle(job)
        else:
            self._schedule(job, now + step.wait, pinned=step.pinned)
        if job.arrivals:
            arrivals, job.arrivals = job.arrivals, {}
            self._welcome(job, arrivals.values(), now)
        return settled, came_back

    def pull_in(self, now: float) -> None:
        """Make everything due that waits without need, because the platform is back or time is running out."""
        for job in self.jobs.values():
            if not job.running and not job.fresh and not job.pinned and job.due > now:
                self._schedule(job, now, pinned=False)

    def evict(self, limit: int = MEMORY_LIMIT) -> list[tuple[str, str]]:
        """Give up the oldest reports in memory until the rest fits; return their calls' and report ids."""
        evicted = []
        for report_id, (identity, _) in list(self._sizes.items()):
            job = self.jobs.get(identity)
            if self._size <= limit:
                break
            if job is None or job.running:
                continue
            self._forget(report_id)
            job.parcels.pop(report_id, None)
            evicted.append((identity, report_id))
            if not job.parcels and not job.adopted:
                self._drop(job)
        return evicted

    def stored(self, job: Job) -> None:
        """Note which of a job's reports have found their way into a file after all."""
        for report_id, parcel in job.parcels.items():
            if parcel.bodies is None:
                self._forget(report_id)

    def _start(self, job: Job) -> Job:
        job.running = True
        job.fresh = job.recovering = False
        return job

    def _join(self, job: Job, parcel: Parcel, now: float) -> None:
        """Add a later connection of a call to the job that carries the earlier one."""
        if job.running:
            job.arrivals[parcel.report_id] = parcel
        else:
            job.parcels[parcel.report_id] = parcel
            if job.recovering:
                self._own(job)
            if not job.fresh and not job.pinned:
                self._schedule(job, now, pinned=False)

    def _own(self, job: Job) -> None:
        """End the wait of a recovery that found a report between the end of its call and its coming here."""
        job.recovering = job.pinned = False
        job.look_first = not job.adopted <= job.parcels.keys()

    def _welcome(self, job: Job, parcels: Iterable[Parcel], now: float) -> None:
        current = self.jobs.setdefault(job.identity, Job(job.identity))
        for parcel in parcels:
            current.parcels[parcel.report_id] = parcel
        if current is not job:
            self._fresh.append(current)
        elif not current.pinned:
            self._schedule(current, now, pinned=False)

    def _heed(self, step: Step, now: float, began: float) -> bool:
        if step.signal is Signal.PASSED:
            return self.gate.passed(now)
        if step.signal is Signal.READABLE:
            self.gate.half_passed(now)
        elif step.signal is Signal.FAILED:
            self.gate.failed(now, step.reason, began)
        elif step.signal is Signal.HOLD:
            self.gate.hold(now, step.reason)
        else:
            self.gate.unused()
        return False

    def _schedule(self, job: Job, due: float, *, pinned: bool) -> None:
        job.due, job.pinned, job.ticket = due, pinned, next(self._tickets)
        heapq.heappush(self._waiting, (due, job.ticket, job))

    def _settle(self, job: Job) -> set[str]:
        del self.jobs[job.identity]
        for report_id in job.parcels:
            self._forget(report_id)
        return {*job.parcels, *job.adopted}

    def _drop(self, job: Job) -> None:
        del self.jobs[job.identity]
        job.ticket = -1
        if job in self._fresh:
            self._fresh.remove(job)

    def _weigh(self, parcel: Parcel) -> None:
        if parcel.bodies is not None:
            size = sum(len(body) + _LINE_OVERHEAD for body in parcel.bodies)
            self._sizes[parcel.report_id] = (parcel.simulation_result_id, size)
            self._size += size

    def _forget(self, report_id: str) -> None:
        self._size -= self._sizes.pop(report_id, ("", 0))[1]
