"""`bluejay_ws.testing.line`: one call by hand, frame by frame."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import json
from typing import TYPE_CHECKING, Any

import pytest
from websockets.exceptions import ConnectionClosed

from bluejay_ws.testing.audio import FRAME_BYTES, frames, silence, tone, voice
from bluejay_ws.testing.caller import DigitalHuman
from bluejay_ws.testing.protocols import text_frame
from bluejay_ws.testing.virtual_time import VirtualTimeLoop
from tests.testing.agents import AnsweringAgent, serving, silent_agent

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from websockets.asyncio.server import ServerConnection

    from bluejay_ws.testing.line import CallLog, Line


def make_call(
    agent: Callable[[ServerConnection], Awaitable[None]],
    act: Callable[[Line], Awaitable[None]],
    **habits: Any,
) -> CallLog:
    """Dial the agent, let the line act, and return the log of the call; in virtual time."""

    async def main() -> CallLog:
        async with serving(agent) as url, DigitalHuman(url, **{"pace": 0, **habits}).dial() as line:
            await act(line)
        return line.log

    with asyncio.Runner(loop_factory=VirtualTimeLoop) as runner:
        return runner.run(main())


make_timed_call = functools.partial(make_call, pace=1.0)


class Scripted:
    """Take messages into ``received``; once ``count`` of them have come, send ``script`` and go on."""

    def __init__(self, *script: bytes | str, count: int = 0) -> None:
        self.script = script
        self.count = count
        self.received: list[bytes | str] = []

    async def __call__(self, connection: ServerConnection) -> None:
        with contextlib.suppress(ConnectionClosed):
            while True:
                if len(self.received) == self.count:
                    for message in self.script:
                        await connection.send(message)
                self.received.append(await connection.recv())

    def shape(self) -> list[str]:
        """Return the types of the text messages, and ``audio`` or ``silence`` for each binary one."""
        kinds = {True: "audio", False: "silence"}
        return [
            json.loads(message)["type"] if isinstance(message, str) else kinds[any(message)]
            for message in self.received
        ]


# Speaking


@pytest.mark.parametrize(
    ("duration_ms", "before", "between", "after"),
    [(1_000, 10, 30, 10), (440, 10, 2, 10), (200, 5, 0, 5), (60, 1, 1, 1), (20, 0, 1, 0), (0, 0, 0, 0)],
)
def test_speech_events_lag_and_lead_the_audio(duration_ms: float, before: int, between: int, after: int) -> None:
    """`speech.started` comes 200 ms late and `speech.completed` 200 ms early; short utterances keep the order."""
    agent = Scripted()

    async def act(line: Line) -> None:
        assert await line.say(tone(duration_ms, hertz=450), utterance_id="u1")

    make_call(agent, act)
    audio = ["audio"]
    assert agent.shape() == audio * before + ["speech.started"] + audio * between + ["speech.completed"] + audio * after
    names = [json.loads(message)["data"]["utterance_id"] for message in agent.received if isinstance(message, str)]
    assert names == ["u1", "u1"]


def test_without_skew_the_events_enclose_the_audio() -> None:
    """A caller without skew starts before its first frame and completes after its last."""
    agent = Scripted()

    async def act(line: Line) -> None:
        await line.say(tone(60))

    make_call(agent, act, skew_ms=0)
    assert agent.shape() == ["speech.started", "audio", "audio", "audio", "speech.completed"]


def test_every_utterance_has_a_name_of_its_own() -> None:
    """Utterance ids that nobody chose differ from each other."""

    async def act(line: Line) -> None:
        await line.say(tone(20))
        await line.say(tone(20))

    log = make_call(silent_agent, act)
    assert len({event.detail["utterance_id"] for event in log.of("user.speech.started")}) == 2


def test_audio_leaves_at_the_pace_asked_for() -> None:
    """Speech and silence never take less time than their pace says."""

    async def act(line: Line) -> None:
        await line.say(tone(500))
        await line.silence(500)

    log = make_call(silent_agent, act, pace=0.2)
    assert round(log.duration_ms, 3) >= 200
    assert log.frames_sent == 50


def test_silence_is_zeros_and_can_end_when_the_agent_speaks() -> None:
    """Silence fills the time until an answer, and no longer."""
    agent = Scripted(tone(20), count=3)

    async def act(line: Line) -> None:
        await line.silence(40)
        assert line.log.frames_sent == 2
        await line.silence(60_000, until_heard=True)

    log = make_call(agent, act)
    assert set(agent.shape()) == {"silence"}
    assert 3 <= log.frames_sent < 3_000


def test_anything_can_be_sent_on_demand() -> None:
    """Invalid frames leave as they are and are counted."""
    agent = Scripted()

    async def act(line: Line) -> None:
        for message in (b"", b"\0", "nonsense", "{}"):
            assert await line.send(message)

    log = make_call(agent, act)
    assert agent.received == [b"", b"\0", "nonsense", "{}"]
    assert (log.frames_sent, log.bytes_sent, log.texts_sent) == (2, 1, 2)


def test_after_the_end_everything_is_quietly_refused() -> None:
    """A call that is over takes nothing more, and says so."""

    async def act(line: Line) -> None:
        await line.hang_up(4000, "done")
        sent = line.log.frames_sent
        assert not await line.say(tone(60))
        assert not await line.listen()
        assert not await line.send("late")
        await line.silence(60)
        await line.hang_up(1000)
        await line.drop()
        assert line.log.frames_sent == sent

    log = make_call(silent_agent, act)
    assert (log.close_code, log.close_reason) == (4000, "done")
    assert len(log.of("closed")) == 1
    assert not log.of("user.speech.started")


# What the line carries


@pytest.mark.parametrize("background", ["noise", "silence"])
def test_audio_does_not_pause(background: str) -> None:
    """Between utterances frames go on, one each 20 ms, and none of them counts as speech."""
    agent = Scripted()

    async def act(line: Line) -> None:
        await line.silence(1_000)
        await line.say(voice(1_000))
        await line.silence(1_000)

    log = make_timed_call(agent, act, background=background)
    assert log.frames_sent == pytest.approx(log.duration_ms / 20, abs=2)
    ((start, end),) = log.user_spans
    assert start == pytest.approx(1_000, abs=60)
    assert end - start == pytest.approx(1_000, abs=1)
    quiet = [message for message in agent.received[:40] if isinstance(message, bytes)]
    assert any(map(any, quiet)) == (background == "noise")


def test_noise_is_what_a_caller_in_real_time_sends_by_default() -> None:
    """At any other pace continuous audio would only be load."""
    assert DigitalHuman("ws://a").habits.background == "noise"
    assert DigitalHuman("ws://a", pace=0.1).habits.background == "pauses"
    assert DigitalHuman("ws://a", pace=0.1, background="silence").habits.background == "silence"


def test_waiting_in_noise_ends_when_the_agent_speaks() -> None:
    """``until_heard`` does the same for a line that never pauses."""

    async def act(line: Line) -> None:
        await line.silence(60_000, until_heard=True)

    assert make_timed_call(Scripted(tone(20), count=3), act).duration_ms < 1_000


def test_a_caller_without_events_is_heard_by_its_audio_alone() -> None:
    """With ``events=False`` no text frame leaves."""
    agent = Scripted()

    async def act(line: Line) -> None:
        await line.say(voice(500))

    log = make_timed_call(agent, act, events=False)
    assert log.texts_sent == 0
    assert len(log.user_spans) == 1


def test_an_echo_is_announced_as_speech_on_demand() -> None:
    """Its events enclose what the agent said, without any speech of the caller's."""

    async def act(line: Line) -> None:
        await line.listen()

    log = make_timed_call(Scripted(voice(1_000), count=2), act, echo=True)
    ((start, end),) = log.agent_spans
    (started,), (completed,) = log.of("user.speech.started"), log.of("user.speech.completed")
    assert started.at_ms == pytest.approx(start + 120, abs=25)
    assert completed.at_ms == pytest.approx(end + 150, abs=25)
    assert started.detail == completed.detail
    assert not log.user_spans


