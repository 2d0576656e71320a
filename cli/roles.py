"""Wires processes together: the one module that knows every part.

`serve` is the embedded platform. Its parts are entered in this order, each owning what it starts, and left in the
opposite one:

    data folder (bundles, orchestrator) → builder → scaler → control API → the pump that connects them → edge

Events go from the orchestrator to edge and scaler; load from the edge to the scaler; word of drained replicas from the
edge to the orchestrator. With several workers the edge is a fleet of processes, which looks the same from here; with
`--orchestration kubernetes` the orchestrator is a cluster's (`cli.cluster`).
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import resource
import signal
import time
from collections.abc import AsyncIterator, Callable, Collection
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import uvloop
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from autoscaler.history import History
from autoscaler.measuring import Measuring, NoPrometheus, Prometheus
from autoscaler.scaler import Scaler
from autoscaler.starts import StartLimits
from builder.store import BundleStore
from cli import asynchronous
from cli import triggers as triggering
from cli.asynchronous import Asynchronous
from cli.building import builder_of, bundle_store
from cli.http_server import control_server, uvicorn_server
from cli.metrics import Metering, metrics_port, no_consumption
from cli.outgoing import outgoing
from cli.process import (
    CannotServe,
    Life,
    auth_of,
    cannot_listen,
    collect_seldom,
    pumped,
    save_login,
    tell_ready,
    url_of,
)
from cli.settings import ServeSettings
from cli.tracing import tracing
from gateway.control.app import control_app
from gateway.control.auth import NoLogin
from gateway.control.info import About
from gateway.control.origin import Hosts
from gateway.edge.edge import Edge
from gateway.edge.fleet import Fleet
from gateway.edge.settings import EdgeSettings
from gateway.metrics.consumption import Measure
from gateway.metrics.rollouts import Rollouts
from gateway.monitor.ends import Ends, Say, untold
from gateway.monitor.monitor import Monitor
from gateway.monitor.rollouts import GradualRollouts
from gateway.monitor.series_file import SeriesFile
from orchestration.local.data_folder import DataFolder
from orchestration.local.failures import StorageError, Unreachable
from orchestration.local.limits import machine_memory_bytes
from orchestration.local.orchestrator import LocalOrchestrator
from orchestration.local.run_folder import run_folder
from orchestration.orchestrator import Orchestrator
from orchestration.replica import Endpoint
from orchestration.starts import StartBook
from telemetry import logs, service_manager

if TYPE_CHECKING:
    from cli.cluster import OnCluster

log = logging.getLogger("pinnace.platform")


def serve(settings: ServeSettings) -> int:
    """Run the embedded platform until SIGTERM or SIGINT; return the exit code. Raises CannotServe."""
    logs.configure(settings.log_format)
    collect_seldom()
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        if settings.role != "all":
            from cli.apart.serve import serve as serve_apart

            return runner.run(serve_apart(settings))
        return runner.run(_platform(settings))


async def _platform(settings: ServeSettings) -> int:
    life = Life()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, life.stop)
    try:
        async with _running(settings, life) as (edge, monitor, calls):
            url = url_of(settings.host, edge.port)
            tell_ready(url)
            await life.over.wait()
            service_manager.notify("STOPPING=1")
            log.info("stopping")
            calls.pause()
            monitor.dismiss()  # those who watch would go on for as long as they are let
            await edge.drain(settings.drain_s)
    except (StorageError, Unreachable, NoLogin) as error:
        raise CannotServe(str(error)) from None
    except asyncio.CancelledError:
        if life.waiting is None:
            raise
        log.info("stopped before it served")
    return life.code


@contextlib.asynccontextmanager
async def _running(settings: ServeSettings, life: Life) -> AsyncIterator[tuple[Edge | Fleet, Monitor, Asynchronous]]:
    async with contextlib.AsyncExitStack() as stack:
        bundles = bundle_store(settings)
        place = await stack.enter_async_context(_place(settings, bundles, life))
        orchestrator = place.orchestrator
        traced = await stack.enter_async_context(tracing(settings, place.run_dir))
        builder = await stack.enter_async_context(
            builder_of(settings, bundles, traced.sink, images_only=place.cluster is not None, in_use=place.bundles_in_use)
        )
        auth = await asyncio.to_thread(auth_of, settings)
        limits = StartLimits(settings.starts_per_function, settings.starts_total)
        history = await stack.enter_async_context(History(settings.folder / "idle-times"))
        leads = place.cluster is None  # on a cluster who holds the lease
        scaler = await stack.enter_async_context(Scaler(orchestrator, limits=limits, history=history, leads=leads))
        queries = Prometheus(settings.prometheus_url) if settings.prometheus_url else NoPrometheus()
        await stack.enter_async_context(Measuring(scaler, orchestrator, queries))
        sending = await stack.enter_async_context(outgoing(settings, orchestrator.secret_value))
        calls = await stack.enter_async_context(asynchronous.opened(settings, place.run_dir, sending, scaler.sample))
        triggers = await stack.enter_async_context(triggering.opened(settings, calls, scaler.expect, leads=leads))
        edge = _edge(settings, place, scaler, traced.path, calls)
        rollouts = await stack.enter_async_context(GradualRollouts(orchestrator, edge.revisions, leads=leads))
        if place.cluster is not None:
            place.cluster.trace(traced.sink)
            leading = place.cluster.leading(scaler.lead, triggers.timers.lead, rollouts.lead)
            await stack.enter_async_context(leading)
        about = About(metadata.version("pinnace"), orchestration=settings.orchestration)
        hosts = Hosts(settings.allow_hosts, settings.host)
        metering = Metering(
            about=about,
            edge=edge,
            orchestrator=orchestrator,
            scaler=scaler,
            builder=builder,
            consumption=place.consumption,
            keeper_pid=place.keeper_pid,
            starts=place.starts,
            tracing=traced,
            more=(calls.counted, triggers.counted, Rollouts(rollouts, edge.revisions)),
        )
        await stack.enter_async_context(metering.lag)
        monitor = await stack.enter_async_context(Monitor(orchestrator, edge.tallies, edge.loads))
        await stack.enter_async_context(SeriesFile(settings.folder / "series.db", monitor, time.time))
        ends = await stack.enter_async_context(Ends(place.say, edge.tallies))
        api: ASGIApp = control_app(
            orchestrator=orchestrator,
            builder=builder,
            auth=auth,
            hosts=hosts,
            invocations=lambda function: tally.completed if (tally := edge.tallies().get(function)) else 0,
            about=about,
            data_dir=settings.folder,
            monitor=monitor,
            build_body_limit_bytes=settings.build_body_limit_bytes,
            explain=scaler.explain,
            recorded=scaler.recording.history,
            metrics=metering.page,
            requests=metering.requests,
            spans=traced.sink,
            functions=metering.functions,
            router=triggers.router,
            mark_of=triggers.timers.mark,
            calls=calls.store,
        )
        if isinstance(edge, Fleet):
            api = _synced(api, edge)
        await stack.enter_async_context(control_server(api, place.run_dir / "control.sock"))
        pumped(  # the edge is told what exists before it listens
            stack,
            orchestrator,
            life,
            monitor.apply,
            ends.apply,
            calls.apply,
            edge.apply,
            scaler.apply,
            triggers.apply,
            rollouts.apply,
            metering.starts.apply,
        )
        try:
            await stack.enter_async_context(edge)
        except OSError as error:
            where = url_of(settings.host, settings.port)
            raise cannot_listen(where, error) from None
        if place.cluster is None:
            sending.guard.own_port = edge.port
        await stack.enter_async_context(metrics_port(metering.page, hosts, settings, uvicorn_server, metering.targets))
        if settings.auth and settings.save_login and auth.login is not None:
            await asyncio.to_thread(save_login, url_of(settings.host, edge.port), auth.login.user, auth.login.password)
        await stack.enter_async_context(
            calls.carried_out(
                edge.names if isinstance(edge, Fleet) else (edge.inner,),
                life.part_ended,
                traced.asynchronous(settings.trace_ratio),
            )
        )
        yield edge, monitor, calls


class _Place(NamedTuple):
    """Where functions run, with a folder for sockets; `cluster` is None where that is this machine. `consumption` measures
    what replicas use, `keeper_pid` is the process that holds them, `starts` are counted, `say` writes into a function's log."""

    orchestrator: Orchestrator
    run_dir: Path
    bundles_in_use: Callable[[], Collection[str]]
    cluster: OnCluster | None
    consumption: Measure = no_consumption
    keeper_pid: Callable[[], int | None] = lambda: None
    starts: StartBook = StartBook()
    say: Say = untold


