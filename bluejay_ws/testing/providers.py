"""A speech-to-speech provider on this machine: it speaks the protocols of OpenAI, Gemini, ElevenLabs and Deepgram.

::

    async with FakeProvider("openai", [Turn("Freeze my card.", says="Done.", tool=("freeze", {"last4": "4242"}))]) as p:
        ...  # an agent connects to p.url

It hears when audio is loud, understands what its script says, calls a tool and waits for its result, and answers with a
tone as long as its words take. It is no test of the real providers: the order and shapes of its messages are theirs.
"""

# ruff: noqa: ARG002 - not every protocol tells times

from __future__ import annotations

import asyncio
import base64
import itertools
import json
import math
import struct
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from websockets.asyncio.server import Server

__all__ = ["PROTOCOLS", "FakeProvider", "Turn"]

QUIET_MS = 200.0
"""Of so much quiet audio, or of so many seconds without any, it concludes that the caller has finished."""
GONE_SECONDS = 0.5
LOUD = 1_000
MS_PER_LETTER = 20
CHUNK_MS = 100


@dataclass(frozen=True)
class Turn:
    """What happens when the caller has spoken.

    Attributes:
        heard: what is understood.
        says: what is answered.
        tool: a name and arguments; it is called, and its result awaited, before the answer.
    """

    heard: str
    says: str
    tool: tuple[str, dict[str, Any]] | None = None


class FakeProvider:
    """Serve one provider's protocol; use it as ``async with``.

    Args:
        protocol: one of `PROTOCOLS`.
        turns: what each utterance of a caller's leads to; each connection begins with the first.

    Attributes:
        url: where it listens.
        results: what tools answered, in order.
        opened: how many connections there were.

    Raises:
        KeyError: ``protocol`` is not known.
    """

    def __init__(self, protocol: str, turns: Sequence[Turn]) -> None:
        self._protocol = PROTOCOLS[protocol]
        self._turns = tuple(turns)
        self._server: Server
        self.url = ""
        self.results: list[Any] = []
        self.opened = 0

    async def __aenter__(self) -> Self:
        self._server = await serve(self._serve, "127.0.0.1", 0)
        port = next(iter(self._server.sockets)).getsockname()[1]
        self.url = f"ws://127.0.0.1:{port}/{self._protocol.path}"
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        await self._server.wait_closed()

    async def _serve(self, websocket: ServerConnection) -> None:
        self.opened += 1
        try:
            await _Conversation(websocket, self._protocol(), iter(self._turns), self.results).run()
        except ConnectionClosed:
            return


class _Conversation:
    """One connection: what was heard, and what follows from it."""

    def __init__(
        self, websocket: ServerConnection, protocol: _Protocol, turns: Iterator[Turn], results: list[Any]
    ) -> None:
        self._websocket = websocket
        self._protocol = protocol
        self._turns = turns
        self._results = results
        self._heard_ms = 0.0
        self._speaks = False
        self._quiet_ms = 0.0
        self._waiting: Turn | None = None

    async def run(self) -> None:
        await self._send(self._protocol.hello())
        while True:
            try:
                async with asyncio.timeout(GONE_SECONDS if self._speaks else None):
                    message = await self._websocket.recv()
            except TimeoutError:
                await self._finished()
                continue
            await self._take(message)

    async def _take(self, message: str | bytes) -> None:
        kind, content = self._protocol.read(message)
        if kind == "audio":
            self._heard_ms += self._length_ms(content)
            await self._listen(content)
        elif kind == "result":
            self._results.append(content)
            turn, self._waiting = self._waiting, None
            if turn is not None:
                await self._send(self._protocol.says(turn.says, _voice(turn.says, self._protocol.speaks_at)))

    def _length_ms(self, pcm: bytes) -> float:
        return len(pcm) / 2 / self._protocol.hears_at * 1_000

    async def _listen(self, pcm: bytes) -> None:
        if _is_loud(pcm):
            self._quiet_ms = 0.0
            if not self._speaks:
                self._speaks = True
                await self._send(self._protocol.started(self._heard_ms - self._length_ms(pcm)))
        elif self._speaks:
            self._quiet_ms += self._length_ms(pcm)
            if self._quiet_ms >= QUIET_MS:
                await self._finished()

    async def _finished(self) -> None:
        self._speaks = False
        turn = next(self._turns, None)
        if turn is None:
            return
        await self._send(self._protocol.heard(turn.heard, self._heard_ms - self._quiet_ms))
        if turn.tool is not None:
            self._waiting = turn
            await self._send(self._protocol.calls(*turn.tool))
        else:
            await self._send(self._protocol.says(turn.says, _voice(turn.says, self._protocol.speaks_at)))

    async def _send(self, messages: Iterable[dict[str, Any] | bytes]) -> None:
        for one in messages:
            await self._websocket.send(one if isinstance(one, bytes) else json.dumps(one))