def test_an_echo_is_not_announced_while_the_caller_speaks() -> None:
    """Then the events are the caller's own."""

    async def act(line: Line) -> None:
        await line.say(voice(2_000), utterance_id="mine")

    log = make_timed_call(Scripted(voice(500), count=20), act, echo=True)
    assert [event.detail["utterance_id"] for event in log.of("user.speech.started")] == ["mine"]


def test_an_agent_that_streams_without_pause_is_heard_where_it_speaks() -> None:
    """Silence that is sent is not speech: the turn ends although the audio continues."""

    async def streaming(connection: ServerConnection) -> None:
        loop, due = asyncio.get_running_loop(), asyncio.get_running_loop().time()
        reading = asyncio.create_task(silent_agent(connection))
        with contextlib.suppress(ConnectionClosed):
            for frame in frames(silence(1_000) + voice(1_000) + silence(60_000)):
                await connection.send(frame)
                due += 0.02
                await asyncio.sleep(due - loop.time())
        await reading

    async def act(line: Line) -> None:
        assert await line.listen()

    log = make_timed_call(streaming, act)
    ((start, end),) = log.agent_spans
    assert start == pytest.approx(1_000, abs=20)
    assert end == pytest.approx(2_000, abs=20)
    assert log.duration_ms < 5_000


