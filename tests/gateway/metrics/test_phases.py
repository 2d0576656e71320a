"""The phases of starts, as metrics."""

from __future__ import annotations

import msgspec

from gateway.metrics.phases import Phases
from orchestration.names import FunctionId
from orchestration.starts import Start, StartBook
from tests.gateway.metrics.reading import samples

HELLO = FunctionId("openfaas-fn", "hello")
START = Start(
    replica="r", revision="hello-00001", kind="zygote", at=1.0, placed_s=0.0, prepared_s=0.0, made_s=0.003, ready_s=0.004
)


def test_phases_are_told_by_kind_and_failures_counted() -> None:
    book = StartBook()
    book.add(HELLO, START)
    book.add(HELLO, msgspec.structs.replace(START, kind="exec", failed="no handler"))
    told = samples(Phases(book))
    assert told["pinnace_replica_start_phase_seconds_bucket", "zygote", "made", "0.0025"] == 0
    assert told["pinnace_replica_start_phase_seconds_bucket", "zygote", "made", "0.005"] == 1
    assert told["pinnace_replica_start_phase_seconds_sum", "zygote", "ready"] == 0.004
    assert told["pinnace_replica_start_failures_total", "exec"] == 1
