"""What is read of `queue.db` beside its writer: calls by id, lists of them, and how late a queue is."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from typing import Final

from gateway.asynchronous.calls import DUE_COUNTED, Call
from gateway.asynchronous.groups import ROWS, SEQS, TOGETHER, seqs, seqs_of, these
from gateway.asynchronous.memory import Queue
from gateway.asynchronous.rows import CALL, CALL_WITHOUT_BODIES, RUNNING, STATES, WAITING, WAITS, call_of

_RUNNING: Final = (
    f"{ROWS} SELECT calls.seq, calls.queue FROM r CROSS JOIN calls ON calls.seq = {SEQS.of['seq']}"
    f" WHERE calls.state = {WAITING} AND calls.seq < :top AND NOT {WAITS}"
)


def one(connection: sqlite3.Connection, queues: Mapping[int, Queue], call_id: str) -> Call | None:
    """Return a call by its id."""
    row = connection.execute(f"{CALL} WHERE id = ?", (call_id,)).fetchone()
    return call_of(row, queues[row[1]].name) if row is not None else None


def page(
    connection: sqlite3.Connection,
    queues: Mapping[int, Queue],
    chosen: Sequence[int] | None,
    states: Sequence[int],
    limit: int,
    before: str,
) -> list[Call]:
    """Return the newest calls of the `chosen` queues (None: of all) in any of `states` (none: in whatever state), without
    their bodies; see `Store.page`."""
    connection.execute("BEGIN")  # all that is read is of one moment
    try:
        top = 1 << 62
        if before:
            row = connection.execute("SELECT seq FROM calls WHERE id = ?", (before,)).fetchone()
            if row is None:
                return []
            top = row[0]
        if chosen is None and not states:
            found = connection.execute("SELECT seq FROM calls WHERE seq < ? ORDER BY seq DESC LIMIT ?", (top, limit)).fetchall()
            newest = [seq for (seq,) in found]
        else:
            among = list(queues) if chosen is None else chosen
            newest = sorted(set(_standing(connection, among, states, limit, top)), reverse=True)[:limit]
        rows = (connection.execute(f"{CALL_WITHOUT_BODIES} WHERE seq = ?", (seq,)).fetchone() for seq in newest)
        return [call_of(row, queues[row[1]].name) for row in rows]
    finally:
        connection.execute("COMMIT")


def lateness(connection: sqlite3.Connection, number: int, by: int) -> tuple[float, int]:
    """Return when the first waiting call of a queue that is due `by` then became due (0: none is), and how many are due."""
    (first,) = connection.execute("SELECT min(due) FROM waiting WHERE queue = ?", (number,)).fetchone()
    if first is None or first > by:
        return 0.0, 0
    (due,) = connection.execute(
        "SELECT count(*) FROM (SELECT 1 FROM waiting WHERE queue = ? AND due <= ? LIMIT ?)", (number, by, DUE_COUNTED)
    ).fetchone()
    return first / 1e6, due


def _standing(
    connection: sqlite3.Connection, queues: Sequence[int], states: Sequence[int], limit: int, top: int
) -> Iterator[int]:
    """Yield the newest calls below `top` of each queue in each state."""
    wanted = set(states or range(len(STATES)))
    both = {WAITING, RUNNING} <= wanted  # each open call does one or the other
    if RUNNING in wanted and not both:
        yield from _running(connection, queues, top)
    for state in wanted - {RUNNING}:
        waits = f"AND {WAITS}" if state == WAITING and not both else ""
        for queue in queues:
            for (seq,) in connection.execute(
                f"SELECT seq FROM calls WHERE queue = ? AND state = ? AND seq < ? {waits} ORDER BY seq DESC LIMIT ?",
                (queue, state, top, limit),
            ):
                yield seq


def _running(connection: sqlite3.Connection, queues: Sequence[int], top: int) -> Iterator[int]:
    """Yield all calls below `top` that run, found among those that were taken."""
    taken = [seq for (packed,) in connection.execute("SELECT calls FROM takes").fetchall() for seq in seqs_of(packed)[::2]]
    for start in range(0, len(taken), TOGETHER):
        some = these(seqs(taken[start : start + TOGETHER]))
        for seq, queue in connection.execute(_RUNNING, {**some, "top": top}):
            if queue in queues:
                yield seq
