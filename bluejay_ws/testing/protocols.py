"""How a call is carried: CHIRP as Bluejay speaks it, or the media streams of a telephone carrier, from its side.

============ ================================== ============================ =================== =====================
Protocol     where the call's id stands         audio, both ways             keys pressed        mark, and its echo
============ ================================== ============================ =================== =====================
``chirp``    connect header                     binary, 16,000 Hz PCM        tones in the audio  ``mark``, ``mark``
``twilio``   ``start.customParameters``         ``media``, base64 mu-law     ``dtmf``            ``mark``, ``mark``
``plivo``    ``extra_headers`` of ``start``     ``media`` to the agent,      ``dtmf``            ``checkpoint``,
                                                ``playAudio`` from it                            ``playedStream``
``telnyx``   ``start.custom_parameters``        ``media``, base64            ``dtmf``            ``mark``, ``mark``
``vonage``   top of ``websocket:connected``     binary, L16                  ``websocket:dtmf``  ``notify``,
                                                                                                 ``websocket:notify``
============ ================================== ============================ =================== =====================

Carriers have no speech events; their agents can clear what is queued. A carrier has no error message either: what it
does not take is noted in the log as ``message.refused``.

Source: the carriers' documentation of their media streams, November 2026. No code is shared with what hears them.
"""

from __future__ import annotations

import abc
import base64
import json
import time
import uuid
from typing import TYPE_CHECKING, Any, ClassVar, Literal, NamedTuple, TypeAlias

from bluejay_ws.testing.audio import CODINGS, Coding

if TYPE_CHECKING:
    from collections.abc import Sequence

ProtocolName: TypeAlias = Literal["chirp", "twilio", "plivo", "telnyx", "vonage"]

SPEECH = frozenset({"speech.started", "speech.completed"})
REQUIRED = dict.fromkeys(SPEECH, "utterance_id") | {"mark": "name", "session.error": "code"}


class FrameError(Exception):
    """Say why a frame is dropped, as `session.error` puts it.

    Args:
        code: ``INVALID_MESSAGE``, ``MISSING_FIELD`` or ``INVALID_AUDIO_FRAME``.
        message: one sentence for a person.
    """

    def __init__(self, code: str, message: str) -> None:
        super().__init__(code, message)
        self.code = code
        self.message = message

    def __str__(self) -> str:
        return f"{self.code}: {self.message}"


