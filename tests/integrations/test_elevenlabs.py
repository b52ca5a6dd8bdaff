"""What the messages of an ElevenLabs Agents connection become in a report; their shapes are as recorded."""

from __future__ import annotations

from typing import Any

import pytest

from bluejay_ws.integrations.elevenlabs import ElevenLabsTap
from tests.integrations.streams import Stream, audio, pcm
from tests.integrations.test_tap import observed_call

CUT = "…"
INTERRUPTED = "Caller interrupted the agent"
FORMATS = {"agent_output_audio_format": "pcm_16000", "user_input_audio_format": "pcm_16000"}


def event(kind: str, name: str | None = None, **fields: Any) -> dict[str, Any]:
    """Return a message of the server's."""
    return {"type": kind, name or f"{kind}_event": fields}


def sound(ms: float, number: int, **fields: Any) -> dict[str, Any]:
    """Return audio of the agent's."""
    return event("audio", audio_base_64=audio(ms, 16_000), event_id=number, **fields)


def heard(text: str, number: int) -> dict[str, Any]:
    """Return what the caller said."""
    return event("user_transcript", "user_transcription_event", user_transcript=text, event_id=number)


def said(text: str, number: int, response: str = "r") -> dict[str, Any]:
    """Return what the agent says."""
    return event("agent_response", agent_response=text, event_id=number, response_id=response)


@pytest.fixture
def stream() -> Stream:
    """Give a stream that has begun."""
    return Stream(ElevenLabsTap).received(event("conversation_initiation_metadata", **FORMATS))


def test_what_the_provider_calls_a_correction_is_what_was_said(stream: Stream) -> None:
    """As recorded: the reply was complete, then it was cut by what the caller typed."""
    stream.at(1_453).received(sound(2_000, 1), said("It is [warmly] sunny in Berlin.", 1))
    stream.at(1_656).received(event("interruption", event_id=2))
    correction: dict[str, Any] = {
        "original_agent_response": "It is",
        "corrected_agent_response": "It...",
        "event_id": 1,
    }
    stream.received(event("agent_response_correction", response_id="r", **correction), sound(100, 1))
    stream.at(2_188).received(sound(400, 2), said("You're welcome.", 2, "s"))
    assert stream.said() == [(1_453, 1_656, "AGENT", "It..."), (2_188, 2_588, "AGENT", "You're welcome.")]
    assert stream.events() == [INTERRUPTED]


def test_a_reply_that_was_open_comes_already_cut(stream: Stream) -> None:
    """As recorded: no correction; the caller's text comes 3 s after the caller has begun."""
    for number in range(66):
        stream.at(100 + number * 100).sent({"user_audio_chunk": audio(100, 16_000, loud=number < 20 or number >= 60)})
    stream.received(heard("A story, please.", 23), sound(5_000, 23)).at(6_828)
    stream.received(event("interruption", event_id=39), said("Elias...", 23), sound(900, 23))
    stream.at(10_188).received(heard("Stop there.", 54), sound(500, 54), said("Goodbye.", 54, "s"))
    assert stream.words() == [
        ("USER", "A story, please."),
        ("USER", "Stop there."),
        ("AGENT", "Elias..."),
        ("AGENT", "Goodbye."),
    ]
    assert [start for start, *_ in stream.said()] == [0, 6_000, 6_600, 10_188]
    assert (stream.report.events or [])[0].start_offset_ms == 6_000


def test_a_correction_is_enough(stream: Stream) -> None:
    """The agent may not tell of interruptions; they may come in any order, and the whole text last."""
    correction: dict[str, Any] = {"corrected_agent_response": "It is...", "event_id": 1, "response_id": "r"}
    cut = event("agent_response_correction", **correction)
    stream.received(sound(2_000, 1), said("It is sunny in Berlin.", 1)).at(500).received(cut, cut)
    stream.received(event("interruption", event_id=2)).at(3_000).received(sound(2_000, 5)).at(3_500)
    stream.received(event("interruption", event_id=6), event("interruption", event_id=6))
    stream.received(event("agent_response_correction", **{**correction, "event_id": 5, "response_id": "s"}))
    stream.received(said("It is raining.", 5, "s"), event("agent_response_correction", event_id=99))
    assert stream.said() == [(0, 500, "AGENT", "It is..."), (3_000, 3_500, "AGENT", "It is...")]
    assert stream.events() == [INTERRUPTED, INTERRUPTED]


def test_a_text_that_comes_before_its_audio_stands_where_that_begins(stream: Stream) -> None:
    """Without any it stands where it came."""
    stream.at(1_000).received(said("It is sunny.", 1)).at(1_700).received(sound(2_000, 1))
    stream.at(5_000).received(said("No audio.", 2, "s"), heard("Hm", 3), said("Bye.", 4, "t"))
    assert [(start, text) for start, _, _, text in stream.said()] == [
        (1_700, "It is sunny."),
        (5_000, "No audio."),
        (5_000, "Hm"),
        (5_000, "Bye."),
    ]


