"""A file is its owner's alone, its schema moves forward a whole step at a time, and one that cannot be used is said."""

from __future__ import annotations

import sqlite3
import stat
from pathlib import Path

import pytest

from orchestration.sqlite_file import CannotOpen, Newer, open_file

THINGS = "CREATE TABLE things (name TEXT)"


def more(connection: sqlite3.Connection) -> None:
    connection.execute("ALTER TABLE things ADD COLUMN value INTEGER")
    connection.execute("UPDATE things SET value = length(name)")


def breaks(connection: sqlite3.Connection) -> None:
    connection.execute("DELETE FROM things")
    connection.execute("SELECT * FROM absent")


def test_a_new_file_is_its_owners_and_synced(tmp_path: Path) -> None:
    connection = open_file(tmp_path / "x.db", [THINGS], {"cache_size": -2000})
    values = [connection.execute(f"PRAGMA {name}").fetchone()[0] for name in ("journal_mode", "synchronous", "cache_size")]
    assert values == ["wal", 2, -2000]
    assert stat.S_IMODE((tmp_path / "x.db").stat().st_mode) == 0o600
    connection.close()


def test_an_old_file_is_brought_over_step_by_step(tmp_path: Path) -> None:
    connection = open_file(tmp_path / "x.db", [THINGS], {})
    connection.execute("INSERT INTO things VALUES ('four')")
    connection.close()
    connection = open_file(tmp_path / "x.db", [THINGS, more], {})
    assert connection.execute("SELECT name, value FROM things").fetchall() == [("four", 4)]
    assert connection.execute("PRAGMA user_version").fetchone() == (2,)
    connection.close()


def test_a_step_that_fails_leaves_the_file_as_it_was(tmp_path: Path) -> None:
    connection = open_file(tmp_path / "x.db", [THINGS], {})
    connection.execute("INSERT INTO things VALUES ('four')")
    connection.close()
    with pytest.raises(sqlite3.Error, match="no such table: absent"):
        open_file(tmp_path / "x.db", [THINGS, breaks], {})
    connection = open_file(tmp_path / "x.db", [THINGS], {})
    assert connection.execute("SELECT name FROM things").fetchall() == [("four",)]
    connection.close()


def test_what_cannot_be_used_is_said(tmp_path: Path) -> None:
    open_file(tmp_path / "x.db", [THINGS, more], {}).close()
    with pytest.raises(Newer, match=r"x\.db has schema 2 and this version of the platform knows 1"):
        open_file(tmp_path / "x.db", [THINGS], {})
    with pytest.raises(CannotOpen, match=r"none/x\.db cannot be opened: No such file or directory"):
        open_file(tmp_path / "none" / "x.db", [THINGS], {})
    (tmp_path / "y.db").write_bytes(b"no database" * 100)
    with pytest.raises(sqlite3.Error, match="not a database"):
        open_file(tmp_path / "y.db", [THINGS], {})
