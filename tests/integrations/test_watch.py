"""`watch` on real connections to a server on this machine, and on stand-ins for SDKs that are not installed."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import logging
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import aiohttp
import pytest
import websockets.asyncio.client
import websockets.asyncio.server
import websockets.sync.client
from starlette.applications import Starlette
from starlette.routing import WebSocketRoute
from starlette.websockets import WebSocket  # noqa: TC002 - Starlette reads it
from websockets.exceptions import ConnectionClosedOK

from bluejay_ws.current import enter, leave
from bluejay_ws.integrations.conversation_relay import ConversationRelayTap
from bluejay_ws.integrations.deepgram import DeepgramTap
from bluejay_ws.integrations.elevenlabs import ElevenLabsTap
from bluejay_ws.integrations.gemini_live import GeminiLiveTap
from bluejay_ws.integrations.nova_sonic import NovaSonicTap
from bluejay_ws.integrations.openai_realtime import OpenAIRealtimeTap
from bluejay_ws.integrations.watch import HELD, _iterates, tap_for_address, tap_for_message, watch
from tests.servers.asgi_server import uvicorn_server
from tests.support import Call

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterator

CREATED = {"type": "session.created", "session": {"model": "m", "tools": [{"name": "f", "description": "Do it."}]}}
SCRIPT: list[Any] = [
    CREATED,
    {"type": "conversation.item.input_audio_transcription.completed", "item_id": "a", "transcript": "Hello."},
    {"type": "response.function_call_arguments.done", "call_id": "c", "name": "f", "arguments": "{}"},
    {"type": "response.output_audio_transcript.done", "item_id": "b", "transcript": "Hi."},
]
OUTPUT = {"type": "conversation.item.create", "item": {"type": "function_call_output", "call_id": "c", "output": "5"}}
EXPECTED = (["Hello.", "Hi."], [("f", 5)])


@contextlib.asynccontextmanager
async def provider(script: list[Any]) -> AsyncIterator[str]:
    """Run a server that sends a script, waits for one message, and closes."""

    async def handler(websocket: websockets.asyncio.server.ServerConnection) -> None:
        for one in script:
            await websocket.send(one if isinstance(one, bytes) else json.dumps(one))
        await websocket.recv()

    async with websockets.asyncio.server.serve(handler, "127.0.0.1", 0) as server:
        yield f"ws://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1"


@contextlib.contextmanager
def current(call: Call) -> Iterator[Call]:
    """Make a call the current one."""
    before = enter(call.recorder)
    try:
        yield call
    finally:
        leave(call.recorder, before)


def told(call: Call) -> tuple[list[str], list[tuple[str, Any]]]:
    """Return what was said and done."""
    report = call.report()
    words = [one.utterance for one in report.recorded_transcript or []]
    return words, [(one.name, one.output) for one in report.tool_calls or []]


def async_test(body: Callable[[], Awaitable[Any]]) -> Any:
    """Run a body within ten seconds."""

    async def main() -> Any:
        async with asyncio.timeout(10.0):
            return await body()

    return asyncio.run(main())


@pytest.mark.parametrize("how", ["plain", "async with", "await", "async for"])
def test_a_websockets_client_is_the_same_object_and_recorded(how: str) -> None:
    """However it is opened; frames, iteration and the end are what they were."""
    call = Call()

    async def talk(websocket: Any) -> list[Any]:
        got = [json.loads(await websocket.recv())]
        async for message in websocket:
            got.append(json.loads(message))
            if len(got) == len(SCRIPT):
                await websocket.send(json.dumps(OUTPUT))
        with pytest.raises(ConnectionClosedOK):
            await websocket.recv()
        return got

    async def body() -> list[Any]:
        async with provider(SCRIPT) as address:
            if how == "async for" and not hasattr(websockets.asyncio.client.connect, "__aiter__"):
                pytest.skip("this version of websockets reconnects nobody")
            opener = websockets.asyncio.client.connect(address)
            if how == "plain":
                bare = await opener
                assert watch(bare) is watch(bare) is bare
                assert isinstance(bare, websockets.asyncio.client.ClientConnection)
                return await talk(bare)
            if how == "await":
                return await talk(await watch(opener))
            if how == "async with":
                async with watch(opener) as websocket:
                    return await talk(websocket)
            async for websocket in watch(opener):
                return await talk(websocket)
        return []

    with current(call):
        assert async_test(body) == SCRIPT
    assert told(call) == EXPECTED


def test_a_connection_in_a_thread_is_recorded() -> None:
    """The client of ``websockets.sync`` is its own context manager."""
    call = Call()

    def talk(address: str) -> list[Any]:
        with watch(websockets.sync.client.connect(address)) as websocket:
            got = [json.loads(websocket.recv()) for _ in SCRIPT]
            websocket.send(json.dumps(OUTPUT))
            return [*got, *websocket]

    async def body() -> Any:
        async with provider(SCRIPT) as address:
            return await asyncio.to_thread(talk, address)

    with current(call):
        assert async_test(body) == SCRIPT
    assert told(call) == EXPECTED


def test_an_aiohttp_client_is_recorded() -> None:
    """Its messages are objects; JSON goes out by `send_json`."""
    call = Call()

    async def body() -> list[Any]:
        async with (
            provider(SCRIPT) as address,
            aiohttp.ClientSession() as session,
            watch(session.ws_connect(address)) as websocket,
        ):
            got = [await websocket.receive_json() for _ in SCRIPT[1:]]
            await websocket.send_json(OUTPUT)
            got += [message.json() async for message in websocket]
            assert websocket.closed
            return got

    with current(call):
        assert async_test(body) == SCRIPT
    assert told(call) == (["Hello.", "Hi."], [("f", 5)])


def test_a_connection_that_is_older_than_the_call_belongs_to_the_call_that_uses_it() -> None:
    """Its settings, which came before, are taken in; a reader without context follows; the next call takes over."""
    first, second = Call(), Call()
    more = [{**one, "item_id": "z", "call_id": "y"} for one in SCRIPT[1:]]

    async def body() -> None:
        async with (
            provider([*SCRIPT, *more]) as address,
            watch(websockets.asyncio.client.connect(address)) as websocket,
        ):
            await websocket.recv()
            with current(first):
                await websocket.send(json.dumps({"type": "response.create"}))
            for _ in SCRIPT[1:]:
                await websocket.recv()
            first.recorder.stop()
            with current(second):
                watch(websocket)
            for _ in more:
                await websocket.recv()

    async_test(body)
    assert told(first)[0] == ["Hello.", "Hi."]
    assert told(second)[0] == ["Hello.", "Hi."]
    for call in (first, second):
        assert b"Do it." in b"".join(call.journal)


def test_outside_a_simulation_nothing_is_read() -> None:
    """Not even what is malformed is looked at."""

    async def body() -> Any:
        async with (
            provider(["not an event"]) as address,
            watch(websockets.asyncio.client.connect(address)) as websocket,
        ):
            message = await websocket.recv()
            await websocket.send("{")
            return message

    assert async_test(body) == '"not an event"'


def test_the_providers_are_known_by_their_first_messages() -> None:
    """Nobody has to say who the provider is."""
    for message, tap in (
        ({"setupComplete": {}}, GeminiLiveTap),
        ({"user_audio_chunk": ""}, ElevenLabsTap),
        ({"type": "conversation_initiation_metadata"}, ElevenLabsTap),
        ({"type": "Welcome"}, DeepgramTap),
        ({"event": {"sessionStart": {}}}, NovaSonicTap),
        (b'{"type": "session.created"}', OpenAIRealtimeTap),
        ({"type": "new"}, None),
        ({"event": "x"}, None),
        ("{", None),
        (7, None),
    ):
        assert tap_for_message(message) is tap
    assert tap_for_address("agent.deepgram.com/v1/agent/converse") is DeepgramTap
    assert tap_for_address("localhost") is None


def test_who_is_not_known_is_counted_and_may_be_named(caplog: pytest.LogCaptureFixture) -> None:
    """After some messages it is given up, with a warning that says what to do."""
    call, named, given = Call(), Call(), Call()
    noise = [{"type": f"new{number}"} for number in range(HELD + 2)]

    async def body(script: list[Any], **options: Any) -> None:
        async with (
            provider(script) as address,
            watch(websockets.asyncio.client.connect(address), **options) as websocket,
        ):
            for _ in script:
                await websocket.recv()

    with current(call), caplog.at_level(logging.WARNING, "bluejay_ws"):
        async_test(lambda: body(noise))
    assert call.counters["watch.unrecognised"] == 1
    assert "say watch(..., tap=...)" in caplog.text
    with current(named):
        async_test(lambda: body(SCRIPT[1:], tap=OpenAIRealtimeTap))
    async_test(lambda: body(SCRIPT[1:], tap=OpenAIRealtimeTap(given.recorder)))
    assert told(named)[0] == told(given)[0] == ["Hello.", "Hi."]


def test_what_is_no_connection_is_returned_as_it_is(caplog: pytest.LogCaptureFixture) -> None:
    """With a warning: nobody finds out after the simulation."""
    with caplog.at_level(logging.WARNING, "bluejay_ws"):
        assert watch(5) == 5
    assert "cannot observe a int" in caplog.text


def test_an_error_of_ours_does_not_reach_the_agent() -> None:
    """A connection whose methods cannot be replaced is used as it is."""

    class Closed:
        __slots__ = ()

        def recv(self) -> str:
            return "x"

        def send(self, message: str) -> None:
            """Take it."""

    call = Call()
    connection = Closed()
    with current(call):
        assert watch(connection) is connection
    assert call.counters["dropped.failed_watch"] == 1


# -- SDKs


class Sdk:
    """A connection of an SDK, with its public methods."""

    def __init__(self) -> None:
        self.listener: Any = None

    async def recv_bytes(self) -> bytes:
        return json.dumps(SCRIPT[1]).encode()

    async def recv(self) -> Any:
        return json.loads(await self.recv_bytes())

    async def send(self, event: Any) -> None:
        """Send it."""

    async def send_raw(self, event: Any) -> None:
        """Send it."""

    async def send_media(self, message: bytes) -> None:
        """Send it."""

    async def send_settings(self, message: Any) -> None:
        """Send it."""

    async def send_realtime_input(self, **fields: Any) -> None:
        """Send it."""

    async def send_client_content(self, **fields: Any) -> None:
        """Send it."""

    async def send_tool_response(self, **fields: Any) -> None:
        """Send it."""

    async def receive(self) -> AsyncIterator[Any]:
        yield SimpleNamespace(model_dump=lambda **_: {"tool_call": {"function_calls": [{"id": "1", "name": "f"}]}})

    def on(self, name: str, listener: Any) -> None:
        self.listener = (name, listener)


def sdk(home: str) -> Any:
    """Return a connection that is of a library."""
    return type("Connection", (Sdk,), {"__module__": home})()


def test_the_openai_sdks_connection() -> None:
    """Both ways of receiving are one; what is sent may be a dictionary."""
    call, connection = Call(), sdk("openai.resources.realtime.realtime")

    async def body() -> None:
        watch(connection)
        assert (await connection.recv())["transcript"] == "Hello."
        await connection.recv_bytes()
        await connection.send({**OUTPUT})
        await connection.send_raw(event=json.dumps(OUTPUT))

    with current(call):
        async_test(body)
    assert told(call) == (["Hello."], [])


def test_google_genais_session() -> None:
    """What is sent are arguments, and what comes are objects."""
    call, connection = Call(), sdk("google.genai.live")

    async def body() -> None:
        watch(connection)
        async for _ in connection.receive():
            response = SimpleNamespace(model_dump=lambda **_: {"id": "1", "name": "f", "response": {"output": 5}})
            await connection.send_tool_response(function_responses=[response])
        audio = {"data": base64.b64encode(b"\0\0"), "mime_type": "audio/pcm;rate=16000"}
        await connection.send_realtime_input(audio=audio, text=None)

    with current(call):
        async_test(body)
    assert told(call) == ([], [("f", 5)])


def test_google_genais_older_way_to_send() -> None:
    """One deprecated method, of many examples, takes all that there is; nothing is the end of a turn."""
    call, connection = Call(), sdk("google.genai.live")
    answer = {"id": "1", "name": "f", "response": {"output": 5}}
    audio, typed = {"data": b"\0\0", "mime_type": "audio/pcm"}, {"role": "user", "parts": [{"text": "Three"}]}
    content = {"turns": [{"parts": [{"text": "Four"}]}]}
    part = SimpleNamespace(model_dump=lambda **_: {"text": "Five"})
    given: list[Any] = ["Hello", [], None, typed, audio, [answer], content, part]

    async def body() -> None:
        watch(connection)
        async for _ in connection.receive():
            for one in given:
                await connection.send(one)

    with current(call):
        async_test(body)
    report = call.report()
    assert [(one.name, one.output) for one in report.tool_calls or []] == [("f", 5)]
    texts = [one.description for one in report.events or [] if one.title == "Text sent to the model"]
    assert texts == ["Hello", "Three", "Four", "Five"]
    assert call.counters["dropped.failed_watch"] == call.counters["dropped.failed_tap"] == 0


def test_deepgrams_connection() -> None:
    """By its own events, or by `recv`."""
    call, connection = Call(), sdk("deepgram.agent.v1.socket_client")

    async def body() -> None:
        watch(connection)
        name, listener = connection.listener
        assert name == "message"
        listener({"type": "FunctionCallRequest", "functions": [{"id": "1", "name": "f", "arguments": "{}"}]})
        listener(b"\0\0")
        await connection.send_settings({"type": "Settings"})
        await connection.send_media(b"\0\0")
        await connection.recv()

    with current(call):
        async_test(body)
    assert told(call)[1] == [("f", {"status": "interrupted"})]


def test_what_is_used_outside_of_any_call_keeps_its_first_messages_only() -> None:
    """A pool of connections may be open for days."""
    call, other = Call(), Call()

    class Quiet(Sdk):
        async def recv(self) -> str:
            return json.dumps({"type": "session.created", "session": {"model": "m"}})

    connection = Quiet()
    watch(connection)

    async def body() -> None:
        for _ in range(HELD + 2):
            await connection.recv()
        with current(call):
            await connection.recv()
            await connection.send()  # type: ignore[call-arg]

    with pytest.raises(TypeError):
        async_test(body)  # as it would be without us
    with current(other):
        watch(connection, recorder=call.recorder)
    assert call.report().metadata == {"openai_model": "m"}


def test_an_error_in_what_notes_a_message_does_not_reach_the_agent() -> None:
    """A tap of the user's own may have a fault."""
    call = Call()

    class Broken(OpenAIRealtimeTap):
        def event(self, message: Any) -> None:
            raise RuntimeError

        sent = event

    connection = Sdk()
    with current(call):
        watch(connection, tap=Broken)
        async_test(connection.recv)
    assert call.counters["dropped.failed_watch"] == 1


