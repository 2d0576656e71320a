"""What is deployed, as metrics."""

from __future__ import annotations

from gateway.metrics.functions import Functions, Starts
from orchestration.decisions import Rule, ScalingFigures
from orchestration.events import FunctionRemoved, ReplicaChanged
from orchestration.names import FunctionId
from orchestration.replica import Replica, ReplicaState
from orchestration.scaling import Metric, ScaleSettings
from orchestration.spec import FunctionSpec
from tests.fakes.orchestrator import FakeOrchestrator
from tests.gateway.metrics.reading import samples

HELLO = FunctionId("openfaas-fn", "hello")
NAME = "hello.openfaas-fn"


def replica(state: ReplicaState, restarts: int = 0, ready_at: float | None = None) -> ReplicaChanged:
    return ReplicaChanged(
        Replica(
            id="r1",
            namespace="openfaas-fn",
            function="hello",
            revision="hello-00001",
            state=state,
            restarts=restarts,
            started_at=10.0,
            ready_at=ready_at,
        )
    )


async def test_counts_states_and_scaling_are_told() -> None:
    orchestrator = FakeOrchestrator()
    await orchestrator.apply(FunctionSpec(service="hello", image="hello"))
    settings = ScaleSettings(min_replicas=2, max_replicas=7, metric=Metric.RPS, target=50.0)
    figures = ScalingFigures(HELLO, settings, limited=True, decided={Rule.PANIC: 3, Rule.MAX: 1})
    gone = ScalingFigures(FunctionId("openfaas-fn", "gone"), settings, limited=False, decided={})
    told = samples(Functions(orchestrator, lambda: [figures, gone], Starts()))
    status = orchestrator.status(HELLO)
    assert told["pinnace_functions",] == 1
    assert told["gateway_service_count", NAME] == status.replicas
    assert told["gateway_service_ready_count", NAME] == status.available
    assert (told["gateway_service_min", NAME], told["pinnace_service_max", NAME]) == (2, 7)
    assert told["gateway_service_target_load", NAME, "rps"] == 50
    assert told["pinnace_scale_limit_reached", NAME] == 1
    assert told["pinnace_replicas", NAME, "Running"] == len(status.instances)
    assert told["pinnace_replicas", NAME, "CrashLoopBackOff"] == 0
    assert told["pinnace_scaler_decisions_total", NAME, "panic"] == 3
    assert not any("gone" in label for sample in told for label in sample)


async def test_concurrency_is_capacity_in_openfaas_words() -> None:
    orchestrator = FakeOrchestrator()
    await orchestrator.apply(FunctionSpec(service="hello", image="hello"))
    told = samples(Functions(orchestrator, lambda: [ScalingFigures(HELLO, ScaleSettings(), False, {})], Starts()))
    assert ("gateway_service_target_load", NAME, "capacity") in told


async def test_starts_are_timed_and_ends_counted() -> None:
    orchestrator = FakeOrchestrator()
    await orchestrator.apply(FunctionSpec(service="hello", image="hello"))
    starts = Starts()
    starts.apply(replica(ReplicaState.PENDING))
    starts.apply(replica(ReplicaState.RUNNING, ready_at=10.2))
    starts.apply(replica(ReplicaState.RUNNING, ready_at=10.2))
    starts.apply(replica(ReplicaState.PENDING, restarts=2, ready_at=10.2))
    source = Functions(orchestrator, lambda: [ScalingFigures(HELLO, ScaleSettings(), False, {})], starts)
    told = samples(source)
    assert told["pinnace_replica_start_seconds_count", NAME] == 1
    assert told["pinnace_replica_start_seconds_bucket", NAME, "0.25"] == 1
    assert told["pinnace_replica_restarts_total", NAME] == 2


def test_what_is_gone_is_forgotten() -> None:
    starts = Starts()
    for event in (
        replica(ReplicaState.PENDING),
        replica(ReplicaState.RUNNING, restarts=1, ready_at=11.0),
        replica(ReplicaState.STOPPED, restarts=1),
        FunctionRemoved("openfaas-fn", "hello"),
    ):
        starts.apply(event)
    assert not (starts.seconds or starts.restarts or starts._known)


def test_a_replica_that_was_ready_when_first_heard_of_was_not_started_now() -> None:
    starts = Starts()
    starts.apply(replica(ReplicaState.RUNNING, restarts=3, ready_at=11.0))
    assert not (starts.seconds or starts.restarts)
