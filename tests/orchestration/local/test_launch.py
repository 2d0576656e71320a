"""Starts that fail: said in one line, and nothing stays open."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from orchestration.local.failures import StorageError
from orchestration.local.orchestrator import LocalOrchestrator
from orchestration.local.secret_store import SecretStore
from orchestration.replica import ReplicaState
from tests.orchestration.local.world import Bundles, Watch, spec


def open_files() -> set[str]:
    return {path.name for path in Path("/proc/self/fd").iterdir()}


def crashes(watch: Watch) -> list[str]:
    return [r.reason for r in watch.replicas.values() if r.state is ReplicaState.CRASH_LOOP]


@pytest.mark.parametrize("made", range(3))
async def test_a_pipe_that_cannot_be_made_leaves_no_file_open(
    orchestrator: LocalOrchestrator, watch: Watch, monkeypatch: pytest.MonkeyPatch, made: int
) -> None:
    before = open_files()
    pipe2: Callable[[int], tuple[int, int]] = os.pipe2
    calls = 0

    def scarce(flags: int) -> tuple[int, int]:
        nonlocal calls
        calls += 1
        if calls % (made + 1) == 0:
            raise OSError(24, "Too many open files")
        return pipe2(flags)

    with monkeypatch.context() as patched:
        patched.setattr(os, "pipe2", scarce)
        await orchestrator.apply(spec())
        await watch.until(lambda: crashes(watch))
    assert crashes(watch) == ["cannot start: [Errno 24] Too many open files"]
    assert open_files() == before


async def test_secrets_that_cannot_be_read_are_the_reason(
    orchestrator: LocalOrchestrator, watch: Watch, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def broken(*_: Any) -> dict[str, bytes]:
        raise StorageError("secrets.db: disk I/O error")

    monkeypatch.setattr(SecretStore, "values", broken)
    await orchestrator.apply(spec())
    await watch.until(lambda: crashes(watch))
    assert crashes(watch) == ["cannot start: secrets.db: disk I/O error"]


async def test_a_bundle_that_cannot_be_read_is_tried_again_with_waits(
    orchestrator: LocalOrchestrator, watch: Watch, bundles: Bundles, monkeypatch: pytest.MonkeyPatch
) -> None:
    function = await orchestrator.apply(spec())
    await watch.until(watch.running)
    await orchestrator.scale(function.newest.key, 0)
    monkeypatch.setattr(bundles, "resolve", lambda image: 1 / 0)
    await orchestrator.scale(function.newest.key, 1)
    await watch.until(lambda: crashes(watch))
    assert crashes(watch) == ["cannot start: division by zero"]
    assert len({replica.id for replica in watch.replicas.values()}) == 2
