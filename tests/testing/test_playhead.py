"""`bluejay_ws.testing.playhead`: what is heard of audio that comes faster than it plays."""

from __future__ import annotations

import pytest

from bluejay_ws.testing.playhead import Playhead

SECOND = 32_000  # bytes


def test_audio_is_heard_as_it_plays_and_not_as_it_arrives() -> None:
    """A second that arrives at once takes a second to be heard."""
    playhead = Playhead(1.0)
    playhead.add(SECOND, 10.0)
    assert playhead.heard_ms(10.25) == pytest.approx(250)
    assert playhead.pending_ms(10.25) == pytest.approx(750)
    assert playhead.heard_ms(12.0) == 1_000


def test_audio_that_arrives_late_begins_when_it_arrives() -> None:
    """A pause in which the queue ran dry is not caught up."""
    playhead = Playhead(1.0)
    playhead.add(SECOND, 0.0)
    playhead.add(SECOND, 5.0)
    assert playhead.until == 6.0


def test_a_mark_is_reached_once_after_all_audio_before_it() -> None:
    """Marks come back in order, each once, not before their audio has been played."""
    playhead = Playhead(1.0)
    playhead.mark("first", 0.0)
    playhead.add(SECOND, 0.0)
    playhead.mark("second", 0.1)
    assert playhead.reached(0.5) == ["first"]
    assert playhead.next_mark() == 1.0
    assert playhead.reached(1.0) == ["second"]
    assert playhead.reached(2.0) == []
    assert playhead.next_mark() is None


def test_clearing_drops_what_was_not_heard() -> None:
    """What was heard stays heard; the rest is counted, each time, and its marks are given back."""
    playhead = Playhead(1.0)
    playhead.add(SECOND, 0.0)
    playhead.mark("end", 0.0)
    assert playhead.clear(0.4) == ["end"]
    assert playhead.dropped_ms == pytest.approx(600)
    assert playhead.heard_ms(5.0) == pytest.approx(400)
    assert playhead.next_mark() is None
    playhead.add(SECOND, 6.0)
    assert playhead.clear(6.5) == []
    assert playhead.dropped_ms == pytest.approx(1_100)


def test_pace_scales_how_long_audio_plays() -> None:
    """At a tenth of the pace a second is heard in a tenth of a second; at none, at once."""
    quick, instant = Playhead(0.1), Playhead(0.0)
    for playhead in (quick, instant):
        playhead.add(SECOND, 0.0)
    assert quick.heard_ms(0.05) == pytest.approx(500)
    assert instant.heard_ms(0.0) == 1_000
    assert instant.pending_ms(0.0) == 0.0


def test_the_time_at_which_enough_is_heard_is_known_once_it_is_queued() -> None:
    """None until so much has arrived; the present for what has been heard already."""
    playhead = Playhead(1.0)
    playhead.add(SECOND, 0.0)
    assert playhead.heard_at(300, 0.1) == pytest.approx(0.3)
    assert playhead.heard_at(1_000, 0.1) == pytest.approx(1.0)
    assert playhead.heard_at(50, 0.1) == 0.1
    assert playhead.heard_at(1_001, 0.1) is None
