"""One connection, from its handshake to its report: the only thing a server adapter needs to know."""

from __future__ import annotations

import logging
import re
import threading
import time
import uuid
from typing import TYPE_CHECKING, Any, Protocol

from bluejay_ws.current import INERT, enter
from bluejay_ws.delivery.store import Report
from bluejay_ws.hearing.chirp import ChirpObserver
from bluejay_ws.log import say
from bluejay_ws.recorder import DECORATED_TOOLS, Recorder
from bluejay_ws.version import VERSION
from bluejay_ws.wire import journal
from bluejay_ws.wire.ids import ids_in_message, usable_id

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from types import TracebackType

    from bluejay_ws.delivery.sender import Sender
    from bluejay_ws.delivery.store import LiveReport, Store
    from bluejay_ws.settings import Settings
    from bluejay_ws.stats import Counters

__all__ = ["GRACE", "Call", "CallContext"]

# How long a handler may go on recording after its socket has closed, before the report leaves without it.
GRACE = 0.05

# What handlers end by when nothing is wrong with them: their servers tell them so that the caller is gone.
_ENDS = {
    "CancelledError": "handler_cancelled",
    "Cancelled": "handler_cancelled",
    "ConnectionClosedOK": "completed",
    "WebSocketDisconnect": "completed",
    "ConnectionClosedError": "connection_lost",
    "ClientDisconnected": "connection_lost",
}

_TOOL_CALL = re.compile(rb'\["(?:tool_calls"|open",\d+,"tool_calls")')


class Host(Protocol):
    """What a call needs of its client."""

    settings: Settings
    counters: Counters
    spool: Store | None
    sender: Sender
    clock: Callable[[], int]

    def remember(self, name: str, call: Call) -> None:
        """Let the call be found by ``name``."""

    def forget(self, call: Call) -> None:
        """Take the call off the books."""

    async def flush_at_end(self) -> bool:
        """Wait for delivery."""
        ...

    def failed(self, where: str, error: Exception, simulation_result_id: str | None) -> None:
        """Count an error of ours."""


