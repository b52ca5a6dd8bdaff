"""What the platform shows for a call: its status, expected tool calls beside actual ones, and what the judge said.

::

    result = bluejay.result("720488", wait=300)
    print(result.status, result.meaning)
    for call in result.missing:
        print("never called:", call.name, call.parameters)

Sources: the platform's API description (``GET /v1/retrieve-simulation-result/{id}``), its documentation of statuses
(November 2026), and, for a whole run (``GET /v1/retrieve-simulation-results/{run}``), its official Python SDK 0.3.6.
The platform does not give back transcripts, tags and metadata.
"""

from __future__ import annotations

import json
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar

from bluejay_ws.exceptions import ResultError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

__all__ = [
    "STATUSES",
    "CallResult",
    "Difference",
    "ResultReader",
    "RunResult",
    "Status",
    "ToolCall",
    "ToolComparison",
]

FIRST_WAIT, LONGEST_WAIT, GROWTH = 2.0, 30.0, 1.5
MOST_PAIRS = 100  # beyond this, calls of one tool are compared in their order instead of each with each


@dataclass(frozen=True, slots=True)
class Status:
    """Explain one status of the platform.

    Args:
        meaning: what it says, in a sentence.
        final: whether the platform is done with the call.
        remedy: what to do about it; empty where there is nothing to do.
    """

    meaning: str
    final: bool = True
    remedy: str = ""


STATUSES = {
    "INITIALIZING": Status("the platform prepares the call", final=False),
    "QUEUED": Status("the call waits for its turn", final=False),
    "READY": Status("the call is about to be dialled", final=False),
    "DISPATCHED": Status("the platform dials the agent", final=False),
    "RUNNING": Status("the call continues", final=False),
    "CONVERSATION_ENDED": Status("the call is over, its evaluation has not begun", final=False),
    "EVALUATING": Status("the platform evaluates the call", final=False),
    "COMPLETED": Status("the call took place and was evaluated"),
    "NOT_EVALUATED": Status("a production call that was not evaluated"),
    "NO_CONNECTION": Status(
        "the agent was not reached, or refused the credentials",
        remedy="check the agent's address and credentials: bluejay-ws doctor ws://...",
    ),
    "NO_ANSWER": Status(
        "the agent did not answer, or hung up before it spoke",
        remedy="see whether the handler fails at its start",
    ),
    "CALL_DROPPED": Status(
        "the connection broke; the call was scored up to there",
        remedy="see the agent's log at that time: a crash, a deploy, or a network fault",
    ),
    "OUT_OF_FUNDS": Status("the account has no funds left", remedy="add funds on the platform"),
    "SYSTEM_ERROR": Status("the platform failed", remedy="run the simulation again"),
    "CUSTOM_ERROR": Status("the simulation ended with an error of its own set-up"),
    "CANCELLED": Status("somebody cancelled the call"),
    "REJECTED": Status("the agent refused the credentials (an older word for NO_CONNECTION)"),
    "INCOMPLETED": Status("the call did not come to its end (an older word)"),
}
_UNKNOWN = Status("a status that this version does not know", final=False)


@dataclass(frozen=True, slots=True)
class ToolCall:
    """One call of a tool, expected or actual.

    Args:
        name: of the tool.
        parameters: None where the platform gives none; an expected call without any accepts all.
        output: as it was given.
        start_offset_ms: since the start of the call; None for an expected call, or where it is not known.
    """

    name: str
    parameters: dict[str, Any] | None = None
    output: Any = None
    start_offset_ms: int | None = None


@dataclass(frozen=True, slots=True)
class Difference:
    """One parameter that is not as expected.

    Args:
        path: its name; with dots for what is inside objects.
        expected: the value; `ABSENT` if the parameter was not expected.
        actual: the value; `ABSENT` if the parameter was not given.
    """

    path: str
    expected: Any
    actual: Any


class _Absent:
    """Stand for a parameter that is not there."""

    def __repr__(self) -> str:
        return "(absent)"


ABSENT = _Absent()


