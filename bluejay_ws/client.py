"""What a user configures: one client for the whole process, which opens calls and sees to their delivery."""

from __future__ import annotations

import atexit
import contextlib
import logging
import os
import sys
import threading
import time
import weakref
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

from bluejay_ws.call import Call, CallContext
from bluejay_ws.current import INERT, current_recorder
from bluejay_ws.delivery.http import HttpExchange, UnusableVariableError, tls_context
from bluejay_ws.delivery.sender import TRY_AGAIN, Sender, preload
from bluejay_ws.delivery.spool import Spool
from bluejay_ws.delivery.store import APART, DELETE_APART, SEND_APART
from bluejay_ws.exceptions import ConfigurationError, DeliveryError, SpoolError
from bluejay_ws.log import say, say_seldom
from bluejay_ws.settings import Retry, Secret, Settings
from bluejay_ws.stats import Counters
from bluejay_ws.wire.ids import NAMES, as_list, header_values, usable_id
from bluejay_ws.wire.platform import ID_HEADER

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from os import PathLike

    from bluejay_ws.delivery.sender import BaseSender
    from bluejay_ws.delivery.store import Store
    from bluejay_ws.recorder import Recorder
    from bluejay_ws.results import CallResult, ResultReader, RunResult

logger = logging.getLogger("bluejay_ws")

LOCAL_ID = "local-"  # how the ids of the local caller begin


def _sender(settings: Settings, store: Store | None, counters: Counters) -> BaseSender:
    if settings.database is None:
        return Sender(settings, store=store, counters=counters)
    from bluejay_ws.delivery.handover import FleetSender  # noqa: PLC0415 - only fleets pay for its import

    return FleetSender(
        settings.database.reveal(),
        settings.base_url,
        spool=store if isinstance(store, Spool) else None,
        counters=counters,
        flush_timeout=settings.flush_timeout,
    )


@dataclass(frozen=True)
class Seam:
    """What a test may put in the place of the real thing.

    Args:
        clock: monotonic nanoseconds.
        sender: makes what delivers.
    """

    clock: Callable[[], int] = time.monotonic_ns
    sender: Callable[[Settings, Store | None, Counters], BaseSender] = _sender


