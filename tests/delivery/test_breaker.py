"""The circuit breaker, on a clock that is moved by hand."""

from __future__ import annotations

import json
import math

import pytest

from bluejay_ws.delivery import breaker as module
from bluejay_ws.delivery.breaker import FAILURES_TO_OPEN, FIRST_PROBE, FRESH_PROBE, RAMP_START, Breaker
from bluejay_ws.delivery.http import _unpacked, retry_after
from bluejay_ws.delivery.outcomes import Answer, Decision, Failure, Phase, Platform, Sight, State, complaints
from tests.delivery.kit import bodies, seen

NOW = 1000.0
DOWN = Decision(State.WAITING, 0.0, Platform.DOWN, "http.503")
WRONG = Decision(State.WAITING, 0.0, Platform.MISCONFIGURED, "http.404")
ACCEPTED = Decision(State.DELIVERED, None, Platform.UP, "delivered")


def opened() -> Breaker:
    """Return one that has just opened."""
    breaker = Breaker(lambda: 0.5)
    for _ in range(FAILURES_TO_OPEN):
        breaker.record(DOWN, NOW, NOW)
    assert breaker.reason
    return breaker


def test_one_probe_at_a_time_at_growing_intervals() -> None:
    """Nothing else passes while one is under way."""
    breaker, now = opened(), NOW
    waits = []
    for _ in range(4):
        wait = breaker.wait(now, fresh=False)
        waits.append(wait)
        now += wait
        assert breaker.wait(now, fresh=False) == 0.0
        assert breaker.wait(now, fresh=False) == 1.0  # asks again in a second
        assert not breaker.record(DOWN, now, now)
    assert waits == [FIRST_PROBE, 2 * FIRST_PROBE, 4 * FIRST_PROBE, 8 * FIRST_PROBE]


def test_a_call_that_has_just_ended_may_probe_although_another_probe_hangs() -> None:
    """A platform that is back is noticed by the next call."""
    breaker = opened()
    later = NOW + FIRST_PROBE
    assert breaker.wait(later, fresh=False) == 0.0
    assert 0.0 < breaker.wait(later, fresh=True) <= FRESH_PROBE
    assert breaker.wait(later + FRESH_PROBE, fresh=True) == 0.0


def test_calls_that_end_in_an_outage_do_not_keep_it_up() -> None:
    """A minute of refused calls, then none: what waits is tried within seconds of the last, not within minutes."""
    breaker, now = Breaker(lambda: 0.5), NOW
    breaker.record(WRONG, now, now)
    for _ in range(20):
        now += 3.0
        for fresh in (False, True):
            if breaker.wait(now, fresh=fresh) == 0.0:
                breaker.record(WRONG, now, now)
    assert breaker.wait(now, fresh=False) <= 8.0


def test_a_platform_that_can_be_read_gets_its_probe_at_once() -> None:
    """Unless the configuration is wrong: reading says nothing about that."""
    breaker = opened()
    read = Decision(State.UNKNOWN, 1.0, Platform.READABLE, "read_back")
    assert not breaker.record(read, NOW, NOW)
    assert breaker.wait(NOW, fresh=False) == 0.0
    wrong = Breaker(lambda: 0.5)
    assert wrong.record(WRONG, NOW, NOW)
    assert not wrong.record(read, NOW, NOW)
    assert wrong.wait(NOW, fresh=False) == FIRST_PROBE
    closed = Breaker(lambda: 0.5)
    assert not closed.record(read, NOW, NOW)
    assert closed.reason is None


def test_what_was_let_through_and_asked_nothing_leaves_the_probe_to_another() -> None:
    """The call was busy, or somebody else's."""
    breaker = opened()
    later = NOW + FIRST_PROBE
    assert breaker.wait(later, fresh=False) == 0.0
    breaker.record(Decision(State.WAITING, 0.5, Platform.UNHEARD, "busy"), later, later)
    assert breaker.wait(later, fresh=False) == 0.0


def test_a_failure_that_began_before_the_platform_was_back_says_nothing() -> None:
    """It hung in an outage that is over."""
    breaker = opened()
    assert breaker.record(ACCEPTED, NOW + 5.0, NOW)
    for _ in range(9):
        assert not breaker.record(DOWN, NOW + 6.0, NOW)
    assert breaker.reason is None


