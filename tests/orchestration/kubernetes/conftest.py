"""A real API server, one for the whole run; each test has a namespace of its own."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from orchestration.kubernetes.client import Cluster
from tests.orchestration.kubernetes.api_server import ApiServer, find_binaries
from tests.orchestration.kubernetes.world import World, install

_numbers = itertools.count(1)


@pytest.fixture(scope="session")
def api_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ApiServer]:
    """The server; a test that needs it is skipped, and says so, where its binaries are not."""
    binaries = find_binaries()
    if binaries is None:
        pytest.skip(
            "NO REAL API SERVER: etcd and kube-apiserver are neither in $KUBEBUILDER_ASSETS nor in /usr/local/kubebuilder/bin"
        )
    folder: Path = tmp_path_factory.mktemp("api-server")
    with ApiServer.start(binaries, folder) as server:
        asyncio.run(_install(server))
        yield server


async def _install(server: ApiServer) -> None:
    async with Cluster.open(server.kubeconfig) as cluster:
        await install(cluster)


@pytest.fixture
async def cluster(api_server: ApiServer) -> AsyncIterator[Cluster]:
    async with Cluster.open(api_server.kubeconfig) as cluster:
        yield cluster


@pytest.fixture
async def world(cluster: Cluster) -> AsyncIterator[World]:
    """A namespace that holds functions, and hands to do what kubelets and Kubernetes's own controllers would."""
    world = World(cluster, f"test-{next(_numbers)}")
    await world.create_namespace()
    yield world
    await world.clear()
