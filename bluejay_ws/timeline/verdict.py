"""What went wrong in a call, in plain words, the worst first: what stands at the top of the page."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from bluejay_ws.timeline.reading import number_of, seconds

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from bluejay_ws.timeline.reading import Call, Item

THRESHOLD_MS = 1_500.0  # an answer that takes longer is late, unless the reader of the page says otherwise
QUEUED_MS = 1_000.0  # an agent that has sent so much ahead when it is interrupted cannot stop in time
LEVELS = ("bad", "warn", "note")
SAID_AGAIN = 3
HEADLINES = 3
ALIKE = 6  # so many findings of one kind are told one by one

OUTCOMES = {
    "connection_lost": "The connection broke without a goodbye",
    "agent_error": "The agent closed the call with an internal error (1011)",
    "server_shutdown": "The agent's server shut down during the call",
    "handler_cancelled": "The agent's handler was cancelled during the call",
    "process_lost": "The agent's process was lost during the call",
}
"""As `bluejay_ws.outcome` has them; and what a report says whose process left it incomplete."""
CLOSE_CODES = {
    1006: "The connection broke without a goodbye",
    1008: "The connection was closed for a breach of policy (1008)",
    1009: "The connection was closed because a message was too big (1009)",
    1011: "The agent closed the call with an internal error (1011)",
}
FINE = (None, 1000, 1001, 1005)


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing worth knowing.

    Args:
        level: ``bad``, ``warn`` or ``note``.
        text: a sentence.
        at: where to look, in milliseconds; None where it has no place.
        brief: the same in a few words, for the line above all others; lower case, no full stop.
    """

    level: str
    text: str
    at: float | None = None
    brief: str = ""


@dataclass(frozen=True, slots=True)
class Latency:
    """How long the caller waited for answers.

    Args:
        threshold: milliseconds above which an answer is late.
        values: each wait, in order of time.
        p50: the median; None without a wait.
        p95: 95 % were no longer.
    """

    threshold: float
    values: tuple[float, ...]
    p50: float | None
    p95: float | None

    @property
    def late(self) -> list[float]:
        """Return the waits above the threshold."""
        return [value for value in self.values if value > self.threshold]


def latency_of(call: Call, threshold_ms: float = THRESHOLD_MS) -> Latency:
    """Return the waits: those that the report notes, else those between a caller's utterance and the answer to it."""
    values = tuple(wait for _, wait in _waits(call))
    return Latency(threshold_ms, values, _percentile(values, 0.5), _percentile(values, 0.95))


def findings(call: Call, latency: Latency, delivery: dict[str, Any] | None = None) -> list[Finding]:
    """Return what is to be said about the call, the worst first."""
    found = [
        *_ending(call),
        *_speech(call),
        *_few("things wrong with tools", _tools(call)),
        *_few("differences from the expected tools", _expected(call)),
        *_few("errors", _errors(call)),
        *_late(call, latency),
        *_interruptions(call),
        *_silences(call),
        *_delivery(delivery or {}),
        *_doubts(call),
    ]
    return [replace(one, text=_cut(one.text, 600), brief=_cut(one.brief, 120)) for one in _ranked(found)]


def _ranked(found: Iterable[Finding]) -> list[Finding]:
    return sorted(found, key=lambda finding: LEVELS.index(finding.level))


def _few(kind: str, findings: Iterator[Finding]) -> list[Finding]:
    """Return findings of a kind, the worst first; of very many the first ones, and how many more there are."""
    found = _ranked(findings)
    if len(found) <= ALIKE:
        return found
    brief = f"there were {sum(one.level == found[0].level for one in found)} {kind}"
    more = Finding(found[ALIKE].level, f"There were {len(found) - ALIKE} more {kind}: see the list.", found[ALIKE].at)
    return [replace(one, brief=brief) for one in [*found[:ALIKE], more]]


def _cut(text: str, longest: int) -> str:
    return text if len(text) <= longest else f"{text[: longest - 3]}..."


