"""An agent's side of a fleet: what is recorded goes to a local file first, and from there into the database.

The agent's loop knows nothing of the database. A thread reads what the files have gained, five times a second and at
once when a call ends, and hands it in, many calls in one transaction. While the database is away the files go on, and
it catches up. A pod whose disk dies with it loses what it recorded since the last round: less than a second.
"""

# ruff: noqa: PTH108 - plain strings: a Path costs more than the system call
from __future__ import annotations

import contextlib
import logging
import os
import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from bluejay_ws.delivery.attempt import chance
from bluejay_ws.delivery.files import reason_of
from bluejay_ws.delivery.postgres import Outbox, Piece, shown
from bluejay_ws.delivery.sender import BaseSender, preload
from bluejay_ws.exceptions import BluejayError
from bluejay_ws.log import say, say_seldom
from bluejay_ws.stats import started
from bluejay_ws.wire import journal

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from bluejay_ws.delivery.spool import Spool
    from bluejay_ws.delivery.store import Report
    from bluejay_ws.stats import Counters

ROUND = 0.2
ALIVE_EVERY = 1.0
LEFTOVERS_EVERY = 5.0
UNTOUCHED = 5.0
GATHER, GATHER_MOST = 0.02, 0.05
POLL = 0.01
FIRST_PAUSE, LONGEST_PAUSE = 0.25, 5.0
PIECE_LIMIT = 4 * 1024 * 1024
BATCH_LIMIT = 8 * 1024 * 1024
BATCH_PIECES = 500

_READ = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW


@dataclass(slots=True)
class Local:
    """A report on this machine that is on its way into the database.

    Args:
        report_id: of the connection that is recorded.
        identity: the simulation result id.
        paths: where its file may be, the last one once it is sealed; none where there is no file.
        end: empty while its call goes on, then how it ended; see `Piece`.
        data: the journal of a report in memory, in place of whatever its file had brought.
        received: how many bytes the database has, as far as we know.
        withdrawn: whether the database is to forget those first.
        left: whether a process that died has left it.
    """

    report_id: str
    identity: str
    paths: tuple[str, ...] = ()
    end: str = ""
    data: bytes | None = None
    received: int = 0
    withdrawn: bool = False
    left: bool = False

    def piece(self, body: bytes, end: str) -> Piece:
        """Return what comes next."""
        return Piece(self.report_id, self.identity, self.received, body, end)


