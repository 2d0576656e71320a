"""What is committed is read at once, nothing is written, and a file that cannot be read is said."""

from __future__ import annotations

import asyncio
import sqlite3
from pathlib import Path

import pytest

from gateway.asynchronous.reader import READERS, Reader
from gateway.asynchronous.store import StoreUnavailable


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "queue.db"
    with sqlite3.connect(path) as connection:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("CREATE TABLE calls (id TEXT)")
    connection.close()
    return path


def ids(connection: sqlite3.Connection) -> list[str]:
    return [call_id for (call_id,) in connection.execute("SELECT id FROM calls")]


async def test_what_is_committed_is_read_and_what_is_being_written_is_not_waited_for(path: Path) -> None:
    reader = Reader(path)
    writer = sqlite3.connect(path, isolation_level=None)
    writer.execute("INSERT INTO calls VALUES ('1')")
    writer.execute("BEGIN IMMEDIATE")
    writer.execute("INSERT INTO calls VALUES ('2')")
    async with asyncio.timeout(5):
        assert await asyncio.gather(*(reader.run(ids) for _ in range(3 * READERS))) == [["1"]] * 3 * READERS
        writer.execute("COMMIT")
        assert await reader.run(ids) == ["1", "2"]
    writer.close()
    reader.close()


async def test_nothing_is_written(path: Path) -> None:
    reader = Reader(path)
    with pytest.raises(StoreUnavailable, match="readonly"):
        await reader.run(lambda connection: connection.execute("DELETE FROM calls"))
    reader.close()


async def test_a_file_that_is_no_database_and_a_reader_that_is_closed_are_said(tmp_path: Path) -> None:
    path = tmp_path / "queue.db"
    path.write_bytes(b"none" * 1000)
    reader = Reader(path)
    with pytest.raises(StoreUnavailable, match=r"queue\.db: file is not a database"):
        await reader.run(ids)
    reader.close()
    with pytest.raises(StoreUnavailable, match="shutdown"):
        await reader.run(ids)
