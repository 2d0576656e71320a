"""Our routes for functions: everything that is known of one, and waiting until a deploy is ready or has failed."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable

from starlette.requests import Request
from starlette.responses import Response

from gateway.control.auth import Auth
from gateway.control.description import FunctionDetails, function_details
from gateway.control.functions import Invocations, json, named
from gateway.control.operation import Content, Operation
from gateway.control.query import GENERATION, NAME, NAMESPACE, WAIT, duration_s, integer
from gateway.control.streams import closing
from gateway.control.wire import namespace_of
from orchestration.events import Event, FunctionChanged, FunctionRemoved, ReplicaChanged
from orchestration.names import FunctionId
from orchestration.orchestrator import FunctionStatus, Orchestrator
from orchestration.replica import ReplicaState
from orchestration.rollout import Phase

LONGEST_WAIT_S = 60.0
LOOK_EVERY_S = 1.0
"""A condition can also change because time passed (a deploy's deadline), which no event tells."""


class Details:
    def __init__(self, orchestrator: Orchestrator, auth: Auth, invocations: Invocations) -> None:
        self._orchestrator = orchestrator
        self._auth = auth
        self._invocations = invocations

    async def list(self, request: Request) -> Response:
        namespace = namespace_of(request.query_params.get("namespace"))
        self._auth.authorize(request, "read", namespace)
        return json([function_details(s, self._invocations) for s in self._orchestrator.statuses(namespace)])

    async def get(self, request: Request) -> Response:
        function = named(request)
        self._auth.authorize(request, "read", function.namespace)
        wait_s, generation = duration_s(request, "wait"), integer(request, "generation", least=0) or 0
        if wait_s:
            await wait_settled(self._orchestrator, function, generation, min(wait_s, LONGEST_WAIT_S))
        return json(function_details(self._orchestrator.status(function), self._invocations))

    def operations(self) -> tuple[Operation, ...]:
        return (
            Operation(
                id="listFunctionDetails",
                method="GET",
                path="/api/v1/functions",
                endpoint=self.list,
                summary="List the functions of a namespace with all that is known of them",
                parameters=(NAMESPACE,),
                success={200: Content("By name.", list[FunctionDetails])},
                refusals=(400, 404),
            ),
            Operation(
                id="getFunctionDetails",
                method="GET",
                path="/api/v1/functions/{name}",
                endpoint=self.get,
                summary="Show all that is known of a function, at once or when a deploy has come to an end",
                parameters=(NAME, NAMESPACE, WAIT, GENERATION),
                success={200: Content("The function.", FunctionDetails)},
                refusals=(400, 404),
            ),
        )


def is_settled(status: FunctionStatus, generation: int) -> bool:
    """Whether deploy `generation` is in and its revision is ready, has failed, or has a replica that failed."""
    if status.function.generation < generation:
        return False
    if status.condition.phase is not Phase.PROGRESSING or status.function.gradual is not None:
        return True  # a gradual rollout takes as long as was asked for
    newest = status.function.newest.name
    return any(r.revision == newest and r.state is ReplicaState.CRASH_LOOP for r in status.instances)


async def wait_settled(orchestrator: Orchestrator, function: FunctionId, generation: int, limit_s: float) -> None:
    """Return when deploy `generation` is settled, or after `limit_s`. Raises NotFound, also when it is removed meanwhile."""

    def settled() -> bool:
        return is_settled(orchestrator.status(function), generation)

    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(limit_s):
            while not settled():
                async with closing(orchestrator.watch()) as events:
                    await _until(settled, events, function)


async def _until(settled: Callable[[], bool], events: AsyncIterator[Event], function: FunctionId) -> None:
    """Return when `settled` says so, asked after each event about `function` and each LOOK_EVERY_S, or when `events` end."""
    coming = _next(events)
    look_at = time.monotonic() + LOOK_EVERY_S
    try:
        while True:
            arrived, _ = await asyncio.wait((coming,), timeout=max(0.0, look_at - time.monotonic()))
            if arrived:
                event = coming.result()
                if event is None:  # fallen behind, or the orchestrator stops: do not ask again at once
                    await asyncio.sleep(LOOK_EVERY_S)
                    return
                coming = _next(events)
                if not _is_about(event, function):
                    continue
            if settled():
                return
            look_at = time.monotonic() + LOOK_EVERY_S
    finally:
        coming.cancel()
        await asyncio.gather(coming, return_exceptions=True)


def _next(events: AsyncIterator[Event]) -> asyncio.Future[Event | None]:
    return asyncio.ensure_future(_or_none(events))


async def _or_none(events: AsyncIterator[Event]) -> Event | None:
    return await anext(events, None)


def _is_about(event: Event, function: FunctionId) -> bool:
    match event:
        case FunctionChanged(changed):
            return changed.id == function
        case FunctionRemoved(namespace, name):
            return (namespace, name) == function
        case ReplicaChanged(replica):
            return (replica.namespace, replica.function) == function
