"""What all taps have in common: they take anything, raise nothing, and say no more than is known."""

from __future__ import annotations

import gc
import json
import weakref
from dataclasses import dataclass
from enum import Enum
from functools import partial
from types import MappingProxyType, SimpleNamespace
from typing import Any, NamedTuple

import pytest

from bluejay_ws.integrations.assemblyai import AssemblyAITap
from bluejay_ws.integrations.caller_audio import MOMENTS, InputClock, audio_bytes
from bluejay_ws.integrations.cartesia_line import CartesiaLineTap
from bluejay_ws.integrations.conversation_relay import ConversationRelayTap
from bluejay_ws.integrations.deepgram import DeepgramTap
from bluejay_ws.integrations.elevenlabs import ElevenLabsTap
from bluejay_ws.integrations.gemini_live import GeminiLiveTap
from bluejay_ws.integrations.hume import HumeTap
from bluejay_ws.integrations.messages import number, parsed, plain
from bluejay_ws.integrations.nova_sonic import NovaSonicTap
from bluejay_ws.integrations.openai_realtime import OpenAIRealtimeTap
from bluejay_ws.integrations.tap import KEPT, Tap, spoken_part
from bluejay_ws.integrations.ultravox import UltravoxTap
from tests.hearing.stage import Stage
from tests.integrations.streams import Stream, audio, pcm
from tests.support import Call

TAPS: list[type[Tap]] = [
    *(AssemblyAITap, CartesiaLineTap, ConversationRelayTap, DeepgramTap, ElevenLabsTap, GeminiLiveTap, HumeTap),
    *(NovaSonicTap, OpenAIRealtimeTap, UltravoxTap),
]
every_tap = pytest.mark.parametrize("kind", TAPS)
BROKEN: list[Any] = [{}, None, [], "x", 5, {"type": None}, {"event": None}, {"chunk": {}}]


def messages(kind: type[Tap], names: Any) -> list[dict[str, Any]]:
    """Return messages of each kind, with nothing or something else in them."""
    found: list[dict[str, Any]] = []
    for name in names:
        for facts in BROKEN:
            if kind is NovaSonicTap:
                found.append({"event": {name: facts}})
            elif kind is GeminiLiveTap:
                found.append({name: facts})
            else:
                inner = facts if isinstance(facts, dict) else {"value": facts}
                found += [{**inner, "type": name}, {"type": name, name: facts, f"{name}_event": facts, "item": facts}]
    return found


@every_tap
def test_what_is_malformed_is_counted_and_never_raises(kind: type[Tap]) -> None:
    """Whatever is missing in a message, or is something else than it should be; the call ends in a report."""
    stream = Stream(kind)
    for message in messages(kind, kind.received):
        stream.received(message)
    for message in messages(kind, kind.outgoing):
        stream.sent(message)
    for anything in (*BROKEN, b"", b"{", "{", b"\xff\x00", object(), 5):
        stream.received(anything).sent(anything)
    assert not stream.report.recorded_transcript
    counted = stream.call.counters.snapshot()
    assert counted["dropped.failed_tap"] > 0
    assert set(counted) <= {"dropped.failed_tap", f"tap.unknown.{kind.provider}", "dropped.empty_utterance"}


@every_tap
def test_after_the_call_nothing_is_read(kind: type[Tap]) -> None:
    """Neither messages nor the end of the connection."""
    stream = Stream(kind)
    stream.call.report()
    stream.received("{").sent("{")
    stream.tap.close()
    stream.tap.setting("{", sent=True)
    assert {name for name in stream.call.counters.snapshot() if "late" not in name} <= {"dropped.failed_tap"}


def test_an_error_at_the_end_is_counted() -> None:
    """The agent's own close continues."""
    stream = Stream(OpenAIRealtimeTap)
    stream.tap._usage = {"x": object()}
    stream.tap._speeches = None  # type: ignore[assignment]
    stream.tap.close()
    assert stream.call.counters["dropped.failed_tap"] == 1


