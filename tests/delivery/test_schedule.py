"""When to try again."""

from __future__ import annotations

from email.utils import formatdate

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bluejay_ws.delivery import schedule
from bluejay_ws.delivery.schedule import Gate, backoff, retry_after
from bluejay_ws.settings import Retry

NOW = 1_800_000_000.0


def test_the_second_try_comes_at_once() -> None:
    """After the first failure nothing is waited for: most failures last no longer than a connection."""
    assert backoff(1, Retry(), lambda: 0.99) == 0.0


@pytest.mark.parametrize(("attempts", "most"), [(2, 0.5), (3, 1.0), (4, 2.0), (10, 128.0), (12, 300.0), (10**9, 300.0)])
def test_waits_double_up_to_the_ceiling(attempts: int, most: float) -> None:
    """The upper bound of the jitter doubles with each failure, and never passes the ceiling."""
    assert backoff(attempts, Retry(), lambda: 1.0) == most


def test_the_jitter_is_full() -> None:
    """A wait can be anything down to nothing, so that many processes do not come back in step."""
    assert backoff(5, Retry(), lambda: 0.0) == 0.0


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("7", 7.0),
        (" 7 ", 7.0),
        ("1.5", 1.5),
        ("0", 0.0),
        ("-5", 0.0),
        ("10000000000", 900.0),
        ("9" * 300, 900.0),
        ("9" * 5000, None),
        (formatdate(NOW + 30, usegmt=True), 30.0),
        ("Fri, 15 Jan 2027 08:00:30", 30.0),
        (formatdate(NOW - 3600, usegmt=True), 0.0),
        ("Fri, 31 Dec 9999 23:59:59 GMT", 900.0),
        ("Fri, 99 Foo 2027 08:00:30 GMT", None),
        ("soon", None),
        ("", None),
        ("nan", None),
        ("inf", None),
        ("1e9", None),
        ("1_0", None),
        (None, None),
    ],
)
def test_retry_after_in_every_form(value: str | None, seconds: float | None) -> None:
    """Seconds and dates are believed up to the ceiling; anything else says nothing."""
    assert retry_after(value, now=NOW, ceiling=900.0) == seconds


DATES = st.builds(
    "{}, {} {} {} {}:{}:{}{}".format,
    st.sampled_from(["Mon", "Xyz", ""]),
    *[st.integers(0, 999)],
    st.sampled_from(["Jan", "Feb", "Dec", "Foo", ""]),
    st.integers(0, 999_999),
    *[st.integers(0, 99)] * 3,
    st.sampled_from(["", " GMT", " +0000", " -9999", " +99999", " ab_c"]),
)


@given(st.text() | DATES)
def test_no_retry_after_raises(value: str) -> None:
    """Whatever a server writes, the answer is a wait within bounds or None."""
    seconds = retry_after(value, now=NOW, ceiling=900.0)
    assert seconds is None or 0.0 <= seconds <= 900.0


def closed_gate(now: float = 0.0) -> Gate:
    """Return a gate that failures have closed."""
    gate = Gate(lambda: 0.5)
    for _ in range(schedule.FAILURES_TO_CLOSE):
        gate.failed(now, "http.503")
    return gate


def test_an_open_gate_lets_fresh_reports_pass_without_counting() -> None:
    """A thousand calls that end at once are a thousand reports sent at once."""
    gate = Gate(lambda: 0.5)
    assert [gate.wait(0.0, fresh=True) for _ in range(1000)] == [0.0] * 1000


def test_retries_share_a_quota() -> None:
    """What comes again passes up to the burst, then at the rate."""
    gate = Gate(lambda: 0.5)
    passed = 0
    while gate.wait(0.0, fresh=False) == 0.0:
        passed += 1
    assert passed == schedule.BURST
    assert gate.wait(0.0, fresh=False) == pytest.approx(1 / schedule.FASTEST)
    assert gate.wait(1.0, fresh=False) == 0.0


def test_it_closes_after_failures_in_a_row() -> None:
    """Single failures do not close it, and a success between them starts the count again."""
    gate = Gate(lambda: 0.5)
    for _ in range(schedule.FAILURES_TO_CLOSE - 1):
        assert not gate.failed(0.0, "http.503")
    gate.passed(0.0)
    assert not gate.failed(0.0, "http.503")
    assert gate.reason is None
    assert [gate.failed(0.0, "refused") for _ in range(4)][-1]
    assert gate.reason == "refused"


def test_a_closed_gate_lets_one_probe_through_at_a_time() -> None:
    """Five thousand waiting reports ask a dead platform once, not five thousand times."""
    gate = closed_gate()
    assert gate.wait(0.5, fresh=False) == pytest.approx(0.5)
    assert gate.wait(1.0, fresh=False) == 0.0
    assert gate.wait(1.0, fresh=False) == 1.0
    assert gate.wait(1.0, fresh=True) > 0.0


def test_a_probe_that_hangs_keeps_a_fresh_report_waiting_no_longer_than_usual() -> None:
    """The platform may be back while the answer to the last question still does not come."""
    gate = closed_gate()
    assert gate.wait(1.0, fresh=False) == 0.0
    assert gate.wait(0.9 + schedule.FRESH_PROBE, fresh=True) > 0.0
    assert gate.wait(1.0 + schedule.FRESH_PROBE, fresh=False) > 0.0
    assert gate.wait(1.0 + schedule.FRESH_PROBE, fresh=True) == 0.0


