"""Calls to a tagged revision, by header and by path."""

from __future__ import annotations

import msgspec
import pytest

from orchestration.events import FunctionChanged
from orchestration.names import FunctionId
from orchestration.rollout import deploy
from orchestration.spec import FunctionSpec
from orchestration.traffic import TrafficTarget
from tests.gateway.edge.lab import Lab, Origin, field


@pytest.fixture
async def origins(lab: Lab) -> tuple[Origin, Origin]:
    """Two revisions of `echo`; all calls go to the first, the second has the tag `green`."""
    first = lab.deploy("echo")
    old = await lab.replica(first)
    second = deploy(first, FunctionSpec(service="echo", image="other"), "sha256:b", 1.0)
    table = (TrafficTarget("echo-00001", 100), TrafficTarget("echo-00002", 0, "green"))
    second = msgspec.structs.replace(second, traffic=table)
    lab.edge.apply(FunctionChanged(second))
    new = await lab.replica(second)
    return old, new


@pytest.mark.parametrize(
    ("target", "extra"),
    [
        ("/function/echo--green/a?b", b""),
        ("/function/echo--green.openfaas-fn/a?b", b""),
        ("/function/echo/a?b", b"X-Pinnace-Tag: green\r\n"),
        ("/function/echo.openfaas-fn/a?b", b"x-pinnace-tag: green\r\n"),
        ("/function/echo--green/a?b", b"X-Pinnace-Tag: blue\r\n"),
    ],
)
async def test_a_tag_is_called(lab: Lab, origins: tuple[Origin, Origin], target: str, extra: bytes) -> None:
    client = await lab.client()
    for _ in range(3):
        status, _, body = await client.get(target, extra=extra)
        assert (status, body) == (200, b"ok")
    old, new = origins
    assert (len(old.heads), len(new.heads)) == (0, 3)
    assert new.heads[0].startswith(b"GET /a?b HTTP/1.1\r\n")


async def test_without_a_tag_calls_go_where_they_went(lab: Lab, origins: tuple[Origin, Origin]) -> None:
    client = await lab.client()
    for _ in range(3):
        assert (await client.get("/function/echo"))[0] == 200
    assert [len(origin.heads) for origin in origins] == [3, 0]


async def test_a_function_sees_the_tag_and_can_pass_it_on(lab: Lab, origins: tuple[Origin, Origin]) -> None:
    client = await lab.client()
    await client.get("/function/echo", extra=b"X-Pinnace-Tag: green\r\n")
    assert field(origins[1].heads[0], b"x-pinnace-tag") == b"green"


@pytest.mark.parametrize(("target", "extra"), [("/function/echo--blue", b""), ("/function/echo", b"X-Pinnace-Tag: blue\r\n")])
async def test_an_unknown_tag_is_not_found_and_says_which_there_are(
    lab: Lab, origins: tuple[Origin, Origin], target: str, extra: bytes
) -> None:
    client = await lab.client()
    status, _, body = await client.get(target, extra=extra)
    assert status == 404
    assert b"function echo.openfaas-fn has no tag 'blue': its tags are green" in body
    assert (await client.get("/function/echo"))[0] == 200, "the connection goes on"


async def test_a_tag_of_one_request_says_nothing_about_the_next(lab: Lab, origins: tuple[Origin, Origin]) -> None:
    client = await lab.client()
    await client.get("/function/echo", extra=b"X-Pinnace-Tag: green\r\n")
    await client.get("/function/echo")
    await client.get("/function/echo", extra=b"Connection: keep-alive\r\nExpect: 100-continue\r\n")
    assert [len(origin.heads) for origin in origins] == [2, 1]


async def test_calls_are_counted_by_revision_without_what_they_waited(lab: Lab, origins: tuple[Origin, Origin]) -> None:
    origins[1].response = b"HTTP/1.1 500 Oh\r\nContent-Length: 0\r\n\r\n"
    client = await lab.client()
    for extra in (b"", b"", b"X-Pinnace-Tag: green\r\n"):
        await client.get(extra=extra)
    await origins[1].stop()
    await client.get("/function/echo--green")
    counted = {revision: tally.codes for (_, revision), tally in lab.edge.revisions().items()}
    assert counted == {"echo-00001": {200: 2}, "echo-00002": {500: 1, 502: 1}}
    assert lab.edge.counts()[FunctionId("openfaas-fn", "echo")] == 4, "the function's own figures are of all of them"
