"""Recorded sessions of real providers, where there are some: text, order, tools and interruptions as they were.

``BLUEJAY_RECORDINGS`` names the directory. One file for each session, one JSON object a line: ``direction``, ``event``
and perhaps ``at_ms``; audio is replaced by an object with its size, where that is known.
"""

from __future__ import annotations

import base64
import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from bluejay_ws.integrations.elevenlabs import ElevenLabsTap
from bluejay_ws.integrations.gemini_live import GeminiLiveTap
from bluejay_ws.integrations.openai_realtime import OpenAIRealtimeTap
from tests.integrations.streams import Stream

if TYPE_CHECKING:
    from collections.abc import Iterator

DIRECTORY = Path(os.environ.get("BLUEJAY_RECORDINGS") or "/nowhere")
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
TAPS: dict[str, Any] = {"openai": OpenAIRealtimeTap, "azure": OpenAIRealtimeTap, "xai": OpenAIRealtimeTap}
TAPS |= {"gemini": GeminiLiveTap, "elevenlabs": ElevenLabsTap}


def _with_audio(value: Any, rate: int) -> Any:
    """Return an event with audio in place of what says that there was some."""
    if isinstance(value, list):
        return [_with_audio(one, rate) for one in value]
    if not isinstance(value, dict):
        return value
    if "audio_bytes" not in value:
        return {key: _with_audio(one, rate) for key, one in value.items()}
    samples = (value["audio_bytes"] or rate // 10 * 2) // 2
    return base64.b64encode((b"\x00\x00" if value.get("head") == "zero" else b"\x00\x10") * samples).decode()


def recorded(name: str) -> Iterator[tuple[float | None, str, Any]]:
    """Return the lines of a session."""
    for line in (DIRECTORY / f"{name}.jsonl").read_text("utf-8").splitlines():
        one = json.loads(line)
        narrow = name.startswith("elevenlabs") or (name.startswith("gemini") and one["direction"] == "sent")
        yield one["at_ms"], one["direction"], _with_audio(one["event"], 16_000 if narrow else 24_000)


@pytest.mark.parametrize("step_ms", [0, 20])
@pytest.mark.parametrize("name", TRUTH)
def test_a_recorded_session_becomes_what_happened_in_it(name: str, step_ms: int) -> None:
    """However fast it is played: where a recording has no times, the order is all that is real."""
    if not DIRECTORY.is_dir():
        pytest.skip("BLUEJAY_RECORDINGS names no directory")
    stream = Stream(TAPS[name.partition("-")[0]])
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
