from __future__ import annotations

import json
from typing import Any

import pytest

from orchestration.names import FunctionId
from orchestration.orchestrator import Namespace, Usage
from tests.fakes.orchestrator import FakeOrchestrator
from tests.gateway.control.client import Answer, Client

HELLO = {"service": "hello", "image": "example/hello:1"}
HELLO_ID = FunctionId("openfaas-fn", "hello")


async def deploy(client: Client, **more: Any) -> None:
    answer = await client("POST", "/system/functions", HELLO | more)
    assert answer.status == 202, answer


async def status(client: Client, name: str = "hello", query: str = "") -> dict[str, Any]:
    answer = await client("GET", f"/system/function/{name}{query}")
    assert answer.status == 200, answer
    found: dict[str, Any] = answer.json()
    return found


async def test_put_of_an_unknown_function_is_404_and_the_same_body_as_post_deploys_it(client: Client) -> None:
    assert (await client("PUT", "/system/functions", HELLO)).status == 404
    answer = await client("POST", "/system/functions", HELLO)
    assert answer.status == 202
    assert answer.json() == {"name": "hello", "namespace": "openfaas-fn", "generation": 1, "revision": "hello-00001"}
    assert (await client("PUT", "/system/functions", HELLO)).json()["generation"] == 2


async def test_post_of_a_function_that_exists_is_409(client: Client) -> None:
    await deploy(client)
    answer = await client("POST", "/system/functions", HELLO)
    assert answer.status == 409
    assert "hello.openfaas-fn" in answer.text


async def test_a_deploy_reads_back_whole(client: Client, orchestrator: FakeOrchestrator) -> None:
    await orchestrator.create_secret("openfaas-fn", "key", b"1")
    sent = {
        "envProcess": "python index.py",
        "envVars": {"A": "1", "EMPTY": ""},
        "constraints": ["node=x"],
        "secrets": ["key"],
        "labels": {"team": "red"},
        "annotations": {"note": '{\n "json": "over lines"\n}'},
        "limits": {"memory": "5Mi", "cpu": "100m"},
        "requests": {"cpu": "50m"},
        "readOnlyRootFilesystem": True,
    }
    await deploy(client, **sent)
    assert await status(client) == sent | {
        "name": "hello",
        "image": "example/hello:1",
        "namespace": "openfaas-fn",
        "labels": {"team": "red", "faas_function": "hello"},
        "replicas": 1,
        "availableReplicas": 1,
        "createdAt": "2023-11-14T22:13:20Z",
    }


async def test_what_was_not_set_is_absent_and_labels_and_annotations_are_objects(client: Client) -> None:
    await deploy(client)
    shown = await status(client)
    assert shown["labels"] == {"faas_function": "hello"}
    assert shown["annotations"] == {}
    assert not {"limits", "requests", "envVars", "envProcess", "secrets", "constraints", "usage"} & set(shown)
    assert not {"readOnlyRootFilesystem", "invocationCount"} & set(shown)


async def test_nulls_are_what_is_absent_and_unknown_keys_are_ignored(client: Client) -> None:
    await deploy(client, annotations=None, labels=None, envVars=None, limits=None, namespace=None, network="x", registryAuth=1)
    assert (await status(client))["annotations"] == {}


async def test_keys_are_case_insensitive_and_the_last_one_counts(client: Client) -> None:
    body = '{"SERVICE": "hello", "Image": "a", "image": "b", "LIMITS": {"Memory": "5Mi"}, "envvars": {"Kept": "As Is"}}'
    assert (await client("POST", "/system/functions", body)).status == 202
    shown = await status(client)
    assert shown["image"] == "b"
    assert shown["limits"] == {"memory": "5Mi"}
    assert shown["envVars"] == {"Kept": "As Is"}


async def test_a_status_sent_back_makes_no_new_revision(client: Client, orchestrator: FakeOrchestrator) -> None:
    await deploy(client, labels={"a": "b"})
    labels = (await status(client))["labels"]
    answer = await client("PUT", "/system/functions", HELLO | {"labels": labels})
    assert answer.json()["revision"] == "hello-00001"


