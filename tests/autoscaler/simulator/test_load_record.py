from __future__ import annotations

from pathlib import Path

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from autoscaler.recording import Recording
from autoscaler.simulator.distribution import Distribution
from autoscaler.simulator.load_record import read, trace_of
from autoscaler.simulator.trace import Call, InvalidTrace
from orchestration.load import LoadSample
from orchestration.load_history import LoadHistory
from orchestration.names import FunctionId
from tests.autoscaler.simulator.policies import Fixed, OnDemand, simulate
from tests.autoscaler.simulator.test_azure2019 import calls_of

STARTS_AT = 1_700_000_000.0


def recorded(samples: list[LoadSample]) -> LoadHistory:
    """Return what a recording keeps of `samples`."""
    now = STARTS_AT
    recording = Recording(lambda: now)
    for sample in samples:
        now = STARTS_AT + sample.at
        recording.sample(sample)
    return recording.history(FunctionId(samples[0].namespace, samples[0].function))


def again(calls: list[Call]) -> list[Call]:
    """Return `calls` as they are made again from what an edge tells of them; times count from the first one."""
    _, _, samples = simulate(calls, Fixed(1), limit=0, start=Distribution.constant(0.0))
    trace = trace_of(recorded(samples), "f", "test")
    return [(trace.starts_at - STARTS_AT + at, runs_s) for at, runs_s in calls_of(trace.workloads[0])]


def test_single_calls_come_back_as_they_were() -> None:
    calls = [(10.0, 0.5), (40.0, 3.0), (80.25, 0.25)]
    for made, (at, runs_s) in zip(again(calls), calls, strict=True):
        assert made == pytest.approx((at, runs_s), abs=0.002)


@given(st.lists(st.tuples(st.floats(1, 60), st.floats(0.01, 10)), min_size=1, max_size=60).map(sorted))
@settings(max_examples=60, deadline=None)
def test_counts_and_work_are_the_same(calls: list[Call]) -> None:
    made = again(calls)
    assert len(made) == len(calls)
    assert sum(r for _, r in made) == pytest.approx(sum(r for _, r in calls), rel=0.05, abs=0.02 * len(calls) + 0.2)
    for (at, _), (was, _) in zip(made, calls, strict=True):
        assert at == pytest.approx(was, abs=1.1)


def test_what_waited_is_not_what_ran() -> None:
    """Ten calls of 1 s on one replica with one slot, which starts for 5 s: each ran for 1 s, though the last one was there
    for 15 s.
    """
    _, _, samples = simulate([(10.0, 1.0)] * 10, OnDemand(idle_s=60, per=10), limit=1, start=Distribution.constant(5.0))
    trace = trace_of(recorded(samples), "f", "test")
    made = calls_of(trace.workloads[0])
    assert [at for at, _ in made] == pytest.approx([made[0][0]] * 10, abs=0.01)
    assert sum(runs_s for _, runs_s in made) == pytest.approx(10.0, rel=0.2)


def test_a_file_of_it(tmp_path: Path) -> None:
    _, _, samples = simulate([(10.0, 0.5)], Fixed(1))
    path = tmp_path / "hello.json"
    path.write_bytes(msgspec.json.encode(recorded(samples)))
    trace = read(path)
    assert (trace.origin, trace.workloads[0].function) == ("load in hello.json", "hello")
    assert trace.starts_at == pytest.approx(STARTS_AT + 10, abs=0.01)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{}", "is not a function's recorded load"),
        ("nothing", "is not a function's recorded load"),
        ('{"since": 1}', "no call of f is recorded"),
        ('{"since": 1, "at": [1.0]}', "its lists are not equally long"),
    ],
)
def test_what_is_no_record_is_refused(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "f.json"
    path.write_text(text)
    with pytest.raises(InvalidTrace) as raised:
        read(path)
    assert message in str(raised.value)
