"""`bluejay_ws.hearing.carriers`: what a telephone carrier's messages say of audio."""

from __future__ import annotations

import base64
import json
import math
import struct
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bluejay_ws.hearing.carriers import PIECES_MOST, Carrier, recognise
from bluejay_ws.testing.audio import hold_noise, mulaw, silence, voice


class Heard:
    """Keep what a carrier tells."""

    def __init__(self) -> None:
        self.user: list[tuple[float, float, int]] = []  # from, length, level
        self.agent: list[tuple[float, float, int]] = []
        self.notes: list[tuple[object, ...]] = []
        self.invalid = 0

    def user_heard(self, level: int, ms: float, at_ms: float) -> None:
        self.user.append((at_ms, ms, level))

    def agent_heard(self, level: int, ms: float, at_ms: float) -> None:
        self.agent.append((at_ms, ms, level))

    def clear(self, at_ms: float) -> None:
        self.notes.append(("clear", at_ms))

    def mark(self, name: str, at_ms: float) -> None:
        self.notes.append(("mark", name, at_ms))

    def mark_echoed(self, name: str, at_ms: float) -> None:
        self.notes.append(("echo", name, at_ms))

    def invalid_audio(self) -> None:
        self.invalid += 1


def alaw(pcm: bytes) -> bytes:
    """Code 16 bit samples as A-law (ITU-T G.711)."""
    coded = bytearray()
    for sample in struct.unpack(f"<{len(pcm) // 2}h", pcm):
        magnitude = min(abs(sample) >> 3, 4_095)
        exponent = max(0, magnitude.bit_length() - 5)
        mantissa = magnitude >> max(1, exponent) & 15
        coded.append(((sample >= 0) << 7 | exponent << 4 | mantissa) ^ 0x55)
    return bytes(coded)