@dataclass(frozen=True, slots=True)
class ToolComparison:
    """An expected call of a tool beside the actual one; one of the two may be missing.

    Args:
        expected: None: the platform expected no such call.
        actual: None: the agent made no such call.
        differences: parameters that are not as expected.
        output_differs: whether an output was expected and another one came.
    """

    expected: ToolCall | None
    actual: ToolCall | None
    differences: tuple[Difference, ...] = ()
    output_differs: bool = False

    @property
    def name(self) -> str:
        """Return the tool's name."""
        call = self.expected or self.actual
        return call.name if call else ""

    @property
    def kind(self) -> str:
        """Return ``missing``, ``extra``, ``wrong_parameters`` or ``as_expected``."""
        if self.actual is None:
            return "missing"
        if self.expected is None:
            return "extra"
        return "wrong_parameters" if self.differences else "as_expected"


@dataclass(frozen=True, slots=True)
class CallResult:
    """What the platform shows for one call.

    Args:
        simulation_result_id: of the call.
        status: the platform's word; empty where it gives none.
        comparisons: every expected and every actual tool call, side by side.
        events: as the platform gives them.
        trace_ids: linked traces.
        latency: of the agent's answers, as the platform gives it (it documents no unit).
        evaluations: what the judge said, newest as the platform orders them.
        duration_ms: of the call; None while it is not known.
        start_time: an ISO time; empty while it is not known.
        end_time: as ``start_time``.
        transcript_url: of the platform's own transcript; empty where there is none.
        audio_url: of the recording; empty where there is none.
        raw: the whole result as it was read.
    """

    simulation_result_id: str
    status: str
    comparisons: tuple[ToolComparison, ...] = ()
    events: tuple[dict[str, Any], ...] = ()
    trace_ids: tuple[str, ...] = ()
    latency: dict[str, Any] = field(default_factory=dict)
    evaluations: tuple[dict[str, Any], ...] = ()
    duration_ms: int | None = None
    start_time: str = ""
    end_time: str = ""
    transcript_url: str = ""
    audio_url: str = ""
    raw: dict[str, Any] = field(default_factory=dict, repr=False)

    @property
    def final(self) -> bool:
        """Return whether the platform is done with the call."""
        return STATUSES.get(self.status, _UNKNOWN).final

    @property
    def meaning(self) -> str:
        """Return what the status says, in a sentence."""
        return STATUSES.get(self.status, _UNKNOWN).meaning

    @property
    def remedy(self) -> str:
        """Return what to do about the status; empty where there is nothing to do."""
        return STATUSES.get(self.status, _UNKNOWN).remedy

    @property
    def missing(self) -> list[ToolCall]:
        """Return the expected calls that the agent never made."""
        return [pair.expected for pair in self.comparisons if pair.expected and not pair.actual]

    @property
    def extra(self) -> list[ToolCall]:
        """Return the calls that the agent made and nobody expected; empty where nothing at all was expected."""
        if not any(pair.expected for pair in self.comparisons):
            return []
        return [pair.actual for pair in self.comparisons if pair.actual and not pair.expected]

    @property
    def wrong_parameters(self) -> list[ToolComparison]:
        """Return the calls whose parameters are not as expected."""
        return [pair for pair in self.comparisons if pair.kind == "wrong_parameters"]

    def failures(self, *, strict: bool = False) -> list[str]:
        """Return why this call should fail a build, one line for each reason; empty when it should not.

        Args:
            strict: extra tool calls, hallucinations and repetitions count as well.
        """
        return list(self._failures(strict=strict))

    def _failures(self, *, strict: bool) -> Iterator[str]:
        if self.status != "COMPLETED":
            yield f"{self.status or 'no status'}: {self.meaning}"
        for call in self.missing:
            yield f"tool {call.name} was expected and not called"
        for pair in self.wrong_parameters:
            yield f"tool {pair.name}: wrong parameters: {', '.join(each.path for each in pair.differences)}"
        if any(each.get("goal_success") is False for each in self.evaluations):
            yield "the caller did not reach its goal"
        if strict:
            yield from (f"tool {call.name} was called and not expected" for call in self.extra)
            for flaw in ("hallucination", "redundancy"):
                if any(each.get(flaw) is True for each in self.evaluations):
                    yield f"the judge found a {flaw}"

    def as_dict(self, *, strict: bool = False) -> dict[str, Any]:
        """Return everything as plain JSON values; see `failures`."""
        return {
            "simulation_result_id": self.simulation_result_id,
            "status": self.status,
            "meaning": self.meaning,
            "final": self.final,
            "start_time": self.start_time,
            "end_time": self.end_time,
            "duration_ms": self.duration_ms,
            "tool_calls": [_comparison_as_dict(pair) for pair in self.comparisons],
            "trace_ids": list(self.trace_ids),
            "latency": self.latency,
            "evaluations": list(self.evaluations),
            "events": list(self.events),
            "transcript_url": self.transcript_url,
            "audio_url": self.audio_url,
            "failures": self.failures(strict=strict),
        }

    @classmethod
    def of(cls, simulation_result_id: str, result: dict[str, Any]) -> CallResult:
        """Return the result that the platform's JSON describes; what is not as documented is left out.

        Args:
            simulation_result_id: the id that was asked for.
            result: the object ``simulation_result`` of the answer.
        """
        return cls(
            simulation_result_id=simulation_result_id,
            status=_text(result.get("status")).strip().upper(),
            comparisons=tuple(_comparisons(result.get("tool_calls"))),
            events=tuple(dicts_in(result.get("events"))),
            trace_ids=tuple(each for each in _list(result.get("trace_ids")) if isinstance(each, str)),
            latency=_latency(result),
            evaluations=tuple(dicts_in(result.get("evaluations"))),
            duration_ms=_integer(result.get("duration")),
            start_time=_text(result.get("start_time")),
            end_time=_text(result.get("end_time")),
            transcript_url=_text(result.get("transcript_url")),
            audio_url=_text(result.get("audio_url")),
            raw=result,
        )


