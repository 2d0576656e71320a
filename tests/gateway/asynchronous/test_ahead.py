"""Jobs that are done while the commit before them is under way are kept with it, or undone with it and done anew."""

from __future__ import annotations

import asyncio
import contextlib
import random
import sqlite3
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any, Final

import pytest

from gateway.asynchronous.calls import Call, Outcome, Receipt, State, Submission, queue_of
from gateway.asynchronous.gathered import FULL
from gateway.asynchronous.sqlite_store import SqliteStore
from gateway.asynchronous.store import Bounds, Keep, QueueFull, StoreUnavailable
from gateway.asynchronous.writer import APART
from orchestration.names import FunctionId

ECHO: Final = FunctionId("openfaas-fn", "echo")
NOW: Final = 1_000_000.0
ROOT: Final = Path(__file__).parents[3]


def call_of(**settings: object) -> Submission:
    return Submission(queue=queue_of(ECHO), function=ECHO, **settings)  # type: ignore[arg-type]


class Held:
    """A store whose commits of large batches wait for `go`, and fail as often as `fails` says."""

    def __init__(self, folder: Path) -> None:
        self.store = SqliteStore(folder)
        self.begun, self.go = threading.Event(), threading.Event()
        self.fails = 0
        self.commits = 0
        self._commit = self.store._writer._commit
        self.store._writer._commit = self.commit  # type: ignore[method-assign]

    def commit(self, write: Callable[[sqlite3.Connection], None], durable: bool) -> tuple[float, float]:
        self.begun.set()
        assert self.go.wait(20)
        self.commits += 1
        if self.commits <= self.fails:
            raise sqlite3.OperationalError("disk I/O error")
        return self._commit(write, durable)

    async def under_way(self, *changes: Any) -> list[asyncio.Future[Any]]:
        """Begin changes, enough for a commit of their own, and wait until that is under way."""
        tasks = [asyncio.ensure_future(change) for change in changes]
        assert await asyncio.to_thread(self.begun.wait, 20)
        return tasks

    async def decided(self, *changes: Any, waiting: int) -> list[asyncio.Future[Any]]:
        """Begin changes, and wait until their jobs are done behind the commit."""
        tasks = [asyncio.ensure_future(change) for change in changes]
        async with asyncio.timeout(20):
            while (await self.store.depths(NOW))[queue_of(ECHO)].waiting != waiting:  # noqa: ASYNC110  # nobody tells
                await asyncio.sleep(0.001)
        return tasks


@pytest.fixture
async def held(tmp_path: Path) -> AsyncIterator[Held]:
    made = Held(tmp_path)
    yield made
    made.go.set()
    await made.store.close()


def submissions(store: SqliteStore, count: int = APART, **settings: object) -> list[Any]:
    return [store.submit([call_of(**settings)], NOW) for _ in range(count)]


async def kept(store: SqliteStore) -> set[str]:
    return {call.id for call in await store.page(limit=10_000)}


@pytest.mark.parametrize("fails", [0, 1, 2])
async def test_both_batches_are_kept_whichever_commit_fails_at_first(held: Held, fails: int) -> None:
    held.fails = fails
    first = await held.under_way(*submissions(held.store))
    second = await held.decided(*submissions(held.store), waiting=2 * APART)
    assert not any(task.done() for task in first + second), "nothing is answered before it is kept"
    held.go.set()
    receipts: list[Receipt] = [receipt for (receipt,) in await asyncio.gather(*first, *second)]
    assert {receipt.id for receipt in receipts} == await kept(held.store)
    assert len({receipt.id for receipt in receipts}) == 2 * APART
    assert (await held.store.depths(NOW))[queue_of(ECHO)].waiting == 2 * APART


async def test_a_disk_that_stays_broken_fails_both_and_keeps_nothing(held: Held, monkeypatch: pytest.MonkeyPatch) -> None:
    held.fails = 10**9

    def broken(connection: sqlite3.Connection) -> None:
        raise sqlite3.OperationalError("disk I/O error")

    first = await held.under_way(*submissions(held.store))
    second = await held.decided(*submissions(held.store), waiting=2 * APART)
    with monkeypatch.context() as patch:
        patch.setattr(held.store._writer, "_before_commit", broken)
        held.go.set()
        results = await asyncio.gather(*first, *second, return_exceptions=True)
    assert {type(result) for result in results} == {StoreUnavailable}
    assert await kept(held.store) == set() and await held.store.depths(NOW) == {}
    assert len(await held.store.submit([call_of()], NOW)) == 1


