"""Observe a connection of ``websockets`` (asyncio, sync and trio) where its frames really pass.

Nothing in front of the connection: the handler gets the very object the server made. What is observed is
the sans-I/O protocol object behind it, whose class is exchanged for a subclass that calls the original
first and then keeps its own books. That sees every frame, whatever method sent or received it (iteration,
`recv_streaming`, fragments, `broadcast`), after decompression and before compression, and it sees the real
end of the connection without a task or a wait. (Why the class and not instance attributes: five attributes
more turn the protocol's compact instance dictionary into a 2 kB one; see docs/decisions.md.)
"""

from __future__ import annotations

import weakref
from typing import TYPE_CHECKING, Any

from websockets.frames import Opcode

from bluejay_ws.call import GRACE
from bluejay_ws.outcome import ABNORMAL, close_facts
from bluejay_ws.servers import base

if TYPE_CHECKING:
    from collections.abc import Callable

    from bluejay_ws.call import Call
    from bluejay_ws.client import Bluejay
    from bluejay_ws.wire.ids import IdSource

__all__ = ["ProtocolTap", "open_call"]

_CONTINUATION, _TEXT, _BINARY = 0, 1, 2
_OPCODE_BINARY = Opcode.BINARY
# A text message in fragments is put together up to this size; beyond it is no event of the protocol's.
_TEXT_LIMIT = 1 << 16
# Audio in fragments is put together up to half a minute.
_AUDIO_LIMIT = 1 << 20


def open_call(
    connection: Any, client: Callable[[], Bluejay], id_from: tuple[IdSource, ...] = ("header",)
) -> Call | None:
    """Return the call of a ``websockets`` server connection, observed from now on; None without a usable id.

    Args:
        connection: what the server hands to its handler.
        client: gives the client; not called where the connection cannot be a call.
        id_from: where the call's id may stand, in this order.
    """
    request = getattr(connection, "request", None)
    if request is None:
        return None
    known = getattr(connection.protocol, "bluejay_tap", None)
    if known is not None:  # decorated twice, or routed through two decorated handlers: one connection, one call
        return known.call  # type: ignore[no-any-return]
    call = base.open_call(
        client,
        id_from,
        server=type(connection).__module__.partition(".server")[0],
        headers=request.headers.get_all,
        target=lambda: request.path,
    )
    if call is not None:
        tap = ProtocolTap(call, connection.protocol)
        tap.attach(lambda: tap.observe(connection))
        if tap.protocol.close_code is not None:  # the end is past already: sync and trio read ahead of the handler
            base.later(GRACE, tap.closed)  # the handler begins now, and may read what had come before
    return call


class ProtocolTap(base.Watched):
    """What notes the frames of one protocol object, for `_observed`."""

    __slots__ = ("agent_fragments", "clock", "protocol", "started", "user_fragments")

    def __init__(self, call: Call, protocol: Any) -> None:
        super().__init__(call)
        self.protocol = protocol
        self.clock = call.clock
        self.started = call.started
        self.user_fragments: _Fragments | None = None
        self.agent_fragments: _Fragments | None = None

    def observe(self, connection: Any) -> None:
        """Observe from now on, and what has come before."""
        mutex = getattr(connection, "protocol_mutex", None)
        if mutex is None:
            self.exchange_class()
            backlog = _backlog(connection)
        else:  # its reading thread runs already
            with mutex:
                self.exchange_class()
                backlog = _backlog(connection)
        for frame in backlog:
            self.received(frame, 0.0)

    def exchange_class(self) -> None:
        """Observe the protocol object from now on."""
        self.protocol.bluejay_tap = self
        self.protocol.__class__ = _observed(type(self.protocol))

    def received(self, frame: Any, at_ms: float) -> None:
        """Tell the observer of a frame from Bluejay that is no plain whole binary message."""
        opcode = frame.opcode
        if opcode in (_TEXT, _BINARY):
            if frame.fin:
                self._user_message(opcode, frame.data, at_ms)
            else:
                self.user_fragments = _Fragments(opcode, frame.data)
        elif opcode == _CONTINUATION and self.user_fragments is not None:
            self.user_fragments.add(frame.data)
            if frame.fin:
                whole, self.user_fragments = self.user_fragments, None
                self._user_message(whole.opcode, whole.data(), at_ms)

    def _user_message(self, opcode: int, data: bytes | bytearray | memoryview, at_ms: float) -> None:
        if opcode == _BINARY:
            self.observer.user_audio(data, at_ms)
        else:
            self.call.user_text(data, at_ms)

    def sent(self, opcode: int, data: Any, fin: bool, at_ms: float) -> None:  # noqa: FBT001
        """Tell the observer of a frame to Bluejay that is no plain whole binary message."""
        if opcode != _CONTINUATION and not fin:
            self.agent_fragments = _Fragments(opcode, data)
        elif opcode == _TEXT:
            self.observer.agent_text(data, at_ms)
        elif self.agent_fragments is not None:
            self.agent_fragments.add(data)
            if fin:
                whole, self.agent_fragments = self.agent_fragments, None
                self._agent_message(whole, at_ms)

    def _agent_message(self, whole: _Fragments, at_ms: float) -> None:
        if whole.opcode == _BINARY:
            self.observer.agent_audio(whole.data(), at_ms)
        else:
            self.observer.agent_text(whole.data(), at_ms)

    def closed(self) -> None:
        """Note that the connection has ended."""
        try:
            facts = self.closing()
        except Exception as error:  # noqa: BLE001 - the report says less of it, and leaves
            self.call.failed("close", error)
            facts = {}
        self.call.connection_closed(facts)

    def closing(self) -> dict[str, Any]:
        """Return how the connection ends: by the first close frame; without one it is open, or lost."""
        received, sent = self.protocol.close_rcvd, self.protocol.close_sent
        if self.protocol.close_rcvd_then_sent or (sent is None and received is not None):
            return close_facts(received.code, received.reason, "caller")
        if sent is not None and sent.reason != "keepalive ping timeout":
            return close_facts(sent.code, sent.reason, "agent")
        over = sent is not None or self.protocol.close_code is not None
        return {"close_code": ABNORMAL, "closed_by": "nobody"} if over else {}

    def let_go(self) -> None:
        """Give the protocol object its own class back."""
        protocol = self.protocol
        if hasattr(protocol, "bluejay_tap"):
            protocol.__class__ = type(protocol).__mro__[1]
            del protocol.bluejay_tap