# Listening


def test_a_silent_agent_costs_patience_only() -> None:
    """Listening to nobody ends after the patience given, or the caller's own."""

    async def act(line: Line) -> None:
        assert not await line.listen(patience=0.01)
        assert not await line.listen()

    make_call(silent_agent, act, patience=0.02)


def test_an_agent_without_speech_events_is_heard_out_by_its_silence() -> None:
    """Audio alone makes a turn, which ends when the agent has been quiet for a while."""

    async def act(line: Line) -> None:
        assert await line.listen()
        assert line.log.of("agent.quiet") or line.log.frames_received == 3

    log = make_call(Scripted(tone(20), tone(20), tone(20)), act)
    assert log.heard_ms == 60
    assert len(log.of("agent.heard")) == 1


def test_an_agent_that_announces_its_turns_may_pause_in_them() -> None:
    """After `speech.started` a pause is no end, unless it is a long one."""

    async def pausing(connection: ServerConnection) -> None:
        await connection.send(text_frame("speech.started", utterance_id="a"))
        await connection.send(tone(20))
        await asyncio.sleep(0.3)
        await connection.send(tone(20))
        await connection.wait_closed()

    async def act(line: Line) -> None:
        assert await line.listen()

    log = make_call(pausing, act)
    assert log.heard_ms == 40
    assert log.duration_ms > 1_000


def test_a_turn_of_text_only_counts_as_said() -> None:
    """`speech.completed` without audio ends a turn."""

    async def act(line: Line) -> None:
        assert await line.listen()

    log = make_call(Scripted(text_frame("speech.completed", utterance_id="a")), act)
    assert log.heard_ms == 0


def test_listening_ends_with_the_call() -> None:
    """An agent that hangs up in place of an answer is not waited for."""

    async def leaving(connection: ServerConnection) -> None:
        await connection.close(1011, "broken")

    async def act(line: Line) -> None:
        assert not await line.listen(patience=30)

    log = make_call(leaving, act)
    assert (log.close_code, log.close_reason, log.closed_by) == (1011, "broken", "agent")


def test_listening_can_end_in_the_middle_of_a_turn() -> None:
    """As soon as enough has been heard, while the rest still plays; a shorter turn is heard out."""

    async def act(line: Line) -> None:
        assert await line.listen(heard_ms=100)
        assert await line.listen(heard_ms=100)  # no more to wait for: it has been heard
        assert not line.log.of("agent.quiet")
        assert await line.listen(heard_ms=100_000)

    log = make_call(Scripted(tone(400), text_frame("speech.completed", utterance_id="a")), act, pace=0.2)
    assert log.heard_ms == 400
    assert log.dropped_ms == 0


def test_being_heard_ends_when_the_queue_has_played() -> None:
    """Audio that came at once is heard for as long as it plays, and each stretch has its end."""

    async def act(line: Line) -> None:
        await line.listen()
        await asyncio.sleep(0.2)

    log = make_call(Scripted(tone(1_000), text_frame("speech.completed", utterance_id="a")), act, pace=0.1)
    (heard,), (quiet,) = log.of("agent.heard"), log.of("agent.quiet")
    assert quiet.at_ms - heard.at_ms >= 99
    assert [event.at_ms for event in log.events] == sorted(event.at_ms for event in log.events)


