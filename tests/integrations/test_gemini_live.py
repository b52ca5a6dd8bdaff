"""What the messages of a Gemini Live connection become in a report; their shapes are those of recorded streams."""

from __future__ import annotations

from datetime import timedelta
from types import SimpleNamespace
from typing import Any

import pytest

from bluejay_ws.integrations.gemini_live import GeminiLiveTap
from tests.integrations.streams import Stream, audio, pcm

CUT = "…"
INTERRUPTED = "Caller interrupted the agent"


def content(**fields: Any) -> dict[str, Any]:
    """Return a message of the server's."""
    return {"serverContent": fields}


def heard(text: str, **fields: Any) -> dict[str, Any]:
    """Return a piece of what the caller said."""
    return content(inputTranscription={"text": text, **fields})


def spoke(text: str, **fields: Any) -> dict[str, Any]:
    """Return a piece of what the model says."""
    return content(outputTranscription={"text": text}, **fields)


def sound(ms: float) -> dict[str, Any]:
    """Return audio of the model's."""
    return {"parts": [{"inlineData": {"mimeType": "audio/pcm;rate=24000", "data": audio(ms)}}]}


def microphone(ms: float, *, loud: bool = True) -> dict[str, Any]:
    """Return the caller's audio, as google-genai sends it."""
    return {"realtime_input": {"audio": {"data": audio(ms, 16_000, loud=loud), "mime_type": "audio/pcm;rate=16000"}}}


def activity(kind: str, offset: Any) -> dict[str, Any]:
    """Return where the service heard the caller."""
    return {"voiceActivity": {"voiceActivityType": f"ACTIVITY_{kind}", "audioOffset": offset}}


@pytest.fixture
def stream() -> Stream:
    """Give a stream."""
    return Stream(GeminiLiveTap)


def test_speech_without_times_is_heard_in_the_audio_that_was_sent(stream: Stream) -> None:
    """Models 2.5 say nothing of when the caller spoke; pieces may come after the reply has begun."""
    for number in range(20):
        stream.at(100 + number * 100).sent(microphone(100, loud=5 <= number < 15))
    stream.received(heard(" Hello"), heard(","), content(modelTurn={"parts": [{"text": "Hm", "thought": True}]}))
    stream.at(2_500).received(spoke("Hello, Marcelo."), content(modelTurn=sound(1_000)), heard(" my name is Marcelo."))
    stream.received(content(generationComplete=True), content(turnComplete=True))
    assert stream.said() == [
        (500, 1_500, "USER", "Hello, my name is Marcelo."),
        (2_500, 3_500, "AGENT", "Hello, Marcelo."),
    ]


def test_speech_with_times_stands_at_its_position_in_the_audio(stream: Stream) -> None:
    """Models 3.x give positions, whole texts, and words inside the audio."""
    for number in range(30):
        stream.at(1_100 + number * 100).sent(microphone(100))
    stream.received(activity("START", "0.880s"), heard("Hello.", finished=True), activity("END", "2s"), {}, content())
    stream.at(5_000).received(
        spoke("Nice ", modelTurn=sound(500)), spoke("to meet", modelTurn=sound(500)), spoke(" you.")
    )
    assert stream.said() == [(1_880, 4_000, "USER", "Hello."), (5_000, 6_000, "AGENT", "Nice to meet you.")]


def test_text_that_comes_first_only_after_the_reply_began_stands_before_it(stream: Stream) -> None:
    """Transcription and speech are not in step."""
    stream.at(1_000).received(content(modelTurn=sound(500)), spoke("Hi.")).at(1_200).received(heard("Hello?"))
    assert stream.words() == [("USER", "Hello?"), ("AGENT", "Hi.")]


def test_an_interrupted_reply_is_cut_to_what_had_played(stream: Stream) -> None:
    """As recorded: the whole reply, then generationComplete, interrupted and turnComplete; then the caller's words."""
    stream.at(1_000).received(spoke("One two three four five six seven eight"), content(modelTurn=sound(4_000)))
    stream.received(content(generationComplete=True)).at(2_000).received(content(interrupted=True))
    stream.received(content(turnComplete=True)).received(heard(" Stop"), heard(" it."), spoke("All right."))
    stream.at(3_000).received(content(modelTurn=sound(500)), content(turnComplete=True))
    expected = [("AGENT", f"One two three{CUT}"), ("USER", "Stop it."), ("AGENT", "All right.")]
    assert (stream.words(), stream.events()) == (expected, [INTERRUPTED])


