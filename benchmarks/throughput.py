"""Reports a second to a local listener, against plain httpx posting the same bodies one after the other."""

from __future__ import annotations

import json
import tempfile
from statistics import median
from time import perf_counter
from typing import TYPE_CHECKING

import httpx

from benchmarks.measure import Effort, Result, in_turns, spread
from benchmarks.peer import peer
from bluejay_ws import Bluejay

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["run"]

TOOL_CALLS = 5


def _ours(client: Bluejay, count: int) -> Callable[[], float]:
    rounds = 0

    def measure() -> float:
        nonlocal rounds
        rounds += 1
        calls = [client.call({"X-Simulation-Result-Id": f"ours{rounds}-{number}"}) for number in range(count)]
        for call in calls:
            recorder = call.__enter__()
            for number in range(TOOL_CALLS):
                recorder.add_tool_call("freeze_card", parameters={"last4": "4242"}, output={"status": number})
        begun = perf_counter()
        for call in calls:
            call.__exit__(None, None, None)
        assert client.flush(120), "the reports did not leave"
        return count / (perf_counter() - begun)

    return measure


def _plain(url: str, key: str, count: int) -> Callable[[], float]:
    rounds = 0
    client = httpx.Client(headers={"X-API-Key": key})
    one = {"name": "freeze_card", "parameters": {"last4": "4242"}, "output": {"status": 1}, "start_offset_ms": 0}

    def measure() -> float:
        nonlocal rounds
        rounds += 1
        begun = perf_counter()
        for number in range(count):
            body = {"simulation_result_id": f"plain{rounds}-{number}", "tool_calls": [one] * TOOL_CALLS}
            answer = client.post(
                f"{url}/v1/update-simulation-result",
                content=json.dumps(body),
                headers={"Content-Type": "application/json"},
            )
            answer.raise_for_status()
        return count / (perf_counter() - begun)

    return measure


def run(effort: Effort) -> list[Result]:
    """Measure from the first close to the last accepted report, spool on, the platform in a process of its own."""
    count = max(10, effort.crowd // 4)
    with peer("platform") as platform, tempfile.TemporaryDirectory() as directory:
        url, key = platform.answer().split()
        with Bluejay(key, base_url=url, spool=directory) as client:
            found = in_turns({"ours": _ours(client, count), "plain": _plain(url, key, count)}, effort.few)
    ours, plain = median(found["ours"]), median(found["plain"])
    times = [one / other for one, other in zip(found["ours"], found["plain"], strict=True)]
    compared = f"plain httpx, one after the other: {plain:.0f} a second"
    return [
        Result("reports a second, spool on", ours, "a second", spread(found["ours"]), compared),
        Result("the same against plain httpx", median(times), "x", spread(times), "", 0.7, at_least=True),
    ]
