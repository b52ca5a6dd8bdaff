"""What every store of reports must do, whatever it is made of: one class of tests, which each store inherits.

`tests/delivery/test_store.py` holds files and memory to it. A store of another kind (such as the outbox in PostgreSQL,
in `tests/postgres`) imports `DurableStoreContract` from here, writes one `Kept` around itself, and overrides the
fixture::

    class TestPostgres(DurableStoreContract):
        @pytest.fixture
        def kept(self, url):
            yield KeptInPostgres(url)
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Protocol

import pytest

from bluejay_ws.delivery.outcomes import Answer, Failure, Phase
from tests.delivery.kit import Script, result

if TYPE_CHECKING:
    from collections.abc import Sequence

LOST = Failure(Phase.UNKNOWN, "read_timeout")
REFUSED = Answer(422, b'{"detail": [{"loc": ["body"], "type": "missing"}]}')
NOT_SENT = Failure(Phase.NOT_SENT, "connect_error")


class Kept(Protocol):
    """A store with what delivers from it, as the contract drives it: without threads, and without waiting."""

    def record(self, identity: str, *tools: str) -> str:
        """Take in the sealed report of one connection with these tool calls; return its report id."""
        ...

    def step(self, exchange: Script) -> None:
        """Make the next attempt for every call that is not settled, as if its wait were over."""
        ...

    def states(self, identity: str) -> Sequence[str]:
        """Return where each report of a call stands, sorted: delivered, held, parked, sending or waiting."""
        ...

    def die(self, exchange: Script) -> None:
        """Make the next attempt as `step` does, in a process that is killed in the middle of its POST; start anew.

        Only of a store that outlives its process.
        """
        ...


def tools(body: bytes) -> list[str]:
    """Return the names of the tool calls in a body that was posted."""
    return [call["name"] for call in json.loads(body)["tool_calls"]]


def shown(*bodies: bytes) -> Answer:
    """Return the result of a platform that has accepted these bodies."""
    events: list[Any] = [event for body in bodies for event in json.loads(body)["events"]]
    return result(events=events)


class StoreContract:
    """The promises of delivery that a store has its share in. Subclasses override the fixture ``kept``."""

    @pytest.fixture
    def kept(self) -> Kept:
        """Return an empty store."""
        raise NotImplementedError

    def test_what_was_recorded_is_posted_whole_and_once(self, kept: Kept) -> None:
        """And then it is delivered: nothing more is asked of the platform."""
        kept.record("720488", "freeze_card", "send_sms")
        exchange = Script()
        kept.step(exchange)
        kept.step(exchange)
        (body,) = exchange.posted
        assert json.loads(body)["simulation_result_id"] == "720488"
        assert tools(body) == ["freeze_card", "send_sms"]
        assert exchange.looked == []
        assert kept.states("720488") == ["delivered"]

    def test_the_connections_of_a_call_go_out_together(self, kept: Kept) -> None:
        """One id, one POST: the platform would append a second."""
        kept.record("720488", "freeze_card")
        kept.record("720488", "send_sms")
        exchange = Script()
        kept.step(exchange)
        (body,) = exchange.posted
        assert sorted(tools(body)) == ["freeze_card", "send_sms"]
        assert kept.states("720488") == ["delivered", "delivered"]

    def test_calls_do_not_mix(self, kept: Kept) -> None:
        """Each goes out under its own id, and one that is refused changes nothing for another."""
        kept.record("1", "freeze_card")
        kept.record("2", "send_sms")
        exchange = Script()
        exchange.post = lambda body: REFUSED if b'"1"' in body else Answer(200, b'{"status":"success"}')  # type: ignore[method-assign]
        kept.step(exchange)
        assert kept.states("1") == ["parked"]
        assert kept.states("2") == ["delivered"]

    def test_what_was_certainly_not_processed_is_posted_again_without_a_look(self, kept: Kept) -> None:
        """There is nothing to look for."""
        kept.record("720488")
        exchange = Script()
        exchange.posts.append(NOT_SENT)
        kept.step(exchange)
        assert kept.states("720488") == ["waiting"]
        kept.step(exchange)
        assert len(exchange.posted) == 2
        assert exchange.looked == []
        assert kept.states("720488") == ["delivered"]

    def test_an_unknown_outcome_is_looked_for_and_what_is_there_is_not_sent_again(self, kept: Kept) -> None:
        """The answer was lost, the report was not."""
        kept.record("720488", "freeze_card")
        exchange = Script()
        exchange.posts.append(LOST)
        kept.step(exchange)
        assert kept.states("720488") == ["sending"]
        exchange.looks.append(shown(*exchange.posted))
        kept.step(exchange)
        assert len(exchange.posted) == 1
        assert kept.states("720488") == ["delivered"]

    def test_what_no_look_shows_is_sent_again_but_only_after_a_look(self, kept: Kept) -> None:
        """Without limit, and nobody has to come for it."""
        kept.record("720488")
        exchange = Script()
        exchange.posts.extend([LOST, LOST, LOST])
        looks = 0
        for _ in range(40):
            kept.step(exchange)
            if len(exchange.posted) == 4:
                break
            assert kept.states("720488") == ["sending"]
            looks = len(exchange.looked)
        assert len(exchange.posted) == 4
        assert looks >= 3
        assert kept.states("720488") == ["delivered"]

    def test_a_look_that_fails_teaches_nothing(self, kept: Kept) -> None:
        """The report is neither sent nor given to a person, however often."""
        kept.record("720488")
        exchange = Script()
        exchange.posts.append(LOST)
        exchange.looks.extend([Answer(503)] * 10)
        for _ in range(10):
            kept.step(exchange)
        assert len(exchange.posted) == 1
        assert kept.states("720488") == ["sending"]

    def test_what_the_platform_refuses_is_parked_and_never_sent_again(self, kept: Kept) -> None:
        """A person decides."""
        kept.record("720488")
        exchange = Script()
        exchange.posts.append(REFUSED)
        kept.step(exchange)
        kept.step(exchange)
        assert len(exchange.posted) == 1
        assert kept.states("720488") == ["parked"]

    def test_a_connection_after_the_delivery_is_kept_for_a_person(self, kept: Kept) -> None:
        """The id is used up: a second report would be appended to the first."""
        kept.record("720488", "freeze_card")
        exchange = Script()
        kept.step(exchange)
        kept.record("720488", "send_sms")
        kept.step(exchange)
        assert len(exchange.posted) == 1
        assert kept.states("720488") == ["delivered", "held"]


class DurableStoreContract(StoreContract):
    """The same, and what outlives the process."""

    def test_a_process_that_starts_anew_posts_what_was_never_posted_at_once(self, kept: Kept) -> None:
        """A look would cost time, and can show nothing."""
        kept.record("1")
        before, after = Script(), Script()
        kept.die(before)
        kept.record("2")
        kept.step(after)
        assert "2" not in after.looked
        assert kept.states("2") == ["delivered"]

    def test_a_process_that_starts_anew_looks_for_what_was_being_sent(self, kept: Kept) -> None:
        """What is there was delivered; what is not there is sent in the same move."""
        kept.record("1")
        kept.record("2")
        before, after = Script(), Script()
        kept.die(before)
        there = [body for body in before.posted if b'"1"' in body]

        def look(simulation_result_id: str) -> Answer:
            after.looked.append(simulation_result_id)
            return shown(*there) if simulation_result_id == "1" else result()

        after.look = look  # type: ignore[method-assign]
        kept.step(after)
        assert sorted(after.looked) == ["1", "2"]
        assert [json.loads(body)["simulation_result_id"] for body in after.posted] == ["2"]
        assert kept.states("1") == kept.states("2") == ["delivered"]
