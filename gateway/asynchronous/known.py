"""Which ids and idempotency keys are taken: asked of the rows for a whole batch of submissions at once."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable
from typing import Final

from gateway.asynchronous.groups import ROWS, TOGETHER, Group, Layout

_IDS: Final = Layout(wanted=str)
_KEYS: Final = Layout(queue=int, key=str)
_FIND_IDS: Final = f"{ROWS} SELECT id FROM r CROSS JOIN calls ON id = {_IDS.of['wanted']}"
_FIND_KEYS: Final = (
    f"{ROWS} SELECT queue, key, id FROM r CROSS JOIN calls ON queue = {_KEYS.of['queue']} AND key = {_KEYS.of['key']}"
    " WHERE key IS NOT NULL"
)


class Known:
    """What is known of ids and keys that clients gave, rows and calls without one yet alike. Whatever was not looked for with
    its batch is looked for by itself."""

    def __init__(self) -> None:
        self._ids: dict[str, bool] = {}
        self._keys: dict[tuple[int, str], str] = {}

    def clear(self) -> None:
        """Forget everything: rows may have changed."""
        self._ids.clear()
        self._keys.clear()

    def has(self, connection: sqlite3.Connection, call_id: str) -> bool:
        """Return whether a call has this id."""
        if call_id not in self._ids:
            self.look(connection, (call_id,), ())
        return self._ids[call_id]

    def keyed(self, connection: sqlite3.Connection, queue: int, key: str) -> str:
        """Return the id of the call of a queue that has this key; nothing where none has."""
        if (queue, key) not in self._keys:
            self.look(connection, (), ((queue, key),))
        return self._keys[queue, key]

    def add(self, call_id: str, queue: int, key: str) -> None:
        """A call is there from now on."""
        self._ids[call_id] = True
        if key:
            self._keys[queue, key] = call_id

    def look(self, connection: sqlite3.Connection, ids: Iterable[str], keys: Iterable[tuple[int, str]]) -> None:
        """Look for ids and keys among the rows."""
        wanted = list(dict.fromkeys(ids))
        for start in range(0, len(wanted), TOGETHER):
            self._look_for_ids(connection, wanted[start : start + TOGETHER])
        pairs = list(dict.fromkeys(keys))
        for start in range(0, len(pairs), TOGETHER):
            self._look_for_keys(connection, pairs[start : start + TOGETHER])

    def _look_for_ids(self, connection: sqlite3.Connection, ids: list[str]) -> None:
        group = Group()
        for call_id in ids:
            group.numbers.append(_IDS.row % group.put(call_id.encode()))
        self._ids.update(dict.fromkeys(ids, False))
        for (call_id,) in connection.execute(_FIND_IDS, group.parameters()):
            self._ids[call_id] = True

    def _look_for_keys(self, connection: sqlite3.Connection, keys: list[tuple[int, str]]) -> None:
        group = Group()
        for queue, key in keys:
            group.numbers.append(_KEYS.row % (queue, *group.put(key.encode())))
        self._keys.update(dict.fromkeys(keys, ""))
        for queue, key, call_id in connection.execute(_FIND_KEYS, group.parameters()):
            self._keys[queue, key] = call_id
