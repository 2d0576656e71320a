"""A batch of changes is one statement, however many they are; what does not fit into one is kept with it or not at all."""

from __future__ import annotations

import asyncio
import sqlite3
from pathlib import Path
from typing import Any

import pytest

from gateway.asynchronous.calls import INLINE_BYTES, Outcome, State, queue_of
from gateway.asynchronous.gathered import FULL
from gateway.asynchronous.sqlite_store import SqliteStore
from gateway.asynchronous.store import StoreUnavailable
from tests.gateway.asynchronous.test_store import ECHO, LEASE_S, NOW, call_of


def limit(_queue: str) -> int:
    return 100_000


class Told:
    """A connection that tells what it was asked to execute."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        self.statements: list[str] = []

    def execute(self, statement: str, *parameters: Any) -> sqlite3.Cursor:
        self.statements.append(statement)
        return self._connection.execute(statement, *parameters)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._connection, name)


async def test_submissions_ends_and_retries_that_come_together_are_one_statement(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path)
    await store.submit([call_of() for _ in range(30)], NOW)
    taken = await store.take(limit, 30, NOW, LEASE_S)
    told = Told(store._writer._connection)
    store._writer._connection = told  # type: ignore[assignment]
    await asyncio.gather(
        *(store.submit([call_of(idempotency_key=f"k{n % 3}" if n % 2 else "")], NOW) for n in range(100)),
        *(store.finish(call.lease, State.SUCCEEDED, Outcome(status=200), NOW) for call in taken[:10]),
        *(store.finish(call.lease, State.DEAD, Outcome(status=500), NOW) for call in taken[10:15]),
        *(store.retry(call.lease, NOW + 1, Outcome(status=503), NOW) for call in taken[15:20]),
        store.release([call.lease for call in taken[20:]], NOW),
    )
    synced, looked, written = told.statements
    assert synced == "PRAGMA synchronous = FULL"
    assert "SELECT queue, key, id" in looked and written.startswith("INSERT INTO batch ")
    states = [call.state.value for call in await store.page(limit=200)]
    assert [states.count(state) for state in ("waiting", "succeeded", "dead", "running")] == [15 + 50 + 3, 10, 5, 0]
    await store.close()


async def test_more_than_fits_into_a_statement_is_kept_all_the_same(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path)
    count = 2 * FULL + 10
    receipts = await store.submit([call_of() for _ in range(count)], NOW)
    assert len({receipt.id for receipt in receipts}) == count
    taken = await store.take(limit, count, NOW, LEASE_S)
    assert [call.id for call in taken] == [receipt.id for receipt in receipts]
    await store.release([call.lease for call in taken], NOW)
    assert (await store.depths(NOW))[queue_of(ECHO)].waiting == count
    await store.close()
    again = SqliteStore(tmp_path)
    assert (await again.depths(NOW))[queue_of(ECHO)].waiting == count
    await again.close()


async def test_what_was_written_before_the_batch_failed_is_not_kept(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path)

    def breaks(connection: sqlite3.Connection) -> None:
        raise sqlite3.OperationalError("disk I/O error")

    too_many = [call_of() for _ in range(FULL + 10)]
    write = store._writer._before_commit
    store._writer._before_commit = breaks
    with pytest.raises(StoreUnavailable, match="disk I/O error"):
        await store.submit(too_many, NOW)
    store._writer._before_commit = write
    assert await store.page() == [] and await store.depths(NOW) == {}
    assert len(await store.submit([call_of()], NOW)) == 1
    assert (await store.depths(NOW))[queue_of(ECHO)].waiting == len(await store.page()) == 1
    await store.close()


@pytest.mark.parametrize("size", [0, 1, INLINE_BYTES, INLINE_BYTES + 1])
async def test_bodies_and_results_of_any_size_go_together(tmp_path: Path, size: int) -> None:
    store = SqliteStore(tmp_path)
    bodies = [b"", b"1", b"x" * size, b"\x00\xff"]
    await asyncio.gather(*(store.submit([call_of(body=body)], NOW) for body in bodies))
    taken = await store.take(limit, 10, NOW, LEASE_S)
    outcome = Outcome(status=200)
    await asyncio.gather(*(store.finish(c.lease, State.DEAD, outcome, NOW, body=b"r" * c.body.size) for c in taken))
    found = []
    for call in taken:
        kept = await store.get(call.id)
        assert kept is not None and kept.result.size == kept.body.size
        result = b"".join([piece async for piece in store.chunks(kept.result)])
        assert result == b"r" * kept.body.size
        found.append(b"".join([piece async for piece in store.chunks(kept.body)]))
    assert sorted(found) == sorted(bodies)
    await store.close()
