"""What was done of each timer, kept so that no restart forgets it."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import Final, NamedTuple, Protocol, Self, TypeVar

import msgspec

from orchestration.names import FunctionId
from orchestration.sqlite_file import CannotOpen, Newer, open_file
from orchestration.timers import Timer

Result = TypeVar("Result")

FILE: Final = "timers.db"
_SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS marks (
    namespace TEXT NOT NULL,
    function TEXT NOT NULL,
    expression TEXT NOT NULL,
    zone TEXT NOT NULL,
    done REAL NOT NULL,
    ran REAL NOT NULL,
    call_id TEXT NOT NULL,
    PRIMARY KEY (namespace, function, expression, zone)
) WITHOUT ROWID
"""
"""Files without a `user_version` may have the table already."""


class TimerId(NamedTuple):
    """A function may have several timers; each expression in each zone is one."""

    function: FunctionId
    timer: Timer


class Mark(msgspec.Struct, frozen=True):
    """All runs up to `done` are made or left out (Unix s). The last one made was that of `ran`, the call `call_id` (0 and
    empty: none was)."""

    done: float
    ran: float = 0.0
    call_id: str = ""


class BookUnavailable(Exception):
    """The book cannot be read or written now; the message is one line that says why."""


class Book(Protocol):
    """Keeps marks. What was written is durable on return. Methods raise BookUnavailable."""

    async def read(self) -> dict[TimerId, Mark]:
        """Return all marks."""

    async def write(self, marks: Mapping[TimerId, Mark], gone: Iterable[TimerId] = ()) -> None:
        """Keep these marks and forget those of timers that are `gone`. What failed may be written again."""


class SqliteBook:
    """A book in a file of `folder`, for the one process that holds the folder. An async context manager.

    Raises BookUnavailable when it is entered.
    """

    def __init__(self, folder: Path) -> None:
        self._path = folder / FILE
        self._thread = ThreadPoolExecutor(1, "timers.db")
        self._connection: sqlite3.Connection | None = None

    async def __aenter__(self) -> Self:
        try:
            await self._run(self._open)
        except BaseException:
            self._thread.shutdown(wait=False)
            raise
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self._run(self._close)
        self._thread.shutdown(wait=False)

    async def read(self) -> dict[TimerId, Mark]:
        return await self._run(self._read)

    async def write(self, marks: Mapping[TimerId, Mark], gone: Iterable[TimerId] = ()) -> None:
        await self._run(lambda: self._write(dict(marks), list(gone)))

    async def _run(self, job: Callable[[], Result]) -> Result:
        try:
            return await asyncio.get_running_loop().run_in_executor(self._thread, job)
        except sqlite3.Error as error:
            raise BookUnavailable(f"{self._path}: {error}") from None

    def _open(self) -> None:
        try:
            self._connection = open_file(self._path, [_SCHEMA], {})
        except (CannotOpen, Newer) as error:
            raise BookUnavailable(str(error)) from None

    def _close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    @property
    def _opened(self) -> sqlite3.Connection:
        assert self._connection is not None
        return self._connection

    def _read(self) -> dict[TimerId, Mark]:
        rows = self._opened.execute("SELECT namespace, function, expression, zone, done, ran, call_id FROM marks")
        return {
            TimerId(FunctionId(ns, name), Timer(expression, zone)): Mark(*mark) for ns, name, expression, zone, *mark in rows
        }

    def _write(self, marks: dict[TimerId, Mark], gone: list[TimerId]) -> None:
        connection = self._opened
        connection.execute("BEGIN IMMEDIATE")
        try:
            connection.executemany(
                "DELETE FROM marks WHERE namespace = ? AND function = ? AND expression = ? AND zone = ?", map(_key, gone)
            )
            connection.executemany(
                "INSERT OR REPLACE INTO marks VALUES (?, ?, ?, ?, ?, ?, ?)",
                ((*_key(timer), mark.done, mark.ran, mark.call_id) for timer, mark in marks.items()),
            )
            connection.execute("COMMIT")
        except BaseException:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            raise


def _key(timer: TimerId) -> tuple[str, str, str, str]:
    return (*timer.function, timer.timer.expression, timer.timer.zone)
