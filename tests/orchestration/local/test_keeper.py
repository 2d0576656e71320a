"""Processes made by the keeper: what they have, how failures are told, and that a descent ends whole."""

from __future__ import annotations

import asyncio
import errno
import json
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from orchestration.local.keeper import descent
from orchestration.local.keeper_link import Exit, KeeperLink, KeptProcess, SpawnFailed, SpawnPlan
from tests.orchestration.local.world import alive, until

REPORT = """
import json, os, signal, sys
json.dump({
    "fds": sorted(int(fd) for fd in os.listdir("/proc/self/fd") if os.path.exists(f"/proc/self/fd/{fd}")),
    "stdin": os.readlink("/proc/self/fd/0"),
    "env": dict(os.environ),
    "cwd": os.getcwd(),
    "leader": os.getsid(0) == os.getpid(),
    "ignored": [s.name for s in signal.Signals if signal.getsignal(s) == signal.SIG_IGN and s.name[3:] not in ("PIPE", "XFSZ")],
}, sys.stdout)
"""


@pytest.fixture
async def keeper() -> AsyncIterator[KeeperLink]:
    async with KeeperLink(f"PINNACE_INSTANCE=test-{os.getpid()}") as link:
        yield link


def plan(*argv: str, **fields: object) -> SpawnPlan:
    return SpawnPlan(argv=argv, env={"ONLY": "this"}, cwd="/", **fields)  # type: ignore[arg-type]


async def spawn(keeper: KeeperLink, plan: SpawnPlan, out: int | None = None, name: str = "one") -> KeptProcess:
    null = os.open("/dev/null", os.O_WRONLY)
    try:
        return await keeper.spawn(name, plan, (null if out is None else out, null))
    finally:
        os.close(null)


async def test_a_process_has_what_its_plan_says_and_nothing_of_ours(keeper: KeeperLink) -> None:
    reading, writing = os.pipe()
    process = await spawn(keeper, plan(sys.executable, "-I", "-S", "-c", REPORT), writing)
    os.close(writing)
    assert await asyncio.wait_for(process.exited, 10) == Exit(status=0, max_rss_kib=process.exited.result().max_rss_kib)
    with os.fdopen(reading) as output:
        report = json.load(output)
    assert report["fds"] == [0, 1, 2]
    assert report["stdin"] == "/dev/null"
    assert report["env"].pop("LC_CTYPE", "C.UTF-8") == "C.UTF-8"
    assert (report["env"], report["cwd"], report["leader"], report["ignored"]) == ({"ONLY": "this"}, "/", True, [])


@pytest.mark.parametrize(
    ("broken", "step", "text"),
    [
        (plan("/no/such/program"), "program", "No such file or directory"),
        (plan("/etc"), "program", "Permission denied: /etc"),
        (plan("/bin/true\0"), "program", "embedded null byte"),
        (plan("/bin/true", cgroups=("/no/such/cgroup",)), "cgroup", "No such file or directory: /no/such/cgroup/cgroup.procs"),
        (plan("/bin/true", rlimits=((999, 1, 1),)), "limits", "invalid resource"),
        (SpawnPlan(argv=("/bin/true",), env={}, cwd="/no/such/folder"), "folder", "/no/such/folder"),
    ],
)
async def test_a_step_that_fails_is_named(keeper: KeeperLink, broken: SpawnPlan, step: str, text: str) -> None:
    with pytest.raises(SpawnFailed, match=text) as failed:
        await spawn(keeper, broken)
    assert failed.value.step == step
    process = await spawn(keeper, plan("/bin/true"))
    assert (await asyncio.wait_for(process.exited, 10)).status == 0


async def test_ends_are_told_with_status_or_signal(keeper: KeeperLink) -> None:
    process = await spawn(keeper, plan("/bin/sh", "-c", "exit 3"))
    assert str(await asyncio.wait_for(process.exited, 10)) == "exited with status 3"
    process = await spawn(keeper, plan("/bin/sleep", "600"))
    process.signal(signal.SIGTERM)
    assert str(await asyncio.wait_for(process.exited, 10)) == "killed by SIGTERM"
    process.signal(signal.SIGKILL)  # it has ended: nothing happens


