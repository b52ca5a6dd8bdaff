"""What Twilio ConversationRelay, Cartesia Line, Hume EVI and Ultravox become in a report."""

from __future__ import annotations

from typing import Any

import pytest

from bluejay_ws.integrations.cartesia_line import CartesiaLineTap
from bluejay_ws.integrations.conversation_relay import ConversationRelayTap
from bluejay_ws.integrations.hume import HumeTap
from bluejay_ws.integrations.ultravox import UltravoxTap
from tests.integrations.streams import Stream, audio, pcm

INTERRUPTED = "Caller interrupted the agent"
FAILED = {"status": "failed", "message": "no"}


def event(kind: str, **fields: Any) -> dict[str, Any]:
    """Return a message."""
    return {"type": kind, **fields}


def test_conversation_relay_tells_what_was_heard() -> None:
    """Prompts and tokens come in pieces; what was queued after the cut text was never heard."""
    stream = Stream(ConversationRelayTap).received(event("setup"), event("prompt", voicePrompt="Hel", last=False))
    stream.at(500).received(event("prompt", voicePrompt="lo.", last=True))
    stream.at(1_000).sent(event("text", token="One two "), event("text", token="three", last=True))
    stream.sent(event("text", token="Never", last=True))
    stream.at(1_800).received(event("interrupt", utteranceUntilInterrupt="One two", durationUntilInterruptMs=800))
    stream.received(event("dtmf", digit="5"), event("error", description="x"), event("new"))
    stream.received(event("interrupt", utteranceUntilInterrupt=""))
    assert stream.said() == [(0, 500, "USER", "Hello."), (1_000, 1_800, "AGENT", "One two")]
    assert stream.events() == [INTERRUPTED, "DTMF", "Error of the model's service", INTERRUPTED]
    assert stream.call.counters["tap.unknown.twilio"] == 1


@pytest.mark.parametrize(
    ("told", "heard"),
    [("One two. Three", ["One two.", "Three"]), ("Three", ["One two.", "Three"]), ("Else", ["One two.", "Else"])],
)
def test_conversation_relay_may_tell_what_was_heard_of_two_texts_at_once(told: str, heard: list[str]) -> None:
    """The first was heard whole; words that are in neither are the last one's."""
    stream = Stream(ConversationRelayTap)
    stream.sent(event("text", token="One two.", last=True), event("text", token="Three four.", last=True))
    stream.at(1_500).received(event("interrupt", utteranceUntilInterrupt=told, durationUntilInterruptMs=1_500))
    assert stream.words() == [("AGENT", text) for text in heard]


def test_cartesia_tells_the_agents_side_what_was_spoken() -> None:
    """Committed text counts; the plan does not; a tool call comes with its result the second time."""
    stream = Stream(CartesiaLineTap).received(event("start"), event("user_state", value="speaking"))
    stream.at(500).received(event("user_state", value="idle"), event("message", content="Hello."))
    stream.sent(event("message", content="One two three"), event("tool_call", id="c", name="f", arguments={"a": 1}))
    stream.at(1_000).received(event("agent_state", value="speaking"), event("agent_speech", content="One"))
    stream.at(1_500).received(event("agent_speech", content="two"), event("user_state", value="speaking"))
    stream.sent(event("tool_call", id="c", name="f", arguments={"a": 1}, result="ok"), event("end_call"))
    stream.sent(event("transfer", target_phone_number="1"), event("error", content="x"))
    stream.received(event("dtmf", button="1"), event("message", content="Stop."), event("message", content="Now."))
    assert stream.words() == [("USER", "Hello."), ("AGENT", "One two"), ("USER", "Stop. Now.")]
    assert stream.tools() == [("f", {"a": 1}, "ok")]
    assert stream.events()[0] == INTERRUPTED
    assert len(stream.events()) == 5


def test_cartesias_plan_counts_where_nothing_else_is_told() -> None:
    """Older platforms do not commit text."""
    stream = Stream(CartesiaLineTap).sent(event("message", content="Hello "), event("message", content="you."))
    assert stream.words() == [("AGENT", "Hello you.")]


