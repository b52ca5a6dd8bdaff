"""Bringing local files into the database, one round after the other, with a database that keeps what it is given."""

from __future__ import annotations

import os
import threading
import uuid
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from bluejay_ws.delivery import handover as module
from bluejay_ws.delivery.handover import FleetSender, Handover
from bluejay_ws.delivery.spool import Spool
from bluejay_ws.delivery.store import Report
from bluejay_ws.exceptions import SpoolError
from bluejay_ws.stats import Counters
from bluejay_ws.wire import journal
from tests.delivery.kit import end, header, tool
from tests.support import eventually

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from bluejay_ws.delivery.livefile import LiveFile
    from bluejay_ws.delivery.postgres import Piece


class Outbox:
    """Keep the pieces as the database does: by report, as far as they follow each other."""

    def __init__(self) -> None:
        self.reports: dict[str, bytes] = {}
        self.states: dict[str, str] = {}
        self.batches: list[int] = []

    def check(self) -> None:
        """Find nothing wrong."""

    def push(self, pieces: Sequence[Piece]) -> dict[str, tuple[int, str]]:
        """Keep what follows what is there."""
        self.batches.append(len(pieces))
        for piece in pieces:
            if piece.end == "gone":
                self.reports.pop(piece.report_id, None)
                continue
            known = self.reports.setdefault(piece.report_id, b"")
            if piece.start == len(known):
                self.reports[piece.report_id] = known + piece.body
                self.states[piece.report_id] = self.states.get(piece.report_id) or piece.end
        return {one: (len(text), self.states.get(one) or "live") for one, text in self.reports.items()}


class Pod:
    """One process: its spool, and what hands over from it."""

    def __init__(self, directory: Path) -> None:
        self.counters = Counters()
        self.outbox = Outbox()
        self.spool = Spool(directory, counters=self.counters, destination="p", owned=True)
        self.handover = Handover(self.outbox, self.spool, self.counters)  # type: ignore[arg-type]

    def open(self, identity: str = "720488") -> LiveFile:
        """Begin a call."""
        report_id = uuid.uuid4().hex
        file = self.spool.open_call(
            report_id=report_id, simulation_result_id=identity, header=header(report_id, identity)
        )
        assert file is not None
        file.append(tool())
        return file

    def finish(self, file: LiveFile) -> Report:
        """End it."""
        for body in end(file.report_id):
            file.append(body)
        report = file.seal()
        self.handover.put(report)
        return report

    def round(self) -> None:
        """Make a round in which everything is looked at."""
        self.handover._looked_at = float("-inf")
        self.handover.round()


@pytest.fixture
def pod(tmp_path: Path) -> Pod:
    """Return a process with an empty spool."""
    return Pod(tmp_path)


def text_of(report: Report) -> bytes:
    """Return a report in memory as it is kept."""
    return b"".join(map(journal.line, report.bodies or ()))


def test_a_call_arrives_as_it_grows_and_its_file_goes_at_the_end(pod: Pod, tmp_path: Path) -> None:
    """What the database has is what the file held."""
    file = pod.open()
    pod.round()
    (path,) = tmp_path.rglob("*.live")
    assert pod.outbox.reports == {file.report_id: path.read_bytes()}
    pod.finish(file)
    whole = next(tmp_path.rglob("*.ready")).read_bytes()
    pod.round()
    assert pod.outbox.reports == {file.report_id: whole}
    assert not list(tmp_path.rglob("*.ready"))
    assert (pod.counters["handed_over"], pod.handover._reports, pod.handover.waiting) == (1, {}, set())


def test_many_reports_go_in_as_several_batches(pod: Pod, monkeypatch: pytest.MonkeyPatch) -> None:
    """A backlog makes no statement without a bound."""
    monkeypatch.setattr(module, "BATCH_PIECES", 2)
    for number in range(5):
        pod.finish(pod.open(f"{number}"))
    pod.round()
    assert pod.outbox.batches == [2, 2, 1]
    assert len(pod.outbox.reports) == 5


