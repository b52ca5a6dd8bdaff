"""What can still be changed about an utterance that was recorded, and the ways to tell a recorder what was heard."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from typing import Any

import pytest

from bluejay_ws import recorder as recorder_module
from bluejay_ws.current import INERT
from bluejay_ws.hearing.chirp import ChirpObserver
from bluejay_ws.hearing.utterances import NOTHING
from tests.support import Call, Ear, Span

HANDSHAKE = 1_790_000_000.0


def said(call: Call) -> list[tuple[str, int, int]]:
    """Close the call and return its utterances: words, start and end."""
    return [(one.utterance, one.start_offset_ms, one.end_offset_ms) for one in call.report().recorded_transcript or []]


def test_an_utterance_can_be_corrected_until_the_call_ends() -> None:
    """The report has the last words; the journal keeps every version; what comes too late is counted."""
    call = Call()
    one = call.recorder.agent_said("Helo", start_offset_ms=0, end_offset_ms=500)
    one.text = "Hello"
    assert one.text == "Hello"
    assert said(call) == [("Hello", 0, 500)]
    assert sum(b"Hel" in line for line in call.journal) == 2
    one.text = "too late"
    one.heard(ms=3)
    one.withdraw()
    assert call.counters["dropped.after_close"] == 3
    assert call.unclosed().recorded_transcript == call.unclosed().recorded_transcript


@pytest.mark.parametrize("span", [None, Span(1_000.0, 3_000.0), Span(1_000.0, None)])
def test_what_was_heard_in_part_is_cut_in_proportion_and_marked(span: Span | None) -> None:
    """The text ends with the word in which it was cut, whether its time is known already or not."""
    call = Call(heard=None if span is None else Ear(span, span))
    times: dict[str, Any] = {"start_offset_ms": 1_000, "end_offset_ms": 3_000} if span is None else {}
    one = call.recorder.agent_said("I can offer you three rooms with a view.", **times)
    if span is not None:
        span.end_ms = 3_000.0
    one.heard(ms=900)
    assert said(call) == [("I can offer you three…", 1_000, 1_900)]


@pytest.mark.parametrize("placed", [True, False])
def test_what_is_corrected_after_it_was_cut_is_cut_too(placed: bool) -> None:
    """The words were others, and no more of the audio was heard; words that end in the mark are taken as they are."""
    for words, kept in (("We can sell you five boats with a sail.", "We can sell you…"), ("We can…", "We can…")):
        span = Span(1_000.0, None)
        call = Call(heard=None if placed else Ear(span, span))
        times: dict[str, Any] = {"start_offset_ms": 1_000, "end_offset_ms": 3_000} if placed else {}
        one = call.recorder.agent_said("I can offer you three rooms with a view.", **times)
        one.heard(ms=700)
        one.text = words
        span.end_ms = 3_000.0
        assert said(call)[0][:2] == (kept, 1_000)


@pytest.mark.parametrize("placed", [True, False])
@pytest.mark.parametrize(
    ("changes", "kept"),
    [
        (["heard 1000", "heard 2000"], ("We can offer you three…", 3_000)),
        (["heard 2000", "heard 1000"], ("We can offer…", 2_000)),
        (["heard 1000", "heard 9000"], ("We can offer you three rooms with a view.", 5_000)),
        (["heard 1000", "We can offer …"], ("We can offer …", 2_000)),
        (["heard 1000", "We can offer …", "You can have five beds and a lake"], ("You can…", 2_000)),
        (["You can have five beds and a lake", "heard 1000"], ("You can…", 2_000)),
        (["You can have five beds...", "heard 1000"], ("You can…", 2_000)),
    ],
)
def test_the_last_word_on_what_was_heard_counts_in_every_order(
    placed: bool, changes: list[str], kept: tuple[str, int]
) -> None:
    """Nothing is cut from what was cut: words and times follow from what is known last."""
    span = Span(1_000.0, 5_000.0)
    call = Call(heard=None if placed else Ear(span, span))
    times: dict[str, Any] = {"start_offset_ms": 1_000, "end_offset_ms": 5_000} if placed else {}
    one = call.recorder.agent_said("We can offer you three rooms with a view.", **times)
    for change in changes:
        word, _, ms = change.partition("heard ")
        if ms:
            one.heard(ms=float(ms))
        else:
            one.text = word
    assert said(call) == [(kept[0], 1_000, kept[1])]
    assert call.counters["cut.unheard"] <= 1


def test_what_the_agent_and_the_audio_say_of_one_cut_is_one_cut() -> None:
    """A carrier's queue was emptied, and the agent says how much had been heard: half of it is half, not a quarter."""
    call = Call()
    ear = ChirpObserver(call.recorder)
    call.recorder.hear_with(ear)
    one = call.recorder.agent_said("We can offer you three rooms with a view.", audio_ms=4_000)
    ear.agent_audio(b"\x00\x20" * 64_000, 0.0)
    ear.clear(2_000.0)
    one.heard(ms=2_000)
    assert said(call) == [("We can offer you three…", 0, 2_000)]


