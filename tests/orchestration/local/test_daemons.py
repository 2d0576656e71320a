"""Handlers that daemonise, at their import or in a call: nothing of them is left when the replica is gone."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from orchestration.local.cgroups import Cgroups
from orchestration.local.keeper import descent
from orchestration.local.orchestrator import LocalOrchestrator
from orchestration.names import DEFAULT_NAMESPACE, FunctionId
from orchestration.replica import Replica, ReplicaState
from tests.orchestration.local.functions import Functions, ask, running, started
from tests.orchestration.local.world import Watch, alive, until, watching

# As Stevens has it (Advanced Programming in the UNIX Environment, 13.3), but for files 0 to 2, by which it could be found.
DAEMONISE = """
import os, signal, time
def daemonise(stay):
    reading, writing = os.pipe()
    if os.fork() == 0:
        os.setsid()
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        if os.fork():
            os._exit(0)
        os.chdir('/')
        os.umask(0)
        os.write(writing, b'%d' % os.getpid())
        os.closerange(3, 256)
        time.sleep(600)
        os._exit(0)
    daemon = os.read(reading, 100).decode()
    os.close(reading), os.close(writing)
    if not stay:
        os._exit(0)
    os.wait()
    return daemon
"""


@pytest.fixture(params=["with cgroups, where there are some", "without cgroups"])
async def orchestrator(
    request: pytest.FixtureRequest, place: Path, functions: Functions, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[LocalOrchestrator]:
    if request.param == "without cgroups":
        monkeypatch.setattr(Cgroups, "probe", lambda *_: None)
    async with LocalOrchestrator.open(place / "data", functions) as opened:
        yield opened


@pytest.fixture
async def watch(orchestrator: LocalOrchestrator) -> AsyncIterator[Watch]:
    async with watching(orchestrator) as made:
        yield made


def ours(orchestrator: LocalOrchestrator) -> set[int]:
    """What lives below the keeper but for stems."""
    table = descent.processes()
    found = descent.descendants([orchestrator.keeper_pid or 0], table) - {orchestrator.keeper_pid, *orchestrator.stem_pids}
    return {pid for pid in found if table[pid][1] not in "ZX"}


async def gone(orchestrator: LocalOrchestrator, watch: Watch) -> None:
    """Take the function to zero and see that nothing is left of it but its zygote."""
    await orchestrator.scale((DEFAULT_NAMESPACE, "hello-00001"), 0)
    await watch.until(lambda: all(r.state is ReplicaState.STOPPED for r in watch.replicas.values()))
    await until(lambda: ours(orchestrator) <= orchestrator.zygote_pids.keys())


async def test_one_that_daemonises_at_its_import_is_no_zygote_and_takes_its_daemon_along(
    orchestrator: LocalOrchestrator, watch: Watch, functions: Functions
) -> None:
    source = DAEMONISE + "DAEMON = daemonise(stay=True)\ndef answer(path): return DAEMON"
    (replica,) = await started(orchestrator, watch, functions.add("hello", source))
    daemon = int(await ask(replica))
    assert alive(daemon)
    notes = orchestrator.status(FunctionId(DEFAULT_NAMESPACE, "hello")).notes
    assert "replicas import the handler themselves: its import leaves a child process running" in notes
    await until(lambda: ours(orchestrator) == {replica.pid, daemon})  # the zygote's daemon went with it
    await gone(orchestrator, watch)
    assert not alive(daemon)


async def test_an_import_that_leaves_only_its_daemon_is_a_crash_and_the_daemon_goes(
    orchestrator: LocalOrchestrator, watch: Watch, functions: Functions
) -> None:
    await orchestrator.apply(functions.add("hello", DAEMONISE + "daemonise(stay=False)\nanswer = 1"))
    await watch.until(lambda: any(r.state is ReplicaState.CRASH_LOOP for r in watch.replicas.values()))
    (replica,) = watch.replicas.values()
    assert replica.reason == "exited with status 0"
    await until(lambda: not ours(orchestrator))
    await gone(orchestrator, watch)


async def test_what_a_call_daemonises_lives_as_long_as_the_replica(
    orchestrator: LocalOrchestrator, watch: Watch, functions: Functions
) -> None:
    (replica,) = await started(orchestrator, watch, functions.add("hello", DAEMONISE + "answer = lambda path: daemonise(True)"))
    daemons = [int(await ask(replica)) for _ in range(3)]
    assert all(map(alive, daemons))
    assert await ask(replica)
    await gone(orchestrator, watch)
    assert not any(map(alive, daemons))


async def test_a_call_that_leaves_only_its_daemon_ends_the_replica_and_another_starts(
    orchestrator: LocalOrchestrator, watch: Watch, functions: Functions
) -> None:
    source = DAEMONISE + "answer = lambda path: daemonise(path != '/leave')"
    (replica,) = await started(orchestrator, watch, functions.add("hello", source))
    with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
        await ask(replica, "/leave")

    def restarted() -> list[Replica]:
        return [r for r in running(watch, "hello") if r.restarts == 1]

    await watch.until(restarted)
    (again,) = restarted()
    assert again.last_end == "exited with status 0"
    await until(lambda: ours(orchestrator) - orchestrator.zygote_pids.keys() == {again.pid})
    await gone(orchestrator, watch)