def headline(found: Sequence[Finding]) -> str:
    """Return the verdict in one line: the worst things, in the order in which they happened."""
    bad = [finding for finding in found if finding.level == "bad"]
    if bad:
        told: dict[str, Finding] = {}
        for one in bad:
            told.setdefault(one.brief, one)
        worst = sorted(list(told.values())[:HEADLINES], key=lambda one: float("inf") if one.at is None else one.at)
        briefs = [one.brief for one in worst]
        line = " and ".join(filter(None, [", ".join(briefs[:-1]), briefs[-1]]))
        return f"{line[0].upper()}{line[1:]}."
    looks = sum(finding.level == "warn" for finding in found)
    if looks:
        return f"The call went through, with {looks} thing{'s' if looks > 1 else ''} to look at."
    return "Nothing looks wrong in this call."


def compare(call: Call, other: Call, latency: Latency, before: Latency) -> list[Finding]:
    """Return what is worse than in the other call, and what is merely different."""
    tools = _few("tools called more or less often than in the other call", _fewer_tools(call, other))
    return [*tools, *_slower(latency, before), *_more_problems(call, other)]


def _waits(call: Call) -> list[tuple[float, float]]:
    told = [(item.start, _noted(item, "latency_ms") or item.until - item.start) for item in call.of("latency")]
    return told or list(_inferred(call))


def _inferred(call: Call) -> Iterator[tuple[float, float]]:
    asked: float | None = None
    for item in call.of("caller", "agent"):
        if item.kind == "caller":
            asked = item.until
        elif asked is not None:
            if item.start >= asked:
                yield asked, item.start - asked
            asked = None


