"""Replicas that are forks of a zygote: what they are, what they share and do not, and what disqualifies."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from orchestration.local import environment, launch
from orchestration.local.isolation import Isolation
from orchestration.local.keeper import descent
from orchestration.local.orchestrator import LocalOrchestrator
from orchestration.names import DEFAULT_NAMESPACE, FunctionId
from orchestration.orchestrator import NotFound
from orchestration.replica import ReplicaState
from orchestration.settings import InvalidSetting
from orchestration.spec import Resources
from tests.orchestration.local.functions import RUNTIME, Functions, ask, comm, note, running, said_all, started, zygote
from tests.orchestration.local.world import Watch, alive, until, watching

AS_ROOT = pytest.mark.skipif(os.geteuid() != 0, reason="functions have users of their own only as root")


@pytest.fixture
async def orchestrator(place: Path, functions: Functions) -> AsyncIterator[LocalOrchestrator]:
    async with LocalOrchestrator.open(place / "data", functions) as opened:
        yield opened


async def test_replicas_are_forks_of_one_process_that_imported_the_handler(
    orchestrator: LocalOrchestrator, watch: Watch, functions: Functions
) -> None:
    spec = functions.add("hello", "import os\nMADE_BY = os.getpid()\ndef answer(path): return f'{MADE_BY} {os.getpid()}'")
    replicas = await started(orchestrator, watch, spec, 3)
    pid = zygote(orchestrator, "hello")
    answers = [await ask(replica) for replica in replicas]
    assert answers == [f"{pid} {replica.pid}" for replica in replicas]
    assert len(set(answers)) == 3
    assert [descent.parent(replica.pid or 0) for replica in replicas] == [pid] * 3


@AS_ROOT
async def test_a_fork_has_a_user_a_session_a_cgroup_and_a_tmp_of_its_own_and_no_privileges(
    orchestrator: LocalOrchestrator, watch: Watch, functions: Functions
) -> None:
    spec = functions.add(
        "hello",
        """
import os
open('/tmp/from-import', 'w').close()
def answer(path):
    if path.startswith('/leave/'):
        open('/tmp/' + path[7:], 'w').close()
    status = dict(line.split(':', 1) for line in open('/proc/self/status') if ':' in line)
    return [os.listdir('/tmp'), os.getresuid(), os.getsid(0) == os.getpid(), status['CapEff'].strip(),
            status['CapPrm'].strip(), status['NoNewPrivs'].strip(), open('/proc/self/cgroup').read()]
""",
    )
    first, second = await started(orchestrator, watch, spec, 2)
    assert first.pid is not None
    seen = [eval(await ask(replica, f"/leave/{n}")) for n, replica in enumerate((first, second))]
    # The test's own data folder, and this repository where it is there, lie below /tmp and are shown.
    left = [{file for file in files if file in ("0", "1", "from-import")} for files, *_ in seen]
    assert left == [{"0"}, {"1"}]
    assert all(user[0] == user[1] == user[2] != 0 for _, user, *_ in seen)
    assert seen[0][1] == seen[1][1]
    assert [rest[2:6] for rest in seen] == [[True, "0" * 16, "0" * 16, "1"]] * 2
    if orchestrator.cgroups is not None:
        assert seen[0][6] != seen[1][6]
        assert str(os.getpid()) not in seen[0][6]


@pytest.mark.usefixtures("unasked")
async def test_a_fork_holds_no_file_of_its_zygote_or_of_a_neighbour(
    orchestrator: LocalOrchestrator, watch: Watch, functions: Functions
) -> None:
    spec = functions.add(
        "hello",
        """
import os
def name(fd):
    try:
        return os.readlink(f'/proc/self/fd/{fd}').partition(':')[0]
    except OSError:
        return ''
def answer(path):
    return sorted(filter(None, map(name, os.listdir('/proc/self/fd'))))
