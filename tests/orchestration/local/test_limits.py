"""Limits that bind, and what is said where they cannot."""

from __future__ import annotations

import asyncio
import os
import resource
from pathlib import Path

import pytest

from orchestration.local.cgroups import Cgroups
from orchestration.local.limits import Limits, check_resources, rlimits
from orchestration.local.orchestrator import LocalOrchestrator
from orchestration.names import DEFAULT_NAMESPACE, FunctionId
from orchestration.replica import ReplicaState
from orchestration.settings import InvalidSetting
from orchestration.spec import Resources
from tests.orchestration.local.world import Bundles, Watch, get, spec, watching

HELLO = FunctionId(DEFAULT_NAMESPACE, "hello")
can_limit = pytest.mark.skipif(os.geteuid() != 0, reason="needs root: cgroups")


def test_quantities_become_numbers() -> None:
    assert check_resources("limits", Resources(memory="64Mi", cpu="250m")) == Limits(64 << 20, 0.25)
    assert check_resources("limits", None) == Limits(None, None)
    with pytest.raises(InvalidSetting, match="requests: 'lots' is not a quantity"):
        check_resources("requests", Resources(memory="lots"))


def test_memory_falls_back_to_a_resource_limit() -> None:
    held = type("Held", (), {"memory": True})()
    assert rlimits(Limits(64 << 20), held) == ((resource.RLIMIT_CORE, 0, 0),)
    assert rlimits(Limits(64 << 20), None)[1] == (resource.RLIMIT_DATA, 64 << 20, 64 << 20)
    assert len(rlimits(Limits(), None)) == 1


@pytest.mark.root
@can_limit
async def test_a_replica_that_takes_too_much_memory_is_killed_and_says_so(
    orchestrator: LocalOrchestrator, watch: Watch
) -> None:
    await orchestrator.apply(spec(limits=Resources(memory="48Mi")))
    await watch.until(watch.running)
    before = watch.running()[0]
    assert await get(before, f"/eat/{16 << 20}") == (200, str(16 << 20))
    with pytest.raises((asyncio.IncompleteReadError, ConnectionResetError)):
        await get(before, f"/eat/{96 << 20}")
    await watch.until(lambda: watch.replicas[before.id].reason or watch.replicas[before.id].restarts)
    reasons = {e.replica.reason for e in watch.events if hasattr(e, "replica") and e.replica.reason}
    assert reasons == {"killed: out of memory (limit 48Mi)"}
    assert any(note.startswith("memory limit 48Mi is enforced by cgroup v") for note in orchestrator.status(HELLO).notes)


@pytest.mark.root
@can_limit
async def test_a_replica_gets_no_more_cpu_than_its_limit(orchestrator: LocalOrchestrator, watch: Watch) -> None:
    await orchestrator.apply(spec(limits=Resources(cpu="200m")))
    await watch.until(watch.running)
    _, used = await get(watch.running()[0], "/burn/2")
    assert 0.1 < float(used) < 1.0
    assert any(note.startswith("cpu limit 200m is enforced by cgroup v") for note in orchestrator.status(HELLO).notes)


@pytest.mark.root
@can_limit
async def test_no_cgroup_is_left_behind(place: Path, bundles: Bundles) -> None:
    async with LocalOrchestrator.open(place / "data", bundles) as orchestrator, watching(orchestrator) as watch:
        assert orchestrator.cgroups is not None
        bases = set(orchestrator.cgroups.bases.values())
        function = await orchestrator.apply(spec())
        await watch.until(watch.running)
        replica = watch.running()[0]
        assert all((base / replica.id / "cgroup.procs").read_text().split() == [str(replica.pid)] for base in bases)
        await orchestrator.scale(function.newest.key, 0)
        await watch.until(lambda: watch.replicas[replica.id].state is ReplicaState.STOPPED)
        assert not any((base / replica.id).exists() for base in bases)
    assert not any(base.exists() for base in bases)


async def test_without_cgroups_memory_is_limited_by_process_and_cpu_is_not(
    place: Path, bundles: Bundles, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Cgroups, "probe", lambda *_: None)
    async with LocalOrchestrator.open(place / "data", bundles) as orchestrator, watching(orchestrator) as watch:
        await orchestrator.apply(spec(limits=Resources(memory="256Mi", cpu="1")))
        await watch.until(watch.running)
        with pytest.raises((asyncio.IncompleteReadError, ConnectionResetError)):
            await get(watch.running()[0], f"/eat/{512 << 20}")
        notes = orchestrator.status(HELLO).notes
        usage = await orchestrator.usage(HELLO)
    assert "memory limit 256Mi is enforced by RLIMIT_DATA, per process" in notes
    assert "cpu limit 1 is not enforced: no cgroups here" in notes
    assert usage is not None
    assert usage.memory_bytes > 1 << 20
