"""What is submitted in one turn of the loop is kept by one write; each submission has its own answer."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Sequence

import pytest

from gateway.asynchronous.calls import Receipt, Submission
from gateway.asynchronous.gathering import TOGETHER_AT_MOST, Gathering
from gateway.asynchronous.store import QueueFull, StoreUnavailable
from gateway.edge.refusal import Refusal
from orchestration.names import FunctionId

FUNCTION = FunctionId("ns", "f")


def wanted(queue: str) -> Submission:
    return Submission(queue=queue, function=FUNCTION)


class Asker:
    """Notes its answer."""

    def __init__(self) -> None:
        self.heard: list[object] = []

    def accepted(self, call_id: str) -> None:
        self.heard.append(call_id)

    def refused(self, refusal: Refusal) -> None:
        self.heard.append(refusal.status)

    def close(self) -> None:
        self.heard.append("closed")


class Rig:
    """A store that keeps what is submitted to queues called `good`; `writes` are the sizes of what it was given."""

    def __init__(self) -> None:
        self.writes: list[int] = []
        self.tasks: list[asyncio.Task[None]] = []
        self.refused: list[str] = []
        self.gathering = Gathering(self.keep, self.refusal, self.begin)

    async def keep(self, submissions: Sequence[Submission]) -> list[Receipt]:
        self.writes.append(len(submissions))
        await asyncio.sleep(0)
        queues = {submission.queue for submission in submissions}
        if "broken" in queues:
            raise RuntimeError("nobody foresaw this")
        if "away" in queues:
            raise StoreUnavailable("away")
        if "full" in queues:
            raise QueueFull("full")
        return [Receipt(f"id-{number}") for number in range(len(submissions))]

    def refusal(self, error: QueueFull | StoreUnavailable, wanted: Submission) -> Refusal:
        self.refused.append(str(error))
        return Refusal(429 if isinstance(error, QueueFull) else 503, str(error))

    def begin(self, work: Coroutine[None, None, None]) -> None:
        self.tasks.append(asyncio.create_task(work))

    async def submit(self, *queues: str) -> list[list[object]]:
        askers = [Asker() for _ in queues]
        for queue, asker in zip(queues, askers, strict=True):
            self.gathering.add(wanted(queue), asker)
        await asyncio.sleep(0)
        await asyncio.gather(*self.tasks, return_exceptions=True)
        return [asker.heard for asker in askers]


async def test_what_comes_in_one_turn_is_one_write() -> None:
    rig = Rig()
    assert await rig.submit("good", "good", "good") == [["id-0"], ["id-1"], ["id-2"]]
    assert await rig.submit("good") == [["id-0"]]
    assert rig.writes == [3, 1]


async def test_one_write_has_so_many_at_most() -> None:
    rig = Rig()
    await rig.submit(*["good"] * (TOGETHER_AT_MOST + 1))
    assert rig.writes == [TOGETHER_AT_MOST, 1]


async def test_a_full_queue_refuses_only_its_own() -> None:
    rig = Rig()
    assert await rig.submit("good", "full", "good") == [["id-0"], [429], ["id-0"]]
    assert rig.writes == [3, 1, 1, 1]


async def test_a_store_that_is_away_refuses_all_and_is_not_asked_again() -> None:
    rig = Rig()
    assert await rig.submit("good", "away", "good") == [[503]] * 3
    assert (rig.writes, rig.refused) == ([3], ["away"])


async def test_what_nobody_foresaw_closes_all_and_is_told() -> None:
    rig = Rig()
    assert await rig.submit("good", "broken") == [["closed"]] * 2
    with pytest.raises(RuntimeError, match="nobody foresaw"):
        await rig.tasks[0]
