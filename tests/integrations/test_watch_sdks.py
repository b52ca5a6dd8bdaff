"""`watch` on the connections of real SDKs, to a server on this machine: recorded, and otherwise as if not watched."""

# mypy: disable-error-code="import-not-found, no-untyped-call, attr-defined, unused-ignore"

from __future__ import annotations

import asyncio
import contextlib
import json
import ssl
import warnings
from typing import TYPE_CHECKING, Any

import pytest
import trustme
import websockets.asyncio.server
from websockets.exceptions import ConnectionClosed

from bluejay_ws.integrations.watch import watch
from tests.integrations.streams import audio, pcm
from tests.integrations.test_watch import async_test, current, told
from tests.support import Call

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterable

    Talk = Callable[[str, Callable[[Any], Any]], Awaitable[tuple[list[Any], str]]]

pytestmark = pytest.mark.filterwarnings("default")  # what SDKs deprecate among themselves
CALL = {"call_id": "c", "name": "f", "arguments": '{"a": 1}', "item_id": "i", "response_id": "r", "output_index": 0}
HEARD = {"type": "conversation.item.input_audio_transcription.completed", "item_id": "a", "transcript": "Hello."}
OPENAI: list[Any] = [
    {"type": "session.created", "event_id": "1", "session": {"type": "realtime", "model": "m"}},
    {**HEARD, "event_id": "2", "content_index": 0, "usage": {"type": "duration", "seconds": 1}},
    {"type": "response.function_call_arguments.done", "event_id": "3", **CALL},
    {"type": "brand.new", "event_id": "4"},
]
GEMINI: list[Any] = [
    {"setupComplete": {}},
    {"serverContent": {"inputTranscription": {"text": "Hello.", "finished": True}}},
    {"toolCall": {"functionCalls": [{"id": "c", "name": "f", "args": {"a": 1}}]}},
]
FUNCTION = {"id": "c", "name": "f", "arguments": '{"a": 1}', "client_side": True}
DEEPGRAM: list[Any] = [
    {"type": "Welcome", "request_id": "x"},
    {"type": "ConversationText", "role": "user", "content": "Hello."},
    {"type": "FunctionCallRequest", "functions": [FUNCTION]},
    pcm(20),
]
AUTHORITY = trustme.CA()
EXPECTED = (["Hello."], [("f", 5)])


class Provider:
    """A server that sends a script, waits for some messages, and closes with a code of its own.

    Args:
        script: what it sends.
        asks_first: whether the client's first message comes before all of it.
    """

    def __init__(self, script: list[Any], *, asks_first: bool = False) -> None:
        self._script = script
        self._asks_first = asks_first
        self.got: list[Any] = []

    async def _serve(self, websocket: websockets.asyncio.server.ServerConnection) -> None:
        if self._asks_first:
            self.got.append(await websocket.recv())
        for one in self._script:
            await websocket.send(one if isinstance(one, bytes) else json.dumps(one))
        for _ in range(2):
            self.got.append(await websocket.recv())
        await websocket.close(4_001, "enough")

    @contextlib.asynccontextmanager
    async def serving(self, secure: ssl.SSLContext | None) -> AsyncIterator[str]:
        """Serve; give the address."""
        async with websockets.asyncio.server.serve(self._serve, "localhost", 0, ssl=secure) as server:
            yield f"localhost:{server.sockets[0].getsockname()[1]}"


def same(event: Any) -> Any:
    """Return what an event says, for comparison."""
    return event if isinstance(event, bytes | dict) else json.loads(event.model_dump_json(exclude_none=True))


async def openai_async(address: str, wrap: Callable[[Any], Any]) -> tuple[list[Any], str]:
    """Talk as the OpenAI SDK does."""
    import openai

    async with (
        openai.AsyncOpenAI(api_key="x", base_url=f"http://{address}/v1") as client,
        wrap(client.realtime.connect(model="m")) as connection,
    ):
        got = [same(await connection.recv()) for _ in OPENAI]
        await connection.input_audio_buffer.append(audio=audio(20))
        item = {"type": "function_call_output", "call_id": "c", "output": "5"}
        await connection.conversation.item.create(item=item)
        with pytest.raises(ConnectionClosed) as closed:
            await connection.recv()
    return got, repr(closed.value)


async def openai_sync(address: str, wrap: Callable[[Any], Any]) -> tuple[list[Any], str]:
    """Talk as the OpenAI SDK does in threads."""
    import openai

    def talk() -> tuple[list[Any], str]:
        with (
            openai.OpenAI(api_key="x", base_url=f"http://{address}/v1") as client,
            wrap(client.realtime.connect(model="m")) as connection,
        ):
            got = [same(connection.recv()) for _ in OPENAI]
            connection.input_audio_buffer.append(audio=audio(20))
            item = {"type": "function_call_output", "call_id": "c", "output": "5"}
            connection.conversation.item.create(item=item)
            with pytest.raises(ConnectionClosed) as closed:
                connection.recv()
        return got, repr(closed.value)

    return await asyncio.to_thread(talk)


