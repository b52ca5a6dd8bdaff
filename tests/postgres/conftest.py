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
    """Return the URL of a new database with the schema."""
    name = f"test_{next(_numbers)}"
    yield server.create(name, template="migrated")
    server.drop(name)


@pytest.fixture
def tcp(server: Database, url: str) -> str:
    """Return the URL of the same database over TCP."""
    return server.url(url.split("@/")[1].partition("?")[0], tcp=True)
