"""A fleet's deliverer: take calls from the database, send their reports, write down what came of it.

Any number of deliverers may run, in processes of their own or beside an agent; the database gives each call to one of
them. A lease that runs out, because its deliverer died, makes the next one look before it sends.
"""

from __future__ import annotations

import contextlib
import logging
import threading
import time
import uuid
from dataclasses import asdict
from functools import partial
from typing import TYPE_CHECKING, Any

from bluejay_ws.delivery.attempt import LEASE_LATE, Attempts, Context, Delivery, chance
from bluejay_ws.delivery.outcomes import History, Platform, State
from bluejay_ws.delivery.postgres import ClaimedCall, Listener, Outbox, Settlement, shown
from bluejay_ws.delivery.sender import HttpClients
from bluejay_ws.delivery.store import Lease, Part, Store
from bluejay_ws.delivery.verify import Verifier
from bluejay_ws.delivery.workers import NoClient, made
from bluejay_ws.exceptions import BluejayError, SpoolError
from bluejay_ws.log import say_seldom
from bluejay_ws.stats import started
from bluejay_ws.wire import journal

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from bluejay_ws.delivery.attempt import Exchange
    from bluejay_ws.delivery.outcomes import Decision
    from bluejay_ws.settings import Settings
    from bluejay_ws.stats import Counters

LEASE = 45.0  # longer than an exchange can take
POD_LEASE = 15.0
RENEW_EVERY = 5.0
TIDY_EVERY = 30.0
LOOK_EVERY = 1.0
WATCH_EVERY = 5.0
WORKERS = 8
MISCONFIGURED_PAUSE, MISCONFIGURED_WAIT = 15.0, 1.0  # of this process; of the call, for one configured otherwise
BUSY_PAUSE = 1.0
BREAKER_WAIT = 1.0
DELIVERED_DAYS, PARKED_DAYS = 7.0, 30.0
SETTLE_PAUSE = 0.5


