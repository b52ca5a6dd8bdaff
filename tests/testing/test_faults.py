"""`bluejay_ws.testing.faults`: what can be planned, and in which order it is handed out."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from bluejay_ws.testing.faults import Answer, Close, Hang, Plan, Raw, Refuse, is_tls, stage

if TYPE_CHECKING:
    from bluejay_ws.testing.faults import Step


def test_steps_are_handed_out_in_order_and_then_the_rest() -> None:
    """Each step is used up by one exchange; after the last one all is well."""
    plan = Plan()
    steps: list[Step] = [Answer(status=502), Hang(), Raw(b"x")]
    plan.add(steps)
    assert len(plan) == 3
    assert [plan.take("request") for _ in range(5)] == [*steps, Answer(), Answer()]
    assert len(plan) == 0


def test_a_step_waits_for_its_stage() -> None:
    """A step that is not due yet is neither handed out nor passed over."""
    plan = Plan()
    plan.add([Close(at="connect"), Answer(status=500)])
    assert plan.take("headers", "request") is None
    assert plan.comes("connect", "tls")
    assert not plan.comes("request")
    assert plan.take("connect", "tls") == Close(at="connect")
    assert plan.take("connect", "tls") is None
    assert plan.take("request") == Answer(status=500)


def test_the_rest_has_a_stage_too() -> None:
    """What is done when nothing is planned is done when it is due, again and again."""
    plan = Plan()
    plan.set_rest(Hang(at="headers"))
    assert plan.take("request") is None
    assert plan.take("headers") == plan.take("headers") == Hang(at="headers")
    assert plan.comes("headers")


def test_refusing_cannot_be_the_rest() -> None:
    """A kernel that refuses tells nobody how often it did."""
    with pytest.raises(ValueError, match=r"call refuse\(\) and listen\(\)"):
        Plan().set_rest(Refuse())


@pytest.mark.parametrize("step", [Refuse(), Close(at="connect"), Hang(at="tls")])
def test_a_plan_for_requests_takes_no_step_that_is_due_before(step: Step) -> None:
    """Nobody knows yet whether it will be a request of that kind."""
    with pytest.raises(ValueError, match="before it is known whether a request is a GET"):
        Plan().add_requests([step])
    with pytest.raises(ValueError, match="use plan"):
        Plan().set_rest(step, requests_only=True)


def test_a_plan_for_requests_takes_the_others() -> None:
    """Steps at the headers and later are due when the method is known."""
    plan = Plan()
    plan.add_requests([Hang(at="headers"), Close()])
    plan.set_rest(Hang(), requests_only=True)
    assert (len(plan), plan.rest) == (2, Hang())


@pytest.mark.parametrize(
    ("step", "expected"),
    [
        (Refuse(), "refuse"),
        (Close(at="connect"), "connect"),
        (Hang(at="tls"), "tls"),
        (Hang(at="headers"), "headers"),
        (Close(at="body"), "request"),
        (Hang(), "request"),
        (Answer(), "request"),
        (Raw(b""), "request"),
    ],
)
def test_each_step_has_its_stage(step: Step, expected: str) -> None:
    """The stage says how far an exchange goes before the step takes over."""
    assert stage(step) == expected
    assert is_tls(step) is (expected == "tls")


@pytest.mark.parametrize("kind", [Close, Hang])
@pytest.mark.parametrize("at", ["connect", "tls", "headers", "body"])
def test_a_report_that_was_not_read_cannot_be_accepted(kind: Any, at: str) -> None:
    """Such a plan would be a mistake of the test."""
    with pytest.raises(ValueError, match="it has not been read"):
        kind(at=at, accept=True)


def test_a_report_that_was_read_can_be_accepted_whatever_follows() -> None:
    """The report is in, and nobody was told."""
    assert Close(at="answer", accept=True).accept
    assert Hang(at="status_line", accept=True).accept


def test_only_a_plain_success_is_left_to_the_platform() -> None:
    """A planned status or body replaces the platform's own; headers and delays do not."""
    assert Answer(headers={"X-A": "b"}, delay=1.0).natural
    assert not Answer(status=502).natural
    assert not Answer(body=b"<html>").natural


def test_headers_are_pairs_or_a_mapping() -> None:
    """Pairs may repeat a name."""
    assert Answer(headers={"A": "b"}).pairs == [("A", "b")]
    assert Answer(headers=[("A", "b"), ("A", "c")]).pairs == [("A", "b"), ("A", "c")]