def _percentile(values: Sequence[float], share: float) -> float | None:
    """Return the smallest value that so large a share does not exceed."""
    if not values:
        return None
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, max(0, -int(-share * len(ordered) // 1) - 1))]


def _ending(call: Call) -> Iterator[Finding]:
    facts = call.closing
    outcome, code = str(facts.get("outcome") or facts.get("incomplete") or ""), facts.get("close_code")
    code = code if isinstance(code, int) else None
    words = "The agent's code failed" if facts.get("error") else OUTCOMES.get(outcome)
    if words is None and code not in FINE:
        words = CLOSE_CODES.get(code) or f"The connection was closed with code {code}"
    if words is None and outcome not in ("", "completed"):
        words = f"The call ended with {outcome!r}"
    if words is not None:
        error = f": {facts['error']}" if facts.get("error") else ""
        text = f"{words}{error}, {seconds(call.duration)} into the call{_during(call)}."
        yield Finding("bad", text, call.duration, f"{words[0].lower()}{words[1:]}{error}")


def _during(call: Call) -> str:
    last = max(call.of("caller", "agent"), key=lambda item: item.until, default=None)
    if last is None or call.duration - last.until > 300:
        return ""
    return f", while the {last.kind} was speaking"


def _errors(call: Call) -> Iterator[Finding]:
    for (text, *said), items in _grouped(call.of("error"), lambda item: (item.text, *_said(item))):
        count = sum(item.count for item in items)
        times = f" {count} times" if count > 1 else ""
        sentence = f"{text}{times}{': ' if said else ''}{': '.join(said)[:200]}."
        yield Finding("bad", sentence, items[0].start, f"there was an error ({said[0] if said else text})"[:90])


def _said(item: Item) -> list[str]:
    facts = _notes(item)
    said = [str(facts[key]) for key in ("code", "message") if facts.get(key)]
    description = item.facts.get("description")
    return said or ([str(description)] if description else [])


def _tools(call: Call) -> Iterator[Finding]:
    tools = call.of("tool")
    wrong = [item for item in tools if item.problem]
    for (name, problem), items in _grouped(wrong, lambda item: (item.text, item.problem)):
        times = "" if len(items) == 1 else f" ({len(items)} times)"
        brief = f"the tool {name} {problem.partition(':')[0]}"
        yield Finding("bad", f"The tool {name} {problem}{times}.", items[0].start, brief)
    for (name, parameters), items in _grouped(tools, lambda item: (item.text, _parameters(item))):
        if len(items) > 1:
            what = "without parameters" if parameters == "null" else "with the same parameters"
            yield Finding("warn", f"The tool {name} was called {len(items)} times {what}.", items[0].start)


def _parameters(item: Item) -> str:
    return json.dumps(item.facts.get("parameters"), sort_keys=True, default=str)


def _grouped(items: Iterable[Item], key: Callable[[Item], tuple[str, ...]]) -> list[tuple[tuple[str, ...], list[Item]]]:
    groups: dict[tuple[str, ...], list[Item]] = {}
    for item in items:
        groups.setdefault(key(item), []).append(item)
    return list(groups.items())


def _expected(call: Call) -> Iterator[Finding]:
    if call.expected is None:
        return
    actual = Counter(item.text for item in call.of("tool"))
    never = [name for name in call.expected if not actual[name]]
    brief = f"the tool{'s' * (len(never) > 1)} {', '.join(never)} {'were' if len(never) > 1 else 'was'} never called"
    for name, wanted in call.expected.items():
        if not actual[name]:
            yield Finding("bad", f"The tool {name} was expected and never called.", brief=brief)
        elif len(wanted) > actual[name]:
            yield Finding("warn", f"The tool {name} was expected {len(wanted)} times and called {actual[name]} times.")
        else:
            for entry in missed(call, name):
                text = json.dumps(entry, ensure_ascii=False, default=str)[:200]
                sentence = f"The tool {name} was expected with {text} and called with others."
                first = next(item for item in call.of("tool") if item.text == name)
                yield Finding("bad", sentence, first.start, f"the tool {name} was called with wrong parameters")
    for name in sorted(set(actual) - set(call.expected)):
        first = next(item for item in call.of("tool") if item.text == name)
        yield Finding("warn", f"The tool {name} was called and not expected.", first.start)


def missed(call: Call, name: str) -> list[Any]:
    """Return the parameters that a tool was expected with and never called with."""
    made = [item.facts.get("parameters") for item in call.of("tool") if item.text == name]
    wanted = [entry.get("parameters") for entry in (call.expected or {}).get(name, [])]
    return [parameters for parameters in wanted if parameters is not None and parameters not in made]


def _speech(call: Call) -> Iterator[Finding]:
    speech = call.of("caller", "agent")
    agent_ms = call.closing.get("agent_audio_ms")
    if not any(item.kind == "agent" for item in speech):
        if agent_ms == 0 or (agent_ms is None and speech):
            yield Finding("bad", "The agent never spoke.", 0.0, "the agent never spoke")
        elif agent_ms:
            yield Finding("note", "The agent was heard, and nothing tells what it said.")
        elif call.items:
            yield Finding("note", "Nothing tells what was said in this call.")
    elif (last := max(speech, key=lambda item: item.until)).kind == "caller":
        yield from _unanswered(last.until, call.duration - last.until)
    said = Counter(item.text.strip().lower() for item in speech if item.kind == "agent" and len(item.text) > 8)
    for text, count in said.most_common(1):
        if count >= SAID_AGAIN:
            first = next(item for item in speech if item.text.strip().lower() == text)
            yield Finding("warn", f"The agent said the same {count} times: “{first.text.strip()[:80]}”.", first.start)


def _unanswered(at: float, waited: float) -> Iterator[Finding]:
    """Say that the caller's last words got no answer, where there was time for one: a caller says goodbye and goes."""
    if waited > 1_000:
        text = f"The caller's last words were never answered: {seconds(waited)} passed until the end."
        level = "bad" if waited > 2 * THRESHOLD_MS else "warn"
        yield Finding(level, text, at, "the caller's last words were never answered")


def _late(call: Call, latency: Latency) -> Iterator[Finding]:
    late = latency.late
    if not late:
        return
    place, worst = max(_waits(call), key=lambda wait: wait[1])
    often = f"{len(late)} of {len(latency.values)} answers were late" if len(latency.values) > 1 else "the only answer"
    text = f"The caller waited up to {seconds(worst)} for an answer (limit {seconds(latency.threshold)}; {often})."
    slow = worst > 2 * latency.threshold or len(late) * 2 > len(latency.values)
    brief = f"the caller waited {seconds(worst)} for an answer"
    yield Finding("bad" if slow else "warn", text, place, brief)


def _interruptions(call: Call) -> Iterator[Finding]:
    found = call.of("interruption")
    by_agent = [item for item in found if item.text.startswith("Agent")]
    if by_agent:
        longest = max(_noted(item, "overlap_ms") or item.until - item.start for item in by_agent)
        text = f"The agent talked over the caller{_often(len(by_agent))}, for up to {seconds(longest)}."
        brief = f"the agent talked over the caller{_often(len(by_agent))}"
        yield Finding("bad" if len(by_agent) > 1 else "warn", text, by_agent[0].start, brief)
    for item in found:
        queued = _noted(item, "queued_ms")
        if item not in by_agent and queued > QUEUED_MS:
            text = f"The caller interrupted, and had to hear {seconds(queued)} more that the agent had sent ahead."
            yield Finding("warn", text, item.start)
            return


def _often(count: int) -> str:
    return {1: " once", 2: " twice"}.get(count, f" {count} times")


def _noted(item: Item, key: str) -> float:
    return float(number_of(_notes(item).get(key)) or 0.0)


def _notes(item: Item) -> dict[str, Any]:
    """Return an event's metadata, those of the library's own drawer among them."""
    facts = item.facts.get("metadata")
    if not isinstance(facts, dict):
        return {}
    drawer = facts.get("bluejay_ws")
    return {**drawer, **facts} if isinstance(drawer, dict) else facts


def _silences(call: Call) -> Iterator[Finding]:
    silences = call.of("silence")
    if silences:
        longest = max(silences, key=lambda item: item.until - item.start)
        more = "" if len(silences) == 1 else f" ({len(silences)} long silences)"
        text = f"Nobody was heard for {seconds(longest.until - longest.start)}{more}."
        yield Finding("warn", text, longest.start)


def _delivery(facts: dict[str, Any]) -> Iterator[Finding]:
    state, reason = str(facts.get("state") or ""), str(facts.get("reason") or "")
    why = f": {reason}" if reason else ""
    if state in ("parked", "held"):
        text = f"The report is {state}{why}. It reaches the platform only when a person helps."
        yield Finding("bad", text, brief=f"the report is {state}")
    elif state and state not in ("delivered", "accepted"):
        yield Finding("note", f"The report has not been delivered yet ({state}{why}).")


def _doubts(call: Call) -> Iterator[Finding]:
    if not call.items:
        yield Finding("bad", "The report is empty: nothing was recorded in this call.", brief="nothing was recorded")
    if call.unreadable:
        many = "1 item of the report could not be read and is"
        many = many if call.unreadable == 1 else f"{call.unreadable} items of the report could not be read and are"
        yield Finding("note", f"{many} not shown.")
    invalid = call.closing.get("invalid_frames")
    if isinstance(invalid, int) and invalid > 0:
        yield Finding("warn", f"{invalid} audio frames were invalid (empty or of odd length) and were dropped.")


def _fewer_tools(call: Call, other: Call) -> Iterator[Finding]:
    now, then = (Counter(item.text for item in made.of("tool")) for made in (call, other))
    for name in dict.fromkeys([*then, *now]):
        if now[name] < then[name]:
            how = "was not called" if not now[name] else f"was called {now[name]} instead of {then[name]} times"
            yield Finding("bad", f"Unlike in the other call, {name} {how}.")
        elif now[name] > then[name]:
            how = "was called" if not then[name] else f"was called {now[name]} instead of {then[name]} times"
            yield Finding("note", f"Unlike in the other call, {name} {how}.")


def _slower(latency: Latency, before: Latency) -> Iterator[Finding]:
    if latency.p95 is None or before.p95 is None:
        return
    if latency.p95 > before.p95 * 1.25 and latency.p95 - before.p95 > 200:
        yield Finding(
            "warn", f"Answers took up to {seconds(latency.p95)}; in the other call {seconds(before.p95)} (p95)."
        )


def _more_problems(call: Call, other: Call) -> Iterator[Finding]:
    for kind, words in (("error", "errors"), ("interruption", "interruptions"), ("silence", "long silences")):
        now, then = (sum(item.count for item in made.of(kind)) for made in (call, other))
        if now > then:
            yield Finding("warn", f"More {words} than in the other call: {now} instead of {then}.")
