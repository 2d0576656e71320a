from __future__ import annotations

import pytest

from orchestration.settings import InvalidSetting, ReplicaSettings, replica_settings
from orchestration.spec import FunctionSpec


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