class Call:
    """One connection: its recorder, its observer and its file, from the handshake to the report.

    Made by `Bluejay.open_call`. None of its methods raises. The call ends once, by whichever comes last:
    the end of its connection (`connection_closed`) or of its handler (`handler_ended`); a handler that
    goes on after its connection has `GRACE` seconds to record its last words.
    """

    __slots__ = (
        "__weakref__",
        "_client",
        "_file",
        "_handlers",
        "_outcome",
        "_started_at",
        "_waiting",
        "closed_facts",
        "ended",
        "looking",
        "names",
        "observer",
        "recorder",
        "server",
        "started",
        "stopping",
    )

    def __init__(self, client: Host, simulation_result_id: str | None, server: str) -> None:
        started_ns = client.clock()
        self.started = started_ns / 1e9
        self._started_at = time.time()
        self._client = client
        self.server = server
        self.ended = False
        self.looking = 0
        self.stopping = False
        self.closed_facts: dict[str, Any] | None = None
        self._handlers = 0
        self._outcome: dict[str, Any] | None = None
        self._file: LiveReport | None = None
        self._waiting: _Waiting | None = None
        self.names: tuple[str, ...] = ()
        self.recorder = Recorder(
            clock=client.clock,
            started_ns=started_ns,
            started_at=self._started_at,
            report_id=uuid.uuid4().hex,
            simulation_result_id=simulation_result_id,
            counters=client.counters,
            owner=self,
            redact=client.settings.redact,
        )
        self.observer = ChirpObserver(self.recorder.note_event)
        self.recorder.heard = self.observer
        if simulation_result_id is not None:
            self._open_file(simulation_result_id)
        elif client.spool is not None:
            self._waiting = _Waiting()
            self.recorder.write = self._waiting.append

    def now_ms(self) -> float:
        """Return the milliseconds since the handshake, for the observer."""
        return (self._client.clock() / 1e9 - self.started) * 1e3

    def look_for_id(self, data: bytes | bytearray | memoryview | str) -> None:
        """Look for the call's id in a text message from the caller; after `MESSAGES` of them it is no simulation."""
        self.looking -= 1
        identity = usable_id(ids_in_message(data))
        if identity is not None:
            self.looking = 0
            self.recorder.bind(identity)
        elif self.looking == 0 and self.recorder.simulation_result_id is None:
            self._client.counters.add("dropped.never_bound")
            self.recorder.leave_out()

    # -- told by the server adapter -----------------------------------------------------------------------------

    def handshake_done(self) -> None:
        """Count offsets from now on; for servers that let the handler itself complete the handshake."""
        started_ns = self._client.clock()
        self.started = started_ns / 1e9
        self.recorder.restart(started_ns)

    def refused(self, *, crashed: bool) -> None:
        """End a call whose handshake was never completed: nothing is sent, unless its handler crashed."""
        if crashed:
            self.connection_closed({"closed_by": "agent", "accepted": False})
        elif not self.recorder.closed:
            self._client.counters.add("dropped.refused")
            self.recorder.leave_out()

    @property
    def crashed(self) -> str | None:
        """The type of the error with which a handler ended, cancellation aside; None without one."""
        return None if self._outcome is None else self._outcome.get("error")

    def handler_started(self) -> Callable[[], None]:
        """Make this call's recorder the current one; call the result where the handler ends, in its context."""
        self._handlers += 1
        return enter(self.recorder)

    def handler_ended(self, error: BaseException | None = None) -> None:
        """Note that the handler ended, by ``error`` if it is not None; ends the call if its connection is over."""
        self._handlers -= 1
        if error is not None and self._outcome is None:
            self._outcome = _outcome_of(error)
        if self.closed_facts is not None and self._handlers <= 0:
            self.end()

    def connection_closed(
        self, facts: dict[str, Any], later: Callable[[float, Callable[[], None]], object] | None = None
    ) -> None:
        """Note how the connection ended; ends the call, at once or when its handler has ended.

        Args:
            facts: ``close_code``, ``close_reason``, ``closed_by`` as far as they are known.
            later: runs a function after so many seconds; without it a handler that still runs is not waited for.
        """
        if self.closed_facts is not None:
            return
        self.closed_facts = facts
        if self._handlers <= 0 or later is None:
            self.end()
        else:
            later(GRACE, self.end)

    def ends_with_handler(self) -> None:
        """Note that nobody will tell how the connection ends: the call ends where its handler does."""
        self.closed_facts = {"closed_by": "unknown"}

    async def linger(self) -> None:
        """Wait for delivery if the server is about to be gone (`stopping`), within the client's ``flush_timeout``.

        To be awaited by whoever the server waits for at its shutdown; returns at once in any other case.
        """
        if self.stopping:
            try:
                await self._client.flush_at_end()
            except Exception as error:  # noqa: BLE001 - no error of ours reaches the agent
                self.failed("flush", error)

    def failed(self, where: str, error: Exception) -> None:
        """Count an error of ours beside the frame path; of the error only the type is told."""
        self._client.failed(where, error, self.recorder.simulation_result_id)

    def end(self) -> None:
        """End the call and hand its report over to delivery. Twice is once; takes microseconds.

        Nothing is recorded from here on. Where many calls end at once, the report's last lines are written a little
        later and beside the loop, with the times of now.
        """
        if self.ended:
            return
        self.ended = True
        try:
            self._end()
        except Exception as error:  # noqa: BLE001 - no error of ours reaches the agent
            self.failed("end", error)
            self.recorder.release()

    def _end(self) -> None:
        self._client.forget(self)
        if self.recorder.closed:  # discarded, or a forked child's copy
            return self.recorder.release()
        at_ms = self.recorder.offset_ms()
        self.recorder.stop()
        facts = self._facts()  # as they are now: the rest is written a little later, beside the loop
        return self._client.sender.end(self.recorder.report_id, lambda: self._finish(at_ms, facts))

    def _finish(self, at_ms: int, facts: dict[str, Any]) -> None:
        """Write the last lines of the call, which ended at ``at_ms``, and hand its report over. Never raises."""
        sender, report_id = self._client.sender, self.recorder.report_id
        try:
            self.recorder.close(facts, self._summary(at_ms), at_ms)
            identity = self.recorder.simulation_result_id
            if identity is None:
                self._client.counters.add("dropped.never_bound")
                sender.withdraw(report_id)
            else:
                sender.submit(self._parcel(identity))
                self._warn_if_no_tools()
        except Exception as error:  # noqa: BLE001 - no error of ours reaches the agent
            sender.withdraw(report_id)
            self.failed("end", error)
        finally:
            self.recorder.release()

    def _summary(self, at_ms: int) -> Mapping[str, Any]:
        try:
            self.observer.close(at_ms)
            return self.observer.summary()
        except Exception as error:  # noqa: BLE001 - what was recorded is reported without what was observed
            self.failed("observer", error)
            return {}

    def _facts(self) -> dict[str, Any]:
        facts = {"version": VERSION, "server": self.server, **(self.closed_facts or {"closed_by": "process_exit"})}
        return {**facts, **(self._outcome or {"outcome": "completed"})}

    def _parcel(self, simulation_result_id: str) -> Report:
        if self._file is not None and self._file.broken is None:
            parcel = self._file.seal()
            if self._file.broken is None:
                return parcel
        bodies = [self._header(simulation_result_id), *self.recorder.bodies]
        if self._file is not None:
            self._file.discard()
        return Report.from_memory(self.recorder.report_id, simulation_result_id, bodies)

    def _warn_if_no_tools(self) -> None:
        if DECORATED_TOOLS and not any(map(_TOOL_CALL.match, self.recorder.bodies)):
            text = "call %s ended without a tool call although %d tools are decorated with @record_tool"
            identity = self.recorder.simulation_result_id
            counters = self._client.counters
            say(counters, logging.WARNING, text, identity, len(DECORATED_TOOLS), simulation_result_id=identity)

    # -- told by the recorder (recorder.Owner) ------------------------------------------------------------------

    def bound(self, simulation_result_id: str) -> None:
        """Open the call's file now that it has an id, with everything recorded before."""
        self._client.counters.add("recorded")
        self._client.remember(simulation_result_id, self)
        waiting, self._waiting = self._waiting, None
        self._open_file(simulation_result_id, waiting)

    def aliased(self, alias: str) -> None:
        """Let the client find this call by ``alias`` too."""
        self._client.remember(alias, self)

    def discarded(self) -> None:
        """Remove the call's file: its user wants nothing sent."""
        self._client.forget(self)
        if self._file is not None:
            self._file.discard()
            self._file = None
        self.recorder.write = None

    def abandon(self) -> None:
        """Let go of a call that belongs to the parent process; nothing is sent from this one."""
        self.ended = True
        self.recorder.closed = self.recorder.over = True
        self.recorder.write = None
        if self._file is not None:
            self._file.abandon()
            self._file = None

    # -- inside -------------------------------------------------------------------------------------------------

    def _open_file(self, simulation_result_id: str, waiting: _Waiting | None = None) -> None:
        """Write to a file from now on, and before that what was ``waiting`` for it; without one, memory has it all."""
        try:
            self._file = self._new_file(simulation_result_id)
        except Exception as error:  # noqa: BLE001 - the call goes on, and is kept in memory
            self.failed("spool", error)
        if self._file is not None and waiting is not None:
            waiting.release(self._file.append)
        self.recorder.write = None if self._file is None else self._file.append

    def _new_file(self, simulation_result_id: str) -> LiveReport | None:
        if self._client.spool is None:
            return None
        return self._client.spool.open_call(
            report_id=self.recorder.report_id,
            simulation_result_id=simulation_result_id,
            header=self._header(simulation_result_id),
        )

    def _header(self, simulation_result_id: str) -> bytes:
        return journal.header(
            report_id=self.recorder.report_id,
            simulation_result_id=simulation_result_id,
            started_at=self._started_at,
            version=VERSION,
            server=self.server,
        )


