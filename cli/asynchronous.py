"""Wires asynchronous calls: the store, the acceptor that edges pass submissions to, the workers that call through edges.

The store and the acceptor are there before the edges, the workers after them: `opened`, then `carried_out`.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final

from cli.call_store import call_store
from cli.outgoing import Outgoing
from cli.settings import ServeSettings
from gateway.asynchronous.acceptor import Acceptor
from gateway.asynchronous.backlog import Backlog
from gateway.asynchronous.caller import Caller
from gateway.asynchronous.calls import Call, queue_of
from gateway.asynchronous.carrier import Carrier, Execution, FunctionCarrier
from gateway.asynchronous.functions import Functions
from gateway.asynchronous.pace import Pace, retry_after_s
from gateway.asynchronous.retry import Again, Verdict
from gateway.asynchronous.settings import AsyncSettings
from gateway.asynchronous.store import Store
from gateway.asynchronous.tracing import CallTracing
from gateway.asynchronous.workers import Workers
from gateway.callbacks import callbacks
from gateway.callbacks.callback import KIND
from gateway.callbacks.callbacks import Callbacks
from gateway.edge.inside import Accept
from gateway.edge.settings import inner_socket
from gateway.metrics.queues import Queues
from gateway.metrics.triggers import Callbacks as CallbackCounts
from orchestration.events import Event, FunctionRemoved
from orchestration.load import LoadSample
from orchestration.names import FunctionId
from orchestration.replica import Endpoint

SOCKET: Final = "async.sock"


class Asynchronous:
    """The parts. `acceptor` is where it listens; `apply` is to be told of events, `pause` of the platform's end."""

    def __init__(
        self, settings: AsyncSettings, store: Store, run_dir: Path, outgoing: Outgoing, on_load: Callable[[LoadSample], None]
    ) -> None:
        self.settings = settings
        self.store = store
        self.functions = Functions({KIND: callbacks.QUEUE})
        self.callbacks = Callbacks(
            outgoing.guard, outgoing.sender, outgoing.keys, self.functions, store.chunks, outgoing.retry_for_s
        )
        self.backlog = Backlog(store, on_load)
        self._queues = Queues(lambda: self.backlog.depths, self.functions.has)
        self._told = CallbackCounts(self.callbacks.counts)
        self._pace = Pace(time.monotonic())
        self.acceptor = Endpoint(unix=str(run_dir / SOCKET))
        self.workers: Workers | None = None
        self.accepting: Acceptor | None = None
        self._run_dir = run_dir

    @property
    def inside(self) -> Mapping[Endpoint, Accept]:
        """What edges of this process need no socket for."""
        return {self.acceptor: self._accept}

    def _accept(self) -> asyncio.Protocol:
        if self.accepting is None:
            raise ConnectionRefusedError("nothing is accepted yet")
        return self.accepting.accept()

    def apply(self, event: Event) -> None:
        """Follow a change that an orchestrator's `watch` yielded."""
        self.functions.apply(event)
        if isinstance(event, FunctionRemoved):
            self._pace.forget(queue_of(FunctionId(event.namespace, event.name)))
        self.backlog.apply(event)

    def counted(self, openmetrics: bool) -> Iterator[str]:
        """Write what is counted of queues, attempts and callbacks."""
        yield from self._queues(openmetrics)
        yield from self._told(openmetrics)

    def cancelled(self, call_id: str) -> None:
        """Break off a call that was cancelled, if it runs here."""
        if self.workers is not None:
            self.workers.cancelled(call_id)

    def pause(self) -> None:
        """Take no more calls, and let nobody wait for the end of one."""
        if self.accepting is not None:
            self.accepting.dismiss()
        if self.workers is not None:
            self.workers.pause()

    def room_in_s(self, queue: str) -> int:
        """Return in how many seconds a queue that is full has room."""
        depth = self.backlog.depths.get(queue)
        waiting = depth.waiting if depth is not None else self.functions.bounds(queue, self.settings.bounds).calls
        due_for_s = time.time() - depth.oldest_due if depth is not None else 0.0
        return retry_after_s(waiting, self._pace.per_s(queue, time.monotonic(), due_for_s))

    def _attempted(self, call: Call, verdict: Verdict) -> None:
        if not (call.url or isinstance(verdict, Again)):
            self._pace.ended(call.queue, time.monotonic())
        self.callbacks.attempted(call, verdict)
        self._queues.attempted(call, verdict)

    @contextlib.asynccontextmanager
    async def carried_out(
        self,
        edges: Sequence[str | Accept],
        part_ended: Callable[[asyncio.Task[None]], None],
        tracing: CallTracing | None = None,
        *,
        looks: bool = True,
    ) -> AsyncIterator[None]:
        """Carry out calls through these edges, each known by its name or by the `inner` side of one in this process, while
        entered, and tell what waits, unless another process `looks` at that. `part_ended` is told when a task ended that must
        go on."""
        ways = [inner_socket(str(self._run_dir), edge) if isinstance(edge, str) else edge for edge in edges]
        caller = Caller(ways, self.store.spool, self.settings.result_bytes)
        carriers: dict[str, Carrier] = {"": FunctionCarrier(self.store, caller, self.functions), KIND: self.callbacks}
        execution = Execution(
            self.store,
            self.functions,
            carriers,
            follow=self.callbacks.follow,
            attempted=self._attempted,
            tracing=tracing,
            lease_s=self.settings.lease_s,
        )
        try:
            async with contextlib.AsyncExitStack() as stack:
                if looks:
                    await stack.enter_async_context(self.backlog)
                    self.backlog.task.add_done_callback(part_ended)
                workers = Workers(self.store, self.functions, execution, self.settings)
                self.workers = await stack.enter_async_context(workers)
                for task in workers.tasks:
                    task.add_done_callback(part_ended)
                yield
        finally:
            self.workers = None
            caller.close()


@contextlib.asynccontextmanager
async def opened(
    settings: ServeSettings, run_dir: Path, outgoing: Outgoing, on_load: Callable[[LoadSample], None]
) -> AsyncIterator[Asynchronous]:
    """Open the store and accept calls while entered. `on_load` is told what waits for functions that scale by that.
    Raises call_store.CannotKeep."""
    wanted = AsyncSettings(
        body_bytes=settings.async_body_limit_bytes,
        result_bytes=settings.async_result_limit_bytes,
        waiting_calls=settings.async_waiting_calls,
        waiting_bytes=settings.async_waiting_bytes,
        concurrency=settings.async_concurrency,
        keep_s=settings.async_keep_s,
        keep_dead_s=settings.async_keep_dead_s,
        keep_bytes=settings.async_quota_bytes,
    )
    async with call_store(settings) as store:
        parts = Asynchronous(wanted, store, run_dir, outgoing, on_load)
        async with Acceptor(
            run_dir / SOCKET,
            store,
            parts.functions,
            wanted,
            cancelled=parts.cancelled,
            follow=parts.callbacks.cancelled,
            check=parts.callbacks.check,
            room_in_s=parts.room_in_s,
        ) as parts.accepting:
            yield parts
