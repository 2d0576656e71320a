"""The whole edge between real sockets."""

from __future__ import annotations

from orchestration.replica import ReplicaState
from tests.gateway.edge.lab import Lab, eventually, field


async def test_a_call_reaches_the_function_without_the_prefix(lab: Lab) -> None:
    origin = await lab.replica(lab.deploy("echo"))
    client = await lab.client()
    status, head, body = await client.get("/function/echo/a%2Fb//c?x=%20&y")
    assert (status, body) == (200, b"ok")
    assert origin.heads[0].startswith(b"GET /a%2Fb//c?x=%20&y HTTP/1.1\r\nHost: h\r\n")
    assert field(head, b"x-call-id") == field(origin.heads[0], b"x-call-id")
    assert field(head, b"x-start-time") == field(origin.heads[0], b"x-start-time")
    assert float(field(head, b"x-duration-seconds") or "nan") >= 0


async def test_other_paths_go_to_the_control_api(lab: Lab) -> None:
    client = await lab.client()
    status, _, body = await client.get("/system/functions?namespace=x")
    assert (status, body) == (200, b"control")
    assert lab.control.heads[0].startswith(b"GET /system/functions?namespace=x HTTP/1.1\r\n")
    assert field(lab.control.heads[0], b"x-forwarded-for") == b"127.0.0.1"


async def test_a_call_at_zero_waits_for_the_first_replica(lab: Lab) -> None:
    function = lab.deploy("echo")
    client = await lab.client()
    client.send(b"GET /function/echo HTTP/1.1\r\nHost: h\r\n\r\n")
    await eventually(lambda: lab.samples)
    assert (lab.samples[0].queued, lab.samples[0].in_flight, lab.samples[0].arrivals) == (1, 0, 1)
    await lab.replica(function)
    assert (await client.response())[2] == b"ok"


async def test_a_draining_replica_is_released_when_its_calls_have_ended(lab: Lab) -> None:
    function = lab.deploy("echo")
    await lab.replica(function)
    client = await lab.client()
    await client.get()
    lab.tell(function, "r0", ReplicaState.DRAINING)
    assert lab.released == ["r0"]
