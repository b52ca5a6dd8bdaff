"""The recorder: what is recorded, when, and what it never does to the agent."""

from __future__ import annotations

import asyncio
import threading
import uuid
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from typing import Any

import anyio
import pytest

from bluejay_ws import recorder as recorder_module
from bluejay_ws.current import INERT, current_recorder, enter, leave
from bluejay_ws.recorder import Recorder
from bluejay_ws.stats import Counters
from bluejay_ws.wire import items
from tests.support import Call, Clock, Ear, Span


@pytest.fixture
def call() -> Call:
    """Give a call that has just been connected."""
    return Call()


def test_a_tool_call_keeps_name_parameters_output_and_time(call: Call) -> None:
    """A tool call recorded afterwards has what was given, at the time it was recorded."""
    call.clock.sleep(1234.9)
    call.recorder.add_tool_call("freeze", parameters={"last4": "4242"}, output={"ok": True}, description="Freeze it")
    (tool,) = call.report().tool_calls or []
    assert tool.model_dump() == {
        "name": "freeze",
        "start_offset_ms": 1234,
        "description": "Freeze it",
        "parameters": {"last4": "4242"},
        "output": {"ok": True},
    }


def test_a_value_changed_after_recording_does_not_change_history(call: Call) -> None:
    """What is reported is what the value was when it was recorded."""
    parameters = {"items": [1]}
    call.recorder.add_tool_call("order", parameters=parameters)
    parameters["items"].append(2)
    (tool,) = call.report().tool_calls or []
    assert tool.parameters == {"items": [1]}


@pytest.mark.parametrize(
    ("given", "kept"),
    [(5, 5), (-3, 0), (12.7, 12), ("7", 7), (float("nan"), 50), (float("inf"), 50), (object(), 50), (2**80, 2**53)],
)
def test_offsets_are_whole_and_never_negative(call: Call, given: Any, kept: int) -> None:
    """Whatever is given as an offset, the wire gets a whole number that is not negative."""
    call.clock.sleep(50)
    call.recorder.add_tool_call("t", start_offset_ms=given)
    (tool,) = call.report().tool_calls or []
    assert tool.start_offset_ms == kept


def test_parallel_tool_calls_of_one_name_keep_their_own_times_and_outputs(call: Call) -> None:
    """Blocks of the same name that overlap do not mix."""
    first = call.recorder.tool_call("lookup", {"id": 1})
    second = call.recorder.tool_call("lookup", {"id": 2})
    with first:
        call.clock.sleep(10)
        with second:
            first.output = "one"
            second.output = "two"
    tools = call.report().tool_calls or []
    assert [(t.parameters, t.output, t.start_offset_ms) for t in tools] == [
        ({"id": 1}, "one", 0),
        ({"id": 2}, "two", 10),
    ]


def test_a_failed_tool_call_is_kept_and_its_exception_goes_on(call: Call) -> None:
    """The exception that leaves the block is the tool's own, and the output says what happened."""
    error = ValueError("no such card")

    def fail() -> None:
        with call.recorder.tool_call("freeze") as block:
            block.output = "half"
            raise error

    with pytest.raises(ValueError, match="no such card") as caught:
        fail()
    assert caught.value is error
    assert error.__cause__ is None
    assert error.__context__ is None
    (tool,) = call.report().tool_calls or []
    assert tool.output == {"status": "failed", "error": "ValueError", "message": "no such card", "output": "half"}


def test_an_exception_that_cannot_be_read_is_told_by_its_type(call: Call) -> None:
    """An exception with a broken __str__ still passes, and is noted."""

    class BrokenError(Exception):
        def __str__(self) -> str:
            raise RuntimeError

    with pytest.raises(BrokenError), call.recorder.tool_call("freeze"):
        raise BrokenError
    (tool,) = call.report().tool_calls or []
    assert tool.output == {"status": "failed", "error": "BrokenError", "message": "(its message could not be read)"}


async def _cancelled_tool(recorder: Recorder, entered: asyncio.Event) -> None:
    async with recorder.tool_call("slow"):
        entered.set()
        await asyncio.sleep(3600)


async def _cancel_a_tool(recorder: Recorder) -> None:
    entered = asyncio.Event()
    task = asyncio.create_task(_cancelled_tool(recorder, entered))
    await entered.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


def test_a_cancelled_tool_call_is_kept_and_says_so(call: Call) -> None:
    """Cancelling goes through the block and leaves a tool call with status cancelled."""
    asyncio.run(_cancel_a_tool(call.recorder))
    (tool,) = call.report().tool_calls or []
    assert tool.output == {"status": "cancelled"}


def test_a_tool_call_still_open_at_the_end_is_kept_as_interrupted(call: Call) -> None:
    """A block that outlives its call is in the report, marked, with the output it had so far."""
    bare = call.recorder.tool_call("slow", {"id": 7})
    partial = call.recorder.tool_call("slower")
    bare.__enter__()
    partial.__enter__()
    partial.output = "part"
    tools = call.report().tool_calls or []
    bare.__exit__(None, None, None)
    assert [t.output for t in tools] == [{"status": "interrupted"}, {"status": "interrupted", "output": "part"}]
    assert call.counters["dropped.after_close"] == 1