@pytest.mark.parametrize("threads", [False, True])
def test_a_deepgram_connection_is_iterated_as_before(threads: bool) -> None:
    """Its iteration does not go through ``recv``."""
    call = Call()
    told = [{"type": "ConversationText", "role": "user", "content": "Hello."}, b"\x00\x00"]

    class InThreads(Sdk):
        def __iter__(self) -> Iterator[Any]:
            return iter(told)

    class Awaited(Sdk):
        async def __aiter__(self) -> AsyncIterator[Any]:
            for one in told:
                yield one

    for kind in (InThreads, Awaited):
        kind.__module__ = "deepgram.agent.v1.socket_client"
    connection: Any = InThreads() if threads else Awaited()

    async def body() -> list[Any]:
        with current(call):
            watch(connection)
            return list(connection) if threads else [one async for one in connection]

    assert async_test(body) == told
    assert isinstance(connection, InThreads if threads else Awaited)
    assert [one.utterance for one in call.report().recorded_transcript or []] == ["Hello."]


def test_what_opens_a_connection_in_a_thread_is_watched_as_it_opens() -> None:
    """What it has beside stays; so does what it does with an error."""
    call, opened = Call(), []

    class Opener:
        url = "x"

        def __enter__(self) -> Any:
            opened.append(sdk("openai.resources.realtime"))
            return opened[0]

        def __exit__(self, *_: object) -> bool:
            return True

    opener = watch(Opener())
    assert opener.url == "x"
    with current(call), opener as connection:
        assert connection is opened[0]
        async_test(connection.recv_bytes)
        raise RuntimeError
    assert told(call) == (["Hello."], [])