def test_every_form_of_a_message_is_read() -> None:
    """Text, bytes, dictionaries, and the objects of pydantic, of AWS, of aiohttp, and dataclasses."""

    @dataclass
    class Event:
        type: str

    told = {"type": "x"}
    text = json.dumps(told)
    old = SimpleNamespace(dict=lambda: told)  # takes no options
    for form in (told, text, text.encode(), bytearray(text.encode()), Event("x"), old, SimpleNamespace(data=text)):
        assert plain(form) == told
    assert plain(SimpleNamespace(value=SimpleNamespace(bytes_=text.encode()))) == told
    assert plain('{"a": "é"}'.encode()) == {"a": "é"}
    assert plain('{"a": "\\ud800"}') == {"a": "\ud800"}  # half a character, as text that was cut has it
    assert plain(b'{"\xff\xfe"}x') == b'{"\xff\xfe"}x'  # audio that begins like JSON
    assert plain(memoryview(b"\x00\x01")) == b"\x00\x01"
    assert plain(object()) is None
    with pytest.raises(ValueError, match="Expecting"):
        plain("{")


@pytest.mark.parametrize(
    "form",
    [
        "mapping",
        "fragments",
        "fragments_of_bytes",
        "bom",
        "bom_bytes",
        "spaces",
        "protobuf",
        "slots",
        "tuple",
        "enum",
        "own",
    ],
)
def test_an_event_is_read_whatever_it_is_made_of(form: str) -> None:
    """A judge of an event is what it says: byte order marks, mappings, the objects of any SDK, also inside others."""
    told = {"type": "conversation.item.input_audio_transcription.completed", "item_id": "a", "transcript": "Hi."}
    text = json.dumps(told)
    forms: dict[str, Any] = {
        "mapping": MappingProxyType(told),
        "bom": "\ufeff" + text,
        "fragments": [text[:30], text[30:]],
        "fragments_of_bytes": (text[:30].encode(), bytearray(text[30:].encode())),
        "bom_bytes": b"\xef\xbb\xbf" + text.encode(),
        "spaces": b" \n" + text.encode(),
        "protobuf": Message(told),
        "slots": Slots(**told),
        "tuple": Named(**told),
        "enum": {**told, "type": Enum("Kind", {"A": told["type"]}).A},  # type: ignore[attr-defined]
        "own": Own(**told),
    }
    stream = Stream(OpenAIRealtimeTap).received(forms[form])
    assert stream.words() == [("USER", "Hi.")]


@dataclass(slots=True)
class Slots:
    """An event without a dictionary of its own."""

    type: str
    item_id: str
    transcript: str


class Named(NamedTuple):
    """An event that is a tuple."""

    type: str
    item_id: str
    transcript: str


class Message:
    """An event as protobuf has it: its fields are listed."""

    def __init__(self, told: dict[str, Any]) -> None:
        self._told = told

    def ListFields(self) -> list[tuple[Any, Any]]:  # noqa: N802 - protobuf's name
        """Return pairs of what describes a field, and its value."""
        return [(SimpleNamespace(name=name), value) for name, value in self._told.items()]


class Own:
    """An event of a user's own class; not all of it can be read."""

    type = "conversation.item.input_audio_transcription.completed"

    def __init__(self, **told: str) -> None:
        self.__dict__.update(told)

    @property
    def dict(self) -> Any:
        """Raise, as a lazy property may."""
        raise RuntimeError

    def to_dict(self) -> Any:
        """Raise, as a generated method may."""
        raise RuntimeError


def test_objects_inside_a_dictionary_are_read_too() -> None:
    """SDKs build their messages so; a class or a function is no event."""
    item = SimpleNamespace(type="function_call_output", call_id="c", output=[Named("x", "y", "z")])
    assert plain({"type": "x", "item": item})["item"]["output"] == [{"type": "x", "item_id": "y", "transcript": "z"}]
    assert (plain(Own), plain(len), plain(5), plain(Kind.A)) == (None, None, None, None)


