"""Our route for timers: when a function is called next by itself, and when it was last."""

from __future__ import annotations

import time
from collections.abc import Callable

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from gateway.control.auth import Auth
from gateway.control.functions import json, named
from gateway.control.operation import Content, Operation
from gateway.control.query import NAME, NAMESPACE
from gateway.control.wire import rfc3339
from gateway.timers.book import Mark
from orchestration.names import FunctionId
from orchestration.orchestrator import Orchestrator
from orchestration.settings import InvalidSetting
from orchestration.timers import Missed, Timer, TimerSettings, timer_settings

RUNS_SHOWN = 3
MarkOf = Callable[[FunctionId, Timer], Mark | None]


class TimerDetails(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """`next` are the coming runs; `last` is the instant of the one that was made last, the call `lastCall`."""

    schedule: str
    zone: str
    next: list[str]
    last: str | None
    last_call: str | None


class TimersDetails(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """A function's timers, and what becomes of runs that are missed or would overlap. `trouble` is why there are none where
    its annotations cannot be read; it is empty otherwise."""

    name: str
    namespace: str
    timers: list[TimerDetails]
    missed: Missed
    overlap: bool
    trouble: str


class TimersOf:
    """`mark_of` tells what was done of a timer, `wall` the time in Unix seconds."""

    def __init__(self, orchestrator: Orchestrator, auth: Auth, mark_of: MarkOf, wall: Callable[[], float] = time.time) -> None:
        self._orchestrator = orchestrator
        self._auth = auth
        self._mark_of = mark_of
        self._wall = wall

    async def get(self, request: Request) -> Response:
        function = named(request)
        self._auth.authorize(request, "read", function.namespace)
        spec = self._orchestrator.status(function).function.spec
        settings, trouble = TimerSettings(), ""
        try:
            settings = timer_settings(spec)
        except InvalidSetting as error:  # deployed by other means than this API, which refuses it
            trouble = str(error)
        return json(
            TimersDetails(
                name=function.name,
                namespace=function.namespace,
                timers=[self._told(function, timer) for timer in settings.timers],
                missed=settings.missed,
                overlap=settings.overlap,
                trouble=trouble,
            )
        )

    def _told(self, function: FunctionId, timer: Timer) -> TimerDetails:
        mark = self._mark_of(function, timer)
        return TimerDetails(
            schedule=timer.expression,
            zone=timer.zone,
            next=[rfc3339(at) for at in timer.coming(self._wall(), RUNS_SHOWN)],
            last=rfc3339(mark.ran) if mark is not None and mark.ran else None,
            last_call=(mark.call_id or None) if mark is not None else None,
        )

    def operations(self) -> tuple[Operation, ...]:
        return (
            Operation(
                id="getFunctionTimers",
                method="GET",
                path="/api/v1/functions/{name}/timers",
                endpoint=self.get,
                summary="Show when timers call a function",
                parameters=(NAME, NAMESPACE),
                success={200: Content("The timers.", TimersDetails)},
                refusals=(400, 404),
            ),
        )
