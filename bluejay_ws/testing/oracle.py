"""What the fake platform has taken in, and how it looks when read back."""

from __future__ import annotations

import json
import zlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

    from bluejay_ws.testing.schema import Event, SimulationReport

START = "2026-01-01T00:00:00Z"
EVALUATION = {"id": "1", "created_at": START, "agent_speak_percentage": None, "avg_agent_latency": None}


@dataclass(frozen=True, slots=True)
class AcceptedReport:
    """Hold one report that the platform has taken in.

    Attributes:
        simulation_result_id: the call it belongs to.
        body: the exact bytes.
        received_at: monotonic seconds when the last byte was there.
        number: 1 for the first accepted report of this call; anything above is a duplicate.
        unknown_fields: paths of what the schema does not know; the real platform forgets it.
    """

    simulation_result_id: str
    body: bytes = field(repr=False)
    received_at: float
    number: int = 1
    unknown_fields: tuple[str, ...] = ()

    @property
    def report(self) -> dict[str, Any]:
        """Return the report, parsed anew: yours to change."""
        parsed: dict[str, Any] = json.loads(self.body)
        return parsed

    @property
    def tool_calls(self) -> list[dict[str, Any]]:
        """Return the tool calls; empty when there are none."""
        return self.report.get("tool_calls") or []

    @property
    def events(self) -> list[dict[str, Any]]:
        """Return the events; empty when there are none."""
        return self.report.get("events") or []

    @property
    def transcript(self) -> list[dict[str, Any]]:
        """Return what was said; empty when nothing was recorded."""
        return self.report.get("recorded_transcript") or []


@dataclass(slots=True)
class ReadBack:
    """Say how accepted reports can be read back; may be changed at any time.

    Args:
        echo_metadata: give an event's metadata back; else null.
        lag_reads: how many reads pass before a report shows.
        lag: seconds before a report shows.
        unreadable: a status that answers every read instead.
        expected_tools: by tool name, what the simulation expected: listed whether or not it was called.
        status: of every call; None: ``EVALUATING`` until a report shows, then ``COMPLETED``.
        evaluation: what the judge says of every call that shows a report, such as ``{"goal_success": True}``; the
            fields that the published shape requires are filled in.
        runs: by the id of a run, the ids of its calls.
    """

    echo_metadata: bool = True
    lag_reads: int = 0
    lag: float = 0.0
    unreadable: int | None = None
    expected_tools: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    status: str | None = None
    evaluation: dict[str, Any] | None = None
    runs: dict[str, list[str]] = field(default_factory=dict)


@dataclass(slots=True)
class _Entry:
    accepted: AcceptedReport
    report: SimulationReport
    reads: int = 0


