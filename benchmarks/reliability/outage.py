"""A platform that is away for an hour or a day: the real queue, attempts and spool on a clock that is moved by hand.

The threads only carry what `Queue` decides; here one thread does what the scheduler and a worker do, and where
they would sleep the clock is moved. So a day passes in seconds, and each request has an exact time.
"""

from __future__ import annotations

import gc
import json
import random
import resource
import tempfile
import tracemalloc
from bisect import bisect_right
from collections import Counter
from collections.abc import Callable
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from itertools import cycle
from math import inf
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from benchmarks.reliability.account import Account, take_account
from benchmarks.reliability.records import TOOL, values
from benchmarks.reliability.stage import ID_HEADER
from bluejay_ws import Bluejay
from bluejay_ws.client import Seam
from bluejay_ws.delivery.attempt import Context
from bluejay_ws.delivery.outcomes import Answer, Failure, Phase
from bluejay_ws.delivery.queue import Item, Queue
from bluejay_ws.delivery.spool import Spool
from bluejay_ws.testing.platform import AcceptedReport

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from bluejay_ws.delivery.store import Report, Store
    from bluejay_ws.settings import Settings
    from bluejay_ws.stats import Counters

__all__ = ["BUSY", "HOUR", "KINDS", "REFUSED", "Outage", "Seen", "run"]

HOUR = 3600.0
EXCHANGE = 0.02  # seconds that an exchange takes while all is well
TIDY_EVERY = 30.0
EPOCH = 1_790_000_000.0
STEPS = 2
FRESH = 5
"""Calls that end, one each second, when the platform is back; how long they take is what liveness means."""


@dataclass
class Seen:
    """What the platform saw of an outage.

    Attributes:
        attempts: monotonic seconds of each request while it was away.
        accepted_at: monotonic seconds of each accepted report after its return.
        waiting_bytes: memory, when all calls waited and again just before the return.
    """

    attempts: list[float] = field(default_factory=list)
    accepted_at: list[float] = field(default_factory=list)
    waiting_bytes: tuple[int, int] = (0, 0)
    back_at: float = 0.0

    @property
    def most_in_a_second(self) -> int:
        """Return how many reports the platform took in one second at the most: a ramp, or a wave."""
        times = self.accepted_at
        return max((bisect_right(times, at + 1.0) - number for number, at in enumerate(times)), default=0)

    @property
    def in_first_seconds(self) -> list[int]:
        """Return how many came in each of the first five seconds after the platform was noticed to be back."""
        first = self.accepted_at[0] if self.accepted_at else 0.0
        counts = Counter(int(at - first) for at in self.accepted_at)
        return [counts[second] for second in range(5)]

    @property
    def drained_after(self) -> float:
        """Return the seconds from the return of the platform to the last of the reports."""
        return self.accepted_at[-1] - self.back_at if self.accepted_at else 0.0


@dataclass(frozen=True)
class Taken:
    """The platform takes the report in, and the client hears something else."""

    answer: Failure | Answer


Trouble = Failure | Answer | Taken
Away = Callable[[float, bool], Trouble | None]


class _Line:
    """An exchange with a platform that is away when ``away`` says so."""

    def __init__(self, outage: Outage, away: Away) -> None:
        self._outage = outage
        self._away = away
        self.accepted: list[AcceptedReport] = []

    def post(self, body: bytes) -> Answer | Failure:
        trouble = self._trouble(read=False)
        if isinstance(trouble, Taken):
            self._take(body)
            return trouble.answer
        if trouble is not None:
            return trouble
        self._take(body)
        return Answer(200, b'{"status": "success", "message": null}')

    def _take(self, body: bytes) -> None:
        now = self._outage.now
        identity = json.loads(body)["simulation_result_id"]
        self.accepted.append(AcceptedReport(identity, body, now))
        self._outage.seen.accepted_at.append(now)

    def look(self, simulation_result_id: str) -> Answer | Failure:
        trouble = self._trouble(read=True)
        if trouble is not None:
            return trouble.answer if isinstance(trouble, Taken) else trouble
        found = [json.loads(one.body) for one in self.accepted if one.simulation_result_id == simulation_result_id]
        events = [event for report in found for event in report["events"]]
        return Answer(200, json.dumps({"simulation_result": {"events": events, "tool_calls": []}}).encode())

    def abort_if_late(self, now: float) -> None:
        """Do nothing: no exchange takes time."""

    def close(self) -> None:
        """Do nothing."""

    def _trouble(self, *, read: bool) -> Trouble | None:
        self._outage.now += EXCHANGE
        trouble = self._away(self._outage.now, read)
        if trouble is not None:
            self._outage.seen.attempts.append(self._outage.now)
        return trouble


