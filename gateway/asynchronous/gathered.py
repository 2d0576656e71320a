"""What jobs have decided and rows do not say yet: all of a batch is written by one statement.

The jobs of a batch work on what is in memory and add here; `write` brings it to the connection. The statement is an INSERT into
a view that holds nothing: its triggers insert, update and delete, each for the group of one kind of change. So a batch of
nothing else is begun, written and committed in one step, and the writer's thread waits once for the interpreter.

A call is in at most one change at a time.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from typing import Any, Final

from gateway.asynchronous.groups import Group, Layout, seqs
from gateway.asynchronous.memory import Queue, Running
from gateway.asynchronous.rows import DEAD, Kept

FULL: Final = 2048
FULL_BYTES: Final = 64 << 20
"""With so many changes gathered it is time to write: SQLite takes a GB as a parameter."""
MOST: Final = 4096
"""Rows of a group at most: a batch adds less than 2,048 to what was not yet full."""

_NEW: Final = Layout("NEW.new_", seq=int, id=str, queue=int, due=int, head=bytes, body_size=int, body=bytes)
_WHOLE: Final = Layout(
    "NEW.whole_", seq=int, id=str, queue=int, due=int, head=bytes, body_size=int, body=bytes, key=str, body_file=str
)
_ENDED: Final = Layout(
    "NEW.ended_", seq=int, state=int, ended=int, attempts=int, takes=int, outcome=bytes, result_size=int, result=bytes
)
_FILED: Final = Layout(
    "NEW.filed_",
    seq=int,
    state=int,
    ended=int,
    attempts=int,
    takes=int,
    outcome=bytes,
    result_size=int,
    result=bytes,
    result_file=str,
)
_BACK: Final = Layout("NEW.back_", seq=int, queue=int, due=int, attempts=int, takes=int, outcome=bytes)
_LOGGED: Final = Layout("NEW.logged_", state=int, at=int, calls=bytes)
_SETTLED: Final = Layout("NEW.settled_", number=int)
_COUNTED: Final = Layout("NEW.counted_", number=int, name=str, waiting=int, running=int, dead=int, bytes=int, kept=int)

_COLUMNS: Final = "seq, id, queue, due, head, body_size, body"
_WAITS: Final = "INSERT INTO waiting (queue, due, seq) SELECT"
_ENDS: Final = "seq, state, ended, attempts, takes, outcome, result_size, result"
_END: Final = (
    "state = ended.state, ended = ended.ended, attempts = ended.attempts, takes = ended.takes, outcome = ended.outcome,"
    " result_size = ended.result_size, result = ended.result,"
    f" body = CASE ended.state WHEN {DEAD} THEN calls.body END"
)

_WRITTEN: Final = {
    "new": f"""
        INSERT INTO calls ({_COLUMNS}) SELECT {_NEW.select(_COLUMNS)} FROM r WHERE i < NEW.new_rows;
        {_WAITS} {_NEW.select("queue, due, seq")} FROM r WHERE i < NEW.new_rows;
        """,
    "whole": f"""
        INSERT INTO calls ({_COLUMNS}, key, body_file)
            SELECT {_WHOLE.select(_COLUMNS)}, nullif({_WHOLE.of["key"]}, ''), nullif({_WHOLE.of["body_file"]}, '')
            FROM r WHERE i < NEW.whole_rows;
        {_WAITS} {_WHOLE.select("queue, due, seq")} FROM r WHERE i < NEW.whole_rows;
        """,
    "ended": f"""
        UPDATE calls SET {_END} FROM (SELECT {_ENDED.select(_ENDS)} FROM r WHERE i < NEW.ended_rows) AS ended
            WHERE calls.seq = ended.seq;
        """,
    "filed": f"""
        UPDATE calls SET {_END}, body_file = CASE ended.state WHEN {DEAD} THEN calls.body_file END,
                result_file = nullif(ended.result_file, '')
            FROM (SELECT {_FILED.select(f"{_ENDS}, result_file")} FROM r WHERE i < NEW.filed_rows) AS ended
            WHERE calls.seq = ended.seq;
        """,
    "back": f"""
        UPDATE calls SET due = back.due, attempts = back.attempts, takes = back.takes,
                outcome = CASE length(back.outcome) WHEN 0 THEN calls.outcome ELSE back.outcome END
            FROM (SELECT {_BACK.select("seq, due, attempts, takes, outcome")} FROM r WHERE i < NEW.back_rows) AS back
            WHERE calls.seq = back.seq;
        {_WAITS} {_BACK.select("queue, due, seq")} FROM r WHERE i < NEW.back_rows;
        """,
    "logged": f"""
        INSERT INTO ends (state, at, calls) SELECT {_LOGGED.select("state, at, calls")} FROM r WHERE i < NEW.logged_rows;
        """,
    "settled": f"""
        DELETE FROM takes WHERE number IN (SELECT {_SETTLED.of["number"]} FROM r WHERE i < NEW.settled_rows);
        """,
    "counted": f"""
        INSERT INTO queues (number, name, waiting, running, dead, bytes, kept)
            SELECT {_COUNTED.select("number, name, waiting, running, dead, bytes, kept")} FROM r WHERE i < NEW.counted_rows
            ON CONFLICT (number) DO UPDATE SET waiting = excluded.waiting, running = excluded.running, dead = excluded.dead,
                bytes = excluded.bytes, kept = excluded.kept;
        """,
}
_GIVEN: Final = [f"{kind}_{part}" for kind in _WRITTEN for part in ("rows", "numbers", "bytes")]
_WRITE: Final = f"INSERT INTO batch ({', '.join(_GIVEN)}) VALUES ({', '.join(f':{name}' for name in _GIVEN)})"
_NOTHING: Final = dict.fromkeys(_GIVEN, 0)


def prepare(connection: sqlite3.Connection) -> None:
    """Give a connection what `Gathered.write` needs; it is the connection's own."""
    connection.execute("PRAGMA temp_store = MEMORY")
    connection.execute("CREATE TEMP TABLE r (i INTEGER PRIMARY KEY)")
    connection.execute(
        "WITH RECURSIVE numbers (i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM numbers WHERE i < ? - 1)"
        " INSERT INTO r SELECT i FROM numbers",
        (MOST,),
    )
    connection.execute(f"CREATE TEMP VIEW batch AS SELECT {', '.join(f'NULL AS {name}' for name in _GIVEN)}")
    for kind, statements in _WRITTEN.items():
        connection.execute(
            f"CREATE TEMP TRIGGER {kind}_written INSTEAD OF INSERT ON batch WHEN NEW.{kind}_rows > 0 BEGIN {statements} END"
        )