class Bluejay:
    """Configure recording and delivery; one object serves a whole process.

    Nothing is started or connected before the first recorded call. The HTTP client is imported here, unless an event
    loop is running: during a call that would be heard. Also a context manager
    (``with`` and ``async with``): leaving it is `close`.

    Args:
        api_key: default ``BLUEJAY_API_KEY``. Without a key calls are recorded and wait in the spool.
        base_url: default ``BLUEJAY_API_URL``, then the platform's own; a trailing ``/v1`` is ignored.
        timeout: seconds for each step of an HTTP exchange.
        retry: how a report that was not accepted is tried again; see `Retry`.
        spool: directory where reports are kept until they are delivered; default ``BLUEJAY_SPOOL``, then
            ``bluejay_ws/spool`` in the user's state directory; ``False`` keeps them in memory only. The URL of a
            PostgreSQL database (``postgresql://...``) makes this process one of a fleet: it hands its reports over
            to the database, and ``bluejay-ws deliver`` delivers them. Such a process needs no key.
        redact: called as ``redact(kind, value)`` before anything is kept; its result is kept instead.
        flush_timeout: seconds that `close`, and the end of the process, may wait for delivery.
        redial_wait: seconds after a crash in which the platform may dial the same call again.
        verify: look once, a minute after a report's delivery (or so many seconds), whether the platform shows what was
            sent; default ``BLUEJAY_VERIFY``, then False. `stats` counts ``verify.*``, and a difference is logged. One
            GET for each call, never more. In a fleet that is the deliverer's: ``bluejay-ws deliver --verify``.
        link_traces: whether a call takes the trace id of the OpenTelemetry span that is current at connect. Bluejay
            may then count each tool twice, in the trace and in the report: see the page on providers.

    Raises:
        ConfigurationError: a value cannot be used.
    """

    _seam = Seam()

    def __init__(
        self,
        api_key: str | Secret | None = None,
        *,
        base_url: str | None = None,
        timeout: float = 10.0,
        retry: Retry | None = None,
        spool: str | PathLike[str] | bool | None = None,
        redact: Callable[[str, Any], Any] | None = None,
        flush_timeout: float = 10.0,
        redial_wait: float = 2.0,
        verify: bool | float | None = None,
        link_traces: bool = False,
    ) -> None:
        api_key = Secret.wrap(api_key)
        self._link_traces = link_traces
        self.settings = Settings.load(
            api_key=api_key,
            base_url=base_url,
            timeout=timeout,
            retry=retry,
            spool=spool,
            redact=redact,
            flush_timeout=flush_timeout,
            redial_wait=redial_wait,
            verify=verify,
        )
        if verify and self.settings.database is not None:
            reason = "is for the process that delivers, and this one hands its reports to a database"
            raise ConfigurationError("verify", reason, "leave it out, and start: bluejay-ws deliver --verify")
        self.clock = self._seam.clock
        self.counters = Counters()
        self.spool: Store | None = self._usable_spool()
        self.sender = self._seam.sender(self.settings, self.spool, self.counters)
        self._calls: dict[Call, None] = {}
        self._names: dict[str, Call] = {}
        self._older: dict[str, list[Call]] = {}  # live calls whose name a newer one has taken
        self._naming = threading.RLock()  # calls begin and end on several threads; and a `__del__` may name one
        self._started = False
        self._said_apart = False
        self._say_what_is_missing()
        preload(self.settings.database)
        _clients.add(self)
        weakref.finalize(self, self.sender.let_go).atexit = False  # threads that nobody can use any more end

    @classmethod
    def default(cls) -> Bluejay:
        """Return the client that a bare ``@record`` and the middleware use: one for each process.

        It is made from the environment when it is first needed. Use it for `find`, `stats`, `flush` and `close` where
        you have made no client of your own.

        Raises:
            ConfigurationError: a variable of the environment cannot be used.
        """
        return default_client()

    @classmethod
    def _with(cls, *args: Any, seam: Seam, **options: Any) -> Self:
        """Return a client with another clock or sender; for tests and benchmarks."""
        client = cls.__new__(cls)
        client._seam = seam  # noqa: SLF001 - the class's own
        client.__init__(*args, **options)  # type: ignore[misc]
        return client

    def _say_what_is_missing(self) -> None:
        settings = self.settings
        if settings.key_problem:
            text = "%s; calls are recorded, and their reports kept until you send them"
            say(self.counters, logging.ERROR, text, settings.key_problem)
        elif settings.api_key is None and settings.database is None:
            text = "BLUEJAY_API_KEY is not set: calls are recorded, and their reports kept until you send them"
            say(self.counters, logging.WARNING, text)
        if settings.spool_problem:
            self.counters.add("spool.unusable")
            text = "%s; until then reports are kept in memory only, and a crash loses them"
            say(self.counters, logging.WARNING, text, settings.spool_problem)
        if settings.verify is not None and settings.database is not None:
            text = "BLUEJAY_VERIFY does nothing in this process, which hands its reports to a database: %s"
            say(self.counters, logging.WARNING, text, "set it where bluejay-ws deliver runs")

    def __repr__(self) -> str:
        settings = getattr(self, "settings", None)  # tracebacks with locals show a client that is being made
        return f"Bluejay(base_url={settings.base_url!r}, spool={str(settings.spool)!r})" if settings else "Bluejay(...)"

    def _usable_spool(self) -> Spool | None:
        if self.settings.spool is None:
            return None
        spool = Spool(
            self.settings.spool,
            counters=self.counters,
            destination=APART if self.settings.apart else self.settings.destination,
            redial_wait=self.settings.redial_wait,
            owned=self.settings.database is not None,  # its deliverer is another process, which gets it from here
        )
        try:
            spool.prepare()
        except SpoolError as error:
            self.counters.add("spool.unusable")
            logger.warning("%s; until then reports are kept in memory only, and a crash loses them", error)
            return None
        return spool

    # -- calls --------------------------------------------------------------------------------------------------

    def call(self, headers: object = None, *, late_id: bool = False) -> CallContext:
        """Return a context manager for one call on any server: ``with bluejay.call(headers) as recorder:``.

        Enter it where the connection's handler begins and leave it where the connection ends. Without a
        usable id in the headers the recorder is the inert one. Works with ``async with`` as well.

        Args:
            headers: the connect request's headers: a mapping, an object with ``get_all``, ``getall`` or
                ``getlist``, or pairs of names and values (text or bytes).
            late_id: record even without an id, for ``recorder.bind`` to bring it later; a call that never
                gets one is dropped at its end.
        """
        return CallContext(self.open_call(self._values(headers), server="call", late_id=late_id))

    def _values(self, headers: object) -> list[str]:
        try:
            return header_values(headers, ID_HEADER)
        except Exception as error:  # noqa: BLE001 - the call continues, unrecorded
            self.failed("headers", error, None)
            return []

    def open_call(
        self,
        values: Iterable[str],
        *,
        server: str,
        late_id: bool = False,
        look: bool = False,
        names: frozenset[str] = NAMES,
    ) -> Call | None:
        """Return a new call if the header's values name one, else None. Never raises; for server adapters.

        Args:
            values: every value of the id header in the connect request; none means no simulation.
            server: the adapter's name, for the report.
            late_id: see `call`.
            look: as `late_id`, and the adapter hands the caller's text messages to `Call.user_text`.
            names: under which the id may stand in those messages.
        """
        try:
            return self._open_call(tuple(values), server, late_id=late_id or look, names=names if look else None)
        except Exception as error:  # noqa: BLE001 - the agent never sees our errors
            self.failed("open", error, None)
            return None

    def _open_call(
        self, values: tuple[str, ...], server: str, *, late_id: bool, names: frozenset[str] | None
    ) -> Call | None:
        identity = usable_id(as_list(values))
        if identity is None and values:
            self._warn_unusable(len(values))
        if identity is None and not late_id:
            return None
        if identity is not None and self._is_foreign(identity):
            return None
        outer = current_recorder()
        if identity is not None and outer.active and identity == outer.simulation_result_id:
            self._say_nested(identity)
        if self.settings.apart and self.spool is not None and not self._said_apart:
            self._say_apart()
        # First: offsets count from here, and starting a thread takes a while.
        call = Call(self, identity, server, id_names=names)
        if not self._started:
            self._start()
        self._calls[call] = None
        if identity is not None:
            self.counters.add("recorded")
            self.remember(identity, call)
        if self._link_traces:
            self._link_trace(call)
        return call

    def _link_trace(self, call: Call) -> None:
        trace = sys.modules.get("opentelemetry.trace")  # who has a current span has imported it
        try:
            context = trace.get_current_span().get_span_context() if trace is not None else None
            if context is not None and context.is_valid and context.trace_flags.sampled:  # else nobody exports it
                call.recorder.add_trace_id(context.trace_id)
            else:
                self.counters.add("trace.not_linked")
        except Exception as error:  # noqa: BLE001 - a broken tracing set-up costs the link, and not the report
            call.recorder.failed("trace_id", error)

    def _is_foreign(self, identity: str) -> bool:
        """Return whether this is a call of the local caller, and the platform is somebody's account: counted, said."""
        if not identity.startswith(LOCAL_ID) or self.settings.is_local:
            return False
        self.counters.add("dropped.local_id")
        text = (
            "call %s comes from the local caller, and this client reports to %s: it is not recorded;"
            " set BLUEJAY_API_URL to the local platform"
        )
        say_seldom(self.counters, logging.WARNING, text, identity, self.settings.base_url)
        return True

    def _say_nested(self, identity: str) -> None:
        text = (
            "call %s is recorded a second time, inside of what records it already: the report has two parts;"
            " take current_recorder() there, or leave out one of @record, the middleware and bluejay.call"
        )
        say_seldom(self.counters, logging.WARNING, text, identity, key=(text,), simulation_result_id=identity)

    def _say_apart(self) -> None:
        self._said_apart = True
        place, why = f"{self.settings.spool}/{APART}", self.settings.apart
        text = "reports are kept apart in %s, because %s; to send them: %s; to delete them: %s"
        say(self.counters, logging.WARNING, text, place, why, SEND_APART, DELETE_APART)

    def _start(self) -> None:
        self._started = True
        try:
            self.sender.start()
        except Exception as error:  # noqa: BLE001 - the call is recorded; delivery tries again at its end
            self.failed("start", error, None)

    def _warn_unusable(self, count: int) -> None:
        self.counters.add("dropped.no_usable_id")
        text = "a connect request has %d %s value(s) but no usable id among them; the call continues unrecorded"
        say_seldom(self.counters, logging.WARNING, text, count, ID_HEADER, key=(text,))

    def find(self, name: str) -> Recorder:
        """Return the recorder of the live call with this id or alias; else the inert one, counted.

        For threads, executors and webhooks. It never answers with "the latest call".
        """
        name = str(name)
        call = self._names.get(name)
        if call is not None and call.ended:  # delivery forgets it soon; an older one of that name may live
            self.forget(call)
            call = self._names.get(name)
        if call is None:
            self.counters.add("dropped.unknown_call")
            return INERT
        return call.recorder

    def remember(self, name: str, call: Call) -> None:
        """Let `find` answer to ``name``, or to the number that it is, with ``call``."""
        name = str(name)
        with self._naming:
            older = self._names.get(name)
            self._names[name] = call  # first: an odd name raises here, and must not stand in the way of the call's end
            call.named(name)
            if older is not None and older is not call:
                others = self._older.setdefault(name, [])
                others[:] = [other for other in others if other is not older and other is not call] + [older]

    def forget(self, call: Call) -> None:
        """Take a call that is over off the books; what it was called by leads to an older call again, if one lives."""
        self._calls.pop(call, None)
        with self._naming:
            for name in call.names():
                if self._names.get(name) is call:
                    del self._names[name]
                if name in self._older:
                    self._recall(name, call)

    def _recall(self, name: str, call: Call) -> None:
        older = [other for other in self._older.pop(name) if other is not call and not other.ended]
        if older and name not in self._names:
            self._names[name] = older.pop()
        if older:
            self._older[name] = older

    def failed(self, where: str, error: Exception, simulation_result_id: str | None) -> None:
        """Count an internal error and log its type; its text may quote the caller."""
        self.counters.add(f"internal_error.{where}")
        text = "internal error at %s of a call (%s); the call itself continues"
        name = type(error).__name__
        say_seldom(self.counters, logging.ERROR, text, where, name, simulation_result_id=simulation_result_id)

    # -- delivery -----------------------------------------------------------------------------------------------

    def flush(self, timeout: float | None = None, *, strict: bool = False) -> bool:
        """Wait until every report of an ended call is settled; return whether that is so.

        Args:
            timeout: seconds at the most; default the client's ``flush_timeout``.
            strict: raise if any report of this client was not accepted: is left, held, parked or lost.

        Raises:
            DeliveryError: with ``strict``; says how many.
        """
        done = self.sender.flush(self._budget(timeout))
        if strict:
            self._check_delivered()
        return done

    async def aflush(self, timeout: float | None = None, *, strict: bool = False) -> bool:  # noqa: ASYNC109
        """Do what `flush` does without blocking the event loop (asyncio and trio); cancelling it loses nothing."""
        done = await self._in_a_thread(self.sender.flush, self._budget(timeout))
        if strict:
            self._check_delivered()
        return done

    async def flush_at_end(self) -> bool:
        """Do what `aflush` does while the server shuts down: this, `close` and the exit share one ``flush_timeout``."""
        return await self._in_a_thread(self.sender.flush, self.sender.left(self.settings.flush_timeout))

    def _budget(self, timeout: float | None) -> float:
        return self.settings.flush_timeout if timeout is None else timeout

    def _check_delivered(self) -> None:
        counts = {"waiting": self.sender.pending(), "held": self.counters["held"], "parked": self.counters["parked"]}
        lost = ("dropped.held_without_spool", "dropped.parked_without_spool", "dropped.memory_full")
        counts["lost"] = sum(self.counters[name] for name in lost)
        if any(counts.values()):
            raise DeliveryError(counts, "see the log of bluejay_ws for each of them")

    def close(self, timeout: float | None = None) -> bool:
        """End all live calls, wait for delivery and stop. What is left stays in the spool for the next start.

        Closing twice, or recording after it, is allowed: a later call starts delivery again.

        Returns:
            Whether everything was delivered.
        """
        self._end_calls()
        return self.sender.close(self._budget(timeout))

    async def aclose(self, timeout: float | None = None) -> bool:  # noqa: ASYNC109
        """Do what `close` does without blocking the event loop (asyncio and trio)."""
        self._end_calls()
        return await self._in_a_thread(self.sender.close, self.sender.left(self._budget(timeout)))

    def _end_calls(self) -> None:
        self._started = False
        for call in list(self._calls):
            call.end()

    async def _in_a_thread(self, wait: Callable[[float], bool], seconds: float) -> bool:
        """Wait on a thread; where none can be started, try again each second until the time is over.

        Args:
            wait: takes the seconds that are left; returns whether all is done.
            seconds: at the most.
        """
        from anyio import CapacityLimiter, sleep, to_thread  # noqa: PLC0415 - it costs import time that no call should pay for

        until = time.monotonic() + seconds
        while True:
            left = max(0.0, until - time.monotonic())
            try:
                # A limiter of its own: the agent's threads may all be busy.
                return await to_thread.run_sync(wait, left, abandon_on_cancel=True, limiter=CapacityLimiter(1))
            except (RuntimeError, MemoryError):  # a limit of processes, no address space
                if not left or not self.sender.pending():
                    return not self.sender.pending()
                await sleep(min(left, TRY_AGAIN))

    def stats(self) -> dict[str, int]:
        """Return the counts so far, by name, and the gauges ``live`` and ``waiting``."""
        always = dict.fromkeys(("recorded", "delivered", "retried", "held", "parked"), 0)
        gauges = {"live": sum(not call.ended for call in list(self._calls)), "waiting": self.sender.pending()}
        return {**gauges, **always, **self.counters.snapshot()}

    def result(self, simulation_result_id: str, *, wait: float = 0.0) -> CallResult:
        """Return what the platform shows for a call: status, expected and actual tool calls, evaluations.

        Takes at least one HTTP exchange, so call it from a test or a script, not from an agent's event loop.

        Args:
            simulation_result_id: of the call.
            wait: seconds that the platform may take to evaluate the call. It is looked at after 2 s, then ever more
                seldom; after ``wait`` the result is returned as it is then (see its ``final``).

        Raises:
            ConfigurationError: the proxy or the certificates that the environment names cannot be used.
            ResultError: it cannot be read.
        """
        with self._reader() as reader:
            return reader.result(str(simulation_result_id), wait=wait)

    def run_result(self, run_id: str, *, wait: float = 0.0) -> RunResult:
        """Do what `result` does for all calls of a run, in one GET for each look.

        Raises:
            ConfigurationError: the proxy or the certificates that the environment names cannot be used.
            ResultError: it cannot be read.
        """
        with self._reader() as reader:
            return reader.run(str(run_id), wait=wait)

    @contextlib.contextmanager
    def _reader(self) -> Iterator[ResultReader]:
        from bluejay_ws.results import ResultReader  # noqa: PLC0415 - no call needs it

        try:
            made = HttpExchange(self.settings, tls_context(self.settings))
        except UnusableVariableError as error:  # its cause quotes the value, which may hold a password
            raise ConfigurationError(
                error.variable, f"cannot be used ({error.reason})", "mend or unset it; `bluejay-ws doctor` says how"
            ) from None
        with contextlib.closing(made) as exchange:
            yield ResultReader(exchange.look, exchange.read_run, base_url=self.settings.base_url)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    def reset_after_fork(self) -> None:
        """Own nothing in a forked child: its copies of live calls and waiting reports are the parent's."""
        for call in list(self._calls):
            call.abandon()
        self._calls = {}
        self._names = {}
        self._older = {}
        self._naming = threading.RLock()  # the parent may have held it
        self._started = False
        self.counters.reset_after_fork()
        self.sender.reset_after_fork()


