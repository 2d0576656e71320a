"""Logs: what a function's replicas wrote, oldest line first, also after they are gone.

OpenFaaS shows the last five minutes when neither `tail` nor `since` is given, which is nothing at all for a function
that was quiet for six. Here it is the last DEFAULT_TAIL lines, however old; the stock client always gives a `tail`.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import msgspec
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from gateway.control.auth import Auth
from gateway.control.operation import Content, Operation, Parameter
from gateway.control.query import FOLLOW, NAMESPACE, SINCE, TAIL, flag, integer, moment
from gateway.control.streams import LineStream, closing
from gateway.control.wire import namespace_of
from orchestration.names import parse_function_id
from orchestration.orchestrator import LogLine, LogQuery, NotFound, Orchestrator

DEFAULT_TAIL = 1000

FUNCTION = Parameter(
    "name", "The function, as NAME or NAME.NAMESPACE.", {"type": "string", "minLength": 1, "example": "hello"}, required=True
)
INSTANCE = Parameter("instance", "Only what this replica wrote.", {"type": "string"})
CALL = Parameter("call", "Only what was written in the call of this id (X-Call-Id).", {"type": "string"})


class Logs:
    """`over` is set when the platform stops: then nobody follows any more."""

    def __init__(self, orchestrator: Orchestrator, auth: Auth, over: asyncio.Event) -> None:
        self._orchestrator = orchestrator
        self._auth = auth
        self._over = over

    async def read(self, request: Request) -> Response:
        query = query_of(request)
        self._auth.authorize(request, "read", query.function.namespace)
        try:
            self._orchestrator.status(query.function)
        except NotFound:
            # Its lines may outlive it, but none will follow; whether it left any, only a first look at them tells.
            query = msgspec.structs.replace(query, follow=False)
            async with closing(self._orchestrator.logs(query)) as lines:
                await anext(lines, None)
        over = self._over if query.follow else None
        return LineStream(_encoded(self._orchestrator.logs(query), query.call), over=over)

    def operations(self) -> tuple[Operation, ...]:
        return (
            Operation(
                id="readLogs",
                method="GET",
                path="/system/logs",
                endpoint=self.read,
                summary="Read what a function wrote, one JSON object a line",
                description=f"Without `tail` and `since` the last {DEFAULT_TAIL} lines. With `since` alone: all from then on.",
                parameters=(FUNCTION, NAMESPACE, INSTANCE, CALL, TAIL, SINCE, FOLLOW),
                success={200: Content("Lines as they come.", LogLine, "application/x-ndjson")},
                refusals=(400, 404),
            ),
        )


def query_of(request: Request) -> LogQuery:
    """Return what is asked for. Raises InvalidName, HTTPException 400."""
    name = request.query_params.get("name", "")
    if not name:
        raise HTTPException(400, "name is missing: the function whose logs to read")
    tail, since = integer(request, "tail"), moment(request, "since")
    return LogQuery(
        function=parse_function_id(name, namespace_of(request.query_params.get("namespace"))),
        instance=request.query_params.get("instance", ""),
        call=request.query_params.get("call", ""),
        tail=tail if tail is not None else 0 if since is not None else DEFAULT_TAIL,
        since=since,
        follow=flag(request, "follow"),
    )


async def _encoded(lines: AsyncIterator[LogLine], call: str) -> AsyncIterator[bytes]:
    """Yield lines as JSON. Where an orchestrator does not know calls, none of its lines belongs to `call`."""
    async with closing(lines):
        async for line in lines:
            if call in ("", line.call_id):
                yield msgspec.json.encode(line) + b"\n"
