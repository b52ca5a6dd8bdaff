"""What a recorder keeps: lines of the journal, encoded at record time, redacted, within limits, counted."""

from __future__ import annotations

import logging
from datetime import datetime
from typing import TYPE_CHECKING, Any, Protocol

from bluejay_ws.log import say_seldom
from bluejay_ws.wire import fragments
from bluejay_ws.wire.fragments import CALL_LIMIT, ITEM_LIMIT, ITEMS_LIMIT, tool_call

if TYPE_CHECKING:
    from collections.abc import Callable

    from bluejay_ws.hearing.utterances import Heard, Speaker
    from bluejay_ws.stats import Counters

__all__ = ["Ledger", "Owner"]

_REDACTION_FAILED = "[redaction failed]"
SLOW_REDACTION_NS = 10_000_000
_SMALLEST_ALLOWANCE = 512
_AMPLE = CALL_LIMIT // 2
_FULL = CALL_LIMIT + CALL_LIMIT // 4  # what names and times may take when nothing else fits


class Owner(Protocol):
    """Who carries a recorder's journal to its end: told of what changes more than the journal."""

    def bound(self, simulation_result_id: str) -> None:
        """Learn that the call's id became known after connect."""

    def aliased(self, alias: str) -> None:
        """Learn a further name under which the call is to be found."""

    def discarded(self) -> None:
        """Learn that nothing of this call is to be sent."""


