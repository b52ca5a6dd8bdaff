"""Everything that can be wrong with a database, each with words that name it and the way out."""

from __future__ import annotations

import contextlib
import os
import pwd
import shutil
import socket
import subprocess
import time
import uuid
from typing import TYPE_CHECKING, Any

import pytest

from bluejay_ws.client import Bluejay
from bluejay_ws.delivery import postgres
from bluejay_ws.delivery.postgres import Outbox, Piece, Settlement
from bluejay_ws.delivery.postgres_admin import PostgresAdmin
from bluejay_ws.exceptions import ConfigurationError, SpoolError
from bluejay_ws.settings import Settings
from tests.proxy import Cut, Pass, Proxy, Stall

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

PLATFORM = "https://api.getbluejay.ai"


def problem(url: str) -> SpoolError:
    """Return what an outbox at this URL says when it is used."""
    outbox = Outbox(url, PLATFORM)
    with outbox.link, pytest.raises(SpoolError) as raised:
        outbox.check()
    return raised.value


# -- words --------------------------------------------------------------------------------------------------------


def test_a_wrong_address_is_named_without_the_password(tcp: str) -> None:
    """Nobody listens, no such host, no such database, no such user: each is told apart."""
    assert "cannot be reached" in str(problem("postgresql://me:secret@127.0.0.1:1/db"))
    assert "cannot be reached" in str(problem("postgresql://me:secret@no-such-host.invalid/db"))
    assert "secret" not in str(problem("postgresql://me:secret@127.0.0.1:1/db"))
    assert "no database of this name" in str(problem(tcp.rpartition("/")[0] + "/none"))
    assert "user or password" in str(problem(tcp.replace("bluejay@", "nobody-here@")))


def test_what_is_no_url_is_a_wrong_setting() -> None:
    """It is found where it is configured, or at the first connection."""
    with pytest.raises(ConfigurationError, match="is not a PostgreSQL URL"):
        postgres.connect("postgresql://host/db?no_such_option=1")
    with pytest.raises(ConfigurationError, match="a port that is none"):
        postgres.connect("postgresql://me:secret@127.0.0.1:99999/db")


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("postgres://me:secret@db.example:6432/calls?x=secret", "db.example:6432/calls"),
        ("postgresql://me:secret@one:5432,two:5433/calls", "one:5432,two:5433/calls"),
        ("postgresql://me:secret@[::1]:5432,two/calls", "[::1]:5432,two/calls"),
        ("postgresql://me:sec@secret@db/calls", "db/calls"),
        ("postgresql://me@%2Frun%2Fpostgres/calls", "/run/postgres/calls"),
        ("postgresql:///calls?user=me&password=secret", "localhost/calls"),
        ("postgresql://[", "(not a URL)"),
        ("postgresql://me:12/secret@db/calls", "(not a URL)"),
        ("postgresql://me:12#secret@db/calls", "(not a URL)"),
        ("postgresql://me:secret", "(not a URL)"),
    ],
)
def test_a_url_is_shown_without_its_password(url: str, words: str) -> None:
    """However it is written: with the hosts of a failover, or with signs in the password that should be quoted."""
    assert postgres.shown(url) == f"postgresql://{words}"


def test_a_server_that_is_full_says_so(server: Any, url: str) -> None:
    """Every connection is taken."""
    role = f"narrow_{uuid.uuid4().hex[:8]}"
    with postgres.connect(url) as owner:
        owner.execute(f'create role "{role}" login connection limit 0'.encode())
        assert "no connection left" in str(problem(url.replace("bluejay@", f"{role}@")))
        owner.execute(f'drop role "{role}"'.encode())


@pytest.mark.parametrize(
    ("state", "words"),
    [
        ("53100", "out of a resource"),
        ("25006", "read-only: a standby"),
        ("57P01", "restart or failover"),
        ("57014", "statement_timeout"),
        ("40P01", "in each other's way"),
        ("08P01", "behind its pooler"),
        ("26000", "forgot a prepared statement"),
        ("42883", "older version"),
        ("XX000", "SQLSTATE XX000"),
    ],
)
def test_each_number_of_the_database_has_words(state: str, words: str) -> None:
    """The database's own text, which may quote what people said, is left out."""

    class FailedError(Exception):
        sqlstate = state

    error = postgres.explain(FailedError("secret words of a caller"), "postgresql://db/x")
    assert words in str(error)
    assert "secret" not in str(error)
    assert error.__cause__ is None


