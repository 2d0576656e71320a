"""Operations gathered and sent together: while one batch is on its way the next one gathers (as `writer` does for SQLite).

A thousand submissions at once cost a few round trips, a few syncs of the server's log, and one message each way.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import Final

from gateway.asynchronous.redis.wire import Fields, answers
from gateway.asynchronous.store import StoreUnavailable

TOGETHER_AT_MOST: Final = 128
"""Operations in a batch: some milliseconds of the server's time, in which it answers nobody else."""
TOGETHER_BYTES: Final = 4 << 20
WAITING_AT_MOST: Final = 20_000
WAITING_BYTES: Final = 64 << 20

Send = Callable[[Sequence[bytes]], Awaitable[bytes]]
Waiting = tuple[bytes, asyncio.Future[Fields]]
"""An operation, and who is told what it answered."""


class Lane:
    """`send` carries out a batch and returns the script's reply; `parallel()` is how many batches may be under way now."""

    def __init__(self, send: Send, parallel: Callable[[], int] = lambda: 1) -> None:
        self._loop = asyncio.get_running_loop()
        self._send = send
        self._parallel = parallel
        self._waiting: deque[Waiting] = deque()
        self._bytes = 0
        self._sending: set[asyncio.Task[None]] = set()
        self._called = False
        self._closed = False
        self.asked = 0
        """How many operations there have been."""

    def run(self, operation: bytes) -> asyncio.Future[Fields]:
        """Return what will be what the operation answered: a word, and what it says besides; or StoreUnavailable. A caller that
        leaves does not take back what is being written. Raises StoreUnavailable."""
        if self._closed:
            raise StoreUnavailable("the store is closed")
        if len(self._waiting) >= WAITING_AT_MOST or self._bytes >= WAITING_BYTES:
            raise StoreUnavailable(f"{len(self._waiting)} changes wait already; the Redis server is too slow")
        future: asyncio.Future[Fields] = self._loop.create_future()
        self.asked += 1
        self._waiting.append((operation, future))
        self._bytes += len(operation)
        if not self._called:
            self._called = True
            self._loop.call_soon(self._start)  # what comes in the same turn of the loop goes along
        return future

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
            size = len(batch[0][0])
            while self._waiting and len(batch) < TOGETHER_AT_MOST and size + len(self._waiting[0][0]) <= TOGETHER_BYTES:
                one = self._waiting.popleft()
                size += len(one[0])
                batch.append(one)
            self._bytes -= size
            task = asyncio.create_task(self._carry_out(batch))
            self._sending.add(task)
            task.add_done_callback(self._sent)

    def _sent(self, task: asyncio.Task[None]) -> None:
        self._sending.discard(task)
        self._start()

    async def _carry_out(self, batch: list[Waiting]) -> None:
        try:
            found = answers(await self._send([operation for operation, _ in batch]), len(batch))
        except StoreUnavailable as error:
            for _, future in batch:
                _fail(future, str(error))
            return
        except BaseException:
            for _, future in batch:
                _fail(future, "the work was broken off")
            raise
        for (_, future), fields in zip(batch, found, strict=True):
            if fields[0] == b"error":
                _fail(future, f"Redis: {fields[1].decode(errors='replace')}")
            elif not future.done():
                future.set_result(fields)


def _fail(future: asyncio.Future[Fields], why: str) -> None:
    if not future.done():
        future.set_exception(StoreUnavailable(why))
        future.exception()  # a caller that left is not an error of the loop's
