from __future__ import annotations

import pytest

from orchestration.settings import InvalidSetting, ReplicaSettings, ScaleSettings, replica_settings, scale_settings
from orchestration.spec import FunctionSpec


@pytest.mark.parametrize(
    ("labels", "expected"),
    [
        ({}, ScaleSettings(1, 20, False, 900)),
        ({"min": "3"}, ScaleSettings(3, 20, False, 900)),
        ({"min": "0030"}, ScaleSettings(30, 30, False, 900)),
        ({"min": "30"}, ScaleSettings(30, 30, False, 900)),
        ({"max": "2"}, ScaleSettings(1, 2, False, 900)),
        ({"zero": "true"}, ScaleSettings(1, 20, True, 900)),
        ({"zero": "True", "zero-duration": "90"}, ScaleSettings(1, 20, True, 90)),
        ({"zero": "1", "zero-duration": "1m30s"}, ScaleSettings(1, 20, True, 90)),
        ({"min": "0"}, ScaleSettings(0, 20, True, 900)),
    ],
)
def test_scale_settings(labels: dict[str, str], expected: ScaleSettings) -> None:
    assert scale_settings({f"com.openfaas.scale.{k}": v for k, v in labels.items()}) == expected


@pytest.mark.parametrize(
    ("labels", "words"),
    [
        ({"min": "-1"}, "whole number"),
        ({"min": "two"}, "whole number"),
        ({"min": "٣"}, "whole number"),
        ({"min": "99999999"}, "whole number"),
        ({"min": "9" * 5000}, "whole number"),
        ({"zero-duration": "9" * 5000}, "longer than any duration"),
        ({"max": "0"}, "at least 1"),
        ({"min": "5", "max": "4"}, "above"),
        ({"zero": "maybe"}, "true or false"),
        ({"zero-duration": "soon"}, "duration"),
    ],
)
def test_wrong_scale_labels_name_the_label(labels: dict[str, str], words: str) -> None:
    with pytest.raises(InvalidSetting, match=words) as error:
        scale_settings({f"com.openfaas.scale.{k}": v for k, v in labels.items()})
    assert "com.openfaas.scale." in str(error.value)


def spec(labels: dict[str, str] | None = None, env: dict[str, str] | None = None) -> FunctionSpec:
    return FunctionSpec(service="f", image="f", labels=labels or {}, env_vars=env)


@pytest.mark.parametrize(
    ("labels", "env", "expected"),
    [
        ({}, None, ReplicaSettings(60, 100)),
        ({"com.pinnace.timeout": "5m"}, None, ReplicaSettings(300, 100)),
        ({}, {"exec_timeout": "10s", "max_inflight": "4"}, ReplicaSettings(10, 4)),
        ({"com.pinnace.timeout": "1s"}, {"exec_timeout": "10s"}, ReplicaSettings(1, 100)),
        ({}, {"exec_timeout": "0"}, ReplicaSettings(24 * 3600, 100)),
        ({"com.pinnace.concurrency": "0"}, None, ReplicaSettings(60, 0)),
    ],
)
def test_replica_settings(labels: dict[str, str], env: dict[str, str] | None, expected: ReplicaSettings) -> None:
    assert replica_settings(spec(labels, env)) == expected


@pytest.mark.parametrize(
    "labels", [{"com.pinnace.timeout": "25h"}, {"com.pinnace.timeout": "x"}, {"com.pinnace.concurrency": "1.5"}]
)
def test_wrong_replica_settings(labels: dict[str, str]) -> None:
    with pytest.raises(InvalidSetting, match=r"com\.pinnace"):
        replica_settings(spec(labels))
