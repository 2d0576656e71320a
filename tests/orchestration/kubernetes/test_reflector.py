"""A copy that stays right whatever happens to the watch: against a real server that restarts and forgets."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from orchestration.kubernetes import reflector as reflector_module
from orchestration.kubernetes.api import FUNCTIONS, SECRETS, Expired, Throttled, Unreachable, error_of
from orchestration.kubernetes.client import Cluster, NoCluster, Pace
from orchestration.kubernetes.reflector import Reflector
from orchestration.kubernetes.resource import Manifest
from tests.orchestration.kubernetes.api_server import ApiServer
from tests.orchestration.kubernetes.world import World, eventually


class Seen:
    """What a reflector of this namespace's functions told."""

    def __init__(self) -> None:
        self.told: list[str] = []

    def changed(self, before: Manifest | None, now: Manifest | None) -> None:
        name = (now or before or {})["metadata"]["name"]
        self.told.append(f"{'+' if before is None else '-' if now is None else '~'}{name}")


@contextlib.asynccontextmanager
async def watching(cluster: Cluster, seen: Seen) -> AsyncIterator[Reflector]:
    async with Reflector(cluster, FUNCTIONS, seen.changed) as reflector:
        await asyncio.wait_for(reflector.synced.wait(), 10)
        yield reflector


async def test_each_change_is_told_once(world: World) -> None:
    seen = Seen()
    await world.kubectl_apply("a")
    async with watching(world.cluster, seen):
        made = await world.kubectl_apply("b")
        await eventually(lambda: "+b" in seen.told)
        await world.kubectl_apply("b", env={"A": "1"})
        await eventually(lambda: "~b" in seen.told)
        await world.cluster.delete(FUNCTIONS, world.namespace, "b", uid=made["metadata"]["uid"])
        await eventually(lambda: "-b" in seen.told)
    assert seen.told == ["+a", "+b", "~b", "-b"]


async def test_what_a_write_answered_is_known_at_once_and_not_told_twice(world: World) -> None:
    seen = Seen()
    async with watching(world.cluster, seen) as reflector:
        reflector.feed(await world.kubectl_apply("a"))
        assert seen.told == ["+a"]
        await world.kubectl_apply("b")
        await eventually(lambda: "+b" in seen.told)
    assert seen.told == ["+a", "+b"]


async def test_a_late_answer_does_not_bring_back_what_is_gone(world: World) -> None:
    seen = Seen()
    async with watching(world.cluster, seen) as reflector:
        made = await world.kubectl_apply("a")
        await eventually(lambda: "+a" in seen.told)
        await world.cluster.delete(FUNCTIONS, world.namespace, "a")
        await eventually(lambda: "-a" in seen.told)
        reflector.feed(made)
        assert reflector.get(world.namespace, "a") is None


async def test_history_that_is_gone_is_listed_anew(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = Seen()
    real = world.cluster.watch
    expired = 0

    async def forgetful(kind: object, version: str, **more: str) -> AsyncIterator[tuple[str, Manifest]]:
        nonlocal expired
        if expired < 2:
            expired += 1
            async for item in real(FUNCTIONS, "1", **more):  # compacted long ago, or not: both are tried
                yield item
                raise Expired(410, "Expired", "too old resource version")
        else:
            async for item in real(FUNCTIONS, version, **more):
                yield item

    monkeypatch.setattr(world.cluster, "watch", forgetful)
    await world.kubectl_apply("a")
    async with watching(world.cluster, seen):
        await eventually(lambda: expired == 2)
        await world.kubectl_apply("b")
        await eventually(lambda: "+b" in seen.told)
    assert seen.told.count("+a") == 1


@pytest.mark.real_api_server
async def test_what_the_server_has_forgotten_expires_and_is_listed_anew(api_server: ApiServer, world: World) -> None:
    """By the server's own word: after its start it knows no changes from before."""
    await world.kubectl_apply("a")
    await asyncio.to_thread(api_server.stop)
    await asyncio.to_thread(api_server.start_api_server)

    async def has_expired() -> bool:
        try:
            async for _ in world.cluster.watch(FUNCTIONS, "1"):
                return False
        except Throttled:  # its store is not ready yet
            return False
        except Expired as error:
            return "too old resource version" in error.message
        return False

    await eventually(has_expired)
    seen = Seen()
    reflector = Reflector(world.cluster, FUNCTIONS, seen.changed)
    reflector._version = "1"  # it has heard nothing for as long as the server remembers
    async with reflector:
        await asyncio.wait_for(reflector.synced.wait(), 10)
    assert "+a" in seen.told


async def test_it_outlives_a_restart_of_the_api_server(
    api_server: ApiServer, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reflector_module, "LONGEST_PAUSE_S", 0.2)
    seen = Seen()
    async with watching(world.cluster, seen) as reflector:
        await world.kubectl_apply("a")
        await eventually(lambda: "+a" in seen.told)
        await asyncio.to_thread(api_server.stop)
        await eventually(lambda: reflector.problem)
        await asyncio.to_thread(api_server.start_api_server)
        await world.kubectl_apply("b")
        await eventually(lambda: "+b" in seen.told)
        assert reflector.problem == ""
    assert seen.told == ["+a", "+b"]


@pytest.mark.real_api_server
async def test_many_objects_come_in_pages(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("orchestration.kubernetes.client.PAGE", 3)
    for number in range(7):
        secret = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": f"s{number}", "namespace": world.namespace}}
        await world.cluster.create(SECRETS, secret, manager="test")
    found, _ = await world.cluster.listed(SECRETS, world.namespace)
    assert len(found) == 7
    assert world.cluster.sent["GET", "Secret"] == 3


def test_requests_are_paced() -> None:
    pace = Pace(rate=10, burst=3)
    assert [pace.delay_s(100.0) for _ in range(5)] == pytest.approx([0, 0, 0, 0.1, 0.2])
    assert pace.delay_s(200.0) == 0


def test_a_throttled_request_says_when_to_come_back() -> None:
    error = error_of(429, b'{"message": "too many", "reason": "TooManyRequests", "details": {"retryAfterSeconds": 2}}')
    assert isinstance(error, Throttled) and error.retry_after_s == 2
    assert isinstance(error_of(503, b"<html>"), Unreachable)


async def test_no_cluster_is_an_error_that_says_where_was_looked(tmp_path: Path) -> None:
    with pytest.raises(NoCluster, match="missing"):
        async with Cluster.open(tmp_path / "missing"):
            pass
