"""Secrets: `secrets.db`, a file of its own that nobody but the platform's user can read."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable
from pathlib import Path

from orchestration.local.database import Database
from orchestration.names import check_secret_name
from orchestration.orchestrator import AlreadyExists, NotFound, Refused

LARGEST_BYTES = 1 << 20

MIGRATIONS = (
    """
    CREATE TABLE secrets (
        namespace TEXT NOT NULL,
        name TEXT NOT NULL,
        value BLOB NOT NULL,
        PRIMARY KEY (namespace, name)
    ) WITHOUT ROWID;
    """,
)


class SecretStore:
    """Names are kept in memory, values are not: they are read when a replica starts."""

    def __init__(self, path: Path) -> None:
        self._database = Database(path, MIGRATIONS)
        self._names = self._database.now(lambda c: set(c.execute("SELECT namespace, name FROM secrets")))

    def names(self, namespace: str) -> list[str]:
        return sorted(name for space, name in self._names if space == namespace)

    def missing(self, namespace: str, names: Iterable[str]) -> list[str]:
        return [name for name in names if (namespace, name) not in self._names]

    async def create(self, namespace: str, name: str, value: bytes) -> None:
        """Raises AlreadyExists, Refused, names.InvalidName."""
        check_secret_name(name)
        if (namespace, name) in self._names:
            raise AlreadyExists(f"secret {name!r} exists in namespace {namespace!r}; update it instead")
        await self._put(namespace, name, value)
        self._names.add((namespace, name))

    async def update(self, namespace: str, name: str, value: bytes) -> None:
        """Raises NotFound, Refused."""
        self._check(namespace, name)
        await self._put(namespace, name, value)

    async def delete(self, namespace: str, name: str) -> None:
        """Raises NotFound."""
        self._check(namespace, name)
        statement = "DELETE FROM secrets WHERE namespace = ? AND name = ?"
        await self._database.run(lambda connection: connection.execute(statement, (namespace, name)))
        self._names.discard((namespace, name))

    async def delete_namespace(self, namespace: str) -> None:
        await self._database.run(lambda connection: connection.execute("DELETE FROM secrets WHERE namespace = ?", (namespace,)))
        self._names = {key for key in self._names if key[0] != namespace}

    async def values(self, namespace: str, names: Iterable[str]) -> dict[str, bytes]:
        """Return the values of the secrets that exist among `names`."""
        wanted = tuple(names)

        def read(connection: sqlite3.Connection) -> dict[str, bytes]:
            statement = "SELECT value FROM secrets WHERE namespace = ? AND name = ?"
            rows = ((name, connection.execute(statement, (namespace, name)).fetchone()) for name in wanted)
            return {name: bytes(row[0]) for name, row in rows if row is not None}

        return await self._database.run(read) if wanted else {}

    def close(self) -> None:
        self._database.close()

    def _check(self, namespace: str, name: str) -> None:
        if (namespace, name) not in self._names:
            raise NotFound(f"there is no secret {name!r} in namespace {namespace!r}")

    async def _put(self, namespace: str, name: str, value: bytes) -> None:
        if len(value) > LARGEST_BYTES:
            raise Refused(f"secret {name!r} has {len(value)} bytes; at most {LARGEST_BYTES} fit")
        statement = "INSERT OR REPLACE INTO secrets VALUES (?, ?, ?)"
        await self._database.run(lambda connection: connection.execute(statement, (namespace, name, value)))
