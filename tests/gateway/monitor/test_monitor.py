from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from gateway.edge.figures import FunctionLoad
from gateway.edge.tally import Tally
from gateway.monitor import monitor as monitor_module
from gateway.monitor.monitor import REMOVED_KEPT, Monitor, Update
from gateway.monitor.series import TIERS
from orchestration.events import FunctionRemoved
from orchestration.names import FunctionId
from orchestration.spec import FunctionSpec
from tests.fakes.orchestrator import FakeOrchestrator
from tests.gateway.edge.test_records import record

HELLO = FunctionId("openfaas-fn", "hello")


class Watched:
    """A monitor whose clock a test turns, with what it looks at."""

    def __init__(self) -> None:
        self.now = 1_700_000_000.0
        self.orchestrator = FakeOrchestrator()
        self.tallies: dict[FunctionId, Tally] = {}
        self.loads: dict[FunctionId, FunctionLoad] = {}
        self.monitor = Monitor(self.orchestrator, lambda: self.tallies, lambda: self.loads, lambda: self.now)
        self._events = self.orchestrator.watch()

    async def deploy(self, name: str = "hello") -> FunctionId:
        function = FunctionId("openfaas-fn", name)
        await self.orchestrator.apply(FunctionSpec(service=name, image=f"{name}:1"))
        self.tallies[function] = Tally()
        await self.follow()
        return function

    async def follow(self) -> None:
        """Apply all events that there are."""
        while True:
            try:
                self.monitor.apply(await asyncio.wait_for(anext(self._events), 0.01))
            except TimeoutError:
                self._events = self.orchestrator.watch()  # begins with everything again, which changes nothing
                return

    async def second(self, **calls: int) -> None:
        for name, count in calls.items():
            for _ in range(count):
                self.tallies[FunctionId("openfaas-fn", name)].count(200, 0.004)
        self.now += 1
        await self.monitor.look()


@pytest.fixture
def watched() -> Watched:
    return Watched()


async def first(updates: AsyncIterator[Update | None]) -> Update:
    update = await asyncio.wait_for(anext(updates), 20)
    assert update is not None
    return update


async def test_a_reader_is_shown_everything_and_then_what_changes(watched: Watched) -> None:
    await watched.deploy("hello")
    await watched.deploy("other")
    updates = watched.monitor.updates()
    picture = await first(updates)
    assert picture.whole
    assert sorted(row.name for row in picture.rows) == ["hello", "other"]
    coming = asyncio.ensure_future(anext(updates))
    await asyncio.sleep(0)
    await watched.second(hello=30)
    change = await coming
    assert change is not None
    assert not change.whole
    assert [(row.name, row.calls, row.rate, row.minute_calls) for row in change.rows] == [("hello", 30, 3.0, 30)]
    assert change.rows[0].p50_ms == pytest.approx(3.75)


async def test_a_reader_that_comes_back_is_told_what_it_missed_only(watched: Watched) -> None:
    await watched.deploy("hello")
    await watched.deploy("other")
    await watched.second()
    seen = await first(watched.monitor.updates())
    await watched.second(other=1)
    await watched.second()
    missed = await first(watched.monitor.updates(seen.number))
    assert not missed.whole
    assert [row.name for row in missed.rows] == ["other"]


async def test_what_was_removed_is_told_and_a_reader_that_was_away_for_too_long_starts_anew(watched: Watched) -> None:
    hello = await watched.deploy("hello")
    await watched.second()
    seen = await first(watched.monitor.updates())
    watched.monitor.apply(FunctionRemoved(*hello))
    del watched.tallies[hello]
    await watched.second()
    told = await first(watched.monitor.updates(seen.number))
    assert (told.whole, told.rows, told.removed) == (False, [], [hello])
    for number in range(REMOVED_KEPT + 1):
        gone = await watched.deploy(f"gone{number}") if number == 0 else FunctionId("openfaas-fn", f"gone{number}")
        watched.monitor._functions.setdefault(gone, monitor_module._Function())
        watched.monitor.apply(FunctionRemoved(*gone))
    assert (await first(watched.monitor.updates(seen.number))).whole


async def test_cold_starts_replicas_and_load_are_told(watched: Watched) -> None:
    hello = await watched.deploy("hello")
    await watched.orchestrator.scale(watched.orchestrator.status(hello).function.serving.key, 2)
    await watched.follow()
    watched.tallies[hello].waited(0.3, cold=True)
    watched.loads[hello] = FunctionLoad(in_flight=5, queued=2)
    await watched.second(hello=1)
    (row,) = (await first(watched.monitor.updates())).rows
    assert (row.cold_starts, row.in_flight, row.waiting, row.ready) == (1, 5, 2, 2)
    history = watched.monitor.history(hello, TIERS[0])
    assert (history.cold, history.in_flight, history.waiting, history.ready) == ([1], [5], [2], [2])


async def test_nothing_is_made_for_nobody_and_idle_functions_are_not_looked_at(
    watched: Watched, monkeypatch: pytest.MonkeyPatch
) -> None:
    await watched.deploy("hello")
    asked = 0

    def status(function: FunctionId) -> None:
        nonlocal asked
        asked += 1

    monkeypatch.setattr(watched.orchestrator, "status", status)
    for _ in range(5):
        await watched.second(hello=1)
    assert asked == 0


async def test_figures_about_the_last_minute_fade_after_the_last_call(watched: Watched) -> None:
    await watched.deploy("hello")
    await watched.second(hello=10)
    updates = watched.monitor.updates()
    assert (await first(updates)).rows[0].minute_calls == 10
    for _ in range(70):
        await watched.second()
    (row,) = (await first(watched.monitor.updates())).rows
    assert (row.minute_calls, row.rate, row.p50_ms, row.calls) == (0, 0.0, None, 10)


async def test_last_calls_are_told_newest_first(watched: Watched) -> None:
    hello = await watched.deploy("hello")
    assert watched.monitor.calls(hello) == []
    for number in (1, 2):
        watched.tallies[hello].ended(record(number))
    assert [call.id for call in watched.monitor.calls(hello)] == ["call-2", "call-1"]
    assert watched.monitor.calls(FunctionId("openfaas-fn", "unknown")) == []


async def test_it_looks_each_second_until_it_is_left(watched: Watched, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(monitor_module, "LOOK_EVERY_S", 0.001)
    async with watched.monitor:
        async with asyncio.timeout(20):
            while watched.monitor.number < 3:  # noqa: ASYNC110 - nothing tells of it
                await asyncio.sleep(0.001)
    number = watched.monitor.number
    await asyncio.sleep(0.01)
    assert watched.monitor.number == number


async def test_readers_are_dismissed_when_the_platform_stops(watched: Watched) -> None:
    updates = watched.monitor.updates()
    await first(updates)
    coming = asyncio.ensure_future(anext(updates, None))
    await asyncio.sleep(0)
    watched.monitor.dismiss()
    assert await asyncio.wait_for(coming, 20) is None
    assert watched.monitor.readers == 0
