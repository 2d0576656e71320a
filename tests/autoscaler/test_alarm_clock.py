"""Alarms that ring on a loop."""

from __future__ import annotations

import asyncio
from math import inf

from autoscaler.alarm_clock import AlarmClock
from tests.gateway.edge.lab import eventually


class World:
    """A clock of the loop's own time; `rung` is who was due, in order."""

    def __init__(self) -> None:
        self.rung: list[str] = []
        self.rings = 0
        self.alarms: AlarmClock[str] = AlarmClock(asyncio.get_running_loop().time, self.ring)
        self.began = asyncio.get_running_loop().time()

    def ring(self) -> None:
        self.rings += 1
        self.rung += self.alarms.due()

    def set(self, key: str, after_s: float) -> None:
        self.alarms.set(key, self.began + after_s)


async def test_each_is_due_at_its_earliest_time_and_once() -> None:
    world = World()
    world.set("late", 0.06)
    world.set("early", 0.02)
    world.set("never", inf)
    world.set("late", 0.04)
    world.set("late", 0.05)
    await eventually(lambda: world.rung == ["early", "late"])
    assert (world.rings, world.alarms.first) == (2, inf)


async def test_who_is_gone_is_not_due() -> None:
    world = World()
    world.set("gone", 0.01)
    world.set("there", 0.02)
    world.alarms.forget("gone")
    await eventually(lambda: world.rung)
    assert world.rung == ["there"]


async def test_a_closed_clock_does_not_ring() -> None:
    world = World()
    world.set("one", 0.01)
    world.alarms.close()
    world.set("other", 0.0)
    later = World()
    later.set("one", 0.02)
    await eventually(lambda: later.rings)
    assert world.rings == 0
