"""What becomes of a request when the API server puts it off, or is not there."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import yaml

from orchestration.kubernetes.api import DEPLOYMENTS, Throttled, Unreachable
from orchestration.kubernetes.client import Cluster, NoCluster
from orchestration.kubernetes.refusals import refusals
from orchestration.orchestrator import NotNow
from tests.orchestration.kubernetes.api_server import free_ports


def answer(status: str, body: str, *fields: str) -> bytes:
    lines = [f"HTTP/1.1 {status}", f"Content-Length: {len(body)}", "Content-Type: application/json", *fields, "", body]
    return "\r\n".join(lines).encode()


THROTTLED = answer(
    "429 Too Many Requests", '{"kind":"Status","reason":"TooManyRequests","message":"slow\\ndown"}', "Retry-After: 1"
)
FOUND = answer("200 OK", '{"metadata":{"name":"hello"}}')


class Server:
    """Gives `answers` one after the other, the last one for ever."""

    def __init__(self, *answers: bytes) -> None:
        self.answers = list(answers)
        self.asked_at: list[float] = []

    async def handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                await reader.readuntil(b"\r\n\r\n")
                self.asked_at.append(time.monotonic())
                writer.write(self.answers.pop(0) if len(self.answers) > 1 else self.answers[0])
        writer.close()


@contextlib.asynccontextmanager
async def connected(tmp_path: Path, port: int) -> AsyncIterator[Cluster]:
    document = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "c", "cluster": {"server": f"http://127.0.0.1:{port}"}}],
        "users": [{"name": "u", "user": {"token": "t"}}],
        "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}],
        "current-context": "c",
    }
    file = tmp_path / "kubeconfig"
    file.write_text(yaml.safe_dump(document))
    async with Cluster.open(file) as cluster:
        yield cluster


@contextlib.asynccontextmanager
async def served(tmp_path: Path, server: Server) -> AsyncIterator[Cluster]:
    listening = await asyncio.start_server(server.handle, "127.0.0.1", 0)
    async with listening, connected(tmp_path, listening.sockets[0].getsockname()[1]) as cluster:
        yield cluster


async def test_a_kubeconfig_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(NoCluster, match=r"none: there is no such file; --kubeconfig or KUBECONFIG"):
        async with Cluster.open(tmp_path / "none"):
            pass


async def test_a_request_that_is_put_off_is_sent_again_when_the_server_said(tmp_path: Path) -> None:
    server = Server(THROTTLED, FOUND)
    async with served(tmp_path, server) as cluster:
        found = await cluster.create(DEPLOYMENTS, {"metadata": {"namespace": "n", "name": "hello"}}, manager="test")
    assert found["metadata"]["name"] == "hello"
    first, second = server.asked_at
    assert 1.0 <= second - first < 10


async def test_one_that_is_put_off_for_too_long_says_so_in_one_line(tmp_path: Path) -> None:
    server = Server(THROTTLED.replace(b"Retry-After: 1", b"Retry-After: 600"))
    async with served(tmp_path, server) as cluster:
        with pytest.raises(NotNow) as caught, refusals("function 'hello'"):
            await cluster.get(DEPLOYMENTS, "n", "hello")
    assert str(caught.value) == "the Kubernetes API server takes no more requests now: slow down"
    assert (caught.value.retry_after_s, len(server.asked_at)) == (600.0, 1)


async def test_a_server_that_is_away_is_told_of_soon(tmp_path: Path) -> None:
    (port,) = free_ports(1)
    began = time.monotonic()
    async with connected(tmp_path, port) as cluster:
        line = rf"^the Kubernetes API at http://127.0.0.1:{port} does not answer: "
        with pytest.raises(NotNow, match=line), refusals("function 'hello'"):
            await cluster.get(DEPLOYMENTS, "n", "hello")
    assert time.monotonic() - began < 15


async def test_a_watch_that_is_put_off_says_for_how_long(tmp_path: Path) -> None:
    async with served(tmp_path, Server(THROTTLED)) as cluster:
        with pytest.raises(Throttled) as caught:
            await anext(aiter(cluster.watch(DEPLOYMENTS, "1")))
    assert caught.value.retry_after_s == 1.0
    assert not isinstance(caught.value, Unreachable)
