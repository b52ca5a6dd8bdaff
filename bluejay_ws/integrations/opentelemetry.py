"""Metrics for OpenTelemetry: observable instruments over `Bluejay.stats()`.

::

    from opentelemetry import metrics
    from bluejay_ws.integrations.opentelemetry import observe_stats

    observe_stats(metrics.get_meter("my-agent"))

Needs the extra ``opentelemetry``, which brings the API only; your application chooses the SDK.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from opentelemetry.metrics import CallbackOptions, Observation

from bluejay_ws.client import Bluejay
from bluejay_ws.integrations.metrics import series

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from opentelemetry.metrics import Meter

__all__ = ["observe_stats"]

COUNTS = "bluejay_ws.counts"


def observe_stats(meter: Meter, client: Bluejay | None = None) -> None:
    """Let a meter read the client's counts each time it is collected.

    It makes the gauges ``bluejay_ws.live`` and ``bluejay_ws.waiting``, and one counter, ``bluejay_ws.counts``, with
    the attributes ``name`` (such as ``delivered`` or ``dropped``) and, where there is one, ``reason``.

    Args:
        meter: of your application's meter provider.
        client: whose counts; default: the process's own, which a bare ``@record`` uses. It is made when the meter is
            collected for the first time.
    """

    def stats() -> dict[str, int]:
        return (client or Bluejay.default()).stats()

    def counts(_: CallbackOptions) -> Iterable[Observation]:
        for one in series(stats()):
            if not one.gauge:
                name = one.name.removeprefix("bluejay_ws_")
                yield Observation(one.value, {"name": name, "reason": one.reason} if one.reason else {"name": name})

    meter.create_observable_counter(COUNTS, [counts], description="What bluejay_ws has counted, by name and reason.")
    for name, text in (("live", "Calls going on now."), ("waiting", "Reports of ended calls that are not settled.")):
        meter.create_observable_gauge(f"bluejay_ws.{name}", [_gauge(stats, name)], description=text)


def _gauge(stats: Callable[[], dict[str, int]], name: str) -> Callable[[CallbackOptions], Iterable[Observation]]:
    def read(_: CallbackOptions) -> Iterable[Observation]:
        yield Observation(stats()[name])

    return read
