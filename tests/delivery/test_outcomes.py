"""The table of outcomes: what follows each answer of the platform, row by row."""

from __future__ import annotations

import json

import pytest

from bluejay_ws.delivery.attempt import Delivery
from bluejay_ws.delivery.breaker import SLOWEST, Breaker
from bluejay_ws.delivery.outcomes import (
    LOOK_REFUSED_LIMIT,
    LOOK_REFUSED_TRIES,
    NOT_FOUND_WAITS,
    REFUSED_SECONDS,
    REFUSED_TRIES,
    Answer,
    Decision,
    Failure,
    History,
    Phase,
    Platform,
    Sight,
    State,
    backoff,
    decide,
    decide_look,
    read_result,
)
from bluejay_ws.settings import Retry

RETRY = Retry()
NOW = 10_000.0
OWN = b'{"detail":"no"}'
PAGE = b"<html>gateway</html>"
SUCCESS = b'{"status":"success"}'
FIRST = RETRY.read_back[0]

WAITING, UNKNOWN, PARKED = State.WAITING, State.UNKNOWN, State.PARKED
UP, DOWN, MISCONFIGURED = Platform.UP, Platform.DOWN, Platform.MISCONFIGURED

POSTS: list[tuple[Answer | Failure, State, float | None, Platform]] = [
    # certain that it was not processed: backoff
    (Failure(Phase.NOT_SENT, "connect_error"), WAITING, 0.0, DOWN),
    (Failure(Phase.BODY_INCOMPLETE, "write_error"), WAITING, 0.0, DOWN),
    (Answer(503, request_complete=False), WAITING, 0.0, DOWN),
    # delivered
    (Answer(200, SUCCESS), State.DELIVERED, None, UP),
    (Answer(201, SUCCESS), State.DELIVERED, None, UP),
    # unknown: looked for
    *((Answer(status, PAGE), UNKNOWN, FIRST, DOWN) for status in (100, 199, 500, 502, 503, 504, 600)),
    *((Answer(status, PAGE), UNKNOWN, FIRST, DOWN) for status in (200, 204, 299)),
    (Answer(200, b'{"status":"queued"}'), UNKNOWN, FIRST, DOWN),
    (Answer(200, b'["success"]'), UNKNOWN, FIRST, DOWN),
    (Answer(200, SUCCESS, request_complete=False), UNKNOWN, FIRST, DOWN),
    (Answer(503, retry_after=FIRST + 7.0), UNKNOWN, FIRST + 7.0, DOWN),
    (Failure(Phase.UNKNOWN, "read_timeout"), UNKNOWN, FIRST, DOWN),
    # configuration
    *((Answer(status, OWN), WAITING, 0.0, MISCONFIGURED) for status in (300, 307, 399, 401, 402, 403, 407)),
    (Failure(Phase.CERTIFICATE, "certificate_not_trusted"), WAITING, 0.0, MISCONFIGURED),
    (Failure(Phase.CONFIGURATION, "no_http_client"), WAITING, 0.0, MISCONFIGURED),
    # says nothing about one report
    *(
        (Answer(status, body), WAITING, 0.0, MISCONFIGURED)
        for status in (405, 410, 415, 418, 431, 451, 499, 501, 505)
        for body in (OWN, PAGE)
    ),
    *((Answer(status, PAGE), WAITING, 0.0, MISCONFIGURED) for status in (400, 404, 409, 422)),
    # the API's own word on it
    (Answer(404, OWN), WAITING, NOT_FOUND_WAITS[0], UP),
    *((Answer(status, OWN), PARKED, None, UP) for status in (400, 409, 422)),
    # too large: cut once
    (Answer(413, OWN), WAITING, 0.0, UP),
    (Answer(413, PAGE), WAITING, 0.0, Platform.UNHEARD),
    # not processed, by a platform that answers: waits as long as it is asked to
    *(
        (Answer(status, body, retry_after=30.0), WAITING, 30.0, UP)
        for status in (408, 425, 429)
        for body in (OWN, PAGE)
    ),
    # ... and never nothing: a storm would be answered with another
    *(
        (Answer(status, OWN, retry_after=asked), WAITING, 0.5 * RETRY.first, UP)
        for status in (408, 425, 429)
        for asked in (None, 0.0)
    ),
]


def test_each_outcome_of_a_first_post_has_its_row() -> None:
    """State, wait and what it shows of the platform are those of the table."""
    for outcome, *row in POSTS:
        decision = decide(outcome, History(attempts=1), RETRY, now=NOW, jitter=0.5, others_accepted=False)
        assert [decision.state, decision.wait, decision.platform] == row, outcome
        assert decision.cut == (isinstance(outcome, Answer) and outcome.status == 413), outcome


