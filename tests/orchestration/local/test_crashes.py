"""What is left when processes are killed: of a replica, the keeper, the platform, or both. Nothing, and nothing is lost."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import sqlite3
import sys
from collections.abc import AsyncIterator
from pathlib import Path

from orchestration.local.failures import DataFolderLocked
from orchestration.local.orchestrator import LocalOrchestrator
from orchestration.names import DEFAULT_NAMESPACE
from orchestration.replica import ReplicaState
from tests.orchestration.local.world import Bundles, Watch, alive, get, spec, until, watching

ROOT = Path(__file__).resolve().parents[3]


def instance(place: Path) -> str:
    """Return the data folder's own name."""
    with contextlib.closing(sqlite3.connect(place / "data" / "state.db")) as connection:
        name: str = connection.execute("SELECT value FROM facts WHERE name = 'instance'").fetchone()[0]
        return name


@contextlib.asynccontextmanager
async def platform(place: Path, code: Path) -> AsyncIterator[tuple[asyncio.subprocess.Process, dict[str, int]]]:
    """A platform in a process of its own, with a replica that has left a daemon behind; and their pids."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, str(Path(__file__).parent / "programs" / "serve_platform.py"), str(place / "data"), str(code)),
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])},
        stdout=asyncio.subprocess.PIPE,
    )
    try:
        assert process.stdout is not None
        yield process, json.loads(await asyncio.wait_for(process.stdout.readline(), 20))
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()


async def test_a_killed_platform_leaves_no_process_and_loses_nothing(place: Path, bundles: Bundles) -> None:
    async with platform(place, bundles.code) as (process, pids):
        assert all(alive(pid) for pid in pids.values())
        process.kill()
        await process.wait()
        await until(lambda: not any(alive(pid) for pid in pids.values()))
        assert not list(Path("/sys/fs/cgroup").glob(f"**/pinnace-{instance(place)}"))
    async with LocalOrchestrator.open(place / "data", bundles) as orchestrator, watching(orchestrator) as watch:
        await watch.until(watch.running)
        assert (await get(watch.running()[0], "/x"))[0] == 200


async def test_what_a_killed_platform_and_keeper_leave_is_swept_at_the_next_start(place: Path, bundles: Bundles) -> None:
    async with platform(place, bundles.code) as (process, pids):
        os.kill(process.pid, signal.SIGSTOP)  # so that it cannot answer the keeper's death
        os.kill(pids["keeper"], signal.SIGKILL)
        process.kill()
        await process.wait()
        await until(lambda: not alive(pids["keeper"]))
        assert alive(pids["replica"])
        assert alive(pids["escaped"])
        async with LocalOrchestrator.open(place / "data", bundles) as orchestrator, watching(orchestrator) as watch:
            assert not alive(pids["replica"])
            assert not alive(pids["escaped"])
            await watch.until(watch.running)


async def test_a_killed_keeper_is_replaced_and_its_replicas_started_again(
    orchestrator: LocalOrchestrator, watch: Watch
) -> None:
    await orchestrator.apply(spec())
    await watch.until(watch.running)
    before, keeper = watch.running()[0], orchestrator.keeper_pid
    assert before.pid is not None
    assert keeper is not None
    escaped = int((await get(before, "/escape"))[1])
    os.kill(keeper, signal.SIGKILL)
    await watch.until(lambda: watch.running() and watch.running()[0].pid != before.pid)
    after = watch.running()[0]
    assert not alive(before.pid)
    assert not alive(escaped)
    assert (after.id, after.restarts) == (before.id, 0)
    assert orchestrator.keeper_pid != keeper
    assert (await get(after, "/x"))[0] == 200


async def test_a_killed_replica_is_started_again_and_what_it_daemonised_ends(
    orchestrator: LocalOrchestrator, watch: Watch
) -> None:
    await orchestrator.apply(spec())
    await watch.until(watch.running)
    before = watch.running()[0]
    assert before.pid is not None
    escaped = int((await get(before, "/escape"))[1])
    os.kill(before.pid, signal.SIGKILL)
    await watch.until(lambda: watch.running() and watch.running()[0].pid != before.pid)
    reasons = [r.reason for e in watch.events if (r := getattr(e, "replica", None)) and r.state is ReplicaState.PENDING]
    assert "killed by SIGKILL; its last line: starting" in reasons
    await until(lambda: not alive(escaped))


async def test_leaving_ends_everything_soon_even_what_ignores_sigterm(place: Path, bundles: Bundles) -> None:
    loop = asyncio.get_running_loop()
    async with LocalOrchestrator.open(place / "data", bundles) as orchestrator, watching(orchestrator, release=False) as watch:
        await orchestrator.apply(spec(env_vars={"STUBBORN": "1"}))
        await orchestrator.apply(spec("hanging", env_vars={"HANG": "1"}))
        await watch.until(watch.running)
        pids = [r.pid for r in watch.replicas.values() if r.pid is not None]
        escaped = int((await get(watch.running()[0], "/escape"))[1])
        began = loop.time()
    assert loop.time() - began < 8
    assert not any(alive(pid) for pid in [*pids, escaped])
    assert sorted(path.name for path in (place / "data" / "replicas").iterdir()) == []


async def test_the_second_platform_on_a_data_folder_is_told_who_holds_it(
    orchestrator: LocalOrchestrator, place: Path, bundles: Bundles
) -> None:
    try:
        async with LocalOrchestrator.open(place / "data", bundles):
            raise AssertionError("two platforms on one folder")
    except DataFolderLocked as error:
        assert f"in use by process {os.getpid()}" in str(error)
    assert orchestrator.statuses(DEFAULT_NAMESPACE) == []