def test_hanging_up_ends_what_is_being_heard() -> None:
    """Audio that is cut off by the end of the call is heard until then, and not longer."""

    async def act(line: Line) -> None:
        await line.listen(heard_ms=20)

    log = make_call(Scripted(tone(5_000)), act)
    assert log.of("agent.quiet")[0].at_ms <= log.duration_ms
    paced = make_call(Scripted(tone(5_000)), act, pace=1)
    assert 0 < paced.heard_ms < 5_000
    assert paced.of("agent.quiet")[0].at_ms == paced.duration_ms


# Marks


def test_marks_come_back_once_their_audio_has_been_played() -> None:
    """Each mark is echoed by name, in order, after the audio before it and not with its arrival."""
    agent = Scripted(
        text_frame("mark", name="early"),
        tone(1_000),
        text_frame("mark", name="end"),
        text_frame("speech.completed", utterance_id="a"),
    )

    async def act(line: Line) -> None:
        await line.listen()

    log = make_call(agent, act, pace=0.1)
    assert [event.detail["name"] for event in log.of("mark.echoed")] == ["early", "end"]
    assert log.of("mark.echoed")[1].at_ms - log.of("mark.received")[1].at_ms == pytest.approx(100, abs=1)
    assert agent.shape() == ["mark", "mark"]


def test_a_turn_is_over_only_when_its_marks_are_out() -> None:
    """At no pace at all the echo still comes before the caller hangs up."""
    agent = Scripted(
        text_frame("speech.completed", utterance_id="a"), *(text_frame("mark", name=str(n)) for n in range(5))
    )

    async def act(line: Line) -> None:
        while len(line.log.of("mark.received")) < 5:
            await asyncio.sleep(0)
        assert await line.listen()

    make_call(agent, act)
    assert [json.loads(message)["data"]["name"] for message in agent.received] == list("01234")


def test_both_voices_can_be_followed_as_they_are_heard() -> None:
    """The agent's frames at the time at which they play, not at which they come."""
    heard: list[tuple[str, float]] = []

    async def act(line: Line) -> None:
        await line.listen()
        await line.say(tone(40))

    agent = Scripted(tone(400), tone(400))
    make_timed_call(agent, act, background="pauses", on_audio=lambda who, at_ms, _frame: heard.append((who, at_ms)))
    times = [at_ms for who, at_ms in heard if who == "agent"]
    assert times[1] - times[0] == pytest.approx(400, abs=1)
    assert [who for who, _ in heard[2:]] == ["caller", "caller"]


# Over each other


def test_barging_in_stops_nothing_that_was_sent() -> None:
    """Speaking over the agent is noted with what is still to be heard; it is heard, and its mark comes back."""
    agent = Scripted(tone(4_000), text_frame("mark", name="end"), count=1)

    async def act(line: Line) -> None:
        await line.send(tone(20))
        await line.listen(heard_ms=100)
        await line.say(tone(40), utterance_id="mine")
        while not line.log.of("mark.echoed"):
            await asyncio.sleep(0.01)

    log = make_call(agent, act, pace=0.1)
    (barge_in,) = log.of("barge_in")
    assert barge_in.detail["utterance_id"] == "mine"
    assert 0 < barge_in.detail["queued_ms"] <= 3_900
    assert log.heard_ms == pytest.approx(4_000)
    assert log.dropped_ms == 0
    assert not log.of("mark.dropped")


def test_marks_behind_audio_that_the_end_of_the_call_cuts_never_come_back() -> None:
    """Hanging up over the agent drops its queue: less is heard, and the mark is reported as dropped."""
    agent = Scripted(tone(4_000), text_frame("mark", name="end"))

    async def act(line: Line) -> None:
        await line.listen(heard_ms=100)

    log = make_call(agent, act, pace=0.1)
    assert log.heard_ms + log.dropped_ms == pytest.approx(4_000)
    assert log.dropped_ms > 0
    assert [event.detail["name"] for event in log.of("mark.dropped")] == ["end"]
    assert not log.of("mark.echoed")


