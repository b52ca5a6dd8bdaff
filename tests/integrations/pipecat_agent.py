"""A Pipecat agent without cloud services: real pipeline, turn taking, tools and transports, scripted words.

The ears take Bluejay's speech events for voice activity. What they understand, what the model answers and how long a
word takes to say stand in a `Script`.
"""

# mypy: disable-error-code="import-not-found, misc, untyped-decorator"

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Any

from loguru import logger
from pipecat.frames.frames import (
    Frame,
    FunctionCallFromLLM,
    InputAudioRawFrame,
    InputTransportMessageFrame,
    LLMContextFrame,
    LLMFullResponseEndFrame,
    LLMFullResponseStartFrame,
    LLMTextFrame,
    OutputAudioRawFrame,
    TranscriptionFrame,
    TTSAudioRawFrame,
    VADUserStartedSpeakingFrame,
    VADUserStoppedSpeakingFrame,
)
from pipecat.pipeline.pipeline import Pipeline
from pipecat.pipeline.worker import PipelineWorker
from pipecat.processors.aggregators.llm_context import LLMContext
from pipecat.processors.aggregators.llm_response_universal import LLMContextAggregatorPair, LLMUserAggregatorParams
from pipecat.processors.frame_processor import FrameDirection, FrameProcessor
from pipecat.serializers.base_serializer import FrameSerializer
from pipecat.services.llm_service import LLMService
from pipecat.services.settings import LLMSettings, TTSSettings
from pipecat.services.tts_service import TTSService
from pipecat.transports.websocket.fastapi import FastAPIWebsocketParams, FastAPIWebsocketTransport
from pipecat.transports.websocket.server import (
    SingleClientWebsocketServerParams,
    SingleClientWebsocketServerTransport,
)
from pipecat.turns.user_start import VADUserTurnStartStrategy
from pipecat.turns.user_stop import SpeechTimeoutUserTurnStopStrategy
from pipecat.turns.user_turn_strategies import UserTurnStrategies
from pipecat.workers.runner import WorkerRunner

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Awaitable, Callable

    from bluejay_ws.integrations.pipecat import BluejayObserver

logger.remove()

TONE = b"\x00\x10\x00\xf0" * 160  # 20 ms
RATE = 16_000


@dataclass(frozen=True)
class Tool:
    """A tool call that the model makes."""

    name: str
    arguments: dict[str, Any]


@dataclass
class Script:
    """What a conversation is made of.

    Args:
        heard: for each utterance of the caller, the final transcriptions of its pieces.
        answers: what the model makes of each turn, or of each tool's result: a text or a tool call.
        tools: what the tools do.
        ms_for_a_word: how long the voice takes for a word.
    """

    heard: list[list[str]] = field(default_factory=list)
    answers: list[str | Tool] = field(default_factory=list)
    tools: dict[str, Callable[[Any], Awaitable[None]]] = field(default_factory=dict)
    ms_for_a_word: int = 100


class Pcm(FrameSerializer):
    """CHIRP's frames: PCM both ways, and its JSON messages from the caller."""

    async def serialize(self, frame: Frame) -> bytes | None:
        return frame.audio if isinstance(frame, OutputAudioRawFrame) else None

    async def deserialize(self, data: bytes | str) -> Frame | None:
        if isinstance(data, bytes):
            return InputAudioRawFrame(data, RATE, 1)
        return InputTransportMessageFrame(message=json.loads(data))


class Ears(FrameProcessor):
    """Voice activity detection and speech-to-text."""

    def __init__(self, heard: list[list[str]]) -> None:
        super().__init__()
        self._heard = iter(heard)

    async def process_frame(self, frame: Frame, direction: FrameDirection) -> None:
        await super().process_frame(frame, direction)
        kind = frame.message.get("type") if isinstance(frame, InputTransportMessageFrame) else None
        if kind == "speech.started":
            await self.broadcast_frame(VADUserStartedSpeakingFrame, start_secs=0.02)
        elif kind == "speech.completed":
            await self.broadcast_frame(VADUserStoppedSpeakingFrame, stop_secs=0.02)
            for text in next(self._heard, []):
                await self.push_frame(TranscriptionFrame(text, "caller", "", finalized=True))
        await self.push_frame(frame, direction)


