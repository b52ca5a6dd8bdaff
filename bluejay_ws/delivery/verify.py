"""Look once, after the platform's evaluation, whether what was sent is there (``Bluejay(verify=True)``).

One GET for a call, some time after its delivery, and never a second one. What was sent is remembered as names, times
and hashes, in memory only: what the end of the process leaves unlooked at is counted.
"""

from __future__ import annotations

import contextlib
import json
import logging
import threading
import time
from collections import Counter, OrderedDict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from bluejay_ws.delivery.outcomes import Answer, Failure, listed, offset_of
from bluejay_ws.log import say
from bluejay_ws.stats import started
from bluejay_ws.wire.platform import IN_PROGRESS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from bluejay_ws.stats import Counters

__all__ = ["Facts", "Verifier", "differences", "facts_of"]

MOST = 1_000
"""So many calls wait for their look; more are counted as ``verify.skipped``."""
LARGEST = 1024 * 1024
"""A longer body is counted as ``verify.skipped``: to read it would hold the interpreter, and with it the agent."""
PACE = 0.2
"""Seconds between two looks: no wave of them follows a wave of reports."""
JOIN_SECONDS = 1.0

_Item = tuple[str, int | None]


class Reader(Protocol):
    """What reads results back; see `bluejay_ws.delivery.http.HttpExchange`."""

    def look(self, simulation_result_id: str) -> Answer | Failure:
        """Read a result back."""
        ...

    def abort_if_late(self, now: float) -> None:
        """End an exchange that takes too long."""

    def close(self) -> None:
        """Close the connections."""


@dataclass(slots=True)
class Facts:
    """What of a report can be read back, without its text.

    Args:
        tools: how often each tool call is there: name, offset, and a hash of parameters and output.
        events: how often each event is there: title and offset.
        trace_ids: linked traces; None where a result does not say.
    """

    tools: Counter[tuple[_Item, int]]
    events: Counter[_Item]
    trace_ids: frozenset[str] | None

    def add(self, other: Facts) -> None:
        """Take in what was sent for the same call before its look."""
        self.tools += other.tools
        self.events += other.events
        self.trace_ids = (self.trace_ids or frozenset()) | (other.trace_ids or frozenset())


def facts_of(body: bytes) -> Facts:
    """Return what of a report can be read back.

    Args:
        body: as it was posted.
    """
    report = json.loads(body, parse_float=_number)
    tools = Counter(_tool(call["name"], call) for call in _dicts(report.get("tool_calls")))
    return Facts(tools, _events(report), frozenset(_texts(report.get("trace_ids"))))


def differences(sent: Facts, result: dict[str, Any]) -> Counter[str]:
    """Return how many of what the result does not show as it was sent, by kind; empty where all is there.

    The kinds are ``tool_calls_missing``, ``tool_calls_changed`` (other parameters or another output),
    ``tool_calls_doubled``, ``events_missing``, ``events_doubled`` and ``trace_ids_missing``. What else is there, such
    as tools that come from a trace, is no difference.

    Args:
        sent: what was posted.
        result: the object ``simulation_result`` of the answer.
    """
    shown = _shown(result)
    found = Counter(
        events_missing=(sent.events - shown.events).total(), events_doubled=_doubled(sent.events, shown.events)
    )
    missing, extra = sent.tools - shown.tools, shown.tools - sent.tools
    items = Counter(item for item, _ in extra.elements())
    for item, contents in missing.elements():
        timeless = (item[0], None)
        match = item if items[item] else timeless
        if extra[timeless, contents]:
            extra[timeless, contents] -= 1
        else:
            found["tool_calls_changed" if items[match] else "tool_calls_missing"] += 1
        items[match] -= items[match] > 0
    found["tool_calls_doubled"] = _doubled(sent.tools, shown.tools)
    if shown.trace_ids is not None:
        found["trace_ids_missing"] = len((sent.trace_ids or frozenset()) - shown.trace_ids)
    return +found


def _shown(result: dict[str, Any]) -> Facts:
    tools: Counter[tuple[_Item, int]] = Counter()
    for group in _dicts(result.get("tool_calls")):
        tools.update(_tool(str(group.get("name")), call) for call in _dicts(group.get("actual")))
    traces = result.get("trace_ids")
    return Facts(tools, _events(result), frozenset(_texts(traces)) if isinstance(traces, list) else None)


def _doubled(sent: Counter[Any], shown: Counter[Any]) -> int:
    return sum(count for item, count in (shown - sent).items() if item in sent)


def _tool(name: str, call: dict[str, Any]) -> tuple[_Item, int]:
    parameters = call.get("parameters")
    contents = json.dumps([{} if parameters is None else parameters, call.get("output")], sort_keys=True)
    return (name, offset_of(call)), hash(contents)


def _events(found: dict[str, Any]) -> Counter[_Item]:
    return Counter((str(event.get("title")), offset_of(event)) for event in _dicts(found.get("events")))


def _dicts(value: object) -> Iterable[dict[str, Any]]:
    return (each for each in listed(value) if isinstance(each, dict))


def _texts(value: object) -> Iterable[str]:
    return (each for each in listed(value) if isinstance(each, str))


def _number(text: str) -> float:
    """Read 1.0 as 1: the platform may give the same number back in another form."""
    number = float(text)
    return int(number) if number.is_integer() else number