async def test_list_shows_the_namespace_with_counts_of_invocations(
    client: Client, orchestrator: FakeOrchestrator, invocations: dict[FunctionId, int]
) -> None:
    await orchestrator.create_namespace(Namespace("dev"))
    await deploy(client)
    await deploy(client, service="other")
    await deploy(client, service="hello", namespace="dev")
    invocations[HELLO_ID] = 3
    listed = (await client("GET", "/system/functions")).json()
    assert [(f["name"], f["invocationCount"], f["namespace"]) for f in listed] == [
        ("hello", 3, "openfaas-fn"),
        ("other", 0, "openfaas-fn"),
    ]
    assert [f["namespace"] for f in (await client("GET", "/system/functions?namespace=dev")).json()] == ["dev"]
    assert (await client("GET", "/system/functions?namespace=")).json() == listed
    assert (await client("GET", "/system/functions?namespace=none")).status == 404
    assert (await client("GET", "/system/functions?namespace=N!")).status == 400


async def test_the_namespace_of_the_body_counts_before_that_of_the_query(
    client: Client, orchestrator: FakeOrchestrator
) -> None:
    for name in ("one", "two"):
        await orchestrator.create_namespace(Namespace(name))
    assert (await client("POST", "/system/functions?namespace=one", HELLO | {"namespace": "two"})).status == 202
    assert (await client("POST", "/system/functions?namespace=one", HELLO)).status == 202
    assert [len(orchestrator.statuses(n)) for n in ("one", "two", "openfaas-fn")] == [1, 1, 0]
    assert (await client("DELETE", "/system/functions?namespace=two", {"functionName": "hello"})).status == 202
    assert (
        await client("DELETE", "/system/functions?namespace=two", {"functionName": "hello", "namespace": "one"})
    ).status == 202
    assert [len(orchestrator.statuses(n)) for n in ("one", "two")] == [0, 0]


async def test_delete_is_202_and_404_when_it_is_gone(client: Client) -> None:
    await deploy(client)
    assert (await client("DELETE", "/system/functions", {"functionName": "hello"})).status == 202
    assert (await client("DELETE", "/system/functions", {"functionName": "hello"})).status == 404
    assert (await client("DELETE", "/system/functions", {"functionName": ""})).status == 400
    assert (await client("DELETE", "/system/functions")).status == 400
    assert (await client("GET", "/system/function/hello")).status == 404


async def test_status_finds_name_dot_namespace_and_tells_usage_when_asked(
    client: Client, orchestrator: FakeOrchestrator
) -> None:
    await orchestrator.create_namespace(Namespace("dev"))
    await deploy(client, namespace="dev")
    orchestrator.usages[FunctionId("dev", "hello")] = Usage(12.5, 1048576.0)
    assert (await status(client, "hello.dev"))["namespace"] == "dev"
    assert "usage" not in await status(client, query="?namespace=dev&usage=0")
    for asked in ("1", "true"):
        shown = await status(client, query=f"?namespace=dev&usage={asked}")
        assert shown["usage"] == {"cpu": 12.5, "totalMemoryBytes": 1048576.0}


async def test_scale_is_seen_by_the_next_read_and_zero_is_taken(client: Client) -> None:
    await deploy(client)
    for replicas in (2, 0, 3):
        answer = await client("POST", "/system/scale-function/hello", {"serviceName": "hello", "replicas": replicas})
        assert answer.status == 202
        assert (await status(client))["replicas"] == replicas


@pytest.mark.parametrize(("asked", "got"), [(1, 2), (2, 2), (5, 4), (0, 0)])
async def test_scale_stays_in_the_bounds_of_the_labels_and_says_so(client: Client, asked: int, got: int) -> None:
    await deploy(client, labels={"com.openfaas.scale.min": "2", "com.openfaas.scale.max": "4"})
    answer = await client("POST", "/system/scale-function/hello", {"replicas": asked})
    assert answer.status == 202
    assert (await status(client))["replicas"] == got
    assert (f"{got} replicas, not {asked}: com.openfaas.scale." in answer.text) == (asked != got)