def test_words_inside_the_audio_cut_exactly(stream: Stream) -> None:
    """Where a piece of text comes with its audio, the cut is where the words were."""
    stream.received(spoke("Yes. ", modelTurn=sound(1_000)), spoke("Then a lot of words come", modelTurn=sound(1_000)))
    stream.received(activity("START", None)).at(1_000).received(content(interrupted=True), content(turnComplete=True))
    assert stream.words() == [("AGENT", f"Yes.{CUT}")]
    assert (stream.report.events or [])[0].start_offset_ms == 1


def test_a_second_utterance_of_the_caller_is_another(stream: Stream) -> None:
    """Manual activity detection marks them; so does a text that is finished, or the end of a turn."""
    stream.sent({"realtimeInput": {"activityStart": {}}}).at(500).sent({"realtimeInput": {"activityEnd": {}}})
    stream.received(heard("One.", finished=True), heard("Two."), content(turnComplete=True), heard("Three."))
    stream.at(900).received({"voiceActivityDetectionSignal": {"vadSignalType": "VAD_SIGNAL_TYPE_SOS"}}, heard("Four."))
    assert [text for _, text in stream.words()] == ["One.", "Two.", "Three.", "Four."]
    assert stream.said()[0][:2] == (0, 500)


def test_a_finished_text_says_the_whole_once_more(stream: Stream) -> None:
    """Or nothing: either way what follows is another utterance."""
    stream.received(heard("Hello"), heard(" there"), heard("Hello there.", finished=True), heard("", finished=True))
    stream.received(heard("And"), heard(" now"), heard("", finished=True), heard("Third."), heard("", finished=True))
    stream.at(9_000).received(spoke("Hi "), content(outputTranscription={"text": "Hi you.", "finished": True}))
    assert [text for _, text in stream.words()] == ["Hello there.", "And now", "Third.", "Hi you."]


def test_a_transcription_may_say_itself_where_it_was(stream: Stream) -> None:
    """In the audio that was sent, which was held back for a second."""
    for number in range(40):
        stream.at(1_100 + number * 100).sent(microphone(100, loud=False))
    stream.received(heard("Hello.", startOffset="1.2s", endOffset="2.5s", finished=True))
    assert stream.said() == [(2_200, 3_500, "USER", "Hello.")]


def test_a_written_reply_counts_though_the_call_ends(stream: Stream) -> None:
    """Its turn was not complete yet."""
    stream.received(content(modelTurn={"parts": [{"text": "Writ"}]}), content(modelTurn={"parts": [{"text": "ten."}]}))
    assert [one.description for one in stream.report.events or []][:-1] == ["Written."]


def test_tools_have_their_outputs_in_what_the_client_sends(stream: Stream) -> None:
    """Several come in one message; an id may be missing; a barge-in withdraws; later answers do not count."""
    declared = {
        "functionDeclarations": [{"name": "f", "description": "Do it."}, {"name": "g", "behavior": "NON_BLOCKING"}]
    }
    stream.sent({"setup": {"model": "models/gemini-x", "tools": [declared]}})
    calls = [{"id": "1", "name": "f", "args": {"some_key": 1}}, {"name": "f", "args": {}}, {"id": "3", "name": "g"}]
    stream.received({"toolCall": {"functionCalls": [*calls, {"id": "4", "name": "h"}]}})

    def answer(**fields: Any) -> dict[str, Any]:
        return {"tool_response": {"function_responses": [fields]}}

    stream.sent(answer(id="1", name="f", response={"output": "done"}), answer(name="f", response={"error": "no"}))
    stream.sent(answer(id="3", name="g", response={"a_b": 1}, will_continue=True))
    stream.sent(answer(id="3", name="g", response={"a_b": 2, "c": 3}))
    stream.received({"toolCallCancellation": {"ids": ["4"]}}).sent(answer(id="4", name="h", response={"output": 1}))
    assert stream.tools() == [
        ("f", {"some_key": 1}, "done"),
        ("f", {}, {"status": "failed", "message": "no"}),
        ("g", {}, {"a_b": 2, "c": 3}),
        ("h", {}, {"status": "cancelled"}),
    ]
    assert b"Do it." in b"".join(stream.call.journal)


def test_what_is_said_before_and_after_a_tool_are_two_utterances(stream: Stream) -> None:
    """A filler, then the answer, in one turn of the model's."""
    stream.received(
        spoke("One moment.", modelTurn=sound(500)), {"toolCall": {"functionCalls": [{"id": "1", "name": "f"}]}}
    )
    stream.sent({"toolResponse": {"functionResponses": {"id": "1", "name": "f", "response": {"output": 5}}}})
    stream.at(2_000).received(spoke("It is five.", modelTurn=sound(500)), content(turnComplete=True))
    assert stream.words() == [("AGENT", "One moment."), ("AGENT", "It is five.")]


