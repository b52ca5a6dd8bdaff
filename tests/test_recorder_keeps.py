"""What a recorder keeps: in memory and in the journal alike, redacted, within limits, counted, and never an error."""

from __future__ import annotations

import logging
import time
from typing import Any

import pytest

from bluejay_ws.log import say_seldom
from bluejay_ws.recorder import Recorder
from bluejay_ws.stats import QUIET_SECONDS, Counters
from bluejay_ws.wire import items
from tests.support import Call, Clock


def make_recorder(clock: Clock, **handed_in: Any) -> Recorder:
    """Return a recorder that has just been connected."""
    known = {"report_id": "r", "simulation_result_id": "720488", "counters": Counters(), **handed_in}
    return Recorder(clock=clock, started_ns=clock(), **known)


def test_offsets_are_whole_milliseconds_since_the_handshake() -> None:
    """They begin at zero, and are cut, not rounded."""
    clock = Clock()
    recorder = make_recorder(clock)
    assert recorder.offset_ms() == 0
    clock.sleep(1999.9)
    assert recorder.offset_ms() == 1999


def test_an_offset_is_never_negative() -> None:
    """Not even where the clock goes back."""
    clock = Clock()
    recorder = make_recorder(clock)
    clock.sleep(-5)
    assert recorder.offset_ms() == 0


def test_a_clock_that_fails_is_counted_and_reaches_nobody(caplog: pytest.LogCaptureFixture) -> None:
    """The agent may ask for the time in the middle of a call."""

    def broken() -> int:
        raise OSError("quotes the caller")

    counters = Counters()
    recorder = Recorder(clock=broken, started_ns=0, report_id="r", simulation_result_id="720488", counters=counters)
    assert recorder.offset_ms() == 0
    assert counters["dropped.failed_offset"] == 1
    assert "quotes" not in caplog.text


def test_offsets_can_be_counted_from_a_later_handshake() -> None:
    """Where the handler itself completes the handshake, time begins there."""
    clock = Clock()
    recorder = make_recorder(clock)
    clock.sleep(300)
    recorder.restart(clock())
    clock.sleep(20)
    assert recorder.offset_ms() == 20


def test_a_recorder_is_active_until_it_is_closed() -> None:
    """What the recorder's `active` says."""
    recorder = make_recorder(Clock())
    assert recorder.active
    recorder.stop()
    assert not recorder.active


def test_memory_and_journal_hold_the_same_lines() -> None:
    """Each line goes to the journal at once, as it stands in memory; without a journal memory has it all."""
    call = Call()
    call.recorder.add_event("one")
    call.recorder.add_tool_call("two")
    call.recorder.add_tags("three")
    assert call.journal == call.recorder.bodies
    call.recorder.write_to(None)
    call.recorder.add_event("four")
    call.recorder.add_tags("five")
    call.recorder.event("six").__enter__()
    assert len(call.journal) == 3
    assert len(call.recorder.bodies) == 6


def test_what_is_cut_or_mapped_is_counted_under_its_field() -> None:
    """Nothing is changed in silence."""
    call = Call()
    call.recorder.add_tool_call("t", parameters={"a": {1, 2}}, output="x" * items.ITEM_LIMIT)
    call.recorder.add_event("e", metadata={"a": object()})
    call.recorder.add_metadata(a=object())
    counts = call.counters.snapshot()
    assert counts["cut.output"] == 1
    assert counts["mapped.parameters"] == 1
    assert sum(count for name, count in counts.items() if name.startswith("mapped.")) >= 3


