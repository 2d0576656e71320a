"""One writer, group commit, clear failures, and schemas that only move forward."""

from __future__ import annotations

import asyncio
import sqlite3
import stat
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from orchestration.local.database import Database
from orchestration.local.failures import Conflict, NewerSchema, StorageError, StorageFull
from orchestration.local.store import MIGRATIONS, Store

SCHEMA = ("CREATE TABLE things (name TEXT PRIMARY KEY, value BLOB)",)


@pytest.fixture
async def database(place: Path) -> AsyncIterator[Database]:
    made = Database(place / "x.db", SCHEMA)
    yield made
    made.close()


def names(connection: sqlite3.Connection) -> list[str]:
    return [name for (name,) in connection.execute("SELECT name FROM things ORDER BY name")]


async def add(database: Database, name: str, value: bytes = b"") -> None:
    await database.run(lambda connection: connection.execute("INSERT INTO things VALUES (?, ?)", (name, value)))


async def test_what_was_acknowledged_is_in_the_file(database: Database, place: Path) -> None:
    await asyncio.gather(*(add(database, f"{n:03}") for n in range(100)))
    other = sqlite3.connect(place / "x.db")
    assert names(other) == [f"{n:03}" for n in range(100)]
    other.close()
    assert stat.S_IMODE((place / "x.db").stat().st_mode) == 0o600


async def test_a_job_that_fails_takes_nothing_of_the_others_with_it(database: Database) -> None:
    jobs = [add(database, name) for name in ("a", "a", "b")]
    results = await asyncio.gather(*jobs, return_exceptions=True)
    assert [type(result) for result in results] == [type(None), Conflict, type(None)]
    assert await database.run(names) == ["a", "b"]


async def test_a_full_disk_loses_nothing_and_reads_go_on(database: Database) -> None:
    await add(database, "before")
    await database.run(lambda c: c.execute(f"PRAGMA max_page_count = {c.execute('PRAGMA page_count').fetchone()[0] + 2}"))
    results = await asyncio.gather(add(database, "big", b"x" * 100_000), add(database, "other"), return_exceptions=True)
    assert isinstance(results[0], StorageFull)
    assert "is full and nothing was written" in str(results[0])
    assert "big" not in await database.run(names)
    assert "before" in await database.run(names)
    await database.run(lambda c: c.execute("PRAGMA max_page_count = 100000"))
    await add(database, "after")
    assert "after" in await database.run(names)


async def test_closed_means_closed(database: Database) -> None:
    database.close()
    with pytest.raises(StorageError, match="is closed"):
        await database.run(names)


def test_a_newer_schema_is_refused(place: Path) -> None:
    Database(place / "x.db", (*SCHEMA, "CREATE TABLE more (a)")).close()
    with pytest.raises(NewerSchema, match=r"x\.db has schema 2 and this version of the platform knows 1"):
        Database(place / "x.db", SCHEMA)


async def test_an_older_schema_is_brought_forward_with_its_rows(place: Path) -> None:
    old = Database(place / "x.db", SCHEMA)
    await add(old, "kept", b"1")
    old.close()
    new = Database(place / "x.db", (*SCHEMA, "ALTER TABLE things ADD COLUMN size INTEGER NOT NULL DEFAULT 7"))
    assert await new.run(lambda c: c.execute("SELECT name, size FROM things").fetchall()) == [("kept", 7)]
    new.close()


def test_a_migration_that_fails_leaves_the_file_as_it_was(place: Path) -> None:
    Database(place / "x.db", SCHEMA).close()
    with pytest.raises(StorageError):
        Database(place / "x.db", (*SCHEMA, "CREATE TABLE new (a); CREATE TABLE things (b)"))
    again = Database(place / "x.db", SCHEMA)
    assert again.now(lambda c: c.execute("SELECT count(*) FROM sqlite_master WHERE name = 'new'").fetchone()) == (0,)
    again.close()


def test_a_folder_where_nothing_can_be_written_is_said(place: Path) -> None:
    with pytest.raises(StorageError, match=r"cannot be opened: No such file or directory"):
        Database(place / "missing" / "x.db", SCHEMA)
    (place / "bad.db").write_bytes(b"this is not a database, whatever its name says" * 100)
    with pytest.raises(StorageError, match="file is not a database"):
        Database(place / "bad.db", SCHEMA)


def test_schema_one_is_frozen(place: Path) -> None:
    """A data folder of the first version opens with every later one: its schema script may never change."""
    connection = sqlite3.connect(place / "state.db")
    connection.executescript(f"{FIRST_SCHEMA}; PRAGMA user_version = 1;")
    connection.execute("INSERT INTO facts VALUES ('instance', 'abc')")
    connection.commit()
    connection.close()
    store = Store(place / "state.db")
    assert store.load().instance == "abc"
    store.close()
    assert "".join(MIGRATIONS[0].split()) == "".join(FIRST_SCHEMA.split())


FIRST_SCHEMA = """
    CREATE TABLE facts (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
    CREATE TABLE namespaces (
        name TEXT PRIMARY KEY,
        body BLOB NOT NULL,
        number INTEGER NOT NULL UNIQUE,
        next_user INTEGER NOT NULL DEFAULT 0
    ) WITHOUT ROWID;
    CREATE TABLE functions (
        namespace TEXT NOT NULL REFERENCES namespaces (name),
        name TEXT NOT NULL,
        body BLOB NOT NULL,
        user INTEGER NOT NULL,
        PRIMARY KEY (namespace, name)
    ) WITHOUT ROWID;
    CREATE TABLE revisions (
        namespace TEXT NOT NULL,
        function TEXT NOT NULL,
        number INTEGER NOT NULL,
        body BLOB NOT NULL,
        wanted INTEGER NOT NULL,
        failure TEXT NOT NULL DEFAULT '',
        PRIMARY KEY (namespace, function, number),
        FOREIGN KEY (namespace, function) REFERENCES functions (namespace, name) ON DELETE CASCADE
    ) WITHOUT ROWID;
"""