async def test_a_plan_of_megabytes_arrives(keeper: KeeperLink) -> None:
    env = {f"NAME_{n}": "x" * 100_000 for n in range(15)}
    big = SpawnPlan(argv=("/bin/sh", "-c", "test ${#NAME_14} = 100000 || exit 9"), env=env, cwd="/")
    process = await spawn(keeper, big)
    assert (await asyncio.wait_for(process.exited, 10)).status == 0


async def test_many_processes_at_once(keeper: KeeperLink) -> None:
    processes = await asyncio.gather(*(spawn(keeper, plan("/bin/true"), name=f"p{n}") for n in range(100)))
    ends = await asyncio.wait_for(asyncio.gather(*(process.exited for process in processes)), 20)
    assert {end.status for end in ends} == {0}


async def test_leaving_ends_what_runs() -> None:
    async with KeeperLink("PINNACE_INSTANCE=x") as keeper:
        process = await spawn(keeper, plan("/bin/sleep", "600"))
        assert alive(process.pid)
    assert not alive(process.pid)
    assert process.exited.result().lost


async def test_a_keeper_that_cannot_be_started_again_is_tried_until_it_can(
    keeper: KeeperLink, monkeypatch: pytest.MonkeyPatch
) -> None:
    process = await spawn(keeper, plan("/bin/sleep", "600"))
    popen, refusals = subprocess.Popen, iter([BlockingIOError(errno.EAGAIN, "no process"), OSError(errno.EMFILE, "no file")])

    def refuse_first(*args: Any, **kwargs: Any) -> Any:
        for error in refusals:
            raise error
        return popen(*args, **kwargs)

    monkeypatch.setattr("orchestration.local.keeper_link.RESTART_PAUSE_S", 0.01)
    monkeypatch.setattr("orchestration.local.keeper_link.subprocess.Popen", refuse_first)

    async def no_thread(*_: object) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr("orchestration.local.keeper_link.asyncio.to_thread", no_thread)
    first = keeper.pid
    assert first is not None
    open_files = len(list(Path("/proc/self/fd").iterdir()))
    os.kill(first, signal.SIGKILL)
    assert (await asyncio.wait_for(process.exited, 10)).lost
    again = await spawn(keeper, plan("/bin/true"))
    monkeypatch.undo()
    assert (await asyncio.wait_for(again.exited, 10)).status == 0
    assert keeper.pid != first
    assert next(refusals, None) is None
    assert len(list(Path("/proc/self/fd").iterdir())) <= open_files


async def test_a_descent_ends_although_it_keeps_forking() -> None:
    # Each process forks the next and waits for it: 300 generations at most, so that a failure harms nobody.
    program = "import os\nfor _ in range(300):\n  if os.fork():\n    os.wait()\n    break\n  os.setsid()\nos.read(0, 1)\n"
    pipe = asyncio.subprocess.PIPE
    forking = await asyncio.create_subprocess_exec(sys.executable, "-I", "-S", "-c", program, stdin=pipe)
    await until(lambda: len(descent.descendants([forking.pid], descent.processes())) > 3)
    ended = await asyncio.to_thread(descent.end, [forking.pid])
    await forking.wait()
    assert len(ended) > 3
    await until(lambda: not any(alive(pid) for pid in ended))


def test_descendants_are_found_through_all_generations() -> None:
    table = {1: (0, "S"), 2: (1, "S"), 3: (2, "S"), 4: (3, "Z"), 5: (1, "S"), 6: (5, "S")}
    assert descent.descendants([2], table) == {2, 3, 4}
    assert descent.descendants([2, 6, 99], table) == {2, 3, 4, 6}


def test_our_own_children_are_seen() -> None:
    assert os.getpid() in descent.children(os.getppid()) or not Path(f"/proc/{os.getppid()}").exists()
