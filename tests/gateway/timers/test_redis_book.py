from __future__ import annotations

from collections.abc import Iterator

import pytest

from gateway.timers.book import BookUnavailable, Mark, TimerId
from gateway.timers.redis_book import RedisBook
from orchestration.names import FunctionId
from orchestration.timers import Timer
from tests.gateway.asynchronous.redis_server import RedisServer, needs_redis

HELLO = TimerId(FunctionId("openfaas-fn", "hello"), Timer("* * * * *"))
OTHER = TimerId(FunctionId("openfaas-fn", "hello"), Timer('odd "|" \x1f ü', "Europe/Berlin"))
THIRD = TimerId(FunctionId("shop", "hello"), Timer("* * * * *"))


@pytest.fixture(scope="module")
def server() -> Iterator[RedisServer]:
    needs_redis()
    with RedisServer() as server:
        yield server


async def test_what_one_controller_writes_another_reads(server: RedisServer) -> None:
    one, other = RedisBook(server.settings), RedisBook(server.settings)
    assert await one.read() == {}
    await one.write({HELLO: Mark(1.5), OTHER: Mark(2.5, 2.0, "id"), THIRD: Mark(3.5)})
    await other.write({HELLO: Mark(4.5, 4.0, "id-2")}, gone=[THIRD])
    assert await one.read() == {HELLO: Mark(4.5, 4.0, "id-2"), OTHER: Mark(2.5, 2.0, "id")}
    await one.write({}, gone=[HELLO, OTHER])
    await one.write({})
    assert await other.read() == {}
    await one.close()
    await other.close()


async def test_a_server_that_is_away_is_said_and_back_again() -> None:
    needs_redis()
    with RedisServer() as server:
        book = RedisBook(server.settings)
        await book.write({HELLO: Mark(1.5)})
        server.kill()
        with pytest.raises(BookUnavailable, match="Redis server"):
            await book.read()
        with pytest.raises(BookUnavailable, match="Redis server"):
            await book.write({HELLO: Mark(2.5)})
        server.start()
        assert await book.read() == {HELLO: Mark(1.5)}
        await book.close()


async def test_the_store_of_calls_alone_tells_of_the_server_that_both_use(caplog: pytest.LogCaptureFixture) -> None:
    needs_redis()
    with RedisServer(fsync="") as server, caplog.at_level("INFO", "pinnace.async"):
        book = RedisBook(server.settings)
        await book.write({HELLO: Mark(1.5)})
        server.kill()
        with pytest.raises(BookUnavailable, match="Redis server"):
            await book.read()
        server.start()
        await book.read()
        await book.close()
    assert caplog.records == []