""",
    )
    replicas = await started(orchestrator, watch, spec, 3)
    await until(lambda: said_all(orchestrator, "hello"))
    for replica in replicas:
        files = eval(await ask(replica))
        # The listening socket and this call's; nothing that leads to the zygote, whose control is a socket, too.
        assert files.count("socket") == 2
        assert [file for file in files if file not in ("socket", "anon_inode", "pipe", "/dev/null")] == []
        assert files.count("pipe") == 4  # stdout, stderr, and the server's own


async def test_a_fork_cannot_connect_to_a_neighbours_socket(
    orchestrator: LocalOrchestrator, watch: Watch, functions: Functions
) -> None:
    source = "import socket\ndef answer(path):\n    socket.socket(socket.AF_UNIX).connect(path)\n    return 'connected'"
    first, second = await started(orchestrator, watch, functions.add("hello", source), 2)
    assert second.endpoint is not None
    if os.geteuid() == 0:
        with pytest.raises(AssertionError):
            await ask(first, second.endpoint.unix or "")


async def test_forks_never_share_random_numbers_uuids_or_tls_randoms(
    orchestrator: LocalOrchestrator, watch: Watch, functions: Functions
) -> None:
    spec = functions.add(
        "hello",
        """
import random, ssl, tempfile, uuid
class Dice(random.Random):
    def seed(self, *_):
        super().seed(6)
own, dice, hidden = random.Random(), Dice(), {'in': [random.Random(42)]}
random.seed(1)
random.random(), uuid.uuid1(), uuid.uuid4(), ssl.RAND_bytes(4)
def answer(path):
    drawn = [random.random(), own.random(), dice.random(), hidden['in'][0].random(), random.SystemRandom().random(),
             uuid.uuid1().hex, uuid.uuid4().hex, ssl.RAND_bytes(16).hex(), tempfile.mktemp()]
    return drawn
""",
    )
    replicas = await started(orchestrator, watch, spec, 4)
    drawn = [eval(await ask(replica)) for replica in replicas]
    for numbers in zip(*drawn, strict=True):
        assert len(set(numbers)) == len(replicas), numbers


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ("import threading, time\nthreading.Thread(target=time.sleep, args=(60,), daemon=True, name='poller').start()",
         "its import starts a thread: 'poller'"),
        ("import socket\nkept = socket.socket()", "its import leaves a socket open"),
        ("import asyncio\nloop = asyncio.new_event_loop()", "its import leaves an event loop open"),
        ("import subprocess\nkept = subprocess.Popen(['/bin/sleep', '60'])", "its import leaves a child process running"),
        ("import signal\nsignal.signal(signal.SIGALRM, lambda *_: None)\nsignal.setitimer(signal.ITIMER_REAL, 60)",
         "its import starts a timer"),
        ("import mmap\nshared = mmap.mmap(-1, 4096)", "its import makes shared memory (multiprocessing, mmap)"),
        ("import tempfile\nkept = tempfile.TemporaryFile()", "its import leaves /tmp/"),
        ("import os\nos.closerange(3, 1024)", "its zygote ended 3 times before it could fork: exited with status 0"),
    ],
    ids=["thread", "socket", "loop", "child", "timer", "shared memory", "file", "closed"],
)  # fmt: skip
async def test_what_an_import_leaves_behind_disqualifies_it_and_is_said(
    orchestrator: LocalOrchestrator, watch: Watch, functions: Functions, source: str, reason: str
) -> None:
    if "closerange" in source:  # as a plain process it would close its own listening socket, too
        source = f"import os\nif 'PINNACE_LISTEN_FD' not in os.environ:\n    {source.splitlines()[1]}"
    (replica,) = await started(orchestrator, watch, functions.add("hello", source + "\nanswer = 'works'"))
    assert await ask(replica) == "works"
    assert note(orchestrator, "hello").startswith(f"replicas import the handler themselves: {reason}")
    assert replica.restarts == 0


async def test_files_0_to_2_signal_handlers_and_the_working_folder_are_as_in_a_plain_process(
    orchestrator: LocalOrchestrator, watch: Watch, functions: Functions
) -> None:
    spec = functions.add(
        "hello",
        """
import os, signal
for fd in range(3):
    os.close(fd)
os.chdir('/usr')
heard = []
signal.signal(signal.SIGUSR1, lambda *_: heard.append('usr1'))
signal.signal(signal.SIGCHLD, signal.SIG_IGN)
signal.signal(signal.SIGTERM, signal.SIG_IGN)
def answer(path):
    os.kill(os.getpid(), signal.SIGUSR1)
    os.write(1, b'still heard\\n')
    return os.getcwd(), signal.getsignal(signal.SIGCHLD).name
