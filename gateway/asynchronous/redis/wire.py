"""How operations go to the script, and how its answers come back (`run.lua`; entries and records: `calls.lua`)."""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from typing import Any, Final

import msgspec

from gateway.asynchronous.calls import INLINE_BYTES, Body, Call, Depth, Headers, Lease, Outcome, State, Submission, new_id
from gateway.asynchronous.rows import NUMBERS, STATES
from gateway.asynchronous.store import Bounds
from orchestration.names import FunctionId

SMALL_BYTES: Final = 1024
"""A body of at most this many bytes is kept with its call until that is forgotten; a longer one has a key of its own, which
goes when the call has ended."""
OK: Final = (b"ok",)
NO: Final = (b"no",)

_FIELDS: Final = 6
"""Of a call in an answer: id, queue, record, entry, body and result where these are apart and not long."""
_THIN: Final = 12
"""Bytes of the record of a call that was never taken."""
_REPLAYED: Final = 4
_YES, _MORE = b"+="
_FRAME: Final = struct.Struct(">cI")
_LENGTH: Final = struct.Struct(">I")
_SHORT: Final = struct.Struct("B")
_KEY: Final = struct.Struct(">H")
_BOUNDS: Final = struct.Struct(">ddB")
_AHEAD: Final = struct.Struct(">BdIIB")
_AROUND: Final = 2 * _LENGTH.size + 2 * _SHORT.size + _BOUNDS.size + _AHEAD.size + _KEY.size
_HEADER: Final = struct.Struct(">dIIB")
_RECORD: Final = struct.Struct(">12xIIdd12xI")
_END: Final = struct.Struct(">IBdIB")

Fields = Sequence[bytes]


class Kept(msgspec.Struct, frozen=True, array_like=True):
    """What nobody in the server reads of a submission."""

    namespace: str
    name: str
    method: str
    path: str
    headers: Headers
    url: str
    submitted: float
    expires: float


class Entry(msgspec.Struct, frozen=True):
    """A submission for the script; `where` is the place of its body if it has one."""

    id: str
    packed: bytes
    where: str = ""


encoded = msgspec.msgpack.Encoder().encode
_decode_kept = msgspec.msgpack.Decoder(Kept).decode
_decode_outcome = msgspec.msgpack.Decoder(Outcome).decode


def operation(name: str, *values: Any) -> bytes:
    """Return an operation as its name and values."""
    packed = encoded((name, *values))
    return _FRAME.pack(b"M", 4 + len(packed)) + packed


def blob(data: bytes) -> msgspec.Raw:
    """Return bytes as msgpack's str 32: Redis's decoder is older than the type for bytes, and its strings are bytes."""
    return msgspec.Raw(b"\xdb" + _LENGTH.pack(len(data)) + data)


def entry_of(wanted: Submission, now: float, may: Bounds, size: int, data: bytes, where: str) -> Entry:
    """Return a submission whose body is `data`, or was brought to `where` before; `may` is what may wait in its queue."""
    function, key = wanted.function, wanted.idempotency_key.encode()
    kept = encoded(
        Kept(function.namespace, function.name, wanted.method, wanted.path, wanted.headers, wanted.url, now, wanted.expires)
    )
    wished = wanted.id or new_id(now)
    queue, call_id = wanted.queue.encode(), wished.encode()
    other = new_id(now).encode() if wanted.id else b""
    apart = data if where else b""
    length = _AROUND + len(queue) + len(call_id) + len(other) + len(apart) + len(where) + len(key) + len(kept)
    length += len(data) - len(apart)
    later = wanted.due > now
    packed = (
        _LENGTH.pack(length),
        _SHORT.pack(len(queue)),
        queue,
        _BOUNDS.pack(may.calls, may.bytes, len(call_id)),
        call_id,
        _SHORT.pack(len(other)),
        other,
        _LENGTH.pack(len(apart)),
        apart,
        _AHEAD.pack(later, wanted.due if later else now, len(kept) + size, size, len(where)),
        where.encode(),
        _KEY.pack(len(key)),
        key,
        kept,
        data if not where else b"",
    )
    return Entry(wished, b"".join(packed), where)


def submission(entries: Sequence[Entry]) -> bytes:
    """Return the operation that submits all of them or none."""
    if len(entries) == 1:
        return b"S" + entries[0].packed
    packed = b"".join([entry.packed for entry in entries])
    return _FRAME.pack(b"B", 4 + len(packed)) + packed


