"""`bluejay-ws doctor`: what is wrong with this machine's set-up, and what to do about it."""

from __future__ import annotations

import shutil
import ssl
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest
import trustme

from bluejay_ws.cli import main
from bluejay_ws.delivery.names import HELD, READY, Name
from bluejay_ws.testing.platform import Answer, FakePlatform
from tests.cli.serving import agent_thread
from tests.delivery.kit import abandoned_call, finished_call, open_call, spool_at
from tests.testing.agents import silent_agent

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from websockets.asyncio.server import ServerConnection
    from websockets.http11 import Request, Response


class Doctor:
    """Run the command, and look at what it found."""

    def __init__(self, capsys: pytest.CaptureFixture[str], spool: Path) -> None:
        self.spool = spool
        self._capsys = capsys

    def look(self, *arguments: str) -> tuple[int, dict[str, str]]:
        """Return the exit code, and by name of the check its state and words, remedy included."""
        code = main(["doctor", "--spool", str(self.spool), *arguments])
        found: dict[str, str] = {}
        name = ""
        for line in self._capsys.readouterr().out.splitlines():
            if not line.startswith(" "):
                state, name, words = line.split(maxsplit=2)
                found[name] = f"{state}: {words}"
            else:
                found[name] += f" {line.strip()}"
        return code, found


