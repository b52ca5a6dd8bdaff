"""Several calls at once, and what became of them in one table."""

from __future__ import annotations

import asyncio
import statistics
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from websockets.exceptions import WebSocketException

from bluejay_ws.cli.conversation import Conversation, await_report, call_faults, report_faults
from bluejay_ws.cli.dialling import APART, problem_of
from bluejay_ws.cli.terminal import Terminal, plural
from bluejay_ws.cli.timeline import count_items
from bluejay_ws.testing.reports import CallReport

if TYPE_CHECKING:
    from bluejay_ws.testing.caller import CallLog
    from bluejay_ws.testing.platform import FakePlatform


@dataclass(slots=True)
class Made:
    """One call of many: its id, what the caller saw, its report, and what was wrong."""

    call: str
    log: CallLog | None = None
    faults: list[str] = field(default_factory=list)
    report: CallReport | None = None


def hold_many(conversation: Conversation, calls: int, platform: FakePlatform | None, terminal: Terminal) -> int:
    """Make calls at once, each with an id of its own, and write a table of them; return the exit code.

    Without a platform nobody looks at reports.
    """
    prefix = conversation.simulation_result_id
    each = [replace(conversation, simulation_result_id=f"{prefix}-{number}") for number in range(1, calls + 1)]
    with terminal.waiting(f"making {plural(calls, 'call')} at once"):
        made = asyncio.run(_make(each))
    for one in made:
        if one.log is not None and platform is not None:
            _read_report(one, platform, terminal)
    _show(made, terminal)
    return 1 if any(one.faults for one in made) else 0


async def _make(conversations: list[Conversation]) -> list[Made]:
    return await asyncio.gather(*(_make_one(each, number * APART) for number, each in enumerate(conversations)))


async def _make_one(conversation: Conversation, wait: float) -> Made:
    made = Made(conversation.simulation_result_id)
    await asyncio.sleep(wait)
    try:
        made.log = await conversation.make(compression=False)
        made.faults = call_faults(made.log)
    except (OSError, UnicodeError, ImportError, WebSocketException) as error:
        problem = problem_of(error, conversation.url)
        made.faults = [f"{problem.message}."]
    return made


def _read_report(one: Made, platform: FakePlatform, terminal: Terminal) -> None:
    accepted = await_report(platform, one.call, terminal)
    if accepted is None:
        one.faults.append("No report came.")
        return
    one.report = CallReport.of(accepted)
    one.faults += report_faults(accepted.report)
    copies = platform.duplicates.get(one.call)
    if copies:
        one.faults.append(f"{copies} reports came for this call.")


def _show(made: list[Made], terminal: Terminal) -> None:
    for one in made:
        terminal.document(
            {
                "type": "summary",
                "call": one.call,
                "well": not one.faults,
                "faults": one.faults,
                "duration_ms": None if one.log is None else round(one.log.duration_ms),
                "agent_spoke_ms": None if one.log is None else round(one.log.heard_ms),
                "report": one.report and one.report.report,
            }
        )
    terminal.title(plural(len(made), "call"))
    terminal.say()
    terminal.table(["call", "length", "spoke", "report"], [_row(one) for one in made])
    well = sum(not one.faults for one in made)
    latencies = [value for one in made if one.report for value in one.report.latencies]
    words = f"{well} of {plural(len(made), 'call')} went well"
    if latencies:
        words += f"; response latency: median {statistics.median(latencies):.0f} ms, at most {max(latencies):.0f} ms"
    terminal.say()
    terminal.wrapped("", f"{words}.")
    for fault, times in _counted(made).items():
        terminal.wrapped(f"  {times:>4} x  ", fault, style="red")
    terminal.document({"type": "total", "calls": len(made), "well": well, "latencies_ms": latencies})


def _row(one: Made) -> list[str]:
    if one.log is None:
        return [one.call, "-", "-", "not connected"]
    report = "-" if one.report is None else count_items(one.report.report)
    mark = "" if not one.faults else " (not well)"
    return [one.call, f"{one.log.duration_ms / 1000:.1f} s", f"{one.log.heard_ms / 1000:.1f} s", report + mark]


def _counted(made: list[Made]) -> dict[str, int]:
    counts: dict[str, int] = {}
    for fault in (fault for one in made for fault in one.faults):
        counts[fault] = counts.get(fault, 0) + 1
    return counts
