"""The `faas` command against the control API itself, with an orchestrator and a builder that only remember."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest
import uvicorn

from builder.events import BuildEvent
from cli.credentials import save_login
from gateway.control.app import control_app
from gateway.control.auth import Auth, Login
from gateway.control.info import About
from gateway.control.origin import Hosts
from gateway.control.streams import closing
from gateway.monitor.monitor import Monitor
from orchestration.events import ReplicaChanged
from orchestration.names import FunctionId
from orchestration.replica import ReplicaState
from tests.cli.conftest import Done
from tests.fakes.builder import FakeBuilder
from tests.fakes.orchestrator import FakeOrchestrator

ROOT = Path(__file__).parent.parent.parent
LOGIN = ("admin", "a:b")
HELLO = FunctionId("openfaas-fn", "hello")

Faas = Callable[..., Awaitable[Done]]


@pytest.fixture
def orchestrator() -> FakeOrchestrator:
    return FakeOrchestrator()


@pytest.fixture
def builder() -> FakeBuilder:
    return FakeBuilder()


@pytest.fixture
async def control(project: Path, orchestrator: FakeOrchestrator, builder: FakeBuilder, tmp_path: Path) -> AsyncIterator[Faas]:
    """Serve the control API and return what runs `faas` against it, logged in, in the project's folder."""
    app = control_app(
        orchestrator=orchestrator,
        builder=builder,
        auth=Auth(Login(*LOGIN), b"payload secret"),
        hosts=Hosts(),
        invocations=lambda function: 7,
        about=About("1.2.3"),
        data_dir=tmp_path / "data",
        monitor=Monitor(orchestrator, dict, dict),
    )
    config = uvicorn.Config(app, lifespan="on", ws="none", log_config=None, timeout_graceful_shutdown=1)
    config.load()
    server = uvicorn.Server(config)
    server.lifespan = config.lifespan_class(config)
    with socket.create_server(("127.0.0.1", 0)) as listening:
        await server.startup(sockets=[listening])
        url = f"http://127.0.0.1:{listening.getsockname()[1]}"
        save_login(url, *LOGIN)
        try:
            yield lambda *arguments: _run(url, *arguments)
        finally:
            await server.shutdown(sockets=[listening])


async def _run(url: str, *arguments: str) -> Done:
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-c",
        "from cli.main import main; main()",
        *arguments,
        env={**os.environ, "PYTHONPATH": str(ROOT), "OPENFAAS_URL": url},
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    async with asyncio.timeout(60):
        out, err = await process.communicate()
    return Done(process.returncode or 0, out.decode(), err.decode())


async def test_the_life_of_a_function(control: Faas, orchestrator: FakeOrchestrator, builder: FakeBuilder) -> None:
    assert (await control("secret", "create", "key", "--from-literal", "value")).code == 0
    assert orchestrator.secret("openfaas-fn", "key") == b"value"
    assert (await control("new", "hello", "--lang", "python3-http")).code == 0
    deployed = await control("deploy", "--secret", "key", "--label", "team=red", "--memory-limit", "64Mi")
    assert (deployed.code, deployed.err) == (0, "")
    assert deployed.out.startswith("Deployed hello in ")
    assert b"context/function/handler.py" in builder.contexts[0]
    rows = json.loads((await control("list", "--json")).out)
    assert [(row["name"], row["availableReplicas"], row["invocationCount"]) for row in rows] == [("hello", 1, 7)]
    described = (await control("describe", "hello")).out
    for words in ("Status:", "Ready", "hello-00001", "100%", "team=red", "memory=64Mi", "key"):
        assert words in described
    assert " 3 replicas" in (await control("scale", "hello", "3")).out
    assert "not 25: com.openfaas.scale.max is 20" in (await control("scale", "hello", "25")).out
    await orchestrator.write(HELLO, "it said this", call_id="c-1")
    assert (await control("logs", "hello", "--no-time", "--call-id")).out == "c-1  it said this\n"
    assert (await control("ready", "hello")).code == 0
    assert (await control("remove", "hello")).out == "Removed hello.\n"
    assert (await control("describe", "hello")).code == 1
    assert (await control("secret", "remove", "key")).code == 0


