"""`bluejay-ws doctor`: what is wrong with this machine's set-up, and what to do about it."""

from __future__ import annotations

import argparse
import json
import shutil
import ssl
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest
import trustme

from bluejay_ws.cli import doctor as doctor_module
from bluejay_ws.cli import main
from bluejay_ws.delivery.files import HELD, READY, Name
from bluejay_ws.delivery.store import APART, DELETE_APART, SEND_APART
from bluejay_ws.exceptions import ConfigurationError
from bluejay_ws.settings import destination_of
from bluejay_ws.testing.platform import Answer, FakePlatform
from tests.cli.serving import agent_thread
from tests.delivery.kit import abandoned_call, finished_call, open_call, path_of, spool_at
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
        self._capsys.readouterr()
        code = main(["doctor", "--spool", str(self.spool), *arguments])
        found: dict[str, str] = {}
        name = ""
        for line in self._capsys.readouterr().out.splitlines():
            if line.startswith("checking"):
                continue
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


@pytest.mark.parametrize(
    ("key", "words"),
    [
        ("secret key", "holds blanks"),
        ("secret-k\u00e9y", "holds blanks, line ends or characters"),
    ],
)
def test_a_key_that_was_copied_badly(
    doctor: Doctor, platform: FakePlatform, monkeypatch: pytest.MonkeyPatch, key: str, words: str
) -> None:
    """What is wrong with it is said, the key is not; everything else is checked all the same."""
    monkeypatch.setenv("BLUEJAY_API_KEY", key)
    code, found = doctor.look()
    assert code == 1
    assert words in found["key"]
    assert "secret" not in str(found)
    assert found["spool"].startswith("ok")


@pytest.mark.parametrize("key", ["{}\n", '"{}"', " {}"])
def test_what_stands_round_a_key_is_left_out(
    doctor: Doctor, platform: FakePlatform, monkeypatch: pytest.MonkeyPatch, key: str
) -> None:
    """As the library does it: a note, and the platform takes the key."""
    monkeypatch.setenv("BLUEJAY_API_KEY", key.format(platform.api_key))
    code, found = doctor.look()
    assert code == 0
    assert found["key"] == "note: BLUEJAY_API_KEY has blanks, line ends or quotes round it; they are left out"
    assert found["platform"].startswith("ok")


@pytest.mark.parametrize(
    ("name", "value", "where", "words"),
    [
        ("HTTPS_PROXY", "socks5://127.0.0.1:1", "proxy", "SOCKS or TLS cannot be used: leave it out with NO_PROXY"),
        ("SSL_CERT_FILE", "/no/such/file", "certs", "SSL_CERT_FILE cannot be used: no such file"),
    ],
)
def test_a_variable_that_keeps_a_client_from_being_made(
    doctor: Doctor, monkeypatch: pytest.MonkeyPatch, name: str, value: str, where: str, words: str
) -> None:
    """It is named, with the way out, and the platform is not asked."""
    for other in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(other, raising=False)
    monkeypatch.setenv("BLUEJAY_API_KEY", "made-up-key")
    monkeypatch.setenv("BLUEJAY_API_URL", "https://127.0.0.1:1")
    monkeypatch.setenv("ALL_PROXY", "http://127.0.0.1:1")  # innocent
    monkeypatch.setenv(name, value)
    code, found = doctor.look()
    assert code == 1
    assert words in found[where]
    assert "was not asked" in found["platform"]
    assert "127.0.0.1:1" not in found[where]


