"""One connection, from its handshake to its report: the only thing a server adapter needs to know."""

from __future__ import annotations

import logging
import os
import re
import sys
import threading
import time
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol

from bluejay_ws.current import INERT, enter, leave
from bluejay_ws.delivery.store import Report
from bluejay_ws.hearing.chirp import ChirpObserver
from bluejay_ws.log import say, say_seldom
from bluejay_ws.outcome import RESTART, left_by, outcome
from bluejay_ws.recorder import DECORATED_TOOLS, Recorder
from bluejay_ws.version import VERSION
from bluejay_ws.wire import journal
from bluejay_ws.wire.ids import MESSAGES, begins_stream, ids_in_message, usable_id

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from types import TracebackType

    from bluejay_ws.delivery.sender import BaseSender
    from bluejay_ws.delivery.store import LiveReport, Store
    from bluejay_ws.outcome import Left
    from bluejay_ws.settings import Settings
    from bluejay_ws.stats import Counters

__all__ = ["CLOSE_WAIT", "GRACE", "Call", "CallContext", "Connection"]

# How long the report waits for the handler when the connection is over, and for the connection when the handler is.
GRACE = 0.05
# How long the peer may take to answer the agent's close frame before the report leaves without its answer.
CLOSE_WAIT = 0.5

ALIAS_LIMIT = 1_024
"""Characters that an alias may have."""
ALIASES_LIMIT = 100
"""Names that one call may have beside its id."""

_TOOL_CALL = re.compile(rb'\["(?:tool_calls"|open",\d+,"tool_calls")')


class Host(Protocol):
    """What a call needs of its client."""

    settings: Settings
    counters: Counters
    spool: Store | None
    sender: BaseSender
    clock: Callable[[], int]

    def remember(self, name: str, call: Call) -> None:
        """Let the call be found by ``name``."""

    def forget(self, call: Call) -> None:
        """Take the call off the books."""

    async def flush_at_end(self) -> bool:
        """Wait for delivery."""
        ...

    def failed(self, where: str, error: Exception, simulation_result_id: str | None) -> None:
        """Count an internal error."""


class Connection(Protocol):
    """What a call asks of the adapter that observes its connection."""

    def later(self, seconds: float, action: Callable[[], None]) -> None:
        """Run ``action`` after so many seconds, on any thread."""

    def look(self) -> None:
        """Learn of an end that has come in, and that the handler has not asked for."""

    async def ask(self) -> None:
        """Learn of it from a server that has to be asked; the handler is over."""

    def closing(self) -> dict[str, Any]:
        """Return how the connection ends, as far as its own side knows; empty while it is open."""
        ...

    def over(self) -> None:
        """Say `Call.connection_closed` or `Call.refused` as things stand: nobody serves the connection any more."""

    def let_go(self) -> None:
        """Observe nothing more, and leave the connection as it was made."""