def at_rate(pcm: bytes, rate: int) -> bytes:
    """Take every other sample for 8,000 Hz."""
    samples = struct.unpack(f"<{len(pcm) // 2}h", pcm)[:: 16_000 // rate]
    return struct.pack(f"<{len(samples)}h", *samples)


def swapped(pcm: bytes) -> bytes:
    """Change the byte order."""
    return struct.pack(f">{len(pcm) // 2}h", *struct.unpack(f"<{len(pcm) // 2}h", pcm))


def media(audio: bytes, **more: Any) -> dict[str, Any]:
    """Return the message that most carriers, and most agents, put audio in."""
    return {"event": "media", "media": {"payload": base64.b64encode(audio).decode(), **more}}


def twilio(**form: Any) -> dict[str, Any]:
    """Return Twilio's start message."""
    form = form or {"encoding": "audio/x-mulaw", "sampleRate": 8000, "channels": 1}
    return {"event": "start", "streamSid": "MZ1", "start": {"streamSid": "MZ1", "callSid": "CA1", "mediaFormat": form}}


def telnyx(encoding: str, rate: int = 8_000) -> dict[str, Any]:
    """Return Telnyx's start message."""
    form = {"encoding": encoding, "sample_rate": rate, "channels": 1}
    return {"event": "start", "stream_id": "32DE", "start": {"call_control_id": "v2:1", "media_format": form}}


def exotel(rate: str = "8000") -> dict[str, Any]:
    """Return Exotel's start message."""
    form = {"encoding": "base64", "sample_rate": rate, "bit_rate": "128kbps"}
    return {"event": "start", "stream_sid": "S1", "start": {"stream_sid": "S1", "call_sid": "C1", "media_format": form}}


def plivo(encoding: str = "audio/x-mulaw", rate: int = 8_000) -> dict[str, Any]:
    """Return Plivo's start message."""
    form = {"encoding": encoding, "sampleRate": rate}
    return {"event": "start", "start": {"callId": "c", "streamId": "s", "mediaFormat": form}, "extra_headers": "{}"}


def vonage(content: object = "audio/l16;rate=8000") -> dict[str, Any]:
    """Return Vonage's first message."""
    return {"event": "websocket:connected", "content-type": content, "caller": "447700900000"}


def genesys(*channels: str) -> dict[str, Any]:
    """Return the message that opens an AudioHook stream."""
    form = {"type": "audio", "format": "PCMU", "channels": list(channels), "rate": 8_000}
    parameters = {"organizationId": "o", "conversationId": "c", "media": [form]}
    return {"version": "2", "type": "open", "seq": 1, "serverseq": 0, "id": "e", "parameters": parameters}


STARTS = [twilio(), telnyx("L16"), exotel(), plivo(), vonage(), genesys("external", "internal")]


def opened(start: dict[str, Any]) -> tuple[Carrier, Heard]:
    """Return the carrier of a first message, and what it tells."""
    heard = Heard()
    carrier = recognise(start, heard)
    assert carrier is not None
    return carrier, heard


CODED = [
    ("twilio", twilio(), lambda pcm: mulaw(at_rate(pcm, 8_000))),
    ("twilio", {"event": "start", "streamSid": "M", "start": {}}, lambda pcm: mulaw(at_rate(pcm, 8_000))),
    ("telnyx", telnyx("PCMU"), lambda pcm: mulaw(at_rate(pcm, 8_000))),
    ("telnyx", telnyx("PCMA"), lambda pcm: alaw(at_rate(pcm, 8_000))),
    ("telnyx", telnyx("L16", 16_000), lambda pcm: pcm),
    ("telnyx", telnyx("L16", 16_000), swapped),
    ("exotel", exotel(), lambda pcm: at_rate(pcm, 8_000)),
    ("exotel", exotel("16000"), lambda pcm: pcm),
    ("plivo", plivo(), lambda pcm: mulaw(at_rate(pcm, 8_000))),
    ("plivo", plivo("audio/x-l16", 16_000), lambda pcm: pcm),
    ("plivo", {"event": "start", "start": {"streamId": "s"}}, lambda pcm: at_rate(pcm, 8_000)),
    ("vonage", vonage(), lambda pcm: at_rate(pcm, 8_000)),
    ("vonage", vonage("audio/l16;rate=16000"), lambda pcm: pcm),
    ("vonage", vonage("audio/l16"), lambda pcm: pcm),
    ("genesys", genesys("external"), lambda pcm: mulaw(at_rate(pcm, 8_000))),
]


@pytest.mark.parametrize(("name", "start", "code"), CODED, ids=[f"{case[0]}-{n}" for n, case in enumerate(CODED)])
def test_the_audio_of_each_carrier_is_as_loud_and_as_long_as_it_is(name: str, start: Any, code: Any) -> None:
    """Silence, hold noise and a voice are told apart in every coding, rate and byte order, in both directions."""
    carrier, heard = opened(start)
    assert carrier.name == name
    parts = ((silence(20), 0, 10), (hold_noise(20, rms=100), 50, 180), (voice(20, rms=3_000), 1_500, 7_000))
    for at, (pcm, _, _) in enumerate(parts):
        audio = code(pcm)
        if name in {"vonage", "genesys"}:
            carrier.user_audio(audio, at * 20.0)
            carrier.agent_audio(bytearray(audio), at * 20.0)
        else:
            carrier.received(media(audio, track="inbound"), at * 20.0)
            carrier.sent(media(audio), at * 20.0)
    for told in (heard.user, heard.agent):
        assert [(at, ms) for at, ms, _ in told] == [(0.0, 20.0), (20.0, 20.0), (40.0, 20.0)]
        for (_, _, loudness), (_, least, most) in zip(told, parts, strict=True):
            assert least <= loudness <= most
    assert heard.invalid == 0


def test_both_codings_of_telephones_are_read_as_the_standard_has_them() -> None:
    """The loudness of a long voice is the same before and after mu-law and A-law."""
    pcm = voice(1_000, rms=4_000)
    samples = struct.unpack("<16000h", pcm)
    rms = math.sqrt(sum(sample * sample for sample in samples) / len(samples))
    for form, code in (("PCMU", mulaw), ("PCMA", alaw)):
        carrier, heard = opened(telnyx(form, 16_000))
        carrier.received(media(code(pcm)), 0.0)
        squares = [loudness**2 for _, _, loudness in heard.user]
        assert math.sqrt(sum(squares) / len(squares)) == pytest.approx(rms, rel=0.15)


def test_long_audio_is_heard_in_pieces() -> None:
    """An answer sent in one message has its pauses; the caller's packet too, each piece at its own time."""
    carrier, heard = opened(exotel())
    spoken = at_rate(voice(100) + silence(100), 8_000)
    carrier.sent(media(spoken), 500.0)
    assert {at for at, _, _ in heard.agent} == {500.0}
    assert [loudness > 500 for _, _, loudness in heard.agent] == [True] * 5 + [False] * 5
    carrier.received(media(spoken), 500.0)
    assert [at for at, _, _ in heard.user] == [500.0 + 20 * piece for piece in range(10)]


def test_one_message_costs_a_bounded_number_of_pieces() -> None:
    """Half a minute of audio is heard in at most 256 pieces, and whole."""
    carrier, heard = opened(twilio())
    carrier.sent(media(bytes(8 * 30_000)), 0.0)
    assert len(heard.agent) <= PIECES_MOST + 1
    assert sum(ms for _, ms, _ in heard.agent) == pytest.approx(30_000)


def test_what_the_carrier_plays_itself_is_not_the_caller() -> None:
    """Only the inbound track is."""
    carrier, heard = opened(twilio())
    carrier.received(media(b"\x00" * 160, track="outbound"), 0.0)
    carrier.received(media(b"\x00" * 160, track="inbound"), 20.0)
    assert [at for at, _, _ in heard.user] == [20.0]


def test_plivo_says_with_each_message_how_it_is_coded() -> None:
    """`playAudio` may have another coding and rate than what comes in."""
    carrier, heard = opened(plivo("audio/x-mulaw"))
    payload = base64.b64encode(voice(40)).decode()
    body = {"contentType": "audio/x-l16", "sampleRate": 16_000, "payload": payload}
    carrier.sent({"event": "playAudio", "media": body}, 0.0)
    carrier.sent({"event": "playAudio", "media": {"payload": base64.b64encode(mulaw(voice(20))).decode()}}, 40.0)
    assert [(at, ms) for at, ms, _ in heard.agent] == [(0.0, 20.0), (0.0, 20.0), (40.0, 20.0), (40.0, 20.0)]
    assert all(loudness > 500 for _, _, loudness in heard.agent)


CLEARS = [
    (twilio(), {"event": "clear", "streamSid": "MZ1"}),
    (telnyx("PCMU"), {"event": "clear"}),
    (exotel(), {"event": "clear", "stream_sid": "S1"}),
    (plivo(), {"event": "clearAudio", "streamId": "s"}),
    (vonage(), {"action": "clear"}),
    (genesys("external"), {"type": "event", "parameters": {"entities": [1, {"type": "barge_in", "data": {}}]}}),
]


@pytest.mark.parametrize(("start", "message"), CLEARS)
def test_clear_empties_the_queue(start: Any, message: Any) -> None:
    """Each carrier has its word for it, which only the agent's side can say."""
    carrier, heard = opened(start)
    carrier.received(message, 10.0)
    assert heard.notes == []
    carrier.sent(message, 20.0)
    assert heard.notes == [("clear", 20.0)]


MARKS = [
    (twilio(), {"event": "mark", "streamSid": "MZ1", "mark": {"name": "m"}}, None, "m"),
    (telnyx("PCMU"), {"event": "mark", "mark": {"name": "m"}}, None, "m"),
    (exotel(), {"event": "mark", "stream_sid": "S1", "mark": {"name": "m"}}, None, "m"),
    (plivo(), {"event": "checkpoint", "name": "m"}, {"event": "playedStream", "streamId": "s", "name": "m"}, "m"),
    (
        vonage(),
        {"action": "notify", "payload": {"a": 1, "b": 2}},
        {"event": "websocket:notify", "payload": {"b": 2, "a": 1}},
        json.dumps({"a": 1, "b": 2}),
    ),
]


@pytest.mark.parametrize(("start", "sent", "echo", "name"), MARKS)
def test_marks_and_their_echoes_are_told(start: Any, sent: Any, echo: Any, name: str) -> None:
    """A mark comes back under the same name."""
    carrier, heard = opened(start)
    carrier.sent(sent, 10.0)
    carrier.received(echo or sent, 500.0)
    assert heard.notes == [("mark", name, 10.0), ("echo", name, 500.0)]


def test_genesys_puts_two_channels_into_one_stream() -> None:
    """The caller's is the first; the agent chooses in its answer what comes, and sends one channel."""
    carrier, heard = opened(genesys("external", "internal"))
    loud, quiet = mulaw(at_rate(voice(20), 8_000)), mulaw(silence(10))
    both = bytes(byte for pair in zip(quiet, loud, strict=True) for byte in pair)
    carrier.user_audio(both, 0.0)
    assert [(ms, loudness > 100) for _, ms, loudness in heard.user] == [(20.0, False)]
    carrier.agent_audio(loud, 0.0)
    assert [(ms, loudness > 100) for _, ms, loudness in heard.agent] == [(20.0, True)]
    chosen = {"type": "audio", "format": "PCMU", "channels": ["external"], "rate": 8_000}
    carrier.sent({"type": "opened", "parameters": {"media": [chosen]}}, 1.0)
    carrier.user_audio(loud, 20.0)
    assert heard.user[-1][1:2] == (20.0,)
    assert heard.user[-1][2] > 100
    carrier.sent({"type": "opened", "parameters": {}}, 1.0)
    carrier.sent({"type": "event", "parameters": {"entities": "barge_in"}}, 1.0)
    carrier.sent({"type": "pong"}, 1.0)
    assert heard.notes == []
    carrier.received({"type": "ping"}, 1.0)


@pytest.mark.parametrize(
    "message",
    [
        {},
        {"event": "connected", "protocol": "Call", "version": "1.0.0"},
        {"event": "start"},
        {"event": "start", "start": "now"},
        {"event": "start", "start": {"customParameters": {"simulation_result_id": "720488"}}},
        {"event": "websocket:connected"},
        {"event": "websocket:connected", "content-type": 16_000},
        {"type": "open"},
        {"type": "open", "parameters": {"media": []}},
        {"type": "open", "parameters": {"media": ["audio"]}},
        {"type": "speech.started", "data": {"utterance_id": "u"}},
        {"type": "setup", "customParameters": {}},
    ],
)
def test_an_unknown_beginning_is_nobody_s(message: Any) -> None:
    """Nothing is inferred from what is not understood."""
    assert recognise(message, Heard()) is None


@pytest.mark.parametrize("encoding", ["OPUS", "G722", "AMR-WB", "", 7, "x" * 10_000])
def test_a_coding_that_is_not_known_is_not_heard(encoding: Any) -> None:
    """The carrier is known, and its audio says nothing."""
    carrier, heard = opened({"event": "start", "stream_id": "1", "start": {"media_format": {"encoding": encoding}}})
    carrier.received(media(b"1234"), 0.0)
    carrier.sent(media(b"1234"), 0.0)
    if encoding:  # none at all means mu-law
        assert heard.user == heard.agent == []
    assert heard.invalid == 0


def test_audiohook_audio_that_is_not_mu_law_keeps_its_channels_together() -> None:
    """It offers nothing else today: of another coding nothing is heard."""
    start = genesys("external", "internal")
    start["parameters"]["media"][0]["format"] = "OPUS"
    carrier, heard = opened(start)
    carrier.user_audio(bytes(160), 0.0)
    assert heard.user == []


@pytest.mark.parametrize("rate", [None, "fast", -1, 0, 7, [8_000], 10**9, "9" * 5_000])
def test_a_rate_that_cannot_be_is_the_carrier_s_usual_one(rate: Any) -> None:
    """Telephones have 8,000 Hz."""
    carrier, heard = opened(telnyx("PCMU", rate))
    carrier.received(media(bytes(160)), 0.0)
    assert [ms for _, ms, _ in heard.user] == [20.0]


@pytest.mark.parametrize(
    "message",
    [
        {"event": "media"},
        {"event": "media", "media": "loud"},
        {"event": "media", "media": {}},
        {"event": "media", "media": {"payload": None}},
        {"event": "media", "media": {"payload": "é"}},
        {"event": "media", "media": {"payload": "abcde"}},
        {"event": "media", "media": {"payload": [1]}},
    ],
)
def test_malformed_audio_is_counted(message: Any) -> None:
    """It is not heard, and nothing is raised."""
    carrier, heard = opened(twilio())
    carrier.received(message, 0.0)
    carrier.sent(message, 0.0)
    assert heard.invalid == 2
    assert heard.user == heard.agent == []


def test_empty_audio_and_binary_frames_where_there_are_none() -> None:
    """A media message without audio says nothing; a binary frame on a carrier of text frames is malformed."""
    carrier, heard = opened(twilio())
    carrier.received(media(b""), 0.0)
    assert heard.invalid == 0
    carrier.user_audio(b"12", 0.0)
    carrier.agent_audio(b"12", 0.0)
    assert heard.invalid == 2
    carrier, heard = opened(vonage())
    carrier.user_audio(b"", 0.0)
    assert heard.invalid == 1
    carrier.agent_audio(memoryview(bytes(64)).cast("h"), 0.0)
    assert [ms for _, ms, _ in heard.agent] == [4.0]


def test_words_that_are_no_text_are_no_words() -> None:
    """A list in the place of an event, a track or an action is ignored; it cannot even be looked up."""
    for start in STARTS:
        carrier, heard = opened(start)
        odd: list[dict[str, Any]] = [{"event": []}, {"type": {}}, {"action": []}, media(b"1", track=[])]
        for message in odd:
            carrier.received(message, 0.0)
            carrier.sent({key: value for key, value in message.items() if key != "media"}, 0.0)
        assert heard.user == []
        assert heard.notes == []


@pytest.mark.parametrize("name", [None, "x" * 257, 10**300, ["m"], {}])
def test_a_mark_without_a_usable_name_is_none(name: Any) -> None:
    """Nothing is kept of it."""
    carrier, heard = opened(twilio())
    carrier.sent({"event": "mark", "mark": {"name": name}}, 0.0)
    carrier.received({"event": "mark", "mark": {"name": name}}, 0.0)
    carrier.sent({"event": "mark"}, 0.0)
    assert heard.notes == []


KEYS = [
    "event", "type", "media", "payload", "mark", "name", "start", "streamSid", "stream_id", "streamId", "stream_sid",
    "mediaFormat", "media_format", "encoding", "sampleRate", "sample_rate", "parameters", "entities", "channels",
    "content-type", "contentType", "rate", "format", "action", "track",
]  # fmt: skip
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | st.just("fn5+"),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(KEYS), inner, max_size=5),
    max_leaves=12,
)
EVENTS = st.sampled_from(
    ["start", "media", "mark", "clear", "playAudio", "checkpoint", "playedStream", "open", "opened"]
)
MESSAGES = st.dictionaries(st.sampled_from(KEYS), VALUES, max_size=6).flatmap(
    lambda message: EVENTS.map(lambda event: {"event": event, "type": event, **message})
)


@given(st.sampled_from(STARTS), st.lists(MESSAGES, max_size=6), st.binary(max_size=50))
def test_no_message_is_too_odd(start: Any, messages: list[Any], frame: bytes) -> None:
    """Whatever a peer says, nothing is raised and levels stay on their scale."""
    carrier, heard = opened(start)
    for message in messages:
        recognise(message, heard)
        carrier.received(message, 1.0)
        carrier.sent(message, 1.0)
        carrier.user_audio(frame, 1.0)
        carrier.agent_audio(frame, 1.0)
    assert all(ms > 0 and 0 <= loudness <= 32_768 for _, ms, loudness in heard.user + heard.agent)
