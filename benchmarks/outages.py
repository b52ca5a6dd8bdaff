"""Half a minute without a platform, in every way: how many reports wait for a person when it is over."""

from __future__ import annotations

from statistics import median

from benchmarks.measure import Effort, Result
from benchmarks.reliability.outage import FRESH, KINDS
from benchmarks.reliability.outage import run as outage

__all__ = ["run"]

SECONDS = 30.0
CALLS = 200
SEED = 20261128


def run(effort: Effort) -> list[Result]:
    """Run each kind of outage once, on a clock that is moved by hand."""
    calls = min(CALLS, effort.crowd)
    left: dict[str, int] = {}
    drained = []
    for name, (posts, reads) in KINDS.items():
        account, seen = outage(SECONDS, calls, SEED, posts, reads=reads)
        assert account.sound, (name, account)
        left[name] = calls + FRESH - account.delivered
        drained.append(seen.drained_after)
    worst = [f"{name}: {count}" for name, count in left.items() if count]
    what = f"{SECONDS:.0f}-second outage of {len(KINDS)} kinds, {calls} calls each: not delivered at the end, together"
    told = (
        "; ".join(worst)
        or f"all delivered {median(drained):.0f} s after its end (median), {max(drained):.0f} s at most"
    )
    return [Result(what, sum(left.values()), "reports", "", told, 0)]
