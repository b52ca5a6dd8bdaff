"""A PostgreSQL server for each process that runs tests, and a database of its own for each test."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

import pytest
from fleet.database import Database, NoPostgresError

from bluejay_ws.delivery import postgres

if TYPE_CHECKING:
    from collections.abc import Iterator

_numbers = itertools.count(1)


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


@pytest.fixture
def url(server: Database) -> Iterator[str]:
    """Return the URL of an empty database with the schema; one is used again and again, as making one takes long."""
    url = _spare.pop() if _spare else server.create(f"test_{next(_numbers)}", template="migrated")
    yield url
    name = url.split("@/")[1].partition("?")[0]
    if _emptied(server, url, name):
        _spare.append(url)
    else:
        server.drop(name)


_spare: list[str] = []


def _emptied(server: Database, url: str, name: str) -> bool:
    """Empty all tables, unless a test has taken them away."""
    import psycopg

    with psycopg.connect(server.url(), autocommit=True) as connection:
        connection.execute("select pg_terminate_backend(pid, 5000) from pg_stat_activity where datname = %s", [name])
    with psycopg.connect(url, autocommit=True) as connection:
        if connection.execute("select to_regclass('bluejay_ws.fleet')").fetchone() == (None,):
            return False
        connection.execute(
            "truncate bluejay_ws.pods, bluejay_ws.reports, bluejay_ws.chunks, bluejay_ws.calls,"
            " bluejay_ws.destinations, bluejay_ws.fleet"
        )
        connection.execute("insert into bluejay_ws.fleet default values")
    return True


@pytest.fixture
def tcp(server: Database, url: str) -> str:
    """Return the URL of the same database over TCP."""
    return server.url(url.split("@/")[1].partition("?")[0], tcp=True)
