"""What the end of a call takes of the agent's event loop: of one that ends alone, and of each in a crowd."""

from __future__ import annotations

import tempfile
import time
from statistics import median
from typing import TYPE_CHECKING

from benchmarks.agent import undelivered_client
from benchmarks.measure import Effort, Result, spread

if TYPE_CHECKING:
    from bluejay_ws import Bluejay
    from bluejay_ws.call import Call

__all__ = ["run"]

ALONE = 20
APART = 0.025
"""Seconds between two ends that are no crowd."""
FACTS = {"close_code": 1000, "close_reason": "", "closed_by": "caller"}


def _calls(client: Bluejay, prefix: str, count: int) -> list[Call]:
    """Return calls in which something happened."""
    calls = []
    for number in range(count):
        call = client.open_call([f"{prefix}-{number}"], server="benchmark")
        assert call is not None
        for at in range(10):
            call.observer.user_audio(bytes(640), at * 20.0)
            call.observer.agent_audio(bytes(640), at * 20.0)
        call.recorder.add_tool_call("freeze_card", parameters={"last4": "4242"}, output={"status": "frozen"})
        calls.append(call)
    return calls


def _end(call: Call) -> float:
    begun = time.perf_counter()
    call.connection_closed(FACTS)
    return (time.perf_counter() - begun) * 1e6


def _round(number: int, count: int) -> tuple[float, float]:
    """Return the microseconds of one end on this thread, alone and in a crowd."""
    with (
        tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as directory,
        undelivered_client("benchmark", base_url="http://127.0.0.1:9", spool=directory, flush_timeout=0.0) as client,
    ):
        alone = []
        for call in _calls(client, f"alone{number}", ALONE):
            time.sleep(APART)
            alone.append(_end(call))
        crowd = [_end(call) for call in _calls(client, f"crowd{number}", count)]
        return median(alone), sum(crowd) / count


def run(effort: Effort) -> list[Result]:
    """Measure both in turns."""
    found = [_round(number, effort.crowd) for number in range(effort.few)]
    alone, crowd = ([pair[which] for pair in found] for which in (0, 1))
    times = median(one / other for one, other in found)
    against = f"{times:.0f} times less than alone; the rest is done beside the loop, later"
    return [
        Result("end of a call, on the event loop", median(alone), "us", spread(alone), "alone", 60.0),
        Result(f"the same where {effort.crowd:,} end at once, each", median(crowd), "us", spread(crowd), against),
    ]
