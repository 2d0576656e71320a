"""What is `queue.db`'s own: the process that ends, the files beside it, a full disk."""

from __future__ import annotations

import asyncio
import shutil
import sqlite3
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

import pytest

from gateway.asynchronous.calls import INLINE_BYTES, Outcome, State, queue_of
from gateway.asynchronous.sqlite_store import SqliteStore
from gateway.asynchronous.store import Bounds, Keep, StoreUnavailable
from tests.gateway.asynchronous.test_store import ECHO, LEASE_S, NOW, call_of, limit, submit
from tests.gateway.edge.lab import eventually


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


async def test_what_runs_is_still_known_after_a_batch_was_rolled_back(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path)
    await submit(store, call_of(body=b"x" * (INLINE_BYTES + 1)), call_of())
    long, short = await store.take(limit, 2, NOW, LEASE_S)
    assert await store.finish(short.lease, State.DEAD, Outcome(status=400), NOW)

    def fails(connection: sqlite3.Connection) -> None:
        connection.execute("SELECT * FROM nothing")

    with pytest.raises(StoreUnavailable):
        await store._writer.run(fails)
    assert not await store.finish(short.lease, State.SUCCEEDED, Outcome(status=200), NOW)
    assert await store.finish(long.lease, State.SUCCEEDED, Outcome(status=200), NOW)
    await store.close()
    assert not list(store.spool.iterdir())


async def test_a_call_whose_taker_left_is_given_to_another_once_its_lease_is_over(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path)
    await submit(store, call_of())
    leaving = asyncio.create_task(store.take(limit, 1, NOW, LEASE_S))
    await asyncio.sleep(0)
    leaving.cancel()
    await asyncio.wait([leaving])
    assert await store.take(limit, 1, NOW, LEASE_S) == []
    await eventually(lambda: store.ledger.leases)  # nobody waits for that take
    await store.sweep(NOW + LEASE_S + 1, Keep())
    (call,) = await store.take(limit, 1, NOW + LEASE_S + 1, LEASE_S)
    assert call.takes == 2
    await store.close()


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


async def left(change: Coroutine[Any, Any, object]) -> None:
    """Begin a change, and leave before it is made."""
    waiting = asyncio.create_task(change)
    await asyncio.sleep(0)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting


async def test_a_cancellation_whose_client_leaves_ends_the_lease_all_the_same(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path)
    (call_id,) = await submit(store, call_of())
    (call,) = await store.take(limit, 1, NOW, LEASE_S)
    ended = asyncio.create_task(store.ended(call_id, 60.0))
    await left(store.cancel(call_id, NOW))
    async with asyncio.timeout(20):
        told = await ended
    assert told is not None and told.state is State.CANCELLED
    assert not await store.extend(call.lease, NOW, LEASE_S)
    await store.close()


async def test_an_end_is_told_and_the_requests_file_removed_though_the_worker_has_left(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path)
    (call_id,) = await submit(store, call_of(body=b"x" * (INLINE_BYTES + 1)))
    (call,) = await store.take(limit, 1, NOW, LEASE_S)
    ended = asyncio.create_task(store.ended(call_id, 60.0))
    await asyncio.sleep(0)
    await left(store.finish(call.lease, State.SUCCEEDED, Outcome(status=200), NOW))
    async with asyncio.timeout(20):
        told = await ended
    assert told is not None and told.state is State.SUCCEEDED
    await store.close()
    assert list(store.spool.iterdir()) == []


async def test_a_body_that_was_not_kept_is_removed_though_its_client_has_left(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path)
    await left(store.submit([call_of(body=b"x" * (INLINE_BYTES + 1))], NOW, lambda queue: Bounds(calls=0)))
    await store.close()
    assert list(store.spool.iterdir()) == []


async def test_an_end_that_cannot_be_kept_leaves_no_files(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path)
    await submit(store, call_of())
    (call,) = await store.take(limit, 1, NOW, LEASE_S)
    body = store.spool / "answer"
    body.write_bytes(b"x" * (INLINE_BYTES + 1))
    gone = call_of(body=store.spool / "none")
    with pytest.raises(StoreUnavailable, match="No such file"):
        await store.finish(call.lease, State.SUCCEEDED, Outcome(status=200), NOW, body=body, then=[gone])
    assert list(store.spool.iterdir()) == []
    assert await store.retry(call.lease, NOW, Outcome(), NOW)
    await store.close()


