"""What becomes of a call when something goes wrong, and when a client or a replica is slow."""

from __future__ import annotations

import asyncio

import pytest

from gateway.edge.figures import EdgeFigures
from orchestration.events import FunctionChanged, FunctionRemoved
from orchestration.names import FunctionId
from orchestration.replica import Endpoint, ReplicaState
from orchestration.rollout import promote
from tests.gateway.edge.conftest import MakeLab
from tests.gateway.edge.lab import Client, Lab, Origin, answer_ok, eventually, field, read_request

GET = b"GET /function/echo HTTP/1.1\r\nHost: h\r\n\r\n"
POST = b"POST /function/echo HTTP/1.1\r\nHost: h\r\nContent-Length: 2\r\n\r\nab"
ECHO = FunctionId("openfaas-fn", "echo")


async def never(origin: Origin, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Read requests and answer none."""
    while (request := await read_request(reader))[0]:
        origin.heads.append(request[0])


async def closes(origin: Origin, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Read one request, then close."""
    origin.heads.append((await read_request(reader))[0])


async def closes_second(origin: Origin, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Answer the first request of each connection, close at the second."""
    await read_request(reader)
    writer.write(origin.response)
    origin.heads.append((await read_request(reader))[0])


async def breaks_off(origin: Origin, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Promise ten bytes and close after two."""
    await read_request(reader)
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nab")
    await writer.drain()


@pytest.mark.parametrize("name", ["nope", "echo.other", "", "echo.", ".openfaas-fn"])
async def test_unknown_functions_are_not_found(lab: Lab, name: str) -> None:
    await lab.replica(lab.deploy("echo"))
    client = await lab.client()
    status, head, body = await client.get(f"/function/{name}")
    full = name if "." in name else f"{name}.openfaas-fn"
    why = "no function is named: the path is /function/NAME" if full.startswith(".") else f"function {full} not found\n"
    assert status == 404 and body.startswith(why.encode())
    assert field(head, b"x-openfaas-internal") == b"gateway"
    assert field(head, b"x-call-id")
    assert (await client.get())[0] == 200  # the connection goes on


async def test_a_refused_small_body_leaves_the_connection_usable(lab: Lab) -> None:
    await lab.replica(lab.deploy("echo"))
    client = await lab.client()
    client.send(b"POST /function/nope HTTP/1.1\r\nHost: h\r\nContent-Length: 2\r\n\r\nab")
    assert (await client.response())[0] == 404
    assert (await client.get())[0] == 200


async def test_asynchronous_calls_are_refused_in_words(lab: Lab) -> None:
    client = await lab.client()
    status, _, body = await client.get("/async-function/echo")
    assert (status, body.count(b"\n")) == (501, 1)
    assert lab.control.heads == []


async def test_a_replica_that_closes_early_is_a_bad_gateway_with_a_reason(lab: Lab) -> None:
    await lab.replica(lab.deploy("echo"), closes)
    client = await lab.client()
    client.send(POST)
    status, _, body = await client.response()
    assert status == 502
    assert b"closed the connection without an answer" in body


async def test_a_stale_connection_costs_an_idempotent_call_nothing(lab: Lab) -> None:
    origin = await lab.replica(lab.deploy("echo"), closes_second)
    client = await lab.client()
    assert (await client.get())[0] == 200
    assert (await client.get())[0] == 200
    assert origin.connections == 2


async def test_a_call_that_may_have_had_an_effect_is_not_repeated(lab: Lab) -> None:
    origin = await lab.replica(lab.deploy("echo"), closes_second)
    client = await lab.client()
    assert (await client.get())[0] == 200
    client.send(POST)
    assert (await client.response())[0] == 502
    assert origin.connections == 1


async def test_calls_go_to_another_replica_when_one_cannot_be_reached(lab: Lab) -> None:
    function = lab.deploy("echo")
    client = await lab.client()
    lab.tell(function, "gone", ReplicaState.RUNNING, Endpoint(unix=str(lab.folder / "gone")))
    await lab.replica(function)
    client.send(POST)
    assert (await client.response())[2] == b"ok"


async def test_a_replica_that_stays_out_of_reach_is_a_bad_gateway_with_a_reason(lab: Lab) -> None:
    function = lab.deploy("echo")
    lab.tell(function, "gone", ReplicaState.RUNNING, Endpoint(unix=str(lab.folder / "gone")))
    client = await lab.client()
    status, _, body = await client.get()
    assert status == 502
    assert b"cannot reach the replica" in body


async def test_a_call_for_a_replica_that_is_gone_waits_for_the_next(lab: Lab) -> None:
    function = lab.deploy("echo")
    lab.tell(function, "gone", ReplicaState.RUNNING, Endpoint(unix=str(lab.folder / "gone")))
    client = await lab.client()
    client.send(GET)
    await eventually(lambda: lab.samples)
    lab.tell(function, "gone", ReplicaState.STOPPED)
    await lab.replica(function)
    assert (await client.response())[2] == b"ok"


async def test_the_runtimes_own_refusal_is_tried_again(lab: Lab) -> None:
    async def refuses_once(origin: Origin, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if origin.connections > 1:
            await answer_ok(origin, reader, writer)
        else:
            await read_request(reader)
            writer.write(b"HTTP/1.1 429 Too Many\r\nX-OpenFaaS-Internal: runtime\r\nContent-Length: 4\r\n\r\nbusy")
            await writer.drain()

    origin = await lab.replica(lab.deploy("echo"), refuses_once)
    client = await lab.client()
    client.send(POST)
    assert (await client.response())[2] == b"ok"
    assert origin.bodies == [b"ab"]


async def test_a_call_waits_as_long_as_the_runtime_has_no_place_for_it(lab: Lab) -> None:
    async def refuses_often(origin: Origin, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while origin.connections <= 4 and (await read_request(reader))[0]:
            writer.write(b"HTTP/1.1 429 Too Many\r\nX-OpenFaaS-Internal: runtime\r\nContent-Length: 4\r\n\r\nbusy")
        await answer_ok(origin, reader, writer)

    origin = await lab.replica(lab.deploy("echo", max_inflight="1"), refuses_often)
    client = await lab.client()
    client.send(POST)
    assert (await client.response())[2] == b"ok"
    assert origin.connections == 5


@pytest.mark.parametrize("method", [b"GET", b"HEAD"])
async def test_nothing_of_the_runtimes_refusal_reaches_the_client(lab: Lab, method: bytes) -> None:
    async def refuses_the_second(origin: Origin, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while (head := (await read_request(reader))[0]) and (origin.connections > 1 or not origin.heads):
            origin.heads.append(head)
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n" + (b"" if head.startswith(b"HEAD") else b"ok"))
        refusal = b"HTTP/1.1 429 Too Many\r\nX-OpenFaaS-Internal: runtime\r\nContent-Length: 4\r\n\r\n"
        writer.write(refusal + (b"" if head.startswith(b"HEAD") else b"busy"))
        await reader.read()

    origin = await lab.replica(lab.deploy("echo"), refuses_the_second)
    client = await lab.client()
    assert (await client.get())[0] == 200
    client.send(GET.replace(b"GET", method))
    assert (await client.response(head_only=method == b"HEAD"))[0] == 200
    assert (await client.get())[::2] == (200, b"ok")
    assert origin.connections == 2


async def test_a_functions_own_refusal_passes_through(lab: Lab) -> None:
    origin = await lab.replica(lab.deploy("echo"))
    origin.response = b"HTTP/1.1 429 Too Many\r\nContent-Length: 4\r\n\r\nmine"
    client = await lab.client()
    assert (await client.get())[::2] == (429, b"mine")
    assert len(origin.heads) == 1


async def test_a_response_that_breaks_off_breaks_the_clients_connection(lab: Lab) -> None:
    await lab.replica(lab.deploy("echo"), breaks_off)
    client = await lab.client()
    client.send(GET)
    with pytest.raises((asyncio.IncompleteReadError, ConnectionResetError)):
        await client.response()


def limits(lab: Lab) -> list[float]:
    """At which limits calls of echo were ended, as the records tell."""
    records = lab.edge.tallies()[ECHO].records
    assert records is not None
    return [record.limit_s for record in records.notable]


async def test_no_answer_in_time_is_a_gateway_timeout_with_a_reason(lab: Lab) -> None:
    await lab.replica(lab.deploy("echo", exec_timeout="100ms"), never)
    client = await lab.client()
    status, _, body = await client.get()
    assert (status, body) == (504, b"function echo.openfaas-fn did not answer within 0.1 s\n")
    assert limits(lab) == [0.1]
    assert lab.edge.in_flight()[ECHO] == 0


@pytest.mark.parametrize("pause_s", [0.05, 0.15, 0.24])
async def test_a_timeout_never_comes_early_wherever_between_two_sweeps_a_call_starts(lab: Lab, pause_s: float) -> None:
    await lab.replica(lab.deploy("echo", exec_timeout="500ms"), never)
    client = await lab.client()
    await asyncio.sleep(pause_s)  # not waiting for anything: the phase of the sweep is what varies
    sent = asyncio.get_running_loop().time()
    assert (await client.get())[0] == 504
    assert asyncio.get_running_loop().time() - sent >= 0.5


async def test_a_response_beyond_the_timeout_is_broken_not_completed(lab: Lab) -> None:
    async def stalls(origin: Origin, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n")
        await reader.read()

    await lab.replica(lab.deploy("echo", exec_timeout="100ms"), stalls)
    client = await lab.client()
    client.send(GET)
    with pytest.raises((asyncio.IncompleteReadError, ConnectionResetError)):
        await client.response()
    assert limits(lab) == [0.1]


async def test_waiting_too_long_is_a_gateway_timeout_with_a_reason(make_lab: MakeLab) -> None:
    lab = await make_lab(queue_timeout_s=0.1)
    lab.deploy("echo")
    client = await lab.client()
    status, _, body = await client.get()
    assert (status, body) == (504, b"function echo.openfaas-fn: no replica is ready after waiting 0.1 s\n")
    assert limits(lab) == [0.1]


async def test_a_full_queue_refuses_at_once(make_lab: MakeLab) -> None:
    lab = await make_lab(queue_calls=1)
    function = lab.deploy("echo")
    first, second = await lab.client(), await lab.client()
    first.send(GET)
    await eventually(lambda: lab.samples)
    status, head, _ = await second.get()
    assert (status, field(head, b"retry-after")) == (503, b"1")
    await lab.replica(function)
    assert (await first.response())[0] == 200


async def test_callers_of_a_revision_that_cannot_run_are_not_shown_its_code(lab: Lab) -> None:
    function = lab.deploy("echo")
    client = await lab.client()
    client.send(GET)
    await eventually(lambda: lab.samples)
    lab.tell(function, "r", ReplicaState.CRASH_LOOP, reason="handler.py:1: ImportError: x")
    status, head, body = await client.response()
    assert (status, field(head, b"retry-after")) == (503, b"10")
    assert b"cannot run" in body
    assert b"ImportError" not in body


async def test_the_limit_holds_and_a_freed_slot_goes_to_the_oldest(lab: Lab) -> None:
    gates = [asyncio.Event() for _ in range(3)]

    async def gated(origin: Origin, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while (request := await read_request(reader))[0]:
            origin.heads.append(request[0])
            await gates[len(origin.heads) - 1].wait()
            writer.write(origin.response)

    origin = await lab.replica(lab.deploy("echo", max_inflight="1"), gated)
    clients = [await lab.client() for _ in range(3)]
    for number, client in enumerate(clients):
        client.send(b"GET /function/echo/%d HTTP/1.1\r\nHost: h\r\n\r\n" % number)
        expected = number + 1
        await eventually(lambda: lab.edge.in_flight()[ECHO] + lab.edge.waiting()[ECHO] == expected)  # noqa: B023
    for number, (gate, client) in enumerate(zip(gates, clients, strict=True)):
        expected = number + 1
        await eventually(lambda: len(origin.heads) >= expected)  # noqa: B023
        assert len(origin.heads) == expected
        gate.set()
        assert (await client.response())[0] == 200
    assert [head.split(b" ")[1] for head in origin.heads] == [b"/0", b"/1", b"/2"]
    assert origin.connections == 1


async def test_calls_that_waited_are_counted_with_their_wait(lab: Lab) -> None:
    revision = lab.deploy("echo", max_inflight="1")
    client = await lab.client()
    client.send(GET)
    await eventually(lambda: (load := lab.edge.loads().get(ECHO)) is not None and load.queued == 1)
    await lab.replica(revision)
    assert (await client.response())[0] == 200
    assert (await client.get())[0] == 200
    tally = lab.edge.tallies()[ECHO]
    assert (tally.started, tally.completed, tally.cold) == (2, 2, 1)
    assert tally.waits is not None
    assert tally.waits.count == 1
    assert lab.edge.loads() == {}
    assert tally.first_bytes is not None
    assert tally.first_bytes.count == 1


async def test_the_first_byte_of_a_cold_call_is_counted_before_its_answer_is_complete(lab: Lab) -> None:
    go_on = asyncio.Event()

    async def streamed(origin: Origin, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n")
        await go_on.wait()
        writer.write(b"0\r\n\r\n")

    revision = lab.deploy("echo", max_inflight="1")
    client = await lab.client()
    client.send(GET)
    await eventually(lambda: (load := lab.edge.loads().get(ECHO)) is not None and load.queued == 1)
    await lab.replica(revision, streamed)
    await eventually(lambda: (began := lab.edge.tallies()[ECHO].first_bytes) is not None and began.count == 1)
    assert lab.edge.tallies()[ECHO].completed == 0
    go_on.set()
    assert (await client.response())[0] == 200


async def test_an_edge_tells_of_its_connections_and_of_what_it_refused(lab: Lab) -> None:
    clients = [await lab.client() for _ in range(2)]
    clients[0].send(b"GET /function/nobody HTTP/1.1\r\nHost: h\r\n\r\n")
    assert (await clients[0].response())[0] == 404
    await eventually(lambda: lab.edge.figures() == {"edge": EdgeFigures(2, 2, 0, {404: 1})})


async def test_a_client_that_leaves_frees_its_slot_and_its_place(lab: Lab) -> None:
    origin = await lab.replica(lab.deploy("echo", max_inflight="1"), never)
    clients: list[Client] = [await lab.client() for _ in range(3)]
    clients[0].send(GET)
    await eventually(lambda: len(origin.heads) == 1)
    clients[1].send(GET)
    clients[2].send(b"GET /function/echo/last HTTP/1.1\r\nHost: h\r\n\r\n")
    await eventually(lambda: lab.edge.waiting()[ECHO] == 2)
    await clients[1].close()
    await eventually(lambda: lab.edge.tallies()[ECHO].codes.get(499) == 1)
    await clients[0].close()
    await eventually(lambda: len(origin.heads) == 2)
    assert origin.heads[1].startswith(b"GET /last ")


async def test_a_draining_replica_finishes_what_it_has_and_gets_nothing_new(lab: Lab) -> None:
    gate = asyncio.Event()

    async def gated(origin: Origin, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        origin.heads.append(b"")
        await gate.wait()
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nold")
        await reader.read()

    function = lab.deploy("echo")
    old = await lab.replica(function, gated)
    first, second = await lab.client(), await lab.client()
    first.send(GET)
    await eventually(lambda: old.heads)
    lab.tell(function, "r0", ReplicaState.DRAINING)
    assert lab.released == []
    await lab.replica(function)
    assert (await second.get())[2] == b"ok"
    gate.set()
    assert (await first.response())[2] == b"old"
    assert lab.released == ["r0"]


async def test_waiting_calls_follow_the_traffic_to_a_new_revision(lab: Lab) -> None:
    lab.deploy("echo", VERSION="1")
    client = await lab.client()
    client.send(GET)
    await eventually(lambda: lab.samples)
    second = lab.deploy("echo", VERSION="2")
    await lab.replica(second)
    lab.edge.apply(FunctionChanged(promote(second, 0.0)))
    assert (await client.response())[2] == b"ok"


async def test_calls_waiting_for_a_removed_function_are_not_found(lab: Lab) -> None:
    lab.deploy("echo")
    client = await lab.client()
    client.send(GET)
    await eventually(lambda: lab.samples)
    lab.edge.apply(FunctionRemoved("openfaas-fn", "echo"))
    assert (await client.response())[0] == 404
    assert (await client.get())[0] == 404


async def test_slow_heads_and_bodies_are_cut(make_lab: MakeLab) -> None:
    lab = await make_lab(header_timeout_s=0.1, body_idle_s=0.1)
    await lab.replica(lab.deploy("echo"))
    head, body = await lab.client(), await lab.client()
    head.send(b"GET /function/echo HTTP/1.1\r\nHo")
    body.send(b"POST /function/echo HTTP/1.1\r\nHost: h\r\nContent-Length: 9\r\n\r\nab")
    assert (await head.response())[0] == 408
    assert (await body.response())[0] == 408
    assert await head.rest() == await body.rest() == b""


async def test_idle_connections_are_closed_in_silence(make_lab: MakeLab) -> None:
    lab = await make_lab(header_timeout_s=0.1, keep_alive_s=0.1)
    await lab.replica(lab.deploy("echo"))
    fresh, used = await lab.client(), await lab.client()
    assert (await used.get())[0] == 200
    assert await fresh.rest() == await used.rest() == b""


async def test_one_connection_too_many_is_turned_away(make_lab: MakeLab) -> None:
    lab = await make_lab(max_connections=1)
    await lab.replica(lab.deploy("echo"))
    first = await lab.client()
    assert (await first.get())[0] == 200
    second = await lab.client()
    assert (await second.response())[0] == 503
    assert await second.rest() == b""


async def test_draining_waits_for_calls_and_closes_idle_connections(lab: Lab) -> None:
    gate = asyncio.Event()

    async def gated(origin: Origin, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        origin.heads.append(b"")
        await gate.wait()
        writer.write(origin.response)
        await reader.read()

    origin = await lab.replica(lab.deploy("echo"), gated)
    idle, busy = await lab.client(), await lab.client()
    busy.send(GET)
    await eventually(lambda: origin.heads)
    draining = asyncio.create_task(lab.edge.drain(5.0))
    assert await idle.rest() == b""
    assert not draining.done()
    gate.set()
    assert (await busy.response())[2] == b"ok"
    assert await draining


async def test_counts(lab: Lab) -> None:
    await lab.replica(lab.deploy("echo"))
    client = await lab.client()
    await client.get()
    await client.get("/function/nope")
    assert lab.edge.counts() == {ECHO: 1}
    assert lab.edge.tallies()[ECHO].codes == {200: 1}
