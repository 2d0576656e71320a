"""Wires the store of asynchronous calls: `queue.db` in the data folder, or the Redis server that the settings name."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from importlib.util import find_spec
from typing import Final

from cli.errors import CliError
from cli.settings import ServeSettings, redis_settings
from gateway.asynchronous.redis.settings import InvalidRedisSetting
from gateway.asynchronous.sqlite_store import SqliteStore
from gateway.asynchronous.store import Store, StoreUnavailable

SPOOL: Final = "queue-spool"


class CannotKeep(CliError):
    """The store cannot be opened; the message is one sentence that says why."""


@contextlib.asynccontextmanager
async def call_store(settings: ServeSettings) -> AsyncIterator[Store]:
    """Have the store open while entered. A Redis server that is away is no error: calls are refused until it is back.

    Raises CannotKeep.
    """
    store = await _opened(settings)
    try:
        yield store
    finally:
        await store.close()


async def _opened(settings: ServeSettings) -> Store:
    try:
        if not settings.queue:
            return await asyncio.to_thread(SqliteStore, settings.folder)
        if find_spec("redis") is None:
            raise CannotKeep(f"--queue {redis_settings(settings).shown} needs the package redis: pip install 'pinnace[redis]'")
        from gateway.asynchronous.redis.store import RedisStore

        return RedisStore(redis_settings(settings), settings.folder / SPOOL)
    except (StoreUnavailable, InvalidRedisSetting) as error:
        raise CannotKeep(str(error)) from None
