"""What the events of an OpenAI Realtime connection become in a report; their shapes are those of recorded streams."""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING, Any

import pytest

from bluejay_ws.integrations.openai_realtime import INTERRUPTED, OpenAIRealtimeTap
from tests.support import Call

if TYPE_CHECKING:
    from collections.abc import Callable

STARTED = "input_audio_buffer.speech_started"
STOPPED = "input_audio_buffer.speech_stopped"
HEARD = "conversation.item.input_audio_transcription.completed"
AUDIO = "response.output_audio.delta"
SAID = "response.output_audio_transcript.done"
ASKED = "response.function_call_arguments.done"
ADDED = "conversation.item.added"
SECOND = base64.b64encode(b"\x00" * 48_000).decode()


class Stream:
    """A call with a tap on it, and the events that the server sends."""

    def __init__(self, *, timers: bool = True) -> None:
        self.call = Call()
        self.timers: list[tuple[float, Callable[[], None]]] = []
        later = (lambda seconds, action: self.timers.append((seconds, action))) if timers else None
        self.tap = OpenAIRealtimeTap(self.call.recorder, later=later)

    def send(self, kind: Any, after_ms: float = 0.0, **fields: Any) -> Stream:
        self.call.clock.sleep(after_ms)
        self.tap.event({"type": kind, "event_id": "event_1", **fields})
        return self

    def transcript(self) -> list[tuple[int, int, str, str]]:
        self.tap.close()
        said = self.call.report().recorded_transcript or []
        return [(one.start_offset_ms, one.end_offset_ms, one.speaker, one.utterance) for one in said]

    def tools(self) -> list[tuple[int, str, Any, Any]]:
        calls = self.call.report().tool_calls or []
        return [(one.start_offset_ms, one.name, one.parameters, one.output) for one in calls]


@pytest.fixture
def stream() -> Stream:
    """Give a stream whose session has the server's default settings."""
    return Stream()


# -- the caller


def test_speech_is_placed_by_its_length_in_the_audio(stream: Stream) -> None:
    """The positions include what the detector adds at both ends; the arrival of the end anchors them."""
    detection = {"type": "server_vad", "prefix_padding_ms": 300, "silence_duration_ms": 200}
    stream.send("session.created", session={"audio": {"input": {"turn_detection": detection}}})
    stream.send(STARTED, 5_340, item_id="a", audio_start_ms=1_460)
    stream.send(STOPPED, 1_660, item_id="a", audio_end_ms=3_460)
    stream.send(HEARD, 400, item_id="a", transcript="Where is my order?\n")
    assert stream.transcript() == [(5_300, 6_800, "USER", "Where is my order?")]


@pytest.mark.parametrize(
    "session",
    [
        {"turn_detection": {"type": "semantic_vad"}},
        {"audio": {"input": {"turn_detection": {"type": "semantic_vad", "eagerness": "auto"}}}},
    ],
)
def test_semantic_detection_adds_nothing(session: dict[str, Any], stream: Stream) -> None:
    """It has neither padding nor silence to take off; older sessions have their settings flat."""
    stream.send("session.updated", session=session)
    stream.send(STARTED, 1_000, item_id="a", audio_start_ms=800)
    stream.send(STOPPED, 1_000, item_id="a", audio_end_ms=1_800)
    stream.send(HEARD, item_id="a", transcript="Yes.")
    assert stream.transcript() == [(1_000, 2_000, "USER", "Yes.")]


def test_speech_that_begins_again_lasts_until_its_last_end(stream: Stream) -> None:
    """A pause can be taken back under the same item; text that is still being made does not count."""
    stream.send(STARTED, 1_000, item_id="a", audio_start_ms=500)
    stream.send(STOPPED, 1_000, item_id="a", audio_end_ms=1_500)
    stream.send(STARTED, 500, item_id="a", audio_start_ms=2_000)
    stream.send(HEARD, item_id="a", transcript="So", status="in_progress")
    stream.send(STOPPED, 1_500, item_id="a", audio_end_ms=3_500)
    stream.send(HEARD, item_id="a", transcript="So what?", status="completed")
    stream.send(HEARD, item_id="a", transcript="So what?", status="completed")
    assert stream.transcript() == [(1_300, 3_500, "USER", "So what?")]


