"""Accepted calls are carried out, tried again, given back, broken off; and one function leaves room for the others."""

from __future__ import annotations

import asyncio
import itertools
import time
from typing import Any

import pytest

from gateway.asynchronous import carrier, workers
from gateway.asynchronous.calls import Call, Lease, State
from gateway.asynchronous.memory import Queue
from gateway.asynchronous.store import Keep, StoreUnavailable
from gateway.asynchronous.workers import BEGUN_AT_ONCE, Workers
from gateway.edge.settings import EdgeSettings
from tests.gateway.asynchronous.conftest import MakeLab
from tests.gateway.asynchronous.lab import PROMPT, AsyncLab
from tests.gateway.edge.lab import Origin, eventually, field, read_request


class Gate:
    """A replica that answers when it is let to; `left` counts clients that left before."""

    def __init__(self) -> None:
        self.open = asyncio.Event()
        self.inside = self.left = 0

    async def __call__(self, origin: Origin, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while (await read_request(reader))[0]:
            self.inside += 1
            gone = asyncio.create_task(reader.read(1))
            opened = asyncio.create_task(self.open.wait())
            await asyncio.wait((gone, opened), return_when=asyncio.FIRST_COMPLETED)
            self.inside -= 1
            if gone.done():
                self.left += 1
                opened.cancel()
                return
            writer.write(origin.response)
            gone.cancel()
            await asyncio.gather(gone, return_exceptions=True)


async def test_the_function_gets_the_call_as_it_was_submitted(lab: AsyncLab) -> None:
    origin = await lab.replica(lab.deploy("echo"))
    await lab.work()
    call_id = await lab.submit(
        "/async-function/echo/a?b=c", b"x" * 100_000, X_Thing="1", traceparent=f"00-{'a' * 32}-{'b' * 16}-01"
    )
    assert (await lab.outcome(call_id))["state"] == "succeeded"
    (head,) = origin.heads
    assert head.startswith(b"POST /a?b=c HTTP/1.1\r\n")
    assert field(head, b"x-call-id") == call_id.encode()
    assert field(head, b"host") == field(head, b"x-forwarded-host") == b"gateway.example"
    assert field(head, b"x-forwarded-for") == b"127.0.0.1"
    assert field(head, b"x-thing") == b"1"
    assert (field(head, b"traceparent") or b"")[3:35] == b"a" * 32
    assert origin.bodies == [b"x" * 100_000]
    await eventually(lambda: not list(lab.store.spool.iterdir()))


async def test_of_a_burst_so_many_begin_before_others_have_the_loop(lab: AsyncLab, monkeypatch: pytest.MonkeyPatch) -> None:
    await lab.replica(lab.deploy("echo"))
    ids = [await lab.submit() for _ in range(70)]
    begun, begin = [0], Workers._begin

    def counted(workers: Workers, call: Call) -> None:
        begun[-1] += 1
        begin(workers, call)

    async def others() -> None:
        while True:
            begun.append(0)
            await asyncio.sleep(0)

    monkeypatch.setattr(Workers, "_begin", counted)
    watching = asyncio.create_task(others())
    await lab.work()
    for call_id in ids:
        assert (await lab.outcome(call_id))["state"] == "succeeded"
    watching.cancel()
    assert (sum(begun), max(begun)) == (70, BEGUN_AT_ONCE)


async def test_of_a_burst_what_is_cancelled_before_its_turn_does_not_begin(
    lab: AsyncLab, monkeypatch: pytest.MonkeyPatch
) -> None:
    await lab.replica(lab.deploy("echo"))
    ids = [await lab.submit() for _ in range(3 * BEGUN_AT_ONCE)]
    begun: list[str] = []
    begin = Workers._begin

    def noted(workers: Workers, call: Call) -> None:
        begun.append(call.id)
        begin(workers, call)
        if len(begun) == BEGUN_AT_ONCE:
            workers.cancelled(ids[-1])

    monkeypatch.setattr(Workers, "_begin", noted)
    workers = await lab.work()
    await eventually(lambda: len(begun) == len(ids) - 1 and not workers.running)
    assert begun == ids[:-1]


async def test_a_call_waits_until_its_function_can_be_woken(lab: AsyncLab) -> None:
    function = lab.deploy("echo")
    await lab.work()
    call_id = await lab.submit()
    await eventually(lambda: any(sample.queued for sample in lab.samples))
    await lab.replica(function)
    assert (await lab.outcome(call_id))["state"] == "succeeded"


async def test_a_failing_call_is_tried_as_often_as_it_may_be_and_then_dead(lab: AsyncLab) -> None:
    origin = await lab.replica(lab.deploy_with("echo", PROMPT))
    origin.response = b"HTTP/1.1 503 Busy\r\nContent-Length: 4\r\n\r\nbusy"
    await lab.work()
    ended = await lab.outcome(await lab.submit())
    assert (ended["state"], ended["attempts"], ended["response"]["body"]) == ("dead", 3, "busy")
    assert ended["reason"] == "the function answered 503 at the last of 3 attempts"
    assert len(origin.heads) == 3


async def test_what_the_platform_itself_answered_is_told_as_the_reason(lab: AsyncLab) -> None:
    origin = await lab.replica(lab.deploy_with("echo", PROMPT))
    origin.response = b"HTTP/1.1 504 Late\r\nX-OpenFaaS-Internal: runtime\r\nContent-Length: 9\r\n\r\ntoo slow\n"
    await lab.work()
    ended = await lab.outcome(await lab.submit())
    assert ended["reason"] == "the runtime answered 504 (too slow) at the last of 3 attempts"


async def test_a_call_that_is_tried_again_may_succeed(lab: AsyncLab) -> None:
    async def second_time(origin: Origin, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while (await read_request(reader))[0]:
            origin.heads.append(b"")
            status = b"500 No" if len(origin.heads) == 1 else b"200 OK"
            writer.write(b"HTTP/1.1 %b\r\nContent-Length: 0\r\n\r\n" % status)

    await lab.replica(lab.deploy_with("echo", PROMPT), second_time)
    await lab.work()
    ended = await lab.outcome(await lab.submit())
    assert (ended["state"], ended["attempts"]) == ("succeeded", 2)


async def test_a_status_that_is_not_retried_is_the_end(lab: AsyncLab) -> None:
    origin = await lab.replica(lab.deploy_with("echo", PROMPT))
    origin.response = b"HTTP/1.1 400 Bad\r\nContent-Length: 3\r\n\r\nbad"
    await lab.work()
    ended = await lab.outcome(await lab.submit())
    assert (ended["state"], ended["attempts"]) == ("dead", 1)
    assert ended["reason"] == "the function answered 400, after which it is not tried again"


async def test_a_call_that_is_too_late_is_dead_without_an_attempt(lab: AsyncLab) -> None:
    origin = await lab.replica(lab.deploy("echo"))
    call_id = await lab.submit(X_TTL_Seconds="0.01")
    await asyncio.sleep(0.02)
    await lab.work()
    ended = await lab.outcome(call_id)
    assert (ended["state"], ended["reason"]) == ("dead", "expired before it could be carried out")
    assert origin.heads == []


async def test_a_delayed_call_comes_when_it_is_due(lab: AsyncLab) -> None:
    origin = await lab.replica(lab.deploy("echo"))
    await lab.work()
    began = time.monotonic()
    call_id = await lab.submit(X_Delay_Seconds="0.2")
    assert (await lab.outcome(call_id))["state"] == "succeeded"
    assert 0.2 <= time.monotonic() - began < 20
    assert len(origin.heads) == 1


async def test_a_slow_function_leaves_room_for_others_and_keeps_its_own_limit(make_lab: MakeLab) -> None:
    lab = await make_lab(concurrency=8)
    slow, few = Gate(), Gate()
    await lab.replica(lab.deploy("slow"), slow)
    await lab.replica(lab.deploy_with("few", {"com.pinnace.async.concurrency": "1"}), few)
    await lab.replica(lab.deploy("echo"))
    for _ in range(20):
        await lab.submit("/async-function/slow")
        await lab.submit("/async-function/few")
    await lab.work()
    await eventually(lambda: slow.inside >= 3 and few.inside == 1)
    assert (await lab.outcome(await lab.submit()))["state"] == "succeeded"
    assert slow.inside < 8 and few.inside == 1
    slow.open.set()
    few.open.set()
    await eventually(lambda: not any(depth.running or depth.waiting for depth in _depths(lab)))


def _depths(lab: AsyncLab) -> list[Queue]:
    return list(lab.store.ledger.queues.values())


async def test_cancelling_breaks_off_a_call_that_runs(lab: AsyncLab) -> None:
    gate = Gate()
    await lab.replica(lab.deploy("echo"), gate)
    workers = await lab.work()
    call_id = await lab.submit()
    await eventually(lambda: gate.inside)
    assert (await lab.ask("DELETE", f"/async-function/{call_id}")).json["was"] == "running"
    await eventually(lambda: gate.left == 1 and not workers.running)
    assert (await lab.outcome(call_id))["state"] == "cancelled"


async def swept(lab: AsyncLab, monkeypatch: pytest.MonkeyPatch, after: float) -> None:
    """Wait until what was overdue at a time later than `after` has been given back: a sweep is what ends leases."""
    made, sweep = asyncio.Event(), lab.store.sweep

    async def told(now: float, keep: Keep) -> bool:
        more = await sweep(now, keep)
        if now > after:
            made.set()
        return more

    with monkeypatch.context() as patch:
        patch.setattr(lab.store, "sweep", told)
        await asyncio.wait_for(made.wait(), 20)


@pytest.mark.parametrize("inside", ["inside"], indirect=True)  # it is the clock that counts here, not the way
async def test_leases_are_prolonged_and_a_lost_one_breaks_the_call_off(
    make_lab: MakeLab, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gateway.asynchronous.workers.SWEEP_S", 0.02)  # before each of rare ones leases are prolonged too
    lab = await make_lab(lease_s=1.0)
    gate = Gate()
    await lab.replica(lab.deploy("echo"), gate)
    workers = await lab.work()
    call_id = await lab.submit()
    await eventually(lambda: gate.inside)
    await swept(lab, monkeypatch, time.time() + 1.0)  # a lease later
    call = await lab.store.get(call_id)
    assert call is not None and (call.state, call.takes) == (State.RUNNING, 1)
    await lab.store.cancel(call_id, time.time())  # as another process might
    await eventually(lambda: gate.left == 1 and not workers.running)


@pytest.mark.parametrize("inside", ["inside"], indirect=True)  # it is the clock that counts here, not the way
async def test_a_slow_store_prolongs_many_leases_in_time(make_lab: MakeLab, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.asynchronous.workers.SWEEP_S", 0.02)  # before each of rare ones leases are prolonged too
    lab = await make_lab(lease_s=0.9, concurrency=50)
    gate = Gate()
    await lab.replica(lab.deploy("echo"), gate)
    extend = lab.store.extend

    async def slow(lease: Lease, now: float, lease_s: float) -> bool:
        await asyncio.sleep(0.1)
        return await extend(lease, now, lease_s)

    monkeypatch.setattr(lab.store, "extend", slow)
    await lab.work()
    ids = [await lab.submit() for _ in range(20)]
    await eventually(lambda: gate.inside == 20)
    await swept(lab, monkeypatch, time.time() + 2.0)  # longer than a lease, and than twenty changes one after the other
    calls = [await lab.store.get(call_id) for call_id in ids]
    assert [(call.state, call.takes) for call in calls if call is not None] == [(State.RUNNING, 1)] * 20


async def test_a_clock_that_leaps_ahead_doubles_no_call(lab: AsyncLab, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.asynchronous.workers.SWEEP_S", 0.02)
    gate = Gate()
    await lab.replica(lab.deploy("echo"), gate)
    workers = await lab.work()
    call_id = await lab.submit()
    await eventually(lambda: gate.inside)
    monkeypatch.setattr(workers, "_clock", lambda: time.time() + 3600)  # a machine that slept for an hour
    await swept(lab, monkeypatch, time.time() + 1800)
    gate.open.set()
    assert (await lab.outcome(call_id))["attempts"] == 1


async def test_what_runs_at_the_end_is_given_back_and_does_not_count(lab: AsyncLab) -> None:
    gate = Gate()
    await lab.replica(lab.deploy("echo"), gate)
    workers = await lab.work()
    call_id = await lab.submit()
    await eventually(lambda: gate.inside)
    await workers.__aexit__(None, None, None)
    call = await lab.store.get(call_id)
    assert call is not None and (call.state, call.attempts) == (State.WAITING, 0)


async def test_workers_that_are_paused_take_nothing_and_finish_what_runs(lab: AsyncLab) -> None:
    gate = Gate()
    await lab.replica(lab.deploy("echo"), gate)
    workers: Workers = await lab.work()
    first = await lab.submit()
    await eventually(lambda: gate.inside)
    workers.pause()
    second = await lab.submit()
    gate.open.set()
    assert (await lab.outcome(first))["state"] == "succeeded"
    waiting = await lab.store.get(second)
    assert waiting is not None and waiting.state is State.WAITING


@pytest.mark.parametrize("inside", ["sockets"], indirect=True)
async def test_an_edge_that_cannot_be_reached_is_tried_again_soon(lab: AsyncLab) -> None:
    await lab.replica(lab.deploy("echo"))
    inner = lab.edge.settings.inner_socket
    aside = lab.folder / "aside"
    (lab.folder / inner).rename(aside)
    await lab.work()
    call_id = await lab.submit()
    await eventually(lambda: lab.store.ledger.queues and next(iter(lab.store.ledger.queues.values())).waiting)
    aside.rename(inner)
    ended = await lab.outcome(call_id)
    assert (ended["state"], ended["attempts"]) == ("succeeded", 1)


async def test_a_call_that_is_taken_while_the_edge_stops_is_given_back_and_does_not_count(
    lab: AsyncLab, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The workers may have taken it before they were paused, and find that the edge takes no more calls."""
    monkeypatch.setattr(carrier, "BUSY_S", 0.0)
    given_back = asyncio.Event()
    release = lab.store.release

    async def released(*args: Any) -> None:
        await release(*args)
        given_back.set()

    await lab.replica(lab.deploy("echo"))
    call_id = await lab.submit()
    await lab.edge.drain(0.05)
    monkeypatch.setattr(lab.store, "release", released)
    workers = await lab.work()
    await asyncio.wait_for(given_back.wait(), 5)
    await workers.__aexit__(None, None, None)
    call = await lab.store.get(call_id)
    assert call is not None and (call.state, call.attempts) == (State.WAITING, 0)


async def test_a_backlog_of_slow_calls_costs_no_attempts(make_lab: MakeLab, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(carrier, "BUSY_S", 0.01)
    lab = await make_lab(edge=EdgeSettings(queue_timeout_s=0.05))
    gate = Gate()
    once = {"com.pinnace.concurrency": "1", "com.openfaas.retry.attempts": "1", "com.pinnace.async.concurrency": "2"}
    await lab.replica(lab.deploy_with("slow", once), gate)
    workers = await lab.work()
    ids = [await lab.submit("/async-function/slow") for _ in range(2)]
    await eventually(lambda: gate.inside == 1 and workers.running == 2)
    await eventually(lambda: lab.edge.tallies()[lab.functions["slow.openfaas-fn"].id].by_code.get(504))
    gate.open.set()
    told = [await lab.outcome(call_id) for call_id in ids]
    assert [(call["state"], call["attempts"]) for call in told] == [("succeeded", 1)] * 2


async def test_an_outcome_is_written_again_while_the_store_is_away(lab: AsyncLab, monkeypatch: pytest.MonkeyPatch) -> None:
    origin = await lab.replica(lab.deploy("echo"))
    body = b"r" * 100_000  # a file
    origin.response = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body)
    finish = lab.store.finish
    tries = itertools.count(1)

    async def away(*args: Any, **kwargs: Any) -> bool:
        if next(tries) < 3:
            kwargs["body"].unlink()  # what is handed over is the store's own
            raise StoreUnavailable("away")
        return await finish(*args, **kwargs)

    monkeypatch.setattr(carrier, "REPEATED_FIRST_S", 0.01)
    monkeypatch.setattr(lab.store, "finish", away)
    await lab.work()
    call_id = await lab.submit()
    assert (await lab.outcome(call_id))["attempts"] == 1
    assert (await lab.ask("GET", f"/async-function/{call_id}/result")).body == body
    assert next(tries) == 4
    await eventually(lambda: len(list(lab.store.spool.iterdir())) == 1)


async def test_that_the_store_is_away_is_said_once_and_when_it_is_back(
    lab: AsyncLab, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "pinnace.async")
    tries = itertools.count()

    async def away(*args: object) -> Any:
        next(tries)
        raise StoreUnavailable("nobody listens")

    monkeypatch.setattr(workers, "BROKEN_S", 0.01)
    monkeypatch.setattr(workers, "SWEEP_S", 0.01)
    with monkeypatch.context() as patch:
        patch.setattr(lab.store, "take", away)
        patch.setattr(lab.store, "sweep", away)
        await lab.work()
        await eventually(lambda: next(tries) > 10)
        assert [record.message for record in caplog.records] == ["asynchronous calls wait: nobody listens"]
    await eventually(lambda: len(caplog.records) == 2)
    assert caplog.records[1].message == "asynchronous calls go on: the store can be used again"
