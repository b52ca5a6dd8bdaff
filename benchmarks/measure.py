"""How things are measured here: in turns, in shuffled order, told by medians and quartiles."""

from __future__ import annotations

import random
import statistics
from dataclasses import dataclass, field
from time import thread_time_ns
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

__all__ = ["Effort", "Result", "difference", "in_turns", "per_call", "percentile", "short", "spread"]


@dataclass(frozen=True)
class Effort:
    """How long to measure: `rounds` for cheap things, `few` for those that take seconds.

    Args:
        rounds: turns of a measurement that takes milliseconds.
        few: turns of a measurement that takes about a second.
        crowd: how many connections or reports a crowd has.
    """

    rounds: int = 60
    few: int = 5
    crowd: int = 1_000

    @classmethod
    def quick(cls) -> Effort:
        """Return an effort that only shows that everything runs."""
        return cls(rounds=3, few=1, crowd=20)


@dataclass(frozen=True)
class Result:
    """One line of the table.

    Args:
        what: what was measured.
        value: the median.
        unit: its unit.
        spread: the quartiles, or what else tells how far to trust it.
        compared: the same against something the reader knows.
        limit: the figure to reach; None when there is none.
        at_least: whether the figure is a floor (else a ceiling).
    """

    what: str
    value: float
    unit: str
    spread: str = ""
    compared: str = ""
    limit: float | None = None
    at_least: bool = field(default=False, kw_only=True)

    @property
    def reached(self) -> bool | None:
        """Whether the figure was reached; None when there is none."""
        if self.limit is None:
            return None
        return self.value >= self.limit if self.at_least else self.value <= self.limit


def per_call(function: Callable[[], object], number: int) -> float:
    """Return the nanoseconds of this thread's CPU that one call takes, from ``number`` calls in a row."""
    calls = range(number)
    begun = thread_time_ns()
    for _ in calls:
        function()
    return (thread_time_ns() - begun) / number


def in_turns(cases: Mapping[str, Callable[[], float]], rounds: int) -> dict[str, list[float]]:
    """Measure each case once in each round, in a new order each time.

    Args:
        cases: by name, functions that measure once and return what they measured.
        rounds: how often; one more that does not count comes first.

    Returns:
        By name, what was measured, in the order of the rounds: values of the same place belong together.
    """
    found: dict[str, list[float]] = {name: [] for name in cases}
    order = list(cases)
    for number in range(rounds + 1):
        random.shuffle(order)
        for name in order:
            value = cases[name]()
            if number:
                found[name].append(value)
    return found


def difference(values: Sequence[float], base: Sequence[float]) -> list[float]:
    """Return what ``values`` cost more than ``base``, round by round."""
    return [value - other for value, other in zip(values, base, strict=True)]


def percentile(values: Sequence[float], share: float) -> float:
    """Return the value that ``share`` (0 to 1) of all values do not exceed."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def short(value: float) -> str:
    """Return a number with three digits that count."""
    return f"{value:,.0f}" if abs(value) >= 1_000 else f"{value:.3g}"


def spread(values: Sequence[float], scale: float = 1.0) -> str:
    """Return the quartiles as text; empty for fewer than four values."""
    if len(values) < 4:
        return ""
    low, _, high = statistics.quantiles(values, n=4)
    return f"{short(low * scale)} to {short(high * scale)}"