_clients: weakref.WeakSet[Bluejay] = weakref.WeakSet()
_default: Bluejay | None = None
_default_lock = threading.Lock()


def default_client() -> Bluejay:
    """Return the process's own client, made from the environment when it is first needed."""
    global _default  # noqa: PLW0603 - one for each process is what a bare @record means
    if _default is None:
        with _default_lock:
            if _default is None:
                _default = Bluejay()
    return _default


def opening_failed(clients: Callable[[], Bluejay], error: Exception) -> None:
    """Say that a call cannot be recorded, by the client's counts or, where there is none to be had, by the log."""
    try:
        clients().failed("open", error, None)
    except Exception as worse:  # noqa: BLE001 - not even a client can be had: say it, and count for nobody
        say(Counters(), logging.ERROR, "calls are not recorded (%s): %s", type(worse).__name__, worse)


def _at_exit() -> None:
    """End what lives and deliver what waits; all clients together take no longer than the most patient of them."""
    clients = list(_clients)
    until = time.monotonic() + max((client.settings.flush_timeout for client in clients), default=0.0)
    for client in clients:  # each has what its own closing has left of its budget
        client.close(min(client.settings.flush_timeout, max(0.0, until - time.monotonic())))


def _after_fork() -> None:
    global _default_lock  # noqa: PLW0603 - the parent may have held it
    _default_lock = threading.Lock()
    for client in list(_clients):
        client.reset_after_fork()


atexit.register(_at_exit)
os.register_at_fork(after_in_child=_after_fork)
