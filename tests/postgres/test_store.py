"""The outbox in PostgreSQL keeps the promises of every store; see `tests.delivery.store_contract`."""

from __future__ import annotations

import time
import uuid
from typing import TYPE_CHECKING

import pytest

from bluejay_ws.delivery.deliverer import Deliverer
from bluejay_ws.delivery.postgres import Outbox, Piece
from bluejay_ws.settings import Settings
from bluejay_ws.stats import Counters
from bluejay_ws.wire import journal
from tests.delivery.kit import QUICK, bodies
from tests.delivery.store_contract import DurableStoreContract, Kept

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from tests.delivery.kit import Script

PLATFORM = "http://127.0.0.1:9"


class KeptInPostgres:
    """A database, with an agent that hands over and a deliverer whose threads do not run."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._agent = Outbox(url, PLATFORM)
        self._start()

    def _start(self) -> None:
        settings = Settings.load(api_key="k", base_url=PLATFORM, spool=False, retry=QUICK)
        self._deliverer = Deliverer(self._url, settings, counters=Counters())
        self._outbox = self._deliverer._outbox()

    def close(self) -> None:
        """Close the connections."""
        self._agent.link.close()
        self._outbox.link.close()

    def record(self, identity: str, *tools: str) -> str:
        """Hand over the sealed report of one connection."""
        report_id = uuid.uuid4().hex
        data = b"".join(map(journal.line, bodies(report_id, identity, *tools)))
        self._agent.push([Piece(report_id, identity, 0, data, "sealed")])
        return report_id

    def _make_due(self) -> None:
        """Let every wait be over: a lease that is lost among them."""
        self._agent.link.rows(
            "update bluejay_ws.calls set next_at = clock_timestamp() - interval '1 ms'"
            " where state in ('waiting', 'sending')"
        )
        self._agent.link.rows("update bluejay_ws.destinations set failures = 0, open_until = clock_timestamp()")

    def step(self, exchange: Script) -> None:
        """Claim, attempt and settle each call once."""
        self._make_due()
        calls = []
        while (call := self._outbox.claim(60)) is not None:
            calls.append(call)
        for call in calls:
            self._deliverer._deliver(self._outbox, exchange, call, time.monotonic())

    def states(self, identity: str) -> Sequence[str]:
        """Return where each report of a call stands."""
        found = self._agent.link.rows(
            "select case when report.state in ('delivered', 'held') then report.state else call.state end"
            " from bluejay_ws.reports as report join bluejay_ws.calls as call"
            " on call.destination = report.destination and call.identity = report.identity"
            " where report.identity = %s",
            identity,
        )
        return sorted(state for (state,) in found)

    def die(self, exchange: Script) -> None:
        """Post, and write nothing down: the lease runs out."""
        self._make_due()
        while (call := self._outbox.claim(60)) is not None:
            self._deliverer._attempt(exchange, call, time.monotonic())
        self._outbox.link.close()
        self._start()


class TestPostgres(DurableStoreContract):
    """One database for each test."""

    @pytest.fixture
    def kept(self, url: str) -> Iterator[Kept]:
        """Return an empty outbox."""
        kept = KeptInPostgres(url)
        yield kept
        kept.close()
