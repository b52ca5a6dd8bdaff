"""`FakeProvider`: it hears, calls a tool, answers, and its protocols are those that the taps read."""

from __future__ import annotations

import asyncio
import base64
import json
from typing import TYPE_CHECKING, Any

import pytest
from websockets.asyncio.client import ClientConnection, connect

from bluejay_ws.integrations.watch import tap_for_message
from bluejay_ws.testing.providers import PROTOCOLS, FakeProvider, Turn
from tests.integrations.streams import audio, pcm
from tests.support import Call

if TYPE_CHECKING:
    from bluejay_ws.integrations.tap import Tap

RESULT = {"output": "frozen"}
TURNS = (Turn("Hello?", says="Hi."), Turn("Freeze it.", says="Done.", tool=("freeze", {"last4": "4242"})))


def spoken(protocol: str, ms: float, *, loud: bool = True) -> Any:
    """Return the caller's audio, as a client sends it."""
    if protocol == "openai":
        return {"type": "input_audio_buffer.append", "audio": audio(ms, 24_000, loud=loud)}
    if protocol == "gemini":
        return {"realtimeInput": {"audio": {"data": audio(ms, 16_000, loud=loud), "mimeType": "audio/pcm;rate=16000"}}}
    if protocol == "elevenlabs":
        return {"user_audio_chunk": audio(ms, 16_000, loud=loud)}
    return pcm(ms, 16_000, loud=loud)


def answer(protocol: str, message: Any) -> Any:
    """Return the result of the tool call in a message; None if there is none in it."""
    if isinstance(message, bytes):
        return None
    if message.get("type") == "response.function_call_arguments.done":
        item = {"type": "function_call_output", "call_id": message["call_id"], "output": "frozen"}
        return {"type": "conversation.item.create", "item": item}
    if "toolCall" in message:
        facts = {
            "id": message["toolCall"]["functionCalls"][0]["id"],
            "name": "freeze",
            "response": {"output": "frozen"},
        }
        return {"toolResponse": {"functionResponses": [facts]}}
    if message.get("type") == "client_tool_call":
        call = message["client_tool_call"]["tool_call_id"]
        return {"type": "client_tool_result", "tool_call_id": call, "result": "frozen"}
    if message.get("type") == "FunctionCallRequest":
        call = message["functions"][0]["id"]
        return {"type": "FunctionCallResponse", "id": call, "name": "freeze", "content": "frozen"}
    return None


def ends_reply(message: Any) -> bool:
    """Return whether a reply is over with this message."""
    if isinstance(message, bytes):
        return False
    over = {"response.done", "agent_response", "AgentAudioDone"}
    return message.get("type") in over or "turnComplete" in message.get("serverContent", {})


class Client:
    """A client of the fake, with the tap that its messages call for."""

    def __init__(self, websocket: ClientConnection, protocol: str, call: Call) -> None:
        self._websocket = websocket
        self._protocol = protocol
        self._call = call
        self._tap: Tap | None = None
        if protocol == "deepgram":
            linear = {"encoding": "linear16", "sample_rate": 16_000}
            self._first: Any = {"type": "Settings", "audio": {"input": linear, "output": linear}}
        else:
            self._first = {"type": "something.else"}

    async def send(self, message: Any) -> None:
        if self._tap is not None:
            self._tap.sent(message)
        await self._websocket.send(message if isinstance(message, bytes) else json.dumps(message))

    async def begin(self) -> None:
        message = json.loads(await self._websocket.recv())
        kind = tap_for_message(message)
        assert kind is not None
        self._tap = kind(self._call.recorder)
        await self.send(self._first)

    async def until_answered(self) -> None:
        while True:
            message = await self._websocket.recv()
            read = message if isinstance(message, bytes) else json.loads(message)
            assert self._tap is not None
            self._tap.event(read)
            result = answer(self._protocol, read)
            if result is not None:
                await self.send(result)
            if ends_reply(read):
                return


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_tap_reads_what_the_fake_says(protocol: str) -> None:
    """Two turns, one ended by quiet audio and one by silence; the tool's result is kept; then it says no more."""
    call = Call()

    async def main() -> list[Any]:
        async with FakeProvider(protocol, TURNS) as fake, connect(fake.url) as websocket:
            client = Client(websocket, protocol, call)
            await client.begin()
            for loud in (False, True, False, False, False):
                await client.send(spoken(protocol, 100, loud=loud))
            await client.until_answered()
            await client.send(spoken(protocol, 300))
            await client.until_answered()
            for loud in (True, False, False, False):
                await client.send(spoken(protocol, 100, loud=loud))
            assert fake.opened == 1
            return fake.results

    results = asyncio.run(main())
    assert results == [RESULT] if protocol == "gemini" else ["frozen"]
    report = call.report()
    said = {(one.speaker, one.utterance) for one in report.recorded_transcript or []}
    assert said == {("USER", "Hello?"), ("AGENT", "Hi."), ("USER", "Freeze it."), ("AGENT", "Done.")}
    (tool,) = report.tool_calls or []
    assert (tool.name, tool.parameters, tool.output) == ("freeze", {"last4": "4242"}, "frozen")


def test_a_result_nobody_waits_for_is_kept() -> None:
    """And answered by nothing."""

    async def main() -> list[Any]:
        async with FakeProvider("deepgram", ()) as fake, connect(fake.url) as websocket:
            await websocket.send(json.dumps({"type": "FunctionCallResponse", "content": "late"}))
            await websocket.send(base64.b64decode(audio(20, 16_000)))
            await websocket.send(bytes(6_400))
            while not fake.results:
                await websocket.recv()
                await asyncio.sleep(0)
            return fake.results

    assert asyncio.run(main()) == ["late"]


def test_an_unknown_protocol_is_refused_at_once() -> None:
    """Before anything is served."""
    with pytest.raises(KeyError):
        FakeProvider("nobody", ())
