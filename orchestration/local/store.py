"""What has to survive: functions, their revisions and wanted replica counts, namespaces, and users.

Reads are answered from memory by the orchestrator; this is where it reads once at start, and where each change is made
durable before it is acknowledged.
"""

from __future__ import annotations

import secrets
import sqlite3
from pathlib import Path

import msgspec

from orchestration.function import Function
from orchestration.local.database import Database
from orchestration.local.failures import Conflict
from orchestration.names import DEFAULT_NAMESPACE, FunctionId
from orchestration.orchestrator import Namespace, Refused
from orchestration.revision import Revision

USERS_PER_NAMESPACE = 10_000
NAMESPACES = 26_000

MIGRATIONS = (
    """
    CREATE TABLE facts (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
    CREATE TABLE namespaces (
        name TEXT PRIMARY KEY,
        body BLOB NOT NULL,
        number INTEGER NOT NULL UNIQUE,
        next_user INTEGER NOT NULL DEFAULT 0
    ) WITHOUT ROWID;
    CREATE TABLE functions (
        namespace TEXT NOT NULL REFERENCES namespaces (name),
        name TEXT NOT NULL,
        body BLOB NOT NULL,
        user INTEGER NOT NULL,
        PRIMARY KEY (namespace, name)
    ) WITHOUT ROWID;
    CREATE TABLE revisions (
        namespace TEXT NOT NULL,
        function TEXT NOT NULL,
        number INTEGER NOT NULL,
        body BLOB NOT NULL,
        wanted INTEGER NOT NULL,
        failure TEXT NOT NULL DEFAULT '',
        PRIMARY KEY (namespace, function, number),
        FOREIGN KEY (namespace, function) REFERENCES functions (namespace, name) ON DELETE CASCADE
    ) WITHOUT ROWID;
    """,
)


class Record(msgspec.Struct):
    """A function as it is kept. `wanted` maps revision names to replica counts, `failures` to why they never became ready.

    `user` is the function's place among its namespace's users, `namespace_number` the namespace's place among all.
    """

    function: Function
    wanted: dict[str, int]
    failures: dict[str, str]
    user: int
    namespace_number: int


class State(msgspec.Struct):
    """Everything, as it is at start. `instance` is the data folder's own random name; a copy of the folder gets another."""

    instance: str
    namespaces: dict[str, Namespace]
    records: dict[FunctionId, Record]


class Store:
    """`state.db`. Writers return when the change is durable; all raise StorageError, StorageFull and Conflict."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._database = Database(path, MIGRATIONS)

    def load(self) -> State:
        """Read everything; the first time, write what always exists."""
        return self._database.now(lambda connection: _load(connection, _which_file(self._path)))

    async def put(self, record: Record) -> Record:
        """Write a function with its revisions; return it with the user it has (a new function gets one).

        Raises Conflict when its namespace is gone, Refused when the namespace is full.
        """
        return await self._database.run(lambda connection: _put(connection, record))

    async def want(self, function: FunctionId, number: int, wanted: int) -> None:
        """Write how many replicas the revision of that number should have."""
        statement = "UPDATE revisions SET wanted = ? WHERE namespace = ? AND function = ? AND number = ?"
        await self._database.run(lambda connection: connection.execute(statement, (wanted, *function, number)))

    async def remove(self, function: FunctionId) -> None:
        statement = "DELETE FROM functions WHERE namespace = ? AND name = ?"
        await self._database.run(lambda connection: connection.execute(statement, function))

    async def put_namespace(self, namespace: Namespace, numbers: int = NAMESPACES) -> None:
        """Write a namespace; a new one gets one of so many numbers. Raises Refused when all of them were given."""
        await self._database.run(lambda connection: _put_namespace(connection, namespace, numbers))

    async def remove_namespace(self, name: str) -> None:
        await self._database.run(lambda connection: connection.execute("DELETE FROM namespaces WHERE name = ?", (name,)))

    async def reclaim(self, numbers: int) -> None:
        """Where all numbers were given, begin again with those that are free: at start, when no replica runs."""
        await self._database.run(lambda connection: _reclaim(connection, numbers))

    def close(self) -> None:
        self._database.close()


def _which_file(path: Path) -> str:
    status = path.stat()
    return f"{status.st_dev}:{status.st_ino}"


def _load(connection: sqlite3.Connection, file: str) -> State:
    connection.execute("INSERT OR IGNORE INTO facts VALUES ('instance', ?)", (secrets.token_hex(8),))
    named = connection.execute("SELECT value FROM facts WHERE name = 'instance_of'").fetchone()
    if named is not None and named[0] != file:
        # A copy: under the original's name it would take away the sockets, and end the processes, of a platform that runs.
        connection.execute("UPDATE facts SET value = ? WHERE name = 'instance'", (secrets.token_hex(8),))
    connection.execute("INSERT OR REPLACE INTO facts VALUES ('instance_of', ?)", (file,))
    connection.execute("INSERT OR IGNORE INTO facts SELECT 'next_namespace', coalesce(max(number) + 1, 0) FROM namespaces")
    if not connection.execute("SELECT 1 FROM namespaces WHERE name = ?", (DEFAULT_NAMESPACE,)).fetchone():
        _put_namespace(connection, Namespace(DEFAULT_NAMESPACE), NAMESPACES)
    namespaces, numbers = {}, {}
    for name, body, number in connection.execute("SELECT name, body, number FROM namespaces"):
        namespaces[name] = msgspec.json.decode(body, type=Namespace)
        numbers[name] = number
    revisions: dict[FunctionId, list[tuple[Revision, int, str]]] = {}
    rows = connection.execute("SELECT namespace, function, body, wanted, failure FROM revisions ORDER BY number")
    for namespace, name, body, wanted, failure in rows:
        entry = (msgspec.json.decode(body, type=Revision), wanted, failure)
        revisions.setdefault(FunctionId(namespace, name), []).append(entry)
    records = {}
    for namespace, name, body, user in connection.execute("SELECT namespace, name, body, user FROM functions"):
        function = FunctionId(namespace, name)
        own = revisions[function]
        whole = msgspec.structs.replace(msgspec.json.decode(body, type=Function), revisions=tuple(r for r, _, _ in own))
        records[function] = Record(
            function=whole,
            wanted={r.name: wanted for r, wanted, _ in own},
            failures={r.name: failure for r, _, failure in own if failure},
            user=user,
            namespace_number=numbers[namespace],
        )
    instance = connection.execute("SELECT value FROM facts WHERE name = 'instance'").fetchone()[0]
    return State(instance=instance, namespaces=namespaces, records=records)


def _put_namespace(connection: sqlite3.Connection, namespace: Namespace, numbers: int) -> None:
    body = msgspec.json.encode(namespace)
    changed = connection.execute("UPDATE namespaces SET body = ? WHERE name = ?", (body, namespace.name))
    if not changed.rowcount:
        number = _next_namespace(connection, numbers)
        connection.execute("INSERT INTO namespaces (name, body, number) VALUES (?, ?, ?)", (namespace.name, body, number))


def _next_namespace(connection: sqlite3.Connection, numbers: int) -> int:
    """Give the next number, counting on: a removed namespace's last replicas may still run as its users."""
    taken = {number for (number,) in connection.execute("SELECT number FROM namespaces")}
    start = int(connection.execute("SELECT value FROM facts WHERE name = 'next_namespace'").fetchone()[0])
    number = next((number for number in range(start, numbers) if number not in taken), None)
    if number is None:
        raise Refused(_used_up(f"there are users for {numbers} namespaces here", len(taken) < numbers))
    connection.execute("UPDATE facts SET value = ? WHERE name = 'next_namespace'", (str(number + 1),))
    return number


