"""What the events of an Amazon Nova Sonic stream become in a report."""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import Any

import pytest

from bluejay_ws.integrations.nova_sonic import NovaSonicTap
from tests.integrations.streams import Stream, audio

INTERRUPTED = "Caller interrupted the agent"


def event(name: str, **fields: Any) -> dict[str, Any]:
    """Return an event, as it is inside a chunk's bytes."""
    return {"event": {name: fields}}


class Nova(Stream):
    """A stream of content blocks."""

    def __init__(self) -> None:
        super().__init__(NovaSonicTap)
        self._blocks = 0

    def text(self, role: str, words: str, stage: str = "FINAL", stop: str = "PARTIAL_TURN") -> Nova:
        """Send a block of text."""
        self._blocks += 1
        name, extra = f"t{self._blocks}", json.dumps({"generationStage": stage})
        self.received(event("contentStart", contentId=name, type="TEXT", role=role, additionalModelFields=extra))
        self.received(event("textOutput", contentId=name, content=words, role=role))
        return self.received(event("contentEnd", contentId=name, type="TEXT", stopReason=stop))

    def audio(self, ms: float, stop: str = "PARTIAL_TURN") -> Nova:
        """Send a block of audio."""
        self._blocks += 1
        name, rate = f"a{self._blocks}", {"sampleRateHertz": 24_000}
        self.received(
            event("contentStart", contentId=name, type="AUDIO", role="ASSISTANT", audioOutputConfiguration=rate)
        )
        self.received(event("audioOutput", contentId=name, content=audio(ms)))
        return self.received(event("contentEnd", contentId=name, type="AUDIO", stopReason=stop))


@pytest.fixture
def stream() -> Nova:
    """Give a stream."""
    return Nova()


def test_final_texts_replace_the_plan(stream: Nova) -> None:
    """As recorded: two blocks of the caller's, each sentence planned before its audio, the final texts at the end."""
    for number in range(10):
        stream.at(100 + number * 100).sent(event("audioInput", content=audio(100, 16_000, loud=number >= 5)))
    stream.received(event("completionStart")).text("USER", "hi can you look").text("USER", " about linkedin")
    stream.at(2_000)
    stream.text("ASSISTANT", "Sure.", "SPECULATIVE").audio(500).text("ASSISTANT", "I look.", "SPECULATIVE")
    stream.audio(500, "END_TURN").text("ASSISTANT", "Sure!").text("ASSISTANT", "I look!")
    stream.at(4_000).received(event("completionStart"))
    stream.text("ASSISTANT", "And more.")
    assert stream.said()[:3] == [
        (500, 1_000, "USER", "hi can you look about linkedin"),
        (2_000, 2_500, "AGENT", "Sure!"),
        (2_500, 3_000, "AGENT", "I look!"),
    ]
    assert stream.words()[-1] == ("AGENT", "And more.")


def test_what_was_planned_and_not_spoken_is_not_recorded(stream: Nova) -> None:
    """The call ended before its audio came."""
    stream.text("ASSISTANT", "Sure.", "SPECULATIVE").audio(500).text("ASSISTANT", "I look.", "SPECULATIVE")
    assert stream.words() == [("AGENT", "Sure.")]


def test_an_interruption_is_one_event_and_its_mark_is_no_text(stream: Nova) -> None:
    """A final text says what was heard; where none comes, what had played counts."""
    stream.text("ASSISTANT", "Sure thing.", "SPECULATIVE").audio(1_000)
    stream.text("ASSISTANT", "One two three four", "SPECULATIVE").audio(2_000).text("ASSISTANT", "No.", "SPECULATIVE")
    stream.at(2_000).text("ASSISTANT", '{ "interrupted" : true }', stop="INTERRUPTED").text("ASSISTANT", "Sure thing.")
    stream.text("USER", "Stop")
    assert stream.words() == [("AGENT", "Sure thing."), ("AGENT", "One two three…"), ("USER", "Stop")]
    assert stream.events() == [INTERRUPTED]


@pytest.mark.parametrize("final", ["One two", None])
def test_the_callers_text_may_come_before_the_interruption(final: str | None, stream: Nova) -> None:
    """And before the final text of the reply that was cut."""
    stream.text("ASSISTANT", "One two three four", "SPECULATIVE").audio(2_000).at(1_000).text("USER", "Stop")
    stream.text("ASSISTANT", '{"interrupted":true}', stop="INTERRUPTED")
    if final:
        stream.text("ASSISTANT", final)
    stream.text("ASSISTANT", "Okay.", "SPECULATIVE").audio(500)
    assert stream.words() == [("AGENT", final or "One two three…"), ("USER", "Stop"), ("AGENT", "Okay.")]
    assert stream.events() == [INTERRUPTED]


