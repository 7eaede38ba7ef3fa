"""The worker's metrics, as an OpenTelemetry SDK collects them."""

from collections.abc import Iterator

import pytest
from opentelemetry import metrics as api
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader, NumberDataPoint

from agentherd import FailureKind, GateReport, WorkerReport
from agentherd.contract.hosts import BreakerReport
from agentherd_workers import metrics
from agentherd_workers.sizes import GiB

Value = tuple[object, object, object]
"""Value, attributes, unit."""


@pytest.fixture
def reader(monkeypatch: pytest.MonkeyPatch) -> Iterator[InMemoryMetricReader]:
    """An SDK for one test: a process can be given only one for good."""
    made = InMemoryMetricReader()
    provider = MeterProvider([made])
    monkeypatch.setattr(metrics, "get_meter", provider.get_meter)
    yield made
    provider.shutdown()


def report(**gate: object) -> WorkerReport:
    return WorkerReport(
        worker="vm:1",
        host="vm",
        version="1",
        started_at_ms=1,
        slots=8,
        running=3,
        mark=1 << 62,
        capacity={"default": 4},
        isolation="process",
        ceiling_enforcement="watchdog",
        gate=GateReport.model_validate(gate),
    )


def collected(reader: InMemoryMetricReader) -> dict[str, list[Value]]:
    data = reader.get_metrics_data()
    assert data is not None
    return {
        metric.name: [
            (point.value, point.attributes, metric.unit)
            for point in metric.data.data_points
            if isinstance(point, NumberDataPoint)
        ]
        for resource in data.resource_metrics
        for scope in resource.scope_metrics
        for metric in scope.metrics
    }  # fmt: skip


def test_each_collection_reads_the_report(reader: InMemoryMetricReader) -> None:
    now = [report(open=True, headroom_bytes=2 * GiB, booked_bytes=6 * GiB)]
    metrics.observe(lambda: now[0])
    assert collected(reader) == {
        "agentherd.gate.open": [(1, {"reason": "none"}, "1")],
        "agentherd.breaker.open": [(0, {"kind": "none"}, "1")],
        "agentherd.gate.headroom": [(2 * GiB, {}, "By")],
        "agentherd.gate.booked": [(6 * GiB, {}, "By")],
        "agentherd.sessions": [(3, {}, "{session}")],
        "agentherd.slots": [(8, {}, "{slot}")],
    }
    now[0] = report(open=False, reason="memory")
    assert collected(reader)["agentherd.gate.open"] == [(0, {"reason": "memory"}, "1")]


def test_an_open_breaker_is_told_with_its_kind(reader: InMemoryMetricReader) -> None:
    breaker = BreakerReport(
        kind=FailureKind.BILLING, message="m", worker="vm:1", opened_at_ms=1, next_probe_ms=2
    )
    metrics.observe(lambda: report(open=False).model_copy(update={"breaker": breaker}))
    assert collected(reader)["agentherd.breaker.open"] == [(1, {"kind": "billing"}, "1")]


def test_without_an_sdk_nothing_is_asked() -> None:
    assert not isinstance(api.get_meter_provider(), MeterProvider)
    metrics.observe(lambda: pytest.fail("asked"))
