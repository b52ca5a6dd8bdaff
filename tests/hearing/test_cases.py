"""Single moments of a call, each in the words of who would ask about it."""

from __future__ import annotations

from typing import Any

import pytest

from bluejay_ws.hearing.chirp import ERROR_FROM_AGENT, ERROR_FROM_PLATFORM
from bluejay_ws.hearing.turns import (
    AGENT_INTERRUPTED,
    BACKCHANNEL,
    CALLER_INTERRUPTED,
    LONG_SILENCE,
    RESPONSE,
    SENT_AHEAD,
)
from tests.hearing.stage import Stage, noise, speech


def stage_with_question(answer_ms: float = 2_000, every_ms: float | None = 1.0) -> Stage:
    """Return a call whose caller speaks until 1,000; its agent answers from 1,500 on, by default sent at once."""
    stage = Stage()
    stage.caller(0, speech(1_000, stage.dice))
    stage.said("agent", "answer", 1_450)
    stage.agent(1_500, speech(answer_ms, stage.dice), every_ms=every_ms)
    return stage


@pytest.mark.parametrize("gap", [-1, -20, -60, 1, 100, 200, None])
def test_a_barge_in_is_heard_whenever_its_event_comes(gap: int | None) -> None:
    """Before the audio, after it, or never: one interruption, from the first loud frame to where both were heard."""
    stage = stage_with_question()
    stage.caller(2_500, speech(2_000, stage.dice))
    if gap is not None:
        stage.message("user", "speech.started", 2_500 + gap, utterance_id="b")
        stage.message("user", "speech.completed", 4_490, utterance_id="b")
    stage.play(6_000)
    (event,) = stage.titled(CALLER_INTERRUPTED)
    assert (event["start_offset_ms"], event["end_offset_ms"]) == (2_500, 3_500)
    facts = event["metadata"]
    assert (facts["overlap_ms"], facts["reaction_ms"], facts["agent_stopped"]) == (1_000, 0, True)
    assert stage.span("answer") == (1_500, 3_500)  # the platform plays what it has, whoever talks over it


def test_what_was_sent_ahead_is_said_with_what_to_do() -> None:
    """The caller interrupts and hears another second: that is worth an event of its own."""
    stage = stage_with_question()
    stage.caller(2_500, speech(800, stage.dice))
    stage.play(6_000)
    (event,) = stage.titled(SENT_AHEAD)
    assert event["metadata"] == {"queued_ms": 1_000}
    assert "1.0 s more" in event["description"]
    assert "pace the audio" in event["description"]


def test_an_agent_that_paces_and_stops_is_measured() -> None:
    """Its reaction is the time from the caller's first sound to the last audio sent; nothing was queued."""
    stage = stage_with_question(1_400, every_ms=None)
    stage.caller(2_500, speech(1_500, stage.dice))
    stage.play(6_000)
    (event,) = stage.titled(CALLER_INTERRUPTED)
    assert event["metadata"]["reaction_ms"] == pytest.approx(400, abs=20)
    assert event["metadata"]["queued_ms"] <= 20
    assert stage.titled(SENT_AHEAD) == []


@pytest.mark.parametrize("marked", [False, True])
@pytest.mark.parametrize("every_ms", [0.5, 5.0, None])
def test_an_echo_is_no_interruption(marked: bool, every_ms: float | None) -> None:
    """The platform's events fire on the agent's own voice; the caller's audio is hold noise all the while."""
    stage = Stage()
    hold = bytearray(noise(150, 10_000, stage.dice))
    hold[500 * 32 : 1_500 * 32] = speech(1_000, stage.dice)
    stage.caller(0, bytes(hold))
    stage.said("agent", "answer", 1_550)
    stage.agent(1_600, speech(3_000, stage.dice), every_ms=every_ms)
    if marked:
        stage.message("agent", "mark", 1_700, name="m")
        stage.message("user", "mark", 4_600, name="m")
    stage.message("user", "speech.started", 2_100, utterance_id="echo")
    stage.message("user", "speech.completed", 4_500, utterance_id="echo")
    stage.play(10_000)
    assert stage.span("answer") == (1_600, 4_600)
    assert [one["title"] for one in stage.events] == [RESPONSE, LONG_SILENCE]


def test_a_mark_that_comes_back_at_once_shortens_nothing() -> None:
    """It cannot have been played; that is counted."""
    stage = Stage()
    stage.said("agent", "hello", 1_000)
    stage.agent(1_000, speech(3_000, stage.dice), every_ms=2.0)
    stage.message("agent", "mark", 1_301, name="m")
    stage.message("user", "mark", 1_302, name="m")
    stage.play(12_000)
    assert stage.span("hello") == (1_000, 4_000)
    assert stage.observer.summary()["marks_early"] == 1