class Gathered:
    """Changes to be written."""

    def __init__(self) -> None:
        self.touched: set[Queue] = set()
        """Queues that are new, or whose counts have changed."""
        self.settled: list[int] = []
        """Records of `takes` that have nothing more to say."""
        self._groups = {kind: Group() for kind in _WRITTEN}
        self._new, self._ended = self._groups["new"], self._groups["ended"]
        self._ends: dict[int, list[tuple[int, int]]] = {}
        """By state the calls that have ended so: when, and which."""
        self._count = 0

    def new(self, seq: int, call_id: str, queue: int, due: int, kept: Kept) -> None:
        """A call is there, and waits."""
        head, body = kept.head, kept.data or b""
        key, file = kept.submission.idempotency_key, kept.file
        whole = key or file is not None
        group = self._groups["whole"] if whole else self._new
        name = call_id.encode()
        key_name, file_name = key.encode(), (file or "").encode()
        at = group.at
        head_at = at + len(name)
        body_at = head_at + len(head)
        group.at = end = body_at + len(body)
        group.pieces += (name, head, body)
        size = kept.size - len(head)
        row = (seq, at, len(name), queue, due, head_at, len(head), size, body_at, len(body))
        if whole:
            group.pieces += (key_name, file_name)
            group.at += len(key_name) + len(file_name)
            group.numbers.append(_WHOLE.row % (*row, end, len(key_name), end + len(key_name), len(file_name)))
        else:
            group.numbers.append(_NEW.row % row)
        self._count += 1

    def ended(
        self, running: Running, state: int, at: int, outcome: bytes, result_size: int, result: bytes, file: str | None
    ) -> None:
        """A call that ran has ended; its result is `result`, or in a file."""
        whole = file is not None or running.body_file is not None
        group = self._groups["filed"] if whole else self._ended
        outcome_at = group.at
        result_at = outcome_at + len(outcome)
        group.at = end = result_at + len(result)
        group.pieces += (outcome, result)
        seq, size = running.seq, len(outcome)
        row = (seq, state, at, running.attempts, running.take, outcome_at, size, result_size, result_at, len(result))
        if whole:
            name = (file or "").encode()
            group.pieces.append(name)
            group.at += len(name)
            group.numbers.append(_FILED.row % (*row, end, len(name)))
        else:
            group.numbers.append(_ENDED.row % row)
        if state in self._ends:
            self._ends[state].append((at, seq))
        else:
            self._ends[state] = [(at, seq)]
        self._count += 1

    def back(self, running: Running, due: int, attempts: int, outcome: bytes) -> None:
        """A call that ran waits again; an empty `outcome` leaves the one that it has."""
        group = self._groups["back"]
        row = (running.seq, running.queue.number, due, attempts, running.take, *group.put(outcome))
        group.numbers.append(_BACK.row % row)
        self._count += 1

    @property
    def any(self) -> bool:
        """Whether there is anything to write."""
        return bool(self._count or self.touched or self.settled)

    @property
    def full(self) -> bool:
        """Whether it is time to write."""
        return self._count >= FULL or self._new.at + self._groups["whole"].at > FULL_BYTES

    def drop(self) -> None:
        """Forget what was gathered."""
        for group in self._groups.values():
            if group.numbers:
                group.clear()
        self.touched.clear()
        self.settled.clear()
        self._ends.clear()
        self._count = 0

    def write(self, connection: sqlite3.Connection) -> None:
        """Bring everything to the connection, and be empty."""
        logged, settled, counted = (self._groups[kind] for kind in ("logged", "settled", "counted"))
        for state, ends in self._ends.items():
            calls = seqs([seq for _, seq in ends])
            logged.numbers.append(_LOGGED.row % (state, max(ends)[0], *logged.put(calls)))
        settled.numbers += [_SETTLED.row % number for number in self.settled]
        for q in self.touched:
            row = (q.number, *counted.put(q.name.encode()), q.waiting, q.running, q.dead, q.bytes, q.kept)
            counted.numbers.append(_COUNTED.row % row)
        given: dict[str, Any] = {}
        for kind, group in self._groups.items():
            if group.numbers:
                given[f"{kind}_rows"] = len(group.numbers)
                given[f"{kind}_numbers"] = b"".join(group.numbers)
                given[f"{kind}_bytes"] = group.joined()
        self.drop()
        if given:
            connection.execute(_WRITE, _NOTHING | given)


def log_ends(connection: sqlite3.Connection, state: int, at: int, numbers: Sequence[int]) -> None:
    """Write down which calls ended as what, the last of them `at`."""
    connection.execute("INSERT INTO ends (state, at, calls) VALUES (?, ?, ?)", (state, at, seqs(numbers)))