def test_barging_in_without_a_queue_counts_while_the_turn_goes_on() -> None:
    """At no pace the queue is always empty; speaking in the middle of a turn is barging in all the same."""

    async def act(line: Line) -> None:
        await line.listen(heard_ms=20)
        await line.say(tone(20))

    assert len(make_call(Scripted(tone(40)), act).of("barge_in")) == 1
    completed = Scripted(tone(40), text_frame("speech.completed", utterance_id="a"))

    async def wait_and_act(line: Line) -> None:
        await line.listen()
        await line.say(tone(20))

    assert not make_call(completed, wait_and_act).of("barge_in")


@pytest.mark.parametrize("count", [1, 20])
def test_an_agent_that_interrupts_silences_the_caller(count: int) -> None:
    """The caller stops, still says that it started and completed, and hears the agent out."""
    agent = Scripted(
        text_frame("speech.started", utterance_id="a"),
        tone(20),
        text_frame("speech.completed", utterance_id="a"),
        count=count,
    )

    async def act(line: Line) -> None:
        assert not await line.say(tone(10_000))
        assert await line.listen(patience=30)

    log = make_call(agent, act, pace=0.01)
    assert len(log.of("interrupted")) == 1
    assert log.frames_sent < 500
    shape = [kind for kind in agent.shape() if kind != "audio"]
    assert shape == ["speech.started", "speech.completed"]


def test_a_caller_that_does_not_yield_speaks_on() -> None:
    """With ``yields=False`` an interruption changes nothing."""
    agent = Scripted(text_frame("speech.started", utterance_id="a"), tone(20), count=1)

    async def act(line: Line) -> None:
        assert await line.say(tone(1_000))

    log = make_call(agent, act, yields=False)
    assert log.frames_sent == 50
    assert not log.of("interrupted")


# What is wrong


@pytest.mark.parametrize(
    ("message", "code"),
    [
        (b"", "INVALID_AUDIO_FRAME"),
        (bytes(641), "INVALID_AUDIO_FRAME"),
        ("nonsense", "INVALID_MESSAGE"),
        ('{"type": "mark", "data": {}}', "MISSING_FIELD"),
    ],
)
def test_a_bad_frame_is_answered_and_the_call_goes_on(message: bytes | str, code: str) -> None:
    """The agent gets `session.error` with the right code; nothing of the frame is played."""
    agent = Scripted(message, text_frame("speech.completed", utterance_id="a"))

    async def act(line: Line) -> None:
        assert await line.listen()

    log = make_call(agent, act)
    (error,) = [json.loads(received) for received in agent.received]
    assert (error["type"], error["data"]["code"]) == ("session.error", code)
    assert [event.detail["code"] for event in log.of("error.sent")] == [code]
    assert log.heard_ms == 0
    assert log.close_code == 1000


def test_an_error_of_the_agent_is_noted() -> None:
    """`session.error` from the agent is an event; it is not answered."""
    agent = Scripted(
        text_frame("session.error", code="INTERNAL_ERROR", message="out of luck"),
        text_frame("speech.completed", utterance_id="a"),
    )

    async def act(line: Line) -> None:
        await line.listen()

    log = make_call(agent, act)
    assert [dict(event.detail) for event in log.of("error.received")] == [
        {"code": "INTERNAL_ERROR", "message": "out of luck"}
    ]
    assert agent.received == []


def test_an_error_answered_after_the_end_is_not_noted() -> None:
    """What could not be sent any more is not in the log."""

    async def rude(connection: ServerConnection) -> None:
        await connection.send("nonsense")
        connection.transport.close()

    async def act(line: Line) -> None:
        await line.listen()

    log = make_call(rude, act)
    assert log.closed_by == "nobody"
    assert len(log.of("error.sent")) <= 1


def test_frames_are_whole_in_both_directions() -> None:
    """Every binary frame of the caller is 20 ms, whatever it says."""
    agent = AnsweringAgent()

    async def act(line: Line) -> None:
        await line.say(tone(33))
        await line.silence(7)
        await line.say(silence(1))

    make_call(agent, act)
    assert {len(frame) for frame in agent.received if isinstance(frame, bytes)} == {FRAME_BYTES}
