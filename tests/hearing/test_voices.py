"""The two voices on their own: each scenario is one sentence and the spans that must come of it."""

from __future__ import annotations

import pytest

from bluejay_ws.hearing.voices import (
    MARK_WAIT_MS,
    MARKS_LIMIT,
    QUEUE_LIMIT,
    AgentVoice,
    CallerVoice,
    HeardSpan,
    Verdict,
)


class Agent:
    """An agent's voice and all spans that it began."""

    def __init__(self) -> None:
        self.voice = AgentVoice()
        self.spans: list[HeardSpan] = []

    def audio(self, at: float, ms: float, *, since: bool = False, caller: Verdict = None, speaks: bool = False) -> None:
        self.voice.settle(at)
        if self.voice.frame(at, ms, caller_since=since, caller=caller, caller_speaks=speaks):
            assert self.voice.span is not None
            self.spans.append(self.voice.span)

    def paced(self, start: float, end: float, *, caller: Verdict = None, speaks: bool = False) -> None:
        for number in range(round((end - start) / 20)):
            self.audio(start + 20 * number, 20, caller=caller, speaks=speaks)

    def close(self, at: float) -> list[tuple[float | None, float | None]]:
        self.voice.settle(at)
        self.voice.close(at)
        return [(span.start_ms, span.end_ms) for span in self.spans]


# -- the queue ---------------------------------------------------------------------------------------------------------


def test_audio_sent_faster_than_it_plays_is_heard_as_long_as_it_lasts() -> None:
    """Three seconds sent at once are heard for three seconds."""
    agent = Agent()
    for number in range(30):
        agent.audio(100 + number, 100)
    assert agent.close(9000) == [(100, 3100)]


def test_a_hiccup_does_not_end_a_stretch_but_a_silence_does() -> None:
    """Below 400 ms it is the same stretch; above, another one."""
    agent = Agent()
    agent.audio(0, 1000)
    agent.audio(1390, 1000)
    agent.audio(2800, 1000)
    assert agent.close(9000) == [(0, 2390), (2800, 3800)]


def test_a_short_pause_ends_a_stretch_when_the_caller_spoke_in_it_or_new_text_is_known() -> None:
    """Between 200 and 400 ms, what else is known decides."""
    agent = Agent()
    agent.audio(0, 1000)
    agent.audio(1300, 1000, since=True)
    agent.voice.utterance(1400).told = True
    text = agent.voice.utterance(2550)
    agent.audio(2600, 400)
    assert agent.close(9000) == [(0, 1000), (1300, 2300), (2600, 3000)]
    assert text is agent.spans[2]


def test_the_end_of_the_call_ends_what_is_heard_and_unsays_what_is_queued() -> None:
    """Nothing is heard after the close: a span that was to begin later becomes an instant there."""
    agent = Agent()
    agent.audio(0, 3000)
    agent.voice.started(500)
    agent.audio(500, 1000)
    agent.voice.started(600)
    agent.audio(600, 1000)
    assert agent.close(2000) == [(0, 2000), (2000, 2000), (2000, 2000)]


# -- the agent's own events --------------------------------------------------------------------------------------------


def test_an_announced_utterance_is_a_span_of_its_own_although_audio_never_pauses() -> None:
    """The agent's own speech.started splits the queue where it stands."""
    agent = Agent()
    agent.audio(0, 1000)
    agent.voice.started(300)
    parked = [agent.voice.parked]
    agent.audio(310, 500)
    parked.append(agent.voice.parked)
    assert parked == [True, False]
    assert agent.close(9000) == [(0, 1000), (1000, 1500)]


def test_audio_that_came_just_before_its_announcement_is_not_split() -> None:
    """Speech events are no brackets round the audio."""
    agent = Agent()
    agent.audio(0, 1000)
    agent.voice.started(100)
    agent.audio(500, 1000)
    agent.voice.started(510)
    agent.audio(520, 1000)
    assert agent.close(9000) == [(0, 2000), (2000, 3000)]


def test_silence_that_an_agent_streams_after_completing_is_not_heard() -> None:
    """Audio that never pauses after speech.completed, up to the next announcement, was nothing said."""
    agent = Agent()
    agent.voice.started(0)
    agent.paced(0, 2000)
    agent.voice.ended()
    agent.voice.ended()
    agent.paced(2000, 5000)
    assert agent.voice.heard_until == 2000
    assert agent.voice.sounding(3000) is None
    agent.voice.started(5000)
    agent.voice.ended()  # of nothing: its audio has not come
    agent.paced(5000, 6000)
    assert agent.close(6000) == [(0, 2000), (5000, 6000)]


