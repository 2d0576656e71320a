"""Gradual rollouts that are judged, with a clock that stands still."""

from __future__ import annotations

import pytest

from gateway.edge.tally import Tally
from gateway.metrics.rollouts import Rollouts
from gateway.monitor.rollouts import GradualRollouts, outcomes
from orchestration.events import FunctionChanged, FunctionRemoved
from orchestration.function import Function
from orchestration.names import FunctionId
from orchestration.spec import FunctionSpec
from orchestration.traffic import TrafficTarget
from tests.fakes.orchestrator import FakeOrchestrator
from tests.gateway.edge.lab import eventually
from tests.gateway.metrics.reading import samples

HELLO = FunctionId("openfaas-fn", "hello")
OLD, NEW = "hello-00001", "hello-00002"
STEPS = {"com.pinnace.rollout.duration": "60s", "com.pinnace.rollout.steps": "5,50"}


class Stage:
    """A rollout of `hello` at its first step, and what edges have counted of both revisions."""

    def __init__(self, orchestrator: FakeOrchestrator) -> None:
        self.orchestrator = orchestrator
        self.now = 100.0
        self.counted = {(HELLO.namespace, name): Tally() for name in (OLD, NEW)}
        self.rollouts = GradualRollouts(orchestrator, lambda: self.counted, lambda: self.now)

    @property
    def function(self) -> Function:
        return self.orchestrator.status(HELLO).function

    def tell(self) -> None:
        self.rollouts.apply(FunctionChanged(self.function))

    def calls(self, revision: str, code: int = 200, count: int = 100, took_s: float = 0.01) -> None:
        for _ in range(count):
            self.counted[HELLO.namespace, revision].count(code, took_s)

    async def after(self, seconds: float) -> dict[str, int]:
        """Look after so many seconds; return the shares then."""
        self.now += seconds
        await self.rollouts.look()
        self.tell()
        return {t.revision: t.percent for t in self.function.traffic if t.percent}


@pytest.fixture
async def stage() -> Stage:
    orchestrator = FakeOrchestrator()
    for image in ("one", "two"):
        await orchestrator.apply(FunctionSpec(service="hello", image=image, annotations=STEPS))
    stage = Stage(orchestrator)
    stage.tell()
    return stage


async def test_each_step_takes_its_time(stage: Stage) -> None:
    assert await stage.after(29) == {OLD: 95, NEW: 5}
    assert await stage.after(1) == {OLD: 50, NEW: 50}
    assert await stage.after(29) == {OLD: 50, NEW: 50}
    assert await stage.after(1) == {NEW: 100}
    assert dict(stage.rollouts.outcomes) == {(HELLO, "finished"): 1}
    assert list(stage.rollouts.under_way()) == []


async def test_a_worse_revision_is_given_up_at_once(stage: Stage) -> None:
    stage.calls(OLD)
    stage.calls(NEW, 500, 5)
    assert await stage.after(1) == {OLD: 100}
    assert stage.orchestrator.failures == {
        NEW: "hello-00002: given up at 5 % of the calls: 5 of 5 calls failed (100 %), 0 of 100 on the old revision"
    }
    assert dict(stage.rollouts.outcomes) == {(HELLO, "aborted"): 1}
    assert await stage.after(100) == {OLD: 100}


async def test_what_was_counted_before_the_step_does_not_count(stage: Stage) -> None:
    stage.calls(OLD)
    stage.calls(NEW, 500, 2)
    assert await stage.after(30) == {OLD: 50, NEW: 50}
    stage.calls(OLD)
    stage.calls(NEW, 500, 2)
    assert await stage.after(1) == {OLD: 50, NEW: 50}, "two, which may be chance, are not four"
    stage.calls(NEW, 500, 1)
    assert await stage.after(1) == {OLD: 100}


async def test_a_step_with_too_few_calls_is_passed(stage: Stage) -> None:
    stage.calls(OLD)
    stage.calls(NEW, 500, 2)
    assert await stage.after(30) == {OLD: 50, NEW: 50}


async def test_after_a_restart_the_step_begins_again(stage: Stage) -> None:
    await stage.after(29)
    again = Stage(stage.orchestrator)
    again.tell()
    assert await again.after(29) == {OLD: 95, NEW: 5}
    assert await again.after(1) == {OLD: 50, NEW: 50}


async def test_who_does_not_lead_decides_nothing_and_begins_when_it_does(stage: Stage) -> None:
    stage.rollouts.lead(False)
    stage.calls(NEW, 500, 50)
    stage.calls(OLD)
    assert await stage.after(30) == {OLD: 95, NEW: 5}
    stage.rollouts.lead(True)
    assert await stage.after(29) == {OLD: 95, NEW: 5}, "what another has judged is not judged again"
    stage.calls(NEW, 500, 50)
    stage.calls(OLD)
    assert await stage.after(0.1) == {OLD: 100}


async def test_a_word_that_is_lost_is_said_again(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    proceed = stage.orchestrator.proceed

    async def lost(*_: object) -> None:
        raise OSError("no way")

    monkeypatch.setattr(stage.orchestrator, "proceed", lost)
    assert await stage.after(30) == {OLD: 95, NEW: 5}
    monkeypatch.setattr(stage.orchestrator, "proceed", proceed)
    assert await stage.after(1) == {OLD: 50, NEW: 50}


async def test_a_rollout_that_is_over_or_removed_is_not_looked_at(stage: Stage) -> None:
    other = Stage(stage.orchestrator)
    other.tell()
    assert [function for function, _ in other.rollouts.under_way()] == [HELLO]
    other.rollouts.apply(FunctionRemoved(*HELLO))
    assert list(other.rollouts.under_way()) == []
    await stage.orchestrator.roll_back(HELLO)
    stage.tell()
    assert list(stage.rollouts.under_way()) == []


async def test_it_looks_by_itself_once_there_is_something(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.monitor.rollouts.LOOK_EVERY_S", 0.001)
    stage.calls(OLD)
    async with stage.rollouts:
        stage.calls(NEW, 503, 5)
        await eventually(lambda: stage.function.gradual is None)


async def test_metrics_tell_of_splits_and_rollouts(stage: Stage) -> None:
    stage.calls(NEW, 200, 3)
    page = Rollouts(stage.rollouts, lambda: stage.counted)
    name = str(HELLO)
    told = samples(page)
    assert told["pinnace_revision_invocations_total", name, NEW, "200"] == 3
    assert told["pinnace_revision_traffic_percent", name, OLD] == 95
    assert told["pinnace_rollout_percent", name] == 5
    assert told["pinnace_rollouts_total", name, "aborted"] == 0
    await stage.after(30)
    await stage.after(30)
    told = samples(page)
    assert told["pinnace_rollouts_total", name, "finished"] == 1
    assert ("pinnace_rollout_percent", name) not in told
    assert ("pinnace_revision_traffic_percent", name, OLD) not in told
    await stage.orchestrator.set_traffic(HELLO, (TrafficTarget(NEW, 100), TrafficTarget(OLD, 0, "old")))
    stage.tell()
    assert samples(page)["pinnace_revision_traffic_percent", name, OLD] == 0


def test_only_the_servers_own_errors_are_failures() -> None:
    tally = Tally()
    for code in (200, 404, 429, 499, 500, 503, 504):
        tally.count(code, 0.01)
    assert (outcomes(tally).calls, outcomes(tally).failed) == (7, 3)
