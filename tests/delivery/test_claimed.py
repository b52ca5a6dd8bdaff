"""A claimed call goes the one way through delivery; what comes of it is written down for the next deliverer."""

from __future__ import annotations

import time
from typing import Any

import pytest

from bluejay_ws.delivery.attempt import Attempts, Context
from bluejay_ws.delivery.deliverer import ClaimedLease
from bluejay_ws.delivery.outcomes import Answer, Failure, Phase
from bluejay_ws.delivery.postgres import ClaimedCall, ClaimedReport, Settlement
from bluejay_ws.delivery.store import Store
from bluejay_ws.stats import Counters
from bluejay_ws.wire import journal
from tests.delivery.kit import QUICK, SUCCESS, Script, bodies, new_id, result, settings

BAD_GATEWAY = Answer(502, b"<html>")
ABSENT = result()


def claimed(*reports: bytes, unsure: bool = False, identity: str = "720488", **history: Any) -> ClaimedCall:
    """Return a call as the database gives it."""
    found = tuple(ClaimedReport(new_id(), "sealed", len(each), each) for each in reports)
    return ClaimedCall(identity, unsure, history, probe=False, failures=0, age=1.0, reports=found)


def recorded(*tools: str, identity: str = "720488") -> bytes:
    """Return the journal of one connection."""
    return b"".join(map(journal.line, bodies(new_id(), identity, *tools)))


def attempt(
    call: ClaimedCall,
    *,
    post: Answer | Failure = SUCCESS,
    look: Answer | Failure = ABSENT,
    counters: Counters | None = None,
    late: bool = False,
) -> tuple[Settlement, Script]:
    """Make one attempt; return what is to be written down, and what was asked of the platform."""
    counters = counters or Counters()
    lease = ClaimedLease(call, counters, until=time.monotonic() + (-1 if late else 60))
    attempts = Attempts(
        Context(settings("https://api.example"), counters, time.time, time.time, lambda: 0.5),
        Store(),
    )
    script = Script()
    script.posts.append(post)
    script.looks.append(look)
    delivery = lease.delivery()
    decision = attempts.move(delivery, lease, script)
    return lease.settlement(delivery, decision), script


def again(call: ClaimedCall, settled: Settlement) -> ClaimedCall:
    """Return the call as the next deliverer claims it."""
    return ClaimedCall(
        call.identity,
        settled.state == "sending",
        settled.history,
        probe=False,
        failures=0,
        age=2.0,
        reports=call.reports,
    )


def test_what_is_accepted_is_delivered_with_all_its_connections() -> None:
    """One report; an empty connection is no reason to keep anything."""
    call = claimed(recorded("a"), recorded("b"), b"")
    settled, script = attempt(call)
    assert (settled.state, settled.down) == ("delivered", False)
    assert set(settled.report_ids or ()) == {report.report_id for report in call.reports}
    assert len(script.posted) == 1
    assert not script.looked


def test_what_its_deliverer_was_sending_when_it_died_is_looked_for() -> None:
    """Not there: it is sent at once, for a whole lease has passed."""
    settled, script = attempt(claimed(recorded("a"), unsure=True))
    assert (settled.state, script.looked, len(script.posted)) == ("delivered", ["720488"], 1)


def test_after_an_unknown_outcome_the_next_deliverer_knows_the_history() -> None:
    """It looks as often as one process would, and sends again after the last look."""
    call = claimed(recorded("a"))
    settled, _ = attempt(call, post=BAD_GATEWAY)
    assert (settled.state, settled.down, settled.history["unsure"]) == ("sending", True, True)
    posts: list[int] = []
    while settled.state == "sending" and len(posts) < 10:
        settled, script = attempt(again(call, settled))
        posts.append(len(script.posted))
        assert settled.down is False
    assert settled.state == "delivered"
    assert len(posts) >= len(QUICK.read_back)
    assert posts == [0] * (len(posts) - 1) + [1]


def test_each_resend_waits_longer_and_looks_again() -> None:
    """The second unknown outcome leads to a look, a wait, and another look before the POST."""
    call = claimed(recorded("a"))
    settled, _ = attempt(call, post=BAD_GATEWAY)
    posts = 1
    waits = []
    for _ in range(20):
        settled, script = attempt(again(call, settled), post=BAD_GATEWAY)
        posts += len(script.posted)
        if settled.reason == "not_found":
            waits.append(settled.wait)
    assert posts > 3
    assert waits
    assert waits == sorted(waits)
    assert waits[0] < waits[-1]


@pytest.mark.parametrize(
    ("look", "state", "reason", "down"),
    [
        (Answer(503, b""), "sending", "unreadable", True),
        (Answer(401, b'{"detail": "no"}'), "sending", "look_refused", None),
        (Failure(Phase.NOT_SENT, "connect_error"), "sending", "unreadable", True),
        (Failure(Phase.CERTIFICATE, "certificate_not_trusted"), "sending", "certificate_not_trusted", None),
        (result(tool_calls=[{"name": "a", "actual": [{}]}]), "held", "in_part_or_unclear", False),
    ],
)
def test_a_look_decides_as_it_does_for_files(look: Answer | Failure, state: str, reason: str, down: object) -> None:
    """The same pure table."""
    settled, script = attempt(claimed(recorded("a"), unsure=True), look=look)
    assert (settled.state, settled.reason, settled.down) == (state, reason, down)
    assert script.posted == []


def test_a_refused_key_is_nothing_of_the_platform_s() -> None:
    """The breaker of the fleet does not hear of it; the call waits a moment for another deliverer."""
    settled, _ = attempt(claimed(recorded("a")), post=Answer(401, b'{"detail": "no"}'))
    assert (settled.state, settled.down) == ("waiting", None)
    assert settled.wait >= 1.0


def test_a_lease_that_is_nearly_over_sends_nothing() -> None:
    """This process was suspended: another one may be at work on it. No fault of the platform's."""
    settled, script = attempt(claimed(recorded("a")), late=True)
    assert (settled.state, settled.reason, settled.down, script.posted) == ("waiting", "lease_late", None, [])


def test_a_report_of_the_local_caller_is_parked() -> None:
    """It never reaches an account."""
    settled, script = attempt(claimed(recorded("a", identity="local-1"), identity="local-1"))
    assert (settled.state, settled.reason, script.posted) == ("parked", "local_id", [])


def test_what_a_person_released_stays_released() -> None:
    """Also after an attempt that failed."""
    settled, _ = attempt(claimed(recorded("a"), released=True), post=Answer(429, b""))
    assert settled.history["released"] is True


def test_a_history_of_another_version_is_no_obstacle() -> None:
    """What has another kind is left out; what is cut stays cut."""
    call = claimed(recorded("a"), attempts="many", cut=True, waited=True, looks=2)
    delivery = ClaimedLease(call, Counters(), until=0.0).delivery()
    assert (delivery.history.attempts, delivery.history.cut, delivery.history.looks) == (0, True, 2)


def test_damaged_lines_are_counted() -> None:
    """What is sound is sent."""
    counters = Counters()
    data = recorded("a", "b")
    first, second, *rest = data.splitlines(keepends=True)
    settled, script = attempt(claimed(b"".join([first, b"x" + second[1:], *rest])), counters=counters)
    assert settled.state == "delivered"
    assert counters["spool.damaged_lines"] == 1
    assert b'"b"' in script.posted[0]
