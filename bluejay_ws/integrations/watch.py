"""`watch`: record what passes on a provider connection that the agent has opened. The agent's loop stays as it is.

::

    from bluejay_ws.integrations.watch import watch

    provider = watch(await websockets.connect(url))                # the same object
    async with watch(websockets.connect(url)) as provider: ...     # or while it is being opened

Known connections: ``websockets`` (asyncio and threads), aiohttp and Starlette, realtime connections of the ``openai``
SDK, live sessions of ``google-genai``, agent connections of the Deepgram SDK, streams of the Bedrock SDK. The provider
is recognised by the address and by the first messages. Only public methods are observed, and no SDK is imported.
"""

from __future__ import annotations

import functools
import inspect
import logging
from collections import Counter
from typing import TYPE_CHECKING, Any, Protocol, TypeVar, cast

from bluejay_ws.current import current_recorder
from bluejay_ws.integrations.assemblyai import AssemblyAITap
from bluejay_ws.integrations.cartesia_line import CartesiaLineTap
from bluejay_ws.integrations.deepgram import DeepgramTap
from bluejay_ws.integrations.elevenlabs import ElevenLabsTap
from bluejay_ws.integrations.gemini_live import GeminiLiveTap
from bluejay_ws.integrations.hume import HumeTap
from bluejay_ws.integrations.messages import plain
from bluejay_ws.integrations.nova_sonic import NovaSonicTap
from bluejay_ws.integrations.openai_realtime import OpenAIRealtimeTap
from bluejay_ws.integrations.tap import Tap
from bluejay_ws.integrations.ultravox import UltravoxTap

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Generator, Iterator

    from bluejay_ws.recorder import Recorder

__all__ = ["tap_for_address", "tap_for_message", "watch"]

logger = logging.getLogger("bluejay_ws")

C = TypeVar("C")

HELD = 8  # so many messages may pass before the provider is known; they are taken in then

_ADDRESSES: tuple[tuple[str, type[Tap]], ...] = (
    ("api.openai.com", OpenAIRealtimeTap),
    (".openai.azure.com", OpenAIRealtimeTap),
    (".cognitiveservices.azure.com", OpenAIRealtimeTap),
    (".services.ai.azure.com", OpenAIRealtimeTap),
    ("api.x.ai", OpenAIRealtimeTap),
    ("dashscope", OpenAIRealtimeTap),
    ("generativelanguage.googleapis.com", GeminiLiveTap),
    ("aiplatform.googleapis.com", GeminiLiveTap),
    ("elevenlabs.io", ElevenLabsTap),
    ("agent.deepgram.com", DeepgramTap),
    ("assemblyai.com", AssemblyAITap),
    ("cartesia.ai", CartesiaLineTap),
    ("api.hume.ai", HumeTap),
    ("ultravox.ai", UltravoxTap),
)
_TYPED: tuple[type[Tap], ...] = (
    *(OpenAIRealtimeTap, ElevenLabsTap, DeepgramTap, AssemblyAITap, HumeTap, CartesiaLineTap, UltravoxTap),
)


def _types() -> dict[str, type[Tap]]:
    """Return the types of messages that only one provider has; a plain word may be anybody's."""
    known = [(tap, {*tap.received, *tap.outgoing, *tap.quiet}) for tap in _TYPED]
    times = Counter(kind for _, kinds in known for kind in kinds)
    return {
        kind: tap
        for tap, kinds in known
        for kind in kinds
        if times[kind] == 1 and ("." in kind or "_" in kind or kind[:1].isupper())
    }


_TYPES: dict[str, type[Tap]] = {
    **_types(),
    **dict.fromkeys(("session.created", "session.update", "session.start", "session.started"), OpenAIRealtimeTap),
    **dict.fromkeys(("response.create", "input_audio_buffer.clear", "input_audio_buffer.commit"), OpenAIRealtimeTap),
    **dict.fromkeys(("chat_metadata", "session_settings", "audio_output"), HumeTap),
}
_GEMINI = frozenset({
    *("setup", "setupComplete", "setup_complete", "serverContent", "server_content", "realtimeInput", "realtime_input"),
    *("toolCall", "tool_call", "toolResponse", "tool_response", "clientContent", "client_content"),
    *("toolCallCancellation", "tool_call_cancellation", "voiceActivity", "voice_activity"),
})  # fmt: skip
_NOVA = frozenset({"sessionStart", *NovaSonicTap.received, *NovaSonicTap.outgoing})


