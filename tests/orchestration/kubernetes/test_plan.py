"""Given these objects, expect these writes."""

from __future__ import annotations

import dataclasses
from typing import Any

import msgspec
import pytest

from orchestration.kubernetes.observed import Observed
from orchestration.kubernetes.plan import Plan, plan
from orchestration.kubernetes.record import Record
from orchestration.kubernetes.resource import FunctionResource, Manifest, Status, read

NOW = 1_800_000_000.0
READY_WITHIN_S = 120.0


@dataclasses.dataclass
class Case:
    """A function in a cluster where every write succeeds at once; pods become ready when a test says so."""

    function: FunctionResource
    records: dict[str, Record] = dataclasses.field(default_factory=dict)
    objects: dict[tuple[str, str], Manifest] = dataclasses.field(default_factory=dict)
    ready: dict[str, int] = dataclasses.field(default_factory=dict)
    trouble: dict[str, str] = dataclasses.field(default_factory=dict)
    now: float = NOW

    @property
    def observed(self) -> Observed:
        return Observed(
            function=self.function,
            records=tuple(self.records.values()),
            objects=self.objects,
            ready=self.ready,
            trouble=self.trouble,
        )

    def plan(self) -> Plan:
        return plan(self.observed, self.now)

    def step(self) -> Plan:
        """Plan, and let it happen."""
        found = self.plan()
        for record in found.create:
            self.records[record.revision.name] = record
        for manifest in found.apply:
            key = manifest["kind"], manifest["metadata"]["name"]
            old = self.objects.get(key, {"spec": {"replicas": 1}, "status": {}})
            spec = manifest["spec"] | ({"replicas": old["spec"]["replicas"]} if key[0] == "Deployment" else {})
            self.objects[key] = manifest | {"spec": spec, "status": old.get("status", {})}
            self.objects[key]["metadata"] = manifest["metadata"] | {"generation": 1}
        for name, count in found.scale.items():
            held = self.objects["Deployment", name]
            self.objects["Deployment", name] = held | {"spec": held["spec"] | {"replicas": count}}
        if found.status is not None:
            self.function = msgspec.structs.replace(self.function, status=found.status)
        for key in found.delete:
            del self.objects[key]
        for name in found.forget:
            del self.records[name]
        return found

    def settle(self) -> None:
        """Take steps until there is nothing left to write."""
        for _ in range(10):
            found = self.step()
            if not any((found.create, found.apply, found.scale, found.status, found.delete, found.forget)):
                return
        raise AssertionError("it never comes to rest")

    def change(self, **spec: Any) -> None:
        """Write the spec anew."""
        generation = self.function.metadata.generation + 1
        changed = function(generation=generation, **spec)
        self.function = msgspec.structs.replace(changed, status=self.function.status)

    def replicas(self, revision: str) -> int:
        return int(self.objects["Deployment", revision]["spec"]["replicas"])

    def told(self, kind: str) -> tuple[str, str, str]:
        return next((c.status, c.reason, c.message) for c in self.function.status.conditions if c.type == kind)

    @property
    def traffic(self) -> dict[str, int]:
        return {entry.revision: entry.percent for entry in self.function.status.traffic}


def function(*, generation: int = 1, **spec: Any) -> FunctionResource:
    metadata = {
        "name": "hello",
        "namespace": "team",
        "uid": "u",
        "generation": generation,
        "creationTimestamp": "2027-01-15T08:00:00Z",
    }
    return read({"metadata": metadata, "spec": {"image": "app:1"} | spec})


@pytest.fixture
def case() -> Case:
    """A function of one revision that serves with one pod."""
    case = Case(function())
    case.settle()
    case.ready["hello-00001"] = 1
    case.settle()
    return case


