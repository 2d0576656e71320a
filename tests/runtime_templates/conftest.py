"""Replicas for tests: the real process, started as the platform starts it, ended with the test."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

RUNTIME = Path(__file__).parents[2] / "runtime-templates" / "_python"
sys.path.append(str(RUNTIME))

from tests.runtime_templates.replica import Replica, StartReplica  # noqa: E402


@pytest.fixture
def start_replica(tmp_path: Path) -> Iterator[StartReplica]:
    """Return what starts a replica: `start_replica(handler, template="python3-http", **environment)`."""
    replicas: list[Replica] = []

    def start(handler: str, template: str = "python3-http", *, tcp: bool = False, **environment: str) -> Replica:
        replica = Replica(tmp_path / str(len(replicas)), handler, template, tcp=tcp, environment=environment)
        replicas.append(replica)
        return replica

    yield start
    for replica in replicas:
        replica.end()


@pytest.fixture(params=["def", "async def"])
def define(request: pytest.FixtureRequest) -> str:
    """How the handler is defined, and with it which of the two servers runs it."""
    return str(request.param)
