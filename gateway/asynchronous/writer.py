"""The thread that owns the connection to `queue.db` and commits what has gathered (group commit).

A *job* is a function of the connection. Those that wait while a commit is under way are done together and made durable by
the next one: a thousand submissions at once cost a few syncs of the disk. A batch in which nobody asked for durability is not
synced: it outlives the process, and the next synced one brings it to the disk too.

The jobs of a batch have all been asked for before any of them is answered, so their order is the writer's choice. Those that
*gather* write nothing themselves; they come last, and `before_commit` writes what they have decided. Where nothing else wrote,
that is one statement, which SQLite begins and commits by itself.

Those of a batch are answered when the jobs of the next one are done, where one waits, and before it is written: so the event
loop serves them while SQLite, which leaves it the interpreter then, writes and syncs. Answered at once, they held the
interpreter first, the jobs after them, and neither had any work while the disk was written.

A job raises before it gathers anything, or not at all, but for errors of SQLite's. After one of those, or of what is done
around the jobs, or of a job that had written, the batch is rolled back and each of its jobs is done by itself. One that fails
then for want of the file (a full disk, somebody's lock) speaks for those behind it: on a full disk, while 500 calls ran, to
roll back for each of 500 jobs took 2.5 s. Where rolling back fails all of them fail, and the next batch begins with it: the
thread goes on, so that nobody waits for ever.
"""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final, TypeVar

import msgspec

from gateway.asynchronous.parts import Parts
from gateway.asynchronous.store import StoreUnavailable
from orchestration.sqlite_file import CannotOpen, Migration, Newer, open_file

Result = TypeVar("Result")
Job = Callable[[sqlite3.Connection], Result]

WAITING_AT_MOST: Final = 20_000
CLOSED_WITHIN_S: Final = 10.0
CACHE_KIB: Final = 32 * 1024
_OF_THE_FILE: Final = (
    sqlite3.SQLITE_FULL,
    sqlite3.SQLITE_IOERR,
    sqlite3.SQLITE_READONLY,
    sqlite3.SQLITE_CANTOPEN,
    sqlite3.SQLITE_NOMEM,
    sqlite3.SQLITE_BUSY,
)
"""Errors that have nothing to do with what is written: no disk, or another program that keeps the file locked (each time that
is waited for 10 s)."""
CHECKPOINT_PAGES: Final = 1000
"""The log is carried over into the file whenever it has 4 MB. With 16 a call costs the same once the log has its size, but
until then, after each start, a sync takes twice as long (280 us for 100 kB, not 130): it is extended, not written over."""


class _Entry(msgspec.Struct):
    """A job, who waits for it, and what came of it."""

    job: Job[Any]
    future: asyncio.Future[Any]
    durable: bool
    gathers: bool
    then: Callable[[Any], object] | None
    result: Any = None
    failed: BaseException | None = None