def test_a_tool_call_is_in_the_journal_while_it_runs(call: Call) -> None:
    """A process that dies inside a tool call leaves it behind, marked as interrupted."""
    with call.recorder.tool_call("pay", {"amount": 5}):
        (tool,) = call.unclosed().tool_calls or []
    assert (tool.name, tool.parameters, tool.output) == ("pay", {"amount": 5}, {"status": "interrupted"})


def test_a_tool_that_changes_its_parameters_is_reported_with_those_it_was_called_with(call: Call) -> None:
    """The platform compares them with what it expects; and the journal of an interrupted tool call says the same."""
    slots = {"free": ["9:00", "9:30"]}
    with call.recorder.tool_call("book", slots, "Book a slot") as block:
        block.output = slots["free"].pop()
    (tool,) = call.report().tool_calls or []
    assert (tool.parameters, tool.output) == ({"free": ["9:00", "9:30"]}, "9:30")
    assert (tool.name, tool.description) == ("book", "Book a slot")


def test_a_tool_call_in_a_block_keeps_to_the_limit_of_an_item(call: Call) -> None:
    """What it was called with leaves room to say that the output was cut."""
    with call.recorder.tool_call("big", {"a": "x" * (items.ITEM_LIMIT - 100)}) as block:
        block.output = "y" * items.ITEM_LIMIT
    (tool,) = call.report().tool_calls or []
    assert "...[cut: " in str(tool.output)
    assert max(map(len, call.journal)) < items.ITEM_LIMIT + 100
    assert call.counters["cut.output"] == 1


def test_a_block_left_twice_counts_once(call: Call) -> None:
    """Leaving a block again changes nothing."""
    block = call.recorder.tool_call("t")
    with block:
        pass
    block.__exit__(None, None, None)
    assert len(call.report().tool_calls or []) == 1
    assert call.counters.snapshot() == {}


def test_a_block_begins_when_it_is_entered_or_was_said_to_have_begun(call: Call) -> None:
    """A start that was set beforehand is in the journal at once; entered again, a block begins anew."""
    block = call.recorder.tool_call("t")
    block.start_offset_ms = 40
    call.clock.sleep(90)
    with block:
        (begun,) = call.unclosed().tool_calls or []
        assert begun.start_offset_ms == 40
    with block:
        pass
    assert [one.start_offset_ms for one in call.report().tool_calls or []] == [40, 90]


