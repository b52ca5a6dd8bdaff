"""A fleet: agents without a key hand over, deliverers deliver, and what dies in between loses nothing it had sent."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import sys
import threading
import time
import uuid
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from bluejay_ws.client import Bluejay
from bluejay_ws.delivery import outcomes
from bluejay_ws.delivery.deliverer import Deliverer
from bluejay_ws.delivery.handover import FleetSender, Handover
from bluejay_ws.delivery.livefile import LiveFile
from bluejay_ws.delivery.postgres import Outbox
from bluejay_ws.delivery.spool import Spool
from bluejay_ws.exceptions import SpoolError
from bluejay_ws.settings import Retry, Settings
from bluejay_ws.stats import Counters
from bluejay_ws.testing.platform import Answer, Close, FakePlatform
from bluejay_ws.wire import journal
from tests import nursery
from tests.support import eventually

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from bluejay_ws.recorder import Recorder

POD = Path(__file__).with_name("pods.py")


@pytest.fixture
def agent(url: str, platform: FakePlatform, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Bluejay]:
    """Return an agent's client: its spool is the database, and it has no key."""
    monkeypatch.setenv("BLUEJAY_SPOOL_DIRECTORY", str(tmp_path / "pod"))
    monkeypatch.delenv("BLUEJAY_API_KEY", raising=False)
    with Bluejay(base_url=platform.url, spool=url, flush_timeout=5) as agent:
        yield agent


@contextlib.contextmanager
def delivering(url: str, platform: FakePlatform, *, verify: float | None = None, **options: Any) -> Iterator[Deliverer]:
    """Deliver in this process."""
    retry = Retry(first=0.05, read_back=(0.1, 0.2, 0.4), resend_first=0.2)
    settings = Settings.load(
        api_key=platform.api_key, base_url=platform.url, spool=False, redial_wait=0.2, retry=retry, verify=verify
    )
    deliverer = Deliverer(url, settings, counters=Counters(), **{"workers": 2, "look_every": 0.1, **options})
    deliverer.start()
    try:
        yield deliverer
    finally:
        deliverer.stop()


def call(agent: Bluejay, identity: str, fill: Callable[[Recorder], None] | None = None) -> None:
    """Record one call."""
    with agent.call({"X-Simulation-Result-Id": identity}) as recorder:
        with recorder.tool_call("freeze_card", {"last4": "4321"}) as tool:
            tool.output = "done"
        if fill is not None:
            fill(recorder)


def counts(url: str, platform: FakePlatform) -> dict[str, int]:
    """Return what the database counts."""
    outbox = Outbox(url, platform.url)
    with outbox.link:
        return outbox.counts()


# -- handing over -------------------------------------------------------------------------------------------------


def test_an_agent_without_a_key_is_delivered_by_another_process(
    url: str, platform: FakePlatform, agent: Bluejay
) -> None:
    """Every call once, whole, and the text is gone from the database and from the local disk."""
    with delivering(url, platform):
        for number in range(20):
            call(agent, str(number))
        assert agent.flush(30.0)
        platform.wait_for(20)
        eventually(lambda: counts(url, platform) == {"delivered": 20})
    assert platform.duplicates == {}
    assert {report.simulation_result_id for report in platform.accepted} == {str(number) for number in range(20)}
    assert all(report.tool_calls[0]["output"] == "done" for report in platform.accepted)
    assert agent.stats()["handed_over"] == 20
    assert not list(agent.settings.spool.glob("*.ready")) if agent.settings.spool else False
    with Outbox(url, "x").link as link:
        assert link.rows("select count(*) from bluejay_ws.chunks") == [(0,)]