class Outage:
    """A process whose calls end while the platform is away.

    Args:
        directory: of its spool.
        seed: of the jitter.
        away: the trouble that a request meets at that time, told whether it only reads; None: all is well.
    """

    def __init__(self, directory: Path, seed: int, away: Away) -> None:
        self.now = 1000.0
        self.seen = Seen()
        self.line = _Line(self, away)
        self.records: dict[str, int] = {}
        self._dice = random.Random(seed)
        self._tidied_at = self.now
        seam = Seam(clock=lambda: int(self.now * 1e9), sender=self._sender)
        self.client = Bluejay._with("test-key", base_url="http://127.0.0.1:1", spool=directory, seam=seam)

    def _sender(self, settings: Settings, spool: Store | None, counters: Counters) -> Any:
        assert isinstance(spool, Spool)
        self.spool = spool
        self.queue = Queue(
            Context(settings, counters, lambda: self.now, lambda: EPOCH + self.now, self._dice.random),
            spool,
        )
        return _Hands(self.queue)

    def call(self) -> None:
        """Have one call, from its handshake to its end."""
        identity = f"call-{len(self.records)}"
        with self.client.call({ID_HEADER: identity}) as recorder:
            for number in range(STEPS):
                parameters, output = values(identity, number)
                recorder.add_tool_call(TOOL, parameters=parameters, output=output, start_offset_ms=number)
        self.records[identity] = STEPS

    def pass_until(self, end: float) -> None:
        """Let the time pass, doing what is due; until then, or until nothing is left to do."""
        while self.now < end and self.queue.pending:
            self._take_in()
            deliveries, wait = self.queue.due(2)
            for delivery in deliveries:
                self.queue.handle(delivery, self.line)
            if not deliveries:
                self.now = min(end, self.now + max(0.001, min(wait, TIDY_EVERY)))
            self._tidy()

    def _take_in(self) -> None:
        while not self.queue.inbox.empty():
            item = cast("Item", self.queue.inbox.get())
            self.queue.handle(item, self.line)

    def _tidy(self) -> None:
        if self.now - self._tidied_at >= HOUR:
            self._tidied_at = self.now
            self.spool.tidy()

    def memory(self) -> int:
        """Return the bytes in use: of Python objects, what this file itself remembers left out, if they are traced."""
        gc.collect()
        if not tracemalloc.is_tracing():
            return int(Path("/proc/self/statm").read_text("ascii").split()[1]) * resource.getpagesize()
        own = tracemalloc.Filter(inclusive=False, filename_pattern=__file__)
        shot = tracemalloc.take_snapshot().filter_traces([own])
        return sum(one.size for one in shot.statistics("filename"))


class _Hands:
    """What a client needs of its sender: here nothing happens by itself."""

    def __init__(self, queue: Queue) -> None:
        self._queue = queue

    def start(self) -> None:
        """Start nothing."""

    def end(self, report_id: str, ending: Callable[[], None]) -> None:
        del report_id
        ending()

    def submit(self, report: Report) -> None:
        self._queue.put(report)

    def pending(self) -> int:
        return self._queue.pending

    def close(self, timeout: float) -> bool:
        del timeout
        return not self._queue.pending

    def let_go(self) -> None:
        """Have nothing to end."""

    def reset_after_fork(self) -> None:
        """Have nothing to forget."""


REFUSED = Failure(Phase.NOT_SENT, "connect_error")
BUSY = Answer(503, b"", None)
LOST = Failure(Phase.UNKNOWN, "read_timeout")
_PAGE = b"<html>Bad gateway</html>"
_WELL = (None,)

