"""What is to be delivered, and when its next attempt is due. One lock guards it; what takes long is done outside."""

from __future__ import annotations

import contextlib
import heapq
import itertools
import logging
import queue
import threading
from collections import deque
from typing import TYPE_CHECKING

from bluejay_ws.delivery.attempt import Attempts, Delivery, Exchange
from bluejay_ws.delivery.breaker import Breaker, Change
from bluejay_ws.delivery.outcomes import Decision, Platform, State
from bluejay_ws.delivery.store import Report
from bluejay_ws.log import say, say_seldom

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from bluejay_ws.delivery.attempt import Context
    from bluejay_ws.delivery.store import Found, Store

MEMORY_LIMIT = 64 * 1024 * 1024
"""Bytes of reports that are kept in memory only; beyond, the oldest are given up."""

AFTER_ERROR = 5.0
_LINE_OVERHEAD = 40

Item = Report | Delivery


class Queue:
    """Take reports in, hand out what is due as far as the breaker lets it pass, and know what is left.

    Fresh deliveries that found the breaker open are a stack of their own, and go before those that were tried; the
    last of them first, for somebody may be waiting for it.

    Args:
        context: see `Context`.
        store: where reports are kept.
    """

    def __init__(self, context: Context, store: Store) -> None:
        self.inbox: queue.SimpleQueue[object] = queue.SimpleQueue()
        self._pending: dict[str, bool] = {}  # by report id; false: it is expected, and not here yet
        self._counters = context.counters
        self._clock = context.clock
        self._lock = threading.Lock()
        self._bell = threading.Lock()
        self._bell.acquire()
        self._settled_meanwhile: set[str] | None = None
        self._saying = 0
        self._breaker = Breaker(context.random)
        self._deliveries: dict[str, Delivery] = {}
        self._waiting: list[tuple[float, int, Delivery]] = []
        self._fresh: deque[Delivery] = deque()
        self._tickets = itertools.count(1)
        self._sizes: dict[str, tuple[str, int]] = {}
        self._size = 0
        self._attempts = Attempts(context, store)
        self._lasts = store.lasts
        if context.settings.apart:
            self._breaker.lock(context.settings.apart)

    # -- from the agent's threads -------------------------------------------------------------------------------

    def put(self, report: Report) -> None:
        """Take a report in: takes no lock and wakes one waiting thread."""
        self._pending[report.report_id] = True
        self.inbox.put(report)

    def expect(self, report_id: str) -> None:
        """Count a report as undelivered that is about to be put in."""
        self._pending[report_id] = False

    def withdraw(self, report_id: str) -> None:
        """Count a report no more that was expected and does not come."""
        if self._pending.get(report_id) is False:
            del self._pending[report_id]

    @property
    def pending(self) -> int:
        """How many reports are expected, submitted, or left by an earlier process, and not settled."""
        return len(self._pending)

    @property
    def unsaved(self) -> int:
        """How many of them end with this process."""
        return len(self._sizes) if self._lasts else len(self._pending)

    @property
    def blocked(self) -> str | None:
        """Why nothing at all can be delivered: the key or the configuration; None if nothing is known to be wrong.

        Also None while an attempt is under way, or what came of it has not been logged yet.
        """
        with self._lock:
            breaker = self._breaker
            under_way = self._saying or any(one.running for one in self._deliveries.values())
            return breaker.reason if breaker.held and not under_way and self.inbox.empty() else None

    def wake(self) -> None:
        """Let the scheduler look again: something may be due earlier than was known. Never waits."""
        with contextlib.suppress(RuntimeError):  # rung already
            self._bell.release()

    # -- from the workers ---------------------------------------------------------------------------------------

    def wait(self, seconds: float) -> None:
        """Wait until somebody calls `wake`, so long at the most; for one thread."""
        self._bell.acquire(timeout=max(0.001, seconds))

    def handle(self, item: Item, exchange: Exchange) -> None:
        """Make the attempt that is due for a report or a delivery; never raises."""
        # It is saved now, as its first attempt may have to wait for the platform, and this process may end before.
        delivery = self._admit(self._attempts.saved(item)) if isinstance(item, Report) else item
        if delivery is None:
            self.wake()
            return
        began = self._clock()
        try:
            decision = self._attempts.attempt(delivery, exchange)
        except Exception as error:  # noqa: BLE001 - one report's trouble must not end the thread all depend on
            decision = self._failed(delivery, error)
        self._after(delivery, decision, began)

    def _failed(self, delivery: Delivery, error: Exception) -> Decision:
        kind, name = type(error).__name__, delivery.simulation_result_id
        self._counters.add(f"errors.delivery.{kind}")
        text = "call %s: delivery failed by an error of its own (%s), trying again"
        key = ("delivery", kind)
        say_seldom(self._counters, logging.ERROR, text, name, kind, key=key, simulation_result_id=name)
        return Decision(State.WAITING, AFTER_ERROR, Platform.UNHEARD, "error", pinned=True)

    def due(self, limit: int) -> tuple[list[Delivery], float]:
        """Return up to ``limit`` deliveries whose attempt may start now, and the seconds after which to ask again."""
        taken: list[Delivery] = []
        with self._lock:
            now = self._clock()
            while len(taken) < limit:
                delivery, wait = self._next(now)
                if delivery is None:
                    return taken, wait
                taken.append(self._start(delivery))
        return taken, 0.0

    def is_useless(self, until: float) -> bool:
        """Return whether to wait until then brings nothing; what no later process can deliver gets every chance."""
        return (self._lasts and self.blocked is not None) or self._clock() + self.next_due() >= until

    def next_due(self) -> float:
        """Return the seconds until anything can be delivered at the earliest; 0.0 if it is, or may be pulled in."""
        if not self.inbox.empty():
            return 0.0
        with self._lock:
            if self._breaker.locked:
                return float("inf")
            if self._fresh or any(one.running for one in self._deliveries.values()):
                return 0.0
            if not self._deliveries:  # a worker has just taken the report from the inbox
                return 0.0 if self._pending else float("inf")
            now = self._clock()  # what is not pinned can be pulled in
            return max(0.0, min(one.due if one.pinned else now for one in self._deliveries.values()) - now)

    def recover(self, scan: Callable[[], Iterable[Found]]) -> None:
        """Take in what earlier processes left; what was never posted is due at once.

        Args:
            scan: returns it; what this process submits or settles meanwhile is not taken for left.
        """
        with self._lock:
            self._settled_meanwhile = set()
        for found in scan():
            if found.report_id in self._pending or self._attempts.mark_again(
                found.simulation_result_id, found.report_id
            ):
                continue
            with self._lock:
                if found.report_id not in self._pending and found.report_id not in (self._settled_meanwhile or ()):
                    self._pending[found.report_id] = True
                    self._adopt(found)
        with self._lock:
            self._settled_meanwhile = None
        self.wake()

    def pull_in(self) -> None:
        """Make everything due that waits without need, because the platform is back or time is running out."""
        with self._lock:
            self._pull_in(self._clock())
        self.wake()

    # -- inside, under the lock ---------------------------------------------------------------------------------

    def _admit(self, report: Report) -> Delivery | None:
        """Take a report in; return its delivery if that may make its first attempt now."""
        with self._lock:
            delivery = self._take_in(report)
            evicted = self._evict()
        for name, report_id in evicted:
            self._pending.pop(report_id, None)
            self._counters.add("dropped.memory_full")
            text = "call %s: report is lost: too many wait in memory, and the spool cannot be written"
            say(self._counters, logging.ERROR, text, name, simulation_result_id=name)
        return delivery

    def _take_in(self, report: Report) -> Delivery | None:
        now = self._clock()
        delivery = self._deliveries.get(report.simulation_result_id)
        if delivery is not None and delivery.running:
            delivery.arrivals.append(report)
            return None
        self._weigh(report)
        if delivery is not None:
            self._join(delivery, report, now)
            return None
        delivery = self._deliveries[report.simulation_result_id] = Delivery(report.simulation_result_id)
        delivery.reports[report.report_id] = report
        if self._breaker.reason and self._breaker.wait(now, fresh=True) > 0.0:
            self._fresh.append(delivery)
            return None
        return self._start(delivery)

    def _adopt(self, found: Found) -> None:
        delivery = self._deliveries.get(found.simulation_result_id)
        if delivery is None:
            delivery = Delivery(found.simulation_result_id, fresh=False, waits_for_redial=found.wait > 0.0)
            self._deliveries[found.simulation_result_id] = delivery
            self._schedule(delivery, self._clock() + found.wait, pinned=found.wait > 0.0)
        delivery.adopted.add(found.report_id)

    def _next(self, now: float) -> tuple[Delivery | None, float]:
        if self._fresh:
            # Before an open breaker they are the probes; when it closes they join the ramp, or they would be a wave.
            wait = self._breaker.wait(now, fresh=self._breaker.reason is not None)
            return (self._fresh.pop(), 0.0) if wait <= 0.0 else (None, wait)
        while self._waiting and self._waiting[0][1] != self._waiting[0][2].ticket:
            heapq.heappop(self._waiting)
        if not self._waiting:
            return None, float("inf")
        due, _, delivery = self._waiting[0]
        wait = due - now
        if wait <= 0.0:
            wait = self._breaker.wait(now, fresh=False)
        if wait > 0.0:
            return None, wait
        heapq.heappop(self._waiting)
        return delivery, 0.0

    def _pull_in(self, now: float) -> None:
        for one in self._deliveries.values():
            if not one.running and not one.fresh and not one.pinned and one.due > now:
                self._schedule(one, now, pinned=False)

    def _start(self, delivery: Delivery) -> Delivery:
        delivery.running = True
        delivery.fresh = delivery.waits_for_redial = False
        return delivery

    def _join(self, delivery: Delivery, report: Report, now: float) -> None:
        """Add a later connection of a call to the delivery that carries the earlier one."""
        delivery.reports[report.report_id] = report
        if delivery.waits_for_redial:
            delivery.waits_for_redial = delivery.pinned = False
        if not delivery.fresh and not delivery.pinned:
            self._schedule(delivery, now, pinned=False)

    def _schedule(self, delivery: Delivery, due: float, *, pinned: bool) -> None:
        delivery.due, delivery.pinned, delivery.ticket = due, pinned, next(self._tickets)
        heapq.heappush(self._waiting, (due, delivery.ticket, delivery))

    # -- what came of an attempt --------------------------------------------------------------------------------

    def _after(self, delivery: Delivery, decision: Decision, began: float) -> None:
        with self._lock:
            now = self._clock()
            change = self._breaker.record(decision, now, began)
            came_back = change is Change.CLOSED
            self._reschedule(delivery, decision, now)
            if came_back:
                self._pull_in(now)
            self._saying += change is not None
        if change is not None:
            self._say(decision, change)
            with self._lock:
                self._saying -= 1
        if decision.wait is not None or came_back:
            self.wake()

    def _reschedule(self, delivery: Delivery, decision: Decision, now: float) -> None:
        delivery.running = False
        for report_id, report in delivery.reports.items():
            if report.bodies is None:
                self._forget(report_id)
        if decision.wait is None:
            self._settle(delivery)
        else:
            self._schedule(delivery, now + decision.wait, pinned=decision.pinned)
        arrivals, delivery.arrivals = delivery.arrivals, []
        for report in arrivals:  # with the delivery if that continues, else as a new one
            self.inbox.put(report)

    def _settle(self, delivery: Delivery) -> None:
        del self._deliveries[delivery.simulation_result_id]
        settled = {*delivery.reports, *delivery.adopted}
        for report_id in settled:
            self._forget(report_id)
            self._pending.pop(report_id, None)
        if self._settled_meanwhile is not None:
            self._settled_meanwhile |= settled

    def _say(self, decision: Decision, change: Change) -> None:
        waiting = len(self._pending)
        why = f"{decision.reason}: {decision.detail}" if decision.detail else decision.reason
        if change is Change.CLOSED:
            say(self._counters, logging.INFO, "the platform takes reports again; %d waiting", waiting)
        elif decision.platform is Platform.MISCONFIGURED:
            text = "no report is accepted (%s); %d waiting, trying again now and then"
            say(self._counters, logging.ERROR, text, why, waiting)
        else:
            text = "the platform does not take reports (%s); %d waiting, trying again until it does"
            say(self._counters, logging.WARNING, text, why, waiting)

    # -- the bound of memory ------------------------------------------------------------------------------------

    def _weigh(self, report: Report) -> None:
        if report.bodies is not None:
            size = sum(len(body) + _LINE_OVERHEAD for body in report.bodies)
            self._sizes[report.report_id] = (report.simulation_result_id, size)
            self._size += size

    def _forget(self, report_id: str) -> None:
        self._size -= self._sizes.pop(report_id, ("", 0))[1]

    def _evict(self) -> list[tuple[str, str]]:
        """Give up the oldest reports in memory until the rest fits; return their calls' and report ids."""
        evicted = []
        for report_id, (name, _) in list(self._sizes.items()):
            delivery = self._deliveries.get(name)
            if self._size <= MEMORY_LIMIT:
                break
            if delivery is None or delivery.running:
                continue
            self._forget(report_id)
            delivery.reports.pop(report_id, None)
            evicted.append((name, report_id))
            if not delivery.reports and not delivery.adopted:
                self._drop(delivery)
        return evicted

    def _drop(self, delivery: Delivery) -> None:
        del self._deliveries[delivery.simulation_result_id]
        delivery.ticket = -1
        if delivery in self._fresh:
            self._fresh.remove(delivery)
