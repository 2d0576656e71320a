"""Where calls go, as clients read and set it."""

from __future__ import annotations

import json

import pytest

from orchestration.spec import FunctionSpec
from tests.fakes.orchestrator import FakeOrchestrator
from tests.gateway.control.client import Client

PATH = "/api/v1/functions/hello"


@pytest.fixture
async def two(orchestrator: FakeOrchestrator) -> FakeOrchestrator:
    """Two revisions, the newer one serves."""
    for number in (1, 2):
        await orchestrator.apply(FunctionSpec(service="hello", image=f"example/hello:{number}"))
    return orchestrator


def table(*targets: tuple[str, int] | tuple[str, int, str]) -> bytes:
    words = ("revision", "percent", "tag")
    return json.dumps({"traffic": [dict(zip(words, target, strict=False)) for target in targets]}).encode()


async def test_a_table_is_read_set_and_shown(client: Client, two: FakeOrchestrator) -> None:
    told = await client("GET", f"{PATH}/traffic")
    assert told.json() == {
        "name": "hello",
        "namespace": "openfaas-fn",
        "traffic": [{"revision": "@latest", "percent": 100}],
        "routed": [{"revision": "hello-00002", "percent": 100}],
        "latest": "hello-00002",
        "rollout": None,
    }
    split = table(("hello-00001", 90), ("@latest", 10, "next"))
    answer = await client("PUT", f"{PATH}/traffic", body=split)
    assert answer.status == 200
    assert answer.json()["routed"] == [
        {"revision": "hello-00001", "percent": 90},
        {"revision": "hello-00002", "percent": 10, "tag": "next"},
    ]
    assert (await client("GET", f"{PATH}/traffic")).json() == answer.json()
    details = (await client("GET", PATH)).json()
    shown = [(r["name"], r["percent"], r["tags"], r["latest"]) for r in details["revisions"]]
    assert shown == [("hello-00001", 90, [], False), ("hello-00002", 10, ["next"], True)]


async def test_who_has_not_seen_the_present_table_is_refused(client: Client, two: FakeOrchestrator) -> None:
    seen = (await client("GET", f"{PATH}/traffic")).headers["etag"]
    body = table(("hello-00001", 100))
    assert (await client("PUT", f"{PATH}/traffic", body=body, headers={"If-Match": seen})).status == 200
    late = await client("PUT", f"{PATH}/traffic", body=table(("hello-00002", 100)), headers={"If-Match": seen})
    assert late.status == 412
    assert "changed meanwhile" in late.text
    assert (await client("PUT", f"{PATH}/traffic", body=body, headers={"If-Match": "*"})).status == 200
    assert (await client("PUT", f"{PATH}/traffic", body=body)).status == 200, "without it the last writer wins"


async def test_going_back_and_following_the_newest_again(client: Client, two: FakeOrchestrator) -> None:
    back = await client("POST", f"{PATH}/rollback", body=b"{}")
    assert back.json()["traffic"] == [{"revision": "hello-00001", "percent": 100}]
    nothing = await client("POST", f"{PATH}/rollback", body=b"{}")
    assert (nothing.status, "nothing to go back to" in nothing.text) == (409, True)
    there = await client("POST", f"{PATH}/rollback", body=b'{"to": "hello-00002"}')
    assert there.json()["routed"] == [{"revision": "hello-00002", "percent": 100}]
    assert (await client("POST", f"{PATH}/promote")).json()["traffic"] == [{"revision": "@latest", "percent": 100}]
    two.failures["hello-00002"] = "hello-00002: it does not start"
    failed = await client("POST", f"{PATH}/promote")
    assert (failed.status, "it does not start" in failed.text) == (409, True)


REFUSED = {
    "unknown revision": (table(("hello-00009", 100)), 400, "hello-00001, hello-00002 are kept"),
    "not all": (table(("hello-00001", 99)), 400, "come to 99"),
    "a tag twice": (table(("hello-00001", 100, "x"), ("hello-00002", 0, "x")), 400, "given twice"),
    "no table": (b"{}", 400, "traffic"),
    "words": (b'{"traffic": [{"revision": "@latest", "percent": "all"}]}', 400, "percent"),
}


@pytest.mark.parametrize("case", REFUSED)
async def test_what_cannot_be_is_refused_in_words(client: Client, two: FakeOrchestrator, case: str) -> None:
    body, status, told = REFUSED[case]
    answer = await client("PUT", f"{PATH}/traffic", body=body)
    assert (answer.status, told in answer.text) == (status, True), answer.text


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("GET", "traffic", b""),
        ("PUT", "traffic", table(("@latest", 100))),
        ("POST", "rollback", b"{}"),
        ("POST", "promote", b""),
    ],
)
async def test_a_function_that_is_not_there(client: Client, method: str, path: str, body: bytes) -> None:
    assert (await client(method, f"{PATH}/{path}", body=body)).status == 404


async def test_a_gradual_rollout_says_where_it_is(client: Client, two: FakeOrchestrator) -> None:
    gradual = {"com.pinnace.rollout.duration": "10m"}
    await two.apply(FunctionSpec(service="hello", image="example/hello:3", annotations=gradual))
    rollout = {"revision": "hello-00003", "step": 0, "percent": 5, "since": "2023-11-14T22:13:20Z"}
    assert (await client("GET", f"{PATH}/traffic")).json()["rollout"] == rollout
    waited = await client("GET", f"{PATH}?wait=30s&generation=3")
    assert waited.json()["rollout"] == rollout, "nobody waits for its end"


@pytest.mark.parametrize(
    ("key", "text"),
    [
        ("com.pinnace.rollout.duration", "soon"),
        ("com.pinnace.rollout.steps", "50,25"),
        ("com.pinnace.rollout.abort-on", "rain"),
        ("com.pinnace.revisions.keep", "0"),
    ],
)
async def test_a_deploy_with_settings_of_rollouts_that_cannot_be_is_refused(client: Client, key: str, text: str) -> None:
    body = {"service": "hello", "image": "example/hello", "annotations": {key: text}}
    answer = await client("POST", "/system/functions", body=body)
    assert (answer.status, key in answer.text) == (400, True)
