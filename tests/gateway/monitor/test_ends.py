"""What a function's log says of a process that died."""

from __future__ import annotations

import time

import msgspec
import pytest

from gateway.edge.records import CallRecord
from gateway.edge.tally import Tally
from gateway.monitor import ends
from gateway.monitor.ends import Ends
from orchestration.events import FunctionRemoved, ReplicaChanged
from orchestration.names import FunctionId
from orchestration.replica import Replica, ReplicaState
from tests.gateway.edge.lab import eventually

HELLO = FunctionId("openfaas-fn", "hello")
ONE = Replica(id="one", namespace="openfaas-fn", function="hello", revision="hello-00001", state=ReplicaState.RUNNING)
ENDED = "[pinnace] this replica's process ended: killed by SIGSEGV"


class Told:
    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(ends, "SETTLED_S", 0.01)
        self.lines: list[tuple[FunctionId, str, str, str]] = []
        self.tallies = {HELLO: Tally()}
        self.now = time.time()
        self.ends = Ends(self.say, lambda: self.tallies, lambda: self.now)

    def say(self, function: FunctionId, replica: str, text: str, call_id: str = "", /) -> None:
        self.lines.append((function, replica, text, call_id))

    def enter(self, state: ReplicaState, reason: str = "") -> None:
        self.ends.apply(ReplicaChanged(msgspec.structs.replace(ONE, state=state, reason=reason)))

    def call(self, call_id: str, code: int = 502, replica: str = "one", ago_s: float = 0.1, limit_s: float = 0.0) -> None:
        marks = b"X-Call-Id: %b\r\nX-Start-Time: %d\r\n" % (call_id.encode(), int((self.now - ago_s) * 1e9))
        self.tallies[HELLO].ended(CallRecord(marks, b"GET", code, 0.0, 0.05, replica, limit_s))

    async def settled(self, lines: int) -> None:
        await eventually(lambda: len(self.lines) >= lines)


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> Told:
    return Told(monkeypatch)


async def test_a_process_that_died_in_a_call_is_told_of_with_the_call(told: Told) -> None:
    async with told.ends:
        told.enter(ReplicaState.RUNNING)
        told.call("other-replica", replica="two")
        told.call("answered", code=200)
        told.call("long-ago", ago_s=60)
        told.enter(ReplicaState.PENDING, "killed by SIGSEGV")
        told.call("lost")  # an edge that is a process of its own passes it on a moment later
        await told.settled(1)
    assert told.lines == [(HELLO, "one", f"{ENDED} (call lost)", "lost")]


async def test_each_of_several_calls_finds_the_reason(told: Told) -> None:
    async with told.ends:
        told.enter(ReplicaState.RUNNING)
        told.call("first", ago_s=0.2)
        told.call("second")
        told.enter(ReplicaState.CRASH_LOOP, "killed by SIGSEGV")
        await told.settled(2)
    assert [line[3] for line in told.lines] == ["first", "second"]


async def test_a_call_is_lost_once_though_its_replica_dies_twice(told: Told) -> None:
    async with told.ends:
        for call in ("first", "second"):
            told.enter(ReplicaState.RUNNING)
            told.call(call)
            told.enter(ReplicaState.PENDING, "killed by SIGSEGV")
            await told.settled(1 if call == "first" else 2)
    assert [line[3] for line in told.lines] == ["first", "second"]


async def test_each_attempt_of_an_asynchronous_call_is_told_of(told: Told) -> None:
    async with told.ends:
        for attempt in (1, 2):
            told.enter(ReplicaState.RUNNING)
            told.call("again", ago_s=0.2 / attempt)
            told.enter(ReplicaState.PENDING, "killed by SIGSEGV")
            await told.settled(attempt)
        for limit_s in (3.0, 4.0):
            told.call("stuck", code=504, limit_s=limit_s, ago_s=limit_s)
            told.ends.look()
    assert [line[3] for line in told.lines] == ["again", "again", "stuck", "stuck"]


@pytest.mark.parametrize(
    ("states", "text"),
    [
        ([(ReplicaState.RUNNING, ""), (ReplicaState.PENDING, "killed by SIGSEGV")], ENDED),
        ([(ReplicaState.DRAINING, ""), (ReplicaState.STOPPED, "killed by SIGSEGV")], ENDED),
        ([(ReplicaState.PENDING, ""), (ReplicaState.CRASH_LOOP, "no x")], "[pinnace] this replica did not start: no x"),
    ],
)
async def test_a_process_that_died_outside_of_calls_is_told_of_also_at_the_end(
    told: Told, states: list[tuple[ReplicaState, str]], text: str
) -> None:
    async with told.ends:
        for state, reason in states:
            told.enter(state, reason)
        assert told.lines == []
    assert told.lines == [(HELLO, "one", text, "")]


async def test_a_replica_that_waits_for_its_next_try_and_is_stopped_is_told_of_once(told: Told) -> None:
    async with told.ends:
        told.enter(ReplicaState.CRASH_LOOP, "no x")
        told.enter(ReplicaState.STOPPED, "no x")
    assert len(told.lines) == 1


async def test_a_replica_that_stops_as_it_should_is_not_told_of(told: Told) -> None:
    async with told.ends:
        for state in (ReplicaState.PENDING, ReplicaState.RUNNING, ReplicaState.DRAINING, ReplicaState.STOPPED):
            told.enter(state)
    assert told.lines == []


async def test_a_call_that_the_edge_gave_up_is_told_of_once_with_its_limit(told: Told) -> None:
    async with told.ends:
        told.call("stuck", code=504, limit_s=3)
        told.call("unserved", code=504, replica="", limit_s=60)
        told.call("told-by-the-runtime", code=504)
        told.call("its-own-504", code=504)
        told.ends.look()
        told.ends.look()
        told.call("later", code=504, limit_s=3)
    late = "[pinnace] this replica did not answer within the function's timeout, 3 s"
    assert told.lines == [
        (HELLO, "one", f"{late} (call stuck)", "stuck"),
        (HELLO, "", "[pinnace] a call waited 60 s, and no replica took it (call unserved)", "unserved"),
        (HELLO, "one", f"{late} (call later)", "later"),
    ]


async def test_calls_are_looked_at_each_second(told: Told, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ends, "LOOK_EVERY_S", 0.01)
    async with told.ends:
        told.call("stuck", code=504, limit_s=3)
        await told.settled(1)


async def test_nothing_is_kept_of_a_function_that_was_removed(told: Told) -> None:
    async with told.ends:
        told.call("stuck", code=504, limit_s=3)
        told.ends.look()
        told.ends.apply(FunctionRemoved(HELLO.namespace, HELLO.name))
        told.tallies.clear()
        told.tallies[HELLO] = Tally()
        told.call("stuck", code=504, limit_s=3)  # of its namesake, with an id of the client's own
    assert len(told.lines) == 2