class Call:
    """One connection: its recorder, its observer and its file, from the handshake to the report.

    Made by `Bluejay.open_call`. None of its methods raises. It has two sides, its connection and its handler.
    When one of them is over, the other has `GRACE` seconds; then the report leaves. A call whose connection
    nobody observes ends with its handler.
    """

    __slots__ = (
        "__weakref__",
        "_client",
        "_connection",
        "_facts",
        "_file",
        "_handlers",
        "_id_names",
        "_left",
        "_looks",
        "_waiting",
        "aliases",
        "ended",
        "observer",
        "recorder",
        "server",
    )

    def __init__(
        self,
        client: Host,
        simulation_result_id: str | None,
        server: str,
        *,
        id_names: frozenset[str] | None = None,
    ) -> None:
        started_ns = int(client.clock())  # raises, before the call counts as live, where a clock tells no time
        self._client = client
        self.server = sys.intern(server)  # adapters make the same few words again for each call
        self.ended = False
        self.aliases: tuple[str, ...] = ()  # names beside the id; an empty tuple takes no memory
        self._id_names = id_names  # in the caller's messages; None: they are not looked at
        self._looks = MESSAGES if simulation_result_id is None else 0  # so many more for the first id
        self._connection: Connection | None = None
        self._facts: dict[str, Any] | None = None
        self._handlers = 0
        self._left: Left | None = None
        self._file: LiveReport | None = None
        self._waiting: _Waiting | None = None
        self.recorder = Recorder(
            clock=client.clock,
            started_ns=started_ns,
            started_at=time.time(),
            report_id=os.urandom(16).hex(),
            simulation_result_id=simulation_result_id,
            counters=client.counters,
            owner=self,
            redact=client.settings.redact,
        )
        self.observer = ChirpObserver(self.recorder)
        self.recorder.hear_with(self.observer)
        if simulation_result_id is not None:
            self._open_file(simulation_result_id)
        elif client.spool is not None:
            self._waiting = _Waiting()
            self.recorder.write_to(self._waiting)

    # -- called by the server adapter ---------------------------------------------------------------------------

    @property
    def clock(self) -> Callable[[], int]:
        """Monotonic nanoseconds."""
        return self._client.clock

    @property
    def settings(self) -> Settings:
        """What the client that records it was configured with."""
        return self._client.settings

    def observed_by(self, connection: Connection) -> None:
        """Note who knows how the connection ends, and expect word of it from now on."""
        self._connection = connection

    def handshake_done(self) -> None:
        """Count offsets from now on; for servers that let the handler itself complete the handshake."""
        self.recorder.restart(self._client.clock())

    def user_text(self, data: bytes | bytearray | memoryview | str, at_ms: float) -> None:
        """Note a text message from the caller; the first of them may bring the call's id."""
        if self._id_names is not None:
            self._look_for_id(data, self._id_names)
        self.observer.user_text(data, at_ms)

    def handling(self) -> CallContext:
        """Return what a handler runs in: ``with`` or ``async with``, once."""
        return CallContext(self)

    def handler_started(self) -> None:
        """Note that one more handler serves the connection."""
        self._handlers += 1

    def handler_ended(self, error: BaseException | None = None) -> None:
        """Note that a handler ended, by ``error`` if it is not None."""
        if self._handlers == 1 and self._facts is None and self._connection is not None:
            self._connection.look()
        self._handlers -= 1
        if error is not None and self._left is None:
            left = left_by(error)
            self._left = left.while_open() if self._connection is not None and not self._closing() else left
        if self._handlers <= 0:
            self._one_side_over()

    def enter(self) -> Recorder:
        """Note that a handler begins, and make this call's recorder the current one; return the one before."""
        self.handler_started()
        return enter(self.recorder)

    def leave(self, before: Recorder, error: BaseException | None = None) -> None:
        """Undo an `enter` that returned ``before``: the handler ended, by ``error`` if it is not None."""
        leave(self.recorder, before)
        self.handler_ended(error)

    async def aleave(self, before: Recorder, error: BaseException | None) -> None:
        """Do what `leave` does, and `linger`: but a cancelled handler has no time."""
        self.leave(before, error)
        if error is None or isinstance(error, Exception):
            await self.linger()

    def agent_closing(self) -> None:
        """Note that the agent has sent its close frame: the caller has `CLOSE_WAIT` seconds to answer."""
        if self._handlers > 0 and self._facts is None:  # a handler that has returned has its grace already
            self._later(CLOSE_WAIT, self._end_unless_answered)

    def connection_closed(self, facts: dict[str, Any]) -> None:
        """Note how the connection ended: ``close_code``, ``close_reason``, ``closed_by``. The first time counts."""
        if self._facts is None:
            self._facts = facts
            self._one_side_over()

    def refused(self, *, crashed: bool) -> None:
        """End a call whose handshake was never completed: nothing is sent, unless its handler crashed."""
        if crashed:
            self.connection_closed({"closed_by": "agent", "accepted": False})
        elif not self.recorder.closed:
            self.recorder.discard("refused")
            self._over()

    def names(self) -> tuple[str, ...]:
        """Return all names by which the client finds the call: its id and its aliases."""
        identity = self.recorder.simulation_result_id
        return self.aliases if identity is None else (identity, *self.aliases)

    def named(self, name: str) -> None:
        """Note a name by which the client finds the call."""
        if name not in self.names():
            self.aliases += (name,)

    @property
    def closed(self) -> bool:
        """Whether it is known how the connection ended."""
        return self._facts is not None

    @property
    def crashed(self) -> str | None:
        """The type of the error with which a handler failed; None without one."""
        return self._left.error if self._left is not None and self._left.failed else None

    async def linger(self) -> None:
        """Ask how the connection ended where only that tells; where the server is going away (1012) wait for delivery.

        To be awaited at the end of a handler: there the server waits at its shutdown. Else it returns at once, and
        always within the client's ``flush_timeout``.
        """
        try:
            if self._facts is None and self._connection is not None:
                await self._connection.ask()
            if (self._facts or {}).get("close_code") == RESTART:
                await self._client.flush_at_end()
        except Exception as error:  # noqa: BLE001 - the agent never sees our errors
            self.failed("flush", error)

    def failed(self, where: str, error: Exception) -> None:
        """Count an internal error beside the frame path; only the error's type is logged."""
        self._client.failed(where, error, self.recorder.simulation_result_id)

    # -- the end ------------------------------------------------------------------------------------------------

    def end(self) -> None:
        """End a call whose client closes, or whose process ends. Twice is once."""
        self._facts = self._closing() or {"closed_by": "process_exit"}
        self._over()

    def _over(self) -> None:
        """End the call: nothing is recorded from here on. Twice is once.

        It takes microseconds and few lines: after a quiet second each of them has to be fetched from memory first.
        Delivery writes the last lines of the report later, on a thread of its own, with the times of now.
        """
        if self.ended:
            return None
        self.ended = True
        recorder = self.recorder
        try:
            facts = self._let_go()
            if recorder.closed:  # discarded, or a forked child's copy
                return recorder.release()
            recorder.stop()
            return self._client.sender.end(recorder.report_id, partial(self._finish, facts, self._left))
        except Exception as error:  # noqa: BLE001 - the agent never sees our errors
            self.failed("end", error)
            self._client.forget(self)
            return recorder.release()

    def _one_side_over(self) -> None:
        """End the call where both sides are over, else give the other one its grace."""
        # trio has cancelled everything around the connection with the handler: nobody else will tell.
        cancelled = self._left is not None and self._left.error == "Cancelled"
        if self._connection is None or (self._facts is not None and self._handlers <= 0):
            self._over()
        elif cancelled:
            self._end_unless_resumed()
        else:
            self._later(GRACE, self._end_unless_resumed)

    def _later(self, seconds: float, action: Callable[[], None]) -> None:
        try:
            if self._connection is not None:
                self._connection.later(seconds, action)
        except Exception as error:  # noqa: BLE001 - the agent never sees our errors
            self.failed("later", error)
            self._over()

    def _end_unless_resumed(self) -> None:
        """End the call whose one side is over, unless another handler serves the connection by now."""
        if self._facts is None and self._handlers <= 0 and self._connection is not None:
            try:
                self._connection.over()
            except Exception as error:  # noqa: BLE001 - the agent never sees our errors
                self.failed("close", error)
                self._over()
        elif self._facts is not None:
            self._over()

    def _end_unless_answered(self) -> None:
        """End the call whose caller has not answered the agent's close frame."""
        if self._facts is None:
            self._over()

    def _closing(self) -> dict[str, Any]:
        if self._facts is not None:
            return self._facts
        try:
            return {} if self._connection is None else self._connection.closing()
        except Exception as error:  # noqa: BLE001 - the agent never sees our errors
            self.failed("close", error)
            return {}

    def _let_go(self) -> dict[str, Any]:
        """Return how the connection ended, and observe it no more."""
        facts = self._closing()
        connection, self._connection = self._connection, None
        if connection is not None:
            if self._facts is None:  # its handler has returned, and the server closes for it
                facts = facts or {"closed_by": "agent"}
            connection.let_go()
        return facts

    def _finish(self, facts: dict[str, Any], left: Left | None) -> None:
        """Take the call off the books, write its last lines, and hand its report over. Never raises."""
        sender, report_id = self._client.sender, self.recorder.report_id
        try:
            self._client.forget(self)
            self.recorder.close(self._all_facts(facts, left), self._summary())
            identity = self.recorder.simulation_result_id
            if identity is None:
                self._client.counters.add("dropped.never_bound")
                sender.withdraw(report_id)
            else:
                sender.submit(self._sealed_report(identity))
                self._warn_if_no_tools()
        except Exception as error:  # noqa: BLE001 - the agent never sees our errors
            self.failed("end", error)
            sender.withdraw(report_id)
        finally:
            self.recorder.release()

    def _summary(self) -> Mapping[str, Any]:
        try:
            self.observer.close(self.recorder.stopped_ms)
            return self.observer.summary()
        except Exception as error:  # noqa: BLE001 - what was recorded is reported without what was observed
            self.failed("observer", error)
            return {}

    def _all_facts(self, facts: dict[str, Any], left: Left | None) -> dict[str, Any]:
        if not facts and left is not None:
            facts = left.facts
        return {
            "version": VERSION,
            "server": self.server,
            **(facts or {"closed_by": "unknown"}),
            **outcome(facts, left),
        }

    def _sealed_report(self, simulation_result_id: str) -> Report:
        if self._file is not None and self._file.broken is None:
            report = self._file.seal()
            if self._file.broken is None:
                return report
        bodies = [self._header(simulation_result_id), *self.recorder.bodies]
        if self._file is not None:
            self._file.discard()
        return Report(self.recorder.report_id, simulation_result_id, bodies)

    def _warn_if_no_tools(self) -> None:
        if DECORATED_TOOLS and not any(map(_TOOL_CALL.match, self.recorder.bodies)):
            text = (
                "call %s ended without a tool call although %d %s decorated with @record_tool;"
                " if one was called: was it awaited, and does its thread have a copy of the call's context?"
            )
            identity = self.recorder.simulation_result_id
            counters = self._client.counters
            count, verb = len(DECORATED_TOOLS), "tool is" if len(DECORATED_TOOLS) == 1 else "tools are"
            say(counters, logging.WARNING, text, identity, count, verb, simulation_result_id=identity)

    # -- called by the recorder (recorder.Owner)-----------------------------------------------------------------

    def bound(self, simulation_result_id: str) -> None:
        """Open the call's file now that it has an id, with everything recorded before."""
        self._client.counters.add("recorded")
        self._client.remember(simulation_result_id, self)
        waiting, self._waiting = self._waiting, None
        self._open_file(simulation_result_id, waiting)

    def aliased(self, alias: str) -> None:
        """Let the client find this call by ``alias`` too, if it is of a sane length and one of not too many."""
        name = str(alias)
        if len(name) > ALIAS_LIMIT or (len(self.aliases) >= ALIASES_LIMIT and name not in self.aliases):
            self._client.counters.add("dropped.alias")
        else:
            self._client.remember(name, self)

    def discarded(self) -> None:
        """Remove the call's file: its user wants nothing sent."""
        self._client.forget(self)
        if self._file is not None:
            self._file.discard()
            self._file = None

    def abandon(self) -> None:
        """Let go of a call that belongs to the parent process; nothing is sent from this one."""
        self.ended = True
        self.recorder.abandon()
        if self._file is not None:
            self._file.abandon()
            self._file = None

    # -- inside -------------------------------------------------------------------------------------------------

    def _look_for_id(self, data: bytes | bytearray | memoryview | str, names: frozenset[str]) -> None:
        """Look for the call's id in the first messages; afterwards, for another one in what begins a stream."""
        bound = self.recorder.simulation_result_id
        if bound is not None:
            if begins_stream(data):
                self._refuse_another(usable_id(ids_in_message(data, names)), bound)
            return
        self._looks -= 1
        identity = usable_id(ids_in_message(data, names))
        if identity is not None:
            self.recorder.bind(identity)
        elif self._looks <= 0:  # so many without one: no simulation
            self._id_names = None
            self.recorder.discard("never_bound")

    def _refuse_another(self, identity: str | None, bound: str) -> None:
        if identity is None or identity == bound or identity in self.aliases:
            return
        counters = self._client.counters
        counters.add("dropped.second_id")
        text = "another stream, with the id %s, began on the connection of call %s: it has no report of its own"
        say_seldom(counters, logging.WARNING, text, identity, bound, key=(text, bound), simulation_result_id=bound)

    def _open_file(self, simulation_result_id: str, waiting: _Waiting | None = None) -> None:
        """Write to a file from now on, and before that what was ``waiting`` for it; without one, memory has it all."""
        try:
            self._file = self._new_file(simulation_result_id)
        except Exception as error:  # noqa: BLE001 - the call continues, and is kept in memory
            self.failed("spool", error)
        if self._file is not None and waiting is not None:
            waiting.release(self._file)
        self.recorder.write_to(self._file)

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
            started_at=self.recorder.started_at,
            version=VERSION,
            server=self.server,
        )