class Kind(Enum):
    """What is no event by itself."""

    A = "a"


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 10**400, True, "5", None, [], 2.0**60])
def test_what_cannot_be_reckoned_with_is_no_number(value: Any) -> None:
    """A place in a call is finite, and no truth value."""
    assert number(value) is None
    assert (number(5), number(-1.5)) == (5.0, -1.5)


def test_tool_calls_without_an_id_are_as_many_as_there_were() -> None:
    """Each is one; an answer without an id, or with one of its own, is for the oldest of its name."""
    stream = Stream(DeepgramTap)
    calls = [{"name": name, "arguments": '{"n": 1}'} for name in ("book", "find", "book")]
    stream.received({"type": "FunctionCallRequest", "functions": calls})
    for name, content in (("book", "first"), ("book", "second"), ("find", "third")):
        stream.sent({"type": "FunctionCallResponse", "name": name, "content": content})
    assert stream.tools() == [
        ("book", {"n": 1}, "first"),
        ("find", {"n": 1}, "third"),
        ("book", {"n": 1}, "second"),
    ]


@pytest.mark.parametrize("calls", [[("f", 1), ("g", 1)], [("f", 1), ("f", 2)], [("f", 1), ("f", 1)], [("f", 1)]])
@pytest.mark.parametrize("repeats", [1, 2])
def test_an_id_that_is_counted_anew_in_each_reply_is_another_call(calls: list[tuple[str, int]], repeats: int) -> None:
    """Another name, other arguments, or another reply: another call. The same again is told twice."""
    stream = Stream(OpenAIRealtimeTap)
    for number_of, (name, value) in enumerate(calls):
        told = {"type": "response.function_call_arguments.done", "call_id": "call_0", "response_id": f"r{number_of}"}
        stream.received(*[{**told, "name": name, "arguments": f'{{"n": {value}}}'}] * repeats)
        item = {"type": "function_call_output", "call_id": "call_0", "output": f"answer {number_of}"}
        stream.sent(*[{"type": "conversation.item.create", "item": item}] * repeats)
        stream.received(*[{**told, "name": name, "arguments": f'{{"n": {value}}}'}] * repeats)
    assert stream.tools() == [(name, {"n": value}, f"answer {n}") for n, (name, value) in enumerate(calls)]


def test_two_open_calls_with_one_id_are_answered_in_order() -> None:
    """They have two names; a third answer is for none."""
    stream = Stream(DeepgramTap)
    calls = [{"id": "c", "name": name, "arguments": "{}"} for name in ("f", "g")]
    stream.received({"type": "FunctionCallRequest", "functions": calls})
    for content in ("first", "second", "third"):
        stream.sent({"type": "FunctionCallResponse", "id": "c", "content": content})
    assert stream.tools() == [("f", {}, "first"), ("g", {}, "second")]


def test_an_output_that_is_seen_before_its_call_is_that_calls() -> None:
    """Two directions of a connection may be read by two tasks."""
    stream = Stream(AssemblyAITap).sent({"type": "tool.result", "call_id": "c", "result": '{"ok": true}'})
    stream.received({"type": "tool.call", "call_id": "c", "name": "f", "arguments": {"a": 1}})
    assert stream.tools() == [("f", {"a": 1}, {"ok": True})]


def test_usage_of_a_connection_that_was_opened_again_is_added() -> None:
    """The call is one; another provider's usage is its own."""
    stream = Stream(OpenAIRealtimeTap)
    again, other = OpenAIRealtimeTap(stream.call.recorder), GeminiLiveTap(stream.call.recorder)
    for tap, tokens in ((stream.tap, 5), (again, 7)):
        tap.event({"type": "response.done", "response": {"id": "r", "usage": {"total_tokens": tokens}}})
    other.event({"usageMetadata": {"totalTokenCount": 9}})
    assert stream.metadata()["openai_usage"] == {"total_tokens": 12}
    assert stream.metadata()["gemini_usage"] == {"totalTokenCount": 9}


