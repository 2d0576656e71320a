"""Both stores, the server that one of them needs, and a lab. Everything runs on uvloop, as the platform does."""

from __future__ import annotations

import asyncio
import contextlib
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from pathlib import Path

import pytest
import uvloop

from gateway.asynchronous.redis.store import RedisStore
from gateway.asynchronous.settings import AsyncSettings
from gateway.asynchronous.sqlite_store import SqliteStore
from gateway.asynchronous.store import Store
from gateway.edge.settings import EdgeSettings
from tests.gateway.asynchronous.lab import AsyncLab
from tests.gateway.asynchronous.redis_server import RedisServer, needs_redis

MakeLab = Callable[..., Awaitable[AsyncLab]]
Stores = Callable[[], contextlib.AbstractAsyncContextManager[Store]]


def pytest_asyncio_loop_factories() -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    return {"uvloop": uvloop.new_event_loop}


async def bodies(store: Store) -> int:
    """How many bodies are kept beside the calls."""
    files = len(list(store.spool.iterdir()))
    if isinstance(store, RedisStore):
        assert files == 0  # it is there that bodies are gathered, not kept
        return len(await store._server.command("KEYS", "{pinnace}:b:*"))
    return files


@pytest.fixture(scope="session")
def shared_redis() -> Iterator[RedisServer]:
    """A server for tests that leave it as it is."""
    needs_redis()
    with RedisServer() as server:
        yield server


@pytest.fixture
def redis(shared_redis: RedisServer) -> RedisServer:
    """The shared server, empty."""
    assert shared_redis.command("FLUSHALL") == b"+OK\r\n"
    return shared_redis


@pytest.fixture(params=["sqlite", "redis"])
def stores(request: pytest.FixtureRequest, tmp_path: Path) -> Stores:
    """Opens either store; what was kept by one opened before is there."""
    server: RedisServer | None = request.getfixturevalue("redis") if request.param == "redis" else None

    @contextlib.asynccontextmanager
    async def opened() -> AsyncIterator[Store]:
        store: Store = SqliteStore(tmp_path) if server is None else RedisStore(server.settings, tmp_path / "spool")
        try:
            yield store
        finally:
            await store.close()

    return opened


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder whose path is short enough for Unix sockets."""
    with tempfile.TemporaryDirectory(prefix="async") as name:
        yield Path(name)


@pytest.fixture(params=["sockets", "inside"])
def inside(request: pytest.FixtureRequest) -> bool:
    """Whether edge, acceptor and workers are one process, or speak over sockets."""
    return bool(request.param == "inside")


@pytest.fixture
async def make_lab(folder: Path, inside: bool) -> AsyncIterator[MakeLab]:
    """Make a lab whose asynchronous calls have the given settings."""
    labs: list[AsyncLab] = []

    async def make(edge: EdgeSettings | None = None, **settings: object) -> AsyncLab:
        lab = AsyncLab(folder, AsyncSettings(**settings), edge, inside=inside)  # type: ignore[arg-type]
        await lab.begin()
        labs.append(lab)
        return lab

    yield make
    for lab in labs:
        await lab.end()


@pytest.fixture
async def lab(make_lab: MakeLab) -> AsyncLab:
    """A lab with default settings."""
    return await make_lab()
