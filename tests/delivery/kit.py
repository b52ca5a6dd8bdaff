"""What the tests of delivery build on: calls in a spool, and a platform that follows a script."""

from __future__ import annotations

import contextlib
import os
import time
import uuid
from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from bluejay_ws.delivery.attempt import Attempts, Context, Delivery
from bluejay_ws.delivery.files import READY, Name
from bluejay_ws.delivery.outcomes import Answer, Decision, Failure, History, Sight, decide, read_result
from bluejay_ws.delivery.spool import Spool
from bluejay_ws.delivery.store import Store
from bluejay_ws.settings import Retry, Settings
from bluejay_ws.stats import Counters
from bluejay_ws.wire import items, journal

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from bluejay_ws.delivery.files import LockedFile
    from bluejay_ws.delivery.livefile import LiveFile
    from bluejay_ws.delivery.store import Report

SUCCESS = Answer(200, b'{"status": "success", "message": null}')
QUICK = Retry(first=0.01, ceiling=0.05, read_back=(0.01, 0.03, 0.08), resend_first=0.05, resend_ceiling=0.2)


def header(report_id: str, identity: str | None, started_at: float = 1000.0) -> bytes:
    """Return a call's first line."""
    return journal.header(
        report_id=report_id, simulation_result_id=identity, started_at=started_at, version="0.1.0", server="test"
    )


def tool(name: str = "freeze_card", at: int = 5) -> bytes:
    """Return the line of one tool call."""
    return journal.item("tool_calls", items.tool_call(at, name, {"last4": "4242"}, {"status": "frozen"}, None, []))


def end(report_id: str) -> list[bytes]:
    """Return the lines that a recorder writes at the close."""
    marker = {"bluejay_ws": {"report_id": report_id, "version": "0.1.0"}}
    event = items.event(9, "Connection closed", None, None, None, marker, [])
    return [journal.item("events", event), journal.closed({"close_code": 1000})]


def bodies(report_id: str, identity: str, *tools: str, started_at: float = 1000.0) -> list[bytes]:
    """Return every line of a call with these tool calls."""
    return [header(report_id, identity, started_at), *(tool(name) for name in tools), *end(report_id)]


def new_id() -> str:
    """Return a report id."""
    return uuid.uuid4().hex


def spool_at(directory: Path, counters: Counters | None = None, **more: Any) -> Spool:
    """Return a prepared spool; after a crash it waits for nobody to dial again, unless it is told to."""
    spool = Spool(directory, counters=counters or Counters(), **{"redial_wait": 0.0, **more})
    spool.prepare()
    return spool


def open_call(spool: Spool, identity: str, *tools: str, started_at: float = 1000.0) -> LiveFile:
    """Return the file of a call that continues."""
    report_id = new_id()
    file = spool.open_call(
        report_id=report_id, simulation_result_id=identity, header=header(report_id, identity, started_at)
    )
    assert file is not None
    for name in tools:
        file.append(tool(name))
    return file


def finished_call(spool: Spool, identity: str, *tools: str, started_at: float = 1000.0) -> Report:
    """Return a sealed call."""
    file = open_call(spool, identity, *tools, started_at=started_at)
    for body in end(file.report_id):
        file.append(body)
    return file.seal()


def abandoned_call(spool: Spool, identity: str, *tools: str, started_at: float = 1000.0) -> str:
    """Leave a file as a process leaves it that is killed; return the report id."""
    file = open_call(spool, identity, *tools, started_at=started_at)
    spool.reset_after_fork()
    return file.report_id


def files(directory: Path) -> list[Path]:
    """Return the files of a spool, without the locks of processes."""
    return [path for path in directory.rglob("*") if path.is_file() and path.suffix != ".owner"]


def descriptors(directory: Path) -> int:
    """Return how many descriptors this process has of reports in a spool, reports that were removed among them."""
    found = 0
    for text in os.listdir("/proc/self/fd"):  # noqa: PTH208 - one of them is of this very listing, and gone
        with contextlib.suppress(OSError):
            path = os.readlink(f"/proc/self/fd/{text}")  # noqa: PTH115
            found += path.startswith(f"{directory}/") and ".owner" not in path
    return found


def owners(directory: Path) -> list[Path]:
    """Return the locks of processes in a spool."""
    return list(directory.glob("*.owner*"))