@pytest.mark.parametrize("threads", [True, False])
def test_what_is_entered_without_with_is_watched_too(*, threads: bool) -> None:
    """The managers of the ``openai`` SDK have a method for that."""
    call, connection = Call(), sdk("openai.resources.realtime")

    class Manager:
        def enter(self) -> Any:
            return connection if threads else self.__aenter__()

        async def __aenter__(self) -> Any:
            return connection

    async def body() -> None:
        entered: Any = watch(Manager()).enter()
        assert (entered if threads else await entered) is connection
        await connection.recv_bytes()

    with current(call):
        async_test(body)
    assert told(call) == (["Hello."], [])


def test_connections_of_one_kind_stay_of_one_kind() -> None:
    """Where iterating is observed, a connection becomes of a subclass: one for all, of the same name."""

    class Connection:
        def __iter__(self) -> Iterator[int]:
            return iter(())

    found = _iterates(Connection)
    assert found is _iterates(Connection)
    assert issubclass(found, Connection)
    assert (found.__qualname__, found.__module__) == (Connection.__qualname__, Connection.__module__)


RELAYED = [{"type": "setup"}, {"type": "prompt", "voicePrompt": "Hello.", "last": True}]


@pytest.mark.parametrize("family", ["websockets", "starlette"])
def test_the_calls_own_websocket_is_watched_where_the_provider_is_its_client(family: str) -> None:
    """ConversationRelay: what comes is the provider's, what is sent is the agent's, and both arrive as they were."""
    call, token = Call(), json.dumps({"type": "text", "token": "Hi.", "last": True})

    async def agent(receive: Callable[[], Awaitable[Any]], send: Callable[[str], Awaitable[Any]]) -> None:
        with current(call):
            for one in RELAYED:
                assert json.loads(await receive()) == one
            await send(token)

    async def handler(websocket: websockets.asyncio.server.ServerConnection) -> None:
        watched = watch(websocket, tap=ConversationRelayTap)
        await agent(watched.recv, watched.send)

    async def endpoint(websocket: WebSocket) -> None:
        await websocket.accept()
        watched = watch(websocket, tap=ConversationRelayTap)
        await agent(watched.receive_text, watched.send_text)
        await websocket.send_bytes(b"")
        await websocket.close()

    async def client(address: str) -> None:
        async with websockets.asyncio.client.connect(address) as websocket:
            for one in RELAYED:
                await websocket.send(json.dumps(one))
            assert await websocket.recv() == token

    async def body() -> None:
        if family == "starlette":
            async with uvicorn_server(Starlette(routes=[WebSocketRoute("/", endpoint)])) as address:
                await client(address)
        else:
            async with websockets.asyncio.server.serve(handler, "127.0.0.1", 0) as server:
                await client(f"ws://127.0.0.1:{server.sockets[0].getsockname()[1]}")

    async_test(body)
    assert told(call) == (["Hello.", "Hi."], [])


