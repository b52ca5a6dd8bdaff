"""What the events of an OpenAI Realtime connection become in a report; their shapes are those of recorded streams."""

from __future__ import annotations

from typing import Any

import pytest

from bluejay_ws.integrations.openai_realtime import OpenAIRealtimeTap
from tests.integrations.streams import Stream, audio

CUT = "…"
INTERRUPTED = "Caller interrupted the agent"


def event(kind: str, **fields: Any) -> dict[str, Any]:
    """Return an event of the server's, or of the client's."""
    return {"type": kind, "event_id": "event_1", **fields}


def append(ms: float) -> dict[str, Any]:
    """Return the caller's audio, as the client sends it."""
    return event("input_audio_buffer.append", audio=audio(ms))


def started(item: str, ms: float | None = None) -> dict[str, Any]:
    """Return where the caller began."""
    return event("input_audio_buffer.speech_started", item_id=item, audio_start_ms=ms)


def stopped(item: str, ms: float | None = None) -> dict[str, Any]:
    """Return where the caller ended."""
    return event("input_audio_buffer.speech_stopped", item_id=item, audio_end_ms=ms)


def heard(item: str, text: str, **fields: Any) -> dict[str, Any]:
    """Return what the caller said."""
    return event("conversation.item.input_audio_transcription.completed", item_id=item, transcript=text, **fields)


def sound(item: str, ms: float, response: str = "r") -> dict[str, Any]:
    """Return audio of the model's."""
    return event("response.output_audio.delta", item_id=item, response_id=response, delta=audio(ms))


def said(item: str, text: str, response: str = "r") -> dict[str, Any]:
    """Return what the model said."""
    return event("response.output_audio_transcript.done", item_id=item, response_id=response, transcript=text)


def asked(call: str, name: str | None, arguments: str = "{}", response: str = "r") -> dict[str, Any]:
    """Return a function call."""
    kind = "response.function_call_arguments.done"
    return event(kind, call_id=call, name=name, arguments=arguments, response_id=response)


def done(response: str, status: str = "completed", **fields: Any) -> dict[str, Any]:
    """Return the end of a response."""
    return event("response.done", response={"id": response, "status": status, **fields})


CANCELLED = {"status_details": {"type": "cancelled", "reason": "turn_detected"}}


@pytest.fixture
def stream() -> Stream:
    """Give a stream whose session has the server's default settings."""
    return Stream(OpenAIRealtimeTap)


# -- the caller


def test_speech_is_placed_by_its_position_in_the_audio_that_was_sent(stream: Stream) -> None:
    """Audio was held back for two seconds: positions count what was sent, and not the time since connect."""
    detection = {"type": "server_vad", "prefix_padding_ms": 300, "silence_duration_ms": 200}
    stream.received(event("session.created", session={"audio": {"input": {"turn_detection": detection}}}))
    for number in range(40):
        stream.at(2_100 + number * 100).sent(append(100))
    stream.received(started("a", 700), stopped("a", 2_200)).at(7_000).received(heard("a", " Where is it?\n"))
    assert stream.said() == [(3_000, 4_000, "USER", "Where is it?")]


def test_audio_that_was_sent_in_a_burst_stands_where_it_was_heard(stream: Stream) -> None:
    """The connection was opened late: what was held back until then was heard before."""
    stream.at(3_000).sent(append(3_000)).received(started("a", 700), stopped("a", 2_500))
    stream.received(heard("a", "Hello."))
    assert stream.said() == [(1_000, 2_000, "USER", "Hello.")]


def test_a_short_utterance_at_the_beginning_has_a_length(stream: Stream) -> None:
    """Where the audio begins with it, the server cannot add its padding before it."""
    for number in range(10):
        stream.at(100 + number * 100).sent(append(100))
    stream.received(started("a", 0), stopped("a", 800), heard("a", "Hi."))
    assert stream.said() == [(0, 300, "USER", "Hi.")]


def test_without_the_clients_side_speech_is_placed_by_its_length(stream: Stream) -> None:
    """The arrival of the end anchors it."""
    stream.at(5_340).received(started("a", 1_460)).at(7_000).received(stopped("a", 3_460), heard("a", "Where?"))
    assert stream.said() == [(5_300, 6_500, "USER", "Where?")]


@pytest.mark.parametrize(
    "session",
    [
        {"turn_detection": {"type": "semantic_vad"}},
        {"audio": {"input": {"turn_detection": {"type": "semantic_vad", "eagerness": "auto"}}}},
    ],
)
def test_semantic_detection_adds_nothing(session: dict[str, Any], stream: Stream) -> None:
    """It has neither padding nor silence to take off; older sessions have their settings flat."""
    stream.received(event("session.updated", session=session))
    stream.at(1_000).received(started("a", 800)).at(2_000).received(stopped("a", 1_800), heard("a", "Yes."))
    assert stream.said() == [(1_000, 2_000, "USER", "Yes.")]


def test_text_that_comes_after_the_reply_has_begun_stands_before_it(stream: Stream) -> None:
    """Transcription is slower than the model; whatever the clock says, the order is the real one."""
    stream.sent(append(1_000)).received(started("a", 0), stopped("a", 900), sound("b", 500), said("b", "Hi."))
    stream.received(heard("a", "Hello?"), heard("a", "Hello!"))
    assert stream.words() == [("USER", "Hello!"), ("AGENT", "Hi.")]