def states(directory: Path) -> list[str]:
    """Return ``identity.state`` of every file of a spool, sorted."""
    names = (path.name.split(".") for path in files(directory))
    return sorted(f"{parts[0]}.{parts[-1]}" for parts in names)


def settings(
    url: str = "http://127.0.0.1:1",
    spool: Path | None = None,
    *,
    retry: Retry = QUICK,
    timeout: float = 30.0,
    flush_timeout: float = 5.0,
    redial_wait: float = 0.0,
) -> Settings:
    """Return settings with a key, and with short waits."""
    return Settings.load(
        api_key="test-key",
        base_url=url,
        spool=spool or False,
        retry=retry,
        timeout=timeout,
        flush_timeout=flush_timeout,
        redial_wait=redial_wait,
        environ={},
    )


@dataclass
class Script:
    """An exchange that gives the answers it was told to give, the last one for ever."""

    posts: deque[Answer | Failure] = field(default_factory=deque)
    looks: deque[Answer | Failure] = field(default_factory=deque)
    posted: list[bytes] = field(default_factory=list)
    looked: list[str] = field(default_factory=list)
    during_post: Callable[[], object] = lambda: None

    def post(self, body: bytes) -> Answer | Failure:
        self.posted.append(body)
        self.during_post()
        return self.posts.popleft() if self.posts else SUCCESS

    def look(self, simulation_result_id: str) -> Answer | Failure:
        self.looked.append(simulation_result_id)
        return self.looks.popleft() if self.looks else result()

    def abort_if_late(self, now: float) -> None:
        """Do nothing."""

    def close(self) -> None:
        """Do nothing."""


def result(*, events: object = (), tool_calls: object = ()) -> Answer:
    """Return the answer to a GET."""
    import json

    body = {"status": "200", "simulation_result": {"id": 1, "events": events, "tool_calls": tool_calls}}
    return Answer(200, json.dumps(body).encode())


def attempts(
    store: Store | None,
    counters: Counters | None = None,
    retry: Retry = QUICK,
    *,
    clock: Callable[[], float] = time.monotonic,
    wall: Callable[[], float] = time.time,
) -> Attempts:
    """Return what makes attempts, without jitter."""
    return Attempts(
        Context(settings(retry=retry), counters or Counters(), clock, wall, lambda: 0.5),
        Store() if store is None else store,
    )


def delivery_of(*reports: Report) -> Delivery:
    """Return the delivery of some reports of one call."""
    return Delivery(reports[0].simulation_result_id, reports={report.report_id: report for report in reports})


def adopted(spool: Spool, identity: str) -> Delivery:
    """Return the delivery of what an earlier process left of a call."""
    found = [one for one in spool.recover() if one.simulation_result_id == identity]
    return Delivery(identity, fresh=False, adopted={one.report_id for one in found})


def until_settled(work: Attempts, delivery: Delivery, script: Script, most: int = 50) -> Decision:
    """Make attempts, without the waits between them, until the call is settled."""
    for _ in range(most):
        decision = work.attempt(delivery, script)
        if decision.wait is None:
            return decision
    raise AssertionError("it is not settled")


def decided(outcome: Answer | Failure, attempts: int = 1, *, cut: bool = False, accepted: bool = False) -> Decision:
    """Return what follows a POST, without jitter."""
    history = History(attempts=attempts, cut=cut)
    return decide(outcome, history, QUICK, now=1000.0, jitter=0.5, others_accepted=accepted)


def seen(outcome: Answer | Failure, report_id: str, sent: bytes) -> Sight:
    """Return what a look shows of one report."""
    return read_result(outcome, [(report_id, sent)])[report_id]


def only(directory: Path) -> Path:
    """Return the only file."""
    (path,) = files(directory)
    return path


def path_of(spool: Spool, name: Name) -> Path:
    """Return where a file of the spool is."""
    return next(path for path in files(spool.directory) if path.name == str(name))


def locked(spool: Spool, name: Name) -> LockedFile:
    """Return a file of the spool with its lock held."""
    return spool.locked(str(path_of(spool, name).parent), name)


def move(spool: Spool, report: Report, state: str, **note: object) -> Name:
    """Give a ready report another state."""
    with locked(spool, Name(report.simulation_result_id, report.report_id, READY)) as file:
        if note:
            file.note(**note)
        file.move(state)
        return file.name
