from __future__ import annotations

from collections.abc import Iterable

import pytest

from autoscaler.simulator.synthetic import make
from autoscaler.simulator.trace import InvalidTrace
from tests.autoscaler.simulator.test_azure2019 import calls_of


def starts(text: str) -> list[float]:
    trace = make(text)
    found = [at for at, _ in calls_of(trace.workloads[0])]
    assert found == sorted(found)
    assert all(0 <= at < trace.length_s for at in found)
    return found


def between(times: Iterable[float], since: float, until: float) -> int:
    return sum(since <= at < until for at in times)


def test_poisson_has_its_rate() -> None:
    assert len(starts("poisson:rate=20,length=500s")) == pytest.approx(10_000, rel=0.05)


def test_a_step_is_at_its_moment() -> None:
    times = starts("step:from=1,to=50,at=100s,length=200s")
    assert between(times, 0, 100) == pytest.approx(100, rel=0.3)
    assert between(times, 100, 200) == pytest.approx(5000, rel=0.1)


def test_a_ramp_rises_evenly() -> None:
    times = starts("ramp:from=0,to=100,length=200s")
    assert between(times, 0, 100) == pytest.approx(2500, rel=0.1)
    assert between(times, 100, 200) == pytest.approx(7500, rel=0.1)


def test_a_day_is_low_at_both_ends_and_high_in_the_middle() -> None:
    times = starts("diurnal:from=0,to=10,period=1000s,length=1000s")
    assert between(times, 450, 550) == pytest.approx(1000, rel=0.15)
    assert between(times, 0, 50) + between(times, 950, 1000) < 20


def test_a_burst_comes_at_one_moment_and_again() -> None:
    assert starts("burst:calls=3,at=10s,every=1m,length=2m") == [10.0] * 3 + [70.0] * 3
    assert starts("burst:calls=3,at=10s,length=2m") == [10.0] * 3


def test_run_takes_a_distribution_and_functions_differ() -> None:
    trace = make("poisson:rate=5,run=p50=10ms,p99=1s,length=10s,functions=2")
    one, two = trace.workloads
    assert [one.function, two.function] == ["poisson-1", "poisson-2"]
    assert calls_of(one) != calls_of(two)
    assert max(r for _, r in calls_of(one)) <= 1.0


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("flood", "no such traffic; there are poisson, step"),
        ("step:til=3s", "step has no 'til'; there are length"),
        ("step:at=soon", "column at: 'soon' is not a duration"),
        ("poisson:rate=-1", "column rate: '-1' is not a number"),
        ("poisson:rate=inf", "column rate: 'inf' is not a number"),
        ("poisson:run=quick", "column run: 'quick' is not a time"),
        ("poisson:run=0s", "column run: a call runs for more than 0"),
        ("poisson:functions=0", "column functions: 1 to 100,000"),
        ("poisson:length=0s", "column length: more than 0"),
    ],
)
def test_what_is_wrong_is_named(text: str, message: str) -> None:
    with pytest.raises(InvalidTrace) as raised:
        make(text)
    assert message in str(raised.value)