def test_an_agent_that_talks_over_the_caller_interrupts_for_as_long_as_both_are_heard() -> None:
    """A greeting of 360 ms over a caller who continues: the overlap is 360 ms, and not to the caller's end."""
    stage = Stage()
    stage.caller(0, speech(1_500, stage.dice))
    stage.agent(100, speech(360, stage.dice))
    stage.play(4_000)
    (event,) = stage.titled(AGENT_INTERRUPTED)
    assert event["metadata"] == {"overlap_ms": 360}
    assert (event["start_offset_ms"], event["end_offset_ms"]) == (100, 460)


@pytest.mark.parametrize(
    ("begins", "lasts", "interrupts"), [(860, 900, 0), (800, 900, 1), (400, 260, 0), (400, 340, 1)]
)
def test_an_agent_interrupts_by_the_same_measure_as_a_caller(begins: int, lasts: int, interrupts: int) -> None:
    """The caller is heard for more than 150 ms more, and the agent says more than an "mm-hm"."""
    stage = Stage()
    stage.caller(0, speech(1_000, stage.dice))
    stage.agent(begins, speech(lasts, stage.dice))
    stage.play(3_000)
    assert len(stage.titled(AGENT_INTERRUPTED)) == interrupts


def test_an_agent_that_speaks_over_a_single_word_interrupts_nobody() -> None:
    """Somebody says "mm-hm" in a pause of the agent's, as the agent continues."""
    stage = Stage()
    stage.agent(0, speech(1_000, stage.dice))
    stage.caller(1_300, speech(240, stage.dice))
    stage.agent(1_360, speech(1_000, stage.dice))
    stage.play(4_000)
    assert stage.titled(AGENT_INTERRUPTED) == []


def test_an_agent_that_answers_a_little_early_has_only_answered_quickly() -> None:
    """Its latency is zero, and it interrupts nobody."""
    stage = Stage()
    stage.caller(0, speech(1_000, stage.dice))
    stage.agent(850, speech(1_000, stage.dice))
    stage.play(3_000)
    assert [(one["title"], one["metadata"]) for one in stage.events] == [(RESPONSE, {"latency_ms": 0})]


def test_a_backchannel_is_marked_as_one() -> None:
    """An "mm-hm" while the agent speaks is no interruption."""
    stage = stage_with_question()
    stage.caller(2_500, speech(200, stage.dice))
    stage.play(6_000)
    assert stage.titled(CALLER_INTERRUPTED) == []
    (event,) = stage.titled(BACKCHANNEL)
    assert event["start_offset_ms"] == 2_500
    assert stage.observer.summary()["backchannels"] == 1


def test_a_caller_who_pauses_while_breaking_in_interrupts_once() -> None:
    """The words "wait ... I said Tuesday" are one interruption."""
    stage = stage_with_question(4_000)
    stage.caller(2_500, speech(500, stage.dice))
    stage.caller(3_500, speech(900, stage.dice))
    stage.play(8_000)
    (event,) = stage.titled(CALLER_INTERRUPTED)
    assert event["metadata"]["overlap_ms"] == 1_400


def test_silence_that_is_sent_is_not_speech() -> None:
    """A provider streams without a pause; only what is loud in it is heard."""
    stage = Stage()
    audio = bytearray(noise(10, 8_000, stage.dice))
    audio[2_000 * 32 : 3_500 * 32] = speech(1_500, stage.dice)
    stage.said("agent", "answer", 1_900)
    stage.agent(0, bytes(audio))
    stage.caller(0, speech(1_500, stage.dice))
    stage.play(8_000)
    assert stage.span("answer") == (2_000, 3_500)
    (event,) = stage.titled(RESPONSE)
    assert event["metadata"] == {"latency_ms": 500}


def test_silence_is_told_only_where_frames_were_observed() -> None:
    """From no frame follows nothing; from frames without speech follows that nobody spoke."""
    deaf = Stage()
    deaf.said("agent", "hello", 100)
    deaf.message("user", "speech.started", 100, utterance_id="a")
    deaf.play(20_000)
    assert deaf.events == []
    silent = Stage()
    silent.caller(0, noise(150, 7_000, silent.dice))
    silent.play(7_000)
    assert [(one["title"], one["metadata"]) for one in silent.events] == [(LONG_SILENCE, {"duration_ms": 7_000})]


@pytest.mark.parametrize("early", [True, False])
def test_what_a_provider_says_is_one_with_what_was_heard(early: bool) -> None:
    """Whoever notices first: one interruption, one event."""
    stage = stage_with_question(every_ms=None)
    stage.caller(2_500, speech(1_500, stage.dice))
    at = 2_700 if early else 8_300
    stage.message("agent", "speech.completed", 8_200)
    stage.at(at, lambda now: stage.observer.interruption(2_700, "user", "openai"))
    stage.at(at + 1, lambda now: stage.observer.interruption(2_701, "user", "pipecat"))
    stage.play(9_000)
    (event,) = stage.titled(CALLER_INTERRUPTED)
    assert event["metadata"].get("noticed_by") == (["openai", "pipecat"] if early else None)


