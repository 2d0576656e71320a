"""A cut at any moment, of process or power: what was acknowledged is there, all else is there whole or not at all."""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import msgspec
import pytest

from gateway.asynchronous.redis.store import RedisStore
from gateway.asynchronous.sqlite_store import SqliteStore
from gateway.asynchronous.store import StoreUnavailable
from tests.gateway.asynchronous.cuts import Promise, check, wanted, work
from tests.gateway.asynchronous.redis_server import RedisServer, needs_redis

HERE = Path(__file__).parent
ROOT = HERE.parents[2]
SECTOR = 512
EVERY = 1 if os.environ.get("PINNACE_CHAOS") == "full" else 5


class Write(NamedTuple):
    kind: str
    path: str
    offset: int
    data: bytes


def trace_of(data: bytes) -> Iterator[Write]:
    """Read what `traced_writes.c` wrote."""
    at = 0
    while at < len(data):
        length, offset, size = (int.from_bytes(data[at + 1 + 8 * i : at + 9 + 8 * i], "little") for i in range(3))
        start = at + 25
        yield Write(chr(data[at]), data[start : start + length].decode(), offset, data[start + length : start + length + size])
        at = start + length + size


class Disk:
    """What the files hold: `cache` is what processes see, `disk` what a loss of power certainly leaves; `unsynced` are writes
    since the last sync of their file, any part of which may be there too. A name that its folder was not synced since may be
    missing."""

    def __init__(self) -> None:
        self.cache: dict[str, bytearray] = {}
        self.disk: dict[str, bytes] = {}
        self.unsynced: dict[str, list[Write]] = {}
        self.named: set[str] = set()

    def apply(self, write: Write) -> None:
        match write.kind:
            case "w" | "t":
                _write(self.cache.setdefault(write.path, bytearray()), write)
                self.unsynced.setdefault(write.path, []).append(write)
            case "s" if write.path in self.cache:
                self.disk[write.path] = bytes(self.cache[write.path])
                self.unsynced.pop(write.path, None)
                if write.path.count("/") == 1:  # SQLite syncs the folder of a log that it has made, and this is seen as "s" too
                    self.named.add(write.path)
            case "s":
                self.named |= {path for path in self.cache if path.rpartition("/")[0] == write.path}
            case "u":
                self.cache.pop(write.path, None)
                self.disk.pop(write.path, None)
                self.unsynced.pop(write.path, None)

    def after_kill(self, folder: Path) -> None:
        for path, content in self.cache.items():
            _put(folder, path, bytes(content))

    def after_power_loss(self, folder: Path, chance: random.Random) -> None:
        """Of what was not synced some sectors are there and some are not, in any order."""
        for path in self.cache:
            if path not in self.named and chance.random() < 0.5:
                continue
            content = bytearray(self.disk.get(path, b""))
            for write in self.unsynced.get(path, []):
                if write.kind == "t":
                    if chance.random() < 0.5:
                        _write(content, write)
                    continue
                for start in range(0, len(write.data), SECTOR):
                    if chance.random() < 0.5:
                        piece = write.data[start : start + SECTOR]
                        _write(content, write._replace(offset=write.offset + start, data=piece))
            _put(folder, path, bytes(content))


def _write(content: bytearray, write: Write) -> None:
    if write.kind == "t":
        del content[write.offset :]
        return
    if len(content) < write.offset:
        content.extend(bytes(write.offset - len(content)))
    content[write.offset : write.offset + len(write.data)] = write.data


def _put(folder: Path, path: str, content: bytes) -> None:
    file = folder / path.lstrip("/")
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(content)