def test_cartesia_tells_the_callers_side_whole_turns() -> None:
    """Tools stand at the end of a turn, and again in the next one after a handoff."""
    turn = {"role": "assistant", "text": "Hi.", "tool_calls": [{"name": "f", "arguments": {}, "result": 1}]}
    stream = Stream(CartesiaLineTap).received({"event": "turn_started", "turn_started": {"role": "user"}})
    stream.at(500).received(event("turn_ended", turn_ended={"role": "user", "text": "Hello."}))
    stream.at(600).received(event("turn_started", turn_started={"role": "assistant"}), event("clear"), event("clear"))
    stream.at(900).received(event("turn_ended", turn_ended=turn), event("turn_ended", turn_ended={**turn, "text": ""}))
    assert stream.said() == [(0, 500, "USER", "Hello."), (600, 900, "AGENT", "Hi.")]
    assert (stream.tools(), stream.events()) == ([("f", {}, 1)], [INTERRUPTED])


def test_hume() -> None:
    """Times are positions in the audio; interim texts and typed ones were not said; each sentence has its audio."""
    stream = Stream(HumeTap).sent(event("session_settings", audio={"sample_rate": 16_000}, tools=[{"name": "f"}]))
    stream.at(2_000).sent(event("audio_input", data=audio(1_000, 16_000)))
    stream.received(event("user_message", message={"content": "He"}, interim=True))
    stream.received(event("user_message", message={"content": "Hello."}, time={"begin": 100, "end": 900}))
    stream.received(event("user_message", message={"content": "typed"}, from_text=True))
    stream.received(event("assistant_message", id="a", message={"content": "Hm."}, is_quick_response=True))
    piece = event("audio_output", id="a", index=0, data=audio(1_000, 48_000))
    stream.received(piece, piece, event("assistant_message", id="b", message={"content": "One two three four"}))
    stream.received(event("audio_output", id="b", index=0, data=audio(1_000, 48_000)))
    stream.at(3_500).received(event("user_interruption", time=1))
    stream.received(event("user_message", message={"content": "Stop."}), event("assistant_end"), event("new"))
    for name, required in (("f", True), ("g", True), ("h", False)):
        call = event("tool_call", tool_call_id=name, name=name, parameters="{}", response_required=required)
        stream.received(call)
    stream.sent(
        event("tool_response", tool_call_id="f", content="1"), event("tool_error", tool_call_id="g", error="no")
    )
    stream.received(event("error", message="x"))
    assert stream.said()[:2] == [(1_100, 1_900, "USER", "Hello."), (2_000, 2_999, "AGENT", "Hm.")]
    assert stream.words()[2:] == [("AGENT", "One two three…"), ("USER", "Stop.")]
    assert stream.tools() == [("f", {}, 1), ("g", {}, FAILED), ("h", {}, None)]
    assert stream.events() == ["Text sent to the model", INTERRUPTED, "Error of the model's service"]


def test_ultravox() -> None:
    """The caller's texts are final; the agent's come in pieces, by their number."""

    def text(role: str, number: int, **fields: Any) -> dict[str, Any]:
        return event("transcript", role=role, ordinal=number, medium="voice", **fields)

    stream = Stream(UltravoxTap).sent(pcm(100, 48_000)).received(text("user", 1, text="He"))
    stream.at(500).received(text("user", 1, text="Hello.", final=True), pcm(1_000, 48_000))
    stream.received(text("agent", 2, delta="One two"), text("agent", 2, delta=" three four"), event("state"))
    stream.received(text("agent", 2, text="One two three four", final=True)).at(1_000)
    stream.received(event("playback_clear_buffer"), event("playback_clear_buffer"), text("agent", 3, text="Bye."))
    stream.received(event("transcript", role="user", medium="text", text="typed", final=True), event("new"))
    stream.sent(event("user_text_message", text="typed"))
    for name in ("f", "g"):
        stream.received(event("client_tool_invocation", toolName=name, invocationId=name, parameters={}))
    stream.sent(event("client_tool_result", invocationId="f", result="1"))
    stream.sent(event("client_tool_result", invocationId="g", errorType="x", errorMessage="no"))
    assert stream.words() == [("USER", "Hello."), ("AGENT", "One two three…"), ("AGENT", "Bye.")]
    assert stream.tools() == [("f", {}, 1), ("g", {}, FAILED)]
    assert stream.events() == [INTERRUPTED, INTERRUPTED, *["Text sent to the model"] * 2]


