"""What OpenFaaS's certifier demands of a provider, as far as the API alone can show it."""

from __future__ import annotations

from typing import Any

import pytest

from orchestration.names import FunctionId
from orchestration.orchestrator import Namespace
from tests.fakes.orchestrator import FakeOrchestrator
from tests.gateway.control.client import Client

NAMESPACES = ["openfaas-fn", "certifier-test"]


@pytest.fixture(autouse=True)
async def namespaces(orchestrator: FakeOrchestrator) -> None:
    await orchestrator.create_namespace(Namespace("certifier-test"))


def deployment(namespace: str, **more: Any) -> dict[str, Any]:
    """As the certifier sends it: the default namespace goes unnamed, annotations are null when there are none."""
    named = {} if namespace == "openfaas-fn" else {"namespace": namespace}
    return (
        {"service": "stronghash", "image": "functions/alpine:latest", "envProcess": "sha512sum", "annotations": None}
        | named
        | more
    )


@pytest.mark.parametrize("namespace", NAMESPACES)
@pytest.mark.parametrize(
    "more",
    [
        {},
        {"labels": {"upstream_api": "example.com"}},
        {"annotations": {"important-date": "Fri Aug 10 08:21:00 BST 2018", "some_json": '{\n  "key": "value"\n}'}},
        {"limits": {"memory": "5Mi", "cpu": "100m"}, "requests": {"memory": "5Mi", "cpu": "100m"}},
    ],
)
async def test_deploy_metadata(client: Client, namespace: str, more: dict[str, Any]) -> None:
    assert (await client("POST", "/system/functions", deployment(namespace, **more))).status in (200, 202)
    listed = (await client("GET", f"/system/functions?namespace={namespace}")).json()
    shown = (await client("GET", f"/system/function/stronghash?namespace={namespace}")).json()
    assert [f["name"] for f in listed] == ["stronghash"]
    for found in (listed[0], shown):
        assert found["image"] == "functions/alpine:latest"
        assert found["namespace"] == namespace
        assert found["envProcess"] == "sha512sum"
        assert found["labels"] == {**more.get("labels", {}), "faas_function": "stronghash"}
        assert found["annotations"] == more.get("annotations", {})
        for absent in ("limits", "requests"):
            assert found.get(absent) == more.get(absent)
        assert "envVars" not in found


async def test_list_namespaces(client: Client) -> None:
    assert sorted((await client("GET", "/system/namespaces")).json()) == sorted(NAMESPACES)


async def test_health_and_provider_info(client: Client) -> None:
    assert (await client("GET", "/healthz", login=False)).status == 200
    provider = (await client("GET", "/system/info")).json()["provider"]
    assert all([provider["provider"], provider["orchestration"], provider["version"]["release"], provider["version"]["sha"]])


async def test_logs_without_follow_tail_and_since_end(client: Client, orchestrator: FakeOrchestrator) -> None:
    await client("POST", "/system/functions", deployment("openfaas-fn"))
    await orchestrator.write(FunctionId("openfaas-fn", "stronghash"), "2023/11/14 22:13:20 Forking fprocess.")
    answer = await client("GET", "/system/logs?name=stronghash&follow=false")
    assert [(line["name"], line["text"]) for line in answer.lines()] == [
        ("stronghash", "2023/11/14 22:13:20 Forking fprocess.")
    ]


async def test_scale_minimum_is_seen_on_the_very_next_read(client: Client) -> None:
    labels = {"com.openfaas.scale.min": "2", "com.openfaas.scale.max": "4"}
    await client("POST", "/system/functions", deployment("openfaas-fn", labels=labels))
    assert (await client("GET", "/system/function/stronghash")).json()["replicas"] == 2


async def test_scale_to_zero_is_accepted_and_seen_on_the_next_read(client: Client) -> None:
    await client("POST", "/system/functions", deployment("openfaas-fn"))
    body = {"serviceName": "stronghash", "replicas": 0}
    assert (await client("POST", "/system/scale-function/stronghash", body)).status in (200, 202)
    assert (await client("GET", "/system/function/stronghash")).json().get("replicas", 0) == 0


@pytest.mark.parametrize("namespace", NAMESPACES)
@pytest.mark.parametrize("value", [{"value": "this-is-the-secret-value"}, {"rawValue": "dGhpcy1pcw=="}])
async def test_secret_crud(client: Client, namespace: str, value: dict[str, str]) -> None:
    secret = {"name": "secret-api-test-key", "namespace": namespace}
    assert (await client("GET", f"/system/secrets?namespace={namespace}")).json() == []
    assert (await client("POST", "/system/secrets", secret | value)).status in (200, 201, 202)
    assert (await client("GET", f"/system/secrets?namespace={namespace}")).json() == [secret]
    function = deployment(namespace, secrets=["secret-api-test-key"])
    assert (await client("POST", "/system/functions", function)).status in (200, 202)
    assert (await client("PUT", "/system/secrets", secret | {"value": "newer"})).status in (200, 202)
    assert (await client("PUT", "/system/functions", function)).status in (200, 202)
    removal = {"functionName": "stronghash", "namespace": namespace}
    assert (await client("DELETE", f"/system/functions?namespace={namespace}", removal)).status in (200, 202)
    assert (await client("DELETE", f"/system/secrets?namespace={namespace}", secret)).status in (200, 202)