def test_a_new_function_has_all_its_writes_in_one_plan() -> None:
    found = Case(function()).plan()
    assert [record.revision.name for record in found.create] == ["hello-00001"]
    assert [(m["kind"], m["metadata"]["name"]) for m in found.apply] == [
        ("Deployment", "hello-00001"),
        ("Service", "hello-00001"),
    ]
    assert found.scale == {}, "one pod is what a new Deployment has"
    assert isinstance(found.status, Status)
    assert found.status.traffic[0].revision == "hello-00001"


@pytest.mark.parametrize(
    ("labels", "count"),
    [
        ({"com.openfaas.scale.min": "3"}, 3),
        ({"autoscaling.knative.dev/initial-scale": "2"}, 2),
        ({"com.openfaas.scale.zero": "true", "com.openfaas.scale.min": "0"}, 1),
    ],
)
def test_it_starts_with_as_many_pods_as_its_labels_say(labels: dict[str, str], count: int) -> None:
    case = Case(function(labels=labels))
    case.settle()
    assert case.replicas("hello-00001") == count


def test_nothing_follows_from_what_is_settled(case: Case) -> None:
    assert case.plan() == Plan(newest="hello-00001")
    assert case.told("Ready") == ("True", "Serving", "")


def test_the_autoscalers_count_is_taken_as_it_is(case: Case) -> None:
    deployment = case.objects["Deployment", "hello-00001"]
    case.objects["Deployment", "hello-00001"] = deployment | {"spec": deployment["spec"] | {"replicas": 5}}
    found = case.step()
    assert found.scale == {}
    assert case.function.status.replicas == 5


def test_zero_is_ready_too(case: Case) -> None:
    deployment = case.objects["Deployment", "hello-00001"]
    case.objects["Deployment", "hello-00001"] = deployment | {"spec": deployment["spec"] | {"replicas": 0}}
    case.ready["hello-00001"] = 0
    case.settle()
    assert case.told("Ready")[:2] == ("True", "Idle")


def test_a_rollout_moves_traffic_when_as_many_are_ready(case: Case) -> None:
    deployment = case.objects["Deployment", "hello-00001"]
    case.objects["Deployment", "hello-00001"] = deployment | {"spec": deployment["spec"] | {"replicas": 2}}
    case.ready["hello-00001"] = 2
    case.change(env={"A": "2"})
    case.settle()
    assert case.replicas("hello-00002") == 2
    assert case.traffic == {"hello-00001": 100}
    assert case.told("Progressing") == ("True", "RollingOut", "hello-00002: 0 of 2 pods are ready")
    case.ready["hello-00002"] = 1
    case.settle()
    assert case.traffic == {"hello-00001": 100}, "one of two is not enough"
    case.ready["hello-00002"] = 2
    case.settle()
    assert case.traffic == {"hello-00002": 100}
    assert (case.replicas("hello-00001"), case.replicas("hello-00002")) == (0, 2)


def test_the_old_deployment_goes_when_its_pods_have_gone(case: Case) -> None:
    case.change(env={"A": "2"})
    case.settle()
    case.ready["hello-00002"] = 1
    case.settle()
    case.objects["Deployment", "hello-00001"]["status"] = {"replicas": 1, "observedGeneration": 1}
    assert case.plan().delete == ()
    case.objects["Deployment", "hello-00001"]["status"] = {"observedGeneration": 1}
    assert case.plan().delete == (("Deployment", "hello-00001"), ("Service", "hello-00001"))
    case.settle()
    assert set(case.records) == {"hello-00001", "hello-00002"}


def test_a_rollout_has_a_deadline(case: Case) -> None:
    case.change(image="typo")
    assert case.step().again_s == READY_WITHIN_S
    case.trouble["hello-00002"] = "ErrImagePull: no such image"
    case.now += READY_WITHIN_S
    case.settle()
    assert case.traffic == {"hello-00001": 100}
    assert case.told("Degraded") == ("True", "RolloutFailed", "hello-00002: ErrImagePull: no such image")
    assert case.told("Ready")[0] == "True"
    assert case.replicas("hello-00002") == 0