@pytest.fixture
def doctor(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Doctor:
    """Give a doctor for a spool of its own."""
    return Doctor(capsys, tmp_path / "spool")


@pytest.fixture
def platform(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakePlatform]:
    """Give a platform that the environment points to, with the right key."""
    with FakePlatform() as running:
        monkeypatch.setenv("BLUEJAY_API_URL", running.url)
        monkeypatch.setenv("BLUEJAY_API_KEY", running.api_key)
        yield running


def test_all_is_well(doctor: Doctor, platform: FakePlatform) -> None:
    """Key, platform, clock, spool and outbox are fine; nothing is reported to the platform."""
    code, found = doctor.look()
    assert code == 0
    assert {name: words.partition(":")[0] for name, words in found.items()} == dict.fromkeys(
        ["key", "platform", "clock", "spool", "space", "outbox"], "ok"
    )
    assert platform.accepted == []


def test_settings_that_cannot_be_used(doctor: Doctor, monkeypatch: pytest.MonkeyPatch) -> None:
    """The setting, the reason and the way out; the key itself is not shown."""
    monkeypatch.setenv("BLUEJAY_API_KEY", "secret with blanks")
    code, found = doctor.look()
    assert code == 1
    assert found["settings"].startswith("wrong: BLUEJAY_API_KEY holds")
    assert "secret" not in str(found)


def test_a_missing_key(doctor: Doctor, platform: FakePlatform, monkeypatch: pytest.MonkeyPatch) -> None:
    """No key is wrong; that the platform then refuses is no second fault."""
    monkeypatch.delenv("BLUEJAY_API_KEY")
    code, found = doctor.look()
    assert code == 1
    assert found["key"].startswith("wrong: BLUEJAY_API_KEY is not set")
    assert found["platform"] == f"note: {platform.url} is reached, and refuses the key (HTTP 401)"


def test_a_wrong_key(doctor: Doctor, platform: FakePlatform, monkeypatch: pytest.MonkeyPatch) -> None:
    """A key that the platform refuses is told by its status."""
    monkeypatch.setenv("BLUEJAY_API_KEY", "another-key")
    code, found = doctor.look()
    assert code == 1
    assert found["platform"].startswith(f"wrong: {platform.url} is reached, and refuses the key (HTTP 401)")
    assert "another-key" not in str(found)


@pytest.mark.parametrize(("status", "words"), [(301, "check BLUEJAY_API_URL"), (503, "try again later")])
def test_a_platform_that_answers_oddly(doctor: Doctor, platform: FakePlatform, status: int, words: str) -> None:
    """A redirect points to a wrong URL; a failure passes."""
    platform.otherwise(reads=Answer(status=status, headers={"Location": "http://127.0.0.1:9/"}))
    code, found = doctor.look()
    assert code == 1
    assert f"answers HTTP {status}" in found["platform"]
    assert words in found["platform"]


def test_a_platform_that_is_away(doctor: Doctor, platform: FakePlatform) -> None:
    """No connection is wrong, and the clock cannot be compared."""
    platform.refuse()
    code, found = doctor.look()
    assert code == 1
    assert found["platform"].startswith(f"wrong: no answer from {platform.url} (connect_error)")
    assert found["clock"].startswith("note: cannot be compared")


def test_a_certificate_that_is_not_trusted(doctor: Doctor, monkeypatch: pytest.MonkeyPatch) -> None:
    """TLS trouble is told from others, with the variable that helps."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    trustme.CA().issue_cert("127.0.0.1").configure_cert(context)
    with FakePlatform(ssl_context=context) as platform:
        monkeypatch.setenv("BLUEJAY_API_URL", platform.url)
        code, found = doctor.look()
    assert code == 1
    assert "certificate_not_trusted" in found["platform"]
    assert "SSL_CERT_FILE" in found["platform"]


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (Answer(headers={"Date": "Wed, 21 Oct 2015 07:28:00 GMT"}), "wrong: is +"),
        (Answer(status=200, body=b"", headers={"Date": "Wed, 21 Oct 2015 07:28:00 GMT"}), "wrong: is +"),
        (Answer(headers={"Date": "soon"}), "note: cannot be compared"),
        (Answer(status=302, headers={"Location": "http://127.0.0.1:9/"}), "ok: agrees"),
    ],
)
def test_the_clock(doctor: Doctor, platform: FakePlatform, answer: Answer, words: str) -> None:
    """A clock far off is wrong; a platform that tells no time is no fault of ours; redirects are not followed."""
    platform.plan(answer)
    _, found = doctor.look()
    assert found["clock"].startswith(words)


def test_a_spool_that_cannot_be_used(doctor: Doctor, platform: FakePlatform) -> None:
    """The path, the reason and the way out."""
    doctor.spool.write_text("a file")
    code, found = doctor.look()
    assert code == 1
    assert found["spool"].startswith(f"wrong: {doctor.spool} cannot be used: file exists")
    assert "outbox" not in found


def test_the_default_spool(platform: FakePlatform, capsys: pytest.CaptureFixture[str]) -> None:
    """Without a directory the one in the user's state directory is looked at."""
    assert main(["doctor"]) == 0
    assert "bluejay_ws/spool can be used" in capsys.readouterr().out


def test_a_disk_that_is_nearly_full(doctor: Doctor, platform: FakePlatform, monkeypatch: pytest.MonkeyPatch) -> None:
    """Little room is wrong before there is none."""

    class Usage(NamedTuple):
        free: int

    def usage(_: Any) -> Usage:
        return Usage(free=5 * 2**20)

    monkeypatch.setattr(shutil, "disk_usage", usage)
    code, found = doctor.look()
    assert code == 1
    assert found["space"].startswith("wrong: only 5 MiB are free")


def test_reports_that_need_a_person(doctor: Doctor, platform: FakePlatform) -> None:
    """What is held is pointed out, with the command for it."""
    parcel = finished_call(spool_at(doctor.spool), "1")
    name = Name("1", parcel.report_id, READY)
    (doctor.spool / str(name)).rename(doctor.spool / str(name.become(HELD)))
    code, found = doctor.look()
    assert code == 0
    assert found["outbox"] == "note: 1 reports are held or parked see: bluejay-ws outbox"
    assert "calls" not in found


def test_calls_that_a_dead_process_left(doctor: Doctor, platform: FakePlatform) -> None:
    """They wait for a process to start; one that goes on is nothing to be told of."""
    spool = spool_at(doctor.spool)
    file = open_call(spool, "1")
    abandoned_call(spool_at(doctor.spool), "2")
    _, found = doctor.look()
    assert found["calls"].startswith("note: 1 calls were left by a process that died start the agent")
    file.discard()


# The agent


def refusing(status: int, accepted: str = "") -> Any:
    """Return a check at the upgrade that refuses with this status, all but one value of ``Authorization``."""

    def check(connection: ServerConnection, request: Request) -> Response | None:
        if accepted and request.headers.get("Authorization") == accepted:
            return None
        return connection.respond(status, "no")

    return check


@pytest.mark.parametrize(
    ("options", "arguments", "state", "words"),
    [
        ({"process_request": refusing(401)}, (), "ok", "refuses strangers with a 401 at the upgrade"),
        ({"process_request": refusing(403)}, (), "note", "refuses strangers with HTTP 403, not with 401"),
        ({}, (), "note", "lets strangers in"),
        (
            {"process_request": refusing(401, "Basic dTpw")},
            ("--user", "u", "--password", "p"),
            "ok",
            "accepts the credentials",
        ),
        ({"process_request": refusing(401)}, ("--user", "u"), "wrong", "HTTP 401 at the upgrade"),
    ],
)
def test_how_an_agent_takes_strangers_and_guests(
    doctor: Doctor, platform: FakePlatform, options: dict[str, Any], arguments: tuple[str, ...], state: str, words: str
) -> None:
    """A real 401 for strangers, and a welcome for the right credentials; no call is recorded for it."""
    with agent_thread(silent_agent, **options) as url:
        code, found = doctor.look(url, *arguments)
    assert found["agent"].startswith(f"{state}: ")
    assert words in found["agent"]
    assert code == (1 if state == "wrong" else 0)


def test_an_agent_that_closes_with_1008_after_accepting(doctor: Doctor, platform: FakePlatform) -> None:
    """The wrong way to refuse is told from the right one."""

    async def closing(connection: ServerConnection) -> None:
        await connection.close(1008, "unauthorized")

    with agent_thread(closing) as url:
        code, found = doctor.look(url)
    assert code == 1
    assert "INCOMPLETED" in found["agent"]


@pytest.mark.parametrize("url", ["ws://127.0.0.1:1", "no url"])
def test_an_agent_that_cannot_be_dialled(doctor: Doctor, platform: FakePlatform, url: str) -> None:
    """The kind words of `bluejay-ws call`, among the others."""
    code, found = doctor.look(url)
    assert code == 1
    assert found["agent"].startswith("wrong: ")
