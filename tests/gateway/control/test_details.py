from __future__ import annotations

import asyncio
from typing import Any

import pytest

from orchestration.names import FunctionId
from orchestration.replica import ReplicaState
from orchestration.spec import FunctionSpec
from orchestration.starts import Start
from tests.fakes.orchestrator import FakeOrchestrator
from tests.gateway.control.client import Answer, Client
from tests.gateway.control.conftest import until

HELLO = FunctionId("openfaas-fn", "hello")
PATH = "/api/v1/functions/hello"


def spec(image: str = "example/hello:1", **more: Any) -> FunctionSpec:
    return FunctionSpec(service="hello", image=image, **more)


async def waiting(client: Client, orchestrator: FakeOrchestrator, query: str) -> asyncio.Task[Answer]:
    """A request that hangs: it has begun to watch."""
    task = asyncio.create_task(client("GET", f"{PATH}?{query}"))
    await until(lambda: orchestrator.open_streams == 1)
    assert not task.done()
    return task


async def answer_of(task: asyncio.Task[Answer], orchestrator: FakeOrchestrator) -> dict[str, Any]:
    answer = await task
    assert answer.status == 200, answer
    assert orchestrator.open_streams == 0
    body: dict[str, Any] = answer.json()
    return body


async def test_everything_that_is_known_of_a_function(
    client: Client, orchestrator: FakeOrchestrator, invocations: dict[FunctionId, int]
) -> None:
    await orchestrator.apply(spec(labels={"team": "red"}, env_vars={}))
    orchestrator.starts_as = ReplicaState.PENDING
    await orchestrator.apply(spec("example/hello:2"))
    orchestrator.starts[HELLO] = (
        Start(
            replica="hello-00001-x",
            revision="hello-00001",
            kind="zygote",
            at=1.5,
            placed_s=0.0,
            prepared_s=0.0,
            made_s=0.00225,
            ready_s=0.004,
        ),
    )
    orchestrator.notes[HELLO] = ("memory limits: enforced by cgroup v2",)
    invocations[HELLO] = 7
    shown = (await client("GET", PATH)).json()
    bundles = [r.pop("bundle") for r in shown["revisions"]]
    assert all(b.startswith("sha256:") for b in bundles)
    assert shown == {
        "name": "hello",
        "namespace": "openfaas-fn",
        "spec": {
            "service": "hello",
            "image": "example/hello:2",
            "namespace": "openfaas-fn",
            "labels": {},
            "annotations": {},
        },
        "condition": {"phase": "Progressing", "message": "waiting for replicas"},
        "generation": 2,
        "createdAt": "2023-11-14T22:13:20Z",
        "updatedAt": "2023-11-14T22:13:20Z",
        "desiredReplicas": 1,
        "availableReplicas": 1,
        "invocationCount": 7,
        "revisions": [
            {
                "name": "hello-00001",
                "number": 1,
                "image": "example/hello:1",
                "createdAt": "2023-11-14T22:13:20Z",
                "percent": 100,
                "tags": [],
                "latest": True,
                "replicas": 1,
                "failure": "",
                "trouble": "",
            },
            {
                "name": "hello-00002",
                "number": 2,
                "image": "example/hello:2",
                "createdAt": "2023-11-14T22:13:20Z",
                "percent": 0,
                "tags": [],
                "latest": False,
                "replicas": 1,
                "failure": "",
                "trouble": "",
            },
        ],
        "traffic": [{"revision": "hello-00001", "percent": 100}],
        "rollout": None,
        "replicas": [
            {
                "id": "hello-00001-1",
                "revision": "hello-00001",
                "state": "Running",
                "reason": "",
                "restarts": 0,
                "lastEnd": "",
                "startedAt": "2023-11-14T22:13:20Z",
                "readyAt": None,
                "pid": 10001,
            },
            {
                "id": "hello-00002-2",
                "revision": "hello-00002",
                "state": "Pending",
                "reason": "",
                "restarts": 0,
                "lastEnd": "",
                "startedAt": "2023-11-14T22:13:20Z",
                "readyAt": None,
                "pid": 10002,
            },
        ],
        "notes": ["memory limits: enforced by cgroup v2"],
        "starts": [
            {
                "replica": "hello-00001-x",
                "revision": "hello-00001",
                "kind": "zygote",
                "at": "1970-01-01T00:00:01.500Z",
                "placedMs": 0.0,
                "preparedMs": 0.0,
                "madeMs": 2.25,
                "readyMs": 4.0,
                "totalMs": 6.25,
                "failed": "",
            }
        ],
    }
    listed = (await client("GET", "/api/v1/functions")).json()
    assert [(f["name"], f["generation"]) for f in listed] == [("hello", 2)]


