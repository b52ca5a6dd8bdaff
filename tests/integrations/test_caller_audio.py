"""The caller's audio on its way to a provider: frames are looked at some at once, and nothing is less exact for it."""

from __future__ import annotations

import pytest

from bluejay_ws.integrations.caller_audio import ASIDE, CallerAudio
from tests.integrations.streams import audio, pcm
from tests.support import Call


def talk(call: Call, heard: CallerAudio, until: int, *, loud: bool, text: bool = True, ms: int = 20) -> None:
    """Send frames in real time."""
    make = audio if text else pcm
    while call.recorder.offset_ms() < until:
        call.clock.sleep(ms)
        heard.sent(make(ms, 16_000, loud=loud))


@pytest.mark.parametrize("text", [True, False])
@pytest.mark.parametrize("ms", [10, 20, 100])
def test_the_caller_is_heard_to_the_frame_in_which_speech_begins_and_ends(ms: int, *, text: bool) -> None:
    """Whatever the size of frames, as base64 text and as bytes."""
    call = Call()
    heard = CallerAudio(call.recorder, 32.0, listens=True)
    for until, loud in ((500, False), (1_500, True), (3_000, False), (3_400, True), (3_600, False)):
        talk(call, heard, until, loud=loud, text=text, ms=ms)
    assert heard.spoke_since() == 3_000.0
    assert heard.take_speech(3_600.0) == (500.0, 1_500.0)
    assert heard.take_speech(3_800.0) == (3_000.0, 3_400.0)
    assert heard.take_speech(3_900.0) is None


def test_a_position_is_found_across_a_gap_and_in_a_burst() -> None:
    """Audio that was held back stands where it belongs, and so does what follows a gap."""
    call = Call()
    heard = CallerAudio(call.recorder, 32.0, listens=False)
    call.clock.sleep(1_000)
    for _ in range(50):  # held back, and sent at once
        heard.sent(audio(20, 16_000))
    talk(call, heard, 2_000, loud=True)
    call.clock.sleep(3_000)
    talk(call, heard, 6_000, loud=True)
    assert heard.position_ms == 3_000.0
    assert [heard.offset(one) for one in (200, 1_500, 1_990, 2_020, 2_500)] == [200, 1_500, 1_990, 5_020, 5_500]


def test_what_waits_is_little_and_of_the_rate_it_was_sent_with() -> None:
    """A burst is looked at as it comes; audio of before a change of rate keeps its length."""
    call = Call()
    heard = CallerAudio(call.recorder, 32.0, listens=False)
    for _ in range(100):
        heard.sent(audio(20, 16_000))
        assert len(heard._aside) <= ASIDE
    heard.bytes_per_ms = 48.0
    heard.sent(audio(20, 24_000))
    assert (heard.position_ms, heard.bytes_per_ms) == (2_020.0, 48.0)


def test_who_is_told_of_the_callers_speech_stops_listening() -> None:
    """What was heard before is forgotten."""
    call = Call()
    heard = CallerAudio(call.recorder, 32.0, listens=True)
    talk(call, heard, 300, loud=True)
    heard.stop_listening()
    talk(call, heard, 600, loud=True)
    assert heard.spoke_since() is None
    heard.speaks(700.0)
    assert heard.spoke_since() == 700.0