class Model(LLMService):  # type: ignore[type-arg, misc, unused-ignore]
    """A language model that says what is written."""

    def __init__(self, script: Script) -> None:
        unset: dict[str, Any] = {one.name: None for one in fields(LLMSettings) if one.name != "extra"}
        super().__init__(settings=LLMSettings(**unset))
        self._script = script
        self._answers = iter(script.answers)
        for name, tool in script.tools.items():
            self.register_function(name, tool)

    async def process_frame(self, frame: Frame, direction: FrameDirection) -> None:
        await super().process_frame(frame, direction)
        if isinstance(frame, LLMContextFrame):
            await self._answer(frame.context)
        else:
            await self.push_frame(frame, direction)

    async def _answer(self, context: LLMContext) -> None:
        answer = next(self._answers, None)
        await self.push_frame(LLMFullResponseStartFrame())
        if isinstance(answer, Tool):
            call = FunctionCallFromLLM(answer.name, f"call-{id(answer)}", answer.arguments, context)
            await self.run_function_calls([call])
        elif answer:
            await self.push_frame(LLMTextFrame(answer))
        await self.push_frame(LLMFullResponseEndFrame())


class Voice(TTSService):  # type: ignore[misc, unused-ignore]
    """A text-to-speech service that says each word as a tone."""

    def __init__(self, ms_for_a_word: int) -> None:
        settings = TTSSettings(model=None, voice=None, language=None)
        super().__init__(push_start_frame=True, push_stop_frames=True, settings=settings)
        self._ms = ms_for_a_word

    async def run_tts(self, text: str, context_id: str) -> AsyncGenerator[Frame | None, None]:
        for _ in range(len(text.split()) * self._ms // 20):
            yield TTSAudioRawFrame(TONE, RATE, 1, context_id=context_id)


def worker(transport: Any, script: Script, observer: BluejayObserver) -> PipelineWorker:
    """Return the agent round a transport, with the observer on it."""
    strategies = UserTurnStrategies(
        start=[VADUserTurnStartStrategy()], stop=[SpeechTimeoutUserTurnStopStrategy(user_speech_timeout=0.05)]
    )
    aggregators = LLMContextAggregatorPair(
        LLMContext(), user_params=LLMUserAggregatorParams(user_turn_strategies=strategies)
    )
    ears, model, voice = Ears(script.heard), Model(script), Voice(script.ms_for_a_word)
    pipeline = Pipeline(
        [transport.input(), ears, aggregators.user(), model, voice, transport.output(), aggregators.assistant()]
    )
    return PipelineWorker(pipeline, observers=[observer])


OPTIONS: dict[str, Any] = {
    "audio_in_enabled": True,
    "audio_out_enabled": True,
    "audio_in_sample_rate": RATE,
    "audio_out_sample_rate": RATE,
    "audio_out_end_silence_secs": 0,
}


def fastapi_transport(websocket: Any) -> FastAPIWebsocketTransport:
    """Return the transport of an accepted FastAPI websocket."""
    return FastAPIWebsocketTransport(websocket, FastAPIWebsocketParams(serializer=Pcm(), **OPTIONS))


def server_transport(port: int) -> SingleClientWebsocketServerTransport:
    """Return the transport that serves websockets itself."""
    params = SingleClientWebsocketServerParams(serializer=Pcm(), **OPTIONS)
    return SingleClientWebsocketServerTransport(params, "127.0.0.1", port)


def free_port() -> int:
    """Return a port that is free: the transport does not tell which one it got."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


async def run(agent: PipelineWorker) -> None:
    """Run a pipeline to its end."""
    runner = WorkerRunner(handle_sigint=False)
    await runner.add_workers(agent)
    await runner.run()


@contextlib.asynccontextmanager
async def serving(transport: Any, agent: PipelineWorker) -> AsyncGenerator[None]:
    """Run the server transport's pipeline round a test."""
    ready = asyncio.Event()

    @transport.event_handler("on_websocket_ready")
    async def on_websocket_ready(_: object) -> None:
        ready.set()

    task = asyncio.create_task(run(agent))
    await ready.wait()
    yield
    await agent.cancel()
    await task
