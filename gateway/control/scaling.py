"""Our route for scaling: what was decided about a function's replica count, and why."""

from __future__ import annotations

from collections.abc import Callable

import msgspec
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from gateway.control.auth import Auth
from gateway.control.functions import json, named
from gateway.control.operation import Content, Operation
from gateway.control.query import NAME, NAMESPACE
from gateway.control.wire import rfc3339
from orchestration.decisions import Decision, Rule, Scaling
from orchestration.names import FunctionId
from orchestration.orchestrator import Orchestrator
from orchestration.scaling import ScaleSettings

Explain = Callable[[FunctionId], Scaling | None]


class DecisionDetails(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """One decision: `replicas` instead of `previous`, by the last `rule` that changed it, for `reason`.

    What was known: replicas `ready` and `starting`, calls `inFlight` and `queued`, the metric's averages over the `stable` and
    the `panic` window (null: not known), what one replica should have (`aim`), and for how many seconds nothing was called.
    `spare` is how much more load fits than a burst needs (null: not known).
    """

    at: str
    replicas: int
    previous: int
    rule: Rule
    reason: str
    ready: int
    starting: int
    in_flight: int
    queued: int
    stable: float | None
    panic: float | None
    aim: float
    idle_s: float
    spare: float | None


class ScalingDetails(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """How a function is scaled: what its labels say, the newest decision, and those that changed something, newest first.

    `learnt` is what its idle times taught, `trouble` why its metric is not known; both are empty where there is nothing to say.
    """

    name: str
    namespace: str
    settings: ScaleSettings
    latest: DecisionDetails | None
    changes: list[DecisionDetails]
    learnt: str
    trouble: str


class Scalings:
    def __init__(self, orchestrator: Orchestrator, auth: Auth, explain: Explain) -> None:
        self._orchestrator = orchestrator
        self._auth = auth
        self._explain = explain

    async def get(self, request: Request) -> Response:
        function = named(request)
        self._auth.authorize(request, "read", function.namespace)
        self._orchestrator.status(function)  # raises NotFound
        scaling = self._explain(function)
        if scaling is None:
            raise HTTPException(404, f"nothing scales {function} here")
        return json(_details(function, scaling))

    def operations(self) -> tuple[Operation, ...]:
        return (
            Operation(
                id="getFunctionScaling",
                method="GET",
                path="/api/v1/functions/{name}/scaling",
                endpoint=self.get,
                summary="Explain the last decisions about a function's replica count",
                parameters=(NAME, NAMESPACE),
                success={200: Content("The decisions.", ScalingDetails)},
                refusals=(400, 404),
            ),
        )


def _details(function: FunctionId, scaling: Scaling) -> ScalingDetails:
    return ScalingDetails(
        name=function.name,
        namespace=function.namespace,
        settings=scaling.settings,
        latest=None if scaling.latest is None else _decision(scaling.latest),
        changes=[_decision(change) for change in scaling.changes],
        learnt=scaling.learnt,
        trouble=scaling.trouble,
    )


def _decision(decision: Decision) -> DecisionDetails:
    known = msgspec.structs.asdict(decision)
    return DecisionDetails(**known | {"at": rfc3339(decision.at, milliseconds=True)})