class Ledger:
    """Keep the facts of one call, in memory and in the journal; never raises into its user.

    Args:
        clock: monotonic nanoseconds.
        started_ns: the clock's value at the handshake.
        started_at: the handshake's Unix time in seconds.
        report_id: what tells this report apart from any other.
        simulation_result_id: the platform's id of the call; None while it is not known.
        counters: where cuts, mappings and drops are counted.
        write: given each line's body at once; None keeps it in memory only.
        owner: told of a late id, an alias and a discard.
        heard: places utterances that come without offsets.
        redact: called as ``redact(kind, value)`` before anything is kept, kind being one of ``parameters``,
            ``output``, ``utterance``, ``description``, ``metadata``, ``tags``; where it raises,
            ``"[redaction failed]"`` is kept instead.

    Attributes:
        closed: nothing more is taken from users.
        over: nothing more is kept at all: the last line is written, or the call is left out.
    """

    __slots__ = (
        "__weakref__",
        "_bodies",
        "_clock",
        "_counters",
        "_items",
        "_redact",
        "_size",
        "_started",
        "_started_at",
        "closed",
        "heard",
        "over",
        "owner",
        "report_id",
        "simulation_result_id",
        "write",
    )

    def __init__(
        self,
        *,
        clock: Callable[[], int],
        started_ns: int,
        started_at: float = 0.0,
        report_id: str,
        simulation_result_id: str | None,
        counters: Counters,
        write: Callable[[bytes], None] | None = None,
        owner: Owner | None = None,
        heard: Heard | None = None,
        redact: Callable[[str, Any], Any] | None = None,
    ) -> None:
        self._clock = clock
        self._started = started_ns
        self._started_at = started_at
        self.report_id = report_id
        self.simulation_result_id = simulation_result_id
        self._counters = counters
        self.write: Callable[[bytes], None] | None = write
        self.owner: Owner | None = owner
        self.heard: Heard | None = heard
        self._redact = redact
        self._bodies: list[bytes] = []
        self._size = 0
        self._items = 0
        self.closed = False
        self.over = False

    @property
    def active(self) -> bool:
        """Whether what is recorded now goes into a report: false outside a simulation and after its end."""
        return not self.closed

    @property
    def started_at(self) -> float:
        """The handshake's Unix time in seconds."""
        return self._started_at

    @property
    def bodies(self) -> list[bytes]:
        """The journal's lines so far, without check sums."""
        return self._bodies

    def offset_ms(self, at: datetime | float | None = None) -> int:
        """Return a time as whole milliseconds since the handshake; never negative.

        Args:
            at: a `datetime` (one without a zone is local time) or Unix time in seconds, of this machine's clock or of a
                provider's; default now.
        """
        try:
            now = (self._clock() - self._started) // 1_000_000
            if at is not None:
                seconds = at.timestamp() if isinstance(at, datetime) else float(at)
                now = round((seconds - self._started_at) * 1e3)
            return min(max(0, now), 2**53)
        except Exception as error:  # noqa: BLE001 - no error of ours reaches the agent
            self.failed("offset", error)
            return 0

    def restart(self, started_ns: int) -> None:
        """Count offsets from ``started_ns`` on; for the library itself, where the handshake ends after its start."""
        self._started_at += (started_ns - self._started) / 1e9
        self._started = started_ns

    def _utterance_fragment(self, role: Speaker, words: str, start: int, end: int, *, filler: bool | None) -> bytes:
        notes: list[str] = []
        fragment = fragments.utterance(start, end, role, words, filler, notes, limit=self._allowance())
        self._count(notes)
        return fragment

    def _tool_call(self, start: int, name: str, parameters: object, output: object, description: str | None) -> bytes:
        notes: list[str] = []
        if self._redact is not None:
            parameters = None if parameters is None else self._redacted("parameters", parameters)
            output = output if output is fragments.OMITTED else self._redacted("output", output)
            description = None if description is None else self._redacted("description", description)
        limit = ITEM_LIMIT if self._size < _AMPLE else self._allowance()
        fragment = tool_call(start, name, parameters, output, description, notes, limit=limit)
        if notes:
            self._count(notes)
        return fragment

    def _event(
        self, start: int, end: int | None, title: str, description: str | None, tags: object, metadata: object
    ) -> bytes:
        notes: list[str] = []
        if self._redact is not None:
            description = None if description is None else self._redacted("description", description)
            metadata = None if metadata is None else self._redacted("metadata", metadata)
            tags = None if tags is None else self._redacted("tags", tags)
        fragment = fragments.event(start, title, end, description, tags, metadata, notes, limit=self._allowance())
        self._count(notes)
        return fragment

    def _redacted(self, kind: str, value: Any) -> Any:
        if self._redact is None:
            return value
        try:
            began = self._clock()
            kept = self._redact(kind, value)
            slow = self._clock() - began > SLOW_REDACTION_NS
        except Exception:  # noqa: BLE001 - the hook's failure must neither leak the value nor reach the agent
            self._counters.add("redaction_failed")
            return (_REDACTION_FAILED,) if kind == "tags" else _REDACTION_FAILED
        if slow:
            self._slow_redaction()
        return kept

    def _slow_redaction(self) -> None:
        """Say that the agent waits for its own hook; nobody else can end that wait."""
        self._counters.add("redaction_slow")
        text = "the redact hook is slow: the agent waits for it, more than 10 ms at a time; make it quicker"
        say_seldom(self._counters, logging.WARNING, text, simulation_result_id=self.simulation_result_id)

    def _at(self, offset_ms: float | None) -> int:
        """Return a given offset as the wire has it: whole, not negative, now if it is no number."""
        if offset_ms is None:
            return self.offset_ms()
        try:
            if type(offset_ms) is not int:  # `int` of a huge Decimal takes minutes
                offset_ms = int(float(offset_ms))
            return min(max(0, offset_ms), 2**53)
        except (TypeError, ValueError, OverflowError):
            self._counters.add("mapped.offset")
            return self.offset_ms()

    def _allowance(self) -> int:
        """Return the bytes that the next item may take: less and less in the second half of the call's share."""
        if self._size < _AMPLE:
            return ITEM_LIMIT
        return max(_SMALLEST_ALLOWANCE, min(ITEM_LIMIT, (CALL_LIMIT - self._size) // 16))

    def _keep(self, body: bytes) -> None:
        if self.over:  # it ended while this was being encoded, on another thread
            return self._late()
        if self._items >= ITEMS_LIMIT or self._size > _FULL:
            return self._counters.add("dropped.items")
        self._items += 1
        self._bodies.append(body)  # `_put`, spelled out: this is the path of every tool call
        self._size += len(body)
        write = self.write  # read once: another thread may let go of it
        if write is not None:
            write(body)
        return None

    def _begins_an_item(self) -> bool:
        """Return whether there is room for one more item; what replaces it later needs none."""
        if self._items >= ITEMS_LIMIT or self._size > _FULL:
            self._counters.add("dropped.items")
            return False
        self._items += 1
        return True

    def _append(self, body: bytes) -> None:
        if self.over:
            self._late()
        else:
            self._put(body)

    def _put(self, body: bytes) -> None:
        self._bodies.append(body)
        self._size += len(body)
        write = self.write  # read once: another thread may let go of it
        if write is not None:
            write(body)

    def _count(self, notes: list[str]) -> None:
        for note in notes:
            self._counters.add(note)

    def _late(self) -> None:
        self._counters.add("dropped.after_close")

    def _drop(self, reason: str, message: str) -> None:
        self._counters.add(f"dropped.{reason}")
        say_seldom(self._counters, logging.WARNING, message, simulation_result_id=self.simulation_result_id)

    def _unless_closed(self, what: str, action: Callable[..., None], *args: object) -> None:
        if self.closed:
            self._late()
        else:
            self._guarded(what, action, *args)

    def _guarded(self, what: str, action: Callable[..., None], *args: object) -> None:
        try:
            action(*args)
        except Exception as error:  # noqa: BLE001 - no error of ours reaches the agent
            self.failed(what, error)

    def failed(self, what: str, error: Exception) -> None:
        """Count what could not be recorded; of the error only the type is told: its text may quote the caller.

        For the library itself, like the adapters that listen to a framework for this call.
        """
        self._counters.add(f"dropped.failed_{what}")
        words = "recording of one %s failed (%s)"
        identity = self.simulation_result_id
        say_seldom(self._counters, logging.ERROR, words, what, type(error).__name__, simulation_result_id=identity)

    def count(self, name: str) -> None:
        """Count something that happened in this call; for the library itself, like the taps."""
        self._counters.add(name)