async def test_namespaces_keep_functions_apart(control: Faas) -> None:
    assert (await control("namespace", "create", "dev", "-l", "team=red")).code == 0
    assert "dev\n" in (await control("namespace", "list")).out
    assert (await control("deploy", "--image", "x", "--name", "f", "-n", "dev")).code == 0
    assert (await control("list", "-q")).out == ""
    assert (await control("list", "-q", "-n", "dev")).out == "f\n"
    held = await control("namespace", "remove", "dev")
    assert held.code == 1
    assert (await control("remove", "f", "-n", "dev")).code == 0
    assert (await control("namespace", "remove", "dev")).code == 0
    assert (await control("deploy", "--image", "x", "--name", "f", "-n", "none")).code == 1


async def test_a_deploy_waits_and_says_why_it_was_in_vain(control: Faas, orchestrator: FakeOrchestrator) -> None:
    orchestrator.starts_as = ReplicaState.PENDING
    deploying = asyncio.ensure_future(control("deploy", "--image", "x", "--name", "hello"))
    await _until_deployed(orchestrator)
    assert not deploying.done()
    replica = orchestrator.status(HELLO).instances[0].id
    orchestrator.set_state(replica, ReplicaState.CRASH_LOOP, "handler.py line 3: ModuleNotFoundError: No module named 'foo'")
    done = await deploying
    assert done.code == 1
    assert (
        "Error: hello: handler.py line 3: ModuleNotFoundError: No module named 'foo'; packages are listed in requirements.txt\n"
        in done.err
    )
    assert "CrashLoopBackOff" in (await control("describe", "hello")).out


async def _until_deployed(orchestrator: FakeOrchestrator) -> None:
    """Return when the function has a replica."""
    async with asyncio.timeout(30), closing(orchestrator.watch()) as events:
        async for event in events:
            if isinstance(event, ReplicaChanged):
                return


async def test_a_failed_build_is_told(control: Faas, builder: FakeBuilder) -> None:
    builder.events = (
        BuildEvent(["resolving requirements", "no matching distribution"], "", "in_progress"),
        BuildEvent([], "", "failed", "requirements.txt line 1: there is no package nothing-like-it"),
    )
    assert (await control("new", "hello", "--lang", "python3-http")).code == 0
    done = await control("deploy")
    assert done.code == 1
    assert done.err.splitlines() == [
        "hello | resolving requirements",
        "hello | no matching distribution",
        "Error: hello: not built: requirements.txt line 1: there is no package nothing-like-it",
    ]
    assert (await control("list", "-q")).out == ""


async def test_an_unknown_image_and_a_missing_secret_are_named(control: Faas, orchestrator: FakeOrchestrator) -> None:
    orchestrator.unknown_images.add("nobody/built:this")
    unknown = await control("deploy", "--image", "nobody/built:this", "--name", "ghost")
    assert unknown.code == 1
    assert "nobody/built:this" in unknown.err
    missing = await control("deploy", "--image", "x", "--name", "early", "--secret", "later")
    assert missing.code == 1
    assert "later" in missing.err


async def test_version_names_the_gateway(control: Faas) -> None:
    assert "1.2.3" in (await control("version")).out


