"""Whether a scenario's expectations hold, from the report that came and the call as its caller knew it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from bluejay_ws.testing.line import CallLog
    from bluejay_ws.testing.scenarios import Expect, ToolExpectation

__all__ = ["Fault", "has", "judge", "latencies_of", "percentile"]


FAILED = "agent_error"
"""The outcome of a call whose handler raised, or that the agent closed with 1011."""


@dataclass(frozen=True, slots=True)
class Fault:
    """One expectation that does not hold.

    Args:
        text: a sentence.
        timed: it is about times, so it means nothing where times could not be measured.
    """

    text: str
    timed: bool = False


def judge(expect: Expect, report: dict[str, Any], log: CallLog) -> list[Fault]:
    """Return every expectation that does not hold; empty when all do.

    Args:
        expect: what must hold.
        report: as the platform accepted it.
        log: of the caller.
    """
    return [
        *_tools(expect, _items(report, "tool_calls")),
        *_words(expect, _items(report, "recorded_transcript")),
        *_steps(expect, log),
        *_times(expect, report, log),
        *_end(expect, report, log),
        *_errors(expect, report, log),
    ]


def latencies_of(report: dict[str, Any]) -> list[float]:
    """Return how long each answer took, in milliseconds."""
    found = []
    for event in _items(report, "events"):
        value = _notes(event).get("latency_ms")
        if isinstance(value, int | float) and not isinstance(value, bool):
            found.append(float(value))
    return found


def percentile(values: Sequence[float], share: float) -> float:
    """Return the smallest value that so large a share does not exceed; there must be a value."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, max(0, -int(-share * len(ordered) // 1) - 1))]


def has(actual: object, wanted: object) -> bool:
    """Return whether a JSON value has all that is wanted: an object may have more, a list may not; true is not 1."""
    if isinstance(wanted, Mapping):
        known = actual if isinstance(actual, Mapping) else {}
        return actual == known and all(key in known and has(known[key], value) for key, value in wanted.items())
    if isinstance(wanted, list | tuple):
        return isinstance(actual, list | tuple) and len(actual) == len(wanted) and all(map(has, actual, wanted))
    return actual == wanted and isinstance(actual, bool) == isinstance(wanted, bool)


def _tools(expect: Expect, calls: list[dict[str, Any]]) -> Iterator[Fault]:
    names = [str(call.get("name")) for call in calls]
    said = ", ".join(names) or "no tool"
    for number, wanted in enumerate(expect.wanted):
        if wanted not in expect.wanted[:number]:
            same = [call for call in calls if call.get("name") == wanted.name]
            yield from _tool(wanted, expect.wanted.count(wanted), same, said)
    for name in expect.not_called:
        if name in names:
            yield Fault(f"{name} was called, and must not be")
    if expect.in_order and not _in_order(expect.wanted, calls):
        yield Fault(f"the tools were not called in the order {', '.join(tool.name for tool in expect.wanted)}: {said}")


def _tool(wanted: ToolExpectation, listed: int, calls: list[dict[str, Any]], said: str) -> Iterator[Fault]:
    """Judge a tool that is listed so often, by the calls of this name."""
    if not calls:
        yield Fault(f"{wanted.name} was not called (called: {said})")
        return
    fitting = [call for call in calls if _fits(call, wanted)]
    if not fitting:
        had = json.dumps(calls[0].get("parameters"), ensure_ascii=False, default=str)[:200]
        yield Fault(f"{wanted.name} was called with {had}, not with {json.dumps(wanted.parameters, default=str)}")
    elif len(fitting) < listed or wanted.times not in {None, len(fitting)}:
        yield Fault(f"{wanted.name} was called {len(fitting)} times, not {wanted.times or listed}")


def _fits(call: dict[str, Any], wanted: ToolExpectation) -> bool:
    return call.get("name") == wanted.name and has(call.get("parameters") or {}, wanted.parameters or {})


def _in_order(wanted: list[ToolExpectation], calls: list[dict[str, Any]]) -> bool:
    rest = iter(calls)
    return all(any(_fits(call, tool) for call in rest) for tool in wanted)


