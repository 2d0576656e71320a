"""The jobs that look for rows. They come before those of their batch that only gather, so that nothing has to be written before
they look: but what another one of them has gathered is."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Sequence

from gateway.asynchronous import forgetting
from gateway.asynchronous.calls import Call, State
from gateway.asynchronous.gathered import log_ends
from gateway.asynchronous.groups import seqs
from gateway.asynchronous.ledger import Ledger
from gateway.asynchronous.memory import NEVER, Queue, Running, Taken
from gateway.asynchronous.rows import (
    CANCELLED,
    DEAD,
    DUE_CALLS,
    KEPT_BYTES,
    STATES,
    WAITING,
    Kept,
    kept_bytes,
    microseconds,
    taken_call,
    unexpiring,
)
from gateway.asynchronous.store import Keep
from gateway.asynchronous.turns import deal, interleaved


def take(ledger: Ledger, connection: sqlite3.Connection, limit: Callable[[str], int], at_most: int, now: float) -> list[Call]:
    """See `Store.take`."""
    ledger.flush(connection)
    by = microseconds(now)
    room = {
        queue: free
        for queue in ledger.queues.values()
        if queue.waiting and queue.first_due <= by and (free := limit(queue.name) - queue.running) > 0
    }
    taken: dict[Queue, list[Call]] = {}
    left = at_most
    while room and left > 0:
        for queue, wanted in deal(room, left):
            calls = _take_of(ledger, connection, queue, wanted, by)
            taken.setdefault(queue, []).extend(calls)
            left -= len(calls)
            free = room.pop(queue) - len(calls)
            if free and queue.first_due <= by:
                room[queue] = free  # behind the others: one of them may have had nothing to give after all
    lists = list(taken.values())
    return lists[0] if len(lists) == 1 else interleaved(lists)


def cancel(
    ledger: Ledger, connection: sqlite3.Connection, call_id: str, now: float, then: Sequence[Kept]
) -> tuple[State, list[str]] | None:
    """Return the state before and the files that are of no more use. See `Store.cancel`."""
    ledger.flush(connection)
    row = connection.execute(
        "SELECT seq, queue, state, due, attempts, takes, length(head), ifnull(length(outcome), 0), body_size, body_file"
        " FROM calls WHERE id = ?",
        (call_id,),
    ).fetchone()
    if row is None:
        return None
    seq, number, state, due, attempts, takes, head_size, outcome_size, body_size, body_file = row
    if state != WAITING:
        return STATES[state], []
    queue = ledger.queues[number]
    running = ledger.running.pop(call_id, None)
    if running is not None:
        attempts, takes = running.attempts, running.take
        queue.running -= 1
        ledger.settle(running.taken)
    else:
        connection.execute("DELETE FROM waiting WHERE queue = ? AND due = ? AND seq = ?", (number, due, seq))
        queue.waiting -= 1
    at = microseconds(now)
    connection.execute(
        "UPDATE calls SET state = ?, ended = ?, attempts = ?, takes = ?, body = NULL, body_file = NULL WHERE seq = ?",
        (CANCELLED, at, attempts, takes, seq),
    )
    log_ends(connection, CANCELLED, at, [seq])
    queue.bytes -= head_size + body_size
    queue.kept += kept_bytes(CANCELLED, head_size, outcome_size, body_size, 0)
    ledger.gathered.touched.add(queue)
    if then:
        ledger.submit(connection, then, now, None)
    return State.RUNNING if running is not None else State.WAITING, [body_file] if body_file is not None else []


def replay(ledger: Ledger, connection: sqlite3.Connection, call_id: str, now: float) -> tuple[State, list[str]] | None:
    """Return the state before and the files that are of no more use. See `Store.replay`."""
    ledger.flush(connection)
    row = connection.execute("SELECT seq, state FROM calls WHERE id = ?", (call_id,)).fetchone()
    if row is None:
        return None
    seq, state = row
    if state == DEAD:
        return State.DEAD, _replay(ledger, connection, [seq], now)
    return State.RUNNING if call_id in ledger.running else STATES[state], []


def replay_all(ledger: Ledger, connection: sqlite3.Connection, name: str, now: float, at_most: int) -> tuple[int, list[str]]:
    """Return how many, and the files that are of no more use. See `Store.replay_all`."""
    ledger.flush(connection)
    queue = ledger.names.get(name)
    if queue is None or not queue.dead:
        return 0, []
    rows = connection.execute(
        "SELECT seq FROM calls WHERE queue = ? AND state = 3 ORDER BY seq LIMIT ?", (queue.number, at_most)
    ).fetchall()
    return len(rows), _replay(ledger, connection, [seq for (seq,) in rows], now)


def forget(ledger: Ledger, connection: sqlite3.Connection, now: float, keep: Keep) -> tuple[bool, list[str]]:
    """Delete ended calls whose time is over, and the oldest ones where they take too much space, a bounded number of them.
    Returns whether there may be more, and the files that are of no more use."""
    ledger.flush(connection)
    kept = sum(queue.kept for queue in ledger.queues.values())
    gone = forgetting.forget(connection, now, keep, kept)
    for number, size, dead in gone.counts:
        queue = ledger.queues[number]
        queue.kept -= size
        queue.dead -= dead
        ledger.gathered.touched.add(queue)
    ledger.known.clear()
    return gone.more, gone.files


def _take_of(ledger: Ledger, connection: sqlite3.Connection, queue: Queue, at_most: int, by: int) -> list[Call]:
    rows = connection.execute(DUE_CALLS, (queue.number, by, at_most)).fetchall()
    ledger.queues.move_to_end(queue.number)
    if not rows:
        queue.first_due = _first_due(connection, queue.number)
        return []
    calls = [taken_call(row, queue.name) for row in rows]
    last, due = rows[-1][:2]
    connection.execute("DELETE FROM waiting WHERE queue = ? AND (due, seq) <= (?, ?)", (queue.number, due, last))
    ledger.takes += 1
    taken = Taken(ledger.takes, len(rows))
    connection.execute(
        "INSERT INTO takes (number, calls) VALUES (?, ?)",
        (taken.number, seqs([number for row in rows for number in (row[0], row[4] + 1)])),
    )
    for seq, at, call_id, attempts, takes, _, head, _, body_size, _, body_file in rows:
        ledger.running[call_id] = Running(seq, queue, at, attempts + 1, takes + 1, len(head), body_size, body_file, taken)
    queue.waiting -= len(calls)
    queue.running += len(calls)
    # Where fewer came than were asked for, the next one is due later; else what was taken last is near enough.
    queue.first_due = due if len(rows) == at_most else _first_due(connection, queue.number)
    ledger.gathered.touched.add(queue)
    return calls


def _first_due(connection: sqlite3.Connection, number: int) -> int:
    """Return when the first waiting call of a queue is due; NEVER when none waits."""
    (first,) = connection.execute("SELECT min(due) FROM waiting WHERE queue = ?", (number,)).fetchone()
    return NEVER if first is None else int(first)


def _replay(ledger: Ledger, connection: sqlite3.Connection, numbers: Sequence[int], now: float) -> list[str]:
    files = []
    due = microseconds(now)
    for seq in numbers:
        number, head, kept, body_size, result_file = connection.execute(
            f"SELECT queue, head, {KEPT_BYTES}, body_size, result_file FROM calls WHERE seq = ?", (seq,)
        ).fetchone()
        connection.execute(
            "UPDATE calls SET state = 0, due = ?, head = ?, ended = NULL, attempts = 0, result_size = 0, result = NULL,"
            " result_file = NULL WHERE seq = ?",
            (due, unexpiring(head), seq),
        )
        connection.execute("INSERT INTO waiting (queue, due, seq) VALUES (?, ?, ?)", (number, due, seq))
        queue = ledger.queues[number]
        queue.dead -= 1
        queue.kept -= kept
        queue.waiting += 1
        queue.bytes += len(head) + body_size
        queue.first_due = min(queue.first_due, due)
        ledger.gathered.touched.add(queue)
        if result_file is not None:
            files.append(result_file)
    return files