def test_where_the_agents_audio_does_not_pass_its_texts_are_said_all_the_same(stream: Stream) -> None:
    """It may go another way, as over WebRTC; only the setting tells that a conversation is a chat."""
    stream.at(300).received(said("It is sunny.", 1)).at(900).sent({"type": "user_message", "text": "Thanks"})
    stream.at(1_500).received(heard("And now?", 2)).at(2_000).received(said("Rain.", 3, "s"))
    assert stream.said() == [
        (300, 300, "AGENT", "It is sunny."),
        (1_500, 1_500, "USER", "And now?"),
        (2_000, 2_000, "AGENT", "Rain."),
    ]
    assert stream.events() == ["Text sent to the model"]


def test_texts_without_a_number_are_each_an_utterance(stream: Stream) -> None:
    """Nothing pairs them."""
    text = {"type": "user_transcript", "user_transcription_event": {"user_transcript": "Yes."}}
    stream.received(text).at(900).received(text)
    assert stream.words() == [("USER", "Yes.")] * 2


def test_without_a_correction_the_alignment_tells_what_was_heard(stream: Stream) -> None:
    """Each stretch counts from where the one before it ends."""
    word = {"chars": list("ab cd"), "char_start_times_ms": [0, 100, 200, 300, 400], "char_durations_ms": [100] * 5}
    stream.received(sound(500, 1, alignment=word), sound(500, 1, alignment=word, is_final=True), said("ab cdab cd", 1))
    stream.at(500).received(event("interruption", event_id=1))
    assert stream.words() == [("AGENT", f"ab cdab{CUT}")]


def test_two_messages_of_one_turn_are_two_utterances(stream: Stream) -> None:
    """Before and after a tool, for example; an empty correction says that one was never heard."""
    stream.received(sound(500, 1, is_final=True), said("One moment.", 1), sound(500, 1), said("It rains.", 1, "s"))
    stream.received(said("And it snows.", 1, "t"))
    stream.received(event("agent_response_correction", corrected_agent_response="", event_id=1, response_id="t"))
    assert stream.said() == [(0, 500, "AGENT", "One moment."), (500, 1_000, "AGENT", "It rains.")]


@pytest.mark.parametrize("told", ["first", "last", "only"])
def test_one_interruption_of_two_messages_is_one(stream: Stream, told: str) -> None:
    """Whether the interruption comes before both corrections, after them, or alone."""
    cuts = [
        event("agent_response_correction", corrected_agent_response=text, event_id=1, response_id=response)
        for text, response in (("One...", "r"), ("", "s"))
    ]
    stream.received(sound(2_000, 1, is_final=True), said("One two three four.", 1, "r"))
    stream.received(sound(2_000, 1), said("Five.", 1, "s"))
    broken = [event("interruption", event_id=2)]
    stream.at(1_000).received(*{"first": broken + cuts, "last": cuts + broken, "only": broken}[told])
    assert stream.words() == [("AGENT", "One..." if told != "only" else "One two three…")]
    assert stream.events() == ["Caller interrupted the agent"]


def test_a_message_that_was_heard_whole_is_told_again_and_is_no_second_interruption(stream: Stream) -> None:
    """Each message of the turn has its correction; of the first, nothing was left out."""
    stream.received(sound(1_000, 1), said("The first one.", 1, "r"), sound(2_000, 2), said("The second one.", 2, "s"))
    stream.at(1_500).received(event("interruption", event_id=3))
    for event_id, response, text in ((1, "r", "The first one."), (2, "s", "The second...")):
        facts: dict[str, Any] = {"corrected_agent_response": text, "event_id": event_id, "response_id": response}
        stream.received(event("agent_response_correction", **facts))
    assert stream.said() == [(0, 1_000, "AGENT", "The first one."), (1_000, 1_500, "AGENT", "The second...")]
    assert stream.events() == ["Caller interrupted the agent"]


def test_voice_detection_places_the_caller(stream: Stream) -> None:
    """Where the agent has it among its events."""
    for at, score in ((100, 0.1), (1_000, 0.9), (1_500, 0.8), (2_000, 0.2)):
        stream.at(at).received(event("vad_score", vad_score=score))
    stream.at(4_000).received(heard("Hello.", 1), heard("Hello!", 1))
    assert stream.said() == [(1_000, 1_500, "USER", "Hello!")]


def tool(kind: str, key: str, **fields: Any) -> dict[str, Any]:
    """Return a message about a tool."""
    return event(kind, kind, tool_call_id=key, tool_name=key, **fields)


