"""Frames that anybody may send: the observer raises nothing, and tells only of what may have been."""

from __future__ import annotations

import json
import math
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from bluejay_ws.hearing.chirp import LATEST_MS
from bluejay_ws.hearing.utterances import Utterance, place
from tests.hearing.stage import Stage
from tests.wire.journals import JSON

TYPES = st.sampled_from(["speech.started", "speech.completed", "mark", "clear", "session.error", "session.end", "x"])
KEYS = st.sampled_from(["utterance_id", "name", "code", "message", "type", "data", "text"])
MESSAGES = st.builds(
    lambda kind, data, more: json.dumps({"type": kind, "data": data, **more}),
    TYPES | JSON,
    st.dictionaries(KEYS, JSON | st.sampled_from(["a", "b"]), max_size=3) | JSON,
    st.dictionaries(KEYS, JSON, max_size=2),
)
TEXTS = st.one_of(
    MESSAGES,
    MESSAGES.map(lambda text: text.encode("utf-8", "surrogatepass")),
    MESSAGES.map(lambda text: bytearray(text.encode("utf-8", "surrogatepass"))),
    MESSAGES.map(lambda text: memoryview(text.encode("utf-8", "surrogatepass"))),
    st.binary(max_size=30),
    st.text(max_size=30),
    st.sampled_from(
        ["", "[" * 60_000, '{"type":' * 9_000, "9" * 60_000, "x" * 70_000, '{"type":"\\ud800"}', b"\xff\xfe"]
    ),
    st.sampled_from(['{"type":"mark","data":{"name":"%s"}}' % ("m" * 60_000), "\ud800", '{"type":1e999}', "NaN"]),
)
SIZES = st.sampled_from([0, 1, 2, 640, 641, 32_000, 2**20]) | st.integers(0, 10_000)
AUDIO = st.one_of(SIZES.map(bytes), SIZES.map(lambda size: b"\x00\x20" * (size // 2)), st.binary(max_size=1_000))
STEPS = st.one_of(
    st.tuples(st.sampled_from(["user_text", "agent_text"]), TEXTS),
    st.tuples(st.sampled_from(["user_audio", "agent_audio"]), AUDIO),
    st.tuples(st.sampled_from(["agent_utterance", "user_utterance"]), st.text(max_size=50)),
    st.tuples(st.just("interruption"), st.sampled_from(["user", "agent", "x"])),
    st.tuples(st.sampled_from(["clear", "invalid_audio"]), st.none()),
    st.tuples(st.sampled_from(["close", "summary"]), st.none()),
)
TIMES = st.one_of(st.floats(0, 1e5), st.floats(), st.sampled_from([0.0, -1.0, 1e300, math.inf, math.nan]))
MOST_EVENTS = 1_000


def moment(at: float) -> int:
    """Return a time as the recorder gives it."""
    return int(at) if 0.0 < at < LATEST_MS else 0


@given(st.lists(st.tuples(TIMES, STEPS), max_size=40), TIMES)
def test_any_frames_at_any_times_are_survived(plan: list[tuple[float, tuple[str, Any]]], end: float) -> None:
    """Any messages, sizes and clocks, also after the end: events and spans lie in order, and it is all plain JSON."""
    stage = Stage()
    events, observer = stage.events, stage.observer
    stretches = []
    for at, (name, value) in [*plan, (end, ("close", None))]:
        if name.endswith("_utterance"):
            speaker: Any = "AGENT" if name == "agent_utterance" else "USER"
            one = Utterance(None, 0, speaker, value, at_ms=moment(at))
            stretches.append(observer.utterance(one, at))
        elif name in {"summary", "invalid_audio"}:
            json.dumps(getattr(observer, name)(), allow_nan=False)
        elif name == "interruption":
            observer.interruption(at, value, "x")
        else:
            getattr(observer, name)(at) if value is None else getattr(observer, name)(value, at)
    for stretch in stretches:
        for placed in place(stretch):
            assert 0 <= placed.start_ms <= placed.end_ms
            assert 0.0 <= placed.share <= 1.0
    assert len(events) <= MOST_EVENTS
    for facts in events:
        title = facts.pop("title")
        assert title
        start, stop = facts["start_offset_ms"], facts["end_offset_ms"]
        assert 0 <= start <= (start if stop is None else stop)
        assert len(json.dumps(facts["metadata"], allow_nan=False).encode()) < 10_000
    summary = observer.summary()
    counts = [value for value in summary.values() if isinstance(value, int | float)]
    assert all(value >= 0 and math.isfinite(value) for value in counts)
    json.dumps(summary, allow_nan=False, ensure_ascii=False).encode()


@given(st.lists(TEXTS, max_size=20))
def test_no_text_of_the_caller_is_kept_but_that_of_errors(texts: list[Any]) -> None:
    """What a message says comes into the report only where it is an error of the platform or of the agent."""
    stage = Stage()
    events, observer = stage.events, stage.observer
    for number, text in enumerate(texts):
        observer.user_text(text, float(number))
        observer.agent_text(text, float(number))
    observer.close(1e3)
    told = [facts for facts in events if not facts["title"].startswith("Session error")]
    assert all(not isinstance(value, str) for facts in told for value in facts["metadata"].values())
    assert all(not isinstance(value, str) for value in observer.summary().values())