@pytest.mark.parametrize("status", [400, 404, 409, 422])
def test_problem_details_are_a_gateways_words(status: int) -> None:
    """A gateway that knows no backend says so in JSON too (RFC 9457): that is no judgement of the report."""
    body = json.dumps({"type": "about:blank", "title": "x", "status": status, "detail": "No static resource"}).encode()
    decision = decide(Answer(status, body), History(attempts=1), RETRY, now=NOW, jitter=0.5, others_accepted=False)
    assert (decision.state, decision.platform) == (WAITING, MISCONFIGURED)
    assert read_result(Answer(404, body), [("a" * 32, b"{}")]) == {"a" * 32: Sight.UNREADABLE}


def test_an_id_that_is_not_found_is_tried_again_four_times() -> None:
    """Then the report is parked."""
    history = History(attempts=1)
    waits = [decide(Answer(404, OWN), history, RETRY, now=NOW, jitter=0.5, others_accepted=True).wait for _ in range(5)]
    assert waits == [2.0, 10.0, 60.0, 600.0, None]


def test_what_is_too_large_after_it_was_cut_is_parked() -> None:
    """It is cut once. A gateway's limit may be raised: its word parks only what others got past."""
    own, page = (
        decide(Answer(413, body), History(attempts=2, cut=True), RETRY, now=NOW, jitter=0.5, others_accepted=False)
        for body in (OWN, PAGE)
    )
    assert (own.state, own.platform, own.cut) == (PARKED, UP, False)
    assert (page.state, page.platform, page.cut) == (WAITING, MISCONFIGURED, False)
    refused = History(attempts=9, cut=True, refused=REFUSED_TRIES, refused_at=NOW - REFUSED_SECONDS)
    assert decide(Answer(413, PAGE), refused, RETRY, now=NOW, jitter=0.5, others_accepted=True).state is PARKED


@pytest.mark.parametrize(
    ("accepted", "tries", "seconds", "state"),
    [
        (True, REFUSED_TRIES, REFUSED_SECONDS, PARKED),
        (False, REFUSED_TRIES, REFUSED_SECONDS, WAITING),
        (True, REFUSED_TRIES - 1, REFUSED_SECONDS, WAITING),
        (True, REFUSED_TRIES, REFUSED_SECONDS - 1.0, WAITING),
    ],
)
def test_a_gateways_refusal_parks_only_what_others_got_past(
    accepted: bool, tries: int, seconds: float, state: State
) -> None:
    """After several tries, over ten minutes, while the platform accepted another report."""
    history = History(attempts=tries, refused=tries - 1, refused_at=NOW)
    decision = decide(Answer(405, PAGE), history, RETRY, now=NOW + seconds, jitter=0.5, others_accepted=accepted)
    assert decision.state is state
    assert history.refused == tries


def test_a_wrong_key_is_never_held_against_a_report() -> None:
    """Where others got past, it waits by itself, ever longer; it is not parked, whenever that was."""
    history = History(attempts=1)
    decisions = [
        decide(Answer(401, OWN), history, RETRY, now=NOW + 1000.0 * n, jitter=0.5, others_accepted=True)
        for n in range(9)
    ]
    assert {(one.state, one.platform) for one in decisions} == {(WAITING, Platform.UNHEARD)}
    assert [one.wait for one in decisions] == [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0]


def test_backoff_is_none_at_first_and_then_full_jitter_up_to_the_ceiling() -> None:
    """Each later wait is at most double."""
    waits = [backoff(attempts, RETRY, 0.5) for attempts in (1, 2, 3, 1000)]
    assert waits == [0.0, 0.5 * RETRY.first, RETRY.first, 0.5 * RETRY.ceiling]


LOOKS: list[tuple[Sight, Answer | Failure, State, Platform]] = [
    (Sight.UNREADABLE, Answer(503), UNKNOWN, DOWN),
    *((Sight.UNREADABLE, Answer(status), UNKNOWN, Platform.UNHEARD) for status in (408, 425, 429)),
    (Sight.UNREADABLE, Failure(Phase.UNKNOWN, "read_timeout"), UNKNOWN, DOWN),
    (Sight.UNREADABLE, Failure(Phase.NOT_SENT, "connect_error"), UNKNOWN, DOWN),
    (Sight.UNREADABLE, Failure(Phase.CERTIFICATE, "certificate_not_trusted"), UNKNOWN, MISCONFIGURED),
    (Sight.UNREADABLE, Answer(200, PAGE), UNKNOWN, Platform.UNHEARD),
    (Sight.UNCLEAR, Answer(200), State.HELD, Platform.READABLE),
    (Sight.REFUSED, Answer(403), UNKNOWN, Platform.UNHEARD),
    (Sight.ABSENT, Answer(404, OWN), WAITING, Platform.READABLE),
]


