"""Metrics for Prometheus: a collector over `Bluejay.stats()`.

::

    from prometheus_client import REGISTRY
    from bluejay_ws.integrations.prometheus import BluejayCollector

    REGISTRY.register(BluejayCollector())

Needs the extra ``prometheus``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector

from bluejay_ws.client import Bluejay
from bluejay_ws.integrations.metrics import series

if TYPE_CHECKING:
    from collections.abc import Iterable

    from prometheus_client.core import Metric

__all__ = ["BluejayCollector"]


class BluejayCollector(Collector):
    """Give Prometheus the client's counts each time it asks; nothing is kept in between.

    Counters are named ``bluejay_ws_<count>_total``, with the label ``reason`` where a count is divided by reasons.
    The gauges are ``bluejay_ws_live`` and ``bluejay_ws_waiting``.

    Args:
        client: whose counts; default: the process's own, which a bare ``@record`` uses. It is made when Prometheus
            asks for the first time.
    """

    def __init__(self, client: Bluejay | None = None) -> None:
        self._client = client

    def describe(self) -> Iterable[Metric]:
        """Return nothing: names appear when they are first counted."""
        return []

    def collect(self) -> Iterable[Metric]:
        """Return the counts as they are now."""
        families: dict[tuple[str, bool], CounterMetricFamily | GaugeMetricFamily] = {}
        for one in series((self._client or Bluejay.default()).stats()):
            labels = ["reason"] if one.reason else []
            kind = GaugeMetricFamily if one.gauge else CounterMetricFamily
            family = families.setdefault((one.name, bool(one.reason)), kind(one.name, one.text, labels=labels))
            family.add_metric([one.reason] if one.reason else [], one.value)
        return families.values()
