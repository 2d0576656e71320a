"""Figures over time that outlive the platform: a file of the rows that people look back at, written once a minute.

What happened in the last minute before a crash is not in it, nor are steps of a second, which nobody sees for longer than
five minutes. The file holds a day at most, and `MOST_ROWS`; what cannot be read is put aside, said once and begun anew, for it
costs charts and nothing else.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import sqlite3
from array import array
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Final, NamedTuple, Protocol, Self

from gateway.monitor.series import ROW_FIELDS, TIERS, Rows, Tier
from orchestration.names import FunctionId

log = logging.getLogger("pinnace.monitor")

KEPT: Final = TIERS[1:]
"""The resolutions that are written down."""
EVERY_S: Final = 60.0
LAST_WRITE_S: Final = 5.0
MOST_ROWS: Final = 1_000_000
"""About 60 MB: 1,500 functions that are called all day."""
_SCHEMA: Final = """
BEGIN IMMEDIATE;
CREATE TABLE functions (number INTEGER PRIMARY KEY AUTOINCREMENT, namespace TEXT, name TEXT, UNIQUE (namespace, name));
CREATE TABLE rows (step_s INTEGER, at INTEGER, function INTEGER, figures BLOB, PRIMARY KEY (step_s, at, function))
    WITHOUT ROWID;
PRAGMA user_version = 1;
COMMIT;
"""
_VERSION: Final = 1


class News(NamedTuple):
    """Rows that are not written down yet, and functions that are gone."""

    rows: Mapping[FunctionId, Rows]
    gone: frozenset[FunctionId]


class Source(Protocol):
    """Who has the figures."""

    def restore(self, rows: Mapping[FunctionId, Rows]) -> None:
        """Take rows of an earlier life."""

    def news(self) -> News:
        """Return what is not written down yet; the same again, and more, until `written`."""

    def written(self, news: News) -> None:
        """This is in the file now."""


class SeriesFile:
    """Owns the SQLite file at `path`. Entering reads it, leaving writes it a last time; no error leaves it.

    `clock` gives Unix seconds."""

    def __init__(self, path: Path, source: Source, clock: Callable[[], float], *, every_s: float = EVERY_S) -> None:
        self._path = path
        self._source = source
        self._clock = clock
        self._every_s = every_s
        self._rows = 0
        self._failing = False
        self._ending = asyncio.Event()
        self._keeping: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        rows: Mapping[FunctionId, Rows] = {}
        try:
            rows = await asyncio.to_thread(self._read)
        except (OSError, sqlite3.Error) as error:
            log.warning("charts begin anew: %s cannot be read (%s) and is put aside", self._path, error)
            with contextlib.suppress(OSError):
                await asyncio.to_thread(self._put_aside)
        self._source.restore(rows)
        self._keeping = asyncio.create_task(self._keep())
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        assert self._keeping is not None
        self._ending.set()
        _, late = await asyncio.wait([self._keeping], timeout=LAST_WRITE_S)
        for task in late:
            task.cancel()

    async def _keep(self) -> None:
        last = False
        while not last:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._ending.wait(), self._every_s)
            last = self._ending.is_set()
            news = self._source.news()
            if not news.rows and not news.gone:
                continue
            try:
                await asyncio.to_thread(self._write, news, int(self._clock()))
            except (OSError, sqlite3.Error) as error:
                if not self._failing:
                    log.warning("charts are not kept: %s: %s; tried again each minute", self._path, error)
                self._failing = True
            else:
                self._failing = False
                self._source.written(news)

    # in a thread

    def _put_aside(self) -> None:
        self._path.replace(self._path.with_suffix(".damaged"))
        for log_of_it in ("-wal", "-shm"):
            self._path.with_name(self._path.name + log_of_it).unlink(missing_ok=True)

    def _connect(self) -> sqlite3.Connection:
        self._path.touch(mode=0o600)
        connection = sqlite3.connect(self._path, isolation_level=None, timeout=5)
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = NORMAL")
        if (version := connection.execute("PRAGMA user_version").fetchone()[0]) == 0:
            connection.executescript(_SCHEMA)
        elif version != _VERSION:
            connection.close()
            raise sqlite3.DatabaseError(f"schema {version}, and this platform knows {_VERSION}")
        return connection

    def _read(self) -> dict[FunctionId, Rows]:
        with contextlib.closing(self._connect()) as connection:
            now = int(self._clock())
            names = {
                number: FunctionId(namespace, name)
                for number, namespace, name in connection.execute("SELECT number, namespace, name FROM functions")
            }
            found: dict[FunctionId, dict[Tier, array[int]]] = {}
            for tier in KEPT:
                span = (tier.step_s, now - tier.span_s, now)
                for at, number, figures in connection.execute(
                    "SELECT at, function, figures FROM rows WHERE step_s = ? AND at > ? AND at <= ? ORDER BY at", span
                ):
                    if number in names and len(figures) == (ROW_FIELDS - 1) * array("I").itemsize:
                        rows = found.setdefault(names[number], {}).setdefault(tier, array("I"))
                        rows.append(at)
                        rows.frombytes(figures)
            self._rows = connection.execute("SELECT count(*) FROM rows").fetchone()[0]
            return {function: dict(rows) for function, rows in found.items()}

    def _write(self, news: News, now: int) -> None:
        with contextlib.closing(self._connect()) as connection:
            connection.execute("BEGIN IMMEDIATE")
            for gone in news.gone:  # its rows stay until their time is over; nobody finds them
                connection.execute("DELETE FROM functions WHERE namespace = ? AND name = ?", (gone.namespace, gone.name))
            for function, tiers in news.rows.items():
                connection.execute("INSERT OR IGNORE INTO functions (namespace, name) VALUES (?, ?)", function)
                (number,) = connection.execute(
                    "SELECT number FROM functions WHERE namespace = ? AND name = ?", function
                ).fetchone()
                for tier, rows in tiers.items():
                    self._rows += connection.executemany(
                        "INSERT OR REPLACE INTO rows VALUES (?, ?, ?, ?)",
                        (
                            (tier.step_s, rows[i], number, rows[i + 1 : i + ROW_FIELDS].tobytes())
                            for i in range(0, len(rows), ROW_FIELDS)
                        ),
                    ).rowcount
            for tier in KEPT:
                self._rows -= connection.execute(
                    "DELETE FROM rows WHERE step_s = ? AND at <= ?", (tier.step_s, now - tier.span_s)
                ).rowcount
            for tier in KEPT:  # those of the finer resolution go first
                if self._rows > MOST_ROWS:
                    oldest = "SELECT at FROM rows WHERE step_s = ? ORDER BY at LIMIT 1 OFFSET ?"
                    row = connection.execute(oldest, (tier.step_s, self._rows - MOST_ROWS)).fetchone()
                    until = row[0] if row is not None else now
                    self._rows -= connection.execute(
                        "DELETE FROM rows WHERE step_s = ? AND at <= ?", (tier.step_s, until)
                    ).rowcount
            connection.execute("COMMIT")
