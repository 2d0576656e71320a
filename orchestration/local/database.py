"""One SQLite file with one writer: a thread that owns the connection and commits what has gathered.

A *job* is a function of the connection. Jobs that wait while a commit is under way are done together and made durable
by the next one (group commit): fifty deploys at once cost a few syncs of the disk, not fifty. Each job has a savepoint
of its own, so that one that fails takes nothing of the others with it. A job's future is done only after the commit.
"""

from __future__ import annotations

import asyncio
import queue
import sqlite3
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

from orchestration.local.failures import Conflict, NewerSchema, StorageError, StorageFull
from orchestration.sqlite_file import CannotOpen, Newer, open_file

Result = TypeVar("Result")
Job = Callable[[sqlite3.Connection], Result]

WAITING_AT_MOST = 10_000
TOGETHER_AT_MOST = 256
CLOSED_WITHIN_S = 10.0


class Database:
    """Opens `path` with mode 0600, brings it to the newest schema and starts the writer. Blocks: open it in a thread.

    `migrations` are scripts; the n-th brings a file from `user_version` n-1 to n. Raises NewerSchema, StorageError.
    """

    def __init__(self, path: Path, migrations: Sequence[str]) -> None:
        self._path = path
        self._jobs: queue.Queue[tuple[Job[Any], asyncio.Future[Any]] | None] = queue.Queue(WAITING_AT_MOST)
        self._closed = False
        pragmas = {"foreign_keys": "ON", "secure_delete": "ON"}  # what is deleted may have been a secret
        try:
            self._connection = open_file(path, migrations, pragmas)
        except CannotOpen as error:
            raise StorageError(str(error)) from None
        except Newer as error:
            raise NewerSchema(f"{error}: use the newer platform, or restore a backup") from None
        except sqlite3.Error as error:
            raise self._failure(error) from None
        self._thread = threading.Thread(target=self._work, name=f"writer of {path.name}", daemon=True)
        self._thread.start()

    async def run(self, job: Job[Result]) -> Result:
        """Do `job` and return its result once what it wrote is durable. Raises StorageError, StorageFull, what it raises."""
        if self._closed:
            raise StorageError(f"{self._path} is closed")
        future: asyncio.Future[Result] = asyncio.get_running_loop().create_future()
        try:
            self._jobs.put_nowait((job, future))
        except queue.Full:
            raise StorageError(f"{self._path}: {WAITING_AT_MOST} changes wait already; the disk is too slow") from None
        return await asyncio.shield(future)  # a caller that leaves does not take back what is being written

    def now(self, job: Job[Result]) -> Result:
        """Do a job in the calling thread: for the start, before anything else uses the file."""
        return job(self._connection)

    def close(self) -> None:
        """Finish what waits, then close the file."""
        if not self._closed:
            self._closed = True
            self._jobs.put(None)
            self._thread.join(CLOSED_WITHIN_S)

    def _work(self) -> None:
        last = False
        while not last:
            batch = [self._jobs.get()]
            while len(batch) < TOGETHER_AT_MOST:
                try:
                    batch.append(self._jobs.get_nowait())
                except queue.Empty:
                    break
            last = None in batch
            self._do([entry for entry in batch if entry is not None])
        self._connection.close()

    def _do(self, batch: list[tuple[Job[Any], asyncio.Future[Any]]]) -> None:
        done: list[tuple[asyncio.Future[Any], Any, BaseException | None]] = []
        connection = self._connection
        try:
            connection.execute("BEGIN IMMEDIATE")
            for job, future in batch:
                connection.execute("SAVEPOINT job")
                try:
                    done.append((future, job(connection), None))
                except Exception as error:
                    if not connection.in_transaction:
                        raise  # SQLite gave up the whole transaction: so the disk is full, or broken
                    connection.execute("ROLLBACK TO job")
                    failure = self._failure(error) if isinstance(error, sqlite3.Error) else error
                    done.append((future, None, failure))
                connection.execute("RELEASE job")
            connection.execute("COMMIT")
        except Exception as error:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            failure = self._failure(error) if isinstance(error, sqlite3.Error) else error
            done = [(future, None, failure) for _, future in batch]
        for future, result, failed in done:
            try:
                future.get_loop().call_soon_threadsafe(_settle, future, result, failed)
            except RuntimeError:
                continue  # that loop has ended; nobody waits

    def _failure(self, error: sqlite3.Error) -> StorageError:
        if isinstance(error, sqlite3.IntegrityError):
            return Conflict(f"{self._path}: {error}")
        if getattr(error, "sqlite_errorcode", 0) & 0xFF == sqlite3.SQLITE_FULL:
            return StorageFull(f"the disk that holds {self._path.parent} is full and nothing was written: free some space")
        return StorageError(f"{self._path}: {error}")


def _settle(future: asyncio.Future[Any], result: Any, failed: BaseException | None) -> None:
    if future.done():
        return
    if failed is None:
        future.set_result(result)
    else:
        future.set_exception(failed)
        future.exception()  # a caller that left is not an error of the loop's
