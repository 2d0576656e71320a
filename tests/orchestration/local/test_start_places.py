"""Places among the starting replicas."""

from __future__ import annotations

import asyncio

import pytest

from orchestration.local import start_places
from orchestration.local.start_places import StartPlaces
from tests.orchestration.local.test_replica_process import revision
from tests.orchestration.local.world import until


async def test_starts_are_bounded_in_total_and_for_each_function() -> None:
    places = StartPlaces(total=3, per_function=2)
    inside: list[str] = []
    go_on = asyncio.Event()

    async def start(name: str) -> None:
        async with places.place(revision(name)):
            inside.append(name)
            await go_on.wait()

    tasks = [asyncio.create_task(start(name)) for name in ("a", "a", "a", "b", "b", "c")]
    await asyncio.sleep(0)
    await until(lambda: len(inside) == 3)
    assert inside == ["a", "a", "b"]
    go_on.set()
    await asyncio.gather(*tasks)
    assert sorted(inside) == ["a", "a", "a", "b", "b", "c"]


async def test_a_start_that_hangs_gives_its_place_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(start_places, "PLACE_HELD_S", 0.01)
    places = StartPlaces(total=1, per_function=1)
    async with places.place(revision("hanging")), asyncio.timeout(20), places.place(revision("next")):
        pass
    async with asyncio.timeout(20), places.place(revision("again")):
        pass