class Handover:
    """Bring what is recorded into the database, one round after the other. For one thread.

    Args:
        outbox: the database.
        spool: where the files are; None: reports come from memory only.
        counters: where everything is counted.
    """

    def __init__(self, outbox: Outbox, spool: Spool | None, counters: Counters) -> None:
        self._outbox = outbox
        self._spool = spool
        self._reports: dict[str, Local] = {}  # what the database does not have whole yet, by report id
        self._counters = counters
        self._ended: dict[str, None] = {}
        self._checked = False
        self._left_at = self._looked_at = self._heard_at = float("-inf")
        self.waiting: set[str] = set()
        """Report ids of calls that have ended and are not in the database yet."""
        self.news = threading.Event()
        """Set when a call has ended."""

    @property
    def idle(self) -> bool:
        """Whether the database has everything that was recorded here."""
        return not self.waiting and not self._reports and not (self._spool and self._spool.live())

    def expect(self, report_id: str) -> None:
        """Note that a call is about to end; as all that follows, from any thread."""
        self.waiting.add(report_id)

    def put(self, report: Report) -> None:
        """Note that a call has ended."""
        local = self._reports.get(report.report_id)
        if local is None:
            local = self._own(report.report_id, report.simulation_result_id)
        if report.bodies is not None:
            local.data = b"".join(map(journal.line, report.bodies))
        local.end = "sealed"
        self._ended[report.report_id] = None
        self.waiting.add(report.report_id)
        self.news.set()

    def _own(self, report_id: str, identity: str) -> Local:
        """Take a report of this process in."""
        paths = () if self._spool is None else self._spool.paths_of(identity, report_id)
        return self._reports.setdefault(report_id, Local(report_id, identity, paths))

    def withdraw(self, report_id: str) -> None:
        """Note that nothing is to come of a call."""
        self.waiting.discard(report_id)

    @property
    def pending(self) -> int:
        """How many calls have ended, or are about to, and are not in the database yet."""
        return len(self.waiting)

    @property
    def unsaved(self) -> int:
        """How many of them have no local file."""
        return sum(local.data is not None for local in list(self._reports.values()))

    def due_in(self) -> float:
        """Return in how many seconds the calls that go on are to be looked at."""
        return max(0.0, self._looked_at + ROUND - time.monotonic())

    def round(self) -> None:
        """Hand in everything that is new, in as many transactions as it takes.

        Calls that go on are looked at each `ROUND`; between that, only those that have ended.

        Raises:
            SpoolError: the database took only some of it, or nothing.
        """
        if not self._checked:
            self._outbox.check()
            self._checked = True
        everything = not self.due_in()
        if everything:
            self._looked_at = time.monotonic()
            for report_id, identity in self._spool.live() if self._spool else ():
                if report_id not in self._reports:
                    self._own(report_id, identity)
            self._look_for_leftovers()
        found = [self._reports.get(report_id) for report_id in list(self._reports if everything else self._ended)]
        for batch in _batches(piece for local in found if local is not None and (piece := self._next(local))):
            self._push(batch)
        if self._reports and time.monotonic() - self._heard_at >= ALIVE_EVERY:
            self._push([])  # calls go on: say that this process lives

    def _look_for_leftovers(self) -> None:
        if self._spool is not None and time.monotonic() - self._left_at >= LEFTOVERS_EVERY:
            untouched = 0.0 if self._left_at == float("-inf") else UNTOUCHED
            self._left_at = time.monotonic()
            for found in self._spool.recover(untouched=untouched):
                identity, report_id = found.simulation_result_id, found.report_id
                if report_id not in self._reports:
                    paths = self._spool.paths_of(identity, report_id, left=True)
                    self._reports[report_id] = Local(report_id, identity, paths, "lost", left=True)

    # -- what is new --------------------------------------------------------------------------------------------

    def _next(self, local: Local) -> Piece | None:
        """Return what the database is to get of a report now."""
        if local.data is not None and local.paths:  # no byte of the file belongs to it any more
            local.paths, local.withdrawn = (), local.received > 0
        if local.withdrawn:
            return local.piece(b"", "gone")
        if local.data is not None:
            return _cut(local, local.data[local.received : local.received + PIECE_LIMIT], local.end)
        return self._from_file(local) if local.paths else local.piece(b"", local.end)

    def _from_file(self, local: Local) -> Piece | None:
        """Read what the file has gained, under the name that it has by now."""
        end = local.end  # before it is read: where that is set, nothing more is written
        for path in local.paths[::-1] if end else local.paths:
            try:
                if not end and os.lstat(path).st_size <= local.received:
                    return None
                return _cut(local, _read(path, local.received), end)
            except FileNotFoundError:
                continue
            except OSError as error:
                self._counters.add(f"spool.read_{reason_of(error)}")
                return None
        return self._missing(local)

    def _missing(self, local: Local) -> Piece | None:
        """Return what to say of a report whose file is nowhere.

        A process of this machine may have handed it over that took this one for dead, as where somebody removed its
        lock: only what its own call has withdrawn is deleted in the database.
        """
        ended = local.report_id in self._ended
        on = self._spool is not None and any(report_id == local.report_id for report_id, _ in self._spool.live())
        if not ended and (on or local.report_id in self.waiting):
            return None  # it goes on in memory, or is about to end
        if ended:
            self._counters.add("dropped.file_removed")
            text = "call %s: report %s: its file is gone: removed, or handed over by another process (it was %s)"
            args = (local.identity, local.report_id, local.paths[-1])
            say(self._counters, logging.WARNING, text, *args, simulation_result_id=local.identity)
        if not local.received or local.left:
            self._forget(local.report_id)
            return None
        local.paths, local.end, local.withdrawn = (), "lost", not ended
        return self._next(local)

    # -- into the database --------------------------------------------------------------------------------------

    def _push(self, batch: list[Piece]) -> None:
        answer = self._outbox.push(batch)
        self._heard_at = time.monotonic()
        for piece in batch:
            self._acknowledge(self._reports[piece.report_id], piece, *answer.get(piece.report_id, (0, "live")))

    def _acknowledge(self, local: Local, piece: Piece, received: int, state: str) -> None:
        if piece.end == "gone":
            local.withdrawn, local.received = False, 0
            if local.data is None:
                self._forget(local.report_id)
            return
        if received < piece.start:
            self._counters.add("outbox.forgotten")  # a failover to a server that was behind: it gets them again
        local.received = received
        if state == "late":
            self._say_late(local.identity)
        if piece.end and received >= piece.start + len(piece.body) and state != "live":
            self._settled(local)

    def _settled(self, local: Local) -> None:
        """Remove what is safe in the database."""
        if local.paths and local.data is None:
            with contextlib.suppress(OSError):
                os.unlink(local.paths[-1])
        if local.paths or local.data is not None:
            self._counters.add("handed_over")
        self._forget(local.report_id)

    def _forget(self, report_id: str) -> None:
        self._reports.pop(report_id, None)
        self._ended.pop(report_id, None)
        self.waiting.discard(report_id)

    def _say_late(self, identity: str) -> None:
        self._counters.add("outbox.late_pieces")
        text = (
            "call %s: this process was taken for dead, its report left without what came later; see bluejay-ws outbox"
        )
        say_seldom(self._counters, logging.ERROR, text, identity, simulation_result_id=identity)


def _read(path: str, start: int) -> bytes:
    fd = os.open(path, _READ)
    try:
        return os.pread(fd, PIECE_LIMIT, start)
    finally:
        os.close(fd)


def _cut(local: Local, body: bytes, end: str) -> Piece | None:
    """Return the next piece of a report: its last one, if it is shorter than it may be."""
    end = end if len(body) < PIECE_LIMIT else ""
    return local.piece(body, end) if body or end else None


