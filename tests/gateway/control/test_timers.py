"""What a client is told of a function's timers."""

from __future__ import annotations

import time
from datetime import datetime

import pytest

from gateway.timers.book import Mark
from orchestration.names import FunctionId
from orchestration.spec import FunctionSpec
from orchestration.timers import Timer
from tests.fakes.orchestrator import FakeOrchestrator
from tests.gateway.control.client import Client

PATH = "/api/v1/functions/tick/timers"
TICK = FunctionId("openfaas-fn", "tick")


async def deploy(orchestrator: FakeOrchestrator, **annotations: str) -> None:
    await orchestrator.apply(FunctionSpec(service="tick", image="tick", annotations=annotations))


async def test_the_coming_runs_and_the_last_one_are_told(
    client: Client, orchestrator: FakeOrchestrator, marks: dict[tuple[FunctionId, Timer], Mark], monkeypatch: pytest.MonkeyPatch
) -> None:
    await deploy(
        orchestrator,
        topic="cron-function",
        schedule="0 8 * * *; @hourly",
        **{"com.pinnace.timer.zone": "Europe/Berlin", "com.pinnace.timer.overlap": "false"},
    )
    marks[TICK, Timer("@hourly", "Europe/Berlin")] = Mark(1_700_000_060.0, 1_700_000_000.0, "call-7")
    told = (await client("GET", PATH)).json()
    assert (told["name"], told["namespace"], told["missed"], told["overlap"], told["trouble"]) == (
        "tick",
        "openfaas-fn",
        "once",
        False,
        "",
    )
    daily, hourly = told["timers"]
    assert (daily["schedule"], daily["zone"], daily["last"], daily["lastCall"]) == ("0 8 * * *", "Europe/Berlin", None, None)
    assert (hourly["last"], hourly["lastCall"]) == ("2023-11-14T22:13:20Z", "call-7")
    coming = [datetime.fromisoformat(moment).timestamp() for moment in hourly["next"]]
    assert 0 < coming[0] - time.time() <= 3600
    assert coming == [coming[0], coming[0] + 3600, coming[0] + 7200]
    assert len(daily["next"]) == 3


async def test_a_function_without_timers_and_one_that_is_not_there(client: Client, orchestrator: FakeOrchestrator) -> None:
    assert (await client("GET", PATH)).status == 404
    await deploy(orchestrator)
    assert (await client("GET", PATH)).json()["timers"] == []


async def test_annotations_that_came_past_the_api_are_said_to_be_wrong(client: Client, orchestrator: FakeOrchestrator) -> None:
    await deploy(orchestrator, topic="cron-function", schedule="61 * * * *")
    told = (await client("GET", PATH)).json()
    assert told["timers"] == []
    assert "the minute cannot be" in told["trouble"]