def test_what_waited_comes_back_as_a_ramp() -> None:
    """It starts low and doubles with each second in which the platform accepts."""
    breaker = opened()
    assert breaker.record(ACCEPTED, NOW, NOW)
    assert breaker.wait(NOW, fresh=False) == pytest.approx(1.0 / RAMP_START)
    now, passed = NOW, []
    for _ in range(4):
        now += 1.0
        passed.append(0)
        while breaker.wait(now, fresh=False) == 0.0:
            passed[-1] += 1
        breaker.record(ACCEPTED, now, now)
    assert passed[0] == RAMP_START
    assert passed[1] == 2 * RAMP_START
    assert max(passed) <= module.BURST


def test_without_a_key_nothing_passes() -> None:
    """For good."""
    breaker = Breaker(lambda: 0.5)
    breaker.lock("no key")
    assert breaker.wait(NOW, fresh=True) == module.LOCKED_WAIT
    assert (breaker.held, breaker.reason) == (True, "no key")


@pytest.mark.parametrize("text", ["", "soon", "Mon, 99 Foo 2026 00:00:00 GMT", "1e3"])
def test_what_asks_for_no_time_asks_for_nothing(text: str) -> None:
    """It is neither seconds nor a date."""
    assert retry_after(text, None, ceiling=900.0) is None


def test_a_date_counts_against_the_answers_own_date() -> None:
    """This machine's clock does not matter, unless there is no other; a date without a zone is of Greenwich."""
    date = "Wed, 21 Oct 2026 07:28:00"
    assert retry_after(f"{date} GMT", "Wed, 21 Oct 2026 07:27:30 GMT", ceiling=900.0) == 30.0
    assert retry_after(f"{date} -0000", "Wed, 21 Oct 2026 07:27:30 GMT", ceiling=900.0) == 30.0
    assert retry_after(date, "Thu, 22 Oct 2026 07:28:00 GMT", ceiling=900.0) == 0.0
    assert retry_after("Fri, 31 Dec 9999 23:59:59 GMT", None, ceiling=900.0) == 900.0
    assert retry_after(None, None, ceiling=math.inf) is None


def test_of_values_that_a_proxy_has_joined_the_first_counts() -> None:
    """Two gateways on the way say it twice; a number of any length is a long wait, and not none."""
    date = "Wed, 21 Oct 2026 07:28:00 GMT"
    assert retry_after("120, 60", None, ceiling=900.0) == 120.0
    assert retry_after(f"{date}, {date}", "Wed, 21 Oct 2026 07:27:30 GMT", ceiling=900.0) == 30.0
    assert retry_after("9" * 400, None, ceiling=900.0) == 900.0


# -- what an answer says --------------------------------------------------------------------------------------------


def test_a_failed_or_refused_look_shows_nothing() -> None:
    """Only the API's own 404 says that a report is not there."""
    sent = bodies("0" * 32, "1")[0]
    assert seen(Failure(Phase.UNKNOWN, "x"), "a", sent) is Sight.UNREADABLE
    assert seen(Answer(401), "a", sent) is Sight.REFUSED
    assert seen(Answer(404, b'{"detail": "Not found"}'), "a", sent) is Sight.ABSENT
    assert seen(Answer(404, b"<html>"), "a", sent) is Sight.UNREADABLE
    assert seen(Answer(200, b'{"simulation_result": 1}'), "a", sent) is Sight.UNREADABLE


def test_no_words_of_a_report_are_in_what_the_platform_says_against_it() -> None:
    """Wherever in its input they stand: a text, a list, a key, a number."""

    def said(inputs: object, msg: str) -> str:
        item = {"loc": ["body", 0, "x y"], "type": "too_long", "msg": msg, "input": inputs}
        return complaints(json.dumps({"detail": [item]}).encode())

    assert said(["a", {"Smith": 4242, "n": None}], "Value is too long") == "body.0.?: too_long (Value is too long)"
    assert said(["a", {"Smith": 4242}], "Value of smith is too long") == "body.0.?: too_long"
    assert said(["a", {"Smith": 4242}], "4242 is too long") == "body.0.?: too_long"
    assert said("John Smith", "no place for John here") == "body.0.?: too_long"
    assert said("x", "it's wrong") == "body.0.?: too_long"
    assert complaints(b'{"detail": "No such id"}') == "No such id"
    assert complaints(b"[") == ""


@pytest.mark.parametrize(("encoding", "complete"), [("identity", True), ("", True), ("br", False), ("gzip, br", False)])
def test_an_encoding_that_nobody_asked_for_and_nobody_knows_is_no_answer(encoding: str, *, complete: bool) -> None:
    """The outcome is unknown then, and a look may tell."""
    assert _unpacked(b"x", encoding, 100, complete=True) == ((b"x", True) if complete else (b"", False))