KINDS: dict[str, tuple[Sequence[Trouble | None], Sequence[Trouble | None]]] = {
    "refuses connections": ((REFUSED,), (REFUSED,)),
    "no name, no route": ((Failure(Phase.NOT_SENT, "dns_error"),), (Failure(Phase.NOT_SENT, "dns_error"),)),
    "cuts the request off": ((Failure(Phase.BODY_INCOMPLETE, "write_error"),), (LOST,)),
    "hangs": ((LOST,), (LOST,)),
    "takes reports in and hangs": ((Taken(LOST),), (LOST,)),
    "takes reports in, answers 502": ((Taken(Answer(502, _PAGE)),), (Answer(502, _PAGE),)),
    "answers 500": ((Answer(500),), (Answer(500),)),
    "answers 503": ((BUSY,), (BUSY,)),
    "answers 503, results can be read": ((BUSY,), _WELL),
    "answers 504 to half of all": ((Answer(504, _PAGE), None), _WELL),
    "takes half of those in that it answers with 504": ((Answer(504), Taken(Answer(504)), None), _WELL),
    "answers 200 with a page": ((Answer(200, _PAGE),), (Answer(200, _PAGE),)),
    "redirects": ((Answer(302),), (Answer(302),)),
    "answers 400 with a page": ((Answer(400, _PAGE),), (Answer(400, _PAGE),)),
    "answers 404 with a page": ((Answer(404, _PAGE),), (Answer(404, _PAGE),)),
    "answers 405": ((Answer(405),), (Answer(405),)),
    "answers 501": ((Answer(501),), (Answer(501),)),
    "refuses the key, 401": ((Answer(401),), (Answer(401),)),
    "refuses the key, 403": ((Answer(403),), (Answer(403),)),
    "lets no result be read, 403": ((BUSY,), (Answer(403),)),
    "asks to wait, 429": ((Answer(429, retry_after=5.0),), (Answer(429, retry_after=5.0),)),
    "has a bad certificate": (
        (Failure(Phase.CERTIFICATE, "certificate"),),
        (Failure(Phase.CERTIFICATE, "certificate"),),
    ),
}
"""Kinds of outage: what a POST meets, in turns, and what reading a result meets."""


def run(
    seconds: float,
    calls: int,
    seed: int,
    troubles: Sequence[Trouble | None] = (REFUSED,),
    *,
    reads: Sequence[Trouble | None] | None = None,
    measured: bool = False,
    traced: bool = False,
) -> tuple[Account, Seen]:
    """Let so many calls end during the first half of an outage; then let the platform come back for good.

    Args:
        seconds: how long it is away.
        calls: how many calls end meanwhile.
        seed: of the jitter.
        troubles: what requests meet, in turns; a flapping platform has a None among them.
        reads: what reading a result meets, in turns; default: the same.
        measured: whether to measure the memory of the process, which takes a while.
        traced: whether to measure that of Python objects in place of it, which takes long.

    Returns:
        The account, and what the platform saw.
    """
    with tempfile.TemporaryDirectory(prefix="bluejay_ws-") as directory:
        back_at = 1000.0 + seconds
        turns = cycle(troubles)
        read_turns = turns if reads is None else cycle(reads)
        outage = Outage(
            Path(directory, "spool"),
            seed,
            lambda now, read: None if now >= back_at else next(read_turns if read else turns),
        )
        with _tracing() if traced else nullcontext():
            _ends_while_away(outage, calls, seconds, back_at, measured=measured or traced)
        outage.seen.back_at = back_at
        fresh = [_fresh_call(outage) for _ in range(FRESH)]
        outage.pass_until(back_at + 2 * HOUR)
        outage.client.close()
        account = take_account(outage.records, outage.line.accepted, outage.spool.directory)
        accepted = {one.simulation_result_id: one.received_at for one in outage.line.accepted}
        account.slowest = max(accepted.get(identity, inf) - ended for identity, ended in fresh)
        return account, outage.seen


@contextmanager
def _tracing() -> Iterator[None]:
    tracemalloc.start()
    try:
        yield
    finally:
        tracemalloc.stop()


def _fresh_call(outage: Outage) -> tuple[str, float]:
    """Have a call after the platform's return, and a second pass; return its id and when it ended."""
    outage.call()
    ended = outage.now
    outage.pass_until(ended + 1.0)
    outage.now = max(outage.now, ended + 1.0)
    return f"call-{len(outage.records) - 1}", ended


def _ends_while_away(outage: Outage, calls: int, seconds: float, back_at: float, *, measured: bool) -> None:
    start = outage.now
    for number in range(calls):
        outage.pass_until(start + seconds / 2 * number / calls)
        outage.now = max(outage.now, start + seconds / 2 * number / calls)
        outage.call()
    outage.pass_until(outage.now + 1.0)
    first = outage.memory() if measured else 0
    outage.pass_until(back_at)
    outage.now = max(outage.now, back_at)
    outage.seen.waiting_bytes = (first, outage.memory() if measured else 0)
