from __future__ import annotations

import asyncio
import json

import pytest

from gateway.monitor.monitor import Monitor
from orchestration.names import FunctionId
from orchestration.orchestrator import Namespace
from orchestration.spec import FunctionSpec
from tests.fakes.orchestrator import FakeOrchestrator
from tests.gateway.control.client import Client
from tests.gateway.control.conftest import until

HELLO = FunctionId("openfaas-fn", "hello")


@pytest.fixture
async def hello(orchestrator: FakeOrchestrator) -> FakeOrchestrator:
    """A function that wrote `line 0` … `line 4`, a second apart."""
    await orchestrator.apply(FunctionSpec(service="hello", image="x"))
    for number in range(5):
        await orchestrator.write(HELLO, f"line {number}", instance=f"r{number % 2}", at=1_700_000_000 + number)
    return orchestrator


async def texts(client: Client, query: str) -> list[str]:
    answer = await client("GET", f"/system/logs?{query}")
    assert answer.status == 200, answer
    assert answer.headers["content-type"] == "application/x-ndjson"
    return [line["text"] for line in answer.lines()]


async def test_a_line_carries_who_wrote_it_and_when(client: Client, hello: FakeOrchestrator) -> None:
    await hello.write(HELLO, "in a call", instance="r9", call_id="c1")
    answer = await client("GET", "/system/logs?name=hello&tail=1")
    assert answer.lines() == [
        {
            "name": "hello",
            "namespace": "openfaas-fn",
            "instance": "r9",
            "timestamp": "2023-11-14T22:13:20.000000000Z",
            "text": "in a call",
            "callId": "c1",
        }
    ]


@pytest.mark.parametrize(
    ("query", "numbers"),
    [
        ("", "01234"),
        ("&tail=2", "34"),
        ("&tail=0", "01234"),
        ("&tail=-1&follow=false", "01234"),
        ("&follow=0&instance=r1", "13"),
        ("&since=2023-11-14T22:13:22Z", "234"),
        ("&since=2023-11-14T23:13:22.5%2B01:00", "34"),
        ("&since=2023-11-14T22:13:22Z&tail=1", "4"),
    ],
)
async def test_which_lines(client: Client, hello: FakeOrchestrator, query: str, numbers: str) -> None:
    assert await texts(client, f"name=hello{query}") == [f"line {n}" for n in numbers]


async def test_one_call_only(client: Client, hello: FakeOrchestrator) -> None:
    for call in ("c1", "c2", "c1"):
        await hello.write(HELLO, f"of {call}", call_id=call)
    assert await texts(client, "name=hello&call=c1") == ["of c1", "of c1"]
    assert await texts(client, "name=hello&call=c1&tail=1") == ["of c1"]
    assert await texts(client, "name=hello&call=c3") == []


async def test_without_tail_and_since_old_lines_are_shown_but_not_without_end(client: Client, hello: FakeOrchestrator) -> None:
    for number in range(1100):
        await hello.write(HELLO, f"more {number}")
    shown = await texts(client, "name=hello")
    assert (len(shown), shown[-1]) == (1000, "more 1099")
    assert len(await texts(client, "name=hello&tail=-1")) == 1105


async def test_following_goes_on_line_by_line_and_frees_everything_when_the_reader_leaves(
    client: Client, hello: FakeOrchestrator
) -> None:
    async with client.stream("GET", "/system/logs?name=hello&follow=true&tail=1") as stream:
        assert stream.status == 200
        assert json.loads(await stream.chunk())["text"] == "line 4"
        await hello.write(HELLO, "new")
        assert json.loads(await stream.chunk())["text"] == "new"
        assert hello.open_streams == 1
    await until(lambda: hello.open_streams == 0)


async def test_who_follows_is_let_go_at_once_when_the_platform_stops(
    client: Client, hello: FakeOrchestrator, monitor: Monitor
) -> None:
    async with client.stream("GET", "/system/logs?name=hello&follow=true&tail=1") as stream:
        assert json.loads(await stream.chunk())["text"] == "line 4"
        monitor.dismiss()
        async with asyncio.timeout(20):
            assert await stream.chunk() == b""  # it ends as a whole answer does
        await until(lambda: not hello.open_streams)
    async with asyncio.timeout(20):
        assert (await client("GET", "/system/logs?name=hello&follow=true")).status == 200
    assert await texts(client, "name=hello&tail=1") == ["line 4"]


async def test_following_a_function_that_has_written_nothing_answers_at_once(
    client: Client, orchestrator: FakeOrchestrator
) -> None:
    await orchestrator.apply(FunctionSpec(service="hello", image="x"))
    async with client.stream("GET", "/system/logs?name=hello&follow=1") as stream:
        assert stream.status == 200
        await until(lambda: orchestrator.open_streams == 1)
        await orchestrator.write(HELLO, "first")
        assert json.loads(await stream.chunk())["text"] == "first"
    await until(lambda: orchestrator.open_streams == 0)


async def test_lines_outlive_the_function_but_an_unknown_one_is_404(client: Client, hello: FakeOrchestrator) -> None:
    await hello.remove(HELLO)
    for follow in ("true", "false"):
        assert await texts(client, f"name=hello&tail=1&follow={follow}") == ["line 4"]
    for follow in ("true", "false"):
        assert (await client("GET", f"/system/logs?name=unknown&follow={follow}")).status == 404
    assert hello.open_streams == 0


async def test_name_and_namespace(client: Client, hello: FakeOrchestrator) -> None:
    await hello.create_namespace(Namespace("dev"))
    await hello.apply(FunctionSpec(service="hello", image="x", namespace="dev"))
    await hello.write(FunctionId("dev", "hello"), "other")
    assert await texts(client, "name=hello&namespace=dev") == ["other"]
    assert await texts(client, "name=hello.dev") == ["other"]


@pytest.mark.parametrize(
    "query",
    [
        "",
        "name=",
        "name=hello&tail=x",
        "name=hello&tail=1.5",
        "name=hello&tail=99999999999999999999",
        "name=hello&follow=perhaps",
        "name=hello&since=yesterday",
        "name=hello&since=2023-11-14",
        "name=hello&since=2023-13-14T22:13:22Z",
        "name=hello&since=2023-11-14T22:13:22",
        "name=hello&namespace=N!",
    ],
)
async def test_what_cannot_be_is_400(client: Client, hello: FakeOrchestrator, query: str) -> None:
    assert (await client("GET", f"/system/logs?{query}")).status == 400