class _Fragments:
    """A message that comes in several frames: as far as it is of a sane size."""

    __slots__ = ("opcode", "parts", "size")

    def __init__(self, opcode: int, data: Any) -> None:
        self.opcode = opcode
        self.size = 0
        self.parts: list[bytes] = []
        self.add(data)

    def add(self, data: Any) -> None:
        self.size += len(data)
        if self.size <= (_TEXT_LIMIT if self.opcode == _TEXT else _AUDIO_LIMIT):
            self.parts.append(bytes(data))

    def data(self) -> bytes:
        return b"".join(self.parts)


def _backlog(connection: Any) -> list[Any]:
    """Return the frames that came in before the handler was called, leaving them where they are."""
    messages = getattr(connection, "recv_messages", None)
    frames = getattr(messages, "frames", None)
    if hasattr(frames, "queue"):  # asyncio: a deque in a small queue of its own
        return list(frames.queue)  # type: ignore[union-attr]
    if hasattr(frames, "get_nowait"):  # sync: a queue.SimpleQueue, which can only be emptied and filled again
        with messages.mutex:  # type: ignore[union-attr]
            waiting = [frames.get_nowait() for _ in range(frames.qsize())]  # type: ignore[union-attr]
            for frame in waiting:
                frames.put(frame)  # type: ignore[union-attr]
        return [frame for frame in waiting if frame is not None]
    state = getattr(getattr(messages, "recv_frames", None), "_state", None)  # trio: what the library reads itself
    return list(getattr(state, "data", ()))


_classes: weakref.WeakKeyDictionary[type[Any], type[Any]] = weakref.WeakKeyDictionary()


def _observed(original: type[Any]) -> type[Any]:
    """Return the subclass of a protocol class that keeps `_Tap`'s books; made once for each class."""
    found = _classes.get(original)
    if found is None:
        found = _classes[original] = _make_observed(original)
    return found


def _make_observed(original: type[Any]) -> type[Any]:  # noqa: C901 - six short methods that share `original`
    # The originals are looked up on the class at each call: a later patch still works.
    def events_received(self: Any) -> list[Any]:
        events: list[Any] = original.events_received(self)
        if events:
            try:
                tap = self.bluejay_tap
                at_ms = (tap.clock() / 1e9 - tap.started) * 1e3
                for event in events:
                    if event.opcode is _OPCODE_BINARY and event.fin:
                        tap.observer.user_audio(event.data, at_ms)
                    else:
                        tap.received(event, at_ms)
            except Exception as error:  # noqa: BLE001
                _failed(self, error)
        return events

    def send_binary(self: Any, data: Any, fin: bool = True) -> None:  # noqa: FBT001, FBT002
        original.send_binary(self, data, fin)
        try:
            tap = self.bluejay_tap
            if fin:
                tap.observer.agent_audio(data, (tap.clock() / 1e9 - tap.started) * 1e3)
            else:
                tap.sent(_BINARY, data, fin, 0.0)
        except Exception as error:  # noqa: BLE001
            _failed(self, error)

    def send_text(self: Any, data: Any, fin: bool = True) -> None:  # noqa: FBT001, FBT002
        original.send_text(self, data, fin)
        _sent(self, _TEXT, data, fin)

    def send_continuation(self: Any, data: Any, fin: bool) -> None:  # noqa: FBT001
        original.send_continuation(self, data, fin)
        _sent(self, _CONTINUATION, data, fin)

    def send_close(self: Any, *args: Any, **kwargs: Any) -> None:
        original.send_close(self, *args, **kwargs)
        tap = getattr(self, "bluejay_tap", None)
        if tap is not None:
            tap.call.agent_closing()

    def receive_eof(self: Any) -> None:
        original.receive_eof(self)
        tap = getattr(self, "bluejay_tap", None)
        if tap is not None and self.close_code is not None:
            tap.closed()

    methods = (events_received, send_binary, send_text, send_continuation, send_close, receive_eof)
    names = {"__slots__": (), "__module__": original.__module__, "__qualname__": original.__qualname__}
    return type(original.__name__, (original,), {**names, **{method.__name__: method for method in methods}})


def _sent(protocol: Any, opcode: int, data: Any, fin: bool) -> None:  # noqa: FBT001
    try:
        tap = protocol.bluejay_tap
        tap.sent(opcode, data, fin, (tap.clock() / 1e9 - tap.started) * 1e3)
    except Exception as error:  # noqa: BLE001
        _failed(protocol, error)


def _failed(protocol: Any, error: Exception) -> None:
    """Count an error of the library on the frame path; the frame itself has passed already."""
    tap = getattr(protocol, "bluejay_tap", None)
    if tap is not None:
        tap.call.failed("frame", error)