def test_what_was_given_up_is_tried_again_when_the_spec_changes(case: Case) -> None:
    case.change(image="typo")
    case.settle()
    case.now += READY_WITHIN_S
    case.settle()
    assert case.told("Degraded")[0] == "True"
    case.change(image="typo", labels={"com.openfaas.scale.max": "5"})
    case.settle()
    assert case.told("Progressing")[:2] == ("True", "RollingOut")
    assert set(case.records) == {"hello-00001", "hello-00002"}, "the same revision"


def test_a_revision_that_another_was_deployed_over_says_what_its_trouble_was(case: Case) -> None:
    case.change(image="app:2")
    case.settle()
    case.trouble["hello-00002"] = "ErrImagePull: no such image"
    case.change(image="app:3")
    case.step()
    (failed,) = case.function.status.failed
    assert failed.why == "hello-00002: ErrImagePull: no such image; hello-00003 was deployed before it had taken over"


def test_a_revision_with_one_ready_pod_is_not_given_up(case: Case) -> None:
    case.change(env={"A": "2"}, labels={"com.openfaas.scale.min": "1"})
    case.settle()
    deployment = case.objects["Deployment", "hello-00001"]
    case.objects["Deployment", "hello-00001"] = deployment | {"spec": deployment["spec"] | {"replicas": 3}}
    case.ready["hello-00002"] = 1
    case.now += 10 * READY_WITHIN_S
    case.settle()
    assert case.told("Progressing")[:2] == ("True", "RollingOut")


def test_going_back_before_it_is_ready_is_a_new_revision_again(case: Case) -> None:
    case.change(env={"A": "2"})
    case.settle()
    case.change()
    case.settle()
    assert sorted(case.records) == ["hello-00001", "hello-00002", "hello-00003"]
    assert case.replicas("hello-00002") == 0


def test_a_pin_is_kept_against_everybody(case: Case) -> None:
    case.change(replicas=4)
    case.settle()
    assert case.replicas("hello-00001") == 4
    deployment = case.objects["Deployment", "hello-00001"]
    case.objects["Deployment", "hello-00001"] = deployment | {"spec": deployment["spec"] | {"replicas": 1}}
    assert case.plan().scale == {"hello-00001": 4}


def test_a_pin_is_of_the_whole_function_and_revisions_share_it_as_they_share_the_calls(case: Case) -> None:
    one, two = "hello-00001", "hello-00002"
    case.change(image="app:2", replicas=4)
    case.settle()
    case.ready |= {one: 4, two: 4}
    case.settle()
    case.ready[one] = 0
    split = [{"revision": one, "percent": 10}, {"revision": two, "percent": 90}]
    case.change(image="app:2", replicas=4, traffic=split)
    case.settle()
    assert (case.replicas(one), case.replicas(two)) == (1, 4), "what is there stays until all have their part"
    case.ready[one] = 1
    case.settle()
    assert (case.replicas(one), case.replicas(two)) == (1, 3)
    case.change(image="app:2", replicas=2, traffic=split)
    case.settle()
    assert (case.replicas(one), case.replicas(two)) == (1, 1)
    case.change(image="app:2", replicas=0, traffic=split)
    case.settle()
    assert (case.replicas(one), case.replicas(two)) == (0, 0)
    assert case.told("Ready") == ("True", "Idle", "pinned at zero")


def test_a_function_that_is_being_removed_is_let_go(case: Case) -> None:
    gone = msgspec.structs.replace(case.function.metadata, deletion_timestamp="2027-01-01T00:00:00Z")
    case.function = msgspec.structs.replace(case.function, metadata=gone)
    assert case.plan() == Plan()


def test_a_setting_without_sense_stops_nothing_that_serves(case: Case) -> None:
    case.change(labels={"com.openfaas.scale.min": "many"})
    found = case.plan()
    assert (found.apply, found.scale, found.delete) == ((), {}, ())
    case.settle()
    assert case.told("Degraded")[:2] == ("True", "InvalidSetting")
    assert case.told("Ready")[0] == "True"
