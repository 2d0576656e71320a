"""What a deploy may ask for, and the record that follows from it."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from orchestration import rollout
from orchestration.local.deploys import check_deploy, first_record, next_record
from orchestration.names import InvalidName
from orchestration.settings import InvalidSetting
from orchestration.spec import FunctionSpec, Resources

OLD, NEW, NEXT = "hello-00001", "hello-00002", "hello-00003"


def spec(**fields: Any) -> FunctionSpec:
    return FunctionSpec(**{"service": "hello", "image": "x"} | fields)


@pytest.mark.parametrize(
    ("wrong", "error"),
    [
        ({"service": "Hello"}, InvalidName),
        ({"labels": {"com.openfaas.scale.min": "many"}}, InvalidSetting),
        ({"limits": Resources(memory="much")}, InvalidSetting),
        ({"env_vars": {"A=B": "1"}}, InvalidSetting),
        ({"env_vars": {"": "1"}}, InvalidSetting),
        ({"env_vars": {"A": "1\0"}}, InvalidSetting),
    ],
)
def test_what_cannot_be_carried_out_is_refused(wrong: dict[str, Any], error: type[Exception]) -> None:
    check_deploy(spec())
    with pytest.raises(error):
        check_deploy(spec(**wrong))


@pytest.mark.parametrize(
    ("labels", "count"),
    [
        ({}, 1),
        ({"com.openfaas.scale.min": "3"}, 3),
        ({"com.openfaas.scale.min": "0"}, 1),
    ],
)
def test_a_new_function_starts_with_its_least_and_with_one_at_least(labels: dict[str, str], count: int) -> None:
    assert first_record(spec(labels=labels), "sha256:a", 1.0).wanted == {OLD: count}


def test_a_deploy_wants_as_many_of_the_new_revision_as_serve_and_keeps_what_is_known_of_older_ones() -> None:
    first = msgspec.structs.replace(first_record(spec(), "sha256:a", 1.0), wanted={OLD: 3})
    second = next_record(first, spec(), "sha256:b", 2.0, "")
    assert (second.wanted, second.failures) == ({OLD: 3, NEW: 3}, {})
    third = next_record(second, spec(), "sha256:c", 3.0, "no module named 'x'")
    assert third.wanted == {OLD: 3, NEW: 0, NEXT: 3}
    assert third.failures == {NEW: f"{NEW}: no module named 'x'; {NEXT} was deployed before it had taken over"}


def test_the_same_again_is_tried_again_though_nothing_serves() -> None:
    first = first_record(spec(), "sha256:a", 1.0)
    served = msgspec.structs.replace(first, wanted={OLD: 0})
    failed = next_record(served, spec(), "sha256:b", 2.0, "")
    failed = msgspec.structs.replace(failed, wanted={OLD: 0, NEW: 0}, failures={NEW: "why"})
    again = next_record(failed, spec(), "sha256:b", 3.0, "")
    assert (again.wanted, again.failures) == ({OLD: 0, NEW: 1}, {})
    assert rollout.may_promote(ready=1, wanted=again.wanted[NEW])