def test_an_agents_process_has_its_driver_before_the_first_call() -> None:
    """A pod that imported it during its first call would hold its loop up, and send nothing for that long."""
    program = (
        "import asyncio, sys; from bluejay_ws import record\n@record\nasync def agent(websocket): ...\n"
        "print('psycopg' in sys.modules, 'httpx' in sys.modules)"
    )
    environ = {**os.environ, "BLUEJAY_SPOOL": "postgresql://nobody@127.0.0.1:9/none"}
    done = subprocess.run([sys.executable, "-c", program], env=environ, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["True", "False"]


def test_a_call_that_goes_on_is_in_the_database_within_a_second(
    url: str, platform: FakePlatform, agent: Bluejay
) -> None:
    """What a pod has recorded survives it but for the last moment."""
    sql = "select string_agg(body, ''::bytea order by start) from bluejay_ws.chunks"
    with agent.call({"X-Simulation-Result-Id": "720488"}) as recorder, Outbox(url, platform.url).link as link:

        def holds(word: str) -> bool:
            return word.encode() in (link.rows(sql)[0][0] or b"")

        for number in range(3):
            recorder.add_event(f"line {number}")
            eventually(partial(holds, f"line {number}"))
    assert agent.flush(30.0)


def test_a_database_that_is_away_is_not_noticed(server: Any, url: str, platform: FakePlatform, agent: Bluejay) -> None:
    """Calls go on, the local files keep them, and when it is back everything is handed over."""
    call(agent, "before")
    assert agent.flush(30.0)
    server.stop()
    try:
        for number in range(5):
            call(agent, f"during{number}")
        assert not agent.flush(0.5)
    finally:
        server.start()
    assert agent.flush(20)
    assert counts(url, platform) == {"waiting": 6}
    assert agent.stats()["errors.outbox"] >= 1


def test_a_call_without_a_local_file_is_handed_over_from_memory(
    url: str, platform: FakePlatform, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A read-only disk: at its end the report goes from memory into the database."""
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("BLUEJAY_SPOOL_DIRECTORY", str(tmp_path / "file" / "spool"))
    with Bluejay(base_url=platform.url, spool=url) as agent:
        call(agent, "720488")
        assert agent.flush(30.0)
    with delivering(url, platform):
        (report,) = platform.wait_for(1)
    assert report.tool_calls


def test_a_file_that_breaks_is_replaced_by_memory(url: str, platform: FakePlatform, agent: Bluejay) -> None:
    """A full disk in the middle of a call: what was handed over before is taken back, and all of it comes anew."""

    def break_it(recorder: Recorder) -> None:
        eventually(lambda: counts(url, platform).get("reports.live"))
        (file,) = (each._file for each in agent._calls)
        assert isinstance(file, LiveFile)
        file._break(OSError(28, "no space left"))
        recorder.add_event("after")

    call(agent, "720488", break_it)
    assert agent.flush(30.0)
    with delivering(url, platform):
        (report,) = platform.wait_for(1)
    assert "after" in [event["title"] for event in report.events]
    assert len(report.tool_calls) == 1


def test_a_report_that_somebody_removed_is_counted_and_not_waited_for(
    url: str, platform: FakePlatform, agent: Bluejay
) -> None:
    """Its file was deleted by hand before it was handed over: `flush` says that nothing is left to do."""
    assert isinstance(agent.sender, FleetSender)
    handover = agent.sender._handover
    place = agent.settings.spool
    assert place is not None
    hand_in, handover.round = handover.round, lambda: None  # type: ignore[method-assign]
    call(agent, "720488")
    eventually(lambda: list(place.rglob("*.ready")))
    for path in place.rglob("*.ready"):
        path.unlink()
    handover.round = hand_in  # type: ignore[method-assign]
    assert agent.flush(30.0)
    assert agent.stats()["dropped.file_removed"] == 1
    assert counts(url, platform) == {}


@pytest.mark.parametrize("lost_answer", [False, True])
def test_a_report_that_a_sibling_handed_over_stays(
    url: str, tmp_path: Path, caplog: pytest.LogCaptureFixture, *, lost_answer: bool
) -> None:
    """Its own process finds the file gone, and may not know that the database has the report."""
    mine, other = (Siblings(url, tmp_path) for _ in range(2))
    with mine.outbox.link, other.outbox.link:
        other.handover.round()
        mine.end_a_call_while_the_database_is_away(lost_answer=lost_answer)
        for lock in tmp_path.glob("*.owner"):  # somebody removes it: the other process takes this one for dead
            lock.unlink()
        other.look_for_leftovers()
        assert not list(tmp_path.rglob("*.ready"))
        mine.handover._looked_at = float("-inf")
        mine.handover.round()
        assert mine.outbox.counts() == {"waiting": 1}
        found = mine.outbox.claim(30.0)
    assert found is not None
    assert b"second" in found.reports[0].journal
    assert [record.levelname for record in caplog.records if "its file is gone" in record.message] == ["WARNING"]


def test_a_report_of_a_sibling_that_lives_is_left_to_it(url: str, tmp_path: Path) -> None:
    """However long the database was away: only what a dead process left is adopted."""
    mine, other = (Siblings(url, tmp_path) for _ in range(2))
    with mine.outbox.link, other.outbox.link:
        other.handover.round()
        mine.end_a_call_while_the_database_is_away(lost_answer=False)
        other.look_for_leftovers()
        (path,) = tmp_path.rglob("*.ready")
        mine.handover.round()
        assert not path.exists()
        found = mine.outbox.claim(30.0)
        assert found is not None
        assert found.reports[0].state == "sealed"
    assert mine.counters["dropped.file_removed"] == 0

    with mine.outbox.link, other.outbox.link:
        mine.end_a_call_while_the_database_is_away(lost_answer=False)
        mine.spool._files.lock.release(unless=())  # its process dies
        other.look_for_leftovers()
        assert not list(tmp_path.rglob("*.ready"))


class Siblings:
    """One of two processes of a machine, which share a spool."""

    def __init__(self, url: str, directory: Path) -> None:
        self.counters = Counters()
        self.spool = Spool(directory, counters=self.counters, destination="p", owned=True)
        self.outbox = Outbox(url, "https://api.getbluejay.ai")
        self.handover = Handover(self.outbox, self.spool, self.counters)

    def end_a_call_while_the_database_is_away(self, *, lost_answer: bool) -> None:
        """Hand its first line over, then fail with the last one: before or after it was taken in."""
        names: Any = {"report_id": uuid.uuid4().hex, "simulation_result_id": "77"}
        header = journal.header(**names, started_at=1.0, version="1", server="x")
        file = self.spool.open_call(**names, header=header)
        assert file is not None
        file.append(b'["tags","first"')
        self.handover.round()
        file.append(b'["tags","second"')
        self.handover.put(file.seal())
        push = self.outbox.push

        def fail(pieces: Any) -> Any:
            if lost_answer:
                push(pieces)
            raise SpoolError("db", "away", "wait")

        self.outbox.push = fail  # type: ignore[method-assign]
        with pytest.raises(SpoolError):
            self.handover.round()
        self.outbox.push = push  # type: ignore[method-assign]

    def look_for_leftovers(self) -> None:
        """Adopt what has lain for a while."""
        for path in Path(self.spool.directory).rglob("*.ready"):
            os.utime(path, (time.time() - 10,) * 2)
        for _ in range(2):
            self.handover._left_at = time.monotonic() - 100
            self.handover._looked_at = float("-inf")
            self.handover.round()


def test_a_call_that_is_left_out_leaves_nothing_behind(url: str, platform: FakePlatform, agent: Bluejay) -> None:
    """Its user wants nothing sent: the database forgets it too."""

    def discard(recorder: Recorder) -> None:
        eventually(lambda: counts(url, platform).get("reports.live"))
        recorder.discard()

    call(agent, "720488", discard)
    eventually(lambda: counts(url, platform) == {})


@pytest.mark.parametrize("lost", [False, True])
def test_a_deliverer_looks_once_whether_the_platform_has_it(
    url: str, platform: FakePlatform, agent: Bluejay, *, lost: bool
) -> None:
    """With ``verify`` a deliverer of a fleet does what a client with files does."""
    platform.read_back.status, platform.read_back.lag_reads = "COMPLETED", int(lost)
    call(agent, "720488")
    assert agent.flush(30.0)
    with delivering(url, platform, verify=0.05) as deliverer:
        eventually(lambda: deliverer._counters["verify.differs" if lost else "verify.complete"] == 1)
        eventually(lambda: deliverer.unverified == 0)  # what was found is counted first
    assert [request.method for request in platform.requests] == ["POST", "GET"]


# -- processes that die -------------------------------------------------------------------------------------------


def pod(url: str, platform: FakePlatform, directory: Path, *arguments: object) -> subprocess.Popen[str]:
    """Start an agent's process."""
    environ = {name: value for name, value in os.environ.items() if name != "BLUEJAY_API_KEY"}
    command = [sys.executable, str(POD), url, platform.url, str(directory), *map(str, arguments)]
    return nursery.start(command, imported=["psycopg"], stdout=subprocess.PIPE, env=environ)


def test_a_pod_that_vanishes_loses_at_most_its_last_second(url: str, platform: FakePlatform, tmp_path: Path) -> None:
    """Killed in the middle of a call, its disk deleted: the report says so, and holds all but the last second."""
    agent = pod(url, platform, tmp_path / "pod", "720488-", 1, 250, 0.01, "hang")
    facts = []
    killed = 0.0
    with agent:
        for text in iter(agent.stdout.readline, "") if agent.stdout else ():
            facts.append(json.loads(text))
            if len(facts) == 150:
                agent.kill()
                killed = time.monotonic()
        shutil.rmtree(tmp_path / "pod")
    with delivering(url, platform, pod_lease=0.5) as deliverer:
        (report,) = platform.wait_for(1, 30)
        assert deliverer._counters["process_lost"] == 1
    kept = {event["title"] for event in report.events}
    missing = [
        number for what, _, number, at in facts if what == "line" and f"line {number}" not in kept and at < killed - 1
    ]
    assert missing == []
    assert "Connection closed" in kept
    assert "process_lost" in str(report.events)


def test_a_pod_that_dies_after_its_call_loses_nothing(url: str, platform: FakePlatform, tmp_path: Path) -> None:
    """It ended a hundred milliseconds before: its report is sealed and in the database, or its disk is adopted."""
    with pod(url, platform, tmp_path / "pod", "a", 30, 2, 0, "kill") as agent:
        agent.communicate()
    with pod(url, platform, tmp_path / "pod", "b", 1, 1, 0, "close") as agent:  # the same disk, a new process
        said, _ = agent.communicate()
    assert '["flushed", "", 1' in said
    with delivering(url, platform, pod_lease=0.5):
        platform.wait_for(31, 30)
    assert platform.duplicates == {}
    assert len({report.simulation_result_id for report in platform.accepted}) == 31


def test_a_deliverer_that_dies_while_it_sends_is_followed_by_one_that_looks(
    url: str, platform: FakePlatform, agent: Bluejay
) -> None:
    """The report may have arrived: it is looked for, and not sent again."""
    call(agent, "720488")
    assert agent.flush(30.0)
    outbox = Outbox(url, platform.url)
    with outbox.link:
        claimed = outbox.claim(30)
        assert claimed is not None
        from bluejay_ws.delivery.http import HttpExchange, tls_context
        from bluejay_ws.wire import journal

        settings = Settings.load(api_key=platform.api_key, base_url=platform.url, spool=False)
        exchange = HttpExchange(settings, tls_context(settings))
        body = journal.assemble(
            [journal.parse(each.journal).bodies for each in claimed.reports], simulation_result_id="720488"
        )
        exchange.post(body)
        exchange.close()
        outbox.renew(["720488"], 0.0)  # and it died
    with delivering(url, platform):
        eventually(lambda: counts(url, platform) == {"delivered": 1})
    assert len(platform.accepted) == 1


# -- the table of outcomes ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("steps", "state", "accepted"),
    [
        ([Answer(status=503)], "delivered", 1),
        ([Close(at="headers")], "delivered", 1),
        ([Close(at="answer")], "delivered", 1),
        ([Answer(status=502, accept=True)], "delivered", 1),
        ([Answer(status=429, headers={"Retry-After": "0"})], "delivered", 1),
        ([Answer(status=413)], "delivered", 1),
        ([Answer(status=422)], "parked", 0),
        ([Answer(status=404)], "delivered", 1),
        ([Answer(status=200, body=b"{}", accept=True)], "delivered", 1),
    ],
)
def test_outcomes_lead_to_one_report_or_to_a_reason(
    url: str,
    platform: FakePlatform,
    agent: Bluejay,
    steps: list[Any],
    state: str,
    accepted: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Whatever the platform does, a call is delivered once, or kept with its reason."""
    monkeypatch.setattr(outcomes, "NOT_FOUND_WAITS", (0.05, 0.1))
    platform.plan(*steps)
    call(agent, "720488")
    assert agent.flush(30.0)
    with delivering(url, platform):
        eventually(lambda: counts(url, platform) == {state: 1}, 40)
    assert len(platform.accepted) == accepted


def test_two_deliverers_share_the_work_and_double_nothing(url: str, platform: FakePlatform, agent: Bluejay) -> None:
    """Each call goes to one of them."""
    for number in range(100):
        call(agent, str(number))
    assert agent.flush(30.0)
    with delivering(url, platform) as one, delivering(url, platform) as two:
        platform.wait_for(100, 30)
        eventually(lambda: counts(url, platform) == {"delivered": 100})
        assert one._counters["delivered"] + two._counters["delivered"] == 100
    assert platform.duplicates == {}


def test_a_failover_in_the_middle_of_everything_doubles_nothing(
    server: Any, url: str, platform: FakePlatform, agent: Bluejay
) -> None:
    """Connections are killed again and again while reports are handed over and sent."""
    stop = threading.Event()

    def kill_connections() -> None:
        import psycopg

        sql = "select pg_terminate_backend(pid) from pg_stat_activity where datname = %s and pid <> pg_backend_pid()"
        name = url.split("@/")[1].partition("?")[0]
        with psycopg.connect(server.url("postgres"), autocommit=True) as connection:
            while not stop.wait(0.15):
                connection.execute(sql, [name])

    killer = threading.Thread(target=kill_connections)
    try:
        with delivering(url, platform, lease=3.0):  # to start takes a database that is there
            killer.start()
            for number in range(60):
                call(agent, str(number))
                time.sleep(0.01)
            agent.flush(5)
            stop.set()
            killer.join()
            assert agent.flush(20)
            platform.wait_for(60, 60)
            eventually(lambda: counts(url, platform) == {"delivered": 60}, 40)
    finally:
        stop.set()
    assert platform.duplicates == {}


def test_a_deliverer_with_a_refused_key_leaves_the_work_to_others(
    url: str, platform: FakePlatform, agent: Bluejay
) -> None:
    """It says so once, and the fleet's breaker does not hear of it."""
    call(agent, "720488")
    assert agent.flush(30.0)
    settings = Settings.load(api_key="wrong", base_url=platform.url, spool=False)
    wrong = Deliverer(url, settings, counters=Counters(), workers=1)
    wrong.start()
    eventually(lambda: wrong._counters["http.401"])
    with delivering(url, platform):
        platform.wait_for(1, 20)
    wrong.stop()
    assert platform.duplicates == {}
