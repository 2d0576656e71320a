"""`faas serve --orchestration kubernetes` and a real API server; the test is the kubelet, the function an HTTP server."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from orchestration.kubernetes.api import DEPLOYMENTS, FUNCTIONS, LEASES
from orchestration.kubernetes.client import Cluster
from tests.end_to_end.platform import Answer, Platform
from tests.orchestration.kubernetes.api_server import ApiServer
from tests.orchestration.kubernetes.world import World, eventually


@pytest.fixture
async def served(api_server: ApiServer, tmp_path: Path) -> AsyncIterator[Platform]:
    flags = ("--orchestration", "kubernetes", "--kubeconfig", str(api_server.kubeconfig))
    platform = Platform(tmp_path, *flags)
    await asyncio.to_thread(platform.start)
    yield platform
    await asyncio.to_thread(platform.stop)


class Pod:
    """What answers at a pod's address: with its own name, from the moment at which it is let."""

    def __init__(self, address: str) -> None:
        self.address = address
        self.lets = asyncio.Event()
        self.paths: list[str] = []

    async def handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                path = head.split(b" ", 2)[1].decode()
                self.paths.append(path)
                ready = self.lets.is_set()
                body = self.address.encode()
                status = b"200 OK" if ready else b"503 Service Unavailable"
                writer.write(b"HTTP/1.1 %s\r\nContent-Length: %d\r\n\r\n%s" % (status, len(body), body))
                await writer.drain()
        writer.close()


@contextlib.asynccontextmanager
async def pod(number: int, kind: type[Pod] = Pod) -> AsyncIterator[Pod]:
    """A server at a loopback address of its own, on the port of all pods."""
    made = kind(f"127.{os.getpid() % 200 + 20}.{number % 250}.{number // 250 + 1}")
    listening = await asyncio.start_server(made.handle, made.address, 8080)
    async with listening:
        yield made


async def ask(platform: Platform, method: str, path: str, body: object = None) -> Answer:
    data = None if body is None else json.dumps(body)
    return await asyncio.to_thread(platform.request, method, path, data)


async def test_a_function_is_deployed_called_and_scaled_on_a_cluster(served: Platform, cluster: Cluster, world: World) -> None:
    spec = {
        "service": "hello",
        "namespace": world.namespace,
        "image": "registry.test/hello:1",
        "labels": {"com.openfaas.scale.zero": "true"},
    }
    answer = await ask(served, "POST", "/system/functions", spec)
    assert answer.status == 202, answer.text
    calling = asyncio.create_task(ask(served, "GET", f"/function/hello.{world.namespace}/path"))
    await eventually(lambda: world.get(DEPLOYMENTS, "hello-00001"))
    name = await world.make_pod("hello-00001")
    async with pod(1) as function:
        await world.run_pod(name, address=function.address, ready=False)
        await eventually(lambda: "/_/ready" in function.paths)
        assert not calling.done(), "it waits for a pod that loads its handler"
        function.lets.set()
        answer = await calling
        assert (answer.status, answer.text) == (200, function.address)
        assert "/path" in function.paths

        status = (await ask(served, "GET", f"/system/function/hello?namespace={world.namespace}")).json()
        assert (status["replicas"], status["availableReplicas"]) == (1, 1)
        assert (await ask(served, "GET", "/system/info")).json()["provider"]["orchestration"] == "kubernetes"

        await ask(
            served, "POST", f"/system/scale-function/hello?namespace={world.namespace}", {"serviceName": "hello", "replicas": 0}
        )
        held = await cluster.get(DEPLOYMENTS, world.namespace, "hello-00001")
        assert held["spec"]["replicas"] == 0
        await world.remove_pod(name)

    calling = asyncio.create_task(ask(served, "GET", f"/function/hello.{world.namespace}"))

    async def woken() -> bool:
        return bool((await cluster.get(DEPLOYMENTS, world.namespace, "hello-00001"))["spec"]["replicas"] == 1)

    await eventually(woken)
    name = await world.make_pod("hello-00001")
    async with pod(2) as function:
        function.lets.set()
        await world.run_pod(name, address=function.address, ready=False)
        answer = await calling
        assert (answer.status, answer.text) == (200, function.address)
    answer = await ask(served, "DELETE", f"/system/functions?namespace={world.namespace}", {"functionName": "hello"})
    assert answer.status == 202
    assert await world.get(FUNCTIONS, "hello") is None
    assert (await ask(served, "GET", f"/function/hello.{world.namespace}")).status == 404


async def test_what_kubectl_applies_is_served_too(served: Platform, world: World) -> None:
    await world.kubectl_apply("applied")
    await eventually(lambda: world.get(DEPLOYMENTS, "applied-00001"))
    name = await world.make_pod("applied-00001")
    async with pod(3) as function:
        function.lets.set()
        await world.run_pod(name, address=function.address)
        answer = await ask(served, "GET", f"/function/applied.{world.namespace}")
        assert (answer.status, answer.text) == (200, function.address)
    listed = (await ask(served, "GET", f"/system/functions?namespace={world.namespace}")).json()
    assert [(f["name"], f["image"]) for f in listed] == [("applied", "registry.test/app:1")]


async def test_who_stops_gives_up_the_lease(api_server: ApiServer, cluster: Cluster, tmp_path: Path) -> None:
    flags = ("--orchestration", "kubernetes", "--kubeconfig", str(api_server.kubeconfig))
    platform = Platform(tmp_path, *flags)
    await asyncio.to_thread(platform.start)

    async def holder() -> str:
        return str((await cluster.get(LEASES, "default", "pinnace-controller"))["spec"].get("holderIdentity", ""))

    assert await eventually(holder)
    assert await asyncio.to_thread(platform.stop) == 0
    assert await holder() == ""


async def test_without_a_cluster_it_says_where_it_looked(tmp_path: Path) -> None:
    platform = Platform(tmp_path, "--orchestration", "kubernetes", "--kubeconfig", str(tmp_path / "none"))
    with pytest.raises(AssertionError, match="no cluster by"):
        await asyncio.to_thread(platform.start)
    assert platform.process is not None and platform.process.wait(5) != 0
    platform._close()


async def test_a_start_that_waits_for_the_cluster_can_be_stopped(api_server: ApiServer, tmp_path: Path) -> None:
    reached = asyncio.Event()

    async def hold(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        reached.set()
        await reader.read()
        writer.close()

    silent = await asyncio.start_server(hold, "127.0.0.1", 0)
    async with silent:
        port = silent.sockets[0].getsockname()[1]
        kubeconfig = tmp_path / "kubeconfig"
        kubeconfig.write_text(api_server.kubeconfig.read_text().replace(f":{api_server.port}", f":{port}"))
        platform = Platform(tmp_path, "--orchestration", "kubernetes", "--kubeconfig", str(kubeconfig))
        starting = asyncio.create_task(asyncio.to_thread(platform.start))
        await asyncio.wait_for(reached.wait(), 30)
        assert platform.process is not None
        platform.process.terminate()
        assert await asyncio.to_thread(platform.process.wait, 10) == 0
        with pytest.raises(AssertionError, match="stopped before it served"):
            await starting
        platform._close()