def test_a_failure_that_began_before_the_last_probe_does_not_delay_the_next() -> None:
    """A crowd that hangs is not heard one by one: only what the last probe finds counts."""
    gate = closed_gate()
    assert gate.wait(5.0, fresh=False) == 0.0
    for late in range(6, 16):
        assert not gate.failed(float(late), "read_timeout", began=-1.0)
    assert gate.wait(5.0 + schedule.FRESH_PROBE, fresh=True) == 0.0


def test_a_failure_that_began_before_the_platform_passed_another_does_not_count() -> None:
    """It hung in an outage that is over."""
    gate = Gate(lambda: 0.5)
    gate.passed(10.0)
    for _ in range(schedule.FAILURES_TO_CLOSE):
        assert not gate.failed(11.0, "read_timeout", began=9.0)
    assert gate.reason is None
    assert [gate.failed(11.0, "read_timeout", began=10.5) for _ in range(schedule.FAILURES_TO_CLOSE)][-1]


def test_probes_become_rare_while_nothing_changes() -> None:
    """The interval doubles up to its ceiling; in an hour there are about as many probes as half-minutes."""
    gate = closed_gate()
    now, probes = 0.0, 0
    while now < 3600.0:
        wait = gate.wait(now, fresh=False)
        if wait == 0.0:
            probes += 1
            gate.failed(now, "refused")
        now += max(wait, 0.001)
    assert probes <= 3600 / schedule.PROBE_CEILING + 8


def test_a_fresh_report_may_probe_sooner() -> None:
    """However long the platform has been away, a call that ends now is tried within two seconds."""
    gate = closed_gate()
    for now in (100.0, 200.0, 300.0, 400.0, 500.0, 600.0):
        assert gate.wait(now, fresh=False) == 0.0
        gate.failed(now, "refused")
    assert gate.wait(601.0, fresh=False) > 20.0
    assert gate.wait(601.0, fresh=True) == pytest.approx(1.0)
    assert gate.wait(602.0, fresh=True) == 0.0


def test_what_was_let_through_and_asked_nothing_gives_its_turn_back() -> None:
    """A report that has to wait for its running call must not block the probes for half a minute."""
    gate = closed_gate()
    assert gate.wait(5.0, fresh=False) == 0.0
    gate.unused()
    assert gate.wait(5.0, fresh=False) == 0.0


def test_failures_from_before_the_closing_say_nothing_new() -> None:
    """Eight exchanges that were under way when it closed do not push the first probe to half a minute."""
    gate = closed_gate()
    for _ in range(8):
        gate.failed(0.0, "timeout")
    assert gate.wait(1.0, fresh=False) == 0.0


def test_it_opens_into_a_ramp() -> None:
    """When the platform is back, 5,000 reports come as 5 a second, then 10, 20, and 50 at the most."""
    gate = closed_gate()
    assert gate.wait(10.0, fresh=False) == 0.0
    assert gate.passed(10.0)
    sent: list[float] = []
    now = 10.0
    while len(sent) < 5000:
        wait = gate.wait(now, fresh=False)
        if wait == 0.0:
            sent.append(now)
            gate.passed(now)
        now += wait
    in_second = [sum(second <= at - 10.0 < second + 1 for at in sent) for second in range(6)]
    assert in_second[0] <= 6
    assert in_second == sorted(in_second)
    assert max(in_second) <= schedule.FASTEST + 1
    assert sent[-1] - 10.0 < 120.0


def test_failures_slow_the_ramp_down() -> None:
    """A platform that fails now and then is asked less often, down to a trickle but not to nothing."""
    gate = Gate(lambda: 0.5)
    while gate.wait(0.0, fresh=False) == 0.0:
        pass
    for _ in range(10):
        gate.failed(0.0, "http.500")
        gate.passed(0.0)
    assert gate.wait(0.0, fresh=False) == pytest.approx(1 / schedule.SLOWEST)


def test_a_wrong_key_closes_it_at_once_and_is_tried_slowly() -> None:
    """One 401 is enough to know that the others would get the same, and that it may take a person to mend it."""
    gate = Gate(lambda: 0.5)
    assert gate.hold(0.0, "http.401")
    assert gate.held
    now = 0.0
    for _ in range(20):
        now += gate.wait(now, fresh=False)
        assert gate.wait(now, fresh=False) == 0.0
        assert not gate.hold(now, "http.401")
    assert gate.wait(now, fresh=False) == schedule.HELD_PROBE_CEILING


def test_it_knows_a_failure_of_the_platform_from_a_wrong_key() -> None:
    """A 503 while the key is held back does not make it a mere outage."""
    gate = Gate(lambda: 0.5)
    gate.hold(0.0, "http.401")
    gate.wait(5.0, fresh=False)
    gate.failed(5.0, "http.503")
    assert gate.held


def test_a_result_that_can_be_read_lets_the_next_probe_go_at_once() -> None:
    """That the platform answers a look is a reason to try, but not yet to open."""
    gate = closed_gate()
    gate.half_passed(0.1)
    assert gate.reason is not None
    assert gate.wait(0.1, fresh=False) == 0.0


@pytest.mark.parametrize("closed", [False, True])
def test_a_readable_result_says_nothing_about_the_key_or_an_open_gate(closed: bool) -> None:
    """It neither closes anything nor overrides a held key."""
    gate = Gate(lambda: 0.5)
    if closed:
        gate.hold(0.0, "http.401")
    gate.half_passed(0.1)
    assert gate.held is closed
    assert (gate.wait(0.1, fresh=True) > 0.0) is closed


def test_without_a_key_it_never_opens() -> None:
    """There is nothing to ask without a key, so nothing is asked."""
    gate = Gate(lambda: 0.5)
    gate.lock("no API key")
    assert gate.wait(10.0**9, fresh=True) > 0.0
