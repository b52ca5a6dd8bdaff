"""What Pipecat's frames become in a report, told with stand-ins for its frames: no Pipecat needed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from bluejay_ws.integrations.pipecat_frames import INTERRUPTED, SETTLE, PipecatTap
from bluejay_ws.wire.items import ITEMS_LIMIT
from tests.support import Call, Ear, Span

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.report import Utterance


class Frame:
    """A frame of Pipecat's: an id, and whatever its class has."""

    numbers = iter(range(1_000_000))
    broadcast_sibling_id: int | None = None

    def __init__(self, **fields: Any) -> None:
        self.id = next(self.numbers)
        vars(self).update(fields)


def _kind(name: str, base: type[Frame] = Frame) -> type[Frame]:
    return type(name, (base,), {})


TranscriptionFrame = _kind("TranscriptionFrame")
InterimTranscriptionFrame = _kind("InterimTranscriptionFrame")
InputAudio = _kind("InputAudioRawFrame")
VADUserStarted = _kind("VADUserStartedSpeakingFrame")
VADUserStopped = _kind("VADUserStoppedSpeakingFrame")
UserStarted = _kind("UserStartedSpeakingFrame")
UserStopped = _kind("UserStoppedSpeakingFrame")
BotStarted = _kind("BotStartedSpeakingFrame")
BotStopped = _kind("BotStoppedSpeakingFrame")
Interruption = _kind("InterruptionFrame")
TTSText = _kind("TTSTextFrame")
TTSAudio = _kind("TTSAudioRawFrame")
SpeechAudio = _kind("SpeechOutputAudioRawFrame")
InProgress = _kind("FunctionCallInProgressFrame")
Result = _kind("FunctionCallResultFrame")
Cancel = _kind("FunctionCallCancelFrame")
End = _kind("EndFrame")
CancelAll = _kind("CancelFrame")


class Direction:
    def __init__(self, name: str) -> None:
        self.name = name


DOWN, UP = Direction("DOWNSTREAM"), Direction("UPSTREAM")


class Processor:
    """A processor that knows the pipeline's clock."""

    def __init__(self, clock: Callable[[], int]) -> None:
        self.clock = clock

    def get_clock(self) -> Processor:
        return self

    def get_time(self) -> int:
        return self.clock()


class Pushed:
    def __init__(self, source: Any, frame: Frame, direction: Direction, timestamp: int) -> None:
        self.source = source
        self.frame = frame
        self.direction = direction
        self.timestamp = timestamp


class Pipeline:
    """A call with a tap on it, at a clock that the test moves."""

    def __init__(self, *, timers: bool = True, redact: Callable[[str, Any], Any] | None = None) -> None:
        self.call = Call(redact=redact)
        self.clock = self.call.clock
        self.somewhere, self.output = Processor(self.clock), Processor(self.clock)
        self.timers: list[tuple[float, Callable[[], None]]] = []
        later = (lambda seconds, action: self.timers.append((seconds, action))) if timers else None
        self.tap = PipecatTap(self.call.recorder, output=self.output, later=later)

    def wait(self, ms: float) -> Pipeline:
        self.clock.sleep(ms)
        return self

    def push(self, frame: Frame, *, source: Any = None, direction: Direction = DOWN, ms_ago: float = 0.0) -> None:
        stamp = self.clock() - int(ms_ago * 1e6)
        self.tap.pushed(Pushed(source or self.somewhere, frame, direction, stamp))

    def speak(self, text: str, **more: Any) -> None:
        self.push(TTSText(text=text, **more), source=self.output)

    def settle(self) -> None:
        due, self.timers = self.timers, []
        for seconds, action in due:
            assert seconds == SETTLE
            action()

    def transcript(self) -> list[tuple[int, int, str, str]]:
        self.tap.close()
        return [_told(one) for one in self.call.report().recorded_transcript or []]


def _told(one: Utterance) -> tuple[int, int, str, str]:
    return one.start_offset_ms, one.end_offset_ms, one.speaker, one.utterance