class _Watchable(Protocol):
    """A tap's class, or anything that makes a tap for a recorder."""

    def __call__(self, recorder: Recorder, /) -> Tap: ...


def watch(connection: C, *, tap: Tap | _Watchable | None = None, recorder: Recorder | None = None) -> C:
    """Observe a provider connection, and return it.

    Nothing changes: same object, frames, exceptions and close. The call is the one that is current here, or, for a
    connection that was opened outside of calls or is used again by a later call, the one that is current where its
    messages are sent and received. Outside a simulation a message costs one look at the context.

    Watched twice is observed once; a later call takes over. What cannot be observed is returned as it is, with a
    warning in the log.

    Args:
        connection: an open connection, or what opens one in ``async with``, ``await`` or ``async for``.
        tap: a tap, or its class, where the provider cannot be recognised.
        recorder: the call's; default the current one, as messages pass.

    Returns:
        ``connection``. Of what opens a connection: a stand-in, which opens it and watches it.
    """
    try:
        return cast("C", _watched(connection, tap, recorder))
    except Exception as error:  # noqa: BLE001 - the agent never sees our errors
        current_recorder().failed("watch", error)
        return connection


def _watched(connection: Any, tap: Tap | _Watchable | None, recorder: Recorder | None) -> Any:
    methods = _methods_of(connection)
    if methods is None:
        if hasattr(connection, "__aenter__") or hasattr(connection, "__await__") or hasattr(connection, "__enter__"):
            return _Opening(connection, tap, recorder)
        text = "watch cannot observe a %s: it is not recorded; give its messages to a tap's event and sent"
        logger.warning(text, type(connection).__qualname__)
        return connection
    watcher = getattr(connection, "_bluejay_watcher", None)
    if watcher is None:
        watcher = _Watcher(_address(connection))
        connection._bluejay_watcher = watcher  # noqa: SLF001 - ours
        methods(connection, watcher)
    watcher.belongs_to(recorder or current_recorder(), tap)
    return connection


class _Watcher:
    """What is observed of one connection: whose it is, and what reads it."""

    __slots__ = ("_first", "_kind", "_recorder", "_tap", "_unread")

    def __init__(self, address: str) -> None:
        self._kind: Any = tap_for_address(address)
        self._recorder: Recorder | None = None
        self._tap: Tap | None = None
        self._first: list[tuple[bool, Any]] = []  # of the connection, for calls that come later
        self._unread: list[tuple[bool, Any]] = []  # of the call, until the provider is known

    def belongs_to(self, recorder: Recorder, tap: Tap | _Watchable | None = None) -> None:
        """Let the connection's messages go to a call from now on."""
        if isinstance(tap, Tap):
            self._kind, self._tap, self._recorder = type(tap), tap, tap.recorder
            return
        if tap is not None:
            self._kind = tap
        if recorder.active and (recorder is not self._recorder or tap is not None):
            self._recorder, self._unread = recorder, []
            if self._kind is None:
                self._kind = next(filter(None, (tap_for_message(one) for _, one in self._first)), None)
            self._tap = None
            if self._kind is not None:
                self._begin()

    def _begin(self) -> Tap:
        """Make the call's tap, and give it what the connection began with: tools, formats, the model."""
        self._tap = tap = cast("Tap", self._kind(self._recorder))
        for sent, message in self._first:
            tap.setting(message, sent=sent)
        return tap

    def received(self, message: Any) -> None:
        self._pass(message, sent=False)

    def sent(self, message: Any) -> None:
        self._pass(message, sent=True)

    def _pass(self, message: Any, *, sent: bool) -> None:
        recorder = self._recorder
        if recorder is None or recorder.closed:
            current = current_recorder()
            if not current.active:
                if len(self._first) < HELD:
                    self._first.append((sent, message))
                return
            self.belongs_to(current)
        tap = self._tap
        if tap is None:
            self._recognise(cast("Recorder", self._recorder), message, sent=sent)
            return
        if len(self._first) < HELD:
            self._first.append((sent, message))
        if sent:
            tap.sent(message)
        else:
            tap.event(message)

    def _recognise(self, recorder: Recorder, message: Any, *, sent: bool) -> None:
        """Find out who the provider is, and give the tap what has passed meanwhile."""
        if len(self._unread) >= HELD:
            return
        self._unread.append((sent, message))
        self._kind = tap_for_message(message)
        if self._kind is not None:
            tap = self._begin()
            for was_sent, one in self._unread:
                (tap.sent if was_sent else tap.event)(one)
            self._first = [*self._first, *self._unread][:HELD]
        elif len(self._unread) == HELD:
            recorder.count("watch.unrecognised")
            logger.warning(
                "watch does not know whose messages these are: they are not recorded; say watch(..., tap=...)"
            )


