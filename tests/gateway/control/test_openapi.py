from __future__ import annotations

from typing import Any

import pytest
from starlette.routing import Route

from tests.gateway.control.client import Client
from tests.gateway.control.conftest import Application


@pytest.fixture
async def document(client: Client) -> dict[str, Any]:
    answer = await client("GET", "/api/v1/openapi.json")
    assert answer.headers["content-type"] == "application/json"
    found: dict[str, Any] = answer.json()
    return found


async def test_it_describes_exactly_what_is_served(application: Application, document: dict[str, Any]) -> None:
    served = {
        (route.path, method)
        for route in application().routes
        if isinstance(route, Route)
        for method in (route.methods or set()) - {"HEAD"}
    }
    described = {(path, method.upper()) for path, methods in document["paths"].items() for method in methods}
    assert described == served
    assert document["openapi"].startswith("3.1")


CODES = {
    "getFunctionTraffic": "200 400 401 403 404",
    "promoteFunction": "200 400 401 403 404 409 503 507",
    "rollBackFunction": "200 400 401 403 404 409 413 503 507",
    "setFunctionTraffic": "200 400 401 403 404 412 413 503 507",
    "getRoot": "307 403",
    "getHealth": "200 403",
    "getPublicKey": "200 403",
    "getInfo": "200 401 403",
    "getMetrics": "200 401 403",
    "listMetricsTargets": "200 401 403",
    "getReplicaMetrics": "200 400 401 403 404 502",
    "getPage": "200 304 403",
    "getPageFile": "200 403 404",
    "createSession": "201 400 401 403",
    "followFunctions": "200 400 401 403 503",
    "getFunctionHistory": "200 400 401 403 404",
    "listFunctionCalls": "200 400 401 403 404",
    "explainCall": "200 401 403 404",
    "getOpenApi": "200 401 403",
    "listFunctions": "200 400 401 403 404",
    "createFunction": "202 400 401 403 404 409 413 503 507",
    "updateFunction": "202 400 401 403 404 413 503 507",
    "deleteFunction": "202 400 401 403 404 413 503 507",
    "getFunction": "200 400 401 403 404",
    "scaleFunction": "202 400 401 403 404 413 503 507",
    "listSecrets": "200 400 401 403 404",
    "createSecret": "202 400 401 403 404 409 413 503 507",
    "updateSecret": "202 400 401 403 404 413 503 507",
    "deleteSecret": "202 400 401 403 404 409 413 503 507",
    "listNamespaces": "200 401 403",
    "createNamespace": "201 400 401 403 409 413 503 507",
    "createNamespacePlural": "201 400 401 403 409 413 503 507",
    "getNamespace": "200 401 403 404",
    "getNamespacePlural": "200 401 403 404",
    "updateNamespace": "202 400 401 403 404 413 503 507",
    "updateNamespacePlural": "202 400 401 403 404 413 503 507",
    "deleteNamespace": "202 400 401 403 404 409 413 503 507",
    "deleteNamespacePlural": "202 400 401 403 404 409 413 503 507",
    "readLogs": "200 400 401 403 404",
    "listFunctionDetails": "200 400 401 403 404",
    "getFunctionDetails": "200 400 401 403 404",
    "getFunctionScaling": "200 400 401 403 404",
    "getFunctionLoad": "200 400 401 403 404",
    "getFunctionTimers": "200 400 401 403 404",
    "sendEvents": "202 400 401 403 404 413 415 429 503",
    "allowEvents": "200 400 401 403",
    "matchEvents": "200 400 401 403 404 413 415",
    "listQueues": "200 401 403 503",
    "listAsyncCalls": "200 400 401 403 503",
    "replayAsyncCall": "202 401 403 404 409 503",
    "replayDeadCalls": "202 400 401 403 404 503",
    "build": "200 400 401 403 408 413 429 507",
}


async def test_it_lists_the_exact_codes_of_each_operation(document: dict[str, Any]) -> None:
    operations = [o for methods in document["paths"].values() for o in methods.values()]
    assert {o["operationId"]: " ".join(sorted(o["responses"])) for o in operations} == CODES
    assert len(operations) == len(CODES)


async def test_every_reference_leads_somewhere(document: dict[str, Any]) -> None:
    def references(node: Any) -> list[str]:
        if isinstance(node, dict):
            return [v for k, v in node.items() if k == "$ref"] + [r for v in node.values() for r in references(v)]
        return [r for v in node for r in references(v)] if isinstance(node, list) else []

    found = references(document)
    assert found
    for reference in found:
        node: Any = document
        for step in reference.removeprefix("#/").split("/"):
            node = node[step]


async def test_the_security_of_each_operation(document: dict[str, Any]) -> None:
    operations = {o["operationId"]: o["security"] for methods in document["paths"].values() for o in methods.values()}
    assert {name for name, security in operations.items() if security == []} == {
        "getRoot",
        "getHealth",
        "getPublicKey",
        "getPage",
        "getPageFile",
    }
    assert operations["createSession"] == [{"login": []}, {"link": []}]
    assert operations["build"] == [{"login": []}, {"signature": []}]
    assert all({"login": []} in security for security in operations.values() if security)
