"""What one event of a provider's costs: a tap on made-up sessions, against parsing the same events from JSON."""

from __future__ import annotations

import base64
import json
import sys
import tempfile
from statistics import median
from time import thread_time_ns
from typing import TYPE_CHECKING, Any

from benchmarks import recordings
from benchmarks.measure import Effort, Result, spread
from bluejay_ws import Bluejay
from bluejay_ws.integrations.deepgram import DeepgramTap
from bluejay_ws.integrations.elevenlabs import ElevenLabsTap
from bluejay_ws.integrations.gemini_live import GeminiLiveTap
from bluejay_ws.integrations.openai_realtime import OpenAIRealtimeTap

if TYPE_CHECKING:
    from collections.abc import Iterator

    from bluejay_ws.integrations.tap import Tap

__all__ = ["run"]

AUDIO = base64.b64encode(bytes(9_600)).decode()
CALLER = base64.b64encode(bytes(1_920)).decode()
WORDS = [f" word{number}" for number in range(20)]
TURNS = 20
Step = tuple[bool, Any]  # whether it was sent, and the message


def _openai() -> Iterator[Step]:
    item, reply = "item_1", {"item_id": "item_2", "response_id": "resp_1"}
    for _ in range(50):
        yield True, {"type": "input_audio_buffer.append", "audio": CALLER}
    yield False, {"type": "input_audio_buffer.speech_started", "item_id": item, "audio_start_ms": 300}
    yield False, {"type": "input_audio_buffer.speech_stopped", "item_id": item, "audio_end_ms": 900}
    completed = "conversation.item.input_audio_transcription.completed"
    yield False, {"type": completed, "item_id": item, "transcript": "Where is my order?"}
    for word in WORDS:
        yield False, {"type": "response.output_audio_transcript.delta", "delta": word, **reply}
        yield False, {"type": "response.output_audio.delta", "delta": AUDIO, **reply}
    yield False, {"type": "response.output_audio_transcript.done", "transcript": "".join(WORDS), **reply}
    yield False, {"type": "response.done", "response": {"id": "resp_1", "status": "completed"}}


def _gemini() -> Iterator[Step]:
    for _ in range(50):
        yield True, {"realtimeInput": {"audio": {"data": CALLER, "mimeType": "audio/pcm;rate=16000"}}}
    yield False, {"serverContent": {"inputTranscription": {"text": "Where is my order?"}}}
    sound = {"parts": [{"inlineData": {"mimeType": "audio/pcm;rate=24000", "data": AUDIO}}]}
    for word in WORDS:
        yield False, {"serverContent": {"outputTranscription": {"text": word}}}
        yield False, {"serverContent": {"modelTurn": sound}}
    yield False, {"serverContent": {"turnComplete": True}}


def _elevenlabs() -> Iterator[Step]:
    for _ in range(50):
        yield True, {"user_audio_chunk": CALLER}
    heard = {"user_transcript": "Where is my order?", "event_id": 1}
    yield False, {"type": "user_transcript", "user_transcription_event": heard}
    for _ in WORDS:
        yield False, {"type": "audio", "audio_event": {"audio_base_64": AUDIO, "event_id": 1}}
    said = {"agent_response": "".join(WORDS), "event_id": 1, "response_id": "r"}
    yield False, {"type": "agent_response", "agent_response_event": said}


def _deepgram() -> Iterator[Step]:
    for _ in range(50):
        yield False, {"type": "AgentThinking", "content": "x"}
    yield False, {"type": "UserStartedSpeaking"}
    yield False, {"type": "ConversationText", "role": "user", "content": "Where is my order?"}
    yield False, {"type": "ConversationText", "role": "assistant", "content": "".join(WORDS)}
    yield False, {"type": "AgentAudioDone"}


SESSIONS: dict[str, tuple[type[Tap], list[Step]]] = {
    "OpenAI": (OpenAIRealtimeTap, list(_openai()) * TURNS),
    "Gemini": (GeminiLiveTap, list(_gemini()) * TURNS),
    "ElevenLabs": (ElevenLabsTap, list(_elevenlabs()) * TURNS),
    "Deepgram": (DeepgramTap, list(_deepgram()) * TURNS),
}


def _tapped(client: Bluejay, kind: type[Tap], steps: list[Step]) -> float:
    """Return the microseconds of CPU that one event takes, what it makes the recorder do included."""
    with client.call({"X-Simulation-Result-Id": "1"}) as recorder:
        tap = kind(recorder)
        begun = thread_time_ns()
        for sent, message in steps:
            (tap.sent if sent else tap.event)(message)
        taken = thread_time_ns() - begun
        recorder.discard()
    return taken / len(steps) / 1e3


def _best(client: Bluejay, kind: type[Tap], steps: list[Step]) -> float:
    """Return the best of ten in a row: what else runs on the machine makes the CPU slower, and nothing quicker."""
    return min(_tapped(client, kind, steps) for _ in range(10))


def _parsed(texts: list[Step]) -> float:
    best = float("inf")
    for _ in range(10):
        begun = thread_time_ns()
        for _, text in texts:
            json.loads(text)
        best = min(best, (thread_time_ns() - begun) / len(texts) / 1e3)
    return best


def run(effort: Effort) -> list[Result]:
    """Measure each provider's events, in turn with parsing them."""
    results = []
    with tempfile.TemporaryDirectory() as spool:
        client = Bluejay("benchmark", base_url="http://127.0.0.1:9", spool=spool)
        for name, (kind, steps) in SESSIONS.items():
            texts = [(sent, json.dumps(message)) for sent, message in steps]
            runs = [(_best(client, kind, steps), _best(client, kind, texts), _parsed(texts)) for _ in range(effort.few)]
            for form, tapped, limit in (
                ("", [run[0] for run in runs], 5.0),
                (" as text", [run[1] for run in runs], None),
            ):
                ratio = median(one / run[2] for one, run in zip(tapped, runs, strict=True))
                compared = f"{ratio:.2f} times json.loads of the same events ({median(run[2] for run in runs):.1f} us)"
                what = f"CPU of one event{form}, {name}"
                results.append(Result(what, median(tapped), "us", spread(tapped), compared, limit=limit))
        results += _over_the_recordings(client, effort)
    return results


def _over_the_recordings(client: Bluejay, effort: Effort) -> list[Result]:
    """Measure what was recorded of real providers, if it is here: each session in calls of its own."""
    sessions: dict[str, tuple[type[Tap], list[Step]]] = {}
    for name in recordings.names():
        steps = [(direction == "sent", event) for _, direction, event in recordings.recorded(name)]
        sessions[name] = recordings.tap_of(name), steps
    if not sessions:
        return []
    runs = [_all_of(client, sessions) for _ in range(effort.few)]
    for name in sessions:
        print(f"  {median(run[name] for run in runs):6.2f} us an event of {name}", file=sys.stderr)
    events = sum(len(steps) for _, steps in sessions.values())
    whole = [sum(run[name] * len(steps) for name, (_, steps) in sessions.items()) / events for run in runs]
    what = f"CPU of one event, {len(sessions)} recorded sessions"
    return [Result(what, median(whole), "us", spread(whole), f"{events} events", limit=5.0)]


def _all_of(client: Bluejay, sessions: dict[str, tuple[type[Tap], list[Step]]]) -> dict[str, float]:
    return {name: _best(client, *session) for name, session in sessions.items()}
