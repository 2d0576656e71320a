"""What holds for one revision of a function."""

from __future__ import annotations

import msgspec
import pytest

from autoscaler.watched import settings_of
from orchestration.rollout import deploy
from orchestration.scaling import ScaleSettings
from orchestration.spec import FunctionSpec
from orchestration.traffic import TrafficTarget

SETTINGS = ScaleSettings(min_replicas=4, max_replicas=4)


@pytest.mark.parametrize(
    ("pinned", "revision", "least", "most"),
    [(None, "hello-00001", 4, 4), (4, "hello-00001", 3, 3), (4, "hello-00002", 1, 1), (0, "hello-00002", 0, 1)],
)
def test_a_revision_has_its_part_of_what_its_function_is_pinned_to(
    pinned: int | None, revision: str, least: int, most: int
) -> None:
    table = (TrafficTarget("hello-00001", 90), TrafficTarget("hello-00002", 10), TrafficTarget("hello-00003", 0, "next"))
    function = deploy(None, FunctionSpec(service="hello", image="x"), "sha256:0", 0.0)
    function = msgspec.structs.replace(function, traffic=table, pinned=pinned)
    settings = settings_of(SETTINGS, function, revision)
    assert (settings.min_replicas, settings.max_replicas) == (least, most)
    assert settings_of(SETTINGS, function, "hello-00003").min_replicas == 0, "it has only a tag"
