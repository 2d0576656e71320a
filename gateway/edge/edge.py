"""The edge as a whole: what the process that runs it holds in its hands."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from types import MappingProxyType, TracebackType
from typing import Final, Self

from gateway.edge.backend import Connections
from gateway.edge.context import EdgeContext
from gateway.edge.dispatcher import Dispatcher
from gateway.edge.figures import EdgeFigures, FunctionLoad
from gateway.edge.inside import Accept
from gateway.edge.messages import Claim, Grant, Recall, Return, Want
from gateway.edge.routes import RevisionKey, Routes
from gateway.edge.server import Server
from gateway.edge.settings import EdgeSettings
from gateway.edge.share import Share
from gateway.edge.tally import Tally
from gateway.edge.timeouts import Sweep
from gateway.edge.tracing import Tracing
from gateway.edge.upstream import UpstreamConnections
from orchestration.events import Event
from orchestration.load import LoadSample
from orchestration.names import FunctionId
from orchestration.replica import Endpoint, Replica, ReplicaState
from telemetry.span_sink import SpanSink

CONTROL: Final = "control-api"
"""What messages call the control API; no function can have its namespace, which is empty."""
ACCEPTOR: Final = "acceptor"
"""What messages call the acceptor of asynchronous calls."""


class Edge:
    """Serves `/function/…` from replicas, `/async-function/…` from the acceptor and all else from the control API at `control`.

    `on_load(sample)`, `on_released(replica id)` and `on_slots` are called on the loop and must not block. `clock` gives
    monotonic seconds. With `on_slots` the edge is one of several: it owns only the slots that it is granted, and tells
    there what it wants and returns. Connections to an endpoint that is `inside`, in this process, need no socket. An async
    context manager; `apply` may be called before it is entered.
    """

    def __init__(
        self,
        settings: EdgeSettings,
        *,
        control: Endpoint,
        on_load: Callable[[LoadSample], None],
        on_released: Callable[[str], None],
        on_slots: Callable[[Want | Return], None] | None = None,
        acceptor: Endpoint | None = None,
        inside: Mapping[Endpoint, Accept] = MappingProxyType({}),
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.settings = settings
        self._on_slots = on_slots
        self._on_load = on_load
        self._on_released = on_released
        self._clock = clock
        self._inside = inside
        self._context = EdgeContext(settings, clock)
        self._routes = self._context.routes = Routes(self._dispatcher, clock)
        self._context.control = self._control_dispatcher(CONTROL, control)
        if acceptor is not None:
            self._context.acceptor = self._control_dispatcher(ACCEPTOR, acceptor)
        self._context.soon = self.soon
        self._spans = SpanSink(settings.spans) if settings.spans else None
        if self._spans is not None:
            self._context.tracing = Tracing(self._spans, settings.trace_ratio)
        self._server = Server(self._context)
        self._sweep = Sweep(self._context)

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        await self.stop()

    async def start(self) -> None:
        """Listen and serve. Raises OSError when the address is taken or not ours."""
        await self._server.start()
        self._sweep.start()

    async def drain(self, timeout_s: float) -> bool:
        """Accept no more, wait for calls in progress, close. Returns whether all ended within `timeout_s`."""
        return await self._server.drain(timeout_s)

    async def stop(self) -> None:
        """Close everything, breaking calls that are still going on."""
        self._sweep.stop()
        await self._server.stop()
        self._routes.close()
        self._context.control.close()
        if self._context.acceptor is not None:
            self._context.acceptor.close()
        if self._spans is not None:
            await self._spans.close()
        await asyncio.sleep(0)  # transports tell their protocols of the end in the next turn

    def apply(self, event: Event) -> None:
        """Follow a change that an orchestrator's `watch` yielded."""
        self._routes.apply(event)

    def share(self, message: Grant | Recall) -> None:
        """Follow what is said about slots that several edges share."""
        share = self._routes.expect((message.namespace, message.revision)).share
        assert share is not None, "the edge is one of several"
        if isinstance(message, Grant):
            share.grant(message)
        else:
            share.recall(message)

    def claim(self) -> list[Claim]:
        """Say what the edge owns, to a ledger that is to know: see `Share.claim`."""
        return [claim for share in self._shares() for claim in share.claim()]

    def linked(self) -> None:
        """The ledger that was told of the claims can be asked for more."""
        self._context.trouble = ""
        for share in self._shares():
            share.look()

    def unlinked(self, why: str) -> None:
        """There is no ledger to speak to: what is owned stays. `why` is for calls that wait in vain."""
        self._context.trouble = why
        for share in self._shares():
            share.unlinked()

    def give_up(self) -> None:
        """Own no slots any more."""
        for share in self._shares():
            share.give_up()

    def _shares(self) -> list[Share]:
        return [d.share for d in self._routes.dispatchers.values() if d.share is not None]

    @property
    def port(self) -> int:
        """The port that is listened on."""
        return self._server.port

    @property
    def names(self) -> tuple[str, ...]:
        """What the edge is called: here there is one."""
        return (self.settings.name,)

    def inner(self) -> asyncio.Protocol:
        """Return the edge's end of a new connection of the platform's own workers, where they are in this process.
        Raises ConnectionRefusedError while the edge accepts nobody."""
        return self._server.accept_inner()

    def counts(self) -> Mapping[FunctionId, int]:
        """Return how many calls of each function have ended since the edge started."""
        return self._routes.counts()

    def tallies(self) -> Mapping[FunctionId, Tally]:
        """Return each function's counters: calls by status code and by duration. They go on counting."""
        return self._routes.tallies

    def revisions(self) -> Mapping[RevisionKey, Tally]:
        """Return the counters of revisions, of functions where calls can come to several of them. They go on counting."""
        return self._routes.counted

    def in_flight(self) -> Mapping[FunctionId, int]:
        """Return how many calls of each function are at a replica now."""
        return self._sum(lambda dispatcher: dispatcher.in_flight)

    def waiting(self) -> Mapping[FunctionId, int]:
        """Return how many calls of each function wait for a replica now."""
        return self._sum(lambda dispatcher: len(dispatcher.waiting))

    def _sum(self, figure: Callable[[Dispatcher], int]) -> Mapping[FunctionId, int]:
        sums = dict.fromkeys(self._routes.tallies, 0)
        for dispatcher in self._routes.dispatchers.values():
            function = FunctionId(dispatcher.namespace, dispatcher.name)
            sums[function] = sums.get(function, 0) + figure(dispatcher)
        return sums

    def loads(self) -> Mapping[FunctionId, FunctionLoad]:
        """Return the calls that each function has now; functions without any are left out."""
        loads: dict[FunctionId, FunctionLoad] = {}
        for dispatcher in self._routes.stirring:
            if dispatcher.in_flight or dispatcher.waiting:
                function = FunctionId(dispatcher.namespace, dispatcher.name)
                load = loads.get(function, FunctionLoad())
                waiting = len(dispatcher.waiting)
                loads[function] = load.plus(dispatcher.in_flight, waiting, dispatcher.oldest_wait_s(self._clock()))
        for part in (CONTROL, ACCEPTOR):
            loads.pop(FunctionId("", part), None)
        return loads

    def figures(self) -> Mapping[str, EdgeFigures]:
        """Return what each edge tells of itself, by its name: here there is one."""
        return {self.settings.name: self.own_figures()}

    def own_figures(self) -> EdgeFigures:
        """Return what this edge tells of itself."""
        context = self._context
        spans = self._spans
        return EdgeFigures(
            connections=len(context.connections),
            accepted=context.accepted,
            turned_away=context.turned_away,
            refused=context.unrouted_tally.codes,
            traces=spans.taken if spans is not None else 0,
            traces_dropped=spans.dropped if spans is not None else 0,
        )

    # what dispatchers observe

    def on_load(self, sample: LoadSample) -> None:
        """A revision's load may change a decision."""
        if sample.namespace:
            self._on_load(sample)

    def on_released(self, replica_id: str) -> None:
        """A draining replica has no call in flight any more."""
        self._on_released(replica_id)

    def stirred(self, dispatcher: Dispatcher) -> None:
        """A dispatcher wants to be ticked."""
        self._routes.stirring.add(dispatcher)

    def soon(self, function: Callable[[], object]) -> object:
        """Run `function` in the next turn of the loop."""
        return asyncio.get_running_loop().call_soon(function)

    def now(self) -> float:
        """Monotonic seconds."""
        return self._clock()

    def connections(self, endpoint: Endpoint) -> Connections:
        """Return a new pool for a replica."""
        return UpstreamConnections(endpoint, self._context, self._inside.get(endpoint))

    def _dispatcher(self, namespace: str, function: str, revision: str, timeout_s: float, concurrency: int) -> Dispatcher:
        return Dispatcher(
            namespace,
            function,
            revision,
            self,
            edge=self.settings.name,
            concurrency=concurrency,
            timeout_s=timeout_s,
            queue_calls=self.settings.queue_calls,
            queue_bytes=self.settings.queue_bytes,
            tell_slots=self._on_slots,
        )

    def _control_dispatcher(self, name: str, endpoint: Endpoint) -> Dispatcher:
        dispatcher = Dispatcher("", name, name, self, timeout_s=self.settings.control_timeout_s, streams=True)
        dispatcher.replica_changed(
            Replica(id=name, namespace="", function=name, revision=name, state=ReplicaState.RUNNING, endpoint=endpoint)
        )
        return dispatcher
