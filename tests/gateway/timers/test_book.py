from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

from gateway.timers.book import BookUnavailable, Mark, SqliteBook, TimerId
from orchestration.names import FunctionId
from orchestration.timers import Timer

HELLO = TimerId(FunctionId("openfaas-fn", "hello"), Timer("* * * * *"))
OTHER = TimerId(FunctionId("openfaas-fn", "hello"), Timer("* * * * *", "Europe/Berlin"))
THIRD = TimerId(FunctionId("shop", "hello"), Timer("* * * * *"))


async def test_marks_outlive_the_process(tmp_path: Path) -> None:
    async with SqliteBook(tmp_path) as book:
        assert await book.read() == {}
        await book.write({HELLO: Mark(1.5), OTHER: Mark(2.5, 2.0, "id"), THIRD: Mark(3.5)})
        await book.write({HELLO: Mark(4.5, 4.0, "id-2")}, gone=[THIRD])
    async with SqliteBook(tmp_path) as book:
        assert await book.read() == {HELLO: Mark(4.5, 4.0, "id-2"), OTHER: Mark(2.5, 2.0, "id")}
    assert (tmp_path / "timers.db").stat().st_mode & 0o777 == 0o600


async def test_a_write_that_fails_changes_nothing(tmp_path: Path) -> None:
    async with SqliteBook(tmp_path) as book:
        await book.write({HELLO: Mark(1.0)})
        with sqlite3.connect(tmp_path / "timers.db") as other:
            other.execute("CREATE TRIGGER no BEFORE INSERT ON marks WHEN NEW.done > 5 BEGIN SELECT RAISE(ABORT, 'no'); END")
        other.close()
        with pytest.raises(BookUnavailable, match=r"timers\.db: no"):
            await book.write({OTHER: Mark(2.0), THIRD: Mark(6.0)}, gone=[HELLO])
        assert await book.read() == {HELLO: Mark(1.0)}
        await book.write({OTHER: Mark(2.0)})


async def test_a_file_that_is_none_is_said(tmp_path: Path) -> None:
    (tmp_path / "timers.db").write_bytes(b"no database" * 100)
    with pytest.raises(BookUnavailable, match="file is not a database"):
        async with SqliteBook(tmp_path):
            pass
    with pytest.raises(BookUnavailable, match="No such file"):
        async with SqliteBook(tmp_path / "nowhere"):
            pass


async def test_a_file_without_a_version_keeps_its_marks_and_a_newer_one_is_refused(tmp_path: Path) -> None:
    async with SqliteBook(tmp_path) as book:
        await book.write({HELLO: Mark(1.5)})
    with sqlite3.connect(tmp_path / "timers.db") as other:
        other.execute("PRAGMA user_version = 0")
    other.close()
    async with SqliteBook(tmp_path) as book:
        assert await book.read() == {HELLO: Mark(1.5)}
    with sqlite3.connect(tmp_path / "timers.db") as other:
        other.execute("PRAGMA user_version = 9")
    other.close()
    with pytest.raises(BookUnavailable, match=r"timers\.db has schema 9"):
        async with SqliteBook(tmp_path):
            pass