@pytest.mark.parametrize("value", ["fd00:12:34::/64", "localhost,[::1]", "http://[::1"])
def test_what_does_nothing_in_no_proxy_is_named(doctor: Doctor, monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    """Whoever wrote it believes that it counts; clients are made all the same."""
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.setenv("NO_PROXY", value)
    monkeypatch.setenv("BLUEJAY_API_URL", "https://127.0.0.1:1")
    _, found = doctor.look()
    assert found["proxy"].startswith("note: NO_PROXY has networks")
    assert "no answer from" in found["platform"]


def test_a_proxy_that_works_is_mentioned(doctor: Doctor, monkeypatch: pytest.MonkeyPatch) -> None:
    """Reports go through it, which is worth knowing when something is wrong."""
    for other in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(other, raising=False)
    monkeypatch.setenv("BLUEJAY_API_URL", "https://127.0.0.1:1")
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:1")
    _, found = doctor.look()
    assert found["proxy"] == "ok: HTTPS_PROXY is set: reports go through a proxy"


def test_a_proxy_that_is_down_is_not_taken_for_the_platform(doctor: Doctor, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is what does not answer; and where NO_PROXY leaves it out, nobody speaks of it."""
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.setenv("NO_PROXY", "elsewhere.example")
    monkeypatch.setenv("BLUEJAY_API_URL", "https://127.0.0.1:1")
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:1")
    _, found = doctor.look()
    assert found["platform"].startswith("wrong: no answer from the proxy: no connection can be made mend HTTPS_PROXY")
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    _, found = doctor.look()
    assert "proxy" not in found
    assert found["platform"].startswith("wrong: no answer from https://127.0.0.1:1: no connection can be made")


@pytest.mark.parametrize(
    ("reads", "posts", "state", "words"),
    [
        (
            Answer(status=200, body=b"<html>welcome</html>"),
            Answer(status=404, body=b"<html>"),
            "wrong",
            "not as Bluejay's",
        ),
        (Answer(status=200, body=b'{"status": "ok"}'), Answer(status=200, body=b"{}"), "wrong", "not as Bluejay's"),
        (Answer(status=404, body=b'{"detail": "Not Found"}'), Answer(status=405), "wrong", "not as Bluejay's"),
        (Answer(status=401, body=b"<html>log in</html>"), Answer(), "wrong", "HTTP 401, and not as Bluejay's"),
        (
            Answer(status=404, body=b'{"detail": "Simulation result not found"}'),
            Answer(),
            "ok",
            "Bluejay's API answers",
        ),
        (
            Answer(status=404, body=b'{"detail": "Not Found"}'),
            Answer(status=401),
            "wrong",
            "refuses the key (HTTP 401)",
        ),
        (Answer(status=404, body=b'{"detail": "Not Found"}'), Answer(status=502), "wrong", "answers HTTP 502"),
        (Answer(status=429), Answer(status=429), "wrong", "answers HTTP 429 try again later"),
    ],
)
def test_only_bluejays_own_api_is_taken_for_it(
    doctor: Doctor, platform: FakePlatform, reads: Answer, posts: Answer, state: str, words: str
) -> None:
    """A login page, another service, a gateway: whatever answers in its place is told from it."""
    platform.otherwise(posts, reads=reads)
    code, found = doctor.look()
    assert found["platform"].startswith(state)
    assert words in found["platform"]
    assert code == (state == "wrong")
    assert platform.accepted == []


def test_a_check_that_fails_is_a_finding(
    doctor: Doctor, platform: FakePlatform, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Never a traceback; the other checks go on."""

    def broken(_: Any) -> None:
        raise RuntimeError

    monkeypatch.setattr("bluejay_ws.cli.doctor.ask", broken)
    code, found = doctor.look()
    assert code == 1
    assert found["platform"] == "wrong: the check itself failed (RuntimeError) please report this"
    assert found["spool"].startswith("ok")


def test_a_disk_without_inodes(doctor: Doctor, platform: FakePlatform, monkeypatch: pytest.MonkeyPatch) -> None:
    """It has room and takes no file all the same."""
    monkeypatch.setattr("bluejay_ws.cli.doctor._inodes", lambda _: 1)
    code, found = doctor.look()
    assert code == 1
    assert found["space"].startswith("wrong: only 1 inode free")


def test_a_script_gets_one_document(platform: FakePlatform, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Every finding, and how many are wrong."""
    assert main(["doctor", "--json", "--spool", str(tmp_path / "spool")]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["wrong"] == 0
    assert {finding["state"] for finding in found["findings"]} == {"ok"}


def test_settings_that_cannot_be_used(doctor: Doctor, monkeypatch: pytest.MonkeyPatch) -> None:
    """The setting, the reason and the way out; the key itself is not shown."""
    monkeypatch.setenv("BLUEJAY_API_KEY", "secret with blanks")
    code, found = doctor.look()
    assert code == 1
    assert found["key"].startswith("wrong: BLUEJAY_API_KEY holds blanks")
    assert "spool" in found
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
    assert found["platform"].startswith(f"wrong: no answer from {platform.url}: no connection can be made")
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


def test_a_user_without_a_home(platform: FakePlatform, monkeypatch: pytest.MonkeyPatch) -> None:
    """There is no default spool then: the variable that helps is named."""
    monkeypatch.setattr("bluejay_ws.cli.doctor.default_spool", no_home)
    args = argparse.Namespace(spool=False, url=None, user=None, password="")
    findings = {finding.what: finding for finding in doctor_module._findings(args)}
    assert findings["spool"].words == "BLUEJAY_SPOOL needs a home directory"


def no_home() -> Path:
    """Fail as the settings do."""
    raise ConfigurationError("BLUEJAY_SPOOL", "needs a home directory", "give one")


def test_reports_that_need_a_person(doctor: Doctor, platform: FakePlatform) -> None:
    """What is held is pointed out, with the command for it."""
    parcel = finished_call(spool_at(doctor.spool), "1")
    name = Name("1", parcel.report_id, READY)
    path_of(spool_at(doctor.spool), name).rename(doctor.spool / str(name.become(HELD)))
    code, found = doctor.look()
    assert code == 0
    assert found["outbox"] == "note: 1 report held or parked see: bluejay-ws outbox"
    assert "calls" not in found


def test_calls_that_a_dead_process_left(doctor: Doctor, platform: FakePlatform) -> None:
    """They wait for a process to start; one that continues is nothing to be told of."""
    here = destination_of(platform.url)
    spool = spool_at(doctor.spool, destination=here)
    file = open_call(spool, "1")
    abandoned_call(spool_at(doctor.spool, destination=here), "2")
    _, found = doctor.look()
    assert found["calls"].startswith("note: 1 call left by a process that died start the agent")
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
    assert "CALL_DROPPED" in found["agent"]


@pytest.mark.parametrize("url", ["ws://127.0.0.1:1", "no url"])
def test_an_agent_that_cannot_be_dialled(doctor: Doctor, platform: FakePlatform, url: str) -> None:
    """The kind words of `bluejay-ws call`, among the others."""
    code, found = doctor.look(url)
    assert code == 1
    assert found["agent"].startswith("wrong: ")


def test_reports_for_another_platform(doctor: Doctor, platform: FakePlatform) -> None:
    """They are no part of this outbox, and it is said where they were to go; a lost call counts as well."""
    there = destination_of("https://api.getbluejay.ai")
    finished_call(spool_at(doctor.spool, destination=there), "1")
    abandoned_call(spool_at(doctor.spool, destination=there), "2")
    finished_call(spool_at(doctor.spool, destination="elsewhere"), "3")
    code, found = doctor.look()
    assert code == 0
    assert found["outbox"] == "ok: no report waits"
    assert found["elsewhere"].startswith(
        "note: 3 reports recorded for another platform (1 for elsewhere, 2 for https://api.getbluejay.ai:443)"
    )
    assert "BLUEJAY_API_URL" in found["elsewhere"]
    assert "calls" not in found
    assert "apart" not in found


def test_reports_without_a_key(doctor: Doctor, platform: FakePlatform) -> None:
    """They wait apart, and both ways out are commands."""
    finished_call(spool_at(doctor.spool, destination=APART), "1")
    _, found = doctor.look()
    assert found["apart"].startswith("note: 1 report recorded without an API key or by a test")
    assert SEND_APART in found["apart"]
    assert DELETE_APART in found["apart"]
    assert found["outbox"] == "ok: no report waits"
