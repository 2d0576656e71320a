"""Connections to a replica that end, or are not wanted any more, at the worst moment."""

from __future__ import annotations

import asyncio
from typing import cast

import pytest

from gateway.edge.context import EdgeContext
from gateway.edge.settings import EdgeSettings
from gateway.edge.upstream import UpstreamConnection, UpstreamConnections
from orchestration.names import FunctionId
from orchestration.replica import Endpoint, ReplicaState
from tests.gateway.edge.lab import Lab, eventually

GET = b"GET /function/echo HTTP/1.1\r\nHost: h\r\n\r\n"
ECHO = FunctionId("openfaas-fn", "echo")


class LostAtOnce(UpstreamConnection):
    """Is told of its end before the task that opened it runs again."""

    told = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self.transport.abort()
        self.connection_lost(None)

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.told:
            self.told = True
            super().connection_lost(exc)


async def test_a_connection_lost_before_the_call_is_sent_costs_the_call_nothing(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[UpstreamConnection] = []

    def make(pool: UpstreamConnections) -> UpstreamConnection:
        made.append(UpstreamConnection(pool) if made else LostAtOnce(pool))
        return made[-1]

    monkeypatch.setattr(UpstreamConnections, "_make", make)
    origin = await lab.replica(lab.deploy("echo"))
    client = await lab.client()
    assert (await client.get())[2] == b"ok"
    assert len(made) == 2
    assert len(origin.heads) == 1


async def test_a_replica_that_closes_whatever_is_opened_is_a_bad_gateway(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(UpstreamConnections, "_make", lambda pool: LostAtOnce(pool))  # noqa: PLW0108 - a class is not bound
    await lab.replica(lab.deploy("echo"))
    client = await lab.client()
    status, _, body = await client.get()
    assert (status, body) == (502, b"cannot reach the replica: the replica closed the connection at once\n")
    assert lab.edge.in_flight()[ECHO] == 0


@pytest.mark.parametrize("state", [ReplicaState.DRAINING, ReplicaState.STOPPED])
async def test_a_replica_that_goes_before_connecting_began_hands_its_call_back(lab: Lab, state: ReplicaState) -> None:
    function = lab.deploy("echo")
    client = await lab.client()
    client.send(GET)
    await eventually(lambda: lab.edge.waiting()[ECHO] == 1)
    lab.tell(function, "brief", ReplicaState.RUNNING, Endpoint(unix=str(lab.folder / "brief")))
    assert lab.edge.in_flight()[ECHO] == 1  # its task to connect has not taken its first step yet
    lab.tell(function, "brief", state)
    assert (lab.edge.in_flight()[ECHO], lab.edge.waiting()[ECHO]) == (0, 1)
    await lab.replica(function)
    assert (await client.response())[2] == b"ok"


class _Closing:
    """A transport; `closing` says whether it is about to end."""

    def __init__(self, *, closing: bool) -> None:
        self.closing = closing

    def is_closing(self) -> bool:
        return self.closing

    def abort(self) -> None:
        self.closing = True

    def get_extra_info(self, name: str) -> None:
        return None


def connection(pool: UpstreamConnections, *, closing: bool) -> UpstreamConnection:
    made = UpstreamConnection(pool)
    made.connection_made(cast(asyncio.Transport, _Closing(closing=closing)))
    return made


@pytest.fixture
def pool() -> UpstreamConnections:
    return UpstreamConnections(Endpoint(unix="/none"), EdgeContext(EdgeSettings(), lambda: 1.0))


async def test_what_is_closing_is_not_taken_back(pool: UpstreamConnections) -> None:
    pool.put(connection(pool, closing=True))
    assert pool.unused == 0
    assert pool.take() is None


async def test_what_began_to_close_is_not_taken(pool: UpstreamConnections) -> None:
    good, ending = connection(pool, closing=False), connection(pool, closing=False)
    pool.put(good)
    pool.put(ending)
    ending.transport.abort()
    assert pool.take() is good
    assert pool.take() is None


async def test_a_retired_pool_takes_nothing_back(pool: UpstreamConnections) -> None:
    late = connection(pool, closing=False)
    pool.retire()
    pool.put(late)
    assert pool.unused == 0
    assert late.transport.is_closing()
