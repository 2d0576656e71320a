"""Ended calls go in the order in which they ended: those whose time is over, else as many as take too much space."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from gateway.asynchronous.calls import Outcome, State, Submission, queue_of
from gateway.asynchronous.forgetting import AT_ONCE
from gateway.asynchronous.sqlite_store import SqliteStore
from gateway.asynchronous.store import Keep
from orchestration.names import FunctionId

ECHO = FunctionId("openfaas-fn", "echo")
NOW = 1_000_000.0
OUTCOME = Outcome(status=200)


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[SqliteStore]:
    made = SqliteStore(tmp_path)
    yield made
    await made.close()


async def ended(store: SqliteStore, count: int, state: State = State.SUCCEEDED, now: float = NOW) -> list[str]:
    """Have so many calls end together, and return their ids."""
    await store.submit([Submission(queue=queue_of(ECHO), function=ECHO) for _ in range(count)], now)
    taken = await store.take(lambda _: 100_000, count, now, 30)
    await asyncio.gather(*(store.finish(call.lease, state, OUTCOME, now) for call in taken))
    return [call.id for call in taken]


def kept(store: SqliteStore) -> int:
    return sum(queue.kept for queue in store.ledger.queues.values())


async def test_many_go_in_pieces_and_nothing_is_left_of_them(store: SqliteStore) -> None:
    await ended(store, 3 * AT_ONCE)
    turns = 1
    while await store.sweep(NOW + 100, Keep(ended_s=100)):
        turns += 1
    assert 3 <= turns <= 4
    assert await store.page() == [] and kept(store) == 0
    assert await store._writer.run(lambda c: c.execute("SELECT count(*) FROM ends").fetchone()) == (0,)


async def test_those_that_ended_together_go_one_by_one_where_space_is_short(store: SqliteStore) -> None:
    ids = await ended(store, 10)
    one = kept(store) // 10
    await store.sweep(NOW, Keep(bytes=4 * one))
    assert [call.id for call in await store.page()] == ids[:-5:-1]
    await store.sweep(NOW, Keep(bytes=one))
    assert [call.id for call in await store.page()] == ids[-1:]
    assert kept(store) == one


async def test_dead_calls_are_the_last_to_go(store: SqliteStore) -> None:
    dead = await ended(store, 3, State.DEAD)
    await ended(store, 3, now=NOW + 1)
    await store.sweep(NOW + 2, Keep(bytes=kept(store) // 2))
    assert sorted(call.id for call in await store.page()) == sorted(dead)


async def test_a_call_that_died_twice_is_kept_from_its_second_death_on(store: SqliteStore) -> None:
    (call_id,) = await ended(store, 1, State.DEAD)
    await store.replay(call_id, NOW + 50)
    (call,) = await store.take(lambda _: 1, 1, NOW + 50, 30)
    await store.finish(call.lease, State.DEAD, OUTCOME, NOW + 60)
    await store.sweep(NOW + 100, Keep(dead_s=100))
    assert await store.get(call_id) is not None
    await store.sweep(NOW + 159, Keep(dead_s=100))
    assert await store.get(call_id) is not None
    await store.sweep(NOW + 160, Keep(dead_s=100))
    assert await store.get(call_id) is None and kept(store) == 0
