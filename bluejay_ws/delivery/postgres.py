"""The outbox of a fleet: reports kept in PostgreSQL, handed in by any process and delivered by any other.

Every state and every time is the database's; `migrations` has the tables and the functions that change them. This
module connects, says what is wrong in words that lead out of it, and gives the functions names. It makes no decision
about a delivery.

Nothing here needs a session: no prepared statements, no session locks, no temporary tables. So it works behind
PgBouncer in transaction mode; only `listen` does not, and then a deliverer finds new reports by looking each second.
"""

from __future__ import annotations

import contextlib
import json
import os
import platform
import re
import socket
import threading
import time
import uuid
from dataclasses import dataclass, field
from importlib import resources
from typing import TYPE_CHECKING, Any, Self
from urllib.parse import unquote, urlsplit

from bluejay_ws.exceptions import ConfigurationError, SpoolError
from bluejay_ws.version import VERSION

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    import psycopg

CONNECT_SECONDS = 10
STATEMENT_SECONDS = 20.0
CHANNEL = "bluejay_ws"
TIDY_BATCH = 5_000
_NUMBER = re.compile(r"([0-9]{4})_[a-z_]+\.sql")
_HOST = r"(?:\[[0-9A-Fa-f:.]+\]|[^:,\[\]]*)(?::[0-9]*)?"
_HOSTS = re.compile(f"{_HOST}(?:,{_HOST})*")
_NO_URL = "postgresql://(not a URL)"
_ROLE = re.compile(r"[A-Za-z_][A-Za-z0-9_$]{0,62}")


def _migrations() -> list[tuple[int, str, str]]:
    """Return number, name and text of each migration, in order."""
    found = []
    for entry in resources.files("bluejay_ws.delivery").joinpath("migrations").iterdir():
        match = _NUMBER.fullmatch(entry.name)
        if match is not None:
            found.append((int(match[1]), entry.name, entry.read_text("utf-8")))
    return sorted(found)


SCHEMA = max(number for number, _, _ in _migrations())
"""The number of the newest migration: the schema that this version works with."""


def is_url(text: object) -> bool:
    """Return whether a spool is the URL of a PostgreSQL database."""
    return isinstance(text, str) and text.startswith(("postgresql://", "postgres://"))