class Deliverer:
    """Deliver the reports of a fleet, from this process, until `stop`.

    Args:
        url: of the database.
        settings: the platform, its key and how to retry; only reports recorded for this platform are taken.
        counters: where everything is counted.
        workers: how many reports are sent at once.
        make_client: makes an HTTP client; each worker has its own.
        lease: seconds for which a call is this process's, renewed while it is sent.
        pod_lease: seconds after which an agent's process that was not heard of is taken for dead.
        look_every: seconds after which it is looked anyway whether something is due.
    """

    def __init__(
        self,
        url: str,
        settings: Settings,
        *,
        counters: Counters,
        workers: int = WORKERS,
        make_client: Callable[[], Exchange] | None = None,
        lease: float = LEASE,
        pod_lease: float = POD_LEASE,
        look_every: float = LOOK_EVERY,
    ) -> None:
        self._url = url
        self._settings = settings
        self._counters = counters
        self._workers = workers
        self._make_client = make_client or partial(HttpClients(settings, counters), settings.timeout)
        self._lease = lease
        self._pod_lease = pod_lease
        self._look_every = look_every
        self._listener = Listener(url, self._woken)
        self._holder = uuid.uuid4()
        self._asked = self._outbox()
        self._stop = threading.Event()
        self._ready = threading.Condition()
        self._calls = 0
        self._in_flight: dict[str, int] = {}
        self._threads: list[threading.Thread] = []
        self._missing: list[Callable[[], None]] = []
        self._paused_until = 0.0
        self._ahead = 0.0
        self._verifier = Verifier(counters, after=settings.verify or 0.0)
        self._watched: list[Any] = []
        delivered = None if settings.verify is None else self._verifier.expect
        context = Context(settings, counters, self._now, self._now, delivered=delivered)
        self._attempts = Attempts(context, Store(shown(url)))  # a claimed call needs no store: the database has it

    def start(self) -> None:
        """Start the threads.

        Raises:
            SpoolError: the database cannot be used; says why and what to do.
        """
        with Outbox(self._url, self._settings.base_url).link as link:
            outbox = self._outbox()
            outbox.link = link
            outbox.check()
            outbox.renew([], self._lease)  # changes nothing: a role that may only hand over is told so now
            self._measure(outbox)
        self._missing = [self._listener.run, *([self._work] * self._workers)]
        if not self._start(self._mind):
            raise SpoolError(
                shown(self._url), "is in order, but no thread can be started", "raise the limit: ulimit -u"
            )

    def _start(self, target: Callable[[], None]) -> bool:
        thread = threading.Thread(target=target, name="bluejay_ws-deliverer", daemon=True)
        if not started(thread, self._counters):
            return False
        self._threads.append(thread)
        return True

    def _start_missing(self) -> None:
        """Start the threads that do not run yet; those that cannot be started now are tried again each round.

        Only the thread of `_mind` does so: two at once would start one twice.
        """
        while self._missing and not self._stop.is_set() and self._start(self._missing[0]):
            del self._missing[0]

    def stop(self, seconds: float = 10.0) -> None:
        """Take no more calls, and wait for those that are being sent."""
        self._stop.set()
        self._verifier.close()
        self._listener.stop()
        with self._ready:
            self._ready.notify_all()
        until = time.monotonic() + seconds
        for thread in self._threads:
            thread.join(max(0.0, until - time.monotonic()))
        self._asked.link.close()
        self._verifier.close()

    def waiting(self) -> dict[str, int]:
        """Return what the database counts, but for what is delivered. For the thread that calls `start` and `stop`.

        Raises:
            SpoolError: it cannot be read.
        """
        return self._asked.counts(delivered=False)

    @property
    def unverified(self) -> int:
        """Return how many delivered calls are still to be looked at."""
        return self._verifier.waiting

    def _now(self) -> float:
        """Return the database's time: histories go from one deliverer to another, whose clocks differ."""
        return time.monotonic() + self._ahead

    def _measure(self, outbox: Outbox) -> None:
        self._ahead = outbox.now() - time.monotonic()

    # -- threads ------------------------------------------------------------------------------------------------

    def _outbox(self) -> Outbox:
        return Outbox(self._url, self._settings.base_url, holder=self._holder)

    def _client(self) -> Exchange:
        """Return a worker's HTTP client; never raises."""
        client = made(self._make_client, self._counters)
        if not isinstance(client, NoClient):
            self._watched.append(client)
        return client

    def _woken(self) -> None:
        with self._ready:
            self._calls += 1
            self._ready.notify()

    def _mind(self) -> None:
        """Start the others, wake one each second, keep leases, seal what dead processes left, remove what is old."""
        outbox = self._outbox()
        self._watched.append(outbox.link)
        renewed = tidied = time.monotonic()
        self._start_missing()
        while not self._stop.wait(self._look_every):
            self._woken()
            self._start_missing()
            now = time.monotonic()
            self._abort_what_is_late(now)
            with self._reporting():
                lost = outbox.reap(self._pod_lease, self._settings.redial_wait)
                self._counters.add("process_lost", lost)
                if now - renewed >= RENEW_EVERY:
                    renewed = now
                    outbox.renew(list(self._in_flight), self._lease)
                if now - tidied >= TIDY_EVERY:
                    tidied = now
                    self._measure(outbox)  # this machine may have slept
                    outbox.tidy(delivered_days=DELIVERED_DAYS, parked_days=PARKED_DAYS)
        outbox.link.close()

    def _abort_what_is_late(self, now: float) -> None:
        for each in list(self._watched):
            each.abort_if_late(now)

    def _work(self) -> None:
        outbox = self._outbox()
        client = self._client()
        self._watched.append(outbox.link)
        number = 0
        while not self._stop.is_set():
            call = None
            with self._reporting():
                number += 1
                began = time.monotonic()
                call = self._claim(outbox, number)
                if isinstance(client, NoClient) and (call is not None or self._verifier.due):
                    client = self._client()
                if call is not None:
                    self._deliver(outbox, client, call, began)
            if not self._verifier.look(client) and call is None:
                self._rest()
            else:
                self._woken()
        outbox.link.close()
        client.close()

    def _rest(self) -> None:
        """Wait until there is something to look for; one worker at a time looks."""
        with self._ready:
            woken = self._ready.wait_for(lambda: self._calls or self._stop.is_set(), WATCH_EVERY)
            self._calls = 0
        if not woken:  # the thread that wakes us each second hangs itself
            self._abort_what_is_late(time.monotonic())

    def _claim(self, outbox: Outbox, number: int) -> ClaimedCall | None:
        if time.monotonic() < self._paused_until:
            return None
        return outbox.claim(self._lease, retries_first=number % 4 == 0)

    @contextlib.contextmanager
    def _reporting(self) -> Any:
        """Count and say what goes wrong, and go on: the database may be away for a while."""
        try:
            yield
        except BluejayError as error:
            self._counters.add("errors.outbox")
            say_seldom(self._counters, logging.WARNING, "%s; trying again", error)
            self._stop.wait(SETTLE_PAUSE * (0.5 + chance()))
        except Exception as error:  # noqa: BLE001 - a worker must not end: it is counted, and the lease runs out
            self._counters.add(f"errors.deliverer.{type(error).__name__}")
            self._stop.wait(SETTLE_PAUSE)

    # -- one call -----------------------------------------------------------------------------------------------

    def _deliver(self, outbox: Outbox, client: Exchange, call: ClaimedCall, claimed_at: float) -> None:
        self._in_flight[call.identity] = 1
        try:
            self._settle(outbox, call, self._attempt(client, call, claimed_at))
        finally:
            self._in_flight.pop(call.identity, None)

    def _attempt(self, client: Exchange, call: ClaimedCall, claimed_at: float) -> Settlement:
        """Look, or send, once; return what is to be written down of it."""
        lease = ClaimedLease(call, self._counters, until=claimed_at + self._lease / 3)
        if not lease.reports:
            return Settlement("parked", reason="empty", history=call.history, report_ids=[])
        delivery = lease.delivery()
        decision = self._attempts.move(delivery, lease, client)
        if decision.busy:  # the platform asks for fewer requests
            self._paused_until = max(self._paused_until, time.monotonic() + BUSY_PAUSE)
        if decision.platform is Platform.MISCONFIGURED:
            self._misconfigured(decision)
        return lease.settlement(delivery, decision)

    def _settle(self, outbox: Outbox, call: ClaimedCall, found: Settlement) -> None:
        """Write down what came of it, however long the database is away; only the end of the process ends that."""
        counted = False
        while True:
            try:
                counted |= outbox.settle(call, found)
                if found.down is not None and (found.down or call.failures):
                    outbox.hear(down=found.down, probe=call.probe, wait=BREAKER_WAIT)
            except BluejayError as error:
                self._counters.add("errors.outbox")
                say_seldom(self._counters, logging.WARNING, "%s; trying again", error)
                if self._stop.wait(SETTLE_PAUSE):
                    self._counters.add("outbox.unsettled")  # the lease runs out, and the next deliverer looks first
                    return
            else:
                break
        if not counted:
            self._counters.add("outbox.lease_lost")

    def _misconfigured(self, decision: Decision) -> None:
        """Take no calls for a while: this process cannot deliver, others perhaps can."""
        self._paused_until = time.monotonic() + MISCONFIGURED_PAUSE
        text = "this deliverer cannot deliver (%s %s); it tries again in %d s"
        say_seldom(self._counters, logging.ERROR, text, decision.reason, decision.detail, MISCONFIGURED_PAUSE)


