"""Edges in processes of their own, between real clients and origins."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest

from gateway.edge import fleet as fleet_module
from gateway.edge.fleet import Fleet
from gateway.edge.settings import EdgeSettings
from orchestration.events import Event, FunctionRemoved
from orchestration.names import FunctionId
from orchestration.replica import Endpoint, ReplicaState
from tests.gateway.edge.lab import Client, Lab, Origin, eventually, field, read_request

ECHO = FunctionId("openfaas-fn", "echo")
GET = b"GET /function/echo HTTP/1.1\r\nHost: h\r\n\r\n"


class FleetLab(Lab):
    """A lab whose edge is a fleet."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.fleet: Fleet
        self.gone: list[str] = []

    async def start(self, settings: EdgeSettings, workers: int = 2) -> None:
        await self.control.start()
        self.fleet = Fleet(
            settings,
            workers,
            control=self.control.endpoint,
            on_load=self.samples.append,
            on_released=self.released.append,
            on_gone=self.gone.append,
        )
        await self.fleet.start()

    def apply(self, event: Event) -> None:
        self.fleet.apply(event)

    @property
    def port(self) -> int:
        return self.fleet.port

    async def stop(self) -> None:
        for client in self.clients:
            await client.close()
        await self.fleet.stop()
        for origin in (self.control, *self.origins):
            await origin.stop()

    async def client_of_each(self) -> list[Client]:
        """A client connected to each edge. Call ids tell edges apart."""
        found: dict[bytes, Client] = {}
        async with asyncio.timeout(10):
            while len(found) < len(self.fleet.pids):
                client = await self.client()
                _, head, _ = await client.get("/healthz")
                found.setdefault((field(head, b"x-call-id") or b"")[:23], client)
        return list(found.values())


MakeFleet = Callable[..., Awaitable[FleetLab]]


@pytest.fixture
async def make_fleet(folder: Path) -> AsyncIterator[MakeFleet]:
    """Make a fleet whose edges together have the given settings."""
    labs: list[FleetLab] = []

    async def make(*, workers: int = 2, **settings: object) -> FleetLab:
        lab = FleetLab(folder)
        await lab.start(EdgeSettings(port=0, **settings), workers)  # type: ignore[arg-type]
        labs.append(lab)
        return lab

    yield make
    for lab in labs:
        await lab.stop()