def _reclaim(connection: sqlite3.Connection, numbers: int) -> None:
    last = "UPDATE facts SET value = '0' WHERE name = 'next_namespace' AND CAST(value AS INTEGER) >= ?"
    connection.execute(last, (numbers,))
    connection.execute("UPDATE namespaces SET next_user = 0 WHERE next_user >= ?", (USERS_PER_NAMESPACE,))


def _used_up(what: str, some_are_free: bool) -> str:
    advice = "start the platform again to use those of removed ones" if some_are_free else "remove one first"
    return f"{what}, and all were given: {advice}"


def _put(connection: sqlite3.Connection, record: Record) -> Record:
    function = record.function
    body = msgspec.json.encode(msgspec.structs.replace(function, revisions=()))
    row = connection.execute("SELECT user FROM functions WHERE namespace = ? AND name = ?", function.id).fetchone()
    if row is None:
        user = _next_user(connection, function.id.namespace)
        connection.execute("INSERT INTO functions VALUES (?, ?, ?, ?)", (*function.id, body, user))
    else:
        user = row[0]
        connection.execute("UPDATE functions SET body = ? WHERE namespace = ? AND name = ?", (body, *function.id))
    connection.execute("DELETE FROM revisions WHERE namespace = ? AND function = ?", function.id)
    connection.executemany("INSERT INTO revisions VALUES (?, ?, ?, ?, ?, ?)", _revision_rows(record))
    number = connection.execute("SELECT number FROM namespaces WHERE name = ?", (function.id.namespace,)).fetchone()[0]
    return msgspec.structs.replace(record, user=user, namespace_number=number)


def _revision_rows(record: Record) -> list[tuple[str, str, int, bytes, int, str]]:
    return [
        (
            *record.function.id,
            revision.number,
            msgspec.json.encode(revision),
            record.wanted.get(revision.name, 0),
            record.failures.get(revision.name, ""),
        )
        for revision in record.function.revisions
    ]


def _next_user(connection: sqlite3.Connection, namespace: str) -> int:
    """Give the next user of the namespace, counting on: a removed function's last replicas may still run as theirs."""
    taken = {user for (user,) in connection.execute("SELECT user FROM functions WHERE namespace = ?", (namespace,))}
    row = connection.execute("SELECT next_user FROM namespaces WHERE name = ?", (namespace,)).fetchone()
    if row is None:
        raise Conflict(f"there is no namespace {namespace!r}")
    user = next((user for user in range(row[0], USERS_PER_NAMESPACE) if user not in taken), None)
    if user is None:
        what = f"namespace {namespace!r} has users for {USERS_PER_NAMESPACE} functions"
        raise Refused(_used_up(what, len(taken) < USERS_PER_NAMESPACE))
    connection.execute("UPDATE namespaces SET next_user = ? WHERE name = ?", (user + 1, namespace))
    return user