@pytest.fixture
def pipeline() -> Pipeline:
    """Give a call with a tap on it."""
    return Pipeline()


# -- the caller


def test_the_finals_of_an_utterance_are_joined_at_the_times_of_voice_activity(pipeline: Pipeline) -> None:
    """Voice activity is told late by the time it needs to be sure: that is taken off."""
    pipeline.wait(1_200).push(VADUserStarted(start_secs=0.2))
    pipeline.push(UserStarted())
    pipeline.wait(800).push(TranscriptionFrame(text="I lost"))
    pipeline.wait(500).push(VADUserStopped(stop_secs=0.5))
    pipeline.wait(100).push(TranscriptionFrame(text="my card. "))
    pipeline.push(UserStopped())
    assert pipeline.transcript() == [(1_000, 2_000, "USER", "I lost my card.")]


def test_an_utterance_lasts_over_its_pauses(pipeline: Pipeline) -> None:
    """While Pipecat holds that the caller has more to say, a pause ends nothing."""
    pipeline.wait(100).push(VADUserStarted(start_secs=0.0))
    pipeline.push(UserStarted())
    pipeline.wait(300).push(VADUserStopped(stop_secs=0.1))
    pipeline.push(TranscriptionFrame(text="Well"))
    pipeline.wait(600).settle()
    pipeline.push(VADUserStarted(start_secs=0.0))
    pipeline.wait(300).push(VADUserStopped(stop_secs=0.1))
    pipeline.push(TranscriptionFrame(text="yes"))
    pipeline.push(UserStopped())
    assert pipeline.transcript() == [(100, 1_200, "USER", "Well yes")]


def test_text_that_comes_after_the_ruling_belongs_to_the_speech_before_it(pipeline: Pipeline) -> None:
    """A transcription may come when the caller's turn is over already, even while the agent answers."""
    pipeline.wait(100).push(VADUserStarted(start_secs=0.1))
    pipeline.push(UserStarted())
    pipeline.wait(500).push(VADUserStopped(stop_secs=0.1))
    pipeline.push(UserStopped())
    pipeline.wait(400).push(TranscriptionFrame(text="Hello"))
    pipeline.wait(500).settle()
    assert pipeline.transcript() == [(0, 500, "USER", "Hello")]


def test_what_was_said_before_the_pipeline_ran_stands_where_it_was_heard(pipeline: Pipeline) -> None:
    """It started 800 ms late: all audio until then comes at once, and then as it is spoken."""

    def hear(ms: float) -> None:
        frame = InputAudio(audio=bytes(int(ms * 32)), sample_rate=16_000, num_channels=1)
        pipeline.push(frame)
        pipeline.push(frame, source=pipeline.output)  # and on to the next processor

    pipeline.wait(800)
    hear(300)
    pipeline.push(VADUserStarted(start_secs=0.2))
    hear(400)
    pipeline.push(VADUserStopped(stop_secs=0.2))
    hear(100)
    pipeline.push(TranscriptionFrame(text="Hello."))
    for _ in range(10):
        pipeline.wait(20)
        hear(20)
    pipeline.settle()
    assert pipeline.transcript() == [(100, 500, "USER", "Hello.")]


def test_late_text_does_not_lengthen_into_the_next_speech(pipeline: Pipeline) -> None:
    """When the caller speaks again before late text has settled, the text is of the speech before."""
    pipeline.push(VADUserStarted(start_secs=0.0))
    pipeline.push(UserStarted())
    pipeline.wait(500).push(VADUserStopped(stop_secs=0.0))
    pipeline.push(UserStopped())
    pipeline.wait(100).push(TranscriptionFrame(text="One"))
    pipeline.wait(100).push(VADUserStarted(start_secs=0.0))
    pipeline.wait(300).push(VADUserStopped(stop_secs=0.0))
    pipeline.push(TranscriptionFrame(text="Two"))
    assert pipeline.transcript() == [(0, 500, "USER", "One"), (700, 1_000, "USER", "Two")]