@dataclass(frozen=True, slots=True)
class RunResult:
    """What the platform shows for a whole run.

    Args:
        run_id: of the run; empty for a list of calls that was put together by hand.
        status: of the run, the platform's word.
        calls: every call.
        summary: in the platform's words; empty where there is none.
        tests_failed: how many calls the platform itself counts as failed; None where it does not say.
    """

    run_id: str
    status: str
    calls: tuple[CallResult, ...]
    summary: str = ""
    tests_failed: int | None = None

    @property
    def final(self) -> bool:
        """Return whether the platform is done with every call."""
        return bool(self.calls) and all(call.final for call in self.calls)

    def failures(self, *, strict: bool = False) -> list[str]:
        """Return why the run should fail a build; empty when it should not. A run without calls fails."""
        found = [] if self.calls else ["the run has no calls"]
        for call in self.calls:
            found += [f"call {call.simulation_result_id}: {reason}" for reason in call.failures(strict=strict)]
        if self.tests_failed and not found:
            found.append(f"the platform counts {self.tests_failed} failed tests")
        return found

    def as_dict(self, *, strict: bool = False) -> dict[str, Any]:
        """Return everything as plain JSON values; see `failures`."""
        return {
            "run_id": self.run_id,
            "status": self.status,
            "final": self.final,
            "summary": self.summary,
            "tests_failed": self.tests_failed,
            "calls": [call.as_dict(strict=strict) for call in self.calls],
            "failures": self.failures(strict=strict),
        }

    @classmethod
    def of(cls, run_id: str, answer: dict[str, Any]) -> RunResult:
        """Return the run that the platform's JSON describes.

        Args:
            run_id: the id that was asked for.
            answer: the whole answer.
        """
        run = answer.get("simulation_run")
        run = run if isinstance(run, dict) else {}
        calls = tuple(
            CallResult.of(str(each.get("id", "")), each) for each in dicts_in(answer.get("simulation_results"))
        )
        status = _text(run.get("status")).upper()
        return cls(run_id, status, calls, _text(run.get("summary")), _integer(run.get("tests_failed")))


# -- reading ------------------------------------------------------------------------------------------------------


_Found = TypeVar("_Found", CallResult, RunResult)


