"""One thread commits what has gathered; what fails fails alone, and schemas only move forward."""

from __future__ import annotations

import asyncio
import sqlite3
import stat
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from gateway.asynchronous.parts import MOST
from gateway.asynchronous.store import StoreUnavailable
from gateway.asynchronous.writer import Writer

SCHEMA = ("CREATE TABLE things (name TEXT PRIMARY KEY, value BLOB)",)


class Hooks:
    """Counts commits and roll-backs."""

    def __init__(self) -> None:
        self.commits = self.rollbacks = 0

    def before_commit(self, connection: sqlite3.Connection) -> None:
        self.commits += 1

    def rolled_back(self, connection: sqlite3.Connection) -> None:
        self.rollbacks += 1


@pytest.fixture
def hooks() -> Hooks:
    return Hooks()


@pytest.fixture
def writer(tmp_path: Path, hooks: Hooks) -> Iterator[Writer]:
    made = Writer(tmp_path / "x.db", SCHEMA, before_commit=hooks.before_commit, rolled_back=hooks.rolled_back)
    yield made
    made.close()


async def add(writer: Writer, name: str, *, durable: bool = True) -> None:
    await writer.run(lambda connection: connection.execute("INSERT INTO things (name) VALUES (?)", (name,)), durable=durable)


def names(connection: sqlite3.Connection) -> list[str]:
    return [name for (name,) in connection.execute("SELECT name FROM things ORDER BY name")]


async def test_what_waits_together_is_committed_together(writer: Writer, hooks: Hooks, tmp_path: Path) -> None:
    adding = [asyncio.create_task(add(writer, f"{n:03}")) for n in range(100)]
    await asyncio.sleep(0)
    writer.start()
    await asyncio.gather(*adding)
    assert hooks.commits == 1
    other = sqlite3.connect(tmp_path / "x.db")
    assert len(names(other)) == 100
    other.close()
    assert stat.S_IMODE((tmp_path / "x.db").stat().st_mode) == 0o600


async def test_a_batch_is_synced_only_where_somebody_asks_for_it(writer: Writer) -> None:
    def level(connection: sqlite3.Connection) -> int:
        (found,) = connection.execute("PRAGMA synchronous").fetchone()
        return int(found)

    writer.start()
    assert await writer.run(level) == 2
    assert await writer.run(level, durable=False) == 1
    assert await writer.run(level) == 2


async def test_a_job_that_fails_takes_nothing_of_the_others_with_it(writer: Writer, hooks: Hooks) -> None:
    def refuses(connection: sqlite3.Connection) -> None:
        raise LookupError("not wanted")

    jobs = [asyncio.create_task(add(writer, name)) for name in ("a", "a", "b")]
    await asyncio.sleep(0)
    refused = writer.run(refuses)
    writer.start()
    results = await asyncio.gather(*jobs, refused, return_exceptions=True)
    assert [type(result) for result in results] == [type(None), StoreUnavailable, type(None), LookupError]
    assert await writer.run(names) == ["a", "b"]
    assert hooks.rollbacks == 2  # of the batch, and of the job that is to blame


async def test_a_caller_that_leaves_does_not_take_back_what_is_written(writer: Writer) -> None:
    leaving = asyncio.create_task(add(writer, "a"))
    await asyncio.sleep(0)
    leaving.cancel()
    writer.start()
    await add(writer, "b")
    assert await writer.run(names) == ["a", "b"]


async def test_what_was_begun_is_finished_before_the_end_and_nothing_begins_after_it(writer: Writer) -> None:
    adding = asyncio.create_task(add(writer, "a"))
    await asyncio.sleep(0)
    writer.start()
    writer.close()
    await adding
    with pytest.raises(StoreUnavailable, match="is closed"):
        await add(writer, "b")


def test_a_file_of_a_newer_platform_or_none_at_all_is_said(tmp_path: Path, hooks: Hooks) -> None:
    def opened(name: str, migrations: tuple[str, ...]) -> Writer:
        return Writer(tmp_path / name, migrations, before_commit=hooks.before_commit, rolled_back=hooks.rolled_back)

    opened("x.db", (*SCHEMA, "CREATE TABLE more (name TEXT)")).close()
    with pytest.raises(StoreUnavailable, match="has schema 2 and this version of the platform knows 1"):
        opened("x.db", SCHEMA)
    (tmp_path / "y.db").write_bytes(b"no database" * 100)
    with pytest.raises(StoreUnavailable, match="not a database"):
        opened("y.db", SCHEMA)
    with pytest.raises(StoreUnavailable, match="cannot be opened"):
        opened("none/x.db", SCHEMA)


