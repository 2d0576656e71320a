"""Our routes for traffic: which share of a function's calls goes to which revision, going back, and following the newest.

A table is replaced as a whole and the last writer wins, unless a request says with `If-Match` which table it has seen: the
`ETag` of the answer that told of it.
"""

from __future__ import annotations

import hashlib

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from gateway.control.auth import Auth
from gateway.control.body import read_json
from gateway.control.description import RolloutDetails, rollout_details
from gateway.control.functions import named
from gateway.control.operation import Content, Operation
from gateway.control.query import NAME, NAMESPACE
from gateway.control.wire import Text
from orchestration.function import Function
from orchestration.orchestrator import Orchestrator
from orchestration.rollout import Outdated
from orchestration.traffic import Table, TrafficTarget


class FunctionTraffic(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """Where calls go. `traffic` is the table that was asked for, in which `@latest` stands for `latest`, the newest revision
    that became ready; `routed` is what it comes to now. `rollout` is the gradual one that is under way, or null."""

    name: str
    namespace: str
    traffic: tuple[TrafficTarget, ...]
    routed: tuple[TrafficTarget, ...]
    latest: str
    rollout: RolloutDetails | None


class SetTraffic(msgspec.Struct, frozen=True):
    """The whole table. Percentages come to 100; a target of 0 is there for its tag."""

    traffic: tuple[TrafficTarget, ...]


class RollBack(msgspec.Struct, frozen=True):
    """`to` is a revision; without it the one before the one that gets most of the calls."""

    to: Text | None = None


class Traffics:
    def __init__(self, orchestrator: Orchestrator, auth: Auth) -> None:
        self._orchestrator = orchestrator
        self._auth = auth

    async def get(self, request: Request) -> Response:
        function = named(request)
        self._auth.authorize(request, "read", function.namespace)
        return _answer(self._orchestrator.status(function).function)

    async def put(self, request: Request) -> Response:
        asked = await read_json(request, SetTraffic)
        function = named(request)
        self._auth.authorize(request, "write", function.namespace)
        known: Table | None = None
        if (seen := request.headers.get("if-match", "*")) != "*":
            known = self._orchestrator.status(function).function.split
            if _tag(known) not in seen:
                raise Outdated(f"traffic of {function} was changed meanwhile: look at it again")
        return _answer(await self._orchestrator.set_traffic(function, asked.traffic, known=known))

    async def roll_back(self, request: Request) -> Response:
        asked = await read_json(request, RollBack)
        function = named(request)
        self._auth.authorize(request, "write", function.namespace)
        return _answer(await self._orchestrator.roll_back(function, asked.to or None))

    async def promote(self, request: Request) -> Response:
        function = named(request)
        self._auth.authorize(request, "write", function.namespace)
        return _answer(await self._orchestrator.follow(function))

    def operations(self) -> tuple[Operation, ...]:
        told = {200: Content("Where calls go now; its `ETag` stands for the table.", FunctionTraffic)}
        return (
            Operation(
                id="getFunctionTraffic",
                method="GET",
                path="/api/v1/functions/{name}/traffic",
                endpoint=self.get,
                summary="Show where a function's calls go",
                parameters=(NAME, NAMESPACE),
                success=told,
                refusals=(400, 404),
            ),
            Operation(
                id="setFunctionTraffic",
                method="PUT",
                path="/api/v1/functions/{name}/traffic",
                endpoint=self.put,
                summary="Set where a function's calls go, from the next one on",
                description="The last writer wins; with `If-Match`, one who has seen the present table.",
                parameters=(NAME, NAMESPACE),
                body=Content("The table.", SetTraffic),
                success=told,
                refusals=(400, 404, 412, 503, 507),
            ),
            Operation(
                id="rollBackFunction",
                method="POST",
                path="/api/v1/functions/{name}/rollback",
                endpoint=self.roll_back,
                summary="Send all calls to an older revision; deploys then move none",
                parameters=(NAME, NAMESPACE),
                body=Content("To which.", RollBack),
                success=told,
                refusals=(400, 404, 409, 503, 507),
            ),
            Operation(
                id="promoteFunction",
                method="POST",
                path="/api/v1/functions/{name}/promote",
                endpoint=self.promote,
                summary="Send all calls to the newest revision, and to those that are deployed later",
                parameters=(NAME, NAMESPACE),
                success=told,
                refusals=(400, 404, 409, 503, 507),
            ),
        )


def _answer(function: Function) -> Response:
    told = FunctionTraffic(
        name=function.id.name,
        namespace=function.id.namespace,
        traffic=function.split,
        routed=function.traffic,
        latest=function.latest_ready,
        rollout=rollout_details(function.gradual),
    )
    return Response(msgspec.json.encode(told), 200, {"ETag": _tag(function.split)}, "application/json")


def _tag(table: Table) -> str:
    return f'"{hashlib.sha256(msgspec.json.encode(table)).hexdigest()[:16]}"'
