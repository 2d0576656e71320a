"""OpenFaaS's routes for functions: deploy, list, status, scale, remove."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import msgspec
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from gateway.control.auth import Auth
from gateway.control.body import read_json
from gateway.control.operation import Content, Operation
from gateway.control.query import NAME, NAMESPACE, USAGE, flag
from gateway.control.wire import (
    DeleteFunctionRequest,
    Deployed,
    FunctionDeployment,
    FunctionStatus,
    ScaleServiceRequest,
    function_status,
    namespace_of,
    to_spec,
)
from orchestration.names import FunctionId, check_function_name, parse_function_id
from orchestration.orchestrator import NotFound, Orchestrator
from orchestration.scaling_labels import scale_settings

Invocations = Callable[[FunctionId], int]
Pull = Callable[[str], Awaitable[None]]
"""Sees to it that what an image's name stands for in its registry is here, where it is to be taken from one."""


class Functions:
    def __init__(self, orchestrator: Orchestrator, auth: Auth, invocations: Invocations, pull: Pull) -> None:
        self._orchestrator = orchestrator
        self._pull = pull
        self._auth = auth
        self._invocations = invocations

    async def list(self, request: Request) -> Response:
        namespace = namespace_of(request.query_params.get("namespace"))
        self._auth.authorize(request, "read", namespace)
        statuses = self._orchestrator.statuses(namespace)
        return json([function_status(s, self._invocations(s.function.id)) for s in statuses])

    async def create(self, request: Request) -> Response:
        return await self._deploy(request, create=True)

    async def update(self, request: Request) -> Response:
        return await self._deploy(request, create=False)

    async def _deploy(self, request: Request, *, create: bool) -> Response:
        deployment = await read_json(request, FunctionDeployment)
        namespace = namespace_of(deployment.namespace, request.query_params.get("namespace"))
        self._auth.authorize(request, "write", namespace)
        spec = to_spec(deployment, namespace)
        await self._pull(spec.image)
        function = await self._orchestrator.apply(spec, create=create)
        made = Deployed(function.spec.service, function.spec.namespace, function.generation, function.newest.name)
        return json(made, 202)

    async def delete(self, request: Request) -> Response:
        asked = await read_json(request, DeleteFunctionRequest)
        namespace = namespace_of(asked.namespace, request.query_params.get("namespace"))
        self._auth.authorize(request, "write", namespace)
        await self._orchestrator.remove(FunctionId(namespace, check_function_name(asked.function_name)))
        return Response(status_code=202)

    async def status(self, request: Request) -> Response:
        function = named(request)
        self._auth.authorize(request, "read", function.namespace)
        wants_usage = flag(request, "usage")
        status = self._orchestrator.status(function)
        usage = await self._orchestrator.usage(function) if wants_usage else None
        return json(function_status(status, usage=usage))

    async def scale(self, request: Request) -> Response:
        asked = await read_json(request, ScaleServiceRequest)
        function = named(request, asked.namespace)
        self._auth.authorize(request, "write", function.namespace)
        if asked.service_name and parse_function_id(asked.service_name).name != function.name:
            raise HTTPException(400, f"serviceName {asked.service_name!r} is not the {function.name!r} of the path")
        serving = self._orchestrator.status(function).function
        bounds = scale_settings(serving.spec)
        # The scaler keeps the count inside the labels' bounds; asking for more would only last until it looks.
        replicas = asked.replicas and min(max(asked.replicas, bounds.min_replicas), bounds.max_replicas)
        try:
            await self._orchestrator.scale(serving.serving.key, replicas)
        except NotFound:  # another revision has taken over its calls meanwhile
            await self._orchestrator.scale(self._orchestrator.status(function).function.serving.key, replicas)
        told = f"{function} is to have {replicas} {'replica' if replicas == 1 else 'replicas'}"
        if replicas != asked.replicas:
            bound = "min" if replicas > asked.replicas else "max"
            told += f", not {asked.replicas}: com.openfaas.scale.{bound} is {replicas}"
        return Response(told + "\n", 202, media_type="text/plain")

    def operations(self) -> tuple[Operation, ...]:
        deployment = Content("What to deploy. Unknown keys are ignored.", FunctionDeployment)
        deployed = {202: Content("Accepted and durable.", Deployed)}
        return (
            Operation(
                id="listFunctions",
                method="GET",
                path="/system/functions",
                endpoint=self.list,
                summary="List the functions of a namespace",
                parameters=(NAMESPACE,),
                success={200: Content("By name.", list[FunctionStatus])},
                refusals=(400, 404),
            ),
            Operation(
                id="createFunction",
                method="POST",
                path="/system/functions",
                endpoint=self.create,
                summary="Deploy a new function",
                parameters=(NAMESPACE,),
                body=deployment,
                success=deployed,
                refusals=(400, 404, 409, 503, 507),
            ),
            Operation(
                id="updateFunction",
                method="PUT",
                path="/system/functions",
                endpoint=self.update,
                summary="Deploy a function anew",
                description="404 when it does not exist: clients then create it.",
                parameters=(NAMESPACE,),
                body=deployment,
                success=deployed,
                refusals=(400, 404, 503, 507),
            ),
            Operation(
                id="deleteFunction",
                method="DELETE",
                path="/system/functions",
                endpoint=self.delete,
                summary="Remove a function; its calls in flight finish",
                parameters=(NAMESPACE,),
                body=Content("Which one.", DeleteFunctionRequest),
                success={202: "Accepted."},
                refusals=(400, 404, 503, 507),
            ),
            Operation(
                id="getFunction",
                method="GET",
                path="/system/function/{name}",
                endpoint=self.status,
                summary="Show a function",
                parameters=(NAME, NAMESPACE, USAGE),
                success={200: Content("The function.", FunctionStatus)},
                refusals=(400, 404),
            ),
            Operation(
                id="scaleFunction",
                method="POST",
                path="/system/scale-function/{name}",
                endpoint=self.scale,
                summary="Set the replica count",
                description="Zero is always taken; other counts are moved into the bounds that the labels set.",
                parameters=(NAME, NAMESPACE),
                body=Content("How many.", ScaleServiceRequest),
                success={202: Content("Accepted; the text says which count it came to.", None, "text/plain")},
                refusals=(400, 404, 503, 507),
            ),
        )


def named(request: Request, namespace: str | None = None) -> FunctionId:
    """Return the function that the path names: `NAME.NAMESPACE`, or `NAME` in `namespace` or the query's one.

    Raises InvalidName for the namespace.
    """
    default = namespace_of(namespace, request.query_params.get("namespace"))
    return parse_function_id(request.path_params["name"], default)


def json(value: object, status: int = 200) -> Response:
    """Return `value` as an answer."""
    return Response(msgspec.json.encode(value), status, media_type="application/json")
