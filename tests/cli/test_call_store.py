"""The store that the settings name is opened, and one that cannot be says why."""

from __future__ import annotations

from pathlib import Path

import pytest

from cli import call_store as module
from cli.call_store import CannotKeep, call_store
from cli.settings import load
from gateway.asynchronous.redis.store import RedisStore
from gateway.asynchronous.sqlite_store import SqliteStore
from gateway.asynchronous.store import StoreUnavailable


async def test_a_file_of_the_data_folder_keeps_calls_unless_a_server_is_named(tmp_path: Path) -> None:
    async with call_store(load({"data_dir": str(tmp_path)}, {})) as store:
        assert isinstance(store, SqliteStore)
    assert (tmp_path / "queue.db").exists()


async def test_a_server_that_is_away_is_no_reason_not_to_start(tmp_path: Path) -> None:
    async with call_store(load({"data_dir": str(tmp_path), "queue": f"unix://{tmp_path}/none"}, {})) as store:
        assert isinstance(store, RedisStore)
        with pytest.raises(StoreUnavailable, match="is not reached"):
            await store.next_due()


async def test_without_the_client_it_is_said_how_to_get_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "find_spec", lambda name: None)
    with pytest.raises(CannotKeep, match=r"redis://db:6379 needs the package redis: pip install 'pinnace\[redis\]'"):
        async with call_store(load({"data_dir": str(tmp_path), "queue": "redis://u:p@db:6379"}, {})):
            pass


async def test_a_folder_that_cannot_be_used_is_named(tmp_path: Path) -> None:
    with pytest.raises(CannotKeep, match="nowhere"):
        async with call_store(load({"data_dir": str(tmp_path / "nowhere")}, {})):
            pass