def text_frame(frame_type: str, **data: Any) -> str:
    """Return one text frame with a fresh ``id`` and the present ``ts_ms``."""
    frame = {"type": frame_type, "id": str(uuid.uuid4()), "ts_ms": time.time_ns() // 1_000_000, "data": data}
    return json.dumps(frame, ensure_ascii=False)


def parse_text(text: str) -> tuple[str, dict[str, Any]]:
    """Return the type and the data of a text frame. ``id`` and ``ts_ms`` may be missing.

    Raises:
        FrameError: the frame is not one of CHIRP's, or lacks the field its type needs.
    """
    try:
        frame = json.loads(text)
    except (ValueError, RecursionError):
        raise FrameError("INVALID_MESSAGE", "the text frame is not JSON") from None
    if not isinstance(frame, dict):
        raise FrameError("INVALID_MESSAGE", "the text frame is not an object")
    if "type" not in frame:
        raise FrameError("MISSING_FIELD", "the text frame has no type")
    frame_type, data = frame["type"], frame.get("data")
    if not isinstance(frame_type, str) or frame_type not in REQUIRED:
        raise FrameError("INVALID_MESSAGE", "the text frame's type is unknown")
    needed = REQUIRED[frame_type]
    if not isinstance(data, dict) or not isinstance(data.get(needed), str):
        raise FrameError("MISSING_FIELD", f"{frame_type} needs data.{needed}")
    return frame_type, data


def check_audio(frame: bytes) -> None:
    """Accept whole samples only.

    Raises:
        FrameError: the frame is empty or ends in half a sample.
    """
    if not frame or len(frame) % 2:
        raise FrameError("INVALID_AUDIO_FRAME", f"{len(frame)} bytes are not a whole number of samples")


class Heard(NamedTuple):
    """What a message of the agent's says: ``audio`` as the caller hears it, ``mark``, ``clear``, a type of CHIRP's."""

    kind: str
    pcm: bytes = b""
    detail: dict[str, Any] = {}  # noqa: RUF012 - never changed


class Protocol(abc.ABC):
    """One call's wire form, from the caller's side. Each call has its own.

    Args:
        coding: of the audio; default: the protocol's first.

    Raises:
        ValueError: the protocol does not carry that coding.
    """

    name: ClassVar[ProtocolName]
    codings: ClassVar[tuple[str, ...]]
    id_in_header: ClassVar[bool] = False
    has_speech_events: ClassVar[bool] = False
    clear_returns_marks: ClassVar[bool] = False

    def __init__(self, coding: str | None = None) -> None:
        if coding is not None and coding not in self.codings:
            raise ValueError(f"{self.name} does not carry {coding!r}: give one of {', '.join(self.codings)}")
        self.coding: Coding = CODINGS[coding or self.codings[0]]

    def opening(self, ids: Sequence[str]) -> list[str]:  # noqa: ARG002
        """Return the messages with which the stream begins; ``ids`` are the call's."""
        return []

    def closing(self) -> list[str]:
        """Return the messages that announce the caller's hanging up."""
        return []

    def audio(self, pcm: bytes) -> bytes | str:
        """Return the message that carries this audio of the caller's."""
        return self.coding.encode(pcm)

    def is_audio(self, message: bytes | str) -> bool:
        """Return whether a message to the agent is the caller's audio."""
        return isinstance(message, bytes)

    def key(self, digit: str) -> str | None:  # noqa: ARG002
        """Return the message that says that a key was pressed; None where only its tones say so."""
        return None

    @abc.abstractmethod
    def mark(self, name: str) -> str:
        """Return the message that a mark has been reached."""

    def cleared(self) -> str | None:
        """Return the message that what was queued is gone; None where there is none."""
        return None

    def speech(self, kind: str, utterance_id: str) -> str | None:  # noqa: ARG002
        """Return the speech event; None where there are none."""
        return None

    def error(self, error: FrameError) -> str | None:  # noqa: ARG002
        """Return the answer to a bad message; None where there is none."""
        return None

    @abc.abstractmethod
    def read(self, message: bytes | str) -> Heard:
        """Return what the agent's message says.

        Raises:
            FrameError: it does not belong to the protocol.
        """


class Chirp(Protocol):
    """Bluejay's own protocol."""

    name = "chirp"
    codings = ("l16/16000",)
    id_in_header = True
    has_speech_events = True

    def mark(self, name: str) -> str:
        """Return the echo of a mark."""
        return text_frame("mark", name=name)

    def speech(self, kind: str, utterance_id: str) -> str:
        """Return the speech event."""
        return text_frame(kind, utterance_id=utterance_id)

    def error(self, error: FrameError) -> str:
        """Return a ``session.error``."""
        return text_frame("session.error", code=error.code, message=error.message)

    def read(self, message: bytes | str) -> Heard:
        """Return what the agent's frame says."""
        if isinstance(message, bytes):
            check_audio(message)
            return Heard("audio", message)
        kind, data = parse_text(message)
        return Heard(kind, detail=data)


class _Carrier(Protocol):
    """What the carriers have in common: JSON objects, and audio that has to be decoded."""

    def _object(self, text: str) -> dict[str, Any]:
        try:
            found = json.loads(text)
        except (ValueError, RecursionError):
            found = None
        if not isinstance(found, dict):
            raise FrameError("INVALID_MESSAGE", f"{self.name} takes JSON objects only")
        return found

    def _audio(self, audio: bytes, coding: Coding | None = None) -> Heard:
        try:
            return Heard("audio", (coding or self.coding).decode(audio))
        except ValueError as error:
            raise FrameError("INVALID_AUDIO_FRAME", str(error)) from None

    def _unknown(self, what: object) -> FrameError:
        return FrameError("INVALID_MESSAGE", f"{self.name} knows no {str(what)[:60]!r} message from an agent")


class _MediaStream(_Carrier):
    """Twilio, Telnyx, Plivo: everything is JSON, audio is base64 in ``media``."""

    sequence: ClassVar[str] = "sequence_number"
    stream: ClassVar[str] = "stream_id"
    mark_event: ClassVar[str] = "mark"
    clear_event: ClassVar[str] = "clear"
    media_event: ClassVar[str] = "media"
    names_stream: ClassVar[frozenset[str]] = frozenset()
    """Events of the agent's that count only where they name the stream."""

    def __init__(self, coding: str | None = None) -> None:
        super().__init__(coding)
        self.stream_id = str(uuid.uuid4())
        self.call_id = str(uuid.uuid4())
        self._messages = 0
        self._chunks = 0
        self._sent_ms = 0.0

    def opening(self, ids: Sequence[str]) -> list[str]:
        """Return ``start``, with the call's id; Plivo has no ``connected``."""
        return [self._event("start", start=self._start(ids))]

    def audio(self, pcm: bytes) -> str:
        payload = base64.b64encode(self.coding.encode(pcm)).decode()
        self._chunks += 1
        media = {"track": "inbound", "chunk": str(self._chunks), "timestamp": str(round(self._sent_ms))}
        self._sent_ms += len(pcm) / 32
        return self._event("media", media={**media, "payload": payload})

    def is_audio(self, message: bytes | str) -> bool:
        return isinstance(message, str) and message.startswith('{"event": "media"')

    def key(self, digit: str) -> str:
        return self._event("dtmf", dtmf={"track": "inbound_track", "digit": digit})

    def mark(self, name: str) -> str:
        return self._event("mark", mark={"name": name})

    def closing(self) -> list[str]:
        return [self._event("stop", stop=self._stop())]

    def read(self, message: bytes | str) -> Heard:
        if isinstance(message, bytes):
            raise FrameError("INVALID_MESSAGE", f"{self.name} takes text frames only")
        found = self._object(message)
        event = found.get("event")
        if event in self.names_stream and found.get(self.stream) != self.stream_id:
            raise FrameError("MISSING_FIELD", f"{event} needs the stream's {self.stream}")
        if event == self.media_event:
            return self._media(found.get("media"))
        if event == self.mark_event:
            return self._marked(found)
        if event == self.clear_event:
            return Heard("clear")
        raise self._unknown(event)

    def _media(self, media: object) -> Heard:
        payload = media.get("payload") if isinstance(media, dict) else None
        try:
            audio = base64.b64decode(payload, validate=True) if isinstance(payload, str) else None
        except ValueError:
            audio = None
        if audio is None or not isinstance(media, dict):
            raise FrameError("INVALID_AUDIO_FRAME", f"{self.media_event} needs base64 in media.payload")
        return self._audio(audio, self._coding_of(media))

    def _coding_of(self, media: dict[str, Any]) -> Coding | None:  # noqa: ARG002
        return None

    def _marked(self, message: dict[str, Any]) -> Heard:
        mark = message.get("mark")
        return self._named(mark.get("name") if isinstance(mark, dict) else None)

    def _named(self, name: object) -> Heard:
        if not isinstance(name, str) or not name:
            raise FrameError("MISSING_FIELD", f"{self.mark_event} needs a name")
        return Heard("mark", detail={"name": name})

    def _event(self, event: str, **more: Any) -> str:
        self._messages += 1
        return json.dumps({"event": event, self.sequence: str(self._messages), self.stream: self.stream_id, **more})

    @abc.abstractmethod
    def _start(self, ids: Sequence[str]) -> dict[str, Any]: ...

    @abc.abstractmethod
    def _stop(self) -> dict[str, Any]: ...


class Twilio(_MediaStream):
    """Twilio Media Streams, both ways (``<Connect><Stream>``)."""

    name = "twilio"
    codings = ("mulaw/8000",)
    sequence = "sequenceNumber"
    stream = "streamSid"
    clear_returns_marks = True
    names_stream = frozenset({"media", "mark", "clear"})

    def __init__(self, coding: str | None = None) -> None:
        super().__init__(coding)
        self.stream_id = f"MZ{uuid.uuid4().hex}"
        self.call_id = f"CA{uuid.uuid4().hex}"
        self._account = f"AC{uuid.uuid4().hex}"

    def opening(self, ids: Sequence[str]) -> list[str]:
        """Return ``connected`` and ``start``."""
        connected = {"event": "connected", "protocol": "Call", "version": "1.0.0"}
        return [json.dumps(connected), *super().opening(ids)]

    def _start(self, ids: Sequence[str]) -> dict[str, Any]:
        return {
            **self._stop(),
            "streamSid": self.stream_id,
            "tracks": ["inbound"],
            "mediaFormat": {"encoding": "audio/x-mulaw", "sampleRate": 8_000, "channels": 1},
            "customParameters": {"simulation_result_id": ids[0]} if ids else {},
        }

    def _stop(self) -> dict[str, Any]:
        return {"accountSid": self._account, "callSid": self.call_id}


class Telnyx(_MediaStream):
    """Telnyx media streaming in its RTP mode: payloads without headers, both ways."""

    name = "telnyx"
    codings = ("mulaw/8000", "l16/16000")
    clear_returns_marks = True

    def opening(self, ids: Sequence[str]) -> list[str]:
        """Return ``connected`` and ``start``."""
        return [json.dumps({"event": "connected", "version": "1.0.0"}), *super().opening(ids)]

    def _start(self, ids: Sequence[str]) -> dict[str, Any]:
        encoding = "PCMU" if self.coding.name == "mulaw" else "L16"
        return {
            **self._stop(),
            "call_session_id": self.call_id,
            "from": "+13125550101",
            "to": "+13125550102",
            "custom_parameters": {"simulation_result_id": ids[0]} if ids else {},
            "media_format": {"encoding": encoding, "sample_rate": self.coding.rate, "channels": 1},
        }

    def _stop(self) -> dict[str, Any]:
        return {"user_id": "local", "call_control_id": f"v3:{self.call_id}"}


class Plivo(_MediaStream):
    """Plivo audio streaming, both ways."""

    name = "plivo"
    codings = ("mulaw/8000", "l16/8000", "l16/16000")
    sequence = "sequenceNumber"
    stream = "streamId"
    media_event = "playAudio"
    mark_event = "checkpoint"
    clear_event = "clearAudio"
    names_stream = frozenset({"checkpoint", "clearAudio"})
    _NAMES: ClassVar[dict[str, str]] = {"mulaw": "audio/x-mulaw", "l16": "audio/x-l16"}

    def opening(self, ids: Sequence[str]) -> list[str]:
        """Return ``start``; the id stands in its ``extra_headers``, as ``X-PH-`` headers do."""
        headers = f"{{X-PH-simulationResultId: {ids[0]}}}" if ids else "{}"
        return [self._event("start", start=self._start(ids), extra_headers=headers)]

    def mark(self, name: str) -> str:
        """Return ``playedStream``."""
        return self._event("playedStream", name=name)

    def cleared(self) -> str:
        """Return ``clearedAudio``."""
        return self._event("clearedAudio")

    def _coding_of(self, media: dict[str, Any]) -> Coding:
        """Return the coding that ``playAudio`` names: its own, message by message."""
        content, rate = str(media.get("contentType")).partition(";")[0], media.get("sampleRate")
        for coding in CODINGS.values():
            if (self._NAMES[coding.name], str(coding.rate)) == (content, str(rate)):
                return coding
        raise FrameError("INVALID_AUDIO_FRAME", f"plivo plays no {content!r} of {rate} Hz")

    def _marked(self, message: dict[str, Any]) -> Heard:
        return self._named(message.get("name"))

    def _start(self, ids: Sequence[str]) -> dict[str, Any]:  # noqa: ARG002
        media = {"encoding": self._NAMES[self.coding.name], "sampleRate": self.coding.rate}
        return {**self._stop(), "streamId": self.stream_id, "tracks": ["inbound"], "mediaFormat": media}

    def _stop(self) -> dict[str, Any]:
        return {"callId": self.call_id, "accountId": "local"}


class Vonage(_Carrier):
    """Vonage Voice API websockets: binary audio, JSON for the rest."""

    name = "vonage"
    codings = ("l16/16000", "l16/8000", "l16/24000")

    def opening(self, ids: Sequence[str]) -> list[str]:
        """Return ``websocket:connected``, with the endpoint's headers beside it."""
        named = {"simulation_result_id": ids[0]} if ids else {}
        return [self._event("connected", **{"content-type": f"audio/l16;rate={self.coding.rate}"}, **named)]

    def key(self, digit: str) -> str:
        """Return ``websocket:dtmf``."""
        return self._event("dtmf", digit=digit, duration=100)

    def mark(self, name: str) -> str:
        """Return ``websocket:notify``, with the payload that the agent gave."""
        return self._event("notify", payload=json.loads(name))

    def cleared(self) -> str:
        """Return ``websocket:cleared``."""
        return self._event("cleared")

    def read(self, message: bytes | str) -> Heard:
        """Return what the agent's message says."""
        if isinstance(message, bytes):
            return self._audio(message)
        found = self._object(message)
        action = found.get("action")
        if action == "clear":
            return Heard("clear")
        if action == "notify":
            return Heard("mark", detail={"name": json.dumps(found.get("payload"))})
        raise self._unknown(action)

    @staticmethod
    def _event(event: str, **more: Any) -> str:
        return json.dumps({"event": f"websocket:{event}", **more})


PROTOCOLS: dict[str, type[Protocol]] = {one.name: one for one in (Chirp, Twilio, Plivo, Telnyx, Vonage)}
"""Every protocol, by its name."""


def new_protocol(name: str, coding: str | None = None) -> Protocol:
    """Return a protocol for one call, with its usual coding or another one, such as ``l16/16000``.

    Raises:
        ValueError: there is no such protocol, or it does not carry that coding.
    """
    if name not in PROTOCOLS:
        raise ValueError(f"there is no protocol {name!r}: give one of {', '.join(PROTOCOLS)}")
    return PROTOCOLS[name](coding)