def test_a_call_holds_as_many_blocks_as_facts(call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    """A block is one item, though the journal has two lines of it; what finds no room is dropped once."""
    monkeypatch.setattr(recorder_module, "ITEMS_LIMIT", 200)
    for _ in range(200 + 2):
        with call.recorder.tool_call("t"):
            pass
    with call.recorder.utterance("agent") as utterance:
        utterance.text = "no room"
    assert call.counters.snapshot() == {"dropped.items": 3}
    assert len(call.report().tool_calls or []) == 200


def test_an_utterance_block_counts_once(call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a block becomes is the item that it was."""
    monkeypatch.setattr(recorder_module, "ITEMS_LIMIT", 200)
    for _ in range(200):
        with call.recorder.utterance("agent") as utterance:
            utterance.text = "a"
    assert call.counters["dropped.items"] == 0
    assert len(call.report().recorded_transcript or []) == 200


def test_what_is_encoded_while_the_call_ends_is_counted_as_late() -> None:
    """A fact that comes from another thread as the call ends is either in the report or counted, never neither."""
    call = Call()

    def end_meanwhile(kind: str, value: Any) -> Any:
        call.recorder.close({}, {})
        return value

    call.recorder._redact = end_meanwhile
    call.recorder.add_tool_call("t", output="o")
    assert call.counters["dropped.after_close"] == 1
    assert not call.unclosed().tool_calls


def test_a_line_that_comes_after_the_end_is_counted_as_late(call: Call) -> None:
    """The end of a block that is encoded while the call ends is no line of its journal."""
    call.recorder.close({}, {})
    before = list(call.journal)
    call.recorder._append(b"late")
    assert call.journal == before
    assert call.counters["dropped.after_close"] == 1


def test_utterances_with_offsets_keep_them(call: Call) -> None:
    """Explicit offsets win; an end before the start becomes the start."""
    call.clock.sleep(900)
    call.recorder.user_said("hi", start_offset_ms=100, end_offset_ms=400)
    call.recorder.agent_said("hello", start_offset_ms=500, filler=True)
    call.recorder.add_utterance("AGENT", "bye", start_offset_ms=800, end_offset_ms=700)
    call.recorder.user_said("oh", end_offset_ms=950)
    said = call.report().recorded_transcript or []
    assert [(u.speaker, u.utterance, u.start_offset_ms, u.end_offset_ms, u.filler_utterance) for u in said] == [
        ("USER", "hi", 100, 400, None),
        ("AGENT", "hello", 500, 900, True),
        ("AGENT", "bye", 800, 800, None),
        ("USER", "oh", 900, 950, None),
    ]


def test_utterances_without_an_observer_are_placed_now(call: Call) -> None:
    """With nobody listening to frames, an utterance without offsets stands at the time it was recorded."""
    call.clock.sleep(40)
    call.recorder.user_said("hi")
    (said,) = call.report().recorded_transcript or []
    assert (said.start_offset_ms, said.end_offset_ms) == (40, 40)


def test_an_utterance_takes_the_span_in_which_it_was_heard() -> None:
    """Text without offsets gets the times of its audio, also when those are known only later."""
    agent = Span(None, None)
    call = Call(heard=Ear(agent, Span(200.0, 700.0)))
    call.clock.sleep(1000)
    call.recorder.agent_said("hello")
    call.recorder.user_said("hi")
    agent.start_ms, agent.end_ms = 1100.0, 1900.0
    said = {u.speaker: (u.start_offset_ms, u.end_offset_ms) for u in call.report().recorded_transcript or []}
    assert said == {"AGENT": (1100, 1900), "USER": (200, 700)}


def test_texts_in_one_span_share_it_by_their_lengths() -> None:
    """Sentences recorded one by one over one stretch of audio follow each other in it, and count as approximate."""
    agent = Span(1000.0, None)
    call = Call(heard=Ear(agent, Span(0.0, 0.0)))
    call.recorder.agent_said("aaa")
    call.recorder.agent_said("b")
    agent.end_ms = 2000.0
    said = [(u.start_offset_ms, u.end_offset_ms) for u in call.report().recorded_transcript or []]
    assert said == [(1000, 1750), (1750, 2000)]
    assert call.counters["approximate.utterance"] == 2


def test_an_utterance_whose_audio_never_came_stands_where_it_was_recorded() -> None:
    """A span that never began gives the time of recording, counted as approximate."""
    call = Call(heard=Ear(Span(None, None), Span(None, None)))
    call.clock.sleep(300)
    call.recorder.agent_said("never spoken")
    (said,) = call.report().recorded_transcript or []
    assert (said.start_offset_ms, said.end_offset_ms) == (300, 300)
    assert call.counters["approximate.utterance"] == 1


def test_an_utterance_waiting_for_its_span_is_in_the_journal() -> None:
    """A process that dies before the span is over leaves the utterance with the times known by then."""
    call = Call(heard=Ear(Span(100.0, None), Span(None, None)))
    call.clock.sleep(150)
    call.recorder.agent_said("hello")
    (said,) = call.unclosed().recorded_transcript or []
    assert (said.utterance, said.start_offset_ms, said.end_offset_ms) == ("hello", 100, 150)


def test_an_utterance_block_has_the_times_of_the_block(call: Call) -> None:
    """Text added in a block is one utterance from the block's start to its end."""
    call.clock.sleep(10)
    with call.recorder.utterance("agent", filler=False) as utterance:
        utterance.text += "one "
        call.clock.sleep(20)
        utterance.text += "moment"
    (said,) = call.report().recorded_transcript or []
    assert said.model_dump() == {
        "start_offset_ms": 10,
        "end_offset_ms": 30,
        "speaker": "AGENT",
        "utterance": "one moment",
        "filler_utterance": False,
    }


def test_an_utterance_block_still_open_at_the_end_keeps_its_text(call: Call) -> None:
    """What was said before the line went dead is reported."""
    block = call.recorder.utterance("user")
    block.__enter__()
    block.text = "I would like"
    (said,) = call.report().recorded_transcript or []
    assert said.utterance == "I would like"


def test_empty_utterances_and_unknown_speakers_are_dropped_and_counted(
    call: Call, caplog: pytest.LogCaptureFixture
) -> None:
    """Nothing is guessed; the log line holds no words of the call."""
    call.recorder.agent_said("")
    call.recorder.add_utterance("robot", "secret words")
    assert not call.report().recorded_transcript
    assert call.counters["dropped.empty_utterance"] == 1
    assert call.counters["dropped.speaker"] == 1
    assert "secret" not in caplog.text


def test_events_have_a_start_and_may_have_an_end(call: Call) -> None:
    """An event is a point unless an end is given; an end before the start becomes the start."""
    call.clock.sleep(70)
    call.recorder.add_event("point")
    call.recorder.add_event("span", start_offset_ms=5, end_offset_ms=9, tags=("a",), metadata={"k": 1}, description="d")
    call.recorder.add_event("odd", start_offset_ms=80, end_offset_ms=3)
    events = [e for e in call.report().events or [] if e.title != "Connection closed"]
    assert [(e.title, e.start_offset_ms, e.end_offset_ms) for e in events] == [
        ("span", 5, 9),
        ("point", 70, None),
        ("odd", 80, 80),
    ]
    assert (events[0].tags, events[0].metadata, events[0].description) == (["a"], {"k": 1}, "d")


def test_an_event_block_lasts_as_long_as_its_block(call: Call) -> None:
    """An event block may be described until it ends."""
    with call.recorder.event("Lookup", metadata={"id": 1}) as event:
        call.clock.sleep(25)
        event.description = "found"
    (event_seen, _) = call.report().events or []
    assert (event_seen.start_offset_ms, event_seen.end_offset_ms, event_seen.description) == (0, 25, "found")


def test_an_event_block_still_open_at_the_end_is_marked_interrupted(call: Call) -> None:
    """An event that outlives its call ends with it and says so."""
    call.recorder.event("Transfer").__enter__()
    call.clock.sleep(30)
    transfer = (call.report().events or [])[0]
    assert (transfer.title, transfer.end_offset_ms) == ("Transfer", 30)
    assert transfer.metadata == {"bluejay_ws": {"interrupted": True}}


def test_a_block_that_ends_while_the_call_is_closing_is_kept_once() -> None:
    """One open block may end another on its way out, by the agent's own hook: it is not ended again."""
    ended: list[Any] = []

    def redact(kind: str, value: Any) -> Any:
        if kind == "metadata" and ended:
            ended.pop().__exit__(None, None, None)
        return value

    call = Call(redact=redact)
    first, second = call.recorder.event("first"), call.recorder.event("second")
    first.__enter__()
    second.__enter__()
    ended.append(second)
    titles = [event.title for event in call.report().events or []]
    assert sorted(titles) == ["Connection closed", "first", "second"]


def test_tags_metadata_and_traces_only_add(call: Call) -> None:
    """Tags count once, of equal metadata names the later value counts, traces are linked."""
    call.recorder.add_tags("vip", "de")
    call.recorder.add_tags("vip")
    call.recorder.add_metadata(tier="silver", region="eu")
    call.recorder.add_metadata(tier="gold")
    call.recorder.add_trace_id("0af7651916cd43dd8448eb211c80319c")
    report = call.report()
    assert report.tags == ["vip", "de"]
    assert report.metadata == {"tier": "gold", "region": "eu"}
    assert report.trace_ids == ["0af7651916cd43dd8448eb211c80319c"]


def test_the_closing_event_carries_the_marker(call: Call) -> None:
    """The report can be recognised when it is read back: its id stands in the closing event."""
    call.recorder.close({"close_code": 1000, "version": "1"}, {"barge_ins": 2})
    (event,) = call.unclosed().events or []
    assert event.title == "Connection closed"
    assert event.metadata == {"bluejay_ws": {"report_id": "0" * 32, "close_code": 1000, "version": "1", "barge_ins": 2}}


def test_closing_twice_is_closing_once(call: Call) -> None:
    """Only the first close has an effect."""
    call.recorder.close({}, {})
    before = list(call.journal)
    call.recorder.close({}, {})
    assert call.journal == before
    assert not call.recorder.active


def test_after_the_end_everything_is_dropped_and_counted(call: Call) -> None:
    """A task that outlives the call records nothing, quietly but not unseen."""
    recorder = call.recorder
    recorder.close({}, {})
    before = list(call.journal)
    recorder.add_tool_call("t")
    recorder.add_event("e")
    recorder.agent_said("a")
    recorder.add_tags("x")
    recorder.add_metadata(a=1)
    recorder.add_trace_id("1")
    recorder.add_alias("a")
    recorder.bind("1")
    recorder.discard()
    with recorder.tool_call("t"), recorder.event("e"), recorder.utterance("user"):
        pass
    assert call.journal == before
    assert call.counters["dropped.after_close"] == 10
    assert call.owner.told == []


def test_a_late_id_is_taken_once(caplog: pytest.LogCaptureFixture) -> None:
    """The first good id counts; the same again is nothing, another one and a bad one are refused and counted."""
    call = Call()
    call.recorder.simulation_result_id = None
    for given in ("no id!", "720488", "720488", "999"):
        call.recorder.bind(given)
    assert call.recorder.simulation_result_id == "720488"
    assert call.owner.told == [("bound", "720488")]
    assert call.counters["dropped.no_usable_id"] == 1
    assert call.counters["dropped.second_id"] == 1
    assert "no id!" not in caplog.text


def test_a_discarded_call_keeps_nothing(call: Call) -> None:
    """Discarding forgets what was recorded, tells the owner once and lets nothing in afterwards."""
    call.recorder.add_event("e")
    call.recorder.discard()
    call.recorder.discard()
    call.recorder.add_event("e")
    assert call.recorder.bodies == []
    assert call.owner.told == [("discarded", "")]


def test_an_alias_is_passed_on(call: Call) -> None:
    """The owner learns by what other names the call is to be found."""
    call.recorder.add_alias("CA123")
    assert call.owner.told == [("aliased", "CA123")]


def test_a_recorder_without_owner_and_journal_works() -> None:
    """Everything that is handed in is optional but the clock."""
    recorder = Recorder(clock=Clock(), started_ns=0, report_id="r", simulation_result_id=None, counters=Counters())
    recorder.add_alias("a")
    recorder.bind("720488")
    recorder.add_event("e")
    assert repr(recorder) == "<Recorder of call 720488, active>"
    recorder.discard()
    assert repr(recorder) == "<Recorder of call 720488, closed>"


class _Released(Recorder):
    """A recorder whose journal another thread releases between two looks at it."""

    looks = 0

    @property
    def _lines(self) -> Any:
        """Answer with the journal once, and with None from then on."""
        self.looks += 1
        return None if self.looks > 1 else []

    @_lines.setter
    def _lines(self, value: Any) -> None:
        self.looks = 0


@pytest.mark.parametrize("record", [lambda one: one.add_tool_call("t"), lambda one: one.add_tags("vip")])
def test_a_journal_that_is_released_meanwhile_costs_no_fact(record: Any) -> None:
    """Looked at twice, it is there and then gone, and what memory holds would be counted as dropped."""
    counters = Counters()
    recorder = _Released(clock=Clock(), started_ns=0, report_id="r", simulation_result_id="720488", counters=counters)
    record(recorder)
    assert len(recorder.bodies) == 1
    assert counters.snapshot() == {}


class _Deafened(Recorder):
    """A recorder whose ear another thread takes away between two looks at it."""

    ear: Any = Ear(Span(None, None), Span(None, None))

    @property
    def heard(self) -> Any:
        """Answer with the ear once, and with None from then on."""
        ear, self.ear = self.ear, None
        return ear

    @heard.setter
    def heard(self, value: Any) -> None:
        pass


@pytest.mark.parametrize(
    "tell", [lambda one: one.received(b"12"), lambda one: one.sent(b"12"), lambda one: one.interruption(at_ms=1)]
)
def test_a_call_that_ends_meanwhile_raises_nothing_where_frames_are_handed_over(tell: Any) -> None:
    """The end of a call takes its ear away on a thread of the library's, while the agent's hands a frame over."""
    counters = Counters()
    recorder = _Deafened(clock=Clock(), started_ns=0, report_id="r", simulation_result_id=None, counters=counters)
    tell(recorder)
    assert counters.snapshot() == {}


@pytest.mark.parametrize("reason", ["discarded", "refused"])
def test_a_call_that_is_left_out_is_counted_with_its_reason(call: Call, reason: str) -> None:
    """The library leaves calls out too: one whose handshake was refused, one that never got an id."""
    call.recorder.discard(reason)
    call.recorder.discard("again")
    assert call.counters.snapshot() == {f"dropped.{reason}": 1}


def test_a_reason_that_is_no_text_is_not_asked_for_one(call: Call) -> None:
    """What it raises would reach the agent."""

    class Unspeakable:
        """An object whose text cannot be had."""

        def __str__(self) -> str:
            raise ValueError

    call.recorder.discard(Unspeakable())  # type: ignore[arg-type]
    assert call.counters.snapshot() == {"dropped.discarded": 1}


def test_what_is_unfinished_has_one_place_for_all_threads(call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two threads that need it first at the same moment do not make two, and lose what is in one of them."""
    recorder = call.recorder

    class Meanwhile:
        """A lock that another thread had, and made the place."""

        def __enter__(self) -> None:
            recorder._unfinished = made

        def __exit__(self, *_: object) -> None:
            pass

    made = recorder_module._Unfinished()
    monkeypatch.setattr(recorder_module, "making", Meanwhile())
    recorder._size = items.CALL_LIMIT
    recorder._rewrite(recorder.agent_said("Hello.", start_offset_ms=0, end_offset_ms=1))
    assert list(made.changed) == list(recorder._unfinished.changed) != []


def test_calls_in_which_nothing_is_unfinished_share_one_place_and_leave_it_empty(call: Call) -> None:
    """An idle call has no containers of its own for it; the first thing that is put into one is this call's."""
    assert call.recorder._unfinished is recorder_module._NOTHING
    with call.recorder.tool_call("freeze"):
        assert call.recorder._unfinished is not recorder_module._NOTHING
    call.recorder.release()
    nothing = recorder_module._NOTHING
    assert (nothing.blocks, nothing.stretches, nothing.changed) == ({}, [], {})


def test_redaction_comes_before_anything_is_kept() -> None:
    """The hook sees each kind of value, and only its answer is kept."""
    seen: list[str] = []

    def redact(kind: str, value: Any) -> Any:
        seen.append(kind)
        return ["x"] if kind == "tags" else {"x": kind} if kind in {"parameters", "metadata"} else f"<{kind}>"

    call = Call(redact=redact)
    call.recorder.add_tool_call("t", parameters={"a": "secret"}, output="secret", description="secret")
    call.recorder.add_event("e", description="secret", metadata={"a": "secret"}, tags=["secret"])
    call.recorder.user_said("secret")
    call.recorder.add_tags("secret")
    call.recorder.add_metadata(a="secret")
    with call.recorder.tool_call("u"):
        pass
    call.report()
    assert b"secret" not in b"".join(call.journal)
    assert set(seen) == {"parameters", "output", "utterance", "description", "metadata", "tags"}


def test_a_redaction_may_answer_with_one_text_for_all_tags() -> None:
    """It stands for all of them, as it does among the tags of an event."""
    call = Call(redact=lambda _, value: "hidden" if isinstance(value, tuple) else value)
    call.recorder.add_tags("vip", "gold")
    assert call.report().tags == ["hidden"]


def test_a_redaction_that_fails_leaves_a_marker_and_no_value(caplog: pytest.LogCaptureFixture) -> None:
    """The hook's exception reaches nobody; the value it failed on is not kept, and a line of the log says so."""

    def redact(kind: str, value: Any) -> Any:
        raise RuntimeError(value)

    call = Call(redact=redact)
    call.recorder.add_tool_call("t", parameters={"a": "secret"}, output="secret")
    call.recorder.user_said("secret")
    call.recorder.add_tags("secret")
    report = call.report()
    (tool,) = report.tool_calls or []
    assert tool.output == "[redaction failed]"
    assert tool.parameters == {"value": "[redaction failed]"}
    assert [u.utterance for u in report.recorded_transcript or []] == ["[redaction failed]"]
    assert report.tags == ["[redaction failed]"]
    assert call.counters["redaction_failed"] == 4
    assert "the redact hook raised RuntimeError for output of a call" in caplog.text
    assert "secret" not in caplog.text
    assert b"secret" not in b"".join(call.journal)


def test_no_error_of_the_journal_reaches_the_agent(caplog: pytest.LogCaptureFixture) -> None:
    """Whatever breaks below the recorder is counted and logged by type only."""
    call = Call()

    class Broken(list[bytes]):
        def append(self, body: bytes) -> None:
            message = "quotes the caller"
            raise OSError(message)

    call.recorder.write_to(Broken())
    call.recorder.add_tool_call("t")
    call.recorder.add_event("e")
    call.recorder.agent_said("a")
    call.recorder.add_tags("x")
    with call.recorder.tool_call("t"):
        pass
    call.recorder.close({}, {})
    assert call.counters["dropped.failed_tool_call"] == 1
    assert call.counters["dropped.failed_block"] == 2
    assert "OSError" in caplog.text
    assert "quotes" not in caplog.text


def test_beyond_the_limit_of_items_the_rest_is_dropped_and_counted(call: Call) -> None:
    """The twenty-thousand-and-first item does not grow the report; the closing event still comes."""
    for _ in range(items.ITEMS_LIMIT + 3):
        call.recorder.add_tool_call("t")
    call.recorder.tool_call("block").__enter__()
    report = call.report()
    assert len(report.tool_calls or []) == items.ITEMS_LIMIT
    assert call.counters["dropped.items"] == 4
    assert (report.events or [])[-1].title == "Connection closed"


def test_beyond_the_limit_of_utterances_waiting_the_rest_is_dropped() -> None:
    """Utterances that wait for their span count as items."""
    call = Call(heard=Ear(Span(None, None), Span(None, None)))
    for _ in range(items.ITEMS_LIMIT):
        call.recorder.add_tool_call("t")
    call.recorder.agent_said("too late")
    assert call.counters["dropped.items"] == 1


def test_a_call_near_its_share_of_memory_cuts_outputs_but_keeps_names(call: Call) -> None:
    """The more a call has used, the less one output may take; names and offsets stay."""
    for _ in range(200):
        call.recorder.add_tool_call("big", output="x" * 200_000)
    assert sum(map(len, call.journal)) < 1.1 * items.CALL_LIMIT
    assert call.counters["cut.output"] > 0
    assert [t.name for t in call.report().tool_calls or []] == ["big"] * 200


def test_many_threads_may_record_at_once(call: Call) -> None:
    """Nothing recorded from several threads is lost, in memory or in the journal, and each thread's is in its order."""

    def work(thread: int) -> None:
        for number in range(50):
            call.recorder.add_tool_call(f"t{thread}", parameters={"n": number})
            with call.recorder.tool_call(f"b{thread}"):
                pass

    threads = [threading.Thread(target=work, args=(thread,)) for thread in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    call.recorder.close({}, {})
    assert sorted(call.journal) == sorted(call.recorder.bodies)
    for lines in (call.journal, call.recorder.bodies):  # the order between threads is anybody's guess, in each
        for number in range(8):
            mine = [line for line in lines if b'"name":"t%d"' % number in line]
            assert [b'"n":%d}' % count in line for count, line in enumerate(mine)] == [True] * 50
    tools = call.unclosed().tool_calls or []
    assert len(tools) == 8 * 50 * 2
    assert all(tool.output is None for tool in tools)


def test_outside_a_call_the_inert_recorder_answers() -> None:
    """Without a simulation every method works, keeps nothing and counts nothing."""
    recorder = current_recorder()
    assert recorder is INERT
    assert not recorder.active
    assert recorder.offset_ms() == 0
    assert repr(recorder) == "<InertRecorder: no simulation here>"
    recorder.agent_said("a")
    recorder.user_said("a")
    recorder.add_tool_call("t", output=1)
    recorder.add_event("e")
    recorder.add_tags("x")
    recorder.add_metadata(a=1)
    recorder.add_trace_id("1")
    recorder.add_alias("a")
    recorder.bind("720488")
    recorder.discard()
    recorder.close({}, {})
    with recorder.tool_call("t") as call, recorder.utterance("agent") as utterance, recorder.event("e"):
        call.output = 1
        utterance.text += "a"
    assert recorder.bodies == []
    assert recorder.simulation_result_id is None


async def _everywhere(found: dict[str, Recorder]) -> None:
    async def note(name: str) -> None:
        found[name] = current_recorder()

    def note_plainly(name: str) -> None:
        found[name] = current_recorder()

    await asyncio.create_task(note("task"))
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(note("task group"))
    async with anyio.create_task_group() as group:
        group.start_soon(note, "anyio task group")
    await asyncio.to_thread(note_plainly, "to_thread")
    await anyio.to_thread.run_sync(note_plainly, "anyio thread")
    loop = asyncio.get_running_loop()
    with ThreadPoolExecutor(1) as pool:
        await loop.run_in_executor(pool, copy_context().run, note_plainly, "copied context")
        await loop.run_in_executor(pool, note_plainly, "bare executor")


def test_the_recorder_follows_the_context(call: Call) -> None:
    """Tasks, task groups and to_thread see the recorder; a bare executor gets the inert one, never a guess."""
    found: dict[str, Recorder] = {}
    before = enter(call.recorder)
    asyncio.run(_everywhere(found))
    leave(call.recorder, before)
    assert found.pop("bare executor") is INERT
    assert set(found.values()) == {call.recorder}
    assert len(found) == 6
    assert current_recorder() is INERT


def test_leaving_in_another_context_is_harmless(call: Call) -> None:
    """A generator closed elsewhere leaves in a context that never entered: nothing happens."""
    before = copy_context().run(enter, call.recorder)
    leave(call.recorder, before)
    assert current_recorder() is INERT


def test_between_its_end_and_its_last_line_a_call_takes_nothing_from_its_user(call: Call) -> None:
    """What the library itself observed still goes in; both ends of the report bear the time at which it ended."""
    call.recorder.add_tool_call("before")
    call.clock.sleep(100)
    call.recorder.stop()
    call.clock.sleep(900)
    call.recorder.add_tool_call("after")
    call.recorder.note_event("Observed")
    call.recorder.close({"close_code": 1000}, {})
    call.recorder.note_event("Too late")
    report = call.report()
    assert [tool.name for tool in report.tool_calls or []] == ["before"]
    assert [(event.title, event.start_offset_ms) for event in report.events or []] == [
        ("Connection closed", 100),
        ("Observed", 1000),
    ]
    assert call.counters["dropped.after_close"] == 2


def test_a_block_that_is_open_at_the_end_is_kept_as_it_is_then(call: Call) -> None:
    """What its owner does to it between the end of the call and the last line changes nothing."""
    with call.recorder.tool_call("slow", {"a": 1}) as block:
        block.output = "half"
        call.recorder.stop()
        block.output = "whole"
    (tool,) = call.report().tool_calls or []
    assert tool.output == {"status": "interrupted", "output": "half"}


def test_tools_of_a_linked_trace_and_of_the_report_are_said_to_be_counted_twice(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Once for a call, whichever comes first, with the remedy."""
    for first in (True, False):
        call = Call()
        if first:
            call.recorder.add_trace_id("0" * 31 + "1")
        for _ in range(2):
            with call.recorder.tool_call("f"):
                pass
        if not first:
            call.recorder.add_trace_id("0" * 31 + "1")
        assert call.counters["doubled.tool_calls"] == 1
        assert "Leave out add_trace_id" in caplog.text
        caplog.clear()


@pytest.mark.parametrize("first", [True, False])
def test_a_tool_call_recorded_by_hand_may_be_in_the_trace_too(call: Call, *, first: bool) -> None:
    """A decorated tool that records one says no more than it does without."""
    if first:
        call.recorder.add_trace_id("0" * 31 + "1")
    call.recorder.add_tool_call("by_hand")
    assert call.counters["doubled.tool_calls"] == first
    with call.recorder.tool_call("f"):
        call.recorder.add_tool_call("by_hand")
    call.recorder.add_trace_id("0" * 31 + "2")
    assert call.counters["doubled.tool_calls"] == 1


def test_a_trace_that_comes_after_the_end_doubles_nothing(call: Call) -> None:
    """It is not linked."""
    with call.recorder.tool_call("f"):
        pass
    call.recorder.stop()
    call.recorder.add_trace_id("0" * 31 + "1")
    assert call.counters.snapshot() == {"dropped.after_close": 1}


def test_a_text_of_which_nothing_was_heard_is_not_reported() -> None:
    """Two sentences with so much audio each, of which only the first was sent: the second was never heard."""
    call = Call(heard=Ear(Span(0.0, 1_000.0), Span(None, None)))
    call.recorder.agent_said("I have found it.", audio_ms=1_000)
    call.recorder.agent_said("Shall I book it?", audio_ms=1_000)
    assert [one.utterance for one in call.report().recorded_transcript or []] == ["I have found it."]
    assert call.counters["dropped.never_heard"] == 1


def test_a_text_of_which_half_was_heard_is_cut() -> None:
    """Its audio is known to last longer than what was sent of it."""
    call = Call(heard=Ear(Span(0.0, 1_500.0), Span(None, None)))
    call.recorder.agent_said("I have found it.", audio_ms=1_000)
    call.recorder.agent_said("Shall I book it for you?", audio_ms=1_000)
    said = [one.utterance for one in call.report().recorded_transcript or []]
    assert said[0] == "I have found it."
    assert said[1].endswith("…")
    assert call.counters["cut.unheard"] == 1


def test_what_a_tap_counts_is_counted(call: Call) -> None:
    """The library's own parts count by the recorder that they feed."""
    call.recorder.count("tap.unknown.openai")
    assert call.counters["tap.unknown.openai"] == 1


def test_an_utterance_that_is_withdrawn_before_its_place_is_known_gets_none() -> None:
    """The others of its stretch are placed without it."""
    call = Call(heard=Ear(Span(0.0, 1_000.0), Span(None, None)))
    first = call.recorder.agent_said("One.")
    call.recorder.agent_said("Two.")
    first.withdraw()
    assert [(one.utterance, one.end_offset_ms) for one in call.report().recorded_transcript or []] == [("Two.", 1_000)]


@pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError, SystemExit])
def test_a_redaction_hook_is_ended_by_nobody_but_the_user(error: type[BaseException]) -> None:
    """Ctrl-C continues its way; whatever else the hook raises stays here."""

    def redact(kind: str, value: Any) -> Any:
        raise error

    call = Call(redact=redact)
    if error is KeyboardInterrupt:
        with pytest.raises(KeyboardInterrupt):
            call.recorder.add_tags("secret")
    else:
        call.recorder.add_tags("secret")
        assert call.counters["redaction_failed"] == 1


def test_what_listens_records_at_the_end_of_the_call() -> None:
    """It is called while the call can still record; an error of its own is counted; later ones are not called."""
    call = Call()
    call.recorder.at_end(lambda: call.recorder.add_event("last"))
    call.recorder.at_end(lambda: call.recorder.count(1 / 0))  # type: ignore[arg-type]
    titles = [event.title for event in call.report().events or []]
    call.recorder.at_end(lambda: titles.append("late"))
    assert titles == ["last", "Connection closed"]
    assert call.counters["dropped.failed_end"] == 1


def test_an_utterance_may_be_told_how_long_it_lasts() -> None:
    """Its end follows from its start; where it is heard, the audio tells."""
    call = Call()
    said = call.recorder.agent_said("Hello.", start_offset_ms=100, end_offset_ms=100)
    said.lasts(ms=400)
    (one,) = call.report().recorded_transcript or []
    assert (one.start_offset_ms, one.end_offset_ms) == (100, 500)
    call = Call()
    said, lines = call.recorder.agent_said("Hel", start_offset_ms=100, end_offset_ms=100), len(call.journal)
    said.lasts(ms=400, text="Hello.")
    assert len(call.journal) == lines + 1, "one line of the file for both"
    (one,) = call.report().recorded_transcript or []
    assert (one.end_offset_ms, one.utterance) == (500, "Hello.")
    placed = Call(heard=Ear(Span(None, None), Span(None, None)))
    placed.recorder.agent_said("Hello.").lasts(ms=400)
    assert [one.utterance for one in placed.report().recorded_transcript or []] == ["Hello."]


def test_one_trace_is_linked_once_however_it_is_written() -> None:
    """As a number, with dashes, in capitals; what is no trace at all is counted, and warns of nothing."""
    call, trace = Call(), "0af7651916cd43dd8448eb211c80319c"
    for given in (trace, trace.upper(), f"0x{trace}", str(uuid.UUID(trace)), int(trace, 16)):
        call.recorder.add_trace_id(given)
    assert call.report().trace_ids == [trace]
    call = Call()
    nothing: Any = None
    for given in ("", "0" * 32, 0, nothing):
        call.recorder.add_trace_id(given)
    call.recorder.add_tool_call("look_up")
    assert call.report().trace_ids is None
    assert call.counters.snapshot() == {"dropped.trace_id": 4}
