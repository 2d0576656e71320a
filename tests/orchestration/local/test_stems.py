"""Replicas and zygotes that are forks of a stem, an interpreter that has imported what every function needs."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from orchestration.local.keeper import descent
from orchestration.local.orchestrator import LocalOrchestrator
from orchestration.names import DEFAULT_NAMESPACE
from tests.orchestration.local.functions import Functions, ask, comm, note, running, said_all, started, zygote
from tests.orchestration.local.world import alive, until, watching


async def test_stems_take_their_part_of_the_budget(place: Path, functions: Functions) -> None:
    async with (
        LocalOrchestrator.open(place / "data", functions, zygote_budget_bytes=1 << 20) as orchestrator,
        watching(orchestrator) as watch,
    ):
        await started(orchestrator, watch, functions.add("one", "answer = 1"))  # misses a stem, which has no room
        (replica,) = await started(orchestrator, watch, functions.add("two", "answer = 2"))
        assert await ask(replica) == "2"
        assert "all together may take 1 MiB" in note(orchestrator, "two")
        await until(lambda: not any(comm(pid) == "stem" for pid in descent.children(orchestrator.keeper_pid or 0)))
        await orchestrator.scale((DEFAULT_NAMESPACE, "two-00001"), 2)
        await watch.until(lambda: len(running(watch, "two")) == 2)
        assert orchestrator.stem_pids == []
        assert not any(comm(pid) == "stem" for pid in descent.children(orchestrator.keeper_pid or 0)), "not again at once"


@pytest.mark.usefixtures("unasked")
async def test_without_a_budget_replicas_are_forks_of_the_stem_and_import_the_handler_themselves(
    place: Path, functions: Functions
) -> None:
    source = """
import os, signal, site, sys
AT_IMPORT = os.getpid()
SIGNALS = [str(signal.getsignal(number)).partition(' at ')[0] for number in range(1, signal.NSIG)]
import orchestration
def answer(path):
    status = dict(line.split(':', 1) for line in open('/proc/self/status') if ':' in line)
    return [AT_IMPORT == os.getpid(), orchestration.__file__.rpartition('/')[2], os.environ.get('MINE'), os.getuid(),
            status['CapEff'].strip(), status['NoNewPrivs'].strip(), os.listdir('/tmp'), len(os.listdir('/proc/self/fd')),
            SIGNALS, os.path.basename(sys.argv[0]), [p for p in sys.path if p.endswith('packages')] == site.getsitepackages()]
"""
    async with (
        LocalOrchestrator.open(place / "data", functions, zygote_budget_bytes=0) as orchestrator,
        watching(orchestrator) as watch,
    ):
        spec = functions.add("hello", source, env_vars={"MINE": "here"})
        (place / "functions" / "hello" / "function" / "orchestration.py").write_text("")
        (first,) = await started(orchestrator, watch, spec)  # misses the stem, which starts now
        await until(lambda: any(comm(pid) == "stem" for pid in descent.children(orchestrator.keeper_pid or 0)))
        await until(lambda: orchestrator.zygote_pids == {} and orchestrator.stem_pids)
        await orchestrator.scale((DEFAULT_NAMESPACE, "hello-00001"), 2)
        await watch.until(lambda: len(running(watch, "hello")) == 2)
        (second,) = [replica for replica in running(watch, "hello") if replica.id != first.id]
        assert comm(descent.parent(second.pid or 0) or 0) == "stem"
        await until(lambda: said_all(orchestrator, "hello"))
        by_exec, by_fork = eval(await ask(first)), eval(await ask(second))
        assert by_exec == by_fork
        assert by_fork[:3] == [True, "orchestration.py", "here"]
        if os.geteuid() == 0:
            assert by_fork[3] != 0
        assert note(orchestrator, "hello").startswith("replicas import the handler themselves: no memory")


async def test_asgi_handlers_have_a_stem_of_their_own_with_asyncio(place: Path, functions: Functions) -> None:
    seen = "import sys\nSEEN = 'asyncio' in sys.modules\n"
    app = """
async def app(scope, receive, send):
    await send({'type': 'http.response.start', 'status': 200, 'headers': [(b'content-length', b'%d' % len(str(SEEN)))]})
    await send({'type': 'http.response.body', 'body': str(SEEN).encode()})
"""
    async with (
        LocalOrchestrator.open(place / "data", functions, zygote_budget_bytes=0) as orchestrator,
        watching(orchestrator) as watch,
    ):
        sync = functions.add("sync", seen + "answer = SEEN")
        loop = functions.add("loop", seen + app, template="python3-asgi")
        for spec, stems in ((sync, 1), (loop, 2)):
            await started(orchestrator, watch, spec)  # misses its stem, which starts now
            await until(lambda: len(orchestrator.stem_pids) == stems)  # noqa: B023
            await orchestrator.scale((DEFAULT_NAMESPACE, f"{spec.service}-00001"), 2)
            await watch.until(lambda: len(running(watch, spec.service)) == 2)  # noqa: B023
        forks = {f: [r for r in running(watch, f) if comm(descent.parent(r.pid or 0) or 0) == "stem"] for f in ("sync", "loop")}
        assert [len(found) for found in forks.values()] == [1, 1]
        assert await ask(forks["sync"][0]) == "False"
        assert await ask(forks["loop"][0]) == "True"


async def test_variables_that_are_read_when_a_process_starts_make_an_exec(place: Path, functions: Functions) -> None:
    async with (
        LocalOrchestrator.open(place / "data", functions, zygote_budget_bytes=0) as orchestrator,
        watching(orchestrator) as watch,
    ):
        await started(orchestrator, watch, functions.add("other", "answer = 1"))
        await until(lambda: orchestrator.stem_pids)
        spec = functions.add("hello", "answer = 1", env_vars={"MALLOC_ARENA_MAX": "1"})
        (replica,) = await started(orchestrator, watch, spec)
        assert descent.parent(replica.pid or 0) == orchestrator.keeper_pid


async def test_a_killed_stem_is_replaced_and_what_came_from_it_lives_on(place: Path, functions: Functions) -> None:
    async with LocalOrchestrator.open(place / "data", functions) as orchestrator, watching(orchestrator) as watch:
        await started(orchestrator, watch, functions.add("first", "answer = 1"))
        await until(lambda: orchestrator.stem_pids)
        (replica,) = await started(orchestrator, watch, functions.add("hello", "import os\nanswer = lambda path: os.getppid()"))
        (stem,) = orchestrator.stem_pids
        assert descent.parent(zygote(orchestrator, "hello")) == stem
        os.kill(stem, signal.SIGKILL)
        await until(lambda: not alive(stem))
        assert await ask(replica) == str(zygote(orchestrator, "hello"))
        await orchestrator.scale((DEFAULT_NAMESPACE, "hello-00001"), 2)
        await watch.until(lambda: len(running(watch, "hello")) == 2)
        await started(orchestrator, watch, functions.add("other", "answer = 1"))
        await until(lambda: orchestrator.stem_pids and orchestrator.stem_pids != [stem])