def test_text_without_speech_events_is_placed_by_the_recorder(stream: Stream) -> None:
    """Push-to-talk and services without positions tell less: what they tell is taken."""
    stream.send(STOPPED, item_id="unknown", audio_end_ms=5)
    stream.send(HEARD, 1_000, item_id="a", transcript="Hello.")
    stream.send(STARTED, item_id="b")
    stream.send(STOPPED, 1_000, item_id="b")
    stream.send(HEARD, item_id="b", transcript="Again.")
    stream.send(STARTED, 500, item_id="c", audio_start_ms=1)
    stream.send(HEARD, 100, item_id="c", transcript="And.")
    told = [(1_000, 1_000, "USER", "Hello."), (1_000, 1_500, "USER", "Again."), (2_500, 2_600, "USER", "And.")]
    assert stream.transcript() == told


# -- the agent


def test_an_utterance_lasts_as_long_as_its_audio_and_is_told_once(stream: Stream) -> None:
    """Audio is sent faster than it plays; a second item plays after the first; the text comes five times."""
    for item in ("a", "b"):
        stream.send(AUDIO, 100, item_id=item, response_id="r", delta=SECOND)
        stream.send("response.audio.delta", item_id=item, response_id="r", delta=SECOND)
        stream.send(SAID, item_id=item, content_index=0, transcript=f"This is {item}.")
        stream.send(SAID, item_id=item, content_index=0, transcript=f"This is {item}.")
    (first, settle), (second, _) = stream.timers
    assert (first, second) == (2.5, 4.4)
    stream.call.clock.sleep(2_500)
    settle()
    assert len(stream.call.recorder.bodies) == 1
    stream.call.clock.sleep(5_000)
    assert stream.transcript() == [(100, 2_100, "AGENT", "This is a."), (2_100, 4_100, "AGENT", "This is b.")]


def test_what_was_not_played_is_not_recorded(stream: Stream) -> None:
    """The server tells how much of the audio was heard; the text is cut by that share, and the rest never played."""
    stream.send(AUDIO, 1_000, item_id="a", response_id="r", delta=SECOND)
    stream.send(SAID, item_id="a", transcript="Sure thing, well then")
    stream.send(AUDIO, item_id="b", response_id="r", delta=SECOND)
    stream.send(SAID, item_id="b", transcript="never heard")
    stream.send("conversation.item.truncated", 500, item_id="a", audio_end_ms=450)
    stream.send("conversation.item.truncated", item_id="a", audio_end_ms=450)
    stream.send(
        "response.done", response={"id": "r", "status": "cancelled", "status_details": {"reason": "turn_detected"}}
    )
    stream.send(AUDIO, item_id="a", response_id="r", delta=SECOND)
    stream.send("response.created", 5_000, response={})
    stream.tap.close()
    report = stream.call.report()
    said = [(one.start_offset_ms, one.end_offset_ms, one.utterance) for one in report.recorded_transcript or []]
    assert said == [(1_000, 1_450, "Sure thing,")]
    assert [event.title for event in report.events or []] == [INTERRUPTED, "Connection closed"]


def test_a_call_that_ends_in_mid_sentence_keeps_what_was_heard(stream: Stream) -> None:
    """Without a timer, too: the end of the connection settles everything."""
    stream = Stream(timers=False)
    stream.send(AUDIO, item_id="a", delta=SECOND)
    stream.send(SAID, item_id="a", transcript="Hello there everybody")
    stream.call.clock.sleep(400)
    assert stream.transcript() == [(0, 400, "AGENT", "Hello there")]


