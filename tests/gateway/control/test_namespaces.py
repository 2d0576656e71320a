from __future__ import annotations

import pytest

from orchestration.spec import FunctionSpec
from tests.fakes.orchestrator import FakeOrchestrator
from tests.gateway.control.client import Client

MARK = {"openfaas": "1"}


@pytest.mark.parametrize("path", ["/system/namespace/", "/system/namespaces/"])
async def test_make_show_change_remove(client: Client, path: str) -> None:
    body = {"name": "dev", "labels": MARK, "annotations": MARK}
    assert (await client("POST", path, body)).status == 201
    assert (await client("POST", path, body)).status == 409
    assert (await client("GET", f"{path}dev")).json() == body
    assert (await client("GET", "/system/namespaces")).json() == ["dev", "openfaas-fn"]
    assert (await client("PUT", f"{path}dev", body | {"labels": {"a": "b"}, "annotations": None})).status == 202
    assert (await client("GET", f"{path}dev")).json() == {"name": "dev", "labels": {"a": "b"}, "annotations": {}}
    assert (await client("DELETE", f"{path}dev", {"name": "dev", "labels": MARK})).status == 202
    assert (await client("GET", f"{path}dev")).status == 404
    assert (await client("PUT", f"{path}dev", body)).status == 404
    assert (await client("DELETE", f"{path}dev")).status == 404


async def test_the_name_in_the_body_is_the_one_in_the_path(client: Client) -> None:
    for method in ("PUT", "DELETE"):
        answer = await client(method, "/system/namespace/openfaas-fn", {"name": "dev"})
        assert answer.status == 400
        assert "'dev'" in answer.text


async def test_the_default_one_and_one_that_holds_functions_stay(client: Client, orchestrator: FakeOrchestrator) -> None:
    assert (await client("DELETE", "/system/namespace/openfaas-fn")).status == 409
    assert (await client("POST", "/system/namespace/", {"name": "dev"})).status == 201
    await orchestrator.apply(FunctionSpec(service="hello", image="x", namespace="dev"))
    assert (await client("DELETE", "/system/namespace/dev")).status == 409


@pytest.mark.parametrize("name", ["", "Dev", "a.b", "-a", "x" * 64])
async def test_a_name_that_cannot_be_is_400(client: Client, name: str) -> None:
    assert (await client("POST", "/system/namespace/", {"name": name})).status == 400


async def test_an_empty_key_is_400(client: Client) -> None:
    assert (await client("POST", "/system/namespace/", {"name": "dev", "labels": {"": "x"}})).status == 400
