"""Wires the roles that run apart on a cluster: many edges, the control API, and controllers of which one leads.

| role | has | needs |
|---|---|---|
| edge | the way of calls; its own watch of functions and pods | nobody on the way of a warm call |
| control | the API and the builder | the leader, for figures of calls |
| controller | who holds the Lease: controller, autoscaler, the ledger of slots | |

All find the leader by the Lease and link up with its hub (`gateway.edge.hub`). Controllers that do not lead, and the control
API, follow what edges tell, so that the next leader knows the load and the API can tell of it.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import logging
import os
import signal
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from importlib import metadata
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from autoscaler.history import History
from autoscaler.measuring import Measuring, NoPrometheus, Prometheus
from autoscaler.scaler import Scaler
from autoscaler.starts import StartLimits
from builder.service import Builder
from cli import asynchronous
from cli import triggers as triggering
from cli.asynchronous import Asynchronous
from cli.cluster import OnCluster, held_place
from cli.http_server import uvicorn_server
from cli.metrics import metrics_port
from cli.outgoing import outgoing
from cli.process import CannotServe, Life, auth_of, bundle_store, cancel_task, cannot_listen, url_of
from cli.settings import ServeSettings
from cli.tracing import Tracing, tracing
from cli.triggers import Triggers
from gateway.control.app import control_app
from gateway.control.auth import NoLogin
from gateway.control.info import About
from gateway.control.origin import Hosts
from gateway.control.targets import Targets
from gateway.edge import handshake
from gateway.edge.hub import Hub
from gateway.edge.member import Look
from gateway.edge.places import new_name
from gateway.edge.seats import Follower, LinkedEdge
from gateway.edge.settings import EdgeSettings
from gateway.edge.tenure import Sighting
from gateway.metrics.builds import Builds, Release
from gateway.metrics.calls import Calls
from gateway.metrics.functions import Functions, Starts
from gateway.metrics.page import MetricsPage, Source
from gateway.metrics.processes import LoopLag, Processes
from gateway.metrics.requests import Requests
from gateway.metrics.rollouts import Rollouts
from gateway.metrics.spans import Spans
from gateway.monitor.monitor import Monitor
from gateway.monitor.rollouts import GradualRollouts
from gateway.timers.timers import Expect
from orchestration.events import Event
from orchestration.kubernetes.lease import EDGES, HUB, HolderLook, Leadership
from orchestration.kubernetes.view import CALLED
from orchestration.load import LoadSample
from orchestration.local.data_folder import DataFolder
from orchestration.local.failures import StorageError
from orchestration.local.run_folder import run_folder
from orchestration.orchestrator import Orchestrator
from orchestration.replica import Endpoint
from telemetry import service_manager

log = logging.getLogger("pinnace.platform")

CUT_OFF: Final = "this edge is cut off from the controller that leads: it has no slots of limits"

Drain = Callable[[], Awaitable[object]]


async def serve(settings: ServeSettings) -> int:
    """Run one role until SIGTERM or SIGINT; return the exit code. Raises CannotServe."""
    life = Life()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, life.stop)
    role = {"edge": _edge, "control": _control, "controller": _controller}[settings.role]
    life.waiting = asyncio.current_task()
    try:
        async with role(settings, _secret(settings), life) as (where, drain):
            life.waiting = None
            print(f"ready {where}", flush=True)
            service_manager.notify("READY=1")
            await life.over.wait()
            service_manager.notify("STOPPING=1")
            log.info("stopping")
            await drain()
    except (StorageError, NoLogin) as error:
        raise CannotServe(str(error)) from None
    except asyncio.CancelledError:
        if life.waiting is None:
            raise
        log.info("stopped before it served")
    return life.code


@contextlib.asynccontextmanager
async def _edge(settings: ServeSettings, secret: bytes, life: Life) -> AsyncIterator[tuple[str, Drain]]:
    async with contextlib.AsyncExitStack() as stack:
        run_dir = stack.enter_context(run_folder(None, f"edge-{os.getpid()}"))
        traced = await stack.enter_async_context(tracing(settings, run_dir))
        cluster = await stack.enter_async_context(OnCluster.open(settings, life.part_ended, kinds=CALLED))
        host, _, port = settings.control.rpartition(":")
        calls = await stack.enter_async_context(
            _queued(settings, run_dir, cluster.orchestrator, lambda sample: None)
        )  # the controller tells of it
        name = new_name(stack.enter_context(held_place()))
        linked = LinkedEdge(
            EdgeSettings(
                host=settings.host,
                port=settings.port,
                trusted_proxies=settings.trusted_proxies,
                max_body_bytes=settings.body_limit_bytes,
                spans=traced.path,
                trace_ratio=settings.trace_ratio,
                inner_folder=str(run_dir) if calls is not None else "",
                name=name,
            ),
            control=Endpoint(host=host.strip("[]"), port=int(port)),
            acceptor=calls.acceptor if calls is not None else None,
            inside=calls.inside if calls is not None else {},
            secret=secret,
            look=_look(cluster.look()),
        )
        await _pumped(stack, cluster.orchestrator, life, linked.apply, *([calls.apply] if calls is not None else []))
        lag = await stack.enter_async_context(LoopLag())
        try:
            await stack.enter_async_context(linked)
        except OSError as error:
            raise cannot_listen(url_of(settings.host, settings.port), error) from None
        linked.member.task.add_done_callback(life.part_ended)
        await _metered(
            stack,
            settings,
            traced,
            lag,
            Calls(linked.edge),
            *([calls.counted] if calls is not None else []),
            trouble=lambda: "; ".join(filter(None, (CUT_OFF, linked.member.trouble))) if linked.member.cut_off else "",
        )
        if calls is not None:
            await stack.enter_async_context(calls.carried_out((linked.edge.inner,), life.part_ended, looks=False))

        async def drain() -> None:
            if calls is not None:
                calls.pause()
            await linked.edge.drain(settings.drain_s)

        yield url_of(settings.host, linked.edge.port), drain


@contextlib.asynccontextmanager
async def _control(settings: ServeSettings, secret: bytes, life: Life) -> AsyncIterator[tuple[str, Drain]]:
    async with contextlib.AsyncExitStack() as stack:
        bundles = bundle_store(settings)
        stack.enter_context(DataFolder(settings.folder))
        run_dir = stack.enter_context(run_folder(None, f"control-{os.getpid()}"))
        traced = await stack.enter_async_context(tracing(settings, run_dir))
        cluster = await stack.enter_async_context(OnCluster.open(settings, life.part_ended))
        builder = await stack.enter_async_context(
            Builder(
                bundles,
                offline=settings.offline,
                time_limit_s=settings.build_time_limit_s,
                registries=settings.registries,
                base_image=settings.base_image,
                images_only=True,
                on_span=traced.sink.add if traced.sink is not None else None,
            )
        )
        auth = await asyncio.to_thread(auth_of, settings)
        scaler = await stack.enter_async_context(Scaler(cluster.orchestrator, leads=False))  # knows why, and writes nothing
        follower = Follower(
            new_name(),
            secret=secret,
            look=_look(cluster.look()),
            on_load=scaler.sample,
            on_released=cluster.orchestrator.released,
            on_gone=scaler.forget_edge,
        )
        gathered = follower.gathered
        calls = await stack.enter_async_context(_queued(settings, run_dir, cluster.orchestrator, lambda sample: None))
        triggers = await stack.enter_async_context(_triggers(settings, calls, lambda function, at: None))
        monitor = await stack.enter_async_context(Monitor(cluster.orchestrator, gathered.tallies, gathered.loads))
        await _pumped(
            stack,
            cluster.orchestrator,
            life,
            gathered.apply,
            scaler.apply,
            monitor.apply,
            *([calls.apply] if calls is not None else []),
            *([triggers.apply] if triggers is not None else []),
        )
        await stack.enter_async_context(follower)
        follower.member.task.add_done_callback(life.part_ended)
        lag = await stack.enter_async_context(LoopLag())
        about, requests = _about(settings), Requests()
        hosts = Hosts(settings.allow_hosts, settings.host)
        targets = Targets(cluster.orchestrator, lambda: [figures.function for figures in scaler.figures()], auth=None)
        counted = [triggers.counted] if triggers is not None else []
        page = await _metered(stack, settings, traced, lag, requests, Builds(builder.durations), *counted, targets=targets)
        api = control_app(
            orchestrator=cluster.orchestrator,
            builder=builder,
            auth=auth,
            hosts=hosts,
            invocations=lambda function: gathered.counts().get(function, 0),
            about=about,
            data_dir=settings.folder,
            monitor=monitor,
            build_body_limit_bytes=settings.build_body_limit_bytes,
            explain=scaler.explain,
            recorded=scaler.recording.history,
            metrics=page,
            requests=requests,
            spans=traced.sink,
            functions=lambda: [figures.function for figures in scaler.figures()],
            router=triggers.router if triggers is not None else None,
            mark_of=triggers.timers.mark if triggers is not None else lambda function, timer: None,
            calls=calls.store if calls is not None else None,
        )
        family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
        try:
            listener = stack.enter_context(socket.create_server((settings.host, settings.port), family=family))
        except OSError as error:
            raise cannot_listen(url_of(settings.host, settings.port), error) from None
        await stack.enter_async_context(uvicorn_server(api, sockets=[listener]))

        async def dismiss() -> None:
            monitor.dismiss()  # those who watch would go on for as long as they are let

        yield url_of(settings.host, listener.getsockname()[1]), dismiss


@contextlib.asynccontextmanager
async def _controller(settings: ServeSettings, secret: bytes, life: Life) -> AsyncIterator[tuple[str, Drain]]:
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
        calls = await stack.enter_async_context(_queued(settings, run_dir, cluster.orchestrator, scaler.sample))
        triggers = await stack.enter_async_context(_triggers(settings, calls, scaler.expect))
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
            look=_look(cluster.look(), but=leadership.identity),
            on_load=scaler.sample,
            on_released=released,
            on_gone=scaler.forget_edge,
        )
        await _pumped(
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

        await _metered(stack, settings, traced, lag, by_the_leader)

        async def nothing() -> None:
            return

        yield f"for edges at {address}", nothing


@contextlib.asynccontextmanager
async def _queued(
    settings: ServeSettings, run_dir: Path, orchestrator: Orchestrator, on_load: Callable[[LoadSample], None]
) -> AsyncIterator[Asynchronous | None]:
    """Have the asynchronous calls that all processes share, on the Redis server that is named; None where none is."""
    if not settings.queue:
        yield None
        return
    try:
        settings.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    except OSError as error:
        raise CannotServe(f"the data folder {settings.folder} cannot be used: {error.strerror}") from None
    async with (
        outgoing(settings, orchestrator.secret_value) as sending,
        asynchronous.opened(settings, run_dir, sending, on_load) as calls,
    ):
        yield calls


@contextlib.asynccontextmanager
async def _triggers(settings: ServeSettings, calls: Asynchronous | None, expect: Expect) -> AsyncIterator[Triggers | None]:
    if calls is None:
        yield None
        return
    async with triggering.opened(settings, calls, expect, leads=False) as triggers:
        yield triggers


async def _pumped(
    stack: contextlib.AsyncExitStack, orchestrator: Orchestrator, life: Life, *listeners: Callable[[Event], None]
) -> None:
    """Tell the listeners of all that there is and of every change."""

    async def pump() -> None:
        async for event in orchestrator.watch():
            for listener in listeners:
                listener(event)

    pumping = asyncio.create_task(pump())
    pumping.add_done_callback(life.part_ended)
    stack.push_async_callback(cancel_task, pumping)


async def _metered(
    stack: contextlib.AsyncExitStack,
    settings: ServeSettings,
    traced: Tracing,
    lag: LoopLag,
    *sources: Source,
    targets: Targets | None = None,
    trouble: Callable[[], str] = lambda: "",
) -> MetricsPage:
    """Serve this process's part of the metrics; the sum over all processes is what one process of all roles would tell."""

    def pids() -> dict[str, int]:
        return {settings.role: os.getpid()} | ({"exporter": traced.pid} if traced.pid is not None else {})

    about = _about(settings)
    release = Release(about.release, about.orchestration)
    page = MetricsPage((release, *sources, Spans(traced.report), Processes(pids, lag)))
    hosts = Hosts(settings.allow_hosts, settings.host)
    await stack.enter_async_context(metrics_port(page, hosts, settings, uvicorn_server, targets, trouble))
    return page


