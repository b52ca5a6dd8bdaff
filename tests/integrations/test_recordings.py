"""Recorded sessions of real providers, where there are some: text, order, tools and interruptions as they were."""

from __future__ import annotations

from typing import Any

import pytest

from benchmarks.recordings import DIRECTORY, recorded, tap_of
from tests.integrations.streams import Stream

CLIP = ("USER", "Hello, my name is Marcelo.")
FOGGY = ("get_weather", {"city": "London"}, "It is foggy and 12 degrees in London.")
TRUTH: dict[str, tuple[list[tuple[str, str]], list[tuple[str, Any, Any]], int]] = {
    "openai-one-turn-server-vad": (
        [CLIP, ("AGENT", "Hello, Marcelo! Great to meet you. How can I help you today?")],
        [],
        0,
    ),
    "openai-text-in-tool-round": ([], [FOGGY], 0),
    "openai-text-in-whole-audio-out": ([("AGENT", "Hi there, friend!")], [], 0),
    "azure-spoken-turn-tool": (
        [CLIP, ("AGENT", "Hello Marcelo, it's great to meet you! How can I help you today?")],
        [("remember_name", {"name": "Marcelo"}, "Stored Marcelo.")],
        0,
    ),
    "azure-voice-live-text-in-tool-round": ([], [FOGGY], 0),
    "xai-one-turn-server-vad": (
        [CLIP, ("AGENT", "Hello Marcelo! Nice to meet you. How can I help you today?")],
        [],
        0,
    ),
    "xai-text-in-tool-round": (
        [
            ("AGENT", "I'll check the weather for London right away."),
            ("AGENT", "It is foggy and 12 degrees in London. The weather is foggy and 12 degrees."),
        ],
        [FOGGY],
        0,
    ),
    "gemini-2.5-one-turn-server-vad": ([CLIP, ("AGENT", "Hello, Marcelo.")], [], 0),
    "gemini-2.5-text-in-tool-round": (
        [("AGENT", 'I have recorded a reading of 5 with the note "steady."')],
        [("record_reading", {"zqx_measurement": 5, "qbf_note": "steady"}, "Recorded 5 (steady).")],
        0,
    ),
    "gemini-3.8-live-one-turn": ([CLIP, ("AGENT", "Hello Marcelo, nice to meet you.")], [], 0),
    "openai-live-delegated-tool": (
        [
            ("USER", "What will the weather be in Amsterdam tomorrow? Please look it up"),
            ("AGENT", "Sure, okay, I\u2019m checking the forecast now."),
            ("AGENT", "It\u2019ll be about 14°C with light rain tomorrow in Amsterdam."),
        ],
        [("lookup_forecast", {"city": "Amsterdam"}, "Amsterdam: 14 degrees Celsius, light rain.")],
        0,
    ),
    "elevenlabs-barge-in-open-reply": (
        [
            ("USER", "Please tell me a long story about a lighthouse keeper."),
            ("USER", "Stop there and just say goodbye to me."),
            ("AGENT", "Elias..."),
            ("AGENT", "Goodbye."),
        ],
        [],
        1,
    ),
    "elevenlabs-tool-and-typed-interruption": (
        [("AGENT", "It..."), ("AGENT", "You're welcome.")],
        [("get_weather", {"city": "Berlin"}, "It is sunny and 21 degrees in Berlin.")],
        1,
    ),
}


@pytest.mark.parametrize("step_ms", [0, 20])
@pytest.mark.parametrize("name", TRUTH)
def test_a_recorded_session_becomes_what_happened_in_it(name: str, step_ms: int) -> None:
    """However fast it is played: where a recording has no times, the order is all that is real."""
    if not DIRECTORY.is_dir():
        pytest.skip("BLUEJAY_RECORDINGS names no directory")
    stream = Stream(tap_of(name))
    for at, direction, event in recorded(name):
        stream.at(stream.call.recorder.offset_ms() + step_ms if at is None else at)
        (stream.sent if direction == "sent" else stream.received)(event)
    words, tools, interruptions = TRUTH[name]
    assert sorted(stream.words()) == sorted(words)
    if not name.startswith("elevenlabs-barge-in"):  # there, the caller speaks while the agent begins
        assert stream.words() == words
    assert stream.tools() == tools
    assert stream.events().count("Caller interrupted the agent") == interruptions
    assert {key: count for key, count in stream.call.counters.snapshot().items() if "unknown" in key} == {}
