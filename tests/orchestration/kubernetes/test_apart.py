"""Roles as processes of their own, linked over TCP, and a real API server; the test is the kubelet and the functions."""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import json
import os
import secrets
import signal
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from gateway.edge.tenure import MARGIN_S, TENURE_S
from orchestration.kubernetes.api import DEPLOYMENTS, LEASES
from orchestration.kubernetes.client import Cluster
from orchestration.kubernetes.lease import DURATION_S, EDGES
from tests.end_to_end.platform import FAAS
from tests.gateway.asynchronous.redis_server import RedisServer, needs_redis
from tests.orchestration.kubernetes import hasty
from tests.orchestration.kubernetes.api_server import ApiServer, free_ports
from tests.orchestration.kubernetes.test_end_to_end import Pod, pod
from tests.orchestration.kubernetes.world import World, eventually

LIMIT_S = 40.0
QUICKER = 4.0


class Process:
    """One role."""

    def __init__(self, process: asyncio.subprocess.Process, ready: str) -> None:
        self.process = process
        self.ready = ready

    @property
    def port(self) -> int:
        return int(self.ready.rsplit(":", 1)[1])

    async def request(self, method: str, path: str, body: object = None, timeout_s: float = 30.0) -> tuple[int, str]:
        def ask() -> tuple[int, str]:
            connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=timeout_s)
            with contextlib.closing(connection):
                connection.request(method, path, None if body is None else json.dumps(body))
                answer = connection.getresponse()
                return answer.status, answer.read().decode()

        return await asyncio.to_thread(ask)

    async def get(self, path: str) -> tuple[int, str]:
        return await self.request("GET", path)

    async def end(self, number: int = signal.SIGTERM) -> int:
        if self.process.returncode is None:
            self.process.send_signal(number)
        return await asyncio.wait_for(self.process.wait(), 30)


class Apart:
    """Starts roles, and ends them."""

    def __init__(self, folder: Path, kubeconfig: Path) -> None:
        self.folder = folder
        self.kubeconfig = kubeconfig
        self.secret = folder / "link-secret"
        self.secret.write_text(secrets.token_hex(32))
        (self.control_port,) = free_ports(1)
        self.processes: list[Process] = []
        self.program: list[str] = [str(FAAS)]
        self.environment = os.environ | {"HOME": str(folder), "PINNACE_METRICS_PORT": "0"}

    async def start(self, role: str, port: int = 0, *more: str) -> Process:
        flags = ["--orchestration", "kubernetes", "--kubeconfig", self.kubeconfig, "--role", role, "--link-port", "0"]
        flags += ["--link-secret-file", self.secret, "--control", f"127.0.0.1:{self.control_port}", "--port", port]
        flags += ["--data-dir", self.folder / f"{role}-{len(self.processes)}", "--no-auth", "--no-save-login", *more]
        with (self.folder / "log").open("ab") as log:
            process = await asyncio.create_subprocess_exec(
                *self.program, "serve", *map(str, flags), stdout=asyncio.subprocess.PIPE, stderr=log, env=self.environment
            )
        assert process.stdout is not None
        line = (await asyncio.wait_for(process.stdout.readline(), 60)).decode()
        assert line.startswith("ready "), line + self.log()
        self.processes.append(Process(process, line.strip()))
        return self.processes[-1]

    async def control(self) -> Process:
        return await self.start("control", self.control_port)

    def log(self) -> str:
        return (self.folder / "log").read_text()

    def has_leader(self) -> bool:
        """Whether the one controller has said that it leads, and not since then that it does not."""
        log = self.log()
        return log.rfind(" leads\n") > log.rfind(" does not lead any more\n")


@pytest.fixture
async def apart(api_server: ApiServer, cluster: Cluster, tmp_path: Path) -> AsyncIterator[Apart]:
    made = Apart(tmp_path, api_server.kubeconfig)
    yield made
    await asyncio.gather(*(process.end() for process in made.processes))  # and give up the lease
    nobody = {"metadata": {"annotations": {EDGES: ""}}}
    await cluster.merge(LEASES, "default", "pinnace-controller", nobody, manager="test")  # else the next test waits for them


