"""A telephone carrier's call, observed: the same observer, fed by the carrier's messages."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest

from bluejay_ws.hearing.carriers import TEXT_LIMIT
from bluejay_ws.hearing.chirp import ChirpObserver
from bluejay_ws.testing.audio import mulaw, voice
from tests.hearing.stage import Stage

START = {"event": "start", "streamSid": "MZ1", "start": {"streamSid": "MZ1", "customParameters": {}}}
MEDIA = json.dumps({"event": "media", "media": {"payload": base64.b64encode(mulaw(voice(10))).decode()}})
VONAGE = {"event": "websocket:connected", "content-type": "audio/l16;rate=8000"}


def observer(*first: Any) -> ChirpObserver:
    """Return an observer that has had these messages from the caller."""
    observed = Stage().observer
    for message in first:
        observed.user_text(message if isinstance(message, str) else json.dumps(message), 0.0)
    return observed


def test_media_in_both_directions_is_audio_of_both_sides() -> None:
    """It is counted as frames are, and the closing event names the carrier."""
    observed = observer({"event": "connected"}, START)
    for number in range(5):
        observed.user_text(MEDIA, 20.0 * number)
        observed.agent_text(MEDIA, 20.0 * number)
    observed.close(200.0)
    summary = observed.summary()
    assert summary["carrier"] == "twilio"
    assert (summary["user_frames"], summary["user_audio_ms"]) == (5, 100)
    assert (summary["agent_frames"], summary["agent_audio_ms"]) == (5, 100)
    assert summary["invalid_frames"] == 0


def test_binary_audio_is_as_long_as_its_rate_says() -> None:
    """160 bytes are 10 ms at 8,000 Hz of 16 bit, and not 5 as on CHIRP."""
    observed = observer(VONAGE)
    observed.user_audio(bytes(160), 0.0)
    observed.agent_audio(memoryview(bytes(160)), 0.0)
    summary = observed.summary()
    assert (summary["user_audio_ms"], summary["agent_audio_ms"]) == (10, 10)


def test_marks_and_a_long_message_are_understood() -> None:
    """Half a minute of audio fits into one message; a mark and its echo are counted."""
    observed = observer(START)
    payload = base64.b64encode(bytes(8 * 30_000)).decode()
    observed.agent_text(json.dumps({"event": "media", "media": {"payload": payload}}), 0.0)
    observed.agent_text(json.dumps({"event": "mark", "mark": {"name": "m"}}), 1.0)
    observed.user_text(json.dumps({"event": "mark", "mark": {"name": "m"}}), 30_000.0)
    observed.agent_text(json.dumps({"event": "clear"}), 31_000.0)
    summary = observed.summary()
    assert summary["agent_audio_ms"] == pytest.approx(30_000, abs=256)
    assert summary["oversized_text_frames"] == 0


@pytest.mark.parametrize(
    ("message", "counted"),
    [
        ("{", "unreadable_text_frames"),
        ("x" * (TEXT_LIMIT + 1), "oversized_text_frames"),
        ('{"event": "media", "media": {"payload": 1}}', "invalid_frames"),
    ],
)
def test_what_is_malformed_is_counted(message: str, counted: str) -> None:
    """Nothing is raised, and the call continues."""
    observed = observer(START, message)
    observed.user_text(MEDIA, 20.0)
    summary = observed.summary()
    assert summary[counted] == 1
    assert summary["user_frames"] == 1


@pytest.mark.parametrize("first", [{"event": "connected"}, {"type": "speech.started", "data": {}}, "nonsense"])
def test_what_is_no_carrier_stays_what_it_is(first: Any) -> None:
    """Nothing is inferred from media of a stream that nobody knows."""
    observed = observer(first, *[MEDIA] * 20, START)
    assert type(observed) is ChirpObserver
    summary = observed.summary()
    assert "carrier" not in summary
    assert summary["user_frames"] == 0


def test_nothing_has_an_effect_after_the_end() -> None:
    """Late messages of a carrier are as harmless as late frames."""
    observed = observer(START)
    observed.user_text(MEDIA, 0.0)
    observed.close(100.0)
    closed = observed.summary()
    for message in (MEDIA, json.dumps({"event": "clear"}), json.dumps({"event": "mark", "mark": {"name": "m"}})):
        observed.user_text(message, 200.0)
        observed.agent_text(message, 200.0)
    assert observed.summary() == closed