def test_a_pause_that_is_taken_back_takes_the_reply_with_it(stream: Stream) -> None:
    """xAI: the same item begins again, cumulative texts come, and the reply to the first half is dropped."""
    stream.at(1_000).received(started("a", 700), stopped("a", 1_000))
    stream.received(heard("a", "So", status="in_progress"), sound("b", 2_000), said("b", "Yes, what is it?"))
    stream.at(1_500).received(started("a", 1_500)).at(2_500).received(stopped("a", 2_400))
    stream.received(event("conversation.item.input_audio_transcription.updated", item_id="a", transcript="So what"))
    stream.received(heard("a", "So what?", status="completed"))
    assert stream.words() == [("USER", "So what?"), ("AGENT", f"Yes,{CUT}")]
    assert stream.events() == [INTERRUPTED]


def test_the_servers_pings_tell_how_late_an_event_was_read(stream: Stream) -> None:
    """xAI: the loop was blocked for a second, in which the caller began and ended."""
    stream.at(1_000).received(event("ping", timestamp=5_000_000), event("ping", timestamp="soon"))
    stream.at(3_500).received(started("a"), stopped("a"), event("ping", timestamp=5_001_500))
    stream.at(4_000).received(event("ping", timestamp=5_003_000)).at(4_100).received(heard("a", "Hello."))
    assert stream.said() == [(2_500, 2_500, "USER", "Hello.")]


def test_a_partial_text_is_better_than_none(stream: Stream) -> None:
    """The call ended before the final text came."""
    piece = "conversation.item.input_audio_transcription.delta"
    stream.received(started("a", 0), event(piece, item_id="a", delta=" I"), event(piece, item_id="a", delta=" want"))
    assert stream.words() == [("USER", "I want")]


def test_push_to_talk_has_no_speech_events(stream: Stream) -> None:
    """The text stands where the turn was committed."""
    stream.at(1_000).received(event("input_audio_buffer.committed", item_id="a")).at(1_400).received(heard("a", "Go."))
    assert [(start, text) for start, _, _, text in stream.said()] == [(1_000, "Go.")]


@pytest.mark.parametrize("form", ["ga", "beta"])
def test_push_to_talk_is_placed_by_its_audio(stream: Stream, form: str) -> None:
    """Where the session has no voice detection, what was sent tells since when the caller speaks; silence does not."""
    off = {"turn_detection": None}
    stream.received(event("session.updated", session={"audio": {"input": off}} if form == "ga" else off))
    for at in range(0, 3_000, 100):
        stream.at(at + 100).sent(event("input_audio_buffer.append", audio=audio(100, loud=1_000 <= at < 2_000)))
    stream.received(event("input_audio_buffer.committed", item_id="a")).at(3_100).received(sound("r", 500))
    stream.received(said("r", "Yes."), heard("a", "Go."))
    assert stream.said() == [(1_000, 2_000, "USER", "Go."), (3_100, 3_600, "AGENT", "Yes.")]


def test_what_was_to_play_after_a_reply_that_was_cut_is_not_heard(stream: Stream) -> None:
    """Two items of one response, and a client that only stops playing: nobody tells that."""
    stream.received(sound("r1", 2_000), said("r1", "One, two, three, four."), sound("r2", 1_000), said("r2", "Five."))
    stream.received(done("r")).at(1_100).received(started("a")).at(1_500).received(stopped("a"))
    stream.received(event("input_audio_buffer.committed", item_id="a"), heard("a", "Stop."))
    assert sorted(stream.words()) == [("AGENT", f"One, two, three,{CUT}"), ("USER", "Stop.")]
    assert stream.events() == [INTERRUPTED]


def test_what_was_not_transcribed_is_an_event(stream: Stream) -> None:
    """An utterance without text is not silently missing; an idle line is no utterance."""
    error = {"type": "server_error", "code": "x", "message": "no deployment"}
    stream.at(500).received(started("a", 200))
    stream.received(event("conversation.item.input_audio_transcription.failed", item_id="a", error=error))
    stream.received(event("input_audio_buffer.timeout_triggered", item_id="z"), heard("z", "noise"))
    assert stream.said() == []
    assert stream.events() == ["Transcription failed", "The model waited in vain for the caller"]


def test_typed_text_was_not_said(stream: Stream) -> None:
    """It is an event, once, however often its item is echoed."""
    item = {"id": "i", "type": "message", "role": "user", "content": [{"type": "input_text", "text": "Hi"}]}
    stream.received(event("conversation.item.added", item=item), event("conversation.item.done", item=item))
    assert (stream.said(), stream.events()) == ([], ["Text sent to the model"])


# -- the agent


def test_an_utterance_lasts_as_long_as_its_audio_and_is_recorded_once(stream: Stream) -> None:
    """Audio is sent faster than it plays; a second item plays after the first; beta names mean the same."""
    stream.at(100).received(sound("a", 1_000), sound("a", 1_000), said("a", "This is a."), said("a", "This is a."))
    stream.received(event("response.audio.delta", item_id="b", delta=audio(500)))
    stream.received(event("response.audio_transcript.done", item_id="b", transcript="This is b."))
    assert stream.said() == [(100, 2_100, "AGENT", "This is a."), (2_100, 2_600, "AGENT", "This is b.")]


def test_a_truncated_reply_is_cut_to_what_was_heard(stream: Stream) -> None:
    """Of several signs of one barge-in one event comes; what was to play after it was never heard."""
    stream.at(1_000).received(sound("a", 1_000), said("a", "Sure thing, well then"))
    stream.received(sound("b", 1_000), said("b", "never heard")).at(1_500).received(started("u", 1_000))
    stream.sent(event("conversation.item.truncate", item_id="a", audio_end_ms=450))
    stream.received(
        event("conversation.item.truncated", item_id="a", audio_end_ms=450), done("r", "cancelled", **CANCELLED)
    )
    stream.received(sound("a", 1_000))
    assert stream.said() == [(1_000, 1_450, "AGENT", f"Sure thing,{CUT}")]
    assert stream.events() == [INTERRUPTED]