async def members(cluster: Cluster) -> list[str]:
    lease = await cluster.get(LEASES, "default", "pinnace-controller")
    return str((lease["metadata"].get("annotations") or {}).get(EDGES, "")).split()


async def deployed(control: Process, world: World, name: str, **settings: object) -> str:
    spec = {"service": name, "namespace": world.namespace, "image": "registry.test/app:1"} | settings
    status, text = await control.request("POST", "/system/functions", spec)
    assert status == 202, text
    await eventually(lambda: world.get(DEPLOYMENTS, f"{name}-00001"), LIMIT_S)
    return f"/function/{name}.{world.namespace}"


class Narrow(Pod):
    """Takes a moment for each call, and knows how many it had at a time."""

    busy = most = 0

    async def handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                if b"/_/" not in head.partition(b"\r\n")[0]:
                    self.busy += 1
                    self.most = max(self.most, self.busy)
                    await asyncio.sleep(0.005)
                    self.busy -= 1
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
        writer.close()


@contextlib.asynccontextmanager
async def one_at_a_time(number: int) -> AsyncIterator[Narrow]:
    async with pod(number, Narrow) as made:
        assert isinstance(made, Narrow)
        yield made


@pytest.mark.timeout(120)
async def test_edges_share_a_limit_and_go_on_without_a_leader(apart: Apart, cluster: Cluster, world: World) -> None:
    first = await apart.start("controller")
    control, one, two = await asyncio.gather(apart.control(), apart.start("edge"), apart.start("edge"))
    edges = (one, two)

    async def are_members() -> bool:
        return len(await members(cluster)) == 2

    await eventually(are_members, LIMIT_S)
    # one pod of which each call takes a moment, and which may have one at a time
    path = await deployed(control, world, "one", envVars={"max_inflight": "1"})
    free = await deployed(control, world, "free")
    name, other = await world.make_pod("one-00001"), await world.make_pod("free-00001")
    async with one_at_a_time(11) as limited, pod(12) as open_:
        open_.lets.set()
        await world.run_pod(name, address=limited.address)
        await world.run_pod(other, address=open_.address)

        async def calls(count: int) -> list[tuple[int, str]]:
            return list(await asyncio.gather(*(edges[n % 2].get(path) for n in range(count))))

        assert set(await calls(40)) == {(200, "ok")}
        assert limited.most == 1, "over both edges"

        # the control API knows what edges counted
        async def counted() -> bool:
            listed = json.loads((await control.get(f"/system/functions?namespace={world.namespace}"))[1])
            return {function["name"]: function["invocationCount"] for function in listed} == {"one": 40, "free": 0}

        await eventually(counted, LIMIT_S)
        status, text = await one.get("/system/info")  # what is no call goes on to the control API
        assert (status, json.loads(text)["provider"]["orchestration"]) == (200, "kubernetes")

        # the leader dies: warm calls go on at once, with limits as they are owned
        await first.end(signal.SIGKILL)
        assert {(await edge.get(free))[0] for edge in edges} == {200}
        calling = [asyncio.create_task(edge.get(path)) for edge in edges]
        done, _ = await asyncio.wait(calling, timeout=30, return_when=asyncio.FIRST_COMPLETED)
        assert [task.result() for task in done] == [(200, "ok")], "who owns the slot uses it"

        # another one takes the lease when it has run out, and edges link up with it: the slot goes round again
        run_out = {"spec": {"holderIdentity": ""}}
        await cluster.merge(LEASES, "default", "pinnace-controller", run_out, manager="test")
        await apart.start("controller")
        assert await asyncio.gather(*calling) == [(200, "ok"), (200, "ok")]
        assert set(await calls(20)) == {(200, "ok")}
        assert limited.most == 1
        # an edge that ends gives its share back
        await one.end()
        edges = (two, two)
        assert set(await calls(10)) == {(200, "ok")}
    assert limited.most == 1


