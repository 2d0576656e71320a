"""Many calls at once: bounded, in order, and no burden to others. `benchmarks/invocation_limits.py` does it in earnest."""

from __future__ import annotations

import asyncio

from orchestration.names import FunctionId
from tests.gateway.edge.conftest import MakeLab
from tests.gateway.edge.lab import Lab, Origin, eventually, field, read_request

MANY = 300
ECHO = FunctionId("openfaas-fn", "echo")


async def test_calls_waiting_at_zero_are_bounded_and_served_in_order(make_lab: MakeLab) -> None:
    lab = await make_lab(queue_calls=MANY)
    function = lab.deploy("echo", max_inflight="1")
    clients = [await lab.client() for _ in range(MANY)]
    for number, client in enumerate(clients):
        client.send(b"GET /function/echo/%d HTTP/1.1\r\nHost: h\r\n\r\n" % number)
        expected = number + 1
        await eventually(lambda: lab.edge.waiting()[ECHO] == expected)  # noqa: B023
    one_more = await lab.client()
    status, head, _ = await one_more.get()
    assert (status, field(head, b"retry-after")) == (503, b"1")
    assert lab.edge.waiting()[ECHO] == MANY
    origin = await lab.replica(function)
    assert [(await client.response())[0] for client in clients] == [200] * MANY
    assert [head.split(b" ")[1] for head in origin.heads] == [b"/%d" % number for number in range(MANY)]
    assert origin.connections == 1


async def test_a_function_whose_calls_queue_up_does_not_hold_up_another(lab: Lab) -> None:
    gate = asyncio.Event()

    async def gated(origin: Origin, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while (await read_request(reader))[0]:
            await gate.wait()
            writer.write(origin.response)

    await lab.replica(lab.deploy("echo", max_inflight="2"), gated)
    await lab.replica(lab.deploy("bystander", max_inflight="2"))
    flood = [await lab.client() for _ in range(MANY)]
    for client in flood:
        client.send(b"GET /function/echo HTTP/1.1\r\nHost: h\r\n\r\n")
    await eventually(lambda: lab.edge.waiting()[ECHO] == MANY - 2)
    bystander = await lab.client()
    for _ in range(20):
        assert (await bystander.get("/function/bystander"))[0] == 200
    assert (lab.edge.in_flight()[ECHO], lab.edge.waiting()[ECHO]) == (2, MANY - 2)
    gate.set()
    assert [(await client.response())[0] for client in flood] == [200] * MANY
