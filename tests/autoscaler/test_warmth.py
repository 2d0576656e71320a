"""What a revision at zero keeps ready: asked for ahead of what is due, let go of when nobody is expected."""

from __future__ import annotations

import asyncio
from math import inf
from typing import cast

import pytest

from autoscaler.warmth import AHEAD_S, AT_A_TIME, COOL_AFTER_S, Warmth
from autoscaler.watched import RevisionKey, Watched
from orchestration.names import FunctionId
from orchestration.orchestrator import NotFound, Orchestrator
from orchestration.scaling import ScaleSettings

NOW = 1000.0


class Place:
    """The part of an orchestrator that is asked."""

    def __init__(self) -> None:
        self.prewarmed: list[str] = []
        self.cooled: list[str] = []
        self.at_a_time = self.most_at_a_time = 0
        self.gate = asyncio.Event()
        self.gate.set()
        self.failure: Exception | None = None

    async def prewarm(self, revision: RevisionKey) -> None:
        self.at_a_time += 1
        self.most_at_a_time = max(self.most_at_a_time, self.at_a_time)
        try:
            await self.gate.wait()
            if self.failure is not None:
                raise self.failure
            self.prewarmed.append(revision[1])
        finally:
            self.at_a_time -= 1

    async def cool(self, revision: RevisionKey) -> None:
        self.cooled.append(revision[1])


def watched(name: str = "f") -> Watched:
    return Watched(FunctionId("ns", name), f"{name}-00001", ScaleSettings())


async def settled() -> None:
    for _ in range(10):
        await asyncio.sleep(0)


@pytest.fixture
def place() -> Place:
    return Place()


@pytest.fixture
def warmth(place: Place) -> Warmth:
    return Warmth(cast("Orchestrator", place))


async def test_what_is_due_is_prepared_ahead_and_once(place: Place, warmth: Warmth) -> None:
    one, due_at = watched(), NOW + 300
    assert warmth.at_zero(one, NOW, due_at, 0.0) == due_at - AHEAD_S
    await settled()
    assert place.prewarmed == []
    assert warmth.at_zero(one, due_at - AHEAD_S, due_at, 0.0) == due_at
    assert warmth.at_zero(one, due_at - 10, due_at + 0.2, 0.0) == due_at + 0.2
    await settled()
    assert place.prewarmed == ["f-00001"]
    assert warmth.at_zero(one, due_at + 500, due_at + 510, 0.0) == due_at + 510
    await settled()
    assert place.prewarmed == ["f-00001"] * 2


async def test_what_nobody_called_for_a_day_is_let_go_of_once(place: Place, warmth: Warmth) -> None:
    one = watched()
    assert warmth.at_zero(one, NOW, inf, 60.0) == NOW + COOL_AFTER_S - 60
    assert warmth.at_zero(one, NOW + COOL_AFTER_S, inf, COOL_AFTER_S) == inf
    assert warmth.at_zero(one, NOW + COOL_AFTER_S + 1, inf, COOL_AFTER_S + 1) == inf
    await settled()
    assert (place.cooled, place.prewarmed) == (["f-00001"], [])


async def test_what_is_due_is_never_let_go_of(place: Place, warmth: Warmth) -> None:
    assert warmth.at_zero(watched(), NOW, NOW + 3600, 2 * COOL_AFTER_S) == NOW + 3600 - AHEAD_S
    await settled()
    assert place.cooled == []


async def test_few_are_prepared_at_a_time(place: Place, warmth: Warmth) -> None:
    place.gate.clear()
    for number in range(10):
        warmth.at_zero(watched(f"f{number}"), NOW, NOW + 1, 0.0)
    await settled()
    assert place.at_a_time == AT_A_TIME
    place.gate.set()
    await settled()
    assert len(place.prewarmed) == 10
    assert place.most_at_a_time == AT_A_TIME


@pytest.mark.parametrize("failure", [NotFound("gone"), RuntimeError("it cannot be")])
async def test_a_failure_is_borne(place: Place, warmth: Warmth, failure: Exception, caplog: pytest.LogCaptureFixture) -> None:
    place.failure = failure
    warmth.at_zero(watched(), NOW, NOW + 1, 0.0)
    await settled()
    assert ("may take longer" in caplog.text) == isinstance(failure, RuntimeError)
    place.failure = None
    warmth.at_zero(watched("other"), NOW, NOW + 1, 0.0)
    await settled()
    assert place.prewarmed == ["other-00001"]


async def test_closing_ends_what_is_under_way(place: Place, warmth: Warmth) -> None:
    place.gate.clear()
    warmth.at_zero(watched(), NOW, NOW + 1, 0.0)
    await settled()
    await warmth.close()
    assert place.at_a_time == 0