@pytest.mark.parametrize(("final", "expected"), [("One two", "One two"), ("One two three four five six", "One…")])
def test_ultravox_cuts_a_text_itself_or_leaves_it_whole(final: str, expected: str) -> None:
    """A final text that is shorter than its pieces is what was heard; a whole one is cut here."""
    words = {"type": "transcript", "role": "agent", "medium": "voice", "ordinal": 1}
    stream = Stream(UltravoxTap).at(200)
    stream.received({**words, "delta": "One two three four five six"}, pcm(3_000, 48_000)).at(700)
    stream.received({"type": "playback_clear_buffer"}, {**words, "text": final, "final": True})
    assert stream.words() == [("AGENT", expected)]


def test_ultravox_empties_what_waits_behind_the_reply_that_plays() -> None:
    """Both replies were sent long before they were heard."""
    stream = Stream(UltravoxTap)
    for ordinal, words in ((1, "One two three"), (2, "Four five six")):
        stream.received(event("transcript", role="agent", ordinal=ordinal, delta=words), pcm(2_000, 48_000))
    stream.at(1_000).received(event("playback_clear_buffer"))
    assert stream.said() == [(0, 1_000, "AGENT", "One two…")]


def test_cartesia_in_the_wrong_order() -> None:
    """A text without a state, a state told twice, a turn of nobody's."""
    stream = Stream(CartesiaLineTap).received(event("user_state", value="idle"), event("agent_state", value="idle"))
    stream.received(event("agent_state", value="speaking"), event("user_state", value="speaking"))
    stream.received(event("user_state", value="speaking"), event("turn_ended", turn_ended={"role": "user"}))
    stream.at(500).received(event("agent_state", value="speaking"), event("agent_speech", content="One"))
    stream.received(event("agent_state", value="speaking"), event("agent_speech", content="Two"))
    stream.sent(event("message", content="not counted"), event("tool_call", name="f", arguments={}))
    stream.received(event("turn_ended", turn_ended={"role": "user", "text": "Hi."}))
    assert {words for _, words in stream.words()} == {"One", "Two", "Hi."}
    assert stream.events() == [INTERRUPTED]
    assert stream.tools() == [("f", {}, {"status": "interrupted"})]


def test_ultravox_and_hume_without_the_usual() -> None:
    """A text-only reply, an empty text, audio without a number, a tool that nobody asked for."""
    stream = Stream(UltravoxTap).received(event("transcript", role="agent", medium="voice", ordinal=1))
    stream.received(event("transcript", role="agent", medium="text", ordinal=2, final=True, text="Written."))
    stream.received(event("transcript", role="user", medium="text", ordinal=3))
    stream.sent(event("input_text_message"))
    assert (stream.words(), stream.events()) == ([], ["Text reply of the model"])
    hume = Stream(HumeTap).sent(event("session_settings", audio={}, tools=[{}]))
    hume.received(event("audio_output", data=audio(100, 48_000)), event("audio_output", data=audio(100, 48_000)))
    assert hume.words() == []


def test_cartesia_tool_calls_without_an_id_are_as_many_as_there_were() -> None:
    """On the agent's side each comes twice: as it begins, and with its result."""
    call, stream = event("tool_call", name="f", arguments={"a": 1}), Stream(CartesiaLineTap)
    stream.sent(call, {**call, "result": "1"}, call, {**call, "result": "2"}, {**call, "name": "g", "result": "3"})
    assert stream.tools() == [("f", {"a": 1}, 1), ("f", {"a": 1}, 2), ("g", {"a": 1}, 3)]


def test_conversation_relay_tells_how_the_agent_leaves() -> None:
    """A handoff has its data; keys that the agent presses are events too."""
    stream = Stream(ConversationRelayTap).sent(event("sendDigits", digits="1w2"), event("end", handoffData="{}"))
    assert stream.events() == ["The agent sent DTMF", "The agent ended the call"]
    assert stream.report.events is not None
    assert stream.report.events[1].metadata == {"handoff": "{}"}