def test_code_that_the_service_runs_is_a_tool(stream: Stream) -> None:
    """Its output comes in the same stream."""
    code, result = {"code": "1+1", "language": "PYTHON"}, {"outcome": "OUTCOME_OK", "output": "2"}
    stream.received(content(modelTurn={"parts": [{"executableCode": code}, {"codeExecutionResult": result}]}))
    assert stream.tools() == [("code_execution", code, result)]


def test_what_is_only_written_was_not_said(stream: Stream) -> None:
    """Typed input and text replies are events; usage adds up, the model is named."""
    stream.sent({"setup": {"model": "models/gemini-x"}}, {"realtime_input": {"text": "typed"}})
    turns = [{"role": "user", "parts": [{"text": "Hi"}]}]
    stream.sent({"client_content": {"turns": turns, "turn_complete": True}}, {"clientContent": {"turns": turns[0]}})
    stream.received(content(modelTurn={"parts": [{"text": "Written."}]}), content(turnComplete=True))
    stream.received({"usageMetadata": {"totalTokenCount": 2}}, {"usageMetadata": {"totalTokenCount": 3}})
    stream.received({"goAway": {"timeLeft": "9s"}}, {"setupComplete": {}}, {"newThing": {}})
    typed = ["Text sent to the model"] * 3
    closing = "The model's service is about to close the connection"
    assert (stream.said(), stream.events()) == ([], [*typed, "Text reply of the model", closing])
    assert stream.metadata() == {"gemini_model": "gemini-x", "gemini_usage": {"totalTokenCount": 5}}
    assert stream.call.counters["tap.unknown.gemini"] == 1


def test_the_sdks_own_objects_are_read(stream: Stream) -> None:
    """They have Python's names, bytes and durations."""

    def message(**fields: Any) -> SimpleNamespace:
        return SimpleNamespace(model_dump=lambda **_: fields)

    blob = {"data": b"\x00\x20" * 16_000, "mime_type": "audio/pcm;rate=16000"}
    stream.at(1_000).sent({"realtime_input": {"media_chunks": [blob, {"data": b"x", "mime_type": "image/png"}]}})
    signal = {"voice_activity_type": SimpleNamespace(value="ACTIVITY_START"), "audio_offset": timedelta(seconds=0.5)}
    stream.received(message(voice_activity=signal), message(server_content={"input_transcription": {"text": "Hi"}}))
    stream.received(message(voice_activity={"type": "ACTIVITY_END", "audio_offset": 0.75}))
    assert stream.said()[0][0] == 500


def test_input_of_every_kind(stream: Stream) -> None:
    """Pictures are not heard; the caller's voice may be told by the client; an end without a beginning is nothing."""
    picture = {"data": "AAAA", "mimeType": "image/jpeg"}
    stream.sent({"realtimeInput": {"activityEnd": {}, "text": "", "video": picture}})
    stream.sent({"realtimeInput": {"mediaChunks": [picture, {"data": audio(100, 16_000)}]}})
    stream.received(activity("START", "0s")).sent(microphone(100)).received(activity("PAUSE", None))
    stream.received(activity("START", None), activity("END", None), heard(""), heard("", finished=True), spoke(""))
    stream.received(heard("Hi.", finished=True), content(modelTurn={"parts": [{"inlineData": picture}, {}]}))
    stream.sent({"clientContent": {"turns": [{"role": "user", "parts": [{}]}]}}, {"clientContent": {}}, {"new": 1})
    assert (stream.words(), stream.events()) == ([("USER", "Hi.")], [])


def test_a_barge_in_after_the_turn_cuts_what_still_plays(stream: Stream) -> None:
    """All of the reply came long before it was heard; when nothing plays any more there is nothing to cut."""
    stream.at(100).received(spoke("One two three four"), content(modelTurn=sound(4_000)), content(turnComplete=True))
    stream.at(1_100).received(content(interrupted=True)).at(9_000).received(content(interrupted=True))
    stream.received({"voiceActivity": {"voiceActivityType": "ACTIVITY_START", "audioOffset": timedelta(seconds=1)}})
    stream.received(content(interrupted=True, turnComplete=True))
    assert stream.words() == [("AGENT", f"One{CUT}")]


