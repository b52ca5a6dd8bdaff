"""`bluejay_ws.testing.router`: the platform's own answers."""

from __future__ import annotations

import json
import threading
import time
from typing import TYPE_CHECKING, Any

import pytest

from bluejay_ws.testing.faults import Answer, Close, Hang, Raw
from bluejay_ws.testing.http11 import Request
from bluejay_ws.testing.oracle import Oracle, ReadBack
from bluejay_ws.testing.router import Judged, Router, planned_body
from tests.testing import published
from tests.testing.raw_client import RETRIEVE, UPDATE, report

if TYPE_CHECKING:
    from bluejay_ws.testing.faults import Step

RUN = "/v1/retrieve-simulation-results/"
HEADERS = [("X-API-Key", "test-key"), ("Content-Type", "application/json")]


class Desk:
    """A router and the oracle it fills."""

    def __init__(self, **options: Any) -> None:
        self.oracle = Oracle(ReadBack(), time.monotonic)
        given = {"api_key": "test-key", "known_ids": None, "on_report": None, **options}
        self.router = Router(self.oracle, threading.Condition(), **given)

    def ask(
        self,
        method: str = "POST",
        target: str = UPDATE,
        body: bytes = b"",
        headers: list[tuple[str, str]] | None = None,
        step: Step | None = None,
    ) -> Judged:
        self.request = Request(method, target, HEADERS if headers is None else headers, body=body)
        return self.router.judge(self.request, step or Answer())


def test_a_sound_report_is_accepted_in_the_published_shape() -> None:
    """The answer is what the platform's schema promises."""
    desk = Desk()
    judged = desk.ask(body=report())
    assert (judged.status, judged.payload["status"]) == (200, "success")
    assert published.problems(judged.payload, "UpdateSimulationResponse") == []
    assert [accepted.body for accepted in desk.oracle.accepted()] == [report()]
    assert desk.request.problems == []


def test_a_body_that_the_schema_rejects_is_noted() -> None:
    """Answered with 422, with the problems kept beside the request; nothing is taken in."""
    desk = Desk()
    judged = desk.ask(body=report(tags=[1]))
    assert judged.status == 422
    assert desk.request.problems == judged.payload["detail"]
    assert desk.oracle.accepted() == []
    assert desk.ask(body=b"\xff").status == 400
    assert desk.request.problems[0]["msg"] == "There was an error parsing the body"


@pytest.mark.parametrize("keys", [[], [""], ["wrong"], ["test-key", "wrong"]])
def test_a_wrong_or_missing_key_is_refused(keys: list[str]) -> None:
    """Before anything else is looked at; two different keys are none."""
    desk = Desk()
    headers = [("x-api-key", key) for key in keys]
    assert desk.ask(body=b"{", headers=headers).status == 401
    assert desk.ask("GET", RETRIEVE + "1", headers=headers).status == 401
    assert desk.request.problems == []


def test_any_key_will_do_when_none_is_right() -> None:
    """For agents that have a key of their own; but they need one."""
    desk = Desk(api_key=None)
    assert desk.ask(body=report(), headers=[("X-Api-Key", "theirs"), HEADERS[1]]).status == 200
    assert desk.ask(body=report(), headers=[HEADERS[1]]).status == 401


@pytest.mark.parametrize(
    ("method", "target", "status", "allow"),
    [
        ("POST", "/", 404, None),
        ("POST", "/update-simulation-result", 404, None),
        ("POST", UPDATE + "/", 404, None),
        ("GET", "/v1/retrieve-simulation-result", 404, None),
        ("GET", UPDATE, 405, "POST"),
        ("PUT", UPDATE, 405, "POST"),
        ("POST", RETRIEVE + "1", 405, "GET"),
    ],
)
def test_other_paths_and_methods_are_refused(method: str, target: str, status: int, allow: str | None) -> None:
    """404 and 405, as the platform's framework does."""
    judged = Desk().ask(method, target)
    assert (judged.status, judged.allow) == (status, allow)
    assert isinstance(judged.payload["detail"], str)


def test_a_query_string_changes_nothing() -> None:
    """The path decides."""
    assert Desk().ask(target=UPDATE + "?a=b", body=report()).status == 200