@pytest.mark.parametrize(("noticed", "expected"), [(True, 1), (False, 0)])
def test_an_agent_that_stops_at_once_was_interrupted_where_its_framework_says_so(noticed: bool, expected: int) -> None:
    """Both were heard for an instant only: otherwise the agent had simply come to its end."""
    stage = stage_with_question(1_000, every_ms=None)
    stage.caller(2_430, speech(1_000, stage.dice))
    if noticed:
        stage.at(2_490, lambda now: stage.observer.interruption(now, "user", "pipecat"))
    stage.play(9_000)
    assert len(stage.titled(CALLER_INTERRUPTED)) == expected


def test_what_a_provider_says_without_any_speech_is_counted() -> None:
    """It heard noise; the audio is the truth."""
    stage = stage_with_question()
    stage.at(2_000, lambda now: stage.observer.interruption(now, "user", "openai"))
    stage.play(9_000)
    assert stage.titled(CALLER_INTERRUPTED) == []
    assert stage.observer.summary()["unconfirmed_interruptions"] == 1


def test_where_no_audio_is_observed_a_provider_is_believed_once() -> None:
    """Its word is the event; the same again a moment later is not another."""
    stage = Stage()
    for at in (1_000, 1_300, 9_000):
        stage.at(at, lambda now: stage.observer.interruption(now, "user", "openai"))
    stage.at(9_100, lambda now: stage.observer.interruption(now, "agent", "x"))
    stage.play(10_000)
    assert [one["start_offset_ms"] for one in stage.titled(CALLER_INTERRUPTED)] == [1_000, 9_000]
    assert len(stage.titled(AGENT_INTERRUPTED)) == 1
    assert stage.observer.summary()["caller_barge_ins"] == 2


def test_an_answer_behind_what_was_sent_ahead_is_another_utterance() -> None:
    """It is heard right after it, and its latency is what the caller waited."""
    stage = stage_with_question(4_000)
    stage.caller(2_500, speech(1_000, stage.dice))
    stage.said("agent", "sorry", 3_900)
    stage.agent(4_000, speech(1_000, stage.dice), every_ms=1.0)
    stage.play(9_000)
    assert stage.span("answer") == (1_500, 5_500)
    assert stage.titled(RESPONSE)[-1]["metadata"] == {"latency_ms": 2_000}


def test_audio_that_is_sent_later_is_an_answer_if_the_caller_broke_in_meanwhile() -> None:
    """It waits behind what was sent before. Where nobody broke in, the agent went on."""
    stage = stage_with_question(4_000)
    stage.caller(2_500, speech(800, stage.dice))
    stage.agent(4_000, speech(1_000, stage.dice), every_ms=1.0)
    stage.play(9_000)
    assert stage.titled(RESPONSE)[-1]["metadata"] == {"latency_ms": 2_200}
    alone = stage_with_question(2_000)
    alone.agent(2_400, speech(1_000, alone.dice), every_ms=1.0)
    alone.play(9_000)
    assert alone.span("answer") == (1_500, 4_500)


def test_what_is_heard_is_shown_in_a_debugger() -> None:
    """Whose speech it is, and from when to when; whose words, and never the words."""
    stage = stage_with_question(2_000)
    stage.play(5_000)
    assert repr(stage.stretches["answer"].segments[0]) == "Segment(agent, 1500..3500)"
    assert repr(stage.placed("answer").utterance) == "<Utterance of the agent>"


def test_a_carriers_clear_ends_what_is_heard_there_and_cuts_the_text() -> None:
    """What was not played was not said."""
    stage = stage_with_question(2_000)
    stage.caller(2_300, speech(900, stage.dice))
    stage.at(2_500, stage.observer.clear)
    stage.said("agent", "sorry", 3_400)
    stage.agent(3_500, speech(1_000, stage.dice), every_ms=1.0)
    stage.play(6_000)
    assert stage.span("answer") == (1_500, 2_500)
    assert stage.placed("answer").share == pytest.approx(0.5, abs=0.02)
    assert stage.span("sorry") == (3_500, 4_500)
    (event,) = stage.titled(CALLER_INTERRUPTED)
    assert event["metadata"]["overlap_ms"] == 200
    assert stage.titled(SENT_AHEAD) == []


