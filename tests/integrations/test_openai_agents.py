"""The listener on a realtime session of the OpenAI Agents SDK, and on stand-ins where the SDK is not installed."""

from __future__ import annotations

import asyncio
import base64
import importlib.util
from types import SimpleNamespace
from typing import Any

import pytest

from bluejay_ws.current import INERT
from bluejay_ws.integrations.openai_agents import ModelListener, observe
from tests.support import Call

SDK = "agents.realtime.testing"
try:
    HAS_SDK = importlib.util.find_spec(SDK) is not None
except ModuleNotFoundError:
    HAS_SDK = False
AUDIO = base64.b64encode(b"\x00" * 4_800).decode()
STREAM: list[dict[str, Any]] = [
    {"type": "session.created", "session": {"tools": []}},
    {"type": "input_audio_buffer.speech_started", "item_id": "a", "audio_start_ms": 0},
    {"type": "input_audio_buffer.speech_stopped", "item_id": "a", "audio_end_ms": 900},
    {"type": "conversation.item.input_audio_transcription.completed", "item_id": "a", "transcript": "Freeze it."},
    {
        "type": "response.function_call_arguments.done",
        "call_id": "c",
        "item_id": "t",
        "response_id": "r",
        "name": "freeze",
        "arguments": "{}",
    },
    {"type": "conversation.item.added", "item": {"type": "function_call_output", "call_id": "c", "output": "done"}},
    {"type": "response.output_audio.delta", "item_id": "b", "response_id": "s", "content_index": 0, "delta": AUDIO},
    {"type": "response.output_audio_transcript.done", "item_id": "b", "content_index": 0, "transcript": "Done."},
]


class Model:
    def __init__(self) -> None:
        self.listeners: list[Any] = []

    def add_listener(self, listener: Any) -> None:
        self.listeners.append(listener)

    def remove_listener(self, listener: Any) -> None:
        self.listeners.remove(listener)


def raw(data: Any) -> Any:
    """Return the SDK's event for one of the server's."""
    return SimpleNamespace(type="raw_server_event", data=data)


def told(call: Call) -> tuple[list[str], list[tuple[str, Any]]]:
    """Return what was said and done."""
    report = call.report()
    said = [one.utterance for one in report.recorded_transcript or []]
    return said, [(one.name, one.output) for one in report.tool_calls or []]


def test_a_listener_records_the_servers_events() -> None:
    """Every raw event is taken; what is left is recorded when the block ends, and the model is let go."""
    call, model = Call(), Model()

    async def main() -> None:
        with observe(SimpleNamespace(model=model), call.recorder) as listener:
            for data in STREAM:
                await listener.on_event(raw(data))
            await listener.on_event(raw("not an object"))
            await listener.on_event(SimpleNamespace(type="audio"))
            call.clock.sleep(200)

    asyncio.run(main())
    assert told(call) == (["Freeze it.", "Done."], [("freeze", "done")])
    assert model.listeners == []


def test_a_listener_works_with_async_with() -> None:
    """One statement opens the session and listens to it."""
    call, model = Call(), Model()

    async def main() -> None:
        async with observe(SimpleNamespace(model=model), call.recorder) as listener:
            assert model.listeners == [listener]

    asyncio.run(main())
    assert model.listeners == []


def test_outside_a_simulation_nothing_listens() -> None:
    """Production traffic gets no listener."""
    model = Model()
    with observe(SimpleNamespace(model=model)):
        assert model.listeners == []


def test_an_error_of_ours_does_not_reach_the_session() -> None:
    """A malformed event is counted, and so is a listener that somebody else has removed."""
    call = Call()
    listener = ModelListener(call.recorder, Model(), bytes_per_ms=48.0)
    asyncio.run(listener.on_event(raw({"type": "input_audio_buffer.speech_started"})))
    listener.close()
    assert (call.counters["dropped.failed_tap"], call.counters["dropped.failed_model_event"]) == (1, 1)


def test_an_utterance_is_in_the_journal_at_once() -> None:
    """What the agent says can be recovered, whatever becomes of the process."""
    call = Call()

    async def main() -> None:
        listener = observe(SimpleNamespace(model=Model()), call.recorder)
        for data in STREAM[-2:]:
            await listener.on_event(raw(data))
        assert call.journal

    asyncio.run(main())
    assert told(call) == (["Done."], [])


@pytest.mark.skipif(not HAS_SDK, reason="openai-agents is not installed, or is too old to ship its scripted model")
@pytest.mark.filterwarnings("default")
def test_a_real_session_is_recorded() -> None:
    """On the SDK's own session, with its scripted model in place of the network."""
    realtime, testing = (__import__(name, fromlist=["_"]) for name in ("agents.realtime", SDK))
    events = __import__("agents.realtime.model_events", fromlist=["_"])
    call, model = Call(), testing.ScriptedRealtimeModel(strict=False)

    async def main() -> None:
        runner = realtime.RealtimeRunner(realtime.RealtimeAgent(name="bank"), model=model)
        async with await runner.run() as session:
            async with observe(session, call.recorder):
                for data in STREAM:
                    await model.emit(events.RealtimeModelRawServerEvent(data=data))
                call.clock.sleep(200)
            assert all(type(one).__module__.startswith("agents.") for one in model.listeners)

    asyncio.run(main())
    assert told(call) == (["Freeze it.", "Done."], [("freeze", "done")])


def test_the_inert_recorder_is_inert() -> None:
    """The listener may be closed without ever having listened."""
    listener = ModelListener(INERT, Model(), bytes_per_ms=48.0)
    assert not listener.active