def test_a_cancelled_reply_is_cut_to_what_had_played(stream: Stream) -> None:
    """No truncation comes where the client does not send one; text that comes later is cut all the same."""
    stream.at(1_000).received(sound("a", 2_000)).at(1_500).received(started("u", 900))
    stream.received(done("r", "cancelled", **CANCELLED), said("a", "One two three four five six seven eight"))
    assert stream.words() == [("AGENT", f"One two three{CUT}")]


def test_a_truncation_says_more_than_the_playhead(stream: Stream) -> None:
    """It may restore what seemed unheard."""
    stream.at(1_000).received(sound("a", 1_000), said("a", "One two three four")).received(
        done("r", "cancelled", **CANCELLED)
    )
    stream.received(event("conversation.item.truncated", item_id="a", audio_end_ms=500))
    assert stream.said() == [(1_000, 1_500, "AGENT", f"One two three{CUT}")]


def test_a_reply_of_which_nothing_was_heard_is_not_recorded(stream: Stream) -> None:
    """Truncations stand at 0 too."""
    stream.received(sound("a", 1_000), said("a", "Hello")).received(
        event("conversation.item.truncated", item_id="a", audio_end_ms=0),
        event("conversation.item.truncated", item_id="z", audio_end_ms=0),
    )
    assert (stream.said(), stream.events()) == ([], [INTERRUPTED])


def test_the_servers_own_play_out_is_cut_where_it_says_so(stream: Stream) -> None:
    """WebRTC and SIP: cleared, then truncated; one barge-in."""
    stream.received(sound("a", 1_000), said("a", "One two three four")).at(500)
    stream.received(started("u", 0), event("output_audio_buffer.cleared", response_id="r"))
    stream.received(event("conversation.item.truncated", item_id="a", audio_end_ms=500))
    assert stream.words() == [("AGENT", f"One two three{CUT}")]
    assert stream.events() == [INTERRUPTED]


def test_a_reply_that_was_cancelled_before_it_was_spoken_interrupts_nobody(stream: Stream) -> None:
    """The caller went on speaking; the model had only begun to think."""
    stream.received(done("r", "cancelled", **CANCELLED))
    assert stream.events() == ["Response cancelled before it was spoken"]


def test_words_of_a_reply_that_was_cancelled_before_its_audio_were_not_said(stream: Stream) -> None:
    """The words run ahead of the audio; what plays of the reply before continues."""
    piece = event("response.output_audio_transcript.delta", item_id="b", response_id="s", delta="Then again")
    stream.received(sound("a", 2_000), said("a", "One two three four"), done("r"), piece)
    stream.received(done("s", "cancelled", **CANCELLED)).at(500).received(sound("c", 500, "t"), said("c", "Yes.", "t"))
    assert stream.said() == [(0, 2_000, "AGENT", "One two three four"), (2_000, 2_500, "AGENT", "Yes.")]
    assert stream.events() == ["Response cancelled before it was spoken"]


def test_a_reply_that_the_client_cancels_for_the_caller_was_interrupted(stream: Stream) -> None:
    """Its own voice detection, or push to talk; a client that cancels for reasons of its own interrupts nobody."""
    by_client = {"status_details": {"type": "cancelled", "reason": "client_cancelled"}}
    stream.received(sound("a", 1_000), said("a", "One two three four")).at(500)
    stream.received(done("r", "cancelled", **by_client), sound("b", 1_000, "s"), said("b", "Five six seven", "s"))
    stream.at(1_500).received(started("u", 700)).at(1_600).received(done("s", "cancelled", **by_client))
    stream.at(2_500).received(heard("u", "Stop."))
    assert [text for _, text in stream.words()] == ["One two three four", f"Five six{CUT}", "Stop."]
    assert stream.events() == [INTERRUPTED]


def test_over_webrtc_the_servers_play_out_tells_when_the_agent_spoke(stream: Stream) -> None:
    """No audio is in the events: text is cut by how long speech takes."""

    def buffer(kind: str, response: str) -> dict[str, Any]:
        return event(f"output_audio_buffer.{kind}", response_id=response)

    piece = event("response.audio_transcript.delta", item_id="a", response_id="r", delta="One two")
    stream.at(300).received(piece, buffer("started", "r"), said("a", "One two three."), done("r"))
    stream.at(1_300).received(buffer("stopped", "r"), said("b", "This is a much longer answer than that.", "s"))
    stream.at(2_000).received(buffer("started", "s"), done("s")).at(3_000).received(started("u", 2_800))
    stream.received(buffer("cleared", "s"), event("conversation.item.truncated", item_id="b", audio_end_ms=1_000))
    stream.received(buffer("stopped", "s"))
    assert stream.said() == [
        (300, 1_300, "AGENT", "One two three."),
        (2_000, 3_000, "AGENT", f"This is a much{CUT}"),
    ]
    assert stream.events() == [INTERRUPTED]


@pytest.mark.parametrize(
    ("text", "heard_part"),
    [
        ("你好马塞洛。很高兴认识你。今天我能帮你什么忙", "你好马塞洛。很高兴认"),
        ("Grüße, schöner Tag für Ärzte", "Grüße, schöner"),
        ("ตกลงครับ ผมจะดูให้", "ตกลงครับ"),
        ("Yes\nno\nperhaps\nindeed", "Yes\nno\nperhaps"),
    ],
)
def test_a_text_of_any_language_is_cut_within_a_word(text: str, heard_part: str, stream: Stream) -> None:
    """Not every writing has spaces."""
    stream.received(sound("a", 2_000), said("a", text))
    stream.received(event("conversation.item.truncated", item_id="a", audio_end_ms=980))
    assert stream.words() == [("AGENT", heard_part + CUT)]


