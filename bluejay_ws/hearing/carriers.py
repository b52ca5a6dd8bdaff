"""Telephone carriers: what their messages say of audio, as levels for the observer.

A carrier is recognised by its first messages; what is not recognised is left alone. Its caller is the caller, what the
agent sends back is the agent, ``clear`` empties the queue of what the caller will hear, and its marks are marks.

========== =============================================== =========================== =========== =====================
Carrier    first message                                   caller's audio              ``clear``   mark, and its echo
========== =============================================== =========================== =========== =====================
Twilio     ``start`` with ``streamSid``                    ``media``, base64 mu-law    ``clear``   ``mark``, ``mark``
Telnyx     ``start`` with ``stream_id``                    ``media``, base64           ``clear``   ``mark``, ``mark``
Exotel     ``start`` with ``stream_sid``                   ``media``, base64 PCM       ``clear``   ``mark``, ``mark``
Plivo      ``start`` with ``start.streamId``               ``media``, base64           clearAudio  checkpoint,
                                                                                                   playedStream
Vonage     ``websocket:connected`` with ``content-type``   binary PCM                  ``clear``   ``notify``,
                                                           8,000 or 16,000 Hz          (action)    ``websocket:notify``
Genesys    ``open`` with ``parameters.media``              binary mu-law               barge_in    (none)
========== =============================================== =========================== =========== =====================

Source: the carriers' documentation of their media streams (Twilio Media Streams, Telnyx media streaming, Exotel
AgentStream, Plivo AudioStream, Vonage Voice API websockets, Genesys AudioHook), November 2026.

Pure, and bounded in what one message can cost. What is malformed is counted and never raised.
"""

from __future__ import annotations

import binascii
import json
import random
import re
from functools import lru_cache, partial
from math import sqrt
from operator import itemgetter
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, TypeAlias

from bluejay_ws.hearing.level import measured, size_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from bluejay_ws.hearing.level import Frame

TEXT_LIMIT = 2 << 20  # a carrier's message may hold half a minute of audio
PIECE_MS = 20.0  # longer audio is listened to in pieces of this length
PIECES_MOST = 256  # so many pieces of one message, at the most; of longer audio they are longer
NAME_LIMIT = 256
SAMPLES = 48  # so many samples of a piece are looked at: its loudness is known within a tenth or so

Message: TypeAlias = "Mapping[str, Any]"


class _Ears(Protocol):
    """What a carrier tells: the observer."""

    def user_heard(self, level: int, ms: float, at_ms: float) -> None: ...
    def agent_heard(self, level: int, ms: float, at_ms: float) -> None: ...
    def clear(self, at_ms: float) -> None: ...
    def mark(self, name: str, at_ms: float) -> None: ...
    def mark_echoed(self, name: str, at_ms: float) -> None: ...
    def invalid_audio(self) -> None: ...


class Format(NamedTuple):
    """How audio is coded: ``level`` tells the loudness of some of it, ``bytes_per_ms`` its length."""

    level: Callable[[Frame], int]
    bytes_per_ms: float
    channels: int = 1

    def sounds(self, audio: Frame) -> Iterable[tuple[int, float]]:
        """Return level and length in milliseconds of each 20 ms of it, or of all of it where it is shorter than 40."""
        whole_ms = size_of(audio) / self.channels / self.bytes_per_ms
        if whole_ms < 2 * PIECE_MS and self.channels == 1:
            return ((self.level(audio), whole_ms),)
        return self._pieces(bytes(audio)[:: self.channels], whole_ms)

    def _pieces(self, audio: bytes, whole_ms: float) -> Iterator[tuple[int, float]]:
        step = 2 * int(max(PIECE_MS, whole_ms / PIECES_MOST) * self.bytes_per_ms / 2)
        for start in range(0, len(audio), step):
            piece = audio[start : start + step]
            yield self.level(piece), len(piece) / self.bytes_per_ms


class Carrier:
    """One carrier's stream: messages and binary frames in both directions go in, sounds and marks come out.

    The agent's audio has the caller's format, unless it has one of its own.
    """

    __slots__ = ("_agent", "_ears", "_user", "name")

    def __init__(self, name: str, ears: _Ears, user: Format | None, agent: Format | None = None) -> None:
        self.name = name
        self._ears = ears
        self._user = user
        self._agent = agent or user

    def received(self, message: Message, at_ms: float) -> None:
        """Act on a text message from the carrier."""

    def sent(self, message: Message, at_ms: float) -> None:
        """Act on a text message to the carrier."""

    def user_audio(self, frame: Frame, at_ms: float) -> None:  # noqa: ARG002 - only some carriers send any
        """Note a binary frame from the carrier."""
        self._ears.invalid_audio()

    def agent_audio(self, frame: Frame, at_ms: float) -> None:  # noqa: ARG002
        """Note a binary frame to the carrier."""
        self._ears.invalid_audio()

    def _user_sounds(self, audio: Frame, at_ms: float) -> None:
        for loudness, ms in self._user.sounds(audio) if self._user else ():
            self._ears.user_heard(loudness, ms, at_ms)
            at_ms += ms

    def _agent_sounds(self, audio: Frame, at_ms: float, format: Format | None = None) -> None:  # noqa: A002
        coding = format or self._agent
        for loudness, ms in coding.sounds(audio) if coding else ():
            self._ears.agent_heard(loudness, ms, at_ms)


