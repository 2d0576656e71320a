"""The role controller: who holds the Lease carries out what is deployed, scales, and keeps the ledger of slots."""

from __future__ import annotations

import contextlib
import itertools
import os
import socket
from collections.abc import AsyncIterator, Iterator
from urllib.parse import urlsplit

from autoscaler.history import History
from autoscaler.measuring import Measuring, NoPrometheus, Prometheus
from autoscaler.scaler import Scaler
from autoscaler.starts import StartLimits
from cli.apart.parts import Drain, look_of, metered, queued, triggers_of
from cli.cluster import OnCluster
from cli.process import CannotServe, Life, pumped
from cli.settings import ServeSettings
from cli.tracing import tracing
from gateway.edge.hub import Hub
from gateway.edge.places import new_name
from gateway.edge.seats import Follower
from gateway.metrics.functions import Functions, Starts
from gateway.metrics.page import Source
from gateway.metrics.processes import LoopLag
from gateway.metrics.rollouts import Rollouts
from gateway.monitor.rollouts import GradualRollouts
from orchestration.kubernetes.lease import EDGES, HUB, Leadership
from orchestration.local.data_folder import DataFolder
from orchestration.local.run_folder import run_folder


@contextlib.asynccontextmanager
async def controller(settings: ServeSettings, secret: bytes, life: Life) -> AsyncIterator[tuple[str, Drain]]:
    """Take part in the election, and lead when elected. Raises CannotServe."""
    async with contextlib.AsyncExitStack() as stack:
        stack.enter_context(DataFolder(settings.folder))
        run_dir = stack.enter_context(run_folder(None, f"controller-{os.getpid()}"))
        traced = await stack.enter_async_context(tracing(settings, run_dir))
        cluster = await stack.enter_async_context(OnCluster.open(settings, life.part_ended))
        cluster.trace(traced.sink)
        history = await stack.enter_async_context(History(settings.folder / "idle-times"))
        limits = StartLimits(settings.starts_per_function, settings.starts_total)
        scaler = await stack.enter_async_context(Scaler(cluster.orchestrator, limits=limits, history=history, leads=False))
        queries = Prometheus(settings.prometheus_url) if settings.prometheus_url else NoPrometheus()
        await stack.enter_async_context(Measuring(scaler, cluster.orchestrator, queries))
        calls = await stack.enter_async_context(queued(settings, run_dir, cluster.orchestrator, scaler.sample))
        triggers = await stack.enter_async_context(triggers_of(settings, calls, scaler.expect))
        released = cluster.orchestrator.released
        leadership: Leadership

        async def publish() -> None:
            await leadership.publish()

        hub = Hub(
            secret,
            host="",
            port=settings.link_port,
            publish=publish,
            on_load=scaler.sample,
            on_released=released,
            on_gone=scaler.forget_edge,
            is_sure=lambda: leadership.is_sure,
            gone=cluster.gone,
        )
        try:
            await stack.enter_async_context(hub)
        except OSError as error:
            raise CannotServe(f"cannot listen for edges on port {settings.link_port}: {error.strerror or error}") from None
        address = f"{_own_address(cluster.url)}:{hub.port}"

        def changed(leads: bool) -> None:
            if not leads:
                hub.cease()
            elif leadership.was_ours:
                hub.lead_again()
            else:
                inherited = leadership.inherited
                known = () if inherited is None else inherited[EDGES].split() if EDGES in inherited else None
                hub.take_over(known)
            cluster.lead(leads)
            scaler.lead(leads)
            rollouts.lead(leads)
            if triggers is not None:
                triggers.timers.lead(leads)

        def notes() -> dict[str, str]:
            edges = hub.bequest()  # until it serves, what the leader before it wrote stays
            return {HUB: address} | ({} if edges is None else {EDGES: " ".join(sorted(edges))})

        leadership = cluster.leadership(changed, notes=notes, other=hub.step_down)
        starts = Starts()
        rollouts = await stack.enter_async_context(GradualRollouts(cluster.orchestrator, hub.gathered.revisions, leads=False))
        follower = Follower(
            new_name(),
            secret=secret,
            look=look_of(cluster.look(), but=leadership.identity),
            on_load=scaler.sample,
            on_released=released,
            on_gone=scaler.forget_edge,
        )
        pumped(
            stack,
            cluster.orchestrator,
            life,
            hub.apply,
            scaler.apply,
            *([calls.apply] if calls is not None else []),
            *([triggers.apply] if triggers is not None else []),
            rollouts.apply,
            starts.apply,
        )
        if calls is not None:
            await stack.enter_async_context(calls.backlog)
            calls.backlog.task.add_done_callback(life.part_ended)
        await stack.enter_async_context(follower)
        await stack.enter_async_context(leadership)
        for task in (follower.member.task, leadership.task):
            task.add_done_callback(life.part_ended)
        lag = await stack.enter_async_context(LoopLag())
        functions = Functions(cluster.orchestrator, scaler.figures, starts)
        sources: list[Source] = [functions, Rollouts(rollouts, hub.gathered.revisions)]
        sources += [calls.counted] if calls is not None else []
        sources += [triggers.counted] if triggers is not None else []

        def by_the_leader(openmetrics: bool) -> Iterator[str]:
            return itertools.chain.from_iterable(source(openmetrics) for source in sources if leadership.leads)

        await metered(stack, settings, traced, lag, by_the_leader)

        async def nothing() -> None:
            return

        yield f"for edges at {address}", nothing


def _own_address(api_server: str) -> str:
    """Return the address of this machine, or pod, that others in the cluster reach: the one from which it speaks to the API."""
    found = urlsplit(api_server)
    for family, kind, _, _, address in socket.getaddrinfo(found.hostname, found.port or 443, type=socket.SOCK_DGRAM):
        with contextlib.suppress(OSError), socket.socket(family, kind) as probe:
            probe.connect(address)  # sends nothing
            own = str(probe.getsockname()[0])
            return f"[{own}]" if ":" in own else own
    raise CannotServe(f"no address of this machine reaches {api_server}")
