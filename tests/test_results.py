"""What the platform shows for a call: read seldom, compared fairly, and never trusted to be well formed."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bluejay_ws.client import Bluejay
from bluejay_ws.delivery.http import HttpExchange
from bluejay_ws.exceptions import ResultError
from bluejay_ws.results import ABSENT, STATUSES, CallResult, Difference, ResultReader, RunResult, ids_in
from bluejay_ws.testing.platform import Answer, Close, FakePlatform

if TYPE_CHECKING:
    from collections.abc import Iterator

    from bluejay_ws.testing.platform import Step

EXPECTED = {"freeze_card": [{"parameters": {"last4": "4321"}, "output": {"frozen": True}}]}


@pytest.fixture
def bluejay(platform: FakePlatform) -> Iterator[Bluejay]:
    """Return a client of that platform."""
    with Bluejay(platform.api_key, base_url=platform.url, spool=False, flush_timeout=5) as bluejay:
        yield bluejay


def report(bluejay: Bluejay, identity: str, *tools: tuple[str, dict[str, Any]]) -> None:
    """Record one call with these tool calls, and deliver it."""
    with bluejay.call({"X-Simulation-Result-Id": identity}) as recorder:
        for name, parameters in tools:
            with recorder.tool_call(name, parameters) as call:
                call.output = {"frozen": True}
    assert bluejay.flush(30.0)


def compared(expected: list[dict[str, Any]], actual: list[dict[str, Any]]) -> CallResult:
    """Return a completed call whose one tool was expected and called like this."""
    group = {"name": "tool", "expected": expected, "actual": actual}
    return CallResult.of("7", {"status": "COMPLETED", "tool_calls": [group]})


def given_(*parameters: dict[str, Any] | None) -> list[dict[str, Any]]:
    """Return calls of a tool with these parameters."""
    return [{"parameters": each} for each in parameters]


# -- from the platform --------------------------------------------------------------------------------------------


def test_a_call_that_went_as_expected_fails_nothing(platform: FakePlatform, bluejay: Bluejay) -> None:
    """Status, its meaning, the tool call with time, parameters and output are there."""
    platform.read_back.expected_tools = EXPECTED
    report(bluejay, "720488", ("freeze_card", {"last4": "4321"}))
    result = bluejay.result("720488")
    assert (result.status, result.meaning, result.final) == (
        "COMPLETED",
        "the call took place and was evaluated",
        True,
    )
    (pair,) = result.comparisons
    assert (pair.kind, pair.name, pair.differences, pair.output_differs) == ("as_expected", "freeze_card", (), False)
    assert pair.actual is not None
    assert pair.actual.start_offset_ms is not None
    assert result.failures(strict=True) == []


def test_missing_extra_and_wrong_calls_are_told_apart(platform: FakePlatform, bluejay: Bluejay) -> None:
    """Each has its list, and each that fails a build says so."""
    platform.read_back.expected_tools = {**EXPECTED, "send_sms": [{"parameters": {"to": "me"}, "output": None}]}
    report(bluejay, "720488", ("freeze_card", {"last4": "1234"}), ("look_up", {}))
    result = bluejay.result("720488")
    assert [call.name for call in result.missing] == ["send_sms"]
    assert [call.name for call in result.extra] == ["look_up"]
    assert [pair.differences for pair in result.wrong_parameters] == [(Difference("last4", "4321", "1234"),)]
    assert result.failures() == [
        "tool send_sms was expected and not called",
        "tool freeze_card: wrong parameters: last4",
    ]
    assert result.failures(strict=True)[2:] == ["tool look_up was called and not expected"]


def test_the_judge_and_the_latency_are_shown(platform: FakePlatform, bluejay: Bluejay) -> None:
    """A goal that was missed fails a build; a hallucination only a strict one."""
    latency = {"avg_agent_latency": 0.8, "p95_agent_latency": 1.5, "unit": "s", "odd": True}
    platform.read_back.evaluation = {"goal_success": False, "hallucination": True, "latency": latency}
    report(bluejay, "720488")
    result = bluejay.result("720488")
    assert result.latency == {"avg_agent_latency": 0.8, "p95_agent_latency": 1.5}
    assert result.failures(strict=True) == ["the caller did not reach its goal", "the judge found a hallucination"]


def test_a_run_is_read_with_one_request(platform: FakePlatform, bluejay: Bluejay) -> None:
    """All calls of it are there, and each reason names its call."""
    platform.read_back.runs["9"] = ["720488", "720489"]
    report(bluejay, "720488")
    before = len(platform.requests)
    run = bluejay.run_result("9")
    assert len(platform.requests) == before + 1
    assert [call.simulation_result_id for call in run.calls] == ["720488", "720489"]
    assert not run.final
    assert run.failures() == ["call 720489: EVALUATING: the platform evaluates the call"]
    assert json.loads(json.dumps(run.as_dict()))["calls"][0]["status"] == "COMPLETED"


@pytest.mark.parametrize(
    ("step", "words"),
    [
        (Answer(status=401), "refuses the key"),
        (Answer(status=404), "is not known to the platform"),
        (Answer(status=422), "does not take"),
        (Answer(status=503), "answers HTTP 503; wait a minute"),
        (Answer(status=302), "answers HTTP 302; check BLUEJAY_API_URL"),
        (Answer(status=200, body=b"<html>"), "answers something else"),
        (Answer(status=200, body=b"[]"), "answers something else"),
        (Answer(status=200, body=b"{}"), "answers something else"),
        (Close(at="headers"), "no answer from http://127.0.0.1"),
    ],
)
def test_what_cannot_be_read_says_why(platform: FakePlatform, bluejay: Bluejay, step: Step, words: str) -> None:
    """The error names the call, the reason and the way out, and never the key."""
    platform.plan_reads(step)
    with pytest.raises(ResultError, match="call 720488") as raised:
        bluejay.result("720488")
    assert words in str(raised.value)
    assert platform.api_key not in str(raised.value)


def test_a_run_that_is_not_there_says_so(platform: FakePlatform, bluejay: Bluejay) -> None:
    """Unknown, or answered with something that is no run: the error names the run."""
    with pytest.raises(ResultError, match="run 9 is not known"):
        bluejay.run_result("9")
    platform.plan_reads(Answer(status=200, body=b'{"simulation_results": "many"}'))
    with pytest.raises(ResultError, match="run 9 cannot be read"):
        bluejay.run_result("9")


# -- waiting ------------------------------------------------------------------------------------------------------


class Platform:
    """Answer reads from a list of statuses, words or numbers of HTTP; the last one stays."""

    def __init__(self, *statuses: str) -> None:
        self.statuses = list(statuses)
        self.now = 0.0
        self.looks: list[float] = []

    def look(self, _: str) -> Any:
        self.looks.append(self.now)
        status = self.statuses.pop(0) if len(self.statuses) > 1 else self.statuses[0]
        return _Answer(status)

    def sleep(self, seconds: float) -> None:
        self.now += seconds

    def reader(self) -> ResultReader:
        return ResultReader(self.look, self.look, base_url="x", clock=lambda: self.now, sleep=self.sleep)


class _Answer:
    complete = True

    def __init__(self, status: str) -> None:
        self.status = int(status) if status.isdecimal() else 200
        self.body = json.dumps({"simulation_result": {"status": status}}).encode()


def test_waiting_looks_ever_more_seldom_and_stops_at_a_final_status() -> None:
    """A final status ends it; the platform is asked a handful of times, not a hundred."""
    platform = Platform("RUNNING", "CONVERSATION_ENDED", "EVALUATING", "COMPLETED")
    assert platform.reader().result("7", wait=600).status == "COMPLETED"
    assert platform.looks == [0.0, 2.0, 5.0, 9.5]


def test_waiting_has_an_end() -> None:
    """After the given time the result comes as it is, with a last look at the very end."""
    platform = Platform("EVALUATING")
    assert not platform.reader().result("7", wait=600).final
    assert platform.now == 600
    assert len(platform.looks) < 30


def test_a_platform_that_is_away_for_a_moment_ends_no_waiting() -> None:
    """One answer of a gateway in ten minutes fails no build; what it would answer again does, and so does the end."""
    platform = Platform("RUNNING", "503", "429", "COMPLETED")
    assert platform.reader().result("7", wait=600).status == "COMPLETED"
    assert Platform("RUNNING", "503").reader().result("7", wait=60).status == "RUNNING"
    for statuses, words in ((["503"], "HTTP 503"), (["RUNNING", "401"], "refuses the key")):
        with pytest.raises(ResultError, match=words):
            Platform(*statuses).reader().result("7", wait=60)


def test_a_status_nobody_knows_is_waited_for() -> None:
    """A word of tomorrow is taken for one that is not final, and shown as it came."""
    result = Platform("PONDERING").reader().result("7")
    assert (result.final, result.meaning) == (False, "a status that this version does not know")


def test_every_final_status_but_completed_fails_a_build() -> None:
    """What it means is part of the reason."""
    for word, status in STATUSES.items():
        expected = [] if word == "COMPLETED" else [f"{word}: {status.meaning}"]
        assert CallResult.of("7", {"status": word.lower()}).failures() == expected


# -- comparing ----------------------------------------------------------------------------------------------------


def test_calls_of_one_tool_are_paired_by_what_they_were_given() -> None:
    """Order does not matter: each expected call meets the actual one that differs least."""
    result = compared(given_({"n": 1, "m": 1}, {"n": 2, "m": 2}), given_({"n": 2, "m": 2}, {"n": 1, "m": 7}))
    assert [pair.kind for pair in result.comparisons] == ["wrong_parameters", "as_expected"]
    assert result.wrong_parameters[0].differences == (Difference("m", 1, 7),)


def test_an_expected_call_without_parameters_takes_any() -> None:
    """Null means that nobody asked."""
    assert compared(given_(None), given_({"n": 1})).failures() == []
    assert compared(given_({}), given_({"n": 1})).wrong_parameters[0].differences == (Difference("n", ABSENT, 1),)


def test_differences_are_named_down_to_the_place() -> None:
    """Objects are entered; a parameter that is absent is told from one that is null; true is not 1."""
    wanted = {"a": {"b": 1, "c": None}, "d": True, "e": [1, {"f": 2}]}
    made = {"a": {"b": 1.0}, "d": 1, "e": [1, {"f": 3}]}
    (pair,) = compared(given_(wanted), given_(made)).comparisons
    assert [(each.path, each.expected, each.actual) for each in pair.differences] == [
        ("a.c", None, ABSENT),
        ("d", True, 1),
        ("e", [1, {"f": 2}], [1, {"f": 3}]),
    ]
    assert "actual" not in compared(given_(wanted), given_(made)).as_dict()["tool_calls"][0]["differences"][0]
    assert repr(ABSENT) == "(absent)"


def test_another_output_is_shown_and_fails_nothing() -> None:
    """An expected output is often a sentence: it is for the judge to say whether the other one will do."""
    result = compared([{"parameters": None, "output": "yes"}], [{"parameters": {}, "output": "Yes."}])
    assert result.comparisons[0].output_differs
    assert result.failures(strict=True) == []


def test_nothing_is_extra_where_nothing_was_expected() -> None:
    """A simulation without expectations has nothing to say about the tools."""
    assert compared([], given_({})).extra == []
    assert [pair.kind for pair in compared([], given_({})).comparisons] == ["extra"]


def test_thousands_of_calls_are_compared_in_their_order() -> None:
    """Each with each would take minutes."""
    many = given_(*({"n": number} for number in range(5_000)))
    assert compared(many, many).failures() == []


def test_a_run_without_calls_fails() -> None:
    """Nothing was tested; and a failure that only the platform counts is one too."""
    assert RunResult("9", "COMPLETED", ()).failures() == ["the run has no calls"]
    good = CallResult.of("7", {"status": "COMPLETED"})
    assert RunResult("9", "COMPLETED", (good,), tests_failed=1).failures() == ["the platform counts 1 failed tests"]
    assert RunResult("9", "COMPLETED", (good,), tests_failed=0).failures() == []


# -- what comes from outside --------------------------------------------------------------------------------------

_leaves = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5)


def _in_one_more(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    """Return values, and lists and objects of them. By hand: `recursive` keeps state, which has made runs differ."""
    return inner | st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=3), inner, max_size=2)


_json_values = _in_one_more(_leaves)
_fields = (
    *("status", "tool_calls", "trace_ids", "latency", "evaluations", "events"),
    *("duration", "start_time", "end_time", "transcript_url", "audio_url"),
)
_groups = st.lists(st.fixed_dictionaries({"name": _json_values, "expected": _json_values, "actual": _json_values}))


@given(st.dictionaries(st.sampled_from(_fields), _json_values), _groups)
def test_no_answer_is_too_odd_to_be_shown(result: dict[str, Any], groups: list[Any]) -> None:
    """Whatever JSON comes, it becomes a result and JSON again."""
    for shape in (result, {**result, "tool_calls": groups}):
        found = CallResult.of("7", shape)
        found.failures(strict=True)
        json.dumps(found.as_dict())
    RunResult.of("9", {"simulation_run": result, "simulation_results": [result]})


def test_latency_is_found_in_either_place() -> None:
    """The result has it as an object or in a list; an evaluation has it too."""
    expected = {"p50_agent_latency": 1.0}
    for shape in (
        {"latency": expected},
        {"latency": [None, expected]},
        {"latency": {"odd": "x"}, "evaluations": [{"latency": expected}]},
    ):
        assert CallResult.of("7", shape).latency == expected
    assert CallResult.of("7", {}).latency == {}


def test_ids_are_read_from_lines() -> None:
    """One on each line; blanks and remarks are left out."""
    assert ids_in(["720488\n", "", "  720489  # the second", "# none"]) == ["720488", "720489"]


def test_an_answer_that_was_cut_short_is_none() -> None:
    """Half an object might be read as a call without tools."""

    class Cut(_Answer):
        complete = False

    reader = ResultReader(lambda _: Cut("COMPLETED"), lambda _: Cut("COMPLETED"), base_url="x")
    with pytest.raises(ResultError, match="answers something else"):
        reader.result("7")


def test_the_exchange_asks_for_runs_under_a_path_of_their_own() -> None:
    """An id cannot lead to another route."""
    asked: list[str] = []

    class Exchange(HttpExchange):
        def __init__(self) -> None:
            """Open nothing."""

        def _exchange(self, method: str, path: str, body: bytes | None, limit: int) -> Any:
            asked.append(f"{method} {path}")

    Exchange().read_run("../x?y")
    assert asked == ["GET /v1/retrieve-simulation-results/..%2Fx%3Fy"]
