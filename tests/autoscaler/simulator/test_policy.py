from __future__ import annotations

from typing import Any

import pytest

from autoscaler.simulator.engine import Engine
from autoscaler.simulator.measures import Measures
from autoscaler.simulator.policy import POLICIES, Policy, UnknownPolicy, named
from autoscaler.simulator.synthetic import make
from autoscaler.simulator.trace import Call, Trace
from orchestration.load import LoadSample
from orchestration.scaling import Metric
from orchestration.settings import InvalidSetting
from tests.autoscaler.simulator.policies import workload


def run(policy: Policy, calls: list[Call], *, trigger: str = "http", length_s: float = 3600.0) -> Measures:
    work = workload(calls, trigger)
    trace = Trace("test", length_s, [work])
    return Engine(work, policy.controller(work, trace), policy.model(), trace, 1).run()


def test_ten_minutes_idle_cost_ten_minutes_of_a_replica() -> None:
    measures = run(named("fixed"), [(0.0, 0.1), (599.0, 0.1), (1800.0, 0.1)])
    assert measures.cold == 2, "the call at 599 s finds the replica, the one at 1800 s does not"
    # up to a second passes before the edge has told that the last call ended
    assert measures.replica_s == pytest.approx(600 + 600 + 600, abs=5)


def test_knative_goes_to_zero_after_a_minute_and_holds_the_memory_for_longer() -> None:
    measures = run(named("knative"), [(0.0, 0.1)])
    assert measures.replica_s == pytest.approx(64 + 30, abs=5)


def test_openfaas_goes_to_zero_after_a_quarter_of_an_hour() -> None:
    measures = run(named("openfaas"), [(0.0, 0.1), (880.0, 0.1)])
    assert measures.cold == 1
    assert measures.replica_s == pytest.approx(880 + 900, abs=15)


def first_counts(name: str) -> list[tuple[float, int]]:
    """Return when which count was asked for, up to 10 s after 40 calls of 20 s came to a function at zero; one replica takes
    10.
    """
    policy = named(name).what_if("concurrency=10", name)
    if name == "openfaas":
        policy = policy.what_if("target=1", name)
    work = workload([(100.0, 20.0)] * 40)
    trace = Trace("test", 200.0, [work])
    controller = policy.controller(work, trace)
    decided: list[tuple[float, int]] = []

    class Heard:
        initial = controller.initial

        @property
        def look_at(self) -> float:
            return controller.look_at

        def observe(self, sample: LoadSample, now: float) -> bool:
            return controller.observe(sample, now)

        def replicas_changed(self) -> bool:
            return controller.replicas_changed()

        def decide(self, now: float, **known: Any) -> int:
            count = controller.decide(now, **known)
            if count != known["wanted"] and 100 <= now <= 110:
                decided.append((now, count))
            return count

        def expect(self, at: float, lead_s: float) -> None:
            controller.expect(at, lead_s)

    Engine(work, Heard(), policy.model(), trace, 1).run()
    return decided


def test_who_sees_a_burst_when() -> None:
    """40 calls with 7 per replica (a limit of 10, 70 %) need 6; for OpenFaaS 40 calls in 10 s with 0.9 a second need 5."""
    assert first_counts("pinnace") == [(100.0, 6)]
    knative = first_counts("knative")
    assert knative[0] == (100.0, 1), "the first call wakes one"
    assert 100.5 <= knative[1][0] <= 103.0 and knative[1][1] == 6
    assert first_counts("openfaas") == [(100.0, 1), (110.0, 5)]


def test_timers_that_are_known_cost_neither_cold_starts_nor_replicas_between() -> None:
    calls = [(60.0 * minute, 0.1) for minute in range(5, 60, 5)]
    assert run(named("fixed"), calls, trigger="timer").cold == 1
    known = run(named("pinnace-timers"), calls, trigger="timer")
    assert known.cold == 0
    assert known.replica_s < 0.1 * run(named("fixed"), calls, trigger="timer").replica_s


def test_a_steady_load_is_served_by_all_of_them() -> None:
    trace = make("poisson:rate=20,run=100ms,length=2m")
    for policy in POLICIES.values():
        work = trace.workloads[0]
        measures = Engine(work, policy.controller(work, trace), policy.model(), trace, 1).run()
        assert measures.served == measures.calls > 2000
        assert measures.waits.percentile_s(99) < 0.5


@pytest.mark.parametrize(
    ("base", "text", "field", "value"),
    [
        ("pinnace", "target=20", "target", 20.0),
        ("pinnace", "type=rps,target=20", "metric", Metric.RPS),
        ("pinnace", "min=2", "min_replicas", 2),
        ("pinnace", "zero-duration=5m", "zero_after_s", 300.0),
        ("pinnace", "window=30s", "window_s", 30.0),
        ("knative", "max=5", "max_replicas", 5),
        ("knative", "target=20", "target", 20.0),
        ("openfaas", "target=20", "target", 20.0),
        ("pinnace", "learn=false", "learns", False),
    ],
)
def test_a_what_if_changes_one_setting(base: str, text: str, field: str, value: object) -> None:
    before, after = named(base).settings(), named(base).what_if(text, "x").settings()
    assert getattr(after, field) == value != getattr(before, field)


def test_a_target_is_of_what_is_counted_now() -> None:
    assert named("pinnace").what_if("target=20", "x").settings().metric is Metric.CONCURRENCY
    assert named("openfaas").what_if("target=20", "x").settings().metric is Metric.RPS


def test_a_what_if_changes_what_stands_around() -> None:
    model = (
        named("pinnace").what_if("concurrency=3,start=10ms,queue-calls=7,queue-timeout=5s,linger=2s,timers=known", "x").model()
    )
    assert (model.limit, model.start.mean_s, model.queue_calls, model.queue_timeout_s) == (3, 0.01, 7, 5.0)
    assert (model.linger_s, model.knows_timers) == (2.0, True)


@pytest.mark.parametrize(
    ("text", "error", "message"),
    [
        ("target", UnknownPolicy, "Write KEY=VALUE"),
        ("traget=20", UnknownPolicy, "no setting 'traget'; there are "),
        ("target=much", InvalidSetting, "com.openfaas.scale.target='much'"),
        ("min=30,max=5", InvalidSetting, "com.openfaas.scale.min='30' is above com.openfaas.scale.max='5'"),
        ("start=soon", InvalidSetting, "start: 'soon' is not a time"),
        ("linger=soon", InvalidSetting, "linger: 'soon' is not a duration"),
        ("queue-calls=-1", InvalidSetting, "queue-calls='-1': a whole number"),
        ("timers=maybe", InvalidSetting, "known or unknown"),
        ("concurrency=many", InvalidSetting, "com.pinnace.concurrency='many'"),
    ],
)
def test_what_is_wrong_is_named(text: str, error: type[Exception], message: str) -> None:
    with pytest.raises(error) as raised:
        named("pinnace").what_if(text, "x")
    assert message in str(raised.value)


def test_there_is_no_other_policy() -> None:
    with pytest.raises(UnknownPolicy, match="no policy 'best'; there are pinnace, pinnace-timers, fixed, knative, openfaas"):
        named("best")