def shown(url: str) -> str:
    """Return the URL without user, password and options: fit for messages and logs."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return _NO_URL
    _, user, hosts = parts.netloc.rpartition("@")
    if _HOSTS.fullmatch(hosts) is None or ("@" in url and not user):  # a part of the password may be anywhere in it
        return _NO_URL
    return f"postgresql://{unquote(hosts) or 'localhost'}{parts.path}"


# -- connecting ---------------------------------------------------------------------------------------------------


def import_driver() -> Any:
    """Return psycopg.

    Raises:
        ConfigurationError: it is not installed.
    """
    try:
        import psycopg  # noqa: PLC0415 - an extra, and it brings the C library of PostgreSQL
    except ImportError:
        remedy = "pip install 'bluejay_ws[postgres]'"
        raise ConfigurationError("spool", "is a PostgreSQL URL, and psycopg is not installed", remedy) from None
    return psycopg


def connect(url: str) -> psycopg.Connection[Any]:
    """Return a connection, each statement a transaction of its own.

    Raises:
        ConfigurationError: psycopg is not installed, or the URL cannot be read.
        SpoolError: the database cannot be reached, or lets nobody in.
    """
    driver = import_driver()
    try:
        connection: psycopg.Connection[Any] = driver.connect(
            url,
            autocommit=True,
            prepare_threshold=None,  # PgBouncer gives each transaction another server process
            connect_timeout=CONNECT_SECONDS,
            application_name="bluejay_ws",
            keepalives_idle=10,
            keepalives_interval=5,
            keepalives_count=3,
            tcp_user_timeout=15_000,
        )
    except driver.ProgrammingError:
        remedy = "write it like postgresql://user:password@host:5432/database"
        raise ConfigurationError("spool", "is not a PostgreSQL URL that can be read", remedy) from None
    except (driver.Error, UnicodeError) as error:
        if "invalid port number" in str(error):
            raise ConfigurationError("spool", "has a port that is none", "use one from 1 to 65535") from None
        raise explain(error, url) from None
    return connection


_BY_STATE = {
    "28": ("lets this user in no further (user or password)", "check user and password in the URL, and pg_hba.conf"),
    "3D000": ("has no database of this name", "create it, or correct the URL"),
    "3F000": ("has no outbox", "make it: bluejay-ws migrate --spool URL"),
    "42P01": ("has no outbox", "make it: bluejay-ws migrate --spool URL"),
    "42883": ("has an outbox of an older version", "bring it up to date: bluejay-ws migrate --spool URL"),
    "42703": ("has an outbox of another version", "bring it up to date: bluejay-ws migrate --spool URL"),
    "42501": (
        "does not allow this role to do that",
        "grant it: bluejay-ws migrate --spool URL, and --agent ROLE or --deliverer ROLE",
    ),
    "53300": ("has no connection left", "raise max_connections, or put PgBouncer in front of it"),
    "53": ("is out of a resource (disk, memory)", "see its log; until then reports stay in local files"),
    "25006": ("is read-only: a standby", "point the URL to the primary (target_session_attrs=read-write)"),
    "26000": ("forgot a prepared statement", "tell the pooler to keep them, or report this"),
    "57P": ("ended the connection (restart or failover)", "nothing: it is tried again"),
    "57014": ("cancelled a statement (statement_timeout)", "raise statement_timeout for this role"),
    "40": ("had two transactions in each other's way", "nothing: it is tried again"),
    "08P01": ("has no connection left behind its pooler", "raise the pooler's pool_size, or query_wait_timeout"),
}
_BY_WORDS = (
    (r"password authentication failed|no pg_hba\.conf entry|role .* does not exist|no password supplied", "28"),
    (r"database .* does not exist|no such database", "3D000"),
    (r"too many clients|too many connections|remaining connection slots|no more connections allowed", "53300"),
    (r"query_wait_timeout|pool_size|client_login_timeout", "08P01"),
    (r"terminating connection|shutting down|starting up|recovery mode|server closed the connection", "57P"),
)
_PASSES = ("57P", "53", "40", "08P01")
_UNREACHED = ("cannot be reached", "check host and port in the URL, and that the database runs")


class AwayError(SpoolError):
    """The database cannot be used now: whoever tries again may be luckier."""


def explain(error: Exception, url: str) -> SpoolError:
    """Return what an error of the database means, and the way out. Its own text, which may quote data, is left out."""
    state = getattr(error, "sqlstate", None) or _state_of(str(error))
    for length in (5, 3, 2):
        if state[:length] in _BY_STATE:
            kind = AwayError if state.startswith(_PASSES) else SpoolError
            return kind(shown(url), *_BY_STATE[state[:length]])
    if state:
        return SpoolError(shown(url), f"refuses a statement (SQLSTATE {state})", "report this, with the number")
    return AwayError(shown(url), *_UNREACHED)


def _state_of(words: str) -> str:
    """Return what the words of an error without a number stand for: while connecting there is no number."""
    return next((state for pattern, state in _BY_WORDS if re.search(pattern, words)), "")


class Link:
    """One connection that is made when it is needed, and made anew after a failure. For one thread at a time.

    Args:
        url: of the database.
    """

    def __init__(self, url: str) -> None:
        self._url = url
        self._connection: psycopg.Connection[Any] | None = None
        self._late_at: float | None = None

    def rows(self, sql: str, *values: Any) -> list[tuple[Any, ...]]:
        """Run one statement in a transaction of its own and return its rows.

        Raises:
            SpoolError: it could not be run, or nobody knows whether it was: the connection ended in the middle.
        """
        psycopg = import_driver()
        self._late_at = time.monotonic() + CONNECT_SECONDS + STATEMENT_SECONDS
        try:
            if self._connection is None:
                self._connection = connect(self._url)
            cursor = self._connection.execute(sql.encode(), values)
            return cursor.fetchall() if cursor.description else []
        except psycopg.Error as error:
            if not isinstance(error, psycopg.ProgrammingError) or self._connection is None:
                self.close()
            raise explain(error, self._url) from None
        finally:
            self._late_at = None

    def abort_if_late(self, now: float) -> None:
        """End a statement that takes far too long, such as one behind a proxy that hangs; for another thread."""
        late_at, connection = self._late_at, self._connection
        if late_at is not None and connection is not None and now >= late_at:
            _cut_off(connection)

    def close(self) -> None:
        """Close the connection, if there is one; twice is allowed."""
        connection, self._connection = self._connection, None
        if connection is not None:
            with contextlib.suppress(Exception):
                connection.close()

    def forget(self) -> None:
        """Own nothing in a forked child: the connection is the parent's, and closing it would end it there."""
        connection, self._connection = self._connection, None
        if connection is not None:
            _inherited.append(connection)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