def _words(expect: Expect, lines: list[dict[str, Any]]) -> Iterator[Fault]:
    for speaker, who, wanted in (
        ("AGENT", "the agent", expect.agent_says),
        ("USER", "the caller", expect.caller_heard_as),
    ):
        words = " ".join(str(line.get("utterance")) for line in lines if line.get("speaker") == speaker)
        for phrase in wanted:
            if phrase.casefold() not in words.casefold():
                yield Fault(f"{who} did not say {phrase!r} (said: {words[:200]!r})")


def _steps(expect: Expect, log: CallLog) -> Iterator[Fault]:
    for event in log.of("step.missed") if expect.all_steps else ():
        ended = f", closed by {log.closed_by} with {log.close_code}" if log.closed_by != "caller" else ""
        yield Fault("{reason} before step {number} ({step})".format(**event.detail) + ended)


def _times(expect: Expect, report: dict[str, Any], log: CallLog) -> Iterator[Fault]:
    waits = latencies_of(report)
    if expect.latency_p95 is not None:
        if not waits:
            yield Fault("no answer was timed, so the latency is not known")
        elif percentile(waits, 0.95) > expect.latency_p95 * 1000:
            took = percentile(waits, 0.95) / 1000
            yield Fault(f"the answers took {took:.2f} s (p95), more than {expect.latency_p95:g} s", timed=True)
    events = _items(report, "events")
    if expect.interruptions is not None:
        over = sum(str(event.get("title")).startswith("Agent interrupted") for event in events)
        if over > expect.interruptions:
            yield Fault(f"the agent talked over the caller {over} times, more than {expect.interruptions}", timed=True)
    if expect.silence is not None:
        longest = _longest_silence(log)
        if longest > expect.silence * 1000:
            yield Fault(f"nobody was heard for {longest / 1000:.1f} s, more than {expect.silence:g} s", timed=True)


def _longest_silence(log: CallLog) -> float:
    longest = until = 0.0
    for start, end in [*sorted([*log.user_spans, *log.agent_spans]), (log.duration_ms, log.duration_ms)]:
        longest, until = max(longest, start - until), max(until, end)
    return longest


def _end(expect: Expect, report: dict[str, Any], log: CallLog) -> Iterator[Fault]:
    if expect.close is not None and log.close_code != expect.close:
        yield Fault(f"the call was closed with {log.close_code} by {log.closed_by}, not with {expect.close}")
    outcomes = [_notes(event)["outcome"] for event in _items(report, "events") if "outcome" in _notes(event)]
    if expect.outcome is not None and expect.outcome not in outcomes:
        yield Fault(f"the outcome was {', '.join(map(str, outcomes)) or 'not reported'}, not {expect.outcome}")


def _errors(expect: Expect, report: dict[str, Any], log: CallLog) -> Iterator[Fault]:
    if expect.errors is None:
        return
    found = [
        str(event.get("title")) for event in _items(report, "events") if "error" in str(event.get("title")).lower()
    ]
    found += [f"the carrier refused a message: {event.detail['message']}" for event in log.of("message.refused")]
    for call in _items(report, "tool_calls"):
        output = call.get("output")
        if isinstance(output, dict) and output.get("status") == "failed":
            found.append(f"{call.get('name')} failed with {output.get('error')}")
    ends = [_notes(event) for event in _items(report, "events") if _notes(event).get("outcome") == FAILED]
    if expect.outcome != FAILED and expect.close != 1011:
        found += [f"the agent failed with {end.get('error') or 'close code 1011'}" for end in ends]
    if log.user_spans and not log.agent_spans:
        found.append("the caller spoke, and the agent was never heard")
    else:
        found += ["nothing answered step {number} ({step}) within {seconds:g} s".format(**event.detail)
                  for event in log.of("step.unanswered")]  # fmt: skip
    if len(found) > expect.errors:
        many = "was 1 error" if len(found) == 1 else f"were {len(found)} errors"
        yield Fault(f"there {many}: {'; '.join(found)[:300]}")


def _items(report: dict[str, Any], key: str) -> list[dict[str, Any]]:
    found = report.get(key)
    return [item for item in found if isinstance(item, dict)] if isinstance(found, list) else []


def _notes(event: dict[str, Any]) -> dict[str, Any]:
    facts = event.get("metadata")
    facts = facts if isinstance(facts, dict) else {}
    drawer = facts.get("bluejay_ws")
    return {**drawer, **facts} if isinstance(drawer, dict) else facts