@pytest.fixture(scope="module")
def traced(tmp_path_factory: pytest.TempPathFactory) -> Sequence[Write]:
    """Every change of a file that a store made while it did its work, in order, with the promises among them."""
    if shutil.which("cc") is None:
        pytest.skip("no C compiler: what is written is not traced")
    made = tmp_path_factory.mktemp("traced")
    library, trace, folder = made / "traced.so", made / "trace", made / "data"
    folder.mkdir()
    subprocess.run(["cc", "-shared", "-fPIC", "-o", library, HERE / "traced_writes.c", "-ldl"], check=True)
    environment = {
        **os.environ,
        "LD_PRELOAD": str(library),
        "TRACED": str(folder),
        "TRACE": str(trace),
        "PYTHONPATH": str(ROOT),
    }
    subprocess.run([sys.executable, "-m", "tests.gateway.asynchronous.cuts", folder], check=True, env=environment, cwd=ROOT)
    writes = [write for write in trace_of(trace.read_bytes()) if not write.path.endswith("-shm")]
    kinds = {(write.kind, Path(write.path).name) for write in writes}
    assert {("s", "queue.db-wal"), ("w", "queue.db-wal"), ("s", "queue-bodies"), ("w", "promises")} <= kinds, "all is traced"
    return writes


@pytest.mark.parametrize("power", [False, True], ids=["kill", "power"])
async def test_sqlite_keeps_its_promises_at_every_cut(traced: Sequence[Write], power: bool, tmp_path: Path) -> None:
    disk, promises, chance, cuts = Disk(), [], random.Random(7), 0
    for number, write in enumerate(traced):
        if Path(write.path).name == "promises":
            promises.append(msgspec.json.decode(write.data, type=Promise))
        else:
            disk.apply(write)
        if number % EVERY:
            continue
        cuts += 1
        folder = tmp_path / str(number)
        folder.mkdir()
        if power:
            disk.after_power_loss(folder, chance)
        else:
            disk.after_kill(folder)
        store = SqliteStore(folder)
        try:
            await check(store, promises)
        finally:
            await store.close()
        shutil.rmtree(folder)
    assert cuts > 40 // EVERY and len(promises) > 30


async def test_redis_keeps_its_promises_wherever_its_log_is_cut(tmp_path: Path) -> None:
    needs_redis()
    promised: list[tuple[int, Promise]] = []
    with RedisServer(auto_aof_rewrite_percentage="0") as server:
        log = server.folder / "appendonlydir" / "appendonly.aof.1.incr.aof"
        store = RedisStore(server.settings, tmp_path / "spool")
        await work(store, lambda promise: promised.append((log.stat().st_size, promise)), rounds=2)
        await store.close()
        server.kill()
        whole = log.read_bytes()
        chance = random.Random(7)
        cuts = [*(size for size, _ in promised), *(chance.randrange(len(whole)) for _ in range(100 // EVERY)), len(whole)]
        for cut in sorted(set(cuts), reverse=True)[:: 1 if EVERY == 1 else 2]:
            log.write_bytes(whole[:cut])
            server.start()
            store = RedisStore(server.settings, tmp_path / "spool")
            await check(store, [promise for size, promise in promised if size <= cut])
            await store.close()
            server.kill()
    assert len(promised) > 20


@pytest.mark.parametrize("when", ["before", "after"])
async def test_a_connection_that_is_cut_around_any_write_leaves_calls_whole(
    when: str, tmp_path: Path, redis: RedisServer
) -> None:
    """The n-th change is not answered: it was made, or it was not; what had been answered before holds."""
    for cut in range(0, 27, 2):
        redis.command("FLUSHALL")
        store = RedisStore(redis.settings, tmp_path / "spool")
        promises: list[Promise] = []
        left, evaluate = [cut], store._server.evaluate

        async def cutting(*given: object, left: list[int] = left, evaluate: object = evaluate, **named: object) -> bytes:
            left[0] -= 1
            if left[0] == -1 and when == "before":
                raise StoreUnavailable("cut")
            reply: bytes = await evaluate(*given, **named)  # type: ignore[operator]
            if left[0] == -1:
                raise StoreUnavailable("cut")
            return reply

        store._server.evaluate = cutting  # type: ignore[method-assign]
        try:
            with contextlib.suppress(StoreUnavailable):
                await work(store, promises.append, rounds=2)
            assert left[0] < 0
            await check(store, promises)
            assert await store.submit([wanted(5)], 0), "and it goes on"
        finally:
            await store.close()