def test_noise_does_not_begin_an_utterance(pipeline: Pipeline) -> None:
    """Voice activity that nobody ruled a turn and that has no text is not the start of what is said later."""
    pipeline.push(VADUserStarted(start_secs=0.0))
    pipeline.wait(100).push(VADUserStopped(stop_secs=0.0))
    pipeline.wait(5_000).push(VADUserStarted(start_secs=0.0))
    pipeline.wait(400).push(TranscriptionFrame(text="Hi"))
    pipeline.settle()  # the caller still speaks
    pipeline.wait(100).push(VADUserStopped(stop_secs=0.0))
    pipeline.settle()
    assert pipeline.transcript() == [(5_100, 5_600, "USER", "Hi")]


def test_without_voice_activity_the_rulings_give_the_times(pipeline: Pipeline) -> None:
    """Services that detect turns themselves tell nothing else; the first text may come before the ruling."""
    pipeline.wait(1_000).push(TranscriptionFrame(text="Good"))
    pipeline.push(UserStarted())
    pipeline.wait(600).settle()
    pipeline.push(TranscriptionFrame(text="morning"))
    pipeline.push(UserStopped())
    assert pipeline.transcript() == [(1_000, 1_600, "USER", "Good morning")]


def test_observed_audio_tells_better_than_late_rulings() -> None:
    """Where the caller's audio frames are observed, they place a text that has no voice activity."""

    class Observer:
        def summary(self) -> dict[str, int]:
            return {"user_frames": 50}

        def utterance(self, utterance: Any, at_ms: float) -> Any:
            return ear.utterance(utterance, at_ms)

        def hears_agent(self) -> bool:
            return True

    ear = Ear(Span(None, None), Span(250.0, 900.0))

    pipeline = Pipeline()
    pipeline.call.recorder.hear_with(Observer())  # type: ignore[arg-type]
    pipeline.wait(1_000).push(UserStarted())
    pipeline.push(TranscriptionFrame(text="Hello"))
    pipeline.wait(300).push(UserStopped())
    assert pipeline.transcript() == [(250, 900, "USER", "Hello")]


def test_text_long_after_any_speech_stands_where_it_came(pipeline: Pipeline) -> None:
    """A typed message is not said to have been spoken ten seconds earlier."""
    pipeline.push(VADUserStarted(start_secs=0.0))
    pipeline.push(UserStarted())
    pipeline.wait(500).push(VADUserStopped(stop_secs=0.0))
    pipeline.push(UserStopped())
    pipeline.wait(10_000).push(TranscriptionFrame(text="typed"))
    pipeline.settle()
    assert pipeline.transcript() == [(10_500, 10_500, "USER", "typed")]


def test_a_call_that_ends_in_mid_sentence_keeps_it(pipeline: Pipeline) -> None:
    """What has been understood when the call ends is recorded, up to its end."""
    pipeline.wait(200).push(VADUserStarted(start_secs=0.0))
    pipeline.wait(300).push(TranscriptionFrame(text="Wait"))
    pipeline.wait(100)
    assert pipeline.transcript() == [(200, 600, "USER", "Wait")]


def test_partial_transcriptions_are_not_recorded(pipeline: Pipeline) -> None:
    """Only finals count, and an empty one is none."""
    pipeline.push(InterimTranscriptionFrame(text="I lo"))
    pipeline.push(TranscriptionFrame(text=""))
    assert pipeline.transcript() == []


# -- no double entries


def test_a_frame_counts_once_however_far_it_travels(pipeline: Pipeline) -> None:
    """The same frame is pushed by every processor on its way, upstream as well as downstream."""
    frame = TranscriptionFrame(text="Once")
    for direction in (UP, UP, DOWN):
        pipeline.push(frame, direction=direction)
    assert [text for *_, text in pipeline.transcript()] == ["Once"]


def test_of_twins_only_the_downstream_one_counts(pipeline: Pipeline) -> None:
    """A broadcast frame goes both ways as two frames that know each other."""
    pipeline.push(TranscriptionFrame(text="Twin", broadcast_sibling_id=1), direction=UP)
    pipeline.push(TranscriptionFrame(text="Twin", broadcast_sibling_id=2), direction=DOWN)
    assert [text for *_, text in pipeline.transcript()] == ["Twin"]


