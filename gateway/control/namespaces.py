"""Namespaces: apart from the default one they are made, labelled and removed here.

OpenFaaS's client writes `/system/namespace/NAME` and makes one at `/system/namespace/`; its REST documentation writes
`/system/namespaces/NAME`. Both are served.
"""

from __future__ import annotations

import dataclasses

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from gateway.control.auth import Auth
from gateway.control.body import read_json
from gateway.control.functions import json
from gateway.control.operation import Content, Operation
from gateway.control.query import NAMESPACE_NAME
from gateway.control.wire import FunctionNamespace, NamespaceReference, from_namespace, to_namespace
from orchestration.orchestrator import NotFound, Orchestrator


class Namespaces:
    def __init__(self, orchestrator: Orchestrator, auth: Auth) -> None:
        self._orchestrator = orchestrator
        self._auth = auth

    async def list(self, request: Request) -> Response:
        self._auth.authorize(request, "read", "")
        return json([namespace.name for namespace in await self._orchestrator.namespaces()])

    async def create(self, request: Request) -> Response:
        namespace = to_namespace(await read_json(request, FunctionNamespace))
        self._auth.authorize(request, "write", namespace.name)
        await self._orchestrator.create_namespace(namespace)
        return Response(status_code=201)

    async def get(self, request: Request) -> Response:
        name = request.path_params["name"]
        self._auth.authorize(request, "read", name)
        for namespace in await self._orchestrator.namespaces():
            if namespace.name == name:
                return json(from_namespace(namespace))
        raise NotFound(f"namespace {name} not found")

    async def update(self, request: Request) -> Response:
        given = await read_json(request, FunctionNamespace)
        self._auth.authorize(request, "write", _same_name(request, given))
        await self._orchestrator.update_namespace(to_namespace(given))
        return Response(status_code=202)

    async def delete(self, request: Request) -> Response:
        name = request.path_params["name"]
        if await request.body():
            name = _same_name(request, await read_json(request, NamespaceReference))
        self._auth.authorize(request, "write", name)
        await self._orchestrator.delete_namespace(name)
        return Response(status_code=202)

    def operations(self) -> tuple[Operation, ...]:
        create = Operation(
            id="createNamespace",
            method="POST",
            path="/system/namespace/",
            endpoint=self.create,
            summary="Make a namespace",
            body=Content("Its name, labels and annotations.", FunctionNamespace),
            success={201: "Made."},
            refusals=(400, 409, 503, 507),
        )
        one = (
            Operation(
                id="getNamespace",
                method="GET",
                path="/system/namespace/{name}",
                endpoint=self.get,
                summary="Show a namespace",
                parameters=(NAMESPACE_NAME,),
                success={200: Content("The namespace.", FunctionNamespace)},
                refusals=(404,),
            ),
            Operation(
                id="updateNamespace",
                method="PUT",
                path="/system/namespace/{name}",
                endpoint=self.update,
                summary="Give a namespace other labels and annotations",
                parameters=(NAMESPACE_NAME,),
                body=Content("All its labels and annotations; the name is the one in the path.", FunctionNamespace),
                success={202: "Accepted and durable."},
                refusals=(400, 404, 503, 507),
            ),
            Operation(
                id="deleteNamespace",
                method="DELETE",
                path="/system/namespace/{name}",
                endpoint=self.delete,
                summary="Remove a namespace that holds no functions, with its secrets",
                parameters=(NAMESPACE_NAME,),
                body=Content("When it is sent, its name is the one in the path.", NamespaceReference, required=False),
                success={202: "Accepted and durable."},
                refusals=(400, 404, 409, 503, 507),
            ),
        )
        listing = Operation(
            id="listNamespaces",
            method="GET",
            path="/system/namespaces",
            endpoint=self.list,
            summary="List the namespaces",
            success={200: Content("By name.", list[str])},
        )
        plural = (dataclasses.replace(o, id=f"{o.id}Plural", path="/system/namespaces/{name}") for o in one)
        create_plural = dataclasses.replace(create, id="createNamespacePlural", path="/system/namespaces/")
        return (listing, create, *one, create_plural, *plural)


def _same_name(request: Request, given: FunctionNamespace | NamespaceReference) -> str:
    name: str = request.path_params["name"]
    if given.name != name:
        raise HTTPException(400, f"the body names namespace {given.name[:64]!r}, the path {name[:64]!r}")
    return name
