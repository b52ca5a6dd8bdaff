"""`pytest -n 6` with workers that are forked after one collection.

A worker of pytest-xdist is a new interpreter. Each imports and collects all tests by itself, which takes five seconds,
and three times as long in a fresh checkout. Here the first process collects, and runs no test. It forks the workers,
which have all tests at once, and hands each one test after the other. A worker that dies fails the test that it ran,
and a new one takes its place. With its option ``--dist`` xdist still does it in its own way.
"""

from __future__ import annotations

import atexit
import contextlib
import itertools
import multiprocessing
import os
import sys
import threading
import traceback
from collections import deque
from multiprocessing.connection import Connection, wait
from typing import TYPE_CHECKING, Any

import pytest

from tests.watchdog import Watchdog

if TYPE_CHECKING:
    from collections.abc import Iterator

_forking = multiprocessing.get_context("fork")
SHARED = ("server", "browser")  # fixtures that take seconds to make: their tests come first, each kind in one worker
TOGETHER = 16  # other tests of a module that one worker runs in a row
ENDED = object()
PATIENCE = 30.0
"""Seconds that a worker may take for its end, after its last test."""


class Workers:
    """Run the tests in so many processes at once: this one hands them out, and hears the reports."""

    def __init__(self, count: int) -> None:
        self._names = (f"w{number}" for number in itertools.count())
        self._count = count
        self._batches: deque[deque[int]] = deque()
        self._workers: dict[Any, Worker] = {}

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtestloop(self, session: pytest.Session) -> bool | None:
        """Fork the workers and hear them out; pytest itself says what could not be collected, or lists it."""
        if session.config.option.collectonly or session.testsfailed:
            return None
        session.config._tmp_path_factory.getbasetemp()  # type: ignore[attr-defined] # one for all
        self._batches.extend(_batches(session.items))
        try:
            for _ in range(min(self._count, len(self._batches))):
                self._start(session)
            while self._workers:
                for pipe in wait(list(self._workers), 1.0) or self._dead():
                    self._hear(session, self._workers[pipe])
        finally:
            for worker in self._workers.values():
                worker.process.terminate()
        if session.shouldfail:
            raise session.Failed(session.shouldfail)
        if session.shouldstop:
            raise session.Interrupted(session.shouldstop)
        return True

    def _dead(self) -> list[Any]:
        """Find who has died while a process of its own holds its end of the pipe: nothing more is heard there."""
        dead = [pipe for pipe, worker in self._workers.items() if not worker.process.is_alive() and not pipe.poll()]
        for pipe in dead:
            self._workers[pipe].pipe.close()
        return dead

    def _start(self, session: pytest.Session) -> None:
        worker = Worker(next(self._names), session, self._batches.popleft(), list(self._workers))
        self._workers[worker.pipe] = worker

    def _hear(self, session: pytest.Session, worker: Worker) -> None:
        told = worker.heard()
        if told is ENDED:
            self._ended(session, worker)
        elif isinstance(told, dict):
            report = session.config.hook.pytest_report_from_serializable(config=session.config, data=told)
            worker.log(session, report)
        elif told is None:
            worker.running = None
        else:
            worker.running, worker.following = told, None
            if not (session.shouldfail or session.shouldstop):
                worker.following = self._next(worker)
            with contextlib.suppress(BrokenPipeError):  # it has died since, as the next reading tells
                worker.pipe.send(worker.following)

    def _next(self, worker: Worker) -> int | None:
        if not worker.batch and self._batches:
            worker.batch = self._batches.popleft()
        if worker.batch:
            return worker.batch.popleft()
        busiest = max(self._workers.values(), key=lambda other: len(other.batch))
        return busiest.batch.pop() if busiest.batch else None

    def _ended(self, session: pytest.Session, worker: Worker) -> None:
        del self._workers[worker.pipe]
        worker.pipe.close()
        worker.process.join()
        if worker.running is None:
            return
        item = session.items[worker.running]
        reason = f"the process of the worker ended in this test, with exit code {worker.process.exitcode}"
        worker.log(session, pytest.TestReport(item.nodeid, item.location, {}, "failed", reason, "call"))
        worker.batch.extendleft([] if worker.following is None else [worker.following])
        self._batches.extendleft([worker.batch] if worker.batch else [])
        if self._batches and not (session.shouldfail or session.shouldstop):
            self._start(session)


