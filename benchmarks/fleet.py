"""A fleet's outbox in PostgreSQL, with a server of its own that waits for the disk at each commit.

``python -m benchmarks fleet``; the kills are ``python -m benchmarks.reliability fleet``.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import subprocess
import sys
import tempfile
import threading
import time
import uuid
from pathlib import Path
from random import Random
from statistics import median
from typing import TYPE_CHECKING

from benchmarks.lateness import _measure
from benchmarks.measure import Effort, Result, percentile, spread
from benchmarks.peer import peer
from bluejay_ws import Bluejay
from bluejay_ws.delivery import postgres
from bluejay_ws.delivery.deliverer import Deliverer
from bluejay_ws.delivery.postgres import Outbox
from bluejay_ws.settings import Settings
from bluejay_ws.stats import Counters
from bluejay_ws.testing.platform import FakePlatform

if TYPE_CHECKING:
    from collections.abc import Iterator

    import psycopg
    from fleet.database import Database
    from fleet.run import Fleet

__all__ = ["run"]

TOOL_CALLS = 5
PROCESSES = 4
WAITING = 100_000
NOWHERE = "http://127.0.0.1:9"
_MESSAGE = re.compile(rb'"message": ?"([^"]+)"')


def _record(client: Bluejay, identity: str) -> None:
    with client.call({"X-Simulation-Result-Id": identity}) as recorder:
        for number in range(TOOL_CALLS):
            recorder.add_tool_call("freeze_card", parameters={"last4": "4242"}, output={"status": number})


@contextlib.contextmanager
def _agent(url: str, platform: str = NOWHERE) -> Iterator[Bluejay]:
    with tempfile.TemporaryDirectory() as directory:
        os.environ["BLUEJAY_SPOOL_DIRECTORY"] = directory
        with Bluejay(base_url=platform, spool=url) as client:
            yield client


def _fresh(database: Database) -> str:
    return database.create(f"b{uuid.uuid4().hex}", template="migrated")


# -- into the database --------------------------------------------------------------------------------------------


def one_process(url: str, count: int, *, waiting: bool) -> None:
    """Hand calls over as fast as it goes; print begin, end, and the CPU of all and of handing over.

    Args:
        url: of the database.
        count: how many calls.
        waiting: they wait in files, as after an outage of the database; else they are recorded meanwhile.
    """
    with _agent(url) as client:
        if waiting:
            code = f"from benchmarks.fleet import leave_behind; leave_behind({count})"
            subprocess.run([sys.executable, "-c", code], check=True, stderr=subprocess.DEVNULL)
        else:
            _record(client, f"warm-{os.getpid()}")
            assert client.flush(30)
        print("ready", flush=True)
        sys.stdin.readline()
        began, cpu, handing = time.monotonic(), time.process_time(), 0.0 if waiting else _handing_over()
        _record_all(client, 1 if waiting else count)
        while client.stats().get("handed_over", 0) <= count:
            time.sleep(0.005)
        print(began, time.monotonic(), time.process_time() - cpu, _handing_over() - handing, flush=True)


def leave_behind(count: int) -> None:
    """Record calls and leave them where the next process of this machine finds them."""
    spool = os.environ["BLUEJAY_SPOOL_DIRECTORY"]
    with Bluejay("nobody", base_url=NOWHERE, spool=spool, flush_timeout=0) as client:
        _record_all(client, count)


def _record_all(client: Bluejay, count: int) -> None:
    for number in range(count):
        _record(client, f"{os.getpid()}-{count}-{number}")


def _handing_over() -> float:
    """Return the CPU seconds of the thread that hands over."""
    (thread,) = (each for each in threading.enumerate() if each.name == "bluejay_ws-handover")
    assert thread.ident is not None
    return time.clock_gettime(time.pthread_getcpuclockid(thread.ident))


def _intake(database: Database, count: int, *, waiting: bool) -> tuple[float, float, float]:
    """Return reports a second, and the CPU microseconds of one in its process: without, and of, handing it over."""
    url = _fresh(database)
    code = f"from benchmarks.fleet import one_process; one_process({url!r}, {count}, waiting={waiting})"
    command = [sys.executable, "-c", code]
    with contextlib.ExitStack() as stack:
        processes = [
            stack.enter_context(subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True))
            for _ in range(PROCESSES)
        ]
        for process in processes:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
        for process in processes:
            assert process.stdin is not None
            print(file=process.stdin, flush=True)
        times = [list(map(float, process.stdout.readline().split())) for process in processes if process.stdout]
    begins, ends, cpu, handing = zip(*times, strict=True)
    reports = PROCESSES * count
    hand_over = sum(handing) / reports
    return reports / (max(ends) - min(begins)), (sum(cpu) / reports - hand_over) * 1e6, hand_over * 1e6


def _lag(database: Database, kills: int) -> list[float]:
    """Return the milliseconds from an answered message to its row in the database; pods are killed meanwhile."""
    from fleet.run import Fleet
    from fleet.run import _calls as calls

    url = _fresh(database)
    with postgres.connect(url) as connection, tempfile.TemporaryDirectory() as home, FakePlatform() as platform:
        connection.execute("alter table bluejay_ws.chunks add column at timestamptz not null default clock_timestamp()")
        fleet = Fleet(Path(home), url, platform, Random(1), lease=5.0, pace=0.3)
        try:
            asyncio.run(calls(fleet, kills * 10, pods=4, deliverers=0, kills=kills, at_once=16))
        finally:
            fleet.stop()
        return list(_lags(connection, fleet))


def _lags(connection: psycopg.Connection[tuple[bytes, float]], fleet: Fleet) -> Iterator[float]:
    ahead = time.time() - time.monotonic()
    rows = connection.execute("select body, extract(epoch from at)::float8 from bluejay_ws.chunks order by at")
    seen: dict[str, float] = {}
    for body, at in rows:
        for message in _MESSAGE.findall(body):
            seen.setdefault(message.decode(), at - ahead)
    for call in fleet.calls:
        yield from ((seen[message] - at) * 1e3 for message, at in call.answered if message in seen)


def _visible(database: Database, count: int) -> list[float]:
    """Return the milliseconds from the close of a call to the moment another process could claim it."""
    url = _fresh(database)
    other = Outbox(url, NOWHERE)
    found = []
    with _agent(url) as client, other.link:
        for number in range(count + 1):
            _record(client, str(number))
            closed = time.perf_counter()
            while other.claim(60) is None:
                pass
            if number:
                found.append((time.perf_counter() - closed) * 1e3)
            time.sleep(0.02)
    return found


def _pick_up(database: Database, count: int, waiting: int) -> list[float]:
    """Return the milliseconds that claiming the next call takes while so many wait, and as many were delivered."""
    url = _fresh(database)
    outbox = Outbox(url, NOWHERE)
    with outbox.link:
        rows = outbox.link.rows
        rows(
            "insert into bluejay_ws.calls (destination, identity, state, next_at, settled_at) select %s, n::text,"
            " case when n > %s then 'delivered' else 'waiting' end, now() - n * interval '1 ms', now()"
            " from generate_series(1, %s) n",
            *(NOWHERE, waiting, 2 * waiting),
        )
        rows(
            "insert into bluejay_ws.reports (report_id, destination, identity, pod_id, state, received)"
            " select lpad(to_hex(n), 32, '0'), %s, n::text, gen_random_uuid(), 'sealed', 1000"
            " from generate_series(1, %s) n",
            *(NOWHERE, waiting),
        )
        rows(
            "insert into bluejay_ws.chunks select lpad(to_hex(n), 32, '0'), 0, convert_to(repeat('x', 1000), 'UTF8')"
            " from generate_series(1, %s) n",
            waiting,
        )
        rows("analyze")
        found = []
        for _ in range(count):
            began = time.perf_counter()
            assert outbox.claim(60) is not None
            found.append((time.perf_counter() - began) * 1e3)
    return found


# -- out of it ----------------------------------------------------------------------------------------------------


def _from_database(database: Database, platform: str, key: str, count: int) -> float:
    url = _fresh(database)
    with _agent(url, platform) as client:
        for number in range(count):
            _record(client, f"{uuid.uuid4().hex[:8]}-{number}")
        assert client.flush(120)
    settings = Settings.load(api_key=key, base_url=platform, spool=False)
    deliverer = Deliverer(url, settings, counters=(counters := Counters()))
    deliverer.start()
    while not counters["delivered"]:  # its threads, connections and TLS context are there
        time.sleep(0.001)
    began, first = time.perf_counter(), counters["delivered"]
    while counters["delivered"] < count:
        time.sleep(0.002)
    rate = (count - first) / (time.perf_counter() - began)
    deliverer.stop()
    return rate


def _from_files(platform: str, key: str, count: int) -> float:
    with tempfile.TemporaryDirectory() as directory, Bluejay(key, base_url=platform, spool=directory) as client:
        prefix = uuid.uuid4().hex[:8]
        _record(client, f"{prefix}-warm")
        assert client.flush(30)
        calls = [client.call({"X-Simulation-Result-Id": f"{prefix}-{number}"}) for number in range(count)]
        for call in calls:
            recorder = call.__enter__()
            for number in range(TOOL_CALLS):
                recorder.add_tool_call("freeze_card", parameters={"last4": "4242"}, output={"status": number})
        began = time.perf_counter()
        for call in calls:
            call.__exit__(None, None, None)
        assert client.flush(120)
        return count / (time.perf_counter() - began)


def _ratio(database: Database, count: int, rounds: int) -> tuple[list[float], list[float]]:
    ours, files = [], []
    with peer("platform") as platform:
        url, key = platform.answer().split()
        for _ in range(rounds):
            files.append(_from_files(url, key, count))
            ours.append(_from_database(database, url, key, count))
    return ours, files


def _late(database: Database, count: int, effort: Effort) -> tuple[list[float], list[float]]:
    """Return the p99 lateness of the agent's loop while a crowd ends: handing over, and with files."""

    def p99(client: Bluejay) -> list[float]:
        return [percentile(late, 0.99) for late in asyncio.run(_measure(client, count, effort))[True]]

    with _agent(_fresh(database)) as client:
        ours = p99(client)
    with peer("platform") as platform, tempfile.TemporaryDirectory() as directory:
        url, key = platform.answer().split()
        with Bluejay(key, base_url=url, spool=directory) as client:
            return ours, p99(client)


