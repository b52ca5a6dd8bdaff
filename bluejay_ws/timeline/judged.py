"""What the platform shows for a call, for its page: status, tools side by side, latency, the judge's words."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from bluejay_ws.results import dicts_in
from bluejay_ws.timeline.verdict import Finding

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

KINDS = {
    "as_expected": ("as expected", "good"),
    "wrong_parameters": ("wrong parameters", "bad"),
    "missing": ("never called", "bad"),
    "extra": ("not expected", "warn"),
}
MEASURES = {  # what the judge says, and whether true is good
    "goal_success": True,
    "hallucination": False,
    "redundancy": False,
    "custom_evals_success_rate": None,
    "pronunciation_score": None,
}
LABELS = {name: name.capitalize() for name in (*(key.replace("_", " ") for key in MEASURES), "summary")}


def expected_tools(result: Mapping[str, Any]) -> dict[str, list[Any]] | None:
    """Return the tools that the simulation expected, by name; None where it expected none.

    A result is what `bluejay_ws.results.CallResult.as_dict` returns; parts of it may be missing.
    """
    found: dict[str, list[Any]] = {}
    for pair in dicts_in(result.get("tool_calls")):
        if isinstance(pair.get("expected"), dict):
            found.setdefault(str(pair.get("name")), []).append(pair["expected"])
    return found or None


def verdicts(result: Mapping[str, Any]) -> Iterator[Finding]:
    """Yield what the platform holds against the call, but for its tools."""
    status, meaning = str(result.get("status") or ""), str(result.get("meaning") or "")
    if result.get("final") and status != "COMPLETED":
        yield Finding("bad", f"The platform says {status}: {meaning}.", brief=f"the platform says {status}")
    for evaluation in dicts_in(result.get("evaluations")):
        if evaluation.get("goal_success") is False:
            yield Finding("bad", "The caller did not reach its goal.", brief="the caller did not reach its goal")
        for flaw in ("hallucination", "redundancy"):
            if evaluation.get(flaw) is True:
                yield Finding("warn", f"The judge found a {flaw}.")


def judged(result: Mapping[str, Any]) -> dict[str, Any]:
    """Return what the page shows of a result, as data: ``rows`` of label, text and level, and ``tools``."""
    rows = [[label, text, level] for label, text, level in _rows(result) if text]
    return {"rows": rows, "tools": [_pair(pair) for pair in dicts_in(result.get("tool_calls"))]}


def _rows(result: Mapping[str, Any]) -> Iterator[tuple[str, str, str]]:
    status, meaning = str(result.get("status") or "no status"), str(result.get("meaning") or "")
    level = "good" if status == "COMPLETED" else "bad" if result.get("final") else "warn"
    yield "Status", f"{status}: {meaning}" if meaning else status, level
    latency = result.get("latency")
    if isinstance(latency, dict):
        values = (f"{key.removesuffix('_agent_latency')} {value}" for key, value in latency.items())
        yield "Latency", ", ".join(values), ""
    for evaluation in dicts_in(result.get("evaluations")):
        for label, text, verdict in evaluation_rows(evaluation):
            yield LABELS.get(label, label), text, verdict
    traces = result.get("trace_ids")
    yield "Trace ids", ", ".join(map(str, traces)) if isinstance(traces, list) else "", ""
    yield "Recording", str(result.get("audio_url") or ""), ""
    yield "Transcript", str(result.get("transcript_url") or ""), ""


def evaluation_rows(evaluation: Mapping[str, Any]) -> Iterator[tuple[str, str, str]]:
    """Yield what the judge said: label, words and level of each measure that is there."""
    for key, wanted in MEASURES.items():
        value = evaluation.get(key)
        if value is not None:
            level = "" if wanted is None or not isinstance(value, bool) else "good" if value is wanted else "bad"
            reason = evaluation.get(f"{key.partition('_')[0]}_reasoning")
            yield key.replace("_", " "), f"{_json(value)}{f': {reason}' if reason else ''}", level
    if evaluation.get("call_summary"):
        yield "summary", str(evaluation["call_summary"]), ""
    for metric in dicts_in(evaluation.get("custom_metrics")):
        words = ": ".join(str(metric[key]) for key in ("response_value", "reasoning") if metric.get(key))
        yield str(metric.get("name")), words, ""


def _pair(pair: Mapping[str, Any]) -> list[str]:
    """Return one row of the table: name, verdict, its level, expected, actual, what differs."""
    words, level = KINDS.get(str(pair.get("kind")), (str(pair.get("kind")), ""))
    differs = [
        f"{found.get('path')}: expected {_json(found.get('expected'))}, was {_json(found.get('actual'))}"
        for found in dicts_in(pair.get("differences"))
    ]
    if pair.get("output_differs"):
        differs.append("another output")
    sides = _side(pair.get("expected")), _side(pair.get("actual"))
    return [str(pair.get("name")), words, level, *sides, "\n".join(differs)]


def _side(call: object) -> str:
    if not isinstance(call, dict):
        return ""
    at = call.get("start_offset_ms")
    return _json(call.get("parameters")) + (f" at {at / 1000:.2f} s" if isinstance(at, int | float) else "")


def _json(value: object) -> str:
    return json.dumps(value, ensure_ascii=False, default=str)