class Worker:
    """A forked process, as the first one sees it."""

    def __init__(self, name: str, session: pytest.Session, batch: deque[int], others: list[Connection]) -> None:
        self.id = name
        self.gateway = self  # there pytest looks for a worker's name when it reports, and here for what it is:
        self.workerinfo = {
            "id": name,
            "sysplatform": sys.platform,
            "version_info": sys.version_info,
            "executable": sys.executable,
        }
        self.running: int | None = batch.popleft()
        self.following: int | None = None
        self.batch = batch
        self.pipe, theirs = _forking.Pipe()
        self.process = _forking.Process(target=_work, args=(session, self.running, theirs, [*others, self.pipe], name))
        self.process.start()
        theirs.close()

    def heard(self) -> Any:
        """Return a report, the test that it runs now, None when it has run its last, or `ENDED`."""
        try:
            return self.pipe.recv()
        except (EOFError, OSError):  # OSError: it is closed
            return ENDED

    def log(self, session: pytest.Session, report: pytest.TestReport) -> None:
        """Have pytest take a report as one from this worker."""
        report.node = self  # type: ignore[attr-defined]
        session.config.hook.pytest_runtest_logreport(report=report)


def _batches(items: list[pytest.Item]) -> Iterator[deque[int]]:
    def shared(index: int) -> str:
        return next((name for name in SHARED if name in getattr(items[index], "fixturenames", ())), "")

    indexes = sorted(range(len(items)), key=lambda index: not shared(index))
    for fixture, group in itertools.groupby(indexes, lambda index: shared(index) or items[index].path):
        batch = list(group)
        size = len(batch) if fixture in SHARED else TOGETHER
        yield from (deque(batch[begin : begin + size]) for begin in range(0, len(batch), size))


# -- in a worker ------------------------------------------------------------------------------------------------------


def _work(session: pytest.Session, index: int | None, pipe: Connection, ends: list[Connection], name: str) -> None:
    for end in ends:  # the first process's: it ends for us when it ends
        end.close()
    capture: Any = session.config.pluginmanager.get_plugin("capturemanager")
    capture.stop_global_capturing()
    capture.start_global_capturing()  # into a file of our own
    directories = session.config._tmp_path_factory  # type: ignore[attr-defined]
    directories._given_basetemp, directories._basetemp = directories.getbasetemp() / name, None
    terminal = Reports(session.config, pipe)
    session.config.pluginmanager.unregister(name="terminalreporter")
    session.config.pluginmanager.register(terminal, "terminalreporter")
    left: dict[threading.Thread, pytest.Item] = {}
    while index is not None:
        pipe.send(index)
        following = pipe.recv()
        item, nextitem = session.items[index], None if following is None else session.items[following]
        item.config.hook.pytest_runtest_protocol(item=item, nextitem=nextitem)
        left = {thread: left.get(thread, item) for thread in threading.enumerate() if not thread.daemon}
        index = following
    Watchdog().arm(PATIENCE, lambda: _give_up(left, terminal))
    atexit._run_exitfuncs()
    pipe.send(None)


def _give_up(left: dict[threading.Thread, pytest.Item], terminal: Reports) -> None:
    """End this process, which threads keep from ending; each fails the test that left it behind."""
    frames: dict[Any, Any] = sys._current_frames()
    running = [thread for thread in left if thread.ident in frames]
    try:
        for thread in [thread for thread in running if thread is not threading.main_thread()] or running:
            stack = "".join(traceback.format_stack(frames[thread.ident]))
            reason = f"{PATIENCE:g} s after the last test its thread {thread.name!r} was still running:\n{stack}"
            item = left[thread]
            report = pytest.TestReport(item.nodeid, item.location, {}, "failed", reason, "teardown")
            terminal.pytest_runtest_logreport(report)
    finally:
        os._exit(1)


class Reports:
    """What stands in a worker for the terminal: reports go to the first process, and those who print write as ever."""

    def __init__(self, config: pytest.Config, pipe: Connection) -> None:
        self._tw = config.get_terminal_writer()
        self._config = config
        self._pipe = pipe

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Send a report; of a test that passed only that it did, as all the rest would take a third of a core."""
        if report.passed and "P" not in self._config.option.reportchars:
            if report.when != "call" and self._config.option.durations is None:
                return
            report.keywords, report.sections = {}, []
        self._pipe.send(self._config.hook.pytest_report_to_serializable(config=self._config, report=report))