class ResultReader:
    """Read results from the platform, seldom: a result that is not final is looked at again after growing waits.

    ``get_result`` and ``get_run`` make one GET, and return an answer with ``status``, ``body`` and ``complete``, or a
    failure with ``reason``.
    """

    def __init__(
        self,
        get_result: Callable[[str], Any],
        get_run: Callable[[str], Any],
        *,
        base_url: str,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], object] = time.sleep,
    ) -> None:
        self._get_result = get_result
        self._get_run = get_run
        self._base_url = base_url
        self._clock = clock
        self._sleep = sleep

    def result(self, simulation_result_id: str, *, wait: float = 0.0) -> CallResult:
        """Return what the platform shows for a call.

        Args:
            simulation_result_id: of the call.
            wait: seconds that the platform may take to be done with it; after that the result is returned as it is. A
                platform that does not answer, or asks for patience, is looked at again until then.

        Raises:
            ResultError: it cannot be read.
        """

        def look() -> CallResult:
            outcome = self._get_result(simulation_result_id)
            answer = self._read(f"call {simulation_result_id}", outcome, "simulation_result", dict)
            return CallResult.of(simulation_result_id, answer["simulation_result"])

        return self._until_final(look, wait)

    def run(self, run_id: str, *, wait: float = 0.0) -> RunResult:
        """Return what the platform shows for a whole run.

        The route is not part of the API description that this package was built from; the official SDK has it.

        Args:
            run_id: of the run.
            wait: see `result`.

        Raises:
            ResultError: it cannot be read.
        """

        def look() -> RunResult:
            outcome = self._get_run(run_id)
            return RunResult.of(run_id, self._read(f"run {run_id}", outcome, "simulation_results", list | None))

        return self._until_final(look, wait)

    def _until_final(self, look: Callable[[], _Found], wait: float) -> _Found:
        until = self._clock() + wait
        pause = FIRST_WAIT
        found: _Found | None = None
        while True:
            try:
                found = look()
            except _PassingError:
                if found is None and self._clock() >= until:
                    raise
            left = max(0.0, until - self._clock())
            if found is not None and (found.final or not left):
                return found
            self._sleep(min(pause, left))
            pause = min(pause * GROWTH, LONGEST_WAIT)

    def _read(self, what: str, outcome: Any, key: str, kind: Any) -> dict[str, Any]:
        """Return the answer's object, which has a value of this kind, or say why there is none and what to do."""
        status = getattr(outcome, "status", None)
        if status is None:
            reason = f"cannot be read: no answer from {self._base_url} ({outcome.reason})"
            raise _PassingError(what, reason, "check BLUEJAY_API_URL and the network: bluejay-ws doctor")
        if status != 200:
            raise _refused(what, status, self._base_url)
        answer = _object(outcome)
        if answer is None or not isinstance(answer.get(key), kind):
            raise ResultError(what, f"cannot be read: {self._base_url} answers something else", "check BLUEJAY_API_URL")
        return answer


class _PassingError(ResultError):
    """What the next look may not meet again."""


_REFUSED = {
    401: ("cannot be read: the platform refuses the key (HTTP 401)", "check BLUEJAY_API_KEY"),
    403: ("cannot be read: the platform refuses the key (HTTP 403)", "check BLUEJAY_API_KEY"),
    404: ("is not known to the platform", "check the id, and that the key is of the same account"),
    422: ("has an id that the platform does not take (HTTP 422)", "check the id"),
}


def _refused(what: str, status: int, base_url: str) -> ResultError:
    if status in _REFUSED:
        return ResultError(what, *_REFUSED[status])
    reason = f"cannot be read: {base_url} answers HTTP {status}"
    if status == 429 or status >= 500:
        return _PassingError(what, reason, "wait a minute")
    return ResultError(what, reason, "check BLUEJAY_API_URL: bluejay-ws doctor")


def _object(outcome: Any) -> dict[str, Any] | None:
    if not outcome.complete:
        return None
    try:
        found = json.loads(outcome.body)
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None


# -- comparing ----------------------------------------------------------------------------------------------------


def _comparisons(groups: object) -> Iterator[ToolComparison]:
    for group in dicts_in(groups):
        name = _text(group.get("name"))
        expected = [_tool_call(name, each) for each in dicts_in(group.get("expected"))]
        actual = [_tool_call(name, each) for each in dicts_in(group.get("actual"))]
        yield from _pairs(expected, actual)


def _tool_call(name: str, found: dict[str, Any]) -> ToolCall:
    parameters = found.get("parameters")
    plain = parameters if isinstance(parameters, dict) else None
    return ToolCall(name, plain, found.get("output"), _integer(found.get("start_offset_ms")))


