"""Observe a connection of ``websockets`` (asyncio, sync and trio) where its frames really pass.

Nothing in front of the connection: the handler gets the very object the server made. What is observed is
the sans-I/O protocol object behind it, in the library's own way: the first of its extensions is ours, and sees each
frame, whatever method sent or received it (iteration, `recv_streaming`, fragments, `broadcast`), after decompression
and before compression. Its reader tells of the real end of the connection, without a task or a wait.
"""

from __future__ import annotations

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

__all__ = ["ProtocolTap", "open_call", "tap_of"]

_CONTINUATION, _TEXT, _BINARY, _CLOSE = Opcode.CONT, Opcode.TEXT, Opcode.BINARY, Opcode.CLOSE
_LOST = {"close_code": ABNORMAL, "closed_by": "nobody"}
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
    known = tap_of(connection.protocol)
    if known is not None:  # decorated twice, or routed through two decorated handlers: one connection, one call
        return known.call
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


def tap_of(protocol: Any) -> ProtocolTap | None:
    """Return what observes a protocol object; None if it is not observed."""
    return next((one for one in protocol.extensions if type(one) is ProtocolTap), None)


class ProtocolTap(base.Watched):
    """What notes the frames of one protocol object, as one of its `websockets.extensions.Extension` objects."""

    __slots__ = ("agent_fragments", "protocol", "user_fragments")

    name = "bluejay_ws"

    def __init__(self, call: Call, protocol: Any) -> None:
        super().__init__(call)
        self.protocol = protocol
        self.user_fragments: _Fragments | None = None
        self.agent_fragments: _Fragments | None = None

    def observe(self, connection: Any) -> None:
        """Observe from now on, and what has come before."""
        mutex = getattr(connection, "protocol_mutex", None)
        if mutex is None:
            self.observe_protocol()
            backlog = _backlog(connection)
        else:  # its reading thread runs already
            with mutex:
                self.observe_protocol()
                backlog = _backlog(connection)
        for frame in backlog:
            self._received(frame, 0.0)

    def observe_protocol(self) -> None:
        """Observe the protocol object from now on."""
        self.protocol.reader.feed_eof = self  # not a bound method, which is an object more for each idle connection
        self.protocol.extensions.insert(0, self)

    def decode(self, frame: Any, *, max_size: int | None = None) -> Any:  # noqa: ARG002 - an extension's signature
        """Note a frame from Bluejay, and return it."""
        try:
            at_ms = (self.clock() - self.zero) / 1e6
            if frame.opcode is _BINARY and frame.fin:
                self.observer.user_audio(frame.data, at_ms)
            else:
                self._received(frame, at_ms)
        except Exception as error:  # noqa: BLE001 - an error of the library never reaches the agent
            self.call.failed("frame", error)
        return frame

    def encode(self, frame: Any) -> Any:
        """Note a frame to Bluejay, and return it."""
        try:
            at_ms = (self.clock() - self.zero) / 1e6
            if frame.opcode is _BINARY and frame.fin:
                self.observer.agent_audio(frame.data, at_ms)
            else:
                self._sent(frame, at_ms)
        except Exception as error:  # noqa: BLE001 - an error of the library never reaches the agent
            self.call.failed("frame", error)
        return frame

    def _received(self, frame: Any, at_ms: float) -> None:
        self.user_fragments, message = _joined(self.user_fragments, frame)
        if message is not None and message[0] is _BINARY:
            self.observer.user_audio(message[1], at_ms)
        elif message is not None:
            self.call.user_text(message[1], at_ms)

    def _sent(self, frame: Any, at_ms: float) -> None:
        if frame.opcode is _CLOSE and self.protocol.close_rcvd is None:
            self.call.agent_closing()
        self.agent_fragments, message = _joined(self.agent_fragments, frame)
        if message is not None and message[0] is _BINARY:
            self.observer.agent_audio(message[1], at_ms)
        elif message is not None:
            self.observer.agent_text(message[1], at_ms)

    def __call__(self) -> None:
        """Take the place of the reader's ``feed_eof``: nothing more will come."""
        reader = self.protocol.reader
        type(reader).feed_eof(reader)
        self.closed()

    def closed(self) -> None:
        """Note that the connection has ended."""
        try:
            facts = self.closing() or _LOST
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
        return {} if sent is None and self.protocol.close_code is None else _LOST

    def let_go(self) -> None:
        """Leave the protocol object as it was."""
        if self in self.protocol.extensions:
            self.protocol.extensions.remove(self)
            del self.protocol.reader.feed_eof


class _Fragments:
    """A message that comes in several frames: as far as it is of a sane size."""

    __slots__ = ("opcode", "parts", "size")

    def __init__(self, opcode: Opcode, data: Any) -> None:
        self.opcode = opcode
        self.size = 0
        self.parts: list[bytes] = []
        self.add(data)

    def add(self, data: Any) -> None:
        self.size += len(data)
        if self.size <= (_TEXT_LIMIT if self.opcode is _TEXT else _AUDIO_LIMIT):
            self.parts.append(bytes(data))

    def data(self) -> bytes:
        return b"".join(self.parts)


def _joined(begun: _Fragments | None, frame: Any) -> tuple[_Fragments | None, tuple[Opcode, Any] | None]:
    """Return the message that is begun after this frame, and the one that is whole with it."""
    if frame.opcode is _CONTINUATION:
        if begun is not None:  # else its beginning was not seen
            begun.add(frame.data)
    elif frame.opcode not in {_TEXT, _BINARY}:
        return begun, None
    elif frame.fin:
        return None, (frame.opcode, frame.data)
    else:
        begun = _Fragments(frame.opcode, frame.data)
    return (None, (begun.opcode, begun.data())) if begun is not None and frame.fin else (begun, None)


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