def test_the_memory_of_frames_is_bounded(pipeline: Pipeline) -> None:
    """Only frames that may still be on their way are remembered."""
    for _ in range(1_000):
        pipeline.push(UserStarted())
    assert len(pipeline.tap._seen) <= 256


def test_a_subclass_counts_as_what_it_is(pipeline: Pipeline) -> None:
    """Services derive frames of their own from Pipecat's."""
    pipeline.push(_kind("DeepgramFrame", TranscriptionFrame)(text="Derived"))
    assert [text for *_, text in pipeline.transcript()] == ["Derived"]


# -- the agent


def test_words_are_joined_to_what_was_heard_between_start_and_stop(pipeline: Pipeline) -> None:
    """Voices with word times tell word by word; the utterance is as long as Pipecat says it is."""
    pipeline.wait(500).push(BotStarted(), source=pipeline.output)
    for word in ("Your", "card", "is frozen."):
        pipeline.wait(100).speak(word)
    pipeline.wait(100).push(BotStopped(), source=pipeline.output)
    pipeline.wait(500).settle()
    assert pipeline.call.recorder.bodies
    assert pipeline.transcript() == [(500, 900, "AGENT", "Your card is frozen.")]


def test_pieces_that_bring_their_spaces_are_put_together_as_they_are(pipeline: Pipeline) -> None:
    """Speech-to-speech services stream pieces of words."""
    pipeline.push(BotStarted())
    for piece in ("Hel", "lo", "", " there"):
        pipeline.speak(piece, includes_inter_frame_spaces=True)
    assert [text for *_, text in pipeline.transcript()] == ["Hello there"]


def test_planned_text_is_not_spoken_text(pipeline: Pipeline) -> None:
    """Only what the output transport lets go, downstream, has been spoken."""
    pipeline.push(BotStarted())
    planned = TTSText(text="planned")
    pipeline.push(planned)
    pipeline.push(planned, source=pipeline.output, direction=UP)
    assert pipeline.transcript() == []


def test_a_last_word_may_come_after_the_stop(pipeline: Pipeline) -> None:
    """Words and audio take different ways; a word right after the stop still belongs to the utterance."""
    pipeline.push(BotStarted())
    pipeline.speak("Good")
    pipeline.wait(400).push(BotStopped())
    pipeline.wait(10).speak("bye.")
    pipeline.settle()
    assert pipeline.transcript() == [(0, 400, "AGENT", "Good bye.")]


def test_a_first_word_may_come_before_the_start(pipeline: Pipeline) -> None:
    """The voice's context tells it from the last words of the utterance before."""
    pipeline.push(BotStarted())
    pipeline.speak("One.", context_id="a")
    pipeline.wait(400).push(BotStopped())
    pipeline.wait(100).speak("Two", context_id="b")
    pipeline.wait(10).push(BotStarted())
    pipeline.wait(100).speak("three.", context_id=None)
    pipeline.wait(100).push(BotStopped())
    pipeline.settle()
    assert pipeline.transcript() == [(0, 400, "AGENT", "One."), (510, 710, "AGENT", "Two three.")]


def test_the_next_words_may_come_before_the_stop(pipeline: Pipeline) -> None:
    """A stop that comes when the next utterance's first word is known ends nothing that has not begun."""
    pipeline.push(BotStarted())
    pipeline.speak("One.", context_id="a")
    pipeline.wait(400).speak("Two.", context_id="b")
    pipeline.wait(10).push(BotStopped())
    pipeline.wait(10).push(BotStarted())
    pipeline.wait(200).push(BotStopped())
    assert pipeline.transcript() == [(0, 400, "AGENT", "One."), (420, 620, "AGENT", "Two.")]


