"""How operations go to the script, and how its answers come back (`run.lua`; entries and records: `calls.lua`)."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import Any, Final

import msgspec

from gateway.asynchronous.calls import INLINE_BYTES, Body, Call, Depth, Lease, Outcome, State, Submission, new_id
from gateway.asynchronous.rows import NUMBERS, STATES, decode_head, decode_outcome, encoded_head, encoded_outcome
from gateway.asynchronous.store import Bounds
from orchestration.names import FunctionId

SMALL_BYTES: Final = 1024
"""A body of at most this many bytes is kept with its call until that is forgotten; a longer one has a key of its own, which
goes when the call has ended."""
OK: Final = (b"ok",)
NO: Final = (b"no",)

_PARTS: Final = struct.Struct(">BBIIII")
"""How long the parts of a call are: id, queue, record, entry, body and result where these are apart and not long."""
_THIN: Final = 12
"""Bytes of the record of a call that was never taken."""
_TAKEN: Final = 58
"""… of one that was taken, of which nothing has come yet, and whose body has no place of its own."""
_NO_BODY: Final = Body()
_REPLAYED: Final = 4
_YES, _MORE = b"+="
_FRAME: Final = struct.Struct(">cI")
_LENGTH: Final = struct.Struct(">I")
_SHORT: Final = struct.Struct("B")
_KEY: Final = struct.Struct(">H")
# Of SUBMISSION in `operations.lua`: its length and the queue's; bounds and the id's length; what is about an entry and before
# its places, and all of that in one piece, where other id, body apart, place and key are empty.
_FRONT: Final = struct.Struct(">IB")
_BOUNDS: Final = struct.Struct(">ddB")
_AHEAD: Final = struct.Struct(">BdIIB")
_PLAIN: Final = struct.Struct(">5xBdII3x")
_AROUND: Final = _FRONT.size + _BOUNDS.size + _PLAIN.size
# Of FINISH there; of HEADER and FULL in `calls.lua`, up to the places.
_END: Final = struct.Struct(">IBdIB")
_COME: Final = struct.Struct(">II")
_HEADER: Final = struct.Struct(">dIIB")
_RECORD: Final = struct.Struct(">12xIId8xd4xI")

Fields = Sequence[bytes]


class Entry(msgspec.Struct, frozen=True):
    """A submission for the script; `where` is the place of its body if it has one."""

    id: str
    packed: bytes
    where: str = ""


_encoded = msgspec.msgpack.Encoder().encode


def operation(name: str, *values: Any) -> bytes:
    """Return an operation as its name and values."""
    packed = _encoded((name, *values))
    return _FRAME.pack(b"M", 4 + len(packed)) + packed


def blob(data: bytes) -> msgspec.Raw:
    """Return bytes as msgpack's str 32: Redis's decoder is older than the type for bytes, and its strings are bytes."""
    return msgspec.Raw(b"\xdb" + _LENGTH.pack(len(data)) + data)


def entry_of(wanted: Submission, now: float, may: Bounds, size: int, data: bytes, where: str) -> Entry:
    """Return a submission whose body is `data`, or was brought to `where` before; `may` is what may wait in its queue."""
    wished = wanted.id or new_id(now)
    kept = encoded_head(wanted, now)
    queue, call_id, later = wanted.queue.encode(), wished.encode(), wanted.due > now
    due = wanted.due if later else now
    most = _BOUNDS.pack(may.calls, may.bytes, len(call_id))
    if not (wanted.id or where or wanted.idempotency_key):  # as most are: lengths of nothing are all in one piece
        front = _FRONT.pack(_AROUND + len(queue) + len(call_id) + len(kept) + size, len(queue))
        plain = _PLAIN.pack(later, due, len(kept) + size, size)
        return Entry(wished, b"".join((front, queue, most, call_id, plain, kept, data)))
    key, other = wanted.idempotency_key.encode(), new_id(now).encode() if wanted.id else b""
    apart, data = (data, b"") if where else (b"", data)
    around = _SHORT.pack(len(other)), other, _LENGTH.pack(len(apart)), apart
    ahead = _AHEAD.pack(later, due, len(kept) + size, size, len(where)), where.encode(), _KEY.pack(len(key)), key
    length = _AROUND + sum(map(len, (queue, call_id, other, apart, where, key, kept, data)))
    return Entry(
        wished,
        b"".join((_FRONT.pack(length, len(queue)), queue, most, call_id, *around, *ahead, kept, data)),
        where,
    )


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
    call_id, told, place = lease.id.encode(), encoded_outcome(outcome), where.encode()
    packed = b"".join(
        (
            _SHORT.pack(len(call_id)),
            call_id,
            _END.pack(lease.take, NUMBERS[state], now, size, len(place)),
            place,
            _COME.pack(len(told), len(told) + len(data)),
            told,
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


def calls_of(packed: bytes, *, bodies: bool = True) -> list[Call]:
    """Return the calls of an answer. Without `bodies` it has none."""
    calls, end, whole = [], 0, len(packed)
    while end < whole:
        ids, queues, records, entries, body_size, result_size = _PARTS.unpack_from(packed, end)
        queue_at = end + _PARTS.size + ids
        record_at = queue_at + queues
        entry_at = record_at + records
        body_at = entry_at + entries
        result_at = body_at + body_size
        call_id = packed[queue_at - ids : queue_at].decode()
        queue = packed[queue_at:record_at].decode()
        end = result_at + result_size
        due, _, size, places = _HEADER.unpack_from(packed, entry_at)
        key_at = entry_at + _HEADER.size + places + _KEY.size
        where = packed[key_at - _KEY.size - places : key_at - _KEY.size].decode() if places else ""
        kept_at = key_at + _KEY.unpack_from(packed, key_at - _KEY.size)[0]
        body = packed[body_at:result_at]
        kept_ends = body_at
        if bodies and not places:
            kept_ends -= size
            body = packed[kept_ends:body_at]
        kept = decode_head(packed[kept_at:kept_ends])
        state, flags = STATES[packed[record_at]], packed[record_at + 1]
        attempts, takes, ended, outcome, result = 0, 0, 0.0, None, _NO_BODY
        if records > _THIN:
            takes, attempts, due, ended, length = _RECORD.unpack_from(packed, record_at)
            if records > _TAKEN:
                outcome, result = _come_of(packed, record_at + _RECORD.size, entry_at, length, packed[result_at:end], bodies)
        calls.append(
            Call(
                id=call_id,
                queue=queue,
                function=FunctionId(kept.namespace, kept.name),
                state=state,
                method=kept.method,
                path=kept.path,
                headers=kept.headers,
                url=kept.url,
                body=Body(size, None)
                if size and (not bodies or state is State.SUCCEEDED or state is State.CANCELLED)
                else _body(size, body, where),
                submitted=kept.submitted,
                due=due,
                expires=0.0 if flags & _REPLAYED else kept.expires,
                ended=ended if state.ended else 0.0,
                attempts=attempts,
                takes=takes,
                idempotency_key=packed[key_at:kept_at].decode() if key_at < kept_at else "",
                outcome=outcome,
                result=result,
            )
        )
    return calls


def _come_of(packed: bytes, at: int, end: int, size: int, apart: bytes, bodies: bool) -> tuple[Outcome | None, Body]:
    """Return the outcome and the result that a record tells of, whose places begin at `at`."""
    at += 1 + packed[at]  # where the body is: nothing that the entry does not tell
    where_at = at + 1
    at = where_at + packed[at]
    where = packed[where_at:at].decode()
    told_at = at + _LENGTH.size
    told_ends = told_at + _LENGTH.unpack_from(packed, at)[0]
    outcome = decode_outcome(packed[told_at:told_ends]) if told_at < told_ends else None
    if not bodies:
        return outcome, Body(size, None) if size else _NO_BODY
    return outcome, _body(size, apart if where else packed[told_ends:end], where)


def _body(size: int, data: bytes, where: str) -> Body:
    if size > INLINE_BYTES:
        return Body(size, None, where)
    return Body(size, data if len(data) == size else None)  # None: gone meanwhile


def depths_of(fields: Fields) -> dict[str, Depth]:
    """Return the queues of an answer, 7 fields each."""
    found = {}
    for start in range(0, len(fields), 7):
        name, waiting, running, dead, size, oldest, due = fields[start : start + 7]
        found[name.decode()] = Depth(int(waiting), int(running), int(dead), int(size), float(oldest), int(due))
    return found
