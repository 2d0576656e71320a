"""Timers and events where roles run apart: the leader makes the runs, the control API takes events, edges carry them out."""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import json
import secrets
import signal

import pytest

from orchestration.kubernetes.api import LEASES
from orchestration.kubernetes.client import Cluster
from tests.gateway.asynchronous.redis_server import RedisServer, needs_redis
from tests.orchestration.kubernetes.test_apart import LIMIT_S, Apart, Process, apart, deployed
from tests.orchestration.kubernetes.test_end_to_end import Pod, pod
from tests.orchestration.kubernetes.world import World, eventually

__all__ = ["apart"]


class Told(Pod):
    """Knows the heads of its calls."""

    def __init__(self, address: str) -> None:
        super().__init__(address)
        self.heads: list[str] = []

    async def handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
                length = head.partition("content-length: ")[2].partition("\r\n")[0]
                await reader.readexactly(int(length or 0))
                if "/_/" not in head.partition("\r\n")[0]:
                    self.heads.append(head)
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\ndone")
        writer.close()

    def runs(self) -> list[str]:
        return [head.partition("x-schedule-time: ")[2][:20] for head in self.heads if "x-schedule-time" in head]


async def send(to: Process, path: str, event: dict[str, str]) -> tuple[int, str]:
    def ask() -> tuple[int, str]:
        connection = http.client.HTTPConnection("127.0.0.1", to.port, timeout=30)
        with contextlib.closing(connection):
            connection.request("POST", path, json.dumps(event), {"Content-Type": "application/cloudevents+json"})
            answer = connection.getresponse()
            return answer.status, answer.read().decode()

    return await asyncio.to_thread(ask)


@pytest.mark.timeout(120)
async def test_timers_go_on_with_another_leader_and_events_come_by_any_edge(
    apart: Apart,
    cluster: Cluster,
    world: World,
) -> None:
    needs_redis()
    with RedisServer() as server:
        signs = apart.folder / "callback-secret"
        signs.write_text(secrets.token_hex(32))
        queue = ("--queue", server.settings.url, "--callback-secret", str(signs))
        first = await apart.start("controller", 0, *queue)
        control, edge = await asyncio.gather(apart.start("control", apart.control_port, *queue), apart.start("edge", 0, *queue))
        annotations = {"topic": "cron-function", "schedule": "* * * * * *", "com.pinnace.events": "type=com.example.*"}
        await deployed(control, world, "told", annotations=annotations)
        name = await world.make_pod("told-00001")
        async with pod(15, Told) as function:
            assert isinstance(function, Told)
            await world.run_pod(name, address=function.address)
            event = {"specversion": "1.0", "id": "e-1", "source": "/test", "type": "com.example.made"}
            status, text = await send(edge, f"/events?namespace={world.namespace}", event)
            assert (status, len(json.loads(text)["events"][0]["functions"])) == (202, 1), text

            async def has_event() -> bool:
                return any("ce-id: e-1" in head for head in function.heads)

            async def has_runs(more_than: int = 0) -> bool:
                return len(function.runs()) > more_than

            await eventually(has_event, LIMIT_S)
            await eventually(has_runs, LIMIT_S)
            await first.end(signal.SIGKILL)
            run_out = {"spec": {"holderIdentity": ""}}
            await cluster.merge(LEASES, "default", "pinnace-controller", run_out, manager="test")
            before = len(function.runs())
            await apart.start("controller", 0, *queue)
            await eventually(lambda: has_runs(before + 2), LIMIT_S)  # more than the first one can have left to be carried out
            runs = function.runs()
            assert len(set(runs)) == len(runs), "each once"
