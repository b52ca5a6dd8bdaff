"""A call's report for tests: typed facts, and expectations that read as sentences.

::

    report = bluejay_call(url)
    report.expect_called("freeze_card", last4="4242").expect_said("is frozen").expect_latency_below(1500)
    assert report.tool("freeze_card").output == "card 4242 frozen"

An expectation that does not come true raises `ExpectationError`, an AssertionError, with the call as a timeline.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, Self

from bluejay_ws.testing.line import CallLog
from bluejay_ws.testing.oracle import AcceptedReport

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = [
    "FAILED",
    "CallReport",
    "Event",
    "ExpectationError",
    "Interruption",
    "Speaker",
    "ToolCall",
    "Utterance",
    "has",
]

Speaker = Literal["agent", "caller"]
SPEAKERS: dict[str, Speaker] = {"AGENT": "agent", "USER": "caller"}
INTERRUPTIONS: dict[str, Speaker] = {
    "Caller interrupted the agent": "caller",
    "Agent interrupted the caller": "agent",
}
LATENCY = "Response latency"
CLOSED = "Connection closed"
SESSION_ERROR = "Session error"
FAILED = "agent_error"
"""The outcome of a call whose handler raised, or that the agent closed with 1011."""
OWN = "bluejay_ws"  # the key of the library's own notes
__tracebackhide__ = True  # pytest shows where a test expects something, and not how that is found out


class ExpectationError(AssertionError):
    """Say what was expected of a call, what was found, and show the call."""


@dataclass(frozen=True, slots=True)
class ToolCall:
    """One tool call.

    Args:
        name: of the tool.
        start_ms: milliseconds since the handshake.
        parameters: what it was called with.
        output: what it returned; None also where nothing was recorded.
        description: more about it.
    """

    name: str
    start_ms: int
    parameters: dict[str, Any] = field(default_factory=dict)
    output: Any = None
    description: str = ""


@dataclass(frozen=True, slots=True)
class Utterance:
    """What one side said.

    Args:
        speaker: ``agent`` or ``caller``.
        text: as the agent said or understood it.
        start_ms: milliseconds since the handshake.
        end_ms: milliseconds since the handshake.
        filler: whether it only filled a pause.
    """

    speaker: Speaker
    text: str
    start_ms: int
    end_ms: int
    filler: bool = False


@dataclass(frozen=True, slots=True)
class Event:
    """One event, by the agent or by the library.

    Args:
        title: what happened.
        start_ms: milliseconds since the handshake.
        end_ms: the same, for what took a while.
        description: more about it.
        tags: words for it.
        metadata: facts; the library's own are among them.
    """

    title: str
    start_ms: int
    end_ms: int | None = None
    description: str = ""
    tags: tuple[str, ...] = ()
    metadata: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Interruption:
    """One side began to speak while the other was heard.

    Args:
        by: who began: ``agent`` or ``caller``.
        at_ms: milliseconds since the handshake.
    """

    by: Speaker
    at_ms: int


@dataclass(frozen=True)
class CallReport(AcceptedReport):
    """The report of one call, as the platform accepted it.

    ``tool_calls``, ``events`` and ``transcript`` are the lists as they went over the wire; ``tools``, ``happened`` and
    ``utterances`` are the same as objects.

    Attributes:
        log: what the caller saw and heard of the call.
    """

    log: CallLog = field(default_factory=CallLog, repr=False, compare=False)

    @classmethod
    def of(cls, accepted: AcceptedReport, log: CallLog | None = None) -> Self:
        """Return a report with its call's log."""
        return cls(
            accepted.simulation_result_id,
            accepted.body,
            accepted.received_at,
            accepted.number,
            accepted.unknown_fields,
            log or CallLog(),
        )

    # -- facts --------------------------------------------------------------------------------------------------

    @property
    def tools(self) -> list[ToolCall]:
        """Return the tool calls, in order of time."""
        found = [
            ToolCall(
                item["name"],
                item["start_offset_ms"],
                item.get("parameters") or {},
                item.get("output"),
                item.get("description") or "",
            )
            for item in self.tool_calls
        ]
        return sorted(found, key=lambda call: call.start_ms)

    def tool(self, name: str) -> ToolCall:
        """Return the one call of this tool.

        Raises:
            ExpectationError: it was not called, or more than once (`tools` has all of them).
        """
        found = [call for call in self.tools if call.name == name]
        if len(found) != 1:
            self._fail(f"expected one call of {name}, found {self._calls_of(name, len(found))}")
        return found[0]

    @property
    def utterances(self) -> list[Utterance]:
        """Return what both sides said, in order of time."""
        found = [
            Utterance(
                SPEAKERS[item["speaker"]],
                item["utterance"],
                item["start_offset_ms"],
                item["end_offset_ms"],
                bool(item.get("filler_utterance")),
            )
            for item in self.transcript
        ]
        return sorted(found, key=lambda utterance: utterance.start_ms)

    @property
    def happened(self) -> list[Event]:
        """Return the events, in order of time."""
        found = [
            Event(
                item["title"],
                item["start_offset_ms"],
                item.get("end_offset_ms"),
                item.get("description") or "",
                tuple(item.get("tags") or ()),
                item.get("metadata") or {},
            )
            for item in self.events
        ]
        return sorted(found, key=lambda event: event.start_ms)

    @property
    def latencies(self) -> list[float]:
        """Return how long the caller waited for each answer, in milliseconds of the call's clock.

        At a ``pace`` other than 1 the audio is faster than the agent: use virtual time (`AgentCaller.simulate`) or
        pace 1 where latencies matter.
        """
        found = [_notes(event).get("latency_ms") for event in self.happened if event.title == LATENCY]
        return [value for value in found if isinstance(value, int | float) and not isinstance(value, bool)]

    @property
    def interruptions(self) -> list[Interruption]:
        """Return who interrupted whom, in order of time."""
        return [
            Interruption(INTERRUPTIONS[event.title], event.start_ms)
            for event in self.happened
            if event.title in INTERRUPTIONS
        ]

    @property
    def errors(self) -> list[str]:
        """Return what failed, in words: ``session.error`` frames of both sides, tools, and the agent's own code."""
        found = [_in_words(event) for event in self.happened if "error" in event.title.casefold()]
        outputs = ((call.name, call.output) for call in self.tools if isinstance(call.output, dict))
        failed = (
            f"{name} failed with {output.get('error')}" for name, output in outputs if output.get("status") == "failed"
        )
        return [*found, *self.crashes, *failed]

    @property
    def crashes(self) -> list[str]:
        """Return how the agent's own code failed, in words."""
        raised = [f"the handler ended with {one['error']}" for one in self._ends() if one.get("error")]
        failed = [one for one in self._ends() if one.get("outcome") == FAILED]
        return raised or [f"the agent closed the call with {one.get('close_code')}" for one in failed]

    @property
    def outcome(self) -> str:
        """Return how the call ended, such as ``completed``; empty where the report does not say."""
        return next((str(one["outcome"]) for one in self._ends() if one.get("outcome")), "")

    # -- expectations -------------------------------------------------------------------------------------------

    def expect_called(self, name: str, /, *, times: int | None = None, **parameters: Any) -> Self:
        """Expect a call of the tool with at least these parameters.

        Args:
            name: of the tool.
            times: how often exactly; default: once or more.
            parameters: those that matter; others may be there too.
        """
        found = [call for call in self.tools if call.name == name and has(call.parameters, parameters)]
        if len(found) == times or (times is None and found):
            return self
        wanted = f"{name}({_arguments(parameters)})" if parameters else name
        often = "" if times is None else f" {times} times"
        return self._fail(f"expected {wanted} to be called{often}, found {self._calls_of(name, len(found))}")

    def expect_called_with(self, name: str, parameters: Mapping[str, Any]) -> Self:
        """Expect a call of the tool with these parameters and no others."""
        found = [call.parameters for call in self.tools if call.name == name]
        if any(has(had, parameters) and has(parameters, had) for had in found):
            return self
        return self._fail(f"expected {name}({_arguments(parameters)}) to be called, found {self._calls_of(name, 0)}")

    def expect_not_called(self, *names: str) -> Self:
        """Expect that none of these tools was called; without names: no tool at all."""
        found = [call.name for call in self.tools if not names or call.name in names]
        return self if not found else self._fail(f"expected no call of {' or '.join(names) or 'a tool'}, found {found}")

    def expect_called_in_order(self, *names: str) -> Self:
        """Expect calls of these tools one after the other; others may come between them."""
        called = [call.name for call in self.tools]
        rest = iter(called)
        if all(name in rest for name in names):
            return self
        return self._fail(f"expected calls in the order {', '.join(names)}; found {', '.join(called) or 'none'}")

    def expect_said(self, text: str, *, by: Speaker = "agent") -> Self:
        """Expect an utterance that contains the text, in upper or lower case."""
        return self if self._was_said(text, by) else self._fail(f"expected the {by} to say {text!r}")

    def expect_not_said(self, text: str, *, by: Speaker = "agent") -> Self:
        """Expect that no utterance contains the text, in upper or lower case."""
        return self._fail(f"expected the {by} not to say {text!r}") if self._was_said(text, by) else self

    def expect_latency_below(self, milliseconds: float) -> Self:
        """Expect that the caller waited less than this for each answer, and that there was one."""
        slow = [value for value in self.latencies if value >= milliseconds]
        if self.latencies and not slow:
            return self
        found = f"found {', '.join(f'{value:.0f}' for value in slow)} ms" if slow else self._no_answer()
        return self._fail(f"expected each response latency below {milliseconds:g} ms, {found}")

    def _no_answer(self) -> str:
        early = sum(one.by == "agent" for one in self.interruptions)
        if not early:
            return "no answer was observed"
        return f"found no answer but {early} that began before the caller had finished: speech.completed comes early"

    def expect_interrupted(self, times: int | None = None, *, by: Speaker = "caller") -> Self:
        """Expect that one side interrupted the other.

        Args:
            times: how often exactly; default: once or more.
            by: who began to speak.
        """
        side = _side(by)
        found = sum(one.by == side for one in self.interruptions)
        if found == times or (times is None and found):
            return self
        often = "" if times is None else f" {times} times"
        return self._fail(f"expected the {by} to interrupt{often}, found {found}")

    def expect_not_interrupted(self, *, by: Speaker | None = None) -> Self:
        """Expect that neither side interrupted the other, or not this one."""
        sides = SPEAKERS.values() if by is None else [_side(by)]
        found = [one for one in self.interruptions if one.by in sides]
        words = ", ".join(f"by the {one.by} at {one.at_ms / 1000:.2f} s" for one in found)
        return self if not found else self._fail(f"expected no interruption, found one {words}")

    def expect_no_errors(self) -> Self:
        """Expect no ``session.error`` from either side, no failed tool, and no failure of the agent's own code."""
        return self if not self.errors else self._fail(f"expected no error, found: {'; '.join(self.errors)}")

    def timeline(self) -> str:
        """Return the call as a person reads it: one line for each fact, in order of time."""
        return "\n".join(line for _, line in sorted(self._lines(), key=lambda pair: pair[0])) or "  (an empty report)"

    def _ends(self) -> list[dict[str, Any]]:
        """Return what the library noted of the connection's end; the last note first."""
        return [_notes(event) for event in reversed(self.happened) if event.title == CLOSED]

    def _lines(self) -> Iterator[tuple[int, str]]:
        for said in self.utterances:
            yield said.start_ms, f"{said.start_ms / 1000:8.2f}  {said.speaker:<6}  {_short(said.text)}"
        for call in self.tools:
            words = f"{call.name}({_arguments(call.parameters)}) -> {_short(json.dumps(call.output))}"
            yield call.start_ms, f"{call.start_ms / 1000:8.2f}  tool    {words}"
        for event in self.happened:
            yield event.start_ms, f"{event.start_ms / 1000:8.2f}  event   {_short(_in_words(event))}"

    def _was_said(self, text: str, by: Speaker) -> bool:
        if not text:
            raise ValueError("the text is empty: everything that is said contains it")
        side = _side(by)
        words = (said.text.casefold() for said in self.utterances if said.speaker == side)
        return any(text.casefold() in one for one in words)

    def _calls_of(self, name: str, found: int) -> str:
        calls = [f"{call.name}({_arguments(call.parameters)})" for call in self.tools if call.name == name]
        others = sorted({call.name for call in self.tools} - {name})
        if calls:
            return f"{found} of {len(calls)}: {'; '.join(calls)}"
        return f"no call of it (called: {', '.join(others) or 'no tool at all'})"

    def _fail(self, message: str) -> Self:
        raise ExpectationError(f"{message}\n\nThe call {self.simulation_result_id}:\n{self.timeline()}") from None


