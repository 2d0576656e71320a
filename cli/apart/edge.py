"""The role edge: the way of calls, and its own watch of functions and pods."""

from __future__ import annotations

import contextlib
import os
from collections.abc import AsyncIterator
from typing import Final

from cli.apart.parts import Drain, look_of, metered, queued
from cli.cluster import OnCluster, held_place
from cli.process import Life, cannot_listen, pumped, url_of
from cli.settings import ServeSettings
from cli.tracing import tracing
from gateway.edge.places import new_name
from gateway.edge.seats import LinkedEdge
from gateway.edge.settings import EdgeSettings
from gateway.metrics.calls import Calls
from gateway.metrics.processes import LoopLag
from orchestration.kubernetes.view import CALLED
from orchestration.local.run_folder import run_folder
from orchestration.replica import Endpoint

CUT_OFF: Final = "this edge is cut off from the controller that leads: it has no slots of limits"


@contextlib.asynccontextmanager
async def edge(settings: ServeSettings, secret: bytes, life: Life) -> AsyncIterator[tuple[str, Drain]]:
    """Serve calls, linked to whoever leads. Raises CannotServe."""
    async with contextlib.AsyncExitStack() as stack:
        run_dir = stack.enter_context(run_folder(None, f"edge-{os.getpid()}"))
        traced = await stack.enter_async_context(tracing(settings, run_dir))
        cluster = await stack.enter_async_context(OnCluster.open(settings, life.part_ended, kinds=CALLED))
        host, _, port = settings.control.rpartition(":")
        # what waits in queues the controller tells the scaler of
        calls = await stack.enter_async_context(queued(settings, run_dir, cluster.orchestrator, lambda sample: None))
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
            look=look_of(cluster.look()),
        )
        pumped(stack, cluster.orchestrator, life, linked.apply, *([calls.apply] if calls is not None else []))
        lag = await stack.enter_async_context(LoopLag())
        try:
            await stack.enter_async_context(linked)
        except OSError as error:
            raise cannot_listen(url_of(settings.host, settings.port), error) from None
        linked.member.task.add_done_callback(life.part_ended)
        await metered(
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