def test_audio_that_ends_by_itself_after_completing_was_heard() -> None:
    """An agent that says completed before it has sent the tail said the tail all the same."""
    agent = Agent()
    agent.voice.started(0)
    agent.paced(0, 2000)
    agent.voice.ended()
    agent.paced(2000, 3000)
    assert agent.close(9000) == [(0, 3000)]


def test_an_announcement_is_a_place_for_its_text() -> None:
    """A text after speech.started belongs to what is announced, not to what still plays."""
    agent = Agent()
    agent.audio(0, 3000)
    agent.voice.utterance(0)
    agent.voice.started(1000)
    text = agent.voice.utterance(1010)
    agent.voice.started(1020)
    agent.audio(1100, 500)
    assert agent.close(9000) == [(0, 3000), (3000, 3500)]
    assert text is agent.spans[1]


def test_texts_that_come_after_two_queued_utterances_find_them_in_order() -> None:
    """The earlier one that has no text comes first."""
    agent = Agent()
    agent.audio(0, 1000)
    agent.voice.started(300)
    agent.audio(310, 500)
    assert agent.voice.utterance(400) is agent.spans[0]
    assert agent.voice.utterance(410) is agent.spans[1]
    assert agent.voice.sounding(900) is agent.spans[0]
    assert agent.voice.sounding(1200) is agent.spans[1]
    assert [agent.voice.end_of(span) for span in agent.spans] == [1000, 1500]
    agent.close(9000)
    assert [agent.voice.end_of(span) for span in agent.spans] == [1000, 1500]


def test_an_agent_that_announces_without_end_is_bounded() -> None:
    """Utterances far ahead in the queue end as planned; what is kept of them has a limit."""
    agent = Agent()
    for number in range(QUEUE_LIMIT + 10):
        agent.voice.started(300 + number)
        agent.audio(300 + number, 10_000)
    assert len(agent.voice.ends) <= QUEUE_LIMIT
    assert agent.spans[0].end_ms == 10_300


# -- interruptions -----------------------------------------------------------------------------------------------------


def test_an_interruption_drops_the_rest_of_the_queue() -> None:
    """Nothing tells otherwise, so the agent was heard up to the interruption."""
    agent = Agent()
    agent.audio(0, 5000)
    agent.voice.interrupt(2000)
    agent.voice.interrupt(2100)
    assert agent.voice.dropped_ms == 3000
    assert agent.close(9000) == [(0, 2000)]


def test_an_interruption_when_nothing_is_queued_drops_nothing() -> None:
    """There is nothing to cut before, after and without audio."""
    agent = Agent()
    agent.voice.interrupt(0)
    agent.audio(0, 1000)
    agent.voice.interrupt(1500)
    assert agent.voice.cut is None
    assert agent.close(9000) == [(0, 1000)]


def test_what_comes_after_a_real_interruption_is_a_new_stretch() -> None:
    """The agent stopped, the caller spoke, the agent speaks again."""
    agent = Agent()
    agent.audio(0, 5000)
    agent.voice.interrupt(2000)
    agent.audio(2100, 100, caller=True, speaks=True)  # was on its way
    agent.audio(2700, 1000, caller=True, speaks=True)
    assert agent.close(9000) == [(0, 2200), (2700, 3700)]


def test_a_reply_whose_text_is_known_is_a_new_stretch_sooner() -> None:
    """After an interruption 200 ms and a text tell a quick reply from audio that goes on."""
    agent = Agent()
    agent.audio(0, 5000)
    agent.voice.utterance(0)
    agent.voice.interrupt(2000)
    text = agent.voice.utterance(2250)
    agent.audio(2300, 1000, caller=True)
    assert agent.close(9000) == [(0, 2000), (2300, 3300)]
    assert text is agent.spans[1]


def test_a_queue_is_heard_in_full_when_the_agent_just_goes_on() -> None:
    """An agent that still sends 600 ms after a speech event of its own echo was not interrupted."""
    agent = Agent()
    for number in range(8):
        agent.audio(300 * number, 1000, speaks=number > 2)
        if number == 2:
            agent.voice.interrupt(700)
    assert agent.voice.dropped_ms == 0
    assert agent.close(20_000) == [(0, 8000)]


def test_a_pause_in_a_queue_that_goes_on_is_kept() -> None:
    """Undoing a cut takes the exact queue, with the silences that were in it."""
    agent = Agent()
    agent.audio(0, 1000)
    agent.voice.interrupt(900)
    agent.paced(1200, 2000, speaks=True)
    assert agent.close(9000) == [(0, 2000)]


def test_an_agent_that_talks_on_into_a_real_interruption_lost_only_the_queue() -> None:
    """What it sends after the interruption is heard, from then on."""
    agent = Agent()
    agent.audio(0, 5000)
    agent.voice.interrupt(2000)
    agent.paced(2000, 3000, caller=True, speaks=True)
    assert agent.close(9000) == [(0, 3000)]