@pytest.mark.parametrize("fails", [0, 1])
async def test_a_key_of_the_commit_that_is_under_way_is_known_behind_it(held: Held, fails: int) -> None:
    held.fails = fails
    first = await held.under_way(*submissions(held.store, APART - 1), held.store.submit([call_of(idempotency_key="k")], NOW))
    second = [asyncio.ensure_future(change) for change in submissions(held.store, APART, idempotency_key="k")]
    await asyncio.sleep(0.05)  # their look for the key waits for the commit; done before it or not, it is found
    held.go.set()
    receipts = [receipt for (receipt,) in await asyncio.gather(*first, *second)]
    assert {receipt.id for receipt in receipts[APART:]} == {receipts[APART - 1].id}
    assert len(await kept(held.store)) == APART


async def test_a_bound_holds_for_what_is_under_way_too(held: Held) -> None:
    def bounds(queue: str) -> Bounds:
        return Bounds(calls=APART + 1)

    first = await held.under_way(*submissions(held.store))
    changes = [held.store.submit([call_of()], NOW, bounds) for _ in range(APART)]
    second = await held.decided(*changes, waiting=APART + 1)
    held.go.set()
    results = await asyncio.gather(*first, *second, return_exceptions=True)
    assert sum(isinstance(result, QueueFull) for result in results) == APART - 1
    assert len(await kept(held.store)) == APART + 1


async def test_ends_behind_a_commit_that_fails_are_ends_all_the_same(held: Held) -> None:
    held.go.set()
    await held.store.submit([call_of() for _ in range(APART)], NOW)
    taken = await held.store.take(lambda _: 1000, APART, NOW, 30)
    held.go.clear()
    held.begun.clear()
    held.fails = held.commits + 1
    first = await held.under_way(*submissions(held.store))
    ends = [held.store.finish(call.lease, State.DEAD, Outcome(status=400), NOW) for call in taken]
    second = [asyncio.ensure_future(end) for end in ends]
    async with asyncio.timeout(20):
        while (await held.store.depths(NOW))[queue_of(ECHO)].dead != APART:  # noqa: ASYNC110  # nobody tells
            await asyncio.sleep(0.001)
    held.go.set()
    await asyncio.gather(*first)
    assert await asyncio.gather(*second) == [True] * APART
    depth = (await held.store.depths(NOW))[queue_of(ECHO)]
    assert (depth.waiting, depth.running, depth.dead) == (APART, 0, APART)
    states = [call.state.value for call in await held.store.page(limit=1000)]
    assert sorted(states) == ["dead"] * APART + ["waiting"] * APART


async def test_what_reads_rows_waits_for_the_commit_and_sees_it(held: Held) -> None:
    first = await held.under_way(*submissions(held.store, APART - 1), held.store.submit([call_of(id="mine")], NOW))
    cancelling = asyncio.create_task(held.store.cancel("mine", NOW))
    await asyncio.sleep(0.02)
    assert not cancelling.done()
    held.go.set()
    assert await cancelling is State.WAITING
    await asyncio.gather(*first)