def test_hume_tells_one_interruption_twice_and_words_that_had_no_audio() -> None:
    """Equal times are one; what was to come after it was not heard; who broke in began then."""
    stream = Stream(HumeTap).at(1_000)
    stream.received(event("assistant_message", id="m", message={"content": "One two three four"}))
    stream.received(event("audio_output", id="m", index=0, data=audio(2_000, 48_000)))
    stream.received(event("assistant_message", id="n", message={"content": "Five."})).at(2_000)
    stream.received(event("user_interruption", time=5), event("user_interruption", time=5)).at(2_500)
    stream.received(event("user_message", message={"content": "Stop."}))
    assert stream.said() == [(1_000, 2_000, "AGENT", "One two three…"), (2_000, 2_500, "USER", "Stop.")]
    assert stream.events() == [INTERRUPTED]


def test_words_that_come_before_their_audio_stand_where_that_is_heard() -> None:
    """Also those of the second reply, which waits for the first one to be played."""
    stream = Stream(HumeTap).at(100)
    for name, text in (("a", "Hello."), ("b", "How are you?")):
        stream.received({"type": "assistant_message", "id": name, "message": {"content": text}})
    for name in ("a", "b"):
        stream.received({"type": "audio_output", "id": name, "index": 0, "data": audio(1_000, 48_000)})
    assert stream.said() == [(100, 1_099, "AGENT", "Hello."), (1_099, 2_098, "AGENT", "How are you?")]


def test_cartesias_last_word_on_a_reply_that_was_cut_counts() -> None:
    """What was spoken of it may come after the caller's first sound, in pieces; the plan was longer."""
    stream = Stream(CartesiaLineTap).received(event("agent_state", value="speaking"))
    stream.sent(event("message", content="One two three four.")).at(900).received(event("user_state", value="speaking"))
    stream.received(event("agent_speech", content="One"), event("agent_speech", content="two")).at(1_500)
    stream.received(event("user_state", value="idle"), event("message", content="Stop."))
    assert stream.said() == [(1, 901, "AGENT", "One two"), (900, 1_500, "USER", "Stop.")]
    assert stream.events() == ["Caller interrupted the agent"]


def test_cartesia_tells_the_callers_words_before_the_end_of_speech() -> None:
    """In one message or in several; the end comes last, and the next turn is another."""
    stream = Stream(CartesiaLineTap).at(100).received(event("user_state", value="speaking"))
    stream.at(800).received(event("message", content="I want")).at(1_500).received(event("message", content="pizza."))
    stream.at(1_600).received(event("user_state", value="idle")).at(2_000).received(event("message", content="Please."))
    for at, text in ((3_000, "Now."), (4_000, "Quick.")):
        stream.at(at).received(event("user_state", value="speaking"), event("message", content=text))
    assert stream.said() == [
        (100, 1_600, "USER", "I want pizza."),
        (2_000, 2_000, "USER", "Please."),
        (3_000, 3_000, "USER", "Now."),
        (4_000, 4_000, "USER", "Quick."),
    ]


@pytest.mark.parametrize("texts", [True, False])
def test_cartesias_sdk_has_other_names_for_the_same(texts: bool) -> None:
    """The end of a turn repeats its texts; an agent may take no other events than that."""

    def turn(who: str, at: int, words: str) -> None:
        said = [event(f"{who}_text_sent", content=word) for word in words.split("|")]
        if texts:
            stream.received(event(f"{who}_turn_started"), *said)
        stream.at(at).received(event(f"{who}_turn_ended", content=said))

    stream = Stream(CartesiaLineTap).received(event("call_started"))
    turn("user", 1_000, "I want|pizza.")
    asked: dict[str, Any] = {"tool_call_id": "t", "tool_name": "order", "tool_args": {"n": 1}}
    stream.sent(event("agent_tool_called", **asked), event("agent_tool_returned", **asked, result={"ok": True}))
    stream.sent(event("agent_send_text", text="It comes, I think."))
    turn("agent", 3_000, "It|comes.")
    stream.sent(event("agent_transfer_call", target_phone_number="+1")).received(event("user_dtmf_sent", button="5"))
    assert stream.words() == [("USER", "I want pizza."), ("AGENT", "It comes.")]
    assert stream.tools() == [("order", {"n": 1}, {"ok": True})]
    assert stream.events() == ["The agent transferred the call", "DTMF"]
    assert not any("unknown" in name for name in stream.call.counters.snapshot())