class _Waiting:
    """The lines of a call whose file cannot be opened before its id is known, from whichever thread they come."""

    __slots__ = ("_file", "_lines", "_lock")

    def __init__(self) -> None:
        self._lines: list[bytes] = []
        self._lock = threading.Lock()
        self._file: LiveReport | None = None

    def append(self, body: bytes) -> None:
        with self._lock:
            (self._file or self._lines).append(body)

    def release(self, file: LiveReport) -> None:
        """Pass all lines on, and from now on each at once: none is lost, doubled or out of order."""
        with self._lock:
            for body in self._lines:
                file.append(body)
            self._lines.clear()
            self._file = file


class CallContext:
    """While a handler runs its call's recorder is the current one; at the end the call learns how it was left.

    Enter it (``with`` or ``async with``) for the call's recorder; without a call that is the inert one.
    """

    __slots__ = ("_before", "_call")

    def __init__(self, call: Call | None) -> None:
        self._call = call
        self._before: Recorder | None = None

    def __enter__(self) -> Recorder:
        if self._call is None:
            return INERT
        self._before = self._call.enter()
        return self._call.recorder

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        before, self._before = self._before, None
        if self._call is not None and before is not None:
            self._call.leave(before, error)

    async def __aenter__(self) -> Recorder:
        return self.__enter__()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        before, self._before = self._before, None
        if self._call is not None and before is not None:
            await self._call.aleave(before, error)
