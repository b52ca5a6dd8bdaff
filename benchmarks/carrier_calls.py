"""The same made-up calls as telephone carriers bring them: their messages, their codings, no speech events."""

from __future__ import annotations

import base64
import json
import struct
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from bluejay_ws.testing.audio import mulaw

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from benchmarks.conversations import Conversation, Item, Kind

__all__ = ["CARRIERS", "as_carrier"]


def _media(event: str = "media", **more: Any) -> Callable[[str], str]:
    return lambda payload: json.dumps({"event": event, "media": {"payload": payload, **more}})


def _start(key: str, inside: bool, form: dict[str, Any], name: str) -> str:
    start: dict[str, Any] = {name: form} | ({key: "1"} if inside else {})
    return json.dumps({"event": "start", "start": start} | ({} if inside else {key: "1"}))


_INBOUND = _media(track="inbound")
_MULAW = {"encoding": "audio/x-mulaw", "sampleRate": 8_000, "channels": 1}
_PCMU = {"encoding": "PCMU", "sample_rate": 8_000, "channels": 1}
_BASE64 = {"encoding": "base64", "sample_rate": "8000", "bit_rate": "128kbps"}
_L16 = {"encoding": "audio/x-l16", "sampleRate": 16_000}
_HOOK = {"type": "audio", "format": "PCMU", "channels": ["external"], "rate": 8_000}
_OPEN = {"version": "2", "type": "open", "seq": 1, "id": "e", "parameters": {"organizationId": "o", "media": [_HOOK]}}
_BARGE_IN = {"type": "event", "parameters": {"entities": [{"type": "barge_in", "data": {}}]}}


@lru_cache(maxsize=10_000)
def _telephone(frame: bytes) -> bytes:
    return mulaw(_eight(frame))


@lru_cache(maxsize=10_000)
def _eight(frame: bytes) -> bytes:
    samples = struct.unpack(f"<{len(frame) // 2}h", frame)[::2]
    return struct.pack(f"<{len(samples)}h", *samples)


def _whole(frame: bytes) -> bytes:
    return frame


# For each: its first message, its coding, its media message to the agent and from it (None: binary), its clear message.
CARRIERS: dict[str, tuple[str, Callable[[bytes], bytes], Any, Any, dict[str, Any]]] = {
    "twilio": (
        _start("streamSid", False, _MULAW, "mediaFormat"), _telephone, _INBOUND, _media(), {"event": "clear"},
    ),
    "telnyx": (
        _start("stream_id", False, _PCMU, "media_format"), _telephone, _INBOUND, _media(), {"event": "clear"},
    ),
    "exotel": (
        _start("stream_sid", False, _BASE64, "media_format"), _eight, _media(), _media(), {"event": "clear"},
    ),
    "plivo": (
        _start("streamId", True, _L16, "mediaFormat"), _whole, _INBOUND,
        _media("playAudio", contentType="audio/x-l16", sampleRate=16_000), {"event": "clearAudio"},
    ),
    "vonage": (
        json.dumps({"event": "websocket:connected", "content-type": "audio/l16;rate=8000"}), _eight, None, None,
        {"action": "clear"},
    ),
    "genesys": (json.dumps(_OPEN), _telephone, None, None, _BARGE_IN),
}  # fmt: skip


def as_carrier(call: Conversation, name: str) -> Iterator[tuple[float, Kind, bytes | str]]:
    """Yield what passes the connection when this carrier brings the call."""
    first, code, to_agent, from_agent, clear = CARRIERS[name]
    yield 0.0, "user_text", first
    for at, _, kind, what in call.items:
        if kind in {"user_audio", "agent_audio"} and isinstance(what, bytes):
            media = to_agent if kind == "user_audio" else from_agent
            if media is None:
                yield at, kind, code(what)
            else:
                text: Kind = "user_text" if kind == "user_audio" else "agent_text"
                yield at, text, media(base64.b64encode(code(what)).decode())
        elif kind == "clear":
            yield at, "agent_text", json.dumps(clear)
        elif kind in {"user_said", "agent_said"}:
            yield at, kind, ""


def plain(items: list[Item]) -> Iterator[tuple[float, Kind, bytes | str]]:
    """Yield what passes the connection when Bluejay brings the call."""
    for at, _, kind, what in items:
        if kind != "clear":
            yield at, kind, what