def test_an_announcement_confirms_an_interruption() -> None:
    """A new utterance of the agent leaves the old one cut."""
    agent = Agent()
    agent.audio(0, 5000)
    agent.voice.interrupt(2000)
    agent.voice.started(2100)
    agent.audio(2150, 1000)
    assert agent.close(9000) == [(0, 2000), (2150, 3150)]


def test_an_interruption_reaches_the_utterances_that_wait_in_the_queue() -> None:
    """The one that plays is cut, the next one is never heard, and undoing the cut restores both."""
    agents = [Agent(), Agent()]
    for agent in agents:
        agent.audio(0, 3000)
        agent.voice.started(300)
        agent.audio(310, 2000)
        agent.voice.interrupt(1000)
        assert agent.voice.dropped_ms == 4000
        agent.voice.settle(1500)
    agents[1].voice.restore()
    agents[1].voice.restore()
    assert agents[0].close(9000) == [(0, 1000), (1000, 1000)]
    assert agents[1].close(9000) == [(0, 3000), (3000, 5000)]


# -- marks -------------------------------------------------------------------------------------------------------------


def test_an_echoed_mark_is_the_exact_end() -> None:
    """The platform played a little later than the model says."""
    agent = Agent()
    agent.audio(0, 1000)
    agent.voice.mark("m", 10)
    agent.voice.settle(2000)
    assert agent.spans[0].end_ms is None  # the echo may still come
    agent.voice.echo("m", 1080)
    assert agent.close(9000) == [(0, 1080)]


def test_audio_behind_an_echoed_mark_moves_with_it() -> None:
    """A mark in the middle corrects all that follows it."""
    agent = Agent()
    agent.audio(0, 1000)
    agent.voice.mark("m", 10)
    agent.audio(20, 500)
    agent.voice.echo("m", 1080)
    assert agent.close(9000) == [(0, 1580)]


@pytest.mark.parametrize("echo", [3000, 2950, 3200])
def test_a_mark_that_is_echoed_when_due_undoes_an_interruption(echo: float) -> None:
    """All audio before the mark was played, so it had not been dropped."""
    agent = Agent()
    agent.audio(0, 3000)
    agent.voice.mark("m", 10)
    agent.audio(20, 500)
    agent.voice.interrupt(1000)
    agent.voice.echo("m", echo)
    assert agent.voice.cut is None
    assert agent.close(9000) == [(0, echo + 500)]


def test_a_mark_that_is_echoed_at_the_interruption_confirms_it() -> None:
    """A queue that is dropped can give its marks back at once."""
    agent = Agent()
    agent.audio(0, 3000)
    agent.voice.mark("m", 10)
    agent.voice.interrupt(1000)
    agent.voice.echo("m", 1020)
    assert agent.close(9000) == [(0, 1020)]


def test_a_mark_sent_after_an_interruption_tells_nothing_about_the_queue_before() -> None:
    """It marks what was sent after the cut."""
    agent = Agent()
    agent.audio(0, 3000)
    agent.voice.interrupt(1000)
    agent.audio(1010, 200, caller=True, speaks=True)
    agent.voice.mark("m", 1020)
    agent.voice.echo("m", 1250)
    assert agent.close(9000) == [(0, 1250)]


def test_marks_that_say_nothing_change_nothing() -> None:
    """Unknown names, marks without audio before them, echoes out of all proportion, echoes of audio long past."""
    agent = Agent()
    agent.voice.mark("before any audio", 0)
    agent.voice.echo("before any audio", 10)
    agent.audio(100, 1000)
    agent.voice.mark("late", 200)
    agent.voice.echo("never sent", 300)
    agent.voice.mark("after a pause", 1400)
    agent.voice.echo("after a pause", 1450)
    agent.voice.echo("late", 1100 + MARK_WAIT_MS + 1)
    agent.audio(20_000, 1000)
    agent.voice.mark("of this", 20_000)
    agent.audio(30_000, 1000)
    agent.voice.echo("of this", 30_100)
    assert agent.close(40_000) == [(100, 1100), (20_000, 21_000), (30_000, 31_000)]


def test_marks_that_are_never_echoed_are_bounded() -> None:
    """An agent may send marks for every frame to a platform that echoes none."""
    agent = Agent()
    agent.audio(0, 1000)
    for number in range(MARKS_LIMIT + 10):
        agent.voice.mark(str(number), 10)
    assert agent.voice.marks is not None
    assert len(agent.voice.marks) == MARKS_LIMIT


# -- the caller --------------------------------------------------------------------------------------------------------