def test_segments_with_times_cut_exactly(stream: Stream) -> None:
    """Phrases of xAI have their start in the audio; Azure's words too."""
    for text, start in (("Hello Marcelo!", 0.0), (" How can I help you today?", 2.0)):
        piece = event(
            "response.output_audio_transcript.delta", item_id="a", response_id="r", delta=text, start_time=start
        )
        stream.received(piece)
    stream.received(sound("a", 3_000), said("a", "Hello Marcelo! How can I help you today?"))
    stream.received(event("conversation.item.truncated", item_id="a", audio_end_ms=2_000))
    assert stream.words() == [("AGENT", f"Hello Marcelo!{CUT}")]


def test_text_whose_audio_went_another_way_is_placed_by_the_recorder(stream: Stream) -> None:
    """A connection over WebRTC has no audio events."""
    stream.at(700).received(said("a", "Hi."))
    assert stream.said() == [(700, 700, "AGENT", "Hi.")]


def test_a_written_reply_was_not_spoken(stream: Stream) -> None:
    """Unless the agent has a text-to-speech of its own."""
    written = event("response.output_text.done", item_id="a", response_id="r", text="It is foggy.")
    assert stream.received(written, written).events() == ["Text reply of the model"]
    assert stream.said() == []
    spoken = Stream(lambda recorder: OpenAIRealtimeTap(recorder, speaks_text=True)).received(written)
    assert spoken.words() == [("AGENT", "It is foggy.")]


def test_other_formats_have_other_sizes(stream: Stream) -> None:
    """A byte of G.711 is an eighth of a millisecond."""
    output = {"audio": {"output": {"format": {"type": "audio/pcmu"}}}, "input_audio_format": "g711_ulaw"}
    stream.received(event("session.updated", session=output), sound("a", 100), said("a", "Hi."))
    assert stream.said() == [(0, 600, "AGENT", "Hi.")]


# -- tools


def test_a_tool_call_takes_its_output_from_what_the_client_sends(stream: Stream) -> None:
    """It begins when its arguments are complete; the echo changes nothing."""
    stream.received(event("session.updated", session={"tools": [{"name": "freeze", "description": "Freeze a card."}]}))
    stream.at(300).received(asked("c", "freeze", '{"last4": "4242"}'), asked("c", "freeze", "{}"))
    output = {"type": "function_call_output", "call_id": "c", "output": '{"ok": true}'}
    stream.sent(event("conversation.item.create", item=output))
    stream.received(event("conversation.item.added", item={**output, "output": "late"}))
    assert stream.tools() == [("freeze", {"last4": "4242"}, {"ok": True})]
    assert b"Freeze a card." in b"".join(stream.call.journal)


def test_the_echo_is_enough(stream: Stream) -> None:
    """The beta tells a name elsewhere; an output may be plain text, arguments may be cut."""
    item = {"type": "function_call", "call_id": "c", "name": "look_up", "status": "in_progress"}
    stream.received(event("response.output_item.added", item=item), asked("c", None), asked("d", None, '{"cut'))
    output = {"type": "function_call_output", "call_id": "c", "output": "found it"}
    stream.received(event("conversation.item.created", item=output))
    assert stream.tools() == [("look_up", {}, "found it"), ("unknown", {"value": '{"cut'}, {"status": "interrupted"})]


def test_only_the_item_tells_the_arguments(stream: Stream) -> None:
    """Some services send no event for them."""
    item = {"type": "function_call", "call_id": "c", "name": "f", "status": "completed", "arguments": '{"a": 1}'}
    stream.received(done("r", output=[item]))
    assert stream.tools()[0][:2] == ("f", {"a": 1})


def test_a_cancelled_or_failed_reply_ends_its_tools(stream: Stream) -> None:
    """Those of another reply go on."""
    stream.received(asked("c", "one"), asked("d", "two", response="s"), asked("e", "three", response="t"))
    stream.received(done("r", "cancelled"), done("s"), done("t", "failed", status_details={"error": {"code": "x"}}))
    stream.received(
        event("conversation.item.added", item={"type": "function_call_output", "call_id": "d", "output": "2"})
    )
    failed = {"status": "failed", "message": "response failed"}
    assert stream.tools() == [("one", {}, {"status": "cancelled"}), ("two", {}, 2), ("three", {}, failed)]
    assert stream.events() == ["Response cancelled before it was spoken", "Response failed"]


def test_a_tool_of_a_cancelled_reply_may_have_been_run(stream: Stream) -> None:
    """Clients run it as its arguments are complete, and answer it all the same."""
    stream.received(asked("c", "one"), asked("d", "two"), done("r", "cancelled", **CANCELLED))
    stream.sent(
        event("conversation.item.create", item={"type": "function_call_output", "call_id": "c", "output": "done"})
    )
    assert stream.tools() == [("one", {}, "done"), ("two", {}, {"status": "cancelled"})]


def test_only_the_reply_itself_tells_its_words(stream: Stream) -> None:
    """Events for the words did not come; messages of before the session are not said again."""

    def item(name: str, **part: Any) -> dict[str, Any]:
        return {"id": name, "type": "message", "role": "assistant", "status": "completed", "content": [part]}

    stream.received(event("conversation.item.added", item=item("old", type="output_text", text="Before.")))
    stream.received(event("conversation.item.added", item=item("older", type="output_audio", transcript="Long ago.")))
    stream.received(done("r", output=[item("a", type="output_audio", transcript="Hi.")]))
    stream.received(done("s", output=[item("b", type="output_text", text="It is foggy.")]))
    assert (stream.words(), stream.events()) == ([("AGENT", "Hi.")], ["Text reply of the model"])


