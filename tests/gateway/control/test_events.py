from __future__ import annotations

import json
from typing import Any

from gateway.control.events import MOST_READERS
from gateway.edge.tally import Tally
from gateway.monitor.monitor import Monitor
from orchestration.events import FunctionChanged
from orchestration.names import FunctionId
from orchestration.orchestrator import Namespace
from orchestration.spec import FunctionSpec
from tests.fakes.orchestrator import FakeOrchestrator
from tests.gateway.control.client import Client, Stream
from tests.gateway.control.conftest import until


async def deploy(
    orchestrator: FakeOrchestrator,
    monitor: Monitor,
    tallies: dict[FunctionId, Tally],
    name: str,
    namespace: str = "openfaas-fn",
) -> FunctionId:
    function = await orchestrator.apply(FunctionSpec(service=name, image="x", namespace=namespace))
    monitor.apply(FunctionChanged(function))
    tallies[function.id] = Tally()
    return function.id


async def event(stream: Stream) -> dict[str, Any]:
    """Return the next event's fields, with its data read."""
    while True:
        fields = dict(line.split(": ", 1) for line in (await stream.chunk()).decode().strip().split("\n"))
        if "data" in fields:
            return {**fields, "data": json.loads(fields["data"])}


async def test_a_picture_and_then_what_changes(
    client: Client, orchestrator: FakeOrchestrator, monitor: Monitor, tallies: dict[FunctionId, Tally]
) -> None:
    hello = await deploy(orchestrator, monitor, tallies, "hello")
    async with client.stream("GET", "/api/v1/events") as stream:
        assert stream.headers["content-type"].startswith("text/event-stream")
        state = await event(stream)
        assert state["event"] == "state"
        (row,) = state["data"]["functions"]
        assert (row["name"], row["ready"], row["calls"], row["p99Ms"], row["recent"]) == ("hello", 1, 0, None, [])
        tallies[hello].count(500, 0.2)
        await monitor.look()
        change = await event(stream)
        assert change["event"] == "change"
        (row,) = change["data"]["functions"]
        assert (row["calls"], row["minuteErrors"]) == (1, 1)
        assert "recent" not in row
    await until(lambda: monitor.readers == 0)


async def test_a_reader_goes_on_after_the_event_that_it_names(
    client: Client, orchestrator: FakeOrchestrator, monitor: Monitor, tallies: dict[FunctionId, Tally]
) -> None:
    await deploy(orchestrator, monitor, tallies, "hello")
    async with client.stream("GET", "/api/v1/events") as stream:
        last = (await event(stream))["id"]
    other = await deploy(orchestrator, monitor, tallies, "other")
    tallies[other].count(200, 0.1)
    await monitor.look()
    async with client.stream("GET", "/api/v1/events", headers={"Last-Event-ID": last}) as stream:
        missed = await event(stream)
        assert (missed["event"], [row["name"] for row in missed["data"]["functions"]]) == ("change", ["other"])
    for unknown in ("another-1", "x", f"{last}9999999999999999", "-"):
        async with client.stream("GET", "/api/v1/events", headers={"Last-Event-ID": unknown}) as stream:
            assert (await event(stream))["event"] == "state"


async def test_one_namespace_only(
    client: Client, orchestrator: FakeOrchestrator, monitor: Monitor, tallies: dict[FunctionId, Tally]
) -> None:
    await orchestrator.create_namespace(Namespace("dev"))
    await deploy(orchestrator, monitor, tallies, "hello")
    await deploy(orchestrator, monitor, tallies, "mine", "dev")
    async with client.stream("GET", "/api/v1/events?namespace=dev") as stream:
        assert [row["name"] for row in (await event(stream))["data"]["functions"]] == ["mine"]
    assert (await client("GET", "/api/v1/events?namespace=N!")).status == 400


async def test_a_picture_alone(client: Client, orchestrator: FakeOrchestrator, monitor: Monitor) -> None:
    await deploy(orchestrator, monitor, {}, "hello")
    answer = await client("GET", "/api/v1/events?follow=false")
    assert [line for line in answer.text.split("\n") if line.startswith("event")] == ["event: state"]
    assert (await client("GET", "/api/v1/events?follow=perhaps")).status == 400
    assert monitor.readers == 0


async def test_readers_are_bounded(client: Client, monitor: Monitor) -> None:
    monitor._readers = MOST_READERS
    answer = await client("GET", "/api/v1/events")
    assert (answer.status, answer.headers["retry-after"]) == (503, "10")