def test_tools_of_the_client_and_of_the_server(stream: Stream) -> None:
    """A server's tool tells its output only where that is asked for; handing over and ending the call are tools."""
    stream.received(tool("client_tool_call", "f", parameters={"city": "Berlin"}, expects_response=True))
    stream.received(tool("client_tool_call", "g", parameters={}), tool("client_tool_call", "h", expects_response=False))
    stream.sent({"type": "client_tool_result", "tool_call_id": "f", "result": "sunny", "is_error": False})
    stream.received(tool("agent_tool_response", "f", tool_type="client", status="success"))
    stream.sent({"type": "client_tool_result", "tool_call_id": "g", "result": "no", "is_error": True})
    stream.received(tool("client_tool_call", "i"), tool("agent_tool_response", "i", tool_type="client", is_error=True))
    stream.received(tool("agent_tool_request", "hook"), tool("agent_tool_response", "hook", status="success"))
    stream.received(tool("agent_tool_response_full_payload", "hook", full_tool_result='{"a": 1}'))
    stream.received(tool("agent_tool_response_full_payload", "bad", full_tool_result="no", is_error=True))
    stream.received(tool("agent_tool_response", "full", full_tool_result="x"))
    stream.received(
        tool("agent_tool_response", "transfer_to_agent"), tool("agent_tool_response", "shy", is_blocked=True)
    )
    stream.received(tool("agent_tool_response", "end_call", is_error=True, status="error"), said("Bye.", 1))
    failed = {"status": "failed", "message": "no"}
    assert [(name, output) for name, _, output in stream.tools()] == [
        *[("f", "sunny"), ("g", failed), ("h", None), ("i", {"status": "failed", "message": "failed"})],
        *[
            ("hook", {"a": 1}),
            ("bad", failed),
            ("full", "x"),
            ("transfer_to_agent", None),
            ("shy", {"status": "blocked"}),
        ],
        ("end_call", {"status": "failed", "message": "error"}),
    ]


def test_tools_of_mcp_servers(stream: Stream) -> None:
    """They go through states."""
    stream.received(tool("mcp_tool_call", "a", state="loading", parameters={"q": 1}, tool_description="Ask."))
    stream.received(tool("mcp_tool_call", "a", state="success", result=[1]))
    stream.received(tool("mcp_tool_call", "b", state="failure", error_message="down"))
    assert stream.tools() == [("a", {"q": 1}, [1]), ("b", {}, {"status": "failed", "message": "down"})]


def test_a_chat_is_not_spoken(stream: Stream) -> None:
    """Typed text and text-only replies are events."""
    override = {"conversation_config_override": {"conversation": {"text_only": True}}}
    stream.sent({"type": "conversation_initiation_client_data", **override}, {"type": "user_message", "text": "Hi"})
    stream.received(
        said("Hello.", 1), event("guardrail_triggered"), event("client_error", "error_event", code=1, message="x")
    )
    stream.received(event("context_usage", model="m", context_tokens=5), event("ping"), {"type": "internal_x"})
    stream.received({"type": "new"}, event("error", message="y"))
    errors = ["A guardrail was triggered", *["Error of the model's service"] * 2]
    assert stream.events() == ["Text sent to the model", "Text reply of the model", *errors]
    assert stream.metadata() == {"elevenlabs_model": "m", "elevenlabs_usage": {"context_tokens": 5}}
    assert stream.call.counters["tap.unknown.elevenlabs"] == 1


def test_an_interruption_of_nobody_and_a_text_where_frames_are_observed() -> None:
    """The agent had not spoken; the call's own frames place what the caller said."""
    call = observed_call()
    tap = ElevenLabsTap(call.recorder)
    tap.event(event("interruption", event_id=1))
    call.recorder.received(pcm(100, 16_000))
    call.clock.sleep(500)
    tap.event(heard("Hello.", 1))
    assert [one.utterance for one in call.report().recorded_transcript or []] == ["Hello."]


def test_a_tool_that_the_user_refused_is_denied(stream: Stream) -> None:
    """MCP tools may wait for approval."""
    call = {"tool_call_id": "m", "state": "awaiting_approval", "tool_name": "pay", "parameters": {"n": 1}}
    stream.received({"type": "mcp_tool_call", "mcp_tool_call": call})
    stream.sent({"type": "mcp_tool_approval_result", "tool_call_id": "m", "is_approved": True})
    stream.sent({"type": "mcp_tool_approval_result", "tool_call_id": "m", "is_approved": False})
    assert stream.tools() == [("pay", {"n": 1}, {"status": "denied"})]


def test_event_ids_may_be_text(stream: Stream) -> None:
    """What comes of the reply after its interruption is stale all the same."""
    stream.at(1_000).received({"type": "audio", "audio_event": {"audio_base_64": audio(500, 16_000), "event_id": "7"}})
    stream.received({"type": "interruption", "interruption_event": {"event_id": "8"}})
    stream.received({"type": "audio", "audio_event": {"audio_base_64": audio(500, 16_000), "event_id": "7"}})
    assert stream.call.counters.snapshot() == {}
