from __future__ import annotations

import base64
from typing import Any

import pytest

from orchestration.orchestrator import Namespace
from orchestration.spec import FunctionSpec
from tests.fakes.orchestrator import FakeOrchestrator
from tests.gateway.control.client import Client

PATH = "/system/secrets"


@pytest.mark.parametrize("namespace", [None, "dev"])
async def test_create_list_update_delete(client: Client, orchestrator: FakeOrchestrator, namespace: str | None) -> None:
    await orchestrator.create_namespace(Namespace("dev"))
    there, place = {"namespace": namespace} if namespace else {}, namespace or "openfaas-fn"
    query = f"?namespace={namespace}" if namespace else ""
    assert (await client("GET", PATH + query)).json() == []
    assert (await client("POST", PATH, {"name": "key", "value": "one", **there})).status == 202
    assert (await client("POST", PATH, {"name": "key", "value": "one", **there})).status == 409
    assert (await client("GET", PATH + query)).json() == [{"name": "key", "namespace": place}]
    assert orchestrator.secret(place, "key") == b"one"
    assert (await client("PUT", PATH, {"name": "key", "value": "two\n", **there})).status == 202
    assert orchestrator.secret(place, "key") == b"two\n"
    assert (await client("DELETE", PATH, {"name": "key", **there})).status == 202
    assert (await client("DELETE", PATH, {"name": "key", **there})).status == 404
    assert (await client("PUT", PATH, {"name": "key", "value": "x", **there})).status == 404


async def test_the_raw_value_is_base64_and_wins(client: Client, orchestrator: FakeOrchestrator) -> None:
    raw = bytes(range(256))
    body = {"name": "key", "value": "text", "rawValue": base64.b64encode(raw).decode()}
    assert (await client("POST", PATH, body)).status == 202
    assert orchestrator.secret("openfaas-fn", "key") == raw


async def test_no_answer_holds_a_value(client: Client) -> None:
    for method in ("POST", "PUT", "POST"):
        assert "hidden" not in (await client(method, PATH, {"name": "key", "value": "hidden"})).text
    assert "hidden" not in (await client("GET", PATH)).text


async def test_a_secret_in_use_stays(client: Client, orchestrator: FakeOrchestrator) -> None:
    await orchestrator.create_secret("openfaas-fn", "key", b"1")
    await orchestrator.apply(FunctionSpec(service="hello", image="x", secrets=("key",)))
    answer = await client("DELETE", PATH, {"name": "key"})
    assert answer.status == 409
    assert "hello.openfaas-fn" in answer.text


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"name": "", "value": "x"},
        {"name": "Upper", "value": "x"},
        {"name": "../../etc/passwd", "value": "x"},
        {"name": "a..b", "value": "x"},
        {"name": "key"},
        {"name": "key", "value": None},
        {"name": "key", "value": 5},
        {"name": "key", "rawValue": "not base64!"},
        {"name": "key", "value": "x", "namespace": "Upper"},
    ],
)
async def test_what_cannot_be_is_400(client: Client, orchestrator: FakeOrchestrator, body: dict[str, Any]) -> None:
    assert (await client("POST", PATH, body)).status == 400
    assert await orchestrator.secrets("openfaas-fn") == []


async def test_an_unknown_namespace_is_404(client: Client) -> None:
    assert (await client("GET", PATH + "?namespace=none")).status == 404
    assert (await client("POST", PATH, {"name": "a", "value": "b", "namespace": "none"})).status == 404


async def test_too_large_a_secret_says_how_large_it_may_be(client: Client) -> None:
    answer = await client("POST", PATH, {"name": "key", "value": "x" * (1 << 20)})
    assert answer.status == 413
    assert "1048576" in answer.text
