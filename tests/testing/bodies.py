"""Bodies of reports: a full one, and what is left of it after some accidents."""

from __future__ import annotations

import copy
from typing import Any

from hypothesis import strategies as st

FULL: dict[str, Any] = {
    "simulation_result_id": "720488",
    "events": [
        {
            "title": "Connected",
            "start_offset_ms": -5,
            "end_offset_ms": 10,
            "description": "d",
            "tags": ["a"],
            "metadata": {"deep": [{"er": None}]},
        },
        {"title": "", "start_offset_ms": 0, "end_offset_ms": None, "description": None, "tags": None, "metadata": None},
    ],
    "tool_calls": [
        {"name": "freeze_card", "start_offset_ms": 0, "description": "d", "parameters": {"a": 1}, "output": [1, "x"]},
        {"name": "", "start_offset_ms": 2**70, "description": None, "parameters": None, "output": None},
    ],
    "recorded_transcript": [
        {"start_offset_ms": 0, "end_offset_ms": -1, "speaker": "AGENT", "utterance": "hi", "filler_utterance": True},
        {"start_offset_ms": 1.0, "end_offset_ms": 2, "speaker": "USER", "utterance": "", "filler_utterance": None},
    ],
    "tags": ["vip"],
    "metadata": {"tier": "gold"},
}


def paths(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Return the path of every value inside a value."""
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [path, *(found for key, item in inner for found in paths(item, (*path, key)))]


TEXT = st.text("aT é\0\u2028\U0001f426", max_size=5)
ANY_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=8,
)
NEAR_MISSES = st.sampled_from([None, "AGENT", "1", -1, 0, 1.0, 1.5, -0.0, True, [], {}, [None], ["x"], {"a": 1}, 1e300])


@st.composite
def mutated_reports(draw: st.DrawFn) -> Any:
    """Return a full report of which some values are replaced, or gone."""
    value = copy.deepcopy(FULL)
    for _ in range(draw(st.integers(0, 3))):
        path = draw(st.sampled_from(paths(value)))
        if not path:
            return draw(ANY_JSON)
        parent = value
        for key in path[:-1]:
            parent = parent[key]
        if draw(st.booleans()) and isinstance(parent, dict):
            del parent[path[-1]]
        else:
            parent[path[-1]] = copy.deepcopy(draw(NEAR_MISSES | ANY_JSON))
    return value