""",
    )
    (replica,) = await started(orchestrator, watch, spec)
    assert await ask(replica) == "('/usr', 'SIG_IGN')"
    assert note(orchestrator, "hello").startswith("replicas are forks")
    function = orchestrator.status(FunctionId(DEFAULT_NAMESPACE, "hello")).function
    await orchestrator.scale(function.newest.key, 0)
    await watch.until(lambda: not running(watch, "hello"))
    assert replica.pid is not None
    await until(lambda: not alive(replica.pid or 0), within_s=5)  # SIGTERM is the server's


async def test_a_killed_zygote_leaves_its_replicas_and_is_replaced_at_the_next_start(
    orchestrator: LocalOrchestrator, watch: Watch, functions: Functions
) -> None:
    source = "import os\ndef answer(path):\n    if path == '/exit':\n        os._exit(7)\n    return os.getpid()"
    (first,) = await started(orchestrator, watch, functions.add("hello", source))
    before = zygote(orchestrator, "hello")
    os.kill(before, signal.SIGKILL)
    await until(lambda: not alive(before))
    assert await ask(first) == str(first.pid)
    function = orchestrator.status(FunctionId(DEFAULT_NAMESPACE, "hello")).function
    await orchestrator.scale(function.newest.key, 2)
    await watch.until(lambda: len(running(watch, "hello")) == 2)
    after = zygote(orchestrator, "hello")
    assert after != before
    (second,) = [replica for replica in running(watch, "hello") if replica.id != first.id]
    assert descent.parent(second.pid or 0) == after
    # The end of one whose zygote is gone is seen with its status, and it is started again.
    with contextlib.suppress(asyncio.IncompleteReadError):
        await ask(first, "/exit")
    await watch.until(lambda: watch.replicas[first.id].restarts == 1 and watch.replicas[first.id].state is ReplicaState.RUNNING)
    assert watch.replicas[first.id].last_end == "exited with status 7"


async def test_the_end_of_a_fork_is_told_with_its_status_or_signal_and_what_it_wrote(
    orchestrator: LocalOrchestrator, watch: Watch, functions: Functions
) -> None:
    source = """
import os, signal
def answer(path):
    print('last words')
    os._exit(3) if path == '/exit' else os.kill(os.getpid(), signal.SIGKILL)
"""
    (replica,) = await started(orchestrator, watch, functions.add("hello", source))
    for path, end in (("/exit", "exited with status 3: last words"), ("/kill", "killed by SIGKILL; its last line: last words")):
        await watch.until(lambda: watch.replicas[replica.id].state is ReplicaState.RUNNING)
        with contextlib.suppress(asyncio.IncompleteReadError):
            await ask(watch.replicas[replica.id], path)
        await watch.until(lambda: watch.replicas[replica.id].last_end == end)  # noqa: B023 - it is awaited here


async def test_what_a_fork_daemonises_ends_with_it(orchestrator: LocalOrchestrator, watch: Watch, functions: Functions) -> None:
    source = """
import os, time
def answer(path):
    reading, writing = os.pipe()
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            os.write(writing, str(os.getpid()).encode())
            time.sleep(600)
        os._exit(0)
    os.wait()
    return os.read(reading, 100).decode()
