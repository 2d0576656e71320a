"""What jobs have decided and rows do not say yet: each kind of change is written for a whole group, by a statement or two.

The jobs of a batch work on what is in memory and add here; `write` brings it to the connection, before anything reads those
rows and at the end of the batch. A call is in at most one change at a time.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from typing import Final, TypeVar

import msgspec

from gateway.asynchronous.groups import ROWS, SEQS, TOGETHER, Layout, given, seqs
from gateway.asynchronous.memory import Queue
from gateway.asynchronous.rows import DEAD

Row = TypeVar("Row")


class New(msgspec.Struct, frozen=True, gc=False):
    """A call that waits and has no row yet; `body` is empty where it is in `file`."""

    seq: int
    id: str
    queue: int
    due: int
    key: str
    head: bytes
    body_size: int
    body: bytes
    file: str | None


class Ended(msgspec.Struct, frozen=True, gc=False):
    """A call that ran and has ended. `filed` where its request's body is a file."""

    seq: int
    state: int
    at: int
    attempts: int
    takes: int
    outcome: bytes
    result_size: int
    result: bytes
    file: str | None
    filed: bool


class Back(msgspec.Struct, frozen=True, gc=False):
    """A call that ran and waits again; an empty `outcome` leaves the one that it has."""

    seq: int
    queue: int
    due: int
    attempts: int
    takes: int
    outcome: bytes


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


class Gathered:
    """Changes to be written. Their lists are added to from outside."""

    def __init__(self) -> None:
        self.new: list[New] = []
        self.ended: list[Ended] = []
        self.back: list[Back] = []
        self.settled: list[int] = []
        """Records of `takes` that have nothing more to say."""
        self.touched: set[Queue] = set()
        """Queues whose counts have changed."""

    def drop(self) -> None:
        """Forget what was gathered."""
        for changes in (self.new, self.ended, self.back, self.settled, self.touched):
            changes.clear()

    def write(self, connection: sqlite3.Connection) -> None:
        """Bring everything to the connection, and be empty."""
        for new in _pieces(self.new):
            _insert(connection, new)
        for ended in _pieces(self.ended):
            _end(connection, ended)
        for back in _pieces(self.back):
            _return(connection, back)
        for settled in _pieces(self.settled):
            connection.execute(_FORGET_TAKES, given(seqs(settled), 1))
        for touched in _pieces(list(self.touched)):
            counts = b"".join([_COUNTS.row % (q.number, q.waiting, q.running, q.dead, q.bytes, q.kept) for q in touched])
            connection.execute(_COUNT, given(counts, 6))
        self.drop()


def log_ends(connection: sqlite3.Connection, state: int, at: int, numbers: Sequence[int]) -> None:
    """Write down which calls ended as what, the last of them `at`."""
    connection.execute("INSERT INTO ends (state, at, calls) VALUES (?, ?, ?)", (state, at, seqs(numbers)))


def _insert(connection: sqlite3.Connection, rows: Sequence[New]) -> None:
    whole = any(new.key or new.file for new in rows)
    layout = _NEW_WHOLE if whole else _NEW
    row = layout.row
    numbers: list[bytes] = []
    pieces: list[bytes] = []
    rest: tuple[int, ...] = ()
    at = 1
    for new in rows:
        name, head, body = new.id.encode(), new.head, new.body
        head_at = at + len(name)
        body_at = head_at + len(head)
        end = body_at + len(body)
        pieces += (name, head, body)
        if whole:
            key, file = new.key.encode(), (new.file or "").encode()
            pieces += (key, file)
            rest = (end, len(key), end + len(key), len(file))
            end += len(key) + len(file)
        numbers.append(
            row
            % (
                new.seq,
                at,
                len(name),
                new.queue,
                new.due,
                head_at,
                len(head),
                new.body_size,
                body_at,
                len(body),
                *rest,
            )
        )
        at = end
    parameters = given(b"".join(numbers), layout.width, pieces)
    connection.execute(_INSERT_WHOLE if whole else _INSERT, parameters)
    connection.execute(_waits_of[layout], parameters)


def _end(connection: sqlite3.Connection, rows: Sequence[Ended]) -> None:
    whole = any(end.file or end.filed for end in rows)
    layout = _ENDED_WHOLE if whole else _ENDED
    row = layout.row
    numbers: list[bytes] = []
    pieces: list[bytes] = []
    rest: tuple[int, ...] = ()
    together: dict[int, list[Ended]] = {}
    at = 1
    for end in rows:
        outcome, result = end.outcome, end.result
        result_at = at + len(outcome)
        next_at = result_at + len(result)
        pieces += (outcome, result)
        if whole:
            file = (end.file or "").encode()
            pieces.append(file)
            rest = (next_at, len(file))
            next_at += len(file)
        numbers.append(
            row
            % (
                end.seq,
                end.state,
                end.at,
                end.attempts,
                end.takes,
                at,
                len(outcome),
                end.result_size,
                result_at,
                len(result),
                *rest,
            )
        )
        together.setdefault(end.state, []).append(end)
        at = next_at
    connection.execute(_UPDATE_WHOLE if whole else _UPDATE, given(b"".join(numbers), layout.width, pieces))
    for state, ends in together.items():
        log_ends(connection, state, max([end.at for end in ends]), [end.seq for end in ends])


def _return(connection: sqlite3.Connection, rows: Sequence[Back]) -> None:
    pieces: list[bytes] = []
    numbers: list[bytes] = []
    at = 1
    for back in rows:
        outcome = back.outcome
        numbers.append(_BACK.row % (back.seq, back.queue, back.due, back.attempts, back.takes, at, len(outcome)))
        pieces.append(outcome)
        at += len(outcome)
    parameters = given(b"".join(numbers), _BACK.width, pieces)
    connection.execute(_RETURN, parameters)
    connection.execute(_waits_of[_BACK], parameters)


_waits_of: Final = {layout: _waits(layout) for layout in (_NEW, _NEW_WHOLE, _BACK)}


def _pieces(rows: Sequence[Row]) -> Iterator[Sequence[Row]]:
    """Yield the rows, as many at a time as a statement writes."""
    for start in range(0, len(rows), TOGETHER):
        yield rows[start : start + TOGETHER]