class _Waiting:
    """The lines of a call whose file cannot be opened before its id is known, from whichever thread they come."""

    __slots__ = ("_lines", "_lock", "_write")

    def __init__(self) -> None:
        self._lines: list[bytes] = []
        self._lock = threading.Lock()
        self._write: Callable[[bytes], None] | None = None

    def append(self, body: bytes) -> None:
        with self._lock:
            (self._write or self._lines.append)(body)

    def release(self, write: Callable[[bytes], None]) -> None:
        """Pass all lines on, and from now on each at once: none is lost, doubled or out of order."""
        with self._lock:
            for body in self._lines:
                write(body)
            self._lines.clear()
            self._write = write


def _outcome_of(error: BaseException) -> dict[str, Any]:
    kind = type(error).__name__
    known = _ENDS.get(kind)
    return {"outcome": "handler_failed", "error": kind} if known is None else {"outcome": known}


class CallContext:
    """What `Bluejay.call` returns: enter it (``with`` or ``async with``) for the call's recorder."""

    __slots__ = ("_call", "_leave")

    def __init__(self, call: Call | None) -> None:
        self._call = call
        self._leave: Callable[[], None] | None = None

    def __enter__(self) -> Recorder:
        if self._call is None:
            return INERT
        self._leave = self._call.handler_started()
        return self._call.recorder

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._call is None or self._leave is None:
            return
        self._leave()
        self._call.handler_ended(error)
        self._call.connection_closed({"closed_by": "unknown"})

    async def __aenter__(self) -> Recorder:
        return self.__enter__()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.__exit__(kind, error, traceback)