async def test_more_than_fits_into_a_statement_is_committed_together_whoever_asks_for_a_sync(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path)
    await store.submit([call_of()], NOW)
    assert await store.take(lambda _: 1, 1, NOW, 30)  # its commit was not synced
    undone: list[Exception] = []
    store._writer._undo = lambda batch, error: undone.append(error)  # type: ignore[method-assign]
    many = [call_of() for _ in range(FULL // APART + 1)]
    await asyncio.gather(*(store.submit(many, NOW) for _ in range(APART)))
    assert not undone
    level = await store._writer.run(lambda c: int(c.execute("PRAGMA synchronous").fetchone()[0]))
    assert level == 2 and (await store.depths(NOW))[queue_of(ECHO)].waiting == len(many) * APART
    await store.close()


async def test_where_no_thread_can_be_had_calls_are_kept_all_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    start = threading.Thread.start

    def started(thread: threading.Thread) -> None:
        if thread.name.startswith("commits of"):
            raise RuntimeError("can't start new thread")
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", started)
    store = SqliteStore(tmp_path)
    async with asyncio.timeout(20):
        receipts = [receipt for (receipt,) in await asyncio.gather(*submissions(store))]
    monkeypatch.undo()
    assert {receipt.id for receipt in receipts} == await kept(store)
    await store.close()


class Flood:
    """Callers and workers at a store whose disk fails now and then; `acknowledged` has each call's state as it was promised."""

    def __init__(self, store: SqliteStore, chance: random.Random) -> None:
        self.store, self.chance = store, chance
        self.acknowledged: dict[str, State] = {}
        self.keys: dict[str, str] = {}
        self.failed = 0
        writer = store._writer
        self._commit, self._before_commit = writer._commit, writer._before_commit
        writer._commit, writer._before_commit = self.commit, self.before_commit  # type: ignore[method-assign]

    def commit(self, write: Callable[[sqlite3.Connection], None], durable: bool) -> tuple[float, float]:
        self._fail(0.2)
        return self._commit(write, durable)

    def before_commit(self, connection: sqlite3.Connection) -> None:
        self._fail(0.05)
        self._before_commit(connection)

    def _fail(self, often: float) -> None:
        if not self.failed or self.chance.random() < often:
            self.failed += 1
            raise sqlite3.OperationalError("disk I/O error")

    async def call(self, times: int) -> None:
        for _ in range(times):
            key = f"k{self.chance.randrange(100)}" if self.chance.random() < 0.2 else ""
            call_id = f"c{self.chance.randrange(10**9)}" if self.chance.random() < 0.2 else ""
            with contextlib.suppress(StoreUnavailable):
                (receipt,) = await self.store.submit([call_of(idempotency_key=key, id=call_id)], NOW)
                if receipt.repeated:
                    assert self.keys[key] == receipt.id
                else:
                    assert receipt.id not in self.acknowledged and key not in self.keys
                    self.acknowledged[receipt.id] = State.WAITING
                    self.keys |= {key: receipt.id} if key else {}

    async def work(self, times: int) -> None:
        for _ in range(times):
            with contextlib.suppress(StoreUnavailable):
                taken = await self.store.take(lambda _: 10**6, self.chance.randrange(1, 150), NOW, 30)
                await asyncio.gather(*(self._end(call) for call in taken))
            await asyncio.sleep(0)

    async def _end(self, call: Call) -> None:
        state = self.chance.choice([State.SUCCEEDED, State.DEAD, State.WAITING])
        with contextlib.suppress(StoreUnavailable):
            if state is State.WAITING:
                assert await self.store.retry(call.lease, NOW, Outcome(status=503), NOW)
            else:
                assert await self.store.finish(call.lease, state, Outcome(status=200), NOW)
                self.acknowledged[call.id] = state


@pytest.mark.parametrize("seed", range(2))
async def test_a_flood_keeps_its_promises_while_the_disk_fails_now_and_then(tmp_path: Path, seed: int) -> None:
    store = SqliteStore(tmp_path)
    flood = Flood(store, random.Random(seed))
    await asyncio.gather(*(flood.call(12) for _ in range(4 * APART)), *(flood.work(20) for _ in range(3)))
    assert flood.failed
    store._writer._commit, store._writer._before_commit = flood._commit, flood._before_commit  # type: ignore[method-assign]
    await store.sweep(NOW + 60, Keep())  # what could not be kept of a call lets it wait again
    found = {call.id: call.state for call in await store.page(limit=100_000)}
    assert set(found) == set(flood.acknowledged)
    ended = {call_id: state for call_id, state in flood.acknowledged.items() if state.ended}
    assert {call_id: found[call_id] for call_id in ended} == ended
    states = list(found.values())
    depth = (await store.depths(NOW + 60))[queue_of(ECHO)]
    assert (depth.waiting, depth.running, depth.dead) == (states.count(State.WAITING), 0, states.count(State.DEAD))
    assert len(await store.take(lambda _: 10**6, 10**6, NOW + 60, 30)) == depth.waiting
    await store.close()


async def _submit_for_ever(folder: Path) -> None:
    store = await asyncio.to_thread(SqliteStore, folder)

    async def caller() -> None:
        while True:
            (receipt,) = await store.submit([call_of()], NOW)
            sys.stdout.write(f"{receipt.id}\n")
            sys.stdout.flush()

    await asyncio.gather(*(caller() for _ in range(4 * APART)))


async def test_what_was_acknowledged_of_a_flood_is_kept_when_its_process_is_killed(tmp_path: Path) -> None:
    for lines in (1000, 3000):
        command = [sys.executable, "-m", "tests.gateway.asynchronous.test_ahead", str(tmp_path)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, cwd=ROOT, text=True) as process:  # noqa: ASYNC220
            assert process.stdout is not None
            told = [process.stdout.readline().strip() for _ in range(lines)]
            process.kill()
            told += [line.strip() for line in process.stdout if line.endswith("\n")]
        store = SqliteStore(tmp_path)
        found: set[str] = set()
        before = ""
        while page := await store.page(limit=5000, before=before):
            found |= {call.id for call in page}
            before = page[-1].id
        assert not set(told) - found, "acknowledged calls are lost"
        assert (await store.depths(NOW))[queue_of(ECHO)].waiting == len(found)
        await store.close()


if __name__ == "__main__":
    with contextlib.suppress(BrokenPipeError):
        asyncio.run(_submit_for_ever(Path(sys.argv[1])))
