"""What is `queue.db`'s own: the process that ends, the files beside it, a full disk."""

from __future__ import annotations

import asyncio
from pathlib import Path

from gateway.asynchronous.calls import INLINE_BYTES, Outcome, State, Submission, queue_of
from gateway.asynchronous.sqlite_store import SqliteStore
from gateway.asynchronous.store import StoreUnavailable
from orchestration.names import FunctionId

ECHO = FunctionId("openfaas-fn", "echo")
NOW = 1_000_000.0
LEASE_S = 30.0


def call_of(**settings: object) -> Submission:
    return Submission(queue=queue_of(ECHO), function=ECHO, **settings)  # type: ignore[arg-type]


def limit(_queue: str) -> int:
    return 10


async def submit(store: SqliteStore, *submissions: Submission) -> list[str]:
    return [receipt.id for receipt in await store.submit(submissions, NOW)]


async def test_what_was_acknowledged_is_there_after_a_restart_and_what_ran_is_due_at_once(tmp_path: Path) -> None:
    first = SqliteStore(tmp_path)
    ids = await submit(first, call_of(body=b"1"), call_of(body=b"2"))
    (taken,) = await first.take(limit, 1, NOW, LEASE_S)
    await first.close()
    second = SqliteStore(tmp_path)
    again = await second.take(limit, 5, NOW + 1, LEASE_S)
    assert sorted(call.id for call in again) == sorted(ids)
    assert {call.id: call.attempts for call in again}[taken.id] == 2
    assert not await second.finish(taken.lease, State.SUCCEEDED, Outcome(status=200), NOW + 1)
    await second.close()


async def test_files_that_nobody_names_are_removed_at_the_next_start(tmp_path: Path) -> None:
    first = SqliteStore(tmp_path)
    await submit(first, call_of(body=b"x" * (INLINE_BYTES + 1)))
    (first.spool / "left").write_bytes(b"by a process that was killed")
    await first.close()
    second = SqliteStore(tmp_path)
    (call,) = await second.take(limit, 1, NOW, LEASE_S)
    assert [path.name for path in second.spool.iterdir()] == [call.body.where]
    await second.close()


async def test_a_full_disk_is_said_and_nothing_is_kept(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path)
    await submit(store, call_of())
    await store._writer.run(lambda c: c.execute(f"PRAGMA max_page_count = {c.execute('PRAGMA page_count').fetchone()[0] + 2}"))
    results = await asyncio.gather(submit(store, call_of(body=b"x" * 60_000)), submit(store, call_of()), return_exceptions=True)
    assert isinstance(results[0], StoreUnavailable) and "is full: nothing was kept" in str(results[0])
    assert (await store.depths(NOW))[queue_of(ECHO)].waiting == len(await store.page())
    await store._writer.run(lambda c: c.execute("PRAGMA max_page_count = 100000"))
    await submit(store, call_of())
    assert (await store.depths(NOW))[queue_of(ECHO)].waiting == len(await store.page())
    await store.close()
