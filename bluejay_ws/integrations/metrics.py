"""What `Bluejay.stats()` counts, in the words of metrics libraries: name, kind and help of each series."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

GAUGES = frozenset({"live", "waiting"})
HELP = {
    "live": "Calls going on now.",
    "waiting": "Reports of ended calls that are not settled.",
    "recorded": "Calls that were opened with an id.",
    "delivered": "Reports that Bluejay accepted.",
    "retried": "Tries after the first.",
    "held": "Reports that wait for a person.",
    "parked": "Reports that Bluejay refused for good.",
}
GROUPS = {
    "dropped": "What was not recorded or not delivered, by reason.",
    "cut": "Values that were shortened, by kind.",
    "mapped": "Values that JSON has no form for, by kind.",
    "http": "Answers of the platform, by status.",
    "transport": "Exchanges that failed before an answer came, by reason.",
    "read_back": "Results that were read back, by outcome.",
    "spool": "What happened in the spool, by kind.",
    "internal_error": "Errors of bluejay_ws that were kept from the agent, by place.",
    "errors": "Errors beside the call, by place.",
}


class Series(NamedTuple):
    """One number of `Bluejay.stats()`.

    Attributes:
        name: such as ``bluejay_ws_dropped``; without the ``_total`` of counters.
        gauge: whether it goes up and down; else it only grows.
        reason: within a group of counts; empty for a count of its own.
    """

    name: str
    gauge: bool
    text: str
    reason: str
    value: int


def series(stats: Mapping[str, int]) -> Iterator[Series]:
    """Yield each count; ``dropped.after_close`` is the reason ``after_close`` of ``bluejay_ws_dropped``."""
    for key, value in stats.items():
        group, _, reason = key.partition(".")
        text = HELP.get(group) or GROUPS.get(group) or f"Counted as {group}."
        yield Series("bluejay_ws_" + re.sub(r"\W", "_", group), group in GAUGES, text, reason, value)
