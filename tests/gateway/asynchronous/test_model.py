"""Every store does what a few lists and rules say, whatever is done in whatever order, and whenever it is opened anew."""

from __future__ import annotations

import asyncio
import dataclasses
import itertools
import shutil
import tempfile
from collections.abc import Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any, ClassVar, TypeVar

import msgspec
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule, run_state_machine_as_test

from gateway.asynchronous.calls import Call, Lease, Outcome, State, Submission, queue_of
from gateway.asynchronous.redis.store import RedisStore
from gateway.asynchronous.sqlite_store import SqliteStore
from gateway.asynchronous.store import UNBOUNDED, Bounds, Keep, QueueFull, Store
from orchestration.names import FunctionId
from tests.gateway.asynchronous.redis_server import RedisServer

Result = TypeVar("Result")

FUNCTIONS = [FunctionId("openfaas-fn", name) for name in ("a", "b", "c")]
LEASE_S = 10.0
LIMITS = {queue_of(function): limit for function, limit in zip(FUNCTIONS, (1, 2, 5), strict=True)}
KEEP = Keep(ended_s=30, dead_s=90)


@dataclasses.dataclass
class Known:
    """What the model knows of a call."""

    number: int
    id: str
    queue: str
    body: bytes
    due: float
    key: str
    state: State = State.WAITING
    attempts: int = 0
    takes: int = 0
    until: float = 0.0
    ended: float = 0.0
    outcome: Outcome | None = None
    result: bytes = b""


class Place:
    """Where the calls of one run of the machine are kept; `store` is open from `open` on. Where `leases_end`, what ran is due
    at once when the store was opened anew."""

    leases_end: bool

    async def open(self) -> Store:
        raise NotImplementedError

    async def crash(self) -> Store:
        """Let the store end as a `kill -9` ends it, and open it again."""
        raise NotImplementedError

    def clear(self) -> None:
        """Nothing is left of it."""


class InFile(Place):
    leases_end = True

    def __init__(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="pinnace-model-"))

    async def open(self) -> Store:
        self.store = SqliteStore(self.folder)
        return self.store

    async def crash(self) -> Store:
        """The files as they are at this moment, while the store is open, are what a process that dies now would leave."""
        folder = Path(tempfile.mkdtemp(prefix="pinnace-model-"))
        shutil.copytree(self.folder, folder, dirs_exist_ok=True)
        await self.store.close()
        self.clear()
        self.folder = folder
        return await self.open()

    def clear(self) -> None:
        shutil.rmtree(self.folder)


class InServer(Place):
    leases_end = False
    runs: ClassVar[Iterator[int]] = itertools.count()

    def __init__(self, server: RedisServer) -> None:
        self.server = server
        self.settings = msgspec.structs.replace(server.settings, name=f"model-{next(self.runs)}")
        self.folder = Path(tempfile.mkdtemp(prefix="pinnace-model-"))

    async def open(self) -> Store:
        self.store = RedisStore(self.settings, self.folder)
        return self.store

    async def crash(self) -> Store:
        """The server dies, and later the gateway."""
        self.server.kill()
        self.server.start()
        await self.store.depths(0)
        await self.store.close()
        return await self.open()

    def clear(self) -> None:
        self.server.command("FLUSHALL")
        shutil.rmtree(self.folder)


