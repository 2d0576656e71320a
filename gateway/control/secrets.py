"""Secrets: names can be listed, values only be set."""

from __future__ import annotations

from typing import Annotated

import msgspec
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from gateway.control.auth import Auth
from gateway.control.body import read_json
from gateway.control.functions import json
from gateway.control.operation import Content, Operation
from gateway.control.query import NAMESPACE
from gateway.control.wire import Secret, SecretReference, namespace_of
from orchestration.names import check_secret_name
from orchestration.orchestrator import Orchestrator

PATH = "/system/secrets"
WithValue = Annotated[
    Secret,
    msgspec.Meta(
        extra_json_schema={
            "anyOf": [
                {"properties": {"value": {"type": "string"}}, "required": ["value"]},
                {"properties": {"rawValue": {"type": "string"}}, "required": ["rawValue"]},
            ]
        }
    ),
]


class Secrets:
    def __init__(self, orchestrator: Orchestrator, auth: Auth) -> None:
        self._orchestrator = orchestrator
        self._auth = auth

    async def list(self, request: Request) -> Response:
        namespace = self._namespace(request, None, write=False)
        return json([SecretReference(name, namespace) for name in await self._orchestrator.secrets(namespace)])

    async def create(self, request: Request) -> Response:
        secret = await read_json(request, Secret)
        namespace = self._namespace(request, secret.namespace)
        await self._orchestrator.create_secret(namespace, check_secret_name(secret.name), value_of(secret))
        return Response(status_code=202)

    async def update(self, request: Request) -> Response:
        secret = await read_json(request, Secret)
        namespace = self._namespace(request, secret.namespace)
        await self._orchestrator.update_secret(namespace, check_secret_name(secret.name), value_of(secret))
        return Response(status_code=202)

    async def delete(self, request: Request) -> Response:
        secret = await read_json(request, SecretReference)
        namespace = self._namespace(request, secret.namespace)
        await self._orchestrator.delete_secret(namespace, check_secret_name(secret.name))
        return Response(status_code=202)

    def _namespace(self, request: Request, given: str | None, *, write: bool = True) -> str:
        namespace = namespace_of(given, request.query_params.get("namespace"))
        self._auth.authorize(request, "write" if write else "read", namespace)
        return namespace

    def operations(self) -> tuple[Operation, ...]:
        secret = Content("Name and value.", WithValue)
        accepted = {202: "Accepted and durable."}
        return (
            Operation(
                id="listSecrets",
                method="GET",
                path=PATH,
                endpoint=self.list,
                summary="List the names of a namespace's secrets",
                parameters=(NAMESPACE,),
                success={200: Content("By name.", list[SecretReference])},
                refusals=(400, 404),
            ),
            Operation(
                id="createSecret",
                method="POST",
                path=PATH,
                endpoint=self.create,
                summary="Make a secret",
                parameters=(NAMESPACE,),
                body=secret,
                success=accepted,
                refusals=(400, 404, 409, 503, 507),
            ),
            Operation(
                id="updateSecret",
                method="PUT",
                path=PATH,
                endpoint=self.update,
                summary="Give a secret another value; functions that use it are rolled",
                parameters=(NAMESPACE,),
                body=secret,
                success=accepted,
                refusals=(400, 404, 503, 507),
            ),
            Operation(
                id="deleteSecret",
                method="DELETE",
                path=PATH,
                endpoint=self.delete,
                summary="Remove a secret that no function uses",
                parameters=(NAMESPACE,),
                body=Content("Which one.", SecretReference),
                success=accepted,
                refusals=(400, 404, 409, 503, 507),
            ),
        )


def value_of(secret: Secret) -> bytes:
    """Return the value's bytes. Raises HTTPException 400 when there is none: an empty secret is written as `""`."""
    if secret.raw_value is not None:
        return secret.raw_value
    if secret.value is None:
        raise HTTPException(400, f"secret {secret.name[:64]!r} has neither value nor rawValue")
    return secret.value.encode()
