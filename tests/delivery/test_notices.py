"""What is said about delivery, and how often."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from bluejay_ws.delivery.notices import Notices
from bluejay_ws.stats import KINDS_MOST, QUIET_SECONDS, Counters

if TYPE_CHECKING:
    import pytest


def test_each_settled_call_is_one_line_with_its_id(caplog: pytest.LogCaptureFixture) -> None:
    """The id stands in the text and in the record, for people and for machines."""
    with caplog.at_level(logging.INFO, "bluejay_ws"):
        Notices(lambda: 0.0, Counters()).settled("720488", "report delivered")
    assert caplog.messages == ["call 720488: report delivered"]
    assert caplog.records[0].__dict__["simulation_result_id"] == "720488"


def test_five_thousand_waiting_reports_are_one_line_a_minute(caplog: pytest.LogCaptureFixture) -> None:
    """What repeats is counted, and the count is told with the next line of its kind."""
    now = 0.0
    notices = Notices(lambda: now, Counters())
    for number in range(5000):
        notices.trouble(logging.WARNING, "again.refused", str(number), "not delivered yet")
    notices.trouble(logging.WARNING, "again.http.503", "x", "not delivered yet")
    now = 61.0
    notices.trouble(logging.WARNING, "again.refused", "y", "not delivered yet")
    assert caplog.messages == [
        "call 0: not delivered yet",
        "call x: not delivered yet",
        "call y: not delivered yet (and 4999 more like it)",
    ]


def test_what_is_about_no_call_names_none(caplog: pytest.LogCaptureFixture) -> None:
    """A line about the platform stands alone."""
    Notices(lambda: 0.0, Counters()).say(logging.WARNING, "the platform does not take reports")
    assert caplog.messages == ["the platform does not take reports"]


def test_however_many_kinds_there_are_the_log_and_the_memory_stay_small(caplog: pytest.LogCaptureFixture) -> None:
    """Beyond a bound all kinds are one, until those that were said have had their minute."""
    now = 0.0
    notices = Notices(lambda: now, Counters())
    for number in range(10 * KINDS_MOST):
        notices.trouble(logging.WARNING, f"kind {number}", "x", "trouble")
    assert len(caplog.messages) == len(notices._seldom.said) == KINDS_MOST + 1
    now = QUIET_SECONDS
    notices.trouble(logging.WARNING, "another kind", "x", "trouble")
    assert list(notices._seldom.said) == ["another kind"]


def test_a_log_handler_that_raises_ends_no_thread() -> None:
    """What the agent's own handlers make of our lines is counted, and delivery goes on."""

    class Refuse(logging.Filter):
        def filter(self, record: logging.LogRecord) -> bool:
            raise RuntimeError("no more lines")

    counters = Counters()
    notices = Notices(lambda: 0.0, counters)
    logger, refuse = logging.getLogger("bluejay_ws"), Refuse()
    level = logger.level
    logger.addFilter(refuse)
    logger.setLevel(logging.INFO)
    try:
        notices.settled("720488", "report delivered")
        notices.trouble(logging.WARNING, "kind", "720488", "not delivered yet")
        notices.say(logging.ERROR, "nothing can be delivered")
    finally:
        logger.removeFilter(refuse)
        logger.setLevel(level)
    assert counters["errors.log"] == 3