@pytest.mark.parametrize(("after", "cut"), [(10, True), (300, True), (900, False)])
def test_a_text_recorded_after_a_clear_is_of_what_was_cut_unless_the_caller_has_had_a_turn(
    after: int, cut: bool
) -> None:
    """An agent may say what it has said when it has stopped: at once, and not when the caller waits for an answer."""
    stage = Stage()
    stage.caller(0, speech(1_000, stage.dice))
    stage.agent(1_500, speech(2_000, stage.dice), every_ms=1.0)
    stage.caller(2_300, speech(700, stage.dice))
    stage.at(2_500, stage.observer.clear)
    stage.said("agent", "words of some length", 2_500 + after)
    stage.agent(3_600, speech(1_000, stage.dice))
    stage.play(6_000)
    assert stage.span("words of some length") == ((1_500, 2_500) if cut else (3_600, 4_600))
    assert stage.placed("words of some length").share == pytest.approx(0.5 if cut else 1.0, abs=0.02)


def test_the_end_of_the_call_cuts_what_was_queued() -> None:
    """The caller hung up in the middle of the sentence."""
    stage = stage_with_question(2_000)
    stage.play(2_500)
    assert stage.span("answer") == (1_500, 2_500)
    assert stage.placed("answer").share == pytest.approx(0.5, abs=0.02)


def test_sentences_recorded_ahead_are_placed_by_order_and_length() -> None:
    """Each ends at the pause that is near to where it should end."""
    stage = Stage()
    for text in ("The first sentence here.", "The second is a good deal longer than that.", "Third."):
        stage.said("agent", text, 100)
    stage.agent(500, speech(1_500, stage.dice) + noise(0, 350, stage.dice) + speech(2_600, stage.dice), every_ms=5.0)
    stage.agent(5_500, speech(500, stage.dice))
    stage.play(8_000)
    assert stage.span("The first sentence here.") == (500, 2_000)
    assert stage.span("The second is a good deal longer than that.") == (2_340, 4_950)
    assert stage.span("Third.") == (5_500, 6_000)


def test_a_sentence_recorded_just_before_its_audio_begins_where_that_begins() -> None:
    """Though the audio of the one before it is still in the queue, and their lengths say otherwise."""
    stage = Stage()
    stage.said("agent", "A slowly spoken one.", 90)
    stage.agent(100, speech(2_000, stage.dice), every_ms=1.0)
    stage.said("agent", "A quickly spoken one, this is.", 290)
    stage.agent(300, speech(2_000, stage.dice), every_ms=1.0)
    stage.play(8_000)
    assert stage.span("A slowly spoken one.") == (100, 2_100)
    assert stage.span("A quickly spoken one, this is.") == (2_100, 4_100)


@pytest.mark.parametrize("audio_ms", [1_000.0, None])
def test_sentences_whose_audio_was_never_sent_were_not_heard(audio_ms: float | None) -> None:
    """The caller broke in after the first of three: the others are known not to have been spoken."""
    stage = Stage()
    texts = ("What would you like?", "We have rooms now.", "We have a pool too.")
    for text in texts:
        stage.said("agent", text, 100, audio_ms)
    stage.agent(200, speech(1_000, stage.dice))
    stage.caller(1_000, speech(1_500, stage.dice))
    stage.play(8_000)
    assert [stage.placed(text).share > 0.5 for text in texts] == [True, False, False]


CLIPS = ((120, 1_500, 320), (0, 900, 380), (200, 2_100, 150))
"""Silence before, speech, silence behind: what speech synthesis returns for one sentence each."""


@pytest.mark.parametrize("recorded", ["all at once", "each before its audio"])
@pytest.mark.parametrize("sends", ["pacing", "burst", "continuous"])
def test_the_length_of_a_text_s_audio_includes_the_silence_in_it(sends: str, recorded: str) -> None:
    """No sentence takes the sound of the next one, and the last is not cut for what was silent."""
    stage, audio, truth = Stage(), b"", {}
    for number, (before, spoken, behind) in enumerate(CLIPS):
        clip = noise(0, before, stage.dice) + speech(spoken, stage.dice) + noise(0, behind, stage.dice)
        begins = len(audio) / 32
        sent = 0.0 if recorded == "all at once" else begins / 20 if sends == "burst" else begins
        stage.said("agent", f"sentence {number}", 1_999.9 + sent + number / 100, len(clip) / 32)
        truth[f"sentence {number}"] = (2_000 + begins + before, 2_000 + begins + before + spoken)
        audio += clip
    if sends == "continuous":
        stage.agent(0, noise(0, 2_000, stage.dice) + audio + noise(0, 3_000, stage.dice))
    else:
        stage.agent(2_000, audio, every_ms=1.0 if sends == "burst" else None)
    stage.play(11_000)
    for text, span in truth.items():
        assert stage.span(text) == pytest.approx(span, abs=20)
        assert stage.placed(text).share == 1.0


