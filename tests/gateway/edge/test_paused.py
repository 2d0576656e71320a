"""An edge that was stopped for a while uses no slot that it may not own any more."""

from __future__ import annotations

import asyncio
import base64
import signal
import time
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import pytest

from gateway.edge import hub as hub_module
from gateway.edge.messages import Grant
from gateway.edge.places import new_name
from gateway.edge.seats import LinkedEdge
from gateway.edge.settings import EdgeSettings
from gateway.edge.tenure import PAUSE_S, TENURE_S, Sighting, Tenure, watched
from orchestration.events import FunctionChanged, ReplicaChanged
from tests.gateway.edge.another_process import Told, another_edge, hasten
from tests.gateway.edge.lab import Client, eventually
from tests.gateway.edge.test_fleet import GET, Gate
from tests.gateway.edge.test_hub import SECRET, HubLab

QUICKER = 10.0


@pytest.fixture
async def lab(folder: Path) -> AsyncIterator[HubLab]:
    made = HubLab(folder)
    yield made
    await made.stop()


def test_a_clock_that_was_not_read_for_long_says_so_before_it_gives_the_time() -> None:
    now = [100.0]
    said: list[tuple[float, float, float]] = []
    clock = watched(lambda: now[0], lambda before, at: said.append((before, at, clock())))
    for after in (PAUSE_S, 0.1, PAUSE_S + 0.1, 0.1, 60.0):
        now[0] += after
        assert clock() == now[0]
    assert [at for one in said for at in one] == pytest.approx([105.1, 110.2, 110.2, 110.3, 170.3, 170.3])


@pytest.mark.parametrize(
    ("before", "now", "is_over"),
    [
        (115.0, 119.0, False),  # confirmed at 100
        (115.0, 121.0, True),
        (125.0, 131.0, False),  # nobody has answered since then: it goes on as it did
        (125.0, 146.0, True),  # meanwhile somebody may have begun to lead, and waited long enough
    ],
)
def test_a_tenure_that_ends_in_a_pause_is_over_unseen(before: float, now: float, is_over: bool) -> None:
    tenure = Tenure()
    tenure.confirmed(100.0)
    assert tenure.ended_in(before, now) == is_over


@pytest.mark.parametrize(("pause_s", "is_served"), [(PAUSE_S + 1, True), (TENURE_S + 1, False)])
async def test_after_a_pause_a_slot_is_used_only_within_the_tenure(lab: HubLab, pause_s: float, is_served: bool) -> None:
    ahead_s, looked = 0.0, 0

    def clock() -> float:
        return time.monotonic() + ahead_s

    async def look() -> Sighting | None:  # nobody leads, and later nobody says who does
        nonlocal looked
        looked += 1
        if looked > 1:
            await asyncio.Event().wait()
        return Sighting(clock(), leads=False)

    await lab.begin(edges=0)
    edge = LinkedEdge(EdgeSettings(port=0, name="e"), control=lab.control.endpoint, secret=SECRET, look=look, clock=clock)
    lab.linked.append(await edge.__aenter__())
    origin = await lab.replica(function := lab.deploy("echo", max_inflight="1"))
    edge.hear(Grant("openfaas-fn", function.newest.name, next(iter(lab.replicas)), 1, 1))
    client = await lab.client_at(edge)
    assert (await client.get())[0] == 200
    ahead_s = pause_s
    client.send(GET)
    if is_served:
        assert (await client.response())[0] == 200
    else:
        await eventually(lambda: any(edge.edge.waiting().values()))
    assert len(origin.heads) == 1 + is_served


@pytest.mark.timeout(60)
async def test_a_process_that_is_stopped_for_longer_than_its_tenure_does_not_break_a_limit(
    lab: HubLab, monkeypatch: pytest.MonkeyPatch
) -> None:
    for (module, name), value in hasten(QUICKER).items():
        monkeypatch.setattr(module, name, value)
    monkeypatch.setattr(hub_module, "SILENT_AT_MOST_S", 1.0)
    monkeypatch.setattr(hub_module, "LOOK_EVERY_S", 0.1)
    await lab.begin(edges=0)
    gate = Gate()
    await lab.replica(lab.deploy("echo", max_inflight="1"), gate)
    events: list[FunctionChanged | ReplicaChanged] = [
        *map(FunctionChanged, lab.functions.values()),
        *map(ReplicaChanged, lab.replicas.values()),
    ]
    told = Told(
        name=new_name(),
        secret=SECRET.decode(),
        hub=f"127.0.0.1:{lab.hub.port}",
        control=lab.control.endpoint,
        events=[base64.b64encode(msgspec.msgpack.encode(event)).decode() for event in events],
        quicker=QUICKER,
    )
    async with another_edge(told) as (process, port):
        stopped = Client(*await asyncio.open_connection("127.0.0.1", port))
        lab.clients.append(stopped)
        gate.let(1)
        assert (await stopped.get())[0] == 200, "it owns the slot"
        process.send_signal(signal.SIGSTOP)
        stopped.send(GET)  # waits in its socket
        other = lab.new_edge()
        for event in events:
            other.apply(event)
        lab.linked.append(await other.__aenter__())
        client = await lab.client_at(other)
        client.send(GET)
        await eventually(lambda: gate.inside == 1)  # the slot is the other's by now
        process.send_signal(signal.SIGCONT)
        await eventually(lambda: told.name in lab.hub.names())  # it is back
        await eventually(lambda: gate.most > 1 or any(s.edge == told.name and s.queued for s in lab.samples))
        assert (gate.inside, gate.most) == (1, 1)
        gate.let(2)
        assert [(await one.response())[0] for one in (client, stopped)] == [200, 200]
        assert gate.most == 1
