"""Whether a scenario's expectations hold, from the report that came and the call as its caller knew it."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

from bluejay_ws.testing.reports import FAILED, CallReport, has

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from bluejay_ws.testing.line import CallLog
    from bluejay_ws.testing.reports import ToolCall
    from bluejay_ws.testing.scenarios import Expect, ToolExpectation


@dataclass(frozen=True, slots=True)
class Fault:
    """One expectation that does not hold; a ``timed`` one means nothing where times could not be measured."""

    text: str
    timed: bool = False


def judge(expect: Expect, report: CallReport) -> list[Fault]:
    """Return every expectation that does not hold in a report with its caller's log; empty when all do."""
    return [
        *_tools(expect, report),
        *_words(expect, report),
        *_steps(expect, report.log),
        *_times(expect, report),
        *_end(expect, report),
        *_errors(expect, report),
    ]


def percentile(values: Sequence[float], share: float) -> float:
    """Return the smallest value that so large a share does not exceed; there must be a value."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, max(0, -int(-share * len(ordered) // 1) - 1))]


def _tools(expect: Expect, report: CallReport) -> Iterator[Fault]:
    names = [call.name for call in report.tools]
    said = ", ".join(names) or "no tool"
    for number, wanted in enumerate(expect.wanted):
        if wanted not in expect.wanted[:number]:
            same = [call for call in report.tools if call.name == wanted.name]
            yield from _tool(wanted, expect.wanted.count(wanted), same, said)
    for name in expect.not_called:
        if name in names:
            yield Fault(f"{name} was called, and must not be")
    if expect.in_order and not _in_order(expect.wanted, report.tools):
        yield Fault(f"the tools were not called in the order {', '.join(tool.name for tool in expect.wanted)}: {said}")


def _tool(wanted: ToolExpectation, listed: int, calls: list[ToolCall], said: str) -> Iterator[Fault]:
    """Judge a tool that is listed so often, by the calls of this name."""
    if not calls:
        yield Fault(f"{wanted.name} was not called (called: {said})")
        return
    fitting = [call for call in calls if _fits(call, wanted)]
    if not fitting:
        had = json.dumps(calls[0].parameters, ensure_ascii=False)[:200]
        yield Fault(f"{wanted.name} was called with {had}, not with {json.dumps(wanted.parameters, default=str)}")
    elif len(fitting) < listed or wanted.times not in {None, len(fitting)}:
        yield Fault(f"{wanted.name} was called {len(fitting)} times, not {wanted.times or listed}")


def _fits(call: ToolCall, wanted: ToolExpectation) -> bool:
    return call.name == wanted.name and has(call.parameters, wanted.parameters or {})


def _in_order(wanted: list[ToolExpectation], calls: list[ToolCall]) -> bool:
    rest = iter(calls)
    return all(any(_fits(call, tool) for call in rest) for tool in wanted)


def _words(expect: Expect, report: CallReport) -> Iterator[Fault]:
    for speaker, wanted in (("agent", expect.agent_says), ("caller", expect.caller_heard_as)):
        words = " ".join(said.text for said in report.utterances if said.speaker == speaker)
        for phrase in wanted:
            if phrase.casefold() not in words.casefold():
                yield Fault(f"the {speaker} did not say {phrase!r} (said: {words[:200]!r})")


def _steps(expect: Expect, log: CallLog) -> Iterator[Fault]:
    for event in log.of("step.missed") if expect.all_steps else ():
        ended = f", closed by {log.closed_by} with {log.close_code}" if log.closed_by != "caller" else ""
        yield Fault("{reason} before step {number} ({step})".format(**event.detail) + ended)


def _times(expect: Expect, report: CallReport) -> Iterator[Fault]:
    if expect.latency_p95 is not None:
        if not report.latencies:
            yield Fault("no answer was timed, so the latency is not known")
        elif (p95 := percentile(report.latencies, 0.95)) > expect.latency_p95 * 1000:
            took = f"the answers took {p95 / 1000:.2f} s (p95), more than {expect.latency_p95:g} s"
            yield Fault(took, timed=True)
    if expect.interruptions is not None:
        over = sum(one.by == "agent" for one in report.interruptions)
        if over > expect.interruptions:
            yield Fault(f"the agent talked over the caller {over} times, more than {expect.interruptions}", timed=True)
    if expect.silence is not None:
        longest = _longest_silence(report.log)
        if longest > expect.silence * 1000:
            yield Fault(f"nobody was heard for {longest / 1000:.1f} s, more than {expect.silence:g} s", timed=True)


def _longest_silence(log: CallLog) -> float:
    longest = until = 0.0
    for start, end in [*sorted([*log.user_spans, *log.agent_spans]), (log.duration_ms, log.duration_ms)]:
        longest, until = max(longest, start - until), max(until, end)
    return longest


def _end(expect: Expect, report: CallReport) -> Iterator[Fault]:
    log = report.log
    if expect.close is not None and log.close_code != expect.close:
        yield Fault(f"the call was closed with {log.close_code} by {log.closed_by}, not with {expect.close}")
    if expect.outcome is not None and report.outcome != expect.outcome:
        yield Fault(f"the outcome was {report.outcome or 'not reported'}, not {expect.outcome}")


def _errors(expect: Expect, report: CallReport) -> Iterator[Fault]:
    if expect.errors is None:
        return
    log, found = report.log, report.errors
    if expect.outcome == FAILED or expect.close == 1011:
        found = [one for one in found if one not in report.crashes]
    found += [f"the carrier refused a message: {event.detail['message']}" for event in log.of("message.refused")]
    if log.user_spans and not log.agent_spans:
        found.append("the caller spoke, and the agent was never heard")
    else:
        words = "nothing answered step {number} ({step}) within {seconds:g} s"
        found += [words.format(**event.detail) for event in log.of("step.unanswered")]
    if len(found) > expect.errors:
        many = "was 1 error" if len(found) == 1 else f"were {len(found)} errors"
        yield Fault(f"there {many}: {'; '.join(found)[:300]}")
