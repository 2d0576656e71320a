"""A hub and edges that link up with it over TCP, between real clients and origins, in one process."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Collection
from pathlib import Path

import msgspec
import pytest

from gateway.edge import handshake, member, tenure
from gateway.edge import hub as hub_module
from gateway.edge.hub import Hub
from gateway.edge.link import frame
from gateway.edge.messages import Challenge, Hello, Welcome
from gateway.edge.places import new_name, place_of
from gateway.edge.seats import Follower, LinkedEdge
from gateway.edge.settings import EdgeSettings
from gateway.edge.tenure import MARGIN_S, TENURE_S, Sighting
from orchestration.events import Event, FunctionChanged, ReplicaChanged
from orchestration.load import LoadSample
from orchestration.replica import ReplicaState
from tests.gateway.edge.lab import Client, Lab, eventually
from tests.gateway.edge.test_fleet import ECHO, GET, Gate

SECRET = b"0123456789abcdef"


class HubLab(Lab):
    """Two linked edges, a follower, and a hub that `leads` or not. All hear of events by themselves, as on a cluster."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.leads = True
        self.published: list[set[str]] = []
        self.gone: list[str] = []
        self.followed: list[LoadSample] = []
        self.followed_released: list[str] = []
        self.followed_gone: list[str] = []
        self.hub = self.new_hub()
        self.linked: list[LinkedEdge] = []
        self.follower = Follower(
            new_name(),
            secret=SECRET,
            look=self.look,
            on_load=self.followed.append,
            on_released=self.followed_released.append,
            on_gone=self.followed_gone.append,
        )

    def new_hub(self) -> Hub:
        async def publish() -> None:
            self.published.append(self.hub.names())

        return Hub(
            SECRET,
            host="127.0.0.1",
            publish=publish,
            on_load=self.samples.append,
            on_released=self.released.append,
            on_gone=self.gone.append,
        )

    async def look(self) -> Sighting | None:
        return Sighting(time.monotonic(), self.leads, "leader", f"127.0.0.1:{self.hub.port}")

    def new_edge(self, secret: bytes = SECRET, place: str = "", **settings: object) -> LinkedEdge:
        chosen = EdgeSettings(port=0, name=new_name(place), **settings)  # type: ignore[arg-type]
        return LinkedEdge(chosen, control=self.control.endpoint, secret=secret, look=self.look)

    @contextlib.asynccontextmanager
    async def led_by(
        self, pretend: Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
    ) -> AsyncIterator[tuple[LinkedEdge, int]]:
        """An edge for which who answers as `pretend` does leads, and that one's port."""
        async with await asyncio.start_server(pretend, "127.0.0.1", 0) as server:
            port = server.sockets[0].getsockname()[1]

            async def look() -> Sighting:
                return Sighting(time.monotonic(), True, "another", f"127.0.0.1:{port}")

            settings = EdgeSettings(port=0, name="e")
            async with LinkedEdge(settings, control=self.control.endpoint, secret=SECRET, look=look) as edge:
                yield edge, port

    async def begin(self, edges: int = 2) -> None:
        await self.control.start()
        await self.hub.__aenter__()
        self.hub.take_over(())
        for _ in range(edges):
            self.linked.append(await self.new_edge().__aenter__())
        await self.follower.__aenter__()
        await eventually(lambda: all(edge.member.linked for edge in self.linked) and self.follower.member.linked)

    def apply(self, event: Event) -> None:
        for edge in self.linked:
            edge.apply(event)
        self.hub.apply(event)
        self.follower.gathered.apply(event)

    async def client_at(self, edge: LinkedEdge) -> Client:
        client = Client(*await asyncio.open_connection("127.0.0.1", edge.edge.port))
        self.clients.append(client)
        return client

    async def answered(self, edge: LinkedEdge) -> None:
        """Wait until the hub has heard all that the edge has told it, and the edge what came of that."""
        now = time.monotonic()
        await eventually(lambda: edge.member._heard_of > now)

    async def stop(self) -> None:
        for client in self.clients:
            await client.close()
        await self.follower.__aexit__(None, None, None)
        for edge in self.linked:
            await edge.__aexit__(None, None, None)
        await self.hub.__aexit__(None, None, None)
        for origin in (self.control, *self.origins):
            await origin.stop()