def test_one_utterance_after_the_other_without_a_timer() -> None:
    """The start of the next one, or the caller's, settles the one before; so does a timer, and only its own."""
    pipeline = Pipeline(timers=False)
    pipeline.push(BotStarted())
    pipeline.speak("One.")
    pipeline.wait(100).push(BotStopped())
    pipeline.wait(100).push(BotStarted())
    pipeline.speak("Two.")
    pipeline.wait(100).push(BotStopped())
    pipeline.wait(100).push(UserStarted())
    assert pipeline.transcript() == [(0, 100, "AGENT", "One."), (200, 300, "AGENT", "Two.")]


def test_a_timer_settles_only_the_utterance_it_was_set_for(pipeline: Pipeline) -> None:
    """When the agent speaks again before the timer, the new utterance continues."""
    pipeline.push(BotStarted())
    pipeline.speak("One.")
    pipeline.wait(100).push(BotStopped())
    pipeline.wait(100).push(BotStarted())
    pipeline.speak("Two.")
    pipeline.settle()
    pipeline.wait(300).push(BotStopped())
    assert pipeline.transcript() == [(0, 100, "AGENT", "One."), (200, 500, "AGENT", "Two.")]


@pytest.mark.parametrize(
    ("audio", "expected"),
    [(TTSAudio, 140), (SpeechAudio, 140)],
)
def test_a_late_stop_does_not_lengthen_an_utterance(audio: type[Frame], expected: int, pipeline: Pipeline) -> None:
    """Pipecat's fallback tells the stop three seconds late; the audio that was sent tells when it was."""
    pipeline.push(BotStarted())
    pipeline.speak("Hello.")
    pipeline.wait(100).push(audio(audio=b"\x00\x00" * 640, sample_rate=16_000, num_channels=1), source=pipeline.output)
    pipeline.wait(3_000).push(BotStopped())
    assert pipeline.transcript() == [(0, expected, "AGENT", "Hello.")]


def test_a_stop_after_silent_audio_is_put_before_it(pipeline: Pipeline) -> None:
    """A speaking avatar streams on in silence, and Pipecat waits for a stretch of it."""
    pipeline.push(BotStarted())
    pipeline.speak("Hello.")
    for _ in range(25):
        silence = SpeechAudio(audio=b"\x00\x00" * 640, sample_rate=16_000, num_channels=1)
        pipeline.wait(40).push(silence, source=pipeline.output)
    pipeline.push(BotStopped())
    assert pipeline.transcript() == [(0, 650, "AGENT", "Hello.")]


def test_audio_before_the_start_is_nobodys(pipeline: Pipeline) -> None:
    """A piece of audio that belongs to no utterance changes nothing; nor does a stop without a start."""
    audio = TTSAudio(audio=b"\x00\x00", sample_rate=16_000, num_channels=1)
    pipeline.push(audio, source=pipeline.output)
    pipeline.push(BotStopped())
    assert pipeline.transcript() == []


def test_backchannels_are_fillers(pipeline: Pipeline) -> None:
    """An utterance of nothing but "mm-hmm" is marked as one that fills; any other is not."""
    pipeline.push(BotStarted())
    pipeline.speak("Mm-hmm.", text_type="backchannel")
    pipeline.push(BotStopped())
    pipeline.push(BotStarted())
    pipeline.speak("Mm-hmm.", text_type=type("TextType", (), {"value": "backchannel"}))
    pipeline.speak("I see.", text_type="sentence")
    pipeline.tap.close()
    report = pipeline.call.report()
    assert [one.filler_utterance for one in report.recorded_transcript or []] == [True, None]


# -- interruptions


def test_an_interruption_of_the_agent_is_one_event(pipeline: Pipeline) -> None:
    """It stands where Pipecat interrupted, and what was spoken until then is recorded at once."""
    pipeline.push(BotStarted())
    pipeline.speak("Well,")
    pipeline.wait(300).push(Interruption(broadcast_sibling_id=1), direction=UP)
    pipeline.push(Interruption(broadcast_sibling_id=2))
    pipeline.push(Interruption())
    pipeline.wait(20).push(BotStopped())
    assert not pipeline.timers
    pipeline.tap.close()
    report = pipeline.call.report()
    assert [(e.title, e.start_offset_ms) for e in report.events or []][:-1] == [(INTERRUPTED, 300)]
    assert [_told(one) for one in report.recorded_transcript or []] == [(0, 320, "AGENT", "Well,")]