def caller(*, burst: float | None, until: float, start: float, event_at: float, completed: float | None) -> CallerVoice:
    """Return a caller's voice as the observer would have left it."""
    voice = CallerVoice()
    voice.events = True
    if burst is not None:
        voice.begin_burst(burst)
        voice.until = until
    voice.begin(start, event_at)
    voice.completed = completed
    return voice


@pytest.mark.parametrize(
    ("burst", "until", "completed", "now", "end"),
    [
        pytest.param(1000, 3120, 3000, 4000, 3120, id="audio runs on for less than 200 ms"),
        pytest.param(1000, 3000, 3400, 4000, 3000, id="audio had ended before the event"),
        pytest.param(1000, 3990, 3000, 4000, 3000, id="audio never pauses"),
        pytest.param(None, 0, 3000, 4000, 3000, id="there is no audio at all"),
        pytest.param(1000, 3990, None, 4000, 4000, id="the call ends in the middle of the speech"),
        pytest.param(1000, 2000, None, 4000, 2000, id="the call ends after the audio, without an event"),
        pytest.param(1000, 3120, 3000, 3100, 3100, id="the call ends in the middle of the tail"),
    ],
)
def test_speech_ends_with_its_audio_where_the_audio_ends(
    burst: float | None, until: float, completed: float | None, now: float, end: float
) -> None:
    """speech.completed comes up to 200 ms early; the last frame knows better, if there is a last frame."""
    voice = caller(burst=burst, until=until, start=1000, event_at=1150, completed=completed)
    assert voice.end(now) == (1000, end)


@pytest.mark.parametrize(
    ("burst", "until", "verdict"),
    [
        pytest.param(2000, 2200, True, id="audio began with the event"),
        pytest.param(2100, 2200, True, id="audio began before it, as documented"),
        pytest.param(500, 2200, None, id="audio never pauses"),
        pytest.param(500, 1500, False, id="the caller was silent"),
        pytest.param(None, 0, None, id="there is no audio at all"),
    ],
)
def test_audio_tells_speech_from_echo(burst: float | None, until: float, verdict: bool | None) -> None:
    """A speech event without the caller's audio is the echo of the agent's."""
    assert caller(burst=burst, until=until, start=2200, event_at=2200, completed=None).verdict() is verdict


def test_audio_that_comes_long_after_a_silent_event_is_where_the_caller_began() -> None:
    """An echo that the caller's own speech follows before it is over becomes that speech."""
    voice = caller(burst=100, until=200, start=2000, event_at=2000, completed=None)
    voice.begin_burst(2900)
    voice.until = 3500
    assert voice.verdict() is True
    assert voice.end(3600) == (2900, 3600)


def test_a_pause_in_the_middle_of_speech_is_part_of_it() -> None:
    """Another burst does not move the start."""
    voice = caller(burst=1000, until=1500, start=1000, event_at=1100, completed=None)
    voice.begin_burst(1900)
    voice.until = 2500
    voice.completed = 2450
    assert voice.end(4000) == (1000, 2500)


def test_speech_never_begins_before_the_last_has_ended() -> None:
    """Spans of one speaker do not overlap, whatever the events say."""
    voice = caller(burst=None, until=0, start=1000, event_at=1000, completed=2000)
    voice.end(3000)
    assert voice.begin(1500, 1500).start_ms == 2000


def test_speech_that_nobody_spoke_is_forgotten_unless_it_has_a_text() -> None:
    """A text keeps its time; without one there is nothing to keep."""
    silent = caller(burst=None, until=0, start=1000, event_at=1000, completed=None)
    silent.drop(2000)
    silent.drop(2100)
    assert (silent.span, silent.last) == (None, None)
    told = caller(burst=None, until=0, start=1000, event_at=1000, completed=None)
    text = told.utterance(1700)
    told.drop(2000)
    assert told.last is text
    assert repr(text) == "HeardSpan(1000, 2000)"


def test_speech_is_settled_when_no_tail_can_come_any_more() -> None:
    """Half a second after speech.completed, or of silence where there are no events."""
    voice = CallerVoice()
    assert not voice.settled(1e6)
    voice = caller(burst=0, until=2000, start=0, event_at=100, completed=2000)
    assert (voice.settled(2500), voice.settled(2501)) == (False, True)
    voice.completed = None
    assert not voice.settled(9000)
    voice.events = False
    assert (voice.settled(2500), voice.settled(2501)) == (False, True)


def test_an_end_before_the_start_is_the_start() -> None:
    """Nothing ends before it begins, and what never began ends where it is said to."""
    early, never = HeardSpan(500), HeardSpan()
    early.finish(400)
    never.finish(400)
    assert (early.end_ms, never.start_ms, never.end_ms) == (500, 400, 400)
