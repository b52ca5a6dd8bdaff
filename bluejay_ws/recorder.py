"""What happened in one call, encoded once, at the moment it happened.

A `Recorder` turns every fact into a line of the journal at record time: later changes to a value cannot
alter history, what was journaled is byte for byte what is sent, and closing a call is a join. It is pure:
its clock, its journal and its ear for who was heard when are handed in, and it knows no socket, file or thread.
It may be used from any thread; it only ever adds; and it never raises: what cannot be kept is counted.
"""

# ruff: noqa: SLF001 - an utterance or a block and its recorder are two halves of one thing

from __future__ import annotations

import itertools
import logging
import re
from datetime import datetime
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol

from pydantic_core import from_json

from bluejay_ws.blocks import Block, EventBlock, ToolCallBlock, UtteranceBlock
from bluejay_ws.hearing.utterances import NOTHING, Utterance, place
from bluejay_ws.interrupts import of_a_value
from bluejay_ws.log import say_seldom
from bluejay_ws.stats import making
from bluejay_ws.wire import items, journal
from bluejay_ws.wire.encode import finite
from bluejay_ws.wire.ids import usable_id
from bluejay_ws.wire.items import CALL_LIMIT, ITEM_LIMIT, ITEMS_LIMIT, tool_call

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from bluejay_ws.hearing.level import Frame
    from bluejay_ws.hearing.utterances import Heard, Placed, Speaker, Stretch
    from bluejay_ws.stats import Counters

__all__ = ["DECORATED_TOOLS", "Lines", "Owner", "Recorder"]


# Names of the functions under @record_tool, so that a call which ends without any tool call can be told apart.
DECORATED_TOOLS: set[str] = set()

_SPEAKERS: dict[str, Speaker] = {"agent": "AGENT", "user": "USER"}
_TRACE, _REPORT = 1, 2
_DOUBLED = (
    "a trace is linked to this call, and its tool calls are recorded too: if the trace has the tools as spans, the "
    "platform counts each twice. Leave out add_trace_id, or the other source: @record_tool, add_tool_call, the tap "
    "(docs/providers.md, "
    '"Tools that are counted twice")'
)
_TRACE_ID = re.compile("[0-9a-f]{32}")
_FAR_MS = 24 * 3_600_000
"""What lies a day from a call's start is no time of that call."""
_REDACTION_FAILED = "[redaction failed]"
SLOW_REDACTION_NS = 10_000_000
_SMALLEST_ALLOWANCE = 512
_AMPLE = CALL_LIMIT // 2
_WORDS_LIMIT = ITEM_LIMIT - 1024  # an utterance with its times and speaker is one item
_EMPTIES = frozenset({type(None), str, bytes, int, bool, float, list, tuple, dict})  # no code of their own is asked
_FULL = CALL_LIMIT + CALL_LIMIT // 4  # what names and times may take when nothing else fits
_TOOL_CALL = b'["tool_calls",'
_INTERRUPTED = b',"output":{"status":"interrupted"}}'
# One count for all calls: `next` is atomic, so blocks opened by two threads at once never share a number.
_numbers = itertools.count(1)


class Lines(Protocol):
    """Where the lines of a journal go, one after the other: a call's file, or a list."""

    def append(self, body: bytes, /) -> None:
        """Take one line's body."""


class Owner(Protocol):
    """Who carries a recorder's journal to its end: it learns of what changes more than the journal."""

    def bound(self, simulation_result_id: str) -> None:
        """Learn that the call's id became known after connect."""

    def aliased(self, alias: str) -> None:
        """Learn a further name under which the call is to be found."""

    def discarded(self) -> None:
        """Learn that nothing of this call is to be sent."""


class _Unfinished:
    """What has no last line yet: open blocks, stretches without a place, and utterances changed since their line.

    And what is to be done once the call ends.
    """

    __slots__ = ("actions", "blocks", "changed", "stretches")

    def __init__(self) -> None:
        self.actions: list[Callable[[], None]] = []
        self.blocks: dict[int, Block] = {}
        self.stretches: list[Stretch] = []
        self.changed: dict[int, Utterance] = {}


_NO_LINES: list[bytes] = []  # of all calls that are idle; nothing is ever put into it
_NOTHING = _Unfinished()  # of all calls in which nothing is unfinished; nothing is ever put into it