def test_of_what_was_hardly_heard_no_word_is_left() -> None:
    """An utterance without a word is none."""
    call = Call()
    call.recorder.agent_said("Wonderful", start_offset_ms=1_000, end_offset_ms=5_000).heard(ms=20)
    assert said(call) == []
    assert call.counters["dropped.never_heard"] == 1


def test_what_was_heard_to_its_end_is_not_cut() -> None:
    """More than all of it is all of it; ``audio_ms`` says how much that is."""
    call = Call()
    one = call.recorder.agent_said("Hello there", start_offset_ms=0, end_offset_ms=500)
    one.heard(ms=500)
    other = call.recorder.agent_said("Hello there", start_offset_ms=600, end_offset_ms=1_600, audio_ms=2_000)
    other.heard(ms=1_000)
    assert said(call) == [("Hello there", 0, 500), ("Hello…", 600, 1_600)]


@pytest.mark.parametrize(
    ("change", "count"),
    [
        (lambda one: one.never_spoken(), "dropped.never_spoken"),
        (lambda one: one.heard(ms=0), "dropped.never_spoken"),
        (lambda one: one.withdraw(), "dropped.withdrawn"),
        (lambda one: setattr(one, "text", ""), "dropped.empty_utterance"),
    ],
)
@pytest.mark.parametrize("observed", [False, True])
def test_what_was_never_heard_is_not_reported(change: Any, count: str, observed: bool) -> None:
    """It is taken out of the report, once, and counted with its reason; later changes of it have no effect."""
    call = Call(heard=Ear(Span(0.0, None), Span(0.0, None)) if observed else None)
    one = call.recorder.agent_said("Goodbye")
    change(one)
    change(one)
    assert said(call) == []
    assert call.counters[count] == 1


def test_what_recorded_nothing_returns_a_handle_that_takes_everything() -> None:
    """Outside a simulation, without a text, after the end: no code of the agent's needs to ask."""
    call = Call()
    handles = [INERT.agent_said("hello"), call.recorder.agent_said(""), call.recorder.add_utterance("dog", "woof")]
    call.report()
    for one in [*handles, call.recorder.user_said("late")]:
        assert one is NOTHING
        one.text = "x"
        one.heard(ms=1)
        one.never_spoken()
        one.withdraw()
        assert one.text == ""
    assert repr(NOTHING) == "<Utterance of the agent>"


@pytest.mark.parametrize(("sent_ms", "kept"), [(1_980, ["Hello"]), (2_000, [])])
def test_what_an_agent_said_without_any_sound_was_not_heard(sent_ms: int, kept: list[str]) -> None:
    """An agent whose speech synthesis is silent says nothing; a little silence in the place of audio is a test's."""
    call = Call()
    ear = ChirpObserver(call.recorder)
    call.recorder.hear_with(ear)
    call.recorder.agent_said("Hello")
    for at in range(0, sent_ms, 20):
        ear.agent_audio(bytes(640), float(at))
    call.clock.sleep(sent_ms)
    assert [words for words, _, _ in said(call)] == kept
    assert call.counters["dropped.never_heard"] == 1 - len(kept)


def test_wall_clock_times_become_offsets() -> None:
    """A datetime of any zone and Unix seconds count from the handshake; what lies before it is zero."""
    call = Call()
    call.clock.sleep(9_000)
    berlin = timezone(timedelta(hours=1))
    at = datetime.fromtimestamp(HANDSHAKE + 1.5, UTC)
    assert call.recorder.offset_ms(at) == 1_500
    assert call.recorder.offset_ms(at.astimezone(berlin)) == 1_500
    assert call.recorder.offset_ms(HANDSHAKE + 2.25) == 2_250
    assert call.recorder.offset_ms(HANDSHAKE - 5) == 0
    assert call.recorder.offset_ms() == 9_000


