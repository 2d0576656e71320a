"""Users of functions: given once, and again only after a start."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest

from orchestration import rollout
from orchestration.local import store as store_module
from orchestration.local.store import Record, Store
from orchestration.names import DEFAULT_NAMESPACE
from orchestration.orchestrator import Namespace, Refused
from tests.orchestration.local.world import spec


@pytest.fixture
def store(place: Path) -> Iterator[Store]:
    made = Store(place / "state.db")
    made.load()
    yield made
    made.close()


async def put(store: Store, name: str, namespace: str = DEFAULT_NAMESPACE) -> Record:
    function = rollout.deploy(None, spec(name, namespace=namespace), "sha256:x", 0.0)
    return await store.put(Record(function, {}, {}, 0, 0))


async def test_the_users_of_a_removed_namespace_are_not_given_to_the_next(store: Store) -> None:
    numbers = []
    for name in ("a", "b", "c"):
        await store.put_namespace(Namespace(name))
        record = await put(store, "f", name)
        numbers.append(record.namespace_number)
        await store.remove(record.function.id)
        await store.remove_namespace(name)
    assert numbers == [1, 2, 3]


async def test_numbers_that_are_used_up_are_free_again_after_a_start(store: Store) -> None:
    await store.put_namespace(Namespace("kept"), 3)
    await store.put_namespace(Namespace("removed"), 3)
    await store.remove_namespace("removed")
    with pytest.raises(Refused, match="users for 3 namespaces here, and all were given: start the platform again"):
        await store.put_namespace(Namespace("next"), 3)
    await store.put_namespace(Namespace("kept", labels={"a": "b"}), 3)
    await store.reclaim(3)
    await store.put_namespace(Namespace("next"), 3)
    assert (await put(store, "f", "next")).namespace_number == 2
    with pytest.raises(Refused, match="remove one first"):
        await store.put_namespace(Namespace("more"), 3)


async def test_users_of_functions_are_counted_on_until_they_are_used_up(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store_module, "USERS_PER_NAMESPACE", 3)
    assert (await put(store, "kept")).user == 0
    for user in (1, 2):
        record = await put(store, "f")
        assert record.user == user
        await store.remove(record.function.id)
    with pytest.raises(Refused, match="has users for 3 functions, and all were given: start the platform again"):
        await put(store, "f")
    assert (await put(store, "kept")).user == 0
    await store.reclaim(100)
    assert [(await put(store, name)).user for name in ("f", "g")] == [1, 2]
    with pytest.raises(Refused, match="remove one first"):
        await put(store, "h")


async def test_a_folder_without_the_counter_goes_on_after_its_highest_number(place: Path, store: Store) -> None:
    for name in ("a", "b"):
        await store.put_namespace(Namespace(name))
    await store.remove_namespace("a")
    store.close()
    connection = sqlite3.connect(place / "state.db")
    connection.execute("DELETE FROM facts WHERE name = 'next_namespace'")
    connection.commit()
    connection.close()
    again = Store(place / "state.db")
    again.load()
    await again.put_namespace(Namespace("c"))
    assert (await put(again, "f", "c")).namespace_number == 3
    again.close()