@pytest.mark.timeout(120)
async def test_a_call_that_comes_to_an_edge_wakes_its_function(apart: Apart, cluster: Cluster, world: World) -> None:
    leader = await apart.start("controller")
    control, edge = await asyncio.gather(apart.control(), apart.start("edge"))
    path = await deployed(control, world, "sleeper", labels={"com.openfaas.scale.zero": "true"})

    async def replicas() -> int:
        return int((await cluster.get(DEPLOYMENTS, world.namespace, "sleeper-00001"))["spec"]["replicas"])

    async def scaled(count: int) -> bool:
        return await replicas() == count

    async def stopped() -> bool:
        where = f"/system/scale-function/sleeper?namespace={world.namespace}"
        status, text = await control.request("POST", where, {"serviceName": "sleeper", "replicas": 0})
        assert status in (202, 503), text  # 503: its own watch has not told it of the Deployment yet
        return status == 202

    await eventually(stopped, LIMIT_S)
    await eventually(lambda: scaled(0), LIMIT_S)
    calling = asyncio.create_task(edge.get(path))
    await eventually(lambda: scaled(1), LIMIT_S)
    name = await world.make_pod("sleeper-00001")
    async with pod(13) as function:
        function.lets.set()
        await world.run_pod(name, address=function.address, ready=False)
        assert await calling == (200, function.address)
    await leader.end()
    assert leader.process.returncode == 0


@pytest.mark.timeout(120)
async def test_an_asynchronous_call_that_one_edge_takes_is_carried_out_and_its_result_is_had_from_any(
    apart: Apart, world: World
) -> None:
    needs_redis()
    with RedisServer() as server:
        signs = apart.folder / "callback-secret"
        signs.write_text(secrets.token_hex(32))
        queue = ("--queue", server.settings.url, "--callback-secret", str(signs))
        await apart.start("controller", 0, *queue)
        control, one, two = await asyncio.gather(
            apart.start("control", apart.control_port, *queue), apart.start("edge", 0, *queue), apart.start("edge", 0, *queue)
        )
        path = await deployed(control, world, "later")
        name = await world.make_pod("later-00001")
        async with pod(14) as function:
            function.lets.set()
            await world.run_pod(name, address=function.address)

            def submit() -> str:
                connection = http.client.HTTPConnection("127.0.0.1", one.port, timeout=30)
                with contextlib.closing(connection):
                    connection.request("POST", path.replace("/function/", "/async-function/"), b"")
                    answer = connection.getresponse()
                    assert answer.status == 202, answer.read()
                    return answer.headers["X-Call-Id"]

            call_id = await asyncio.to_thread(submit)
            assert await two.get(f"/async-function/{call_id}/result?wait=20s") == (200, function.address)


@pytest.mark.slow
@pytest.mark.timeout(180)
async def test_while_the_api_server_is_away_a_limit_is_shared_as_before(
    apart: Apart, api_server: ApiServer, world: World
) -> None:
    apart.program = [sys.executable, "-m", hasty.__name__, f"{QUICKER}"]
    await apart.start("controller")
    control, *edges = await asyncio.gather(apart.control(), apart.start("edge"), apart.start("edge"))
    path = await deployed(control, world, "one", envVars={"max_inflight": "1"})
    name = await world.make_pod("one-00001")
    async with one_at_a_time(15) as limited:
        await world.run_pod(name, address=limited.address)

        async def calls(count: int) -> set[tuple[int, str]]:
            return set(await asyncio.gather(*(edges[n % 2].get(path) for n in range(count))))

        assert await calls(10) == {(200, "ok")}
        await asyncio.to_thread(api_server.stop)
        try:
            await eventually(lambda: not apart.has_leader(), LIMIT_S)
            over = time.monotonic() + (DURATION_S + TENURE_S + MARGIN_S) / QUICKER
            while time.monotonic() < over:
                assert await calls(10) == {(200, "ok")}
                await asyncio.sleep(0.2)
        finally:
            await asyncio.to_thread(api_server.start_api_server)
        await eventually(apart.has_leader, LIMIT_S)
        assert await calls(10) == {(200, "ok")}
        assert limited.most == 1
