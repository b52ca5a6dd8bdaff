"""What the report says of a call beside what was true of it, in every way in which a call can be.

The calls are made up, their truth is kept where their audio is made and played; see `benchmarks.conversations`. What
happens on real sockets is tested in `test_families`.
"""

from __future__ import annotations

import pytest

from benchmarks.carrier_calls import CARRIERS
from benchmarks.conversations import BACKGROUNDS, EVENTS, SENDINGS, Cell, make
from benchmarks.hearing import CARRIER_CELLS, CELLS, MORE, Findings, listen
from benchmarks.measure import percentile

BY_DAY, AT_NIGHT = range(11, 12), range(20, 40)


def heard(cells: list[Cell], seeds: range, carrier: str | None = None) -> Findings:
    """Return what the report says of a few calls of these cells, beside the truth."""
    found = Findings()
    for cell in cells:
        for seed in seeds:
            found.add(listen(make(cell, seed), carrier))
    return found


def by_day(cell: Cell) -> bool:
    """Whether a cell is among those that hold each background with each kind of event, and both with each sending."""
    number = BACKGROUNDS.index(cell.background) + EVENTS.index(cell.events)
    return number % len(SENDINGS) == SENDINGS.index(cell.sending)


def check(cell: Cell, seeds: range) -> None:
    """Fail unless the report is true of calls of that kind."""
    found = heard([cell], seeds)
    assert percentile(found.agent, 0.95) <= 25.0
    assert percentile(found.user, 0.95) <= 50.0
    assert max(found.agent + found.user) <= 100.0
    assert percentile(found.latency, 0.95) <= 50.0
    assert max(found.latency) <= 100.0
    assert found.silent == []
    assert (found.missed, found.invented) == ([], [])


def check_carrier(carrier: str, cells: list[Cell], seeds: range) -> None:
    """Fail unless the report is true of calls that this carrier brings."""
    found = heard(cells, seeds, carrier)
    assert percentile(found.agent + found.user, 0.95) <= 60.0
    assert max(found.agent + found.user) <= 100.0
    assert max(found.latency) <= 60.0
    assert (found.missed, found.invented) == ([], [])


@pytest.mark.parametrize("cell", [*filter(by_day, CELLS), *MORE], ids=str)
def test_the_report_hears_what_was_heard(cell: Cell) -> None:
    """Spans, latencies and barge-ins are the call's own, whatever the line carries and the events say."""
    check(cell, BY_DAY)


@pytest.mark.parametrize(("carrier", "cell"), [*zip(CARRIERS, CARRIER_CELLS * 2, strict=True)])
def test_a_carrier_s_call_is_heard_as_well(carrier: str, cell: Cell) -> None:
    """Its codings, its binary or text frames, and a queue that the agent can empty."""
    check_carrier(carrier, [cell], BY_DAY)


@pytest.mark.nightly
@pytest.mark.parametrize("cell", [*CELLS, *MORE], ids=str)
def test_many_calls_are_heard(cell: Cell) -> None:
    """The same for many calls of each kind."""
    check(cell, AT_NIGHT)


@pytest.mark.nightly
@pytest.mark.parametrize("carrier", CARRIERS)
def test_many_calls_of_carriers_are_heard(carrier: str) -> None:
    """The same for many calls that each carrier brings."""
    check_carrier(carrier, CARRIER_CELLS, AT_NIGHT)