async def test_a_disk_that_gives_errors_even_while_rolling_back_stops_nobody_for_good(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = SqliteStore(tmp_path)
    await submit(store, call_of())

    def broken(_connection: object) -> None:
        raise sqlite3.OperationalError("disk I/O error")

    with monkeypatch.context() as patch:
        patch.setattr(store._writer, "_rolled_back", broken)
        async with asyncio.timeout(20):
            failed = await asyncio.gather(store._writer.run(broken), submit(store, call_of()), return_exceptions=True)
            with pytest.raises(StoreUnavailable, match="disk I/O error"):
                await submit(store, call_of())
    assert all(isinstance(one, StoreUnavailable) for one in failed)
    await submit(store, call_of())
    assert (await store.depths(NOW))[queue_of(ECHO)].waiting == len(await store.page()) == 2
    await store.close()


async def test_what_was_taken_is_written_down_until_the_last_of_it_has_settled(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path)
    ids = await submit(store, *(call_of() for _ in range(4)))
    ends, waits, stays, cancelled = await store.take(limit, 4, NOW, LEASE_S)

    async def records() -> int:
        return await store._writer.run(lambda c: int(c.execute("SELECT count(*) FROM takes").fetchone()[0]))

    assert await store.finish(ends.lease, State.SUCCEEDED, Outcome(status=200), NOW)
    assert await store.retry(waits.lease, NOW + 5, Outcome(status=503), NOW)
    assert await store.cancel(cancelled.id, NOW) is State.RUNNING
    assert await records() == 1
    crashed = tmp_path / "crashed"
    shutil.copytree(tmp_path, crashed)  # what a process that dies now would leave
    other = SqliteStore(crashed)
    kept = {call.id: (call.state, call.attempts, call.takes) for call in await other.page()}
    assert [kept[call_id] for call_id in ids] == [
        (State.SUCCEEDED, 1, 1),
        (State.WAITING, 1, 1),
        (State.WAITING, 1, 1),
        (State.CANCELLED, 1, 1),
    ]
    assert [call.id for call in await other.take(limit, 4, NOW, LEASE_S)] == [stays.id]
    await other.close()
    await store.release([stays.lease], NOW)
    assert await records() == 0
    await store.close()


async def test_a_batch_that_fails_in_the_middle_is_done_call_by_call(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path)
    await submit(store, call_of(), call_of())
    ends, waits = await store.take(limit, 2, NOW, LEASE_S)

    def fails(connection: sqlite3.Connection) -> None:
        connection.execute("SELECT * FROM nothing")

    results = await asyncio.gather(
        submit(store, call_of(idempotency_key="k"), call_of(id="mine")),
        store.finish(ends.lease, State.DEAD, Outcome(status=400), NOW),
        store._writer.run(fails),
        store.retry(waits.lease, NOW + 5, Outcome(status=503), NOW),
        submit(store, call_of(idempotency_key="k"), call_of(id="mine")),
        return_exceptions=True,
    )
    first, ended, failed, retried, second = results
    assert isinstance(failed, StoreUnavailable) and ended is True and retried is True
    assert isinstance(first, list) and isinstance(second, list)
    assert first[0] == second[0] and first[1] == "mine" != second[1]
    depth = (await store.depths(NOW))[queue_of(ECHO)]
    assert (depth.waiting, depth.running, depth.dead) == (4, 0, 1)
    assert sorted(call.state.value for call in await store.page()) == ["dead", *["waiting"] * 4]
    await store.close()


def test_an_old_sqlite_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sqlite3, "sqlite_version_info", (3, 31, 1))
    with pytest.raises(StoreUnavailable, match=r"queue\.db needs SQLite 3\.33 or newer, and this Python has"):
        SqliteStore(tmp_path)
    assert not list(tmp_path.iterdir())


async def test_what_is_no_text_is_refused_by_itself(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path)
    results = await asyncio.gather(
        submit(store, call_of(idempotency_key="\ud800")),
        submit(store, call_of(id="\ud800")),
        submit(store, call_of(headers=(("X-A", "\ud800"),))),
        submit(store, call_of()),
        return_exceptions=True,
    )
    assert [type(result) for result in results] == [UnicodeEncodeError] * 3 + [list]
    assert (await store.depths(NOW))[queue_of(ECHO)].waiting == len(await store.page()) == 1
    await store.close()