def test_tools_of_the_server_are_tools(stream: Stream) -> None:
    """MCP tools have their output and error in their item; searches have neither."""

    def mcp(name: str, **fields: Any) -> dict[str, Any]:
        return event("response.output_item.done", item={"id": name, "type": "mcp_call", "name": name, **fields})

    stream.received(mcp("docs", status="in_progress"))
    stream.received(event("response.mcp_call_arguments.done", item_id="docs", arguments='{"q": "a"}'))
    stream.received(event("response.mcp_call.failed", item_id="x"), mcp("docs", status="completed", output="found"))
    stream.received(mcp("mail", status="failed", arguments="{}", error={"message": "down"}))
    stream.received(
        event("response.output_item.done", item={"id": "s", "type": "web_search_call", "status": "completed"})
    )
    stream.received(
        event("response.output_item.added", item={"id": "t", "type": "file_search_call", "status": "searching"})
    )
    assert stream.tools() == [
        ("docs", {"q": "a"}, "found"),
        ("mail", {}, {"status": "failed", "message": {"message": "down"}}),
        ("web_search", None, None),
        ("file_search", {}, {"status": "interrupted"}),
    ]


def test_a_search_of_the_servers_has_its_question_and_what_it_found(stream: Stream) -> None:
    """They come as it ends; it began before, and a response that ends meanwhile does not begin it."""

    def item(kind: str, **fields: Any) -> dict[str, Any]:
        return event(f"response.output_item.{kind}", response_id="r", item={"type": "file_search_call", **fields})

    stream.at(100).received(item("added", id="s", status="in_progress"), item("added", id="t", status="searching"))
    found = {"queries": ["a"], "results": [{"text": "b"}]}
    stream.at(900).received(item("done", id="s", status="completed", **found), item("done", id="s", **found))
    assert [(one.start_offset_ms, one.parameters, one.output) for one in stream.report.tool_calls or []] == [
        (100, {"value": ["a"]}, [{"text": "b"}]),
        (100, {}, {"status": "interrupted"}),
    ]


# -- the rest


def test_usage_is_added_up_and_the_model_is_named(stream: Stream) -> None:
    """Both stand under the provider's name."""
    stream.received(event("session.created", session={"model": "gpt-realtime"}))
    for _ in range(2):
        stream.received(done("r", usage={"total_tokens": 5, "input_token_details": {"audio_tokens": 2}}))
    usage = {"total_tokens": 10, "input_token_details": {"audio_tokens": 4}}
    assert stream.metadata() == {"openai_model": "gpt-realtime", "openai_usage": usage}


def test_errors_of_the_service_are_events(stream: Stream) -> None:
    """What the service says went wrong stands in the report."""
    stream.received(event("error", error={"type": "invalid", "code": "x", "message": "no", "param": None}))
    stream.received(
        event("response.cancelled", response_id="r"), event("input_audio_buffer.dtmf_event_received", event="5")
    )
    (found, *_) = stream.report.events or []
    assert found.metadata == {"type": "invalid", "code": "x", "message": "no"}
    assert stream.events()[1:] == ["Response cancelled before it was spoken", "DTMF"]


def test_unknown_events_are_counted_and_malformed_ones_never_raise(stream: Stream) -> None:
    """Every service adds types of its own; after the end of the call nothing is looked at."""
    stream.received(event("rate_limits.updated"), event("new.thing"), {"no": "type"}, 7, "not json", b"\xff", None, [])
    stream.received({"type": "response.output_audio.delta"}, {"type": ["x"]}, '{"type": "session.created"}')
    stream.sent(event("session.update"), "{", b"\x00\x00", event("input_audio_buffer.append"), 3)
    assert stream.call.counters["tap.unknown.openai"] == 6
    assert stream.call.counters["dropped.failed_tap"] == 4
    stream.call.recorder.close({}, {})
    stream.received(heard("a", "late")).sent(append(10))
    stream.tap.close()
    assert stream.call.counters["dropped.after_close"] == 0


# -- live models


def live(kind: str, text: str, start: int) -> dict[str, Any]:
    """Return words of one side, with their place on the session's timeline."""
    return event(f"session.{kind}_transcript.delta", delta=text, start_ms=start, end_ms=start + 200)


def nested(kind: str, **fields: Any) -> dict[str, Any]:
    """Return an event of a delegation's response."""
    return event("response.event", delegation_id="d", event={"type": kind, **fields})


def test_a_live_session_has_words_and_no_turns(stream: Stream) -> None:
    """Utterances end at a silence; both sides may speak at once; a delegation has tools, and its text is not said."""
    tools = {"delegation": {"responses": {"tools": [{"name": "forecast", "description": "Look it up."}]}}}
    session = {"model": "gpt-live-1", "audio": {"format": {"type": "audio/pcm", "rate": 24_000}}, **tools}
    stream.sent(event("session.start", session=session)).received(event("session.started", session=session))
    for number in range(100):
        stream.at(1_100 + number * 100).sent(event("session.input_audio.append", audio=audio(100)))
    stream.received(live("input", "What", 600), live("input", " weather?", 1_400), live("output", "Sure,", 1_800))
    item = {"type": "function_call", "call_id": "c", "name": "forecast", "status": "completed", "arguments": '{"a": 1}'}
    stream.received(nested("response.output_item.added", item={**item, "status": "in_progress", "arguments": ""}))
    stream.received(nested("response.output_item.done", item=item))
    stream.sent(event("response.item.create", item={"type": "function_call_output", "call_id": "c", "output": "rain"}))
    stream.received(nested("response.output_item.done", item={"type": "message", "content": []}))
    stream.received(nested("response.completed", response={"usage": {"total_tokens": 3}}))
    stream.received(nested("response.failed", response={"error": {"code": "x"}}))
    stream.received(
        live("output", " checking.", 2_000), live("input", "And?", 2_400), live("output", "It rains", 3_000)
    )
    stream.received(live("output", " today", 3_200), event("session.closed", reason="done", usage={"seconds": 9}))
    assert stream.said() == [
        (1_600, 2_600, "USER", "What weather?"),
        (2_800, 3_200, "AGENT", "Sure, checking."),
        (3_400, 3_600, "USER", "And?"),
        (4_000, 4_400, "AGENT", "It rains today"),
    ]
    assert stream.tools() == [("forecast", {"a": 1}, "rain")]
    assert stream.events() == ["Response failed", "The model closed the session"]
    assert stream.metadata() == {"openai_model": "gpt-live-1", "openai_usage": {"total_tokens": 3, "seconds": 9}}


