"""What replicas use, as metrics."""

from __future__ import annotations

from collections.abc import Mapping

from gateway.metrics.consumption import Consumptions
from orchestration.names import FunctionId
from orchestration.orchestrator import Consumption
from tests.gateway.metrics.reading import samples

HELLO = FunctionId("openfaas-fn", "hello")


async def test_it_is_measured_at_most_once_a_second() -> None:
    now = 0.0
    measured = 0

    async def measure() -> Mapping[FunctionId, Consumption]:
        nonlocal measured
        measured += 1
        return {HELLO: Consumption(measured * 1.5, 2e6)}

    consumptions = Consumptions(measure, lambda: now)
    await consumptions.refresh()
    await consumptions.refresh()
    assert samples(consumptions) == {
        ("pod_cpu_usage_seconds_total", "hello.openfaas-fn", "openfaas-fn"): 1.5,
        ("pod_memory_working_set_bytes", "hello.openfaas-fn", "openfaas-fn"): 2e6,
    }
    now = 1.0
    await consumptions.refresh()
    assert measured == 2