class Recorder:
    """Record what happened in one call; reach it with `current_recorder`.

    Offsets are whole milliseconds since the websocket handshake, on a monotonic clock. Left out, they mean
    "now"; an utterance without offsets is placed where its audio was heard. After the end of the call, and
    after `discard`, everything is ignored and counted as ``dropped.after_close``.

    Args:
        clock: monotonic nanoseconds.
        started_ns: the clock's value at the handshake.
        started_at: the handshake's Unix time in seconds.
        report_id: what tells this report apart from any other.
        simulation_result_id: the platform's id of the call; None while it is not known.
        counters: where cuts, mappings and drops are counted.
        owner: learns of a late id, an alias and a discard.
        redact: called as ``redact(kind, value)`` before anything is kept, kind being one of ``parameters``,
            ``output``, ``utterance``, ``description``, ``metadata``, ``tags``; where it raises,
            ``"[redaction failed]"`` is kept instead.

    Attributes:
        closed: nothing more is taken from users.
        owner: see above; None after the end.
        heard: places utterances that come without offsets, see `hear_with`; None after the end.
        report_id: see above.
        simulation_result_id: see above; once known, it stays.
    """

    __slots__ = (
        "__weakref__",
        "_bodies",
        "_clock",
        "_counters",
        "_items",
        "_lines",
        "_over",
        "_redact",
        "_size",
        "_sources",
        "_started",
        "_started_at",
        "_stopped",
        "_unfinished",
        "closed",
        "heard",
        "owner",
        "report_id",
        "simulation_result_id",
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
        owner: Owner | None = None,
        redact: Callable[[str, Any], Any] | None = None,
    ) -> None:
        self._clock = clock
        self._started = started_ns
        self._started_at = started_at
        self._stopped = started_ns
        self.report_id = report_id
        self.simulation_result_id = simulation_result_id
        self._counters = counters
        self._lines: Lines | None = None  # not its bound `append`: that would be an object more for each idle call
        self.owner = owner
        self.heard: Heard | None = None
        self._redact = redact
        self._bodies = _NO_LINES
        self._size = 0
        self._items = 0
        self._sources = 0  # of tool calls: a linked trace, the report itself
        self._unfinished = _NOTHING
        self.closed = False
        self._over = False  # nothing more is kept at all: the last line is written, or the call is left out

    def __repr__(self) -> str:
        state = "closed" if self.closed else "active"
        return f"<{type(self).__name__} of call {self.simulation_result_id or 'without id'}, {state}>"

    @property
    def active(self) -> bool:
        """Whether what is recorded now goes into a report: false outside a simulation and after its end."""
        return not self.closed

    @property
    def started_at(self) -> float:
        """The handshake's Unix time in seconds."""
        return self._started_at

    @property
    def started_ns(self) -> int:
        """The handshake by the clock."""
        return self._started

    @property
    def clock(self) -> Callable[[], int]:
        """The clock itself: monotonic nanoseconds, for what becomes an offset only later."""
        return self._clock

    @property
    def bodies(self) -> list[bytes]:
        """The journal's lines so far, without check sums."""
        return self._bodies

    def offset_ms(self, at: datetime | float | None = None) -> int:
        """Return a time as whole milliseconds since the handshake; never negative.

        Args:
            at: a `datetime` (one without a zone is local time) or Unix time in seconds, of this machine's clock or of a
                provider's; default now, and so is what is no number, counted as ``mapped.offset``. Unix time in
                milliseconds, microseconds or nanoseconds is understood, and counted likewise.
        """
        try:
            now = (self._clock() - self._started) // 1_000_000
            if at is None:  # the path of every fact and of each event of a provider's
                return max(0, now)
            seconds = at.timestamp() if isinstance(at, datetime) else finite(at)
            now = now if seconds is None else round((seconds - self._started_at) * 1e3)
            if seconds is None or abs(now) > _FAR_MS:
                self._counters.add("mapped.offset")
                now = now if seconds is None else self._since_unix(seconds) or now
            return min(max(0, now), 2**53)
        except BaseException as error:  # noqa: BLE001 - no error of ours or of a value reaches the agent
            self._contain("offset", error)
            return 0

    def _since_unix(self, value: float) -> int | None:
        """Return the offset of a Unix time of any unit, if that is a time of about this call; else None."""
        for unit in (1.0, 1e3, 1e6, 1e9):
            offset = (value / unit - self._started_at) * 1e3
            if abs(offset) < _FAR_MS:
                return max(0, round(offset))
        return None

    def restart(self, started_ns: int) -> None:
        """Count offsets from ``started_ns`` on; for the library itself, where the handshake ends after its start."""
        self._started_at += (started_ns - self._started) / 1e9
        self._started = started_ns

    def hear_with(self, heard: Heard) -> None:
        """Place utterances without offsets by ``heard`` from now on; for the library itself."""
        self.heard = heard

    def write_to(self, lines: Lines | None) -> None:
        """Append each line's body to ``lines`` from now on, None: keep it in memory only; for the library itself."""
        self._lines = lines

    # -- what was said ------------------------------------------------------------------------------------------

    def agent_said(
        self,
        text: str,
        *,
        start_offset_ms: int | None = None,
        end_offset_ms: int | None = None,
        audio_ms: float | None = None,
        filler: bool | None = None,
    ) -> Utterance:
        """Record what the agent said; see `add_utterance`."""
        return self.add_utterance(
            "agent",
            text,
            start_offset_ms=start_offset_ms,
            end_offset_ms=end_offset_ms,
            audio_ms=audio_ms,
            filler=filler,
        )

    def user_said(
        self,
        text: str,
        *,
        start_offset_ms: int | None = None,
        end_offset_ms: int | None = None,
        audio_ms: float | None = None,
        filler: bool | None = None,
    ) -> Utterance:
        """Record what the agent understood the caller to say; see `add_utterance`."""
        return self.add_utterance(
            "user",
            text,
            start_offset_ms=start_offset_ms,
            end_offset_ms=end_offset_ms,
            audio_ms=audio_ms,
            filler=filler,
        )

    def add_utterance(
        self,
        speaker: str,
        text: str,
        *,
        start_offset_ms: int | None = None,
        end_offset_ms: int | None = None,
        audio_ms: float | None = None,
        filler: bool | None = None,
    ) -> Utterance:
        """Record one utterance; an empty one is dropped and counted.

        Without offsets it takes the span in which its audio was heard: for the agent the audio that is
        playing, has just been played or comes next; for the caller the last speech that has no text yet.

        Args:
            speaker: ``"agent"`` or ``"user"``.
            text: the words. For the agent: what was said; for the user: what speech-to-text understood.
            start_offset_ms: milliseconds since the handshake.
            end_offset_ms: milliseconds since the handshake; never before the start.
            audio_ms: how much audio carries it, if that is known: of texts that share a span, each takes so much.
            filler: whether it only fills a pause ("one moment please").

        Returns:
            The utterance, which can be corrected, cut or withdrawn until the call ends.
        """
        try:
            return self._utterance(speaker, text, start_offset_ms, end_offset_ms, audio_ms, filler=filler)
        except BaseException as error:  # noqa: BLE001 - no error of ours or of a value reaches the agent
            self._contain("utterance", error)
            return NOTHING

    def utterance(self, speaker: str, *, filler: bool | None = None) -> UtteranceBlock:
        """Return a block that times one utterance: ``with recorder.utterance("agent") as u: u.text += "..."``.

        The block's own times count, not those of the audio.
        """
        return UtteranceBlock(self, speaker, filler=filler)

    # -- tool calls ---------------------------------------------------------------------------------------------

    def add_tool_call(
        self,
        name: str,
        *,
        parameters: Mapping[str, Any] | None = None,
        output: Any = items.OMITTED,
        description: str | None = None,
        start_offset_ms: int | None = None,
    ) -> None:
        """Record a tool call that is over.

        Args:
            name: the tool's name; the platform compares it exactly.
            parameters: what it was called with.
            output: what it answered, any Python value; left out, the report says nothing about it.
            description: what the tool does.
            start_offset_ms: when it began; default now.
        """
        if self.closed:
            return self._late()
        try:
            if start_offset_ms is None:
                # Agents do this in the middle of speech: `offset_ms` spelled out. The start is read first: if another
                # thread moves it meanwhile, this is not negative.
                started = self._started
                start = (self._clock() - started) // 1_000_000
            else:
                start = self._at(start_offset_ms)
            if self._redact is not None:
                parameters, description = self._redacted_input(parameters, description)
                output = output if output is items.OMITTED else self._redacted("output", output)
            notes: list[str] = []
            limit = ITEM_LIMIT if self._size < _AMPLE else self._allowance()
            self._keep(_TOOL_CALL + tool_call(start, name, parameters, output, description, notes, limit))
            if notes:
                self._count(notes)
            if not self._sources & _REPORT:
                self._tools_come_from(_REPORT)
        except BaseException as error:  # noqa: BLE001 - no error of ours or of a value reaches the agent
            self._contain("tool_call", error)
        return None

    def tool_call(
        self, name: str, parameters: Mapping[str, Any] | None = None, description: str | None = None
    ) -> ToolCallBlock:
        """Return a block that times one tool call: ``with recorder.tool_call("f", {...}) as call: call.output = ...``.

        Tool calls of the same name may run at once; each keeps its own time and output.
        """
        return ToolCallBlock(self, name, parameters, description)

    # -- events -------------------------------------------------------------------------------------------------

    def add_event(
        self,
        title: str,
        *,
        description: str | None = None,
        start_offset_ms: int | None = None,
        end_offset_ms: int | None = None,
        tags: Iterable[str] | None = None,
        metadata: Mapping[str, Any] | None = None,
    ) -> None:
        """Record an event.

        Args:
            title: what happened, in a few words.
            description: more of it.
            start_offset_ms: default now.
            end_offset_ms: default none: the event has no length. Never before the start.
            tags: words to find it by.
            metadata: anything else, as a mapping.
        """
        self._unless_closed(
            "event", self._add_event, title, description, start_offset_ms, end_offset_ms, tags, metadata
        )

    def note_event(self, title: str, **facts: Any) -> None:
        """Do the same until `close`, even after `stop`; for what the library itself observes."""
        self._guarded("event", partial(self._add_event, title, **facts))

    def _add_event(
        self,
        title: str,
        description: str | None = None,
        start_offset_ms: int | None = None,
        end_offset_ms: int | None = None,
        tags: Iterable[str] | None = None,
        metadata: Mapping[str, Any] | None = None,
    ) -> None:
        start = self._at(start_offset_ms)
        end = None if end_offset_ms is None else max(start, self._at(end_offset_ms))
        self._keep(journal.item("events", self._event(start, end, title, description, tags, metadata)))

    def event(
        self,
        title: str,
        *,
        description: str | None = None,
        tags: Iterable[str] | None = None,
        metadata: dict[str, Any] | None = None,
    ) -> EventBlock:
        """Return a block that records one event with the block's start and end."""
        return EventBlock(self, title, description, tags, metadata)

    # -- what was heard -----------------------------------------------------------------------------------------

    def interruption(self, *, at_ms: int | None = None, by: str = "user", source: str = "openai") -> None:
        """Note that a provider or a framework says: one side broke in on the other.

        It is one with the barge-in that the call's audio shows near it, whoever noticed first; where no audio is
        observed, it becomes the event.

        Args:
            at_ms: when, in milliseconds since the handshake; default now.
            by: who broke in, ``"user"`` or ``"agent"``.
            source: who says so.
        """
        self._unless_closed("interruption", self._interrupted, at_ms, by, source)

    def _interrupted(self, at_ms: int | None, by: str, source: str) -> None:
        heard = self.heard  # read once, as everything that `release` lets go of
        if heard is not None:
            heard.interruption(self._at(at_ms), by, source)
        else:
            title = "Agent interrupted the caller" if by == "agent" else "Caller interrupted the agent"
            self.note_event(title, start_offset_ms=at_ms, metadata={"source": source})

    def received(self, frame: Frame) -> None:
        """Hand over a frame of the caller's audio as it comes in; only where no adapter does, as with `bluejay.call`.

        Args:
            frame: 16 bit little-endian samples, mono, 16,000 a second; it is listened to and not kept.
        """
        heard = self.heard
        if heard is not None and not self.closed:
            self._guarded("frame", heard.received, frame, self._now_ms())

    def sent(self, frame: Frame) -> None:
        """Hand over a frame of the agent's audio as it is sent; see `received`."""
        heard = self.heard
        if heard is not None and not self.closed:
            self._guarded("frame", heard.sent, frame, self._now_ms())

    def _now_ms(self) -> float:
        return (self._clock() - self._started) / 1e6

    # -- the whole call -----------------------------------------------------------------------------------------

    def add_tags(self, *tags: str) -> None:
        """Add words to find the call by; a tag given twice counts once."""
        self._unless_closed("tags", self._add_texts, "tags", tags)

    def add_trace_id(self, trace_id: str | int) -> None:
        """Link an OpenTelemetry trace to the call; the same one twice is linked once.

        Args:
            trace_id: 32 hexadecimal digits, or the number itself. One that is empty or zero is no trace: it is dropped
                and counted.
        """
        self._unless_closed("trace_id", self._link, trace_id)

    def add_metadata(self, **values: Any) -> None:
        """Add values that fill ``{{placeholders}}`` in custom metrics; of equal names the later one counts."""
        self._unless_closed("metadata", self._add_metadata, values)

    def bind(self, simulation_result_id: str) -> None:
        """Give the call its id after connect; offsets still count from connect.

        The same id again changes nothing; another id, or one that cannot be an id, is refused and counted.
        """
        self._unless_closed("bind", self._bind, simulation_result_id)

    def add_alias(self, alias: str) -> None:
        """Let ``bluejay.find(alias)`` answer with this recorder while the call lasts."""
        owner = self.owner
        if owner is not None and not self.closed:
            self._guarded("alias", owner.aliased, alias)

    def discard(self, reason: str = "discarded") -> None:
        """Leave this call out: nothing recorded before or after is sent. Twice is once.

        Args:
            reason: counted as ``dropped.`` and this; the library gives others where it leaves a call out itself.
        """
        if self.closed:
            return
        self._counters.add(f"dropped.{reason if type(reason) is str else 'discarded'}")
        self.closed = self._over = True
        owner = self.owner
        if owner is not None:
            self._guarded("discard", owner.discarded)
        self.release()

    # -- the end ------------------------------------------------------------------------------------------------

    def at_end(self, action: Callable[[], None]) -> None:
        """Call ``action`` when the call ends, while it can still record; for what listens to a provider."""
        if not self.closed:
            self._to_finish().actions.append(action)

    def stop(self) -> None:
        """Take nothing more from users, and close what is open as it stands now; `close` does the rest. Idempotent."""
        if self.closed:
            return
        try:
            self._stopped = self._clock()
        except Exception as error:  # noqa: BLE001 - as in `offset_ms`
            self._contain("offset", error)
        if self._unfinished is not _NOTHING:
            self._stop(self._unfinished)
        self.closed = True

    def _stop(self, unfinished: _Unfinished) -> None:
        actions, unfinished.actions = unfinished.actions, []
        for action in actions:
            self._guarded("end", action)
        for block in list(unfinished.blocks.values()):
            self._guarded("block", self._interrupt, block)

    @property
    def stopped_ms(self) -> int:
        """When the call was stopped, in milliseconds since the handshake."""
        return max(0, (self._stopped - self._started) // 1_000_000)

    def close(self, facts: Mapping[str, Any], summary: Mapping[str, Any]) -> None:
        """End the call as of when it was stopped: add the closing event and the journal's last line. Twice is once.

        Args:
            facts: how the connection ended, such as ``close_code`` and ``outcome``.
            summary: what was observed on the way, for the closing event.
        """
        self.stop()
        if self._over:
            return
        if self._unfinished is not _NOTHING:
            self._guarded("utterance", self._place_all)
            self._guarded("utterance", self._write_rest)
        self._over = True
        self._guarded("close", self._closing_lines, facts, summary)

    def _closing_lines(self, facts: Mapping[str, Any], summary: Mapping[str, Any]) -> None:
        marker = {"report_id": self.report_id, **facts, **summary}
        self._put(journal.item("events", journal.own_event(self.stopped_ms, "Connection closed", marker)))
        self._put(journal.closed({"offset_ms": self.stopped_ms, **facts}))

    def abandon(self) -> None:
        """Forget a call that is not this process's: a forked child has a copy of its parent's. Nothing is counted."""
        self.closed = self._over = True
        self.release()

    def release(self) -> None:
        """Let go of everything after the end: whoever still holds the recorder keeps no call, no words, no cycle."""
        self.owner = self.heard = self._lines = None
        self._bodies, self._unfinished = _NO_LINES, _NOTHING

    # -- for the library itself ---------------------------------------------------------------------------------

    def failed(self, what: str, error: BaseException) -> None:
        """Count what could not be recorded; only the error's type is logged: its text may quote the caller.

        For the library itself, like the adapters that listen to a framework for this call.
        """
        self._counters.add(f"dropped.failed_{what}")
        words = "recording of one %s failed (%s)"
        identity = self.simulation_result_id
        say_seldom(self._counters, logging.ERROR, words, what, type(error).__name__, simulation_result_id=identity)

    def count(self, name: str) -> None:
        """Count something that happened in this call; for the library itself, like the taps."""
        self._counters.add(name)

    def _to_finish(self) -> _Unfinished:
        """Return the place for what is not finished; it is made when first needed, once for all threads."""
        if self._unfinished is _NOTHING:
            with making:
                if self._unfinished is _NOTHING:
                    self._unfinished = _Unfinished()
        return self._unfinished

    # -- inside: blocks -----------------------------------------------------------------------------------------

    def _enter_block(self, block: Block) -> None:
        """Note that ``block`` began; part of `blocks.Blocks`."""
        if not self.closed:
            self._guarded("block", self._open_block, block)

    def _leave_block(self, block: Block, error: BaseException | None) -> None:
        """Note that ``block`` ended, by ``error`` if it is not None; part of `blocks.Blocks`."""
        if self._unfinished.blocks.pop(block.number, None) is not None:
            self._guarded("block", self._end_block, block, error)
        elif self.closed:
            self._late()

    def _open_block(self, block: Block) -> None:
        block._begin(next(_numbers), self._at(block._given_start))
        if not self._begins_an_item():
            return
        self._to_finish().blocks[block.number] = block
        if isinstance(block, ToolCallBlock):
            self._tools_come_from(_REPORT)
            opened = self._begun(block)
            block._keep(opened)
            self._append(journal.opened(block.number, "tool_calls", opened[:-1] + _INTERRUPTED))
        elif isinstance(block, EventBlock):
            self._append(journal.opened(block.number, "events", self._event_block(block, None)))

    def _tools_come_from(self, source: int) -> None:
        """Say it once if tools come both from a linked trace and from the report: each may be counted twice."""
        before, self._sources = self._sources, self._sources | source
        if self._sources == _TRACE | _REPORT != before:
            self._counters.add("doubled.tool_calls")
            say_seldom(self._counters, logging.WARNING, _DOUBLED, simulation_result_id=self.simulation_result_id)

    def _begun(self, block: ToolCallBlock) -> bytes:
        """Return a tool call whose output is not known yet, with room for it."""
        notes: list[str] = []
        parameters, description = block.parameters, block.description
        if self._redact is not None:
            parameters, description = self._redacted_input(parameters, description)
        limit = self._allowance() - items.OUTPUT_ROOM
        encoded = tool_call(block.start_offset_ms, block.name, parameters, items.OMITTED, description, notes, limit)
        self._count(notes)
        return encoded

    def _end_tool_call(self, block: ToolCallBlock, output: object) -> None:
        encoded = self._begun(block) if block.opened is None else block.opened
        if output is not items.OMITTED:
            notes: list[str] = []
            encoded = items.with_output(encoded, self._redacted("output", output), notes, limit=self._allowance())
            self._count(notes)
        self._append(journal.done(block.number, "tool_calls", encoded))

    def _event_block(self, block: EventBlock, end: int | None) -> bytes:
        start = self._at(block.start_offset_ms)
        return self._event(start, end, block.title, block.description, block.tags, block.metadata)

    def _end_block(self, block: Block, error: BaseException | None) -> None:
        if isinstance(block, ToolCallBlock):
            self._end_tool_call(block, block.result(error))
        elif isinstance(block, EventBlock):
            self._append(journal.done(block.number, "events", self._event_block(block, self.offset_ms())))
        elif isinstance(block, UtteranceBlock):  # pragma: no branch - there are three kinds
            self._items -= 1  # it is counted again, as what it has become
            end = self.offset_ms()
            self._utterance(block.speaker, block.text, block.start_offset_ms, end, None, filler=block.filler)

    def _interrupt(self, block: Block) -> None:
        """Close a block that outlived its call; a tool call's own opening line already says `interrupted`."""
        if self._unfinished.blocks.pop(block.number, None) is None:
            return
        if isinstance(block, EventBlock):
            block._interrupt()
        if not isinstance(block, ToolCallBlock):
            self._end_block(block, None)
        elif block.output is not items.OMITTED:
            self._end_tool_call(block, {"status": "interrupted", "output": block.output})

    # -- inside: utterances -------------------------------------------------------------------------------------

    def _utterance(
        self,
        speaker: str,
        text: str,
        start_offset_ms: int | None,
        end_offset_ms: int | None,
        audio_ms: float | None,
        *,
        filler: bool | None,
    ) -> Utterance:
        if self.closed:
            self._late()
            return NOTHING
        role = _SPEAKERS.get(speaker.lower()) if type(speaker) is str else None
        if role is None:
            self._drop("speaker", "an utterance was dropped: its speaker is neither 'agent' nor 'user'")
            return NOTHING
        words = self._words_of(text)
        if not words:
            self._counters.add("dropped.empty_utterance")
            return NOTHING
        if not self._begins_an_item():
            return NOTHING
        now = self.offset_ms()
        length = None if audio_ms is None else float(self._at(audio_ms))
        found = Utterance(self, next(_numbers), role, words, at_ms=now, filler=filler, audio_ms=length)
        heard = self.heard
        if start_offset_ms is None and end_offset_ms is None and heard is not None:
            self._hear(found, heard)
        else:
            end = self._at(end_offset_ms)
            start = min(end, now) if start_offset_ms is None else self._at(start_offset_ms)
            self._stand(found, start, max(start, end))
        return found

    def _hear(self, one: Utterance, heard: Heard) -> None:
        """Place an utterance where it was heard, when that is over; at the latest at the end of the call."""
        self._place_those(lambda stretch: stretch.over)
        stretch = heard.utterance(one, one._at_ms)
        if len(stretch.texts) == 1:
            self._to_finish().stretches.append(stretch)
        if stretch.segments:
            one._begins(stretch.segments[0].start)
        self._write(one, journal.opened)

    def _stand(self, one: Utterance, start: int, end: int, share: float = 1.0) -> None:
        """Give an utterance its times, and the share of its audio that was heard."""
        one._place(start, end, share)
        if one._recorder is not None:  # else it was withdrawn meanwhile
            self._write(one, journal.done)

    def _write(self, one: Utterance, line: Callable[[int, str, bytes], bytes]) -> None:
        words = one.text
        if not words:
            return self._withdrawn(one, "never_heard")
        notes: list[str] = []
        (start, end), limit = one._span, self._allowance()
        encoded = items.utterance(start, end, one._speaker, words, one._filler, notes, limit=limit)
        if one._newly_cut():
            notes.append("cut.unheard")
        self._count(notes)
        return self._append(line(one._number, "recorded_transcript", encoded))

    def _words_of(self, text: object) -> str:
        """Return words as they stand now, as text of a bounded size; "" for none."""
        found = self._redacted("utterance", text)
        if type(found) is str and len(found) <= _WORDS_LIMIT:
            return found
        if type(found) in _EMPTIES and not found:
            return ""
        notes: list[str] = []
        words: str = from_json(items.text(found, notes, limit=_WORDS_LIMIT, key="utterance"))
        self._count(notes)
        return words

    def _rewrite(self, one: Utterance) -> None:
        """Write a changed utterance again; in a call that has taken half its share, once for all at its end."""
        if self._size < _AMPLE:
            return self._write(one, journal.done)
        self._counters.add("deferred.corrections")
        self._to_finish().changed[one._number] = one
        return None

    def _write_rest(self) -> None:
        while changed := self._unfinished.changed:  # a correction that was under way on another thread may still come
            for number in list(changed):
                one = changed.pop(number, None)
                if one is not None and one._recorder is not None:
                    self._write(one, journal.done)

    def _withdrawn(self, one: Utterance, reason: str) -> None:
        one._let_go()
        self._counters.add(f"dropped.{reason}")
        self._append(journal.dropped(one._number))

    def _place_all(self) -> None:
        self._place_those(lambda _: True)

    def _place_those(self, final: Callable[[Stretch], bool]) -> None:
        """Place from the first on what is final. Two threads may do so at once: each stretch is placed by one."""
        stretches = self._unfinished.stretches
        for stretch in list(stretches):
            if not final(stretch):
                return
            try:
                stretches.remove(stretch)
            except ValueError:  # the other one has it
                continue
            self._place(stretch)

    def _place(self, stretch: Stretch) -> None:
        """Give the texts of a stretch their final times."""
        stretch.texts = [known for known in stretch.texts if known[0]._recorder is not None]  # others are withdrawn
        if len(stretch.texts) > 1 or not stretch.segments:
            self._counters.add("approximate.utterance", len(stretch.texts))
        for placed in place(stretch):
            self._place_one(placed)

    def _place_one(self, placed: Placed) -> None:
        one, heard = placed.utterance, self.heard
        known = placed.share < 1.0 and not one.by_user and heard is not None and heard.hears_agent()
        share = placed.share if known else 1.0
        if share <= 0.0:
            return self._withdrawn(one, "never_heard")
        return self._stand(one, placed.start_ms, placed.end_ms, share)

    # -- inside: the whole call ---------------------------------------------------------------------------------

    def _add_texts(self, kind: str, values: tuple[str, ...]) -> None:
        found = self._redacted("tags", values) if kind == "tags" else values
        for value in (found,) if isinstance(found, str) else found:
            self._keep(journal.item(kind, items.text(value)))

    def _link(self, trace_id: str | int) -> None:
        given = f"{trace_id:032x}" if type(trace_id) is int else trace_id
        found = given.lower().removeprefix("0x").replace("-", "") if type(given) is str else ""
        if not found.strip("0 "):
            return self._drop("trace_id", "a trace id was dropped: it is no text, or no span was current")
        self._add_texts("trace_ids", (found if _TRACE_ID.fullmatch(found) else str(given),))
        return self._tools_come_from(_TRACE)

    def _add_metadata(self, values: dict[str, Any]) -> None:
        notes: list[str] = []
        encoded = items.mapping(self._redacted("metadata", values), notes, limit=self._allowance())
        self._count(notes)
        self._keep(journal.item("metadata", encoded))

    def _bind(self, simulation_result_id: str) -> None:
        found = usable_id((simulation_result_id,)) if type(simulation_result_id) is str else None
        if found is None:
            return self._drop("no_usable_id", "a late id was refused: it is not 1 to 64 letters or digits")
        if self.simulation_result_id is not None:
            if found != self.simulation_result_id:
                self._drop("second_id", "a second simulation result id was refused: a call has one")
            return None
        self.simulation_result_id = found
        self._append(journal.bound(found))
        owner = self.owner
        if owner is not None:
            owner.bound(found)
        return None

    # -- inside: encoded, redacted, within limits, kept and counted ---------------------------------------------

    def _redacted_input(self, parameters: Any, description: Any) -> tuple[Any, Any]:
        """Return what a tool was called with, and what it does, as they may be kept."""
        parameters = None if parameters is None else self._redacted("parameters", parameters)
        return parameters, None if description is None else self._redacted("description", description)

    def _event(
        self, start: int, end: int | None, title: str, description: str | None, tags: object, metadata: object
    ) -> bytes:
        notes: list[str] = []
        if self._redact is not None:
            description = None if description is None else self._redacted("description", description)
            metadata = None if metadata is None else self._redacted("metadata", metadata)
            tags = None if tags is None else self._redacted("tags", tags)
        encoded = items.event(start, title, end, description, tags, metadata, notes, limit=self._allowance())
        self._count(notes)
        return encoded

    def _redacted(self, kind: str, value: Any) -> Any:
        if self._redact is None:
            return value
        try:
            began = self._clock()
            kept = self._redact(kind, value)
            slow = self._clock() - began > SLOW_REDACTION_NS
        except BaseException as error:  # the hook's failure must neither leak the value nor reach the agent
            if not of_a_value(error):
                raise
            self._failed_redaction(kind, error)
            return (_REDACTION_FAILED,) if kind == "tags" else _REDACTION_FAILED
        if slow:
            self._slow_redaction()
        return kept

    def _failed_redaction(self, kind: str, error: BaseException) -> None:
        """Say that a value is missing in the report; the error's own text may quote it."""
        self._counters.add("redaction_failed")
        text = "the redact hook raised %s for %s of a call: the report has %r in its place; mend the hook"
        name, call = type(error).__name__, self.simulation_result_id
        say_seldom(self._counters, logging.ERROR, text, name, kind, _REDACTION_FAILED, simulation_result_id=call)

    def _slow_redaction(self) -> None:
        """Say that the agent waits for its own hook; nobody else can end that wait."""
        self._counters.add("redaction_slow")
        text = "the redact hook is slow: the agent waits for it, more than 10 ms at a time; make it quicker"
        say_seldom(self._counters, logging.WARNING, text, simulation_result_id=self.simulation_result_id)

    def _at(self, offset_ms: float | None) -> int:
        """Return a given offset as the wire has it: whole, not negative, now if it is no number."""
        if offset_ms is None:
            return self.offset_ms()
        if type(offset_ms) is int and 0 <= offset_ms <= _FAR_MS:
            return offset_ms
        whole = finite(offset_ms)
        if whole is None:
            self._counters.add("mapped.offset")
            return self.offset_ms()
        if whole > _FAR_MS and (since := self._since_unix(whole)) is not None:
            self._counters.add("mapped.offset")  # a time, where an offset belongs
            return since
        return int(min(max(0, whole), 2**53))

    def _allowance(self) -> int:
        """Return the bytes that the next item may take: less and less in the second half of the call's share."""
        if self._size < _AMPLE:
            return ITEM_LIMIT
        return max(_SMALLEST_ALLOWANCE, min(ITEM_LIMIT, (CALL_LIMIT - self._size) // 16))

    def _keep(self, body: bytes) -> None:
        if self._over:  # it ended while this was being encoded, on another thread
            return self._late()
        if self._items >= ITEMS_LIMIT or self._size > _FULL:
            return self._counters.add("dropped.items")
        self._items += 1
        (self._bodies or self._first_lines()).append(body)  # `_put`, spelled out: the path of every tool call
        self._size += len(body)
        lines = self._lines  # read once: another thread may let go of it
        if lines is not None:
            lines.append(body)
        return None

    def _begins_an_item(self) -> bool:
        """Return whether there is room for one more item; what replaces it later needs none."""
        if self._items >= ITEMS_LIMIT or self._size > _FULL:
            self._counters.add("dropped.items")
            return False
        self._items += 1
        return True

    def _append(self, body: bytes) -> None:
        if self._over:
            self._late()
        else:
            self._put(body)

    def _put(self, body: bytes) -> None:
        (self._bodies or self._first_lines()).append(body)
        self._size += len(body)
        lines = self._lines  # read once: another thread may let go of it
        if lines is not None:
            lines.append(body)

    def _first_lines(self) -> list[bytes]:
        # Made before the look: between the look and the assignment no other thread runs, as nothing is called there.
        fresh: list[bytes] = []
        if self._bodies is _NO_LINES:
            self._bodies = fresh
        return self._bodies

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
        except BaseException as error:  # noqa: BLE001 - no error of ours or of a value reaches the agent
            self._contain(what, error)

    def _contain(self, what: str, error: BaseException) -> None:
        """Keep from the agent what went wrong here: an error of ours, or whatever a value's own code raises."""
        if not of_a_value(error):
            raise error
        self.failed(what, error)