class Writer:
    """Opens `path` with mode 0600, brings it to the newest schema and starts the thread. Blocks: open it in a thread.

    `migrations` are scripts, or functions of the connection; the n-th brings a file from `user_version` n-1 to n.
    `begun(connection, jobs)` runs before the jobs of a batch that gather, `before_commit(connection)` at its end, within a
    transaction only where another job had one begun, `rolled_back(connection)` after a batch was rolled back. `run` is for one
    event loop. Raises StoreUnavailable.
    """

    def __init__(
        self,
        path: Path,
        migrations: Sequence[Migration],
        *,
        begun: Callable[[sqlite3.Connection, Sequence[Job[Any]]], None] = lambda connection, jobs: None,
        before_commit: Job[None],
        rolled_back: Job[None],
    ) -> None:
        self._path = path
        self._begun, self._before_commit, self._rolled_back = begun, before_commit, rolled_back
        self._unanswered: list[_Entry] = []
        self._waiting: deque[_Entry] = deque()
        self._ready = threading.Event()
        self._parts = Parts()
        self._closed = False
        self._synced = True
        self._astray = False
        self._no_file = False
        pragmas = {"cache_size": -CACHE_KIB, "wal_autocheckpoint": CHECKPOINT_PAGES}
        try:
            self._connection = open_file(path, migrations, pragmas)
        except CannotOpen as error:
            raise StoreUnavailable(str(error)) from None
        except Newer as error:
            raise StoreUnavailable(f"{error}: use the newer platform") from None
        except sqlite3.Error as error:
            raise self._failure(error) from None
        self._thread = threading.Thread(target=self._work, name=f"writer of {path.name}", daemon=True)

    def start(self) -> None:
        """Begin to do jobs."""
        self._thread.start()

    def run(
        self,
        job: Job[Result],
        *,
        durable: bool = True,
        gathers: bool = False,
        then: Callable[[Result], object] | None = None,
    ) -> asyncio.Future[Result]:
        """Do `job`, which writes nothing itself where it `gathers`; the future has its result once what it wrote is committed,
        and synced where `durable`. `then` is called with it before, also when whoever waited has left: that does not take back
        what is being written.

        Raises StoreUnavailable at once; the future raises it too, and what the job raises."""
        if self._closed:
            raise StoreUnavailable(f"{self._path} is closed")
        if len(self._waiting) >= WAITING_AT_MOST:
            raise StoreUnavailable(f"{self._path}: {WAITING_AT_MOST} changes wait already; the disk is too slow")
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Result] = loop.create_future()
        self._waiting.append(_Entry(job, future, durable, gathers, then))
        if len(self._waiting) == 1:  # the thread may wait
            loop.call_soon(self._ready.set)  # what comes in the same turn of the loop goes along
        return future

    def now(self, job: Job[Result]) -> Result:
        """Do a job in the calling thread, before `start`."""
        try:
            return job(self._connection)
        except sqlite3.Error as error:
            raise self._failure(error) from None

    def close(self) -> None:
        """Finish what waits, then close the file. Blocks."""
        if self._closed:
            return
        self._closed = True
        if self._thread.is_alive():
            self._ready.set()
            self._thread.join(CLOSED_WITHIN_S)
        else:
            self._connection.close()

    def _work(self) -> None:
        while True:
            self._ready.wait()
            self._ready.clear()
            while self._waiting:
                batch = [self._waiting.popleft() for _ in range(self._parts.size(len(self._waiting)))]
                began, worked = time.perf_counter(), time.thread_time()
                self._do(batch)
                worked_s = time.thread_time() - worked
                if self._synced:
                    self._parts.saw(len(batch), worked_s, time.perf_counter() - began - worked_s)
                self._unanswered = batch
            self._answer()
            if self._closed and not self._waiting:
                break
        self._connection.close()

    def _do(self, batch: list[_Entry]) -> None:
        connection = self._connection
        self._no_file = False
        try:
            if self._astray:
                self._roll_back()
            self._sync(any(entry.durable for entry in batch))
            write = [entry for entry in batch if not entry.gathers]
            if write:
                self._answer()  # these may take a while
                connection.execute("BEGIN IMMEDIATE")
                self._do_all(write, connection)
            if len(write) < len(batch):
                gather = [entry for entry in batch if entry.gathers] if write else batch
                self._begun(connection, [entry.job for entry in gather])
                self._do_all(gather, connection)
            self._answer()
            self._before_commit(connection)
            if connection.in_transaction:
                connection.execute("COMMIT")
        except Exception as error:  # whatever it is, the thread goes on
            self._undo(batch, error)

    def _undo(self, batch: list[_Entry], error: Exception) -> None:
        """Undo all that was done since the last commit, and do the batch's jobs one by one, unless there is only one."""
        self._answer()
        with contextlib.suppress(Exception):
            self._roll_back()
        if len(batch) > 1 and not self._astray:
            self._do_each(batch)
            return
        self._no_file = _code(error) in _OF_THE_FILE
        for entry in batch:
            entry.failed = self._failure(error) if isinstance(error, sqlite3.Error) else error

    def _do_each(self, batch: list[_Entry]) -> None:
        for number, entry in enumerate(batch, 1):
            self._do([entry])
            if self._no_file:
                for other in batch[number:]:
                    other.failed = entry.failed
                break

    @staticmethod
    def _do_all(entries: list[_Entry], connection: sqlite3.Connection) -> None:
        for entry in entries:
            entry.failed = None
            changes = 0 if entry.gathers else connection.total_changes
            try:
                entry.result = entry.job(connection)
            except sqlite3.Error:
                raise
            except Exception as error:
                if not entry.gathers and connection.total_changes != changes:
                    raise
                entry.failed = error

    def _roll_back(self) -> None:
        """Undo what the batch has done. Until that was possible nothing else is."""
        self._astray = True
        if self._connection.in_transaction:
            self._connection.execute("ROLLBACK")
        self._rolled_back(self._connection)
        self._astray = False

    def _sync(self, wanted: bool) -> None:
        """Choose whether the next commit is synced."""
        if wanted != self._synced:
            self._connection.execute(f"PRAGMA synchronous = {'FULL' if wanted else 'NORMAL'}")
            self._synced = wanted

    def _answer(self) -> None:
        """Tell those of the last batch what came of it, unless they know."""
        batch, self._unanswered = self._unanswered, []
        if batch:
            with contextlib.suppress(RuntimeError):  # the loop has ended; nobody waits
                batch[0].future.get_loop().call_soon_threadsafe(_tell, batch)

    def _failure(self, error: sqlite3.Error) -> StoreUnavailable:
        if _code(error) == sqlite3.SQLITE_FULL:
            return StoreUnavailable(f"the disk that holds {self._path.parent} is full: nothing was kept; free some space")
        return StoreUnavailable(f"{self._path}: {error}")


def _code(error: Exception) -> int:
    """Return SQLite's primary code of an error; 0 where it is none of SQLite's."""
    return int(getattr(error, "sqlite_errorcode", 0)) & 0xFF


def _tell(batch: list[_Entry]) -> None:
    for entry in batch:
        future, failed = entry.future, entry.failed
        if failed is None and entry.then is not None:
            entry.then(entry.result)
        if future.done():
            continue
        if failed is None:
            future.set_result(entry.result)
        else:
            future.set_exception(failed)
            future.exception()  # a caller that left is not an error of the loop's
