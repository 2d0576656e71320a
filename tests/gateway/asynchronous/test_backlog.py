"""What waits is told to the autoscaler for functions that scale by it, and of no other."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from pathlib import Path

import pytest

from gateway.asynchronous import backlog
from gateway.asynchronous.backlog import EDGE, Backlog
from gateway.asynchronous.calls import Depth, Outcome, State, Submission, queue_of
from gateway.asynchronous.sqlite_store import SqliteStore
from gateway.asynchronous.store import StoreUnavailable
from orchestration.events import FunctionChanged, FunctionRemoved
from orchestration.function import Function
from orchestration.load import LoadSample
from orchestration.names import FunctionId
from orchestration.rollout import deploy
from orchestration.spec import FunctionSpec
from tests.held import entries

BY_QUEUE = FunctionId("openfaas-fn", "by-queue")
OTHER = FunctionId("openfaas-fn", "other")
NOW = 1_000_000.0


class World:
    """A store, a backlog, and what it told."""

    def __init__(self, store: SqliteStore) -> None:
        self.store = store
        self.now = NOW
        self.told: list[LoadSample] = []
        self.backlog = Backlog(store, self.told.append, lambda: self.now, lambda: self.now)
        self.function = deploy(None, self.spec(), "sha256:0", 0.0)
        self.backlog.apply(FunctionChanged(self.function))
        self.backlog.apply(FunctionChanged(deploy(None, FunctionSpec(service="other", image="x"), "sha256:0", 0.0)))

    def spec(self, name: str = "by-queue") -> FunctionSpec:
        return FunctionSpec(service=name, image="x", labels={"com.openfaas.scale.type": "queue"})

    async def look(self, after_s: float = 1.0) -> list[LoadSample]:
        self.now += after_s
        self.told.clear()
        await self.backlog.look()
        return list(self.told)

    async def submit(self, function: FunctionId, count: int, due: float = NOW) -> None:
        await self.store.submit([Submission(queue=queue_of(function), function=function, due=due)] * count, NOW)

    def revision_of(self, function: Function) -> str:
        return function.serving.name


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    store = SqliteStore(tmp_path)
    yield World(store)
    await store.close()


async def test_what_is_due_is_load_that_waits(world: World) -> None:
    await world.submit(BY_QUEUE, 7)
    await world.submit(BY_QUEUE, 3, due=NOW + 3600)
    await world.submit(OTHER, 5)
    (sample,) = await world.look(2.0)
    assert (sample.edge, sample.function, sample.revision) == (EDGE, "by-queue", world.revision_of(world.function))
    assert (sample.queued, sample.in_flight, sample.concurrency, sample.arrivals) == (7, 0, 0.0, 0)
    assert (sample.interval_s, sample.oldest_wait_s) == (2.0, 2.0)
    assert world.backlog.depths[queue_of(OTHER)].due == 5


async def test_that_nothing_waits_any_more_is_told_once(world: World) -> None:
    assert await world.look() == []
    await world.submit(BY_QUEUE, 1)
    assert [sample.queued for sample in await world.look()] == [1]
    for call in await world.store.take(lambda queue: 5, 5, world.now, 30.0):
        await world.store.finish(call.lease, State.SUCCEEDED, Outcome(status=200), world.now)
    assert [sample.queued for sample in await world.look()] == [0]
    assert await world.look() == []


async def test_a_function_that_is_gone_or_scaled_otherwise_is_not_told_of(world: World) -> None:
    await world.submit(BY_QUEUE, 1)
    world.backlog.apply(FunctionRemoved(*BY_QUEUE))
    assert await world.look() == []
    world.backlog.apply(FunctionChanged(world.function))
    assert len(await world.look()) == 1
    plain = deploy(world.function, FunctionSpec(service="by-queue", image="x"), "sha256:0", 0.0)
    world.backlog.apply(FunctionChanged(plain))
    assert [sample.queued for sample in await world.look()] == [0], "what waits is no load any more"
    assert await world.look() == []


async def test_nothing_is_kept_of_functions_that_are_gone_or_scaled_otherwise(world: World) -> None:
    before = entries(world.backlog)
    for number in range(1000):
        by_queue = world.spec(f"by-queue-{number}")
        world.backlog.apply(FunctionChanged(deploy(None, by_queue, "sha256:0", 0.0)))
        if number % 100 == 0:
            await world.look()
        if number % 2:
            world.backlog.apply(FunctionRemoved(*by_queue.id))
        else:
            plain = FunctionSpec(service=by_queue.service, image="x")
            world.backlog.apply(FunctionChanged(deploy(None, plain, "sha256:0", 0.0)))
    await world.look()
    assert sum(entries(world.backlog).values()) <= sum(before.values()) + 5


async def test_a_store_that_is_away_is_told_of_once_and_once_when_it_is_back(
    world: World, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    answers = iter([True, False, False, False, True, True])
    looked = asyncio.Event()

    async def depths(now: float) -> Mapping[str, Depth]:
        if (there := next(answers, None)) is None:
            looked.set()
        elif not there:
            raise StoreUnavailable("the server is away")
        return {}

    monkeypatch.setattr(backlog, "LOOK_EVERY_S", 0.001)
    monkeypatch.setattr(world.store, "depths", depths)
    with caplog.at_level("INFO", "pinnace.async"):
        async with world.backlog, asyncio.timeout(20):
            await looked.wait()
    said = [record.getMessage() for record in caplog.records]
    assert said == ["how full the queues are is not known: the server is away", "how full the queues are is known again"]
