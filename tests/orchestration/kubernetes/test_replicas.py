"""Replicas follow pods, and are ready by our own probes before the kubelet says so."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

import pytest

from orchestration.kubernetes.probing import Target, is_good, probe_every_s
from orchestration.kubernetes.replicas import Replicas
from orchestration.kubernetes.resource import Manifest
from orchestration.names import FunctionId
from orchestration.replica import Replica
from tests.orchestration.kubernetes.test_pod_state import READY, RUNNING, UNREADY, container, pod
from tests.orchestration.kubernetes.world import eventually

HELLO = FunctionId("team", "hello")


class Server:
    """Answers each request with `line`, or closes the connection without one."""

    def __init__(self) -> None:
        self.line: bytes | None = b"HTTP/1.1 503 Service Unavailable\r\n\r\n"
        self.asked: list[bytes] = []
        self.port = 0

    async def handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            self.asked.append(await reader.readuntil(b"\r\n\r\n"))
            if self.line is not None:
                writer.write(self.line)
                await writer.drain()
        writer.close()


@pytest.fixture
async def server() -> AsyncIterator[Server]:
    server = Server()
    listening = await asyncio.start_server(server.handle, "127.0.0.1", 0)
    server.port = listening.sockets[0].getsockname()[1]
    yield server
    listening.close()
    await listening.wait_closed()


class Told:
    def __init__(self, target: Target | None = None) -> None:
        self.replicas = Replicas(self.changed, lambda pod: target, clock=lambda: 5.0)
        self.states: list[str] = []
        self.last: Replica | None = None
        self._before: Manifest | None = None

    def changed(self, replica: Replica) -> None:
        self.states.append(str(replica.state))
        self.last = replica

    def pod(self, status: dict[str, Any] | None, *, deleted: bool = False) -> None:
        now = None if status is None else pod(status, deleted=deleted)
        self.replicas.pod_changed(self._before, now)
        self._before = now


def running(*, ready: bool, container_id: str = "c1") -> dict[str, Any]:
    statuses = container(RUNNING, containerID=container_id)
    conditions = READY if ready else UNREADY
    return {"phase": "Running", "podIP": "127.0.0.1", "conditions": conditions, "containerStatuses": statuses}


async def test_a_pod_lives_and_goes() -> None:
    told = Told()
    told.pod({"phase": "Pending"})
    told.pod(running(ready=True))
    assert told.last is not None and told.last.ready_at == 5.0
    assert told.replicas.ready(HELLO, "hello-00001") == 1
    told.pod(running(ready=True), deleted=True)
    assert told.replicas.ready(HELLO, "hello-00001") == 0
    told.pod(None)
    assert told.states == ["Pending", "Running", "Draining", "Stopped"]
    assert told.replicas.of(HELLO) == ()


async def test_what_says_the_same_is_not_told_again() -> None:
    told = Told()
    told.pod(running(ready=True))
    told.pod(running(ready=True))
    assert told.states == ["Running"]


async def test_our_probe_comes_before_the_kubelets(server: Server) -> None:
    told = Told(Target("127.0.0.1", server.port, "/_/ready"))
    told.pod(running(ready=False))
    await eventually(lambda: len(server.asked) >= 2)
    assert told.states == ["Pending"], "503: it loads its handler"
    server.line = b"HTTP/1.1 200 OK\r\n\r\n"
    await eventually(lambda: told.states == ["Pending", "Running"])
    assert server.asked[0].startswith(b"GET /_/ready HTTP/1.1\r\n")
    await told.replicas.close()


async def test_once_the_kubelet_has_called_it_ready_its_word_counts(server: Server) -> None:
    server.line = b"HTTP/1.1 200 OK\r\n\r\n"
    told = Told(Target("127.0.0.1", server.port, "/_/ready"))
    told.pod(running(ready=False))
    await eventually(lambda: told.states == ["Pending", "Running"])
    told.pod(running(ready=False))
    assert told.states == ["Pending", "Running"], "the kubelet is only late"
    told.pod(running(ready=True))
    told.pod(running(ready=False))
    assert told.states == ["Pending", "Running", "Pending"]
    await told.replicas.close()


async def test_a_new_container_is_asked_anew(server: Server) -> None:
    server.line = b"HTTP/1.1 200 OK\r\n\r\n"
    told = Told(Target("127.0.0.1", server.port, "/_/ready"))
    told.pod(running(ready=False))
    await eventually(lambda: told.states[-1] == "Running")
    told.pod(
        {
            "phase": "Running",
            "podIP": "127.0.0.1",
            "containerStatuses": container({"waiting": {"reason": "CrashLoopBackOff"}}),
        }
    )
    assert told.states[-1] == "CrashLoopBackOff"
    asked = len(server.asked)
    told.pod(running(ready=False, container_id="c2"))
    assert told.states[-1] == "Pending"
    await eventually(lambda: told.states[-1] == "Running")
    assert len(server.asked) > asked
    await told.replicas.close()


async def test_a_pod_that_goes_is_not_asked_any_more(server: Server) -> None:
    told = Told(Target("127.0.0.1", server.port, "/_/ready"))
    told.pod(running(ready=False))
    await eventually(lambda: server.asked)
    told.pod(None)
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert not [task for task in asyncio.all_tasks() if "Replicas._ask" in repr(task)]


@pytest.mark.parametrize(
    ("line", "good"),
    [
        (b"HTTP/1.1 200 OK\r\n\r\n", True),
        (b"HTTP/1.0 302 Found\r\n\r\n", True),
        (b"HTTP/1.1 404 Not Found\r\n\r\n", False),
        (b"HTTP/1.1 503 Later\r\n\r\n", False),
        (b"SSH-2.0-OpenSSH\r\n\r\n", False),
        (None, False),
    ],
)
async def test_what_answer_is_good(server: Server, line: bytes | None, good: bool) -> None:
    server.line = line
    assert await is_good(Target("127.0.0.1", server.port, "/")) is good


def test_many_pods_are_asked_less_often_each() -> None:
    assert [probe_every_s(n, 0.0) for n in (1, 10, 25, 200)] == [0.025, 0.025, 0.0625, 0.5]
    assert probe_every_s(1, 10.0) == 0.5, "what takes long is asked seldom"


async def test_where_nobody_listens_is_not_ready(server: Server) -> None:
    assert await is_good(Target("127.0.0.1", server.port, None)), "a connection is enough"
    assert not await is_good(Target("127.0.0.1", 1, None))