_inherited: list[Any] = []  # kept alive in forked children: their collection would speak on the parent's socket


def _cut_off(connection: psycopg.Connection[Any]) -> None:
    """End a connection under the thread that uses it."""
    with contextlib.suppress(Exception), socket.socket(fileno=os.dup(connection.fileno())) as twin:
        twin.shutdown(socket.SHUT_RDWR)


class Listener:
    """Hear whenever a report is ready somewhere in the fleet.

    Where notifications do not come through (PgBouncer in transaction mode), nothing is lost but a second.

    Args:
        url: of the database.
        wake: called for each notification.
    """

    def __init__(self, url: str, wake: Callable[[], object]) -> None:
        self._url = url
        self._wake = wake
        self._stop = threading.Event()
        self._connection: psycopg.Connection[Any] | None = None

    def run(self) -> None:
        """Listen until `stop`. Never raises."""
        while not self._stop.is_set():
            try:
                with connect(self._url) as self._connection:
                    self._connection.execute(f"listen {CHANNEL}")
                    while not self._stop.is_set():
                        for _ in self._connection.notifies(timeout=1.0, stop_after=1):
                            self._wake()
            except Exception:  # noqa: BLE001 - the deliverer looks each second anyway, and says what is wrong
                self._stop.wait(1.0)

    def stop(self) -> None:
        """End `run`, from another thread, at once."""
        self._stop.set()
        if self._connection is not None:
            _cut_off(self._connection)


# -- the schema ---------------------------------------------------------------------------------------------------


def migrate(
    url: str, *, agents: Sequence[str] = (), deliverers: Sequence[str] = (), operators: Sequence[str] = ()
) -> list[str]:
    """Bring the schema up to date, and give roles what they need; return what was done. Doing it again changes nothing.

    Args:
        url: of the database, for a role that may create a schema.
        agents: roles of agents' processes: they may hand reports in, and read nothing.
        deliverers: roles that deliver: they may also read reports and change their states.
        operators: roles for people: they may also delete.

    Raises:
        SpoolError: it could not be done; nothing of a migration that failed stays.
    """
    psycopg = import_driver()
    done: list[str] = []
    with connect(url) as connection:
        try:
            with connection.transaction():
                connection.execute("select pg_advisory_xact_lock(hashtextextended('bluejay_ws.migrate', 0))")
                done += _apply(connection)
                for group, names in (("agent", agents), ("deliverer", deliverers), ("operator", operators)):
                    for name in names:
                        done.append(_grant(connection, group, name))
        except psycopg.Error as error:
            raise explain(error, url) from None
    return done


def _apply(connection: psycopg.Connection[Any]) -> Iterator[str]:
    connection.execute("create schema if not exists bluejay_ws")
    connection.execute(
        "create table if not exists bluejay_ws.migrations"
        " (number integer primary key, name text not null, applied_at timestamptz not null default now())"
    )
    applied = {number for (number,) in connection.execute("select number from bluejay_ws.migrations")}
    for number, name, text in _migrations():
        if number not in applied:
            connection.execute(text.encode())
            connection.execute("insert into bluejay_ws.migrations (number, name) values (%s, %s)", (number, name))
            yield f"applied {name}"


_PUSH = "function bluejay_ws.push, bluejay_ws.leave"
_WORK = "function bluejay_ws.await_delivery, bluejay_ws.reap, bluejay_ws.claim, bluejay_ws.renew, bluejay_ws.settle"
_GRANTS = {
    "agent": ("usage on schema bluejay_ws", f"execute on {_PUSH}", "select on table bluejay_ws.migrations"),
    "deliverer": (
        "usage on schema bluejay_ws",
        f"execute on {_PUSH}",
        f"execute on {_WORK}, bluejay_ws.hear, bluejay_ws.tidy",
        "select on all tables in schema bluejay_ws",
        "insert, update on table bluejay_ws.calls, bluejay_ws.destinations, bluejay_ws.reports, bluejay_ws.fleet",
        "delete on table bluejay_ws.calls, bluejay_ws.reports, bluejay_ws.chunks, bluejay_ws.pods",
    ),
}
_GRANTS["operator"] = _GRANTS["deliverer"]


