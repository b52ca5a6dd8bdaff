"""A Pipecat agent behind a FastAPI websocket. `Brain` stands where your speech-to-text, model and voice stand.

pip install 'bluejay_ws[pipecat,fastapi]' uvicorn
python examples/pipecat_agent.py 8765
bluejay-ws call ws://localhost:8765/agent --platform      (in another terminal)
"""

# mypy: disable-error-code="import-not-found, misc"
# pyright: reportMissingImports=false, reportUntypedBaseClass=false, reportUntypedFunctionDecorator=false

from __future__ import annotations

import json
import socket
import sys

import uvicorn
from fastapi import FastAPI, WebSocket
from loguru import logger
from pipecat.frames.frames import (
    Frame,
    FunctionCallInProgressFrame,
    FunctionCallResultFrame,
    InputAudioRawFrame,
    InputTransportMessageFrame,
    OutputAudioRawFrame,
    TranscriptionFrame,
    TTSAudioRawFrame,
    TTSStartedFrame,
    TTSStoppedFrame,
    TTSTextFrame,
)
from pipecat.pipeline.pipeline import Pipeline
from pipecat.pipeline.worker import PipelineWorker
from pipecat.processors.frame_processor import FrameDirection, FrameProcessor
from pipecat.serializers.base_serializer import FrameSerializer
from pipecat.transports.websocket.fastapi import FastAPIWebsocketParams, FastAPIWebsocketTransport
from pipecat.workers.runner import WorkerRunner

from bluejay_ws import record  # <--
from bluejay_ws.integrations.pipecat import BluejayObserver  # <--

logger.remove()
app = FastAPI()
RATE = 16_000
TONE = bytes(range(256)) * 25  # 200 ms of something to hear


class Chirp(FrameSerializer):
    """Bluejay's websocket: raw PCM both ways, and JSON messages from the caller."""

    async def serialize(self, frame: Frame) -> bytes | None:
        """Return the agent's audio as it is."""
        return frame.audio if isinstance(frame, OutputAudioRawFrame) else None

    async def deserialize(self, data: bytes | str) -> Frame | None:
        """Return the frame of a message."""
        if isinstance(data, bytes):
            return InputAudioRawFrame(data, RATE, 1)
        return InputTransportMessageFrame(message=json.loads(data))


class Brain(FrameProcessor):
    """Answer each utterance: what real services tell by their frames, this one tells by the same."""

    async def process_frame(self, frame: Frame, direction: FrameDirection) -> None:
        """Take the end of the caller's speech for a question."""
        await super().process_frame(frame, direction)
        if isinstance(frame, InputTransportMessageFrame) and frame.message["type"] == "speech.completed":
            await self.push_frame(TranscriptionFrame("Where is my parcel?", "caller", ""))
            state = await self.track(parcel="7")
            await self.say(f"Your parcel is {state}.")
        await self.push_frame(frame, direction)

    async def track(self, parcel: str) -> str:
        """Call a tool, as Pipecat's language models do."""
        call = {"function_name": "track", "tool_call_id": str(id(parcel)), "arguments": {"parcel": parcel}}
        await self.broadcast_frame(FunctionCallInProgressFrame, **call)
        await self.broadcast_frame(FunctionCallResultFrame, **call, result="on its way")
        return "on its way"

    async def say(self, text: str) -> None:
        """Speak, as Pipecat's voices do."""
        await self.push_frame(TTSStartedFrame())
        await self.push_frame(TTSAudioRawFrame(TONE, RATE, 1))
        await self.push_frame(TTSTextFrame(text, "sentence"))
        await self.push_frame(TTSStoppedFrame())


@app.websocket("/agent")
@record  # <--
async def agent(websocket: WebSocket) -> None:
    """Run a pipeline for one caller."""
    await websocket.accept()
    params = FastAPIWebsocketParams(
        serializer=Chirp(), audio_in_enabled=True, audio_out_enabled=True, audio_out_sample_rate=RATE
    )
    transport = FastAPIWebsocketTransport(websocket, params)
    pipeline = Pipeline([transport.input(), Brain(), transport.output()])
    worker = PipelineWorker(pipeline, observers=[BluejayObserver(transport)])  # <--

    async def hung_up(*_: object) -> None:
        await worker.cancel()

    transport.add_event_handler("on_client_disconnected", hung_up)
    runner = WorkerRunner(handle_sigint=False)
    await runner.add_workers(worker)
    await runner.run()


if __name__ == "__main__":
    listener = socket.create_server(("127.0.0.1", int(sys.argv[1])))
    print(f"listening on port {listener.getsockname()[1]}", flush=True)
    uvicorn.Server(uvicorn.Config(app, log_level="warning")).run(sockets=[listener])
