"""What jobs have decided and rows do not say yet: each kind of change is written for a whole group, by a statement or two.

The jobs of a batch work on what is in memory and add here; `write` brings it to the connection, before anything reads those
rows and at the end of the batch. A call is in at most one change at a time.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from typing import Final

from gateway.asynchronous.groups import ROWS, SEQS, Group, Layout, seqs, these
from gateway.asynchronous.memory import Queue, Running
from gateway.asynchronous.rows import DEAD, Kept

FULL_BYTES: Final = 64 << 20
"""With so much gathered it is time to write: SQLite takes a GB as a parameter."""

_NEW: Final = Layout(seq=int, id=str, queue=int, due=int, head=bytes, body_size=int, body=bytes)
_NEW_WHOLE: Final = Layout(seq=int, id=str, queue=int, due=int, head=bytes, body_size=int, body=bytes, key=str, body_file=str)
_ENDED: Final = Layout(seq=int, state=int, ended=int, attempts=int, takes=int, outcome=bytes, result_size=int, result=bytes)
_ENDED_WHOLE: Final = Layout(
    seq=int, state=int, ended=int, attempts=int, takes=int, outcome=bytes, result_size=int, result=bytes, result_file=str
)
_BACK: Final = Layout(seq=int, queue=int, due=int, attempts=int, takes=int, outcome=bytes)
_COUNTS: Final = Layout(number=int, waiting=int, running=int, dead=int, bytes=int, kept=int)


def _waits(layout: Layout) -> str:
    return f"{ROWS} INSERT INTO waiting SELECT {layout.select('queue, due, seq')} FROM r"


def _updated(layout: Layout, names: str, changes: str) -> str:
    return f"{ROWS} UPDATE calls SET {changes} FROM (SELECT {layout.select(names)} FROM r) AS new WHERE calls.seq = new.seq"


_COLUMNS: Final = "seq, id, queue, due, head, body_size, body"
_INSERT: Final = f"{ROWS} INSERT INTO calls ({_COLUMNS}) SELECT {_NEW.select(_COLUMNS)} FROM r"
_INSERT_WHOLE: Final = (
    f"{ROWS} INSERT INTO calls ({_COLUMNS}, key, body_file) SELECT {_NEW_WHOLE.select(_COLUMNS)},"
    f" nullif({_NEW_WHOLE.of['key']}, ''), nullif({_NEW_WHOLE.of['body_file']}, '') FROM r"
)
_ENDS: Final = "seq, state, ended, attempts, takes, outcome, result_size, result"
_END: Final = (
    "state = new.state, ended = new.ended, attempts = new.attempts, takes = new.takes, outcome = new.outcome,"
    f" result_size = new.result_size, result = new.result, body = CASE new.state WHEN {DEAD} THEN calls.body END"
)
_UPDATE: Final = _updated(_ENDED, _ENDS, _END)
_UPDATE_WHOLE: Final = _updated(
    _ENDED_WHOLE,
    f"{_ENDS}, result_file",
    f"{_END}, body_file = CASE new.state WHEN {DEAD} THEN calls.body_file END, result_file = nullif(new.result_file, '')",
)
_RETURN: Final = _updated(
    _BACK,
    "seq, due, attempts, takes, outcome",
    "due = new.due, attempts = new.attempts, takes = new.takes,"
    " outcome = CASE length(new.outcome) WHEN 0 THEN calls.outcome ELSE new.outcome END",
)
_COUNT: Final = (
    f"{ROWS} UPDATE queues SET waiting = new.waiting, running = new.running, dead = new.dead, bytes = new.bytes,"
    f" kept = new.kept FROM (SELECT {_COUNTS.select('number, waiting, running, dead, bytes, kept')} FROM r) AS new"
    " WHERE queues.number = new.number"
)
_FORGET_TAKES: Final = f"{ROWS} DELETE FROM takes WHERE number IN (SELECT {SEQS.of['seq']} FROM r)"
_NEW_WAITS, _NEW_WHOLE_WAITS, _BACK_WAITS = map(_waits, (_NEW, _NEW_WHOLE, _BACK))


class Gathered:
    """Changes to be written."""

    def __init__(self) -> None:
        self.touched: set[Queue] = set()
        """Queues whose counts have changed."""
        self.settled: list[int] = []
        """Records of `takes` that have nothing more to say."""
        self._new, self._new_whole, self._ended, self._ended_whole, self._back = (Group() for _ in range(5))
        self._ends: dict[int, list[tuple[int, int]]] = {}
        """By state the calls that have ended so, and when."""

    def new(self, seq: int, call_id: str, queue: int, due: int, kept: Kept) -> None:
        """A call is there, and waits."""
        key, head, body = kept.submission.idempotency_key, kept.head, kept.data or b""
        whole = key or kept.file is not None
        group = self._new_whole if whole else self._new
        name = call_id.encode()
        at = group.at
        head_at = at + len(name)
        body_at = head_at + len(head)
        group.at = end = body_at + len(body)
        group.pieces += (name, head, body)
        size = kept.size - len(head)
        row = (seq, at, len(name), queue, due, head_at, len(head), size, body_at, len(body))
        if whole:
            rest = (key.encode(), (kept.file or "").encode())
            group.pieces += rest
            group.at += len(rest[0]) + len(rest[1])
            row = (*row, end, len(rest[0]), end + len(rest[0]), len(rest[1]))  # type: ignore[assignment]
            group.numbers.append(_NEW_WHOLE.row % row)
        else:
            group.numbers.append(_NEW.row % row)

    def ended(
        self, running: Running, state: int, at: int, outcome: bytes, result_size: int, result: bytes, file: str | None
    ) -> None:
        """A call that ran has ended; its result is `result`, or in a file."""
        whole = file is not None or running.body_file is not None
        group = self._ended_whole if whole else self._ended
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
            group.numbers.append(_ENDED_WHOLE.row % (*row, end, len(name)))
        else:
            group.numbers.append(_ENDED.row % row)
        if state in self._ends:
            self._ends[state].append((at, seq))
        else:
            self._ends[state] = [(at, seq)]

    def back(self, running: Running, due: int, attempts: int, outcome: bytes) -> None:
        """A call that ran waits again; an empty `outcome` leaves the one that it has."""
        group = self._back
        group.numbers.append(
            _BACK.row % (running.seq, running.queue.number, due, attempts, running.take, group.at, len(outcome))
        )
        group.pieces.append(outcome)
        group.at += len(outcome)

    @property
    def full(self) -> bool:
        """Whether it is time to write."""
        return self._new.at + self._new_whole.at > FULL_BYTES

    def drop(self) -> None:
        """Forget what was gathered."""
        for group in (self._new, self._new_whole, self._ended, self._ended_whole, self._back):
            group.clear()
        self.touched.clear()
        self.settled.clear()
        self._ends.clear()

    def write(self, connection: sqlite3.Connection) -> None:
        """Bring everything to the connection, and be empty."""
        for group, statements in (
            (self._new, (_INSERT, _NEW_WAITS)),
            (self._new_whole, (_INSERT_WHOLE, _NEW_WHOLE_WAITS)),
            (self._ended, (_UPDATE,)),
            (self._ended_whole, (_UPDATE_WHOLE,)),
            (self._back, (_RETURN, _BACK_WAITS)),
        ):
            if group.numbers:
                parameters = group.parameters()
                for statement in statements:
                    connection.execute(statement, parameters)
        for state, ends in self._ends.items():
            log_ends(connection, state, max(ends)[0], [seq for _, seq in ends])
        if self.settled:
            connection.execute(_FORGET_TAKES, these(seqs(self.settled)))
        if self.touched:
            rows = [_COUNTS.row % (q.number, q.waiting, q.running, q.dead, q.bytes, q.kept) for q in self.touched]
            connection.execute(_COUNT, {"rows": len(rows), "numbers": b"".join(rows)})
        self.drop()


def log_ends(connection: sqlite3.Connection, state: int, at: int, numbers: Sequence[int]) -> None:
    """Write down which calls ended as what, the last of them `at`."""
    connection.execute("INSERT INTO ends (state, at, calls) VALUES (?, ?, ?)", (state, at, seqs(numbers)))