async def test_blue_green_a_split_and_going_back(control: Faas, orchestrator: FakeOrchestrator) -> None:
    first = await control("deploy", "--image", "x:1", "--name", "hello", "--no-traffic")
    assert "the first revision gets all calls" in first.err
    green = await control("deploy", "--image", "x:2", "--name", "hello", "--no-traffic", "--tag", "green")
    assert green.code == 0, green.err
    told = json.loads((await control("traffic", "hello", "--json")).out)
    assert told["routed"] == [
        {"revision": "hello-00001", "percent": 100},
        {"revision": "hello-00002", "percent": 0, "tag": "green"},
    ]
    assert (await control("promote", "hello")).out == "hello: 100 % to hello-00002; green is hello-00002.\n"
    split = await control("traffic", "hello", "1=90", "green=10", "--tag", "old=1", "--untag", "green")
    assert split.code == 0, split.err
    assert "Deploys move no calls" in split.out
    rows = json.loads((await control("revisions", "hello", "--json")).out)
    assert [(r["name"], r["percent"], r["tags"]) for r in rows] == [("hello-00002", 10, []), ("hello-00001", 90, ["old"])]
    listed = (await control("revisions", "hello")).out
    assert "hello-00002 (@latest)" in listed
    assert (await control("rollback", "hello", "--to", "2")).out == "hello: 100 % to hello-00002; old is hello-00001.\n"
    assert (await control("rollback", "hello")).out.startswith("hello: 100 % to hello-00001;")
    assert "hello-00002" in (await control("describe", "hello")).out


async def test_traffic_that_cannot_be_is_told_in_words(control: Faas) -> None:
    assert (await control("deploy", "--image", "x:1", "--name", "hello")).code == 0
    for arguments, code, words in (
        (("traffic", "hello", "1"), 2, "write REVISION=PERCENT"),
        (("traffic", "hello", "1=150"), 1, "0 to 100"),
        (("traffic", "hello", "7=100"), 1, "there is no revision 'hello-00007'"),
        (("traffic", "hello", "1=60"), 1, "come to 60"),
        (("traffic", "hello", "--untag", "x"), 2, "has the tag 'x'"),
        (("traffic", "nope"), 1, "there is no function nope"),
        (("traffic", "nope", "1=100"), 1, "there is no function nope"),
        (("rollback", "nope"), 1, "there is no function nope"),
        (("promote", "nope"), 1, "there is no function nope"),
        (("revisions", "nope"), 1, "there is no function nope"),
        (("rollback", "hello"), 1, "nothing to go back to"),
        (("deploy", "--image", "x:1", "--name", "hello", "--gradual", "soon"), 2, "--gradual"),
    ):
        done = await control(*arguments)
        assert (done.code, words in done.err) == (code, True), (arguments, done.err)


async def test_a_gradual_deploy_does_not_wait_for_its_end(control: Faas) -> None:
    assert (await control("deploy", "--image", "x:1", "--name", "hello")).code == 0
    second = await control("deploy", "--image", "x:2", "--name", "hello", "--gradual", "10m", "--timeout", "20s")
    assert second.code == 0, second.err
    assert second.err.endswith("; the rollout goes on by itself, and --wait would follow it\n")
    assert "A gradual rollout of hello-00002 is under way" in (await control("traffic", "hello")).out
    assert (await control("promote", "hello")).out == "hello: 100 % to hello-00002.\n"


async def test_a_gradual_deploy_that_moves_nothing_says_so(control: Faas) -> None:
    first = await control("deploy", "--image", "x:1", "--name", "hello", "--gradual", "10m", "--wait")
    assert first.code == 0
    told = "Note: hello: no calls move in steps: hello-00001 had all of them, or is the first revision\n"
    assert first.err.removeprefix("hello: deploying ...\n") == told, "which is said where it takes a while"


async def test_a_gradual_deploy_that_waits_fails_when_its_rollout_is_ended(control: Faas) -> None:
    assert (await control("deploy", "--image", "x:1", "--name", "hello")).code == 0
    waits = asyncio.ensure_future(control("deploy", "--image", "x:2", "--name", "hello", "--gradual", "10m", "--wait"))
    async with asyncio.timeout(20):
        while "under way" not in (await control("traffic", "hello")).out:  # noqa: ASYNC110 - nothing tells
            await asyncio.sleep(0.05)
    assert (await control("rollback", "hello", "--to", "1")).code == 0
    done = await waits
    assert done.code == 1
    assert "hello: hello-00002 gets 5 % of the calls that move\n" in done.err
    assert "Error: hello: " in done.err and "Deployed" not in done.out
