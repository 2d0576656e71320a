"""The real scaler, in the engine's time, decides what the simulated one decides."""

from __future__ import annotations

import asyncio
from typing import Any, cast

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from autoscaler.decider import Decider
from autoscaler.scaler import Scaler
from autoscaler.simulator.distribution import Distribution
from autoscaler.simulator.engine import Controller, Engine, Model
from autoscaler.simulator.live import Live
from autoscaler.simulator.trace import Call, Trace
from orchestration.decisions import Decision
from orchestration.events import ReplicaChanged
from orchestration.load import LoadSample
from orchestration.orchestrator import Orchestrator
from orchestration.replica import Replica, ReplicaState
from orchestration.scaling_labels import scale_settings
from tests.autoscaler.simulator.policies import workload
from tests.autoscaler.test_scaler import HELLO, Clock, Place, spec


async def settled(turns: int) -> None:
    for _ in range(turns):
        await asyncio.sleep(0)


class Loop:
    """The real scaler and its loop, as the engine's controller. Replicas are what the engine says there are."""

    initial = 0

    def __init__(self, runner: asyncio.Runner, labels: dict[str, str], limit: int) -> None:
        self.clock = Clock()
        self.clock.now = 0.0
        self.place = Place(labels, replicas=0, concurrency=limit)
        self.scaler = Scaler(cast("Orchestrator", cast("Any", self.place)), self.clock, self.clock)
        self.decisions: list[Decision] = []
        self._runner = runner
        self._ready = 0
        self._told: list[LoadSample] = []
        self._run(self._begin())

    async def _begin(self) -> None:
        self.scaler.apply(self.place.changed)

    def _run(self, step: Any) -> None:
        async def whole() -> None:
            await step
            await settled(4)

        self._runner.get_loop().run_until_complete(whole())

    @property
    def look_at(self) -> float:
        return self.scaler._alarms.first

    def observe(self, sample: LoadSample, now: float) -> bool:
        told = msgspec.structs.replace(
            sample, namespace=HELLO.namespace, function=HELLO.name, revision=self.place.revision, idle_replicas=()
        )

        self._told.append(told)
        return True

    def replicas_changed(self) -> bool:
        return True

    def decide(self, now: float, *, wanted: int, ready: int, starting: int) -> int:
        self.clock.now = now
        self._run(self._happen(ready))
        return self.place.replicas

    async def _happen(self, ready: int) -> None:
        for told in self._told:
            self.scaler.sample(told)
        self._told.clear()
        for number in range(min(ready, self._ready), max(ready, self._ready)):
            state = ReplicaState.RUNNING if ready > self._ready else ReplicaState.STOPPED
            replica = Replica(
                id=f"r{number}", namespace=HELLO.namespace, function=HELLO.name, revision=self.place.revision, state=state
            )
            self.scaler.apply(ReplicaChanged(replica))
        self._ready = ready
        self.scaler.ring()

    def expect(self, at: float, lead_s: float) -> None:
        raise NotImplementedError


class Counted:
    """Passes everything to a controller and notes when the count changed."""

    def __init__(self, controller: Controller) -> None:
        self._controller = controller
        self.initial = controller.initial
        self.changes: list[tuple[float, int]] = []

    @property
    def look_at(self) -> float:
        return self._controller.look_at

    def observe(self, sample: LoadSample, now: float) -> bool:
        return self._controller.observe(sample, now)

    def replicas_changed(self) -> bool:
        return self._controller.replicas_changed()

    def decide(self, now: float, **known: int) -> int:
        count = self._controller.decide(now, **known)
        if count != known["wanted"]:
            self.changes.append((round(now, 6), count))
        return count

    def expect(self, at: float, lead_s: float) -> None:
        self._controller.expect(at, lead_s)


def changes(controller: Controller, calls: list[Call], limit: int) -> list[tuple[float, int]]:
    counted = Counted(controller)
    work = workload(calls)
    trace = Trace("test", 400.0, [work])
    Engine(work, counted, Model(start=Distribution((0.0, 1.0), (0.2, 2.0)), limit=limit), trace, 1).run()
    return counted.changes


@pytest.mark.parametrize(
    ("labels", "limit"),
    [
        ({"com.openfaas.scale.zero": "true"}, 10),
        ({"com.openfaas.scale.zero": "true", "com.openfaas.scale.zero-duration": "20s"}, 2),
        ({"com.openfaas.scale.min": "0", "com.openfaas.scale.target": "3", "com.openfaas.scale.max": "6"}, 0),
    ],
)
@given(st.lists(st.tuples(st.floats(0, 300), st.floats(0.05, 8)), min_size=1, max_size=25).map(sorted))
@settings(max_examples=8, deadline=None)
def test_the_loop_decides_as_the_simulator_does(labels: dict[str, str], limit: int, calls: list[Call]) -> None:
    with asyncio.Runner() as runner:
        live = changes(Loop(runner, labels, limit), calls, limit)
    simulated = changes(Live(Decider(scale_settings(spec(labels, limit)), limit, 0.0), 0.0), calls, limit)
    assert live == simulated
    assert live[0][1] >= 1