def test_a_truncation_by_an_unknown_reply_is_an_event_too(stream: Stream) -> None:
    """An interruption that the server cannot tie to a reply counts by itself."""
    stream.send(AUDIO, item_id="a", delta=SECOND)
    stream.send("conversation.item.truncated", item_id="a", audio_end_ms=0)
    stream.send("conversation.item.truncated", item_id="z", audio_end_ms=0)
    assert stream.transcript() == []
    assert [event.title for event in stream.call.report().events or []].count(INTERRUPTED) == 1


def test_text_whose_audio_went_another_way_is_placed_by_the_recorder(stream: Stream) -> None:
    """A connection over WebRTC has no audio events."""
    stream.send(SAID, 700, item_id="a", transcript="Hi.")
    assert stream.transcript() == [(700, 700, "AGENT", "Hi.")]


# -- tools


def test_a_tool_call_takes_its_output_from_the_echo(stream: Stream) -> None:
    """It begins when its arguments are complete; the item that the client added comes back with the output."""
    stream.send("session.updated", session={"tools": [{"name": "freeze", "description": "Freeze a card."}]})
    asked = {"call_id": "c", "name": "freeze", "arguments": '{"last4": "4242"}', "response_id": "r"}
    stream.send(ASKED, 300, **asked).send(ASKED, 100, **asked)
    echo = {"type": "function_call_output", "call_id": "c", "output": '{"ok": true}'}
    stream.send(ADDED, item=echo).send(ADDED, item=echo)
    assert stream.tools() == [(300, "freeze", {"last4": "4242"}, {"ok": True})]
    assert b"Freeze a card." in b"".join(stream.call.journal)


def test_the_beta_tells_a_tools_name_elsewhere(stream: Stream) -> None:
    """Its arguments come without a name, its echo under an older one; an output may be plain text."""
    item = {"type": "function_call", "call_id": "c", "name": "look_up"}
    stream.send("response.output_item.added", item=item)
    stream.send(ASKED, call_id="c", arguments="{}")
    stream.send(ASKED, call_id="d", arguments='{"cut')
    output = {"type": "function_call_output", "call_id": "c", "output": "found it"}
    stream.send("conversation.item.created", item=output)
    interrupted = {"status": "interrupted"}
    assert stream.tools() == [(0, "look_up", {}, "found it"), (0, "unknown", {"value": '{"cut'}, interrupted)]


def test_a_cancelled_reply_cancels_its_tools(stream: Stream) -> None:
    """Those of another reply go on."""
    stream.send(ASKED, call_id="c", name="one", arguments="{}", response_id="r")
    stream.send(ASKED, call_id="d", name="two", arguments="{}", response_id="s")
    details = {"type": "cancelled", "reason": "client_cancelled"}
    stream.send("response.done", response={"id": "r", "status": "cancelled", "status_details": details})
    stream.send("response.done", response={"id": "s", "status": "completed"})
    stream.send(ADDED, item={"type": "function_call_output", "call_id": "d", "output": "2"})
    assert stream.tools() == [(0, "one", {}, {"status": "cancelled"}), (0, "two", {}, 2)]


# -- the rest


def test_errors_of_the_service_are_events(stream: Stream) -> None:
    """What the service says went wrong stands in the report."""
    stream.send("error", error={"type": "invalid_request_error", "code": "x", "message": "no", "param": None})
    event = (stream.call.report().events or [])[0]
    assert event.metadata == {"type": "invalid_request_error", "code": "x", "message": "no"}


def test_unknown_events_and_a_closed_recorder_are_ignored(stream: Stream) -> None:
    """Every service adds types of its own; after the end of the call nothing is looked at."""
    stream.send("rate_limits.updated").send(None).send("response.output_text.delta", delta="x")
    stream.call.recorder.close({}, {})
    stream.send(HEARD, item_id="a", transcript="late")
    assert stream.call.counters.snapshot() == {}