class _Protocol(ABC):
    """What goes over the wire. Rates are samples a second."""

    path = "v1"
    hears_at = 16_000
    speaks_at = 16_000

    def __init__(self) -> None:
        self._numbers = itertools.count(1)

    def number(self, kind: str) -> str:
        return f"{kind}_{next(self._numbers)}"

    @abstractmethod
    def hello(self) -> Iterable[dict[str, Any] | bytes]: ...

    @abstractmethod
    def read(self, message: str | bytes) -> tuple[str, Any]:
        """Return ``audio`` and its bytes, ``result`` and what a tool answered, or neither."""

    def started(self, at_ms: float) -> Iterable[dict[str, Any] | bytes]:
        """Return what it says as the caller begins to speak; not every provider says so."""
        return ()

    @abstractmethod
    def heard(self, text: str, at_ms: float) -> Iterable[dict[str, Any] | bytes]: ...

    @abstractmethod
    def calls(self, name: str, arguments: dict[str, Any]) -> Iterable[dict[str, Any] | bytes]: ...

    @abstractmethod
    def says(self, text: str, pcm: bytes) -> Iterable[dict[str, Any] | bytes]: ...

    def chunks(self, pcm: bytes) -> list[bytes]:
        size = self.speaks_at * 2 * CHUNK_MS // 1_000
        return [pcm[at : at + size] for at in range(0, len(pcm), size)]


class _OpenAI(_Protocol):
    path = "v1/realtime"
    hears_at = speaks_at = 24_000

    def hello(self) -> Iterable[dict[str, Any]]:
        detection = {"type": "server_vad", "prefix_padding_ms": 0, "silence_duration_ms": 0}
        session = {"model": "fake-realtime", "audio": {"input": {"turn_detection": detection}}}
        return ({"type": "session.created", "session": session},)

    def read(self, message: str | bytes) -> tuple[str, Any]:
        event = json.loads(message)
        if event["type"] == "input_audio_buffer.append":
            return "audio", base64.b64decode(event["audio"])
        item = event.get("item") or {}
        return ("result", item["output"]) if item.get("type") == "function_call_output" else ("", None)

    def started(self, at_ms: float) -> Iterable[dict[str, Any]]:
        self._item = self.number("item")
        yield {"type": "input_audio_buffer.speech_started", "item_id": self._item, "audio_start_ms": round(at_ms)}

    def heard(self, text: str, at_ms: float) -> Iterable[dict[str, Any]]:
        item, kind = self._item, "conversation.item.input_audio_transcription.completed"
        yield {"type": "input_audio_buffer.speech_stopped", "item_id": item, "audio_end_ms": round(at_ms)}
        yield {"type": "input_audio_buffer.committed", "item_id": item}
        yield {"type": kind, "item_id": item, "transcript": text}

    def calls(self, name: str, arguments: dict[str, Any]) -> Iterable[dict[str, Any]]:
        call = {"call_id": self.number("call"), "name": name, "arguments": json.dumps(arguments)}
        yield {"type": "response.function_call_arguments.done", "response_id": self.number("resp"), **call}

    def says(self, text: str, pcm: bytes) -> Iterable[dict[str, Any]]:
        ids = {"item_id": self.number("item"), "response_id": self.number("resp"), "content_index": 0}
        for chunk in self.chunks(pcm):
            yield {"type": "response.output_audio.delta", "delta": base64.b64encode(chunk).decode(), **ids}
        yield {"type": "response.output_audio_transcript.done", "transcript": text, **ids}
        yield {"type": "response.done", "response": {"id": ids["response_id"], "status": "completed", "usage": {}}}


class _Gemini(_Protocol):
    path = "ws/google.ai.generativelanguage.BidiGenerateContent"
    speaks_at = 24_000

    def hello(self) -> Iterable[dict[str, Any]]:
        return ({"setupComplete": {}},)

    def read(self, message: str | bytes) -> tuple[str, Any]:
        event = json.loads(message)
        chunk = (event.get("realtimeInput") or {}).get("audio")
        if chunk is not None:
            return "audio", base64.b64decode(chunk["data"])
        answers = (event.get("toolResponse") or {}).get("functionResponses")
        return ("result", answers[0]["response"]) if answers else ("", None)

    def started(self, at_ms: float) -> Iterable[dict[str, Any]]:
        yield {"voiceActivity": {"voiceActivityType": "ACTIVITY_START", "audioOffset": f"{at_ms / 1_000:.3f}s"}}

    def heard(self, text: str, at_ms: float) -> Iterable[dict[str, Any]]:
        yield {"voiceActivity": {"voiceActivityType": "ACTIVITY_END", "audioOffset": f"{at_ms / 1_000:.3f}s"}}
        yield {"serverContent": {"inputTranscription": {"text": text, "finished": True}}}

    def calls(self, name: str, arguments: dict[str, Any]) -> Iterable[dict[str, Any]]:
        yield {"toolCall": {"functionCalls": [{"id": self.number("call"), "name": name, "args": arguments}]}}

    def says(self, text: str, pcm: bytes) -> Iterable[dict[str, Any]]:
        yield {"serverContent": {"outputTranscription": {"text": text}}}
        for chunk in self.chunks(pcm):
            data = {"mimeType": "audio/pcm;rate=24000", "data": base64.b64encode(chunk).decode()}
            yield {"serverContent": {"modelTurn": {"parts": [{"inlineData": data}]}}}
        yield {"serverContent": {"generationComplete": True}}
        yield {"serverContent": {"turnComplete": True}}