"""
    (replica,) = await started(orchestrator, watch, functions.add("hello", source))
    daemon = int(await ask(replica))
    assert alive(daemon)
    os.kill(replica.pid or 0, signal.SIGKILL)
    await until(lambda: not alive(daemon))
    await watch.until(lambda: watch.replicas[replica.id].restarts == 1)


async def test_a_handler_that_cannot_be_imported_is_the_reason(
    orchestrator: LocalOrchestrator, watch: Watch, functions: Functions
) -> None:
    await orchestrator.apply(functions.add("hello", "import nonesuch"))
    await watch.until(lambda: any(r.state is ReplicaState.CRASH_LOOP for r in watch.replicas.values()))
    (replica,) = watch.replicas.values()
    assert replica.reason == "handler.py line 1: ModuleNotFoundError: No module named 'nonesuch'"


async def test_an_import_that_hangs_can_be_stopped_and_is_ended_in_time(
    orchestrator: LocalOrchestrator, watch: Watch, functions: Functions, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("orchestration.local.zygote.READY_WITHIN_S", 1.0)
    function = await orchestrator.apply(functions.add("hello", "import time\ntime.sleep(600)"))
    await watch.until(lambda: any(r.state is ReplicaState.CRASH_LOOP for r in watch.replicas.values()))
    assert [replica.reason for replica in watch.replicas.values()] == ["not ready within 1 s: its import has not ended"]
    monkeypatch.setattr("orchestration.local.zygote.READY_WITHIN_S", 600.0)
    await orchestrator.scale(function.newest.key, 2)
    await until(lambda: len(descendants(orchestrator)) > 0)
    async with asyncio.timeout(20):
        await orchestrator.remove(function.id)
        await watch.until(lambda: all(r.state is ReplicaState.STOPPED for r in watch.replicas.values()))
    await until(lambda: not descendants(orchestrator))


def descendants(orchestrator: LocalOrchestrator) -> list[int]:
    """The processes below the keeper and its stems, which stay."""
    children = descent.children(orchestrator.keeper_pid or 0)
    stems = [pid for pid in children if comm(pid) == "stem"]
    return [pid for parent in stems for pid in descent.children(parent) if alive(pid)] + [
        pid for pid in children if pid not in stems and alive(pid)
    ]


async def test_a_limit_of_processes_that_is_reached_is_the_reason_and_passes(
    orchestrator: LocalOrchestrator, watch: Watch, functions: Functions
) -> None:
    if orchestrator.cgroups is None or "pids" not in orchestrator.cgroups.bases:
        pytest.skip("no cgroup limits processes here")
    (replica,) = await started(orchestrator, watch, functions.add("hello", "answer = 1"))
    pid = zygote(orchestrator, "hello")
    (place,) = orchestrator.cgroups.bases["pids"].glob("*-zygote-1-1")
    place = place.with_name(place.name.removesuffix("1") + "2")  # where the next fork is to be born
    await until(lambda: place.is_dir() and (place / "cgroup.procs").read_text().split() == [str(pid)])
    (place / "pids.max").write_text("1")
    function = orchestrator.status(FunctionId(DEFAULT_NAMESPACE, "hello")).function
    await orchestrator.scale(function.newest.key, 2)
    await watch.until(lambda: len(running(watch, "hello")) == 2)
    reasons = [e.replica.reason for e in watch.events if getattr(e, "replica", None) and e.replica.id != replica.id]  # type: ignore[union-attr]
    assert "cannot start (fork): Resource temporarily unavailable" in reasons


async def test_a_zygote_that_does_not_answer_is_ended_and_the_start_tried_again(
    orchestrator: LocalOrchestrator, watch: Watch, functions: Functions, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("orchestration.local.keeper_link.FORKED_WITHIN_S", 0.3)
    await started(orchestrator, watch, functions.add("hello", "answer = 1"))
    pid = zygote(orchestrator, "hello")
    os.kill(pid, signal.SIGSTOP)
    function = orchestrator.status(FunctionId(DEFAULT_NAMESPACE, "hello")).function
    await orchestrator.scale(function.newest.key, 2)
    await watch.until(lambda: len(running(watch, "hello")) == 2)
    await until(lambda: not alive(pid))


async def test_a_label_opts_out_and_a_wrong_one_is_refused(
    orchestrator: LocalOrchestrator, watch: Watch, functions: Functions
) -> None:
    await started(orchestrator, watch, functions.add("hello", "answer = 1", labels={"com.pinnace.zygote": "false"}))
    assert note(orchestrator, "hello") == "replicas import the handler themselves: com.pinnace.zygote is false"
    with pytest.raises(InvalidSetting, match="true or false"):
        await orchestrator.apply(functions.add("other", "answer = 1", labels={"com.pinnace.zygote": "maybe"}))


async def test_a_changed_secret_replaces_the_zygote_and_the_replicas(
    orchestrator: LocalOrchestrator, watch: Watch, functions: Functions
) -> None:
    await orchestrator.create_secret(DEFAULT_NAMESPACE, "key", b"old")
    source = "import os\nat_import = open(os.environ['secret_mount_path'] + '/key').read()\ndef answer(path): return at_import"
    spec = functions.add("hello", source, secrets=("key",))
    (before,) = await started(orchestrator, watch, spec)
    assert await ask(before) == "old"
    first = zygote(orchestrator, "hello")
    await orchestrator.update_secret(DEFAULT_NAMESPACE, "key", b"new")
    await watch.until(lambda: [r for r in running(watch, "hello") if r.id != before.id])
    await watch.until(lambda: watch.replicas[before.id].state is ReplicaState.STOPPED)
    (after,) = running(watch, "hello")
    assert await ask(after) == "new"
    assert zygote(orchestrator, "hello") != first
    await until(lambda: not alive(first))
    # And at zero: what starts next has the new value, too.
    function = orchestrator.status(FunctionId(DEFAULT_NAMESPACE, "hello")).function
    await orchestrator.scale(function.newest.key, 0)
    await watch.until(lambda: not running(watch, "hello"))
    await orchestrator.update_secret(DEFAULT_NAMESPACE, "key", b"newest")
    await orchestrator.scale(function.newest.key, 1)
    await watch.until(lambda: running(watch, "hello"))
    assert await ask(running(watch, "hello")[0]) == "newest"


async def test_a_new_revision_ends_the_zygote_of_the_old_one(
    orchestrator: LocalOrchestrator, watch: Watch, functions: Functions
) -> None:
    await started(orchestrator, watch, functions.add("hello", "answer = 1"))
    before = zygote(orchestrator, "hello")
    await orchestrator.apply(functions.add("other", "answer = 2", service="hello"))
    await until(lambda: not alive(before))
    await watch.until(lambda: [r for r in running(watch, "hello") if r.revision == "hello-00002"])
    function = orchestrator.status(FunctionId(DEFAULT_NAMESPACE, "hello")).function
    after = zygote(orchestrator, "hello")
    await orchestrator.remove(function.id)
    await until(lambda: not alive(after))


async def test_a_replica_that_takes_too_much_memory_ends_alone(
    orchestrator: LocalOrchestrator, watch: Watch, functions: Functions
) -> None:
    if orchestrator.cgroups is None:
        pytest.skip("no cgroups here")
    source = "def answer(path):\n    return len(bytearray(b'x') * int(path[1:]))"
    spec = functions.add("hello", source, limits=Resources(memory="64Mi"))
    first, second = await started(orchestrator, watch, spec, 2)
    pid = zygote(orchestrator, "hello")
    with contextlib.suppress(asyncio.IncompleteReadError):
        await ask(first, f"/{200 << 20}")
    await watch.until(lambda: watch.replicas[first.id].last_end)
    assert watch.replicas[first.id].last_end == "killed: out of memory (limit 64Mi)"
    assert zygote(orchestrator, "hello") == pid
    assert await ask(second, "/5") == "5"
    assert watch.replicas[second.id].restarts == 0


async def test_many_starts_leave_no_process_file_or_folder(
    orchestrator: LocalOrchestrator, watch: Watch, functions: Functions, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("orchestration.local.zygote.ROOMS_SPARED_S", 0.3)  # rooms that are spared are no leak
    await started(orchestrator, watch, functions.add("hello", "answer = 1"))
    function = orchestrator.status(FunctionId(DEFAULT_NAMESPACE, "hello")).function
    pid = zygote(orchestrator, "hello")

    async def to_and_fro() -> tuple[object, ...]:
        await orchestrator.scale(function.newest.key, 0)
        await watch.until(lambda: all(r.state is ReplicaState.STOPPED for r in watch.replicas.values()))
        await orchestrator.scale(function.newest.key, 3)
        await watch.until(lambda: len(running(watch, "hello")) == 3)
        await orchestrator.scale(function.newest.key, 0)
        await watch.until(lambda: all(r.state is ReplicaState.STOPPED for r in watch.replicas.values()))
        await until(lambda: len(list((place / "data" / "replicas").glob("*/rooms/*"))) <= 2)
        folders = [len(list(base.iterdir())) for base in (orchestrator.cgroups.bases.values() if orchestrator.cgroups else ())]
        return (
            [len(list(Path(f"/proc/{process}/fd").iterdir())) for process in (os.getpid(), orchestrator.keeper_pid, pid)],
            len(descendants(orchestrator)),
            len(list((place / "data" / "replicas").iterdir())),
            sorted(set(folders)),
        )

    before = await to_and_fro()
    for _ in range(10):
        after = await to_and_fro()
    assert after == before
    assert zygote(orchestrator, "hello") == pid


@pytest.mark.parametrize("how", ["true", "false"])
async def test_a_replica_knows_its_name(orchestrator: LocalOrchestrator, watch: Watch, functions: Functions, how: str) -> None:
    source = "import os\ndef handle(event, context):\n    return f\"{context.hostname} {os.environ['HOSTNAME']}\""
    replicas = await started(orchestrator, watch, functions.add("hello", source, labels={"com.pinnace.zygote": how}), 2)
    assert [await ask(replica) for replica in replicas] == [f"{replica.id} {replica.id}" for replica in replicas]
    own = functions.add("named", source, labels={"com.pinnace.zygote": how}, env_vars={"HOSTNAME": "box"})
    (replica,) = await started(orchestrator, watch, own)
    assert await ask(replica) == "box box"


async def test_without_mount_namespaces_a_fork_has_a_folder_for_files_of_its_own(
    place: Path, functions: Functions, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("orchestration.local.machine.probe", unisolated)
    source = """
