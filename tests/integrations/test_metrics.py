"""`bluejay_ws.integrations.prometheus` and `.opentelemetry`: the client's counts in the real libraries."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from bluejay_ws.integrations.metrics import HELP, series

if TYPE_CHECKING:
    from bluejay_ws.client import Bluejay
    from bluejay_ws.testing.platform import FakePlatform

prometheus_client = pytest.importorskip("prometheus_client")
sdk = pytest.importorskip("opentelemetry.sdk.metrics")


def make_calls(client: Bluejay, platform: FakePlatform) -> None:
    """Let one call be delivered, leave one going on, and drop one."""
    with client.call({"X-Simulation-Result-Id": "1"}) as recorder:
        recorder.add_event("x")
    with client.call({"X-Simulation-Result-Id": "no id at all"}):
        pass
    platform.wait_for(1)
    client.flush()


def test_prometheus_reads_the_counts(client: Bluejay, platform: FakePlatform) -> None:
    """In its own text format: counters with ``_total``, gauges without, reasons as labels."""
    from bluejay_ws.integrations.prometheus import BluejayCollector

    registry = prometheus_client.CollectorRegistry()
    registry.register(BluejayCollector(client))
    make_calls(client, platform)
    with client.call({"X-Simulation-Result-Id": "2"}):
        lines = prometheus_client.generate_latest(registry).decode().splitlines()
    assert "bluejay_ws_live 1.0" in lines
    assert "bluejay_ws_recorded_total 2.0" in lines
    assert "bluejay_ws_delivered_total 1.0" in lines
    assert 'bluejay_ws_dropped_total{reason="no_usable_id"} 1.0' in lines
    assert f"# HELP bluejay_ws_delivered_total {HELP['delivered']}" in lines
    assert "# TYPE bluejay_ws_waiting gauge" in lines


def test_opentelemetry_reads_the_counts(client: Bluejay, platform: FakePlatform) -> None:
    """By a real meter provider: one counter with names and reasons, and two gauges."""
    from opentelemetry.sdk.metrics.export import InMemoryMetricReader

    from bluejay_ws.integrations.opentelemetry import observe_stats

    reader = InMemoryMetricReader()
    provider = sdk.MeterProvider(metric_readers=[reader])
    observe_stats(provider.get_meter("agent"), client)
    make_calls(client, platform)
    with client.call({"X-Simulation-Result-Id": "2"}):
        data: Any = reader.get_metrics_data()
    metrics = {
        metric.name: {tuple(sorted(point.attributes.items())): point.value for point in metric.data.data_points}
        for resource in data.resource_metrics
        for scope in resource.scope_metrics
        for metric in scope.metrics
    }
    provider.shutdown()
    assert metrics["bluejay_ws.live"] == {(): 1}
    assert metrics["bluejay_ws.waiting"] == {(): 0}
    assert metrics["bluejay_ws.counts"][("name", "delivered"),] == 1
    assert metrics["bluejay_ws.counts"][("name", "dropped"), ("reason", "no_usable_id")] == 1


def test_the_default_client_is_read_where_none_is_given(monkeypatch: pytest.MonkeyPatch, client: Bluejay) -> None:
    """The one that a bare ``@record`` uses, when it is first asked for."""
    from bluejay_ws.integrations.prometheus import BluejayCollector

    monkeypatch.setattr("bluejay_ws.client._default", client)
    registry = prometheus_client.CollectorRegistry()
    registry.register(BluejayCollector())
    assert registry.get_sample_value("bluejay_ws_recorded_total") == 0


def test_every_count_has_a_name_that_libraries_take() -> None:
    """Odd characters become underscores; a group that nobody described is described all the same."""
    (one,) = series({"new-group.some.reason": 3})
    assert one == ("bluejay_ws_new_group", False, "Counted as new-group.", "some.reason", 3)
