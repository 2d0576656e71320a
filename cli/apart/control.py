"""The role control: the API and the builder."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator

from autoscaler.scaler import Scaler
from cli.apart.parts import Drain, about_of, look_of, metered, queued, triggers_of
from cli.building import builder_of, bundle_store
from cli.cluster import OnCluster
from cli.http_server import listener_of, uvicorn_server
from cli.process import Life, auth_of, pumped, url_of
from cli.settings import ServeSettings
from cli.tracing import tracing
from gateway.control.app import control_app
from gateway.control.origin import Hosts
from gateway.control.targets import Targets
from gateway.edge.places import new_name
from gateway.edge.seats import Follower
from gateway.metrics.builds import Builds
from gateway.metrics.processes import LoopLag
from gateway.metrics.requests import Requests
from gateway.monitor.monitor import Monitor
from orchestration.local.data_folder import DataFolder
from orchestration.local.run_folder import run_folder


@contextlib.asynccontextmanager
async def control(settings: ServeSettings, secret: bytes, life: Life) -> AsyncIterator[tuple[str, Drain]]:
    """Serve the API, and build. Raises CannotServe."""
    async with contextlib.AsyncExitStack() as stack:
        bundles = bundle_store(settings)
        stack.enter_context(DataFolder(settings.folder))
        run_dir = stack.enter_context(run_folder(None, f"control-{os.getpid()}"))
        traced = await stack.enter_async_context(tracing(settings, run_dir))
        cluster = await stack.enter_async_context(OnCluster.open(settings, life.part_ended))
        builder = await stack.enter_async_context(builder_of(settings, bundles, traced.sink, images_only=True))
        auth = await asyncio.to_thread(auth_of, settings)
        scaler = await stack.enter_async_context(Scaler(cluster.orchestrator, leads=False))  # knows why, and writes nothing
        follower = Follower(
            new_name(),
            secret=secret,
            look=look_of(cluster.look()),
            on_load=scaler.sample,
            on_released=cluster.orchestrator.released,
            on_gone=scaler.forget_edge,
        )
        gathered = follower.gathered
        calls = await stack.enter_async_context(queued(settings, run_dir, cluster.orchestrator, lambda sample: None))
        triggers = await stack.enter_async_context(triggers_of(settings, calls, lambda function, at: None))
        monitor = await stack.enter_async_context(Monitor(cluster.orchestrator, gathered.tallies, gathered.loads))
        pumped(
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
        about, requests = about_of(settings), Requests()
        hosts = Hosts(settings.allow_hosts, settings.host)
        targets = Targets(cluster.orchestrator, lambda: [figures.function for figures in scaler.figures()], auth=None)
        counted = [triggers.counted] if triggers is not None else []
        page = await metered(stack, settings, traced, lag, requests, Builds(builder.durations), *counted, targets=targets)
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
        listener = stack.enter_context(listener_of(settings))
        await stack.enter_async_context(uvicorn_server(api, sockets=[listener]))

        async def dismiss() -> None:
            monitor.dismiss()  # those who watch would go on for as long as they are let

        yield url_of(settings.host, listener.getsockname()[1]), dismiss