def tap_for_address(address: str) -> type[Tap] | None:
    """Return the tap for a provider's address; None if that is not known."""
    return next((tap for part, tap in _ADDRESSES if part in address), None)


def tap_for_message(message: Any) -> type[Tap] | None:
    """Return the tap that reads such a message; None if it does not show that."""
    try:
        facts = plain(message)
    except ValueError:
        return None
    if type(facts) is not dict:
        return None
    kind = facts.get("type")
    if isinstance(kind, str) and kind in _TYPES:
        return _TYPES[kind]
    if not _GEMINI.isdisjoint(facts) and "type" not in facts:
        return GeminiLiveTap
    if "user_audio_chunk" in facts:
        return ElevenLabsTap
    inner = facts.get("event")
    return NovaSonicTap if isinstance(inner, dict) and not _NOVA.isdisjoint(inner) else None


def _address(connection: Any) -> str:
    """Return where a connection leads, as far as its public attributes tell; "" if they do not."""
    request = getattr(connection, "request", None)  # websockets
    headers = getattr(request, "headers", None)
    host = headers.get("Host") if headers is not None and hasattr(headers, "get") else None
    if host:
        return f"{host}{getattr(request, 'path', '')}"
    home = type(connection).__module__.partition(".")[0]
    return {"openai": "api.openai.com", "google": "generativelanguage.googleapis.com"}.get(
        home, "agent.deepgram.com" if home == "deepgram" else ""
    )


# -- what is observed of each kind of connection ---------------------------------------------------------------


def _methods_of(connection: Any) -> Callable[[Any, _Watcher], None] | None:
    """Return what observes a connection, by its methods and the library it is from; None: it is no connection."""
    home = type(connection).__module__.partition(".")[0]
    if home == "google" and hasattr(connection, "send_realtime_input"):
        return _observe_google
    if home == "deepgram" and hasattr(connection, "send_media"):
        return _observe_deepgram
    if home == "openai" and hasattr(connection, "recv_bytes"):
        return _observe_openai
    if hasattr(connection, "receive_str") and hasattr(connection, "send_str"):
        return _observe_aiohttp
    if hasattr(connection, "receive_text") and hasattr(connection, "scope"):
        return _observe_starlette
    if hasattr(connection, "input_stream") and hasattr(connection, "await_output"):
        return _observe_aws
    if hasattr(connection, "recv") and hasattr(connection, "send") and not hasattr(connection, "__await__"):
        return _observe_websockets
    return None


def _observe_websockets(connection: Any, watcher: _Watcher) -> None:
    _observe_sending(connection, ["send"], watcher.sent)
    connection.recv = _received(connection.recv, watcher.received)


def _observe_openai(connection: Any, watcher: _Watcher) -> None:
    _observe_sending(connection, ["send", "send_raw"], watcher.sent)
    connection.recv_bytes = _received(connection.recv_bytes, watcher.received)


