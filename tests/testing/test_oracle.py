"""`bluejay_ws.testing.oracle`: what was accepted, and how it is read back."""

from __future__ import annotations

import json
from typing import Any

import pytest

from bluejay_ws.testing.oracle import AcceptedReport, Oracle, ReadBack
from bluejay_ws.testing.schema import read
from tests.testing import published
from tests.testing.raw_client import report


class Book:
    """An oracle with a clock that stands still."""

    def __init__(self, **read_back: Any) -> None:
        self.now = 100.0
        self.oracle = Oracle(ReadBack(**read_back), lambda: self.now)

    def accept(self, name: str = "720488", **fields: Any) -> AcceptedReport:
        body = report(name, **fields)
        return self.oracle.accept(read(body, "application/json"), body, ["odd"] if "odd" in fields else [])

    def result(self, name: str = "720488") -> Any:
        return self.oracle.result(name)["simulation_result"]


def test_an_accepted_report_is_kept_byte_for_byte() -> None:
    """With its time, and with what the schema does not know."""
    book = Book()
    accepted = book.accept(tool_calls=[{"name": "a", "start_offset_ms": 1}], events=None, odd=1)
    assert accepted.body == report(tool_calls=[{"name": "a", "start_offset_ms": 1}], events=None, odd=1)
    assert (accepted.simulation_result_id, accepted.received_at, accepted.number) == ("720488", 100.0, 1)
    assert accepted.unknown_fields == ("odd",)
    assert accepted.report == json.loads(accepted.body)
    assert [call["name"] for call in accepted.tool_calls] == ["a"]
    assert (accepted.events, accepted.transcript) == ([], [])
    assert book.oracle.accepted() == [accepted]
    assert (book.oracle.count(), book.oracle.count("720488"), book.oracle.count("other")) == (1, 1, 0)


def test_a_report_shows_no_text_in_its_repr() -> None:
    """Failing tests print it."""
    assert "caller text" not in repr(Book().accept(events=[{"title": "caller text", "start_offset_ms": 1}]))


def test_lists_that_are_there_are_given() -> None:
    """Events and transcript as they were sent."""
    entry = {"start_offset_ms": 0, "end_offset_ms": 1, "speaker": "USER", "utterance": "hi"}
    accepted = Book().accept(recorded_transcript=[entry], events=[{"title": "t", "start_offset_ms": 1}])
    assert accepted.transcript == [entry]
    assert accepted.events == [{"title": "t", "start_offset_ms": 1}]


def test_a_second_report_of_a_call_is_appended_and_counted() -> None:
    """The judge of the real platform would see each tool twice, and so does who reads back here."""
    book = Book()
    book.accept("1", tool_calls=[{"name": "a", "start_offset_ms": 1}], trace_ids=["x"])
    second = book.accept("1", tool_calls=[{"name": "a", "start_offset_ms": 1}], trace_ids=["y"])
    book.accept("2")
    assert second.number == 2
    assert book.oracle.duplicates() == {"1": 2}
    assert [accepted.number for accepted in book.oracle.accepted("1")] == [1, 2]
    assert book.oracle.accepted("3") == []
    (group,) = book.result("1")["tool_calls"]
    assert len(group["actual"]) == 2
    assert book.result("1")["trace_ids"] == ["x", "y"]


def test_tool_calls_are_grouped_by_name() -> None:
    """In the published shape, in the order they came, with what was expected beside them."""
    book = Book(expected_tools={"b": [{"parameters": None, "output": 1}], "never": []})
    book.accept(
        tool_calls=[
            {"name": "a", "start_offset_ms": 1, "parameters": {"x": 1}, "output": "one", "description": "d"},
            {"name": "b", "start_offset_ms": 2},
            {"name": "a", "start_offset_ms": 3},
        ]
    )
    nothing = {"parameters": None, "output": None}
    assert book.result()["tool_calls"] == [
        {"name": "b", "expected": [{"parameters": None, "output": 1}], "actual": [nothing | {"start_offset_ms": 2}]},
        {"name": "never", "expected": [], "actual": []},
        {
            "name": "a",
            "expected": [],
            "actual": [
                {"parameters": {"x": 1}, "output": "one", "start_offset_ms": 1},
                nothing | {"start_offset_ms": 3},
            ],
        },
    ]


@pytest.mark.parametrize("echo", [True, False])
def test_events_come_back_with_or_without_their_metadata(echo: bool) -> None:
    """Nobody knows whether the real platform gives it back: both can be tested."""
    book = Book(echo_metadata=echo)
    book.accept(events=[{"title": "t", "start_offset_ms": 1, "tags": ["x"], "metadata": {"k": 1}, "odd": 1}])
    assert book.result()["events"] == [
        {
            "title": "t",
            "start_offset_ms": 1,
            "end_offset_ms": None,
            "description": None,
            "tags": ["x"],
            "metadata": {"k": 1} if echo else None,
        }
    ]


def test_a_report_can_lag_by_reads() -> None:
    """Each read of the call counts, for each report on its own."""
    book = Book(lag_reads=2)
    book.accept(events=[{"title": "first", "start_offset_ms": 1}])
    assert book.result()["events"] == []
    book.accept(events=[{"title": "second", "start_offset_ms": 1}])
    titles = [[event["title"] for event in book.result()["events"]] for _ in range(3)]
    assert titles == [[], ["first"], ["first", "second"]]


def test_a_report_can_lag_by_seconds() -> None:
    """It shows when it is old enough."""
    book = Book(lag=1.5)
    book.accept(events=[{"title": "t", "start_offset_ms": 1}])
    book.now += 1.4
    assert book.result()["status"] == "EVALUATING"
    book.now += 0.1
    assert (book.result()["status"], len(book.result()["events"])) == ("COMPLETED", 1)


@pytest.mark.parametrize("name", ["720488", "unknown", "٣", "9" * 30, "\ud800"])
def test_any_call_can_be_read_in_the_published_shape(name: str) -> None:
    """Also one that was never reported, and one whose id is no number."""
    book = Book()
    assert published.problems(book.oracle.result(name), "SingleSimulationResultResponse") == []
    book.accept("720488", events=[{"title": "t", "start_offset_ms": 1}])
    answer = book.oracle.result(name)
    assert published.problems(answer, "SingleSimulationResultResponse") == []
    assert (answer["simulation_result"]["id"] == 720488) is (name == "720488")
