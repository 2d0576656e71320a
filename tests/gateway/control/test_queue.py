"""Queues, lists and replays of asynchronous calls, for who has the login."""

from __future__ import annotations

import pytest

from gateway.asynchronous.calls import Outcome, State, Submission, queue_of
from gateway.asynchronous.sqlite_store import SqliteStore
from gateway.callbacks.callback import queue_of_callbacks
from orchestration.names import FunctionId
from tests.gateway.control.client import Client

ECHO = FunctionId("openfaas-fn", "echo")
OTHER = FunctionId("other", "echo")
NOW = 1_000.0


async def submit(store: SqliteStore, function: FunctionId = ECHO) -> str:
    (receipt,) = await store.submit([Submission(queue=queue_of(function), function=function, body=b"secret")], NOW)
    return receipt.id


async def kill(store: SqliteStore) -> None:
    for call in await store.take(lambda queue: 100, 100, NOW, 30.0):
        await store.finish(call.lease, State.DEAD, Outcome(status=500, reason="no"), NOW, body=b"failed")


async def test_queues_tell_how_full_and_how_late_they_are(client: Client, calls: SqliteStore) -> None:
    assert (await client("GET", "/api/v1/async/queues")).json() == []
    await submit(calls)
    await submit(calls, OTHER)
    await kill(calls)
    await submit(calls)
    here, other = (await client("GET", "/api/v1/async/queues")).json()
    assert (here["name"], here["namespace"], here["waiting"], here["running"], here["dead"]) == ("echo", "openfaas-fn", 1, 0, 1)
    assert here["lateS"] > 0
    assert (other["namespace"], other["waiting"], other["dead"], other["lateS"]) == ("other", 0, 1, 0)


async def test_lists_are_filtered_and_come_in_pages(client: Client, calls: SqliteStore) -> None:
    dead = [await submit(calls), await submit(calls, OTHER)]
    await kill(calls)
    waiting = [await submit(calls) for _ in range(3)]

    async def ids(query: str) -> list[str]:
        return [call["id"] for call in (await client("GET", f"/api/v1/async/calls{query}")).json()["calls"]]

    assert await ids("") == [*waiting[::-1], *dead[::-1]]
    assert await ids("?name=echo&state=dead") == dead[:1]
    assert await ids("?name=echo&namespace=other") == await ids("?name=echo.other") == dead[1:]
    page = (await client("GET", "/api/v1/async/calls?limit=2")).json()
    assert [call["id"] for call in page["calls"]] == waiting[:0:-1]
    assert await ids(f"?limit=2&before={page['next']}") == [waiting[0], dead[1]]
    assert "secret" not in (await client("GET", "/api/v1/async/calls")).text


@pytest.mark.parametrize("query", ["?state=lost", "?limit=0", "?limit=1001", "?limit=x", "?namespace=A!"])
async def test_what_makes_no_sense_is_refused(client: Client, query: str) -> None:
    assert (await client("GET", f"/api/v1/async/calls{query}")).status == 400


async def test_a_dead_call_is_replayed_and_no_other(client: Client, calls: SqliteStore) -> None:
    dead = await submit(calls)
    await kill(calls)
    waiting = await submit(calls)
    assert (await client("POST", f"/api/v1/async/calls/{dead}/replay")).json() == {"replayed": 1}
    assert (await client("POST", f"/api/v1/async/calls/{waiting}/replay")).status == 409
    assert (await client("POST", "/api/v1/async/calls/nobody/replay")).status == 404
    call = await calls.get(dead)
    assert call is not None and (call.state, call.attempts) == (State.WAITING, 0)


async def test_callbacks_are_a_queue_of_their_own(client: Client, calls: SqliteStore) -> None:
    await submit(calls)
    (receipt,) = await calls.submit([Submission(queue=queue_of_callbacks(OTHER), function=OTHER)], NOW)
    await kill(calls)
    for query in ("?name=echo.other%23callback", "?name=echo%23callback&namespace=other"):
        listed = (await client("GET", f"/api/v1/async/calls{query}")).json()["calls"]
        assert [call["id"] for call in listed] == [receipt.id]
    assert (await client("POST", "/api/v1/functions/echo.other%23callback/replay")).json() == {"replayed": 1}
    assert (await calls.depths(NOW))[queue_of(ECHO)].dead == 1


async def test_all_dead_calls_of_a_function_are_replayed(client: Client, calls: SqliteStore) -> None:
    for _ in range(3):
        await submit(calls)
    await submit(calls, OTHER)
    await kill(calls)
    assert (await client("POST", "/api/v1/functions/echo/replay")).json() == {"replayed": 3}
    assert (await client("POST", "/api/v1/functions/echo/replay")).json() == {"replayed": 0}
    assert (await client("POST", "/api/v1/functions/nobody/replay")).status == 404
    assert (await calls.depths(NOW))[queue_of(OTHER)].dead == 1