@contextlib.asynccontextmanager
async def _place(settings: ServeSettings, bundles: BundleStore, life: Life) -> AsyncIterator[_Place]:
    if settings.orchestration == "local":
        local = LocalOrchestrator.open(
            settings.folder,
            bundles,
            log_quota_bytes=settings.log_quota_bytes,
            log_keep_s=settings.log_keep_s,
            zygote_budget_bytes=machine_memory_bytes() * settings.zygote_memory_percent // 100,
        )
        async with local as orchestrator:
            yield _Place(
                orchestrator,
                orchestrator.run_dir,
                orchestrator.bundles_in_use,
                None,
                orchestrator.consumption,
                lambda: orchestrator.keeper_pid,
                orchestrator.starts,
                orchestrator.say,
            )
        return
    from cli.cluster import OnCluster

    with DataFolder(settings.folder), run_folder(None, f"cluster-{os.getpid()}") as run_dir:
        life.waiting = asyncio.current_task()
        async with OnCluster.open(settings, life.part_ended) as cluster:
            life.waiting = None
            yield _Place(cluster.orchestrator, run_dir, frozenset, cluster)


def _edge(settings: ServeSettings, place: _Place, scaler: Scaler, spans: str, calls: Asynchronous) -> Edge | Fleet:
    """Return the edge in this process, or as many edge processes as are wanted."""
    edge_settings = EdgeSettings(
        host=settings.host,
        port=settings.port,
        trusted_proxies=settings.trusted_proxies,
        max_body_bytes=settings.body_limit_bytes,
        inner_folder=str(place.run_dir),
        spans=spans,
        trace_ratio=settings.trace_ratio,
    )
    control, orchestrator = Endpoint(unix=str(place.run_dir / "control.sock")), place.orchestrator
    if settings.workers == 1:
        return Edge(
            edge_settings,
            control=control,
            on_load=scaler.sample,
            on_released=orchestrator.released,
            acceptor=calls.acceptor,
            inside=calls.inside,
        )
    return Fleet(
        edge_settings,
        settings.workers,
        control=control,
        on_load=scaler.sample,
        on_released=orchestrator.released,
        on_gone=scaler.forget_edge,
        log_format=settings.log_format,
        acceptor=calls.acceptor,
    )


def _synced(app: ASGIApp, fleet: Fleet) -> ASGIApp:
    """Let the answer to a change leave when every edge knows of the change: the next call may go to any of them."""

    async def synced_app(scope: Scope, receive: Receive, send: Send) -> None:
        async def send_later(message: Message) -> None:
            if message["type"] == "http.response.start":
                await asyncio.sleep(0)  # the pump, which was woken by the change, runs before this goes on
                await fleet.synced()
            await send(message)

        changes = scope["type"] == "http" and scope["method"] not in ("GET", "HEAD", "OPTIONS") and scope["path"] != "/events"
        await app(scope, receive, send_later if changes else send)

    return synced_app