def test_a_long_report_goes_in_by_pieces(pod: Pod, monkeypatch: pytest.MonkeyPatch) -> None:
    """From its file or from memory; it is sealed with the last of them."""
    monkeypatch.setattr(module, "PIECE_LIMIT", 100)
    filed = pod.finish(pod.open())
    kept = Report(uuid.uuid4().hex, "2", [header("2" * 32, "2"), tool(), *end("2" * 32)])
    pod.handover.put(kept)
    rounds = 0
    while pod.handover.waiting:
        pod.round()
        rounds += 1
        assert rounds < 50
    assert rounds > 2
    assert pod.outbox.reports[kept.report_id] == text_of(kept)
    assert pod.outbox.states == {filed.report_id: "sealed", kept.report_id: "sealed"}


def test_calls_that_are_left_out_are_forgotten_without_a_listing(pod: Pod, monkeypatch: pytest.MonkeyPatch) -> None:
    """Those the database knows of go there too: it is known where their files were."""
    files = [pod.open(f"{number}") for number in range(4)]
    pod.round()
    late = pod.open("late")
    monkeypatch.setattr(pod.spool, "everything", lambda: pytest.fail("it was listed"))
    for file in (*files, late):
        file.discard()
    pod.round()
    assert (pod.outbox.reports, pod.handover._reports) == ({}, {})