class Gate:
    """A handler that answers when it is let to, and knows how many calls it has at a time."""

    def __init__(self) -> None:
        self.inside = 0
        self.most = 0
        self.served = 0
        self.answers = asyncio.Semaphore(0)

    async def __call__(self, origin: Origin, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while (await read_request(reader))[0]:
            self.inside += 1
            self.most = max(self.most, self.inside)
            try:
                await self.answers.acquire()
            finally:
                self.inside -= 1
            self.served += 1
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")

    def let(self, calls: int) -> None:
        for _ in range(calls):
            self.answers.release()


async def test_calls_reach_the_function_through_every_edge_and_are_counted_together(make_fleet: MakeFleet) -> None:
    lab = await make_fleet(workers=3)
    origin = await lab.replica(lab.deploy("echo"))
    await lab.fleet.synced()
    clients = await lab.client_of_each()
    for client in clients * 4:
        assert (await client.get())[::2] == (200, b"ok")
    assert len(origin.heads) == 12
    await eventually(lambda: lab.fleet.counts() == {ECHO: 12})
    assert lab.fleet.tallies()[ECHO].codes == {200: 12}
    assert sum(lab.fleet.tallies()[ECHO].by_code[200].buckets) == lab.fleet.tallies()[ECHO].started == 12
    assert {sample.edge for sample in lab.samples} == {"edge-0", "edge-1", "edge-2"}


async def test_a_change_is_known_to_every_edge_once_synced(make_fleet: MakeFleet) -> None:
    lab = await make_fleet()
    clients = await lab.client_of_each()
    for round_ in range(20):
        await lab.replica(lab.deploy(f"f{round_}"))
        await lab.fleet.synced()
        for client in clients:
            assert (await client.get(f"/function/f{round_}"))[0] == 200
    lab.apply(FunctionRemoved("openfaas-fn", "f0"))
    await lab.fleet.synced()
    assert [(await client.get("/function/f0"))[0] for client in clients] == [404, 404]
    assert FunctionId("openfaas-fn", "f0") not in lab.fleet.counts()


@pytest.mark.parametrize("limit", [1, 2, 3, 10])
async def test_a_limit_holds_over_all_edges_and_none_waits_in_vain(make_fleet: MakeFleet, limit: int) -> None:
    lab = await make_fleet()
    gate = Gate()
    await lab.replica(lab.deploy("echo", max_inflight=str(limit)), gate)
    await lab.fleet.synced()
    clients = await lab.client_of_each() + [await lab.client() for _ in range(28)]
    for client in clients:
        client.send(GET)
    for served in range(0, len(clients), limit):
        await eventually(lambda: gate.inside == min(limit, len(clients) - gate.served))
        assert gate.served == served
        gate.let(min(limit, len(clients) - served))
        await eventually(lambda: gate.served == min(served + limit, len(clients)))  # noqa: B023 - awaited here
    assert [(await client.response())[0] for client in clients] == [200] * len(clients)
    assert gate.most == limit


async def test_one_edge_can_use_every_slot(make_fleet: MakeFleet) -> None:
    lab = await make_fleet(workers=3)
    gate = Gate()
    for _ in range(2):
        await lab.replica(lab.deploy("echo", max_inflight="7"), gate)
    await lab.fleet.synced()
    first = (await lab.client_of_each())[0]
    ours = await _edge_of(first)
    clients: list[Client] = []
    while len(clients) < 14:
        client = await lab.client()
        if await _edge_of(client) == ours:
            clients.append(client)
    for client in clients:
        client.send(GET)
    await eventually(lambda: gate.inside == 14)
    gate.let(14)
    assert [(await client.response())[0] for client in clients] == [200] * 14


async def _edge_of(client: Client) -> bytes:
    _, head, _ = await client.get("/healthz")
    return (field(head, b"x-call-id") or b"")[:23]


async def test_bounds_on_waiting_calls_hold_in_sum(make_fleet: MakeFleet) -> None:
    lab = await make_fleet(queue_calls=6)
    lab.deploy("echo")
    await lab.fleet.synced()
    clients = [await lab.client() for _ in range(40)]
    for client in clients:
        client.send(GET)
    await eventually(lambda: sum(code for code in _codes(lab).values()) == 34)
    assert _codes(lab) == {503: 34}
    await eventually(lambda: lab.fleet.loads()[ECHO].queued == 6)
    await lab.replica(lab.deploy("echo"))
    answers = [(await client.response())[0] for client in clients]
    assert (answers.count(200), answers.count(503)) == (6, 34)


def _codes(lab: FleetLab) -> dict[int, int]:
    tally = lab.fleet.tallies().get(ECHO)
    return tally.codes if tally is not None else {}


async def test_an_edge_that_dies_breaks_its_own_connections_only_and_is_replaced(make_fleet: MakeFleet) -> None:
    lab = await make_fleet()
    gate = Gate()
    await lab.replica(lab.deploy("echo", max_inflight="1"), gate)
    await lab.fleet.synced()
    clients = await lab.client_of_each()
    gate.let(4)
    for client in clients * 2:
        assert (await client.get())[0] == 200
    await eventually(lambda: lab.fleet.counts()[ECHO] == 4)
    before = dict(lab.fleet.pids)
    os.kill(before["edge-0"], signal.SIGKILL)
    await eventually(lambda: lab.gone == ["edge-0"])
    for client in clients:
        client.send(GET)
    gate.let(1)
    ended = await asyncio.gather(*(client.response() for client in clients), return_exceptions=True)
    broken = [e for e in ended if isinstance(e, BaseException)]
    assert len(broken) == 1
    assert isinstance(broken[0], asyncio.IncompleteReadError | ConnectionError)
    await eventually(lambda: len(lab.fleet.pids) == 2 and lab.fleet.pids["edge-0"] != before["edge-0"])
    assert lab.fleet.pids["edge-1"] == before["edge-1"]
    gate.let(50)
    for client in await lab.client_of_each():
        assert (await client.get())[0] == 200, "the new edge was told what exists before it listened"
    await eventually(lambda: lab.fleet.counts()[ECHO] == 7)
    assert gate.most == 1


async def test_the_slot_of_an_edge_that_dies_with_a_call_serves_the_others(make_fleet: MakeFleet) -> None:
    lab = await make_fleet()
    gate = Gate()
    await lab.replica(lab.deploy("echo", max_inflight="1"), gate)
    await lab.fleet.synced()
    holder, other = await lab.client_of_each()
    holder.send(GET)
    await eventually(lambda: gate.inside == 1)
    await eventually(lambda: any(sample.in_flight for sample in lab.samples))
    (name,) = {sample.edge for sample in lab.samples if sample.in_flight}
    other.send(GET)
    await eventually(lambda: any(s.queued for s in lab.samples))
    os.kill(lab.fleet.pids[name], signal.SIGKILL)
    gate.let(2)
    assert (await other.response())[0] == 200


async def test_a_replica_is_released_when_no_edge_has_a_call_at_it(make_fleet: MakeFleet) -> None:
    lab = await make_fleet()
    gate = Gate()
    function = lab.deploy("echo")
    await lab.replica(function, gate)
    await lab.fleet.synced()
    clients = await lab.client_of_each()
    for client in clients:
        client.send(GET)
    await eventually(lambda: gate.inside == 2)
    lab.tell(function, "r0", ReplicaState.DRAINING)
    gate.let(1)
    await eventually(lambda: gate.served == 1)
    await lab.fleet.synced()
    assert lab.released == []
    gate.let(1)
    await eventually(lambda: lab.released == ["r0"])
    lab.tell(function, "r1", ReplicaState.DRAINING)
    await eventually(lambda: lab.released == ["r0", "r1"])


async def test_a_dead_edge_has_released_what_it_held(make_fleet: MakeFleet) -> None:
    lab = await make_fleet()
    gate = Gate()
    function = lab.deploy("echo")
    await lab.replica(function, gate)
    await lab.fleet.synced()
    client = await lab.client()
    client.send(GET)
    await eventually(lambda: any(sample.in_flight for sample in lab.samples))
    (holder,) = {sample.edge for sample in lab.samples if sample.in_flight}
    lab.tell(function, "r0", ReplicaState.DRAINING)
    await lab.fleet.synced()
    assert lab.released == []
    os.kill(lab.fleet.pids[holder], signal.SIGKILL)
    await eventually(lambda: lab.released == ["r0"])


async def test_an_edge_that_hangs_is_replaced(make_fleet: MakeFleet, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fleet_module, "PING_EVERY_S", 0.05)
    monkeypatch.setattr(fleet_module, "SILENT_AT_MOST_S", 1.0)
    lab = await make_fleet()
    hung = lab.fleet.pids["edge-1"]
    os.kill(hung, signal.SIGSTOP)
    await eventually(lambda: lab.gone == ["edge-1"])
    await eventually(lambda: lab.fleet.pids.get("edge-1", hung) != hung)


async def test_draining_lets_calls_finish_and_reports_those_that_do_not(make_fleet: MakeFleet) -> None:
    lab = await make_fleet()
    gate = Gate()
    await lab.replica(lab.deploy("echo"), gate)
    await lab.fleet.synced()
    clients = await lab.client_of_each()
    for client in clients:
        client.send(GET)
    await eventually(lambda: gate.inside == 2)
    draining = asyncio.create_task(lab.fleet.drain(10))
    await eventually(lambda: _refuses_connections(lab.port))
    gate.let(2)
    assert [(await client.response())[0] for client in clients] == [200, 200]
    assert await draining


async def test_a_drain_ends_though_calls_do_not(make_fleet: MakeFleet) -> None:
    lab = await make_fleet()
    gate = Gate()
    await lab.replica(lab.deploy("echo"), gate)
    client = await lab.client()
    client.send(GET)
    await eventually(lambda: gate.inside)
    assert not await lab.fleet.drain(0.1)


def _refuses_connections(port: int) -> bool:
    with contextlib.closing(socket.socket()) as sock:
        return sock.connect_ex(("127.0.0.1", port)) != 0


async def test_nothing_is_left_after_the_stop(make_fleet: MakeFleet) -> None:
    lab = await make_fleet()
    pids = list(lab.fleet.pids.values())
    await lab.fleet.stop()
    for pid in pids:
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)
    assert _refuses_connections(lab.port)


async def test_an_edge_ends_with_its_link(make_fleet: MakeFleet) -> None:
    lab = await make_fleet()
    pid = lab.fleet.pids["edge-0"]
    lab.fleet._processes["edge-0"]._link.abort()
    await eventually(lambda: lab.gone == ["edge-0"])
    await eventually(lambda: lab.fleet.pids.get("edge-0", pid) != pid)


@pytest.mark.parametrize("sharing", [False, True], ids=["by another program", "by another fleet"])
async def test_a_taken_port_is_an_error_at_the_start(make_fleet: MakeFleet, sharing: bool) -> None:
    if sharing:
        port = (await make_fleet()).port
        sock = None
    else:
        sock = socket.create_server(("127.0.0.1", 0))
        port = sock.getsockname()[1]
    fleet = Fleet(
        EdgeSettings(port=port),
        2,
        control=Endpoint(unix="/nobody"),
        on_load=lambda _: None,
        on_released=lambda _: None,
        on_gone=lambda _: None,
    )
    with pytest.raises(OSError, match="in use"):
        await fleet.start()
    if sock is not None:
        sock.close()