def test_a_tool_that_a_resumed_session_asks_for_again_is_one_call() -> None:
    """It waits for its answer since the connection before; another one of that id is another call."""
    stream = Stream(GeminiLiveTap)
    asked = [{"id": "1", "name": "f", "args": {"a": 1}}, {"id": "2", "name": "g", "args": {}}]
    stream.received({"toolCall": {"functionCalls": asked}})
    after = GeminiLiveTap(stream.call.recorder)
    after.event({"toolCall": {"functionCalls": [asked[0], {"id": "2", "name": "g", "args": {"b": 2}}]}})
    answers = [{"id": "1", "name": "f", "response": {"output": 1}}, {"id": "2", "name": "g", "response": {"output": 2}}]
    after.sent({"toolResponse": {"functionResponses": answers}})
    interrupted = {"status": "interrupted"}
    assert stream.tools() == [("f", {"a": 1}, 1), ("g", {}, interrupted), ("g", {"b": 2}, 2)]


def test_a_tool_of_a_connection_that_was_lost_is_answered_on_the_next() -> None:
    """Also where the client puts the conversation there once more; another provider's ids are its own."""
    called = {"type": "response.function_call_arguments.done", "call_id": "1", "name": "book", "arguments": "{}"}
    again = {"type": "function_call", "call_id": "1", "name": "book", "arguments": "{}", "status": "completed"}
    items = (again, {"type": "function_call_output", "call_id": "1", "output": "done"})
    asked = {"toolCall": {"functionCalls": [{"id": "1", "name": "book", "args": {}}]}}
    answer = {"id": "1", "name": "book", "response": {"output": "done"}}
    streams: list[tuple[type[Tap], Any, list[Any]]] = [
        (OpenAIRealtimeTap, called, [{"type": "conversation.item.create", "item": item} for item in items]),
        (GeminiLiveTap, asked, [{"toolResponse": {"functionResponses": [answer]}}]),
    ]
    for kind, question, answers in streams:
        stream = Stream(kind).received(question)
        stream.tap.close()
        for tap in (DeepgramTap(stream.call.recorder), kind(stream.call.recorder)):
            for message in answers:
                tap.sent(message)
        assert stream.tools() == [("book", {}, "done")]


def test_words_that_come_after_their_turn_are_of_that_turn() -> None:
    """Transcripts are in no step with the audio: they join what was heard without words, not what comes next."""

    def gemini(kind: str, text: str) -> dict[str, Any]:
        return {"serverContent": {f"{kind}Transcription": {"text": text}}}

    def deepgram(role: str, text: str) -> dict[str, Any]:
        return {"type": "ConversationText", "role": role, "content": text}

    part = {"inlineData": {"mimeType": "audio/pcm;rate=24000", "data": audio(1_000)}}
    sound, over = {"serverContent": {"modelTurn": {"parts": [part]}}}, {"serverContent": {"turnComplete": True}}
    done = {"type": "AgentAudioDone"}
    streams: list[tuple[type[Tap], list[Any], list[Any], list[Any]]] = [
        (
            GeminiLiveTap,
            [sound, over],
            [gemini("input", "Hello."), gemini("output", "Hi"), gemini("output", " there.")],
            [gemini("input", "Bye."), gemini("output", "Good"), sound, gemini("output", "bye."), over],
        ),
        (
            GeminiLiveTap,
            [gemini("input", "Hello."), sound, over],
            [gemini("output", "Hi"), gemini("output", " there.")],
            [sound, gemini("input", "Bye."), gemini("output", "Goodbye."), over],
        ),
        (
            DeepgramTap,
            [deepgram("user", "Hello."), pcm(1_000), done],
            [deepgram("assistant", "Hi there.")],
            [{"type": "UserStartedSpeaking"}, deepgram("user", "Bye."), pcm(1_000), deepgram("assistant", "Goodbye.")],
        ),
    ]
    for kind, first, late, second in streams:
        stream = Stream(kind).at(1_000).received(*first).at(2_300).received(*late).at(6_000).received(*second)
        assert sorted(stream.words()) == [
            ("AGENT", "Goodbye."),
            ("AGENT", "Hi there."),
            ("USER", "Bye."),
            ("USER", "Hello."),
        ]
        spoken = [(start, end) for start, end, speaker, _ in stream.said() if speaker == "AGENT"]
        assert [round(start, -2) for start, _ in spoken] == [1_000, 6_000]
        assert [round(end, -2) for _, end in spoken] == [2_000, 7_000]


