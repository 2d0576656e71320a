"""What is left of functions that were removed: nothing."""

from __future__ import annotations

import asyncio

from orchestration.local.logs import WRITERS_OPEN
from orchestration.local.orchestrator import LocalOrchestrator
from orchestration.names import DEFAULT_NAMESPACE, FunctionId
from tests.held import entries
from tests.orchestration.local.world import Watch, spec, until

AT_A_TIME = 25


async def test_nothing_is_kept_of_a_thousand_functions_that_came_and_went(
    orchestrator: LocalOrchestrator, watch: Watch
) -> None:
    """Most are removed before they have started, some while they start, some when they run."""

    async def come_and_go(number: int) -> None:
        function = FunctionId(DEFAULT_NAMESPACE, f"hello-{number}")
        await orchestrator.apply(spec(function.name))
        if number % 50 == 0:
            await until(lambda: orchestrator.status(function).available)
        elif number % 10 == 0:
            await until(lambda: orchestrator.status(function).instances)
        await orchestrator.remove(function)

    async def all_stopped() -> None:
        await until(lambda: not orchestrator._supervisor.all_processes())

    await come_and_go(0)
    await all_stopped()
    before = entries(orchestrator)
    for first in range(1, 1001, AT_A_TIME):
        await asyncio.gather(*(come_and_go(number) for number in range(first, first + AT_A_TIME)))
    await all_stopped()
    after = entries(orchestrator)
    grown = {place: count - before.get(place, 0) for place, count in after.items() if not place.startswith("Logs._writers")}
    assert sum(grown.values()) <= 20, grown
    assert after.get("Logs._writers", 0) <= WRITERS_OPEN, "logs stay, for who asks why"