import os, tempfile
at_import = tempfile.gettempdir()
def answer(path):
    return [tempfile.gettempdir(), os.environ['HOME'], at_import]
"""
    spec = functions.add("hello", source)
    async with LocalOrchestrator.open(place / "data", functions) as orchestrator, watching(orchestrator) as watch:
        replicas = await started(orchestrator, watch, spec, 2)
        for replica in replicas:
            temporary, home, at_import = eval(await ask(replica))
            assert temporary == home == str(place / "data" / "replicas" / replica.id / "tmp") != at_import
            assert Path(temporary).is_dir()
        assert note(orchestrator, "hello").startswith("replicas are forks")


async def unisolated(*_: object) -> Isolation:
    return Isolation(users=False, mounts=False, why="the test says so")


async def test_a_machine_without_user_namespaces_starts_plain_processes_and_says_so(
    orchestrator: LocalOrchestrator, watch: Watch, functions: Functions, monkeypatch: pytest.MonkeyPatch
) -> None:
    contract = environment.environment
    monkeypatch.setattr(launch, "environment", lambda *args, **more: contract(*args, **more) | {"PINNACE_ROOMS": "/nowhere"})
    (replica,) = await started(orchestrator, watch, functions.add("hello", "answer = 1"))
    assert await ask(replica) == "1"
    if os.geteuid() == 0:
        assert "a fork cannot have a /tmp of its own here" in note(orchestrator, "hello")


async def test_a_runtime_from_before_zygotes_is_started_plainly(
    orchestrator: LocalOrchestrator, watch: Watch, functions: Functions, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = place / "runtime"
    shutil.copytree(RUNTIME, old)
    (old / "pinnace_runtime" / "fork_server.py").unlink()
    monkeypatch.setattr("tests.orchestration.local.functions.RUNTIME", old)
    await started(orchestrator, watch, functions.add("hello", "answer = 1"))
    assert note(orchestrator, "hello") == "replicas import the handler themselves: its runtime is an old one: deploy it again"


async def test_leaving_ends_zygotes_too(place: Path, functions: Functions) -> None:
    async with LocalOrchestrator.open(place / "data", functions) as orchestrator, watching(orchestrator) as watch:
        replicas = await started(orchestrator, watch, functions.add("hello", "answer = 1"), 2)
        pids = [zygote(orchestrator, "hello"), *(replica.pid or 0 for replica in replicas)]
        assert all(map(alive, pids))
    assert not any(map(alive, pids))
    assert sorted(path.name for path in (place / "data" / "replicas").iterdir()) == []


async def test_a_killed_keeper_takes_zygotes_with_it_and_all_come_back(
    orchestrator: LocalOrchestrator, watch: Watch, functions: Functions
) -> None:
    (before,) = await started(orchestrator, watch, functions.add("hello", "answer = 1"))
    pid = zygote(orchestrator, "hello")
    os.kill(orchestrator.keeper_pid or 0, signal.SIGKILL)
    await watch.until(lambda: running(watch, "hello") and running(watch, "hello")[0].pid != before.pid)
    assert not alive(pid)
    assert not alive(before.pid or 0)
    await until(lambda: note(orchestrator, "hello").startswith("replicas are forks"))
    assert await ask(running(watch, "hello")[0]) == "1"


async def test_zygotes_over_the_budget_go_and_their_functions_start_all_the_same(place: Path, functions: Functions) -> None:
    heavy = "kept = bytearray(b'x') * (30 << 20)\nanswer = 'heavy'"
    async with (
        LocalOrchestrator.open(place / "data", functions, zygote_budget_bytes=60 << 20) as orchestrator,
        watching(orchestrator) as watch,
    ):
        for name in ("one", "two", "three"):
            (replica,) = await started(orchestrator, watch, functions.add(name, heavy))
            assert await ask(replica) == "heavy"
        kept = [note(orchestrator, name).startswith("replicas are forks") for name in ("one", "two", "three")]
        assert kept.count(True) == 1
        await started(orchestrator, watch, functions.add("vast", heavy.replace("30", "80")))
        assert note(orchestrator, "vast").startswith("replicas import the handler themselves: its zygote takes 8")
        assert kept == [note(orchestrator, name).startswith("replicas are forks") for name in ("one", "two", "three")]


async def test_each_start_is_remembered_with_its_phases(
    orchestrator: LocalOrchestrator, watch: Watch, functions: Functions
) -> None:
    slow = "import time\ntime.sleep(1)\nanswer = 1"
    first, second = await started(orchestrator, watch, functions.add("hello", slow), 2)
    by_id = {start.replica: start for start in orchestrator.status(FunctionId(DEFAULT_NAMESPACE, "hello")).starts}
    assert by_id.keys() == {first.id, second.id}
    assert {start.kind for start in by_id.values()} == {"zygote"}
    assert min(start.prepared_s for start in by_id.values()) > 0.9
    assert max(start.ready_s for start in by_id.values()) < 1
    assert sum(orchestrator.starts.histograms["zygote", "made"].counts) == 2
    await orchestrator.apply(functions.add("broken", "import nonesuch"))
    await watch.until(lambda: any(r.state is ReplicaState.CRASH_LOOP for r in watch.replicas.values()))
    failed = orchestrator.status(FunctionId(DEFAULT_NAMESPACE, "broken")).starts[0]
    assert "nonesuch" in failed.failed
    plain = functions.add("plain", slow, labels={"com.pinnace.zygote": "false"})
    await started(orchestrator, watch, plain)
    (start,) = orchestrator.status(FunctionId(DEFAULT_NAMESPACE, "plain")).starts
    assert start.kind == "exec"
    assert start.ready_s > 1 > start.made_s


async def test_a_zygote_can_be_asked_for_ahead_and_let_go_of(
    orchestrator: LocalOrchestrator, watch: Watch, functions: Functions
) -> None:
    (replica,) = await started(orchestrator, watch, functions.add("hello", "answer = 1"))
    revision = (DEFAULT_NAMESPACE, "hello-00001")
    before = zygote(orchestrator, "hello")
    await orchestrator.cool(revision)
    await until(lambda: not alive(before))
    assert orchestrator.zygote_pids == {}
    assert await ask(replica) == "1"
    await orchestrator.scale(revision, 0)
    await watch.until(lambda: not running(watch, "hello"))
    await orchestrator.prewarm(revision)
    assert list(orchestrator.zygote_pids.values()) == ["hello-00001"]
    assert not running(watch, "hello")
    with pytest.raises(NotFound):
        await orchestrator.prewarm((DEFAULT_NAMESPACE, "hello-00009"))


async def test_a_function_that_is_made_anew_is_judged_anew(
    orchestrator: LocalOrchestrator, watch: Watch, functions: Functions
) -> None:
    left_open = "import socket\nkept = socket.socket()\nanswer = 1"
    await started(orchestrator, watch, functions.add("bad", left_open, service="hello"))
    assert "a socket" in note(orchestrator, "hello")
    await orchestrator.remove(FunctionId(DEFAULT_NAMESPACE, "hello"))
    await watch.until(lambda: not running(watch, "hello"))
    await started(orchestrator, watch, functions.add("good", "answer = 1", service="hello"))
    assert note(orchestrator, "hello").startswith("replicas are forks")