def test_taps_go_with_their_call() -> None:
    """A worker takes calls for weeks: nothing of the module may hold what is over."""
    stream = Stream(GeminiLiveTap)
    stream.received({"usageMetadata": {"totalTokenCount": 9}}).metadata()
    recorder = weakref.ref(stream.call.recorder)
    del stream
    gc.collect()
    assert recorder() is None


def test_audio_has_a_length_in_every_form() -> None:
    """Base64 with and without padding, and bytes."""
    lengths = [audio_bytes(one) for one in ("AAAA", "AAA=", "AA==", "", b"ab", bytearray(2), None)]
    assert lengths == [3, 2, 1, 0, 2, 2, 0]
    texts = ('{"a": 1}', " [1]", "\ufeff{}", '"x"', "-1.5", "true", "null", "x", "two", "It is 5.", "{cut", "", 5)
    assert [parsed(one) for one in texts] == [
        *({"a": 1}, [1], {}, "x", -1.5, True, None),
        *("x", "two", "It is 5.", "{cut", "", 5),
    ]


@pytest.mark.parametrize(
    ("heard_ms", "expected"),
    [
        (0, ""),
        (1, ""),
        (400, "one"),
        (500, "one"),
        (700, "one two"),
        (1_100, "one two three"),
        (2_000, "one two three"),
    ],
)
def test_what_was_heard_of_a_text_ends_with_a_word(heard_ms: float, expected: str) -> None:
    """Between marks, words are spread evenly; a text may have more marks than audio."""
    marks = [(500.0, 3), (900.0, 7), (1_200.0, 13)]
    assert spoken_part("one two three", heard_ms, 1_000.0, marks) == expected


def observed_call() -> Call:
    """Return a call whose own audio frames are observed."""
    observer: Any = Stage().observer
    return Call(heard=observer)


def test_where_the_calls_frames_are_observed_they_place_what_was_said() -> None:
    """The tap gives the words only: the audio tells who was heard when."""
    call = observed_call()
    tap = GeminiLiveTap(call.recorder)
    frame = pcm(20, 16_000)
    for _ in range(50):
        tap.sent({"realtimeInput": {"audio": {"data": audio(20, 16_000), "mimeType": "audio/pcm;rate=16000"}}})
        call.recorder.received(frame)
        call.clock.sleep(20)
    call.clock.sleep(400)
    tap.event({"serverContent": {"inputTranscription": {"text": "Hello."}}})
    tap.event({"serverContent": {"outputTranscription": {"text": "Hi there."}}})
    for _ in range(50):
        call.recorder.sent(frame)
        call.clock.sleep(20)
    tap.event({"serverContent": {"turnComplete": True}})
    said = [(one.start_offset_ms, one.end_offset_ms, one.utterance) for one in call.report().recorded_transcript or []]
    assert said == [(0, 1_000, "Hello."), (1_400, 2_400, "Hi there.")]


def test_a_recorder_whose_ear_tells_nothing_is_as_good_as_none() -> None:
    """An ear of another kind does not say what it observed: what the tap itself hears counts."""
    call = Call(heard=SimpleNamespace(utterance=None))  # type: ignore[arg-type]
    tap = NovaSonicTap(call.recorder)
    tap.sent({"event": {"audioInput": {"content": audio(100, 16_000)}}})
    assert tap.input.spoke_since() == 0.0


