"""The outcome table, row by row."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bluejay_ws.delivery.verdict import Action, Answer, Failure, Phase, judge

SUCCESS = b'{"status": "success", "message": null}'


@pytest.mark.parametrize(
    ("phase", "action"),
    [
        (Phase.NOT_SENT, Action.RETRY),
        (Phase.BODY_INCOMPLETE, Action.RETRY),
        (Phase.UNKNOWN, Action.READ_BACK),
        (Phase.CERTIFICATE, Action.HOLD_ALL),
        (Phase.CONFIGURATION, Action.HOLD_ALL),
    ],
)
def test_a_failed_transport_is_judged_by_how_far_it_came(phase: Phase, action: Action) -> None:
    """Only what certainly was not processed goes out again without a question."""
    assert judge(Failure(phase, "word")).action is action
    assert judge(Failure(phase, "word")).reason == "word"


@pytest.mark.parametrize(
    ("status", "action"),
    [
        *((status, Action.HOLD_ALL) for status in (300, 301, 302, 303, 304, 307, 308, 399)),
        *((status, Action.HOLD_ALL) for status in (401, 402, 403, 407)),
        *((status, Action.PARK) for status in (400, 405, 406, 410, 411, 414, 415, 418, 422, 431, 451, 501, 505)),
        *((status, Action.RETRY) for status in (404, 408, 421, 423, 425, 429)),
        (409, Action.READ_BACK),
        (413, Action.CUT),
        *((status, Action.READ_BACK) for status in (500, 502, 503, 504, 507, 520, 599)),
        *((status, Action.READ_BACK) for status in (101, 199, 600, 999)),
        *((status, Action.READ_BACK) for status in (200, 201, 204)),
    ],
)
def test_each_status_has_its_row(status: int, action: Action) -> None:
    """Every status a server can send is judged, known or not."""
    assert judge(Answer(status), attempts=1).action is action


@pytest.mark.parametrize("status", [200, 201, 202])
def test_success_is_a_2xx_that_says_so(status: int) -> None:
    """The words of the published answer count, with any status that means yes."""
    assert judge(Answer(status, SUCCESS)).action is Action.DELIVERED


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"<html>OK</html>",
        b"[]",
        b'{"status": "error"}',
        b'"success"',
        b'{"status": "succ',
        b"\xff",
        b"[" * 100_000,
    ],
)
def test_a_200_with_another_body_is_an_unknown_outcome(body: bytes) -> None:
    """A captive portal or a proxy's page is no acceptance, and no refusal either."""
    assert judge(Answer(200, body)).action is Action.READ_BACK


def test_success_before_the_whole_report_was_sent_is_not_believed() -> None:
    """What was not sent cannot have been accepted."""
    assert judge(Answer(200, SUCCESS, request_complete=False)).action is Action.READ_BACK


def test_an_error_before_the_whole_report_was_sent_means_not_processed() -> None:
    """A balancer that answers 503 in the middle of the upload has not passed the report on."""
    assert judge(Answer(503, request_complete=False, retry_after="3")).action is Action.RETRY


def test_404_is_final_at_the_third_time() -> None:
    """The result may not exist yet; after three tries it does not exist."""
    assert [judge(Answer(404), attempts=count).action for count in (1, 2, 3)] == [Action.RETRY] * 2 + [Action.PARK]


def test_413_is_final_once_the_outputs_are_cut() -> None:
    """One smaller report is tried, no third."""
    assert judge(Answer(413), cut=True).action is Action.PARK


@pytest.mark.parametrize("status", [408, 425, 429, 500, 502, 503, 504])
def test_retry_after_is_handed_on(status: int) -> None:
    """Wherever the report may go out again, the platform's wish is heard."""
    assert judge(Answer(status, retry_after="7")).retry_after == "7"


def test_of_a_422_only_place_and_kind_are_kept() -> None:
    """The platform echoes what was sent; neither that nor its message may reach a log."""
    detail = [
        {
            "loc": ["body", "tool_calls", 3, "start_offset_ms"],
            "msg": "secret msg",
            "type": "greater_than",
            "input": "hush",
        },
        {"loc": ["body", "a caller said this"], "type": "x\x1b[31m"},
        {"loc": "body", "type": None},
        {"loc": [None], "type": "y" * 41},
        "hush",
    ]
    verdict = judge(Answer(422, json.dumps({"detail": detail}).encode()))
    assert verdict.detail == "body.tool_calls.3.start_offset_ms: greater_than, body.?: ?, : ?, ?: ?"


@pytest.mark.parametrize("body", [b"", b"[]", b'{"detail": "Unprocessable"}', b'{"detail": []}'])
def test_a_422_in_another_shape_says_nothing(body: bytes) -> None:
    """Only the published shape is looked into."""
    assert judge(Answer(422, body)).detail == ""


@given(st.integers(100, 999), st.binary(), st.booleans(), st.booleans())
def test_every_answer_is_judged(status: int, body: bytes, complete: bool, cut: bool) -> None:
    """No answer raises, and nothing but a 2xx with the right words is taken for delivered."""
    verdict = judge(Answer(status, body, request_complete=complete), cut=cut)
    assert verdict.action is not Action.DELIVERED or 200 <= status < 300