class _ElevenLabs(_Protocol):
    path = "v1/convai/conversation"

    def hello(self) -> Iterable[dict[str, Any]]:
        self._event = 0
        formats = {"agent_output_audio_format": "pcm_16000", "user_input_audio_format": "pcm_16000"}
        kind = "conversation_initiation_metadata"
        return ({"type": kind, f"{kind}_event": {"conversation_id": "conv_fake", **formats}},)

    def read(self, message: str | bytes) -> tuple[str, Any]:
        event = json.loads(message)
        if "user_audio_chunk" in event:
            return "audio", base64.b64decode(event["user_audio_chunk"])
        return ("result", event["result"]) if event.get("type") == "client_tool_result" else ("", None)

    def heard(self, text: str, at_ms: float) -> Iterable[dict[str, Any]]:
        self._event += 1
        facts = {"user_transcript": text, "event_id": self._event}
        yield {"type": "user_transcript", "user_transcription_event": facts}

    def calls(self, name: str, arguments: dict[str, Any]) -> Iterable[dict[str, Any]]:
        call = {
            "tool_name": name,
            "tool_call_id": self.number("call"),
            "parameters": arguments,
            "event_id": self._event,
        }
        yield {"type": "client_tool_call", "client_tool_call": {**call, "expects_response": True}}

    def says(self, text: str, pcm: bytes) -> Iterable[dict[str, Any]]:
        for chunk in self.chunks(pcm):
            facts = {"audio_base_64": base64.b64encode(chunk).decode(), "event_id": self._event}
            yield {"type": "audio", "audio_event": facts}
        said = {"agent_response": text, "event_id": self._event, "response_id": self.number("resp")}
        yield {"type": "agent_response", "agent_response_event": said}


class _Deepgram(_Protocol):
    path = "v1/agent/converse"

    def hello(self) -> Iterable[dict[str, Any]]:
        return ({"type": "Welcome", "request_id": "fake"},)

    def read(self, message: str | bytes) -> tuple[str, Any]:
        if isinstance(message, bytes):
            return "audio", message
        event = json.loads(message)
        return ("result", event["content"]) if event["type"] == "FunctionCallResponse" else ("", None)

    def started(self, at_ms: float) -> Iterable[dict[str, Any]]:
        yield {"type": "UserStartedSpeaking"}

    def heard(self, text: str, at_ms: float) -> Iterable[dict[str, Any]]:
        yield {"type": "ConversationText", "role": "user", "content": text}

    def calls(self, name: str, arguments: dict[str, Any]) -> Iterable[dict[str, Any]]:
        call = {"id": self.number("call"), "name": name, "arguments": json.dumps(arguments), "client_side": True}
        yield {"type": "FunctionCallRequest", "functions": [call]}

    def says(self, text: str, pcm: bytes) -> Iterable[dict[str, Any] | bytes]:
        yield {"type": "ConversationText", "role": "assistant", "content": text}
        yield from self.chunks(pcm)
        yield {"type": "AgentAudioDone"}


PROTOCOLS: dict[str, type[_Protocol]] = {
    "openai": _OpenAI,
    "gemini": _Gemini,
    "elevenlabs": _ElevenLabs,
    "deepgram": _Deepgram,
}
"""The protocols that `FakeProvider` speaks, by name."""


def _is_loud(pcm: bytes) -> bool:
    samples = struct.unpack(f"<{len(pcm) // 2}h", pcm[: len(pcm) // 2 * 2])
    return any(abs(sample) > LOUD for sample in samples)


def _voice(text: str, rate: int) -> bytes:
    count = len(text) * MS_PER_LETTER * rate // 1_000
    wave = (int(6_000 * math.sin(math.tau * 220 * index / rate)) for index in range(count))
    return struct.pack(f"<{count}h", *wave)