def _grant(connection: psycopg.Connection[Any], group: str, role: str) -> str:
    if _ROLE.fullmatch(role) is None:
        raise ConfigurationError("role", f"{role!r} is no plain name", "use letters, digits and _")
    for grant in _GRANTS[group]:
        connection.execute(f'grant {grant} to "{role}"'.encode())
    return f"granted {role} what {group}s need"


# -- the verbs ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Piece:
    """Some bytes of one report's journal, on their way into the database.

    Args:
        report_id: of the report.
        identity: the simulation result id; empty while it is not known.
        start: how many bytes came before.
        body: the bytes.
        end: empty while the call continues, then ``sealed``, ``lost`` (its process died) or ``gone`` (it was dropped).
    """

    report_id: str
    identity: str
    start: int
    body: bytes = field(repr=False)
    end: str = ""


@dataclass(frozen=True, slots=True)
class ClaimedReport:
    """One connection's share of a claimed call.

    Args:
        report_id: of the connection.
        state: ``sealed``, or ``lost`` where its process died.
        received: how many bytes of its journal there are.
        journal: the bytes.
    """

    report_id: str
    state: str
    received: int
    journal: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class ClaimedCall:
    """A call that this deliverer, and no other, may deliver while its lease lasts.

    Args:
        identity: the simulation result id.
        unsure: whether an earlier deliverer's lease ran out while it was sending: look before sending.
        history: what is known of earlier attempts.
        probe: whether it is the one attempt that the open breaker lets through.
        failures: how many attempts in a row have failed, of the whole fleet.
        age: seconds since the call ended.
        reports: its connections, in order.
    """

    identity: str
    unsure: bool
    history: dict[str, Any]
    probe: bool
    failures: int
    age: float
    reports: tuple[ClaimedReport, ...] = ()


@dataclass(frozen=True, slots=True)
class Settlement:
    """What is to be written down of an attempt.

    Args:
        state: ``waiting``, ``sending`` (its outcome is unknown: look at it when it is due), ``held``, ``parked`` or
            ``delivered``.
        wait: seconds until the call is due again.
        reason: a word.
        detail: more, for a person.
        history: for the next attempt, in any process.
        report_ids: what was delivered; None: all.
        down: what the attempt shows of the platform: it does not work, it does, or nothing.
    """

    state: str
    wait: float = 0.0
    reason: str = ""
    detail: str = ""
    history: dict[str, Any] = field(default_factory=dict)
    report_ids: Sequence[str] | None = None
    down: bool | None = None


