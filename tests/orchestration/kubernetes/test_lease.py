"""Of several controllers one leads, by a real Lease."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from typing import Any, cast

from orchestration.kubernetes.api import DEPLOYMENTS, LEASES, ApiError, Kind
from orchestration.kubernetes.client import Cluster
from orchestration.kubernetes.controller import Controller
from orchestration.kubernetes.lease import Leadership
from orchestration.kubernetes.names import LEASE
from orchestration.kubernetes.view import View
from tests.orchestration.kubernetes.world import World, eventually


class Candidate:
    def __init__(self, leadership: Leadership, heard: list[bool]) -> None:
        self.leadership = leadership
        self.heard = heard


@contextlib.asynccontextmanager
async def candidate(world: World, name: str, duration_s: float = 1.0) -> AsyncIterator[Candidate]:
    heard: list[bool] = []
    quick = Leadership(
        world.cluster,
        world.namespace,
        name,
        heard.append,
        duration_s=duration_s,
        renew_within_s=0.6 * duration_s,
        renew_every_s=0.05,
    )
    async with quick as leadership:
        yield Candidate(leadership, heard)


async def test_one_leads_and_the_next_takes_over_at_once_when_it_leaves(world: World) -> None:
    async with contextlib.AsyncExitStack() as stays:
        async with candidate(world, "one", duration_s=30.0) as one:
            await eventually(lambda: one.leadership.leads)
            two = await stays.enter_async_context(candidate(world, "two", duration_s=30.0))
            lease = await world.cluster.get(LEASES, world.namespace, LEASE)
            assert lease["spec"]["holderIdentity"] == "one"
            assert not two.leadership.leads
        assert one.heard == [True, False]
        await eventually(lambda: two.leadership.leads, limit_s=15.0)
        lease = await world.cluster.get(LEASES, world.namespace, LEASE)
        assert (lease["spec"]["holderIdentity"], lease["spec"]["leaseTransitions"]) == ("two", 2)


async def test_a_lease_that_is_not_renewed_is_taken(world: World) -> None:
    async with candidate(world, "one") as one:
        await eventually(lambda: one.leadership.leads)
        one.leadership.task.cancel()  # it hangs: it neither renews nor gives up
        async with candidate(world, "two") as two:
            await eventually(lambda: two.leadership.leads)
        one.leadership.leads = False


async def test_a_lease_taken_by_force_ends_the_leadership(world: World) -> None:
    async with candidate(world, "one") as one:
        await eventually(lambda: one.leadership.leads)
        await world.cluster.merge(
            LEASES, world.namespace, LEASE, {"spec": {"holderIdentity": "other", "leaseDurationSeconds": 60}}, manager="test"
        )
        await eventually(lambda: one.heard == [True, False])


async def test_who_does_not_lead_writes_nothing_and_who_begins_to_looks_at_everything(world: World) -> None:
    cluster: Cluster = world.cluster
    async with View(cluster, probes=False) as view, Controller(cluster, view, leads=False) as controller:
        await world.kubectl_apply("hello")
        await eventually(lambda: view.resource(world.id("hello")))
        assert controller.idle
        assert await world.get(DEPLOYMENTS, "hello-00001") is None
        controller.lead(True)
        await eventually(lambda: world.get(DEPLOYMENTS, "hello-00001"))


class Deaf:
    """A cluster whose answer to the first write is lost: it is done, and the writer never hears so."""

    def __init__(self, cluster: Cluster) -> None:
        self.cluster = cluster
        self.lost = False

    def __getattr__(self, name: str) -> Any:
        return getattr(self.cluster, name)

    async def replace(self, kind: Kind, document: Any, *, manager: str) -> Any:
        written = await self.cluster.replace(kind, document, manager=manager)
        if not self.lost:
            self.lost = True
            raise ApiError(0, "", "the connection ended")
        return written


async def test_who_never_heard_that_it_took_the_lease_knows_that_another_led_before(world: World) -> None:
    async with candidate(world, "one") as one:
        await eventually(lambda: one.leadership.leads)
    cluster = Deaf(world.cluster)
    told: list[tuple[bool, object]] = []

    def changed(leads: bool) -> None:
        told.append((two.was_ours, two.inherited))

    two = Leadership(cast(Cluster, cluster), world.namespace, "two", changed, renew_every_s=0.05, notes=lambda: {"edges": ""})
    async with two:
        await eventually(lambda: two.leads)
        assert cluster.lost
        assert told == [(False, {})], "edges may own slots that one gave them: which, nobody has heard"
        two.leads = False


async def test_who_ceased_and_leads_again_knows_that_nobody_did_meanwhile(world: World) -> None:
    async with candidate(world, "one") as one:
        await eventually(lambda: one.leadership.leads)
        assert not one.leadership.was_ours
        one.leadership.leads = False  # as if it had been cut off for longer than it may renew
        await eventually(lambda: one.leadership.leads)
        assert one.leadership.was_ours