class Verifier:
    """Look at each delivered call once, on a thread that runs only while one waits for its look.

    Args:
        make_client: makes what reads results, on that thread.
        counters: where everything is counted, as ``verify.*``.
        after: seconds from the delivery to the look.
        clock: monotonic seconds.
        pace: seconds between two looks.
    """

    def __init__(
        self,
        make_client: Callable[[], Reader],
        *,
        counters: Counters,
        after: float,
        clock: Callable[[], float] = time.monotonic,
        pace: float = PACE,
    ) -> None:
        self._make_client = make_client
        self._counters = counters
        self._after = after
        self._clock = clock
        self._pace = pace
        self.reset_after_fork()

    def reset_after_fork(self) -> None:
        """Own nothing in a forked child: the looks are the parent's."""
        self._waiting: OrderedDict[str, tuple[float, Facts]] = OrderedDict()
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None
        self._client: Reader | None = None
        self._stopped = False

    @property
    def waiting(self) -> int:
        """Return how many calls are still to be looked at."""
        return len(self._waiting)

    def expect(self, simulation_result_id: str, body: bytes) -> None:
        """Have a call looked at later; called by who delivered it. Neither waits nor raises.

        Args:
            simulation_result_id: of the call.
            body: as it was accepted.
        """
        if len(body) > LARGEST:
            self._counters.add("verify.skipped")
            return
        try:
            facts = facts_of(body)
        except Exception as error:  # noqa: BLE001 - the report is delivered, whatever its numbers are
            self._counters.add(f"errors.verify.{type(error).__name__}")
            return
        with self._changed:
            known = self._waiting.get(simulation_result_id)
            if known is not None:
                known[1].add(facts)
            elif len(self._waiting) < MOST:
                self._waiting[simulation_result_id] = (self._clock() + self._after, facts)
                self._start()
            else:
                self._counters.add("verify.skipped")

    def abort_if_late(self, now: float) -> None:
        """End a look that takes too long; for another thread."""
        client = self._client
        if client is not None:
            client.abort_if_late(now)

    def close(self) -> None:
        """End the thread; what was not looked at is counted and said. A later delivery starts it again."""
        with self._changed:
            left, self._stopped = len(self._waiting), True
            self._waiting.clear()
            self._changed.notify_all()
            thread = self._thread
        self.abort_if_late(float("inf"))
        if thread is not None:
            thread.join(JOIN_SECONDS)
        if left:
            self._counters.add("verify.not_looked", left)
            text = "%d delivered reports were not verified: the end came before the platform's evaluation"
            say(self._counters, logging.INFO, text, left)

    # -- inside -------------------------------------------------------------------------------------------------

    def _start(self) -> None:
        """Start the thread if it does not run; under the lock. Where that fails, the next delivery tries again."""
        self._stopped = False
        if self._thread is None:
            thread = threading.Thread(target=self._work, name="bluejay_ws-verify", daemon=True)
            self._thread = thread if started(thread, self._counters) else None

    def _work(self) -> None:
        client: Reader | None = None  # this thread's own: the next one may have begun before this one has ended
        while (due := self._next(self._pace if client else 0.0)) is not None:
            try:
                client = client or self._make_client()
                self._client = client
                self._look(client, *due)
            except Exception as error:  # noqa: BLE001 - the others still get their look
                self._counters.add(f"errors.verify.{type(error).__name__}")
        if client is not None:
            with contextlib.suppress(Exception):
                client.close()

    def _next(self, pace: float) -> tuple[str, Facts] | None:
        """Wait for the next look and return it; None when none is left."""
        with self._changed:
            self._changed.wait_for(lambda: self._stopped, pace)
            while self._waiting and not self._stopped:
                identity, (due, facts) = next(iter(self._waiting.items()))
                wait = due - self._clock()
                if wait <= 0.0:
                    del self._waiting[identity]
                    return identity, facts
                self._changed.wait(wait)
            self._thread = None
            return None

    def _look(self, client: Reader, identity: str, sent: Facts) -> None:
        outcome = client.look(identity)
        result = _result(outcome)
        if result is None:
            refused = isinstance(outcome, Answer) and outcome.status in {401, 403}
            self._counters.add("verify.refused" if refused else "verify.unreadable")
            return
        found = differences(sent, result)
        if not found:
            self._counters.add("verify.complete")
        elif str(result.get("status")).strip().upper() in IN_PROGRESS:
            self._counters.add("verify.too_early")
        else:
            self._differs(identity, found)

    def _differs(self, identity: str, found: Counter[str]) -> None:
        self._counters.add("verify.differs")
        for kind, count in found.items():
            self._counters.add(f"verify.{kind}", count)
        words = ", ".join(f"{count} {kind.replace('_', ' ')}" for kind, count in found.items())
        text = "call %s: the platform does not show what was sent (%s); see: bluejay-ws result %s"
        say(self._counters, logging.WARNING, text, identity, words, identity, simulation_result_id=identity)


def _result(outcome: Answer | Failure) -> dict[str, Any] | None:
    """Return the result that was read; an empty one where the platform knows of none; None if it cannot be read."""
    if isinstance(outcome, Failure):
        return None
    try:
        body = json.loads(outcome.body, parse_float=_number)
    except (ValueError, RecursionError):
        return None
    if not isinstance(body, dict):
        return None
    if outcome.status == 404 and "detail" in body:
        return {}
    result = body.get("simulation_result") if outcome.status == 200 and outcome.complete else None
    return result if isinstance(result, dict) else None
