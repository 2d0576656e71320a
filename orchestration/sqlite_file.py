"""A SQLite file that one process writes: its owner alone may read it, each commit is synced, and its schema is the newest."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

Migration = str | Callable[[sqlite3.Connection], None]
"""A script, or a function of the connection that executes statements within the transaction that it is given."""


class CannotOpen(Exception):
    """The file is not there and cannot be made, or is not to be read; the message says which and why."""


class Newer(Exception):
    """The file has a schema that is not known here; the message says which."""


def open_file(path: Path, migrations: Sequence[Migration], pragmas: Mapping[str, str | int]) -> sqlite3.Connection:
    """Open `path` with mode 0600, make it if need be, and bring it to the newest schema: the n-th migration brings it from
    `user_version` n-1 to n, each in a transaction of its own. The connection may be used by any thread, one at a time, and
    begins no transaction by itself. Raises CannotOpen, Newer, sqlite3.Error."""
    try:
        os.close(os.open(path, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600))
        path.chmod(0o600)
        connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=10)
    except (OSError, sqlite3.Error) as error:
        raise CannotOpen(f"{path} cannot be opened: {getattr(error, 'strerror', None) or error}") from None
    try:
        _prepare(connection, path, migrations, pragmas)
    except BaseException:
        connection.close()
        raise
    return connection


def _prepare(
    connection: sqlite3.Connection, path: Path, migrations: Sequence[Migration], pragmas: Mapping[str, str | int]
) -> None:
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    if version > len(migrations):
        raise Newer(f"{path} has schema {version} and this version of the platform knows {len(migrations)}")
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = FULL")
    for name, value in pragmas.items():
        connection.execute(f"PRAGMA {name} = {value}")
    for number, migration in enumerate(migrations[version:], version + 1):
        if isinstance(migration, str):
            connection.executescript(f"BEGIN IMMEDIATE; {migration}; PRAGMA user_version = {number}; COMMIT;")
            continue
        connection.execute("BEGIN IMMEDIATE")
        migration(connection)
        connection.execute(f"PRAGMA user_version = {number}")
        connection.execute("COMMIT")
