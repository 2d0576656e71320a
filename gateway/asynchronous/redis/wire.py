"""How operations go to `calls.lua`, and how its answers come back."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Final

import msgspec

from gateway.asynchronous.calls import Body, Call, Depth, Outcome, Submission, new_id
from gateway.asynchronous.rows import STATES, Request, encoded_request
from orchestration.names import FunctionId

CALL_FIELDS: Final = 18
SMALL_BYTES: Final = 1024
"""A body of at most this many bytes is in the stream, with its request, and stays there until the call is forgotten; a longer
one is a key of its own, which goes when the call has ended."""

_encode = msgspec.msgpack.Encoder().encode
_decode_request = msgspec.msgpack.Decoder(Request).decode
_decode_outcome = msgspec.msgpack.Decoder(Outcome).decode

Entry = tuple[str, str, str, str, float, float, msgspec.Raw, int, msgspec.Raw, str]
"""A submission for `calls.lua`: queue, id, another one if the client chose the first, idempotency key, due, expiry, request,
size of the body, its bytes if they come along, where it is kept if that is not the stream."""


def blob(data: bytes) -> msgspec.Raw:
    """Return bytes as msgpack's str 32: Redis's decoder is older than the type for bytes, and its strings are bytes."""
    return msgspec.Raw(b"\xdb" + len(data).to_bytes(4, "big") + data)


def operation(name: str, *values: Any) -> bytes:
    """Return an operation as an argument of the script."""
    return _encode((name, *values))


def entry_of(wanted: Submission, now: float, size: int, data: bytes, where: str) -> Entry:
    """Return a submission whose body is `data`, or was brought to `where` before."""
    other = new_id(now) if wanted.id else ""
    return (
        wanted.queue,
        wanted.id or new_id(now),
        other,
        wanted.idempotency_key,
        wanted.due,
        wanted.expires,
        blob(encoded_request(wanted)),
        size,
        blob(data),
        where,
    )


def answers(reply: bytes) -> list[list[bytes]]:
    """Return what each operation answered: lists of fields, each after its length (4 bytes, big-endian)."""
    found = []
    position, end = 0, len(reply)
    while position < end:
        count = int.from_bytes(reply[position : position + 4], "big")
        position += 4
        fields = []
        for _ in range(count):
            start = position + 4
            position = start + int.from_bytes(reply[position:start], "big")
            fields.append(reply[start:position])
        found.append(fields)
    return found


def calls_of(fields: Sequence[bytes]) -> Iterator[Call]:
    """Yield the calls of an answer, CALL_FIELDS a call."""
    for start in range(0, len(fields), CALL_FIELDS):
        yield _call(fields[start : start + CALL_FIELDS])


def _call(fields: Sequence[bytes]) -> Call:
    (call_id, queue, state, submitted, due, expires, ended, attempts, takes, key, request, outcome) = fields[:12]
    size, there, data, where, result_size, result_where = fields[12:]
    kept = _decode_request(request)
    told, result = b"", b""
    if outcome:
        length = int.from_bytes(outcome[:4], "big")
        told, result = outcome[4 : 4 + length], outcome[4 + length :]
    return Call(
        id=call_id.decode(),
        queue=queue.decode(),
        function=FunctionId(kept.namespace, kept.name),
        state=STATES[int(state)],
        method=kept.method,
        path=kept.path,
        headers=kept.headers,
        url=kept.url,
        body=_body(int(size), data if there == b"d" else None, where),
        submitted=float(submitted),
        due=float(due),
        expires=float(expires),
        ended=float(ended),
        attempts=int(attempts),
        takes=int(takes),
        idempotency_key=key.decode(),
        outcome=_decode_outcome(told) if told else None,
        result=_body(int(result_size), None if result_where else result, result_where),
    )


def _body(size: int, data: bytes | None, where: bytes) -> Body:
    if not size:
        return Body()
    if data is not None and len(data) != size:  # not asked for, or gone
        return Body(size, None)
    return Body(size, data, where.decode())


def depths_of(fields: Sequence[bytes]) -> dict[str, Depth]:
    """Return the queues of an answer, 7 fields each."""
    found = {}
    for start in range(0, len(fields), 7):
        name, waiting, running, dead, size, oldest, due = fields[start : start + 7]
        found[name.decode()] = Depth(int(waiting), int(running), int(dead), int(size), float(oldest), int(due))
    return found