@pytest.mark.parametrize("unit", [1e3, 1e6, 1e9])
def test_unix_times_in_another_unit_or_in_the_place_of_an_offset_are_understood_and_counted(unit: float) -> None:
    """Providers say milliseconds, and people hand on what they have: the time is right, and the mistake is counted."""
    call = Call()
    assert call.recorder.offset_ms((HANDSHAKE + 1.5) * unit) == 1_500
    call.recorder.add_event("x", start_offset_ms=int((HANDSHAKE + 2.5) * unit))
    call.clock.sleep(3_000)
    (event, _) = call.report().events or []
    assert (event.title, event.start_offset_ms) == ("x", 2_500)
    assert call.counters["mapped.offset"] == 2


def test_a_time_of_another_day_is_counted() -> None:
    """It cannot be one of this call's."""
    call = Call()
    assert call.recorder.offset_ms(1_500) == 0
    assert call.recorder.offset_ms(HANDSHAKE + 1e6) == 1_000_000_000
    assert call.counters["mapped.offset"] == 2


def test_a_huge_offset_does_not_hold_the_agent() -> None:
    """A number whose digits would fill the memory is no offset, and that is known at once."""
    call = Call()
    call.recorder.add_event("x", start_offset_ms=Decimal("1e999999"))  # type: ignore[arg-type]
    assert call.counters["mapped.offset"] == 1


def test_frames_and_interruptions_reach_the_ear_until_the_call_ends() -> None:
    """They are handed on with their times; afterwards nobody listens."""
    ear = Ear(Span(None, None), Span(None, None))
    call = Call(heard=ear)
    call.clock.sleep(20.5)
    call.recorder.received(b"12")
    call.recorder.sent(b"34")
    call.recorder.interruption(at_ms=7, by="agent", source="pipecat")
    assert ear.told == [("user", b"12", 20.5), ("agent", b"34", 20.5), (7, "agent", "pipecat")]
    call.report()
    call.recorder.received(b"12")
    call.recorder.sent(b"34")
    call.recorder.interruption()
    assert len(ear.told) == 3


def test_an_interruption_without_an_ear_is_an_event() -> None:
    """A recorder that hears nothing takes a provider's word."""
    call = Call()
    call.recorder.interruption(at_ms=100)
    call.recorder.interruption(by="agent", source="x")
    titles = [one.title for one in call.report().events or []]
    assert titles == ["Agent interrupted the caller", "Connection closed", "Caller interrupted the agent"]


def test_an_utterance_may_stand_elsewhere() -> None:
    """A provider tells later where it was; of what the audio places, and of what was not recorded, nothing changes."""
    call = Call()
    said = call.recorder.agent_said("Hello.", start_offset_ms=5, end_offset_ms=5)
    said.stands(start_offset_ms=5, end_offset_ms=5)
    lines = len(call.journal)
    said.stands(start_offset_ms=100, end_offset_ms=50)
    assert len(call.journal) == lines + 1
    NOTHING.stands(start_offset_ms=1, end_offset_ms=2)
    (one,) = call.report().recorded_transcript or []
    assert (one.start_offset_ms, one.end_offset_ms) == (100, 100)


def test_a_correction_that_comes_while_the_rest_is_written_is_written_too(monkeypatch: pytest.MonkeyPatch) -> None:
    """One of another thread, which began before the call ended: it neither is lost nor stops the others."""
    monkeypatch.setattr(recorder_module, "_AMPLE", 0)
    call = Call()
    one = call.recorder.agent_said("one", start_offset_ms=0, end_offset_ms=500)
    two = call.recorder.agent_said("two", start_offset_ms=600, end_offset_ms=900)
    one.text = "first"
    write = recorder_module.Recorder._write

    def meanwhile(recorder: recorder_module.Recorder, *arguments: Any) -> None:
        monkeypatch.setattr(recorder_module.Recorder, "_write", write)
        two._words = "second"
        recorder._rewrite(two)
        write(recorder, *arguments)

    monkeypatch.setattr(recorder_module.Recorder, "_write", meanwhile)
    assert said(call) == [("first", 0, 500), ("second", 600, 900)]
