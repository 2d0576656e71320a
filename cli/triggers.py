"""Wires what calls functions by itself: timers and CloudEvents, which submit asynchronous calls."""

from __future__ import annotations

import contextlib
import time
from collections.abc import AsyncIterator, Sequence

from cli.asynchronous import Asynchronous
from cli.errors import CliError
from cli.settings import ServeSettings, redis_settings
from gateway.asynchronous.calls import Receipt, Submission
from gateway.asynchronous.store import Bounds
from gateway.cloudevents.router import Router
from gateway.metrics.triggers import Triggers as Counted
from gateway.timers.book import Book, BookUnavailable, SqliteBook
from gateway.timers.timers import Expect, Timers
from orchestration.events import Event


class CannotKeepTime(CliError):
    """What was done of timers cannot be read; the message is one sentence that says why."""


class Triggers:
    """The parts. `apply` is to be told of events, after the scaler, and `lead` of who leads."""

    def __init__(self, router: Router, timers: Timers) -> None:
        self.router = router
        self.timers = timers
        self.counted = Counted(timers.counts, router.counts)

    def apply(self, event: Event) -> None:
        """Follow a change that an orchestrator's `watch` yielded."""
        self.router.apply(event)
        self.timers.apply(event)


@contextlib.asynccontextmanager
async def opened(settings: ServeSettings, calls: Asynchronous, expect: Expect, *, leads: bool) -> AsyncIterator[Triggers]:
    """Let timers run while entered. `expect` is told of their next runs. Raises CannotKeepTime."""

    def bounds(queue: str) -> Bounds:
        return calls.functions.bounds(queue, calls.settings.bounds)

    async def submit(submissions: Sequence[Submission]) -> list[Receipt]:
        return await calls.store.submit(submissions, time.time(), bounds)

    async def is_open(call_id: str) -> bool:
        call = await calls.store.get(call_id)
        return call is not None and not call.state.ended

    async with contextlib.AsyncExitStack() as stack:
        try:
            book = await _book(settings, stack)
            timers = await stack.enter_async_context(Timers(submit, is_open, book, expect=expect, leads=leads))
        except BookUnavailable as error:
            raise CannotKeepTime(str(error)) from None
        yield Triggers(Router(submit), timers)


async def _book(settings: ServeSettings, stack: contextlib.AsyncExitStack) -> Book:
    """Return the book, where the calls are kept."""
    if not settings.queue:
        return await stack.enter_async_context(SqliteBook(settings.folder))
    from gateway.timers.redis_book import RedisBook

    book = RedisBook(redis_settings(settings))
    stack.push_async_callback(book.close)
    return book
