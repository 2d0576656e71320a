from __future__ import annotations

from orchestration.function import Function
from orchestration.rollout import REVISIONS_KEPT, deploy, may_promote, promote
from orchestration.spec import FunctionSpec, Resources
from orchestration.traffic import all_to


def spec(**changes: object) -> FunctionSpec:
    return FunctionSpec(service="hello", image="hello:1", **changes)  # type: ignore[arg-type]


def first() -> Function:
    return deploy(None, spec(), "sha256:a", now=1.0)


def test_the_first_revision_gets_the_traffic_at_once() -> None:
    function = first()
    assert [r.name for r in function.revisions] == ["hello-00001"]
    assert function.traffic == all_to("hello-00001")


def test_the_same_deploy_again_makes_no_revision() -> None:
    again = deploy(first(), spec(), "sha256:a", now=2.0)
    assert len(again.revisions) == 1
    assert again.generation == 2


def test_what_changes_code_or_environment_makes_a_revision() -> None:
    changes: list[tuple[FunctionSpec, str]] = [
        (spec(), "sha256:b"),
        (spec(env_vars={"A": "1"}), "sha256:a"),
        (spec(env_process="python x.py"), "sha256:a"),
        (spec(secrets=("s",)), "sha256:a"),
        (spec(limits=Resources(memory="64Mi")), "sha256:a"),
        (spec(labels={"team": "red"}), "sha256:a"),
        (spec(annotations={"note": "x"}), "sha256:a"),
        (spec(labels={"com.pinnace.timeout": "5s"}), "sha256:a"),
        (spec(read_only_root_filesystem=True), "sha256:a"),
    ]
    for changed, bundle in changes:
        function = deploy(first(), changed, bundle, now=2.0)
        assert function.newest.number == 2, changed
        assert function.traffic == all_to("hello-00001"), "traffic waits until the new revision is ready"


def test_scaling_labels_take_effect_without_a_revision() -> None:
    function = deploy(first(), spec(labels={"com.openfaas.scale.max": "3"}), "sha256:a", now=2.0)
    assert len(function.revisions) == 1
    assert function.spec.labels == {"com.openfaas.scale.max": "3"}


def test_the_order_of_secrets_and_variables_is_no_change() -> None:
    one = deploy(None, spec(secrets=("a", "b"), env_vars={"A": "1", "B": "2"}), "sha256:a", now=1.0)
    two = deploy(one, spec(secrets=("b", "a"), env_vars={"B": "2", "A": "1"}), "sha256:a", now=2.0)
    assert len(two.revisions) == 1


def test_promote_moves_all_traffic_to_the_newest() -> None:
    function = promote(deploy(first(), spec(), "sha256:b", now=2.0), now=3.0)
    assert function.traffic == all_to("hello-00002")
    assert function.serving.name == "hello-00002"


def test_old_revisions_go_but_never_one_with_traffic() -> None:
    function = first()
    for n in range(2, 40):
        function = deploy(function, spec(), f"sha256:{n}", now=float(n))
    assert len(function.revisions) == REVISIONS_KEPT + 1
    assert function.revisions[0].name == "hello-00001"


def test_the_new_revision_takes_over_with_as_many_replicas_as_the_old_one_had() -> None:
    assert not may_promote(ready=1, wanted=2)
    assert may_promote(ready=2, wanted=2)
    assert not may_promote(ready=0, wanted=0)
    assert may_promote(ready=1, wanted=0)
