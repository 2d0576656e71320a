"""What a client is told of a function's scaling."""

from __future__ import annotations

from orchestration.decisions import Scaling
from orchestration.spec import FunctionSpec
from tests.fakes.orchestrator import FakeOrchestrator
from tests.gateway.control.client import Client


async def test_the_last_decisions_are_explained(client: Client, orchestrator: FakeOrchestrator) -> None:
    await orchestrator.apply(FunctionSpec(service="hello", image="example/hello"))
    told = (await client("GET", "/api/v1/functions/hello/scaling")).json()
    assert (told["name"], told["namespace"]) == ("hello", "openfaas-fn")
    assert told["settings"]["maxReplicas"] == 20
    assert told["latest"]["at"] == "2023-11-14T22:13:20.000Z"
    assert told["changes"][0] | {"at": ""} == {
        "at": "",
        "replicas": 2,
        "previous": 1,
        "rule": "stable",
        "reason": "12 calls at a time over 1m / target 7 → 2",
        "ready": 1,
        "starting": 0,
        "inFlight": 10,
        "queued": 2,
        "stable": 12.0,
        "panic": None,
        "aim": 7.0,
        "idleS": 0.0,
        "spare": None,
    }


async def test_a_function_that_is_not_there_or_that_nothing_scales(
    client: Client, orchestrator: FakeOrchestrator, scalings: dict[str, Scaling]
) -> None:
    assert (await client("GET", "/api/v1/functions/hello/scaling")).status == 404
    await orchestrator.apply(FunctionSpec(service="hello", image="example/hello"))
    scalings.clear()
    answer = await client("GET", "/api/v1/functions/hello/scaling")
    assert (answer.status, answer.text) == (404, "nothing scales hello.openfaas-fn here\n")