def _observe_aiohttp(connection: Any, watcher: _Watcher) -> None:
    def received(message: Any) -> None:
        data = getattr(message, "data", None)
        if isinstance(data, str | bytes):
            watcher.received(data)

    _observe_sending(connection, ["send_str", "send_bytes"], watcher.sent)
    connection.receive = _received(connection.receive, received)


def _observe_starlette(connection: Any, watcher: _Watcher) -> None:
    """Observe the call's own websocket, of which a provider is the client: ConversationRelay, Cartesia Line."""

    def noting(note: Callable[[Any], None]) -> Callable[[Any], None]:
        def noted(message: Any) -> None:
            data = message.get("text") or message.get("bytes")
            if data:
                note(data)

        return noted

    _observe_sending(connection, ["send"], noting(watcher.sent))
    connection.receive = _received(connection.receive, noting(watcher.received))


def _observe_aws(connection: Any, watcher: _Watcher) -> None:
    """Observe a stream of Bedrock's SDK; what comes is read from an object that the stream gives away later."""
    opened = connection.await_output

    def received(message: Any) -> None:
        if message is not None:  # the end of the stream
            watcher.received(message)

    def observe(stream: Any) -> None:
        if stream is not None and not hasattr(stream, "_bluejay_watcher"):
            stream._bluejay_watcher = watcher  # noqa: SLF001 - ours
            stream.receive = _received(stream.receive, received)

    @functools.wraps(opened)
    async def await_output(*args: Any, **options: Any) -> Any:
        found = await opened(*args, **options)
        _quietly(observe, found[1])
        return found

    observe(getattr(connection, "output_stream", None))
    connection.await_output = await_output
    _observe_sending(connection.input_stream, ["send"], watcher.sent)


def _observe_google(connection: Any, watcher: _Watcher) -> None:
    receive = connection.receive

    @functools.wraps(receive)
    async def received(*args: Any, **options: Any) -> AsyncIterator[Any]:
        async for message in receive(*args, **options):
            _quietly(watcher.received, message)
            yield message

    connection.receive = received
    wires = {"send_realtime_input": "realtimeInput", "send_client_content": "clientContent"}
    for name, wire in {**wires, "send_tool_response": "toolResponse"}.items():
        setattr(
            connection, name, _sends(getattr(connection, name), functools.partial(_note_fields, watcher.sent, wire))
        )
    # Deprecated, and in many examples:
    _observe_sending(connection, ["send"], functools.partial(_note_input, watcher.sent))


def _observe_deepgram(connection: Any, watcher: _Watcher) -> None:
    connection.recv = _received(connection.recv, watcher.received)
    connection.on("message", functools.partial(_quietly, watcher.received))  # of its own listening loop
    connection.__class__ = _iterates(type(connection))  # type: ignore[arg-type]
    _observe_sending(connection, [name for name in dir(connection) if name.startswith("send_")], watcher.sent)


@functools.lru_cache(maxsize=32)
def _iterates(kind: type[Any]) -> type[Any]:
    """Return a class of connections that are iterated as before, which is observed too: it does not use ``recv``.

    Python looks for ``__aiter__`` in the class only. The new one is a subclass of the same name, one for each kind.
    """

    async def __aiter__(self: Any) -> AsyncIterator[Any]:  # noqa: N807
        async for message in kind.__aiter__(self):
            _quietly(self._bluejay_watcher.received, message)
            yield message

    def __iter__(self: Any) -> Iterator[Any]:  # noqa: N807
        for message in kind.__iter__(self):
            _quietly(self._bluejay_watcher.received, message)
            yield message

    method = __aiter__ if hasattr(kind, "__aiter__") else __iter__
    facts = {"__module__": kind.__module__, "__qualname__": kind.__qualname__, "__doc__": kind.__doc__}
    return type(kind.__name__, (kind,), {method.__name__: method, **facts})


def _observe_sending(connection: Any, names: list[str], note: Callable[[Any], None]) -> None:
    """Have those of the methods that are there note what is sent; of fragments that a generator makes, nothing."""

    def note_first(*args: Any, **options: Any) -> None:
        for sent in (*args, *options.values())[:1]:
            note(sent)

    for name in names:
        if hasattr(connection, name):
            setattr(connection, name, _sends(getattr(connection, name), note_first))