# -- a claimed call as the one way through delivery wants it ---------------------------------------------------------


class ClaimedLease(Lease):
    """Every report of a claimed call; `mark` gathers what is written down at the end.

    Args:
        call: as the database gave it.
        counters: where damaged lines are counted.
        until: monotonic seconds after which nothing is sent.
    """

    def __init__(self, call: ClaimedCall, counters: Counters, *, until: float) -> None:
        self.until = until
        self.reports = []
        self.call = call
        self.marks: dict[str, State] = {}
        self._empty: list[str] = []
        state = State.UNKNOWN if call.unsure or call.history.get("unsure") else State.WAITING
        noted = {"released": True} if call.history.get("released") else {}
        for report in call.reports:
            parsed = journal.parse(report.journal)
            if parsed.damaged:
                counters.add("spool.damaged_lines", len(parsed.damaged))
            if not parsed.bodies:
                self._empty.append(report.report_id)
            else:
                facts = journal.facts(parsed.bodies)
                self.reports.append(Part(report.report_id, state, facts, noted))

    def mark(self, report_id: str, state: State, note: Mapping[str, object]) -> bool:
        """Note where a report stands; the database hears of it with the settlement."""
        del note
        self.marks[report_id] = state
        return True

    def delivery(self) -> Delivery:
        """Return the call's delivery, with the history of earlier attempts, in any process."""
        delivery = Delivery(self.call.identity, restored=True, fresh=False)
        delivery.history = _history(self.call.history)
        # Where a deliverer died, a whole lease has passed: had the report arrived, it would show.
        died = self.call.unsure and not self.call.history.get("unsure")
        delivery.resend_due = died or self.call.history.get("resend_due") is True
        return delivery

    def settlement(self, delivery: Delivery, decision: Decision) -> Settlement:
        """Return what is to be written down.

        Args:
            delivery: after the attempt.
            decision: what came of it.
        """
        delivered = [report_id for report_id, state in self.marks.items() if state is State.DELIVERED]
        if delivered:
            delivered += self._empty  # nothing of them is left to send
        state = State.DELIVERED if delivered else decision.state
        wait = decision.wait or 0.0
        down = {Platform.UP: False, Platform.READABLE: False, Platform.DOWN: True}.get(decision.platform)
        if decision.platform is Platform.MISCONFIGURED:
            wait = max(wait, MISCONFIGURED_WAIT)
        history = {key: value for key, value in asdict(delivery.history).items() if value}
        history["unsure"] = decision.state is State.UNKNOWN
        history["resend_due"] = delivery.resend_due
        if self.call.history.get("released"):
            history["released"] = True
        down = None if decision.reason == LEASE_LATE else down
        return Settlement(state.value, wait, decision.reason, decision.detail, history, delivered, down)


def _history(noted: Mapping[str, Any]) -> History:
    """Take over what earlier deliverers noted, of any version."""
    history = History()
    for key, default in asdict(history).items():
        value = noted.get(key)
        if isinstance(value, int | float):
            setattr(history, key, type(default)(value))
    return history