class _MediaStream(Carrier):
    """Twilio, Telnyx, Exotel and Plivo: everything is JSON, audio is base64 in it."""

    __slots__ = ()

    def received(self, message: Message, at_ms: float) -> None:
        event = message.get("event")
        if event == "media":
            media = _inside(message, "media")
            if media.get("track", "inbound") in ("inbound", "inbound_track"):
                self._decoded(media, at_ms, self._user_sounds)
        elif event in ("mark", "playedStream"):
            self._named(message, self._ears.mark_echoed, at_ms)

    def sent(self, message: Message, at_ms: float) -> None:
        event = message.get("event")
        if event == "media":
            self._decoded(_inside(message, "media"), at_ms, self._agent_sounds)
        elif event == "playAudio":
            self._played(_inside(message, "media"), at_ms)
        elif event in ("clear", "clearAudio"):
            self._ears.clear(at_ms)
        elif event in ("mark", "checkpoint"):
            self._named(message, self._ears.mark, at_ms)

    def _played(self, media: Message, at_ms: float) -> None:
        """Act on Plivo's ``playAudio``, which says how its own audio is coded."""
        coding = _format(media.get("contentType"), media.get("sampleRate"))
        self._decoded(media, at_ms, lambda audio, at: self._agent_sounds(audio, at, coding))

    def _decoded(self, media: Message, at_ms: float, take: Callable[[bytes, float], None]) -> None:
        try:
            audio = binascii.a2b_base64(media["payload"])
        except (KeyError, TypeError, ValueError):
            self._ears.invalid_audio()
        else:
            if audio:
                take(audio, at_ms)

    def _named(self, message: Message, note: Callable[[str, float], None], at_ms: float) -> None:
        """Note a mark by its name; Plivo's messages have it at their top."""
        name = (_inside(message, "mark") or message).get("name")
        if isinstance(name, str | int) and len(str(name)) <= NAME_LIMIT:
            note(str(name), at_ms)


class _BinaryStream(Carrier):
    """Vonage: audio is binary; commands and notifications are JSON."""

    __slots__ = ()

    def received(self, message: Message, at_ms: float) -> None:
        if message.get("event") == "websocket:notify":
            self._ears.mark_echoed(_digest(message.get("payload")), at_ms)

    def sent(self, message: Message, at_ms: float) -> None:
        if message.get("action") == "clear":
            self._ears.clear(at_ms)
        elif message.get("action") == "notify":
            self._ears.mark(_digest(message.get("payload")), at_ms)

    def user_audio(self, frame: Frame, at_ms: float) -> None:
        self._checked(frame, at_ms, self._user_sounds)

    def agent_audio(self, frame: Frame, at_ms: float) -> None:
        self._checked(frame, at_ms, self._agent_sounds)

    def _checked(self, frame: Frame, at_ms: float, take: Callable[[Frame, float], None]) -> None:
        if size_of(frame):
            take(memoryview(frame).cast("B") if isinstance(frame, memoryview) else frame, at_ms)
        else:
            self._ears.invalid_audio()


class _AudioHook(_BinaryStream):
    """Genesys: audio is binary mu-law, the caller's channel first; a ``barge_in`` that is sent empties the queue."""

    __slots__ = ()

    def received(self, message: Message, at_ms: float) -> None:
        """Pass over a text message from the carrier: none says anything of audio."""

    def sent(self, message: Message, at_ms: float) -> None:
        parameters = _inside(message, "parameters")
        if message.get("type") == "opened":
            media = _first(parameters.get("media"))
            if media:
                self._user = _audio_hook(media)
        elif message.get("type") == "event":
            entities = parameters.get("entities")
            kinds = [one.get("type") for one in entities if isinstance(one, dict)] if isinstance(entities, list) else []
            if "barge_in" in kinds:
                self._ears.clear(at_ms)


def recognise(message: Message, ears: _Ears) -> Carrier | None:
    """Return the carrier whose stream begins with this message from it; None for any other message.

    A stream whose coding is not known (Opus, MP3, AMR) is recognised, and nothing is heard of its audio.
    """
    event = message.get("event")
    if event == "websocket:connected":
        content = message.get("content-type")
        return _BinaryStream("vonage", ears, _format(content, None)) if isinstance(content, str) else None
    if event == "start" and isinstance(message.get("start"), dict):
        return _media_stream(message, message["start"], ears)
    if message.get("type") == "open":
        media = _first(_inside(message, "parameters").get("media"))
        if media:
            return _AudioHook("genesys", ears, _audio_hook(media), _format("PCMU", media.get("rate")))
    return None