@pytest.mark.parametrize("continuous", [False, True])
def test_of_a_text_of_known_length_the_share_that_was_sent_was_heard(continuous: bool) -> None:
    """The agent stopped in the middle, whether it then sends nothing or silence; what it had sent before was whole."""
    stage = Stage()
    stage.said("agent", "whole", 1_999, 1_500)
    stage.said("agent", "half", 1_999, 2_000)
    first = noise(0, 100, stage.dice) + speech(1_200, stage.dice) + noise(0, 200, stage.dice)
    stage.agent(2_000, first + speech(1_000, stage.dice) + noise(0, 4_000 if continuous else 0, stage.dice))
    stage.play(9_000)
    assert stage.placed("whole").share == 1.0
    assert stage.placed("half").end_ms == pytest.approx(4_500, abs=20)
    assert stage.placed("half").share == pytest.approx(0.5, abs=0.05)


@pytest.mark.parametrize("answered", [False, True])
@pytest.mark.parametrize("recorded", [1_400, 4_400, 7_400])
def test_words_and_sound_without_each_other_belong_together(recorded: int, answered: bool) -> None:
    """Long before its audio, or long after it; unless the caller has spoken in between: then they answer that."""
    stage = Stage()
    stage.said("agent", "text", recorded)
    stage.agent(9_000 if recorded < 2_000 else 3_000, speech(1_200, stage.dice))
    if answered:
        between = {1_400: 5_000, 4_400: 6_000, 7_400: 5_000}[recorded]
        stage.caller(between, speech(800, stage.dice))
    stage.play(15_000)
    heard = stage.placed("text").share > 0.0
    assert heard is (recorded == 4_400 or not answered)


def test_a_text_without_any_audio_has_no_share() -> None:
    """The agent was about to say it when the caller spoke; a later text does not take it along."""
    stage = stage_with_question()
    stage.said("agent", "never said", 4_500)
    stage.said("agent", "said", 10_000)
    stage.agent(10_100, speech(500, stage.dice))
    stage.play(12_000)
    assert stage.placed("never said").share == 0.0
    assert stage.span("said") == (10_100, 10_600)


def test_a_text_whose_audio_was_never_sent_is_not_taken_for_the_next_answer() -> None:
    """The caller spoke before its audio was sent: the agent began anew, and its next text is what is heard."""
    stage = Stage()
    stage.agent(0, speech(500, stage.dice))
    stage.caller(1_000, speech(1_000, stage.dice))
    stage.said("agent", "an answer that was given up", 2_200)
    stage.caller(2_500, speech(800, stage.dice))
    stage.said("agent", "the answer", 3_900)
    stage.agent(3_950, speech(1_000, stage.dice))
    stage.play(6_000)
    assert stage.placed("an answer that was given up").share == 0.0
    assert stage.span("the answer") == (3_950, 4_950)


@pytest.mark.parametrize(("word_ms", "kept"), [(200, True), (400, False)])
def test_a_backchannel_before_the_audio_gives_no_text_up(word_ms: int, kept: bool) -> None:
    """The agent continues as it had meant to; more than an "mm-hm" is a turn, and what it says is another answer."""
    stage = Stage()
    stage.said("agent", "first", 1_000)
    stage.caller(1_200, speech(word_ms, stage.dice))
    stage.said("agent", "second", 2_100)
    stage.agent(2_200, speech(2_000, stage.dice))
    stage.play(6_000)
    assert (stage.placed("first").share > 0.0) is kept


def test_sentences_that_come_quickly_one_after_the_other_are_all_kept() -> None:
    """The caller has said a word in between: the first was given up only if its audio does not come for a second."""
    stage = Stage()
    stage.said("agent", "The first sentence.", 1_000)
    stage.caller(1_100, speech(400, stage.dice))
    stage.said("agent", "Then the second one.", 1_800)
    stage.agent(2_000, speech(2_500, stage.dice))
    stage.play(6_000)
    assert stage.placed("The first sentence.").share == stage.placed("Then the second one.").share == 1.0


def test_a_text_that_comes_late_is_of_what_was_heard_before_the_caller_spoke() -> None:
    """More than a second after its audio, which has no text; the next audio is that of the next text."""
    stage = Stage()
    stage.agent(0, speech(1_000, stage.dice))
    stage.said("agent", "late", 2_200)
    stage.caller(3_000, speech(1_000, stage.dice))
    stage.agent(4_500, speech(1_200, stage.dice))
    stage.said("agent", "later", 7_000)
    stage.play(8_000)
    assert stage.span("late") == (0, 1_000)
    assert stage.span("later") == (4_500, 5_700)


def test_an_answer_is_no_part_of_what_the_caller_broke_off() -> None:
    """The text before it asks for more audio than was sent, but the caller broke in, and had a turn."""
    stage = Stage()
    stage.said("agent", "broken off", 100, audio_ms=4_000)
    stage.agent(110, speech(1_100, stage.dice))
    stage.caller(1_000, speech(1_000, stage.dice))
    stage.agent(2_500, speech(1_000, stage.dice))
    stage.said("agent", "the answer", 3_000)
    stage.play(6_000)
    assert stage.span("broken off") == (110, 1_210)
    assert stage.span("the answer") == (2_500, 3_500)