# -- variations of what services send


def test_words_with_times_cut_exactly(stream: Stream) -> None:
    """Azure tells each word's place in the audio where it is asked to."""
    for word, at in (("One", 0), (" two", 400), (" three", 1_500)):
        facts = {"text": word, "audio_offset_ms": at, "audio_duration_ms": 400}
        stream.received(event("response.audio_timestamp.delta", item_id="a", response_id="r", **facts))
    stream.received(sound("a", 2_000), said("a", "One two three"))
    stream.received(event("response.output_audio_transcript.delta", item_id="a", response_id="r", delta="again"))
    stream.received(event("conversation.item.truncated", item_id="a", audio_end_ms=900))
    assert stream.words() == [("AGENT", f"One two{CUT}")]


def test_words_with_times_need_no_spaces(stream: Stream) -> None:
    """They are found in the text, be it there already or not; words of a long reply would add up to others."""
    words = [f"w{number}," for number in range(10, 40)]
    for item, spaced in (("a", False), ("b", True)):
        if item == "a":
            stream.received(sound(item, 30_000, item), said(item, " ".join(words), item))
        for at, word in enumerate(words):
            facts = {"text": f" {word}" if spaced and at else word, "audio_offset_ms": at * 100}
            timed = {"item_id": item, "response_id": item, "audio_duration_ms": 90}
            stream.received(event("response.audio_timestamp.delta", **facts, **timed))
        if item == "b":
            stream.received(sound(item, 30_000, item), said(item, " ".join(words), item))
        stream.received(event("conversation.item.truncated", item_id=item, audio_end_ms=2_500))
    assert [text[-6:] for _, text in stream.words()] == [f" w34,{CUT}"] * 2


def test_a_pause_that_is_taken_back_before_any_reply_takes_nothing_with_it(stream: Stream) -> None:
    """Nor a reply to what was said before, nor one that was cut already."""
    stream.received(started("a"), stopped("a"), started("a"), stopped("zz"))
    stream.at(500).received(stopped("a"), heard("a", "One."))
    kind = "conversation.item.input_audio_transcription"
    stream.received(event(f"{kind}.updated", item_id="a", transcript="On"), event(f"{kind}.delta", item_id="a"))
    stream.received(event(f"{kind}.segment", item_id="a", text="One."))
    stream.received(sound("r1", 3_000), said("r1", "Yes, of course, I will")).at(1_000).received(started("b"))
    stream.received(stopped("b"), started("b"))
    stream.received(event("conversation.item.truncated", item_id="r1", audio_end_ms=500))
    stream.at(1_500).received(stopped("b"), started("a"), heard("b", "Two."))
    assert [text for _, text in stream.words()] == ["One.", f"Yes,{CUT}", "Two."]
    assert stream.events() == [INTERRUPTED]


def test_play_out_may_begin_before_the_first_word_comes(stream: Stream) -> None:
    """What is said is kept at once, and not only at the end of the call."""
    stream.at(300).received(event("output_audio_buffer.started", response_id="r"))
    stream.at(400).received(event("response.audio_transcript.delta", item_id="a", response_id="r", delta="One two"))
    assert any(b"One two" in body for body in stream.call.recorder.bodies)
    stream.received(said("a", "One two three.")).at(1_400)
    stream.received(event("output_audio_buffer.stopped", response_id="r"))
    assert stream.said() == [(400, 1_400, "AGENT", "One two three.")]


def test_play_out_that_is_told_of_audio_in_the_events_changes_nothing(stream: Stream) -> None:
    """Its beginning and length are known already; nor does that of a reply of which nothing is known."""
    stream.at(100).received(sound("a", 1_000), event("output_audio_buffer.started", response_id="r"))
    stream.received(said("a", "Hello."), event("output_audio_buffer.started", response_id="z"))
    stream.at(5_000).received(event("output_audio_buffer.stopped", response_id="r"), said("b", "Bye.", "s"))
    stream.received(event("output_audio_buffer.stopped", response_id="s"))
    assert stream.said() == [(100, 1_100, "AGENT", "Hello."), (5_000, 5_000, "AGENT", "Bye.")]