def test_only_the_newest_are_kept_for_corrections() -> None:
    """However long the call."""
    stream = Stream(OpenAIRealtimeTap)
    completed = "conversation.item.input_audio_transcription.completed"
    for index in range(KEPT + 10):
        stream.received({"type": completed, "item_id": index, "transcript": f"{index}."})
    stream.received({"type": completed, "item_id": 5, "transcript": "Late."})
    assert len(stream.words()) == KEPT + 11
    assert len(stream.tap._speeches) == KEPT


def test_the_moments_of_the_audio_that_was_sent_are_some_thousand_however_long_the_call() -> None:
    """Each frame of audio comes a little later than the one before it: none stands for another."""
    clock = InputClock()
    for index in range(1, 30_000):
        clock.appended(20.0, index * 21.0)
        assert len(clock._ends) == len(clock._delays) <= MOMENTS
    newest = 29_999
    assert clock.offset((newest - 1_000) * 20.0) == (newest - 1_000) * 21.0
    assert clock.offset((newest - 5_000) * 20.0) == pytest.approx((newest - 5_000) * 21.0, abs=50.0)
    assert sorted(clock._ends) == clock._ends


def test_usage_of_any_shape_adds_up() -> None:
    """Numbers are added, whatever else is there is left out."""
    stream = Stream(OpenAIRealtimeTap)
    for usage in ({"a": 1, "b": {"c": 2}, "d": "x"}, {"a": {"b": 1}, "b": 5}, {"a": 1}, None, 7):
        stream.received({"type": "response.done", "response": {"id": "r", "status": "completed", "usage": usage}})
    assert stream.metadata()["openai_usage"]["a"] == 2


def test_an_interruption_stands_where_the_service_says_that_the_caller_began() -> None:
    """The reply that was interrupted says so later."""
    stream = Stream(AssemblyAITap).at(100).received({"type": "reply.audio", "reply_id": "r", "data": audio(4_000)})
    stream.at(1_000).received({"type": "input.speech.started"}).at(1_300)
    stream.received({"type": "reply.done", "reply_id": "r", "status": "interrupted"})
    stream.received({"type": "transcript.agent", "reply_id": "r", "text": "one", "interrupted": True})
    told = [one for one in stream.report.events or [] if one.title == "Caller interrupted the agent"]
    assert [one.start_offset_ms for one in told] == [1_000]


def test_an_interruption_stands_where_the_caller_began() -> None:
    """Not where the service noticed it, which may be some hundred milliseconds later."""
    reply = audio(4_000)
    content: Any = {"modelTurn": {"parts": [{"inlineData": {"mimeType": "audio/pcm;rate=24000", "data": reply}}]}}
    said = {"type": "ConversationText", "role": "assistant", "content": "one two"}
    gemini: tuple[list[Any], Any] = [{"serverContent": content}], {"serverContent": {"interrupted": True}}
    deepgram: tuple[list[Any], Any] = [said, pcm(4_000)], {"type": "UserStartedSpeaking"}
    for kind, (begins, stops) in ((GeminiLiveTap, gemini), (DeepgramTap, deepgram)):
        stream = Stream(partial(kind, input_bytes_per_ms=32.0)).at(100).received(*begins)
        for at in range(1_000, 1_600, 20):
            chunk = {"realtimeInput": {"audio": {"data": audio(20, 16_000)}}}
            stream.at(at).sent(chunk if kind is GeminiLiveTap else pcm(20, 16_000))
        stream.received(stops).at(3_000)
        (event,) = [one for one in stream.report.events or [] if one.title == "Caller interrupted the agent"]
        assert event.start_offset_ms == pytest.approx(1_000, abs=25)


def openai_ahead(text: str, ms: float, name: str, *, whole: bool) -> list[Any]:
    """Return a reply of OpenAI's whose text is all there before most of its audio."""
    ids = {"item_id": name, "response_id": name}
    done = {"type": "response.done", "response": {"id": name, "status": "completed"}}
    cut = {"id": name, "status": "cancelled", "status_details": {"reason": "turn_detected"}}
    return [
        {"type": "response.output_audio_transcript.delta", "delta": text, **ids},
        {"type": "response.output_audio.delta", "delta": audio(ms), **ids},
        {"type": "response.output_audio_transcript.done", "transcript": text, **ids},
        done if whole else {"type": "response.done", "response": cut},
    ]


