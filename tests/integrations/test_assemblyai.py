"""What the messages of an AssemblyAI Voice Agent connection become in a report."""

from __future__ import annotations

from typing import Any

import pytest

from bluejay_ws.integrations.assemblyai import AssemblyAITap
from tests.integrations.streams import Stream, audio

INTERRUPTED = "Caller interrupted the agent"


def event(kind: str, **fields: Any) -> dict[str, Any]:
    """Return a message."""
    return {"type": kind, **fields}


@pytest.fixture
def stream() -> Stream:
    """Give a stream."""
    return Stream(AssemblyAITap)


def test_both_sides_are_placed_by_the_providers_events(stream: Stream) -> None:
    """Cumulative texts of the caller's replace each other; words of the agent's are joined."""
    stream.at(1_000).received(event("input.speech.started"), event("transcript.user.delta", item_id="u", text="Hel"))
    stream.at(1_500).received(event("input.speech.stopped")).sent(event("input.audio", audio=audio(100)))
    stream.at(2_000).received(
        event("transcript.user", item_id="u", text="Hello."), event("reply.started", reply_id="r")
    )
    stream.received(event("reply.audio", reply_id="r", data=audio(900)))
    for number, word in enumerate(("Hi", "there", ".")):
        stream.received(event("transcript.agent.delta", reply_id="r", delta=word, end_ms=300 * (number + 1)))
    stream.received(event("transcript.agent", reply_id="r", text="Hi there."), event("reply.done", status="completed"))
    stream.received(event("transcript.agent.delta", reply_id="r", delta="late"))
    stream.at(5_000).received(event("input.speech.started"), event("input.speech.stopped"))
    stream.received(event("transcript.user", item_id="v", text="Bye."), event("transcript.user", item_id="w", text="!"))
    assert stream.said() == [
        (1_000, 1_500, "USER", "Hello."),
        (2_000, 2_900, "AGENT", "Hi there."),
        (5_000, 5_000, "USER", "Bye."),
        (5_001, 5_001, "USER", "!"),
    ]


def test_an_interrupted_reply_is_what_the_provider_says_it_is(stream: Stream) -> None:
    """Its text comes trimmed; its tools that were not answered are cancelled; it is one interruption."""
    stream.received(event("reply.started", reply_id="r"), event("reply.audio", data=audio(3_000)))
    stream.received(event("tool.call", call_id="c", name="f", arguments={"a": 1}))
    stream.at(800).received(event("transcript.agent", reply_id="r", text="Let me", interrupted=True))
    stream.received(event("reply.done", reply_id="r", status="interrupted"))
    assert stream.said() == [(0, 800, "AGENT", "Let me")]
    assert (stream.events(), stream.tools()) == ([INTERRUPTED], [("f", {"a": 1}, {"status": "cancelled"})])


def test_without_that_the_times_of_the_words_tell(stream: Stream) -> None:
    """The final text never came."""
    stream.received(event("reply.audio", reply_id="r", data=audio(900)))
    for number, word in enumerate(("One", "two", "three")):
        stream.received(event("transcript.agent.delta", reply_id="r", delta=word, end_ms=300 * (number + 1)))
    stream.at(600).received(event("reply.done", reply_id="r", status="interrupted"))
    assert stream.words() == [("AGENT", "One two…")]


def test_tools_and_the_rest(stream: Stream) -> None:
    """What the provider runs itself has no output here."""
    tools = [{"name": "f", "description": "Do it."}, {"name": "web", "http": {}}]
    stream.received(event("session.ready", config={"tools": tools, "model": "m"}))
    for name in ("f", "g", "web"):
        stream.received(event("tool.call", call_id=name, name=name, arguments={}))
    stream.sent(
        event("tool.result", call_id="f", result='{"a": 1}'),
        event("tool.result", call_id="g", result="x", is_error=True),
    )
    stream.received(event("session.error", code="x"), event("session.ended", session_duration_seconds=9), event("new"))
    failed = {"status": "failed", "message": "x"}
    assert stream.tools() == [("f", {}, {"a": 1}), ("g", {}, failed), ("web", {}, None)]
    assert stream.events() == ["Error of the model's service"]
    assert stream.metadata() == {"assemblyai_model": "m", "assemblyai_usage": {"session_seconds": 9}}


def test_what_comes_twice_or_late_changes_nothing(stream: Stream) -> None:
    """A start while the caller speaks, an end of nobody's, a piece after the whole, another reply's tool."""
    stream.received(event("input.speech.stopped"), event("input.speech.started"), event("input.speech.started"))
    stream.received(event("transcript.user", item_id="a", text="Hello."))
    stream.received(event("transcript.user.delta", item_id="a", text="Hel"))
    stream.received(event("tool.call", call_id="c", reply_id="r", name="f", arguments={}))
    stream.received(event("reply.done", reply_id="s", status="interrupted"))
    assert stream.words() == [("USER", "Hello.")]
    assert stream.tools() == [("f", {}, {"status": "interrupted"})]


def test_a_text_that_comes_as_the_caller_speaks_again_is_of_what_was_said_before(stream: Stream) -> None:
    """Nobody has finished what he still says; a noise of long ago has no text."""
    for begins, ends in ((1_000, 1_500), (20_000, 20_900)):
        stream.at(begins).received(event("input.speech.started")).at(ends).received(event("input.speech.stopped"))
    stream.at(22_000).received(event("input.speech.started"), event("transcript.user", item_id="u", text="One."))
    stream.at(22_500).received(event("input.speech.stopped"), event("transcript.user", item_id="v", text="Two."))
    assert stream.said() == [(20_000, 20_900, "USER", "One."), (22_000, 22_500, "USER", "Two.")]


def test_a_noise_of_long_ago_takes_no_text(stream: Stream) -> None:
    """Its text would have come by now."""
    stream.received(event("input.speech.started"), event("input.speech.stopped")).at(20_000)
    stream.received(event("input.speech.started"), event("transcript.user", item_id="u", text="One."))
    assert stream.said() == [(20_000, 20_000, "USER", "One.")]


@pytest.mark.parametrize("told", [True, False])
def test_where_nothing_of_a_reply_was_heard_the_one_before_it_was_cut(stream: Stream, told: bool) -> None:
    """Its audio was all sent, and it still played; the provider only tells of the reply that it was making."""
    stream.received(event("reply.audio", reply_id="r", data=audio(3_000)))
    stream.received(event("transcript.agent", reply_id="r", text="One two three four."), event("reply.done"))
    stream.at(500).received(event("reply.audio", reply_id="s", data=audio(1_000)))
    if told:
        stream.at(1_500).received(event("transcript.agent", reply_id="s", text="", interrupted=True))
    stream.at(1_500).received(event("reply.done", reply_id="s", status="interrupted"))
    assert stream.said() == [(0, 1_500, "AGENT", "One two three…")]
    assert stream.events() == [INTERRUPTED]


def test_where_some_of_a_reply_was_heard_the_one_before_it_was_heard_whole(stream: Stream) -> None:
    """The provider's word on what was heard counts."""
    stream.received(event("reply.audio", reply_id="r", data=audio(3_000)))
    stream.received(event("transcript.agent", reply_id="r", text="One two."), event("reply.done"))
    stream.at(500).received(event("reply.audio", reply_id="s", data=audio(1_000)))
    stream.at(2_900).received(event("transcript.agent", reply_id="s", text="Three", interrupted=True))
    assert stream.words() == [("AGENT", "One two."), ("AGENT", "Three")]