async def test_what_follows_from_a_job_follows_also_when_its_caller_has_left(writer: Writer) -> None:
    followed: list[list[str]] = []
    leaving = writer.run(names, then=followed.append)
    leaving.cancel()
    writer.start()
    assert await writer.run(names, then=lambda found: followed.append([*found, "told before"])) == []
    assert followed == [[], ["told before"]]


async def test_a_batch_is_answered_while_the_next_one_is_written(writer: Writer) -> None:
    go = threading.Event()
    writes = 0

    def held(connection: sqlite3.Connection) -> None:
        nonlocal writes
        writes += 1
        assert writes == 1 or go.wait(20)

    writer._before_commit = held
    first = [writer.run(names, gathers=True) for _ in range(MOST)]
    behind = [writer.run(names, gathers=True) for _ in range(MOST)]
    writer.start()
    async with asyncio.timeout(20):
        await asyncio.gather(*first)
        assert not any(future.done() for future in behind), "these are not written yet"
        go.set()
        await asyncio.gather(*behind)


async def test_an_error_that_nobody_foresaw_fails_its_batch_and_not_the_thread(writer: Writer) -> None:
    def broken(connection: sqlite3.Connection) -> None:
        if "bad" in names(connection):
            raise LookupError("not foreseen")

    writer._before_commit = broken
    adding = [asyncio.create_task(add(writer, name)) for name in ("a", "bad", "b")]
    await asyncio.sleep(0)
    writer.start()
    async with asyncio.timeout(20):
        results = await asyncio.gather(*adding, return_exceptions=True)
        assert [type(result) for result in results] == [type(None), LookupError, type(None)]
        assert await writer.run(names) == ["a", "b"]


async def test_a_full_disk_is_found_once_for_all_that_waits(writer: Writer, hooks: Hooks) -> None:
    def large(connection: sqlite3.Connection) -> None:
        connection.execute("INSERT INTO things (name, value) VALUES (?, zeroblob(100000))", (str(connection.total_changes),))

    def bounded(connection: sqlite3.Connection) -> None:
        (pages,) = connection.execute("PRAGMA page_count").fetchone()
        connection.execute(f"PRAGMA max_page_count = {pages}")

    writer.start()
    await writer.run(bounded)
    async with asyncio.timeout(20):
        waiting = [writer.run(large) for _ in range(100)]
        results = await asyncio.gather(*waiting, return_exceptions=True)
    assert all(isinstance(result, StoreUnavailable) and "is full" in str(result) for result in results)
    assert hooks.rollbacks <= 6  # two a batch
    await writer.run(lambda connection: connection.execute("PRAGMA max_page_count = 100000"))
    assert await writer.run(names) == []
    await writer.run(large)


async def test_somebody_who_keeps_the_file_locked_is_waited_for_once_by_all(
    writer: Writer, hooks: Hooks, tmp_path: Path
) -> None:
    await asyncio.to_thread(writer.now, lambda connection: connection.execute("PRAGMA busy_timeout = 20"))
    other = sqlite3.connect(tmp_path / "x.db", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    adding = [asyncio.create_task(add(writer, f"{n:03}")) for n in range(100)]
    await asyncio.sleep(0)
    writer.start()
    async with asyncio.timeout(20):
        results = await asyncio.gather(*adding, return_exceptions=True)
    assert all(isinstance(result, StoreUnavailable) and "locked" in str(result) for result in results)
    assert hooks.rollbacks == 2
    other.close()
    await add(writer, "a")


async def test_a_job_that_fails_after_it_has_written_leaves_nothing(writer: Writer) -> None:
    def halfway(connection: sqlite3.Connection) -> None:
        connection.execute("INSERT INTO things (name) VALUES ('half')")
        raise LookupError("not foreseen")

    jobs = [
        asyncio.create_task(add(writer, "a")),
        asyncio.ensure_future(writer.run(halfway)),
        asyncio.create_task(add(writer, "b")),
    ]
    await asyncio.sleep(0)
    writer.start()
    results = await asyncio.gather(*jobs, return_exceptions=True)
    assert [type(result) for result in results] == [type(None), LookupError, type(None)]
    assert await writer.run(names) == ["a", "b"]
