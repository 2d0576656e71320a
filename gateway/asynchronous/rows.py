"""How a call becomes a row of `queue.db` (see `schema`) and a row a call."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import msgspec

from gateway.asynchronous.calls import Body, Call, Headers, Outcome, State, Submission
from orchestration.names import FunctionId

WAITING, RUNNING, SUCCEEDED, DEAD, CANCELLED = range(5)
STATES: Final = (State.WAITING, State.RUNNING, State.SUCCEEDED, State.DEAD, State.CANCELLED)
NUMBERS: Final = {state: number for number, state in enumerate(STATES)}
LAST_TIME: Final = 10**16 - 1

ROW_BYTES: Final = 256
"""What a call takes in the file and its indexes besides its request, bodies and outcome."""
KEPT_BYTES: Final = (
    f"{ROW_BYTES} + length(head) + ifnull(length(outcome), 0) + result_size + CASE state WHEN {DEAD} THEN body_size ELSE 0 END"
)
"""What an ended call takes, as SQL; `kept_bytes` is the same."""

WAITS: Final = (
    "EXISTS (SELECT 1 FROM waiting WHERE waiting.queue = calls.queue AND waiting.due = calls.due AND waiting.seq = calls.seq)"
)
_HEAD: Final = f"SELECT id, queue, state, state = 0 AND {WAITS}, due, ended, attempts, takes, key, head, outcome, body_size,"
CALL: Final = f"{_HEAD} body, body_file, result_size, result, result_file FROM calls"
"""What `call_of` reads."""
CALL_WITHOUT_BODIES: Final = f"{_HEAD} NULL, NULL, result_size, NULL, NULL FROM calls"
DUE_CALLS: Final = (
    "SELECT seq, waiting.due, id, attempts, takes, key, head, outcome, body_size, body, body_file"
    " FROM waiting CROSS JOIN calls USING (seq) WHERE waiting.queue = ? AND waiting.due <= ?"
    " ORDER BY waiting.due, seq LIMIT ?"
)
"""What `taken_call` reads."""


class Request(msgspec.Struct, frozen=True, array_like=True):
    """What is kept of a submission in one piece."""

    namespace: str
    name: str
    method: str
    path: str
    headers: Headers
    url: str


class Head(Request, frozen=True, array_like=True):
    """What a row, or an entry in Redis, has of a call in one piece: what nobody searches by, and what does not change."""

    submitted: float
    expires: float


Stored = tuple[int, bytes | None, str | None]
"""A body as a row has it: its length, itself or the name of its file."""


class Kept(msgspec.Struct, frozen=True):
    """A submission as its row has it: `data` or the name of a file. `size` is of head and body."""

    submission: Submission
    head: bytes
    size: int
    data: bytes | None
    file: str | None


def microseconds(time: float) -> int:
    """Return a time as rows have it. The order of times is kept: what is due by now is due by `microseconds(now)`."""
    return min(round(time * 1e6), LAST_TIME)


def kept_bytes(state: int, head_size: int, outcome_size: int, body_size: int, result_size: int) -> int:
    """Return what an ended call takes, its request's body only where it is dead: others are not carried out again."""
    return ROW_BYTES + head_size + outcome_size + result_size + (body_size if state == DEAD else 0)


def call_of(row: Sequence[Any], queue: str) -> Call:
    """Make a call of a row in `queue`: CALL, or CALL_WITHOUT_BODIES."""
    (call_id, _, state, waits, due, ended, attempts, takes, key, head, outcome) = row[:11]
    kept = decode_head(head)
    runs = state == WAITING and not waits
    return Call(
        id=call_id,
        queue=queue,
        function=FunctionId(kept.namespace, kept.name),
        state=State.RUNNING if runs else STATES[state],
        method=kept.method,
        path=kept.path,
        headers=kept.headers,
        url=kept.url,
        body=_body(*row[11:14]),
        submitted=kept.submitted,
        due=due / 1e6,
        expires=kept.expires,
        ended=ended / 1e6 if ended is not None else 0.0,
        attempts=attempts + runs,
        takes=takes + runs,
        idempotency_key=key or "",
        outcome=decode_outcome(outcome) if outcome is not None else None,
        result=_body(*row[14:17]),
    )


def taken_call(row: Sequence[Any], queue: str) -> Call:
    """Make a call that runs of a row of DUE_CALLS."""
    (_, due, call_id, attempts, takes, key, head, outcome, body_size, body, body_file) = row
    kept = decode_head(head)
    return Call(
        id=call_id,
        queue=queue,
        function=FunctionId(kept.namespace, kept.name),
        state=State.RUNNING,
        method=kept.method,
        path=kept.path,
        headers=kept.headers,
        url=kept.url,
        body=_body(body_size, body, body_file),
        submitted=kept.submitted,
        due=due / 1e6,
        expires=kept.expires,
        attempts=attempts + 1,
        takes=takes + 1,
        idempotency_key=key or "",
        outcome=decode_outcome(outcome) if outcome is not None else None,
    )


decode_head = msgspec.msgpack.Decoder(Head).decode
_decode_request = msgspec.msgpack.Decoder(Request).decode
decode_outcome = msgspec.msgpack.Decoder(Outcome).decode
_encode = msgspec.msgpack.Encoder().encode


def encoded_request(wanted: Submission) -> bytes:
    """Return what is kept of a submission in one piece."""
    return _encode(Request(*wanted.function, wanted.method, wanted.path, wanted.headers, wanted.url))


def encoded_head(wanted: Submission, submitted: float) -> bytes:
    """Return the head of a submission. Raises UnicodeEncodeError, also where its id or key is no text that can be kept."""
    if wanted.id or wanted.idempotency_key:
        _ = wanted.id.encode(), wanted.idempotency_key.encode()
    namespace, name = wanted.function
    return _encode((namespace, name, wanted.method, wanted.path, wanted.headers, wanted.url, submitted, wanted.expires))


def reheaded(request: bytes, submitted: float, expires: float) -> bytes:
    """Return the head of a call of schema 1."""
    return _encode((*msgspec.structs.astuple(_decode_request(request)), submitted, expires))


def submitted_at(head: bytes) -> float:
    """Return when the call of a head was submitted."""
    return decode_head(head).submitted


def unexpiring(head: bytes) -> bytes:
    """Return a head without an expiry; it is as long."""
    return _encode(msgspec.structs.replace(decode_head(head), expires=0.0))


def encoded_outcome(outcome: Outcome) -> bytes:
    """Return an outcome as its row has it."""
    return _encode(outcome)


def _body(size: int, data: bytes | None, file: str | None) -> Body:
    if file:
        return Body(size, None, file)
    if data is None and not size:
        return Body()
    return Body(size, data)
