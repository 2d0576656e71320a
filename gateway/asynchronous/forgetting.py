"""How ended calls are forgotten: in the order in which they ended, by the records of `ends`, a record at a time."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from typing import Final, NamedTuple

from gateway.asynchronous.groups import DIGITS, ROWS, SEQS, seqs, seqs_of, these
from gateway.asynchronous.rows import CANCELLED, DEAD, KEPT_BYTES, LAST_TIME, SUCCEEDED, microseconds
from gateway.asynchronous.store import Keep

AT_ONCE: Final = 500

# A dead call may have been replayed since, and have ended once more: then another record has it.
_THESE: Final = f"FROM calls WHERE seq IN (SELECT {SEQS.of['seq']} FROM r) AND state = :state AND ended <= :at"
_COUNTED: Final = f"{ROWS} SELECT queue, sum({KEPT_BYTES}), count(*) {_THESE} GROUP BY queue"
_FILED: Final = f"{ROWS} SELECT body_file, result_file {_THESE} AND (body_file IS NOT NULL OR result_file IS NOT NULL)"
_DELETED: Final = f"{ROWS} DELETE {_THESE}"
_SIZES: Final = f"{ROWS} SELECT seq, {KEPT_BYTES} {_THESE}"


class Gone(NamedTuple):
    """What was forgotten: by queue its number, bytes and dead calls; the files that are of no more use; whether there may be
    more to forget."""

    counts: list[tuple[int, int, int]]
    files: list[str]
    more: bool


class _Record(NamedTuple):
    number: int
    at: int
    calls: bytes


def forget(connection: sqlite3.Connection, now: float, keep: Keep, kept: int) -> Gone:
    """Delete ended calls whose time is over, else the oldest ones where all of them, which take `kept` bytes, take too many;
    about AT_ONCE of them."""
    gone = Gone([], [], False)
    left = AT_ONCE
    for state, time in ((SUCCEEDED, now - keep.ended_s), (CANCELLED, now - keep.ended_s), (DEAD, now - keep.dead_s)):
        by = microseconds(time)
        if left > 0 and (records := _oldest(connection, state, by, left)):
            calls = b"".join([record.calls for record in records])
            left -= len(calls) // DIGITS
            _delete(connection, state, by, calls, gone)
            _strike(connection, records)
    if left < AT_ONCE:
        return gone._replace(more=left <= 0)
    excess = kept - keep.bytes
    for state in (SUCCEEDED, CANCELLED, DEAD):
        if excess > 0 and left > 0 and (records := _oldest(connection, state, LAST_TIME, left)):
            count, size = _enough(connection, state, records, excess)
            excess -= size
            left -= count
            calls = b"".join([record.calls for record in records])[: count * DIGITS]
            _delete(connection, state, records[-1].at, calls, gone)
            _strike(connection, records, count)
    return gone._replace(more=left <= 0)


def _oldest(connection: sqlite3.Connection, state: int, by: int, calls: int) -> list[_Record]:
    """Return the oldest records until `by` that have so many calls together."""
    records = []
    for row in connection.execute(
        "SELECT number, at, calls FROM ends WHERE state = ? AND at <= ? ORDER BY at, number", (state, by)
    ):
        records.append(_Record(*row))
        calls -= len(records[-1].calls) // DIGITS
        if calls <= 0:
            break
    return records


def _enough(connection: sqlite3.Connection, state: int, records: Sequence[_Record], excess: int) -> tuple[int, int]:
    """Return how many calls of the records, the first ones, take `excess` bytes, and what they take."""
    numbers = [number for record in records for number in seqs_of(record.calls)]
    parameters = {**these(seqs(numbers)), "state": state, "at": records[-1].at}
    sizes = dict(connection.execute(_SIZES, parameters).fetchall())
    size = 0
    for count, number in enumerate(numbers):
        if size >= excess:
            return count, size
        size += sizes.pop(number, 0)
    return len(numbers), size


def _delete(connection: sqlite3.Connection, state: int, at: int, calls: bytes, gone: Gone) -> None:
    """Delete those of the calls that have ended as `state` until `at`."""
    parameters = {**these(calls), "state": state, "at": at}
    counts = connection.execute(_COUNTED, parameters).fetchall()
    gone.counts.extend((queue, size, count if state == DEAD else 0) for queue, size, count in counts)
    gone.files.extend(name for row in connection.execute(_FILED, parameters).fetchall() for name in row if name is not None)
    connection.execute(_DELETED, parameters)


def _strike(connection: sqlite3.Connection, records: Sequence[_Record], calls: int | None = None) -> None:
    """Delete records, or as much of them as their first `calls` calls are."""
    for number, _, packed in records:
        size = len(packed) if calls is None else min(calls * DIGITS, len(packed))
        if size == len(packed):
            connection.execute("DELETE FROM ends WHERE number = ?", (number,))
        elif size:
            connection.execute("UPDATE ends SET calls = ? WHERE number = ?", (packed[size:], number))
        if calls is not None:
            calls -= size // DIGITS
