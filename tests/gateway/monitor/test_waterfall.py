from __future__ import annotations

import msgspec
import pytest

from gateway.edge.records import CallRecord
from gateway.monitor.waterfall import STARTS_KEPT, CallDetails, Starts
from orchestration.replica import Replica, ReplicaState
from orchestration.starts import Start

AT = 1_700_000_000.0


def call(replica: str = "r1", *, waited_s: float, duration_s: float, code: int = 200) -> CallRecord:
    return CallRecord(b"X-Call-Id: c\r\nX-Start-Time: %d\r\n" % int(AT * 1e9), b"POST", code, waited_s, duration_s, replica)


def running(name: str = "r1", *, began_at: float, ready_at: float) -> Replica:
    return Replica(
        id=name,
        namespace="ns",
        function="f",
        revision="f-1",
        state=ReplicaState.RUNNING,
        started_at=began_at,
        ready_at=ready_at,
    )


def test_the_parts_of_a_start_are_told_where_they_are_known() -> None:
    starts = Starts()
    timed = Start(
        replica="r1", revision="f-1", kind="stem", at=AT, placed_s=0.0, prepared_s=0.0, made_s=0.002, ready_s=0.05
    )  # fmt: skip
    starts.follow(msgspec.structs.replace(running(began_at=AT, ready_at=AT + 0.052), start=timed))
    cold = starts.details(call(waited_s=0.053, duration_s=0.06))
    assert cold.start_kind == "stem"
    assert [(part.name, part.duration_ms) for part in cold.start_parts] == [("fork", 2.0), ("import", 50.0)]
    warm = starts.details(
        CallRecord(b"X-Call-Id: c\r\nX-Start-Time: %d\r\n" % int((AT + 9) * 1e9), b"POST", 200, 0.0, 0.01, "r1")
    )
    assert (warm.start_kind, warm.start_parts) == ("", [])


def phases(details: CallDetails) -> list[tuple[str, float, float]]:
    return [(phase.name, phase.begin_ms, phase.duration_ms) for phase in details.phases]


def test_a_cold_call_waited_for_a_start() -> None:
    starts = Starts()
    starts.follow(running(began_at=AT + 0.002, ready_at=AT + 0.25))
    details = starts.details(call(waited_s=0.26, duration_s=0.3))
    assert details.cold
    assert phases(details) == [
        ("queue", 0.0, pytest.approx(2.0, abs=0.01)),
        ("start", pytest.approx(2.0, abs=0.01), pytest.approx(248.0, abs=0.01)),
        ("send", pytest.approx(250.0, abs=0.01), pytest.approx(10.0, abs=0.01)),
        ("run", 260.0, 40.0),
    ]


def test_a_replica_that_began_before_the_call_came_was_already_starting() -> None:
    starts = Starts()
    starts.follow(running(began_at=AT - 1, ready_at=AT + 0.1))
    assert phases(starts.details(call(waited_s=0.1, duration_s=0.2))) == [("start", 0.0, 100.0), ("run", 100.0, 100.0)]


def test_a_warm_call_only_ran_and_a_busy_one_waited() -> None:
    starts = Starts()
    starts.follow(running(began_at=AT - 9, ready_at=AT - 8))
    warm = starts.details(call(waited_s=0.000_02, duration_s=0.01))
    assert (warm.cold, phases(warm)) == (False, [("run", 0.0, 10.0)])
    assert phases(starts.details(call(waited_s=0.5, duration_s=0.75))) == [("queue", 0.0, 500.0), ("run", 500.0, 250.0)]


def test_a_call_that_no_replica_took_only_waited() -> None:
    assert phases(Starts().details(call("", waited_s=2.0, duration_s=2.0, code=504))) == [("queue", 0.0, 2000.0)]


def test_old_starts_are_let_go() -> None:
    starts = Starts()
    for number in range(STARTS_KEPT + 1):
        starts.follow(running(f"r{number}", began_at=AT, ready_at=AT + 1))
    assert not starts.details(call("r0", waited_s=1.0, duration_s=2.0)).cold
    assert starts.details(call("r1", waited_s=1.0, duration_s=2.0)).cold
