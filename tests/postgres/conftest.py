"""A PostgreSQL server for each process that runs tests, and a database of its own for each test."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any

import pytest
from fleet.database import Database, NoPostgresError

from bluejay_ws.delivery import postgres

if TYPE_CHECKING:
    from collections.abc import Iterator

_numbers = itertools.count(1)
TABLES = ("chunks", "reports", "calls", "pods", "destinations", "fleet")
MANY = 1_000  # rows that would be in the way of the next test, though they are deleted


@pytest.fixture(scope="session")
def server() -> Iterator[Database]:
    """Return a running server whose database ``migrated`` has the schema."""
    pytest.importorskip("psycopg")
    try:
        database = Database(durable=False)
    except NoPostgresError as error:
        pytest.skip(str(error))
    with database:
        postgres.migrate(database.create("migrated"))
        yield database
        for _, keeper in _spare:
            keeper.close()


@pytest.fixture
def url(server: Database) -> Iterator[str]:
    """Return the URL of an empty database with the schema; one is used again and again, as making one takes long."""
    url, keeper = _spare.pop() if _spare else _made(server)
    yield url
    if _emptied(keeper):
        _spare.append((url, keeper))
    else:
        keeper.close()
        server.drop(_name(url))


_spare: list[tuple[str, Any]] = []  # each with a connection that stays, as a new one takes a hundredth of a second


def _made(server: Database) -> tuple[str, Any]:
    import psycopg

    url = server.create(f"test_{next(_numbers)}", template="migrated")
    return url, psycopg.connect(url, autocommit=True)


def _name(url: str) -> str:
    return url.split("@/")[1].partition("?")[0]


def _emptied(keeper: Any) -> bool:
    """Empty all tables, unless a test has filled them, or has taken them or the connection away."""
    import psycopg

    try:
        keeper.execute(
            "select pg_terminate_backend(pid, 5000) from pg_stat_activity"
            " where datname = current_database() and pid <> pg_backend_pid()"
        )
        if keeper.execute("select to_regclass('bluejay_ws.fleet')").fetchone() == (None,):
            return False
        # Not `truncate`: that makes new files, and takes forty times as long for so few rows.
        deleted: list[int] = [keeper.execute(f"delete from bluejay_ws.{table}").rowcount for table in TABLES]
        keeper.execute("insert into bluejay_ws.fleet default values")
    except psycopg.OperationalError:
        return False
    return max(deleted) < MANY


@pytest.fixture
def tcp(server: Database, url: str) -> str:
    """Return the URL of the same database over TCP."""
    return server.url(_name(url), tcp=True)