def test_a_barge_in_cuts_the_reply_that_plays_and_the_one_that_waits_behind_it(stream: Stream) -> None:
    """After a tool the model goes on, long before its first words have been heard."""
    stream.received(spoke("One two three four"), content(modelTurn=sound(4_000)), content(turnComplete=True))
    stream.received(spoke("Five."), content(modelTurn=sound(2_000)))
    stream.at(1_100).received(content(interrupted=True), content(turnComplete=True))
    assert (stream.said(), stream.events()) == ([(0, 1_100, "AGENT", f"One{CUT}")], [INTERRUPTED])


def test_the_late_answer_of_a_cancelled_tool_does_not_part_what_the_agent_says(stream: Stream) -> None:
    """Nothing waited for it."""
    stream.received(
        {"toolCall": {"functionCalls": [{"id": "1", "name": "f"}]}}, {"toolCallCancellation": {"ids": ["1"]}}
    )
    stream.received(spoke("Okay, I"), content(modelTurn=sound(500)))
    stream.sent({"toolResponse": {"functionResponses": [{"id": "1", "name": "f", "response": {"output": "late"}}]}})
    stream.received(spoke(" will not."), content(modelTurn=sound(500)), content(turnComplete=True))
    assert stream.said() == [(0, 1_000, "AGENT", "Okay, I will not.")]
    assert stream.tools() == [("f", {}, {"status": "cancelled"})]


def test_parts_of_messages_are_read_as_the_messages_that_they_belong_to(stream: Stream) -> None:
    """google-genai has objects of them: what its methods take."""
    blob = {"data": pcm(100, 16_000), "mime_type": "audio/pcm;rate=16000"}
    for at in range(100, 1_100, 100):
        stream.at(at).sent({"audio": blob})
    stream.at(2_000).received(heard("Hello."), {"toolCall": {"functionCalls": [{"id": "1", "name": "f"}]}})
    stream.sent({"function_responses": [{"id": "1", "name": "f", "response": {"some_key": 1}}]})
    stream.sent({"turns": [{"role": "user", "parts": [{"text": "Typed."}]}], "turn_complete": True})
    assert (stream.said(), stream.events()) == ([(0, 1_000, "USER", "Hello.")], ["Text sent to the model"])
    assert stream.tools() == [("f", {}, {"some_key": 1})]


def test_a_text_with_a_reply_is_not_said_twice(stream: Stream) -> None:
    """Sentences without spaces between them are put together with one."""
    stream.received(spoke("Hello.", modelTurn={"parts": [{"text": "Hello."}]}), spoke("Nice."))
    stream.received(content(turnComplete=True), {"toolCall": {}}, {"toolCallCancellation": {}}, {"setup_complete": {}})
    assert (stream.words(), stream.events()) == ([("AGENT", "Hello. Nice.")], [])


def test_a_reply_that_was_interrupted_before_its_audio_was_not_said(stream: Stream) -> None:
    """Its text came first. Who broke in began then, though the words come after it."""
    stream.at(1_000).received(content(outputTranscription={"text": "Never heard."})).at(1_400)
    stream.received(content(interrupted=True), content(turnComplete=True)).at(2_000)
    stream.received(content(inputTranscription={"text": "Stop."}), content(turnComplete=True))
    assert stream.said() == [(1_400, 2_000, "USER", "Stop.")]


def test_text_that_comes_behind_its_audio_is_cut_as_if_it_came_with_it(stream: Stream) -> None:
    """Transcription and audio are not in step."""
    stream.at(1_000).received(content(modelTurn=sound(3_000)), spoke("One two three"))
    stream.received(spoke(" four five six")).at(2_000)
    stream.received(content(interrupted=True), content(turnComplete=True))
    assert stream.words() == [("AGENT", f"One two three{CUT}")]


def test_an_answer_has_an_id_where_its_call_had_none_and_none_where_it_had_one(stream: Stream) -> None:
    """The oldest open call of that name is meant."""
    calls = [{"name": "f", "args": {"n": 1}}, {"id": "x", "name": "g"}, {"name": "f", "args": {"n": 2}}]
    stream.received({"toolCall": {"functionCalls": calls}})
    for answer in ({"id": "made", "name": "f"}, {"name": "g"}, {"name": "f"}):
        stream.sent({"toolResponse": {"functionResponses": [{**answer, "response": {"output": answer.get("id")}}]}})
    assert stream.tools() == [("f", {"n": 1}, "made"), ("g", {}, None), ("f", {"n": 2}, None)]