def _batches(pieces: Iterable[Piece]) -> Iterator[list[Piece]]:
    batch: list[Piece] = []
    size = 0
    for piece in pieces:
        batch.append(piece)
        size += len(piece.body)
        if size >= BATCH_LIMIT or len(batch) >= BATCH_PIECES:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


class FleetSender(BaseSender):
    """Take reports over and bring them into the database; the sender of a client whose spool is a PostgreSQL URL.

    Args:
        url: of the database.
        destination: the platform that calls are recorded for.
        spool: where the local files are; None keeps them in memory until they are handed over.
        counters: where everything is counted.
        flush_timeout: seconds that the end of the process may wait.
    """

    def __init__(
        self,
        url: str,
        destination: str,
        *,
        spool: Spool | None,
        counters: Counters,
        flush_timeout: float = 10.0,
    ) -> None:
        self._url = url
        self._destination = destination
        self._spool = spool
        super().__init__(counters, flush_timeout)

    def _set_up(self) -> None:
        super()._set_up()
        self._outbox = Outbox(self._url, self._destination)
        self._inbox = self._handover = Handover(self._outbox, self._spool, self._counters)
        self._stop = threading.Event()
        self._working = threading.Lock()
        self._thread: threading.Thread | None = None

    def _runs(self) -> bool:
        return self._thread is not None and self._thread.is_alive()

    def _start_work(self) -> bool:
        self._stop = threading.Event()  # one that a close no longer waited for keeps its own, and ends
        thread = threading.Thread(target=self._work, args=[self._stop], name="bluejay_ws-handover", daemon=True)
        if started(thread, self._counters):
            self._thread = thread
        return self._thread is thread

    def flush(self, timeout: float) -> bool:
        """Wait until every report of an ended call is in the database: from there any deliverer delivers it."""
        until = self._clock() + timeout
        if self.pending() and not self._start_threads() and not self._runs():
            self._work_here(until)
        while self.pending() and self._clock() < until:
            self._handover.news.set()
            time.sleep(POLL)
        return not self.pending()

    def _work_here(self, until: float) -> None:
        if self._working.acquire(timeout=max(0.0, until - self._clock())):
            try:
                while self.pending() and self._clock() < until:
                    self._round(0.0)
                    time.sleep(POLL)
            finally:
                self._working.release()

    def _stop_work(self, until: float) -> None:
        """Say goodbye to the fleet, and end the thread."""
        self._stop.set()
        self._handover.news.set()
        thread, self._thread = self._thread, None
        if thread is not None and thread is not threading.current_thread():
            thread.join(max(0.1, until - self._clock()))
        place = "" if self._spool is None else self._spool.place
        self._say_what_is_left("not handed over to the database", self._handover.unsaved, place)

    def reset_after_fork(self) -> None:
        """Own nothing in a forked child: connection, threads and files are the parent's."""
        self._outbox.link.forget()
        if self._spool is not None:
            self._spool.reset_after_fork()
        super().reset_after_fork()

    # -- inside -------------------------------------------------------------------------------------------------

    def _start_what_is_missing(self) -> None:
        """Start the threads that could not be started before, unless this one is about to end."""
        if self._thread is threading.current_thread():
            self._finisher.start()
            self._start_exit_watch()

    def _work(self, stop: threading.Event) -> None:
        with self._working:  # perhaps after the round of a thread that hung in it when it was to end
            self._rounds(stop)
            with contextlib.suppress(BluejayError):
                if self._handover.idle:
                    self._outbox.leave()
            self._outbox.link.close()

    def _rounds(self, stop: threading.Event) -> None:
        pause = 0.0
        while not stop.is_set():
            self._start_what_is_missing()
            if pause and stop.wait(pause):
                break
            self._handover.news.wait(0.0 if pause else self._handover.due_in())
            self._handover.news.clear()
            began = time.monotonic()
            pause = self._round(pause)
            if not pause:  # many that end at once go in together; the more, the longer a round takes
                stop.wait(min(GATHER_MOST, max(GATHER, time.monotonic() - began)))
            if self._orphaned and not self._handover.waiting:
                break

    def _round(self, pause: float) -> float:
        """Do one round; return the seconds to pause after a failure, else 0."""
        try:
            preload(self._url)  # nothing to do, unless the client was made on a running loop
            self._handover.round()
        except BluejayError as error:
            self._counters.add("errors.outbox")
            text = "%s; calls go on in local files, and are handed over when it is back"
            say_seldom(self._counters, logging.WARNING, text, error)
        except Exception as error:  # noqa: BLE001 - the thread must not end: it is counted, and tried again
            self._counters.add(f"errors.handover.{type(error).__name__}")
        else:
            if pause:
                say(self._counters, logging.INFO, "%s is back", shown(self._url))
            return 0.0
        return min(LONGEST_PAUSE, max(FIRST_PAUSE, pause * 2)) * (0.5 + chance() / 2)

    def watch(self) -> None:
        """End a statement that hangs."""
        self._outbox.link.abort_if_late(time.monotonic())

    def _see_off(self) -> None:
        if self.pending():
            self.close(self._flush_timeout)