# What a start message without a format means, as documented.
_STREAMS = (
    ("twilio", "streamSid", "audio/x-mulaw"),
    ("exotel", "stream_sid", "audio/x-raw"),
    ("telnyx", "stream_id", "PCMU"),
    ("plivo", "streamId", "audio/x-l16"),
)


def _media_stream(message: Message, start: Message, ears: _Ears) -> Carrier | None:
    for name, key, coding in _STREAMS:
        if key in message or key in start:
            found = start.get("mediaFormat", start.get("media_format"))
            media: Message = found if isinstance(found, dict) else {}
            rate = media.get("sampleRate", media.get("sample_rate"))
            encoding = coding if name == "exotel" else media.get("encoding") or coding
            either_order = name == "telnyx"  # its 16 bit samples are documented in neither
            return _MediaStream(name, ears, _format(encoding, rate, either_order=either_order))
    return None


def _audio_hook(media: Message) -> Format | None:
    channels = media.get("channels")
    coding = _format(media.get("format"), media.get("rate"))
    if coding is None or coding.level is not _mulaw_level or not isinstance(channels, list):
        return coding  # it offers nothing else today
    return coding._replace(channels=max(1, len(channels)))


_RATE = re.compile(r"rate=(\d{1,6})")
_RATES = (8_000, 16_000, 22_050, 24_000, 32_000, 44_100, 48_000)


def _format(encoding: object, rate: object, *, either_order: bool = False) -> Format | None:
    """Return how to read audio of an encoding such as ``audio/x-mulaw``, ``PCMU`` or ``audio/l16;rate=16000``."""
    if not isinstance(encoding, str) or len(encoding) > NAME_LIMIT:
        return None
    name = encoding.lower()
    hertz = _hertz(rate, name)
    if any(word in name for word in ("mulaw", "ulaw", "pcmu")):
        return Format(_mulaw_level, hertz / 1000)
    if any(word in name for word in ("alaw", "pcma")):
        return Format(_alaw_level, hertz / 1000)
    if any(word in name for word in ("l16", "raw", "slin", "pcm", "wav")):
        return Format(_level_of_either_order if either_order else _pcm_level, hertz * 2 / 1000)
    return None


def _hertz(rate: object, encoding: str) -> int:
    found = _RATE.search(encoding)
    try:
        hertz = int(rate) if isinstance(rate, int | str) else int(found.group(1)) if found else 0
    except ValueError:
        hertz = 0
    if hertz in _RATES:
        return hertz
    return 16_000 if encoding.startswith("audio/l16") else 8_000


# -- levels -----------------------------------------------------------------------------------------------------------


def _mulaw(code: int) -> int:
    """Return the sample that a byte of mu-law stands for (ITU-T G.711), without its sign."""
    inverted = ~code & 0xFF
    return (((inverted & 0x0F) << 3) + 0x84 << ((inverted & 0x70) >> 4)) - 0x84


def _alaw(code: int) -> int:
    """Return the sample that a byte of A-law stands for (ITU-T G.711), without its sign."""
    toggled = code ^ 0x55
    segment, magnitude = (toggled & 0x70) >> 4, (toggled & 0x0F) << 4
    return magnitude + 8 if segment == 0 else magnitude + 0x108 << segment - 1


_MULAW_SQUARES = [_mulaw(code) ** 2 for code in range(256)]
_ALAW_SQUARES = [_alaw(code) ** 2 for code in range(256)]


def _coded_level(squares: list[int], audio: Frame) -> int:
    picked = _picker(len(audio))(audio)
    return int(sqrt(sum(map(squares.__getitem__, picked)) / SAMPLES))


_mulaw_level = partial(_coded_level, _MULAW_SQUARES)
_alaw_level = partial(_coded_level, _ALAW_SQUARES)


@lru_cache(maxsize=256)
def _picker(size: int) -> Callable[[Any], tuple[int, ...]]:
    """Return what picks some bytes of so many: at uneven distances, as a steady tone has zeros at even ones."""
    source = random.Random(size)  # noqa: S311 - the same in every process
    return itemgetter(*sorted(source.randrange(size) for _ in range(SAMPLES)))


def _pcm_level(audio: Frame) -> int:
    return int(measured(audio, 0, len(audio))[0]) if len(audio) > 1 else 0


def _level_of_either_order(audio: Frame) -> int:
    """Return the level of samples whose byte order is not known: read in the wrong one they are noise, and louder."""
    return min(_pcm_level(audio), _pcm_level(bytes(audio)[1:-1])) if len(audio) > 2 else _pcm_level(audio)


def _inside(message: Message, key: str) -> Message:
    found = message.get(key)
    return found if isinstance(found, dict) else {}


def _first(media: object) -> Message:
    found = media[0] if isinstance(media, list) and media else None
    return found if isinstance(found, dict) else {}


def _digest(payload: object) -> str:
    """Return a name for a payload that comes back as it was sent."""
    return json.dumps(payload, sort_keys=True, default=str)[:NAME_LIMIT]