def _received(receive: Callable[..., Any], note: Callable[[Any], None]) -> Callable[..., Any]:
    """Return a method that receives as before, and notes what came."""
    if inspect.iscoroutinefunction(receive):

        @functools.wraps(receive)
        async def received(*args: Any, **options: Any) -> Any:
            message = await receive(*args, **options)
            _quietly(note, message)
            return message

        return received

    @functools.wraps(receive)
    def received_at_once(*args: Any, **options: Any) -> Any:
        message = receive(*args, **options)
        _quietly(note, message)
        return message

    return received_at_once


def _sends(send: Callable[..., Any], note: Callable[..., None]) -> Callable[..., Any]:
    """Return a method that sends as before, and notes its arguments."""

    @functools.wraps(send)
    def sends(*args: Any, **options: Any) -> Any:
        try:
            note(*args, **options)
        except Exception as error:  # noqa: BLE001 - the agent never sees our errors
            current_recorder().failed("watch", error)
        return send(*args, **options)

    return sends


def _note_fields(note: Callable[[Any], None], wire: str, *_: Any, **options: Any) -> None:
    """Tell what google-genai's methods are given: a message's fields as arguments."""
    note({wire: {key: _dumped(value) for key, value in options.items() if value is not None}})


def _note_input(note: Callable[[Any], None], given: Any) -> None:
    """Tell by its fields what google-genai's ``send`` was given: audio, tool outputs, text; else it is a whole part."""
    found = _dumped(given)
    many = found if isinstance(found, list) else [found]
    first = many[0] if many else None
    if isinstance(first, str):
        note({"clientContent": {"turns": [{"parts": [{"text": one} for one in many]}]}})
    elif isinstance(first, dict):
        parts = {"data": {"realtimeInput": {"media": first}}, "parts": {"clientContent": {"turns": many}}}
        answers = {"response": {"toolResponse": {"functionResponses": many}}, "turns": {"clientContent": first}}
        known = {**parts, **answers, "function_responses": {"toolResponse": first}}
        note(next((message for name, message in known.items() if name in first), {"realtimeInput": first}))


def _dumped(value: Any) -> Any:
    dump = getattr(value, "model_dump", None)
    if dump is not None:
        return dump(exclude_none=True)
    return [_dumped(one) for one in value] if isinstance(value, list | tuple) else value


def _quietly(action: Callable[..., None], *args: Any) -> None:
    try:
        action(*args)
    except Exception as error:  # noqa: BLE001 - the agent never sees our errors
        current_recorder().failed("watch", error)


class _Opening:
    """What opens a connection, such as ``websockets.connect(...)``; it is watched as soon as it is open."""

    def __init__(self, opener: Any, tap: Tap | _Watchable | None, recorder: Recorder | None) -> None:
        self._opener = opener
        self._tap = tap
        self._recorder = recorder

    def _watch(self, connection: Any) -> Any:
        return watch(connection, tap=self._tap, recorder=self._recorder)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._opener, name)

    async def __aenter__(self) -> Any:
        return self._watch(await self._opener.__aenter__())

    async def __aexit__(self, *error: object) -> Any:
        return await self._opener.__aexit__(*error)

    def __enter__(self) -> Any:
        return self._watch(self._opener.__enter__())

    def __exit__(self, *error: object) -> Any:
        return self._opener.__exit__(*error)

    def __await__(self) -> Generator[Any, Any, Any]:
        return self._opened(self._opener).__await__()

    def enter(self) -> Any:
        """Open it without ``with``: the ``openai`` SDK has a method for that."""
        opened = self._opener.enter()
        return self._opened(opened) if inspect.isawaitable(opened) else self._watch(opened)

    async def _opened(self, opening: Any) -> Any:
        return self._watch(await opening)

    async def __aiter__(self) -> AsyncIterator[Any]:
        async for connection in self._opener:
            yield self._watch(connection)
