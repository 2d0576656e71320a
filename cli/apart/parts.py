"""What several roles have: asynchronous calls, triggers, what the watch tells, metrics, and a look at who leads."""

from __future__ import annotations

import contextlib
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from importlib import metadata
from pathlib import Path

from cli import asynchronous
from cli import triggers as triggering
from cli.asynchronous import Asynchronous
from cli.http_server import uvicorn_server
from cli.metrics import metrics_port
from cli.outgoing import outgoing
from cli.process import CannotServe, Life
from cli.settings import ServeSettings
from cli.tracing import Tracing
from cli.triggers import Triggers
from gateway.control.info import About
from gateway.control.origin import Hosts
from gateway.control.targets import Targets
from gateway.edge.member import Look
from gateway.edge.tenure import Sighting
from gateway.metrics.builds import Release
from gateway.metrics.page import MetricsPage, Source
from gateway.metrics.processes import LoopLag, Processes
from gateway.metrics.spans import Spans
from gateway.timers.timers import Expect
from orchestration.kubernetes.lease import HolderLook
from orchestration.load import LoadSample
from orchestration.orchestrator import Orchestrator

Drain = Callable[[], Awaitable[object]]
"""Lets what is under way come to its end."""
Role = Callable[[ServeSettings, bytes, Life], contextlib.AbstractAsyncContextManager[tuple[str, Drain]]]
"""Runs a role while it is entered, with its settings, the secret of links and its life. Entered it says where it is."""


@contextlib.asynccontextmanager
async def queued(
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
async def triggers_of(settings: ServeSettings, calls: Asynchronous | None, expect: Expect) -> AsyncIterator[Triggers | None]:
    """Have timers and events that submit those calls; None where none are kept."""
    if calls is None:
        yield None
        return
    async with triggering.opened(settings, calls, expect, leads=False) as triggers:
        yield triggers


async def metered(
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

    about = about_of(settings)
    release = Release(about.release, about.orchestration)
    page = MetricsPage((release, *sources, Spans(traced.report), Processes(pids, lag)))
    hosts = Hosts(settings.allow_hosts, settings.host)
    await stack.enter_async_context(metrics_port(page, hosts, settings, uvicorn_server, targets, trouble))
    return page


def about_of(settings: ServeSettings) -> About:
    """Return what is told of this installation."""
    return About(metadata.version("pinnace"), orchestration=settings.orchestration)


def look_of(holders: HolderLook, but: str = "") -> Look:
    """Return who leads in the words of the link; `but` does not link up with itself."""

    async def look() -> Sighting | None:
        holder = await holders.look()
        if holder is None:
            return None
        is_other = holder.leads and holder.identity != but
        return Sighting(holder.began, is_other, holder.identity, holder.address)

    return look
