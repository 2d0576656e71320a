"""Our routes for what one function did of late: its figures over time, and its last calls with where their time went."""

from __future__ import annotations

from typing import Final

import msgspec
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from gateway.control.auth import Auth
from gateway.control.functions import json, named
from gateway.control.operation import Content, Operation, Parameter
from gateway.control.query import CALL_ID, NAME, NAMESPACE
from gateway.monitor.monitor import Monitor
from gateway.monitor.series import TIERS, History
from gateway.monitor.waterfall import CallDetails
from orchestration.duration import format_duration
from orchestration.orchestrator import Orchestrator

WINDOWS: Final = {format_duration(tier.span_s): tier for tier in TIERS}

WINDOW = Parameter(
    "window", "How far to look back; the shorter, the finer. Default: 5m.", {"type": "string", "enum": list(WINDOWS)}
)


class Explanation(msgspec.Struct, frozen=True, rename="camel"):
    """One call, and the function that it was for."""

    name: str
    namespace: str
    call: CallDetails


class Activity:
    def __init__(self, orchestrator: Orchestrator, auth: Auth, monitor: Monitor) -> None:
        self._orchestrator = orchestrator
        self._auth = auth
        self._monitor = monitor

    async def history(self, request: Request) -> Response:
        function = named(request)
        self._auth.authorize(request, "read", function.namespace)
        window = request.query_params.get("window") or next(iter(WINDOWS))
        if window not in WINDOWS:
            raise HTTPException(400, f"window={window[:40]!r}: one of {', '.join(WINDOWS)}")
        self._orchestrator.status(function)  # raises NotFound
        return json(self._monitor.history(function, WINDOWS[window]))

    async def calls(self, request: Request) -> Response:
        function = named(request)
        self._auth.authorize(request, "read", function.namespace)
        self._orchestrator.status(function)  # raises NotFound
        return json(self._monitor.calls(function))

    async def call(self, request: Request) -> Response:
        call_id = request.path_params["call_id"]
        found = self._monitor.call(call_id)
        self._auth.authorize(request, "read", found[0].namespace if found else "")
        if found is None:
            raise HTTPException(404, f"call {call_id[:64]!r} is not among the last calls of any function")
        function, details = found
        return json(Explanation(name=function.name, namespace=function.namespace, call=details))

    def operations(self) -> tuple[Operation, ...]:
        return (
            Operation(
                id="getFunctionHistory",
                method="GET",
                path="/api/v1/functions/{name}/history",
                endpoint=self.history,
                summary="Give a function's figures over time: calls, errors, percentiles, replicas",
                parameters=(NAME, NAMESPACE, WINDOW),
                success={200: Content("The figures.", History)},
                refusals=(400, 404),
            ),
            Operation(
                id="listFunctionCalls",
                method="GET",
                path="/api/v1/functions/{name}/calls",
                endpoint=self.calls,
                summary="List a function's last calls, and its last notable ones, with where their time went",
                description="At most 32 of either: calls that ended with 499 or above, or that waited for 10 ms, are notable.",
                parameters=(NAME, NAMESPACE),
                success={200: Content("Newest first.", list[CallDetails])},
                refusals=(400, 404),
            ),
            Operation(
                id="explainCall",
                method="GET",
                path="/api/v1/calls/{call_id}",
                endpoint=self.call,
                summary="Say where one call's time went, while it is among the last calls of its function",
                parameters=(CALL_ID,),
                success={200: Content("The call.", Explanation)},
                refusals=(404,),
            ),
        )