def test_a_mark_of_an_interruption_after_all_was_heard_is_none(stream: Nova) -> None:
    """The caller simply answered."""
    stream.text("ASSISTANT", "Hello.", "SPECULATIVE").audio(500).at(1_000).text("USER", "Hi")
    stream.text("ASSISTANT", '{"interrupted":true}')
    assert (stream.words(), stream.events()) == ([("AGENT", "Hello."), ("USER", "Hi")], [])


def test_tools_take_their_output_from_the_clients_blocks(stream: Nova) -> None:
    """The result names its block, and the block names the tool call; chunks come as bytes."""
    spec = {"toolSpec": {"name": "f", "description": "Do it."}}
    output = {"sampleRateHertz": 16_000}
    stream.sent(event("promptStart", toolConfiguration={"tools": [spec]}, audioOutputConfiguration=output))
    for key in ("1", "1", "2"):
        used = json.dumps(event("toolUse", toolUseId=key, toolName="f", content='{"a": 1}')).encode()
        stream.received({"chunk": {"bytes": used}})
        tool = {"toolUseId": key}
        stream.sent(event("contentStart", contentName=f"r{key}", type="TOOL", toolResultInputConfiguration=tool))
    stream.sent(event("toolResult", contentName="r1", content='{"ok": 1}'))
    stream.sent(event("toolResult", contentName="r2", content="no", status="error"))
    failed = {"status": "failed", "message": "no"}
    assert stream.tools() == [("f", {"a": 1}, {"ok": 1}), ("f", {"a": 1}, failed)]


def test_the_rest(stream: Nova) -> None:
    """Usage counts the whole stream; typed text is an event; AWS's own objects are read; interruptions need a reply."""
    usage = json.dumps(event("usageEvent", details={"total": {"input": 1}})).encode()
    stream.received(SimpleNamespace(value=SimpleNamespace(bytes_=usage)), event("new"), event("completionEnd"))
    stream.sent(event("contentStart", contentName="t", role="USER", interactive=True))
    stream.sent(event("textInput", contentName="t", content="Hi")).text("ASSISTANT", '{"interrupted":true}')
    for number in range(300):
        stream.sent(event("contentStart", contentName=str(number)))
        stream.received(event("contentStart", contentId=str(number)))
    assert stream.events() == ["Text sent to the model"]
    assert stream.metadata() == {"nova_sonic_usage": {"input": 1}}
    assert stream.call.counters["tap.unknown.nova_sonic"] == 1


def test_what_aws_raises_in_the_stream_is_an_event() -> None:
    """It comes in the place of an event."""
    stream = Stream(NovaSonicTap).received({"throttlingException": {"message": "slow"}}, {"validationException": None})
    assert stream.events() == ["Error of the model's service"] * 2


def test_a_final_text_that_was_cut_and_comes_after_the_callers_is_an_interruption() -> None:
    """The end of its block tells that; the caller's words were there already."""
    stream = Nova()
    stream.text("ASSISTANT", "One two three four.", "SPECULATIVE").audio(2_000, "END_TURN")
    stream.at(1_000)
    assert isinstance(stream, Nova)
    stream.text("USER", "Wait.").text("ASSISTANT", "One two", stop="INTERRUPTED")
    assert stream.said() == [(0, 1_000, "AGENT", "One two"), (1_000, 1_000, "USER", "Wait.")]
    assert stream.events() == [INTERRUPTED]


def test_an_interruption_ends_what_still_plays_of_the_completion_before() -> None:
    """After a tool the next completion begins, long before the words of the first have been heard."""
    stream = Nova()
    stream.text("ASSISTANT", "One two three.", "SPECULATIVE").audio(3_000).text("ASSISTANT", "One two three.")
    stream.received(event("completionStart"))
    stream.text("ASSISTANT", "Four.", "SPECULATIVE").audio(1_000)
    stream.at(1_000).received(event("contentEnd", type="TEXT", stopReason="INTERRUPTED"))
    assert stream.said() == [(0, 1_000, "AGENT", "One two three.")]
    assert stream.events() == [INTERRUPTED]
