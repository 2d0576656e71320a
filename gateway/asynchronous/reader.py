"""Reads `queue.db` beside the writer: a few threads, each with a connection of its own, so that no read waits for a commit."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final, TypeVar

from gateway.asynchronous.store import StoreUnavailable

Result = TypeVar("Result")

READERS: Final = 2


class Reader:
    """Reads `path`, which the writer has made. Connects when it is first asked for something. `close` blocks."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._local = threading.local()
        self._connections: list[sqlite3.Connection] = []
        self._threads = ThreadPoolExecutor(READERS, thread_name_prefix=f"reader of {path.name}")

    async def run(self, job: Callable[[sqlite3.Connection], Result]) -> Result:
        """Return what `job` reads. Raises StoreUnavailable, and what the job raises."""
        try:
            return await asyncio.get_running_loop().run_in_executor(self._threads, self._read, job)
        except (sqlite3.Error, RuntimeError) as error:
            raise StoreUnavailable(f"{self._path}: {error}") from None

    def close(self) -> None:
        """Finish what was begun, and let go of the file."""
        self._threads.shutdown()
        for connection in self._connections:
            connection.close()

    def _read(self, job: Callable[[sqlite3.Connection], Result]) -> Result:
        connection: sqlite3.Connection | None = getattr(self._local, "connection", None)
        if connection is None:
            connection = sqlite3.connect(self._path, isolation_level=None, check_same_thread=False, timeout=10)
            connection.execute("PRAGMA query_only = ON")
            self._local.connection = connection
            self._connections.append(connection)
        return job(connection)