def _about(settings: ServeSettings) -> About:
    return About(metadata.version("pinnace"), orchestration=settings.orchestration)


def _secret(settings: ServeSettings) -> bytes:
    try:
        return handshake.check_secret(Path(settings.link_secret_file).read_bytes())
    except OSError as error:
        raise CannotServe(f"{settings.link_secret_file}: {error.strerror}") from None
    except handshake.UnfitSecret as error:
        raise CannotServe(f"{settings.link_secret_file}: {error}") from None


def _look(holders: HolderLook, but: str = "") -> Look:
    """Return who leads in the words of the link; `but` does not link up with itself."""

    async def look() -> Sighting | None:
        holder = await holders.look()
        if holder is None:
            return None
        is_other = holder.leads and holder.identity != but
        return Sighting(holder.began, is_other, holder.identity, holder.address)

    return look


def _own_address(api_server: str) -> str:
    """Return the address of this machine, or pod, that others in the cluster reach: the one from which it speaks to the API."""
    found = urlsplit(api_server)
    for family, kind, _, _, address in socket.getaddrinfo(found.hostname, found.port or 443, type=socket.SOCK_DGRAM):
        with contextlib.suppress(OSError), socket.socket(family, kind) as probe:
            probe.connect(address)  # sends nothing
            own = str(probe.getsockname()[0])
            return f"[{own}]" if ":" in own else own
    raise CannotServe(f"no address of this machine reaches {api_server}")
