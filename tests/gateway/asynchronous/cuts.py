"""A store's work, told step by step, and what must be true of what is left when it was cut at any moment.

`work` does something of everything with a store and says after each step what was promised; `check` looks at a store that was
opened on what a cut left.
"""

from __future__ import annotations

import asyncio
import hashlib
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Final

import msgspec

from gateway.asynchronous.calls import Outcome, State, Submission, queue_of
from gateway.asynchronous.sqlite_store import SqliteStore
from gateway.asynchronous.store import Keep, Store
from orchestration.names import FunctionId

FUNCTION: Final = FunctionId("openfaas-fn", "cut")
NOW: Final = 1_000_000.0
SIZES: Final = (0, 200, 5000, 90_000)


class Promise(msgspec.Struct):
    """That a call is kept, in this state from now on: `state` is none where a later step may have changed it."""

    id: str
    number: int
    state: State | None = None


def body_of(number: int) -> bytes:
    return (hashlib.sha256(b"%d" % number).digest() * 3000)[: SIZES[number % len(SIZES)]]


def wanted(number: int) -> Submission:
    return Submission(
        queue=queue_of(FUNCTION),
        function=FUNCTION,
        headers=(("X-Number", str(number)),),
        body=body_of(number),
        id=f"call-{number}",
    )


async def work(store: Store, promise: Callable[[Promise], None], rounds: int = 3) -> None:
    """Each round: eight calls, two of them at a time; of those one succeeds, one dies, one is tried again, one is cancelled."""
    for turn in range(rounds):
        first = 8 * turn
        for number in range(first, first + 6):
            (receipt,) = await store.submit([wanted(number)], NOW)
            promise(Promise(receipt.id, number))
        for receipt, number in zip(
            await store.submit([wanted(first + 6), wanted(first + 7)], NOW), (first + 6, first + 7), strict=True
        ):
            promise(Promise(receipt.id, number))
        succeeds, dies, again, cancelled = await store.take(lambda _: 4, 4, NOW + turn, 30)
        outcome = Outcome(status=200, reason="told")
        numbers = {call.id: int(dict(call.headers)["X-Number"]) for call in (succeeds, dies, again, cancelled)}
        body = body_of(numbers[succeeds.id])
        told = wanted(1000 + first + 3)
        assert await store.finish(succeeds.lease, State.SUCCEEDED, outcome, NOW, body=body, then=[told])
        promise(Promise(succeeds.id, numbers[succeeds.id], State.SUCCEEDED))
        promise(Promise(told.id, 1000 + first + 3))
        assert await store.finish(dies.lease, State.DEAD, outcome, NOW, body=b"r" * 70_000)
        if turn % 2:
            promise(Promise(dies.id, numbers[dies.id], State.DEAD))
        else:
            await store.replay(dies.id, NOW)
            promise(Promise(dies.id, numbers[dies.id]))
        assert await store.retry(again.lease, NOW + 100, outcome, NOW)
        promise(Promise(again.id, numbers[again.id], State.WAITING))
        told = wanted(1000 + first + 5)
        assert await store.cancel(cancelled.id, NOW, then=[told]) is State.RUNNING
        promise(Promise(cancelled.id, numbers[cancelled.id], State.CANCELLED))
        promise(Promise(told.id, 1000 + first + 5))
        await store.sweep(NOW + 10, Keep())


async def check(store: Store, promises: Iterable[Promise]) -> None:
    """What was promised is there, and whatever else is there is whole."""
    last = {promise.id: promise for promise in promises}
    kept = {call.id: call for call in await store.page(limit=1000)}
    for call_id, promise in last.items():
        assert call_id in kept, f"{call_id} is lost"
        assert promise.state is None or kept[call_id].state is promise.state
    for call_id in kept:
        call = await store.get(call_id)
        assert call is not None
        number = int(dict(call.headers)["X-Number"])
        if call.state not in (State.SUCCEEDED, State.CANCELLED):
            assert b"".join([piece async for piece in store.chunks(call.body)]) == body_of(number), "a call is whole"
        if call.state is State.SUCCEEDED:
            assert b"".join([piece async for piece in store.chunks(call.result)]) == body_of(number)
            follows = f"call-{1000 + number // 8 * 8 + 3}"
            assert follows in kept, "what follows from an end is kept with it"
        if call.state is State.DEAD:
            assert b"".join([piece async for piece in store.chunks(call.result)]) == b"r" * 70_000
    depth = (await store.depths(NOW)).get(queue_of(FUNCTION))
    states = [call.state for call in kept.values()]
    counts = tuple(states.count(state) for state in (State.WAITING, State.RUNNING, State.DEAD))
    assert counts == ((depth.waiting, depth.running, depth.dead) if depth is not None else (0, 0, 0)), "counts are true"


async def _in_file(folder: Path) -> None:
    acknowledged = (folder / "promises").open("ab", buffering=0)
    store = await asyncio.to_thread(SqliteStore, folder)

    def promise(made: Promise) -> None:
        acknowledged.write(msgspec.json.encode(made) + b"\n")

    await work(store, promise)
    acknowledged.close()
    await store.close()


if __name__ == "__main__":
    asyncio.run(_in_file(Path(sys.argv[1])))
