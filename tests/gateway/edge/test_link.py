"""Messages over real sockets: whole, in order, bounded."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator

import hypothesis.strategies as st
import msgspec
import pytest
from hypothesis import given

from gateway.edge import link as link_module
from gateway.edge.figures import EdgeFigures
from gateway.edge.link import Link, TooLong, frame
from gateway.edge.messages import (
    Configure,
    Count,
    Counted,
    FromEdge,
    Grant,
    Listen,
    Load,
    Ping,
    Recall,
    Return,
    ToEdge,
    Want,
)
from gateway.edge.settings import EdgeSettings
from gateway.edge.tally import Tally
from orchestration.events import FunctionChanged, FunctionRemoved, ReplicaChanged
from orchestration.load import LoadSample
from orchestration.names import FunctionId
from orchestration.replica import Endpoint, Replica, ReplicaState
from orchestration.rollout import deploy
from orchestration.spec import FunctionSpec, Resources
from tests.gateway.edge.lab import eventually

DOWN = msgspec.msgpack.Decoder(ToEdge)
UP = msgspec.msgpack.Decoder(FromEdge)


class End:
    """One end of a link and what happened to it."""

    def __init__(self, decoder: msgspec.msgpack.Decoder[ToEdge]) -> None:
        self.messages: list[ToEdge] = []
        self.losses = 0
        self.room = 0
        self.link = Link(decoder, self.messages.append, self.lost, self.writable)

    def lost(self) -> None:
        self.losses += 1

    def writable(self) -> None:
        self.room += 1


@pytest.fixture
async def pair() -> AsyncIterator[tuple[socket.socket, End]]:
    """A raw socket, and a link at its other end."""
    ours, theirs = socket.socketpair()
    end = End(DOWN)
    await end.link.open(theirs)
    ours.setblocking(False)
    with ours:
        yield ours, end
        end.link.abort()
        await eventually(lambda: end.losses)


def everything() -> list[ToEdge]:
    spec = FunctionSpec(
        service="echo",
        image="x",
        env_vars={"é": "ü"},
        secrets=("s",),
        labels={"a": "b"},
        limits=Resources(memory="1Gi"),
        constraints=(),
    )
    replica = Replica(
        id="r0",
        namespace="ns",
        function="echo",
        revision="echo-00001",
        state=ReplicaState.RUNNING,
        endpoint=Endpoint(unix="/x"),
        ready_at=1.5,
    )
    return [
        Configure(EdgeSettings(name="edge-1", trusted_proxies=("::1",)), Endpoint(host="h", port=1), "json"),
        FunctionChanged(deploy(None, spec, "sha256:0", 1.25)),
        FunctionRemoved("ns", "echo"),
        ReplicaChanged(replica),
        Listen(),
        Grant("ns", "echo-00001", "r0", 1, 50),
        Recall("ns", "echo-00001", 3, 12.5),
        Ping(7),
    ]


async def test_every_message_arrives_as_it_was_sent(pair: tuple[socket.socket, End]) -> None:
    sock, end = pair
    sender = End(DOWN)
    await sender.link.open(sock)
    for message in everything():
        sender.link.send(message)
    await eventually(lambda: len(end.messages) == len(everything()))
    assert end.messages == everything()
    await sender.link.close()
    await eventually(lambda: end.losses)
    assert (sender.losses, end.losses) == (1, 1)


def test_what_edges_tell_survives_the_way() -> None:
    tally = Tally()
    for code, seconds in ((200, 0.01), (200, 2.0), (504, 60.0)):
        tally.count(code, seconds)
    tally.started = 4
    tally.waited(0.2, cold=True)
    tally.began(0.3)
    tally.illustrate(200, "ab", 2.0, 1e9)
    sample = LoadSample(
        edge="e",
        namespace="ns",
        function="f",
        revision="f-1",
        at=1.0,
        interval_s=0.5,
        concurrency=1.5,
        arrivals=3,
        in_flight=1,
        queued=2,
    )
    for message in (
        Counted((Count.of(FunctionId("ns", "f"), tally),), EdgeFigures(3)),
        Load(sample),
        Want("ns", "f-1", 3, 1.0),
        Return("r", 2, 1),
    ):
        assert UP.decode(frame(message)[4:]) == message
    received = UP.decode(frame(Counted((Count.of(FunctionId("ns", "f"), tally),), EdgeFigures(3)))[4:])
    assert isinstance(received, Counted)
    back = received.counts[0].tally()
    assert (back.started, back.completed, back.cold, back.codes) == (4, 3, 1, tally.codes)
    assert Count.of(FunctionId("ns", "f"), back) == received.counts[0]
    assert back.waits is not None and back.waits.count == 1
    assert back.first_bytes is not None and back.first_bytes.count == 1


@given(st.lists(st.integers(1, 40), max_size=200))
def test_frames_may_come_in_any_pieces(cuts: list[int]) -> None:
    wire = b"".join(map(frame, everything()))
    end = End(DOWN)
    for cut in cuts:
        end.link.data_received(wire[:cut])
        wire = wire[cut:]
    end.link.data_received(wire)
    assert end.messages == everything()


@pytest.mark.parametrize(
    "wire",
    [b"\xff\xff\xff\xff", b"\x00\x00\x00\x01\xc1", frame(Return("r", 1, 1))],
    ids=["too long", "no msgpack", "not for this end"],
)
async def test_what_is_no_message_ends_the_link(pair: tuple[socket.socket, End], wire: bytes) -> None:
    sock, end = pair
    await asyncio.get_running_loop().sock_sendall(sock, wire)
    await eventually(lambda: end.losses)
    assert not end.messages


def test_a_message_that_is_too_long_is_not_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(link_module, "FRAME_LIMIT_BYTES", 100)
    with pytest.raises(TooLong, match="at most 100"):
        frame(FunctionRemoved("n" * 100, "f"))


async def test_a_peer_that_does_not_read_holds_back_and_then_loses_the_link(
    pair: tuple[socket.socket, End], monkeypatch: pytest.MonkeyPatch
) -> None:
    sock, end = pair
    message = FunctionRemoved("n" * 100_000, "f")
    sent = 0
    while _writable(end):
        end.link.send(message)
        sent += 1
    received = b""
    while len(received) < sent * len(frame(message)):
        received += await asyncio.get_running_loop().sock_recv(sock, 1 << 20)
    await eventually(lambda: end.room)
    assert _writable(end)
    monkeypatch.setattr(link_module, "UNREAD_LIMIT_BYTES", 1_000_000)
    for _ in range(100):
        end.link.send(message)
    await eventually(lambda: end.losses)


def _writable(end: End) -> bool:
    return end.link.writable


async def test_sending_after_the_end_does_nothing(pair: tuple[socket.socket, End]) -> None:
    sock, end = pair
    sock.close()
    await eventually(lambda: end.losses)
    end.link.send(Ping(1))
    await end.link.close()
    assert end.losses == 1