def finish(
    lease: Lease, state: State, outcome: Outcome, now: float, size: int, data: bytes, where: str, then: Sequence[Entry]
) -> bytes:
    """Return the operation that ends a call with a result that is `data`, or was brought to `where` before."""
    call_id, told, place = lease.id.encode(), encoded(outcome), where.encode()
    packed = b"".join(
        (
            _SHORT.pack(len(call_id)),
            call_id,
            _END.pack(lease.take, NUMBERS[state], now, size, len(place)),
            place,
            _LENGTH.pack(len(told)),
            told,
            _LENGTH.pack(len(data)),
            data,
            *(entry.packed for entry in then),
        )
    )
    return _FRAME.pack(b"F", 4 + len(packed)) + packed


def answers(reply: bytes, count: int) -> Sequence[Fields]:
    """Return what each of `count` operations answered: a list of fields, the first of them a word."""
    if len(reply) == count and reply.count(b"+") == count:
        return (OK,) * count
    found: list[Fields] = []
    position = 0
    while position < len(reply):
        kind = reply[position]
        position += 1
        if kind != _MORE:
            found.append(OK if kind == _YES else NO)
            continue
        end = position + 4 + int.from_bytes(reply[position : position + 4], "big")
        position += 4
        fields = []
        while position < end:
            start = position + 4
            position = start + int.from_bytes(reply[position:start], "big")
            fields.append(reply[start:position])
        found.append(fields)
    return found


def calls_of(fields: Fields, *, bodies: bool = True) -> Iterator[Call]:
    """Yield the calls of an answer. Without `bodies` it has none."""
    for start in range(0, len(fields), _FIELDS):
        yield _call(bodies, *fields[start : start + _FIELDS])


def _call(bodies: bool, name: bytes, queue: bytes, record: bytes, entry: bytes, body: bytes, result: bytes) -> Call:
    due, _, size, length = _HEADER.unpack_from(entry)
    key_starts = _HEADER.size + length + _KEY.size
    key_ends = key_starts + int.from_bytes(entry[key_starts - _KEY.size : key_starts])
    where = entry[_HEADER.size : _HEADER.size + length].decode()
    kept_ends = len(entry) if where or not bodies else len(entry) - size
    kept = _decode_kept(entry[key_ends:kept_ends])
    state, flags = STATES[record[0]], record[1]
    attempts, takes, ended, told, result_size, result_where = 0, 0, 0.0, b"", 0, ""
    if len(record) > _THIN:
        takes, attempts, due, ended, result_size = _RECORD.unpack_from(record)
        position = _RECORD.size + 1 + record[_RECORD.size]  # where the body is: nothing that the entry does not tell
        start = position + 1
        position = start + record[position]
        result_where = record[start:position].decode()
        start = position + 4
        position = start + int.from_bytes(record[start - 4 : start])
        told = record[start:position]
        if not result_where:
            result = record[position:]
    gone = not bodies or state is State.SUCCEEDED or state is State.CANCELLED
    return Call(
        id=name.decode(),
        queue=queue.decode(),
        function=FunctionId(kept.namespace, kept.name),
        state=state,
        method=kept.method,
        path=kept.path,
        headers=kept.headers,
        url=kept.url,
        body=Body(size, None) if gone and size else _body(size, body if where else entry[kept_ends:], where),
        submitted=kept.submitted,
        due=due,
        expires=0.0 if flags & _REPLAYED else kept.expires,
        ended=ended,
        attempts=attempts,
        takes=takes,
        idempotency_key=entry[key_starts:key_ends].decode(),
        outcome=_decode_outcome(told) if told else None,
        result=_body(result_size, result, result_where) if bodies else Body(result_size, None) if result_size else Body(),
    )


def _body(size: int, data: bytes, where: str) -> Body:
    if size <= INLINE_BYTES:
        return Body(size, data) if len(data) == size else Body(size, None)  # gone meanwhile
    return Body(size, None, where)


def depths_of(fields: Fields) -> dict[str, Depth]:
    """Return the queues of an answer, 7 fields each."""
    found = {}
    for start in range(0, len(fields), 7):
        name, waiting, running, dead, size, oldest, due = fields[start : start + 7]
        found[name.decode()] = Depth(int(waiting), int(running), int(dead), int(size), float(oldest), int(due))
    return found
