"""What every store promises: calls are kept, taken in turns, ended, tried again, and forgotten."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from gateway.asynchronous.calls import INLINE_BYTES, Body, Lease, Outcome, State, Submission, queue_of
from gateway.asynchronous.store import Bounds, Keep, QueueFull, Store
from orchestration.names import FunctionId
from tests.gateway.asynchronous.conftest import Stores, bodies

ECHO = FunctionId("openfaas-fn", "echo")
SLOW = FunctionId("openfaas-fn", "slow")
NOW = 1_000_000.0
LEASE_S = 30.0


def call_of(function: FunctionId = ECHO, **settings: object) -> Submission:
    return Submission(queue=queue_of(function), function=function, **settings)  # type: ignore[arg-type]


def limit(_queue: str) -> int:
    return 10


@pytest.fixture
async def store(stores: Stores) -> AsyncIterator[Store]:
    async with stores() as made:
        yield made


async def submit(store: Store, *submissions: Submission, now: float = NOW) -> list[str]:
    return [receipt.id for receipt in await store.submit(submissions, now)]


async def body_of(store: Store, body: Body) -> bytes:
    return b"".join([chunk async for chunk in store.chunks(body)])


async def test_a_call_is_taken_as_it_was_submitted_and_ends_with_its_outcome(store: Store) -> None:
    wanted = call_of(method="PUT", path="/a?b=c", headers=(("X-A", "1"), ("X-A", "2")), body=b"hello")
    (call_id,) = await submit(store, wanted)
    (call,) = await store.take(limit, 5, NOW, LEASE_S)
    assert (call.id, call.state, call.attempts) == (call_id, State.RUNNING, 1)
    assert (call.method, call.path, call.headers, call.function) == ("PUT", "/a?b=c", wanted.headers, ECHO)
    assert await body_of(store, call.body) == b"hello"
    outcome = Outcome(status=201, headers=(("Content-Type", "text/plain"),), started=NOW, ended=NOW + 1)
    assert await store.finish(call.lease, State.SUCCEEDED, outcome, NOW + 1, body=b"made")
    ended = await store.get(call_id)
    assert ended is not None
    assert (ended.state, ended.outcome, ended.ended) == (State.SUCCEEDED, outcome, NOW + 1)
    assert await body_of(store, ended.result) == b"made"
    with pytest.raises(KeyError):
        await body_of(store, ended.body)


async def test_queues_take_turns_and_none_exceeds_its_limit(store: Store) -> None:
    await submit(store, *(call_of(SLOW) for _ in range(50)), *(call_of(ECHO) for _ in range(3)))
    calls = await store.take(lambda queue: 2 if queue == queue_of(SLOW) else 10, 10, NOW, LEASE_S)
    assert [call.function.name for call in calls] == ["slow", "echo", "slow", "echo", "echo"]
    assert await store.take(lambda queue: 2, 10, NOW, LEASE_S) == []
    await store.release([calls[0].lease], NOW)
    (again,) = await store.take(lambda queue: 2, 10, NOW, LEASE_S)
    assert (again.id, again.attempts) == (calls[0].id, 1)


async def test_one_at_a_time_comes_from_each_queue_in_turn(store: Store) -> None:
    await submit(store, *(call_of(function) for function in (SLOW, SLOW, ECHO, ECHO)))
    taken = [(await store.take(limit, 1, NOW, LEASE_S))[0].function.name for _ in range(4)]
    assert taken in (["slow", "echo", "slow", "echo"], ["echo", "slow", "echo", "slow"])


async def test_a_call_is_not_taken_before_it_is_due(store: Store) -> None:
    await submit(store, call_of(due=NOW + 60))
    assert await store.take(limit, 5, NOW + 59, LEASE_S) == []
    assert await store.next_due() == NOW + 60
    assert len(await store.take(limit, 5, NOW + 60, LEASE_S)) == 1
    assert await store.next_due() is None


async def test_a_lease_that_is_over_gives_the_call_to_another(store: Store) -> None:
    await submit(store, call_of())
    (first,) = await store.take(limit, 5, NOW, LEASE_S)
    assert await store.extend(first.lease, NOW + 20, LEASE_S)
    await store.sweep(NOW + 49, Keep())
    assert await store.take(limit, 5, NOW + 49, LEASE_S) == []
    await store.sweep(NOW + 50, Keep())
    (second,) = await store.take(limit, 5, NOW + 50, LEASE_S)
    assert second.attempts == 2
    assert not await store.extend(first.lease, NOW + 50, LEASE_S)
    assert not await store.finish(first.lease, State.SUCCEEDED, Outcome(status=200), NOW + 51)
    assert await store.finish(second.lease, State.SUCCEEDED, Outcome(status=200), NOW + 51)


async def test_a_retry_waits_and_a_dead_call_is_replayed_with_all_its_attempts(store: Store) -> None:
    (call_id,) = await submit(store, call_of(body=b"x" * (INLINE_BYTES + 1)))
    (call,) = await store.take(limit, 5, NOW, LEASE_S)
    assert await store.retry(call.lease, NOW + 10, Outcome(status=503, reason="busy"), NOW)
    assert await store.take(limit, 5, NOW + 9, LEASE_S) == []
    (call,) = await store.take(limit, 5, NOW + 10, LEASE_S)
    assert call.outcome is not None and call.outcome.reason == "busy"
    assert await store.finish(
        call.lease, State.DEAD, Outcome(status=500, reason="no"), NOW + 11, body=b"y" * (INLINE_BYTES + 1)
    )
    depth = (await store.depths(NOW + 11))[queue_of(ECHO)]
    assert (depth.waiting, depth.running, depth.dead, depth.bytes) == (0, 0, 1, 0)
    assert await store.replay(call_id, NOW + 12) is State.DEAD
    (call,) = await store.take(limit, 5, NOW + 12, LEASE_S)
    assert call.attempts == 1
    assert len(await body_of(store, call.body)) == INLINE_BYTES + 1
    assert await bodies(store) == 1


async def test_a_call_that_is_given_back_keeps_the_outcome_of_its_last_attempt(store: Store) -> None:
    await submit(store, call_of())
    (call,) = await store.take(limit, 5, NOW, LEASE_S)
    busy = Outcome(status=503, reason="busy")
    await store.retry(call.lease, NOW, busy, NOW)
    (call,) = await store.take(limit, 5, NOW, LEASE_S)
    await store.release([call.lease], NOW)
    (call,) = await store.take(limit, 5, NOW, LEASE_S)
    assert (call.outcome, call.attempts) == (busy, 2)


async def test_replay_all_replays_a_queue_piece_by_piece(store: Store) -> None:
    await submit(store, *(call_of() for _ in range(5)))
    for call in await store.take(limit, 5, NOW, LEASE_S):
        await store.finish(call.lease, State.DEAD, Outcome(status=500, reason="no"), NOW)
    counts = [await store.replay_all(queue_of(ECHO), NOW, 2) for _ in range(4)]
    assert counts == [2, 2, 1, 0]


async def test_cancelling_ends_waiting_and_running_calls_for_good(store: Store) -> None:
    waiting, running = await submit(store, call_of(due=NOW + 100), call_of())
    (call,) = await store.take(limit, 5, NOW, LEASE_S)
    assert call.id == running
    assert await store.cancel(waiting, NOW) is State.WAITING
    assert await store.cancel(running, NOW) is State.RUNNING
    assert await store.cancel(running, NOW) is State.CANCELLED
    assert await store.cancel("nobody", NOW) is None
    assert not await store.extend(call.lease, NOW, LEASE_S)
    assert not await store.finish(call.lease, State.SUCCEEDED, Outcome(status=200), NOW)
    assert await store.depths(NOW) == {}


@pytest.mark.parametrize("when", ["waiting", "running"])
async def test_what_follows_from_a_cancellation_is_submitted_with_it_and_once(store: Store, when: str) -> None:
    (call_id,) = await submit(store, call_of())
    if when == "running":
        await store.take(limit, 1, NOW, LEASE_S)
    told = call_of(SLOW, body=b"cancelled", headers=(("X-Call-Id", call_id),))
    for state in (State(when), State.CANCELLED):
        assert await store.cancel(call_id, NOW, then=[told]) is state
    assert await store.cancel("nobody", NOW, then=[told]) is None
    (follows,) = await store.take(limit, 5, NOW, LEASE_S)
    assert (follows.queue, follows.body.data, follows.headers) == (queue_of(SLOW), b"cancelled", told.headers)
    assert follows.submitted == NOW


async def test_nothing_follows_from_the_cancellation_of_a_call_that_has_ended(store: Store) -> None:
    (call_id,) = await submit(store, call_of())
    (call,) = await store.take(limit, 1, NOW, LEASE_S)
    assert await store.finish(call.lease, State.SUCCEEDED, Outcome(status=200), NOW)
    assert await store.cancel(call_id, NOW, then=[call_of(SLOW), call_of()]) is State.SUCCEEDED
    assert await store.take(limit, 5, NOW, LEASE_S) == []


async def test_a_clock_that_is_set_back_delays_no_call_that_was_due(store: Store) -> None:
    back = NOW - 3600
    await store.sweep(NOW - 1, Keep())
    at_once, _, slow = await submit(store, call_of(), call_of(due=NOW + 60), call_of(SLOW))
    (tried,) = await store.take(lambda queue: 1 if queue == queue_of(SLOW) else 0, 1, NOW, LEASE_S)
    while await store.sweep(back, Keep()):
        pass
    await store.release([tried.lease], back)
    (soon,) = [receipt.id for receipt in await store.submit([call_of(due=back + 60)], back)]
    taken = await store.take(limit, 5, back + 1, LEASE_S)
    assert {call.id for call in taken} == {at_once, slow}
    assert all(call.submitted == NOW for call in taken)
    assert [call.id for call in await store.take(limit, 5, back + 60, LEASE_S)] == [soon]
    assert await store.take(limit, 5, NOW + 59, LEASE_S) == []
    assert len(await store.take(limit, 5, NOW + 60, LEASE_S)) == 1


async def test_the_same_key_is_the_same_call(store: Store) -> None:
    (first,) = await store.submit([call_of(idempotency_key="k")], NOW)
    again, same, other = await store.submit(
        [
            call_of(idempotency_key="k", body=b"z" * (INLINE_BYTES + 1)),
            call_of(SLOW, idempotency_key="k"),
            call_of(SLOW, idempotency_key="k"),
        ],
        NOW,
    )
    assert (again.id, again.repeated) == (first.id, True)
    assert same.id != first.id and (other.id, other.repeated) == (same.id, True)
    assert await bodies(store) == 0


@pytest.mark.parametrize("how", ["taken", "delayed", "cancelled"])
async def test_a_key_is_known_as_long_as_its_call_is(how: str, store: Store) -> None:
    wanted = call_of(idempotency_key="k", due=NOW + 5 if how == "delayed" else 0.0)
    (call_id,) = await submit(store, wanted)
    if how == "cancelled":
        await store.cancel(call_id, NOW + 5)
    else:
        (call,) = await store.take(limit, 5, NOW + 5, LEASE_S)
        assert await store.finish(call.lease, State.SUCCEEDED, Outcome(status=200), NOW + 5)
    await submit(store, call_of())  # so that the queue is there when all else is forgotten
    assert await submit(store, wanted, now=NOW + 6) == [call_id]
    await store.sweep(NOW + 100, Keep(ended_s=50))
    assert await submit(store, wanted, now=NOW + 100) != [call_id]


async def test_a_wished_id_is_given_once(store: Store) -> None:
    ids = await submit(store, call_of(id="mine"), call_of(id="mine"))
    assert ids[0] == "mine" and ids[1] != "mine"


async def test_bounds_refuse_all_of_a_submission_or_nothing(store: Store) -> None:
    await store.submit([call_of()], NOW, lambda queue: Bounds(calls=2))
    with pytest.raises(QueueFull, match="at most 2"):
        await store.submit([call_of(SLOW), call_of(), call_of()], NOW, lambda queue: Bounds(calls=2))
    with pytest.raises(QueueFull, match="bytes"):
        await store.submit([call_of(body=b"x" * 70_000)], NOW, lambda queue: Bounds(bytes=60_000))
    assert {name: depth.waiting for name, depth in (await store.depths(NOW)).items()} == {queue_of(ECHO): 1}
    assert await bodies(store) == 0


async def test_each_queue_of_a_submission_has_bounds_of_its_own(store: Store) -> None:
    def bounds(queue: str) -> Bounds:
        return Bounds(calls=1 if queue == queue_of(SLOW) else 3)

    await store.submit([call_of(SLOW), call_of(), call_of()], NOW, bounds)
    with pytest.raises(QueueFull, match=r"1 calls of slow\.openfaas-fn wait already; at most 1 may"):
        await store.submit([call_of(), call_of(SLOW)], NOW, bounds)
    assert {name: depth.waiting for name, depth in (await store.depths(NOW)).items()} == {queue_of(SLOW): 1, queue_of(ECHO): 2}


async def test_a_folder_among_the_bodies_is_left_alone(stores: Stores) -> None:
    async with stores() as first:
        (first.spool / "lost+found").mkdir()  # as where a disk of its own is mounted there
        (first.spool / "left").write_bytes(b"by a process that was killed")
    async with stores() as second:
        assert [path.name for path in second.spool.iterdir()] == ["lost+found"]


async def test_what_follows_from_an_end_is_submitted_with_it(store: Store) -> None:
    await submit(store, call_of())
    (call,) = await store.take(limit, 5, NOW, LEASE_S)
    told = Submission(queue="echo.openfaas-fn#told", function=ECHO, url="http://127.0.0.1:1/", body=b"done")
    assert await store.finish(call.lease, State.SUCCEEDED, Outcome(status=200), NOW, then=[told])
    (follows,) = await store.take(limit, 5, NOW, LEASE_S)
    assert (follows.queue, follows.url) == (told.queue, told.url)
    assert not await store.finish(call.lease, State.SUCCEEDED, Outcome(status=200), NOW, then=[told])
    assert await store.take(limit, 5, NOW, LEASE_S) == []


async def test_who_waits_for_an_end_is_told_of_it_and_not_of_a_retry(store: Store) -> None:
    (call_id,) = await submit(store, call_of())
    waiting = asyncio.create_task(store.ended(call_id, 10))
    (call,) = await store.take(limit, 5, NOW, LEASE_S)
    await store.retry(call.lease, NOW, Outcome(status=503, reason="busy"), NOW)
    (call,) = await store.take(limit, 5, NOW, LEASE_S)
    assert not waiting.done()
    await store.finish(call.lease, State.SUCCEEDED, Outcome(status=200), NOW)
    ended = await waiting
    assert ended is not None and ended.state is State.SUCCEEDED
    assert await store.ended("nobody", 1) is None


async def test_ended_calls_are_forgotten_when_their_time_is_over_or_their_space(store: Store) -> None:
    ids = await submit(store, *(call_of() for _ in range(4)))
    calls = await store.take(limit, 5, NOW, LEASE_S)
    for number, call in enumerate(calls):
        state = State.DEAD if number == 0 else State.SUCCEEDED
        await store.finish(call.lease, state, Outcome(status=200), NOW + number, body=b"r" * (INLINE_BYTES + 1))
    assert not await store.sweep(NOW + 10, Keep(ended_s=9, dead_s=100))
    assert await store.get(ids[1]) is None
    assert await store.get(ids[0]) is not None
    await store.sweep(NOW + 10, Keep(ended_s=100, dead_s=100, bytes=140_000))
    assert [call.id for call in await store.page()] == [ids[3], ids[0]]
    assert await bodies(store) == 2


async def test_a_call_that_ended_by_a_clock_far_ahead_does_not_keep_others(store: Store) -> None:
    ids = await submit(store, *(call_of() for _ in range(3)))
    calls = await store.take(limit, 5, NOW, LEASE_S)
    for call, end in zip(calls, (NOW + 10_000, NOW, NOW + 1), strict=True):
        assert await store.finish(call.lease, State.SUCCEEDED, Outcome(status=200), end)
    for _ in range(2):
        await store.sweep(NOW + 100, Keep(ended_s=50))
    assert [call.id for call in await store.page()] == ids[:1]
    await store.sweep(NOW + 10_050, Keep(ended_s=50))
    assert await store.page() == []


@pytest.mark.parametrize("how", ["succeeded", "dead", "cancelled", "replayed"])
async def test_what_stays_of_the_requests_of_ended_calls_takes_space_too(store: Store, how: str) -> None:
    ids = await submit(store, *(call_of(headers=(("x", "y" * 10_000),)) for _ in range(10)))
    if how == "cancelled":
        for call_id in ids:
            await store.cancel(call_id, NOW)
    else:
        for call in await store.take(limit, 10, NOW, LEASE_S):
            state = State.SUCCEEDED if how == "succeeded" else State.DEAD
            await store.finish(call.lease, state, Outcome(status=200), NOW)
    if how == "replayed":  # and ended once more
        await store.replay_all(queue_of(ECHO), NOW)
        for call_id in ids:
            await store.cancel(call_id, NOW)
    await store.sweep(NOW + 1, Keep(bytes=55_000))
    assert 3 <= len(await store.page()) <= 5
    await store.sweep(NOW + 1, Keep(bytes=0))
    assert await store.page() == []


async def test_lists_have_the_newest_first_by_queue_and_state(store: Store) -> None:
    ids = await submit(store, call_of(), call_of(SLOW), call_of(), call_of(SLOW))
    (call,) = await store.take(limit, 1, NOW, LEASE_S)
    assert [c.id for c in await store.page()] == ids[::-1]
    assert [c.id for c in await store.page(queue_of(SLOW))] == [ids[3], ids[1]]
    assert [c.id for c in await store.page(states=[State.RUNNING])] == [call.id]
    assert [c.id for c in await store.page(limit=2, before=ids[3])] == [ids[2], ids[1]]
    assert await store.page("nobody.openfaas-fn") == []


async def test_depths_know_how_late_the_oldest_is(store: Store) -> None:
    await submit(store, call_of(due=NOW + 5), call_of(due=NOW + 50))
    assert (await store.depths(NOW))[queue_of(ECHO)].oldest_due == 0
    assert (await store.depths(NOW + 60))[queue_of(ECHO)].oldest_due == NOW + 5
    assert [(await store.depths(NOW + s))[queue_of(ECHO)].due for s in (0, 5, 60)] == [0, 1, 2]


async def test_leases_of_unknown_calls_are_not_held(store: Store) -> None:
    assert not await store.extend(Lease("nobody", 1), NOW, LEASE_S)
    assert not await store.retry(Lease("nobody", 1), NOW, Outcome(), NOW)
    await store.release([Lease("nobody", 1)], NOW)
