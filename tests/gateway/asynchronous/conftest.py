"""Both stores, and the server that one of them needs."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest

from gateway.asynchronous.redis.store import RedisStore
from gateway.asynchronous.sqlite_store import SqliteStore
from gateway.asynchronous.store import Store
from tests.gateway.asynchronous.redis_server import RedisServer, needs_redis

Stores = Callable[[], contextlib.AbstractAsyncContextManager[Store]]


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