class Machine(RuleBasedStateMachine):
    made: ClassVar[staticmethod[[], Place]]

    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        self.place = self.made()
        self.store: Store | None = None
        self.now = 1_000_000.0
        self.calls: dict[str, Known] = {}
        self.forgotten: list[str] = []
        self.leases: list[Lease] = []
        self.count = 0

    def do(self, work: Coroutine[Any, Any, Result]) -> Result:
        return self.runner.run(work)

    def teardown(self) -> None:
        if self.store is not None:
            self.do(self.store.close())
        self.runner.close()
        self.place.clear()

    # the model

    def queue(self, queue: str, state: State) -> list[Known]:
        return [call for call in self.calls.values() if call.queue == queue and call.state is state]

    def held(self, lease: Lease) -> Known | None:
        call = self.calls.get(lease.id)
        return call if call is not None and call.state is State.RUNNING and call.takes == lease.take else None

    # what is done

    @initialize()
    def open(self) -> None:
        self.store = self.do(self.place.open())

    @rule(crash=st.booleans())
    def open_anew(self, crash: bool) -> None:
        if crash:
            self.store = self.do(self.place.crash())
        else:
            self.do(self.it.close())
            self.open()
        if self.place.leases_end:
            for call in self.calls.values():
                if call.state is State.RUNNING:
                    call.state = State.WAITING

    @property
    def it(self) -> Store:
        assert self.store is not None
        return self.store

    @rule(seconds=st.sampled_from([0.5, 1.0, 5.0, 11.0, 31.0]))
    def time_passes(self, seconds: float) -> None:
        self.now += seconds

    @rule(
        wanted=st.lists(
            st.tuples(
                st.sampled_from(FUNCTIONS),
                st.sampled_from([0, 5, 3000, 80_000]),
                st.sampled_from([0.0, 0.0, 3.0, 12.0]),
                st.sampled_from(["", "", "k1", "k2"]),
            ),
            min_size=1,
            max_size=5,
        ),
        most=st.sampled_from([3, 1000]),
    )
    def submit(self, wanted: list[tuple[FunctionId, int, float, str]], most: int) -> None:
        submissions, fresh, expected = [], [], []
        keys = {(call.queue, call.key): call.number for call in self.calls.values() if call.key}
        for function, size, delay, key in wanted:
            body = b"b" * size
            queue = queue_of(function)
            due = self.now + delay if delay else 0.0
            submissions.append(Submission(queue=queue, function=function, body=body, due=due, idempotency_key=key))
            known = keys.get((queue, key))
            expected.append(known)
            if known is None:
                self.count += 1
                fresh.append(Known(self.count, "", queue, body, max(due, self.now), key))
                if key:
                    keys[queue, key] = self.count
        full = any(
            len(self.queue(queue, State.WAITING)) + sum(call.queue == queue for call in fresh) > most
            for queue in {call.queue for call in fresh}
        )

        def bounds(queue: str) -> Bounds:
            return Bounds(most, UNBOUNDED.bytes)

        if full:
            with pytest.raises(QueueFull):
                self.do(self.it.submit(submissions, self.now, bounds))
            return
        receipts = self.do(self.it.submit(submissions, self.now, bounds))
        assert [receipt.repeated for receipt in receipts] == [known is not None for known in expected]
        numbered = {call.number: call.id for call in self.calls.values()}
        for receipt, known in zip(receipts, expected, strict=True):
            if known is None:
                call = fresh.pop(0)
                assert receipt.id not in self.calls
                call.id = receipt.id
                self.calls[call.id] = call
                numbered[call.number] = call.id
            else:
                assert receipt.id == numbered[known]

    @rule(at_most=st.integers(1, 6))
    def take(self, at_most: int) -> None:
        room = {queue: limit - len(self.queue(queue, State.RUNNING)) for queue, limit in LIMITS.items()}
        due = {
            queue: sorted((c for c in self.queue(queue, State.WAITING) if c.due <= self.now), key=lambda c: (c.due, c.number))
            for queue in LIMITS
        }
        possible = {queue: min(room[queue], len(due[queue])) for queue in LIMITS}
        taken = self.do(self.it.take(LIMITS.__getitem__, at_most, self.now, LEASE_S))
        assert len(taken) == min(at_most, sum(possible.values()))
        counts = {queue: [call.id for call in taken if call.queue == queue] for queue in LIMITS}
        for queue, ids in counts.items():
            assert ids == [call.id for call in due[queue][: len(ids)]], "the one that became due first is first"
            assert len(ids) <= possible[queue]
        for ids in counts.values():  # none gets two more than another that has more to give
            assert all(len(ids) <= len(counts[other]) + 1 for other in LIMITS if len(counts[other]) < possible[other])
        for call in taken:
            known = self.calls[call.id]
            known.state, known.attempts, known.takes = State.RUNNING, known.attempts + 1, known.takes + 1
            known.until = self.now + LEASE_S
            self.check(call, known)
            self.leases.append(call.lease)

    @precondition(lambda self: self.leases)
    @rule(data=st.data())
    def extend(self, data: st.DataObject) -> None:
        lease = data.draw(st.sampled_from(self.leases))
        known = self.held(lease)
        assert self.do(self.it.extend(lease, self.now, LEASE_S)) == (known is not None)
        if known is not None:
            known.until = self.now + LEASE_S

    @precondition(lambda self: self.leases)
    @rule(data=st.data(), state=st.sampled_from([State.SUCCEEDED, State.DEAD]), size=st.sampled_from([0, 1, 3000, 70_000]))
    def finish(self, data: st.DataObject, state: State, size: int) -> None:
        result = b"r" * size
        lease = data.draw(st.sampled_from(self.leases))
        known = self.held(lease)
        outcome = Outcome(status=200, headers=(("X-Number", str(lease.take)),), ended=self.now)
        assert self.do(self.it.finish(lease, state, outcome, self.now, body=result)) == (known is not None)
        if known is not None:
            known.state, known.ended, known.outcome, known.result = state, self.now, outcome, result

    @precondition(lambda self: self.leases)
    @rule(data=st.data(), delay=st.sampled_from([0.0, 2.0, 20.0]))
    def retry(self, data: st.DataObject, delay: float) -> None:
        lease = data.draw(st.sampled_from(self.leases))
        known = self.held(lease)
        outcome = Outcome(status=503, reason="busy", ended=self.now)
        assert self.do(self.it.retry(lease, self.now + delay, outcome, self.now)) == (known is not None)
        if known is not None:
            known.state, known.due, known.outcome = State.WAITING, self.now + delay, outcome

    @precondition(lambda self: self.leases)
    @rule(data=st.data())
    def release(self, data: st.DataObject) -> None:
        leases = data.draw(st.lists(st.sampled_from(self.leases), min_size=1, max_size=3, unique=True))
        self.do(self.it.release(leases, self.now))
        for lease in leases:
            if (known := self.held(lease)) is not None:
                known.state, known.attempts = State.WAITING, known.attempts - 1

    @precondition(lambda self: self.calls)
    @rule(data=st.data())
    def cancel(self, data: st.DataObject) -> None:
        known = self.calls[data.draw(st.sampled_from(list(self.calls)))]
        assert self.do(self.it.cancel(known.id, self.now)) is known.state
        if not known.state.ended:
            known.state, known.ended = State.CANCELLED, self.now

    @precondition(lambda self: self.calls)
    @rule(data=st.data())
    def replay(self, data: st.DataObject) -> None:
        known = self.calls[data.draw(st.sampled_from(list(self.calls)))]
        assert self.do(self.it.replay(known.id, self.now)) is known.state
        if known.state is State.DEAD:
            self.replayed(known)

    @rule(function=st.sampled_from(FUNCTIONS), at_most=st.integers(1, 3))
    def replay_all(self, function: FunctionId, at_most: int) -> None:
        dead = sorted(self.queue(queue_of(function), State.DEAD), key=lambda call: call.number)[:at_most]
        assert self.do(self.it.replay_all(queue_of(function), self.now, at_most)) == len(dead)
        for known in dead:
            self.replayed(known)

    def replayed(self, known: Known) -> None:
        known.state, known.due, known.ended, known.attempts, known.result = State.WAITING, self.now, 0.0, 0, b""

    @rule()
    def sweep(self) -> None:
        while self.do(self.it.sweep(self.now, KEEP)):
            pass
        for known in list(self.calls.values()):
            if known.state is State.RUNNING and known.until <= self.now:
                known.state, known.due = State.WAITING, self.now
            elif known.state.ended:
                kept_s = KEEP.dead_s if known.state is State.DEAD else KEEP.ended_s
                if known.ended <= self.now - kept_s:
                    del self.calls[known.id]
                    self.forgotten.append(known.id)

    # what is seen

    @precondition(lambda self: self.calls)
    @rule(data=st.data())
    def get(self, data: st.DataObject) -> None:
        known = self.calls[data.draw(st.sampled_from(list(self.calls)))]
        call = self.do(self.it.get(known.id))
        assert call is not None
        self.check(call, known)

    @precondition(lambda self: self.forgotten)
    @rule(data=st.data())
    def get_what_is_forgotten(self, data: st.DataObject) -> None:
        call_id = data.draw(st.sampled_from(self.forgotten))
        assert self.do(self.it.get(call_id)) is None
        assert self.do(self.it.cancel(call_id, self.now)) is None
        assert self.do(self.it.replay(call_id, self.now)) is None

    def check(self, call: Call, known: Known) -> None:
        assert (call.id, call.queue, call.state, call.attempts, call.takes) == (
            known.id,
            known.queue,
            known.state,
            known.attempts,
            known.takes,
        )
        assert (call.due, call.ended, call.idempotency_key, call.outcome) == (known.due, known.ended, known.key, known.outcome)

        async def read() -> tuple[bytes, bytes]:
            kept = call.state not in (State.SUCCEEDED, State.CANCELLED) or not known.body
            body = b"".join([piece async for piece in self.it.chunks(call.body)]) if kept else known.body
            return body, b"".join([piece async for piece in self.it.chunks(call.result)])

        assert self.do(read()) == (known.body, known.result)

    @rule(
        function=st.sampled_from([None, *FUNCTIONS]),
        states=st.lists(st.sampled_from(list(State)), max_size=2, unique=True),
        limit=st.integers(1, 7),
    )
    def page(self, function: FunctionId | None, states: list[State], limit: int) -> None:
        queue = queue_of(function) if function is not None else None
        wanted = [
            known
            for known in sorted(self.calls.values(), key=lambda known: -known.number)
            if (queue is None or known.queue == queue) and (not states or known.state in states)
        ]
        seen: list[str] = []
        while page := self.do(self.it.page(queue, states, limit, seen[-1] if seen else "")):
            assert len(page) <= limit
            seen += [call.id for call in page]
        assert seen == [known.id for known in wanted]

    @invariant()
    def depths_are_true(self) -> None:
        if self.store is None:
            return
        depths = self.do(self.it.depths(self.now))
        for queue in LIMITS:
            waiting = self.queue(queue, State.WAITING)
            counts = (len(waiting), len(self.queue(queue, State.RUNNING)), len(self.queue(queue, State.DEAD)))
            depth = depths.get(queue)
            assert counts == ((depth.waiting, depth.running, depth.dead) if depth is not None else (0, 0, 0))
            oldest = min((call.due for call in waiting if call.due <= self.now), default=0.0)
            assert oldest == (depth.oldest_due if depth is not None else 0.0)

    @invariant()
    def the_next_is_due_when_it_is_said(self) -> None:
        if self.store is None:
            return
        first = min((call.due for call in self.calls.values() if call.state is State.WAITING), default=None)
        said = self.do(self.it.next_due())
        assert (said is None) == (first is None)
        assert said is None or first is None or said <= first


def run(made: Callable[[], Place]) -> None:
    machine = type("Machine", (Machine,), {"made": staticmethod(made)})
    bounded = settings(
        max_examples=20, stateful_step_count=40, deadline=None, suppress_health_check=list(HealthCheck), print_blob=True
    )
    run_state_machine_as_test(machine, settings=bounded)


def test_sqlite_follows_the_model() -> None:
    run(InFile)


def test_redis_follows_the_model(redis: RedisServer) -> None:
    run(lambda: InServer(redis))
