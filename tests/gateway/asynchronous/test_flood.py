"""Many callers and workers at once: what was acknowledged is kept, also while the disk fails now and then, and after a kill."""

from __future__ import annotations

import asyncio
import contextlib
import random
import sqlite3
import subprocess
import sys
from pathlib import Path
from typing import Final

import pytest

from gateway.asynchronous.calls import Call, Outcome, State, Submission, queue_of
from gateway.asynchronous.gathered import FULL
from gateway.asynchronous.sqlite_store import SqliteStore
from gateway.asynchronous.store import Keep, StoreUnavailable
from orchestration.names import FunctionId

ECHO: Final = FunctionId("openfaas-fn", "echo")
NOW: Final = 1_000_000.0
CALLERS: Final = 256
ROOT: Final = Path(__file__).parents[3]


def call_of(**settings: object) -> Submission:
    return Submission(queue=queue_of(ECHO), function=ECHO, **settings)  # type: ignore[arg-type]


async def test_more_than_fits_into_a_statement_is_committed_together_whoever_asks_for_a_sync(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path)
    await store.submit([call_of()], NOW)
    assert await store.take(lambda _: 1, 1, NOW, 30)  # its commit was not synced
    undone: list[Exception] = []
    store._writer._undo = lambda batch, error: undone.append(error)  # type: ignore[method-assign]
    many = [call_of() for _ in range(FULL // CALLERS + 1)]
    await asyncio.gather(*(store.submit(many, NOW) for _ in range(CALLERS)))
    assert not undone
    level = await store._writer.run(lambda c: int(c.execute("PRAGMA synchronous").fetchone()[0]))
    assert level == 2 and (await store.depths(NOW))[queue_of(ECHO)].waiting == len(many) * CALLERS
    await store.close()


class Flood:
    """Callers and workers at a store whose disk fails now and then; `acknowledged` has each call's state as it was promised."""

    def __init__(self, store: SqliteStore, chance: random.Random) -> None:
        self.store, self.chance = store, chance
        self.acknowledged: dict[str, State] = {}
        self.keys: dict[str, str] = {}
        self.failed = 0
        self.write = store._writer._before_commit
        store._writer._before_commit = self._write_or_fail

    def _write_or_fail(self, connection: sqlite3.Connection) -> None:
        if not self.failed or self.chance.random() < 0.1:
            self.failed += 1
            raise sqlite3.OperationalError("disk I/O error")
        self.write(connection)

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
    await asyncio.gather(*(flood.call(12) for _ in range(CALLERS)), *(flood.work(20) for _ in range(3)))
    assert flood.failed
    store._writer._before_commit = flood.write
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

    await asyncio.gather(*(caller() for _ in range(CALLERS)))


async def test_what_was_acknowledged_of_a_flood_is_kept_when_its_process_is_killed(tmp_path: Path) -> None:
    for lines in (1000, 3000):
        command = [sys.executable, "-m", "tests.gateway.asynchronous.test_flood", str(tmp_path)]
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
