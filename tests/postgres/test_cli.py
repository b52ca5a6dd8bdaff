"""The command line on a fleet's outbox: migrate, deliver, outbox and doctor."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
import uuid
from typing import TYPE_CHECKING, Any

import pytest

from bluejay_ws.cli import deliver as module
from bluejay_ws.cli import main
from bluejay_ws.client import Bluejay
from bluejay_ws.delivery.deliverer import Deliverer
from bluejay_ws.delivery.postgres import AwayError, Outbox, connect
from bluejay_ws.testing.platform import Answer, FakePlatform
from tests import nursery

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def platform(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, url: str) -> Iterator[FakePlatform]:
    """Return a platform, which the environment names beside the database."""
    with FakePlatform() as platform:
        monkeypatch.setenv("BLUEJAY_API_KEY", platform.api_key)
        monkeypatch.setenv("BLUEJAY_API_URL", platform.url)
        monkeypatch.setenv("BLUEJAY_SPOOL", url)
        monkeypatch.setenv("BLUEJAY_SPOOL_DIRECTORY", str(tmp_path / "pod"))
        yield platform


def record(*identities: str) -> None:
    """Record calls and hand them over."""
    with Bluejay() as agent:
        for identity in identities:
            with agent.call({"X-Simulation-Result-Id": identity}) as recorder, recorder.tool_call("freeze_card"):
                recorder.agent_said("a secret")
        assert agent.flush(30.0)


def report_ids(url: str, state: str) -> list[str]:
    """Return the reports in a state of the database."""
    outbox = Outbox(url, "x")
    with outbox.link:
        sql = "select report_id from bluejay_ws.reports where state = %s"
        return [report_id for (report_id,) in outbox.link.rows(sql, state)]


def test_everything_is_delivered_until_nothing_waits(
    platform: FakePlatform, capsys: pytest.CaptureFixture[str]
) -> None:
    """A deliverer for a job: it ends when the outbox is empty, says what it did, and handles no signal any more."""
    before = signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)
    record("720488", "720489")
    assert main(["deliver", "--until-empty"]) == 0
    assert len(platform.accepted) == 2
    assert (signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)) == before
    shown = capsys.readouterr().out
    assert "delivered 2, held 0, parked 0" in shown
    assert "delivering from postgresql://localhost/test_" in shown


def test_what_is_refused_is_shown_and_sent_again(
    platform: FakePlatform, capsys: pytest.CaptureFixture[str], url: str
) -> None:
    """A parked report is listed with its reason, shown without its text, and sent when a person says so."""
    record("720488")
    platform.plan(Answer(status=422))
    assert main(["deliver", "--until-empty"]) == 1
    capsys.readouterr()
    assert main(["outbox"]) == 0
    assert "parked  720488" in (listed := capsys.readouterr().out)
    assert "Bluejay refused its content (422)" in listed
    assert main(["outbox", "show", "720488"]) == 0
    assert "secret" not in capsys.readouterr().out
    assert main(["outbox", "export", "720488"]) == 0
    assert "a secret" in capsys.readouterr().out
    assert main(["outbox", "retry", "720488"]) == 0
    assert "bluejay-ws deliver" in capsys.readouterr().out
    assert main(["deliver", "--until-empty"]) == 0
    assert len(platform.accepted) == 1
    assert main(["outbox", "list", "--all"]) == 0
    assert "delivered  720488" in capsys.readouterr().out
    assert main(["outbox", "show", "720488"]) == 0
    assert "its text is gone" in capsys.readouterr().out


def test_an_id_that_is_used_up_is_released_or_deleted_by_a_person(
    platform: FakePlatform, capsys: pytest.CaptureFixture[str], url: str
) -> None:
    """A second report of a delivered call is held; it can be sent all the same, or removed."""
    record("720488")
    assert main(["deliver", "--until-empty"]) == 0
    record("720488")
    assert main(["outbox", "list"]) == 0
    assert "a report of this call was delivered before" in capsys.readouterr().out
    (held,) = report_ids(url, "held")
    assert main(["outbox", "retry", held]) == 1
    assert "used up" in capsys.readouterr().err
    assert main(["outbox", "release", held]) == 0
    assert main(["deliver", "--until-empty"]) == 0
    assert platform.duplicates == {"720488": 2}
    record("720488")
    (held,) = report_ids(url, "held")
    assert main(["outbox", "delete", held]) == 1
    assert main(["outbox", "delete", held, "--yes"]) == 0
    assert main(["outbox"]) == 0
    assert "Nothing waits" in capsys.readouterr().out


def test_what_cannot_be_done_says_why(platform: FakePlatform, capsys: pytest.CaptureFixture[str], url: str) -> None:
    """Unknown ids, wrong states, and commands of the other kind of spool."""
    record("720488")
    (waiting,) = report_ids(url, "sealed")
    assert main(["outbox", "show", "none"]) == 1
    assert main(["outbox", "retry", waiting]) == 1
    assert main(["outbox", "deliver"]) == 2
    assert main(["outbox", "delete", waiting, "--yes"]) == 0
    assert main(["migrate", "--spool", "/tmp"]) == 2
    assert main(["migrate", "--agent", "no plain name"]) == 2
    assert main(["migrate"]) == 0
    assert main(["migrate", "--spool", "postgresql://localhost:1/none"]) == 1
    shown = capsys.readouterr()
    assert "nothing to do" in shown.out
    assert "cannot be reached" in shown.err
    assert "give --spool postgresql://" in shown.err


@pytest.mark.parametrize("verb", ["start", "waiting"])
@pytest.mark.parametrize("job", [False, True])
def test_a_deliverer_waits_for_a_database_that_is_away(
    platform: FakePlatform, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], verb: str, job: bool
) -> None:
    """Nobody has to start them in order. Only a job says at its start that there is none, and ends."""
    record("720488")
    real, away = getattr(Deliverer, verb), iter([True, True])

    def sometimes(deliverer: Deliverer) -> Any:
        if next(away, False):
            raise AwayError("db", "is away", "wait")
        return real(deliverer)

    monkeypatch.setattr(Deliverer, verb, sometimes)
    monkeypatch.setattr(module, "AGAIN", 0.0)
    if not job:
        monkeypatch.setattr(module, "_until_stopped", lambda *_: platform.wait_for(1) and 0)
    assert main(["deliver", *(["--until-empty"] if job else [])]) == int(job and verb == "start")
    shown = capsys.readouterr()
    assert ("is away" in shown.out + shown.err) == (verb == "start")
    assert len(platform.accepted) == int(not (job and verb == "start"))


def test_an_agents_role_cannot_deliver_and_is_told_at_the_start(
    platform: FakePlatform, monkeypatch: pytest.MonkeyPatch, url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """The deliverer ends with what is to be granted; it would be refused each second for ever."""
    role = f"agent_{uuid.uuid4().hex[:8]}"
    with connect(url) as owner:
        owner.execute(f'create role "{role}" login'.encode())
        try:
            assert main(["migrate", "--agent", role]) == 0
            monkeypatch.setenv("BLUEJAY_SPOOL", url.replace("bluejay@", f"{role}@"))
            assert main(["deliver"]) == 1
        finally:
            owner.execute(f'drop owned by "{role}"'.encode())
            owner.execute(f'drop role "{role}"'.encode())
    assert "--deliverer ROLE" in capsys.readouterr().err


def test_a_deliverer_needs_a_key_and_a_schema(
    platform: FakePlatform, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, server: Any
) -> None:
    """It says what is missing at its start, with the command that helps."""
    url = server.create("empty")
    try:
        assert main(["deliver", "--spool", url]) == 1
        assert "bluejay-ws migrate" in capsys.readouterr().err
    finally:
        server.drop("empty")
    monkeypatch.delenv("BLUEJAY_API_KEY")
    assert main(["deliver"]) == 2
    assert "BLUEJAY_API_KEY is not set" in capsys.readouterr().err


def test_a_deliverer_finishes_what_it_sends_when_it_is_stopped(platform: FakePlatform, url: str) -> None:
    """SIGTERM: what has begun is not broken off, for its outcome would be unknown."""
    command = [sys.executable, "-m", "bluejay_ws", "deliver"]
    with nursery.start(command, stdout=subprocess.PIPE) as deliverer:
        assert deliverer.stdout is not None
        assert "delivering from" in deliverer.stdout.readline()
        platform.plan(Answer(delay=0.3))
        record("720488")
        until = time.monotonic() + 20
        while not platform.requests and time.monotonic() < until:
            time.sleep(0.01)
        deliverer.send_signal(signal.SIGTERM)
        assert "delivered 1" in deliverer.stdout.read()
    assert deliverer.returncode == 0
    assert len(platform.accepted) == 1


def test_the_doctor_looks_at_the_database(
    platform: FakePlatform, capsys: pytest.CaptureFixture[str], url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Schema, role, notifications, whether anybody delivers, and what waits."""
    record("720488")
    outbox = Outbox(url, "x")
    with outbox.link:
        outbox.link.rows("update bluejay_ws.fleet set seen_at = now() - interval '1 hour'")
    assert main(["doctor"]) == 1
    shown = capsys.readouterr().out
    for words in (
        "has the outbox (PostgreSQL 1",
        "may hand over and deliver",
        "notifications come through",
        "none has been at work for 36",
        "1 reports wait, the oldest for ",
    ):
        assert words in shown
    monkeypatch.delenv("BLUEJAY_API_KEY")
    assert main(["deliver", "--until-empty"]) == 2
    monkeypatch.setenv("BLUEJAY_SPOOL", "postgresql://localhost:1/none")
    assert main(["doctor"]) == 1
    shown = capsys.readouterr().out
    assert "this process hands over, others deliver" in shown
    assert "cannot be reached" in shown
