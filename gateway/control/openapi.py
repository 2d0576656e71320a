"""The OpenAPI 3.1 document, made from the operations that are served and the shapes that are sent."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from http import HTTPStatus
from typing import Any

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from gateway.control.auth import Auth
from gateway.control.operation import Access, Content, Operation

PATH = "/api/v1/openapi.json"
MEDIA_TYPE = "application/json"
_REFERENCE = "#/components/schemas/{name}"
_REASONS = {
    400: "What was sent cannot be; the text says where and why.",
    401: "The login is missing or wrong.",
    403: "A web page of another site, or a name that this gateway is not known by.",
    404: "It does not exist.",
    408: "A signed build took too long to arrive.",
    409: "It exists already, or is still in use.",
    412: "It was changed since it was looked at.",
    413: "The body is too large.",
    429: "Too many builds; `Retry-After` says when to come back.",
    503: "Not now: the cluster that runs the functions does not answer, or is too busy. `Retry-After` says when to come back.",
    507: "The change could not be stored: the gateway's disk is full, for instance. Nothing was changed.",
}
_SECURITY: Mapping[Access, list[dict[str, list[str]]]] = {
    Access.OPEN: [],
    Access.LOGIN: [{"login": []}],
    Access.SIGNATURE: [{"login": []}, {"signature": []}],
    Access.LINK: [{"login": []}, {"link": []}],
}


class Document:
    """Serves the document as an operation that is itself part of it."""

    def __init__(self, operations: Iterable[Operation], release: str, auth: Auth) -> None:
        own = Operation(
            id="getOpenApi",
            method="GET",
            path=PATH,
            endpoint=self.read,
            summary="Give this document",
            success={200: Content("The document.", dict[str, Any])},
        )
        self.operations = (*operations, own)
        self._auth = auth
        self._encoded = msgspec.json.encode(document(self.operations, release))

    async def read(self, request: Request) -> Response:
        self._auth.authorize(request, "read", "")
        return Response(self._encoded, media_type=MEDIA_TYPE)


def document(operations: Iterable[Operation], release: str) -> dict[str, Any]:
    """Return the OpenAPI document of `operations`."""
    operations = tuple(operations)
    types = list({id(t): t for o in operations for t in _types(o)}.values())
    schemas, components = msgspec.json.schema_components(types, ref_template=_REFERENCE)
    schema_of = {id(kind): schema for kind, schema in zip(types, schemas, strict=True)}
    paths: dict[str, dict[str, Any]] = {}
    for operation in operations:
        paths.setdefault(operation.path, {})[operation.method.lower()] = _operation(operation, schema_of)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Pinnace",
            "version": release,
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
            "description": "The control API. `/system`, `/build` and `/publickey` are OpenFaaS's, `/api/v1` is ours. "
            "Errors are one line of text. Every GET is answered to HEAD too. A session's token, as `Authorization: Bearer`, "
            "is as good as the login.",
        },
        "paths": paths,
        "components": {
            "schemas": components,
            "securitySchemes": {
                "login": {"type": "http", "scheme": "basic"},
                "link": {"type": "http", "scheme": "bearer", "description": "A token of `POST /api/v1/session?link=true`."},
                "signature": {
                    "type": "apiKey",
                    "in": "header",
                    "name": "X-Build-Signature",
                    "description": "`sha256=` and the hexadecimal HMAC-SHA256 of the body, with the payload secret as the key.",
                },
            },
        },
    }


def _types(operation: Operation) -> list[Any]:
    contents = [operation.body, *operation.success.values()]
    return [c.type for c in contents if isinstance(c, Content) and c.type is not None]


def _operation(operation: Operation, schema_of: Mapping[int, Any]) -> dict[str, Any]:
    described: dict[str, Any] = {
        "operationId": operation.id,
        "summary": operation.summary,
        "security": _SECURITY[operation.access],
        "responses": {str(status): _response(operation, status, schema_of) for status in operation.statuses},
    }
    if operation.description:
        described["description"] = operation.description
    if operation.parameters:
        described["parameters"] = [
            {"name": p.name, "in": p.where, "required": p.required, "description": p.description, "schema": p.schema}
            for p in operation.parameters
        ]
    if operation.body is not None:
        described["requestBody"] = {
            "description": operation.body.description,
            "required": operation.body.required,
            "content": _content(operation.body, schema_of),
        }
    return described


def _response(operation: Operation, status: int, schema_of: Mapping[int, Any]) -> dict[str, Any]:
    success = operation.success.get(status)
    if isinstance(success, Content):
        return {"description": success.description, "content": _content(success, schema_of)}
    if success is not None:
        return {"description": success}
    described: dict[str, Any] = {
        "description": _REASONS.get(status, HTTPStatus(status).phrase),
        "content": {"text/plain": {"schema": {"type": "string"}}},
    }
    if status == HTTPStatus.UNAUTHORIZED:
        described["headers"] = {"WWW-Authenticate": {"schema": {"type": "string"}, "required": True}}
    if status == HTTPStatus.TOO_MANY_REQUESTS:
        described["headers"] = {"Retry-After": {"schema": {"type": "integer"}, "required": True}}
    return described


def _content(content: Content, schema_of: Mapping[int, Any]) -> dict[str, Any]:
    if content.media_type == "text/event-stream":
        data = {"type": "string", "contentMediaType": "application/json", "contentSchema": schema_of[id(content.type)]}
        fields = {"id": {"type": "string"}, "event": {"type": "string"}, "retry": {"type": "integer"}, "data": data}
        event = {"type": "object", "properties": fields, "required": ["data"]}
        return {content.media_type: {"itemSchema": event}}
    if content.media_type == "application/x-ndjson":  # each line is one; a schema of the whole would say something else
        return {content.media_type: {"schema": {"type": "string"}, "itemSchema": schema_of[id(content.type)]}}
    if content.type is not None:
        return {content.media_type: {"schema": schema_of[id(content.type)]}}
    if content.media_type.startswith("text/"):
        return {content.media_type: {"schema": {"type": "string"}}}
    return {content.media_type: {"schema": {"type": "string", "minLength": 1}}}