async def test_scale_refuses_what_cannot_be(client: Client) -> None:
    path = "/system/scale-function/hello"
    assert (await client("POST", path, {"replicas": 1})).status == 404
    await deploy(client)
    for body in ({}, {"replicas": -1}, {"replicas": 1.5}, {"replicas": "1"}, {"replicas": 10_001}, {"replicas": True}):
        assert (await client("POST", path, body)).status == 400, body
    assert (await client("POST", path, {"serviceName": "other", "replicas": 1})).status == 400


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({"service": ""}, "needs a name"),
        ({"service": "Hello"}, "a-z, 0-9"),
        ({"service": "a--b"}, "'--'"),
        ({"service": "x" * 51}, "at most 50"),
        ({"image": ""}, "image"),
        ({"image": "a b"}, "image"),
        ({"namespace": "N"}, "namespace 'N'"),
        ({"envVars": {"A=B": "1"}}, "'A=B'"),
        ({"envVars": {"": "1"}}, "not empty"),
        ({"envVars": {"A": "\0"}}, "NUL"),
        ({"envVars": {"A\0": "1"}}, "NUL"),
        ({"envVars": {"A": 1}}, "$.envVars"),
        ({"labels": {"": "x"}}, "empty key"),
        ({"labels": ["a"]}, "$.labels"),
        ({"labels": {"com.openfaas.scale.min": "3", "com.openfaas.scale.max": "2"}}, "above"),
        ({"labels": {"com.openfaas.scale.zero": "maybe"}}, "true or false"),
        (
            {"annotations": {"topic": "cron-function", "schedule": "61 * * * *"}},
            "expression 1 '61 * * * *': the minute cannot be",
        ),
        ({"annotations": {"com.pinnace.events": "type"}}, "com.pinnace.events: 'type' is no condition"),
        ({"limits": {"memory": "lots"}}, "'lots'"),
        ({"limits": {"memory": "128m"}}, "did you mean 128Mi"),
        ({"requests": {"cpu": "0"}}, "cpu"),
        ({"secrets": ["Bad_Name"]}, "secret name"),
        ({"secrets": ["missing"]}, "'missing'"),
        ({"image": "nobody/built"}, "build it first"),
    ],
)
async def test_a_deploy_that_cannot_be_is_400_in_one_line_and_deploys_nothing(
    client: Client, orchestrator: FakeOrchestrator, more: dict[str, Any], words: str
) -> None:
    orchestrator.unknown_images.add("nobody/built")
    answer = await client("POST", "/system/functions", HELLO | more)
    assert answer.status == 400
    assert words in answer.text
    assert answer.text.count("\n") == 1
    assert answer.headers["content-type"].startswith("text/plain")
    assert orchestrator.statuses("openfaas-fn") == []


async def test_a_deploy_without_a_service_or_image_says_which(client: Client) -> None:
    for missing in HELLO:
        answer = await client("POST", "/system/functions", {k: v for k, v in HELLO.items() if k != missing})
        assert answer.status == 400
        assert missing in answer.text


async def test_an_unknown_namespace_is_404(client: Client) -> None:
    answer = await client("POST", "/system/functions", HELLO | {"namespace": "nowhere"})
    assert answer.status == 404
    assert "nowhere" in answer.text


async def test_head_is_answered_where_get_is(client: Client) -> None:
    await deploy(client)
    for path in ("/system/functions", "/system/function/hello", "/healthz", "/system/info", "/system/logs?name=hello&follow=1"):
        answer: Answer = await client("HEAD", path)
        assert (answer.status, answer.body) == (200, b""), path


async def test_bodies_of_go_clients_need_no_content_type(client: Client) -> None:
    for kind in ("", "application/octet-stream", "text/plain", "nonsense"):
        body = json.dumps(HELLO | {"service": f"f{len(kind)}"})
        headers = {"User-Agent": "Go-http-client/1.1"} | ({"Content-Type": kind} if kind else {})
        assert (await client("POST", "/system/functions", body, headers)).status == 202, kind