def test_an_item_may_take_less_the_fuller_the_call_is() -> None:
    """In the second half of the call's share each item gets a sixteenth of what is left, and never nothing."""
    recorder = make_recorder(Clock())
    allowances = []
    for used in (0, 1, items.CALL_LIMIT // 2, items.CALL_LIMIT * 3 // 4, items.CALL_LIMIT * 2):
        recorder._size = used
        allowances.append(recorder._allowance())
    assert allowances[:2] == [items.ITEM_LIMIT] * 2
    assert allowances[2:] == [items.CALL_LIMIT // 32, items.CALL_LIMIT // 64, 512]


def test_a_call_far_over_its_share_takes_no_more_items() -> None:
    """Names and offsets that alone are too much are dropped, counted."""
    call = Call()
    call.recorder._size = 2 * items.CALL_LIMIT + 1
    call.recorder.add_tool_call("t")
    assert call.recorder.bodies == []
    assert call.counters["dropped.items"] == 1


def test_an_offset_that_is_no_number_is_now_and_counted() -> None:
    """The item is kept."""
    call = Call()
    call.clock.sleep(70)
    call.recorder.add_event("e", start_offset_ms="soon")  # type: ignore[arg-type]
    (event, _) = call.report().events or []
    assert event.start_offset_ms == 70
    assert call.counters["mapped.offset"] == 1


def _refuse(kind: str, value: Any) -> Any:
    raise RuntimeError(f"quotes {value}")


def test_a_redaction_that_fails_is_counted_and_nothing_of_the_value_is_kept(caplog: pytest.LogCaptureFixture) -> None:
    """Not in the journal, and not in the log, whichever field it was."""
    call = Call(redact=_refuse)
    with call.recorder.tool_call("t", {"a": "secret"}, "secret") as tool:
        tool.output = "secret"
    call.recorder.add_event("e", description="secret", tags=["secret"], metadata={"a": "secret"})
    call.recorder.agent_said("secret")
    call.recorder.add_tags("secret")
    call.recorder.add_metadata(a="secret")
    report = call.report()
    assert b"secret" not in b"".join(call.journal)
    assert "secret" not in caplog.text
    assert call.counters["redaction_failed"] > 5
    assert report.tags == ["[redaction failed]"]
    assert report.metadata == {"value": "[redaction failed]"}


def test_redaction_is_not_asked_about_what_is_not_there() -> None:
    """A hook need not know what to do with None."""
    asked: list[str] = []

    def redact(kind: str, value: Any) -> Any:
        asked.append(kind)
        return value

    call = Call(redact=redact)
    call.recorder.add_tool_call("t")
    call.recorder.add_event("e")
    assert asked == []
    call.recorder.add_tool_call("t", output=None)
    assert asked == ["output"]


@pytest.mark.parametrize("answer", [None, 5, b"bytes", {"a": 1}, ["x"], object()])
def test_whatever_redaction_answers_the_report_is_sound(answer: Any) -> None:
    """The hook's answer is a value like any other."""
    call = Call(redact=lambda kind, value: answer)
    call.recorder.add_tool_call("t", parameters={"a": 1}, output=2, description="d")
    call.recorder.add_event("e", description="d", tags=["t"], metadata={"a": 1})
    call.recorder.agent_said("words")
    call.recorder.add_tags("t")
    call.recorder.add_metadata(a=1)
    report = call.report()
    assert [tool.name for tool in report.tool_calls or []] == ["t"]
    assert [event.title for event in report.events or []] == ["e", "Connection closed"]


def test_an_error_of_ours_is_logged_with_the_call_and_without_its_text(caplog: pytest.LogCaptureFixture) -> None:
    """The log says which call and what kind of error; the error's text may quote the caller."""
    call = Call()

    class Refusing(list[bytes]):
        def append(self, body: bytes) -> None:
            _refuse("", body)

    call.recorder.write_to(Refusing())
    call.recorder.add_tags("secret")
    (record,) = caplog.records
    assert (record.levelno, record.name) == (logging.ERROR, "bluejay_ws")
    assert record.getMessage() == "recording of one tags failed (RuntimeError)"
    assert record.__dict__["simulation_result_id"] == "720488"
    assert call.counters["dropped.failed_tags"] == 1


def test_a_drop_is_counted_and_said_with_the_call(caplog: pytest.LogCaptureFixture) -> None:
    """A mistake in the agent's code is told to whoever reads its log."""
    call = Call()
    call.recorder.add_utterance("robot", "secret")
    (record,) = caplog.records
    assert record.levelno == logging.WARNING
    assert record.__dict__["simulation_result_id"] == "720488"
    assert "secret" not in caplog.text
    assert call.counters["dropped.speaker"] == 1


def test_the_same_trouble_is_logged_once_and_counted_each_time(caplog: pytest.LogCaptureFixture) -> None:
    """What breaks with every frame of every call must not fill the agent's log; another trouble is told at once."""
    call = Call()
    for _ in range(50):
        call.recorder.add_utterance("robot", "words")
    assert len(caplog.records) == 1
    assert call.counters["dropped.speaker"] == 50
    call.recorder.bind("not an id")
    assert len(caplog.records) == 2


def test_what_was_left_out_is_told_with_the_next_line(caplog: pytest.LogCaptureFixture) -> None:
    """After a minute of quiet the line says how many there were."""
    counters = Counters()
    for _ in range(2):
        counters.unsaid(("gone wrong %s", "x"), time.monotonic() - 2 * QUIET_SECONDS)
    say_seldom(counters, logging.ERROR, "gone wrong %s", "x")
    assert [record.getMessage() for record in caplog.records] == ["gone wrong x (and 1 more like it)"]


def test_an_error_that_is_raised_again_is_the_same_trouble(caplog: pytest.LogCaptureFixture) -> None:
    """Each try makes an error of its own; an hour without a database must not be an hour of the same line."""
    counters = Counters()
    for _ in range(5):
        say_seldom(counters, logging.WARNING, "%s; trying again", OSError("the database is away"))
    assert [record.getMessage() for record in caplog.records] == ["the database is away; trying again"]


def test_a_slow_redaction_hook_is_told_because_the_agent_waits_for_it(caplog: pytest.LogCaptureFixture) -> None:
    """It runs within the agent's own code, where nothing can end it: what can be done is to say so."""
    clock = Clock()

    def slow(kind: str, value: Any) -> Any:
        del kind
        clock.sleep(11)
        return value

    recorder = make_recorder(clock, redact=slow)
    assert [recorder._redacted("output", number) for number in range(3)] == [0, 1, 2]
    assert recorder._counters["redaction_slow"] == 3
    assert [record.levelname for record in caplog.records] == ["WARNING"]