@pytest.fixture
async def lab(folder: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[HubLab]:
    monkeypatch.setattr(member, "LOOK_EVERY_S", 0.05)
    monkeypatch.setattr(member, "FIRST_PAUSE_S", 0.01)
    made = HubLab(folder)
    yield made
    await made.stop()


async def test_a_limit_of_one_holds_over_edges_and_nobody_waits_in_vain(lab: HubLab) -> None:
    await lab.begin()
    gate = Gate()
    await lab.replica(lab.deploy("echo", max_inflight="1"), gate)
    clients = [await lab.client_at(lab.linked[n % 2]) for n in range(12)]
    for client in clients:
        client.send(GET)
    for served in range(12):
        await eventually(lambda: gate.inside == 1)
        gate.let(1)
        await eventually(lambda: gate.served == served + 1)  # noqa: B023 - awaited here
    assert [(await client.response())[0] for client in clients] == [200] * 12
    assert gate.most == 1


async def test_loads_and_counts_of_all_edges_reach_who_leads_and_who_follows(lab: HubLab) -> None:
    await lab.begin()
    await lab.replica(lab.deploy("echo"))
    for edge in lab.linked:
        client = await lab.client_at(edge)
        for _ in range(3):
            assert (await client.get())[0] == 200
    await eventually(lambda: lab.hub.gathered.counts() == lab.follower.gathered.counts() == {ECHO: 6})
    names = {edge.member.name for edge in lab.linked}
    assert {sample.edge for sample in lab.samples} == {sample.edge for sample in lab.followed} == names
    assert names in lab.published


async def test_an_edge_is_let_in_when_the_next_leader_can_find_its_name(lab: HubLab) -> None:
    await lab.begin(edges=0)
    edge = lab.new_edge()
    linked: list[bool] = []

    async def publish() -> None:
        linked.append(edge.member.linked)
        if len(linked) < 3:
            raise OSError("the API server is away")

    lab.hub._publish = publish
    async with edge:
        await eventually(lambda: edge.member.linked)
    assert linked == [False] * 3


async def test_a_replica_that_drains_is_released_when_every_edge_has_let_go(lab: HubLab) -> None:
    await lab.begin()
    gate = Gate()
    function = lab.deploy("echo")
    await lab.replica(function, gate)
    client = await lab.client_at(lab.linked[0])
    client.send(GET)
    await eventually(lambda: gate.inside == 1)
    lab.tell(function, "r0", ReplicaState.DRAINING, lab.origins[0].endpoint)
    for edge in lab.linked:
        await lab.answered(edge)
    assert lab.released == []
    gate.let(1)
    assert (await client.response())[0] == 200
    await eventually(lambda: lab.released == lab.followed_released == ["r0"])


async def test_without_a_leader_warm_calls_are_served_and_others_are_told_in_time(lab: HubLab) -> None:
    lab.leads = False
    await lab.control.start()
    await lab.hub.__aenter__()
    await lab.follower.__aenter__()
    edge = lab.new_edge(queue_timeout_s=0.3)
    lab.linked.append(await edge.__aenter__())
    await lab.replica(lab.deploy("echo", max_inflight="0"))
    lab.deploy("asleep")
    client = await lab.client_at(edge)
    assert (await client.get())[0] == 200
    status, _, text = await client.get("/function/asleep")
    assert status == 503
    assert text == (
        b"function asleep.openfaas-fn: no replica is ready after waiting 0.3 s: the platform's controller cannot be reached\n"
    )


async def test_an_edge_that_cannot_reach_who_leads_says_so_and_one_without_a_leader_does_not(
    lab: HubLab, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tenure, "TENURE_S", 1.0)
    await lab.begin(edges=1)
    (edge,) = lab.linked
    await eventually(lambda: not edge.member.cut_off)
    await lab.hub.__aexit__(None, None, None)
    await eventually(lambda: edge.member.cut_off)
    lab.leads = False
    await eventually(lambda: not edge.member.cut_off)


async def test_edges_take_what_they_own_to_the_next_leader(lab: HubLab) -> None:
    await lab.begin()
    gate = Gate()
    function = lab.deploy("echo", max_inflight="2")
    await lab.replica(function, gate)
    holder, other = [await lab.client_at(edge) for edge in lab.linked]
    second = await lab.client_at(lab.linked[0])
    holder.send(GET)
    second.send(GET)
    await eventually(lambda: gate.inside == 2)
    names = lab.hub.names()
    await lab.hub.__aexit__(None, None, None)
    await eventually(lambda: not any(edge.member.linked for edge in lab.linked))
    lab.hub = lab.new_hub()
    await lab.hub.__aenter__()
    for known in lab.functions.values():
        lab.hub.apply(FunctionChanged(known))
        lab.hub.apply(ReplicaChanged(lab.replicas["r0"]))
    lab.hub.take_over(names)
    await eventually(lambda: all(edge.member.linked for edge in lab.linked))
    other.send(GET)
    await eventually(lambda: lab.linked[1].edge.waiting().get(ECHO) or gate.inside > 2)
    await lab.answered(lab.linked[1])
    assert lab.linked[1].edge.waiting()[ECHO] == 1
    assert gate.inside == 2, "both slots are in use, by an edge that the new leader had not let in"
    gate.let(3)
    assert [(await client.response())[0] for client in (holder, second, other)] == [200] * 3
    assert gate.most == 2


async def test_who_was_in_a_pod_that_is_no_more_is_not_waited_for(lab: HubLab, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hub_module, "LOOK_EVERY_S", 0.02)
    asked: list[set[str]] = []

    async def gone(places: Collection[str]) -> Collection[str]:
        asked.append(set(places))
        return {"pod-1"} & set(places)

    hub = Hub(
        SECRET,
        host="127.0.0.1",
        publish=lambda: asyncio.sleep(0),
        on_load=lambda sample: None,
        on_released=lambda replica: None,
        on_gone=lab.gone.append,
        gone=gone,
    )
    await lab.begin(edges=0)
    async with hub:
        hub.take_over({"pod-1.aa", "pod-2.bb", "nowhere"})
        await eventually(lambda: lab.gone == ["pod-1.aa"])
        assert asked[0] == {"pod-1", "pod-2"}
        assert hub.names() == {"pod-2.bb", "nowhere"}


async def test_who_was_in_the_pod_of_an_edge_that_comes_is_not_waited_for(lab: HubLab) -> None:
    await lab.begin(edges=0)
    lab.hub.take_over({"pod-1.aa", "pod-2.bb"})
    async with lab.new_edge(place="pod-1") as edge:
        await eventually(lambda: edge.member.linked)
        assert lab.hub.names() == {edge.member.name, "pod-2.bb"}
        assert lab.gone == ["pod-1.aa"]


async def test_whom_the_next_leader_has_to_wait_for(lab: HubLab) -> None:
    hub = lab.hub
    assert hub.bequest() is None, "what the one before it wrote stays"
    await lab.begin(edges=1)
    assert hub.bequest() == {lab.linked[0].member.name}
    hub.take_over({"pod-1.aa"})
    assert hub.bequest() == {"pod-1.aa"}
    hub.take_over(None)
    assert hub.bequest() == {hub_module.ANYBODY}, "more than are known: the next must wait as well"
    hub.step_down()
    assert hub.bequest() is None


async def test_a_lost_edge_is_waited_for_from_its_last_beat_on_however_sure_the_leader_was(lab: HubLab) -> None:
    """An edge may take an answered beat together with the Lease's word for a confirmation, though the leader was not sure."""
    now, sure = 1000.0, True
    await lab.begin(edges=0)
    hub = Hub(
        SECRET,
        host="127.0.0.1",
        publish=lambda: asyncio.sleep(0),
        on_load=lambda sample: None,
        on_released=lambda replica: None,
        on_gone=lambda edge: None,
        is_sure=lambda: sure,
        clock=lambda: now,
    )
    await lab.hub.__aexit__(None, None, None)
    lab.hub = hub
    async with hub:
        hub.take_over(())
        edge = lab.new_edge()
        async with edge:
            await eventually(lambda: edge.member.linked)
            sure = False
            now += 8.0
            session = next(iter(hub._members.values()))
            await eventually(lambda: session.confirmed_at == now)
            now += 1.0
            hub.lost(session)
            sure = True
            now = 1000.0 + TENURE_S + MARGIN_S
            assert hub._absences.over(now + 7.9) == []
            assert hub._absences.over(now + 8.0) == [edge.member.name]


async def test_an_edge_that_ends_gives_its_slots_back(lab: HubLab) -> None:
    await lab.begin()
    gate = Gate()
    await lab.replica(lab.deploy("echo", max_inflight="1"), gate)
    first = await lab.client_at(lab.linked[0])
    gate.let(2)
    assert (await first.get())[0] == 200, "the slot is here now"
    await first.close()
    leaving = lab.linked.pop(0)
    await leaving.__aexit__(None, None, None)
    await eventually(lambda: lab.gone == lab.followed_gone == [leaving.member.name])
    assert (await (await lab.client_at(lab.linked[0])).get())[0] == 200
    assert lab.hub.names() == {lab.linked[0].member.name}


async def test_who_does_not_know_the_secret_is_refused(lab: HubLab, caplog: pytest.LogCaptureFixture) -> None:
    await lab.begin(edges=1)
    stranger = lab.new_edge(secret=b"another secret ..")
    async with stranger:
        await eventually(lambda: "does not know the link secret: refused" in caplog.text)
        assert not stranger.member.linked
        assert stranger.member.name not in lab.hub.names()


async def answered_hello(lab: HubLab, **protocol: int) -> bytes:
    """Greet the hub as an edge that knows the secret, and return what it says to that: nothing when it ends the link."""
    reader, writer = await asyncio.open_connection("127.0.0.1", lab.hub.port)
    challenge = msgspec.msgpack.decode(await read_frame(reader))
    proof = handshake.proof(SECRET, handshake.MEMBER, b"m" * 32, challenge["nonce"])
    hello = {"type": "hello", "name": "old", "follows": False, "nonce": b"m" * 32, "proof": proof} | protocol
    payload = msgspec.msgpack.encode(hello)
    writer.write(len(payload).to_bytes(4, "big") + payload)
    try:
        return await read_frame(reader)
    except (asyncio.IncompleteReadError, ConnectionError):
        return b""
    finally:
        writer.close()


async def read_frame(reader: asyncio.StreamReader) -> bytes:
    return await reader.readexactly(int.from_bytes(await reader.readexactly(4), "big"))


async def test_an_edge_of_a_version_before_protocols_had_numbers_is_understood(lab: HubLab) -> None:
    await lab.begin(edges=0)
    assert msgspec.msgpack.decode(await answered_hello(lab), type=Welcome).leads


@pytest.mark.parametrize(("edge", "named"), [({}, 1), ({"protocol": 1}, 1), ({"protocol": 3}, 3)])
async def test_a_hub_refuses_an_edge_of_another_protocol_in_a_sentence(
    lab: HubLab, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch, edge: dict[str, int], named: int
) -> None:
    monkeypatch.setattr(handshake, "PROTOCOL", 2)
    await lab.begin(edges=0)
    assert await answered_hello(lab, **edge) == b""
    assert f"is refused: it speaks protocol {named} of the link and this end 2: run one version of Pinnace" in caplog.text
    assert lab.hub.names() == set()


@pytest.mark.parametrize(("hub", "says_hello"), [({}, False), ({"protocol": 1}, False), ({"protocol": 3}, True)])
async def test_an_edge_refuses_a_hub_of_another_protocol_in_a_sentence_and_lets_a_newer_one_say_so_too(
    lab: HubLab,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
    hub: dict[str, int],
    says_hello: bool,
) -> None:
    await lab.begin(edges=0)
    monkeypatch.setattr(handshake, "PROTOCOL", 2)
    heard: list[bytes] = []

    async def pretend(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        payload = msgspec.msgpack.encode({"type": "challenge", "nonce": b"n" * 32} | hub)
        writer.write(len(payload).to_bytes(4, "big") + payload)
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            heard.append(await read_frame(reader))
        heard.append(b"")
        writer.close()

    async with lab.led_by(pretend) as (edge, port):
        await eventually(lambda: heard)
        assert not edge.member.linked
        await eventually(lambda: edge.member.trouble)
    assert bool(heard[0]) == says_hello
    text = f"no link to the leader at 127.0.0.1:{port}: it speaks protocol {hub.get('protocol', 1)} of the link and this end 2"
    assert edge.member.trouble.startswith(text)
    assert caplog.text.count(text) == 1, "once, however often it is tried"


async def test_who_connects_and_says_nothing_keeps_nobody_out(lab: HubLab, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hub_module, "MOST_SESSIONS", 8)
    monkeypatch.setattr(hub_module, "MOST_STRANGERS", 4)
    await lab.begin(edges=0)
    silent = [await asyncio.open_connection("127.0.0.1", lab.hub.port) for _ in range(20)]
    edge = lab.new_edge()
    async with edge:
        await eventually(lambda: edge.member.linked, 3.0)
    for _, writer in silent:
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()


async def test_a_hub_that_does_not_know_the_secret_gets_no_word(lab: HubLab) -> None:
    heard: list[bytes] = []

    async def pretend(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(frame(Challenge(b"n" * 32)))
        size = int.from_bytes(await reader.readexactly(4), "big")
        hello = msgspec.msgpack.decode(await reader.readexactly(size), type=Hello)
        writer.write(frame(Welcome(handshake.proof(b"a guess", handshake.HUB, b"n" * 32, hello.nonce), True)))
        heard.append(await reader.read())
        writer.close()

    await lab.begin(edges=0)
    async with lab.led_by(pretend) as (edge, _):
        await eventually(lambda: heard)
        assert not edge.member.linked
    assert heard[0] == b""


def test_an_answer_cannot_be_reflected() -> None:
    mine, theirs = handshake.nonce(), handshake.nonce()
    proof = handshake.proof(SECRET, handshake.MEMBER, mine, theirs)
    assert handshake.is_proof(proof, SECRET, handshake.MEMBER, mine, theirs)
    assert not handshake.is_proof(proof, SECRET, handshake.HUB, mine, theirs)
    assert not handshake.is_proof(proof, SECRET, handshake.MEMBER, theirs, mine)
    assert not handshake.is_proof(proof, SECRET + b"x", handshake.MEMBER, mine, theirs)


@pytest.mark.parametrize("secret", [b"", b"short", b"   fifteen bytes.   "])
def test_a_short_secret_is_none(secret: bytes) -> None:
    with pytest.raises(handshake.UnfitSecret, match="16 at least"):
        handshake.check_secret(secret)


def test_the_place_is_before_the_last_dot() -> None:
    assert place_of(new_name("edge-7d9c-x2x4z")) == "edge-7d9c-x2x4z"
    assert place_of(new_name()) == ""