def run(effort: Effort) -> list[Result]:
    """Measure the way into the database and out of it."""
    from fleet.database import Database

    quick = effort == Effort.quick()
    count = max(10, effort.crowd // 2)
    rounds = 1 if quick else 3
    with Database() as database:
        postgres.migrate(database.create("migrated"))
        return [*_ways_in(database, count, rounds, quick=quick), *_ways_out(database, count, rounds, effort)]


def _ways_in(database: Database, count: int, rounds: int, *, quick: bool) -> Iterator[Result]:
    rates, _, handing = zip(*(_intake(database, 2 * count, waiting=True) for _ in range(rounds)), strict=True)
    what = f"reports a second into PostgreSQL, {PROCESSES} processes"
    compared = f"they wait in files; CPU of one {median(handing):.0f} us"
    yield Result(what, median(rates), "a second", spread(rates), compared, limit=2_000, at_least=True)
    rates, recording, handing = zip(*(_intake(database, 2 * count, waiting=False) for _ in range(rounds)), strict=True)
    compared = f"CPU of one: to record it {median(recording):.0f} us, to hand it over {median(handing):.0f} us"
    yield Result(f"{what} that also record them on the same cores", median(rates), "a second", spread(rates), compared)
    lags = _lag(database, 1 if quick else 10)
    compared = f"99 of 100 within {percentile(lags, 0.99):.0f} ms, all within {max(lags):.0f} ms"
    yield Result(
        "a fact is in PostgreSQL after, 4 agents, a new one each second", median(lags), "ms", compared=compared
    )
    seen = _visible(database, min(count, 200))
    compared = f"99 of 100 within {percentile(seen, 0.99):.0f} ms"
    yield Result("a sealed report can be claimed elsewhere after", median(seen), "ms", spread(seen), compared, 100)
    waiting = 1_000 if quick else WAITING
    picked = _pick_up(database, min(count, 500, waiting), waiting)
    few = median(_pick_up(database, min(count, 500), 1_000))
    compared = f"99 of 100 within {percentile(picked, 0.99):.1f} ms; of 1,000: {few:.1f} ms"
    yield Result(f"claiming the next of {waiting:,} that wait", median(picked), "ms", spread(picked), compared, 5)


def _ways_out(database: Database, count: int, rounds: int, effort: Effort) -> Iterator[Result]:
    ours, files = _ratio(database, count, rounds)
    ratio = median(ours) / median(files)
    compared = f"{median(ours):.0f} a second; from files {median(files):.0f}"
    yield Result("delivery from PostgreSQL against files", ratio, "x", "", compared, 0.7, at_least=True)
    late, late_files = _late(database, max(10, effort.crowd // 10), effort)
    compared = f"with files {median(late_files):.2f} ms"
    yield Result("lateness of a 1 ms timer while a crowd ends, p99", median(late), "ms", spread(late), compared)
