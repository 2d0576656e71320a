"""What `benchmarks.asynchronous` is measured by: the same work with a bare SQLite file, a statement a call, by one thread that
waits for nobody."""

from __future__ import annotations

import contextlib
import sqlite3
import time
from collections.abc import Iterator
from pathlib import Path


@contextlib.contextmanager
def bare_file(folder: Path, schema: str) -> Iterator[sqlite3.Connection]:
    """Make a file that is synced at each commit, as the store's is; it is gone afterwards."""
    connection = sqlite3.connect(folder / "bare.db", isolation_level=None)
    try:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")
        connection.executescript(schema)
        yield connection
    finally:
        connection.close()
        for file in folder.glob("bare.db*"):
            file.unlink()


def bare_inserts(folder: Path, request: bytes, body: bytes, calls: int, group: int) -> float:
    """Rows inserted a second, `group` a commit."""
    schema = "CREATE TABLE calls (seq INTEGER PRIMARY KEY, id TEXT UNIQUE, due REAL, request BLOB, body BLOB)"
    with bare_file(folder, schema) as connection:
        started = time.perf_counter()
        for start in range(0, calls, group):
            connection.execute("BEGIN IMMEDIATE")
            for number in range(start, min(calls, start + group)):
                row = (f"{number:036}", time.time(), request, body)
                connection.execute("INSERT INTO calls (id, due, request, body) VALUES (?, ?, ?, ?)", row)
            connection.execute("COMMIT")
        took = time.perf_counter() - started
        assert connection.execute("SELECT count(*) FROM calls").fetchone() == (calls,)
    return calls / took


def bare_completions(folder: Path, request: bytes, body: bytes, outcome: bytes, calls: int, *, taken: int, group: int) -> float:
    """Calls a second that are read, `taken` at a time, as those that are due, marked as running, and written once more with
    their outcome and result instead of their body, `group` a commit. As in the store the commit that marks is not synced, and
    marks and ends are found by an index."""
    schema = """
        CREATE TABLE calls (seq INTEGER PRIMARY KEY, id TEXT UNIQUE, state INTEGER, due REAL, request BLOB, body BLOB,
            outcome BLOB, result BLOB);
        CREATE INDEX waiting ON calls (due) WHERE state = 0;
        """
    with bare_file(folder, schema) as connection:
        connection.execute("BEGIN IMMEDIATE")
        rows = ((f"{number:036}", time.time(), request, body) for number in range(calls))
        connection.executemany("INSERT INTO calls (id, state, due, request, body) VALUES (?, 0, ?, ?, ?)", rows)
        connection.execute("COMMIT")
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        running: list[int] = []
        started = time.perf_counter()
        while True:
            connection.execute("PRAGMA synchronous = NORMAL")
            connection.execute("BEGIN IMMEDIATE")
            found = connection.execute(
                "SELECT seq, id, request, body FROM calls WHERE state = 0 AND due <= ? ORDER BY due, seq LIMIT ?",
                (time.time(), taken),
            ).fetchall()
            for row in found:
                connection.execute("UPDATE calls SET state = 1 WHERE seq = ?", row[:1])
            connection.execute("COMMIT")
            running += [row[0] for row in found]
            connection.execute("PRAGMA synchronous = FULL")
            while len(running) >= group or (running and not found):
                connection.execute("BEGIN IMMEDIATE")
                for seq in running[:group]:
                    connection.execute(
                        "UPDATE calls SET state = 2, outcome = ?, result = ?, body = NULL WHERE seq = ?", (outcome, body, seq)
                    )
                connection.execute("COMMIT")
                del running[:group]
            if not found:
                break
        took = time.perf_counter() - started
        assert connection.execute("SELECT count(*) FROM calls WHERE state = 2 AND body IS NULL").fetchone() == (calls,)
    return calls / took