class Bedrock:
    """A stream with the public methods of Bedrock's SDK: what comes is read from an object that it gives away."""

    def __init__(self, coming: list[Any]) -> None:
        self.coming = [*coming, None]
        self.events: list[Any] = []
        self.input_stream = SimpleNamespace(send=self._take)
        self.output_stream: Any = None

    async def _take(self, event: Any) -> None:
        self.events.append(event)

    async def _give(self) -> Any:
        return self.coming.pop(0)

    async def await_output(self) -> Any:
        """Return the answer, and what comes."""
        self.output_stream = self.output_stream or SimpleNamespace(receive=self._give)
        return "answer", self.output_stream


def chunk(name: str, **facts: Any) -> Any:
    """Return an event as the SDK has it."""
    return SimpleNamespace(value=SimpleNamespace(bytes_=json.dumps({"event": {name: facts}}).encode()))


@pytest.mark.parametrize("late", [False, True])
def test_a_stream_of_the_bedrock_sdk_is_recorded(late: bool) -> None:
    """Whether its answer is there already or not, and however often it is asked for."""
    call, answer = Call(), chunk("toolResult", toolUseId="t", content="5")
    said = chunk("textOutput", contentId="u", content="Hello.", role="USER")
    duplex = Bedrock([chunk("completionStart"), said, chunk("toolUse", toolUseId="t", toolName="f", content="{}")])

    async def body() -> None:
        if late:
            await duplex.await_output()
        with current(call):
            assert watch(duplex) is duplex
            await duplex.await_output()
            first, stream = await duplex.await_output()
            while await stream.receive() is not None:
                pass
            await duplex.input_stream.send(answer)
        assert first == "answer"

    async_test(body)
    assert duplex.events == [answer]
    assert told(call) == (["Hello."], [("f", 5)])
    assert "tap.unknown.nova_sonic" not in call.counters.snapshot()


@pytest.mark.parametrize(
    ("message", "tap"),
    [
        ({"type": "response.output_audio.delta"}, "OpenAIRealtimeTap"),
        ({"type": "conversation.item.input_audio_transcription.completed"}, "OpenAIRealtimeTap"),
        ({"type": "client_tool_call"}, "ElevenLabsTap"),
        ({"type": "FunctionCallRequest"}, "DeepgramTap"),
        ({"type": "transcript.agent"}, "AssemblyAITap"),
        ({"tool_response": {}}, "GeminiLiveTap"),
        ({"event": {"textOutput": {}}}, "NovaSonicTap"),
        ({"type": "transcript"}, None),
        ({"type": "error"}, None),
    ],
)
def test_a_provider_is_known_in_the_middle_of_its_session_too(message: Any, tap: str | None) -> None:
    """An older connection has long said who it is; a word that anybody may use tells nothing."""
    assert getattr(tap_for_message(message), "__name__", None) == tap