class Oracle:
    """Remember every accepted report. Not locked: its owner does that."""

    def __init__(self, read_back: ReadBack, clock: Callable[[], float]) -> None:
        self.read_back = read_back
        self._clock = clock
        self._entries: list[_Entry] = []
        self._by_id: dict[str, list[_Entry]] = {}

    def accept(self, report: SimulationReport, body: bytes, unknown: list[str]) -> AcceptedReport:
        """Take a report in; a second one of the same call is appended, as the real platform does."""
        entries = self._by_id.setdefault(report.simulation_result_id, [])
        accepted = AcceptedReport(
            report.simulation_result_id, body, self._clock(), number=len(entries) + 1, unknown_fields=tuple(unknown)
        )
        entry = _Entry(accepted, report)
        entries.append(entry)
        self._entries.append(entry)
        return accepted

    def accepted(self, simulation_result_id: str | None = None) -> list[AcceptedReport]:
        """Return what was accepted, oldest first; of one call, if its id is given."""
        if simulation_result_id is None:
            return [entry.accepted for entry in self._entries]
        return [entry.accepted for entry in self._by_id.get(simulation_result_id, [])]

    def count(self, simulation_result_id: str | None = None) -> int:
        """Return how many reports were accepted; of one call, if its id is given."""
        return len(self._entries if simulation_result_id is None else self._by_id.get(simulation_result_id, []))

    def duplicates(self) -> dict[str, int]:
        """Return how many reports were accepted for each call that has more than one."""
        return {name: len(entries) for name, entries in self._by_id.items() if len(entries) > 1}

    def result(self, simulation_result_id: str) -> dict[str, Any]:
        """Return the answer to a read, in the published shape; a call without a report has an empty one."""
        return {"status": "200", "simulation_result": self._result(simulation_result_id)}

    def run(self, run_id: str) -> dict[str, Any] | None:
        """Return the answer to a read of a whole run, in the official SDK's shape; None if it is not known."""
        ids = self.read_back.runs.get(run_id)
        if ids is None:
            return None
        results = [self._result(each) for each in ids]
        done = all(result["status"] != "EVALUATING" for result in results)
        run = {"id": run_id, "simulation_id": "1", "created_at": START, "summary": None, "total_tests": len(ids)}
        run |= {"status": "COMPLETED" if done else "RUNNING", "tests_passed": None, "tests_failed": None}
        return {"status": "200", "simulation_run": run, "simulation_results": results}

    def _result(self, simulation_result_id: str) -> dict[str, Any]:
        shown = [entry.report for entry in self._by_id.get(simulation_result_id, []) if self._shows(entry)]
        evaluation = self.read_back.evaluation if shown else None
        return {
            "id": _number(simulation_result_id),
            "digital_human_id": 1,
            "result": None,
            "duration": max((_end(report) for report in shown), default=None),
            "start_time": None,
            "end_time": None,
            "custom_metrics": None,
            "status": self.read_back.status or ("COMPLETED" if shown else "EVALUATING"),
            "latency": None if evaluation is None else evaluation.get("latency"),
            "events": [self._event(event) for report in shown for event in report.events or []],
            "transcript_url": None,
            "audio_url": None,
            "evaluations": None if evaluation is None else [{**EVALUATION, **evaluation}],
            "tool_calls": self._groups(shown),
            "trace_ids": [trace_id for report in shown for trace_id in report.trace_ids],
        }

    def _shows(self, entry: _Entry) -> bool:
        entry.reads += 1
        old_enough = self._clock() - entry.accepted.received_at >= self.read_back.lag
        return old_enough and entry.reads > self.read_back.lag_reads

    def _event(self, event: Event) -> dict[str, Any]:
        names = ("title", "start_offset_ms", "end_offset_ms", "description", "tags", "metadata")
        shown = {name: getattr(event, name) for name in names}
        return shown if self.read_back.echo_metadata else {**shown, "metadata": None}

    def _groups(self, reports: list[SimulationReport]) -> list[dict[str, Any]]:
        groups: dict[str, dict[str, Any]] = {
            name: {"name": name, "expected": expected, "actual": []}
            for name, expected in self.read_back.expected_tools.items()
        }
        for call in (call for report in reports for call in report.tool_calls or []):
            group = groups.setdefault(call.name, {"name": call.name, "expected": [], "actual": []})
            actual = {"parameters": call.parameters, "output": call.output, "start_offset_ms": call.start_offset_ms}
            group["actual"].append(actual)
        return list(groups.values())


def _number(simulation_result_id: str) -> int:
    """Return the id as the integer that the published answer wants; some integer when it is none."""
    plain = simulation_result_id.isascii() and simulation_result_id.isdigit() and len(simulation_result_id) < 19
    return int(simulation_result_id) if plain else zlib.crc32(simulation_result_id.encode("utf-8", "replace"))


def _end(report: SimulationReport) -> int:
    """Return the last time that the report names, as the length of the call."""
    ends = [event.end_offset_ms or event.start_offset_ms for event in report.events or []]
    ends += [utterance.end_offset_ms for utterance in report.recorded_transcript or []]
    return max([*ends, *(call.start_offset_ms for call in report.tool_calls or [])], default=0)
