"""Look once, after the platform's evaluation, whether what was sent is there (``Bluejay(verify=True)``).

One GET for a call, some time after its delivery, and never a second one. What was sent is remembered as names, times
and hashes, in memory only: what the end of the process leaves unlooked at is counted.
"""

from __future__ import annotations

import json
import logging
import math
import threading
import time
from collections import Counter, OrderedDict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from bluejay_ws.delivery.outcomes import listed, number, offset_of, refuses, result_of
from bluejay_ws.log import say
from bluejay_ws.wire.platform import IN_PROGRESS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from bluejay_ws.delivery.attempt import Exchange
    from bluejay_ws.delivery.outcomes import Answer, Failure
    from bluejay_ws.stats import Counters

MOST = 1_000
"""So many calls wait for their look; more are counted as ``verify.skipped``."""
LARGEST = 1024 * 1024
"""A longer body is counted as ``verify.skipped``: to read it would hold the interpreter, and with it the agent."""
PACE = 0.2
"""Seconds between two looks: no wave of them follows a wave of reports."""
MOST_AT_ONCE = 5
"""So many looks may go together, where none went for a while."""

_Item = tuple[str, int | None]


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
    report = json.loads(body, parse_float=number)
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


class Verifier:
    """Know which delivered calls are to be looked at, and when: each once. Who has a client makes the look.

    Args:
        counters: where everything is counted, as ``verify.*``.
        after: seconds from the delivery to the look.
        clock: monotonic seconds.
    """

    def __init__(self, counters: Counters, *, after: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._counters = counters
        self._after = after
        self._clock = clock
        self.reset_after_fork()

    def reset_after_fork(self) -> None:
        """Own nothing in a forked child: the looks are the parent's."""
        self._waiting: OrderedDict[str, tuple[float, Facts]] = OrderedDict()
        self._lock = threading.Lock()
        self._next_at = -math.inf
        self._client: Exchange | None = None

    @property
    def waiting(self) -> int:
        """Return how many calls are still to be looked at, or are at this moment."""
        return len(self._waiting) + (self._client is not None)

    def expect(self, simulation_result_id: str, body: bytes) -> None:
        """Have a call looked at later; called by who delivered it. Never raises.

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
        with self._lock:
            known = self._waiting.get(simulation_result_id)
            if known is not None:
                known[1].add(facts)
            elif len(self._waiting) < MOST:
                self._waiting[simulation_result_id] = (self._clock() + self._after, facts)
            else:
                self._counters.add("verify.skipped")

    @property
    def due(self) -> bool:
        """Whether a look may be made now: at most one for each `PACE`, and one at a time."""
        with self._lock:
            return self._is_due(self._clock())

    def look(self, client: Exchange) -> bool:
        """Make the look that is due; return whether one was. Never raises.

        A platform that hangs holds up one thread only: while one looks, nothing else is due.
        """
        with self._lock:
            now = self._clock()
            if not self._is_due(now):
                return False
            self._next_at = max(self._next_at, now - (MOST_AT_ONCE - 1) * PACE) + PACE
            identity, (_, facts) = self._waiting.popitem(last=False)
            self._client = client
        try:
            self._compare(identity, facts, client.look(identity))
        except Exception as error:  # noqa: BLE001 - the others still get their look
            self._counters.add(f"errors.verify.{type(error).__name__}")
        finally:
            with self._lock:
                self._client = None
        return True

    def _is_due(self, now: float) -> bool:
        first = next(iter(self._waiting.values()), None)
        return first is not None and self._client is None and now >= max(first[0], self._next_at)

    def close(self) -> None:
        """End the look that is under way; what was not looked at is counted and said. A later delivery begins anew."""
        with self._lock:
            left = len(self._waiting)
            self._waiting.clear()
            if self._client is not None:  # under the lock: afterwards its thread may post with it
                self._client.abort_if_late(math.inf)
        if left:
            self._counters.add("verify.not_looked", left)
            text = "%d delivered reports were not verified: the end came before the platform's evaluation"
            say(self._counters, logging.INFO, text, left)

    def _compare(self, identity: str, sent: Facts, outcome: Answer | Failure) -> None:
        result = result_of(outcome)
        if result is None:
            self._counters.add("verify.refused" if refuses(outcome) else "verify.unreadable")
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