def _pairs(expected: list[ToolCall], actual: list[ToolCall]) -> Iterator[ToolComparison]:
    """Give each expected call the actual one that differs least, in the order of the expected ones."""
    partner: dict[int, int] = {}
    taken: set[int] = set()
    for _, wanted, made in sorted(_candidates(expected, actual)):
        if wanted not in partner and made not in taken:
            partner[wanted] = made
            taken.add(made)
    for number, call in enumerate(expected):
        yield _compare(call, actual[partner[number]]) if number in partner else ToolComparison(call, None)
    for number, call in enumerate(actual):
        if number not in taken:
            yield ToolComparison(None, call)


def _candidates(expected: list[ToolCall], actual: list[ToolCall]) -> Iterator[tuple[int, int, int]]:
    if max(len(expected), len(actual)) > MOST_PAIRS:
        yield from ((0, number, number) for number in range(min(len(expected), len(actual))))
        return
    for wanted, call in enumerate(expected):
        for made, other in enumerate(actual):
            yield len(list(_differences(call.parameters, other.parameters))), wanted, made


def _compare(expected: ToolCall, actual: ToolCall) -> ToolComparison:
    output = expected.output is not None and not _same(expected.output, actual.output)
    return ToolComparison(expected, actual, tuple(_differences(expected.parameters, actual.parameters)), output)


def _differences(
    expected: dict[str, Any] | None, actual: dict[str, Any] | None, path: str = ""
) -> Iterator[Difference]:
    if expected is None:
        return
    given = actual or {}
    for key in (*expected, *(key for key in given if key not in expected)):
        left, right = expected.get(key, ABSENT), given.get(key, ABSENT)
        if isinstance(left, dict) and isinstance(right, dict):
            yield from _differences(left, right, f"{path}{key}.")
        elif not _same(left, right):
            yield Difference(f"{path}{key}", left, right)


def _same(left: Any, right: Any) -> bool:
    """Compare as JSON does: ``true`` is not 1, but 1 is 1.0."""
    if isinstance(left, list) and isinstance(right, list):
        return len(left) == len(right) and all(map(_same, left, right))
    if isinstance(left, dict) and isinstance(right, dict):
        return left.keys() == right.keys() and all(_same(left[key], right[key]) for key in left)
    return isinstance(left, bool) == isinstance(right, bool) and bool(left == right)


# -- what came from outside ---------------------------------------------------------------------------------------


def _comparison_as_dict(pair: ToolComparison) -> dict[str, Any]:
    return {
        "name": pair.name,
        "kind": pair.kind,
        "expected": _call_as_dict(pair.expected),
        "actual": _call_as_dict(pair.actual),
        "differences": [_difference_as_dict(each) for each in pair.differences],
        "output_differs": pair.output_differs,
    }


def _call_as_dict(call: ToolCall | None) -> dict[str, Any] | None:
    if call is None:
        return None
    return {"parameters": call.parameters, "output": call.output, "start_offset_ms": call.start_offset_ms}


def _difference_as_dict(found: Difference) -> dict[str, Any]:
    sides = {"expected": found.expected, "actual": found.actual}
    return {"path": found.path, **{side: value for side, value in sides.items() if value is not ABSENT}}


def _latency(result: dict[str, Any]) -> dict[str, Any]:
    """Return the numbers of the first latency that is there: the result's own, else that of an evaluation."""
    places = [result.get("latency"), *_list(result.get("latency"))]
    places += [each.get("latency") for each in dicts_in(result.get("evaluations"))]
    for place in places:
        if isinstance(place, dict):
            numbers = {key: value for key, value in place.items() if _is_number(value)}
            if numbers:
                return numbers
    return {}


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""


def _integer(value: object) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def _list(value: object) -> list[Any]:
    return value if isinstance(value, list) else []


def dicts_in(value: object) -> list[dict[str, Any]]:
    """Return the objects in a list; none of what is no list."""
    return [each for each in _list(value) if isinstance(each, dict)]


def ids_in(lines: Iterable[str]) -> list[str]:
    """Return the ids in some lines, one on each; empty lines and what follows a ``#`` are left out."""
    found = (line.partition("#")[0].strip() for line in lines)
    return [each for each in found if each]