def test_a_text_goes_on_after_a_pause_in_which_the_caller_said_mm_hm() -> None:
    """It asks for more audio than was sent before the pause."""
    stage = Stage()
    stage.said("agent", "in two parts", 100, audio_ms=3_000)
    stage.agent(110, speech(1_000, stage.dice))
    stage.caller(1_300, speech(200, stage.dice))
    stage.agent(1_800, speech(1_000, stage.dice))
    stage.play(6_000)
    assert stage.span("in two parts") == (110, 2_800)


@pytest.mark.parametrize("waits", [0, 100, 250])
def test_a_text_of_known_length_ends_with_its_sound(waits: int) -> None:
    """However long before its audio it was recorded, in a stream of silence."""
    stage = Stage()
    clip = noise(0, 100, stage.dice) + speech(1_000, stage.dice) + noise(0, 20, stage.dice)
    stage.agent(0, noise(0, 2_000, stage.dice) + clip + noise(0, 3_000, stage.dice))
    stage.said("agent", "text", 1_999 - waits, audio_ms=1_120)
    stage.play(5_000)
    assert stage.span("text") == (2_100, 3_100)


@pytest.mark.parametrize("every_ms", [None, 1.0])
@pytest.mark.parametrize("gap", [60, 140, 280])
@pytest.mark.parametrize("audio_ms", [None, 1_000.0])
def test_a_text_recorded_before_its_own_audio_begins_with_its_sound(
    gap: int, every_ms: float | None, audio_ms: float | None
) -> None:
    """And the one before it ends with its own: the short silence that speech synthesis puts between is of neither."""
    stage = Stage()
    stage.said("agent", "The first of three.", 999, audio_ms)
    for number, text in enumerate(("", "The second of all three.", "The last.")):
        begins = 1_000 + (number * (1_000 + gap) - gap * (number > 0) if every_ms is None else 100 * number)
        if text:
            stage.said("agent", text, begins - 1, audio_ms and audio_ms + gap)
        stage.agent(begins, noise(0, gap if number else 0, stage.dice) + speech(1_000, stage.dice), every_ms=every_ms)
    stage.play(8_000)
    found = [stage.span(text) for text in ("The first of three.", "The second of all three.", "The last.")]
    assert found == [(begins, begins + 1_000) for begins in (1_000, 2_000 + gap, 3_000 + 2 * gap)]


@pytest.mark.parametrize("early", [150, 350])
def test_a_sentence_that_begins_after_a_long_pause_is_not_squeezed_into_the_one_before(early: int) -> None:
    """It was recorded when that had just been spoken, and its own audio begins with some silence."""
    stage = Stage()
    stage.said("agent", "One short one.", 999)
    stage.agent(1_000, speech(2_500, stage.dice))
    stage.said("agent", "Another short one.", 3_600)
    stage.agent(3_601, noise(0, 300 + early, stage.dice) + speech(1_000, stage.dice))
    stage.play(6_000)
    assert stage.span("One short one.") == (1_000, 3_500)
    assert stage.span("Another short one.") == pytest.approx((3_901 + early, 4_901 + early), abs=20)


