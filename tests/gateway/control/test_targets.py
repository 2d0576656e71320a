"""Metrics of functions: who is listed, and who may be asked."""

from __future__ import annotations

from pathlib import Path

import pytest

from gateway.control.metrics import metrics_app
from gateway.control.origin import Hosts
from gateway.control.targets import Targets
from gateway.metrics.page import MetricsPage
from orchestration.names import FunctionId
from orchestration.spec import FunctionSpec
from tests.fakes.orchestrator import FakeOrchestrator
from tests.gateway.control.client import Client
from tests.gateway.control.conftest import serving

TARGETS = "/api/v1/prometheus/targets"
FUNCTIONS = [FunctionId("openfaas-fn", name) for name in ("own", "none", "gone")]


@pytest.fixture
async def deployed(orchestrator: FakeOrchestrator) -> FakeOrchestrator:
    await orchestrator.apply(FunctionSpec(service="own", image="x", annotations={"prometheus.io.scrape": "true"}))
    await orchestrator.apply(FunctionSpec(service="none", image="x"))
    return orchestrator


async def test_ready_replicas_of_functions_that_say_so_are_listed(deployed: FakeOrchestrator) -> None:
    app = metrics_app(MetricsPage(), Hosts(), Targets(deployed, lambda: FUNCTIONS, auth=None))
    async with serving(app) as client:
        (group,) = (await client("GET", TARGETS, login=False)).json()
    (replica,) = deployed.status(FUNCTIONS[0]).instances
    assert group["targets"] == [f"{client.host}:{client.port}"]
    assert group["labels"] == {
        "__metrics_path__": f"/api/v1/functions/own.openfaas-fn/replicas/{replica.id}/metrics",
        "instance": replica.id,
        "function_name": "own.openfaas-fn",
        "namespace": "openfaas-fn",
        "revision": replica.revision,
    }


async def test_nothing_else_can_be_asked(deployed: FakeOrchestrator, tmp_path: Path) -> None:
    app = metrics_app(MetricsPage(), Hosts(), Targets(deployed, lambda: FUNCTIONS, auth=None))
    (other,) = deployed.status(FUNCTIONS[1]).instances
    async with serving(app) as client:
        for path in (f"none/replicas/{other.id}", "own/replicas/nobody", "gone/replicas/x"):
            assert (await client("GET", f"/api/v1/functions/{path}/metrics", login=False)).status == 404


async def test_the_api_asks_for_a_login(client: Client) -> None:
    assert (await client("GET", TARGETS, login=False)).status == 401
    assert (await client("GET", TARGETS)).json() == []
    assert (await client("GET", "/api/v1/functions/own/replicas/x/metrics", login=False)).status == 401
