"""An agent's side of a fleet: what is recorded goes to a local file first, and from there into the database.

The agent's loop knows nothing of the database. A thread reads what the files have gained, twice a second and at once
when a call ends, and hands it in, many calls in one transaction. While the database is away the files go on, and it
catches up. A pod whose disk dies with it loses what it recorded since the last round: less than a second.
"""

# ruff: noqa: PTH108 - plain strings: a Path costs more than the system call
from __future__ import annotations

import contextlib
import logging
import os
import random
import threading
import time
import weakref
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from bluejay_ws.delivery.names import LIVE, Name
from bluejay_ws.delivery.postgres import Outbox, Piece, shown
from bluejay_ws.delivery.spool import Spool
from bluejay_ws.delivery.workers import Budget, Finisher
from bluejay_ws.exceptions import BluejayError
from bluejay_ws.log import say, say_seldom
from bluejay_ws.wire import journal

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from bluejay_ws.delivery.livefile import LiveFile
    from bluejay_ws.delivery.store import Report
    from bluejay_ws.stats import Counters

__all__ = ["FleetSender", "Handover", "LocalSpool"]

_random = random.SystemRandom().random  # the process's own generator is not disturbed

ROUND = 0.5
LEFTOVERS_EVERY = 5.0
UNTOUCHED = 5.0
GATHER = 0.02
POLL = 0.01
GUARD_POLL = 0.5
FIRST_PAUSE, LONGEST_PAUSE = 0.25, 5.0
PIECE_LIMIT = 4 * 1024 * 1024
BATCH_LIMIT = 8 * 1024 * 1024
BATCH_PIECES = 500


class LocalSpool(Spool):
    """The spool of one process of a fleet: it knows which calls are its own, and leaves those of others to them."""

    def __init__(self, directory: Path, **options: Any) -> None:
        super().__init__(directory, owned=True, **options)
        self.own: set[str] = set()
        """Report ids of this process's calls; taken out when they have been handed over."""

    def open_call(self, *, report_id: str, simulation_result_id: str, header: bytes) -> LiveFile | None:
        """Do what `Spool.open_call` does, and remember the call."""
        file = super().open_call(report_id=report_id, simulation_result_id=simulation_result_id, header=header)
        if file is not None:
            self.own.add(report_id)
        return file

    def sealed(self, simulation_result_id: str, report_id: str) -> tuple[str, Name]:
        """Return directory and name of the file of a call of this process that has ended."""
        return self._directory_of(simulation_result_id), self._files.ready(simulation_result_id, report_id)


@dataclass(slots=True)
class _Sent:
    """What the database has of one report, as far as we know.

    Args:
        acknowledged: bytes.
        path: of its file; empty for a report in memory.
        size: of the whole journal; None while the call continues.
    """

    acknowledged: int = 0
    path: str = ""
    size: int | None = None