def has(actual: object, wanted: object) -> bool:
    """Return whether a JSON value has all that is wanted: an object may have more, a list may not; true is not 1."""
    if isinstance(wanted, Mapping):
        known = actual if isinstance(actual, Mapping) else {}
        return actual == known and all(key in known and has(known[key], value) for key, value in wanted.items())
    if isinstance(wanted, list | tuple):
        return isinstance(actual, list | tuple) and len(actual) == len(wanted) and all(map(has, actual, wanted))
    return actual == wanted and isinstance(actual, bool) == isinstance(wanted, bool)


def _side(by: Speaker) -> Speaker:
    """Return the side; a word that is none would let every expectation against it hold."""
    if by not in SPEAKERS.values():
        raise ValueError(f"by is {by!r}: give 'agent' or 'caller'")
    return by


def _notes(event: Event) -> dict[str, Any]:
    """Return an event's metadata with the library's own notes among it."""
    own = event.metadata.get(OWN)
    return {**event.metadata, **(own if isinstance(own, dict) else {})}


def _in_words(event: Event) -> str:
    """Return what happened, with the one fact about it that explains a failure."""
    notes = _notes(event)
    if event.title.startswith(SESSION_ERROR):
        words = " ".join(str(notes[key]) for key in ("code", "message") if notes.get(key))
    elif notes.get("latency_ms") is not None:
        words = f"{notes['latency_ms']} ms"
    elif notes.get("error"):
        words = f"the handler ended with {notes['error']}"
    else:
        words = " ".join(str(notes[key]) for key in ("outcome", "close_code") if notes.get(key))
    return f"{event.title}: {words}" if words else event.title


def _arguments(parameters: Mapping[str, Any]) -> str:
    return ", ".join(f"{key}={_short(json.dumps(value, default=repr))}" for key, value in parameters.items())


def _short(text: str, most: int = 100) -> str:
    return text if len(text) <= most else f"{text[: most - 3]}..."
