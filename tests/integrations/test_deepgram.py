"""What the messages of a Deepgram Voice Agent connection become in a report."""

from __future__ import annotations

from typing import Any

import pytest

from bluejay_ws.integrations.deepgram import DeepgramTap
from tests.integrations.streams import Stream, pcm
from tests.integrations.test_tap import observed_call

CUT = "…"
INTERRUPTED = "Caller interrupted the agent"
STARTED: dict[str, Any] = {"type": "UserStartedSpeaking"}
DONE: dict[str, Any] = {"type": "AgentAudioDone"}


def text(role: str, words: str, **fields: Any) -> dict[str, Any]:
    """Return what one side said."""
    return {"type": "ConversationText", "role": role, "content": words, **fields}


@pytest.fixture
def stream() -> Stream:
    """Give a stream."""
    return Stream(DeepgramTap)


def test_each_sentence_has_its_share_of_the_audio(stream: Stream) -> None:
    """Sentences come before their audio, several at once; `History` says everything again."""
    stream.at(1_000).received(STARTED).at(1_800).received(
        text("user", "Hi."), {**text("user", "Hi."), "type": "History"}
    )
    stream.at(2_000).received(text("assistant", "Hello you."), text("assistant", "How are?"), pcm(1_900), DONE)
    stream.at(4_000).received(text("assistant", "Hm.", conversational_behavior="filler"), pcm(300), DONE)
    assert stream.said() == [
        (1_000, 1_800, "USER", "Hi."),
        (2_000, 3_000, "AGENT", "Hello you."),
        (3_100, 3_900, "AGENT", "How are?"),
        (4_000, 4_300, "AGENT", "Hm."),
    ]
    assert [one.filler_utterance for one in stream.report.recorded_transcript or []][-1] is True


def test_a_barge_in_cuts_the_sentence_that_plays_and_drops_the_next(stream: Stream) -> None:
    """Nothing says how much was heard: what had played counts. The second start is the same barge-in."""
    stream.received(text("assistant", "One two three four."), pcm(1_900), text("assistant", "Never."), pcm(700))
    stream.at(1_000).received(STARTED, STARTED, DONE).at(1_500).received(text("user", "Stop."))
    assert stream.words() == [("AGENT", f"One two three{CUT}"), ("USER", "Stop.")]
    assert stream.events() == [INTERRUPTED]


def test_what_still_comes_of_a_cut_reply_was_not_heard(stream: Stream) -> None:
    """Audio and sentences are under way while the provider hears the caller."""
    stream.received(text("assistant", "Hello there my friend."), pcm(2_000)).at(1_000)
    stream.received(STARTED, pcm(500), text("assistant", "And more."), pcm(900), DONE)
    stream.at(2_000).received(text("user", "Stop."), text("assistant", "Fine."), pcm(500), DONE)
    assert stream.said() == [
        (0, 1_000, "AGENT", f"Hello there{CUT}"),
        (1_000, 2_000, "USER", "Stop."),
        (2_000, 2_500, "AGENT", "Fine."),
    ]


@pytest.mark.parametrize("kind", ["AgentThinking", "AgentStartedSpeaking"])
def test_the_reply_after_a_cough_was_heard(stream: Stream, kind: str) -> None:
    """The caller broke in and said nothing: no text comes, and the agent speaks again."""
    stream.received(text("assistant", "Hello there my friend."), pcm(2_000)).at(1_000)
    stream.received(STARTED, text("assistant", "And more.")).at(3_000)
    stream.received({"type": kind}, text("assistant", "As I said."), pcm(500), DONE)
    assert stream.said() == [(0, 1_000, "AGENT", f"Hello there{CUT}"), (3_000, 3_500, "AGENT", "As I said.")]


def test_a_start_that_led_to_nothing_is_forgotten(stream: Stream) -> None:
    """A noise, after which the agent spoke: the next start is another, and may break in."""
    stream.at(500).received(STARTED).at(5_000).received(text("assistant", "Hello there my friend."), pcm(2_000))
    stream.at(6_000).received(STARTED).at(6_500).received(text("user", "Stop."))
    assert stream.said()[-1] == (6_000, 6_500, "USER", "Stop.")
    assert stream.events() == [INTERRUPTED]