class Handover:
    """Bring what is recorded into the database, one round after the other. For one thread.

    Args:
        outbox: the database.
        spool: where the files are; None: reports come from memory only.
        counters: where everything is counted.
    """

    def __init__(self, outbox: Outbox, spool: LocalSpool | None, counters: Counters) -> None:
        self._outbox = outbox
        self._spool = spool
        self._directory = "" if spool is None else str(spool.directory)
        self._own: set[str] = set() if spool is None else spool.own
        self._counters = counters
        self._sent: dict[str, _Sent] = {}
        self._memory: dict[str, tuple[str, bytes]] = {}
        self._left: set[str] = set()
        self._left_at = float("-inf")
        self._looked_at = float("-inf")
        self._sealed: dict[str, tuple[str, Name]] = {}
        self._lock = threading.Lock()
        self.waiting: set[str] = set()
        """Report ids of calls that have ended and are not in the database yet."""
        self.checked = False

    def take(self, report: Report) -> None:
        """Note that a call has ended; from any thread."""
        if report.bodies is not None:
            data = b"".join(map(journal.line, report.bodies))
            with self._lock:
                self._memory[report.report_id] = (report.simulation_result_id, data)
        elif self._spool is not None:
            self._sealed[report.report_id] = self._spool.sealed(report.simulation_result_id, report.report_id)
        self.waiting.add(report.report_id)

    def drop(self, report_id: str) -> None:
        """Note that nothing is to come of a call."""
        self.waiting.discard(report_id)

    def round(self) -> None:
        """Hand in everything that is new, in as many transactions as it takes.

        Calls that go on are looked at twice a second; between that, only those that have ended.

        Raises:
            SpoolError: the database took only some of it, or nothing.
        """
        if not self.checked:
            self._outbox.check()
            self.checked = True
        now = time.monotonic()
        everything = now - self._looked_at >= ROUND
        if everything:
            self._looked_at = now
            self._look_for_leftovers()
        batch: list[Piece] = []
        size = 0
        for piece in self._pieces(everything=everything):
            batch.append(piece)
            size += len(piece.body)
            if size >= BATCH_LIMIT or len(batch) >= BATCH_PIECES:
                self._push(batch)
                batch, size = [], 0
        if batch or (everything and self._own):  # calls go on: say that this process lives
            self._push(batch)

    # -- what is new --------------------------------------------------------------------------------------------

    def _look_for_leftovers(self) -> None:
        """Adopt what processes of this machine left that died before they could hand it over."""
        spool, now = self._spool, time.monotonic()
        if spool is None or now - self._left_at < LEFTOVERS_EVERY:
            return
        untouched = 0.0 if self._left_at == float("-inf") else UNTOUCHED
        self._left_at = now
        self._left = {name.report_id for name in spool.recover(untouched=untouched)} - self._own

    def _pieces(self, *, everything: bool) -> Iterator[Piece]:
        with self._lock:
            memory = dict(self._memory)
        for report_id, (identity, data) in memory.items():
            yield from self._from_memory(report_id, identity, data)
        sealed = list(self._sealed.items())
        for _, (directory, name) in sealed:
            yield from self._from_sealed(directory, name)
        if everything:
            yield from self._all_others({*memory, *dict(sealed)})

    def _from_sealed(self, directory: str, name: Name) -> Iterator[Piece]:
        """Read the file of a call that has ended; its place is known."""
        pieces = list(self._from_file(directory, name))
        if not pieces and not os.path.lexists(f"{directory}/{name}"):
            pieces = self._removed(name.report_id, name.identity)
        yield from pieces

    def _removed(self, report_id: str, identity: str) -> list[Piece]:
        """Wait no longer for a report whose file has gone.

        A process of this machine may have handed it over that took this one for dead, as where somebody removed its
        lock: what the database has of the report is never deleted.
        """
        self._counters.add("dropped.file_removed")
        text = "call %s: report %s is not in %s: its file is gone: removed, or handed over by another process"
        say(self._counters, logging.WARNING, text, identity, report_id, self._directory, simulation_result_id=identity)
        sent = self._forget(report_id)
        return [Piece(report_id, identity, sent.acknowledged, b"", "lost")] if sent and sent.acknowledged else []

    def _all_others(self, seen: set[str]) -> Iterator[Piece]:
        """Look at every other file of this process, wherever it is by now."""
        for directory, name in self._names():
            if name.report_id not in seen:
                seen.add(name.report_id)
                yield from self._from_file(directory, name)
        yield from self._gone(self._own - seen)

    def _names(self) -> list[tuple[str, Name]]:
        """Return where the files are; the directories are listed only where one of them is new or was renamed."""
        if self._spool is None:
            return []
        known = self._own | self._left
        found = [place for place in map(self._last_place, known) if place is not None]
        if len(found) == len(known):
            return found
        return [(directory, name) for directory, name in self._spool.everything() if name.report_id in known]

    def _last_place(self, report_id: str) -> tuple[str, Name] | None:
        """Return directory and name of a file that is still where the round before found it."""
        sent = self._sent.get(report_id)
        if sent is None or not sent.path or not os.path.exists(sent.path):  # noqa: PTH110 - as above
            return None
        directory, _, text = sent.path.rpartition("/")
        name = Name.parse(text)
        return None if name is None else (directory, name)

    def _from_file(self, directory: str, name: Name) -> Iterator[Piece]:
        """Read what the file has gained."""
        sent = self._sent.setdefault(name.report_id, _Sent())
        sent.path = f"{directory}/{name}"
        try:
            fd = os.open(sent.path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
        except OSError:
            return  # renamed since it was listed: the next round has it
        try:
            size = os.fstat(fd).st_size
            body = os.pread(fd, PIECE_LIMIT, sent.acknowledged)
        except OSError as error:
            self._counters.add(f"spool.read_{type(error).__name__}")
            return
        finally:
            os.close(fd)
        over = name.state != LIVE
        sent.size = size if over else None
        end = ("lost" if name.report_id in self._left else "sealed") if over else ""
        if body or over:
            whole = sent.acknowledged + len(body) >= size
            yield Piece(name.report_id, name.identity, sent.acknowledged, body, end if whole else "")

    def _from_memory(self, report_id: str, identity: str, data: bytes) -> Iterator[Piece]:
        """Hand in a report that has no file any more: from its beginning, in place of what the file had brought."""
        sent = self._sent.setdefault(report_id, _Sent())
        if sent.path:
            yield Piece(report_id, "", sent.acknowledged, b"", "gone")
            self._sent[report_id] = _Sent()
            return
        sent.size = len(data)
        body = data[sent.acknowledged : sent.acknowledged + PIECE_LIMIT]
        end = "sealed" if sent.acknowledged + len(body) >= len(data) else ""
        yield Piece(report_id, identity, sent.acknowledged, body, end)

    def _gone(self, report_ids: set[str]) -> Iterator[Piece]:
        """Drop calls whose file was removed: nothing of them is to be sent."""
        missing = report_ids - self.waiting
        if missing and self._spool is not None:  # once more, for all: some may have been renamed while it was listed
            missing -= {name.report_id for _, name in self._spool.everything()}
        for report_id in missing:
            self._own.discard(report_id)
            sent = self._sent.pop(report_id, None)
            if sent is not None and sent.acknowledged:
                yield Piece(report_id, "", sent.acknowledged, b"", "gone")

    # -- into the database --------------------------------------------------------------------------------------

    def _push(self, batch: list[Piece]) -> None:
        answer = self._outbox.push(batch)
        for piece in batch:
            if piece.end != "gone":
                self._acknowledge(piece, *answer.get(piece.report_id, (0, "live")))

    def _acknowledge(self, piece: Piece, received: int, state: str) -> None:
        sent = self._sent.get(piece.report_id)
        if sent is None:
            return
        if received < piece.start:
            self._counters.add("outbox.forgotten")  # a failover to a server that was behind: it gets them again
        sent.acknowledged = received
        if state == "late":
            self._tell_late(piece)
        if sent.size is not None and received >= sent.size and state != "live":
            self._settled(piece.report_id, sent)

    def _settled(self, report_id: str, sent: _Sent) -> None:
        """Remove what is safe in the database."""
        if sent.path:
            with contextlib.suppress(OSError):
                os.unlink(sent.path)
        self._forget(report_id)
        self._counters.add("handed_over")

    def _forget(self, report_id: str) -> _Sent | None:
        with self._lock:
            self._memory.pop(report_id, None)
        self._own.discard(report_id)
        self._left.discard(report_id)
        self._sealed.pop(report_id, None)
        self.waiting.discard(report_id)
        return self._sent.pop(report_id, None)

    def _tell_late(self, piece: Piece) -> None:
        self._counters.add("outbox.late_pieces")
        text = (
            "call %s: this process was taken for dead, its report left without what came later; see bluejay-ws outbox"
        )
        say_seldom(self._counters, logging.ERROR, text, piece.identity, simulation_result_id=piece.identity)


class FleetSender:
    """Take reports over and bring them into the database; the sender of a client whose spool is a PostgreSQL URL.

    Args:
        url: of the database.
        destination: the platform that calls are recorded for.
        spool: where the local files are; None keeps them in memory until they are handed over.
        counters: where everything is counted.
        flush_timeout: seconds that the end of the process may wait.
        clock: monotonic seconds.
    """

    def __init__(
        self,
        url: str,
        destination: str,
        *,
        spool: LocalSpool | None,
        counters: Counters,
        flush_timeout: float = 10.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._url = url
        self._destination = destination
        self._spool = spool
        self._counters = counters
        self._flush_timeout = flush_timeout
        self._clock = clock
        self._set_up()
        _senders.add(self)

    def _set_up(self) -> None:
        self._outbox = Outbox(self._url, self._destination)
        self._handover = Handover(self._outbox, self._spool, self._counters)
        self._finisher = Finisher(self._counters, self.withdraw)
        self._budget = Budget(self._flush_timeout, self._clock)
        self._lock = threading.Lock()
        self._wake = threading.Event()
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self._guarded = False
        self._endings_wait = False
        self._let_go = False
        self._failing = False

    # -- from the agent's loop ----------------------------------------------------------------------------------

    def start(self) -> None:
        """Start the threads, if they do not run: at the first recorded connection. Never raises."""
        self._budget.renew()
        self._start_threads()

    def _start_threads(self) -> None:
        with self._lock:
            if self._thread is not None and self._thread.is_alive():
                return
            self._stop.clear()
            thread = threading.Thread(target=self._work, name="bluejay_ws-handover", daemon=True)
            try:
                thread.start()
            except (RuntimeError, MemoryError):
                self._counters.add("errors.no_thread")
                return
            self._thread = thread
            self._start_guard()

    def submit(self, report: Report) -> None:
        """Take a report over. Never raises, and takes microseconds."""
        self._handover.take(report)
        if self._thread is None:
            self._start_threads()
        self._wake.set()

    def end(self, report_id: str, ending: Callable[[], None]) -> None:
        """Let a call that is over write its last lines, which call `submit` or `withdraw`."""
        self._handover.waiting.add(report_id)
        if not self._finisher.add(report_id, ending):
            self._endings_wait = True

    def withdraw(self, report_id: str) -> None:
        """Wait no longer for a report that `end` announced."""
        self._handover.drop(report_id)

    def pending(self) -> int:
        """Return how many reports of ended calls are not in the database yet."""
        return len(self._handover.waiting)

    # -- waiting and ending -------------------------------------------------------------------------------------

    def flush(self, timeout: float) -> bool:
        """Wait until every report of an ended call is in the database; return whether that is so.

        From there any deliverer of the fleet delivers it: `flush` does not wait for that.
        """
        return self._flush(self._clock() + timeout)

    def flush_at_end(self, timeout: float | None = None) -> bool:
        """Do what `flush` does as a part of the end of the process: all of that shares one ``flush_timeout``."""
        return self._flush(self._budget.until(self._flush_timeout if timeout is None else timeout))

    def _flush(self, until: float) -> bool:
        if self._handover.waiting:
            self._start_threads()
            self._start_finisher()
        while self._handover.waiting and self._clock() < until:
            self._wake.set()
            time.sleep(POLL)
        return not self._handover.waiting

    def close(self, timeout: float) -> bool:
        """Flush, say goodbye to the fleet, and end the threads. A later report starts them again.

        However often it is called, all closing and the end of the process share one budget of ``flush_timeout``,
        until another call is recorded.
        """
        until = self._budget.until(timeout)
        self._finisher.drain(max(0.0, until - self._clock()))
        done = self._flush(until)
        self._finisher.stop()
        self._stop.set()
        self._wake.set()
        thread, self._thread = self._thread, None
        if thread is not None and thread is not threading.current_thread():
            thread.join(max(0.1, until - self._clock()))
        if not done:
            text = "reports not handed over to the database: %s; their local files wait in %s for the next start"
            place = "memory only" if self._spool is None else self._spool.directory
            say(self._counters, logging.WARNING, text, len(self._handover.waiting), place)
        return done

    def let_go(self) -> None:
        """End the threads as soon as everything is handed over: nobody holds the client any more."""
        self._let_go = True

    def reset_after_fork(self) -> None:
        """Own nothing in a forked child: connection, threads and files are the parent's."""
        self._outbox.link.forget()
        if self._spool is not None:
            self._spool.reset_after_fork()
            self._spool.own.clear()
        self._set_up()

    # -- inside -------------------------------------------------------------------------------------------------

    def _start_guard(self) -> None:
        """Start the guard, if it does not run; under the lock. There is nothing to guard once the main thread ended."""
        if self._guarded or not threading.main_thread().is_alive():
            return
        self._guarded = True
        try:
            threading.Thread(target=self._guard, name="bluejay_ws-guard", daemon=False).start()
        except (RuntimeError, MemoryError):
            self._guarded = False
            self._counters.add("errors.no_thread")

    def _start_finisher(self) -> None:
        """Start the thread that ends calls, where that failed before."""
        if self._endings_wait and self._finisher.start():
            self._endings_wait = False

    def _start_what_is_missing(self) -> None:
        """Start the threads that could not be started before."""
        self._start_finisher()
        if not self._guarded:
            with self._lock:
                self._start_guard()

    def _work(self) -> None:
        pause = 0.0
        while not self._stop.is_set():
            self._start_what_is_missing()
            self._wake.wait(pause or ROUND)
            if pause and self._stop.wait(pause):
                break
            self._wake.clear()
            pause = self._round(pause)
            if not pause:
                self._stop.wait(GATHER)  # many that end at once go in together
            if self._let_go and not self._handover.waiting:
                break
        with contextlib.suppress(BluejayError):
            if not self._handover.waiting and not (self._spool is not None and self._spool.own):
                self._outbox.leave()
        self._outbox.link.close()

    def _round(self, pause: float) -> float:
        """Do one round; return the seconds to pause after a failure, else 0."""
        try:
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
        return min(LONGEST_PAUSE, max(FIRST_PAUSE, pause * 2)) * (0.5 + _random() / 2)

    def watch(self) -> None:
        """End a statement that hangs; called now and then by the guard."""
        self._outbox.link.abort_if_late(time.monotonic())

    def _guard(self) -> None:
        """Wait for the end of the main thread, then for the handing over, no longer than ``flush_timeout``."""
        main = threading.main_thread()
        while main.is_alive() and self._thread is not None and self._thread.is_alive():
            main.join(GUARD_POLL)
            self.watch()
        if self._handover.waiting and not main.is_alive():
            self.close(self._flush_timeout)
        self._guarded = False


_senders: weakref.WeakSet[FleetSender] = weakref.WeakSet()


def _after_fork_in_child() -> None:
    for sender in list(_senders):
        sender.reset_after_fork()


if hasattr(os, "register_at_fork"):  # pragma: no branch - it is on every system this runs on but Windows
    os.register_at_fork(after_in_child=_after_fork_in_child)
