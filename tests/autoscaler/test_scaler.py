from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from typing import Any, cast

import pytest

from autoscaler.scaler import Scaler
from orchestration.events import FunctionChanged, FunctionRemoved
from orchestration.function import Function
from orchestration.load import LoadSample
from orchestration.names import FunctionId
from orchestration.orchestrator import FunctionStatus, NotFound, Orchestrator
from orchestration.rollout import Condition, Phase, deploy
from orchestration.spec import FunctionSpec

HELLO = FunctionId("openfaas-fn", "hello")


class Place:
    """The part of an orchestrator that the scaler uses; `refusals` writes fail before one is taken."""

    def __init__(self, labels: dict[str, str], replicas: int = 1, refusals: int = 0) -> None:
        self.function: Function | None = deploy(None, FunctionSpec(service="hello", image="x", labels=labels), "sha256:a", 0.0)
        self.replicas = replicas
        self.refusals = refusals
        self.writes: list[int] = []
        self.under_way = 0
        self.written = asyncio.Event()
        self.gate = asyncio.Event()
        self.gate.set()

    def status(self, function: FunctionId) -> FunctionStatus:
        if self.function is None:
            raise NotFound(str(function))
        return FunctionStatus(
            function=self.function,
            replicas=self.replicas,
            available=self.replicas,
            instances=(),
            condition=Condition(Phase.READY),
        )

    async def scale(self, revision: tuple[str, str], replicas: int, *, victims: Sequence[str] = ()) -> None:
        assert revision == ("openfaas-fn", "hello-00001")
        self.under_way += 1
        assert self.under_way == 1, "more than one write under way"
        try:
            await self.gate.wait()
            if self.refusals:
                self.refusals -= 1
                raise OSError("refused")
            self.writes.append(replicas)
            self.replicas = replicas
            self.written.set()
        finally:
            self.under_way -= 1

    @property
    def changed(self) -> FunctionChanged:
        assert self.function is not None
        return FunctionChanged(self.function)


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def sample(queued: int = 0, in_flight: int = 0, arrivals: int = 0, edge: str = "e0") -> LoadSample:
    return LoadSample(
        edge=edge,
        namespace=HELLO.namespace,
        function=HELLO.name,
        revision="hello-00001",
        at=0.0,
        interval_s=1.0,
        concurrency=0.0,
        arrivals=arrivals,
        in_flight=in_flight,
        queued=queued,
    )


async def settled() -> None:
    for _ in range(10):
        await asyncio.sleep(0)


@pytest.fixture
def clock() -> Clock:
    return Clock()


class Started:
    def __init__(self, place: Place, clock: Clock) -> None:
        self.place = place
        self.scaler = Scaler(cast("Orchestrator", cast("Any", place)), clock)

    async def __aenter__(self) -> Scaler:
        await self.scaler.__aenter__()
        self.scaler.apply(self.place.changed)
        await settled()
        return self.scaler

    async def __aexit__(self, *exc: object) -> None:
        await self.scaler.__aexit__(None, None, None)


@pytest.fixture
async def idle_to_zero(clock: Clock) -> AsyncIterator[tuple[Place, Scaler]]:
    place = Place({"com.openfaas.scale.zero": "true", "com.openfaas.scale.zero-duration": "60s"})
    async with Started(place, clock) as scaler:
        yield place, scaler


async def test_a_call_waiting_at_zero_wakes_the_function(clock: Clock) -> None:
    place = Place({"com.openfaas.scale.min": "2"}, replicas=0)
    async with Started(place, clock) as scaler:
        assert place.writes == []
        scaler.sample(sample(queued=1, arrivals=1))
        await settled()
        assert place.writes == [2]


async def test_an_idle_function_goes_to_zero_when_its_time_is_over(idle_to_zero: tuple[Place, Scaler], clock: Clock) -> None:
    place, scaler = idle_to_zero
    clock.now += 59
    scaler.ring()
    await settled()
    assert place.writes == []
    clock.now += 2
    scaler.ring()
    await settled()
    assert place.writes == [0]


async def test_a_shorter_idle_time_takes_effect_at_once(idle_to_zero: tuple[Place, Scaler], clock: Clock) -> None:
    place, scaler = idle_to_zero
    labels = {"com.openfaas.scale.zero": "true", "com.openfaas.scale.zero-duration": "5s"}
    place.function = deploy(place.function, FunctionSpec(service="hello", image="x", labels=labels), "sha256:a", 1.0)
    scaler.apply(place.changed)
    await settled()
    clock.now += 6
    scaler.ring()
    await settled()
    assert place.writes == [0]


async def test_a_call_starts_the_idle_time_anew(idle_to_zero: tuple[Place, Scaler], clock: Clock) -> None:
    place, scaler = idle_to_zero
    clock.now += 50
    scaler.sample(sample(in_flight=1, arrivals=1))
    await settled()
    clock.now += 50
    scaler.sample(sample())
    await settled()
    clock.now += 30
    scaler.ring()
    await settled()
    assert place.writes == [], "80 s after the arrival, but the edge said at 50 s that a call was in flight"
    clock.now += 40
    scaler.ring()
    await settled()
    assert place.writes == [0]


async def test_a_long_call_on_another_edge_keeps_it_up(idle_to_zero: tuple[Place, Scaler], clock: Clock) -> None:
    place, scaler = idle_to_zero
    scaler.sample(sample(in_flight=1, arrivals=1, edge="e1"))
    scaler.sample(sample(edge="e0"))
    clock.now += 300
    scaler.ring()
    await settled()
    assert place.writes == []
    scaler.forget_edge("e1")
    await settled()
    assert place.writes == [0]


async def test_what_happens_during_a_write_is_looked_at_after_it(idle_to_zero: tuple[Place, Scaler], clock: Clock) -> None:
    place, scaler = idle_to_zero
    place.gate.clear()
    clock.now += 61
    scaler.ring()
    await settled()
    scaler.sample(sample(queued=1, arrivals=1))
    await settled()
    assert place.writes == []
    place.gate.set()
    await settled()
    assert place.writes == [0, 1]


async def test_a_refused_write_is_tried_again(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("autoscaler.scaler.FIRST_RETRY_S", 0.0)
    place = Place({}, replicas=0, refusals=3)
    async with Started(place, clock) as scaler:
        scaler.sample(sample(queued=1))
        async with asyncio.timeout(5):
            await place.written.wait()
        assert place.writes == [1]


async def test_the_floor_of_a_new_deploy_takes_effect(clock: Clock) -> None:
    place = Place({"com.openfaas.scale.min": "3"}, replicas=1)
    async with Started(place, clock):
        assert place.writes == [3]


async def test_samples_of_an_unknown_or_removed_function_are_ignored(idle_to_zero: tuple[Place, Scaler], clock: Clock) -> None:
    place, scaler = idle_to_zero
    place.function = None
    scaler.apply(FunctionRemoved(HELLO.namespace, HELLO.name))
    clock.now += 100
    scaler.sample(sample(queued=5))
    scaler.ring()
    await settled()
    assert place.writes == []
