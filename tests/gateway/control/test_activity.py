from __future__ import annotations

import pytest

from gateway.edge.tally import Tally
from gateway.monitor.monitor import Monitor
from orchestration.events import FunctionChanged
from orchestration.names import FunctionId
from orchestration.spec import FunctionSpec
from tests.fakes.orchestrator import FakeOrchestrator
from tests.gateway.control.client import Client
from tests.gateway.edge.test_records import record

HELLO = FunctionId("openfaas-fn", "hello")


@pytest.fixture
async def tally(orchestrator: FakeOrchestrator, monitor: Monitor, tallies: dict[FunctionId, Tally]) -> Tally:
    """The counters of a function that is deployed."""
    function = await orchestrator.apply(FunctionSpec(service="hello", image="x"))
    monitor.apply(FunctionChanged(function))
    return tallies.setdefault(HELLO, Tally())


@pytest.mark.parametrize(("window", "step", "span"), [("", 1, 300), ("5m", 1, 300), ("1h", 10, 3600), ("24h", 300, 86400)])
async def test_figures_over_time(client: Client, monitor: Monitor, tally: Tally, window: str, step: int, span: int) -> None:
    tally.count(200, 0.004)
    await monitor.look()
    history = (await client("GET", f"/api/v1/functions/hello/history?window={window}")).json()
    assert (history["stepS"], history["spanS"]) == (step, span)
    assert sum(history["calls"]) == (1 if step == 1 else 0)
    assert len({len(column) for column in history.values() if isinstance(column, list)}) == 1


async def test_last_calls_with_where_their_time_went(client: Client, tally: Tally) -> None:
    tally.ended(record(1, waited_s=0.015))
    (call,) = (await client("GET", "/api/v1/functions/hello.openfaas-fn/calls")).json()
    assert (call["id"], call["status"], call["durationMs"], call["cold"]) == ("call-1", 200, 20.0, False)
    assert call["phases"] == [
        {"name": "queue", "beginMs": 0.0, "durationMs": 15.0},
        {"name": "run", "beginMs": 15.0, "durationMs": 5.0},
    ]


@pytest.mark.parametrize("part", ["history", "calls"])
async def test_an_unknown_function_is_404(client: Client, part: str) -> None:
    assert (await client("GET", f"/api/v1/functions/unknown/{part}")).status == 404


async def test_an_unknown_window_is_400(client: Client, tally: Tally) -> None:
    answer = await client("GET", "/api/v1/functions/hello/history?window=2h")
    assert (answer.status, answer.text) == (400, "window='2h': one of 5m, 1h, 24h\n")


async def test_a_call_is_explained_by_its_id(client: Client, tally: Tally) -> None:
    tally.ended(record(1, waited_s=0.015))
    found = (await client("GET", "/api/v1/calls/call-1")).json()
    assert (found["name"], found["namespace"], found["call"]["id"]) == ("hello", "openfaas-fn", "call-1")
    assert [phase["name"] for phase in found["call"]["phases"]] == ["queue", "run"]
    answer = await client("GET", "/api/v1/calls/call-2")
    assert answer.status == 404
    assert "call 'call-2' is not among the last calls of any function" in answer.text