def test_settings_and_errors_in_every_shape(stream: Stream) -> None:
    """A rate beside the format, a format without one, an error that is a text."""
    stream.received(event("session.updated", session={"input_audio_format": "pcm16", "turn_detection": "x"}))
    rate = {"audio": {"output": {"format": {"type": "audio/pcm", "rate": 16_000}}}}
    stream.received(event("session.updated", session=rate), event("session.updated", session={"tools": [{}]}))
    stream.received(event("session.updated", session={"audio": {"output": {"format": {"type": "audio/pcm"}}}}))
    stream.received(event("error", error="broken"), done("r", "failed", status_details={"error": "x"}))
    stream.received(event("conversation.item.input_audio_transcription.failed", item_id="z", error="x"))
    stream.received(event("response.output_item.added"), event("response.cancelled", response_id="x"))
    stream.at(100).received(sound("a", 200), said("a", "Hello."))
    assert stream.said() == [(100, 400, "AGENT", "Hello.")]  # 200 ms of 24,000 Hz
    assert stream.events() == [
        "Error of the model's service",
        "Response failed",
        "Transcription failed",
        "Response cancelled before it was spoken",
    ]


def test_items_that_tell_nothing_new_are_passed_over(stream: Stream) -> None:
    """The caller's audio, replies that are being written, calls without arguments, outputs of nothing."""
    part = {"type": "input_audio", "transcript": None}
    for item in (
        {"id": "u", "type": "message", "role": "user", "content": [part]},
        {"id": "a", "type": "message", "role": "assistant", "status": "in_progress", "content": []},
        {"id": "b", "type": "message", "role": "assistant", "status": "completed", "content": [{"type": "audio"}]},
        {"type": "function_call", "call_id": "c", "status": "completed", "arguments": ""},
        {"type": "function_call_output", "call_id": "nobody", "output": "x"},
        {"type": "mcp_approval_request", "id": "m"},
        {"type": None},
    ):
        stream.received(event("conversation.item.created", item=item), event("response.output_item.done", item=item))
        stream.sent(event("conversation.item.create", item={**item, "type": "message"}))
    stream.received(event("response.output_text.done", item_id="a", text=""))
    assert (stream.words(), stream.tools(), stream.events()) == ([], [], [])


def test_two_parts_of_one_item_are_one_utterance(stream: Stream) -> None:
    """The same part again is not."""
    kind = "response.output_audio_transcript.done"
    second = event(kind, item_id="a", response_id="r", content_index=1, transcript="Well then.")
    stream.received(sound("a", 1_000), said("a", "Hello."), second, second)
    assert stream.words() == [("AGENT", "Hello. Well then.")]


# -- what other streams do


def output(call: str, value: str = "ok", kind: str = "function_call_output", **fields: Any) -> dict[str, Any]:
    """Return what the client answers."""
    return event("conversation.item.create", item={"type": kind, "call_id": call, "output": value, **fields})


def function(kind: str, **fields: Any) -> dict[str, Any]:
    """Return an event of an item that is a function call."""
    item = {"id": "i", "type": "function_call", "name": "f", "call_id": "c", "arguments": '{"a": 1}', **fields}
    return event(kind, item=item) | ({"response_id": "r"} if kind.startswith("response") else {})


def pieces(*texts: str) -> list[dict[str, Any]]:
    """Return a function call's arguments in pieces."""
    return [event("response.function_call_arguments.delta", call_id="c", response_id="r", delta=text) for text in texts]


@pytest.mark.parametrize("ending", ["done", "answered", "never"])
def test_arguments_that_come_only_in_pieces_are_put_together(ending: str, stream: Stream) -> None:
    """No event says that they are whole: the response's end does, or the answer, or the end of the call."""
    stream.received(function("response.output_item.added", status="in_progress", arguments=""))
    stream.received(*pieces('{"a"', ": 1}"))
    if ending == "done":
        stream.received(done("r"))
    if ending != "never":
        stream.sent(output("c"))
    assert stream.tools() == [("f", {"a": 1}, {"status": "interrupted"} if ending == "never" else "ok")]


def test_a_name_that_comes_after_the_arguments_is_the_calls(stream: Stream) -> None:
    """Beta names: only the item has it. A response that fails leaves no call that was never complete."""
    stream.received(
        asked("c", None, '{"a": 1}'), function("response.output_item.done", status="completed"), *pieces("x")
    )
    stream.received(asked("d", None, "{", response="q"), done("q", "failed")).sent(output("c"))
    assert stream.tools() == [("f", {"a": 1}, "ok")]


@pytest.mark.parametrize("status", ["incomplete", "failed", "cancelled"])
def test_a_tool_of_a_response_that_failed_may_be_answered_all_the_same(status: str, stream: Stream) -> None:
    """The client has run it."""
    stream.received(asked("c", "f"), asked("d", "g"), done("r", status)).sent(output("c"))
    (_, _, answered), (_, _, outcome) = stream.tools()
    assert answered == "ok"
    assert outcome["status"] == ("cancelled" if status == "cancelled" else "failed")


def test_a_call_that_the_client_tells_from_before_is_not_made_again(stream: Stream) -> None:
    """A connection that is opened again gets the conversation so far, and the server echoes it."""
    for kind in ("conversation.item.added", "conversation.item.done", "conversation.item.created"):
        stream.received(function(kind, status="completed"))
    stream.sent(output("c"))
    assert stream.tools() == []


@pytest.mark.parametrize("approve", [False, True])
def test_a_tool_that_was_refused_is_a_call_that_was_denied(approve: bool, stream: Stream) -> None:
    """One that is approved comes as a call of its own."""
    asks = {"id": "q", "type": "mcp_approval_request", "name": "pay", "arguments": '{"n": 3}', "server_label": "bank"}
    answer = {"type": "mcp_approval_response", "approval_request_id": "q", "approve": approve, "reason": "too much"}
    for kind in ("conversation.item.created", "response.output_item.done"):
        stream.received(event(kind, item=asks))
    stream.sent(event("conversation.item.create", item=answer)).received(event("conversation.item.added", item=answer))
    denied = ("pay", {"n": 3}, {"status": "denied", "message": "too much"})
    assert (stream.tools(), stream.events()) == ([] if approve else [denied], ["A tool waits for approval"])


