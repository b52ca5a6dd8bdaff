"""Files and memory keep reports alike, as `tests.delivery.store_contract` says."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from bluejay_ws.delivery.attempt import Delivery
from bluejay_ws.delivery.outcomes import State
from bluejay_ws.delivery.store import Report, Store
from tests.delivery.kit import adopted, attempts, bodies, files, finished_call, new_id, spool_at
from tests.delivery.store_contract import DurableStoreContract, StoreContract

if TYPE_CHECKING:
    from pathlib import Path

    from bluejay_ws.delivery.attempt import Attempts
    from bluejay_ws.delivery.spool import Spool
    from tests.delivery.kit import Script
    from tests.delivery.store_contract import Kept

WORDS = {"ready": "waiting", "sent": "delivered"}


class Killed(BaseException):
    """The process is gone, in the middle of its POST."""


class KeptHere:
    """Reports that one process delivers itself, from files or from memory."""

    def __init__(self, directory: Path | None) -> None:
        self._directory = directory
        self._open: dict[str, Delivery] = {}
        self._memory: dict[str, dict[str, str]] = {}
        self._start()

    def _start(self) -> None:
        self._spool: Spool | None = spool_at(self._directory) if self._directory else None
        self._work: Attempts = attempts(self._spool or Store())

    def record(self, identity: str, *tools: str) -> str:
        """Take in a report."""
        if self._spool is not None:
            report = finished_call(self._spool, identity, *tools)
        else:
            report_id = new_id()
            report = Report(report_id, identity, bodies(report_id, identity, *tools))
        self._open.setdefault(identity, Delivery(identity)).reports[report.report_id] = report
        return report.report_id

    def step(self, exchange: Script) -> None:
        """Make an attempt for every call."""
        for identity, delivery in list(self._open.items()):
            decision = self._work.attempt(delivery, exchange)
            states = self._memory.setdefault(identity, {})
            states.update({report_id: state.value for report_id, state in delivery.states.items()})
            if decision.wait is None:
                del self._open[identity]

    def states(self, identity: str) -> list[str]:
        """Return what the disk says where there is one; else what memory decided."""
        if self._directory is None:
            return sorted(self._memory[identity].values())
        ends = [path.suffix[1:] for path in files(self._directory) if path.name.startswith(f"{identity}.")]
        return sorted(WORDS.get(end, end) for end in ends)

    def die(self, exchange: Script) -> None:
        """Be killed in each POST."""

        def kill() -> None:
            raise Killed

        exchange.during_post = kill
        for delivery in self._open.values():
            with pytest.raises(Killed):
                self._work.attempt(delivery, exchange)
        identities, self._open = list(self._open), {}
        self._start()
        assert self._spool is not None
        self._open = {identity: adopted(self._spool, identity) for identity in identities}


class TestFiles(DurableStoreContract):
    """A spool."""

    @pytest.fixture
    def kept(self, tmp_path: Path) -> Kept:
        """Return one in a directory of its own."""
        return KeptHere(tmp_path)


class TestMemory(StoreContract):
    """No spool."""

    @pytest.fixture
    def kept(self) -> Kept:
        """Return one without a directory."""
        return KeptHere(None)


def test_a_store_that_keeps_nothing_says_so() -> None:
    """What a store does not keep stays with its delivery, and with the recorder."""
    store = Store()
    assert store.open_call(report_id=new_id(), simulation_result_id="7", header=b"{}") is None
    assert not store.save(Report(new_id(), "7", []), State.DELIVERED, {})
    assert store.recover() == []
    with store.lease("7") as lease:
        assert (lease.reports, lease.live, lease.busy) == ([], False, False)
        assert not lease.mark(new_id(), State.PARKED, {})
