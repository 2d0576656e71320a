"""What is Redis's own: servers that are away, full, slow or read-only; several gateways; long bodies; a cluster's slot."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from pathlib import Path

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gateway.asynchronous.calls import INLINE_BYTES, Body, Outcome, State, queue_of
from gateway.asynchronous.redis import server as module
from gateway.asynchronous.redis.bodies import CHUNK_BYTES
from gateway.asynchronous.redis.server import durability
from gateway.asynchronous.redis.settings import InvalidRedisSetting, RedisSettings
from gateway.asynchronous.redis.store import RedisStore
from gateway.asynchronous.redis.wire import SMALL_BYTES
from gateway.asynchronous.store import Keep, StoreUnavailable
from tests.gateway.asynchronous.redis_server import RedisServer, needs_redis
from tests.gateway.asynchronous.test_store import ECHO, LEASE_S, NOW, call_of, limit
from tests.gateway.edge.lab import eventually


@contextlib.asynccontextmanager
async def opened(server: RedisServer, folder: Path, **changed: object) -> AsyncIterator[RedisStore]:
    folder.mkdir(exist_ok=True)
    store = RedisStore(msgspec.structs.replace(server.settings, **changed), folder / "spool")
    try:
        yield store
    finally:
        await store.close()


@pytest.fixture
def own_redis() -> Iterator[RedisServer]:
    """A server that may be treated badly."""
    needs_redis()
    with RedisServer() as server:
        yield server


async def test_gateways_share_calls_limits_news_and_ends(redis: RedisServer, tmp_path: Path) -> None:
    async with opened(redis, tmp_path / "1") as one, opened(redis, tmp_path / "2") as other:
        assert await other.take(limit, 5, NOW, LEASE_S) == []
        hearing = asyncio.create_task(other.changed(60))
        await eventually(lambda: other._hears)
        await other.take(limit, 5, NOW, LEASE_S)  # it knows of nothing, and wants to hear of something
        (receipt, _) = await one.submit([call_of(), call_of()], NOW)
        await asyncio.wait_for(hearing, 20)
        (call,) = await other.take(lambda _: 1, 5, NOW, LEASE_S)
        assert await one.take(lambda _: 1, 5, NOW, LEASE_S) == []
        waiting = asyncio.create_task(one.ended(receipt.id, 60))
        await asyncio.sleep(0)
        assert await other.finish(call.lease, State.SUCCEEDED, Outcome(status=200), NOW)
        started = time.monotonic()
        ended = await waiting
        assert ended is not None and ended.state is State.SUCCEEDED and time.monotonic() - started < 20


async def test_what_a_store_did_is_no_news_to_itself_unless_its_answer_was_lost(own_redis: RedisServer, tmp_path: Path) -> None:
    async with opened(own_redis, tmp_path, timeout_s=0.5) as store:
        await eventually(lambda: store._hears)
        await store.submit([call_of(due=NOW + 9)], NOW)
        store._bell.clear()
        own = store._name.encode()
        for news, rings in ((b"w" + own + b" a b", False), (b"e" + own + b" ", False), (b"e0123 a", False), (b"w0123 ", True)):
            store._heard(news)
            assert store._bell.is_set() is rings, news
            store._bell.clear()
        with own_redis.stopped():
            with pytest.raises(StoreUnavailable):
                await store.submit([call_of()], NOW)
            store._bell.clear()
        await eventually(store._bell.is_set)  # it was carried out when the server went on
        store._heard(b"w" + own + b" ")
        assert store._bell.is_set()


async def test_when_the_next_call_is_due_is_known_from_a_take_that_found_none(redis: RedisServer, tmp_path: Path) -> None:
    def runs() -> bytes:
        return redis.command("INFO", "commandstats").partition(b"cmdstat_evalsha:calls=")[2].partition(b",")[0]

    async with opened(redis, tmp_path / "1") as store, opened(redis, tmp_path / "2") as other:
        await eventually(lambda: store._hears)
        await store.submit([call_of(due=NOW + 9)], NOW)
        assert await store.take(limit, 5, NOW, LEASE_S) == []
        before = runs()
        assert await store.next_due() == NOW + 9
        assert runs() == before
        await other.submit([call_of(due=NOW + 5)], NOW)
        await store.changed(20)
        assert await store.next_due() == NOW + 5
        assert await store.take(limit, 5, NOW, LEASE_S) == []
        await store.submit([call_of(due=NOW + 3)], NOW)
        assert await store.next_due() == NOW + 3


async def test_a_server_that_dies_is_said_to_submitters_and_loses_nothing(
    own_redis: RedisServer, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with opened(own_redis, tmp_path) as store:
        (receipt,) = await store.submit([call_of(body=b"x" * 70_000)], NOW)
        (taken,) = await store.take(limit, 5, NOW, LEASE_S)
        own_redis.kill()
        for work in (store.submit([call_of()], NOW), store.take(limit, 5, NOW, LEASE_S), store.depths(NOW)):
            with pytest.raises(StoreUnavailable, match="the Redis server unix://"):
                await work
        own_redis.start()
        call = await store.get(receipt.id)
        assert call is not None and call.state is State.RUNNING
        assert len([1 async for _ in store.chunks(taken.body)]) == 1
        assert await store.finish(taken.lease, State.SUCCEEDED, Outcome(status=200), NOW)
    assert [record.levelno for record in caplog.records if "are refused until" in record.message] == [logging.WARNING]


async def test_a_server_that_stands_still_is_given_up_in_time_and_its_answer_is_not_known(
    own_redis: RedisServer, tmp_path: Path
) -> None:
    async with opened(own_redis, tmp_path, timeout_s=1.0) as store:
        await store.submit([call_of()], NOW)
        with own_redis.stopped():
            started = time.monotonic()
            with pytest.raises(StoreUnavailable, match=r"does not answer within 1 s"):
                await store.submit([call_of(idempotency_key="k")], NOW)
            assert time.monotonic() - started < 10
        (receipt,) = await store.submit([call_of(idempotency_key="k")], NOW)
        assert [call.idempotency_key for call in await store.page()].count("k") == 1
        assert (await store.get(receipt.id)) is not None


async def test_a_long_body_is_refused_as_soon_as_a_short_one_when_the_server_stands_still(
    own_redis: RedisServer, tmp_path: Path
) -> None:
    async with opened(own_redis, tmp_path, timeout_s=1.0) as store:
        await store.submit([call_of()], NOW)
        with own_redis.stopped():
            began = time.monotonic()
            with pytest.raises(StoreUnavailable, match=r"does not answer within 1 s"):
                await store.submit([call_of(body=b"x" * (INLINE_BYTES + 1))], NOW)
            assert time.monotonic() - began < 1.8  # and not twice as long, to take back what came of the body


async def test_all_who_ask_meanwhile_share_one_attempt_to_reach_a_server(own_redis: RedisServer, tmp_path: Path) -> None:
    async with opened(own_redis, tmp_path, timeout_s=1.0) as store:
        with own_redis.stopped():
            started = time.monotonic()
            works = store.submit([call_of()], NOW), store.depths(NOW), store.cancel("a", NOW), store.submit([call_of()], NOW)
            found = await asyncio.gather(*works, return_exceptions=True)
            assert [type(one) for one in found] == [StoreUnavailable] * 4
            assert time.monotonic() - started < 1.9


async def test_a_server_that_is_full_takes_no_calls_and_lets_those_it_has_end(own_redis: RedisServer, tmp_path: Path) -> None:
    async with opened(own_redis, tmp_path) as store:
        await store.submit([call_of(body=b"x" * 50_000) for _ in range(20)], NOW)
        own_redis.command("CONFIG", "SET", "maxmemory", "1000000")
        for body in (b"", b"x" * 100_000):
            with pytest.raises(StoreUnavailable, match="its memory is full"):
                await store.submit([call_of(body=body)], NOW)
        for call in await store.take(lambda _: 20, 20, NOW, LEASE_S):
            assert await store.finish(call.lease, State.SUCCEEDED, Outcome(status=200), NOW)
        own_redis.command("CONFIG", "SET", "maxmemory", "0")
        await store.submit([call_of()], NOW)
        assert (await store.depths(NOW))[queue_of(ECHO)].waiting == 1


async def test_a_replica_is_not_written_to(own_redis: RedisServer, tmp_path: Path) -> None:
    async with opened(own_redis, tmp_path) as store:
        await store.submit([call_of()], NOW)
        own_redis.command("REPLICAOF", "127.0.0.1", "1")
        with pytest.raises(StoreUnavailable, match="read-only replica: name the primary"):
            await store.submit([call_of()], NOW)
        own_redis.command("REPLICAOF", "NO", "ONE")
        await store.submit([call_of()], NOW)


async def test_a_server_that_is_busy_with_a_script_is_waited_for_in_vain(own_redis: RedisServer, tmp_path: Path) -> None:
    own_redis.command("CONFIG", "SET", "busy-reply-threshold", "50")
    async with opened(own_redis, tmp_path) as store:
        await store.submit([call_of()], NOW)
        endless = asyncio.create_task(asyncio.to_thread(own_redis.command, "EVAL", "while true do end", "0"))
        await eventually(lambda: own_redis.command("PING").startswith(b"-BUSY"))
        with pytest.raises(StoreUnavailable, match="busy with somebody's script"):
            await store.submit([call_of()], NOW)
        assert own_redis.command("SCRIPT", "KILL") == b"+OK\r\n"
        await endless
        await store.submit([call_of()], NOW)


async def test_scripts_that_a_server_forgot_are_brought_anew(redis: RedisServer, tmp_path: Path) -> None:
    async with opened(redis, tmp_path) as store:
        await store.submit([call_of()], NOW)
        redis.command("SCRIPT", "FLUSH")
        await store.submit([call_of()], NOW)
        assert (await store.depths(NOW))[queue_of(ECHO)].waiting == 2


async def test_long_bodies_go_in_pieces_both_ways_and_leave_with_their_calls(redis: RedisServer, tmp_path: Path) -> None:
    body = bytes(range(256)) * (2 * CHUNK_BYTES // 256) + b"end"
    async with opened(redis, tmp_path) as store:
        file = store.spool / "received"
        file.write_bytes(body)
        (receipt,) = await store.submit([call_of(body=file)], NOW)
        assert not file.exists()
        (call,) = await store.take(limit, 5, NOW, LEASE_S)
        assert b"".join([piece async for piece in store.chunks(call.body)]) == body
        await store.finish(call.lease, State.SUCCEEDED, Outcome(status=200), NOW, body=body)
        ended = await store.get(receipt.id)
        assert ended is not None
        assert b"".join([piece async for piece in store.chunks(ended.result)]) == body
        await store.sweep(NOW + 100, Keep(ended_s=50))
        assert await store._server.command("KEYS", "*") == [b"{pinnace}:m"]
        with pytest.raises(KeyError):
            [piece async for piece in store.chunks(Body(70_000, None, "gone"))]


async def test_files_are_removed_also_when_the_server_is_away(own_redis: RedisServer, tmp_path: Path) -> None:
    async with opened(own_redis, tmp_path) as store:
        await store.submit([call_of()], NOW)
        (call,) = await store.take(limit, 5, NOW, LEASE_S)
        files = [store.spool / name for name in "abcd"]
        for file in files:
            file.write_bytes(b"x" * 70_000)
        own_redis.kill()
        with pytest.raises(StoreUnavailable):
            await store.submit([call_of(body=files[0]), call_of(body=files[1])], NOW)
        with pytest.raises(StoreUnavailable):
            then = [call_of(body=files[3])]
            await store.finish(call.lease, State.SUCCEEDED, Outcome(status=200), NOW, body=files[2], then=then)
        assert list(store.spool.iterdir()) == []


async def test_a_body_that_nobody_names_goes_by_itself(redis: RedisServer, tmp_path: Path) -> None:
    async with opened(redis, tmp_path) as store:
        await store._bodies.stored(b"x" * (INLINE_BYTES + 1))
        (key,) = await store._server.command("KEYS", "{pinnace}:b:*")
        assert 0 < await store._server.command("TTL", key) <= 3600


async def test_who_leaves_does_not_take_a_kept_calls_body_along(redis: RedisServer, tmp_path: Path) -> None:
    async with opened(redis, tmp_path) as store:
        await store.submit([call_of()], NOW)
        sent, go, send = asyncio.Event(), asyncio.Event(), store._adding._send

        async def held(batch: Sequence[bytes]) -> bytes:
            sent.set()
            await go.wait()
            return await send(batch)

        store._adding._send = held
        leaving = asyncio.create_task(store.submit([call_of(body=b"x" * 80_000)], NOW))
        await sent.wait()
        leaving.cancel()
        with pytest.raises(asyncio.CancelledError):
            await leaving
        store._bell.clear()
        go.set()
        await asyncio.gather(*store._adding._sending)
        assert store._bell.is_set(), "who carries calls out is told all the same"
        (_, call) = await store.take(limit, 5, NOW, LEASE_S)
        assert len(b"".join([piece async for piece in store.chunks(call.body)])) == 80_000


async def test_cancelled_calls_are_passed_over_however_many_they_are(redis: RedisServer, tmp_path: Path) -> None:
    async with opened(redis, tmp_path) as store:
        receipts = await store.submit([call_of() for _ in range(5000)], NOW)
        first, *others, last = [receipt.id for receipt in receipts]
        (call,) = await store.take(limit, 1, NOW, LEASE_S)
        assert await store.finish(call.lease, State.SUCCEEDED, Outcome(status=200), NOW)
        await asyncio.gather(*(store.cancel(call_id, NOW) for call_id in others))
        depth = (await store.depths(NOW + 1))[queue_of(ECHO)]
        assert (depth.waiting, depth.due, depth.oldest_due) == (1, 1, NOW)
        succeeded = await store.page(states=[State.SUCCEEDED, State.DEAD])
        assert [found.id for found in succeeded] == [first], "however far it is below what is not looked for"
        assert [found.id for found in await store.page(states=[State.WAITING, State.CANCELLED], limit=2)] == [last, others[-1]]
        assert [found.id for found in await store.take(limit, 5, NOW, LEASE_S)] == [last]


async def test_cancelled_calls_that_are_forgotten_are_not_looked_for_before_those_that_wait(
    redis: RedisServer, tmp_path: Path
) -> None:
    async with opened(redis, tmp_path) as store:
        one, two, three, four = [receipt.id for receipt in await store.submit([call_of() for _ in range(4)], NOW)]
        for call_id in (three, one):
            await store.cancel(call_id, NOW)
        await store.sweep(NOW + 100, Keep(ended_s=50))
        await store.cancel(two, NOW + 100)
        assert [call.id for call in await store.page()] == [four, two]
        assert [call.id for call in await store.take(limit, 5, NOW, LEASE_S)] == [four]


SIZES = st.sampled_from([0, 1, SMALL_BYTES, SMALL_BYTES + 1, INLINE_BYTES, INLINE_BYTES + 1])
TEXTS = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=300)
HEADERS = st.lists(st.tuples(TEXTS, TEXTS), max_size=3).map(tuple)
TIMES = st.floats(0.001, 1e6)


@settings(max_examples=30, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_all_that_is_said_of_a_call_comes_back_as_it_was(redis: RedisServer, tmp_path: Path, data: st.DataObject) -> None:
    size, result_size = data.draw(SIZES), data.draw(SIZES)
    delay, ends = data.draw(st.one_of(st.just(0.0), TIMES)), data.draw(st.sampled_from([State.SUCCEEDED, State.DEAD]))
    wanted = call_of(
        method=data.draw(TEXTS),
        path=data.draw(TEXTS),
        headers=data.draw(HEADERS),
        url=data.draw(TEXTS),
        body=b"b" * size,
        due=NOW + delay,
        expires=data.draw(st.one_of(st.just(0.0), TIMES)),
        idempotency_key=data.draw(TEXTS),
        id=data.draw(st.one_of(st.just(""), st.from_regex(r"[A-Za-z0-9._-]{1,128}", fullmatch=True))),
    )
    outcome = Outcome(
        status=data.draw(st.integers(0, 999)), headers=data.draw(HEADERS), reason=data.draw(TEXTS), ended=data.draw(TIMES)
    )
    retried = data.draw(st.booleans())

    async def follow() -> None:
        async with opened(redis, tmp_path) as store:
            (receipt,) = await store.submit([wanted], NOW)
            assert receipt.id == wanted.id or not wanted.id

            async def seen(state: State, **changed: object) -> None:
                call, (listed,) = await store.get(receipt.id), await store.page(states=[state])
                assert call is not None
                for name in ("queue", "function", "method", "path", "headers", "url", "due", "expires", "idempotency_key"):
                    assert getattr(call, name) == changed.get(name, getattr(wanted, name)), name
                assert (call.state, call.submitted) == (state, NOW)
                assert (call.attempts, call.outcome, call.ended) == tuple(
                    changed.get(n) for n in ("attempts", "outcome", "ended")
                )
                sizes = Body(size, None) if size else Body(), Body(changed["length"], None) if changed.get("length") else Body()  # type: ignore[arg-type]
                assert listed == msgspec.structs.replace(call, body=sizes[0], result=sizes[1])
                if state in (State.WAITING, State.RUNNING, State.DEAD):
                    assert b"".join([piece async for piece in store.chunks(call.body)]) == wanted.body
                assert b"".join([piece async for piece in store.chunks(call.result)]) == b"r" * int(changed.get("length", 0))  # type: ignore[call-overload]

            await seen(State.WAITING, attempts=0, outcome=None, ended=0)
            (call,) = await store.take(limit, 5, NOW + delay, LEASE_S)
            await seen(State.RUNNING, attempts=1, outcome=None, ended=0)
            due = wanted.due
            if retried:
                due = NOW + delay + 1
                assert await store.retry(call.lease, due, outcome, NOW)
                await seen(State.WAITING, attempts=1, outcome=outcome, ended=0, due=due)
                (call,) = await store.take(limit, 5, due, LEASE_S)
            assert await store.finish(call.lease, ends, outcome, due, body=b"r" * result_size)
            await seen(ends, attempts=1 + retried, outcome=outcome, ended=due, due=due, length=result_size)
            await store.sweep(due + 1, Keep(ended_s=0, dead_s=0))
            assert await store._server.command("KEYS", "*") == [b"{pinnace}:m"]

    asyncio.run(follow())


async def test_of_calls_taken_together_each_has_a_lease_of_its_own(redis: RedisServer, tmp_path: Path) -> None:
    async with opened(redis, tmp_path) as store:
        await store.submit([call_of() for _ in range(4)], NOW)
        ends, extended, over, cancelled = await store.take(limit, 5, NOW, LEASE_S)
        assert await store.finish(ends.lease, State.SUCCEEDED, Outcome(status=200), NOW)
        for _ in range(2):
            works = [store.extend(extended.lease, NOW + seconds, LEASE_S) for seconds in (9, 10)]
            assert await asyncio.gather(*works) == [True, True]
        assert await store.cancel(cancelled.id, NOW) is State.RUNNING
        assert [call.id for call in await store.page(states=[State.RUNNING])] == [over.id, extended.id]
        await store.sweep(NOW + LEASE_S, Keep())
        assert [call.id for call in await store.page(states=[State.RUNNING])] == [extended.id]
        assert [call.id for call in await store.page(states=[State.WAITING])] == [over.id]
        assert len(await store._server.command("KEYS", "*:[lhr]")) == 3
        await store.sweep(NOW + 10 + LEASE_S, Keep())
        assert await store._server.command("KEYS", "*:[lhr]") == []
        assert [call.takes for call in await store.take(limit, 5, NOW + 50, LEASE_S)] == [2, 2]


async def test_a_call_that_was_due_when_it_came_is_taken_also_where_the_clock_is_behind(
    redis: RedisServer, tmp_path: Path
) -> None:
    async with opened(redis, tmp_path) as store:
        (receipt,) = await store.submit([call_of()], NOW + 2)
        assert (await store.depths(NOW))[queue_of(ECHO)].oldest_due == NOW
        assert [call.id for call in await store.take(limit, 5, NOW, LEASE_S)] == [receipt.id]


async def test_calls_that_another_version_keeps_are_left_alone_and_said(redis: RedisServer, tmp_path: Path) -> None:
    async with opened(redis, tmp_path) as store:
        redis.command("HSET", "{pinnace}:queues", "echo.openfaas-fn", "1")
        with pytest.raises(StoreUnavailable, match="as an older version kept them: let that version carry them out"):
            await store.submit([call_of()], NOW)
        redis.command("DEL", "{pinnace}:queues")
        await store.submit([call_of()], NOW)
        redis.command("HSET", "{pinnace}:queues", "echo.openfaas-fn", "1")  # an older gateway that runs beside
        with pytest.raises(StoreUnavailable, match="as an older version kept them"):
            await store.sweep(NOW, Keep())
        assert len(await store.take(limit, 5, NOW, LEASE_S)) == 1
        redis.command("SETRANGE", "{pinnace}:m", "3", "\x7f")
        with pytest.raises(StoreUnavailable, match="as a newer version keeps them: use that version"):
            await store.submit([call_of()], NOW)


async def test_all_keys_are_in_one_slot_of_a_cluster(tmp_path: Path) -> None:
    needs_redis()
    with socket.create_server(("127.0.0.1", 0)) as free:
        bus = free.getsockname()[1]  # its own choice would be the same for every server without a port
    with RedisServer(port=0, cluster_enabled="yes", cluster_port=str(bus)) as server:
        server.command("CLUSTER", "ADDSLOTSRANGE", "0", "16383")
        await eventually(lambda: b"cluster_state:ok" in server.command("CLUSTER", "INFO"))
        async with opened(server, tmp_path, name="one") as store:
            (receipt,) = await store.submit([call_of(body=b"x" * 70_000, idempotency_key="k")], NOW)
            (call,) = await store.take(limit, 5, NOW, LEASE_S)
            told = call_of(body=b"told")
            assert await store.finish(call.lease, State.DEAD, Outcome(status=500), NOW, body=b"r" * 70_000, then=[told])
            assert await store.replay(receipt.id, NOW) is State.DEAD
            assert {key[:5] for key in await store._server.command("KEYS", "*")} == {b"{one}"}


async def test_platforms_of_different_names_share_a_server(redis: RedisServer, tmp_path: Path) -> None:
    async with opened(redis, tmp_path / "1", name="one") as one, opened(redis, tmp_path / "2", name="two") as two:
        await one.submit([call_of()], NOW)
        assert await two.depths(NOW) == {}


async def test_the_password_of_a_file_is_read_for_each_connection(own_redis: RedisServer, tmp_path: Path) -> None:
    own_redis.command("CONFIG", "SET", "requirepass", "first")
    file = tmp_path / "password"
    file.write_text("wrong\n")
    async with opened(own_redis, tmp_path, password_file=str(file)) as store:
        with pytest.raises(StoreUnavailable, match="does not take this password"):
            await store.submit([call_of()], NOW)
        file.write_text("first\n")
        await store.submit([call_of()], NOW)
        file.unlink()
        await store._server.client.connection_pool.disconnect()
        with pytest.raises(StoreUnavailable, match="password: No such file"):
            await store.submit([call_of()], NOW)


@pytest.mark.parametrize(
    ("info", "fsync", "waits", "words"),
    [
        ({"aof_enabled": 1}, "always", False, ()),
        ({"aof_enabled": 1}, "everysec", False, ("about the last second may be lost",)),
        ({"aof_enabled": 1}, None, False, ("it does not tell its appendfsync",)),
        ({"aof_enabled": 1, "redis_version": "7.2.4"}, "everysec", True, ()),
        ({"aof_enabled": 1, "redis_version": "8.0.0"}, "always", False, ()),
        ({"aof_enabled": 0}, "everysec", False, ("append-only file is off",)),
        ({"aof_enabled": 1, "maxmemory_policy": "allkeys-lru"}, "always", False, ("set noeviction",)),
    ],
)
def test_what_a_server_does_not_promise_is_one_line_each(
    info: dict[str, object], fsync: str | None, waits: bool, words: tuple[str, ...]
) -> None:
    found = durability({"redis_version": "7.0.15"} | info, fsync, wait_for_disk=True)
    assert found.waits is waits
    assert len(found.warnings) == len(words)
    assert all(word in warning for word, warning in zip(words, found.warnings, strict=True))


async def test_a_server_without_a_log_is_warned_of_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    needs_redis()
    with RedisServer(fsync="") as server:
        async with opened(server, tmp_path) as store:
            await store.submit([call_of()], NOW)
            store._server.forget()
            await store.submit([call_of()], NOW)
    assert ["append-only file is off" in record.message for record in caplog.records if record.name == "pinnace.async"][:1] == [
        True
    ]
    assert sum("append-only" in record.message for record in caplog.records) == 1


@pytest.mark.parametrize("synced", [1, 0])
async def test_a_call_counts_when_the_server_that_can_be_asked_has_synced_it(
    synced: int, redis: RedisServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The server here is too old to be asked: what stands for its answer is a script."""
    monkeypatch.setattr(module, "WAITS_FROM", (7, 0))
    monkeypatch.setattr(module, "WAIT", ("EVAL", f"return {{{synced}, 0}}", 0))
    redis.command("CONFIG", "SET", "appendfsync", "everysec")
    try:
        async with opened(redis, tmp_path) as store:
            if synced:
                await store.submit([call_of()], NOW)
                redis.command("SCRIPT", "FLUSH")
                await store.submit([call_of()], NOW)
                return
            with pytest.raises(StoreUnavailable, match="has not synced its log in time"):
                await store.submit([call_of()], NOW)
            assert len(await store.take(limit, 5, NOW, LEASE_S)) == 1  # what need not be durable does not wait
    finally:
        redis.command("CONFIG", "SET", "appendfsync", "always")


@pytest.mark.parametrize("url", ["", "redis://", "http://a", "redis://a:x", "redis://a/b", "unix://", "redis://a:99999"])
def test_an_address_that_cannot_be_is_refused(url: str) -> None:
    with pytest.raises(InvalidRedisSetting):
        RedisSettings(url=url)


def test_what_authorises_is_not_shown() -> None:
    assert RedisSettings(url="rediss://u:secret@db.example:6380/3?ssl_ca_certs=/ca").shown == "rediss://db.example:6380/3"