@pytest.mark.parametrize("gap", [100, 140, 280])
@pytest.mark.parametrize("known", [False, True])
def test_sentences_recorded_ahead_begin_with_their_sound(gap: int, known: bool) -> None:
    """Their audio is one after the other, with short silences between, which belong to none of them."""
    stage = Stage()
    texts = ("The first sentence of three.", "The second is quite a bit longer than the first.", "And the last one.")
    audio, truth = b"", []
    for text, spoken in zip(texts, (1_600, 2_900, 1_100), strict=True):
        stage.said("agent", text, 990, spoken + gap if known else None)
        truth.append((1_000 + len(audio) // 32, 1_000 + len(audio) // 32 + spoken))
        audio += speech(spoken, stage.dice) + noise(0, gap, stage.dice)
    stage.agent(1_000, audio)
    stage.play(9_000)
    for text, span in zip(texts, truth, strict=True):
        assert stage.span(text) == pytest.approx(span, abs=20)


def test_the_agents_own_event_begins_another_utterance() -> None:
    """Two utterances in one stream of audio, told apart by ``speech.started``; one that only announces is no split."""
    stage = Stage()
    stage.message("agent", "speech.started", 95, utterance_id="1")
    stage.said("agent", "one", 96)
    stage.agent(100, speech(1_000, stage.dice), every_ms=1.0)
    stage.message("agent", "speech.started", 400, utterance_id="2")
    stage.said("agent", "two", 410)
    stage.agent(420, speech(1_000, stage.dice), every_ms=1.0)
    stage.play(4_000)
    assert stage.span("one") == (100, 1_100)
    assert stage.span("two") == (1_100, 2_100)


def test_all_texts_between_the_agents_own_event_and_its_audio_are_of_that_audio() -> None:
    """Its words come sentence by sentence, while what it said before has no text yet."""
    stage = Stage()
    stage.agent(100, speech(1_000, stage.dice))
    stage.message("agent", "speech.started", 1_200, utterance_id="2")
    for text in ("one", "two"):
        stage.said("agent", text, 1_210)
    stage.agent(1_600, speech(1_000, stage.dice))
    stage.play(4_000)
    assert (stage.placed("one").start_ms, stage.placed("two").end_ms) == (1_600, 2_600)


def test_a_transcript_that_comes_late_belongs_to_what_was_said_before() -> None:
    """The caller has just begun again; the text is for the words before the pause."""
    stage = Stage()
    stage.caller(0, speech(1_000, stage.dice))
    stage.caller(1_500, speech(1_500, stage.dice))
    stage.said("user", "before", 1_700)
    stage.said("user", "after", 3_300)
    stage.said("user", "typed", 9_000)
    stage.play(9_500)
    assert stage.span("before") == (0, 1_000)
    assert stage.span("after") == (1_500, 3_000)
    assert stage.span("typed") == (9_000, 9_000)


def test_one_transcript_of_speech_with_a_pause_takes_all_of_it() -> None:
    """People breathe."""
    stage = Stage()
    stage.caller(0, speech(1_000, stage.dice))
    stage.caller(1_600, speech(1_000, stage.dice))
    stage.said("user", "all of it", 3_000)
    stage.play(5_000)
    assert stage.span("all of it") == (0, 2_600)


@pytest.mark.parametrize("level", [300.0, 2_000.0])
@pytest.mark.parametrize("ms", [2.0, 10.0, 25.0, 60.0, 3_000.0])
def test_frames_of_any_length_are_heard(level: float, ms: float) -> None:
    """A quiet voice over silence, in frames of 2 ms and in one of 3 s."""
    stage = Stage()
    stage.said("agent", "hello", 400)
    stage.agent(500, noise(0, 500, stage.dice) + noise(level, 2_000, stage.dice) + noise(0, 500, stage.dice), ms)
    stage.play(6_000)
    start, end = stage.span("hello")
    assert start == pytest.approx(1_000, abs=25)
    assert end == pytest.approx(3_000, abs=25)


def test_the_soft_parts_of_a_quiet_voice_do_not_pass_for_noise() -> None:
    """A line without any noise, and syllables between 240 and 500: the voice does not make the ear deaf to itself."""
    stage = Stage()
    syllable = [noise(level, 40, stage.dice) for level in (240.0, 350.0, 500.0, 350.0, 240.0)]
    for number in range(12):
        stage.caller(number * 3_000, b"".join(syllable * 8))
        stage.said("user", f"utterance {number}", number * 3_000 + 1_900)
    stage.play(36_000)
    for number in range(12):
        start, end = stage.span(f"utterance {number}")
        assert start == pytest.approx(number * 3_000, abs=50)
        assert end == pytest.approx(number * 3_000 + 1_600, abs=50)


def test_a_click_and_noise_that_begins_are_no_speech() -> None:
    """Neither 20 ms of sound, nor hold noise that sets in, nor breath."""
    stage = Stage()
    stage.caller(0, noise(0, 2_000, stage.dice) + noise(9_000, 20, stage.dice) + noise(0, 1_000, stage.dice))
    stage.caller(3_020, noise(150, 4_000, stage.dice) + noise(190, 400, stage.dice) + noise(150, 1_000, stage.dice))
    stage.play(8_000)
    assert [one["title"] for one in stage.events] == [LONG_SILENCE]
    assert stage.events[0]["metadata"] == {"duration_ms": 8_000}


def test_errors_of_both_sides_are_events() -> None:
    """Code and message are kept, and nothing else."""
    stage = Stage()
    stage.message("user", "session.error", 10, code="INVALID_MESSAGE", message="m" * 5_000, more="secret")
    stage.message("agent", "session.error", 20, code=7)
    stage.play(100)
    assert [one["title"] for one in stage.events] == [ERROR_FROM_PLATFORM, ERROR_FROM_AGENT]
    assert stage.events[0]["metadata"] == {"code": "INVALID_MESSAGE", "message": "m" * 1_000}
    assert stage.observer.summary()["session_errors"] == 2


def test_after_the_end_nothing_changes() -> None:
    """Late frames, messages, marks and claims leave counts and events as they were; a text stands by itself."""
    stage = stage_with_question()
    stage.play(6_000)
    before, events = stage.observer.summary(), list(stage.events)
    observer: Any = stage.observer
    observer.close(7_000)
    for at in (6_100.0, 7_000.0, 9_000.0):
        observer.user_audio(speech(100, stage.dice), at)
        observer.agent_audio(speech(100, stage.dice), at)
        observer.agent_heard(3_000, 20.0, at)
        observer.user_heard(3_000, 20.0, at)
        observer.user_text('{"type": "session.error"}', at)
        observer.agent_text('{"type": "speech.started"}', at)
        observer.mark("m", at)
        observer.mark_echoed("m", at)
        observer.interruption(at, "user", "x")
        observer.clear(at)
    assert stage.observer.summary() == before
    assert stage.events == events
    stage.said("agent", "late", 0)
    stage.at(9_500, stage._plan[-1][2])
    stage._plan = stage._plan[-1:]
    stage.play(10_000)
    assert stage.placed("late").share == 0.0


def test_frames_that_an_adapter_hears_already_are_not_heard_twice() -> None:
    """A user hands frames over although the server's adapter sees them."""
    observer = Stage().observer
    observer.received(bytes(640), 0.0)
    observer.received(bytes(640), 20.0)
    observer.sent(bytes(640), 0.0)
    assert (observer.summary()["user_frames"], observer.summary()["agent_frames"]) == (2, 1)
    observer.user_audio(bytes(640), 40.0)
    observer.agent_audio(bytes(640), 40.0)
    observer.received(bytes(640), 40.0)
    observer.sent(bytes(640), 40.0)
    assert (observer.summary()["user_frames"], observer.summary()["agent_frames"]) == (3, 2)


def test_a_frame_that_is_none_is_counted() -> None:
    """Empty, or half a sample."""
    observer = Stage().observer
    for frame in (b"", b"x", bytes(641)):
        observer.user_audio(frame, 0.0)
        observer.agent_audio(frame, 0.0)
    observer.invalid_audio()
    assert observer.summary()["invalid_frames"] == 7


def test_at_most_a_thousand_events_are_told() -> None:
    """The rest is counted."""
    stage = Stage()
    for number in range(1_010):
        stage.message("user", "session.error", number, code="x")
    stage.play(2_000)
    assert len(stage.events) == 1_000
    assert stage.observer.summary()["events_left_out"] == 10


def test_a_rehearsal_faster_than_life_is_heard_to_its_end() -> None:
    """A caller that sends twenty times as fast as it speaks has played what it had when it hangs up."""
    stage = Stage()
    audio = speech(500, stage.dice)
    for number in range(25):
        stage.caller(number * 1.0, audio[number * 640 :][:640])
    stage.said("agent", "one", 30)
    stage.agent(31, speech(1_000, stage.dice), every_ms=1.0)
    stage.said("agent", "two", 100)
    stage.play(140)
    assert stage.placed("one").share == 1.0


def test_a_rehearsal_whose_first_frames_were_late_is_one_all_the_same() -> None:
    """A busy machine holds up a frame of each utterance; so much audio in so little time is no live call."""
    stage = Stage()
    audio = speech(1_500, stage.dice)
    for begin in (0.0, 300.0):
        for number in range(75):
            stage.caller(begin + (number and 30 + number), audio[number * 640 :][:640])
    stage.said("agent", "one", 420, audio_ms=1_000)
    stage.agent(421, speech(1_000, stage.dice), every_ms=1.0)
    stage.play(520)
    assert stage.placed("one").share == 1.0


def test_a_mark_that_came_back_confirms_what_was_played() -> None:
    """The end of the call cuts nothing that the platform says it has played."""
    stage = Stage()
    stage.said("agent", "hello", 90)
    stage.agent(100, speech(1_200, stage.dice), every_ms=1.0)
    stage.message("agent", "mark", 170, name="m")
    stage.message("user", "mark", 1_205, name="m")
    stage.message("user", "mark", 1_206, name="m")
    stage.play(1_190 + 20)
    assert stage.placed("hello").share == 1.0
    assert stage.span("hello") == (100, 1_210)


@pytest.mark.parametrize("names", [("first", "second"), ("m", "m")])
def test_an_early_mark_or_another_s_confirms_nothing(names: tuple[str, str]) -> None:
    """Two sentences are queued, the first is played when the call ends; marks may have one name, and come twice."""
    stage = Stage()
    stage.said("agent", "one", 90)
    stage.agent(100, speech(1_000, stage.dice), every_ms=1.0)
    stage.message("agent", "mark", 151, name=names[0])
    stage.said("agent", "two", 152)
    stage.agent(153, speech(3_000, stage.dice), every_ms=1.0)
    stage.message("agent", "mark", 320, name=names[1])
    stage.message("user", "mark", 1_101, name=names[0])
    stage.message("user", "mark", 1_102, name=names[1])  # it cannot have been played
    stage.play(2_100)
    assert stage.span("one") == (100, 1_100)
    assert stage.placed("two").share == pytest.approx(1 / 3, abs=0.02)
    assert stage.observer.summary()["marks_early"] == 1
