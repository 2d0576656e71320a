"""What goes into a group comes out of it in SQLite, whatever it is."""

from __future__ import annotations

import sqlite3

from hypothesis import given
from hypothesis import strategies as st

from gateway.asynchronous.groups import ROWS, SEQS, Group, Layout, seqs, seqs_of, these

LAYOUT = Layout(first=int, text=str, last=int, data=bytes)
READ = f"{ROWS} SELECT {LAYOUT.select('data, first, last, text')} FROM r"
numbers = st.integers(0, 10**16 - 1)
texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)


@given(st.lists(st.tuples(numbers, texts, numbers, st.binary(max_size=20)), min_size=1, max_size=20))
def test_rows_come_out_as_they_went_in(rows: list[tuple[int, str, int, bytes]]) -> None:
    group = Group()
    for first, text, last, data in rows:
        encoded = text.encode()
        group.numbers.append(
            LAYOUT.row % (first, group.at, len(encoded), last, group.at + len(encoded), len(data)),
        )
        group.pieces += (encoded, data)
        group.at += len(encoded) + len(data)
    connection = sqlite3.connect(":memory:")
    found = connection.execute(READ, group.parameters()).fetchall()
    assert found == [(data, first, last, text) for first, text, last, data in rows]
    connection.close()
    group.clear()
    assert (group.numbers, group.pieces, group.at) == ([], [], 1)


@given(st.lists(numbers, min_size=1, max_size=50))
def test_numbers_are_read_by_sqlite_and_here(wanted: list[int]) -> None:
    packed = seqs(wanted)
    assert seqs_of(packed) == wanted
    connection = sqlite3.connect(":memory:")
    found = connection.execute(f"{ROWS} SELECT {SEQS.of['seq']} FROM r", these(packed))
    assert [seq for (seq,) in found] == wanted
    connection.close()