def test_an_interruption_of_nobody_is_no_event(pipeline: Pipeline) -> None:
    """Pipecat interrupts at every start of the caller's, whether or not the agent is heard."""
    pipeline.push(Interruption())
    pipeline.push(BotStarted())
    pipeline.push(BotStopped())
    pipeline.push(Interruption())
    assert [event.title for event in pipeline.call.report().events or []] == ["Connection closed"]


# -- tools


def tool(kind: type[Frame], **more: Any) -> Frame:
    """Return a frame about one and the same tool call."""
    return kind(function_name="freeze", tool_call_id="1", **more)


@pytest.mark.parametrize(
    ("end", "output"),
    [
        (tool(Result, result={"ok": True}, properties=None), {"ok": True}),
        (
            tool(Result, result="told to the model", error="no such card"),
            {"status": "failed", "message": "no such card"},
        ),
        (tool(Cancel), {"status": "cancelled"}),
        (tool(Cancel, run_llm=True), {"status": "timed_out"}),
        (None, {"status": "interrupted"}),
    ],
)
def test_a_tool_call_is_kept_with_how_it_ended(end: Frame | None, output: object, pipeline: Pipeline) -> None:
    """Its start is where it began to run; its output what it answered, or why it did not."""
    begin = tool(InProgress, arguments={"last4": "4242"})
    pipeline.wait(200).push(begin)
    pipeline.push(tool(InProgress, arguments={"last4": "4242"}))
    pipeline.wait(100)
    if end is not None:
        pipeline.push(end)
        pipeline.push(tool(Cancel))
    (call,) = pipeline.call.report().tool_calls or []
    assert (call.name, call.start_offset_ms, call.parameters, call.output) == ("freeze", 200, {"last4": "4242"}, output)


def test_a_tool_call_begins_where_its_frame_was_pushed(pipeline: Pipeline) -> None:
    """Observers are told of frames some time after they were pushed."""
    pipeline.wait(250).push(tool(InProgress, arguments={}), ms_ago=50)
    pipeline.push(tool(Result, result=None))
    (call,) = pipeline.call.report().tool_calls or []
    assert call.start_offset_ms == 200


def test_a_tool_call_is_redacted_once() -> None:
    """A hook may take its time, or count."""
    seen: list[str] = []

    def redact(kind: str, value: Any) -> Any:
        seen.append(kind)
        return value

    pipeline = Pipeline(redact=redact)
    pipeline.push(tool(InProgress, arguments={"last4": "4242"}))
    pipeline.push(tool(Result, result="frozen"))
    assert seen == ["parameters", "output"]


def test_a_tool_call_is_kept_as_it_began() -> None:
    """With its own start: what a tool does to its arguments afterwards changes nothing."""
    pipeline, arguments = Pipeline(), {"last4": "4242"}
    pipeline.wait(250).push(tool(InProgress, arguments=arguments), ms_ago=50)
    arguments.clear()
    pipeline.push(tool(Result, result=None))
    (call,) = pipeline.call.report().tool_calls or []
    assert (call.start_offset_ms, call.parameters) == (200, {"last4": "4242"})


def test_a_tool_call_that_cannot_be_recorded_is_no_error_of_the_pipeline() -> None:
    """What there is no room for is left out, and counted; nothing is raised."""
    pipeline = Pipeline()
    for number in range(ITEMS_LIMIT):
        pipeline.call.recorder.add_event(str(number))
    pipeline.push(tool(InProgress, arguments={}))
    pipeline.push(tool(Result, result=None))
    assert pipeline.call.counters.snapshot()["dropped.items"] == 1


def test_an_intermediate_result_does_not_end_a_tool(pipeline: Pipeline) -> None:
    """Only the final result is the tool's output."""
    properties = type("Properties", (), {"is_final": False})()
    pipeline.push(tool(InProgress, arguments={}))
    pipeline.push(tool(Result, result="half", properties=properties))
    pipeline.push(tool(Result, result="whole"))
    (call,) = pipeline.call.report().tool_calls or []
    assert call.output == "whole"


