"""Operations gathered and sent together: while one batch is on its way the next one gathers (as `writer` does for SQLite).

A thousand submissions at once cost a few round trips, a few syncs of the server's log, and one message each way.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import Final, NamedTuple

from gateway.asynchronous.redis.wire import answers
from gateway.asynchronous.store import StoreUnavailable

TOGETHER_AT_MOST: Final = 128
"""Operations in a batch: some milliseconds of the server's time, in which it answers nobody else."""
TOGETHER_BYTES: Final = 4 << 20
WAITING_AT_MOST: Final = 20_000
WAITING_BYTES: Final = 64 << 20

Send = Callable[[Sequence[bytes]], Awaitable[bytes]]


class _Waiting(NamedTuple):
    operation: bytes
    future: asyncio.Future[list[bytes]]


class Lane:
    """`send` carries out a batch and returns the script's reply; `parallel()` is how many batches may be under way now."""

    def __init__(self, send: Send, parallel: Callable[[], int] = lambda: 1) -> None:
        self._send = send
        self._parallel = parallel
        self._waiting: deque[_Waiting] = deque()
        self._bytes = 0
        self._sending: set[asyncio.Task[None]] = set()
        self._called = False
        self._closed = False

    async def run(self, operation: bytes) -> list[bytes]:
        """Return what the operation answered: a word, and what it says besides. Raises StoreUnavailable."""
        if self._closed:
            raise StoreUnavailable("the store is closed")
        if len(self._waiting) >= WAITING_AT_MOST or self._bytes >= WAITING_BYTES:
            raise StoreUnavailable(f"{len(self._waiting)} changes wait already; the Redis server is too slow")
        future: asyncio.Future[list[bytes]] = asyncio.get_running_loop().create_future()
        self._waiting.append(_Waiting(operation, future))
        self._bytes += len(operation)
        if not self._called:
            self._called = True
            asyncio.get_running_loop().call_soon(self._start)  # what comes in the same turn of the loop goes along
        return await future  # a caller that leaves does not take back what is being written

    async def close(self) -> None:
        """Finish what waits."""
        self._closed = True
        while self._waiting or self._sending:
            self._start()
            if self._sending:
                await asyncio.wait(self._sending)

    def _start(self) -> None:
        self._called = False
        while self._waiting and len(self._sending) < self._parallel():
            batch = [self._waiting.popleft()]
            size = len(batch[0].operation)
            while self._waiting and len(batch) < TOGETHER_AT_MOST and size + len(self._waiting[0].operation) <= TOGETHER_BYTES:
                one = self._waiting.popleft()
                size += len(one.operation)
                batch.append(one)
            self._bytes -= size
            task = asyncio.create_task(self._carry_out(batch))
            self._sending.add(task)
            task.add_done_callback(self._sent)

    def _sent(self, task: asyncio.Task[None]) -> None:
        self._sending.discard(task)
        self._start()

    async def _carry_out(self, batch: list[_Waiting]) -> None:
        try:
            found = answers(await self._send([one.operation for one in batch]))
        except StoreUnavailable as error:
            for one in batch:
                _fail(one.future, str(error))
            return
        except BaseException:
            for one in batch:
                _fail(one.future, "the work was broken off")
            raise
        for one, fields in zip(batch, found, strict=True):
            if fields[0] == b"error":
                _fail(one.future, f"Redis: {fields[1].decode(errors='replace')}")
            elif not one.future.done():
                one.future.set_result(fields)


def _fail(future: asyncio.Future[list[bytes]], why: str) -> None:
    if not future.done():
        future.set_exception(StoreUnavailable(why))
        future.exception()  # a caller that left is not an error of the loop's
