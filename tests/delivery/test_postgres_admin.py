"""A fleet's outbox as a person sees it, where something about the database is not as it should be."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, Self

import pytest

from bluejay_ws.delivery import postgres_admin as module
from bluejay_ws.delivery.files import HELD, LIVE, SENDING, Name
from bluejay_ws.delivery.postgres_admin import PostgresAdmin
from bluejay_ws.exceptions import SpoolError
from tests.delivery.kit import new_id

if TYPE_CHECKING:
    from collections.abc import Callable


class Admin(PostgresAdmin):
    """Answers each statement with the next of these."""

    def __init__(self, *answers: Any) -> None:
        super().__init__("postgresql://u:secret@db/x")
        self.answers = list(answers)

    def _rows(self, sql: str, *values: Any) -> list[tuple[Any, ...]]:
        del sql, values
        found = self.answers.pop(0)
        if isinstance(found, Exception):
            raise found
        return found  # type: ignore[no-any-return]


class Connection:
    """A connection that ends when it is used."""

    def execute(self, _: str) -> None:
        """Fail as the driver does while connecting to a server that ends."""
        raise RuntimeError("server closed the connection unexpectedly")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """Do nothing."""


@pytest.mark.parametrize(
    ("act", "state", "reason"),
    [
        (PostgresAdmin.retry, LIVE, "is live"),
        (PostgresAdmin.retry, HELD, "belongs to an id that is used up"),
        (PostgresAdmin.release, SENDING, "is sending"),
        (PostgresAdmin.release, HELD, "has no id, or is being sent"),
        (PostgresAdmin.delete, SENDING, "is sending"),
    ],
)
def test_what_cannot_be_done_is_refused_with_its_reason(
    act: Callable[[PostgresAdmin, Name], object], state: str, reason: str
) -> None:
    """Because of the state that was seen, or because the database changed nothing."""
    with pytest.raises(SpoolError, match=reason):
        act(Admin([]), Name("720488", new_id(), state))


@pytest.mark.parametrize(("skew", "noted"), [(0.0, False), (3600.0, True), (-3600.0, True)])
def test_a_clock_that_differs_from_the_databases_is_noted(
    monkeypatch: pytest.MonkeyPatch, skew: float, noted: bool
) -> None:
    """Either way; the versions' numbers are shown."""

    class Sound:
        """An outbox that is in order."""

        link = Connection()

        def __init__(self, *_: str) -> None:
            """Take what an outbox takes."""

        def check(self) -> None:
            """Find nothing wrong."""

    monkeypatch.setattr(module, "Outbox", Sound)
    admin = Admin([("15.4 (Debian)", time.time() + skew)])
    found = {each.what: each for each in admin._reached()}
    assert "PostgreSQL 15.4" in found["database"].words
    assert "secret" not in found["database"].words
    assert ("skew" in found) == noted


@pytest.mark.parametrize(
    ("agent", "deliverer", "state"), [(True, True, "ok"), (True, False, "ok"), (None, None, "wrong")]
)
def test_a_role_that_may_nothing_is_wrong(agent: bool | None, deliverer: bool | None, state: str) -> None:
    """With the command that grants it what it needs."""
    found = Admin([(agent, deliverer)])._role()
    assert found.state == state
    assert ("migrate" in found.remedy) == (state == "wrong")


def test_a_connection_that_ends_while_the_doctor_listens_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """As any other trouble of the database."""
    monkeypatch.setattr(module, "connect", lambda _: Connection())
    with pytest.raises(SpoolError, match="ended the connection"):
        Admin()._notifications()


@pytest.mark.parametrize(
    ("answer", "states"),
    [
        ([(1.0, 0, 0, None)], ["ok", "ok"]),
        ([(90.0, 3, 1, 7.0)], ["wrong", "note"]),
        (SpoolError("db", "does not allow this role to do that", "grant it"), ["note"]),
    ],
)
def test_the_work_of_a_fleet_is_judged(answer: Any, states: list[str]) -> None:
    """No deliverer at work is wrong; what needs a person is noted; a role that may not read is no fault."""
    assert [each.state for each in Admin(answer)._work()] == states


def test_health_ends_with_what_is_wrong(monkeypatch: pytest.MonkeyPatch) -> None:
    """A database that cannot be reached is one finding, with its remedy."""

    def unreached(*_: object) -> None:
        raise SpoolError("postgresql://db/x", "cannot be reached", "check host and port")

    monkeypatch.setattr(module, "Outbox", unreached)
    (found,) = Admin().health()
    assert (found.state, found.remedy) == ("wrong", "check host and port")