def test_a_call_that_was_left_out_is_withdrawn_however_often_it_takes(
    pod: Pod, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The database was away when its user discarded it: nobody delivers what it already had."""
    file = pod.open()
    pod.round()
    file.discard()
    with monkeypatch.context() as away:
        away.setattr(pod.outbox, "push", lambda _: (_ for _ in ()).throw(SpoolError("db", "is away", "wait")))
        with pytest.raises(SpoolError):
            pod.round()
    assert pod.outbox.reports
    pod.round()
    assert (pod.outbox.reports, pod.handover._reports) == ({}, {})


def test_calls_that_end_hold_up_none_that_go_on(pod: Pod, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each end of a call makes a round of its own; those that go on are looked at when it is their time."""
    now = 100.0
    monkeypatch.setattr(module, "ROUND", 0.25)
    monkeypatch.setattr(module, "time", SimpleNamespace(monotonic=lambda: now))
    live = pod.open("live")
    pod.handover.round()
    live.append(tool("look_up"))
    for number in range(4):
        now += module.ROUND / 4
        pod.finish(pod.open(f"{number}"))
        pod.handover.round()
        assert (b"look_up" in pod.outbox.reports[live.report_id]) == (number == 3)
    assert pod.outbox.batches == [1, 1, 1, 1, 2]


def test_a_call_without_news_costs_a_heartbeat_a_second(pod: Pod, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is read and nothing written while nothing is recorded."""
    now = 100.0
    monkeypatch.setattr(module, "ROUND", 0.25)
    monkeypatch.setattr(module, "time", SimpleNamespace(monotonic=lambda: now))
    pod.open("quiet")
    pod.handover.round()
    monkeypatch.setattr(module, "_read", lambda *_: pytest.fail("it was read"))
    for _ in range(8):
        now += module.ROUND
        pod.handover.round()
    assert pod.outbox.batches == [1, 0, 0]


def test_a_database_that_forgot_gets_it_again(pod: Pod) -> None:
    """A failover went to a server that was behind: from its beginning, if it must be."""
    file = pod.open()
    pod.round()
    pod.outbox.reports.clear()
    file.append(tool("look_up"))
    pod.round()
    assert pod.counters["outbox.forgotten"] == 1
    pod.finish(file)
    pod.round()
    pod.round()
    assert b"look_up" in pod.outbox.reports[file.report_id]
    assert not pod.handover.waiting


def test_what_comes_after_the_report_has_left_is_said(pod: Pod, caplog: pytest.LogCaptureFixture) -> None:
    """This process was taken for dead: counted, with an ERROR, and not tried for ever."""
    file = pod.open()
    pod.round()
    pod.outbox.states[file.report_id] = "late"
    pod.finish(file)
    pod.round()
    assert pod.counters["outbox.late_pieces"] == 1
    assert "was taken for dead" in caplog.text
    assert not pod.handover.waiting


def test_a_file_that_cannot_be_read_is_read_later(pod: Pod, monkeypatch: pytest.MonkeyPatch) -> None:
    """The disk fails once: counted, and nothing is taken for removed."""
    pod.finish(pod.open())
    with monkeypatch.context() as broken:
        broken.setattr(os, "pread", lambda *_: (_ for _ in ()).throw(OSError(5, "input/output error")))
        pod.round()
    assert pod.counters["spool.read_eio"] == 1
    assert len(pod.handover.waiting) == 1
    pod.round()
    assert not pod.handover.waiting


def test_a_spool_that_is_full_leaves_calls_to_memory(tmp_path: Path) -> None:
    """Such a call is none of the files that are looked for."""
    pod = Pod(tmp_path)
    pod.spool.full = True
    assert pod.spool.open_call(report_id="1" * 32, simulation_result_id="1", header=b"[]") is None
    assert pod.handover._reports == {}


# -- the thread ---------------------------------------------------------------------------------------------------


@pytest.fixture
def sender(tmp_path: Path) -> FleetSender:
    """Return a sender whose database takes everything, and whose threads do not run."""
    counters = Counters()
    spool = Spool(tmp_path, counters=counters, destination="p", owned=True)
    sender = FleetSender("postgresql://nobody@127.0.0.1:9/none", "p", spool=spool, counters=counters)
    for name in ("check", "leave"):
        setattr(sender._outbox, name, lambda: None)
    sender._outbox.push = Outbox().push  # type: ignore[method-assign]
    return sender


@pytest.mark.parametrize("error", [SpoolError("db", "is away", "wait"), ZeroDivisionError()])
def test_a_round_that_fails_is_counted_and_made_again(
    sender: FleetSender, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, error: Exception
) -> None:
    """Whatever it was, the thread goes on; that the database is back is said."""
    caplog.set_level("INFO")
    monkeypatch.setattr(module, "FIRST_PAUSE", 0.001)
    errors = [error]
    push = sender._outbox.push

    def fail_once(pieces: Any) -> Any:
        if errors:
            raise errors.pop()
        return push(pieces)

    sender._outbox.push = fail_once  # type: ignore[method-assign]
    sender.submit(Report("1" * 32, "1", [header("1" * 32, "1")]))
    assert sender.flush(20)
    name = "outbox" if isinstance(error, SpoolError) else "handover.ZeroDivisionError"
    assert sender._counters[f"errors.{name}"] == 1
    eventually(lambda: "is back" in caplog.text)
    assert sender.close(5)


def test_a_pause_ends_with_the_process(sender: FleetSender, monkeypatch: pytest.MonkeyPatch) -> None:
    """A database that is away for long holds no end up."""
    monkeypatch.setattr(module, "FIRST_PAUSE", 3600.0)
    monkeypatch.setattr(module, "LONGEST_PAUSE", 3600.0)
    tried = threading.Event()

    def fail(_: Any) -> Any:
        tried.set()
        raise SpoolError("db", "is away", "wait")

    monkeypatch.setattr(sender._outbox, "push", fail)
    sender.submit(Report("1" * 32, "1", [header("1" * 32, "1")]))
    assert tried.wait(20)
    thread = sender._thread
    assert thread is not None
    assert not sender.close(0.0)
    thread.join(20)
    assert not thread.is_alive()


def test_a_forked_child_hands_nothing_over(sender: FleetSender, tmp_path: Path) -> None:
    """Calls, files and connection are the parent's."""
    spool = sender._spool
    assert spool is not None
    spool.open_call(report_id="1" * 32, simulation_result_id="1", header=header("1" * 32, "1"))
    sender._handover.waiting.add("2" * 32)
    sender.reset_after_fork()
    assert (sender._handover._reports, sender.pending()) == ({}, 0)
    assert len(list(tmp_path.rglob("*.live"))) == 1


def test_the_end_of_the_main_thread_hands_over_what_waits(sender: FleetSender, monkeypatch: pytest.MonkeyPatch) -> None:
    """The exit watch waits for it, and then for the rest."""
    alive = [True]

    class Main:
        """The main thread, whose end can be had."""

        def is_alive(self) -> bool:
            return alive[0]

        def join(self, _: float) -> None:
            alive[0] = False

    monkeypatch.setattr(threading, "main_thread", Main)
    sender._handover.put(Report("1" * 32, "1", [header("1" * 32, "1")]))
    sender._start_threads()
    eventually(lambda: not sender.pending() and not sender._watched)
