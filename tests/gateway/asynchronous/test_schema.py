"""A file of an older platform is brought over whole: whatever was kept in it is there, and goes on."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Mapping
from pathlib import Path

import msgspec
import pytest

from gateway.asynchronous.calls import Call, Outcome, State, Submission, queue_of
from gateway.asynchronous.schema import FIRST, MIGRATIONS
from gateway.asynchronous.sqlite_store import FILE, FOLDER, SqliteStore
from gateway.asynchronous.store import Keep, StoreUnavailable
from orchestration.names import FunctionId

ECHO, SLOW = FunctionId("openfaas-fn", "echo"), FunctionId("openfaas-fn", "slow")
NOW = 1_700_000_000.25
LONG = 100_000
TOLD = Outcome(status=503, reason="busy", headers=(("X-A", "1"),), started=NOW - 2, ended=NOW - 1)
REQUEST = msgspec.msgpack.encode(("openfaas-fn", "echo", "PUT", "/a?b=c", (("X-A", "ä"),), ""))


def first_file(folder: Path) -> None:
    """Write what the first platform had: a call in each state, and with each thing that a call can have."""
    (folder / FOLDER).mkdir()
    connection = sqlite3.connect(folder / FILE, isolation_level=None)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.executescript(f"BEGIN; {FIRST}; PRAGMA user_version = 1; COMMIT;")

    def insert(table: str, values: Mapping[str, object]) -> None:
        marks = ", ".join("?" * len(values))
        connection.execute(f"INSERT INTO {table} ({', '.join(values)}) VALUES ({marks})", tuple(values.values()))

    def call(seq: int, **values: object) -> None:
        usual = {"queue": 1, "submitted": NOW - 9, "due": NOW - 5, "expires": 0.0, "request": REQUEST, "body_size": 2}
        row = {"seq": seq, "id": f"call-{seq}", **usual, "body": b"hi", "size": len(REQUEST) + 2, **values}
        insert("calls", row)

    def file(name: str) -> str:
        (folder / FOLDER / name).write_bytes(b"f" * LONG)
        return name

    told = msgspec.msgpack.encode(TOLD)
    result = {"result_size": 3, "result": b"yes"}
    call(1, key="mine")
    call(2, due=NOW + 60, expires=NOW + 90)
    call(3, state=1, attempts=1, takes=1)
    call(4, state=0, due=NOW + 7, attempts=2, takes=3, outcome=told)
    call(5, state=3, ended=NOW - 3, attempts=3, takes=3, outcome=told, **result)
    call(6, state=2, ended=NOW - 2, attempts=1, takes=1, outcome=told, body=None, **result)
    call(7, state=4, ended=NOW - 1, outcome=told, attempts=1, takes=1, body=None)
    call(8, body=None, body_size=LONG, body_file=file("request"), size=len(REQUEST) + LONG)
    call(9, state=2, ended=NOW - 2, attempts=1, takes=1, body=None, result_size=LONG, result_file=file("answer"))
    call(10, queue=2, key="mine", request=REQUEST.replace(b"echo", b"slow"))
    insert("queues", {"number": 1, "name": queue_of(ECHO), "waiting": 4, "running": 1, "dead": 1, "bytes": 1, "kept": 1})
    insert("queues", {"number": 2, "name": queue_of(SLOW), "waiting": 1, "bytes": 1})
    connection.close()


async def all_of(store: SqliteStore) -> dict[str, Call]:
    found = {}
    for listed in await store.page():
        call = await store.get(listed.id)
        assert call is not None
        found[call.id] = call
    return found


async def test_every_call_of_the_first_schema_is_there_as_it_was(tmp_path: Path) -> None:
    first_file(tmp_path)
    store = SqliteStore(tmp_path)
    calls = await all_of(store)
    states = {call_id: call.state.value for call_id, call in calls.items()}
    assert states == {
        "call-10": "waiting",
        "call-9": "succeeded",
        "call-8": "waiting",
        "call-7": "cancelled",
        "call-6": "succeeded",
        "call-5": "dead",
        "call-4": "waiting",
        "call-3": "waiting",
        "call-2": "waiting",
        "call-1": "waiting",
    }
    one = calls["call-1"]
    assert (one.function, one.method, one.path, one.headers) == (ECHO, "PUT", "/a?b=c", (("X-A", "ä"),))
    assert (one.submitted, one.due, one.idempotency_key, one.body.data) == (NOW - 9, NOW - 5, "mine", b"hi")
    assert (calls["call-2"].due, calls["call-2"].expires) == (NOW + 60, NOW + 90)
    assert (calls["call-3"].attempts, calls["call-3"].takes) == (1, 1)
    assert (calls["call-4"].attempts, calls["call-4"].takes, calls["call-4"].outcome) == (2, 3, TOLD)
    assert (calls["call-5"].ended, calls["call-5"].result.data, calls["call-5"].body.data) == (NOW - 3, b"yes", b"hi")
    assert (calls["call-6"].result.data, calls["call-6"].body.data) == (b"yes", None)
    assert (calls["call-7"].outcome, calls["call-7"].ended) == (TOLD, NOW - 1)
    for body in (calls["call-8"].body, calls["call-9"].result):
        assert b"".join([piece async for piece in store.chunks(body)]) == b"f" * LONG
    assert calls["call-10"].function == SLOW
    depths = await store.depths(NOW)
    of_echo = depths[queue_of(ECHO)]
    assert (of_echo.waiting, of_echo.running, of_echo.dead, of_echo.due) == (5, 0, 1, 3)
    assert depths[queue_of(SLOW)].waiting == 1
    await store.close()


async def test_calls_of_the_first_schema_go_on(tmp_path: Path) -> None:
    first_file(tmp_path)
    store = SqliteStore(tmp_path)
    again = Submission(queue=queue_of(ECHO), function=ECHO, idempotency_key="mine")
    (receipt,) = await store.submit([again], NOW)
    assert (receipt.id, receipt.repeated) == ("call-1", True)
    taken = await store.take(lambda _: 10, 10, NOW, 30)
    assert [(call.id, call.takes) for call in taken] == [("call-1", 1), ("call-10", 1), ("call-3", 2), ("call-8", 1)]
    assert await store.next_due() == NOW + 7
    for call in taken:
        assert await store.finish(call.lease, State.SUCCEEDED, Outcome(status=200), NOW)
    await asyncio.gather(*store.changes)
    assert [path.name for path in store.spool.iterdir()] == ["answer"]
    assert await store.replay("call-5", NOW) is State.DEAD
    for _ in range(3):
        for call in await store.take(lambda _: 10, 10, NOW + 100, 30):
            assert await store.finish(call.lease, State.DEAD, Outcome(status=500, reason="no"), NOW + 100)
    assert (await store.depths(NOW))[queue_of(ECHO)].bytes == 0, "counts are those of the calls, whatever they were"
    while await store.sweep(NOW + 1000, Keep(ended_s=100, dead_s=100)):
        pass
    assert await store.page() == [] and list(store.spool.iterdir()) == []
    assert all(queue.kept == 0 for queue in store.ledger.queues.values())
    await store.close()


async def test_a_file_that_cannot_be_brought_over_stays_as_it_was(tmp_path: Path) -> None:
    first_file(tmp_path)
    with sqlite3.connect(tmp_path / FILE) as connection:
        connection.execute("UPDATE calls SET request = x'00' WHERE seq = 7")
    connection.close()
    with pytest.raises(StoreUnavailable, match=r"queue\.db"):
        SqliteStore(tmp_path)
    with sqlite3.connect(tmp_path / FILE) as connection:
        assert connection.execute("PRAGMA user_version").fetchone() == (1,)
        assert connection.execute("SELECT count(request) FROM calls").fetchone() == (10,)
    connection.close()


async def test_a_new_file_has_the_newest_schema(tmp_path: Path) -> None:
    await SqliteStore(tmp_path).close()
    connection = sqlite3.connect(tmp_path / FILE)
    assert connection.execute("PRAGMA user_version").fetchone() == (len(MIGRATIONS),)
    names = {name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE sql IS NOT NULL")}
    assert names == {"queues", "calls", "waiting", "takes", "ends", "standing", "keys", "files", "ends_by_time"}
    connection.close()