async def test_an_unknown_function_is_404_also_when_waiting(client: Client) -> None:
    assert (await client("GET", PATH)).status == 404
    assert (await client("GET", PATH + "?wait=30s")).status == 404


async def test_waiting_for_what_is_ready_answers_at_once(client: Client, orchestrator: FakeOrchestrator) -> None:
    await orchestrator.apply(spec())
    async with asyncio.timeout(20):
        assert (await client("GET", PATH + "?wait=30s&generation=1")).json()["condition"]["phase"] == "Ready"


async def test_waiting_ends_when_the_revision_is_ready(client: Client, orchestrator: FakeOrchestrator) -> None:
    orchestrator.starts_as = ReplicaState.PENDING
    await orchestrator.apply(spec())
    task = await waiting(client, orchestrator, "wait=30s&generation=1")
    orchestrator.set_state("hello-00001-1", ReplicaState.RUNNING)
    assert (await answer_of(task, orchestrator))["condition"]["phase"] == "Ready"


async def test_waiting_ends_when_a_replica_fails_and_says_why(client: Client, orchestrator: FakeOrchestrator) -> None:
    orchestrator.starts_as = ReplicaState.PENDING
    await orchestrator.apply(spec())
    task = await waiting(client, orchestrator, "wait=30s")
    orchestrator.set_state("hello-00001-1", ReplicaState.CRASH_LOOP, "handler.py line 2: no_such_module")
    shown = await answer_of(task, orchestrator)
    assert shown["condition"] == {"phase": "Failed", "message": "handler.py line 2: no_such_module"}
    assert shown["replicas"][0]["restarts"] == 1


async def test_waiting_for_a_later_deploy(client: Client, orchestrator: FakeOrchestrator) -> None:
    await orchestrator.apply(spec())
    task = await waiting(client, orchestrator, "wait=30s&generation=2")
    await orchestrator.apply(spec("example/hello:2"))
    assert (await answer_of(task, orchestrator))["generation"] == 2


async def test_waiting_ends_with_its_time(client: Client, orchestrator: FakeOrchestrator) -> None:
    orchestrator.starts_as = ReplicaState.PENDING
    await orchestrator.apply(spec())
    task = await waiting(client, orchestrator, "wait=300ms")
    assert (await answer_of(task, orchestrator))["condition"]["phase"] == "Progressing"


async def test_a_function_removed_while_somebody_waits_is_404(client: Client, orchestrator: FakeOrchestrator) -> None:
    orchestrator.starts_as = ReplicaState.PENDING
    await orchestrator.apply(spec())
    task = await waiting(client, orchestrator, "wait=30s")
    await orchestrator.remove(HELLO)
    assert (await task).status == 404
    assert orchestrator.open_streams == 0


async def test_an_old_revision_that_fails_does_not_end_the_wait(client: Client, orchestrator: FakeOrchestrator) -> None:
    await orchestrator.apply(spec())
    orchestrator.starts_as = ReplicaState.PENDING
    await orchestrator.apply(spec("example/hello:2"))
    task = await waiting(client, orchestrator, "wait=30s&generation=2")
    orchestrator.set_state("hello-00001-1", ReplicaState.CRASH_LOOP, "old")
    orchestrator.set_state("hello-00002-2", ReplicaState.RUNNING)
    assert (await answer_of(task, orchestrator))["condition"]["phase"] == "Ready"


@pytest.mark.parametrize("query", ["wait=soon", "wait=-1s", "generation=x", "generation=-1", "namespace=N!"])
async def test_what_cannot_be_is_400(client: Client, orchestrator: FakeOrchestrator, query: str) -> None:
    await orchestrator.apply(spec())
    assert (await client("GET", f"{PATH}?{query}")).status == 400


async def test_each_revision_that_has_replicas_says_its_own_trouble(client: Client, orchestrator: FakeOrchestrator) -> None:
    await orchestrator.apply(spec())
    orchestrator.starts_as = ReplicaState.PENDING
    await orchestrator.apply(spec("example/hello:2"))
    orchestrator.set_state("hello-00001-1", ReplicaState.CRASH_LOOP, "exit status 3: no such file")
    shown = (await client("GET", PATH)).json()["revisions"]
    assert {r["name"]: r["trouble"] for r in shown} == {"hello-00001": "exit status 3: no such file", "hello-00002": ""}
