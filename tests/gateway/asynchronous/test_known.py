"""Ids and keys are looked for together, among rows and among what has no row yet."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator

import pytest

from gateway.asynchronous.groups import TOGETHER
from gateway.asynchronous.known import Known


@pytest.fixture
def rows() -> Iterator[sqlite3.Connection]:
    connection = sqlite3.connect(":memory:")
    connection.execute("CREATE TABLE calls (seq INTEGER PRIMARY KEY, id TEXT UNIQUE, queue INTEGER, key TEXT)")
    connection.execute("CREATE UNIQUE INDEX keys ON calls (queue, key) WHERE key IS NOT NULL")
    connection.executemany(
        "INSERT INTO calls (id, queue, key) VALUES (?, ?, ?)", [("a", 1, "k"), ("b", 2, "k"), ("c", 1, None), ("ü", 1, "ü")]
    )
    yield connection
    connection.close()


def test_rows_are_found_by_id_and_by_queue_and_key(rows: sqlite3.Connection) -> None:
    known = Known()
    known.look(rows, ["a", "x", "ü", "a"], [(1, "k"), (2, "k"), (3, "k"), (1, "ü")])
    rows.close()  # all was looked for
    assert [known.has(rows, call_id) for call_id in ("a", "x", "ü")] == [True, False, True]
    assert [known.keyed(rows, queue, key) for queue, key in ((1, "k"), (2, "k"), (3, "k"), (1, "ü"))] == ["a", "b", "", "ü"]


def test_what_was_not_looked_for_is_looked_for_by_itself(rows: sqlite3.Connection) -> None:
    known = Known()
    assert known.has(rows, "c") and not known.has(rows, "d")
    assert known.keyed(rows, 1, "k") == "a" and known.keyed(rows, 1, "c") == ""


def test_what_has_no_row_yet_is_known_until_rows_may_have_changed(rows: sqlite3.Connection) -> None:
    known = Known()
    assert not known.has(rows, "d") and not known.keyed(rows, 1, "new")
    known.add("d", 1, "new")
    known.add("e", 1, "")
    assert known.has(rows, "d") and known.has(rows, "e") and known.keyed(rows, 1, "new") == "d"
    known.clear()
    assert not known.has(rows, "d") and not known.keyed(rows, 1, "new")


def test_any_number_is_looked_for(rows: sqlite3.Connection) -> None:
    count = 2 * TOGETHER + 5
    rows.executemany("INSERT INTO calls (id, queue, key) VALUES (?, 7, ?)", [(f"i{n}", f"k{n}") for n in range(0, count, 2)])
    known = Known()
    known.look(rows, [f"i{n}" for n in range(count)], [(7, f"k{n}") for n in range(count)])
    rows.close()
    assert [known.has(rows, f"i{n}") for n in range(count)] == [n % 2 == 0 for n in range(count)]
    assert [known.keyed(rows, 7, f"k{n}") for n in range(count)] == ["" if n % 2 else f"i{n}" for n in range(count)]
