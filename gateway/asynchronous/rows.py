"""How `queue.db` is laid out, and how a call becomes a row and a row a call.

Indexes: `waiting` finds the next due call of a queue and holds nothing else; `standing` is for lists; `ended` for what is to be
forgotten. Ids grow with time, so the index of ids grows at its end.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, NamedTuple

import msgspec

from gateway.asynchronous.calls import Body, Call, Headers, Outcome, State, Submission
from orchestration.names import FunctionId

MIGRATIONS: Final = (
    """
    CREATE TABLE queues (
        number INTEGER PRIMARY KEY,
        name TEXT NOT NULL UNIQUE,
        waiting INTEGER NOT NULL DEFAULT 0,
        running INTEGER NOT NULL DEFAULT 0,
        dead INTEGER NOT NULL DEFAULT 0,
        bytes INTEGER NOT NULL DEFAULT 0,
        kept INTEGER NOT NULL DEFAULT 0
    );
    CREATE TABLE calls (
        seq INTEGER PRIMARY KEY,
        id TEXT NOT NULL UNIQUE,
        queue INTEGER NOT NULL,
        state INTEGER NOT NULL DEFAULT 0,
        submitted REAL NOT NULL,
        due REAL NOT NULL,
        expires REAL NOT NULL,
        ended REAL,
        attempts INTEGER NOT NULL DEFAULT 0,
        takes INTEGER NOT NULL DEFAULT 0,
        size INTEGER NOT NULL,
        key TEXT,
        request BLOB NOT NULL,
        outcome BLOB,
        body_size INTEGER NOT NULL,
        body BLOB,
        body_file TEXT,
        result_size INTEGER NOT NULL DEFAULT 0,
        result BLOB,
        result_file TEXT
    );
    CREATE INDEX waiting ON calls (queue, due) WHERE state = 0;
    CREATE INDEX standing ON calls (queue, state);
    CREATE INDEX ended ON calls (state, ended) WHERE ended IS NOT NULL;
    CREATE UNIQUE INDEX keys ON calls (queue, key) WHERE key IS NOT NULL;
    CREATE INDEX body_files ON calls (body_file) WHERE body_file IS NOT NULL;
    CREATE INDEX result_files ON calls (result_file) WHERE result_file IS NOT NULL;
    """,
)

WAITING, RUNNING, SUCCEEDED, DEAD, CANCELLED = range(5)
STATES: Final = (State.WAITING, State.RUNNING, State.SUCCEEDED, State.DEAD, State.CANCELLED)
NUMBERS: Final = {state: number for number, state in enumerate(STATES)}
NEVER: Final = float("inf")
_HEAD: Final = "SELECT id, queue, state, submitted, due, expires, ended, attempts, takes, key, request, outcome, body_size,"
CALL: Final = f"{_HEAD} body, body_file, result_size, result, result_file, seq, size FROM calls"
"""What `call_of` reads."""
CALL_WITHOUT_BODIES: Final = f"{_HEAD} NULL, NULL, result_size, NULL, NULL FROM calls"


class Request(msgspec.Struct, frozen=True, array_like=True):
    """What is kept of a submission in one piece."""

    namespace: str
    name: str
    method: str
    path: str
    headers: Headers
    url: str


Stored = tuple[int, bytes | None, str | None]
"""A body as a row has it: its length, itself or the name of its file."""


class Kept(NamedTuple):
    """A submission as its row has it: `data` or the name of a file."""

    submission: Submission
    request: bytes
    size: int
    data: bytes | None
    file: str | None


def call_of(row: Sequence[Any], queue: str, *, taken: bool = False) -> Call:
    """Make a call of a row in `queue`: CALL, or CALL_WITHOUT_BODIES; `taken` since the row was read."""
    (call_id, _, state, submitted, due, expires, ended, attempts, takes, key, request, outcome) = row[:12]
    kept = _decode_request(request)
    return Call(
        id=call_id,
        queue=queue,
        function=FunctionId(kept.namespace, kept.name),
        state=State.RUNNING if taken else STATES[state],
        method=kept.method,
        path=kept.path,
        headers=kept.headers,
        url=kept.url,
        body=_body(*row[12:15]),
        submitted=submitted,
        due=due,
        expires=expires,
        ended=ended or 0.0,
        attempts=attempts + taken,
        takes=takes + taken,
        idempotency_key=key or "",
        outcome=_decode_outcome(outcome) if outcome is not None else None,
        result=_body(*row[15:18]),
    )


_decode_request = msgspec.msgpack.Decoder(Request).decode
_decode_outcome = msgspec.msgpack.Decoder(Outcome).decode
_encode = msgspec.msgpack.Encoder().encode


def encoded_request(wanted: Submission) -> bytes:
    """Return what is kept of a submission in one piece."""
    return _encode(Request(*wanted.function, wanted.method, wanted.path, wanted.headers, wanted.url))


def encoded_outcome(outcome: Outcome) -> bytes:
    """Return an outcome as its row has it."""
    return _encode(outcome)


def _body(size: int, data: bytes | None, file: str | None) -> Body:
    if data is None and not file and not size:
        return Body()
    return Body(size, data, file or "")
