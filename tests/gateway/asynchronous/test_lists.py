"""Lists tell what runs from what waits, whatever was taken with it."""

from __future__ import annotations

from pathlib import Path

from gateway.asynchronous.calls import Outcome, State, Submission, queue_of
from gateway.asynchronous.sqlite_store import SqliteStore
from orchestration.names import FunctionId

ECHO, SLOW = FunctionId("openfaas-fn", "echo"), FunctionId("openfaas-fn", "slow")
NOW = 1_000_000.0


async def test_running_calls_are_listed_without_those_that_were_taken_with_them_and_settled(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path)
    await store.submit([Submission(queue=queue_of(f), function=f) for f in (ECHO, SLOW, ECHO, ECHO)], NOW)
    calls = {call.id: call for call in await store.take(lambda _: 10, 10, NOW, 30)}
    runs, waits, ends = (call for call in calls.values() if call.queue == queue_of(ECHO))
    (slow,) = (call for call in calls.values() if call.queue == queue_of(SLOW))
    await store.retry(waits.lease, NOW + 5, Outcome(status=503), NOW)
    await store.finish(ends.lease, State.SUCCEEDED, Outcome(status=200), NOW)

    async def listed(queue: str | None, *states: State) -> list[str]:
        return sorted(call.id for call in await store.page(queue, states))

    assert await listed(None, State.RUNNING) == sorted([runs.id, slow.id])
    assert await listed(queue_of(ECHO), State.RUNNING) == [runs.id]
    assert await listed(queue_of(ECHO), State.WAITING) == [waits.id]
    assert await listed(queue_of(ECHO), State.WAITING, State.RUNNING) == sorted([runs.id, waits.id])
    assert await listed(queue_of(ECHO)) == sorted([runs.id, waits.id, ends.id])
    running = await store.page(queue_of(ECHO), [State.RUNNING])
    assert [(call.state, call.attempts, call.takes) for call in running] == [(State.RUNNING, 1, 1)]
    await store.close()
