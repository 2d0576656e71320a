"""After a leap of the clock what was due is found, a bounded piece at a time, and nothing else is touched."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from gateway.asynchronous import setback
from gateway.asynchronous.calls import Submission, queue_of
from gateway.asynchronous.setback import LEAP_S, Setback
from gateway.asynchronous.sqlite_store import SqliteStore
from gateway.asynchronous.store import Keep
from orchestration.names import FunctionId

NOW = 1_000_000.0
BACK = NOW - 3600


def wanted(name: str, due: float = 0.0) -> Submission:
    function = FunctionId("openfaas-fn", name)
    return Submission(queue=queue_of(function), function=function, due=due)


async def test_it_is_looked_for_piece_by_piece_in_every_queue(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(setback, "AT_ONCE", 10)
    store = await asyncio.to_thread(SqliteStore, tmp_path)
    await store.sweep(NOW, Keep())
    for number in range(30):
        at = NOW + number / 10
        await store.submit([wanted("one"), wanted("one", at + 100), wanted("other"), wanted("later", at + 100)], at)
    await store.take(lambda queue: 5, 10, NOW + 3, 30)
    pieces = 1
    while await store.sweep(BACK, Keep()):
        pieces += 1
        assert await store.next_due() == BACK, "what was found is to be had before all was looked at"
    assert pieces == 12  # 25 + 30, 25 and 30 rows, and none
    taken = await store.take(lambda queue: 1000, 1000, BACK, 30)
    assert [call.queue for call in taken].count("one.openfaas-fn") == 25
    assert [call.queue for call in taken].count("other.openfaas-fn") == 25
    assert len(taken) == 50
    for queue in ("one.openfaas-fn", "other.openfaas-fn"):
        submitted = [call.submitted for call in taken if call.queue == queue]
        assert submitted == sorted(submitted), "they keep their order"
    assert all(call.due == BACK for call in taken)
    assert await store.take(lambda queue: 1000, 1000, NOW + 99, 30) == []
    assert len(await store.take(lambda queue: 1000, 1000, NOW + 103, 30)) == 60
    await store.close()


async def test_a_clock_that_goes_on_or_trembles_costs_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def looked(*_: object) -> None:
        raise AssertionError("it looks")

    monkeypatch.setattr("gateway.asynchronous.sqlite_store.look", looked)
    store = await asyncio.to_thread(SqliteStore, tmp_path)
    for now in (NOW, NOW + 1, NOW + 1 - LEAP_S, NOW + 3600):
        assert not await store.sweep(now, Keep())
    await store.close()


def test_each_leap_begins_anew() -> None:
    follows = Setback()
    for now, begins in ((NOW, False), (NOW - 10, True), (NOW - 9, False), (NOW - 60, True)):
        follows.saw(now)
        assert (follows.place is not None) is begins
        follows.place = None