def gemini_ahead(text: str, ms: float, _: str, *, whole: bool) -> list[Any]:
    """Return the same of Gemini's."""
    sound = {"parts": [{"inlineData": {"mimeType": "audio/pcm;rate=24000", "data": audio(ms)}}]}
    done = {"generationComplete": True} if whole else {"interrupted": True}
    contents: list[Any] = [{"outputTranscription": {"text": text}}, {"modelTurn": sound}, done, {"turnComplete": True}]
    return [{"serverContent": one} for one in contents]


@pytest.mark.parametrize(
    ("kind", "reply"), [(OpenAIRealtimeTap, openai_ahead), (GeminiLiveTap, gemini_ahead)], ids=["openai", "gemini"]
)
@pytest.mark.parametrize(
    ("whole_ms", "sent_ms", "expected"),
    [
        (0.0, 1_000, "One two three…"),  # nobody says so many words in a second: at 65 ms a letter
        (120.0, 1_000, "One two…"),  # the voice speaks slowly, as its reply before this told
        (0.0, 2_900, "One two three…"),  # the words are in step with their audio
    ],
)
def test_words_that_came_ahead_of_audio_that_never_came_were_not_heard(
    kind: Any, reply: Any, whole_ms: float, sent_ms: int, expected: str
) -> None:
    """A reply is called off while it is made: its text is longer than its audio so far."""
    before = "This was said before, and was heard to its very end."
    text = "One two three four five six seven eight nine ten eleven"
    stream = Stream(kind).at(100)
    if whole_ms:
        stream.received(*reply(before, whole_ms * len(before), "before", whole=True)).at(10_000)
    *begins, stops, ends = reply(text, sent_ms, "cut", whole=False)
    at = stream.call.recorder.offset_ms()
    stream.received(*begins).at(at + 750).received(stops, ends)
    assert stream.words()[-1] == ("AGENT", expected)


WORDS = "one two three four five six seven eight nine ten"
WORD_MS = 400


def gemini_reply() -> list[Any]:
    """Return a reply whose text comes before its audio, as Gemini 2.5 does it."""
    part = {"inlineData": {"mimeType": "audio/pcm;rate=24000", "data": audio(WORD_MS)}}
    pieces = [{"serverContent": {"modelTurn": {"parts": [part]}}}] * 10
    return [{"serverContent": {"outputTranscription": {"text": WORDS}}}, *pieces]


def nova_reply() -> list[Any]:
    """Return a reply of two sentences, each with its audio."""
    found = []
    for name, text in (("1", WORDS[:23]), ("2", WORDS[24:])):
        stage = {"generationStage": "SPECULATIVE"}
        block = {"type": "TEXT", "role": "ASSISTANT", "additionalModelFields": json.dumps(stage)}
        found.append({"event": {"contentStart": {"contentId": name, **block}}})
        found.append({"event": {"textOutput": {"contentId": name, "content": text, "role": "ASSISTANT"}}})
        found += [{"event": {"audioOutput": {"contentId": name, "content": audio(WORD_MS)}}}] * 5
    return found


def deepgram_reply() -> list[Any]:
    """Return the same, of another provider."""
    said = [{"type": "ConversationText", "role": "assistant", "content": text} for text in (WORDS[:23], WORDS[24:])]
    return [said[0], *[pcm(WORD_MS)] * 5, said[1], *[pcm(WORD_MS)] * 5, {"type": "AgentAudioDone"}]


def elevenlabs_reply() -> list[Any]:
    """Return a reply whose text comes after its audio."""
    sound = {"type": "audio", "audio_event": {"audio_base_64": audio(WORD_MS, 16_000), "event_id": 1}}
    whole = {"agent_response": WORDS, "event_id": 1, "response_id": "r"}
    return [*[sound] * 10, {"type": "agent_response", "agent_response_event": whole}]


