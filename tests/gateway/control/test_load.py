"""What a client is told of the load on a function."""

from __future__ import annotations

import msgspec

from orchestration.load_history import LoadHistory
from orchestration.names import FunctionId
from orchestration.spec import FunctionSpec
from tests.fakes.orchestrator import FakeOrchestrator
from tests.gateway.control.client import Client


async def test_the_recorded_load_is_given_as_it_is(
    client: Client, orchestrator: FakeOrchestrator, histories: dict[FunctionId, LoadHistory]
) -> None:
    await orchestrator.apply(FunctionSpec(service="hello", image="example/hello"))
    assert (await client("GET", "/api/v1/functions/hello/load")).json()["at"] == []
    history = LoadHistory(
        since=5.0, at=(10.0,), interval_s=(1.0,), concurrency=(0.5,), arrivals=(1,), in_flight=(0,), queued=(0,), edge=(0,)
    )
    histories[FunctionId("openfaas-fn", "hello")] = history
    answer = await client("GET", "/api/v1/functions/hello/load")
    assert msgspec.json.decode(answer.text, type=LoadHistory) == history


async def test_a_function_that_is_not_there(client: Client) -> None:
    assert (await client("GET", "/api/v1/functions/hello/load")).status == 404