def test_the_latency_report_tells_when_the_caller_ended(stream: Stream) -> None:
    """From the caller's end to the agent's first audio; a report that makes no sense changes nothing."""
    stream.at(500).received(STARTED).at(3_000).received(text("user", "Where is it?")).at(3_200)
    stream.received(text("assistant", "Here."), pcm(500), {"type": "LatencyReport", "total_latency": 1.2}, DONE)
    stream.at(5_000).received(STARTED).at(6_000).received(text("user", "Thanks."))
    stream.received(pcm(500), {"type": "LatencyReport", "total_latency": 9})
    assert [one[:2] for one in stream.said() if one[2] == "USER"] == [(500, 2_000), (5_000, 6_000)]


def test_a_caller_who_waits_until_the_agent_is_heard_interrupts_nobody(stream: Stream) -> None:
    """All audio was sent long before it was heard; a caller who starts in its last moment does not break in."""
    stream.received(text("assistant", "Hello."), pcm(1_000), DONE).at(900).received(STARTED)
    assert stream.events() == []


def test_the_end_of_the_call_keeps_what_was_being_said(stream: Stream) -> None:
    """The audio had no end yet."""
    stream.sent(pcm(500)).at(900).received(text("user", "Hello?"), text("assistant", "Hi there."), pcm(500))
    assert stream.words() == [("USER", "Hello?"), ("AGENT", "Hi there.")]


def test_audio_may_come_first(stream: Stream) -> None:
    """Its words come after it."""
    stream.received(pcm(500), text("assistant", "Hi."), DONE)
    assert stream.said() == [(0, 500, "AGENT", "Hi.")]


def test_functions_have_their_outputs_wherever_they_stand(stream: Stream) -> None:
    """From the client, from the server, without an id, or in the history; cancelled ones have none."""
    functions = [{"name": "f", "description": "Do it."}]
    think = [{"provider": {"model": "gpt"}, "functions": functions}]
    formats = {
        "input": {"encoding": "mulaw", "sample_rate": 8_000},
        "output": {"encoding": "linear16", "sample_rate": 16_000},
    }
    stream.sent({"type": "Settings", "audio": formats, "agent": {"think": think}})
    asked = [{"id": key, "name": key[0], "arguments": '{"a": 1}'} for key in ("f1", "f2", "g", "h", "i")]
    stream.received({"type": "FunctionCallRequest", "functions": asked})
    stream.sent({"type": "FunctionCallResponse", "id": "f1", "name": "f", "content": "{}"})
    stream.received({"type": "FunctionCallResponse", "name": "g", "content": "server"})
    stream.received({"type": "FunctionCallCancelled", "functions": [{"id": "h"}]})
    stream.received({"type": "History", "function_calls": [{"id": "i", "response": "told"}, {"id": "j", "name": "j"}]})
    assert [(name, output) for name, _, output in stream.tools()] == [
        *[("f", {}), ("f", {"status": "interrupted"}), ("g", "server"), ("h", {"status": "cancelled"}), ("i", "told")],
        ("j", {"status": "interrupted"}),
    ]
    assert stream.metadata() == {"deepgram_model": "gpt"}


def test_what_is_injected_was_not_said_by_the_caller(stream: Stream) -> None:
    """It comes back as the caller's text."""
    stream.sent({"type": "InjectUserMessage", "content": "Hi"}).received(text("user", "Hi"), {"type": "Welcome"})
    for kind in ("Error", "Warning", "InjectionRefused", "FrustrationDetected", "LatencyReport", "New"):
        stream.received({"type": kind, "code": "x", "total_latency": 0.5})
    assert stream.said() == []
    assert len(stream.events()) == 6
    assert stream.call.counters["tap.unknown.deepgram"] == 1