CORRECTED = {"corrected_agent_response": "one two three four...", "event_id": 1, "response_id": "r"}
REPLIES: dict[type[Tap], tuple[list[Any], Any]] = {
    GeminiLiveTap: (gemini_reply(), {"serverContent": {"interrupted": True}}),
    NovaSonicTap: (nova_reply(), {"event": {"contentEnd": {"type": "TEXT", "stopReason": "INTERRUPTED"}}}),
    DeepgramTap: (deepgram_reply(), {"type": "UserStartedSpeaking"}),
    ElevenLabsTap: (
        elevenlabs_reply(),
        {"type": "agent_response_correction", "agent_response_correction_event": CORRECTED},
    ),
}


@pytest.mark.parametrize("kind", REPLIES)
@pytest.mark.parametrize(
    ("how", "sent_ms"),
    [("stops at once", 1_700), ("stops late", 2_900), ("sent it all", 4_000), ("is cut by the end", 1_700)],
)
def test_what_the_agent_sent_is_what_was_heard_whatever_the_provider_thinks(
    kind: type[Tap], how: str, sent_ms: int
) -> None:
    """A caller breaks in after 1,700 ms. Within one word, the text is that of the audio; a correction counts first."""
    call, (reply, interrupted) = observed_call(), REPLIES[kind]
    tap = kind(call.recorder)
    for message in reply:
        tap.event(message)
    loud = pcm(20, 16_000)
    if how == "sent it all":
        for _ in range(200):
            call.recorder.sent(loud)
    for at in range(0, 3_000 if how != "is cut by the end" else 1_700, 20):
        if at < sent_ms and how != "sent it all":
            call.recorder.sent(loud)
        if at == 1_700:
            tap.event(interrupted)
        call.clock.sleep(20)
    if how == "sent it all":
        call.clock.sleep(2_000)
    transcript = call.report().recorded_transcript or []
    said = " ".join(one.utterance for one in transcript)
    heard = len(said.rstrip("….").split())
    if kind is ElevenLabsTap and how != "is cut by the end":
        assert said == "one two three four..."
    else:
        assert heard == pytest.approx(sent_ms / WORD_MS, abs=1.01)
        assert WORDS.startswith(said.removesuffix("…"))
        assert transcript[-1].end_offset_ms == pytest.approx(sent_ms, abs=300)


def kept(tap: Tap) -> int:
    """Return the size of the largest thing that a tap holds."""
    names = [name for kind in type(tap).__mro__ for name in kind.__dict__.get("__slots__", ())]
    held = [getattr(tap, name) for name in (*names, *getattr(tap, "__dict__", ())) if name != "__weakref__"]
    return max(len(one) for one in held if isinstance(one, dict | list | set))


def endless(kind: type[Tap], turn: int) -> list[Any]:
    """Return a turn of a call that has very many."""
    if kind is OpenAIRealtimeTap:
        failed = "conversation.item.input_audio_transcription.failed"
        written = {"type": "response.output_text.done", "item_id": str(turn), "text": "x"}
        return [written, {"type": failed, "item_id": str(turn)}]
    if kind is NovaSonicTap:
        return [{"event": {"textOutput": {"role": "ASSISTANT", "content": "a"}}}]
    tool = {"tool_name": "f", "tool_call_id": str(turn), "tool_type": "webhook"}
    end = {"audio_base_64": audio(1, 16_000), "event_id": turn, "is_final": True}
    return [{"type": "audio", "audio_event": end}, {"type": "agent_tool_response", "agent_tool_response": tool}]


@pytest.mark.parametrize("kind", [OpenAIRealtimeTap, NovaSonicTap, ElevenLabsTap])
def test_what_a_tap_remembers_is_bounded(kind: type[Tap]) -> None:
    """However long a call: texts, failures, ends of audio, tools of a server, sentences that were planned."""
    stream = Stream(kind)
    for turn in range(1_500):
        stream.received(*endless(kind, turn))
    assert kept(stream.tap) <= 1_000
