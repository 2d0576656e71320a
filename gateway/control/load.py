"""Our route for the load that a function had of late: what `faas simulate --from-function` replays."""

from __future__ import annotations

from collections.abc import Callable

from starlette.requests import Request
from starlette.responses import Response

from gateway.control.auth import Auth
from gateway.control.functions import json, named
from gateway.control.operation import Content, Operation
from gateway.control.query import NAME, NAMESPACE
from orchestration.load_history import LoadHistory
from orchestration.names import FunctionId
from orchestration.orchestrator import Orchestrator

Recorded = Callable[[FunctionId], LoadHistory]


def nothing_recorded(function: FunctionId) -> LoadHistory:
    """Return the history of a function where nobody records."""
    return LoadHistory(since=0.0)


class Loads:
    def __init__(self, orchestrator: Orchestrator, auth: Auth, recorded: Recorded) -> None:
        self._orchestrator = orchestrator
        self._auth = auth
        self._recorded = recorded

    async def get(self, request: Request) -> Response:
        function = named(request)
        self._auth.authorize(request, "read", function.namespace)
        self._orchestrator.status(function)  # raises NotFound
        return json(self._recorded(function))

    def operations(self) -> tuple[Operation, ...]:
        return (
            Operation(
                id="getFunctionLoad",
                method="GET",
                path="/api/v1/functions/{name}/load",
                endpoint=self.get,
                summary="Give the recent load on a function, as it was told each second of activity",
                parameters=(NAME, NAMESPACE),
                success={200: Content("The load; its lists have an entry for each time that it was told.", LoadHistory)},
                refusals=(400, 404),
            ),
        )