def test_the_url_of_a_database_appears_nowhere(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """It holds a password: no repr of settings or client shows it."""
    monkeypatch.setenv("BLUEJAY_SPOOL_DIRECTORY", str(tmp_path))
    url = "postgresql://me:secret@127.0.0.1:1/db"
    settings = Settings.load(spool=url)
    agent = Bluejay(spool=url)
    assert "secret" not in f"{settings!r} {agent!r} {PostgresAdmin(url)}"
    assert settings.database is not None
    agent.close(0)


def test_local_files_of_two_databases_do_not_mix(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nor with those of a process without a database; the password is no part of it."""
    monkeypatch.delenv("BLUEJAY_SPOOL_DIRECTORY", raising=False)
    one = Settings.load(spool="postgresql://me:a@db/one").spool
    same = Settings.load(spool="postgresql://me:b@db/one").spool
    other = Settings.load(spool="postgresql://me:a@db/two").spool
    assert one == same
    assert len({one, other, Settings.load().spool}) == 3


# -- a network that misbehaves ------------------------------------------------------------------------------------


@pytest.fixture
def agent(tcp: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Bluejay, Proxy]]:
    """Return an agent whose database is behind a proxy, and the proxy."""
    monkeypatch.setenv("BLUEJAY_SPOOL_DIRECTORY", str(tmp_path / "pod"))
    port = int(tcp.rpartition(":")[2].partition("/")[0])
    with Proxy("127.0.0.1", port) as proxy:
        url = tcp.replace(f":{port}/", f":{proxy.port}/")
        with Bluejay(base_url="http://127.0.0.1:9", spool=url, flush_timeout=1) as agent:
            yield agent, proxy


def call(agent: Bluejay, identity: str) -> None:
    """Record one call."""
    with agent.call({"X-Simulation-Result-Id": identity}) as recorder:
        recorder.agent_said("hello")


def journals(url: str) -> dict[str, int]:
    """Return each sealed call of the database, with how many of its reports there are."""
    outbox = Outbox(url, PLATFORM)
    with outbox.link:
        sql = "select identity, count(*) from bluejay_ws.reports where state = 'sealed' group by identity"
        return dict(outbox.link.rows(sql))


@pytest.mark.parametrize(
    "passages",
    [
        [Cut()] * 3,
        [Cut(reset=False)] * 3,
        [Cut(up=400)] * 3,
        [Cut(down=0)] * 3,
        [Cut(down=600), Cut(down=900), Cut(down=1200)],
        [Pass(up=20_000, down=20_000)],
    ],
    ids=["refused", "half-closed", "cut while asking", "no answer", "answer swallowed", "slow"],
)
def test_a_network_that_cuts_loses_and_doubles_nothing(
    agent: tuple[Bluejay, Proxy], url: str, passages: list[Any]
) -> None:
    """Whatever happens to the connection, each call is in the database once."""
    client, proxy = agent
    proxy.plan(*passages)
    for number in range(5):
        call(client, str(number))
    assert client.flush(30)
    assert journals(url) == {str(number): 1 for number in range(5)}


def test_a_connection_that_hangs_is_given_up(
    agent: tuple[Bluejay, Proxy], url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A proxy that takes everything and says nothing: the thread does not wait for ever."""
    monkeypatch.setattr(postgres, "CONNECT_SECONDS", 1)
    monkeypatch.setattr(postgres, "STATEMENT_SECONDS", 1.0)
    client, proxy = agent
    proxy.plan(Stall(down=100))
    call(client, "720488")
    assert client.flush(30)
    assert journals(url) == {"720488": 1}
    assert client.stats()["errors.outbox"] >= 1


# -- PgBouncer ----------------------------------------------------------------------------------------------------


@pytest.fixture
def bouncer(server: Any, url: str, tmp_path: Path) -> Iterator[str]:
    """Return the URL of the database behind PgBouncer in transaction mode, with two server connections."""
    program = shutil.which("pgbouncer")
    if program is None:
        pytest.skip("PgBouncer is not installed")
    name = url.split("@/")[1].partition("?")[0]
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    home = server.socket_directory / f"bouncer{port}"
    home.mkdir()
    (home / "users").write_text('"bluejay" ""\n')
    (home / "ini").write_text(
        f"[databases]\n{name} = host={server.socket_directory} port={server.port} user=bluejay\n"
        f"[pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {port}\nunix_socket_dir =\nlogfile = {home}/log\n"
        f"auth_type = any\nauth_file = {home}/users\npool_mode = transaction\ndefault_pool_size = 2\n"
    )
    user = "postgres" if os.getuid() == 0 else None
    if user is not None:
        for path in (home, home / "users", home / "ini"):
            os.chown(path, pwd.getpwnam(user).pw_uid, -1)
    process = subprocess.Popen(
        [program, str(home / "ini")], user=user, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        until = time.monotonic() + 10
        while time.monotonic() < until:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
                break
            time.sleep(0.02)
        yield f"postgresql://bluejay@127.0.0.1:{port}/{name}"
    finally:
        process.terminate()
        process.wait()


def test_a_pooler_in_transaction_mode_is_enough(bouncer: str) -> None:
    """Many outboxes share two server connections; nothing needs a session."""
    outboxes = [Outbox(bouncer, PLATFORM) for _ in range(6)]
    with contextlib.ExitStack() as stack:
        for number, outbox in enumerate(outboxes):
            stack.enter_context(outbox.link)
            for start in range(3):
                outbox.push([Piece(f"{number:032x}", str(number), start * 3, b"abc", "sealed" if start == 2 else "")])
        for outbox in outboxes:
            call = outbox.claim(30)
            assert call is not None
            assert call.reports[0].journal == b"abcabcabc"
            assert outbox.settle(call, Settlement("delivered"))


def test_the_doctor_recognises_a_pooler_in_transaction_mode(bouncer: str) -> None:
    """Notifications do not come through; that is said, with what it costs."""
    found = {each.what: each for each in PostgresAdmin(bouncer).health()}
    assert found["database"].state == "ok"
    if found["notify"].state == "note":  # the two server connections may be the same by chance
        assert "PgBouncer in transaction mode" in found["notify"].words