def test_a_result_of_an_unknown_tool_call_is_ignored(pipeline: Pipeline) -> None:
    """A call that began before this one is not this one's."""
    pipeline.push(tool(Result, result="?"))
    assert pipeline.call.report().tool_calls == []


# -- the end, and before the beginning


def test_when_the_pipeline_ends_nothing_waits_for_late_words(pipeline: Pipeline) -> None:
    """What is queued is still spoken; its end is recorded at once."""
    pipeline.push(TranscriptionFrame(text="Bye."))
    pipeline.push(BotStarted())
    pipeline.push(End())
    pipeline.speak("So long.")
    pipeline.timers.clear()
    pipeline.wait(300).push(BotStopped())
    assert not pipeline.timers
    told = [_told(one)[2:] for one in pipeline.call.report().recorded_transcript or []]
    assert told == [("USER", "Bye."), ("AGENT", "So long.")]


def test_when_the_pipeline_is_cancelled_everything_is_recorded(pipeline: Pipeline) -> None:
    """A cancelled pipeline tells nothing more."""
    pipeline.push(BotStarted())
    pipeline.speak("Well")
    pipeline.wait(200).push(CancelAll())
    assert [_told(one) for one in pipeline.call.report().recorded_transcript or []] == [(0, 200, "AGENT", "Well")]


def test_text_without_any_audio_is_placed_by_the_recorder(pipeline: Pipeline) -> None:
    """Where Pipecat has told no start, the recorder knows best."""
    pipeline.wait(300).speak("Hello.")
    assert pipeline.transcript() == [(300, 300, "AGENT", "Hello.")]


def test_what_was_pushed_before_the_call_is_not_part_of_it(pipeline: Pipeline) -> None:
    """A pipeline that serves one caller after the other may hand over late what belongs to the one before."""
    pipeline.wait(100).push(TranscriptionFrame(text="of the last call"), ms_ago=500)
    assert pipeline.transcript() == []


def test_a_clock_that_does_not_run_yet_means_now(pipeline: Pipeline) -> None:
    """Frames may pass before the pipeline has started its clock."""
    pipeline.wait(400)
    frame = TranscriptionFrame(text="early")
    pipeline.tap.pushed(Pushed(pipeline.somewhere, frame, DOWN, 0))
    assert pipeline.transcript() == [(400, 400, "USER", "early")]


def test_a_call_that_ends_before_its_pipeline_has_all_the_words(pipeline: Pipeline) -> None:
    """A loop that stands still while the caller hangs up may end the call before Pipecat is told."""
    pipeline.push(TranscriptionFrame(text="Bye."))
    pipeline.push(BotStarted())
    pipeline.speak("So long.")
    report = pipeline.call.report()
    assert [one.utterance for one in report.recorded_transcript or []] == ["Bye.", "So long."]
    assert pipeline.call.counters["dropped.after_close"] == 0


def test_after_the_end_of_the_call_nothing_is_looked_at(pipeline: Pipeline) -> None:
    """A recorder that is closed is not told of what comes late."""
    pipeline.call.recorder.close({}, {})
    pipeline.push(TranscriptionFrame(text="late"))
    pipeline.tap.close()
    assert pipeline.call.counters["dropped.after_close"] == 0


def test_what_the_application_has_said_is_a_filler(pipeline: Pipeline) -> None:
    """A `TTSSpeakFrame` is no answer of the model's; cut or whole, it is flagged."""

    class TTSSpeakFrame(Frame):
        text = "One moment, please."

    pipeline.push(TTSSpeakFrame())
    pipeline.push(BotStarted())
    pipeline.speak("One moment,")
    pipeline.push(BotStopped())
    pipeline.push(BotStarted())
    pipeline.speak("It rains.")
    pipeline.tap.close()
    report = pipeline.call.report()
    assert [one.filler_utterance for one in report.recorded_transcript or []] == [True, None]