@pytest.mark.parametrize(("sight", "outcome", "state", "platform"), LOOKS)
def test_each_look_has_its_row(sight: Sight, outcome: Answer | Failure, state: State, platform: Platform) -> None:
    """A look that fails teaches nothing; in part is for a person; what is not there when it is due is sent."""
    history = History(attempts=1, looks=len(RETRY.read_back))
    decision = decide_look(sight, outcome, history, RETRY, wall=NOW, jitter=0.5, due=True)
    assert (decision.state, decision.platform) == (state, platform)
    assert (decision.wait is None) == (state is State.HELD)


def test_a_key_that_may_not_read_leaves_the_report_to_a_person_after_a_day() -> None:
    """Not a second earlier."""
    states = [
        decide_look(
            Sight.REFUSED,
            Answer(401),
            History(look_refused_at=NOW, look_refused=tries - 1),
            RETRY,
            wall=NOW + after,
            jitter=0.5,
            due=False,
        ).state
        for after, tries in (
            (LOOK_REFUSED_LIMIT - 1.0, LOOK_REFUSED_TRIES),
            (LOOK_REFUSED_LIMIT, LOOK_REFUSED_TRIES - 1),
            (LOOK_REFUSED_LIMIT, LOOK_REFUSED_TRIES),
        )
    ]
    assert states == [UNKNOWN, UNKNOWN, State.HELD]


@pytest.mark.parametrize("step", [1e9, -1e9])
def test_a_clock_that_is_set_makes_no_day_of_an_hour(step: float) -> None:
    """A machine that starts in 1970 and finds the time later hands no report to a person for that."""
    history = History()
    walls = [NOW, *(NOW + step + 60.0 * number for number in range(LOOK_REFUSED_TRIES - 2))]
    for wall in walls:
        after = decide_look(Sight.REFUSED, Answer(401), history, RETRY, wall=wall, jitter=0.5, due=False)
        assert after.state is UNKNOWN
    later = Delivery("720488")
    later.restore(Delivery("720488", history=history).note("look_refused", NOW))
    assert later.history.look_refused == len(walls)


def test_a_platform_that_asks_for_less_is_up_and_gets_less() -> None:
    """Its 429 opens no breaker and ends an outage; what comes again then comes slowly, and what is new at once."""
    breaker = Breaker(lambda: 0.5)
    slow_down = decide(
        Answer(429, OWN, retry_after=1.0), History(attempts=1), RETRY, now=NOW, jitter=0.5, others_accepted=False
    )
    while breaker.wait(NOW, fresh=False) == 0.0:
        breaker.record(slow_down, NOW, NOW)
    assert breaker.reason is None
    assert breaker.wait(NOW, fresh=False) == pytest.approx(1.0 / SLOWEST)
    assert breaker.wait(NOW, fresh=True) == 0.0
    breaker.record(Decision(WAITING, 0.0, MISCONFIGURED, "http.401"), NOW, NOW)
    assert breaker.record(slow_down, NOW, NOW)
    assert breaker.reason is None


def test_a_look_that_is_put_off_waits_as_long_as_it_is_asked_to() -> None:
    """Only this report waits: nothing was learnt, of it or of the platform."""
    decision = decide_look(
        Sight.UNREADABLE, Answer(429, retry_after=40.0), History(), RETRY, wall=NOW, jitter=0.5, due=False
    )
    assert (decision.state, decision.wait, decision.pinned) == (UNKNOWN, 40.0, True)


def test_a_report_that_no_look_showed_is_looked_for_once_more_before_it_is_sent_again() -> None:
    """A slow platform has the time to show it: the waits before another POST grow from the first, each with a look."""
    history = History(attempts=1)
    waits = []
    for resends in range(3):
        history.resends, history.looks = resends, len(RETRY.read_back) - 1
        after = decide_look(Sight.ABSENT, Answer(404, OWN), history, RETRY, wall=NOW, jitter=0.5, due=False)
        assert after.state is UNKNOWN
        waits.append(after.wait)
    assert waits == pytest.approx([RETRY.resend_first, 2 * RETRY.resend_first, 4 * RETRY.resend_first])