def test_a_report_can_be_read_back() -> None:
    """Under its id, also where that has to be escaped in a path."""
    desk = Desk()
    desk.ask(body=report("a/b c", trace_ids=["x"]))
    judged = desk.ask("GET", RETRIEVE + "a%2Fb%20c")
    assert judged.status == 200
    assert judged.payload["simulation_result"]["trace_ids"] == ["x"]


def test_a_run_can_be_read_back() -> None:
    """With the results of all its calls; a run that nobody knows is not found."""
    desk = Desk()
    desk.oracle.read_back.runs["r/1"] = ["1", "2"]
    judged = desk.ask("GET", RUN + "r%2F1")
    assert [one["id"] for one in judged.payload["simulation_results"]] == [1, 2]
    assert desk.ask("GET", RUN + "r2").status == 404


def test_reading_can_be_impossible() -> None:
    """Every read is answered with the given status."""
    desk = Desk()
    desk.oracle.read_back.unreadable = 599
    assert desk.ask("GET", RETRIEVE + "1").status == desk.ask("GET", RUN + "1").status == 599
    assert desk.ask(body=report()).status == 200


def test_calls_that_do_not_exist_are_not_found() -> None:
    """For reports and for reads alike, once it is said which calls exist."""
    desk = Desk(known_ids={"1"})
    assert [desk.ask(body=report(name)).status for name in ("1", "2")] == [200, 404]
    assert [desk.ask("GET", RETRIEVE + name).status for name in ("1", "2")] == [200, 404]
    desk.router.known_ids = None
    assert desk.ask(body=report("2")).status == 200


@pytest.mark.parametrize(
    ("step", "accepted"),
    [
        (Answer(), 1),
        (Answer(accept=False), 0),
        (Answer(status=502), 0),
        (Answer(status=502, accept=True), 1),
        (Answer(body=b"<html>"), 0),
        (Close(), 0),
        (Close(accept=True), 1),
        (Hang(), 0),
        (Hang(accept=True), 1),
        (Raw(b""), 0),
        (Raw(b"", accept=True), 1),
    ],
)
def test_the_step_decides_whether_a_report_is_taken_in(step: Step, accepted: int) -> None:
    """With and without an answer that says so."""
    desk = Desk()
    desk.ask(body=report(), step=step)
    assert len(desk.oracle.accepted()) == accepted


def test_no_step_makes_a_wrong_report_acceptable() -> None:
    """A planned acceptance needs a sound report and the right key."""
    desk = Desk()
    desk.ask(body=report(tags=[1]), step=Close(accept=True))
    desk.ask(body=report(), headers=[], step=Answer(status=502, accept=True))
    assert desk.oracle.accepted() == []


def test_each_accepted_report_is_told() -> None:
    """To the callback, before the answer leaves; what it raises changes nothing."""
    told = []

    def on_report(accepted: Any) -> None:
        told.append(accepted)
        raise ValueError("a bug")

    desk = Desk(on_report=on_report)
    assert desk.ask(body=report()).status == 200
    assert told == desk.oracle.accepted()
    assert [str(error) for error in desk.router.errors] == ["a bug"]


def test_an_answer_that_cannot_be_written_is_a_server_error() -> None:
    """What came nested too deep for one side is not the client's fault."""
    deep: list[Any] = []
    for _ in range(100_000):
        deep = [deep]
    status, body = Judged(422, {"detail": deep}).spelled()
    assert (status, json.loads(body)["detail"]) == (500, "Internal Server Error")
    assert Judged(200, {}).spelled() == (200, b"{}")
    while deep:  # taken apart by hand: freeing it in one go is recursive, too
        deep = deep.pop()


def test_a_planned_status_has_a_body_that_goes_with_it() -> None:
    """Words for most, nothing for some; a 422 repeats what was sent, as the platform's framework does."""
    request = Request("POST", UPDATE, [], body=report(tags=["caller text"]))
    assert json.loads(planned_body(Answer(status=503), request)) == {"detail": "Service Unavailable"}
    assert json.loads(planned_body(Answer(status=599), request)) == {"detail": "unknown"}
    assert planned_body(Answer(status=204), request) == b""
    detail = json.loads(planned_body(Answer(status=422), request))
    assert published.problems(detail, "HTTPValidationError") == []
    assert "caller text" in detail["detail"][0]["input"]