def test_where_the_calls_frames_are_observed_sentences_are_cut_all_the_same() -> None:
    """They are told as they come; a barge-in takes back what had not been played."""
    call = observed_call()
    tap = DeepgramTap(call.recorder)
    tap.sent({"type": "Settings", "audio": "x", "agent": {"think": []}})
    call.recorder.received(pcm(20, 16_000))
    call.clock.sleep(500)
    for words, ms in (("One two three four.", 1_900), ("Never.", 700)):
        tap.event(text("assistant", words))
        tap.event(pcm(ms))
    for _ in range(50):
        call.recorder.sent(pcm(20, 16_000))
        call.clock.sleep(20)
    tap.event(STARTED)
    tap.event({"type": "LatencyReport", "total_latency": 0.5})
    (cut,) = [one.utterance for one in call.report().recorded_transcript or [] if one.speaker == "AGENT"]
    assert cut.startswith("One two")


def test_what_is_said_in_the_wrong_order_is_still_said(stream: Stream) -> None:
    """A text of nobody's, an end without a beginning, a call of a function that nobody asked for."""
    stream.received(DONE, text("system", "x"), text("assistant", ""), {"type": "FunctionCallResponse", "name": "f"})
    stream.sent({"type": "InjectUserMessage"}, {"type": "KeepAlive"})
    stream.received(STARTED, text("user", "Hi."), {"type": "LatencyReport"})
    stream.at(1_000).received(text("assistant", "Hello."), DONE).at(1_100).received(STARTED)
    assert [words for _, words in stream.words()] == ["Hi.", "Hello."]
    assert stream.tools() == []


def test_a_sentence_is_in_the_journal_as_soon_as_it_is_heard() -> None:
    """A process that dies in the middle of a reply has told it; its place is known better when the audio has come."""
    stream = Stream(DeepgramTap).at(100).received(text("assistant", "One two three."))
    assert not stream.call.unclosed().recorded_transcript
    stream.received(pcm(1_000), text("assistant", "Four five six."))
    told = stream.call.unclosed().recorded_transcript or []
    assert [one.utterance for one in told] == ["One two three.", "Four five six."]
    stream.received(pcm(1_000), {"type": "AgentAudioDone"})
    assert stream.said() == [(100, 1_100, "AGENT", "One two three."), (1_100, 2_100, "AGENT", "Four five six.")]


def test_a_reply_that_was_dropped_before_its_audio_was_not_said() -> None:
    """The caller spoke first; of a call whose audio does not pass here, nothing is known."""
    stream = Stream(DeepgramTap).received(text("assistant", "Hi."), pcm(500), {"type": "AgentAudioDone"}).at(2_000)
    stream.received(text("user", "Before."), text("assistant", "Not heard."), {"type": "UserStartedSpeaking"})
    stream.received({"type": "AgentAudioDone"}, text("user", "Wait."))
    assert stream.words() == [("AGENT", "Hi."), ("USER", "Before."), ("USER", "Wait.")]
    assert stream.events() == ["Reply dropped before it was spoken"]


def test_a_history_that_is_told_on_the_next_connection_repeats_the_call(stream: Stream) -> None:
    """The connection was lost and opened again in the same call: its functions were called once."""
    request = {"functions": [{"id": "1", "name": "f", "arguments": "{}", "client_side": True}]}
    stream.received({"type": "FunctionCallRequest", **request})
    stream.sent({"type": "FunctionCallResponse", "id": "1", "name": "f", "content": "done"})
    history = [{"id": "1", "name": "f", "arguments": "{}", "response": "done"}]
    DeepgramTap(stream.call.recorder).event({"type": "History", "function_calls": history})
    assert stream.tools() == [("f", {}, "done")]


@pytest.mark.parametrize("next_reply", ["heard", "text", "none"])
def test_a_barge_in_cuts_a_reply_that_plays_on_while_the_next_one_is_sent(stream: Stream, next_reply: str) -> None:
    """After a function the agent goes on, long before its first words have been heard."""
    stream.received(text("assistant", "One two three four."), pcm(3_000), {"type": "AgentAudioDone"}).at(500)
    if next_reply != "none":
        stream.received(text("assistant", "Five six."), *([pcm(1_000)] if next_reply == "heard" else []))
    stream.at(1_500).received({"type": "UserStartedSpeaking"}).at(2_500).received(text("user", "Stop."))
    assert stream.said() == [(0, 1_500, "AGENT", "One two three…"), (1_500, 2_500, "USER", "Stop.")]
    assert stream.events().count("Caller interrupted the agent") == 1
