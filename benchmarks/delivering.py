"""CPU for a delivered report, threads and all: as it is, and while ten thousand files wait in the spool.

A process of its own delivers, the platform is another one; plain httpx posts the same bodies in a third. So the CPU of
each is its own, from the first close to the last accepted report.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
import uuid
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING

import httpx

from benchmarks.agent import undelivered_client
from benchmarks.measure import Effort, Result, in_turns, spread
from benchmarks.peer import peer
from bluejay_ws import Bluejay

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["ID_HEADER", "record_call", "run", "wait_for"]

ID_HEADER = "X-Simulation-Result-Id"
TOOL_CALLS = 5
WAITING = 10_000


def record_call(client: Bluejay, identity: str) -> None:
    """Have one call with a few tool calls, from its handshake to its end."""
    with client.call({ID_HEADER: identity}) as recorder:
        for number in range(TOOL_CALLS):
            recorder.add_tool_call("freeze_card", parameters={"last4": "4242"}, output={"status": number})


def fill(directory: Path, url: str, count: int) -> None:
    """Leave so many reports in a spool, as a process does whose platform was away."""
    with undelivered_client("benchmark", base_url=url, spool=directory, flush_timeout=0.0) as client:
        for number in range(count):
            record_call(client, f"waits-{number}")
        wait_for(lambda: sum(1 for _ in directory.rglob("*.ready")) >= count)  # else the last ones come after the start


def wait_for(condition: Callable[[], bool], seconds: float = 120.0) -> None:
    """Wait until something is so; it costs hardly any CPU."""
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until, "it took too long"
        time.sleep(0.02)


def ours(directory: str, url: str, key: str, count: int, waiting: int) -> float:
    """Return the milliseconds of this process's CPU for each report that it delivered."""
    prefix = uuid.uuid4().hex[:8]
    with Bluejay(key, base_url=url, spool=directory, flush_timeout=0.0) as client:
        record_call(client, f"{prefix}-warm")
        wait_for(lambda: client.stats()["delivered"] > 0)
        wait_for(lambda: client.stats()["waiting"] >= waiting // 2 and not _grows(client))  # all have been found
        time.sleep(1.0 if waiting else 0.0)  # and the files have been counted, as they are each half minute
        calls = [client.call({ID_HEADER: f"{prefix}-{number}"}) for number in range(count)]
        for call in calls:
            recorder = call.__enter__()
            for number in range(TOOL_CALLS):
                recorder.add_tool_call("freeze_card", parameters={"last4": "4242"}, output={"status": number})
        before, begun = client.stats()["delivered"], time.process_time()
        for call in calls:
            call.__exit__(None, None, None)
        wait_for(lambda: client.stats()["delivered"] >= before + count)
        return (time.process_time() - begun) * 1e3 / (client.stats()["delivered"] - before)


def _grows(client: Bluejay) -> bool:
    """Return whether more and more reports of earlier processes are found."""
    before = client.stats()["waiting"]
    time.sleep(0.1)
    return client.stats()["waiting"] > before


def plain(url: str, key: str, count: int) -> float:
    """Return the same for httpx alone, which posts bodies that are there already."""
    one = {"name": "freeze_card", "parameters": {"last4": "4242"}, "output": {"status": 1}, "start_offset_ms": 0}
    prefix = uuid.uuid4().hex[:8]
    with httpx.Client(headers={"X-API-Key": key, "Content-Type": "application/json"}) as client:

        def post(number: int) -> None:
            body = {"simulation_result_id": f"{prefix}-{number}", "tool_calls": [one] * TOOL_CALLS}
            client.post(f"{url}/v1/update-simulation-result", content=json.dumps(body)).raise_for_status()

        post(-1)
        begun = time.process_time()
        for number in range(count):
            post(number)
        return (time.process_time() - begun) * 1e3 / count


def _in_a_process(function: str, *words: object) -> Callable[[], float]:
    """Return a function that runs one of the two above in a process of its own."""
    code = f"from benchmarks.delivering import {function}; print({function}(*{words!r}))"

    def measure() -> float:
        done = subprocess.run(
            [sys.executable, "-c", code],
            check=True,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        return float(done.stdout.split()[-1])

    return measure


def run(effort: Effort) -> list[Result]:
    """Measure all three in turns."""
    count = max(10, effort.crowd // 4)
    waiting = min(WAITING, 25 * effort.crowd)  # far more than leave while it is measured
    with peer("platform") as platform, tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as directory:
        url, key = platform.answer().split()
        empty, full = Path(directory, "empty"), Path(directory, "full")
        fill(full, url, waiting)
        cases = {
            "ours": _in_a_process("ours", str(empty), url, key, count, 0),
            "full": _in_a_process("ours", str(full), url, key, count, waiting),
            "plain": _in_a_process("plain", url, key, count),
        }
        found = in_turns(cases, effort.few)
    one, other, bare = (median(found[name]) for name in ("ours", "full", "plain"))
    times = [full / alone for full, alone in zip(found["full"], found["ours"], strict=True)]
    against = f"httpx alone, bodies ready: {bare:.2f} ms"
    return [
        Result("CPU for a delivered report", one, "ms", spread(found["ours"]), against, 1.2),
        Result(f"the same with {waiting:,} files waiting", median(times), "x", spread(times), f"{other:.2f} ms", 1.2),
    ]