class Outbox:
    """Give the database's functions names. For one thread at a time; each thread has its own.

    Args:
        url: of the database.
        destination: the platform that reports are recorded for: scheme, host and port.
        holder: of this process; default a new one.
    """

    def __init__(self, url: str, destination: str, *, holder: uuid.UUID | None = None) -> None:
        self.link = Link(url)
        self.destination = destination
        self.holder = holder or uuid.uuid4()
        self._url = url

    def check(self) -> None:
        """See whether the schema is there and is this version's.

        Raises:
            SpoolError: it is not; says what to do.
        """
        ((number,),) = self.link.rows("select coalesce(max(number), 0) from bluejay_ws.migrations")
        if number < SCHEMA:
            reason = f"has an outbox of an older version ({number}, this one needs {SCHEMA})"
            raise SpoolError(shown(self._url), reason, "bring it up to date: bluejay-ws migrate --spool URL")

    def now(self) -> float:
        """Return the database's Unix time, in seconds."""
        ((now,),) = self.link.rows("select extract(epoch from clock_timestamp())::float8")
        return float(now)

    def push(self, pieces: Sequence[Piece]) -> dict[str, tuple[int, str]]:
        """Hand in what was recorded, all or nothing; also says that this process lives.

        Returns:
            For each report how many bytes the database has, and its state there. Fewer than were sent: it has
            forgotten some (a failover), and wants them again.
        """
        rows = self.link.rows(
            "select report_id, received, state from bluejay_ws.push(%s, %s, %s, %s, %s, %b::text[], %b::text[],"
            " %b::bigint[], %b::bytea[], %b::text[])",  # binary: as text, bytes would be written out in hexadecimal
            *(self.holder, platform.node() or "unknown", os.getpid(), VERSION, self.destination),
            [piece.report_id for piece in pieces],
            [piece.identity for piece in pieces],
            [piece.start for piece in pieces],
            [piece.body for piece in pieces],
            [piece.end for piece in pieces],
        )
        return {report_id: (received, state) for report_id, received, state in rows}

    def leave(self) -> None:
        """Say that this process is about to end: what it has not sealed is not waited for."""
        self.link.rows("select bluejay_ws.leave(%s)", self.holder)

    def claim(self, lease: float, *, retries_first: bool = False) -> ClaimedCall | None:
        """Return a call whose time has come; None if there is none, or the breaker or the rate says no.

        Args:
            lease: seconds for which nobody else gets it.
            retries_first: prefer one that was tried before to the newest that was not.
        """
        rows = self.link.rows(
            "select * from bluejay_ws.claim(%s, %s, make_interval(secs => %s), %s)",
            *(self.destination, self.holder, lease, retries_first),
        )
        if not rows:
            return None
        identity, was, history, probe, failures, age = rows[0][:6]
        reports = tuple(ClaimedReport(*row[6:]) for row in rows if row[6] is not None)
        return ClaimedCall(identity, was == "sending", history, probe, failures, age, reports)

    def renew(self, identities: Sequence[str], lease: float) -> int:
        """Keep the leases of these calls; return how many are still ours."""
        sql = "select bluejay_ws.renew(%s, %s, %s::text[], make_interval(secs => %s))"
        ((kept,),) = self.link.rows(sql, self.destination, self.holder, list(identities), lease)
        return int(kept)

    def settle(self, call: ClaimedCall, found: Settlement) -> bool:
        """Write down what came of an attempt, and give the call back; return whether it counted."""
        sent = [each for each in call.reports if found.report_ids is None or each.report_id in found.report_ids]
        ((counted,),) = self.link.rows(
            "select bluejay_ws.settle(%s, %s, %s, %s, make_interval(secs => %s), %s::jsonb, %s, %s,"
            " %s::text[], %s::bigint[])",
            *(self.destination, call.identity, self.holder, found.state, found.wait, json.dumps(found.history)),
            *(found.reason, found.detail),
            [each.report_id for each in sent],
            [each.received for each in sent],
        )
        return bool(counted)

    def hear(self, *, down: bool, probe: bool, wait: float = 0.0) -> None:
        """Tell the fleet what an attempt has shown of the platform.

        Args:
            down: it does not work, else it does.
            probe: the attempt was the breaker's.
            wait: seconds for which nobody tries.
        """
        sql = "select bluejay_ws.hear(%s, %s, %s, make_interval(secs => %s))"
        self.link.rows(sql, self.destination, down, probe, wait)

    def reap(self, lease: float, redial_wait: float) -> int:
        """Seal the reports of processes that were not heard of for a lease; return how many."""
        sql = "select bluejay_ws.reap(make_interval(secs => %s), make_interval(secs => %s))"
        ((count,),) = self.link.rows(sql, lease, redial_wait)
        return int(count)

    def tidy(self, *, delivered_days: float, parked_days: float) -> int:
        """Remove a batch of what is old; return how many rows."""
        sql = "select bluejay_ws.tidy(make_interval(secs => %s), make_interval(secs => %s), %s)"
        ((count,),) = self.link.rows(sql, delivered_days * 86_400, parked_days * 86_400, TIDY_BATCH)
        return int(count)

    def counts(self, *, delivered: bool = True) -> dict[str, int]:
        """Return how many calls there are in each state, and how many reports go on, are held or late.

        Args:
            delivered: count those too; of a million that takes a second.
        """
        among = "" if delivered else " and (state in ('waiting', 'sending') or state in ('held', 'parked'))"
        calls = self.link.rows(
            f"select state, count(*) from bluejay_ws.calls where destination = %s{among} group by state",  # noqa: S608
            self.destination,
        )
        reports = self.link.rows(
            "select state, count(*) from bluejay_ws.reports where destination = %s"
            " and state in ('live', 'held', 'late', 'no_id') group by state",
            self.destination,
        )
        return {**dict(calls), **{f"reports.{state}": count for state, count in reports}}