async def google(address: str, wrap: Callable[[Any], Any]) -> tuple[list[Any], str]:
    """Talk as google-genai does."""
    from google import genai
    from google.genai import types

    trusted = ssl.create_default_context()
    AUTHORITY.configure_trust(trusted)
    options = types.HttpOptions(base_url=f"https://{address}", async_client_args={"ssl": trusted})
    client = genai.Client(api_key="x", http_options=options)
    async with wrap(client.aio.live.connect(model="m", config={"response_modalities": ["AUDIO"]})) as session:
        messages = session.receive()
        got = [same(await anext(messages)) for _ in GEMINI[1:]]
        await session.send_realtime_input(audio=types.Blob(data=pcm(20, 16_000), mime_type="audio/pcm;rate=16000"))
        answer = types.FunctionResponse(id="c", name="f", response={"output": 5})
        await session.send_tool_response(function_responses=[answer])
        with pytest.raises(genai.errors.APIError) as closed:
            await anext(messages)
    return got, repr(closed.value)


def deepgram_client(address: str, kind: str) -> Any:
    """Return a client of Deepgram's SDK whose agent is on this machine."""
    import deepgram

    where = dict.fromkeys(("production", "agent"), f"ws://{address}")
    rest = dict.fromkeys(("base", "agent_rest"), f"http://{address}")
    environment = deepgram.DeepgramClientEnvironment(**where, **rest)
    return getattr(deepgram, kind)(api_key="x", environment=environment)


def answers() -> Any:
    """Return what answers the function call."""
    from deepgram.agent.v1 import types

    return types.AgentV1SendFunctionCallResponse(type="FunctionCallResponse", id="c", name="f", content="5")


def deepgram_async(how: str) -> Talk:
    """Talk as Deepgram's SDK does: by ``recv``, ``async for`` or its own listening loop."""

    async def talk(address: str, wrap: Callable[[Any], Any]) -> tuple[list[Any], str]:
        got: list[Any] = []
        ending = ""
        async with wrap(deepgram_client(address, "AsyncDeepgramClient").agent.v1.connect()) as connection:

            async def take(event: Any) -> None:
                got.append(same(event))
                if len(got) == len(DEEPGRAM):
                    await connection.send_media(pcm(20))
                    await connection.send_function_call_response(answers())

            try:
                if how == "on":
                    connection.on("message", take)
                    connection.on("error", lambda error: got.append({"error": repr(error)}))
                    await connection.start_listening()
                elif how == "async for":
                    async for event in connection:
                        await take(event)
                else:
                    while True:
                        await take(await connection.recv())
            except ConnectionClosed as closed:
                ending = repr(closed)
        return got, ending

    return talk


def deepgram_sync(how: str) -> Talk:
    """Talk as Deepgram's SDK does in threads."""

    def talk(address: str, wrap: Callable[[Any], Any]) -> tuple[list[Any], str]:
        with wrap(deepgram_client(address, "DeepgramClient").agent.v1.connect()) as connection:
            got: list[Any] = []
            events: Iterable[Any] = iter(connection) if how == "for" else iter(connection.recv, None)
            try:
                for event in events:
                    got.append(same(event))
                    if len(got) == len(DEEPGRAM):
                        connection.send_media(pcm(20))
                        connection.send_function_call_response(answers())
            except ConnectionClosed as closed:
                return got, repr(closed)
        return got, ""

    async def main(address: str, wrap: Callable[[Any], Any]) -> tuple[list[Any], str]:
        return await asyncio.to_thread(talk, address, wrap)

    return main


@pytest.mark.parametrize(
    ("needs", "talk", "script"),
    [
        pytest.param("openai.resources.realtime", openai_async, OPENAI, id="openai"),
        pytest.param("openai.resources.realtime", openai_sync, OPENAI, id="openai in a thread"),
        pytest.param("google.genai", google, GEMINI, id="google-genai"),
        *(
            pytest.param("deepgram.agent.v1", deepgram_async(how), DEEPGRAM, id=f"deepgram, {how}")
            for how in ("recv", "async for", "on")
        ),
        *(
            pytest.param("deepgram.agent.v1", deepgram_sync(how), DEEPGRAM, id=f"deepgram in a thread, {how}")
            for how in ("recv", "for")
        ),
    ],
)
def test_a_connection_of_an_sdk_is_recorded_and_does_what_it_did(needs: str, talk: Talk, script: list[Any]) -> None:
    """What comes, what goes out, and how it ends are the same, watched or not."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        pytest.importorskip(needs, reason=f"{needs} is not installed")
    call, secure = Call(), None
    if script is GEMINI:  # its SDK takes nothing else
        secure = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        AUTHORITY.issue_cert("localhost").configure_cert(secure)

    def run(wrap: Callable[[Any], Any]) -> tuple[list[Any], Any, str]:
        async def body() -> Any:
            provider = Provider(script, asks_first=script is GEMINI)
            async with provider.serving(secure) as address:
                got, ending = await talk(address, wrap)
            return got, provider.got, ending

        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            found: tuple[list[Any], Any, str] = async_test(body)
        return found

    bare = run(lambda connection: connection)
    with current(call):
        watched = run(watch)
    assert watched == bare
    assert told(call) == EXPECTED
    assert not [name for name in call.counters.snapshot() if "failed" in name]


def test_the_elevenlabs_sdk_opens_its_connection_itself(caplog: pytest.LogCaptureFixture) -> None:
    """It cannot be observed without private names: that is said, and it stays as it is."""
    pytest.importorskip("elevenlabs", reason="elevenlabs is not installed: pip install elevenlabs")
    from elevenlabs.client import ElevenLabs
    from elevenlabs.conversational_ai.conversation import Conversation

    conversation = Conversation(ElevenLabs(api_key="x"), "agent", requires_auth=False, audio_interface=None)
    assert watch(conversation) is conversation
    assert "watch cannot observe a Conversation" in caplog.text
