"""A fleet's deliverer: take calls from the database, send their reports, write down what came of it.

Any number of deliverers may run, in processes of their own or beside an agent; the database gives each call to one of
them. A lease that runs out, because its deliverer died, makes the next one look before it sends.
"""

from __future__ import annotations

import contextlib
import logging
import random
import threading
import time
import uuid
from typing import TYPE_CHECKING, Any

from bluejay_ws.delivery.outcomes import Decision, Failure, History, Platform, Sight, State, decide, read_result
from bluejay_ws.delivery.postgres import ClaimedCall, ClaimedReport, Outbox, listen
from bluejay_ws.delivery.verify import Verifier
from bluejay_ws.exceptions import BluejayError
from bluejay_ws.log import say, say_seldom
from bluejay_ws.wire import journal

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from bluejay_ws.settings import Settings
    from bluejay_ws.stats import Counters

__all__ = ["Deliverer"]

_random = random.SystemRandom().random  # the process's own generator is not disturbed

LEASE = 45.0  # longer than an exchange can take
POD_LEASE = 15.0
RENEW_EVERY = 5.0
TIDY_EVERY = 30.0
LOOK_EVERY = 1.0
WORKERS = 8
MISCONFIGURED_PAUSE = 15.0
BREAKER_WAIT = 1.0
DELIVERED_DAYS, PARKED_DAYS = 7.0, 30.0
CUT_OUTPUT = 4096
RESEND_FIRST, RESEND_CEILING = 15.0, 300.0
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
    """

    def __init__(
        self,
        url: str,
        settings: Settings,
        *,
        counters: Counters,
        workers: int = WORKERS,
        make_client: Callable[[], Any] | None = None,
        lease: float = LEASE,
        pod_lease: float = POD_LEASE,
    ) -> None:
        self._url = url
        self._settings = settings
        self._counters = counters
        self._workers = workers
        self._make_client = make_client or self._http_client
        self._lease = lease
        self._pod_lease = pod_lease
        self._holder = uuid.uuid4()
        self._stop = threading.Event()
        self._ready = threading.Condition()
        self._calls = 0
        self._in_flight: dict[str, int] = {}
        self._threads: list[threading.Thread] = []
        self._watched: list[Any] = []
        self._lock = threading.Lock()
        self._context: Any = None
        self._paused_until = 0.0
        self._verifier = self._make_verifier()

    def start(self) -> None:
        """Start the threads.

        Raises:
            SpoolError: the database cannot be used; says why and what to do.
        """
        with Outbox(self._url, self._settings.base_url).link as link:
            outbox = self._outbox()
            outbox.link = link
            outbox.check()
        targets: list[Callable[[], None]] = [self._mind, self._listen, *([self._work] * self._workers)]
        for target in targets:
            thread = threading.Thread(target=target, name="bluejay_ws-deliverer", daemon=True)
            self._threads.append(thread)
            thread.start()

    def stop(self, seconds: float = 10.0) -> None:
        """Take no more calls, and wait for those that are being sent."""
        self._stop.set()
        with self._ready:
            self._ready.notify_all()
        until = time.monotonic() + seconds
        for thread in self._threads:
            thread.join(max(0.0, until - time.monotonic()))
        if self._verifier is not None:
            self._verifier.close()

    def waiting(self) -> dict[str, int]:
        """Return what the database counts.

        Raises:
            SpoolError: it cannot be read.
        """
        outbox = self._outbox()
        with outbox.link:
            return outbox.counts()

    @property
    def unverified(self) -> int:
        """Return how many delivered calls are still to be looked at."""
        return 0 if self._verifier is None else self._verifier.waiting

    def _make_verifier(self) -> Verifier | None:
        after = self._settings.verify
        if after is None:
            return None
        verifier = Verifier(self._make_client, counters=self._counters, after=after)
        self._watched.append(verifier)
        return verifier

    # -- threads ------------------------------------------------------------------------------------------------

    def _outbox(self) -> Outbox:
        return Outbox(self._url, self._settings.base_url, holder=self._holder)

    def _http_client(self) -> Any:
        from bluejay_ws.delivery.http import HttpExchange, tls_context  # noqa: PLC0415 - brings httpx

        with self._lock:
            if self._context is None:
                self._context = tls_context(self._settings)
        return HttpExchange(self._settings, self._context)

    def _woken(self) -> None:
        with self._ready:
            self._calls += 1
            self._ready.notify()

    def _listen(self) -> None:
        listen(self._url, self._stop, self._woken)

    def _mind(self) -> None:
        """Wake a worker each second, keep leases, seal what dead processes left, remove what is old."""
        outbox = self._outbox()
        self._watched.append(outbox.link)
        renewed = tidied = time.monotonic()
        while not self._stop.wait(LOOK_EVERY):
            self._woken()
            now = time.monotonic()
            for each in list(self._watched):
                each.abort_if_late(now)
            with self._reporting():
                lost = outbox.reap(self._pod_lease, self._settings.redial_wait)
                self._counters.add("process_lost", lost)
                if now - renewed >= RENEW_EVERY:
                    renewed = now
                    outbox.renew(list(self._in_flight), self._lease)
                if now - tidied >= TIDY_EVERY:
                    tidied = now
                    outbox.tidy(delivered_days=DELIVERED_DAYS, parked_days=PARKED_DAYS)
        outbox.link.close()

    def _work(self) -> None:
        outbox = self._outbox()
        client = self._make_client()
        self._watched += [outbox.link, client]
        number = 0
        while not self._stop.is_set():
            call = None
            with self._reporting():
                number += 1
                began = time.monotonic()
                call = self._claim(outbox, number)
                if call is not None:
                    self._deliver(outbox, client, call, began)
            if call is None:
                self._rest()
            else:
                self._woken()
        outbox.link.close()
        client.close()

    def _rest(self) -> None:
        """Wait until there is something to look for; one worker at a time looks."""
        with self._ready:
            self._ready.wait_for(lambda: self._calls or self._stop.is_set())
            self._calls = 0

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
            self._stop.wait(SETTLE_PAUSE * (0.5 + _random()))
        except Exception as error:  # noqa: BLE001 - a worker must not end: it is counted, and the lease runs out
            self._counters.add(f"errors.deliverer.{type(error).__name__}")
            self._stop.wait(SETTLE_PAUSE)

    # -- one call -----------------------------------------------------------------------------------------------

    def _deliver(self, outbox: Outbox, client: Any, call: ClaimedCall, claimed_at: float) -> None:
        self._in_flight[call.identity] = 1
        try:
            step = _Step(self, call)
            step.run(client, claimed_at)
            self._settle(outbox, step)
        finally:
            self._in_flight.pop(call.identity, None)

    def _settle(self, outbox: Outbox, step: _Step) -> None:
        """Write down what came of it, however long the database is away; only the end of the process ends that."""
        counted = False
        while True:
            try:
                counted |= outbox.settle(
                    step.call,
                    step.state,
                    wait=step.wait,
                    history=step.history,
                    reason=step.reason,
                    detail=step.detail,
                    report_ids=step.delivered,
                )
                if step.down is not None and (step.down or step.call.failures):
                    outbox.hear(down=step.down, probe=step.call.probe, wait=BREAKER_WAIT)
            except BluejayError as error:
                self._counters.add("errors.outbox")
                say_seldom(self._counters, logging.WARNING, "%s; trying again", error)
                if self._stop.wait(SETTLE_PAUSE):
                    self._counters.add("outbox.unsettled")  # the lease runs out, and the next deliverer looks first
                    return
            else:
                break
        if step.state in {"delivered", "held", "parked"}:
            self._counters.add(step.state if counted else "outbox.lease_lost")
        if counted and step.state == "delivered" and self._verifier is not None:
            self._verifier.expect(step.call.identity, step.body(step.delivered))

    def misconfigured(self, reason: str, detail: str) -> None:
        """Take no calls for a while: this process cannot deliver, others perhaps can."""
        self._paused_until = time.monotonic() + MISCONFIGURED_PAUSE
        text = "this deliverer cannot deliver (%s %s); it tries again in %d s"
        say_seldom(self._counters, logging.ERROR, text, reason, detail, MISCONFIGURED_PAUSE)

    @property
    def settings(self) -> Settings:
        """Return the settings."""
        return self._settings

    @property
    def counters(self) -> Counters:
        """Return the counters."""
        return self._counters

    @property
    def lease(self) -> float:
        """Return the seconds of a lease."""
        return self._lease


_ORDER = (Sight.FOUND, Sight.REFUSED, Sight.UNREADABLE, Sight.UNCLEAR)


class _Step:
    """One attempt at one call, and what is to be written down of it."""

    def __init__(self, owner: Deliverer, call: ClaimedCall) -> None:
        self.call = call
        self.state = "waiting"
        self.wait = 0.0
        self.reason = ""
        self.detail = ""
        self.history = {"attempts": 0, "looks": 0, "resends": 0, **call.history}
        self.delivered: list[str] | None = None
        self.down: bool | None = None
        self._owner = owner
        self._retry = owner.settings.retry
        self._counters = owner.counters
        self._parts = [journal.parse(each.journal) for each in call.reports]

    def run(self, client: Any, claimed_at: float) -> None:
        if not self.call.reports or not any(part.bodies for part in self._parts):
            self._put("parked", "empty")
            return
        damaged = sum(len(part.damaged) for part in self._parts)
        if damaged:
            self._counters.add("spool.damaged_lines", damaged)
        if (self.call.unsure or self.history.get("unsure")) and not self._look(client):
            return
        if time.monotonic() - claimed_at > self._owner.lease / 3:
            self._put("waiting", "slow")  # suspended, or a database that took its time: the lease may be over
            return
        self._post(client)

    def body(self, report_ids: Sequence[str] | None = None) -> bytes:
        """Return the report as it is sent; of some connections only, if they are given."""
        parts = zip(self.call.reports, self._parts, strict=True)
        return journal.assemble(
            [part.bodies for report, part in parts if report_ids is None or report.report_id in report_ids],
            simulation_result_id=self.call.identity,
            output_limit=CUT_OUTPUT if self.history.get("cut") else None,
        )

    def _post(self, client: Any) -> None:
        history = History(attempts=self.history["attempts"] + 1, cut=bool(self.history.get("cut")))
        history.not_found = self.history.get("not_found", 0)
        decision = decide(
            client.post(self.body()),
            history,
            self._retry,
            now=time.time(),
            jitter=_random(),  # to spread waits
            others_accepted=False,  # a refusal by a gateway is never held against one report here
        )
        self.history |= {"attempts": history.attempts, "not_found": history.not_found}
        if decision.state is not State.DELIVERED:
            self._counters.add(f"attempts.{decision.reason}")
            self._counters.add("retried")
        self._note(decision)

    def _note(self, decision: Decision) -> None:
        wait = decision.wait or 0.0
        if decision.state is State.UNKNOWN:
            self.history |= {"unsure": True, "looks": 0}
        if decision.cut:
            self.history["cut"] = True
        if decision.platform is Platform.MISCONFIGURED:
            self._owner.misconfigured(decision.reason, decision.detail)
            wait = 1.0
        down = {Platform.UP: False, Platform.DOWN: True}.get(decision.platform)
        self._put(decision.state.value, decision.reason, wait=wait, detail=decision.detail, down=down)

    def _look(self, client: Any) -> bool:
        """Look whether the report is there; return whether it may be sent now."""
        outcome = client.look(self.call.identity)
        sights = read_result(outcome, [self._alone(*pair) for pair in zip(self.call.reports, self._parts, strict=True)])
        found = [report_id for report_id, sight in sights.items() if sight is Sight.FOUND]
        sight = next((one for one in _ORDER if one in sights.values()), Sight.ABSENT)
        self._counters.add(f"read_back.{sight.value}")
        if found:
            self.delivered = found
            self._put("delivered", "read_back", down=False)
        elif sight is Sight.UNREADABLE:
            failed = isinstance(outcome, Failure) or outcome.status >= 500
            self.history["unsure"] = True
            self._put("sending", "unreadable", wait=5.0, down=failed or None)
        elif sight is Sight.REFUSED:
            self.history["unsure"] = True
            self._owner.misconfigured("read_back_refused", "this key cannot read results")
            self._put("sending", "read_back_refused", wait=60.0)
        elif sight is Sight.UNCLEAR:
            self._put("held", "in_part_or_unclear", down=False)
        else:
            return self._absent()
        return False

    def _alone(self, report: ClaimedReport, part: journal.Parsed) -> tuple[str, bytes]:
        return report.report_id, journal.assemble([part.bodies], simulation_result_id=self.call.identity)

    def _absent(self) -> bool:
        """Look again after a while; when it was absent often enough, send it again, ever more seldom."""
        if not self.call.history.get("unsure"):
            return True  # its deliverer died a whole lease ago: had it arrived, it would be there
        self.history |= {"unsure": True, "looks": self.history["looks"] + 1}
        waits: Sequence[float] = self._retry.read_back
        if self.history["looks"] < len(waits):
            earlier, later = waits[self.history["looks"] - 1 : self.history["looks"] + 1]
            self._put("sending", "read_back", wait=max(0.0, later - earlier), down=False)
            return False
        self.history |= {"unsure": False, "looks": 0, "resends": self.history["resends"] + 1}
        resends = self.history["resends"]
        if resends > 1 and not self.history.get("waited"):
            self.history |= {"unsure": True, "looks": len(waits) - 1, "resends": resends - 1, "waited": True}
            pause = min(RESEND_CEILING, RESEND_FIRST * 2.0 ** min(resends - 2, 8))
            self._put("sending", "not_found", wait=pause, down=False)
            return False
        self.history["waited"] = False
        return True

    def _put(self, state: str, reason: str, *, wait: float = 0.0, detail: str = "", down: bool | None = None) -> None:
        self.state, self.reason, self.wait, self.detail, self.down = state, reason, wait, detail, down
        if state in {"held", "parked"}:
            text = "call %s: report %s (%s); see bluejay-ws outbox"
            identity = self.call.identity
            say(self._counters, logging.ERROR, text, identity, state, reason, simulation_result_id=identity)