def test_what_failed_at_the_service_is_an_event(stream: Stream) -> None:
    """An MCP server without tools, a warning of Azure's; a tool that failed, though no item says why."""
    stream.received(event("mcp_list_tools.failed", item_id="z"), event("warning", warning={"code": "w"}))
    stream.received(event("response.mcp_call_arguments.done", item_id="m", arguments="{}"))
    stream.received(event("response.mcp_call.failed", item_id="m"))
    assert stream.events() == ["The tools of an MCP server could not be listed", "Warning of the model's service"]
    assert stream.tools() == [("unknown", {}, {"status": "failed"})]


def test_a_caller_who_takes_over_while_a_reply_plays_has_interrupted_it(stream: Stream) -> None:
    """The reply was complete, and this client sends no truncation: it was cut where the client heard of the caller."""
    stream.at(1_000).received(sound("a", 4_000), said("a", "One two three four five six seven eight"), done("r"))
    stream.at(3_000).received(started("u", 1_700)).at(3_900)
    stream.received(stopped("u", 2_600), event("input_audio_buffer.committed", item_id="u"), heard("u", "Stop."))
    stream.received(sound("b", 500, "q"), said("b", "Okay.", "q"))
    assert stream.words() == [("AGENT", f"One two three four{CUT}"), ("USER", "Stop."), ("AGENT", "Okay.")]
    assert stream.events() == [INTERRUPTED]


@pytest.mark.parametrize("why", ["no turn", "near its end", "goes on", "truncated"])
def test_a_noise_while_a_reply_plays_does_not_cut_it(why: str, stream: Stream) -> None:
    """It never became a turn, or nothing was left to cut, or the session lets the agent speak on, or it was cut."""
    detection = {"type": "server_vad", "interrupt_response": why != "goes on"}
    stream.received(event("session.created", session={"turn_detection": detection}))
    stream.at(1_000).received(sound("a", 2_000), said("a", "One two three four"), done("r"))
    stream.at(2_950 if why == "near its end" else 2_000).received(started("u", 1_700))
    if why == "truncated":
        stream.received(event("conversation.item.truncated", item_id="a", audio_end_ms=2_000))
    stream.received(event("input_audio_buffer.committed", item_id="z" if why == "no turn" else "u"))
    assert stream.words() == [("AGENT", "One two three four")]


@pytest.mark.parametrize("value", [float("nan"), "1460", None, [], 10**400])
def test_a_place_that_is_no_number_is_now(value: Any, stream: Stream) -> None:
    """The words stand, and what was heard of a reply is what had played."""
    stream.at(1_000).received(started("u", value), stopped("u", value), heard("u", "Hello"))
    stream.received(sound("a", 1_000), said("a", "One two three")).at(1_400)
    stream.received(event("conversation.item.truncated", item_id="a", audio_end_ms=value))
    assert stream.words() == [("USER", "Hello"), ("AGENT", f"One two{CUT}")]


def test_a_live_session_without_times_stands_where_its_words_came(stream: Stream) -> None:
    """Translations have the same events, and tell no times."""
    pieces = [(500, "Ho", "Hel"), (900, "la", "lo,"), (1_300, " Ana.", " Ana."), (9_000, " Si.", " Yes.")]
    for at, heard_now, spoken in pieces:  # both sides at once, and not in turns
        stream.at(at).received(event("session.input_transcript.delta", delta=heard_now))
        stream.received(event("session.output_transcript.delta", delta=spoken))
    assert stream.words() == [("USER", "Hola Ana."), ("AGENT", "Hello, Ana."), ("USER", "Si."), ("AGENT", "Yes.")]
    assert stream.said()[1] == (501, 1_300, "AGENT", "Hello, Ana.")


def test_a_reply_that_waits_behind_the_one_that_was_cut_is_dropped_however_late_the_turn_is_committed(
    stream: Stream,
) -> None:
    """By then it would have been heard: the barge-in counts, not the commit."""
    stream.received(sound("a", 1_500), said("a", "One two three."), sound("b", 1_500), said("b", "Four."), done("r"))
    stream.at(800).received(started("u"))
    stream.at(1_700).received(stopped("u"), event("input_audio_buffer.committed", item_id="u"), heard("u", "Stop."))
    assert stream.words() == [("AGENT", f"One two{CUT}"), ("USER", "Stop.")]
    assert stream.events() == [INTERRUPTED]


def test_a_transcription_that_failed_is_told_once(stream: Stream) -> None:
    """However often the service says so."""
    failed = event("conversation.item.input_audio_transcription.failed", item_id="u", error={"code": "x"})
    stream.received(failed, failed)
    assert stream.events() == ["Transcription failed"]


def test_a_call_whose_arguments_are_never_told_to_be_whole_began_with_their_last_piece(stream: Stream) -> None:
    """Its answer shows that they were; it does not tell when."""
    item = {"type": "function_call", "call_id": "c", "name": "f", "status": "in_progress", "arguments": ""}
    stream.received(event("response.output_item.added", response_id="r", item=item))
    for at, piece in ((100, '{"a":'), (200, "1}")):
        delta = {"call_id": "c", "response_id": "r", "delta": piece}
        stream.at(at).received(event("response.function_call_arguments.delta", **delta))
    output = {"type": "function_call_output", "call_id": "c", "output": "done"}
    stream.at(900).sent(event("conversation.item.create", item=output))
    assert stream.tools() == [("f", {"a": 1}, "done")]
    assert (stream.report.tool_calls or [])[0].start_offset_ms == 200
