"""A real API server, one for the whole run; each test has a namespace of its own."""

from __future__ import annotations

import asyncio
import itertools
import os
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import kmock
import pytest

from orchestration.kubernetes.client import Cluster
from tests.orchestration.kubernetes.api_server import ApiServer, find_binaries
from tests.orchestration.kubernetes.emulator import Emulator, write_kubeconfig
from tests.orchestration.kubernetes.world import World, install

_numbers = itertools.count(1)


NO_SERVER = "NO REAL API SERVER: etcd and kube-apiserver are neither in $KUBEBUILDER_ASSETS nor in /usr/local/kubebuilder/bin"


def has_server() -> bool:
    """Whether tests have a real server. PINNACE_TEST_API_SERVER=kmock says that they shall do without."""
    return find_binaries() is not None and os.environ.get("PINNACE_TEST_API_SERVER") != "kmock"


@pytest.fixture(scope="session")
def api_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ApiServer]:
    """The server; a test that needs it is skipped, and says so, where its binaries are not."""
    binaries = find_binaries()
    if binaries is None or not has_server():
        pytest.skip(NO_SERVER)
    folder: Path = tmp_path_factory.mktemp("api-server")
    with ApiServer.start(binaries, folder) as server:
        asyncio.run(_install(server.kubeconfig))
        yield server


async def _install(kubeconfig: Path) -> None:
    async with Cluster.open(kubeconfig) as cluster:
        await install(cluster)


@pytest.fixture
def server(request: pytest.FixtureRequest) -> ApiServer | None:
    """The real server, or None for kmock's emulator, which a test that is marked `real_api_server` is not run on."""
    if has_server():
        found: ApiServer = request.getfixturevalue("api_server")
        return found
    if request.node.get_closest_marker("real_api_server"):
        pytest.skip(NO_SERVER)
    return None


@pytest.fixture
async def cluster(server: ApiServer | None, tmp_path: Path) -> AsyncIterator[Cluster]:
    if server is not None:
        async with Cluster.open(server.kubeconfig) as cluster:
            yield cluster
        return
    async with (
        Emulator() as emulator,
        kmock.Server(emulator) as served,
        Cluster.open(write_kubeconfig(tmp_path / "kubeconfig", str(served.url))) as cluster,
    ):
        yield cluster


@pytest.fixture
async def world(cluster: Cluster) -> AsyncIterator[World]:
    """A namespace that holds functions, and hands to do what kubelets and Kubernetes's own controllers would."""
    world = World(cluster, f"test-{next(_numbers)}")
    await world.create_namespace()
    yield world
    await world.clear()
